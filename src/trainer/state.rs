//! The state: everything that a worker must have to go on as if it had never stopped.
//!
//! It is in groups, each of which remaps its own rows after an eviction and knows how it is frozen:
//!
//! | group | what it holds |
//! | --- | --- |
//! | [`ItemStore`] | names, counts and row lifecycle of the items |
//! | [`UserStore`] | names, histories and row lifecycle of the users |
//! | [`Model`], [`Objectives`] | what is learnt |
//! | [`NegativeSources`] | what negatives are drawn from, and how they turned out |
//! | [`Progress`] | how far training is, and how it does |
//! | [`SourceProgress`] | how far the streams are read |

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::context::cooccurrence::{CooccurrenceLimits, Cooccurrences, Neighborhood};
use crate::context::repeat_memory::RepeatDecay;
use crate::context::users::{Retention, UserHistories, UserHistory};
use crate::evaluate::metrics::EvalMetrics;
use crate::event::{EventCounts, Evicted, Interaction};
use crate::kernel::Kernel;
use crate::model::Model;
use crate::negatives::bank::Bank;
use crate::negatives::false_negatives::FalseNegativeTracker;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::mix::NoiseMix;
use crate::negatives::samplers::{Shown, StreamView};
use crate::negatives::{BankVectors, Vectors};
use crate::objective::Objectives;
use crate::objective::step::ObjectiveLoss;
use crate::position::cuts::Cuts;
use crate::position::{Ownerships, Positions};
use crate::share::{GroupClock, SharedProgress};
use crate::table::changes::ChangeMark;
use crate::table::ids::Ids;
use crate::table::paged::Paged;
use crate::table::records::Records;
use crate::table::row_remap::RowRemap;
use crate::trainer::audit::RecordAudit;
use crate::trainer::changes::EvictedNames;
use crate::trainer::lifecycle::RowLifecycle;
use crate::trainer::pending::PendingBatch;

/// Everything that a checkpoint holds, no more and no less.
#[derive(Debug)]
pub struct State {
    /// The items.
    pub items: ItemStore,
    /// The users.
    pub users: UserStore,
    /// Every learned parameter of the score.
    pub model: Model,
    /// What the model is trained to do, and what is learnt for that besides the model.
    pub objectives: Objectives,
    /// What negatives are drawn from.
    pub negatives: NegativeSources,
    /// How far training is.
    pub progress: Progress,
    /// How far the streams are read.
    pub sources: SourceProgress,
}

/// The items, by row: names, counts, and which of them keep a row.
#[derive(Debug)]
pub struct ItemStore {
    /// Names of the items.
    pub ids: Ids,
    /// Positive events of each item.
    pub occurrences: Paged<u64>,
    /// Time of each item's newest positive event, milliseconds since 1970 UTC.
    pub last_event: Paged<i64>,
    /// Which items follow one another.
    pub cooccurrences: Cooccurrences,
    /// Admission and eviction.
    pub lifecycle: RowLifecycle,
    /// Names of evicted items, where the changes of embeddings are tracked; no part of a checkpoint.
    pub(super) evicted_names: Option<EvictedNames>,
    /// Up to where [`State::drain_changes`] has given changes; no part of a checkpoint.
    pub(super) drained: ChangeMark,
}

/// The users, by row: names, histories, and which of them keep a row.
#[derive(Debug)]
pub struct UserStore {
    /// Names of the users.
    pub ids: Ids,
    /// What each user had, as far as it is remembered.
    pub histories: UserHistories,
    /// Admission and eviction.
    pub lifecycle: RowLifecycle,
}

/// What negatives are drawn from, and how drawn negatives turned out.
#[derive(Debug)]
pub struct NegativeSources {
    /// q̂, the decayed frequency of each item.
    pub frequencies: Frequencies,
    /// The items that can be drawn as noise.
    pub live: LiveItems,
    /// The noise samplers.
    pub noise: NoiseMix,
    /// The newest positives.
    pub bank: Bank,
    /// Negatives that are watched, and those that the same user chose soon after.
    pub false_negatives: FalseNegativeTracker,
}

