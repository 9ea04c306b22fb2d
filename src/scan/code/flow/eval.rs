//! Expressions: from a node to a value.

use super::super::ir::*;
use super::super::rules::{ALL_LABELS, label};
use super::report::digest;
use super::value::*;
use super::{Interpreter, MAX_PATH, State};

/// Longest qualified name that is built, in bytes.
const MAX_NAME: usize = 160;

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
                v.name = Some("RegExp".into());
                v
            }
            Op::Var(v) => self.read_var(*v, st),
            Op::Global(name) => self.global(id, name),
            Op::Class(c) => Value {
                kind: Kind::Class(*c),
                ..Value::default()
            },
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
                    guard: v.guard.map(|g| {
                        Guard {
                            yes: g.no.clone(),
                            no: g.yes.clone(),
                        }
                        .into()
                    }),
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
                if self
                    .module
                    .functions
                    .get(*f as usize)
                    .is_some_and(|f| f.nested)
                    || self.is_lambda(*f)
                {
                    // Run where it stands, with nothing known of its arguments.
                    self.run_nested(*f, &[], &[], st);
                }
                Value {
                    kind: Kind::Func(*f),
                    ..Value::default()
                }
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
                        return Value {
                            constant: v.constant,
                            ..Value::default()
                        };
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
    fn eval_under(&mut self, n: NodeId, kills: &[Kill], st: &mut State) -> Value {
        let before = st.kills.len();
        st.kills.extend(kills.iter().cloned());
        let v = self.eval(n, st).without(&st.kills);
        st.kills.truncate(before);
        v
    }

    pub(super) fn is_lambda(&self, f: FuncId) -> bool {
        self.module
            .functions
            .get(f as usize)
            .is_some_and(|f| f.name.is_empty())
    }

    fn read_var(&self, v: VarId, st: &State) -> Value {
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
        let step = Trace::step(
            None,
            span,
            format!("{} enters: `{}`", s.what, short(text)).into(),
        );
        v.set_facts(vec![source_fact(digest(text), s.container, step)]);
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
                && let Some(e) = self
                    .class_base
                    .get(c as usize)
                    .and_then(|b| b.element(&key))
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
            let what = f
                .trace
                .steps()
                .first()
                .map(|s| s.message.to_string())
                .unwrap_or_default();
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
        let mut own = v.facts().to_vec();
        for f in &mut own {
            f.container = false;
        }
        merge_facts(&mut facts, &own);
        out.set_facts(facts);
        out.constant = None;
        out
    }

    fn list(&mut self, items: &[NodeId], st: &mut State) -> Value {
        let mut out = Value {
            elements: Some(std::rc::Rc::default()),
            ..Value::default()
        };
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
        let mut out = Value {
            elements: Some(std::rc::Rc::default()),
            ..Value::default()
        };
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

    fn binary(&mut self, op: BinOp, a: NodeId, b: NodeId, st: &mut State) -> Value {
        let x = self.eval(a, st);
        if matches!(op, BinOp::And | BinOp::Or) {
            return self.logical(op, &x, b, st);
        }
        let y = self.eval(b, st);
        match op {
            BinOp::Add => {
                if let (Some(Const::Int(i)), Some(Const::Int(j))) = (&x.constant, &y.constant) {
                    return Value::constant(Const::Int(i.wrapping_add(*j)));
                }
                if x.elements.is_some() && y.elements.is_some() {
                    return joined_lists(&x, &y);
                }
                concat(&[x, y])
            }
            BinOp::Mod => match (&x.constant, &y.constant) {
                (Some(Const::Int(i)), Some(Const::Int(j))) => i
                    .checked_rem(*j)
                    .map(|r| Value::constant(Const::Int(r)))
                    .unwrap_or_default(),
                _ => Self::format(&x, &[y]),
            },
            BinOp::Sub | BinOp::Mul | BinOp::Div => {
                if let (Some(Const::Int(i)), Some(Const::Int(j))) = (&x.constant, &y.constant) {
                    let r = match op {
                        BinOp::Sub => Some(i.wrapping_sub(*j)),
                        BinOp::Mul => Some(i.wrapping_mul(*j)),
                        _ => i.checked_div(*j),
                    };
                    return r
                        .map(|r| Value::constant(Const::Int(r)))
                        .unwrap_or_default();
                }
                // `directory / name` of path objects.
                if op == BinOp::Div {
                    concat(&[x, y])
                } else {
                    Value::default()
                }
            }
            BinOp::Eq | BinOp::Ne => Self::equality(op, &x, &y),
            BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge => {
                let (Some(Const::Int(i)), Some(Const::Int(j))) = (&x.constant, &y.constant) else {
                    return Value::default();
                };
                let r = match op {
                    BinOp::Lt => i < j,
                    BinOp::Le => i <= j,
                    BinOp::Gt => i > j,
                    _ => i >= j,
                };
                Value::constant(Const::Bool(r))
            }
            BinOp::In => membership(&x, &y),
            BinOp::Other | BinOp::And | BinOp::Or => Value::default(),
        }
    }

    fn logical(&mut self, op: BinOp, x: &Value, b: NodeId, st: &mut State) -> Value {
        let and = op == BinOp::And;
        let g = x.guard.as_deref().cloned().unwrap_or_default();
        match x.constant.as_ref().map(Const::truthy) {
            Some(t) if t != and => return x.clone(),
            Some(_) => return self.eval(b, st),
            None => {}
        }
        let y = self.eval_under(b, if and { &g.yes } else { &g.no }, st);
        let h = y.guard.as_deref().cloned().unwrap_or_default();
        let short = x.without(if and { &g.no } else { &g.yes });
        let mut out = if and {
            // `a && b` is `b`, or an `a` that does not hold.
            let mut o = y.clone();
            if y.constant.as_ref().is_none_or(Const::truthy) {
                o.constant = None;
            }
            o
        } else {
            short.join(&y)
        };
        let all = |p: &[Kill], q: &[Kill]| p.iter().chain(q).cloned().collect::<Vec<_>>();
        let both = |p: &[Kill], q: &[Kill]| {
            p.iter()
                .filter(|k| q.contains(k))
                .cloned()
                .collect::<Vec<_>>()
        };
        out.guard = Some(
            if and {
                Guard {
                    yes: all(&g.yes, &h.yes),
                    no: both(&g.no, &h.no),
                }
            } else {
                Guard {
                    yes: both(&g.yes, &h.yes),
                    no: all(&g.no, &h.no),
                }
            }
            .into(),
        );
        out
    }

    fn equality(op: BinOp, x: &Value, y: &Value) -> Value {
        let equal = op == BinOp::Eq;
        if let (Some(a), Some(b)) = (&x.constant, &y.constant) {
            return Value::constant(Const::Bool((a == b) == equal));
        }
        let (tested, against) = if x.facts.is_some() { (x, y) } else { (y, x) };
        let mut out = Value::default();
        // `x.indexOf(..) === -1` and `x.find(..) == -1` turn a test round.
        if let (Some(g), Some(c)) = (&tested.guard, &against.constant) {
            let found = !matches!(c, Const::Int(-1) | Const::Bool(false));
            let g = (**g).clone();
            let g = if found == equal {
                g
            } else {
                Guard {
                    yes: g.no,
                    no: g.yes,
                }
            };
            out.guard = Some(g.into());
            return out;
        }
        if let (Some(g), Some(c)) = (&against.guard, &tested.constant) {
            let found = !matches!(c, Const::Int(-1) | Const::Bool(false));
            let g = (**g).clone();
            let g = if found == equal {
                g
            } else {
                Guard {
                    yes: g.no,
                    no: g.yes,
                }
            };
            out.guard = Some(g.into());
            return out;
        }
        // Equal to something that is no outside data: the value is known good. The
        // comparison with nothing (null, empty) says nothing about other values.
        if against.facts.is_none() && tested.facts.is_some() {
            let kills: Vec<Kill> = tested
                .facts()
                .iter()
                .map(|f| (f.origin.clone(), ALL_LABELS))
                .collect();
            let g = if equal {
                Guard {
                    yes: kills,
                    no: Vec::new(),
                }
            } else {
                Guard {
                    yes: Vec::new(),
                    no: kills,
                }
            };
            out.guard = Some(g.into());
        }
        out
    }

    /// A format string and its arguments, in the order of the text as far as it
    /// matters: the text before the first hole is known.
    pub(super) fn format(text: &Value, args: &[Value]) -> Value {
        let mut parts = vec![];
        if let Some(Const::Str(s)) = &text.constant {
            let at = s.find(['%', '{']).unwrap_or(s.len());
            parts.push(Value::constant(Const::Str(
                s.get(..at).unwrap_or_default().into(),
            )));
        } else {
            parts.push(Value {
                constant: None,
                ..text.clone()
            });
        }
        for a in args {
            match a.elements.as_deref() {
                Some(e) => {
                    parts.extend(e.known.values().cloned());
                    parts.extend(e.any.clone());
                    if a.facts.is_some() {
                        parts.push(a.only_facts());
                    }
                }
                None => parts.push(a.clone()),
            }
        }
        let mut out = concat(&parts);
        out.html |= text.html;
        if !args.is_empty() && out.constant.is_some() {
            // The exact text would need a formatter; that it is constant is enough.
            out.prefix = out
                .constant
                .as_ref()
                .and_then(Const::as_str)
                .map(Into::into);
            out.constant = None;
        }
        out
    }

    /// A variable or field that takes outside data is a step of its way.
    fn stepped(&self, mut v: Value, place: &Place, span: &ByteSpan) -> Value {
        if v.facts.is_none() {
            return v;
        }
        let name = match place {
            Place::Var(x) => self.module.vars.get(*x as usize).map(|x| x.name.clone()),
            Place::Field(_, n) => Some(n.clone()),
            _ => None,
        };
        if let Some(n) = name {
            let mut facts = v.facts().to_vec();
            for f in &mut facts {
                f.trace = Trace::step(
                    Some(&f.trace),
                    span.clone(),
                    format!("stored in `{n}`").into(),
                );
            }
            v.set_facts(facts);
        }
        v
    }

    /// Stores a value at a place.
    pub(super) fn store(&mut self, place: &Place, v: Value, st: &mut State) {
        match place {
            Place::Var(x) => {
                let mut v = v;
                if let Some(ty) = self
                    .module
                    .vars
                    .get(*x as usize)
                    .and_then(|x| x.ty.as_deref())
                {
                    if super::report::is_scalar_type(Some(ty)) {
                        v.facts = None;
                    }
                    let known = v.name.as_deref().is_some_and(|n| self.table.knows_type(n));
                    if !known {
                        v.name = Some(self.canonical(&ty.into()));
                    }
                }
                st.set(*x, v);
            }
            Place::Field(object, name) => {
                if let Some((root, mut path)) = self.path_of(*object, st) {
                    path.push(Key::Named(name.clone()));
                    self.store_path(root, &path, v, st);
                }
            }
            Place::Index(object, key) => {
                let k = self.eval(*key, st);
                if let Some((root, mut path)) = self.path_of(*object, st) {
                    match k.constant {
                        Some(Const::Str(s)) => path.push(Key::Named(s)),
                        Some(Const::Int(i)) => path.push(Key::At(i)),
                        _ => {
                            self.update(root, &path, st, |o| o.add_element(v));
                            return;
                        }
                    }
                    self.store_path(root, &path, v, st);
                }
            }
            Place::Tuple(places) => {
                for (i, p) in places.iter().enumerate() {
                    let part = match v.element(&Key::At(i as i64)) {
                        Some(e) => e,
                        None => {
                            let mut o = v.only_facts();
                            o.set_facts(
                                v.facts()
                                    .iter()
                                    .map(|f| {
                                        let mut f = f.clone();
                                        if let Origin::Param(n, path) = &f.origin
                                            && path.len() < MAX_PATH
                                        {
                                            let mut q = path.to_vec();
                                            q.push(Key::At(i as i64));
                                            f.origin = Origin::Param(*n, q.into());
                                        }
                                        f
                                    })
                                    .collect(),
                            );
                            if i == 0 {
                                o.name.clone_from(&v.name);
                                o.kind = v.kind;
                            }
                            o
                        }
                    };
                    self.store(p, part, st);
                }
            }
            Place::Object(parts) => {
                for (name, p) in parts {
                    let part = match name {
                        Some(n) => self.pattern_field(&v, n, p),
                        None => v.clone(),
                    };
                    self.store(p, part, st);
                }
            }
            Place::Default(p, default) => {
                let d = self.eval(*default, st);
                let both = if v.constant.is_none() && v.facts.is_none() && v.name.is_none() {
                    d
                } else {
                    Value {
                        name: v.name.clone(),
                        ..v.join(&d)
                    }
                };
                self.store(p, both, st);
            }
            Place::Ignore => {}
        }
    }

    /// `{ name } = value`: like a field read, but its own text is the pattern's.
    fn pattern_field(&mut self, v: &Value, name: &Name, _: &Place) -> Value {
        let key = Key::Named(name.clone());
        let mut out = v.element(&key).unwrap_or_else(|| {
            let mut o = Value::default();
            if is_harmless_part(name) {
                return o;
            }
            let mut facts = v.facts().to_vec();
            for f in &mut facts {
                match &f.origin {
                    Origin::Param(i, path) if path.len() < MAX_PATH => {
                        let mut p = path.to_vec();
                        p.push(key.clone());
                        f.origin = Origin::Param(*i, p.into());
                    }
                    Origin::Source(s) if f.container => {
                        f.origin = Origin::Source(*s ^ digest(name));
                        f.container = false;
                    }
                    _ => {}
                }
            }
            o.set_facts(facts);
            o
        });
        if let Some(n) = &v.name {
            let full = format!("{n}.{name}");
            if let Some(m) = self.table.exact(&full) {
                if let Some(t) = &m.ty {
                    out.name = Some(t.as_str().into());
                }
                if let Some(s) = &m.source {
                    let at = self.last_span.clone();
                    let step = Trace::step(None, at, format!("{} enters: `{name}`", s.what).into());
                    out.set_facts(vec![source_fact(digest(&full), s.container, step)]);
                }
            }
            if out.name.is_none() && full.len() < MAX_NAME {
                out.name = Some(full.into());
            }
        }
        out
    }

    /// The variable (or receiver) that a node reads from, and the path within it.
    pub(super) fn path_of(&mut self, node: NodeId, st: &mut State) -> Option<(Root, Vec<Key>)> {
        let module = self.module;
        match &module.nodes.get(node as usize)?.op {
            Op::Var(v) => Some((Root::Var(*v), Vec::new())),
            Op::This => Some((Root::This, Vec::new())),
            Op::Cast(a, _) => self.path_of(*a, st),
            Op::Field(o, name) => {
                let (r, mut p) = self.path_of(*o, st)?;
                p.push(Key::Named(name.clone()));
                (p.len() <= MAX_PATH).then_some((r, p))
            }
            Op::Index(o, k) => {
                let (r, mut p) = self.path_of(*o, st)?;
                match self.eval(*k, st).constant {
                    Some(Const::Str(s)) => p.push(Key::Named(s)),
                    Some(Const::Int(i)) => p.push(Key::At(i)),
                    _ => return None,
                }
                (p.len() <= MAX_PATH).then_some((r, p))
            }
            // A builder gives itself: `b.append(x).append(y)` changes `b`.
            Op::Call { callee, .. } => match &module.nodes.get(*callee as usize)?.op {
                Op::Field(o, m) if super::containers::returns_receiver(m) => self.path_of(*o, st),
                _ => None,
            },
            _ => None,
        }
    }

    fn store_path(&mut self, root: Root, path: &[Key], v: Value, st: &mut State) {
        let Some((last, front)) = path.split_last() else {
            return;
        };
        let last = last.clone();
        self.update(root, front, st, |o| {
            if matches!(last, Key::At(_))
                && o.elements
                    .as_deref()
                    .is_some_and(|e| e.len.is_none() && e.any.is_some())
            {
                o.add_element(v.clone());
            }
            o.set_element(last, v);
        });
    }

    /// Changes what stands at a path.
    pub(super) fn update(
        &mut self,
        root: Root,
        path: &[Key],
        st: &mut State,
        change: impl FnOnce(&mut Value),
    ) {
        let mut base = match root {
            Root::Var(v) => self.read_var(v, st),
            Root::This => std::mem::take(&mut st.this),
        };
        descend(&mut base, path, change);
        match root {
            Root::Var(v) => {
                st.set(v, base);
            }
            Root::This => st.this = base,
        }
    }
}

