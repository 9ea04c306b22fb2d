//! Functions, parameters, patterns and classes of JavaScript.

use tree_sitter::Node as Syntax;

use super::super::super::ir::*;
use super::super::{Builder, bare_type, children, field, fields};
use super::JavaScript;

impl JavaScript<'_> {
    pub(super) fn type_name(&mut self, t: Syntax<'_>) -> Name {
        let text = self.b.text(t).trim_start_matches([':', ' ']);
        let inner = text.strip_prefix("Promise<").unwrap_or(text);
        let bare = bare_type(inner);
        let (first, rest) = bare.split_once('.').map_or((bare, None), |(a, b)| (a, Some(b)));
        let full = self.b.resolve(first).and_then(|v| self.b.bound.get(&v).cloned());
        match (full, rest) {
            (Some(f), Some(r)) => format!("{f}.{r}").into(),
            (Some(f), None) => f,
            (None, _) => bare.into(),
        }
    }

    pub(super) fn function(&mut self, n: Syntax<'_>, name: &str, class: Option<ClassId>) -> FuncId {
        let id = self.b.begin_function(n, name, class);
        let mut params = Vec::new();
        let mut body = Vec::new();
        if let Some(p) = field(n, "parameter") {
            self.param(p, &mut params, &mut body);
        }
        if let Some(list) = field(n, "parameters") {
            for p in children(list) {
                self.param(p, &mut params, &mut body);
            }
        }
        match field(n, "body") {
            Some(b) if b.kind() == "statement_block" => {
                self.hoist(b);
                self.statements(b, &mut body);
            }
            Some(e) => {
                let v = self.expr(e);
                body.push(Stmt::Return(Some(v), Builder::span(e)));
            }
            None => {}
        }
        self.b.end_function(id, params, body);
        id
    }

    pub(super) fn param(&mut self, p: Syntax<'_>, params: &mut Vec<Param>, body: &mut Vec<Stmt>) {
        let mut target = p;
        let mut default = None;
        let mut rest = false;
        let mut ty = None;
        let mut annotations = Vec::new();
        loop {
            match target.kind() {
                "required_parameter" | "optional_parameter" => {
                    for d in fields(target, "decorator") {
                        if let Some(e) = children(d).first() {
                            let callee = field(*e, "function").unwrap_or(*e);
                            annotations
                                .push(Annotation { name: self.b.name(callee), argument: None });
                        }
                    }
                    if let Some(t) = field(target, "type") {
                        ty = Some(self.type_name(t));
                    }
                    if let Some(v) = field(target, "value") {
                        default = Some(self.expr(v));
                    }
                    match field(target, "pattern") {
                        Some(inner) => target = inner,
                        None => return,
                    }
                }
                "assignment_pattern" => {
                    default = field(target, "right").map(|v| self.expr(v));
                    match field(target, "left") {
                        Some(l) => target = l,
                        None => return,
                    }
                }
                "rest_pattern" => {
                    rest = true;
                    match children(target).first() {
                        Some(c) => target = *c,
                        None => return,
                    }
                }
                _ => break,
            }
        }
        let simple = target.kind() == "identifier";
        let name = if simple { self.b.text(target) } else { "{}" };
        let var = if simple { self.b.declare(name) } else { self.b.new_var(&name.into()) };
        self.b.set_type(var, ty.clone());
        if !simple {
            let place = self.pattern(target, true);
            let v = self.b.add(target, Op::Var(var));
            let a = self.b.assign(target, place, v);
            body.push(Stmt::Eval(a));
        }
        params.push(Param { var, name: name.into(), ty, annotations, rest, default });
    }

    pub(super) fn class(&mut self, n: Syntax<'_>) -> NodeId {
        let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
        let id = self.b.module.classes.len() as ClassId;
        let mut bases = Vec::new();
        for h in children(n).into_iter().filter(|c| c.kind() == "class_heritage") {
            for e in children(h) {
                let e = field(e, "value").unwrap_or(e);
                bases.push(bare_type(self.b.text(e)).into());
            }
        }
        self.b.module.classes.push(Class { name: name.into(), bases, ..Class::default() });
        self.b.symbols.push(name.into());
        let mut init = Vec::new();
        if let Some(body) = field(n, "body") {
            let mut annotations = Vec::new();
            for m in children(body) {
                match m.kind() {
                    "decorator" => {
                        if let Some(e) = children(m).first() {
                            let callee = field(*e, "function").unwrap_or(*e);
                            annotations
                                .push(Annotation { name: self.b.name(callee), argument: None });
                        }
                    }
                    "method_definition" => {
                        let f = self.method(m, id, &mut init);
                        if let Some(f) = self.b.function_mut(f) {
                            f.annotations = std::mem::take(&mut annotations);
                        }
                    }
                    "field_definition" | "public_field_definition" => {
                        self.field_definition(m, id, &mut init);
                        annotations.clear();
                    }
                    "class_static_block" => {
                        if let Some(b) = field(m, "body") {
                            init.extend(self.block(b));
                        }
                    }
                    _ => {}
                }
            }
        }
        self.b.symbols.pop();
        if let Some(c) = self.b.class_mut(id) {
            c.init = init;
        }
        self.b.add(n, Op::Class(id))
    }

    pub(super) fn method(&mut self, m: Syntax<'_>, id: ClassId, _: &mut Vec<Stmt>) -> FuncId {
        let name = field(m, "name").map(|c| self.b.text(c)).unwrap_or_default();
        // `constructor(private readonly db: Db)` declares fields.
        let mut stores: Vec<(Name, Option<Name>)> = Vec::new();
        if name == "constructor"
            && let Some(list) = field(m, "parameters")
        {
            for p in children(list) {
                let modified = children(p).iter().any(|c| c.kind() == "accessibility_modifier")
                    || self.b.text(p).starts_with("readonly ");
                if modified && let Some(i) = field(p, "pattern") {
                    let ty = field(p, "type").map(|t| self.type_name(t));
                    stores.push((self.b.name(i), ty));
                }
            }
        }
        let f = self.function(m, name, Some(id));
        if !stores.is_empty() {
            let params: Vec<(Name, VarId)> = self
                .b
                .function_mut(f)
                .map(|f| f.params.iter().map(|p| (p.name.clone(), p.var)).collect())
                .unwrap_or_default();
            let mut front = Vec::new();
            for (name, ty) in stores {
                let Some((_, var)) = params.iter().find(|p| p.0 == name) else {
                    continue;
                };
                let value = self.b.add(m, Op::Var(*var));
                let this = self.b.add(m, Op::This);
                let a = self.b.assign(m, Place::Field(this, name.clone()), value);
                front.push(Stmt::Eval(a));
                if let (Some(c), Some(t)) = (self.b.class_mut(id), ty) {
                    c.field_types.insert(name, t);
                }
            }
            if let Some(f) = self.b.function_mut(f) {
                front.append(&mut f.body);
                f.body = front;
            }
        }
        if let Some(c) = self.b.class_mut(id) {
            c.methods.entry(name.into()).or_default().push(f);
        }
        f
    }

    pub(super) fn field_definition(&mut self, m: Syntax<'_>, id: ClassId, init: &mut Vec<Stmt>) {
        let Some(name) = field(m, "name").or_else(|| field(m, "property")) else {
            return;
        };
        let text = self.b.text(name);
        let ty = field(m, "type").map(|t| self.type_name(t));
        if let (Some(c), Some(t)) = (self.b.class_mut(id), ty) {
            c.field_types.insert(text.into(), t);
        }
        let Some(value) = field(m, "value") else {
            return;
        };
        if matches!(value.kind(), "arrow_function" | "function_expression") {
            let f = self.function(value, text, Some(id));
            if let Some(c) = self.b.class_mut(id) {
                c.methods.entry(text.into()).or_default().push(f);
            }
            return;
        }
        let v = self.expr(value);
        let this = self.b.add(m, Op::This);
        let a = self.b.assign(m, Place::Field(this, text.into()), v);
        init.push(Stmt::Eval(a));
        if self.b.text(m).contains("readonly ")
            && let Some(c) = self.b.class_mut(id)
        {
            c.constants.push(text.into());
        }
    }

    pub(super) fn pattern(&mut self, p: Syntax<'_>, declare: bool) -> Place {
        if !self.b.enter() {
            return Place::Ignore;
        }
        let place = self.pattern_inner(p, declare);
        self.b.leave();
        place
    }

    pub(super) fn pattern_inner(&mut self, p: Syntax<'_>, declare: bool) -> Place {
        match p.kind() {
            "identifier"
            | "shorthand_property_identifier_pattern"
            | "shorthand_property_identifier" => {
                let name = self.b.text(p);
                let v = if declare {
                    self.b.declare(name)
                } else {
                    match self.b.resolve(name) {
                        Some(v) => v,
                        None => self.b.declare_in_function(name),
                    }
                };
                self.b.place_var(v)
            }
            "object_pattern" => {
                let mut parts = Vec::new();
                for c in children(p) {
                    match c.kind() {
                        "shorthand_property_identifier_pattern" => {
                            let name = self.b.name(c);
                            let inner = self.pattern(c, declare);
                            parts.push((Some(name), inner));
                        }
                        "pair_pattern" => {
                            let (Some(k), Some(v)) = (field(c, "key"), field(c, "value")) else {
                                continue;
                            };
                            let name = self.b.text(k).trim_matches(['"', '\'']).into();
                            let inner = self.pattern(v, declare);
                            parts.push((Some(name), inner));
                        }
                        "object_assignment_pattern" => {
                            let (Some(l), Some(r)) = (field(c, "left"), field(c, "right")) else {
                                continue;
                            };
                            let name = self.b.name(l);
                            let d = self.expr(r);
                            let inner = self.pattern(l, declare);
                            parts.push((Some(name), Place::Default(Box::new(inner), d)));
                        }
                        "rest_pattern" => {
                            if let Some(i) = children(c).first() {
                                let inner = self.pattern(*i, declare);
                                parts.push((None, inner));
                            }
                        }
                        _ => {}
                    }
                }
                Place::Object(parts)
            }
            "array_pattern" => {
                // Holes count as positions.
                let mut parts = Vec::new();
                let mut cursor = p.walk();
                let mut open = true;
                for c in p.children(&mut cursor) {
                    if c.kind() == "," {
                        if open {
                            parts.push(Place::Ignore);
                        }
                        open = true;
                    } else if c.is_named() && !c.is_extra() {
                        parts.push(self.pattern(c, declare));
                        open = false;
                    }
                }
                Place::Tuple(parts)
            }
            "assignment_pattern" => {
                let (Some(l), Some(r)) = (field(p, "left"), field(p, "right")) else {
                    return Place::Ignore;
                };
                let d = self.expr(r);
                let inner = self.pattern(l, declare);
                Place::Default(Box::new(inner), d)
            }
            "member_expression" => {
                let o = self.field_expr(p, "object");
                let name = field(p, "property").map(|c| self.b.name(c)).unwrap_or_default();
                Place::Field(o, name)
            }
            "subscript_expression" => {
                let o = self.field_expr(p, "object");
                let k = self.field_expr(p, "index");
                Place::Index(o, k)
            }
            "parenthesized_expression" | "rest_pattern" | "non_null_expression" => {
                match children(p).first() {
                    Some(c) => self.pattern(*c, declare),
                    None => Place::Ignore,
                }
            }
            _ => Place::Ignore,
        }
    }
}
