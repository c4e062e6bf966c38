//! Making ranges of a target read as zero, touching only what does not already; and giving free space back.

use std::ops::Range;

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::{Inner, TargetError, TargetKind};

/// Read and zeroed at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Discarded at a time, so that nobody waits for the kernel without end.
const DISCARD_BYTES: u64 = 1 << 30;
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

/// Makes free space read as zero without reading it, where the device can do that at once: it discards only what it
/// promises to read as zero afterwards. `BLKDISCARD` promises nothing of the kind, whatever the device says of itself.
pub(super) fn discard(target: &Inner, range: Range<u64>) -> Result<u64, TargetError> {
    if target.kind != TargetKind::BlockDevice {
        return zero(target, range);
    }
    target.check_inside(range.start, range.end.saturating_sub(range.start))?;
    let granule = granule(target);
    let start = range.start.next_multiple_of(granule).min(range.end);
    let end = (range.end - range.end % granule).max(start);
    let mut changed = zero_pieces(target, range.start..start)?;
    for step in steps(start..end, DISCARD_BYTES) {
        changed += match punch(target, &step)? {
            Punched::Yes => step.end - step.start,
            Punched::NotSupported => zero_pieces(target, step)?,
        };
    }
    Ok(changed + zero_pieces(target, end..range.end)?)
}

/// What fallocate takes whole.
fn granule(target: &Inner) -> u64 {
    DEVICE_GRANULE_BYTES.max(u64::from(target.sector_size))
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
    for piece in steps(range, PIECE_BYTES) {
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
    let granule = granule(target);
    let aligned = piece.start.is_multiple_of(granule) && piece.end.is_multiple_of(granule);
    if aligned && target.kind == TargetKind::BlockDevice && punch(target, &piece)? == Punched::Yes {
        return Ok(());
    }
    target.write_at(&ZEROS[..(piece.end - piece.start) as usize], piece.start)
}

/// Cuts at multiples of `length`, so that all but the first and the last are aligned.
fn steps(range: Range<u64>, length: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = (at - at % length).saturating_add(length).min(range.end);
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
    fn steps_are_cut_at_multiples_of_their_length() {
        let cut: Vec<_> = steps(PIECE_BYTES - 1..3 * PIECE_BYTES + 5, PIECE_BYTES).collect();
        let mib = PIECE_BYTES;
        assert_eq!(cut, [mib - 1..mib, mib..2 * mib, 2 * mib..3 * mib, 3 * mib..3 * mib + 5]);
        assert_eq!(steps(7..7, PIECE_BYTES).count(), 0);
    }

    #[test]
    fn the_last_step_ends_with_the_range_even_at_the_end_of_all_numbers() {
        let ends: Vec<_> = steps(u64::MAX - 3..u64::MAX, PIECE_BYTES).map(|step| step.end).collect();
        assert_eq!(ends, [u64::MAX]);
    }
}
