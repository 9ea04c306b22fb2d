//! The driver with small engines that are engines: they read what they are given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::scan::model::*;

/// Finds every line with its word; `boom` in a file makes it panic.
struct Words {
    kind: EngineKind,
    word: &'static str,
    rules: Vec<RuleInfo>,
    looked: Arc<AtomicUsize>,
}

impl Words {
    fn new(kind: EngineKind, word: &'static str) -> Self {
        let rule = RuleInfo {
            id: format!("{kind}/{word}"),
            engine: kind,
            title: format!("Found {word}"),
            description: String::new(),
            remediation: String::new(),
            severity: Severity::High,
            cwe: Vec::new(),
            owasp: Vec::new(),
            references: Vec::new(),
            aliases: vec![format!("{kind}/old-{word}")],
        };
        Self { kind, word, rules: vec![rule], looked: Arc::default() }
    }
}

impl FileEngine for Words {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn rule_set(&self) -> &'static str {
        "words 1"
    }

    fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    fn facet(&self, path: &str) -> Option<String> {
        (!path.ends_with(".bin")).then(|| "text".to_owned())
    }

    fn analyse(&self, input: &FileInput<'_>, _: &Limits, _: &Cancel) -> FileResult {
        self.looked.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(input.bytes);
        assert!(!text.contains("boom"), "a fault of the engine");
        let mut result = FileResult::default();
        let mut symbol = String::new();
        for (n, line) in text.lines().enumerate() {
            let number = n as u32 + 1;
            if let Some(name) = line.strip_prefix("fn ") {
                name.clone_into(&mut symbol);
            }
            if let Some((_, rest)) = line.split_once("sluice:ignore ") {
                let (rule, reason) = rest.split_once(" -- ").unwrap_or((rest, ""));
                result.suppressions.push(Suppression {
                    line: number,
                    rule_id: rule.to_owned(),
                    reason: reason.to_owned(),
                });
            }
            if let Some(at) = line.find(self.word) {
                let value = line[at..].split_whitespace().next().unwrap_or("");
                result.findings.push(RawFinding {
                    rule_id: format!("{}/{}", self.kind, self.word),
                    severity: Severity::High,
                    confidence: Confidence::High,
                    message: "Found.".to_owned(),
                    span: Span {
                        start_line: number,
                        start_column: 1,
                        end_line: number,
                        end_column: 2,
                    },
                    snippet: line.to_owned(),
                    symbol: symbol.clone(),
                    anchor: value.to_owned(),
                    flow: vec![FlowStep {
                        path: None,
                        line: number,
                        column: 1,
                        message: "here".to_owned(),
                    }],
                    package: None,
                });
            }
            if line == "cut" {
                result.cut.push("it says so".to_owned());
            }
        }
        result
    }
}

#[derive(Default)]
struct Tree {
    files: Vec<(String, String)>,
    history: Vec<(HistoryEntry, String)>,
    reads: AtomicUsize,
    unreadable: Option<&'static str>,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
        Self { files, ..Self::default() }
    }
}

/// A name for a content.
fn blob_of(text: &str) -> String {
    fingerprint::group_of_secret(text)
}

impl Source for Tree {
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        Ok((0u64..)
            .zip(&self.files)
            .map(|(position, (path, text))| FileEntry {
                path: path.clone(),
                size: text.len() as u64,
                blob: blob_of(text),
                position,
            })
            .collect())
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.unreadable == Some(entry.path.as_str()) {
            return Err(SourceError("the disk is gone".to_owned()));
        }
        let found = self.files.iter().find(|(p, _)| *p == entry.path);
        Ok(found.map(|(_, t)| t.clone().into_bytes()).unwrap_or_default())
    }

    fn history(&self, _: &Cancel) -> Result<HistoryContents, SourceError> {
        let blobs = self.history.iter().map(|(e, _)| e.clone()).collect();
        Ok(HistoryContents { blobs, ..HistoryContents::default() })
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        let found = self.history.iter().find(|(e, _)| e.blob == entry.blob);
        Ok(found.map(|(_, t)| t.clone().into_bytes()).unwrap_or_default())
    }
}

#[derive(Default)]
struct Kept(Mutex<HashMap<ResultKey, FileResult>>);

impl ResultStore for Kept {
    fn get(&self, keys: &[ResultKey]) -> Vec<Option<FileResult>> {
        let map = self.0.lock().unwrap();
        keys.iter().map(|k| map.get(k).cloned()).collect()
    }

