//! The same random operations on the engine, reopened and rebuilt in between, and on the catalog in memory.

use imprint_content::Selector;
use proptest::prelude::*;

use super::*;
use crate::{
    catalog::{Damage, IntactRecords, MarkEnd, MarkId, MemoryCatalog, NewVersion, PackRecord, laws::sample},
    pack::Purpose,
};

const NAMES: [&str; 3] = ["a", "a/b", "ab"];
const TAGS: [&str; 2] = ["t", "u"];

#[derive(Debug, Clone)]
enum Op {
    Open { seed: u8, name: usize, base: Option<u64> },
    Close { seed: u8 },
    Commit { seed: u8, name: usize, tags: Vec<usize> },
    SetTag { name: usize, number: u64, tag: usize, expected: Option<u64> },
    RemoveTag { name: usize, tag: usize, expected: Option<u64> },
    RemoveVersion { name: usize, number: u64 },
    Undelete { name: usize, number: u64 },
    Purge { name: usize, number: u64 },
    Pin { name: usize, number: u64 },
    Unpin { name: usize, number: u64 },
    BeginMark,
    Condemn { seed: u8, objects: Vec<u64>, marked: Vec<u32> },
    EndMark { finished: bool },
    Quarantine { seed: u8, objects: Vec<u64> },
    Readmit { seed: u8, objects: Vec<u64> },
    AddPack { seed: u8, objects: Vec<u64>, holder: u8 },
    Ask { seed: u8, objects: Vec<u64> },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let (seed, name, tag, number) = (1u8..12, 0..NAMES.len(), 0..TAGS.len(), 1u64..5);
    let expected = prop::option::weighted(0.4, 0u64..4);
    let objects = prop::collection::vec(0u64..8, 0..4);
    let base = prop::option::weighted(0.2, number.clone());
    let open = (seed.clone(), name.clone(), base).prop_map(|(seed, name, base)| Op::Open { seed, name, base });
    let commit = (seed.clone(), name.clone(), prop::collection::vec(tag.clone(), 0..3))
        .prop_map(|(seed, name, tags)| Op::Commit { seed, name, tags });
    let set_tag = (name.clone(), number.clone(), tag.clone(), expected.clone())
        .prop_map(|(name, number, tag, expected)| Op::SetTag { name, number, tag, expected });
    let remove_tag =
        (name.clone(), tag, expected).prop_map(|(name, tag, expected)| Op::RemoveTag { name, tag, expected });
    let add_pack = (seed.clone(), objects.clone(), seed.clone()).prop_map(|(seed, objects, holder)| Op::AddPack {
        seed,
        objects,
        holder,
    });
    prop_oneof![
        6 => open,
        1 => seed.clone().prop_map(|seed| Op::Close { seed }),
        8 => commit,
        4 => set_tag,
        2 => remove_tag,
        3 => (name.clone(), number.clone()).prop_map(|(name, number)| Op::RemoveVersion { name, number }),
        2 => (name.clone(), number.clone()).prop_map(|(name, number)| Op::Undelete { name, number }),
        1 => (name.clone(), number.clone()).prop_map(|(name, number)| Op::Purge { name, number }),
        1 => (name.clone(), number.clone()).prop_map(|(name, number)| Op::Pin { name, number }),
        1 => (name, number).prop_map(|(name, number)| Op::Unpin { name, number }),
        2 => Just(Op::BeginMark),
        4 => (seed.clone(), objects.clone(), prop::collection::vec(0u32..3, 0..2))
            .prop_map(|(seed, objects, marked)| Op::Condemn { seed, objects, marked }),
        1 => any::<bool>().prop_map(|finished| Op::EndMark { finished }),
        2 => (seed.clone(), objects.clone()).prop_map(|(seed, objects)| Op::Quarantine { seed, objects }),
        1 => (seed.clone(), objects.clone()).prop_map(|(seed, objects)| Op::Readmit { seed, objects }),
        3 => add_pack,
        2 => (seed, objects).prop_map(|(seed, objects)| Op::Ask { seed, objects }),
        1 => Just(Op::Reopen),
    ]
}

