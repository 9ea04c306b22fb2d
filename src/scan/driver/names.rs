//! What the tree and the history show besides the contents of files: see
//! [`crate::scan::git`].

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use crate::scan::git;
use crate::scan::model::{
    EngineKind, HistoryContents, HistoryOddity, Level, RawFinding, ScanError,
};

use super::Run;
use super::fingerprint;
use super::globs::Globs;
use super::merge::{Gathered, Place, Raw, identity_of_rule};

/// An engine set without these rules has nothing to say about them.
fn is_known(run: &Run<'_>) -> bool {
    run.engines.rules().iter().any(|rule| git::owns(&rule.id))
}

/// Looks at the names of the tree.
pub(super) fn of_tree(
    run: &Run<'_>,
    globs: &Globs,
    gathered: &mut Gathered,
) -> Result<(), ScanError> {
    if !is_known(run) {
        return Ok(());
    }
    let most = run.limits.max_findings_per_rule_and_file as usize;
    let names = |each: &mut dyn FnMut(&git::NameEntry<'_>)| {
        run.source.names(&mut |entry| {
            if globs.wants(&String::from_utf8_lossy(entry.path)) {
                each(entry);
            }
        })
    };
    let found = git::names::check(&names, most)?;
    capped(run, "the tree", found.dropped);
    for (path, finding) in found.findings {
        gathered.add_of_tree(run, path, finding);
    }
    run.check_cancel()
}

/// Takes what the history showed.
pub(super) fn of_history(
    run: &Run<'_>,
    globs: &Globs,
    history: HistoryContents,
    gathered: &mut Gathered,
) {
    if !is_known(run) {
        return;
    }
    capped(run, "the history", history.odd_dropped);
    for oddity in history.odd {
        if globs.wants(&oddity.path) {
            gathered.add_of_history(run, oddity);
        }
    }
}

fn capped(run: &Run<'_>, of: &str, dropped: u64) {
    if dropped > 0 {
        run.notes.event(
            Level::Warning,
            "findings_capped",
            &format!("{dropped} more names of {of} are odd; they are not listed."),
            json!({ "left_out": dropped }),
        );
    }
}

impl Gathered {
    /// Takes a finding about a name of the tree.
    fn add_of_tree(&mut self, run: &Run<'_>, path: String, found: RawFinding) {
        let place = Place { in_history: false, path, commit: None, removed_in: None };
        self.add_about_git(run, place, found);
    }

    /// Takes what is odd about an object of the history.
    fn add_of_history(&mut self, run: &Run<'_>, oddity: HistoryOddity) {
        let found = git::names::of_history(oddity.odd, &oddity.path);
        let (path, commit) = (oddity.path, Some(oddity.commit));
        self.add_about_git(run, Place { in_history: true, path, commit, removed_in: None }, found);
    }

    fn add_about_git(&mut self, run: &Run<'_>, place: Place, found: RawFinding) {
        let rule = run.engines.rule(&found.rule_id);
        let id = rule.map_or(found.rule_id.as_str(), identity_of_rule);
        self.push(Raw {
            place: Arc::new(place),
            engine: EngineKind::Code,
            group: fingerprint::group_of_code(id, &found.symbol, &found.anchor),
            found,
            title: None,
            dev: false,
        });
    }
}

/// What attacks git is told of the history only where the tree does not show it, and is
/// another finding then: see [`git`].
pub(super) fn leave_to_the_tree(raw: &mut Vec<Raw>) {
    let about_git = |r: &Raw| r.engine == EngineKind::Code && git::owns(&r.found.rule_id);
    let in_tree: HashSet<String> = raw
        .iter()
        .filter(|r| !r.place.in_history && about_git(r))
        .map(|r| r.group.clone())
        .collect();
    raw.retain_mut(|r| {
        if !r.place.in_history || !about_git(r) {
            return true;
        }
        if in_tree.contains(&r.group) {
            return false;
        }
        r.group = fingerprint::group_of_code(&r.found.rule_id, "history", &r.group);
        r.found.severity = r.found.severity.min(git::IN_HISTORY);
        true
    });
}
