//! The keeper of the index: a thread that makes it, measures what it finds, and makes it anew where that is too little.
//!
//! It never waits for anybody and hardly lets anybody wait: vectors are copied some thousands at a time, and what is measured is some
//! lists now and then, found both by the index and by a look at all items.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::ServeConfig;
use super::figures::ServingFigures;
use crate::recommend::index::{CopiedItems, SearchIndex};
use crate::recommend::slot::ViewSlot;
use crate::recommend::view::StateView;

/// Length of the lists that are measured.
const MEASURED: usize = 20;
/// How often it is looked whether there is anything to do.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often some lists are measured: what one costs, sixteen cost, since a look at all items is shared.
const MEASURE_EVERY: Duration = Duration::from_secs(12);
/// A measurement that takes longer is given up: the model has moved on too far.
const LONGEST_MEASUREMENT: Duration = Duration::from_secs(4);
/// The first ones of an index come faster.
const FIRST_MEASURED: usize = 128;
const MEASURE_FIRST_EVERY: Duration = Duration::from_secs(1);
/// Vectors that are copied in one go.
const SLICE: usize = 4_096;
/// Chunks of items that are looked at in one go, while lists are measured.
const MEASURED_CHUNKS: usize = 16;
/// The pause between two of these.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Items that came since the index was made, as a part of those that it knows, before it is made anew: all of them are looked at.
const MOST_NEW: usize = 50;
/// What more than the least recall is aimed at, as a part of what is missing: lists differ.
const AIM: f32 = 0.75;
/// An index whose recall has come to its end is made anew after so long at the earliest.
const LEAST_AGE: Duration = Duration::from_secs(10);

/// The thread; it ends when this goes.
#[derive(Debug)]
pub(super) struct IndexKeeper {
    is_over: Arc<AtomicBool>,
}

impl Drop for IndexKeeper {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl IndexKeeper {
    /// Starts to keep the index of the views in `views`, where these have as many items as `config` says.
    pub(super) fn start(
        config: &ServeConfig,
        views: ViewSlot,
        figures: Arc<Mutex<ServingFigures>>,
    ) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let mut work = KeeperWork {
            config: config.clone(),
            views,
            figures,
            built_at: None,
            measured: 0,
            measured_at: None,
            is_worn: false,
        };
        std::thread::Builder::new().name("index".to_owned()).spawn(move || {
            // One thread of its own: those that answer have other things to do.
            let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build() else { return };
            pool.install(|| {
                while !over.load(Ordering::Acquire) {
                    let pause = work.turn(&over);
                    std::thread::park_timeout(pause);
                }
            });
        })?;
        Ok(Self { is_over })
    }
}

struct KeeperWork {
    config: ServeConfig,
    views: ViewSlot,
    figures: Arc<Mutex<ServingFigures>>,
    built_at: Option<Instant>,
    /// Lists measured of this index.
    measured: usize,
    measured_at: Option<Instant>,
    /// Whether no reach is enough any more.
    is_worn: bool,
}

/// What there is to do.
enum Task {
    Build { earlier: Option<Arc<SearchIndex>>, generation: u64 },
    Measure,
    Nothing,
}

impl KeeperWork {
    /// Does what there is to do; gives how long there is nothing.
    fn turn(&mut self, is_over: &AtomicBool) -> Duration {
        let task = if self.views.is_asked(Instant::now()) { self.task() } else { Task::Nothing };
        match task {
            Task::Build { earlier, generation } => {
                let begin = Instant::now();
                let Some(index) = self.build(is_over) else { return LOOK_EVERY };
                earlier.iter().for_each(|earlier| index.succeed(earlier));
                (self.built_at, self.measured, self.is_worn) = (Some(Instant::now()), 0, false);
                self.measured_at = None;
                self.views.set_index(Arc::new(index), generation);
                self.figures().built_index(begin.elapsed());
                Duration::ZERO
            }
            Task::Measure => {
                let every = if self.measured < FIRST_MEASURED { MEASURE_FIRST_EVERY } else { MEASURE_EVERY };
                if self.measured_at.is_none_or(|at| at.elapsed() >= every) {
                    self.measure(is_over);
                }
                LOOK_EVERY
            }
            Task::Nothing => LOOK_EVERY,
        }
    }

    fn figures(&self) -> std::sync::MutexGuard<'_, ServingFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self) -> Task {
        let generation = self.views.generation();
        let is_due = self.is_worn && self.built_at.is_none_or(|at| at.elapsed() > LEAST_AGE);
        let task = |view: &mut StateView| {
            let n_items = view.n_items();
            if n_items < self.config.index_from || !view.can_have_index() {
                return Task::Nothing;
            }
            match view.index().cloned() {
                None => Task::Build { earlier: None, generation },
                Some(index) if is_due || n_items - index.len() > index.len() / MOST_NEW => {
                    Task::Build { earlier: Some(index), generation }
                }
                Some(_) => Task::Measure,
            }
        };
        self.views.peek(task).unwrap_or(Task::Nothing)
    }

    /// The index of the items as they are, or as they go by; `None` where their rows got other numbers meanwhile.
    fn build(&self, is_over: &AtomicBool) -> Option<SearchIndex> {
        let (mut builder, n_items) = self.views.peek(|view| (view.begin_index(), view.n_items()))?;
        builder.cluster(n_items);
        let mut next = CopiedItems::default();
        while builder.n_placed() < n_items && !is_over.load(Ordering::Acquire) {
            match self.views.peek(|view| view.copy_items(&builder, SLICE, &mut next)) {
                Some(true) if !next.is_empty() => builder.place(&mut next),
                Some(_) => return None,
                // A view is being made.
                None => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
        (builder.n_placed() >= n_items).then(|| builder.build())
    }

    fn measure(&mut self, is_over: &AtomicBool) {
        let (begin, least) = (Instant::now(), self.config.index_recall as f32);
        self.measured_at = Some(begin);
        let begun = self.views.peek(|view| Some((view.begin_measurement(MEASURED)?, view.index()?.clone())));
        let Some((mut measurement, index)) = begun.flatten() else { return };
        let (searches, n_items) = loop {
            if is_over.load(Ordering::Acquire) || begin.elapsed() > LONGEST_MEASUREMENT {
                return;
            }
            let go_on = |view: &mut StateView| {
                view.go_on_measuring(&mut measurement, MEASURED_CHUNKS).map(|searches| (searches, view.n_items()))
            };
            match self.views.peek(go_on) {
                Some(Some(measured)) => break measured,
                // A lock that is wanted again at once is not given to others; or a view is being made.
                Some(None) | None => std::thread::park_timeout(BETWEEN_LOOKS),
            }
        };
        for search in searches {
            let recall = search.found as f32 / search.of.max(1) as f32;
            self.is_worn |= index.learn(recall, least + AIM * (1.0 - least));
            self.measured += 1;
            self.figures().measured_index(&search, index.reach(), n_items);
        }
    }
}
