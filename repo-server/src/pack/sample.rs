//! A small pack for the tests of this module.

use bytes::Bytes;
use imprint_content::{ChunkId, Codec, ObjectId, Payload};

use super::{FinishedPack, HEADER_BYTES, PackBuilder, PackHeader, PackIndex, Purpose, read_index};
use crate::{
    Error, PackId, RepositoryId,
    storage::{MemoryPacks, PackStorage as _},
};

pub(super) const HEADER: PackHeader = PackHeader {
    repository: RepositoryId::from_bytes([7; 16]),
    pack: PackId::from_bytes([8; 16]),
    purpose: Purpose::Chunks,
};

/// Stored raw, so that no compressor decides about golden bytes.
pub(super) fn payload(text: &str) -> (ObjectId, Payload) {
    let stored = Bytes::from(text.to_owned());
    let payload = Payload { codec: Codec::Raw, raw_length: text.len() as u32, stored };
    (ChunkId::of(text.as_bytes()).into(), payload)
}

pub(super) fn payloads() -> Vec<(ObjectId, Payload)> {
    ["one", "another one", "the last of them"].map(payload).into()
}

/// A pack with [`payloads`].
pub(super) fn pack() -> (Vec<u8>, FinishedPack) {
    pack_of(&payloads())
}

pub(super) fn pack_of(payloads: &[(ObjectId, Payload)]) -> (Vec<u8>, FinishedPack) {
    let mut builder = PackBuilder::new(HEADER);
    let mut bytes = Vec::new();
    for (id, payload) in payloads {
        builder.push(*id, payload, &mut bytes);
    }
    let finished = builder.finish(&mut bytes);
    (bytes, finished)
}

/// Where the records of [`pack`] end and its footer begins.
pub(super) fn records_end() -> usize {
    HEADER_BYTES
        + payloads().iter().map(|(_, payload)| super::RECORD_HEADER_BYTES + payload.stored.len()).sum::<usize>()
}

/// What [`read_index`] says when `bytes` are stored as [`HEADER`]'s pack.
pub(super) fn index(bytes: Vec<u8>) -> Result<PackIndex, Error> {
    futures::executor::block_on(async {
        let storage = MemoryPacks::default();
        let mut sink = storage.create(HEADER.pack).await?;
        sink.append(bytes.into()).await?;
        sink.seal().await?;
        read_index(&storage, HEADER.repository, HEADER.pack).await
    })
}

/// All versions of `good` in which one bit is wrong.
pub(super) fn flipped(good: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..good.len() * 8).map(|bit| {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        bad
    })
}
