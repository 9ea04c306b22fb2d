//! What operators do: readiness, backup and restore, the bill, the clean-up.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::server::files_below;
use crate::support::{Client, Git, Place, samples, until};

on_both!(a_push_and_its_scan_are_on_the_bill);

async fn a_push_and_its_scan_are_on_the_bill(mut place: Place) {
    place.set("SLUICE_PRICE_SCAN", "0.25").set("SLUICE_CURRENCY", "EUR");
    let server = place.start().await;
    let client = server.admin().await;
    let project = client.post("/v1/projects", json!({"name": "Shop"})).await.expect(201).json();
    let made = client.upload(json!({"project_id": project["id"]})).await;
    let work = samples::small(&Git::any()).await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    let (upload, scan) = client.scanned(&text(&made["id"])).await;

    let summary = async || client.get("/v1/billing/summary").await.expect(200).json();
    let bill = summary().await;
    let totals = &bill["totals"];
    assert_eq!((&totals["pushes"], &totals["scans"]), (&json!(1), &json!(1)), "{bill}");
    assert_eq!(totals["bytes_received"], upload["bytes_received"], "{bill}");
    assert_eq!(totals["files_scanned"], scan["progress"]["files_total"], "{bill} {scan}");
    assert!(totals["scan_cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{bill}");
    assert_eq!((&bill["cost"]["total"], &bill["currency"]), (&json!("0.25"), &json!("EUR")));
    assert_eq!(bill["projects"][0]["name"], "Shop");
    let kept = until("something is kept", async || {
        summary().await["totals"]["storage_byte_hours"].as_u64().filter(|hours| *hours > 0)
    })
    .await;

    // The project goes, what it cost stays, and costs no more.
    client.delete(&format!("/v1/projects/{}", text(&project["id"]))).await.expect(204);
    let after = summary().await;
    assert_eq!(after["projects"][0]["name"], "Shop", "{after}");
    let ended = &after["totals"]["storage_byte_hours"];
    assert!(ended.as_u64().is_some_and(|hours| hours >= kept));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(&summary().await["totals"]["storage_byte_hours"], ended, "it went on to count");

    let metrics = server.metrics().await;
    for line in [
        r#"sluice_pushes_total{outcome="accepted",reason=""} 1"#,
        r#"sluice_scans_total{status="completed"} 1"#,
        r#"sluice_jobs_total{kind="scan",outcome="done"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains(&text(&upload["id"])), "no ids in metrics");
    let workers = client.get("/v1/ops/workers").await.expect(200).json();
    assert_eq!(workers["items"][0]["status"], "alive", "{workers}");
}

/// What a worker does no server knows, so it is asked itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_of_itself() {
    let place = Place::postgres().await;
    let server = place.start_with(&["--no-worker"]).await;
    let worker = place.start_worker("worker").await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let work = samples::small(&Git::any()).await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    client.scanned(&text(&made["id"])).await;
    let nobody = worker.anonymous();
    nobody.get("/v1/healthz").await.expect(200);
    let ready = nobody.get("/v1/readyz").await.expect(200).json();
    assert_eq!(ready["checks"]["storage"]["status"], "ok", "{ready}");
    let line = r#"sluice_scans_total{status="completed"} 1"#;
    until("the worker has counted it", async || {
        worker.metrics().await.lines().any(|found| found == line).then_some(())
    })
    .await;
    assert!(!server.metrics().await.lines().any(|found| found == line));
    // It serves nothing else, and has its data folder for itself.
    nobody.get("/v1/auth/me").await.expect(404);
    nobody.get("/git/x.git/info/refs?service=git-upload-pack").await.expect(404);
    let mut second = place.command(&["worker"]);
    let folder = place.dir.path().join("worker");
    let second = second.env("SLUICE_DATA_DIR", folder).output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains("another sluice uses the folder"), "{said}");

    worker.terminate();
    let mut worker = worker;
    assert_eq!(worker.ended().await.0, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_what_is_wrong_within_two_seconds() {
    let place = Place::sqlite();
    let server = place.start().await;
    let nobody = server.anonymous();
    let ready = async |wanted: u16| -> Value {
        until("readiness changes", async || {
            let started = Instant::now();
            let answer = nobody.get("/v1/readyz").await;
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
            (answer.status.as_u16() == wanted).then(|| answer.json())
        })
        .await
    };
    ready(200).await;

    // The storage is away.
    let objects = place.data().join("objects");
    let away = place.data().join("objects-away");
    std::fs::rename(&objects, &away).expect("renamed");
    let answer = ready(503).await;
    assert_eq!(answer["checks"]["storage"]["status"], "error", "{answer}");
    assert_eq!(answer["checks"]["database"]["status"], "ok", "{answer}");
    let said = text(&answer["checks"]["storage"]["error"]);
    assert!(!said.contains('/'), "no path for everybody: {said}");
    let _ = std::fs::remove_dir_all(&objects);
    std::fs::rename(&away, &objects).expect("renamed back");
    ready(200).await;

    // Somebody else holds the lock of the database.
    let url = format!("sqlite://{}", place.data().join("sluice.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("the database");
    let mut conn = pool.acquire().await.expect("a connection");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await.expect("the lock");
    let answer = ready(503).await;
    assert_eq!(answer["checks"]["database"]["status"], "error", "{answer}");
    assert_eq!(answer["checks"]["storage"]["status"], "ok", "{answer}");
    nobody.get("/v1/healthz").await.expect(200);
    sqlx::query("ROLLBACK").execute(&mut *conn).await.expect("given back");
    ready(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_pushes_come_restores_to_a_server_that_serves() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({"name": "shop"})).await;
    let (id, push_url) = (text(&made["id"]), text(&made["push_url"]));
    let work = samples::small(&Git::any()).await;
    work.push(&push_url, &["main"]).await.expect();
    let (upload, scan) = client.scanned(&id).await;
    let (repository, scan_id) = (text(&upload["repository_id"]), text(&scan["id"]));
    let findings = client.findings(&repository).await;
    let acknowledged = work.head().await;

    // Others push on and on, and delete.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let work = samples::small(&Git::any()).await;
            let mut pushes = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let project = client.post("/v1/projects", json!({"name": "p"})).await;
                let project = project.expect(201).json();
                let made = client.upload(json!({"project_id": project["id"]})).await;
                work.write("more.txt", format!("{pushes}\n"));
                work.commit("more").await;
                work.push(&text(&made["push_url"]), &["main"]).await.expect();
                pushes += 1;
                if pushes % 2 == 0 {
                    let path = format!("/v1/projects/{}", text(&project["id"]));
                    client.delete(&path).await.expect(204);
                }
            }
            pushes
        })
    };
    until("pushes come", async || {
        let uploads = client.get("/v1/git-uploads").await.json();
        (uploads["items"].as_array().is_some_and(|items| items.len() > 1)).then_some(())
    })
    .await;
    let backup = place.dir.path().join("backup");
    let backup_dir = backup.to_str().expect("UTF-8");
    // It was there, open to all: what is copied is not.
    std::fs::create_dir(&backup).expect("a folder");
    let done = place.run(&["backup", backup_dir], "").await;
    let mode = std::fs::metadata(&backup).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(done.code, Some(0), "{done:?}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(busy.await.expect("pushes") > 0);
    let again = place.run(&["backup", backup_dir], "").await;
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.err.contains("not empty"), "{}", again.err);

    // Not over anything, not if it is newer, damaged or not complete.
    let refused = place.run(&["restore", backup_dir], "").await;
    assert!(refused.code == Some(2) && refused.err.contains("not empty"), "{refused:?}");
    let mut other = Place::sqlite();
    let manifest = backup.join("manifest.json");
    let whole = std::fs::read_to_string(&manifest).expect("a manifest");
    let newer = whole.replace("\"schema\": ", "\"schema\": 9");
    assert_ne!(newer, whole);
    std::fs::write(&manifest, newer).expect("written");
    let refused = other.run(&["restore", backup_dir], "").await;
    assert!(refused.code == Some(2) && refused.err.contains("newer"), "{refused:?}");
    std::fs::remove_file(&manifest).expect("removed");
    let refused = other.run(&["restore", backup_dir], "").await;
    assert!(refused.code == Some(2) && refused.err.contains("no complete backup"), "{refused:?}");
    std::fs::write(&manifest, &whole).expect("written");
    let key = backup.join("jwt.key");
    let secret = std::fs::read(&key).expect("a secret");
    std::fs::write(&key, b"another secret that is long enough, too\n").expect("written");
    let refused = other.run(&["restore", backup_dir], "").await;
    assert!(refused.code == Some(2) && refused.err.contains("jwt.key is damaged"), "{refused:?}");
    std::fs::write(&key, secret).expect("written");
    assert!(!other.data().exists(), "a refusal leaves nothing");
    let left: Vec<_> = std::fs::read_dir(other.dir.path()).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");

    let restored = other.run(&["restore", backup_dir], "").await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let first_answer = server.anonymous().get("/v1/readyz").await.status;
    assert_eq!(first_answer, 200, "the server served all along");
    server.kill();
    other.unset("SLUICE_ADMIN_PASSWORD");
    let server = other.start().await;
    assert!(!server.log().contains("created the account"), "{}", server.log());
    let client = server.admin().await;
    let now = client.get(&format!("/v1/git-uploads/{id}")).await.expect(200).json();
    assert_eq!(now["refs"], json!([{"name": "refs/heads/main", "oid": acknowledged}]));
    assert_eq!(client.findings(&repository).await, findings);
    let base = format!("/v1/repositories/{repository}");
    let read = client.get(&format!("{base}/source-files/service/users.py")).await.expect(200);
    assert_eq!(read.text(), samples::injectable("users"));
    let again = client.get(&format!("{base}/scans/{scan_id}")).await.expect(200).json();
    for artifact in again["artifacts"].as_array().expect("artefacts") {
        let path = text(&artifact["url"]);
        let path = path.find("/v1/").map_or(path.as_str(), |at| &path[at..]);
        let bytes = client.get(path).await.expect(200).body;
        assert_eq!(bytes.len() as u64, artifact["size"].as_u64().expect("a size"));
    }
    // Everything else that is in it is whole too: each acknowledged push is ingested.
    for upload in client.all("/v1/git-uploads").await {
        if upload["pushes"].as_u64() > Some(0) {
            let upload = client.ingested(&text(&upload["id"])).await;
            assert_eq!(upload["status"], "ready", "{upload}");
        }
    }
    // The remote goes on where it was.
    work.write("late.txt", "late\n");
    work.commit("late").await;
    let onward = push_url.replace(&place_address(&push_url), &server.address[7..]);
    work.push(&onward, &["main"]).await.expect();
}

