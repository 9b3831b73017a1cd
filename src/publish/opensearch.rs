//! A sink in OpenSearch or Elasticsearch: documents with a vector field, written by bulk requests with external versions.
//!
//! The server itself keeps what is newer: a document's version is that of the update that wrote it.
//! Two indices: `INDEX` with one document an item, and `INDEX-state` with one document that says which model, dimension and
//! version was committed last. An update becomes visible with the refresh of its commit.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    EmbeddingSink, ItemRow, OwnOptions, SinkConfig, SinkError, SinkOptions, SinkState, StoredRow, Update, UpdateKind,
    Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;
use crate::util::encoding::base64;

const NAME: &str = "opensearch";

config_section! {
    /// What only `opensearch` knows.
    pub struct OpenSearchOptions {
        /// Milliseconds that connecting, and every single request, may take.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
    }
}

impl Component for OpenSearchOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "An index of OpenSearch (k-NN) or Elasticsearch; its target is http[s]://[USER:PASSWORD@]HOST:PORT, its name that of the index.";
}

impl OwnOptions for OpenSearchOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(OpenSearchSink::open(&config.common, &self)?))
    }
}

/// Documents of a bulk request, and the bytes after which one is sent.
const DOCUMENTS_PER_REQUEST: usize = 1_000;
const BYTES_PER_REQUEST: usize = 4 << 20;
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Bytes that an identifier of a document may have.
const MAX_ID_BYTES: usize = 512;
/// Bits of a document's version that are the step; those before it are the epoch.
const STEP_BITS: u32 = 40;
/// The document of the state.
const STATE_ID: &str = "state";

/// The update that is being written.
#[derive(Debug, Clone)]
struct OpenBulk {
    kind: UpdateKind,
    version: Version,
    dim: usize,
    model_id: String,
}

/// The sink.
pub struct OpenSearchSink {
    agent: ureq::Agent,
    url: String,
    authorization: Option<String>,
    timeout: Duration,
    replace: bool,
    index: String,
    update: Option<OpenBulk>,
    committed: Option<Version>,
    /// Where the state's document stood when the update began: nobody else may have written it since.
    state_place: Option<(u64, u64)>,
    body: String,
    n_in_body: usize,
}

impl std::fmt::Debug for OpenSearchSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The authorization is a secret.
        f.debug_struct("OpenSearchSink").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The state, and where its document stands: sequence number and primary term.
type PlacedState = (SinkState, (u64, u64));

/// An answer: its status, and its JSON (nothing where it is none).
struct SearchAnswer {
    status: u16,
    body: Value,
    text: String,
}

