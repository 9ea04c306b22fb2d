//! Pushes that attack git or whoever checks them out, made by git itself. What each rule
//! takes for an attack is tested where the rule is; here is what becomes of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work};

on_both!(what_attacks_git_is_a_finding_until_it_is_mended);

/// A folder of objects to make what `git add` refuses to.
struct Forge {
    work: Work,
    object: std::cell::Cell<u32>,
}

impl Forge {
    async fn new(git: &Git) -> Self {
        Self { work: Work::new(git).await, object: std::cell::Cell::new(0) }
    }

    /// An object of any bytes.
    async fn write(&self, kind: &str, bytes: &[u8]) -> String {
        let number = self.object.replace(self.object.get() + 1);
        let file = self.work.path().join(".git").join(format!("forged-{number}"));
        std::fs::write(&file, bytes).expect("written");
        let file = file.to_str().expect("UTF-8");
        let said = self.work.run(&["hash-object", "--literally", "-w", "-t", kind, file]).await;
        said.expect().out.trim().to_owned()
    }

    /// A tree of entries in the order in which they are given.
    async fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            let digits = id.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("hex"));
            bytes.extend(digits.map(|two| u8::from_str_radix(two, 16).expect("hex")));
        }
        self.write("tree", &bytes).await
    }

    async fn commit(&self, tree: &str, parent: Option<&str>) -> String {
        let mut args = vec!["commit-tree", tree, "-m", "forged"];
        args.extend(parent.iter().flat_map(|parent| ["-p", parent]));
        self.work.run(&args).await.expect().out.trim().to_owned()
    }

    /// A tree with one of each.
    async fn hostile(&self) -> String {
        let hook = self.write("blob", b"#!/bin/sh\ntouch owned\n").await;
        let link = self.write("blob", b".git").await;
        let modules = b"[submodule \"../../hooks\"]\n\tpath = \"x\r\"\n\turl = -u./payload\n";
        let modules = self.write("blob", modules).await;
        let attributes = format!("* text\n{} binary\n", "x".repeat(3000));
        let attributes = self.write("blob", attributes.as_bytes()).await;
        let hooks = self.tree(&[("100755", b"post-checkout", &hook)]).await;
        self.tree(&[
            ("100644", b".gitattributes", &attributes),
            ("100644", b".gitmodules", &modules),
            ("120000", b"A", &link),
            ("40000", b"a", &hooks),
            ("100644", b"clear\x1b[2J", &hook),
            ("40000", b"git~1", &hooks),
        ])
        .await
    }
}

const HOSTILE: [(&str, &str); 7] = [
    ("git/attributes-size", ".gitattributes"),
    ("git/control-character-name", "clear\u{1b}[2J"),
    ("git/dotgit-name", "git~1"),
    ("git/link-collision", "A"),
    ("git/submodule-name", ".gitmodules"),
    ("git/submodule-path", ".gitmodules"),
    ("git/submodule-url", ".gitmodules"),
];

/// Rule and path of the findings about git in a state.
fn about_git(findings: &[Value], of: impl Fn(&Value) -> bool) -> BTreeSet<(String, String)> {
    findings
        .iter()
        .filter(|f| text(&f["rule_id"]).starts_with("git/") && of(f))
        .map(|f| (text(&f["rule_id"]), text(&f["location"]["path"])))
        .collect()
}

fn hostile() -> BTreeSet<(String, String)> {
    HOSTILE.iter().map(|(rule, path)| ((*rule).to_owned(), (*path).to_owned())).collect()
}

fn of_tree(f: &Value) -> bool {
    f["location"]["in_history"] == json!(false) && f["state"] != "fixed"
}

fn fixed(f: &Value) -> bool {
    f["state"] == "fixed"
}

fn of_history(f: &Value) -> bool {
    f["location"]["in_history"] == json!(true) && f["state"] != "fixed"
}

async fn all(client: &Client, repository: &str) -> Vec<Value> {
    let path =
        format!("/v1/repositories/{repository}/findings?limit=200&state=new,unchanged,fixed");
    client.all(&path).await
}

