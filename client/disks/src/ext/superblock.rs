//! The superblock: geometry, features, and whether the filesystem is clean.

use super::checksums::Checksums;
use crate::{
    checksum::crc32c,
    fields::{Fields, name, uuid},
    filesystem::Identity,
    read::{ReadError, Volume},
    reason::{Obstacle, Reason, limit, require},
};

const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Most blocks of a filesystem: 64 TiB of the usual ones. Empty sets of so many take 12 MiB each.
const MAX_BLOCKS: u64 = 1 << 34;
/// Most groups, which take some 70 bytes each; 64 TiB have as many.
const MAX_GROUPS: u64 = 1 << 19;

pub(super) mod feature {
    //! Bits of the three sets of features.
    pub(crate) const HAS_JOURNAL: u32 = 0x4;
    pub(crate) const SPARSE_SUPER2: u32 = 0x200;
    /// Directories, extended attributes, room to grow, fast commits, the orphan file.
    pub(crate) const KNOWN_COMPATIBLE: u32 =
        HAS_JOURNAL | SPARSE_SUPER2 | 0x1 | 0x8 | 0x10 | 0x20 | 0x400 | 0x800 | 0x1000;

    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const BITS_64: u32 = 0x80;
    pub(crate) const MMP: u32 = 0x100;
    pub(crate) const CHECKSUM_SEED: u32 = 0x2000;
    /// Also file types, `flex_bg`, `ea_inode`, `largedir`, `inline_data`, `encrypt`, `casefold`.
    pub(crate) const KNOWN_INCOMPATIBLE: u32 =
        META_BG | EXTENTS | BITS_64 | MMP | CHECKSUM_SEED | 0x2 | 0x200 | 0x400 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
    /// What ext2 and ext3 know: file types, the journal, `meta_bg`.
    pub(crate) const OLD_INCOMPATIBLE: u32 = 0x2 | RECOVER | META_BG;

    pub(crate) const SPARSE_SUPER: u32 = 0x1;
    pub(crate) const GROUP_CHECKSUMS: u32 = 0x10;
    pub(crate) const BIGALLOC: u32 = 0x200;
    pub(crate) const METADATA_CHECKSUMS: u32 = 0x400;
    pub(crate) const ORPHAN_PRESENT: u32 = 0x1_0000;
    /// Also large and huge files, `dir_nlink`, `extra_isize`, quota, read-only, project, verity.
    pub(crate) const KNOWN_READ_ONLY: u32 = SPARSE_SUPER
        | GROUP_CHECKSUMS
        | BIGALLOC
        | METADATA_CHECKSUMS
        | 0x2
        | 0x8
        | 0x20
        | 0x40
        | 0x100
        | 0x1000
        | 0x2000
        | 0x8000;
    /// What ext2 and ext3 know: sparse superblocks, large files.
    pub(crate) const OLD_READ_ONLY: u32 = SPARSE_SUPER | 0x2;
}

/// What the superblock says, checked for what can be checked in it alone.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) compatible: u32,
    pub(super) incompatible: u32,
    pub(super) read_only: u32,
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) first_data_block: u64,
    pub(super) block_bytes: u64,
    /// Blocks of a cluster, the unit of the bitmaps; 1 without bigalloc.
    pub(super) cluster_blocks: u64,
    pub(super) blocks_per_group: u64,
    pub(super) inodes_per_group: u32,
    pub(super) groups: u32,
    pub(super) inode_bytes: usize,
    pub(super) descriptor_bytes: usize,
    pub(super) first_inode: u32,
    pub(super) journal_inode: u32,
    pub(super) reserved_descriptor_blocks: u64,
    pub(super) first_meta_group: u64,
    pub(super) backup_groups: [u32; 2],
    pub(super) mmp_block: u64,
    pub(super) checksums: Checksums,
}

/// What a superblock says of itself, if there is one.
pub(super) fn identify(volume: &Volume<'_>) -> Result<Option<Identity>, ReadError> {
    let mut raw = [0; LENGTH];
    if volume.try_read(OFFSET, &mut raw)?.is_none() {
        return Ok(None);
    }
    let raw = Fields(&raw);
    let looks_like_one = raw.u16(0x38) == MAGIC && raw.u32(0x18) <= 6 && raw.u32(0x4c) <= 1;
    Ok(looks_like_one.then(|| Identity {
        kind: kind(raw),
        label: name(&raw.array::<16>(0x78)),
        uuid: uuid(raw.array(0x68)),
    }))
}

