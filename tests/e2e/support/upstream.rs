//! A server of others, on the loopback network: git (`git http-backend`) and archives.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::{Place, Work};

/// Opens what lies below `/private`, as the password of Basic.
pub const TOKEN: &str = "a-token-of-the-other-server";

/// While the gate is closed, of a body that is longer than this comes half.
const LONG: usize = 64 << 10;

pub struct Upstream {
    dir: TempDir,
    pub url: String,
    gate: watch::Sender<bool>,
    halves: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Shared {
    root: PathBuf,
    open: watch::Receiver<bool>,
    halves: Arc<AtomicUsize>,
}

impl Upstream {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (gate, open) = watch::channel(true);
        let halves = Arc::new(AtomicUsize::new(0));
        let shared = Shared { root: dir.path().to_owned(), open, halves: halves.clone() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(serve).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { dir, url, gate, halves }
    }

    /// Lets servers of a place reach this one.
    pub fn reachable(place: &mut Place) {
        place.set("SLUICE_ALLOW_PRIVATE_URLS", "true").set("SLUICE_ALLOW_HTTP_URLS", "true");
    }

    /// Serves a copy of a repository; its URL.
    pub async fn repository(&self, work: &Work, name: &str) -> String {
        let target = self.dir.path().join(name);
        let target = target.to_str().expect("UTF-8");
        work.run(&["clone", "-q", "--bare", ".", target]).await.expect();
        format!("{}/{name}", self.url)
    }

    /// Serves a file; its URL.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.dir.path().join(name), bytes).expect("a file");
        format!("{}/files/{name}", self.url)
    }

    /// From now on long answers stop in their middle, until [`Upstream::open`].
    pub fn close(&self) {
        self.gate.send_replace(false);
    }

    pub fn open(&self) {
        self.gate.send_replace(true);
    }

    /// How many answers have come to their middle and had to wait there.
    pub fn halves(&self) -> usize {
        self.halves.load(Ordering::Relaxed)
    }
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path.starts_with("/hook") {
        return "taken".into_response();
    }
    if let Some(name) = path.strip_prefix("/files/") {
        let Ok(bytes) = tokio::fs::read(shared.root.join(name)).await else {
            return StatusCode::NOT_FOUND.into_response();
        };
        return Response::new(gated(shared, bytes));
    }
    // Signed for the next one, as object stores are reached.
    if let Some(name) = path.strip_prefix("/moved/") {
        let query = request.uri().query().unwrap_or_default();
        let to = format!("/files/{name}?{query}");
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    let Some(rest) = path.strip_prefix("/private") else {
        return backend(shared, &path, request).await;
    };
    if !admitted(&request) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"others\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let rest = rest.to_owned();
    backend(shared, &rest, request).await
}

fn admitted(request: &Request) -> bool {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let basic = value.and_then(|value| value.strip_prefix("Basic ")).unwrap_or_default();
    let login = base64::engine::general_purpose::STANDARD.decode(basic).unwrap_or_default();
    String::from_utf8_lossy(&login).ends_with(&format!(":{TOKEN}"))
}

/// A body that stops in its middle while the gate is closed.
fn gated(shared: Shared, bytes: Vec<u8>) -> Body {
    let bytes = Bytes::from(bytes);
    if bytes.len() <= LONG {
        return Body::from(bytes);
    }
    let half = bytes.len() / 2;
    let parts = [bytes.slice(..half), bytes.slice(half..)];
    let stream = futures::stream::unfold((0, shared), move |(at, mut shared)| {
        let part = parts.get(at).cloned();
        async move {
            let part = part?;
            if at == 1 && !*shared.open.borrow() {
                shared.halves.fetch_add(1, Ordering::Relaxed);
                shared.open.wait_for(|open| *open).await.ok()?;
            }
            Some((Ok::<_, std::io::Error>(part), (at + 1, shared)))
        }
    });
    Body::from_stream(stream)
}

/// One request by CGI (RFC 3875).
async fn backend(shared: Shared, path: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let root: &Path = &shared.root;
    let mut child = tokio::process::Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all(&body).await.expect("written");
    drop(stdin);
    let out = child.wait_with_output().await.expect("git ends").stdout;
    let end = out.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().expect("a status")),
            _ => response.header(name, value),
        };
    }
    response.body(gated(shared, out[end + 4..].to_vec())).expect("a response")
}
