//! Sharing: when a worker sends the others what it has learnt, and receives what they have.
//!
//! | when | what is sent or received |
//! | --- | --- |
//! | between two messages of the source | everything that has come is merged |
//! | every `share.flush_ms`, and earlier where a delta is due | what the state has moved by is sent, one delta on its way at a time |
//! | before a checkpoint, a rebalance and the end | everything is sent, and waited for until the log says that it counts |
//!
//! So a checkpoint holds nothing of its worker's own that others have not been sent: what follows it is in the log, the worker's
//! own deltas included, and a restart receives it there.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::freshness::milliseconds_since_1970;
use crate::checkpoint::manifest;
use crate::config::Config;
use crate::metric::{Instrumented, Metric};
use crate::share::{DeltaLog, MovePrecision, ReceivedRecord, ShareError};
use crate::signals::Stop;
use crate::trainer::{Trainer, VoidDelta};

/// Longest wait until what was sent last is known to count.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);
/// One look for what comes while it is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Most records that are merged in one go.
const AT_ONCE: usize = 64;
/// Time between two lines of the log while a long one is caught up with.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// What a worker has sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ShareFigures {
    /// Deltas that were sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Deltas of others that were merged.
    pub merged: u64,
    /// Bytes of the log that were read.
    pub received_bytes: u64,
    /// Events of others that were merged.
    pub merged_events: u64,
    /// Deltas of others that do not count.
    pub void: u64,
    /// How old the newest delta of another worker was when it was merged, in seconds; 0 before the first.
    pub age_seconds: f64,
    /// Seconds from sending the newest delta until it was known to count; 0 before the first.
    pub confirmation_seconds: f64,
    /// Other workers whose deltas are part of the state.
    pub others: u64,
    /// Events of the group, as far as this worker knows or expects.
    pub group_events: f64,
    /// Bytes that are kept of what was not sent yet.
    pub unsent_bytes: u64,
}

impl Instrumented for ShareFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter(
            "negstream_share_sent_total",
            "Deltas that were sent to those who share the model.",
            |share, samples| {
                samples.put(share.sent);
            },
        ),
        Metric::counter("negstream_share_sent_bytes_total", "Bytes of the deltas that were sent.", |share, samples| {
            samples.put(share.sent_bytes);
        }),
        Metric::counter("negstream_share_merged_total", "Deltas of others that were merged.", |share, samples| {
            samples.put(share.merged);
        }),
        Metric::counter(
            "negstream_share_received_bytes_total",
            "Bytes that were read of the topic of deltas.",
            |share, samples| {
                samples.put(share.received_bytes);
            },
        ),
        Metric::counter(
            "negstream_share_merged_events_total",
            "Events of others that were merged.",
            |share, samples| {
                samples.put(share.merged_events);
            },
        ),
        Metric::counter(
            "negstream_share_void_total",
            "Deltas of others that do not count, since deltas of others covered their records before.",
            |share, samples| samples.put(share.void),
        ),
        Metric::gauge(
            "negstream_share_workers",
            "Other workers whose deltas are part of the model.",
            |share, samples| {
                samples.put(share.others);
            },
        ),
        Metric::gauge(
            "negstream_share_age_seconds",
            "Age of the newest delta of another worker when it was merged; 0 before the first.",
            |share, samples| samples.put(share.age_seconds),
        ),
        Metric::gauge(
            "negstream_share_confirmation_seconds",
            "Time from sending the newest delta until the topic said that it counts; 0 before the first.",
            |share, samples| samples.put(share.confirmation_seconds),
        ),
        Metric::gauge(
            "negstream_share_group_events",
            "Events of all workers, as far as they are known or expected.",
            |share, samples| {
                samples.put(share.group_events);
            },
        ),
        Metric::gauge(
            "negstream_share_unsent_bytes",
            "Bytes that are kept of what was not sent yet.",
            |share, samples| {
                samples.put(share.unsent_bytes);
            },
        ),
    ];
}

/// A worker's part in a shared model.
#[derive(Debug)]
pub(super) struct Sharing {
    log: DeltaLog,
    every: Duration,
    precision: MovePrecision,
    /// When the newest delta was sent.
    sent_at: Instant,
    /// Whether it is still to be known whether that one counts.
    is_waiting: bool,
    /// Whether it took too long once: nobody waits a second time.
    has_given_up: bool,
    /// The end of the log as far as it was received.
    received_to: u64,
    figures: ShareFigures,
}

impl Sharing {
    /// Takes part in the model of `log`, and brings the state of `trainer` up to what the log held when it was opened.
    ///
    /// # Errors
    /// The log cannot be read, or a stop was requested meanwhile.
    pub(super) fn begin(
        config: &Config,
        log: DeltaLog,
        trainer: &mut Trainer,
        stop: &Stop,
    ) -> Result<Self, ShareError> {
        let precision = config.share.precision;
        let configuration = number_of(config);
        trainer.join(log.incarnation(), configuration, precision);
        let mut sharing = Self {
            every: Duration::from_millis(config.share.flush_ms),
            precision,
            sent_at: Instant::now(),
            is_waiting: false,
            has_given_up: false,
            received_to: 0,
            figures: ShareFigures::default(),
            log,
        };
        sharing.catch_up(trainer, stop)?;
        let shared = trainer.state.sources.shared.as_ref();
        match shared.is_none_or(|shared| shared.ledger.is_of(configuration)) {
            true => Ok(sharing),
            false => Err(ShareError::OtherConfiguration { topic: sharing.log.topic().to_owned() }),
        }
    }

