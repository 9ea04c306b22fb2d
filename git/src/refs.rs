//! The rules of refs, as pure functions: names, compare-and-swap, directory/file conflicts, `HEAD`.
//!
//! Nothing here reads or writes a store. Whoever holds the refs (a database, in sluice) calls
//! [`plan`] *inside* its transaction with the refs that matter, and applies what it says. That way
//! the rules are the same for every store, and the store's own isolation makes them atomic.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gix_hash::ObjectId;

use crate::command::Command;

/// A ref and what it points to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ref {
    /// The full name, such as `refs/heads/main`.
    pub name: String,
    /// The object it points to.
    pub id: ObjectId,
}

/// The reasons behind `ng <ref> <reason>`, in the words of git where git has words for it.
pub mod reason {
    #![allow(missing_docs)]
    pub const FUNNY_NAME: &str = "funny refname";
    pub const HIDDEN: &str = "deny updating a hidden ref";
    pub const NAMED_TWICE: &str = "multiple updates for this ref in one push";
    pub const DELETION: &str = "deletion prohibited";
    pub const DELETION_OF_CURRENT: &str = "deletion of the current branch prohibited";
    pub const NON_FAST_FORWARD: &str = "non-fast-forward";
    pub const MISSING_OBJECTS: &str = "missing necessary objects";
    pub const INVALID_VALUE: &str = "invalid new value provided";
    pub const NAME_CONFLICT: &str = "refname conflict";
    pub const EXISTS: &str = "reference already exists";
    pub const DOES_NOT_EXIST: &str = "reference does not exist";
    pub const INCORRECT_OLD: &str = "incorrect old value provided";
    pub const FAILED: &str = "failed to update ref";
    pub const ATOMIC: &str = "atomic push failure";
    pub const UNPACKER: &str = "unpacker error";
    pub const TOO_MANY: &str = "too many refs";
    pub const SHALLOW: &str = "shallow update not allowed";
}

/// Whether `name` may be the name of a ref here.
///
/// Git's own rules (`check_refname_format`, at least two levels, below `refs/`), and what would
/// confuse people or file systems: `refs/heads/HEAD`, names that look like an object id, and
/// components over 255 bytes.
pub fn valid_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("refs/") else {
        return false;
    };
    // A name that was not UTF-8 carries the replacement character.
    if !rest.contains('/') || name.len() > 1024 || name.contains('\u{fffd}') {
        return false;
    }
    if gix_validate::reference::name(name.into()).is_err() {
        return false;
    }
    if name.split('/').any(|component| component.len() > 255) {
        return false;
    }
    let short = rest.split_once('/').map_or("", |(_, short)| short);
    let looks_like_id =
        matches!(short.len(), 40 | 64) && short.bytes().all(|b| b.is_ascii_hexdigit());
    short != "HEAD" && !looks_like_id
}

/// Whether a ref of this name may be deleted: what came in another way than by a push may have a name
/// that [`valid_name`] does not allow.
pub fn deletable_name(name: &str) -> bool {
    name.starts_with("refs/")
        && name.len() <= 1024
        && !name.contains('\u{fffd}')
        && gix_validate::reference::name(name.into()).is_ok()
}

/// Whether the rules hide a ref. A rule is a prefix that ends where a component of the name does;
/// with `!` in front it shows what an earlier rule hides, since the last one that fits decides. A
/// `^` may follow, which makes a difference to git only where there are namespaces.
pub fn hidden(name: &str, rules: &[String]) -> bool {
    let fits = |rule: &str| {
        let prefix = rule.strip_prefix('^').unwrap_or(rule).trim_end_matches('/');
        name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let decided = rules.iter().rev().find_map(|rule| match rule.strip_prefix('!') {
        Some(shown) => fits(shown).then_some(false),
        None => fits(rule).then_some(true),
    });
    decided.unwrap_or(false)
}

/// What [`plan`] decided about one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Write `new` under the name (create or update).
    Write,
    /// Remove the ref.
    Delete,
    /// Nothing is there to delete; it is reported as done.
    AlreadyGone,
    /// Report `ng` with this reason, one of [`reason`].
    Reject(&'static str),
}

impl Decision {
    /// The reason, if the command was refused.
    pub fn rejection(self) -> Option<&'static str> {
        match self {
            Self::Reject(why) => Some(why),
            _ => None,
        }
    }
}

