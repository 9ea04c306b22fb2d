//! Archives that hold a `.git`.

use super::*;

const PROJECT: &str = "git init -q -b main r; cd r; echo 1 > a; git add .; git commit -qm one; \
     echo 'password = 1' > gone; git add .; git commit -qm two; git rm -q gone; \
     git commit -qm three; git tag v1; git tag -am annotated v2; git branch other HEAD~1; ";

fn of(command: &str) -> Result<(Imported, Files), ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &format!("{PROJECT} {command}"));
    import_file(&dir.path().join("a"), &Limits::default())
}

#[test]
fn the_history_counts_loose_and_packed() {
    for command in [
        "cd ..; tar -cf a r",
        "tar -czf ../a .",
        "git gc -q; cd ..; tar -cf a r",
        "git gc -q; echo 4 > d; git add d; git commit -qm four; git rm -q d; git commit -qm five; cd ..; zip -qr a.zip r; mv a.zip a",
    ] {
        let (imported, files) = of(&format!("echo dirty > uncommitted; {command}")).unwrap();
        let history = imported.history.unwrap();
        assert_eq!(history.head_ref.as_deref(), Some("refs/heads/main"), "{command}");
        assert_eq!(imported.commit, Some(history.head.to_string()));
        let names: Vec<&str> = history.refs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["refs/heads/main", "refs/heads/other", "refs/tags/v1", "refs/tags/v2"],
            "{command}"
        );
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a"], "those of HEAD: {command}");
        assert!(history.packs.iter().map(|pack| pack.objects).sum::<u32>() >= 8);
    }
}

#[test]
fn a_history_that_cannot_stand_alone_leaves_the_files() {
    for command in [
        "cd ..; git clone -qs r s; mv s/.git/objects/info/alternates x; mv s r2; tar -cf a r2",
        "cd ..; git init -q r3; cp r/a r3/; tar -cf a r3",
        "rm -rf .git/objects; cd ..; tar -cf a r",
        "cd ..; git init -q --object-format=sha256 r4; cd r4; echo 1 > a; git add a; git commit -qm 1; cd ..; tar -cf a r4",
    ] {
        let (imported, files) = of(command).unwrap();
        assert!(imported.history.is_none(), "{command}");
        assert!(notes(&imported).contains(&"history_left_out"), "{command}");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a"], "{command}");
    }
}

#[test]
fn leftovers_and_shallow_clones_are_no_obstacle() {
    let (imported, _) =
        of("git checkout -q --detach; echo x > x; git add x; git commit -qm lost; \
         git checkout -q main; rm .git/objects/$(git rev-parse HEAD@{1}^{tree} | sed 's,^..,&/,'); \
         rm -rf .git/logs; cd ..; tar -cf a r")
        .unwrap();
    assert_eq!(notes(&imported), [""; 0]);
    assert!(imported.history.is_some());
    let (imported, _) = of("cd ..; git clone -q --depth 1 file://$PWD/r s; tar -cf a s").unwrap();
    assert_eq!(imported.history.unwrap().shallow.len(), 1);
}

#[test]
fn other_gits_are_no_source() {
    let (imported, files) = of("mkdir -p sub/deep; cd sub/deep; git init -q; cd ../../..; \
         mkdir all; mv r all/; mkdir all/s; echo 1 > all/s/b; tar -cf a all")
    .unwrap();
    assert!(imported.history.is_none(), "it is not that of the archive");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["r/a", "s/b"]);
    assert_eq!(notes(&imported), ["nested_git"]);
}

#[test]
fn nothing_of_a_git_is_run_or_followed() {
    let (imported, _) = of("printf '[core]\\n\\tfsmonitor = touch /tmp/owned\\n[include]\\n\\tpath = /etc/passwd\\n' >> .git/config; \
         echo /etc > .git/objects/info/alternates; printf '#!/bin/sh\\ntouch owned\\n' > .git/hooks/post-checkout; \
         chmod +x .git/hooks/post-checkout; cd ..; tar -cf a r")
    .unwrap();
    assert!(imported.history.is_some());
    assert!(!imported.objects.join("info/alternates").exists());
}

#[test]
fn hostile_objects_are_refused() {
    let damaged = of(
        "f=$(ls -d .git/objects/??/* | head -1); chmod u+w $f; echo junk > $f; cd ..; tar -cf a r",
    );
    assert_eq!(damaged.unwrap_err().code(), "bad_history");
    let swapped =
        of("set -- $(ls -d .git/objects/??/*); chmod u+w $1; cp $2 $1; cd ..; tar -cf a r");
    assert_eq!(swapped.unwrap_err().code(), "bad_history");
    let cut = of(
        "git gc -q; p=$(ls .git/objects/pack/*.pack); chmod u+w $p; truncate -s 200 $p; cd ..; tar -cf a r",
    );
    assert_eq!(cut.unwrap_err().code(), "bad_history");
    let traversal = of(
        "t=$(printf '100644 blob %s\\t..\\n' $(git hash-object -w a) | git mktree --missing 2>/dev/null || \
         printf '100644 ..\\0%b' \"$(git hash-object a | sed 's/../\\\\x&/g')\" | git hash-object -t tree -w --stdin --literally); \
         c=$(echo bad | git commit-tree $t); git update-ref refs/heads/main $c; cd ..; tar -cf a r",
    );
    assert_eq!(traversal.unwrap_err().code(), "bad_history");
}
