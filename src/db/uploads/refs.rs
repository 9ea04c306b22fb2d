//! The refs of an upload, in the transaction that moves them.

use std::collections::BTreeMap;

use sluice_git::refs::{self, Decision, reason};
use sluice_git::{Command, ObjectId};
use uuid::Uuid;

use super::push::CommitPush;
use super::{Ref, Upload};
use crate::db::{Args, Conn, DbError, Result, Tx, args, statements};

statements! {
    COUNT_REFS = "SELECT count(*) FROM upload_refs WHERE upload_id = $1";
    HEADS = "SELECT name, oid FROM upload_refs WHERE upload_id = $1 AND name IN ($2, $3, $4, $5)";
    FIRST_BRANCH = "SELECT name, oid FROM upload_refs \
                    WHERE upload_id = $1 AND name >= 'refs/heads/' AND name < 'refs/heads0' \
                    ORDER BY name LIMIT 1";
}

/// Above this number of commands all refs are read instead of those needed: the
/// statement would grow beyond what is worth preparing.
const MANY: usize = 64;

/// The refs that the decision needs.
pub(in crate::db::uploads) async fn current(
    tx: &mut Tx,
    upload_id: Uuid,
    commands: &[Command],
) -> Result<BTreeMap<String, ObjectId>> {
    let rows: Vec<Ref> = if commands.len() > MANY {
        super::refs(&mut *tx, upload_id).await?
    } else {
        let needed = refs::needed(commands);
        let mut args = Args::default();
        let upload = args.add(upload_id);
        let names: Vec<String> = needed.names.iter().map(|name| args.add(name)).collect();
        let mut sql = format!(
            "SELECT name, oid FROM upload_refs WHERE upload_id = {upload} AND (name IN ({})",
            names.join(", ")
        );
        for prefix in &needed.prefixes {
            // `0` follows `/`: all names below this one.
            let from = args.add(prefix);
            let to = args.add(format!("{}0", prefix.trim_end_matches('/')));
            sql.push_str(&format!(" OR (name >= {from} AND name < {to})"));
        }
        sql.push(')');
        Conn::from(&mut *tx).fetch_filtered(&sql, args).await?
    };
    rows.into_iter()
        .map(|row| {
            let id = ObjectId::from_hex(row.oid.as_bytes()).map_err(|error| {
                DbError::Defect(sqlx::Error::Decode(format!("ref {}: {error}", row.name).into()))
            })?;
            Ok((row.name, id))
        })
        .collect()
}

/// Refuses the creations that would bring the upload above its number of refs. The
/// push was checked before it was received, but another may have come meanwhile.
pub(in crate::db::uploads) async fn bound(
    tx: &mut Tx,
    push: &CommitPush,
    current: &BTreeMap<String, ObjectId>,
    decisions: &mut [Decision],
) -> Result<()> {
    let creates = |command: &Command, decision: &Decision| {
        *decision == Decision::Write && !current.contains_key(&command.name)
    };
    if !push.commands.iter().zip(&*decisions).any(|(c, d)| creates(c, d)) {
        return Ok(());
    }
    let (count,) = tx.fetch_one::<(i64,)>(COUNT_REFS, args![push.upload_id]).await?;
    let deleted = decisions.iter().filter(|d| **d == Decision::Delete).count();
    let count = usize::try_from(count).unwrap_or(0).saturating_sub(deleted);
    let mut room = push.max_refs.saturating_sub(count);
    let mut refused = false;
    for (command, decision) in push.commands.iter().zip(&mut *decisions) {
        if creates(command, decision) {
            match room.checked_sub(1) {
                Some(left) => room = left,
                None => {
                    *decision = Decision::Reject(reason::TOO_MANY);
                    refused = true;
                }
            }
        }
    }
    if refused && push.atomic {
        for decision in decisions.iter_mut().filter(|d| d.rejection().is_none()) {
            *decision = Decision::Reject(reason::ATOMIC);
        }
    }
    Ok(())
}

/// Rows of one statement.
const BATCH: usize = 500;

pub(in crate::db::uploads) async fn move_refs(
    tx: &mut Tx,
    upload_id: Uuid,
    commands: &[Command],
    decisions: &[Decision],
    at: i64,
) -> Result<()> {
    let decided = || commands.iter().zip(decisions);
    let deleted: Vec<&str> = decided()
        .filter(|(_, decision)| **decision == Decision::Delete)
        .map(|(command, _)| command.name.as_str())
        .collect();
    for batch in deleted.chunks(BATCH) {
        let mut args = Args::default();
        let upload = args.add(upload_id);
        let names: Vec<String> = batch.iter().map(|name| args.add(*name)).collect();
        let names = names.join(", ");
        tx.execute_built(
            &format!("DELETE FROM upload_refs WHERE upload_id = {upload} AND name IN ({names})"),
            args,
        )
        .await?;
    }
    let written: Vec<(&str, String)> = decided()
        .filter(|(_, decision)| **decision == Decision::Write)
        .map(|(command, _)| (command.name.as_str(), command.new.to_string()))
        .collect();
    for batch in written.chunks(BATCH) {
        let mut args = Args::default();
        let (upload, at) = (args.add(upload_id), args.add(at));
        let rows: Vec<String> = batch
            .iter()
            .map(|(name, oid)| {
                let (name, oid) = (args.add(*name), args.add(oid));
                format!("({upload}, {name}, {oid}, {at})")
            })
            .collect();
        tx.execute_built(
            &format!(
                "INSERT INTO upload_refs (upload_id, name, oid, updated_at) VALUES {} \
                 ON CONFLICT (upload_id, name) \
                 DO UPDATE SET oid = excluded.oid, updated_at = excluded.updated_at",
                rows.join(", ")
            ),
            args,
        )
        .await?;
    }
    Ok(())
}

pub(in crate::db::uploads) async fn add_shallow(
    tx: &mut Tx,
    upload_id: Uuid,
    oids: &[ObjectId],
) -> Result<()> {
    for batch in oids.chunks(BATCH) {
        let mut args = Args::default();
        let upload = args.add(upload_id);
        let rows: Vec<String> =
            batch.iter().map(|oid| format!("({upload}, {})", args.add(oid.to_string()))).collect();
        tx.execute_built(
            &format!(
                "INSERT INTO upload_shallow (upload_id, oid) VALUES {} ON CONFLICT DO NOTHING",
                rows.join(", ")
            ),
            args,
        )
        .await?;
    }
    Ok(())
}

/// The ref that was asked for, the one that HEAD points to, `main`, `master`, the
/// first branch: the first of these that exists. HEAD never dangles.
pub(in crate::db::uploads) async fn head(tx: &mut Tx, upload: &Upload) -> Result<Option<Ref>> {
    let wanted = [
        upload.wanted_ref.as_deref().unwrap_or_default(),
        upload.head_ref.as_deref().unwrap_or_default(),
        "refs/heads/main",
        "refs/heads/master",
    ];
    let found: Vec<Ref> =
        tx.fetch_all(HEADS, args![upload.id, wanted[0], wanted[1], wanted[2], wanted[3]]).await?;
    let best = wanted.iter().find_map(|name| found.iter().find(|found| found.name == *name));
    match best {
        Some(best) => Ok(Some(best.clone())),
        None => tx.fetch_optional(FIRST_BRANCH, args![upload.id]).await,
    }
}