/// Events of other workers that are part of the state, where workers share a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OthersEvents {
    /// Events that they trained on.
    pub used: u64,
    /// Events of a positive type, those of items without a row included.
    pub positives: u64,
    /// Deltas that they came in.
    #[serde(default)]
    pub deltas: u64,
}

/// How far training is, and how well it does.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Steps taken.
    pub steps: u64,
    /// Events by what became of them.
    pub events: EventCounts,
    /// Events of other workers.
    pub others: OthersEvents,
    /// Loss and bound on information of the newest step that trained, in nats.
    pub last_loss: (f64, f64),
    /// How each part of the objectives did in that step.
    pub last_parts: Vec<ObjectiveLoss>,
    /// What test-then-train evaluation measured.
    pub evaluation: EvalMetrics,
    /// Share of the newest records that was rejected, an exponential moving average.
    pub rejected_share: f64,
}

/// How far the streams are read, and whose they are.
#[derive(Debug, Clone)]
pub struct SourceProgress {
    /// For each stream, the first offset that is not part of the state.
    pub positions: Positions,
    /// How each stream is held, and which member of its group the worker is.
    pub ownerships: Ownerships,
    /// What became of each record, where an audit is asked for.
    pub audit: Option<RecordAudit>,
    /// Where batches were cut by something else than the log, since the newest durable checkpoint.
    pub cuts: Cuts,
    /// How far the worker is with what others send, where its model is shared.
    pub shared: Option<SharedProgress>,
}

/// A frozen copy of an [`ItemStore`].
#[derive(Debug)]
pub struct FrozenItems {
    /// Names of the items, by row.
    pub names: Records<CompactString>,
    /// As [`ItemStore::occurrences`].
    pub occurrences: Paged<u64>,
    /// As [`ItemStore::last_event`].
    pub last_event: Paged<i64>,
    /// As [`ItemStore::cooccurrences`]; none where nothing is counted.
    pub neighborhoods: Records<Neighborhood>,
    /// As [`ItemStore::lifecycle`].
    pub lifecycle: RowLifecycle,
}

/// A frozen copy of a [`UserStore`].
#[derive(Debug)]
pub struct FrozenUsers {
    /// Names of the users, by row.
    pub names: Records<CompactString>,
    /// History of each user, by row.
    pub histories: Records<UserHistory>,
    /// As [`UserStore::lifecycle`].
    pub lifecycle: RowLifecycle,
}

impl State {
    /// The state of a model that has seen no event; it computes with `kernel`.
    pub fn new(config: &Config, kernel: Kernel) -> Self {
        let negatives = &config.negatives;
        Self {
            items: ItemStore {
                ids: Ids::default(),
                occurrences: Paged::default(),
                last_event: Paged::default(),
                cooccurrences: Cooccurrences::new(CooccurrenceLimits {
                    window: config.cooccurrence.window,
                    neighbors: config.cooccurrence.neighbors,
                    plain_cosine: config.cooccurrence.plain_cosine,
                }),
                lifecycle: RowLifecycle::new(&config.memory.items, config.seed),
                evicted_names: None,
                drained: ChangeMark::START,
            },
            users: UserStore {
                ids: Ids::default(),
                histories: UserHistories::new(retention(config)),
                lifecycle: RowLifecycle::new(&config.memory.users, config.seed),
            },
            model: Model::new(config, kernel),
            objectives: Objectives::new(config),
            negatives: NegativeSources {
                frequencies: Frequencies::configured(negatives, config.evaluate.popularity_half_life),
                live: LiveItems::new(horizon(config)),
                noise: NoiseMix::new(&negatives.noise.terms()),
                bank: Bank::new(negatives.bank, negatives.bank_max_age, negatives.bank_vectors == BankVectors::Frozen),
                false_negatives: FalseNegativeTracker::new(negatives.false_negative_window),
            },
            progress: Progress {
                steps: 0,
                events: EventCounts::default(),
                others: OthersEvents::default(),
                last_loss: (0.0, 0.0),
                last_parts: Vec::new(),
                evaluation: EvalMetrics::new(0).with_own_history(config.evaluate.repeat),
                rejected_share: 0.0,
            },
            sources: SourceProgress {
                positions: Positions::default(),
                ownerships: Ownerships::default(),
                audit: config.checkpoint.audit.then(RecordAudit::default),
                cuts: Cuts::default(),
                shared: None,
            },
        }
    }

