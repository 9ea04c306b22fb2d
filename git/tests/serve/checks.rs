//! `receive.fsckObjects` and its levels.

use std::fs;

use crate::{
    git::Clone,
    support::{Server, work},
};

/// Writes an object that git would not write by itself.
fn literal(work: &Clone, kind: &str, content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    work.ask(&["hash-object", "--literally", "-w", "-t", kind, path])
}

/// A commit whose author has no address.
fn without_email(work: &Clone) -> String {
    let tree = work.ask(&["rev-parse", "HEAD^{tree}"]);
    let text = format!(
        "tree {tree}\nauthor Bugs Bunny 1234567890 +0000\n\
         committer Bugs Bunny <bugs@bun.ni> 1234567890 +0000\n\nbroken on purpose\n"
    );
    literal(work, "commit", text.as_bytes())
}

/// A commit on that tree.
fn commit(work: &Clone, tree: &str) -> String {
    work.ask(&["commit-tree", "-m", "odd", tree])
}

#[test]
fn nothing_is_checked_unless_it_is_asked_for() {
    let server = Server::with(&[]);
    let work = work(&server);
    let blob = work.ask(&["rev-parse", "HEAD:first"]);
    let raw = work.ask(&["rev-parse", "HEAD:first"]);
    let id: Vec<u8> =
        (0..20).map(|at| u8::from_str_radix(&raw[at * 2..at * 2 + 2], 16).unwrap()).collect();
    assert_eq!(blob.len(), 40);
    let twice = [b"100644 a\0".as_slice(), &id, b"100644 a\0", &id].concat();
    let odd = commit(&work, &literal(&work, "tree", &twice));
    let bogus = without_email(&work);
    let refs = [format!("{odd}:refs/heads/odd"), format!("{bogus}:refs/heads/bogus")];
    work.push(&server.url(), &[&refs[0], &refs[1]]).succeeds();
    assert_eq!(server.id("bogus"), bogus);

    let server = Server::with(&[("transfer.fsckObjects", "true")]);
    work.push(&server.url(), &[&refs[0]]).fails().says("duplicateEntries");
    work.push(&server.url(), &[&refs[1]]).fails().says("missingEmail");
    work.push(&server.url(), &["main"]).succeeds();
    server.sound();
    server.set(&[("receive.fsckObjects", "false")]);
    work.push(&server.url(), &[&refs[0], &refs[1]]).succeeds();
}

#[test]
fn levels() {
    let server = Server::with(&[("receive.fsckObjects", "true"), ("fsck.missingEmail", "warn")]);
    let work = work(&server);
    let refspec = format!("{}:refs/heads/bogus", without_email(&work));
    let push = || work.push(&server.url(), &[&refspec]);
    push().fails().says("missingEmail: invalid author/committer line - missing email");
    server.set(&[("receive.fsck.missingEmail", "warn"), ("receive.fsck.noSuchThing", "warn")]);
    push()
        .succeeds()
        .says("warning: object")
        .says("missingEmail")
        .says("skipping unknown msg id 'nosuchthing'");
    work.push(&server.url(), &[":bogus"]).succeeds();
    server.ask(&["config", "receive.fsck.missingEmail", "ignore"]);
    // The object is there already, so it takes another to be checked again.
    work.commit("second");
    let refspec = format!("{}:refs/heads/bogus", without_email(&work));
    let run = work.push(&server.url(), &[&refspec]);
    assert!(!run.succeeds().output.contains("missingEmail"), "{}", run.output);
    server.ask(&["config", "receive.fsck.missingEmail", "nonsense"]);
    push().fails().says("unknown fsck message type: 'nonsense'");
    server.ask(&["config", "receive.fsck.missingEmail", "error"]);
    server.set(&[("receive.fsck.unterminatedHeader", "warn")]);
    push().fails().says("Cannot demote unterminatedheader");
}

#[test]
fn the_list_of_objects_to_skip() {
    let server = Server::with(&[("receive.fsckObjects", "true"), ("fsck.skipList", "SKIP")]);
    let work = work(&server);
    let bogus = without_email(&work);
    let refspec = format!("{bogus}:refs/heads/bogus");
    let push = || work.push(&server.url(), &[&refspec]);
    fs::write(server.folder().join("SKIP"), format!("# known\n\n{bogus} # as well\n")).unwrap();
    push().fails().says("missingEmail");
    server.ask(&["config", "receive.fsck.skipList", "does-not-exist"]);
    push().fails().says("could not open object name list: does-not-exist");
    server.ask(&["config", "receive.fsck.skipList", "config"]);
    push().fails().says("invalid object name");
    server.ask(&["config", "receive.fsck.skipList", "SKIP"]);
    push().succeeds();
    assert_eq!(server.id("bogus"), bogus);
}

