//! The boot sector: geometry.

use super::{table::FIRST_CLUSTER, unclean};
use crate::{
    fields::{Fields, name},
    filesystem::Identity,
    read::{ReadError, Volume},
    reason::{Obstacle, limit, require},
};

const LENGTH: usize = 512;
/// Most clusters: their table is kept in memory, 64 MiB at most.
const MAX_CLUSTERS: u64 = 1 << 24;
/// The part of the boot sector that FAT32 keeps a copy of and that nobody changes but at its making.
const GEOMETRY_BYTES: usize = 0x41;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FatType {
    Fat12,
    Fat16,
    Fat32,
}

impl FatType {
    const fn name(self) -> &'static str {
        match self {
            Self::Fat12 => "fat12",
            Self::Fat16 => "fat16",
            Self::Fat32 => "fat32",
        }
    }
}

/// What the boot sector says. Offsets and lengths were checked against the volume.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) kind: FatType,
    pub(super) media: u8,
    pub(super) sector_bytes: u64,
    pub(super) cluster_bytes: u64,
    pub(super) clusters: u64,
    /// Byte where the first table begins.
    pub(super) tables_start: u64,
    pub(super) table_bytes: u64,
    pub(super) tables: u64,
    /// Bytes of the root directory that has its own place; FAT32 has none.
    pub(super) root_bytes: u64,
    pub(super) root_cluster: u32,
    pub(super) information_sector: u16,
}

/// What a boot sector says of itself, if there is one.
pub(super) fn identify(volume: &Volume<'_>) -> Result<Option<Identity>, ReadError> {
    let mut raw = [0; LENGTH];
    if volume.try_read(0, &mut raw)?.is_none() {
        return Ok(None);
    }
    let raw = Fields(&raw);
    Ok(Boot::parse(raw).map(|boot| {
        let at = if boot.kind == FatType::Fat32 { 0x42 } else { 0x26 };
        let serial = raw.u32(at + 1);
        let has_names = raw.u8(at) == 0x29;
        let label = name(&raw.array::<11>(at + 5)).filter(|label| has_names && label != "NO NAME");
        let uuid = has_names.then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff));
        Identity { kind: boot.kind.name(), label, uuid }
    }))
}

impl Boot {
    /// `None` for what is no boot sector of a FAT.
    fn parse(raw: Fields<'_>) -> Option<Self> {
        let sector_bytes = u64::from(raw.u16(0xb));
        let sectors_per_cluster = u64::from(raw.u8(0xd));
        let reserved = u64::from(raw.u16(0xe));
        let tables = u64::from(raw.u8(0x10));
        let media = raw.u8(0x15);
        let looks_like_one = raw.u16(510) == 0xaa55
            && matches!(raw.u8(0), 0xeb | 0xe9)
            && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
            && sectors_per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            && (media == 0xf0 || media >= 0xf8);
        if !looks_like_one {
            return None;
        }
        let is_32 = raw.u16(0x16) == 0;
        let table_sectors = if is_32 { raw.u32(0x24).into() } else { u64::from(raw.u16(0x16)) };
        let sectors = if raw.u16(0x13) == 0 { raw.u32(0x20).into() } else { u64::from(raw.u16(0x13)) };
        let root_bytes = u64::from(raw.u16(0x11)) * 32;
        let before_data = reserved + tables * table_sectors + root_bytes.div_ceil(sector_bytes);
        let clusters = sectors.checked_sub(before_data)? / sectors_per_cluster;
        let kind = match clusters {
            _ if is_32 => FatType::Fat32,
            0..=4084 => FatType::Fat12,
            4085..=65524 => FatType::Fat16,
            _ => return None,
        };
        let is_possible = table_sectors > 0 && clusters > 0 && (root_bytes == 0) == is_32;
        is_possible.then(|| Self {
            kind,
            media,
            sector_bytes,
            cluster_bytes: sectors_per_cluster * sector_bytes,
            clusters,
            tables_start: reserved * sector_bytes,
            table_bytes: table_sectors * sector_bytes,
            tables,
            root_bytes,
            root_cluster: if is_32 { raw.u32(0x2c) } else { 0 },
            information_sector: if is_32 { raw.u16(0x30) } else { 0 },
        })
    }

    pub(super) fn read(volume: &Volume<'_>) -> Result<Self, Obstacle> {
        let mut bytes = [0; LENGTH];
        volume.read(0, &mut bytes, "boot sector")?;
        let raw = Fields(&bytes);
        let boot = Self::parse(raw).ok_or_else(|| Obstacle::invalid("boot sector", "is none"))?;
        let is_32 = boot.kind == FatType::Fat32;
        let flags = raw.u8(if is_32 { 0x41 } else { 0x25 });
        unclean(flags & 1 != 0, flags & 2 != 0)?;
        if is_32 {
            require(raw.u16(0x2a) == 0, "version of FAT32", "is unknown")?;
            require(raw.u16(0x28) == 0, "tables", "are not all kept up")?;
            boot.check_copy(volume, &bytes, raw.u16(0x32).into())?;
        }
        require(boot.end() <= volume.length(), "filesystem", "is longer than its partition")?;
        limit("clusters", boot.clusters, MAX_CLUSTERS)?;
        require(boot.entry_bytes() <= boot.table_bytes, "tables", "are too short")?;
        Ok(boot)
    }

    /// Compares with the copy that FAT32 keeps of its boot sector.
    fn check_copy(&self, volume: &Volume<'_>, boot_sector: &[u8; LENGTH], sector: u64) -> Result<(), Obstacle> {
        if matches!(sector, 0 | 0xffff) {
            return Ok(());
        }
        let copy = volume.read_vec(sector * self.sector_bytes, LENGTH, "copy of the boot sector")?;
        require(copy[..GEOMETRY_BYTES] == boot_sector[..GEOMETRY_BYTES], "copy of the boot sector", "is different")
    }

    /// Byte where the root directory begins, if it has its own place.
    pub(super) const fn root_start(&self) -> u64 {
        self.tables_start + self.tables * self.table_bytes
    }

    /// Byte where the first cluster begins.
    pub(super) fn data_start(&self) -> u64 {
        self.root_start() + self.root_bytes.next_multiple_of(self.sector_bytes)
    }

    /// Byte where a cluster begins; the first is 2.
    pub(super) fn cluster_start(&self, cluster: u32) -> u64 {
        self.data_start() + u64::from(cluster.saturating_sub(FIRST_CLUSTER)) * self.cluster_bytes
    }

    fn end(&self) -> u64 {
        self.data_start() + self.clusters * self.cluster_bytes
    }

    /// Bytes of a table that stand for something.
    pub(super) const fn entry_bytes(&self) -> u64 {
        let entries = self.clusters + 2;
        match self.kind {
            FatType::Fat12 => (entries * 3).div_ceil(2),
            FatType::Fat16 => entries * 2,
            FatType::Fat32 => entries * 4,
        }
    }
}
