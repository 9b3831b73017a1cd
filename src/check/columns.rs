//! Settings that follow from the names and the values of a log's columns.
//!
//! Names count first: those that other logs use. Where columns have none (CSV without a header), values do: times are told by
//! what they are, ratings by being few small numbers, and of the rest the first column is the user and the next one that is
//! never empty the item, as nearly all public logs have it.

use std::collections::BTreeSet;

use chrono::DateTime;

use super::ProposedSetting;
use crate::decode::{DateOrder, SourceConfig, TimestampUnit, likely_fields, ordered_time, text_time};

/// Share of a column's values that have to be of a kind for the column to be of it.
const NEARLY_ALL: f64 = 0.95;
/// Most different values that a column of ratings has.
const MOST_RATINGS: usize = 21;
/// Every way to write a date.
const DATE_ORDERS: [DateOrder; 3] = [DateOrder::Iso, DateOrder::DayFirst, DateOrder::MonthFirst];
/// Most different values that a column of types of events has, the longest of them, and how many rows there are to each at least.
const MOST_KINDS: usize = 12;
const LONGEST_KIND: usize = 24;
const ROWS_PER_KIND: usize = 10;
/// Years in which events of a log are likely.
const LIKELY_FROM: i64 = 1990;

/// A column, as far as it was looked at.
#[derive(Debug, Clone, Copy)]
pub struct LogColumn<'a> {
    /// Its name, or its number.
    pub name: &'a str,
    /// What the file declares it to hold, in words; empty where all is text.
    pub declared: &'a str,
    /// What it holds in the rows where it holds something.
    pub values: &'a [String],
}

/// What follows from the columns of a log.
#[derive(Debug, Clone, Default)]
pub struct ColumnFindings {
    /// Settings.
    pub settings: Vec<ProposedSetting>,
    /// Why the log cannot be read, whatever of this is set.
    pub problems: Vec<String>,
    /// The keys that have to name a column, since none is known to be it.
    pub missing: Vec<&'static str>,
    /// The warning that a column which nothing names may hold types of events.
    pub unused_kinds: Option<String>,
}