#[test]
fn files_that_git_reads() {
    let server = Server::with(&[("receive.fsckObjects", "true")]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).succeeds();
    for (name, content, message) in [
        (
            ".gitmodules",
            "[submodule \"../x\"]\n\tpath = x\n\turl = x\n".to_owned(),
            "gitmodulesName",
        ),
        (".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = -x\n".to_owned(), "gitmodulesUrl"),
        (".gitattributes", "x".repeat(3000), "gitattributesLineLength"),
    ] {
        let branch = format!("b{}", content.len());
        work.git(&["checkout", "-q", "-b", &branch, "main"]).succeeds();
        work.commit_bytes(name, content.as_bytes());
        work.push(&server.url(), &[&branch]).fails().says(message);
        let key = format!("receive.fsck.{message}");
        server.set(&[(&key, "warn")]);
        work.push(&server.url(), &[&branch]).succeeds().says(message);
    }
}

/// Every message that an object can cause is the one that git names.
#[test]
fn git_names_the_same_messages() {
    let server = Server::with(&[("receive.fsckObjects", "true")]);
    let work = work(&server);
    let tree = work.ask(&["rev-parse", "HEAD^{tree}"]);
    let person = "A <a@b> 1 +0000";
    let authors = [
        "<a@b> 1 +0000",
        "A> <a@b> 1 +0000",
        "A 1 +0000",
        "A<a@b> 1 +0000",
        "A <a@b 1 +0000",
        "A <a@b>1 +0000",
        "A <a@b> 01 +0000",
        "A <a@b> x +0000",
        "A <a@b> 99999999999999999999999 +0000",
        "A <a@b> 1 0000",
    ];
    let commits = authors
        .iter()
        .map(|author| format!("tree {tree}\nauthor {author}\ncommitter {person}\n\nx\n"))
        .chain([
            format!("tree {tree}\ncommitter {person}\n\nx\n"),
            format!("tree {tree}\nauthor {person}\nauthor {person}\ncommitter {person}\n\nx\n"),
            format!("tree {tree}\nauthor {person}\n\nx\n"),
            format!("tree {tree}\nauthor {person}\ncommitter {person}\n\nx\0y\n"),
        ]);
    let blob = literal(&work, "blob", b"x");
    let id: Vec<u8> =
        (0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let entries = [
        vec!["100644 .git"],
        vec!["100644 .."],
        vec!["100644 ."],
        vec!["100644 a/b"],
        vec!["0100644 a"],
        vec!["100644 a", "100644 a"],
        vec!["100644 b", "100644 a"],
        vec!["120000 .gitmodules"],
        vec!["100644 git~1"],
        vec!["100644 x\\.git"],
    ];
    let trees = entries.iter().map(|entries| {
        let line = |entry: &&str| [entry.as_bytes(), b"\0", &id].concat();
        let tree = literal(&work, "tree", &entries.iter().flat_map(line).collect::<Vec<u8>>());
        format!("tree {tree}\nauthor {person}\ncommitter {person}\n\nx\n")
    });
    let tags = [
        format!("object {tree}\ntype tree\ntag v\ntagger A 1 +0000\n\nx\n"),
        format!("object {tree}\ntype tree\ntag a b\ntagger {person}\n\nx\n"),
        format!("object {tree}\ntype tree\ntag v\n\nx\n"),
        format!("object {tree}\ntype tree\ntag v\ntagger {person}\nmore\n\nx\n"),
    ];
    let all = commits
        .chain(trees)
        .map(|text| ("commit", text))
        .chain(tags.into_iter().map(|text| ("tag", text)));
    let mut compared = 0;
    for (kind, text) in all {
        let object = literal(&work, kind, text.as_bytes());
        let by_git = work.git(&["fsck", "--no-dangling", &object]).output;
        let refspec = format!("{object}:refs/odd/number-{compared}");
        let here = work.push(&server.url(), &[&refspec]).output;
        let word = |output: &str, id: &str| {
            let line = output.lines().find(|line| line.contains(id) && line.contains(": "));
            let message = line.and_then(|line| line.rsplit_once(&format!("{id}: ")));
            message.map(|(_, text)| text.split(':').next().unwrap().to_owned())
        };
        let odd_id = text
            .strip_prefix("tree ")
            .map(|rest| rest[..40].to_owned())
            .filter(|odd| *odd != tree)
            .unwrap_or(object.clone());
        let (by_git, by_us) = (word(&by_git, &odd_id), word(&here, &odd_id));
        assert_eq!(by_us, by_git, "{text:?}\n{here}");
        assert!(by_git.is_some() || text.contains("\nmore\n"), "{text:?}");
        compared += 1;
    }
    assert_eq!(compared, 28);
    server.sound_but_odd();
}