impl SearchAnswer {
    /// The reason that it gives, cut.
    fn reason(&self) -> String {
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

impl OpenSearchSink {
    /// A sink as it is configured; nothing is asked of the server yet.
    ///
    /// # Errors
    /// Where its target is no address, which is not repeated, or an option is unknown.
    pub fn open(common: &SinkOptions, own: &OpenSearchOptions) -> Result<Self, SinkError> {
        let timeout = Duration::from_millis(own.timeout_ms);
        let (url, authorization) = address(&common.target)
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
        Ok(Self {
            agent: settings.build().into(),
            url,
            authorization,
            timeout,
            replace: common.replace,
            index: common.name_or("negstream").to_owned(),
            update: None,
            committed: None,
            state_place: None,
            body: String::new(),
            n_in_body: 0,
        })
    }

    fn refused(&mut self, reason: impl std::fmt::Display) -> SinkError {
        self.update = None;
        SinkError::refused(NAME, format!("{}/{}: {reason}", self.url, self.index))
    }

    fn away(&mut self, reason: impl std::fmt::Display) -> SinkError {
        self.update = None;
        SinkError::away(NAME, format!("{}/{}: {reason}", self.url, self.index))
    }

    /// The error of a bad answer.
    fn answered(&mut self, answer: &SearchAnswer) -> SinkError {
        let reason = answer.reason();
        if answer.status == 429 || answer.status >= 500 { self.away(reason) } else { self.refused(reason) }
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<SearchAnswer, SinkError> {
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
                Err(self.away(format!("it does not answer within {limit} ms")))
            }
            Err(error) => Err(self.away(error)),
        }
    }

    /// Asks, and refuses every answer but a good one and those of `other`.
    fn ask_json(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        other: &[u16],
    ) -> Result<SearchAnswer, SinkError> {
        let text = body.map(Value::to_string);
        let body = text.as_deref().map(|text| ("application/json", text));
        let answer = self.ask(method, path, body)?;
        if (200..300).contains(&answer.status) || other.contains(&answer.status) {
            Ok(answer)
        } else {
            Err(self.answered(&answer))
        }
    }

    /// The state's document, and where it stands.
    fn placed_state(&mut self) -> Result<Option<PlacedState>, SinkError> {
        let path = format!("{}-state/_doc/{STATE_ID}", self.index);
        let answer = self.ask_json("GET", &path, None, &[404])?;
        let (held, number) = (&answer.body["_source"], |value: &Value| value.as_u64().unwrap_or_default());
        Ok(held["model_id"].as_str().map(|model_id| {
            let version = Version { epoch: number(&held["epoch"]), step: number(&held["step"]) };
            let dim = usize::try_from(number(&held["dim"])).unwrap_or_default();
            let place = (number(&answer.body["_seq_no"]), number(&answer.body["_primary_term"]));
            (SinkState { model_id: model_id.to_owned(), version, dim }, place)
        }))
    }

    /// Deletes the index, and that of the state, where it holds embeddings of another model or dimension.
    fn drop_others(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        let Some((held, _)) = self.placed_state()? else { return Ok(()) };
        if held.model_id != update.model_id || held.dim != update.dim {
            let index = self.index.clone();
            self.ask_json("DELETE", &index, None, &[404])?;
            self.ask_json("DELETE", &format!("{index}-state"), None, &[404])?;
        }
        Ok(())
    }

    /// Writes the state's document of an index in which nothing was committed yet.
    fn make_state(&mut self, update: &Update<'_>) -> Result<(u64, u64), SinkError> {
        let state = json!({ "model_id": update.model_id, "dim": update.dim, "epoch": 0, "step": 0 });
        let path = format!("{}-state/_doc/{STATE_ID}?op_type=create", self.index);
        let answer = self.ask_json("PUT", &path, Some(&state), &[409])?;
        if answer.status == 409 {
            return Err(self.away("another worker begins at the same time"));
        }
        let number = |key: &str| answer.body[key].as_u64().unwrap_or_default();
        Ok((number("_seq_no"), number("_primary_term")))
    }

    /// The newest epoch of a document, which an update that was broken off may have left.
    fn newest_epoch(&mut self) -> Result<u64, SinkError> {
        self.ask_json("POST", &format!("{}/_refresh", self.index), None, &[])?;
        let query = json!({ "size": 0, "aggs": { "epoch": { "max": { "field": "epoch" } } } });
        let answer = self.ask_json("POST", &format!("{}/_search", self.index), Some(&query), &[])?;
        Ok(answer.body["aggregations"]["epoch"]["value"].as_f64().map_or(0, |epoch| epoch as u64))
    }

    /// Makes the index where it is missing; refuses one of another dimension.
    fn prepare_index(&mut self, dim: usize) -> Result<(), SinkError> {
        let index = self.index.clone();
        let mapping = self.ask_json("GET", &format!("{index}/_mapping"), None, &[404])?;
        if mapping.status == 404 {
            let server = self.ask_json("GET", "", None, &[])?;
            let is_opensearch = server.body["version"]["distribution"] == "opensearch";
            self.ask_json("PUT", &index, Some(&index_body(dim, is_opensearch)), &[])?;
            let state = json!({ "settings": { "number_of_shards": 1 }, "mappings": { "dynamic": false } });
            self.ask_json("PUT", &format!("{index}-state"), Some(&state), &[400])?;
            return Ok(());
        }
        // An alias leads to an index of another name.
        let properties = mapping.body.as_object().and_then(|indices| indices.values().next());
        let embedding =
            properties.map(|index| index["mappings"]["properties"]["embedding"].clone()).unwrap_or_default();
        let found = embedding["dimension"].as_u64().or(embedding["dims"].as_u64());
        match found {
            Some(found) if usize::try_from(found).is_ok_and(|found| found == dim) => Ok(()),
            Some(found) => Err(self.refused(format!("it holds vectors of dimension {found}, not {dim}; {OTHERWISE}"))),
            None => Err(self.refused(format!("its mapping has no vector field 'embedding'; {OTHERWISE}"))),
        }
    }

    /// Appends an action of a bulk request, and its document; sends what is full.
    fn add(&mut self, action: &Value, document: Option<&Value>) -> Result<(), SinkError> {
        self.body.push_str(&action.to_string());
        self.body.push('\n');
        if let Some(document) = document {
            self.body.push_str(&document.to_string());
            self.body.push('\n');
        }
        self.n_in_body += 1;
        if self.n_in_body == DOCUMENTS_PER_REQUEST || self.body.len() >= BYTES_PER_REQUEST {
            self.send()
        } else {
            Ok(())
        }
    }

    fn send(&mut self) -> Result<(), SinkError> {
        let body = std::mem::take(&mut self.body);
        if std::mem::take(&mut self.n_in_body) == 0 {
            return Ok(());
        }
        let path = format!(
            "{}/_bulk?filter_path=errors,error,items.*.status,items.*._id,items.*.error.reason,items.*.error.caused_by.reason",
            self.index
        );
        let answer = self.ask("POST", &path, Some(("application/x-ndjson", &body)))?;
        if answer.status != 200 {
            return Err(self.answered(&answer));
        }
        match bulk_problem(&answer.body) {
            Some(problem) => Err(self.refused(problem)),
            None => Ok(()),
        }
    }

    fn version(&mut self) -> Result<u64, SinkError> {
        match &self.update {
            Some(update) => {
                let version = document_version(update.version);
                version.ok_or_else(|| self.refused("a version beyond what a document's version holds"))
            }
            None => Err(self.refused("no update was begun")),
        }
    }

    /// All documents that `query` finds, page by page.
    fn scroll(
        &mut self,
        query: &Value,
        visit: &mut dyn FnMut(&mut Self, &Value) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let mut answer = self.ask_json("POST", &format!("{}/_search?scroll=5m", self.index), Some(query), &[])?;
        loop {
            let hits = answer.body["hits"]["hits"].as_array().cloned().unwrap_or_default();
            let scroll_id = answer.body["_scroll_id"].as_str().unwrap_or_default().to_owned();
            if answer.body["_shards"]["failed"].as_u64().is_some_and(|failed| failed > 0) {
                return Err(self.refused("some of its shards do not answer"));
            }
            if hits.is_empty() {
                return self
                    .ask_json("DELETE", "_search/scroll", Some(&json!({ "scroll_id": scroll_id })), &[404])
                    .map(drop);
            }
            for hit in &hits {
                visit(self, hit)?;
            }
            answer =
                self.ask_json("POST", "_search/scroll", Some(&json!({ "scroll": "5m", "scroll_id": scroll_id })), &[])?;
        }
    }
}

/// What can be done about an index of somebody else.
const OTHERWISE: &str = "set replace = true, or choose another index (name)";

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

/// A version as one number that grows with it; `None` where one of its parts does not fit (8 million epochs, 10¹² steps).
fn document_version(version: Version) -> Option<u64> {
    let fits = version.epoch < 1 << (63 - STEP_BITS) && version.step < 1 << STEP_BITS;
    // Zero is no version.
    fits.then(|| (version.epoch << STEP_BITS | version.step).max(1))
}

/// The identifier of an item's document: its own, or a digest where that is too long.
fn document_id(item_id: &str) -> String {
    if !item_id.is_empty() && item_id.len() <= MAX_ID_BYTES {
        return item_id.to_owned();
    }
    let digest = Sha256::digest(item_id.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// Settings and mapping of the index: the vector, and what the product's own ranking needs beside it.
fn index_body(dim: usize, is_opensearch: bool) -> Value {
    let embedding = if is_opensearch {
        let method = json!({ "name": "hnsw", "engine": "lucene", "space_type": "innerproduct" });
        json!({ "type": "knn_vector", "dimension": dim, "method": method })
    } else {
        json!({ "type": "dense_vector", "dims": dim, "index": true, "similarity": "max_inner_product" })
    };
    // Deletions are remembered for an hour: so long a late write of an older worker is known to be late.
    let mut settings = json!({ "index": { "gc_deletes": "1h" } });
    if is_opensearch {
        settings["index"]["knn"] = Value::from(true);
    }
    json!({
        "settings": settings,
        "mappings": { "dynamic": false, "properties": {
            "item_id": { "type": "keyword" }, "embedding": embedding, "log_frequency": { "type": "float" },
            "epoch": { "type": "long" }, "step": { "type": "long" },
        } },
    })
}

/// The first thing that went wrong in a bulk request, by the name of its document. What was not newer is none: the index holds
/// what is; nor is the deletion of what is not there.
fn bulk_problem(body: &Value) -> Option<String> {
    let Some(items) = body["items"].as_array() else {
        return Some("an answer that is none of a bulk request".to_owned());
    };
    let outcomes = items.iter().filter_map(|item| item.as_object()?.iter().next());
    let bad = |(action, outcome): &(&String, &Value)| {
        let status = outcome["status"].as_u64().unwrap_or_default();
        !(200..300).contains(&status) && status != 409 && !(status == 404 && *action == "delete")
    };
    let mut bad = outcomes.filter(bad);
    let (action, outcome) = bad.next()?;
    let more = match bad.count() {
        0 => String::new(),
        n => format!(" ({n} more)"),
    };
    let error = &outcome["error"];
    let reasons = [&error["reason"], &error["caused_by"]["reason"]];
    let reason = reasons.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": ");
    let reason: String = reason.chars().take(300).collect();
    let id: String = outcome["_id"].as_str().unwrap_or("?").chars().take(100).collect();
    let full = if outcome["status"] == 429 || reason.contains("flood") { "; it is overloaded or full" } else { "" };
    Some(format!("{action} of {id:?}: HTTP {}: {reason}{more}{full}", outcome["status"]))
}

/// A document as it is read; `None` where negstream has not written it.
fn stored_row(hit: &Value) -> Option<StoredRow> {
    let document = &hit["_source"];
    let embedding: Option<Vec<f32>> =
        document["embedding"].as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect();
    Some(StoredRow {
        item_id: document["item_id"].as_str()?.to_owned(),
        embedding: embedding?,
        log_frequency: document["log_frequency"].as_f64()? as f32,
        version: Version { epoch: document["epoch"].as_u64()?, step: document["step"].as_u64()? },
    })
}

impl EmbeddingSink for OpenSearchSink {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        let mapping = self.ask_json("GET", &format!("{}/_mapping", self.index), None, &[404])?;
        if mapping.status == 404 {
            return Ok(None);
        }
        let newest = self.newest_epoch()?;
        let held = self.placed_state()?.map(|(state, _)| state);
        Ok(match held {
            Some(held) if held.version.epoch >= newest => Some(held),
            Some(held) => Some(SinkState { version: Version { epoch: newest, step: 0 }, ..held }),
            None => None,
        })
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        self.update = None;
        self.body.clear();
        self.n_in_body = 0;
        if self.replace && update.kind == UpdateKind::Full {
            self.drop_others(update)?;
        }
        self.prepare_index(update.dim)?;
        let model_id = update.model_id.to_owned();
        let held = self.placed_state()?;
        match &held {
            Some((held, _)) if held.model_id != model_id => {
                let other = &held.model_id;
                return Err(
                    self.refused(format!("it holds vectors of another model, {other}, not of {model_id}; {OTHERWISE}"))
                );
            }
            Some((held, _)) if held.version >= update.version => {
                let Version { epoch, step } = held.version;
                return Err(self.refused(format!("it holds a version that is not older: epoch {epoch}, step {step}")));
            }
            _ => {}
        }
        let goes_on = held.as_ref().is_some_and(|(held, _)| self.committed == Some(held.version));
        if update.kind == UpdateKind::Delta && !goes_on {
            return Err(self.away("it does not hold the update before this one any more; a full update makes it whole"));
        }
        self.state_place = Some(match held {
            Some((_, place)) => place,
            // So that it is known whose rows there are, should this update be broken off.
            None => self.make_state(update)?,
        });
        let Update { kind, version, dim, .. } = *update;
        self.update = Some(OpenBulk { kind, version, dim, model_id });
        self.version().map(drop)
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let version = self.version()?;
        for item_id in item_ids {
            let action = json!({ "delete": { "_id": document_id(item_id), "version": version, "version_type": "external_gte" } });
            self.add(&action, None)?;
        }
        self.send()
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let version = self.version()?;
        let Version { epoch, step } = self.update.as_ref().map(|update| update.version).unwrap_or_default();
        for ItemRow { item_id, embedding, log_frequency } in rows {
            let action =
                json!({ "index": { "_id": document_id(item_id), "version": version, "version_type": "external_gte" } });
            let document = json!({
                "item_id": item_id, "embedding": embedding, "log_frequency": log_frequency, "epoch": epoch, "step": step,
            });
            self.add(&action, Some(&document))?;
        }
        self.send()
    }

    fn set_popularity(&mut self, _popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        // It would write the vector again, and its index with it.
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let version = self.version()?;
        let Some(update) = self.update.clone() else { return Ok(()) };
        self.ask_json("POST", &format!("{}/_refresh", self.index), None, &[])?;
        let Version { epoch, step } = update.version;
        if update.kind == UpdateKind::Full {
            let before = json!({ "bool": { "should": [
                { "range": { "epoch": { "lt": epoch } } },
                { "bool": { "filter": [{ "term": { "epoch": epoch } }, { "range": { "step": { "lt": step } } }] } },
            ] } });
            let query = json!({ "size": 1000, "_source": false, "query": before });
            self.scroll(&query, &mut |sink, hit| {
                let action =
                    json!({ "delete": { "_id": hit["_id"], "version": version, "version_type": "external_gte" } });
                sink.add(&action, None)
            })?;
            self.send()?;
            self.ask_json("POST", &format!("{}/_refresh", self.index), None, &[])?;
        }
        let place = match self.state_place {
            Some((seq_no, primary_term)) => format!("if_seq_no={seq_no}&if_primary_term={primary_term}"),
            None => "op_type=create".to_owned(),
        };
        let state = json!({ "model_id": update.model_id, "dim": update.dim, "epoch": epoch, "step": step });
        let path = format!("{}-state/_doc/{STATE_ID}?{place}", self.index);
        if self.ask_json("PUT", &path, Some(&state), &[409])?.status == 409 {
            return Err(self.refused("another worker has committed an update since this one began"));
        }
        self.update = None;
        self.committed = Some(update.version);
        Ok(())
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        if self.ask_json("GET", &format!("{}/_mapping", self.index), None, &[404])?.status == 404 {
            return Ok(None);
        }
        let Some((state, _)) = self.placed_state()? else { return Ok(None) };
        self.scroll(&json!({ "size": 1000, "query": { "match_all": {} } }), &mut |sink, hit| match stored_row(hit) {
            Some(item) => {
                visit(item);
                Ok(())
            }
            None => Err(sink.refused(format!("document {} was not written by negstream", hit["_id"]))),
        })?;
        // Nothing was committed yet where it is as it was made.
        Ok(Some(state).filter(|state| state.version != Version::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_versions_grow_with_versions() {
        let of = |epoch, step| document_version(Version { epoch, step });
        assert!(of(1, 900) < of(2, 1) && of(2, 1) < of(2, 2));
        assert_eq!((of(0, 0), of(1 << 23, 0), of(0, 1 << 40)), (Some(1), None, None));
        assert!(i64::try_from(of((1 << 23) - 1, (1 << 40) - 1).unwrap()).is_ok());
    }

    #[test]
    fn targets_lose_their_password_before_they_are_spoken_of() {
        let (url, authorization) = address("https://me:p%40ss@host:9200/").unwrap();
        assert_eq!((url.as_str(), authorization), ("https://host:9200", Some(format!("Basic {}", base64(b"me:p@ss")))));
        assert!(["host:9200", "ftp://host", "http://", "http://a b"].iter().all(|target| address(target).is_none()));
    }

    #[test]
    fn bulk_problems_are_told_by_name_and_late_writes_are_none() {
        let late = json!({ "items": [{ "index": { "_id": "a", "status": 409 } }, { "delete": { "_id": "b", "status": 404 } }] });
        assert_eq!(bulk_problem(&late), None);
        let bad = json!({ "items": [
            { "index": { "_id": "a", "status": 400, "error": { "reason": "Vector dimension mismatch" } } },
            { "index": { "_id": "b", "status": 429, "error": { "reason": "rejected" } } },
        ] });
        let problem = bulk_problem(&bad).unwrap();
        assert!(
            problem.contains("\"a\"") && problem.contains("dimension mismatch") && problem.contains("1 more"),
            "{problem}"
        );
        assert!(bulk_problem(&json!({ "error": "no" })).is_some());
    }

    #[test]
    fn identifiers_too_long_for_a_document_become_digests() {
        assert_eq!(document_id("item 7"), "item 7");
        let long = document_id(&"x".repeat(513));
        assert!(long.starts_with("sha256:") && long.len() == 71);
    }
}
