//! The embedded catalog: recording packs and answering asks, against the in-memory engine.

#![allow(missing_docs)] // criterion_group! makes undocumented items

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imprint_content::{ChunkId, Codec, ObjectId};
use imprint_server::{
    PackId, RepositoryId,
    blocking::Blocking,
    catalog::{Catalog, EmbeddedCatalog, Location, MemoryCatalog, PackRecord},
    pack::Purpose,
    storage::WriteGate,
};

/// Chunks in a full pack of data that compresses two to one.
const PACK_CHUNKS: u32 = 2000;
const PACKS: u32 = 100;
const ASK: usize = 128;

fn id(n: u32) -> ObjectId {
    ChunkId::of(&n.to_le_bytes()).into()
}

fn pack_of(number: u32) -> (PackRecord, Vec<(ObjectId, Location)>) {
    let pack = PackId::random();
    let objects = (number * PACK_CHUNKS..(number + 1) * PACK_CHUNKS)
        .map(|n| {
            let offset = 64 + (n % PACK_CHUNKS) * 32_000;
            (
                id(n),
                Location {
                    pack,
                    offset,
                    stored_length: 31_000,
                    raw_length: 65_536,
                    codec: Codec::Zstd,
                    ordinal: n % PACK_CHUNKS,
                },
            )
        })
        .collect();
    (PackRecord { id: pack, purpose: Purpose::Chunks, bytes: 64 << 20, records: PACK_CHUNKS }, objects)
}

fn catalog(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let Ok(directory) = tempfile::tempdir() else { return };
    let embedded = EmbeddedCatalog::create(
        directory.path(),
        RepositoryId::random(),
        Blocking::for_this_machine(),
        WriteGate::default(),
        32 << 20,
    );
    let Ok(embedded) = embedded else { return };
    let memory = MemoryCatalog::new();
    let engines: [(&str, &dyn Catalog); 2] = [("RocksDB", &embedded), ("limit: memory", &memory)];
    for (name, engine) in engines {
        let mut group = criterion.benchmark_group(format!("catalog, {name}"));
        group.sample_size(20).throughput(Throughput::Elements(PACK_CHUNKS.into()));
        let mut next = 0;
        let mut add = || {
            let (pack, objects) = pack_of(next);
            next += 1;
            runtime.block_on(engine.add_pack(pack, objects, None)).is_ok()
        };
        (0..PACKS).for_each(|_| assert!(add()));
        group.bench_function("record a pack", |b| b.iter(&mut add));
        group.throughput(Throughput::Elements(ASK as u64));
        let known: Vec<ObjectId> = (0..ASK as u32).map(|n| id(n * 997 % (PACKS * PACK_CHUNKS))).collect();
        let unknown: Vec<ObjectId> = (0..ASK as u32).map(|n| id(u32::MAX - n)).collect();
        group.bench_function("locate known", |b| {
            b.iter(|| runtime.block_on(engine.locate(Purpose::Chunks, known.clone())).is_ok());
        });
        group.bench_function("locate unknown", |b| {
            b.iter(|| runtime.block_on(engine.locate(Purpose::Chunks, unknown.clone())).is_ok());
        });
        group.finish();
    }
}

criterion_group!(benches, catalog);
criterion_main!(benches);
