//! Disks whose filesystems are understood: what is left out, what comes back, and what does not depend on how they are
//! read.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use imprint_tests::{
    devices::LoopDevice,
    disks::{assert_clean, disks},
    files::{MIB, assert_same, copy_sparse, overwrite, run},
    programs::{Home, Running},
    random::Random,
};

fn arg<T: AsRef<OsStr> + ?Sized>(argument: &T) -> &OsStr {
    argument.as_ref()
}

fn output_of(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The ext4 partition of the disks, for e2fsprogs.
fn ext4_of(disk: &Path) -> String {
    format!("{}?offset={MIB}", disk.display())
}

/// What `dumpe2fs` calls free, as ranges of the disk.
fn free_of_ext4(disk: &Path) -> Vec<Range<u64>> {
    let listing = output_of(Command::new("dumpe2fs").arg(ext4_of(disk)));
    let lists = listing.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let blocks = lists.flat_map(|list| list.split(", ")).filter(|run| !run.is_empty());
    let byte = |block: &str| MIB + block.trim().parse::<u64>().unwrap() * 4096;
    blocks
        .map(|run| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            byte(first)..byte(last) + 4096
        })
        .collect()
}

/// The first version with earlier content in a part of its free space, as deleted files leave behind. Returns where.
fn with_dirty_free_space(home: &Home) -> (PathBuf, Vec<Range<u64>>) {
    let dirty = home.place("dirty.raw");
    copy_sparse(&disks().v1, &dirty);
    let largest = free_of_ext4(&dirty).into_iter().max_by_key(|range| range.end - range.start).unwrap();
    let behind = largest.start..largest.start + (largest.end - largest.start).min(24 * MIB);
    overwrite(&dirty, behind.start, &Random::fixed(3).bytes((behind.end - behind.start) as usize));
    let odd = free_of_ext4(&dirty).into_iter().min_by_key(|range| range.end - range.start).unwrap();
    overwrite(&dirty, odd.start, &vec![0x5a; (odd.end - odd.start) as usize]);
    (dirty, vec![behind, odd])
}

fn bytes_of(disk: &Path, range: &Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    File::open(disk).unwrap().read_exact_at(&mut bytes, range.start).unwrap();
    bytes
}

/// All files of the ext4 of a disk, in a directory.
fn dump(home: &Home, name: &str, disk: &Path) -> PathBuf {
    let directory = home.place(name);
    fs::create_dir(&directory).unwrap();
    let request = format!("rdump / {}", directory.display());
    run(Command::new("debugfs").args(["-R", &request]).arg(ext4_of(disk)));
    assert!(fs::read_dir(&directory).unwrap().count() > 2);
    directory
}

fn root(home: &Home, image: &str) -> String {
    home.result(["show", image])["version"]["root"].as_str().unwrap().to_owned()
}

fn push_omitting(home: &Home, disk: &Path, image: &str) -> serde_json::Value {
    home.result([arg("push"), arg(disk), arg(image), arg("--free-space"), arg("omit")])
}

#[test]
fn free_space_that_is_left_out_comes_back_as_zeros_and_every_file_as_it_was() {
    let home = Home::new();
    let (dirty, left_behind) = with_dirty_free_space(&home);
    push_omitting(&home, &dirty, "lab/pc");
    let target = home.place("target.raw");
    home.ok([arg("restore"), arg("lab/pc"), arg(&target)]);
    assert_clean(&target);
    for range in &left_behind {
        assert!(bytes_of(&target, range).iter().all(|byte| *byte == 0), "{range:?} was left out");
    }
    // Outside of what dumpe2fs calls free, nothing is left out.
    let mut at = 0;
    let length = fs::metadata(&dirty).unwrap().len();
    for free in free_of_ext4(&dirty).into_iter().chain(std::iter::once(length..length)) {
        assert!(bytes_of(&dirty, &(at..free.start)) == bytes_of(&target, &(at..free.start)), "{at}..{}", free.start);
        at = free.end;
    }
    let [before, after] = [("before", &dirty), ("after", &target)].map(|(name, disk)| dump(&home, name, disk));
    run(Command::new("diff").args(["-r", "--no-dereference"]).arg(before).arg(after));
    // What is free is not compared, and what is in use is.
    let against = |target: &Path| home.run([arg("verify"), arg(target), arg("--against"), arg("lab/pc@1")]).code();
    overwrite(&target, left_behind[0].start, &[7; 4096]);
    assert_eq!(against(&target), 0);
    overwrite(&target, MIB + 1024 + 0x78, b"renamed");
    assert_eq!(against(&target), 8);
    let shown = home.result(["show", "lab/pc"]);
    assert_eq!(shown["version"]["capture_mode"], "omit");
    assert_eq!(shown["disk"]["partitions"][0]["filesystem"], "ext4");
    assert!(home.ok(["show", "lab/pc"]).stdout.contains("PARTITION"), "{shown}");
}

