//! Opening a target: every reason to refuse it is found before anything is changed.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use rustix::{
    fs::{FlockOperation, OFlags, SeekFrom},
    io::Errno,
};

use super::{Inner, TargetError, TargetKind, TargetOptions, writeback::Writeback};
use crate::system::{BlockDevice, DeviceNumber, Use, block_device::SYSFS, node, usage::Usage};

const FILE_SECTOR_BYTES: u32 = 512;

/// What the image needs of its target.
struct Needs {
    image_length: u64,
    /// What the image was fitted to.
    length: Option<u64>,
    sector_size: u32,
}

impl Needs {
    /// What a file gets.
    fn file_length(&self) -> u64 {
        self.length.unwrap_or(self.image_length)
    }
}

pub(super) fn open(
    path: &Path,
    image_length: u64,
    sector_size: u32,
    options: &TargetOptions,
) -> Result<Inner, TargetError> {
    let needs = Needs { image_length, length: options.length, sector_size };
    match fs::metadata(path) {
        Ok(metadata) => open_existing(path, &metadata, &needs, options),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, &needs, options),
        Err(source) => Err(open_error(path, source)),
    }
}

fn open_existing(
    path: &Path,
    metadata: &Metadata,
    needs: &Needs,
    options: &TargetOptions,
) -> Result<Inner, TargetError> {
    let kind = metadata.file_type();
    let canonical = || fs::canonicalize(path).map_err(|source| open_error(path, source));
    if kind.is_block_device() {
        open_device(canonical()?, metadata, needs)
    } else if kind.is_file() {
        let path = canonical()?;
        refuse_forbidden(&path, options)?;
        open_file(path, metadata, needs)
    } else if kind.is_dir() {
        Err(TargetError::Directory(path.to_owned()))
    } else {
        Err(TargetError::NotStorage { path: path.to_owned(), what: node::describe(metadata) })
    }
}

fn create(path: &Path, needs: &Needs, options: &TargetOptions) -> Result<Inner, TargetError> {
    let path = new_path(path)?;
    refuse_forbidden(&path, options)?;
    let created = File::options().read(true).write(true).create_new(true).open(&path);
    let file = created.map_err(|source| open_error(&path, source))?;
    lock(&file, &path)?;
    if let Err(source) = file.set_len(needs.file_length()) {
        // Refused, so nothing may have changed; if even removing fails, an empty file remains.
        let _ = fs::remove_file(&path);
        return Err(TargetError::Resize { path, image_length: needs.file_length(), source });
    }
    Ok(inner_file(file, path, TargetKind::NewFile, needs))
}

