//! Decides which packs go and which are rewritten. Pure.

use crate::{
    PackId,
    pack::{MAX_PACK_BYTES, Purpose},
};

/// What a mark found in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack.
    pub id: PackId,
    /// Chunks or nodes.
    pub purpose: Purpose,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
    /// Records that something needs.
    pub live_records: u32,
    /// Length of those in the file, in bytes.
    pub live_bytes: u64,
}

/// Which packs are worth rewriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// A pack is rewritten when less than this part of it is live, in percent.
    pub live_percent: u8,
    /// Packs shorter than this are merged where that makes fewer packs, in bytes.
    pub small_bytes: u64,
    /// Most that is rewritten before what it replaces is deleted: so much room a collection needs, in bytes.
    pub group_bytes: u64,
    /// Most records of packs that are rewritten at once, dead ones included: their ids and places are kept in memory, up to
    /// some 200 bytes each. Exceeded only by a single pack.
    pub group_records: u64,
}

impl PlanOptions {
    /// Half; 8 MiB; 1 GiB; 500 000 records, at most some 100 MB.
    pub const DEFAULT: Self =
        Self { live_percent: 50, small_bytes: 8 << 20, group_bytes: 1 << 30, group_records: 500_000 };
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs of which nothing is needed.
    pub dead: Vec<PackId>,
    /// Packs to be rewritten, group by group.
    pub rewrites: Vec<Rewrite>,
}

impl Plan {
    /// All packs that are to go, dead or rewritten.
    pub fn packs(&self) -> impl Iterator<Item = PackId> {
        self.dead.iter().chain(self.rewrites.iter().flat_map(|group| &group.packs)).copied()
    }
}

/// Packs that are rewritten together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// What they are for.
    pub purpose: Purpose,
    /// The packs.
    pub packs: Vec<PackId>,
    /// Bytes of their records that are needed.
    pub live_bytes: u64,
}

/// Plans a collection.
#[must_use]
pub fn plan(uses: &[PackUse], options: PlanOptions) -> Plan {
    let dead = uses.iter().filter(|pack| pack.live_records == 0).map(|pack| pack.id).collect();
    let rewrites = [Purpose::Nodes, Purpose::Chunks].into_iter().flat_map(|purpose| {
        let alive = uses.iter().filter(|pack| pack.purpose == purpose && pack.live_records > 0).copied();
        groups(purpose, &victims(alive.collect(), &options), &options)
    });
    Plan { dead, rewrites: rewrites.collect() }
}

/// Mostly dead packs, and small ones if that makes fewer packs of them all: a single small pack is left alone, so that
/// a collection with nothing to do does nothing.
fn victims(alive: Vec<PackUse>, options: &PlanOptions) -> Vec<PackUse> {
    let is_mostly_dead =
        |pack: &PackUse| u128::from(pack.live_bytes) * 100 < u128::from(pack.bytes) * u128::from(options.live_percent);
    let (mut victims, rest): (Vec<_>, Vec<_>) = alive.into_iter().partition(is_mostly_dead);
    let small: Vec<_> = rest.into_iter().filter(|pack| pack.bytes < options.small_bytes).collect();
    let packs_for = |live_bytes: u64| live_bytes.div_ceil(MAX_PACK_BYTES).max(1);
    let mostly_dead: u64 = victims.iter().map(|pack| pack.live_bytes).sum();
    let with_small = mostly_dead + small.iter().map(|pack| pack.live_bytes).sum::<u64>();
    let apart = small.len() as u64 + if victims.is_empty() { 0 } else { packs_for(mostly_dead) };
    if packs_for(with_small) < apart {
        victims.extend(small);
    }
    victims
}

