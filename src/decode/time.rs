//! Times: what a number, a text or a date in the place of a timestamp means, the same in every format.
//!
//! | found | taken as |
//! | --- | --- |
//! | a declared timestamp (Parquet, Avro, `google.protobuf.Timestamp`) | what it declares |
//! | a number, whole or not, or its digits as text | so many of `source.timestamp_unit` since 1970 |
//! | text: RFC 3339, ISO 8601 with its shorter forms, RFC 2822 | the moment that it names |
//! | text with the day or the month first | as `source.date_order` says; refused where that is `iso` |
//! | text without a zone, a date, a time declared as local | a time of `source.timezone`; refused where that is empty |
//!
//! Whether the outcome is believable is looked at later, with the other bounds of an event.

use chrono::{DateTime, NaiveDate};

use super::Fault;
use super::fields::{FieldValue, missing, wrong_type};
use super::zone::Zone;
use crate::decode::{DateOrder, SourceConfig, TimestampUnit};
use crate::event::{EventLimits, Reason};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Milliseconds of a minute.
const MINUTE: i64 = 60_000;

/// How the timestamps of records and rows are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TimeRules {
    unit: TimestampUnit,
    /// The zone of times that name none; `None` where such times are refused.
    zone: Option<Zone>,
    /// How dates are written besides ISO 8601.
    order: DateOrder,
    limits: EventLimits,
}

/// The time that a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextTime {
    /// Milliseconds since 1970, as if the clock showed UTC where the text names no zone.
    pub(crate) milliseconds: i64,
    /// Whether the text names a zone.
    pub(crate) has_zone: bool,
}

impl TimeRules {
    /// The rules that `source` describes.
    pub(super) fn new(source: &SourceConfig, limits: EventLimits) -> Self {
        Self { unit: source.timestamp_unit, zone: Zone::find(&source.timezone), order: source.date_order, limits }
    }

    /// Whether times without a zone are taken.
    pub(super) fn takes_local_times(&self) -> bool {
        self.zone.is_some()
    }

    /// Milliseconds since 1970 of a time without a zone; of UTC where no zone is configured.
    pub(super) fn declared_local(&self, milliseconds: i64) -> i64 {
        self.zone.as_ref().map_or(milliseconds, |zone| zone.moment(milliseconds))
    }

    /// Milliseconds since 1970 of what was found in the place of a timestamp, which is called `name`.
    pub(super) fn milliseconds(&self, name: &str, found: &FieldValue<'_>) -> Result<i64, Fault> {
        match found {
            FieldValue::Absent | FieldValue::Null => Err(missing(name, found)),
            FieldValue::Natural(number) => self.whole(name, i128::from(*number)),
            FieldValue::Negative(number) => self.whole(name, i128::from(*number)),
            FieldValue::Float(number) => self.fraction(name, *number, found),
            FieldValue::Decimal(digits) => self.digits(name, digits, found),
            FieldValue::Time(milliseconds) => Ok(*milliseconds),
            FieldValue::LocalTime(milliseconds) => self.local(name, *milliseconds, found),
            FieldValue::Text(text) if is_number(text) => self.digits(name, text, found),
            FieldValue::Text(text) => match text_time(text).or_else(|| ordered_time(text, self.order)) {
                Some(TextTime { milliseconds, has_zone: true }) => Ok(milliseconds),
                Some(TextTime { milliseconds, .. }) => self.local(name, milliseconds, found),
                None => Err(wrong_type(name, "a number or RFC 3339", found)),
            },
            _ => Err(wrong_type(name, "a number or RFC 3339", found)),
        }
    }

    /// Milliseconds since 1970 of a time without a zone, which clocks that showed UTC would show at `milliseconds`.
    fn local(&self, name: &str, milliseconds: i64, found: &FieldValue<'_>) -> Result<i64, Fault> {
        self.zone.as_ref().map(|zone| zone.moment(milliseconds)).ok_or_else(|| no_zone(name, found))
    }

