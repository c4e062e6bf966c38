//! Versions made of extents that a test chose, pushed by the bare protocol.

use std::sync::atomic::{AtomicU64, Ordering};

use imprint_content::{ContentRecord, Extent, ExtentKind, Profile, tree::TreeBuilder};
use imprint_proto::v1::push_request::Step;

use crate::wire::{self, RawPush, Wire};

/// A run of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// One chunk.
    Data(Vec<u8>),
    /// So many zeros.
    Zero(u64),
    /// So many bytes that no filesystem uses.
    Free(u64),
}

impl Run {
    /// Length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Zero(length) | Self::Free(length) => *length,
        }
    }

    fn extent(&self) -> Extent {
        match self {
            Self::Data(bytes) => Extent::data(imprint_content::ChunkId::of(bytes), self.length()),
            Self::Zero(length) => Extent::zero(*length),
            Self::Free(length) => Extent { kind: ExtentKind::Free, length: *length },
        }
    }
}

/// Divides an image into runs of `step` bytes, at most 256 KiB: data, zeros, and what `is_free` says is free.
#[must_use]
pub fn runs(image: &[u8], step: usize, is_free: impl Fn(u64) -> bool) -> Vec<Run> {
    let run = |(number, bytes): (usize, &[u8])| {
        let length = bytes.len() as u64;
        match bytes.iter().all(|byte| *byte == 0) {
            _ if is_free((number * step) as u64) => Run::Free(length),
            true => Run::Zero(length),
            false => Run::Data(bytes.to_vec()),
        }
    };
    image.chunks(step).enumerate().map(run).collect()
}

/// Commits a version with these runs.
pub async fn push_runs(wire: &Wire, image: &str, runs: &[Run]) {
    push_runs_with_layout(wire, image, runs, Vec::new()).await;
}

/// The same, with what the version says of what is on its disk.
pub async fn push_runs_with_layout(wire: &Wire, image: &str, runs: &[Run], layout: Vec<u8>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut upload = [0xE7; 16];
    upload[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let mut push = RawPush::open(wire, wire::open(image, upload)).await;
    let (mut tree, mut finished) = (TreeBuilder::new(), Vec::new());
    for run in runs {
        tree.push(run.extent(), &mut finished);
        if let Run::Data(bytes) = run {
            push.send(wire::chunks(vec![wire::chunk(bytes).1])).await;
        }
    }
    let root = tree.finish(&mut finished);
    for node in &finished {
        let node = imprint_content::tree::Node::decode(&node.encoded).unwrap();
        push.send(wire::nodes(vec![wire::node(&node).1])).await;
    }
    let record = ContentRecord { layout, ..ContentRecord::new(root.id, root.summary.length, Profile::V1) };
    push.send(Step::Commit(imprint_proto::v1::Commit {
        content_record: record.encode().into(),
        tags: Vec::new(),
        who: "test".into(),
    }))
    .await;
    push.committed().await;
}
