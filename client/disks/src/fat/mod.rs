//! FAT12, FAT16 and FAT32: which clusters are used, and where files begin.
//!
//! The table says which clusters are used; it is believed only if all its copies say the same, and after all
//! directories were walked and the chains of their files are exactly what the table says. From Microsoft's "FAT32 File
//! System Specification" 1.03; where Linux differs, as Linux does.

mod boot;
mod directories;
mod entry;
mod files;
mod table;

use boot::{Boot, FatType};
use table::Table;

use crate::{
    blocks::BlockSet,
    fields::Fields,
    files::Stoppable,
    filesystem::{Filesystem, Identity, PartitionType},
    map::{Blocks, Map, MapOptions, Usage},
    read::{ReadError, Volume},
    reason::{Obstacle, Reason, agree, require},
};

/// FAT12, FAT16 and FAT32.
pub(crate) struct Fat;

impl Filesystem for Fat {
    fn identify(&self, volume: &Volume<'_>) -> Result<Option<Identity>, ReadError> {
        boot::identify(volume)
    }

    fn map(&self, volume: &Volume<'_>, _: PartitionType, options: &MapOptions) -> Result<Map, Obstacle> {
        let boot = Boot::read(volume)?;
        options.limit_memory(boot.entry_bytes())?;
        let table = Table::read(volume, &boot)?;
        let used = table.used()?;
        check_free_count(volume, &boot, boot.clusters - used.count())?;
        let owned = directories::walk(volume, &boot, &table, options)?;
        let sets: usize = [&used, &owned.clusters, &owned.boundaries].into_iter().map(BlockSet::memory_bytes).sum();
        options.limit_memory(boot.entry_bytes() + sets as u64)?;
        agree("clusters in use and clusters of files", used.count(), owned.clusters.count() + table.bad())?;
        let blocks = |set| Blocks { first_byte: boot.data_start(), bytes: boot.cluster_bytes, set };
        Ok(Map { used: blocks(used), boundaries: blocks(owned.boundaries), usage: Usage::Free, files: owned.files })
    }

    fn files(&self, volume: &Volume<'_>, visitor: &mut Stoppable<'_>) -> Result<(), Obstacle> {
        let boot = Boot::read(volume)?;
        let table = Table::read(volume, &boot)?;
        files::walk(volume, &boot, &table, visitor)
    }
}

/// The count that FAT32 keeps; all ones say that it is not known.
fn check_free_count(volume: &Volume<'_>, boot: &Boot, free: u64) -> Result<(), Obstacle> {
    if boot.kind != FatType::Fat32 || matches!(boot.information_sector, 0 | 0xffff) {
        return Ok(());
    }
    let mut raw = [0; 512];
    volume.read(u64::from(boot.information_sector) * boot.sector_bytes, &mut raw, "FSInfo")?;
    let raw = Fields(&raw);
    let signed = raw.u32(0) == 0x4161_5252 && raw.u32(484) == 0x6141_7272;
    require(signed, "FSInfo", "has no signature")?;
    match raw.u32(488) {
        u32::MAX => Ok(()),
        count => agree("free clusters of FSInfo and of the table", count.into(), free),
    }
}

/// The bits with which Windows and Linux mark what was not unmounted, or has errors.
fn unclean(is_dirty: bool, has_errors: bool) -> Result<(), Obstacle> {
    match (is_dirty, has_errors) {
        (false, false) => Ok(()),
        (true, _) => Err(Reason::Unclean("it was not unmounted").into()),
        (false, true) => Err(Reason::Unclean("errors were found in it").into()),
    }
}
