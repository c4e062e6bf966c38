//! Entries of directories, 32 bytes each.

use super::boot::FatType;
use crate::fields::Fields;

/// Bytes of an entry.
pub(super) const BYTES: usize = 32;

const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;
/// Stands for a first byte that would mean that the file was deleted.
const ESCAPED_E5: u8 = 0x05;

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Behind it there are none.
    End,
    /// Deleted, a label, or the directory itself or its parent.
    Nothing,
    /// A part of the name of the file that follows.
    LongName(LongPart),
    File(Record),
}

/// What an entry says of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) is_directory: bool,
    /// First cluster; 0 for none.
    pub(super) first: u32,
    /// In bytes; 0 for directories.
    pub(super) length: u64,
    pub(super) modified_seconds: i64,
    /// Its name in eight and three characters.
    pub(super) name: Vec<u8>,
    /// Of the short name; its long name has the same.
    pub(super) checksum: u8,
}

/// A part of a long name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LongPart {
    /// From 1; the last part stands first.
    pub(super) number: u8,
    pub(super) is_last: bool,
    pub(super) checksum: u8,
    pub(super) units: [u16; 13],
}

impl Entry {
    pub(super) fn parse(raw: &[u8; BYTES], kind: FatType) -> Self {
        let attributes = raw[11] & 0x3f;
        match raw[0] {
            0 => Self::End,
            DELETED => Self::Nothing,
            _ if attributes & LONG_NAME == LONG_NAME => Self::LongName(LongPart::parse(raw)),
            _ if attributes & LABEL != 0 || matches!(raw[..2], [b'.', b' ' | b'.']) => Self::Nothing,
            _ => Self::File(Record::parse(raw, kind)),
        }
    }
}

impl Record {
    fn parse(raw: &[u8; BYTES], kind: FatType) -> Self {
        let fields = Fields(raw);
        let high = if kind == FatType::Fat32 { u32::from(fields.u16(20)) << 16 } else { 0 };
        Self {
            is_directory: raw[11] & DIRECTORY != 0,
            first: high | u32::from(fields.u16(26)),
            length: fields.u32(28).into(),
            modified_seconds: seconds(fields.u16(24), fields.u16(22)),
            name: short_name(raw),
            checksum: raw[..11].iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte)),
        }
    }
}

/// With lower case where the entry says so, as Windows and Linux show it.
fn short_name(raw: &[u8; BYTES]) -> Vec<u8> {
    const LOWER_BASE: u8 = 0x08;
    const LOWER_EXTENSION: u8 = 0x10;
    let part = |bytes: &[u8], is_lower: bool| {
        let end = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        if is_lower { bytes[..end].to_ascii_lowercase() } else { bytes[..end].to_vec() }
    };
    let mut name = part(&raw[..8], raw[12] & LOWER_BASE != 0);
    if let Some(first) = name.first_mut().filter(|first| **first == ESCAPED_E5) {
        *first = DELETED;
    }
    let extension = part(&raw[8..11], raw[12] & LOWER_EXTENSION != 0);
    if !extension.is_empty() {
        name.push(b'.');
        name.extend(extension);
    }
    name
}

/// Seconds since 1970 of a date and a time; nonsense gives nonsense, and no panic.
fn seconds(date: u16, time: u16) -> i64 {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15), i64::from(date & 31));
    // Days from 1 March of the year 0, so that leap days come last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let of_day = i64::from(time >> 11) * 3600 + i64::from(time >> 5 & 63) * 60 + i64::from(time & 31) * 2;
    (days - 719_468) * 86400 + of_day
}

impl LongPart {
    fn parse(raw: &[u8; BYTES]) -> Self {
        const LAST: u8 = 0x40;
        const PLACES: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        Self {
            number: raw[0] & (LAST - 1),
            is_last: raw[0] & LAST != 0,
            checksum: raw[13],
            units: PLACES.map(|at| Fields(raw).u16(at)),
        }
    }
}

/// Puts the parts of a long name together.
#[derive(Debug)]
pub(super) struct LongName {
    /// Of the part that is expected before the present ones; 0 when they are all there.
    missing: u8,
    checksum: u8,
    units: Vec<u16>,
}

