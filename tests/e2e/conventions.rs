//! What holds for every address of the API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Answer, Client, Git, Place, samples};

on_both!(
    every_route_keeps_the_conventions,
    bodies_are_checked,
    lists_are_pages,
    edges_are_refused,
    documentation_is_served
);

/// Every address and what it answers; `{…}` is filled in.
const ROUTES: &[(&str, &[&str])] = &[
    ("/v1/auth/me", &["GET"]),
    ("/v1/auth/logout", &["POST"]),
    ("/v1/api-keys", &["GET", "POST"]),
    ("/v1/api-keys/{key}", &["DELETE"]),
    ("/v1/projects", &["GET", "POST"]),
    ("/v1/projects/{project}", &["GET", "PUT", "DELETE"]),
    ("/v1/projects/{project}/repositories", &["GET", "POST"]),
    ("/v1/projects/{project}/scans", &["GET"]),
    ("/v1/projects/{project}/findings", &["GET"]),
    ("/v1/projects/{project}/events", &["GET"]),
    ("/v1/projects/{project}/webhooks", &["GET", "POST"]),
    ("/v1/repositories/{repository}", &["GET", "PUT", "DELETE"]),
    ("/v1/repositories/{repository}/threat-profile", &["GET", "PUT"]),
    ("/v1/repositories/{repository}/source-tree", &["GET"]),
    ("/v1/repositories/{repository}/source-files/README.md", &["GET"]),
    ("/v1/repositories/{repository}/scans", &["GET", "POST"]),
    ("/v1/repositories/{repository}/scans/{scan}", &["GET", "DELETE"]),
    ("/v1/repositories/{repository}/scans/{scan}/artifacts/results.sarif", &["GET"]),
    ("/v1/repositories/{repository}/scans/{scan}/events", &["GET"]),
    ("/v1/repositories/{repository}/findings", &["GET"]),
    ("/v1/repositories/{repository}/findings/triage", &["POST"]),
    ("/v1/repositories/{repository}/findings/{finding}", &["GET", "PUT"]),
    ("/v1/git-uploads", &["GET", "POST"]),
    ("/v1/git-uploads/{upload}", &["GET", "DELETE"]),
];

