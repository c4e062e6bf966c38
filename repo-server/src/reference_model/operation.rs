//! What is done to a repository, drawn at random.
//!
//! An operation names versions and packs by numbers that are taken modulo what there is when it is done. So any part of a
//! sequence is a sequence, and one that fails can be shortened.

use super::random::Random;

/// Pushes that may be under way.
pub(super) const SLOTS: usize = 3;
pub(super) const IMAGES: usize = 3;
pub(super) const TAGS: usize = 2;

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A push from its opening to its commit.
    Push {
        push: PushPlan,
        tag: Option<usize>,
    },
    /// A push is opened; what was under way in its slot is never heard of again.
    Begin {
        slot: usize,
        push: PushPlan,
    },
    /// The next part of it is asked about and sent.
    Send {
        slot: usize,
        objects: usize,
    },
    /// Its stream ends. A server seals what it received, unless it has no time to.
    CutOff {
        slot: usize,
        is_sealed: bool,
    },
    /// It goes on under the same id.
    Resume {
        slot: usize,
    },
    /// The rest of it is sent and committed.
    Commit {
        slot: usize,
        tag: Option<usize>,
    },
    /// The upload of a version is opened again.
    Repeat {
        version: usize,
    },
    Remove {
        version: usize,
        long_ago: bool,
    },
    Undelete {
        version: usize,
    },
    SetTag {
        version: usize,
        tag: usize,
        expected: Expected,
    },
    RemoveTag {
        image: usize,
        tag: usize,
        expected: Expected,
    },
    SetPin {
        version: usize,
        is_pinned: bool,
    },
    Forget {
        image: usize,
        last: u32,
    },
    /// Space is given back; `during` is done in between, each after so many more calls to the packs.
    Collect {
        grace: Grace,
        closes_uploads: bool,
        during: Vec<(usize, Operation)>,
        is_stopped: bool,
    },
    /// Two pushes and a collection at the same time, in whatever order comes.
    AtOnce {
        pushes: [PushPlan; 2],
    },
    /// The process ends and another one opens the repository.
    Reopen,
    /// The power fails after so many more calls that change something, and once more while the repository is opened.
    Crash {
        calls: usize,
        again: Option<usize>,
        seed: u64,
    },
    /// RocksDB's files as they are now may come back in a crash.
    KeepIndex,
    Rebuild,
    /// Bytes of a pack change, or go.
    Harm {
        pack: usize,
        harm: Harm,
        at: u64,
    },
    /// Whatever was harmed is put back as it was.
    Mend,
    /// Whatever was harmed is found.
    Scrub,
    Restore {
        version: usize,
    },
}

#[derive(Debug, Clone)]
pub(super) struct PushPlan {
    pub(super) image: usize,
    /// The version that it has much in common with.
    pub(super) like: usize,
    pub(super) base: Base,
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    None,
    /// The live version that the image is like.
    Like,
    /// Any version, live or not.
    Any(usize),
}

/// What somebody who moves a tag believes its counter to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    Anything,
    Known,
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grace {
    None,
    Days(u32),
    Ever,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Harm {
    FlipInRecord,
    FlipAnywhere,
    Truncate,
    Delete,
}

/// A sequence of operations.
pub(super) fn sequence(seed: u64, length: usize) -> Vec<Operation> {
    let mut random = Random::new(seed);
    // Without damage nothing may ever fail; with it, less is known.
    let has_damage = random.percent(40);
    let mut operations = Vec::with_capacity(length);
    let mut count = 0;
    while count < length {
        let operation = any(&mut random, has_damage);
        count += operation.count();
        operations.push(operation);
    }
    operations
}

impl Operation {
    /// How many operations it is.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Collect { during, .. } => 1 + during.len(),
            Self::AtOnce { .. } => 3,
            _ => 1,
        }
    }
}

fn any(random: &mut Random, has_damage: bool) -> Operation {
    match random.below(1000) {
        0..100 => collect(random),
        100..130 => {
            let again = random.percent(40).then(|| random.below(12) as usize);
            // Most soon enough to hit the operation that follows.
            let calls = if random.percent(25) { 0 } else { 1 + random.below(30) as usize };
            Operation::Crash { calls, again, seed: random.number() }
        }
        130..145 => Operation::Reopen,
        145..150 => Operation::Rebuild,
        150..160 => Operation::KeepIndex,
        160..175 => Operation::AtOnce { pushes: [push(random), push(random)] },
        175..190 if has_damage => {
            let harm = match random.below(10) {
                0..6 => Harm::FlipInRecord,
                6..8 => Harm::FlipAnywhere,
                8 => Harm::Truncate,
                _ => Harm::Delete,
            };
            Operation::Harm { pack: any_version(random), harm, at: random.number() }
        }
        190..192 if has_damage => Operation::Mend,
        190..200 => Operation::Scrub,
        _ => in_process(random),
    }
}

/// What may be done during a collection as well.
fn in_process(random: &mut Random) -> Operation {
    let version = any_version(random);
    let (slot, tag) = (random.below(SLOTS as u64) as usize, random.below(TAGS as u64) as usize);
    let image = random.below(IMAGES as u64) as usize;
    let maybe_tag = random.percent(15).then_some(tag);
    match random.below(100) {
        0..19 => Operation::Push { push: push(random), tag: maybe_tag },
        19..27 => Operation::Begin { slot, push: push(random) },
        27..39 => Operation::Send { slot, objects: 1 + random.below(80) as usize },
        39..42 => Operation::CutOff { slot, is_sealed: random.percent(70) },
        42..48 => Operation::Resume { slot },
        48..56 => Operation::Commit { slot, tag: maybe_tag },
        56..58 => Operation::Repeat { version },
        58..72 => Operation::Remove { version, long_ago: random.percent(50) },
        72..77 => Operation::Undelete { version },
        77..81 => Operation::SetTag { version, tag, expected: expected(random) },
        81..85 => Operation::RemoveTag { image, tag, expected: expected(random) },
        85..87 => Operation::SetPin { version, is_pinned: true },
        87..90 => Operation::SetPin { version, is_pinned: false },
        90..93 => Operation::Forget { image, last: 1 + random.below(3) as u32 },
        _ => Operation::Restore { version },
    }
}

fn collect(random: &mut Random) -> Operation {
    let grace = match random.below(10) {
        0..5 => Grace::None,
        5..8 => Grace::Days(5),
        _ => Grace::Ever,
    };
    let operations = if random.percent(50) { 0 } else { 1 + random.below(5) };
    let during = (0..operations).map(|_| {
        let operation = match random.below(50) {
            0 => Operation::Collect { grace, closes_uploads: false, during: Vec::new(), is_stopped: false },
            _ => in_process(random),
        };
        (random.below(8) as usize, operation)
    });
    let during = during.collect();
    Operation::Collect { grace, closes_uploads: random.percent(50), during, is_stopped: random.percent(5) }
}

fn push(random: &mut Random) -> PushPlan {
    let base = match random.below(20) {
        0..6 => Base::None,
        6..19 => Base::Like,
        _ => Base::Any(any_version(random)),
    };
    let image = random.below(IMAGES as u64) as usize;
    PushPlan { image, like: any_version(random), base, seed: random.number() }
}

fn expected(random: &mut Random) -> Expected {
    match random.below(5) {
        0..3 => Expected::Anything,
        3 => Expected::Known,
        _ => Expected::Stale,
    }
}

fn any_version(random: &mut Random) -> usize {
    random.below(1 << 16) as usize
}
