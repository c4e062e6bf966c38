//! Streams. What is on a disk is looked at before it is cut, so a stream with a disk in it is written to a file first.

use std::{
    env,
    fs::{self, File},
    io::{self, Cursor, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use imprint_disks::{Layout, MapOptions, ReadAt, Reason};

use crate::{
    DiskLayout, Error, Phase, Progress,
    cutting::is_zero,
    restore::blocking,
    source::{Source, SourceError},
};

/// Bytes read at once. The first of them are enough to know whether there is a disk: whatever is known begins in them.
const READ_BYTES: usize = 1 << 20;
/// What is zero in units of this many bytes becomes a hole.
const HOLE_BYTES: usize = 64 << 10;

/// What became of a stream.
pub(super) enum Prepared {
    /// It is in a file now.
    Spooled(Source),
    /// It has no partitions and no known filesystem: there is nothing to look at. The length in the layout is not known yet.
    Plain(Source, DiskLayout),
}

/// Looks at the start of a stream, and writes it to a file if that is needed: in `TMPDIR`, or else in `cache`. The file
/// takes as much as the data of the image, has no name, and is gone with the source or the process.
///
/// # Errors
/// When there is not enough room; nothing stays behind.
pub(super) async fn prepare(stream: Source, cache: &Path, progress: &Arc<Progress>) -> Result<Prepared, Error> {
    let (directory, progress) = (directory(cache), Arc::clone(progress));
    blocking(move || {
        let mut head = vec![0; READ_BYTES];
        let count = stream.read_next(&mut head)?;
        head.truncate(count);
        let layout = Layout::read(&Head(&head), stream.sector_size(), &MapOptions::new(u64::MAX))?;
        // Had it only more bytes, it still would have no table at its start, and no filesystem.
        if layout.plain == Some(Reason::NoFilesystem) {
            let described = DiskLayout::from(&layout);
            return Ok(Prepared::Plain(Source::stream(Rejoined { head: Cursor::new(head), rest: stream }), described));
        }
        progress.enter(Phase::Spooling);
        write(&head, &stream, &directory, &progress).map(Prepared::Spooled)
    })
    .await?
}

fn directory(cache: &Path) -> PathBuf {
    env::var_os("TMPDIR").filter(|set| !set.is_empty()).map_or_else(|| cache.to_owned(), PathBuf::from)
}

fn write(head: &[u8], stream: &Source, directory: &Path, progress: &Progress) -> Result<Source, Error> {
    let failed = |source| Error::Spool { directory: directory.to_owned(), source };
    // The cache is made when it is needed; what TMPDIR names must be there, which is found out in the next line.
    let _ = fs::create_dir_all(directory);
    let file = tempfile::tempfile_in(directory).map_err(failed)?;
    write_data(&file, 0, head).map_err(failed)?;
    let mut length = head.len() as u64;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = stream.read_next(&mut buffer)?;
        write_data(&file, length, &buffer[..count]).map_err(failed)?;
        length += count as u64;
        progress.add_done(count as u64);
        if count < buffer.len() {
            break;
        }
    }
    file.set_len(length).map_err(failed)?;
    Ok(Source::of_opened(file, "-".into(), length, stream.sector_size()))
}

fn write_data(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (n, part) in bytes.chunks(HOLE_BYTES).enumerate() {
        if !is_zero(part) {
            file.write_all_at(part, at + (n * HOLE_BYTES) as u64)?;
        }
    }
    Ok(())
}

/// The first bytes of a stream, as if they were a disk.
struct Head<'a>(&'a [u8]);

impl ReadAt for Head<'_> {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// A stream from its start again.
struct Rejoined {
    head: Cursor<Vec<u8>>,
    rest: Source,
}

impl Read for Rejoined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.rest.read_next(buffer).map_err(|error| match error {
                SourceError::ReadStream { source } => source,
                other => io::Error::other(other),
            }),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn prepared(bytes: &[u8]) -> Prepared {
        let cache = tempfile::tempdir().unwrap();
        let stream = Source::stream(Cursor::new(bytes.to_vec()));
        prepare(stream, &cache.path().join("new"), &Arc::default()).await.unwrap()
    }

    #[tokio::test]
    async fn a_disk_is_spooled_as_it_came_and_zeros_take_no_room() {
        let mut bytes = vec![7; 3 << 20];
        // The superblock of an XFS: known by name.
        bytes[..4].copy_from_slice(b"XFSB");
        bytes[1 << 20..2 << 20].fill(0);
        bytes.extend([0; 70_001]);
        let Prepared::Spooled(source) = prepared(&bytes).await else { panic!("not spooled") };
        assert_eq!(source.length(), Some(bytes.len() as u64));
        let mut back = vec![1; bytes.len()];
        source.read_at(&mut back, 0).unwrap();
        assert!(back == bytes);
        let data: u64 = source.data_ranges(0..bytes.len() as u64).unwrap().iter().map(|r| r.end - r.start).sum();
        assert!(data <= (2 << 20) + (64 << 10), "{data}");
    }

    #[tokio::test]
    async fn what_is_no_disk_is_read_once_from_its_start() {
        for length in [0, 100, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES] {
            let bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            let Prepared::Plain(source, layout) = prepared(&bytes).await else { panic!("spooled") };
            assert!(layout.partitions.is_empty() && layout.plain.is_some());
            let mut back = vec![1; length + 10];
            assert_eq!(source.read_next(&mut back).unwrap(), length);
            assert!(back[..length] == bytes);
        }
    }
}
