//! Archives of the real tools.

use super::*;

/// The same small project, and the archive that the command makes of it.
fn made_by(command: &str, name: &str) -> (Imported, Files) {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        "mkdir -p project/src project/empty; printf 'fn main() {}\\n' > project/src/main.rs; \
         printf '#!/bin/sh\\n' > project/run.sh; chmod 755 project/run.sh; chmod 644 project/src/main.rs; \
         ln -s src/main.rs project/link; head -c 3000000 /dev/urandom > project/big.bin; \
         cp project/big.bin project/same.bin; mkdir -p project/$(printf 'long%.0s' 1 2 3 4 5 6 7 8 9 10)/$(printf 'name%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40); \
         for d in project/long*/name*; do printf x > $d/ü.txt; done",
    );
    run(dir.path(), command);
    import_file(&dir.path().join(name), &Limits::default()).unwrap()
}

#[test]
fn every_form_gives_the_same_tree() {
    let mut trees = Vec::new();
    for (command, name) in [
        ("tar -cf a project", "a"),
        ("tar --format=gnu -czf a project", "a"),
        ("tar --format=pax -cJf a project", "a"),
        ("tar --format=pax -cjf a project", "a"),
        ("tar -cf t project && zstd -q t -o a", "a"),
        ("tar -cf t project && zstd -q --ultra -20 --long=27 t -o a", "a"),
        (
            "tar -cf t project && split -b 2000000 t part. && for p in part.*; do gzip < $p; done > a",
            "a",
        ),
        (
            "tar -cf t project && split -b 2000000 t part. && for p in part.*; do xz -T2 < $p; done > a",
            "a",
        ),
        ("cd project && tar -czf ../a .", "a"),
        ("zip -qry a.zip project", "a.zip"),
        ("cd project && zip -qry ../a.zip .", "a.zip"),
        ("zip -qry -Z bzip2 a.zip project", "a.zip"),
        ("zip -qry -0 a.zip project", "a.zip"),
        ("zip -qry -fz a.zip project", "a.zip"),
        ("zip -qry - project > a.zip", "a.zip"),
    ] {
        let (imported, files) = made_by(command, name);
        assert_eq!(files.len(), 6, "{command}: {:?}", files.keys());
        assert_eq!(
            files["src/main.rs"],
            ("100644".into(), b"fn main() {}\n".to_vec()),
            "{command}"
        );
        assert_eq!(files["run.sh"].0, "100755", "{command}");
        assert_eq!(files["link"], ("120000".into(), b"src/main.rs".to_vec()), "{command}");
        assert_eq!(files["big.bin"], files["same.bin"]);
        assert!(files.keys().any(|path| path.ends_with("/ü.txt")), "{command}");
        assert_eq!(notes(&imported), [""; 0], "{command}");
        assert_eq!((imported.commit, imported.files), (None, 6));
        trees.push(imported.head);
    }
    // big.bin differs from run to run, so only the last counts as deterministic below.
    assert_eq!(trees.len(), 15);
}

#[test]
fn equal_contents_give_equal_commits() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "mkdir p; echo 1 > p/a; echo 2 > p/a.b; mkdir p/a-; echo 3 > p/a-/c");
    run(dir.path(), "tar -cf 1 p; zip -qr 2.zip p; cd p; tar -czf ../3 a a.b a-");
    let heads: Vec<_> = ["1", "2.zip", "3"]
        .iter()
        .map(|name| import_file(&dir.path().join(name), &Limits::default()).unwrap().0.head)
        .collect();
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[0], heads[2]);
}

#[test]
fn archives_of_python_are_read() {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        "python3 - <<'P'\nimport zipfile, tarfile, io\n\
         z = zipfile.ZipFile('a.zip', 'w', zipfile.ZIP_DEFLATED)\n\
         z.writestr('p/x.txt', 'x' * 1000)\nz.writestr('p/ü.txt', 'y')\n\
         z.comment = b'0123456789012345678901234567890123456789'\nz.close()\n\
         t = tarfile.open('a.tar', 'w', format=tarfile.USTAR_FORMAT)\n\
         i = tarfile.TarInfo('p/x.txt'); i.size = 3; t.addfile(i, io.BytesIO(b'abc')); t.close()\nP",
    );
    let (imported, files) = import_file(&dir.path().join("a.zip"), &Limits::default()).unwrap();
    assert_eq!(files["x.txt"].1, [b'x'; 1000]);
    assert!(files.contains_key("ü.txt"));
    assert_eq!(imported.commit.as_deref(), Some("0123456789012345678901234567890123456789"));
    let (_, files) = import_file(&dir.path().join("a.tar"), &Limits::default()).unwrap();
    assert_eq!(files["x.txt"].1, b"abc");
}

#[test]
fn archives_of_git_tell_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        "git init -q r; cd r; echo 1 > a; mkdir s; echo 2 > s/b; git add .; git commit -qm 1; \
         git rev-parse HEAD > ../head; git archive --prefix=r-1/ -o ../a.tar.gz HEAD; \
         git archive --prefix=r-1/ -o ../a.zip HEAD",
    );
    let head = std::fs::read_to_string(dir.path().join("head")).unwrap();
    for name in ["a.tar.gz", "a.zip"] {
        let (imported, files) = import_file(&dir.path().join(name), &Limits::default()).unwrap();
        assert_eq!(imported.commit.as_deref(), Some(head.trim()), "{name}");
        assert!(imported.history.is_none());
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "s/b"], "{name}");
    }
}

#[test]
fn hard_links_are_files_again() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "mkdir p; echo 1 > p/a; ln p/a p/b; tar -cf t p");
    let (_, files) = import_file(&dir.path().join("t"), &Limits::default()).unwrap();
    assert_eq!(files["a"], files["b"]);
}
