//! The laws of a catalog: tests that every engine runs.

mod commits;
mod damage;
mod objects;
mod queries;
mod reclamation;
mod retention;
pub(super) mod sample;
mod scrub;
mod tags;
mod uploads;

pub(super) use commits::*;
pub(super) use damage::*;
pub(super) use objects::*;
pub(super) use queries::*;
pub(super) use reclamation::*;
pub(super) use retention::*;
pub(super) use scrub::*;
pub(super) use tags::*;
pub(super) use uploads::*;

/// One test for each law. `$fresh` makes an empty catalog and what has to outlive it.
macro_rules! every_law {
    ($fresh:expr) => {
        crate::catalog::laws::every_law! { $fresh;
            what_was_added_is_located,
            holding_does_not_change_answers,
            only_open_uploads_hold,
            adding_a_pack_twice_changes_nothing,
            the_newer_location_wins,
            packs_are_listed_in_order,
            an_object_is_found_as_what_it_is,
            packs_that_are_added_together_are_as_if_added_one_by_one,
            an_object_that_moves_is_located_all_the_time,
            numbers_start_at_one_and_are_never_reused,
            commit_is_idempotent,
            commit_needs_an_open_upload,
            an_upload_is_for_one_image_base_and_content,
            a_closed_upload_is_forgotten,
            the_base_must_exist,
            idle_uploads_expire_and_those_in_use_do_not,
            an_upload_of_a_removed_version_is_not_committed_again,
            commits_at_once_get_different_numbers,
            commit_sets_tags,
            tags_compare_and_set,
            counters_never_repeat,
            tags_name_live_versions_only,
            tags_are_listed_by_name,
            a_tagged_version_is_not_removed,
            a_removed_version_comes_back_as_it_was,
            a_purged_version_does_not_come_back,
            only_the_removal_that_was_looked_at_is_purged,
            removed_versions_come_in_pages,
            the_grace_is_remembered,
            a_pinned_version_is_not_removed,
            pins_are_for_live_versions,
            roots_are_what_is_live_in_grace_or_a_base,
            a_pack_on_which_nothing_rests_is_condemned,
            a_held_pack_is_not_condemned,
            what_an_upload_sent_is_held_by_it,
            a_pack_that_a_commit_relied_on_is_not_condemned,
            a_pack_that_is_newer_than_the_mark_is_not_condemned,
            a_pack_with_a_marked_object_is_not_condemned,
            a_hold_follows_its_object,
            a_pack_with_other_records_than_known_is_not_condemned,
            only_an_active_mark_condemns,
            packs_are_condemned_together_and_judged_apart,
            a_finished_mark_is_remembered,
            a_quarantined_object_is_sent_again_and_healed,
            a_record_that_is_not_used_is_quarantined_without_a_trace,
            a_quarantined_record_is_never_used_again,
            a_pack_with_unhealed_damage_is_not_condemned,
            a_record_that_is_found_intact_is_used_again,
            an_intact_record_of_a_lost_object_is_used,
            a_pack_whose_records_came_back_is_newer_than_the_mark,
            a_hold_covers_the_pack_in_which_an_object_comes_back,
            a_pack_with_another_number_of_records_is_left_alone,
            damage_comes_in_bounded_pieces,
            places_come_in_pages,
            a_verification_is_remembered_as_long_as_its_pack_lives,
            an_open_round_is_remembered,
            latest_is_the_highest_live_number,
            selectors_choose,
            the_start_of_an_id_must_be_unambiguous,
            versions_come_in_pages,
            images_come_in_pages,
            neighbouring_names_are_not_mixed_up,
            unknown_images_are_not_found,
            totals_count_what_is_live,
        }
    };
    ($fresh:expr; $($law:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $law() {
            let (_guard, catalog) = $fresh;
            crate::catalog::laws::$law(&catalog).await;
        }
    )*};
}
pub(super) use every_law;
