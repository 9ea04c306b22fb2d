//! Findings over a socket: lists, filters, triage.

use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::api::scans::tests::{signed_in, started};
use crate::db::findings::{Coverage, merge};
use crate::db::scans::{self, Ending};
use crate::db::testing::Tenant;
use crate::scan::{
    Confidence, EngineKind, Finding, FlowStep, Location, PackageRef, RuleInfo, Severity, Span,
};

fn finding(n: usize, severity: Severity) -> Finding {
    let path = format!("src/f{}.py", n % 2);
    Finding {
        fingerprint: format!("{n:036}0000"),
        engine: EngineKind::Code,
        rule_id: "python/sql-injection".into(),
        title: "SQL injection".into(),
        message: "The query is built from the request.".into(),
        severity,
        confidence: Confidence::High,
        location: Location {
            path: path.clone(),
            span: Span { start_line: 3, start_column: 5, end_line: 3, end_column: 20 },
            commit: Some("c0ffee".into()),
            in_history: false,
        },
        other_locations: Vec::new(),
        snippet: "db.execute(q)".into(),
        symbol: "find".into(),
        flow: vec![FlowStep { path: Some(path), line: 2, column: 1, message: "read".into() }],
        package: (n == 0).then(|| PackageRef {
            ecosystem: "PyPI".into(),
            name: "x".into(),
            version: "1".into(),
            purl: "pkg:pypi/x@1".into(),
            fixed_in: None,
            advisory_ids: vec!["CVE-1".into()],
        }),
        priority: 50 + n as u8,
        suppressed: None,
    }
}

fn rule() -> RuleInfo {
    RuleInfo {
        id: "python/sql-injection".into(),
        engine: EngineKind::Code,
        title: "SQL injection".into(),
        description: "Whoever controls the query controls the data.".into(),
        remediation: "Bind values.".into(),
        severity: Severity::High,
        cwe: vec!["CWE-89".into()],
        owasp: vec!["A03:2021".into()],
        references: vec!["https://cwe.mitre.org/data/definitions/89.html".into()],
        aliases: Vec::new(),
    }
}

/// Five findings, one of each severity from worst to least.
async fn scanned(server: &TestServer, tenant: Tenant, token: &str) -> String {
    let id = started(server, tenant, token).await;
    let rule = rule();
    let findings = Severity::WORST_FIRST
        .into_iter()
        .enumerate()
        .map(|(n, severity)| finding(n, severity))
        .collect();
    let mut tx = server.app.db.begin().await.unwrap();
    let scan = scans::get(&mut tx, tenant.owner, id).await.unwrap().unwrap();
    let summary =
        merge(&mut tx, &scan, &Coverage::default(), findings, |_| Some(&rule)).await.unwrap();
    scans::finish(&mut tx, id, &Ending::Completed(summary)).await.unwrap();
    tx.commit().await.unwrap();
    id.to_string()
}

