//! The catalog can be derived from packs and journal, and damage is an error with a name, never wrong bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use imprint_client::{Access, Error, Repository};
use imprint_proto::Kind;
use imprint_tests::{
    client::Client,
    damage::Damage,
    disks::disks,
    files::{self, MIB, are_same, assert_same, length, packs},
    programs::{Ended, Home, Running, program},
    random::Random,
};
use tempfile::TempDir;

fn server(arguments: &[&str], data: &Path) -> Ended {
    let mut command = std::process::Command::new(program("imprint-server"));
    Running::start(command.args(arguments).arg("--data").arg(data).env("NO_COLOR", "1")).finish()
}

fn rebuild(data: &Path) -> Ended {
    let ended = server(&["rebuild"], data);
    assert_eq!(ended.code(), 0, "{ended}");
    ended
}

/// Everything that can be asked of a repository.
fn everything(home: &Home) -> String {
    let mut all = String::new();
    for arguments in [&["images"][..], &["versions", "lab/pc"], &["versions", "vm/web"]] {
        all += &home.ok(arguments.iter().chain(&["--json"])).stdout;
    }
    let mut stats = home.result(["stats"]);
    // Floating point, of numbers that are compared.
    stats.as_object_mut().unwrap().remove("ratio");
    all + &stats.to_string()
}

/// Versions, tags that moved and went, removed versions; the newest of `lab/pc` is removed.
fn with_history(home: &Home) -> [&'static Path; 2] {
    let [v1, v2] = [disks().v1.as_path(), disks().v2.as_path()];
    let push = |disk: &Path, image: &str| {
        home.ok([Path::new("push"), disk, Path::new(image), Path::new("--tag"), Path::new("newest")]);
    };
    for disk in [v1, v2, v1] {
        push(disk, "lab/pc");
    }
    push(v2, "vm/web");
    home.ok(["tag", "lab/pc@1", "stable"]);
    home.ok(["tag", "lab/pc@2", "stable"]);
    home.ok(["tag", "lab/pc@1", "passing"]);
    home.ok(["tag", "lab/pc", "passing", "--delete"]);
    home.ok(["tag", "lab/pc@2", "newest"]);
    home.ok(["remove", "lab/pc@3"]);
    [v1, v2]
}

fn assert_restores(home: &Home, reference: &str, disk: &Path) {
    let target = home.place("restored.raw");
    let _ = fs::remove_file(&target);
    home.ok([Path::new("restore"), Path::new(reference), &target]);
    assert_same(&target, disk);
}

fn loses_its_catalog(mend: impl FnOnce(&Path)) {
    let home = Home::new();
    let [v1, v2] = with_history(&home);
    let before = everything(&home);
    let counter = |home: &Home| home.ok(["images", "--json"]).events()[0]["tags"].to_string();
    let counters = counter(&home);
    fs::remove_dir_all(home.repository().join("catalog")).unwrap();
    mend(&home.repository());
    assert_eq!(everything(&home), before);
    assert_eq!(counter(&home), counters);
    for (reference, disk) in [("lab/pc@1", v1), ("lab/pc:stable", v2), ("vm/web", v2)] {
        assert_restores(&home, reference, disk);
    }
    let packs_before = packs(&home.repository());
    let pushed = home.result([Path::new("push"), v1, Path::new("lab/pc")]);
    assert_eq!(pushed["version"]["number"], 4, "the number of a removed version was given again");
    assert_eq!((&pushed["new_chunks"], &pushed["new_nodes"]), (&0.into(), &0.into()));
    assert_eq!(packs(&home.repository()), packs_before);
    // A tag that is set anew goes on counting where it was removed.
    home.ok(["tag", "lab/pc@1", "passing"]);
    let images = home.ok(["images", "--json"]).events();
    let tags = images[0]["tags"].as_array().unwrap();
    let passing = tags.iter().find(|tag| tag["name"] == "passing").unwrap();
    assert_eq!(passing["counter"], 3, "set, removed, set again: {images:?}");
}

#[test]
fn a_rebuilt_catalog_knows_all_that_the_lost_one_knew() {
    loses_its_catalog(|data| {
        let ended = rebuild(data);
        assert!(ended.stdout.contains("packs, "), "{ended}");
        assert!(!ended.stdout.contains("damaged") && !ended.stdout.contains("cannot be read"), "{ended}");
    });
}

#[test]
fn opening_a_repository_without_a_catalog_loses_nothing() {
    loses_its_catalog(|_| {});
}

