//! Expressions of JavaScript.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{children, field, integer, operator, unescape};
use super::JavaScript;

impl JavaScript<'_> {
    /// An expression that gives its name to the function that it is.
    pub(super) fn named_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match n.kind() {
            "arrow_function" | "function_expression" | "generator_function" => {
                let f = self.function(n, name, None);
                self.b.add(n, Op::Closure(f))
            }
            _ => self.expr(n),
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
            "identifier" | "shorthand_property_identifier" => {
                let name = self.b.text(n);
                self.b.mention(name);
                match self.b.resolve(name) {
                    Some(v) => self.b.add(n, Op::Var(v)),
                    None => self.b.add(n, Op::Global(name.into())),
                }
            }
            "this" => self.b.add(n, Op::This),
            "undefined" | "null" => self.b.add(n, Op::Lit(Const::Null)),
            "true" => self.b.add(n, Op::Lit(Const::Bool(true))),
            "false" => self.b.add(n, Op::Lit(Const::Bool(false))),
            "number" => match integer(self.b.text(n)) {
                Some(i) => self.b.add(n, Op::Lit(Const::Int(i))),
                None => self.b.unknown(n),
            },
            "string" => {
                let t = self.b.text(n);
                let inner = t.get(1..t.len().saturating_sub(1)).unwrap_or_default();
                let s = unescape(inner);
                self.b.string(n, &s)
            }
            "template_string" => self.template(n),
            "regex" => {
                let p = field(n, "pattern").map(|p| self.b.name(p)).unwrap_or_default();
                self.b.add(n, Op::Regex(p))
            }
            "parenthesized_expression"
            | "await_expression"
            | "non_null_expression"
            | "spread_element"
            | "yield_expression" => match children(n).first() {
                Some(c) => self.expr(*c),
                None => self.b.unknown(n),
            },
            "as_expression" | "satisfies_expression" => {
                let c = children(n);
                match c.first() {
                    Some(e) => self.expr(*e),
                    None => self.b.unknown(n),
                }
            }
            "type_assertion" => match children(n).last() {
                Some(c) => self.expr(*c),
                None => self.b.unknown(n),
            },
            "sequence_expression" => {
                let all = self.exprs(n);
                self.b.add(n, Op::Seq(all))
            }
            "member_expression" => {
                let o = self.field_expr(n, "object");
                let name = field(n, "property").map(|c| self.b.text(c)).unwrap_or_default();
                self.b.mention(name);
                self.b.field(n, o, name)
            }
            "subscript_expression" => {
                let o = self.field_expr(n, "object");
                let k = self.field_expr(n, "index");
                self.b.add(n, Op::Index(o, k))
            }
            "call_expression" => self.call(n),
            "new_expression" => {
                let callee = self.field_expr(n, "constructor");
                let args = field(n, "arguments").map(|a| self.args(a)).unwrap_or_default();
                self.b.add(n, Op::Call { callee, args, new: true })
            }
            "assignment_expression" => {
                let name = field(n, "left")
                    .map(|l| field(l, "property").unwrap_or(l))
                    .map(|l| self.b.text(l))
                    .unwrap_or_default();
                let value = match field(n, "right") {
                    Some(r) => self.named_expr(r, name),
                    None => self.b.unknown(n),
                };
                let place = match field(n, "left") {
                    Some(l) => self.pattern(l, false),
                    None => Place::Ignore,
                };
                self.b.assign(n, place, value)
            }
            "augmented_assignment_expression" => {
                let (Some(l), Some(r)) = (field(n, "left"), field(n, "right")) else {
                    return self.b.unknown(n);
                };
                let old = self.expr(l);
                let new = self.expr(r);
                let value = match field(n, "operator").map(|o| o.kind()) {
                    Some("+=") => self.b.add(n, Op::Bin(BinOp::Add, old, new)),
                    Some("-=") => self.b.add(n, Op::Bin(BinOp::Sub, old, new)),
                    Some("||=" | "??=" | "&&=") => self.b.add(n, Op::Join(vec![old, new])),
                    _ => self.b.add(n, Op::Bin(BinOp::Other, old, new)),
                };
                let place = self.pattern(l, false);
                self.b.assign(n, place, value)
            }
            "update_expression" => {
                let Some(a) = field(n, "argument") else {
                    return self.b.unknown(n);
                };
                let old = self.expr(a);
                let one = self.b.add(n, Op::Lit(Const::Int(1)));
                let minus = field(n, "operator").is_some_and(|o| o.kind() == "--");
                let op = if minus { BinOp::Sub } else { BinOp::Add };
                let value = self.b.add(n, Op::Bin(op, old, one));
                let place = self.pattern(a, false);
                self.b.assign(n, place, value)
            }
            "binary_expression" => self.binary(n),
            "unary_expression" => {
                let a = self.field_expr(n, "argument");
                let op = match field(n, "operator").map(|o| o.kind()) {
                    Some("!") => Op::Not(a),
                    Some("-") => Op::Neg(a),
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
            "array" => {
                let items = self.exprs(n);
                self.b.add(n, Op::List(items))
            }
            "object" => self.object(n),
            "arrow_function" | "function_expression" | "generator_function" => {
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let _ = name;
                let f = self.function(n, "", None);
                self.b.add(n, Op::Closure(f))
            }
            "class" => self.class(n),
            "jsx_attribute" => self.jsx_attribute(n),
            _ => {
                let all = self.exprs(n);
                self.b.add(n, Op::Unknown(all))
            }
        }
    }

    /// `dangerouslySetInnerHTML={{ __html: x }}` is a call of its name.
    pub(super) fn jsx_attribute(&mut self, n: Syntax<'_>) -> NodeId {
        let parts = children(n);
        let name = parts.first().map(|c| self.b.text(*c)).unwrap_or_default();
        let values: Vec<NodeId> = parts.iter().skip(1).map(|c| self.expr_jsx(*c)).collect();
        let callee = self.b.add(n, Op::Global(format!("jsx.{name}").into()));
        self.b.call(n, callee, values)
    }

    pub(super) fn expr_jsx(&mut self, c: Syntax<'_>) -> NodeId {
        if c.kind() == "jsx_expression" {
            return match children(c).first() {
                Some(e) => self.expr(*e),
                None => self.b.unknown(c),
            };
        }
        self.expr(c)
    }

    pub(super) fn template(&mut self, n: Syntax<'_>) -> NodeId {
        let mut parts = Vec::new();
        for c in children(n) {
            match c.kind() {
                "string_fragment" => {
                    let t = self.b.text(c);
                    parts.push(self.b.string(c, t));
                }
                "escape_sequence" => {
                    let t = unescape(self.b.text(c));
                    parts.push(self.b.string(c, &t));
                }
                "template_substitution" => {
                    for e in children(c) {
                        parts.push(self.expr(e));
                    }
                }
                _ => {}
            }
        }
        self.b.add(n, Op::Concat(parts))
    }

    pub(super) fn object(&mut self, n: Syntax<'_>) -> NodeId {
        let mut items = Vec::new();
        for c in children(n) {
            match c.kind() {
                "pair" => {
                    let (Some(k), Some(v)) = (field(c, "key"), field(c, "value")) else {
                        continue;
                    };
                    let key = match k.kind() {
                        "computed_property_name" => match children(k).first() {
                            Some(e) => self.expr(*e),
                            None => continue,
                        },
                        _ => {
                            let t = self.b.text(k).trim_matches(['"', '\'']).to_string();
                            self.b.string(k, &t)
                        }
                    };
                    let value = self.expr(v);
                    items.push((Some(key), value));
                }
                "shorthand_property_identifier" => {
                    let t = self.b.text(c).to_string();
                    let key = self.b.string(c, &t);
                    let value = self.expr(c);
                    items.push((Some(key), value));
                }
                "method_definition" => {
                    let t = field(c, "name").map(|k| self.b.text(k)).unwrap_or_default();
                    let key = self.b.string(c, t);
                    let f = self.function(c, "", None);
                    let value = self.b.add(c, Op::Closure(f));
                    items.push((Some(key), value));
                }
                "spread_element" => {
                    let value = self.expr(c);
                    items.push((None, value));
                }
                _ => {}
            }
        }
        self.b.add(n, Op::Map(items))
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
            "%" => BinOp::Mod,
            "==" | "===" => BinOp::Eq,
            "!=" | "!==" => BinOp::Ne,
            "<" => BinOp::Lt,
            "<=" => BinOp::Le,
            ">" => BinOp::Gt,
            ">=" => BinOp::Ge,
            "&&" => BinOp::And,
            "||" => BinOp::Or,
            "??" => return self.b.add(n, Op::Join(vec![a, b])),
            "in" => BinOp::In,
            _ => BinOp::Other,
        };
        self.b.add(n, Op::Bin(kind, a, b))
    }

    pub(super) fn args(&mut self, list: Syntax<'_>) -> Vec<Arg> {
        if list.kind() == "template_string" {
            let value = self.expr(list);
            return vec![Arg { name: None, value, spread: false }];
        }
        children(list)
            .into_iter()
            .map(|c| {
                let spread = c.kind() == "spread_element";
                Arg { name: None, value: self.expr(c), spread }
            })
            .collect()
    }

    pub(super) fn call(&mut self, n: Syntax<'_>) -> NodeId {
        let (Some(f), Some(list)) = (field(n, "function"), field(n, "arguments")) else {
            return self.b.unknown(n);
        };
        // A tagged template (`sql`...``) takes its values as parameters.
        if list.kind() == "template_string" {
            let callee = self.expr(f);
            let mut args = Vec::new();
            for c in children(list).into_iter().filter(|c| c.kind() == "template_substitution") {
                for e in children(c) {
                    let value = self.expr(e);
                    args.push(Arg { name: Some("value".into()), value, spread: false });
                }
            }
            return self.b.add(n, Op::Call { callee, args, new: false });
        }
        let loads = f.kind() == "identifier" && self.b.text(f) == "require" || f.kind() == "import";
        if loads && let Some(s) = children(list).first().filter(|s| s.kind() == "string") {
            let module = self.module_name(*s);
            self.b.module.imports.push(module.as_str().into());
            return self.b.add(n, Op::Global(module.into()));
        }
        let callee = self.expr(f);
        let args = self.args(list);
        self.b.add(n, Op::Call { callee, args, new: false })
    }
}
