//! Requests of an account in a minute.
//!
//! Each account has one bucket, whatever tokens it uses: it holds the requests of a
//! minute and refills evenly, so that a burst is served and a flood is not (the
//! generic cell rate algorithm, ITU-T I.371). The count is taken where the caller
//! becomes known, so no authenticated route can be left out; every answer to a known
//! caller tells what is left in `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10), and one that is refused is 429 with
//! `Retry-After`.
//!
//! Buckets live in the memory of a process: with several servers an account has as
//! many buckets as there are servers, and a restart fills them. The limit keeps one
//! account from starving the others, it is no meter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::error::ApiError;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Buckets that are kept before the full ones are forgotten.
const KEPT: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);

/// The buckets of all accounts.
#[derive(Debug)]
pub struct Limiter {
    /// Requests of a minute; 0: no limit.
    quota: u64,
    /// When each bucket is full again.
    full_at: Mutex<HashMap<Uuid, Instant>>,
}

/// What is left for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests of a minute.
    quota: u64,
    /// Requests that are left now.
    requests: u64,
    /// Seconds until the bucket is full again, or until the next request is served.
    seconds: u64,
}

/// Where the extractor of the caller leaves what the answer is to tell.
#[derive(Debug, Clone, Default)]
pub struct Slot(Arc<OnceLock<Left>>);

impl Slot {
    /// Notes what is left; the first note counts.
    pub fn set(&self, left: Left) {
        // Set before: the caller was counted already.
        let _ = self.0.set(left);
    }

    /// Adds the headers to the answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Some(left) = self.0.get() else { return };
        headers.reserve(4);
        let policy = format!("\"account\";q={};w=60", left.quota);
        let limit = format!("\"account\";r={};t={}", left.requests, left.seconds);
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

impl Limiter {
    /// Buckets of so many requests a minute; 0 is no limit.
    pub fn new(quota: u64) -> Self {
        Self { quota, full_at: Mutex::default() }
    }

    /// Takes one request out of the account's bucket. `None` if there is no limit.
    ///
    /// # Errors
    ///
    /// The bucket is empty.
    pub fn take(&self, account: Uuid) -> Result<Option<Left>, Left> {
        if self.quota == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= KEPT {
            full_at.retain(|_, at| *at > now);
        }
        let before = full_at.get(&account).copied().unwrap_or(now).max(now);
        let (left, after) = step(self.quota, now, before);
        match after {
            Some(after) => {
                full_at.insert(account, after);
                Ok(Some(left))
            }
            None => Err(left),
        }
    }
}

/// One request at `now` on a bucket that is full at `full_at`: what is left, and when
/// it is full then; `None` if it is empty.
fn step(quota: u64, now: Instant, full_at: Instant) -> (Left, Option<Instant>) {
    let nanos = u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
    let cost = Duration::from_nanos((nanos / quota).max(1));
    let after = full_at + cost;
    let missing = after - now;
    let Some(spare) = MINUTE.checked_sub(missing) else {
        let seconds = missing.saturating_sub(MINUTE).as_secs_f64().ceil().max(1.0) as u64;
        return (Left { quota, requests: 0, seconds }, None);
    };
    let requests = (spare.as_nanos() / cost.as_nanos()) as u64;
    let seconds = missing.as_secs_f64().ceil() as u64;
    (Left { quota, requests: requests.min(quota - 1), seconds }, Some(after))
}

impl Left {
    /// The answer to a request too many.
    pub fn refusal(self) -> ApiError {
        ApiError::too_many_requests(
            format!(
                "This account may make {} requests a minute; wait before the next one.",
                self.quota
            ),
            self.seconds,
        )
        .by_limit("requests_per_minute")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_evenly() {
        let start = Instant::now();
        let (mut full_at, mut served) = (start, 0);
        while let (left, Some(after)) = step(60, start, full_at) {
            served += 1;
            full_at = after;
            assert_eq!(left.requests, 60 - served);
        }
        assert_eq!(served, 60);
        let (left, none) = step(60, start, full_at);
        assert!(none.is_none());
        assert_eq!((left.requests, left.seconds), (0, 1), "the next one is due in a second");
        let later = start + Duration::from_millis(2_100);
        let (left, after) = step(60, later, full_at);
        assert_eq!(left.requests, 1);
        assert!(after.is_some(), "two came back");
    }

    #[test]
    fn accounts_do_not_meet_and_zero_is_no_limit() {
        let limiter = Limiter::new(2);
        let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
        assert!(limiter.take(ada).is_ok());
        assert!(limiter.take(ada).is_ok());
        assert!(limiter.take(ada).is_err());
        assert!(limiter.take(bob).is_ok());
        assert_eq!(Limiter::new(0).take(ada), Ok(None));
    }
}
