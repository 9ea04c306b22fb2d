//! What may be asked for, and the parts of version 2 that git uses rarely.

use gix_object::Kind;
use sluice_git::{FetchPolicy, Wants};

use crate::{
    raw::{self as request, FLUSH, ask, lines, post, push},
    story::{clone, commit_on, each, run, served, write},
    support::{
        Options, Server,
        git::{self, Clone},
        pack::Pack,
        raw,
    },
};

/// A server with one commit: its id, its tree and its blob.
fn one_commit(options: Options) -> (Server, [String; 3]) {
    let server = Server::with(options);
    let mut pack = Pack::new();
    let blob = pack.add(Kind::Blob, b"hello\n");
    let tree = pack.add(Kind::Tree, &crate::support::pack::tree(&[("100644", "hello.txt", blob)]));
    let tip = pack.commit(&tree, &[]);
    push(&server, &tip, pack);
    (server, [tip, tree, blob].map(|id| id.to_string()))
}

#[test]
fn what_the_server_says_it_can_do() {
    let (server, [tip, ..]) = one_commit(Options::default());
    let get = |version: &str| {
        let headers = format!("{}Git-Protocol: {version}\r\n", raw::authorization());
        let response = raw::get(&server, "/repo.git/info/refs?service=git-upload-pack", &headers);
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-type"),
            ["application/x-git-upload-pack-advertisement"]
        );
        assert_eq!(response.header("cache-control"), ["no-cache, max-age=0, must-revalidate"]);
        response.text()
    };
    let text = get("foo:version=2");
    assert!(text.starts_with("000eversion 2\n"), "{text}");
    for capability in [
        "agent=sluice/",
        "ls-refs=unborn\n",
        "fetch=shallow wait-for-done filter ref-in-want sideband-all\n",
        "server-option\n",
        "object-format=sha1\n",
        "object-info\n",
        "session-id=",
    ] {
        assert!(text.contains(capability), "{capability} in {text}");
    }
    assert!(text.ends_with("0000"));
    let text = get("version=1");
    assert!(text.starts_with("001e# service=git-upload-pack\n0000000eversion 1\n"), "{text}");
    let text = get("version=0");
    assert!(text.contains(&format!("{tip} HEAD\0multi_ack ")), "{text}");
    for capability in [
        "thin-pack",
        "side-band-64k",
        "ofs-delta",
        "shallow",
        "deepen-since",
        "deepen-not",
        "deepen-relative",
        "no-progress",
        "include-tag",
        "multi_ack_detailed",
        "no-done",
        "allow-tip-sha1-in-want",
        "allow-reachable-sha1-in-want",
        "symref=HEAD:refs/heads/main",
        "filter",
        "object-format=sha1",
        "agent=sluice/",
    ] {
        assert!(text.contains(capability), "{capability} in {text}");
    }
    assert!(text.ends_with(&format!("{tip} refs/heads/main\n0000")), "{text}");
}

#[test]
fn refs_in_wants() {
    let (server, [tip, ..]) = one_commit(Options::default());
    let text = ask(&server, "fetch", &["want-ref refs/heads/main", "no-progress", "done"]);
    let sections = format!("0010wanted-refs\n003d{tip} refs/heads/main\n0001000dpackfile\n");
    assert!(text.starts_with(&sections), "{text:?}");
    assert!(text.ends_with("0000"));
    let text = ask(&server, "fetch", &["want-ref refs/heads/nothing", "done"]);
    assert!(text.contains("ERR unknown ref refs/heads/nothing\n"), "{text:?}");
    let fetch_policy = FetchPolicy { ref_in_want: false, ..FetchPolicy::default() };
    let (server, _) = one_commit(Options { fetch_policy, ..Options::default() });
    let text = ask(&server, "fetch", &["want-ref refs/heads/main", "done"]);
    assert!(text.contains("fetch: unexpected argument: 'want-ref refs/heads/main'"), "{text:?}");
}

