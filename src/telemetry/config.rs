//! The sections `http` and `log`.

use super::http::hosts::ANY;
use crate::util::config_section::{Refusal, config_choice, config_section, redact_text, require};

config_section! {
    /// The address for metrics, health and the page.
    pub struct HttpConfig {
        /// `address:port` that `run` and `demo` serve metrics, health and the page on; empty: none.
        listen: String = "127.0.0.1:9464".to_owned() => [check(|listen, _| validate_address(listen))];
        /// Further names under which the address may be asked for; `*`: any. Addresses, this machine's name, names without a
        /// dot and those that end with `.internal`, `.local`, `.localhost` or `.svc` always may. Others are refused, since
        /// pages from elsewhere can make a name of their own lead here.
        allowed_hosts: Vec<String> = Vec::new() => [check(|hosts, _| validate_hosts(hosts))];
        /// What a program has to show to ask for a checkpoint (`POST /checkpoint`, `Authorization: Bearer TOKEN`); empty: nobody
        /// may. Everything else that the address serves is only read, and needs none.
        token: String = String::new() => [redacted(redact_text), check(|token, _| validate_token(token))];
        /// Connections that are open at a time, at most. Beyond, one over which nobody has asked anything makes room for the next, or,
        /// where less than a quarter are such, the one that was used longest ago. Programs that keep theirs open to ask `/v1` need one each.
        connections: usize = 64 => [within(8..=65_536)];
        /// Seconds that a failed `run` goes on serving `/metrics` until a scrape has shown the failure, at most; 0: none.
        linger_seconds: u64 = 60 => [at_most(3_600)];
    }
}

config_choice! {
    /// How log lines look.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines: one JSON object a line.
        Json = "json",
    }
}

config_section! {
    /// Logs, on standard error.
    pub struct LogConfig {
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text;
        /// Lowest level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
        level: String = "info".to_owned() => [one_of(&["error", "warn", "info", "debug", "trace"])];
        /// Seconds from one line that sums up how training does to the next, where no progress bar is drawn.
        progress_seconds: f64 = 10.0 => [within(0.1..=86_400.0)];
    }
}

/// Accepts an empty text, or a host with a port behind it.
fn validate_address(listen: &str) -> Result<(), Refusal> {
    let is_host = |host: &str| !host.is_empty() && !host.contains(['@', '/']);
    let is_address = listen.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
    require(listen.is_empty() || is_address, "must be address:port, or empty")
}

/// Accepts an empty text, or one that fits into a header and cannot be guessed.
fn validate_token(token: &str) -> Result<(), Refusal> {
    let is_token = token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic());
    require(token.is_empty() || is_token, "must be 16 characters of ASCII or more, without spaces, or empty")
}

/// Accepts names without scheme, port and path.
fn validate_hosts(hosts: &[String]) -> Result<(), Refusal> {
    let is_name = |host: &String| {
        host == ANY
            || (!host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')))
    };
    require(hosts.iter().all(is_name), "must list names such as worker.example.com, without scheme and port, or `*`")
}
