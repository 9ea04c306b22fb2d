//! No secret stands in the log, however much of it is asked for.

use serde_json::json;

use crate::on_both;
use crate::support::client::text;
use crate::support::server::ADMIN_PASSWORD;
use crate::support::upstream::TOKEN;
use crate::support::{Client, Git, Place, Upstream, Work, samples, until};

on_both!(no_secret_is_logged);

/// Repositories and archives by URL, with credentials and signed addresses.
async fn by_url(client: &Client, project: &str, upstream: &Upstream, work: &Work, format: &str) {
    let git = upstream.repository(work, &format!("shop-{format}.git")).await;
    let private = git.replace(&upstream.url, &format!("{}/private", upstream.url));
    let tar = work.path().join("../logs.tar");
    work.run(&["archive", "--format=tar", "-o", "../logs.tar", "HEAD"]).await.expect();
    upstream.file("shop.tar", &std::fs::read(&tar).expect("made"));
    std::fs::remove_file(tar).expect("removed");
    let signed = format!("{}/moved/shop.tar?X-Signature=secret-in-signed-url", upstream.url);
    let gone = format!("{}/files/gone.tar?X-Signature=secret-in-signed-url", upstream.url);
    let wrong = json!({"username": "ada", "token": "wrong-token-of-the-other-server"});
    let right = json!({"username": "ada", "token": TOKEN});
    for (kind, url, credentials, status) in [
        ("git", &private, &right, "ready"),
        ("git", &private, &wrong, "failed"),
        ("archive", &signed, &right, "ready"),
        ("archive", &gone, &right, "failed"),
    ] {
        let body = json!({"name": kind, "source_type": kind, "source_url": url,
                          "credentials": credentials});
        let made = client.post(&format!("{project}/repositories"), body).await.expect(201).json();
        let path = format!("/v1/repositories/{}", text(&made["id"]));
        let settled = until("it is fetched", async || {
            let now = client.get(&path).await.expect(200).json();
            matches!(now["ingest_status"].as_str(), Some("ready" | "failed")).then_some(now)
        })
        .await;
        assert_eq!(settled["ingest_status"], status, "{settled}");
        if status == "ready" {
            until("it is scanned", async || {
                let now = client.get(&path).await.expect(200).json();
                (now["last_scan"]["status"] == "completed").then_some(())
            })
            .await;
        }
    }
}

/// A webhook whose address holds a secret; its signing secret, after a message was taken.
async fn webhook(client: &Client, project: &str, upstream: &Upstream) -> String {
    let url = format!("{}/hook?key=secret-in-hook-url", upstream.url);
    let body = json!({"url": url, "events": ["upload.ready", "scan.completed", "finding.new"]});
    let made = client.post(&format!("{project}/webhooks"), body).await.expect(201).json();
    let path = format!("/v1/webhooks/{}", text(&made["id"]));
    client.post(&format!("{path}/ping"), json!({})).await.expect(202);
    until("the ping is taken", async || {
        let page = client.get(&format!("{path}/deliveries")).await.expect(200).json();
        (page["items"][0]["status"] == "delivered").then_some(())
    })
    .await;
    let secret = text(&made["secret"]);
    secret.strip_prefix("whsec_").expect("as Standard Webhooks have it").to_owned()
}

/// Options of pushes, and files in LFS; the URL has a token.
async fn options_and_lfs(client: &Client, project: &str, key: &str) -> Vec<String> {
    let body = json!({"project_id": project.rsplit('/').next()});
    let made = client.upload(body).await;
    let url = text(&made["push_url"]);
    let work = Work::new(&Git::any()).await;
    work.run(&["lfs", "install", "--local"]).await.expect();
    work.run(&["lfs", "track", "*.env"]).await.expect();
    work.write("deploy.env", samples::env_file("in lfs"));
    work.commit("begin").await;
    for option in [
        "secret-in-option",
        "fail-on=secret-in-option",
        "project=secret-in-option",
        "wait=secret-in-option",
    ] {
        assert!(!work.run(&["push", "-o", option, &url, "main"]).await.ok, "{option}");
    }
    let said = work.run(&["push", "-o", "wait", &url, "main"]).await.expect();
    assert!(said.err.contains("deploy.env:1"), "{}", said.err);
    // As a client of LFS with another login does.
    let listed = work.run(&["lfs", "ls-files", "--long"]).await.expect().out;
    let oid = listed.split_whitespace().next().expect("an object").to_owned();
    let path = format!("/git/{}.git/info/lfs/objects/{oid}", text(&made["id"]));
    let content = client.with_token(key).get(&path).await.expect(200).text();
    assert_eq!(content, samples::env_file("in lfs"));
    let wrong = client.with_token("wrong-token-for-lfs").get(&path).await;
    assert_eq!(wrong.status.as_u16(), 401, "{}", wrong.text());
    use base64::Engine as _;
    let basic = format!("{}:{}", text(&made["username"]), text(&made["token"]));
    let basic = base64::engine::general_purpose::STANDARD.encode(basic);
    vec![text(&made["token"]), basic]
}

