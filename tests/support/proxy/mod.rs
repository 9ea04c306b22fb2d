//! A proxy as it stands before several servers: each request goes to the next one, so
//! two requests of one client, and of one push, meet different servers.
//!
//! Bytes pass as they are and as they come, in both directions at once: bodies of any
//! length, chunked or not, `Expect: 100-continue`, early answers, streams of events. A
//! server that refuses a connection is left out for a moment, and the next one is tried;
//! once a byte was sent to a server, nothing is tried again, since it may have acted.

pub mod framing;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use framing::Message;

/// How long a server that refused a connection is left out.
const OUT: Duration = Duration::from_millis(300);

/// How long a connection to a server may take to come about.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the rest of a body that nobody reads any more is taken, so that the client
/// gets to read the answer.
const LINGER: Duration = Duration::from_secs(30);

/// What a client may send ahead of its turn.
const AHEAD: usize = 1 << 20;

/// What it says when no server is there.
const NOBODY: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\n\
                      Content-Length: 18\r\nConnection: close\r\n\r\nno server answers\n";

/// The servers behind it.
#[derive(Debug)]
struct Servers {
    all: Vec<SocketAddr>,
    next: AtomicUsize,
    out_until: Mutex<Vec<Option<Instant>>>,
}

impl Servers {
    /// A connection to the next server that takes one.
    async fn connect(&self) -> Option<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let order: Vec<usize> = (0..self.all.len()).map(|n| (first + n) % self.all.len()).collect();
        let out = |index: usize| {
            let until = self.out_until.lock().map_or(None, |all| all[index]);
            until.is_some_and(|until| until > Instant::now())
        };
        let (last, now): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|n| out(*n));
        for index in now.into_iter().chain(last) {
            let tried = tokio::time::timeout(CONNECT, TcpStream::connect(self.all[index])).await;
            let connected = tried.ok().and_then(Result::ok);
            if let Ok(mut all) = self.out_until.lock() {
                all[index] = connected.is_none().then(|| Instant::now() + OUT);
            }
            if let Some(stream) = connected {
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
        }
        None
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, servers: Vec<SocketAddr>) -> io::Result<()> {
    let out_until = Mutex::new(vec![None; servers.len()]);
    let servers = Arc::new(Servers { all: servers, next: AtomicUsize::new(0), out_until });
    loop {
        let (client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Too many files are open: some will be closed.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = client.set_nodelay(true);
        tokio::spawn(connection(client, servers.clone()));
    }
}

/// One client, request by request.
async fn connection(client: TcpStream, servers: Arc<Servers>) {
    let (mut from, mut to) = client.into_split();
    // What came and belongs to no request yet.
    let mut ahead = Vec::new();
    loop {
        if ahead.is_empty() && !matches!(read(&mut from, &mut ahead).await, Ok(1..)) {
            return;
        }
        let Some(server) = servers.connect().await else {
            let _ = to.write_all(NOBODY.as_bytes()).await;
            let _ = to.shutdown().await;
            let _ = tokio::time::timeout(LINGER, discard(&mut from)).await;
            return;
        };
        if !exchange(&mut from, &mut to, &mut ahead, server).await {
            return;
        }
    }
}

/// One request and its answer. True: the client may send the next one.
async fn exchange(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    ahead: &mut Vec<u8>,
    server: TcpStream,
) -> bool {
    let (mut server_from, mut server_to) = server.into_split();
    let request = Mutex::new(Request::default());
    let state = || request.lock().map_or((false, true), |r| (r.done, r.close));
    let ended = {
        let mut sending = Box::pin(send(from, &mut server_to, ahead, &request));
        let mut receiving = Box::pin(receive(&mut server_from, to, &request));
        tokio::select! {
            sent = &mut sending => {
                drop(sending);
                let (done, _) = state();
                match sent {
                    Err(_) => Answer::Broken,
                    Ok(()) if done => tokio::select! {
                        // The client is gone, or says no more: the server knows, and decides.
                        gone = watch(from, ahead) => {
                            let _ = server_to.shutdown().await;
                            if gone.is_ok() { receiving.await } else { Answer::Broken }
                        }
                        ended = &mut receiving => ended,
                    },
                    Ok(()) => {
                        let _ = server_to.shutdown().await;
                        receiving.await
                    }
                }
            }
            ended = &mut receiving => {
                drop(receiving);
                // Answered early: the rest of the body goes to the server as long as that
                // takes it, so that the client gets to read the answer.
                if matches!(ended, Answer::Complete { last: true }) {
                    let _ = to.shutdown().await;
                }
                if !matches!(ended, Answer::Broken) {
                    let _ = tokio::time::timeout(LINGER, &mut sending).await;
                }
                drop(sending);
                ended
            }
        }
    };
    let (done, close) = state();
    match ended {
        Answer::Broken => false,
        Answer::Complete { last: false } if done && !close => true,
        Answer::Complete { .. } => {
            let _ = to.shutdown().await;
            let _ = tokio::time::timeout(LINGER, discard(from)).await;
            false
        }
    }
}

/// What is known of the request that passes.
#[derive(Debug, Default)]
struct Request {
    message: Option<Message>,
    done: bool,
    close: bool,
    is_head: bool,
}

enum Answer {
    /// It came as a whole; `last`: and ends the connection.
    Complete { last: bool },
    /// It ends in its middle, or nobody takes it.
    Broken,
}

/// Waits until the client says no more. What it sends meanwhile waits for its turn.
async fn watch(from: &mut OwnedReadHalf, ahead: &mut Vec<u8>) -> io::Result<()> {
    while ahead.len() < AHEAD {
        if read(from, ahead).await? == 0 {
            return Ok(());
        }
    }
    std::future::pending().await
}

/// Sends a request until its end, or the client's.
async fn send(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    ahead: &mut Vec<u8>,
    request: &Mutex<Request>,
) -> io::Result<()> {
    let mut takes = true;
    loop {
        let (taken, done) = {
            let mut state = request.lock().map_err(|_| io::Error::other("a lock"))?;
            let state = &mut *state;
            let message = state.message.get_or_insert_with(Message::request);
            let taken = message.feed(ahead);
            state.done = message.done();
            state.close = message.close || message.open();
            state.is_head = message.is_head;
            (taken, state.done)
        };
        let part: Vec<u8> = ahead.drain(..taken).collect();
        // A server that answered early may read no more; the client is to read that.
        takes = takes && to.write_all(&part).await.is_ok();
        if done || read(from, ahead).await? == 0 {
            return Ok(());
        }
    }
}

/// Brings the answer to the client.
async fn receive(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    request: &Mutex<Request>,
) -> Answer {
    let mut message = None;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match read(from, &mut buffer).await {
            Ok(1..) => {}
            Ok(0) if message.as_ref().is_some_and(Message::open) => {
                return Answer::Complete { last: true };
            }
            _ => return Answer::Broken,
        }
        let is_head = request.lock().is_ok_and(|r| r.is_head);
        let message = message.get_or_insert_with(|| Message::response(is_head));
        message.feed(&buffer);
        if to.write_all(&buffer).await.is_err() {
            return Answer::Broken;
        }
        if message.done() {
            return Answer::Complete { last: message.close };
        }
    }
}

/// Appends what comes next; 0 at the end.
async fn read(from: &mut OwnedReadHalf, into: &mut Vec<u8>) -> io::Result<usize> {
    into.reserve(64 << 10);
    from.read_buf(into).await
}

/// Reads to the end.
async fn discard(from: &mut OwnedReadHalf) -> io::Result<()> {
    let mut buffer = Vec::new();
    while read(from, &mut buffer).await? > 0 {
        buffer.clear();
    }
    Ok(())
}
