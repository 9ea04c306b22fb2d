//! The HTTP side: one [`Service`] that answers every request below a mount point.
//!
//! | request | answer |
//! |---|---|
//! | `GET …/info/refs?service=…` | the advertisement of `git-receive-pack` or `git-upload-pack`, or 401, 403, 404, 410, 429, 503 with a sentence; clients that hide the sentence get 403 and 410 as an `ERR` packet |
//! | `POST …/git-receive-pack` | the push; 401 and 404 by status, everything else inside a 200 |
//! | `POST …/git-upload-pack` | the fetch, in the same way |
//! | a POST of the four bytes `0000` | 200 and nothing, without credentials: git's probe |
//! | dumb requests, unknown services | 403 |
//!
//! Nothing is ever redirected: git does not follow redirects on a POST. Errors are `text/plain`.
//! A refused POST is read to its end (up to a ceiling) before it is answered: a client that is still
//! sending when the answer arrives loses the answer.
//! ([gitprotocol-http](https://git-scm.com/docs/gitprotocol-http))

use std::{hash::BuildHasher, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    advertise,
    receive::{self, Workers},
    remote::{Access, Direction, Refusal, RefusalKind, Remote, Repository},
    slots::Slots,
    upload,
};

pub(crate) mod body;
pub(crate) mod respond;
pub(crate) mod route;

use body::{BodyReader, BoxError};
use respond::{Offer, ResponseBody};
use route::Route;

/// How the service behaves, the same for all repositories.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The realm of `WWW-Authenticate`, shown when git asks for a password.
    pub realm: String,
    /// Pushes whose packs are received at the same time. Each takes a blocking thread while its
    /// client sends. Further ones wait, and after `receive_wait` they are told to come back. Owners
    /// ([`Repository::owner`]) share them as [`crate::slots`] says.
    pub concurrent_receives: usize,
    /// How long a push or a fetch waits for its turn.
    pub receive_wait: Duration,
    /// Fetches that are answered at the same time. Each takes a blocking thread until its client has
    /// read the pack. Further ones wait, and after `receive_wait` they are told to come back. They are
    /// shared in the same way.
    pub concurrent_fetches: usize,
    /// Packs that are resolved and checked at the same time. Each uses all cores.
    pub concurrent_checks: usize,
    /// A client that sends nothing for this long is given up. Some compute for minutes.
    pub idle_timeout: Duration,
    /// The same for the probe and for requests without access.
    pub short_timeout: Duration,
    /// An answer is never silent for longer than this, once the pack is there.
    pub keepalive: Duration,
    /// A request without access is read to its end, so that the reason arrives, but only so far.
    pub refused_drain_bytes: u64,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            realm: "sluice".into(),
            concurrent_receives: 64,
            receive_wait: Duration::from_mins(1),
            concurrent_fetches: 64,
            concurrent_checks: 2,
            idle_timeout: Duration::from_mins(2),
            short_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            refused_drain_bytes: 16 << 20,
        }
    }
}

/// The remote as a function from requests to responses.
#[derive(Clone)]
pub struct Service<R> {
    remote: R,
    config: Arc<ServiceConfig>,
    workers: Workers,
    fetches: Slots,
}

impl<R: Remote> Service<R> {
    /// A service over `remote`. Clones share their limits.
    pub fn new(remote: R, config: ServiceConfig) -> Self {
        let workers = Workers {
            receives: Slots::new(config.concurrent_receives),
            checks: Arc::new(Semaphore::new(config.concurrent_checks.max(1))),
        };
        let fetches = Slots::new(config.concurrent_fetches);
        Self { remote, config: Arc::new(config), workers, fetches }
    }

