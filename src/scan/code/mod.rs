//! The code engine: weaknesses in the code itself.
//!
//! A file is parsed (tree-sitter), [lowered](lower) into one
//! [intermediate representation](ir) whatever its language, and
//! [interpreted](flow) abstractly: constants are folded and dead branches left
//! out, outside data is followed from [sources to sinks](rules), tests and
//! sanitizers on the way count. [Configuration files](config) are looked at line
//! by line.
//!
//! # Bounds
//!
//! Parsing stops at the deadline; syntax nested deeper than
//! [`lower::MAX_DEPTH`] is left out, so that everything behind it may recurse, on
//! a stack of its own that is sized for that depth; the interpreter has a budget
//! of steps per function and file. Each of these says so in
//! [`FileResult::cut`].
//!
//! # Test code
//!
//! What tests do with outside data harms nobody, and weak hashes or fixed keys are
//! their daily bread. In files with the role of a test only rules that say
//! `tests = true` apply.

pub mod config;
pub mod flow;
pub mod ir;
pub mod lower;
pub mod rules;

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use self::lower::Deadline;
use self::rules::{FILES, Language, RuleError, Rules};
use super::inventory::{self, Role};
use super::model::{
    Cancel, EngineKind, FileEngine, FileInput, FileResult, FlowStep, Limits, MAX_SNIPPET,
    RawFinding, RuleInfo, Span,
};

/// Raised with every change of the engine that may change a result.
const VERSION: &str = "2";

/// Stack of an analysis: deep enough for [`lower::MAX_DEPTH`] levels of syntax,
/// each run in place a few times over. Pages that are not touched cost nothing.
pub const STACK_BYTES: usize = 64 << 20;

/// The code engine. Cheap to share, built once.
#[derive(Debug)]
pub struct Analyzer {
    rules: Rules,
    infos: Vec<RuleInfo>,
    rule_set: String,
}

impl Analyzer {
    /// Compiles the embedded rules. Fails only if they are not what their format
    /// says, which a test rules out.
    pub fn new() -> Result<Self, RuleError> {
        let rules = Rules::embedded()?;
        let mut infos: Vec<RuleInfo> = rules.rules.iter().map(|r| r.info.clone()).collect();
        infos.sort_by(|a, b| a.id.cmp(&b.id));
        let mut digest = Sha256::new();
        digest.update(VERSION);
        for (name, text) in FILES {
            digest.update(name);
            digest.update(text);
        }
        let mut rule_set = String::new();
        for b in digest.finalize().iter().take(16) {
            rule_set.push_str(&format!("{b:02x}"));
        }
        Ok(Self { rules, infos, rule_set })
    }

    fn analyse_here(
        &self,
        language: &str,
        test: bool,
        bytes: &[u8],
        limits: &Limits,
        deadline: &Deadline,
    ) -> FileResult {
        let mut out = FileResult::default();
        let hits = match language {
            "dockerfile" | "github-workflow" => config::scan(&self.rules, language, bytes),
            _ => {
                let (language, tsx) = match language {
                    "python" => (Language::Python, false),
                    "javascript" | "tsx" => (Language::JavaScript, true),
                    "typescript" => (Language::JavaScript, false),
                    "java" => (Language::Java, false),
                    "go" => (Language::Go, false),
                    _ => return out,
                };
                let Some(table) = self.rules.table(language) else {
                    return out;
                };
                let known = |name: &str| table.knows_type(name);
                let Some(module) = lower::lower(language, tsx, bytes, &known, deadline) else {
                    out.cut.push("The file could not be parsed in the time it is given.".into());
                    return out;
                };
                let (hits, cut) = flow::run(&module, table, &self.rules, bytes, deadline, test);
                out.cut.extend(module.cut);
                out.cut.extend(cut);
                hits
            }
        };
        if deadline.is_over() {
            out.cut.push("The analysis was stopped before its end: its time was up.".into());
        }
        self.findings(hits, bytes, limits, &mut out);
        out
    }

    fn findings(&self, hits: Vec<flow::Hit>, bytes: &[u8], limits: &Limits, out: &mut FileResult) {
        let lines = Lines::new(bytes);
        let mut counts = vec![0u32; self.rules.rules.len()];
        let max = limits.max_findings_per_rule_and_file;
        for h in hits {
            let Some(rule) = self.rules.rules.get(h.rule) else {
                continue;
            };
            if let Some(n) = counts.get_mut(h.rule) {
                *n += 1;
                if max != 0 && *n > max {
                    continue;
                }
            }
            let (start_line, start_column) = lines.place(h.span.start);
            let (end_line, end_column) = lines.place(h.span.end);
            let flow = h
                .flow
                .iter()
                .map(|(s, m)| {
                    let (line, column) = lines.place(s.start);
                    FlowStep { path: None, line, column, message: m.to_string() }
                })
                .collect();
            let source = h.source.as_deref().unwrap_or_default();
            let source = source.split_once(": ").map_or(source, |(_, s)| s).trim_matches('`');
            out.findings.push(RawFinding {
                rule_id: rule.info.id.clone(),
                severity: rule.info.severity,
                confidence: rule.confidence,
                message: rule.message.replace("{source}", source).replace("{sink}", &h.sink),
                span: Span { start_line, start_column, end_line, end_column },
                snippet: lines.snippet(h.span.start, h.span.end),
                symbol: h.symbol.to_string(),
                anchor: anchor(bytes, h.span.start, h.span.end),
                flow,
                package: None,
            });
        }
        for (rule, n) in self.rules.rules.iter().zip(counts) {
            if max != 0 && n > max {
                out.cut.push(format!(
                    "Rule {} matched {n} times; {max} findings are kept.",
                    rule.info.id
                ));
            }
        }
    }
}

