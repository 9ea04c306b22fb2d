//! The identity of findings from scan to scan, and what is said about them.

mod cost;
mod counters;
mod lists;

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::db::repositories;
use crate::db::scans::{self, Ending, ScanRow, Settings, Summary};
use crate::db::testing::{Tenant, both, repository_of, tenant};
use crate::scan::{Confidence, EngineKind, Finding, RuleInfo, ScanConfig, Span};

/// A finding of the code engine; `name` stands for what makes it itself.
pub(super) fn finding(name: &str, path: &str, severity: Severity) -> Finding {
    Finding {
        fingerprint: format!("{name:0>36}0000"),
        engine: EngineKind::Code,
        rule_id: format!("python/{name}"),
        title: format!("Title of {name}"),
        message: "Here.".into(),
        severity,
        confidence: Confidence::High,
        location: Location {
            path: path.into(),
            span: Span { start_line: 7, start_column: 1, end_line: 7, end_column: 9 },
            commit: None,
            in_history: false,
        },
        other_locations: Vec::new(),
        snippet: "eval(x)".into(),
        symbol: "f".into(),
        flow: Vec::new(),
        package: None,
        priority: 50,
        suppressed: None,
    }
}

fn high(name: &str, path: &str) -> Finding {
    finding(name, path, Severity::High)
}

fn secret(name: &str, path: &str, in_history: bool) -> Finding {
    let mut secret = high(name, path);
    secret.engine = EngineKind::Secrets;
    secret.location.in_history = in_history;
    secret
}

fn suppressed(mut finding: Finding) -> Finding {
    finding.suppressed = Some("known and harmless".into());
    finding
}

pub(super) fn everywhere() -> Coverage {
    Coverage {
        config: ScanConfig { history: true, ..ScanConfig::default() },
        ..Coverage::default()
    }
}

fn globs(include: &[&str], exclude: &[&str]) -> Coverage {
    let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect();
    let mut coverage = everywhere();
    coverage.config.include = own(include);
    coverage.config.exclude = own(exclude);
    coverage
}

const RULES: Option<&RuleInfo> = None;

async fn queued(db: &Db, tenant: Tenant, git_ref: Option<&str>) -> ScanRow {
    let mut scan = scans::tests::new_scan(tenant);
    scan.settings = Settings { git_ref: git_ref.map(str::to_owned), ..Settings::default() };
    let mut tx = db.begin().await.unwrap();
    let id = scans::create(&mut tx, &scan).await.unwrap();
    tx.commit().await.unwrap();
    scans::get(db, tenant.owner, id).await.unwrap().unwrap()
}

async fn end(db: &Db, scan: &ScanRow, coverage: &Coverage, findings: Vec<Finding>) -> Summary {
    let mut tx = db.begin().await.unwrap();
    let summary = merge(&mut tx, scan, coverage, findings, |_| RULES).await.unwrap();
    scans::finish(&mut tx, scan.id, &Ending::Completed(summary)).await.unwrap();
    tx.commit().await.unwrap();
    counters_agree(db, scan).await;
    summary
}

pub(super) async fn scan(
    db: &Db,
    tenant: Tenant,
    coverage: &Coverage,
    findings: Vec<Finding>,
) -> (ScanRow, Summary) {
    let scan = queued(db, tenant, None).await;
    let summary = end(db, &scan, coverage, findings).await;
    (scan, summary)
}

/// The counters of a repository are what counting its findings gives.
async fn counters_agree(db: &Db, scan: &ScanRow) {
    let kept = repositories::get(db, scan.owner_id, scan.repository_id).await.unwrap().unwrap();
    let mut counted = BTreeMap::new();
    for row in all(db, scan.owner_id, scan.repository_id).await {
        if is_open(row.status, row.state) {
            *counted.entry(row.severity).or_insert(0) += 1;
        }
    }
    let open = kept.open_findings;
    let kept = [
        ("critical", open.critical),
        ("high", open.high),
        ("medium", open.medium),
        ("low", open.low),
        ("info", open.info),
    ];
    for (severity, kept) in kept {
        assert_eq!(kept, counted.remove(severity).unwrap_or(0), "open {severity}");
    }
}

