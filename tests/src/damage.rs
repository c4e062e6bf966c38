//! What happens to files: bytes change, ends are cut off, whole files go.

use std::{
    fs::{self, File},
    path::Path,
};

use crate::files::{flip, length};

/// One kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One byte is another.
    Flip(u64),
    /// One bit is another, counted from the start of the file.
    FlipBit(u64),
    /// Only so many bytes are left.
    Truncate(u64),
    /// The file is gone.
    Remove,
    /// All bytes from here on are zero, as after a lost write.
    Zero(u64),
}

impl Damage {
    /// Does it to a file.
    pub fn inflict(self, path: &Path) {
        match self {
            Self::Flip(offset) => flip(path, offset),
            Self::FlipBit(bit) => {
                let mut bytes = fs::read(path).unwrap();
                bytes[bit as usize / 8] ^= 1 << (bit % 8);
                fs::write(path, bytes).unwrap();
            }
            Self::Truncate(left) => File::options().write(true).open(path).unwrap().set_len(left).unwrap(),
            Self::Remove => fs::remove_file(path).unwrap(),
            Self::Zero(start) => {
                let file = File::options().write(true).open(path).unwrap();
                let full = length(path);
                file.set_len(start).unwrap();
                file.set_len(full).unwrap();
            }
        }
    }
}