    /// Answers one request. The path of its URI is taken from the mount point on. No limit on the
    /// body may stand in front of this: bodies are streamed, and limited here.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let request = Incoming {
            method: parts.method,
            version: parts.version,
            session: session(),
            user_agent: text_header(&parts.headers, header::USER_AGENT.as_str()),
            headers: parts.headers,
            body: body.map_err(Into::into).boxed_unsync(),
        };
        match route::route(parts.uri.path(), parts.uri.query()) {
            Route::InfoRefs { repository, service } => {
                self.info_refs(request, repository, service.as_deref()).await
            }
            Route::ReceivePack { repository } => {
                self.post(request, Offer::ReceivePack, repository).await
            }
            Route::UploadPack { repository } => {
                self.post(request, Offer::UploadPack, repository).await
            }
            Route::Dumb => respond::text(StatusCode::FORBIDDEN, SMART_ONLY),
            Route::Unknown => {
                let response =
                    respond::text(StatusCode::NOT_FOUND, "there is nothing at this address");
                self.after_short_drain(request, response).await
            }
        }
    }

    async fn info_refs(
        &self,
        request: Incoming,
        repository: String,
        service: Option<&str>,
    ) -> Response<ResponseBody> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return method_not_allowed(request.version, "GET, HEAD");
        }
        let offer = match service {
            Some("git-receive-pack") => Offer::ReceivePack,
            Some("git-upload-pack") => Offer::UploadPack,
            Some(_) => {
                return respond::text(
                    StatusCode::FORBIDDEN,
                    "this service is not offered here; git uses git-upload-pack to fetch and \
                     git-receive-pack to push",
                );
            }
            None => return respond::text(StatusCode::FORBIDDEN, SMART_ONLY),
        };
        let version = upload::Version::of(request.protocol().as_deref());
        let session = request.session.clone();
        let only_packets = route::reads_only_packets(request.user_agent.as_deref());
        let both = advertise::bears_two_formats(request.user_agent.as_deref());
        let access = request.access(offer, repository);
        let advertised = async {
            let repository = self.remote.open(access).await?;
            if offer == Offer::UploadPack {
                let (config, fetches) = (&self.config, &self.fetches);
                return upload::advertise(&repository, version, &session, config, fetches).await;
            }
            let policy = repository.policy();
            let mut refs = repository.refs().await?;
            let shallow = repository.shallow().await?;
            refs.retain(|reference| !crate::refs::hidden(&reference.name, &policy.hidden_refs));
            refs.sort();
            let version_1 = version == upload::Version::V1;
            let haves = repository.haves().await?;
            let mut offered = policy.offered(repository.object_hash());
            offered.either &= both && refs.is_empty();
            Ok(advertise::receive_pack(&offered, &refs, &haves, &shallow, version_1, &session))
        };
        match advertised.await {
            Ok(body) => respond::full(StatusCode::OK, offer.advertisement(), body),
            // Statuses on which a client acts (asks for a password, comes back later) stay statuses.
            Err(refusal)
                if only_packets
                    && matches!(refusal.kind, RefusalKind::Gone | RefusalKind::Forbidden) =>
            {
                respond::refused_advertisement(offer, &refusal)
            }
            Err(refusal) => respond::refusal(&refusal, &self.config.realm),
        }
    }

    async fn post(
        &self,
        request: Incoming,
        offer: Offer,
        repository: String,
    ) -> Response<ResponseBody> {
        if request.method != Method::POST {
            return method_not_allowed(request.version, "POST");
        }
        if !route::has_type(&request.headers, offer.request()) {
            let sentence =
                format!("the body of this request has to be of type {}", offer.request());
            let response = respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &sentence);
            return self.after_short_drain(request, response).await;
        }
        if request.content_length() == Some(4) {
            return self.probe(request, offer).await;
        }
        let gzip = match route::gzip(&request.headers) {
            Ok(gzip) => gzip,
            Err(encoding) => {
                let sentence =
                    format!("the content encoding {encoding} is not known here; use gzip or none");
                let response = respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &sentence);
                return self.after_short_drain(request, response).await;
            }
        };
        let access = request.access(offer, repository);
        let repository = match self.remote.open(access).await {
            Ok(repository) => repository,
            Err(refusal) => return self.refuse(request, offer, gzip, &refusal).await,
        };
        let protocol = upload::Version::of(request.protocol().as_deref());
        let Incoming { version, user_agent, session, body, .. } = request;
        let body = BodyReader::new(body, self.config.idle_timeout, gzip);
        match offer {
            Offer::ReceivePack => {
                let push = receive::Incoming { version, user_agent, session, body };
                receive::receive(repository, push, &self.config, &self.workers).await
            }
            Offer::UploadPack => {
                let fetch = upload::Incoming { version, protocol, user_agent, session, body };
                upload::upload(repository, fetch, &self.config, &self.fetches).await
            }
        }
    }

    /// Before a large chunked request, git sends the four bytes `0000` to learn whether it has access.
    /// Some versions send this without the credentials they have, and fail for good on a 401; so it
    /// is answered without asking who it is, and without looking whether the repository exists.
    async fn probe(&self, request: Incoming, offer: Offer) -> Response<ResponseBody> {
        let version = request.version;
        let mut body =
            BodyReader::new(request.body, self.config.short_timeout, false).until(self.soon());
        let mut bytes = Vec::with_capacity(4);
        loop {
            match body.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= 4 => {
                    bytes.extend_from_slice(&chunk)
                }
                Ok(None) if bytes == b"0000" => {
                    return respond::full(StatusCode::OK, offer.result(), Bytes::new());
                }
                Err(error) => {
                    let response = respond::text(StatusCode::REQUEST_TIMEOUT, &error.to_string());
                    return respond::close(response, version);
                }
                Ok(_) => {
                    let sentence = "a request of four bytes has to be a flush packet";
                    return respond::close(
                        respond::text(StatusCode::BAD_REQUEST, sentence),
                        version,
                    );
                }
            }
        }
    }

    /// A refusal to open the repository. Git shows no body here, so where the client can
    /// be told in its own protocol, it is.
    async fn refuse(
        &self,
        request: Incoming,
        offer: Offer,
        gzip: bool,
        refusal: &Refusal,
    ) -> Response<ResponseBody> {
        if matches!(refusal.kind, RefusalKind::Unauthorized | RefusalKind::NotFound) {
            let response = respond::refusal(refusal, &self.config.realm);
            return self.after_short_drain(request, response).await;
        }
        if offer == Offer::UploadPack {
            return self.after_short_drain(request, upload::refuse(refusal)).await;
        }
        let version = request.version;
        let body =
            BodyReader::new(request.body, self.config.short_timeout, gzip).until(self.soon());
        let in_band = receive::refuse(body, refusal, self.config.refused_drain_bytes).await;
        in_band.unwrap_or_else(|| {
            respond::close(respond::refusal(refusal, &self.config.realm), version)
        })
    }

    /// When a request that is refused has to be read to its end, however it trickles.
    fn soon(&self) -> Instant {
        Instant::now() + self.config.idle_timeout
    }

    /// Reads what the client still sends, briefly, and then answers.
    async fn after_short_drain(
        &self,
        request: Incoming,
        response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        // A client that waits for `100 Continue` has sent nothing, and must not be told to go on.
        let waits = request.headers.contains_key(header::EXPECT);
        if waits || request.method != Method::POST {
            return response;
        }
        let mut body =
            BodyReader::new(request.body, self.config.short_timeout, false).until(self.soon());
        match body.drain(self.config.refused_drain_bytes).await {
            Ok(()) => response,
            Err(_) => respond::close(response, request.version),
        }
    }
}

