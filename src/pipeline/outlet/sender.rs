//! The thread of a sink: it sends what waits, and asks for the whole table after an error.

use compact_str::CompactString;

use super::super::change_set::ChangeSet;
use super::super::user_queries::UserQueries;
use super::mailbox::Mailbox;
use super::{RETRY, RETRY_REFUSED};
use crate::publish::full_update::{ROWS_PER_CALL, next_epoch};
use crate::publish::{EmbeddingSink, ItemRow, SinkError, Update, UpdateKind, UserQuery, Version};

/// What the thread of a sink knows.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) sink: Box<dyn EmbeddingSink>,
    pub(super) model_id: String,
    pub(super) replace: bool,
    /// The epoch of the newest full update of this process.
    pub(super) epoch: Option<u64>,
    /// Whether the next full update has an epoch of its own: not where the newest was refused.
    pub(super) rises: bool,
}

impl Sender {
    pub(super) fn run(&mut self, mailbox: &Mailbox) {
        let mut delay = RETRY[0];
        while let Some(set) = mailbox.take() {
            match self.send(&set) {
                Ok(()) => {
                    delay = RETRY[0];
                    mailbox.lock().note_taken(&set);
                }
                Err(error) => {
                    tracing::error!(%error, sink = self.sink.name(), "publishing failed, all rows follow");
                    // What was sent may have arrived, though nobody said so.
                    self.rises |= error.is_away();
                    let wait = if error.is_away() { delay } else { RETRY_REFUSED };
                    mailbox.note_failed(&set, !error.is_away());
                    drop(set);
                    mailbox.wait_for_retry(wait);
                    delay = (2 * delay).min(RETRY[1]);
                }
            }
        }
    }

    fn send(&mut self, set: &ChangeSet) -> Result<(), SinkError> {
        if set.is_empty() {
            return Ok(());
        }
        let epoch = match (self.epoch, set.kind) {
            // One that was refused is tried under its own epoch: who was overtaken by another worker climbs no higher than it.
            (Some(epoch), UpdateKind::Full) if self.rises => epoch + 1,
            (Some(epoch), _) => epoch,
            (None, _) => next_epoch(self.sink.as_mut(), &self.model_id, set.dim, self.replace)?,
        };
        self.epoch = Some(epoch);
        self.rises &= set.kind == UpdateKind::Delta;
        let ChangeSet { kind, step, dim, .. } = *set;
        let sink = self.sink.as_mut();
        sink.begin(&Update { kind, version: Version { epoch, step }, dim, model_id: &self.model_id })?;
        for item_ids in set.removed.chunks(ROWS_PER_CALL) {
            sink.remove(&item_ids.iter().map(|item_id| item_id.as_str()).collect::<Vec<_>>())?;
        }
        let rows = set.names.iter().zip(set.embeddings.chunks_exact(dim)).zip(&set.log_frequencies);
        let rows: Vec<ItemRow<'_>> = rows
            .map(|((item_id, embedding), log_frequency)| ItemRow {
                item_id: item_id.as_str(),
                embedding,
                log_frequency: *log_frequency,
            })
            .collect();
        rows.chunks(ROWS_PER_CALL).try_for_each(|rows| sink.upsert(rows))?;
        for popularity in set.popularity.chunks(ROWS_PER_CALL) {
            let popularity: Vec<(&str, f32)> =
                popularity.iter().map(|(item_id, log)| (item_id.as_str(), *log)).collect();
            sink.set_popularity(&popularity)?;
        }
        let UserQueries { names, vectors, beta_tau } = &set.queries;
        let query = |(user_id, vector)| UserQuery { user_id, vector, beta_tau: *beta_tau };
        let queries: Vec<UserQuery<'_>> =
            names.iter().map(CompactString::as_str).zip(vectors.chunks_exact(dim)).map(query).collect();
        queries.chunks(ROWS_PER_CALL).try_for_each(|queries| sink.set_queries(queries))?;
        sink.commit()?;
        if kind == UpdateKind::Full {
            tracing::info!(sink = sink.name(), rows = set.names.len(), epoch, step, "a sink holds the whole table");
        }
        self.rises = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::set;
    use super::*;
    use crate::publish::MemorySink;

    #[test]
    fn other_models_and_dimensions_are_refused_unless_they_are_to_be_replaced() {
        let sink = MemorySink::new();
        let sender = |model_id: &str, replace| Sender {
            sink: Box::new(sink.clone()),
            model_id: model_id.to_owned(),
            replace,
            epoch: None,
            rises: false,
        };
        sender("a", false).send(&set(UpdateKind::Full, 7, &["x"])).unwrap();
        let said = sender("b", false).send(&set(UpdateKind::Full, 1, &["y"])).unwrap_err().to_string();
        assert!(said.contains("memory") && said.contains("replace = true") && said.contains("(a, "), "{said}");
        let wider = ChangeSet { dim: 2, ..Arc::into_inner(set(UpdateKind::Full, 1, &[])).unwrap() };
        let said = sender("a", false).send(&wider).unwrap_err().to_string();
        assert!(said.contains("memory") && said.contains("1 numbers") && said.contains("have 2"), "{said}");
        assert_eq!(sink.version(), Some(Version { epoch: 1, step: 7 }));
        sender("b", true).send(&set(UpdateKind::Full, 1, &["y"])).unwrap();
        assert_eq!((sink.rows().len(), sink.version()), (1, Some(Version { epoch: 2, step: 1 })));
    }

    #[test]
    fn worker_that_was_overtaken_climbs_no_higher_than_the_newer_one() {
        let sink = MemorySink::new();
        let sender = || Sender {
            sink: Box::new(sink.clone()),
            model_id: "model".to_owned(),
            replace: false,
            epoch: None,
            rises: false,
        };
        let (mut old, mut new) = (sender(), sender());
        old.send(&set(UpdateKind::Full, 1, &["x"])).unwrap();
        new.send(&set(UpdateKind::Full, 1, &["y"])).unwrap();
        new.send(&set(UpdateKind::Full, 2, &["y"])).unwrap();
        (3..20).for_each(|step| assert!(old.send(&set(UpdateKind::Full, step, &["x"])).is_err()));
        assert_eq!(sink.version(), Some(Version { epoch: 3, step: 2 }));
        assert!(sink.get("y").is_some());
    }
}
