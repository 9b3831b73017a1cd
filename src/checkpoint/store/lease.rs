//! Who may write to a prefix of an object store: one small object that its owner renews while it lives.
//!
//! | who | does |
//! | --- | --- |
//! | the owner | puts the next beat, three times in a time to live, under the condition that nobody put anything meanwhile |
//! | a newcomer | watches until the object has not changed for one and a half times that; then puts the next epoch, under the same condition |
//! | an owner that finds another epoch | is fenced: it saves nothing any more |
//!
//! Every wait is by a clock of the process's own that only goes forward; no two machines' clocks are ever compared. The
//! lease keeps workers out of each other's way. That none commits after another took over is the business of the
//! manifests' numbers (`owned`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use object_store::{PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::object::{Bucket, is_conflict};
use super::unique;
use crate::checkpoint::CheckpointError;

const KEY: &str = "lease.json";
/// For giving it back at the end.
const LAST_WORD: Duration = Duration::from_secs(3);

/// What the object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Term {
    /// Grows by one with each owner.
    pub epoch: u64,
    /// Of one process alone.
    pub owner: String,
    /// Grows by one with each renewal.
    pub beat: u64,
    /// How long it holds without one, in milliseconds.
    pub time_to_live_ms: u64,
    /// Given back: nobody has to wait.
    pub released: bool,
}

/// What a newcomer does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Put this epoch.
    Take(u64),
    /// Look again.
    Wait,
    /// Its owner lives.
    InUse,
}

/// What a newcomer has seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    time_to_live: Duration,
    /// The version that stood there at first, and when that was seen.
    first: Option<(UpdateVersion, Duration)>,
}

impl Watch {
    pub fn new(time_to_live: Duration) -> Self {
        Self { time_to_live, first: None }
    }

    /// Judges what stands there `now`, by the newcomer's own clock; `latest` is the latest epoch that left any trace.
    pub fn look(&mut self, seen: Option<(Option<&Term>, &UpdateVersion)>, latest: u64, now: Duration) -> Decision {
        let Some((term, version)) = seen else { return Decision::Take(latest + 1) };
        let next = term.map_or(latest, |term| term.epoch.max(latest)) + 1;
        if term.is_some_and(|term| term.released) {
            return Decision::Take(next);
        }
        let (first, since) = self.first.get_or_insert_with(|| (version.clone(), now));
        if first != version {
            return Decision::InUse;
        }
        let theirs = Duration::from_millis(term.map_or(0, |term| term.time_to_live_ms));
        let patience = theirs.max(self.time_to_live) * 3 / 2;
        if now.saturating_sub(*since) > patience { Decision::Take(next) } else { Decision::Wait }
    }
}

/// The lease of this worker.
#[derive(Debug)]
pub(super) struct Lease {
    held: Arc<Held>,
    /// As long as it is not dropped, the lease is renewed. Nobody waits for the end of that: it may hang.
    alive: Option<Sender<()>>,
}

#[derive(Debug)]
struct Held {
    bucket: Arc<Bucket>,
    epoch: u64,
    time_to_live: Duration,
    /// The epoch that took over; 0: none.
    lost: AtomicU64,
    beat: Mutex<Beat>,
}

#[derive(Debug)]
struct Beat {
    term: Term,
    version: UpdateVersion,
    /// Before the last renewal was sent: up to a time to live after this nobody can have taken over.
    confirmed: Instant,
}

impl Lease {
    /// Waits until the lease is free, and takes it.
    ///
    /// # Errors
    /// Where its owner lives, or another newcomer was faster.
    pub fn acquire(bucket: &Arc<Bucket>, time_to_live: Duration) -> Result<Self, CheckpointError> {
        let begin = Instant::now();
        let dir = || bucket.address().to_owned();
        let latest = bucket.list()?.latest_epoch();
        let mut watch = Watch::new(time_to_live);
        let mut said = false;
        loop {
            let seen = bucket.runtime.wait(read(bucket))?;
            let look = seen.as_ref().map(|(term, version)| (term.as_ref(), version));
            match watch.look(look, latest, begin.elapsed()) {
                Decision::InUse => return Err(CheckpointError::Locked { dir: dir() }),
                Decision::Wait => {
                    if !std::mem::replace(&mut said, true) {
                        let place = bucket.address().display();
                        tracing::info!(%place, "another worker's lease is there: watching whether it is renewed");
                    }
                    std::thread::sleep(time_to_live / 10);
                }
                Decision::Take(epoch) => {
                    let time_to_live_ms = time_to_live.as_millis() as u64;
                    let term = Term { epoch, owner: unique(), beat: 0, time_to_live_ms, released: false };
                    let version = seen.map(|(_, version)| version);
                    return match bucket.runtime.wait(Held::take(bucket, term, version, time_to_live))? {
                        Ok(held) => Self::beating(held),
                        Err(epoch) => Err(CheckpointError::Fenced { dir: dir(), epoch }),
                    };
                }
            }
        }
    }