fn severities(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|f| f["severity"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_finding_is_shown_whole() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = scanned(&server, ada, &token).await;
        let path = format!("/v1/repositories/{}/findings", ada.repository);
        let (_, page) = server.get(&format!("{path}?severity=critical"), &token).await;
        let listed = &page["items"][0];
        let id = listed["id"].as_str().unwrap();
        let (status, shown) = server.get(&format!("{path}/{id}"), &token).await;
        assert_eq!((status, &shown), (200, listed), "{}", server.name);
        for (field, expected) in [
            ("repository_id", json!(ada.repository)),
            ("project_id", json!(ada.project)),
            (
                "description",
                json!(
                    "The query is built from the request.\n\n\
                     Whoever controls the query controls the data."
                ),
            ),
            ("status", json!("open")),
            ("state", json!("new")),
            (
                "location",
                json!({
                    "path": "src/f0.py", "start_line": 3, "start_column": 5, "end_line": 3,
                    "end_column": 20, "commit": "c0ffee", "in_history": false,
                }),
            ),
            ("cwe", json!(["CWE-89"])),
            ("remediation", json!("Bind values.")),
            ("flow", json!([{"path": "src/f0.py", "line": 2, "column": 1, "message": "read"}])),
            ("priority", json!(50)),
            ("first_seen_scan_id", json!(scan)),
            ("history", json!([])),
        ] {
            assert_eq!(shown[field], expected, "{}: {field}", server.name);
        }
        assert_eq!(shown["package"]["advisory_ids"], json!(["CVE-1"]), "{}", server.name);
    }
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = scanned(&server, ada, &token).await;
        let list = async |query: &str| {
            let path = format!("/v1/repositories/{}/findings{query}", ada.repository);
            let (status, page) = server.get(&path, &token).await;
            assert_eq!(status, 200, "{}: {query}: {page}", server.name);
            page
        };
        let table = [
            ("", vec!["info", "low", "medium", "high", "critical"]),
            ("?sort=-severity", vec!["critical", "high", "medium", "low", "info"]),
            ("?sort=-priority&limit=2", vec!["info", "low"]),
            ("?severity=high,low", vec!["low", "high"]),
            ("?severity=high&severity=low,%20info", vec!["info", "low", "high"]),
            ("?path=src/f1.py&status=open,confirmed", vec!["low", "high"]),
            ("?path=/src/*0.py&engine=code", vec!["info", "medium", "critical"]),
            ("?q=sql%20INJ&rule_id=python/sql-injection&severity=low", vec!["low"]),
            ("?state=fixed", vec![]),
            ("?engine=secrets,dependencies", vec![]),
        ];
        for (query, expected) in table {
            assert_eq!(severities(&list(query).await), expected, "{}: {query}", server.name);
        }
        let of_scan = list(&format!("?scan_id={scan}&state=new")).await;
        assert_eq!(severities(&of_scan).len(), 5, "{}", server.name);

        let mut got = Vec::new();
        let mut query = "?sort=severity&limit=2".to_owned();
        loop {
            let page = list(&query).await;
            got.extend(severities(&page).into_iter().map(str::to_owned));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            query = format!("?sort=severity&limit=2&cursor={cursor}");
        }
        assert_eq!(got, ["info", "low", "medium", "high", "critical"], "{}", server.name);
        let cursor = list("?sort=severity&limit=2").await["next_cursor"].clone();
        let cursor = cursor.as_str().unwrap();

        let (_, page) = server.get(&format!("/v1/projects/{}/findings", ada.project), &token).await;
        assert_eq!(severities(&page).len(), 5, "{}", server.name);
        assert_eq!(severities(&list("?rule_id=a,b&rule_id=c").await).len(), 0, "{}", server.name);
        let too_many: Vec<String> = (0..51).map(|n| format!("r{n}")).collect();
        for bad in [
            "severity=urgent".to_owned(),
            "status=closed".to_owned(),
            "state=gone".to_owned(),
            "engine=magic".to_owned(),
            "scan_id=1".to_owned(),
            "path=*a*a*a*a*a*a*a*a*a".to_owned(),
            "sort=name".to_owned(),
            "limit=0".to_owned(),
            "limit=x".to_owned(),
            "cursor=x".to_owned(),
            format!("sort=-severity&cursor={cursor}"),
            format!("q={}", "x".repeat(501)),
            format!("rule_id={}", too_many.join(",")),
            "q=%00".to_owned(),
            "color=red".to_owned(),
        ] {
            let path = format!("/v1/repositories/{}/findings?{bad}", ada.repository);
            let (status, problem) = server.get(&path, &token).await;
            assert_eq!(status, 422, "{}: {bad}: {problem}", server.name);
        }
    }
}

