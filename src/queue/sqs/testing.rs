//! Queues of one test each on the services that `tests/run` starts.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Sqs;
use super::client::Client;
use super::relay::Pace;
use crate::db::Db;
use crate::db::testing::{TestDb, postgres};
use crate::queue::Queue;

/// The services, by name and by the variable that says where they are.
pub(crate) const SERVICES: [(&str, &str); 2] =
    [("postgres, ministack", "TEST_SQS_MINISTACK"), ("postgres, moto", "TEST_SQS_MOTO")];

/// What a variable of `tests/run` says.
pub(crate) fn part(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable}: run the tests with tests/run, which starts SQS"))
}

/// A name that no other test has.
pub(super) fn new_name() -> String {
    format!("sluice-{}", uuid::Uuid::new_v4().simple())
}

/// In a hurry where the real pace would make a test wait.
pub(super) const QUICK: Pace = Pace {
    wait: Duration::from_secs(2),
    look: Duration::from_millis(300),
    lost: Duration::from_secs(1),
    skipped: Duration::from_secs(3),
};

/// What a process has of the queue: its own connections, its own client.
pub(super) struct Process {
    pub(super) db: Db,
    pub(super) sqs: Sqs,
    pub(super) queue: Queue,
    pub(super) stopping: CancellationToken,
    tasks: JoinSet<()>,
}

impl Process {
    /// As a server without workers has it: it sends and does not listen.
    pub(super) async fn server(url: &str, endpoint: &str, name: &str, pace: Pace) -> Self {
        let db = Db::open(url).await.expect("the database opens");
        let client = Client::at(endpoint, name.to_owned()).await.expect("a client");
        let sqs = Sqs::new(db.clone(), client, pace);
        let (stopping, tasks) = (CancellationToken::new(), JoinSet::new());
        Self { db, queue: Queue::Sqs(sqs.clone()), sqs, stopping, tasks }
    }

    /// As a process with workers has it.
    pub(super) async fn worker(url: &str, endpoint: &str, name: &str, pace: Pace) -> Self {
        let mut process = Self::server(url, endpoint, name, pace).await;
        process.sqs.start(&mut process.tasks, &process.stopping);
        process
    }

    /// Ends what runs, as a process that stops does.
    pub(super) async fn stop(mut self) {
        self.stopping.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
        self.sqs.flush().await;
    }

    /// Lets it run on until the test ends.
    fn detach(mut self) -> Queue {
        self.tasks.detach_all();
        self.queue
    }
}

/// One queue on each service, beside a database of its own; the queue serves on.
pub(in crate::queue) async fn queues() -> Vec<(TestDb, Queue)> {
    let mut queues = Vec::new();
    for (name, variable) in SERVICES {
        let mut test = postgres().await;
        let endpoint = part(variable);
        let worker = Process::worker(&test.url, &endpoint, &new_name(), Pace::default()).await;
        // What the test commits is told by the queue, as in one process.
        test.db = worker.db.clone();
        test.name = name;
        queues.push((test, worker.detach()));
    }
    queues
}
