//! Walks the directories.

use super::{
    boot::{Boot, FatType},
    entry::{self, LongName, Record},
    table::{self, FIRST_CLUSTER, Table},
};
use crate::{
    blocks::BlockSet,
    files::{FileEntry, FileExtent, FileKind, Joiner, Path, Stoppable},
    read::Volume,
    reason::{Obstacle, require},
};

/// Names everything from the root on.
pub(super) fn walk(
    volume: &Volume<'_>,
    boot: &Boot,
    table: &Table,
    visitor: &mut Stoppable<'_>,
) -> Result<(), Obstacle> {
    let mut walk = Walk {
        volume,
        boot,
        table,
        visitor,
        path: Path::default(),
        followed: BlockSet::new(boot.clusters),
        above: Vec::new(),
        piece: Vec::new(),
        piece_at: None,
    };
    walk.root()?;
    while let Some(directory) = walk.above.last_mut() {
        match directory.next_place(boot, table) {
            Some((start, length, at)) => walk.entry(start, length, at)?,
            None => walk.leave(),
        }
    }
    Ok(())
}

/// A directory whose entries are being read.
struct Directory {
    /// What is being read; nothing when all was.
    piece: Option<Piece>,
    /// Byte of it where the next entry is.
    at: usize,
    name: LongName,
}

#[derive(Clone, Copy)]
enum Piece {
    /// A sector of the root directory of FAT12 and FAT16, by its first byte there. The root may be as long as much of the
    /// filesystem, and after each directory in it the piece with that is read again.
    Root(u64),
    Cluster(u32),
}

impl Directory {
    const fn new(piece: Option<Piece>) -> Self {
        Self { piece, at: 0, name: LongName::NONE }
    }

    /// Start and length of the piece in which the next entry is, and where there.
    fn next_place(&mut self, boot: &Boot, table: &Table) -> Option<(u64, usize, usize)> {
        loop {
            let (start, length) = match self.piece? {
                Piece::Root(at) => (boot.root_start() + at, boot.sector_bytes.min(boot.root_bytes - at)),
                Piece::Cluster(cluster) => (boot.cluster_start(cluster), boot.cluster_bytes),
            };
            if self.at + entry::BYTES <= length as usize {
                return Some((start, length as usize, self.at));
            }
            self.at = 0;
            self.piece = match self.piece? {
                Piece::Root(at) if boot.root_bytes - at > length => Some(Piece::Root(at + length)),
                Piece::Cluster(cluster) if let table::Entry::Next(next) = table.entry(cluster) => {
                    Some(Piece::Cluster(next))
                }
                _ => None,
            };
        }
    }
}

struct Walk<'a, 'b> {
    volume: &'a Volume<'a>,
    boot: &'a Boot,
    table: &'a Table,
    visitor: &'a mut Stoppable<'b>,
    path: Path,
    /// Clusters of the chains so far, from 0: each is followed once, so the walk ends.
    followed: BlockSet,
    above: Vec<Directory>,
    /// The piece of a directory that was read last, and where it is.
    piece: Vec<u8>,
    piece_at: Option<u64>,
}

impl Walk<'_, '_> {
    fn root(&mut self) -> Result<(), Obstacle> {
        let is_32 = self.boot.kind == FatType::Fat32;
        self.visitor.file(&FileEntry {
            path: &[],
            kind: FileKind::Directory,
            length: self.boot.root_bytes,
            modified_seconds: 0,
            id: 0,
            links: 1,
            record: 0..0,
            is_encrypted: false,
        })?;
        if is_32 {
            self.chain(self.boot.root_cluster)?;
            self.above.push(Directory::new(Some(Piece::Cluster(self.boot.root_cluster))));
            return Ok(());
        }
        self.above.push(Directory::new((self.boot.root_bytes > 0).then_some(Piece::Root(0))));
        let (start, length) = (self.boot.root_start(), self.boot.root_bytes);
        self.visitor.extent(&FileExtent { offset: 0, start, length, is_written: true })
    }

    /// Reads an entry of the innermost directory, and goes to the next.
    fn entry(&mut self, start: u64, length: usize, at: usize) -> Result<(), Obstacle> {
        if self.piece_at != Some(start) {
            self.piece = self.volume.read_vec(start, length, "directory")?;
            self.piece_at = Some(start);
        }
        let Some(directory) = self.above.last_mut() else { return Ok(()) };
        let Some(raw) = self.piece[at..].first_chunk() else { return Ok(()) };
        directory.at += entry::BYTES;
        match entry::Entry::parse(raw, self.boot.kind) {
            entry::Entry::End => directory.piece = None,
            entry::Entry::Nothing => directory.name = LongName::NONE,
            entry::Entry::LongName(part) => directory.name.add(&part),
            entry::Entry::File(record) => {
                match directory.name.take(&record) {
                    Some(name) => self.path.push(name.as_bytes())?,
                    None => self.path.push(&record.name)?,
                }
                self.file(&record, start + at as u64)?;
            }
        }
        Ok(())
    }

    /// Names a file, and enters it if it is a directory.
    fn file(&mut self, record: &Record, at: u64) -> Result<(), Obstacle> {
        self.visitor.file(&FileEntry {
            path: self.path.bytes(),
            kind: if record.is_directory { FileKind::Directory } else { FileKind::File },
            length: record.length,
            modified_seconds: record.modified_seconds,
            id: at,
            links: 1,
            record: at..at + entry::BYTES as u64,
            is_encrypted: false,
        })?;
        if record.first == 0 {
            require(record.length == 0 && !record.is_directory, "a file", "has no first cluster")?;
        } else {
            self.chain(record.first)?;
        }
        if record.is_directory {
            self.above.push(Directory::new(Some(Piece::Cluster(record.first))));
        } else {
            self.path.pop();
        }
        Ok(())
    }

    /// Follows the chain of a file.
    fn chain(&mut self, first: u32) -> Result<(), Obstacle> {
        let mut joiner = Joiner::default();
        let mut next = Some(first);
        let length = self.boot.cluster_bytes;
        let mut offset = 0;
        while let Some(cluster) = next {
            require(self.table.has(cluster), "a file", "begins beyond the end")?;
            require(self.followed.insert(u64::from(cluster - FIRST_CLUSTER)), "a cluster", "has two owners")?;
            let extent = FileExtent { offset, start: self.boot.cluster_start(cluster), length, is_written: true };
            joiner.add(extent, self.visitor)?;
            offset += length;
            next = match self.table.entry(cluster) {
                table::Entry::Next(next) => Some(next),
                table::Entry::End => None,
                _ => return Err(Obstacle::invalid("a file", "has a cluster that is free")),
            };
        }
        joiner.end(self.visitor)
    }

    fn leave(&mut self) {
        self.above.pop();
        self.path.pop();
    }
}
