use std::collections::BTreeSet;

use super::*;

fn component(ecosystem: &str, name: &str, version: &str) -> Component {
    Component {
        ecosystem: ecosystem.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        purl: String::new(),
        direct: None,
        dev: false,
        line: 1,
        requires: Vec::new(),
    }
}

fn ids(database: &Database, ecosystem: &str, name: &str, version: &str) -> Vec<String> {
    let found = database.matches(&component(ecosystem, name, version));
    found.into_iter().map(|m| m.identity).collect()
}

#[test]
fn sample_set_is_whole() {
    let mut ids = BTreeSet::new();
    for (id, text) in sample::RECORDS {
        let mut database = Database::default();
        assert_eq!(database.add(text.as_bytes()), Ok(true), "{id}");
        let record = database.records.first().expect("one record");
        assert_eq!(record.id, *id);
        assert!(record.severity.is_some(), "{id} has no severity that can be read");
        assert!(!record.summary.is_empty());
        ids.insert(*id);
    }
    assert_eq!(ids.len(), sample::RECORDS.len());
    assert!(ids.len() >= 25);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/advisories");
    let (database, loaded) = Database::load(&folder, &Cancel::new()).expect("a folder");
    assert_eq!(loaded.records, sample::RECORDS.len(), "a file is not part of the set");
    assert_eq!(loaded.malformed, 0);
    assert_eq!(database.len(), Database::sample().len());
}

#[test]
fn versions_at_the_edges() {
    let database = Database::sample();
    for (ecosystem, name, version, expected) in [
        ("npm", "lodash", "4.17.20", &["CVE-2021-23337"][..]),
        ("npm", "lodash", "4.17.21", &[]),
        ("npm", "minimist", "0.2.3", &["CVE-2021-44906"]),
        ("npm", "minimist", "0.2.4", &[]),
        ("npm", "minimist", "1.2.5", &["CVE-2021-44906"]),
        ("Maven", "org.apache.logging.log4j:log4j-core", "2.14.1", &["CVE-2021-44228"]),
        ("Maven", "org.apache.logging.log4j:log4j-core", "2.12.2", &[]),
        ("Maven", "org.apache.logging.log4j:log4j-core", "2.0-beta8", &[]),
        ("Maven", "org.apache.logging.log4j:log4j-core", "2.17.1", &[]),
        ("PyPI", "PyYAML", "5.3.1", &["CVE-2020-14343"]),
        ("PyPI", "pyyaml", "5.4rc1", &["CVE-2020-14343"]),
        ("PyPI", "pyyaml", "5.4", &[]),
        ("Go", "golang.org/x/text", "v0.3.6", &["CVE-2021-38561", "CVE-2022-32149"]),
        ("Go", "golang.org/x/text", "v0.3.7", &["CVE-2022-32149"]),
        ("Go", "github.com/dgrijalva/jwt-go", "v3.2.0+incompatible", &["CVE-2020-26160"]),
        ("NuGet", "newtonsoft.json", "12.0.3", &["CVE-2024-21907"]),
        ("npm", "lodash", "", &[]),
        ("npm", "nothing", "1.0.0", &[]),
    ] {
        assert_eq!(ids(&database, ecosystem, name, version), expected, "{name} {version}");
    }
    let found = database.matches(&component("npm", "lodash", "4.17.20"));
    let lodash = found.first().expect("a match");
    assert_eq!(lodash.fixed_in.as_deref(), Some("4.17.21"));
    assert_eq!(lodash.severity, Severity::High);
    assert_eq!(lodash.ids, ["CVE-2021-23337", "GHSA-35jh-r3h4-6jhm"]);
    assert!(lodash.message.ends_with("Upgrade to 4.17.21 or later."), "{}", lodash.message);
}

#[test]
fn sources_that_agree_are_one() {
    let mut database = Database::default();
    for text in [
        r#"{"id":"GHSA-1","aliases":["CVE-2020-1"],"summary":"x","affected":[{"package":{"ecosystem":"PyPI","name":"A_b"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}],"database_specific":{"severity":"MODERATE"}}"#,
        r#"{"id":"PYSEC-1","affected":[{"package":{"ecosystem":"PyPI","name":"a-b"},"versions":["1.0"]}]}"#,
        r#"{"id":"OTHER-1","aliases":["PYSEC-1","GHSA-1"],"affected":[{"package":{"ecosystem":"PyPI","name":"a.b"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"last_affected":"1.5"}]}]}],"database_specific":{"severity":"CRITICAL"}}"#,
        r#"{"id":"MAL-1","affected":[{"package":{"ecosystem":"npm","name":"evil"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}"#,
    ] {
        assert_eq!(database.add(text.as_bytes()), Ok(true));
    }
    let found = database.matches(&component("PyPI", "a-b", "1"));
    assert_eq!(found.len(), 1);
    let one = found.first().expect("a match");
    assert_eq!(one.identity, "CVE-2020-1");
    assert_eq!(one.ids, ["CVE-2020-1", "GHSA-1", "OTHER-1", "PYSEC-1"]);
    assert_eq!(one.severity, Severity::Critical);
    assert_eq!(one.fixed_in.as_deref(), Some("2"));
    assert_eq!(ids(&database, "PyPI", "a-b", "1.6"), ["CVE-2020-1"]);
    assert!(ids(&database, "PyPI", "a-b", "2").is_empty());
    let evil = database.matches(&component("npm", "evil", "1.0.0"));
    assert_eq!(
        evil.first().map(|m| (m.rule_id, m.severity)),
        Some((MALICIOUS, Severity::Critical))
    );
}

#[test]
fn malformed_records_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    std::fs::create_dir(folder.path().join("npm")).expect("made");
    write("broken.json", "{");
    write("list.json", "[]");
    write("notes.txt", "not read");
    write("npm/withdrawn.json", r#"{"id":"X-1","withdrawn":"2020-01-01T00:00:00Z","affected":[]}"#);
    write(
        "npm/good.json",
        r#"{"id":"X-2","affected":[{"package":{"ecosystem":"npm","name":"a"},"versions":["1.0.0"]}]}"#,
    );
    let (database, loaded) = Database::load(folder.path(), &Cancel::new()).expect("a folder");
    assert_eq!((loaded.records, loaded.passed_over, loaded.malformed), (1, 1, 2));
    assert_eq!(loaded.faults.len(), 2);
    assert_eq!(ids(&database, "npm", "a", "1.0.0"), ["X-2"]);
    assert!(Database::load(&folder.path().join("absent"), &Cancel::new()).is_err());
}
