//! Log lines on standard error: for people (`text`) or one JSON object a line (`json`).
//!
//! Both escape what [`crate::util::escape`] calls unsafe in everything that is logged, so that no identifier can forge a
//! line or drive a terminal, and hide the credentials of URLs ([`crate::util::credentials`]). Colours appear only in text, and only where the writer says that it is a terminal. The crate's own lines
//! and those of the Kafka client appear at the configured level; of all other libraries only warnings and errors.
//!
//! Lines go to a [`LineWriter`], so that they can appear above a progress bar. Spans are deliberately not shown: one
//! line says everything by itself.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;

use indicatif::MultiProgress;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::telemetry::{LogConfig, LogFormat};
use crate::util::colours;
use crate::util::credentials::hide_credentials;
use crate::util::escape::{Escaping, escape_json_line};

/// The reason why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` names no level.
    #[error("log.level is '{level}', not one of error, warn, info, debug, trace")]
    Level {
        /// The configured value.
        level: String,
    },
    /// The process has a global subscriber already.
    #[error("something else receives the logs already")]
    AlreadySetUp,
}

type WriteLine = dyn Fn(&[u8]) + Send + Sync;

/// A destination of log lines. It is handed one whole line at a time, its end included.
#[derive(Clone)]
pub struct LineWriter {
    write: Arc<WriteLine>,
    colours: bool,
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LineWriter").field("colours", &self.colours).finish_non_exhaustive()
    }
}

impl LineWriter {
    /// A destination that hands every line to `write`, without colours.
    pub fn new(write: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write), colours: false }
    }

    /// Standard error, with colours where it is a terminal and NO_COLOR is not set.
    pub fn stderr() -> Self {
        Self { colours: colours::are_wanted(io::stderr().is_terminal()), ..Self::new(to_stderr) }
    }

    /// Standard error, above the progress bars that are drawn there.
    pub fn above(bars: MultiProgress) -> Self {
        Self { write: Arc::new(move |line| bars.suspend(|| to_stderr(line))), ..Self::stderr() }
    }
}

fn to_stderr(line: &[u8]) {
    // There is nowhere to tell that standard error is gone.
    let _ = io::stderr().write_all(line);
}

/// Sends the logs of this process to `writer` from now on.
///
/// # Errors
/// Where `log.level` names no level, or the process has a global subscriber already.
pub fn init(config: &LogConfig, writer: LineWriter) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber(config, writer)?).map_err(|_| LogError::AlreadySetUp)
}

fn subscriber(config: &LogConfig, writer: LineWriter) -> Result<impl Subscriber + Send + Sync, LogError> {
    let level = level(&config.level)?;
    // More verbose filters are greater.
    let others = level.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_target("negstream", level)
        .with_target("rdkafka", level)
        .with_target("librdkafka", level)
        .with_default(others);
    let colours = writer.colours;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(LineOutput { writer, json: config.format == LogFormat::Json })
        .log_internal_errors(false);
    let layer = match config.format {
        LogFormat::Text => lines.with_ansi(colours).event_format(Text).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).with_ansi(false).boxed()
        }
    };
    Ok(Registry::default().with(layer.with_filter(filter)))
}

fn level(name: &str) -> Result<LevelFilter, LogError> {
    Ok(match name {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(LogError::Level { level: name.to_owned() }),
    })
}

/// Hands each event's line to the [`LineWriter`]: the layer writes an event in one call.
struct LineOutput {
    writer: LineWriter,
    json: bool,
}

impl<'a> MakeWriter<'a> for LineOutput {
    type Writer = EventOutput<'a>;

    fn make_writer(&'a self) -> EventOutput<'a> {
        EventOutput(self)
    }
}

/// The output of one event.
struct EventOutput<'a>(&'a LineOutput);

impl io::Write for EventOutput<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            // JSON lets the control characters beyond ASCII through; they can only be inside its strings.
            Ok(text) if self.0.json => {
                let object = text.strip_suffix('\n').unwrap_or(text);
                (self.0.writer.write)(format!("{}\n", escape_json_line(&hide_credentials(object))).as_bytes());
            }
            Ok(text) => (self.0.writer.write)(hide_credentials(text).as_bytes()),
            Err(_) => (self.0.writer.write)(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `TIME LEVEL message key=value …`, every value escaped.
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let colours = writer.has_ansi_escapes();
        let paint = |code: &'static str| if colours { code } else { "" };
        writer.write_str(paint("\u{1b}[2m"))?;
        SystemTime.format_time(&mut writer)?;
        let (name, colour) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "\u{1b}[31m"),
            Level::WARN => ("WARN ", "\u{1b}[33m"),
            Level::INFO => ("INFO ", "\u{1b}[32m"),
            Level::DEBUG => ("DEBUG", "\u{1b}[34m"),
            Level::TRACE => ("TRACE", "\u{1b}[35m"),
        };
        let end = paint("\u{1b}[0m");
        write!(writer, "{end} {}{name}{end}", paint(colour))?;
        let mut fields = Fields { message: String::new(), others: String::new(), dim: paint("\u{1b}[2m"), end };
        event.record(&mut fields);
        writeln!(writer, "{}{}", fields.message, fields.others)
    }
}

