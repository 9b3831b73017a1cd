//! The state as it stands at the end of a batch, to be written down while training goes on.
//!
//! Tables and arrays are shared with the state until it writes to them ([`crate::table::chunks`],
//! [`crate::table::paged`]), so that taking one costs milliseconds at a million items, and memory as training moves on: at
//! most as much as the tables hold. What is small, or a sampler keeps, is copied. What can be made anew of the rest (norms,
//! vectors, the index of names) is not there.

use crate::event::{EventCounts, Evicted};
use crate::model::Model;
use crate::negatives::bank::Bank;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::frequency::Frequencies;
use crate::position::{OwnershipRecord, Positions};
use crate::state_dict::StateDict;
use crate::table::adagrad::Parameters;
use crate::trainer::state::{FrozenItems, FrozenUsers, NegativeSources, Progress, SourceProgress, State};

/// A frozen copy of a [`State`], group by group.
#[derive(Debug)]
pub struct Frozen {
    pub(crate) items: FrozenItems,
    pub(crate) users: FrozenUsers,
    pub(crate) model: Model,
    /// The parameters of model and objectives that belong to no row, by name.
    pub(crate) parameters: Vec<(String, Parameters)>,
    /// What live items, samplers and objectives keep.
    pub(crate) arrays: StateDict,
    pub(crate) frequencies: Frequencies,
    pub(crate) bank: Bank,
    pub(crate) false_negatives: FalseNegativeTracker,
    pub(crate) progress: Progress,
    pub(crate) sources: SourceProgress,
}

impl Frozen {
    /// Rows that went.
    pub(crate) fn evicted(&self) -> Evicted {
        Evicted { items: self.items.lifecycle.evicted(), users: self.users.lifecycle.evicted() }
    }

    /// Events by what had become of them.
    pub fn events(&self) -> EventCounts {
        self.progress.events
    }

    /// Where the sources stood.
    pub fn positions(&self) -> &Positions {
        &self.sources.positions
    }

    /// Where they stood, of the streams that are held as the member of a group.
    pub fn claimed(&self) -> Positions {
        let is_claimed = |stream: &str| matches!(self.sources.ownerships.of(stream).record, OwnershipRecord::Claim(_));
        self.sources.positions.iter().filter(|(stream, _)| is_claimed(stream)).collect()
    }
}

impl State {
    /// The state as it is, whatever becomes of it.
    #[must_use]
    pub fn freeze(&mut self) -> Frozen {
        // Named one by one, so that a group which is not saved does not compile.
        let Self { items, users, model, objectives, negatives, progress, sources } = self;
        let NegativeSources { frequencies, live, noise, bank, false_negatives } = negatives;
        let of_model = model.parameters_mut().map(|(name, parameters)| (name.into_owned(), parameters));
        let parameters = of_model.chain(objectives.parameters_mut());
        let parameters = parameters.map(|(name, parameters)| (name, parameters.clone())).collect();
        let save = || {
            let mut arrays = StateDict::default();
            arrays.within("live", |saved| live.save(saved));
            arrays.within("noise", |saved| noise.save(saved));
            arrays.within("objective", |saved| objectives.save(saved));
            arrays
        };
        let (arrays, model) = rayon::join(save, || model.freeze());
        Frozen {
            items: items.freeze(),
            users: users.freeze(),
            model,
            parameters,
            arrays,
            frequencies: frequencies.clone(),
            bank: bank.clone(),
            false_negatives: false_negatives.to_be_saved(),
            progress: progress.clone(),
            sources: sources.clone(),
        }
    }

    /// Takes back what frozen copies that are gone had shared, until so many rows (`budget`) were moved; whether nothing is
    /// shared any more. Training goes on just the same before, but slower.
    pub fn thaw(&mut self, mut budget: usize) -> bool {
        let Self { items, users, model, .. } = self;
        model.thaw(&mut budget) && items.thaw(&mut budget) && users.thaw(&mut budget)
    }
}
