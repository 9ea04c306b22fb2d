//! The engine as its callers see it: what it reports, what it hides, what it
//! survives.

use std::time::{Duration, Instant};

use base64::Engine as _;

use super::examples::fill;
use super::*;
use crate::scan::model::Confidence;

fn detector() -> Detector {
    Detector::new([7; 32]).unwrap()
}

fn scan_as(detector: &Detector, path: &str, bytes: &[u8]) -> FileResult {
    let facet = detector.facet(path).unwrap();
    let input = FileInput { bytes, facet: &facet };
    detector.analyse(&input, &Limits::default(), &Cancel::new())
}

fn ids(result: &FileResult) -> Vec<&str> {
    result.findings.iter().map(|f| f.rule_id.as_str()).collect()
}

#[test]
fn a_value_is_reported_once_by_the_most_specific_rule() {
    let detector = detector();
    let token = fill("<<crc:ghp_>>", 3, false);
    let text = format!("GITHUB_TOKEN={token}\nurl=https://bot:{token}@git.corp.io/a.git\n");
    let result = scan_as(&detector, ".env", text.as_bytes());
    assert_eq!(ids(&result), ["secrets/github-personal-access-token"; 2]);
    assert_eq!(result.findings[0].anchor, result.findings[1].anchor);
    assert_eq!(result.findings[0].span.start_line, 1);
    assert_eq!(result.findings[0].span.start_column, 14);
    assert_eq!(result.findings[1].span.start_line, 2);
    assert!(!result.findings[1].snippet.contains(&token));
}

#[test]
fn the_anchor_depends_on_value_and_key_only() {
    let of = |key: u8, text: &str| {
        let detector = Detector::new([key; 32]).unwrap();
        let result = scan_as(&detector, "a.env", text.as_bytes());
        assert_eq!(result.findings.len(), 1, "{result:?}");
        (result.findings[0].anchor.clone(), detector.rule_set().to_owned())
    };
    let first = of(1, "DB_PASSWORD=kX92mfPq7R\n");
    assert_eq!(first, of(1, "\n\n  OTHER_PASSWORD='kX92mfPq7R'\n"));
    let second = of(2, "DB_PASSWORD=kX92mfPq7R\n");
    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1, "kept results of another key are of no use");
}

#[test]
fn a_key_that_is_indented_anew_is_the_same() {
    let detector = detector();
    let pem = fill(
        "-----BEGIN RSA PRIVATE KEY-----\n<<pem:900>>\n-----END RSA PRIVATE KEY-----\n",
        5,
        false,
    );
    let plain = scan_as(&detector, "id_rsa", pem.as_bytes());
    let indented = scan_as(&detector, "a.yml", pem.replace('\n', "\n    ").as_bytes());
    let escaped = scan_as(&detector, "a.json", pem.replace('\n', "\\n").as_bytes());
    for result in [&plain, &indented, &escaped] {
        assert_eq!(ids(result), ["secrets/private-key-pem"]);
        assert_eq!(result.findings[0].anchor, plain.findings[0].anchor);
    }
    let tested = scan_as(&detector, "tests/id_rsa", pem.as_bytes());
    assert_eq!(tested.findings[0].severity, Severity::Low);
    assert_eq!(tested.findings[0].confidence, Confidence::Low);
}

#[test]
fn one_layer_of_base64_is_read() {
    let detector = detector();
    for front in ["", "x", "xy"] {
        let token = fill("dckr_pat_<<b64u:27>>", 9, false);
        let text = format!("{front} token: {token} end");
        let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
        let result = scan_as(&detector, "a.yaml", format!("data: {encoded}\n").as_bytes());
        assert_eq!(ids(&result), ["secrets/docker-personal-access-token"], "{text}");
        assert!(!result.findings[0].message.contains(&token));
        assert!(!result.findings[0].snippet.contains(&encoded));
        let plain = scan_as(&detector, "b.txt", token.as_bytes());
        assert_eq!(plain.findings[0].anchor, result.findings[0].anchor);
    }
}

#[test]
fn utf16_is_read() {
    let detector = detector();
    let text = "[db]\r\npassword=kX92mfPq7R\r\n";
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let result = scan_as(&detector, "app.ini", &bytes);
    assert_eq!(ids(&result), ["secrets/hardcoded-password"]);
    assert_eq!(result.findings[0].span.start_line, 2);
    assert_eq!(result.findings[0].span.start_column, 10);
}

