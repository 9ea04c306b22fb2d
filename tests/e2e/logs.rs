//! No secret stands in the log, however much of it is asked for.

use serde_json::json;

use crate::on_both;
use crate::support::client::text;
use crate::support::server::ADMIN_PASSWORD;
use crate::support::{Git, Place, samples, until};

on_both!(no_secret_is_logged);

async fn no_secret_is_logged(mut place: Place) {
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

        server.terminate();
        assert_eq!(server.ended().await.0, Some(0));
        until("the log is read to its end", async || {
            server.log().contains("stopped").then_some(())
        })
        .await;
        let log = server.log() + &server.out();
        let mut secrets = vec![
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
        let basic = format!("{}:{}", text(&made["username"]), text(&made["token"]));
        secrets.push(base64::engine::general_purpose::STANDARD.encode(basic));
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
        for line in log.lines().filter(|line| line.contains("answered")) {
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
