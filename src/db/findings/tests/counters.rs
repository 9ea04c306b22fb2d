//! The counters of projects and repositories are what counting the rows gives.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::db::projects;
use crate::db::repositories::OpenFindings;
use crate::db::scans::{Cancel, ScanStatus};

async fn agree(db: &Db, owner: Uuid, what: &str) {
    for project in projects::list(db, owner, None, 10).await.unwrap() {
        let shown = projects::rollup(db, &project).await.unwrap();
        let scans: Vec<(String, i64)> = db
            .conn()
            .fetch_filtered(
                "SELECT status, count(*) FROM scans WHERE project_id = $1 GROUP BY status",
                args![project.id],
            )
            .await
            .unwrap();
        let newest: Vec<(i64,)> = db
            .conn()
            .fetch_filtered(
                "SELECT created_at FROM scans WHERE project_id = $1 ORDER BY created_at DESC",
                args![project.id],
            )
            .await
            .unwrap();
        let open: Vec<(String, i64)> = db
            .conn()
            .fetch_filtered(
                "SELECT severity, count(*) FROM findings WHERE project_id = $1 \
                 AND state <> 'fixed' AND status <> 'dismissed' GROUP BY severity",
                args![project.id],
            )
            .await
            .unwrap();
        let mut kept = shown.by_status.clone();
        kept.retain(|_, count| *count != 0);
        assert_eq!(kept, scans.into_iter().collect(), "{what}");
        assert_eq!(shown.last_scan_at, newest.first().map(|row| row.0), "{what}");
        let OpenFindings { critical, high, medium, low, info } = shown.open_findings;
        let kept: BTreeMap<String, i64> = [
            ("critical", critical),
            ("high", high),
            ("medium", medium),
            ("low", low),
            ("info", info),
        ]
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(severity, count)| (severity.to_owned(), count))
        .collect();
        assert_eq!(kept, open.into_iter().collect(), "{what}");
    }
}

/// One of everything that can happen, in any order.
async fn step(db: &Db, tenants: &mut Vec<Tenant>, dice: &mut StdRng) -> String {
    if tenants.is_empty() || dice.random_ratio(1, 12) {
        let owner = tenants.first().map(|tenant| tenant.owner);
        match owner {
            Some(owner) => tenants.push(repository_of(db, owner).await),
            None => tenants.push(tenant(db).await),
        }
        return "a project with a repository".into();
    }
    let at = dice.random_range(0..tenants.len());
    let tenant = tenants[at];
    let scope = scans::Scope::Repository(tenant.repository);
    let running = scans::list(db, tenant.owner, scope, None, 100).await.unwrap();
    let waiting: Vec<&ScanRow> = running.iter().filter(|scan| !scan.status.has_ended()).collect();
    match dice.random_range(0..20) {
        0..=4 => {
            queued(db, tenant, None).await;
            "a scan".into()
        }
        5..=11 => {
            let Some(scan) = waiting.first().copied() else { return "nothing".into() };
            let mut tx = db.begin().await.unwrap();
            let (ending, name) = match dice.random_range(0..8) {
                0 => {
                    assert!(scans::start(&mut tx, scan.id, "w").await.unwrap());
                    tx.commit().await.unwrap();
                    return "a start".into();
                }
                1 => (Ending::Failed(repositories::Failure::new("no", "No.")), "a failure"),
                2 => {
                    let cancel =
                        scans::cancel(&mut tx, tenant.owner, tenant.repository, scan.id).await;
                    assert!(!matches!(cancel.unwrap(), Cancel::NotFound));
                    tx.commit().await.unwrap();
                    return "a cancel".into();
                }
                _ => {
                    let mut found = Vec::new();
                    for n in 0..12 {
                        if dice.random_ratio(1, 2) {
                            continue;
                        }
                        let severity = Severity::WORST_FIRST[dice.random_range(0..5)];
                        let one = finding(&format!("n{n}"), "a.py", severity);
                        found.push(if dice.random_ratio(1, 8) { suppressed(one) } else { one });
                    }
                    let summary =
                        merge(&mut tx, scan, &everywhere(), found, |_| RULES).await.unwrap();
                    (Ending::Completed(summary), "an end")
                }
            };
            assert!(scans::finish(&mut tx, scan.id, &ending).await.unwrap());
            assert!(!scans::finish(&mut tx, scan.id, &ending).await.unwrap());
            tx.commit().await.unwrap();
            name.into()
        }
        12..=16 => {
            let rows = all(db, tenant.owner, tenant.repository).await;
            if rows.is_empty() {
                return "nothing".into();
            }
            let row = &rows[dice.random_range(0..rows.len())];
            let status = Status::ALL[dice.random_range(0..3)];
            let dismissed = status == Status::Dismissed;
            let said = Triage {
                status,
                reason: dismissed.then_some(Reason::AcceptedRisk),
                comment: None,
                expires_at: (dismissed && dice.random()).then(|| now() + 1),
            };
            if dice.random() {
                let mut tx = db.begin().await.unwrap();
                triage(&mut tx, tenant.owner, tenant.repository, row.id, "ada", &said)
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            } else {
                let filter =
                    Filter { severity: vec![row.severity.parse().unwrap()], ..Filter::default() };
                triage_by_filter(db, tenant.owner, tenant.repository, &filter, "ada", &said)
                    .await
                    .unwrap();
            }
            "a triage".into()
        }
        17..=18 => {
            expire_dismissals(db, now()).await.unwrap();
            "an expiry".into()
        }
        _ => {
            assert!(repositories::delete(db, tenant.owner, tenant.repository).await.unwrap());
            tenants.remove(at);
            "a deletion".into()
        }
    }
}

