//! A map of items: places in a plane, where items that the model takes for alike lie close to each other.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`MapDesk`]: the thread that makes maps, one at a time, and keeps the newest |
//! | `layout` | places of vectors: near for those that are near, warm-started from the map before |
//! | `plane` | the plane that shows most of some vectors, and how one map is turned onto another |
//!
//! A map is of some thousand items: the most common ones and the newest. It is made only when somebody asks, and seldom: it may take a
//! twentieth of a core's time. The view of the state is held only while vectors are copied out of it.

mod layout;
mod plane;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::answer::{ApiAnswer, body, knowledge};
use super::filter::CatalogueFilter;
use super::messages::{MapAnswer, MapItem};
use super::problem::{ApiProblem, ProblemKind};
use super::queue::enqueue;
use crate::recommend::slot::ViewSlot;
use crate::recommend::view::{StateView, ViewFacts};
use layout::MapPlaces;

/// Most items of a map: the most common ones.
const MOST_COMMON: usize = 1_600;
/// Most items of a map that are there since they are new.
const MOST_NEW: usize = 400;
/// The shortest time between two maps.
const EVERY: Duration = Duration::from_secs(4);
/// A map costs a core at most one in so many parts of the time.
const SHARE_OF_TIME: u32 = 20;
/// Requests that may wait.
const QUEUE: usize = 16;

/// A request that waits.
#[derive(Debug)]
struct MapRequest {
    deadline: Instant,
    reply: oneshot::Sender<ApiAnswer>,
}

/// Where maps are asked for; clones are the same desk. Its thread ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct MapDesk {
    queue: Sender<MapRequest>,
}

/// An item as it is copied out of a view.
struct SampledItem {
    id: CompactString,
    count: u64,
    /// Its place in the order in which items came, 0 for the oldest to 1 for the newest.
    arrival: f32,
}

/// What is copied out of a view.
struct MapSample {
    items: Vec<SampledItem>,
    /// Unit vectors, one after the other.
    vectors: Vec<f32>,
    dim: usize,
}

impl MapDesk {
    /// Starts the thread.
    pub(super) fn open(views: ViewSlot, titles: CatalogueFilter) -> std::io::Result<Self> {
        let (sender, receiver) = bounded(QUEUE);
        let thread = std::thread::Builder::new().name("map".to_owned());
        thread.spawn(move || work(&receiver, &views, &titles))?;
        Ok(Self { queue: sender })
    }

    /// Asks for the newest map; the answer comes by the receiver.
    pub(super) fn ask(&self, deadline: Instant) -> Result<oneshot::Receiver<ApiAnswer>, ApiProblem> {
        let (reply, answer) = oneshot::channel();
        enqueue(&self.queue, MapRequest { deadline, reply }, "so many wait for a map as may; ask again")?;
        Ok(answer)
    }
}

fn work(queue: &Receiver<MapRequest>, views: &ViewSlot, titles: &CatalogueFilter) {
    let mut places = MapPlaces::default();
    let mut newest: Option<(ApiAnswer, Instant)> = None;
    while let Ok(MapRequest { deadline, reply }) = queue.recv() {
        let began = Instant::now();
        if reply.is_closed() || deadline <= began {
            continue;
        }
        let answer = match &newest {
            Some((answer, until)) if began < *until => answer.clone(),
            _ => {
                let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    make(views, titles, deadline, &mut places)
                }));
                let answer = made.unwrap_or_else(|_| {
                    places = MapPlaces::default();
                    Err(ApiProblem::new(ProblemKind::Fault, "the map could not be made"))
                });
                if answer.is_ok() {
                    let now = Instant::now();
                    newest = Some((answer.clone(), now + EVERY.max((now - began) * SHARE_OF_TIME)));
                }
                answer
            }
        };
        // Whoever has gone gets none.
        let _ = reply.send(answer);
    }
}

fn make(views: &ViewSlot, titles: &CatalogueFilter, deadline: Instant, places: &mut MapPlaces) -> ApiAnswer {
    let read = views.read(deadline, |view, age| (view.facts().clone(), age, sample(view)));
    let (facts, age, MapSample { items, vectors, dim }): (ViewFacts, Duration, MapSample) = read?;
    let ids: Vec<CompactString> = items.iter().map(|item| item.id.clone()).collect();
    let found = places.place(&facts.model_id, &ids, &vectors, dim);
    let item = |(item, [x, y]): (&SampledItem, [f32; 2])| MapItem {
        item_id: item.id.to_string(),
        title: titles.title(&item.id).map(str::to_owned),
        x,
        y,
        count: item.count,
        arrival: item.arrival,
    };
    let items = items.iter().zip(found).map(item).collect();
    body(&MapAnswer { model: knowledge(&facts, age), items })
}

/// The most common items and the newest, with their vectors.
fn sample(view: &StateView) -> MapSample {
    let n = view.items().len();
    let counts = |row: &u32| view.occurrences(*row);
    let mut rows: Vec<u32> = (0..n as u32).filter(|row| counts(row) > 0).collect();
    let newest: Vec<u32> = rows.iter().rev().take(MOST_NEW).copied().collect();
    if rows.len() > MOST_COMMON {
        rows.select_nth_unstable_by_key(MOST_COMMON - 1, |row| (std::cmp::Reverse(counts(row)), *row));
        rows.truncate(MOST_COMMON);
    }
    rows.extend(newest);
    rows.sort_unstable();
    rows.dedup();
    let (mut vectors, mut dim) = (Vec::new(), 0);
    for row in &rows {
        let (mut vector, _) = view.item_vector(*row);
        dim = vector.len();
        let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        let factor = if norm > 0.0 { norm.recip() } else { 0.0 };
        vector.iter_mut().for_each(|number| *number *= factor);
        vectors.extend(vector);
    }
    let last = (n.max(2) - 1) as f32;
    let item =
        |row: &u32| SampledItem { id: view.items().name(*row).into(), count: counts(row), arrival: *row as f32 / last };
    MapSample { items: rows.iter().map(item).collect(), vectors, dim }
}

/// MapPlaces by their items' names.
type PlacesByName = BTreeMap<CompactString, [f32; 2]>;
