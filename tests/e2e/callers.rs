//! Every operation of the API by every kind of caller.
//!
//! The operations are those of the OpenAPI document that the server itself gives:
//! one without a row in [`TABLE`] fails the test, and so does a row without an
//! operation. Each refusal is tried with a request that would be served if its owner
//! sent it, so that nothing but the caller can be the reason.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Answer, Client, Git, Place, samples};

on_both!(every_operation_by_every_caller);

/// Who may.
#[derive(Clone, Copy, PartialEq)]
enum For {
    /// Everybody, without a token.
    All,
    /// Every account, about what is its own.
    Account,
    /// The owner of the object; for everybody else there is none.
    Owner,
    /// Members of the group `ops`; everybody else is told so.
    Ops,
}
use For::{Account, All, Ops, Owner};

/// Operation, who may, the answer to one who may. In the order in which they are
/// tried: what deletes comes last.
const TABLE: &[(&str, For, u16)] = &[
    ("healthz", All, 200),
    ("readyz", All, 200),
    ("metrics", All, 200),
    ("login", All, 200),
    ("refresh", All, 401),
    ("me", Account, 200),
    ("list_api_keys", Account, 200),
    ("create_api_key", Account, 201),
    ("list_signing_keys", Account, 200),
    ("create_signing_key", Account, 201),
    ("list_projects", Account, 200),
    ("create_project", Account, 201),
    ("get_project", Owner, 200),
    ("update_project", Owner, 200),
    ("list_repositories", Owner, 200),
    ("create_repository", Owner, 201),
    ("list_project_scans", Owner, 200),
    ("list_project_findings", Owner, 200),
    ("get_repository", Owner, 200),
    ("update_repository", Owner, 200),
    ("get_threat_profile", Owner, 200),
    ("put_threat_profile", Owner, 200),
    ("list_project_events", Owner, 200),
    ("list_webhooks", Owner, 200),
    ("create_webhook", Owner, 201),
    ("get_webhook", Owner, 200),
    ("update_webhook", Owner, 200),
    ("rotate_webhook_secret", Owner, 200),
    ("ping_webhook", Owner, 202),
    ("list_webhook_deliveries", Owner, 200),
    ("get_webhook_delivery", Owner, 200),
    ("redeliver_webhook_delivery", Owner, 202),
    ("ingest_repository", Owner, 409),
    ("set_repository_credentials", Owner, 409),
    ("remove_repository_credentials", Owner, 409),
    ("get_source_tree", Owner, 200),
    ("get_source_file", Owner, 200),
    ("list_scans", Owner, 200),
    ("create_scan", Owner, 201),
    ("get_scan", Owner, 200),
    ("list_scan_events", Owner, 200),
    ("get_artifact", Owner, 200),
    ("list_findings", Owner, 200),
    ("get_finding", Owner, 200),
    ("triage_finding", Owner, 200),
    ("triage_findings", Owner, 200),
    ("billing_summary", Account, 200),
    ("list_limits", Ops, 200),
    ("list_workers", Ops, 200),
    ("cleanup", Ops, 200),
    ("create_session", Account, 201),
    ("get_session", Owner, 200),
    ("analyze_session", Owner, 202),
    ("list_session_events", Owner, 200),
    ("list_git_uploads", Account, 200),
    ("create_git_upload", Account, 201),
    ("get_git_upload", Owner, 200),
    ("cancel_scan", Owner, 409),
    ("delete_git_upload", Owner, 204),
    ("delete_api_key", Owner, 204),
    ("delete_signing_key", Owner, 204),
    ("delete_webhook", Owner, 204),
    ("delete_repository", Owner, 204),
    ("delete_project", Owner, 204),
    ("logout", Account, 204),
];

/// One operation of the document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    body: Option<Value>,
    /// It takes an archive as a form.
    form: bool,
}

/// All operations, with the example of the document as the body.
fn operations(api: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let body = schema.as_str().map(|reference| {
                let schema = api.pointer(reference.trim_start_matches('#')).expect("a schema");
                schema["example"].clone()
            });
            all.push(Operation {
                id: text(&operation["operationId"]),
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                form: body.is_none()
                    && operation["requestBody"]["content"]["multipart/form-data"].is_object(),
                body,
            });
        }
    }
    all
}

