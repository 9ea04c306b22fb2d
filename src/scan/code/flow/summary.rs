//! What a call of a function of this file does: its summary in terms of the
//! arguments.

use std::rc::Rc;

use super::super::ir::*;
use super::call::Call;
use super::value::*;
use super::{Interpreter, Pending, State, Summary};

impl Interpreter<'_> {
    /// The method of the same name that takes as many arguments.
    pub(super) fn overload(&self, f: FuncId, call: &Call<'_>) -> FuncId {
        let Some(func) = self.module.functions.get(f as usize) else {
            return f;
        };
        let Some(class) = func.class.and_then(|c| self.module.classes.get(c as usize)) else {
            return f;
        };
        class
            .methods
            .get(&func.name)
            .and_then(|all| {
                all.iter().find(|o| {
                    self.module
                        .functions
                        .get(**o as usize)
                        .is_some_and(|o| o.params.len() == call.args.len())
                })
            })
            .copied()
            .unwrap_or(f)
    }

    /// The values of a function's parameters in this call.
    pub(super) fn bind(&mut self, f: FuncId, call: &Call<'_>, st: &mut State) -> Vec<Value> {
        let module = self.module;
        let Some(func) = module.functions.get(f as usize) else {
            return Vec::new();
        };
        let mut positional = call.args.iter().filter(|a| a.name.is_none());
        let mut out = Vec::with_capacity(func.params.len());
        for p in &func.params {
            if p.rest {
                let mut v = Value::default();
                for a in positional.by_ref() {
                    v.push_element(a.value.clone());
                }
                for a in call.args.iter().filter(|a| a.name.is_some()) {
                    v.add_element(a.value.clone());
                }
                out.push(v);
                continue;
            }
            let v = match call.keyword(&p.name) {
                Some(v) => v.clone(),
                None => match positional.next() {
                    Some(a) if a.spread => Self::element_of(&a.value),
                    Some(a) => a.value.clone(),
                    None => p.default.map(|d| self.eval(d, st)).unwrap_or_default(),
                },
            };
            out.push(v);
        }
        out
    }

    /// Applies a summary.
    pub(super) fn apply(
        &mut self,
        f: FuncId,
        call: &Call<'_>,
        object: Option<NodeId>,
        st: &mut State,
    ) -> Value {
        let Some(Some(s)) = self.summaries.get(f as usize).cloned() else {
            return Value::default();
        };
        let args = self.bind(f, call, st);
        let this = call.receiver.clone();
        self.release(&s, &this, &args, f, call, st);
        if let Some(t) = &s.this
            && t.elements.is_some()
            && let Some(o) = object
            && let Some((root, path)) = self.path_of(o, st)
        {
            let new = self.substitute(t, &this, &args, f, call, 0);
            self.update(root, &path, st, |v| v.elements = new.elements);
        }
        for (i, p) in s.params.iter().enumerate() {
            let (Some(p), Some(arg)) = (p, self.arg_node(call.id, i)) else {
                continue;
            };
            if let Some((root, path)) = self.path_of(arg, st) {
                let new = self.substitute(p, &this, &args, f, call, 0);
                self.update(root, &path, st, |v| v.elements = new.elements);
            }
        }
        if !s.returns {
            st.live = false;
        }
        self.substitute(&s.result, &this, &args, f, call, 0)
    }

    pub(super) fn arg_node(&self, call: NodeId, i: usize) -> Option<NodeId> {
        match &self.module.nodes.get(call as usize)?.op {
            Op::Call { args, .. } => args.get(i).filter(|a| a.name.is_none()).map(|a| a.value),
            _ => None,
        }
    }

    /// What waits for data of parameters gets what this call passes.
    pub(super) fn release(
        &mut self,
        s: &Summary,
        this: &Value,
        args: &[Value],
        f: FuncId,
        call: &Call<'_>,
        st: &State,
    ) {
        for p in &s.pending {
            for mut fact in Self::facts_of(&p.origin, this, args) {
                fact.labels &= p.labels & !killed(&st.kills, &fact.origin);
                fact.position = fact.position.max(p.position);
                if fact.labels == 0 || !p.hit.accepts(fact.position) {
                    continue;
                }
                fact.trace = self.through(&fact.trace, &p.trace, f, call);
                self.reached(&p.hit, &fact);
            }
        }
        if self.pending.len() > 256 {
            self.pending.truncate(256);
        }
    }

    /// Facts that the caller passes where the callee sees a parameter's.
    pub(super) fn facts_of(origin: &Origin, this: &Value, args: &[Value]) -> Vec<Fact> {
        let Origin::Param(i, path) = origin else {
            return Vec::new();
        };
        let base = match i.checked_sub(1) {
            None => this,
            Some(i) => match args.get(i as usize) {
                Some(a) => a,
                None => return Vec::new(),
            },
        };
        let mut at = base.clone();
        for k in path.iter() {
            at = match at.element(k) {
                Some(e) => e,
                None => {
                    let mut v = Value::default();
                    let mut facts = at.facts().to_vec();
                    for f in &mut facts {
                        if let Origin::Param(i, p) = &f.origin
                            && p.len() < super::MAX_PATH
                        {
                            let mut q = p.to_vec();
                            q.push(k.clone());
                            f.origin = Origin::Param(*i, q.into());
                        }
                    }
                    v.set_facts(facts);
                    v
                }
            };
        }
        at.deep_facts()
    }

    /// The caller's way, then the callee's.
    pub(super) fn through(
        &self,
        outer: &Rc<Trace>,
        inner: &Rc<Trace>,
        f: FuncId,
        call: &Call<'_>,
    ) -> Rc<Trace> {
        let name = self.module.functions.get(f as usize).map(|f| f.name.to_string());
        let span = self.span_of(call.id);
        let text = format!("passed to `{}`", name.unwrap_or_default());
        let mut out = Trace::step(Some(outer), span, text.into());
        for s in inner.steps().into_iter().skip(1) {
            out = Trace::step(Some(&out), s.span.clone(), s.message.clone());
        }
        out
    }

    /// A value of a summary in terms of this call.
    pub(super) fn substitute(
        &mut self,
        v: &Value,
        this: &Value,
        args: &[Value],
        f: FuncId,
        call: &Call<'_>,
        depth: usize,
    ) -> Value {
        // The parameter itself comes back as it went in.
        if let [only] = v.facts()
            && v.elements.is_none()
            && v.prefix.is_none()
            && only.labels == super::ALL_LABELS
            && let Origin::Param(i, path) = &only.origin
            && path.is_empty()
            && only.trace.prev.is_none()
        {
            return match i.checked_sub(1) {
                None => this.clone(),
                Some(i) => args.get(i as usize).cloned().unwrap_or_default(),
            };
        }
        let mut facts: Vec<Fact> = Vec::new();
        for fact in v.facts() {
            if matches!(fact.origin, Origin::Source(_)) {
                merge_facts(&mut facts, std::slice::from_ref(fact));
                continue;
            }
            for mut outer in Self::facts_of(&fact.origin, this, args) {
                outer.labels &= fact.labels;
                outer.position = outer.position.max(fact.position);
                outer.container &= fact.container;
                outer.trace = self.through(&outer.trace, &fact.trace, f, call);
                merge_facts(&mut facts, &[outer]);
            }
        }
        let mut out = v.clone();
        out.set_facts(facts);
        if depth < 3
            && let Some(e) = out.elements.clone()
        {
            let mut e = (*e).clone();
            for x in e.known.values_mut().chain(e.any.iter_mut()) {
                *x = self.substitute(x, this, args, f, call, depth + 1);
            }
            out.elements = Some(Rc::new(e));
        }
        if let Some(g) = &v.guard {
            let map = |list: &[Kill]| -> Vec<Kill> {
                list.iter()
                    .flat_map(|(o, l)| match o {
                        Origin::Source(_) => vec![(o.clone(), *l)],
                        Origin::Param(..) => Self::facts_of(o, this, args)
                            .into_iter()
                            .map(|f| (f.origin, *l))
                            .collect(),
                    })
                    .collect()
            };
            out.guard = Some(Guard { yes: map(&g.yes), no: map(&g.no) }.into());
        }
        out
    }

    /// Data reached a sink: a finding if it came from outside, a condition on the
    /// caller if it is a parameter's.
    pub(super) fn reached(&mut self, hit: &Rc<super::report::SinkHit>, fact: &Fact) {
        match &fact.origin {
            Origin::Source(_) => self.report_flow(hit, fact),
            Origin::Param(..) => {
                let known = self.pending.iter().any(|p| {
                    p.origin == fact.origin && p.hit.rule == hit.rule && p.hit.span == hit.span
                });
                if !known && self.pending.len() < 256 {
                    self.pending.push(Pending {
                        origin: fact.origin.clone(),
                        labels: fact.labels,
                        position: fact.position,
                        trace: fact.trace.clone(),
                        hit: hit.clone(),
                    });
                }
            }
        }
    }
}
