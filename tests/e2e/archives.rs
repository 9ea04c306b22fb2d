//! Archives: sent as a form, read, scanned; hostile ones are refused with a sentence.

use reqwest::Method;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples, until};

on_both!(
    a_git_in_an_archive_is_its_history,
    archives_from_form_to_findings,
    refused_archives_say_why,
    sessions_to_the_end
);

const BOUNDARY: &str = "form-of-a-test";

/// Sends a form with a file and perhaps more fields.
pub async fn send(client: &Client, path: &str, file: &[u8], fields: &[(&str, &str)]) -> Value {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .as_bytes(),
        );
    }
    body.extend_from_slice(
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n"
        )
        .as_bytes(),
    );
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let request = client
        .request(Method::POST, path)
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(body);
    Client::send(request).await.expect(201).json()
}

async fn repositories(client: &Client) -> String {
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    format!("/v1/projects/{}/repositories", text(&project["id"]))
}

/// The repository once it was read and, if it is scanned, scanned.
pub async fn settled(client: &Client, made: &Value) -> Value {
    let path = format!("/v1/repositories/{}", text(&made["id"]));
    until("the archive is read and scanned", async || {
        let now = client.get(&path).await.expect(200).json();
        let scanned = matches!(
            now["last_scan"]["status"].as_str(),
            Some("completed" | "failed" | "cancelled")
        );
        (now["ingest_status"] == "failed" || scanned).then_some(now)
    })
    .await
}