#[test]
fn keep_is_bit_exact_and_the_default_and_says_what_omit_would_leave_out() {
    let home = Home::new();
    let (dirty, left_behind) = with_dirty_free_space(&home);
    let target = home.place("target.raw");
    let said = home.ok([arg("push"), arg(&dirty), arg("lab/pc")]).stdout;
    assert!(said.contains("of the data is in free space: --free-space omit would leave it out"), "{said}");
    home.ok([arg("restore"), arg("lab/pc"), arg(&target)]);
    assert_same(&target, &dirty);
    let again = home.result([arg("push"), arg(&dirty), arg("lab/pc")]);
    let expected: u64 = left_behind.iter().map(|range| range.end - range.start).sum();
    let unused = again["unused_bytes"].as_u64().unwrap();
    // Short zero runs in free space count as data.
    assert!(unused >= expected && unused < expected + MIB, "{unused} of {expected}");
    let said = home.ok([arg("push"), arg(&disks().v1), arg("lab/clean")]).stdout;
    assert!(!said.contains("--free-space"), "{said}");
}

#[test]
fn the_tree_does_not_depend_on_how_a_disk_is_read() {
    for mode in ["keep", "omit"] {
        let home = Home::new();
        let disk = &disks().v2;
        let push = |source: &OsStr, image: &str| {
            let mut command = home.command([arg("push"), source, arg(image), arg("--free-space"), arg(mode)]);
            let mut running = Running::start(command.stdin(Stdio::piped()));
            let mut stdin = running.stdin();
            if source == arg("-") {
                stdin.write_all(&fs::read(disk).unwrap()).unwrap();
            }
            drop(stdin);
            let ended = running.finish();
            assert_eq!(ended.code(), 0, "{ended}");
        };
        push(arg(disk), "a/file");
        let expected = root(&home, "a/file");
        // On a base with other boundaries, and on itself.
        push(arg(&disks().v1), "a/updated");
        push(arg(disk), "a/updated");
        assert_eq!(root(&home, "a/updated"), expected);
        push(arg(disk), "a/updated");
        assert_eq!(root(&home, "a/updated"), expected);
        push(arg("-"), "a/stream");
        assert_eq!(root(&home, "a/stream"), expected);
        let full = home.place("full.raw");
        fs::write(&full, fs::read(disk).unwrap()).unwrap();
        push(arg(&full), "a/full");
        assert_eq!(root(&home, "a/full"), expected);
        if let Some(device) = LoopDevice::read_only(disk) {
            push(arg(device.node()), "a/device");
            assert_eq!(root(&home, "a/device"), expected);
        }
    }
}

#[test]
fn updates_between_versions_with_and_without_free_space() {
    let home = Home::new();
    let (dirty, left_behind) = with_dirty_free_space(&home);
    push_omitting(&home, &dirty, "lab/pc");
    home.ok([arg("push"), arg(&disks().v2), arg("lab/pc")]);
    push_omitting(&home, &disks().v2, "lab/pc");
    let target = home.place("target.raw");
    home.ok([arg("restore"), arg("lab/pc@1"), arg(&target)]);
    home.ok([arg("update"), arg(&target), arg("lab/pc@2")]);
    assert_same(&target, &disks().v2);
    home.ok([arg("update"), arg(&target), arg("lab/pc@3")]);
    assert_clean(&target);
    // A target that somebody wrote to is read again; zeros of a version are written over what was free.
    home.ok([arg("restore"), arg("lab/pc@1"), arg(&target)]);
    overwrite(&target, left_behind[0].start, &[9; 5000]);
    home.ok([arg("restore"), arg("lab/pc@2"), arg(&target)]);
    assert_same(&target, &disks().v2);
}

