//! The calls of SQS, each with a bound, and the queue that they are for.
//!
//! The queue is looked up by its name when it is needed first, and again when SQS says
//! that it is not there. A queue that does not exist is created, with a queue for dead
//! letters beside it; one that exists is used as it is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageSystemAttributeName, QueueAttributeName as Attribute, SendMessageBatchRequestEntry,
};
use prometheus::{IntCounterVec, Opts};
use uuid::Uuid;

use super::error::{SqsError, meaning, strange, unmade};
use super::message;
use crate::aws::{self, Times};
use crate::db::jobs::Lane;
use crate::queue::LEASE;

/// A call that does not wait for messages.
const CALL: Times = Times {
    connect: Duration::from_secs(1),
    attempt: Duration::from_secs(2),
    operation: Duration::from_secs(4),
    attempts: 2,
};

/// How long an answer may take beyond the time that it is to wait.
const LATE: Duration = Duration::from_secs(3);

/// What SQS takes in one call.
pub(super) const BATCH: usize = 10;

/// A message that came so often and was not taken away is dead.
const MOST_RECEIVES: u32 = 10;

/// Seconds that a dead letter is kept, the most that there is: 14 days.
const DEAD_SECONDS: u32 = 14 * 24 * 3600;

type Result<T, E = SqsError> = std::result::Result<T, E>;

/// Addresses of the queue and of the one for its dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Urls {
    queue: String,
    /// `None`: the queue has none, or it may not be looked at.
    dead: Option<String>,
}

/// A message that was received.
#[derive(Debug)]
pub(super) struct Received {
    /// What it says, if it is one of ours.
    pub(super) job: Option<(Uuid, Lane)>,
    /// What to name it by from now on.
    pub(super) receipt: Receipt,
    /// How often it has been received, this time included.
    pub(super) times: u32,
    /// When it was sent, in microseconds by the clock of SQS; 0 if it does not say.
    pub(super) sent_at: i64,
}

/// Names a message that was received, until it is seen again.
pub(super) type Receipt = Arc<str>;

/// How many messages there are, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// That wait to be received.
    pub waiting: i64,
    /// That were received and not deleted.
    pub in_flight: i64,
    /// That may not be received yet.
    pub delayed: i64,
    /// In the queue for dead letters; `None` if there is none.
    pub dead: Option<i64>,
}

