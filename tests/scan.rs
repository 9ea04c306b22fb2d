//! `sluice scan` as a user sees it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LOCK: &str = "lodash@^4.17.0:\n  version \"4.17.20\"\n";

fn sluice(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("scan")
        .args(args)
        .current_dir(folder)
        .env_remove("SLUICE_ADVISORIES")
        .stdin(Stdio::null())
        .output()
        .expect("sluice runs")
}

/// Scans for vulnerable packages with the built-in set of advisories.
fn packages(folder: &Path, args: &[&str]) -> Output {
    let mut all = vec!["--engines", "dependencies", "--advisories", "sample"];
    all.extend(args);
    sluice(folder, &all)
}

fn git(folder: &Path, args: &[&str]) {
    let done = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    folder
}

#[test]
fn exit_status_tells_what_was_found() {
    let folder = folder_with(&[("web/yarn.lock", LOCK), ("node_modules/x/yarn.lock", LOCK)]);
    let found = packages(folder.path(), &[]);
    assert_eq!(code(&found), 1, "{}", err(&found));
    let text = out(&found);
    assert!(text.contains("web/yarn.lock:1") && text.contains("CVE-2021-23337"), "{text}");
    assert!(!text.contains("node_modules"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");
    assert_eq!(code(&packages(folder.path(), &["--fail-on", "high"])), 1);
    assert_eq!(code(&packages(folder.path(), &["--fail-on", "critical"])), 0);
    assert_eq!(code(&packages(folder.path(), &["--exclude", "web/"])), 0);
    assert_eq!(code(&packages(folder.path(), &["--include", "*.lock"])), 1);

    for (args, says) in [
        (&["absent"][..], "cannot read absent"),
        (&["--history"], "no git repository"),
        (&["--exclude", "["], "no usable exclude glob"),
        (&["--fail-on", "bad"], "is no severity"),
        (&["--advisories", "web"], "holds no advisories"),
        (&["--engines", "magic"], "is no engine"),
    ] {
        let failed = sluice(folder.path(), args);
        assert_eq!(code(&failed), 2, "{args:?}");
        assert!(err(&failed).contains(says), "{args:?}: {}", err(&failed));
    }
    let unknowing = sluice(folder.path(), &["--engines", "dependencies"]);
    assert_eq!(code(&unknowing), 0);
    assert!(err(&unknowing).contains("No advisories are loaded"), "{}", err(&unknowing));
}

#[test]
fn forms_of_output() {
    let folder = folder_with(&[("yarn.lock", LOCK)]);
    let json = packages(folder.path(), &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    // CVE-2021-23337 only: 4.17.20 has the fix of the other one.
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(1));
    let sarif = packages(folder.path(), &["--format", "sarif"]);
    let sarif: serde_json::Value = serde_json::from_slice(&sarif.stdout).expect("SARIF");
    assert_eq!(
        sarif["runs"][0]["results"][0]["partialFingerprints"]["sluice/v1"],
        json["findings"][0]["fingerprint"]
    );
}

#[test]
fn a_path_is_never_left_by_a_link() {
    let outside = folder_with(&[("yarn.lock", LOCK)]);
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).expect("linked");
    std::os::unix::fs::symlink(outside.path().join("yarn.lock"), folder.path().join("yarn.lock"))
        .expect("linked");
    assert_eq!(code(&packages(folder.path(), &[])), 0);
}

#[test]
fn repositories_with_and_without_a_work_tree() {
    let folder = folder_with(&[("web/yarn.lock", LOCK), ("a.txt", "a")]);
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["commit", "-q", "-m", "one"]);
    git(folder.path(), &["clone", "-q", "--bare", ".", "bare.git"]);
    git(folder.path(), &["worktree", "add", "-q", "linked"]);
    for path in ["bare.git", "linked"] {
        for args in [&[path][..], &[path, "--history"]] {
            let found = packages(folder.path(), args);
            assert_eq!(code(&found), 1, "{args:?}: {}", err(&found));
            assert!(out(&found).contains("web/yarn.lock:1"), "{args:?}: {}", out(&found));
        }
    }
    // What is not committed counts: the work tree is scanned as it lies on disk.
    fs::remove_file(folder.path().join("linked/web/yarn.lock")).expect("removed");
    assert_eq!(code(&packages(folder.path(), &["linked"])), 0);
    let empty = tempfile::tempdir().expect("a folder");
    git(empty.path(), &["init", "-q", "--bare", "."]);
    assert_eq!(code(&packages(empty.path(), &["--history"])), 0);
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        // Written as it is: the library would refuse a path that leads out.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).expect("written");
    }
    archive.into_inner().expect("written")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("written")
}

