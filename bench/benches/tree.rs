//! Building trees and decoding nodes, against hashing the same number of bytes.

#![allow(missing_docs)] // criterion_group! makes undocumented items

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imprint_content::{
    ChunkId, Extent,
    tree::{BuiltNode, Node, TreeBuilder},
};

/// 100,000 chunks: about 6 GiB of data.
const EXTENTS: u32 = 100_000;

fn build(extents: &[Extent]) -> Vec<BuiltNode> {
    let mut builder = TreeBuilder::new();
    let mut nodes = Vec::new();
    for extent in extents {
        builder.push(*extent, &mut nodes);
    }
    let _ = builder.finish(&mut nodes);
    nodes
}

fn tree(criterion: &mut Criterion) {
    let extents: Vec<Extent> = (0..EXTENTS).map(|n| Extent::data(ChunkId::of(&n.to_le_bytes()), 65536)).collect();
    let nodes = build(&extents);
    let bytes: usize = nodes.iter().map(|node| node.encoded.len()).sum();
    let mut group = criterion.benchmark_group("tree");
    group.throughput(Throughput::Elements(EXTENTS.into())).sample_size(20);
    group.bench_function("build", |b| b.iter(|| build(&extents).len()));
    group.bench_function("decode", |b| {
        b.iter(|| nodes.iter().map(|node| Node::decode(&node.encoded).map_or(0, |node| node.level())).max());
    });
    let joined = vec![1; bytes];
    group.bench_function("limit: BLAKE3 of the nodes' bytes", |b| b.iter(|| ChunkId::of(black_box(&joined))));
    group.finish();
}

criterion_group!(benches, tree);
criterion_main!(benches);
