//! Weaknesses of git by the number under which they became known, and what else its
//! rules say. Content of `.gitmodules` is tested where it is read, in `sluice-git`.

use super::names::{Found, check};
use super::*;
use crate::scan::model::{FileEngine as _, RawFinding};

use NameKind::{File, Folder, Link, Submodule};

fn found(names: &[(&str, NameKind)]) -> Found {
    let tell = |each: &mut dyn FnMut(&NameEntry<'_>)| {
        for (path, kind) in names {
            each(&NameEntry { path: path.as_bytes(), kind: *kind, size: 1 });
        }
        Ok(())
    };
    check(&tell, 100).unwrap()
}

/// Rule and path of everything found.
fn tree(names: &[(&str, NameKind)]) -> Vec<(String, String)> {
    found(names).findings.into_iter().map(|(path, f)| (f.rule_id, path)).collect()
}

fn one(rule: &str, path: &str) -> Vec<(String, String)> {
    vec![(rule.to_owned(), path.to_owned())]
}

fn file(path: &str, bytes: &[u8]) -> Vec<RawFinding> {
    let engine = Analyzer::new();
    let facet = engine.facet(path).expect("a file that git reads");
    let input = FileInput { bytes, facet: &facet };
    engine.analyse(&input, &Limits::default(), &Cancel::new()).findings
}

#[test]
fn ordinary_trees_have_nothing_to_tell() {
    let names = [
        (".gitattributes", File),
        (".gitignore", File),
        (".gitmodules", File),
        ("HEAD", File),
        ("README.md", File),
        ("docs/läuft.md", File),
        ("docs/readme.md", File),
        ("objects/x", File),
        ("refs", File),
        ("src/a.rs", File),
        ("src/git.rs", File),
        ("systemd/dev-a\\x2db.service", File),
        ("vendor/zlib", Submodule),
        ("zlib", Link),
    ];
    assert_eq!(tree(&names), []);
    assert_eq!(tree(&[]), []);
}

#[test]
fn cve_2014_9390_dot_git_in_another_case() {
    for name in [".git", ".GIT", ".Git"] {
        assert_eq!(tree(&[(&format!("{name}/config"), File)]), one("git/dotgit-name", name));
        let deep = format!("a/b/{name}");
        assert_eq!(tree(&[(&deep, File)]), one("git/dotgit-name", &deep));
    }
}

#[test]
fn hfs_ignores_characters_that_cannot_be_seen() {
    for name in [".g\u{200c}it", "\u{feff}.git", ".gi\u{206e}T"] {
        assert_eq!(tree(&[(name, Folder)]), one("git/dotgit-name", name), "{name:?}");
    }
    let name = ".git\u{200d}modules";
    assert_eq!(tree(&[(name, Link)]), one("git/linked-gitmodules", name));
    let pair = [("a/name", File), ("a/na\u{200d}me", File)];
    assert_eq!(tree(&pair), one("git/case-collision", "a/na\u{200d}me"));
}

#[test]
fn cve_2019_1352_streams_of_ntfs() {
    for name in [".git::$INDEX_ALLOCATION", ".git:x"] {
        assert_eq!(tree(&[(name, Folder)]), one("git/dotgit-name", name), "{name}");
    }
}

#[test]
fn cve_2019_1353_short_names_of_ntfs() {
    for name in ["git~1", "GIT~1", ".git ", ".git. ."] {
        assert_eq!(tree(&[(name, Folder)]), one("git/dotgit-name", name), "{name}");
    }
    assert_eq!(tree(&[("GITMOD~1", Link)]), one("git/linked-gitmodules", "GITMOD~1"));
    assert_eq!(tree(&[("git~2", Folder), ("gitmod~9", File)]), []);
}

#[test]
fn cve_2019_1354_backslashes_in_names() {
    for name in ["a\\..\\..\\x", "x\\.git", "x\\git~1\\hooks", "..\\x"] {
        assert_eq!(tree(&[(name, File)]), one("git/windows-traversal", name), "{name}");
    }
}

#[test]
fn cve_2021_21300_and_2024_32002_a_link_in_the_place_of_a_folder() {
    let link = |place: NameKind, path: &str| tree(&[("A", Link), (path, place)]);
    assert_eq!(link(File, "a/post-checkout"), one("git/link-collision", "A"));
    assert_eq!(link(Submodule, "a"), one("git/link-collision", "A"));
    assert_eq!(link(Submodule, "a/modules/x"), one("git/link-collision", "A"));
    assert_eq!(tree(&[("x/é", Link), ("x/e\u{301}/y", File)]), one("git/link-collision", "x/é"));
    // Two files overwrite each other, which is bad enough.
    assert_eq!(link(File, "a"), one("git/case-collision", "a"));
    let findings = found(&[("A", Link), ("a/x", File)]).findings;
    assert_eq!(findings[0].1.severity, Severity::High);
}

#[test]
fn names_that_fold_together_are_told_where_they_differ() {
    let names = [("Docs/a", File), ("Docs/b", File), ("docs/a", File), ("docs/c", File)];
    assert_eq!(tree(&names), one("git/case-collision", "docs"), "and not for each file below");
    // In whatever order they come.
    let names = [("docs/c", File), ("Docs/a", File), ("docs/a", File), ("Docs/b", File)];
    assert_eq!(tree(&names), one("git/case-collision", "docs"));
    assert_eq!(tree(&[("a/x", File), ("b/X", File)]), []);
    assert_eq!(tree(&[("STRASSE", File), ("straße", File)]), [], "not one name anywhere");
    assert_eq!(tree(&[("É", File), ("e\u{301}", File)]), one("git/case-collision", "É"));
}

