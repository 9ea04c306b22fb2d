//! Rules of refs, as the client reads them.

use sluice_git::Policy;

use crate::support::{
    Options, Server,
    git::{Clone, each},
    pack,
    raw::{self, ZERO, line},
};

#[test]
fn atomic_is_all_or_nothing() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        clone.push(&server.url(), &["main:refs/heads/a"]).succeeds();
        let both = ["main:refs/heads/a/b", "main:refs/heads/good"];
        let run = clone.push(&server.url(), &["--atomic", both[0], both[1]]);
        run.fails().says("! [remote rejected] main -> a/b (refname conflict)");
        run.says("! [remote rejected] main -> good (atomic push failure)");
        assert_eq!(server.ref_names(), ["refs/heads/a"]);
        // Without --atomic each ref stands for itself.
        clone.push(&server.url(), &both).fails().says("* [new branch]      main -> good");
        assert_eq!(server.ref_names(), ["refs/heads/a", "refs/heads/good"]);
        clone
            .push(&server.url(), &["--atomic", "main:refs/heads/x", "main:refs/heads/y"])
            .succeeds();
        server.fsck();
    });
}

#[test]
fn a_deletion_makes_room_for_a_directory() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        clone.push(&server.url(), &["main:refs/heads/a"]).succeeds();
        clone.push(&server.url(), &["--atomic", "main:refs/heads/a/b", ":refs/heads/a"]).succeeds();
        assert_eq!(server.ref_names(), ["refs/heads/a/b"]);
    });
}

#[test]
fn policies_are_told_per_ref() {
    each(|git| {
        let policy = Policy {
            deny_deletes: true,
            max_refs: 3,
            hidden_refs: vec!["refs/secret/".into()],
            ..Policy::default()
        };
        let server = Server::with(Options { policy, ..Options::default() });
        let clone = Clone::new(git);
        clone.push(&server.url(), &["main", "main:refs/heads/two"]).succeeds();
        clone.push(&server.url(), &[":two"]).fails().says("(deletion prohibited)");
        let run = clone.push(&server.url(), &["main:refs/secret/x", "main:refs/heads/three"]);
        run.fails().says("(too many refs)").says("(deny updating a hidden ref)");
        clone.push(&server.url(), &["main:refs/heads/three"]).succeeds();
        assert_eq!(server.ref_names(), ["refs/heads/main", "refs/heads/three", "refs/heads/two"]);
    });
}

#[test]
fn the_current_branch_stays() {
    each(|git| {
        let policy = Policy { current_branch: Some("refs/heads/main".into()), ..Policy::default() };
        let server = Server::with(Options { policy, ..Options::default() });
        let clone = Clone::new(git);
        clone.push(&server.url(), &["main", "main:refs/heads/x"]).succeeds();
        let run = clone.push(&server.url(), &[":main", ":x"]);
        run.fails().says("! [remote rejected] main (deletion of the current branch prohibited)");
        assert_eq!(server.ref_names(), ["refs/heads/main"]);
    });
}

#[test]
fn odd_names_are_refused_one_by_one() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let run = clone.push(
            &server.url(),
            &["main:refs/heads/HEAD", "main:refs/toplevel", "main:refs/heads/fine"],
        );
        run.fails().says("! [remote rejected] main -> HEAD (funny refname)").says("main -> fine");
        assert_eq!(server.ref_names(), ["refs/heads/fine"]);
    });
}

#[test]
fn a_branch_points_to_a_commit() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        // Git's own client refuses this earlier for a blob with a name, so the tree is named by id.
        let tree = clone.ask(&["rev-parse", "main^{tree}"]);
        let run = clone.push(
            &server.url(),
            &[&format!("{tree}:refs/heads/tree"), &format!("{tree}:refs/tags/tree")],
        );
        run.fails().says("(invalid new value provided)");
        assert_eq!(server.ref_names(), ["refs/tags/tree"]);
    });
}

#[test]
fn a_push_that_was_overtaken_is_refused() {
    each(|git| {
        let server = Server::start();
        let (first, second) = (Clone::new(git), Clone::new(git));
        first.push(&server.url(), &["main"]).succeeds();
        second.commit("mine");
        first.commit("theirs");
        first.push(&server.url(), &["main"]).succeeds();
        let run = second.push(
            &server.url(),
            &["--force-with-lease=main:1111111111111111111111111111111111111111", "main"],
        );
        run.fails().says("stale info");
        second.push(&server.url(), &["main"]).fails().says("fetch first");
    });
}

#[test]
fn of_two_pushes_to_one_ref_one_wins() {
    each(|git| {
        let options =
            Options { commit_delay: std::time::Duration::from_millis(100), ..Options::default() };
        let server = Server::with(options);
        let clones: Vec<Clone> = (0..4)
            .map(|number| {
                let clone = Clone::new(git);
                clone.commit(&format!("by {number}"));
                clone
            })
            .collect();
        let runs: Vec<_> = std::thread::scope(|scope| {
            let url = server.url();
            let push = |clone| {
                let url = url.clone();
                move || Clone::push(clone, &url, &["main"])
            };
            let threads: Vec<_> = clones.iter().map(|clone| scope.spawn(push(clone))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won = runs.iter().filter(|run| run.ok).count();
        assert_eq!(won, 1, "{runs:?}");
        assert_eq!(server.packs(), 1, "those that lost left nothing behind");
        for run in runs.iter().filter(|run| !run.ok) {
            // Overtaken in the transaction, or so early that git saw the winner itself.
            let overtaken = run.output.contains("reference already exists");
            assert!(overtaken || run.output.contains("fetch first"), "{run:?}");
        }
        server.fsck();
    });
}

#[test]
fn only_refs_that_go_make_room_for_others() {
    let policy = Policy { max_refs: 2, ..Policy::default() };
    let server = Server::with(Options { policy, ..Options::default() });
    let (body, tip) = pack::good();
    let push = |commands: &[String]| {
        let mut request: Vec<u8> = Vec::new();
        for (at, command) in commands.iter().enumerate() {
            let list = if at == 0 { "\0report-status" } else { "" };
            request.extend(line(&format!("{command}{list}")));
        }
        request.extend(b"0000");
        request.extend(&body);
        raw::post(&server, &request).text()
    };
    let create = |name: &str| format!("{ZERO} {tip} refs/heads/{name}");
    let delete = |name: &str| format!("{tip} {ZERO} refs/heads/{name}");
    assert!(push(&[create("a"), create("b")]).contains("ok refs/heads/b"));
    let text = push(&[create("c"), delete("x"), delete("y")]);
    assert!(text.contains("ng refs/heads/c too many refs"), "{text}");
    let text = push(&[create("c"), delete("b")]);
    assert!(text.contains("ok refs/heads/c"), "{text}");
    assert_eq!(server.ref_names(), ["refs/heads/a", "refs/heads/c"]);
}

#[cfg(unix)]
#[test]
fn packs_are_readable_as_those_of_git() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let (body, tip) = pack::good();
    let request = [raw::create(&tip, "report-status"), body].concat();
    assert!(raw::post(&server, &request).text().contains("ok refs/heads/main"));
    let mut files = 0;
    for entry in std::fs::read_dir(server.path().join("objects/pack")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{mode:o}");
        files += 1;
    }
    assert_eq!(files, 2);
}