async fn all(db: &Db, owner: Uuid, repository: Uuid) -> Vec<FindingRow> {
    let scope = Scope::Repository(repository);
    list(db, owner, scope, &Filter::default(), Sort::default(), None, 100_000).await.unwrap().rows
}

/// `name path status state` of every finding, by name.
async fn shown(db: &Db, tenant: Tenant) -> Vec<String> {
    let mut out: Vec<String> = all(db, tenant.owner, tenant.repository)
        .await
        .into_iter()
        .map(|row| {
            let name = row.rule_id.trim_start_matches("python/");
            let path = row.body.0.location.map(|l| l.path).unwrap_or_default();
            format!("{name} {path} {} {}", row.status.as_str(), row.state.as_str())
        })
        .collect();
    out.sort();
    out
}

async fn id_of(db: &Db, tenant: Tenant, name: &str) -> Uuid {
    let rows = all(db, tenant.owner, tenant.repository).await;
    rows.into_iter().find(|row| row.rule_id.ends_with(name)).expect("a finding").id
}

async fn say(db: &Db, tenant: Tenant, id: Uuid, status: Status, reason: Option<Reason>) {
    let said = Triage { status, reason, comment: Some("because".into()), expires_at: None };
    let mut tx = db.begin().await.unwrap();
    let (owner, repository) = (tenant.owner, tenant.repository);
    assert!(triage(&mut tx, owner, repository, id, "ada@example.org", &said).await.unwrap());
    tx.commit().await.unwrap();
}

/// What one scan after the other makes of the findings before it.
#[tokio::test]
async fn a_finding_is_new_once_unchanged_then_and_fixed_when_it_is_gone() {
    let steps: Vec<(&str, Coverage, Vec<Finding>, [u64; 3], &[&str])> = vec![
        (
            "first scan",
            everywhere(),
            vec![high("a", "src/a.py"), high("b", "src/b.py"), secret("s", "old.env", true)],
            [3, 0, 0],
            &["a src/a.py open new", "b src/b.py open new", "s old.env open new"],
        ),
        (
            "a is moved to another file, b is fixed, c comes",
            everywhere(),
            vec![high("a", "lib/a.py"), high("c", "lib/c.py"), secret("s", "old.env", true)],
            [1, 1, 2],
            &[
                "a lib/a.py open unchanged",
                "b src/b.py open fixed",
                "c lib/c.py open new",
                "s old.env open unchanged",
            ],
        ),
        (
            "fewer engines fix nothing of the others",
            Coverage {
                config: ScanConfig { engines: vec![EngineKind::Secrets], ..everywhere().config },
                ..Coverage::default()
            },
            vec![secret("s", "old.env", true)],
            [0, 0, 1],
            &[
                "a lib/a.py open unchanged",
                "b src/b.py open fixed",
                "c lib/c.py open new",
                "s old.env open unchanged",
            ],
        ),
        (
            "without history, what lies there alone stays",
            Coverage::default(),
            vec![high("a", "lib/a.py"), high("c", "lib/c.py")],
            [0, 0, 2],
            &[
                "a lib/a.py open unchanged",
                "b src/b.py open fixed",
                "c lib/c.py open unchanged",
                "s old.env open unchanged",
            ],
        ),
        (
            "what the globs leave out stays",
            globs(&["src"], &[]),
            vec![],
            [0, 0, 0],
            &[
                "a lib/a.py open unchanged",
                "b src/b.py open fixed",
                "c lib/c.py open unchanged",
                "s old.env open unchanged",
            ],
        ),
        (
            "what the globs name is fixed",
            globs(&[], &["c.py"]),
            vec![secret("s", "old.env", true)],
            [0, 1, 1],
            &[
                "a lib/a.py open fixed",
                "b src/b.py open fixed",
                "c lib/c.py open unchanged",
                "s old.env open unchanged",
            ],
        ),
        (
            "a skipped file fixes nothing",
            Coverage { skipped: HashSet::from(["lib/c.py".to_owned()]), ..everywhere() },
            vec![secret("s", "old.env", true)],
            [0, 0, 1],
            &[
                "a lib/a.py open fixed",
                "b src/b.py open fixed",
                "c lib/c.py open unchanged",
                "s old.env open unchanged",
            ],
        ),
        (
            "nor does a list that was cut",
            Coverage { truncated: true, ..everywhere() },
            vec![],
            [0, 0, 0],
            &[
                "a lib/a.py open fixed",
                "b src/b.py open fixed",
                "c lib/c.py open unchanged",
                "s old.env open unchanged",
            ],
        ),
        (
            "b comes back, and the same fingerprint twice is one finding",
            everywhere(),
            vec![high("b", "src/b.py"), high("b", "src/b2.py"), high("c", "lib/c.py")],
            [1, 1, 1],
            &[
                "a lib/a.py open fixed",
                "b src/b.py open new",
                "c lib/c.py open unchanged",
                "s old.env open fixed",
            ],
        ),
    ];
    for test in both().await {
        let tenant = tenant(&test.db).await;
        let mut first: BTreeMap<String, (Uuid, Uuid)> = BTreeMap::new();
        for (what, coverage, findings, [new, fixed, unchanged], expected) in &steps {
            let (_, summary) = scan(&test.db, tenant, coverage, findings.clone()).await;
            let got = (summary.new, summary.fixed, summary.unchanged);
            assert_eq!(got, (*new, *fixed, *unchanged), "{}: {what}", test.name);
            assert_eq!(summary.high, new + unchanged, "{}: {what}", test.name);
            assert_eq!(shown(&test.db, tenant).await, *expected, "{}: {what}", test.name);
            for row in all(&test.db, tenant.owner, tenant.repository).await {
                let known =
                    first.entry(row.fingerprint).or_insert((row.id, row.first_seen_scan_id));
                assert_eq!(*known, (row.id, row.first_seen_scan_id), "{}: {what}", test.name);
            }
        }
    }
}