#[test]
fn archives() {
    let plain = tar(&[("top/app/yarn.lock", LOCK.as_bytes()), ("top/README", b"x\n")]);
    let folder = tempfile::tempdir().expect("a folder");
    let zstd = zstd::encode_all(plain.as_slice(), 1).expect("written");
    for (name, bytes) in [("a.tar", plain.clone()), ("b", gzip(&plain)), ("c", zstd)] {
        fs::write(folder.path().join(name), bytes).expect("written");
        let found = packages(folder.path(), &[name]);
        assert_eq!(code(&found), 1, "{name}: {}", err(&found));
        assert!(out(&found).contains("app/yarn.lock:1"), "{name}: {}", out(&found));
    }
    fs::create_dir_all(folder.path().join("z/app")).expect("made");
    fs::write(folder.path().join("z/app/yarn.lock"), LOCK).expect("written");
    let tools = "zip -qr d.zip z && tar -cJf e z && tar -cjf f z";
    let made = Command::new("sh").args(["-ec", tools]).current_dir(folder.path()).status();
    assert!(made.expect("tools").success());
    for name in ["d.zip", "e", "f"] {
        let found = packages(folder.path(), &[name]);
        assert_eq!(code(&found), 1, "{name}: {}", err(&found));
        assert!(out(&found).contains("app/yarn.lock:1"), "{name}: {}", out(&found));
    }
    // A `.git` in the archive is its history.
    git(&folder.path().join("z"), &["init", "-q", "."]);
    git(&folder.path().join("z"), &["add", "."]);
    git(&folder.path().join("z"), &["commit", "-qm", "one"]);
    let tools = "tar -czf g z";
    let made = Command::new("sh").args(["-ec", tools]).current_dir(folder.path()).status();
    assert!(made.expect("tools").success());
    let found = packages(folder.path(), &["g", "--history"]);
    assert_eq!(code(&found), 1, "{}", err(&found));
    let evil = tar(&[("app/yarn.lock", LOCK.as_bytes()), ("../../evil/yarn.lock", b"x\n")]);
    fs::write(folder.path().join("evil"), evil).expect("written");
    let refused = packages(folder.path(), &["evil"]);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("leads out of the archive"), "{}", err(&refused));
    // Files of zeros, 512 MiB together, in half a MB.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let chunk = vec![0; 64 << 20];
    for number in 0..8 {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("zeros-{number}")).expect("a path");
        header.set_size(chunk.len() as u64);
        header.set_cksum();
        encoder.write_all(header.as_bytes()).expect("written");
        encoder.write_all(&chunk).expect("written");
    }
    fs::write(folder.path().join("bomb"), encoder.finish().expect("written")).expect("written");
    for (name, says) in [("bomb", "decompression bomb"), ("text", "no archive")] {
        if name == "text" {
            fs::write(folder.path().join(name), "just text").expect("written");
        }
        let failed = packages(folder.path(), &[name]);
        assert_eq!(code(&failed), 2, "{name}");
        assert!(err(&failed).contains(says), "{name}: {}", err(&failed));
    }
    fs::write(folder.path().join("cut"), &gzip(&plain)[..60]).expect("written");
    assert_eq!(code(&packages(folder.path(), &["cut"])), 2);
    assert_eq!(code(&packages(folder.path(), &["a.tar", "--history"])), 2);
}