#[test]
fn lines_that_are_not_utf_8() {
    let (server, [tip, ..]) = one_commit(Options::default());
    let mut body = request::lines(&["command=ls-refs"]);
    body.extend_from_slice(b"000fagent=caf\xe9\x0a0001");
    body.extend_from_slice(b"001bref-prefix refs/heads/\xe9");
    body.extend(request::lines(&["ref-prefix refs/heads/main", FLUSH]));
    let text = post(&server, "2", &body).text();
    assert_eq!(text, format!("003d{tip} refs/heads/main\n0000"));
}

#[test]
fn the_pack_waits_for_done() {
    let (server, [tip, ..]) = one_commit(Options::default());
    let have = format!("have {tip}");
    let text = ask(&server, "fetch", &[&format!("want {tip}"), &have, "wait-for-done"]);
    assert_eq!(text, format!("0014acknowledgments\n0031ACK {tip}\n0000"));
    // Without a want it tells what is common, and nothing else.
    assert_eq!(ask(&server, "fetch", &[&have, "wait-for-done"]), text);
    // Otherwise the server is ready at once, and the pack is empty.
    let text = ask(&server, "fetch", &[&format!("want {tip}"), &have]);
    let sections = format!("0014acknowledgments\n0031ACK {tip}\n000aready\n0001000dpackfile\n");
    assert!(text.starts_with(&sections), "{text:?}");
    let unknown = format!("have {}", "1".repeat(40));
    let text = ask(&server, "fetch", &[&format!("want {tip}"), &unknown]);
    assert_eq!(text, "0014acknowledgments\n0008NAK\n0000");
}

#[test]
fn everything_on_bands() {
    let (server, [tip, ..]) = one_commit(Options::default());
    let want = format!("want {tip}");
    let text = ask(&server, "fetch", &[&want, "sideband-all", "no-progress", "done"]);
    assert!(text.starts_with("000e\u{1}packfile\n"), "{text:?}");
    let unknown = format!("want {}", "1".repeat(40));
    let text = ask(&server, "fetch", &[&unknown, "sideband-all", "done"]);
    assert!(text.contains("\u{3}upload-pack: not our ref 1111"), "{text:?}");
}

