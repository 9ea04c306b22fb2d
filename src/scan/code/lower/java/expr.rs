//! Expressions of Java.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{Builder, bare_type, children, field, integer, operator, unescape};
use super::Java;
use super::normal;

impl Java<'_> {
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

    pub(super) fn identifier(&mut self, n: Syntax<'_>) -> NodeId {
        let name = self.b.text(n);
        if let Some(v) = self.b.resolve(name) {
            return self.b.add(n, Op::Var(v));
        }
        for open in self.classes.iter().rev() {
            if open.fields.iter().any(|f| &**f == name) {
                let id = open.id;
                let own = self.classes.last().is_some_and(|o| o.id == id);
                let object = self.b.add(n, if own { Op::This } else { Op::Class(id) });
                return self.b.field(n, object, name);
            }
        }
        if let Some(c) = self.class_id(name) {
            return self.b.add(n, Op::Class(c));
        }
        let full = self.qualify(name);
        self.b.add(n, Op::Global(full))
    }

    pub(super) fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
        match n.kind() {
            "identifier" | "type_identifier" => self.identifier(n),
            "this" => self.b.add(n, Op::This),
            "null_literal" => self.b.add(n, Op::Lit(Const::Null)),
            "true" => self.b.add(n, Op::Lit(Const::Bool(true))),
            "false" => self.b.add(n, Op::Lit(Const::Bool(false))),
            "decimal_integer_literal" | "hex_integer_literal" => match integer(self.b.text(n)) {
                Some(i) => self.b.add(n, Op::Lit(Const::Int(i))),
                None => self.b.unknown(n),
            },
            "string_literal" => {
                let t = self.b.text(n);
                let inner = match t.strip_prefix("\"\"\"") {
                    Some(block) => block.trim_end_matches('"').trim_start(),
                    None => t.get(1..t.len().saturating_sub(1)).unwrap_or_default(),
                };
                let s = unescape(inner);
                self.b.string(n, &s)
            }
            "character_literal" => {
                let t = unescape(self.b.text(n).trim_matches('\''));
                self.b.string(n, &t)
            }
            "parenthesized_expression" => match children(n).first() {
                Some(c) => self.expr(*c),
                None => self.b.unknown(n),
            },
            "cast_expression" => {
                let v = self.field_expr(n, "value");
                let ty = field(n, "type").and_then(|t| self.type_of(t));
                self.b.add(n, Op::Cast(v, ty.or_else(|| Some("Object".into()))))
            }
            "field_access" => {
                let name = field(n, "field").map(|c| self.b.text(c)).unwrap_or_default();
                // `java.util.Locale.US` and the like are names as a whole.
                let text = self.b.text(n);
                let first = text.split('.').next().unwrap_or_default();
                if name != "class"
                    && first.chars().next().is_some_and(char::is_lowercase)
                    && text.contains('.')
                    && !text.contains(['(', '[', ' ', '\n'])
                    && first != "this"
                    && first != "super"
                    && self.b.resolve(first).is_none()
                    && !self.classes.iter().any(|o| o.fields.iter().any(|f| &**f == first))
                {
                    return self.b.add(n, Op::Global(normal(text).into()));
                }
                let o = self.field_expr(n, "object");
                self.b.field(n, o, name)
            }
            "array_access" => {
                let o = self.field_expr(n, "array");
                let k = self.field_expr(n, "index");
                self.b.add(n, Op::Index(o, k))
            }
            "method_invocation" => self.invocation(n),
            "object_creation_expression" => self.creation(n),
            "array_creation_expression" => match field(n, "value") {
                Some(v) => self.expr(v),
                None => {
                    let all = Vec::new();
                    self.b.add(n, Op::Map(all))
                }
            },
            "array_initializer" => {
                let items = self.exprs(n);
                self.b.add(n, Op::List(items))
            }
            "assignment_expression" => {
                let (Some(l), Some(r)) = (field(n, "left"), field(n, "right")) else {
                    return self.b.unknown(n);
                };
                let mut value = self.expr(r);
                let op = operator(n);
                if op != "=" {
                    let old = self.expr(l);
                    let kind = match op {
                        "+=" => BinOp::Add,
                        "-=" => BinOp::Sub,
                        _ => BinOp::Other,
                    };
                    value = self.b.add(n, Op::Bin(kind, old, value));
                }
                let place = self.place(l);
                self.b.assign(n, place, value)
            }
            "update_expression" => {
                let Some(a) = children(n).first().copied() else {
                    return self.b.unknown(n);
                };
                let old = self.expr(a);
                let one = self.b.add(n, Op::Lit(Const::Int(1)));
                let minus = self.b.text(n).contains("--");
                let op = if minus { BinOp::Sub } else { BinOp::Add };
                let value = self.b.add(n, Op::Bin(op, old, one));
                let place = self.place(a);
                self.b.assign(n, place, value)
            }
            "binary_expression" => self.binary(n),
            "unary_expression" => {
                let a = self.field_expr(n, "operand");
                let op = match operator(n) {
                    "!" => Op::Not(a),
                    "-" => Op::Neg(a),
                    _ => Op::Unknown(vec![a]),
                };
                self.b.add(n, op)
            }
            "ternary_expression" => {
                let c = self.field_expr(n, "condition");
                let a = self.field_expr(n, "consequence");
                let b = self.field_expr(n, "alternative");
                self.b.add(n, Op::Cond(c, a, b))
            }
            "switch_expression" => self.switch_value(n),
            "instanceof_expression" => {
                let v = self.field_expr(n, "left");
                if let Some(name) = field(n, "name") {
                    let var = self.b.declare(self.b.text(name));
                    let place = self.b.place_var(var);
                    self.b.assign(n, place, v);
                }
                self.b.add(n, Op::Unknown(vec![v]))
            }
            "lambda_expression" => {
                let f = self.b.begin_function(n, "", None);
                let params = match field(n, "parameters") {
                    Some(p) if p.kind() == "identifier" => {
                        let text = self.b.text(p);
                        let var = self.b.declare(text);
                        vec![Param {
                            var,
                            name: text.into(),
                            ty: None,
                            annotations: Vec::new(),
                            rest: false,
                            default: None,
                        }]
                    }
                    Some(p) => self.params(p),
                    None => Vec::new(),
                };
                let body = match field(n, "body") {
                    Some(b) if b.kind() == "block" => self.block(b),
                    Some(e) => {
                        let v = self.expr(e);
                        vec![Stmt::Return(Some(v), Builder::span(e))]
                    }
                    None => Vec::new(),
                };
                self.b.end_function(f, params, body);
                self.b.add(n, Op::Closure(f))
            }
            _ => {
                let all = self.exprs(n);
                self.b.add(n, Op::Unknown(all))
            }
        }
    }

    /// A switch that is a value: the values of its arms joined, chosen one if the
    /// subject is constant.
    pub(super) fn switch_value(&mut self, n: Syntax<'_>) -> NodeId {
        let f = self.b.begin_function(n, "", None);
        let mut body = Vec::new();
        let subject = self.field_expr(n, "condition");
        let mut cases = Vec::new();
        for c in field(n, "body").map(children).unwrap_or_default() {
            let mut tests = Vec::new();
            let mut default = false;
            let mut stmts = Vec::new();
            for part in children(c) {
                match part.kind() {
                    "switch_label" => {
                        let ids = self.exprs(part);
                        default |= ids.is_empty();
                        tests.extend(ids);
                    }
                    "expression_statement" => {
                        if let Some(e) = children(part).first() {
                            let v = self.expr(*e);
                            stmts.push(Stmt::Return(Some(v), Builder::span(part)));
                        }
                    }
                    _ => self.statement(part, &mut stmts),
                }
            }
            if default {
                tests.clear();
            }
            cases.push(Case { tests, body: stmts, falls_through: c.kind() != "switch_rule" });
        }
        body.push(Stmt::Switch(subject, cases));
        self.b.end_function(f, Vec::new(), body);
        let callee = self.b.add(n, Op::Closure(f));
        self.b.call(n, callee, Vec::new())
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

    pub(super) fn place(&mut self, l: Syntax<'_>) -> Place {
        match l.kind() {
            "identifier" => {
                let name = self.b.text(l);
                if let Some(v) = self.b.resolve(name) {
                    return self.b.place_var(v);
                }
                let this = self.b.add(l, Op::This);
                Place::Field(this, name.into())
            }
            "field_access" => {
                let o = self.field_expr(l, "object");
                Place::Field(o, field(l, "field").map(|c| self.b.name(c)).unwrap_or_default())
            }
            "array_access" => {
                let o = self.field_expr(l, "array");
                let k = self.field_expr(l, "index");
                Place::Index(o, k)
            }
            _ => Place::Ignore,
        }
    }

    pub(super) fn args(&mut self, n: Syntax<'_>) -> Vec<Arg> {
        let ids = field(n, "arguments").map(|a| self.exprs(a)).unwrap_or_default();
        ids.into_iter().map(|value| Arg { name: None, value, spread: false }).collect()
    }

    pub(super) fn invocation(&mut self, n: Syntax<'_>) -> NodeId {
        let Some(name) = field(n, "name") else {
            return self.b.unknown(n);
        };
        let text = self.b.text(name);
        self.b.mention(text);
        let callee = match field(n, "object") {
            Some(o) => {
                let o = self.expr(o);
                self.b.field(n, o, text)
            }
            None => {
                let owner = self
                    .classes
                    .iter()
                    .rev()
                    .find(|c| c.methods.iter().any(|m| &**m == text))
                    .map(|c| c.id);
                let own = self.classes.last().map(|c| c.id);
                let object = match owner {
                    Some(c) if Some(c) != own => self.b.add(n, Op::Class(c)),
                    _ => self.b.add(n, Op::This),
                };
                self.b.field(n, object, text)
            }
        };
        let args = self.args(n);
        self.b.add(n, Op::Call { callee, args, new: false })
    }

    pub(super) fn creation(&mut self, n: Syntax<'_>) -> NodeId {
        let Some(t) = field(n, "type") else {
            return self.b.unknown(n);
        };
        let text = bare_type(self.b.text(t));
        self.b.mention(text);
        let callee = match self.class_id(text) {
            Some(c) => self.b.add(t, Op::Class(c)),
            None => {
                let full = self.qualify(text);
                self.b.add(t, Op::Global(full))
            }
        };
        let args = self.args(n);
        // An anonymous class: its methods are looked at as functions without callers.
        if let Some(body) = children(n).into_iter().find(|c| c.kind() == "class_body") {
            for m in children(body).into_iter().filter(|m| m.kind() == "method_declaration") {
                let name = field(m, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let f = self.b.begin_function(m, name, None);
                let params = field(m, "parameters").map(|p| self.params(p)).unwrap_or_default();
                let stmts = self.block_of(m, "body");
                self.b.end_function(f, params, stmts);
            }
        }
        self.b.add(n, Op::Call { callee, args, new: true })
    }
}