#[tokio::test]
async fn a_finding_with_a_place_that_was_not_looked_at_is_not_fixed() {
    for test in both().await {
        let tenant = tenant(&test.db).await;
        let mut copied = secret("s", "src/a.env", false);
        copied
            .other_locations
            .push(Location { path: "docs/b.env".into(), ..copied.location.clone() });
        scan(&test.db, tenant, &everywhere(), vec![copied]).await;
        scan(&test.db, tenant, &globs(&["src"], &[]), vec![]).await;
        assert_eq!(
            shown(&test.db, tenant).await,
            ["s src/a.env open unchanged"].map(|s| s.replace("unchanged", "new")),
            "{}",
            test.name
        );
        let (_, summary) = scan(&test.db, tenant, &globs(&["src", "docs"], &[]), vec![]).await;
        assert_eq!(summary.fixed, 1, "{}", test.name);
    }
}

#[tokio::test]
async fn another_branch_adds_and_never_fixes() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        scan(db, tenant, &everywhere(), vec![high("a", "a.py")]).await;
        let side = queued(db, tenant, Some("topic")).await;
        let summary = end(db, &side, &everywhere(), vec![high("b", "b.py")]).await;
        assert_eq!((summary.new, summary.fixed), (1, 0), "{}", test.name);
        let named = queued(db, tenant, Some("refs/heads/main")).await;
        let summary = end(db, &named, &everywhere(), vec![high("b", "b.py")]).await;
        assert_eq!((summary.unchanged, summary.fixed), (1, 1), "{}", test.name);
    }
}

#[tokio::test]
async fn a_scan_that_was_overtaken_does_not_turn_back_the_clock() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        scan(db, tenant, &everywhere(), vec![high("a", "a.py"), high("b", "b.py")]).await;
        let old = queued(db, tenant, None).await;
        let new = vec![high("b", "moved.py"), high("c", "c.py")];
        scan(db, tenant, &everywhere(), new).await;
        let late = vec![high("a", "a.py"), high("b", "b.py"), high("d", "d.py")];
        let summary = end(db, &old, &everywhere(), late).await;
        assert_eq!(summary.fixed, 0, "{}", test.name);
        let expected = [
            "a a.py open fixed",
            "b moved.py open unchanged",
            "c c.py open new",
            "d d.py open new",
        ];
        assert_eq!(shown(db, tenant).await, expected, "{}", test.name);
    }
}

