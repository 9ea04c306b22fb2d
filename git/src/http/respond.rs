//! Responses: the headers that every one of them has, and sentences as `text/plain`.
//!
//! Git shows the body of an error only if it is `text/plain`, and only on `GET info/refs`. Most
//! other clients show a status alone, but every one shows an `ERR` packet.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::{
    pkt,
    remote::{Refusal, RefusalKind},
};

/// The body of every response. It fails if the answer died before it was complete.
pub type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// The two services of the protocol, and what their requests and answers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    UploadPack,
    ReceivePack,
}

impl Offer {
    pub fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    pub fn advertisement(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-advertisement",
            Self::ReceivePack => "application/x-git-receive-pack-advertisement",
        }
    }

    pub fn request(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-request",
            Self::ReceivePack => "application/x-git-receive-pack-request",
        }
    }

    pub fn result(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-result",
            Self::ReceivePack => "application/x-git-receive-pack-result",
        }
    }
}

/// A response of any type, with the headers that keep it out of every cache.
pub(crate) fn new(
    status: StatusCode,
    content_type: &'static str,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, max-age=0, must-revalidate"),
    );
    // Keepalives and messages are worth nothing in the buffer of a proxy.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(crate) fn full(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    new(status, content_type, body)
}

/// A sentence.
pub(crate) fn text(status: StatusCode, sentence: &str) -> Response<ResponseBody> {
    full(status, "text/plain; charset=utf-8", format!("{}\n", sentence.trim_end()))
}

/// A refusal before anything was streamed.
pub(crate) fn refusal(refusal: &Refusal, realm: &str) -> Response<ResponseBody> {
    let status = match refusal.kind {
        RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
        RefusalKind::Forbidden => StatusCode::FORBIDDEN,
        RefusalKind::NotFound => StatusCode::NOT_FOUND,
        RefusalKind::Gone => StatusCode::GONE,
        RefusalKind::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = text(status, &refusal.message);
    let headers = response.headers_mut();
    match refusal.kind {
        RefusalKind::Unauthorized => {
            // Basic stands first, and in the same header: some clients choose their scheme by the
            // first header, and JGit (with its Apache connector) sees none but the last.
            let both = format!("Basic realm=\"{realm}\", Bearer realm=\"{realm}\"");
            if let Ok(value) = HeaderValue::from_str(&both) {
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
        }
        RefusalKind::TooManyRequests(after) | RefusalKind::Unavailable(after) => {
            headers.insert(header::RETRY_AFTER, seconds(after));
        }
        _ => {}
    }
    response
}

/// A refusal in place of an advertisement, inside the protocol.
pub(crate) fn refused_advertisement(offer: Offer, refusal: &Refusal) -> Response<ResponseBody> {
    let mut out = BytesMut::new();
    pkt::line(&mut out, format!("# service={}\n", offer.name()).as_bytes());
    pkt::flush(&mut out);
    pkt::line(&mut out, format!("ERR {}\n", refusal.message.trim_end()).as_bytes());
    full(StatusCode::OK, offer.advertisement(), out)
}

fn seconds(duration: Duration) -> HeaderValue {
    HeaderValue::from(duration.as_secs().max(1))
}

/// The connection cannot be used again, since the request was not read to its end. HTTP/2 has no
/// such header: there the stream alone ends.
pub(crate) fn close(
    mut response: Response<ResponseBody>,
    version: Version,
) -> Response<ResponseBody> {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
