//! Keys and values of the index: any bytes are an error, or what encodes to the same bytes. `tests/tests/fuzz` has the
//! decoders that can be reached from outside of this crate.

use std::{env, time::Duration};

use super::{
    BaseRecord, FinishedMark, Location, RemovedVersion, VersionCounts,
    journal::Position,
    keys,
    laws::sample,
    values::{self, OpenUpload, TagValue},
};
use crate::{PackId, UploadId, pack::Purpose};

fn samples() -> Vec<Vec<u8>> {
    let pack = sample::pack(1, Purpose::Chunks);
    let version = sample::new_version(3, "lab/a").numbered(7);
    let base = Some(sample::base_of(&version));
    let upload = |base: Option<BaseRecord>| OpenUpload { image: sample::image("lab/a"), base, used_unix_ms: -1 };
    let mark = FinishedMark { finished_unix_ms: 5, counts: VersionCounts { versions: 1, purged: 2 } };
    vec![
        values::encode_location(&sample::objects(&pack, &[1])[0].1).to_vec(),
        values::encode_pack(&pack),
        values::encode_version(&version),
        values::encode_version_key(&sample::key("lab/a", 7)),
        values::encode_upload(&upload(None)),
        values::encode_upload(&upload(base)),
        values::encode_removed(&RemovedVersion { version, removed_unix_ms: 9 }),
        values::encode_finished_mark(&mark),
        values::encode_tag(TagValue { number: Some(3), counter: 4 }),
        values::encode_position(Position::START),
        // Behind table and pack.
        keys::quarantined(pack.id, Purpose::Nodes, &sample::object(1))[21..].to_vec(),
    ]
}

/// How many of the decoders took it.
fn decode_as_everything(value: &[u8]) -> usize {
    let id = PackId::from_bytes([1; 16]);
    let mut taken = 0;
    let mut same = |encoded: Option<Vec<u8>>| {
        if let Some(encoded) = encoded {
            assert_eq!(encoded, value);
            taken += 1;
        }
    };
    same(values::decode_location(value).ok().map(|it: Location| values::encode_location(&it).to_vec()));
    same(values::decode_pack(id, value).ok().map(|it| values::encode_pack(&it)));
    same(values::decode_version_key(value).ok().map(|it| values::encode_version_key(&it)));
    same(values::decode_upload(value).ok().map(|it| values::encode_upload(&it)));
    same(values::decode_finished_mark(value).ok().map(|it| values::encode_finished_mark(&it)));
    same(values::decode_count(value).ok().map(|it| it.to_le_bytes().to_vec()));
    same(values::decode_image(sample::image("a"), value).ok().map(|it| values::encode_image(&it)));
    same(values::decode_tag(value).ok().map(values::encode_tag));
    same(values::decode_position(value).ok().map(values::encode_position));
    same(values::decode_why(value).ok().map(String::into_bytes));
    same(keys::parse_pack(value).ok().map(|it| it.as_bytes().to_vec()));
    same(keys::parse_upload(value).ok().map(|it: UploadId| it.as_bytes().to_vec()));
    same(keys::parse_number(value).ok().map(|it| it.to_be_bytes().to_vec()));
    if let Ok((kind, object)) = keys::parse_quarantined(value) {
        assert!(keys::quarantined(id, kind, &object).ends_with(value));
        taken += 1;
    }
    // Protobuf: what is decoded comes back, in one of the forms that it can have.
    if let Ok(version) = values::decode_version(value) {
        assert_eq!(values::decode_version(&values::encode_version(&version)), Ok(version));
        taken += 1;
    }
    if let Ok(removed) = values::decode_removed(value) {
        assert_eq!(values::decode_removed(&values::encode_removed(&removed)), Ok(removed));
        taken += 1;
    }
    taken
}

fn edited(samples: &[Vec<u8>], edits: &[u8]) -> Option<Vec<u8>> {
    let (&[which, length], edits) = edits.split_first_chunk()?;
    let mut value = samples[usize::from(which) % samples.len()].clone();
    for edit in edits.chunks_exact(2).take(4) {
        let place = usize::from(edit[0]) % value.len();
        value[place] ^= edit[1];
    }
    if length < 64 {
        value.truncate(usize::from(length));
    }
    Some(value)
}

#[test]
fn index() {
    let samples = samples();
    assert!(samples.iter().all(|sample| decode_as_everything(sample) > 0));
    let seconds = env::var("IMPRINT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    bolero::check!(name = "index")
        .with_iterations(usize::MAX)
        .with_test_time(Duration::from_secs_f64(seconds))
        .with_max_len(512)
        .for_each(|input: &[u8]| {
            decode_as_everything(input);
            if let Some(value) = edited(&samples, input) {
                decode_as_everything(&value);
            }
        });
}
