//! Types, functions and methods of Go.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{children, field, fields};
use super::Go;

impl Go<'_> {
    pub(super) fn class_id(&self, name: &str) -> Option<ClassId> {
        self.b.module.classes.iter().position(|c| &*c.name == name).map(|i| i as ClassId)
    }

    /// Qualified name of a type; pointers and type arguments do not count.
    pub(super) fn type_name(&self, t: Syntax<'_>) -> Option<Name> {
        match t.kind() {
            "pointer_type" | "parenthesized_type" => {
                children(t).first().and_then(|c| self.type_name(*c))
            }
            "generic_type" => field(t, "type").and_then(|c| self.type_name(c)),
            "qualified_type" => {
                let package = field(t, "package").map(|p| self.b.text(p))?;
                let name = field(t, "name").map(|p| self.b.text(p))?;
                let full = self.b.resolve(package).and_then(|v| self.b.bound.get(&v));
                Some(match full {
                    Some(f) => format!("{f}.{name}").into(),
                    None => format!("{package}.{name}").into(),
                })
            }
            "type_identifier" => Some(self.b.name(t)),
            _ => None,
        }
    }

    pub(super) fn types(&mut self, n: Syntax<'_>) {
        for s in children(n).into_iter().filter(|s| s.kind() == "type_spec") {
            let (Some(name), Some(t)) = (field(s, "name"), field(s, "type")) else {
                continue;
            };
            let Some(id) = self.class_id(self.b.text(name)) else {
                continue;
            };
            if t.kind() != "struct_type" {
                continue;
            }
            for list in children(t) {
                for f in children(list).into_iter().filter(|f| f.kind() == "field_declaration") {
                    let ty = field(f, "type").and_then(|t| self.type_name(t));
                    for name in fields(f, "name") {
                        let name = self.b.name(name);
                        if let (Some(c), Some(t)) = (self.b.class_mut(id), &ty) {
                            c.field_types.insert(name, t.clone());
                        }
                    }
                }
            }
        }
    }

    pub(super) fn method(&mut self, n: Syntax<'_>) {
        let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
        let mut receiver = None;
        let mut ty = None;
        if let Some(r) = field(n, "receiver").and_then(|r| children(r).first().copied()) {
            receiver = field(r, "name").map(|c| self.b.name(c));
            ty = field(r, "type").and_then(|t| self.type_name(t));
        }
        let mut class = ty.as_deref().and_then(|t| self.class_id(t));
        // The type stands in another file of the package.
        if class.is_none()
            && let Some(t) = &ty
        {
            class = Some(self.b.module.classes.len() as ClassId);
            self.b.module.classes.push(Class { name: t.clone(), ..Class::default() });
        }
        if let Some(t) = &ty {
            self.b.symbols.push(t.clone());
        }
        let outer = std::mem::replace(&mut self.receiver, receiver);
        let f = self.function(n, name, class);
        self.receiver = outer;
        if ty.is_some() {
            self.b.symbols.pop();
        }
        if let Some(c) = class.and_then(|c| self.b.class_mut(c)) {
            c.methods.entry(name.into()).or_default().push(f);
        }
    }

    pub(super) fn function(&mut self, n: Syntax<'_>, name: &str, class: Option<ClassId>) -> FuncId {
        let id = self.b.begin_function(n, name, class);
        let mut params = Vec::new();
        for p in field(n, "parameters").map(children).unwrap_or_default() {
            let ty = field(p, "type").and_then(|t| self.type_name(t));
            let rest = p.kind() == "variadic_parameter_declaration";
            for name in fields(p, "name") {
                let text = self.b.text(name);
                let var = self.b.declare(text);
                if !rest {
                    self.b.set_type(var, ty.clone());
                }
                params.push(Param {
                    var,
                    name: text.into(),
                    ty: if rest { None } else { ty.clone() },
                    annotations: Vec::new(),
                    rest,
                    default: None,
                });
            }
        }
        let body = self.block_of(n, "body");
        self.b.end_function(id, params, body);
        id
    }
}
