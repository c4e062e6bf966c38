//! Which versions of an image are kept, and why: the rules of restic's `forget`, on numbers instead of hosts and paths.
//!
//! Versions are looked at from the newest number to the oldest. `last` keeps so many of them. `hourly`, `daily`, `weekly`,
//! `monthly` and `yearly` keep the newest version of a period, for the so many last periods that have one; a rule that has
//! not found as many when it comes to the oldest version keeps that one too, so that a history grows to its full
//! length. A version that several rules keep counts for each. What is tagged or pinned is kept in any case, and counts
//! for the rules like any other version.
//!
//! The order is that of numbers, never that of times: times are the server's, but a clock can be set back. Applied again,
//! to what is kept, the same rules keep the same.

use std::{collections::BTreeSet, fmt};

use imprint_content::TagName;

use super::calendar;

/// How much is kept. 0 means that a rule keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// So many newest versions.
    pub last: u32,
    /// The newest version of so many hours.
    pub hourly: u32,
    /// The newest version of so many days.
    pub daily: u32,
    /// The newest version of so many weeks, from Monday to Sunday.
    pub weekly: u32,
    /// The newest version of so many months.
    pub monthly: u32,
    /// The newest version of so many years.
    pub yearly: u32,
    /// What these tags name. Tagged versions are kept anyway: naming them here makes a rule that keeps nothing else.
    pub tags: BTreeSet<TagName>,
}

impl KeepRules {
    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedVersion {
    /// The version.
    pub number: u64,
    /// The server's clock at commit, milliseconds since 1970.
    pub committed_unix_ms: i64,
    /// Tags that name it.
    pub tags: Vec<TagName>,
    /// Whether it is pinned.
    pub is_pinned: bool,
}

/// A period of which one version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// By UTC.
    Hour,
    /// By UTC.
    Day,
    /// From Monday to Sunday, by UTC.
    Week,
    /// By UTC.
    Month,
    /// By UTC.
    Year,
}

/// Why a version is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// It is one of the newest.
    Last,
    /// It is the newest of its period.
    NewestOf(Period),
    /// There are fewer periods than the rule would keep, and it is the oldest version.
    OldestFor(Period),
    /// A tag names it.
    Tagged(TagName),
    /// It is pinned.
    Pinned,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::NewestOf(period) => period.fmt(f),
            Self::OldestFor(period) => write!(f, "oldest {period}"),
            Self::Tagged(tag) => write!(f, "tag {tag}"),
            Self::Pinned => f.write_str("pinned"),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

impl Period {
    const fn of(self, unix_ms: i64) -> i64 {
        match self {
            Self::Hour => calendar::hour(unix_ms),
            Self::Day => calendar::day(unix_ms),
            Self::Week => calendar::week(unix_ms),
            Self::Month => calendar::month(unix_ms),
            Self::Year => calendar::year(unix_ms),
        }
    }
}

/// One rule under way.
struct PeriodRule {
    period: Period,
    left: u32,
    latest: Option<i64>,
}

impl PeriodRule {
    fn keeps(&mut self, version: &DatedVersion, is_oldest: bool) -> Option<KeepReason> {
        let found = Some(self.period.of(version.committed_unix_ms));
        let is_newest = found != self.latest;
        if self.left == 0 || !(is_newest || is_oldest) {
            return None;
        }
        self.left -= 1;
        self.latest = found;
        Some(if is_newest { KeepReason::NewestOf(self.period) } else { KeepReason::OldestFor(self.period) })
    }
}

