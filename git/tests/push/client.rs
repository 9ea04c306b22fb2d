//! What people do with `git push`, with every git there is.

use std::io::Write;

use sluice_git::Policy;

use crate::support::{
    Options, Server, TOKEN,
    git::{Clone, each},
};

#[test]
fn create_update_and_delete() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        // Without a terminal git asks for quiet unless it is told otherwise.
        let run = clone.push(&server.url(), &["--progress", "main"]);
        run.succeeds().says("* [new branch]      main -> main").says("remote: storing the push");
        assert_eq!(server.ref_id("refs/heads/main"), Some(clone.ask(&["rev-parse", "main"])));

        let second = clone.commit("second");
        clone.push(&server.url(), &["main"]).succeeds().says("main -> main");
        assert_eq!(server.ref_id("refs/heads/main"), Some(second));

        clone.push(&server.url(), &["main:refs/heads/other"]).succeeds();
        clone.push(&server.url(), &[":other"]).succeeds().says("- [deleted]         other");
        assert_eq!(server.ref_names(), ["refs/heads/main"]);
        clone.push(&server.url(), &["main"]).succeeds().says("Everything up-to-date");
        server.fsck();
    });
}

#[test]
fn tags_and_all_branches() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        clone.git(&["tag", "light"]).succeeds();
        clone.git(&["tag", "-m", "note", "annotated"]).succeeds();
        clone.git(&["branch", "topic/a"]).succeeds();
        clone.push(&server.url(), &["--all"]).succeeds();
        clone.push(&server.url(), &["--tags"]).succeeds().says("* [new tag]         annotated");
        assert_eq!(
            server.ref_names(),
            ["refs/heads/main", "refs/heads/topic/a", "refs/tags/annotated", "refs/tags/light"]
        );
        assert_eq!(server.state(|state| state.head.clone()).as_deref(), Some("refs/heads/main"));
        server.fsck();
    });
}

#[test]
fn force_is_a_policy() {
    each(|git| {
        for deny in [false, true] {
            let policy = Policy { deny_non_fast_forwards: deny, ..Policy::default() };
            let server = Server::with(Options { policy, ..Options::default() });
            let clone = Clone::new(git);
            clone.commit("second");
            clone.push(&server.url(), &["main"]).succeeds();
            let before = server.ref_id("refs/heads/main");
            clone.git(&["reset", "-q", "--hard", "HEAD~1"]).succeeds();
            let forced = clone.commit("other");
            clone.push(&server.url(), &["main"]).fails().says("(non-fast-forward)");
            let run = clone.push(&server.url(), &["--force", "main"]);
            if deny {
                run.fails().says("! [remote rejected] main -> main (non-fast-forward)");
                assert_eq!(server.ref_id("refs/heads/main"), before);
            } else {
                run.succeeds().says("(forced update)");
                assert_eq!(server.ref_id("refs/heads/main"), Some(forced));
            }
            clone.git(&["reset", "-q", "--hard", before.as_deref().unwrap()]).succeeds();
            clone.commit("third");
            clone.push(&server.url(), &["--force", "main"]).succeeds();
            server.fsck();
        }
    });
}

#[test]
fn a_thin_pack_is_completed_from_the_repository() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let mut text: Vec<String> = (0..2000).map(|n| format!("line {n}")).collect();
        clone.commit_bytes("big", text.join("\n").as_bytes());
        clone.push(&server.url(), &["main"]).succeeds();
        text[1000] = "changed".into();
        clone.commit_bytes("big", text.join("\n").as_bytes());
        let run = clone.git(&[
            "-c",
            "core.compression=0",
            "push",
            "--thin",
            "--verbose",
            &server.url(),
            "main",
        ]);
        run.succeeds();
        let sent = server.state(|state| state.progress.bytes);
        assert!(sent < 2000, "a delta was sent, not the file: {sent} bytes");
        assert_eq!(server.packs(), 2);
        server.fsck();
    });
}