/// What a dismissal becomes when its finding is fixed and comes back.
#[tokio::test]
async fn a_dismissal_outlives_a_fix_only_if_it_speaks_of_the_code() {
    let table = [
        (Status::Dismissed, Some(Reason::FalsePositive), "dismissed"),
        (Status::Dismissed, Some(Reason::UsedInTests), "dismissed"),
        (Status::Dismissed, Some(Reason::AcceptedRisk), "open"),
        (Status::Dismissed, Some(Reason::WontFix), "open"),
        (Status::Confirmed, None, "confirmed"),
        (Status::Open, None, "open"),
    ];
    for test in both().await {
        for (status, reason, after) in table {
            let (db, tenant) = (&test.db, tenant(&test.db).await);
            let what = format!("{}: {status:?} {reason:?}", test.name);
            scan(db, tenant, &everywhere(), vec![high("a", "a.py")]).await;
            let id = id_of(db, tenant, "a").await;
            say(db, tenant, id, status, reason).await;
            let (_, seen) = scan(db, tenant, &everywhere(), vec![high("a", "new.py")]).await;
            let kept = format!("a new.py {} unchanged", status.as_str());
            assert_eq!(shown(db, tenant).await, [kept], "{what}");
            assert_eq!(seen.unchanged, u64::from(status != Status::Dismissed), "{what}");
            let (_, gone) = scan(db, tenant, &everywhere(), vec![]).await;
            assert_eq!(gone.fixed, 1, "{what}: a fix closes what was dismissed too");
            scan(db, tenant, &everywhere(), vec![high("a", "a.py")]).await;
            assert_eq!(shown(db, tenant).await, [format!("a a.py {after} new")], "{what}");
            let changes = history(db, &[id]).await.unwrap();
            let reopened = after != status.as_str();
            assert_eq!(changes.len(), 1 + usize::from(reopened), "{what}");
            if let Some(last) = changes.last().filter(|_| reopened) {
                assert_eq!(
                    (last.actor.as_str(), last.reason.as_deref()),
                    (MACHINE, Some("reopened"))
                );
            }
        }
    }
}

#[tokio::test]
async fn a_comment_in_the_source_dismisses_until_a_person_decides() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let both = || vec![suppressed(high("a", "a.py")), high("b", "b.py")];
        let (_, summary) = scan(db, tenant, &everywhere(), both()).await;
        assert_eq!((summary.high, summary.new), (1, 1), "{}: a is not open", test.name);
        assert_eq!(shown(db, tenant).await, ["a a.py dismissed new", "b b.py open new"]);
        let a = id_of(db, tenant, "a").await;
        let said = history(db, &[a]).await.unwrap();
        assert_eq!(said[0].comment.as_deref(), Some("known and harmless"), "{}", test.name);
        assert_eq!(said[0].reason.as_deref(), Some("inline"));

        // The comment goes, and another comes.
        let swapped = || vec![high("a", "a.py"), suppressed(high("b", "b.py"))];
        scan(db, tenant, &everywhere(), swapped()).await;
        let expected = ["a a.py open unchanged", "b b.py dismissed unchanged"];
        assert_eq!(shown(db, tenant).await, expected, "{}", test.name);

        // A person has the last word, whatever the comments say.
        let b = id_of(db, tenant, "b").await;
        say(db, tenant, a, Status::Dismissed, Some(Reason::FalsePositive)).await;
        say(db, tenant, b, Status::Confirmed, None).await;
        scan(db, tenant, &everywhere(), swapped()).await;
        let expected = ["a a.py dismissed unchanged", "b b.py confirmed unchanged"];
        assert_eq!(shown(db, tenant).await, expected, "{}", test.name);

        // Fixed and back with its comment: dismissed again without a word.
        let c = || vec![suppressed(high("c", "c.py"))];
        scan(db, tenant, &everywhere(), c()).await;
        scan(db, tenant, &everywhere(), vec![]).await;
        scan(db, tenant, &everywhere(), c()).await;
        let id = id_of(db, tenant, "c").await;
        assert!(shown(db, tenant).await.contains(&"c c.py dismissed new".to_owned()));
        assert_eq!(history(db, &[id]).await.unwrap().len(), 1, "{}", test.name);
    }
}

