use std::collections::HashSet;

use super::*;
use crate::scan::model::*;

fn location(path: &str, line: u32, in_history: bool) -> Location {
    Location {
        path: path.to_owned(),
        span: Span { start_line: line, start_column: 3, end_line: line, end_column: 9 },
        commit: in_history.then(|| "c0ffee".to_owned()),
        in_history,
    }
}

fn rule() -> RuleInfo {
    RuleInfo {
        id: "python/sql-injection".to_owned(),
        engine: EngineKind::Code,
        title: "SQL injection".to_owned(),
        description: "Why.".to_owned(),
        remediation: "How.".to_owned(),
        severity: Severity::High,
        cwe: vec!["CWE-89".to_owned()],
        owasp: vec!["A03:2021".to_owned()],
        references: vec!["https://example.org/".to_owned()],
        aliases: vec!["python/sqli".to_owned()],
    }
}

fn outcome() -> ScanOutcome {
    let step = |path: Option<&str>, line| FlowStep {
        path: path.map(str::to_owned),
        line,
        column: 1,
        message: "goes on".to_owned(),
    };
    let code = Finding {
        fingerprint: format!("{:a<36}0001", ""),
        engine: EngineKind::Code,
        rule_id: "python/sql-injection".to_owned(),
        title: "SQL injection".to_owned(),
        message: "User input reaches a query.".to_owned(),
        severity: Severity::High,
        confidence: Confidence::High,
        location: location("src/a b#1.py", 12, false),
        other_locations: Vec::new(),
        snippet: "    db.execute(q)\n".to_owned(),
        symbol: "Dao.find".to_owned(),
        flow: vec![step(None, 10), step(Some("src/c.py"), 0)],
        package: None,
        priority: 80,
        suppressed: Some("checked above".to_owned()),
    };
    let secret = Finding {
        fingerprint: format!("{:b<36}0000", ""),
        engine: EngineKind::Secrets,
        rule_id: "secrets/\u{1b}[31mtoken".to_owned(),
        message: "A token.".to_owned(),
        severity: Severity::Critical,
        location: location("evil\u{1b}]0;x\u{7}.txt", 1, false),
        other_locations: vec![location("old.txt", 4, true)],
        flow: Vec::new(),
        suppressed: None,
        ..code.clone()
    };
    let package = Finding {
        fingerprint: format!("{:c<36}0000", ""),
        engine: EngineKind::Dependencies,
        rule_id: "dependencies/known-vulnerability".to_owned(),
        title: "lodash: command injection".to_owned(),
        severity: Severity::Medium,
        location: Location { span: Span::default(), ..location("package-lock.json", 0, false) },
        snippet: String::new(),
        symbol: String::new(),
        flow: Vec::new(),
        suppressed: None,
        package: Some(PackageRef {
            ecosystem: "npm".to_owned(),
            name: "lodash".to_owned(),
            version: "4.17.20".to_owned(),
            purl: "pkg:npm/lodash@4.17.20".to_owned(),
            fixed_in: Some("4.17.21".to_owned()),
            advisory_ids: vec!["CVE-2021-23337".to_owned(), "GHSA-35jh-r3h4-6jhm".to_owned()],
        }),
        ..code.clone()
    };
    let component = |name: &str, version: &str, direct, dev, requires: &[&str]| Component {
        ecosystem: "npm".to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        purl: crate::scan::dependencies::purl("npm", name, version),
        direct: Some(direct),
        dev,
        line: 7,
        requires: requires.iter().map(|r| (*r).to_owned()).collect(),
    };
    let lock = |c: Component| ("package-lock.json".to_owned(), c);
    ScanOutcome {
        findings: vec![secret, code, package],
        components: vec![
            lock(component("lodash", "4.17.20", false, false, &[])),
            lock(component("@s/top", "1.0.0", true, false, &["lodash@4.17.20", "absent@1"])),
            lock(component("jest", "29.0.0", true, true, &[])),
            ("b/yarn.lock".to_owned(), component("lodash", "4.17.20", false, true, &[])),
            lock(component("unpinned", "", true, false, &[])),
        ],
        files_scanned: 3,
        bytes_scanned: 100,
        results_reused: 0,
        history_blobs: 2,
        cpu: std::time::Duration::from_millis(7),
    }
}

fn meta() -> Meta {
    Meta {
        name: "app".to_owned(),
        commit: Some("0123".to_owned()),
        repository: Some("https://example.org/app.git".to_owned()),
        timestamp: Some("2026-01-02T03:04:05.678Z".to_owned()),
        serial: Some(uuid::Uuid::nil()),
    }
}

