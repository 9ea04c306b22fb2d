//! Operators: arithmetic, joining of texts, comparison, logic, formatting.

use super::super::ir::*;
use super::super::rules::{ALL_LABELS, label};
use super::text::concat;
use super::value::*;
use super::{Interpreter, State};

impl Interpreter<'_> {
    pub(super) fn binary(&mut self, op: BinOp, a: NodeId, b: NodeId, st: &mut State) -> Value {
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
                (Some(Const::Int(i)), Some(Const::Int(j))) => {
                    i.checked_rem(*j).map(|r| Value::constant(Const::Int(r))).unwrap_or_default()
                }
                _ => Self::format(&x, &[y]),
            },
            BinOp::Sub | BinOp::Mul | BinOp::Div => {
                if let (Some(Const::Int(i)), Some(Const::Int(j))) = (&x.constant, &y.constant) {
                    let r = match op {
                        BinOp::Sub => Some(i.wrapping_sub(*j)),
                        BinOp::Mul => Some(i.wrapping_mul(*j)),
                        _ => i.checked_div(*j),
                    };
                    return r.map(|r| Value::constant(Const::Int(r))).unwrap_or_default();
                }
                // `directory / name` of path objects.
                if op == BinOp::Div { concat(&[x, y]) } else { Value::default() }
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

    pub(super) fn logical(&mut self, op: BinOp, x: &Value, b: NodeId, st: &mut State) -> Value {
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
            p.iter().filter(|k| q.contains(k)).cloned().collect::<Vec<_>>()
        };
        out.guard = Some(
            if and {
                Guard { yes: all(&g.yes, &h.yes), no: both(&g.no, &h.no) }
            } else {
                Guard { yes: both(&g.yes, &h.yes), no: all(&g.no, &h.no) }
            }
            .into(),
        );
        out
    }

    pub(super) fn equality(op: BinOp, x: &Value, y: &Value) -> Value {
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
            let g = if found == equal { g } else { Guard { yes: g.no, no: g.yes } };
            out.guard = Some(g.into());
            return out;
        }
        if let (Some(g), Some(c)) = (&against.guard, &tested.constant) {
            let found = !matches!(c, Const::Int(-1) | Const::Bool(false));
            let g = (**g).clone();
            let g = if found == equal { g } else { Guard { yes: g.no, no: g.yes } };
            out.guard = Some(g.into());
            return out;
        }
        // Equal to something that is no outside data: the value is known good. The
        // comparison with nothing (null, empty) says nothing about other values.
        if against.facts.is_none() && tested.facts.is_some() {
            let kills: Vec<Kill> =
                tested.facts().iter().map(|f| (f.origin.clone(), ALL_LABELS)).collect();
            let g = if equal {
                Guard { yes: kills, no: Vec::new() }
            } else {
                Guard { yes: Vec::new(), no: kills }
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
            parts.push(Value::constant(Const::Str(s.get(..at).unwrap_or_default().into())));
        } else {
            parts.push(Value { constant: None, ..text.clone() });
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
            out.prefix = out.constant.as_ref().and_then(Const::as_str).map(Into::into);
            out.constant = None;
        }
        out
    }
}

pub(super) fn joined_lists(x: &Value, y: &Value) -> Value {
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
        let yes = needle.facts().iter().map(|f| (f.origin.clone(), ALL_LABELS)).collect();
        out.guard = Some(Guard { yes, no: Vec::new() }.into());
    } else if haystack.facts.is_some()
        && let Some(Const::Str(s)) = &needle.constant
    {
        let mut gone = 0;
        if s.contains("..") || matches!(&**s, "/" | "\\") {
            gone |= label("path");
        }
        if gone != 0 {
            let no = haystack.facts().iter().map(|f| (f.origin.clone(), gone)).collect();
            out.guard = Some(Guard { yes: Vec::new(), no }.into());
        }
    }
    out
}