    fn put(&self, results: Vec<(ResultKey, FileResult)>) {
        self.0.lock().unwrap().extend(results);
    }
}

#[derive(Default)]
struct Heard {
    events: Mutex<Vec<(Level, String, serde_json::Value)>>,
    last: Mutex<BTreeMap<String, Progress>>,
}

impl Heard {
    fn of(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, k, _)| k == kind).map(|(_, _, d)| d.clone()).collect()
    }
}

impl Observer for Heard {
    fn event(&self, level: Level, kind: &str, _: &str, data: serde_json::Value) {
        self.events.lock().unwrap().push((level, kind.to_owned(), data));
    }

    fn progress(&self, progress: &Progress) {
        let mut last = self.last.lock().unwrap();
        let known = last.entry(progress.phase.clone()).or_default();
        if progress.files_done >= known.files_done {
            *known = progress.clone();
        }
    }
}

struct Bench {
    engines: Engines,
    store: Kept,
    looked: Arc<AtomicUsize>,
    config: ScanConfig,
    limits: Limits,
}

impl Bench {
    fn new() -> Self {
        let secrets = Words::new(EngineKind::Secrets, "SECRET");
        let code = Words::new(EngineKind::Code, "WEAK");
        let looked = Arc::clone(&code.looked);
        let dependencies = dependencies_engine();
        let engines =
            Engines::new(vec![Box::new(secrets), Box::new(code), dependencies], 3).unwrap();
        Self {
            engines,
            store: Kept::default(),
            looked,
            config: ScanConfig::default(),
            limits: Limits::default(),
        }
    }

    fn scan(&self, tree: &Tree) -> (Result<ScanOutcome, ScanError>, Heard) {
        let heard = Heard::default();
        let outcome = run(
            &self.engines,
            tree,
            &self.store,
            &self.config,
            &self.limits,
            &heard,
            &Cancel::new(),
        );
        (outcome, heard)
    }

    fn findings(&self, files: &[(&str, &str)]) -> Vec<Finding> {
        self.scan(&Tree::new(files)).0.unwrap().findings
    }
}

fn dependencies_engine() -> Box<dyn FileEngine> {
    Box::new(crate::scan::dependencies::Analyzer::new())
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.fingerprint.as_str()).collect()
}

#[test]
fn a_file_is_read_once_and_a_result_kept() {
    let bench = Bench::new();
    let tree = Tree::new(&[
        ("a.txt", "fn f\nWEAK1 SECRETa"),
        ("copy/a.txt", "fn f\nWEAK1 SECRETa"),
        ("b.txt", "nothing"),
        ("c.bin", "WEAK never looked at"),
    ]);
    let (first, heard) = bench.scan(&tree);
    let first = first.unwrap();
    assert_eq!(tree.reads.load(Ordering::Relaxed), 2, "one read for each content");
    assert_eq!((first.files_scanned, first.results_reused), (3, 0));
    assert_eq!(first.bytes_scanned, 18 + 18 + 7);
    // The code weakness twice, the secret once with two places.
    assert_eq!(first.findings.len(), 3);
    let secret = first.findings.iter().find(|f| f.engine == EngineKind::Secrets).unwrap();
    assert_eq!(secret.location.path, "a.txt");
    assert_eq!(secret.other_locations.len(), 1);
    assert_eq!(secret.flow[0].path.as_deref(), Some("a.txt"));
    let phases: Vec<_> = heard.of("phase").iter().map(|d| d["phase"].clone()).collect();
    assert_eq!(phases, ["inventory", "secrets", "code", "dependencies", "merge"]);
    assert_eq!(heard.of("no_advisories").len(), 1);
    let last = heard.last.lock().unwrap()["secrets"].clone();
    assert_eq!((last.files_done, last.files_total), (3, 3));
    assert_eq!((last.bytes_done, last.bytes_total), (43, 43));

    let looked = bench.looked.load(Ordering::Relaxed);
    let (second, _) = bench.scan(&tree);
    let second = second.unwrap();
    assert_eq!(bench.looked.load(Ordering::Relaxed), looked, "nothing is looked at again");
    assert_eq!(tree.reads.load(Ordering::Relaxed), 2);
    assert_eq!(second.results_reused, 3);
    assert_eq!(second.findings, first.findings);
}