#[test]
fn a_shallow_clone_can_be_pushed() {
    each(|git| {
        let server = Server::start();
        let origin = Clone::new(git);
        let cut = origin.commit("second");
        let shallow = Clone { git: git.clone(), folder: tempfile::tempdir().unwrap() };
        let from = format!("file://{}", origin.folder.path().display());
        shallow.git(&["clone", "-q", "--depth=1", &from, "."]).succeeds();
        shallow.push(&server.url(), &["main"]).succeeds().says("* [new branch]      main -> main");
        assert_eq!(
            server.state(|s| s.shallow.iter().map(ToString::to_string).collect::<Vec<_>>()),
            [cut]
        );
        server.fsck();
        // The history goes on from there, with the shallow commit advertised now.
        shallow.commit("third");
        shallow.push(&server.url(), &["main"]).succeeds();
        assert_eq!(server.state(|state| state.shallow.len()), 1);
        // Somebody with the whole history pushes what was missing under another name.
        origin.push(&server.url(), &["main~1:refs/heads/old"]).succeeds();
        server.fsck();
    });
}

#[test]
fn a_large_push_is_chunked_and_probed_first() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let mut noise = vec![0_u8; 6 << 20];
        let mut state = 1_u64;
        for byte in &mut noise {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        clone.commit_bytes("noise", &noise);
        let run = clone
            .git
            .command(clone.folder.path())
            .env("GIT_CURL_VERBOSE", "1")
            .args(["push", &server.url(), "main"])
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{output}");
        assert!(output.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{output}");
        assert!(
            output.to_ascii_lowercase().contains("content-length: 4\r")
                || output.contains("Content-Length: 4"),
            "{output}"
        );
        assert!(server.state(|state| state.progress.bytes) > 6 << 20);
        server.fsck();
    });
}

#[test]
fn credentials_in_every_form() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let address = server.address;
        // As password, as user name, and as a header.
        clone
            .push(&format!("http://any:{TOKEN}@{address}/repo.git"), &["main:refs/heads/a"])
            .succeeds();
        clone.push(&format!("http://{TOKEN}:x@{address}/repo"), &["main:refs/heads/b"]).succeeds();
        let bearer = format!("http.extraHeader=Authorization: Bearer {TOKEN}");
        clone
            .git(&["-c", &bearer, "push", &server.bare_url("repo"), "main:refs/heads/c"])
            .succeeds();
        assert_eq!(server.ref_names().len(), 3);

        let wrong = format!("http://x:wrong@{address}/repo.git");
        clone
            .push(&wrong, &["main"])
            .fails()
            .says("Authentication failed")
            .says("remote: this remote wants the token");
        clone.push(&server.bare_url("repo"), &["main"]).fails().says("could not read Username");
        let missing = format!("http://x:{TOKEN}@{address}/nothing.git");
        clone
            .push(&missing, &["main"])
            .fails()
            .says("remote: there is no such upload")
            .says("not found");
        let gone = format!("http://x:{TOKEN}@{address}/gone.git");
        clone
            .push(&gone, &["main"])
            .fails()
            .says("remote: this upload has expired; create a new one");
    });
}

#[test]
fn a_credential_helper_is_asked_and_told() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let log = clone.folder.path().join(".git/helper.log");
        let helper = clone.folder.path().join(".git/helper.sh");
        let script = format!(
            "#!/bin/sh\necho \"$1\" >> '{}'\nif [ \"$1\" = get ]; then echo username=x; echo password={TOKEN}; fi\n",
            log.display()
        );
        std::fs::File::create(&helper).unwrap().write_all(script.as_bytes()).unwrap();
        let option = format!("credential.helper=!sh '{}'", helper.display());
        clone.git(&["-c", &option, "push", &server.bare_url("repo"), "main"]).succeeds();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "get\nstore\n");
    });
}

#[test]
fn push_options_arrive_and_unknown_ones_are_named() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        clone.push(&server.url(), &["-o", "wait", "-o", "project=a b", "main"]).succeeds();
        assert_eq!(server.state(|state| state.options.clone()), ["wait", "project=a b"]);
        let run = clone.push(&server.url(), &["-o", "unknown-thing", "main:refs/heads/x"]);
        run.fails().says("! [remote rejected] main -> x (unknown push option unknown-thing)");
        assert_eq!(server.ref_names(), ["refs/heads/main"]);
    });
}

