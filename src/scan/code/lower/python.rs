//! Python.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, bare_type, children, field, fields, integer, unescape};

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

    fn annotation(&mut self, e: Syntax<'_>) -> Annotation {
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

    fn function(&mut self, n: Syntax<'_>, annotations: Vec<Annotation>, out: &mut Vec<Stmt>) {
        let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
        let v = self.b.declare(name);
        let id = self.function_value(n, name, None, annotations);
        let place = self.b.place_var(v);
        let c = self.b.add(n, Op::Closure(id));
        let a = self.b.assign(n, place, c);
        out.push(Stmt::Eval(a));
    }

    fn function_value(
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

    fn param(&mut self, p: Syntax<'_>) -> Option<Param> {
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
    fn type_name(&mut self, t: Syntax<'_>) -> Name {
        let text = self.b.text(t).trim();
        let mut inner = text.trim_matches(['"', '\'']);
        for wrapper in ["Optional[", "typing.Optional[", "Annotated[", "Union["] {
            inner = inner.strip_prefix(wrapper).unwrap_or(inner);
        }
        let bare = bare_type(inner);
        self.qualify(bare)
    }

    /// A dotted name with its first part replaced by what it was imported as.
    fn qualify(&self, dotted: &str) -> Name {
        let (first, rest) = dotted.split_once('.').map_or((dotted, None), |(a, b)| (a, Some(b)));
        let full = self.b.resolve(first).and_then(|v| self.b.bound.get(&v).cloned());
        match (full, rest) {
            (Some(f), Some(r)) => format!("{f}.{r}").into(),
            (Some(f), None) => f,
            (None, _) => dotted.into(),
        }
    }

    fn class(&mut self, n: Syntax<'_>, annotations: Vec<Annotation>, out: &mut Vec<Stmt>) {
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

    fn member(&mut self, c: Syntax<'_>, id: ClassId, rest: &mut Vec<Stmt>) {
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

    fn field_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match field(n, name) {
            Some(c) => self.expr(c),
            None => self.b.unknown(n),
        }
    }

    fn expr(&mut self, n: Syntax<'_>) -> NodeId {
        if !self.b.enter() {
            return self.b.unknown(n);
        }
        let id = self.expr_inner(n);
        self.b.leave();
        id
    }

    fn exprs(&mut self, n: Syntax<'_>) -> Vec<NodeId> {
        children(n).into_iter().map(|c| self.expr(c)).collect()
    }

    fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
        match n.kind() {
            "identifier" => {
                let name = self.b.text(n);
                if self.receivers.iter().any(|r| r.as_deref() == Some(name)) {
                    return self.b.add(n, Op::This);
                }
                self.b.mention(name);
                match self.b.resolve(name) {
                    Some(v) => self.b.add(n, Op::Var(v)),
                    None => self.b.add(n, Op::Global(name.into())),
                }
            }
            "true" => self.b.add(n, Op::Lit(Const::Bool(true))),
            "false" => self.b.add(n, Op::Lit(Const::Bool(false))),
            "none" => self.b.add(n, Op::Lit(Const::Null)),
            "integer" => match integer(self.b.text(n)) {
                Some(i) => self.b.add(n, Op::Lit(Const::Int(i))),
                None => self.b.unknown(n),
            },
            "string" => self.string(n),
            "concatenated_string" => {
                let parts = self.exprs(n);
                self.b.sum(n, parts)
            }
            "attribute" => {
                let object = self.field_expr(n, "object");
                let name = field(n, "attribute").map(|c| self.b.text(c)).unwrap_or_default();
                self.b.mention(name);
                self.b.field(n, object, name)
            }
            "subscript" => {
                let object = self.field_expr(n, "value");
                match field(n, "subscript") {
                    Some(s) if s.kind() != "slice" => {
                        let key = self.expr(s);
                        self.b.add(n, Op::Index(object, key))
                    }
                    // A slice is a part of the same text or list.
                    _ => self.b.add(n, Op::Cast(object, None)),
                }
            }
            "call" => self.call(n),
            "await" | "parenthesized_expression" | "list_splat" | "dictionary_splat" => {
                match children(n).first() {
                    Some(c) => self.expr(*c),
                    None => self.b.unknown(n),
                }
            }
            "type_conversion" | "slice" | "expression" | "yield" => {
                let all = self.exprs(n);
                self.b.add(n, Op::Join(all))
            }
            "named_expression" => {
                let value = self.field_expr(n, "value");
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let v = self.b.declare_in_function(name);
                let place = self.b.place_var(v);
                self.b.assign(n, place, value)
            }
            "as_pattern" => {
                let parts = children(n);
                let value = parts.first().map(|c| self.expr(*c));
                let value = value.unwrap_or_else(|| self.b.unknown(n));
                match field(n, "alias").and_then(|a| children(a).first().copied()) {
                    Some(target) => {
                        let place = self.place(target);
                        self.b.assign(n, place, value)
                    }
                    None => value,
                }
            }
            "assignment" => {
                let value = match field(n, "right") {
                    Some(r) => self.expr(r),
                    // `x: int` declares only.
                    None => return self.b.unknown(n),
                };
                let ty = field(n, "type").map(|t| self.type_name(t));
                match field(n, "left") {
                    Some(l) => {
                        let place = self.place(l);
                        if let Place::Var(v) = place {
                            self.b.set_type(v, ty);
                        }
                        self.b.assign(n, place, value)
                    }
                    None => value,
                }
            }
            "augmented_assignment" => {
                let (Some(l), Some(r)) = (field(n, "left"), field(n, "right")) else {
                    return self.b.unknown(n);
                };
                let old = self.expr(l);
                let new = self.expr(r);
                let op = match field(n, "operator").map(|o| self.b.text(o)) {
                    Some("+=") => BinOp::Add,
                    Some("-=") => BinOp::Sub,
                    Some("*=") => BinOp::Mul,
                    Some("%=") => BinOp::Mod,
                    _ => BinOp::Other,
                };
                let value = self.b.add(n, Op::Bin(op, old, new));
                let place = self.place(l);
                self.b.assign(n, place, value)
            }
            "binary_operator" => self.binary(n),
            "boolean_operator" => {
                let a = self.field_expr(n, "left");
                let b = self.field_expr(n, "right");
                let and = field(n, "operator").is_some_and(|o| o.kind() == "and");
                self.b.add(n, Op::Bin(if and { BinOp::And } else { BinOp::Or }, a, b))
            }
            "not_operator" => {
                let a = self.field_expr(n, "argument");
                self.b.add(n, Op::Not(a))
            }
            "unary_operator" => {
                let a = self.field_expr(n, "argument");
                let minus = field(n, "operator").is_some_and(|o| o.kind() == "-");
                self.b.add(n, if minus { Op::Neg(a) } else { Op::Unknown(vec![a]) })
            }
            "comparison_operator" => self.comparison(n),
            "conditional_expression" => {
                let c = children(n);
                let (Some(then), Some(cond), Some(other)) = (c.first(), c.get(1), c.get(2)) else {
                    return self.b.unknown(n);
                };
                let cond = self.expr(*cond);
                let then = self.expr(*then);
                let other = self.expr(*other);
                self.b.add(n, Op::Cond(cond, then, other))
            }
            "list" | "tuple" | "expression_list" | "set" | "pattern_list" => {
                let items = self.exprs(n);
                self.b.add(n, Op::List(items))
            }
            "dictionary" => {
                let mut items = Vec::new();
                for c in children(n) {
                    if c.kind() == "pair" {
                        let k = self.field_expr(c, "key");
                        let v = self.field_expr(c, "value");
                        items.push((Some(k), v));
                    } else {
                        let v = self.expr(c);
                        items.push((None, v));
                    }
                }
                self.b.add(n, Op::Map(items))
            }
            "lambda" => {
                let id = self.function_value(n, "", None, Vec::new());
                self.b.add(n, Op::Closure(id))
            }
            "list_comprehension"
            | "set_comprehension"
            | "generator_expression"
            | "dictionary_comprehension" => self.comprehension(n),
            "interpolation" | "format_expression" => self.field_expr(n, "expression"),
            _ => {
                let all = self.exprs(n);
                self.b.add(n, Op::Unknown(all))
            }
        }
    }

    fn string(&mut self, n: Syntax<'_>) -> NodeId {
        let mut parts = Vec::new();
        let mut text = String::new();
        let start = children(n).first().map(|c| self.b.text(*c)).unwrap_or_default();
        let raw = start.contains(['r', 'R']);
        let mut interpolated = false;
        for c in children(n) {
            match c.kind() {
                "string_content" => {
                    let t = self.b.text(c);
                    if raw { text.push_str(t) } else { text.push_str(&unescape(t)) }
                }
                "interpolation" => {
                    interpolated = true;
                    if !text.is_empty() {
                        parts.push(self.b.string(n, &text));
                        text.clear();
                    }
                    parts.push(self.expr(c));
                }
                _ => {}
            }
        }
        if !interpolated {
            return self.b.string(n, &text);
        }
        if !text.is_empty() {
            parts.push(self.b.string(n, &text));
        }
        self.b.add(n, Op::Concat(parts))
    }

    fn binary(&mut self, n: Syntax<'_>) -> NodeId {
        // A chain of sums leans to the left; walk it without recursion.
        let mut terms = Vec::new();
        let mut at = n;
        while at.kind() == "binary_operator"
            && field(at, "operator").is_some_and(|o| o.kind() == "+")
        {
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
        let op = match field(n, "operator").map(|o| o.kind()) {
            Some("-") => BinOp::Sub,
            Some("*") => BinOp::Mul,
            Some("//") => BinOp::Div,
            Some("%") => BinOp::Mod,
            // `path / name` of pathlib; numbers do not care.
            Some("/") => return self.b.add(n, Op::Bin(BinOp::Div, a, b)),
            Some("|") => return self.b.add(n, Op::Join(vec![a, b])),
            _ => BinOp::Other,
        };
        self.b.add(n, Op::Bin(op, a, b))
    }

    fn comparison(&mut self, n: Syntax<'_>) -> NodeId {
        let parts = self.exprs(n);
        let mut cursor = n.walk();
        let ops: Vec<_> =
            n.children_by_field_name("operators", &mut cursor).map(|o| o.kind()).collect();
        let mut acc: Option<NodeId> = None;
        for (i, op) in ops.iter().enumerate() {
            let (Some(a), Some(b)) = (parts.get(i), parts.get(i + 1)) else {
                break;
            };
            let (bin, negated) = match *op {
                "==" | "is" => (BinOp::Eq, false),
                "!=" | "<>" | "is not" => (BinOp::Ne, false),
                "<" => (BinOp::Lt, false),
                "<=" => (BinOp::Le, false),
                ">" => (BinOp::Gt, false),
                ">=" => (BinOp::Ge, false),
                "in" => (BinOp::In, false),
                "not in" => (BinOp::In, true),
                _ => (BinOp::Other, false),
            };
            let mut id = self.b.add(n, Op::Bin(bin, *a, *b));
            if negated {
                id = self.b.add(n, Op::Not(id));
            }
            acc = Some(match acc {
                Some(prev) if i < 8 => self.b.add(n, Op::Bin(BinOp::And, prev, id)),
                Some(prev) => prev,
                None => id,
            });
        }
        acc.unwrap_or_else(|| self.b.unknown(n))
    }

    fn comprehension(&mut self, n: Syntax<'_>) -> NodeId {
        self.b.push_scope(false);
        let mut effects = Vec::new();
        let mut conds = Vec::new();
        for c in children(n) {
            match c.kind() {
                "for_in_clause" => {
                    let iter = self.field_expr(c, "right");
                    let element = self.b.add(c, Op::Element(iter));
                    if let Some(l) = field(c, "left") {
                        let place = self.fresh_place(l);
                        effects.push(self.b.assign(c, place, element));
                    }
                }
                "if_clause" => {
                    let ids = self.exprs(c);
                    conds.extend(ids);
                }
                _ => {}
            }
        }
        let body = match field(n, "body") {
            Some(p) if p.kind() == "pair" => {
                let k = self.field_expr(p, "key");
                let v = self.field_expr(p, "value");
                self.b.add(p, Op::Join(vec![k, v]))
            }
            Some(e) => self.expr(e),
            None => self.b.unknown(n),
        };
        self.b.pop_scope();
        // Nothing passes that does not pass the conditions.
        let mut value = body;
        for c in conds.into_iter().rev() {
            let nothing = self.b.add(n, Op::Lit(Const::Null));
            value = self.b.add(n, Op::Cond(c, value, nothing));
        }
        // The bindings have to be evaluated before the element.
        effects.push(value);
        let last = self.b.add(n, Op::Seq(effects));
        self.b.add(n, Op::ListOf(last))
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

    fn call(&mut self, n: Syntax<'_>) -> NodeId {
        let callee = self.field_expr(n, "function");
        let mut args = Vec::new();
        if let Some(list) = field(n, "arguments") {
            if list.kind() == "generator_expression" {
                let value = self.expr(list);
                args.push(Arg { name: None, value, spread: false });
            } else {
                for c in children(list) {
                    let (name, value, spread) = match c.kind() {
                        "keyword_argument" => (
                            field(c, "name").map(|k| self.b.name(k)),
                            self.field_expr(c, "value"),
                            false,
                        ),
                        "list_splat" | "dictionary_splat" => (None, self.expr(c), true),
                        _ => (None, self.expr(c), false),
                    };
                    args.push(Arg { name, value, spread });
                }
            }
        }
        self.b.add(n, Op::Call { callee, args, new: false })
    }
}
