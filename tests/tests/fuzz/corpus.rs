//! Valid inputs, and what is made of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use imprint_client::{
    extents::ExtentWriter,
    target::{Held, Memory, Witness},
};
use imprint_content::{
    ChunkId, ContentRecord, Extent, NodeId, Payload, Profile,
    tree::{Node, TreeBuilder},
};
use imprint_proto::v1::{self, push_request::Step};
use imprint_server::{
    PackId, RepositoryId,
    catalog::journal::Decision,
    pack::{self, PackBuilder, PackHeader, Purpose},
    store::Superblock,
};
use imprint_tests::wire;
use prost::Message;

/// The pack of the samples.
pub(crate) const SAMPLE: PackHeader = PackHeader {
    repository: RepositoryId::from_bytes([7; 16]),
    pack: PackId::from_bytes([8; 16]),
    purpose: Purpose::Chunks,
};

/// The repository of the sample journal, which is the golden one.
pub(crate) const JOURNAL_REPOSITORY: [u8; 16] =
    *include_bytes!("../../fixtures/format-1/healthy/superblock").split_at(10).1.split_first_chunk().unwrap().0;

/// The target of the sample note. It does not exist.
pub(crate) const TARGET: &str = "/nonexistent/fuzz.raw";

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/__fuzz__").join(target).join("corpus")
}

