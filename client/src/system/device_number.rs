//! Device numbers: how the kernel names a block device whatever its path is.

use std::{fmt, fs::Metadata, os::unix::fs::MetadataExt, str::FromStr};

/// Major and minor number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// The device that a device node stands for.
    #[must_use]
    pub fn of_node(node: &Metadata) -> Self {
        Self::from_raw(node.rdev())
    }

    fn from_raw(raw: u64) -> Self {
        Self { major: rustix::fs::major(raw), minor: rustix::fs::minor(raw) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The text is not `MAJOR:MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADeviceNumber;

impl FromStr for DeviceNumber {
    type Err = NotADeviceNumber;

    fn from_str(text: &str) -> Result<Self, NotADeviceNumber> {
        let (major, minor) = text.trim_end().split_once(':').ok_or(NotADeviceNumber)?;
        let number = |digits: &str| digits.parse().map_err(|_| NotADeviceNumber);
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_sysfs_writes_them() {
        assert_eq!("259:3\n".parse(), Ok(DeviceNumber { major: 259, minor: 3 }));
        for text in ["", "8", "8:", "8:x", "-1:2"] {
            assert_eq!(text.parse::<DeviceNumber>(), Err(NotADeviceNumber), "{text}");
        }
    }
}
