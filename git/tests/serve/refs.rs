//! Refs as git keeps them, and git working on the same files.

use std::{fs, thread};

use crate::{
    git::{Git, each},
    support::{Server, clone, work},
};

#[test]
fn what_is_pushed_is_what_git_keeps() {
    each(|git| there_and_back(git.clone()));
}

fn there_and_back(git: Git) {
    let server = Server::for_git(git, &[]);
    server.create("repo.git", &[]);
    server.set(&[("http.receivepack", "true")]);
    let work = work(&server);
    work.git(&["tag", "-a", "-m", "one", "v1"]).succeeds();
    work.push(&server.url(), &["main", "main:feature/one", "v1"]).succeeds();
    server.sound();
    let head = work.ask(&["rev-parse", "HEAD"]);
    assert_eq!(fs::read_to_string(server.folder().join("refs/heads/main")).unwrap().trim(), head);
    assert_eq!(server.id("refs/heads/feature/one"), head);
    assert_eq!(server.ask(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert!(!server.folder().join("logs").exists(), "a bare repository has no reflogs");
    // Delete, force, and update in one go.
    work.git(&["commit", "-q", "--amend", "-m", "again"]).succeeds();
    work.push(&server.url(), &["+main", ":feature/one", ":refs/tags/v1"]).succeeds();
    assert_eq!(server.id("main"), work.ask(&["rev-parse", "HEAD"]));
    assert_eq!(server.ask(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    assert!(!server.folder().join("refs/heads/feature").exists(), "no empty folder is left");
    server.sound();
    let (run, copy) = clone(&server, &server.url(), &[]);
    run.succeeds();
    assert_eq!(copy.ask(&["rev-parse", "HEAD"]), work.ask(&["rev-parse", "HEAD"]));
}

#[test]
fn packed_refs_are_read_and_rewritten() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.git(&["tag", "-a", "-m", "one", "v1"]).succeeds();
    work.push(&server.url(), &["main", "main:a", "main:b/c", "v1"]).succeeds();
    server.ask(&["pack-refs", "--all"]);
    assert!(!server.folder().join("refs/heads/main").exists());
    work.commit("second");
    // What is packed is in the way of what would stand below it.
    work.push(&server.url(), &["main:a/x"]).fails().says("refname conflict");
    work.push(&server.url(), &["main:b"]).fails().says("refname conflict");
    // Once deleted it is not, in one push or in two.
    work.push(&server.url(), &["main", ":a", "main:a/x", ":b/c"]).succeeds();
    work.push(&server.url(), &["main:b"]).succeeds();
    let packed = fs::read_to_string(server.folder().join("packed-refs")).unwrap();
    assert!(packed.starts_with("# pack-refs with:"), "{packed}");
    assert!(!packed.contains("refs/heads/b/c") && packed.contains("refs/tags/v1\n^"), "{packed}");
    let names = server.ask(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(names, "refs/heads/a/x\nrefs/heads/b\nrefs/heads/main\nrefs/tags/v1");
    work.push(&server.url(), &[":refs/tags/v1"]).succeeds();
    let packed = fs::read_to_string(server.folder().join("packed-refs")).unwrap();
    assert!(!packed.contains('^') && !packed.contains("v1"), "{packed}");
    server.sound();
}

#[test]
fn an_atomic_push_moves_all_refs_or_none() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main", "main:side"]).succeeds();
    let old = server.id("main");
    work.commit("second");
    // A ref that somebody else holds.
    fs::write(server.folder().join("refs/heads/side.lock"), "").unwrap();
    work.push(&server.url(), &["--atomic", "main", "main:side"]).fails();
    assert_eq!(server.id("main"), old);
    work.push(&server.url(), &["main", "main:side"]).fails().says("failed to update ref");
    assert_eq!(server.id("main"), work.ask(&["rev-parse", "HEAD"]));
    assert_eq!(server.id("side"), old);
    fs::remove_file(server.folder().join("refs/heads/side.lock")).unwrap();
    // The file of all packed refs, too, may be held by somebody else.
    server.ask(&["pack-refs", "--all"]);
    let packed_lock = server.folder().join("packed-refs.lock");
    fs::write(&packed_lock, "").unwrap();
    work.push(&server.url(), &["--atomic", ":side", "main:new"]).fails();
    assert_eq!(server.id("new"), "");
    work.push(&server.url(), &[":side", "main:newer"]).fails().says("failed to update ref");
    assert_eq!((server.id("side"), server.id("newer")), (old, server.id("main")));
    fs::remove_file(packed_lock).unwrap();
    work.push(&server.url(), &["--atomic", "main:side", ":main", "main:new"]).fails();
    work.push(&server.url(), &["--atomic", "main:side", "main:new"]).succeeds();
    assert_eq!(server.id("side"), server.id("new"));
    server.sound();
}

#[test]
fn of_two_pushes_to_one_ref_one_wins() {
    let server = Server::with(&[]);
    let first = work(&server);
    first.push(&server.url(), &["main"]).succeeds();
    let copies: Vec<_> = (0..6)
        .map(|number| {
            let (run, copy) = clone(&server, &server.url(), &[]);
            run.succeeds();
            copy.commit(&format!("file-{number}"));
            copy
        })
        .collect();
    let url = server.url();
    let won: Vec<String> = thread::scope(|scope| {
        let pushes: Vec<_> = copies
            .iter()
            .enumerate()
            .map(|(number, copy)| {
                let url = url.as_str();
                scope.spawn(move || {
                    let other = format!("main:own-{number}");
                    let run = copy.push(url, &["main", &other]);
                    (!run.output.contains("rejected")).then(|| copy.ask(&["rev-parse", "HEAD"]))
                })
            })
            .collect();
        pushes.into_iter().filter_map(|push| push.join().unwrap()).collect()
    });
    assert_eq!(won, [server.id("main")]);
    assert_eq!(server.ask(&["for-each-ref", "refs/heads"]).lines().count(), 7);
    server.sound();
}

#[test]
fn reflogs_are_written_where_git_would() {
    let server = Server::with(&[("core.logAllRefUpdates", "true")]);
    // Git shows who it is only when it is asked.
    server.ask(&["config", "--unset", "http.receivepack"]);
    let work = work(&server);
    work.push(&server.url_of("ada", "repo.git"), &["main", "main:a/b", "main:refs/tags/t"])
        .succeeds();
    let old = server.id("main");
    work.commit("second");
    work.push(&server.url_of("ada", "repo.git"), &["main", ":a/b"]).succeeds();
    let log = fs::read_to_string(server.folder().join("logs/refs/heads/main")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2);
    let begin = format!("{old} {} ada <ada@http.127.0.0.1> 1", server.id("main"));
    assert!(lines[1].starts_with(&begin) && lines[1].ends_with("\tpush"), "{log}");
    assert_eq!(server.ask(&["reflog", "show", "--format=%gs", "main"]), "push\npush");
    assert!(server.folder().join("logs/HEAD").exists());
    assert!(!server.folder().join("logs/refs/tags").exists());
    assert!(!server.folder().join("logs/refs/heads/a").exists());
    // A log in the way of another.
    work.push(&server.url_of("ada", "repo.git"), &["main:a"]).succeeds();
    assert!(server.folder().join("logs/refs/heads/a").is_file());
    server.sound();
}

#[test]
fn refs_of_odd_names_can_be_deleted_but_not_made() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    server.ask(&["update-ref", "refs/stash", "refs/heads/main"]);
    work.push(&server.url(), &["main:refs/other"]).fails().says("funny refname");
    work.push(&server.url(), &[":refs/stash"]).succeeds();
    assert_eq!(server.ask(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn symbolic_refs_lead_to_what_they_name() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    server.ask(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    server.ask(&["symbolic-ref", "refs/heads/nowhere", "refs/heads/none"]);
    work.commit("second");
    work.push(&server.url(), &["main:alias"]).succeeds();
    assert_eq!(server.id("main"), work.ask(&["rev-parse", "HEAD"]));
    let alias = fs::read_to_string(server.folder().join("refs/heads/alias")).unwrap();
    assert_eq!(alias, "ref: refs/heads/main\n");
    let listed = work.ask(&["ls-remote", &server.url()]);
    assert!(listed.contains("refs/heads/alias") && !listed.contains("nowhere"), "{listed}");
}

#[test]
fn objects_of_alternates_are_offered_and_used() {
    let server = Server::with(&[]);
    let work = work(&server);
    for number in 0..20 {
        work.commit(&format!("file-{number}"));
    }
    work.push(&server.url(), &["main"]).succeeds();
    server.ask(&["clone", "-q", "--bare", "--shared", ".", "../fork.git"]);
    let fork = server.root.path().join("fork.git");
    server.git.run(&fork, &["update-ref", "-d", "refs/heads/main"]).succeeds();
    server.git.run(&fork, &["config", "http.receivepack", "true"]).succeeds();
    work.commit("one-more");
    let url = format!("http://{}/fork", server.address);
    work.push(&url, &["main"]).succeeds();
    // A commit, a tree, a file, and the tree that the new one was sent as a change of.
    let count = server.git.run(&fork, &["count-objects", "-v"]);
    count.succeeds().says("in-pack: 4\n");
    server.git.run(&fork, &["fsck", "--full"]).succeeds();
    let (run, copy) = clone(&server, &url, &[]);
    run.succeeds();
    assert_eq!(copy.ask(&["rev-parse", "HEAD"]), work.ask(&["rev-parse", "HEAD"]));
}

/// Whoever takes part in git's protocol of locks loses nothing, and nothing comes back.
#[test]
fn git_packs_refs_while_others_push() {
    const PUSHERS: usize = 3;
    const ROUNDS: usize = 6;
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    let rounds = |number: usize| {
        let (run, copy) = clone(&server, &server.url(), &[]);
        run.succeeds();
        let (kept, lost) = (format!("main:k{number}/kept"), format!("main:l{number}"));
        let until_it_works = |arguments: &[&str]| {
            // A lock may be held by the other for longer than anybody waits.
            let pushed = (0..20).any(|_| copy.push(&server.url(), arguments).ok);
            assert!(pushed, "{arguments:?}");
        };
        for round in 0..ROUNDS {
            copy.commit(&format!("file-{number}-{round}"));
            until_it_works(&[&kept, &lost]);
            until_it_works(&[&format!(":refs/heads/l{number}")]);
        }
        copy.ask(&["rev-parse", "HEAD"])
    };
    let rounds = &rounds;
    let tips: Vec<String> = thread::scope(|scope| {
        let pushers: Vec<_> =
            (0..PUSHERS).map(|number| scope.spawn(move || rounds(number))).collect();
        while !pushers.iter().all(thread::ScopedJoinHandle::is_finished) {
            server.git.run(&server.folder(), &["pack-refs", "--all", "--prune"]);
        }
        pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect()
    });
    let names = server.ask(&["for-each-ref", "--format=%(refname:short)"]);
    assert_eq!(names, "k0/kept\nk1/kept\nk2/kept\nmain");
    for (number, tip) in tips.iter().enumerate() {
        assert_eq!(*tip, server.id(&format!("k{number}/kept")));
    }
    server.sound();
}

#[test]
fn git_collects_garbage_in_between() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    for number in 0..3 {
        work.commit(&format!("file-{number}"));
        work.push(&server.url(), &["main"]).succeeds();
        server.ask(&["gc", "-q", "--prune=now"]);
    }
    assert_eq!(server.id("main"), work.ask(&["rev-parse", "HEAD"]));
    server.sound();
}

#[test]
fn a_ref_to_what_is_not_complete_is_refused() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    // A commit is there, as after a pruning that went half way, but not its tree.
    let lost = work.commit("second");
    let text = work.ask(&["cat-file", "commit", &lost]) + "\n";
    let file = server.root.path().join("commit");
    fs::write(&file, text).unwrap();
    let id = server.ask(&["hash-object", "-w", "-t", "commit", file.to_str().unwrap()]);
    assert_eq!(id, lost);
    // The client believes that the server has the rest: it was told so by a ref that is gone now.
    work.git(&["update-ref", "refs/remotes/there/x", &lost]).succeeds();
    let refused = work.ask(&["rev-parse", "main^{tree}"]);
    assert!(!server.git.run(&server.folder(), &["cat-file", "-e", &refused]).ok);
    let push = crate::http::push_without_objects(&server, &lost, "refs/heads/bad");
    assert!(push.contains("ng refs/heads/bad missing necessary objects"), "{push}");
    work.push(&server.url(), &["main:good"]).succeeds();
    assert_eq!(server.id("good"), lost);
    server.sound();
}

#[test]
fn a_symbolic_ref_and_what_it_names_in_one_push() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    server.ask(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    let first = work.ask(&["rev-parse", "main"]);
    let second = work.commit("second");
    work.push(&server.url(), &["--atomic", "main:alias", "main:main"]).succeeds();
    assert_eq!((server.id("main"), server.id("alias")), (second.clone(), second.clone()));
    // What they should become differs.
    work.commit("third");
    work.push(&server.url(), &["main:alias", &format!("+{first}:refs/heads/main")]).fails();
    let alias = fs::read_to_string(server.folder().join("refs/heads/alias")).unwrap();
    assert_eq!(alias, "ref: refs/heads/main\n");
    server.sound();
}

/// What was damaged before is not the fault of a push to another branch.
#[test]
fn a_damaged_ref_beside_the_one_that_is_pushed() {
    let server = Server::with(&[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    work.git(&["checkout", "-q", "-b", "other"]).succeeds();
    let lost = work.commit("lost");
    work.commit("later");
    work.push(&server.url(), &["other"]).succeeds();
    // As files of their own, of which one goes.
    let pack = fs::read_dir(server.folder().join("objects/pack")).unwrap();
    for entry in pack {
        let path = entry.unwrap().path();
        let moved = server.root.path().join(path.file_name().unwrap());
        fs::rename(&path, &moved).unwrap();
        if moved.extension().is_some_and(|extension| extension == "pack") {
            let unpack = std::process::Command::new("git")
                .current_dir(server.folder())
                .args(["unpack-objects", "-q"])
                .stdin(fs::File::open(&moved).unwrap())
                .status();
            assert!(unpack.unwrap().success());
        }
    }
    fs::remove_file(server.folder().join("objects").join(&lost[..2]).join(&lost[2..])).unwrap();
    work.git(&["checkout", "-q", "main"]).succeeds();
    let new = work.commit("new");
    work.push(&server.url(), &["main"]).succeeds();
    assert_eq!(server.id("main"), new);
    // What needs it is refused all the same.
    work.push(&server.url(), &["other~1:refs/heads/needs"]).fails();
}
