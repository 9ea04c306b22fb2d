//! What can go wrong with a call of SQS, in words for operators.

use std::fmt::Display;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// What can go wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SqsError {
    /// There is no answer, or none that tells anything.
    #[error("SQS does not answer: {call}: {why}")]
    Away { call: &'static str, why: String },
    /// The answer is no.
    #[error("SQS refuses {call} for the queue {queue}: {why}")]
    Refused { call: &'static str, queue: String, why: String },
    /// There is no such queue.
    #[error("SQS has no such queue: {call}: {queue}")]
    Missing { call: &'static str, queue: String },
    /// Where SQS is cannot be known.
    #[error("SQS needs a region: set AWS_REGION")]
    Region,
}

/// An answer that does not say what it has to.
pub(super) fn strange(call: &'static str, why: &str) -> SqsError {
    SqsError::Away { call, why: format!("the answer holds {why}") }
}

/// A request that cannot be put together.
pub(super) fn unmade<E: Display>(call: &'static str) -> impl Fn(E) -> SqsError {
    move |error| SqsError::Away { call, why: error.to_string() }
}

/// What an error of the SDK means. Credentials are in none of these texts: they tell
/// what the service said, or how the connection failed.
pub(super) fn meaning<E: ProvideErrorMetadata>(
    call: &'static str,
    queue: &str,
    error: &SdkError<E, HttpResponse>,
) -> SqsError {
    let away = |why: String| SqsError::Away { call, why: short(&why) };
    match error {
        SdkError::TimeoutError(_) => away("no answer in time".into()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            away("no connection in time".into())
        }
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) => away(chain(error)),
            None => away("no connection".into()),
        },
        SdkError::ConstructionFailure(_) => {
            away("the request cannot be made: are there credentials and a region?".into())
        }
        SdkError::ServiceError(refused) => {
            let (code, said) = (refused.err().code(), refused.err().message());
            let code = code.unwrap_or("an error without a name");
            if code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist") {
                return SqsError::Missing { call, queue: queue.to_owned() };
            }
            let why = match said {
                Some(said) => format!("{code}: {said}"),
                None => code.to_owned(),
            };
            let later = code.contains("Throttl") || code.contains("QueueDeletedRecently");
            if later || refused.raw().status().is_server_error() {
                return away(why);
            }
            SqsError::Refused { call, queue: queue.to_owned(), why: short(&why) }
        }
        _ => away("an answer that cannot be read".into()),
    }
}

/// An error with what lies behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// One line of bounded length.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