#[tokio::test]
async fn triage_is_kept_with_its_history() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (eve, eves) = signed_in(&server, "eve@example.org").await;
        scanned(&server, ada, &token).await;
        let list = format!("/v1/repositories/{}/findings", ada.repository);
        let (_, page) = server.get(&format!("{list}?severity=high"), &token).await;
        let id = page["items"][0]["id"].as_str().unwrap();
        let path = format!("{list}/{id}");
        let put = async |path: &str, token: &str, body: &Value| {
            answer(server.request(Method::PUT, path).bearer_auth(token).json(body)).await
        };
        let open = async || {
            let path = format!("/v1/repositories/{}", ada.repository);
            server.get(&path, &token).await.1["open_findings"]["high"].clone()
        };
        let past = "2020-01-01T00:00:00Z";
        for (body, field) in [
            (json!({"status": "dismissed"}), "reason"),
            (json!({"status": "dismissed", "reason": "inline"}), "reason"),
            (json!({"status": "dismissed", "reason": "boring"}), "reason"),
            (json!({"status": "open", "reason": "wont_fix"}), "reason"),
            (json!({"status": "fixed"}), "status"),
            (json!({"comment": "x"}), "status"),
            (json!({"status": "open", "comment": "x".repeat(2_001)}), "comment"),
            (json!({"status": "open", "comment": "a\u{1}b"}), "comment"),
            (json!({"status": "open", "expires_at": "2999-01-01T00:00:00Z"}), "expires_at"),
            (
                json!({"status": "dismissed", "reason": "wont_fix", "expires_at": past}),
                "expires_at",
            ),
            (json!({"status": "dismissed", "reason": "wont_fix", "expires_at": "x"}), "expires_at"),
            (json!({"status": "open", "severity": "low"}), "severity"),
        ] {
            let (status, problem) = put(&path, &token, &body).await;
            assert_eq!(status, 422, "{}: {body}: {problem}", server.name);
            let at = problem["errors"][0]["field"].as_str().unwrap_or_default();
            assert!(at == field || at == "body", "{}: {body}: {problem}", server.name);
        }
        assert_eq!(open().await, 1, "{}", server.name);

        let body = json!({
            "status": "dismissed", "reason": "accepted_risk", "comment": " behind a wall\n",
            "expires_at": "2999-01-01T00:00:00+01:00",
        });
        let (status, shown) = put(&path, &token, &body).await;
        assert_eq!((status, &shown["status"]), (200, &json!("dismissed")), "{}", server.name);
        assert_eq!(shown["expires_at"], "2998-12-31T23:00:00.000Z", "{}", server.name);
        assert_eq!(open().await, 0, "{}", server.name);
        let (_, shown) = put(&path, &token, &json!({"status": "confirmed"})).await;
        assert_eq!(shown["expires_at"], Value::Null, "{}", server.name);
        assert_eq!(open().await, 1, "{}", server.name);
        let history: Vec<Value> = shown["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| json!([h["by"], h["from"], h["to"], h["reason"], h["comment"]]))
            .collect();
        let expected = json!([
            ["ada@example.org", "open", "dismissed", "accepted_risk", "behind a wall"],
            ["ada@example.org", "dismissed", "confirmed", null, null],
        ]);
        assert_eq!(json!(history), expected, "{}", server.name);

        let confirmed = json!({"status": "confirmed"});
        let through_own = format!("/v1/repositories/{}/findings/{id}", eve.repository);
        for path in [&path, &through_own] {
            assert_eq!(put(path, &eves, &confirmed).await.0, 404, "{}: {path}", server.name);
            assert_eq!(server.get(path, &eves).await.0, 404, "{}: {path}", server.name);
        }
        for path in [list, format!("/v1/projects/{}/findings", ada.project)] {
            assert_eq!(server.get(&path, &eves).await.0, 404, "{}: {path}", server.name);
        }
    }
}

