//! The stream that the worker learns from meanwhile, and the worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use negstream::Config;
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::pipeline::CheckpointRequests;
use negstream::position::Stream;
use negstream::recommend::slot::{ViewSlot, ViewWriter};
use negstream::serve::Api;
use negstream::table::rows::{GOLDEN, split_mix};
use negstream::telemetry::{Telemetry, http};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;

pub const USERS: u64 = 20_000;
/// Kinds of items.
const KINDS: u64 = 2_000;
/// Kinds that a user likes.
const KINDS_OF_USER: u64 = 4;
/// Dimensions that the vectors of alike items lie in.
const INTRINSIC: usize = 20;

/// A worker that is asked while it learns.
pub struct Worker {
    pub config: Config,
    pub trainer: Trainer,
    pub events: Events,
    pub slot: ViewSlot,
    pub views: ViewWriter,
    pub server: http::Server,
    _api: Api,
}

impl Worker {
    /// One that knows `items` items, `alike` of whose events are of a few kinds for each user.
    pub fn start(items: u64, alike: f64, settings: &[String]) -> anyhow::Result<Self> {
        let mut all = vec![
            "model.dim=64".to_owned(),
            "memory.items.cap=0".to_owned(),
            "evaluate.share=0.0".to_owned(),
            "http.listen=127.0.0.1:0".to_owned(),
        ];
        all.extend(settings.iter().cloned());
        let config = Config::with_settings(&all)?;
        let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect()))?;
        trainer.set_streams(&[Stream { name: "bench".to_owned(), label: "bench".to_owned() }]);
        for item in 0..items {
            trainer.state.add_item(&format!("item-{item}"));
        }
        if alike > 0.0 {
            gather_by_kind(&mut trainer.state, items);
        }
        let mut events = Events { items, alike: (alike * 1e3) as u64, n: 0 };
        // So that users have something to be asked by.
        for _ in 0..5 * USERS {
            trainer.ingest(events.next_record());
        }
        let (slot, telemetry) = (ViewSlot::default(), Telemetry::new(Instant::now()));
        let api = Api::start(&config.serve, ("", "item_id"), slot.clone(), telemetry.serving())?;
        let server = http::serve(&config.http, telemetry, CheckpointRequests::default(), Some(&api))?;
        let mut views = ViewWriter::new(slot.clone(), "bench");
        views.follow(&mut trainer, true);
        Ok(Self { config, trainer, events, slot, views, server, _api: api })
    }

    /// Trains for `span` without a view of the state; gives events a second.
    pub fn train_alone(&mut self, span: Duration) -> f64 {
        self.views.take_away();
        let (began, first) = (Instant::now(), self.events.n);
        while began.elapsed() < span {
            self.trainer.ingest(self.events.next_record());
        }
        (self.events.n - first) as f64 / began.elapsed().as_secs_f64()
    }

    /// Leaves a view for whoever asks while nothing is learnt.
    pub fn leave_view(&mut self) {
        self.views.follow(&mut self.trainer, true);
    }

    /// Trains and leaves views until `is_over`; gives events a second.
    pub fn train_asked(&mut self, is_over: &AtomicBool) -> f64 {
        let (began, first) = (Instant::now(), self.events.n);
        while !is_over.load(Ordering::Acquire) {
            self.train_one();
        }
        (self.events.n - first) as f64 / began.elapsed().as_secs_f64()
    }

    /// Trains on an event, and leaves a view where it is time.
    pub fn train_one(&mut self) {
        if self.trainer.ingest(self.events.next_record()).is_some() {
            self.views.follow(&mut self.trainer, false);
        }
    }

    /// Trains while `others` do what they do; gives events a second, and what they give.
    pub fn train_beside<T: Send>(&mut self, others: impl FnOnce() -> T + Send) -> (f64, T) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                let given = others();
                is_over.store(true, Ordering::Release);
                given
            });
            let trained = self.train_asked(&is_over);
            (trained, beside.join().expect("they end"))
        })
    }
}

/// How fast training goes by itself. A model that has seen more is slower to train, so that what a load costs is told by the speeds
/// before and after it.
pub struct SpeedsAlone {
    span: Duration,
    /// Events a second, the newest last.
    speeds: Vec<f64>,
}

impl SpeedsAlone {
    /// Trains for `span` before the first load, and after each.
    pub fn start(worker: &mut Worker, span: Duration) -> Self {
        Self { span, speeds: vec![worker.train_alone(span)] }
    }

    /// What training kept of its speed while it `trained` so many events a second.
    pub fn share_kept(&mut self, worker: &mut Worker, trained: f64) -> f64 {
        let (before, after) = (self.speeds[self.speeds.len() - 1], worker.train_alone(self.span));
        self.speeds.push(after);
        2.0 * trained / (before + after)
    }

    /// The middle speed.
    pub fn median(self) -> f64 {
        median(self.speeds)
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Puts the vectors of each kind around a direction of their own, in a space of [`INTRINSIC`] dimensions.
fn gather_by_kind(state: &mut State, items: u64) {
    let dim = state.model.dim();
    let number = |of: u64, place: usize| {
        (split_mix(split_mix(of) ^ (place as u64).wrapping_mul(GOLDEN)) >> 11) as f32 / (1_u64 << 52) as f32 - 1.0
    };
    let axes: Vec<Vec<f32>> =
        (0..INTRINSIC).map(|axis| (0..dim).map(|place| number(axis as u64, place)).collect()).collect();
    for item in 0..items {
        let row = state.model.items.values.row_mut(item as usize);
        row.fill(0.0);
        for (axis, direction) in axes.iter().enumerate() {
            let along = number(KINDS + item % KINDS, axis) + number(3 * KINDS + item, axis);
            row.iter_mut().zip(direction).for_each(|(value, number)| *value += along * number);
        }
    }
    state.model.refresh_all_norms();
}

/// Events without end.
pub struct Events {
    items: u64,
    /// Thousandths of the events whose item is of a kind that the user likes.
    alike: u64,
    pub n: u64,
}

impl Events {
    pub fn next_record(&mut self) -> Record {
        let n = self.n;
        self.n += 1;
        let draw = |what: u64| split_mix((8 * n + what).wrapping_mul(GOLDEN));
        // Half of them by popularity, as 1/rank; half evenly.
        let even = draw(0) % self.items;
        let skewed = (self.items as f64).powf((draw(1) >> 11) as f64 / (1_u64 << 53) as f64) as u64 % self.items;
        let item = if draw(2).is_multiple_of(2) { even } else { skewed };
        let user = draw(3) % USERS;
        let kind = split_mix(user * KINDS_OF_USER + draw(5) % KINDS_OF_USER) % KINDS;
        // Items of a kind have the same number modulo that of kinds.
        let item = if draw(6) % 1_000 < self.alike { (item - item % KINDS + kind) % self.items } else { item };
        let event = Interaction {
            user: format!("user-{user}").into(),
            item: format!("item-{item}").into(),
            kind: "click".into(),
            timestamp: 1_700_000_000_000 + n as i64,
            session: None,
            value: None,
            features: Vec::new(),
        };
        Record { stream: 0, offset: n, broker_timestamp: None, outcome: Ok(event) }
    }
}
