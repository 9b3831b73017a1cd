//! What there is in the synthetic world: topics with their living items, users with their tastes. It answers draws and
//! moves on event by event; who acts when, and why, is decided in the module above.

use rand::{Rng, RngExt};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, Exp1};

use super::{SynthConfig, names};

/// How many items a user is known to have had.
const MEMORY: usize = 24;
/// Share of its lifetime at which an item peaks.
const PEAK: f64 = 0.15;
/// Favourite topics of a user, at most.
const FAVOURITES: usize = 3;

/// One item: the how-manyth of which topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    /// Its topic.
    pub(super) topic: u32,
    /// Its number within the topic, from 1 in the order of birth.
    pub(super) number: u32,
}

/// An item that is alive.
#[derive(Debug, Clone, Copy)]
struct Living {
    number: u32,
    born: f64,
    quality: f64,
}

impl Living {
    /// How attractive it is at `now`: rises to its quality, then fades.
    fn appeal(&self, now: f64, lifetime: f64) -> f64 {
        let age = ((now - self.born) / lifetime).max(0.0) / PEAK;
        // The small floor keeps a table of newborns from having no weight at all.
        self.quality * (age * (1.0 - age).exp()).max(1e-6)
    }
}

/// How items come and go.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// In events.
    span: f64,
    /// Events between two births in the same topic, on average.
    births_apart: f64,
    skew: f64,
    items_per_topic: f64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// In the order of birth, which is also the order of death.
    living: Vec<Living>,
    /// Drawn from until the topic is looked at again; may name the dead until then.
    table: WeightedAliasIndex<f64>,
    numbers: Vec<u32>,
    born: u32,
    next_birth: f64,
}

#[derive(Debug, Clone, Copy)]
struct User {
    favourites: [u32; FAVOURITES],
    /// The upper end of each favourite's share; the last is 1.
    shares: [f32; FAVOURITES],
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    topics: Vec<Topic>,
    topic_table: WeightedAliasIndex<f64>,
    users: Vec<User>,
    activity: WeightedAliasIndex<f32>,
    /// `MEMORY` items per user, the newest overwriting the oldest; number 0 is none.
    memories: Vec<Item>,
    cursors: Vec<u8>,
    life: Life,
    events: u64,
    looked_after: u64,
    events_per_look: f64,
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
            memories: vec![Item { topic: 0, number: 0 }; MEMORY * config.users],
            cursors: vec![0; config.users],
            life: Life {
                span: lifetime,
                births_apart: lifetime / items_per_topic,
                skew: config.item_skew,
                items_per_topic,
            },
            events: 0,
            looked_after: 0,
            events_per_look: round / config.topics as f64,
        };
        for number in 0..config.topics {
            world.topics.push(Topic::new(number, world.life, random));
        }
        for _ in 0..config.users {
            let user = world.new_user(random);
            world.users.push(user);
        }
        world
    }

    /// Lets one event pass; looks after the topics whose turn it is.
    pub(super) fn advance<R: Rng>(&mut self, random: &mut R) {
        self.events += 1;
        // At most one round a call: a lifetime shorter than a few events asks for no more than that.
        for _ in 0..self.topics.len() {
            if self.looked_after as f64 * self.events_per_look >= self.events as f64 {
                break;
            }
            let place = (self.looked_after % self.topics.len() as u64) as usize;
            self.topics[place].look_after(self.events as f64, self.life, random);
            self.looked_after += 1;
        }
    }

    fn new_user<R: Rng>(&self, random: &mut R) -> User {
        let mut favourites = [0; FAVOURITES];
        for favourite in &mut favourites {
            *favourite = self.some_topic(random);
        }
        // One, two or three favourites; the first counts most.
        let shares = [[1.0, 1.0, 1.0], [0.7, 1.0, 1.0], [0.6, 0.85, 1.0]][random.random_range(0..3)];
        User { favourites, shares }
    }

    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn name(&self, topic: u32) -> &str {
        &self.topics[topic as usize].name
    }

    pub(super) fn some_user<R: Rng>(&self, random: &mut R) -> u32 {
        self.activity.sample(random) as u32
    }

    pub(super) fn some_topic<R: Rng>(&self, random: &mut R) -> u32 {
        self.topic_table.sample(random) as u32
    }

    pub(super) fn favourite<R: Rng>(&self, user: u32, random: &mut R) -> u32 {
        let user = &self.users[user as usize];
        let point = random.random::<f32>();
        let place = user.shares.iter().position(|end| point < *end).unwrap_or(0);
        user.favourites[place]
    }

    /// One of the three, each alike: also of a user to whom one counts most.
    pub(super) fn any_favourite<R: Rng>(&self, user: u32, random: &mut R) -> u32 {
        self.users[user as usize].favourites[random.random_range(0..FAVOURITES)]
    }

    pub(super) fn change_taste<R: Rng>(&mut self, user: u32, random: &mut R) {
        let topic = self.some_topic(random);
        self.users[user as usize].favourites[random.random_range(0..FAVOURITES)] = topic;
    }

    pub(super) fn item_of<R: Rng>(&self, topic: u32, random: &mut R) -> Item {
        let of = &self.topics[topic as usize];
        Item { topic, number: of.numbers[of.table.sample(random)] }
    }

    pub(super) fn had(&self, user: u32, item: Item) -> bool {
        self.memory(user).contains(&item)
    }

    /// One of the items that the user had lately.
    pub(super) fn recent<R: Rng>(&self, user: u32, random: &mut R) -> Option<Item> {
        let item = self.memory(user)[random.random_range(0..MEMORY)];
        (item.number != 0).then_some(item)
    }

    pub(super) fn remember(&mut self, user: u32, item: Item) {
        if self.had(user, item) {
            return;
        }
        let user = user as usize;
        self.memories[user * MEMORY + usize::from(self.cursors[user])] = item;
        self.cursors[user] = (self.cursors[user] + 1) % MEMORY as u8;
    }

    fn memory(&self, user: u32) -> &[Item] {
        &self.memories[user as usize * MEMORY..][..MEMORY]
    }

    /// The living items of a topic with their present appeal, for the tests' all-knowing recommender.
    #[cfg(test)]
    pub(super) fn appeals(&self, topic: u32) -> Vec<(Item, f64)> {
        let now = self.events as f64;
        let living = &self.topics[topic as usize].living;
        living.iter().map(|item| (Item { topic, number: item.number }, item.appeal(now, self.life.span))).collect()
    }
}

impl Topic {
    /// A topic in the middle of things: its items have all ages.
    fn new<R: Rng>(number: usize, life: Life, random: &mut R) -> Self {
        let mut topic = Self {
            name: names::topic_name(number),
            living: Vec::new(),
            table: WeightedAliasIndex::new(vec![1.0]).expect("one is positive and finite"),
            numbers: vec![1],
            born: 0,
            next_birth: -life.span,
        };
        topic.look_after(0.0, life, random);
        topic
    }

    /// Buries, lets be born, and rebuilds the table of one self.
    fn look_after<R: Rng>(&mut self, now: f64, life: Life, random: &mut R) {
        while self.next_birth <= now {
            self.born += 1;
            // The inverse of a uniform rank gives Zipf's law; the bound keeps one item from being the whole self.
            let rank = random.random::<f64>() * life.items_per_topic + 1.0;
            self.living.push(Living { number: self.born, born: self.next_birth, quality: rank.powf(-life.skew) });
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
