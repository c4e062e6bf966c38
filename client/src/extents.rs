//! The extents of a version, in a file: a tree laid flat, so that memory does not grow with the image.
//!
//! Written front to back while its root is computed, then read by position. The file is private to this machine and
//! this version of Imprint: whoever opens an old one computes its root again and believes only that.

use std::{
    fs::File,
    io::{BufWriter, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use imprint_content::{
    ChunkId, Extent, ExtentKind, NodeId,
    tree::{BuiltNode, Child, TreeBuilder},
};

use crate::Error;

/// kind, offset, length, chunk id
const RECORD_BYTES: usize = 1 + 8 + 8 + 32;
/// Records that a cursor reads at once.
const CURSOR_RECORDS: usize = 512;

/// An extent and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedExtent {
    /// First byte, counted from the start of the image.
    pub offset: u64,
    /// What is there.
    pub extent: Extent,
}

impl PlacedExtent {
    /// The byte behind it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.extent.length
    }
}

/// Writes the extents of a version and computes its tree.
pub struct ExtentWriter {
    file: BufWriter<File>,
    path: PathBuf,
    tree: TreeBuilder,
    pending: Option<PlacedExtent>,
    records: u64,
}

impl ExtentWriter {
    /// Writes to an unnamed file in `directory`.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        let error = |source| Error::Io { what: "create a file in", path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(error)?;
        let file = tempfile::tempfile_in(directory).map_err(error)?;
        Ok(Self {
            file: BufWriter::with_capacity(64 << 10, file),
            path: directory.to_owned(),
            tree: TreeBuilder::new(),
            pending: None,
            records: 0,
        })
    }

    /// Adds the next extent; tree nodes that it finished are appended to `finished`.
    pub fn push(&mut self, extent: Extent, finished: &mut Vec<BuiltNode>) -> Result<(), Error> {
        self.tree.push(extent, finished);
        let offset = match &mut self.pending {
            Some(pending) if pending.extent.merges_with(&extent) => {
                pending.extent.length += extent.length;
                return Ok(());
            }
            Some(pending) => pending.end(),
            None => 0,
        };
        match self.pending.replace(PlacedExtent { offset, extent }) {
            Some(complete) => self.write(complete),
            None => Ok(()),
        }
    }

    /// Ends the list; the last nodes are appended to `finished`. Returns the list and the tree's root.
    pub fn finish(mut self, finished: &mut Vec<BuiltNode>) -> Result<(ExtentMap, Child), Error> {
        if let Some(complete) = self.pending.take() {
            self.write(complete)?;
        }
        let root = self.tree.finish(finished);
        let error = |source| Error::Io { what: "write a file in", path: self.path.clone(), source };
        let file = self.file.into_inner().map_err(|failed| error(failed.into_error()))?;
        Ok((ExtentMap { file: Arc::new(file), path: self.path.into(), records: self.records, root }, root))
    }

    fn write(&mut self, placed: PlacedExtent) -> Result<(), Error> {
        self.records += 1;
        self.file.write_all(&encode(&placed)).map_err(|source| Error::Io {
            what: "write a file in",
            path: self.path.clone(),
            source,
        })
    }
}

/// The extents of a version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ExtentMap {
    file: Arc<File>,
    path: Arc<Path>,
    records: u64,
    root: Child,
}

impl ExtentMap {
    /// Reads a list that [`copy_to`](Self::copy_to) wrote; `None` when it is not the list of `root`.
    pub fn load(mut file: File, path: &Path, root: NodeId) -> Result<Option<Self>, Error> {
        let error = |source| Error::Io { what: "read", path: path.to_owned(), source };
        let length = file.metadata().map_err(error)?.len();
        if length % RECORD_BYTES as u64 != 0 {
            return Ok(None);
        }
        file.rewind().map_err(error)?;
        let Some(actual) = recompute_root(&file).map_err(error)? else { return Ok(None) };
        let map = Self { file: file.into(), path: path.into(), records: length / RECORD_BYTES as u64, root: actual };
        Ok((actual.id == root).then_some(map))
    }

    /// Copies the list to the start of `out`.
    pub fn copy_to(&self, mut out: &File) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let (mut at, end) = (0, self.records * RECORD_BYTES as u64);
        while at < end {
            let part = &mut buffer[..(end - at).min(1 << 20) as usize];
            self.file.read_exact_at(part, at)?;
            out.write_all(part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// The tree's root and totals.
    #[must_use]
    pub const fn root(&self) -> Child {
        self.root
    }

    /// Image length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.root.summary.length
    }

    /// Reads from the extent that covers `offset` on.
    pub fn cursor_at(&self, offset: u64) -> Result<ExtentCursor, Error> {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.end() <= offset { low = middle + 1 } else { high = middle }
        }
        Ok(ExtentCursor { map: self.clone(), next: low, buffered: Vec::new(), position: 0 })
    }

    fn record(&self, index: u64) -> Result<PlacedExtent, Error> {
        let mut bytes = [0; RECORD_BYTES];
        self.read(&mut bytes, index)?;
        decode(&bytes).ok_or_else(|| self.damaged())
    }

    fn read(&self, bytes: &mut [u8], index: u64) -> Result<(), Error> {
        self.file.read_exact_at(bytes, index * RECORD_BYTES as u64).map_err(|source| Error::Io {
            what: "read",
            path: self.path.to_path_buf(),
            source,
        })
    }

    fn damaged(&self) -> Error {
        let source = std::io::Error::other("a list of extents changed while it was in use");
        Error::Io { what: "read", path: self.path.to_path_buf(), source }
    }
}

/// Reads extents in order.
#[derive(Debug)]
pub struct ExtentCursor {
    map: ExtentMap,
    next: u64,
    buffered: Vec<PlacedExtent>,
    position: usize,
}

