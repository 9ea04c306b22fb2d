//! Clones and fetches as people make them.

use sluice_git::FetchPolicy;

use crate::{
    story::{clone, commit_on, each, objects, run, same, served, sound, text, write},
    support::{Options, Server, git::Clone},
};

#[test]
fn a_clone_is_the_same() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &[]);
        sound(&copy);
        assert_eq!(copy.ask(&["rev-parse", "HEAD"]), work.ask(&["rev-parse", "main"]));
        assert_eq!(copy.ask(&["symbolic-ref", "HEAD"]), "refs/heads/main");
        assert_eq!(copy.ask(&["tag"]), work.ask(&["tag"]));
        assert_eq!(copy.ask(&["status", "--porcelain"]), "");
        for branch in ["main", "side", "old"] {
            let there = copy.ask(&["rev-parse", &format!("origin/{branch}")]);
            assert_eq!(there, work.ask(&["rev-parse", branch]), "{branch}");
        }
        same(&work, &copy, &["main", "--tags"]);
        let mirror = clone(git, version, &server, &["--mirror"]);
        sound(&mirror);
        same(&work, &mirror, &["--all"]);
        assert_eq!(objects(&mirror), objects(&work), "neither more nor less");
        let figures = server.state(|state| state.fetches.clone());
        assert_eq!(figures.len(), 2);
        assert!(figures.iter().all(|figures| figures.clone && figures.bytes > 1000));
        assert!(figures[1].copied > figures[1].objects * 9 / 10, "{figures:?}");
    });
}

#[test]
fn a_clone_of_one_pack_is_that_pack() {
    each(|git, version| {
        let server = Server::start();
        let work = Clone::new(git);
        for edition in 0..5 {
            write(&work, "book.txt", &text(edition));
            commit_on(&work, edition, "more");
        }
        work.push(&server.url(), &["main"]).succeeds();
        let copy = clone(git, version, &server, &["--bare"]);
        sound(&copy);
        let name = |folder: &std::path::Path| {
            let mut names: Vec<String> = std::fs::read_dir(folder.join("objects/pack"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".pack"))
                .collect();
            names.sort();
            names
        };
        assert_eq!(name(copy.folder.path()), name(&server.path()));
    });
}

#[test]
fn a_fetch_brings_what_is_new() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &[]);
        for edition in 30..33 {
            write(&work, "book.txt", &text(edition));
            write(&work, "new/deep/er.txt", &text(edition + 300));
            commit_on(&work, edition, "new");
        }
        work.git(&["tag", "-a", "v3", "-m", "third"]).succeeds();
        work.push(&server.url(), &["main", "v3"]).succeeds();
        run(git, copy.folder.path(), version, &["fetch", "-q"]).succeeds();
        sound(&copy);
        assert_eq!(copy.ask(&["rev-parse", "origin/main"]), work.ask(&["rev-parse", "main"]));
        assert_eq!(copy.ask(&["rev-parse", "v3"]), work.ask(&["rev-parse", "v3"]));
        same(&work, &copy, &["v3", "--tags"]);
        let figures = server.state(|state| state.fetches.clone());
        let last = figures.last().unwrap();
        assert!(!last.clone);
        // Three commits, each with four trees or fewer and two blobs; and one tag.
        assert!((12..=22).contains(&last.objects), "{last:?}");
        // Deltas against what the client has: much less than the texts of 20 kB each.
        assert!(last.bytes < 40_000, "{last:?}");
        // Nothing new: no pack is made.
        let before = figures.len();
        run(git, copy.folder.path(), version, &["fetch", "-q"]).succeeds();
        assert_eq!(server.state(|state| state.fetches.len()), before);
    });
}

#[test]
fn histories_that_parted_meet_again() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &[]);
        // Both sides go on; the client has many commits that the server has never seen.
        for number in 0..80 {
            commit_on(&copy, 40 + number, "mine");
        }
        write(&work, "theirs.txt", &text(900));
        commit_on(&work, 41, "theirs");
        work.push(&server.url(), &["main"]).succeeds();
        run(git, copy.folder.path(), version, &["pull", "-q", "--no-rebase", "--no-edit"])
            .succeeds();
        sound(&copy);
        assert!(copy.folder.path().join("theirs.txt").exists());
        let last = server.state(|state| *state.fetches.last().unwrap());
        assert!(last.objects <= 4, "{last:?}");
        // And a client that shares nothing at all.
        let stranger = Clone::new(git);
        run(git, stranger.folder.path(), version, &["fetch", "-q", &server.url(), "main"])
            .succeeds();
        same(&work, &stranger, &[&work.ask(&["rev-parse", "main"])]);
    });
}

