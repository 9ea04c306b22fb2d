use std::collections::BTreeMap;
use std::path::Path;

use super::client::Finding;
use super::compare::{Expected, Verdict};
use super::sample;

/// A finding as the API shows it, as far as the demo reads it.
fn finding(engine: &str, severity: &str, path: &str, line: u32, in_history: bool) -> Finding {
    serde_json::from_value(serde_json::json!({
        "engine": engine, "rule_id": "rule", "title": "Title", "severity": severity,
        "location": { "path": path, "start_line": line, "in_history": in_history },
        "other_locations": [], "package": null,
    }))
    .unwrap()
}

fn expected(plants: serde_json::Value, lookalikes: serde_json::Value) -> Expected {
    serde_json::from_value(serde_json::json!({ "plants": plants, "lookalikes": lookalikes }))
        .unwrap()
}

fn plant(id: &str, line: Option<u32>) -> serde_json::Value {
    let mut plant = serde_json::json!({
        "id": id, "engine": "code", "path": "a.py", "cwe": "CWE-1", "rule_hint": "hint",
        "severity_at_least": "medium", "note": "Note.",
    });
    match line {
        Some(line) => plant["line"] = line.into(),
        None => plant["in_history"] = true.into(),
    }
    plant
}

fn missed(expected: &Expected, findings: &[Finding]) -> Vec<String> {
    Verdict::new(expected, findings).missed.iter().map(|plant| plant.id.clone()).collect()
}

#[test]
fn a_plant_is_found_by_engine_path_and_a_near_line() {
    let expected = expected(serde_json::json!([plant("p", Some(10))]), serde_json::json!([]));
    for (found, what) in [
        (true, finding("code", "medium", "a.py", 10, false)),
        (true, finding("code", "critical", "a.py", 13, false)),
        (true, finding("code", "high", "a.py", 7, false)),
        (false, finding("code", "high", "a.py", 14, false)),
        (false, finding("secrets", "high", "a.py", 10, false)),
        (false, finding("code", "high", "b.py", 10, false)),
        (false, finding("code", "high", "a.py", 10, true)),
    ] {
        let verdict_missed = missed(&expected, std::slice::from_ref(&what));
        assert_eq!(verdict_missed.is_empty(), found, "{what:?}");
    }
}

#[test]
fn an_underrated_plant_is_found_and_noted() {
    let expected = expected(serde_json::json!([plant("p", Some(10))]), serde_json::json!([]));
    let low = finding("code", "low", "a.py", 10, false);
    let medium = finding("code", "medium", "a.py", 10, false);
    for (findings, underrated) in [(vec![low.clone()], 1), (vec![low, medium], 0)] {
        let verdict = Verdict::new(&expected, &findings);
        assert!(verdict.is_right());
        assert_eq!(verdict.underrated.len(), underrated);
    }
}

#[test]
fn one_finding_does_not_speak_for_two_plants() {
    let plants = serde_json::json!([plant("upper", Some(10)), plant("lower", Some(12))]);
    let expected = expected(plants, serde_json::json!([]));
    let lower = finding("code", "high", "a.py", 12, false);
    assert_eq!(missed(&expected, std::slice::from_ref(&lower)), ["upper"]);
    let both = [lower, finding("code", "high", "a.py", 11, false)];
    assert!(missed(&expected, &both).is_empty());
}

#[test]
fn what_the_history_holds_is_found_in_the_history_only() {
    let expected = expected(serde_json::json!([plant("old", None)]), serde_json::json!([]));
    assert!(missed(&expected, &[finding("code", "high", "a.py", 99, true)]).is_empty());
    assert_eq!(missed(&expected, &[finding("code", "high", "a.py", 99, false)]), ["old"]);
}

#[test]
fn a_dependency_is_found_by_its_package() {
    let mut plant = plant("dep", Some(3));
    plant["engine"] = "dependencies".into();
    plant["rule_hint"] = "pkg:pypi/pyyaml@5.3".into();
    let expected = expected(serde_json::json!([plant]), serde_json::json!([]));
    let mut dependency = finding("dependencies", "high", "a.py", 3, false);
    for (purl, found) in [("pkg:pypi/pyyaml@5.3", true), ("pkg:pypi/pyyaml@6.0", false)] {
        dependency.package = Some(super::client::Package { purl: purl.to_owned() });
        assert_eq!(
            missed(&expected, std::slice::from_ref(&dependency)).is_empty(),
            found,
            "{purl}"
        );
    }
}

#[test]
fn a_look_alike_is_mistaken_on_its_very_line_and_not_in_the_history() {
    let likes = serde_json::json!([{ "path": "a.py", "line": 5, "why": "Harmless." }]);
    let expected = expected(serde_json::json!([]), likes);
    for (line, in_history, mistaken) in [(5, false, 1), (6, false, 0), (5, true, 0)] {
        let findings = [finding("code", "info", "a.py", line, in_history)];
        let verdict = Verdict::new(&expected, &findings);
        assert_eq!(verdict.mistaken.len(), mistaken, "{line} {in_history}");
        assert_eq!(verdict.is_right(), mistaken == 0);
    }
    // Also where the look-alike is but one of the places.
    let mut finding = finding("secrets", "high", "b.py", 1, false);
    finding.other_locations =
        self::finding("secrets", "high", "a.py", 5, false).location.into_iter().collect();
    assert_eq!(Verdict::new(&expected, &[finding]).mistaken.len(), 1);
}

/// The sample that is compiled in is the one in the folder, and its two lists point at
/// lines that exist.
#[test]
fn the_embedded_sample_is_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo/commits");
    let mut folders: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let commits = sample::commits().unwrap();
    assert_eq!(commits.len(), folders.len());
    let mut tree: BTreeMap<String, usize> = BTreeMap::new();
    for (commit, folder) in commits.iter().zip(&folders) {
        assert!(!commit.about.message.is_empty());
        let mut on_disk = Vec::new();
        list(&folder.join("files"), &mut on_disk);
        assert_eq!(commit.files.len(), on_disk.len(), "{}", folder.display());
        for (path, bytes) in &commit.files {
            assert_eq!(std::fs::read(folder.join("files").join(path)).unwrap(), *bytes);
            let lines = bytes.split(|b| *b == b'\n').count();
            tree.insert(path.to_str().unwrap().to_owned(), lines);
        }
        for path in &commit.about.delete {
            assert!(tree.remove(path).is_some(), "{path} is deleted and was not there");
        }
    }
    let lists: serde_json::Value = serde_json::from_str(sample::EXPECTED).unwrap();
    for list in ["plants", "lookalikes"] {
        for entry in lists[list].as_array().unwrap() {
            if entry["in_history"] == true {
                continue;
            }
            let (path, line) = (entry["path"].as_str().unwrap(), entry["line"].as_u64().unwrap());
            let lines = tree.get(path).unwrap_or_else(|| panic!("{path} is not there"));
            assert!((1..=*lines as u64).contains(&line), "{path}:{line}");
        }
    }
    assert!(Expected::embedded().is_ok());
}

fn list(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}