#[test]
fn ids_outlive_moves_and_renames() {
    let bench = Bench::new();
    let before = bench.findings(&[("a.txt", "fn f\nWEAK1\nfn g\nWEAK1")]);
    let lines = bench.findings(&[("a.txt", "\n\n// more\nfn f\n\nWEAK1\nfn g\n  WEAK1")]);
    let renamed = bench.findings(&[("z/other.txt", "fn f\nWEAK1\nfn g\nWEAK1")]);
    let mut sets = [ids(&before), ids(&lines), ids(&renamed)];
    for set in &mut sets {
        set.sort_unstable();
    }
    assert_eq!(sets[0].len(), 2);
    assert_ne!(sets[0][0], sets[0][1], "another function is another finding");
    assert_eq!(sets[0], sets[1]);
    assert_eq!(sets[0], sets[2]);
    assert!(before.iter().all(|f| f.fingerprint.len() == 40));
}

#[test]
fn one_more_of_the_same_brings_one_id() {
    let bench = Bench::new();
    let before = bench.findings(&[("m.txt", "fn f\nWEAK1")]);
    let mut after = bench.findings(&[("a.txt", "fn f\nWEAK1"), ("m.txt", "fn f\nWEAK1")]);
    assert_eq!(after.len(), 2);
    assert!(ids(&after).contains(&before[0].fingerprint.as_str()), "no id is lost");
    // Who remembers the place keeps the id at it.
    fingerprint::keep_places(&mut after, |id| (id == before[0].fingerprint).then_some("m.txt"));
    let kept = after.iter().find(|f| f.location.path == "m.txt").unwrap();
    assert_eq!(kept.fingerprint, before[0].fingerprint);
    let new = after.iter().find(|f| f.location.path == "a.txt").unwrap();
    assert_ne!(new.fingerprint, kept.fingerprint);
    assert_eq!(
        fingerprint::group_part(&new.fingerprint),
        fingerprint::group_part(&kept.fingerprint)
    );
}

#[test]
fn a_secret_in_the_history_is_the_same_finding() {
    let mut bench = Bench::new();
    bench.config.history = true;
    let entry = |n: u8, removed: Option<&str>| HistoryEntry {
        blob: format!("{n:040x}"),
        path: "old.txt".to_owned(),
        commit: "c0ffee0000000000".to_owned(),
        removed_in: removed.map(str::to_owned),
        size: 10,
    };
    let mut tree = Tree::new(&[("now.txt", "SECRETa")]);
    tree.history = vec![
        (entry(1, None), "x\nSECRETa WEAK".to_owned()),
        (entry(2, Some("dead000000000000")), "SECRETgone".to_owned()),
    ];
    let (outcome, heard) = bench.scan(&tree);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.history_blobs, 2);
    assert_eq!(outcome.findings.len(), 2, "the code engine does not look at the history");
    let here = outcome.findings.iter().find(|f| !f.location.in_history).unwrap();
    assert_eq!(here.location.path, "now.txt");
    assert!(here.other_locations[0].in_history);
    assert_eq!(here.other_locations[0].commit.as_deref(), Some("c0ffee0000000000"));
    let gone = outcome.findings.iter().find(|f| f.location.in_history).unwrap();
    assert!(gone.message.contains("removed by dead000000"), "{}", gone.message);
    assert!(gone.priority < here.priority);
    assert!(heard.of("phase").iter().any(|d| d["phase"] == "history"));
    // The same id as in the days when it was in the tree.
    let before = bench.findings(&[("old.txt", "SECRETgone")]);
    assert_eq!(before[0].fingerprint, gone.fingerprint);
}

#[test]
fn suppressions_are_kept_and_stale_ones_told() {
    let bench = Bench::new();
    let (outcome, heard) = bench.scan(&Tree::new(&[
        ("a.txt", "WEAK1 sluice:ignore code/WEAK -- known\nWEAK2\nx sluice:ignore * -- stale"),
        ("b.txt", "WEAK3 sluice:ignore code/old-WEAK -- by its old name"),
        ("c.txt", "SECRETx sluice:ignore secrets/SECRET -- sample"),
        ("d.txt", "SECRETx"),
        ("e.txt", "WEAK4 sluice:ignore code/unknown -- no such rule"),
    ]));
    let outcome = outcome.unwrap();
    let suppressed: BTreeMap<_, _> = outcome
        .findings
        .iter()
        .map(|f| (f.location.path.clone() + &f.location.span.start_line.to_string(), f))
        .collect();
    assert_eq!(suppressed["a.txt1"].suppressed.as_deref(), Some("known"));
    assert!(suppressed["a.txt1"].priority <= 5);
    assert_eq!(suppressed["a.txt2"].suppressed, None);
    assert_eq!(suppressed["b.txt1"].suppressed.as_deref(), Some("by its old name"));
    // The same value stands elsewhere without a reason.
    assert_eq!(suppressed["c.txt1"].suppressed, None);
    assert!(suppressed["c.txt1"].priority > 5);
    let unused: Vec<_> = heard
        .of("suppression_unused")
        .iter()
        .map(|d| format!("{}:{}", d["path"].as_str().unwrap(), d["line"]))
        .collect();
    assert_eq!(unused, ["a.txt:3", "e.txt:1"]);
}