    fn digits(&self, name: &str, digits: &str, found: &FieldValue<'_>) -> Result<i64, Fault> {
        match (digits.parse::<i128>(), digits.parse::<f64>()) {
            (Ok(whole), _) => self.whole(name, whole),
            (_, Ok(number)) => self.fraction(name, number, found),
            _ => Err(wrong_type(name, "a number or RFC 3339", found)),
        }
    }

    fn whole(&self, name: &str, number: i128) -> Result<i64, Fault> {
        let unit = self.unit_of(|unit| in_milliseconds(number, unit));
        let milliseconds = in_milliseconds(number, unit);
        i64::try_from(milliseconds).map_err(|_| self.unbelievable(name, milliseconds))
    }

    fn fraction(&self, name: &str, number: f64, found: &FieldValue<'_>) -> Result<i64, Fault> {
        if !number.is_finite() {
            return Err(wrong_type(name, "a number or RFC 3339", found));
        }
        // The nearest millisecond: what a float holds of a fraction lies beside what was meant.
        let rounded = |unit: TimestampUnit| (number * (unit.nanoseconds() as f64 / 1e6)).round() as i128;
        let milliseconds = rounded(self.unit_of(rounded));
        i64::try_from(milliseconds).map_err(|_| self.unbelievable(name, milliseconds))
    }

    /// The configured unit; where that is chosen by the number, the first by which it lies within the believable years.
    fn unit_of(&self, milliseconds: impl Fn(TimestampUnit) -> i128) -> TimestampUnit {
        if self.unit != TimestampUnit::Auto {
            return self.unit;
        }
        let believable = |unit: &TimestampUnit| self.limits.is_believable(milliseconds(*unit));
        let units = [
            TimestampUnit::Milliseconds,
            TimestampUnit::Seconds,
            TimestampUnit::Microseconds,
            TimestampUnit::Nanoseconds,
        ];
        units.into_iter().find(believable).unwrap_or(TimestampUnit::Milliseconds)
    }

    fn unbelievable(&self, name: &str, milliseconds: i128) -> Fault {
        (Reason::TimestampOutOfRange, self.limits.unbelievable(name, milliseconds))
    }
}

fn in_milliseconds(number: i128, unit: TimestampUnit) -> i128 {
    number.saturating_mul(i128::from(unit.nanoseconds())).div_euclid(1_000_000)
}

fn no_zone(name: &str, found: &FieldValue<'_>) -> Fault {
    let detail = format!("{name}: {found} has no zone (source.timezone says which one is meant)");
    (Reason::WrongType, detail)
}

/// Whether a text is a number or a time, as no name of a column is.
pub(crate) fn is_number_or_time(text: &str) -> bool {
    let text = text.trim();
    is_number(text) || text.parse::<f64>().is_ok_and(f64::is_finite) || text_time(text).is_some()
}

/// Whether a text is a number in digits, with or without a sign and a fraction.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}

/// Milliseconds that the clocks of a zone are ahead of UTC: `UTC`, `Z`, or an offset such as `+01:00`.
pub(super) fn zone_offset(zone: &str) -> Option<i64> {
    let mut scan = Scan(zone.as_bytes());
    let offset = scan.zone()??;
    scan.0.is_empty().then_some(offset)
}

/// The time that a text names: RFC 3339, the other forms of ISO 8601 that programs write, or RFC 2822.
pub(crate) fn text_time(text: &str) -> Option<TextTime> {
    let text = text.trim();
    if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        let milliseconds = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
        return Some(TextTime { milliseconds, has_zone: true });
    }
    let mut scan = Scan(text.as_bytes());
    let time = scan.iso()?;
    scan.0.is_empty().then_some(time)
}

