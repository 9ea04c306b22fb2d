//! The operator's programs.

use std::fs;

use crate::{
    git::Clone,
    support::{Server, hook, work},
};

fn with_hooks() -> (Server, Clone, String) {
    let server = Server::start(&["--run-hooks"]);
    server.create("repo.git", &[]);
    let clone = work(&server);
    let url = server.url_of("ada", "repo.git");
    (server, clone, url)
}

#[test]
fn hooks_are_not_run_unless_it_is_asked_for() {
    let server = Server::with(&[]);
    for name in ["pre-receive", "update", "post-receive", "post-update"] {
        hook(&server, name, "echo here; exit 1");
    }
    let work = work(&server);
    let run = work.push(&server.url(), &["main"]);
    assert!(!run.succeeds().output.contains("here"), "{}", run.output);
}

#[test]
fn all_hooks_with_their_arguments_and_output() {
    let (server, work, url) = with_hooks();
    hook(&server, "pre-receive", "echo pre; cat > pre.txt; env > pre.env; pwd >&2");
    hook(&server, "update", "echo \"update $1 $2 $3\"; git cat-file -t $3");
    hook(&server, "post-receive", "cat > post.txt; env > post.env; git rev-parse main");
    hook(&server, "post-update", "echo \"after $*\"");
    let zero = "0".repeat(40);
    let run = work.push(&url, &["main", "main:side"]);
    let id = work.ask(&["rev-parse", "HEAD"]);
    run.succeeds()
        .says("remote: pre")
        .says(&format!("remote: {}", server.folder().canonicalize().unwrap().display()))
        .says(&format!("remote: update refs/heads/main {zero} {id}"))
        .says("remote: commit")
        .says(&format!("remote: {id}"))
        .says("remote: after refs/heads/main refs/heads/side");
    let lines = format!("{zero} {id} refs/heads/main\n{zero} {id} refs/heads/side\n");
    let read = |name: &str| fs::read_to_string(server.folder().join(name)).unwrap();
    assert_eq!(read("pre.txt"), lines);
    assert_eq!(read("post.txt"), lines);
    let (before, after) = (read("pre.env"), read("post.env"));
    for line in ["GIT_DIR=.", "REMOTE_USER=ada", "GIT_COMMITTER_NAME=ada", "REMOTE_ADDR=127.0.0.1"]
    {
        for environment in [&before, &after] {
            assert!(environment.lines().any(|other| other == line), "{line} in\n{environment}");
        }
    }
    assert!(before.contains("GIT_QUARANTINE_PATH=") && !after.contains("GIT_QUARANTINE_PATH="));
    assert!(!before.contains("GIT_PUSH_OPTION_COUNT"));
    server.sound();
}

#[test]
fn before_it_agrees_nothing_is_visible_but_to_the_hook() {
    let (server, work, url) = with_hooks();
    let check = "while read old new name; do git cat-file -t $new || exit 1; done";
    let refuse = format!("{check}; echo 'no, and this is why'; exit 1");
    hook(&server, "pre-receive", &refuse);
    let run = work.push(&url, &["main", "main:side"]);
    run.fails().says("remote: no, and this is why").says("pre-receive hook declined");
    assert_eq!(server.ask(&["for-each-ref"]), "");
    assert!(server.ask(&["count-objects", "-v"]).contains("in-pack: 0"));
    server.sound();
    // A hook that does not read what it is given is no trouble.
    hook(&server, "pre-receive", "exit 0");
    let many: Vec<String> = (0..2000).map(|number| format!("main:many/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    work.push(&url, &many).succeeds();
    server.sound();
}

#[test]
fn update_decides_about_each_ref() {
    let (server, work, url) = with_hooks();
    hook(&server, "update", "test \"$1\" != refs/heads/side");
    hook(&server, "post-update", "echo \"after $*\"");
    let run = work.push(&url, &["main", "main:side"]);
    run.fails()
        .says("error: hook declined to update refs/heads/side")
        .says("side (hook declined)")
        .says("remote: after refs/heads/main");
    assert_eq!(server.ask(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    work.commit("second");
    let run = work.push(&url, &["--atomic", "main", "main:side"]);
    run.fails().says("hook declined");
    assert_ne!(server.id("main"), work.ask(&["rev-parse", "HEAD"]));
    server.sound();
}

#[test]
fn what_was_not_there_is_not_told_to_the_hooks_that_come_after() {
    let (server, work, url) = with_hooks();
    for name in ["pre-receive", "post-receive"] {
        hook(&server, name, &format!("cat > {name}.txt"));
    }
    work.push(&url, &["main", ":refs/heads/none"]).succeeds().says("deleting a non-existent ref");
    let lines = |name: &str| {
        fs::read_to_string(server.folder().join(format!("{name}.txt"))).unwrap().lines().count()
    };
    assert_eq!((lines("pre-receive"), lines("post-receive")), (2, 1));
    server.sound();
}

#[test]
fn push_options_reach_the_hooks() {
    let (server, work, url) = with_hooks();
    server.set(&[("receive.advertisePushOptions", "true")]);
    hook(
        &server,
        "pre-receive",
        "echo $GIT_PUSH_OPTION_COUNT-$GIT_PUSH_OPTION_0-$GIT_PUSH_OPTION_1",
    );
    work.push(&url, &["-o", "one", "-o", "two words", "main"]).succeeds().says("2-one-two words");
    work.push(&url, &["main:b"]).succeeds().says("remote: 0--");
}
