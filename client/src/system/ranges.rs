//! Where a file may hold data: what lies between its holes.

use std::{fs::File, io, ops::Range};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// The parts of `range` that may hold data, ascending; the whole of it where the kernel cannot tell.
///
/// # Errors
/// `UnexpectedEof` when the file ends before `range` does: what was cut off is no hole.
pub fn data_ranges(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(whole(range)),
            Err(error) => return Err(error.into()),
        };
        if start >= range.end {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start))?.min(range.end);
        if end <= start {
            break;
        }
        found.push(start..end);
        at = end;
    }
    // Holes end with the file, so only its length tells a hole from what was cut off.
    if seek(file, SeekFrom::End(0))? < range.end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(found)
}

fn whole(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).filter(|range| !range.is_empty()).collect()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some with one
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn sparse() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * MIB).unwrap();
        file.write_all_at(&[1; 4096], MIB).unwrap();
        file.write_all_at(&[1; 4096], 4 * MIB).unwrap();
        file
    }

    #[test]
    fn holes_are_left_out() {
        let expected = [MIB..MIB + 4096, 4 * MIB..4 * MIB + 4096];
        assert_eq!(data_ranges(&sparse(), 0..8 * MIB).unwrap(), expected);
    }

    #[test]
    fn ranges_are_clipped() {
        let file = sparse();
        assert_eq!(data_ranges(&file, MIB + 100..MIB + 200).unwrap(), [MIB + 100..MIB + 200]);
        assert_eq!(
            data_ranges(&file, MIB + 4095..4 * MIB + 1).unwrap(),
            [MIB + 4095..MIB + 4096, 4 * MIB..4 * MIB + 1]
        );
        assert!(data_ranges(&file, 5 * MIB..6 * MIB).unwrap().is_empty());
        assert!(data_ranges(&file, MIB..MIB).unwrap().is_empty());
    }

    #[test]
    fn what_was_cut_off_is_no_hole() {
        let file = sparse();
        file.set_len(2 * MIB).unwrap();
        let error = data_ranges(&file, MIB..3 * MIB).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
