//! Requests to other servers, with no way into the network behind this one.
//!
//! Users name URLs (repositories, archives, webhooks) and this server reaches for
//! them; without care that would let everybody who may sign in speak to whatever this
//! host can reach: databases, the metadata service of a cloud, other people's services
//! on a private network. [`Guard`] is the only way out, and it holds that
//!
//! - a URL is accepted only in the one form in which everybody reads it the same
//!   ([`target`]), with `https` unless the operator allows `http`;
//! - the name is looked up here, every address that it has is checked
//!   ([`address`]), and the connection goes to what was checked ([`resolve`]): a second
//!   answer of the name server cannot change it;
//! - redirects are followed here, one at a time, each checked as the first was, never
//!   from `https` to `http`, and without credentials once the origin changes;
//! - no proxy of the environment is used, no cookie kept, nothing decompressed;
//! - headers, bytes, time to connect, time without a byte and the whole time are bounded.
//!
//! Roots of trust are those of the system, in which an operator may put an authority of
//! their own (`SSL_CERT_FILE` and `SSL_CERT_DIR` are read as OpenSSL does), and the
//! public ones of Mozilla where the system has none.

pub mod address;
mod error;
mod resolve;
mod target;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use error::NetError;
pub use target::{Allowed, MAX_URL};

use resolve::Names;

/// Time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// How much and how long one request may take. The same bounds hold for all its
/// redirects together.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time from the first connection to the last byte.
    pub total: Duration,
    /// Time without a byte.
    pub idle: Duration,
    /// Redirects that are followed. With 0 a redirect is handed out as the answer.
    pub redirects: u8,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(30),
            idle: Duration::from_secs(15),
            redirects: 5,
            bytes: 1 << 20,
        }
    }
}

/// The way to other servers. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    allowed: Allowed,
    servers: Vec<SocketAddr>,
    // Made with the first request: reading the roots of trust takes a while.
    client: OnceCell<reqwest::Client>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("allowed", &self.0.allowed).finish_non_exhaustive()
    }
}

impl Guard {
    /// With what the operator allows, and the name servers to ask; none: the system's.
    pub fn new(allowed: Allowed, servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner { allowed, servers, client: OnceCell::new() }))
    }

    /// Checks the form of a URL, and its address if it has one in place of a name: what
    /// can be said when a URL is given. It is checked again, with the name looked up,
    /// whenever it is used.
    ///
    /// # Errors
    ///
    /// [`NetError::UrlNotAllowed`], [`NetError::AddressNotAllowed`].
    pub fn check_url(&self, text: &str) -> Result<Url, NetError> {
        self.0.allowed.check_url(text)
    }

    /// Asks for a URL.
    ///
    /// # Errors
    ///
    /// See [`NetError`]; an answer of any status is no error.
    pub async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
        bounds: &Bounds,
    ) -> Result<Answer, NetError> {
        self.send(Method::GET, url, headers, None, bounds).await
    }

    /// Sends a body to a URL. Only redirects that keep the method (307, 308) are
    /// followed; others are handed out as the answer.
    ///
    /// # Errors
    ///
    /// As [`Guard::get`].
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        bounds: &Bounds,
    ) -> Result<Answer, NetError> {
        self.send(Method::POST, url, headers, Some(body), bounds).await
    }

    /// Writes what a URL answers to `sink`, and says how many bytes it was.
    ///
    /// # Errors
    ///
    /// As [`Guard::get`], [`NetError::HttpStatus`] for anything but success, and
    /// the errors of the sink.
    pub async fn download(
        &self,
        url: &Url,
        headers: HeaderMap,
        bounds: &Bounds,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, DownloadError> {
        let mut answer = self.get(url, headers, bounds).await?.successful()?;
        let mut written = 0;
        while let Some(chunk) = answer.chunk().await? {
            sink.write_all(&chunk).await?;
            written += chunk.len() as u64;
        }
        sink.flush().await?;
        Ok(written)
    }

    async fn client(&self) -> Result<&reqwest::Client, NetError> {
        let inner = &self.0;
        let made = inner.client.get_or_try_init(|| async {
            let names = Names::new(&inner.servers, inner.allowed)?;
            // Roots of trust are read from the disk.
            let made = tokio::task::spawn_blocking(move || client(names)).await;
            match made {
                Ok(Ok(client)) => Ok(client),
                Ok(Err(error)) => {
                    tracing::error!("no client for other servers: {error}");
                    Err(NetError::Unusable)
                }
                Err(_) => Err(NetError::Unusable),
            }
        });
        made.await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Option<Bytes>,
        bounds: &Bounds,
    ) -> Result<Answer, NetError> {
        let deadline = Instant::now() + bounds.total;
        let client = self.client().await?;
        let mut url = url.clone();
        let mut left = bounds.redirects;
        loop {
            self.0.allowed.check_parsed(&url)?;
            let host = target::host(&url);
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let until = deadline.min(Instant::now() + CONNECT + bounds.idle);
            let response = timeout_at(until, request.send())
                .await
                .map_err(|_| NetError::Timeout { host: host.clone() })?
                .map_err(|error| explain(&error, &host))?;
            // The resolver and the check of the URL left nothing else; if one of them is
            // ever bypassed, nothing that was read gets out.
            if response.remote_addr().is_some_and(|a| !self.0.allowed.address(a.ip())) {
                return Err(NetError::AddressNotAllowed { host });
            }
            let Some(next) = redirect(&method, &response, bounds)? else {
                return Ok(Answer { response, host, url, bounds: *bounds, deadline, read: 0 });
            };
            left = left
                .checked_sub(1)
                .ok_or_else(|| NetError::TooManyRedirects { host: host.clone() })?;
            let next = self.0.allowed.check_url(next.as_str())?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(NetError::UrlNotAllowed(format!(
                    "The host {host} passed the request on from https:// to http://."
                )));
            }
            if next.origin() != url.origin() {
                drop_private(&mut headers);
            }
            url = next;
        }
    }
}

