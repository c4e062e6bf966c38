//! What each target holds, remembered outside of the targets.
//!
//! One file a target. It is a hint that must be earned: content counts only with an equal [`Witness`]. A file that is
//! damaged, or from another version of Imprint, reads as "nothing is known".

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use etcetera::base_strategy::{BaseStrategy, Xdg};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Override, Witness};
use crate::system::DiskIdentity;

const FORMAT: u32 = 1;

/// What a target holds, or will hold once its restore is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The target's canonical path.
    pub target: PathBuf,
    /// The repository's uuid, 32 hexadecimal digits.
    pub repository: String,
    /// The image's name.
    pub image: String,
    /// The ref that it was restored by, which an update follows.
    pub following: String,
    /// The version's number.
    pub number: u64,
    /// The version's id, 64 hexadecimal digits.
    pub version: String,
    /// The tree's root, 64 hexadecimal digits.
    pub root: String,
    /// The image's length in bytes.
    pub length: u64,
    /// What tells whether anything else wrote since.
    pub witness: Option<Witness>,
    /// Whether the restore came to its end.
    pub complete: bool,
    /// Which disk a device was: its name may mean another one later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskIdentity>,
    /// The target's length in bytes, where that is not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_length: Option<u64>,
    /// The length in bytes that its user gave a file, whatever the image's is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_length: Option<u64>,
    /// Where it is not what the version is. Of an incomplete restore: also what was there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Whether its last partition was to take what the target has more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub grown: bool,
    /// Whether the filesystem in that partition was grown too, by its own tools.
    #[serde(default, skip_serializing_if = "is_false")]
    pub filesystem_grown: bool,
    /// Whether its free space was left as it was found: earlier data may be there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub free_space_kept: bool,
    /// What it held before, which a rollback goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// So that a record without a field reads and hashes as it did before there was one.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A version that a target held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The image's name.
    pub image: String,
    /// The version's number.
    pub number: u64,
}

impl Held {
    /// The same while a restore is under way: what is left of `former` overrides may still be on the target.
    #[must_use]
    pub fn with_former(&self, former: &[Override]) -> Self {
        let mut held = self.clone();
        held.overrides.extend(former.iter().filter(|left| !self.overrides.contains(left)).cloned());
        held
    }

    /// Whether it was noted of what is at its path now, as far as names can deceive: of a file, or of this very disk.
    #[must_use]
    pub fn is_of_disk(&self, now: Option<&DiskIdentity>) -> bool {
        match (&self.disk, now) {
            (None, None) => true,
            (Some(noted), Some(now)) => noted.is_same_disk(now),
            _ => false,
        }
    }

    /// What to remember as previous when `next` takes the place of this version.
    #[must_use]
    pub fn previous_of(&self, image: &str, number: u64) -> Option<Previous> {
        let is_same = self.image == image && self.number == number;
        // A version that never arrived whole is nothing to go back to.
        if is_same || !self.complete {
            return self.previous.clone();
        }
        Some(Previous { image: self.image.clone(), number: self.number })
    }
}

/// The memory could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {what} {path}")]
pub struct MemoryError {
    /// A verb.
    pub what: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

impl MemoryError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        "make it writable for you, or set XDG_STATE_HOME to a directory that is".into()
    }
}

/// A file of the memory.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    /// BLAKE3 of `held` as JSON without blanks, in hexadecimal digits.
    checksum: String,
    held: Held,
}

/// A directory that remembers what targets hold.
#[derive(Debug, Clone)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Remembers in `directory`, which is created when there is something to remember.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// `$XDG_STATE_HOME/imprint/targets`; `None` for a user without a home.
    #[must_use]
    pub fn default_dir() -> Option<PathBuf> {
        Xdg::new().ok()?.state_dir().map(|state| state.join("imprint/targets"))
    }

    /// What the target at `path` holds, as far as is known.
    pub fn load(&self, path: &Path) -> Result<Option<Held>, MemoryError> {
        let path = canonical(path);
        let file = self.file_of(&path);
        match fs::read(&file) {
            Ok(bytes) => Ok(decode(&bytes).filter(|held| held.target == path)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(MemoryError { what: "read", path: file, source }),
        }
    }

    /// Remembers `held`, durably, in place of what was known of its target.
    ///
    /// A path that is not Unicode is forgotten instead: JSON has no way to write it.
    pub fn store(&self, held: &Held) -> Result<(), MemoryError> {
        let Some(bytes) = encode(held) else { return self.forget(&held.target) };
        let error = |what| move |source| MemoryError { what, path: self.directory.clone(), source };
        fs::create_dir_all(&self.directory).map_err(error("create"))?;
        let file = self.file_of(&held.target);
        let temporary = file.with_extension("tmp");
        write_synced(&temporary, &bytes).map_err(error("write to"))?;
        fs::rename(&temporary, &file).map_err(error("write to"))?;
        self.sync_directory()
    }

    /// Forgets, durably, what the target at `path` holds.
    pub fn forget(&self, path: &Path) -> Result<(), MemoryError> {
        let file = self.file_of(&canonical(path));
        match fs::remove_file(&file) {
            Ok(()) => self.sync_directory(),
            Err(error) if is_absent(&error) => Ok(()),
            Err(source) => Err(MemoryError { what: "remove", path: file, source }),
        }
    }

    fn file_of(&self, path: &Path) -> PathBuf {
        let name = blake3::hash(path.as_os_str().as_bytes()).to_hex();
        self.directory.join(name.as_str()).with_extension("json")
    }

    fn sync_directory(&self) -> Result<(), MemoryError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| MemoryError { what: "sync", path: self.directory.clone(), source })
    }
}