impl LongName {
    pub(super) const NONE: Self = Self { missing: 0, checksum: 0, units: Vec::new() };

    /// Adds the next part; one that is not the next begins anew or is dropped, as every system does.
    pub(super) fn add(&mut self, part: &LongPart) {
        /// 255 characters.
        const MAX_PARTS: u8 = 20;
        if part.is_last && (1..=MAX_PARTS).contains(&part.number) {
            *self = Self { missing: part.number, checksum: part.checksum, units: Vec::new() };
        }
        if self.missing == 0 || part.number != self.missing || part.checksum != self.checksum {
            *self = Self::NONE;
            return;
        }
        self.missing -= 1;
        self.units.splice(0..0, part.units);
    }

    /// The name of the file with this entry, if it has a long one. Afterwards there is none.
    pub(super) fn take(&mut self, record: &Record) -> Option<String> {
        let Self { missing, checksum, units } = std::mem::replace(self, Self::NONE);
        if missing != 0 || units.is_empty() || checksum != record.checksum {
            return None;
        }
        let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        let characters = char::decode_utf16(units.into_iter().take(end));
        Some(characters.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(name: &[u8; 11]) -> [u8; BYTES] {
        let mut raw = [0; BYTES];
        raw[..11].copy_from_slice(name);
        raw
    }

    #[test]
    fn names_in_eight_and_three() {
        let shown = |raw| match Entry::parse(&raw, FatType::Fat32) {
            Entry::File(record) => record.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(raw(b"README  TXT")), b"README.TXT");
        assert_eq!(shown(raw(b"A B        ")), b"A B");
        assert_eq!(shown(raw(b"\x05BC        ")), b"\xe5BC");
        let mut lower = raw(b"README  TXT");
        lower[12] = 0x18;
        assert_eq!(shown(lower), b"readme.txt");
    }

    #[test]
    fn times() {
        // 2024-02-29 13:37:58 and the first that there is.
        assert_eq!(seconds(44 << 9 | 2 << 5 | 29, 13 << 11 | 37 << 5 | 29), 1_709_213_878);
        assert_eq!(seconds(1 << 5 | 1, 0), 315_532_800);
        let _ = (seconds(0, 0), seconds(u16::MAX, u16::MAX));
    }

    fn part(number: u8, is_last: bool, text: &str) -> LongPart {
        let mut units = [0; 13];
        units.iter_mut().zip(text.encode_utf16()).for_each(|(unit, value)| *unit = value);
        LongPart { number, is_last, checksum: 0, units }
    }

    #[test]
    fn only_all_parts_in_order_are_a_name() {
        let record = Record {
            is_directory: false,
            first: 0,
            length: 0,
            modified_seconds: 0,
            name: b"SHORT".to_vec(),
            checksum: 0,
        };
        let named = |parts: &[LongPart]| {
            let mut name = LongName::NONE;
            parts.iter().for_each(|part| name.add(part));
            name.take(&record)
        };
        let (first, last) = (|| part(1, false, "thirteen lett"), || part(2, true, "ers"));
        assert_eq!(named(&[last(), first()]).as_deref(), Some("thirteen letters"));
        assert_eq!(named(&[part(1, true, "one")]).as_deref(), Some("one"));
        assert_eq!(named(&[part(1, true, "\u{1f980}")]).as_deref(), Some("\u{1f980}"));
        let half = LongPart { units: [0xd83e; 13], ..part(1, true, "") };
        assert_eq!(named(&[half]).unwrap(), "\u{fffd}".repeat(13));
        assert_eq!(named(&[first()]), None);
        assert_eq!(named(&[last()]), None);
        assert_eq!(named(&[last(), last(), first()]).as_deref(), Some("thirteen letters"));
        assert_eq!(named(&[last(), first(), first()]), None);
        assert_eq!(named(&[part(0, true, ""), first()]), None);
        let other = LongPart { checksum: 9, ..first() };
        assert_eq!(named(&[last(), other]), None);
        assert_eq!(named(&[LongPart { checksum: 9, ..part(1, true, "of another") }]), None);
    }
}