/// The refs that [`plan`] has to know for `commands`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Refs with exactly these names: the commands' own and every directory above them.
    pub names: BTreeSet<String>,
    /// Refs whose name starts with one of these, each ending in a slash.
    pub prefixes: BTreeSet<String>,
}

impl Needed {
    /// Whether a ref of this name matters.
    pub fn includes(&self, name: &str) -> bool {
        self.names.contains(name)
            || name
                .match_indices('/')
                .any(|(at, slash)| self.prefixes.contains(&name[..at + slash.len()]))
    }
}

/// Names the refs that a store has to read before it calls [`plan`], so that a push of one ref into
/// a repository of 100,000 reads a handful.
pub fn needed<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Needed {
    let mut needed = Needed::default();
    for command in commands {
        needed.names.extend(directories(&command.name).map(str::to_owned));
        needed.names.insert(command.name.clone());
        if !command.deletes() {
            needed.prefixes.insert(format!("{}/", command.name));
        }
    }
    needed
}

/// Decides all commands of one push against the refs as they are now.
///
/// `current` holds at least the refs of [`needed`]. `rejected` gives for each command the reason
/// for which it was refused already, if it was. Returns one decision for each command, in order.
///
/// - Deletions count first, so `delete a` and `create a/b` go together in one push.
/// - A ref must be at its `old`: otherwise the reason says which way it differs.
/// - `a` and `a/b` cannot both exist, neither in the store nor among the commands.
/// - Without `atomic` each command stands for itself; with it, one refusal refuses all.
/// - To delete what does not exist is no error, as in git.
pub fn plan(
    current: &BTreeMap<String, ObjectId>,
    commands: &[Command],
    rejected: &[Option<&'static str>],
    atomic: bool,
) -> Vec<Decision> {
    let mut decisions: Vec<Option<Decision>> = (0..commands.len())
        .map(|at| rejected.get(at).copied().flatten().map(Decision::Reject))
        .collect();
    for at in repeated(commands) {
        decisions[at].get_or_insert(Decision::Reject(reason::NAMED_TWICE));
    }

    let mut after: BTreeSet<&str> = current.keys().map(String::as_str).collect();
    for (at, command) in commands.iter().enumerate() {
        if decisions[at].is_none() && command.deletes() {
            let decision = match current.get(&command.name) {
                None => Decision::AlreadyGone,
                Some(id) if command.old.is_null() || *id == command.old => Decision::Delete,
                Some(_) => Decision::Reject(reason::INCORRECT_OLD),
            };
            if decision == Decision::Delete {
                after.remove(command.name.as_str());
            }
            decisions[at] = Some(decision);
        }
    }
    for (at, command) in commands.iter().enumerate() {
        if decisions[at].is_none() {
            let decision = match (current.get(&command.name), command.old.is_null()) {
                (None, false) => Decision::Reject(reason::DOES_NOT_EXIST),
                (Some(id), true) if *id != command.new => Decision::Reject(reason::EXISTS),
                (Some(id), false) if *id != command.old => Decision::Reject(reason::INCORRECT_OLD),
                _ if conflicts(&command.name, &after) => Decision::Reject(reason::NAME_CONFLICT),
                _ => Decision::Write,
            };
            if decision == Decision::Write {
                after.insert(&command.name);
            }
            decisions[at] = Some(decision);
        }
    }

    let mut decisions: Vec<Decision> =
        decisions.into_iter().map(|d| d.unwrap_or(Decision::Reject(reason::FAILED))).collect();
    if atomic && decisions.iter().any(|decision| decision.rejection().is_some()) {
        for decision in &mut decisions {
            if decision.rejection().is_none() {
                *decision = Decision::Reject(reason::ATOMIC);
            }
        }
    }
    decisions
}

/// The positions of all commands whose ref is named by another command too.
fn repeated(commands: &[Command]) -> Vec<usize> {
    let mut seen: HashMap<&str, u32> = HashMap::with_capacity(commands.len());
    for command in commands {
        *seen.entry(&command.name).or_default() += 1;
    }
    (0..commands.len()).filter(|at| seen[commands[*at].name.as_str()] > 1).collect()
}

/// `refs/heads/a/b` gives `refs`, `refs/heads` and `refs/heads/a`.
fn directories(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

fn conflicts(name: &str, existing: &BTreeSet<&str>) -> bool {
    let below = format!("{name}/");
    let first_below = existing.range(below.as_str()..).next();
    first_below.is_some_and(|other| other.starts_with(&below))
        || directories(name).any(|directory| existing.contains(directory))
}

/// Where `HEAD` should point: the branch that was wished for, the configured default, `main`,
/// `master`, else the first branch in order. `None` if there is no branch.
///
/// `wanted` and `default` may be short (`main`) or full names. `HEAD` must never dangle: some
/// clients refuse to clone then.
pub fn choose_head<'a>(
    refs: impl IntoIterator<Item = &'a str>,
    wanted: Option<&str>,
    default: &str,
) -> Option<String> {
    let branches: BTreeSet<&str> =
        refs.into_iter().filter(|name| name.starts_with("refs/heads/")).collect();
    let full = |name: &str| {
        if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") }
    };
    [wanted, Some(default), Some("main"), Some("master")]
        .into_iter()
        .flatten()
        .map(full)
        .find(|name| branches.contains(name.as_str()))
        .or_else(|| branches.first().map(|name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: u8) -> ObjectId {
        ObjectId::from_hex(&[b'0' + digit; 40]).unwrap()
    }

    fn command(old: u8, new: u8, name: &str) -> Command {
        Command { old: id(old), new: id(new), name: name.into() }
    }

    fn decide(current: &[(&str, u8)], commands: &[Command], atomic: bool) -> Vec<Decision> {
        let current =
            current.iter().map(|(name, digit)| ((*name).to_owned(), id(*digit))).collect();
        plan(&current, commands, &[], atomic)
    }

    #[test]
    fn names() {
        for good in [
            "refs/heads/main",
            "refs/tags/v1.0",
            "refs/heads/a/b",
            "refs/notes/commits",
            "refs/heads/ü",
        ] {
            assert!(valid_name(good), "{good}");
        }
        let long = format!("refs/heads/{}", "x".repeat(256));
        let id = format!("refs/heads/{}", "a".repeat(40));
        for bad in [
            "HEAD",
            "main",
            "heads/main",
            "refs/heads",
            "refs/main",
            "refs/heads/",
            "refs/heads//a",
            "refs/heads/.a",
            "refs/heads/a..b",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a~1",
            "refs/heads/a^",
            "refs/heads/a:b",
            "refs/heads/a?",
            "refs/heads/a*",
            "refs/heads/a[",
            "refs/heads/a\\b",
            "refs/heads/a.",
            "refs/heads/@{u}",
            "refs/heads/\u{7f}",
            "refs/heads/HEAD",
            "refs/heads/../../x",
            "refs/heads/\u{fffd}",
            &long,
            &id,
        ] {
            assert!(!valid_name(bad), "{bad}");
        }
        assert!(deletable_name("refs/stash") && deletable_name(&id));
        for bad in ["HEAD", "refs/heads/../../x", "refs/heads/a.lock", "refs/"] {
            assert!(!deletable_name(bad), "{bad}");
        }
    }

    #[test]
    fn hidden_prefixes_end_at_a_slash() {
        let prefixes = ["refs/_internal/".to_owned()];
        assert!(hidden("refs/_internal/x", &prefixes));
        assert!(hidden("refs/_internal", &prefixes));
        assert!(!hidden("refs/_internals/x", &prefixes));
    }

    #[test]
    fn the_last_rule_that_fits_hides_or_shows() {
        let rules = ["refs", "!refs/heads", "^refs/heads/secret", "!^refs/heads/secret/not"];
        let rules = rules.map(str::to_owned);
        for (name, is) in [
            ("refs/tags/v1", true),
            ("refs/heads/main", false),
            ("refs/heads/secret", true),
            ("refs/heads/secret/x", true),
            ("refs/heads/secret/not", false),
            ("refs/heads/secrets", false),
        ] {
            assert_eq!(hidden(name, &rules), is, "{name}");
        }
    }

    #[test]
    fn compare_and_swap_names_the_difference() {
        let current = [("refs/heads/a", 1)];
        let one = |old, new, name| decide(&current, &[command(old, new, name)], false)[0];
        assert_eq!(one(1, 2, "refs/heads/a"), Decision::Write);
        assert_eq!(one(0, 2, "refs/heads/b"), Decision::Write);
        assert_eq!(one(0, 2, "refs/heads/a"), Decision::Reject(reason::EXISTS));
        assert_eq!(one(0, 1, "refs/heads/a"), Decision::Write, "a push that was sent twice");
        assert_eq!(one(3, 2, "refs/heads/a"), Decision::Reject(reason::INCORRECT_OLD));
        assert_eq!(one(3, 2, "refs/heads/b"), Decision::Reject(reason::DOES_NOT_EXIST));
        assert_eq!(one(1, 0, "refs/heads/a"), Decision::Delete);
        assert_eq!(one(3, 0, "refs/heads/a"), Decision::Reject(reason::INCORRECT_OLD));
        assert_eq!(one(3, 0, "refs/heads/b"), Decision::AlreadyGone);
    }

    #[test]
    fn a_ref_is_not_a_directory() {
        let current = [("refs/heads/a", 1), ("refs/heads/b/c", 1)];
        let conflict = Decision::Reject(reason::NAME_CONFLICT);
        let all = [
            command(0, 2, "refs/heads/a/x"),
            command(0, 2, "refs/heads/b"),
            command(0, 2, "refs/heads/b/d"),
            command(0, 2, "refs/heads/new"),
            command(0, 2, "refs/heads/new/below"),
            command(0, 2, "refs/heads/ab"),
        ];
        let write = Decision::Write;
        assert_eq!(
            decide(&current, &all, false),
            [conflict, conflict, write, write, conflict, write]
        );
    }

    #[test]
    fn deletions_make_room_in_either_order() {
        let current = [("refs/heads/a", 1), ("refs/heads/b/c", 1)];
        let commands = [
            command(0, 2, "refs/heads/a/x"),
            command(1, 0, "refs/heads/a"),
            command(0, 2, "refs/heads/b"),
            command(1, 0, "refs/heads/b/c"),
        ];
        use Decision::{Delete, Write};
        assert_eq!(decide(&current, &commands, true), [Write, Delete, Write, Delete]);
        // A deletion that is refused makes no room.
        let commands = [command(3, 0, "refs/heads/a"), command(0, 2, "refs/heads/a/x")];
        let refused = decide(&current, &commands, false);
        assert!(refused.iter().all(|decision| decision.rejection().is_some()));
    }

    #[test]
    fn atomic_is_all_or_nothing() {
        let commands = [command(0, 2, "refs/heads/x"), command(3, 2, "refs/heads/y")];
        assert_eq!(
            decide(&[], &commands, true),
            [Decision::Reject(reason::ATOMIC), Decision::Reject(reason::DOES_NOT_EXIST)]
        );
        assert_eq!(decide(&[], &commands, false)[0], Decision::Write);
    }

    #[test]
    fn a_ref_named_twice_is_refused_twice() {
        let commands = [
            command(0, 2, "refs/heads/x"),
            command(0, 3, "refs/heads/x"),
            command(0, 3, "refs/heads/y"),
        ];
        let twice = Decision::Reject(reason::NAMED_TWICE);
        assert_eq!(decide(&[], &commands, false), [twice, twice, Decision::Write]);
    }

    #[test]
    fn needed_refs_are_enough() {
        let needed = needed(&[command(0, 2, "refs/heads/a/b")]);
        assert!(needed.names.contains("refs/heads/a") && needed.names.contains("refs/heads/a/b"));
        assert!(needed.prefixes.contains("refs/heads/a/b/"));
    }

    #[test]
    fn head_prefers_the_wish_then_the_usual_names() {
        let all = ["refs/heads/dev", "refs/heads/main", "refs/heads/master", "refs/tags/a"];
        assert_eq!(choose_head(all, Some("dev"), "trunk").as_deref(), Some("refs/heads/dev"));
        assert_eq!(choose_head(all, Some("nope"), "master").as_deref(), Some("refs/heads/master"));
        assert_eq!(choose_head(all, None, "trunk").as_deref(), Some("refs/heads/main"));
        assert_eq!(
            choose_head(["refs/heads/z", "refs/heads/y"], None, "x").as_deref(),
            Some("refs/heads/y")
        );
        assert_eq!(choose_head(["refs/tags/a"], None, "main"), None);
    }
}