/// Where an answer passes the request on to, if that is to be followed.
fn redirect(
    method: &Method,
    response: &reqwest::Response,
    bounds: &Bounds,
) -> Result<Option<Url>, NetError> {
    let follows = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            *method == Method::GET
        }
        _ => false,
    };
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
    if !follows || bounds.redirects == 0 {
        return Ok(None);
    }
    let host = target::host(response.url());
    let strange =
        || NetError::UrlNotAllowed(format!("The host {host} passed the request on to no URL."));
    let text = location.to_str().map_err(|_| strange())?;
    // A whole URL is checked as it is written, as the user's own was.
    let whole = text.contains("://") || text.starts_with("//");
    if whole && !text.starts_with("//") && text.split("://").next().is_some_and(is_scheme) {
        return Allowed { http: true, private: true }.check_url(text).map(Some);
    }
    response.url().join(text).map(Some).map_err(|_| strange())
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Keeps what says nothing about who asks.
fn drop_private(headers: &mut HeaderMap) {
    let kept = |name: &HeaderName| {
        [header::ACCEPT, header::ACCEPT_ENCODING, header::CONTENT_TYPE, header::USER_AGENT]
            .contains(name)
            || name.as_str() == "git-protocol"
    };
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| !kept(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn client(names: Names) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .use_rustls_tls()
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(names))
        .connect_timeout(CONNECT)
        // HTTP/1.1 bounds what is read for headers by itself (100 of them, 400 KiB).
        .http1_only()
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(20))
        .build()
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    host: String,
    url: Url,
    bounds: Bounds,
    deadline: Instant,
    read: u64,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Where the answer came from, after all redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The answer, if it is one of success.
    ///
    /// # Errors
    ///
    /// [`NetError::HttpStatus`]
    pub fn successful(self) -> Result<Self, NetError> {
        let status = self.status();
        if status.is_success() {
            return Ok(self);
        }
        Err(NetError::HttpStatus { host: self.host, status: status.as_u16() })
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// [`NetError::TooLarge`], [`NetError::Timeout`], [`NetError::ConnectionFailed`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        let too_large = || NetError::TooLarge { host: self.host.clone(), limit: self.bounds.bytes };
        if self.read == 0 && self.response.content_length().is_some_and(|n| n > self.bounds.bytes) {
            return Err(too_large());
        }
        let until = self.deadline.min(Instant::now() + self.bounds.idle);
        let chunk = match timeout_at(until, self.response.chunk()).await {
            Err(_) => return Err(NetError::Timeout { host: self.host.clone() }),
            Ok(Err(error)) => return Err(explain(&error, &self.host)),
            Ok(Ok(chunk)) => chunk,
        };
        let read = self.read + chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if read > self.bounds.bytes {
            return Err(NetError::TooLarge { host: self.host.clone(), limit: self.bounds.bytes });
        }
        self.read = read;
        Ok(chunk)
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`Answer::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, NetError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

/// See [`Guard::download`].
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The other side.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The sink.
    #[error("cannot keep what is downloaded: {0}")]
    Sink(#[from] std::io::Error),
}

/// What became of a request, as a sentence. The client's own text holds the URL and the
/// address, so it goes to the log at most.
fn explain(error: &reqwest::Error, host: &str) -> NetError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(error) = at.downcast_ref::<NetError>() {
            return error.clone();
        }
        // The cause of an I/O error made of another is not that other, but its cause.
        let inner = at
            .downcast_ref::<std::io::Error>()
            .and_then(|error| error.get_ref())
            .map(|inner| inner as &(dyn std::error::Error + 'static));
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return NetError::TlsFailed { host: host.to_owned(), why: error.to_string() };
        }
        cause = inner.or_else(|| at.source());
    }
    tracing::debug!(host, "{:#}", anyhow::Error::msg(format!("{error:?}")));
    if error.is_timeout() {
        NetError::Timeout { host: host.to_owned() }
    } else {
        NetError::ConnectionFailed { host: host.to_owned() }
    }
}

#[cfg(test)]
mod tests;
