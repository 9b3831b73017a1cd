//! The lease on a prefix of an object store: one small object tells who may write, and its owner renews it while it lives.
//!
//! | who | does |
//! | --- | --- |
//! | the owner | puts the next heartbeat, three times in a time to live, on condition that nobody put anything meanwhile |
//! | a newcomer | watches until the object has not changed for one and a half times that; then puts the next epoch, on the same condition |
//! | an owner that finds another epoch | is fenced: it saves nothing any more |
//!
//! Every wait is by a clock of the process's own that only goes forward; no two machines' clocks are ever compared. The
//! lease keeps workers out of each other's way. That none commits after another took over is ensured by the numbers of the
//! manifests (the module above).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use object_store::{PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::bucket::{BucketClient, is_conflict};
use crate::checkpoint::CheckpointError;
use crate::util::encoding::random_id;

const KEY: &str = "lease.json";
/// How long the release at the end may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// The content of the lease's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct LeaseRecord {
    /// Grows by one with each owner.
    pub epoch: u64,
    /// A random name of the process that holds the lease.
    pub owner: String,
    /// Grows by one with each renewal.
    pub heartbeat: u64,
    /// How long the lease holds without a renewal, in milliseconds.
    pub time_to_live_ms: u64,
    /// Whether its owner gave it back, so that nobody has to wait.
    pub released: bool,
}

/// What a newcomer does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acquisition {
    /// Put this epoch: the lease is free.
    Claim(u64),
    /// Look again: its owner may be alive.
    Wait,
    /// Give up: its owner is alive.
    InUse,
}

/// What a newcomer has seen of the lease so far.
#[derive(Debug)]
pub(super) struct LeaseWatch {
    time_to_live: Duration,
    /// The version that was seen first, and when.
    first: Option<(UpdateVersion, Duration)>,
}

impl LeaseWatch {
    pub fn new(time_to_live: Duration) -> Self {
        Self { time_to_live, first: None }
    }

    /// Decides on what was `seen` of the lease `now`, by the newcomer's own clock. `seen` is `None` where there is no lease; its
    /// record is `None` where it cannot be read. `latest` is the latest epoch that left any trace.
    pub fn decide(
        &mut self,
        seen: Option<(Option<&LeaseRecord>, &UpdateVersion)>,
        latest: u64,
        now: Duration,
    ) -> Acquisition {
        let Some((record, version)) = seen else { return Acquisition::Claim(latest + 1) };
        let next = record.map_or(latest, |record| record.epoch.max(latest)) + 1;
        if record.is_some_and(|record| record.released) {
            return Acquisition::Claim(next);
        }
        let (first, since) = self.first.get_or_insert_with(|| (version.clone(), now));
        if first != version {
            return Acquisition::InUse;
        }
        let theirs = Duration::from_millis(record.map_or(0, |record| record.time_to_live_ms));
        let patience = theirs.max(self.time_to_live) * 3 / 2;
        if now.saturating_sub(*since) > patience { Acquisition::Claim(next) } else { Acquisition::Wait }
    }
}

/// The lease of this worker.
#[derive(Debug)]
pub(super) struct Lease {
    holder: Arc<LeaseHolder>,
    /// The lease is renewed until this is dropped. Nobody waits for the thread to end: it may hang.
    alive: Option<Sender<()>>,
}

/// What the worker and the thread that renews the lease share.
#[derive(Debug)]
struct LeaseHolder {
    bucket: Arc<BucketClient>,
    epoch: u64,
    time_to_live: Duration,
    /// The epoch of the worker that took over; 0 while none did.
    lost_to: AtomicU64,
    last_renewal: Mutex<Renewal>,
}

/// A renewal that the store has confirmed.
#[derive(Debug)]
struct Renewal {
    record: LeaseRecord,
    version: UpdateVersion,
    /// The time just before it was sent: for a time to live after this, nobody can have taken over.
    sent: Instant,
}

impl Lease {
    /// Waits until the lease is free, and takes it.
    ///
    /// # Errors
    /// Where its owner lives, or another newcomer was faster.
    pub fn acquire(bucket: &Arc<BucketClient>, time_to_live: Duration) -> Result<Self, CheckpointError> {
        let begin = Instant::now();
        let dir = || bucket.address().to_owned();
        let latest = bucket.list()?.latest_epoch();
        let mut watch = LeaseWatch::new(time_to_live);
        let mut is_announced = false;
        loop {
            let seen = bucket.runtime.wait(read(bucket))?;
            let state = seen.as_ref().map(|(record, version)| (record.as_ref(), version));
            match watch.decide(state, latest, begin.elapsed()) {
                Acquisition::InUse => return Err(CheckpointError::Locked { dir: dir() }),
                Acquisition::Wait => {
                    if !std::mem::replace(&mut is_announced, true) {
                        let place = bucket.address().display();
                        tracing::info!(%place, "another worker's lease is there: watching whether it is renewed");
                    }
                    std::thread::sleep(time_to_live / 10);
                }
                Acquisition::Claim(epoch) => {
                    let time_to_live_ms = time_to_live.as_millis() as u64;
                    let record =
                        LeaseRecord { epoch, owner: random_id(), heartbeat: 0, time_to_live_ms, released: false };
                    let version = seen.map(|(_, version)| version);
                    return match bucket.runtime.wait(LeaseHolder::take(bucket, record, version, time_to_live))? {
                        Ok(holder) => Self::keep_renewing(holder),
                        Err(epoch) => Err(CheckpointError::Fenced { dir: dir(), epoch }),
                    };
                }
            }
        }
    }

