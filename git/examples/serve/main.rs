//! Serves a folder of repositories over smart HTTP, to try any git client or test suite against this
//! library.
//!
//! ```text
//! cargo run -p sluice-git --example serve -- --root DIR --listen ADDR [--run-hooks]
//! git clone http://ADDR/some/path/below/DIR.git
//! ```
//!
//! What is on disk is what git itself keeps there: refs as files and `packed-refs`, objects, reflogs,
//! `shallow`. So `git` can work in the same folders at the same time. Each repository's own
//! configuration is followed (see [`settings`]); files that it includes, and the configuration of
//! user and system, are not read.
//!
//! Everybody is believed to be who they say: the user name of Basic credentials is the pusher's, with
//! any password. As with `git http-backend`, a push needs a user unless `http.receivepack` is true.
//! One such server at a time may serve a folder, since it removes at its start what a killed one has
//! left. This is an example and a test bed; the server that decides about access is sluice.
//!
//! Most of git's own tests of pushes and fetches pass with this server in the place of Apache, or with
//! `url.<server>.insteadOf` for the paths in them. What differs from `git http-backend` is meant to:
//!
//! - A new ref may not be called `refs/heads/HEAD`, look like an object id, or have a component of more
//!   than 255 bytes.
//! - In version 2 of the protocol, objects that no visible ref leads to are not for everybody: see
//!   [`settings`].
//! - A push of all refs or none says which ref was not possible, and why.
//! - A pack is never unpacked, and one that is sent reuses the deltas that are there: none is made.
//! - There are no dumb clients, namespaces, packfile URIs, `proc-receive` and `updateInstead`.
//!
//! ```text
//! main         arguments, connections
//! remote       from a request to a repository
//! settings     its configuration
//! repository   what the library asks of it
//! refs         reading refs
//! update         changing them, as files and under locks
//! lock, reflog
//! push         what happens to a push that was checked
//! hooks        programs of the operator, only with --run-hooks
//! signature      who signed a push, for those
//! ```

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use sluice_git::{Service, ServiceConfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::task::TaskTracker;

mod hooks;
mod lock;
mod push;
mod reflog;
mod refs;
mod remote;
mod repository;
mod settings;
mod signature;
mod update;

use remote::{Folder, PEER};

const USAGE: &str = "serve --root DIR --listen ADDR [--run-hooks]

  --root DIR      the folder whose repositories are served
  --listen ADDR   such as 127.0.0.1:8080; with port 0 a free one is taken, and printed
  --run-hooks     run pre-receive, update, post-receive and post-update of the repositories
";

/// How long connections may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(30);

struct Arguments {
    root: PathBuf,
    listen: SocketAddr,
    run_hooks: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut root, mut listen, mut run_hooks) = (None, None, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--root" => root = Some(PathBuf::from(value()?)),
                "--listen" => {
                    let text = value()?;
                    let address = text.parse().map_err(|_| format!("{text} is no address"))?;
                    listen = Some(address);
                }
                "--run-hooks" => run_hooks = true,
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok(Self {
            root: root.ok_or("--root is missing")?,
            listen: listen.ok_or("--listen is missing")?,
            run_hooks,
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> std::io::Result<()> {
    let root = arguments.root.canonicalize()?;
    let service = Service::new(Folder::new(root, arguments.run_hooks), ServiceConfig::default());
    let listener = TcpListener::bind(arguments.listen).await?;
    let connections = TaskTracker::new();
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // Whoever reads this may end the server: it is said when signals are waited for.
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Most often there are too many files open, which passes.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        };
        // Small answers should not wait for more.
        let _ = socket.set_nodelay(true);
        let service = service.clone();
        connections.spawn(async move {
            let handler = service_fn(|request| {
                let service = service.clone();
                PEER.scope(peer, async move { Ok::<_, Infallible>(service.handle(request).await) })
            });
            // Both HTTP/1 and HTTP/2 without TLS, by what the client begins with.
            let mut builder = auto::Builder::new(TokioExecutor::new());
            // With a clock, a client that does not finish its headers is given up.
            builder.http1().timer(TokioTimer::new());
            builder.http2().timer(TokioTimer::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(socket), handler).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    // A push that is being stored is let finish, so that no lock is left.
    connections.close();
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    Ok(())
}
