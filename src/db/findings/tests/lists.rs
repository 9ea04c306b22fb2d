//! Filters, orders and pages.

use super::*;

/// Twelve findings over which the filters and orders below are told apart.
async fn dozen(db: &Db, tenant: Tenant) -> ScanRow {
    let mut findings = Vec::new();
    for (n, severity) in Severity::WORST_FIRST.into_iter().cycle().take(12).enumerate() {
        let path = ["src/api/a.py", "src/api.py", "docs/100%_[x].md"][n % 3];
        let mut finding = finding(&format!("n{n:02}"), path, severity);
        finding.priority = (n % 4) as u8 * 10;
        if n == 5 {
            finding.engine = EngineKind::Secrets;
            finding.title = "Über den Wolken".into();
        }
        findings.push(finding);
    }
    scan(db, tenant, &everywhere(), findings).await.0
}

fn names(rows: &[FindingRow]) -> Vec<u32> {
    rows.iter().map(|row| row.rule_id.trim_start_matches("python/n").parse().unwrap()).collect()
}

#[tokio::test]
async fn filters_leave_what_they_say() {
    let paths = |list: &[&str]| Filter {
        path: list.iter().map(|p| (*p).to_owned()).collect(),
        ..Filter::default()
    };
    let q = |q: &str| Filter { q: Some(q.to_owned()), ..Filter::default() };
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        dozen(db, tenant).await;
        let dismissed = id_of(db, tenant, "n03").await;
        say(db, tenant, dismissed, Status::Dismissed, Some(Reason::WontFix)).await;
        let table: Vec<(Filter, Vec<u32>)> = vec![
            (Filter { severity: vec![Severity::Critical], ..Filter::default() }, vec![0, 5, 10]),
            (
                Filter { severity: vec![Severity::Critical, Severity::Info], ..Filter::default() },
                vec![0, 4, 5, 9, 10],
            ),
            (Filter { status: vec![Status::Dismissed], ..Filter::default() }, vec![3]),
            (Filter { state: vec![State::Fixed], ..Filter::default() }, vec![]),
            (Filter { engine: vec![EngineKind::Secrets], ..Filter::default() }, vec![5]),
            (Filter { rule_id: vec!["python/n07".into()], ..Filter::default() }, vec![7]),
            (paths(&["src/api"]), vec![0, 3, 6, 9]),
            (paths(&["src/api/"]), vec![0, 3, 6, 9]),
            (paths(&["src/api.py"]), vec![1, 4, 7, 10]),
            (paths(&["SRC"]), vec![]),
            (paths(&["src/*.py"]), vec![0, 1, 3, 4, 6, 7, 9, 10]),
            (paths(&["src/api?py", "docs"]), vec![1, 2, 4, 5, 7, 8, 10, 11]),
            (paths(&["docs/100%_[x]*"]), vec![2, 5, 8, 11]),
            (paths(&["docs/100_*"]), vec![]),
            (paths(&["docs/1%*"]), vec![]),
            (q("TITLE OF N0"), vec![0, 1, 2, 3, 4, 6, 7, 8, 9]),
            (q("100%_"), vec![2, 5, 8, 11]),
            (q("%"), vec![2, 5, 8, 11]),
            (q("den wolken"), vec![5]),
            (q("'; DROP TABLE findings; --"), vec![]),
            (
                Filter { severity: vec![Severity::High], path: vec!["src".into()], ..q("n") },
                vec![1, 6],
            ),
        ];
        for (filter, expected) in table {
            let scope = Scope::Repository(tenant.repository);
            for sort in ["created", "severity", "priority"].map(by) {
                let rows =
                    list(db, tenant.owner, scope, &filter, sort, None, 50).await.unwrap().rows;
                let mut got = names(&rows);
                got.sort_unstable();
                assert_eq!(got, expected, "{}: {filter:?} by {sort:?}", test.name);
            }
        }
    }
}

fn by(name: &str) -> Sort {
    let by = match name.trim_start_matches('-') {
        "severity" => SortBy::Severity,
        "priority" => SortBy::Priority,
        _ => SortBy::Created,
    };
    Sort { by, descending: name.starts_with('-') }
}

#[tokio::test]
async fn pages_of_every_order_neither_repeat_nor_skip() {
    let table: [(&str, [u32; 12]); 6] = [
        ("-created", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("created", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("-priority", [11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0]),
        ("priority", [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]),
        ("-severity", [10, 5, 0, 11, 6, 1, 7, 2, 8, 3, 9, 4]),
        ("severity", [4, 9, 3, 8, 2, 7, 1, 6, 11, 0, 5, 10]),
    ];
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        dozen(db, tenant).await;
        for scope in [Scope::Repository(tenant.repository), Scope::Project(tenant.project)] {
            for (name, expected) in table {
                let sort = by(name);
                let mut got = Vec::new();
                let mut after: Option<Key> = None;
                loop {
                    let filter = Filter::default();
                    let found = list(db, tenant.owner, scope, &filter, sort, after.as_ref(), 5)
                        .await
                        .unwrap();
                    got.extend(names(&found.rows));
                    match found.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
                assert_eq!(got, expected, "{}: {name}", test.name);
            }
            let nobody =
                list(db, new_id(), scope, &Filter::default(), by("created"), None, 5).await;
            assert!(nobody.unwrap().rows.is_empty(), "{}", test.name);
        }
    }
}

#[tokio::test]
async fn the_filter_scan_id_shows_what_that_scan_saw() {
    for test in both().await {
        let (db, tenant) = (&test.db, tenant(&test.db).await);
        let (first, _) =
            scan(db, tenant, &everywhere(), vec![high("n01", "a"), high("n02", "b")]).await;
        let (second, _) =
            scan(db, tenant, &everywhere(), vec![high("n02", "b"), high("n03", "c")]).await;
        let seen = async |scans: &[&ScanRow], state: &[State]| -> Vec<String> {
            let filter = Filter {
                scan_id: scans.iter().map(|scan| scan.id).collect(),
                state: state.to_vec(),
                ..Filter::default()
            };
            let scope = Scope::Repository(tenant.repository);
            let rows =
                list(db, tenant.owner, scope, &filter, by("created"), None, 50).await.unwrap().rows;
            rows.iter().map(|row| format!("{} {}", &row.rule_id[7..], row.state.as_str())).collect()
        };
        assert_eq!(seen(&[&first], &[]).await, ["n01 new", "n02 new"], "{}", test.name);
        let both = ["n01 fixed", "n02 unchanged", "n03 new"];
        assert_eq!(seen(&[&second], &[]).await, both, "{}", test.name);
        assert_eq!(seen(&[&first, &second], &[]).await, both, "{}", test.name);
        assert_eq!(seen(&[&second], &[State::New]).await, ["n03 new"], "{}", test.name);
        assert_eq!(seen(&[&first], &[State::Fixed]).await, [""; 0], "{}", test.name);
    }
}