#[test]
fn quiet_means_quiet() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let run = clone.push(&server.url(), &["--quiet", "main"]);
        run.succeeds();
        assert_eq!(run.output, "");
    });
}

#[test]
fn a_slow_commit_is_kept_alive_and_then_reported() {
    each(|git| {
        let mut options =
            Options { commit_delay: std::time::Duration::from_millis(400), ..Options::default() };
        options.config.keepalive = std::time::Duration::from_millis(20);
        let server = Server::with(options);
        let clone = Clone::new(git);
        let run = clone.push(&server.url(), &["main"]);
        run.succeeds().says("* [new branch]      main -> main");
    });
}

#[test]
fn a_refused_commit_changes_nothing_and_says_why() {
    each(|git| {
        let options =
            Options { refuse_commit: Some("the project has no room left"), ..Options::default() };
        let server = Server::with(options);
        let clone = Clone::new(git);
        let run = clone.push(&server.url(), &["main"]);
        run.fails().says("! [remote rejected] main -> main (the project has no room left)");
        server.assert_untouched();
    });
}

#[test]
fn an_old_client_without_a_separate_report_version() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        for version in ["0", "1", "2"] {
            let option = format!("protocol.version={version}");
            let target = format!("main:refs/heads/v{version}");
            clone.git(&["-c", &option, "push", &server.url(), &target]).succeeds();
        }
        assert_eq!(server.ref_names().len(), 3);
    });
}

#[test]
fn thousands_of_refs_at_once() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let tip = clone.ask(&["rev-parse", "main"]);
        // Long names make the report larger than one side-band packet.
        let name = "x".repeat(60);
        let mut packed = String::from("# pack-refs with: sorted\n");
        for number in 0..1500 {
            packed.push_str(&format!("{tip} refs/heads/{name}/{number:04}\n"));
        }
        std::fs::write(clone.folder.path().join(".git/packed-refs"), packed).unwrap();
        clone.push(&server.url(), &["--all"]).succeeds().says("/1499");
        assert_eq!(server.ref_names().len(), 1501);
        clone.push(&server.url(), &["--all"]).succeeds().says("Everything up-to-date");
    });
}

#[test]
fn another_object_format_is_told_apart() {
    each(|git| {
        let server = Server::start();
        let clone = Clone { git: git.clone(), folder: tempfile::tempdir().unwrap() };
        clone.git(&["init", "-q", "-b", "main", "--object-format=sha256", "."]).succeeds();
        clone.commit("first");
        // An empty advertisement is read by the client itself, in words that differ by version.
        clone.push(&server.url(), &["main"]).fails();
        server.assert_untouched();
        Clone::new(git).push(&server.url(), &["main"]).succeeds();
        let run = clone.push(&server.url(), &["main:refs/heads/other"]);
        eprintln!("{}", run.output);
        run.fails();
        assert_eq!(server.ref_names(), ["refs/heads/main"]);
    });
}

#[test]
fn a_merge_a_rename_and_every_kind_of_entry() {
    each(|git| {
        let server = Server::start();
        let clone = Clone::new(git);
        let folder = clone.folder.path();
        std::fs::create_dir_all(folder.join("deep/er/still")).unwrap();
        std::fs::write(folder.join("deep/er/still/file"), "x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("first", folder.join("link")).unwrap();
        clone.commit("more");
        let tip = clone.ask(&["rev-parse", "HEAD"]);
        let entry = format!("160000,{tip},module");
        clone.git(&["update-index", "--add", "--cacheinfo", &entry]).succeeds();
        clone.git(&["commit", "-q", "-m", "a submodule"]).succeeds();
        clone.git(&["checkout", "-q", "-b", "side", "main~1"]).succeeds();
        clone.git(&["mv", "first", "renamed"]).succeeds();
        clone.commit("side");
        clone.git(&["merge", "-q", "--no-edit", "main"]).succeeds();
        clone.push(&server.url(), &["side"]).succeeds();
        assert_eq!(server.state(|state| state.observations.clone()), []);
        let declared =
            server.state(|state| (state.progress.objects, state.progress.declared_objects));
        assert!(declared.0 > 0 && declared.0 == declared.1, "{declared:?}");
        server.fsck();
    });
}
