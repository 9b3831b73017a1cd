//! The synthetic world: topics with their living items, users with their tastes. The world answers draws and moves on event
//! by event; which user acts when, and why, is decided by the generator.

use rand::{Rng, RngExt};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, Exp1};

use super::{SynthConfig, names};

/// Newest items that are remembered per user.
const MEMORY: usize = 24;
/// Share of its lifetime at which an item peaks.
const PEAK: f64 = 0.15;
/// Favourite topics of a user, at most.
const FAVOURITES: usize = 3;

/// An item by its topic and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyntheticItem {
    /// Index of the item's topic.
    pub(super) topic: u32,
    /// Number of the item within its topic, from 1 in the order of birth.
    pub(super) number: u32,
}

/// An item that is alive.
#[derive(Debug, Clone, Copy)]
struct LivingItem {
    number: u32,
    born: f64,
    quality: f64,
}

impl LivingItem {
    /// Weight of the item at the event `now`: rises to the item's quality, then fades.
    fn appeal(&self, now: f64, lifetime: f64) -> f64 {
        let age = ((now - self.born) / lifetime).max(0.0) / PEAK;
        // The small floor keeps a table of newborns from having no weight at all.
        self.quality * (age * (1.0 - age).exp()).max(1e-6)
    }
}

/// Birth and death of items.
#[derive(Debug, Clone, Copy)]
struct ItemLifecycle {
    /// Events from an item's birth to its death.
    span: f64,
    /// Events between two births in the same topic, on average.
    births_apart: f64,
    skew: f64,
    items_per_topic: f64,
}

#[derive(Debug)]
struct SyntheticTopic {
    name: String,
    /// LivingItem items in the order of birth, which is also the order of death.
    living: Vec<LivingItem>,
    /// Weights of `numbers`, as of the last refresh; dead items stay in the table until the next one.
    table: WeightedAliasIndex<f64>,
    numbers: Vec<u32>,
    born: u32,
    next_birth: f64,
}

#[derive(Debug, Clone, Copy)]
struct SyntheticUser {
    favourites: [u32; FAVOURITES],
    /// Cumulative shares of the favourites; the last is 1.
    shares: [f32; FAVOURITES],
}

/// All topics, items and users.
#[derive(Debug)]
pub(super) struct World {
    topics: Vec<SyntheticTopic>,
    topic_table: WeightedAliasIndex<f64>,
    users: Vec<SyntheticUser>,
    activity: WeightedAliasIndex<f32>,
    /// A ring of `MEMORY` items per user; number 0 marks an empty place.
    memories: Vec<SyntheticItem>,
    cursors: Vec<u8>,
    life: ItemLifecycle,
    events: u64,
    refreshes: u64,
    events_per_refresh: f64,
}

impl World {
    pub(super) fn new<R: Rng>(config: &SynthConfig, random: &mut R) -> Self {
        let lifetime = config.lifetime as f64;
        let items_per_topic = config.items as f64 / config.topics as f64;
        let weights = (0..config.topics).map(|rank| (rank as f64 + 1.0).powf(-config.topic_skew)).collect();
        let topic_table = WeightedAliasIndex::new(weights).expect("powers of ranks are positive and finite");
        // Activity is skewed too, mildly: nobody makes up the log alone.
        let activity = (0..config.users).map(|user| (user as f32 + 20.0).powf(-0.5)).collect();
        let round = (config.items as f64).min(lifetime / 8.0);
        let mut world = Self {
            topics: Vec::with_capacity(config.topics),
            topic_table,
            users: Vec::with_capacity(config.users),
            activity: WeightedAliasIndex::new(activity).expect("powers of ranks are positive and finite"),
            memories: vec![SyntheticItem { topic: 0, number: 0 }; MEMORY * config.users],
            cursors: vec![0; config.users],
            life: ItemLifecycle {
                span: lifetime,
                births_apart: lifetime / items_per_topic,
                skew: config.item_skew,
                items_per_topic,
            },
            events: 0,
            refreshes: 0,
            events_per_refresh: round / config.topics as f64,
        };
        for number in 0..config.topics {
            world.topics.push(SyntheticTopic::new(number, world.life, random));
        }
        for _ in 0..config.users {
            let user = world.new_user(random);
            world.users.push(user);
        }
        world
    }

    /// Lets one event pass, and refreshes the topics whose turn has come.
    pub(super) fn advance<R: Rng>(&mut self, random: &mut R) {
        self.events += 1;
        // At most one round a call: a lifetime shorter than a few events asks for no more than that.
        for _ in 0..self.topics.len() {
            if self.refreshes as f64 * self.events_per_refresh >= self.events as f64 {
                break;
            }
            let place = (self.refreshes % self.topics.len() as u64) as usize;
            self.topics[place].refresh(self.events as f64, self.life, random);
            self.refreshes += 1;
        }
    }