#[test]
fn lock_files_get_provider_rules_only() {
    let detector = detector();
    let token = fill("<<crc:npm_>>", 1, false);
    let text = format!(
        "{{\"password\": \"kX92mfPq7R\", \"resolved\": \"https://u:q8Zt3LmPx0Yv7RbKc2Wd@r.corp.io/\", \"t\": \"{token}\"}}"
    );
    let result = scan_as(&detector, "package-lock.json", text.as_bytes());
    assert_eq!(ids(&result), ["secrets/npm-access-token"]);
    assert_eq!(scan_as(&detector, "a.json", text.as_bytes()).findings.len(), 3);
}

#[test]
fn harmless_files_are_silent() {
    let detector = detector();
    for (path, text) in [
        ("go.sum", "github.com/a/b v1.0.0 h1:3VyHrQ2Wq0sVpR7KtGgZxkXbGvNmY1cPq8sL5tUoEwI=\n"),
        (
            "a.html",
            "<script src=x integrity=\"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8KuxQr6y8zH7p1Wq0sVpR7KtGgZxkXbGvN\"></script>",
        ),
        (
            "a.py",
            "commit = '9fceb02d0ae598e95dc970b74767f19372d61af8'\nrequest_id = 'd3b07384-d113-4ec6-a7d5-2c8c5f0e3f0a'\n",
        ),
        (
            "a.css",
            ".a { background: url(data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4) }",
        ),
        ("id_rsa.pub", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDhA2bQx3dWJq5 me@host\n"),
        (
            ".env",
            "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
        ),
        (
            ".env",
            "DB_PASSWORD=changeme\nAPI_KEY=your-api-key-here\nTOKEN=<token>\nSECRET=${SECRET}\n",
        ),
        (
            "a.js",
            "const password = process.env.DB_PASSWORD;\nconst token = getToken(user, 'bearer');\n",
        ),
        ("a.tf", "password = var.db_password\nsecret = data.vault_generic_secret.x.data[\"y\"]\n"),
        (
            "README.md",
            "Set `password = \"Kd83!sommer\"` in the file, then use `https://user:hunter22x@host.io`.\n",
        ),
        (
            "a.yml",
            "passwordSecretRef:\n  name: db-credentials-v2\n  key: password\ntoken: ((deploy-token))\n",
        ),
        (
            "A.java",
            "public static final String TOKEN_HEADER = \"X-Auth-Token-V2\";\nString key = \"user.session.token\";\n",
        ),
    ] {
        let result = scan_as(&detector, path, text.as_bytes());
        assert_eq!(ids(&result), Vec::<&str>::new(), "{path}: {text}");
    }
}

#[test]
fn no_snippet_shows_a_neighbour() {
    let detector = detector();
    let values: Vec<String> = (0..6).map(|n| fill("<<crc:ghp_>>", n, false)).collect();
    let line = values.iter().map(|v| format!("t=\"{v}\"")).collect::<Vec<_>>().join("; ");
    let text = format!("{line}; password=\"kX92mfPq7R\"\n");
    let result = scan_as(&detector, "a.py", text.as_bytes());
    assert_eq!(result.findings.len(), 7);
    for finding in &result.findings {
        assert!(finding.snippet.len() <= crate::scan::model::MAX_SNIPPET);
        for value in values.iter().map(String::as_str).chain(["kX92mfPq7R"]) {
            // Neither whole nor more of it than the mask leaves.
            assert!(!finding.snippet.contains(&value[..8]), "{finding:?}");
            assert!(!finding.snippet.contains(&value[value.len() - 6..]), "{finding:?}");
        }
    }
}

#[test]
fn limits_are_kept_and_told() {
    let detector = detector();
    let text: String = (0..50).map(|n| fill("t = '<<crc:ghp_>>'\n", n, false)).collect();
    let facet = detector.facet("a.py").unwrap();
    let input = FileInput { bytes: text.as_bytes(), facet: &facet };
    let limits = Limits { max_findings_per_rule_and_file: 10, ..Limits::default() };
    let result = detector.analyse(&input, &limits, &Cancel::new());
    assert_eq!(result.findings.len(), 10);
    assert_eq!(
        result.cut,
        ["secrets/github-personal-access-token matches 50 times in this file; 40 are not listed."]
    );
    let cancel = Cancel::new();
    cancel.cancel();
    let result = detector.analyse(&input, &limits, &cancel);
    assert!(result.findings.is_empty());
    assert!(result.cut[0].contains("cancelled"), "{:?}", result.cut);
}

#[test]
fn inline_suppressions_are_handed_over() {
    let text = "p = 1\nDB_PASSWORD = 'kX92mfPq7R' # sluice:ignore secrets/* -- rotated\n";
    let result = scan_as(&detector(), "a.py", text.as_bytes());
    assert_eq!(result.findings.len(), 1, "kept, to be shown as suppressed");
    assert_eq!(result.suppressions.len(), 1);
    assert_eq!(result.suppressions[0].line, result.findings[0].span.start_line);
    assert_eq!(result.suppressions[0].reason, "rotated");
}

#[test]
fn binary_files_are_read_for_provider_rules() {
    let mut bytes = vec![0_u8; 300];
    bytes.extend(fill("\0<<crc:ghp_>>\0password=kX92mfPq7R\0", 1, false).into_bytes());
    let result = scan_as(&detector(), "a.unknown", &bytes);
    assert_eq!(ids(&result), ["secrets/github-personal-access-token"]);
    assert!(!result.findings[0].snippet.contains('\0'));
}

#[test]
fn every_rule_can_be_explained() {
    for rule in detector().rules() {
        assert!(rule.id.starts_with("secrets/"), "{}", rule.id);
        assert!(!rule.title.is_empty() && !rule.references.is_empty(), "{}", rule.id);
        assert!(rule.description.len() > 60 && rule.remediation.len() > 60, "{}", rule.id);
        assert!(!rule.remediation.contains(".,") && !rule.title.ends_with('.'), "{}", rule.id);
    }
}

/// Inputs made to be slow or to break something. The bound is a hundred times what
/// an optimised build needs; quadratic work would exceed it by far.
#[test]
fn hostile_files_end_soon() {
    let detector = detector();
    let keywords: String = detector.rules.iter().flat_map(|r| r.keywords.clone()).collect();
    let mut chance = 1_u64;
    let noise: Vec<u8> = (0..128 << 10)
        .map(|_| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (chance >> 56) as u8
        })
        .collect();
    let many = |text: &str| text.repeat((128 << 10) / text.len()).into_bytes();
    let inputs = [
        noise,
        many(&keywords),
        many("password="),
        many("password=\""),
        many("\"password\":\\\""),
        many("-----BEGIN PRIVATE KEY-----"),
        many("eyJhbGciOiJIUzI1NiJ9."),
        many("ghp_0123"),
        many("datadog_api_key="),
        many("://a:b"),
        many("<password>"),
        many("'\"`\\"),
        many("AKIA"),
        many("xoxe-"),
        many("curl -u a:"),
        many("\"kty\":\"RSA\""),
        many("ZGNrcl9wYXRf"),
        many("key: \n"),
    ];
    for (at, input) in inputs.iter().enumerate() {
        for path in ["a.py", "a.yml", "a.xml", "a.sh"] {
            let started = Instant::now();
            scan_as(&detector, path, input);
            let spent = started.elapsed();
            assert!(spent < Duration::from_secs(2), "input {at} as {path} took {spent:?}");
        }
    }
}

#[test]
fn both_halves_of_a_key_pair_are_found() {
    let detector = detector();
    let text = fill("ID = '<<aws>>'\nOTHER = '<<b64:40>>'\n", 4, false);
    let result = scan_as(&detector, "config.py", text.as_bytes());
    assert_eq!(ids(&result), ["secrets/aws-access-key-id", "secrets/aws-secret-access-key"]);
    assert_eq!(result.findings[0].severity, Severity::High, "with its other half");
    assert_eq!(result.findings[1].severity, Severity::Critical);
    let alone = fill("ID = '<<aws>>'\n", 4, false);
    let result = scan_as(&detector, "config.py", alone.as_bytes());
    assert_eq!(result.findings[0].severity, Severity::Medium);
}