#[test]
fn a_panic_costs_one_file_and_is_not_kept() {
    let bench = Bench::new();
    let tree = Tree::new(&[("bad.txt", "boom WEAK"), ("good.txt", "WEAK"), ("cut.txt", "cut")]);
    let (outcome, heard) = bench.scan(&tree);
    assert_eq!(outcome.unwrap().findings.len(), 1);
    let failed = heard.of("file_failed");
    assert_eq!(failed.len(), 2, "once for each engine");
    assert!(failed.iter().all(|d| d["path"] == "bad.txt"));
    assert_eq!(heard.of("file_cut").len(), 2);
    let kept = bench.store.0.lock().unwrap();
    assert!(kept.keys().all(|k| k.blob == blob_of("WEAK")), "neither failed nor cut ones");
}

#[test]
fn an_unreadable_file_ends_the_scan() {
    let bench = Bench::new();
    let mut tree = Tree::new(&[("a.txt", "WEAK"), ("b.txt", "gone")]);
    tree.unreadable = Some("b.txt");
    let (outcome, _) = bench.scan(&tree);
    assert!(matches!(outcome, Err(ScanError::Source(_))));
}

#[test]
fn caps_are_told() {
    let mut bench = Bench::new();
    bench.limits.max_findings = 3;
    bench.limits.max_file_bytes = 100;
    bench.limits.max_files = 6;
    let texts: Vec<(String, String)> =
        (0..8).map(|n| (format!("{n}.txt"), format!("WEAK{n}"))).collect();
    let mut files: Vec<(&str, &str)> =
        texts.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let large = "x".repeat(101);
    files.insert(0, ("0.large", &large));
    let (outcome, heard) = bench.scan(&Tree::new(&files));
    let outcome = outcome.unwrap();
    assert_eq!(outcome.findings.len(), 3);
    assert_eq!(heard.of("findings_capped")[0]["left_out"], 2);
    assert_eq!(heard.of("files_capped")[0]["scanned"], 6);
    assert_eq!(heard.of("file_skipped")[0]["path"], "0.large");
}

#[test]
fn cancelling_ends_soon_and_keeps_what_is_done() {
    struct Stops<'a>(&'a Cancel);
    impl Observer for Stops<'_> {
        fn event(&self, _: Level, _: &str, _: &str, _: serde_json::Value) {}
        fn progress(&self, progress: &Progress) {
            if progress.files_done >= 20 {
                self.0.cancel();
            }
        }
    }
    let bench = Bench::new();
    let texts: Vec<(String, String)> =
        (0..2000).map(|n| (format!("{n}.txt"), format!("WEAK {n}"))).collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let tree = Tree::new(&files);
    let cancel = Cancel::new();
    let observer = Stops(&cancel);
    let outcome =
        run(&bench.engines, &tree, &bench.store, &bench.config, &bench.limits, &observer, &cancel);
    assert!(matches!(outcome, Err(ScanError::Cancelled)));
    assert!(tree.reads.load(Ordering::Relaxed) < 100);
    assert!(!bench.store.0.lock().unwrap().is_empty());
}

#[test]
fn vulnerable_packages() {
    let mut bench = Bench::new();
    bench.engines = Engines::new(vec![dependencies_engine()], 1)
        .unwrap()
        .with_advisories(Arc::new(Database::sample()));
    let lock = |version: &str| {
        format!(
            "[[package]]\nname = \"smallvec\"\nversion = \"{version}\"\nsource = \"registry+x\"\n"
        )
    };
    let old = lock("1.6.0");
    let (outcome, heard) = bench.scan(&Tree::new(&[
        ("Cargo.lock", &old),
        ("tools/Cargo.lock", &old),
        ("vendor/x/Cargo.lock", &old),
        ("requirements.txt", "flask==2.0.0\nPyYAML==5.3.1\nsafe==1\n"),
    ]));
    let outcome = outcome.unwrap();
    assert!(heard.of("no_advisories").is_empty());
    assert_eq!(outcome.components.len(), 5, "what is vendored is not what we build from");
    let found: Vec<_> = outcome
        .findings
        .iter()
        .map(|f| (f.package.as_ref().unwrap().name.as_str(), f.location.span.start_line))
        .collect();
    assert_eq!(found, [("smallvec", 1), ("pyyaml", 2), ("flask", 1)]);
    assert_eq!(outcome.findings[0].other_locations.len(), 1);
    // Another version that is still affected is still the same finding.
    let newer = lock("1.6.0-alpha");
    let again = bench.findings(&[("Cargo.lock", &newer)]);
    assert_eq!(again[0].fingerprint, outcome.findings[0].fingerprint);
    assert!(bench.findings(&[("Cargo.lock", &lock("1.6.1"))]).is_empty());
}

