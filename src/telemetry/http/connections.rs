//! Connections to the address: how many are open at a time, for how long, and how they end.
//!
//! Whoever can reach the address can open connections and never say a word on them. Each costs a file descriptor, and a
//! worker without file descriptors can write no checkpoint. So their number is bounded, and the one that has been open for
//! longest makes room for the next: a probe or a scrape gets in whoever else is there. A head that takes too long, a pause
//! between two requests, and a connection that outlives everything are ended too.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

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
    // Oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
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
        open.retain(|connection| !connection.is_finished());
        if open.len() >= most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connections.spawn(answer(stream, router.clone(), called.clone())));
        // So that whoever was let in is heard before others are let in instead.
        tokio::task::yield_now().await;
    }
    drop((listener, last_call));
    // A client that never ends its request must not keep the worker from ending.
    let _ = tokio::time::timeout(PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Answers the requests of one connection, until its client, its time or the server ends it.
async fn answer(stream: TcpStream, router: Router, mut last_call: watch::Receiver<()>) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(MAX_HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
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
