//! Reads past what a disk cannot read: a block that is lost must not cost its neighbours.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tracing::warn;

use crate::Error;

/// What is read at once where the disk reports an error, from the largest to the smallest. All of them are at multiples of
/// their length, as the disk's own blocks are.
const PART_BYTES: [u64; 2] = [1 << 20, 4096];

/// Reads a range with `read`. Zeros stand for blocks that the disk cannot read: no format takes them for anything valid.
///
/// # Errors
/// Those of `read`, but for [`Error::is_unreadable`].
pub(crate) async fn read_past_damage<R>(range: Range<u64>, read: impl Fn(Range<u64>) -> R) -> Result<Bytes, Error>
where
    R: Future<Output = Result<Bytes, Error>>,
{
    let mut bytes = BytesMut::new();
    let mut rest = vec![range.clone()];
    while let Some(part) = rest.pop() {
        match read(part.clone()).await {
            Ok(whole) if part == range => return Ok(whole),
            Ok(read) => bytes.extend_from_slice(&read),
            Err(error) if error.is_unreadable() => {
                if part == range {
                    warn!(error = error.with_cause(), ?range, "the disk cannot read a part of a pack");
                }
                match PART_BYTES.map(|length| parts(part.clone(), length)).into_iter().find(|parts| parts.len() > 1) {
                    Some(parts) => rest.extend(parts),
                    None => bytes.resize(bytes.len() + (part.end - part.start) as usize, 0),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bytes.freeze())
}

/// A range cut at the multiples of `length`, the first part last.
fn parts(range: Range<u64>, length: u64) -> Vec<Range<u64>> {
    let end_of = |at: u64| (at / length + 1).saturating_mul(length).min(range.end);
    let first = (range.start < range.end).then(|| range.start..end_of(range.start));
    let next = |part: &Range<u64>| (part.end < range.end).then(|| part.end..end_of(part.end));
    let mut parts: Vec<_> = std::iter::successors(first, next).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;

    fn unreadable() -> Error {
        Error::io("read", "a pack", io::Error::from_raw_os_error(5))
    }

    #[tokio::test]
    async fn zeros_stand_for_blocks_that_cannot_be_read_and_for_nothing_else() {
        let length = (2 << 20) + 5000;
        for range in [0..length, 17..length - 17, 8191..8193, 4096..4096] {
            for bad in [5..6, 4096..8192, 8192..12289, length - 1..length, 0..length, 0..0] {
                let calls = Mutex::new(0);
                let read = |range: Range<u64>| {
                    *calls.lock().unwrap() += 1;
                    let is_bad = range.start < bad.end && bad.start < range.end;
                    let answer =
                        if is_bad { Err(unreadable()) } else { Ok(vec![7; (range.end - range.start) as usize]) };
                    async move { answer.map(Bytes::from) }
                };
                let bytes = read_past_damage(range.clone(), read).await.unwrap();
                assert_eq!(bytes.len() as u64, range.end - range.start);
                let lost = bad.start.max(range.start)..bad.end.min(range.end);
                let lost_blocks = lost.start / 4096 * 4096..lost.end.div_ceil(4096) * 4096;
                for (at, byte) in (range.start..).zip(&bytes) {
                    let is_lost = !lost.is_empty() && lost_blocks.contains(&at);
                    assert_eq!(*byte == 0, is_lost, "byte {at} of {range:?}, {bad:?} being unreadable");
                }
                assert!(bad.end - bad.start > 4097 || calls.into_inner().unwrap() < 600, "whole parts stay whole");
            }
        }
    }

    #[tokio::test]
    async fn other_failures_are_not_damage() {
        let denied = |_| async { Err(Error::io("read", "a pack", io::ErrorKind::PermissionDenied.into())) };
        assert!(matches!(read_past_damage(0..9000, denied).await, Err(Error::Io { .. })));
        let shorter = |range: Range<u64>| async move {
            if range.end > 8192 {
                Err(Error::ObjectMissing(imprint_content::ChunkId::of(b"").into()))
            } else {
                Err(unreadable())
            }
        };
        assert!(matches!(read_past_damage(0..9000, shorter).await, Err(Error::ObjectMissing(_))));
    }
}
