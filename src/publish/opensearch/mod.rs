//! A sink in OpenSearch or Elasticsearch: documents with a vector field, written by bulk requests with external versions.
//!
//! The server itself keeps what is newer: a document's version is that of the update that wrote it.
//! Two indices: `INDEX` with one document an item, and `INDEX-state` with one document that says which model, dimension and
//! version was committed last. An update becomes visible with the refresh of its commit.

mod bulk;
mod client;
mod documents;
mod state;

use std::time::Duration;

use serde_json::{Value, json};

use self::bulk::bulk_problem;
use self::client::{SearchAnswer, SearchClient};
use self::documents::{document_id, document_version, index_body, stored_row};
use self::state::STATE_ID;
use super::{
    EmbeddingSink, ItemRow, OwnOptions, SinkConfig, SinkError, SinkOptions, SinkState, StoredRow, Update, UpdateKind,
    Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;

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
    client: SearchClient,
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

impl OpenSearchSink {
    /// A sink as it is configured; nothing is asked of the server yet.
    ///
    /// # Errors
    /// Where its target is no address, which is not repeated, or an option is unknown.
    pub fn open(common: &SinkOptions, own: &OpenSearchOptions) -> Result<Self, SinkError> {
        let timeout = Duration::from_millis(own.timeout_ms);
        Ok(Self {
            client: SearchClient::open(&common.target, timeout)?,
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
        SinkError::refused(NAME, format!("{}/{}: {reason}", self.client.url, self.index))
    }

    fn away(&mut self, reason: impl std::fmt::Display) -> SinkError {
        self.update = None;
        SinkError::away(NAME, format!("{}/{}: {reason}", self.client.url, self.index))
    }

    /// The error of a bad answer.
    fn answered(&mut self, answer: &SearchAnswer) -> SinkError {
        let reason = answer.reason();
        if answer.status == 429 || answer.status >= 500 { self.away(reason) } else { self.refused(reason) }
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<SearchAnswer, SinkError> {
        self.client.ask(method, path, body).map_err(|reason| self.away(reason))
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
