//! Small values that differ where a test wants them to.

use imprint_content::{ChunkId, Codec, ContentRecord, ImageName, NodeId, ObjectId, Profile, TagName};

use crate::{
    Error, PackId, UploadId,
    catalog::{
        BaseRecord, Candidate, Catalog, Condemnation, Location, MarkId, NewVersion, PackRecord, RecordSet,
        UploadRecord, VersionKey, VersionRecord,
    },
    pack::Purpose,
};

/// What the clock says, where it does not matter.
pub(crate) const NOW: i64 = 1_700_000_000_000;

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

pub(crate) fn base_of(version: &VersionRecord) -> BaseRecord {
    let key = VersionKey { image: version.image.clone(), number: version.number };
    BaseRecord { version: key, id: version.id, root: version.content.root }
}

/// Adds a pack with these chunks and nothing else.
pub(crate) async fn add_chunks(catalog: &dyn Catalog, seed: u8, chunks: &[u64], holder: Option<u8>) -> PackRecord {
    let pack = PackRecord { records: chunks.len() as u32, ..pack(seed, Purpose::Chunks) };
    catalog.add_pack(pack.clone(), objects(&pack, chunks), holder.map(upload_id)).await.unwrap();
    pack
}

/// Where each of these chunks is: the seed of the pack.
pub(crate) async fn packs_of(catalog: &dyn Catalog, chunks: &[u64]) -> Vec<Option<u8>> {
    let found = catalog.locate(Purpose::Chunks, chunks.iter().map(|seed| object(*seed)).collect()).await.unwrap();
    found.iter().map(|location| location.map(|location| location.pack.as_bytes()[0])).collect()
}

pub(crate) fn pack_id(seed: u8) -> PackId {
    PackId::from_bytes([seed; 16])
}

/// Asks to condemn a pack with these chunks, of which the mark met those with the ordinals `marked`.
pub(crate) async fn condemn(
    catalog: &dyn Catalog,
    mark: MarkId,
    seed: u8,
    chunks: &[u64],
    marked: &[u32],
) -> Condemnation {
    let mut set = RecordSet::default();
    marked.iter().for_each(|ordinal| _ = set.insert(*ordinal));
    let objects = chunks.iter().map(|seed| object(*seed)).collect();
    let candidate = Candidate { pack: pack_id(seed), objects, marked: set };
    catalog.condemn(mark, vec![candidate], NOW).await.unwrap()[0]
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
            ordinal: at as u32,
        };
        (object(*seed), location)
    };
    seeds.iter().enumerate().map(place).collect()
}

pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().reason()
}