#[test]
fn one_branch_and_its_tags() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--single-branch", "--branch", "side"]);
        sound(&copy);
        assert_eq!(copy.ask(&["branch", "-r"]), "origin/side");
        // Tags of commits on the way come along, others do not.
        assert_eq!(copy.ask(&["tag"]), "light\nv1\nv1-signed-off");
        same(&work, &copy, &["v1", &work.ask(&["rev-parse", "side"])]);
        let bare =
            clone(git, version, &server, &["--no-tags", "--single-branch", "--branch", "v1"]);
        assert_eq!(bare.ask(&["rev-parse", "HEAD"]), work.ask(&["rev-parse", "v1^{commit}"]));
        // A branch that moved back by force.
        work.git(&["branch", "-f", "side", "side~2"]).succeeds();
        work.push(&server.url(), &["+side"]).succeeds();
        run(git, copy.folder.path(), version, &["fetch", "-q"]).succeeds();
        assert_eq!(copy.ask(&["rev-parse", "origin/side"]), work.ask(&["rev-parse", "side"]));
        // A branch that was deleted.
        work.push(&server.url(), &[":side"]).succeeds();
        run(git, copy.folder.path(), version, &["fetch", "-q", "--prune"]).fails().says("side");
    });
}

#[test]
fn an_empty_repository() {
    each(|git, version| {
        let server = Server::start();
        let folder = tempfile::tempdir().unwrap();
        let url = server.url();
        let arguments = ["-c", "init.defaultBranch=other", "clone", "-q", &url, "."];
        run(git, folder.path(), version, &arguments).succeeds();
        let copy = Clone { git: git.clone(), folder };
        let head = copy.ask(&["symbolic-ref", "HEAD"]);
        // Only version 2 tells the name of a branch that does not exist.
        let expected = if version == "2" { "refs/heads/trunk" } else { "refs/heads/other" };
        assert_eq!(head, expected);
        let heads = run(git, copy.folder.path(), version, &["ls-remote", &server.url()]);
        assert_eq!(heads.succeeds().output, "");
    });
}

#[test]
fn lists_of_refs() {
    each(|git, version| {
        let (server, work) = served(git);
        let url = server.url();
        let list = |arguments: &[&str]| {
            let all: Vec<&str> =
                ["ls-remote"].into_iter().chain(arguments.iter().copied()).collect();
            run(git, work.folder.path(), version, &all).succeeds().output.clone()
        };
        let all = list(&["--symref", &url]);
        assert!(all.starts_with("ref: refs/heads/main\tHEAD\n"), "{all}");
        let peeled = work.ask(&["rev-parse", "v1-signed-off^{}"]);
        assert!(all.contains(&format!("{peeled}\trefs/tags/v1-signed-off^{{}}\n")), "{all}");
        assert!(!all.contains("light^{}"), "{all}");
        let heads = list(&["--heads", &url]);
        assert_eq!(heads.lines().count(), 3, "{heads}");
    });
}

#[test]
fn a_repository_that_was_pushed_to_often() {
    let git = &crate::support::git::versions()[0];
    let (server, work) = served(git);
    // Each push is a pack of its own.
    for edition in 0..24 {
        for file in 0..20 {
            write(&work, &format!("often/{edition}/{file}.txt"), &text(edition * 50 + file));
        }
        commit_on(&work, 40 + edition, "again");
        work.push(&server.url(), &["main"]).succeeds();
    }
    assert!(server.packs() > 24);
    let copy = clone(git, "2", &server, &["--mirror"]);
    sound(&copy);
    same(&work, &copy, &["--all"]);
    let short = clone(git, "2", &server, &["--depth", "3", "--filter=blob:none"]);
    assert_eq!(short.ask(&["status", "--porcelain"]), "");
}

#[test]
fn the_bands_of_the_client() {
    let git = &crate::support::git::versions()[0];
    let (server, work) = served(git);
    // Progress is shown to those who want it.
    let folder = tempfile::tempdir().unwrap();
    run(git, folder.path(), "2", &["clone", "--progress", &server.url(), "."])
        .succeeds()
        .says("remote: Enumerating objects: ")
        .says("remote: Total ");
    let quiet = tempfile::tempdir().unwrap();
    let said = run(git, quiet.path(), "2", &["clone", &server.url(), "."]);
    assert!(!said.succeeds().output.contains("remote:"), "{said:?}");
    assert_eq!(
        git.run(folder.path(), &["rev-parse", "HEAD"]).output.trim(),
        work.ask(&["rev-parse", "main"])
    );
}

#[test]
fn one_fetch_after_the_other_when_there_is_room_for_one() {
    let git = &crate::support::git::versions()[0];
    let mut options = Options::default();
    options.config.concurrent_fetches = 1;
    let (server, _work) = crate::story::served_with(git, options);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| sound(&clone(git, "2", &server, &["--bare"])));
        }
    });
}

#[test]
fn hidden_refs_are_as_if_they_were_not() {
    each(|git, version| {
        let options = Options {
            fetch_policy: FetchPolicy {
                hidden_refs: vec!["refs/heads/side".into()],
                ..FetchPolicy::default()
            },
            ..Options::default()
        };
        let (server, work) = crate::story::served_with(git, options);
        work.git(&["checkout", "-q", "side"]).succeeds();
        write(&work, "secret.txt", "secret\n");
        let secret = commit_on(&work, 50, "secret");
        work.push(&server.url(), &["side"]).succeeds();
        let copy = clone(git, version, &server, &[]);
        assert!(!copy.ask(&["branch", "-r"]).contains("side"));
        copy.git(&["cat-file", "-e", &secret]).fails();
        run(git, copy.folder.path(), version, &["fetch", "-q", "origin", &secret]).fails();
        copy.git(&["cat-file", "-e", &secret]).fails();
    });
}
