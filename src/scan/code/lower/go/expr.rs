//! Expressions of Go.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{children, field, integer, operator, unescape};
use super::Go;

impl Go<'_> {
    pub(super) fn place(&mut self, l: Syntax<'_>, declare: bool) -> Place {
        match l.kind() {
            "identifier" => {
                let name = self.b.text(l);
                if name == "_" {
                    return Place::Ignore;
                }
                let v = if declare {
                    self.b.declare(name)
                } else {
                    match self.b.resolve(name) {
                        Some(v) => v,
                        None => self.b.declare_in_function(name),
                    }
                };
                self.b.place_var(v)
            }
            "selector_expression" => {
                let o = self.field_expr(l, "operand");
                Place::Field(o, field(l, "field").map(|c| self.b.name(c)).unwrap_or_default())
            }
            "index_expression" => {
                let o = self.field_expr(l, "operand");
                let k = self.field_expr(l, "index");
                Place::Index(o, k)
            }
            "parenthesized_expression" => match children(l).first() {
                Some(c) => self.place(*c, declare),
                None => Place::Ignore,
            },
            _ => Place::Ignore,
        }
    }

    pub(super) fn field_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match field(n, name) {
            Some(c) => self.expr(c),
            None => self.b.unknown(n),
        }
    }

    pub(super) fn exprs(&mut self, n: Syntax<'_>) -> Vec<NodeId> {
        children(n).into_iter().map(|c| self.expr(c)).collect()
    }

    pub(super) fn expr(&mut self, n: Syntax<'_>) -> NodeId {
        if !self.b.enter() {
            return self.b.unknown(n);
        }
        let id = self.expr_inner(n);
        self.b.leave();
        id
    }

    pub(super) fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
        match n.kind() {
            "identifier" => {
                let name = self.b.text(n);
                if self.receiver.as_deref() == Some(name) && self.b.resolve(name).is_none() {
                    return self.b.add(n, Op::This);
                }
                self.b.mention(name);
                match self.b.resolve(name) {
                    Some(v) => self.b.add(n, Op::Var(v)),
                    None => self.b.add(n, Op::Global(name.into())),
                }
            }
            "nil" => self.b.add(n, Op::Lit(Const::Null)),
            "true" => self.b.add(n, Op::Lit(Const::Bool(true))),
            "false" => self.b.add(n, Op::Lit(Const::Bool(false))),
            "int_literal" => match integer(self.b.text(n)) {
                Some(i) => self.b.add(n, Op::Lit(Const::Int(i))),
                None => self.b.unknown(n),
            },
            "interpreted_string_literal" | "rune_literal" => {
                let t = self.b.text(n);
                let s = unescape(t.get(1..t.len().saturating_sub(1)).unwrap_or_default());
                self.b.string(n, &s)
            }
            "raw_string_literal" => {
                let t = self.b.text(n).trim_matches('`');
                self.b.string(n, t)
            }
            "parenthesized_expression" | "literal_element" | "variadic_argument" => {
                match children(n).first() {
                    Some(c) => self.expr(*c),
                    None => self.b.unknown(n),
                }
            }
            "unary_expression" => {
                let a = self.field_expr(n, "operand");
                match operator(n) {
                    "!" => self.b.add(n, Op::Not(a)),
                    "-" => self.b.add(n, Op::Neg(a)),
                    // A pointer to a value is that value here.
                    "&" | "*" => a,
                    "<-" => self.b.add(n, Op::Element(a)),
                    _ => self.b.add(n, Op::Unknown(vec![a])),
                }
            }
            "selector_expression" => {
                let o = self.field_expr(n, "operand");
                let name = field(n, "field").map(|c| self.b.text(c)).unwrap_or_default();
                self.b.mention(name);
                self.b.field(n, o, name)
            }
            "index_expression" => {
                let o = self.field_expr(n, "operand");
                let k = self.field_expr(n, "index");
                self.b.add(n, Op::Index(o, k))
            }
            "slice_expression" => {
                let o = self.field_expr(n, "operand");
                self.b.add(n, Op::Cast(o, None))
            }
            "type_assertion_expression" => {
                let o = self.field_expr(n, "operand");
                let ty = field(n, "type").and_then(|t| self.type_name(t));
                self.b.add(n, Op::Cast(o, Some(ty.unwrap_or_else(|| "any".into()))))
            }
            "type_conversion_expression" => {
                let o = self.field_expr(n, "operand");
                match field(n, "type").and_then(|t| self.type_name(t)) {
                    Some(t) if &*t != "string" => {
                        // `template.HTML(x)` is a conversion that rules speak of.
                        let callee = self.b.add(n, Op::Global(t));
                        self.b.call(n, callee, vec![o])
                    }
                    _ => o,
                }
            }
            "call_expression" => self.call(n),
            "composite_literal" => self.composite(n),
            "func_literal" => {
                let f = self.function(n, "", None);
                self.b.add(n, Op::Closure(f))
            }
            "binary_expression" => self.binary(n),
            _ => {
                let all = self.exprs(n);
                self.b.add(n, Op::Unknown(all))
            }
        }
    }

    pub(super) fn call(&mut self, n: Syntax<'_>) -> NodeId {
        let Some(f) = field(n, "function") else {
            return self.b.unknown(n);
        };
        let list = field(n, "arguments").map(children).unwrap_or_default();
        let name = self.b.text(f);
        if let Some(first) = list.first().copied() {
            // Conversions and built-ins look like calls.
            let free = self.b.resolve(name).is_none();
            match name {
                "string" | "[]byte" | "[]rune" if free => return self.expr(first),
                "append" if free => return self.append(n, &list),
                "len" | "cap" | "delete" if free => {
                    let ids = list.iter().map(|c| self.expr(*c)).collect();
                    return self.b.add(n, Op::Unknown(ids));
                }
                "new" if free => {
                    if let Some(c) = self.class_id(self.b.text(first)) {
                        let callee = self.b.add(first, Op::Class(c));
                        return self.b.add(n, Op::Call { callee, args: Vec::new(), new: true });
                    }
                    return match self.type_name(first) {
                        Some(t) => {
                            let u = self.b.unknown(n);
                            self.b.add(n, Op::Cast(u, Some(t)))
                        }
                        None => self.b.unknown(n),
                    };
                }
                "make" if free => return self.b.add(n, Op::Map(Vec::new())),
                "panic" if free => {}
                _ => {}
            }
        }
        if f.kind() == "parenthesized_expression" && list.len() == 1 {
            // `(*T)(x)`.
            if let Some(c) = list.first() {
                return self.expr(*c);
            }
        }
        let callee = self.expr(f);
        let mut args = Vec::new();
        for c in list {
            let spread = c.kind() == "variadic_argument";
            let value = self.expr(c);
            args.push(Arg { name: None, value, spread });
        }
        self.b.add(n, Op::Call { callee, args, new: false })
    }

    /// `append(list, items...)` is the list and the items.
    pub(super) fn append(&mut self, n: Syntax<'_>, list: &[Syntax<'_>]) -> NodeId {
        let mut ids = list.iter().map(|c| (c.kind() == "variadic_argument", self.expr(*c)));
        let Some((_, mut acc)) = ids.next() else {
            return self.b.unknown(n);
        };
        let mut items = Vec::new();
        let mut joined = Vec::new();
        for (spread, id) in ids.collect::<Vec<_>>() {
            if spread { joined.push(id) } else { items.push(id) }
        }
        if !items.is_empty() {
            let more = self.b.add(n, Op::List(items));
            acc = self.b.add(n, Op::Bin(BinOp::Add, acc, more));
        }
        for j in joined {
            acc = self.b.add(n, Op::Bin(BinOp::Add, acc, j));
        }
        acc
    }

    pub(super) fn composite(&mut self, n: Syntax<'_>) -> NodeId {
        let ty = field(n, "type");
        let body = field(n, "body").map(children).unwrap_or_default();
        let keyed = body.iter().any(|c| c.kind() == "keyed_element");
        let Some(t) = ty.and_then(|t| self.type_name(t)) else {
            // A list or a map.
            if keyed {
                let items = self.keyed(&body, true);
                return self.b.add(n, Op::Map(items));
            }
            let mut ids = Vec::new();
            for c in body {
                ids.push(self.literal(c));
            }
            return self.b.add(n, Op::List(ids));
        };
        let mut args = Vec::new();
        for c in body {
            if c.kind() == "keyed_element" {
                let (Some(k), Some(v)) = (field(c, "key"), field(c, "value")) else {
                    continue;
                };
                let name = Some(self.b.name(k));
                let value = self.literal(v);
                args.push(Arg { name, value, spread: false });
            } else {
                let value = self.literal(c);
                args.push(Arg { name: None, value, spread: false });
            }
        }
        let callee = match self.class_id(&t) {
            Some(c) => self.b.add(n, Op::Class(c)),
            None => self.b.add(n, Op::Global(t)),
        };
        self.b.add(n, Op::Call { callee, args, new: true })
    }

    pub(super) fn keyed(
        &mut self,
        body: &[Syntax<'_>],
        expr_keys: bool,
    ) -> Vec<(Option<NodeId>, NodeId)> {
        let mut out = Vec::new();
        for c in body.iter().filter(|c| c.kind() == "keyed_element") {
            let (Some(k), Some(v)) = (field(*c, "key"), field(*c, "value")) else {
                continue;
            };
            let key = if expr_keys {
                self.literal(k)
            } else {
                let t = self.b.text(k);
                self.b.string(k, t)
            };
            let value = self.literal(v);
            out.push((Some(key), value));
        }
        out
    }

    /// An element of a literal: a value, or a nested literal without its type.
    pub(super) fn literal(&mut self, c: Syntax<'_>) -> NodeId {
        if !self.b.enter() {
            return self.b.unknown(c);
        }
        let inner = match c.kind() {
            "literal_element" => children(c).first().copied().unwrap_or(c),
            _ => c,
        };
        let id = if inner.kind() == "literal_value" {
            let body = children(inner);
            if body.iter().any(|c| c.kind() == "keyed_element") {
                let items = self.keyed(&body, false);
                self.b.add(inner, Op::Map(items))
            } else {
                let ids = body.into_iter().map(|c| self.literal(c)).collect();
                self.b.add(inner, Op::List(ids))
            }
        } else {
            self.expr(inner)
        };
        self.b.leave();
        id
    }

    pub(super) fn binary(&mut self, n: Syntax<'_>) -> NodeId {
        let mut terms = Vec::new();
        let mut at = n;
        while at.kind() == "binary_expression" && operator(at) == "+" {
            let (Some(l), Some(r)) = (field(at, "left"), field(at, "right")) else {
                break;
            };
            terms.push(r);
            at = l;
        }
        if !terms.is_empty() {
            terms.push(at);
            let ids = terms.into_iter().rev().map(|t| self.expr(t)).collect();
            return self.b.sum(n, ids);
        }
        let a = self.field_expr(n, "left");
        let b = self.field_expr(n, "right");
        let kind = match operator(n) {
            "-" => BinOp::Sub,
            "*" => BinOp::Mul,
            "/" => BinOp::Div,
            "%" => BinOp::Mod,
            "==" => BinOp::Eq,
            "!=" => BinOp::Ne,
            "<" => BinOp::Lt,
            "<=" => BinOp::Le,
            ">" => BinOp::Gt,
            ">=" => BinOp::Ge,
            "&&" => BinOp::And,
            "||" => BinOp::Or,
            _ => BinOp::Other,
        };
        self.b.add(n, Op::Bin(kind, a, b))
    }
}
