use serde_json::json;

use crate::accounts::testing::{TestServer, both};
use crate::billing::decimal::Price;
use crate::db::usage::{self, Event, Kind};
use crate::db::{self, new_id};

async fn used(server: &TestServer, owner: uuid::Uuid, project: uuid::Uuid) {
    let mut tx = server.app.db.begin().await.unwrap();
    let event = Event {
        subject_id: new_id(),
        owner_id: owner,
        project_id: project,
        at: db::now(),
        quantities: &[
            (Kind::Pushes, 1),
            (Kind::BytesReceived, 1_500_000_000),
            (Kind::Scans, 1),
            (Kind::ScanCpuMs, 1_234),
            (Kind::FilesScanned, 42),
        ],
    };
    usage::record(&mut tx, &event).await.unwrap();
    tx.commit().await.unwrap();
}

async fn project(server: &TestServer, token: &str, name: &str) -> String {
    let (status, body) = server.post("/v1/projects", token, &json!({"name": name})).await;
    assert_eq!(status, 201, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_summary_names_what_was_used_and_what_it_costs() {
    for db in db::testing::both().await {
        let change = |config: &mut crate::config::Config| {
            config.prices.currency = "EUR".to_owned();
            config.prices.unit[1] = Price::parse("0.1").unwrap();
            config.prices.unit[4] = Price::parse("0.05").unwrap();
        };
        let server = TestServer::start(db, change, axum::Router::new()).await;
        let name = server.name;
        let ada = server.user("ada@example.org").await;
        server.user("eve@example.org").await;
        let (token, _) = server.login("ada@example.org").await;
        let (eve, _) = server.login("eve@example.org").await;
        let (shop, lab) =
            (project(&server, &token, "shop").await, project(&server, &token, "lab").await);
        for id in [&shop, &shop, &lab] {
            used(&server, ada, id.parse().unwrap()).await;
        }

        let (status, body) = server.get("/v1/billing/summary", &token).await;
        assert_eq!(status, 200, "{name}: {body}");
        assert_eq!(body["currency"], "EUR");
        assert_eq!(
            body["totals"],
            json!({
                "pushes": 3, "bytes_received": 4_500_000_000_u64, "storage_byte_hours": 0,
                "scans": 3, "scan_cpu_seconds": 3.702, "files_scanned": 126
            })
        );
        assert_eq!(body["cost"]["total"], "0.6351", "0.1 × 4.5 + 0.05 × 3.702");
        let lines = body["cost"]["lines"].as_array().unwrap();
        assert_eq!(lines.len(), 6);
        assert_eq!(
            lines[1],
            json!({"item": "bytes_received", "quantity": "4.5", "unit": "GB",
                   "unit_price": "0.10", "amount": "0.45"})
        );
        let mut names: Vec<(&str, &str)> = body["projects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["name"].as_str().unwrap(), p["amount"].as_str().unwrap()))
            .collect();
        names.sort_unstable();
        assert_eq!(names, [("lab", "0.2117"), ("shop", "0.4234")], "{name}");
        let from = body["period"]["from"].as_str().unwrap();
        assert!(from.ends_with("-01T00:00:00.000Z"), "{from}");
        let days = body["daily"].as_array().unwrap();
        assert!(days[0]["date"].as_str().unwrap().ends_with("-01"), "{days:?}");
        assert_eq!(days.last().unwrap()["totals"]["pushes"], 3);

        // One project, also after it is gone; never somebody else's.
        let one = format!("/v1/billing/summary?project_id={shop}");
        assert_eq!(server.get(&one, &token).await.1["totals"]["pushes"], 2);
        assert_eq!(server.get(&one, &eve).await.0, 404);
        let url = format!("/v1/projects/{shop}");
        let deleted = server.request(reqwest::Method::DELETE, &url).bearer_auth(&token);
        assert_eq!(deleted.send().await.unwrap().status(), 204);
        let (status, body) = server.get(&one, &token).await;
        assert_eq!((status, &body["projects"][0]["name"]), (200, &json!("shop")), "{name}");
        assert_eq!(server.get(&one, &eve).await.0, 404);
        let nobody = server.get("/v1/billing/summary", &eve).await.1;
        assert_eq!((&nobody["totals"]["pushes"], &nobody["projects"]), (&json!(0), &json!([])));
    }
}

#[tokio::test]
async fn a_period_is_bounded() {
    for server in both().await {
        server.user("ada@example.org").await;
        let (token, _) = server.login("ada@example.org").await;
        let get =
            async |query: &str| server.get(&format!("/v1/billing/summary?{query}"), &token).await;
        for good in [
            "from=2026-01-01&to=2026-02-01",
            "from=2024-01-01&to=2025-01-01",
            "from=2026-01-01T12:00:00Z&to=2026-01-01T12:00:01.9Z",
            "from=2026-01-01T12:00:00%2B02:00&to=2026-01-02",
            "to=1970-01-02",
            "to=9998-12-31",
        ] {
            let (status, body) = get(good).await;
            assert_eq!(status, 200, "{good}: {body}");
        }
        let (_, body) = get("to=2099-03-01").await;
        assert_eq!(body["period"]["from"], "2099-02-01T00:00:00.000Z", "{body}");
        assert_eq!(body["daily"], json!([]), "nothing of the future: {body}");
        for (bad, field) in [
            ("from=yesterday", "from"),
            ("to=2026-13-01", "to"),
            ("to=2026-02-30", "to"),
            ("from=2026-01-01&to=2026-01-01", "from"),
            ("from=2026-02-01&to=2026-01-01", "from"),
            ("from=2024-01-01&to=2025-01-02", "from"),
            ("from=9000-01-01", "from"),
            ("to=1969-12-31", "to"),
            ("to=9999-01-01", "to"),
            ("from=", "from"),
            ("project_id=x", "project_id"),
            ("until=2026-01-01", "until"),
        ] {
            let (status, body) = get(bad).await;
            assert_eq!(status, 422, "{bad}: {body}");
            let named = body["errors"][0]["field"].as_str().unwrap_or_default().to_owned()
                + body["errors"][0]["message"].as_str().unwrap_or_default();
            assert!(named.contains(field), "{bad}: {body}");
        }
        assert_eq!(server.get("/v1/billing/summary", "wrong").await.0, 401);
    }
}
