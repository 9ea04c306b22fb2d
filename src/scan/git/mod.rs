//! What in a repository attacks git itself, or whoever checks it out.
//!
//! Part of the code engine, and made of two halves. What lies in a file that git reads
//! (`.gitmodules`, `.gitattributes`) depends on its bytes alone: [`Analyzer`] looks at
//! it like any engine, and the result is kept by content ([`files`]). What lies in
//! names, links and the shape of the tree belongs to no file: the driver asks [`names`]
//! about the whole tree in each scan, which costs a pass over names that are in memory.
//! What only objects of the history show ([`Odd`]) is told by the source while it walks
//! them anyway.
//!
//! None of this refuses a push: a history is scanned as it is, and this is what a scan
//! should tell of it. What cannot be kept faithfully was refused before (`sluice-git`).
//!
//! # Tree and history
//!
//! A finding of the tree is fixed by the commit that takes its cause away, since a clone
//! checks out the tree and not the history. What remains in old commits is another
//! finding, of low severity, and only as long as the tree does not show the same.

pub mod files;
pub mod names;
mod rules;
#[cfg(test)]
mod tests;

use super::model::{
    Cancel, EngineKind, FileEngine, FileInput, FileResult, Limits, RuleInfo, Severity,
};

pub use names::{NameEntry, NameKind};

/// Raised with every change of what [`files`] gives.
const VERSION: &str = "git 1";

/// Most severe that something may be that only the history holds.
pub const IN_HISTORY: Severity = Severity::Low;

/// Whether a rule is one of these.
pub fn owns(rule_id: &str) -> bool {
    rule_id.starts_with("git/")
}

/// What is odd about a name, a tree or a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Odd {
    /// A name that is `.git` or that some file system takes for it.
    DotGit,
    /// A `.gitmodules` that is a symbolic link.
    LinkedGitmodules,
    /// Another file that git reads, as a symbolic link.
    LinkedConfig,
    /// A name that Windows reads as a path out of its folder or into `.git`.
    WindowsTraversal,
    /// A name with control characters, or with some that turn the direction of text.
    ControlCharacter,
    /// A mode with leading zeros.
    ZeroPaddedMode,
    /// A tree that is not in git's order.
    UnsortedTree,
    /// A commit that does not say who made it.
    MissingIdentity,
}

impl Odd {
    /// The rule.
    pub fn rule_id(self) -> &'static str {
        match self {
            Self::DotGit => rules::DOTGIT,
            Self::LinkedGitmodules => rules::LINKED_GITMODULES,
            Self::LinkedConfig => rules::LINKED_CONFIG,
            Self::WindowsTraversal => rules::WINDOWS_TRAVERSAL,
            Self::ControlCharacter => rules::CONTROL_CHARACTER,
            Self::ZeroPaddedMode => rules::ZERO_PADDED_MODE,
            Self::UnsortedTree => rules::UNSORTED_TREE,
            Self::MissingIdentity => rules::MISSING_IDENTITY,
        }
    }

    /// One of `sluice-git`; none for what lies in a file and is found there.
    fn of(oddity: sluice_git::Oddity) -> Option<Self> {
        use sluice_git::Oddity;
        match oddity {
            Oddity::DotGit => Some(Self::DotGit),
            Oddity::LinkedGitmodules => Some(Self::LinkedGitmodules),
            Oddity::ZeroPaddedMode => Some(Self::ZeroPaddedMode),
            Oddity::UnsortedTree => Some(Self::UnsortedTree),
            Oddity::MissingIdentity | Oddity::MissingEmail => Some(Self::MissingIdentity),
            _ => None,
        }
    }

    /// Whether it speaks of a name in the tree, not of the tree or the commit.
    pub fn is_of_a_name(self) -> bool {
        !matches!(self, Self::UnsortedTree | Self::MissingIdentity)
    }
}

/// What is odd about the bytes of a tree, with the name of which it is (empty: of the
/// tree). A tree that cannot be read has nothing to tell.
pub fn odd_tree(data: &[u8], hash: gix_hash::Kind, mut odd: impl FnMut(Odd, &[u8])) {
    let mut found = Vec::new();
    let each = |name: &[u8], link: bool| {
        // The rest of what is odd about names is told below.
        if let Some(kind) = names::odd_text(name).or_else(|| names::odd_link(name, link)) {
            found.push((kind, name.to_vec()));
        }
    };
    let _ = sluice_git::odd::tree(data, hash, each, |oddity, name| {
        if let Some(kind) = Odd::of(oddity) {
            odd(kind, name);
        }
    });
    for (kind, name) in found {
        odd(kind, &name);
    }
}

/// What is odd about the bytes of a commit.
pub fn odd_commit(data: &[u8], hash: gix_hash::Kind) -> Option<Odd> {
    sluice_git::odd::commit(data, hash).ok()?.into_iter().find_map(Odd::of)
}

/// Looks at files that git reads. See the [module](self).
#[derive(Debug)]
pub struct Analyzer {
    rules: Vec<RuleInfo>,
}

impl Default for Analyzer {
    fn default() -> Self {
        Self::new()
    }
}

impl Analyzer {
    /// It has no state and costs nothing to make.
    pub fn new() -> Self {
        Self { rules: rules::all() }
    }
}

impl FileEngine for Analyzer {
    fn kind(&self) -> EngineKind {
        EngineKind::Code
    }

    fn rule_set(&self) -> &str {
        VERSION
    }

    fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    fn looks_at_history(&self) -> bool {
        true
    }

    fn facet(&self, path: &str) -> Option<String> {
        files::Kind::of_path(path).map(|kind| kind.facet().to_owned())
    }

    fn analyse(&self, input: &FileInput<'_>, limits: &Limits, _: &Cancel) -> FileResult {
        match files::Kind::of_facet(input.facet) {
            Some(kind) => files::look(kind, input.bytes, limits),
            None => FileResult::default(),
        }
    }
}