#[test]
fn control_characters_in_names() {
    for name in ["a\x1b[2Jb", "a\nb", "a\u{7f}", "\u{85}", "exe.\u{202e}txt", "a\rb"] {
        let finding = &found(&[(name, File)]).findings;
        assert_eq!(finding[0].1.rule_id, "git/control-character-name", "{name:?}");
        let message = &finding[0].1.message;
        assert!(!message.chars().any(|c| c.is_control() || c == '\u{202e}'), "{message:?}");
    }
    let latin = [(b"caf\xe9\x85".as_slice(), File)];
    let tell = |each: &mut dyn FnMut(&NameEntry<'_>)| {
        for (path, kind) in &latin {
            each(&NameEntry { path, kind: *kind, size: 0 });
        }
        Ok(())
    };
    assert!(check(&tell, 100).unwrap().findings.is_empty(), "bytes of another encoding");
}

#[test]
fn cve_2024_32004_and_32465_a_repository_within() {
    let parts = ["x/HEAD", "x/config", "x/objects/aa/bb", "x/refs/heads/main"];
    let names: Vec<(&str, NameKind)> = parts.iter().map(|path| (*path, File)).collect();
    assert_eq!(tree(&names), one("git/embedded-repository", "x/HEAD"));
    for (at, part) in parts.iter().enumerate() {
        let mut names = names.clone();
        names.remove(at);
        assert_eq!(tree(&names), [], "without {part}");
    }
    let root: Vec<(&str, NameKind)> = names.iter().map(|(p, k)| (&p[2..], *k)).collect();
    assert_eq!(tree(&root), one("git/embedded-repository", "HEAD"));
}

#[test]
fn links_in_the_place_of_files_that_git_reads() {
    assert_eq!(tree(&[(".gitmodules", Link)]), one("git/linked-gitmodules", ".gitmodules"));
    for name in [".gitattributes", ".gitignore", "a/.mailmap"] {
        assert_eq!(tree(&[(name, Link)]), one("git/linked-config", name));
    }
}

#[test]
fn cve_2022_23521_attributes_that_overflow() {
    assert_eq!(file(".gitattributes", b"* text=auto\n*.png binary\n"), []);
    let long = format!("* text\n{} a\n{0} b\n", "x".repeat(2048));
    let findings = file("deep/.gitattributes", long.as_bytes());
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].rule_id.as_str(), findings[0].span.start_line),
        ("git/attributes-size", 2)
    );
    assert!(findings[0].message.contains("1 more lines"), "{}", findings[0].message);
    let tell = |each: &mut dyn FnMut(&NameEntry<'_>)| {
        each(&NameEntry { path: b".gitattributes", kind: File, size: (100 << 20) + 1 });
        Ok(())
    };
    let found = check(&tell, 100).unwrap().findings;
    assert_eq!(found[0].1.rule_id, "git/attributes-size");
}

#[test]
fn submodules_are_told_with_line_and_value() {
    let text = b"[submodule \"../../x\"]\n\tpath = \"x\r\"\n\turl = -u./payload\n\tupdate = !sh\n";
    let findings = file(".gitmodules", text);
    let told: Vec<(&str, u32)> =
        findings.iter().map(|f| (f.rule_id.as_str(), f.span.start_line)).collect();
    assert_eq!(
        told,
        [
            ("git/submodule-name", 1),
            ("git/submodule-path", 2),
            ("git/submodule-url", 3),
            ("git/submodule-update", 4),
        ]
    );
    assert!(findings.iter().all(|f| f.severity == Severity::High));
    assert!(findings[1].snippet.contains("\\r"), "{:?}", findings[1].snippet);
    assert!(findings[2].message.contains("\"-u./payload\""), "{}", findings[2].message);
    // Where git does not read it, it waits.
    assert!(file("examples/.gitmodules", text).iter().all(|f| f.severity == Severity::Low));
    assert_eq!(file(".GITMODULES", text).len(), 4);
    assert_eq!(Analyzer::new().facet("gitmodules"), None);
}

#[test]
fn what_is_too_much_is_counted() {
    let names: Vec<String> = (0..150).map(|n| format!("{n}/.git")).collect();
    let names: Vec<(&str, NameKind)> = names.iter().map(|n| (n.as_str(), File)).collect();
    let found = found(&names);
    assert_eq!((found.findings.len(), found.dropped), (100, 50));
    let many = "[submodule \"..\"]\n".repeat(150);
    assert_eq!(file(".gitmodules", many.as_bytes()).len(), 100);
}

#[test]
fn every_rule_says_what_to_do() {
    let engine = Analyzer::new();
    assert!(engine.rules().is_sorted_by_key(|rule| &rule.id));
    for rule in engine.rules() {
        assert!(owns(&rule.id) && !rule.cwe.is_empty(), "{}", rule.id);
        assert!(rule.remediation.len() > 20 && rule.description.len() > 20, "{}", rule.id);
    }
}
