use std::{
    fs,
    io::{Seek, Write},
};

use tempfile::NamedTempFile;

use super::*;
use crate::system::{
    Use,
    test_devices::{LoopDevice, Mounted},
};

const MIB: u64 = 1 << 20;

fn file_of(bytes: &[u8]) -> (NamedTempFile, Source) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let source = Source::open(file.path()).unwrap();
    (file, source)
}

fn change(source: &Source, before: &Stamp) -> String {
    match source.unchanged_since(before) {
        Err(SourceError::Changed { what, .. }) => what,
        other => panic!("expected a change, got {other:?}"),
    }
}

#[test]
fn a_file_is_read_at_offsets() {
    let (file, source) = file_of(b"0123456789");
    assert_eq!((source.kind(), source.length(), source.sector_size()), (SourceKind::File, Some(10), 512));
    assert_eq!(source.canonical_path(), Some(file.path().canonicalize().unwrap().as_path()));
    let mut buf = [0; 4];
    source.clone().read_at(&mut buf, 3).unwrap();
    assert_eq!(&buf, b"3456");
    assert_eq!(source.data_ranges(2..7).unwrap(), [2..7]);
}

#[test]
fn a_stream_is_read_to_its_end() {
    let source = Source::stream(b"0123".chain(&b"456789"[..]));
    assert_eq!((source.kind(), source.length(), source.canonical_path()), (SourceKind::Stream, None, None));
    let mut buf = [0; 8];
    assert_eq!(source.read_next(&mut buf).unwrap(), 8);
    assert_eq!(&buf, b"01234567");
    assert_eq!(source.read_next(&mut buf).unwrap(), 2);
    assert_eq!(source.read_next(&mut buf).unwrap(), 0);
    assert!(matches!(source.read_at(&mut buf, 0), Err(SourceError::NotSeekable)));
    source.unchanged_since(&source.stamp().unwrap()).unwrap();
}

#[test]
fn an_untouched_file_is_unchanged() {
    let (file, source) = file_of(b"content");
    let before = source.stamp().unwrap();
    fs::read(file.path()).unwrap();
    source.unchanged_since(&before).unwrap();
}

#[test]
fn a_write_right_after_the_stamp_is_found() {
    for _ in 0..50 {
        let (mut file, source) = file_of(b"content");
        let before = source.stamp().unwrap();
        // Since Linux 6.13 such a write is stamped with a finer clock; before, it could fall into the same tick.
        assert!(FileState::of(file.as_file()).unwrap().is_settled());
        file.rewind().unwrap();
        file.write_all(b"CONTENT").unwrap();
        assert_eq!(change(&source, &before), "it was written to");
    }
}

#[test]
fn a_write_whose_time_was_set_back_is_found() {
    let (mut file, source) = file_of(b"content");
    let modified = file.as_file().metadata().unwrap().modified().unwrap();
    let before = source.stamp().unwrap();
    file.rewind().unwrap();
    file.write_all(b"CONTENT").unwrap();
    file.as_file().set_modified(modified).unwrap();
    assert!(change(&source, &before).contains("attributes"));
}

#[test]
fn a_file_that_became_shorter_is_an_error_and_never_zeros() {
    let (file, source) = file_of(&[1; 8192]);
    let before = source.stamp().unwrap();
    file.as_file().set_len(4096).unwrap();
    let mut buf = [0; 4096];
    source.read_at(&mut buf, 0).unwrap();
    assert!(matches!(source.read_at(&mut buf, 1), Err(SourceError::Changed { .. })));
    assert!(matches!(source.data_ranges(0..8192), Err(SourceError::Changed { .. })));
    assert!(change(&source, &before).contains("8192 to 4096"));
}

#[test]
fn what_is_no_image_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Source::open(directory.path()), Err(SourceError::Directory(_))));
    assert!(matches!(Source::open(&directory.path().join("none")), Err(SourceError::NotFound(_))));
    let error = Source::open(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.to_string(), "/dev/zero is a character device, not a file or block device");
    assert!(error.hint().contains("push -"), "{}", error.hint());
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    crate::system::test_devices::run(std::process::Command::new("mkfifo").arg(&pipe));
    assert!(matches!(Source::open(&pipe), Err(SourceError::NotStorage { what: "a pipe", .. })));
}

#[test]
fn a_device_is_read_and_a_write_to_it_is_found() {
    let Some(device) = LoopDevice::new(4 * MIB) else { return };
    device.open().write_all_at(b"content", 2 * MIB).unwrap();
    let source = Source::open(device.node()).unwrap();
    assert_eq!((source.kind(), source.length()), (SourceKind::BlockDevice, Some(4 * MIB)));
    assert_eq!(source.data_ranges(MIB..3 * MIB).unwrap(), [MIB..3 * MIB], "the kernel cannot tell");

    let before = source.stamp().unwrap();
    let mut buf = vec![0; 4 << 20];
    source.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf[2 << 20..][..7], b"content");
    source.unchanged_since(&before).unwrap();

    // Not synced: the write is still in the page cache when the device is looked at.
    let writer = device.open();
    writer.write_all_at(b"changed", 0).unwrap();
    assert!(change(&source, &before).contains("8 sectors written"));
}

#[test]
fn a_device_mounted_for_writing_is_refused() {
    let Some(device) = LoopDevice::new(16 * MIB) else { return };
    device.format();
    let mounted = Mounted::new(device.node(), "rw");
    for path in [device.node(), device.backing()] {
        match Source::open(path) {
            Err(SourceError::InUse { found: Use::Mounted { at, writable: true, .. }, .. }) => {
                assert_eq!(at, mounted.path().canonicalize().unwrap());
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

#[test]
fn a_device_mounted_read_only_is_accepted() {
    let Some(device) = LoopDevice::new(16 * MIB) else { return };
    device.format();
    let _mounted = Mounted::new(device.node(), "ro");
    Source::open(device.node()).unwrap();
    Source::open(device.backing()).unwrap();
}

#[test]
fn a_read_only_mount_of_a_writable_filesystem_is_refused() {
    let Some(device) = LoopDevice::new(16 * MIB) else { return };
    device.format();
    let mounted = Mounted::new(device.node(), "rw");
    let _bind = Mounted::new(mounted.path(), "bind,ro");
    assert!(matches!(Source::open(device.node()), Err(SourceError::InUse { .. })));
}

#[test]
fn a_disk_with_a_partition_mounted_for_writing_is_refused() {
    let Some(device) = LoopDevice::partitioned() else { return };
    device.format_partition();
    Source::open(device.node()).unwrap();
    let _mounted = Mounted::new(&device.partition(), "rw");
    for path in [device.node(), &device.partition(), device.backing()] {
        assert!(matches!(Source::open(path), Err(SourceError::InUse { .. })), "{}", path.display());
    }
}

#[test]
fn a_device_that_somebody_else_has_claimed_is_refused() {
    use rustix::fs::{Mode, OFlags};
    let Some(device) = LoopDevice::new(MIB) else { return };
    let claim = rustix::fs::open(device.node(), OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()).unwrap();
    assert!(matches!(Source::open(device.node()), Err(SourceError::Claimed { .. })));
    drop(claim);
    Source::open(device.node()).unwrap();
}
