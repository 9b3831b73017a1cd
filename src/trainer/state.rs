//! Everything that a worker must have to go on as if never stopped.

use crate::config::Config;
use crate::context::memory::Fading;
use crate::context::users::{Retention, Users};
use crate::evaluate::tally::Tally;
use crate::event::EventCounts;
use crate::negatives::bank::Bank;
use crate::negatives::frequency::Frequencies;
use crate::objective::score::Model;
use crate::position::Positions;
use crate::table::ids::Ids;

/// See the module. What a checkpoint holds is exactly this; `snapshot` names every field.
#[derive(Debug)]
pub struct State {
    /// Names of the items, by row.
    pub items: Ids,
    /// How often each item came, by row.
    pub occurrences: Vec<u64>,
    /// When it last came, milliseconds since 1970 UTC.
    pub last_event: Vec<i64>,
    /// The users and their pasts.
    pub users: Users,
    /// Every learned number.
    pub model: Model,
    /// q̂.
    pub frequencies: Frequencies,
    /// The newest positives.
    pub bank: Bank,
    /// What the evaluation found.
    pub tally: Tally,
    /// Steps taken.
    pub steps: u64,
    /// Loss and bound on information of the newest step that trained, in nats.
    pub last_loss: (f64, f64),
    /// Events by what became of them.
    pub events: EventCounts,
    /// Where the sources stand.
    pub positions: Positions,
}

impl State {
    /// A model that has seen nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            items: Ids::default(),
            occurrences: Vec::new(),
            last_event: Vec::new(),
            users: Users::new(retention(config)),
            model: Model::new(config),
            frequencies: Frequencies::new(config.negatives.half_life),
            bank: Bank::new(config.negatives.bank),
            tally: Tally::new(0),
            steps: 0,
            last_loss: (0.0, 0.0),
            events: EventCounts::default(),
            positions: Positions::default(),
        }
    }

    /// The row of item `name`; a new one where it had none.
    pub fn add_item(&mut self, name: &str) -> u32 {
        let item = self.items.intern(name);
        if item as usize == self.occurrences.len() {
            self.model.add_item(name);
            self.occurrences.push(0);
            self.last_event.push(0);
        }
        item
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
