//! The rules: what each means, and what to do about it.

use crate::scan::model::{EngineKind, RuleInfo, Severity};

pub(super) const DOTGIT: &str = "git/dotgit-name";
pub(super) const LINKED_GITMODULES: &str = "git/linked-gitmodules";
pub(super) const LINKED_CONFIG: &str = "git/linked-config";
pub(super) const WINDOWS_TRAVERSAL: &str = "git/windows-traversal";
pub(super) const CONTROL_CHARACTER: &str = "git/control-character-name";
pub(super) const CASE_COLLISION: &str = "git/case-collision";
pub(super) const LINK_COLLISION: &str = "git/link-collision";
pub(super) const EMBEDDED_REPOSITORY: &str = "git/embedded-repository";
pub(super) const SUBMODULE_NAME: &str = "git/submodule-name";
pub(super) const SUBMODULE_URL: &str = "git/submodule-url";
pub(super) const SUBMODULE_PATH: &str = "git/submodule-path";
pub(super) const SUBMODULE_UPDATE: &str = "git/submodule-update";
pub(super) const ATTRIBUTES_SIZE: &str = "git/attributes-size";
pub(super) const ZERO_PADDED_MODE: &str = "git/zero-padded-mode";
pub(super) const UNSORTED_TREE: &str = "git/unsorted-tree";
pub(super) const MISSING_IDENTITY: &str = "git/missing-identity";

/// Where git's maintainers publish what was found.
const ADVISORIES: &str = "https://github.com/git/git/security/advisories";
const FSCK: &str = "https://git-scm.com/docs/git-fsck#_fsck_messages";

struct Rule {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    why: &'static str,
    fix: &'static str,
    cwe: &'static [&'static str],
    read: &'static [&'static str],
}

