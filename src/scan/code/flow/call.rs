//! Calls: summaries of this file's functions, models of everything else.

use std::rc::Rc;

use super::super::ir::*;
use super::super::rules::{Model, PropagatorDef};
use super::containers::{self, Effect};
use super::eval::short;
use super::guards;
use super::place::Root;
use super::text::concat;
use super::value::*;
use super::{Frame, Interpreter, MAX_INLINE, State};

/// A call with everything evaluated.
pub(super) struct Call<'a> {
    /// The node.
    pub id: NodeId,
    /// Qualified name of what is called, `new ` before constructors.
    pub full: Option<String>,
    /// Name of the method, for method calls.
    pub method: Option<&'a str>,
    /// The receiver.
    pub receiver: Value,
    /// Arguments.
    pub args: Vec<Actual>,
}

/// An evaluated argument.
pub(super) struct Actual {
    /// Keyword.
    pub name: Option<Name>,
    /// Value.
    pub value: Value,
    /// Passes its elements.
    pub spread: bool,
}

impl Call<'_> {
    /// Positional argument.
    pub(super) fn arg(&self, i: usize) -> Option<&Value> {
        self.args.iter().filter(|a| a.name.is_none()).nth(i).map(|a| &a.value)
    }

    /// Argument by keyword.
    pub(super) fn keyword(&self, name: &str) -> Option<&Value> {
        self.args.iter().find(|a| a.name.as_deref() == Some(name)).map(|a| &a.value)
    }
}