const SMART_ONLY: &str =
    "this remote speaks git's smart HTTP protocol only; use a git client of version 1.6.6 or later";

struct Incoming {
    method: Method,
    version: Version,
    headers: HeaderMap,
    session: String,
    user_agent: Option<String>,
    body: UnsyncBoxBody<Bytes, BoxError>,
}

impl Incoming {
    fn access(&self, offer: Offer, path: String) -> Access {
        Access {
            path,
            direction: match offer {
                Offer::UploadPack => Direction::Fetch,
                Offer::ReceivePack => Direction::Push,
            },
            credentials: route::credentials(&self.headers),
            user_agent: self.user_agent.clone(),
            session: self.session.clone(),
        }
    }

    /// What the client says about versions of the protocol.
    fn protocol(&self) -> Option<String> {
        text_header(&self.headers, "git-protocol")
    }

    fn content_length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(200).collect())
}

fn method_not_allowed(version: Version, allow: &'static str) -> Response<ResponseBody> {
    // HTTP/1.0 does not know 405.
    let status = if version <= Version::HTTP_10 {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::METHOD_NOT_ALLOWED
    };
    let mut response = respond::text(status, &format!("this address answers to {allow}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A name for one request, unique enough for logs. It protects nothing.
fn session() -> String {
    let random = || std::hash::RandomState::new().hash_one(std::time::SystemTime::now());
    format!("{:016x}{:016x}", random(), random())
}