#[tokio::test]
async fn counters_agree_with_the_rows_whatever_happens() {
    for test in both().await {
        let mut done = Vec::new();
        for seed in 0..3 {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut tenants = Vec::new();
            for _ in 0..120 {
                done.push(step(&test.db, &mut tenants, &mut dice).await);
                if let Some(owner) = tenants.first().map(|tenant| tenant.owner) {
                    let last = &done[done.len().saturating_sub(5)..];
                    agree(&test.db, owner, &format!("{} {seed}: {last:?}", test.name)).await;
                }
            }
        }
        for kind in ["an end", "a triage", "an expiry", "a deletion", "a start", "a failure"] {
            assert!(done.iter().any(|one| one == kind), "{kind} never happened");
        }
    }
}

/// Writers of a project side by side: none fails, and the sums are right.
#[tokio::test]
async fn counters_agree_when_many_write_at_once() {
    for test in both().await {
        let first = tenant(&test.db).await;
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..8 {
            let db = test.db.clone();
            writers.spawn(async move {
                for round in 0..5 {
                    let scan = queued(&db, first, None).await;
                    let mut tx = db.begin().await.unwrap();
                    assert!(scans::start(&mut tx, scan.id, "w").await.unwrap());
                    tx.commit().await.unwrap();
                    let mut tx = db.begin().await.unwrap();
                    let found = vec![high(&format!("n{n}"), "a"), high(&format!("r{round}"), "a")];
                    let summary =
                        merge(&mut tx, &scan, &everywhere(), found, |_| RULES).await.unwrap();
                    scans::finish(&mut tx, scan.id, &Ending::Completed(summary)).await.unwrap();
                    tx.commit().await.unwrap();
                }
            });
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        agree(&test.db, first.owner, test.name).await;
        let project = projects::get(&test.db, first.owner, first.project).await.unwrap().unwrap();
        let rollup = projects::rollup(&test.db, &project).await.unwrap();
        assert_eq!(rollup.by_status[ScanStatus::Completed.as_str()], 40, "{}", test.name);
    }
}
