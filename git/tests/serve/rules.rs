//! Rules of the `receive` section, and refs that are hidden.

use std::fs;

use crate::support::{Server, clone, work};

#[test]
fn deletions() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main", "main:side", "main:other"]).succeeds();
    let current = "deletion of the current branch prohibited";
    work.push(&server.url(), &[":main"]).fails().says(current);
    server.set(&[("receive.denyDeletes", "true")]);
    work.push(&server.url(), &[":side"]).fails().says("deletion prohibited");
    server.ask(&["config", "receive.denyDeletes", "false"]);
    work.push(&server.url(), &[":side"]).succeeds();
    server.set(&[("receive.denyDeleteCurrent", "ignore")]);
    work.push(&server.url(), &[":main"]).succeeds();
    assert_eq!(server.ask(&["for-each-ref", "--format=%(refname)"]), "refs/heads/other");
    server.sound();
}

#[test]
fn branches_that_only_move_forward() {
    let server = Server::with(&[("receive.denyNonFastForwards", "true")]);
    let work = work(&server);
    work.commit("second");
    work.push(&server.url(), &["main", "main:refs/tags/t"]).succeeds();
    work.push(&server.url(), &["+main~1:main"]).fails().says("non-fast-forward");
    work.push(&server.url(), &["+main~1:refs/tags/t"]).succeeds();
    work.commit("third");
    work.push(&server.url(), &["+main"]).succeeds();
    server.sound();
}

#[test]
fn the_size_of_a_push() {
    let server = Server::with(&[("receive.maxInputSize", "10k"), ("receive.unpackLimit", "1")]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    let noise: Vec<u8> = (0..40_000_u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8 ^ ((n * n) >> 7) as u8)
        .collect();
    work.commit_bytes("noise", &noise);
    let run = work.push(&server.url(), &["main"]);
    run.fails().says("the pack is larger than");
    server.sound();
    server.ask(&["config", "receive.maxInputSize", "0"]);
    work.push(&server.url(), &["main"]).succeeds();
}

#[test]
fn what_is_offered() {
    let server = Server::with(&[]);
    let work = work(&server);
    let run = work.push(&server.url(), &["-o", "x", "main"]);
    run.fails().says("receiving end does not support push options");
    work.push(&server.url(), &["--atomic", "main"]).succeeds();
    server.set(&[("receive.advertisePushOptions", "true"), ("receive.advertiseAtomic", "false")]);
    work.push(&server.url(), &["-o", "x", "main:a"]).succeeds();
    let run = work.push(&server.url(), &["--atomic", "main:b"]);
    run.fails().says("receiving end does not support --atomic push");
}

#[test]
fn pushes_from_a_shallow_clone() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.commit("second");
    work.commit("third");
    let copy = tempfile::tempdir().unwrap();
    let source = format!("file://{}", work.folder.path().display());
    server.git.run(copy.path(), &["clone", "-q", "--depth=1", &source, "."]).succeeds();
    let push = |refs: &[&str]| {
        server.git.run(copy.path(), &[&["push", server.url().as_str()], refs].concat())
    };
    push(&["main"]).fails().says("shallow update not allowed");
    assert!(!server.folder().join("shallow").exists());
    assert_eq!(server.id("main"), "");
    // Where the history is there, it does not matter that the client has not got it.
    work.push(&server.url(), &["main:whole"]).succeeds();
    fs::write(copy.path().join("more"), "more").unwrap();
    server.git.run(copy.path(), &["add", "."]).succeeds();
    server.git.run(copy.path(), &["commit", "-q", "-m", "more"]).succeeds();
    push(&["main"]).succeeds();
    server.sound();

    let server = Server::with(&[("receive.shallowUpdate", "true")]);
    let run = server.git.run(copy.path(), &["push", &server.url(), "main"]);
    run.succeeds();
    let root = work.ask(&["rev-parse", "main"]);
    assert_eq!(fs::read_to_string(server.folder().join("shallow")).unwrap().trim(), root);
    server.sound();
    let (run, copy) = clone(&server, &server.url(), &[]);
    run.succeeds();
    assert_eq!(copy.ask(&["rev-list", "--count", "HEAD"]), "2");
}

#[test]
fn hidden_refs_are_neither_shown_nor_moved() {
    let server = Server::with(&[
        ("transfer.hideRefs", "refs/secret"),
        ("receive.hideRefs", "refs/heads/read"),
        ("uploadpack.hideRefs", "refs/heads/write"),
        ("transfer.hideRefs", "!refs/secret/open"),
    ]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    for name in ["refs/secret/a", "refs/secret/open", "refs/heads/read", "refs/heads/write"] {
        server.ask(&["update-ref", name, "refs/heads/main"]);
    }
    let hidden = "deny updating a hidden ref";
    work.push(&server.url(), &["main:refs/secret/b"]).fails().says(hidden);
    work.push(&server.url(), &[":refs/secret/a"]).fails().says(hidden);
    work.commit("second");
    work.push(&server.url(), &["main:read"]).fails().says(hidden);
    work.push(&server.url(), &["main:write", "main:refs/secret/open"]).succeeds();
    let listed = work.ask(&["ls-remote", &server.url()]);
    let names: Vec<_> = listed.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    let shown = ["HEAD", "refs/heads/main", "refs/heads/read", "refs/secret/open"];
    assert_eq!(names, shown);
    // What only hidden refs reach cannot be asked for, in either version.
    server.ask(&["update-ref", "-d", "refs/secret/open"]);
    let secret = server.id("refs/heads/write");
    for version in ["0", "2"] {
        let protocol = format!("protocol.version={version}");
        let fetch = ["-c", &protocol, "fetch", "-q", &server.url(), &secret];
        let (_, copy) = clone(&server, &server.url(), &[]);
        server.ask(&["config", "uploadpack.allowTipSHA1InWant", "false"]);
        let run = copy.git(&fetch);
        run.fails();
        assert!(
            run.output.contains("not our ref") || run.output.contains("does not allow"),
            "{}",
            run.output
        );
        server.ask(&["config", "uploadpack.allowTipSHA1InWant", "true"]);
        copy.git(&fetch).succeeds();
    }
    server.sound();
}

#[test]
fn a_branch_that_somebody_works_on_stays() {
    let server = Server::with(&[]);
    server.git.run(server.root.path(), &["init", "-q", "-b", "main", "tree"]).succeeds();
    let tree = server.root.path().join("tree");
    let work = work(&server);
    let url = server.url_of("ada", "tree");
    work.push(&url, &["main"]).fails().says("branch is currently checked out");
    work.push(&url, &["main:other"]).succeeds();
    assert!(tree.join(".git/logs/refs/heads/other").exists(), "there are reflogs with a tree");
    server.git.run(&tree, &["config", "receive.denyCurrentBranch", "ignore"]).succeeds();
    work.push(&url, &["main"]).succeeds();
    server.git.run(&tree, &["fsck"]).succeeds();
}