    /// Renews what is held, on a thread of its own, until this is dropped.
    fn beating(held: Held) -> Result<Self, CheckpointError> {
        let held = Arc::new(held);
        let beating = held.clone();
        let (alive, dropped) = crossbeam_channel::bounded::<()>(0);
        let heart = move || {
            while dropped.recv_timeout(beating.time_to_live / 3) == Err(RecvTimeoutError::Timeout) {
                match beating.bucket.runtime.wait(beating.renew()) {
                    Ok(()) => {}
                    Err(error) if error.is_fenced() => {
                        tracing::error!(%error, "the lease is lost");
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "the lease was not renewed"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(heart);
        thread.map_err(CheckpointError::io(held.bucket.address(), "start a thread for the lease of"))?;
        Ok(Self { held, alive: Some(alive) })
    }

    /// The epoch that this worker writes in.
    pub fn epoch(&self) -> u64 {
        self.held.epoch
    }

    /// Whether nobody took over, as far as is known.
    pub fn still_held(&self) -> Result<(), CheckpointError> {
        self.held.still_held()
    }

    /// Makes sure, by a renewal.
    pub fn confirm(&self) -> Result<(), CheckpointError> {
        self.held.bucket.runtime.wait(self.held.renew())
    }

    /// Makes sure where it is so long since the last renewal that somebody may have taken over.
    pub fn confirm_if_late(&self) -> Result<(), CheckpointError> {
        let late = self.held.bucket.runtime.wait(async {
            let beat = self.held.beat.lock().await;
            beat.confirmed.elapsed() >= self.held.time_to_live
        });
        if late { self.confirm() } else { self.still_held() }
    }

    /// Another worker was found to write in `epoch`.
    pub fn lost_to(&self, epoch: u64) -> CheckpointError {
        self.held.lost_to(epoch)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.alive.take());
        let held = &self.held;
        if held.still_held().is_ok() {
            // Where it does not arrive, the next worker waits.
            let _ = held.bucket.runtime.wait(async { tokio::time::timeout(LAST_WORD, held.release()).await });
        }
    }
}

/// What stands there; the term is `None` where it cannot be read.
async fn read(bucket: &Bucket) -> Result<Option<(Option<Term>, UpdateVersion)>, CheckpointError> {
    let found = bucket.read(KEY).await.map_err(failed(bucket, "read the lease of"))?;
    Ok(found.map(|(text, version)| (serde_json::from_slice(&text).ok(), version)))
}

fn failed(bucket: &Bucket, action: &'static str) -> impl FnOnce(object_store::Error) -> CheckpointError {
    let path: PathBuf = bucket.address().to_owned();
    move |error| CheckpointError::Store { path, action, source: Box::new(error) }
}

/// Puts `term` where `version` stands (`None`: nothing). `Err` inside: who was faster. A put whose answer was lost is
/// recognised by what stands there afterwards.
async fn put(
    bucket: &Bucket,
    term: &Term,
    mut version: Option<UpdateVersion>,
) -> Result<Result<UpdateVersion, u64>, CheckpointError> {
    let text = serde_json::to_string(term).expect("a term is JSON");
    let mut again = 0;
    loop {
        let mode = version.clone().map_or(PutMode::Create, PutMode::Update);
        let error = match bucket.put_once(KEY, &text, mode).await {
            Ok(version) => return Ok(Ok(version)),
            Err(error) => error,
        };
        match read(bucket).await? {
            Some((Some(found), stands)) if found == *term => return Ok(Ok(stands)),
            // Nothing happened to it, or it is our own: the same again.
            Some((Some(found), stands)) if found.owner == term.owner => version = Some(stands),
            Some((_, stands)) if version.as_ref() == Some(&stands) => {}
            Some((found, _)) => return Ok(Err(found.map_or(term.epoch + 1, |found| found.epoch))),
            // Somebody removed it: no reason to stop.
            None => version = None,
        }
        again += 1;
        let refused = !is_conflict(&error) && !matches!(error, object_store::Error::Generic { .. });
        if again >= bucket.patience.tries || refused {
            return Err(failed(bucket, "write the lease of")(error));
        }
        bucket.pause(again - 1).await;
    }
}

impl Held {
    async fn take(
        bucket: &Arc<Bucket>,
        term: Term,
        version: Option<UpdateVersion>,
        time_to_live: Duration,
    ) -> Result<Result<Self, u64>, CheckpointError> {
        let confirmed = Instant::now();
        let epoch = term.epoch;
        let version = match put(bucket, &term, version).await? {
            Ok(version) => version,
            Err(epoch) => return Ok(Err(epoch)),
        };
        let beat = Mutex::new(Beat { term, version, confirmed });
        Ok(Ok(Self { bucket: bucket.clone(), epoch, time_to_live, lost: AtomicU64::new(0), beat }))
    }

    async fn renew(&self) -> Result<(), CheckpointError> {
        let mut beat = self.beat.lock().await;
        self.still_held()?;
        let confirmed = Instant::now();
        let term = Term { beat: beat.term.beat + 1, ..beat.term.clone() };
        match put(&self.bucket, &term, Some(beat.version.clone())).await? {
            Ok(version) => *beat = Beat { term, version, confirmed },
            Err(epoch) => return Err(self.lost_to(epoch)),
        }
        Ok(())
    }

    async fn release(&self) {
        let beat = self.beat.lock().await;
        let term = Term { beat: beat.term.beat + 1, released: true, ..beat.term.clone() };
        let _ = put(&self.bucket, &term, Some(beat.version.clone())).await;
    }

    fn still_held(&self) -> Result<(), CheckpointError> {
        match self.lost.load(Ordering::Relaxed) {
            0 => Ok(()),
            epoch => Err(self.lost_to(epoch)),
        }
    }

    fn lost_to(&self, epoch: u64) -> CheckpointError {
        self.lost.store(epoch, Ordering::Relaxed);
        CheckpointError::Fenced { dir: self.bucket.address().to_owned(), epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str) -> UpdateVersion {
        UpdateVersion { e_tag: Some(tag.to_owned()), version: None }
    }

    fn term(released: bool) -> Term {
        Term { epoch: 7, owner: "a".to_owned(), beat: 3, time_to_live_ms: 10_000, released }
    }

    #[test]
    fn a_newcomer_waits_for_as_long_as_the_owner_may_be_silent() {
        let at = Duration::from_secs;
        let (term, version) = (term(false), version("x"));
        let seen = Some((Some(&term), &version));
        // Its own time to live is shorter; the owner's counts.
        let mut watch = Watch::new(at(1));
        assert_eq!(watch.look(seen, 7, at(100)), Decision::Wait);
        assert_eq!(watch.look(seen, 7, at(115)), Decision::Wait);
        assert_eq!(watch.look(seen, 7, at(116)), Decision::Take(8));
    }

    #[test]
    fn a_lease_that_moves_is_in_use() {
        let term = term(false);
        let mut watch = Watch::new(Duration::from_secs(1));
        assert_eq!(watch.look(Some((Some(&term), &version("x"))), 0, Duration::ZERO), Decision::Wait);
        assert_eq!(watch.look(Some((Some(&term), &version("y"))), 0, Duration::from_secs(60)), Decision::InUse);
    }

    #[test]
    fn one_that_is_not_there_or_given_back_is_taken_at_once() {
        let mut watch = Watch::new(Duration::from_secs(1));
        assert_eq!(watch.look(None, 4, Duration::ZERO), Decision::Take(5), "epochs go on where the lease was lost");
        assert_eq!(watch.look(Some((Some(&term(true)), &version("x"))), 4, Duration::ZERO), Decision::Take(8));
    }

    #[test]
    fn one_that_cannot_be_read_is_watched_too() {
        let mut watch = Watch::new(Duration::from_secs(2));
        assert_eq!(watch.look(Some((None, &version("x"))), 4, Duration::ZERO), Decision::Wait);
        assert_eq!(watch.look(Some((None, &version("x"))), 4, Duration::from_secs(4)), Decision::Take(5));
    }
}