/// As [`Target::path`](super::Target::path) has it; for a target that is gone, as good as it gets.
fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn encode(held: &Held) -> Option<Vec<u8>> {
    let record = Record { format: FORMAT, checksum: checksum(held)?, held: held.clone() };
    serde_json::to_vec_pretty(&record).ok()
}

fn decode(bytes: &[u8]) -> Option<Held> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let intact = record.format == FORMAT && checksum(&record.held)? == record.checksum;
    intact.then_some(record.held)
}

fn checksum(held: &Held) -> Option<String> {
    let bytes = serde_json::to_vec(held).ok()?;
    Some(blake3::hash(&bytes).to_hex().to_string())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(target: &Path) -> Held {
        Held {
            target: target.to_owned(),
            repository: "0123456789abcdef0123456789abcdef".into(),
            image: "lab/workstation".into(),
            following: "lab/workstation:stable".into(),
            number: 7,
            version: "ab".repeat(32),
            root: "cd".repeat(32),
            length: 1 << 30,
            witness: Some(Witness::File { device: 1, inode: 2, size: 1 << 30, mtime_ns: 4, ctime_ns: i64::MAX }),
            complete: true,
            disk: None,
            target_length: Some(2 << 30),
            given_length: Some(2 << 30),
            overrides: vec![Override { offset: 512, bytes: vec![1, 0], image_bytes: vec![2, 0] }],
            grown: true,
            filesystem_grown: false,
            free_space_kept: false,
            previous: Some(Previous { image: "lab/workstation".into(), number: 6 }),
        }
    }

    #[test]
    fn what_was_held_before_is_the_last_version_that_arrived_whole() {
        let before = |number| Some(Previous { image: "lab/workstation".into(), number });
        let seven = held(Path::new("/x"));
        assert_eq!(seven.previous_of("lab/workstation", 8), before(7));
        assert_eq!(seven.previous_of("lab/workstation", 7), before(6));
        let broken = Held { complete: false, ..seven };
        assert_eq!(broken.previous_of("lab/workstation", 8), before(6));
    }

    /// A memory, the path of a target, and the file that remembers it.
    fn remembered() -> (tempfile::TempDir, Memory, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().canonicalize().unwrap().join("disk.raw");
        fs::write(&target, "content").unwrap();
        let memory = Memory::new(directory.path().join("state/targets"));
        memory.store(&held(&target)).unwrap();
        let file = memory.file_of(&target);
        (directory, memory, target, file)
    }

    #[test]
    fn what_is_stored_is_loaded_until_it_is_forgotten() {
        let (_directory, memory, target, _) = remembered();
        assert_eq!(memory.load(&target).unwrap(), Some(held(&target)));
        let incomplete = Held { complete: false, witness: None, ..held(&target) };
        memory.store(&incomplete).unwrap();
        assert_eq!(memory.load(&target).unwrap(), Some(incomplete));
        memory.forget(&target).unwrap();
        assert_eq!(memory.load(&target).unwrap(), None);
        memory.forget(&target).unwrap();
    }

    #[test]
    fn a_link_to_a_target_means_the_target() {
        let (directory, memory, target, _) = remembered();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(memory.load(&link).unwrap(), Some(held(&target)));
        memory.forget(&link).unwrap();
        assert_eq!(memory.load(&target).unwrap(), None);
    }

    #[test]
    fn nothing_is_known_without_a_directory() {
        let memory = Memory::new("/nonexistent/imprint");
        assert_eq!(memory.load(Path::new("/tmp")).unwrap(), None);
        memory.forget(Path::new("/tmp")).unwrap();
    }

    #[test]
    fn a_damaged_memory_knows_nothing() {
        let (_directory, memory, target, file) = remembered();
        let intact = fs::read(&file).unwrap();
        for length in 0..intact.len() {
            fs::write(&file, &intact[..length]).unwrap();
            assert_eq!(memory.load(&target).unwrap(), None, "cut to {length} bytes");
        }
        for at in 0..intact.len() {
            let mut damaged = intact.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            let loaded = memory.load(&target).unwrap();
            assert!(loaded.is_none() || loaded == Some(held(&target)), "byte {at} gave something else");
        }
    }

    #[test]
    fn a_memory_of_another_format_or_target_knows_nothing() {
        let (_directory, memory, target, file) = remembered();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert_eq!(memory.load(&target).unwrap(), None);
        let other = encode(&held(Path::new("/dev/sdz"))).unwrap();
        fs::write(&file, other).unwrap();
        assert_eq!(memory.load(&target).unwrap(), None);
    }

    #[test]
    fn a_path_that_is_not_unicode_is_not_remembered() {
        let (_directory, memory, ..) = remembered();
        let target = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/\xff"));
        memory.store(&held(target)).unwrap();
        assert_eq!(memory.load(target).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_with_a_hint() {
        let (directory, _, target, _) = remembered();
        let error = Memory::new(directory.path().join("disk.raw")).store(&held(&target)).unwrap_err();
        assert!(error.hint().contains("XDG_STATE_HOME"));
    }
}
