//! One pass over the events: each is ranked under any number of mixes by what came before it, then becomes history.
//!
//! The whole catalogue is never scored. All terms but popularity are sparse, so a rank follows from the candidates that have
//! one and from the target's place in the order of popularity.

use rayon::prelude::*;

use super::history::{Decay, Histories};
use super::interactions::Interactions;
use super::item_knn::CooccurrenceTable;
use super::mix::{Mix, PopularityUnit};
use super::popularity::DecayedPopularity;
use super::vstan::{OCCURRENCES, SessionSearch, VstanOptions};
use crate::evaluate::K;
use crate::evaluate::rank_code::{N_CODES, RankCode};

/// Half-life of own history and own transitions, in the user's events.
const OWN_HALF_LIFE: f64 = 50.0;
/// Damping of item-kNN: the power of the frequency.
const ITEM_KNN_DAMPING: f64 = 0.5;
/// What is added to an item's events before they damp.
const FREQUENCY_PRIOR: f64 = 10.0;
/// Below so many events to be ranked, one thread follows the stream; above, several do, and each ranks its share.
const ENOUGH_TO_SHARE: usize = 10_000;
/// Candidates that are compared before it is asked whether the rank is settled.
const STRIDE: usize = 256;

/// What is related to a user's newest items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Related {
    /// Nothing.
    None,
    /// What came together with them.
    ItemKnn,
    /// What users took whose sessions resemble this one's.
    Vstan(VstanOptions),
}

/// What a pass computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// What is related.
    pub related: Related,
    /// Half-lives of popularity, in events; infinite: of all time.
    pub half_lives: Vec<f64>,
    /// What is ranked by.
    pub mixes: Vec<Mix>,
}

/// How often each rank came, by mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankHistogram(Vec<[u64; N_CODES]>);

impl RankHistogram {
    /// Of the ranks by mix.
    pub fn of(ranks: &[Vec<RankCode>]) -> Self {
        let counts = |ranks: &Vec<RankCode>| {
            let mut counts = [0; N_CODES];
            ranks.iter().for_each(|code| counts[code.index()] += 1);
            counts
        };
        Self(ranks.iter().map(counts).collect())
    }

    /// Hit rate and NDCG by mix; 0 where nothing was ranked.
    pub fn figures(&self) -> Vec<(f64, f64)> {
        let figures = |counts: &[u64; N_CODES]| {
            let events = counts.iter().sum::<u64>().max(1) as f64;
            let codes = counts.iter().enumerate().map(|(index, n)| (RankCode::from_index(index), *n as f64));
            let (mut hits, mut gain) = (0.0, 0.0);
            for (code, n) in codes.filter(|(code, _)| code.is_hit()) {
                hits += n;
                gain += n * code.gain();
            }
            (hits / events, gain / events)
        };
        self.0.iter().map(figures).collect()
    }
}

impl Pass {
    /// How often each rank came among the events of these numbers (ascending). Where items do not recur (`repeat` is false), a
    /// user's own items leave the ranking.
    pub fn count(&self, log: &Interactions, judged: &[u32], repeat: bool) -> RankHistogram {
        let none = || vec![[0; N_CODES]; self.mixes.len()];
        let of_shares = self.in_shares(log, judged, repeat, none, |counts: &mut Vec<[u64; N_CODES]>, codes| {
            counts.iter_mut().zip(codes).for_each(|(counts, code)| counts[code.index()] += 1);
        });
        let mut sum = none();
        for counts in of_shares {
            for (sum, counts) in sum.iter_mut().flatten().zip(counts.iter().flatten()) {
                *sum += counts;
            }
        }
        RankHistogram(sum)
    }