    fn catch_up(&mut self, trainer: &mut Trainer, stop: &Stop) -> Result<(), ShareError> {
        let (end, begun) = (self.log.end_at_start(), Instant::now());
        let from = trainer.state.sources.shared.as_ref().map_or(0, |shared| shared.ledger.next);
        (self.received_to, self.sent_at) = (from, begun);
        let mut reported = begun;
        while self.received_to < end && !stop.requested() {
            self.merge_what_came(trainer, Duration::from_millis(250))?;
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                let percent = 100.0 * (self.received_to - from) as f64 / (end - from) as f64;
                tracing::info!(
                    topic = self.log.topic(),
                    received = self.received_to,
                    of = end,
                    "catching up with what others sent: {percent:.0} %"
                );
            }
        }
        if end > from {
            tracing::info!(
                topic = self.log.topic(),
                from,
                until = self.received_to,
                deltas = self.figures.merged,
                events = self.figures.merged_events,
                seconds = begun.elapsed().as_secs_f64(),
                "received what was sent since the checkpoint"
            );
        }
        self.note_view(trainer);
        Ok(())
    }

    /// Merges what has come, and sends what is due; gives whether it became known that something counts which this worker sent.
    ///
    /// # Errors
    /// The log cannot be read or written, or this worker was overtaken.
    pub(super) fn turn(&mut self, trainer: &mut Trainer) -> Result<bool, ShareError> {
        let was_waiting = self.is_waiting;
        self.merge_what_came(trainer, Duration::ZERO)?;
        let is_confirmed = was_waiting && !self.is_waiting;
        self.log.check()?;
        let is_due = self.sent_at.elapsed() >= self.every || trainer.is_delta_due();
        if is_due && !self.is_waiting {
            self.send(trainer)?;
        }
        Ok(is_confirmed)
    }

    /// Sends everything that is part of the state, and waits until it is known to count.
    ///
    /// # Errors
    /// Those of [`Self::turn`], and where it takes too long.
    pub(super) fn settle(&mut self, trainer: &mut Trainer) -> Result<(), ShareError> {
        let begun = Instant::now();
        loop {
            self.merge_what_came(trainer, Duration::ZERO)?;
            if !self.is_waiting {
                if trainer.is_sent() {
                    return Ok(());
                }
                self.send(trainer)?;
                if !self.is_waiting {
                    // Nothing but what belongs to no delta.
                    return Ok(());
                }
            }
            if self.has_given_up || begun.elapsed() >= CONFIRMED_WITHIN {
                self.has_given_up = true;
                let topic = self.log.topic().to_owned();
                return Err(ShareError::Unconfirmed { topic, seconds: CONFIRMED_WITHIN.as_secs() });
            }
            self.log.check()?;
            self.merge_what_came(trainer, LOOK)?;
        }
    }

    /// What was sent and received so far.
    pub(super) fn figures(&self, trainer: &mut Trainer) -> ShareFigures {
        ShareFigures {
            group_events: trainer.group_clock().map_or(0.0, |clock| clock.now()),
            unsent_bytes: trainer.unshared_bytes() as u64,
            others: trainer.others_known() as u64,
            ..self.figures
        }
    }

    fn send(&mut self, trainer: &mut Trainer) -> Result<(), ShareError> {
        self.sent_at = Instant::now();
        let Some(delta) = trainer.take_delta() else { return Ok(()) };
        self.is_waiting = true;
        self.figures.sent += 1;
        self.figures.sent_bytes += self.log.send(&delta, self.precision)? as u64;
        Ok(())
    }

    /// Merges what has come, waiting so long for a first record.
    fn merge_what_came(&mut self, trainer: &mut Trainer, patience: Duration) -> Result<(), ShareError> {
        let mut received: Vec<ReceivedRecord> = Vec::new();
        let (mut patience, mut newest) = (patience, None);
        while received.len() < AT_ONCE
            && let Some(record) = self.log.next(std::mem::take(&mut patience))?
        {
            self.received_to = record.next;
            self.figures.received_bytes += record.bytes as u64;
            newest = record.sent_at.filter(|_| record.delta.is_some()).or(newest);
            received.push(record);
        }
        if received.is_empty() {
            return Ok(());
        }
        let counts = trainer.receive(received)?;
        self.figures.merged += counts.merged;
        self.figures.merged_events += counts.events;
        for VoidDelta { worker, sequence, conflict } in &counts.void {
            tracing::warn!(%worker, sequence, %conflict, "a delta of another worker is void");
        }
        self.figures.void += counts.void.len() as u64;
        if counts.merged > 0 {
            self.figures.age_seconds = newest.map_or(self.figures.age_seconds, age);
        }
        if counts.confirmed > 0 {
            self.is_waiting = false;
            self.figures.confirmation_seconds = self.sent_at.elapsed().as_secs_f64();
        }
        self.note_view(trainer);
        Ok(())
    }

    fn note_view(&self, trainer: &Trainer) {
        if let Some(shared) = &trainer.state.sources.shared {
            self.log.view().note(self.received_to, shared.ledger.all_covered());
        }
    }
}

/// The configuration, as far as a state depends on it, as a number.
fn number_of(config: &Config) -> u64 {
    let digest = manifest::digest(&config.state_relevant());
    u64::from_str_radix(&digest[..16], 16).expect("a digest is hexadecimal")
}

/// Seconds since a time in milliseconds since 1970.
fn age(sent_at: i64) -> f64 {
    (milliseconds_since_1970() - sent_at).max(0) as f64 / 1e3
}
