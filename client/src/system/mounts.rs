//! Mounted filesystems, from `/proc/self/mountinfo`.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{DeviceNumber, SystemError, escape::unescape, read_text};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What `stat` gives for files in it; for Btrfs and others not the number of a block device.
    pub device: DeviceNumber,
    /// Where it is.
    pub mount_point: PathBuf,
    /// What it was mounted from, mostly the path of a device node.
    pub source: PathBuf,
    /// The filesystem may write, even if this mount point may not (a read-only bind mount of a writable one).
    pub writable: bool,
}

/// The filesystems mounted in this process's mount namespace.
pub fn read() -> Result<Vec<Mount>, SystemError> {
    let path = Path::new(MOUNTINFO);
    let text = read_text(path)?;
    parse(&text).map_err(|line| SystemError::unexpected(path, &line))
}

/// Parses `mountinfo`; the error is the line that is not one of it.
fn parse(text: &str) -> Result<Vec<Mount>, String> {
    text.lines().map(|line| parse_line(line).ok_or_else(|| line.to_owned())).collect()
}

// 36 35 98:0 /root /mount/point mount,options optional:1 fields - type source super,options
fn parse_line(line: &str) -> Option<Mount> {
    let (place, filesystem) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let device = place.next()?.parse().ok()?;
    let mount_point = path(place.nth(1)?);
    let mut filesystem = filesystem.split(' ').skip(1);
    let source = path(filesystem.next()?);
    let writable = !filesystem.next()?.split(',').any(|option| option == "ro");
    Some(Mount { device, mount_point, source, writable })
}

fn path(escaped: &str) -> PathBuf {
    OsString::from_vec(unescape(escaped)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard,errors=remount-ro
40 27 8:17 / /mnt/my\040disk ro,nosuid - vfat /dev/sdb1 ro,fmask=0022
41 27 254:0 /home /srv ro,relatime - ext4 /dev/vda rw,discard
42 27 0:50 / /mnt/empty rw - tmpfs  rw
";

    fn mounts() -> Vec<Mount> {
        parse(SAMPLE).unwrap()
    }

    #[test]
    fn lines_give_device_place_and_source() {
        let root = &mounts()[1];
        assert_eq!(root.device, DeviceNumber { major: 254, minor: 0 });
        assert_eq!((root.mount_point.as_path(), root.source.as_path()), (Path::new("/"), Path::new("/dev/vda")));
    }

    #[test]
    fn blanks_in_mount_points_are_decoded() {
        assert_eq!(mounts()[2].mount_point, Path::new("/mnt/my disk"));
    }

    #[test]
    fn the_filesystem_decides_whether_it_is_writable() {
        let writable: Vec<_> = mounts().iter().map(|mount| mount.writable).collect();
        assert_eq!(writable, [true, true, false, true, true], "a read-only bind mount does not stop others");
    }

    #[test]
    fn an_unknown_line_is_an_error() {
        assert_eq!(parse("22 27 0:21 / /proc rw").unwrap_err(), "22 27 0:21 / /proc rw");
        assert!(parse("22 27 x / /a rw - ext4 b rw").is_err());
    }
}
