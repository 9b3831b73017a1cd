//! The events that all contestants are judged by.

use hashbrown::HashSet;
use serde::Serialize;

use crate::evaluate::metrics::WARM;
use crate::peers::interactions::Interactions;

/// A user with fewer events than this is new.
const SETTLED: u32 = 10;
/// An item that came first so lately is young, in milliseconds: a day.
const YOUNG: i64 = 86_400_000;

/// The judged events, in the order of the stream.
#[derive(Debug, Clone, Default)]
pub struct JudgedEvents {
    /// Number of each event among the positive ones.
    pub numbers: Vec<u32>,
    /// Number of each event's user, among those with judged events.
    pub users: Vec<u32>,
    /// Number of users with judged events.
    pub n_users: usize,
    /// Time of each event, milliseconds since 1970 UTC.
    pub timestamps: Vec<i64>,
    /// Which bands each event is in: bit k stands for band k.
    masks: Vec<u16>,
    bands: Vec<Band>,
}

/// A part of the judged events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Band {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub about: String,
    /// Events in it.
    pub events: u64,
}

impl JudgedEvents {
    /// The events of these numbers (ascending) of `log`; `repeat`: items may recur.
    pub fn new(log: &Interactions, numbers: Vec<u32>, repeat: bool) -> Self {
        let mut counts = vec![0u32; log.n_items()];
        let mut first = vec![i64::MAX; log.n_items()];
        let mut activity = vec![0u32; log.n_users()];
        let mut had: HashSet<(u32, u32)> = HashSet::new();
        let mut user_numbers = vec![u32::MAX; log.n_users()];
        let mut judged = Self { numbers, ..Self::default() };
        let mut facts = Vec::with_capacity(judged.numbers.len());
        let mut next = judged.numbers.iter().peekable();
        let mut users = Vec::with_capacity(judged.numbers.len());
        for event in 0..log.len() {
            let (user, item, time) = (log.users[event], log.items[event], log.timestamps[event]);
            let (count, first) = (&mut counts[item as usize], &mut first[item as usize]);
            if next.next_if(|number| **number as usize == event).is_some() {
                let number = &mut user_numbers[user as usize];
                if *number == u32::MAX {
                    *number = judged.n_users as u32;
                    judged.n_users += 1;
                }
                users.push(*number);
                judged.timestamps.push(time);
                facts.push(EventFacts {
                    occurrences: *count,
                    is_young: *count > 0 && time.saturating_sub(*first) < YOUNG,
                    is_repeat: repeat && had.contains(&(user, item)),
                    activity: activity[user as usize],
                });
            }
            *count += 1;
            *first = (*first).min(time);
            activity[user as usize] += 1;
            if repeat {
                had.insert((user, item));
            }
        }
        judged.users = users;
        judged.set_bands(&facts, repeat);
        judged
    }

    fn set_bands(&mut self, facts: &[EventFacts], repeat: bool) {
        let mut occurrences: Vec<u32> = facts.iter().map(|facts| facts.occurrences).collect();
        occurrences.sort_unstable();
        let (low, high) = (quantile(&occurrences, 1.0 / 3.0), quantile(&occurrences, 2.0 / 3.0));
        let of = |facts: &EventFacts| f64::from(facts.occurrences);
        let mut bands: Vec<(&'static str, String, Belongs)> = vec![
            (
                "cold",
                format!("items that came fewer than {WARM} times before"),
                Box::new(|f| u64::from(f.occurrences) < WARM),
            ),
            ("tail", format!("items that came {low:.0} times at most: a third"), Box::new(move |f| of(f) <= low)),
            ("middle", "items between tail and head".to_owned(), Box::new(move |f| of(f) > low && of(f) <= high)),
            ("head", format!("items that came more than {high:.0} times: a third"), Box::new(move |f| of(f) > high)),
            ("young", "items that came first within the last day".to_owned(), Box::new(|f| f.is_young)),
            ("new users", format!("users with fewer than {SETTLED} events"), Box::new(|f| f.activity < SETTLED)),
        ];
        if repeat {
            bands.push(("returning", "items that the user had before".to_owned(), Box::new(|f| f.is_repeat)));
            bands.push(("discovered", "items that the user had not".to_owned(), Box::new(|f| !f.is_repeat)));
        }
        self.masks = facts
            .iter()
            .map(|facts| {
                bands.iter().enumerate().fold(0, |mask, (bit, (_, _, holds))| mask | (u16::from(holds(facts)) << bit))
            })
            .collect();
        let count = |bit: usize| self.masks.iter().filter(|mask| **mask >> bit & 1 == 1).count() as u64;
        self.bands = bands
            .iter()
            .enumerate()
            .map(|(bit, (name, about, _))| Band { name, about: about.clone(), events: count(bit) })
            .collect();
    }

    /// Number of judged events.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The bands.
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Whether the event at `place` is in the band at `band`.
    pub fn is_in_band(&self, place: usize, band: usize) -> bool {
        self.masks[place] >> band & 1 == 1
    }
}

/// Whether an event is in a band.
type Belongs = Box<dyn Fn(&EventFacts) -> bool>;

/// What is known of an event before it happens.
#[derive(Debug, Clone, Copy)]
struct EventFacts {
    /// How often its item came before.
    occurrences: u32,
    is_young: bool,
    is_repeat: bool,
    /// How many events its user had.
    activity: u32,
}

/// The quantile of ascending values, interpolated between neighbours (Hyndman & Fan's type 7).
fn quantile(sorted: &[u32], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let at = |place: f64| f64::from(sorted[place as usize]);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_events_fall_into_the_bands_that_the_past_puts_them_in() {
        let mut log = Interactions::default();
        let day = 86_400_000;
        for (user, item, time) in [("u", "a", 0), ("u", "b", 1), ("v", "a", 2), ("u", "a", 3), ("u", "a", 2 * day)] {
            log.push(user, item, time);
        }
        let judged = JudgedEvents::new(&log, vec![1, 3, 4], true);
        let bands = |place: usize| {
            let named = judged.bands().iter().enumerate().filter(|(band, _)| judged.is_in_band(place, *band));
            named.map(|(_, band)| band.name).collect::<Vec<_>>()
        };
        assert_eq!(judged.n_users, 1);
        // The targets came 0, 2 and 3 times before: a third of the way is 1.33, two thirds 2.33.
        assert_eq!(bands(0), ["cold", "tail", "new users", "discovered"]);
        assert_eq!(bands(1), ["cold", "middle", "young", "new users", "returning"]);
        assert_eq!(bands(2), ["cold", "head", "new users", "returning"]);
        assert_eq!(judged.bands()[0].events, 3);
    }
}
