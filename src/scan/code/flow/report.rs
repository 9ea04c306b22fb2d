//! Where data meets sinks and calls meet patterns.

use std::rc::Rc;

use super::super::ir::*;
use super::super::rules::{Condition, Labels, Match, Shape, Sink, Subject, Test};
use super::call::Call;
use super::eval::short;
use super::value::*;
use super::{Interpreter, State};

/// Something that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Index of the rule.
    pub rule: usize,
    /// Where.
    pub span: ByteSpan,
    /// Enclosing symbols.
    pub symbol: Name,
    /// What is called or assigned there.
    pub sink: Name,
    /// What enters, for findings by data flow.
    pub source: Option<Name>,
    /// The way, first the source; empty for patterns.
    pub flow: Vec<(ByteSpan, Name)>,
}

/// A sink at a place.
#[derive(Debug)]
pub struct SinkHit {
    /// Index of the rule.
    pub rule: usize,
    /// Where.
    pub span: ByteSpan,
    sink: Name,
    symbol: Name,
    only: Option<Shape>,
    html: bool,
}

impl SinkHit {
    /// Data at this position of the text matters.
    pub fn accepts(&self, position: Position) -> bool {
        match self.only {
            Some(Shape::Host) => position <= Position::Host,
            Some(Shape::Start) => position == Position::Start,
            Some(Shape::Html) => self.html || position == Position::Start,
            Some(Shape::Markup) => self.html,
            Some(Shape::Shell | Shape::View) | None => true,
        }
    }
}

