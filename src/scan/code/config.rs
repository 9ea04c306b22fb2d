//! Build and pipeline files: Dockerfiles and GitHub workflows.
//!
//! They are read line by line, without a parser: the weaknesses looked for lie in
//! single instructions, and a file that is not quite valid is looked at as well.

use regex::Regex;
use std::sync::LazyLock;

use super::flow::Hit;
use super::rules::Rules;

/// `Dockerfile`, `Dockerfile.prod`, `api.Dockerfile`, `Containerfile`.
pub fn is_dockerfile(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    matches!(stem, "dockerfile" | "containerfile") || lower.ends_with(".dockerfile")
}

/// A workflow or action of GitHub.
pub fn is_workflow(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let yaml = lower.ends_with(".yml") || lower.ends_with(".yaml");
    yaml && (lower.starts_with(".github/workflows/")
        || lower.contains("/.github/workflows/")
        || lower.ends_with("action.yml")
        || lower.ends_with("action.yaml"))
}

/// Everything found, by place.
pub fn scan(rules: &Rules, kind: &str, bytes: &[u8]) -> Vec<Hit> {
    let text = match std::str::from_utf8(bytes) {
        Ok(t) => t,
        Err(_) => return Vec::new(),
    };
    let mut out = Vec::new();
    let mut add = |id: &str, span: std::ops::Range<usize>, sink: &str| {
        if let Some(rule) = rules.index_of(id) {
            out.push(Hit {
                rule,
                span: span.start as u32..span.end as u32,
                symbol: "".into(),
                sink: sink.into(),
                source: None,
                flow: Vec::new(),
            });
        }
    };
    if kind == "dockerfile" {
        dockerfile(text, &mut add);
    } else {
        workflow(text, &mut add);
    }
    out
}

/// An instruction with its continuation lines.
fn instructions(text: &str) -> Vec<(usize, String, String)> {
    let mut out: Vec<(usize, String, String)> = Vec::new();
    let mut open = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let t = line.trim();
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        if t.is_empty() || t.starts_with('#') {
            continue;
        }
        let body = t.trim_end_matches('\\').trim();
        if open {
            if let Some(last) = out.last_mut() {
                last.2.push(' ');
                last.2.push_str(body);
            }
        } else {
            let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
            out.push((start, word.to_ascii_uppercase(), rest.trim().to_string()));
        }
        open = t.ends_with('\\');
    }
    out
}

static PIPE_TO_SHELL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"\b(?:curl|wget)\b[^|;&]*http[^|;&]*\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b").ok()
});

fn dockerfile(text: &str, add: &mut dyn FnMut(&str, std::ops::Range<usize>, &str)) {
    let all = instructions(text);
    let line = |at: usize| {
        let end = text.get(at..).and_then(|t| t.find('\n')).map_or(text.len(), |i| at + i);
        at..end
    };
    let mut user: Option<(usize, bool)> = None;
    let mut runs: Option<usize> = None;
    for (at, word, rest) in &all {
        match word.as_str() {
            // Only the last stage is what runs.
            "FROM" => {
                user = None;
                runs = None;
            }
            "USER" => {
                let name = rest.split([':', ' ']).next().unwrap_or_default();
                user = Some((*at, matches!(name, "root" | "0")));
            }
            "CMD" | "ENTRYPOINT" => runs = Some(*at),
            "ADD" => {
                let plain = rest.split_whitespace().any(|w| w.starts_with("http://"));
                let checked = rest.contains("--checksum");
                if plain && !checked {
                    add("docker/add-over-http", line(*at), "ADD http://");
                }
            }
            "RUN" if PIPE_TO_SHELL.as_ref().is_some_and(|r| r.is_match(rest)) => {
                add("docker/pipe-to-shell", line(*at), "a shell that runs what was downloaded");
            }
            _ => {}
        }
    }
    if let (Some((at, true)), Some(_)) = (user, runs) {
        add("docker/root-user", line(at), "USER root");
    }
}

/// What anyone on the internet may write into an event.
static UNTRUSTED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"\$\{\{[^}]*\bgithub\.(?:head_ref|event\.(?:issue\.(?:title|body)|pull_request\.",
        r"(?:title|body|head\.(?:ref|label|repo\.default_branch))|comment\.body|review\.body|",
        r"review_comment\.body|discussion\.(?:title|body)|head_commit\.(?:message|author\.",
        r"(?:email|name))|commits\[?[^}]*\.(?:message|author\.(?:email|name))|",
        r"pages\[?[^}]*\.page_name|workflow_run\.(?:head_branch|head_commit\.message|",
        r"display_title)))[^}]*\}\}"
    ))
    .ok()
});

fn workflow(text: &str, add: &mut dyn FnMut(&str, std::ops::Range<usize>, &str)) {
    let Some(untrusted) = UNTRUSTED.as_ref() else {
        return;
    };
    // Indentation of the key of the script that the current line belongs to.
    let mut script: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let body = line.trim_start();
        if body.trim_end().is_empty() {
            continue;
        }
        let indent = line.len() - body.len();
        if script.is_some_and(|s| indent <= s) {
            script = None;
        }
        let key = body.trim_start_matches("- ");
        let offset = body.len() - key.len();
        let mut inside = script.is_some();
        if !inside
            && let Some(rest) = key.strip_prefix("run:").or_else(|| key.strip_prefix("script:"))
        {
            inside = true;
            if rest.trim_start().starts_with(['|', '>']) {
                script = Some(indent + offset);
            }
        }
        if inside && !body.starts_with('#') {
            for m in untrusted.find_iter(line) {
                add(
                    "github-actions/script-injection",
                    start + m.start()..start + m.end(),
                    m.as_str(),
                );
            }
        }
    }
}