#[tokio::test]
async fn a_dismissal_ends_at_its_time() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let three = vec![high("a", "a.py"), high("b", "b.py"), high("c", "c.py")];
        let (first, _) = scan(db, tenant, &everywhere(), three).await;
        let at = now();
        for (name, expires_at) in [("a", Some(at + 10)), ("b", Some(at + 1_000)), ("c", None)] {
            let id = id_of(db, tenant, name).await;
            let reason = Some(Reason::AcceptedRisk);
            let said = Triage { status: Status::Dismissed, reason, comment: None, expires_at };
            let mut tx = db.begin().await.unwrap();
            let (owner, repository) = (tenant.owner, tenant.repository);
            assert!(triage(&mut tx, owner, repository, id, "ada", &said).await.unwrap());
            tx.commit().await.unwrap();
        }
        let row = get(db, tenant.owner, tenant.repository, id_of(db, tenant, "b").await).await;
        assert_eq!(row.unwrap().unwrap().dismissal_expires_at, Some(at + 1_000));
        assert_eq!(expire_dismissals(db, at).await.unwrap(), 0, "{}", test.name);
        let (x, y) = tokio::join!(expire_dismissals(db, at + 10), expire_dismissals(db, at + 10));
        assert_eq!(x.unwrap() + y.unwrap(), 1, "{}: once, however many sweep", test.name);
        let expected = ["a a.py open new", "b b.py dismissed new", "c c.py dismissed new"];
        assert_eq!(shown(db, tenant).await, expected, "{}", test.name);
        counters_agree(db, &first).await;
        let changes = history(db, &[id_of(db, tenant, "a").await]).await.unwrap();
        assert_eq!(changes.last().unwrap().reason.as_deref(), Some("expired"));
        // A dismissal with an end stays over a scan.
        let three = vec![high("a", "a.py"), high("b", "b.py"), high("c", "c.py")];
        scan(db, tenant, &everywhere(), three).await;
        assert_eq!(expire_dismissals(db, at + 1_000).await.unwrap(), 1, "{}", test.name);
    }
}

#[tokio::test]
async fn triage_is_for_the_owner() {
    for test in both().await {
        let db = &test.db;
        let ada = tenant(db).await;
        let eve = tenant(db).await;
        let other = repository_of(db, ada.owner).await;
        scan(db, ada, &everywhere(), vec![high("a", "a.py")]).await;
        let id = id_of(db, ada, "a").await;
        let said =
            Triage { status: Status::Confirmed, reason: None, comment: None, expires_at: None };
        for (owner, repository) in [
            (eve.owner, ada.repository),
            (eve.owner, eve.repository),
            (ada.owner, other.repository),
        ] {
            let mut tx = db.begin().await.unwrap();
            assert!(!triage(&mut tx, owner, repository, id, "eve", &said).await.unwrap());
            tx.commit().await.unwrap();
            assert!(get(db, owner, repository, id).await.unwrap().is_none(), "{}", test.name);
        }
        assert_eq!(shown(db, ada).await, ["a a.py open new"], "{}", test.name);
    }
}

/// Two scans of one repository that end at once, and triage in between.
#[tokio::test]
async fn counters_agree_whoever_writes_at_once() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let many = |from: usize| -> Vec<Finding> {
            (from..from + 700).map(|n| high(&format!("m{n}"), "a.py")).collect()
        };
        let (first, _) = scan(db, tenant, &everywhere(), many(0)).await;
        let id = id_of(db, tenant, "m3").await;
        let (x, y) = (queued(db, tenant, None).await, queued(db, tenant, None).await);
        let write = async |scan: &ScanRow, findings| {
            let mut tx = db.begin().await.unwrap();
            let got = merge(&mut tx, scan, &everywhere(), findings, |_| RULES).await.unwrap();
            scans::finish(&mut tx, scan.id, &Ending::Completed(got)).await.unwrap();
            tx.commit().await.unwrap();
        };
        tokio::join!(
            write(&x, many(100)),
            say(db, tenant, id, Status::Dismissed, Some(Reason::WontFix)),
            write(&y, many(200)),
            say(db, tenant, id, Status::Open, None),
        );
        counters_agree(db, &first).await;
    }
}
