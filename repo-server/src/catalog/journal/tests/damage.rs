use std::os::unix::fs::FileExt;

use super::*;
use crate::catalog::journal::{
    MAX_PAYLOAD_BYTES,
    frame::{FrameHeader, MAX_ENTRY_BYTES},
    tail::{Tail, judge},
};

/// Index of the last of [`decisions`].
const LAST: usize = 12;

fn entry(key: u32, before: Position, payload: &[u8]) -> Vec<u8> {
    [FrameHeader::new(key, before, payload).encode().as_slice(), payload].concat()
}

#[test]
fn a_torn_last_entry_is_dropped_wherever_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (bytes, ends) = sample(&path);
    let before = ends[LAST - 1];
    for length in before.offset as usize..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(decisions_in(&path).unwrap(), decisions()[..LAST], "cut at {length}");
        let mut journal = open(&path).unwrap();
        assert_eq!(journal.end(), before);
        assert_eq!(fs::read(&path).unwrap(), bytes[..before.offset as usize]);
        let copy = path.with_extension(format!("cut-{}", before.offset));
        match length - before.offset as usize {
            0 => assert!(!copy.exists()),
            _ => assert_eq!(fs::read(&copy).unwrap(), bytes[before.offset as usize..length], "what is cut off is kept"),
        }
        let _ = fs::remove_file(copy);
        journal.append(&decisions()[LAST]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "as if nothing had happened");
    }
}

/// A damaged last entry cannot be told from a torn one without knowing that it was whole once.
#[test]
fn every_flipped_bit_is_an_error_or_in_the_last_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (bytes, ends) = sample(&path);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let (at, byte) = (bit / 8, bytes[bit / 8]);
        file.write_all_at(&[byte ^ 1 << (bit % 8)], at as u64).unwrap();
        match decisions_in(&path) {
            Err(Error::FileCorrupt { .. } | Error::Incompatible { .. }) => {
                assert!(at < ends[LAST - 1].offset as usize, "bit {bit} in the last entry");
            }
            Err(error) => panic!("bit {bit}: {error}"),
            Ok(found) => {
                assert!(at >= ends[LAST - 1].offset as usize, "bit {bit} was not noticed");
                assert_eq!(found, decisions()[..LAST]);
            }
        }
        file.write_all_at(&[byte], at as u64).unwrap();
    }
}

#[test]
fn damage_is_named_by_its_offset_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (mut bytes, ends) = sample(&path);
    bytes[ends[1].offset as usize + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open(&path).unwrap_err();
    let (bad, later) = (ends[1].offset, ends[2].offset);
    let why = format!("entry 3 at byte {bad} is bad, but a valid entry follows at byte {later}");
    assert!(error.to_string().ends_with(&why), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_entry_that_the_catalog_has_is_never_taken_for_a_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (mut bytes, ends) = sample(&path);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = Journal::open(&path, REPOSITORY, Files::default(), ends[LAST]).unwrap_err();
    assert!(matches!(error, Error::FileCorrupt { .. }), "{error}");
    assert!(error.to_string().contains(&format!("the catalog has entry {}", LAST + 1)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was cut off");

    Journal::open(&path, REPOSITORY, Files::default(), ends[LAST - 1]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes[..ends[LAST - 1].offset as usize]);
}

#[test]
fn an_entry_of_another_history_is_not_the_one_that_the_catalog_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (bytes, ends) = sample(&path);
    // The same length and sequence, another decision.
    fs::write(&path, &bytes[..ends[2].offset as usize]).unwrap();
    let other = Decision::VersionRemoved { version: key("lab/b", 1), removed_unix_ms: 1_700_000_000_000 };
    assert_eq!(open(&path).unwrap().append(&other).unwrap().offset, ends[3].offset);
    let error = Journal::open(&path, REPOSITORY, Files::default(), ends[3]).unwrap_err();
    assert!(error.to_string().contains("is not the one that the catalog has"), "{error}");
}

/// rustic#1731: zeros that a full disk left were parsed.
#[test]
fn zeros_are_never_an_entry() {
    assert_eq!(FrameHeader::decode(&[0; 64]), None);
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    let (bytes, ends) = sample(&path);
    fs::write(&path, [bytes.as_slice(), &[0; 512]].concat()).unwrap();
    assert_eq!(open(&path).unwrap().end(), ends[LAST]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn more_than_one_unfinished_entry_is_damage() {
    let full = vec![0xff; MAX_ENTRY_BYTES + 1];
    assert_eq!(judge(&full[1..], Position::START, HEADER.key), Tail::Torn);
    assert!(matches!(judge(&full, Position::START, HEADER.key), Tail::Damaged { .. }));
}

/// What a client may write into a record must not make a torn entry look like damage.
#[test]
fn look_alikes_in_a_payload_are_not_entries() {
    let next = Position::START.after(100, 0);
    for (key, expected_torn) in [(HEADER.key ^ 1, true), (0, true), (HEADER.key, false)] {
        let payload = [b"labels ", entry(key, next, b"forged").as_slice(), b" more"].concat();
        let mut torn = entry(HEADER.key, Position::START, &payload);
        torn.pop();
        let tail = judge(&torn, Position::START, HEADER.key);
        assert_eq!(tail == Tail::Torn, expected_torn, "{tail:?}");
    }
}

#[test]
fn a_tail_full_of_look_alikes_is_judged_in_time() {
    let mut look_alike = entry(HEADER.key ^ 1, Position::START.after(9, 0), b"0123456789abcdef");
    look_alike[..4].copy_from_slice(&(1u32 << 18).to_le_bytes());
    let tail = look_alike.repeat(MAX_PAYLOAD_BYTES / 2 / look_alike.len());
    assert_eq!(judge(&tail, Position::START, HEADER.key), Tail::Torn);
}

#[test]
fn a_file_without_a_whole_header_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = file_in(&dir);
    for length in 0..HEADER.encode().len() {
        fs::write(&path, &HEADER.encode()[..length]).unwrap();
        assert!(matches!(open(&path), Err(Error::FileCorrupt { .. })), "{length}");
    }
}
