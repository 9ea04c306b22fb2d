//! Java.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, bare_type, children, field, fields, integer, operator, unescape};

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

    fn class(&mut self, n: Syntax<'_>) {
        let Some(name) = field(n, "name").map(|c| self.b.text(c)) else {
            return;
        };
        let Some(id) = self.class_id(name) else {
            return;
        };
        let mut bases = Vec::new();
        if let Some(s) = field(n, "superclass") {
            for c in children(s) {
                bases.push(self.qualify(self.b.text(c)));
            }
        }
        let annotations = self.annotations(n);
        let Some(body) = field(n, "body") else { return };
        // Members are known in the whole class.
        let mut open = Open { id, fields: Vec::new(), methods: Vec::new() };
        let mut members = children(body);
        if let Some(i) = members.iter().position(|m| m.kind() == "enum_body_declarations")
            && let Some(m) = members.get(i).copied()
        {
            members.extend(children(m));
        }
        for m in &members {
            match m.kind() {
                "field_declaration" | "constant_declaration" => {
                    let ty = field(*m, "type").and_then(|t| self.type_of(t));
                    let fixed = self.modified(*m, "final");
                    for d in fields(*m, "declarator") {
                        let Some(f) = field(d, "name").map(|f| self.b.name(f)) else {
                            continue;
                        };
                        open.fields.push(f.clone());
                        if let Some(c) = self.b.class_mut(id) {
                            if let Some(t) = &ty {
                                c.field_types.insert(f.clone(), t.clone());
                            }
                            if fixed {
                                c.constants.push(f);
                            }
                        }
                    }
                }
                "method_declaration" => {
                    if let Some(f) = field(*m, "name") {
                        open.methods.push(self.b.name(f));
                    }
                }
                _ => {}
            }
        }
        if let Some(c) = self.b.class_mut(id) {
            c.bases = bases;
            c.annotations = annotations;
        }
        self.classes.push(open);
        self.b.symbols.push(name.into());
        let mut init = Vec::new();
        if n.kind() == "record_declaration" {
            self.record(n, id);
        }
        for m in members {
            match m.kind() {
                "field_declaration" | "constant_declaration" => {
                    for d in fields(m, "declarator") {
                        let (Some(f), Some(v)) = (field(d, "name"), field(d, "value")) else {
                            continue;
                        };
                        let value = self.expr(v);
                        let this = self.b.add(d, Op::This);
                        let place = Place::Field(this, self.b.name(f));
                        let a = self.b.assign(d, place, value);
                        init.push(Stmt::Eval(a));
                    }
                }
                "method_declaration" | "constructor_declaration" => self.method(m, id),
                "static_initializer" | "block" => {
                    for b in children(m) {
                        self.statement(b, &mut init);
                    }
                }
                "class_declaration"
                | "interface_declaration"
                | "enum_declaration"
                | "record_declaration"
                    if self.b.enter() =>
                {
                    self.class(m);
                    self.b.leave();
                }
                _ => {}
            }
        }
        self.b.symbols.pop();
        self.classes.pop();
        if let Some(c) = self.b.class_mut(id) {
            c.init = init;
        }
    }

    /// The components of a record are fields that its constructor stores, each with
    /// a method that reads it.
    fn record(&mut self, n: Syntax<'_>, id: ClassId) {
        let Some(list) = field(n, "parameters") else {
            return;
        };
        for p in children(list) {
            let Some(name) = field(p, "name").map(|c| self.b.name(c)) else {
                continue;
            };
            if let Some(open) = self.classes.last_mut() {
                open.fields.push(name.clone());
            }
            let f = self.b.begin_function(p, &name, Some(id));
            let this = self.b.add(p, Op::This);
            let value = self.b.field(p, this, &name);
            self.b.end_function(f, Vec::new(), vec![Stmt::Return(Some(value), Builder::span(p))]);
            if let Some(c) = self.b.class_mut(id) {
                c.methods.entry(name).or_default().push(f);
            }
        }
        let f = self.b.begin_function(list, "<init>", Some(id));
        let params = self.params(list);
        let mut body = Vec::new();
        for p in &params {
            let this = self.b.add(list, Op::This);
            let value = self.b.add(list, Op::Var(p.var));
            let a = self.b.assign(list, Place::Field(this, p.name.clone()), value);
            body.push(Stmt::Eval(a));
        }
        self.b.end_function(f, params, body);
        if let Some(c) = self.b.class_mut(id) {
            c.methods.entry("<init>".into()).or_default().push(f);
        }
    }

    fn params(&mut self, list: Syntax<'_>) -> Vec<Param> {
        let mut out = Vec::new();
        for p in children(list) {
            let rest = p.kind() == "spread_parameter";
            let name = match p.kind() {
                "formal_parameter" => field(p, "name"),
                "spread_parameter" => children(p)
                    .into_iter()
                    .find(|c| c.kind() == "variable_declarator")
                    .and_then(|d| field(d, "name")),
                "identifier" => Some(p),
                _ => None,
            };
            let Some(name) = name else { continue };
            let ty = field(p, "type").and_then(|t| self.type_of(t));
            let text = self.b.text(name);
            let var = self.b.declare(text);
            if !rest {
                self.b.set_type(var, ty.clone());
            }
            out.push(Param {
                var,
                name: text.into(),
                ty: if rest { None } else { ty },
                annotations: self.annotations(p),
                rest,
                default: None,
            });
        }
        out
    }

    fn method(&mut self, m: Syntax<'_>, id: ClassId) {
        let constructor = m.kind() == "constructor_declaration";
        let name = if constructor {
            "<init>"
        } else {
            field(m, "name").map(|c| self.b.text(c)).unwrap_or_default()
        };
        let annotations = self.annotations(m);
        let is_static = self.modified(m, "static");
        let f = self.b.begin_function(m, name, Some(id));
        let params = field(m, "parameters").map(|p| self.params(p)).unwrap_or_default();
        let body = self.block_of(m, "body");
        self.b.end_function(f, params, body);
        if let Some(f) = self.b.function_mut(f) {
            f.annotations = annotations;
            f.has_receiver = !is_static;
        }
        if let Some(c) = self.b.class_mut(id) {
            c.methods.entry(name.into()).or_default().push(f);
        }
    }

    fn field_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match field(n, name) {
            Some(c) => self.expr(c),
            None => self.b.unknown(n),
        }
    }

    fn exprs(&mut self, n: Syntax<'_>) -> Vec<NodeId> {
        children(n).into_iter().map(|c| self.expr(c)).collect()
    }

    fn expr(&mut self, n: Syntax<'_>) -> NodeId {
        if !self.b.enter() {
            return self.b.unknown(n);
        }
        let id = self.expr_inner(n);
        self.b.leave();
        id
    }

    fn identifier(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
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
    fn switch_value(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn binary(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn place(&mut self, l: Syntax<'_>) -> Place {
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

    fn args(&mut self, n: Syntax<'_>) -> Vec<Arg> {
        let ids = field(n, "arguments").map(|a| self.exprs(a)).unwrap_or_default();
        ids.into_iter().map(|value| Arg { name: None, value, spread: false }).collect()
    }

    fn invocation(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn creation(&mut self, n: Syntax<'_>) -> NodeId {
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