/// borg#3444: a repair must not discard what was good.
#[test]
fn a_rebuild_keeps_the_former_catalog_and_may_be_repeated() {
    let home = Home::new();
    with_history(&home);
    let before = everything(&home);
    for n in 1..=2 {
        rebuild(&home.repository());
        assert!(home.repository().join(format!("catalog.old-{n}")).is_dir());
        assert_eq!(everything(&home), before);
    }
}

#[test]
fn a_rebuild_needs_a_repository_that_nobody_serves() {
    let home = Home::new();
    let ended = server(&["rebuild"], &home.place("nothing"));
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("is not a repository"), "{ended}");
    assert!(!home.place("nothing").exists());

    home.ok([Path::new("push"), &disks().v1, Path::new("lab/pc")]);
    let serving = imprint_tests::server::Server::start(&home.repository());
    let ended = server(&["rebuild"], &home.repository());
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("is in use by imprint-server"), "{ended}");
    drop(serving);
    home.ok(["verify", "lab/pc"]);
}

/// A repository with one version of a small image in one pack of chunks and one of nodes.
struct Small {
    directory: TempDir,
    image: PathBuf,
}

impl Small {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut content = Random::new(11).bytes(3 * MIB as usize);
        // Compressible in part, and with a hole.
        content[MIB as usize..][..500_000].fill(b'x');
        content[2 * MIB as usize..][..300_000].fill(0);
        let image = files::write(directory.path(), "image.raw", &content);
        let small = Self { directory, image };
        Client::embedded(&small.repository()).await.push(&small.image, "lab/pc").await;
        small
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    /// The pack of chunks and the pack of nodes, by their size.
    fn packs(&self) -> [PathBuf; 2] {
        let mut packs = packs(&self.repository());
        packs.sort_by_key(|pack| std::cmp::Reverse(length(pack)));
        packs.try_into().unwrap()
    }

    /// The same repository elsewhere.
    fn copy(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        files::run(std::process::Command::new("cp").arg("-r").arg(self.repository()).arg(directory.path()));
        Self { image: self.image.clone(), directory }
    }

    /// Does damage to a file of a copy of the repository.
    fn damaged(&self, file: &Path, damage: Damage) -> Self {
        let copy = self.copy();
        damage.inflict(&copy.repository().join(file.strip_prefix(self.repository()).unwrap()));
        copy
    }

    /// Restores and verifies; what comes back without an error must be the image.
    async fn read(&self) -> Result<(), Error> {
        let client = Client::try_embedded(&self.repository()).await?;
        let verified = client.verify("lab/pc").await;
        let target = client.place("target.raw");
        let restored = client.try_restore("lab/pc", &target).await;
        if restored.is_ok() {
            assert_same(&target, &self.image);
        }
        let remembered = client.memory.load(&target).unwrap().is_some_and(|held| held.complete);
        assert_eq!(remembered, restored.is_ok(), "a failed restore is remembered as complete");
        assert_eq!(verified.is_ok(), restored.is_ok(), "{verified:?} {restored:?}");
        restored.map(drop)
    }

    async fn rebuilt(&self) -> Result<(), Error> {
        use imprint_server::store::{Directory, StoreOptions};
        let rebuilt = Directory::rebuild(&self.repository(), StoreOptions::default()).await;
        rebuilt.map_err(|error| imprint_proto::Failure::from(&error))?;
        self.read().await
    }
}

fn assert_corrupt(result: Result<(), Error>, context: &str) -> Error {
    let error = result.err().unwrap_or_else(|| panic!("{context}: no error"));
    assert_eq!(error.kind(), Kind::Corrupt, "{context}: {error:?}");
    assert!(!error.to_string().is_empty() && !error.reason().is_empty(), "{error:?}");
    error
}

