//! The abstract interpreter: constants, types, elements and outside data in one
//! forward pass over structured code.
//!
//! Every function is interpreted once, callees first, with symbolic parameters;
//! what it returns, stores and lets reach a sink is its [`Summary`], and a call
//! applies the summary to the arguments. Functions within functions are
//! interpreted in place, so that they see what they capture.
//!
//! Invariants: states are joined where branches meet, so a fact that survives one
//! branch survives; a guard removes labels from an *origin*, so that everything
//! derived from the tested input is covered; loops run at most [`ROUNDS`] times,
//! constants that change in them are lost by the join.

mod call;
mod containers;
mod eval;
mod report;
mod state;
mod value;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::ir::*;
use super::lower::Deadline;
use super::rules::{ALL_LABELS, Labels, Rules, Table, label};
pub use report::Hit;
use state::State;
use value::*;

/// Rounds of a loop after which its state is taken as stable.
const ROUNDS: usize = 2;
/// Longest access path of a parameter.
pub(super) const MAX_PATH: usize = 3;
/// Deepest interpretation of nested functions in place.
const MAX_INLINE: usize = 4;
/// Most evaluations of one function, nested ones included.
const MAX_STEPS_FUNCTION: u64 = 200_000;
/// Most evaluations of one file.
const MAX_STEPS_FILE: u64 = 20_000_000;

/// Data of a parameter that reaches a sink.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    origin: Origin,
    labels: Labels,
    position: Position,
    trace: Rc<Trace>,
    hit: Rc<report::SinkHit>,
}

/// What a function does, as far as callers care.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    result: Value,
    this: Option<Value>,
    params: Vec<Option<Value>>,
    pending: Vec<Pending>,
    returns: bool,
}

/// The function that is being interpreted.
struct Frame {
    func: FuncId,
    result: Option<Value>,
    /// States at the returns, for effects on receiver and arguments.
    ends: Vec<State>,
    breaks: Vec<Vec<State>>,
    continues: Vec<Vec<State>>,
    /// Class that a returned text causes.
    response: Labels,
}

/// Interprets one file.
pub struct Interpreter<'m> {
    module: &'m Module,
    table: &'m Table,
    rules: &'m Rules,
    src: &'m [u8],
    deadline: &'m Deadline,
    globals: HashMap<VarId, Value>,
    class_base: Vec<Value>,
    summaries: Vec<Option<Rc<Summary>>>,
    frames: Vec<Frame>,
    pending: Vec<Pending>,
    hits: HashMap<(usize, u32), Hit>,
    /// Findings are kept, lambdas run.
    reporting: bool,
    steps: u64,
    steps_file: u64,
    inline: usize,
    /// Of the assignment that is being made, for sources within patterns.
    last_span: ByteSpan,
    cut_steps: bool,
    test_code: bool,
}

/// Interprets a file and gives what was found, by place.
pub fn run<'m>(
    module: &'m Module,
    table: &'m Table,
    rules: &'m Rules,
    src: &'m [u8],
    deadline: &'m Deadline,
    test_code: bool,
) -> (Vec<Hit>, Vec<String>) {
    let mut i = Interpreter {
        module,
        table,
        rules,
        src,
        deadline,
        globals: HashMap::new(),
        class_base: vec![Value::default(); module.classes.len()],
        summaries: vec![None; module.functions.len()],
        frames: Vec::new(),
        pending: Vec::new(),
        hits: HashMap::new(),
        reporting: false,
        steps: 0,
        steps_file: 0,
        inline: 0,
        last_span: 0..0,
        cut_steps: false,
        test_code,
    };
    i.module_state();
    i.reporting = true;
    i.classes();
    for f in i.order() {
        i.function(f);
    }
    i.module_state();
    let mut cut = Vec::new();
    if i.cut_steps {
        cut.push("Some code is so entangled that its analysis was cut short.".to_string());
    }
    let mut hits: Vec<Hit> = i.hits.into_values().collect();
    // What data flow says more about needs no second word by a pattern.
    let flows: HashSet<u32> = hits
        .iter()
        .filter(|h| !h.flow.is_empty())
        .map(|h| h.span.start)
        .collect();
    hits.retain(|h| !h.flow.is_empty() || !flows.contains(&h.span.start));
    hits.sort_by_key(|h| (h.span.start, h.rule));
    (hits, cut)
}

