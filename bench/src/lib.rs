//! Input for the benches: bytes that look like a disk's, made the same way each time.

/// Incompressible bytes.
#[must_use]
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that compress about two to one, as programs and text do.
#[must_use]
pub fn half_noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = noise(length, seed);
    for pair in bytes.chunks_exact_mut(64) {
        let (head, tail) = pair.split_at_mut(32);
        tail.copy_from_slice(head);
    }
    bytes
}