impl ExtentCursor {
    /// The next extent, `None` behind the last.
    pub fn read(&mut self) -> Result<Option<PlacedExtent>, Error> {
        let placed = self.peek()?;
        self.position += usize::from(placed.is_some());
        Ok(placed)
    }

    /// The next extent, which stays the next.
    pub fn peek(&mut self) -> Result<Option<PlacedExtent>, Error> {
        if self.position == self.buffered.len() && self.next < self.map.records {
            self.refill()?;
        }
        Ok(self.buffered.get(self.position).copied())
    }

    /// Moves forward to the extent that covers `offset`, or to the first behind it.
    pub fn skip_to(&mut self, offset: u64) -> Result<Option<PlacedExtent>, Error> {
        while let Some(placed) = self.peek()? {
            if placed.end() > offset {
                return Ok(Some(placed));
            }
            self.position += 1;
        }
        Ok(None)
    }

    fn refill(&mut self) -> Result<(), Error> {
        let count = (self.map.records - self.next).min(CURSOR_RECORDS as u64) as usize;
        let mut bytes = vec![0; count * RECORD_BYTES];
        self.map.read(&mut bytes, self.next)?;
        self.next += count as u64;
        self.buffered.clear();
        self.position = 0;
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        for record in records {
            self.buffered.push(decode(record).ok_or_else(|| self.map.damaged())?);
        }
        Ok(())
    }
}

/// The root of the tree over the records of a file; `None` when they are no list of extents.
fn recompute_root(file: &File) -> std::io::Result<Option<Child>> {
    let mut reader = std::io::BufReader::with_capacity(RECORD_BYTES * CURSOR_RECORDS, file);
    let (mut tree, mut finished, mut end) = (TreeBuilder::new(), Vec::new(), 0u64);
    let mut bytes = [0; RECORD_BYTES];
    loop {
        match reader.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let Some(placed) = decode(&bytes).filter(|placed| placed.offset == end && placed.extent.length > 0) else {
            return Ok(None);
        };
        let Some(next) = end.checked_add(placed.extent.length) else { return Ok(None) };
        end = next;
        tree.push(placed.extent, &mut finished);
        finished.clear();
    }
    Ok(Some(tree.finish(&mut finished)))
}

fn encode(placed: &PlacedExtent) -> [u8; RECORD_BYTES] {
    let (kind, id) = match placed.extent.kind {
        ExtentKind::Data(id) => (1, *id.as_bytes()),
        ExtentKind::Zero => (2, [0; 32]),
        ExtentKind::Free => (3, [0; 32]),
    };
    let mut out = [0; RECORD_BYTES];
    out[0] = kind;
    out[1..9].copy_from_slice(&placed.offset.to_le_bytes());
    out[9..17].copy_from_slice(&placed.extent.length.to_le_bytes());
    out[17..].copy_from_slice(&id);
    out
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<PlacedExtent> {
    let word = |from: usize| record[from..from + 8].try_into().map(u64::from_le_bytes).ok();
    let kind = match record[0] {
        1 => ExtentKind::Data(ChunkId::from_slice(&record[17..])?),
        2 => ExtentKind::Zero,
        3 => ExtentKind::Free,
        _ => return None,
    };
    Some(PlacedExtent { offset: word(1)?, extent: Extent { kind, length: word(9)? } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<Extent>, ExtentMap) {
        let mut extents = Vec::new();
        for n in 0..2000u32 {
            extents.push(Extent::data(ChunkId::of(&n.to_le_bytes()), 1000 + u64::from(n)));
            if n % 7 == 0 {
                extents.push(Extent::zero(64 << 10));
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let mut writer = ExtentWriter::create(directory.path()).unwrap();
        let mut nodes = Vec::new();
        for extent in &extents {
            writer.push(*extent, &mut nodes).unwrap();
        }
        (extents, writer.finish(&mut nodes).unwrap().0)
    }

    #[test]
    fn extents_come_back_from_any_offset() {
        let (extents, map) = sample();
        let mut offset = 0;
        for (n, extent) in extents.iter().enumerate() {
            if n % 97 == 0 {
                for inside in [offset, offset + extent.length - 1] {
                    let placed = map.cursor_at(inside).unwrap().read().unwrap().unwrap();
                    assert_eq!(placed, PlacedExtent { offset, extent: *extent });
                }
            }
            offset += extent.length;
        }
        assert_eq!(map.length(), offset);
        assert_eq!(map.cursor_at(offset).unwrap().read().unwrap(), None);
    }

    #[test]
    fn a_copy_loads_only_as_what_it_is() {
        let (_, map) = sample();
        let copy = || {
            let mut copy = tempfile::tempfile().unwrap();
            map.copy_to(&copy).unwrap();
            copy.rewind().unwrap();
            copy
        };
        let path = Path::new("copy");
        assert!(ExtentMap::load(copy(), path, map.root().id).unwrap().is_some());
        assert!(ExtentMap::load(copy(), path, NodeId::of(b"other")).unwrap().is_none());
        for offset in (0..copy().metadata().unwrap().len()).step_by(991) {
            let damaged = copy();
            let mut byte = [0];
            damaged.read_exact_at(&mut byte, offset).unwrap();
            damaged.write_all_at(&[byte[0] ^ 1], offset).unwrap();
            // The id of an extent without content is not part of it.
            let loaded = ExtentMap::load(damaged, path, map.root().id).unwrap();
            assert!(loaded.is_none() || offset % RECORD_BYTES as u64 >= 17, "byte {offset}");
        }
        let truncated = copy();
        truncated.set_len(RECORD_BYTES as u64 * 5).unwrap();
        assert!(ExtentMap::load(truncated, path, map.root().id).unwrap().is_none());
    }
}