/// The time that a text names whose date is written in `order`: `31.01.2026`, `1/31/2026 7:45 PM`, `31-01-2026 07:45:10 +01:00`.
/// `None` where that is ISO 8601.
pub(crate) fn ordered_time(text: &str, order: DateOrder) -> Option<TextTime> {
    let mut scan = Scan(text.trim().as_bytes());
    let (first, second) = (scan.short_number()?, scan.separated(Scan::short_number)?);
    let year = scan.separated(|scan| scan.number(4))?;
    let (day, month) = match order {
        DateOrder::Iso => return None,
        DateOrder::DayFirst => (first, second),
        DateOrder::MonthFirst => (second, first),
    };
    let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
    let mut milliseconds = i64::from(date.to_epoch_days()) * DAY;
    if scan.0.is_empty() {
        return Some(TextTime { milliseconds, has_zone: false });
    }
    scan.take(b",");
    if !scan.take(b"Tt ") {
        return None;
    }
    milliseconds += scan.clock()?;
    let zone = scan.zone()?;
    scan.0.is_empty().then_some(TextTime { milliseconds: milliseconds - zone.unwrap_or(0), has_zone: zone.is_some() })
}

/// A text that is being read from its beginning.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// Passes over one of these characters, if it is the next one.
    fn take(&mut self, any: &[u8]) -> bool {
        match self.0 {
            [first, rest @ ..] if any.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// The number in the next `count` digits.
    fn number(&mut self, count: usize) -> Option<i64> {
        let digits = self.0.get(..count).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        self.0 = &self.0[count..];
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// `2026-01-01`, or `20260101` before a time of day; then, if anything follows, the time of day and the zone.
    fn iso(&mut self) -> Option<TextTime> {
        let year = self.number(4)?;
        let is_extended = self.take(b"-");
        let month = self.number(2)?;
        if is_extended && !self.take(b"-") {
            return None;
        }
        let day = self.number(2)?;
        let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
        let midnight = i64::from(date.to_epoch_days()) * DAY;
        if self.0.is_empty() {
            return is_extended.then_some(TextTime { milliseconds: midnight, has_zone: false });
        }
        if !self.take(b"Tt ") {
            return None;
        }
        let milliseconds = midnight + self.time_of_day()?;
        while self.take(b" ") {}
        let zone = self.zone()?;
        // Java repeats the zone by its name.
        if self.take(b"[") {
            let end = self.0.iter().position(|byte| *byte == b']')?;
            self.0 = &self.0[end + 1..];
            zone?;
        }
        Some(TextTime { milliseconds: milliseconds - zone.unwrap_or(0), has_zone: zone.is_some() })
    }

    /// A number of one or two digits.
    fn short_number(&mut self) -> Option<i64> {
        if self.0.get(1).is_some_and(u8::is_ascii_digit) { self.number(2) } else { self.number(1) }
    }

    /// What `part` reads after one of the characters that separate the parts of a date.
    fn separated(&mut self, part: impl FnOnce(&mut Self) -> Option<i64>) -> Option<i64> {
        if self.take(b"./-") { part(self) } else { None }
    }

    /// The time of day as people write it: `7:45`, `07:45:10`, `7:45 PM`.
    fn clock(&mut self) -> Option<i64> {
        // An hour of one digit reads as one of two.
        let padded = if self.0.get(1) == Some(&b':') { [b"0", self.0].concat() } else { self.0.to_vec() };
        let mut scan = Scan(&padded);
        let of_day = scan.time_of_day()?;
        self.0 = &self.0[self.0.len() - scan.0.len()..];
        while self.take(b" ") {}
        let hour = of_day / (60 * MINUTE);
        for (half, hours) in [(b"am", if hour == 12 { -12 } else { 0 }), (b"pm", if hour == 12 { 0 } else { 12 })] {
            if self.0.get(..2).is_some_and(|there| there.eq_ignore_ascii_case(half)) {
                self.0 = &self.0[2..];
                return (1..=12).contains(&hour).then_some(of_day + hours * 60 * MINUTE);
            }
        }
        Some(of_day)
    }

    /// `12:30`, `12:30:59`, `12:30:59.123456789`, `1230`, `123059`, `12:30:59,5`.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        let is_extended = self.take(b":");
        let minute = self.number(2)?;
        let has_second = if is_extended { self.take(b":") } else { self.0.first().is_some_and(u8::is_ascii_digit) };
        let second = if has_second { self.number(2)? } else { 0 };
        let mut fraction = 0;
        if has_second && self.take(b".,") {
            self.0.first().filter(|byte| byte.is_ascii_digit())?;
            let mut worth = 100;
            while let Some(digit) = self.number(1) {
                fraction += digit * worth;
                worth /= 10;
            }
        }
        let is_midnight = hour == 24 && minute == 0 && second == 0 && fraction == 0;
        let is_leap = minute == 59 && second == 60;
        if (hour > 23 && !is_midnight) || minute > 59 || (second > 59 && !is_leap) {
            return None;
        }
        Some((hour * 60 + minute) * MINUTE + second * 1_000 + fraction)
    }

    /// The zone that comes next, as milliseconds ahead of UTC: `Some(None)` at the end of the text, `None` where it is none.
    fn zone(&mut self) -> Option<Option<i64>> {
        if self.0.is_empty() || self.0[0] == b'[' {
            return Some(None);
        }
        for name in ["utc", "gmt", "ut", "z"] {
            if self.0.get(..name.len()).is_some_and(|there| there.eq_ignore_ascii_case(name.as_bytes())) {
                self.0 = &self.0[name.len()..];
                return Some(Some(0));
            }
        }
        let is_behind = match self.0[0] {
            b'+' => false,
            b'-' => true,
            _ => return None,
        };
        self.0 = &self.0[1..];
        let hours = self.number(2)?;
        let minutes =
            if self.take(b":") || self.0.first().is_some_and(u8::is_ascii_digit) { self.number(2)? } else { 0 };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = (hours * 60 + minutes) * MINUTE;
        Some(Some(if is_behind { -offset } else { offset }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::decode::limits;

    fn rules(unit: TimestampUnit, timezone: &str) -> TimeRules {
        let mut source = Config::default().source;
        source.timestamp_unit = unit;
        timezone.clone_into(&mut source.timezone);
        TimeRules::new(&source, limits(&source))
    }

    fn text(of: &str) -> FieldValue<'_> {
        FieldValue::Text(of.into())
    }

    const NEW_YEAR: i64 = 1_767_225_600_000;

    #[test]
    fn texts_in_every_form_that_programs_write() {
        for (text, later, has_zone) in [
            ("2026-01-01T00:00:00Z", 0, true),
            ("2026-01-01t00:00:00z", 0, true),
            ("2026-01-01T00:00Z", 0, true),
            ("2026-01-01T00:00:00+00:00", 0, true),
            ("2026-01-01T00:00:00-00:00", 0, true),
            ("2026-01-01T00:00:00.000+0000", 0, true),
            ("2026-01-01T02:30:00+02:30", 0, true),
            ("2025-12-31T23:00:00-01", 0, true),
            ("2026-01-01 00:00:00 UTC", 0, true),
            ("2026-01-01 00:00:00.5 GMT", 500, true),
            ("2026-01-01 00:00:00+00:00", 0, true),
            ("2026-01-01T00:00:00.123456789Z", 123, true),
            ("2026-01-01T00:00:00,123Z", 123, true),
            ("2026-01-01T01:00:00+01:00[Europe/Berlin]", 0, true),
            ("2026-01-01T00:00:00Z[UTC]", 0, true),
            ("2025-12-31T24:00:00Z", 0, true),
            ("2025-12-31T23:59:60Z", 0, true),
            ("20260101T000000Z", 0, true),
            ("20260101T0000Z", 0, true),
            ("Thu, 01 Jan 2026 00:00:00 GMT", 0, true),
            ("Thu, 1 Jan 2026 01:00:00 +0100", 0, true),
            ("2026-01-01T00:00:00", 0, false),
            ("2026-01-01 00:00:00.123456", 123, false),
            ("2026-01-01", 0, false),
        ] {
            let expected = Some(TextTime { milliseconds: NEW_YEAR + later, has_zone });
            assert_eq!(text_time(text), expected, "{text}");
        }
        assert_eq!(text_time("1969-12-31T23:59:59.5Z").map(|time| time.milliseconds), Some(-500));
    }

    #[test]
    fn texts_that_name_no_time() {
        for text in [
            "",
            " ",
            "yesterday",
            "2026",
            "2026-01",
            "2026-02-30",
            "2026-13-01T00:00:00Z",
            "2026-01-01T",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T24:00:01Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01T00:00:00 CET",
            "2026-01-01T00:00:00+99:00",
            "2026-01-01T00:00:00Z[UTC",
            "2026-01-01T00:00:00[Europe/Berlin]",
            "01/02/2026",
            "20260101",
            "2026-0101",
            "2026-01-01T00:00:00Z x",
            "2026-01-01T0\u{e9}",
        ] {
            assert_eq!(text_time(text), None, "{text}");
        }
    }

    #[test]
    fn dates_with_the_day_or_the_month_first_are_read_as_configured() {
        use DateOrder::{DayFirst, Iso, MonthFirst};
        let at = |text: &str, order| ordered_time(text, order).map(|time| (time.milliseconds - NEW_YEAR) / MINUTE);
        for (text, order, minutes) in [
            ("01.01.2026", DayFirst, 0),
            ("2.1.2026", DayFirst, 24 * 60),
            ("2/1/2026", MonthFirst, 31 * 24 * 60),
            ("1/2/2026 7:45", MonthFirst, 24 * 60 + 7 * 60 + 45),
            ("02-01-2026 07:45:30", DayFirst, 24 * 60 + 7 * 60 + 45),
            ("01.01.2026, 23:59", DayFirst, 24 * 60 - 1),
            ("1/1/2026 12:05 AM", MonthFirst, 5),
            ("1/1/2026 12:05 PM", MonthFirst, 12 * 60 + 5),
            ("1/1/2026 1:05pm", MonthFirst, 13 * 60 + 5),
            ("1/1/2026 1:05:00 +01:00", DayFirst, 5),
        ] {
            assert_eq!(at(text, order), Some(minutes), "{text}");
        }
        for (text, order) in [
            ("01.01.2026", Iso),
            ("31/1/2026", MonthFirst),
            ("1/31/2026", DayFirst),
            ("1/1/26", MonthFirst),
            ("1/1/2026 13:00 PM", MonthFirst),
            ("1/1/2026 0:30 AM", MonthFirst),
            ("1/1/2026x", DayFirst),
            ("1/1/2026 ", Iso),
            ("1/1/2026 7", DayFirst),
            ("1/1/2026 7:4", DayFirst),
            ("1 1 2026", DayFirst),
            ("", DayFirst),
            ("1", DayFirst),
        ] {
            assert_eq!(ordered_time(text, order), None, "{text}");
        }
        let mut source = Config::default().source;
        (source.date_order, source.timezone) = (DayFirst, "UTC".to_owned());
        let rules = TimeRules::new(&source, limits(&source));
        assert_eq!(rules.milliseconds("t", &text("01.01.2026 00:00")), Ok(NEW_YEAR));
        assert_eq!(rules.milliseconds("t", &text("2026-01-01T00:00:00Z")), Ok(NEW_YEAR));
    }

    #[test]
    fn rfc3339_is_read_as_another_reader_does() {
        for minutes in (-1_000_000..30_000_000_i64).step_by(77_777) {
            for offset in [0, 90, -720] {
                let zone = chrono::FixedOffset::east_opt(offset * 60).unwrap();
                let time = DateTime::from_timestamp_millis(minutes * MINUTE + 7).unwrap().with_timezone(&zone);
                let found = text_time(&time.to_rfc3339()).map(|time| time.milliseconds);
                assert_eq!(found, Some(time.timestamp_millis()), "{time}");
            }
        }
    }

    #[test]
    fn offsets_of_zones_are_those_of_utc_or_in_digits() {
        for (zone, minutes) in [("UTC", 0), ("Z", 0), ("+01:00", 60), ("-0530", -330), ("+02", 120)] {
            assert_eq!(zone_offset(zone), Some(minutes * MINUTE), "{zone}");
        }
        for zone in ["", "Europe/Berlin", "+1", "CET", "+01:00x", "[UTC]"] {
            assert_eq!(zone_offset(zone), None, "{zone}");
        }
    }

    #[test]
    fn numbers_are_of_the_configured_unit() {
        use TimestampUnit::{Auto, Days, Microseconds, Milliseconds, Nanoseconds, Seconds};
        let natural = |number: i64| FieldValue::Natural(number as u64);
        let milliseconds = |unit, found: FieldValue<'_>| rules(unit, "").milliseconds("t", &found).unwrap();
        assert_eq!(milliseconds(Milliseconds, natural(NEW_YEAR)), NEW_YEAR);
        assert_eq!(milliseconds(Milliseconds, FieldValue::Float(NEW_YEAR as f64)), NEW_YEAR);
        assert_eq!(milliseconds(Milliseconds, text("1767225600000")), NEW_YEAR);
        assert_eq!(milliseconds(Seconds, natural(NEW_YEAR / 1_000)), NEW_YEAR);
        assert_eq!(milliseconds(Seconds, FieldValue::Float(1_767_225_600.123)), NEW_YEAR + 123);
        assert_eq!(milliseconds(Seconds, FieldValue::Decimal("1767225600.123456".to_owned())), NEW_YEAR + 123);
        assert_eq!(milliseconds(Seconds, text("1767225600.5")), NEW_YEAR + 500);
        assert_eq!(milliseconds(Microseconds, natural(NEW_YEAR * 1_000 + 999)), NEW_YEAR);
        assert_eq!(milliseconds(Microseconds, FieldValue::Negative(-1)), -1);
        assert_eq!(milliseconds(Nanoseconds, natural(NEW_YEAR * 1_000_000)), NEW_YEAR);
        assert_eq!(milliseconds(Days, natural(20_454)), NEW_YEAR);
        for number in [NEW_YEAR / 1_000, NEW_YEAR, NEW_YEAR * 1_000, NEW_YEAR * 1_000_000] {
            assert_eq!(milliseconds(Auto, natural(number)), NEW_YEAR, "{number}");
        }
        // What is declared needs no unit.
        assert_eq!(milliseconds(Seconds, FieldValue::Time(NEW_YEAR)), NEW_YEAR);
        assert_eq!(milliseconds(Seconds, text("2026-01-01T00:00:00Z")), NEW_YEAR);
        let far = rules(Milliseconds, "").milliseconds("t", &FieldValue::Natural(u64::MAX)).unwrap_err();
        assert_eq!(far.0, Reason::TimestampOutOfRange);
        assert!(rules(Milliseconds, "").milliseconds("t", &FieldValue::Float(f64::NAN)).is_err());
    }

    #[test]
    fn times_without_a_zone_need_one() {
        for found in [text("2026-01-01T00:00:00"), text("2026-01-01"), FieldValue::LocalTime(NEW_YEAR)] {
            let (reason, detail) = rules(TimestampUnit::Milliseconds, "").milliseconds("at", &found).unwrap_err();
            assert!(reason == Reason::WrongType && detail.contains("source.timezone"), "{detail}");
            for zone in ["+01:00", "Europe/Berlin"] {
                let berlin = rules(TimestampUnit::Milliseconds, zone).milliseconds("at", &found);
                assert_eq!(berlin, Ok(NEW_YEAR - 60 * MINUTE), "{zone}");
            }
            assert_eq!(rules(TimestampUnit::Milliseconds, "UTC").milliseconds("at", &found), Ok(NEW_YEAR));
        }
    }
}