impl Interpreter<'_> {
    /// The text of a node.
    pub(super) fn text_of(&self, id: NodeId) -> &str {
        let span = self.span_of(id);
        self.src
            .get(span.start as usize..span.end as usize)
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or_default()
    }

    /// Where a node stands.
    pub(super) fn span_of(&self, id: NodeId) -> ByteSpan {
        self.module.nodes.get(id as usize).map_or(0..0, |n| n.span.clone())
    }

    fn symbol(&self) -> Name {
        self.frames
            .iter()
            .rev()
            .filter_map(|f| self.module.functions.get(f.func as usize))
            .map(|f| f.symbol.clone())
            .find(|s| !s.is_empty())
            .unwrap_or_default()
    }

    /// Sinks and patterns of a call.
    pub(super) fn check_call(&mut self, call: &Call<'_>, st: &mut State) {
        let table = self.table;
        let exact = call.full.as_deref().and_then(|f| table.exact(f));
        let by_method = call.method.and_then(|m| table.method(m));
        for model in exact.into_iter().chain(by_method) {
            for s in &model.sinks {
                self.check_sink(s, call, st);
            }
            for m in &model.matches {
                self.check_match(m, call);
            }
        }
    }

    fn check_sink(&mut self, s: &Sink, call: &Call<'_>, st: &State) {
        if !s.when.iter().all(|c| self.holds(c, call)) {
            return;
        }
        if s.joined {
            let mut all = call.args.iter().skip(s.from_arg.unwrap_or(0)).map(|a| a.value.clone());
            let Some(first) = all.next() else { return };
            let rest: Vec<Value> = all.collect();
            let text = Self::format(&first, &rest);
            self.check_value(s, &text, call.id, st);
            return;
        }
        let mut values: Vec<&Value> = Vec::new();
        if s.receiver {
            values.push(&call.receiver);
        }
        let mut position = 0;
        for a in &call.args {
            match &a.name {
                Some(n) => {
                    if s.keywords.iter().any(|k| **k == **n) {
                        values.push(&a.value);
                    }
                }
                None => {
                    if s.args.contains(&position) || s.from_arg.is_some_and(|f| position >= f) {
                        values.push(&a.value);
                    }
                    position += 1;
                }
            }
        }
        for v in values {
            if s.fields.is_empty() {
                self.check_value(s, v, call.id, st);
            } else {
                for f in &s.fields {
                    if let Some(e) = v.element(&Key::Named(f.as_str().into())) {
                        self.check_value(s, &e, call.id, st);
                    }
                }
                if v.facts.is_some() {
                    self.check_value(s, &v.only_facts(), call.id, st);
                }
            }
        }
    }

    fn check_value(&mut self, s: &Sink, v: &Value, at: NodeId, st: &State) {
        let facts = match s.only {
            Some(Shape::Shell) => shell_facts(v),
            _ if s.direct || v.elements.is_none() => v.facts().to_vec(),
            _ => v.deep_facts(),
        };
        if facts.is_empty() {
            return;
        }
        let hit = Rc::new(SinkHit {
            rule: s.rule,
            span: self.span_of(at),
            sink: self.sink_name(at),
            symbol: self.symbol(),
            only: s.only,
            html: v.html,
        });
        for mut f in facts {
            f.labels &= s.labels & !killed(&st.kills, &f.origin);
            if f.labels == 0 || !hit.accepts(f.position) {
                continue;
            }
            self.reached(&hit, &f);
        }
    }

    fn sink_name(&self, at: NodeId) -> Name {
        let text = match self.module.nodes.get(at as usize).map(|n| &n.op) {
            Some(Op::Call { callee, .. }) => self.text_of(*callee),
            _ => self.text_of(at),
        };
        let t = short(text);
        let tail = t.char_indices().rev().nth(59).map_or(0, |(i, _)| i);
        t.get(tail..).unwrap_or(&t).into()
    }

    /// A finding by data flow.
    pub(super) fn report_flow(&mut self, hit: &Rc<SinkHit>, fact: &Fact) {
        let mut flow: Vec<(ByteSpan, Name)> =
            fact.trace.steps().into_iter().map(|s| (s.span.clone(), s.message.clone())).collect();
        let source = flow.first().map(|s| s.1.clone());
        flow.push((hit.span.clone(), format!("reaches `{}`", hit.sink).into()));
        self.record(Hit {
            rule: hit.rule,
            span: hit.span.clone(),
            symbol: hit.symbol.clone(),
            sink: hit.sink.clone(),
            source,
            flow,
        });
    }

    fn record(&mut self, hit: Hit) {
        if !self.reporting {
            return;
        }
        if self.test_code && !self.rules.rules.get(hit.rule).is_some_and(|r| r.tests) {
            return;
        }
        self.hits.entry((hit.rule, hit.span.start)).or_insert(hit);
    }

    fn found(&mut self, rule: usize, at: NodeId) {
        let hit = Hit {
            rule,
            span: self.span_of(at),
            symbol: self.symbol(),
            sink: self.sink_name(at),
            source: None,
            flow: Vec::new(),
        };
        self.record(hit);
    }

    fn check_match(&mut self, m: &Match, call: &Call<'_>) {
        if m.when.iter().all(|c| self.holds(c, call))
            && !m.unless.iter().any(|c| self.holds(c, call))
        {
            self.found(m.rule, call.id);
        }
    }

    pub(super) fn holds(&self, c: &Condition, call: &Call<'_>) -> bool {
        let value = match &c.subject {
            Subject::Context(r) => return r.is_match(&self.surroundings(call.id)),
            Subject::Arg(position, keyword) => {
                let by_name = keyword.as_deref().and_then(|k| call.keyword(k));
                by_name.or_else(|| position.and_then(|p| call.arg(p)))
            }
        };
        test(c, value)
    }

    /// The line of a node and the name of the function that it stands in.
    fn surroundings(&self, id: NodeId) -> String {
        let span = self.span_of(id);
        let before = self.src.get(..span.start as usize).unwrap_or_default();
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let after = self.src.get(span.end as usize..).unwrap_or_default();
        let end = span.end as usize
            + after.iter().position(|b| *b == b'\n').unwrap_or(after.len()).min(200);
        let start = start.max((span.start as usize).saturating_sub(200));
        let line = self.src.get(start..end).unwrap_or_default();
        let symbol = self.symbol();
        let own = symbol.rsplit('.').next().unwrap_or_default();
        format!("{own} {}", String::from_utf8_lossy(line))
    }

    /// Assignments that are sinks or settings.
    pub(super) fn check_assign(&mut self, id: NodeId, place: &Place, v: &Value, st: &mut State) {
        let name: Name = match place {
            Place::Var(x) => match self.module.vars.get(*x as usize) {
                Some(x) => x.name.clone(),
                None => return,
            },
            Place::Field(_, n) => n.clone(),
            Place::Index(_, k) => match self.module.nodes.get(*k as usize).map(|n| &n.op) {
                Some(Op::Lit(Const::Str(s))) => s.clone(),
                _ => return,
            },
            _ => return,
        };
        let table = self.table;
        for m in table.assigns.get(&*name).into_iter().flatten() {
            let ok = |c: &Condition| match &c.subject {
                Subject::Context(r) => r.is_match(&self.surroundings(id)),
                Subject::Arg(..) => test(c, Some(v)),
            };
            if m.when.iter().all(ok) && !m.unless.iter().any(ok) {
                self.found(m.rule, id);
            }
        }
        if let Place::Field(object, n) = place {
            let key = format!("{n}=");
            let receiver = self.eval(*object, st);
            let full = receiver.name.as_ref().map(|r| format!("{r}.{key}"));
            let models =
                full.as_deref().and_then(|f| table.exact(f)).into_iter().chain(table.method(&key));
            for model in models {
                for s in &model.sinks {
                    self.check_value(s, v, id, st);
                }
            }
        }
    }

    /// Object literals that are settings wherever they are passed.
    pub(super) fn check_object(&mut self, id: NodeId, v: &Value) {
        let table = self.table;
        for m in &table.objects {
            let ok = |c: &Condition| match &c.subject {
                Subject::Context(r) => r.is_match(&self.surroundings(id)),
                Subject::Arg(..) => test(c, Some(v)),
            };
            if m.when.iter().all(ok) && !m.unless.iter().any(ok) {
                self.found(m.rule, id);
            }
        }
    }

    /// A text that a handler returns is the response.
    pub(super) fn check_response(&mut self, v: &Value, span: &ByteSpan, st: &State) {
        let labels: Labels = self.frames.last().map_or(0, |f| f.response);
        if labels == 0 || v.facts.is_none() {
            return;
        }
        let table = self.table;
        let Some(model) = table.exact("response") else {
            return;
        };
        for s in &model.sinks {
            if s.only == Some(Shape::View) {
                let text = v.text_prefix();
                let target = text.strip_prefix("redirect:").unwrap_or("/");
                if !target.trim_end_matches(HOLE).is_empty() {
                    continue;
                }
            }
            let hit = Rc::new(SinkHit {
                rule: s.rule,
                span: span.clone(),
                sink: "the response".into(),
                symbol: self.symbol(),
                only: s.only,
                html: v.html,
            });
            for f in v.facts() {
                let mut f = f.clone();
                f.labels &= labels & s.labels & !killed(&st.kills, &f.origin);
                if f.labels != 0 && hit.accepts(f.position) {
                    self.reached(&hit, &f);
                }
            }
        }
    }
}

