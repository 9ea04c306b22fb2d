//! What happens to a push whose objects are good: hooks, objects, refs, hooks, in git's order.

use std::{fs, io, sync::PoisonError, time::Duration};

use sluice_git::{
    CheckedPush, Command, CommandOutcome, Messages, ObjectId, QuarantinedPack, Refusal,
    refs::{Decision, plan, reason},
};

use crate::{
    hooks::{Hooks, Tool},
    lock::Lock,
    refs,
    repository::Bare,
    signature,
    update::Update,
};

const PRE_RECEIVE_DECLINED: &str = "pre-receive hook declined";
const DECLINED: &str = "hook declined";
const CHECKED_OUT: &str = "branch is currently checked out";

/// Stores a push: the body of [`sluice_git::Repository::commit`].
pub async fn store(
    bare: &Bare,
    mut push: CheckedPush,
    mut messages: Messages,
) -> Result<Vec<CommandOutcome>, Refusal> {
    for warning in &bare.settings.warnings {
        messages.say(warning).await;
    }
    for (command, rejected) in push.commands.iter().zip(&mut push.rejected) {
        if !command.deletes() && bare.settings.checked_out.as_ref() == Some(&command.name) {
            rejected.get_or_insert(CHECKED_OUT);
        }
    }
    // Once more without locks: a push that has no chance runs no hook and leaves no pack.
    let current = bare.blocking(|bare| refs::all(&bare.folder, bare.settings.hash)).await?;
    let decisions = plan(&current, &push.commands, &push.rejected, push.atomic);
    let mut rejected: Vec<_> = decisions.iter().map(|decision| decision.rejection()).collect();
    if rejected.iter().all(Option::is_some) {
        return Ok(decisions.into_iter().map(CommandOutcome::from).collect());
    }
    let mut hooks = Hooks::new(bare, &push);
    if let Some(certificate) = push.certificate.take() {
        // It is kept even if the push is refused in the end: it says who tried.
        let (id, signer) = {
            let certificate = certificate.clone();
            let signed = bare.blocking(move |bare| {
                let id = write_blob(bare, certificate.bytes())?;
                let signer = bare.run_hooks.then(|| {
                    signature::verify(&certificate, bare.settings.allowed_signers.as_deref())
                });
                Ok((id, signer.unwrap_or_default()))
            });
            signed.await?
        };
        hooks.certificate(id, &certificate, &signer, bare.settings.push.certificates.is_some());
    }

    if bare.run_hooks {
        let open = push.commands.iter().zip(&rejected);
        let open = open.filter(|(_, rejected)| rejected.is_none());
        let lines = Hooks::lines(open.map(|(command, _)| command));
        let tool = Tool { quarantine: push.pack.as_ref().map(QuarantinedPack::objects_dir), lines };
        if !hooks.run("pre-receive", &[], tool, &mut messages).await? {
            decline(&mut rejected, PRE_RECEIVE_DECLINED);
            return Ok(refused(&rejected));
        }
    }
    let (pack, new_shallow) = (push.pack.take(), std::mem::take(&mut push.new_shallow));
    bare.blocking(move |bare| {
        if let Some(pack) = pack {
            pack.publish(&bare.folder.join("objects"))?;
        }
        add_shallow(bare, &new_shallow)
    })
    .await?;
    if bare.run_hooks {
        for (command, rejected) in push.commands.iter().zip(&mut rejected) {
            let arguments =
                [command.name.clone(), command.old.to_string(), command.new.to_string()];
            if rejected.is_none()
                && !hooks.run("update", &arguments, Tool::default(), &mut messages).await?
            {
                messages.say(&format!("error: hook declined to update {}", command.name)).await;
                *rejected = Some(DECLINED);
            }
        }
        if push.atomic && rejected.contains(&Some(DECLINED)) {
            decline(&mut rejected, reason::ATOMIC);
        }
    }

    let (commands, atomic) = (push.commands.clone(), push.atomic);
    let decisions = bare
        .blocking(move |bare| {
            let _gate = bare.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let update = Update {
                folder: &bare.folder,
                hash: bare.settings.hash,
                reflogs: bare.settings.reflogs,
                who: bare.pusher.identity(),
            };
            update.apply(&commands, &rejected, atomic)
        })
        .await?;

    if bare.run_hooks {
        after(&hooks, &push.commands, &decisions, &mut messages).await;
    }
    Ok(decisions.into_iter().map(CommandOutcome::from).collect())
}

/// The hooks that come after the refs have moved, and cannot refuse anything.
async fn after(
    hooks: &Hooks,
    commands: &[Command],
    decisions: &[Decision],
    messages: &mut Messages,
) {
    let changed = |(_, decision): &(&Command, &Decision)| {
        matches!(decision, Decision::Write | Decision::Delete)
    };
    let changed: Vec<&Command> =
        commands.iter().zip(decisions).filter(changed).map(|(command, _)| command).collect();
    let lines = Hooks::lines(changed.iter().copied());
    let names: Vec<String> = changed.iter().map(|command| command.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let tool = Tool { quarantine: None, lines };
    for (name, arguments, tool) in
        [("post-receive", Vec::new(), tool), ("post-update", names, Tool::default())]
    {
        if let Err(refusal) = hooks.run(name, &arguments, tool, messages).await {
            tracing::warn!(name, refusal.message, "a hook could not be run");
        }
    }
}

fn decline(rejected: &mut [Option<&'static str>], why: &'static str) {
    for rejected in rejected {
        rejected.get_or_insert(why);
    }
}

fn refused(rejected: &[Option<&'static str>]) -> Vec<CommandOutcome> {
    rejected
        .iter()
        .map(|why| CommandOutcome::Rejected(why.unwrap_or(reason::FAILED).to_owned()))
        .collect()
}

fn write_blob(bare: &Bare, bytes: &[u8]) -> io::Result<ObjectId> {
    use gix_object::Write as _;
    let store = gix_odb::loose::Store::at(bare.folder.join("objects"), bare.settings.hash);
    store
        .write_buf(gix_object::Kind::Blob, bytes)
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Notes commits whose parents are not here.
fn add_shallow(bare: &Bare, new: &[ObjectId]) -> io::Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let mut lock = Lock::acquire(&bare.folder, "shallow", Duration::from_secs(1))?;
    let mut text = match fs::read_to_string(bare.folder.join("shallow")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    for id in new {
        let line = format!("{id}\n");
        if !text.contains(&line) {
            text.push_str(&line);
        }
    }
    lock.write(text.as_bytes())?;
    lock.commit()
}