const RULES: [Rule; 16] = [
    Rule {
        id: DOTGIT,
        severity: Severity::High,
        title: "Name that stands for .git",
        why: "A file or folder is called .git, or something that HFS+ or NTFS reads as .git (other \
              case, invisible characters, the short name git~1, a stream behind a colon). A git \
              that checks it out without noticing writes into its own repository: a hook or a \
              setting from there is a program that runs on the machine of whoever cloned.",
        fix: "Remove the entry from the tree (git rm --cached) and commit. If nobody here made it, \
              treat the commit that brought it as an attack, and rewrite the history that holds it.",
        cwe: &["CWE-41", "CWE-22"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: LINKED_GITMODULES,
        severity: Severity::High,
        title: ".gitmodules is a symbolic link",
        why: "Git reads .gitmodules from the disk. A link lets a file that was never checked, or \
              one outside of the repository, say where submodules come from and go to.",
        fix: "Replace the link by a file with the same content, or remove it.",
        cwe: &["CWE-59"],
        read: &[FSCK],
    },
    Rule {
        id: LINKED_CONFIG,
        severity: Severity::Low,
        title: "File that git reads is a symbolic link",
        why: "Git reads .gitattributes, .gitignore and .mailmap; as a link they would be read from \
              wherever it leads, so newer versions of git ignore them: what they say does not hold \
              for everybody.",
        fix: "Replace the link by a file.",
        cwe: &["CWE-59"],
        read: &[FSCK],
    },
    Rule {
        id: WINDOWS_TRAVERSAL,
        severity: Severity::High,
        title: "Name that leads out of its folder on Windows",
        why: "A backslash is part of a name here and separates folders on Windows, where this name \
              leads out of the folder, or into .git.",
        fix: "Rename the file so that its name holds no backslash.",
        cwe: &["CWE-22"],
        read: &[ADVISORIES],
    },
    Rule {
        id: CONTROL_CHARACTER,
        severity: Severity::Medium,
        title: "Name with control characters",
        why: "The name holds control characters, or characters that turn the direction of text. \
              Shown in a terminal or on a page it drives the terminal, breaks lists that go by \
              lines, or looks like another name (report.exe as report.txt).",
        fix: "Rename the file. If nobody here made it, look at what else its commit brought.",
        cwe: &["CWE-150", "CWE-451"],
        read: &[],
    },
    Rule {
        id: CASE_COLLISION,
        severity: Severity::Low,
        title: "Names that are the same on other file systems",
        why: "Two names of one folder differ only in case, in invisible characters or in how \
              accents are written. On Windows and macOS one of the two takes the place of the \
              other when it is checked out, and which one nobody says.",
        fix: "Rename one of the two.",
        cwe: &["CWE-178"],
        read: &[],
    },
    Rule {
        id: LINK_COLLISION,
        severity: Severity::High,
        title: "Symbolic link in the place of a folder",
        why: "A symbolic link and a folder or submodule of the same directory differ only in case, \
              in invisible characters or in how accents are written. Where these are one name the \
              files of the folder are written to wherever the link leads, which was used to plant \
              hooks that run while a repository is cloned.",
        fix: "Remove the link or rename it. If nobody here made it, treat the commit that brought \
              it as an attack.",
        cwe: &["CWE-178", "CWE-59"],
        read: &[ADVISORIES],
    },
    Rule {
        id: EMBEDDED_REPOSITORY,
        severity: Severity::Medium,
        title: "Repository within the repository",
        why: "A folder holds what a bare repository holds, its configuration included. Git that is \
              started in it takes it for a repository and runs what its configuration says \
              (core.fsmonitor, aliases, hooks), as does an editor or a prompt that asks git.",
        fix: "Keep test repositories in an archive or make them when the tests run. Set \
              safe.bareRepository=explicit where such repositories are checked out.",
        cwe: &["CWE-829"],
        read: &[
            "https://git-scm.com/docs/git-config#Documentation/git-config.txt-safebareRepository",
        ],
    },
    Rule {
        id: SUBMODULE_NAME,
        severity: Severity::High,
        title: "Submodule whose name leaves its folder",
        why: "The name of a submodule is a path below .git/modules. With a component of two dots it \
              leads elsewhere, for instance into the tree of the attacker, whose hooks git then \
              runs.",
        fix: "Give the submodule a name without '..'. If nobody here made it, treat the commit \
              that brought it as an attack.",
        cwe: &["CWE-22"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: SUBMODULE_URL,
        severity: Severity::High,
        title: "Submodule whose address attacks git",
        why: "The address begins with a dash, so that git takes it for an option; or it hides a \
              newline or has no host, so that a credential helper gives away the password of \
              another host; or it names a transport that runs a command.",
        fix: "Write the plain address, https://host/path or ssh://user@host/path, or remove the \
              submodule.",
        cwe: &["CWE-88", "CWE-20"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: SUBMODULE_PATH,
        severity: Severity::High,
        title: "Submodule whose path attacks git",
        why: "The path begins with a dash, so that git takes it for an option, or it ends with a \
              carriage return, which git loses when it writes its configuration: the submodule is \
              then checked out to another place than was checked.",
        fix: "Write the plain path, or remove the submodule.",
        cwe: &["CWE-88", "CWE-436"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: SUBMODULE_UPDATE,
        severity: Severity::High,
        title: "Submodule that runs a command",
        why: "The update setting of a submodule begins with an exclamation mark: it is a command, \
              which older versions of git run on the machine of whoever clones with submodules.",
        fix: "Use checkout, rebase, merge or none, or leave the setting out.",
        cwe: &["CWE-78"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: ATTRIBUTES_SIZE,
        severity: Severity::Medium,
        title: "Oversized .gitattributes",
        why: "Older versions of git overflow numbers when they read lines of more than 2048 bytes \
              or very large files of attributes, and write to memory that is not theirs; newer ones \
              ignore what is too long, so that it does not hold for everybody.",
        fix: "Keep lines below 2048 bytes and the file small; use patterns in place of long lists.",
        cwe: &["CWE-190", "CWE-400"],
        read: &[ADVISORIES, FSCK],
    },
    Rule {
        id: ZERO_PADDED_MODE,
        severity: Severity::Info,
        title: "File mode with leading zeros",
        why: "A tree writes a mode with leading zeros, as some old tools did. The same content then \
              has two ids, which hides changes from tools that compare ids, and other hosts refuse \
              the history.",
        fix: "Write the tree again with a current git (git filter-repo), or leave it if the history \
              must keep its ids.",
        cwe: &["CWE-1286"],
        read: &[FSCK],
    },
    Rule {
        id: UNSORTED_TREE,
        severity: Severity::Low,
        title: "Tree that is not sorted",
        why: "The entries of a tree are not in git's order. Git finds entries by their order, so \
              that some commands see a file that others do not.",
        fix: "Write the tree again with a current git (git filter-repo).",
        cwe: &["CWE-1286"],
        read: &[FSCK],
    },
    Rule {
        id: MISSING_IDENTITY,
        severity: Severity::Info,
        title: "Commit that does not say who made it",
        why: "A commit has no author or committer, or one without an e-mail address: who brought \
              the change cannot be told, and other hosts refuse the history.",
        fix: "Set user.name and user.email before committing. Old commits can be given an identity \
              with git filter-repo, which changes their ids.",
        cwe: &["CWE-1286"],
        read: &[FSCK],
    },
];

/// All of them, by id.
pub(super) fn all() -> Vec<RuleInfo> {
    let mut all: Vec<RuleInfo> = RULES
        .iter()
        .map(|rule| RuleInfo {
            id: rule.id.to_owned(),
            engine: EngineKind::Code,
            title: rule.title.to_owned(),
            description: rule.why.to_owned(),
            remediation: rule.fix.to_owned(),
            severity: rule.severity,
            cwe: rule.cwe.iter().map(|&cwe| cwe.to_owned()).collect(),
            owasp: vec!["A08:2021".to_owned()],
            references: rule.read.iter().map(|&at| at.to_owned()).collect(),
            aliases: Vec::new(),
        })
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// The severity of a rule.
pub(super) fn severity(id: &str) -> Severity {
    RULES.iter().find(|rule| rule.id == id).map_or(Severity::Low, |rule| rule.severity)
}