fn test(c: &Condition, value: Option<&Value>) -> bool {
    let element;
    let value = match (&c.field, value) {
        (Some(path), Some(v)) => {
            let mut at = Some(v.clone());
            for name in path.split('.') {
                let Some(object) = at else { break };
                at = object.element(&Key::Named(name.into()));
                if at.is_none() && object.elements.is_none() {
                    // An object that is not seen here may have the field.
                    return matches!(c.test, Test::Missing(false));
                }
            }
            element = at;
            element.as_ref()
        }
        (_, v) => v,
    };
    match (&c.test, value) {
        (Test::Missing(m), v) => v.is_none() == *m,
        (_, None) => false,
        (Test::Equals(all), Some(v)) => v.constant.as_ref().is_some_and(|c| {
            all.iter().any(|a| match (a, c) {
                (Const::Str(a), Const::Str(c)) => a.eq_ignore_ascii_case(c),
                (a, c) => a == c,
            })
        }),
        (Test::Matches(r), Some(v)) => {
            v.constant.as_ref().and_then(Const::as_str).is_some_and(|s| r.is_match(s))
        }
        (Test::Named(r), Some(v)) => v.name.as_deref().is_some_and(|n| r.is_match(n)),
        (Test::Literal(l), Some(v)) => v.constant.is_some() == *l,
        (Test::Any, Some(_)) => true,
    }
}

/// Facts behind `sh -c` in a list of arguments.
fn shell_facts(v: &Value) -> Vec<Fact> {
    let Some(e) = v.elements.as_deref() else {
        return Vec::new();
    };
    let text = |i: i64| e.known.get(&Key::At(i)).and_then(|v| v.constant.as_ref()?.as_str());
    let Some(program) = text(0) else {
        // Data that is the program itself.
        return e.known.get(&Key::At(0)).map(|v| v.facts().to_vec()).unwrap_or_default();
    };
    let base = program.rsplit(['/', '\\']).next().unwrap_or(program).trim_end_matches(".exe");
    let shell =
        matches!(base, "sh" | "bash" | "zsh" | "dash" | "ksh" | "cmd" | "powershell" | "pwsh");
    if !shell {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (_, v) in e.known.iter().filter(|(k, _)| **k > Key::At(0)) {
        merge_facts(&mut out, v.facts());
    }
    out
}

/// Types whose values cannot carry an attack.
pub(super) fn is_scalar_type(ty: Option<&str>) -> bool {
    matches!(
        ty,
        Some(
            "int"
                | "float"
                | "bool"
                | "complex"
                | "number"
                | "boolean"
                | "bigint"
                | "long"
                | "short"
                | "byte"
                | "double"
                | "char"
                | "Integer"
                | "Long"
                | "Short"
                | "Byte"
                | "Double"
                | "Float"
                | "Boolean"
                | "Character"
                | "UUID"
                | "java.util.UUID"
                | "uuid.UUID"
                | "int8"
                | "int16"
                | "int32"
                | "int64"
                | "uint"
                | "uint8"
                | "uint16"
                | "uint32"
                | "uint64"
                | "float32"
                | "float64"
                | "rune"
                | "time.Duration"
                | "time.Time"
                | "datetime.date"
                | "datetime.datetime"
                | "date"
                | "datetime"
                | "Date"
                | "java.time.LocalDate"
                | "java.math.BigDecimal"
                | "java.math.BigInteger"
                | "LocalDate"
                | "BigDecimal"
                | "Decimal"
                | "decimal.Decimal"
        )
    )
}

/// A digest that is stable within a run.
pub(super) fn digest(text: &str) -> u64 {
    // FNV-1a: short texts, no adversary, no need for more.
    text.bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
