//! Adoption: a new worker begins with the checkpoint of another one that shares the model.

use crate::config::Config;
use crate::evaluate::metrics::EvalMetrics;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::position::cuts::Cuts;
use crate::position::{Ownerships, Positions};
use crate::table::row_remap::RowRemap;
use crate::trainer::audit::RecordAudit;
use crate::trainer::lifecycle::RowLifecycle;
use crate::trainer::state::State;

impl State {
    /// Makes of the state of another worker that of a new one: the model and its counts stay; users, and what was measured by
    /// the other's own events, go. The other's events are those of others from now on.
    pub fn adopt(&mut self, config: &Config) {
        self.keep_users(&RowRemap::of_rows(self.users.ids.len(), |_| false));
        self.users.lifecycle = RowLifecycle::new(&config.memory.users, config.seed);
        self.negatives.false_negatives = FalseNegativeTracker::new(config.negatives.false_negative_window);
        let progress = &mut self.progress;
        let theirs = std::mem::take(&mut progress.events);
        progress.others.used += theirs.used;
        progress.others.positives += theirs.positives();
        // The number of the model's version never goes back.
        progress.others.deltas += std::mem::take(&mut progress.steps);
        progress.evaluation = EvalMetrics::new(0).with_own_history(config.evaluate.repeat);
        progress.rejected_share = 0.0;
        let sources = &mut self.sources;
        sources.ownerships = Ownerships::default();
        sources.audit = config.checkpoint.audit.then(RecordAudit::default);
        sources.cuts = Cuts::default();
        if let Some(shared) = &mut sources.shared {
            shared.histories = Positions::default();
        }
    }
}
