//! Examples of every rule, and behaviour of the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::*;

static ENGINE: LazyLock<Analyzer> =
    LazyLock::new(|| Analyzer::new().expect("embedded rules compile"));

fn analyse(facet: &str, code: &str) -> FileResult {
    ENGINE.analyse(&FileInput { bytes: code.as_bytes(), facet }, &Limits::default(), &Cancel::new())
}

fn ids(r: &FileResult) -> Vec<&str> {
    r.findings.iter().map(|f| f.rule_id.as_str()).collect()
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(list) = fs::read_dir(dir) else { return };
    let mut list: Vec<PathBuf> = list.flatten().map(|e| e.path()).collect();
    list.sort();
    for p in list {
        if p.is_dir() { files(&p, out) } else { out.push(p) }
    }
}

/// `SLUICE_CODE_TREE=dir cargo nextest run code::tests::survey --run-ignored all`
/// prints what is found in a tree of real code.
#[test]
#[ignore = "needs a tree of real code"]
fn survey() {
    let Ok(tree) = std::env::var("SLUICE_CODE_TREE") else {
        return;
    };
    let a = Analyzer::new().expect("embedded rules compile");
    let mut all = Vec::new();
    files(Path::new(&tree), &mut all);
    let (mut lines, mut bytes, mut n) = (0usize, 0usize, 0usize);
    let start = Instant::now();
    for p in all {
        let path = p.to_string_lossy().replace('\\', "/");
        let rel = path.strip_prefix(&tree).unwrap_or(&path).trim_start_matches('/').to_string();
        let facet = match std::env::var("SLUICE_CODE_ANY") {
            Ok(_) => inventory::language_of_path(&rel).map(String::from),
            Err(_) => a.facet(&rel),
        };
        let Some(facet) = facet else { continue };
        let Ok(b) = fs::read(&p) else { continue };
        let began = Instant::now();
        let r =
            a.analyse(&FileInput { bytes: &b, facet: &facet }, &Limits::default(), &Cancel::new());
        if began.elapsed().as_millis() > 1500 {
            println!("SLOW {rel} {:?} {} bytes", began.elapsed(), b.len());
        }
        lines += memchr::memchr_iter(b'\n', &b).count();
        bytes += b.len();
        for c in &r.cut {
            println!("CUT {rel}: {c}");
        }
        for f in &r.findings {
            n += 1;
            println!(
                "{} {rel}:{} [{}] {}",
                f.rule_id,
                f.span.start_line,
                f.symbol,
                f.snippet.lines().next().unwrap_or("")
            );
            for s in &f.flow {
                println!("      {}: {}", s.line, s.message);
            }
        }
    }
    println!("{n} findings in {lines} lines, {bytes} bytes, {:?}", start.elapsed());
}

