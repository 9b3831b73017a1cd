//! The users' and the items' pasts, as of the event before.

use std::collections::VecDeque;

/// So many of a user's newest events are kept at least: what is older weighs less than a millionth in every peer.
const LONGEST_PAST: usize = 10_000;

/// The past of one user.
#[derive(Debug, Clone, Default)]
pub(super) struct UserPast {
    /// The newest events' items, newest last.
    newest: Vec<u32>,
    /// Events so far.
    pub count: u32,
    /// The items that the user had, in the order in which they came first.
    pub own: Vec<HadItem>,
}

/// An item that a user had.
#[derive(Debug, Clone, Copy)]
pub(super) struct HadItem {
    pub item: u32,
    /// How many events the user had when it came last.
    at: u32,
    /// How often it came, decayed, as of then.
    value: f64,
}

/// 2^(−n / half-life) by n, the number of events since.
#[derive(Debug, Clone)]
pub(super) struct Decay(Vec<f64>);

impl Decay {
    pub(super) fn new(half_life: f64) -> Self {
        Self((0..=LONGEST_PAST).map(|since| (-(since as f64) / half_life).exp2()).collect())
    }

    fn of(&self, since: usize) -> f64 {
        self.0.get(since).copied().unwrap_or(0.0)
    }
}

impl UserPast {
    /// The item of the `back`-th newest event, from 0; `None` where there is none, or it is forgotten.
    pub(super) fn newest(&self, back: usize) -> Option<u32> {
        self.newest.len().checked_sub(back + 1).map(|place| self.newest[place])
    }

    /// The items of the user's events from number `first` on (from 0), which must be among the newest ones.
    pub(super) fn since(&self, first: u32) -> &[u32] {
        &self.newest[self.newest.len() - (self.count - first) as usize..]
    }

    pub(super) fn push(&mut self, item: u32, decay: &Decay) {
        self.count += 1;
        if self.newest.len() == 2 * LONGEST_PAST {
            self.newest.drain(..LONGEST_PAST);
        }
        self.newest.push(item);
        match self.own.iter_mut().find(|own| own.item == item) {
            Some(own) => {
                own.value = 1.0 + own.value * decay.of((self.count - own.at) as usize);
                own.at = self.count;
            }
            None => self.own.push(HadItem { item, at: self.count, value: 1.0 }),
        }
    }

    /// How often the user had each of their items, decayed.
    pub(super) fn own_history<'a>(&'a self, decay: &'a Decay) -> impl Iterator<Item = (u32, f64)> + 'a {
        self.own.iter().map(|own| (own.item, own.value * decay.of((self.count - own.at) as usize)))
    }

    /// What the user took right after their newest item whenever they had it before, decayed; newest first.
    pub(super) fn own_transitions<'a>(&'a self, decay: &'a Decay) -> impl Iterator<Item = (u32, f64)> + 'a {
        let newest = self.newest(0);
        let earlier = (1..self.newest.len()).filter(move |back| self.newest(*back) == newest);
        earlier.filter_map(|back| Some((self.newest(back - 1)?, decay.of(back))))
    }
}

/// Where an item came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occurrence {
    pub user: u32,
    /// The number of the event among the user's.
    pub place: u32,
    /// The number of the event.
    pub event: u32,
}

/// All pasts.
#[derive(Debug)]
pub(super) struct Histories {
    pub users: Vec<UserPast>,
    /// Events so far, by item.
    pub counts: Vec<u32>,
    /// The newest occurrences of each item, newest last.
    occurrences: Vec<VecDeque<Occurrence>>,
    /// How many of them are kept.
    n_occurrences: usize,
}

impl Histories {
    /// Nothing has happened yet; so many of each item's newest occurrences will be kept.
    pub(super) fn new(n_users: usize, n_items: usize, n_occurrences: usize) -> Self {
        Self {
            users: vec![UserPast::default(); n_users],
            counts: vec![0; n_items],
            occurrences: if n_occurrences > 0 { vec![VecDeque::new(); n_items] } else { Vec::new() },
            n_occurrences,
        }
    }

    /// The newest occurrences of an item, newest first.
    pub(super) fn occurrences(&self, item: u32) -> impl Iterator<Item = &Occurrence> {
        self.occurrences[item as usize].iter().rev()
    }

    pub(super) fn push(&mut self, event: u32, user: u32, item: u32, decay: &Decay) {
        let past = &mut self.users[user as usize];
        if self.n_occurrences > 0 {
            let occurrences = &mut self.occurrences[item as usize];
            if occurrences.len() == self.n_occurrences {
                occurrences.pop_front();
            }
            occurrences.push_back(Occurrence { user, place: past.count, event });
        }
        past.push(item, decay);
        self.counts[item as usize] += 1;
    }
}
