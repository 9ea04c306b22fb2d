//! Findings for people, one block each.

use std::io;

use anstyle::{AnsiColor, Color, Style};

use crate::scan::model::{Finding, ScanOutcome, Severity};

/// Writes all findings, worst first, and a summary. Whatever comes from a scanned
/// file is shown without control characters, so that a file name cannot drive the
/// terminal.
///
/// # Errors
///
/// Those of the writer.
pub fn text(out: &mut dyn io::Write, outcome: &ScanOutcome, color: bool) -> io::Result<()> {
    for finding in &outcome.findings {
        block(out, finding, color)?;
    }
    summary(out, outcome, color)
}

fn style(severity: Severity) -> Style {
    let color = match severity {
        Severity::Critical | Severity::High => AnsiColor::Red,
        Severity::Medium => AnsiColor::Yellow,
        Severity::Low => AnsiColor::Cyan,
        Severity::Info => AnsiColor::White,
    };
    let style = Style::new().fg_color(Some(Color::Ansi(color)));
    if severity == Severity::Critical { style.bold() } else { style }
}

fn painted(text: &str, style: Style, color: bool) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Without control characters; tabs stay, since code has them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn block(out: &mut dyn io::Write, finding: &Finding, color: bool) -> io::Result<()> {
    let word = format!("{:<8}", finding.severity.as_str());
    let place = format!("{}:{}", plain(&finding.location.path), finding.location.span.start_line);
    writeln!(
        out,
        "{} {}  {}",
        painted(&word, style(finding.severity), color),
        painted(&place, Style::new().bold(), color),
        painted(&plain(&finding.rule_id), Style::new().dimmed(), color),
    )?;
    writeln!(out, "         {}", plain(&finding.message))?;
    if let Some(line) = finding.snippet.lines().find(|l| !l.trim().is_empty()) {
        writeln!(out, "         {}", painted(plain(line).trim(), Style::new().dimmed(), color))?;
    }
    if finding.flow.len() > 1 {
        for step in &finding.flow {
            let path = step.path.as_deref().unwrap_or(&finding.location.path);
            writeln!(out, "           {}:{} {}", plain(path), step.line, plain(&step.message))?;
        }
    }
    if !finding.other_locations.is_empty() {
        writeln!(out, "         and {} more places", finding.other_locations.len())?;
    }
    if let Some(reason) = &finding.suppressed {
        writeln!(out, "         suppressed: {}", plain(reason))?;
    }
    writeln!(out)
}

fn summary(out: &mut dyn io::Write, outcome: &ScanOutcome, color: bool) -> io::Result<()> {
    let open: Vec<&Finding> = outcome.findings.iter().filter(|f| f.suppressed.is_none()).collect();
    let counts: Vec<String> = Severity::WORST_FIRST
        .into_iter()
        .filter_map(|severity| {
            let count = open.iter().filter(|f| f.severity == severity).count();
            (count > 0).then(|| painted(&format!("{count} {severity}"), style(severity), color))
        })
        .collect();
    let found = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") };
    let suppressed = outcome.findings.len() - open.len();
    write!(out, "{found} in {} files", outcome.files_scanned)?;
    if outcome.history_blobs > 0 {
        write!(out, " and {} blobs of the history", outcome.history_blobs)?;
    }
    if !outcome.components.is_empty() {
        write!(out, ", {} packages", outcome.components.len())?;
    }
    if suppressed > 0 {
        write!(out, ", {suppressed} suppressed")?;
    }
    writeln!(out)
}
