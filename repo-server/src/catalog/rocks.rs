//! An ordered index on RocksDB: the only file that names it.
//!
//! Writes go to its log but are not synced. Everything in it can be derived from journal and packs; a crash takes
//! back its latest writes in their order, and the applied position with them, so that opening replays the rest.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, InfoLogger, LogLevel, Options, PrefixRange, ReadOptions, Snapshot,
    WriteBatch, WriteOptions,
};

use crate::{Error, files::Files};

const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// For an index that is derived: fewer and larger tables, so that less is merged.
const DERIVING_BUFFER_BYTES: usize = 64 << 20;
const WRITE_BUFFERS: i32 = 2;
/// File handles, each with an open table.
const MAX_OPEN_FILES: i32 = 128;
/// One in a hundred lookups of an unknown id reads a block for nothing.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOG_FILES: usize = 2;
/// How often a write that waits for RocksDB to notice room looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What an index is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexUse {
    /// Small changes for as long as a repository is open.
    Serving,
    /// To be filled from journal and packs. There is no log: a crash takes back what was written since [`RocksIndex::flush`],
    /// or since RocksDB did so by itself, again the latest first.
    Deriving,
}

/// Sorted keys and values in a directory of their own.
pub(super) struct RocksIndex {
    db: DB,
    path: PathBuf,
    write_options: WriteOptions,
    /// Has room for a full disk.
    files: Files,
    /// What every write fails with, when a test says so.
    #[cfg(test)]
    pub(super) write_fault: std::sync::Mutex<Option<std::sync::Arc<dyn Fn() -> Error + Send + Sync>>>,
}

/// Changes that are made together or not at all.
#[derive(Default)]
pub(super) struct Batch(WriteBatch);

/// The index as it was at one moment.
pub(super) struct View<'a> {
    snapshot: Snapshot<'a>,
    index: &'a RocksIndex,
}

impl Batch {
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl RocksIndex {
    /// Opens the index, or creates it. Memory is bounded by `cache_bytes`, which holds blocks, indexes and filters
    /// alike, and the write buffers.
    pub(super) fn open(path: &Path, cache_bytes: usize, files: &Files, index_use: IndexUse) -> Result<Self, Error> {
        let db = match open_db(path, cache_bytes, index_use) {
            Err(Error::Full { .. }) if files.make_room().is_some() => open_db(path, cache_bytes, index_use)?,
            opened => opened?,
        };
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(index_use == IndexUse::Deriving);
        Ok(Self {
            db,
            path: path.to_owned(),
            write_options,
            files: files.clone(),
            #[cfg(test)]
            write_fault: None.into(),
        })
    }

    /// Opens an index that is not to be changed: nothing at all is written, not even to RocksDB's own log. What stands in its
    /// write-ahead log is read into memory.
    pub(super) fn open_to_look(path: &Path, files: &Files) -> Result<Self, Error> {
        if !path.is_dir() {
            return Err(Error::FileCorrupt { path: path.to_owned(), why: "it is missing".into() });
        }
        let mut options = Options::default();
        options.set_paranoid_checks(true);
        options.set_max_open_files(MAX_OPEN_FILES);
        // Without one of ours, RocksDB would begin a log file beside its data.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |_, message| {
            tracing::debug!(message, "RocksDB");
        }));
        let everything = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors_read_only(&options, path, [everything], false);
        Ok(Self {
            db: db.map_err(|error| failure(path, &error))?,
            path: path.to_owned(),
            write_options: WriteOptions::default(),
            files: files.clone(),
            #[cfg(test)]
            write_fault: None.into(),
        })
    }

    /// Looks up a batch of keys in one call and decodes what is found. One answer for each key, in order.
    pub(super) fn multi_get<T>(
        &self,
        keys: &[Vec<u8>],
        decode: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<Vec<Option<T>>, Error> {
        let Some(everything) = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME) else {
            return Err(Error::Catalog("it has no default column family".into()));
        };
        let found = self.db.batched_multi_get_cf(everything, keys, false);
        let decode = |value: Option<DBPinnableSlice<'_>>| value.map(|value| decode(&value)).transpose();
        found.into_iter().map(|value| value.map_err(|error| failure(&self.path, &error)).and_then(decode)).collect()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The index as it is now, unmoved by later writes.
    pub(super) fn view(&self) -> View<'_> {
        View { snapshot: self.db.snapshot(), index: self }
    }

    /// Makes all changes of a batch, or none. On a full disk the reserve is given up, and RocksDB gets the time that it
    /// takes to notice.
    #[allow(clippy::needless_pass_by_value)] // a batch is written once
    pub(super) fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut written = self.try_write(&batch);
        while let Err(Error::Full { .. }) = written
            && self.files.make_room().is_some_and(|until| Instant::now() < until)
        {
            thread::sleep(LOOK_AGAIN);
            written = self.try_write(&batch);
        }
        written
    }

    fn try_write(&self, batch: &Batch) -> Result<(), Error> {
        #[cfg(test)]
        if let Some(fault) = &*self.write_fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(fault());
        }
        let batch = WriteBatch::from_data(batch.0.data());
        self.db.write_opt(batch, &self.write_options).map_err(|error| failure(&self.path, &error))
    }

    /// Writes to tables what is in memory; durable on return.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map_err(|error| failure(&self.path, &error))
    }
}