    /// By mix, the rank of each event of these numbers (ascending); otherwise like [`Pass::count`].
    pub fn rank(&self, log: &Interactions, judged: &[u32], repeat: bool) -> Vec<Vec<RankCode>> {
        let of_shares = self.in_shares(log, judged, repeat, Vec::new, |ranks: &mut Vec<RankCode>, codes| {
            ranks.extend_from_slice(codes);
        });
        let (n_shares, n_mixes) = (of_shares.len(), self.mixes.len());
        let of_mix = |mix: usize| {
            let code = |place: usize| of_shares[place % n_shares][place / n_shares * n_mixes + mix];
            (0..judged.len()).map(code).collect()
        };
        (0..n_mixes).map(of_mix).collect()
    }

    /// Follows the stream on as many threads as pay, each of which ranks every so many-th event, and gives what `take` has made
    /// of the ranks of each share.
    fn in_shares<T: Send>(
        &self,
        log: &Interactions,
        judged: &[u32],
        repeat: bool,
        new: impl Fn() -> T + Sync,
        take: impl Fn(&mut T, &[RankCode]) + Sync,
    ) -> Vec<T> {
        let n_shares = (judged.len() / ENOUGH_TO_SHARE).clamp(1, rayon::current_num_threads());
        let follow = |share: usize| {
            let mut result = new();
            let mut follower = Follower::new(self, log, repeat);
            let mut mine = judged.iter().skip(share).step_by(n_shares).peekable();
            let mut codes = vec![RankCode::MISS; self.mixes.len()];
            for event in 0..log.len() as u32 {
                if mine.next_if(|judged| **judged == event).is_some() {
                    follower.rank(event, &mut codes);
                    take(&mut result, &codes);
                }
                if mine.peek().is_none() {
                    break;
                }
                follower.push(event);
            }
            result
        };
        (0..n_shares).into_par_iter().map(follow).collect()
    }
}

/// The sparse terms of one event's candidates.
#[derive(Debug)]
struct SparseTerms {
    /// By item, for the candidates alone: related, own history, own transitions.
    of_items: Vec<[f64; 3]>,
    /// By item: whether it is a candidate.
    is_candidate: Vec<bool>,
    candidates: Vec<u32>,
}

const RELATED: usize = 0;
const OWN: usize = 1;
const TRANSITIONS: usize = 2;

impl SparseTerms {
    fn new(n_items: usize) -> Self {
        Self { of_items: vec![[0.0; 3]; n_items], is_candidate: vec![false; n_items], candidates: Vec::new() }
    }

    fn add(&mut self, term: usize, item: u32, value: f64) {
        if !std::mem::replace(&mut self.is_candidate[item as usize], true) {
            self.candidates.push(item);
        }
        self.of_items[item as usize][term] += value;
    }

    fn clear(&mut self) {
        for item in self.candidates.drain(..) {
            self.of_items[item as usize] = [0.0; 3];
            self.is_candidate[item as usize] = false;
        }
    }
}

/// The candidates other than the target, side by side.
#[derive(Debug, Default)]
struct Rivals {
    items: Vec<u32>,
    terms: [Vec<f64>; 3],
    /// By half-life: the popularity of each.
    popularity: Vec<Vec<f64>>,
}

/// The target's place by popularity alone, of one half-life.
#[derive(Debug, Clone, Copy, Default)]
struct PopularityPlace {
    /// Factor of counts, by unit.
    peak: f64,
    share: f64,
    /// Items that have no sparse term and are more popular, or as popular.
    above: usize,
    equal: usize,
}

/// Follows the stream.
struct Follower<'a> {
    pass: &'a Pass,
    log: &'a Interactions,
    repeat: bool,
    uses_own: bool,
    uses_transitions: bool,
    decay: Decay,
    histories: Histories,
    popularity: Vec<DecayedPopularity>,
    table: Option<CooccurrenceTable>,
    sessions: SessionSearch,
    /// By item: its events and [`FREQUENCY_PRIOR`], to the power of −damping.
    norms: Vec<f64>,
    damping: f64,
    n_known: usize,
    terms: SparseTerms,
    rivals: Rivals,
    places: Vec<PopularityPlace>,
}

