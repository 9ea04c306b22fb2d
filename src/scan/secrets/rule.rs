//! The rules of the providers: read from the embedded files, checked, compiled.
//!
//! A rule file holds providers, each with what its credentials have in common,
//! and their rules. A rule takes one of four forms:
//!
//! | keys | matches |
//! |---|---|
//! | `keywords`, `token` | the expression, standing free of further word characters |
//! | `near`, `value` | a value assigned to a name that holds a word of `near` and says key, token, secret, … |
//! | `pair`, `value` | a value within a few lines of a match of another rule of the same provider |
//! | `keywords`, `regex` | the expression; its group `value`, if any, is the secret |
//!
//! Each rule carries a `sample` (and further `hits` and `misses`) as a template, so
//! that no file of this project holds anything that looks like a live credential;
//! the tests fill it in (see `examples.rs`).

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::check::Check;
use crate::scan::model::{Confidence, EngineKind, RuleInfo, Severity};

/// The embedded rule files. Of two rules with an equal claim the earlier one wins, so
/// `payment.toml` with its short prefixes comes late.
const FILES: [(&str, &str); 7] = [
    ("cloud.toml", include_str!("rules/cloud.toml")),
    ("code.toml", include_str!("rules/code.toml")),
    ("messaging.toml", include_str!("rules/messaging.toml")),
    ("ai.toml", include_str!("rules/ai.toml")),
    ("services.toml", include_str!("rules/services.toml")),
    ("payment.toml", include_str!("rules/payment.toml")),
    ("generic.toml", include_str!("rules/generic.toml")),
];

/// Bytes of the rule files, for the digest of the rule set.
pub fn sources() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(_, text)| *text)
}

/// Why the rules cannot be used. The embedded files are tested, so a user does
/// not meet it.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The file is no TOML or has unknown or missing keys.
    #[error("the rule file {file} cannot be read: {source}")]
    Toml {
        /// Its name.
        file: &'static str,
        /// What the parser says.
        source: Box<toml::de::Error>,
    },
    /// A rule contradicts itself.
    #[error("the rule {rule} is unusable: {reason}")]
    Rule {
        /// Its id.
        rule: String,
        /// What is wrong.
        reason: String,
    },
    /// The automaton over the keywords cannot be built.
    #[error("the keywords of the secret rules cannot be compiled: {0}")]
    Keywords(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    /// First part of the rule's id.
    slug: String,
    /// As the provider writes itself.
    name: String,
    /// Where or how its credentials are revoked; goes on from "Revoke it".
    revoke: String,
    /// Where the format or the credential is documented.
    docs: Vec<String>,
    rule: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Second part of the id; also the title behind the provider's name.
    kind: String,
    title: Option<String>,
    /// What a stranger can do with it; goes on from "Whoever reads it".
    grants: Option<String>,
    #[serde(default)]
    keywords: Vec<String>,
    token: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    near: Vec<String>,
    value: Option<String>,
    /// Kind of the rule whose match has to stand nearby.
    pair: Option<String>,
    severity: Option<Severity>,
    confidence: Option<Confidence>,
    #[serde(default)]
    check: Check,
    /// Least Shannon entropy of the value, bits per byte.
    entropy: Option<f32>,
    /// What a match in a test, a sample or a document is worth.
    #[serde(default)]
    samples: Samples,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the tests"))]
    sample: String,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the tests"))]
    hits: Vec<String>,
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the tests"))]
    misses: Vec<String>,
}

/// What a match in a test, a sample or a document is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Samples {
    /// As much as anywhere: only the provider can make such a value.
    #[default]
    Keep,
    /// Tests make such values themselves: reported with low severity.
    Low,
    /// Documents and tests are full of them: not reported.
    Drop,
}

/// Which of the four forms a rule has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// The value stands for itself.
    Token,
    /// The name in front of the value tells.
    Near,
    /// Index of the rule that has to match nearby.
    Pair(usize),
    /// An expression of its own.
    Regex,
}

/// How far behind and in front of a keyword the expression has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The match begins with the keyword and has at most so many bytes.
    From(usize),
    /// The match has at most so many bytes and holds the keyword.
    Around(usize),
    /// Nobody can tell.
    File,
}

/// The longest match for which a window is used; above that the file is read.
const MAX_WINDOW: usize = 4096;

/// One rule of one provider.
#[derive(Debug)]
pub struct Rule {
    /// What users see.
    pub info: RuleInfo,
    /// Form of the rule.
    pub form: Form,
    /// Words one of which every match holds; empty for [`Form::Pair`].
    pub keywords: Vec<String>,
    /// True if the keywords count in any case.
    pub any_case: bool,
    /// Where to look.
    pub reach: Reach,
    /// Fewest bytes of a match.
    pub min_len: usize,
    /// Confidence of a match.
    pub confidence: Confidence,
    /// Structural check of the value.
    pub check: Check,
    /// Least entropy of the value.
    pub entropy: f32,
    /// What a match in a test, a sample or a document is worth.
    pub samples: Samples,
    /// True if the value has a prefix of its own behind the name of the provider:
    /// nothing is more specific.
    pub prefixed: bool,
    pattern: String,
    compiled: OnceLock<Option<Regex>>,
    /// Template and further examples.
    #[cfg(test)]
    pub examples: Examples,
}

/// What the tests fill in.
#[cfg(test)]
#[derive(Debug)]
pub struct Examples {
    /// One value.
    pub sample: String,
    /// Names that a `near` rule asks for.
    pub near: Vec<String>,
    /// Whole texts that must match.
    pub hits: Vec<String>,
    /// Whole texts that must not.
    pub misses: Vec<String>,
}