impl FileEngine for Analyzer {
    fn kind(&self) -> EngineKind {
        EngineKind::Code
    }

    fn rule_set(&self) -> &str {
        &self.rule_set
    }

    fn rules(&self) -> &[RuleInfo] {
        &self.infos
    }

    fn facet(&self, path: &str) -> Option<String> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let role = inventory::role_of_path(path);
        if matches!(role, Role::Vendored | Role::Generated) {
            return None;
        }
        let language = if config::is_workflow(path) {
            "github-workflow"
        } else if config::is_dockerfile(name) {
            "dockerfile"
        } else {
            match inventory::language_of_path(path) {
                Some(l @ ("python" | "javascript" | "typescript" | "tsx" | "java" | "go")) => l,
                None if !name.contains('.') => "noext",
                _ => return None,
            }
        };
        Some(if role == Role::Test { format!("{language}/test") } else { language.to_string() })
    }

    fn analyse(&self, input: &FileInput<'_>, limits: &Limits, cancel: &Cancel) -> FileResult {
        let (language, test) = match input.facet.split_once('/') {
            Some((l, _)) => (l, true),
            None => (input.facet, false),
        };
        let bytes = input.bytes;
        let language = if language == "noext" {
            match inventory::language_of_content(bytes) {
                Some(l) => l,
                None => return FileResult::default(),
            }
        } else {
            language
        };
        let mut out = FileResult::default();
        if limits.max_file_bytes != 0 && bytes.len() as u64 > limits.max_file_bytes
            || u32::try_from(bytes.len()).is_err()
        {
            out.cut.push("The file is larger than the limit for code analysis.".into());
            return out;
        }
        if inventory::is_binary(bytes) || inventory::is_minified_or_generated(bytes) {
            return out;
        }
        let end = (limits.max_file_millis != 0)
            .then(|| Instant::now() + Duration::from_millis(limits.max_file_millis));
        let deadline = Deadline::new(end, cancel.clone());
        let done = std::thread::scope(|s| {
            let run = || self.analyse_here(language, test, bytes, limits, &deadline);
            std::thread::Builder::new()
                .name("code".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(s, run)
                .map(|handle| handle.join())
        });
        match done {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                out.cut.push(
                    "The analysis failed on this file; the other files are not affected.".into(),
                );
                out
            }
            Err(_) => {
                out.cut.push("The system gave no thread to analyse this file in.".into());
                out
            }
        }
    }
}

/// Line starts of a file, to tell lines and columns.
struct Lines<'a> {
    bytes: &'a [u8],
    starts: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut starts = vec![0];
        starts.extend(memchr::memchr_iter(b'\n', bytes).map(|i| i as u32 + 1));
        Self { bytes, starts }
    }

    /// Line and column, both from 1.
    fn place(&self, at: u32) -> (u32, u32) {
        let line = self.starts.partition_point(|s| *s <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        (line as u32, at - start + 1)
    }

    /// The lines from one place to another, at most [`MAX_SNIPPET`] bytes.
    fn snippet(&self, from: u32, to: u32) -> String {
        let line = self.starts.partition_point(|s| *s <= from).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0) as usize;
        let rest = self.bytes.get(to as usize..).unwrap_or_default();
        let end = to as usize + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = String::from_utf8_lossy(self.bytes.get(start..end).unwrap_or_default());
        let mut text = text.trim_end().to_string();
        if text.len() > MAX_SNIPPET {
            let mut end = MAX_SNIPPET;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        text
    }
}

/// The tokens of a match, one space between words that would run together, so
/// that neither layout nor line breaks change the identity of a finding.
fn anchor(bytes: &[u8], from: u32, to: u32) -> String {
    let text = String::from_utf8_lossy(bytes.get(from as usize..to as usize).unwrap_or_default());
    let mut out = String::new();
    for word in text.split_whitespace() {
        let glue = out.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && word.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if glue {
            out.push(' ');
        }
        out.push_str(word);
    }
    if out.len() > 400 {
        let mut end = 400;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
    out
}

#[cfg(test)]
mod tests;
