//! What a place consists of: one process that does everything, or the whole stack as it
//! is run on several machines (`tests/stack`): two servers behind a proxy that takes them
//! in turn, and two workers, on one database, one store and one queue.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

#[path = "../../support/proxy/mod.rs"]
pub mod proxy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// `sluice serve`.
    Single,
    /// Two of `sluice serve --no-worker`, two of `sluice worker`, and a proxy.
    Stack,
}

impl Topology {
    /// As the environment says.
    pub fn wanted() -> Self {
        match std::env::var("SLUICE_TEST_TOPOLOGY").as_deref() {
            Err(_) | Ok("") => Self::Single,
            Ok("stack") => Self::Stack,
            Ok(other) => panic!("SLUICE_TEST_TOPOLOGY={other:?} must be `stack`, or unset"),
        }
    }
}

/// The proxy, on a thread of its own: what a test does keeps nobody waiting.
#[derive(Debug)]
pub struct Front {
    listener: Option<TcpListener>,
    port: u16,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Front {
    /// Takes a port. Whoever connects waits until [`Front::serve`].
    pub fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let port = listener.local_addr().expect("an address").port();
        let listener = Some(listener);
        Self { listener, port, stop: CancellationToken::new(), thread: Mutex::new(None) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes requests on to these servers from now on.
    pub fn serve(&mut self, servers: Vec<SocketAddr>) {
        let listener = self.listener.take().expect("it serves once");
        let stop = self.stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a port");
                tokio::select! {
                    () = stop.cancelled() => {}
                    ended = proxy::serve(listener, servers) => ended.expect("the proxy serves"),
                }
            });
        });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Ends every connection; from then on nobody listens.
    pub fn stop(&self) {
        self.stop.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}
