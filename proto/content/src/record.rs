//! Content records: what a version says of itself. Written by the client; the hash is the version id.
//! Layout: `docs/format.md`, "Content record".

use std::collections::BTreeMap;

use crate::{
    DecodeError, NodeId, Profile, VersionId,
    bytes::{Reader, put_blob},
};

const MAGIC: [u8; 4] = *b"ICnt";
const FORMAT: u16 = 1;

/// Longest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Most labels of a version.
pub const MAX_LABELS: usize = 64;
/// Longest label name or value, in bytes.
pub const MAX_LABEL_BYTES: usize = 1 << 10;
/// Longest disk layout, in bytes.
pub const MAX_LAYOUT_BYTES: usize = 256 << 10;
/// Most extensions of a version.
pub const MAX_EXTENSIONS: usize = 32;
/// Longest extension, in bytes.
pub const MAX_EXTENSION_BYTES: usize = 64 << 10;

/// What a capture did with space that its filesystem does not use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaptureMode {
    /// Everything is captured, bit for bit.
    #[default]
    Keep,
    /// Unallocated ranges are free extents.
    Omit,
}

/// A field that this version of Imprint has no name for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Readers that do not know the tag must refuse the version.
    pub must_understand: bool,
    /// The content, opaque here.
    pub content: Vec<u8>,
}

/// Everything that makes a version what it is, apart from where and when it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRecord {
    /// Root of the tree.
    pub root: NodeId,
    /// Image length in bytes.
    pub length: u64,
    /// Logical sector size of the source in bytes; 512 for files.
    pub sector_size: u32,
    /// Number of the [`Profile`] that cut the chunks.
    pub profile: u16,
    /// How free space was captured.
    pub capture_mode: CaptureMode,
    /// The version this one was pushed on top of.
    pub base: Option<VersionId>,
    /// Partitions and filesystems, opaque to the server; empty when they were not looked at.
    pub layout: Vec<u8>,
    /// What the user said about it.
    pub message: String,
    /// The user's own names and values.
    pub labels: BTreeMap<String, String>,
    /// Fields of later versions of Imprint, by tag.
    pub extensions: BTreeMap<u16, Extension>,
}

impl ContentRecord {
    /// A record without message, labels or layout.
    #[must_use]
    pub const fn new(root: NodeId, length: u64, profile: Profile) -> Self {
        Self {
            root,
            length,
            sector_size: 512,
            profile: profile.number,
            capture_mode: CaptureMode::Keep,
            base: None,
            layout: Vec::new(),
            message: String::new(),
            labels: BTreeMap::new(),
            extensions: BTreeMap::new(),
        }
    }

    /// Whether every field keeps its limit, so that [`decode`](Self::decode) will take the encoding.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] names the first field that does not.
    pub fn check_limits(&self) -> Result<(), DecodeError> {
        check_sector_size(self.sector_size)?;
        bounded(&self.layout, MAX_LAYOUT_BYTES, "layout")?;
        bounded(self.message.as_bytes(), MAX_MESSAGE_BYTES, "message")?;
        check_count(self.labels.len(), MAX_LABELS, "labels")?;
        for (name, value) in &self.labels {
            bounded(name.as_bytes(), MAX_LABEL_BYTES, "label name")?;
            bounded(value.as_bytes(), MAX_LABEL_BYTES, "label value")?;
        }
        check_count(self.extensions.len(), MAX_EXTENSIONS, "extensions")?;
        for extension in self.extensions.values() {
            bounded(&extension.content, MAX_EXTENSION_BYTES, "extension")?;
        }
        Ok(())
    }

