//! Git LFS, with the real client.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Answer, Client, Git, Place, Server, Work, samples};

on_both!(large_files_come_with_the_push, locks_are_held_by_a_name);

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Bytes that nothing compresses, of a few frames of a snapshot.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// A repository whose `*.bin` and `*.env` lie in LFS.
async fn work_with_lfs(git: &Git) -> Work {
    let work = Work::new(git).await;
    work.run(&["lfs", "install", "--local"]).await.expect();
    work.run(&["lfs", "track", "*.bin", "*.env"]).await.expect();
    work
}

async fn large_files_come_with_the_push(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let big = noise((9 << 20) + 5);
    for git in Git::all() {
        let made = client.upload(json!({})).await;
        let url = text(&made["push_url"]);
        let work = work_with_lfs(&git).await;
        work.write("assets/big.bin", &big);
        work.write("deploy.env", samples::env_file("large"));
        work.write("README.md", "# Parcels\n");
        work.commit("begin").await;
        let said = work.run(&["push", "-o", "wait", &url, "main"]).await.expect();
        assert!(said.err.contains("deploy.env:1"), "scanned as it is: {}", said.err);
        assert!(!said.err.contains("locksverify"), "locks are there: {}", said.err);

        let now = client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.json();
        let repository = format!("/v1/repositories/{}", text(&now["repository_id"]));
        let file = client.get(&format!("{repository}/source-files/assets/big.bin")).await;
        assert!(file.expect(200).body == big, "the content, not the pointer");
        let tree = client.all(&format!("{repository}/source-tree?recursive=true")).await;
        let size = tree.iter().find(|e| e["path"] == "assets/big.bin").map(|e| e["size"].clone());
        assert_eq!(size, Some(json!(big.len())));

        // It comes back, whole and from the middle on.
        let other = Work::new(&git).await;
        other.run(&["lfs", "install", "--local"]).await.expect();
        other.run(&["remote", "add", "origin", &url]).await.expect();
        let oid = hex(&big);
        let lfs = Lfs::of(&server, &made);
        let answer = lfs.download(&oid, None).await.expect(200);
        assert!(answer.body == big);
        let rest = lfs.download(&oid, Some("bytes=9437180-")).await.expect(206);
        assert_eq!(rest.body, big[9_437_180..]);
        assert_eq!(rest.header("content-range"), Some("bytes 9437180-9437188/9437189"));
        lfs.download(&oid, Some("bytes=9437189-")).await.expect(416);

        // Pushed again there is nothing to upload, and what changed is taken.
        work.write("deploy.env", "# nothing here\n");
        work.commit("mended").await;
        let said = work.run(&["push", "-o", "wait", &url, "main"]).await.expect();
        assert!(said.err.contains("1 fixed"), "{}", said.err);
    }
}

/// The LFS side of a remote, without a client.
struct Lfs {
    client: Client,
    path: String,
    user: String,
    token: String,
}

impl Lfs {
    fn of(server: &Server, made: &Value) -> Self {
        Self {
            client: server.anonymous(),
            path: format!("/git/{}.git/info/lfs", text(&made["id"])),
            user: text(&made["username"]),
            token: text(&made["token"]),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let path = format!("{}{path}", self.path);
        self.client.request(method, &path).basic_auth(&self.user, Some(&self.token))
    }

    async fn ask(&self, path: &str, body: Value) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", MEDIA_TYPE);
        Client::send(request.body(body.to_string())).await
    }

    async fn download(&self, oid: &str, range: Option<&str>) -> Answer {
        let mut request = self.request(Method::GET, &format!("/objects/{oid}"));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        Client::send(request).await
    }

    async fn put(&self, oid: &str, size: usize, body: Vec<u8>) -> Answer {
        let path = format!("/objects/{oid}?size={size}");
        Client::send(self.request(Method::PUT, &path).body(body)).await
    }

