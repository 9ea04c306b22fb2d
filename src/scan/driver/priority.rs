//! What to look at first.

use std::collections::HashSet;

use crate::scan::inventory::{Role, role_of_path};
use crate::scan::model::{Confidence, EngineKind, Finding, Severity};

/// What is known about the place where the code runs, from its threat profile.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `internet`, `internal`, `local` or `unknown`.
    pub exposure: String,
    /// Files in which the outside reaches the code.
    pub entry_points: HashSet<String>,
}

impl Surroundings {
    /// Moves the priorities of a scan's findings, and puts them in order again.
    ///
    /// Code and packages that the internet reaches are worth 5 more, what runs on the
    /// user's own machine 15 less; a weakness in the code 5 more if it lies in a file
    /// where the outside comes in, or if its data passes through one. Only code that
    /// runs in production moves. A secret is as dangerous wherever the code runs, and
    /// what was accepted inline stays last.
    pub fn weigh(&self, findings: &mut [Finding]) {
        let shift = match self.exposure.as_str() {
            "internet" => 5,
            "local" => -15,
            _ => 0,
        };
        for finding in findings.iter_mut() {
            if finding.suppressed.is_some()
                || finding.engine == EngineKind::Secrets
                || role_of_path(&finding.location.path) != Role::Source
            {
                continue;
            }
            let flow = finding.flow.iter().filter_map(|step| step.path.as_deref());
            let enters = finding.engine == EngineKind::Code
                && std::iter::once(finding.location.path.as_str())
                    .chain(flow)
                    .any(|path| self.entry_points.contains(path));
            let moved = i32::from(finding.priority) + shift + if enters { 5 } else { 0 };
            finding.priority = moved.clamp(0, 100) as u8;
        }
        findings.sort_by(worst_first);
    }
}

/// The order in which a scan gives its findings.
pub(super) fn worst_first(a: &Finding, b: &Finding) -> std::cmp::Ordering {
    b.severity
        .cmp(&a.severity)
        .then_with(|| b.priority.cmp(&a.priority))
        .then_with(|| a.location.path.cmp(&b.location.path))
        .then_with(|| a.location.span.cmp(&b.location.span))
        .then_with(|| a.fingerprint.cmp(&b.fingerprint))
}

/// What the priority of a finding is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    pub(super) role: Role,
    pub(super) in_history: bool,
    /// A package that is only needed to develop or test.
    pub(super) dev: bool,
    pub(super) suppressed: bool,
}

/// 0 to 100.
///
/// The severity gives the base: 90, 70, 45, 20, 5. Confidence moves it by +10, 0
/// or −15, so that a sure medium finding stays below an unsure high one and a hint
/// falls a class. Code that does not run in production is worth less: −25 in tests,
/// −20 in vendored and generated files, −10 in documentation, −20 for a package of
/// development. A secret that only the history holds is as valid as ever but no
/// longer spreads: −5. What was accepted inline comes last: at most 5.
pub(super) fn priority(w: Weights) -> u8 {
    let base: i32 = match w.severity {
        Severity::Critical => 90,
        Severity::High => 70,
        Severity::Medium => 45,
        Severity::Low => 20,
        Severity::Info => 5,
    };
    let confidence = match w.confidence {
        Confidence::High => 10,
        Confidence::Medium => 0,
        Confidence::Low => -15,
    };
    let role = match w.role {
        Role::Source => 0,
        Role::Test => -25,
        Role::Vendored | Role::Generated => -20,
        Role::Docs => -10,
    };
    let history = if w.in_history { -5 } else { 0 };
    let dev = if w.dev { -20 } else { 0 };
    let most = if w.suppressed { 5 } else { 100 };
    (base + confidence + role + history + dev).clamp(0, most) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_documented() {
        let of = |severity, confidence| Weights {
            severity,
            confidence,
            role: Role::Source,
            in_history: false,
            dev: false,
            suppressed: false,
        };
        let worst = of(Severity::Critical, Confidence::High);
        assert_eq!(priority(worst), 100);
        assert!(
            priority(of(Severity::Medium, Confidence::High))
                <= priority(of(Severity::High, Confidence::Low))
        );
        assert_eq!(priority(Weights { role: Role::Test, ..worst }), 75);
        assert_eq!(priority(Weights { in_history: true, ..worst }), 95);
        assert_eq!(priority(Weights { suppressed: true, ..worst }), 5);
        let least = of(Severity::Info, Confidence::Low);
        assert_eq!(priority(Weights { role: Role::Test, ..least }), 0);
    }
}
