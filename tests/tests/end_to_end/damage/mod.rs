//! Flipped bits, cuts and lost files, one at a time, in packs, journal, superblock and catalog: each is found, what is said
//! names what was hit, no other version suffers, and no wrong byte is served.
//!
//! An oracle knows which records each version needs and which a damage hits ([`oracle`]). `IMPRINT_DAMAGES` sets how many
//! damages; the seed is printed, and `IMPRINT_SEED` replays it.

mod hit;
mod oracle;

use std::{env, path::PathBuf};

use imprint_tests::{damage::Damage, files::length, random::Random};

use hit::{Checked, Hit};
use oracle::Healthy;

/// Of a hundred damages.
fn share(percent: u64) -> u64 {
    let total: u64 = env::var("IMPRINT_DAMAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    (total * percent).div_ceil(100)
}

fn any_damage(length: u64, random: &mut Random) -> Damage {
    match random.below(8) {
        0 => Damage::Remove,
        1 | 2 => Damage::Truncate(random.below(length)),
        _ => Damage::FlipBit(random.below(length * 8)),
    }
}

/// So many damages of these files. Every file gets each kind before any gets one at random.
fn damages(files: &[PathBuf], count: u64, random: &mut Random) -> Vec<(PathBuf, Damage)> {
    let pick = |random: &mut Random| files[random.below(files.len() as u64) as usize].clone();
    let mut damages: Vec<_> = files.iter().map(|file| (file.clone(), Damage::Remove)).collect();
    damages.extend(files.iter().map(|file| (file.clone(), Damage::Truncate(length(file) - 1))));
    damages.truncate(count as usize);
    while (damages.len() as u64) < count {
        let file = pick(random);
        let damage = any_damage(length(&file), random);
        damages.push((file, damage));
    }
    damages
}

/// Records that a version needs are gone: it cannot be restored, before and after a rebuild, and all others can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_packs_are_found_and_other_versions_do_not_suffer() {
    let mut random = Random::new(7);
    let healthy = Healthy::make(&mut random).await;
    let packs = healthy.packs();
    let mut damages = damages(&packs, share(60), &mut random);
    // Between two records, and where only header or footer is hit: those look most like something whole.
    for pack in &packs {
        for cut in healthy.borders(pack).into_iter().take(share(3) as usize) {
            damages.push((pack.clone(), Damage::Truncate(cut)));
        }
        for byte in [random.below(64), length(pack) - 1 - random.below(48)] {
            damages.push((pack.clone(), Damage::FlipBit(byte * 8 + random.below(8))));
        }
    }
    let (mut suffering, mut harmless) = (0, 0);
    for (number, (pack, damage)) in damages.iter().enumerate() {
        println!("{number}: {damage:?} in {}", pack.display());
        let hit = Hit::new(&healthy, pack, *damage);
        let suffers = healthy.suffering(pack, *damage);
        // Each check derives a catalog: not with every damage.
        if number % 4 == 0 {
            hit.assert_check_finds_this_pack(&suffers).await;
        }
        hit.assert_only_suffering(&suffers).await;
        let reported = hit.rebuild().await.expect("a damaged pack does not stop a rebuild");
        hit.assert_only_this_pack(&reported);
        // A rebuild believes an intact footer and reads no record.
        assert!(!suffers.is_empty() || !reported.is_empty(), "{} is not found", hit.what);
        if matches!(damage, Damage::Truncate(_)) {
            assert!(!reported.is_empty(), "{} looks whole to a rebuild", hit.what);
        }
        hit.assert_only_suffering_after_rebuild(&suffers, &reported).await;
        if suffers.is_empty() { harmless += 1 } else { suffering += 1 }
    }
    println!("{} times damaged packs: {suffering} with versions that suffer, {harmless} without", damages.len());
    assert!(suffering > 0 && harmless > 0);
}

/// Decisions are in one place only: a repository whose journal or superblock is damaged is neither opened nor rebuilt (unless
/// somebody says that it shall be), and what is left of them is not touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_or_superblock_is_refused_and_left_as_it_is() {
    let mut random = Random::new(8);
    let healthy = Healthy::make(&mut random).await;
    let files = [healthy.repository().join("journal"), healthy.repository().join("superblock")];
    let damages = damages(&files, share(20).max(8), &mut random);
    for (number, (file, damage)) in damages.iter().enumerate() {
        println!("{number}: {damage:?} in {}", file.display());
        let hit = Hit::new(&healthy, file, *damage);
        hit.assert_check_finds_this_file().await;
        hit.assert_refused_and_untouched().await;
    }
    println!("{} times damaged journal or superblock: all refused", damages.len());
}

/// The catalog can be derived: damage of it is refused, or harmless, or heals on opening; a rebuild heals all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_catalog_never_answers_wrongly_and_a_rebuild_heals_it() {
    let mut random = Random::new(9);
    let healthy = Healthy::make(&mut random).await;
    let damages = damages(&healthy.catalog_files(), share(20), &mut random);
    let (mut refused, mut right, mut found) = (0, 0, 0);
    for (number, (file, damage)) in damages.iter().enumerate() {
        println!("{number}: {damage:?} in {}", file.display());
        let hit = Hit::new(&healthy, file, *damage);
        let is_found = hit.check_finds_the_catalog().await;
        let is_right = hit.answers_rightly_or_refuses().await;
        assert!(is_found || is_right, "{}: a check finds nothing", hit.what);
        let counted = if is_right { &mut right } else { &mut refused };
        *counted += 1;
        found += u64::from(is_found);
        let reported = hit.rebuild().await.unwrap_or_else(|error| panic!("{}: {error}", hit.what));
        assert!(reported.is_empty(), "{}: the packs are whole, and a rebuild reports {reported:?}", hit.what);
        hit.assert_answers_all().await;
    }
    let all = damages.len();
    println!(
        "{all} times damaged catalog: {refused} refused, {right} answered rightly, {found} found by a check; all healed"
    );
}

/// Nothing is reported of a healthy repository; and the oracle can be wrong: what is not damaged is not taken for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_damage_none_is_reported() {
    let mut random = Random::new(7);
    let healthy = Healthy::make(&mut random).await;
    let pack = &healthy.packs()[0];
    let hit = Hit::new(&healthy, pack, Damage::Truncate(length(pack)));
    assert!(healthy.suffering(pack, Damage::Truncate(length(pack))).is_empty());
    assert_eq!(hit.check().await, Checked::default());
    hit.assert_only_suffering(&[]).await;
    assert!(hit.answers_rightly_or_refuses().await);
    assert!(hit.rebuild().await.unwrap().is_empty());
    hit.assert_answers_all().await;
    // Every record is needed, so that none can be damaged unseen, and every version needs some that others do not.
    for pack in healthy.packs() {
        assert!(!healthy.suffering(&pack, Damage::Remove).is_empty());
    }
    assert!(healthy.packs().iter().any(|pack| healthy.suffering(pack, Damage::Remove).len() == 1));
}
