//! A way to other servers that can be cut, closed, or swallow everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They go through, to one server after the other.
    Open,
    /// Nobody listens, and what was open is closed.
    Refused,
    /// They are taken, and nothing is ever heard of them again; those that were open too,
    /// also when the way is open again.
    Swallowed,
}

pub struct Forwarder {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    taken: Arc<Vec<AtomicUsize>>,
}

impl Forwarder {
    /// Connections go to these addresses (`HOST:PORT`) in turn.
    pub async fn to(servers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (way, seen) = watch::channel(Way::Open);
        let taken: Arc<Vec<_>> = Arc::new(servers.iter().map(|_| AtomicUsize::new(0)).collect());
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        tokio::spawn(accept(listener, address, servers, seen, taken.clone()));
        Self { address, way, taken }
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How many connections each server was given.
    pub fn taken(&self) -> Vec<usize> {
        self.taken.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

async fn accept(
    first: TcpListener,
    address: SocketAddr,
    servers: Vec<String>,
    mut way: watch::Receiver<Way>,
    taken: Arc<Vec<AtomicUsize>>,
) {
    let mut listener = Some(first);
    let mut next = 0;
    loop {
        if *way.borrow_and_update() == Way::Refused {
            listener = None;
            if way.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match &listener {
            Some(open) => open,
            None => match TcpListener::bind(address).await {
                Ok(bound) => listener.insert(bound),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        tokio::select! {
            changed = way.changed() => if changed.is_err() { return },
            client = open.accept() => {
                let Ok((client, _)) = client else { continue };
                let at = next % servers.len();
                next += 1;
                taken[at].fetch_add(1, Ordering::Relaxed);
                tokio::spawn(forward(client, servers[at].clone(), way.clone()));
            }
        }
    }
}

/// One connection, for as long as its way is open.
async fn forward(mut client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let mut other = None;
    loop {
        let now = *way.borrow_and_update();
        match now {
            Way::Open => {}
            Way::Refused => return,
            Way::Swallowed => {
                // Held open, and forgotten.
                let _held = (&client, &other);
                while way.changed().await.is_ok() {}
                return;
            }
        }
        let server = match &mut other {
            Some(open) => open,
            None => match TcpStream::connect(&server).await {
                Ok(open) => other.insert(open),
                Err(_) => return,
            },
        };
        tokio::select! {
            _ = copy_bidirectional(&mut client, server) => return,
            changed = way.changed() => if changed.is_err() { return },
        }
    }
}
