//! Classes, methods and parameters of Java.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{Builder, children, field, fields};
use super::Java;
use super::Open;

impl Java<'_> {
    pub(super) fn class(&mut self, n: Syntax<'_>) {
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
                    // Fields of interfaces are final without saying so.
                    let fixed = m.kind() == "constant_declaration" || self.modified(*m, "final");
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
    pub(super) fn record(&mut self, n: Syntax<'_>, id: ClassId) {
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

    pub(super) fn params(&mut self, list: Syntax<'_>) -> Vec<Param> {
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

    pub(super) fn method(&mut self, m: Syntax<'_>, id: ClassId) {
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
}