    /// Renews the lease on a thread of its own, until the result is dropped.
    fn keep_renewing(holder: LeaseHolder) -> Result<Self, CheckpointError> {
        let holder = Arc::new(holder);
        let renewing = holder.clone();
        let (alive, dropped) = crossbeam_channel::bounded::<()>(0);
        let renew = move || {
            while dropped.recv_timeout(renewing.time_to_live / 3) == Err(RecvTimeoutError::Timeout) {
                match renewing.bucket.runtime.wait(renewing.renew()) {
                    Ok(()) => {}
                    Err(error) if error.is_fenced() => {
                        tracing::error!(%error, "the lease is lost");
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "the lease was not renewed"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(renew);
        thread.map_err(CheckpointError::io(holder.bucket.address(), "start a thread for the lease of"))?;
        Ok(Self { holder, alive: Some(alive) })
    }

    /// The epoch that this worker writes in.
    pub fn epoch(&self) -> u64 {
        self.holder.epoch
    }

    /// Whether this worker still owns the lease, as far as is known without asking.
    pub fn ensure_owned(&self) -> Result<(), CheckpointError> {
        self.holder.ensure_owned()
    }

    /// Makes sure that this worker still owns the lease, by a renewal.
    pub fn confirm(&self) -> Result<(), CheckpointError> {
        self.holder.bucket.runtime.wait(self.holder.renew())
    }

    /// Makes sure by a renewal, if the last one is so long ago that somebody may have taken over.
    pub fn confirm_if_late(&self) -> Result<(), CheckpointError> {
        let late = self.holder.bucket.runtime.wait(async {
            let renewal = self.holder.last_renewal.lock().await;
            renewal.sent.elapsed() >= self.holder.time_to_live
        });
        if late { self.confirm() } else { self.ensure_owned() }
    }

    /// Notes that another worker writes in `epoch`, and returns the error that says so.
    pub fn mark_lost(&self, epoch: u64) -> CheckpointError {
        self.holder.mark_lost(epoch)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.alive.take());
        let holder = &self.holder;
        if holder.ensure_owned().is_ok() {
            // If the release does not arrive, the next worker has to wait.
            let _ = holder.bucket.runtime.wait(async { tokio::time::timeout(RELEASE_TIMEOUT, holder.release()).await });
        }
    }
}

/// The lease that stands there, if any; its record is `None` where it cannot be read.
async fn read(bucket: &BucketClient) -> Result<Option<(Option<LeaseRecord>, UpdateVersion)>, CheckpointError> {
    let found = bucket.read(KEY).await.map_err(failed(bucket, "read the lease of"))?;
    Ok(found.map(|(text, version)| (serde_json::from_slice(&text).ok(), version)))
}

fn failed(bucket: &BucketClient, action: &'static str) -> impl FnOnce(object_store::Error) -> CheckpointError {
    let path: PathBuf = bucket.address().to_owned();
    move |error| CheckpointError::ObjectStore { path, action, source: Box::new(error) }
}

/// Puts `record` in place of `version` (`None`: of nothing). The inner `Err` is the epoch of a worker that was faster. A put
/// whose answer was lost is recognised by what stands there afterwards.
async fn put(
    bucket: &BucketClient,
    record: &LeaseRecord,
    mut version: Option<UpdateVersion>,
) -> Result<Result<UpdateVersion, u64>, CheckpointError> {
    let text = serde_json::to_string(record).expect("a lease record is JSON");
    let mut again = 0;
    loop {
        let mode = version.clone().map_or(PutMode::Create, PutMode::Update);
        let error = match bucket.put_once(KEY, &text, mode).await {
            Ok(version) => return Ok(Ok(version)),
            Err(error) => error,
        };
        match read(bucket).await? {
            Some((Some(found), stands)) if found == *record => return Ok(Ok(stands)),
            // It is our own of before: try again over that.
            Some((Some(found), stands)) if found.owner == record.owner => version = Some(stands),
            Some((_, stands)) if version.as_ref() == Some(&stands) => {}
            Some((found, _)) => return Ok(Err(found.map_or(record.epoch + 1, |found| found.epoch))),
            // Somebody removed the object, which is no reason to stop.
            None => version = None,
        }
        again += 1;
        let refused = !is_conflict(&error) && !matches!(error, object_store::Error::Generic { .. });
        if again >= bucket.retry.attempts || refused {
            return Err(failed(bucket, "write the lease of")(error));
        }
        bucket.retry.back_off(again - 1).await;
    }
}

impl LeaseHolder {
    async fn take(
        bucket: &Arc<BucketClient>,
        record: LeaseRecord,
        version: Option<UpdateVersion>,
        time_to_live: Duration,
    ) -> Result<Result<Self, u64>, CheckpointError> {
        let sent = Instant::now();
        let epoch = record.epoch;
        let version = match put(bucket, &record, version).await? {
            Ok(version) => version,
            Err(epoch) => return Ok(Err(epoch)),
        };
        let last_renewal = Mutex::new(Renewal { record, version, sent });
        Ok(Ok(Self { bucket: bucket.clone(), epoch, time_to_live, lost_to: AtomicU64::new(0), last_renewal }))
    }

    async fn renew(&self) -> Result<(), CheckpointError> {
        let mut renewal = self.last_renewal.lock().await;
        self.ensure_owned()?;
        let sent = Instant::now();
        let record = LeaseRecord { heartbeat: renewal.record.heartbeat + 1, ..renewal.record.clone() };
        match put(&self.bucket, &record, Some(renewal.version.clone())).await? {
            Ok(version) => *renewal = Renewal { record, version, sent },
            Err(epoch) => return Err(self.mark_lost(epoch)),
        }
        Ok(())
    }

    async fn release(&self) {
        let renewal = self.last_renewal.lock().await;
        let record = LeaseRecord { heartbeat: renewal.record.heartbeat + 1, released: true, ..renewal.record.clone() };
        let _ = put(&self.bucket, &record, Some(renewal.version.clone())).await;
    }

    fn ensure_owned(&self) -> Result<(), CheckpointError> {
        match self.lost_to.load(Ordering::Relaxed) {
            0 => Ok(()),
            epoch => Err(self.mark_lost(epoch)),
        }
    }

    fn mark_lost(&self, epoch: u64) -> CheckpointError {
        self.lost_to.store(epoch, Ordering::Relaxed);
        CheckpointError::Fenced { dir: self.bucket.address().to_owned(), epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str) -> UpdateVersion {
        UpdateVersion { e_tag: Some(tag.to_owned()), version: None }
    }

    fn record(released: bool) -> LeaseRecord {
        LeaseRecord { epoch: 7, owner: "a".to_owned(), heartbeat: 3, time_to_live_ms: 10_000, released }
    }

    #[test]
    fn watch_waits_out_the_longer_time_to_live() {
        let at = Duration::from_secs;
        let (record, version) = (record(false), version("x"));
        let seen = Some((Some(&record), &version));
        // Its own time to live is shorter; the owner's counts.
        let mut watch = LeaseWatch::new(at(1));
        assert_eq!(watch.decide(seen, 7, at(100)), Acquisition::Wait);
        assert_eq!(watch.decide(seen, 7, at(115)), Acquisition::Wait);
        assert_eq!(watch.decide(seen, 7, at(116)), Acquisition::Claim(8));
    }

    #[test]
    fn watch_gives_up_on_a_renewed_lease() {
        let record = record(false);
        let mut watch = LeaseWatch::new(Duration::from_secs(1));
        assert_eq!(watch.decide(Some((Some(&record), &version("x"))), 0, Duration::ZERO), Acquisition::Wait);
        assert_eq!(watch.decide(Some((Some(&record), &version("y"))), 0, Duration::from_secs(60)), Acquisition::InUse);
    }

    #[test]
    fn watch_claims_missing_and_released_leases_at_once() {
        let mut watch = LeaseWatch::new(Duration::from_secs(1));
        assert_eq!(
            watch.decide(None, 4, Duration::ZERO),
            Acquisition::Claim(5),
            "epochs go on where the lease was lost"
        );
        assert_eq!(watch.decide(Some((Some(&record(true)), &version("x"))), 4, Duration::ZERO), Acquisition::Claim(8));
    }

    #[test]
    fn watch_waits_for_an_unreadable_lease() {
        let mut watch = LeaseWatch::new(Duration::from_secs(2));
        assert_eq!(watch.decide(Some((None, &version("x"))), 4, Duration::ZERO), Acquisition::Wait);
        assert_eq!(watch.decide(Some((None, &version("x"))), 4, Duration::from_secs(4)), Acquisition::Claim(5));
    }
}
