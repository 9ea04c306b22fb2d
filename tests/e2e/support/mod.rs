//! What the stories are told with: a server that is a process of its own, a client,
//! and git.

pub mod client;
pub mod forwarder;
pub mod git;
#[path = "../../../git/tests/push/support/pack.rs"]
pub mod pack;
pub mod process;
pub mod raw;
pub mod running;
#[path = "../../support/s3.rs"]
pub mod s3;
pub mod samples;
pub mod server;
pub mod topology;
pub mod upstream;

use std::time::Duration;

use tokio::time::Instant;

pub use client::{Answer, Client};
pub use forwarder::{Forwarder, Way};
pub use git::{Git, Work};
pub use running::Server;
pub use server::Place;
pub use upstream::Upstream;

/// Nothing that a test waits for takes longer; what does hangs.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let ends = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < ends, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Makes a test of `story` for each database.
#[macro_export]
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$story($crate::support::Place::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$story($crate::support::Place::postgres().await).await;
            }
        }
    )+};
}
