//! Walks the directories.

use super::{
    descriptors::Group,
    directory,
    inode::{self, BlockSink, Inode, Written},
    superblock::Superblock,
    tables::Tables,
};
use crate::{
    blocks::BlockSet,
    files::{FileEntry, FileExtent, Joiner, Path, Stoppable},
    read::Volume,
    reason::{Obstacle, limit, require},
};

const ROOT: u32 = 2;
/// Most runs of blocks of all directories above a file: 16 MiB of them.
const MAX_RUNS: usize = 1 << 19;
/// In a filesystem that is whole, blocks of directories and of trees are read once for each name of their file.
const READS_PER_BLOCK: u64 = 16;

/// Names everything from the root on.
pub(super) fn walk(
    volume: &Volume<'_>,
    superblock: &Superblock,
    groups: &[Group],
    visitor: &mut Stoppable<'_>,
) -> Result<(), Obstacle> {
    let mut walk = Walk {
        volume,
        superblock,
        tables: Tables::new(volume, superblock, groups),
        visitor,
        path: Path::default(),
        directories: BlockSet::new(superblock.inodes() + 1),
        above: Vec::new(),
        runs: 0,
        block: Vec::new(),
        block_at: None,
        reads_left: superblock.blocks.saturating_mul(READS_PER_BLOCK),
    };
    walk.file(ROOT, ROOT)?;
    require(!walk.above.is_empty(), "root directory", "is none")?;
    while let Some(directory) = walk.above.last_mut() {
        match directory.next_place(superblock.block_bytes) {
            Some(place) => walk.entry(&place)?,
            None => walk.leave(),
        }
    }
    Ok(())
}

/// A directory whose entries are being read.
struct Directory {
    inode: u32,
    parent: u32,
    seed: Option<u32>,
    has_index: bool,
    has_encrypted_names: bool,
    /// Where the entries are.
    runs: Vec<Run>,
    /// The run that is being read, the byte of it where the present piece begins, and the entry in that.
    run: usize,
    piece: u64,
    at: usize,
}

/// A range of bytes with entries. Blocks have entries each of their own; inodes have one piece that is not as long.
#[derive(Clone, Copy)]
struct Run {
    start: u64,
    length: u64,
    is_blocks: bool,
}

/// An entry to be read.
struct Place {
    piece_start: u64,
    piece_length: usize,
    is_block: bool,
    at: usize,
}

impl Directory {
    /// The next entry's place, if there is one.
    fn next_place(&mut self, block_bytes: u64) -> Option<Place> {
        loop {
            let run = self.runs.get(self.run)?;
            let left = run.length.saturating_sub(self.piece);
            let piece_length = if run.is_blocks { block_bytes.min(left) } else { left };
            if piece_length == 0 {
                (self.run, self.piece, self.at) = (self.run + 1, 0, 0);
            } else if self.at as u64 >= piece_length {
                (self.piece, self.at) = (self.piece + piece_length, 0);
            } else {
                let piece_start = run.start + self.piece;
                let is_block = run.is_blocks;
                return Some(Place { piece_start, piece_length: piece_length as usize, is_block, at: self.at });
            }
        }
    }
}

struct Walk<'a, 'b> {
    volume: &'a Volume<'a>,
    superblock: &'a Superblock,
    tables: Tables<'a>,
    visitor: &'a mut Stoppable<'b>,
    path: Path,
    /// Inodes of directories that were entered.
    directories: BlockSet,
    /// From the root to the present one.
    above: Vec<Directory>,
    /// Runs of all of them.
    runs: usize,
    /// The piece that was read last, and where it is.
    block: Vec<u8>,
    block_at: Option<u64>,
    reads_left: u64,
}

impl Walk<'_, '_> {
    /// Reads an entry of the innermost directory, and goes to the next.
    fn entry(&mut self, place: &Place) -> Result<(), Obstacle> {
        self.load(place)?;
        let Some(directory) = self.above.last_mut() else { return Ok(()) };
        let entry = directory::entry(&self.block, place.at)?;
        directory.at = entry.next;
        let (number, parent) = (entry.inode, directory.inode);
        match entry.name {
            _ if number == 0 => Ok(()),
            b"." => require(number == directory.inode, "a directory", "is not itself"),
            b".." => require(number == directory.parent, "a directory", "has another parent"),
            name => {
                match directory.has_encrypted_names {
                    true => self.path.push(hexadecimal(name).as_bytes())?,
                    false => self.path.push(name)?,
                }
                self.file(number, parent)
            }
        }
    }

    /// Has the piece with an entry in memory.
    fn load(&mut self, place: &Place) -> Result<(), Obstacle> {
        if self.block_at == Some(place.piece_start) && self.block.len() == place.piece_length {
            return Ok(());
        }
        count_read(&mut self.reads_left)?;
        self.block_at = None;
        self.block.resize(place.piece_length, 0);
        self.volume.read(place.piece_start, &mut self.block, "directory")?;
        if let Some(directory) = self.above.last().filter(|_| place.is_block) {
            directory::check_block(&self.block, directory.seed, directory.inode, directory.has_index)?;
        }
        self.block_at = Some(place.piece_start);
        Ok(())
    }