/// Each rule's examples: everything in `bad*` is found by that rule, nothing at
/// all in `good*`.
#[test]
fn examples_are_told_apart() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scan/code/rules/examples");
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(!all.is_empty(), "no examples in {}", root.display());
    let mut wrong = Vec::new();
    for p in all {
        let rel =
            p.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
        let mut parts = rel.split('/');
        let rule = format!("{}/{}", parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let name = parts.next().unwrap_or("");
        let code = fs::read_to_string(&p).expect("readable");
        let facet = match rule.split('/').next() {
            Some("docker") => "dockerfile",
            Some("github-actions") => "github-workflow",
            _ => inventory::language_of_path(&rel).expect("a language"),
        };
        let r = analyse(facet, &code);
        if name.starts_with("bad") {
            // A line that must be found says so.
            let want = code.lines().filter(|l| l.contains("BAD")).count().max(1);
            let got = r.findings.iter().filter(|f| f.rule_id == rule).count();
            if got != want {
                wrong.push(format!(
                    "{rel}: {got} of {want} found: {:?}",
                    r.findings.iter().map(|f| (f.span.start_line, &f.rule_id)).collect::<Vec<_>>()
                ));
            }
        } else if !r.findings.is_empty() {
            wrong.push(format!(
                "{rel}: {:?}",
                r.findings
                    .iter()
                    .map(|f| (f.span.start_line, &f.rule_id, &f.flow))
                    .collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn deep_nesting_is_cut_not_crashed() {
    for (facet, code) in [
        ("python", format!("x = {}1{}", "(".repeat(100_000), ")".repeat(100_000))),
        ("javascript", format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        (
            "java",
            format!(
                "class A {{ int f() {{ return {}1{}; }} }}",
                "(".repeat(100_000),
                ")".repeat(100_000)
            ),
        ),
        ("go", format!("package a\nvar x = {}1{}", "(".repeat(100_000), ")".repeat(100_000))),
        ("python", format!("x = a{}", "+b".repeat(100_000))),
        ("javascript", format!("x = a{}", ".b()".repeat(100_000))),
        ("javascript", "if(a){".repeat(50_000)),
    ] {
        let r = analyse(facet, &code);
        assert!(r.findings.is_empty(), "{facet}: {:?}", ids(&r));
    }
}

#[test]
fn every_rule_is_complete() {
    let a = &*ENGINE;
    assert!(a.rules().len() >= 80, "only {} rules", a.rules().len());
    for r in a.rules() {
        assert!(r.id.contains('/'), "{}: the id names no language", r.id);
        for (what, text) in
            [("title", &r.title), ("description", &r.description), ("remediation", &r.remediation)]
        {
            assert!(text.len() > 10, "{}: {what} is missing", r.id);
        }
        assert!(!r.cwe.is_empty() && !r.owasp.is_empty(), "{}: no CWE or OWASP class", r.id);
    }
    let ids: Vec<&str> = a.rules().iter().map(|r| r.id.as_str()).collect();
    assert!(ids.is_sorted(), "rules are not ordered by id");
}

#[test]
fn a_finding_tells_its_way_and_its_place() {
    let code = "from flask import Flask, request\nimport os\napp = Flask(__name__)\n\
        class A:\n    def run(self, cmd):\n        os.system('echo ' + cmd)\n\
        @app.route('/')\ndef f():\n    c = request.args.get('c')\n    A().run(c)\n    return ''\n";
    let r = analyse("python", code);
    assert_eq!(ids(&r), ["python/command-injection"]);
    let f = &r.findings[0];
    assert_eq!((f.span.start_line, f.span.start_column), (6, 9));
    assert_eq!(f.symbol, "A.run");
    assert_eq!(f.anchor, "os.system('echo'+cmd)");
    assert_eq!(f.snippet, "        os.system('echo ' + cmd)");
    let lines: Vec<u32> = f.flow.iter().map(|s| s.line).collect();
    assert_eq!(lines, [9, 9, 10, 6], "{:?}", f.flow);
    assert!(f.message.contains("request.args.get('c')"), "{}", f.message);
}

#[test]
fn identity_survives_moves_and_layout() {
    let one = analyse("python", "import os\ndef f():\n    eval(input(os.getcwd()))\n    hashlib\n");
    assert!(one.findings.is_empty());
    let bad = "import tempfile\ndef f():\n    return tempfile.mktemp('a', 'b')\n";
    let moved = "import tempfile\n\n# more\n\ndef f():\n    return tempfile.mktemp(\n        'a',\n        'b')\n";
    let (a, b) = (analyse("python", bad), analyse("python", moved));
    assert_eq!(a.findings[0].anchor, b.findings[0].anchor);
    assert_eq!(a.findings[0].symbol, b.findings[0].symbol);
    assert_ne!(a.findings[0].span, b.findings[0].span);
}

#[test]
fn test_code_is_left_alone_and_facets_say_so() {
    let a = &*ENGINE;
    assert_eq!(a.facet("src/app.py").as_deref(), Some("python"));
    assert_eq!(a.facet("tests/app.py").as_deref(), Some("python/test"));
    assert_eq!(a.facet("node_modules/x/index.js"), None);
    assert_eq!(a.facet("bin/tool").as_deref(), Some("noext"));
    assert_eq!(a.facet("README.md"), None);
    assert_eq!(a.facet("docker/Dockerfile.prod").as_deref(), Some("dockerfile"));
    assert_eq!(a.facet(".github/workflows/ci.yml").as_deref(), Some("github-workflow"));
    let bad = "import tempfile\ntempfile.mktemp()\n";
    assert_eq!(ids(&analyse("python", bad)), ["python/insecure-temp-file"]);
    assert!(analyse("python/test", bad).findings.is_empty());
    let script = format!("#!/usr/bin/env python3\n{bad}");
    assert_eq!(ids(&analyse("noext", &script)), ["python/insecure-temp-file"]);
    assert!(analyse("noext", bad).findings.is_empty());
}

#[test]
fn findings_are_limited_and_counted() {
    let code = format!("import tempfile\n{}", "tempfile.mktemp()\n".repeat(20));
    let limits = Limits { max_findings_per_rule_and_file: 5, ..Limits::default() };
    let input = FileInput { bytes: code.as_bytes(), facet: "python" };
    let r = ENGINE.analyse(&input, &limits, &Cancel::new());
    assert_eq!(r.findings.len(), 5);
    assert!(r.cut.iter().any(|c| c.contains("20 times")), "{:?}", r.cut);
}

#[test]
fn a_cancelled_analysis_ends_and_says_so() {
    let code = "x = [1, 2, 3]\n".repeat(200_000);
    let cancel = Cancel::new();
    cancel.cancel();
    let start = Instant::now();
    let input = FileInput { bytes: code.as_bytes(), facet: "python" };
    let r = ENGINE.analyse(&input, &Limits::default(), &cancel);
    assert!(!r.cut.is_empty());
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
}

#[test]
fn broken_source_never_fails() {
    for facet in
        ["python", "javascript", "typescript", "tsx", "java", "go", "dockerfile", "github-workflow"]
    {
        for code in [
            "",
            "\u{feff}",
            "def f(:\n  if while ((( \n\"\"\"",
            "class { function => ] } ) <div",
            "package ; func ( { := ",
            "FROM\nRUN \\\n",
            "run: |\n${{ github.event",
        ] {
            analyse(facet, code);
            let input = FileInput { bytes: b"\xff\xfe\x80 = eval(\xff)", facet };
            ENGINE.analyse(&input, &Limits::default(), &Cancel::new());
        }
    }
}
