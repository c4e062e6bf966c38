//! The superblock: which repository this is and what one must understand to use it.
//! Layout: `docs/format.md`, "Superblock".

use imprint_content::{DecodeError, Profile, bytes::Reader};

use crate::RepositoryId;

const MAGIC: [u8; 8] = *b"IMPRINT\n";
/// Object ids are plain hashes of content.
const ID_SCHEME_PLAIN: u8 = 0;
/// Size of an encoded superblock in bytes.
const BYTES: usize = 8 + 2 + 16 + 1 + 1 + 2 + 3 * 8 + 4;

/// Features known to this version of Imprint; none yet.
const KNOWN_INCOMPATIBLE: u64 = 0;
const KNOWN_READ_ONLY_COMPATIBLE: u64 = 0;

/// What a repository says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Kept for life.
    pub repository: RepositoryId,
    /// Number of the profile that new images use.
    pub default_profile: u16,
    /// Who does not know one of these may use the repository all the same.
    pub compatible: u64,
    /// Who does not know one of these may read, not write.
    pub read_only_compatible: u64,
    /// Who does not know one of these must keep away.
    pub incompatible: u64,
}

impl Superblock {
    /// The repository format that this version of Imprint reads and writes.
    pub const FORMAT_VERSION: u16 = 1;

    /// For a new repository.
    #[must_use]
    pub const fn new(repository: RepositoryId) -> Self {
        Self {
            repository,
            default_profile: Profile::V2.number,
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
        }
    }

    /// The encoding, checksummed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&Self::FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(&[ID_SCHEME_PLAIN, 0]);
        out.extend_from_slice(&self.default_profile.to_le_bytes());
        for features in [self.compatible, self.read_only_compatible, self.incompatible] {
            out.extend_from_slice(&features.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Parses and checks an encoding. Features are not judged here.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for a newer format or id scheme; anything else means damage.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        if reader.array("superblock magic")? != MAGIC {
            return Err(DecodeError::invalid("superblock magic", "not a superblock"));
        }
        // Before the format: a flipped bit is damage, not something newer. Formats of this length keep the checksum.
        if let Some((fields, checksum)) = encoded.split_last_chunk().filter(|_| encoded.len() == BYTES)
            && crc32c::crc32c(fields).to_le_bytes() != *checksum
        {
            return Err(DecodeError::Checksum { what: "superblock" });
        }
        match reader.u16("repository format")? {
            Self::FORMAT_VERSION => {}
            found => return Err(DecodeError::Unknown { what: "repository format", found: found.into() }),
        }
        let repository = RepositoryId::from_bytes(reader.array("repository id")?);
        let id_scheme = reader.u8("id scheme")?;
        let _reserved = reader.u8("reserved byte")?;
        let default_profile = reader.u16("default profile")?;
        let [compatible, read_only_compatible, incompatible] = [
            reader.u64("compatible features")?,
            reader.u64("read-only compatible features")?,
            reader.u64("incompatible features")?,
        ];
        let _checksum = reader.u32("superblock checksum")?;
        reader.finish("superblock")?;
        if id_scheme != ID_SCHEME_PLAIN {
            return Err(DecodeError::Unknown { what: "id scheme", found: id_scheme.into() });
        }
        Ok(Self { repository, default_profile, compatible, read_only_compatible, incompatible })
    }

    /// Why this version of Imprint must not use the repository; it writes, so unknown read-only features count.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let unknown = |features: u64, known: u64| features & !known;
        match (
            unknown(self.incompatible, KNOWN_INCOMPATIBLE),
            unknown(self.read_only_compatible, KNOWN_READ_ONLY_COMPATIBLE),
        ) {
            (0, 0) => None,
            (0, features) => Some(format!("it uses features {features:#x} that only allow reading")),
            (features, _) => Some(format!("it uses features {features:#x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock { default_profile: 1, compatible: 4, ..Superblock::new(RepositoryId::from_bytes([7; 16])) }
    }

    #[test]
    fn the_encoding_does_not_change() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "494d5052494e540a010007070707070707070707070707070707000001000400000000000000000000000000000000000000000000006415cf0d"
        );
        assert_eq!(Superblock::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_error() {
        let encoded = sample().encode();
        for end in 0..encoded.len() {
            assert!(Superblock::decode(&encoded[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..encoded.len() * 8 {
            let mut flipped = encoded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Superblock::decode(&flipped).unwrap_err();
            assert!(!matches!(error, DecodeError::Unknown { .. }), "bit {bit} is damage, not something newer: {error}");
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut same_length = sample().encode();
        same_length[8] = 2;
        let checksum = crc32c::crc32c(&same_length[..BYTES - 4]);
        same_length[BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        let longer = [&same_length[..], &[0; 8]].concat();
        for newer in [same_length, longer] {
            assert!(matches!(Superblock::decode(&newer), Err(DecodeError::Unknown { found: 2, .. })));
        }
    }

    #[test]
    fn unknown_features_are_refused_unless_compatible() {
        assert_eq!(sample().refusal(), None);
        assert!(Superblock { incompatible: 1, ..sample() }.refusal().is_some());
        assert!(Superblock { read_only_compatible: 1, ..sample() }.refusal().is_some());
    }
}
