//! Workers that share a model, in one thread and by a clock of their own.

use negstream::Config;
use negstream::evaluate::K;
use negstream::evaluate::ranking::Ranked;
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::position::Stream;
use negstream::share::{Delta, MovePrecision};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;

use super::cpu;

/// Partitions to a worker.
const PARTITIONS: usize = 3;
/// Events between two looks at the clock.
const TICK: usize = 20;
/// Seconds between two comparisons of two replicas.
const COMPARE_EVERY: f64 = 1.0;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Number of workers.
    pub workers: usize,
    /// Seconds from flush to flush of a worker; `None`: workers send each other nothing.
    pub flush: Option<f64>,
    /// Events a second.
    pub rate: f64,
    /// Seconds from a flush to when others have it.
    pub delay: f64,
    /// In which numbers moves are sent.
    pub precision: MovePrecision,
    /// Whether all flushes wait for their time, also where a delta is due before.
    pub patient: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events of the log.
    pub events: usize,
    /// Events of its last half that were ranked.
    pub ranked: u64,
    hits: u64,
    gains: f64,
    /// Bytes of all deltas, each counted once.
    pub bytes: usize,
    /// How far two replicas were apart, relative to the length of the rows, on average over the last half.
    pub distance: Option<f64>,
    /// The largest such distance when everything is sent.
    pub distance_at_end: Option<f64>,
    /// By worker: the sum of the items' counts at the end; the smallest and the largest.
    pub counted: (u64, u64),
    /// Seconds of processor time that all workers took together.
    pub seconds: f64,
    /// Seconds thereof for making and packing deltas.
    pub sending_seconds: f64,
    /// Seconds thereof for unpacking and merging those of others.
    pub receiving_seconds: f64,
}

impl Outcome {
    /// HR@20 over the last half of the log.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.ranked.max(1) as f64
    }

    /// NDCG@20 over the last half of the log.
    pub fn gain(&self) -> f64 {
        self.gains / self.ranked.max(1) as f64
    }

    fn add(&mut self, ranked: &[Ranked], numbers: &[usize]) {
        for event in ranked {
            // Numbers count from where the worker's own events begin.
            if numbers[event.number as usize] < self.events / 2 {
                continue;
            }
            self.ranked += 1;
            if let Some(rank) = event.model.filter(|rank| *rank < K as f64) {
                self.hits += 1;
                self.gains += (rank + 2.0).log2().recip();
            }
        }
    }
}

struct Worker {
    trainer: Trainer,
    /// The number in the log of each event that the worker got.
    numbers: Vec<usize>,
    /// When the oldest event came that waits for its batch.
    waiting_since: Option<f64>,
    next_flush: f64,
    /// How many of the deltas it has received.
    received: usize,
}

/// Some workers, and what they sent each other.
pub struct Simulation {
    setting: Setting,
    linger: f64,
    workers: Vec<Worker>,
    /// By delta: when others have it, whose it is, and itself as bytes.
    sent: Vec<(f64, usize, Vec<u8>)>,
    outcome: Outcome,
}

