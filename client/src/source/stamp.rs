//! Stamps: whether a source was written to while it was read.

use crate::system::{DeviceState, FileState};

/// What identified a source's content at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(State);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    File(FileState),
    Device(DeviceState),
    /// A stream is read once; nothing else can be asked of it.
    Stream,
}

impl Stamp {
    pub(super) const fn file(state: FileState) -> Self {
        Self(State::File(state))
    }

    pub(super) const fn device(state: DeviceState) -> Self {
        Self(State::Device(state))
    }

    pub(super) const fn stream() -> Self {
        Self(State::Stream)
    }

    /// What differs between an earlier stamp and this one.
    pub(super) fn difference_from(&self, before: &Self) -> Option<String> {
        match (&before.0, &self.0) {
            (State::File(before), State::File(after)) => file_difference(before, after),
            (State::Device(before), State::Device(after)) => device_difference(before, after),
            (State::Stream, State::Stream) => None,
            _ => Some("it is another kind of source".into()),
        }
    }
}

fn file_difference(before: &FileState, after: &FileState) -> Option<String> {
    if (before.device, before.inode) != (after.device, after.inode) {
        Some("it is another file".into())
    } else if before.size != after.size {
        Some(format!("its size went from {} to {} bytes", before.size, after.size))
    } else if before.mtime_ns != after.mtime_ns {
        Some("it was written to".into())
    } else if before.ctime_ns != after.ctime_ns {
        Some("its attributes changed, and with them perhaps its content".into())
    } else {
        None
    }
}

fn device_difference(before: &DeviceState, after: &DeviceState) -> Option<String> {
    if (&before.boot_id, before.disk_sequence) != (&after.boot_id, after.disk_sequence) {
        Some("it is another disk".into())
    } else if (before.start, before.length) != (after.start, after.length) {
        Some(format!("its size or place went from {} to {} bytes", before.length, after.length))
    } else if before.written != after.written {
        Some(write_difference(before, after))
    } else {
        None
    }
}

fn write_difference(before: &DeviceState, after: &DeviceState) -> String {
    match (before.written, after.written) {
        (Some(before), Some(after)) if before.own != after.own => {
            let since = after.own - before.own;
            format!("it was written to ({} sectors written, {} discarded)", since.written, since.discarded)
        }
        (Some(_), Some(_)) => "its disk was written to outside of the partitions".into(),
        _ => "the kernel's count of writes to it could not be read".into(),
    }
}
