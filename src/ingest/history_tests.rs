use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;

use super::*;

/// Runs the real git in a folder.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        git(folder.path(), &["init", "-q"]);
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn commit(&self, message: &str) -> String {
        git(self.path(), &["add", "-A"]);
        git(self.path(), &["commit", "-q", "--allow-empty", "-m", message]);
        git(self.path(), &["rev-parse", "HEAD"])
    }

    fn walk(&self, tips: &[&str], limits: &HistoryLimits) -> HistoryWalk {
        let objects = gix_odb::at(self.path().join(".git/objects"), gix_hash::Kind::Sha1)
            .expect("an object database");
        let id = |name: &str| {
            let hex = git(self.path(), &["rev-parse", name]);
            ObjectId::from_hex(hex.as_bytes()).expect("an id")
        };
        let tips: Vec<ObjectId> = tips.iter().map(|t| id(t)).collect();
        let cancel = Cancel::new();
        let known = blobs_of_tree(&objects, id("HEAD^{tree}"), &cancel).expect("a tree");
        walk(&objects, &tips, &known, limits, &cancel).expect("a history")
    }

    /// Path to (first commit, commit that removed it).
    fn told(&self, tips: &[&str]) -> BTreeMap<String, (String, Option<String>)> {
        let walk = self.walk(tips, &HistoryLimits::default());
        assert!(!walk.truncated);
        let blobs: HashSet<_> = walk.entries.iter().map(|e| e.blob.clone()).collect();
        assert_eq!(blobs.len(), walk.entries.len(), "each blob once");
        walk.entries.into_iter().map(|e| (e.path, (e.commit, e.removed_in))).collect()
    }
}

#[test]
fn tells_what_the_tree_no_longer_holds() {
    let r = Repository::new();
    r.write("keep.txt", "stays");
    r.write("conf/secret.env", "KEY=1");
    r.write("edited.txt", "first");
    let c1 = r.commit("one");
    r.write("edited.txt", "second");
    let c2 = r.commit("two");
    std::fs::remove_dir_all(r.path().join("conf")).expect("removed");
    let c3 = r.commit("three");
    let told = r.told(&["HEAD"]);
    assert_eq!(told.len(), 2);
    assert_eq!(told["conf/secret.env"], (c1.clone(), Some(c3)));
    assert_eq!(told["edited.txt"], (c1, Some(c2)));
}