impl View<'_> {
    pub(super) fn get<T>(
        &self,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let value = self.snapshot.get_pinned(key).map_err(|error| self.failure(&error))?;
        value.map(|value| decode(&value)).transpose()
    }

    /// Visits up to `limit` entries whose keys start with `prefix`, in order, from `from` on. The visitor gets
    /// the key without the prefix, and the value.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut entries = self.snapshot.raw_iterator_opt(within(prefix));
        entries.seek(from);
        for _ in 0..limit {
            let Some((key, value)) = entries.item() else { break };
            visit(&key[prefix.len()..], value)?;
            entries.next();
        }
        entries.status().map_err(|error| self.failure(&error))
    }

    /// The value of the last key that starts with `prefix`.
    pub(super) fn last<T>(
        &self,
        prefix: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut entries = self.snapshot.raw_iterator_opt(within(prefix));
        entries.seek_to_last();
        entries.status().map_err(|error| self.failure(&error))?;
        entries.value().map(decode).transpose()
    }

    fn failure(&self, error: &rocksdb::Error) -> Error {
        failure(&self.index.path, error)
    }
}

fn open_db(path: &Path, cache_bytes: usize, index_use: IndexUse) -> Result<DB, Error> {
    let options = options(cache_bytes, index_use);
    let everything = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
    DB::open_cf_descriptors(&options, path, [everything]).map_err(|error| failure(path, &error))
}

fn within(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_range(PrefixRange(prefix));
    options
}

fn options(cache_bytes: usize, index_use: IndexUse) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    // Otherwise indexes and filters grow with the repository, outside of any bound.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    tables.set_whole_key_filtering(true);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&tables);
    // Nearly all bytes are ids and locations, which do not shrink.
    options.set_compression_type(DBCompressionType::None);
    options.set_paranoid_checks(true);
    options.set_write_buffer_size(match index_use {
        IndexUse::Serving => WRITE_BUFFER_BYTES,
        IndexUse::Deriving => DERIVING_BUFFER_BYTES,
    });
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options
}

/// Damage is told apart because a rebuild heals it, and a full disk because room does.
fn failure(path: &Path, error: &rocksdb::Error) -> Error {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => Error::FileCorrupt { path: path.to_owned(), why: message },
        ErrorKind::IOError if message.contains("No space left") || message.contains("quota exceeded") => {
            Error::Full { what: format!("catalog: {message}") }
        }
        _ => Error::Catalog(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(value.to_vec())
    }

    fn sample(path: &Path) -> RocksIndex {
        let index = RocksIndex::open(path, 1 << 20, &Files::default(), IndexUse::Serving).unwrap();
        let mut batch = Batch::default();
        for (key, value) in [("a", "0"), ("ka", "1"), ("kb", "2"), ("kc", "3"), ("l", "4")] {
            batch.put(key.as_bytes(), value.as_bytes());
        }
        index.write(batch).unwrap();
        index
    }

    #[test]
    fn scans_stay_within_prefix_and_limit() {
        let dir = tempfile::tempdir().unwrap();
        let index = sample(dir.path());
        let scan = |from: &[u8], limit| {
            let mut found = Vec::new();
            let visit = |key: &[u8], value: &[u8]| {
                found.push([key, value].concat());
                Ok(())
            };
            index.view().scan(b"k", from, limit, visit).unwrap();
            found
        };
        assert_eq!(scan(b"k", 9), [b"a1", b"b2", b"c3"]);
        assert_eq!(scan(b"kb", 9), [b"b2", b"c3"]);
        assert_eq!(scan(b"k", 1), [b"a1"]);
        assert_eq!(index.view().last(b"k", raw).unwrap().unwrap(), b"3");
        assert_eq!(index.view().last(b"x", raw).unwrap(), None);
    }

    #[test]
    fn a_batch_of_keys_is_answered_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let index = sample(dir.path());
        let keys = [b"kc".to_vec(), b"??".to_vec(), b"a".to_vec(), b"kc".to_vec()];
        let found = index.multi_get(&keys, raw).unwrap();
        assert_eq!(found, [Some(b"3".to_vec()), None, Some(b"0".to_vec()), Some(b"3".to_vec())]);
    }

    #[test]
    fn a_view_does_not_move() {
        let dir = tempfile::tempdir().unwrap();
        let index = sample(dir.path());
        let view = index.view();
        let mut batch = Batch::default();
        batch.delete(b"a");
        index.write(batch).unwrap();
        assert_eq!(view.get(b"a", raw).unwrap().unwrap(), b"0");
        assert_eq!(index.view().get(b"a", raw).unwrap(), None);
    }

    #[test]
    fn looking_at_an_index_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(sample(dir.path()));
        let files = || {
            let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<_> = names.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
            files.sort();
            files
        };
        let before = files();
        let index = RocksIndex::open_to_look(dir.path(), &Files::default()).unwrap();
        assert_eq!(index.view().get(b"ka", raw).unwrap().unwrap(), b"1");
        let mut batch = Batch::default();
        batch.put(b"ka", b"2");
        assert!(index.write(batch).is_err());
        drop(index);
        assert!(files() == before, "something was written");
        let missing = dir.path().join("missing");
        assert!(matches!(RocksIndex::open_to_look(&missing, &Files::default()), Err(Error::FileCorrupt { .. })));
        assert!(!missing.exists());
    }

    #[test]
    fn damage_is_reported_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(sample(dir.path()));
        std::fs::write(dir.path().join("CURRENT"), "no manifest\n").unwrap();
        let Err(error) = RocksIndex::open(dir.path(), 1 << 20, &Files::default(), IndexUse::Serving) else {
            panic!("opened")
        };
        assert!(matches!(error, Error::FileCorrupt { .. }), "{error}");
        assert!(error.hint().contains("imprint-server rebuild"));
    }
}