#[tokio::test]
async fn many_are_triaged_by_ids_or_by_filter() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (_, other) = signed_in(&server, "bob@example.org").await;
        scanned(&server, ada, &token).await;
        let base = format!("/v1/repositories/{}", ada.repository);
        let path = format!("{base}/findings/triage");
        let (_, page) = server.get(&format!("{base}/findings?sort=-severity"), &token).await;
        let ids: Vec<Value> =
            page["items"].as_array().unwrap().iter().map(|f| f["id"].clone()).collect();
        let open = async || server.get(&base, &token).await.1["open_findings"].clone();
        let unknown = uuid::Uuid::now_v7().to_string();

        let body = json!({
            "ids": [ids[0], ids[1], ids[1], unknown], "status": "dismissed",
            "reason": "false_positive", "comment": "checked by hand",
        });
        assert_eq!(server.post(&path, &other, &body).await.0, 404, "{}", server.name);
        let (status, done) = server.post(&path, &token, &body).await;
        let expected = json!({"updated": 2, "unchanged": 0, "not_found": [unknown]});
        assert_eq!((status, &done), (200, &expected), "{}", server.name);
        let (_, done) = server.post(&path, &token, &body).await;
        assert_eq!((&done["updated"], &done["unchanged"]), (&json!(0), &json!(2)));
        assert_eq!(
            open().await,
            json!({"critical": 0, "high": 0, "medium": 1, "low": 1, "info": 1}),
            "{}",
            server.name
        );
        let first = format!("{base}/findings/{}", ids[0].as_str().unwrap());
        let (_, shown) = server.get(&first, &token).await;
        assert_eq!(shown["history"].as_array().unwrap().len(), 1, "{}: {shown}", server.name);
        assert_eq!(shown["history"][0]["comment"], "checked by hand");
        assert_eq!(shown["history"][0]["by"], "ada@example.org");

        let body = json!({"filter": {"severity": ["medium", "low"]}, "status": "confirmed"});
        let (status, done) = server.post(&path, &token, &body).await;
        assert_eq!((status, &done["updated"]), (200, &json!(2)), "{}: {done}", server.name);
        let (_, page) = server.get(&format!("{base}/findings?status=confirmed"), &token).await;
        assert_eq!(severities(&page), ["low", "medium"], "{}", server.name);
        let body = json!({"filter": {"status": "dismissed"}, "status": "open"});
        let (_, done) = server.post(&path, &token, &body).await;
        assert_eq!(done["updated"], 2, "{}: {done}", server.name);
        assert_eq!(
            open().await,
            json!({"critical": 1, "high": 1, "medium": 1, "low": 1, "info": 1}),
            "{}",
            server.name
        );
        let events = format!("/v1/projects/{}/events?after=2", ada.project);
        let (_, events) = server.get(&events, &token).await;
        let counts: Vec<&Value> =
            events["items"].as_array().unwrap().iter().map(|e| &e["data"]["count"]).collect();
        assert_eq!(counts, [&json!(2), &json!(2), &json!(2)], "{}: {events}", server.name);

        for (body, field) in [
            (json!({"status": "open"}), "ids"),
            (json!({"ids": [ids[0]], "filter": {"q": "x"}, "status": "open"}), "ids"),
            (json!({"ids": [], "status": "open"}), "ids"),
            (json!({"ids": vec![&ids[0]; 1_001], "status": "open"}), "ids"),
            (json!({"ids": ["x"], "status": "open"}), "ids[0]"),
            (json!({"filter": {}, "status": "open"}), "filter"),
            (json!({"filter": {"severity": []}, "status": "open"}), "filter.severity"),
            (json!({"filter": {"severity": "awful"}, "status": "open"}), "filter.severity"),
            (json!({"filter": {"q": " "}, "status": "open"}), "filter.q"),
            (json!({"ids": [ids[0]], "status": "dismissed"}), "reason"),
        ] {
            let (status, problem) = server.post(&path, &token, &body).await;
            assert_eq!(status, 422, "{}: {body}: {problem}", server.name);
            assert_eq!(problem["errors"][0]["field"], field, "{}: {problem}", server.name);
        }
    }
}
