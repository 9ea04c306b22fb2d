//! The rules: what enters, what cleans, what passes on, and what must not be
//! reached.
//!
//! Rules are data, in one TOML file per language beside this module
//! (`rules/README.md` documents the format). They are compiled once into hash
//! tables keyed by qualified callee, so that a call costs a look-up however many
//! rules there are.

mod format;

use std::collections::{HashMap, HashSet};

use regex::Regex;

use self::format::{ConditionDef, RuleDef, RuleFile};
pub use self::format::{EntryDef, PropagatorDef, Shape, SourceDef};
use super::ir::Const;
use crate::scan::model::{Confidence, EngineKind, RuleInfo};

/// Front ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Python.
    Python,
    /// JavaScript and TypeScript.
    JavaScript,
    /// Java.
    Java,
    /// Go.
    Go,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Python, Self::JavaScript, Self::Java, Self::Go];
}

/// The embedded rule files.
pub const FILES: [(&str, &str); 5] = [
    ("python", include_str!("rules/python.toml")),
    ("javascript", include_str!("rules/javascript.toml")),
    ("java", include_str!("rules/java.toml")),
    ("go", include_str!("rules/go.toml")),
    ("config", include_str!("rules/config.toml")),
];

/// Set of weakness classes that a value may still cause.
pub type Labels = u32;

/// Every class.
pub const ALL_LABELS: Labels = (1 << CLASSES.len()) - 1;

/// Names of the classes, as rule files write them; the position is the bit.
pub const CLASSES: [&str; 16] = [
    "sql",
    "command",
    "path",
    "code",
    "xss",
    "template",
    "ssrf",
    "redirect",
    "xxe",
    "deserialize",
    "ldap",
    "xpath",
    "log",
    "header",
    "prototype",
    "regex",
];

/// The bit of a class by name; zero for an unknown one.
pub fn label(name: &str) -> Labels {
    if name == "all" {
        return ALL_LABELS;
    }
    CLASSES.iter().position(|c| *c == name).map_or(0, |i| 1 << i)
}

/// Why a rule file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not the documented format.
    #[error("rule file {file}: {error}")]
    Format {
        /// Name of the file.
        file: String,
        /// What the TOML reader says.
        error: Box<toml::de::Error>,
    },
    /// The format is right, a value is not.
    #[error("rule {rule}: {problem}")]
    Rule {
        /// Id of the rule.
        rule: String,
        /// What is wrong, as a sentence.
        problem: String,
    },
}

/// A call after which its receiver is something else to the rules.
#[derive(Debug)]
pub struct Configure {
    /// All must hold.
    pub when: Vec<Condition>,
    /// Name of the receiver from then on.
    pub becomes: String,
}

/// A compiled sink.
#[derive(Debug)]
pub struct Sink {
    /// Index of the rule.
    pub rule: usize,
    /// Classes that it suffers from.
    pub labels: Labels,
    /// Positions that must stay clean.
    pub args: Vec<usize>,
    /// Names of arguments that must stay clean.
    pub keywords: Vec<String>,
    /// Every argument counts, from this position on.
    pub from_arg: Option<usize>,
    /// The arguments from there on are one text, the first its format.
    pub joined: bool,
    /// The receiver counts.
    pub receiver: bool,
    /// Restriction on the text.
    pub only: Option<Shape>,
    /// Only the value itself, not what it contains.
    pub direct: bool,
    /// Further conditions on the call.
    pub when: Vec<Condition>,
    /// Only these elements of the argument count.
    pub fields: Vec<String>,
}

/// A compiled pattern without data flow.
#[derive(Debug)]
pub struct Match {
    /// Index of the rule.
    pub rule: usize,
    /// All must hold.
    pub when: Vec<Condition>,
    /// None may hold.
    pub unless: Vec<Condition>,
}

/// Which value of a call a condition asks about.
#[derive(Debug)]
pub enum Subject {
    /// Argument by position, or by either name or position.
    Arg(Option<usize>, Option<String>),
    /// The text around the call.
    Context(Regex),
}

/// A question about a call.
#[derive(Debug)]
pub struct Condition {
    /// About what.
    pub subject: Subject,
    /// An element of it.
    pub field: Option<String>,
    /// What is asked.
    pub test: Test,
}

/// What is asked of a value.
#[derive(Debug)]
pub enum Test {
    /// Is this constant (strings without regard to case).
    Equals(Vec<Const>),
    /// Is a constant text that matches.
    Matches(Regex),
    /// Comes from something whose qualified name matches.
    Named(Regex),
    /// Is a constant, or not.
    Literal(bool),
    /// Is not given, or is.
    Missing(bool),
    /// Only the subject matters.
    Any,
}

