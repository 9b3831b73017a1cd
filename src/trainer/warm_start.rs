//! A warm start: a model that has seen no event begins with the items and vectors of another one.
//!
//! | of an imported item | begins as |
//! | --- | --- |
//! | row | its vector, of a given length where the similarity is the cosine |
//! | row for the context | half of its vector: in a model that was learnt from a stream the two rows are alike, but not the same |
//! | the optimizer's sums | what they would come to with as many events: gradients move a vector the less, the more it is worth |
//! | frequency q̂, counts | what the other model counted, where that is known; else as before its first event: half an event, as every item is given |
//! | admission | it has a row, so it need not come before it is learnt |
//! | expiry, cap | as if its last event came just before the stream begins; the least common go first where the cap is reached |
//! | live items, samplers | where it is known to have had events: it lives, and can be drawn; else it is not seen yet |
//! | features | those of the catalogue; their rows begin at zero, so that the vector is what was imported |
//! | co-occurrence, users, bank | nothing: these come with events |

use crate::catalogue::Catalogue;
use crate::negatives::samplers::{BatchObservation, StreamView};
use crate::trainer::state::{NegativeSources, State};

/// What the optimizer's sums begin at, and grow by with each event that an item had. Of items that are learnt from a stream they
/// grow by 1.6e-5 (the accumulators in `item_state.parquet` beside the counts, MovieLens 100K). A third of it ranks better on two
/// logs of films: vectors of another model, or of one that learnt other gradients, have some way to go.
const SUM_START: f32 = 1e-5;
const SUM_OF_EVENT: f32 = 5e-6;
/// Events that an item is held to have had where nobody knows.
pub const UNKNOWN_EVENTS: u64 = 20;
/// The length of vectors where the similarity is the cosine: that of items with five to ten events of a stream (there likewise).
pub const LENGTH: f32 = 0.6;
/// What the row for the context has of the vector.
const CONTEXT: f32 = 0.5;

/// An item of another model.
#[derive(Debug, Clone, Copy)]
pub struct WarmItem<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its vector, dim numbers.
    pub vector: &'a [f32],
    /// Events that it had, where that is known.
    pub count: Option<u64>,
    /// Time of its newest event, milliseconds since 1970 UTC; 0 where that is not known.
    pub last_event: i64,
}

/// How vectors of another model become rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmStart {
    /// The length that every vector is given; `None`: as they are.
    pub length: Option<f32>,
    /// Vectors are held as firmly as those of items that had so many events; `None`: as many as each had, or
    /// [`UNKNOWN_EVENTS`].
    pub events: Option<u64>,
}

