//! The section `serve`.

use std::path::PathBuf;

use crate::util::config_section::{Refusal, config_section, require};

config_section! {
    /// The API at the address `http.listen`, below `/v1`: recommendations, scores, neighbours and vectors; see docs/serving.md.
    pub struct ServeConfig {
        /// Whether it is served. On an address that other machines reach it is served to those alone who show `http.token`; where
        /// that is set, also on this machine.
        enabled: bool = true;
        /// Threads that answer, besides those that train.
        threads: usize = 1 => [within(1..=1024)];
        /// Requests that may wait; further ones are refused with 429.
        queue: usize = 512 => [within(1..=65_536)];
        /// Longest time for an answer, in milliseconds; whatever takes longer is refused with 503.
        deadline_ms: u64 = 2_000 => [within(10..=600_000)];
        /// From so many items on, lists are found by an index; with fewer, and until the index is there, by a look at all of them.
        index_from: usize = 100_000 => [within(1_000..=1_000_000_000)];
        /// The least share of the best 20 items that the index has to find. It is measured all the time; how far the index looks
        /// follows.
        index_recall: f64 = 0.98 => [within(0.5..=0.9999)];
        /// Longest list that may be asked for.
        max_k: usize = 1_000 => [within(1..=100_000)];
        /// Most ids in a list of a request.
        max_ids: usize = 10_000 => [within(1..=1_000_000)];
        /// Longest body of a request, in bytes.
        max_body_bytes: usize = 1 << 20 => [within(1_024..=1 << 28)];
        /// A Parquet file that describes items, whose columns lists may be filtered by (`filter`): a column of item ids, named as
        /// `source.fields.item_id` says, and others of text, lists of text, whole numbers and truth values. Empty: none.
        catalogue: PathBuf = PathBuf::new();
        /// The column of the catalogue that holds what people call items, which answers and the page show.
        title: String = "title".to_owned();
        /// Origins whose pages may read the answers in a browser (`https://shop.example`); `*`: any. Empty: none.
        cors_origins: Vec<String> = Vec::new() => [check(|origins, _| validate_origins(origins))];
    }
}

/// The entry that admits every origin.
pub(super) const ANY_ORIGIN: &str = "*";

/// Accepts origins as browsers name them: a scheme and a host, perhaps a port, and no path.
fn validate_origins(origins: &[String]) -> Result<(), Refusal> {
    let is_origin = |origin: &String| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let is_host = |host: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
            !host.is_empty() && host.chars().all(allowed)
        };
        origin == ANY_ORIGIN || host.is_some_and(is_host)
    };
    require(origins.iter().all(is_origin), "must list origins such as https://shop.example, without a path, or `*`")
}