impl Interpreter<'_> {
    pub(super) fn call(
        &mut self,
        id: NodeId,
        callee: NodeId,
        args: &[Arg],
        new: bool,
        st: &mut State,
    ) -> Value {
        let module = self.module;
        let Some(callee_node) = module.nodes.get(callee as usize) else {
            return Value::default();
        };
        let (receiver, method, target) = match &callee_node.op {
            Op::Field(object, m) => {
                let r = self.eval(*object, st);
                let f = self.field(callee, &r, m);
                (Some((*object, r)), Some(&**m), f)
            }
            _ => (None, None, self.eval(callee, st)),
        };
        let mut actuals = Vec::with_capacity(args.len());
        for a in args {
            // Functions that are passed run once it is known with what.
            let value = match module.nodes.get(a.value as usize).map(|n| &n.op) {
                Some(Op::Closure(f)) => Value { kind: Kind::Func(*f), ..Value::default() },
                _ => self.eval(a.value, st).without(&st.kills),
            };
            actuals.push(Actual { name: a.name.clone(), value, spread: a.spread });
        }
        let full = match (&receiver, method) {
            (Some((_, r)), Some(m)) => r.name.as_ref().map(|n| format!("{n}.{m}")),
            _ => target.name.as_ref().map(|n| n.to_string()),
        };
        // A name that is bound to something qualified (`const q = db.query`).
        let full = match (&target.name, full) {
            (Some(t), Some(f)) if **t != *f && self.table.exact(t).is_some() => Some(t.to_string()),
            (_, f) => f,
        };
        let full = if new { full.map(|f| format!("new {f}")) } else { full };
        let (object, receiver) = match receiver {
            Some((o, r)) => (Some(o), r.without(&st.kills)),
            None => (None, Value::default()),
        };
        let call = Call { id, full, method, receiver, args: actuals };

        if let Some(v) = self.own_function(&call, &target, object, st) {
            return v;
        }
        self.check_call(&call, st);
        let mut out = if call.args.is_empty() && containers::is_new_container(call.full.as_deref())
        {
            containers::empty()
        } else {
            self.modelled(&call, object, st)
        };
        if new && out.name.is_none() {
            out.name.clone_from(&target.name);
        }
        if out.name.is_none()
            && let Some(f) = &call.full
            && f.len() < 120
        {
            out.name = Some(format!("{f}()").into());
        }
        out
    }

    /// A call of a function, method or class of this file.
    fn own_function(
        &mut self,
        call: &Call<'_>,
        target: &Value,
        object: Option<NodeId>,
        st: &mut State,
    ) -> Option<Value> {
        match target.kind {
            Kind::Func(f) => {
                let f = self.overload(f, call);
                let func = self.module.functions.get(f as usize)?;
                if func.nested || func.name.is_empty() {
                    let args: Vec<Value> = call.args.iter().map(|a| a.value.clone()).collect();
                    return Some(self.run_nested(f, &args, &[], st));
                }
                Some(self.apply(f, call, object, st))
            }
            Kind::Class(c) => {
                let mut out = self.class_base.get(c as usize).cloned().unwrap_or_default();
                out.kind = Kind::Instance(c);
                let class = self.module.classes.get(c as usize)?;
                let made = ["__init__", "constructor", "<init>"]
                    .iter()
                    .find_map(|n| class.methods.get(*n)?.first().copied());
                if let Some(f) = made {
                    let f = self.overload(f, call);
                    if let Some(Some(s)) = self.summaries.get(f as usize).cloned() {
                        let args = self.bind(f, call, st);
                        let this = Value { kind: Kind::Instance(c), ..Value::default() };
                        self.release(&s, &this, &args, f, call, st);
                        if let Some(t) = &s.this {
                            out = self.substitute(t, &this, &args, f, call, 0);
                            out.kind = Kind::Instance(c);
                        }
                    }
                } else {
                    // A record or data class: what goes in is in it.
                    for a in &call.args {
                        match &a.name {
                            Some(n) => out.set_element(Key::Named(n.clone()), a.value.clone()),
                            None => out.add_element(a.value.clone()),
                        }
                    }
                }
                if let Some(b) = class.bases.first() {
                    out.name.get_or_insert(b.clone());
                }
                Some(out)
            }
            _ => None,
        }
    }

    /// Interprets a nested function where it stands or is called.
    pub(super) fn run_nested(
        &mut self,
        f: FuncId,
        args: &[Value],
        registered: &[Name],
        st: &mut State,
    ) -> Value {
        let module = self.module;
        let Some(func) = module.functions.get(f as usize) else {
            return Value::default();
        };
        if self.inline >= MAX_INLINE || self.frames.iter().any(|x| x.func == f && f != 0) {
            return Value::default();
        }
        if !self.reporting && self.frames.len() == 1 {
            return Value::default();
        }
        self.inline += 1;
        let kills = st.kills.clone();
        st.enter();
        for (i, p) in func.params.iter().enumerate() {
            let mut v = match args.get(i) {
                Some(v) => v.clone(),
                None => p.default.map(|d| self.eval(d, st)).unwrap_or_default(),
            };
            if p.rest {
                v = Value::default();
                for a in args.iter().skip(i) {
                    v.push_element(a.clone());
                }
            }
            if v.name.is_none() {
                v.name = p.ty.as_ref().map(|t| self.canonical(t));
            }
            st.set(p.var, v);
        }
        let response = self.bind_entry(func, st, registered);
        let mut frame = Frame::new(f);
        frame.response = response;
        self.frames.push(frame);
        self.block(&func.body, st);
        let frame = self.frames.pop();
        self.inline -= 1;
        let mut result = Value::default();
        if let Some(frame) = frame {
            let before = std::mem::replace(st, State::new());
            let mut end = before;
            for e in frame.ends {
                end = self.join_states(end, e);
            }
            *st = end;
            result = frame.result.unwrap_or_default();
        }
        st.leave();
        st.live = true;
        st.kills = kills;
        result
    }

    /// A call of something outside this file.
    fn modelled(&mut self, call: &Call<'_>, object: Option<NodeId>, st: &mut State) -> Value {
        let table = self.table;
        let exact = call.full.as_deref().and_then(|f| table.exact(f));
        let by_method = call.method.and_then(|m| table.method(m));
        let models: Vec<&Model> = exact.into_iter().chain(by_method).collect();

        let called = self.callbacks(call, st);

        let mut out = Value::default();
        if let Some(full) = &call.full
            && self.apply_source(call.id, full, &mut out)
        {
            return out;
        }
        for s in models.iter().filter_map(|m| m.source.as_ref()) {
            if let Some(i) = s.into
                && let Some(node) = self.arg_node(call.id, i)
                && let Some((root, path)) = self.path_of(node, st)
            {
                let step = Trace::step(
                    None,
                    self.span_of(call.id),
                    format!("{} enters: `{}`", s.what, short(self.text_of(call.id))).into(),
                );
                let origin = super::report::digest(self.text_of(call.id));
                let v = Value::tainted(vec![source_fact(origin, s, step)]);
                self.update(root, &path, st, |o| o.facts = v.facts);
            }
        }
        if models.iter().any(|m| m.exits) {
            st.live = false;
        }
        let ty = models.iter().find_map(|m| m.ty.clone());
        if let Some(becomes) = models
            .iter()
            .flat_map(|m| &m.configures)
            .find(|c| c.when.iter().all(|w| self.holds(w, call)))
            && let Some(o) = object
            && let Some((root, path)) = self.path_of(o, st)
        {
            let name: Name = becomes.becomes.as_str().into();
            self.update(root, &path, st, |v| v.name = Some(name));
        }
        // What is done with the data of the receiver gives other data.
        let consumed = models.iter().any(|m| m.sinks.iter().any(|s| s.receiver));
        let clears = models.iter().fold(0, |a, m| a | m.clears);
        let props: Vec<&PropagatorDef> = models.iter().flat_map(|m| &m.propagates).collect();

        let builtin = if props.is_empty() && clears == 0 {
            call.method.map(|m| containers::method(m, call, called.as_ref()))
        } else {
            None
        };
        match builtin {
            Some(Effect::Value(v)) => out = v,
            Some(Effect::Index(key)) => {
                out = self.index(call.id, &call.receiver, &key);
                if let Some(default) = call.arg(1) {
                    out = out.join(default);
                }
            }
            Some(Effect::Receiver(change)) => {
                if let Some(o) = object
                    && let Some((root, path)) = self.path_of(o, st)
                {
                    let mut result = Value::default();
                    self.update(root, &path, st, |v| result = change(v));
                    out = result;
                } else {
                    let mut v = call.receiver.clone();
                    let r = change(&mut v);
                    out = r.join(&v);
                }
            }
            Some(Effect::None) | None => {
                for p in &props {
                    if let Some(v) = self.propagate(p, call, st) {
                        out = v;
                    }
                }
                if props.is_empty() && clears != 0 {
                    let all = all_inputs(call);
                    out = concat(&all).only_facts();
                } else if props.is_empty()
                    && let Some(m) = call.method
                    && call.receiver.facts.is_some()
                    && !consumed
                    && !containers::is_predicate(m)
                {
                    out = call.receiver.only_facts();
                    let mut facts = out.facts().to_vec();
                    for f in &mut facts {
                        if f.container {
                            self.narrow(call.id, f);
                        }
                    }
                    out.set_facts(facts);
                    if ty.is_none() {
                        out.prefix.clone_from(&call.receiver.prefix);
                    }
                    out.html = call.receiver.html;
                }
            }
        }
        // Flask: `args.get("n", type=int)`.
        if call.keyword("type").is_some_and(|t| super::report::is_scalar_type(t.name.as_deref())) {
            out.facts = None;
        }
        let clears = models
            .iter()
            .flat_map(|m| &m.cleans)
            .filter(|c| c.when.iter().all(|w| self.holds(w, call)))
            .filter(|c| !c.unless.iter().any(|w| self.holds(w, call)))
            .fold(clears, |a, c| a | c.labels);
        if clears != 0 {
            let facts = out
                .facts()
                .iter()
                .map(|f| {
                    let mut f = f.clone();
                    f.labels &= !clears;
                    f
                })
                .collect();
            out.set_facts(facts);
        }
        if out.guard.is_none() {
            out.guard = guards::guard(call).map(Rc::new);
        }
        if let Some(t) = ty {
            out.name = Some(t.into());
        }
        out
    }

    fn propagate(&mut self, p: &PropagatorDef, call: &Call<'_>, st: &mut State) -> Option<Value> {
        if p.to == "identity" {
            return Some(call.arg(0).cloned().unwrap_or_default());
        }
        let inputs: Vec<Value> = if p.from.is_empty() {
            all_inputs(call)
        } else {
            p.from.iter().filter_map(|i| call.arg(*i).cloned()).collect()
        };
        let v = if p.concat {
            match inputs.split_first() {
                Some((first, rest)) => {
                    let rest: Vec<Value> = rest.to_vec();
                    Self::format(first, &rest)
                }
                None => Value::default(),
            }
        } else {
            concat(&inputs)
        };
        let mut v = Value { constant: if p.concat { None } else { v.constant.clone() }, ..v };
        if v.facts.is_some() {
            let name = call.full.as_deref().or(call.method).unwrap_or("the call");
            let span = self.span_of(call.id);
            let mut facts = v.facts().to_vec();
            for f in &mut facts {
                f.container = false;
                let text = format!("goes through `{}`", short(name.trim_start_matches("new ")));
                f.trace = Trace::step(Some(&f.trace), span.clone(), text.into());
            }
            v.set_facts(facts);
        }
        match p.to.as_str() {
            "return" => Some(v),
            "receiver" => {
                let node = match &self.module.nodes.get(call.id as usize)?.op {
                    Op::Call { callee, .. } => *callee,
                    _ => return None,
                };
                if let Op::Field(o, _) = &self.module.nodes.get(node as usize)?.op
                    && let Some((root, path)) = self.path_of(*o, st)
                {
                    self.add_to(root, &path, &v, st);
                }
                let mut r = call.receiver.clone();
                let mut facts = r.facts().to_vec();
                merge_facts(&mut facts, v.facts());
                r.set_facts(facts);
                Some(r)
            }
            n => {
                let i: usize = n.parse().ok()?;
                let node = self.arg_node(call.id, i)?;
                if let Some((root, path)) = self.path_of(node, st) {
                    self.add_to(root, &path, &v, st);
                }
                None
            }
        }
    }

    fn add_to(&mut self, root: Root, path: &[Key], v: &Value, st: &mut State) {
        self.update(root, path, st, |o| {
            let mut facts = o.facts().to_vec();
            merge_facts(&mut facts, v.facts());
            o.set_facts(facts);
            o.html |= v.html;
        });
    }

    /// Runs functions that are passed along. The result is what the last of them
    /// gave.
    fn callbacks(&mut self, call: &Call<'_>, st: &mut State) -> Option<Value> {
        let mut out = None;
        for a in &call.args {
            let Kind::Func(f) = a.value.kind else {
                continue;
            };
            let Some(func) = self.module.functions.get(f as usize) else {
                continue;
            };
            let registered: Vec<Name> = call.full.iter().map(|f| f.as_str().into()).collect();
            let method = call.method.unwrap_or_default();
            let mut args = containers::callback_arguments(method, call);
            args.truncate(func.params.len());
            if func.nested || func.name.is_empty() {
                out = Some(self.run_nested(f, &args, &registered, st));
            } else if args.iter().any(|a| a.facts.is_some()) {
                let actuals = args
                    .into_iter()
                    .map(|value| Actual { name: None, value, spread: false })
                    .collect();
                let inner = Call {
                    id: call.id,
                    full: None,
                    method: None,
                    receiver: Value::default(),
                    args: actuals,
                };
                let live = st.live;
                out = Some(self.apply(f, &inner, None, st));
                st.live = live;
            }
        }
        out
    }
}

fn all_inputs(call: &Call<'_>) -> Vec<Value> {
    let mut out = Vec::new();
    if call.receiver.facts.is_some() || call.receiver.constant.is_some() {
        out.push(call.receiver.clone());
    }
    out.extend(call.args.iter().map(|a| a.value.clone()));
    out
}