#[test]
fn engines_and_globs_choose() {
    let mut bench = Bench::new();
    bench.config.engines = vec![EngineKind::Code];
    bench.config.exclude = vec!["skip/".to_owned()];
    let (outcome, heard) =
        bench.scan(&Tree::new(&[("a.txt", "WEAK SECRET"), ("skip/b.txt", "WEAK")]));
    let outcome = outcome.unwrap();
    assert_eq!(outcome.findings.len(), 1);
    assert_eq!(outcome.findings[0].engine, EngineKind::Code);
    assert!(heard.of("no_advisories").is_empty());
    bench.config.include = vec!["[".to_owned()];
    let (outcome, _) = bench.scan(&Tree::new(&[]));
    assert!(matches!(outcome, Err(ScanError::Config(_))));
}

/// The profile moves what runs in production, and never a secret.
#[test]
fn surroundings_move_the_priority() {
    use crate::scan::driver::Surroundings;
    use crate::scan::{Confidence, EngineKind, Finding, FlowStep, Location, Severity, Span};

    let finding = |engine, path: &str, through: Option<&str>| Finding {
        fingerprint: path.to_owned(),
        engine,
        rule_id: "r".into(),
        title: "t".into(),
        message: String::new(),
        severity: Severity::High,
        confidence: Confidence::Medium,
        location: Location {
            path: path.into(),
            span: Span { start_line: 1, start_column: 1, end_line: 1, end_column: 2 },
            commit: None,
            in_history: false,
        },
        other_locations: Vec::new(),
        snippet: String::new(),
        symbol: String::new(),
        flow: through
            .map(|path| FlowStep {
                path: Some(path.into()),
                line: 1,
                column: 1,
                message: "in".into(),
            })
            .into_iter()
            .collect(),
        package: None,
        priority: 70,
        suppressed: None,
    };
    let weighed = |exposure: &str| {
        let mut accepted = finding(EngineKind::Code, "src/accepted.py", None);
        accepted.suppressed = Some("known".into());
        accepted.priority = 5;
        let mut findings = vec![
            finding(EngineKind::Code, "src/inner.py", None),
            finding(EngineKind::Code, "src/web.py", None),
            finding(EngineKind::Code, "src/sink.py", Some("src/web.py")),
            finding(EngineKind::Dependencies, "src/Cargo.lock", None),
            finding(EngineKind::Secrets, "src/key.py", None),
            finding(EngineKind::Code, "tests/test_web.py", None),
            accepted,
        ];
        let entry_points = ["src/web.py".to_owned()].into();
        Surroundings { exposure: exposure.into(), entry_points }.weigh(&mut findings);
        findings.into_iter().map(|f| (f.location.path, f.priority)).collect::<Vec<_>>()
    };
    let of = |list: &[(String, u8)], path: &str| {
        list.iter().find(|(p, _)| p == path).map(|(_, n)| *n).unwrap()
    };
    for (exposure, inner, entered, package) in
        [("internet", 75, 80, 75), ("unknown", 70, 75, 70), ("local", 55, 60, 55)]
    {
        let list = weighed(exposure);
        assert_eq!(of(&list, "src/inner.py"), inner, "{exposure}");
        assert_eq!(of(&list, "src/web.py"), entered, "{exposure}");
        assert_eq!(of(&list, "src/sink.py"), entered, "{exposure}");
        assert_eq!(of(&list, "src/Cargo.lock"), package, "{exposure}");
        assert_eq!(of(&list, "src/key.py"), 70, "{exposure}");
        assert_eq!(of(&list, "tests/test_web.py"), 70, "{exposure}");
        assert_eq!(of(&list, "src/accepted.py"), 5, "{exposure}");
        assert!(list.windows(2).all(|w| w[0].1 >= w[1].1), "{exposure}: in order");
    }
}
