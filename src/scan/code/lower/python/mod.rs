//! Python.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, children, field, fields};

mod define;
mod expr;

struct Python<'a> {
    b: Builder<'a>,
    /// The first parameter of the method that is being lowered.
    receivers: Vec<Option<Name>>,
}

/// Lowers a module.
pub(super) fn lower(b: Builder<'_>, root: Syntax<'_>) -> Module {
    let mut p = Python { b, receivers: vec![None] };
    // Names of the module first: functions use what stands below them.
    for c in children(root) {
        p.predeclare(c);
    }
    let body = p.block(root);
    p.b.finish(body)
}

impl Python<'_> {
    fn predeclare(&mut self, n: Syntax<'_>) {
        match n.kind() {
            "function_definition" | "class_definition" => {
                if let Some(name) = field(n, "name") {
                    self.b.declare(self.b.text(name));
                }
            }
            "decorated_definition" => {
                if let Some(d) = field(n, "definition") {
                    self.predeclare(d);
                }
            }
            "expression_statement" => {
                for c in children(n) {
                    if c.kind() == "assignment"
                        && let Some(l) = field(c, "left")
                        && l.kind() == "identifier"
                    {
                        self.b.declare(self.b.text(l));
                    }
                }
            }
            _ => {}
        }
    }

    fn block(&mut self, n: Syntax<'_>) -> Vec<Stmt> {
        let mut out = Vec::new();
        for c in children(n) {
            self.statement(c, &mut out);
        }
        out
    }

    fn block_of(&mut self, n: Syntax<'_>, name: &str) -> Vec<Stmt> {
        field(n, name).map(|b| self.block(b)).unwrap_or_default()
    }

    fn statement(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        if !self.b.enter() {
            return;
        }
        self.statement_inner(n, out);
        self.b.leave();
    }

    fn statement_inner(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        match n.kind() {
            "import_statement" => {
                for c in fields(n, "name") {
                    self.import(c, out);
                }
            }
            "import_from_statement" => {
                let module = field(n, "module_name").map(|m| self.b.text(m)).unwrap_or_default();
                self.b.module.imports.push(module.into());
                for c in fields(n, "name") {
                    let (name, alias) = if c.kind() == "aliased_import" {
                        (field(c, "name"), field(c, "alias"))
                    } else {
                        (Some(c), None)
                    };
                    let Some(name) = name else { continue };
                    let local = self.b.text(alias.unwrap_or(name));
                    let full = format!("{module}.{}", self.b.text(name));
                    self.bind_global(c, local, &full, out);
                }
            }
            "function_definition" => self.function(n, Vec::new(), out),
            "class_definition" => self.class(n, Vec::new(), out),
            "decorated_definition" => {
                let mut annotations = Vec::new();
                for d in children(n).into_iter().filter(|c| c.kind() == "decorator") {
                    if let Some(e) = children(d).first() {
                        annotations.push(self.annotation(*e));
                        let id = self.expr(*e);
                        out.push(Stmt::Eval(id));
                    }
                }
                match field(n, "definition") {
                    Some(d) if d.kind() == "class_definition" => self.class(d, annotations, out),
                    Some(d) => self.function(d, annotations, out),
                    None => {}
                }
            }
            "if_statement" => {
                let s = self.if_chain(n);
                out.push(s);
            }
            "for_statement" => {
                let iter = self.field_expr(n, "right");
                let element = self.b.add(n, Op::Element(iter));
                let mut body = Vec::new();
                if let Some(l) = field(n, "left") {
                    let place = self.place(l);
                    let a = self.b.assign(l, place, element);
                    body.push(Stmt::Eval(a));
                }
                body.extend(self.block_of(n, "body"));
                out.push(Stmt::Loop { cond: None, body, step: Vec::new(), post: false });
                if let Some(alt) = field(n, "alternative") {
                    out.push(Stmt::Block(self.block_of(alt, "body")));
                }
            }
            "while_statement" => {
                let cond = field(n, "condition").map(|c| self.expr(c));
                let body = self.block_of(n, "body");
                out.push(Stmt::Loop { cond, body, step: Vec::new(), post: false });
            }
            "with_statement" => {
                for clause in children(n).into_iter().filter(|c| c.kind() == "with_clause") {
                    for item in children(clause) {
                        if let Some(v) = field(item, "value") {
                            let id = self.expr(v);
                            out.push(Stmt::Eval(id));
                        }
                    }
                }
                let body = self.block_of(n, "body");
                out.push(Stmt::Block(body));
            }
            "try_statement" => {
                let mut body = self.block_of(n, "body");
                let mut handlers = Vec::new();
                let mut last = Vec::new();
                for c in children(n) {
                    match c.kind() {
                        "except_clause" | "except_group_clause" => {
                            let mut h = Vec::new();
                            for part in children(c) {
                                if part.kind() == "block" {
                                    h.extend(self.block(part));
                                } else {
                                    let id = self.expr(part);
                                    h.push(Stmt::Eval(id));
                                }
                            }
                            handlers.push(h);
                        }
                        "else_clause" => body.extend(self.block_of(c, "body")),
                        "finally_clause" => {
                            for part in children(c) {
                                last.extend(self.block(part));
                            }
                        }
                        _ => {}
                    }
                }
                out.push(Stmt::Try(body, handlers, last));
            }
            "match_statement" => {
                let subject = self.field_expr(n, "subject");
                let mut cases = Vec::new();
                if let Some(body) = field(n, "body") {
                    for c in children(body) {
                        let mut tests = Vec::new();
                        let mut wild = false;
                        for p in children(c).into_iter().filter(|p| p.kind() == "case_pattern") {
                            for part in children(p) {
                                match part.kind() {
                                    "string" | "integer" | "true" | "false" | "none" => {
                                        tests.push(self.expr(part));
                                    }
                                    "union_pattern" => {
                                        for alt in children(part) {
                                            tests.push(self.expr(alt));
                                        }
                                    }
                                    _ => wild = true,
                                }
                            }
                            wild |= children(p).is_empty();
                        }
                        if wild {
                            tests.clear();
                        }
                        let body = self.block_of(c, "consequence");
                        cases.push(Case { tests, body, falls_through: false });
                    }
                }
                out.push(Stmt::Switch(subject, cases));
            }
            "return_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Return(v, Builder::span(n)));
            }
            "raise_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Throw(v));
            }
            "break_statement" => out.push(Stmt::Break),
            "continue_statement" => out.push(Stmt::Continue),
            "global_statement" | "nonlocal_statement" => {
                // The name means the outer variable from here on.
                let at = self.b.scopes.len().saturating_sub(1);
                for c in children(n) {
                    let name = self.b.text(c);
                    let outer = self.b.scopes.iter().take(at).rev().find_map(|s| s.names.get(name));
                    if let Some(v) = outer.copied()
                        && let Some(s) = self.b.scopes.last_mut()
                    {
                        s.names.insert(name.into(), v);
                    }
                }
            }
            "block" => {
                let b = self.block(n);
                out.push(Stmt::Block(b));
            }
            "expression_statement" => {
                for c in children(n) {
                    let id = self.expr(c);
                    out.push(Stmt::Eval(id));
                }
            }
            "pass_statement" | "future_import_statement" | "type_alias_statement" => {}
            "assert_statement" => {
                // What an assertion demands holds behind it.
                if let Some(c) = children(n).first() {
                    let cond = self.expr(*c);
                    out.push(Stmt::If(cond, Vec::new(), vec![Stmt::Throw(None)]));
                }
            }
            _ => {
                let id = self.expr(n);
                out.push(Stmt::Eval(id));
            }
        }
    }

    fn import(&mut self, c: Syntax<'_>, out: &mut Vec<Stmt>) {
        if c.kind() == "aliased_import" {
            let (Some(name), Some(alias)) = (field(c, "name"), field(c, "alias")) else {
                return;
            };
            let full = self.b.text(name);
            self.b.module.imports.push(full.into());
            self.bind_global(c, self.b.text(alias), full, out);
        } else {
            let full = self.b.text(c);
            self.b.module.imports.push(full.into());
            let first = full.split('.').next().unwrap_or(full);
            self.bind_global(c, first, first, out);
        }
    }

    fn bind_global(&mut self, n: Syntax<'_>, local: &str, full: &str, out: &mut Vec<Stmt>) {
        let v = self.b.declare(local);
        let place = self.b.place_var(v);
        self.b.bound.insert(v, full.into());
        let g = self.b.add(n, Op::Global(full.into()));
        let a = self.b.assign(n, place, g);
        out.push(Stmt::Eval(a));
    }

    fn if_chain(&mut self, n: Syntax<'_>) -> Stmt {
        let cond = self.field_expr(n, "condition");
        let then = self.block_of(n, "consequence");
        // `elif` is a list in the tree; fold it from the back.
        let mut otherwise = Vec::new();
        for alt in fields(n, "alternative").into_iter().rev() {
            if alt.kind() == "elif_clause" {
                let c = self.field_expr(alt, "condition");
                let t = self.block_of(alt, "consequence");
                otherwise = vec![Stmt::If(c, t, otherwise)];
            } else {
                otherwise = self.block_of(alt, "body");
            }
        }
        Stmt::If(cond, then, otherwise)
    }

    fn fresh_place(&mut self, l: Syntax<'_>) -> Place {
        match l.kind() {
            "identifier" => {
                let v = self.b.declare(self.b.text(l));
                self.b.place_var(v)
            }
            "pattern_list" | "tuple_pattern" | "list_pattern" => {
                Place::Tuple(children(l).into_iter().map(|c| self.fresh_place(c)).collect())
            }
            _ => self.place(l),
        }
    }

    fn place(&mut self, l: Syntax<'_>) -> Place {
        if !self.b.enter() {
            return Place::Ignore;
        }
        let p = match l.kind() {
            "identifier" => {
                let v = self.b.declare_in_function(self.b.text(l));
                self.b.place_var(v)
            }
            "attribute" => {
                let object = self.field_expr(l, "object");
                let name = field(l, "attribute").map(|c| self.b.name(c)).unwrap_or_default();
                Place::Field(object, name)
            }
            "subscript" => {
                let object = self.field_expr(l, "value");
                match field(l, "subscript") {
                    Some(s) => {
                        let key = self.expr(s);
                        Place::Index(object, key)
                    }
                    None => Place::Ignore,
                }
            }
            "pattern_list" | "tuple_pattern" | "list_pattern" | "expression_list" | "tuple"
            | "list" => Place::Tuple(children(l).into_iter().map(|c| self.place(c)).collect()),
            "list_splat_pattern" | "parenthesized_expression" | "as_pattern_target" => {
                match children(l).first() {
                    Some(c) => self.place(*c),
                    None => Place::Ignore,
                }
            }
            _ => Place::Ignore,
        };
        self.b.leave();
        p
    }
}
