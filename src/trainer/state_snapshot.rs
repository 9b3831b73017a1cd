//! A snapshot of the state at the end of a batch, to be written down while training goes on.
//!
//! Tables and arrays are shared with the state until it writes to them ([`crate::table::chunks`],
//! [`crate::table::paged`]), so that taking a snapshot costs milliseconds at a million items. It takes memory as training
//! moves on: at most as much as the tables hold. What is small, or a sampler keeps, is copied. What can be computed anew
//! (norms, vectors, the index of names) is left out.

use super::state::{FrozenItems, FrozenUsers, NegativeSources, Progress, SourceProgress, State};
use crate::event::{EventCounts, Evicted};
use crate::model::Model;
use crate::negatives::bank::Bank;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::frequency::Frequencies;
use crate::position::{OwnershipRecord, Positions};
use crate::state_dict::StateDict;
use crate::table::adagrad::Parameters;

/// A frozen copy of a [`State`], which may change meanwhile.
#[derive(Debug)]
pub struct StateSnapshot {
    /// Names, counts and lifecycle of the items.
    pub items: FrozenItems,
    /// Names, histories and lifecycle of the users.
    pub users: FrozenUsers,
    /// The model.
    pub model: Model,
    /// The parameters of model and objectives that belong to no row, by name.
    pub parameters: Vec<(String, Parameters)>,
    /// The decayed frequency of each item.
    pub frequencies: Frequencies,
    /// Arrays of the live items.
    pub live_items: StateDict,
    /// Arrays of the samplers.
    pub samplers: StateDict,
    /// Arrays of the objectives.
    pub objectives: StateDict,
    /// The memory bank.
    pub bank: Bank,
    /// Negatives that are watched, and those that turned out false.
    pub false_negatives: FalseNegativeTracker,
    /// How far training was.
    pub progress: Progress,
    /// How far the streams were read.
    pub sources: SourceProgress,
}

impl StateSnapshot {
    /// Rows of items and users that had been evicted.
    pub fn evicted(&self) -> Evicted {
        Evicted { items: self.items.lifecycle.evicted(), users: self.users.lifecycle.evicted() }
    }

    /// Events by what had become of them.
    pub fn events(&self) -> EventCounts {
        self.progress.events
    }

    /// For each stream, the first offset that is not part of the snapshot.
    pub fn positions(&self) -> &Positions {
        &self.sources.positions
    }

    /// The positions of the streams that are held through a claim in a group.
    pub fn claimed_positions(&self) -> Positions {
        let is_claimed = |stream: &str| matches!(self.sources.ownerships.of(stream).record, OwnershipRecord::Claim(_));
        self.positions().iter().filter(|(stream, _)| is_claimed(stream)).collect()
    }
}

impl State {
    /// Takes a snapshot.
    #[must_use]
    pub fn freeze(&mut self) -> StateSnapshot {
        // Named one by one, so that a group which is not saved does not compile.
        let Self { items, users, model, objectives, negatives, progress, sources } = self;
        let NegativeSources { frequencies, live, noise, bank, false_negatives } = negatives;
        let of_model = model.parameters_mut().map(|(name, parameters)| (name.into_owned(), parameters));
        let parameters = of_model.chain(objectives.parameters_mut());
        let parameters = parameters.map(|(name, parameters)| (name, parameters.clone())).collect();
        let arrays = || {
            let [mut of_live, mut of_noise, mut of_objectives] = std::array::from_fn(|_| StateDict::default());
            live.save(&mut of_live);
            noise.save(&mut of_noise);
            objectives.save(&mut of_objectives);
            (of_live, of_noise, of_objectives)
        };
        let ((live_items, samplers, objectives), model) = rayon::join(arrays, || model.freeze());
        StateSnapshot {
            items: items.freeze(),
            users: users.freeze(),
            model,
            parameters,
            frequencies: frequencies.clone(),
            live_items,
            samplers,
            objectives,
            bank: bank.clone(),
            false_negatives: false_negatives.to_be_saved(),
            progress: progress.clone(),
            sources: sources.clone(),
        }
    }

    /// Takes back the rows that were shared with snapshots which are gone, `budget` rows at most. Gives whether nothing is
    /// shared any more; training goes on all the same before, but slower.
    pub fn thaw(&mut self, mut budget: usize) -> bool {
        let Self { items, users, model, .. } = self;
        model.thaw(&mut budget) & items.thaw(&mut budget) & users.thaw(&mut budget)
    }
}
