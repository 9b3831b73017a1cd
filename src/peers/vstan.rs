//! VSTAN on a stream: neighbours of a session, with the three decays of (V)STAN.
//!
//! Garg et al., Sequence and Time Aware Neighborhood for Session-based Recommendations (SIGIR 2019), and Ludewig et al.,
//! Empirical Analysis of Session-Based Recommendation Algorithms (2021), for a stream of events: a session is the newest
//! 50 events of a user. Where one of the asking user's newest items came lately, there is a neighbour. It weighs by how
//! new the items are that it shares with the user, by how old the match is, and by its length; its items weigh by their
//! distance from the match, those before it half.

use std::cmp::Ordering;

use super::history::{Histories, Occurrence};

/// Items of the asking user that count.
const ASKED: usize = 10;
/// Newest occurrences of each of them that are looked at.
pub(super) const OCCURRENCES: usize = 300;
/// Events of a user that are a session.
const LENGTH: u32 = 50;
/// Neighbours that count.
const NEIGHBORS: usize = 300;

/// Free settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VstanOptions {
    /// How fast the say of the user's items fades, in items.
    pub recency: f64,
    /// How fast a match fades, in events of the stream.
    pub age: f64,
    /// How fast a neighbour's items fade, in items from the match.
    pub distance: f64,
    /// Power of the frequency by which items are damped.
    pub damping: f64,
}

/// A user whose session shares items with that of the asking one.
#[derive(Debug, Clone, Copy)]
struct SessionNeighbor {
    user: u32,
    weight: f64,
    /// The newest match.
    at: Occurrence,
    /// Which of the asking user's items it was matched by last.
    matched: usize,
}

/// Buffers of the search.
#[derive(Debug, Default)]
pub(super) struct SessionSearch {
    neighbors: Vec<SessionNeighbor>,
    /// By user: the place in `neighbors`, where the stamp is that of this search.
    places: Vec<(u64, usize)>,
    stamp: u64,
    weights: Vec<f64>,
    /// By distance from a match: what is left of an item's weight.
    fading: Vec<f64>,
}

impl SessionSearch {
    /// Calls `add` with the items of the sessions that resemble that of `user` before event number `event`, and what each adds
    /// to its score; `norm` damps by frequency.
    pub(super) fn related(
        &mut self,
        options: &VstanOptions,
        histories: &Histories,
        (event, user): (u32, u32),
        norm: impl Fn(u32) -> f64,
        mut add: impl FnMut(u32, f64),
    ) {
        let cut = self.find(options, histories, (event, user), &norm);
        let reach = LENGTH.min((4.0 * options.distance) as u32 + 1);
        self.fading.clear();
        self.fading.extend((0..=reach).map(|distance| (-f64::from(distance) / options.distance).exp()));
        for neighbor in &self.neighbors {
            if neighbor.weight < cut {
                continue;
            }
            let past = &histories.users[neighbor.user as usize];
            let at = neighbor.at.place;
            let first = past.count.saturating_sub(LENGTH).max(at.saturating_sub(reach));
            for (place, item) in (first..=at + reach).zip(past.since(first)) {
                let fading = self.fading[place.abs_diff(at) as usize];
                let fading = match place.cmp(&at) {
                    Ordering::Greater => fading,
                    Ordering::Less => 0.5 * fading,
                    Ordering::Equal => continue,
                };
                add(*item, neighbor.weight * norm(*item) * fading);
            }
        }
    }

    /// Finds the neighbours, and the weight that one must have to count.
    fn find(
        &mut self,
        options: &VstanOptions,
        histories: &Histories,
        (event, user): (u32, u32),
        norm: &impl Fn(u32) -> f64,
    ) -> f64 {
        self.neighbors.clear();
        self.stamp += 1;
        self.places.resize(histories.users.len(), (0, 0));
        let past = &histories.users[user as usize];
        for back in 0..ASKED {
            let Some(item) = past.newest(back) else { break };
            if (0..back).any(|newer| past.newest(newer) == Some(item)) {
                continue;
            }
            let weight = (-(back as f64) / options.recency).exp() * norm(item);
            for at in histories.occurrences(item) {
                let ago = histories.users[at.user as usize].count - at.place;
                if ago > LENGTH || (at.user == user && ago as usize <= ASKED) {
                    continue;
                }
                let (stamp, place) = &mut self.places[at.user as usize];
                if *stamp != self.stamp {
                    (*stamp, *place) = (self.stamp, self.neighbors.len());
                    self.neighbors.push(SessionNeighbor { user: at.user, weight, at: *at, matched: back });
                } else if self.neighbors[*place].matched != back {
                    self.neighbors[*place].matched = back;
                    self.neighbors[*place].weight += weight;
                }
            }
        }
        self.weights.clear();
        for neighbor in &mut self.neighbors {
            let length = histories.users[neighbor.user as usize].count.min(LENGTH);
            neighbor.weight *= (-f64::from(event - neighbor.at.event) / options.age).exp() / f64::from(length).sqrt();
            self.weights.push(neighbor.weight);
        }
        match self.weights.len().checked_sub(NEIGHBORS) {
            None | Some(0) => f64::NEG_INFINITY,
            Some(lighter) => *self.weights.select_nth_unstable_by(lighter, f64::total_cmp).1,
        }
    }
}
