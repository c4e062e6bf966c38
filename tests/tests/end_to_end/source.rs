//! A source that changes while it is pushed is an error, never a version.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use imprint_client::{Error, Progress, PushOptions, PushOutcome, source::Source};
use imprint_content::CaptureMode;
use imprint_proto::Kind;
use imprint_tests::{
    client::{Client, name},
    devices::LoopDevice,
    disks::disks,
    files::{self, MIB, assert_same, copy_sparse, length, packs},
    programs::{Home, Running, feed},
    random::Random,
};

/// How often a change may come too late, because the push was over before.
const ATTEMPTS: usize = 20;

fn writable_noise(path: &Path) {
    io::copy(&mut File::open(&disks().noise).unwrap(), &mut File::create(path).unwrap()).unwrap();
}

/// A client of a new repository, and a source of its own that takes a while to push.
async fn with_source() -> (Client, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(&directory.path().join("repository")).await;
    let source = directory.path().join("source.raw");
    writable_noise(&source);
    (client, source, directory)
}

/// Pushes `path` and changes it in the middle; the outcome, unless the push had come to its end before.
async fn push_while(
    client: &Client,
    path: &Path,
    change: impl FnOnce() + Send + 'static,
) -> Option<Result<PushOutcome, Error>> {
    let (progress, is_over) = (Arc::new(Progress::new()), Arc::new(AtomicBool::new(false)));
    let changing = {
        let (progress, is_over) = (Arc::clone(&progress), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while progress.done() == 0 && !is_over.load(SeqCst) {
                std::thread::yield_now();
            }
            change();
            !is_over.load(SeqCst)
        })
    };
    let (source, image) = (Source::open(path).unwrap(), name("lab/pc"));
    let outcome = imprint_client::push(&client.repository, source, &image, PushOptions::default(), progress).await;
    is_over.store(true, SeqCst);
    let came_in_time = changing.join().unwrap();
    (came_in_time || outcome.is_err()).then_some(outcome)
}

/// What pushes an image that is changed like this ends with.
async fn failure(change: impl Fn(&Path) + Send + Clone + 'static) -> Error {
    let (client, source, _directory) = with_source().await;
    for attempt in 1..=ATTEMPTS {
        writable_noise(&source);
        let (path, change) = (source.clone(), change.clone());
        let Some(outcome) = push_while(&client, &source, move || change(&path)).await else {
            println!("attempt {attempt} came too late");
            continue;
        };
        let error = outcome.expect_err("a changed source became a version");
        let versions = client.repository.versions(&name("lab/pc")).await;
        assert!(versions.map_or(0, |versions| versions.len()) < attempt, "there is one version too many");
        return error;
    }
    panic!("no change came in time");
}