#[test]
fn sizes_of_objects() {
    let (server, [tip, tree, blob]) = one_commit(Options::default());
    let nothing = "1".repeat(40);
    let ids = [&tip, &tree, &blob, &nothing].map(|id| format!("oid {id}"));
    let arguments: Vec<&str> = ["size"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let text = ask(&server, "object-info", &arguments);
    assert!(text.starts_with("0008size"), "{text:?}");
    assert!(text.contains(&format!("{tree} 37")), "{text:?}");
    assert!(text.contains(&format!("{blob} 6")), "{text:?}");
    assert!(text.contains(&format!("{nothing} 0000")), "{text:?}");
    assert!(ask(&server, "object-info", &["size", "type"]).contains("ERR object-info: unexpected"));
}

#[test]
fn lists_by_prefix() {
    let git = &git::versions()[0];
    let (server, work) = served(git);
    let tag = work.ask(&["rev-parse", "v1"]);
    let commit = work.ask(&["rev-parse", "v1^{}"]);
    let main = work.ask(&["rev-parse", "main"]);
    let text =
        ask(&server, "ls-refs", &["peel", "symrefs", "ref-prefix refs/tags/v1", "ref-prefix HEAD"]);
    assert!(text.contains(&format!("{main} HEAD symref-target:refs/heads/main\n")), "{text}");
    assert!(text.contains(&format!("{tag} refs/tags/v1 peeled:{commit}\n")), "{text}");
    assert!(text.contains("refs/tags/v1-signed-off peeled:"), "{text}");
    assert!(!text.contains(" refs/heads/") && !text.contains("light"), "{text}");
    let many: Vec<String> = (0..5000).map(|number| format!("ref-prefix refs/x/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(ask(&server, "ls-refs", &many).contains("refs/tags/light"), "too many count as none");
    let server = Server::start();
    let unborn = ask(&server, "ls-refs", &["symrefs", "unborn"]);
    assert_eq!(unborn, "002funborn HEAD symref-target:refs/heads/trunk\n0000");
}

/// Whether an id can be fetched under a policy.
fn can_have(wants: Wants, pick: impl Fn(&Clone) -> String) -> bool {
    let git = &git::versions()[0];
    let fetch_policy = FetchPolicy { wants, ..FetchPolicy::default() };
    let (server, work) =
        crate::story::served_with(git, Options { fetch_policy, ..Options::default() });
    // What was pushed and then forgotten.
    work.git(&["checkout", "-q", "-b", "lost"]).succeeds();
    write(&work, "lost.txt", "lost\n");
    commit_on(&work, 70, "lost");
    work.push(&server.url(), &["lost"]).succeeds();
    work.push(&server.url(), &[":lost"]).succeeds();
    let text = ask(&server, "fetch", &[&format!("want {}", pick(&work)), "done"]);
    assert!(text.contains("packfile") != text.contains("not our ref"), "{text:?}");
    text.contains("packfile")
}

#[test]
fn wants_by_policy() {
    use Wants::{Any, Reachable, Tips};
    let at = |name: &'static str| move |work: &Clone| work.ask(&["rev-parse", name]);
    for wants in [Tips, Reachable, Any] {
        assert!(can_have(wants, at("main")));
        assert!(can_have(wants, at("v1-signed-off")));
        assert!(can_have(wants, at("main~7")), "a ref may have moved meanwhile");
        assert!(!can_have(wants, |_| "1".repeat(40)));
    }
    for inside in ["main~7:book.txt", "main:chapters", "main~3^{tree}", "main:tiny.txt"] {
        assert!(!can_have(Tips, at(inside)), "{inside}");
        assert!(can_have(Reachable, at(inside)), "{inside}");
        assert!(can_have(Any, at(inside)), "{inside}");
    }
    for lost in ["lost", "lost:lost.txt", "lost^{tree}"] {
        assert!(!can_have(Tips, at(lost)), "{lost}");
        assert!(!can_have(Reachable, at(lost)), "{lost}");
        assert!(can_have(Any, at(lost)), "{lost}");
    }
}

#[test]
fn tags_of_everything() {
    each(|git, version| {
        let (server, work) = served(git);
        let blob = work.ask(&["rev-parse", "main:book.txt"]);
        work.git(&["tag", "-a", "of-a-tree", "-m", "x", "main:chapters"]).succeeds();
        work.git(&["tag", "-a", "of-a-blob", "-m", "x", &blob]).succeeds();
        write(&work, ".git/only-tagged.txt", "this is in no commit\n");
        let lonely = work.ask(&["hash-object", "-w", ".git/only-tagged.txt"]);
        work.git(&["tag", "-a", "of-a-lonely-blob", "-m", "x", &lonely]).succeeds();
        work.git(&["update-ref", "refs/files/lonely", &lonely]).succeeds();
        work.push(&server.url(), &["--tags", "refs/files/lonely"]).succeeds();
        let copy = clone(git, version, &server, &["--mirror"]);
        crate::story::sound(&copy);
        crate::story::same(&work, &copy, &["--all"]);
        // What a tag tags is reachable, and so is every tag on the way.
        work.push(&server.url(), &[":refs/files/lonely"]).succeeds();
        let wants = [&lonely, &work.ask(&["rev-parse", "v1"])].map(|id| format!("want {id}"));
        let answer = ask(&server, "fetch", &[&wants[0], &wants[1], "done"]);
        assert!(answer.contains("packfile\n"), "{answer:?}");
    });
}

#[test]
fn tags_on_the_way_need_no_ref() {
    each(|git, version| {
        let (server, work) = served(git);
        let copy = clone(git, version, &server, &[]);
        work.git(&["tag", "-a", "inner", "-m", "x", "main"]).succeeds();
        work.git(&["tag", "-a", "outer", "-m", "x", "inner"]).succeeds();
        work.push(&server.url(), &["outer"]).succeeds();
        let inner = work.ask(&["rev-parse", "inner"]);
        run(git, copy.folder.path(), version, &["fetch", "-q", "origin", "tag", "outer"])
            .succeeds();
        assert_eq!(copy.ask(&["cat-file", "-t", &inner]), "tag");
        crate::story::sound(&copy);
    });
}

#[test]
fn a_long_chain_of_tags_is_only_its_own_matter() {
    let git = &git::versions()[0];
    let (server, work) = served(git);
    let mut target = work.ask(&["rev-parse", "main"]);
    let mut kind = "commit";
    for number in 0..80 {
        let text = format!(
            "object {target}\ntype {kind}\ntag t{number}\ntagger T <t@example.com> 1 +0000\n\nx\n"
        );
        write(&work, ".git/tag.txt", &text);
        target = work.ask(&["hash-object", "-w", "-t", "tag", ".git/tag.txt"]);
        kind = "tag";
    }
    work.git(&["update-ref", "refs/tags/deep", &target]).succeeds();
    work.push(&server.url(), &["refs/tags/deep"]).succeeds();
    for version in ["0", "2"] {
        let copy = clone(git, version, &server, &["--mirror"]);
        crate::story::same(&work, &copy, &["--all"]);
    }
    let old = work.ask(&["rev-parse", "main~7"]);
    let text = ask(&server, "fetch", &[&format!("want {old}"), "done"]);
    assert!(text.contains("packfile\n"), "{text:?}");
}

#[test]
fn a_commit_by_its_id() {
    each(|git, version| {
        let (server, work) = served(git);
        let id = work.ask(&["rev-parse", "main~6"]);
        let copy = clone(git, version, &server, &["--depth", "1"]);
        run(git, copy.folder.path(), version, &["fetch", "-q", "--depth=2", "origin", &id])
            .succeeds();
        assert_eq!(copy.ask(&["rev-list", "--count", "FETCH_HEAD"]), "2");
    });
}

/// The forms of acknowledgement that only older clients use.
#[test]
fn older_clients() {
    let git = &git::versions()[0];
    let (server, work) = served(git);
    let main = work.ask(&["rev-parse", "main"]);
    let old = work.ask(&["rev-parse", "main~4"]);
    let unknown = "1".repeat(40);
    let request = |capabilities: &str, end: &[&str]| {
        let want = format!("want {main}{capabilities}\n");
        let haves = [&unknown, &old].map(|id| format!("have {id}\n"));
        let mut all = vec![want.as_str(), FLUSH];
        all.extend(haves.iter().map(String::as_str));
        all.extend(end);
        let body = post(&server, "0", &lines(&all)).body;
        String::from_utf8_lossy(&body).into_owned()
    };
    // No form at all: the first that is common, then a bare pack.
    let text = request("", &["done\n"]);
    assert!(text.starts_with(&format!("0031ACK {old}\nPACK")), "{text:?}");
    let text = request("", &[FLUSH]);
    assert_eq!(text, format!("0031ACK {old}\n"));
    let text = request(" multi_ack ofs-delta", &[FLUSH]);
    assert_eq!(text, format!("003aACK {unknown} continue\n003aACK {old} continue\n0008NAK\n"));
    let text = request(" multi_ack_detailed side-band no-progress", &["done\n"]);
    let begin = format!("0038ACK {old} common\n0031ACK {old}\n03e8\u{1}PACK");
    assert!(text.starts_with(&begin), "{:?}", &text[..200]);
    assert!(text.ends_with("0000"));
    let text = request(" multi_ack_detailed no-done side-band-64k", &[FLUSH]);
    let acks = format!("0038ACK {old} common\n0037ACK {old} ready\n0008NAK\n0031ACK {old}\n");
    assert!(text.starts_with(&acks), "{text:?}");
    // Only where the history would be cut.
    let shallow = format!("want {main} multi_ack_detailed\n");
    let text = post(&server, "0", &lines(&[&shallow, "deepen 1\n", FLUSH])).text();
    assert_eq!(text, format!("0034shallow {main}0000"));
    // Nothing is wanted.
    let response = post(&server, "0", b"0000");
    assert_eq!((response.status, response.body.len()), (200, 0));
}
