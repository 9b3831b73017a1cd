//! A synthetic log with known structure, for the demo, for tests and for trying settings out.
//!
//! [`EventGenerator`] is an endless iterator of [`Interaction`]s; [`log::write_parquet`] writes the first N of them to a
//! log. What is in it, so that one knows what a model ought to find:
//!
//! | structure | how it shows |
//! | --- | --- |
//! | topics | an item belongs to one topic and carries its name (`jazz-0017`); some topics are larger than others |
//! | sessions | a session stays mostly in one topic; the sessions of many users interleave |
//! | tastes | a user has one to three favourite topics, and now and then one of them changes |
//! | several interests at once | for a share of the users, if asked ([`SynthConfig::interleave`]): each click of a session is about any of three favourites, which are independent of one another |
//! | drift | an item is born, peaks and fades within its lifetime; a few are much better than the rest |
//! | newcomers | the number of living items stays, so new ones keep arriving at the rate at which old ones go |
//! | noise | a small share of events follows nothing, another goes back to what the user had lately |
//!
//! The same [`SynthConfig`] gives the same events, bit for bit, in the same build. The work per event is constant: the
//! tables that items are drawn from are rebuilt topic by topic, each about once in as many events as there are items,
//! and a new item becomes visible then. A user takes some 220 bytes of memory.
//!
//! By accident a user hardly ever meets one of the last few items again. The log deliberately does not imitate any
//! particular shop or site, and knows no exposure (what was shown and not taken).

pub mod log;
mod names;

#[cfg(test)]
mod tests;
mod world;

use std::fmt::Write as _;

use compact_str::CompactString;
use rand::RngExt;
use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64Mcg;

use crate::event::Interaction;
use world::{SyntheticItem, World};

/// 2026-01-01T00:00:00Z, so that the same seed gives the same times.
const START: i64 = 1_767_225_600_000;
/// Milliseconds of a day.
const DAY: f64 = 86_400_000.0;
/// φ − 1.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;
/// How often an item the user had lately is drawn anew before it is taken all the same.
const REDRAWS: usize = 8;

/// Size and habits of the synthetic world.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthConfig {
    /// Seed of all draws.
    pub seed: u64,
    /// How many users there are; at least 2.
    pub users: usize,
    /// How many items are alive at a time; at least one per topic.
    pub items: usize,
    /// How many topics there are; at least 2.
    pub topics: usize,
    /// Events from an item's birth to its end; it peaks early and fades slowly.
    pub lifetime: u64,
    /// How unequal items are: 0 makes all alike, 1 is Zipf's law.
    pub item_skew: f64,
    /// How unequal topics are, likewise.
    pub topic_skew: f64,
    /// Mean number of events of a session.
    pub session_events: f64,
    /// Share of a session's events that leave its topic for another favourite of the user.
    pub excursions: f64,
    /// Share of users who follow three favourites at once: within a session, without a pause, each click is about any of
    /// them alike. Their favourites are independent draws, so only what many users do tells which items belong together.
    pub interleave: f64,
    /// Share of sessions about a topic that is no favourite.
    pub explorations: f64,
    /// Share of sessions after which one favourite has changed.
    pub taste_changes: f64,
    /// Share of events that follow nothing.
    pub noise: f64,
    /// Share of events that go back to an item the user had lately.
    pub repeats: f64,
    /// Share of events that are a `purchase`; the others are a `click`.
    pub purchases: f64,
    /// Time of the first event, in milliseconds since 1970-01-01 UTC.
    pub start: i64,
    /// Mean seconds between two events of the same session, by day; by night it takes longer.
    pub pause_seconds: f64,
}

/// A world in which it pays to know the topic: of the events of its second half, decayed popularity has the target among
/// the best 20 for about 15 in 100, and somebody who knows items and the user's newest topic for about 50.
impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 5_000,
            items: 2_000,
            topics: 24,
            lifetime: 80_000,
            item_skew: 0.8,
            topic_skew: 0.9,
            session_events: 5.0,
            excursions: 0.18,
            interleave: 0.0,
            explorations: 0.15,
            taste_changes: 0.02,
            noise: 0.05,
            repeats: 0.03,
            purchases: 0.04,
            start: START,
            pause_seconds: 45.0,
        }
    }
}

/// An ongoing session of one user.
#[derive(Debug, Clone, Copy)]
struct OngoingSession {
    user: u32,
    topic: u32,
    number: u64,
}

/// An endless generator of interactions; the head of this module lists the structure of its events.
#[derive(Debug)]
pub struct EventGenerator {
    config: SynthConfig,
    random: Pcg64Mcg,
    world: World,
    sessions: Vec<OngoingSession>,
    sessions_begun: u64,
    clock: f64,
    text: String,
}

impl EventGenerator {
    /// A world at its first moment. Numbers that would make it impossible (no users, a share above one) are moved to
    /// the nearest possible ones.
    pub fn new(config: SynthConfig) -> Self {
        let config = clamped(config);
        // One stream of random numbers: the events are a function of the seed alone.
        let mut random = Pcg64Mcg::new(0x5eed_0000_0000_0000_u128 ^ u128::from(config.seed).wrapping_mul(SPREAD));
        let world = World::new(&config, &mut random);
        // Enough sessions at a time that users interleave, few enough that a session is soon continued.
        let at_a_time = (config.users / 50).clamp(2, 20_000).min(config.users);
        let clock = config.start as f64;
        let mut synth =
            Self { config, random, world, sessions: Vec::new(), sessions_begun: 0, clock, text: String::new() };
        for _ in 0..at_a_time {
            let session = synth.begin_session();
            synth.sessions.push(session);
        }
        synth
    }

