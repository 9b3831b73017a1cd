//! The peers that there are: a name, what it is, and the settings of it that are tried.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::interactions::Interactions;
use super::mix::{Mix, grid};
use super::pass::{Pass, RankHistogram, Related};
use super::vstan::VstanOptions;
use crate::evaluate::rank_code::RankCode;

/// Half-lives of recent popularity, in events.
const HALF_LIVES: [f64; 8] = [50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 20_000.0];
/// The half-life of popularity where nothing else is said.
const HALF_LIFE: f64 = 5000.0;
/// Weight of popularity, as a share, where it decides between equals alone.
const DECIDES_TIES: f64 = 1e-3;
/// Settings of VSTAN are chosen on so many events at most.
const SAMPLE: usize = 4000;
/// Where all settings of a peer have no more ranks than this together, a byte each, they are kept: then the best need no second pass.
const MOST_RANKS: usize = 1 << 26;
/// From so many events on, every third setting of VSTAN is tried.
const LONG: usize = 1_000_000;

/// A peer.
#[derive(Debug)]
pub struct Peer {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it ranks by.
    pub about: &'static str,
    /// Only where items may recur.
    pub needs_repeat: bool,
    rank: fn(&Contest<'_>) -> Vec<PeerRanks>,
}

/// All peers, in the order in which they are shown.
pub static PEERS: &[Peer] = &[
    Peer {
        name: "popularity",
        about: "how often an item came",
        needs_repeat: false,
        rank: |contest| contest.best(popularity(&[f64::INFINITY])),
    },
    Peer {
        name: "recent",
        about: "how often it came lately, with the best of eight half-lives",
        needs_repeat: false,
        rank: |contest| contest.best(popularity(&HALF_LIVES)),
    },
    Peer {
        name: "own-history",
        about: "how often the user had it, decayed; then recent popularity",
        needs_repeat: true,
        rank: |contest| contest.best(own_history(&contest.half_lives())),
    },
    Peer {
        name: "own-transitions",
        about: "own history, and what the user took after their newest item before",
        needs_repeat: true,
        rank: |contest| contest.best(own_transitions()),
    },
    Peer {
        name: "item-knn",
        about: "what came together with the user's newest items (streaming item-kNN)",
        needs_repeat: false,
        rank: |contest| contest.best(item_knn()),
    },
    Peer {
        name: "item-knn-own",
        about: "item-kNN and own history",
        needs_repeat: true,
        rank: |contest| contest.best(item_knn_and_own_history()),
    },
    Peer {
        name: "vstan",
        about: "what users took whose sessions resemble this one (streaming VSTAN)",
        needs_repeat: false,
        rank: |contest| contest.best_vstan(vstan),
    },
    Peer {
        name: "mix",
        about: "item-kNN, own history, own transitions and popularity: the best of a grid",
        needs_repeat: false,
        rank: |contest| contest.best(mixes_of_item_knn(&contest.half_lives(), contest.repeat)),
    },
    Peer {
        name: "mix-vstan",
        about: "the same with VSTAN in the place of item-kNN",
        needs_repeat: false,
        rank: |contest| contest.best_vstan(mixes_of_vstan),
    },
];

/// The events that peers are held against one another on.
#[derive(Debug)]
pub struct Contest<'a> {
    log: &'a Interactions,
    judged: &'a [u32],
    repeat: bool,
    /// The half-lives of popularity that do best alone, in hit rate and in NDCG.
    best_alone: [f64; 2],
    /// The options of VSTAN that do best alone, which both of its peers start from.
    best_vstan: OnceLock<Vec<VstanOptions>>,
}

/// How one setting of a peer fared.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRanks {
    /// The setting, in words; empty where there is nothing to set.
    pub setting: String,
    /// How many settings were tried on these very events.
    pub n_tried: usize,
    /// The rank of each judged event.
    pub ranks: Vec<RankCode>,
}

/// Settings that share a pass.
#[derive(Debug)]
struct Settings {
    related: Related,
    half_lives: Vec<f64>,
    mixes: Vec<(String, Mix)>,
}

impl Settings {
    fn new(related: Related, half_lives: &[f64]) -> Self {
        Self { related, half_lives: half_lives.to_vec(), mixes: Vec::new() }
    }

    fn with(mut self, mixes: impl IntoIterator<Item = (String, Mix)>) -> Self {
        self.mixes.extend(mixes);
        self
    }

    /// The pass that ranks by the mixes of these places.
    fn pass(&self, chosen: impl IntoIterator<Item = usize>) -> Pass {
        let mixes = chosen.into_iter().map(|place| self.mixes[place].1).collect();
        Pass { related: self.related, half_lives: self.half_lives.clone(), mixes }
    }