async fn archives_from_form_to_findings(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let path = repositories(&client).await;
    let git = Git::any();
    let work = samples::small(&git).await;
    let head = work.head().await;
    let files =
        work.run(&["archive", "--format=tar.gz", "--prefix=shop-1/", "-o", "../plain.tgz", "HEAD"]);
    files.await.expect();
    let plain =
        std::fs::read(work.path().parent().expect("a folder").join("plain.tgz")).expect("made");
    let made = send(&client, &path, &plain, &[("name", "plain")]).await;
    let ready = settled(&client, &made).await;
    assert_eq!(ready["ingest_status"], "ready", "{ready}");
    assert_eq!(ready["head_commit"], json!(head), "as git wrote it into the archive");
    assert_eq!(ready["default_branch"], json!(null));
    let found = client.findings(&text(&ready["id"])).await;
    assert!(!found.is_empty(), "{ready}");
    let of_push = {
        let upload = client.upload(json!({})).await;
        work.push(&text(&upload["push_url"]), &["HEAD:main"]).await.expect();
        let (upload, _) = client.scanned(&text(&upload["id"])).await;
        client.findings(&text(&upload["repository_id"])).await
    };
    let key = |all: &[Value]| {
        let mut keys: Vec<String> = all
            .iter()
            .filter(|f| f["location"]["in_history"] == false)
            .map(|f| format!("{} {}", f["rule_id"], f["location"]["path"]))
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(key(&found), key(&of_push), "the same code has the same findings");

    // Nothing of the archive stays but its snapshot.
    until("the archive is removed", async || place.stored("archives").is_empty().then_some(()))
        .await;
}

async fn a_git_in_an_archive_is_its_history(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let path = repositories(&client).await;
    let work = samples::small(&Git::any()).await;
    work.write("old.env", samples::env_file("removed long ago"));
    work.commit("a secret").await;
    std::fs::remove_file(work.path().join("old.env")).expect("removed");
    let head = work.commit("no secret").await;
    work.write("uncommitted.env", samples::env_file("never committed"));
    let folder = work.path().parent().expect("a folder");
    let name = work.path().file_name().expect("a name").to_string_lossy().into_owned();
    let file = folder.join(format!("{name}.tar.xz"));
    let made = std::process::Command::new("tar")
        .args(["-cJf".as_ref(), file.as_os_str(), name.as_ref()])
        .current_dir(folder)
        .status();
    assert!(made.expect("tar").success());
    let archive = std::fs::read(&file).expect("made");
    std::fs::remove_file(file).expect("removed");
    let made = send(&client, &path, &archive, &[]).await;
    let ready = settled(&client, &made).await;
    assert_eq!(ready["head_commit"], json!(head), "{ready}");
    assert_eq!(ready["snapshot"]["commit"], json!(head));
    let found = client.findings(&text(&ready["id"])).await;
    let paths: Vec<(String, bool)> = found
        .iter()
        .map(|f| (text(&f["location"]["path"]), f["location"]["in_history"] == true))
        .collect();
    assert!(paths.contains(&("old.env".to_owned(), true)), "{paths:?}");
    assert!(!paths.iter().any(|(path, _)| path == "uncommitted.env"), "{paths:?}");
    // Who scans again, with the history, finds it there.
    let base = format!("/v1/repositories/{}", text(&ready["id"]));
    let again = client.post(&format!("{base}/scans"), json!({"history": true})).await.expect(201);
    let scan = client.ended(&text(&ready["id"]), &text(&again.json()["id"])).await;
    assert_eq!(scan["summary"]["fixed"], 0, "{scan}");
    assert_eq!(scan["summary"]["new"], 0, "{scan}");
    let uploads = client.get("/v1/git-uploads/").await.expect(200).json();
    assert_eq!(uploads["items"], json!([]), "no remote is shown that was never one");
    assert_eq!(client.delete(&base).await.expect(204).text(), "");
    until("the packs are removed", async || place.stored("packs").is_empty().then_some(())).await;
}

async fn refused_archives_say_why(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let path = repositories(&client).await;
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..11].copy_from_slice(b"../evil.txt");
    header.set_size(0);
    header.set_cksum();
    let hostile = [header.as_bytes().to_vec(), vec![0; 1024]].concat();
    let made = send(&client, &path, &hostile, &[]).await;
    let failed = settled(&client, &made).await;
    assert_eq!(failed["ingest_status"], "failed");
    assert_eq!(failed["ingest_error"]["code"], "path_traversal");
    let message = text(&failed["ingest_error"]["message"]);
    assert!(message.ends_with('.') && message.contains("evil.txt"), "{message}");
    // It is dropped behind the commit that tells of the failure.
    until("the archive is dropped", async || place.stored("archives").is_empty().then_some(()))
        .await;

    // So is a push whose tree cannot be one; for the operator nothing is wrong.
    let made = client.upload(json!({"ref": "refs/tags/blob"})).await;
    let work = Work::new(&Git::any()).await;
    work.write("long", "x");
    work.commit("a blob").await;
    let blob = work.run(&["rev-parse", "HEAD:long"]).await.expect().out.trim().to_owned();
    work.run(&["update-ref", "refs/tags/blob", &blob]).await.expect();
    work.push(&text(&made["push_url"]), &["refs/tags/blob"]).await.expect();
    let failed = client.ingested(&text(&made["id"])).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("failed"), &json!("not_a_commit"))
    );
    let message = text(&failed["error"]["message"]);
    assert!(message.starts_with("The head") && message.ends_with('.'), "{message}");
    let figures = client.get("/metrics").await.expect(200).text();
    assert!(figures.contains("sluice_jobs_dead{kind=\"ingest\"} 0"), "{figures}");
}

async fn sessions_to_the_end(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let work = samples::small(&Git::any()).await;
    work.run(&["archive", "--format=zip", "-o", "../plain.zip", "HEAD"]).await.expect();
    let zip =
        std::fs::read(work.path().parent().expect("a folder").join("plain.zip")).expect("made");
    let session = send(&client, "/v1/sessions/", &zip, &[]).await;
    assert_eq!(session["status"], "uploaded");
    let path = format!("/v1/sessions/{}", text(&session["id"]));
    let begun = client.post(&format!("{path}/analyze"), json!({})).await.expect(202).json();
    assert!(["analyzing", "completed"].contains(&text(&begun["status"]).as_str()), "{begun}");
    let done = until("the session ends", async || {
        let now = client.get(&path).await.expect(200).json();
        (now["status"] != "analyzing").then_some(now)
    })
    .await;
    assert_eq!(done["status"], "completed", "{done}");
    let events = client.get(&format!("{path}/events?limit=200")).await.expect(200).json();
    assert!(events["items"].as_array().is_some_and(|items| items.len() > 1), "{events}");
    let scan = client
        .get(&format!("/v1/repositories/{}/scans/{}", text(&done["id"]), text(&done["scan_id"])))
        .await
        .expect(200)
        .json();
    assert_eq!(scan["trigger"], "session");
}
