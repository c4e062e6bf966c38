//! A crash at every call that changes something on the disk, in turn: creation, pushes, tags, removals, a
//! reopening, a collection.
//!
//! After each crash what was not synced is lost, kept or torn, and RocksDB's index, which is not synced, is as it was,
//! gone, cut short or an older one. Recovery is crashed too, at each of its own calls. Then everything that was
//! acknowledged must be there, what was under way whole or absent, and repeating the rest of the script must come to the
//! same end as if nothing had happened.
//!
//! `IMPRINT_CRASH_ROUNDS` repeats all of it with other random losses; the seed is printed, `IMPRINT_SEED` replays it.

pub(crate) mod index;
mod script;

use std::{env, path::Path, sync::Arc};

use self::{
    index::IndexLoss,
    script::{SCRIPT, Script, State, expected},
};
use crate::{
    files::{
        Files,
        simulated::{Call, Loss, Simulated},
    },
    store::{Directory, OpenMode, Store, StoreOptions},
};

/// Where recovery makes more calls than these (it creates directories then), it is crashed at one of them only, at
/// another one each time.
const FEW_CALLS: usize = 16;

/// Calls and crashes at them.
#[derive(Debug, Default)]
struct Count {
    calls: usize,
    crashes: usize,
}

/// Tarsnap#746: a directory that was not synced; restic#389: nothing was.
#[test]
fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    let number = |name, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, seed): (u64, u64) = (number("IMPRINT_CRASH_ROUNDS", 1), number("IMPRINT_SEED", 1));
    for round in 0..rounds {
        let seed = seed.wrapping_add(round);
        println!("seed {seed} (replay with IMPRINT_SEED={seed})");
        crash_everywhere(seed);
    }
}

fn crash_everywhere(seed: u64) {
    let place = index::Place::new();
    let (disk, ended) = run_script(&place, None);
    assert_eq!((ended.done.len(), ended.doing), (SCRIPT.len(), None), "the script works without crashes");
    let mut first = Count { calls: disk.calls().len(), crashes: 0 };
    let mut second = Count::default();
    for call in 1..=first.calls {
        place.clear();
        let (disk, ended) = run_script(&place, Some(call));
        assert!(disk.has_crashed(), "call {call} of {} was not made", first.calls);
        first.crashes += 1;
        let crash = Crash { call, seed: seed ^ (call as u64) << 20, disk, ended, index: place.take() };
        crash.recover_in_every_way(&place, &mut second);
    }
    println!("script:   {} calls, {} crashes", first.calls, first.crashes);
    println!("recovery: {} calls, {} crashes", second.calls, second.crashes);
    assert_eq!((first.calls, second.calls), (first.crashes, second.crashes));
}

/// What a crash has left.
struct Crash {
    call: usize,
    seed: u64,
    disk: Simulated,
    ended: Script,
    index: index::Saved,
}

impl Crash {
    fn recover_in_every_way(&self, place: &index::Place, count: &mut Count) {
        // The hundreds of directories that creation makes are alike: one way for each, another each time.
        let is_one_of_many = matches!(self.disk.calls().last(), Some(Call::CreateDirectory(_)));
        let ways = if is_one_of_many { vec![self.call % 2] } else { vec![2, 1, 0] };
        let (mut calls, mut last_way) = (0, 0);
        for way in ways {
            (calls, last_way) = (self.recover(place, way, way, None), way);
        }
        let crash_at: Vec<usize> = match calls {
            ..=FEW_CALLS => (1..=calls).collect(),
            _ => vec![1 + self.call * 7919 % calls],
        };
        for (way, call) in crash_at.into_iter().enumerate() {
            count.calls += 1;
            // The same losses as in the last way, so that the same calls are made.
            let way = 3 * way + last_way;
            count.crashes += usize::from(self.recover(place, way, last_way, Some(call)) == call);
        }
    }

    /// Opens what is left, crashes again when asked to and opens once more; checks everything. How many calls the first
    /// opening made: that depends on what is left of the index too, because one that lost its latest writes deletes packs again.
    fn recover(&self, place: &index::Place, way: usize, index_way: usize, crash_at: Option<usize>) -> usize {
        let seed = self.seed.wrapping_add(way as u64);
        let loss = |way: usize| match way % 3 {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Random(seed),
        };
        let what = || {
            format!(
                "call {} {:?}, way {way}, recovery {crash_at:?}, {:?}",
                self.call,
                self.disk.calls().last(),
                self.ended
            )
        };
        let disk = self.disk.after_crash(&mut loss(way));
        // Another one in each round.
        let index_loss = IndexLoss::of(self.call + index_way + (self.seed & 0xff) as usize, self.seed);
        place.restore(&self.index, index_loss);
        disk.crash_at(crash_at.unwrap_or(usize::MAX));
        let opened = in_process(async || open(&disk, &place.path()).await.map(drop));
        let calls = disk.calls().len();
        if crash_at.is_none() {
            opened.unwrap_or_else(|error| panic!("{}: {error}", what()));
            in_process(async || self.check(&disk, &place.path(), &what()).await);
            return calls;
        }
        let disk = disk.after_crash(&mut loss(way + 1 + self.call));
        let saved = place.take();
        place.restore(&saved, IndexLoss::of(self.call + way, seed));
        in_process(async || self.check(&disk, &place.path(), &what()).await);
        calls
    }

    async fn check(&self, disk: &Simulated, path: &Path, what: &str) {
        let store = open(disk, path).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = State::of(&store).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let acknowledged = expected(&self.ended.done);
        let with_the_last: Vec<_> = self.ended.done.iter().copied().chain(self.ended.doing).collect();
        assert!(found == acknowledged || found == expected(&with_the_last), "{what}: {found:?}, not {acknowledged:?}");

        // Whoever got no answer does it again; the rest follows.
        for step in &SCRIPT[self.ended.done.len()..] {
            step.perform(&store).await.unwrap_or_else(|error| panic!("{what}: {step:?} again: {error}"));
        }
        assert_eq!(State::of(&store).await.unwrap(), expected(SCRIPT), "{what}");
    }
}

/// Runs the script in a new repository, up to a crash at this call.
fn run_script(place: &index::Place, crash_at: Option<usize>) -> (Simulated, Script) {
    let disk = Simulated::with_root(&place.path());
    disk.crash_at(crash_at.unwrap_or(usize::MAX));
    let snapshot_after = crash_at.unwrap_or(0) % SCRIPT.len();
    let mut script = Script::default();
    // Each part is a process: it is opened, used and closed.
    for part in SCRIPT.split_inclusive(|step| *step == script::Step::Reopen) {
        in_process(async || {
            let Ok(store) = open(&disk, &place.path()).await else { return };
            for step in part {
                script.doing = Some(*step);
                if step.perform(&store).await.is_err() {
                    return;
                }
                script.doing = None;
                script.done.push(*step);
                if script.done.len() == snapshot_after {
                    place.snapshot();
                }
            }
        });
        if disk.has_crashed() {
            break;
        }
    }
    (disk, script)
}

async fn open(disk: &Simulated, path: &Path) -> Result<Store, crate::Error> {
    let options = StoreOptions { catalog_cache_bytes: 1 << 20, reserve_bytes: 512, ..StoreOptions::default() };
    let files = Files::on(Arc::new(disk.clone()));
    Ok(Directory::open_on(files, path, OpenMode::OrCreate, options).await?.store)
}

/// Runs something, and leaves nothing of it running or open, as when a process ends.
fn in_process<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work())
}
