//! What a crash leaves of what was not synced.

use std::{collections::BTreeMap, ffi::OsString};

use super::{Change, Directory, Entry, Inode, apply};

/// How a crash treats what was not synced.
#[derive(Debug, Clone)]
pub(crate) enum Loss {
    /// It is gone.
    Everything,
    /// It is there: the disk was quick.
    Nothing,
    /// Each piece by itself is there, in part, as zeros, or not. The number is the generator's state.
    Random(u64),
}

impl Loss {
    /// The bytes of a file.
    pub(super) fn content(&mut self, inode: &Inode) -> Vec<u8> {
        match self {
            Self::Everything => inode.durable.clone(),
            Self::Nothing => inode.now.clone(),
            Self::Random(state) => {
                let mut content = inode.durable.clone();
                inode.unsynced.iter().for_each(|change| leave_some(state, &mut content, change));
                content
            }
        }
    }

    /// The names of a directory.
    pub(super) fn names(&mut self, directory: &Directory) -> BTreeMap<OsString, Entry> {
        match self {
            Self::Everything => directory.durable.clone(),
            Self::Nothing => directory.now.clone(),
            Self::Random(state) => {
                let mut names = directory.durable.clone();
                for (name, entry) in &directory.unsynced {
                    match (below(state, 2), entry) {
                        (0, _) => {}
                        (_, Some(entry)) => drop(names.insert(name.clone(), *entry)),
                        (_, None) => drop(names.remove(name)),
                    }
                }
                names
            }
        }
    }
}

fn leave_some(state: &mut u64, content: &mut Vec<u8>, change: &Change) {
    let Change::Write { offset, bytes } = change else {
        if below(state, 2) == 0 {
            apply(content, change);
        }
        return;
    };
    let part = below(state, bytes.len() as u64 + 1) as usize;
    let left = match below(state, 5) {
        0 => return,
        1 => bytes.clone(),
        2 => bytes[..part].to_vec(),
        // The length was written, the bytes were not.
        3 => vec![0; bytes.len()],
        _ => [&bytes[..part], &vec![0; bytes.len() - part]].concat(),
    };
    apply(content, &Change::Write { offset: *offset, bytes: left });
}

/// splitmix64.
pub(crate) fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}