#[test]
fn follows_branches_merges_and_tags() {
    let r = Repository::new();
    r.write("a", "a");
    r.commit("base");
    git(r.path(), &["checkout", "-q", "-b", "side"]);
    r.write("side.txt", "only on the side");
    let side = r.commit("side");
    std::fs::remove_file(r.path().join("side.txt")).expect("removed");
    let gone = r.commit("side gone");
    git(r.path(), &["checkout", "-q", "main"]);
    r.write("b", "b");
    r.commit("main goes on");
    git(r.path(), &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    git(r.path(), &["checkout", "-q", "-b", "loose"]);
    r.write("loose.txt", "never merged");
    let loose = r.commit("loose");
    git(r.path(), &["tag", "-a", "-m", "tag", "v1"]);
    git(r.path(), &["checkout", "-q", "main"]);
    let told = r.told(&["HEAD"]);
    assert_eq!(told.len(), 1);
    assert_eq!(told["side.txt"], (side, Some(gone)));
    let told = r.told(&["HEAD", "v1"]);
    assert_eq!(told["loose.txt"], (loose, None));
}

#[test]
fn a_revert_of_a_removal_is_not_a_removal() {
    let r = Repository::new();
    r.write("s", "value");
    r.commit("in");
    std::fs::remove_file(r.path().join("s")).expect("removed");
    r.commit("out");
    r.write("s", "value");
    r.commit("in again");
    std::fs::remove_file(r.path().join("s")).expect("removed");
    let out = r.commit("out again");
    assert_eq!(r.told(&["HEAD"])["s"].1, Some(out));
    // Moved, not removed: the tree holds the blob.
    r.write("elsewhere", "value");
    r.commit("back elsewhere");
    assert!(r.told(&["HEAD"]).is_empty());
}

#[test]
fn links_and_file_to_folder() {
    let r = Repository::new();
    r.write("x", "was a file");
    let c1 = r.commit("file");
    std::fs::remove_file(r.path().join("x")).expect("removed");
    r.write("x/y", "now a folder");
    let c2 = r.commit("folder");
    std::fs::remove_dir_all(r.path().join("x")).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", r.path().join("x")).expect("linked");
    let c3 = r.commit("link");
    let told = r.told(&["HEAD"]);
    assert_eq!(told.len(), 2);
    assert_eq!(told["x"], (c1, Some(c2.clone())));
    assert_eq!(told["x/y"], (c2, Some(c3)));
}

#[test]
fn a_shallow_clone_and_packs() {
    let r = Repository::new();
    r.write("a", "1");
    r.commit("one");
    r.write("a", "2");
    r.commit("two");
    r.write("a", "3");
    r.commit("three");
    git(r.path(), &["gc", "-q"]);
    assert_eq!(r.walk(&["HEAD"], &HistoryLimits::default()).entries.len(), 2);
    let clone = tempfile::tempdir().expect("a folder");
    let url = format!("file://{}", r.path().display());
    git(clone.path(), &["clone", "-q", "--depth=2", &url, "shallow"]);
    let shallow = Repository { folder: clone };
    let objects = gix_odb::at(shallow.path().join("shallow/.git/objects"), gix_hash::Kind::Sha1)
        .expect("an object database");
    let head = git(&shallow.path().join("shallow"), &["rev-parse", "HEAD"]);
    let head = ObjectId::from_hex(head.as_bytes()).expect("an id");
    let walk = walk(&objects, &[head], &HashSet::new(), &HistoryLimits::default(), &Cancel::new())
        .expect("a history that ends early");
    assert_eq!(walk.commits, 2);
    assert_eq!(walk.entries.len(), 2);
}

#[test]
fn a_tree_that_holds_itself_a_million_times() {
    let r = Repository::new();
    r.write("payload", "x");
    let blob = git(r.path(), &["hash-object", "-w", "payload"]);
    let mut line = format!("100644 blob {blob}\tf");
    for _ in 0..12 {
        let rows: String = (0..10).map(|n| line.replace("\tf", &format!("\t{n}")) + "\n").collect();
        std::fs::write(r.path().join("rows"), rows).expect("written");
        let made = Command::new("git")
            .current_dir(r.path())
            .arg("mktree")
            .stdin(std::fs::File::open(r.path().join("rows")).expect("open"))
            .output()
            .expect("git runs");
        let tree = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        line = format!("040000 tree {tree}\tf");
    }
    let tree = line.split([' ', '\t']).nth(2).expect("a tree").to_owned();
    let bomb = git(r.path(), &["commit-tree", "-m", "bomb", &tree]);
    r.write("payload", "y");
    r.commit("head");
    let gone = git(r.path(), &["commit-tree", "-m", "gone", "-p", &bomb, "HEAD^{tree}"]);
    let start = std::time::Instant::now();
    let told = r.walk(&["HEAD", &gone], &HistoryLimits::default());
    assert_eq!(told.entries.len(), 1);
    assert!(told.entries[0].removed_in.is_some());
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn limits_and_cancelling() {
    let r = Repository::new();
    for n in 0..5 {
        r.write("a", &n.to_string());
        r.commit("more");
    }
    let walk_with =
        |max_commits, max_blobs| r.walk(&["HEAD"], &HistoryLimits { max_commits, max_blobs });
    let few = walk_with(2, 100);
    assert!(few.truncated && few.commits == 2);
    let few = walk_with(100, 2);
    assert!(few.truncated && few.entries.len() == 2);
    assert!(!walk_with(5, 4).truncated);
    let objects = gix_odb::at(r.path().join(".git/objects"), gix_hash::Kind::Sha1)
        .expect("an object database");
    let head = git(r.path(), &["rev-parse", "HEAD"]);
    let head = ObjectId::from_hex(head.as_bytes()).expect("an id");
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = walk(&objects, &[head], &HashSet::new(), &HistoryLimits::default(), &cancel);
    assert!(matches!(stopped, Err(HistoryError::Cancelled)));
}

#[test]
fn what_is_odd_is_told_with_the_oldest_commit_that_has_it() {
    let r = Repository::new();
    r.write("a/b.py", "x = 1\n");
    r.commit("fine");
    let write = |kind: &str, bytes: &[u8]| {
        let file = r.path().join(".git/forged");
        std::fs::write(&file, bytes).expect("written");
        git(r.path(), &["hash-object", "--literally", "-w", "-t", kind, ".git/forged"])
    };
    let raw = |id: &str| ObjectId::from_hex(id.as_bytes()).expect("an id").as_slice().to_vec();
    let blob = raw(&write("blob", b"x"));
    let inner = [b"0100644 .git\0".as_slice(), &blob].concat();
    let inner = raw(&write("tree", &inner));
    let outer = [b"40000 sub\0".as_slice(), &inner, b"100644 a\nb\0", &blob].concat();
    let tree = write("tree", &outer);
    let commit = |text: &str| {
        let parent = git(r.path(), &["rev-parse", "HEAD"]);
        let text = format!("tree {tree}\nparent {parent}\n{text}\n\nforged\n");
        let commit = write("commit", text.as_bytes());
        git(r.path(), &["update-ref", "HEAD", &commit]);
        commit
    };
    let first = commit("author Ada <> 1 +0000\ncommitter Ada <> 1 +0000");
    let second = commit("author Ada <a@b> 2 +0000\ncommitter Ada <> 2 +0000");
    let walk = r.walk(&["HEAD"], &HistoryLimits::default());
    let mut told: Vec<(Odd, &str, &str)> =
        walk.odd.iter().map(|o| (o.odd, o.path.as_str(), o.commit.as_str())).collect();
    told.sort_unstable();
    let mut expected = [
        (Odd::DotGit, "sub/.git", first.as_str()),
        (Odd::ControlCharacter, "a\nb", &first),
        (Odd::ZeroPaddedMode, "sub/.git", &first),
        (Odd::UnsortedTree, ".", &first),
        (Odd::MissingIdentity, ".", &first),
        (Odd::MissingIdentity, ".", &second),
    ];
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(walk.odd_dropped, 0);
}
