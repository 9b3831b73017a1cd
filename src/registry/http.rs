//! The requests to a schema registry, and what its answers mean.
//!
//! The client is `ureq`, and not the one of the object store (`hyper`, asynchronous, pooled): a registry is asked seldom,
//! one question at a time, on a thread of its own, follows redirects and goes through the machine's proxy. That is what
//! `ureq` is, in four small crates; over `hyper` each of the four would be written here. TLS (`rustls`, the machine's
//! authorities) is shared by both, and the default build has neither.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::decode::{Format, RegistryConfig};
use crate::decode::{SchemaId, SchemaLookup, SchemaText};
use crate::util::encoding::base64;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;
/// Most schemas that one may refer to, directly or not.
const MAX_REFERENCES: usize = 64;

/// The lack of an answer, or an answer that means nothing: asking again may help.
#[derive(Debug)]
pub(super) struct RegistryError(pub(super) String);

/// A client of a schema registry.
#[derive(Debug)]
pub(super) struct RegistryClient {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
    format: Format,
}

/// The registry's description of a schema.
#[derive(Debug, Deserialize)]
struct SchemaResponse {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

impl RegistryClient {
    pub(super) fn new(config: &RegistryConfig, format: Format) -> Self {
        let timeout = Duration::from_millis(config.timeout_ms);
        let settings = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(3)
            .user_agent("negstream");
        #[cfg(any(feature = "tls", feature = "tls-system"))]
        let settings = settings.tls_config(
            // The machine's own authorities: registries are seldom known to the world.
            ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build(),
        );
        let authorization = (!config.user.is_empty())
            .then(|| format!("Basic {}", base64(format!("{}:{}", config.user, config.password).as_bytes())));
        let url = config.url.trim_end_matches('/').to_owned();
        Self { agent: settings.build().into(), url, authorization, format }
    }

    /// Schema `id`, with all that it refers to.
    pub(super) fn schema(&self, id: SchemaId) -> Result<SchemaLookup, RegistryError> {
        let (status, body) = self.get(&format!("/schemas/ids/{id}"))?;
        let described = match parse_response(status, &body)? {
            Some(described) => described,
            None => return Ok(SchemaLookup::Unknown("the registry has none of that number".to_owned())),
        };
        let kind = described.kind.as_deref().unwrap_or("AVRO");
        if kind != schema_type(self.format) {
            return Ok(SchemaLookup::Unknown(format!("it is of the type {kind:?}, not {}", schema_type(self.format))));
        }
        let (mut texts, mut known) = (Vec::new(), Vec::new());
        Ok(match self.references(&described.references, &mut texts, &mut known)? {
            Some(problem) => SchemaLookup::Unknown(problem),
            None => {
                let origin = format!("{} of {}", id, self.url);
                SchemaLookup::Found(SchemaText { text: described.schema, references: texts, origin })
            }
        })
    }

    /// Appends what is referred to, each after what it refers to itself; or says why that cannot be had.
    fn references(
        &self,
        wanted: &[Reference],
        texts: &mut Vec<String>,
        known: &mut Vec<Reference>,
    ) -> Result<Option<String>, RegistryError> {
        for reference in wanted {
            if known.contains(reference) {
                continue;
            }
            if known.len() == MAX_REFERENCES {
                return Ok(Some(format!("it refers to more than {MAX_REFERENCES} others")));
            }
            known.push(reference.clone());
            let Reference { subject, version } = reference;
            let (status, body) = self.get(&format!("/subjects/{}/versions/{version}", percent_encoded(subject)))?;
            let Some(described) = parse_response(status, &body)? else {
                return Ok(Some(format!(
                    "it refers to version {version} of {subject:?}, which the registry does not have"
                )));
            };
            if let Some(problem) = self.references(&described.references, texts, known)? {
                return Ok(Some(problem));
            }
            texts.push(described.schema);
        }
        Ok(None)
    }

    /// Registers a schema, or finds the number that it has already; `Ok(Err)` where the registry refuses it.
    pub(super) fn register(&self, subject: &str, schema: &str) -> Result<Result<SchemaId, String>, RegistryError> {
        let mut body = json!({ "schema": schema });
        if self.format != Format::Avro {
            body["schemaType"] = Value::from(schema_type(self.format));
        }
        let mut request = self.agent.post(format!("{}/subjects/{}/versions", self.url, percent_encoded(subject)));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json");
        let (status, text) = read(request.send(body.to_string()))?;
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        match (status, said["id"].as_u64().and_then(|id| SchemaId::try_from(id).ok())) {
            (200, Some(id)) => Ok(Ok(id)),
            (400..=428, _) => Ok(Err(describe_response(status, &text))),
            _ => Err(RegistryError(describe_response(status, &text))),
        }
    }

    fn get(&self, path: &str) -> Result<(u16, String), RegistryError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        read(request.header("Accept", "application/vnd.schemaregistry.v1+json, application/json").call())
    }
}

/// The description in a response; `None` where the registry says for certain that there is none.
fn parse_response(status: u16, body: &str) -> Result<Option<SchemaResponse>, RegistryError> {
    let code = || serde_json::from_str::<Value>(body).ok()?.get("error_code")?.as_u64();
    match status {
        200 => match serde_json::from_str(body) {
            Ok(described) => Ok(Some(described)),
            Err(error) => Err(RegistryError(format!("an answer that is none of a registry: {error}"))),
        },
        // Subject, version or schema not found. Any other 404 comes from something that is no registry.
        404 if matches!(code(), Some(40_401..=40_403)) => Ok(None),
        _ => Err(RegistryError(describe_response(status, body))),
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), RegistryError> {
    let trouble = |error: ureq::Error| RegistryError(error.to_string());
    let mut response = response.map_err(trouble)?;
    let status = response.status().as_u16();
    let body =
        response.body_mut().with_config().limit(MAX_ANSWER).lossy_utf8(true).read_to_string().map_err(trouble)?;
    Ok((status, body))
}

/// A response that means nothing, for a message: cut, since it may be a page.
fn describe_response(status: u16, body: &str) -> String {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or(body).trim();
    match message.char_indices().nth(200) {
        Some((end, _)) => format!("HTTP {status}: {}…", &message[..end]),
        None => format!("HTTP {status}: {message}"),
    }
}

fn schema_type(format: Format) -> &'static str {
    match format {
        Format::Json => "JSON",
        Format::Avro => "AVRO",
        Format::Protobuf => "PROTOBUF",
    }
}

/// A subject as a part of a path.
fn percent_encoded(subject: &str) -> String {
    let mut escaped = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_believed_only_where_a_registry_is_certain() {
        let none = r#"{"error_code":40403,"message":"Schema 7 not found"}"#;
        assert!(matches!(parse_response(404, none), Ok(None)));
        assert!(matches!(parse_response(200, r#"{"schema":"\"long\""}"#), Ok(Some(_))));
        for (status, body) in [
            (404, "<html>not here</html>"),
            (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
            (200, "<html>welcome</html>"),
            (200, "{}"),
            (401, ""),
            (429, none),
            (500, none),
            (503, ""),
        ] {
            assert!(parse_response(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn percent_encoded_subject_is_one_part_of_a_path() {
        assert_eq!(percent_encoded("clicks-value"), "clicks-value");
        assert_eq!(percent_encoded("a/../b é?"), "a%2F..%2Fb%20%C3%A9%3F");
    }
}