/// The canonical path of a file that does not exist yet.
fn new_path(path: &Path) -> Result<PathBuf, TargetError> {
    if path.is_symlink() {
        return Err(TargetError::DanglingLink(path.to_owned()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let missing = || TargetError::MissingDirectory { path: path.to_owned(), directory: parent.to_owned() };
    let name = path.file_name().ok_or_else(missing)?;
    let directory = fs::canonicalize(parent).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => missing(),
        _ => open_error(path, source),
    })?;
    if directory.starts_with("/dev") && !directory.starts_with("/dev/shm") {
        return Err(TargetError::NoSuchDevice(path.to_owned()));
    }
    Ok(directory.join(name))
}

fn refuse_forbidden(path: &Path, options: &TargetOptions) -> Result<(), TargetError> {
    for directory in &options.forbidden_below {
        // A directory that does not exist yet cannot hold the target.
        let Ok(directory) = fs::canonicalize(directory) else { continue };
        if path.starts_with(&directory) {
            return Err(TargetError::Forbidden { path: path.to_owned(), directory });
        }
    }
    Ok(())
}

fn open_file(path: PathBuf, metadata: &Metadata, needs: &Needs) -> Result<Inner, TargetError> {
    // Root may write to it all the same, but somebody took the trouble to protect it.
    if metadata.permissions().readonly() {
        return Err(TargetError::ReadOnly { path });
    }
    refuse_uses(&path, &Usage::read()?.of_file(&path, metadata)?)?;
    let file = opened(&path, node::open_expected(&path, metadata, OFlags::RDWR))?;
    lock(&file, &path)?;
    // Setting even the same length would change the file's times, and with them lose its witness.
    if metadata.len() != needs.file_length() {
        let error = |source| TargetError::Resize { path: path.clone(), image_length: needs.file_length(), source };
        file.set_len(needs.file_length()).map_err(error)?;
    }
    Ok(inner_file(file, path, TargetKind::File, needs))
}

fn inner_file(file: File, path: PathBuf, kind: TargetKind, needs: &Needs) -> Inner {
    Inner {
        file,
        path,
        kind,
        device: None,
        length: needs.file_length(),
        image_length: needs.image_length,
        sector_size: FILE_SECTOR_BYTES,
        sync_failed: AtomicBool::new(false),
        writeback: Writeback::default(),
    }
}

/// Keeps two restores from writing to one file, and a restore from writing to a running virtual machine's disk.
fn lock(file: &File, path: &Path) -> Result<(), TargetError> {
    let refuse = |error| match error {
        Errno::WOULDBLOCK | Errno::ACCESS => Err(TargetError::Claimed { path: path.to_owned() }),
        // Not every filesystem has locks.
        _ => Ok(()),
    };
    // QEMU takes fcntl locks. Ours would be lost with the first descriptor of the file that is closed, so it is
    // only tried, and flock is what is kept.
    rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).or_else(refuse)?;
    let _ = rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingUnlock);
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).or_else(refuse)
}

fn open_device(path: PathBuf, metadata: &Metadata, needs: &Needs) -> Result<Inner, TargetError> {
    let device = BlockDevice::find(Path::new(SYSFS), DeviceNumber::of_node(metadata))?;
    refuse_uses(&path, &Usage::read()?.of_device(&device)?)?;
    // The kernel refuses what was mounted since, and keeps others from mounting it.
    let file = opened(&path, node::open_exclusive(&path, metadata, OFlags::RDWR))?;
    let length = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| open_error(&path, error))?;
    let sector_size = rustix::fs::ioctl_blksszget(&file).map_err(|error| open_error(&path, error))?;
    match needs.length {
        Some(fitted) if fitted != length => return Err(TargetError::Replaced(path)),
        None if length < needs.image_length => {
            return Err(TargetError::TooSmall { path, length, image_length: needs.image_length });
        }
        _ => {}
    }
    if sector_size > FILE_SECTOR_BYTES && sector_size != needs.sector_size {
        return Err(TargetError::SectorSize { path, device: sector_size, image: needs.sector_size });
    }
    node::drop_cached_pages(&file);
    Ok(Inner {
        file,
        path,
        kind: TargetKind::BlockDevice,
        device: Some(device),
        length,
        image_length: needs.image_length,
        sector_size,
        sync_failed: AtomicBool::new(false),
        writeback: Writeback::default(),
    })
}

fn refuse_uses(path: &Path, uses: &[Use]) -> Result<(), TargetError> {
    match uses.first() {
        Some(found) => Err(TargetError::InUse { path: path.to_owned(), found: found.clone() }),
        None => Ok(()),
    }
}

/// What opening for writing gave: what was expected, something else by now, or an error.
fn opened(path: &Path, result: io::Result<Option<File>>) -> Result<File, TargetError> {
    let path = path.to_owned();
    match result {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(TargetError::Replaced(path)),
        Err(error) if node::is_busy(&error) => Err(TargetError::Claimed { path }),
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Err(TargetError::ReadOnly { path }),
        Err(source) => Err(TargetError::Open { path, source }),
    }
}

fn open_error(path: &Path, error: impl Into<io::Error>) -> TargetError {
    TargetError::Open { path: path.to_owned(), source: error.into() }
}