    async fn batch(&self, operation: &str, oid: &str, size: usize) -> Value {
        let body = json!({ "operation": operation, "objects": [{ "oid": oid, "size": size }] });
        self.ask("/objects/batch", body).await.expect(200).json()["objects"][0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_wrong_is_not_kept() {
    let mut place = Place::sqlite();
    place.set("SLUICE_LIMIT_LFS_OBJECT_BYTES", "3000000");
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let lfs = Lfs::of(&server, &made);
    let content = noise(2_500_000);
    let oid = hex(&content);
    let stored = || place.everything().iter().filter(|name| name.contains("lfs-")).count();

    let wanted = lfs.batch("upload", &oid, content.len()).await;
    assert!(text(&wanted["actions"]["upload"]["href"]).contains(&oid), "{wanted}");
    assert_eq!(lfs.batch("download", &oid, content.len()).await["error"]["code"], 404);

    let mut damaged = content.clone();
    damaged[1_000_000] ^= 1;
    for (size, body) in [
        (content.len(), damaged),
        (content.len(), content[..1_000_000].to_vec()),
        (1_000_000, content.clone()),
    ] {
        let said = lfs.put(&oid, size, body).await.expect(422).json();
        assert!(text(&said["message"]).contains("nothing was kept"), "{said}");
    }
    let verify = json!({ "oid": oid, "size": content.len() });
    lfs.ask("/verify", verify.clone()).await.expect(404);
    assert_eq!(stored(), 0);

    // Twice at the same time, as two clients do: kept once.
    let (one, other) = tokio::join!(
        lfs.put(&oid, content.len(), content.clone()),
        lfs.put(&oid, content.len(), content.clone())
    );
    one.expect(200);
    other.expect(200);
    lfs.ask("/verify", verify).await.expect(200);
    assert_eq!(stored(), 1);
    assert_eq!(lfs.batch("upload", &oid, content.len()).await["actions"], Value::Null);
    assert_eq!(lfs.batch("upload", &oid, 5).await["error"]["code"], 422);

    // Bounds, and questions that are none.
    let large = lfs.batch("upload", &hex(b"large"), 3_000_001).await;
    assert!(text(&large["error"]["message"]).contains("SLUICE_LIMIT_LFS_OBJECT_BYTES"), "{large}");
    lfs.put(&hex(b"large"), 3_000_001, Vec::new()).await.expect(422);
    assert_eq!(lfs.batch("upload", "../../etc/passwd", 1).await["error"]["code"], 422);
    Client::send(lfs.request(Method::PUT, "/objects/..%2Fpasswd?size=1").body("x"))
        .await
        .expect(422);
    let of =
        |algorithm: &str| json!({ "operation": "upload", "hash_algo": algorithm, "objects": [] });
    lfs.ask("/objects/batch", of("sha512")).await.expect(409);
    lfs.ask("/objects/batch", json!({ "operation": "dance", "objects": [] })).await.expect(422);
    lfs.ask("/objects/batch", json!([])).await.expect(422);
    Client::send(lfs.request(Method::POST, "/objects/batch").json(&of("sha256"))).await.expect(415);
    let many = vec![json!({ "oid": oid, "size": 1 }); 10_001];
    let many = json!({ "operation": "upload", "objects": many });
    lfs.ask("/objects/batch", many).await.expect(413);
    Client::send(lfs.request(Method::DELETE, "/locks")).await.expect(405);
    Client::send(lfs.request(Method::GET, "/nothing")).await.expect(404);

    // Nobody else.
    let path = format!("{}/objects/{oid}", lfs.path);
    let answer = server.anonymous().get(&path).await.expect(401);
    assert_eq!(answer.header("lfs-authenticate"), Some("Basic realm=\"sluice\""));
    place.run(&["user", "add", "eve@example.org", "--password-stdin"], "a long password\n").await;
    let eve = server.anonymous().sign_in("eve@example.org", "a long password").await;
    eve.get(&path).await.expect(404);
    let foreign = client.upload(json!({})).await;
    Lfs::of(&server, &foreign).download(&oid, None).await.expect(404);
    client.delete(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(204);
    lfs.download(&oid, None).await.expect(401);
}

async fn locks_are_held_by_a_name(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let url = |user: &str| {
        let host = server.address.strip_prefix("http://").expect("http");
        format!("http://{user}:{}@{host}/git/{}.git", text(&made["token"]), text(&made["id"]))
    };
    let ada = work_with_lfs(&Git::any()).await;
    ada.write("a.bin", noise(100));
    ada.commit("begin").await;
    ada.run(&["remote", "add", "origin", &url("ada")]).await.expect();
    ada.run(&["push", "origin", "main"]).await.expect();
    ada.run(&["lfs", "lock", "a.bin"]).await.expect();
    let said = ada.run(&["lfs", "locks"]).await.expect();
    assert!(said.out.contains("a.bin") && said.out.contains("ada"), "{}", said.out);

    let bob = Lfs { user: "bob".into(), ..Lfs::of(&server, &made) };
    let held = bob.ask("/locks", json!({ "path": "a.bin" })).await.expect(409).json();
    assert_eq!(held["lock"]["owner"]["name"], "ada", "{held}");
    let seen = bob.ask("/locks/verify", json!({})).await.expect(200).json();
    assert_eq!(
        (seen["ours"].as_array().map(Vec::len), &seen["theirs"][0]["path"]),
        (Some(0), &json!("a.bin"))
    );
    let unlock = format!("/locks/{}/unlock", text(&held["lock"]["id"]));
    bob.ask(&unlock, json!({})).await.expect(403);

    // A push that changes what somebody else has locked is refused by the client.
    let work = work_with_lfs(&Git::any()).await;
    work.run(&["remote", "add", "origin", &url("bob")]).await.expect();
    work.run(&["config", "lfs.locksverify", "true"]).await.expect();
    work.write("a.bin", noise(101));
    work.commit("mine").await;
    let said = work.run(&["push", "origin", "main:refs/heads/mine"]).await;
    assert!(!said.ok && said.err.contains("Cannot update locked files"), "{}", said.err);
    assert!(said.out.contains("ada") || said.err.contains("ada"), "{} {}", said.out, said.err);

    ada.run(&["lfs", "unlock", "a.bin"]).await.expect();
    work.run(&["push", "origin", "main:refs/heads/mine"]).await.expect();

    // Pages.
    for number in 0..5 {
        bob.ask("/locks", json!({ "path": format!("p{number}") })).await.expect(201);
    }
    let mut paths = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/locks?limit=2&cursor={cursor}");
        let page = Client::send(bob.request(Method::GET, &path)).await.expect(200).json();
        paths.extend(page["locks"].as_array().expect("locks").iter().map(|l| text(&l["path"])));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(paths, ["p0", "p1", "p2", "p3", "p4"]);
    bob.ask("/locks", json!({ "path": "" })).await.expect(422);
    bob.ask(&unlock, json!({})).await.expect(404);
    Client::send(bob.request(Method::GET, "/locks?cursor=x")).await.expect(422);
}