/// The valid inputs of a target, in the order of their names.
pub(crate) fn samples(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory(target)).unwrap_or_else(|error| panic!("{target} has no corpus: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A valid input, changed as `edits` say: which one, where it ends, whether its checksums are made right, and bytes at
/// places.
pub(crate) fn edited(target: &str, samples: &[Vec<u8>], edits: &[u8]) -> Option<Vec<u8>> {
    let (&[which, how, end], edits) = edits.split_first_chunk()?;
    let mut bytes = samples[usize::from(which) % samples.len()].clone();
    for edit in edits.chunks_exact(3).take(1 + usize::from(end % 8)) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(place) {
            // Lengths and counts: their limits are more interesting than their middle.
            *byte = if how & 8 == 0 { *byte ^ edit[2] } else { [0, 1, 0x7f, 0x80, 0xff][usize::from(edit[2] % 5)] };
        }
    }
    match how % 4 {
        0 => bytes.truncate(bytes.len() * usize::from(end) / 255),
        1 => bytes.extend(std::iter::repeat_n(end, usize::from(how))),
        _ => {}
    }
    if how & 4 == 0 {
        make_checksums_right(target, &mut bytes);
    }
    Some(bytes)
}

/// So that the changed bytes are looked at, as those of somebody who can compute checksums.
fn make_checksums_right(target: &str, bytes: &mut [u8]) {
    match target {
        "superblock" => seal(bytes, 54),
        "pack_header" => seal(bytes, 60),
        "pack_record" => _ = seal_record(bytes),
        "pack_scan" => {
            // As long as there are records, which have the pack's mark.
            let mark = word(bytes, pack::HEADER_BYTES);
            let mut at = pack::HEADER_BYTES;
            while word(bytes, at).is_some() && word(bytes, at) == mark {
                let Some(length) = seal_record(&mut bytes[at..]) else { break };
                at += length;
            }
        }
        "pack_footer" => seal_footer(bytes),
        "journal_file" => seal_journal(bytes),
        _ => {}
    }
}

/// Puts the checksum of the bytes before `at` there.
fn seal(bytes: &mut [u8], at: usize) {
    if bytes.len() >= at + 4 {
        let checksum = crc32c::crc32c(&bytes[..at]);
        bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

/// Makes the checksums of a record right; where it ends.
fn seal_record(bytes: &mut [u8]) -> Option<usize> {
    let end = pack::RECORD_HEADER_BYTES + word(bytes, 8)?;
    if let Some(payload) = bytes.get(pack::RECORD_HEADER_BYTES..end) {
        let checksum = crc32c::crc32c(payload);
        bytes[48..52].copy_from_slice(&checksum.to_le_bytes());
    }
    seal(bytes, 52);
    Some(end)
}

fn seal_footer(bytes: &mut [u8]) {
    let Some(trailer) = bytes.len().checked_sub(pack::TRAILER_BYTES) else { return };
    let Some(start) = word(bytes, trailer + 4).and_then(|length| trailer.checked_sub(length)) else { return };
    if start < pack::HEADER_BYTES {
        return;
    }
    let mut hasher = blake3::Hasher::new_derive_key("imprint 2026-11-23 pack footer v1");
    hasher.update(&bytes[..pack::HEADER_BYTES]).update(&bytes[start..trailer + 8]);
    bytes[trailer + 8..trailer + 40].copy_from_slice(hasher.finalize().as_bytes());
}

fn seal_journal(bytes: &mut [u8]) {
    seal(bytes, 26);
    let Some(key) = word(bytes, 22) else { return };
    let mut at = 30;
    while let Some(end) =
        word(bytes, at).and_then(|length| (at + 16).checked_add(length)).filter(|end| *end <= bytes.len())
    {
        let sequence = crc32c::crc32c_append(key as u32, &bytes[at + 8..at + 16]);
        let checksum = crc32c::crc32c_append(sequence, &bytes[at + 16..end]);
        bytes[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
        at = end;
    }
}

/// Fails unless all samples are what they are for.
pub(crate) fn assert_valid() {
    let all = |target, valid: &dyn Fn(&[u8]) -> bool| {
        for sample in samples(target) {
            assert!(valid(&sample), "{target}");
            let mut sealed = sample.clone();
            make_checksums_right(target, &mut sealed);
            assert_eq!(sealed, sample, "{target}: the checksums that are made right are wrong");
        }
    };
    all("superblock", &|input| Superblock::decode(input).is_ok());
    all("pack_header", &|input| PackHeader::decode(input).is_ok());
    all("pack_record", &|input| pack::RecordHeader::decode(input).is_ok());
    all("pack_footer", &|input| {
        let trailer = pack::Trailer::decode(input, input.len() as u64).unwrap();
        let entries = &input[trailer.footer.start as usize..trailer.footer.end as usize];
        pack::Footer::decode(&input[..pack::HEADER_BYTES], entries, &trailer).is_ok()
    });
    all("pack_scan", &|input| pack::scan(SAMPLE.pack, input).any(|item| matches!(item, pack::ScanItem::Record(_))));
    all("journal_entry", &|input| Decision::decode(input).is_ok());
    all("journal_file", &|input| input.starts_with(b"IJnl"));
    all("node", &|input| Node::decode(input).is_ok());
    all("content_record", &|input| ContentRecord::decode(input).is_ok());
    all("wire_message", &|input| v1::PushRequest::decode(input).is_ok());
}

/// What the sample's target is noted to hold.
fn held() -> Held {
    Held {
        target: TARGET.into(),
        repository: "0123456789abcdef0123456789abcdef".into(),
        image: "lab/pc".into(),
        following: "lab/pc:stable".into(),
        number: 7,
        version: "ab".repeat(32),
        root: "cd".repeat(32),
        length: 1 << 30,
        witness: Some(Witness::File { device: 1, inode: 2, size: 1 << 30, mtime_ns: 4, ctime_ns: i64::MAX }),
        complete: true,
        disk: None,
        target_length: None,
        given_length: None,
        overrides: Vec::new(),
        grown: false,
        filesystem_grown: false,
        free_space_kept: false,
        previous: None,
    }
}

/// Makes a note of the sample's target; the file that it is in, the only one in `directory`.
pub(crate) fn note_of(memory: &Memory, directory: &Path) -> PathBuf {
    memory.store(&held()).unwrap();
    fs::read_dir(directory).unwrap().next().expect("a note").unwrap().path()
}

/// The extents of the sample tree.
fn extents() -> impl Iterator<Item = Extent> {
    (0..300u32).flat_map(|number| {
        let chunk = ChunkId::of(&number.to_le_bytes());
        [Extent::zero(1 << 20), Extent::data(chunk, 4 + u64::from(number))]
    })
}

/// The root of the sample tree.
pub(crate) fn extents_root() -> NodeId {
    let (mut tree, mut nodes) = (TreeBuilder::new(), Vec::new());
    extents().for_each(|extent| tree.push(extent, &mut nodes));
    tree.finish(&mut nodes).id
}

/// How the corpus was made.
#[test]
#[ignore = "writes into the source tree"]
fn make_the_corpus() {
    let write = |target: &str, name: &str, content: &[u8]| {
        fs::create_dir_all(directory(target)).unwrap();
        fs::write(directory(target).join(name), content).unwrap();
    };
    write("superblock", "new", &Superblock::new(SAMPLE.repository).encode());
    make_packs(write);

    let golden = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1/healthy/journal")).unwrap();
    write("journal_file", "golden", &golden);
    let mut at = 30;
    let mut number = 0;
    while let Some(length) = word(&golden, at) {
        write("journal_entry", &number.to_string(), &golden[at + 16..][..length]);
        at += 16 + length;
        number += 1;
    }

    let (mut tree, mut nodes) = (TreeBuilder::new(), Vec::new());
    let spool = tempfile::tempdir().unwrap();
    let mut writer = ExtentWriter::create(spool.path()).unwrap();
    for extent in extents() {
        tree.push(extent, &mut nodes);
        writer.push(extent, &mut Vec::new()).unwrap();
    }
    let root = tree.finish(&mut nodes);
    write("node", "leaf", &nodes.first().unwrap().encoded);
    write("node", "root", &nodes.last().unwrap().encoded);
    let list = fs::File::create(directory("node").with_file_name("list")).unwrap();
    writer.finish(&mut Vec::new()).unwrap().0.copy_to(&list).unwrap();
    let list = directory("node").with_file_name("list");
    write("extents_file", "list", &fs::read(&list).unwrap());
    fs::remove_file(list).unwrap();

    let mut record = ContentRecord::new(root.id, root.summary.length, Profile::V1);
    write("content_record", "plain", &record.encode());
    record.message = "as installed".into();
    record.labels.insert("os".into(), "debian".into());
    write("content_record", "labels", &record.encode());

    let zstd = Payload::compress(&Bytes::from(b"all work and no play ".repeat(40)));
    let [low, middle, high, _] = zstd.raw_length.to_le_bytes();
    write("payload", "zstd", &[&[1, low, middle, high][..], &zstd.stored].concat());
    write("payload", "raw", &[0, 2, 0, 0, b'o', b'k']);
    let names = ["lab/pc", "lab/pc:stable", "lab/pc@7", "lab/pc@3f5a90c2", "stable", &"07".repeat(32)];
    for (number, name) in names.iter().enumerate() {
        write("names", &number.to_string(), name.as_bytes());
    }
    make_messages(write, &record);

    let memory = Memory::new(spool.path().join("targets"));
    let note = note_of(&memory, &spool.path().join("targets"));
    write("target_memory", "note", &fs::read(note).unwrap());
}

fn make_packs(write: impl Fn(&str, &str, &[u8])) {
    let mut bytes = Vec::new();
    let mut builder = PackBuilder::new(SAMPLE);
    let raw = [&b"one"[..], &b"another one ".repeat(40), b"the last of them"];
    for raw in raw {
        let id = ChunkId::of(raw).into();
        builder.push(id, &Payload::compress(&Bytes::copy_from_slice(raw)), &mut bytes);
    }
    let records = bytes.len();
    builder.finish(&mut bytes);
    write("pack_header", "chunks", &bytes[..pack::HEADER_BYTES]);
    write("pack_record", "raw", &bytes[pack::HEADER_BYTES..][..pack::RECORD_HEADER_BYTES + 3]);
    write("pack_footer", "three", &bytes);
    write("pack_scan", "three", &bytes);
    write("pack_scan", "no-footer", &bytes[..records]);
}

fn make_messages(write: impl Fn(&str, &str, &[u8]), record: &ContentRecord) {
    let open = v1::OpenUpload {
        base: Some(v1::VersionKey { image: "lab/pc".into(), number: 1 }),
        ..wire::open("lab/pc", [1; 16])
    };
    let leaf = wire::leaf(&[b"one"]);
    let small = ContentRecord { length: 3, root: wire::node(&leaf).0, message: String::new(), ..record.clone() };
    let (chunk, node) = (wire::chunk(b"one"), wire::node(&leaf));
    let steps = [
        ("open", Step::Open(wire::open("lab/pc", [2; 16]))),
        ("open-on-a-base", Step::Open(open)),
        ("ask", wire::ask(1, [chunk.0.as_bytes().as_slice(), &[2; 32]].concat())),
        ("chunk", wire::chunks(vec![chunk.1])),
        ("node", wire::nodes(vec![node.1])),
        ("commit", wire::commit_record(&small)),
        ("commit-of-nothing", wire::commit_record(record)),
    ];
    for (name, step) in steps {
        write("wire_message", name, &v1::PushRequest { step: Some(step) }.encode_to_vec());
    }
}