    /// The row of item `name`, a new one where it had none; nothing is known of a new item.
    pub fn add_item(&mut self, name: &str) -> u32 {
        self.add_item_with(name, Vec::new)
    }

    /// The row of item `name`, a new one where it had none; the features of a new item fall into `buckets`.
    pub fn add_item_with(&mut self, name: &str, buckets: impl FnOnce() -> Vec<u32>) -> u32 {
        let Self { items: ItemStore { ids, occurrences, last_event, cooccurrences, lifecycle, .. }, model, .. } = self;
        let item = ids.intern(name);
        if item as usize == occurrences.len() {
            model.add_item_with(name, &buckets());
            occurrences.push(0);
            last_event.push(0);
            cooccurrences.push();
            lifecycle.admitted(name);
        }
        item
    }

    /// The row of user `name`, a new one where they had none.
    pub fn add_user(&mut self, name: &str) -> u32 {
        let Self { users: UserStore { ids, histories, lifecycle }, model, .. } = self;
        let user = ids.intern(name);
        if user as usize == histories.len() {
            histories.push();
            model.add_user(name);
            lifecycle.admitted(name);
        }
        user
    }

    /// The rows of a user and of the item that they were shown. The user gets a new row where one can be given at once and
    /// `incoming` other users will still find room. `None` where the user or the item has no row.
    pub fn exposure(&mut self, shown: &Interaction, incoming: usize) -> Option<Shown> {
        let item = self.items.ids.get(&shown.item)?;
        let user = self.user_where_there_is_room(&shown.user, incoming)?;
        Some(Shown { user, item, chosen: false })
    }

    /// The row of user `name`; a new one where one can be given at once and `incoming` other users will still find room.
    pub(super) fn user_where_there_is_room(&mut self, name: &str, incoming: usize) -> Option<u32> {
        let users = &self.users;
        match users.ids.get(name) {
            Some(user) => Some(user),
            None => users.lifecycle.has_room(users.ids.len(), incoming + 1).then(|| self.add_user(name)),
        }
    }

    /// Counts the arrivals of items and users without a row, for their admission.
    pub(super) fn count_arrivals(&mut self, pending: &mut PendingBatch) {
        self.items.lifecycle.count_arrivals(&mut pending.items);
        self.users.lifecycle.count_arrivals(&mut pending.users);
    }

    /// Marks user `name` as active at `now` by an event that is not trained on, since its item has no row. Gives whether the
    /// event would have been ranked.
    pub(super) fn touch_deferred(&mut self, name: &str, now: u64) -> bool {
        let Some(user) = self.users.ids.get(name) else { return false };
        self.users.lifecycle.touch(user, now);
        self.users.histories.get(user).is_known()
    }

    /// What samplers may look at, and the samplers.
    pub fn stream_view(&self) -> (StreamView<'_>, &NoiseMix) {
        let NegativeSources { frequencies, live, noise, .. } = &self.negatives;
        let vectors: &dyn Vectors = &self.model;
        (StreamView { frequencies, live, vectors }, noise)
    }

    /// Rows of items and users that were evicted so far.
    pub fn evicted(&self) -> Evicted {
        Evicted { items: self.items.lifecycle.evicted(), users: self.users.lifecycle.evicted() }
    }

    /// Remaps item rows after eviction.
    pub(super) fn keep_items(&mut self, rows: &RowRemap) {
        // Named one by one, so that a new group asks whether it has rows of items, or refers to them.
        let Self { items, users, model, objectives, negatives, progress: _, sources: _ } = self;
        items.keep(rows, model.change_interval());
        users.keep_items(rows);
        model.keep_items(rows);
        objectives.keep_items(rows);
        negatives.keep_items(rows);
    }

    /// Remaps user rows after eviction.
    pub(super) fn keep_users(&mut self, rows: &RowRemap) {
        // Named one by one, so that a new group asks whether it has rows of users, or refers to them. What objectives keep
        // (statistics of item pairs, parameters) is of no single user.
        let Self { items: _, users, model, objectives: _, negatives, progress: _, sources: _ } = self;
        users.keep(rows);
        model.keep_users(rows);
        negatives.keep_users(rows);
    }
}

