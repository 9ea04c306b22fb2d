//! Repositories whose objects are named by SHA-256.

use crate::{
    git::{Clone, Git, each, versions},
    support::{Server, clone, work},
};

/// A server and a working copy of that kind.
fn server() -> (Server, Clone) {
    server_for(versions().pop().unwrap())
}

fn server_for(git: Git) -> (Server, Clone) {
    let server = Server::for_git(git, &[]);
    server.create("repo.git", &["--object-format=sha256"]);
    server.set(&[("http.receivepack", "true")]);
    let clone = Clone { git: server.git.clone(), folder: tempfile::tempdir().unwrap() };
    clone.git(&["init", "-q", "-b", "main", "--object-format=sha256", "."]).succeeds();
    clone.commit("first");
    (server, clone)
}

#[test]
fn pushed_and_cloned_back() {
    each(|git| there_and_back(git.clone()));
}

fn there_and_back(git: Git) {
    let (server, work) = server_for(git);
    work.git(&["tag", "-a", "-m", "one", "v1"]).succeeds();
    work.push(&server.url(), &["main", "v1"]).succeeds();
    assert_eq!(server.id("main").len(), 64);
    for number in 0..5 {
        let text = format!("line {number}\n").repeat(2000 + number);
        work.commit_bytes("first", text.as_bytes());
        work.push(&server.url(), &["main"]).succeeds();
    }
    work.push(&server.url(), &["main:side"]).succeeds();
    work.push(&server.url(), &[":side"]).succeeds();
    server.sound();
    server.set(&[("uploadpack.allowFilter", "true")]);
    for arguments in [
        ["-c", "protocol.version=0"],
        ["-c", "protocol.version=2"],
        ["--depth=2", "--no-single-branch"],
        ["--filter=blob:none", "--bare"],
    ] {
        let (run, copy) = clone(&server, &server.url(), &arguments);
        run.succeeds();
        assert_eq!(copy.ask(&["rev-parse", "HEAD"]), work.ask(&["rev-parse", "HEAD"]));
        assert_eq!(copy.ask(&["rev-parse", "--show-object-format"]), "sha256");
        copy.git(&["fsck", "--connectivity-only"]).succeeds();
    }
    server.ask(&["gc", "-q"]);
    work.commit("last");
    work.push(&server.url(), &["main"]).succeeds();
    server.sound();
}

#[test]
fn checked_and_ruled_as_others() {
    let (server, clone) = server();
    server.set(&[
        ("receive.fsckObjects", "true"),
        ("receive.denyNonFastForwards", "true"),
        ("receive.shallowUpdate", "true"),
    ]);
    clone.commit("second");
    clone.push(&server.url(), &["main"]).succeeds();
    clone.push(&server.url(), &["+main~1:main"]).fails().says("non-fast-forward");
    let tree = clone.ask(&["rev-parse", "main^{tree}"]);
    let text = format!("tree {tree}\nauthor A 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n");
    std::fs::write(clone.folder.path().join("../bad-commit"), text).unwrap();
    let write = ["hash-object", "--literally", "-w", "-t", "commit", "../bad-commit"];
    let bad = clone.ask(&write);
    let refspec = format!("{bad}:refs/heads/bad");
    clone.push(&server.url(), &[&refspec]).fails().says("missingEmail");
    server.sound();
}

#[test]
fn the_other_kind_is_refused_by_a_sentence() {
    let (server, _) = server();
    let other = work(&server);
    let run = other.push(&server.url(), &["main"]);
    run.fails().says("does not support this repository's hash algorithm");
    let id = other.ask(&["rev-parse", "HEAD"]);
    let answer = crate::http::push_without_objects(&server, &id, "refs/heads/main");
    assert!(answer.contains("this remote takes sha256 repositories"), "{answer}");
    server.sound();
}