fn groups(purpose: Purpose, victims: &[PackUse], options: &PlanOptions) -> Vec<Rewrite> {
    let mut groups: Vec<Rewrite> = Vec::new();
    let mut records = 0;
    for pack in victims {
        records += u64::from(pack.records);
        match groups.last_mut() {
            Some(group)
                if group.live_bytes + pack.live_bytes <= options.group_bytes && records <= options.group_records =>
            {
                group.packs.push(pack.id);
                group.live_bytes += pack.live_bytes;
            }
            _ => {
                records = pack.records.into();
                groups.push(Rewrite { purpose, packs: vec![pack.id], live_bytes: pack.live_bytes });
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack(seed: usize, bytes: u64, live_bytes: u64) -> PackUse {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(seed as u64).to_le_bytes());
        let live_records = u32::try_from(live_bytes.div_ceil(64 << 10)).unwrap();
        let records = u32::try_from(bytes.div_ceil(64 << 10)).unwrap();
        PackUse { id: PackId::from_bytes(id), purpose: Purpose::Chunks, bytes, records, live_records, live_bytes }
    }

    fn plan_of(sizes: &[(u64, u64)]) -> (usize, Vec<usize>) {
        let uses: Vec<_> =
            sizes.iter().enumerate().map(|(n, (bytes, live))| pack(n, bytes * MIB, live * MIB)).collect();
        let plan = plan(&uses, PlanOptions::DEFAULT);
        (plan.dead.len(), plan.rewrites.iter().map(|group| group.packs.len()).collect())
    }

    #[test]
    fn what_is_mostly_live_stays() {
        assert_eq!(plan_of(&[(64, 64), (64, 33), (9, 8)]), (0, vec![]));
    }

    #[test]
    fn dead_packs_go_and_mostly_dead_ones_are_rewritten() {
        assert_eq!(plan_of(&[(64, 0), (64, 31), (64, 60)]), (1, vec![1]));
    }

    #[test]
    fn small_packs_are_merged_but_never_for_nothing() {
        assert_eq!(plan_of(&[(5, 5)]), (0, vec![]), "it would only be copied");
        assert_eq!(plan_of(&[(5, 5), (7, 7)]), (0, vec![2]));
        assert_eq!(plan_of(&[(5, 5), (64, 10)]), (0, vec![2]), "it fits to what is rewritten anyway");
    }

    #[test]
    fn a_group_is_bounded() {
        let (_, groups) = plan_of(&[(64, 31); 100]);
        assert_eq!(groups, [33, 33, 33, 1]);
    }

    fn any_uses() -> impl Strategy<Value = Vec<PackUse>> {
        let one = (1..=MAX_PACK_BYTES, 0..=100u64, any::<bool>());
        vec(one, 0..60).prop_map(|packs| {
            let of = |(seed, (bytes, percent, is_node)): (usize, (u64, u64, bool))| {
                let purpose = if is_node { Purpose::Nodes } else { Purpose::Chunks };
                PackUse { purpose, ..pack(seed, bytes, bytes * percent / 100) }
            };
            packs.into_iter().enumerate().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn a_plan_takes_each_pack_at_most_once_and_only_for_a_reason(uses in any_uses()) {
            let options = PlanOptions { group_bytes: 100 * MIB, ..PlanOptions::DEFAULT };
            let plan = plan(&uses, options);
            let of = |id: &PackId| uses.iter().find(|pack| pack.id == *id).unwrap();
            let all: Vec<_> = plan.dead.iter().chain(plan.rewrites.iter().flat_map(|group| &group.packs)).collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            for id in &plan.dead {
                prop_assert_eq!(of(id).live_records, 0);
            }
            for group in &plan.rewrites {
                prop_assert!(group.live_bytes <= options.group_bytes || group.packs.len() == 1);
                prop_assert_eq!(group.live_bytes, group.packs.iter().map(|id| of(id).live_bytes).sum::<u64>());
                for id in &group.packs {
                    let pack = of(id);
                    prop_assert!(pack.purpose == group.purpose && pack.live_records > 0);
                    prop_assert!(pack.live_bytes * 2 < pack.bytes || pack.bytes < options.small_bytes);
                }
            }
        }

        #[test]
        fn dead_space_is_bounded_after_a_collection_and_a_second_one_does_less(uses in any_uses()) {
            let first = plan(&uses, PlanOptions::DEFAULT);
            let touched = |id| first.dead.contains(id) || first.rewrites.iter().any(|group| group.packs.contains(id));
            for pack in uses.iter().filter(|pack| !touched(&pack.id)) {
                prop_assert!(pack.live_bytes * 2 >= pack.bytes);
            }
            // What a collection leaves: full packs and one rest for each group.
            let mut left: Vec<_> = uses.iter().filter(|pack| !touched(&pack.id)).copied().collect();
            for (n, group) in first.rewrites.iter().enumerate() {
                let mut bytes = group.live_bytes;
                while bytes > 0 {
                    let take = bytes.min(MAX_PACK_BYTES);
                    left.push(PackUse { purpose: group.purpose, ..pack(1000 * (n + 1) + left.len(), take, take) });
                    bytes -= take;
                }
            }
            let second = plan(&left, PlanOptions::DEFAULT);
            prop_assert!(second.dead.is_empty());
            let rewritten = |plan: &Plan| plan.rewrites.iter().map(|group| group.packs.len()).sum::<usize>();
            prop_assert!(rewritten(&second) <= rewritten(&first) + 2);
        }
    }
}
