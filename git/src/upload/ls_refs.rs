//! The command `ls-refs`: the refs that a client asks for, instead of all.

use std::sync::{Arc, atomic::AtomicBool};

use gix_hash::ObjectId;

use super::{Answer, Error, lines::Lines, peeled::Peeler, v2::unexpected, view::View};
use crate::remote::{FetchPolicy, Unborn};

/// A client that names more prefixes than this gets all refs, as with git: prefixes only spare
/// bytes.
const MAX_PREFIXES: usize = 1 << 12;

/// The arguments.
#[derive(Debug, Default)]
pub(super) struct LsRefs {
    peel: bool,
    symrefs: bool,
    unborn: bool,
    prefixes: Vec<String>,
    /// There were too many.
    no_prefixes: bool,
}

impl LsRefs {
    pub fn argument(&mut self, line: &str, policy: &FetchPolicy) -> Result<(), Error> {
        match line {
            "peel" => self.peel = true,
            "symrefs" => self.symrefs = true,
            "unborn" => self.unborn = policy.unborn != Unborn::Ignored,
            _ => match line.strip_prefix("ref-prefix ") {
                Some(prefix) if self.prefixes.len() < MAX_PREFIXES => {
                    self.prefixes.push(prefix.to_owned());
                }
                Some(_) => self.no_prefixes = true,
                None => return Err(unexpected("ls-refs", line)),
            },
        }
        Ok(())
    }

    fn includes(&self, name: &str) -> bool {
        self.no_prefixes
            || self.prefixes.is_empty()
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// Lists `HEAD` and then the refs by name. Blocking.
pub(super) fn answer(
    view: &View,
    command: &LsRefs,
    cancel: &Arc<AtomicBool>,
) -> Result<Answer, Error> {
    let mut lines = Lines::default();
    let mut peeler = Peeler::new(view, cancel);
    if command.includes("HEAD") {
        let branch = view.head_branch();
        match (view.head_id(), branch) {
            (Some(id), branch) => {
                let mut line = format!("{id} HEAD");
                if let (Some(branch), true) = (branch, command.symrefs) {
                    line.push_str(&format!(" symref-target:{branch}"));
                }
                lines.line(line + "\n");
            }
            (None, Some(branch)) if command.unborn => {
                let target = format!(" symref-target:{branch}");
                let target = if command.symrefs { target.as_str() } else { "" };
                lines.line(format!("unborn HEAD{target}\n"));
            }
            _ => {}
        }
    }
    for reference in view.refs.iter().filter(|reference| command.includes(&reference.name)) {
        let mut line = format!("{} {}", reference.id, reference.name);
        if command.peel
            && let Some(id) = peel(&mut peeler, reference)?
        {
            line.push_str(&format!(" peeled:{id}"));
        }
        lines.line(line + "\n");
    }
    lines.flush();
    Ok(Answer { head: lines.into_bytes(), job: None })
}

fn peel(peeler: &mut Peeler<'_>, reference: &crate::Ref) -> Result<Option<ObjectId>, Error> {
    if View::may_be_tag(reference) { peeler.peel(&reference.id) } else { Ok(None) }
}