async fn no_secret_is_logged(mut place: Place) {
    let upstream = Upstream::start().await;
    Upstream::reachable(&mut place);
    for format in ["text", "json"] {
        // As much as there is: libraries log the headers that they carry at `trace`.
        place.set("SLUICE_LOG", "trace").set("SLUICE_LOG_FORMAT", format);
        let mut server = place.start().await;
        let client = server.admin().await;
        let wrong = json!({"email": "admin@localhost", "password": "wrong-and-secret"});
        client.post("/v1/auth/login", wrong).await.problem(401, "unauthorized");
        let key = client.post("/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
        let by_key = client.with_token(&text(&key["key"]));
        by_key.get("/v1/auth/me?token=secret-in-query").await;
        let refresh = client.refresh_token.clone().expect("a token");
        let body = json!({"refresh_token": refresh});
        let fresh = client.post("/v1/auth/refresh", body.clone()).await.expect(200).json();
        client.post("/v1/auth/refresh", body).await.problem(401, "unauthorized");

        // Wrong in every way that there is.
        let client = server.admin().await;
        let nobody = server.anonymous();
        nobody
            .with_token("forged-token-of-nobody")
            .get("/v1/projects")
            .await
            .problem(401, "unauthorized");
        let path = "/v1/projects?cursor=secret-in-cursor&secret-name=1";
        client.get(path).await;
        client.get("/nowhere?key=secret-in-nowhere").await.problem(404, "not_found");
        let bad = json!({"name": "x", "password": "secret-in-body", "scopes": ["secret-scope"]});
        let answer = client.post("/v1/api-keys", bad).await;
        assert_eq!(answer.status.as_u16(), 422, "{}", answer.text());
        let known = client
            .request(reqwest::Method::GET, "/v1/projects?q=secret-in-query")
            .header("x-request-id", "the-id-of-a-client")
            .header("cookie", "session=secret-in-cookie");
        crate::support::Client::send(known).await;

        let made = client.upload(json!({})).await;
        let work = samples::small(&Git::any()).await;
        work.write("old.env", samples::env_file("old"));
        work.commit("in").await;
        work.run(&["rm", "-q", "old.env"]).await.expect();
        work.commit("out").await;
        let push_url = text(&made["push_url"]);
        let forged = push_url.replace(&text(&made["token"]), "forged-token-of-somebody");
        work.push(&forged, &["main"]).await.refused("Authentication failed");
        work.push(&push_url, &["main"]).await.expect();
        client.scanned(&text(&made["id"])).await;

        let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
        let project = format!("/v1/projects/{}", text(&project["id"]));
        let webhook = webhook(&client, &project, &upstream).await;
        by_url(&client, &project, &upstream, &work, format).await;
        let of_lfs = options_and_lfs(&client, &project, &text(&key["key"])).await;

        server.terminate();
        assert_eq!(server.ended().await.0, Some(0));
        until("the log is read to its end", async || {
            server.log().contains("stopped").then_some(())
        })
        .await;
        let log = server.log() + &server.out();
        let mut secrets = vec![
            webhook,
            "secret-in-hook-url".to_owned(),
            "secret-in-signed-url".to_owned(),
            "secret-in-option".to_owned(),
            "wrong-token-for-lfs".to_owned(),
            "wrong-token-of-the-other-server".to_owned(),
            TOKEN.to_owned(),
            samples::mail_key("in lfs"),
            ADMIN_PASSWORD.to_owned(),
            "wrong-and-secret".to_owned(),
            "secret-in-query".to_owned(),
            "secret-in-cursor".to_owned(),
            "secret-in-nowhere".to_owned(),
            "secret-in-body".to_owned(),
            "secret-in-cookie".to_owned(),
            "forged-token-of-nobody".to_owned(),
            "forged-token-of-somebody".to_owned(),
            "a secret for tests that is long enough".to_owned(),
            text(&key["key"]),
            text(&made["token"]),
            refresh,
            text(&fresh["access_token"]),
            text(&fresh["refresh_token"]),
            client.token.clone().expect("a token"),
            samples::mail_key("head"),
            samples::mail_key("old"),
        ];
        // The form in which Basic carries them.
        use base64::Engine as _;
        let basic = |login: String| base64::engine::general_purpose::STANDARD.encode(login);
        secrets.push(basic(format!("{}:{}", text(&made["username"]), text(&made["token"]))));
        secrets.push(basic(format!("ada:{TOKEN}")));
        secrets.push(basic("ada:wrong-token-of-the-other-server".to_owned()));
        secrets.extend(of_lfs);
        for secret in &secrets {
            if let Some(at) = log.find(secret.as_str()) {
                let line = log[..at].matches('\n').count();
                panic!(
                    "line {line} of the log holds {secret:?}: {}",
                    log.lines().nth(line).unwrap_or_default()
                );
            }
        }
        let known: Vec<&str> =
            log.lines().filter(|line| line.contains("the-id-of-a-client")).collect();
        assert!(known.iter().any(|line| line.contains("answered")), "{known:?}");
        let of_requests =
            |line: &&str| line.contains("answered") && line.contains("sluice::access");
        assert!(log.lines().any(|line| of_requests(&line)));
        for line in log.lines().filter(of_requests) {
            assert!(line.contains("request_id"), "a line without the id of its request: {line}");
        }
        let signed_in = log.lines().find(|line| line.contains("signed in")).expect("a line");
        assert!(signed_in.contains("request_id"), "{signed_in}");
        assert!(log.contains("POST") && log.contains("/v1/git-uploads"), "requests are logged");
        if format == "json" {
            let lines = server.log();
            let lines: Vec<&str> =
                lines.lines().filter(|line| !line.starts_with("created ")).collect();
            assert!(!lines.is_empty());
            for line in lines {
                serde_json::from_str::<serde_json::Value>(line)
                    .unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
            }
        }
    }
}
