use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::*;
use crate::system::{
    FileState, Use,
    test_devices::{LoopDevice, Mounted},
};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn open(path: &Path, image_length: u64) -> Result<Target, TargetError> {
    Target::open(path, image_length, 512, &TargetOptions::default())
}

fn directory_with(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("disk.raw");
    fs::write(&path, content).unwrap();
    (directory, path)
}

fn read(target: &Target, range: Range<u64>) -> Vec<u8> {
    let mut buf = vec![0xEE; (range.end - range.start) as usize];
    target.read_at(&mut buf, range.start).unwrap();
    buf
}

#[test]
fn a_new_file_gets_the_length_of_the_image_and_no_blocks() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let target = open(&path, 64 * MIB).unwrap();
    assert_eq!((target.kind(), target.length(), target.image_length()), (TargetKind::NewFile, 64 * MIB, 64 * MIB));
    assert_eq!(target.path(), path.canonicalize().unwrap());
    assert_eq!(target.zero(0..64 * MIB).unwrap(), 0);
    target.write_at(b"data", MIB).unwrap();
    target.flush().unwrap();
    assert_eq!(target.data_ranges(0..64 * MIB).unwrap(), [MIB..MIB + PAGE]);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 64 * MIB);
    assert!(metadata.blocks() * 512 <= 16 * PAGE);
}

#[test]
fn a_file_keeps_its_content_and_is_cut_or_grown() {
    let (_directory, path) = directory_with(&[7; 10_000]);
    for length in [10_000, 4_000, 20_000] {
        let target = open(&path, length).unwrap();
        assert_eq!((target.kind(), target.length()), (TargetKind::File, length));
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
        assert_eq!(read(&target, 0..4_000), [7; 4_000]);
    }
    assert_eq!(fs::read(&path).unwrap()[4_000..], [0; 16_000], "what was cut does not come back");
}

#[test]
fn zeroing_a_file_punches_holes_where_data_is() {
    let (_directory, path) = directory_with(&[7; 4 << 20]);
    let target = open(&path, 16 * MIB).unwrap();
    assert_eq!(target.zero(MIB..8 * MIB).unwrap(), 3 * MIB, "the rest was a hole");
    assert_eq!(target.zero(MIB..8 * MIB).unwrap(), 0);
    assert_eq!(target.data_ranges(0..16 * MIB).unwrap(), [0..MIB]);
    assert_eq!(target.zero(PAGE + 1..PAGE + 2).unwrap(), 1);
    let mut expected = [7; 4];
    expected[2] = 0;
    assert_eq!(read(&target, PAGE - 1..PAGE + 3), expected);
}

#[test]
fn nothing_is_written_behind_the_end() {
    let (_directory, path) = directory_with(&[7; 100]);
    let target = open(&path, 100).unwrap();
    for (offset, length) in [(99, 2), (100, 1), (u64::MAX, 1)] {
        let error = target.write_at(&vec![1; length], offset).unwrap_err();
        assert!(matches!(error, TargetError::Outside { .. }), "{error}");
    }
    assert!(matches!(target.zero(50..101), Err(TargetError::Outside { .. })));
    assert_eq!(fs::read(&path).unwrap(), [7; 100]);
}

#[test]
fn a_refused_target_is_neither_created_nor_changed() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("repository");
    fs::create_dir(&inside).unwrap();
    let options = TargetOptions {
        forbidden_below: vec![directory.path().join("none"), inside.clone()],
        ..TargetOptions::default()
    };
    for name in ["repository/disk.raw", "repository/../repository/disk.raw"] {
        let path = directory.path().join(name);
        let error = Target::open(&path, MIB, 512, &options).unwrap_err();
        assert!(matches!(error, TargetError::Forbidden { .. }), "{error}");
        assert!(!path.exists());
    }
    let existing = inside.join("old.raw");
    fs::write(&existing, "old").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&existing, &link).unwrap();
    assert!(matches!(Target::open(&link, MIB, 512, &options), Err(TargetError::Forbidden { .. })));
    assert_eq!(fs::read(&existing).unwrap(), b"old");
    Target::open(&directory.path().join("repository-2.raw"), MIB, 512, &options).unwrap();
}