    fn count(&self, contest: &Contest<'_>) -> RankHistogram {
        self.pass(0..self.mixes.len()).count(contest.log, contest.judged, contest.repeat)
    }
}

impl<'a> Contest<'a> {
    /// Of the events `judged` (numbers, ascending) of `log`; where items do not recur (`repeat` is false), a user's own items
    /// leave the ranking.
    pub fn new(log: &'a Interactions, judged: &'a [u32], repeat: bool) -> Self {
        let mut contest = Self { log, judged, repeat, best_alone: [HALF_LIFE; 2], best_vstan: OnceLock::new() };
        let figures = popularity(&HALF_LIVES).count(&contest).figures();
        contest.best_alone = best_places(&figures).map(|place| HALF_LIVES[place]);
        contest
    }

    /// How `peer` fares: with the setting that is best in hit rate, and where it is another one the one that is best in NDCG.
    /// Empty where items do not recur, for a peer that needs it.
    pub fn rank(&self, peer: &Peer) -> Vec<PeerRanks> {
        if peer.needs_repeat && !self.repeat { Vec::new() } else { (peer.rank)(self) }
    }

    /// The half-lives that mixes are tried with: the usual one, those that do best alone, and two more.
    fn half_lives(&self) -> Vec<f64> {
        let mut half_lives = Vec::new();
        for half_life in [HALF_LIFE, self.best_alone[0], self.best_alone[1], 100.0, 1000.0] {
            if !half_lives.contains(&half_life) {
                half_lives.push(half_life);
            }
        }
        half_lives
    }

    fn best(&self, settings: Settings) -> Vec<PeerRanks> {
        self.best_of(vec![settings], 0)
    }

    /// The best of `settings`, to which `n_before` others were narrowed down.
    fn best_of(&self, settings: Vec<Settings>, n_before: usize) -> Vec<PeerRanks> {
        let places: Vec<(usize, usize)> = settings
            .iter()
            .enumerate()
            .flat_map(|(pass, settings)| (0..settings.mixes.len()).map(move |mix| (pass, mix)))
            .collect();
        let passes = settings.iter().map(|settings| settings.pass(0..settings.mixes.len()));
        let mut kept: Vec<Vec<RankCode>> = Vec::new();
        let figures: Vec<(f64, f64)> = if places.len() == 1 {
            vec![(0.0, 0.0)]
        } else if places.len() * self.judged.len() <= MOST_RANKS {
            kept = passes.flat_map(|pass| pass.rank(self.log, self.judged, self.repeat)).collect();
            RankHistogram::of(&kept).figures()
        } else {
            passes.flat_map(|pass| pass.count(self.log, self.judged, self.repeat).figures()).collect()
        };
        let mut best = best_places(&figures).to_vec();
        best.dedup();
        let ranked = |place: usize| {
            let (pass, mix) = places[place];
            let pass = &settings[pass];
            let ranks = match kept.get_mut(place) {
                Some(ranks) => std::mem::take(ranks),
                None => pass.pass([mix]).rank(self.log, self.judged, self.repeat).pop().unwrap_or_default(),
            };
            PeerRanks { setting: pass.mixes[mix].0.clone(), n_tried: places.len() + n_before, ranks }
        };
        best.into_iter().map(ranked).collect()
    }

    /// The best of `settings`, with the options of VSTAN that do best on a sample of the events.
    fn best_vstan(&self, settings: fn(&[f64], bool) -> Settings) -> Vec<PeerRanks> {
        let best = self.best_vstan.get_or_init(|| self.find_best_vstan());
        let half_lives = self.half_lives();
        let half_lives = &half_lives[..half_lives.len().min(2)];
        let with = |options: VstanOptions| {
            let mut settings = settings(half_lives, self.repeat);
            settings.related = Related::Vstan(options);
            let VstanOptions { recency, age, distance, damping } = options;
            for (setting, _) in &mut settings.mixes {
                let decays = format!("decays {recency}, {age:e} events, {distance}; damping {damping}");
                *setting = if setting.is_empty() { decays } else { format!("{decays}; {setting}") };
            }
            settings
        };
        self.best_of(best.iter().copied().map(with).collect(), vstan_options(self.log.len()).len())
    }

