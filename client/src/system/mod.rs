//! What the kernel says about files and block devices: who uses them, how large they are, what was written.
//!
//! Parsers take text and return values; reading `/proc` and `/sys` is kept apart from them. A file of the kernel
//! that should be there and cannot be read is an error, never "nobody uses it".

pub mod block_device;
pub mod clock;
pub mod counters;
pub mod device_number;
pub mod disk_identity;
pub mod error;
mod escape;
pub mod identity;
pub mod mounts;
pub mod node;
pub mod ranges;
pub mod swaps;
#[cfg(test)]
pub(crate) mod test_devices;
pub mod usage;

pub use block_device::BlockDevice;
pub use device_number::DeviceNumber;
pub use disk_identity::DiskIdentity;
pub use error::SystemError;
pub use identity::{DeviceState, FileState};
pub use usage::Use;

use std::{fs, path::Path};

/// Reads a small file of `/proc` or `/sys`.
fn read_text(path: &Path) -> Result<String, SystemError> {
    let bytes = fs::read(path).map_err(|source| SystemError::read(path, source))?;
    // Paths in these files may hold any bytes; a lossy one only fails to match, and O_EXCL still guards.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
