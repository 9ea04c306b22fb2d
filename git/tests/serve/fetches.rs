//! The `uploadpack` section: wants, filters, and what is offered.

use crate::{
    git::Clone,
    support::{Server, clone, work},
};

/// A server with two commits, the first of which is on no branch any more.
fn rewound() -> (Server, Clone, String) {
    let server = Server::with(&[]);
    let work = work(&server);
    let lost = work.commit("second");
    work.push(&server.url(), &["main"]).succeeds();
    work.git(&["reset", "-q", "--hard", "HEAD~1"]).succeeds();
    work.commit("other");
    work.commit("more");
    work.push(&server.url(), &["+main"]).succeeds();
    (server, work, lost)
}

#[test]
fn wants_by_id() {
    let (server, work, lost) = rewound();
    let inner = work.ask(&["rev-parse", "main~1"]);
    let blob = work.ask(&["rev-parse", "main~1:other"]);
    let fetch = |version: &str, id: &str| {
        let copy = clone(&server, &server.url(), &["--depth=1"]).1;
        let protocol = format!("protocol.version={version}");
        copy.git(&["-c", &protocol, "fetch", "-q", "--depth=1", &server.url(), id]).ok
    };
    // A client of version 0 asks only for what it may ask for by what is advertised.
    assert!(!fetch("0", &inner) && !fetch("0", &lost));
    assert!(fetch("2", &inner) && fetch("2", &blob) && !fetch("2", &lost));
    server.set(&[("uploadpack.allowReachableSHA1InWant", "true")]);
    assert!(fetch("0", &inner) && !fetch("0", &lost) && !fetch("2", &lost));
    server.set(&[("uploadpack.allowAnySHA1InWant", "true")]);
    assert!(fetch("0", &lost) && fetch("2", &lost));
}

#[test]
fn filters() {
    let (server, _, _) = rewound();
    let filtered =
        |filter: &str| clone(&server, &server.url(), &["--bare", &format!("--filter={filter}")]).0;
    filtered("blob:none").says("filtering not recognized");
    server.set(&[("uploadpack.allowFilter", "true")]);
    let run = filtered("blob:none");
    assert!(!run.succeeds().output.contains("not recognized"), "{}", run.output);
    server.set(&[("uploadpackfilter.blob:none.allow", "false")]);
    filtered("blob:none").fails().says("filter 'blob:none' not supported");
    filtered("blob:limit=1").succeeds();
    server.set(&[("uploadpackfilter.tree.maxDepth", "1")]);
    filtered("tree:1").succeeds();
    filtered("tree:2").fails().says("tree filter allows max depth 1, but got 2");
    server.set(&[("uploadpackfilter.allow", "false")]);
    filtered("blob:limit=1").fails().says("filter 'blob:limit' not supported");
    server.set(&[("uploadpackfilter.tree.allow", "true")]);
    filtered("tree:0").succeeds();
}

#[test]
fn a_partial_clone_gets_what_it_left_out_when_it_needs_it() {
    let (server, work, _) = rewound();
    server.set(&[("uploadpack.allowFilter", "true")]);
    let (run, copy) = clone(&server, &server.url(), &["--filter=blob:none"]);
    run.succeeds();
    let log = |clone: &Clone| clone.ask(&["log", "-p", "--format=%H"]);
    assert_eq!(log(&copy), log(&work));
}

/// What a server says first in version 2.
fn capabilities(server: &Server) -> String {
    let url = format!("{}/info/refs?service=git-upload-pack", server.url());
    let output = std::process::Command::new("curl")
        .args(["-s", "-m", "60", "-H", "Git-Protocol: version=2", &url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_offered() {
    let server = Server::with(&[]);
    let said = capabilities(&server);
    assert!(said.contains("ls-refs=unborn\n") && !said.contains("ref-in-want"), "{said}");
    server.set(&[("uploadpack.allowRefInWant", "true"), ("lsrefs.unborn", "allow")]);
    let said = capabilities(&server);
    assert!(said.contains("ls-refs\n") && said.contains("ref-in-want"), "{said}");
    server.set(&[("protocol.version", "1")]);
    let said = capabilities(&server);
    assert!(said.contains("# service=git-upload-pack") && !said.contains("version 2"), "{said}");
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    let trace = |version: &str| {
        let protocol = format!("protocol.version={version}");
        let mut command = server.git.command(work.folder.path());
        command.env("GIT_TRACE_PACKET", "1").args(["-c", &protocol, "ls-remote", &server.url()]);
        let output = command.output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!trace("2").contains("< version 2") && trace("1").contains("< version 1"));
    server.ask(&["config", "protocol.version", "0"]);
    assert!(!trace("1").contains("< version 1"));
}

#[test]
fn the_branch_of_an_empty_repository() {
    let server = Server::start(&[]);
    server.create("repo.git", &["-b", "trunk"]);
    let branch = || {
        let (run, copy) = clone(&server, &server.url(), &[]);
        run.succeeds();
        copy.ask(&["symbolic-ref", "HEAD"])
    };
    assert_eq!(branch(), "refs/heads/trunk");
    server.ask(&["config", "lsrefs.unborn", "ignore"]);
    assert_ne!(branch(), "refs/heads/trunk");
}

#[test]
fn a_detached_head_is_told() {
    let (server, _, _) = rewound();
    let id = server.id("main~1");
    server.ask(&["update-ref", "--no-deref", "HEAD", &id]);
    let (run, copy) = clone(&server, &server.url(), &[]);
    run.succeeds();
    assert_eq!(copy.ask(&["rev-parse", "HEAD"]), id);
}