/// A sanitizer that depends on how it is called. The data goes through it as
/// through any other call, only the classes are gone from the result.
#[derive(Debug)]
pub struct Clean {
    /// All must hold.
    pub when: Vec<Condition>,
    /// None may hold.
    pub unless: Vec<Condition>,
    /// What the result is clean of.
    pub labels: Labels,
}

/// Everything that is known of one qualified name.
#[derive(Debug, Default)]
pub struct Model {
    /// It is a source.
    pub source: Option<SourceDef>,
    /// Classes that its result is clean of.
    pub clears: Labels,
    /// Classes that its result is clean of if it is called in a certain way.
    pub cleans: Vec<Clean>,
    /// It passes data on.
    pub propagates: Vec<PropagatorDef>,
    /// Type of its result.
    pub ty: Option<String>,
    /// It changes what its receiver is.
    pub configures: Vec<Configure>,
    /// It does not come back.
    pub exits: bool,
    /// Sinks.
    pub sinks: Vec<Sink>,
    /// Patterns.
    pub matches: Vec<Match>,
}

/// A rule without its models.
#[derive(Debug)]
pub struct Rule {
    /// What the world sees.
    pub info: RuleInfo,
    /// Of a finding; `{source}` and `{sink}` are replaced.
    pub message: String,
    /// How sure.
    pub confidence: Confidence,
    /// Applies to test code too.
    pub tests: bool,
}

/// The compiled rules of one language.
#[derive(Debug, Default)]
pub struct Table {
    exact: HashMap<String, Model>,
    by_method: HashMap<String, Model>,
    /// Assignments: last component of the target.
    pub assigns: HashMap<String, Vec<Match>>,
    /// Objects with certain fields, whatever they are passed to.
    pub objects: Vec<Match>,
    /// Entry points.
    pub entries: Vec<EntryDef>,
    types: HashSet<String>,
}

impl Table {
    /// What is known of a qualified name itself.
    pub fn exact(&self, name: &str) -> Option<&Model> {
        self.exact.get(name)
    }

    /// What is known of a method whatever its receiver.
    pub fn method(&self, name: &str) -> Option<&Model> {
        self.by_method.get(name)
    }

    /// Some model speaks of members of this type.
    pub fn knows_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    fn at(&mut self, pattern: &str) -> &mut Model {
        if let Some(m) = pattern.strip_prefix("*.") {
            return self.by_method.entry(m.to_string()).or_default();
        }
        if let Some(class) = pattern.strip_prefix("new ") {
            self.types.insert(class.to_string());
        }
        let mut rest = pattern;
        while let Some((head, _)) = rest.rsplit_once('.') {
            self.types.insert(head.to_string());
            rest = head;
        }
        self.exact.entry(pattern.to_string()).or_default()
    }
}

/// All compiled rules.
#[derive(Debug)]
pub struct Rules {
    /// By index.
    pub rules: Vec<Rule>,
    /// By language, in the order of [`Language::ALL`].
    tables: Vec<Table>,
    ids: HashMap<String, usize>,
}

impl Rules {
    /// Compiles the embedded rules.
    pub fn embedded() -> Result<Self, RuleError> {
        let mut out = Self { rules: Vec::new(), tables: Vec::new(), ids: HashMap::new() };
        for (name, text) in FILES {
            let file: RuleFile = toml::from_str(text)
                .map_err(|e| RuleError::Format { file: name.to_string(), error: Box::new(e) })?;
            let table = out.compile(file)?;
            out.tables.push(table);
        }
        Ok(out)
    }

    /// The rules of a language.
    pub fn table(&self, language: Language) -> Option<&Table> {
        let at = Language::ALL.iter().position(|l| *l == language)?;
        self.tables.get(at)
    }

