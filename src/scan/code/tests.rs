//! Examples of every rule, and behaviour of the engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::*;

static ENGINE: LazyLock<Analyzer> =
    LazyLock::new(|| Analyzer::new().expect("embedded rules compile"));

fn analyse(facet: &str, code: &str) -> FileResult {
    ENGINE.analyse(
        &FileInput {
            bytes: code.as_bytes(),
            facet,
        },
        &Limits::default(),
        &Cancel::new(),
    )
}

fn ids(r: &FileResult) -> Vec<&str> {
    r.findings.iter().map(|f| f.rule_id.as_str()).collect()
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(list) = fs::read_dir(dir) else { return };
    let mut list: Vec<PathBuf> = list.flatten().map(|e| e.path()).collect();
    list.sort();
    for p in list {
        if p.is_dir() {
            files(&p, out)
        } else {
            out.push(p)
        }
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
        let rel = path
            .strip_prefix(&tree)
            .unwrap_or(&path)
            .trim_start_matches('/')
            .to_string();
        let facet = match std::env::var("SLUICE_CODE_ANY") {
            Ok(_) => inventory::language_of_path(&rel).map(String::from),
            Err(_) => a.facet(&rel),
        };
        let Some(facet) = facet else { continue };
        let Ok(b) = fs::read(&p) else { continue };
        let began = Instant::now();
        let r = a.analyse(
            &FileInput {
                bytes: &b,
                facet: &facet,
            },
            &Limits::default(),
            &Cancel::new(),
        );
        if began.elapsed().as_millis() > 1500 {
            println!("SLOW {rel} {:?} {} bytes", began.elapsed(), b.len());
        }
        lines += b.iter().filter(|b| **b == b'\n').count();
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
    println!(
        "{n} findings in {lines} lines, {bytes} bytes, {:?}",
        start.elapsed()
    );
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
        let rel = p
            .strip_prefix(&root)
            .expect("below the root")
            .to_string_lossy()
            .replace('\\', "/");
        let mut parts = rel.split('/');
        let rule = format!(
            "{}/{}",
            parts.next().unwrap_or(""),
            parts.next().unwrap_or("")
        );
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
                    r.findings
                        .iter()
                        .map(|f| (f.span.start_line, &f.rule_id))
                        .collect::<Vec<_>>()
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
        (
            "python",
            format!("x = {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        ),
        (
            "javascript",
            format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ),
        (
            "java",
            format!(
                "class A {{ int f() {{ return {}1{}; }} }}",
                "(".repeat(100_000),
                ")".repeat(100_000)
            ),
        ),
        (
            "go",
            format!(
                "package a\nvar x = {}1{}",
                "(".repeat(100_000),
                ")".repeat(100_000)
            ),
        ),
        ("python", format!("x = a{}", "+b".repeat(100_000))),
        ("javascript", format!("x = a{}", ".b()".repeat(100_000))),
        ("javascript", "if(a){".repeat(50_000)),
    ] {
        let r = analyse(facet, &code);
        assert!(r.findings.is_empty(), "{facet}: {:?}", ids(&r));
    }
}
