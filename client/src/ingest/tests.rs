use std::{io::Cursor, os::unix::fs::FileExt};

use imprint_content::{CaptureMode, Codec, ExtentKind, Payload, Profile, tree::TreeBuilder};
use proptest::prelude::*;

use super::*;

/// Sections of 256 KiB, so that small images have many.
const PROFILE: Profile =
    Profile { min_chunk: 2 << 10, avg_chunk: 8 << 10, max_chunk: 32 << 10, section: 256 << 10, ..Profile::V1 };

fn pieces(source: &Source, base: Option<&Base>, workers: usize) -> Vec<Piece> {
    pieces_of(source, &Cutting::undivided(PROFILE), base, workers)
}

fn pieces_of(source: &Source, cutting: &Cutting, base: Option<&Base>, workers: usize) -> Vec<Piece> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut pieces = Pieces::start(source, cutting, &Keep::AllBut(base.cloned()), &Arc::default(), workers);
    let mut all = Vec::new();
    runtime.block_on(async {
        while let Some(batch) = pieces.next().await.unwrap() {
            all.extend(batch);
        }
    });
    all
}

fn root(pieces: &[Piece]) -> imprint_content::NodeId {
    let (mut tree, mut nodes) = (TreeBuilder::new(), Vec::new());
    for piece in pieces {
        tree.push(piece.extent(), &mut nodes);
    }
    tree.finish(&mut nodes).id
}

/// Runs of holes, written zeros and data, in units of 1000 bytes, so that nothing is aligned.
fn any_image() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    prop::collection::vec((0u8..3, 1usize..400, any::<u8>()), 0..10)
}

/// The image as a file with holes, and as bytes.
fn write(runs: &[(u8, usize, u8)]) -> (tempfile::NamedTempFile, Vec<u8>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = Vec::new();
    for (kind, length, seed) in runs {
        let run: Vec<u8> = match kind {
            2 => (0..length * 1000).map(|n| ((n / 7) as u8).wrapping_mul(31) ^ (n as u8) ^ seed).collect(),
            _ => vec![0; length * 1000],
        };
        if *kind > 0 {
            file.as_file().write_all_at(&run, bytes.len() as u64).unwrap();
        }
        bytes.extend(run);
    }
    file.as_file().set_len(bytes.len() as u64).unwrap();
    (file, bytes)
}

/// A GPT, and an ext4 in which files of all sizes lie side by side and two were deleted.
fn known_disk() -> Vec<u8> {
    let stored = Bytes::from_static(include_bytes!("../../fixtures/disk.zst"));
    Payload { codec: Codec::Zstd, raw_length: 1 << 20, stored }.decode().unwrap().to_vec()
}

async fn cut_as_pushed(disk: &[u8], mode: CaptureMode) -> (Source, Cutting) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(disk, 0).unwrap();
    let source = Source::open(file.path()).unwrap();
    let (cutting, layout) = Cutting::of_push(&source, Profile::V2, mode).await.unwrap();
    assert_eq!(layout.unwrap().partitions[0].plain, None);
    (source, cutting)
}

fn listing(pieces: &[Piece]) -> String {
    let line = |piece: &Piece| match piece.extent() {
        Extent { kind: ExtentKind::Data(id), length } => format!("{length} {id}\n"),
        Extent { kind: ExtentKind::Zero, length } => format!("zero {length}\n"),
        Extent { kind: ExtentKind::Free, length } => format!("free {length}\n"),
    };
    pieces.iter().map(line).collect()
}

#[test]
fn cuts_of_a_known_disk_do_not_change() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (mode, expected) in [
        (CaptureMode::Keep, "e5cfeb3a2ac4bcc68e61971abc55d2bda5c37def55330bfb24dc87e045d6a317"),
        (CaptureMode::Omit, "7fc9b3f684b07fe5ca5e227559711c7cce6867e2bcde00649e417042c769801d"),
    ] {
        let (source, cutting) = runtime.block_on(cut_as_pushed(&known_disk(), mode));
        let listing = listing(&pieces_of(&source, &cutting, None, 1));
        assert_eq!(ChunkId::of(listing.as_bytes()).to_string(), expected, "{mode:?}\n{listing}");
    }
}

#[test]
fn a_file_is_cut_the_same_before_and_after_it_was_deleted() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (source, cutting) = runtime.block_on(cut_as_pushed(&known_disk(), CaptureMode::Keep));
    let pieces = pieces_of(&source, &cutting, None, 1);
    // What was written into the two files, as it lies on the disk: up to the end of the last block.
    for (factor, length) in [(13u64, 70_003), (19, 30_001)] {
        let mut file = Vec::new();
        for n in 0u64.. {
            file.extend(format!("{} {};\n", n * factor, n * n % 997).into_bytes());
            if file.len() >= length {
                break;
            }
        }
        file.truncate(length);
        file.resize(length.next_multiple_of(4096), 0);
        let mut chunks = Vec::new();
        let mut cutter = SectionCutter::new(Profile::V2);
        let mut take = |cut: Cut<'_>| {
            if let Cut::Chunk(bytes) = cut {
                chunks.push(ChunkId::of(bytes));
            }
            Ok::<_, Error>(())
        };
        cutter.add(&file, &mut take).unwrap();
        cutter.finish(&mut take).unwrap();
        let all: Vec<_> = pieces.iter().filter_map(|piece| piece.extent().chunk()).collect();
        assert!(all.windows(chunks.len()).any(|window| window == chunks), "{factor}\n{}", listing(&pieces));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_tree_depends_on_bytes_only(runs in any_image()) {
        let (sparse, bytes) = write(&runs);
        let full = tempfile::NamedTempFile::new().unwrap();
        full.as_file().write_all_at(&bytes, 0).unwrap();
        let sparse = Source::open(sparse.path()).unwrap();
        let expected = root(&pieces(&sparse, None, 1));
        for workers in 2..5 {
            prop_assert_eq!(root(&pieces(&sparse, None, workers)), expected, "{} workers", workers);
        }
        prop_assert_eq!(root(&pieces(&Source::open(full.path()).unwrap(), None, 3)), expected);
        prop_assert_eq!(root(&pieces(&Source::stream(Cursor::new(bytes)), None, 1)), expected);
    }

    #[test]
    fn what_the_base_has_is_known_and_the_tree_is_the_same(runs in any_image(), changed in 0usize..400_000) {
        let (file, mut bytes) = write(&runs);
        let source = Source::open(file.path()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut extents = crate::extents::ExtentWriter::create(directory.path()).unwrap();
        for piece in pieces(&source, None, 2) {
            extents.push(piece.extent(), &mut Vec::new()).unwrap();
        }
        let (extents, _) = extents.finish(&mut Vec::new()).unwrap();
        let base = Base { extents, damaged: Arc::default() };
        let again = pieces(&source, Some(&base), 2);
        prop_assert!(again.iter().all(|piece| matches!(piece, Piece::Known(_))));
        if let Some(byte) = bytes.get_mut(changed) {
            *byte ^= 0x55;
            let stream = Source::stream(Cursor::new(bytes));
            let new = pieces(&stream, Some(&base), 1);
            prop_assert!(new.iter().any(|piece| matches!(piece, Piece::Candidate(..))));
            prop_assert_ne!(root(&new), root(&again));
        }
    }
}