    /// The canonical encoding; its hash is the version id.
    ///
    /// # Panics
    /// When there are more labels or extensions than 16 bits count: [`check_limits`](Self::check_limits) comes first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.profile.to_le_bytes());
        out.extend_from_slice(self.root.as_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.sector_size.to_le_bytes());
        out.push(match self.capture_mode {
            CaptureMode::Keep => 0,
            CaptureMode::Omit => 1,
        });
        out.push(u8::from(self.base.is_some()));
        if let Some(base) = &self.base {
            out.extend_from_slice(base.as_bytes());
        }
        put_blob(&mut out, &self.layout);
        put_blob(&mut out, self.message.as_bytes());
        put_count(&mut out, self.labels.len());
        for (name, value) in &self.labels {
            put_blob(&mut out, name.as_bytes());
            put_blob(&mut out, value.as_bytes());
        }
        put_count(&mut out, self.extensions.len());
        for (tag, extension) in &self.extensions {
            out.extend_from_slice(&tag.to_le_bytes());
            out.push(u8::from(extension.must_understand));
            put_blob(&mut out, &extension.content);
        }
        out
    }

    /// Parses an encoding that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Anything else, and an extension that must be understood: none is known yet.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        if reader.array("content record magic")? != MAGIC {
            return Err(DecodeError::invalid("content record magic", "not a content record"));
        }
        match reader.u16("content record format")? {
            FORMAT => {}
            found => return Err(DecodeError::Unknown { what: "content record format", found: found.into() }),
        }
        let profile = reader.u16("profile")?;
        let root = NodeId::from_bytes(reader.array("root")?);
        let length = reader.u64("image length")?;
        let sector_size = reader.u32("sector size")?;
        check_sector_size(sector_size)?;
        let capture_mode = match reader.u8("capture mode")? {
            0 => CaptureMode::Keep,
            1 => CaptureMode::Omit,
            found => return Err(DecodeError::Unknown { what: "capture mode", found: found.into() }),
        };
        let base = match flag(&mut reader, "base")? {
            true => Some(VersionId::from_bytes(reader.array("base")?)),
            false => None,
        };
        let layout = bounded(reader.blob("layout")?, MAX_LAYOUT_BYTES, "layout")?.to_vec();
        let message = reader.string("message")?;
        bounded(message.as_bytes(), MAX_MESSAGE_BYTES, "message")?;
        let record = Self {
            root,
            length,
            sector_size,
            profile,
            capture_mode,
            base,
            layout,
            message: message.to_owned(),
            labels: decode_labels(&mut reader)?,
            extensions: decode_extensions(&mut reader)?,
        };
        reader.finish("content record")?;
        Ok(record)
    }

    /// The version id.
    #[must_use]
    pub fn id(&self) -> VersionId {
        VersionId::of(&self.encode())
    }
}

fn flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, DecodeError> {
    match reader.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(DecodeError::Unknown { what, found: found.into() }),
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("callers check the limits, which are far below");
    out.extend_from_slice(&count.to_le_bytes());
}

fn check_sector_size(bytes: u32) -> Result<(), DecodeError> {
    match (512..=65536).contains(&bytes) && bytes.is_power_of_two() {
        true => Ok(()),
        false => Err(DecodeError::invalid("sector size", "not a power of two from 512 to 65536")),
    }
}

fn check_count(count: usize, limit: usize, what: &'static str) -> Result<(), DecodeError> {
    if count <= limit { Ok(()) } else { Err(DecodeError::invalid(what, "more than allowed")) }
}

fn bounded<'a>(bytes: &'a [u8], limit: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
    if bytes.len() <= limit { Ok(bytes) } else { Err(DecodeError::invalid(what, "longer than allowed")) }
}

