//! JavaScript and TypeScript.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, children, field, fields};

mod define;
mod expr;

struct JavaScript<'a> {
    b: Builder<'a>,
}

/// Lowers a module.
pub(super) fn lower(b: Builder<'_>, root: Syntax<'_>) -> Module {
    let mut j = JavaScript { b };
    j.hoist(root);
    let mut body = Vec::new();
    j.statements(root, &mut body);
    j.b.finish(body)
}

impl JavaScript<'_> {
    /// Declares the functions, classes and variables of a block before its code,
    /// as the language does.
    fn hoist(&mut self, block: Syntax<'_>) {
        for c in children(block) {
            let c = if c.kind() == "export_statement" {
                field(c, "declaration").unwrap_or(c)
            } else {
                c
            };
            match c.kind() {
                "function_declaration"
                | "generator_function_declaration"
                | "class_declaration"
                | "abstract_class_declaration" => {
                    if let Some(n) = field(c, "name") {
                        self.b.declare(self.b.text(n));
                    }
                }
                "lexical_declaration" | "variable_declaration" => {
                    for d in children(c) {
                        if let Some(n) = field(d, "name").filter(|n| n.kind() == "identifier") {
                            self.b.declare(self.b.text(n));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn block(&mut self, n: Syntax<'_>) -> Vec<Stmt> {
        let mut out = Vec::new();
        if n.kind() == "statement_block" {
            self.b.push_scope(false);
            self.hoist(n);
            self.statements(n, &mut out);
            self.b.pop_scope();
        } else {
            self.statement(n, &mut out);
        }
        out
    }

    fn statements(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        // Imports, then function declarations are there before anything runs.
        let all = children(n);
        let rank = |c: Syntax<'_>| match field(c, "declaration").unwrap_or(c).kind() {
            "import_statement" => 0,
            "function_declaration" | "generator_function_declaration" => 1,
            _ => 2,
        };
        for pass in 0..3 {
            for c in &all {
                if rank(*c) == pass {
                    self.statement(*c, out);
                }
            }
        }
    }

    fn statement(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        if !self.b.enter() {
            return;
        }
        self.statement_inner(n, out);
        self.b.leave();
    }

    fn eval(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        let id = self.expr(n);
        out.push(Stmt::Eval(id));
    }

    fn statement_inner(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        match n.kind() {
            "import_statement" => self.import(n, out),
            "export_statement" => {
                if let Some(d) = field(n, "declaration") {
                    self.statement(d, out);
                } else if let Some(v) = field(n, "value") {
                    self.eval(v, out);
                }
            }
            "function_declaration" | "generator_function_declaration" => {
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let v = self.b.declare(name);
                let f = self.function(n, name, None);
                let place = self.b.place_var(v);
                let c = self.b.add(n, Op::Closure(f));
                let a = self.b.assign(n, place, c);
                out.push(Stmt::Eval(a));
            }
            "class_declaration" | "abstract_class_declaration" => {
                let id = self.class(n);
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let v = self.b.declare(name);
                let place = self.b.place_var(v);
                let a = self.b.assign(n, place, id);
                out.push(Stmt::Eval(a));
            }
            "lexical_declaration" | "variable_declaration" | "using_declaration" => {
                let var = n.kind() == "variable_declaration";
                for d in children(n).into_iter().filter(|d| d.kind() == "variable_declarator") {
                    self.declarator(d, var, out);
                }
            }
            "if_statement" => {
                let c = self.field_expr(n, "condition");
                let then = field(n, "consequence").map(|b| self.block(b)).unwrap_or_default();
                let otherwise = field(n, "alternative")
                    .map(|a| match children(a).first() {
                        Some(s) => self.block(*s),
                        None => Vec::new(),
                    })
                    .unwrap_or_default();
                out.push(Stmt::If(c, then, otherwise));
            }
            "for_statement" => {
                self.b.push_scope(false);
                if let Some(i) = field(n, "initializer") {
                    self.statement(i, out);
                }
                let cond = field(n, "condition")
                    .filter(|c| c.kind() != "empty_statement")
                    .map(|c| self.expr(c));
                let body = field(n, "body").map(|b| self.block(b)).unwrap_or_default();
                let mut step = Vec::new();
                if let Some(s) = field(n, "increment") {
                    self.eval(s, &mut step);
                }
                self.b.pop_scope();
                out.push(Stmt::Loop { cond, body, step, post: false });
            }
            "for_in_statement" => {
                self.b.push_scope(false);
                let iter = self.field_expr(n, "right");
                let keys = field(n, "operator").is_some_and(|o| o.kind() == "in");
                let element = if keys {
                    self.b.add(n, Op::Unknown(vec![iter]))
                } else {
                    self.b.add(n, Op::Element(iter))
                };
                let mut body = Vec::new();
                if let Some(l) = field(n, "left") {
                    let place = self.pattern(l, field(n, "kind").is_some());
                    let a = self.b.assign(l, place, element);
                    body.push(Stmt::Eval(a));
                }
                if let Some(b) = field(n, "body") {
                    body.extend(self.block(b));
                }
                self.b.pop_scope();
                out.push(Stmt::Loop { cond: None, body, step: Vec::new(), post: false });
            }
            "while_statement" | "do_statement" => {
                let cond = field(n, "condition").map(|c| self.expr(c));
                let body = field(n, "body").map(|b| self.block(b)).unwrap_or_default();
                let post = n.kind() == "do_statement";
                out.push(Stmt::Loop { cond, body, step: Vec::new(), post });
            }
            "switch_statement" => {
                let subject = self.field_expr(n, "value");
                let mut cases = Vec::new();
                self.b.push_scope(false);
                if let Some(body) = field(n, "body") {
                    for c in children(body) {
                        let tests = field(c, "value").map(|v| self.expr(v)).into_iter().collect();
                        let mut stmts = Vec::new();
                        for s in fields(c, "body") {
                            stmts.extend(self.block(s));
                        }
                        cases.push(Case { tests, body: stmts, falls_through: true });
                    }
                }
                self.b.pop_scope();
                out.push(Stmt::Switch(subject, cases));
            }
            "try_statement" => {
                let body = field(n, "body").map(|b| self.block(b)).unwrap_or_default();
                let mut handlers = Vec::new();
                if let Some(h) = field(n, "handler") {
                    self.b.push_scope(false);
                    let mut stmts = Vec::new();
                    if let Some(p) = field(h, "parameter") {
                        let place = self.pattern(p, true);
                        let v = self.b.unknown(p);
                        let a = self.b.assign(p, place, v);
                        stmts.push(Stmt::Eval(a));
                    }
                    if let Some(b) = field(h, "body") {
                        stmts.extend(self.block(b));
                    }
                    self.b.pop_scope();
                    handlers.push(stmts);
                }
                let last = field(n, "finalizer")
                    .and_then(|f| field(f, "body"))
                    .map(|b| self.block(b))
                    .unwrap_or_default();
                out.push(Stmt::Try(body, handlers, last));
            }
            "return_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Return(v, Builder::span(n)));
            }
            "throw_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Throw(v));
            }
            "break_statement" => out.push(Stmt::Break),
            "continue_statement" => out.push(Stmt::Continue),
            "statement_block" => {
                let b = self.block(n);
                out.push(Stmt::Block(b));
            }
            "labeled_statement" => {
                if let Some(b) = field(n, "body") {
                    self.statement(b, out);
                }
            }
            "expression_statement" => {
                for c in children(n) {
                    self.eval(c, out);
                }
            }
            "empty_statement"
            | "interface_declaration"
            | "type_alias_declaration"
            | "hash_bang_line"
            | "ambient_declaration"
            | "function_signature" => {}
            "internal_module" | "module" => {
                if let Some(b) = field(n, "body") {
                    self.statements(b, out);
                }
            }
            _ => self.eval(n, out),
        }
    }

    fn import(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        let Some(source) = field(n, "source") else {
            return;
        };
        let module = self.module_name(source);
        self.b.module.imports.push(module.as_str().into());
        for clause in children(n).into_iter().filter(|c| c.kind() == "import_clause") {
            for c in children(clause) {
                match c.kind() {
                    "identifier" => self.bind(c, self.b.text(c), &module, out),
                    "namespace_import" => {
                        if let Some(i) = children(c).first() {
                            self.bind(c, self.b.text(*i), &module, out);
                        }
                    }
                    "named_imports" => {
                        for s in children(c) {
                            let Some(name) = field(s, "name") else {
                                continue;
                            };
                            let local = field(s, "alias").unwrap_or(name);
                            let full = match self.b.text(name) {
                                "default" => module.clone(),
                                x => format!("{module}.{x}"),
                            };
                            self.bind(s, self.b.text(local), &full, out);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn bind(&mut self, n: Syntax<'_>, local: &str, full: &str, out: &mut Vec<Stmt>) {
        let v = self.b.declare(local);
        self.b.bound.insert(v, full.into());
        let place = self.b.place_var(v);
        let g = self.b.add(n, Op::Global(full.into()));
        let a = self.b.assign(n, place, g);
        out.push(Stmt::Eval(a));
    }

    fn module_name(&self, string: Syntax<'_>) -> String {
        let text = self.b.text(string).trim_matches(['"', '\'', '`']);
        text.strip_prefix("node:").unwrap_or(text).to_string()
    }

    fn declarator(&mut self, d: Syntax<'_>, var: bool, out: &mut Vec<Stmt>) {
        let Some(name) = field(d, "name") else { return };
        let value = field(d, "value");
        let named = (name.kind() == "identifier").then(|| self.b.text(name));
        let ty = field(d, "type").map(|t| self.type_name(t));
        // The variable is known to the function that it holds.
        let place = if var && named.is_some() {
            let v = self.b.declare_in_function(named.unwrap_or_default());
            self.b.place_var(v)
        } else {
            self.pattern(name, true)
        };
        if let Place::Var(v) = place {
            self.b.set_type(v, ty);
        }
        let id = match value {
            Some(v) => self.named_expr(v, named.unwrap_or_default()),
            None => self.b.add(d, Op::Lit(Const::Null)),
        };
        if let (Place::Var(v), Some(Op::Global(g))) =
            (&place, self.b.module.nodes.get(id as usize).map(|n| &n.op))
        {
            self.b.bound.insert(*v, g.clone());
        }
        let a = self.b.assign(d, place, id);
        out.push(Stmt::Eval(a));
    }
}