/// What an operation answers, failures included.
async fn run(catalog: &dyn Catalog, mark: &mut Option<MarkId>, op: &Op) -> String {
    let named = |name: usize, number| key(NAMES[name], number);
    let tagged = |tag: usize| sample::tag(TAGS[tag]);
    match op.clone() {
        Op::Open { seed, name, base } => {
            let record = upload(seed, NAMES[name], base.map(|number| named(name, number)));
            text(catalog.open_upload(record).await)
        }
        Op::Close { seed } => text(catalog.close_upload(upload_id(seed)).await),
        Op::Commit { seed, name, tags } => {
            let tags = tags.into_iter().map(tagged).collect();
            text(catalog.commit(NewVersion { tags, ..new_version(seed, NAMES[name]) }).await)
        }
        Op::SetTag { name, number, tag, expected } => {
            text(catalog.set_tag(named(name, number), tagged(tag), expected).await)
        }
        Op::RemoveTag { name, tag, expected } => {
            text(catalog.remove_tag(image(NAMES[name]), tagged(tag), expected).await)
        }
        Op::RemoveVersion { name, number } => text(catalog.remove_version(named(name, number), NOW).await),
        Op::Undelete { name, number } => text(catalog.undelete_version(named(name, number), NOW).await),
        Op::Purge { name, number } => text(catalog.purge_version(named(name, number), NOW, NOW).await),
        Op::Pin { name, number } => text(catalog.pin_version(named(name, number), NOW).await),
        Op::Unpin { name, number } => text(catalog.unpin_version(named(name, number), NOW).await),
        Op::BeginMark => {
            let begun = catalog.begin_mark().await.unwrap();
            *mark = Some(begun.id);
            let mut roots: Vec<_> = begun.roots.iter().map(|root| format!("{root:?}")).collect();
            roots.sort();
            format!("{roots:?} {:?} {:?}", begun.counts, begun.last_finished)
        }
        Op::Condemn { seed, objects, marked } => match *mark {
            Some(mark) => format!("{:?}", sample::condemn(catalog, mark, seed, &distinct(&objects), &marked).await),
            None => String::new(),
        },
        Op::EndMark { finished } => match *mark {
            Some(mark) if finished => text(catalog.end_mark(mark, MarkEnd::Finished(NOW)).await),
            Some(mark) => text(catalog.end_mark(mark, MarkEnd::Abandoned).await),
            None => String::new(),
        },
        Op::Quarantine { seed, objects } => {
            let objects = objects.into_iter().map(object).collect();
            let pack = sample::pack_id(seed);
            let damage =
                Damage { pack, kind: Purpose::Chunks, objects, why: format!("pack {seed}"), found_unix_ms: NOW };
            text(catalog.quarantine(damage).await)
        }
        Op::Readmit { seed, objects } => {
            let pack = pack(seed, Purpose::Chunks);
            let objects = sample::objects(&pack, &distinct(&objects));
            let entries = objects.len() as u32;
            let records = IntactRecords { pack: pack.id, kind: Purpose::Chunks, entries, objects, read_unix_ms: NOW };
            text(catalog.readmit(records).await)
        }
        Op::AddPack { seed, objects, holder } => {
            let objects = distinct(&objects);
            let pack = PackRecord { records: objects.len() as u32, ..pack(seed, Purpose::Chunks) };
            let objects = sample::objects(&pack, &objects);
            text(catalog.add_pack(pack, objects, Some(upload_id(holder))).await)
        }
        Op::Ask { seed, objects } => {
            let ids = objects.into_iter().map(object).collect();
            text(catalog.locate_and_hold(upload_id(seed), Purpose::Chunks, ids).await)
        }
        Op::Reopen => String::new(),
    }
}

/// No pack has an object twice.
fn distinct(objects: &[u64]) -> Vec<u64> {
    std::collections::BTreeSet::from_iter(objects).into_iter().copied().collect()
}

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("{}: {error}", error.reason()),
    }
}

async fn everything(catalog: &dyn Catalog) -> String {
    let mut latest = Vec::new();
    for name in NAMES {
        latest.push(text(catalog.version(image(name), Selector::Latest).await));
    }
    let ids = (0..8).map(object).collect();
    format!(
        "{:?} {latest:?} {:?} {:?} {:?}",
        decided(catalog).await,
        catalog.packs().await.unwrap(),
        catalog.totals().await.unwrap(),
        (
            catalog.locate(Purpose::Chunks, ids).await.unwrap(),
            catalog.condemned_packs().await.unwrap(),
            catalog.held_packs().await.unwrap(),
            catalog.unhealed_damage(usize::MAX).await.unwrap(),
        )
    )
}

async fn compare(ops: &[Op]) {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, model) = (create(dir.path()), MemoryCatalog::new());
    let (mut mark, mut model_mark) = (None, None);
    for op in ops {
        if matches!(op, Op::Reopen) {
            drop(engine);
            engine = open(dir.path());
            model.forget_marks();
        }
        assert_eq!(run(&engine, &mut mark, op).await, run(&model, &mut model_mark, op).await, "{op:?}");
    }
    assert_eq!(everything(&engine).await, everything(&model).await);

    drop(engine);
    assert_eq!(decided(&rebuild(dir.path())).await, decided(&model).await);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(&ops));
    }
}
