//! A way to a server that can be cut, closed, or held up.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What becomes of bytes and of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They are passed on.
    Open,
    /// New connections are ended at once.
    Closed,
    /// New connections are taken, but nothing is passed on, until it is open again: then all of it is.
    HeldUp,
}

/// Passes bytes on between clients and a server, as long as it is open.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    open: Mutex<Vec<TcpStream>>,
    way: Mutex<Option<Way>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Proxy {
    /// Begins to listen, without a server yet.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let proxy = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                if shared.way() == Way::Closed {
                    let _ = client.shutdown(Shutdown::Both);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", shared.target.load(Ordering::Relaxed))) else {
                    continue;
                };
                let mut open = shared.connections();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    open.push(from.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || shared.pass_on(from, to));
                }
            }
        });
        proxy
    }

    /// Where clients reach it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to the server on `port` from here on.
    pub fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::Relaxed);
    }

    /// Ends all connections; those that come afterwards are as the way is.
    pub fn cut(&self) {
        for connection in self.shared.connections().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Opens, closes or holds up the way.
    pub fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
        self.shared.changed.notify_all();
        if way == Way::Closed {
            self.cut();
        }
    }
}

impl Shared {
    fn way(&self) -> Way {
        self.way.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Way::Open)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 1 << 12];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.changed.wait_while(way, |way| *way == Some(Way::HeldUp)).unwrap_or_else(PoisonError::into_inner));
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.set(Way::Closed);
        // Wakes the thread that listens.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}
