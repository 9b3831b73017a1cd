//! Connections to the address: how many are open at a time, for how long, and how they end.
//!
//! Whoever can reach the address can open connections and never say a word on them. Each costs a file descriptor, and a
//! worker without file descriptors can write no checkpoint. So their number is bounded, and one that is open makes room for
//! the next: a probe or a scrape gets in whoever else is there. Which one, [`OpenConnections`] decides: clients that keep
//! theirs and ask over it now and then do not lose it to those that never ask. A head that takes too long, a pause between two
//! requests, and a connection that outlives everything are ended too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::io::InspectWriter;

/// The longest time that the head of a request may take, and that a connection may be idle before it.
const MAX_HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes: browsers send cookies of other programs on the same host along.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The longest life of a connection, whatever happens on it: a client may read its answer a byte a minute.
const MAX_LIFE: Duration = Duration::from_secs(300);
/// The longest time that answers under way may take once the server stops.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// The pause after a connection that could not be accepted: where file descriptors are short, the next one cannot be either.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers by `router` what arrives at `listener`, over `most` connections at a time, until `stopped` says so or its sender is gone.
pub(super) async fn serve(listener: TcpListener, most: usize, router: Router, mut stopped: oneshot::Receiver<()>) {
    let (last_call, called) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut open = OpenConnections { most, writes: Arc::default(), oldest_first: Vec::new() };
    loop {
        let accepted = tokio::select! {
            // A server whose handle is gone without a word stops too.
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        open.make_room();
        let last_write = LastWrite::new(&open.writes);
        let task = connections.spawn(answer(stream, last_write.clone(), router.clone(), called.clone()));
        open.oldest_first.push((task, last_write));
        // So that whoever was let in is heard before others are let in instead.
        tokio::task::yield_now().await;
    }
    drop((listener, last_call));
    // A client that never ends its request must not keep the worker from ending.
    let _ = tokio::time::timeout(PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
}

/// When a connection last took a part of an answer, counted in such writes over all connections; 0: never.
///
/// Writes are what counts, not answers that begin: a stream of events is one answer that goes on for as long as its page is
/// open, and a client that does not read takes none.
#[derive(Clone)]
struct LastWrite {
    /// Writes so far, over all connections.
    writes: Arc<AtomicU64>,
    at: Arc<AtomicU64>,
}

impl LastWrite {
    fn new(writes: &Arc<AtomicU64>) -> Self {
        Self { writes: Arc::clone(writes), at: Arc::default() }
    }

    fn set(&self) {
        self.at.store(self.writes.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }
}

/// The connections that are open, and which of them makes room for the next.
struct OpenConnections {
    most: usize,
    /// Writes so far, over all connections.
    writes: Arc<AtomicU64>,
    oldest_first: Vec<(AbortHandle, LastWrite)>,
}

impl OpenConnections {
    /// Ends a connection where as many are open as may be.
    fn make_room(&mut self) {
        self.oldest_first.retain(|(task, _)| !task.is_finished());
        if self.oldest_first.len() < self.most {
            return;
        }
        let last_writes: Vec<u64> = self.oldest_first.iter().map(|(_, last_write)| last_write.get()).collect();
        if let Some(place) = first_to_leave(&last_writes) {
            self.oldest_first.remove(place).0.abort();
        }
    }
}

/// The place of the connection that makes room for another one, by when each was last written to (0: never), oldest first.
///
/// Where a quarter of them or more have never been answered, the oldest of these leaves, and else the one whose last answer is
/// the oldest. So whoever is new has the time that many others take to arrive, to ask its first question; and whoever only
/// opens connections ends no others than such.
fn first_to_leave(last_writes: &[u64]) -> Option<usize> {
    let unanswered = last_writes.iter().filter(|&&at| at == 0).count();
    let may_leave = |at: u64| (at == 0) == (4 * unanswered >= last_writes.len());
    let places = (0..last_writes.len()).filter(|&place| may_leave(last_writes[place]));
    places.min_by_key(|&place| last_writes[place])
}

/// Answers the requests of one connection, until its client, its time or the server ends it.
async fn answer(stream: TcpStream, last_write: LastWrite, router: Router, mut last_call: watch::Receiver<()>) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(MAX_HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
    let stream = InspectWriter::new(stream, move |_| last_write.set());
    let connection = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What a client does wrong is nobody's business here.
        _ = connection.as_mut() => return,
        // The sender says nothing: it goes.
        _ = last_call.changed() => {}
        () = tokio::time::sleep(MAX_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(PATIENCE, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_of_the_unanswered_leaves_while_they_are_many() {
        assert_eq!(first_to_leave(&[0, 0, 0, 0]), Some(0));
        assert_eq!(first_to_leave(&[1, 2, 0, 3]), Some(2), "one of four is a quarter");
        assert_eq!(first_to_leave(&[1, 0, 0, 3, 2, 4, 5, 6]), Some(1), "the oldest of two");
    }

    #[test]
    fn longest_unasked_leaves_while_few_are_unanswered() {
        assert_eq!(first_to_leave(&[3, 1, 2, 4]), Some(1));
        assert_eq!(first_to_leave(&[5, 4, 0, 3, 2]), Some(4), "one of five is less than a quarter");
        assert_eq!(first_to_leave(&[]), None);
    }
}