    /// The options of VSTAN that do best on a sample of the events.
    fn find_best_vstan(&self) -> Vec<VstanOptions> {
        let sample: Vec<u32> = self.judged.iter().step_by((self.judged.len() / SAMPLE).max(1)).copied().collect();
        let tries = vstan_options(self.log.len());
        let alone = |options: &VstanOptions| {
            let mixes = vec![Mix::weights(1.0, 0.0, 0.0, DECIDES_TIES, 0)];
            let pass = Pass { related: Related::Vstan(*options), half_lives: vec![HALF_LIFE], mixes };
            pass.count(self.log, &sample, self.repeat).figures()[0]
        };
        let figures: Vec<(f64, f64)> = tries.par_iter().map(alone).collect();
        let mut best = best_places(&figures).to_vec();
        best.dedup();
        best.into_iter().map(|place| tries[place]).collect()
    }
}

/// The places of the best in hit rate and in NDCG; of equals the first.
fn best_places(figures: &[(f64, f64)]) -> [usize; 2] {
    let best = |of: fn(&(f64, f64)) -> f64| {
        let better = |best: usize, place: usize| if of(&figures[place]) > of(&figures[best]) { place } else { best };
        (0..figures.len()).reduce(better).unwrap_or_default()
    };
    [best(|figures| figures.0), best(|figures| figures.1)]
}

fn popularity(half_lives: &[f64]) -> Settings {
    let of = |(place, half_life): (usize, &f64)| {
        let setting = if half_life.is_finite() { format!("half-life {half_life} events") } else { String::new() };
        (setting, Mix::popularity(place))
    };
    Settings::new(Related::None, half_lives).with(half_lives.iter().enumerate().map(of))
}

fn own_history(half_lives: &[f64]) -> Settings {
    let of = |(place, half_life): (usize, &f64)| {
        (format!("then popularity of half-life {half_life}"), Mix::weights(0.0, 1.0, 0.0, DECIDES_TIES, place))
    };
    Settings::new(Related::None, half_lives).with(half_lives.iter().enumerate().map(of))
}

fn own_transitions() -> Settings {
    let of = |weight: f64| {
        (format!("transitions weigh {weight}, own history 1"), Mix::weights(0.0, 1.0, weight, DECIDES_TIES, 0))
    };
    Settings::new(Related::None, &[HALF_LIFE]).with([1.0, 2.0, 5.0, 15.0, 50.0].map(of))
}

fn item_knn() -> Settings {
    Settings::new(Related::ItemKnn, &[HALF_LIFE]).with([(String::new(), Mix::weights(1.0, 0.0, 0.0, 0.0, 0))])
}

fn item_knn_and_own_history() -> Settings {
    Settings::new(Related::ItemKnn, &[HALF_LIFE]).with(with_own_history())
}

/// 1 of what is related, and a little own history.
fn with_own_history() -> [(String, Mix); 2] {
    [0.1, 0.5].map(|own| (format!("own history weighs {own}"), Mix::weights(1.0, own, 0.0, own * DECIDES_TIES, 0)))
}

fn vstan(half_lives: &[f64], repeat: bool) -> Settings {
    let alone = (String::new(), Mix::weights(1.0, 0.0, 0.0, 0.0, 0));
    let then_popularity = ("then recent popularity".to_owned(), Mix::weights(1.0, 0.0, 0.0, DECIDES_TIES, 0));
    let settings = Settings::new(Related::None, half_lives).with([alone, then_popularity]);
    if repeat { settings.with(with_own_history()) } else { settings }
}

fn mixes_of_item_knn(half_lives: &[f64], repeat: bool) -> Settings {
    Settings::new(Related::ItemKnn, half_lives).with(described(grid(half_lives.len(), repeat, true), half_lives))
}

fn mixes_of_vstan(half_lives: &[f64], repeat: bool) -> Settings {
    Settings::new(Related::None, half_lives).with(described(grid(half_lives.len(), repeat, false), half_lives))
}

fn described(mixes: Vec<Mix>, half_lives: &[f64]) -> impl Iterator<Item = (String, Mix)> {
    mixes.into_iter().map(|mix| {
        let mut setting = String::new();
        for (weight, of) in [(mix.own, "own history"), (mix.transitions, "own transitions")] {
            if weight > 0.0 {
                setting.push_str(&format!("{weight} {of} + "));
            }
        }
        let half_life = half_lives[mix.half_life];
        (format!("+ {setting}{} popularity (half-life {half_life})", mix.popularity), mix)
    })
}

/// The settings of VSTAN that are tried on a log of so many events.
fn vstan_options(events: usize) -> Vec<VstanOptions> {
    let mut all = Vec::new();
    for recency in [1.5, 5.0] {
        for age in [3e3, 3e4, 1e12] {
            for distance in [1.5, 6.0] {
                for damping in [0.0, 0.5] {
                    all.push(VstanOptions { recency, age, distance, damping });
                }
            }
        }
    }
    // Every third one has each value of each setting.
    if events < LONG { all } else { all.into_iter().skip(1).step_by(3).collect() }
}