/// Named after the oldest of the three that could mount it, as the system's tools do.
fn kind(raw: Fields<'_>) -> &'static str {
    let newer = raw.u32(0x60) & !feature::OLD_INCOMPATIBLE != 0 || raw.u32(0x64) & !feature::OLD_READ_ONLY != 0;
    match raw.u32(0x5c) & feature::HAS_JOURNAL != 0 {
        _ if newer => "ext4",
        true => "ext3",
        false => "ext2",
    }
}

impl Superblock {
    pub(super) fn read(volume: &Volume<'_>) -> Result<Self, Obstacle> {
        let mut bytes = [0; LENGTH];
        volume.read(OFFSET, &mut bytes, "superblock")?;
        let raw = Fields(&bytes);
        // Features first: they say what everything else means. Before revision 1 there were none.
        let dynamic = raw.u32(0x4c) == 1;
        let features = if dynamic { [raw.u32(0x5c), raw.u32(0x60), raw.u32(0x64)] } else { [0; 3] };
        check_features(kind(raw), features)?;
        if features[2] & feature::METADATA_CHECKSUMS != 0 {
            require(raw.u8(0x175) == 1, "checksum type", "is unknown")?;
            if crc32c(u32::MAX, &bytes[..0x3fc]) != raw.u32(0x3fc) {
                return Err(Reason::Checksum { what: "superblock", number: 0 }.into());
            }
        }
        check_clean(raw, features)?;
        let superblock = Self::parse(raw, features, dynamic)?;
        superblock.check_geometry(raw, volume)?;
        Ok(superblock)
    }

    fn parse(
        raw: Fields<'_>,
        [compatible, incompatible, read_only]: [u32; 3],
        dynamic: bool,
    ) -> Result<Self, Obstacle> {
        let is_64bit = incompatible & feature::BITS_64 != 0;
        let join = |low, high| if is_64bit { raw.u64_halves(low, high) } else { u64::from(raw.u32(low)) };
        require(raw.u32(0x18) <= 6, "block size", "is unknown")?;
        let block_bytes = 1024 << raw.u32(0x18);
        let cluster_log = raw.u32(0x1c).wrapping_sub(raw.u32(0x18));
        let cluster_blocks = if read_only & feature::BIGALLOC != 0 {
            require(cluster_log <= 16, "cluster size", "is unknown")?;
            1 << cluster_log
        } else {
            1
        };
        let blocks = join(0x4, 0x150);
        let first_data_block = u64::from(raw.u32(0x14));
        let blocks_per_group = u64::from(raw.u32(0x20));
        require(blocks_per_group >= 256, "blocks per group", "are too few")?;
        require(first_data_block < blocks, "first data block", "is beyond the end")?;
        limit("blocks", blocks, MAX_BLOCKS)?;
        let groups = (blocks - first_data_block).div_ceil(blocks_per_group);
        limit("groups", groups, MAX_GROUPS)?;
        Ok(Self {
            compatible,
            incompatible,
            read_only,
            blocks,
            free_blocks: join(0xc, 0x158),
            free_inodes: raw.u32(0x10),
            first_data_block,
            block_bytes,
            cluster_blocks,
            blocks_per_group,
            inodes_per_group: raw.u32(0x28),
            groups: groups as u32,
            inode_bytes: if dynamic { raw.u16(0x58).into() } else { 128 },
            descriptor_bytes: if is_64bit { raw.u16(0xfe).into() } else { 32 },
            first_inode: if dynamic { raw.u32(0x54) } else { 11 },
            journal_inode: raw.u32(0xe0),
            reserved_descriptor_blocks: raw.u16(0xce).into(),
            first_meta_group: raw.u32(0x104).into(),
            backup_groups: [raw.u32(0x24c), raw.u32(0x250)],
            mmp_block: raw.u64(0x168),
            checksums: Checksums::new(raw, incompatible, read_only),
        })
    }

    fn check_geometry(&self, raw: Fields<'_>, volume: &Volume<'_>) -> Result<(), Obstacle> {
        let block_bits = self.block_bytes * 8;
        let ends_inside = self.blocks.checked_mul(self.block_bytes).is_some_and(|bytes| bytes <= volume.length());
        require(ends_inside, "filesystem", "is longer than its partition")?;
        let first = u64::from(self.block_bytes == 1024 && self.cluster_blocks == 1);
        require(self.first_data_block == first, "first data block", "is not where it must be")?;
        if self.cluster_blocks > 1 {
            require(self.blocks.is_multiple_of(self.cluster_blocks), "blocks", "are no whole clusters")?;
            let clusters = u64::from(raw.u32(0x24)).checked_mul(self.cluster_blocks);
            require(clusters == Some(self.blocks_per_group), "clusters per group", "do not match its blocks")?;
        }
        require(self.clusters_per_group() <= block_bits, "blocks per group", "do not fit into a bitmap")?;
        require(self.clusters_per_group().is_multiple_of(8), "blocks per group", "are no whole bytes")?;
        let inodes = u64::from(self.inodes_per_group);
        require(inodes > 0 && inodes <= block_bits && inodes.is_multiple_of(8), "inodes per group", "are impossible")?;
        require(self.inodes() == u64::from(raw.u32(0)), "inodes", "are not those of all groups")?;
        let inode_size = self.inode_bytes;
        require(
            inode_size.is_power_of_two() && (128..=self.block_bytes as usize).contains(&inode_size),
            "inode size",
            "is impossible",
        )?;
        let size = self.descriptor_bytes;
        require(
            size == 32 || size.is_power_of_two() && (64..=1024).contains(&size),
            "descriptor size",
            "is impossible",
        )?;
        require(self.first_inode >= 11, "first inode", "is reserved")?;
        if self.has_meta_groups() {
            require(self.first_meta_group <= self.descriptor_blocks(), "first meta group", "is beyond the end")?;
        }
        require(self.free_blocks <= self.blocks, "free blocks", "are more than there are")
    }

    pub(super) const fn has_meta_groups(&self) -> bool {
        self.incompatible & feature::META_BG != 0
    }

    /// Whether groups may be marked as never used, and have a count of inodes that were never used.
    pub(super) const fn has_lazy_groups(&self) -> bool {
        self.read_only & (feature::GROUP_CHECKSUMS | feature::METADATA_CHECKSUMS) != 0
    }

    pub(super) const fn cluster_bytes(&self) -> u64 {
        self.block_bytes * self.cluster_blocks
    }

    pub(super) const fn clusters(&self) -> u64 {
        self.blocks.div_ceil(self.cluster_blocks)
    }

    pub(super) const fn clusters_per_group(&self) -> u64 {
        self.blocks_per_group / self.cluster_blocks
    }

    pub(super) const fn descriptors_per_block(&self) -> u64 {
        self.block_bytes / self.descriptor_bytes as u64
    }

    pub(super) fn descriptor_blocks(&self) -> u64 {
        u64::from(self.groups).div_ceil(self.descriptors_per_block())
    }

    /// First block of a group.
    pub(super) fn group_start(&self, group: u32) -> u64 {
        self.first_data_block + u64::from(group) * self.blocks_per_group
    }

    /// Block behind a group.
    pub(super) fn group_end(&self, group: u32) -> u64 {
        (self.group_start(group) + self.blocks_per_group).min(self.blocks)
    }

    /// Inodes of all groups, which are counted from 1.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(self.inodes_per_group) * u64::from(self.groups)
    }

    /// Blocks of all inodes of a group.
    pub(super) const fn inode_table_blocks(&self) -> u64 {
        (self.inodes_per_group as u64 * self.inode_bytes as u64).div_ceil(self.block_bytes)
    }

    /// Whether a group begins with a copy of the superblock.
    pub(super) fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compatible & feature::SPARSE_SUPER2 != 0 {
            return self.backup_groups.contains(&group);
        }
        let sparse = self.read_only & feature::SPARSE_SUPER != 0;
        !sparse || group == 1 || [3, 5, 7].iter().any(|base| is_power_of(group, *base))
    }
}