#[test]
fn sarif_is_what_the_schema_says() {
    // One that found nothing is not told of.
    let rules = [RuleInfo { id: "python/unused".to_owned(), ..rule() }, rule()];
    let mut bytes = Vec::new();
    write_sarif(&mut bytes, &outcome(), &rules, &meta()).expect("written");
    let log: serde_sarif::sarif::Sarif = serde_json::from_slice(&bytes).expect("SARIF");
    let run = &log.runs[0];
    let results = run.results.as_ref().expect("results");
    assert_eq!(results.len(), 3);
    assert_eq!(run.tool.driver.rules.as_ref().map(Vec::len), Some(1));

    let value = sarif(&outcome(), &rules, &meta());
    let code = &value["runs"][0]["results"][1];
    assert_eq!(code["ruleIndex"], 0);
    assert_eq!(code["level"], "error");
    let place = &code["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "src/a%20b%231.py");
    assert_eq!(place["region"]["startLine"], 12);
    assert_eq!(place["region"]["endColumn"], 9);
    assert_eq!(code["suppressions"][0]["justification"], "checked above");
    let flow = &code["codeFlows"][0]["threadFlows"][0]["locations"];
    let step = |n: usize| &flow[n]["location"]["physicalLocation"];
    assert_eq!(step(0)["artifactLocation"]["uri"], "src/a%20b%231.py");
    assert_eq!(step(1)["artifactLocation"]["uri"], "src/c.py");
    assert_eq!(step(1)["region"]["startLine"], 1, "lines count from 1");
    let hash = code["partialFingerprints"]["primaryLocationLineHash"].as_str().expect("a hash");
    assert!(hash.ends_with(":2"), "{hash}");

    let secret = &value["runs"][0]["results"][0];
    assert_eq!(secret["relatedLocations"][0]["id"], 1);
    assert_eq!(secret["suppressions"], serde_json::json!([]));
    let package = &value["runs"][0]["results"][2];
    assert_eq!(package["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
    assert_eq!(package["properties"]["package"]["fixed_in"], "4.17.21");
    assert_eq!(value["runs"][0]["versionControlProvenance"][0]["revisionId"], "0123");
}

#[test]
fn bill_of_materials() {
    let mut bytes = Vec::new();
    write_cyclonedx(&mut bytes, &outcome(), &meta()).expect("written");
    let bom: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(bom, cyclonedx(&outcome(), &meta()));
    assert_eq!(bom["specVersion"], "1.6");
    assert_eq!(bom["serialNumber"], "urn:uuid:00000000-0000-0000-0000-000000000000");
    let components = bom["components"].as_array().expect("components");
    assert_eq!(components.len(), 4, "one for each package and version");
    let find = |name: &str| components.iter().find(|c| c["name"] == name).expect(name);
    assert_eq!(find("lodash")["scope"], "required", "one mention is for production");
    assert_eq!(find("lodash")["evidence"]["occurrences"].as_array().map(Vec::len), Some(2));
    assert_eq!(find("jest")["scope"], "excluded");
    assert_eq!(find("top")["group"], "@s");
    assert!(find("unpinned").get("version").is_none());
    // Every reference leads to something that is there.
    let known: HashSet<&str> = components
        .iter()
        .map(|c| c["bom-ref"].as_str().expect("a reference"))
        .chain(["sluice:root"])
        .collect();
    assert_eq!(known.len(), 5);
    for dependency in bom["dependencies"].as_array().expect("dependencies") {
        assert!(known.contains(dependency["ref"].as_str().expect("a reference")));
        for on in dependency["dependsOn"].as_array().expect("a list") {
            assert!(known.contains(on.as_str().expect("a reference")));
        }
    }
    let root = &bom["dependencies"][0]["dependsOn"];
    assert_eq!(root.as_array().map(Vec::len), Some(3));
    let vulnerability = &bom["vulnerabilities"][0];
    assert_eq!(vulnerability["id"], "CVE-2021-23337");
    assert!(known.contains(vulnerability["affects"][0]["ref"].as_str().expect("a reference")));
}

#[test]
fn text_for_people() {
    let mut bytes = Vec::new();
    text(&mut bytes, &outcome(), false).expect("written");
    let plain = String::from_utf8(bytes).expect("UTF-8");
    assert!(!plain.contains('\u{1b}') && !plain.contains('\u{7}'), "{plain:?}");
    assert!(plain.contains("src/a b#1.py:12"));
    assert!(plain.contains("suppressed: checked above"));
    assert!(
        plain.ends_with(
            "1 critical, 1 medium in 3 files and 2 blobs of the history, 5 packages, 1 suppressed\n"
        ),
        "{plain}"
    );
    let mut bytes = Vec::new();
    text(&mut bytes, &outcome(), true).expect("written");
    assert!(bytes.contains(&0x1b));
    let mut bytes = Vec::new();
    text(&mut bytes, &ScanOutcome::default(), false).expect("written");
    assert_eq!(bytes, b"nothing found in 0 files\n");
}

#[test]
fn findings_as_json() {
    let mut bytes = Vec::new();
    write_findings_json(&mut bytes, &outcome(), &meta()).expect("written");
    let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(value, findings_json(&outcome(), &meta()));
    assert_eq!(value["findings"].as_array().map(Vec::len), Some(3));
    assert_eq!(value["findings"][1]["location"]["start_line"], 12);
}
