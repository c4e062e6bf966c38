use imprint_content::DecodeError;
use proptest::prelude::*;

use super::*;

#[test]
fn the_bytes_of_a_journal_do_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = sample(&file_in(&dir));
    let removal = ends[1].offset as usize..ends[2].offset as usize;
    assert_eq!(hex(&bytes[..30]), "494a6e6c0100030303030303030303030303030303037856341255f00d90");
    assert_eq!(hex(&bytes[removal]), "11000000e5f3f4e803000000000000001a0f0a056c61622f611204626574611802");
    let first_four = &bytes[..ends[3].offset as usize];
    assert_eq!(
        blake3::hash(first_four).to_string(),
        "eb7953e9b4d905b86fcd1d8adeeee5d6645172ba0f55912403848496ca3e20c8"
    );
    assert_eq!(blake3::hash(&bytes).to_string(), "b1a2558647e06c190a3017a1d20146f7464fcc1211302f21fb172cde604809b2");
}

/// Of the quarantined records, the pack and the kind.
#[test]
fn the_bytes_of_decisions_do_not_change() {
    let golden: [(usize, &str); 9] = [
        (4, "2a100a056c61622f6110011881d095ffbc31"),
        (5, "3a100a056c61622f6110011882d095ffbc31"),
        (6, "42100a056c61622f6110011883d095ffbc31"),
        (7, "32100a056c61622f6110011884d095ffbc31"),
        (8, "4a290a2008080808080808080808080808080808090909090909090909090909090909091085d095ffbc31"),
        (9, "526c0a10070707070707070707070707070707071002"),
        (10, "5a0b0887d095ffbc3110031801"),
        (11, "620c0880b899291088d095ffbc31"),
        (12, "6a760a10070707070707070707070707070707071002"),
    ];
    for (at, expected) in golden {
        let payload = hex(&decisions()[at].encode());
        assert!(payload.starts_with(expected), "{at}: {payload}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn payloads_come_back() {
    for decision in decisions() {
        assert_eq!(Decision::decode(&decision.encode()), Ok(decision));
    }
}

#[test]
fn a_decision_that_a_newer_imprint_makes_is_not_passed_over() {
    // Field 14, an empty message.
    let unknown = Decision::decode(&[14 << 3 | 2, 0]);
    assert_eq!(unknown, Err(DecodeError::Unknown { what: "journal entry", found: 14 }));
}

#[test]
fn what_no_writer_writes_is_an_error() {
    let hostile: [&[u8]; 13] = [
        b"",
        b"\0",
        b"\x0a\0",                      // a commit without a version
        b"\x12\0",                      // a tag without a name
        b"\x1a\x07\x0a\x01a\x12\x02-t", // not a tag's name
        b"\x22\x03\x0a\x01a",           // number 0
        b"\x2a\x03\x0a\x01a",           // number 0, of each kind
        b"\x32\x03\x0a\x01a",
        b"\x42\x03\x0a\x01a",
        b"\x4a\x03\x0a\x01a",                        // half a pack id
        b"\x52\x00",                                 // no pack and no kind
        b"\x6a\x00",                                 // likewise
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", // longer than memory
    ];
    for payload in hostile {
        assert!(Decision::decode(payload).is_err(), "{payload:?}");
    }
}

#[test]
fn cut_and_flipped_payloads_never_panic() {
    for decision in decisions() {
        let payload = decision.encode();
        for end in 0..payload.len() {
            let _ = Decision::decode(&payload[..end]);
        }
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Decision::decode(&flipped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_payload_is_a_decision_or_an_error(payload: Vec<u8>, kind in 1u8..15) {
        let _ = Decision::decode(&payload);
        let length = payload.len() as u8 & 0x7f;
        let _ = Decision::decode(&[&[kind << 3 | 2, length], payload.as_slice()].concat());
    }
}