impl<'a> Follower<'a> {
    fn new(pass: &'a Pass, log: &'a Interactions, repeat: bool) -> Self {
        let n_items = log.n_items();
        let (damping, n_occurrences) = match pass.related {
            Related::Vstan(options) => (options.damping, OCCURRENCES),
            _ => (ITEM_KNN_DAMPING, 0),
        };
        Self {
            pass,
            log,
            repeat,
            uses_own: repeat && pass.mixes.iter().any(|mix| mix.own > 0.0),
            uses_transitions: repeat && pass.mixes.iter().any(|mix| mix.transitions > 0.0),
            decay: Decay::new(OWN_HALF_LIFE),
            histories: Histories::new(log.n_users(), n_items, n_occurrences),
            popularity: pass.half_lives.iter().map(|half_life| DecayedPopularity::new(*half_life, n_items)).collect(),
            table: (pass.related == Related::ItemKnn).then(|| CooccurrenceTable::new(n_items)),
            sessions: SessionSearch::default(),
            norms: vec![FREQUENCY_PRIOR.powf(-damping); n_items],
            damping,
            n_known: 0,
            terms: SparseTerms::new(n_items),
            rivals: Rivals { popularity: vec![Vec::new(); pass.half_lives.len()], ..Rivals::default() },
            places: Vec::new(),
        }
    }

    /// Event number `event` becomes history.
    fn push(&mut self, event: u32) {
        let (user, item) = (self.log.users[event as usize], self.log.items[event as usize]);
        if let Some(table) = &mut self.table {
            table.push(&self.histories.users[user as usize], item);
        }
        self.n_known += usize::from(self.histories.counts[item as usize] == 0);
        self.histories.push(event, user, item, &self.decay);
        self.popularity.iter_mut().for_each(|popularity| popularity.push(event, item));
        let count = f64::from(self.histories.counts[item as usize]);
        self.norms[item as usize] = (count + FREQUENCY_PRIOR).powf(-self.damping);
    }

    /// Ranks event number `event`, by mix.
    fn rank(&mut self, event: u32, codes: &mut [RankCode]) {
        let (user, target) = (self.log.users[event as usize], self.log.items[event as usize]);
        if self.histories.counts[target as usize] == 0 {
            return codes.fill(RankCode::MISS);
        }
        self.gather_terms(event, user);
        let removed = self.removed(user, target);
        self.line_up_rivals(target, &removed);
        self.place_by_popularity(event, target, &removed);
        let best =
            self.rivals.terms[RELATED].iter().copied().fold(self.terms.of_items[target as usize][RELATED], f64::max);
        let scale = if best > 0.0 { best.recip() } else { 1.0 };
        for (mix, code) in self.pass.mixes.iter().zip(codes) {
            *code = self.rank_under(mix, scale, target, &removed);
        }
        self.terms.clear();
    }

    fn gather_terms(&mut self, event: u32, user: u32) {
        let Self { histories, terms, norms, decay, sessions, .. } = self;
        let past = &histories.users[user as usize];
        let norm = |item: u32| norms[item as usize];
        let related = |item: u32, value: f64| terms.add(RELATED, item, value);
        match (&self.pass.related, &self.table) {
            (Related::Vstan(options), _) => sessions.related(options, histories, (event, user), norm, related),
            (_, Some(table)) => table.related(past, norm, related),
            (_, None) => {}
        }
        if self.uses_own {
            past.own_history(decay).for_each(|(item, value)| terms.add(OWN, item, value));
        }
        if self.uses_transitions {
            past.own_transitions(decay).for_each(|(item, value)| terms.add(TRANSITIONS, item, value));
        }
    }

    /// The items that leave the ranking.
    fn removed(&self, user: u32, target: u32) -> Vec<u32> {
        if self.repeat {
            return Vec::new();
        }
        let own = self.histories.users[user as usize].own.iter().map(|own| own.item);
        own.filter(|item| *item != target).collect()
    }

