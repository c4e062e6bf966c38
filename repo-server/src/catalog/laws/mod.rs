//! The laws of a catalog: tests that every engine runs.

mod commits;
mod objects;
mod queries;
pub(super) mod sample;
mod tags;
mod uploads;

pub(super) use commits::*;
pub(super) use objects::*;
pub(super) use queries::*;
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
            numbers_start_at_one_and_are_never_reused,
            commit_is_idempotent,
            commit_needs_an_open_upload,
            an_upload_is_for_one_image_base_and_content,
            a_closed_upload_is_forgotten,
            the_base_must_exist,
            an_upload_of_a_removed_version_is_not_committed_again,
            commits_at_once_get_different_numbers,
            commit_sets_tags,
            tags_compare_and_set,
            counters_never_repeat,
            tags_name_live_versions_only,
            tags_are_listed_by_name,
            a_tagged_version_is_not_removed,
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
