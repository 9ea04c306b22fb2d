//! Functions, parameters and classes of Python.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{Builder, bare_type, children, field};
use super::Python;

impl Python<'_> {
    pub(super) fn annotation(&mut self, e: Syntax<'_>) -> Annotation {
        let (callee, argument) = if e.kind() == "call" {
            let arg = field(e, "arguments")
                .and_then(|a| children(a).first().copied())
                .filter(|a| a.kind() == "string")
                .map(|a| self.b.text(a).trim_matches(['"', '\'']).into());
            (field(e, "function").unwrap_or(e), arg)
        } else {
            (e, None)
        };
        Annotation { name: self.b.text(callee).into(), argument }
    }

    pub(super) fn function(
        &mut self,
        n: Syntax<'_>,
        annotations: Vec<Annotation>,
        out: &mut Vec<Stmt>,
    ) {
        let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
        let v = self.b.declare(name);
        let id = self.function_value(n, name, None, annotations);
        let place = self.b.place_var(v);
        let c = self.b.add(n, Op::Closure(id));
        let a = self.b.assign(n, place, c);
        out.push(Stmt::Eval(a));
    }

    pub(super) fn function_value(
        &mut self,
        n: Syntax<'_>,
        name: &str,
        class: Option<ClassId>,
        annotations: Vec<Annotation>,
    ) -> FuncId {
        let is_static = annotations.iter().any(|a| &*a.name == "staticmethod");
        let id = self.b.begin_function(n, name, class);
        let mut params = Vec::new();
        let mut receiver = None;
        if let Some(list) = field(n, "parameters") {
            for (i, p) in children(list).into_iter().enumerate() {
                if i == 0 && class.is_some() && !is_static {
                    receiver = Some(self.b.name(p));
                    continue;
                }
                if let Some(p) = self.param(p) {
                    params.push(p);
                }
            }
        }
        self.receivers.push(receiver);
        let body = match field(n, "body") {
            Some(b) if b.kind() == "block" => self.block(b),
            Some(e) => {
                let v = self.expr(e);
                vec![Stmt::Return(Some(v), Builder::span(e))]
            }
            None => Vec::new(),
        };
        self.receivers.pop();
        self.b.end_function(id, params, body);
        if let Some(f) = self.b.function_mut(id) {
            f.annotations = annotations;
            f.has_receiver = class.is_some() && !is_static;
        }
        id
    }

    pub(super) fn param(&mut self, p: Syntax<'_>) -> Option<Param> {
        let (name, ty, value, rest) = match p.kind() {
            "identifier" => (p, None, None, false),
            "default_parameter" => (field(p, "name")?, None, field(p, "value"), false),
            "typed_parameter" => {
                let c = children(p).first().copied()?;
                let rest = c.kind() != "identifier";
                let name = if rest { children(c).first().copied()? } else { c };
                (name, field(p, "type"), None, rest)
            }
            "typed_default_parameter" => {
                (field(p, "name")?, field(p, "type"), field(p, "value"), false)
            }
            "list_splat_pattern" | "dictionary_splat_pattern" => {
                (children(p).first().copied()?, None, None, true)
            }
            _ => return None,
        };
        let text = self.b.text(name);
        let ty = ty.map(|t| self.type_name(t));
        let var = self.b.declare(text);
        self.b.set_type(var, ty.clone());
        let annotations = match value {
            Some(v) if v.kind() == "call" => vec![self.annotation(v)],
            _ => Vec::new(),
        };
        let default = value.map(|v| self.expr(v));
        Some(Param { var, name: text.into(), ty, annotations, rest, default })
    }

    /// The outer name of a type, resolved through imports; `Optional[X]` and the
    /// like give `X`.
    pub(super) fn type_name(&mut self, t: Syntax<'_>) -> Name {
        let text = self.b.text(t).trim();
        let mut inner = text.trim_matches(['"', '\'']);
        for wrapper in ["Optional[", "typing.Optional[", "Annotated[", "Union["] {
            inner = inner.strip_prefix(wrapper).unwrap_or(inner);
        }
        let bare = bare_type(inner);
        self.qualify(bare)
    }

    /// A dotted name with its first part replaced by what it was imported as.
    pub(super) fn qualify(&self, dotted: &str) -> Name {
        let (first, rest) = dotted.split_once('.').map_or((dotted, None), |(a, b)| (a, Some(b)));
        let full = self.b.resolve(first).and_then(|v| self.b.bound.get(&v).cloned());
        match (full, rest) {
            (Some(f), Some(r)) => format!("{f}.{r}").into(),
            (Some(f), None) => f,
            (None, _) => dotted.into(),
        }
    }

    pub(super) fn class(
        &mut self,
        n: Syntax<'_>,
        annotations: Vec<Annotation>,
        out: &mut Vec<Stmt>,
    ) {
        let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
        let var = self.b.declare(name);
        let id = self.b.module.classes.len() as ClassId;
        let mut bases = Vec::new();
        if let Some(s) = field(n, "superclasses") {
            for c in children(s) {
                bases.push(self.qualify(bare_type(self.b.text(c))));
            }
        }
        self.b.module.classes.push(Class {
            name: name.into(),
            bases,
            annotations,
            ..Class::default()
        });
        self.b.symbols.push(name.into());
        self.b.push_scope(false);
        let mut rest = Vec::new();
        if let Some(body) = field(n, "body") {
            for c in children(body) {
                self.member(c, id, &mut rest);
            }
        }
        self.b.pop_scope();
        self.b.symbols.pop();
        if let Some(c) = self.b.class_mut(id) {
            c.init = rest;
        }
        let place = self.b.place_var(var);
        let value = self.b.add(n, Op::Class(id));
        let a = self.b.assign(n, place, value);
        out.push(Stmt::Eval(a));
    }

    pub(super) fn member(&mut self, c: Syntax<'_>, id: ClassId, rest: &mut Vec<Stmt>) {
        let (def, annotations) = if c.kind() == "decorated_definition" {
            let list: Vec<_> = children(c)
                .into_iter()
                .filter(|d| d.kind() == "decorator")
                .filter_map(|d| children(d).first().copied())
                .map(|e| self.annotation(e))
                .collect();
            (field(c, "definition").unwrap_or(c), list)
        } else {
            (c, Vec::new())
        };
        if def.kind() == "function_definition" {
            let name = field(def, "name").map(|c| self.b.text(c)).unwrap_or_default();
            let f = self.function_value(def, name, Some(id), annotations);
            if let Some(class) = self.b.class_mut(id) {
                class.methods.entry(name.into()).or_default().push(f);
            }
            return;
        }
        // `NAME = value` in a class body is a field of every object.
        if c.kind() == "expression_statement"
            && let Some(a) = children(c).first().filter(|a| a.kind() == "assignment")
            && let (Some(l), Some(r)) = (field(*a, "left"), field(*a, "right"))
            && l.kind() == "identifier"
        {
            let value = self.expr(r);
            let v = self.b.declare(self.b.text(l));
            let place = self.b.place_var(v);
            let stored = self.b.assign(c, place, value);
            let this = self.b.add(c, Op::This);
            let name = self.b.name(l);
            let node = self.b.assign(c, Place::Field(this, name.clone()), stored);
            if let Some(class) = self.b.class_mut(id) {
                class.constants.push(name);
            }
            rest.push(Stmt::Eval(node));
            return;
        }
        self.statement(c, rest);
    }
}
