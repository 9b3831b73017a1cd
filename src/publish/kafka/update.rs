//! Updates, each a transaction: the contract of sinks, kept.

use std::collections::HashSet;

use super::headers::{headers, query_headers};
use super::state_record::{STATE_KEY, StateRecord};
use super::{KafkaSink, KafkaUpdate, NAME};
use crate::kafka::transactions::TransactionalProducer;
use crate::publish::{
    EmbeddingSink, ItemRow, RowPart, SinkError, SinkState, StoredRow, Update, UpdateKind, UserQuery, VectorPrecision,
};

impl EmbeddingSink for KafkaSink {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        let held = self.held()?;
        Ok(held.map(|held| SinkState { version: held.version(), dim: held.dim, model_id: held.model_id }))
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read_part(RowPart::WHOLE, visit)
    }

    fn read_part(&mut self, part: RowPart, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read_rows(part, visit)
    }

    fn precision(&self) -> VectorPrecision {
        self.layout.precision()
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        if self.update.take().is_some() {
            // The one before was left in its middle.
            if let Some(producer) = self.producer.take() {
                producer.abort();
            }
        }
        let is_next = update.kind == UpdateKind::Delta && self.producer.is_some() && self.is_untouched()?;
        let state = match self.committed.as_ref().filter(|_| is_next) {
            // As nobody wrote since, nothing has to be asked.
            Some((held, _)) => {
                self.check(update, Some(held))?;
                StateRecord { epoch: update.version.epoch, step: update.version.step, ..held.clone() }
            }
            None => self.prepare(update)?,
        };
        let mut stale = [HashSet::new(), HashSet::new()];
        if update.kind == UpdateKind::Full {
            stale = self.keys()?;
            let is_foreign =
                self.committed.is_none() && !self.replace && !stale[0].is_empty() && self.held()?.is_none();
            if is_foreign {
                let topic = &self.topics[0];
                return Err(self.refused(format!(
                    "topic '{topic}' holds records that negstream has not written; choose another prefix (name)"
                )));
            }
        }
        let begun = self.producer.as_mut().map(TransactionalProducer::begin);
        begun.unwrap_or(Ok(())).map_err(|error| self.give_up(error))?;
        self.update = Some(KafkaUpdate { state, stale });
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for item_id in item_ids {
            for topic in [0, 1] {
                self.note_kept(topic, item_id.as_bytes());
                self.send(topic, item_id.as_bytes(), None, headers(&model_id, version, None))?;
            }
        }
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for row in rows {
            let key = row.item_id.as_bytes();
            let value = self.layout.value(row, &model_id, version);
            self.note_kept(0, key);
            self.note_kept(1, key);
            self.send(0, key, Some(&value), headers(&model_id, version, Some(row.log_frequency)))?;
        }
        Ok(())
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for (item_id, log_frequency) in popularity {
            let value = self.layout.popularity(item_id, *log_frequency, &model_id, version);
            self.note_kept(1, item_id.as_bytes());
            self.send(1, item_id.as_bytes(), Some(&value), headers(&model_id, version, None))?;
        }
        Ok(())
    }

    fn takes_queries(&self) -> bool {
        self.with_users
    }

    fn set_queries(&mut self, queries: &[UserQuery<'_>]) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        for query in queries {
            let value = self.layout.query(query, &model_id, version);
            let headers = query_headers(&model_id, version, query.beta_tau);
            self.send(3, query.user_id.as_bytes(), Some(&value), headers)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let (model_id, version) = self.open_update()?;
        let Some(KafkaUpdate { state, stale }) = self.update.take() else { return Ok(()) };
        for (topic, keys) in stale.into_iter().enumerate() {
            for key in keys {
                self.send(topic, &key, None, headers(&model_id, version, None))?;
            }
        }
        let value = serde_json::to_vec(&state).map_err(|error| self.refused(error))?;
        self.send(2, STATE_KEY.as_bytes(), Some(&value), headers(&model_id, version, None))?;
        let committed = match &mut self.producer {
            Some(producer) => producer.commit(),
            None => return Err(self.refused("no update was begun")),
        };
        let ends = committed.map_err(|error| self.give_up(error))?;
        for (topic, partition, end) in &ends {
            self.ask(|reader| reader.await_end(topic, *partition, *end))?;
        }
        self.committed = Some((state, ends));
        Ok(())
    }
}