impl State {
    /// Begins with `items`, whose features are those of `catalogue`. They are given rows from the least common to the most common
    /// one, and otherwise in their order.
    ///
    /// # Panics
    /// Where the state has items, two of `items` have one name, or a vector has another dimension than the model.
    pub fn warm_start(&mut self, items: &[WarmItem<'_>], catalogue: &Catalogue, how: WarmStart) {
        assert!(self.items.ids.is_empty(), "a warm start is a beginning");
        let mut order: Vec<&WarmItem<'_>> = items.iter().collect();
        order.sort_by_key(|item| item.count);
        let mut context = vec![0.0; self.model.dim()];
        for item in &order {
            let row = self.add_item_with(item.name, || catalogue.of(item.name, &[]));
            // In doubles, whose squares neither vanish nor overflow.
            let length = item.vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
            let scale = how.length.filter(|_| length > 0.0).map_or(1.0, |wanted| f64::from(wanted) / length);
            let vector: Vec<f32> = item.vector.iter().map(|number| (f64::from(*number) * scale) as f32).collect();
            context.iter_mut().zip(&vector).for_each(|(out, number)| *out = number * CONTEXT);
            let events = how.events.or(item.count).unwrap_or(UNKNOWN_EVENTS);
            self.model.set_item(row as usize, &vector, &context, SUM_START + SUM_OF_EVENT * events as f32);
            *self.items.occurrences.get_mut(row as usize) = item.count.unwrap_or_default();
            *self.items.last_event.get_mut(row as usize) = item.last_event;
            self.items.lifecycle.touch(row, 0);
        }
        assert_eq!(self.items.ids.len(), order.len(), "each item has a name of its own");
        let counts: Vec<u64> = order.iter().map(|item| item.count.unwrap_or_default()).collect();
        // Samplers draw what was seen, by how often that was.
        let seen: Vec<u32> = (0..).zip(&counts).filter(|(_, count)| **count > 0).map(|(row, _)| row).collect();
        let Self { negatives: NegativeSources { frequencies, live, noise, .. }, model, .. } = self;
        frequencies.begin_with(&counts);
        live.observe(&seen);
        let view = StreamView { frequencies, live, vectors: &*model };
        noise.observe(view, BatchObservation { items: &seen, ..BatchObservation::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::kernel::Kernel;

    /// A state of a model with `settings` that begins with `items`: name, count.
    fn begun(settings: &[&str], items: &[(&str, Option<u64>)]) -> State {
        let settings: Vec<String> = ["model.dim=2"].iter().chain(settings).map(|&text| text.to_owned()).collect();
        let config = Config::with_settings(&settings).unwrap();
        let mut state = State::new(&config, Kernel::detect());
        let items: Vec<WarmItem<'_>> = items
            .iter()
            .map(|(name, count)| WarmItem { name, vector: &[3.0, 4.0], count: *count, last_event: 5 })
            .collect();
        state.warm_start(&items, &Catalogue::empty(&config), WarmStart { length: Some(LENGTH), events: None });
        state
    }

    #[test]
    fn vectors_keep_their_direction_and_are_held_by_what_they_are_worth() {
        let state = begun(&[], &[("much", Some(1_000)), ("little", Some(1)), ("unknown", None)]);
        let row = |name: &str| state.items.ids.get(name).unwrap() as usize;
        let vector = |name: &str| state.model.items.values.row(row(name)).to_vec();
        for (number, expected) in vector("much").iter().zip([0.6 * LENGTH, 0.8 * LENGTH]) {
            assert!((number - expected).abs() < 1e-6, "{:?}", vector("much"));
        }
        let sum = |name: &str| state.model.items.sums.row(row(name))[0];
        assert!(sum("little") < sum("unknown") && sum("unknown") < sum("much"));
        let contexts = state.model.contexts.as_ref().unwrap();
        assert_eq!(contexts.values.row(0)[0], CONTEXT * state.model.items.values.row(0)[0]);
        assert_eq!((state.items.occurrences[row("much")], state.items.last_event[row("little")]), (1_000, 5));
        let is_live = |name: &str| state.negatives.live.contains(state.items.ids.get(name).unwrap());
        assert!(is_live("much") && is_live("little") && !is_live("unknown"));
        assert_eq!(state.progress.events, crate::event::EventCounts::default());
    }

    #[test]
    fn vectors_of_any_length_get_the_one_that_is_asked_for() {
        let config = Config::with_settings(&["model.dim=2".to_owned()]).unwrap();
        let mut state = State::new(&config, Kernel::detect());
        let item = |name, vector| WarmItem { name, vector, count: None, last_event: 0 };
        let items = [item("tiny", &[1e-30, 0.0][..]), item("huge", &[1e30, 1e30]), item("none", &[0.0, 0.0])];
        let how = WarmStart { length: Some(2.0), events: Some(1_000_000_000) };
        state.warm_start(&items, &Catalogue::empty(&config), how);
        let length =
            |row: usize| state.model.items.values.row(row).iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((length(0) - 2.0).abs() < 1e-6 && (length(1) - 2.0).abs() < 1e-6 && length(2) == 0.0);
    }

    #[test]
    fn counts_become_frequencies_and_without_them_all_items_are_alike() {
        let counted = begun(&[], &[("often", Some(300)), ("seldom", Some(100))]);
        let frequency = |name: &str| {
            let row = counted.items.ids.get(name).unwrap();
            counted.negatives.frequencies.log_frequency(row)
        };
        assert!((frequency("often") - frequency("seldom") - 3.0_f32.ln()).abs() < 0.02);
        let blank = begun(&[], &[("a", None), ("b", None)]);
        let of = |row| blank.negatives.frequencies.log_frequency(row);
        assert!(of(0) == of(1) && of(0).is_finite());
    }

    #[test]
    fn imported_items_outlast_the_first_events_and_the_least_common_make_room() {
        let items = [("often", Some(9)), ("seldom", Some(1)), ("sometimes", Some(3))];
        let limits =
            ["memory.items.cap=8", "memory.items.expire_events=80", "memory.items.admit_after=3", "train.batch=2"];
        let state = begun(&limits, &items);
        let names: Vec<&str> = state.items.ids.iter().collect();
        assert_eq!(names, ["seldom", "sometimes", "often"]);
        let mut lifecycle = state.items.lifecycle.clone();
        // Eighty events after the beginning nobody is expired yet; then whoever had none is.
        assert!(lifecycle.evict(3, 1, 80).is_none());
        let mut crowded = state.items.lifecycle.clone();
        let rows = crowded.evict(3, 6, 1).expect("no room for six more");
        assert_eq!((0..3).map(|row| rows.get(row)).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
        assert_eq!(lifecycle.evict(3, 1, 200).expect("expired").n_kept(), 0);
    }

    #[test]
    fn features_of_the_catalogue_leave_vectors_as_they_are() {
        let state = begun(&["features.buckets=16"], &[("a", None)]);
        let mut served = [0.0; 2];
        state.model.served(0, &mut served);
        assert!((served[0] / served[1] - 0.75).abs() < 1e-6, "{served:?}");
    }
}