#[test]
fn diff_says_which_partitions_changed() {
    let home = Home::new();
    for disk in [&disks().v1, &disks().v2] {
        home.ok([arg("push"), arg(disk), arg("lab/pc")]);
    }
    let diff = home.result(["diff", "lab/pc@1", "lab/pc@2"]);
    let partition = &diff["partitions"][0];
    assert_eq!(partition["number"], 1);
    assert_eq!(partition["changed_bytes"], diff["changed_bytes"], "{diff}");
    let same = home.result(["diff", "lab/pc@2", "lab/pc@2"]);
    assert_eq!(same["partitions"][0]["changed_bytes"], 0);
    assert!(same["partitions"][0]["files"].is_null());
    let unread = home.result(["diff", "lab/pc@1", "lab/pc@2", "--no-files"]);
    assert!(unread["partitions"][0]["files"].is_null());
}

/// Paths of all files of the ext4 of a disk, with their contents.
fn files_of(home: &Home, name: &str, disk: &Path) -> BTreeMap<String, Vec<u8>> {
    let root = dump(home, name, disk);
    let mut files = BTreeMap::new();
    let mut pending = vec![root.clone()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn diff_names_the_files_that_differ() {
    let home = Home::new();
    for disk in [&disks().v1, &disks().v2] {
        push_omitting(&home, disk, "lab/pc");
    }
    let [before, after] = [("before", &disks().v1), ("after", &disks().v2)].map(|(name, d)| files_of(&home, name, d));
    let mut expected = BTreeSet::new();
    for path in before.keys().chain(after.keys()) {
        match (before.get(path), after.get(path)) {
            (None, Some(_)) => expected.insert(("added", path.as_str())),
            (Some(_), None) => expected.insert(("removed", path.as_str())),
            (old, new) if old != new => expected.insert(("changed", path.as_str())),
            _ => false,
        };
    }
    let diff = home.result(["diff", "lab/pc@1", "lab/pc@2"]);
    let files = &diff["partitions"][0]["files"];
    let listed = files["list"].as_array().unwrap();
    let found: BTreeSet<_> =
        listed.iter().map(|file| (file["change"].as_str().unwrap(), file["path"].as_str().unwrap())).collect();
    assert!(expected.len() < 1000 && expected.iter().any(|(kind, _)| *kind == "removed"), "{}", expected.len());
    // A file that was written anew with the same bytes has another time.
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let extra: Vec<_> = found.difference(&expected).filter(|(kind, _)| *kind != "changed").collect();
    assert!(extra.is_empty(), "{extra:?}");
    let said = home.ok(["diff", "lab/pc@1", "lab/pc@2"]).stdout;
    assert!(said.contains(" removed\n") && said.contains("  and "), "{said}");
}

/// A disk with an ESP, an ext4 and swap, as a PC has them.
struct Pc {
    disk: PathBuf,
}

const ESP: Range<u64> = MIB..33 * MIB;
const SWAP: Range<u64> = 33 * MIB..41 * MIB;
const PC_BYTES: u64 = 42 * MIB;

impl Pc {
    fn new(home: &Home) -> Self {
        let disk = home.place("pc.raw");
        File::create(&disk).unwrap().set_len(PC_BYTES).unwrap();
        let mut sfdisk = Command::new("sfdisk").arg("-q").arg(&disk).stdin(Stdio::piped()).spawn().unwrap();
        let table = "label: gpt\nstart=2048, size=65536, type=uefi\nstart=67584, size=16384, type=swap\n";
        sfdisk.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let esp = home.place("esp");
        File::create(&esp).unwrap().set_len(ESP.end - ESP.start).unwrap();
        run(Command::new("mkfs.fat").args(["-F", "16", "-n", "BOOT"]).arg(&esp));
        let mut random = Random::fixed(5);
        for n in 0..30 {
            let file = home.place("file");
            fs::write(&file, random.bytes(3000 + n * 4321)).unwrap();
            run(Command::new("mcopy").arg("-i").arg(&esp).arg(&file).arg(format!("::/kernel-{n}")));
        }
        // Deleted files leave their content behind.
        for n in (0..30).step_by(3) {
            run(Command::new("mdel").arg("-i").arg(&esp).arg(format!("::/kernel-{n}")));
        }
        overwrite(&disk, ESP.start, &fs::read(&esp).unwrap());
        let swap = home.place("swap");
        File::create(&swap).unwrap().set_len(SWAP.end - SWAP.start).unwrap();
        run(Command::new("mkswap").args(["-q", "-L", "pages"]).arg(&swap));
        overwrite(&disk, SWAP.start, &fs::read(&swap).unwrap());
        overwrite(&disk, SWAP.start + 4096, &random.bytes(5 * MIB as usize));
        Self { disk }
    }
}

fn partition(home: &Home, disk: &Path, name: &str, range: &Range<u64>) -> PathBuf {
    let place = home.place(name);
    fs::write(&place, bytes_of(disk, range)).unwrap();
    place
}

#[test]
fn swap_is_written_as_zeros_but_for_its_name_and_fat_is_whole() {
    let home = Home::new();
    let Pc { disk } = Pc::new(&home);
    push_omitting(&home, &disk, "lab/pc");
    let target = home.place("target.raw");
    home.ok([arg("restore"), arg("lab/pc"), arg(&target)]);
    let header = SWAP.start..SWAP.start + 4096;
    assert!(bytes_of(&target, &header) == bytes_of(&disk, &header));
    assert!(bytes_of(&target, &(header.end..SWAP.end)).iter().all(|byte| *byte == 0));
    let [before, after] = [("before", &disk), ("after", &target)].map(|(name, d)| partition(&home, d, name, &ESP));
    run(Command::new("fsck.fat").arg("-n").arg(&after));
    let files = |image: &Path, name: &str| {
        let directory = home.place(name);
        fs::create_dir(&directory).unwrap();
        run(Command::new("mcopy").args(["-s", "-i"]).arg(image).arg("::/").arg(&directory));
        assert!(fs::read_dir(&directory).unwrap().count() > 0);
        directory
    };
    run(Command::new("diff").arg("-r").arg(files(&before, "files-before")).arg(files(&after, "files-after")));
    assert!(fs::read(&before).unwrap() != fs::read(&after).unwrap(), "what deleted files left behind is left out");
    // Old pages on a target that is read first must go: what is there is not known, and is no zero.
    overwrite(&target, SWAP.start + 8192, b"password");
    home.ok([arg("restore"), arg("lab/pc"), arg(&target)]);
    assert!(bytes_of(&target, &(header.end..SWAP.end)).iter().all(|byte| *byte == 0));
    assert_eq!(home.run([arg("verify"), arg(&target)]).code(), 0);
}

#[test]
fn a_stream_that_finds_no_room_says_where_it_looked() {
    let home = Home::new();
    let mut command = home.command(["push", "-", "lab/pc"]);
    let disk = File::open(&disks().v1).unwrap();
    let ended = Running::start(command.stdin(disk).env("TMPDIR", "/proc")).finish();
    assert_ne!(ended.code(), 0);
    let said = ended.to_string();
    assert!(said.contains("cannot write standard input to a file in /proc") && said.contains("TMPDIR"), "{said}");
}

#[test]
fn inspect_says_what_is_there() {
    let home = Home::new();
    let found = home.result([arg("inspect"), arg(&disks().v1)]);
    let partition = &found["partitions"][0];
    assert_eq!(
        (&found["table"], &partition["filesystem"], &partition["plain"]),
        (&"gpt".into(), &"ext4".into(), &serde_json::Value::Null)
    );
    assert!(!home.repository().exists());
    let nothing = home.place("nothing.raw");
    File::create(&nothing).unwrap().set_len(1 << 20).unwrap();
    let said = home.ok([arg("inspect"), arg(&nothing)]).stdout;
    assert!(said.ends_with("no partition table\nall of it is plain bytes: no known filesystem\n"), "{said}");
}
