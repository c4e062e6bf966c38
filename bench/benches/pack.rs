//! Writing and reading packs in memory, against compressing, checksumming and copying the same bytes.

#![allow(missing_docs)] // criterion_group! makes undocumented items

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imprint_bench::half_noise;
use imprint_content::{ChunkId, ObjectId, Payload};
use imprint_server::{
    PackId, RepositoryId,
    pack::{PackBuilder, PackHeader, Purpose, ScanItem, decode_record, record_length, scan},
};

const CHUNKS: usize = 256;
const CHUNK_BYTES: usize = 64 << 10;

fn header() -> PackHeader {
    PackHeader {
        repository: RepositoryId::from_bytes([1; 16]),
        pack: PackId::from_bytes([2; 16]),
        purpose: Purpose::Chunks,
    }
}

fn write(objects: &[(ObjectId, Payload)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHUNKS * CHUNK_BYTES);
    let mut builder = PackBuilder::new(header());
    for (id, payload) in objects {
        builder.push(*id, payload, &mut out);
    }
    builder.finish(&mut out);
    out
}

fn pack(criterion: &mut Criterion) {
    let chunks: Vec<Bytes> = (0..CHUNKS).map(|n| half_noise(CHUNK_BYTES, n as u64 + 1).into()).collect();
    let objects: Vec<(ObjectId, Payload)> =
        chunks.iter().map(|raw| (ChunkId::of(raw).into(), Payload::compress(raw))).collect();
    let pack = Bytes::from(write(&objects));
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes((CHUNKS * CHUNK_BYTES) as u64)).sample_size(20);
    group.bench_function("compress", |b| {
        b.iter(|| chunks.iter().map(|raw| Payload::compress(raw).stored.len()).sum::<usize>());
    });
    group.bench_function("decode and hash", |b| {
        let mut raw = Vec::new();
        b.iter(|| {
            for (id, payload) in &objects {
                assert!(payload.decode_into(&mut raw).is_ok() && ObjectId::from(ChunkId::of(&raw)) == *id);
            }
        });
    });
    group.bench_function("write", |b| b.iter(|| write(&objects).len()));
    group.bench_function("scan", |b| {
        b.iter(|| scan(header().pack, &pack).filter(|item| matches!(item, ScanItem::Record(_))).count());
    });
    let first = pack.slice(64..64 + record_length(objects[0].1.stored.len() as u32) as usize);
    group.bench_function("read one record", |b| b.iter(|| decode_record(Purpose::Chunks, black_box(&first)).is_ok()));
    let mut copy = vec![0; pack.len()];
    group.bench_function("limit: copy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&pack))));
    group.finish();
}

criterion_group!(benches, pack);
criterion_main!(benches);
