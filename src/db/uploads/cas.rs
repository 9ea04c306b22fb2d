//! Decides the commands of a push against the refs as they are.
//!
//! Pure: what it needs is read in the transaction that applies what it says, so
//! that the isolation of the database makes it atomic.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::push::RefCommand;

/// Reasons behind `ng <ref> <reason>`, in the words of git where it has some.
pub(super) mod reason {
    pub(crate) const NAMED_TWICE: &str = "multiple updates for this ref in one push";
    pub(crate) const NAME_CONFLICT: &str = "refname conflict";
    pub(crate) const EXISTS: &str = "reference already exists";
    pub(crate) const DOES_NOT_EXIST: &str = "reference does not exist";
    pub(crate) const INCORRECT_OLD: &str = "incorrect old value provided";
    pub(crate) const ATOMIC: &str = "atomic push failure";
    pub(crate) const TOO_MANY: &str = "too many refs";
}

/// What is done about one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The ref points to the new value from now on.
    Write,
    /// The ref goes.
    Delete,
    /// It is as it was wished already: reported as done.
    Nothing,
    /// Reported as `ng` with this reason.
    Reject(String),
}

impl Decision {
    fn reject(reason: &str) -> Self {
        Self::Reject(reason.to_owned())
    }

    fn refused(&self) -> bool {
        matches!(self, Self::Reject(_))
    }
}

/// Names that the decision has to know: those of the commands and the directories
/// above them. What stands below `name/` of a written ref is needed as well.
pub(super) fn names(commands: &[RefCommand]) -> BTreeSet<&str> {
    commands
        .iter()
        .flat_map(|command| directories(&command.name).chain([command.name.as_str()]))
        .collect()
}

/// One decision for each command, in order.
///
/// `current` holds at least the refs of [`names`] and those below the written ones;
/// `existing` is the number of all refs, which may grow to `max`.
///
/// - Deletions count first, so `delete a` and `create a/b` go together.
/// - A ref must be at its `old`; deleting what does not exist is no error, as in git.
/// - `a` and `a/b` cannot both exist, neither in the store nor among the commands.
/// - With `atomic`, one refusal refuses all.
pub(super) fn decide(
    current: &BTreeMap<String, String>,
    commands: &[RefCommand],
    atomic: bool,
    existing: u64,
    max: u64,
) -> Vec<Decision> {
    let mut uses: HashMap<&str, u32> = HashMap::with_capacity(commands.len());
    for command in commands {
        *uses.entry(&command.name).or_default() += 1;
    }
    let mut decisions: Vec<Option<Decision>> = commands
        .iter()
        .map(|command| match &command.refused {
            Some(reason) => Some(Decision::reject(reason)),
            None => (uses.get(command.name.as_str()).copied() > Some(1))
                .then(|| Decision::reject(reason::NAMED_TWICE)),
        })
        .collect();

    let mut after: BTreeSet<&str> = current.keys().map(String::as_str).collect();
    let mut count = existing;
    for (command, decision) in commands.iter().zip(&mut decisions) {
        if decision.is_none() && command.new.is_none() {
            *decision = Some(match (current.get(&command.name), &command.old) {
                (None, _) => Decision::Nothing,
                (Some(oid), Some(old)) if oid != old => Decision::reject(reason::INCORRECT_OLD),
                _ => {
                    after.remove(command.name.as_str());
                    count = count.saturating_sub(1);
                    Decision::Delete
                }
            });
        }
    }
    for (command, decision) in commands.iter().zip(&mut decisions) {
        let (None, Some(new)) = (&decision, &command.new) else { continue };
        *decision = Some(match (current.get(&command.name), &command.old) {
            (None, Some(_)) => Decision::reject(reason::DOES_NOT_EXIST),
            (Some(oid), _) if oid == new && command.old.as_ref().is_none_or(|old| old == new) => {
                Decision::Nothing
            }
            (Some(_), None) => Decision::reject(reason::EXISTS),
            (Some(oid), Some(old)) if oid != old => Decision::reject(reason::INCORRECT_OLD),
            (Some(_), Some(_)) => Decision::Write,
            (None, None) if conflicts(&command.name, &after) => {
                Decision::reject(reason::NAME_CONFLICT)
            }
            (None, None) if count >= max => Decision::reject(reason::TOO_MANY),
            (None, None) => {
                after.insert(&command.name);
                count += 1;
                Decision::Write
            }
        });
    }

    // Every command is decided: it either deletes or writes.
    let mut decisions: Vec<Decision> =
        decisions.into_iter().map(|d| d.unwrap_or(Decision::Nothing)).collect();
    if atomic && decisions.iter().any(Decision::refused) {
        for decision in &mut decisions {
            if !decision.refused() {
                *decision = Decision::reject(reason::ATOMIC);
            }
        }
    }
    decisions
}

/// `refs/heads/a/b` gives `refs`, `refs/heads` and `refs/heads/a`.
fn directories(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

fn conflicts(name: &str, existing: &BTreeSet<&str>) -> bool {
    let below = format!("{name}/");
    existing.range(below.as_str()..).next().is_some_and(|other| other.starts_with(&below))
        || directories(name).any(|directory| existing.contains(directory))
}
