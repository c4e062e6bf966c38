//! Small values that differ where a test wants them to.

use imprint_content::{ChunkId, Codec, ContentRecord, ImageName, NodeId, ObjectId, Profile, TagName};

use crate::{
    Error, PackId, UploadId,
    catalog::{Catalog, Location, NewVersion, PackRecord, UploadRecord, VersionKey, VersionRecord},
    pack::Purpose,
};

pub(crate) fn image(name: &str) -> ImageName {
    name.parse().unwrap()
}

pub(crate) fn tag(name: &str) -> TagName {
    name.parse().unwrap()
}

pub(crate) fn key(name: &str, number: u64) -> VersionKey {
    VersionKey { image: image(name), number }
}

pub(crate) fn upload_id(seed: u8) -> UploadId {
    UploadId::from_bytes([seed; 16])
}

pub(crate) fn upload(seed: u8, name: &str, base: Option<VersionKey>) -> UploadRecord {
    UploadRecord { id: upload_id(seed), image: image(name), base }
}

pub(crate) fn content(seed: u64) -> ContentRecord {
    ContentRecord::new(NodeId::of(&seed.to_le_bytes()), 1000 + seed, Profile::V1)
}

/// What the upload `seed` commits, with the content `seed`.
pub(crate) fn new_version(seed: u8, name: &str) -> NewVersion {
    NewVersion {
        upload: upload_id(seed),
        image: image(name),
        content: content(seed.into()),
        tags: vec![],
        committed_unix_ms: 1_700_000_000_000 + i64::from(seed),
        who: "somebody".into(),
        data_bytes: 100 + u64::from(seed),
        new_chunks: 3,
        new_stored_bytes: 50,
    }
}

/// Opens the upload `seed` and commits.
pub(crate) async fn push(catalog: &dyn Catalog, seed: u8, name: &str) -> VersionRecord {
    catalog.open_upload(upload(seed, name, None)).await.unwrap();
    catalog.commit(new_version(seed, name)).await.unwrap()
}

/// Commits the same content under an upload of its own.
pub(crate) async fn push_again(catalog: &dyn Catalog, seed: u8, like: &VersionRecord) -> VersionRecord {
    let name = like.image.as_str();
    catalog.open_upload(upload(seed, name, None)).await.unwrap();
    let version = NewVersion { content: like.content.clone(), ..new_version(seed, name) };
    catalog.commit(version).await.unwrap()
}

pub(crate) fn object(seed: u64) -> ObjectId {
    ChunkId::of(&seed.to_le_bytes()).into()
}

pub(crate) fn pack(seed: u8, purpose: Purpose) -> PackRecord {
    PackRecord { id: PackId::from_bytes([seed; 16]), purpose, bytes: 1000 * u64::from(seed), records: seed.into() }
}

/// Objects that a pack has, each at a place of its own.
pub(crate) fn objects(pack: &PackRecord, seeds: &[u64]) -> Vec<(ObjectId, Location)> {
    let place = |(at, seed): (usize, &u64)| {
        let location = Location {
            pack: pack.id,
            offset: 64 + 100 * at as u32,
            stored_length: 100,
            raw_length: 150,
            codec: Codec::Zstd,
        };
        (object(*seed), location)
    };
    seeds.iter().enumerate().map(place).collect()
}

pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().reason()
}
