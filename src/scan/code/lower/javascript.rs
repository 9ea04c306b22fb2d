//! JavaScript and TypeScript.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, bare_type, children, field, fields, integer, operator, unescape};

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

    /// An expression that gives its name to the function that it is.
    fn named_expr(&mut self, n: Syntax<'_>, name: &str) -> NodeId {
        match n.kind() {
            "arrow_function" | "function_expression" | "generator_function" => {
                let f = self.function(n, name, None);
                self.b.add(n, Op::Closure(f))
            }
            _ => self.expr(n),
        }
    }

    fn type_name(&mut self, t: Syntax<'_>) -> Name {
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

    fn function(&mut self, n: Syntax<'_>, name: &str, class: Option<ClassId>) -> FuncId {
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

    fn param(&mut self, p: Syntax<'_>, params: &mut Vec<Param>, body: &mut Vec<Stmt>) {
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

    fn class(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn method(&mut self, m: Syntax<'_>, id: ClassId, _: &mut Vec<Stmt>) -> FuncId {
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

    fn field_definition(&mut self, m: Syntax<'_>, id: ClassId, init: &mut Vec<Stmt>) {
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

    fn pattern(&mut self, p: Syntax<'_>, declare: bool) -> Place {
        if !self.b.enter() {
            return Place::Ignore;
        }
        let place = self.pattern_inner(p, declare);
        self.b.leave();
        place
    }

    fn pattern_inner(&mut self, p: Syntax<'_>, declare: bool) -> Place {
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

    fn expr_inner(&mut self, n: Syntax<'_>) -> NodeId {
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
    fn jsx_attribute(&mut self, n: Syntax<'_>) -> NodeId {
        let parts = children(n);
        let name = parts.first().map(|c| self.b.text(*c)).unwrap_or_default();
        let values: Vec<NodeId> = parts.iter().skip(1).map(|c| self.expr_jsx(*c)).collect();
        let callee = self.b.add(n, Op::Global(format!("jsx.{name}").into()));
        self.b.call(n, callee, values)
    }

    fn expr_jsx(&mut self, c: Syntax<'_>) -> NodeId {
        if c.kind() == "jsx_expression" {
            return match children(c).first() {
                Some(e) => self.expr(*e),
                None => self.b.unknown(c),
            };
        }
        self.expr(c)
    }

    fn template(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn object(&mut self, n: Syntax<'_>) -> NodeId {
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

    fn args(&mut self, list: Syntax<'_>) -> Vec<Arg> {
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

    fn call(&mut self, n: Syntax<'_>) -> NodeId {
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