/// `HOST:PORT` of a push URL.
fn place_address(push_url: &str) -> String {
    let (_, rest) = push_url.split_once('@').expect("a user");
    rest.split('/').next().expect("a host").to_owned()
}

/// An archive that was taken and waits for its ingest is named by its job alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_archives_that_wait() {
    let place = Place::sqlite();
    let server = place.start_with(&["--no-worker"]).await;
    let client = server.admin().await;
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    let path = format!("/v1/projects/{}/repositories", text(&project["id"]));
    let sent = samples::form(client.request(reqwest::Method::POST, &path));
    let made = Client::send(sent).await.expect(201).json();
    let backup = |name: &str| place.dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let done = place.run(&["backup", &backup("whole")], "").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let archives = format!("objects/archives/{}", text(&made["id"]));
    assert_eq!(files_below(&place.dir.path().join("whole").join(&archives)).len(), 1);
    // Without it there is no whole backup, and none is claimed.
    for file in files_below(&place.data().join(&archives)) {
        std::fs::remove_file(file).expect("removed");
    }
    let refused = place.run(&["backup", &backup("part")], "").await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("is missing in storage"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_for_the_embedded_run() {
    let place = Place::postgres().await;
    let target = place.dir.path().join("backup");
    for command in ["backup", "restore"] {
        let refused = place.run(&[command, target.to_str().expect("UTF-8")], "").await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains("pg_dump"), "{}", refused.err);
    }
    assert!(!target.exists());
}
