//! Java.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, bare_type, children, field, fields};

mod define;
mod expr;

struct Java<'a> {
    b: Builder<'a>,
    /// Simple name to qualified name.
    imports: Vec<(Name, Name)>,
    /// Packages imported whole.
    packages: Vec<Name>,
    /// Classes around the code, innermost last.
    classes: Vec<Open>,
}

/// A class that is being lowered.
struct Open {
    id: ClassId,
    fields: Vec<Name>,
    methods: Vec<Name>,
}

/// Lowers a compilation unit.
pub(super) fn lower(b: Builder<'_>, root: Syntax<'_>) -> Module {
    let mut j = Java { b, imports: Vec::new(), packages: Vec::new(), classes: Vec::new() };
    let mut body = Vec::new();
    j.declare_classes(root, 0);
    for c in children(root) {
        match c.kind() {
            "import_declaration" => j.import(c),
            _ => j.statement(c, &mut body),
        }
    }
    j.b.finish(body)
}

/// `jakarta` is `javax` under another name.
fn normal(name: &str) -> String {
    match name.strip_prefix("jakarta.") {
        Some(rest) => format!("javax.{rest}"),
        None => name.to_string(),
    }
}

impl Java<'_> {
    /// Classes are known in the whole file, wherever they stand.
    fn declare_classes(&mut self, n: Syntax<'_>, depth: usize) {
        if depth > 8 {
            return;
        }
        for c in children(n) {
            if matches!(
                c.kind(),
                "class_declaration"
                    | "interface_declaration"
                    | "enum_declaration"
                    | "record_declaration"
            ) {
                if let Some(name) = field(c, "name") {
                    let name = self.b.name(name);
                    let class = Class { name, ..Class::default() };
                    self.b.module.classes.push(class);
                }
                if let Some(body) = field(c, "body") {
                    self.declare_classes(body, depth + 1);
                }
            }
        }
    }

    fn import(&mut self, n: Syntax<'_>) {
        let all = children(n);
        let Some(name) = all.first().map(|c| normal(self.b.text(*c))) else {
            return;
        };
        self.b.module.imports.push(name.as_str().into());
        if all.iter().any(|c| c.kind() == "asterisk") {
            self.packages.push(name.into());
        } else if let Some((_, simple)) = name.rsplit_once('.') {
            self.imports.push((simple.into(), name.as_str().into()));
        }
    }

    fn class_id(&self, name: &str) -> Option<ClassId> {
        self.b.module.classes.iter().position(|c| &*c.name == name).map(|i| i as ClassId)
    }

    /// Qualified name of a type as written.
    fn qualify(&self, text: &str) -> Name {
        let bare = bare_type(text);
        if bare.contains('.') {
            let (first, rest) = bare.split_once('.').unwrap_or((bare, ""));
            if let Some((_, full)) = self.imports.iter().find(|(s, _)| &**s == first) {
                return format!("{full}.{rest}").into();
            }
            return normal(bare).into();
        }
        if let Some((_, full)) = self.imports.iter().find(|(s, _)| &**s == bare) {
            return full.clone();
        }
        for p in &self.packages {
            let full = format!("{p}.{bare}");
            if (self.b.types)(&full) {
                return full.into();
            }
        }
        bare.into()
    }

    fn type_of(&self, t: Syntax<'_>) -> Option<Name> {
        let text = self.b.text(t);
        if text.ends_with(']') {
            // An array is no scalar, whatever it holds.
            return Some("array".into());
        }
        (text != "var").then(|| self.qualify(text))
    }

    fn annotations(&self, n: Syntax<'_>) -> Vec<Annotation> {
        let mut out = Vec::new();
        for m in children(n).into_iter().filter(|c| c.kind() == "modifiers") {
            for a in children(m) {
                if let Some(name) = field(a, "name") {
                    out.push(Annotation { name: self.qualify(self.b.text(name)), argument: None });
                }
            }
        }
        out
    }

    fn modified(&self, n: Syntax<'_>, word: &str) -> bool {
        children(n)
            .into_iter()
            .filter(|c| c.kind() == "modifiers")
            .any(|m| self.b.text(m).split_whitespace().any(|w| w == word))
    }

    fn block(&mut self, n: Syntax<'_>) -> Vec<Stmt> {
        let mut out = Vec::new();
        self.b.push_scope(false);
        if matches!(n.kind(), "block" | "constructor_body" | "switch_block_statement_group") {
            for c in children(n) {
                self.statement(c, &mut out);
            }
        } else {
            self.statement(n, &mut out);
        }
        self.b.pop_scope();
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
            "class_declaration"
            | "interface_declaration"
            | "enum_declaration"
            | "record_declaration" => self.class(n),
            "package_declaration"
            | "line_comment"
            | "block_comment"
            | "annotation_type_declaration" => {}
            "local_variable_declaration" => {
                let ty = field(n, "type").and_then(|t| self.type_of(t));
                for d in fields(n, "declarator") {
                    let value = match field(d, "value") {
                        Some(v) => self.expr(v),
                        None => self.b.add(d, Op::Lit(Const::Null)),
                    };
                    let Some(name) = field(d, "name") else {
                        continue;
                    };
                    let v = self.b.declare(self.b.text(name));
                    self.b.set_type(v, ty.clone());
                    let place = self.b.place_var(v);
                    let a = self.b.assign(d, place, value);
                    out.push(Stmt::Eval(a));
                }
            }
            "if_statement" => {
                let c = self.field_expr(n, "condition");
                let then = self.block_of(n, "consequence");
                let otherwise = self.block_of(n, "alternative");
                out.push(Stmt::If(c, then, otherwise));
            }
            "for_statement" => {
                self.b.push_scope(false);
                for i in fields(n, "init") {
                    self.statement(i, out);
                }
                let cond = field(n, "condition").map(|c| self.expr(c));
                let body = self.block_of(n, "body");
                let mut step = Vec::new();
                for u in fields(n, "update") {
                    let id = self.expr(u);
                    step.push(Stmt::Eval(id));
                }
                self.b.pop_scope();
                out.push(Stmt::Loop { cond, body, step, post: false });
            }
            "enhanced_for_statement" => {
                self.b.push_scope(false);
                let iter = self.field_expr(n, "value");
                let element = self.b.add(n, Op::Element(iter));
                let mut body = Vec::new();
                if let Some(name) = field(n, "name") {
                    let v = self.b.declare(self.b.text(name));
                    let ty = field(n, "type").and_then(|t| self.type_of(t));
                    self.b.set_type(v, ty);
                    let place = self.b.place_var(v);
                    let a = self.b.assign(name, place, element);
                    body.push(Stmt::Eval(a));
                }
                body.extend(self.block_of(n, "body"));
                self.b.pop_scope();
                out.push(Stmt::Loop { cond: None, body, step: Vec::new(), post: false });
            }
            "while_statement" | "do_statement" => {
                let cond = field(n, "condition").map(|c| self.expr(c));
                let body = self.block_of(n, "body");
                let post = n.kind() == "do_statement";
                out.push(Stmt::Loop { cond, body, step: Vec::new(), post });
            }
            "switch_expression" | "switch_statement" => {
                let s = self.switch(n);
                out.push(s);
            }
            "try_statement" | "try_with_resources_statement" => {
                self.b.push_scope(false);
                let mut body = Vec::new();
                if let Some(r) = field(n, "resources") {
                    for r in children(r) {
                        let Some(v) = field(r, "value") else { continue };
                        let value = self.expr(v);
                        let Some(name) = field(r, "name") else {
                            continue;
                        };
                        let v = self.b.declare(self.b.text(name));
                        let ty = field(r, "type").and_then(|t| self.type_of(t));
                        self.b.set_type(v, ty);
                        let place = self.b.place_var(v);
                        let a = self.b.assign(r, place, value);
                        body.push(Stmt::Eval(a));
                    }
                }
                body.extend(self.block_of(n, "body"));
                self.b.pop_scope();
                let mut handlers = Vec::new();
                let mut last = Vec::new();
                for c in children(n) {
                    match c.kind() {
                        "catch_clause" => {
                            self.b.push_scope(false);
                            for p in children(c) {
                                if p.kind() == "catch_formal_parameter"
                                    && let Some(name) = field(p, "name")
                                {
                                    self.b.declare(self.b.text(name));
                                }
                            }
                            handlers.push(self.block_of(c, "body"));
                            self.b.pop_scope();
                        }
                        "finally_clause" => {
                            for b in children(c) {
                                last.extend(self.block(b));
                            }
                        }
                        _ => {}
                    }
                }
                out.push(Stmt::Try(body, handlers, last));
            }
            "return_statement" | "yield_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Return(v, Builder::span(n)));
            }
            "throw_statement" => {
                let v = children(n).first().map(|c| self.expr(*c));
                out.push(Stmt::Throw(v));
            }
            "break_statement" => out.push(Stmt::Break),
            "continue_statement" => out.push(Stmt::Continue),
            "block" | "constructor_body" => {
                let b = self.block(n);
                out.push(Stmt::Block(b));
            }
            "synchronized_statement" => {
                let b = self.block_of(n, "body");
                out.push(Stmt::Block(b));
            }
            "labeled_statement" | "expression_statement" => {
                for c in children(n) {
                    if c.kind() == "identifier" {
                        continue;
                    }
                    self.statement(c, out);
                }
            }
            "explicit_constructor_invocation" => {
                let ids: Vec<NodeId> =
                    field(n, "arguments").map(|a| self.exprs(a)).unwrap_or_default();
                let id = self.b.add(n, Op::Unknown(ids));
                out.push(Stmt::Eval(id));
            }
            _ => {
                let id = self.expr(n);
                out.push(Stmt::Eval(id));
            }
        }
    }

    fn switch(&mut self, n: Syntax<'_>) -> Stmt {
        let subject = self.field_expr(n, "condition");
        let mut cases = Vec::new();
        if let Some(body) = field(n, "body") {
            self.b.push_scope(false);
            for c in children(body) {
                let mut tests = Vec::new();
                let mut default = false;
                let mut stmts = Vec::new();
                for part in children(c) {
                    if part.kind() == "switch_label" {
                        let ids = self.exprs(part);
                        default |= ids.is_empty();
                        tests.extend(ids);
                    } else {
                        self.statement(part, &mut stmts);
                    }
                }
                if default {
                    tests.clear();
                }
                cases.push(Case { tests, body: stmts, falls_through: c.kind() != "switch_rule" });
            }
            self.b.pop_scope();
        }
        Stmt::Switch(subject, cases)
    }
}
