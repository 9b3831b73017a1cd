//! Where a worker cut batches since its newest checkpoint, in the metadata of a committed offset: beside the claims of its
//! group, if any, and beside one of its offsets only, since all of a commit are one request.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::position::cuts::Cuts;
use crate::source::NotedCuts;
use crate::util::encoding::base64;

/// Most bytes of cuts, before they become base64: some minutes of a quiet stream, and room for them beside the longest
/// claims. Where they are more, a checkpoint comes soon ([`Cuts::to_bytes`] is asked for fewer by the pipeline).
const MOST_BYTES: usize = 288;
/// Longest text of an offset's metadata: Kafka takes 4,096 bytes (`offset.metadata.max.bytes`).
const LONGEST: usize = 4_000;
/// The key of the cuts in the metadata.
const KEY: &str = "negstream_cuts";

/// The cuts in the metadata.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    by: String,
    after: u64,
    at: String,
}

/// The metadata of an offset with `noted` in it; `claims` is what it holds besides.
pub(super) fn beside(claims: Option<&str>, noted: &NotedCuts) -> String {
    let at = base64(&noted.cuts.to_bytes(MOST_BYTES));
    let entry = Entry { by: noted.by.clone(), after: noted.cuts.begin(), at };
    let mut all: Map<String, Value> = claims.and_then(|claims| serde_json::from_str(claims).ok()).unwrap_or_default();
    all.insert(KEY.to_owned(), serde_json::to_value(entry).expect("an entry is JSON"));
    let text = Value::Object(all).to_string();
    if text.len() > LONGEST { claims.unwrap_or_default().to_owned() } else { text }
}

/// The cuts in an offset's metadata; `None` where there are none, or the metadata is not of this program.
pub(super) fn parse(metadata: &str) -> Option<NotedCuts> {
    let mut all: Map<String, Value> = serde_json::from_str(metadata).ok()?;
    let Entry { by, after, at } = serde_json::from_value(all.remove(KEY)?).ok()?;
    let cuts = Cuts::from_bytes(after, &BASE64_STANDARD.decode(at).ok()?)?;
    Some(NotedCuts { by, cuts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kafka::group::ownership::Claims;

    fn noted(n: u64) -> NotedCuts {
        let mut cuts = Cuts::after(1_000_000);
        cuts.extend((1..=n).map(|number| 1_000_000 + 200 * number));
        NotedCuts { by: "worker".to_owned(), cuts }
    }

    #[test]
    fn metadata_holds_cuts_and_claims_alike() {
        let claims = r#"{"negstream_claims":[{"n":1,"by":"worker","from":0}],"of":3}"#;
        let text = beside(Some(claims), &noted(5));
        assert_eq!(Claims::parse(&text), Claims::parse(claims));
        assert!(Claims::parse(claims).newest().is_some());
        assert_eq!(parse(&text), Some(noted(5)));
        assert_eq!(parse(&beside(None, &noted(5))), Some(noted(5)));
        for other in ["", "{}", "another program's", claims, r#"{"negstream_cuts":{"by":"w","after":1,"at":"gA=="}}"#] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn metadata_is_never_longer_than_kafka_takes() {
        let text = beside(None, &noted(10_000));
        assert!(text.len() < 500, "{}", text.len());
        let oldest = parse(&text).expect("the oldest are there").cuts.places().count();
        assert_eq!(oldest, MOST_BYTES / 2);
        let claims = format!(r#"{{"negstream_claims":[],"padding":"{}"}}"#, "x".repeat(3_900));
        assert_eq!(beside(Some(&claims), &noted(10_000)), claims, "claims come first");
    }
}
