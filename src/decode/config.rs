//! The section `source`: how the records of a topic and the rows of a log are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::zone::Zone;
use crate::util::cargo_feature::CargoFeature;
use crate::util::config_section::{Refusal, config_choice, config_section, redact_text, require};
use crate::util::storage_options::{redact_options, validate_options};

config_choice! {
    /// How the records of a topic are encoded.
    pub enum Format {
        /// One JSON object.
        Json = "json",
        /// One Avro datum in the binary encoding.
        Avro = "avro",
        /// One Protobuf message.
        Protobuf = "protobuf",
    }
}

config_choice! {
    /// The unit of timestamps that are plain numbers.
    pub enum TimestampUnit {
        /// Each number in the unit by which it lies within the believable years.
        Auto = "auto",
        /// Days since 1970.
        Days = "days",
        /// Seconds since 1970.
        Seconds = "s",
        /// Milliseconds since 1970.
        Milliseconds = "ms",
        /// Microseconds since 1970.
        Microseconds = "us",
        /// Nanoseconds since 1970.
        Nanoseconds = "ns",
    }
}

impl TimestampUnit {
    /// Length of the unit, in nanoseconds; that of a millisecond where the unit is chosen by the number.
    pub(super) fn nanoseconds(self) -> i64 {
        match self {
            Self::Days => 86_400_000_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Auto | Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

config_section! {
    /// How the records of a topic and the rows of a log are read.
    pub struct SourceConfig {
        /// How the records of a topic are encoded: `json`, `avro` or `protobuf`; see docs/formats.md.
        format: Format = Format::Json => [check(|format, _| validate_format(*format))];
        /// File with the schema of Avro (.avsc) or Protobuf (.proto) records; empty: negstream's own, in schemas/. Records
        /// in a registry's wire format are read by the schemas that they name; then this file is what `produce` registers
        /// and writes by.
        schema: PathBuf = PathBuf::new();
        /// Name of the Protobuf message in that schema; empty: the first one.
        message: String = String::new();
        /// The type of every event, whatever its record says, and also where that says nothing; empty: as the record says.
        event_type: String = String::new();
        /// Longest identifier in bytes; events with a longer one are rejected.
        max_id_bytes: usize = 1024 => [within(1..=65_536)];
        /// The unit of timestamps that are plain numbers: `s`, `ms`, `us`, `ns` or `days` since 1970; `auto`: each number in
        /// the first of ms, s, us and ns by which it lies between the two years below.
        timestamp_unit: TimestampUnit = TimestampUnit::Milliseconds;
        /// The zone of times that name none: `UTC`, an offset such as `+01:00`, or a name such as `Europe/Berlin`. An hour
        /// that its clocks show twice is the first of the two; one that they leave out is read as if they had not been
        /// changed yet. Empty: texts and dates without a zone are refused, and a Parquet column of times without a zone
        /// holds UTC.
        timezone: String = String::new() => [check(|zone, _| validate_timezone(zone))];
        /// How dates are written in texts, besides ISO 8601 (2026-01-31), which is always understood: `day_first` (31.01.2026,
        /// 31/1/2026 7:45), `month_first` (1/31/2026 7:45 PM), or `iso`: no other.
        date_order: DateOrder = DateOrder::Iso;
        /// Events dated before this year are rejected. 1970 takes every number from 0 on, times or not.
        earliest_year: u16 = 1971 => [at_least(1970)];
        /// Events dated after this year are rejected.
        latest_year: u16 = 2100 => [check(|year, section| validate_latest_year(*year, section))];
        /// Longest wait for an object store or a web server with logs to begin an answer, in milliseconds; then the request is
        /// repeated.
        request_timeout_ms: u64 = 30_000 => [within(100..=3_600_000)];
        /// Options of the object stores that logs are read from (region, endpoint, …), over those of the environment
        /// (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
        storage_options: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_options), check(|options, _| validate_options(options))];
        /// How logs in CSV are read, where their first rows do not tell it.
        csv: CsvConfig = CsvConfig::default();
        /// Where the schemas of records are looked up: a schema registry (Confluent's API).
        registry: RegistryConfig = RegistryConfig::default();
        /// What the columns (of logs) or fields (of records) are called in your data.
        fields: FieldNames = FieldNames::default() => [check(|fields, _| fields.validate_distinct())];
    }
}

config_choice! {
    /// How dates are written in texts.
    pub enum DateOrder {
        /// Year, month, day.
        Iso = "iso",
        /// Day, month, year.
        DayFirst = "day_first",
        /// Month, day, year.
        MonthFirst = "month_first",
    }
}

config_choice! {
    /// Whether the first row of a CSV log names its columns.
    pub enum CsvHeader {
        /// It does unless one of its cells is a number or a time.
        Auto = "auto",
        /// It does.
        Yes = "yes",
        /// It is an event as well.
        No = "no",
    }
}

config_choice! {
    /// What encloses cells of a CSV log that hold delimiters or line ends.
    pub enum CsvQuote {
        /// Double quotes; nothing where tabs or `::` stand between cells, unless the first row begins with a quote.
        Auto = "auto",
        /// Double quotes.
        Double = "double",
        /// Single quotes.
        Single = "single",
        /// Nothing: quotes are letters.
        None = "none",
    }
}

config_section! {
    /// How logs in CSV are read, where their first rows do not tell it.
    pub struct CsvConfig {
        /// What stands between cells: one character (`;`, `\t`), or several that are no quotes (`::`). Empty: that of tab, `::`,
        /// comma, semicolon and bar by which the first rows have the same number of cells.
        delimiter: String = String::new() => [check(|delimiter, _| validate_delimiter(delimiter))];
        /// Whether the first row names the columns: `yes`, `no`; `auto`: unless one of its cells is a number or a time.
        header: CsvHeader = CsvHeader::Auto;
        /// The names of the columns, in their order, for logs without a header and in place of one. Empty: as the header
        /// says; without one, columns are called by their numbers, from `1` on.
        columns: Vec<String> = Vec::new();
        /// What encloses cells that hold delimiters or line ends: `double` or `single` quotes, `none` (quotes are letters);
        /// `auto`: double quotes, but where tabs or `::` stand between cells only if the first row begins with one.
        quote: CsvQuote = CsvQuote::Auto;
        /// What stands between the elements of a list, such as `features`.
        list_delimiter: String = "|".to_owned() => [not_empty];
    }
}

impl CsvConfig {
    /// The delimiter, if one is set: the word `tab` and the two characters `\t` stand for a tab.
    pub fn delimiter(&self) -> Option<&str> {
        match self.delimiter.as_str() {
            "" => None,
            "tab" | "\\t" => Some("\t"),
            delimiter => Some(delimiter),
        }
    }
}

fn validate_delimiter(delimiter: &str) -> Result<(), Refusal> {
    let is_fit = |c: char| !matches!(c, '"' | '\'' | '\r' | '\n');
    let fits = delimiter.len() <= 8 && delimiter.chars().all(is_fit);
    require(fits, "must be up to eight bytes without quotes and line ends, such as ; or \\t or ::")
}

config_section! {
    /// A schema registry (Confluent's API).
    pub struct RegistryConfig {
        /// Address of the registry, `http://host:port`; then every record is in its wire format. Empty: no registry,
        /// records come plain.
        url: String = String::new() => [check(|url, _| validate_url(url))];
        /// User for HTTP basic authentication; empty: no authentication.
        user: String = String::new();
        /// Password of that user. Never shown.
        password: String = String::new() => [redacted(redact_text)];
        /// Longest wait for an answer, in milliseconds; then the request is repeated.
        timeout_ms: u64 = 5000 => [within(1..=600_000)];
    }
}

config_section! {
    /// What the columns (of logs) or fields (of records) are called in your data; a field within other records by its path,
    /// joined by dots (`payload.after.user_id`). Fields that keep these names are also looked for beside the user.
    pub struct FieldNames {
        /// The user who acted.
        user_id: String = "user_id".to_owned();
        /// The item that was acted upon.
        item_id: String = "item_id".to_owned();
        /// The type of the event; may be absent.
        event_type: String = "event_type".to_owned();
        /// The time of the event: a number (`source.timestamp_unit`), RFC 3339, or what is declared as a timestamp; see
        /// docs/formats.md.
        timestamp: String = "timestamp".to_owned();
        /// Session or basket; may be absent.
        session_id: String = "session_id".to_owned();
        /// Rating, price, …; may be absent.
        value: String = "value".to_owned();
        /// List of features; may be absent.
        features: String = "features".to_owned();
    }
}

/// Most dots in the path of a field: each may belong to a name or stand between two.
const MOST_DOTS: usize = 8;

impl FieldNames {
    fn validate_distinct(&self) -> Result<(), Refusal> {
        let Self { user_id, item_id, event_type, timestamp, session_id, value, features } = self;
        let mut names = [user_id, item_id, event_type, timestamp, session_id, value, features];
        names.sort_unstable();
        let distinct = !names[0].is_empty() && names.windows(2).all(|pair| pair[0] != pair[1]);
        require(distinct, "every field needs a name of its own")?;
        let deepest = names.iter().map(|name| name.matches('.').count()).max().unwrap_or(0);
        require(deepest <= MOST_DOTS, &format!("a path may have {MOST_DOTS} dots at most"))
    }
}

/// Accepts an empty text, or an address in the web that holds no password.
fn validate_url(url: &str) -> Result<(), Refusal> {
    let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    let harmless = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '"' | '\\' | '<' | '>');
    let is_address = url.is_empty()
        || host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && host.chars().all(harmless));
    require(is_address, "must be http://host:port, or empty; user and password have keys of their own")?;
    CargoFeature::Registry.require_if(!url.is_empty())?;
    CargoFeature::Tls.require_if(url.starts_with("https:"))?;
    Ok(())
}

fn validate_timezone(zone: &str) -> Result<(), Refusal> {
    let meant = || Zone::similar_name(zone).map(|name| format!(", did you mean '{name}'?")).unwrap_or_default();
    if zone.is_empty() || Zone::find(zone).is_some() {
        return Ok(());
    }
    Err(format!("must be empty, UTC, an offset such as +01:00, or a name such as Europe/Berlin{}", meant()).into())
}

fn validate_latest_year(year: u16, section: &SourceConfig) -> Result<(), Refusal> {
    require(year >= section.earliest_year, "must not be before source.earliest_year")
}

fn validate_format(format: Format) -> Result<(), Refusal> {
    CargoFeature::Protobuf.require_if(format == Format::Protobuf)?;
    Ok(())
}