/// Places all over a file, its first and last bytes among them.
fn places(file: &Path, random: &mut Random, count: usize) -> Vec<u64> {
    let length = length(file);
    let mut places = vec![0, 70, length - 1, length - 60];
    places.resize_with(count, || random.below(length));
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_a_pack_is_an_error_or_harmless_but_never_wrong_bytes() {
    let mut random = Random::new(12);
    let small = Small::new().await;
    let [chunks, nodes] = small.packs();
    for pack in [&chunks, &nodes] {
        for place in places(pack, &mut random, 12) {
            let damaged = small.damaged(pack, Damage::Flip(place));
            if let Err(error) = damaged.read().await {
                assert_eq!(error.kind(), Kind::Corrupt, "byte {place} of {}: {error:?}", pack.display());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_content_is_found_before_and_after_a_rebuild() {
    let mut random = Random::new(13);
    let small = Small::new().await;
    let [chunks, nodes] = small.packs();
    // Behind the header and before the footer, which has 45 bytes a record and 48 more.
    let records = |pack: &Path, share: u64| 64 + random_in(share, length(pack) / 2);
    for (pack, share) in [(&chunks, random.number()), (&chunks, random.number()), (&nodes, 40)] {
        let place = records(pack, share);
        let damaged = small.damaged(pack, Damage::Flip(place));
        let error = assert_corrupt(damaged.read().await, &format!("byte {place}"));
        assert!(error.to_string().contains("damaged"), "{error}");
        assert_corrupt(damaged.rebuilt().await, &format!("byte {place}, rebuilt"));
    }
}

const fn random_in(number: u64, bound: u64) -> u64 {
    number % bound
}

/// hf_hub#4223: a truncated file was taken for a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_missing_pack_is_an_error_that_names_it() {
    let small = Small::new().await;
    for pack in small.packs() {
        let id = pack.file_stem().unwrap().to_str().unwrap().to_owned();
        let whole = length(&pack);
        // Half of the records, all but the header, nothing at all, zeros after a lost write, and no file.
        let damages = [
            Damage::Truncate(whole / 2),
            Damage::Truncate(64),
            Damage::Truncate(0),
            Damage::Zero(whole / 3),
            Damage::Remove,
        ];
        for damage in damages {
            let damaged = small.damaged(&pack, damage);
            let error = assert_corrupt(damaged.read().await, &format!("{damage:?}"));
            let names = error.to_string();
            assert!(names.contains(&id) || names.contains("missing"), "{damage:?}: {names}");
            assert_corrupt(damaged.rebuilt().await, &format!("{damage:?}, rebuilt"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_lost_its_footer_is_read_by_a_rebuild() {
    let small = Small::new().await;
    for pack in small.packs() {
        let damaged = small.damaged(&pack, Damage::Truncate(length(&pack) - 10));
        damaged.read().await.unwrap();
        damaged.rebuilt().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_another_repository_is_not_believed() {
    let (small, other) = (Small::new().await, Small::new().await);
    let (ours, theirs) = (small.packs(), other.packs());
    let damaged = small.copy();
    let place = damaged.repository().join(ours[0].strip_prefix(small.repository()).unwrap());
    fs::copy(&theirs[0], place).unwrap();
    // The records are the same, so that they may be read; whoever looks at the header must refuse it.
    assert_corrupt(damaged.rebuilt().await, "a pack of another repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_superblock_is_never_opened() {
    let small = Small::new().await;
    let superblock = small.repository().join("superblock");
    for place in 0..length(&superblock) {
        let damaged = small.copy();
        let file = damaged.repository().join("superblock");
        Damage::Flip(place).inflict(&file);
        let error = open_error(&damaged.repository()).await;
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Invalid), "byte {place}: {error:?}");
        assert!(error.to_string().contains(damaged.repository().to_str().unwrap()), "{error}");
        if place == 0 {
            Damage::Flip(place).inflict(&file);
            damaged.read().await.unwrap();
        }
    }
    for left in [0, 10, length(&superblock) - 1] {
        let damaged = small.damaged(&superblock, Damage::Truncate(left));
        assert_eq!(open_error(&damaged.repository()).await.kind(), Kind::Corrupt, "{left} bytes left");
    }
    let damaged = small.damaged(&superblock, Damage::Remove);
    assert_eq!(open_error(&damaged.repository()).await.reason(), "FILE_CORRUPT");
    // Nor is the rest of it taken for an empty directory.
    let error = Client::try_embedded(&damaged.repository()).await.err().unwrap();
    assert_eq!((error.kind(), error.reason()), (Kind::Corrupt, "FILE_CORRUPT"));
    assert_eq!(packs(&damaged.repository()).len(), 2);
}

async fn open_error(directory: &Path) -> Error {
    let location = imprint_client::Location::Directory(directory.to_owned());
    Repository::open(&location, Access::Existing).await.err().expect("it must not be opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_never_cut_off() {
    let small = Small::new().await;
    {
        let client = Client::embedded(&small.repository()).await;
        for _ in 0..3 {
            client.push(&small.image, "lab/pc").await;
        }
    }
    let journal = small.repository().join("journal");
    let whole = length(&journal);
    let damages = [
        Damage::Flip(3),
        Damage::Flip(20),
        Damage::Flip(60),
        Damage::Flip(whole / 2),
        Damage::Flip(whole - 1),
        Damage::Truncate(whole / 2),
        Damage::Truncate(whole - 1),
        Damage::Truncate(0),
        Damage::Zero(whole / 2),
    ];
    for damage in damages {
        let damaged = small.damaged(&journal, damage);
        let error = open_error(&damaged.repository()).await;
        assert_eq!(error.kind(), Kind::Corrupt, "{damage:?}: {error:?}");
        assert!(error.to_string().contains("journal"), "{error}");
        // Nothing was changed, so that the evidence is still there.
        let expected = match damage {
            Damage::Truncate(left) => left,
            _ => whole,
        };
        assert_eq!(length(&damaged.repository().join("journal")), expected, "{damage:?}");
        let reason = assert_corrupt(damaged.rebuilt().await, &format!("{damage:?}, rebuilt")).reason().to_owned();
        assert_eq!(length(&damaged.repository().join("journal")), expected, "{damage:?}, {reason}");
        assert!(!damaged.repository().join("catalog.old-1").exists(), "{damage:?}, {reason}");
    }
    // Without a catalog that knows better, damage in the middle is still found.
    for damage in [Damage::Flip(60), Damage::Flip(whole / 2)] {
        let damaged = small.damaged(&journal, damage);
        fs::remove_dir_all(damaged.repository().join("catalog")).unwrap();
        assert_corrupt(damaged.read().await, &format!("{damage:?} without a catalog"));
        assert_corrupt(damaged.rebuilt().await, &format!("{damage:?}, rebuilt"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_up_an_acknowledged_decision_only_when_it_is_told_to() {
    let small = Small::new().await;
    Client::embedded(&small.repository()).await.push(&small.image, "lab/pc").await;
    let data = small.repository();
    let journal = data.join("journal");
    Damage::Flip(length(&journal) - 1).inflict(&journal);
    let before = fs::read(&journal).unwrap();
    let refused = server(&["rebuild"], &data);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("in doubt") && refused.stderr.contains("--accept-lost-decisions"), "{refused}");
    assert_eq!(fs::read(&journal).unwrap(), before);

    let ended = server(&["rebuild", "--accept-lost-decisions"], &data);
    assert_eq!(ended.code(), 0, "{ended}");
    let left = fs::read(&journal).unwrap();
    let cut = fs::read(data.join(format!("journal.cut-{}", left.len()))).unwrap();
    assert_eq!([left, cut].concat(), before, "what was cut off is kept");
    small.read().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_journal_is_an_error() {
    let small = Small::new().await;
    let damaged = small.damaged(&small.repository().join("journal"), Damage::Remove);
    let error = open_error(&damaged.repository()).await;
    assert!(error.to_string().contains("journal"), "{error:?}");
    assert!(damaged.rebuilt().await.is_err());
}

#[test]
fn the_command_line_reports_damage_with_its_exit_code_and_leaves_no_wrong_bytes() {
    let home = Home::new();
    home.ok([Path::new("push"), &disks().v1, Path::new("lab/pc")]);
    let mut packs = packs(&home.repository());
    packs.sort_by_key(|pack| length(pack));
    Damage::Flip(length(packs.last().unwrap()) / 2).inflict(packs.last().unwrap());
    let target = home.place("target.raw");
    let restore = [Path::new("restore"), Path::new("lab/pc"), &target];
    for ended in [home.run(restore), home.run(["verify", "lab/pc"])] {
        assert_eq!(ended.code(), 8, "{ended}");
        assert!(ended.stderr.contains("damaged") && ended.stderr.contains("hint: "), "{ended}");
        assert_eq!(ended.stdout, "");
    }
    assert!(!are_same(&target, &disks().v1));
    // It is known to be incomplete.
    let verified = home.run([Path::new("verify"), &target]);
    assert_eq!(verified.code(), 5, "{verified}");
    let ended = Running::start(home.command(restore).arg("--json")).finish();
    let error = ended.last_event("error");
    assert_eq!((ended.code(), &error["kind"], &error["reason"]), (8, &"corrupt".into(), &"OBJECT_DAMAGED".into()));
    // What the hint says.
    home.ok([Path::new("push"), &disks().v1, Path::new("lab/pc")]);
    home.ok(["verify", "lab/pc@1"]);
    home.ok(restore);
    assert!(are_same(&target, &disks().v1));
}
