//! Histories that are cut off, lengthened and completed.

use crate::{
    story::{clone, commit_on, each, objects, run, same, served, sound, text, write},
    support::{Server, git::Clone},
};

fn count(copy: &Clone, revision: &str) -> usize {
    copy.ask(&["rev-list", "--count", revision]).parse().unwrap()
}

#[test]
fn depth_one_and_then_all() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--depth", "1", "--no-single-branch"]);
        sound(&copy);
        assert_eq!(count(&copy, "origin/main"), 1);
        assert_eq!(count(&copy, "origin/side"), 1);
        assert_eq!(copy.ask(&["ls-tree", "-r", "HEAD"]), work.ask(&["ls-tree", "-r", "main"]));
        let few = objects(&copy);
        assert!(few < objects(&work) / 2, "{few}");
        run(git, copy.folder.path(), version, &["fetch", "-q", "--deepen", "2"]).succeeds();
        sound(&copy);
        assert_eq!(count(&copy, "origin/main"), 3);
        run(git, copy.folder.path(), version, &["fetch", "-q", "--depth", "6"]).succeeds();
        sound(&copy);
        // The branch `old` is five commits behind, and six deep itself.
        assert_eq!(copy.ask(&["rev-list", "--first-parent", "--count", "origin/main"]), "11");
        run(git, copy.folder.path(), version, &["fetch", "-q", "--unshallow"]).succeeds();
        sound(&copy);
        assert!(!copy.folder.path().join(".git/shallow").exists());
        same(&work, &copy, &[&work.ask(&["rev-parse", "main"])]);
    });
}

#[test]
fn a_shallow_clone_follows() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--depth", "1"]);
        write(&work, "book.txt", &text(77));
        commit_on(&work, 60, "one more");
        work.push(&server.url(), &["main"]).succeeds();
        run(git, copy.folder.path(), version, &["fetch", "-q"]).succeeds();
        sound(&copy);
        assert_eq!(count(&copy, "origin/main"), 2);
        let last = server.state(|state| *state.fetches.last().unwrap());
        assert!(last.objects <= 3, "{last:?}");
        write(&work, "book.txt", &text(78));
        commit_on(&work, 61, "and one");
        work.push(&server.url(), &["main"]).succeeds();
        run(git, copy.folder.path(), version, &["fetch", "-q", "--depth", "1"]).succeeds();
        sound(&copy);
        assert_eq!(count(&copy, "origin/main"), 1);
        let last = server.state(|state| *state.fetches.last().unwrap());
        assert!(last.objects <= 3, "the tree is compared with the one that is there: {last:?}");
    });
}

#[test]
fn since_a_day_and_without_a_branch() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--shallow-since=2023-01-16T12:00:00Z"]);
        sound(&copy);
        let days = work.ask(&["rev-list", "--count", "--since=2023-01-16T12:00:00Z", "main"]);
        assert_eq!(count(&copy, "HEAD").to_string(), days);
        let copy = clone(git, version, &server, &["--shallow-exclude=old"]);
        sound(&copy);
        assert_eq!(count(&copy, "HEAD"), 5);
        run(git, copy.folder.path(), version, &["fetch", "-q", "--shallow-exclude=v1"]).succeeds();
        sound(&copy);
        let expected = work.ask(&["rev-list", "--count", "main", "^v1"]);
        assert_eq!(count(&copy, "HEAD").to_string(), expected);
        let late = tempfile::tempdir().unwrap();
        run(
            git,
            late.path(),
            version,
            &["clone", "--shallow-since=2030-01-01", &server.url(), "."],
        )
        .fails()
        .says("no commits selected for shallow requests");
        run(git, late.path(), version, &["clone", "--shallow-exclude=nothing", &server.url(), "."])
            .fails()
            .says("deepen-not is not a ref: nothing");
    });
}

#[test]
fn a_repository_that_is_shallow_itself() {
    each(|git, version| {
        let (origin, work) = served(git);
        let part = clone(git, "2", &origin, &["--depth", "3", "--branch", "main"]);
        let server = Server::start();
        part.push(&server.url(), &["main"]).succeeds();
        let copy = clone(git, version, &server, &[]);
        sound(&copy);
        assert_eq!(count(&copy, "HEAD"), 3);
        assert!(copy.folder.path().join(".git/shallow").exists());
        // A deeper clone gets what there is.
        let copy = clone(git, version, &server, &["--depth", "2"]);
        assert_eq!(count(&copy, "HEAD"), 2);
        run(git, copy.folder.path(), version, &["fetch", "-q", "--depth", "10"]).succeeds();
        sound(&copy);
        assert_eq!(count(&copy, "HEAD"), 3);
        drop(work);
    });
}
