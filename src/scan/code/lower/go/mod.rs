//! Go.

use tree_sitter::Node as Syntax;

use super::super::ir::*;
use super::{Builder, children, field, fields, operator};

mod define;
mod expr;

struct Go<'a> {
    b: Builder<'a>,
    /// Name of the receiver of the method that is being lowered.
    receiver: Option<Name>,
}

/// Lowers a file.
pub(super) fn lower(b: Builder<'_>, root: Syntax<'_>) -> Module {
    let mut g = Go { b, receiver: None };
    let mut body = Vec::new();
    let all = children(root);
    for c in &all {
        if c.kind() == "import_declaration" {
            g.import(*c, &mut body);
        }
    }
    for c in &all {
        g.predeclare(*c);
    }
    for c in &all {
        if c.kind() != "import_declaration" {
            g.statement(*c, &mut body);
        }
    }
    g.b.finish(body)
}

impl Go<'_> {
    fn import(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        let mut specs = Vec::new();
        for c in children(n) {
            if c.kind() == "import_spec_list" {
                specs.extend(children(c));
            } else {
                specs.push(c);
            }
        }
        for s in specs {
            let Some(path) = field(s, "path") else {
                continue;
            };
            let full = self.b.text(path).trim_matches(['"', '`']);
            self.b.module.imports.push(full.into());
            // The last part that is no version is the package's usual name.
            let mut parts = full.rsplit('/');
            let mut last = parts.next().unwrap_or(full);
            let version = |s: &str| {
                s.strip_prefix('v')
                    .is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
            };
            if version(last) {
                last = parts.next().unwrap_or(last);
            }
            let local = match field(s, "name") {
                Some(n) => self.b.text(n),
                None => last.split('.').next().unwrap_or(last),
            };
            // Models name packages without the major version.
            let mut canonical = full.to_string();
            if let Some((head, tail)) = full.rsplit_once('/')
                && version(tail)
            {
                canonical = head.to_string();
            }
            let v = self.b.declare(local);
            self.b.bound.insert(v, canonical.as_str().into());
            let place = self.b.place_var(v);
            let g = self.b.add(s, Op::Global(canonical.into()));
            let a = self.b.assign(s, place, g);
            out.push(Stmt::Eval(a));
        }
    }

    fn predeclare(&mut self, n: Syntax<'_>) {
        match n.kind() {
            "function_declaration" => {
                if let Some(name) = field(n, "name") {
                    self.b.declare(self.b.text(name));
                }
            }
            "type_declaration" => {
                for s in children(n).into_iter().filter(|s| s.kind() == "type_spec") {
                    if let Some(name) = field(s, "name") {
                        let name = self.b.name(name);
                        self.b.module.classes.push(Class { name, ..Class::default() });
                    }
                }
            }
            "var_declaration" | "const_declaration" => {
                for s in Self::specs(n) {
                    for name in fields(s, "name") {
                        self.b.declare(self.b.text(name));
                    }
                }
            }
            _ => {}
        }
    }

    fn specs(n: Syntax<'_>) -> Vec<Syntax<'_>> {
        let mut out = Vec::new();
        for c in children(n) {
            if c.kind() == "var_spec_list" {
                out.extend(children(c));
            } else {
                out.push(c);
            }
        }
        out
    }

    fn block(&mut self, n: Syntax<'_>) -> Vec<Stmt> {
        self.b.push_scope(false);
        let mut out = Vec::new();
        self.statements(n, &mut out);
        self.b.pop_scope();
        out
    }

    fn statements(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        for c in children(n) {
            if c.kind() == "statement_list" {
                for s in children(c) {
                    self.statement(s, out);
                }
            } else {
                self.statement(c, out);
            }
        }
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
            "function_declaration" => {
                let name = field(n, "name").map(|c| self.b.text(c)).unwrap_or_default();
                let v = self.b.declare(name);
                let f = self.function(n, name, None);
                let place = self.b.place_var(v);
                let c = self.b.add(n, Op::Closure(f));
                let a = self.b.assign(n, place, c);
                out.push(Stmt::Eval(a));
            }
            "method_declaration" => self.method(n),
            "type_declaration" => self.types(n),
            "package_clause" | "import_declaration" => {}
            "var_declaration" | "const_declaration" => {
                for s in Self::specs(n) {
                    self.var_spec(s, out);
                }
            }
            "short_var_declaration" | "assignment_statement" => self.assignment(n, out),
            "inc_statement" | "dec_statement" => {
                let Some(a) = children(n).first().copied() else {
                    return;
                };
                let old = self.expr(a);
                let one = self.b.add(n, Op::Lit(Const::Int(1)));
                let op = if n.kind() == "inc_statement" { BinOp::Add } else { BinOp::Sub };
                let value = self.b.add(n, Op::Bin(op, old, one));
                let place = self.place(a, false);
                let id = self.b.assign(n, place, value);
                out.push(Stmt::Eval(id));
            }
            "if_statement" => {
                self.b.push_scope(false);
                if let Some(i) = field(n, "initializer") {
                    self.statement(i, out);
                }
                let c = self.field_expr(n, "condition");
                let then = self.block_of(n, "consequence");
                let otherwise = match field(n, "alternative") {
                    Some(a) if a.kind() == "if_statement" => {
                        let mut o = Vec::new();
                        self.statement(a, &mut o);
                        o
                    }
                    Some(a) => self.block(a),
                    None => Vec::new(),
                };
                self.b.pop_scope();
                out.push(Stmt::If(c, then, otherwise));
            }
            "for_statement" => self.for_statement(n, out),
            "expression_switch_statement" => {
                self.b.push_scope(false);
                if let Some(i) = field(n, "initializer") {
                    self.statement(i, out);
                }
                let subject = field(n, "value").map(|v| self.expr(v));
                let s = self.switch(n, subject);
                self.b.pop_scope();
                out.push(s);
            }
            "type_switch_statement" => {
                self.b.push_scope(false);
                let value = self.field_expr(n, "value");
                if let Some(a) = field(n, "alias") {
                    for c in children(a) {
                        let v = self.b.declare(self.b.text(c));
                        let place = self.b.place_var(v);
                        let id = self.b.assign(c, place, value);
                        out.push(Stmt::Eval(id));
                    }
                }
                let mut cases = Vec::new();
                for c in children(n) {
                    if matches!(c.kind(), "type_case" | "default_case") {
                        let unknown = self.b.unknown(c);
                        let tests =
                            if c.kind() == "type_case" { vec![unknown] } else { Vec::new() };
                        let body = self.case_body(c);
                        cases.push(Case { tests, body, falls_through: false });
                    }
                }
                self.b.pop_scope();
                let subject = self.b.unknown(n);
                out.push(Stmt::Switch(subject, cases));
            }
            "select_statement" => {
                let mut cases = Vec::new();
                for c in children(n) {
                    let unknown = self.b.unknown(c);
                    let mut body = Vec::new();
                    if let Some(m) = field(c, "communication") {
                        self.statement(m, &mut body);
                    }
                    body.extend(self.case_body(c));
                    cases.push(Case { tests: vec![unknown], body, falls_through: false });
                }
                let subject = self.b.unknown(n);
                out.push(Stmt::Switch(subject, cases));
            }
            "receive_statement" => {
                let v = self.field_expr(n, "right");
                for l in field(n, "left").map(children).unwrap_or_default() {
                    let place = self.place(l, true);
                    let id = self.b.assign(n, place, v);
                    out.push(Stmt::Eval(id));
                }
            }
            "return_statement" => {
                let list = children(n).first().copied();
                let v = list.map(|l| {
                    let ids = self.exprs(l);
                    match ids.as_slice() {
                        [one] => *one,
                        _ => self.b.add(l, Op::List(ids)),
                    }
                });
                out.push(Stmt::Return(v, Builder::span(n)));
            }
            "go_statement" | "defer_statement" | "expression_statement" => {
                for c in children(n) {
                    let id = self.expr(c);
                    out.push(Stmt::Eval(id));
                }
            }
            "break_statement" => out.push(Stmt::Break),
            "continue_statement" => out.push(Stmt::Continue),
            "block" => {
                let b = self.block(n);
                out.push(Stmt::Block(b));
            }
            "labeled_statement" => {
                for c in children(n).into_iter().skip(1) {
                    self.statement(c, out);
                }
            }
            "statement_list" => self.statements(n, out),
            _ => {
                let id = self.expr(n);
                out.push(Stmt::Eval(id));
            }
        }
    }

    fn case_body(&mut self, c: Syntax<'_>) -> Vec<Stmt> {
        self.b.push_scope(false);
        let mut out = Vec::new();
        for l in children(c).into_iter().filter(|l| l.kind() == "statement_list") {
            for s in children(l) {
                self.statement(s, &mut out);
            }
        }
        self.b.pop_scope();
        out
    }

    fn switch(&mut self, n: Syntax<'_>, subject: Option<NodeId>) -> Stmt {
        let mut cases: Vec<(Vec<NodeId>, Vec<Stmt>, bool)> = Vec::new();
        for c in children(n) {
            match c.kind() {
                "expression_case" => {
                    let tests = field(c, "value").map(|v| self.exprs(v)).unwrap_or_default();
                    let body = self.case_body(c);
                    let falls = self.b.text(c).trim_end().ends_with("fallthrough");
                    cases.push((tests, body, falls));
                }
                "default_case" => {
                    let body = self.case_body(c);
                    cases.push((Vec::new(), body, false));
                }
                _ => {}
            }
        }
        if let Some(subject) = subject {
            let cases = cases
                .into_iter()
                .map(|(tests, body, falls_through)| Case { tests, body, falls_through })
                .collect();
            return Stmt::Switch(subject, cases);
        }
        // Without a subject it is a chain of conditions; the default comes last. The
        // switch around it takes the breaks.
        let mut chain = Vec::new();
        if let Some(i) = cases.iter().position(|c| c.0.is_empty()) {
            chain = cases.remove(i).1;
        }
        if cases.len() > 32 {
            let all = cases.into_iter().flat_map(|c| c.1).chain(chain).collect();
            return Stmt::Block(all);
        }
        for (tests, body, _) in cases.into_iter().rev() {
            let cond = self.b.add(n, Op::Join(tests));
            chain = vec![Stmt::If(cond, body, chain)];
        }
        let nothing = self.b.unknown(n);
        Stmt::Switch(nothing, vec![Case { tests: Vec::new(), body: chain, falls_through: false }])
    }

    fn for_statement(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        self.b.push_scope(false);
        let mut cond = None;
        let mut step = Vec::new();
        let mut body = Vec::new();
        for c in children(n) {
            match c.kind() {
                "for_clause" => {
                    if let Some(i) = field(c, "initializer") {
                        self.statement(i, out);
                    }
                    cond = field(c, "condition").map(|c| self.expr(c));
                    if let Some(u) = field(c, "update") {
                        self.statement(u, &mut step);
                    }
                }
                "range_clause" => {
                    let iter = self.field_expr(c, "right");
                    let left = field(c, "left").map(children).unwrap_or_default();
                    for (i, l) in left.into_iter().enumerate() {
                        let value = if i == 1 {
                            self.b.add(c, Op::Element(iter))
                        } else {
                            self.b.unknown(c)
                        };
                        let place = self.place(l, true);
                        let a = self.b.assign(l, place, value);
                        body.push(Stmt::Eval(a));
                    }
                }
                "block" => body.extend(self.block(c)),
                _ => cond = Some(self.expr(c)),
            }
        }
        self.b.pop_scope();
        out.push(Stmt::Loop { cond, body, step, post: false });
    }

    fn var_spec(&mut self, s: Syntax<'_>, out: &mut Vec<Stmt>) {
        let names = fields(s, "name");
        let ty = field(s, "type").and_then(|t| self.type_name(t));
        let values = match field(s, "value") {
            Some(v) => self.exprs(v),
            None => Vec::new(),
        };
        if names.len() > 1 && values.len() == 1 {
            let places = names.iter().map(|n| self.place(*n, true)).collect();
            if let Some(v) = values.first() {
                let a = self.b.assign(s, Place::Tuple(places), *v);
                out.push(Stmt::Eval(a));
            }
            return;
        }
        for (i, n) in names.into_iter().enumerate() {
            let v = self.b.declare(self.b.text(n));
            self.b.set_type(v, ty.clone());
            let value = match values.get(i) {
                Some(v) => *v,
                None => match ty.as_deref().and_then(|t| self.class_id(t)) {
                    Some(_) => continue,
                    None => self.b.unknown(s),
                },
            };
            let place = self.b.place_var(v);
            let a = self.b.assign(s, place, value);
            out.push(Stmt::Eval(a));
        }
    }

    fn assignment(&mut self, n: Syntax<'_>, out: &mut Vec<Stmt>) {
        let declare = n.kind() == "short_var_declaration";
        let left = field(n, "left").map(children).unwrap_or_default();
        let right = field(n, "right").map(children).unwrap_or_default();
        if left.len() > 1 && right.len() == 1 {
            let Some(r) = right.first() else { return };
            let value = self.expr(*r);
            // `v, ok := m[k]` and `v, ok := x.(T)` give one value and a truth.
            let pair = matches!(
                r.kind(),
                "index_expression" | "type_assertion_expression" | "unary_expression"
            );
            if pair {
                if let Some(l) = left.first() {
                    let place = self.place(*l, declare);
                    let a = self.b.assign(n, place, value);
                    out.push(Stmt::Eval(a));
                }
                if let Some(l) = left.get(1) {
                    // The truth says that the key is one of the map's.
                    let truth = match (r.kind(), field(*r, "operand"), field(*r, "index")) {
                        ("index_expression", Some(o), Some(i)) => {
                            let o = self.expr(o);
                            let i = self.expr(i);
                            self.b.add(*r, Op::Bin(BinOp::In, i, o))
                        }
                        _ => self.b.unknown(*l),
                    };
                    let place = self.place(*l, declare);
                    let a = self.b.assign(n, place, truth);
                    out.push(Stmt::Eval(a));
                }
                return;
            }
            let mut places = Vec::new();
            for l in &left {
                // Errors carry no data worth following.
                let err = matches!(self.b.text(*l), "err" | "ok" | "_");
                let p = self.place(*l, declare);
                places.push(if err { Place::Ignore } else { p });
            }
            let a = self.b.assign(n, Place::Tuple(places), value);
            out.push(Stmt::Eval(a));
            return;
        }
        let mut values: Vec<NodeId> = right.iter().map(|r| self.expr(*r)).collect();
        let op = operator(n);
        if !declare && op != "=" && !op.is_empty() {
            let kind = match op {
                "+=" => BinOp::Add,
                "-=" => BinOp::Sub,
                _ => BinOp::Other,
            };
            if let (Some(l), Some(v)) = (left.first(), values.first_mut()) {
                let old = self.expr(*l);
                *v = self.b.add(n, Op::Bin(kind, old, *v));
            }
        }
        for (l, v) in left.into_iter().zip(values) {
            let place = self.place(l, declare);
            let a = self.b.assign(n, place, v);
            out.push(Stmt::Eval(a));
        }
    }
}