    /// A rule's index by id.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.ids.get(id).copied()
    }

    fn compile(&mut self, file: RuleFile) -> Result<Table, RuleError> {
        let mut t = Table { entries: file.entry, ..Table::default() };
        for mut s in file.source {
            s.labels = s.causes.iter().fold(0, |a, c| a | label(c));
            if s.causes.is_empty() {
                s.labels = ALL_LABELS;
            }
            for n in &s.name {
                t.at(n).source = Some(s.clone());
            }
        }
        for s in file.sanitizer {
            let mut bits = 0;
            for c in &s.clears {
                match label(c) {
                    0 => {
                        return Err(RuleError::Rule {
                            rule: format!("sanitizer {}", s.call.join(", ")),
                            problem: format!("{c:?} is no class of weakness"),
                        });
                    }
                    b => bits |= b,
                }
            }
            for c in &s.call {
                if s.when.is_empty() && s.unless.is_empty() {
                    t.at(c).clears |= bits;
                    continue;
                }
                let when = conditions(&s.when, c)?;
                let unless = conditions(&s.unless, c)?;
                t.at(c).cleans.push(Clean { when, unless, labels: bits });
            }
        }
        for p in file.propagator {
            for c in &p.call {
                t.at(c).propagates.push(p.clone());
            }
        }
        for c in file.configure {
            for call in &c.call {
                let when = conditions(&c.when, call)?;
                t.at(call).configures.push(Configure { when, becomes: c.becomes.clone() });
            }
        }
        for (call, ty) in file.types {
            t.at(&call).ty = Some(ty.clone());
            t.types.insert(ty);
        }
        for c in file.exits {
            t.at(&c).exits = true;
        }
        for r in file.rule {
            self.compile_rule(r, &mut t)?;
        }
        Ok(t)
    }

    fn compile_rule(&mut self, r: RuleDef, t: &mut Table) -> Result<(), RuleError> {
        let at = self.rules.len();
        let fail = |problem: String| RuleError::Rule { rule: r.id.clone(), problem };
        if self.ids.insert(r.id.clone(), at).is_some() {
            return Err(fail("the id is taken by another rule".into()));
        }
        let labels = r.class.as_deref().map_or(0, label);
        if labels == 0 && !r.sink.is_empty() {
            return Err(fail("a rule with sinks needs a known `class`".into()));
        }
        for s in r.sink {
            for c in &s.call {
                let sink = Sink {
                    rule: at,
                    labels,
                    args: s.args.clone(),
                    keywords: s.keywords.clone(),
                    from_arg: if s.any_arg { Some(0) } else { s.from_arg },
                    joined: s.joined,
                    receiver: s.receiver,
                    only: s.only,
                    direct: s.direct,
                    when: conditions(&s.when, &r.id)?,
                    fields: s.fields.clone(),
                };
                t.at(c).sinks.push(sink);
            }
        }
        for m in r.matches {
            let make = || -> Result<Match, RuleError> {
                Ok(Match {
                    rule: at,
                    when: conditions(&m.when, &r.id)?,
                    unless: conditions(&m.unless, &r.id)?,
                })
            };
            for c in &m.call {
                t.at(c).matches.push(make()?);
            }
            for a in &m.assign {
                t.assigns.entry(a.clone()).or_default().push(make()?);
            }
            if m.object {
                t.objects.push(make()?);
            }
        }
        self.rules.push(Rule {
            info: RuleInfo {
                id: r.id,
                engine: EngineKind::Code,
                title: r.title,
                description: r.description,
                remediation: r.remediation,
                severity: r.severity,
                cwe: r.cwe,
                owasp: r.owasp,
                references: r.references,
                aliases: r.aliases,
            },
            message: r.message,
            confidence: r.confidence,
            tests: r.tests,
        });
        Ok(())
    }
}

fn conditions(defs: &[ConditionDef], rule: &str) -> Result<Vec<Condition>, RuleError> {
    let fail = |problem: String| RuleError::Rule { rule: rule.to_string(), problem };
    let regex = |s: &str| Regex::new(s).map_err(|e| fail(e.to_string()));
    let mut out = Vec::new();
    for d in defs {
        let subject = match &d.context {
            Some(c) => Subject::Context(regex(c)?),
            None => Subject::Arg(d.arg, d.keyword.clone()),
        };
        let test = if let Some(v) = &d.equals {
            let one = |v: &toml::Value| match v {
                toml::Value::Boolean(b) => Ok(Const::Bool(*b)),
                toml::Value::Integer(i) => Ok(Const::Int(*i)),
                toml::Value::String(s) if s == "null" => Ok(Const::Null),
                toml::Value::String(s) => Ok(Const::Str(s.as_str().into())),
                _ => Err(fail("`equals` takes a truth value, a number, a text or a list".into())),
            };
            Test::Equals(match v {
                toml::Value::Array(a) => a.iter().map(one).collect::<Result<_, _>>()?,
                v => vec![one(v)?],
            })
        } else if let Some(m) = &d.matches {
            Test::Matches(regex(m)?)
        } else if let Some(m) = &d.name {
            Test::Named(regex(m)?)
        } else if let Some(l) = d.literal {
            Test::Literal(l)
        } else if let Some(m) = d.missing {
            Test::Missing(m)
        } else if d.context.is_some() {
            Test::Any
        } else {
            return Err(fail("a condition asks nothing: give `equals`, `matches`, `name`, `literal` or `missing`".into()));
        };
        out.push(Condition { subject, field: d.field.clone(), test });
    }
    Ok(out)
}
