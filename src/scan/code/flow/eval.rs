//! Expressions: from a node to a value.

use super::super::ir::*;
use super::operators::membership;
use super::report::digest;
use super::text::concat;
use super::value::*;
use super::{Interpreter, MAX_PATH, State};

/// Longest qualified name that is built, in bytes.
pub(super) const MAX_NAME: usize = 160;

impl Interpreter<'_> {
    /// The value of a node; effects go into the state.
    pub(super) fn eval(&mut self, id: NodeId, st: &mut State) -> Value {
        if !self.step() {
            return Value::default();
        }
        let module = self.module;
        let Some(node) = module.nodes.get(id as usize) else {
            return Value::default();
        };
        match &node.op {
            Op::Unknown(all) => {
                for n in all {
                    self.eval(*n, st);
                }
                Value::default()
            }
            Op::Lit(c) => Value::constant(c.clone()),
            Op::Regex(p) => {
                let mut v = Value::constant(Const::Str(p.clone()));
                // Flags decide whether a replacement is made everywhere.
                let flags = self.text_of(id).rsplit('/').next().unwrap_or_default();
                v.name = Some(if flags.contains('g') { "RegExp/g" } else { "RegExp" }.into());
                v
            }
            Op::Var(v) => self.read_var(*v, st),
            Op::Global(name) => self.global(id, name),
            Op::Class(c) => Value { kind: Kind::Class(*c), ..Value::default() },
            Op::This => st.this.clone(),
            Op::Field(object, name) => {
                let v = self.eval(*object, st);
                self.field(id, &v, name)
            }
            Op::Index(object, key) => {
                let v = self.eval(*object, st);
                let k = self.eval(*key, st);
                self.index(id, &v, &k)
            }
            Op::Call { callee, args, new } => self.call(id, *callee, args, *new, st),
            Op::Bin(op, a, b) => self.binary(*op, *a, *b, st),
            Op::Concat(parts) => {
                let values: Vec<Value> = parts.iter().map(|p| self.eval(*p, st)).collect();
                concat(&values)
            }
            Op::Not(a) => {
                let v = self.eval(*a, st);
                Value {
                    constant: v.constant.as_ref().map(|c| Const::Bool(!c.truthy())),
                    guard: v.guard.map(|g| Guard { yes: g.no.clone(), no: g.yes.clone() }.into()),
                    ..Value::default()
                }
            }
            Op::Neg(a) => match self.eval(*a, st).constant {
                Some(Const::Int(i)) => Value::constant(Const::Int(i.wrapping_neg())),
                _ => Value::default(),
            },
            Op::List(items) => self.list(items, st),
            Op::Map(items) => self.map(items, id, st),
            Op::Cond(c, a, b) => {
                let v = self.eval(*c, st);
                match v.constant.as_ref().map(Const::truthy) {
                    Some(true) => self.eval(*a, st),
                    Some(false) => self.eval(*b, st),
                    None => {
                        let g = v.guard.as_deref().cloned().unwrap_or_default();
                        let x = self.eval_under(*a, &g.yes, st);
                        let y = self.eval_under(*b, &g.no, st);
                        x.join(&y)
                    }
                }
            }
            Op::Closure(f) => {
                if self.module.functions.get(*f as usize).is_some_and(|f| f.nested)
                    || self.is_lambda(*f)
                {
                    // Run where it stands, with nothing known of its arguments.
                    self.run_nested(*f, &[], &[], st);
                }
                Value { kind: Kind::Func(*f), ..Value::default() }
            }
            Op::Assign(place, value) => {
                let v = self.eval(*value, st).without(&st.kills);
                let v = self.stepped(v, place, &node.span);
                self.check_assign(id, place, &v, st);
                self.last_span = node.span.clone();
                self.store(place, v.clone(), st);
                v
            }
            Op::Cast(a, ty) => {
                let mut v = self.eval(*a, st);
                if let Some(t) = ty {
                    if super::report::is_scalar_type(Some(t)) {
                        return Value { constant: v.constant, ..Value::default() };
                    }
                    v.name = Some(t.clone());
                } else if v.constant.is_some() {
                    // A slice of a known text is another text.
                    v.constant = None;
                }
                v
            }
            Op::Element(a) => {
                let v = self.eval(*a, st);
                Self::element_of(&v)
            }
            Op::Join(all) => {
                let mut out: Option<Value> = None;
                for n in all {
                    let v = self.eval(*n, st);
                    out = Some(out.map_or(v.clone(), |o| o.join(&v)));
                }
                out.unwrap_or_default()
            }
            Op::Seq(all) => {
                let mut last = Value::default();
                for n in all {
                    last = self.eval(*n, st);
                }
                last
            }
            Op::ListOf(a) => {
                let v = self.eval(*a, st);
                let mut out = Value::default();
                out.add_element(v);
                out
            }
        }
    }

    /// Evaluates while something is known by a test.
    pub(super) fn eval_under(&mut self, n: NodeId, kills: &[Kill], st: &mut State) -> Value {
        let before = st.kills.len();
        st.kills.extend(kills.iter().cloned());
        let v = self.eval(n, st).without(&st.kills);
        st.kills.truncate(before);
        v
    }

    pub(super) fn is_lambda(&self, f: FuncId) -> bool {
        self.module.functions.get(f as usize).is_some_and(|f| f.name.is_empty())
    }

    pub(super) fn read_var(&self, v: VarId, st: &State) -> Value {
        let mut out = match st.get(v).or_else(|| self.globals.get(&v)) {
            Some(value) => value.clone(),
            None => Value::default(),
        };
        if let Some(var) = self.module.vars.get(v as usize)
            && let Some(ty) = &var.ty
        {
            if out.name.is_none() {
                out.name = Some(self.canonical(ty));
            }
            if out.kind == Kind::Other
                && let Some(c) = self.class_named(Some(ty))
            {
                out.kind = Kind::Instance(c);
            }
        }
        out
    }

    /// The name under which rules speak of a type.
    pub(super) fn canonical(&self, ty: &Name) -> Name {
        match self.table.exact(ty).and_then(|m| m.ty.as_deref()) {
            Some(t) => t.into(),
            None => ty.clone(),
        }
    }

    fn global(&self, id: NodeId, name: &Name) -> Value {
        let mut v = Value::named(name.clone());
        self.apply_source(id, name, &mut v);
        v
    }

    /// Makes the value outside data if its name is a source.
    pub(super) fn apply_source(&self, id: NodeId, name: &str, v: &mut Value) -> bool {
        let Some(model) = self.table.exact(name) else {
            return false;
        };
        if let Some(ty) = &model.ty {
            v.name = Some(ty.as_str().into());
        }
        let Some(s) = model.source.as_ref().filter(|s| s.into.is_none()) else {
            return false;
        };
        let text = self.text_of(id);
        let span = self.span_of(id);
        let step = Trace::step(None, span, format!("{} enters: `{}`", s.what, short(text)).into());
        v.set_facts(vec![source_fact(digest(text), s, step)]);
        true
    }

    /// `value.name`.
    pub(super) fn field(&mut self, id: NodeId, v: &Value, name: &Name) -> Value {
        let key = Key::Named(name.clone());
        let mut out = v.element(&key).unwrap_or_else(|| {
            let mut o = Value::default();
            if !is_harmless_part(name) {
                o.set_facts(self.part_facts(id, v, &key));
            }
            o
        });
        if let Kind::Instance(c) | Kind::Class(c) = v.kind
            && let Some(class) = self.module.classes.get(c as usize)
        {
            if let Some(f) = class.methods.get(name).and_then(|m| m.first())
                && out.kind == Kind::Other
            {
                out.kind = Kind::Func(*f);
            }
            if out.name.is_none()
                && let Some(t) = class.field_types.get(name)
            {
                out.name = Some(self.canonical(t));
                if let Some(c) = self.class_named(Some(t)) {
                    out.kind = Kind::Instance(c);
                }
                if super::report::is_scalar_type(Some(t)) {
                    out.facts = None;
                }
            }
            if matches!(v.kind, Kind::Class(_))
                && out.constant.is_none()
                && let Some(e) = self.class_base.get(c as usize).and_then(|b| b.element(&key))
            {
                out = e;
            }
        }
        if out.name.is_none()
            && let Some(n) = &v.name
            && n.len() < MAX_NAME
        {
            let full: Name = format!("{n}.{name}").into();
            self.apply_source(id, &full, &mut out);
            if out.name.is_none() {
                out.name = Some(full);
            }
        }
        out
    }

    /// Facts of a part of a value.
    pub(super) fn part_facts(&self, id: NodeId, v: &Value, key: &Key) -> Vec<Fact> {
        let mut facts = v.facts().to_vec();
        for f in &mut facts {
            match &f.origin {
                Origin::Param(i, path) if path.len() < MAX_PATH => {
                    let mut p = path.to_vec();
                    p.push(key.clone());
                    f.origin = Origin::Param(*i, p.into());
                }
                _ => {}
            }
            if f.container {
                self.narrow(id, f);
            }
        }
        facts
    }

    /// A part of a container of inputs is an input of its own.
    pub(super) fn narrow(&self, id: NodeId, f: &mut Fact) {
        let text = self.text_of(id);
        f.container = false;
        if matches!(f.origin, Origin::Source(_)) {
            f.origin = Origin::Source(digest(text));
            let what = f.trace.steps().first().map(|s| s.message.to_string()).unwrap_or_default();
            let what = what.split(" enters").next().unwrap_or("input").to_string();
            f.trace = Trace::step(
                None,
                self.span_of(id),
                format!("{what} enters: `{}`", short(text)).into(),
            );
        }
    }

    /// `value[key]`.
    pub(super) fn index(&mut self, id: NodeId, v: &Value, k: &Value) -> Value {
        let key = match &k.constant {
            Some(Const::Str(s)) => Some(Key::Named(s.clone())),
            Some(Const::Int(i)) => {
                let len = v.elements.as_deref().and_then(|e| e.len);
                Some(Key::At(if *i < 0 { len.unwrap_or(0) + i } else { *i }))
            }
            _ => None,
        };
        let found = match &key {
            Some(key) => v.element(key),
            None => v.any_element(),
        };
        let mut out = match found {
            Some(mut e) => {
                if key.is_none() {
                    // The key may be none of those that are known.
                    e.constant = None;
                    e.prefix = None;
                }
                e
            }
            None => {
                let mut o = Value::default();
                let key = key.clone().unwrap_or(Key::Named("*".into()));
                o.set_facts(self.part_facts(id, v, &key));
                o
            }
        };
        if out.name.is_none()
            && let (Some(n), Some(Key::Named(k))) = (&v.name, &key)
            && n.len() + k.len() < MAX_NAME
        {
            let full: Name = format!("{n}.{k}").into();
            self.apply_source(id, &full, &mut out);
            out.name.get_or_insert(full);
        }
        // `ALLOWED[x]` is true only for keys that are there.
        if k.facts.is_some() && out.guard.is_none() && out.facts.is_none() {
            out.guard = membership(k, v).guard;
        }
        out
    }

    /// Some element of a value.
    pub(super) fn element_of(v: &Value) -> Value {
        let mut out = v.any_element().unwrap_or_default();
        let mut facts = out.facts().to_vec();
        merge_facts(&mut facts, v.facts());
        out.set_facts(facts);
        out.constant = None;
        out
    }

    fn list(&mut self, items: &[NodeId], st: &mut State) -> Value {
        let mut out = Value { elements: Some(std::rc::Rc::default()), ..Value::default() };
        if let Some(e) = out.elements.as_mut() {
            std::rc::Rc::make_mut(e).len = Some(0);
        }
        for i in items {
            let v = self.eval(*i, st).without(&st.kills);
            out.push_element(v);
        }
        out
    }

    fn map(&mut self, items: &[(Option<NodeId>, NodeId)], id: NodeId, st: &mut State) -> Value {
        let mut out = Value { elements: Some(std::rc::Rc::default()), ..Value::default() };
        for (k, v) in items {
            let key = k.map(|k| self.eval(k, st));
            let value = self.eval(*v, st).without(&st.kills);
            match key {
                None => {
                    // A spread brings all that the other has.
                    let mut facts = out.facts().to_vec();
                    merge_facts(&mut facts, value.facts());
                    out.set_facts(facts);
                    if let Some(e) = value.elements.as_deref() {
                        for (k, v) in &e.known {
                            out.set_element(k.clone(), v.clone());
                        }
                        if let Some(a) = &e.any {
                            out.add_element(a.clone());
                        }
                    }
                }
                Some(k) => match k.constant {
                    Some(Const::Str(s)) => out.set_element(Key::Named(s), value),
                    Some(Const::Int(i)) => out.set_element(Key::At(i), value),
                    _ => out.add_element(value),
                },
            }
        }
        self.check_object(id, &out);
        out
    }
}

/// Parts that do not carry the data on, whatever it was.
pub(super) fn is_harmless_part(name: &str) -> bool {
    matches!(
        name,
        "length"
            | "size"
            | "scheme"
            | "protocol"
            | "Scheme"
            | "port"
            | "status"
            | "statusCode"
            | "content_length"
            | "ContentLength"
            | "byteLength"
            | "is_authenticated"
    )
}

/// At most 80 bytes of a text, on one line.
pub(super) fn short(text: &str) -> String {
    let mut out = String::new();
    for w in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(w);
        if out.len() > 80 {
            let mut end = 77;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            out.push_str("...");
            break;
        }
    }
    out
}
