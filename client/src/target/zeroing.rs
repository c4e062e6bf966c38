//! Making ranges of a target read as zero, touching only what does not already.

use std::ops::Range;

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{Inner, TargetError, TargetKind};

/// Read and zeroed at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// fallocate on a device takes whole sectors only, and drops whole pages from the cache.
const DEVICE_GRANULE_BYTES: u64 = 4096;

static ZEROS: [u8; PIECE_BYTES as usize] = [0; PIECE_BYTES as usize];

pub(super) fn zero(target: &Inner, range: Range<u64>) -> Result<u64, TargetError> {
    target.check_inside(range.start, range.end.saturating_sub(range.start))?;
    let mut changed = 0;
    for data in target.data_ranges(range)? {
        changed += match target.kind {
            TargetKind::BlockDevice => zero_pieces(target, data)?,
            TargetKind::NewFile | TargetKind::File => zero_in_file(target, data)?,
        };
    }
    Ok(changed)
}

fn zero_in_file(target: &Inner, data: Range<u64>) -> Result<u64, TargetError> {
    match punch(target, &data)? {
        Punched::Yes => Ok(data.end - data.start),
        Punched::NotSupported => zero_pieces(target, data),
    }
}

/// Reads first: most of what is to be zero on a disk mostly is, and reading wears nothing.
fn zero_pieces(target: &Inner, range: Range<u64>) -> Result<u64, TargetError> {
    let mut buffer = vec![0; PIECE_BYTES.min(range.end - range.start) as usize];
    let mut changed = 0;
    for piece in pieces(range) {
        let bytes = &mut buffer[..(piece.end - piece.start) as usize];
        target.read_at(bytes, piece.start)?;
        if !is_zero(bytes) {
            changed += piece.end - piece.start;
            zero_piece(target, piece)?;
        }
    }
    Ok(changed)
}

fn zero_piece(target: &Inner, piece: Range<u64>) -> Result<(), TargetError> {
    let granule = DEVICE_GRANULE_BYTES.max(u64::from(target.sector_size));
    let aligned = piece.start.is_multiple_of(granule) && piece.end.is_multiple_of(granule);
    if aligned && target.kind == TargetKind::BlockDevice && punch(target, &piece)? == Punched::Yes {
        return Ok(());
    }
    target.write_at(&ZEROS[..(piece.end - piece.start) as usize], piece.start)
}

/// Cuts at multiples of the piece length, so that all but the first and the last are aligned.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = (at - at % PIECE_BYTES).saturating_add(PIECE_BYTES).min(range.end);
        let piece = at..end;
        at = end;
        (!piece.is_empty()).then_some(piece)
    })
}

#[derive(PartialEq, Eq)]
enum Punched {
    Yes,
    NotSupported,
}

/// Gives the space back; the kernel promises that it reads as zero, or refuses.
fn punch(target: &Inner, range: &Range<u64>) -> Result<Punched, TargetError> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fallocate(&target.file, flags, range.start, range.end - range.start) {
            Ok(()) => return Ok(Punched::Yes),
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => return Ok(Punched::NotSupported),
            Err(Errno::INTR) => {}
            Err(error) => return Err(target.write_error(range.start, error.into())),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes == &ZEROS[..bytes.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_multiples_of_their_length() {
        let cut: Vec<_> = pieces(PIECE_BYTES - 1..3 * PIECE_BYTES + 5).collect();
        let mib = PIECE_BYTES;
        assert_eq!(cut, [mib - 1..mib, mib..2 * mib, 2 * mib..3 * mib, 3 * mib..3 * mib + 5]);
        assert_eq!(pieces(7..7).count(), 0);
    }

    #[test]
    fn the_last_piece_ends_with_the_range_even_at_the_end_of_all_numbers() {
        assert_eq!(pieces(u64::MAX - 3..u64::MAX).map(|piece| piece.end).collect::<Vec<_>>(), [u64::MAX]);
    }
}