fn assert_changed(error: &Error, what: &str) {
    assert!(matches!(error.reason(), "SOURCE" | "SOURCE_CHANGED"), "{error:?}");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(what), "{error}");
    assert!(error.hint().contains("push again"), "{}", error.hint());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_written_while_they_are_read_are_an_error() {
    for offset in [0, 80 * MIB, 160 * MIB - 1] {
        let error = failure(move |path| files::overwrite(path, offset, b"!")).await;
        assert_changed(&error, "changed while it was read: it was written to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_written_again_are_an_error_too() {
    let error = failure(|path| {
        let mut first = [0];
        File::open(path).unwrap().read_exact(&mut first).unwrap();
        files::overwrite(path, 0, &first);
    });
    assert_changed(&error.await, "it was written to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_hides_its_time_is_an_error() {
    let error = failure(|path| {
        let file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"!", 0).unwrap();
        file.set_modified(before).unwrap();
    });
    assert_changed(&error.await, "its attributes changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_shrinks_is_an_error() {
    for length in [0, 1, 100 * MIB, 160 * MIB - 1] {
        let error = failure(move |path| File::options().write(true).open(path).unwrap().set_len(length).unwrap());
        assert_changed(&error.await, "changed while it was read: it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_grows_is_an_error() {
    let error = failure(|path| files::overwrite(path, length(path), b"more"));
    assert_changed(&error.await, "its size went from");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_written_to_is_an_error() {
    let (client, source, _directory) = with_source().await;
    let Some(device) = LoopDevice::over(&source) else { return };
    for _ in 0..ATTEMPTS {
        let node = device.node().to_owned();
        // Into the page cache only: the kernel has not counted it yet.
        let outcome = push_while(&client, device.node(), move || files::overwrite(&node, 3 * MIB, b"changed"));
        let Some(outcome) = outcome.await else { continue };
        assert_changed(&outcome.expect_err("a changed device became a version"), "it was written to");
        return;
    }
    panic!("no change came in time");
}

/// FOG shrinks the source before it captures it: a capture only reads, also one that leaves free space out.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_never_written() {
    let (client, _source, directory) = with_source().await;
    let source = directory.path().join("disk.raw");
    copy_sparse(&disks().v1, &source);
    let state = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mtime_nsec(), metadata.ctime_nsec(), metadata.len(), metadata.modified().unwrap())
    };
    let omitting = || PushOptions { capture_mode: CaptureMode::Omit, ..PushOptions::default() };
    let before = state(&source);
    for options in [PushOptions::default(), omitting()] {
        client.try_push(Source::open(&source).unwrap(), "lab/file", options).await.unwrap();
    }
    assert_eq!(state(&source), before);
    assert_same(&source, &disks().v1);
    let Some(device) = LoopDevice::over(&source) else { return };
    let written_before = device.written_bytes();
    for options in [PushOptions::default(), omitting()] {
        client.try_push(Source::open(device.node()).unwrap(), "lab/device", options).await.unwrap();
    }
    assert_eq!(device.written_bytes(), written_before);
    drop(device);
    assert_eq!(state(&source), before);
    assert_same(&source, &disks().v1);
    let Some(device) = LoopDevice::read_only(&source) else { return };
    client.try_push(Source::open(device.node()).unwrap(), "lab/read-only", omitting()).await.unwrap();
    assert_eq!(client.versions("lab/read-only").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_only_seems_busy_is_pushed() {
    let (client, source, _directory) = with_source().await;
    // Read, replaced by name, and touched in a neighbour: none of that changes what is read.
    let path = source.clone();
    let outcome = push_while(&client, &source, move || {
        let _ = fs::read(&path).unwrap();
        fs::write(path.with_extension("new"), "another file").unwrap();
    });
    if let Some(outcome) = outcome.await {
        assert_eq!(outcome.unwrap().version.number, 1);
    }
}

/// restic#3023, rclone#7449: what came before the error is not taken for the whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_with_an_error_is_no_version() {
    struct Broken(u64);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.checked_sub(buffer.len() as u64) {
                Some(left) => self.0 = left,
                None => return Err(io::Error::other("the pipe broke")),
            }
            Random::new(self.0).fill(buffer);
            Ok(buffer.len())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    for length in [0, MIB, 70 * MIB] {
        let pushed = client.try_push(Source::stream(Broken(length)), "lab/pc", PushOptions::default()).await;
        let error = pushed.expect_err("half a stream became a version");
        assert_eq!(error.reason(), "SOURCE");
    }
    assert_eq!(client.repository.images().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_come_in_small_pieces() {
    struct Dribble(File, Random);
    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.below(10) == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = (1 + self.1.below(70_000) as usize).min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let client = Client::embedded(directory.path()).await;
    let source = Source::stream(Dribble(File::open(&disks().v1).unwrap(), Random::new(31)));
    client.try_push(source, "lab/pc", PushOptions::default()).await.unwrap();
    let target = client.place("target.raw");
    client.restore("lab/pc", &target).await;
    assert_same(&target, &disks().v1);
}

#[test]
fn a_changed_source_has_an_exit_code_and_leaves_no_repository_behind_that_lies() {
    let home = Home::new();
    let source = home.place("source.raw");
    writable_noise(&source);
    for _ in 0..ATTEMPTS {
        let mut command = home.command([Path::new("push"), &source, Path::new("lab/pc")]);
        let mut pushing = Running::start(&mut command);
        // The first pack that fills: reading goes on.
        imprint_tests::programs::wait_until("something is stored", || {
            fs::read_dir(home.repository().join("packs/incoming")).is_ok_and(|mut packs| packs.next().is_some())
                || pushing.has_ended()
        });
        files::overwrite(&source, 0, b"!");
        let ended = pushing.finish();
        if ended.code() == 0 {
            println!("the change came too late");
            continue;
        }
        assert_eq!(ended.code(), 5, "{ended}");
        assert!(ended.stderr.contains("changed while it was read") && ended.stderr.contains("hint: "), "{ended}");
        // Again, and undisturbed: what was stored is not sent again.
        let pushed = home.result([Path::new("push"), &source, Path::new("lab/pc")]);
        assert!(pushed["new_chunks"].as_u64() < pushed["chunks"].as_u64(), "{pushed}");
        home.ok(["verify", "lab/pc"]);
        return;
    }
    panic!("no change came in time");
}

#[test]
fn an_input_that_ends_early_is_what_it_is() {
    // A pipe cannot tell whether its writer was done: what came is the image.
    let home = Home::new();
    let mut command = home.command(["push", "-", "lab/pc", "--json"]);
    let mut pushing = Running::start(command.stdin(std::process::Stdio::piped()));
    assert!(feed(&mut pushing.stdin(), &[7; 100_001]));
    let ended = pushing.finish();
    assert_eq!((ended.code(), &ended.last_event("result")["image_bytes"]), (0, &100_001.into()));
    assert!(!packs(&home.repository()).is_empty());
}