/// What has to be set for a log with these columns of so many `rows`, over what `source` says; `has_names` unless its columns
/// are called by their numbers. No event is later than `now` (milliseconds since 1970).
pub fn propose(
    columns: &[LogColumn<'_>],
    has_names: bool,
    rows: usize,
    source: &SourceConfig,
    now: i64,
) -> ColumnFindings {
    let mut findings = ColumnFindings::default();
    let fields = &source.fields;
    let is_there = |name: &str| columns.iter().any(|column| column.name == name);
    let required = [&fields.user_id, &fields.item_id, &fields.timestamp];
    if has_names {
        findings.unused_kinds = unused_kinds(columns, rows, source);
    }
    if required.iter().all(|name| is_there(name)) {
        propose_time(columns.iter().find(|column| column.name == fields.timestamp), source, now, &mut findings);
        return findings;
    }
    if !has_names {
        propose_names(columns, rows, source, now, &mut findings);
        return findings;
    }
    let names: Vec<String> = columns.iter().map(|column| column.name.to_owned()).collect();
    let likely = likely_fields(&names, fields);
    let column_of = |name: &str, key: &str| -> Option<String> {
        let found = likely.iter().find(|(likely, _)| *likely == key).map(|(_, column)| column.clone());
        if is_there(name) { Some(name.to_owned()) } else { found }
    };
    for (key, column) in &likely {
        let role = key.trim_start_matches("source.fields.");
        findings.settings.push(ProposedSetting::text(key, column, format!("the column that is likely {role}")));
    }
    for (name, key, what) in
        [(&fields.user_id, "source.fields.user_id", "users"), (&fields.item_id, "source.fields.item_id", "items")]
    {
        if column_of(name, key).is_none() {
            findings.problems.push(format!(
                "no column is known to hold {what}: {key} names the one that does ({})",
                names.join(", ")
            ));
            findings.missing.push(key);
        }
    }
    let key = "source.fields.timestamp";
    let time = column_of(&fields.timestamp, key).or_else(|| {
        let found = columns.iter().find(|column| is_time(column, now))?;
        findings.settings.push(ProposedSetting::text(key, found.name, "the column whose values are times"));
        Some(found.name.to_owned())
    });
    match time {
        Some(name) => propose_time(columns.iter().find(|column| column.name == name), source, now, &mut findings),
        None => {
            findings.missing.push(key);
            findings.problems.push(format!(
                "no column is known to hold times: {key} names the one that does ({}); a log without any needs one, such as the \
                 number of each row with source.earliest_year = 1970",
                names.join(", ")
            ));
        }
    }
    findings
}

/// The warning that a column of few different texts, which nothing names, may hold types of events: all of them count as positives
/// otherwise.
fn unused_kinds(columns: &[LogColumn<'_>], rows: usize, source: &SourceConfig) -> Option<String> {
    let fields = &source.fields;
    let names: Vec<String> = columns.iter().map(|column| column.name.to_owned()).collect();
    let likely = likely_fields(&names, fields);
    let is_known = columns.iter().any(|column| column.name == fields.event_type)
        || likely.iter().any(|(key, _)| *key == "source.fields.event_type");
    if is_known || !source.event_type.is_empty() {
        return None;
    }
    let is_taken = |column: &LogColumn<'_>| {
        let of_event = [&fields.user_id, &fields.item_id, &fields.timestamp, &fields.session_id, &fields.value];
        of_event.iter().any(|name| *name == column.name) || likely.iter().any(|(_, name)| name == column.name)
    };
    columns.iter().filter(|column| !is_taken(column)).find_map(|column| {
        let different: BTreeSet<&str> = column.values.iter().map(|value| value.trim()).collect();
        let is_word = |text: &&str| text.starts_with(char::is_alphabetic) && text.chars().count() <= LONGEST_KIND;
        let is_kinds = (2..=MOST_KINDS).contains(&different.len())
            && different.iter().all(is_word)
            && column.values.len() == rows
            && rows >= ROWS_PER_KIND * different.len();
        is_kinds.then(|| {
            format!(
                "'{}' has few values ({}): if these are types of events, --set source.fields.event_type={}, and positives.kinds says \
                 which of them count; all do otherwise",
                column.name,
                different.into_iter().collect::<Vec<_>>().join(", "),
                column.name
            )
        })
    })
}

/// Names for columns that have none.
fn propose_names(
    columns: &[LogColumn<'_>],
    rows: usize,
    source: &SourceConfig,
    now: i64,
    findings: &mut ColumnFindings,
) {
    let mut names: Vec<String> = columns.iter().map(|column| column.name.to_owned()).collect();
    let time = columns.iter().position(|column| is_time(column, now));
    let is_free = |place: &usize| Some(*place) != time;
    let is_rating = |place: &usize| is_free(place) && *place > 0 && holds_ratings(&columns[*place]);
    let rating = (0..columns.len()).find(is_rating).filter(|_| columns.len() > 3);
    let others: Vec<usize> = (0..columns.len()).filter(|place| is_free(place) && Some(*place) != rating).collect();
    let is_product = |place: &&usize| holds_product_numbers(&columns[**place]);
    let is_full = |place: &&usize| columns[**place].values.len() == rows;
    let (user, item) = match others.as_slice() {
        // Amazon's logs have the item first in some years.
        [first, second, ..] if is_product(&first) && !is_product(&second) => (Some(*second), Some(*first)),
        [first, rest @ ..] => (Some(*first), rest.iter().find(is_full).or(rest.first()).copied()),
        [] => (None, None),
    };
    let (Some(time), Some(user), Some(item)) = (time, user, item) else {
        findings.problems.push(format!(
            "the columns have no names, and their values do not tell which is which: source.csv.columns names them ({} of \
             them; with '{}', '{}' and '{}' among the names)",
            columns.len(),
            source.fields.user_id,
            source.fields.item_id,
            source.fields.timestamp
        ));
        return;
    };
    source.fields.timestamp.clone_into(&mut names[time]);
    source.fields.user_id.clone_into(&mut names[user]);
    source.fields.item_id.clone_into(&mut names[item]);
    if let Some(rating) = rating {
        source.fields.value.clone_into(&mut names[rating]);
    }
    let why = "the first row does not name the columns; their values look like these";
    findings.settings.push(ProposedSetting::list("source.csv.columns", &names, why));
    propose_time(columns.get(time), source, now, findings);
}

/// The unit and the zone of a column of times.
fn propose_time(column: Option<&LogColumn<'_>>, source: &SourceConfig, now: i64, findings: &mut ColumnFindings) {
    let Some(column) = column else { return };
    let needs_zone = |findings: &mut ColumnFindings, why: &str| {
        if source.timezone.is_empty() {
            findings.settings.push(ProposedSetting::text("source.timezone", "UTC", why));
        }
    };
    if column.declared == "dates" {
        needs_zone(findings, "the log has dates, which say nothing of a zone");
        return;
    }
    if column.values.is_empty() || column.declared == "timestamps" {
        return;
    }
    let numbers: Vec<f64> = column.values.iter().filter_map(|value| value.trim().parse().ok()).collect();
    if share(numbers.len(), column.values.len()) >= NEARLY_ALL {
        match unit_of(&numbers, now) {
            Some(unit) if unit == source.timestamp_unit || source.timestamp_unit == TimestampUnit::Auto => {}
            Some(unit) => {
                let why = format!("by it, times such as {} are of likely years", column.values[0]);
                findings.settings.push(ProposedSetting::text("source.timestamp_unit", unit.name(), why));
            }
            None => findings.problems.push(format!(
                "numbers such as {} in '{}' are no times of likely years in any unit: source.timestamp_unit, or \
                 source.earliest_year = 1970 where they only count",
                column.values[0], column.name
            )),
        }
        return;
    }
    let time = |value: &String, order| text_time(value).or_else(|| ordered_time(value, order));
    let are_times = |order: &DateOrder| {
        let understood = column.values.iter().filter(|value| time(value, *order).is_some()).count();
        share(understood, column.values.len()) >= NEARLY_ALL
    };
    let orders: Vec<DateOrder> = match source.date_order {
        DateOrder::Iso => DATE_ORDERS.into_iter().filter(are_times).collect(),
        set => [set].into_iter().filter(are_times).collect(),
    };
    let example = column.values.iter().find(|value| text_time(value).is_none()).unwrap_or(&column.values[0]);
    let order = match orders[..] {
        [] => {
            return findings.problems.push(format!(
                "times such as {example:?} in '{}' are not understood: ISO 8601 (2026-01-31 12:00:00) is, and numbers are; days and \
                 months may come first (source.date_order)",
                column.name
            ));
        }
        // What ISO 8601 says is understood by any order.
        [order, ..] if order == DateOrder::Iso || orders.len() == 1 => order,
        // With dots between them days come first wherever such dates are written.
        _ if example.contains('.') => DateOrder::DayFirst,
        _ => {
            return findings.problems.push(format!(
                "dates such as {example:?} in '{}' may have the day or the month first: source.date_order says which, day_first or \
                 month_first",
                column.name
            ));
        }
    };
    if order != source.date_order {
        let why = format!("the order of day and month in dates such as {example:?}");
        findings.settings.push(ProposedSetting::text("source.date_order", order.name(), why));
    }
    if column.values.iter().filter_map(|value| time(value, order)).any(|time| !time.has_zone) {
        needs_zone(findings, "the times name no zone; if they are not of UTC, say which");
    }
}

/// Whether a text is a time, in whichever order its date is written.
pub(crate) fn is_time_text(text: &str) -> bool {
    text_time(text).is_some() || DATE_ORDERS.into_iter().any(|order| ordered_time(text, order).is_some())
}

/// Whether a column holds times: declared, in text, or as numbers that are times of likely years in some unit.
fn is_time(column: &LogColumn<'_>, now: i64) -> bool {
    if ["timestamps", "dates"].contains(&column.declared) {
        return true;
    }
    let numbers: Vec<f64> = column.values.iter().filter_map(|value| value.trim().parse().ok()).collect();
    let is_text = |value: &&String| is_time_text(value);
    let all = column.values.len();
    all > 0
        && (share(column.values.iter().filter(is_text).count(), all) >= NEARLY_ALL
            || (share(numbers.len(), all) >= NEARLY_ALL && unit_of(&numbers, now).is_some()))
}

/// The unit by which nearly all numbers are times of likely years.
fn unit_of(numbers: &[f64], now: i64) -> Option<TimestampUnit> {
    let begin = DateTime::from_timestamp((LIKELY_FROM - 1970) * 31_556_952, 0)?.timestamp_millis() as f64;
    // Clocks go wrong, but seldom by more than a day.
    let end = now as f64 + 86_400_000.0;
    let units = [
        (TimestampUnit::Milliseconds, 1.0),
        (TimestampUnit::Seconds, 1e3),
        (TimestampUnit::Microseconds, 1e-3),
        (TimestampUnit::Nanoseconds, 1e-6),
    ];
    let fits = |factor: f64| {
        let likely = numbers.iter().filter(|number| (begin..=end).contains(&(**number * factor))).count();
        share(likely, numbers.len()) >= NEARLY_ALL
    };
    units.into_iter().find(|(_, factor)| fits(*factor)).map(|(unit, _)| unit)
}

fn holds_ratings(column: &LogColumn<'_>) -> bool {
    let numbers: Vec<f64> = column.values.iter().filter_map(|value| value.trim().parse().ok()).collect();
    let different: BTreeSet<&str> = column.values.iter().map(String::as_str).collect();
    numbers.len() == column.values.len()
        && (2..=MOST_RATINGS).contains(&different.len())
        && numbers.iter().all(|number| (0.0..=10.0).contains(number))
}

/// Whether a column holds numbers of products as Amazon gives them: ten digits and capital letters.
fn holds_product_numbers(column: &LogColumn<'_>) -> bool {
    let is_one = |value: &&String| {
        value.len() == 10 && value.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    };
    share(column.values.iter().filter(is_one).count(), column.values.len()) >= NEARLY_ALL
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01.
    const NOW: i64 = 1_767_225_600_000;

    fn proposed(columns: &[(&str, &str, &[&str])], has_names: bool) -> (Vec<String>, Vec<String>) {
        let values: Vec<Vec<String>> =
            columns.iter().map(|(.., values)| values.iter().map(|value| (*value).to_owned()).collect()).collect();
        let columns: Vec<LogColumn<'_>> = columns
            .iter()
            .zip(&values)
            .map(|((name, declared, _), values)| LogColumn { name, declared, values })
            .collect();
        let rows = values.iter().map(Vec::len).max().unwrap_or(0);
        let found = propose(&columns, has_names, rows, &SourceConfig::default(), NOW);
        let settings = found.settings.iter().map(|setting| format!("{}={}", setting.key, setting.value)).collect();
        (settings, found.problems)
    }

    #[test]
    fn the_order_of_day_and_month_follows_from_the_dates_where_it_can() {
        let of = |times: &[&str]| {
            proposed(&[("user_id", "", &["1", "2"]), ("item_id", "", &["1", "2"]), ("Datum", "", times)], true)
        };
        let order = |times: &[&str]| {
            let (settings, problems) = of(times);
            assert!(
                problems.is_empty() && settings.contains(&"source.fields.timestamp=\"Datum\"".to_owned()),
                "{problems:?}"
            );
            settings.into_iter().find(|setting| setting.starts_with("source.date_order"))
        };
        assert_eq!(order(&["13/1/2026 7:45", "1/2/2026 7:45"]).as_deref(), Some("source.date_order=\"day_first\""));
        assert_eq!(order(&["1/13/2026", "2/1/2026"]).as_deref(), Some("source.date_order=\"month_first\""));
        assert_eq!(order(&["01.02.2026", "02.03.2026"]).as_deref(), Some("source.date_order=\"day_first\""));
        assert_eq!(order(&["2026-01-13", "2026-01-14"]), None);
        let (_, problems) = of(&["1/2/2026", "2/3/2026"]);
        assert!(problems.len() == 1 && problems[0].contains("day_first or month_first"), "{problems:?}");
    }

    #[test]
    fn a_column_of_few_words_may_hold_types_of_events() {
        let texts = |words: &[&str]| (0..60).map(|row| words[row % words.len()].to_owned()).collect::<Vec<String>>();
        let found = |name: &str, words: &[&str], source: &SourceConfig| {
            let (users, times, values) = (texts(&["u1", "u2"]), texts(&["2026-01-01"]), texts(words));
            let column = |name, values| LogColumn { name, declared: "", values };
            let columns = [
                column("user_id", &users),
                column("item_id", &users),
                column("timestamp", &times),
                column(name, &values),
            ];
            propose(&columns, true, 60, source, NOW).unused_kinds
        };
        let default = SourceConfig::default();
        let said = found("Aktion", &["purchase", "return"], &default).expect("two words");
        assert!(
            said.contains("'Aktion' has few values (purchase, return)") && said.contains("event_type=Aktion"),
            "{said}"
        );
        assert_eq!(found("Aktion", &["purchase"], &default), None);
        assert_eq!(found("Menge", &["12,0", "3,0"], &default), None);
        // It is known by its name, or every event is said to be of one type.
        assert_eq!(found("action", &["purchase", "return"], &default), None);
        let one_type = SourceConfig { event_type: "click".to_owned(), ..SourceConfig::default() };
        assert_eq!(found("Aktion", &["purchase", "return"], &one_type), None);
    }

    #[test]
    fn names_of_other_logs_are_known() {
        let (settings, problems) = proposed(
            &[
                ("userId", "", &["1", "1"]),
                ("movieId", "", &["5", "6"]),
                ("timestamp", "", &["964982703", "964981247"]),
            ],
            true,
        );
        let expected =
            ["source.fields.user_id=\"userId\"", "source.fields.item_id=\"movieId\"", "source.timestamp_unit=\"s\""];
        assert_eq!((settings.as_slice(), problems.len()), (&expected.map(str::to_owned)[..], 0));
        let (settings, problems) =
            proposed(&[("who", "", &["1"]), ("itemid", "", &["2"]), ("at_moment", "", &["2026-01-01"])], true);
        assert!(settings.contains(&"source.fields.timestamp=\"at_moment\"".to_owned()), "{settings:?}");
        assert!(settings.contains(&"source.timezone=\"UTC\"".to_owned()), "{settings:?}");
        assert!(problems.len() == 1 && problems[0].contains("source.fields.user_id"), "{problems:?}");
    }

    #[test]
    fn columns_without_names_are_told_by_their_values() {
        let (settings, _) = proposed(
            &[
                ("1", "", &["196", "186"]),
                ("2", "", &["242", "302"]),
                ("3", "", &["3", "4"]),
                ("4", "", &["881250949", "891717742"]),
            ],
            false,
        );
        assert_eq!(settings[0], r#"source.csv.columns=["user_id", "item_id", "value", "timestamp"]"#);
        assert_eq!(settings[1], "source.timestamp_unit=\"s\"");
        let (settings, _) = proposed(
            &[
                ("1", "", &["user_000001", "user_000001"]),
                ("2", "", &["2009-05-04T23:08:57Z", "2009-05-04T13:54:10Z"]),
                ("3", "", &["f1b1cf71-bd35-4e99-8624-24a6e15f133a"]),
                ("4", "", &["Deep Dish", "Bloc Party"]),
            ],
            false,
        );
        assert_eq!(settings, [r#"source.csv.columns=["user_id", "timestamp", "3", "item_id"]"#]);
        let (settings, _) = proposed(
            &[
                ("1", "", &["B000ABCDEF", "0001713353"]),
                ("2", "", &["A2SUAM1J3GNN3B", "A1D4G1SNUZWQOT"]),
                ("3", "", &["5.0", "4.0"]),
                ("4", "", &["1405209600", "1458432000"]),
            ],
            false,
        );
        assert_eq!(settings[0], r#"source.csv.columns=["item_id", "user_id", "value", "timestamp"]"#);
    }

    #[test]
    fn times_that_are_none_are_problems() {
        let said = |time: &str| {
            proposed(&[("user_id", "", &["1"]), ("item_id", "", &["2"]), ("timestamp", "", &[time])], true).1
        };
        assert!(said("12/1/2010 8:26")[0].contains("day_first or month_first"));
        assert!(said("12 o'clock on Monday")[0].contains("not understood"));
        assert!(said("17")[0].contains("source.timestamp_unit"));
        assert!(said("1767225599").is_empty());
    }
}
