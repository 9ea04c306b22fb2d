//! Which paths a scan is about.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::scan::model::{ScanConfig, ScanError};

/// Most globs of each kind.
const MAX_GLOBS: usize = 1000;

/// Longest glob, in bytes.
const MAX_GLOB: usize = 1000;

/// The include and exclude globs of a scan.
///
/// As in `.gitignore`, a glob without a slash names a file or folder at any depth
/// (`*.min.js`, `fixtures`), one with a slash counts from the root, `*` stays
/// within a component, `**` does not, and what matches a folder matches everything
/// below it.
pub struct Globs {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Globs {
    /// Compiles the globs of a configuration.
    ///
    /// # Errors
    ///
    /// [`ScanError::Config`] for a glob that is none.
    pub fn new(config: &ScanConfig) -> Result<Self, ScanError> {
        Ok(Self {
            include: if config.include.is_empty() {
                None
            } else {
                Some(build("include", &config.include)?)
            },
            exclude: build("exclude", &config.exclude)?,
        })
    }

    /// True if a file with this path is to be looked at.
    pub fn wants(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(path)) && !self.exclude.is_match(path)
    }
}

fn build(what: &str, globs: &[String]) -> Result<GlobSet, ScanError> {
    if globs.len() > MAX_GLOBS {
        return Err(ScanError::Config(format!(
            "{} {what} globs are too many: give at most {MAX_GLOBS}",
            globs.len()
        )));
    }
    let unusable = |glob: &str, why: &str| {
        let shown: String = glob.chars().take(100).collect();
        ScanError::Config(format!("{shown:?} is no usable {what} glob: {why}"))
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        if glob.len() > MAX_GLOB {
            return Err(unusable(glob, "it is longer than 1000 bytes"));
        }
        let bare = glob.trim_end_matches('/');
        let rooted = bare.trim_start_matches('/');
        if rooted.is_empty() {
            return Err(unusable(glob, "it is empty"));
        }
        let at_any_depth = !bare.contains('/');
        for suffix in ["", "/**"] {
            let prefix = if at_any_depth { "**/" } else { "" };
            let built = GlobBuilder::new(&format!("{prefix}{rooted}{suffix}"))
                .literal_separator(true)
                .build()
                .map_err(|e| unusable(glob, &e.kind().to_string()))?;
            set.add(built);
        }
    }
    set.build().map_err(|e| {
        ScanError::Config(format!("the {what} globs are together too large: {}", e.kind()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(include: &[&str], exclude: &[&str]) -> Result<Globs, ScanError> {
        let own = |list: &[&str]| list.iter().map(|g| (*g).to_owned()).collect();
        Globs::new(&ScanConfig {
            include: own(include),
            exclude: own(exclude),
            ..ScanConfig::default()
        })
    }

    #[test]
    fn wants_what_a_gitignore_would_name() {
        let g = globs(&["src/", "*.toml"], &["generated", "/src/legacy/*.py"]).unwrap();
        assert!(g.wants("src/a/b.py"));
        assert!(g.wants("deep/down/Cargo.toml"));
        assert!(!g.wants("docs/a.md"));
        assert!(!g.wants("src/generated/x.py"));
        assert!(!g.wants("src/legacy/x.py"));
        assert!(g.wants("src/legacy/sub/x.py"));
        assert!(globs(&[], &[]).unwrap().wants("anything"));
    }

    #[test]
    fn says_which_glob_is_unusable() {
        let message = globs(&[], &["a[b"]).err().unwrap().to_string();
        assert!(message.contains("a[b"), "{message}");
        assert!(globs(&["/"], &[]).is_err());
        assert!(globs(&[], &vec!["x"; MAX_GLOBS + 1]).is_err());
    }
}
