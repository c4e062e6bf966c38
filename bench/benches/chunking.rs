//! Cutting and hashing, against the limits they are made of: the fastcdc crate alone, BLAKE3 alone, a copy.

#![allow(missing_docs)] // criterion_group! makes undocumented items

use std::{convert::Infallible, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastcdc::v2020::FastCDC;
use imprint_bench::noise;
use imprint_client::cutting::{Cut, SectionCutter};
use imprint_content::{ChunkId, Profile};

const BYTES: usize = 64 << 20;
const READ: usize = 1 << 20;

fn cut(bytes: &[u8], mut take: impl FnMut(&[u8])) {
    let mut cutter = SectionCutter::new(Profile::V1);
    let mut emit = |cut: Cut<'_>| -> Result<(), Infallible> {
        if let Cut::Chunk(chunk) = cut {
            take(chunk);
        }
        Ok(())
    };
    for read in bytes.chunks(READ) {
        let Ok(()) = cutter.add(read, &mut emit);
    }
    let Ok(()) = cutter.finish(&mut emit);
}

fn chunking(criterion: &mut Criterion) {
    let bytes = noise(BYTES, 1);
    let zeros = vec![0; BYTES];
    let mut group = criterion.benchmark_group("chunking");
    group.throughput(Throughput::Bytes(BYTES as u64)).sample_size(10);
    group.bench_function("cut", |b| b.iter(|| cut(&bytes, |chunk| _ = black_box(chunk))));
    group.bench_function("cut and hash", |b| b.iter(|| cut(&bytes, |chunk| _ = black_box(ChunkId::of(chunk)))));
    group.bench_function("cut zeros", |b| b.iter(|| cut(&zeros, |chunk| _ = black_box(chunk))));
    let Profile { min_chunk, avg_chunk, max_chunk, .. } = Profile::V1;
    group.bench_function("limit: fastcdc alone", |b| {
        b.iter(|| FastCDC::new(&bytes, min_chunk, avg_chunk, max_chunk).map(|chunk| chunk.length).sum::<usize>());
    });
    group.bench_function("limit: BLAKE3 of 64 KiB", |b| {
        b.iter(|| bytes.chunks(64 << 10).map(|chunk| ChunkId::of(chunk).as_bytes()[0]).fold(0, u8::wrapping_add));
    });
    let mut copy = vec![0; BYTES];
    group.bench_function("limit: copy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&bytes))));
    group.finish();
}

criterion_group!(benches, chunking);
criterion_main!(benches);