impl Simulation {
    /// Workers that know nothing yet.
    pub fn new(config: &Config, setting: Setting) -> Self {
        let worker = |number: usize| {
            let mut trainer = Trainer::new(config, State::new(config, Kernel::detect())).expect("a thread");
            trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
            if setting.flush.is_some() {
                trainer.share(&format!("worker-{number}"), setting.precision, setting.workers as f64);
            }
            let phase = (number + 1) as f64 / setting.workers as f64;
            Worker {
                trainer,
                numbers: Vec::new(),
                waiting_since: None,
                next_flush: setting.flush.unwrap_or(f64::INFINITY) * phase,
                received: 0,
            }
        };
        Self {
            setting,
            linger: config.train.linger_ms as f64 * 1e-3,
            workers: (0..setting.workers).map(worker).collect(),
            sent: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Plays `events`.
    pub fn run(mut self, events: &[Interaction]) -> Outcome {
        self.outcome.events = events.len();
        let began = cpu::of_process();
        let (mut distances, mut next_comparison, mut compared) = ((0.0, 0), 0.0, 0.0);
        for (number, event) in events.iter().enumerate() {
            let now = number as f64 / self.setting.rate;
            if number % TICK == 0 {
                self.tick(now);
                if now >= next_comparison && self.setting.flush.is_some() {
                    next_comparison = now + COMPARE_EVERY;
                    if number >= events.len() / 2 {
                        let began = cpu::of_thread();
                        let (mean, _) = distance(&self.workers[0].trainer.state, &self.workers[1].trainer.state);
                        distances = (distances.0 + mean, distances.1 + 1);
                        compared += cpu::of_thread() - began;
                    }
                }
            }
            self.ingest(number, event, now);
        }
        let end = events.len() as f64 / self.setting.rate;
        for place in 0..self.workers.len() {
            self.step(place);
        }
        if self.setting.flush.is_some() {
            (0..self.workers.len()).for_each(|place| self.flush(place, end));
            (0..self.workers.len()).for_each(|place| self.receive(place, f64::INFINITY));
            let (first, others) = self.workers.split_first().expect("there are workers");
            let apart = others.iter().map(|other| distance(&first.trainer.state, &other.trainer.state).1);
            self.outcome.distance_at_end = Some(apart.fold(0.0, f64::max));
            self.outcome.distance = (distances.1 > 0).then(|| distances.0 / f64::from(distances.1));
        }
        let counted = self.workers.iter().map(|worker| worker.trainer.state.items.occurrences.iter().sum::<u64>());
        self.outcome.counted = counted.fold((u64::MAX, 0), |(least, most), sum| (least.min(sum), most.max(sum)));
        self.outcome.seconds = cpu::of_process() - began - compared;
        self.outcome
    }

    fn ingest(&mut self, number: usize, event: &Interaction, now: f64) {
        let n_workers = self.workers.len();
        let partition = positive_murmur2(event.user.as_bytes()) as usize % (PARTITIONS * n_workers);
        let worker = &mut self.workers[partition % n_workers];
        let offset = worker.numbers.len() as u64;
        worker.numbers.push(number);
        worker.waiting_since.get_or_insert(now);
        let record = Record { stream: 0, offset, broker_timestamp: None, outcome: Ok(event.clone()) };
        if worker.trainer.ingest(record).is_some() {
            worker.waiting_since = None;
            self.outcome.add(worker.trainer.ranked(), &worker.numbers);
        }
    }

    /// Does what is due at the time `now`.
    fn tick(&mut self, now: f64) {
        for place in 0..self.workers.len() {
            if self.workers[place].waiting_since.is_some_and(|since| now - since >= self.linger) {
                self.step(place);
            }
            let Some(flush) = self.setting.flush else { continue };
            self.receive(place, now);
            let worker = &mut self.workers[place];
            if now >= worker.next_flush || (!self.setting.patient && worker.trainer.is_delta_due()) {
                worker.next_flush = now + flush;
                self.flush(place, now);
            }
        }
    }

    fn step(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        worker.waiting_since = None;
        if worker.trainer.finish().is_some() {
            self.outcome.add(worker.trainer.ranked(), &worker.numbers);
        }
    }

    /// Lets a worker say what it has learnt.
    fn flush(&mut self, place: usize, now: f64) {
        let began = cpu::of_thread();
        if let Some(delta) = self.workers[place].trainer.take_delta() {
            let bytes = delta.encode(self.setting.precision);
            self.outcome.bytes += bytes.len();
            self.sent.push((now + self.setting.delay, place, bytes));
        }
        self.outcome.sending_seconds += cpu::of_thread() - began;
    }

    /// Lets a worker receive what the others have said until `now`.
    fn receive(&mut self, place: usize, now: f64) {
        let worker = &mut self.workers[place];
        let news = &self.sent[worker.received..];
        let n = news.iter().take_while(|(at, ..)| *at <= now).count();
        if n == 0 {
            return;
        }
        let began = cpu::of_thread();
        let others = news[..n].iter().filter(|(_, by, _)| *by != place);
        let deltas: Vec<Delta> = others.map(|(.., bytes)| Delta::decode(bytes).expect("a delta")).collect();
        worker.received += n;
        if !deltas.is_empty() {
            worker.trainer.merge(&deltas.iter().collect::<Vec<_>>());
        }
        self.outcome.receiving_seconds += cpu::of_thread() - began;
        // What all have received is of no use any more.
        let received = self.workers.iter().map(|worker| worker.received).min().unwrap_or(0);
        if received > 64 {
            self.sent.drain(..received);
            self.workers.iter_mut().for_each(|worker| worker.received -= received);
        }
    }
}

/// How far the items' rows of two states are apart, relative to their lengths: the mean over the items that both know, and the
/// largest.
fn distance(one: &State, other: &State) -> (f64, f64) {
    let (mut sum, mut largest, mut n) = (0.0, 0.0f64, 0);
    for (row, name) in one.items.ids.iter().enumerate() {
        let Some(twin) = other.items.ids.get(name) else { continue };
        let (a, b) = (one.model.items.values.row(row), other.model.items.values.row(twin as usize));
        let square =
            |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|number| f64::from(number).powi(2)).sum::<f64>();
        let apart = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
        let length = square(&mut a.iter().copied()).max(f64::MIN_POSITIVE);
        let relative = (apart / length).sqrt();
        (sum, largest, n) = (sum + relative, largest.max(relative), n + 1);
    }
    (sum / f64::from(n.max(1)), largest)
}

/// Which number Kafka's producers make of a key before they divide it by the number of partitions: MurmurHash2 with a seed of
/// their own, without its sign.
fn positive_murmur2(key: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (blocks, rest) = key.as_chunks::<4>();
    for block in blocks {
        let mut k = u32::from_le_bytes(*block).wrapping_mul(FACTOR);
        k = (k ^ (k >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ k;
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}
