//! What is done with the bytes, one function for each target.

use std::{
    cell::OnceCell,
    fs::{self, File},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use imprint_client::{extents::ExtentMap, target::Memory};
use imprint_content::{
    Codec, ContentRecord, ImageName, NodeId, ObjectId, Payload, Ref, TagName, VersionId, tree::Node,
};
use imprint_server::{
    PackId, RepositoryId,
    catalog::journal::{self, Decision},
    files::Files,
    pack::{self, PackHeader, Purpose},
    store::Superblock,
};
use tempfile::TempDir;

use crate::{corpus, messages};

pub(crate) fn superblock(input: &[u8]) {
    if let Ok(superblock) = Superblock::decode(input) {
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }
}

pub(crate) fn pack_header(input: &[u8]) {
    if let Ok(header) = PackHeader::decode(input) {
        assert_eq!(header.encode(), input[..pack::HEADER_BYTES]);
    }
}

pub(crate) fn pack_record(input: &[u8]) {
    if let Ok(header) = pack::RecordHeader::decode(input) {
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        assert_eq!(encoded, input[..encoded.len()]);
    }
    let input = Bytes::copy_from_slice(input);
    for purpose in [Purpose::Chunks, Purpose::Nodes] {
        if let Ok((_, payload)) = pack::decode_record(purpose, &input) {
            let _ = payload.decode();
        }
    }
}

pub(crate) fn pack_footer(input: &[u8]) {
    let Ok(trailer) = pack::Trailer::decode(input, input.len() as u64) else { return };
    let range = trailer.footer.start as usize..trailer.footer.end as usize;
    let entries = input.get(range).expect("the footer is inside of the pack");
    let header = input.get(..pack::HEADER_BYTES).expect("the footer is behind the header");
    if let Ok(footer) = pack::Footer::decode(header, entries, &trailer) {
        assert!(footer.entries.is_sorted_by(|a, b| a.id < b.id));
        for entry in footer.entries {
            assert!(u64::from(entry.offset) + pack::record_length(entry.stored_length) <= trailer.footer.start);
        }
    }
}

/// Each byte is in a record, or damaged, or in header or footer; none twice.
pub(crate) fn pack_scan(input: &[u8]) {
    let mut at = 0;
    for item in pack::scan(corpus::SAMPLE.pack, input) {
        let range = match item {
            pack::ScanItem::Record(record) => record.range(),
            pack::ScanItem::Damaged(range) => range,
        };
        assert!(at <= range.start && range.start < range.end && range.end <= input.len() as u64, "{at} {range:?}");
        at = range.end;
    }
}

pub(crate) fn journal_entry(input: &[u8]) {
    if let Ok(decision) = Decision::decode(input) {
        assert_eq!(Decision::decode(&decision.encode()), Ok(decision));
    }
}

/// What is read is at most what was written; the rest is cut short, or damage.
pub(crate) fn journal_file(input: &[u8]) {
    let path = file("journal", input);
    let repository = RepositoryId::from_bytes(corpus::JOURNAL_REPOSITORY);
    if let Ok(entries) = journal::read(&Files::default(), &path, repository) {
        let mut end = 0;
        for (position, _) in entries.map_while(Result::ok) {
            assert!(position.offset > end && position.offset <= input.len() as u64);
            end = position.offset;
        }
    }
}

pub(crate) fn node(input: &[u8]) {
    if let Ok(node) = Node::decode(input) {
        assert_eq!(node.encode(), input);
        let _ = (node.summary(), node.references().count());
    }
}

pub(crate) fn content_record(input: &[u8]) {
    if let Ok(record) = ContentRecord::decode(input) {
        assert_eq!(record.encode(), input);
        assert_eq!(record.id(), VersionId::of(input));
    }
}

/// A codec, a length, and stored bytes.
pub(crate) fn payload(input: &[u8]) {
    let Some((&[codec, a, b, c], stored)) = input.split_first_chunk() else { return };
    let Ok(codec) = Codec::from_number(u32::from(codec % 3)) else { return };
    let raw_length = u32::from_le_bytes([a, b, c, 0]);
    let payload = Payload { codec, raw_length, stored: Bytes::copy_from_slice(stored) };
    if let Ok(raw) = payload.decode() {
        assert_eq!(raw.len(), raw_length as usize);
        let mut exact = vec![0; raw.len()];
        payload.decode_to(&mut exact).unwrap();
        assert_eq!(exact, raw);
    }
}

pub(crate) fn names(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(name) = text.parse::<ImageName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(name) = text.parse::<TagName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(reference) = text.parse::<Ref>() {
        assert_eq!(reference.to_string().parse::<Ref>().as_ref(), Ok(&reference));
    }
    if let Ok(id) = text.parse::<ObjectId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    let _ = (text.parse::<PackId>(), text.parse::<NodeId>(), text.parse::<VersionId>());
}

pub(crate) fn wire_message(input: &[u8]) {
    messages::decode_as_everything(input);
}

/// A list of the tree cache: believed only as the list of its root.
pub(crate) fn extents_file(input: &[u8]) {
    let path = file("extents", input);
    for root in [EXTENTS_ROOT.with(|root| *root), NodeId::of(b"another")] {
        let Some(map) = ExtentMap::load(File::open(&path).unwrap(), &path, root).unwrap() else { continue };
        assert_eq!(map.root().id, root);
        let (mut cursor, mut end) = (map.cursor_at(0).unwrap(), 0);
        while let Some(placed) = cursor.read().unwrap() {
            assert_eq!(placed.offset, end);
            end = placed.end();
        }
        assert_eq!(end, map.length());
    }
}

/// What a target is noted to hold: what comes back was noted of this target, whole.
pub(crate) fn target_memory(input: &[u8]) {
    let target = Path::new(corpus::TARGET);
    let directory = file("memory", b"").with_file_name("targets");
    let memory = Memory::new(&directory);
    let note = NOTE.with(|note| note.get_or_init(|| corpus::note_of(&memory, &directory)).clone());
    fs::write(note, input).unwrap();
    if let Some(held) = memory.load(target).unwrap() {
        assert_eq!(held.target, target);
        assert!(String::from_utf8_lossy(input).contains(&held.version));
    }
}

thread_local! {
    static DIRECTORY: OnceCell<TempDir> = const { OnceCell::new() };
    static EXTENTS_ROOT: NodeId = corpus::extents_root();
    /// Where the memory keeps its note.
    static NOTE: OnceCell<PathBuf> = const { OnceCell::new() };
}

/// A file of this thread with this content.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = DIRECTORY.with(|directory| directory.get_or_init(|| tempfile::tempdir().unwrap()).path().join(name));
    fs::write(&path, content).unwrap();
    path
}
