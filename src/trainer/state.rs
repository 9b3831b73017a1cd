//! Everything that a worker must have to go on as if never stopped.

use crate::config::Config;
use crate::context::repeat_memory::Fading;
use crate::context::users::{Retention, Users};
use crate::evaluate::tally::EvalMetrics;
use crate::event::{EventCounts, Interaction};
use crate::model::Model;
use crate::negatives::BankVectors;
use crate::negatives::Vectors;
use crate::negatives::bank::Bank;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::mix::NoiseMix;
use crate::negatives::samplers::{Scene, Shown};
use crate::objective::Objectives;
use crate::objective::term::TermLoss;
use crate::position::{Ownerships, Positions};
use crate::snapshot::audit::Audit;
use crate::table::ids::Ids;
use crate::table::paged::Paged;
use crate::trainer::lifecycle::RowLifecycles;
use crate::trainer::pending::PendingBatch;

/// See the module. What a checkpoint holds is exactly this; `snapshot` names every field.
#[derive(Debug)]
pub struct State {
    /// Names of the items, by row.
    pub items: Ids,
    /// How often each item came, by row.
    pub occurrences: Paged<u64>,
    /// When it last came, milliseconds since 1970 UTC.
    pub last_event: Paged<i64>,
    /// Who keeps a row.
    pub tenure: RowLifecycles,
    /// The users and their pasts.
    pub users: Users,
    /// Every learned number of the score.
    pub model: Model,
    /// What the model is trained to do, and what is learnt for that besides.
    pub objectives: Objectives,
    /// q̂.
    pub frequencies: Frequencies,
    /// Which items can be drawn as noise.
    pub live: LiveItems,
    /// The samplers.
    pub noise: NoiseMix,
    /// The newest positives.
    pub bank: Bank,
    /// Negatives that turned out false.
    pub ledger: FalseNegativeTracker,
    /// What the evaluation found.
    pub tally: EvalMetrics,
    /// Steps taken.
    pub steps: u64,
    /// Loss and bound on information of the newest step that trained, in nats.
    pub last_loss: (f64, f64),
    /// How each part of the objectives did in that step.
    pub last_parts: Vec<TermLoss>,
    /// Events by what became of them.
    pub events: EventCounts,
    /// Share of the newest records that was rejected, with a memory that fades.
    pub rejected_share: f64,
    /// What became of each record, where that is kept.
    pub audit: Option<Audit>,
    /// Where the sources stand.
    pub positions: Positions,
    /// What else is known of the sources, and who the worker is.
    pub ownerships: Ownerships,
}

impl State {
    /// A model that has seen nothing.
    pub fn new(config: &Config) -> Self {
        let negatives = &config.negatives;
        Self {
            items: Ids::default(),
            occurrences: Paged::default(),
            last_event: Paged::default(),
            tenure: RowLifecycles::new(config),
            users: Users::new(retention(config)),
            model: Model::new(config),
            objectives: Objectives::new(config),
            frequencies: Frequencies::new(negatives.half_life.events()),
            live: LiveItems::new(horizon(config)),
            noise: NoiseMix::new(&negatives.noise.terms()),
            bank: Bank::new(negatives.bank, negatives.bank_age, negatives.bank_vectors == BankVectors::Frozen),
            ledger: FalseNegativeTracker::new(negatives.ledger_events),
            tally: EvalMetrics::new(0),
            steps: 0,
            last_loss: (0.0, 0.0),
            last_parts: Vec::new(),
            events: EventCounts::default(),
            rejected_share: 0.0,
            audit: config.checkpoint.audit.then(Audit::default),
            positions: Positions::default(),
            ownerships: Ownerships::default(),
        }
    }

    /// The row of item `name`; a new one where it had none.
    pub fn add_item(&mut self, name: &str) -> u32 {
        self.add_item_with(name, Vec::new)
    }

    /// The same; a new item's features fall into `buckets`.
    pub fn add_item_with(&mut self, name: &str, buckets: impl FnOnce() -> Vec<u32>) -> u32 {
        let item = self.items.intern(name);
        if item as usize == self.occurrences.len() {
            self.model.add_item_with(name, &buckets());
            self.occurrences.push(0);
            self.last_event.push(0);
            self.tenure.items.settle_in(name);
        }
        item
    }

    /// The row of user `name`; a new one where they had none.
    pub fn add_user(&mut self, name: &str) -> u32 {
        let n_users = self.users.ids.len();
        let user = self.users.row(name);
        if self.users.ids.len() > n_users {
            self.model.add_user(name);
            self.tenure.users.settle_in(name);
        }
        user
    }

    /// Rows of someone and of what they were shown; a new row for the user where one can be given at once and `incoming`
    /// others will still find room. `None` where either has none.
    pub fn show(&mut self, shown: &Interaction, incoming: usize) -> Option<Shown> {
        let item = self.items.get(&shown.item)?;
        let n_users = self.users.ids.len();
        let user = match self.users.ids.get(&shown.user) {
            Some(user) => user,
            None if self.tenure.users.has_room(n_users, incoming + 1) => self.add_user(&shown.user),
            None => return None,
        };
        Some(Shown { user, item, chosen: false })
    }

    /// Takes note of who came and has no row.
    pub(super) fn take_in(&mut self, waiting: &mut PendingBatch) {
        self.tenure.items.take_in(&mut waiting.items);
        self.tenure.users.take_in(&mut waiting.users);
    }

    /// An event of user `name` was not trained on, for want of a row for its item; whether it would have been ranked.
    pub(super) fn defer(&mut self, name: &str, now: u64) -> bool {
        let Some(user) = self.users.ids.get(name) else { return false };
        self.tenure.users.see(user, now);
        self.users.users.get(user as usize).is_known()
    }

    /// What samplers see of it, and the samplers.
    pub fn scene(&self) -> (Scene<'_>, &NoiseMix) {
        let vectors: &dyn Vectors = &self.model;
        (Scene { frequencies: &self.frequencies, live: &self.live, vectors }, &self.noise)
    }
}

/// For how many events an item can be drawn after its last one.
pub fn horizon(config: &Config) -> u64 {
    match config.negatives.live_events {
        0 => u64::MAX,
        events => events,
    }
}

/// How much of the users' pasts is kept.
pub fn retention(config: &Config) -> Retention {
    Retention {
        context: config.context.length,
        fading: Fading::new(config.repetition.half_life, config.repetition.items),
        repeat: config.evaluate.repeat,
        own_items: config.evaluate.own_items,
    }
}
