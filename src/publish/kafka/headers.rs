//! The headers of a record, as text: model, version, and one number more.

use rdkafka::message::{Header, Headers as _, OwnedHeaders};

use crate::publish::Version;

/// The headers of a row's record.
pub(super) fn headers(model_id: &str, version: Version, log_frequency: Option<f32>) -> OwnedHeaders {
    headers_with(model_id, version, log_frequency.map(|log_frequency| ("log_frequency", log_frequency)))
}

/// The headers of a query's record.
pub(super) fn query_headers(model_id: &str, version: Version, beta_tau: f32) -> OwnedHeaders {
    headers_with(model_id, version, Some(("beta_tau", beta_tau)))
}

fn headers_with(model_id: &str, version: Version, number: Option<(&str, f32)>) -> OwnedHeaders {
    let (epoch, step) = (version.epoch.to_string(), version.step.to_string());
    let number = number.map(|(key, number)| (key, number.to_string()));
    let mut headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header { key: "model_id", value: Some(model_id) })
        .insert(Header { key: "epoch", value: Some(&epoch) })
        .insert(Header { key: "step", value: Some(&step) });
    if let Some((key, number)) = &number {
        headers = headers.insert(Header { key, value: Some(number) });
    }
    headers
}

/// What the headers of a record say: its version, and the log-frequency where there is one; `None` where they are none of
/// [`headers`]'s.
pub(super) fn read_headers(record: &impl rdkafka::Message) -> Option<(Version, Option<f32>)> {
    let (mut epoch, mut step, mut log_frequency) = (None, None, None);
    for header in record.headers()?.iter() {
        let text = std::str::from_utf8(header.value.unwrap_or_default()).ok()?;
        match header.key {
            "epoch" => epoch = text.parse().ok(),
            "step" => step = text.parse().ok(),
            "log_frequency" => log_frequency = text.parse().ok(),
            _ => {}
        }
    }
    Some((Version { epoch: epoch?, step: step? }, log_frequency))
}