    /// Names a file, and enters it if it is a directory.
    fn file(&mut self, number: u32, parent: u32) -> Result<(), Obstacle> {
        let (at, raw) = self.tables.inode(number)?;
        let seed = self.superblock.checksums.check_inode(number, raw)?;
        let inode = Inode::parse(number, raw, seed);
        require(inode.mode != 0 && inode.links != 0, "a name", "is of no file")?;
        let is_encrypted = self.above.iter().any(|directory| directory.has_encrypted_names);
        self.visitor.file(&FileEntry {
            path: self.path.bytes(),
            kind: inode.kind(),
            length: inode.length,
            modified_seconds: inode::modified_seconds(raw),
            id: number.into(),
            links: inode.links.into(),
            record: at..at + raw.len() as u64,
            is_encrypted,
        })?;
        let pieces = inode.pieces(raw)?;
        let mut sink = Sink {
            blocks: self.superblock.blocks,
            block_bytes: self.superblock.block_bytes,
            visitor: self.visitor,
            joiner: Joiner::default(),
            reads_left: &mut self.reads_left,
            directory: inode.is_directory().then(Vec::new),
            length: inode.length,
            runs_left: MAX_RUNS - self.runs,
        };
        let mut offset = 0;
        for piece in pieces {
            let (start, length) = (at + piece.start as u64, piece.len() as u64);
            sink.extent(FileExtent { offset, start, length, is_written: true }, false)?;
            offset += length;
        }
        inode::walk(self.volume, self.superblock, &inode, &mut sink)?;
        sink.joiner.end(sink.visitor)?;
        match sink.directory {
            Some(runs) => self.enter(&inode, parent, runs),
            None => {
                self.path.pop();
                Ok(())
            }
        }
    }

    fn enter(&mut self, inode: &Inode, parent: u32, mut runs: Vec<Run>) -> Result<(), Obstacle> {
        require(self.directories.insert(inode.number.into()), "a directory", "has two names")?;
        let are_whole = runs.iter().all(|run| !run.is_blocks || run.length.is_multiple_of(self.superblock.block_bytes));
        require(are_whole, "a directory", "is no whole number of blocks")?;
        if inode.is_inline()
            && let Some(root) = runs.first_mut()
        {
            // The number of the parent comes first.
            (root.start, root.length) = (root.start + 4, root.length.saturating_sub(4));
        }
        self.runs += runs.len();
        self.above.push(Directory {
            inode: inode.number,
            parent,
            seed: inode.seed,
            has_index: inode.has_index(),
            has_encrypted_names: inode.is_encrypted(),
            runs,
            run: 0,
            piece: 0,
            at: 0,
        });
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(directory) = self.above.pop() {
            self.runs -= directory.runs.len();
        }
        self.path.pop();
    }
}

/// What an inode's walk finds, for the visitor and, of a directory, for its reading.
struct Sink<'a, 'b> {
    /// Of the filesystem.
    blocks: u64,
    block_bytes: u64,
    visitor: &'a mut Stoppable<'b>,
    joiner: Joiner,
    reads_left: &'a mut u64,
    directory: Option<Vec<Run>>,
    length: u64,
    runs_left: usize,
}

impl Sink<'_, '_> {
    fn extent(&mut self, extent: FileExtent, is_blocks: bool) -> Result<(), Obstacle> {
        if let Some(runs) = &mut self.directory
            && extent.offset < self.length
        {
            let (start, length) = (extent.start, extent.length.min(self.length - extent.offset));
            match runs.last_mut() {
                Some(run) if run.is_blocks && run.start + run.length == start => run.length += length,
                _ => runs.push(Run { start, length, is_blocks }),
            }
            limit("pieces of directories", runs.len() as u64, self.runs_left as u64)?;
        }
        self.joiner.add(extent, self.visitor)
    }
}

impl BlockSink for Sink<'_, '_> {
    fn tree(&mut self, _: u64) -> Result<(), Obstacle> {
        count_read(self.reads_left)
    }

    fn data(&mut self, logical: u64, blocks: std::ops::Range<u64>, written: Written) -> Result<(), Obstacle> {
        // So that places can be counted in bytes, and lengths be added to them.
        require(blocks.start <= blocks.end && blocks.end <= self.blocks, "a block of a file", "is beyond the end")?;
        let bytes = |blocks: u64| {
            blocks
                .checked_mul(self.block_bytes)
                .ok_or_else(|| Obstacle::invalid("a block of a file", "is beyond the end"))
        };
        let (offset, start, length) = (bytes(logical)?, bytes(blocks.start)?, bytes(blocks.end - blocks.start)?);
        let is_written = written == Written::Yes;
        require(is_written || self.directory.is_none(), "a directory", "has blocks that were not written")?;
        self.extent(FileExtent { offset, start, length, is_written }, true)
    }
}

fn count_read(left: &mut u64) -> Result<(), Obstacle> {
    *left = left.checked_sub(1).ok_or_else(|| Obstacle::invalid("directories", "have more blocks than there are"))?;
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
