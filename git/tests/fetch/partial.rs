//! Clones that leave objects out and fetch them when they are needed.

use sluice_git::{FetchPolicy, Wants};

use crate::{
    story::{clone, each, objects, objects_of, run, served, served_with},
    support::{Options, git::Clone},
};

fn missing(copy: &Clone) -> usize {
    let all = copy.ask(&["rev-list", "--objects", "--all", "--missing=print"]);
    all.lines().filter(|line| line.starts_with('?')).count()
}

#[test]
fn without_blobs() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--filter=blob:none", "--no-checkout"]);
        assert_eq!(objects_of(&copy, "blob"), 0);
        assert_eq!(objects_of(&copy, "tree"), objects_of(&work, "tree"));
        copy.git(&["fsck", "--strict"]).succeeds();
        // A checkout fetches what it needs, and no more.
        run(git, copy.folder.path(), version, &["checkout", "-q", "main"]).succeeds();
        assert_eq!(copy.ask(&["status", "--porcelain"]), "");
        let files = work.ask(&["ls-tree", "-r", "main"]).lines().count();
        assert!(objects_of(&copy, "blob") <= files);
        // So does a look at old versions, one blob after the other.
        let old = run(git, copy.folder.path(), version, &["show", "HEAD~12:small.txt"]);
        assert_eq!(old.succeeds().output, work.ask(&["show", "HEAD~12:small.txt"]) + "\n");
        // And a fetch goes on leaving them out.
        assert!(missing(&copy) > 0);
    });
}

#[test]
fn without_large_blobs() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--filter=blob:limit=1k", "--bare"]);
        let sizes = copy.ask(&[
            "cat-file",
            "--batch-all-objects",
            "--batch-check=%(objecttype) %(objectsize)",
        ]);
        let blobs: Vec<u64> = sizes
            .lines()
            .filter_map(|line| line.strip_prefix("blob ").map(|size| size.parse().unwrap()))
            .collect();
        // The 20 small ones and the link.
        assert_eq!(blobs.len(), 21, "{blobs:?}");
        assert!(blobs.iter().all(|size| *size < 1024));
        assert!(missing(&copy) > 30);
        drop(work);
    });
}

#[test]
fn without_trees() {
    each(|git, version| {
        let (server, work) = served(git);
        let commits = |copy: &Clone| objects_of(copy, "commit");
        let none = clone(git, version, &server, &["--filter=tree:0", "--bare"]);
        assert_eq!(commits(&none), commits(&work));
        assert_eq!(objects_of(&none, "tree") + objects_of(&none, "blob"), 0);
        let roots = clone(git, version, &server, &["--filter=tree:1", "--bare"]);
        assert!(objects_of(&roots, "tree") >= 20);
        assert_eq!(objects_of(&roots, "blob"), 0);
        let two = clone(git, version, &server, &["--filter=tree:2", "--bare"]);
        assert!(objects_of(&two, "blob") > 20, "the files at the top");
        assert!(objects(&two) < objects(&work));
        let both = ["--filter=blob:none", "--filter=tree:2", "--bare"];
        let both = clone(git, version, &server, &both);
        assert_eq!(objects_of(&both, "blob"), 0);
        assert_eq!(objects_of(&both, "tree"), objects_of(&two, "tree"));
        let kinds = clone(git, version, &server, &["--filter=object:type=commit", "--bare"]);
        // Refs to tags are asked for by their ids.
        assert_eq!(objects_of(&kinds, "tree") + objects_of(&kinds, "blob"), 0);
        // The rest comes when it is looked at.
        let log =
            run(git, none.folder.path(), version, &["log", "--oneline", "--stat", "-3", "main"]);
        log.succeeds().says("chapters/3/19.txt");
    });
}

#[test]
fn depth_and_filter_together() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &["--depth", "2", "--filter=blob:none"]);
        assert_eq!(copy.ask(&["rev-list", "--count", "HEAD"]), "2");
        assert_eq!(copy.ask(&["ls-tree", "-r", "HEAD"]), work.ask(&["ls-tree", "-r", "main"]));
        assert_eq!(copy.ask(&["status", "--porcelain"]), "");
    });
}

#[test]
fn what_is_not_offered_is_said() {
    each(|git, version| {
        let (server, _work) = served(git);
        let folder = tempfile::tempdir().unwrap();
        let sparse =
            ["clone", "--no-checkout", "--filter=sparse:oid=main:book.txt", &server.url(), "."];
        run(git, folder.path(), version, &sparse).fails().says("not supported");
        let fetch_policy =
            FetchPolicy { filter: false, wants: Wants::Tips, ..FetchPolicy::default() };
        let (server, _work) = served_with(git, Options { fetch_policy, ..Options::default() });
        // Git warns and takes everything.
        let folder = tempfile::tempdir().unwrap();
        run(git, folder.path(), version, &["clone", "--filter=blob:none", &server.url(), "."])
            .succeeds()
            .says("filtering not recognized by server, ignoring");
    });
}
