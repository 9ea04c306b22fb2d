//! What the tree and the history show besides the contents of files: see
//! [`crate::scan::git`].

use serde_json::json;

use crate::scan::git;
use crate::scan::model::{HistoryContents, Level, ScanError};

use super::Run;
use super::globs::Globs;
use super::merge::Gathered;

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
