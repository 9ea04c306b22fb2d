//! The second half of a push, while its answer is already on the way: the verdict, the commit, the
//! report.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::FutureExt as _;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Prepared,
    answer::{outcomes, same_for_all, short},
    pack, progress,
};
use crate::{
    command::Request,
    fault,
    firewall::Counters,
    refs::reason,
    remote::{CheckedPush, CommandOutcome, Policy, RefusedBy, Repository},
    report, stream,
};

pub(super) type Verdict = JoinHandle<Result<pack::Checked, pack::Error>>;

/// A push whose body was read to its end.
pub(super) struct Push<R> {
    pub repository: R,
    pub request: Request,
    pub prepared: Prepared,
    pub policy: Policy,
    pub session: String,
    pub bytes_received: u64,
    pub deadline: Instant,
    pub cancel: Arc<AtomicBool>,
}

impl<R: Repository> Push<R> {
    pub(super) async fn finish(
        self,
        job: Option<(Verdict, Arc<Counters>)>,
        sender: stream::Sender,
    ) {
        let Self {
            repository,
            request,
            prepared,
            policy,
            session,
            bytes_received,
            deadline,
            cancel,
        } = self;
        let capabilities = &request.capabilities;
        let mut messages = sender.messages(capabilities.side_band, capabilities.quiet);
        for warning in &prepared.warnings {
            messages.say(warning).await;
        }
        let checked = match job {
            None => pack::Checked::default(),
            Some((job, counters)) => {
                match verdict(job, deadline, &cancel, &policy, &sender).await {
                    Ok(checked) => {
                        repository.receiving(progress(bytes_received, &counters));
                        for warning in &checked.warnings {
                            messages.say(warning).await;
                        }
                        checked
                    }
                    Err(Stop::ClientGone) => {
                        tracing::info!(session, "push abandoned: the client is gone");
                        return;
                    }
                    Err(Stop::Refused(by, why)) => {
                        repository.refused(by);
                        tracing::info!(session, why, "push refused");
                        let outcomes = same_for_all(&request, reason::UNPACKER);
                        let last =
                            report::encode(capabilities, Some(&why), &request.commands, &outcomes);
                        return sender.finish(last).await;
                    }
                }
            }
        };
        let mut rejected = prepared.rejected;
        for (at, reason) in checked.rejected.iter().enumerate() {
            rejected[at] = rejected[at].or(*reason);
        }
        if capabilities.atomic && rejected.iter().any(Option::is_some) {
            for reason in &mut rejected {
                reason.get_or_insert(reason::ATOMIC);
            }
        }
        if rejected.iter().all(Option::is_some) {
            let last = report::encode(capabilities, None, &request.commands, &outcomes(&rejected));
            return sender.finish(last).await;
        }
        if sender.is_closed() {
            tracing::info!(session, "push abandoned before it was stored: the client is gone");
            return;
        }
        let push = CheckedPush {
            commands: request.commands.clone(),
            rejected,
            atomic: capabilities.atomic,
            options: request.options.clone(),
            new_shallow: checked.new_shallow,
            pack: checked.pack,
            observations: checked.observations,
            agent: capabilities.agent.clone(),
            certificate: request.certificate.clone(),
            session: session.clone(),
            bytes_received,
        };
        let committed =
            AssertUnwindSafe(repository.commit(push, messages.clone())).catch_unwind().await;
        let outcomes = match committed {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(refusal)) => {
                messages.say(&refusal.message).await;
                same_for_all(&request, short(&refusal.message))
            }
            Err(_) => {
                tracing::error!(session, "storing a push panicked");
                same_for_all(&request, reason::FAILED)
            }
        };
        let done = outcomes.iter().filter(|o| !matches!(o, CommandOutcome::Rejected(_))).count();
        tracing::info!(
            session,
            client_session = capabilities.session_id,
            agent = capabilities.agent,
            done,
            of = request.commands.len(),
            bytes_received,
            "push ends"
        );
        fault::point("push.before-report");
        sender.finish(report::encode(capabilities, None, &request.commands, &outcomes)).await;
    }
}

const FAILED: &str = "the server failed while it received the pack; push again";

enum Stop {
    ClientGone,
    Refused(RefusedBy, String),
}

/// Waits for the blocking half, which is told to stop when the time is over or the client is gone.
async fn verdict(
    mut job: Verdict,
    deadline: Instant,
    cancel: &AtomicBool,
    policy: &Policy,
    sender: &stream::Sender,
) -> Result<pack::Checked, Stop> {
    let mut stopped = None;
    let result = tokio::select! {
        result = &mut job => result,
        () = sender.closed() => {
            stopped = Some(Stop::ClientGone);
            cancel.store(true, Ordering::Relaxed);
            job.await
        }
        () = tokio::time::sleep_until(deadline) => {
            stopped = Some(Stop::Refused(RefusedBy::Limit("wall_time"), too_slow(policy)));
            cancel.store(true, Ordering::Relaxed);
            job.await
        }
    };
    if let Some(stop) = stopped {
        return Err(stop);
    }
    match result {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(pack::Error::Refused(by, why))) => Err(Stop::Refused(by, why)),
        Ok(Err(pack::Error::Cancelled)) => Err(Stop::ClientGone),
        Ok(Err(pack::Error::Internal(cause))) => {
            tracing::error!(cause, "a pack could not be received");
            Err(Stop::Refused(RefusedBy::Server, FAILED.into()))
        }
        Err(error) => {
            tracing::error!(%error, "receiving a pack panicked");
            Err(Stop::Refused(RefusedBy::Server, FAILED.into()))
        }
    }
}

pub(super) fn too_slow(policy: &Policy) -> String {
    let seconds = policy.limits.wall_time.as_secs();
    format!(
        "the push took longer than {seconds} seconds, the limit; push a part of the history first"
    )
}
