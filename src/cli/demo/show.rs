//! What the demo prints, one line for each thing.
//!
//! Colours only on a terminal, and not if `NO_COLOR` is set. Text that comes from the
//! repository cannot drive the terminal.

use std::io::{self, Stdout, Write};
use std::time::Duration;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};

use super::client::{Event, Finding};
use super::compare::Verdict;
use crate::scan::Severity;

const STEP: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Standard output.
pub(super) struct Show {
    out: AutoStream<Stdout>,
}

impl Show {
    pub(super) fn new() -> Self {
        Self { out: anstream::stdout() }
    }

    /// What happens next.
    pub(super) fn step(&mut self, what: &str) -> io::Result<()> {
        self.line(format_args!("{STEP}>{STEP:#} {}", plain(what)))
    }

    /// A command whose output follows.
    pub(super) fn command(&mut self, command: &str) -> io::Result<()> {
        self.line(format_args!("{QUIET}$ {}{QUIET:#}", plain(command)))
    }

    /// Why it ends here.
    pub(super) fn failure(&mut self, why: &str) -> io::Result<()> {
        self.line(format_args!("{BAD}failed{BAD:#} {}", plain(why)))
    }

    /// An event that was heard of `since` the push.
    pub(super) fn event(&mut self, event: &Event, since: Duration) -> io::Result<()> {
        self.line(format_args!(
            "  {QUIET}+{:.2} s  {:<10}{QUIET:#} {}",
            since.as_secs_f64(),
            plain(&event.r#type),
            plain(&event.message),
        ))
    }

    /// A finding: severity, rule, place, title.
    pub(super) fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let style = style(finding.severity);
        let (place, history) = match &finding.location {
            Some(place) => (format!("{}:{}", place.path, place.start_line), place.in_history),
            None => ("-".to_owned(), false),
        };
        self.line(format_args!(
            "{style}{:<8}{style:#} {QUIET}{}{QUIET:#} {STEP}{}{STEP:#} {}{}",
            finding.severity.as_str(),
            plain(&finding.rule_id),
            plain(&place),
            plain(&finding.title),
            if history { " (history)" } else { "" },
        ))
    }

    /// Numbers, and whatever is not as it must be.
    pub(super) fn summary(
        &mut self,
        findings: &[Finding],
        verdict: &Verdict<'_>,
        took: Duration,
    ) -> io::Result<()> {
        let counts: Vec<String> = Severity::WORST_FIRST
            .into_iter()
            .map(|severity| (severity, findings.iter().filter(|f| f.severity == severity).count()))
            .filter(|(_, count)| *count > 0)
            .map(|(severity, count)| format!("{count} {severity}"))
            .collect();
        self.step(&format!("{} findings: {}", findings.len(), counts.join(", ")))?;
        let (planted, missed) = (verdict.planted, verdict.missed.len());
        self.judged(
            missed == 0,
            &format!("{} of {planted} planted weaknesses found", planted - missed),
        )?;
        for plant in &verdict.missed {
            let place = match plant.line {
                Some(line) => format!("{}:{line}", plant.path),
                None => format!("{} (history)", plant.path),
            };
            self.judged(false, &format!("missed {} {place}: {}", plant.id, plant.note))?;
        }
        for (plant, finding) in &verdict.underrated {
            let (found, least) = (finding.severity, plant.severity_at_least);
            let what = format!("{} is {found}, and should be {least} at least", plant.id);
            self.line(format_args!("{QUIET}note {QUIET:#} {}", plain(&what)))?;
        }
        let mistaken = verdict.mistaken.len();
        self.judged(
            mistaken == 0,
            &format!("{mistaken} reports on {} harmless look-alikes", verdict.lookalikes),
        )?;
        for (like, finding) in &verdict.mistaken {
            let (path, line, rule) = (&like.path, like.line, &finding.rule_id);
            self.judged(false, &format!("mistaken {rule} {path}:{line}: {}", like.why))?;
        }
        self.step(&format!("{:.2} s from git push to the last event", took.as_secs_f64()))
    }

    /// How to look at the findings while the server runs.
    pub(super) fn way_in(
        &mut self,
        address: &str,
        email: &str,
        password: &str,
        key: &str,
    ) -> io::Result<()> {
        self.line(format_args!("  e-mail    {email}"))?;
        self.line(format_args!("  password  {password}"))?;
        self.line(format_args!("  curl -H 'Authorization: Bearer {key}' '{address}'"))?;
        self.step("the server stays up until Ctrl-C; then everything is removed")
    }

    fn judged(&mut self, good: bool, what: &str) -> io::Result<()> {
        let (style, word) = if good { (GOOD, "ok") } else { (BAD, "wrong") };
        self.line(format_args!("{style}{word:<5}{style:#} {}", plain(what)))
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        // In one piece, since git writes to the same terminal.
        self.out.write_all(format!("{text}\n").as_bytes())?;
        self.out.flush()
    }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::Low => AnsiColor::Cyan.on_default(),
        Severity::Info => Style::new(),
    }
}

/// On one line and without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
