//! A version as JSON: the same wherever a version is written.

use std::collections::BTreeMap;

use imprint_client::Version;
use imprint_content::CaptureMode;
use serde::Serialize;

use super::time;

#[derive(Debug, Serialize)]
pub(crate) struct VersionDocument {
    /// `NAME@7`.
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    image: String,
    number: u64,
    id: String,
    root: String,
    base: Option<String>,
    image_bytes: u64,
    data_bytes: u64,
    sector_size: u32,
    profile: u16,
    capture_mode: &'static str,
    committed: Option<String>,
    who: String,
    tags: Vec<String>,
    pinned: bool,
    message: String,
    labels: BTreeMap<String, String>,
    new_chunks: u64,
    new_stored_bytes: u64,
}

impl From<&Version> for VersionDocument {
    fn from(version: &Version) -> Self {
        let content = &version.content;
        Self {
            reference: version.reference().to_string(),
            image: version.image.to_string(),
            number: version.number,
            id: version.id.to_string(),
            root: content.root.to_string(),
            base: content.base.map(|base| base.to_string()),
            image_bytes: content.length,
            data_bytes: version.data_bytes,
            sector_size: content.sector_size,
            profile: content.profile,
            capture_mode: capture_mode(content.capture_mode),
            committed: time::rfc3339(version.committed_unix_ms),
            who: version.who.clone(),
            tags: version.tags.clone(),
            pinned: version.is_pinned,
            message: content.message.clone(),
            labels: content.labels.clone(),
            new_chunks: version.new_chunks,
            new_stored_bytes: version.new_stored_bytes,
        }
    }
}

const fn capture_mode(mode: CaptureMode) -> &'static str {
    match mode {
        CaptureMode::Keep => "keep",
        CaptureMode::Omit => "omit",
    }
}
