//! Swap space of Linux: one page that says so, then pages whose content nobody needs after a shutdown.

use crate::{
    blocks::BlockSet,
    fields::{Fields, name, uuid},
    files::Stoppable,
    filesystem::{Filesystem, Identity, PartitionType},
    map::{Blocks, Map, MapOptions, Usage},
    read::{ReadError, Volume},
    reason::{Obstacle, Reason, limit, require},
};

/// Page sizes of the machines that Linux runs on.
const PAGE_BYTES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
/// At the end of the first page.
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";
/// What stands there instead while a hibernated system waits.
const HIBERNATED: [&[u8]; 4] = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"];
/// 4 TiB of the smallest pages.
const MAX_PAGES: u64 = 1 << 30;

/// Swap space.
pub(crate) struct Swap;

#[derive(PartialEq, Eq)]
enum State {
    Idle,
    Hibernated,
}

/// Size of a page, and what its end says.
fn find(volume: &Volume<'_>) -> Result<Option<(u64, State)>, ReadError> {
    for bytes in PAGE_BYTES {
        let mut end = [0; SIGNATURE.len()];
        if volume.try_read(bytes - end.len() as u64, &mut end)?.is_none() {
            continue;
        }
        if end == *SIGNATURE {
            return Ok(Some((bytes, State::Idle)));
        }
        if HIBERNATED.iter().any(|signature| end == **signature) {
            return Ok(Some((bytes, State::Hibernated)));
        }
    }
    Ok(None)
}

impl Filesystem for Swap {
    fn identify(&self, volume: &Volume<'_>) -> Result<Option<Identity>, ReadError> {
        let mut header = [0; 64];
        if find(volume)?.is_none() || volume.try_read(1024, &mut header)?.is_none() {
            return Ok(None);
        }
        let header = Fields(&header);
        Ok(Some(Identity { kind: "swap", label: name(&header.array::<16>(28)), uuid: uuid(header.array(12)) }))
    }

    fn map(&self, volume: &Volume<'_>, partition_type: PartitionType, options: &MapOptions) -> Result<Map, Obstacle> {
        let (page_bytes, state) = find(volume)?.ok_or_else(|| Obstacle::invalid("swap", "has no signature"))?;
        if state == State::Hibernated {
            return Err(Reason::Unclean("a hibernated system is in it").into());
        }
        // Ten bytes are little to throw away a partition for; the table has to say the same.
        require(partition_type == PartitionType::Swap, "partition type", "is not that of swap")?;
        let mut header = [0; 12];
        volume.read(1024, &mut header, "swap header")?;
        let header = Fields(&header);
        require(header.u32(0) == 1, "version of swap", "is unknown")?;
        let pages = u64::from(header.u32(4)) + 1;
        limit("pages", pages, MAX_PAGES)?;
        require(pages <= volume.length() / page_bytes, "swap", "is longer than its partition")?;
        require(pages > 1, "swap", "has no pages")?;
        require(header.u32(8) == 0, "swap", "has bad pages")?;
        options.limit_memory(BlockSet::empty_bytes(pages))?;
        let mut used = BlockSet::new(pages);
        used.insert(0);
        let blocks = |set| Blocks { first_byte: 0, bytes: page_bytes, set };
        Ok(Map { used: blocks(used), boundaries: blocks(BlockSet::new(1)), usage: Usage::Discarded, files: 0 })
    }

    /// There are none.
    fn files(&self, _: &Volume<'_>, _: &mut Stoppable<'_>) -> Result<(), Obstacle> {
        Ok(())
    }
}
