//! Expressions of Python.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{children, field, integer, unescape};
use super::Python;

impl Python<'_> {
    pub(super) fn field_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match field(n, name) {
            Some(c) => self.expr(c),
            None => self.b.unknown(n),
        }
    }

    pub(super) fn expr(&mut self, n: Syntax<'_>) -> NodeId {
        if !self.b.enter() {
            return self.b.unknown(n);
        }
        let id = self.expr_inner(n);
        self.b.leave();
        id
    }

    pub(super) fn exprs(&mut self, n: Syntax<'_>) -> Vec<NodeId> {
        children(n).into_iter().map(|c| self.expr(c)).collect()
    }

    pub(super) fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
        match n.kind() {
            "identifier" => {
                let name = self.b.text(n);
                if self.receivers.iter().any(|r| r.as_deref() == Some(name)) {
                    return self.b.add(n, Op::This);
                }
                self.b.mention(name);
                match self.b.resolve(name) {
                    Some(v) => self.b.add(n, Op::Var(v)),
                    None => self.b.add(n, Op::Global(name.into())),
                }
            }
            "true" => self.b.add(n, Op::Lit(Const::Bool(true))),
            "false" => self.b.add(n, Op::Lit(Const::Bool(false))),
            "none" => self.b.add(n, Op::Lit(Const::Null)),
            "integer" => match integer(self.b.text(n)) {
                Some(i) => self.b.add(n, Op::Lit(Const::Int(i))),
                None => self.b.unknown(n),
            },
            "string" => self.string(n),
            "concatenated_string" => {
                let parts = self.exprs(n);
                self.b.sum(n, parts)
            }
            "attribute" => {
                let object = self.field_expr(n, "object");
                let name = field(n, "attribute").map(|c| self.b.text(c)).unwrap_or_default();
                self.b.mention(name);
                self.b.field(n, object, name)
            }
            "subscript" => {
                let object = self.field_expr(n, "value");
                match field(n, "subscript") {
                    Some(s) if s.kind() != "slice" => {
                        let key = self.expr(s);
                        self.b.add(n, Op::Index(object, key))
                    }
                    // A slice is a part of the same text or list.
                    _ => self.b.add(n, Op::Cast(object, None)),
                }
            }
            "call" => self.call(n),
            "await" | "parenthesized_expression" | "list_splat" | "dictionary_splat" => {
                match children(n).first() {
                    Some(c) => self.expr(*c),
                    None => self.b.unknown(n),
                }
            }
            "type_conversion" | "slice" | "expression" | "yield" => {
                let all = self.exprs(n);
                self.b.add(n, Op::Join(all))
            }
            "named_expression" => {
                let value = self.field_expr(n, "value");
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let v = self.b.declare_in_function(name);
                let place = self.b.place_var(v);
                self.b.assign(n, place, value)
            }
            "as_pattern" => {
                let parts = children(n);
                let value = parts.first().map(|c| self.expr(*c));
                let value = value.unwrap_or_else(|| self.b.unknown(n));
                match field(n, "alias").and_then(|a| children(a).first().copied()) {
                    Some(target) => {
                        let place = self.place(target);
                        self.b.assign(n, place, value)
                    }
                    None => value,
                }
            }
            "assignment" => {
                let value = match field(n, "right") {
                    Some(r) => self.expr(r),
                    // `x: int` declares only.
                    None => return self.b.unknown(n),
                };
                let ty = field(n, "type").map(|t| self.type_name(t));
                match field(n, "left") {
                    Some(l) => {
                        let place = self.place(l);
                        if let Place::Var(v) = place {
                            self.b.set_type(v, ty);
                        }
                        self.b.assign(n, place, value)
                    }
                    None => value,
                }
            }
            "augmented_assignment" => {
                let (Some(l), Some(r)) = (field(n, "left"), field(n, "right")) else {
                    return self.b.unknown(n);
                };
                let old = self.expr(l);
                let new = self.expr(r);
                let op = match field(n, "operator").map(|o| self.b.text(o)) {
                    Some("+=") => BinOp::Add,
                    Some("-=") => BinOp::Sub,
                    Some("*=") => BinOp::Mul,
                    Some("%=") => BinOp::Mod,
                    _ => BinOp::Other,
                };
                let value = self.b.add(n, Op::Bin(op, old, new));
                let place = self.place(l);
                self.b.assign(n, place, value)
            }
            "binary_operator" => self.binary(n),
            "boolean_operator" => {
                let a = self.field_expr(n, "left");
                let b = self.field_expr(n, "right");
                let and = field(n, "operator").is_some_and(|o| o.kind() == "and");
                self.b.add(n, Op::Bin(if and { BinOp::And } else { BinOp::Or }, a, b))
            }
            "not_operator" => {
                let a = self.field_expr(n, "argument");
                self.b.add(n, Op::Not(a))
            }
            "unary_operator" => {
                let a = self.field_expr(n, "argument");
                let minus = field(n, "operator").is_some_and(|o| o.kind() == "-");
                self.b.add(n, if minus { Op::Neg(a) } else { Op::Unknown(vec![a]) })
            }
            "comparison_operator" => self.comparison(n),
            "conditional_expression" => {
                let c = children(n);
                let (Some(then), Some(cond), Some(other)) = (c.first(), c.get(1), c.get(2)) else {
                    return self.b.unknown(n);
                };
                let cond = self.expr(*cond);
                let then = self.expr(*then);
                let other = self.expr(*other);
                self.b.add(n, Op::Cond(cond, then, other))
            }
            "list" | "tuple" | "expression_list" | "set" | "pattern_list" => {
                let items = self.exprs(n);
                self.b.add(n, Op::List(items))
            }
            "dictionary" => {
                let mut items = Vec::new();
                for c in children(n) {
                    if c.kind() == "pair" {
                        let k = self.field_expr(c, "key");
                        let v = self.field_expr(c, "value");
                        items.push((Some(k), v));
                    } else {
                        let v = self.expr(c);
                        items.push((None, v));
                    }
                }
                self.b.add(n, Op::Map(items))
            }
            "lambda" => {
                let id = self.function_value(n, "", None, Vec::new());
                self.b.add(n, Op::Closure(id))
            }
            "list_comprehension"
            | "set_comprehension"
            | "generator_expression"
            | "dictionary_comprehension" => self.comprehension(n),
            "interpolation" | "format_expression" => self.field_expr(n, "expression"),
            _ => {
                let all = self.exprs(n);
                self.b.add(n, Op::Unknown(all))
            }
        }
    }

    pub(super) fn string(&mut self, n: Syntax<'_>) -> NodeId {
        let mut parts = Vec::new();
        let mut text = String::new();
        let start = children(n).first().map(|c| self.b.text(*c)).unwrap_or_default();
        let raw = start.contains(['r', 'R']);
        let mut interpolated = false;
        for c in children(n) {
            match c.kind() {
                "string_content" => {
                    let t = self.b.text(c);
                    if raw { text.push_str(t) } else { text.push_str(&unescape(t)) }
                }
                "interpolation" => {
                    interpolated = true;
                    if !text.is_empty() {
                        parts.push(self.b.string(n, &text));
                        text.clear();
                    }
                    parts.push(self.expr(c));
                }
                _ => {}
            }
        }
        if !interpolated {
            return self.b.string(n, &text);
        }
        if !text.is_empty() {
            parts.push(self.b.string(n, &text));
        }
        self.b.add(n, Op::Concat(parts))
    }

    pub(super) fn binary(&mut self, n: Syntax<'_>) -> NodeId {
        // A chain of sums leans to the left; walk it without recursion.
        let mut terms = Vec::new();
        let mut at = n;
        while at.kind() == "binary_operator"
            && field(at, "operator").is_some_and(|o| o.kind() == "+")
        {
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
        let op = match field(n, "operator").map(|o| o.kind()) {
            Some("-") => BinOp::Sub,
            Some("*") => BinOp::Mul,
            Some("//") => BinOp::Div,
            Some("%") => BinOp::Mod,
            // `path / name` of pathlib; numbers do not care.
            Some("/") => return self.b.add(n, Op::Bin(BinOp::Div, a, b)),
            Some("|") => return self.b.add(n, Op::Join(vec![a, b])),
            _ => BinOp::Other,
        };
        self.b.add(n, Op::Bin(op, a, b))
    }

    pub(super) fn comparison(&mut self, n: Syntax<'_>) -> NodeId {
        let parts = self.exprs(n);
        let mut cursor = n.walk();
        let ops: Vec<_> =
            n.children_by_field_name("operators", &mut cursor).map(|o| o.kind()).collect();
        let mut acc: Option<NodeId> = None;
        for (i, op) in ops.iter().enumerate() {
            let (Some(a), Some(b)) = (parts.get(i), parts.get(i + 1)) else {
                break;
            };
            let (bin, negated) = match *op {
                "==" | "is" => (BinOp::Eq, false),
                "!=" | "<>" | "is not" => (BinOp::Ne, false),
                "<" => (BinOp::Lt, false),
                "<=" => (BinOp::Le, false),
                ">" => (BinOp::Gt, false),
                ">=" => (BinOp::Ge, false),
                "in" => (BinOp::In, false),
                "not in" => (BinOp::In, true),
                _ => (BinOp::Other, false),
            };
            let mut id = self.b.add(n, Op::Bin(bin, *a, *b));
            if negated {
                id = self.b.add(n, Op::Not(id));
            }
            acc = Some(match acc {
                Some(prev) if i < 8 => self.b.add(n, Op::Bin(BinOp::And, prev, id)),
                Some(prev) => prev,
                None => id,
            });
        }
        acc.unwrap_or_else(|| self.b.unknown(n))
    }

    pub(super) fn comprehension(&mut self, n: Syntax<'_>) -> NodeId {
        self.b.push_scope(false);
        let mut effects = Vec::new();
        let mut conds = Vec::new();
        for c in children(n) {
            match c.kind() {
                "for_in_clause" => {
                    let iter = self.field_expr(c, "right");
                    let element = self.b.add(c, Op::Element(iter));
                    if let Some(l) = field(c, "left") {
                        let place = self.fresh_place(l);
                        effects.push(self.b.assign(c, place, element));
                    }
                }
                "if_clause" => {
                    let ids = self.exprs(c);
                    conds.extend(ids);
                }
                _ => {}
            }
        }
        let body = match field(n, "body") {
            Some(p) if p.kind() == "pair" => {
                let k = self.field_expr(p, "key");
                let v = self.field_expr(p, "value");
                self.b.add(p, Op::Join(vec![k, v]))
            }
            Some(e) => self.expr(e),
            None => self.b.unknown(n),
        };
        self.b.pop_scope();
        // Nothing passes that does not pass the conditions.
        let mut value = body;
        for c in conds.into_iter().rev() {
            let nothing = self.b.add(n, Op::Lit(Const::Null));
            value = self.b.add(n, Op::Cond(c, value, nothing));
        }
        // The bindings have to be evaluated before the element.
        effects.push(value);
        let last = self.b.add(n, Op::Seq(effects));
        self.b.add(n, Op::ListOf(last))
    }

    pub(super) fn call(&mut self, n: Syntax<'_>) -> NodeId {
        let callee = self.field_expr(n, "function");
        let mut args = Vec::new();
        if let Some(list) = field(n, "arguments") {
            if list.kind() == "generator_expression" {
                let value = self.expr(list);
                args.push(Arg { name: None, value, spread: false });
            } else {
                for c in children(list) {
                    let (name, value, spread) = match c.kind() {
                        "keyword_argument" => (
                            field(c, "name").map(|k| self.b.name(k)),
                            self.field_expr(c, "value"),
                            false,
                        ),
                        "list_splat" | "dictionary_splat" => (None, self.expr(c), true),
                        _ => (None, self.expr(c), false),
                    };
                    args.push(Arg { name, value, spread });
                }
            }
        }
        self.b.add(n, Op::Call { callee, args, new: false })
    }
}