    fn line_up_rivals(&mut self, target: u32, removed: &[u32]) {
        let Self { terms, rivals, popularity, .. } = self;
        // For the moment they are no candidates; the buffer is cleared after the event.
        for item in removed {
            terms.is_candidate[*item as usize] = false;
        }
        rivals.items.clear();
        rivals
            .items
            .extend(terms.candidates.iter().filter(|item| **item != target && terms.is_candidate[**item as usize]));
        for (term, values) in rivals.terms.iter_mut().enumerate() {
            values.clear();
            values.extend(rivals.items.iter().map(|item| terms.of_items[*item as usize][term]));
        }
        for (values, popularity) in rivals.popularity.iter_mut().zip(popularity) {
            values.clear();
            values.extend(rivals.items.iter().map(|item| popularity.count(*item)));
        }
    }

    fn place_by_popularity(&mut self, event: u32, target: u32, removed: &[u32]) {
        let Self { popularity, rivals, places, .. } = self;
        places.clear();
        places.extend(popularity.iter().map(|popularity| {
            let key = popularity.key(target);
            let (mut above, up_to_equal) = popularity.compare(key);
            // The target is one of the equal ones.
            let mut equal = up_to_equal - 1;
            if above < K + rivals.items.len() + removed.len() {
                for item in rivals.items.iter().chain(removed) {
                    above -= usize::from(popularity.key(*item) > key);
                    equal -= usize::from(popularity.key(*item) == key);
                }
            }
            PopularityPlace { peak: popularity.peak(), share: popularity.share(event), above, equal }
        }));
    }

    /// The target's rank under one mix; beyond the first [`K`] it does not matter which.
    fn rank_under(&self, mix: &Mix, scale: f64, target: u32, removed: &[u32]) -> RankCode {
        let place = self.places[mix.half_life];
        let popularity = &self.popularity[mix.half_life];
        let weights = [mix.related * scale, mix.own, mix.transitions];
        let of_popularity = mix.popularity
            * match mix.unit {
                PopularityUnit::Peak => place.peak,
                PopularityUnit::Share => place.share,
            };
        let terms = self.terms.of_items[target as usize];
        let sparse = weights[0] * terms[0] + weights[1] * terms[1] + weights[2] * terms[2];
        let total = sparse + of_popularity * popularity.count(target);
        // Items without a sparse term, where the target has none either.
        let (mut above, mut equal) = match sparse == 0.0 {
            true if mix.popularity > 0.0 => (place.above, place.equal),
            true => (0, self.n_known - removed.len() - self.rivals.items.len() - 1),
            false => (0, 0),
        };
        let [related, own, transitions] = &self.rivals.terms;
        let counts = &self.rivals.popularity[mix.half_life];
        for begin in (0..counts.len()).step_by(STRIDE) {
            if above >= K {
                return RankCode::MISS;
            }
            let stretch = begin..(begin + STRIDE).min(counts.len());
            let (related, own, transitions) =
                (&related[stretch.clone()], &own[stretch.clone()], &transitions[stretch.clone()]);
            for (place, count) in counts[stretch].iter().enumerate() {
                let score = weights[0] * related[place]
                    + weights[1] * own[place]
                    + weights[2] * transitions[place]
                    + of_popularity * count;
                above += usize::from(score > total);
                equal += usize::from(score == total);
            }
        }
        if above < K && sparse > 0.0 && mix.popularity > 0.0 {
            // Items without a sparse term may be popular enough.
            let key = popularity.key_of(total / of_popularity);
            let (mut more, _) = popularity.compare(key);
            if more > 0 {
                let others = self.rivals.items.iter().chain(removed);
                more -= others.filter(|item| popularity.key(**item) > key).count();
            }
            above += more;
        }
        RankCode::of_counts(above, equal)
    }
}