/// One object of each kind.
struct Objects(Vec<(&'static str, String)>);

impl Objects {
    async fn make(client: &Client) -> Self {
        let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
        let key = client.post("/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
        let upload = client.upload(json!({"project_id": project["id"]})).await;
        let work = samples::small(&Git::any()).await;
        work.push(&text(&upload["push_url"]), &["main"]).await.expect();
        let (done, scan) = client.scanned(&text(&upload["id"])).await;
        let findings = client.findings(&text(&done["repository_id"])).await;
        Self(vec![
            ("{project}", text(&project["id"])),
            ("{key}", text(&key["id"])),
            ("{upload}", text(&upload["id"])),
            ("{repository}", text(&done["repository_id"])),
            ("{scan}", text(&scan["id"])),
            ("{finding}", text(&findings[0]["id"])),
        ])
    }

    fn fill(&self, route: &str) -> String {
        self.0.iter().fold(route.to_owned(), |path, (name, id)| path.replace(name, id))
    }
}

async fn ask(client: &Client, method: &str, path: &str) -> Answer {
    let method: Method = method.parse().expect("a method");
    let request = client.request(method.clone(), path);
    // A body that no address takes, so that nothing is made or changed.
    let body = matches!(method.as_str(), "POST" | "PUT");
    Client::send(if body { request.json(&json!({"no_such_field": 1})) } else { request }).await
}

async fn every_route_keeps_the_conventions(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let added = ["user", "add", "eve@example.org", "--password-stdin"];
    assert_eq!(place.run(&added, "a long password\n").await.code, Some(0));
    let nobody = server.anonymous();
    let eve = nobody.sign_in("eve@example.org", "a long password").await;
    let objects = Objects::make(&client).await;

    for (route, methods) in ROUTES {
        let path = objects.fill(route);
        for method in *methods {
            let what = format!("{method} {route}");
            // Without a token, and with one that is none.
            for stranger in [nobody.clone(), nobody.with_token("nonsense")] {
                let refused = ask(&stranger, method, &path).await;
                refused.problem(401, "unauthorized");
                let challenge = refused.header("www-authenticate");
                assert!(challenge.is_some_and(|c| c.starts_with("Bearer")), "{what}");
            }
            // Another's object is not there, and neither is one that never was.
            if route.contains('{') {
                let theirs = ask(&eve, method, &path).await;
                let status = theirs.status.as_u16();
                assert!(
                    status == 404 || (status == 422 && methods_take_body(method)),
                    "{what}: {status}"
                );
                let absent = objects.0.iter().fold((*route).to_owned(), |path, (name, _)| {
                    path.replace(name, "01890000-0000-7000-8000-000000000000")
                });
                let status = ask(&client, method, &absent).await.status.as_u16();
                assert!(
                    status == 404 || (status == 422 && methods_take_body(method)),
                    "{what}: {status}"
                );
                let odd = objects
                    .0
                    .iter()
                    .fold((*route).to_owned(), |path, (name, _)| path.replace(name, "%00..%2f%ff"));
                let odd = ask(&client, method, &odd).await;
                assert!(odd.status.is_client_error(), "{what}: {}", odd.status);
                assert_eq!(odd.header("content-type"), Some("application/problem+json"), "{what}");
            }
            // With and without a slash at the end. What deletes is left for later, and
            // signing out too.
            if *method == "DELETE" || route.ends_with("logout") {
                continue;
            }
            let plain = ask(&client, method, &path).await;
            let slash = ask(&client, method, &format!("{path}/")).await;
            assert_eq!(plain.status, slash.status, "{what}");
            assert!(plain.status.is_success() || plain.status == 422, "{what}: {}", plain.text());
            let id = plain.header("x-request-id");
            assert!(id.is_some_and(|id| !id.is_empty()), "{what}");
        }
        // Methods that the address does not have.
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if methods.contains(&method) {
                continue;
            }
            let refused = ask(&client, method, &path).await;
            refused.problem(405, "method_not_allowed");
            let allow = refused.header("allow").expect("Allow");
            for allowed in *methods {
                assert!(allow.contains(allowed), "{method} {route}: {allow}");
            }
        }
    }

    // Now it is deleted, with a slash.
    for what in ["{key}", "{upload}", "{repository}", "{project}"] {
        let (route, _) = ROUTES
            .iter()
            .find(|(route, methods)| route.ends_with(what) && methods.contains(&"DELETE"))
            .expect("a route");
        let path = objects.fill(route);
        ask(&eve, "DELETE", &path).await.problem(404, "not_found");
        ask(&client, "DELETE", &format!("{path}/")).await.expect(204);
        ask(&client, "DELETE", &path).await.problem(404, "not_found");
    }
    nobody.get("/no/such/address").await.problem(404, "not_found");
    client.get("/v1/").await.problem(404, "not_found");
    for health in ["/v1/healthz", "/v1/healthz/", "/v1/readyz", "/v1/readyz/"] {
        nobody.get(health).await.expect(200);
    }

    // The client's own request id comes back; one that is no word does not.
    let named = nobody.request(Method::GET, "/v1/auth/me").header("x-request-id", "my-id.1");
    let named = Client::send(named).await;
    assert_eq!(named.problem(401, "unauthorized")["request_id"], "my-id.1");
    let odd = nobody.request(Method::GET, "/v1/healthz").header("x-request-id", "a b\"c");
    assert_ne!(Client::send(odd).await.header("x-request-id"), Some("a b\"c"));

    // Signing out takes effect at once.
    ask(&eve, "POST", "/v1/auth/logout/").await.expect(204);
    eve.get("/v1/auth/me").await.problem(401, "unauthorized");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

fn methods_take_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT")
}

async fn bodies_are_checked(mut place: Place) {
    place.set("SLUICE_LIMIT_REQUEST_BYTES", "20000");
    let server = place.start().await;
    let client = server.admin().await;
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    let project = text(&project["id"]);
    let repository = client
        .post(
            &format!("/v1/projects/{project}/repositories"),
            json!({"name": "r", "source_type": "git_upload"}),
        )
        .await
        .expect(201)
        .json();
    let repository = text(&repository["id"]);
    let finding = "01890000-0000-7000-8000-000000000000";
    for (method, path, field, good) in [
        ("POST", "/v1/auth/login".to_owned(), "email", json!({"email": "e", "password": "p"})),
        ("POST", "/v1/auth/refresh".to_owned(), "refresh_token", json!({"refresh_token": "x"})),
        ("POST", "/v1/api-keys".to_owned(), "name", json!({"name": "k"})),
        ("POST", "/v1/projects".to_owned(), "name", json!({"name": "n"})),
        ("PUT", format!("/v1/projects/{project}"), "name", json!({"name": "n"})),
        (
            "POST",
            format!("/v1/projects/{project}/repositories"),
            "name",
            json!({"name": "n", "source_type": "git_upload"}),
        ),
        ("PUT", format!("/v1/repositories/{repository}"), "name", json!({"name": "n"})),
        ("POST", format!("/v1/repositories/{repository}/scans"), "ref", json!({"ref": "main"})),
        (
            "PUT",
            format!("/v1/repositories/{repository}/findings/{finding}"),
            "comment",
            json!({"status": "open", "comment": "c"}),
        ),
        ("POST", "/v1/git-uploads".to_owned(), "name", json!({"name": "n"})),
    ] {
        let what = format!("{method} {path}");
        let method: Method = method.parse().expect("a method");
        let send = |body: Vec<u8>| {
            let request = client
                .request(method.clone(), &path)
                .header("content-type", "application/json")
                .body(body);
            Client::send(request)
        };
        let with = |field: &str, value: Value| {
            let mut body = good.clone();
            body[field] = value;
            body.to_string().into_bytes()
        };
        for broken in ["{", "nonsense", "{\"a\":1}x", "[1,", "{\"\u{0}\":1}"] {
            let answer = send(broken.as_bytes().to_vec()).await;
            let status = answer.status.as_u16();
            assert!([400, 422].contains(&status), "{what} {broken:?}: {status}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        }
        send(b"{\"".to_vec()).await.problem(400, "bad_request");
        send(b"\xff\xfe".to_vec()).await.problem(400, "bad_request");
        for (bad, named) in [
            (with(field, json!(7)), field),
            (with(field, json!(["a"])), field),
            (with("no_such_field", json!(1)), "no_such_field"),
            (with(field, json!("a\u{0}b")), ""),
        ] {
            let problem = send(bad.clone()).await.problem(422, "validation_failed");
            let errors = problem["errors"].as_array().expect("errors");
            let body = String::from_utf8_lossy(&bad).into_owned();
            assert!(!errors.is_empty(), "{what} {body}");
            assert!(
                errors.iter().any(|error| error.to_string().contains(named)),
                "{what} {body}: {problem}"
            );
        }
        let large = with(field, json!("x".repeat(30_000)));
        send(large).await.problem(413, "payload_too_large");
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(send(deep.into_bytes()).await.status.is_client_error(), "{what}");
        let plain = client.request(method.clone(), &path).body(good.to_string());
        Client::send(plain).await.problem(415, "unsupported_media_type");
    }
    for (path, body, field) in [
        ("/v1/projects", json!({"name": "  "}), "name"),
        ("/v1/projects", json!({"name": "x".repeat(201)}), "name"),
        ("/v1/projects", json!({"name": "a\nb"}), "name"),
        ("/v1/git-uploads", json!({"expires_in": 0}), "expires_in"),
        ("/v1/git-uploads", json!({"ref": "a..b"}), "ref"),
        ("/v1/git-uploads", json!({"project_id": finding}), "project_id"),
        ("/v1/git-uploads", json!({"repository_id": finding}), "repository_id"),
        ("/v1/api-keys", json!({"name": "k", "expires_at": "yesterday"}), "expires_at"),
        ("/v1/api-keys", json!({"name": "k", "scopes": ["root"]}), "scopes[0]"),
    ] {
        let problem = client.post(path, body.clone()).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{path} {body}: {problem}");
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

/// What a lenient reader would take for something else than was meant.
async fn edges_are_refused(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let objects = Objects::make(&client).await;

    // One meaning for each parameter.
    for (query, field) in [
        ("sort=created&sort=priority", "sort"),
        ("limit=1&limit=2", "limit"),
        ("q=a&q=b", "q"),
        ("severity=high,,low", "severity"),
        ("severity=", "severity"),
        ("cursor=", "cursor"),
    ] {
        let path = objects.fill(&format!("/v1/repositories/{{repository}}/findings?{query}"));
        let problem = client.get(&path).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    for query in ["limit=201", "limit=0", "cursor="] {
        let path = objects.fill(&format!("/v1/repositories/{{repository}}/source-tree?{query}"));
        client.get(&path).await.problem(422, "validation_failed");
    }
    let path = "/v1/repositories/{repository}/scans/{scan}/artifacts/%ff";
    client.get(&objects.fill(path)).await.problem(404, "not_found");

    // One type and one meaning for each body.
    let send = |path: &str, headers: &[(&'static str, &str)], body: Value| {
        let mut request = client.request(Method::POST, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Client::send(request.body(body.to_string()))
    };
    let json_type = ("content-type", "application/json");
    let name = || json!({"name": "n"});
    let latin = ("content-type", "application/json; charset=latin1");
    send("/v1/projects", &[latin], name()).await.problem(415, "unsupported_media_type");
    send("/v1/projects", &[json_type, json_type], name()).await.problem(400, "bad_request");
    let utf8 = ("content-type", "application/json; charset=\"UTF-8\"");
    send("/v1/projects", &[utf8], name()).await.expect(201);
    let spaced = ("idempotency-key", "a key");
    send("/v1/projects", &[json_type, spaced], name()).await.problem(422, "validation_failed");
    let listed = send("/v1/projects", &[json_type], json!(["n", "d"])).await;
    assert_eq!(listed.problem(422, "validation_failed")["errors"][0]["field"], "body");
    let hook = objects.fill("/v1/projects/{project}/webhooks");
    let with_fragment = json!({"url": "https://example.org/#a", "events": ["scan.completed"]});
    send(&hook, &[json_type], with_fragment).await.problem(422, "validation_failed");
    let triage = objects.fill("/v1/repositories/{repository}/findings/{finding}");
    let status = |word: Value| client.put(&triage, json!({"status": word}));
    assert_eq!(
        status(json!(7)).await.problem(422, "validation_failed")["errors"][0]["field"],
        "status"
    );

    // To say again what was said adds nothing; a comment does.
    let length = |answer: Answer| answer.expect(200).json()["history"].as_array().map(Vec::len);
    let once = length(status(json!("confirmed")).await);
    assert_eq!(length(status(json!("confirmed")).await), once);
    let more = json!({"status": "confirmed", "comment": "still so"});
    assert_eq!(length(client.put(&triage, more).await), once.map(|length| length + 1));

    // A key that may write may not push, and so not make what can be pushed to.
    let key = async |scopes: &[&str]| {
        let body = json!({"name": "k", "scopes": scopes});
        let made = client.post("/v1/api-keys", body).await.expect(201).json();
        client.with_token(&text(&made["key"]))
    };
    let writes = key(&["write"]).await;
    writes.post("/v1/git-uploads", json!({})).await.problem(403, "forbidden");
    key(&["write", "push"]).await.post("/v1/git-uploads", json!({})).await.expect(201);

    // A stream ends with the session that it was opened by.
    let other = server.admin().await;
    let path = objects.fill("/v1/projects/{project}/events?after=0");
    let stream = other.request(Method::GET, &path).header("accept", "text/event-stream");
    let mut stream = stream.send().await.expect("an answer");
    assert_eq!(stream.status(), 200);
    other.post("/v1/auth/logout", Value::Null).await.expect(204);
    // What happens next is for others to see.
    let again = objects.fill("/v1/repositories/{repository}/scans");
    client.post(&again, json!({})).await.expect(201);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        let mut all = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let seen = ended.await.expect("the stream ends");
    assert_eq!(seen.matches("scan.queued").count(), 1, "{seen}");
}

async fn lists_are_pages(place: Place) {
    let server = place.start_with(&["--no-worker"]).await;
    let client = server.admin().await;
    for index in 0..5 {
        let body = json!({"name": format!("p{index}")});
        client.post("/v1/projects", body).await.expect(201);
        client.upload(json!({"name": format!("u{index}")})).await;
        client.post("/v1/api-keys", json!({"name": format!("k{index}")})).await.expect(201);
    }
    for path in ["/v1/projects", "/v1/git-uploads", "/v1/api-keys"] {
        let all = client.get(path).await.expect(200);
        assert_eq!(all.json()["next_cursor"], Value::Null);
        assert!(all.header("link").is_none());
        let all = all.json()["items"].clone();
        let paged = client.all(&format!("{path}?limit=2")).await;
        assert_eq!(all, json!(paged), "{path}");
        let first = client.get(&format!("{path}/?limit=2")).await.expect(200);
        let link = first.header("link").expect("a link");
        assert!(link.ends_with("rel=\"next\"") && link.contains("cursor="), "{link}");
        let next = link.split(['<', '>']).nth(1).expect("an address");
        assert_eq!(client.get(next).await.expect(200).json()["items"][0], all[2]);
        for bad in [
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=x",
            "cursor=x",
            "cursor=%00",
            "cursor=",
            "cursor=bnVsbA",
            "cursor=MQ",
            "colour=red",
            "limit=1&limit=2",
        ] {
            let problem = client.get(&format!("{path}?{bad}")).await;
            assert!(
                problem.status == 422 || (problem.status == 200 && bad == "cursor=bnVsbA"),
                "{path}?{bad}: {}",
                problem.text()
            );
        }
    }
    // The same POST twice with one key makes one object.
    let post = || {
        let request = client
            .request(Method::POST, "/v1/projects")
            .header("idempotency-key", "once")
            .json(&json!({"name": "once"}));
        Client::send(request)
    };
    let first = post().await.expect(201).json();
    let second = post().await.expect(201);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(second.json()["id"], first["id"]);
}

/// The pages of documentation need nothing but this server.
async fn documentation_is_served(place: Place) {
    let server = place.start_with(&["--no-worker"]).await;
    let nobody = server.anonymous();
    for path in ["/docs", "/docs/"] {
        let page = nobody.get(path).await.expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let text = page.text();
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
        for link in text.split(['"', '\'']).filter(|part| part.starts_with("/docs/")) {
            let file = nobody.get(link).await.expect(200);
            assert!(!file.body.is_empty(), "{link}");
        }
    }
    nobody.get("/docs/index.html").await.problem(404, "not_found");
    let document = nobody.get("/openapi.json").await.expect(200).json();
    assert_eq!(document["info"]["title"], "sluice");
}
