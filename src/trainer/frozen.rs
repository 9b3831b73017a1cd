//! The state as it stands at the end of a batch, to be written down while training goes on.
//!
//! Tables and arrays are shared with the state until it writes to them ([`crate::table::chunks`],
//! [`crate::table::paged`]), so that taking one costs milliseconds at a million items, and memory as training moves on: at
//! most as much as the tables hold. What is small, or a sampler keeps, is copied. What can be made anew of the rest (norms,
//! vectors, the index of names) is not there.

use compact_str::CompactString;

use super::audit::Audit;
use super::state::State;
use super::tenure::Tenures;
use crate::context::users::User;
use crate::evaluate::tally::Tally;
use crate::event::{EventCounts, Evicted};
use crate::negatives::bank::Bank;
use crate::negatives::frequency::Frequencies;
use crate::negatives::ledger::Ledger;
use crate::negatives::saved::Saved;
use crate::objective::model::Model;
use crate::objective::term::TermLoss;
use crate::position::{Hold, Holdings, Positions};
use crate::table::adagrad::Parameters;
use crate::table::paged::Paged;
use crate::table::records::Records;

/// See the module. Fields are those of [`State`], unless they say otherwise.
#[derive(Debug)]
pub struct Frozen {
    pub(super) items: Records<CompactString>,
    pub(super) occurrences: Paged<u64>,
    pub(super) last_event: Paged<i64>,
    /// Names of the users, and their pasts.
    pub(super) users: (Records<CompactString>, Records<User>),
    pub(super) model: Model,
    /// The numbers of model and objectives that belong to no row, by name.
    pub(super) numbers: Vec<(String, Parameters)>,
    pub(super) frequencies: Frequencies,
    /// What live items, samplers and objectives keep.
    pub(super) arrays: Saved,
    pub(super) tenure: Tenures,
    pub(super) bank: Bank,
    pub(super) ledger: Ledger,
    pub(super) tally: Tally,
    pub(super) steps: u64,
    pub(super) last_loss: (f64, f64),
    pub(super) last_parts: Vec<TermLoss>,
    pub(super) events: EventCounts,
    pub(super) rejected_share: f64,
    pub(super) audit: Option<Audit>,
    pub(super) positions: Positions,
    pub(super) holdings: Holdings,
}

impl Frozen {
    /// Rows that went.
    pub(super) fn evicted(&self) -> Evicted {
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
        let is_claimed = |stream: &str| matches!(self.holdings.of(stream).hold, Hold::Claim(_));
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
            holdings,
        } = self;
        let numbers = model.numbers().into_iter().chain(objectives.numbers());
        let numbers = numbers.map(|(name, numbers)| (name, numbers.clone())).collect();
        let save = || {
            let mut arrays = Saved::default();
            arrays.within("live", |saved| live.save(saved));
            arrays.within("noise", |saved| noise.save(saved));
            arrays.within("objective", |saved| objectives.save(saved));
            arrays
        };
        let (arrays, model) = rayon::join(save, || model.freeze());
        Frozen {
            numbers,
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
            holdings: holdings.clone(),
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