/// Why each of these versions is kept, by ascending numbers; a version without a reason goes.
pub(super) fn apply(rules: &KeepRules, mut versions: Vec<DatedVersion>) -> Vec<(DatedVersion, Vec<KeepReason>)> {
    versions.sort_unstable_by_key(|version| std::cmp::Reverse(version.number));
    let mut last = rules.last;
    let counts = [
        (Period::Hour, rules.hourly),
        (Period::Day, rules.daily),
        (Period::Week, rules.weekly),
        (Period::Month, rules.monthly),
        (Period::Year, rules.yearly),
    ];
    let mut periods = counts.map(|(period, left)| PeriodRule { period, left, latest: None });
    let oldest = versions.last().map(|version| version.number);
    let mut fates = Vec::with_capacity(versions.len());
    for version in versions {
        let is_oldest = Some(version.number) == oldest;
        let mut reasons = Vec::new();
        if last > 0 {
            last -= 1;
            reasons.push(KeepReason::Last);
        }
        reasons.extend(periods.iter_mut().filter_map(|rule| rule.keeps(&version, is_oldest)));
        reasons.extend(version.tags.iter().cloned().map(KeepReason::Tagged));
        reasons.extend(version.is_pinned.then_some(KeepReason::Pinned));
        fates.push((version, reasons));
    }
    fates.reverse();
    fates
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    /// 2026-11-22, a Sunday, at noon.
    const SUNDAY: i64 = 1_795_348_800_000;

    fn versions(times: impl IntoIterator<Item = i64>) -> Vec<DatedVersion> {
        let version =
            |(number, committed_unix_ms)| DatedVersion { number, committed_unix_ms, tags: vec![], is_pinned: false };
        (1..).zip(times).map(version).collect()
    }

    fn kept(rules: &KeepRules, versions: Vec<DatedVersion>) -> Vec<u64> {
        let fates = apply(rules, versions);
        fates.into_iter().filter(|(_, reasons)| !reasons.is_empty()).map(|(version, _)| version.number).collect()
    }

    fn reasons(rules: &KeepRules, versions: Vec<DatedVersion>) -> Vec<String> {
        let text = |(version, reasons): (DatedVersion, Vec<KeepReason>)| {
            let reasons: Vec<String> = reasons.iter().map(KeepReason::to_string).collect();
            format!("{}: {}", version.number, reasons.join(", "))
        };
        apply(rules, versions).into_iter().map(text).collect()
    }

    #[test]
    fn the_last_ones_are_kept_whatever_the_clock_said() {
        let rules = KeepRules { last: 2, ..KeepRules::default() };
        assert_eq!(kept(&rules, versions([5, 4, 9, 1, 2])), [4, 5]);
        assert_eq!(kept(&rules, versions([0])), [1]);
        assert_eq!(kept(&rules, vec![]), [0; 0]);
    }

    /// The example of restic's manual: one version each Sunday, for twelve weeks.
    #[test]
    fn days_without_a_version_do_not_count() {
        let sundays = || versions((0..12).rev().map(|week| SUNDAY - 7 * DAY_MS * week));
        let daily = KeepRules { daily: 4, ..KeepRules::default() };
        assert_eq!(kept(&daily, sundays()), [9, 10, 11, 12]);
        let all = KeepRules { daily: 30, monthly: 5, yearly: 1, ..KeepRules::default() };
        assert_eq!(kept(&all, sundays()).len(), 12);
        let weekly = KeepRules { weekly: 3, ..KeepRules::default() };
        assert_eq!(kept(&weekly, sundays()), [10, 11, 12]);
        let yearly = KeepRules { yearly: 3, ..KeepRules::default() };
        assert_eq!(kept(&yearly, sundays()), [1, 12], "the oldest one, until there are three years");
    }

    #[test]
    fn the_newest_of_a_period_is_kept_and_every_reason_is_told() {
        let rules = KeepRules { last: 1, hourly: 2, daily: 3, monthly: 9, ..KeepRules::default() };
        let mut hours = versions([0, 1, 2, 25, 49, 49].map(|hour| SUNDAY + hour * HOUR_MS));
        hours[1].tags = vec!["stable".parse().unwrap(), "v1".parse().unwrap()];
        hours[2].is_pinned = true;
        let expected = [
            "1: oldest monthly",
            "2: tag stable, tag v1",
            "3: daily, pinned",
            "4: hourly, daily",
            "5: ",
            "6: last, hourly, daily, monthly",
        ];
        assert_eq!(reasons(&rules, hours), expected);
    }

    #[test]
    fn without_a_rule_only_what_is_tagged_or_pinned_is_kept() {
        let rules = KeepRules { tags: BTreeSet::from(["stable".parse().unwrap()]), ..KeepRules::default() };
        assert!(!rules.is_empty() && KeepRules::default().is_empty());
        let mut all = versions([1, 2, 3]);
        all[0].tags = vec!["other".parse().unwrap()];
        all[1].is_pinned = true;
        assert_eq!(kept(&rules, all), [1, 2]);
    }

    fn any_rules() -> impl Strategy<Value = KeepRules> {
        let count = || prop_oneof![3 => Just(0u32), 4 => 1u32..6, 1 => Just(u32::MAX)];
        (count(), count(), count(), count(), count(), count()).prop_map(
            |(last, hourly, daily, weekly, monthly, yearly)| KeepRules {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                tags: BTreeSet::new(),
            },
        )
    }

    /// Steps of hours to months, now and then backwards.
    fn any_versions() -> impl Strategy<Value = Vec<DatedVersion>> {
        let step = prop_oneof![0i64..3, 0i64..40, 0i64..2000, -500i64..0];
        (prop::collection::vec((step, prop::bool::weighted(0.1)), 0..60), 0i64..20_000).prop_map(|(steps, start)| {
            let mut hour = start * 24;
            let mut all = versions(steps.iter().map(|(step, _)| {
                hour += step;
                hour * HOUR_MS
            }));
            all.iter_mut().zip(&steps).for_each(|(version, (_, is_pinned))| version.is_pinned = *is_pinned);
            all
        })
    }

    /// The same in other words, for a clock that never went back: the newest of each period, the last so many of them.
    fn expected_of(period: Period, count: u32, versions: &[DatedVersion]) -> BTreeSet<u64> {
        let newest: BTreeMap<i64, u64> =
            versions.iter().map(|version| (period.of(version.committed_unix_ms), version.number)).collect();
        let mut kept: BTreeSet<u64> = newest.values().rev().take(count as usize).copied().collect();
        if newest.len() < count as usize {
            kept.extend(versions.first().map(|oldest| oldest.number));
        }
        kept
    }

    proptest! {
        #[test]
        fn each_rule_keeps_the_newest_of_its_periods(rules in any_rules(), mut all in any_versions()) {
            let mut times: Vec<i64> = all.iter().map(|version| version.committed_unix_ms).collect();
            times.sort_unstable();
            all.iter_mut().zip(times).for_each(|(version, time)| version.committed_unix_ms = time);
            let mut expected: BTreeSet<u64> = all.iter().rev().take(rules.last as usize).map(|it| it.number).collect();
            for (period, count) in [
                (Period::Hour, rules.hourly),
                (Period::Day, rules.daily),
                (Period::Week, rules.weekly),
                (Period::Month, rules.monthly),
                (Period::Year, rules.yearly),
            ] {
                expected.extend(expected_of(period, count, &all));
            }
            expected.extend(all.iter().filter(|version| version.is_pinned).map(|version| version.number));
            prop_assert_eq!(kept(&rules, all), Vec::from_iter(expected));
        }

        /// A run that was interrupted, and repeated, ends where the first one would have.
        #[test]
        fn applied_to_what_is_left_the_rules_keep_the_same(
            rules in any_rules(),
            all in any_versions(),
            removed: [bool; 60],
        ) {
            let first = kept(&rules, all.clone());
            let mut left = all;
            left.retain(|version| first.contains(&version.number) || !removed[version.number as usize - 1]);
            prop_assert_eq!(kept(&rules, left), first);
        }

        #[test]
        fn no_rule_keeps_more_than_it_says(rules in any_rules(), all in any_versions()) {
            let fates = apply(&rules, all);
            let count = |is: fn(&KeepReason) -> bool| fates.iter().flat_map(|(_, reasons)| reasons).filter(|it| is(it)).count();
            prop_assert!(count(|it| *it == KeepReason::Last) <= rules.last as usize);
            let daily = |it: &KeepReason| matches!(it, KeepReason::NewestOf(Period::Day) | KeepReason::OldestFor(Period::Day));
            prop_assert!(count(daily) <= rules.daily as usize);
        }
    }
}
