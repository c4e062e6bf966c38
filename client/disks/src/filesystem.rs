//! The seam for filesystems: what one has to say, and those that are there.

use crate::{
    ext::Ext,
    fat::Fat,
    files::Stoppable,
    map::{Map, MapOptions},
    read::{ReadError, Volume},
    reason::{Obstacle, Reason, settle},
    swap::Swap,
};

/// What a filesystem says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// What it is: `ext4`, `fat32`, `swap`.
    pub kind: &'static str,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// What the system finds it by.
    pub uuid: Option<String>,
}

/// One kind of filesystem.
///
/// A new one goes into [`FILESYSTEMS`]; nothing else has to change. `docs/disks.md` says what is understood.
pub(crate) trait Filesystem: Sync {
    /// What it says of itself, if the volume begins as this filesystem does. Reads no more than its first structures.
    fn identify(&self, volume: &Volume<'_>) -> Result<Option<Identity>, ReadError>;

    /// What it uses. Only for a volume that was identified.
    ///
    /// # Errors
    /// Whatever is not known for certain.
    fn map(&self, volume: &Volume<'_>, partition_type: PartitionType, options: &MapOptions) -> Result<Map, Obstacle>;

    /// Names its files. Only for a volume that was identified.
    ///
    /// # Errors
    /// A filesystem that is not clean, or whose directories are not what they must be.
    fn files(&self, volume: &Volume<'_>, visitor: &mut Stoppable<'_>) -> Result<(), Obstacle>;
}

/// What a partition table says of a partition's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionType {
    /// Swap space of Linux.
    Swap,
    /// Anything else, or no table.
    Other,
}

static FILESYSTEMS: &[&dyn Filesystem] = &[&Ext, &Fat, &Swap];

/// A filesystem, or another format, that is known and not understood: a name, an offset, and what stands there.
/// Where one of them stood before something else, both signatures may be there; then neither is believed.
static OTHERS: &[(&str, u64, &[u8])] = &[
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("bitlocker", 3, b"-FVE-FS-"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("lvm", 0x18, b"LVM2 001"),
    ("lvm", 0x218, b"LVM2 001"),
    ("lvm", 0x418, b"LVM2 001"),
    ("lvm", 0x618, b"LVM2 001"),
    ("md raid", 0, b"\xfc\x4e\x2b\xa9"),
    ("md raid", 4096, b"\xfc\x4e\x2b\xa9"),
    ("bcache", 4096 + 0x18, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    ("bcachefs", 4096 + 0x18, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("hfs+", 1024, b"H+\0\x04"),
    ("apfs", 32, b"NXSB"),
    ("reiserfs", 0x1_0034, b"ReIsEr"),
    ("jfs", 0x8000, b"JFS1"),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    ("zfs", 0x2_0000, b"\x0c\xb1\xba\0\0\0\0\0"),
    ("zfs", 0x2_0000, b"\0\0\0\0\0\xba\xb1\x0c"),
    ("iso9660", 0x8001, b"CD001"),
];

/// What was found on a volume.
pub(crate) struct Found {
    pub(crate) identity: Option<Identity>,
    pub(crate) map: Result<Map, Reason>,
}

/// Whether a filesystem that is understood begins on the volume.
pub(crate) fn is_identified(volume: &Volume<'_>) -> Result<Option<&'static str>, ReadError> {
    for filesystem in FILESYSTEMS {
        if let Some(identity) = filesystem.identify(volume)? {
            return Ok(Some(identity.kind));
        }
    }
    Ok(None)
}

/// Finds out what is on a volume, and maps it.
pub(crate) fn examine(
    volume: &Volume<'_>,
    partition_type: PartitionType,
    options: &MapOptions,
) -> Result<Found, ReadError> {
    Ok(match identify(volume)? {
        Ok((filesystem, identity)) => {
            let map = settle(filesystem.map(volume, partition_type, options))?;
            Found { identity: Some(identity), map }
        }
        Err(reason) => {
            let name = if let Reason::NotSupported(kind) = reason { Some(kind) } else { None };
            Found { identity: name.map(|kind| Identity { kind, ..Identity::default() }), map: Err(reason) }
        }
    })
}

/// The filesystem on a volume.
pub(crate) fn find(volume: &Volume<'_>) -> Result<Result<&'static dyn Filesystem, Reason>, ReadError> {
    Ok(identify(volume)?.map(|(filesystem, _)| filesystem))
}

/// The filesystem on a volume, if it is the only thing that seems to be there.
fn identify(volume: &Volume<'_>) -> Result<Result<(&'static dyn Filesystem, Identity), Reason>, ReadError> {
    let mut identified = None;
    for filesystem in FILESYSTEMS {
        match (filesystem.identify(volume)?, &identified) {
            (None, _) => {}
            (Some(identity), None) => identified = Some((*filesystem, identity)),
            (Some(other), Some((_, one))) => return Ok(Err(Reason::Ambiguous(one.kind, other.kind))),
        }
    }
    Ok(match (identified, find_other(volume)?) {
        (Some(found), None) => Ok(found),
        (Some((_, one)), Some(other)) => Err(Reason::Ambiguous(one.kind, other)),
        (None, Some(kind)) => Err(Reason::NotSupported(kind)),
        (None, None) => Err(Reason::NoFilesystem),
    })
}

fn find_other(volume: &Volume<'_>) -> Result<Option<&'static str>, ReadError> {
    for (kind, offset, signature) in OTHERS {
        let mut found = [0; 16];
        let found = &mut found[..signature.len()];
        if volume.try_read(*offset, found)?.is_some() && *found == **signature {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}