fn is_power_of(number: u32, base: u32) -> bool {
    let mut rest = number;
    while rest.is_multiple_of(base) {
        rest /= base;
    }
    rest == 1
}

fn check_features(filesystem: &'static str, [compatible, incompatible, read_only]: [u32; 3]) -> Result<(), Obstacle> {
    let known_incompatible = feature::KNOWN_INCOMPATIBLE | feature::RECOVER;
    let known_read_only = feature::KNOWN_READ_ONLY | feature::ORPHAN_PRESENT;
    for (set, bits) in [
        ("incompatible", incompatible & !known_incompatible),
        ("read-only compatible", read_only & !known_read_only),
        ("compatible", compatible & !feature::KNOWN_COMPATIBLE),
    ] {
        if bits != 0 {
            return Err(Reason::UnknownFeatures { filesystem, set, bits }.into());
        }
    }
    Ok(())
}

fn check_clean(raw: Fields<'_>, [_, incompatible, read_only]: [u32; 3]) -> Result<(), Obstacle> {
    let unclean = |why| Err(Reason::Unclean(why).into());
    if incompatible & feature::RECOVER != 0 {
        return unclean("the journal has to be replayed");
    }
    // 1: unmounted, 2: errors were found, 4: orphans are being removed.
    match raw.u16(0x3a) {
        1 => {}
        state if state & 2 != 0 => return unclean("errors were found in it"),
        _ => return unclean("it was not unmounted"),
    }
    if raw.u32(0xe8) != 0 || read_only & feature::ORPHAN_PRESENT != 0 {
        return unclean("deleted files have to be removed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_power_of;

    #[test]
    fn powers() {
        let threes: Vec<u32> = (1..100).filter(|number| is_power_of(*number, 3)).collect();
        assert_eq!(threes, [1, 3, 9, 27, 81]);
    }
}