pub(super) struct Client {
    sdk: aws_sdk_sqs::Client,
    name: String,
    urls: RwLock<Option<Arc<Urls>>>,
    /// Held by whoever looks the queue up.
    opening: tokio::sync::Mutex<()>,
    /// Calls by name and outcome.
    figures: IntCounterVec,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Client {
    /// As the environment says where SQS is and who we are.
    pub(super) async fn from_env(name: String) -> anyhow::Result<Self> {
        let config = aws::config(&CALL).await;
        if config.region().is_none() {
            return Err(SqsError::Region.into());
        }
        Self::new(aws_sdk_sqs::config::Builder::from(&config), name)
    }

    fn new(config: aws_sdk_sqs::config::Builder, name: String) -> anyhow::Result<Self> {
        let help = "Calls of SQS by how they went.";
        let opts = Opts::new("sluice_queue_requests_total", help);
        Ok(Self {
            sdk: aws_sdk_sqs::Client::from_conf(config.build()),
            name,
            urls: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            figures: IntCounterVec::new(opts, &["call", "outcome"])?,
        })
    }

    /// For tests, where each has a service of its own.
    #[cfg(test)]
    pub(super) async fn at(endpoint: &str, name: String) -> anyhow::Result<Self> {
        use aws_sdk_sqs::config::{Credentials, Region};
        let config = aws::config(&CALL).await;
        let config = aws_sdk_sqs::config::Builder::from(&config)
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "testtest", None, None, "tests"));
        Self::new(config, name)
    }

    /// The SDK's own client and the address of the queue, for tests.
    #[cfg(test)]
    pub(super) async fn raw(&self) -> (aws_sdk_sqs::Client, String) {
        (self.sdk.clone(), self.urls().await.expect("a queue").queue.clone())
    }

    /// Calls by name and outcome.
    pub(super) fn figures(&self) -> &IntCounterVec {
        &self.figures
    }

    /// Counts the call and tells what its error means.
    fn answer<T, E: ProvideErrorMetadata>(
        &self,
        call: &'static str,
        queue: &str,
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T> {
        let word = if outcome.is_ok() { "ok" } else { "error" };
        self.figures.with_label_values(&[call, word]).inc();
        outcome.map_err(|error| meaning(call, queue, &error))
    }

    /// The same for a call to the queue: if it is gone, it is looked for anew next time.
    fn answer_of<T, E: ProvideErrorMetadata>(
        &self,
        call: &'static str,
        urls: &Arc<Urls>,
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T> {
        let answer = self.answer(call, &self.name, outcome);
        if matches!(answer, Err(SqsError::Missing { .. })) {
            let mut known = self.urls.write().unwrap_or_else(PoisonError::into_inner);
            if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, urls)) {
                *known = None;
            }
        }
        answer
    }

    /// Where the queue is; looked up, and created if need be.
    pub(super) async fn urls(&self) -> Result<Arc<Urls>> {
        let known = || self.urls.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(urls) = known() {
            return Ok(urls);
        }
        let _one = self.opening.lock().await;
        if let Some(urls) = known() {
            return Ok(urls);
        }
        let urls = Arc::new(match self.look_up(&self.name).await {
            Ok(queue) => {
                let dead = self.dead_letters_of(&queue).await?;
                Urls { queue, dead }
            }
            Err(SqsError::Missing { .. }) => self.create().await?,
            Err(error) => return Err(error),
        });
        *self.urls.write().unwrap_or_else(PoisonError::into_inner) = Some(urls.clone());
        Ok(urls)
    }

    async fn look_up(&self, name: &str) -> Result<String> {
        let outcome = self.sdk.get_queue_url().queue_name(name).send().await;
        let answer = self.answer("GetQueueUrl", name, outcome)?;
        answer.queue_url.ok_or_else(|| strange("GetQueueUrl", "no address"))
    }

    /// The queue that takes the dead letters of a queue that was there already.
    async fn dead_letters_of(&self, url: &str) -> Result<Option<String>> {
        let read = self.attributes(url, &[Attribute::RedrivePolicy]).await;
        let policy = match read {
            Ok(attributes) => attributes.get(&Attribute::RedrivePolicy).cloned(),
            Err(SqsError::Refused { why, .. }) => {
                tracing::warn!("the dead letters of the queue are not counted: {why}");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // The ARN of a queue ends with its name.
        let target = policy.and_then(|policy| {
            let policy: serde_json::Value = serde_json::from_str(&policy).ok()?;
            policy["deadLetterTargetArn"].as_str()?.rsplit(':').next().map(str::to_owned)
        });
        let Some(target) = target else {
            tracing::warn!(
                "the queue {} has no queue for dead letters: messages that nobody can read \
                 come again and again until they are too old",
                self.name
            );
            return Ok(None);
        };
        match self.look_up(&target).await {
            Ok(url) => Ok(Some(url)),
            Err(error @ SqsError::Away { .. }) => Err(error),
            Err(error) => {
                tracing::warn!("the dead letters of the queue are not counted: {error}");
                Ok(None)
            }
        }
    }

    /// Creates the queue and the one for its dead letters. Whoever does the same at the
    /// same moment gets the same queues.
    async fn create(&self) -> Result<Urls> {
        let dead_name = format!("{}-dead", self.name);
        let dead = match self.look_up(&dead_name).await {
            Err(SqsError::Missing { .. }) => {
                let seconds = DEAD_SECONDS.to_string();
                let kept = [(Attribute::MessageRetentionPeriod, seconds)];
                self.create_one(&dead_name, kept.into()).await?
            }
            found => found?,
        };
        let attributes = self.attributes(&dead, &[Attribute::QueueArn]).await?;
        let arn = attributes
            .get(&Attribute::QueueArn)
            .ok_or_else(|| strange("GetQueueAttributes", "no ARN"))?;
        let policy = serde_json::json!({
            "deadLetterTargetArn": arn,
            "maxReceiveCount": MOST_RECEIVES.to_string(),
        });
        let own = [
            (Attribute::RedrivePolicy, policy.to_string()),
            (Attribute::VisibilityTimeout, lease_seconds().to_string()),
        ];
        let queue = self.create_one(&self.name, own.into()).await?;
        tracing::info!("created the queue {}; its dead letters go to {dead_name}", self.name);
        Ok(Urls { queue, dead: Some(dead) })
    }

    async fn create_one(&self, name: &str, own: HashMap<Attribute, String>) -> Result<String> {
        let create = self.sdk.create_queue().queue_name(name).set_attributes(Some(own));
        let answer = self.answer("CreateQueue", name, create.send().await)?;
        answer.queue_url.ok_or_else(|| strange("CreateQueue", "no address"))
    }

    async fn attributes(
        &self,
        url: &str,
        which: &[Attribute],
    ) -> Result<HashMap<Attribute, String>> {
        let outcome = self
            .sdk
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(which.to_vec()))
            .send()
            .await;
        let name = url.rsplit('/').next().unwrap_or(&self.name);
        Ok(self.answer("GetQueueAttributes", name, outcome)?.attributes.unwrap_or_default())
    }

    /// Sends up to [`BATCH`] messages, each with its delay in seconds; answers which of
    /// them were taken.
    pub(super) async fn send(&self, batch: &[(Uuid, Lane, i32)]) -> Result<Vec<bool>> {
        let urls = self.urls().await?;
        let entries = batch.iter().enumerate().map(|(n, (job, lane, delay))| {
            SendMessageBatchRequestEntry::builder()
                .id(n.to_string())
                .message_body(message::write(*job, *lane))
                // Not left out: the queue may have a delay of its own.
                .delay_seconds(*delay)
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unmade("SendMessageBatch"))?;
        let outcome = self
            .sdk
            .send_message_batch()
            .queue_url(&urls.queue)
            .set_entries(Some(entries))
            .send()
            .await;
        let answer = self.answer_of("SendMessageBatch", &urls, outcome)?;
        let mut taken = vec![false; batch.len()];
        for entry in answer.successful() {
            if let Some(taken) = entry.id().parse().ok().and_then(|n: usize| taken.get_mut(n)) {
                *taken = true;
            }
        }
        if let Some(first) = answer.failed().first() {
            tracing::warn!("SQS did not take {} messages: {}", answer.failed().len(), first.code());
        }
        Ok(taken)
    }

    /// Waits for messages, up to `most` (1 to 10) of them; an empty list is nothing
    /// unusual. What it answers nobody else sees for the time of a lease.
    pub(super) async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Received>> {
        let urls = self.urls().await?;
        let bound = Times { attempt: wait + LATE, operation: wait + LATE, attempts: 1, ..CALL };
        let own = aws_sdk_sqs::Config::builder()
            .timeout_config(bound.timeouts())
            .retry_config(bound.retries());
        let outcome = self
            .sdk
            .receive_message()
            .queue_url(&urls.queue)
            .max_number_of_messages(most.clamp(1, BATCH) as i32)
            .wait_time_seconds(wait.as_secs().min(20) as i32)
            .visibility_timeout(lease_seconds())
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .customize()
            .config_override(own)
            .send()
            .await;
        let answer = self.answer_of("ReceiveMessage", &urls, outcome)?;
        let received = answer.messages.unwrap_or_default().into_iter().filter_map(|message| {
            let number = |name| {
                let text = message.attributes.as_ref()?.get(&name)?;
                text.parse::<i64>().ok()
            };
            let times = number(MessageSystemAttributeName::ApproximateReceiveCount);
            // In milliseconds.
            let sent_at = number(MessageSystemAttributeName::SentTimestamp).unwrap_or(0);
            Some(Received {
                job: message.body.as_deref().and_then(message::read),
                times: times.and_then(|times| times.try_into().ok()).unwrap_or(u32::MAX),
                sent_at: sent_at.saturating_mul(1000),
                receipt: message.receipt_handle.as_deref()?.into(),
            })
        });
        Ok(received.collect())
    }

    /// Deletes up to [`BATCH`] messages. Of those that are gone already nothing is said.
    pub(super) async fn delete(&self, batch: &[Receipt]) -> Result<()> {
        let urls = self.urls().await?;
        let entries = batch.iter().enumerate().map(|(n, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(n.to_string())
                .receipt_handle(&**receipt)
                .build()
        });
        let entries =
            entries.collect::<Result<Vec<_>, _>>().map_err(unmade("DeleteMessageBatch"))?;
        let outcome = self
            .sdk
            .delete_message_batch()
            .queue_url(&urls.queue)
            .set_entries(Some(entries))
            .send()
            .await;
        self.answer_of("DeleteMessageBatch", &urls, outcome)?;
        Ok(())
    }

    /// Sets in how many seconds up to [`BATCH`] messages are seen again; answers whether
    /// that worked for all of them.
    pub(super) async fn show(&self, batch: &[(Receipt, i32)]) -> Result<bool> {
        let urls = self.urls().await?;
        let entries = batch.iter().enumerate().map(|(n, (receipt, seconds))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(n.to_string())
                .receipt_handle(&**receipt)
                .visibility_timeout(*seconds)
                .build()
        });
        let call = "ChangeMessageVisibilityBatch";
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unmade(call))?;
        let outcome = self
            .sdk
            .change_message_visibility_batch()
            .queue_url(&urls.queue)
            .set_entries(Some(entries))
            .send()
            .await;
        Ok(self.answer_of(call, &urls, outcome)?.failed().is_empty())
    }

    /// Whether the queue is there and answers.
    pub(super) async fn check(&self) -> Result<()> {
        let urls = self.urls().await?;
        self.count(&urls, &urls.queue, &[Attribute::ApproximateNumberOfMessages]).await?;
        Ok(())
    }

    /// How many messages there are, about.
    pub(super) async fn depth(&self) -> Result<Depth> {
        let urls = self.urls().await?;
        let which = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ];
        let counts = self.count(&urls, &urls.queue, &which).await?;
        let dead = match &urls.dead {
            Some(dead) => self.count(&urls, dead, &which[..1]).await?.first().copied(),
            None => None,
        };
        let [waiting, in_flight, delayed]: [i64; 3] =
            counts[..].try_into().map_err(|_| strange("GetQueueAttributes", "too few counts"))?;
        Ok(Depth { waiting, in_flight, delayed, dead })
    }

    async fn count(&self, urls: &Arc<Urls>, url: &str, which: &[Attribute]) -> Result<Vec<i64>> {
        let outcome = self
            .sdk
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(which.to_vec()))
            .send()
            .await;
        let attributes =
            self.answer_of("GetQueueAttributes", urls, outcome)?.attributes.unwrap_or_default();
        let count = |name| {
            let text = attributes.get(name)?;
            text.parse().ok()
        };
        let counts: Option<Vec<i64>> = which.iter().map(count).collect();
        counts.ok_or_else(|| strange("GetQueueAttributes", "no count"))
    }
}

/// The time of a lease as SQS counts.
pub(super) fn lease_seconds() -> i32 {
    (LEASE / 1_000_000) as i32
}
