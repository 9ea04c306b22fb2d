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
//! Buckets live in the memory of a process; a restart fills them. Servers on one
//! PostgreSQL tell each other what they served ([`share`]), and each takes that out of
//! its own bucket, so that an account has one limit wherever it asks. No request waits
//! for that: counts go out every second, and sooner for an account that spends fast
//! ([`HURRY`]). What several servers together serve beyond the limit is bounded: each
//! other one may serve what it has not heard of yet, a sixteenth of the limit and what
//! comes in a few round trips to the database, once; the bucket owes it afterwards. While
//! servers cannot hear each other, each has a bucket of its own, as on SQLite, where
//! there is one server. The limit keeps one account from starving the others, it is no
//! meter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use super::error::ApiError;
use crate::db::rates;
use crate::server::App;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Buckets that are kept before the full ones are forgotten.
const KEPT: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);

/// How often other servers are told what was served.
const EVERY: Duration = Duration::from_secs(1);
/// The pause after each telling.
const PAUSE: Duration = Duration::from_millis(50);
/// This part of the limit (1/16) served and not told is told at once.
const HURRY: u64 = 16;
/// Less than this part of the limit (1/1000) is not worth a message.
const WORTH: u64 = 1000;

/// The buckets of all accounts.
#[derive(Debug)]
pub struct Limiter {
    /// Requests of a minute; 0: no limit.
    quota: u64,
    buckets: Mutex<HashMap<Uuid, Bucket>>,
    /// Somebody spends fast.
    hurry: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it is full again.
    full_at: Instant,
    /// Requests served here that no other server was told of.
    untold: u64,
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
        Self { quota, buckets: Mutex::default(), hurry: Notify::new() }
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
        let mut buckets = self.lock();
        forget_full(&mut buckets, now);
        let bucket = buckets.entry(account).or_insert(Bucket { full_at: now, untold: 0 });
        let (left, after) = step(self.quota, now, bucket.full_at.max(now));
        let Some(after) = after else { return Err(left) };
        bucket.full_at = after;
        bucket.untold += 1;
        // Where nobody is told, it goes on growing.
        if bucket.untold.is_multiple_of((self.quota / HURRY).max(1)) {
            self.hurry.notify_one();
        }
        Ok(Some(left))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What other servers are to be told, each request once.
    fn untold(&self) -> Vec<(Uuid, u64)> {
        let worth = (self.quota / WORTH).max(1);
        let mut buckets = self.lock();
        let untold = buckets.iter_mut().filter(|(_, bucket)| bucket.untold >= worth);
        untold.map(|(account, bucket)| (*account, std::mem::take(&mut bucket.untold))).collect()
    }

    /// Takes out of the buckets what other servers served. A bucket owes no more than it
    /// holds, so nobody waits for longer than a minute.
    fn served_elsewhere(&self, served: &[(Uuid, u64)]) {
        let now = Instant::now();
        let cost = cost(self.quota);
        let mut buckets = self.lock();
        forget_full(&mut buckets, now);
        for (account, count) in served {
            let bucket = buckets.entry(*account).or_insert(Bucket { full_at: now, untold: 0 });
            let count = u32::try_from(*count.min(&self.quota)).unwrap_or(u32::MAX);
            let spent = cost.saturating_mul(count).min(MINUTE);
            bucket.full_at = (bucket.full_at.max(now) + spent).min(now + 2 * MINUTE);
        }
    }
}

fn forget_full(buckets: &mut HashMap<Uuid, Bucket>, now: Instant) {
    if buckets.len() >= KEPT {
        buckets.retain(|_, bucket| bucket.full_at > now);
    }
}

/// Tells the other servers what was served here and hears what they served, until the
/// server stops. Ends at once where there are no others.
pub async fn share(app: App) {
    let limiter = &app.limiter;
    if limiter.quota == 0 {
        return;
    }
    let Some(mut told) = rates::listen(&app.db) else { return };
    let hear = async {
        while let Some(served) = told.next().await {
            limiter.served_elsewhere(&served);
        }
    };
    let tell = async {
        loop {
            let _ = tokio::time::timeout(EVERY, limiter.hurry.notified()).await;
            let untold = limiter.untold();
            // Who was not told gives away a little of the limit, and nothing else.
            if let Err(error) = rates::tell(&app.db, &untold).await {
                tracing::debug!("other servers are not told of requests: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = app.stopping.cancelled() => {}
        () = hear => {}
        () = tell => {}
    }
}

/// The time in which a bucket gets one request back.
fn cost(quota: u64) -> Duration {
    let nanos = u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos((nanos / quota).max(1))
}

/// One request at `now` on a bucket that is full at `full_at`: what is left, and when
/// it is full then; `None` if it is empty.
fn step(quota: u64, now: Instant, full_at: Instant) -> (Left, Option<Instant>) {
    let cost = cost(quota);
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
    fn what_others_served_is_gone_and_each_request_is_told_once() {
        let limiter = Limiter::new(60);
        let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
        for _ in 0..10 {
            limiter.take(ada).unwrap();
        }
        assert_eq!(limiter.untold(), [(ada, 10)]);
        assert_eq!(limiter.untold(), []);
        limiter.served_elsewhere(&[(ada, 30), (bob, u64::MAX)]);
        assert_eq!(limiter.untold(), [], "what others served is theirs to tell");
        let served = (0..60).take_while(|_| limiter.take(ada).is_ok()).count();
        assert!((20..=21).contains(&served), "{served}");
        // Somebody who spent all of it twice waits for a minute, and not for longer.
        limiter.served_elsewhere(&[(bob, 60), (bob, 60)]);
        let left = limiter.take(bob).unwrap_err();
        assert!((59..=61).contains(&left.seconds), "{left:?}");
    }

    #[test]
    fn little_is_not_worth_a_message_and_much_hurries() {
        let limiter = Limiter::new(160_000);
        let ada = Uuid::now_v7();
        for _ in 0..159 {
            limiter.take(ada).unwrap();
        }
        assert_eq!(limiter.untold(), []);
        limiter.take(ada).unwrap();
        assert_eq!(limiter.untold(), [(ada, 160)]);
        use futures::FutureExt as _;
        assert!(limiter.hurry.notified().now_or_never().is_none());
        for _ in 0..10_000 {
            limiter.take(ada).unwrap();
        }
        assert!(limiter.hurry.notified().now_or_never().is_some());
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