/// Collects the fields of an event; the message comes first wherever it was given.
struct Fields {
    message: String,
    others: String,
    dim: &'static str,
    end: &'static str,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Quotes only where a reader would not see where the value ends.
        match field.name() {
            "message" => self.append(field, format_args!("{value}")),
            _ if value.is_empty() || value.contains([' ', '"', '=']) => self.append(field, format_args!("{value:?}")),
            _ => self.append(field, format_args!("{value}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.append(field, format_args!("{value}"));
        let mut cause = value.source();
        while let Some(error) = cause {
            self.append(field, format_args!("{error}"));
            cause = error.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.append(field, format_args!("{value:?}"));
    }
}

impl Fields {
    fn append(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let place = if field.name() == "message" {
            self.message.push(' ');
            &mut self.message
        } else {
            self.others.push(' ');
            self.others.push_str(self.dim);
            self.others.push_str(field.name());
            self.others.push('=');
            self.others.push_str(self.end);
            &mut self.others
        };
        // Writing to a string fails only where a value's own formatting does; then what it wrote so far is shown.
        let _ = Escaping(place).write_fmt(value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn logged(format: LogFormat, level: &str, colours: bool, log: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let lines = Arc::clone(&lines);
            LineWriter::new(move |line| {
                lines.lock().expect("no test panics here").push(String::from_utf8(line.to_vec()).expect("text"));
            })
        };
        let mut config = LogConfig::default();
        (config.format, config.level) = (format, level.to_owned());
        let subscriber = subscriber(&config, LineWriter { colours, ..writer }).expect("a level");
        tracing::subscriber::with_default(subscriber, log);
        let lines = lines.lock().expect("no test panics here");
        lines.clone()
    }

    const HOSTILE: &str = "a\n2026 ERROR forged \u{1b}[2J\u{9b}1m\u{202e}x\r";

    #[test]
    fn text_line_has_time_level_message_and_fields() {
        let lines = logged(LogFormat::Text, "info", false, || {
            tracing::info!(events = 3, name = "two words", "checkpoint written");
            tracing::debug!("not shown");
        });
        assert_eq!(lines.len(), 1);
        let (time, rest) = lines[0].split_once(' ').expect("a time");
        assert!(time.ends_with('Z') && time.starts_with("20"), "{time}");
        assert_eq!(rest, "INFO  checkpoint written events=3 name=\"two words\"\n");
    }

    #[test]
    fn logged_values_forge_no_line_and_drive_no_terminal() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, "info", false, || {
                tracing::warn!(item = HOSTILE, "rejected {HOSTILE}");
                tracing::warn!(item = %HOSTILE, other = ?HOSTILE, "rejected");
            });
            assert_eq!(lines.len(), 2);
            for line in lines {
                let line = line.strip_suffix('\n').expect("a line ends");
                assert!(!line.contains(['\n', '\r', '\u{1b}', '\u{9b}', '\u{202e}']), "{line:?}");
            }
        }
    }

    #[test]
    fn logged_urls_lose_their_credentials() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, "info", false, || {
                tracing::info!(proxy = "http://me:hunter2@proxy", "asking https://host/?sig=hunter2");
            });
            assert!(!lines[0].contains("hunter2") && lines[0].contains("@proxy"), "{lines:?}");
            assert!(format == LogFormat::Text || serde_json::from_str::<serde_json::Value>(&lines[0]).is_ok());
        }
    }

    #[test]
    fn json_line_has_the_fields_at_the_top_level() {
        let lines = logged(LogFormat::Json, "info", true, || tracing::info!(events = 3, "checkpoint written"));
        let object: serde_json::Value = serde_json::from_str(&lines[0]).expect("json");
        assert_eq!(
            (&object["level"], &object["message"], &object["events"]),
            (&"INFO".into(), &"checkpoint written".into(), &3.into())
        );
        assert!(object["timestamp"].is_string());
    }

    #[test]
    fn colours_appear_only_on_a_terminal() {
        let line = |colours| logged(LogFormat::Text, "info", colours, || tracing::info!(events = 3, "here")).remove(0);
        assert!(line(true).contains("\u{1b}[32mINFO"));
        assert!(!line(false).contains('\u{1b}'));
    }

    #[test]
    fn filter_passes_only_warnings_of_other_libraries() {
        let lines = logged(LogFormat::Text, "debug", false, || {
            tracing::info!(target: "hyper::proto", "chatter");
            tracing::debug!(target: "librdkafka", "fetch");
            tracing::warn!(target: "hyper::proto", "trouble");
        });
        assert_eq!(lines.len(), 2);
        let error = logged(LogFormat::Text, "error", false, || tracing::warn!(target: "hyper::proto", "trouble"));
        assert!(error.is_empty());
    }

    #[test]
    fn unknown_level_is_named_with_the_known_levels() {
        let config = LogConfig { level: "loud".to_owned(), ..LogConfig::default() };
        let error = subscriber(&config, LineWriter::new(|_| ())).err().expect("no level").to_string();
        assert_eq!(error, "log.level is 'loud', not one of error, warn, info, debug, trace");
    }
}
