//! Connections to the address: how many are open at a time, for how long, and how they end.
//!
//! Whoever can reach the address can open connections and never say a word on them. Each costs a file descriptor, and a
//! worker without file descriptors can write no checkpoint. So their number is bounded, and one that is open makes room for
//! the next: a probe or a scrape gets in whoever else is there. Which one, [`first_to_leave`] says: clients that keep
//! theirs and ask over it now and then do not lose it to any number of connections that nobody uses. They may lose it to many over which
//! others ask more often: who may do that is decided in front of the address. A head that takes too long, a pause between two requests,
//! and a connection that outlives everything are ended too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
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
    let mut open = OpenConnections { most, uses: Arc::default(), oldest_first: Vec::new() };
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
        let last_use = LastUse::new(&open.uses);
        let task = connections.spawn(answer(stream, last_use.clone(), router.clone(), called.clone()));
        open.oldest_first.push((task, last_use));
        // So that whoever was let in is heard before others are let in instead.
        tokio::task::yield_now().await;
    }
    drop((listener, last_call));
    // A client that never ends its request must not keep the worker from ending.
    let _ = tokio::time::timeout(PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
}

/// When a connection was used last: when a request came over it, or a part of an answer was taken. Counted in such moments over all
/// connections; 0: never.
///
/// Parts of answers count too, since a stream of events is one answer that goes on for as long as its page is open; a client that does
/// not read takes none.
#[derive(Clone)]
struct LastUse {
    /// Uses so far, of all connections.
    uses: Arc<AtomicU64>,
    at: Arc<AtomicU64>,
}

impl LastUse {
    fn new(uses: &Arc<AtomicU64>) -> Self {
        Self { uses: Arc::clone(uses), at: Arc::default() }
    }

    fn note(&self) {
        self.at.store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }
}

/// The connections that are open, and which of them makes room for the next.
struct OpenConnections {
    most: usize,
    /// Uses so far, of all connections.
    uses: Arc<AtomicU64>,
    oldest_first: Vec<(AbortHandle, LastUse)>,
}

impl OpenConnections {
    /// Ends a connection where as many are open as may be.
    fn make_room(&mut self) {
        self.oldest_first.retain(|(task, _)| !task.is_finished());
        if self.oldest_first.len() < self.most {
            return;
        }
        if let Some(place) = first_to_leave(self.oldest_first.iter().map(|(_, last_use)| last_use.get())) {
            self.oldest_first.remove(place).0.abort();
        }
    }
}

/// The place of the connection that makes room for another one, by when each was used last (0: never), oldest first.
///
/// Where a quarter of them or more were never used, the oldest of these leaves, and else the one that was used longest ago. So whoever is
/// new has as long for a first request as it takes for a quarter of the places to be taken; and whoever opens connections without using
/// them ends no others once a quarter are such.
fn first_to_leave(last_uses: impl Iterator<Item = u64> + Clone) -> Option<usize> {
    let (n, n_unused) = last_uses.clone().fold((0, 0), |(n, n_unused), at| (n + 1, n_unused + usize::from(at == 0)));
    let spares_unused = 4 * n_unused < n;
    let may_leave = last_uses.enumerate().filter(|(_, at)| *at > 0 || !spares_unused);
    may_leave.min_by_key(|(_, at)| *at).map(|(place, _)| place)
}

/// Answers the requests of one connection, until its client, its time or the server ends it.
async fn answer(stream: TcpStream, last_use: LastUse, router: Router, mut last_call: watch::Receiver<()>) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(MAX_HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
    let (asked, service) = (last_use.clone(), TowerToHyperService::new(router));
    let service = service_fn(move |request| {
        asked.note();
        service.call(request)
    });
    let stream = InspectWriter::new(stream, move |_| last_use.note());
    let connection = protocol.serve_connection(TokioIo::new(stream), service);
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

    fn leaves(last_uses: &[u64]) -> Option<usize> {
        first_to_leave(last_uses.iter().copied())
    }

    #[test]
    fn oldest_of_the_unused_leaves_while_they_are_many() {
        assert_eq!(leaves(&[0, 0, 0, 0]), Some(0));
        assert_eq!(leaves(&[1, 2, 0, 3]), Some(2), "one of four is a quarter");
        assert_eq!(leaves(&[1, 0, 0, 3, 2, 4, 5, 6]), Some(1), "the oldest of two");
    }

    #[test]
    fn longest_unused_leaves_while_few_were_never_used() {
        assert_eq!(leaves(&[3, 1, 2, 4]), Some(1));
        assert_eq!(leaves(&[5, 4, 0, 3, 2]), Some(4), "one of five is less than a quarter");
        assert_eq!(leaves(&[]), None);
    }
}
