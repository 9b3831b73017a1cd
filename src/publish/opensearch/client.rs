//! Requests to the server, and what its answers say.

use std::time::Duration;

use serde_json::Value;

use super::NAME;
use crate::publish::SinkError;
use crate::util::encoding::base64;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// A client of one server.
pub(super) struct SearchClient {
    agent: ureq::Agent,
    pub(super) url: String,
    authorization: Option<String>,
    timeout: Duration,
}

impl SearchClient {
    /// A client of the server at `target`.
    pub(super) fn open(target: &str, timeout: Duration) -> Result<Self, SinkError> {
        let (url, authorization) = address(target)
            .ok_or_else(|| SinkError::refused(NAME, "its target is no address like http://HOST:9200"))?;
        let settings = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("negstream");
        #[cfg(any(feature = "tls", feature = "tls-system"))]
        let settings = settings
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build());
        if url.starts_with("https:") && cfg!(not(any(feature = "tls", feature = "tls-system"))) {
            return Err(SinkError::refused(NAME, crate::util::cargo_feature::CargoFeature::Tls.missing()));
        }
        Ok(Self { agent: settings.build().into(), url, authorization, timeout })
    }

    /// The answer, whatever it is; an error is the lack of one, in words.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<SearchAnswer, String> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}/{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = match body {
            Some((kind, body)) => {
                let request = request.header("Content-Type", kind).body(body);
                request.map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
            }
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        let answer = answer.and_then(|mut answer| {
            let text = answer.body_mut().with_config().limit(MAX_ANSWER).lossy_utf8(true).read_to_string()?;
            Ok((answer.status().as_u16(), text))
        });
        match answer {
            Ok((status, text)) => {
                Ok(SearchAnswer { status, body: serde_json::from_str(&text).unwrap_or_default(), text })
            }
            Err(ureq::Error::Timeout(_)) => {
                let limit = self.timeout.as_millis();
                Err(format!("it does not answer within {limit} ms"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// An answer: its status, and its JSON (nothing where it is none).
pub(super) struct SearchAnswer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
}

impl SearchAnswer {
    /// The reason that it gives, cut.
    pub(super) fn reason(&self) -> String {
        let error = &self.body["error"];
        let reason = error["reason"].as_str().or(error.as_str()).unwrap_or(self.text.trim());
        let reason: String = reason.chars().take(300).collect();
        let advice = match self.status {
            401 | 403 => "; it refuses the user or the password of the target",
            429 => "; it is overloaded or full",
            _ => "",
        };
        format!("HTTP {}: {reason}{advice}", self.status)
    }
}

/// A target without its user information, and what that becomes.
fn address(target: &str) -> Option<(String, Option<String>)> {
    let (scheme, rest) = target.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains([' ', '?', '#']) {
        return None;
    }
    let authorization = user.map(|user| format!("Basic {}", base64(&percent_decoded(user))));
    Some((format!("{scheme}://{host}"), authorization))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut decoded, mut i) = (text.as_bytes(), Vec::new(), 0);
    while i < bytes.len() {
        let code = text.get(i + 1..i + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (bytes[i], code) {
            (b'%', Some(code)) => {
                decoded.push(code);
                i += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                i += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_lose_their_password_before_they_are_spoken_of() {
        let (url, authorization) = address("https://me:p%40ss@host:9200/").unwrap();
        assert_eq!((url.as_str(), authorization), ("https://host:9200", Some(format!("Basic {}", base64(b"me:p@ss")))));
        assert!(["host:9200", "ftp://host", "http://", "http://a b"].iter().all(|target| address(target).is_none()));
    }
}
