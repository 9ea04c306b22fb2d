//! What can be decided before the pack is read.

use std::collections::HashSet;

use gix_hash::ObjectId;

use crate::{
    command::Request,
    refs::{self, Decision, reason},
    remote::{Announced, Policy, Refusal, Repository},
};

/// What is known before the pack is read.
pub(super) struct Prepared {
    pub rejected: Vec<Option<&'static str>>,
    /// There would be more refs than there may be.
    pub too_many: bool,
    /// Lines for the person who pushed.
    pub warnings: Vec<String>,
    pub known_shallow: Vec<ObjectId>,
    /// What the refs point to, if the store may hold what is not complete.
    pub complete: Option<Vec<ObjectId>>,
}

/// Asks the repository, and applies every rule that needs no objects.
pub(super) async fn prepare<R: Repository>(
    repository: &R,
    request: &Request,
    policy: &Policy,
) -> Result<Prepared, Refusal> {
    repository
        .announced(&Announced {
            commands: &request.commands,
            options: &request.options,
            atomic: request.capabilities.atomic,
            quiet: request.capabilities.quiet,
            agent: request.capabilities.agent.as_deref(),
            certificate: request.certificate.as_ref(),
        })
        .await?;
    let refs = repository.refs().await?;
    let known_shallow = repository.shallow().await?;
    let mut complete = None;
    if !policy.closed_store {
        let tips = refs.iter().map(|reference| reference.id);
        complete = Some(tips.chain(repository.haves().await?).collect());
    }
    let creations = request.commands.iter().filter(|command| command.creates()).count();
    // Each ref that is there and goes, once.
    let deletions: HashSet<&str> = request
        .commands
        .iter()
        .filter(|command| command.deletes() && !policy.deny_deletes)
        .map(|command| command.name.as_str())
        .collect();
    let stay = refs.iter().filter(|reference| !deletions.contains(reference.name.as_str())).count();
    let too_many = creations > 0 && stay + creations > policy.max_refs;

    let rejected: Vec<Option<&'static str>> = request
        .commands
        .iter()
        .map(|command| {
            let named = if command.deletes() { refs::deletable_name } else { refs::valid_name };
            if !named(&command.name) {
                Some(reason::FUNNY_NAME)
            } else if refs::hidden(&command.name, &policy.hidden_refs) {
                Some(reason::HIDDEN)
            } else if command.deletes() && policy.deny_deletes {
                Some(reason::DELETION)
            } else if command.deletes() && policy.current_branch.as_ref() == Some(&command.name) {
                Some(reason::DELETION_OF_CURRENT)
            } else if command.creates() && too_many {
                Some(reason::TOO_MANY)
            } else {
                None
            }
        })
        .collect();
    // The same rules decide again inside the transaction; to ask them now spares the work for a
    // push that was overtaken before it arrived.
    let needed = refs::needed(&request.commands);
    let current = refs
        .into_iter()
        .filter(|reference| needed.includes(&reference.name))
        .map(|reference| (reference.name, reference.id))
        .collect();
    let decisions = refs::plan(&current, &request.commands, &rejected, request.capabilities.atomic);
    let warnings = request
        .commands
        .iter()
        .zip(&decisions)
        .filter(|(_, decision)| **decision == Decision::AlreadyGone)
        .map(|(command, _)| format!("warning: deleting a non-existent ref {}", command.name))
        .collect();
    let rejected = decisions.into_iter().map(Decision::rejection).collect();
    Ok(Prepared { rejected, too_many, warnings, known_shallow, complete })
}