    /// The next event. The log never ends.
    pub fn next_event(&mut self) -> Interaction {
        self.world.advance(&mut self.random);
        self.pass_time();
        let place = self.random.random_range(0..self.sessions.len());
        let session = self.sessions[place];
        let item = self.choose_item(session);
        self.world.remember(session.user, item);
        let purchase = self.random.random::<f64>() < self.config.purchases;
        let event = Interaction {
            user: self.formatted(format_args!("u{:06}", session.user)),
            item: self.item_name(item),
            kind: CompactString::const_new(if purchase { "purchase" } else { "click" }),
            timestamp: self.clock as i64,
            session: Some(self.formatted(format_args!("s{:09}", session.number))),
            value: None,
            features: Vec::new(),
        };
        // The length of a session is geometric: nothing has to be remembered about it.
        if self.random.random::<f64>() * self.config.session_events < 1.0 {
            self.sessions[place] = self.begin_session();
        }
        event
    }

    /// Moves the clock on: short gaps by day, longer ones by night.
    fn pass_time(&mut self) {
        let gap: f64 = Exp1.sample(&mut self.random);
        let hour_angle = (self.clock - self.config.start as f64) / DAY * std::f64::consts::TAU;
        let liveliness = 1.0 - 0.45 * (1.0 - hour_angle.cos());
        let mean = self.config.pause_seconds * 1_000.0 / self.sessions.len() as f64;
        self.clock += gap * mean / liveliness;
    }

    fn begin_session(&mut self) -> OngoingSession {
        let user = self.world.draw_user(&mut self.random);
        if self.random.random::<f64>() < self.config.taste_changes {
            self.world.change_taste(user, &mut self.random);
        }
        let topic = if self.random.random::<f64>() < self.config.explorations {
            self.world.draw_topic(&mut self.random)
        } else {
            self.world.draw_favourite(user, &mut self.random)
        };
        self.sessions_begun += 1;
        OngoingSession { user, topic, number: self.sessions_begun }
    }

    fn choose_item(&mut self, session: OngoingSession) -> SyntheticItem {
        let habit = self.random.random::<f64>();
        if habit < self.config.repeats
            && let Some(item) = self.world.draw_recent(session.user, &mut self.random)
        {
            return item;
        }
        let topic = if habit < self.config.repeats + self.config.noise {
            self.random.random_range(0..self.world.topics() as u32)
        } else if self.interleaves(session.user) {
            self.world.draw_favourite_evenly(session.user, &mut self.random)
        } else if self.random.random::<f64>() < self.config.excursions {
            self.world.draw_favourite(session.user, &mut self.random)
        } else {
            session.topic
        };
        let mut item = self.world.draw_item(topic, &mut self.random);
        for _ in 0..REDRAWS {
            if !self.world.remembers(session.user, item) {
                break;
            }
            item = self.world.draw_item(topic, &mut self.random);
        }
        item
    }

    /// Whether the user follows several interests at once. Multiples of the golden ratio spread evenly between 0 and 1, so
    /// such users are as many as asked for among the busy and among the others; and nothing is drawn, so that the events
    /// of a log without them stay what they were.
    fn interleaves(&self, user: u32) -> bool {
        (f64::from(user) * GOLDEN_RATIO).fract() < self.config.interleave
    }

    fn item_name(&mut self, item: SyntheticItem) -> CompactString {
        self.text.clear();
        self.text.push_str(self.world.name(item.topic));
        self.append_formatted(format_args!("-{:04}", item.number))
    }

    fn formatted(&mut self, words: std::fmt::Arguments<'_>) -> CompactString {
        self.text.clear();
        self.append_formatted(words)
    }

    fn append_formatted(&mut self, words: std::fmt::Arguments<'_>) -> CompactString {
        self.text.write_fmt(words).expect("a string takes whatever is written to it");
        CompactString::new(&self.text)
    }
}

impl Iterator for EventGenerator {
    type Item = Interaction;

    /// Never `None`.
    fn next(&mut self) -> Option<Interaction> {
        Some(self.next_event())
    }
}

/// Spreads neighbouring seeds over the state of the generator, which must also be odd.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Moves impossible numbers to the nearest possible ones.
fn clamped(config: SynthConfig) -> SynthConfig {
    let share = |value: f64| if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    let at_least = |value: f64, least: f64| if value.is_finite() { value.max(least) } else { least };
    let topics = config.topics.clamp(2, 10_000);
    SynthConfig {
        users: config.users.clamp(2, 100_000_000),
        items: config.items.clamp(topics, 100_000_000),
        topics,
        lifetime: config.lifetime.max(1),
        item_skew: at_least(config.item_skew, 0.0).min(4.0),
        topic_skew: at_least(config.topic_skew, 0.0).min(4.0),
        session_events: at_least(config.session_events, 1.0),
        excursions: share(config.excursions),
        interleave: share(config.interleave),
        explorations: share(config.explorations),
        taste_changes: share(config.taste_changes),
        noise: share(config.noise),
        repeats: share(config.repeats),
        purchases: share(config.purchases),
        start: config.start.max(0),
        pause_seconds: at_least(config.pause_seconds, 0.001),
        ..config
    }
}