impl Rule {
    /// The compiled expression. Compiled when first needed: most files need few of
    /// the rules, and the engine has to start at once. `None` only if the
    /// expression is too large to compile, which the tests rule out.
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| {
                RegexBuilder::new(&self.pattern).unicode(false).size_limit(4 << 20).build().ok()
            })
            .as_ref()
    }

    /// The expression as text, part of nothing but tests and messages.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// Reads and checks all embedded rules, in the order of the files.
pub fn load() -> Result<Vec<Rule>, RuleError> {
    let mut rules: Vec<Rule> = Vec::new();
    for (name, text) in FILES {
        let file: File = toml::from_str(text)
            .map_err(|source| RuleError::Toml { file: name, source: Box::new(source) })?;
        for provider in &file.provider {
            for entry in &provider.rule {
                let rule = build(provider, entry, &rules)?;
                if rules.iter().any(|r| r.info.id == rule.info.id) {
                    return Err(RuleError::Rule {
                        rule: rule.info.id,
                        reason: "another rule has the same id".to_owned(),
                    });
                }
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

/// What a name says behind the word of the provider.
const SECRET_WORDS: &str = "key|token|secret|passw|pwd|auth|cred|api";

fn build(provider: &Provider, entry: &Entry, earlier: &[Rule]) -> Result<Rule, RuleError> {
    let id = format!("secrets/{}-{}", provider.slug, entry.kind);
    let fail = |reason: &str| RuleError::Rule { rule: id.clone(), reason: reason.to_owned() };
    let (form, pattern, keywords) = match entry {
        Entry { token: Some(t), regex: None, value: None, .. } => {
            (Form::Token, t.clone(), entry.keywords.clone())
        }
        Entry { regex: Some(r), token: None, value: None, .. } => {
            (Form::Regex, r.clone(), entry.keywords.clone())
        }
        Entry { value: Some(v), pair: Some(pair), token: None, regex: None, .. } => {
            let wanted = format!("secrets/{}-{pair}", provider.slug);
            let at = earlier
                .iter()
                .position(|r| r.info.id == wanted)
                .ok_or_else(|| fail("the rule of `pair` has to stand before it"))?;
            (Form::Pair(at), v.clone(), Vec::new())
        }
        Entry { value: Some(v), pair: None, token: None, regex: None, near, .. }
            if !near.is_empty() =>
        {
            let words: Vec<_> = near.iter().map(|w| regex::escape(w)).collect();
            let pattern = format!(
                r#"(?i:{})[A-Za-z0-9_.\- ]{{0,24}}(?i:{SECRET_WORDS})[A-Za-z0-9_.\- ]{{0,16}}["'`\]]{{0,2}}[ \t]{{0,8}}(?::=|=>|=|:|,)[ \t]{{0,8}}(?:[a-z]?["'`])?(?P<value>{v})"#,
                words.join("|"),
            );
            (Form::Near, pattern, near.clone())
        }
        _ => return Err(fail("it takes none of the four forms")),
    };
    if !matches!(form, Form::Pair(_)) && keywords.is_empty() {
        return Err(fail("it has no keywords"));
    }
    if keywords.iter().any(|k| k.len() < 3) {
        return Err(fail("a keyword needs three characters"));
    }
    let hir = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .parse(&pattern)
        .map_err(|e| fail(&e.to_string()))?;
    let properties = hir.properties();
    let starts_with_keyword = form == Form::Token
        && keywords
            .iter()
            .all(|k| pattern.starts_with(&regex::escape(k)) || pattern.starts_with(k));
    let reach = match properties.maximum_len() {
        Some(n) if n <= MAX_WINDOW && starts_with_keyword => Reach::From(n),
        Some(n) if n <= MAX_WINDOW => Reach::Around(n),
        _ => Reach::File,
    };
    let min_len = properties.minimum_len().unwrap_or(0);
    let title = entry
        .title
        .clone()
        .unwrap_or_else(|| format!("{} {}", provider.name, entry.kind.replace('-', " ")));
    let grants = entry.grants.clone().unwrap_or_else(|| {
        format!(
            "can use {} in the owner's name, within the rights of the credential",
            provider.name
        )
    });
    Ok(Rule {
        info: RuleInfo {
            id,
            engine: EngineKind::Secrets,
            description: format!(
                "{title}: a credential of {} is written into the file. Whoever reads it {grants}. \
                 Everyone with access to the repository, to a clone or to a build log can read it, \
                 and so can everyone who will have access later.",
                provider.name
            ),
            remediation: format!(
                "Revoke it {}, then issue a new one and hand it to the program from outside: an \
                 environment variable, a mounted file or a secret manager. Removing the line is not \
                 enough, the history keeps it.",
                provider.revoke
            ),
            title,
            severity: entry.severity.unwrap_or(Severity::High),
            cwe: vec!["CWE-798".to_owned()],
            owasp: vec!["A07:2021".to_owned()],
            references: provider.docs.clone(),
            aliases: Vec::new(),
        },
        confidence: entry.confidence.unwrap_or(match form {
            Form::Token | Form::Regex => Confidence::High,
            Form::Near | Form::Pair(_) => Confidence::Medium,
        }),
        any_case: form == Form::Near,
        form,
        keywords,
        reach,
        min_len,
        check: entry.check,
        entropy: entry.entropy.unwrap_or(2.6),
        samples: entry.samples,
        prefixed: entry.value.as_deref().is_some_and(|v| {
            v.len() > 3 && v.bytes().take(3).all(|b| b.is_ascii_alphanumeric() || b == b'_')
        }),
        pattern,
        compiled: OnceLock::new(),
        #[cfg(test)]
        examples: Examples {
            sample: entry.sample.clone(),
            near: entry.near.clone(),
            hits: entry.hits.clone(),
            misses: entry.misses.clone(),
        },
    })
}
