//! The abstract interpreter: constants, types, elements and outside data in one
//! forward pass over structured code.
//!
//! Every function is interpreted once, callees first, with symbolic parameters;
//! what it returns, stores and lets reach a sink is its `Summary`, and a call
//! applies the summary to the arguments. Functions within functions are
//! interpreted in place, so that they see what they capture.
//!
//! Invariants: states are joined where branches meet, so a fact that survives one
//! branch survives; a guard removes labels from an *origin*, so that everything
//! derived from the tested input is covered; loops run at most `ROUNDS` times,
//! constants that change in them are lost by the join.

mod call;
mod containers;
mod entry;
mod eval;
mod exec;
mod guards;
mod operators;
mod place;
mod report;
mod state;
mod summary;
mod text;
mod value;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::ir::*;
use super::lower::Deadline;
use super::rules::{ALL_LABELS, Labels, Rules, Table};
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
    let flows: HashSet<u32> =
        hits.iter().filter(|h| !h.flow.is_empty()).map(|h| h.span.start).collect();
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
            let often = self.module.vars.get(*v as usize).is_none_or(|v| v.assignments > 1);
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
            let mut base = Value { kind: Kind::Instance(id as ClassId), ..Value::default() };
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
            by_name.entry(&c.name).or_default().extend(made.map(|(i, _)| i as FuncId));
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
            self.module.functions.get(*f as usize).is_some_and(|f| !f.nested && !f.name.is_empty())
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
        if let Some(c) = f.class {
            let base = self.class_base.get(c as usize).cloned().unwrap_or_default();
            if f.has_receiver {
                st.this = base;
                st.this.set_facts(vec![Self::param_fact(0, f)]);
            } else {
                // Without an object there are the class and its fixed fields.
                st.this = self.class_itself(c, &base);
            }
        }
        for (i, p) in f.params.iter().enumerate() {
            let mut v =
                Value { name: p.ty.as_ref().map(|t| self.canonical(t)), ..Value::default() };
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
                let reassigned =
                    self.module.vars.get(p.var as usize).is_none_or(|v| v.assignments > 0);
                let v = end.get(p.var).filter(|v| v.elements.is_some() && !reassigned);
                s.params.push(v.cloned());
            }
        }
        if let Some(slot) = self.summaries.get_mut(id as usize) {
            *slot = Some(Rc::new(s));
        }
    }

    /// A class as its static methods see it: constants that never change, nothing
    /// that belongs to one object.
    fn class_itself(&self, id: ClassId, base: &Value) -> Value {
        let mut out = Value { kind: Kind::Class(id), ..Value::default() };
        let constants = self.module.classes.get(id as usize).map(|c| &c.constants);
        let known = base.elements.iter().flat_map(|e| &e.known);
        for (k, v) in known {
            if let Key::Named(n) = k
                && constants.is_some_and(|c| c.contains(n))
            {
                out.set_element(k.clone(), drop_params(v, 0));
            }
        }
        out
    }

    fn param_fact(i: usize, f: &Function) -> Fact {
        let (name, span) = match i.checked_sub(1).and_then(|i| f.params.get(i)) {
            Some(p) => (format!("parameter `{}`", p.name), f.span.start..f.span.start),
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
        self.module.classes.iter().position(|c| &*c.name == ty).map(|i| i as ClassId)
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

    /// What holds where two ways meet.
    fn join_states(&self, a: State, b: State) -> State {
        a.join(b, &self.globals)
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

/// A value without what a caller passes.
fn drop_params(v: &Value, depth: usize) -> Value {
    let mut out = v.clone();
    let facts = v.facts().iter().filter(|f| matches!(f.origin, Origin::Source(_)));
    out.set_facts(facts.cloned().collect());
    if let Some(e) = &mut out.elements {
        if depth >= MAX_PATH {
            out.elements = None;
            return out;
        }
        let e = Rc::make_mut(e);
        for v in e.known.values_mut().chain(e.any.iter_mut()) {
            *v = drop_params(v, depth + 1);
        }
    }
    out
}
