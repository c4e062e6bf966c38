//! Block bitmaps: what is used, as the filesystem says.

use super::{descriptors::Group, superblock::Superblock};
use crate::{
    blocks::BlockSet,
    map::MapOptions,
    read::Volume,
    reason::{Obstacle, agree},
};

/// Clusters in use. `structures` are those of the filesystem itself: all that is used in a group whose bitmap was
/// never written.
pub(super) fn read(
    volume: &Volume<'_>,
    superblock: &Superblock,
    groups: &[Group],
    structures: &BlockSet,
    options: &MapOptions,
) -> Result<BlockSet, Obstacle> {
    let mut used = BlockSet::new(superblock.clusters());
    used.insert_range(0..superblock.first_data_block / superblock.cluster_blocks);
    let mut bitmap = vec![0; superblock.block_bytes as usize];
    for group in groups {
        let start = superblock.group_start(group.number) / superblock.cluster_blocks;
        let end = superblock.group_end(group.number).div_ceil(superblock.cluster_blocks);
        if group.blocks_uninitialised {
            for run in structures.runs(start..end, true) {
                used.insert_range(run);
            }
        } else {
            volume.read(group.block_bitmap * superblock.block_bytes, &mut bitmap, "block bitmap")?;
            let bits = (superblock.clusters_per_group() / 8) as usize;
            let checksum = group.block_bitmap_checksum;
            superblock.checksums.check_bitmap(&bitmap[..bits], checksum, "block bitmap", group.number)?;
            for run in runs(&bitmap, (end - start) as usize) {
                used.insert_range(start + run.start as u64..start + run.end as u64);
            }
        }
        options.limit_memory((structures.memory_bytes() + used.memory_bytes()) as u64)?;
        let free = end - start - used.count_in(start..end);
        agree("free blocks of a group and of its bitmap", group.free_clusters.into(), free)?;
    }
    Ok(used)
}

/// The runs of ones among the first bits of a bitmap.
pub(super) fn runs(bitmap: &[u8], bits: usize) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let bits = bits.min(bitmap.len() * 8);
    let mut bit = 0;
    std::iter::from_fn(move || {
        let start = find(bitmap, bit, bits, true);
        bit = find(bitmap, start, bits, false);
        (start < bits).then_some(start..bit)
    })
}

/// The first bit from `from` on that is as wanted; `end` when there is none.
fn find(bitmap: &[u8], from: usize, end: usize, wanted: bool) -> usize {
    let mut bit = from;
    while bit < end {
        let byte = if wanted { bitmap[bit / 8] } else { !bitmap[bit / 8] } >> (bit % 8);
        if byte != 0 {
            return (bit + byte.trailing_zeros() as usize).min(end);
        }
        bit += 8 - bit % 8;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_ones() {
        let found = |bits| runs(&[0b1000_0110, 0xff, 0x01, 0x00], bits).collect::<Vec<_>>();
        assert_eq!(found(32), [1..3, 7..17]);
        assert_eq!(found(12), [1..3, 7..12]);
        assert_eq!(found(1), []);
    }
}