async fn what_attacks_git_is_a_finding_until_it_is_mended(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let forge = Forge::new(&git).await;
        let made = client.upload(json!({})).await;
        let (id, url) = (text(&made["id"]), text(&made["push_url"]));
        let tree = forge.hostile().await;
        let bad = forge.commit(&tree, None).await;
        forge.work.push(&url, &[&format!("{bad}:refs/heads/main")]).await.expect();

        // It is taken, and told.
        let (upload, _) = client.scanned(&id).await;
        let repository = text(&upload["repository_id"]);
        let found = all(&client, &repository).await;
        assert_eq!(about_git(&found, of_tree), hostile(), "{}", git.version);
        assert_eq!(about_git(&found, of_history).len(), 0);
        let dotgit = found.iter().find(|f| f["rule_id"] == "git/dotgit-name").expect("a finding");
        assert_eq!((&dotgit["severity"], &dotgit["engine"]), (&json!("high"), &json!("code")));
        assert_eq!(dotgit["location"]["commit"], bad, "{dotgit}");
        assert!(text(&dotgit["remediation"]).len() > 20 && dotgit["cwe"][0] == "CWE-41");
        let modules = found.iter().find(|f| f["rule_id"] == "git/submodule-url").expect("one");
        assert_eq!(modules["location"]["start_line"], 3, "{modules}");

        // A second look changes nothing, with the history and without.
        for history in [true, false] {
            let scans = format!("/v1/repositories/{repository}/scans");
            let scan = client.post(&scans, json!({"history": history})).await.expect(201).json();
            let scan = client.ended(&repository, &text(&scan["id"])).await;
            assert_eq!(
                (&scan["summary"]["new"], &scan["summary"]["fixed"]),
                (&json!(0), &json!(0))
            );
            let again = all(&client, &repository).await;
            let ids = |list: &[Value]| list.iter().map(|f| text(&f["id"])).collect::<BTreeSet<_>>();
            assert_eq!(ids(&again), ids(&found));
        }

        // The commit that takes it away mends it. What stays is in the history, and is no
        // danger to those who check out what is there now.
        let readme = forge.write("blob", b"# Fine\n").await;
        let clean = forge.tree(&[("100644", b"README.md", &readme)]).await;
        let good = forge.commit(&clean, Some(&bad)).await;
        forge.work.push(&url, &[&format!("{good}:refs/heads/main")]).await.expect();
        client.scanned(&id).await;
        let now = all(&client, &repository).await;
        assert_eq!(about_git(&now, fixed), hostile());
        assert_eq!(about_git(&now, of_tree).len(), 0);
        let mut before = hostile();
        // Names that fold together are looked for in the tree alone.
        before.remove(&("git/link-collision".to_owned(), "A".to_owned()));
        assert_eq!(about_git(&now, of_history), before);
        for finding in now.iter().filter(|f| of_history(f)) {
            assert_eq!(finding["location"]["commit"], bad, "{finding}");
            assert_eq!(finding["severity"], "low", "{finding}");
        }

        // Whoever rewrites the history is rid of that too.
        let alone = forge.commit(&clean, None).await;
        forge.work.push(&url, &[&format!("+{alone}:refs/heads/main")]).await.expect();
        client.scanned(&id).await;
        let now = all(&client, &repository).await;
        assert_eq!(about_git(&now, |f| !fixed(f)).len(), 0, "{now:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_objects_are_taken_and_told_and_dangerous_ones_refused() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let forge = Forge::new(&git).await;
        let made = client.upload(json!({})).await;
        let url = text(&made["push_url"]);
        let blob = forge.write("blob", b"x = 1\n").await;
        for (entries, says) in [
            (vec![("100644", b"..".as_slice(), blob.as_str())], "'..' or contains a slash"),
            (vec![("100644", b"a/b", &blob)], "'..' or contains a slash"),
            (
                vec![("100644", b"a", &blob), ("100644", b"a", &blob)],
                "two entries of the same name",
            ),
        ] {
            let tree = forge.tree(&entries).await;
            let commit = forge.commit(&tree, None).await;
            let said = forge.work.push(&url, &[&format!("{commit}:refs/heads/main")]).await;
            said.refused(says);
        }
        let commit = format!("tree {}\nauthor Ada <> 1 +0000\ncommitter Ada <> 1 +0000\n\nx\n", {
            // Out of order, and with a mode of seven digits.
            forge.tree(&[("0100644", b"b.py", &blob), ("100644", b"a.py", &blob)]).await
        });
        let commit = forge.write("commit", commit.as_bytes()).await;
        forge.work.push(&url, &[&format!("{commit}:refs/heads/main")]).await.expect();
        let (upload, _) = client.scanned(&text(&made["id"])).await;
        let repository = text(&upload["repository_id"]);
        let expected: BTreeSet<(String, String)> = [
            ("git/missing-identity", "."),
            ("git/unsorted-tree", "."),
            ("git/zero-padded-mode", "b.py"),
        ]
        .map(|(rule, path)| (rule.to_owned(), path.to_owned()))
        .into();
        assert_eq!(about_git(&all(&client, &repository).await, |_| true), expected);
        let tree = format!("/v1/repositories/{repository}/source-tree");
        let tree = client.get(&tree).await.expect(200).json();
        let paths: Vec<String> = paths(&tree);
        assert_eq!(paths, ["a.py", "b.py"], "whatever the order in the tree");
    }
}

fn paths(tree: &Value) -> Vec<String> {
    let items = tree["items"].as_array().or(tree["entries"].as_array()).expect("entries");
    items.iter().map(|entry| text(&entry["path"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_protection_knows_names() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let forge = Forge::new(&git).await;
        let made = client.upload(json!({})).await;
        let url = text(&made["push_url"]);
        let commit = forge.commit(&forge.hostile().await, None).await;
        let refs = format!("{commit}:refs/heads/main");
        let said = forge.work.run(&["push", "-o", "fail-on=high", &url, &refs]).await;
        for word in [
            "git~1:1  Name that stands for .git  [git/dotgit-name]",
            ".gitmodules:3",
            "fix: Write the plain address",
            "out: no comment lets a name pass",
            "`sluice:ignore git/submodule-url -- reason` in a comment on line 3",
            "push protection: 5 findings at or above high",
        ] {
            assert!(said.err.contains(word), "no {word:?} in {}", said.err);
        }
        assert!(!said.ok && !said.err.contains('\u{1b}'), "{}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sluice_scan_finds_the_same_in_a_bare_repository() {
    let place = Place::sqlite();
    let git = Git::any();
    let forge = Forge::new(&git).await;
    let commit = forge.commit(&forge.hostile().await, None).await;
    forge.work.run(&["update-ref", "refs/heads/main", &commit]).await.expect();
    let bare: &Path = &forge.work.path().join(".git");
    let bare = bare.to_str().expect("UTF-8");
    let args = ["scan", bare, "--format", "json", "--history"];
    let said = place.run(&args, "").await;
    assert_eq!(said.code, Some(1), "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    assert_eq!(about_git(findings, |_| true), hostile());
}
