//! Start, configuration, and the commands beside `serve`.

use std::time::Duration;

use serde_json::json;

use crate::on_both;
use crate::support::{Place, until};

on_both!(commands_beside_a_server);

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_a_password_once() {
    let mut place = Place::sqlite();
    place.unset("SLUICE_ADMIN_PASSWORD");
    let server = place.start().await;
    let mark = "created the account admin@localhost with the password ";
    let log = server.log();
    assert_eq!(log.matches(mark).count(), 1, "{log}");
    let (_, rest) = log.split_once(mark).expect("the line");
    let password = rest.split_whitespace().next().expect("a password").to_owned();
    assert!(password.len() >= 16 && log.matches(&password).count() == 1);
    assert!(!server.out().contains(&password));
    let client = server.anonymous().sign_in("admin@localhost", &password).await;
    client.get("/v1/auth/me").await.expect(200);
    server.kill();

    let server = place.start().await;
    assert!(!server.log().contains("password"), "{}", server.log());
    // The signing secret was kept, so whoever is signed in stays so.
    let again = server.anonymous().with_token(&client.token.expect("a token"));
    again.get("/v1/auth/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configuration_stops_the_start_by_name() {
    for (key, value, says) in [
        ("SLUICE_LISTENN", ":0", "SLUICE_LISTENN"),
        ("SLUICE_WORKERS", "many", "SLUICE_WORKERS"),
        ("SLUICE_LIMIT_PUSH_BYTES", "1.5", "SLUICE_LIMIT_PUSH_BYTES"),
        ("SLUICE_DATABASE_URL", "mysql://localhost/x", "SLUICE_DATABASE_URL"),
        ("SLUICE_DATABASE_URL", "postgres://127.0.0.1/x", "SLUICE_JWT_SECRET"),
        ("SLUICE_LOG_FORMAT", "xml", "SLUICE_LOG_FORMAT"),
        ("SLUICE_QUEUE", "sqs://jobs", "SLUICE_DATABASE_URL"),
    ] {
        let mut place = Place::sqlite();
        place.set(key, value);
        let ended = place.run(&["serve"], "").await;
        assert_eq!(ended.code, Some(2), "{key}={value}: {ended:?}");
        assert!(ended.err.contains(says), "{key}={value}: {}", ended.err);
        assert_eq!(ended.err.trim_end().lines().count(), 1, "{}", ended.err);
        assert_eq!(ended.out, "");
        assert!(!place.data().exists(), "{key}={value} touched the disk");
    }
    let place = Place::sqlite();
    let file = place.dir.path().join("sluice.toml");
    std::fs::write(&file, "workers = 1\nwrokers = 2\n").expect("a file");
    let ended = place.run(&["serve", "--config", "sluice.toml"], "").await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("SLUICE_WROKERS"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_has_one_server() {
    let place = Place::sqlite();
    let server = place.start().await;
    let second = place.run(&["serve"], "").await;
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.err.contains("another sluice uses the folder"), "{}", second.err);
    server.admin().await.get("/v1/auth/me").await.expect(200);
    server.kill();
    place.start().await;
}

async fn commands_beside_a_server(place: Place) {
    let migrated = place.run(&["migrate"], "").await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let checked = place.run(&["check"], "").await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for part in ["configuration", "database", "storage", "queue"] {
        let line = checked.out.lines().find(|line| line.starts_with(part));
        assert!(line.is_some_and(|line| line.contains("ok")), "{}", checked.out);
    }

    let server = place.start_with(&["--no-migrate"]).await;
    let nobody = server.anonymous();
    nobody.get("/v1/healthz").await.expect(200);
    let ready = nobody.get("/v1/readyz").await.expect(200).json();
    assert_eq!(ready["status"], "ready");
    for part in ["database", "storage", "queue"] {
        assert_eq!(ready["checks"][part]["status"], "ok", "{ready}");
    }

    // Cheap enough for the health check of a container.
    let at = nobody.base.strip_prefix("http://").expect("http");
    let lives = place.run(&["check", "--live", "--listen", at], "").await;
    assert_eq!(lives.code, Some(0), "{lives:?}");
    let gone = place.run(&["check", "--live", "--listen", "127.0.0.1:1"], "").await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.out.contains("does not answer"), "{gone:?}");

    let email = "eve@example.org";
    let added = place.run(&["user", "add", email, "--password-stdin"], "a long password\n").await;
    assert_eq!(added.code, Some(0), "{added:?}");
    assert!(!added.out.contains("a long password"));
    let twice = place.run(&["user", "add", email, "--password-stdin"], "a long password\n").await;
    assert_eq!(twice.code, Some(2), "{twice:?}");
    assert!(twice.err.contains("already"), "{}", twice.err);
    let eve = nobody.sign_in(email, "a long password").await;
    assert_eq!(eve.get("/v1/auth/me").await.expect(200).json()["groups"], json!([]));
    let listed = place.run(&["user", "list"], "").await;
    assert!(listed.out.contains(email) && listed.out.contains("admin@localhost"));

    let changed = place.run(&["user", "passwd", email, "--password-stdin"], "another one\n").await;
    assert_eq!(changed.code, Some(0), "{changed:?}");
    // The server remembers for a second who calls, and hears nothing of this process.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    eve.get("/v1/auth/me").await.problem(401, "unauthorized");
    let old = json!({"email": email, "password": "a long password"});
    nobody.post("/v1/auth/login", old).await.problem(401, "unauthorized");
    let eve = nobody.sign_in(email, "another one").await;
    let key = eve.post("/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
    let by_key = nobody.with_token(key["key"].as_str().expect("a key"));
    by_key.get("/v1/auth/me").await.expect(200);
    let disabled = place.run(&["user", "disable", email], "").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(disabled.code, Some(0), "{disabled:?}");
    for client in [&eve, &by_key] {
        client.get("/v1/auth/me").await.problem(401, "unauthorized");
    }
    let body = json!({"email": email, "password": "another one"});
    nobody.post("/v1/auth/login", body).await.problem(401, "unauthorized");
    let missing = place.run(&["user", "disable", "nobody@example.org"], "").await;
    assert_eq!(missing.code, Some(2), "{missing:?}");

    let mut server = server;
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    until("nobody listens", async || (!nobody.reachable().await).then_some(())).await;
}
