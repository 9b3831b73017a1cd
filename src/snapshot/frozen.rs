//! The state as it stands at the end of a batch, to be written down while training goes on.
//!
//! Tables and arrays are shared with the state until it writes to them ([`crate::table::chunks`],
//! [`crate::table::paged`]), so that taking one costs milliseconds at a million items, and memory as training moves on: at
//! most as much as the tables hold. What is small, or a sampler keeps, is copied. What can be made anew of the rest (norms,
//! vectors, the index of names) is not there.

use compact_str::CompactString;

use crate::context::users::User;
use crate::evaluate::tally::EvalMetrics;
use crate::event::{EventCounts, Evicted};
use crate::model::Model;
use crate::negatives::bank::Bank;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::frequency::Frequencies;
use crate::objective::term::TermLoss;
use crate::position::{OwnershipRecord, Ownerships, Positions};
use crate::snapshot::audit::Audit;
use crate::state_dict::StateDict;
use crate::table::adagrad::Parameters;
use crate::table::paged::Paged;
use crate::table::records::Records;
use crate::trainer::lifecycle::RowLifecycles;
use crate::trainer::state::State;

/// See the module. Fields are those of [`State`], unless they say otherwise.
#[derive(Debug)]
pub struct Frozen {
    pub(crate) items: Records<CompactString>,
    pub(crate) occurrences: Paged<u64>,
    pub(crate) last_event: Paged<i64>,
    /// Names of the users, and their pasts.
    pub(crate) users: (Records<CompactString>, Records<User>),
    pub(crate) model: Model,
    /// The parameters of model and objectives that belong to no row, by name.
    pub(crate) parameters: Vec<(String, Parameters)>,
    pub(crate) frequencies: Frequencies,
    /// What live items, samplers and objectives keep.
    pub(crate) arrays: StateDict,
    pub(crate) tenure: RowLifecycles,
    pub(crate) bank: Bank,
    pub(crate) ledger: FalseNegativeTracker,
    pub(crate) tally: EvalMetrics,
    pub(crate) steps: u64,
    pub(crate) last_loss: (f64, f64),
    pub(crate) last_parts: Vec<TermLoss>,
    pub(crate) events: EventCounts,
    pub(crate) rejected_share: f64,
    pub(crate) audit: Option<Audit>,
    pub(crate) positions: Positions,
    pub(crate) ownerships: Ownerships,
}

impl Frozen {
    /// Rows that went.
    pub(crate) fn evicted(&self) -> Evicted {
        self.tenure.evicted()
    }

    /// Events by what had become of them.
    pub fn events(&self) -> EventCounts {
        self.events
    }

    /// Where the sources stood.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Where they stood, of the streams that are held as the member of a group.
    pub fn claimed(&self) -> Positions {
        let is_claimed = |stream: &str| matches!(self.ownerships.of(stream).record, OwnershipRecord::Claim(_));
        self.positions.iter().filter(|(stream, _)| is_claimed(stream)).collect()
    }
}

impl State {
    /// The state as it is, whatever becomes of it.
    #[must_use]
    pub fn freeze(&mut self) -> Frozen {
        // Named one by one, so that a field which is not saved does not compile.
        let Self {
            items,
            occurrences,
            last_event,
            tenure,
            users,
            model,
            objectives,
            frequencies,
            live,
            noise,
            bank,
            ledger,
            tally,
            steps,
            last_loss,
            last_parts,
            events,
            rejected_share,
            audit,
            positions,
            ownerships,
        } = self;
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
            parameters,
            items: items.freeze(),
            occurrences: occurrences.clone(),
            last_event: last_event.clone(),
            users: (users.ids.freeze(), users.users.freeze()),
            model,
            frequencies: frequencies.clone(),
            arrays,
            tenure: tenure.clone(),
            bank: bank.clone(),
            ledger: ledger.to_be_saved(),
            tally: tally.clone(),
            steps: *steps,
            last_loss: *last_loss,
            last_parts: last_parts.clone(),
            events: *events,
            rejected_share: *rejected_share,
            audit: audit.clone(),
            positions: positions.clone(),
            ownerships: ownerships.clone(),
        }
    }

    /// Takes back what frozen states that are gone shared, until so many rows (`budget`) were moved; whether nothing is
    /// shared any more. Training goes on just the same before, but slower.
    pub fn thaw(&mut self, mut budget: usize) -> bool {
        let Self { items, users, model, .. } = self;
        model.thaw(&mut budget)
            && items.thaw(&mut budget)
            && users.ids.thaw(&mut budget)
            && users.users.thaw(&mut budget)
    }
}
