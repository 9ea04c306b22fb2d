//! A history with all that histories have, on a server, and clones of it.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Mutex};

use crate::support::{
    Options, Server,
    git::{self, Clone, Git, Run},
};

/// The versions of the protocol.
pub const VERSIONS: [&str; 3] = ["0", "1", "2"];

/// Runs a story with each git in each version of the protocol.
pub fn each(story: impl Fn(&Git, &str)) {
    for git in git::versions() {
        for version in VERSIONS {
            eprintln!("with {} and version {version} of the protocol", git.version);
            story(&git, version);
        }
    }
}

/// A day in 2023, so many days after its first of January.
pub fn day(days: u32) -> String {
    format!("{} +0000", 1_672_531_200 + u64::from(days) * 86_400)
}

/// Commits what is in the folder, on a day.
#[track_caller]
pub fn commit_on(clone: &Clone, days: u32, message: &str) -> String {
    clone.git(&["add", "-A"]).succeeds();
    let mut command = clone.git.command(clone.folder.path());
    command.env("GIT_AUTHOR_DATE", day(days)).env("GIT_COMMITTER_DATE", day(days));
    let output = command.args(["commit", "-q", "--allow-empty", "-m", message]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    clone.ask(&["rev-parse", "HEAD"])
}

pub fn write(clone: &Clone, path: &str, text: &str) {
    let path = clone.folder.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A text that changes a little with each edition, so that git stores deltas.
pub fn text(edition: u32) -> String {
    let mut text = String::new();
    for line in 0..400 {
        let edition = if line % 40 == edition % 40 { edition } else { 0 };
        let number = line * 2_654_435 + edition;
        text.push_str(&format!("line {line} of edition {edition} {number:08x}\n"));
    }
    text
}

/// A history of 20 days: changes, folders, a revert, a merge, a rename, a link, tags of all kinds,
/// and a side branch.
fn write_history(git: &Git) -> Clone {
    let clone = Clone { git: git.clone(), folder: tempfile::tempdir().unwrap() };
    let git = |arguments: &[&str]| {
        clone.git(arguments).succeeds();
    };
    git(&["init", "-q", "-b", "main", "."]);
    for edition in 0..20 {
        write(&clone, "book.txt", &text(edition));
        write(&clone, &format!("chapters/{}/{edition}.txt", edition % 4), &text(edition + 100));
        write(&clone, "small.txt", &format!("edition {edition}\n"));
        commit_on(&clone, edition, &format!("edition {edition}"));
        match edition {
            4 => git(&["tag", "light"]),
            5 => git(&["tag", "-a", "v1", "-m", "first"]),
            6 => git(&["tag", "-a", "v1-signed-off", "-m", "tag of a tag", "v1"]),
            8 => {
                git(&["checkout", "-q", "-b", "side"]);
                write(&clone, "side.txt", &text(500));
                commit_on(&clone, 8, "beside");
                git(&["checkout", "-q", "main"]);
            }
            10 => {
                write(&clone, "book.txt", &text(9));
                commit_on(&clone, 10, "back to edition 9");
                write(&clone, "book.txt", &text(10));
                commit_on(&clone, 10, "and forth again");
                git(&["merge", "-q", "--no-edit", "side"]);
            }
            14 => {
                git(&["mv", "small.txt", "tiny.txt"]);
                #[cfg(unix)]
                std::os::unix::fs::symlink("book.txt", clone.folder.path().join("link")).unwrap();
                commit_on(&clone, 14, "renamed");
            }
            _ => {}
        }
    }
    git(&["tag", "-a", "v2", "-m", "second"]);
    git(&["branch", "old", "HEAD~5"]);
    clone
}

/// That history, written once for each git, and pushed in three goes, so that there are three packs
/// with thin deltas.
pub fn history(git: &Git, server: &Server) -> Clone {
    static WRITTEN: Mutex<BTreeMap<String, Clone>> = Mutex::new(BTreeMap::new());
    let clone = Clone { git: git.clone(), folder: tempfile::tempdir().unwrap() };
    {
        let mut written = WRITTEN.lock().unwrap();
        let original = written.entry(git.version.clone()).or_insert_with(|| write_history(git));
        let copied = Command::new("cp")
            .arg("-a")
            .arg(original.folder.path().join("."))
            .arg(clone.folder.path())
            .status();
        assert!(copied.unwrap().success());
    }
    let url = server.url();
    clone.push(&url, &["v1^{}:refs/heads/main", "v1", "light"]).succeeds();
    clone.push(&url, &["old:main", "side"]).succeeds();
    clone.push(&url, &["--all"]).succeeds();
    clone.push(&url, &["--tags"]).succeeds();
    clone
}

/// A server with that history.
pub fn served(git: &Git) -> (Server, Clone) {
    served_with(git, Options::default())
}

pub fn served_with(git: &Git, options: Options) -> (Server, Clone) {
    let server = Server::with(options);
    let clone = history(git, &server);
    (server, clone)
}

/// Runs git with a version of the protocol.
pub fn run(git: &Git, folder: &Path, version: &str, arguments: &[&str]) -> Run {
    let protocol = format!("protocol.version={version}");
    let all: Vec<&str> = ["-c", &protocol, "-c", "fetch.fsckObjects=true"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    git.run(folder, &all)
}

/// Clones with these options.
pub fn clone(git: &Git, version: &str, server: &Server, options: &[&str]) -> Clone {
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let all: Vec<&str> = ["clone", "-q"]
        .into_iter()
        .chain(options.iter().copied())
        .chain([url.as_str(), "."])
        .collect();
    run(git, folder.path(), version, &all).succeeds();
    Clone { git: git.clone(), folder }
}

/// Git finds nothing wrong with it.
#[track_caller]
pub fn sound(clone: &Clone) {
    clone.git(&["fsck", "--strict", "--full"]).succeeds();
}

/// Both lead from these revisions to exactly the same objects.
#[track_caller]
pub fn same(one: &Clone, other: &Clone, revisions: &[&str]) {
    let objects = |clone: &Clone| {
        let all: Vec<&str> =
            ["rev-list", "--objects"].into_iter().chain(revisions.iter().copied()).collect();
        let mut lines: Vec<String> = clone.ask(&all).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(objects(one), objects(other));
}

/// How many objects a clone has.
pub fn objects(clone: &Clone) -> usize {
    let all = clone.ask(&["cat-file", "--batch-all-objects", "--batch-check"]);
    all.lines().filter(|line| !line.is_empty()).count()
}

/// Objects of one kind that a clone has.
pub fn objects_of(clone: &Clone, kind: &str) -> usize {
    let all = clone.ask(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
    all.lines().filter(|line| *line == kind).count()
}