/// Changes what stands at a path below a value; more elements than are kept apart
/// are not changed.
fn descend(at: &mut Value, path: &[Key], change: impl FnOnce(&mut Value)) {
    let Some((k, rest)) = path.split_first() else {
        change(at);
        at.constant = None;
        return;
    };
    if at.element(k).is_none() {
        let mut fresh = Value::default();
        fresh.set_facts(at.facts().to_vec());
        at.set_element(k.clone(), fresh);
    }
    if let Some(e) = at.elements.as_mut()
        && let Some(next) = std::rc::Rc::make_mut(e).known.get_mut(k)
    {
        descend(next, rest, change);
    }
}

/// Where a path begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Root {
    /// A variable.
    Var(VarId),
    /// The receiver.
    This,
}

fn joined_lists(x: &Value, y: &Value) -> Value {
    let (Some(a), Some(b)) = (x.elements.as_deref(), y.elements.as_deref()) else {
        return x.join(y);
    };
    if a.len.is_none() || b.len.is_none() {
        return x.join(y);
    }
    let mut out = x.clone();
    for i in 0..b.len.unwrap_or(0) {
        out.push_element(b.known.get(&Key::At(i)).cloned().unwrap_or_default());
    }
    let mut facts = out.facts().to_vec();
    merge_facts(&mut facts, y.facts());
    out.set_facts(facts);
    out
}

/// `needle in haystack`.
pub(super) fn membership(needle: &Value, haystack: &Value) -> Value {
    let mut out = Value::default();
    if needle.facts.is_some() && haystack.facts.is_none() && haystack.deep_facts().is_empty() {
        let yes = needle
            .facts()
            .iter()
            .map(|f| (f.origin.clone(), ALL_LABELS))
            .collect();
        out.guard = Some(
            Guard {
                yes,
                no: Vec::new(),
            }
            .into(),
        );
    } else if haystack.facts.is_some()
        && let Some(Const::Str(s)) = &needle.constant
    {
        let mut gone = 0;
        if s.contains("..") || matches!(&**s, "/" | "\\") {
            gone |= label("path");
        }
        if gone != 0 {
            let no = haystack
                .facts()
                .iter()
                .map(|f| (f.origin.clone(), gone))
                .collect();
            out.guard = Some(
                Guard {
                    yes: Vec::new(),
                    no,
                }
                .into(),
            );
        }
    }
    out
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