    fn new_user<R: Rng>(&self, random: &mut R) -> SyntheticUser {
        let mut favourites = [0; FAVOURITES];
        for favourite in &mut favourites {
            *favourite = self.draw_topic(random);
        }
        // One, two or three favourites; the first counts most.
        let shares = [[1.0, 1.0, 1.0], [0.7, 1.0, 1.0], [0.6, 0.85, 1.0]][random.random_range(0..3)];
        SyntheticUser { favourites, shares }
    }

    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn name(&self, topic: u32) -> &str {
        &self.topics[topic as usize].name
    }

    pub(super) fn draw_user<R: Rng>(&self, random: &mut R) -> u32 {
        self.activity.sample(random) as u32
    }

    pub(super) fn draw_topic<R: Rng>(&self, random: &mut R) -> u32 {
        self.topic_table.sample(random) as u32
    }

    pub(super) fn draw_favourite<R: Rng>(&self, user: u32, random: &mut R) -> u32 {
        let user = &self.users[user as usize];
        let point = random.random::<f32>();
        let place = user.shares.iter().position(|end| point < *end).unwrap_or(0);
        user.favourites[place]
    }

    /// Draws one of the three favourites with equal chances, whatever their shares.
    pub(super) fn draw_favourite_evenly<R: Rng>(&self, user: u32, random: &mut R) -> u32 {
        self.users[user as usize].favourites[random.random_range(0..FAVOURITES)]
    }

    pub(super) fn change_taste<R: Rng>(&mut self, user: u32, random: &mut R) {
        let topic = self.draw_topic(random);
        self.users[user as usize].favourites[random.random_range(0..FAVOURITES)] = topic;
    }

    pub(super) fn draw_item<R: Rng>(&self, topic: u32, random: &mut R) -> SyntheticItem {
        let of = &self.topics[topic as usize];
        SyntheticItem { topic, number: of.numbers[of.table.sample(random)] }
    }

    pub(super) fn remembers(&self, user: u32, item: SyntheticItem) -> bool {
        self.memory(user).contains(&item)
    }

    /// Draws one of the items that the user had lately; `None` where the drawn place is still empty.
    pub(super) fn draw_recent<R: Rng>(&self, user: u32, random: &mut R) -> Option<SyntheticItem> {
        let item = self.memory(user)[random.random_range(0..MEMORY)];
        (item.number != 0).then_some(item)
    }

    pub(super) fn remember(&mut self, user: u32, item: SyntheticItem) {
        if self.remembers(user, item) {
            return;
        }
        let user = user as usize;
        self.memories[user * MEMORY + usize::from(self.cursors[user])] = item;
        self.cursors[user] = (self.cursors[user] + 1) % MEMORY as u8;
    }

    fn memory(&self, user: u32) -> &[SyntheticItem] {
        &self.memories[user as usize * MEMORY..][..MEMORY]
    }

    /// The living items of a topic with their present appeal, for the tests' all-knowing recommender.
    #[cfg(test)]
    pub(super) fn appeals(&self, topic: u32) -> Vec<(SyntheticItem, f64)> {
        let now = self.events as f64;
        let living = &self.topics[topic as usize].living;
        living
            .iter()
            .map(|item| (SyntheticItem { topic, number: item.number }, item.appeal(now, self.life.span)))
            .collect()
    }
}

impl SyntheticTopic {
    /// A topic in the middle of things: its items have all ages.
    fn new<R: Rng>(number: usize, life: ItemLifecycle, random: &mut R) -> Self {
        let mut topic = Self {
            name: names::topic_name(number),
            living: Vec::new(),
            table: WeightedAliasIndex::new(vec![1.0]).expect("one is positive and finite"),
            numbers: vec![1],
            born: 0,
            next_birth: -life.span,
        };
        topic.refresh(0.0, life, random);
        topic
    }

    /// Lets items be born and die up to the event `now`, and rebuilds the table of weights.
    fn refresh<R: Rng>(&mut self, now: f64, life: ItemLifecycle, random: &mut R) {
        while self.next_birth <= now {
            self.born += 1;
            // The inverse of a uniform rank gives Zipf's law; the bound keeps one item from being the whole topic.
            let rank = random.random::<f64>() * life.items_per_topic + 1.0;
            self.living.push(LivingItem { number: self.born, born: self.next_birth, quality: rank.powf(-life.skew) });
            let wait: f64 = Exp1.sample(random);
            self.next_birth += wait * life.births_apart;
        }
        let dead = self.living.partition_point(|item| item.born + life.span <= now);
        // A topic never dies out: its last item stays until the next is born.
        self.living.drain(..dead.min(self.living.len() - 1));
        let appeals = self.living.iter().map(|item| item.appeal(now, life.span)).collect();
        self.table = WeightedAliasIndex::new(appeals).expect("an appeal is positive and finite");
        self.numbers.clear();
        self.numbers.extend(self.living.iter().map(|item| item.number));
    }
}
