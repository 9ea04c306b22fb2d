//! Storing: variables, fields, elements and patterns.

use super::super::ir::*;
use super::eval::{MAX_NAME, is_harmless_part};
use super::report::digest;
use super::value::*;
use super::{Interpreter, MAX_PATH, State};

impl Interpreter<'_> {
    /// A variable or field that takes outside data is a step of its way.
    pub(super) fn stepped(&self, mut v: Value, place: &Place, span: &ByteSpan) -> Value {
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
                f.trace =
                    Trace::step(Some(&f.trace), span.clone(), format!("stored in `{n}`").into());
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
                if let Some(ty) = self.module.vars.get(*x as usize).and_then(|x| x.ty.as_deref()) {
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
                    Value { name: v.name.clone(), ..v.join(&d) }
                };
                self.store(p, both, st);
            }
            Place::Ignore => {}
        }
    }

    /// `{ name } = value`: like a field read, but its own text is the pattern's.
    pub(super) fn pattern_field(&mut self, v: &Value, name: &Name, _: &Place) -> Value {
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
                    out.set_facts(vec![source_fact(digest(&full), s, step)]);
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

    pub(super) fn store_path(&mut self, root: Root, path: &[Key], v: Value, st: &mut State) {
        let Some((last, front)) = path.split_last() else {
            return;
        };
        let last = last.clone();
        self.update(root, front, st, |o| {
            if matches!(last, Key::At(_))
                && o.elements.as_deref().is_some_and(|e| e.len.is_none() && e.any.is_some())
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
pub(super) fn descend(at: &mut Value, path: &[Key], change: impl FnOnce(&mut Value)) {
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
