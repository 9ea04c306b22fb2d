//! The rule files as they are written; `README.md` beside them explains each field.

use std::collections::HashMap;

use serde::Deserialize;

use super::Labels;
use crate::scan::model::{Confidence, Severity};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    #[serde(default)]
    pub(super) source: Vec<SourceDef>,
    #[serde(default)]
    pub(super) entry: Vec<EntryDef>,
    #[serde(default)]
    pub(super) sanitizer: Vec<SanitizerDef>,
    #[serde(default)]
    pub(super) propagator: Vec<PropagatorDef>,
    #[serde(default)]
    pub(super) types: HashMap<String, String>,
    #[serde(default)]
    pub(super) configure: Vec<ConfigureDef>,
    #[serde(default)]
    pub(super) exits: Vec<String>,
    #[serde(default)]
    pub(super) rule: Vec<RuleDef>,
}

/// Where outside data enters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDef {
    /// Qualified names whose reading or calling gives outside data.
    pub(super) name: Vec<String>,
    /// What it is, for the first step of the flow.
    pub what: String,
    /// The value holds several independent inputs (all parameters of a request).
    #[serde(default)]
    pub container: bool,
    /// Classes that it may cause; empty: all.
    #[serde(default)]
    pub(super) causes: Vec<String>,
    /// The same as a set.
    #[serde(skip)]
    pub labels: Labels,
    /// The call writes it into this argument instead of giving it back.
    #[serde(default)]
    pub into: Option<usize>,
}

/// Functions that a framework calls with outside data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryDef {
    /// Decorator or annotation that makes a function an entry, `*.route`.
    #[serde(default)]
    pub annotation: Vec<String>,
    /// A name that the file has to import.
    #[serde(default)]
    pub import: Vec<String>,
    /// Names of the first parameters; alternatives separated by `|`, `*` for any.
    #[serde(default)]
    pub params: Vec<String>,
    /// Types that these parameters then have, `tainted` for outside data itself.
    #[serde(default)]
    pub types: Vec<String>,
    /// Annotation of a parameter that makes it outside data.
    #[serde(default)]
    pub param_annotation: Vec<String>,
    /// All parameters of plain types are outside data.
    #[serde(default)]
    pub all_params: bool,
    /// Parameters that the annotation's route names (`<name>`) are outside data.
    #[serde(default)]
    pub route_params: bool,
    /// What a text that the function returns becomes, a class such as `xss`.
    #[serde(default)]
    pub returns: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SanitizerDef {
    pub(super) call: Vec<String>,
    pub(super) clears: Vec<String>,
    #[serde(default)]
    pub(super) when: Vec<ConditionDef>,
    #[serde(default)]
    pub(super) unless: Vec<ConditionDef>,
}

/// Calls that pass data on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropagatorDef {
    pub(super) call: Vec<String>,
    /// Arguments whose data goes on; empty: all of them and the receiver.
    #[serde(default)]
    pub from: Vec<usize>,
    /// `return`, `receiver`, `identity` or the number of an argument.
    #[serde(default = "to_return")]
    pub to: String,
    /// Build the text of the arguments in order (formatting), so that a known
    /// beginning stays known.
    #[serde(default)]
    pub concat: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigureDef {
    pub(super) call: Vec<String>,
    #[serde(default)]
    pub(super) when: Vec<ConditionDef>,
    pub(super) becomes: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleDef {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) message: String,
    pub(super) description: String,
    pub(super) remediation: String,
    pub(super) cwe: Vec<String>,
    pub(super) owasp: Vec<String>,
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    #[serde(default)]
    pub(super) references: Vec<String>,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    #[serde(default)]
    pub(super) class: Option<String>,
    #[serde(default)]
    pub(super) tests: bool,
    #[serde(default)]
    pub(super) sink: Vec<SinkDef>,
    #[serde(default, rename = "match")]
    pub(super) matches: Vec<MatchDef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkDef {
    pub(super) call: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<usize>,
    #[serde(default)]
    pub(super) keywords: Vec<String>,
    #[serde(default)]
    pub(super) any_arg: bool,
    #[serde(default)]
    pub(super) from_arg: Option<usize>,
    #[serde(default)]
    pub(super) joined: bool,
    #[serde(default)]
    pub(super) receiver: bool,
    #[serde(default)]
    pub(super) only: Option<Shape>,
    #[serde(default)]
    pub(super) direct: bool,
    #[serde(default)]
    pub(super) when: Vec<ConditionDef>,
    #[serde(default)]
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchDef {
    #[serde(default)]
    pub(super) call: Vec<String>,
    #[serde(default)]
    pub(super) assign: Vec<String>,
    #[serde(default)]
    pub(super) object: bool,
    #[serde(default)]
    pub(super) when: Vec<ConditionDef>,
    #[serde(default)]
    pub(super) unless: Vec<ConditionDef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionDef {
    #[serde(default)]
    pub(super) arg: Option<usize>,
    #[serde(default)]
    pub(super) keyword: Option<String>,
    #[serde(default)]
    pub(super) field: Option<String>,
    #[serde(default)]
    pub(super) equals: Option<toml::Value>,
    #[serde(default)]
    pub(super) matches: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) literal: Option<bool>,
    #[serde(default)]
    pub(super) missing: Option<bool>,
    #[serde(default)]
    pub(super) context: Option<String>,
}

/// What a text has to look like for a sink to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Markup, or a text that outside data begins.
    Html,
    /// A text whose host outside data may choose.
    Host,
    /// Outside data chooses the beginning.
    Start,
    /// A list that runs a shell.
    Shell,
    /// Markup that stands in the code.
    Markup,
    /// The name of a view that redirects.
    View,
}

fn to_return() -> String {
    "return".into()
}