impl Interpreter<'_> {
    /// Interprets the module's own code; what its variables hold then is what
    /// functions see.
    fn module_state(&mut self) {
        let Some(f) = self.module.functions.first() else {
            return;
        };
        self.steps = 0;
        self.pending.clear();
        let mut st = State::new();
        self.frames.push(Frame::new(0));
        self.block(&f.body, &mut st);
        self.frames.pop();
        let mut vars = st.into_vars();
        for (v, value) in &mut vars {
            let often = self
                .module
                .vars
                .get(*v as usize)
                .is_none_or(|v| v.assignments > 1);
            if often {
                value.constant = None;
                value.prefix = None;
            }
        }
        self.globals = vars;
    }

    /// What fields hold before a method runs: initialisers, then the constructor.
    fn classes(&mut self) {
        for (id, class) in self.module.classes.iter().enumerate() {
            let mut base = Value {
                kind: Kind::Instance(id as ClassId),
                ..Value::default()
            };
            base.name = class.bases.first().cloned();
            self.steps = 0;
            let mut st = State::new();
            st.this = base;
            self.frames.push(Frame::new(0));
            self.block(&class.init, &mut st);
            self.frames.pop();
            if let Some(slot) = self.class_base.get_mut(id) {
                *slot = st.this;
            }
            for name in ["__init__", "constructor", "<init>"] {
                for f in class.methods.get(name).into_iter().flatten() {
                    self.function(*f);
                    let made = self.summaries.get(*f as usize).and_then(|s| s.clone());
                    if let (Some(s), Some(slot)) = (made, self.class_base.get_mut(id))
                        && let Some(this) = &s.this
                    {
                        // What a caller passes is not known to the other methods.
                        *slot = forget_params(this, &[]);
                    }
                }
            }
            if let Some(slot) = self.class_base.get_mut(id)
                && let Some(e) = &mut slot.elements
            {
                // A field that methods may change keeps no constant.
                for (k, v) in &mut Rc::make_mut(e).known {
                    let fixed = matches!(k, Key::Named(n) if class.constants.contains(n));
                    if !fixed {
                        v.constant = None;
                        v.prefix = None;
                    }
                }
            }
        }
    }

    /// Callees before callers, as far as there is such an order.
    fn order(&self) -> Vec<FuncId> {
        let mut by_name: HashMap<&str, Vec<FuncId>> = HashMap::new();
        for (i, f) in self.module.functions.iter().enumerate().skip(1) {
            if !f.nested && !f.name.is_empty() {
                by_name.entry(&f.name).or_default().push(i as FuncId);
            }
        }
        for (id, c) in self.module.classes.iter().enumerate() {
            let made = self
                .module
                .functions
                .iter()
                .enumerate()
                .filter(|(_, f)| f.class == Some(id as ClassId))
                .filter(|(_, f)| matches!(&*f.name, "__init__" | "constructor" | "<init>"));
            by_name
                .entry(&c.name)
                .or_default()
                .extend(made.map(|(i, _)| i as FuncId));
        }
        let mut done = vec![false; self.module.functions.len()];
        let mut out = Vec::new();
        for start in 1..self.module.functions.len() {
            let mut stack = vec![(start as FuncId, false)];
            while let Some((f, leaving)) = stack.pop() {
                if leaving {
                    out.push(f);
                    continue;
                }
                let Some(d) = done.get_mut(f as usize) else {
                    continue;
                };
                if std::mem::replace(d, true) {
                    continue;
                }
                let Some(func) = self.module.functions.get(f as usize) else {
                    continue;
                };
                stack.push((f, true));
                for m in &func.mentions {
                    for callee in by_name.get(&**m).into_iter().flatten() {
                        if !done.get(*callee as usize).copied().unwrap_or(true) {
                            stack.push((*callee, false));
                        }
                    }
                }
            }
        }
        // Nested functions are interpreted where they stand.
        out.retain(|f| {
            self.module
                .functions
                .get(*f as usize)
                .is_some_and(|f| !f.nested && !f.name.is_empty())
        });
        out
    }

    /// Interprets a function with symbolic parameters and keeps its summary.
    fn function(&mut self, id: FuncId) {
        if self.summaries.get(id as usize).is_none_or(Option::is_some) || self.over() {
            return;
        }
        let Some(f) = self.module.functions.get(id as usize) else {
            return;
        };
        self.steps = 0;
        let mut st = State::new();
        if let Some(c) = f.class
            && f.has_receiver
        {
            st.this = self.class_base.get(c as usize).cloned().unwrap_or_default();
            st.this.set_facts(vec![Self::param_fact(0, f)]);
        }
        for (i, p) in f.params.iter().enumerate() {
            let mut v = Value {
                name: p.ty.as_ref().map(|t| self.canonical(t)),
                ..Value::default()
            };
            if !report::is_scalar_type(p.ty.as_deref()) {
                v.set_facts(vec![Self::param_fact(i + 1, f)]);
            }
            if let Some(c) = self.class_named(p.ty.as_deref()) {
                v.kind = Kind::Instance(c);
            }
            st.set(p.var, v);
        }
        let response = self.bind_entry(f, &mut st, &[]);
        let outer = std::mem::take(&mut self.pending);
        let mut frame = Frame::new(id);
        frame.response = response;
        self.frames.push(frame);
        self.block(&f.body, &mut st);
        let frame = self.frames.pop();
        let pending = std::mem::replace(&mut self.pending, outer);
        let Some(mut frame) = frame else { return };
        if st.live {
            frame.ends.push(st);
        }
        let returns = !frame.ends.is_empty();
        let end = frame.ends.into_iter().reduce(|a, b| self.join_states(a, b));
        let mut s = Summary {
            result: frame.result.unwrap_or_default(),
            pending,
            returns,
            ..Summary::default()
        };
        if let Some(end) = end {
            s.this = f.has_receiver.then(|| end.this.clone());
            for p in &f.params {
                let reassigned = self
                    .module
                    .vars
                    .get(p.var as usize)
                    .is_none_or(|v| v.assignments > 0);
                let v = end
                    .get(p.var)
                    .filter(|v| v.elements.is_some() && !reassigned);
                s.params.push(v.cloned());
            }
        }
        if let Some(slot) = self.summaries.get_mut(id as usize) {
            *slot = Some(Rc::new(s));
        }
    }

    fn param_fact(i: usize, f: &Function) -> Fact {
        let (name, span) = match i.checked_sub(1).and_then(|i| f.params.get(i)) {
            Some(p) => (
                format!("parameter `{}`", p.name),
                f.span.start..f.span.start,
            ),
            None => ("the receiver".to_string(), f.span.start..f.span.start),
        };
        Fact {
            origin: Origin::Param(i.min(255) as u8, Rc::from([])),
            labels: ALL_LABELS,
            container: false,
            position: Position::Start,
            trace: Trace::step(None, span, name.into()),
        }
    }

    fn class_named(&self, ty: Option<&str>) -> Option<ClassId> {
        let ty = ty?;
        self.module
            .classes
            .iter()
            .position(|c| &*c.name == ty)
            .map(|i| i as ClassId)
    }

    fn over(&mut self) -> bool {
        if self.steps > MAX_STEPS_FUNCTION || self.steps_file > MAX_STEPS_FILE {
            self.cut_steps = true;
            return true;
        }
        false
    }

    /// Counts one evaluation; false if the budget is used up.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.steps_file += 1;
        if self.steps_file.is_multiple_of(1024) && self.deadline.is_over() {
            self.steps_file = MAX_STEPS_FILE + 1;
        }
        !self.over()
    }

    fn block(&mut self, stmts: &[Stmt], st: &mut State) {
        for s in stmts {
            if !st.live || !self.step() {
                return;
            }
            self.stmt(s, st);
        }
    }

    fn stmt(&mut self, s: &Stmt, st: &mut State) {
        match s {
            Stmt::Eval(n) => {
                self.eval(*n, st);
            }
            Stmt::If(c, then, otherwise) => {
                let v = self.eval(*c, st);
                match v.constant.as_ref().map(Const::truthy) {
                    Some(true) => self.block(then, st),
                    Some(false) => self.block(otherwise, st),
                    None => {
                        let mut other = st.clone();
                        if let Some(g) = &v.guard {
                            st.kills.extend(g.yes.iter().cloned());
                            other.kills.extend(g.no.iter().cloned());
                        }
                        self.block(then, st);
                        self.block(otherwise, &mut other);
                        let a = std::mem::replace(st, State::new());
                        *st = self.join_states(a, other);
                    }
                }
            }
            Stmt::Loop {
                cond,
                body,
                step,
                post,
            } => self.repeat(*cond, body, step, *post, st),
            Stmt::Switch(subject, cases) => self.switch(*subject, cases, st),
            Stmt::Return(v, span) => {
                let value = v
                    .map(|v| self.eval(v, st).without(&st.kills))
                    .unwrap_or_default();
                self.check_response(&value, span, st);
                if let Some(f) = self.frames.last_mut() {
                    f.result = Some(match f.result.take() {
                        Some(r) => {
                            let guard = r.guard.clone();
                            let mut j = r.join(&value);
                            if guard.is_none() {
                                j.guard = None
                            }
                            j
                        }
                        None => value,
                    });
                    f.ends.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Throw(v) => {
                if let Some(v) = v {
                    self.eval(*v, st);
                }
                st.live = false;
            }
            Stmt::Break => {
                if let Some(b) = self.frames.last_mut().and_then(|f| f.breaks.last_mut()) {
                    b.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Continue => {
                if let Some(b) = self.frames.last_mut().and_then(|f| f.continues.last_mut()) {
                    b.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Try(body, handlers, last) => {
                let entry = st.clone();
                self.block(body, st);
                let mut start = st.clone();
                start.live = true;
                // A handler may run before any of the tests was made.
                let start = self.join_states(entry, start);
                let mut end = std::mem::replace(st, State::new());
                for h in handlers {
                    let mut s = start.clone();
                    self.block(h, &mut s);
                    end = self.join_states(end, s);
                }
                *st = end;
                if !last.is_empty() {
                    let was = st.live;
                    st.live = true;
                    self.block(last, st);
                    st.live &= was;
                }
            }
            Stmt::Block(b) => self.block(b, st),
        }
    }

    fn repeat(
        &mut self,
        cond: Option<NodeId>,
        body: &[Stmt],
        step: &[Stmt],
        post: bool,
        st: &mut State,
    ) {
        let mut exits: Vec<State> = Vec::new();
        for round in 0..ROUNDS {
            let mut inner = st.clone();
            if let Some(c) = cond
                && (!post || round > 0)
            {
                let v = self.eval(c, &mut inner);
                if v.constant.as_ref().is_some_and(|c| !c.truthy()) {
                    break;
                }
                if let Some(g) = &v.guard {
                    inner.kills.extend(g.yes.iter().cloned());
                }
            }
            if let Some(f) = self.frames.last_mut() {
                f.breaks.push(Vec::new());
                f.continues.push(Vec::new());
            }
            self.block(body, &mut inner);
            let (breaks, continues) = match self.frames.last_mut() {
                Some(f) => (
                    f.breaks.pop().unwrap_or_default(),
                    f.continues.pop().unwrap_or_default(),
                ),
                None => Default::default(),
            };
            exits.extend(breaks);
            for c in continues {
                inner = self.join_states(inner, c);
            }
            self.block(step, &mut inner);
            let before = std::mem::replace(st, State::new());
            *st = self.join_states(before, inner);
        }
        // What is behind an endless loop is taken as reached: exceptions leave it too.
        for e in exits {
            let a = std::mem::replace(st, State::new());
            *st = self.join_states(a, e);
        }
    }

    fn switch(&mut self, subject: NodeId, cases: &[Case], st: &mut State) {
        let v = self.eval(subject, st);
        let kills: Vec<Kill> = v
            .facts()
            .iter()
            .map(|f| (f.origin.clone(), ALL_LABELS))
            .collect();
        let tests: Vec<Vec<Value>> = cases
            .iter()
            .map(|c| c.tests.iter().map(|t| self.eval(*t, st)).collect())
            .collect();
        if let Some(f) = self.frames.last_mut() {
            f.breaks.push(Vec::new());
        }
        // A constant subject takes one arm (and those it falls into).
        let chosen = v.constant.as_ref().and_then(|c| {
            let known = tests.iter().flatten().all(|t| t.constant.is_some());
            known.then(|| {
                tests
                    .iter()
                    .position(|t| t.iter().any(|t| t.constant.as_ref() == Some(c)))
                    .or_else(|| cases.iter().position(|k| k.tests.is_empty()))
            })
        });
        let entry = std::mem::replace(st, State::new());
        let mut end: Option<State> = None;
        let mut fallen: Option<State> = None;
        let mut has_default = false;
        for (i, c) in cases.iter().enumerate() {
            has_default |= c.tests.is_empty();
            let start = match chosen {
                Some(at) => (at == Some(i)).then(|| entry.clone()),
                None => {
                    let mut s = entry.clone();
                    if !c.tests.is_empty()
                        && tests
                            .get(i)
                            .is_some_and(|t| t.iter().all(|t| t.constant.is_some()))
                    {
                        s.kills.extend(kills.iter().cloned());
                    }
                    Some(s)
                }
            };
            let mut s = match (start, fallen.take()) {
                (Some(a), Some(b)) => self.join_states(a, b),
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => continue,
            };
            self.block(&c.body, &mut s);
            if c.falls_through && i + 1 < cases.len() {
                fallen = s.live.then_some(s);
            } else {
                end = Some(match end {
                    Some(e) => self.join_states(e, s),
                    None => s,
                });
            }
        }
        let breaks = self
            .frames
            .last_mut()
            .and_then(|f| f.breaks.pop())
            .unwrap_or_default();
        let skipped = match chosen {
            Some(at) => at.is_none(),
            None => !has_default,
        };
        let mut all: Vec<State> = end.into_iter().chain(fallen).chain(breaks).collect();
        if skipped {
            all.push(entry.clone());
        }
        let joined = all.into_iter().reduce(|a, b| self.join_states(a, b));
        *st = joined.unwrap_or_else(|| {
            let mut dead = entry;
            dead.live = false;
            dead
        });
    }

    /// What holds where two ways meet.
    fn join_states(&self, a: State, b: State) -> State {
        a.join(b, &self.globals)
    }

    /// Gives parameters the types and data that a framework passes, if this
    /// function is an entry. Returns the class that a returned text causes.
    fn bind_entry(&mut self, f: &Function, st: &mut State, registered: &[Name]) -> Labels {
        let mut response = 0;
        let table = self.table;
        for e in &table.entries {
            if !e.import.is_empty()
                && !e.import.iter().any(|i| {
                    self.module.imports.iter().any(|m| {
                        m.strip_prefix(&**i)
                            .is_some_and(|r| r.is_empty() || r.starts_with(['.', '/']))
                    })
                })
            {
                continue;
            }
            let named = |a: &str, p: &str| match p.strip_prefix("*.") {
                Some(m) => a.rsplit('.').next() == Some(m),
                None => a == p || a.rsplit('.').next() == Some(p),
            };
            if !e.annotation.is_empty() {
                let hit = f
                    .annotations
                    .iter()
                    .any(|a| e.annotation.iter().any(|p| named(&a.name, p)))
                    || registered
                        .iter()
                        .any(|a| e.annotation.iter().any(|p| named(a, p)));
                if !hit {
                    continue;
                }
            }
            if !e.params.is_empty() {
                let fits = f.params.len() >= e.params.iter().filter(|p| !p.ends_with('?')).count()
                    && e.params.iter().zip(&f.params).all(|(p, q)| {
                        let p = p.trim_end_matches('?');
                        p == "*" || p.split('|').any(|x| x == &*q.name)
                    });
                if !fits {
                    continue;
                }
                for (ty, p) in e.types.iter().zip(&f.params) {
                    if ty == "*" {
                        continue;
                    }
                    let v = if ty == "tainted" {
                        Self::param_source(f, p)
                    } else {
                        Value::named(ty.as_str().into())
                    };
                    st.set(p.var, v);
                }
            }
            for p in &f.params {
                let marked = p
                    .annotations
                    .iter()
                    .any(|a| e.param_annotation.iter().any(|n| named(&a.name, n)));
                let plain = e.all_params
                    && !p.annotations.iter().any(|a| &*a.name == "Depends")
                    && !p.ty.as_deref().is_some_and(|t| table.knows_type(t));
                if (marked || plain) && !report::is_scalar_type(p.ty.as_deref()) {
                    let mut v = Self::param_source(f, p);
                    v.name.clone_from(&p.ty);
                    st.set(p.var, v);
                }
            }
            if let Some(c) = &e.returns {
                response |= label(c);
            }
        }
        response
    }

    fn param_source(f: &Function, p: &Param) -> Value {
        let at = f.span.start;
        let text = format!("request parameter `{}`", p.name);
        let trace = Trace::step(None, at..at, text.into());
        Value::tainted(vec![source_fact(report::digest(&p.name), true, trace)])
    }
}

impl Frame {
    fn new(func: FuncId) -> Self {
        Self {
            func,
            result: None,
            ends: Vec::new(),
            breaks: Vec::new(),
            continues: Vec::new(),
            response: 0,
        }
    }
}

/// What a constructor stored, as other methods see it: what its caller passed is
/// the object's own field to them.
fn forget_params(v: &Value, path: &[Key]) -> Value {
    let mut out = v.clone();
    let mut facts: Vec<Fact> = Vec::new();
    for f in v.facts() {
        let mut f = f.clone();
        if matches!(f.origin, Origin::Param(..)) {
            if path.is_empty() {
                continue;
            }
            f.origin = Origin::Param(0, path.into());
            f.labels = ALL_LABELS;
        }
        merge_facts(&mut facts, &[f]);
    }
    out.set_facts(facts);
    if let Some(e) = &mut out.elements
        && path.len() < MAX_PATH
    {
        let e = Rc::make_mut(e);
        for (k, v) in &mut e.known {
            let mut deeper = path.to_vec();
            deeper.push(k.clone());
            *v = forget_params(v, &deeper);
        }
    }
    out
}
