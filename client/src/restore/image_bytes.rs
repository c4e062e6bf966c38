//! The bytes of a version, read where they are needed before a target is opened: its partition table, its end.
//!
//! Chunks come from the target where it has them, else from the repository. Each was hashed.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, FileTypeExt},
    path::Path,
    sync::{Arc, Mutex},
};

use imprint_content::{ChunkId, ExtentKind};
use imprint_disks::{ReadAt, ReadError};
use rustix::fs::OFlags;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    Error, Progress, Repository, Version,
    extents::{ExtentMap, PlacedExtent},
    fetch::{Need, fetch_chunks},
    system::node,
    target::{Override, overrides::put_image_bytes},
};

use super::lock;

/// Chunks that are remembered: a table is read in small pieces from a few places.
const REMEMBERED_CHUNKS: usize = 4;

/// A version as a disk. Only for threads that may block.
pub(super) struct ImageBytes {
    repository: Repository,
    version: Version,
    extents: ExtentMap,
    progress: Arc<Progress>,
    runtime: Handle,
    /// What may hold it, and what is known to differ there.
    local: Option<(File, Vec<Override>)>,
    recent: Mutex<Vec<(ChunkId, Arc<Vec<u8>>)>>,
}

impl ImageBytes {
    /// Must be called in a runtime, which fetches. `target` is what may hold it, with its `overrides`.
    pub(super) fn new(
        repository: &Repository,
        version: &Version,
        extents: &ExtentMap,
        target: Option<File>,
        overrides: &[Override],
        progress: &Arc<Progress>,
    ) -> Self {
        Self {
            repository: repository.clone(),
            version: version.clone(),
            extents: extents.clone(),
            progress: Arc::clone(progress),
            runtime: Handle::current(),
            local: target.map(|file| (file, overrides.to_vec())),
            recent: Mutex::default(),
        }
    }

    /// Fills `buf` from `offset`; what is zero or free reads as zero.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        buf.fill(0);
        let end = offset.saturating_add(buf.len() as u64);
        let mut cursor = self.extents.cursor_at(offset)?;
        while let Some(placed) = cursor.read()?.filter(|placed| placed.offset < end) {
            if let ExtentKind::Data(id) = placed.extent.kind {
                let chunk = self.chunk(&placed, id)?;
                let (start, stop) = (placed.offset.max(offset), placed.end().min(end));
                let from = &chunk[(start - placed.offset) as usize..(stop - placed.offset) as usize];
                buf[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// All bytes of one data extent.
    pub(super) fn chunk(&self, placed: &PlacedExtent, id: ChunkId) -> Result<Arc<Vec<u8>>, Error> {
        if let Some((_, chunk)) = lock(&self.recent).iter().find(|(known, _)| *known == id) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = match self.chunk_on_target(placed, id) {
            Some(chunk) => chunk,
            None => self.runtime.block_on(self.fetch(placed, id))?,
        };
        let chunk = Arc::new(chunk);
        let mut recent = lock(&self.recent);
        if recent.len() == REMEMBERED_CHUNKS {
            recent.remove(0);
        }
        recent.push((id, Arc::clone(&chunk)));
        Ok(chunk)
    }

    fn chunk_on_target(&self, placed: &PlacedExtent, id: ChunkId) -> Option<Vec<u8>> {
        let (file, overrides) = self.local.as_ref()?;
        let mut buf = vec![0; placed.extent.length as usize];
        FileExt::read_exact_at(file, &mut buf, placed.offset).ok()?;
        put_image_bytes(overrides, &mut buf, placed.offset);
        (ChunkId::of(&buf) == id).then_some(buf)
    }

    async fn fetch(&self, placed: &PlacedExtent, id: ChunkId) -> Result<Vec<u8>, Error> {
        let (found, needs) = mpsc::channel(1);
        let need = Need { offset: placed.offset, id, length: placed.extent.length, also: Vec::new() };
        let sent = found.send(vec![need]).await;
        drop(found);
        sent.map_err(|_| Error::WorkerStopped)?;
        let taken = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&taken);
        let accept = Arc::new(move |_offset: u64, raw: &[u8]| {
            lock(&out).extend_from_slice(raw);
            Ok(())
        });
        fetch_chunks(&self.repository, &self.version, needs, accept, &self.progress).await?;
        let chunk = std::mem::take(&mut *lock(&taken));
        match chunk.len() as u64 == placed.extent.length {
            true => Ok(chunk),
            false => Err(Error::Protocol("a chunk did not arrive".into())),
        }
    }
}

impl ReadAt for ImageBytes {
    fn length(&self) -> u64 {
        self.extents.length()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(buf, offset).map_err(io::Error::other)
    }
}

/// The file or device that a version goes onto, for reading. What cannot be read, or is neither, has nothing to offer;
/// opening it for writing will say why. Not a pipe: opening that would wait for a writer.
pub(super) fn open_local(target: &Path) -> Option<File> {
    let metadata = fs::metadata(target).ok()?;
    let is_storage = metadata.is_file() || metadata.file_type().is_block_device();
    is_storage.then(|| node::open_expected(target, &metadata, OFlags::RDONLY).ok().flatten()).flatten()
}

/// What went wrong below a reader of disks.
pub(super) fn cause(error: ReadError) -> Error {
    let ReadError { offset, source } = error;
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Disk(ReadError { offset, source }),
    }
}
