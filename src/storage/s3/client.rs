//! How the bucket is spoken to: times, tries, and what its errors mean.

use std::error::Error as _;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::Times;
use crate::storage::StorageError;

/// Calls that move no content. A bucket that is away is told of in seconds: a connection
/// that is refused after the pauses between three tries, one that nobody answers and a
/// server that took it and is silent after eight seconds.
pub(super) const TIMES: Times = Times {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(3),
    operation: Duration::from_secs(8),
    attempts: 3,
};

/// One try only, for readiness: whoever asks it asks again.
pub(super) const QUICK: Times = Times {
    connect: Duration::from_secs(1),
    attempt: Duration::from_millis(1300),
    operation: Duration::from_millis(1300),
    attempts: 1,
};

/// Putting an object together from its parts may take the bucket a while.
pub(super) const COMPLETE: Times = Times {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(30),
    operation: Duration::from_secs(65),
    attempts: 2,
};

/// The slowest way to a bucket that is put up with, in bytes a second.
const SLOWEST: u64 = 512 << 10;

/// A call that carries so many bytes to the bucket.
pub(super) fn sending(bytes: u64) -> Times {
    let attempt = TIMES.attempt + Duration::from_millis(bytes * 1000 / SLOWEST);
    Times { attempt, operation: attempt * 2 + TIMES.attempt, ..TIMES }
}

/// A client for the bucket that the environment tells of.
pub(super) fn client(sdk: &SdkConfig) -> Client {
    let named = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // Only the cloud has a name for each bucket.
    let own = sdk.endpoint_url().is_some() || named("AWS_ENDPOINT_URL_S3");
    Client::from_conf(Builder::from(sdk).force_path_style(own).build())
}

/// The same with other times, for one call.
pub(super) fn within(times: &Times) -> Builder {
    aws_sdk_s3::Config::builder().timeout_config(times.timeouts()).retry_config(times.retries())
}

/// What a call came to that did not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Of HTTP; none if there was no answer.
    pub(super) status: Option<u16>,
    code: Option<String>,
    text: String,
}

impl Failure {
    pub(super) fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(|e| e.code()).map(str::to_owned);
        let text = match error {
            SdkError::TimeoutError(_) => "no answer in time".to_owned(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                "no answer in time".to_owned()
            }
            SdkError::DispatchFailure(failure) if failure.is_io() => {
                format!("cannot connect, {}", innermost(error))
            }
            SdkError::ServiceError(_) => format!(
                "it answers {} {}",
                status.unwrap_or_default(),
                code.as_deref().unwrap_or_default()
            ),
            _ => innermost(error),
        };
        Self { status, code, text: text.trim_end().to_owned() }
    }

    /// The error that it is to callers. `key` is that of the object that was asked for,
    /// where one was.
    pub(super) fn error(
        self,
        operation: &'static str,
        bucket: &str,
        key: Option<&str>,
    ) -> StorageError {
        let code = self.code.as_deref().unwrap_or_default();
        let text = match (self.status, code) {
            (_, "NoSuchBucket") => format!("there is no bucket {bucket:?}: create it first"),
            (Some(404), _) if key.is_some() => {
                return StorageError::NotFound { key: key.unwrap_or_default().to_owned() };
            }
            (Some(507), _)
            | (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity") => {
                return StorageError::Full;
            }
            (_, "RequestTimeTooSkewed") => {
                "the clock of this machine is not that of the bucket: set it right".to_owned()
            }
            (Some(401 | 403), _) => format!(
                "access to the bucket {bucket:?} is denied ({}): its credentials must allow \
                 s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, \
                 s3:DeleteObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts",
                if code.is_empty() { "403" } else { code }
            ),
            (Some(301 | 307), _) => {
                format!("the bucket {bucket:?} is in another region: set AWS_REGION")
            }
            _ => self.text,
        };
        StorageError::unavailable(operation, text)
    }
}

/// The cause that all others come from, which says most; cut to a readable length.
fn innermost<E>(error: &SdkError<E>) -> String
where
    E: std::error::Error + 'static,
{
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
