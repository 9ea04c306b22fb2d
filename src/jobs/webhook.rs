//! One try to deliver a message to a webhook.
//!
//! Deliveries run on slots of their own (see [`crate::db::jobs::Lane`]): a receiver
//! that answers slowly never keeps a scan waiting, also where there is one worker. A
//! try is bounded in time, redirects are not followed, and every address is checked by
//! the guard of [`crate::net`], each time anew.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;

use crate::db::jobs::{self, End};
use crate::db::webhooks::{self, Attempt, Delivery, Webhook};
use crate::db::{DbError, Tx, now};
use crate::net::{Bounds, NetError};
use crate::queue::{JobContext, JobError};
use crate::webhooks::SigningSecret;

/// Bytes of an answer that are kept for the delivery log.
const SHOWN: usize = 4096;

/// A receiver acknowledges at once and works later.
const BOUNDS: Bounds = Bounds {
    total: Duration::from_secs(15),
    idle: Duration::from_secs(10),
    redirects: 0,
    // Reading ends after what is shown.
    bytes: 1 << 40,
};

pub(super) async fn run(context: &JobContext) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let delivery = webhooks::delivery_by_id(&app.db, job.subject_id).await?;
    let webhook = match &delivery {
        Some(delivery) => webhooks::by_id(&app.db, delivery.webhook_id).await?,
        None => None,
    };
    let (Some(delivery), Some(webhook)) = (delivery, webhook) else {
        return end(context, None).await;
    };
    if delivery.status != "pending" {
        return end(context, None).await;
    }
    if !webhook.enabled {
        return end(context, Some("The webhook is disabled.")).await;
    }
    let attempt = tokio::select! {
        attempt = send(context, &webhook, &delivery) => attempt?,
        // It goes back, and is sent again with the same id.
        () = app.stopping.cancelled() => return Err(JobError::Stopped),
    };
    let mut tx = app.db.begin().await?;
    jobs::hold(&mut tx, job.id, job.fence).await?;
    let pause = webhooks::tried(&mut tx, &delivery, &attempt).await?;
    match (&attempt.error, pause) {
        (None, _) => jobs::end(&mut tx, job.id, job.fence, &End::Done).await?,
        (Some(error), Some(pause)) => {
            tracing::info!(webhook = %webhook.id, "a delivery failed: {error}");
            jobs::retry(&mut tx, job.id, job.fence, error, pause).await?;
        }
        // The delivery log is where its owner looks; for the operator nothing is wrong.
        (Some(_), None) => jobs::end(&mut tx, job.id, job.fence, &End::Done).await?,
    }
    Ok(tx.commit().await?)
}

async fn end(context: &JobContext, why: Option<&str>) -> Result<(), JobError> {
    let job = &context.job;
    let mut tx = context.app.db.begin().await?;
    if let Some(why) = why {
        webhooks::give_up(&mut tx, job.subject_id, why).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    Ok(tx.commit().await?)
}

/// The server could not finish: see [`super::failed`].
pub(super) async fn failed(tx: &mut Tx, context: &JobContext, why: &str) -> Result<(), DbError> {
    webhooks::give_up(tx, context.job.subject_id, why).await
}

/// The headers of Standard Webhooks.
fn headers(
    context: &JobContext,
    webhook: &Webhook,
    delivery: &Delivery,
) -> anyhow::Result<HeaderMap> {
    let keys = context.app.keys.webhooks();
    let at = now();
    let (id, seconds) = (delivery.message_id.to_string(), at / 1_000_000);
    let sign = |sealed: &[u8]| -> anyhow::Result<String> {
        let (secret, _) = SigningSecret::open(&keys, webhook.id, sealed)?;
        Ok(secret.sign(&id, seconds, delivery.payload.as_bytes()))
    };
    let mut signatures = sign(&webhook.secret)?;
    if let Some(previous) = &webhook.previous_secret
        && webhook.previous_until.is_some_and(|until| until > at)
    {
        match sign(previous) {
            Ok(second) => signatures = format!("{signatures} {second}"),
            // The signing secret that sealed it is lost: the new one alone counts then.
            Err(error) => tracing::warn!("the secret before cannot be used: {error:#}"),
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::try_from(id.as_str())?);
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(seconds));
    headers
        .insert(HeaderName::from_static("webhook-signature"), HeaderValue::try_from(signatures)?);
    Ok(headers)
}

/// How long the receiver wants no message, in microseconds: seconds or a date, as
/// [RFC 9110, 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3) has it.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<i64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number has are a very long time all the same.
        return Some(text.parse::<i64>().unwrap_or(i64::MAX).saturating_mul(1_000_000));
    }
    let then = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(then.as_microsecond().saturating_sub(now).max(0))
}

async fn send(
    context: &JobContext,
    webhook: &Webhook,
    delivery: &Delivery,
) -> anyhow::Result<Attempt> {
    let headers = headers(context, webhook, delivery)?;
    let guard = &context.app.guard;
    let started = Instant::now();
    let body = Bytes::from(delivery.payload.clone());
    let outcome = async {
        let url = guard.check_url(&webhook.url)?;
        guard.post(&url, headers, body, &BOUNDS).await
    }
    .await;
    let mut attempt = Attempt::default();
    match outcome {
        Ok(mut answer) => {
            let status = answer.status();
            let mut kept = Vec::new();
            // What cannot be read of an answer matters to nobody: its status came.
            while kept.len() < SHOWN
                && let Ok(Some(chunk)) = answer.chunk().await
            {
                kept.extend_from_slice(&chunk);
            }
            kept.truncate(SHOWN);
            attempt.response_status = Some(status.as_u16());
            attempt.response_body = Some(String::from_utf8_lossy(&kept).into_owned());
            attempt.gone = status == StatusCode::GONE;
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                attempt.retry_after = retry_after(answer.headers(), now());
            }
            if status.is_redirection() {
                attempt.error = Some(format!(
                    "The receiver answered {status}: redirects are not followed; name the \
                     address itself."
                ));
            } else if !status.is_success() {
                attempt.error = Some(format!("The receiver answered {status}."));
            }
        }
        Err(error) => {
            attempt.hopeless =
                matches!(error, NetError::UrlNotAllowed(_) | NetError::AddressNotAllowed { .. });
            attempt.error = Some(error.to_string());
        }
    }
    attempt.duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ok(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_names_a_time_in_seconds_or_by_date() {
        // 2026-01-01T00:00:00Z
        let now = 1_767_225_600_000_000;
        for (value, expected) in [
            ("120", Some(120_000_000)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(i64::MAX)),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60_000_000)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), expected, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
