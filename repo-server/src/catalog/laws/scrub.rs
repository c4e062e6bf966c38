use super::sample::*;
use crate::{
    catalog::{Catalog, Condemnation, ScrubState},
    pack::Purpose,
};

pub(crate) async fn places_come_in_pages(catalog: &dyn Catalog) {
    assert_eq!(catalog.places(Purpose::Chunks, None, 9).await.unwrap(), []);
    let first = add_chunks(catalog, 1, &[1, 2, 3], None).await;
    let second = add_chunks(catalog, 2, &[3, 4, 5], None).await;
    let mut expected = objects(&first, &[1, 2]);
    expected.extend(objects(&second, &[3, 4, 5]));
    expected.sort_by_key(|(id, _)| *id);
    for limit in 1..=6 {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = catalog.places(Purpose::Chunks, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            all.extend(page);
        }
        assert_eq!(all, expected, "{limit} at once");
    }
    assert_eq!(catalog.places(Purpose::Nodes, None, 9).await.unwrap(), []);
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 2, &[3, 4, 5], &[]).await, Condemnation::Condemned);
    let left = catalog.places(Purpose::Chunks, None, 1).await.unwrap();
    assert_eq!(left[0].1.pack, pack_id(1), "what is in condemned packs is passed over");
}

pub(crate) async fn a_verification_is_remembered_as_long_as_its_pack_lives(catalog: &dyn Catalog) {
    for seed in [1, 2] {
        add_chunks(catalog, seed, &[seed.into()], None).await;
    }
    assert_eq!(catalog.verifications().await.unwrap(), []);
    catalog.note_verified(vec![pack_id(2), pack_id(1), pack_id(9)], NOW).await.unwrap();
    catalog.note_verified(vec![pack_id(1)], NOW + 1).await.unwrap();
    assert_eq!(catalog.verifications().await.unwrap(), [(pack_id(1), NOW + 1), (pack_id(2), NOW)]);
    let mark = catalog.begin_mark().await.unwrap();
    assert_eq!(condemn(catalog, mark.id, 1, &[1], &[]).await, Condemnation::Condemned);
    catalog.note_verified(vec![pack_id(1)], NOW + 2).await.unwrap();
    assert_eq!(catalog.verifications().await.unwrap(), [(pack_id(2), NOW)]);
}

pub(crate) async fn an_open_round_is_remembered(catalog: &dyn Catalog) {
    assert_eq!(catalog.scrub_state().await.unwrap(), ScrubState::default());
    for (open_since_unix_ms, finished_unix_ms) in [(Some(NOW), None), (None, Some(NOW)), (Some(NOW + 1), Some(NOW))] {
        let state = ScrubState { open_since_unix_ms, finished_unix_ms };
        catalog.note_scrub_state(state).await.unwrap();
        assert_eq!(catalog.scrub_state().await.unwrap(), state);
    }
}
