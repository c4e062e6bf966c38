//! What every file system promises, the simulated one included: what is tested on it says something about disks.

use std::{
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use super::{Access, FileSystem, Files, LocalFiles, Sequential, simulated::Simulated};
use crate::Error;

/// Runs a law on every file system, in an empty directory.
fn on_each(law: impl Fn(&Files, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let systems: [Arc<dyn FileSystem>; 2] = [Arc::new(LocalFiles), Arc::new(Simulated::with_root(dir.path()))];
    for system in systems {
        law(&Files::on(system), dir.path());
    }
}

fn write(files: &Files, path: &Path, content: &[u8]) {
    files.create(path).unwrap().write_all_at(content, 0).unwrap();
}

fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn what_was_written_is_read() {
    on_each(|files, root| {
        let path = root.join("file");
        let file = files.create(&path).unwrap();
        file.write_all_at(b"0123", 0).unwrap();
        file.write_all_at(b"ab", 3).unwrap();
        file.write_all_at(b"", 100).unwrap();
        file.sync().unwrap();
        files.sync_directory(root).unwrap();
        assert_eq!(files.read(&path).unwrap(), b"012ab");

        let opened = files.open(&path, Access::Write).unwrap();
        let mut buffer = [0; 2];
        opened.read_exact_at(&mut buffer, 2).unwrap();
        assert_eq!(&buffer, b"2a");
        assert_eq!(kind(opened.read_exact_at(&mut buffer, 4)), Some(ErrorKind::UnexpectedEof));
        opened.truncate(3).unwrap();
        assert_eq!((file.length().unwrap(), files.read(&path).unwrap()), (3, b"012".to_vec()));
        opened.write_all_at(b"x", 4).unwrap();
        assert_eq!(files.read(&path).unwrap(), b"012\0x");
        opened.allocate(9).unwrap();
        assert_eq!(file.length().unwrap(), 9);
    });
}

#[test]
fn a_name_is_given_once() {
    on_each(|files, root| {
        let [old, new] = ["old", "new"].map(|name| root.join(name));
        write(files, &old, b"1");
        assert!(files.create(&old).is_err());
        files.rename_new(&old, &new).unwrap();
        assert_eq!(kind(files.read(&old)), Some(ErrorKind::NotFound));
        assert_eq!(kind(files.rename_new(&old, &new)), Some(ErrorKind::NotFound));
        write(files, &old, b"2");
        assert_eq!(kind(files.rename_new(&old, &new)), Some(ErrorKind::AlreadyExists));
        assert_eq!((files.read(&old).unwrap(), files.read(&new).unwrap()), (b"2".to_vec(), b"1".to_vec()));
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_each(|files, root| {
        let path = root.join("file");
        write(files, &path, b"content");
        let open = files.open(&path, Access::Read).unwrap();
        files.remove(&path).unwrap();
        files.remove(&path).unwrap();
        assert!(!files.exists(&path).unwrap());
        let mut buffer = [0; 7];
        open.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"content");
    });
}

#[test]
fn directories_list_what_is_in_them() {
    on_each(|files, root| {
        let directory = root.join("directory");
        assert!(files.list(&directory).is_err());
        for _ in 0..2 {
            files.create_directory(&directory).unwrap();
        }
        write(files, &directory.join("b"), b"");
        write(files, &directory.join("a"), b"");
        let mut names = files.list(&directory).unwrap();
        names.sort();
        assert_eq!(names, [directory.join("a"), directory.join("b")]);
        assert_eq!(files.list(root).unwrap(), std::slice::from_ref(&directory));
        assert!(files.exists(&directory).unwrap());
        assert!(files.create(&root.join("no directory/file")).is_err());
        assert!(files.create_directory(&root.join("no directory/directory")).is_err());
        files.sync_directory(root.parent().unwrap()).unwrap();
    });
}

#[test]
fn what_is_published_is_whole_and_never_replaced() {
    on_each(|files, root| {
        let path = root.join("journal");
        write(files, &root.join("journal.new"), b"left by a crash");
        files.publish(&path, b"first").unwrap();
        assert!(matches!(files.publish(&path, b"second"), Err(Error::NotEmpty(_))));
        assert_eq!(files.read(&path).unwrap(), b"first");
    });
}

#[test]
fn a_sequential_reader_reads_what_was_there_when_it_was_opened() {
    on_each(|files, root| {
        let path = root.join("file");
        write(files, &path, b"0123456789");
        let file = files.open(&path, Access::Write).unwrap();
        let mut reader = Sequential::new(files.open(&path, Access::Read).unwrap(), 2).unwrap();
        file.write_all_at(b"later", 10).unwrap();
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"23456789");
        reader.seek(SeekFrom::Start(8)).unwrap();
        found.clear();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"89");
        reader.seek(SeekFrom::Start(1 << 40)).unwrap();
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    });
}
