//! The dependency engine: which packages the code is built from, and which of them
//! are known to be vulnerable.
//!
//! Two steps that must not be mixed. [`Analyzer`] reads lock files and manifests
//! into [`Component`]s; this depends on the bytes of the file alone and is kept by
//! content like every result. [`Database::matches`] compares components with
//! advisories; advisories change every hour while lock files rest, so its answers
//! are made anew in each scan (and can be made again from stored components without
//! one).
//!
//! Parsers are bounded by the size of the file, a number of packages and a depth;
//! they run in time linear in the size. A malformed file gives what could be read
//! before the fault, or nothing, and a `cut` that names it.

mod advisories;
mod lockfiles;
mod purl;
mod sample;
pub mod versions;

use std::time::Instant;

use crate::scan::inventory::{self, Role};
use crate::scan::model::{
    Cancel, Component, EngineKind, FileEngine, FileInput, FileResult, Limits, RuleInfo, Severity,
};

pub use advisories::{Database, LoadError, Loaded, Match};
pub use purl::{normalised_name, purl};

/// Rule of packages with a published vulnerability.
pub const VULNERABLE: &str = "dependencies/known-vulnerability";

/// Rule of packages that were published to do harm.
pub const MALICIOUS: &str = "dependencies/malicious-package";

/// To be raised with every change of what a parser gives.
const VERSION: &str = "dependencies 1";

/// Most packages of one file.
const MAX_COMPONENTS: usize = 100_000;

/// Reads lock files. See the [module](self).
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
    /// The engine; it has no state and costs nothing to make.
    pub fn new() -> Self {
        Self { rules: rules() }
    }
}

fn rules() -> Vec<RuleInfo> {
    vec![
        RuleInfo {
            id: VULNERABLE.to_owned(),
            engine: EngineKind::Dependencies,
            title: "Dependency with a known vulnerability".to_owned(),
            description: "A package in use has a published vulnerability that affects its \
                version. Whoever reads the advisory knows how to attack it, whether or not the \
                code that uses the package is sound."
                .to_owned(),
            remediation: "Upgrade to the fixed version that the finding names and update the \
                lock file. If the package is brought in by another one, upgrade that one or \
                override the version. Where no fix exists, replace the package or make sure \
                that the vulnerable part cannot be reached."
                .to_owned(),
            severity: Severity::Medium,
            cwe: vec!["CWE-1395".to_owned()],
            owasp: vec!["A06:2021".to_owned()],
            references: vec!["https://osv.dev/".to_owned()],
            aliases: Vec::new(),
        },
        RuleInfo {
            id: MALICIOUS.to_owned(),
            engine: EngineKind::Dependencies,
            title: "Malicious package".to_owned(),
            description: "A package in use was published to do harm: it steals credentials, \
                mines, or opens a back door as soon as it is installed."
                .to_owned(),
            remediation: "Remove the package, treat every machine that installed it as \
                compromised, and replace all credentials that were reachable from there."
                .to_owned(),
            severity: Severity::Critical,
            cwe: vec!["CWE-506".to_owned()],
            owasp: vec!["A08:2021".to_owned()],
            references: vec!["https://github.com/ossf/malicious-packages".to_owned()],
            aliases: Vec::new(),
        },
    ]
}

impl FileEngine for Analyzer {
    fn kind(&self) -> EngineKind {
        EngineKind::Dependencies
    }

    fn rule_set(&self) -> &str {
        VERSION
    }

    fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// `lock:` and the kind of file. What lies in a vendored folder says what that
    /// package was built from, not this project.
    fn facet(&self, path: &str) -> Option<String> {
        let kind = lockfiles::Kind::of_path(path)?;
        match inventory::role_of_path(path) {
            Role::Vendored => None,
            _ => Some(format!("lock:{}", kind.as_str())),
        }
    }

    fn analyse(&self, input: &FileInput<'_>, limits: &Limits, cancel: &Cancel) -> FileResult {
        let mut result = FileResult::default();
        let Some(kind) = input.facet.strip_prefix("lock:").and_then(lockfiles::Kind::from_name)
        else {
            return result;
        };
        let Some(text) = inventory::decode(input.bytes) else {
            result.cut.push("it is no text".to_owned());
            return result;
        };
        let bounds = lockfiles::Bounds {
            until: (limits.max_file_millis != 0)
                .then(|| Instant::now() + std::time::Duration::from_millis(limits.max_file_millis)),
            cancel,
            max_components: MAX_COMPONENTS,
        };
        let (components, fault) = lockfiles::read(kind, &text, &bounds);
        result.components = merged(components);
        if let Some(fault) = fault {
            result.cut.push(fault.to_string());
        }
        result
    }
}

/// One component for each package and version, in the order of the file. It is
/// direct if one mention is, and of development only if all are.
fn merged(components: Vec<Component>) -> Vec<Component> {
    let mut at = std::collections::HashMap::new();
    let mut list: Vec<Component> = Vec::with_capacity(components.len());
    for component in components {
        let key = (component.ecosystem.clone(), component.name.clone(), component.version.clone());
        let index = *at.entry(key).or_insert(list.len());
        match list.get_mut(index) {
            Some(known) => {
                known.direct = match (known.direct, component.direct) {
                    (Some(a), Some(b)) => Some(a || b),
                    (a, b) => a.or(b),
                };
                known.dev &= component.dev;
                if known.requires.is_empty() {
                    known.requires = component.requires;
                }
            }
            None => list.push(component),
        }
    }
    list
}
