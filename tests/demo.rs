//! `sluice demo` as a user sees it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The demo, for a user with a configuration of their own that must not matter, and
/// with an empty folder for temporary files.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .arg("demo")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("TMPDIR", temporary)
        .env("SLUICE_LISTEN", "nowhere")
        .env("SLUICE_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("SLUICE_UNKNOWN", "unknown")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("GIT_DIR", "/nowhere")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "commit.gpgSign")
        .env("GIT_CONFIG_VALUE_0", "true")
        .env_remove("CLICOLOR_FORCE");
    command
}

fn words(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("it is there").next().is_none()
}

#[test]
fn the_planted_weaknesses_are_found_and_no_look_alike() {
    let temporary = tempfile::tempdir().expect("a folder");
    let output = demo(temporary.path()).arg("--exit").output().expect("it runs");
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{out}{err}");
    assert!(is_empty(temporary.path()));

    // What git says is there to read, the token is not.
    assert!(err.contains("[new branch]      main -> main"), "{err}");
    assert!(!out.contains("slu_") && !err.contains("slu_"), "{out}{err}");

    let expected: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/demo/expected.json")).expect("JSON");
    let plants = expected["plants"].as_array().expect("a list");
    for plant in plants {
        let path = plant["path"].as_str().expect("a path");
        let history = plant["in_history"] == true;
        assert!(
            out.lines().any(|line| line.contains(&format!(" {path}:"))
                && line.ends_with("(history)") == history),
            "{plant}\n{out}"
        );
    }
    let all_found = format!("{0} of {0} planted weaknesses found", plants.len());
    for words in [
        all_found.as_str(),
        "ok    0 reports on",
        "  completed ",
        "s from git push to the last event",
        "> the findings are at http://localhost:",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    // One line for each finding.
    let count = out
        .lines()
        .find_map(|line| line.strip_prefix("> ")?.split_once(" findings: "))
        .map(|(count, _)| count.parse::<usize>().expect("a number"))
        .expect("the summary");
    let severities = ["critical ", "high ", "medium ", "low ", "info "];
    let lines = out.lines().filter(|line| severities.iter().any(|s| line.starts_with(s))).count();
    assert_eq!(count, lines, "{out}");
}

#[test]
fn without_git_it_says_so() {
    let temporary = tempfile::tempdir().expect("a folder");
    let nothing = tempfile::tempdir().expect("a folder");
    let output =
        demo(temporary.path()).arg("--exit").env("PATH", nothing.path()).output().expect("it runs");
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert_eq!(out, "");
    assert!(err.contains("there is no git on the PATH"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(is_empty(temporary.path()));
}

#[test]
fn settings_that_would_have_no_effect_are_refused() {
    let temporary = tempfile::tempdir().expect("a folder");
    let output = demo(temporary.path())
        .args(["--exit", "--data-dir", "/nowhere"])
        .output()
        .expect("it runs");
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(err.contains("leave --data-dir out"), "{err}");
    assert!(is_empty(temporary.path()));
}

/// The findings can be read as the demo says, until a signal ends it; then nothing is
/// left of it.
#[test]
fn it_stays_until_it_is_interrupted() {
    let temporary = tempfile::tempdir().expect("a folder");
    let log = temporary.path().with_extension("out");
    let file = std::fs::File::create(&log).expect("a file");
    let mut child =
        demo(temporary.path()).stdout(file).stderr(Stdio::null()).spawn().expect("it runs");
    let out = until(&mut child, &log, "stays up until Ctrl-C");
    let line = out.lines().find(|line| line.contains("curl -H")).expect("a way in").to_owned();
    let answer = Command::new("sh").args(["-c", &line]).output().expect("curl runs");
    let page: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert!(page["items"].as_array().is_some_and(|items| !items.is_empty()), "{page}");

    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let status = child.wait().expect("it ends");
    // What the engines are worth is the matter of another test; here it ends in order.
    assert!(matches!(status.code(), Some(0 | 1)), "{status} {out}");
    assert!(is_empty(temporary.path()));
    std::fs::remove_file(log).expect("removed");
}

#[test]
fn an_early_interrupt_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a folder");
    let log = temporary.path().with_extension("out");
    let file = std::fs::File::create(&log).expect("a file");
    let mut child =
        demo(temporary.path()).stdout(file).stderr(Stdio::null()).spawn().expect("it runs");
    until(&mut child, &log, "a throw-away server listens");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(is_empty(temporary.path()));
    std::fs::remove_file(log).expect("removed");
}

/// What the demo has printed once `words` are among it.
fn until(child: &mut Child, log: &Path, words: &str) -> String {
    let begin = Instant::now();
    loop {
        let out = std::fs::read_to_string(log).unwrap_or_default();
        if out.contains(words) {
            return out;
        }
        let ended = child.try_wait().expect("it can be asked");
        if ended.is_some() || begin.elapsed() > Duration::from_mins(2) {
            let _ = child.kill();
            panic!("{ended:?} before {words:?}: {out}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
