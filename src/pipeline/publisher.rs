//! Brings sinks up to the table of a checkpoint once the checkpoint is durable.

use crate::publish::{EmbeddingSink, ItemRow, SinkError, Update, UpdateKind, Version};
use crate::trainer::changes::EmbeddingChanges;
use crate::trainer::state_snapshot::StateSnapshot;

/// Rows that a sink is given at a time.
const ROWS_PER_CALL: usize = 4_096;

/// The sinks of a pipeline, and how far each of them is.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    sinks: Vec<SinkProgress>,
    /// The space of the embeddings: [`Update::model_id`].
    model_id: String,
}

#[derive(Debug)]
struct SinkProgress {
    sink: Box<dyn EmbeddingSink>,
    /// The newest version that the sink has committed in this process; `None` where a full update is to come next.
    committed: Option<Version>,
}

impl Publisher {
    /// A publisher to `sinks`, each of which is to get a full update first.
    pub(super) fn new(sinks: Vec<Box<dyn EmbeddingSink>>, model_id: String) -> Self {
        Self { model_id, sinks: sinks.into_iter().map(|sink| SinkProgress { sink, committed: None }).collect() }
    }

    /// Brings each sink up to `frozen`, the state of checkpoint number `checkpoint`; `changes` are those since the checkpoint
    /// before it, `None` where they are not known. A sink that fails is logged, and gets a full update next time.
    pub(super) fn publish(&mut self, frozen: &StateSnapshot, changes: Option<&EmbeddingChanges>, checkpoint: u64) {
        for SinkProgress { sink, committed } in &mut self.sinks {
            let update = next_update(*committed, changes, checkpoint, frozen, self.model_id.clone());
            if *committed == Some(update.version) {
                // No step since: no embedding has changed.
                continue;
            }
            *committed = match send(sink.as_mut(), &update, frozen, changes) {
                Ok(()) => Some(update.version),
                Err(error) => {
                    tracing::error!(%error, sink = sink.name(), "publishing failed, all rows follow the next checkpoint");
                    None
                }
            };
        }
    }

    /// A checkpoint failed: sinks did not hear of the changes in it.
    pub(super) fn miss(&mut self) {
        self.sinks.iter_mut().for_each(|progress| progress.committed = None);
    }
}

/// The update that follows the version `committed`. Without changes that are known, it brings every row.
fn next_update(
    committed: Option<Version>,
    changes: Option<&EmbeddingChanges>,
    checkpoint: u64,
    frozen: &StateSnapshot,
    model_id: String,
) -> Update {
    let (step, dim) = (frozen.progress.steps, frozen.model.dim());
    match (committed, changes) {
        (Some(Version { epoch, .. }), Some(_)) => {
            Update { kind: UpdateKind::Delta, version: Version { epoch, step }, dim, model_id }
        }
        _ => Update {
            kind: UpdateKind::Full,
            version: Version { epoch: checkpoint, step },
            dim,
            model_id: String::new(),
        },
    }
}

fn send(
    sink: &mut dyn EmbeddingSink,
    update: &Update,
    frozen: &StateSnapshot,
    changes: Option<&EmbeddingChanges>,
) -> Result<(), SinkError> {
    sink.begin(update)?;
    match (update.kind, changes) {
        (UpdateKind::Delta, Some(EmbeddingChanges { changed, removed })) => {
            for item_ids in removed.chunks(ROWS_PER_CALL) {
                sink.remove(&item_ids.iter().map(|item_id| item_id.as_str()).collect::<Vec<_>>())?;
            }
            upsert(sink, frozen, changed.iter().map(|row| *row as usize))?;
        }
        _ => upsert(sink, frozen, 0..frozen.items.names.len())?,
    }
    sink.commit()
}

fn upsert(
    sink: &mut dyn EmbeddingSink,
    frozen: &StateSnapshot,
    rows: impl Iterator<Item = usize>,
) -> Result<(), SinkError> {
    let StateSnapshot { items, model, frequencies, .. } = frozen;
    let dim = model.dim();
    let mut embeddings = vec![0.0; ROWS_PER_CALL * dim];
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let slice: Vec<usize> = rows.by_ref().take(ROWS_PER_CALL).collect();
        for (row, out) in slice.iter().zip(embeddings.chunks_exact_mut(dim)) {
            model.served(*row, out);
        }
        let row = |(row, embedding): (&usize, _)| ItemRow {
            item_id: items.names.get(*row).as_str(),
            embedding,
            log_frequency: frequencies.log_frequency(*row as u32),
        };
        sink.upsert(&slice.iter().zip(embeddings.chunks_exact(dim)).map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}
