//! The one way to services that speak the protocols of AWS.
//!
//! Endpoints, region and credentials come from where every tool of AWS reads them
//! (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL_SQS`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
//! profiles, the role of the machine). The HTTP client is made here, with the one
//! library of cryptography that the rest of the program uses.

use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;

/// How long a call may take, and how often it is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Until a connection is there.
    pub(crate) connect: Duration,
    /// One try, until the head of its answer is there.
    pub(crate) attempt: Duration,
    /// All tries with the pauses between them.
    pub(crate) operation: Duration,
    /// Tries, the first included.
    pub(crate) attempts: u32,
}

impl Times {
    /// As the SDK wants the times.
    pub(crate) fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }

    /// As the SDK wants the tries. The pauses grow and are random, so that those who
    /// wait for the same thing do not come back all at once.
    pub(crate) fn retries(&self) -> RetryConfig {
        RetryConfig::standard()
            .with_max_attempts(self.attempts)
            .with_initial_backoff(Duration::from_millis(200))
            .with_max_backoff(Duration::from_secs(1))
    }
}

/// What the environment says, with these times for every call that has none of its own.
///
/// Streams that stall are found by whoever reads them: the SDK's own measure of it also
/// meets calls that only wait for their turn on a busy machine.
pub(crate) async fn config(times: &Times) -> SdkConfig {
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(client)
        .timeout_config(times.timeouts())
        .retry_config(times.retries())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let named = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // A service of one's own mostly does not care for regions; without this the machine's
    // cloud would be asked for one, which takes seconds where there is no cloud.
    let own = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SQS"];
    if own.into_iter().any(named) && !["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().any(named) {
        let profile = ProfileFileRegionProvider::new();
        let region = RegionProviderChain::first_try(profile).or_else("us-east-1");
        return loader.region(region).load().await;
    }
    loader.load().await
}
