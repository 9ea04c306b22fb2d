//! Files that git reads: `.gitmodules` and `.gitattributes`.

use sluice_git::{Oddity, odd};

use super::rules;
use crate::scan::model::{Confidence, FileResult, Limits, MAX_SNIPPET, RawFinding, Severity, Span};

/// Git stops reading a longer line of attributes.
pub const MAX_LINE: usize = 2048;

/// Git does not read more attributes.
pub const MAX_ATTRIBUTES: u64 = 100 << 20;

/// What a file is to git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.gitmodules` at the root, where git reads it.
    Modules,
    /// `.gitmodules` deeper down: it counts once the folder is a root of its own.
    NestedModules,
    /// `.gitattributes`, which git reads in every folder.
    Attributes,
}

impl Kind {
    /// Told by the path alone. Git ignores case here since some file systems do.
    pub fn of_path(path: &str) -> Option<Self> {
        let (folder, name) = match path.rsplit_once('/') {
            Some((_, name)) => (true, name),
            None => (false, path),
        };
        if name.eq_ignore_ascii_case(".gitattributes") {
            return Some(Self::Attributes);
        }
        if !super::names::is_gitmodules(name.as_bytes()) {
            return None;
        }
        Some(if folder { Self::NestedModules } else { Self::Modules })
    }

    pub(super) fn facet(self) -> &'static str {
        match self {
            Self::Modules => "gitmodules",
            Self::NestedModules => "gitmodules/nested",
            Self::Attributes => "gitattributes",
        }
    }

    pub(super) fn of_facet(facet: &str) -> Option<Self> {
        [Self::Modules, Self::NestedModules, Self::Attributes]
            .into_iter()
            .find(|kind| kind.facet() == facet)
    }
}

/// Everything found, by line.
pub(super) fn look(kind: Kind, bytes: &[u8], limits: &Limits) -> FileResult {
    let most = match limits.max_findings_per_rule_and_file {
        0 => usize::MAX,
        n => n as usize,
    };
    let mut out = FileResult::default();
    match kind {
        Kind::Attributes => attributes(bytes, &mut out),
        Kind::Modules | Kind::NestedModules => odd::submodules(bytes, |oddity, line, value| {
            if out.findings.len() < most {
                out.findings.extend(submodule(kind, oddity, line, value, bytes));
            } else if out.cut.is_empty() {
                out.cut.push(format!("It has more than {most} weaknesses; these are kept."));
            }
        }),
    }
    out
}

fn submodule(
    kind: Kind,
    oddity: Oddity,
    line: u32,
    value: &[u8],
    bytes: &[u8],
) -> Option<RawFinding> {
    let (rule_id, what) = match oddity {
        Oddity::SubmoduleName => (rules::SUBMODULE_NAME, "has the name"),
        Oddity::SubmoduleUrl => (rules::SUBMODULE_URL, "comes from"),
        Oddity::SubmodulePath => (rules::SUBMODULE_PATH, "is put at"),
        Oddity::SubmoduleUpdate => (rules::SUBMODULE_UPDATE, "is updated by the command"),
        _ => return None,
    };
    let severity = match kind {
        Kind::NestedModules => Severity::Low,
        _ => rules::severity(rule_id),
    };
    let message = format!("A submodule {what} {}.", shown(value));
    Some(raw(rule_id, severity, message, line, bytes, &String::from_utf8_lossy(value)))
}

fn attributes(bytes: &[u8], out: &mut FileResult) {
    let mut long = bytes.split(|byte| *byte == b'\n').zip(1u32..);
    let Some((text, line)) = long.find(|(text, _)| text.len() >= MAX_LINE) else { return };
    let more = long.filter(|(text, _)| text.len() >= MAX_LINE).count();
    let more =
        if more == 0 { String::new() } else { format!(", and {more} more lines are as long") };
    let message = format!(
        "Line {line} has {} bytes, more than the {MAX_LINE} that git reads{more}.",
        text.len()
    );
    let severity = rules::severity(rules::ATTRIBUTES_SIZE);
    out.findings.push(raw(rules::ATTRIBUTES_SIZE, severity, message, line, bytes, "line"));
}

fn raw(
    rule_id: &str,
    severity: Severity,
    message: String,
    line: u32,
    bytes: &[u8],
    anchor: &str,
) -> RawFinding {
    let text = (line as usize)
        .checked_sub(1)
        .and_then(|index| bytes.split(|byte| *byte == b'\n').nth(index))
        .unwrap_or_default();
    let end_column = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(1);
    RawFinding {
        rule_id: rule_id.to_owned(),
        severity,
        confidence: Confidence::High,
        message,
        span: Span { start_line: line, start_column: 1, end_line: line, end_column },
        snippet: clipped(&escaped(text), MAX_SNIPPET),
        symbol: String::new(),
        anchor: clipped(anchor, 400),
        flow: Vec::new(),
        package: None,
    }
}

/// In quotes, on one line, whatever is in it, and not without end.
pub(super) fn shown(text: &[u8]) -> String {
    format!("\"{}\"", clipped(&escaped(text), 200))
}

/// Control characters and those that cannot be seen as the escapes of Rust, since they
/// are what it is about.
fn escaped(text: &[u8]) -> String {
    let mut out = String::new();
    // More would not be shown.
    let part = text.get(..text.len().min(4 * MAX_SNIPPET)).unwrap_or_default();
    for c in String::from_utf8_lossy(part).chars() {
        if c == '\t' || !(c.is_control() || super::names::is_ignored_by_hfs(c)) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

fn clipped(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