fn decode_labels(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, DecodeError> {
    let count = usize::from(reader.u16("label count")?);
    check_count(count, MAX_LABELS, "labels")?;
    let mut labels = BTreeMap::new();
    for _ in 0..count {
        let name = reader.string("label name")?;
        let value = reader.string("label value")?;
        bounded(name.as_bytes(), MAX_LABEL_BYTES, "label name")?;
        bounded(value.as_bytes(), MAX_LABEL_BYTES, "label value")?;
        if labels.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
            return Err(DecodeError::invalid("labels", "not in order"));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

fn decode_extensions(reader: &mut Reader<'_>) -> Result<BTreeMap<u16, Extension>, DecodeError> {
    let count = usize::from(reader.u16("extension count")?);
    check_count(count, MAX_EXTENSIONS, "extensions")?;
    let mut extensions = BTreeMap::new();
    for _ in 0..count {
        let tag = reader.u16("extension tag")?;
        let must_understand = flag(reader, "extension flag")?;
        let content = bounded(reader.blob("extension")?, MAX_EXTENSION_BYTES, "extension")?.to_vec();
        if must_understand {
            return Err(DecodeError::Unknown { what: "required extension", found: tag.into() });
        }
        if extensions.last_key_value().is_some_and(|(last, _)| *last >= tag) {
            return Err(DecodeError::invalid("extensions", "not in order"));
        }
        extensions.insert(tag, Extension { must_understand, content });
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ContentRecord {
        ContentRecord {
            sector_size: 4096,
            capture_mode: CaptureMode::Omit,
            base: Some(VersionId::of(b"base")),
            layout: vec![1, 2, 3],
            message: "before the security update".into(),
            labels: [("os".into(), "debian".into()), ("ring".into(), "1".into())].into(),
            extensions: [(7, Extension { must_understand: false, content: vec![9] })].into(),
            ..ContentRecord::new(NodeId::of(b"root"), 4 << 30, Profile::V1)
        }
    }

    #[test]
    fn what_keeps_the_limits_is_decoded_and_what_does_not_is_named() {
        let many = |count: usize| (0..count).map(|n| (format!("{n:05}"), String::new())).collect();
        let extension = Extension { must_understand: false, content: vec![0; MAX_EXTENSION_BYTES + 1] };
        let at_the_limit = ContentRecord {
            layout: vec![0; MAX_LAYOUT_BYTES],
            message: "m".repeat(MAX_MESSAGE_BYTES),
            labels: many(MAX_LABELS),
            ..sample()
        };
        assert_eq!(at_the_limit.check_limits(), Ok(()));
        assert_eq!(ContentRecord::decode(&at_the_limit.encode()), Ok(at_the_limit));
        for beyond in [
            ContentRecord { sector_size: 513, ..sample() },
            ContentRecord { layout: vec![0; MAX_LAYOUT_BYTES + 1], ..sample() },
            ContentRecord { message: "m".repeat(MAX_MESSAGE_BYTES + 1), ..sample() },
            ContentRecord { labels: many(MAX_LABELS + 1), ..sample() },
            ContentRecord { labels: [("n".repeat(MAX_LABEL_BYTES + 1), String::new())].into(), ..sample() },
            ContentRecord { extensions: [(1, extension)].into(), ..sample() },
        ] {
            let refused = beyond.check_limits().unwrap_err();
            assert_eq!(ContentRecord::decode(&beyond.encode()), Err(refused));
        }
        assert!(ContentRecord { labels: many(1 << 16), ..sample() }.check_limits().is_err());
    }

    #[test]
    fn encodings_do_not_change() {
        assert_eq!(sample().id().to_string(), "cacfe94780c9b7a1010d4e4e7e52f59417929f5ee41ed81a6b86d8506840165f");
        let plain = ContentRecord::new(NodeId::of(b"root"), 1, Profile::V1);
        assert_eq!(plain.id().to_string(), "6bd428f20407572825550dd608cd9ec758a8c09248abcc654180056ebbae4782");
    }

    #[test]
    fn records_come_back() {
        for record in [sample(), ContentRecord::new(NodeId::of(b""), 0, Profile::V1)] {
            assert_eq!(ContentRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn every_truncation_is_an_error_and_every_flip_another_id() {
        let encoded = sample().encode();
        for end in 0..encoded.len() {
            assert!(ContentRecord::decode(&encoded[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..encoded.len() * 8 {
            let mut flipped = encoded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(record) = ContentRecord::decode(&flipped) {
                assert_ne!(record.id(), sample().id());
                assert_eq!(record.encode(), flipped, "one record, one encoding");
            }
        }
    }

    #[test]
    fn a_required_extension_is_refused() {
        let mut record = sample();
        record.extensions.insert(8, Extension { must_understand: true, content: vec![] });
        assert_eq!(
            ContentRecord::decode(&record.encode()),
            Err(DecodeError::Unknown { what: "required extension", found: 8 })
        );
    }
}