#[test]
fn what_can_hold_no_image_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(open(directory.path(), 1), Err(TargetError::Directory(_))));
    assert!(matches!(open(&directory.path().join("a/b"), 1), Err(TargetError::MissingDirectory { .. })));
    assert!(!directory.path().join("a").exists());
    assert!(matches!(open(Path::new("/dev/null"), 1), Err(TargetError::NotStorage { .. })));
    assert!(matches!(open(Path::new("/dev/no-such-disk"), 1), Err(TargetError::NoSuchDevice(_))));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert!(matches!(open(&link, 1), Err(TargetError::DanglingLink(_))));
}

#[test]
fn a_length_that_no_file_can_have_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let error = open(&path, u64::MAX).unwrap_err();
    assert!(matches!(error, TargetError::Resize { .. }), "{error}");
    assert!(error.hint().contains("filesystem"), "{}", error.hint());
    assert!(!path.exists());
}

#[test]
fn a_write_protected_file_is_refused_even_to_root() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = directory_with(b"old");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = open(&path, 1).unwrap_err();
    assert!(matches!(error, TargetError::ReadOnly { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn two_restores_to_one_file_exclude_each_other() {
    let (_directory, path) = directory_with(b"old");
    let first = open(&path, 3).unwrap();
    assert!(matches!(open(&path, 1), Err(TargetError::Claimed { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(first);
    open(&path, 1).unwrap();
}

#[test]
fn a_file_locked_as_qemu_locks_disks_is_refused() {
    let (_directory, path) = directory_with(b"old");
    let mut other = lock_in_another_process(&path);
    assert!(matches!(open(&path, 1), Err(TargetError::Claimed { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(other.stdin.take());
    other.wait().unwrap();
    open(&path, 1).unwrap();
}

const LOCK_THIS: &str = "IMPRINT_TEST_LOCK_THIS";

fn lock_in_another_process(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "target::tests::holds_a_lock_for_another_test", "--nocapture"])
        .env(LOCK_THIS, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    child
}

/// Does nothing unless it runs as the other process of the test above.
#[test]
fn holds_a_lock_for_another_test() {
    let Some(path) = std::env::var_os(LOCK_THIS) else { return };
    let file = File::options().write(true).open(path).unwrap();
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    println!("locked");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn the_witness_of_a_file_changes_with_every_write() {
    let (_directory, path) = directory_with(&[7; 100]);
    let mut seen = Vec::new();
    for round in 0..50 {
        let target = open(&path, 100).unwrap();
        target.write_at(&[round], 0).unwrap();
        target.flush().unwrap();
        let witness = target.witness().unwrap().expect("the tests' directory is on a filesystem with exact times");
        assert_eq!(witness::current(&path).unwrap().as_ref(), Some(&witness));
        assert!(!seen.contains(&witness), "round {round}");
        seen.push(witness);
    }
}

#[test]
fn a_write_right_after_the_witness_is_found() {
    let (_directory, path) = directory_with(&[7; 100]);
    let mut other = File::options().write(true).open(&path).unwrap();
    for _ in 0..50 {
        let witness = witness::current(&path).unwrap();
        assert!(witness.is_some());
        assert!(FileState::of(&other).unwrap().is_settled());
        other.write_all(&[8]).unwrap();
        assert_ne!(witness::current(&path).unwrap(), witness);
    }
}

#[test]
fn opening_a_target_for_what_it_holds_keeps_its_witness() {
    let (_directory, path) = directory_with(&[7; 100]);
    let witness = witness::current(&path).unwrap();
    let target = open(&path, 100).unwrap();
    assert_eq!(target.zero(100..100).unwrap(), 0);
    read(&target, 0..100);
    assert_eq!(target.witness().unwrap(), witness);
}

#[test]
fn what_is_no_target_has_no_witness() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path(), &directory.path().join("none"), Path::new("/dev/null")] {
        assert_eq!(witness::current(path).unwrap(), None);
    }
}

#[test]
fn a_witness_survives_being_written_down() {
    let Some(device) = LoopDevice::new(MIB) else { return };
    let target = open(device.node(), MIB).unwrap();
    target.write_at(b"data", 0).unwrap();
    target.flush().unwrap();
    let witness = target.witness().unwrap().unwrap();
    let text = serde_json::to_string(&witness).unwrap();
    assert_eq!(serde_json::from_str::<Witness>(&text).unwrap(), witness);
}

#[test]
fn a_device_is_written_and_its_other_bytes_stay() {
    let Some(device) = LoopDevice::new(4 * MIB) else { return };
    device.open().write_all_at(&[7; 512], 3 * MIB).unwrap();
    let target = open(device.node(), 2 * MIB).unwrap();
    assert_eq!((target.kind(), target.length(), target.image_length()), (TargetKind::BlockDevice, 4 * MIB, 2 * MIB));
    target.write_at(b"data", MIB).unwrap();
    target.flush().unwrap();
    drop(target);
    let backing = fs::read(device.backing()).unwrap();
    assert_eq!(&backing[1 << 20..][..4], b"data");
    assert_eq!(backing[3 << 20..][..512], [7; 512]);
}

#[test]
fn a_device_that_is_too_small_is_refused_by_the_byte() {
    let Some(device) = LoopDevice::new(MIB) else { return };
    let error = open(device.node(), MIB + 1000).unwrap_err();
    let expected =
        format!("{} has 1048576 bytes, which is 1000 bytes too small for the image", device.node().display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_device_in_use_is_refused() {
    let Some(device) = LoopDevice::new(16 * MIB) else { return };
    device.format();
    let before = fs::read(device.backing()).unwrap();
    for options in ["ro,noload", "rw"] {
        let mounted = Mounted::new(device.node(), options);
        let error = open(device.node(), MIB).unwrap_err();
        let TargetError::InUse { found: Use::Mounted { at, .. }, .. } = &error else { panic!("{error}") };
        assert_eq!(at, &mounted.path().canonicalize().unwrap());
        assert!(error.hint().contains("umount"), "{}", error.hint());
        if options.starts_with("ro") {
            assert_eq!(fs::read(device.backing()).unwrap(), before);
        }
    }
    open(device.node(), MIB).unwrap();
}

#[test]
fn a_disk_with_a_mounted_partition_is_refused() {
    let Some(device) = LoopDevice::partitioned() else { return };
    device.format_partition();
    let _mounted = Mounted::new(&device.partition(), "ro");
    for path in [device.node(), &device.partition()] {
        assert!(matches!(open(path, MIB), Err(TargetError::InUse { .. })), "{}", path.display());
    }
}

#[test]
fn a_file_behind_a_loop_device_is_refused() {
    let Some(device) = LoopDevice::new(MIB) else { return };
    let error = open(device.backing(), 1).unwrap_err();
    let TargetError::InUse { found: Use::Held { by, .. }, .. } = &error else { panic!("{error}") };
    assert_eq!(by, device.node());
    assert_eq!(fs::metadata(device.backing()).unwrap().len(), MIB);
}

#[test]
fn two_restores_to_one_device_exclude_each_other() {
    let Some(device) = LoopDevice::new(MIB) else { return };
    let _first = open(device.node(), MIB).unwrap();
    assert!(matches!(open(device.node(), MIB), Err(TargetError::Claimed { .. })));
}

#[test]
fn a_zeroed_range_of_a_device_reads_as_zero_and_its_neighbours_stay() {
    let Some(device) = LoopDevice::new(8 * MIB) else { return };
    device.open().write_all_at(&[7; 4 << 20], 0).unwrap();
    let target = open(device.node(), 8 * MIB).unwrap();
    let range = MIB - 100..6 * MIB;
    assert_eq!(target.zero(range.clone()).unwrap(), 3 * MIB + 100);
    assert_eq!(target.zero(range).unwrap(), 0);
    target.flush().unwrap();
    drop(target);
    let backing = fs::read(device.backing()).unwrap();
    let end = (1 << 20) - 100;
    assert!(backing[..end].iter().all(|byte| *byte == 7));
    assert!(backing[end..].iter().all(|byte| *byte == 0));
}

#[test]
fn zeroing_what_is_zero_writes_nothing() {
    let Some(device) = LoopDevice::new(4 * MIB) else { return };
    let target = open(device.node(), 4 * MIB).unwrap();
    target.write_at(&[7], 0).unwrap();
    let before = target.witness().unwrap();
    assert_eq!(target.zero(MIB..4 * MIB).unwrap(), 0);
    assert_eq!(target.witness().unwrap(), before);
}

#[test]
fn the_witness_of_a_device_changes_with_a_write_and_not_with_a_read() {
    let Some(device) = LoopDevice::new(4 * MIB) else { return };
    let target = open(device.node(), 4 * MIB).unwrap();
    target.write_at(b"data", MIB).unwrap();
    target.flush().unwrap();
    let witness = target.witness().unwrap();
    assert!(witness.is_some());
    drop(target);

    let mut buf = vec![0; 4 << 20];
    device.open().read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(witness::current(device.node()).unwrap(), witness);

    // Still in the page cache of whoever wrote it.
    let writer = device.open();
    writer.write_all_at(b"DATA", MIB).unwrap();
    assert_ne!(witness::current(device.node()).unwrap(), witness);
}

#[test]
fn a_write_behind_a_loop_device_changes_its_witness() {
    let Some(device) = LoopDevice::new(MIB) else { return };
    device.open().write_all_at(b"data", 0).unwrap();
    let witness = witness::current(device.node()).unwrap();
    assert!(witness.is_some());
    File::options().write(true).open(device.backing()).unwrap().write_all_at(b"DATA", 0).unwrap();
    assert_ne!(witness::current(device.node()).unwrap(), witness);
}

#[test]
fn writes_beside_a_partition_change_its_witness() {
    let Some(device) = LoopDevice::partitioned() else { return };
    let target = open(&device.partition(), MIB).unwrap();
    target.write_at(b"data", 0).unwrap();
    target.flush().unwrap();
    let remembered = target.witness().unwrap().unwrap();
    let Witness::Device { start: MIB, other_written: before, .. } = remembered else { panic!("{remembered:?}") };
    drop(target);
    assert_eq!(witness::current(&device.partition()).unwrap(), Some(remembered));

    let disk = device.open();
    disk.write_all_at(b"DATA", MIB).unwrap();
    disk.sync_all().unwrap();
    let now = witness::current(&device.partition()).unwrap().unwrap();
    let Witness::Device { other_written, .. } = now else { panic!("{now:?}") };
    assert_eq!(other_written, before + 8);
}

#[test]
fn a_mounted_device_has_no_witness() {
    let Some(device) = LoopDevice::new(16 * MIB) else { return };
    device.format();
    assert!(witness::current(device.node()).unwrap().is_some());
    let _mounted = Mounted::new(device.node(), "rw");
    assert_eq!(witness::current(device.node()).unwrap(), None);
}

#[test]
fn what_was_written_through_a_partition_is_not_hidden_by_older_pages_of_its_disk() {
    let Some(device) = LoopDevice::partitioned() else { return };
    let (disk, mut stale) = (device.open(), [0; 4096]);
    disk.read_exact_at(&mut stale, MIB).unwrap();
    let partition = File::options().write(true).open(device.partition()).unwrap();
    partition.write_all_at(b"data", 0).unwrap();
    partition.sync_all().unwrap();
    drop(partition);
    let target = open(device.node(), 32 * MIB).unwrap();
    assert_eq!(read(&target, MIB..MIB + 4), b"data");
}

/// A pipe cannot be synced; a file put in its place could. What was lost in between is lost.
#[test]
fn after_a_failed_sync_a_further_one_is_refused() {
    let (_directory, path) = directory_with(&[7; 4096]);
    let target = open(&path, 4096).unwrap();
    let sound = target.inner.file.try_clone().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let Ok(mut inner) = Arc::try_unwrap(target.inner) else { panic!("nobody else has it") };
    inner.file = std::os::fd::OwnedFd::from(reader).into();
    assert!(matches!(inner.sync(), Err(TargetError::Sync { .. })));
    inner.file = sound;
    inner.file.sync_all().unwrap();
    let target = Target { inner: Arc::new(inner) };
    for _ in 0..2 {
        assert!(matches!(target.flush(), Err(TargetError::SyncFailedBefore { .. })));
        assert!(matches!(target.witness(), Err(TargetError::SyncFailedBefore { .. })));
    }
    drop(writer);
}