/// What stands in the paths.
struct Objects(Vec<(&'static str, String)>);

impl Objects {
    async fn of(owner: &Client) -> Self {
        let project = owner.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
        let key = owner.post("/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
        let line =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB+k7oHzlzhMBykzD4DMzW/lLjQqKyDkJhoOo/cgQnZ/";
        let body = json!({"name": "k", "public_key": line});
        let signing_key = owner.post("/v1/signing-keys", body).await.expect(201).json();
        let upload = owner.upload(json!({"project_id": project["id"]})).await;
        let work = samples::small(&Git::any()).await;
        work.push(&text(&upload["push_url"]), &["main"]).await.expect();
        let (done, scan) = owner.scanned(&text(&upload["id"])).await;
        let hooks = format!("/v1/projects/{}/webhooks", text(&project["id"]));
        let body = json!({"url": "https://example.org/", "events": ["upload.ready"]});
        let hook = owner.post(&hooks, body).await.expect(201).json();
        let ping = format!("/v1/webhooks/{}/ping", text(&hook["id"]));
        let ping = owner.post(&ping, json!({})).await.expect(202).json();
        let session = samples::form(owner.request(Method::POST, "/v1/sessions"));
        let session = Client::send(session).await.expect(201).json();
        let findings = owner.findings(&text(&done["repository_id"])).await;
        Self(vec![
            ("{session_id}", text(&session["id"])),
            ("{project_id}", text(&project["id"])),
            ("{key_id}", text(&key["id"])),
            ("{signing_key_id}", text(&signing_key["id"])),
            ("{upload_id}", text(&upload["id"])),
            ("{repo_id}", text(&done["repository_id"])),
            ("{scan_id}", text(&scan["id"])),
            ("{finding_id}", text(&findings[0]["id"])),
            ("{webhook_id}", text(&hook["id"])),
            ("{delivery_id}", text(&ping["id"])),
            ("{name}", "results.sarif".to_owned()),
            ("{path}", "README.md".to_owned()),
        ])
    }

    fn fill(&self, path: &str) -> String {
        let path = self.0.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        assert!(!path.contains('{'), "nothing is known for {path}");
        path
    }
}

async fn send(client: &Client, operation: &Operation, path: &str) -> Answer {
    let request = client.request(operation.method.clone(), path);
    Client::send(match &operation.body {
        Some(body) => request.json(body),
        None if operation.form => samples::form(request),
        None => request,
    })
    .await
}

/// An API key of the caller's with these scopes.
async fn key(of: &Client, body: Value) -> (String, Client) {
    let made = of.post("/v1/api-keys", body).await.expect(201).json();
    (text(&made["id"]), of.with_token(&text(&made["key"])))
}

async fn every_operation_by_every_caller(place: Place) {
    let server = place.start().await;
    for email in ["ada@example.org", "eve@example.org"] {
        let added = ["user", "add", email, "--password-stdin"];
        assert_eq!(place.run(&added, "a long password\n").await.code, Some(0));
    }
    let (ops, nobody) = (server.admin().await, server.anonymous());
    let owner = nobody.sign_in("ada@example.org", "a long password").await;
    let other = nobody.sign_in("eve@example.org", "a long password").await;
    let objects = Objects::of(&owner).await;

    // Tokens that were good once, and keys that are good for something else.
    let soon = jiff::Timestamp::now() + Duration::from_secs(1);
    let (_, expired) =
        key(&owner, json!({"name": "expired", "expires_at": soon.to_string()})).await;
    let (id, revoked) = key(&owner, json!({"name": "revoked"})).await;
    let gone = owner.request(Method::DELETE, &format!("/v1/api-keys/{id}"));
    Client::send(gone).await.expect(204);
    let (_, reads) = key(&owner, json!({"name": "reads", "scopes": ["read"]})).await;
    let (_, writes) = key(&owner, json!({"name": "writes", "scopes": ["write"]})).await;
    let ended = nobody.sign_in("ada@example.org", "a long password").await;
    ended.post("/v1/auth/logout", json!({})).await.expect(204);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let strangers = [
        ("nobody", nobody.clone()),
        ("a wrong token", nobody.with_token("nonsense")),
        ("a wrong key", nobody.with_token("slk_000000000000000000000000000000000000000000000000")),
        ("an expired key", expired),
        ("a deleted key", revoked),
        ("an ended session", ended),
    ];

    let api = nobody.get("/openapi.json").await.expect(200).json();
    let mut operations = operations(&api);
    let documented: BTreeSet<&str> = operations.iter().map(|o| o.id.as_str()).collect();
    let listed: BTreeSet<&str> = TABLE.iter().map(|(id, ..)| *id).collect();
    assert_eq!(documented, listed, "the table and the document name the same operations");
    let place_of = |id: &str| TABLE.iter().position(|(listed, ..)| *listed == id);
    operations.sort_by_key(|operation| place_of(&operation.id));

    for (operation, (id, may, served)) in operations.iter().zip(TABLE) {
        let path = objects.fill(&operation.path);
        let status = async |client: &Client| send(client, operation, &path).await.status.as_u16();
        if *may == All {
            assert_eq!(status(&nobody).await, *served, "{id}");
            assert_eq!(status(&nobody.with_token("nonsense")).await, *served, "{id}");
            continue;
        }
        for (who, stranger) in &strangers {
            let refused = send(stranger, operation, &path).await;
            refused.problem(401, "unauthorized");
            assert!(refused.header("www-authenticate").is_some(), "{id} by {who}");
        }
        let without = if operation.method == Method::GET { &writes } else { &reads };
        send(without, operation, &path).await.problem(403, "forbidden");
        match may {
            Owner => {
                for foreign in [&other, &ops] {
                    send(foreign, operation, &path).await.problem(404, "not_found");
                }
            }
            Ops => {
                for foreign in [&owner, &other] {
                    send(foreign, operation, &path).await.problem(403, "forbidden");
                }
            }
            Account | All => {}
        }
        let able = if *may == Ops { &ops } else { &owner };
        let answer = send(able, operation, &path).await;
        assert_eq!(answer.status.as_u16(), *served, "{id}: {}", answer.text());
        if *may == Account && operation.method == Method::GET {
            // What the owner sees is not in what another account sees.
            let theirs = send(&other, operation, &path).await.expect(200);
            for (_, object) in objects.0.iter().filter(|(_, object)| object.len() == 36) {
                assert!(!theirs.text().contains(object.as_str()), "{id} shows {object}");
            }
        }
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}
