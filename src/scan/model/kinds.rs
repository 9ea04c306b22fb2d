//! Engines, severities, confidences: ordered words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the three engines.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Credentials in files and in the history.
    Secrets,
    /// Weaknesses in the code itself.
    Code,
    /// Known vulnerabilities in what the code is built from.
    Dependencies,
}

impl EngineKind {
    /// All engines, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Secrets, Self::Code, Self::Dependencies];

    /// The name used in configuration, API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Code => "code",
            Self::Dependencies => "dependencies",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad it is if the finding is right. Ordered: `Info < Low < … < Critical`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, nothing to repair.
    Info,
    /// Harm needs unusual circumstances.
    Low,
    /// Harm is likely in some deployments.
    Medium,
    /// Harm is likely.
    High,
    /// Harm is immediate: a live credential, code execution from outside.
    Critical,
}

impl Severity {
    /// From worst to least.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    /// The name used in configuration, API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Severity {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|v| v.as_str() == s)
            .ok_or_else(|| format!("{s:?} is no severity: use critical, high, medium, low or info"))
    }
}

/// How sure the engine is that the finding is right.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A hint.
    Low,
    /// More likely right than wrong.
    Medium,
    /// Checked by structure or by data flow.
    High,
}

impl Confidence {
    /// The name used in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}
