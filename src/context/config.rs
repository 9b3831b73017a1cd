//! The sections `context`, `repetition` and `cooccurrence`: what of a user's past the model sees.

use super::cooccurrence::{MOST_NEIGHBORS, WIDEST_WINDOW};
use crate::util::config_section::{config_choice, config_section};

config_choice! {
    /// How the items of a context make a query.
    pub enum EncoderKind {
        /// A sum with learned position weights.
        Sum = "sum",
        /// A gated recurrent unit over all of the user's items; trained through the newest `length`.
        Gru = "gru",
    }
}

config_section! {
    /// What of a user's past makes the query.
    pub struct ContextConfig {
        /// How many of the user's newest items make the query.
        length: usize = 20 => [state, within(1..=1024)];
        /// Give each item a second row for its role in the context, besides the row it has as a candidate.
        context_rows: bool = true => [state];
        /// Give each user a row of their own, added to the query.
        user_row: bool = false => [state];
        /// Add learned vectors to the query for the situation: how active the user is, the time since they came last, hour,
        /// weekday, and place in the session.
        situation: bool = true => [state];
        /// How those items make the query: `sum`, by learned position weights, or `gru`.
        encoder: EncoderKind = EncoderKind::Sum => [state];
    }
}

config_section! {
    /// The memory of each user's items behind the repetition term ρ, which is idle where `evaluate.repeat` is off.
    pub struct RepetitionConfig {
        /// Distinct items remembered per user.
        items: usize = 128 => [state, within(1..=65_536)];
        /// Half-life of an item's count, in events of the same user.
        half_life: f64 = 50.0 => [state, at_least(1.0)];
        /// Learn how likely an item comes back by how due it is: the time since, over its mean interval for the user.
        due: bool = true => [state];
        /// Learn how likely an item comes back by how many of its latest predecessors are the user's newest item.
        transitions: bool = true => [state];
        /// Learn how likely own items come back by the user's share of repeats, the time since the user came last, and the place
        /// in the session.
        user: bool = true => [state];
    }
}

config_section! {
    /// The counts of items that follow one another in users' histories, behind the co-occurrence term κ.
    pub struct CooccurrenceConfig {
        /// Neighbours kept of each item; 0: none, and no such term.
        neighbors: usize = 128 => [state, at_most(MOST_NEIGHBORS)];
        /// How many of a context's newest items count: as those that an event's item came near, and as those whose neighbours
        /// come next.
        window: usize = 5 => [state, within(1..=WIDEST_WINDOW)];
        /// Learn how likely a neighbour comes by a plain cosine too, which tells of rare items; without it those are not listed
        /// whose confidence is small.
        plain_cosine: bool = false => [state];
    }
}
