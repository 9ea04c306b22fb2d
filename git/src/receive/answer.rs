//! Answers that are whole at once: refusals, and requests that cannot be understood.
//!
//! All of them come after the request was read to its end, up to a ceiling.

use bytes::BytesMut;
use http::{Response, StatusCode, Version};

use crate::{
    command::{self, Capabilities, Request},
    http::{
        body::{self, BodyReader},
        respond::{self, Offer, ResponseBody},
    },
    refs::reason,
    remote::{CommandOutcome, Refusal},
    report, stream,
};

/// The first line of a refusal, as the reason behind a ref.
pub(super) fn short(message: &str) -> &str {
    message.lines().next().unwrap_or(reason::FAILED)
}

pub(super) fn same_for_all(request: &Request, why: &str) -> Vec<CommandOutcome> {
    request.commands.iter().map(|_| CommandOutcome::Rejected(why.to_owned())).collect()
}

pub(super) fn outcomes(rejected: &[Option<&'static str>]) -> Vec<CommandOutcome> {
    rejected
        .iter()
        .map(|reason| CommandOutcome::Rejected(reason.unwrap_or(reason::FAILED).to_owned()))
        .collect()
}

/// A whole answer at once.
pub(super) fn in_band(
    request: &Request,
    message: Option<&str>,
    unpack: Option<&str>,
    outcomes: &[CommandOutcome],
) -> Response<ResponseBody> {
    let capabilities = &request.capabilities;
    let mut out = BytesMut::new();
    if let (Some(message), true) = (message, capabilities.side_band) {
        out.extend_from_slice(&stream::encode(message));
    }
    out.extend_from_slice(&report::encode(capabilities, unpack, &request.commands, outcomes));
    respond::full(StatusCode::OK, Offer::ReceivePack.result(), out.freeze())
}

pub(super) fn refusal_in_band(request: &Request, refusal: &Refusal) -> Response<ResponseBody> {
    let outcomes = same_for_all(request, short(&refusal.message));
    // One line is shown behind each ref anyway.
    let message = refusal.message.contains('\n').then_some(refusal.message.as_str());
    in_band(request, message, None, &outcomes)
}

/// Answers what is not the protocol, in the best frame that was agreed on until then.
pub(super) async fn protocol_error(
    body: BodyReader,
    known: &Request,
    error: &command::Error,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    tracing::info!(%error, "push not understood");
    let sentence = error.to_string();
    let Capabilities { side_band, report_status, report_status_v2, .. } = known.capabilities;
    let answer = if side_band {
        respond::full(StatusCode::OK, Offer::ReceivePack.result(), report::fatal(&sentence))
    } else if report_status || report_status_v2 {
        in_band(known, None, Some(&sentence), &same_for_all(known, reason::UNPACKER))
    } else {
        respond::text(StatusCode::BAD_REQUEST, &sentence)
    };
    after_drain(body, answer, ceiling, version).await
}

/// Reads the request to its end, so that the client is ready to listen, and answers.
pub(super) async fn after_drain(
    mut body: BodyReader,
    answer: Response<ResponseBody>,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    match body.drain(ceiling).await {
        Ok(()) => answer,
        Err(error) => respond::close(unread(&error), version),
    }
}

/// The body cannot be read. What is damaged in its encoding can still be drained.
pub(super) async fn broken(
    body: BodyReader,
    error: &body::Error,
    ceiling: u64,
    version: Version,
) -> Response<ResponseBody> {
    tracing::info!(%error, "push broken off");
    match error {
        body::Error::Gzip => after_drain(body, unread(error), ceiling, version).await,
        _ => respond::close(unread(error), version),
    }
}

pub(super) fn unread(error: &body::Error) -> Response<ResponseBody> {
    respond::text(error.status(), &error.to_string())
}