impl ItemStore {
    /// Remaps rows after eviction; `interval` is that of the model's changes, where they are tracked.
    fn keep(&mut self, rows: &RowRemap, interval: Option<ChangeMark>) {
        // The lifecycle chose the rows that stay, and has remapped its own.
        let Self { ids, occurrences, last_event, cooccurrences, lifecycle: _, evicted_names, drained: _ } = self;
        if let (Some(evicted), Some(interval)) = (evicted_names, interval) {
            evicted.add(interval, ids, rows);
        }
        ids.keep(rows);
        occurrences.keep(rows);
        last_event.keep(rows);
        cooccurrences.keep_items(rows);
    }

    /// A frozen copy; the store may change meanwhile.
    #[must_use]
    pub fn freeze(&mut self) -> FrozenItems {
        let Self { ids, occurrences, last_event, cooccurrences, lifecycle, evicted_names: _, drained: _ } = self;
        FrozenItems {
            names: ids.freeze(),
            occurrences: occurrences.clone(),
            last_event: last_event.clone(),
            neighborhoods: cooccurrences.freeze(),
            lifecycle: lifecycle.clone(),
        }
    }

    /// Takes back names and neighbourhoods that frozen copies which are gone had shared: [`Ids::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.ids.thaw(budget) & self.cooccurrences.thaw(budget)
    }
}

impl UserStore {
    fn keep_items(&mut self, rows: &RowRemap) {
        let Self { ids: _, histories, lifecycle: _ } = self;
        histories.keep_items(rows);
    }

    fn keep(&mut self, rows: &RowRemap) {
        // The lifecycle chose the rows that stay, and has remapped its own.
        let Self { ids, histories, lifecycle: _ } = self;
        ids.keep(rows);
        histories.keep(rows);
    }

    /// A frozen copy; the store may change meanwhile.
    #[must_use]
    pub fn freeze(&mut self) -> FrozenUsers {
        let Self { ids, histories, lifecycle } = self;
        FrozenUsers { names: ids.freeze(), histories: histories.freeze(), lifecycle: lifecycle.clone() }
    }

    /// Takes back names and histories that frozen copies which are gone had shared: [`Ids::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.ids.thaw(budget) & self.histories.thaw(budget)
    }
}

impl Progress {
    /// Events of a positive type of all workers that share the model, as far as they are part of the state: the time by which rows
    /// live.
    pub fn group_positives(&self) -> u64 {
        self.events.positives() + self.others.positives
    }

    /// How often the model has moved, by steps of the worker's own and by what others sent.
    pub fn moves(&self) -> u64 {
        self.steps + self.others.deltas
    }

    /// Records that are part of the state: the worker's own of any kind, and others' events.
    pub fn passed(&self) -> u64 {
        self.events.passed() + self.others.positives
    }
}

impl NegativeSources {
    /// Counts by the clock of a group.
    pub(super) fn follow(&mut self, clock: &GroupClock) {
        self.frequencies.set_pace(clock.pace());
        self.bank.follow(clock.now() as u64, clock.pace());
    }

    fn keep_items(&mut self, rows: &RowRemap) {
        let Self { frequencies, live, noise, bank, false_negatives } = self;
        frequencies.keep(rows);
        live.keep(rows);
        noise.keep_items(rows);
        bank.keep(rows);
        false_negatives.keep_items(rows);
    }

    fn keep_users(&mut self, rows: &RowRemap) {
        let Self { frequencies: _, live: _, noise, bank: _, false_negatives } = self;
        noise.keep_users(rows);
        false_negatives.keep_users(rows);
    }
}

/// For how many events an item can be drawn after its last one.
pub fn horizon(config: &Config) -> u64 {
    match config.negatives.live_events {
        0 => u64::MAX,
        events => events,
    }
}

/// How much of the users' histories is kept.
pub fn retention(config: &Config) -> Retention {
    Retention {
        context: config.context.length,
        decay: RepeatDecay::new(config.repetition.half_life, config.repetition.items),
        repeat: config.evaluate.repeat,
        own_items: config.evaluate.own_items,
    }
}
