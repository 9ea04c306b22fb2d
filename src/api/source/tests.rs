//! Source as a user gets it: pushed by the real git, ingested by a real worker.

use std::path::Path;
use std::process::Command;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, both};
use crate::queue::Workers;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with a bit of everything; answers its path in the API and its head.
async fn pushed(server: &TestServer, token: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    git(work, &["init", "-q", "-b", "main"]);
    let put = |path: &str, bytes: &[u8]| {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    put("README.md", b"# Shop\n\nline 3\nline 4\n");
    put("app/main.py", b"print('hello')\n");
    put("app/lib/deep.go", b"package lib\n");
    put("page.html", b"<script>alert(1)</script>\n");
    put("image.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>\n");
    put("logo.png", b"\x89PNG\r\n\x1a\nrest\0\0");
    put("data.bin", &(0..=255).cycle().take(100_000).collect::<Vec<u8>>());
    put("a b/\u{fc}%?#.txt", "\u{fc}\n".as_bytes());
    put("empty", b"");
    std::os::unix::fs::symlink("/etc/passwd", work.join("link")).unwrap();
    git(work, &["add", "-A"]);
    let module = "160000,1111111111111111111111111111111111111111,module";
    git(work, &["update-index", "--add", "--cacheinfo", module]);
    git(work, &["commit", "-q", "-m", "x"]);
    let head = git(work, &["rev-parse", "HEAD"]);

    let body = json!({"name": "shop", "scan": false});
    let (status, upload) = server.post("/v1/git-uploads", token, &body).await;
    assert_eq!(status, 201, "{upload}");
    let url = upload["push_url"].as_str().unwrap().to_owned();
    let owned = work.to_owned();
    tokio::task::spawn_blocking(move || git(&owned, &["push", "-q", &url, "HEAD"])).await.unwrap();
    let path = format!("/v1/git-uploads/{}?wait=5", upload["id"].as_str().unwrap());
    for _ in 0..12 {
        let (_, shown) = server.get(&path, token).await;
        if shown["status"] == "ready" {
            assert_eq!(shown["head_commit"], head);
            assert_eq!(shown["refs"], json!([{"name": "refs/heads/main", "oid": head}]));
            return (
                format!("/v1/repositories/{}", shown["repository_id"].as_str().unwrap()),
                head,
            );
        }
        assert_ne!(shown["status"], "failed", "{shown}");
    }
    panic!("the ingest did not end");
}

async fn fetch(server: &TestServer, token: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = server.request(Method::GET, path).bearer_auth(token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn field<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn source_is_served_as_it_was_pushed_and_runs_nowhere() {
    for server in both().await {
        let name = server.name;
        server.user("ada@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        let workers = Workers::start(&server.app);
        let (base, head) = pushed(&server, &ada).await;

        let (_, repository) = server.get(&base, &ada).await;
        assert_eq!(repository["ingest_status"], "ready", "{name}: {repository}");
        assert_eq!(repository["head_commit"], head, "{name}");
        assert_eq!(repository["default_branch"], "main", "{name}");
        assert_eq!(repository["snapshot"]["commit"], head, "{name}");
        let (status, profile) = server.get(&format!("{base}/threat-profile"), &ada).await;
        assert_eq!((status, &profile["source"]), (200, &json!("generated")), "{name}: {profile}");
        assert_eq!(profile["version"], 1, "{name}");

        tree(&server, &ada, &base, &head).await;
        files(&server, &ada, &base).await;
        ranges(&server, &ada, &base).await;
        lines(&server, &ada, &base).await;
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

async fn tree(server: &TestServer, token: &str, base: &str, head: &str) {
    let path = format!("{base}/source-tree");
    let paths = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let (status, root) = server.get(&path, token).await;
    assert_eq!(status, 200, "{root}");
    let all = paths(&root);
    assert_eq!(
        all,
        [
            "README.md",
            "a b",
            "app",
            "data.bin",
            "empty",
            "image.svg",
            "link",
            "logo.png",
            "module",
            "page.html"
        ]
    );
    let row = |path: &str| {
        root["items"].as_array().unwrap().iter().find(|row| row["path"] == path).unwrap()
    };
    assert_eq!(row("app")["type"], "dir");
    assert_eq!(row("link")["type"], "symlink");
    assert_eq!(
        (&row("module")["type"], &row("module")["size"]),
        (&json!("submodule"), &json!(null))
    );
    assert_eq!(row("data.bin")["size"], 100_000);

    let (_, app) = server.get(&format!("{path}?path=/app/"), token).await;
    assert_eq!(paths(&app), ["app/lib", "app/main.py"]);
    assert_eq!(app["items"][1]["language"], "python");
    let (_, deep) = server.get(&format!("{path}?path=app&recursive=true"), token).await;
    assert_eq!(paths(&deep), ["app/lib/deep.go", "app/main.py"]);

    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let (_, page) = server.get(&format!("{path}?{query}"), token).await;
        seen.extend(paths(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("limit=3&cursor={cursor}");
    }
    assert_eq!(seen, all);

    for name in ["HEAD", "main", "refs/heads/main", head] {
        assert_eq!(server.get(&format!("{path}?ref={name}"), token).await.0, 200, "{name}");
    }
    for (query, status) in [
        ("ref=other", 404),
        ("path=nowhere", 404),
        ("path=../..", 404),
        ("path=README.md", 404),
        ("limit=0", 422),
        ("limit=10001", 422),
        ("cursor=%2B", 422),
        ("recursive=maybe", 422),
        ("path=%00", 422),
        ("deep=1", 422),
    ] {
        assert_eq!(server.get(&format!("{path}?{query}"), token).await.0, status, "{query}");
    }
}

async fn files(server: &TestServer, token: &str, base: &str) {
    let base = format!("{base}/source-files");
    let text = "text/plain; charset=utf-8";
    for (path, content_type, start) in [
        ("README.md", text, b"# Shop".as_slice()),
        ("page.html", text, b"<script>"),
        ("image.svg", text, b"<svg"),
        ("app/lib/deep.go", text, b"package"),
        ("a%20b/%C3%BC%25%3F%23.txt", text, "\u{fc}".as_bytes()),
        ("empty", text, b""),
        ("link", text, b"/etc/passwd"),
        ("logo.png", "image/png", b"\x89PNG"),
        ("data.bin", "application/octet-stream", &[0, 1, 2, 3]),
    ] {
        let response = fetch(server, token, &format!("{base}/{path}"), &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(field(&response, "content-type"), content_type, "{path}");
        assert_eq!(field(&response, "x-content-type-options"), "nosniff", "{path}");
        assert!(field(&response, "content-security-policy").contains("sandbox"), "{path}");
        let (etag, length) =
            (field(&response, "etag").to_owned(), field(&response, "content-length").to_owned());
        let bytes = response.bytes().await.unwrap();
        assert!(bytes.starts_with(start), "{path}");
        assert_eq!(length, bytes.len().to_string(), "{path}");
        let cached = [("if-none-match", etag.as_str())];
        let again = fetch(server, token, &format!("{base}/{path}"), &cached).await;
        assert_eq!(again.status(), 304, "{path}");
    }
    for path in ["nowhere", "app", "module", "app/../README.md", "%2e%2e/x", "a%00b", "%ff"] {
        let response = fetch(server, token, &format!("{base}/{path}"), &[]).await;
        // The client resolves `..` itself; whatever arrives is no file.
        assert!([404, 200].contains(&response.status().as_u16()), "{path}");
        if response.status() == 200 {
            assert_eq!(path, "app/../README.md");
        }
    }
    let response = fetch(server, "slk_wrong", &format!("{base}/README.md"), &[]).await;
    assert_eq!(response.status(), 401);
}

async fn ranges(server: &TestServer, token: &str, base: &str) {
    let path = format!("{base}/source-files/data.bin");
    let part = fetch(server, token, &path, &[("range", "bytes=99990-")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(field(&part, "content-range"), "bytes 99990-99999/100000");
    assert_eq!(part.bytes().await.unwrap().len(), 10);
    let part = fetch(server, token, &path, &[("range", "bytes=256-259")]).await;
    assert_eq!(part.bytes().await.unwrap().as_ref(), [0, 1, 2, 3]);
    let none = fetch(server, token, &path, &[("range", "bytes=100000-")]).await;
    assert_eq!(none.status(), 416);
    assert_eq!(field(&none, "content-range"), "bytes */100000");
    let stale = [("range", "bytes=0-1"), ("if-range", "\"other\"")];
    assert_eq!(fetch(server, token, &path, &stale).await.status(), 200);
    let head = server.request(Method::HEAD, &path).bearer_auth(token).send().await.unwrap();
    assert_eq!((head.status().as_u16(), field(&head, "content-length")), (200, "100000"));
}

async fn lines(server: &TestServer, token: &str, base: &str) {
    let path = format!("{base}/source-files/README.md?lines=");
    let (status, found) = server.get(&format!("{path}3-40"), token).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["lines"], json!(["line 3", "line 4"]));
    assert_eq!((&found["start_line"], &found["end_line"]), (&json!(3), &json!(4)));
    assert_eq!((&found["total_lines"], &found["path"]), (&json!(4), &json!("README.md")));
    assert_eq!(server.get(&format!("{path}1"), token).await.1["lines"], json!(["# Shop"]));
    // More than one answer holds is cut, and `end_line` tells.
    assert_eq!(server.get(&format!("{path}1-9000"), token).await.1["end_line"], 4);
    for bad in ["0", "4-3", "a", "1-", "-1", "99999999999999999999"] {
        assert_eq!(server.get(&format!("{path}{bad}"), token).await.0, 422, "{bad}");
    }
    let binary = format!("{base}/source-files/data.bin?lines=1");
    assert_eq!(server.get(&binary, token).await.0, 422);
}
