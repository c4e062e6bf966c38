//! The end of the journal: what a rebuild believes, what it cuts off, and what it keeps of that.

use std::{fs, path::PathBuf};

use super::{
    recovery::{copy_dir, replace_index},
    *,
};

const UNFINISHED: &[u8] = b"what may have been an entry";

fn append_to_journal(dir: &Path, bytes: &[u8]) {
    let journal = directory::journal(dir);
    fs::write(&journal, [fs::read(&journal).unwrap().as_slice(), bytes].concat()).unwrap();
}

/// What was cut off, in the order of the names.
fn kept(dir: &Path) -> Vec<Vec<u8>> {
    let is_copy = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("journal.cut-");
    let mut copies: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(is_copy).collect();
    copies.sort();
    copies.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A rebuild refuses, and changes nothing; told to go on, it has `versions`, and keeps what it cuts off.
async fn expect_doubt(dir: &Path, why: &str, versions: usize, cut: &[u8]) {
    let before = fs::read(directory::journal(dir)).unwrap();
    let error = try_rebuild(dir, InDoubt::Refuse).err().expect("it is in doubt");
    assert!(matches!(error, Error::JournalInDoubt { .. }), "{error}");
    assert!(error.to_string().contains(why), "{error}, not {why}");
    assert!(error.hint().contains("--accept-lost-decisions"));
    assert_eq!(fs::read(directory::journal(dir)).unwrap(), before);
    assert!(!dir.join("catalog.old-1").exists() && kept(dir).is_empty(), "something was changed");

    let had_index = directory::index(dir).exists();
    let catalog = try_rebuild(dir, InDoubt::GoOn).unwrap();
    assert_eq!(decided(&catalog).await.versions.len(), versions);
    assert_eq!(fs::read(directory::journal(dir)).unwrap(), before[..before.len() - cut.len()]);
    assert_eq!(kept(dir).concat(), cut);
    assert_eq!(dir.join("catalog.old-1").exists(), had_index);
}

#[tokio::test]
async fn a_rebuild_does_not_give_up_what_the_former_catalog_had() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    let journal = directory::journal(dir.path());
    let first = fs::read(&journal).unwrap().len();
    push(&catalog, 2, "a").await;
    drop(catalog);
    let mut bytes = fs::read(&journal).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&journal, &bytes).unwrap();
    expect_doubt(dir.path(), "the catalog has entry 2", 1, &bytes[first..]).await;
}

#[tokio::test]
async fn an_unfinished_entry_is_cut_off_when_the_former_catalog_had_all_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = create(dir.path());
    push(&catalog, 1, "a").await;
    drop(catalog);
    for times in 1..=2 {
        append_to_journal(dir.path(), UNFINISHED);
        assert_eq!(decided(&rebuild(dir.path())).await.versions.len(), 1);
        assert_eq!(kept(dir.path()), vec![UNFINISHED; times], "each time a copy of its own");
    }
}

#[tokio::test]
async fn an_unfinished_entry_is_in_doubt_unless_the_former_catalog_is_known_to_have_had_all_before_it() {
    let older = tempfile::tempdir().unwrap();
    type Loss = (&'static str, fn(&Path, &Path));
    let losses: [Loss; 4] = [
        ("there is no former catalog", |dir, _| fs::remove_dir_all(directory::index(dir)).unwrap()),
        ("cannot be read", |dir, _| fs::write(directory::index(dir).join("CURRENT"), "no manifest\n").unwrap()),
        ("has only entry 1", |dir, older| replace_index(dir, older)),
        ("empty, or of another version", |dir, _| {
            fs::remove_dir_all(directory::index(dir)).unwrap();
            drop(RocksIndex::open(&directory::index(dir), CACHE_BYTES, &Files::default(), IndexUse::Serving).unwrap());
        }),
    ];
    for (why, lose) in losses {
        for unfinished in [UNFINISHED, b""] {
            let dir = tempfile::tempdir().unwrap();
            let catalog = create(dir.path());
            push(&catalog, 1, "a").await;
            drop(catalog);
            copy_dir(&directory::index(dir.path()), older.path());
            push(&open(dir.path()), 2, "a").await;
            append_to_journal(dir.path(), unfinished);
            lose(dir.path(), older.path());
            match unfinished {
                b"" => assert_eq!(decided(&rebuild(dir.path())).await.versions.len(), 2, "{why}"),
                _ => expect_doubt(dir.path(), why, 2, unfinished).await,
            }
        }
    }
}

/// A power cut may take all of the catalog's latest writes: a server has to start after it.
#[tokio::test]
async fn opening_cuts_off_an_unfinished_entry_and_keeps_it_whatever_the_catalog_knows() {
    for loses_index in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        push(&create(dir.path()), 1, "a").await;
        append_to_journal(dir.path(), UNFINISHED);
        if loses_index {
            fs::remove_dir_all(directory::index(dir.path())).unwrap();
        }
        assert_eq!(decided(&open(dir.path())).await.versions.len(), 1);
        assert_eq!(kept(dir.path()), [UNFINISHED]);
        assert_eq!(decided(&open(dir.path())).await.versions.len(), 1, "nothing is left to cut off");
        assert_eq!(kept(dir.path()).len(), 1);
    }
}
