//! Engines, severities, confidences: ordered words.

use crate::words::words;

words! {
    /// One of the three engines, in the order in which they run.
    EngineKind: "engine" {
        /// Credentials in files and in the history.
        Secrets = "secrets",
        /// Weaknesses in the code itself.
        Code = "code",
        /// Known vulnerabilities in what the code is built from.
        Dependencies = "dependencies",
    }
}

words! {
    /// How bad it is if the finding is right. Ordered: `Info < Low < … < Critical`.
    Severity: "severity" {
        /// Worth knowing, nothing to repair.
        Info = "info",
        /// Harm needs unusual circumstances.
        Low = "low",
        /// Harm is likely in some deployments.
        Medium = "medium",
        /// Harm is likely.
        High = "high",
        /// Harm is immediate: a live credential, code execution from outside.
        Critical = "critical",
    }
}

impl Severity {
    /// From worst to least.
    pub const WORST_FIRST: [Self; 5] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];
}

words! {
    /// How sure the engine is that the finding is right.
    Confidence: "confidence" {
        /// A hint.
        Low = "low",
        /// More likely right than wrong.
        Medium = "medium",
        /// Checked by structure or by data flow.
        High = "high",
    }
}

words! {
    /// How loud an event is.
    Level: "level" {
        /// As planned.
        Info = "info",
        /// Something was left out.
        Warning = "warning",
        /// Something failed.
        Error = "error",
    }
}
