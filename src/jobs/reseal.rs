//! Seals everything anew that another secret than the current one sealed: the last step
//! but one of a rotation, see [`crate::accounts::Keys`].
//!
//! Each value is replaced only if it is still the one that was read, so that it may run
//! while servers serve and while somebody gives a webhook another secret. It may be
//! stopped at any moment and run again.

use uuid::Uuid;

use super::fetch::credentials::Credentials;
use crate::accounts::Keys;
use crate::db::{Db, sources, webhooks};
use crate::webhooks::SigningSecret;

/// Rows that are read at once.
const PAGE: u32 = 500;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys that outlive secrets.
    pub lasting_keys: u64,
    /// Secrets of webhooks.
    pub webhooks: u64,
    /// Credentials of repositories.
    pub credentials: u64,
    /// Values that none of the secrets opens. They stay as they are.
    pub unreadable: u64,
}

/// Goes through all sealed values. `lost`: see [`Keys::reseal`].
///
/// # Errors
///
/// Those of [`Keys::reseal`] and of the database; what was sealed before stays so.
pub async fn run(db: &Db, keys: &Keys, lost: bool) -> anyhow::Result<Report> {
    let mut report = Report { lasting_keys: keys.reseal(db, lost).await?, ..Report::default() };
    let mut after = Uuid::nil();
    loop {
        let rows = webhooks::sealed(db, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        for row in rows {
            one_webhook(db, keys, &row, &mut report).await?;
        }
    }
    after = Uuid::nil();
    loop {
        let rows = sources::sealed(db, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.repository_id;
        for row in rows {
            let (owner, id) = (row.owner_id, row.repository_id);
            match Credentials::open_any(keys, owner, id, &row.credentials) {
                Some((_, true)) => {}
                Some((credentials, false)) => {
                    let sealed = credentials.seal(keys, owner, id)?;
                    if sources::reseal(db, id, &row.credentials, &sealed).await? {
                        report.credentials += 1;
                    }
                }
                None => report.unreadable += 1,
            }
        }
    }
    Ok(report)
}

/// The secret of a webhook, and the one before it.
async fn one_webhook(
    db: &Db,
    keys: &Keys,
    row: &webhooks::Sealed,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (keys, mut stale) = (keys.webhooks(), false);
    let mut anew = |sealed: &[u8]| match SigningSecret::open(&keys, row.id, sealed) {
        Ok((_, true)) => Ok(sealed.to_owned()),
        Ok((secret, false)) => {
            stale = true;
            secret.seal(&keys, row.id)
        }
        Err(_) => {
            report.unreadable += 1;
            Ok(sealed.to_owned())
        }
    };
    let secret = anew(&row.secret)?;
    let previous = row.previous_secret.as_deref().map(anew).transpose()?;
    if stale && webhooks::reseal(db, row, &secret, previous.as_deref()).await? {
        report.webhooks += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::db::testing::{both, tenant};
    use crate::db::{new_id, sources::Source};

    #[tokio::test]
    async fn after_it_the_old_secret_is_not_needed() {
        let secret = |c: &str| Secret(c.repeat(32));
        for test in both().await {
            let (db, tenant) = (&test.db, tenant(&test.db).await);
            let old = Keys::derive(&secret("x"));
            let (id, hook) = (new_id(), SigningSecret::generate());
            let wanted = webhooks::Wanted {
                url: "https://example.org/".into(),
                description: String::new(),
                events: Vec::new(),
                enabled: true,
            };
            let sealed = hook.seal(&old.webhooks(), id).unwrap();
            let mut tx = db.begin().await.unwrap();
            webhooks::create(&mut tx, tenant.owner, tenant.project, id, &wanted, sealed)
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            // Two secrets: it was rotated a moment ago.
            let next = SigningSecret::generate();
            let sealed = next.seal(&old.webhooks(), id).unwrap();
            webhooks::rotate(&mut tx, tenant.owner, id, sealed).await.unwrap().unwrap();
            let credentials = Credentials { username: None, token: "hunter2-hunter2".into() };
            let sealed = credentials.seal(&old, tenant.owner, tenant.repository).unwrap();
            let source = Source { credentials: Some(sealed), history: false };
            sources::put(&mut tx, tenant.repository, &source).await.unwrap();
            tx.commit().await.unwrap();

            let both = Keys::with(&secret("y"), &[secret("x")]);
            let report = run(db, &both, false).await.unwrap();
            let expected = Report { webhooks: 1, credentials: 1, ..Report::default() };
            assert_eq!(report, expected, "{}", test.name);
            assert_eq!(run(db, &both, false).await.unwrap(), Report::default());

            let new = Keys::derive(&secret("y"));
            let row = webhooks::by_id(db, id).await.unwrap().unwrap();
            let open = |sealed: &[u8]| {
                SigningSecret::open(&new.webhooks(), id, sealed).unwrap().0.reveal()
            };
            assert_eq!(open(&row.secret), next.reveal());
            assert_eq!(open(&row.previous_secret.unwrap()), hook.reveal());
            let row = sources::get(db, tenant.repository).await.unwrap().unwrap();
            let opened =
                Credentials::open(&new, tenant.owner, tenant.repository, &row.credentials.unwrap());
            assert_eq!(opened, Some(credentials));
            // Whoever has neither secret changes nothing.
            let other = run(db, &Keys::derive(&secret("z")), false).await.unwrap();
            assert_eq!(other, Report { unreadable: 3, ..Report::default() });
            assert_eq!(run(db, &new, false).await.unwrap(), Report::default());
        }
    }
}
