//! From syntax trees to the [intermediate representation](super::ir).
//!
//! Each language has a front end of its own; what they share (scopes, the node
//! arena, bounds) is the `Builder`. A front end never fails: what it does not
//! know becomes [`Op::Unknown`] over its children, so that effects inside are
//! still seen.

mod go;
mod java;
mod javascript;
mod python;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use tree_sitter::{Node as Syntax, ParseOptions, Parser, Tree};

use super::ir::*;
use super::rules::Language;
use crate::scan::model::Cancel;

/// Deepest nesting of syntax that is lowered. What lies deeper is left out and
/// told as a cut. Real code stays far below; the native stack of an analysis
/// ([`super::STACK_BYTES`]) is sized for it.
pub const MAX_DEPTH: usize = 300;

/// Most nodes of one file: about 40 MB of source.
const MAX_NODES: usize = 4_000_000;

/// Longest sum that is lowered as nested operators; longer ones become one
/// [`Op::Concat`], so that they do not count as nesting.
const MAX_NESTED_SUM: usize = 8;

/// When to give up on a file.
#[derive(Debug, Clone)]
pub struct Deadline {
    end: Option<Instant>,
    cancel: Cancel,
}

impl Deadline {
    /// Ends at the given moment (if any) or when `cancel` is set.
    pub fn new(end: Option<Instant>, cancel: Cancel) -> Self {
        Self { end, cancel }
    }

    /// Time is up, or nobody wants the result any more.
    pub fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.end.is_some_and(|e| Instant::now() >= e)
    }
}

/// Parses and lowers a file. `None` if the parser did not end in time.
pub fn lower(
    language: Language,
    tsx: bool,
    bytes: &[u8],
    types: &dyn Fn(&str) -> bool,
    deadline: &Deadline,
) -> Option<Module> {
    let tree = parse(language, tsx, bytes, deadline)?;
    let builder = Builder::new(bytes, types, deadline);
    Some(match language {
        Language::Python => python::lower(builder, tree.root_node()),
        Language::JavaScript => javascript::lower(builder, tree.root_node()),
        Language::Java => java::lower(builder, tree.root_node()),
        Language::Go => go::lower(builder, tree.root_node()),
    })
}

fn parse(language: Language, tsx: bool, bytes: &[u8], deadline: &Deadline) -> Option<Tree> {
    let grammar = match language {
        Language::Python => tree_sitter_python::LANGUAGE,
        Language::JavaScript if tsx => tree_sitter_typescript::LANGUAGE_TSX,
        Language::JavaScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        Language::Java => tree_sitter_java::LANGUAGE,
        Language::Go => tree_sitter_go::LANGUAGE,
    };
    let mut parser = Parser::new();
    parser.set_language(&grammar.into()).ok()?;
    let mut check = |_: &tree_sitter::ParseState| {
        if deadline.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    parser.parse_with_options(
        &mut |at, _| bytes.get(at..).unwrap_or_default(),
        None,
        Some(ParseOptions::new().progress_callback(&mut check)),
    )
}

/// Names declared in one block or function.
#[derive(Default)]
struct Scope {
    names: HashMap<Name, VarId>,
    function: bool,
}

/// What all front ends share.
pub(super) struct Builder<'a> {
    src: &'a [u8],
    types: &'a dyn Fn(&str) -> bool,
    deadline: &'a Deadline,
    module: Module,
    scopes: Vec<Scope>,
    /// Names mentioned by each function that is being lowered, outermost first.
    mentions: Vec<Vec<Name>>,
    symbols: Vec<Name>,
    /// What imported variables stand for.
    bound: HashMap<VarId, Name>,
    depth: usize,
    stopped: bool,
    too_deep: bool,
}

impl<'a> Builder<'a> {
    fn new(src: &'a [u8], types: &'a dyn Fn(&str) -> bool, deadline: &'a Deadline) -> Self {
        let mut module = Module::default();
        module.functions.push(Function {
            name: "".into(),
            symbol: "".into(),
            params: Vec::new(),
            body: Vec::new(),
            class: None,
            nested: false,
            annotations: Vec::new(),
            mentions: Vec::new(),
            has_receiver: false,
            span: 0..src.len() as u32,
        });
        Self {
            src,
            types,
            deadline,
            module,
            scopes: vec![Scope { names: HashMap::new(), function: true }],
            mentions: vec![Vec::new()],
            symbols: Vec::new(),
            bound: HashMap::new(),
            depth: 0,
            stopped: false,
            too_deep: false,
        }
    }

    /// The finished module with `body` as its own code.
    fn finish(mut self, body: Vec<Stmt>) -> Module {
        if self.too_deep {
            self.module
                .cut
                .push(format!("Code nested deeper than {MAX_DEPTH} levels was not analysed."));
        }
        if self.stopped {
            self.module.cut.push(
                "The file was not analysed to its end: it is too large or took too long.".into(),
            );
        }
        if let (Some(f), Some(m)) = (self.module.functions.first_mut(), self.mentions.pop()) {
            f.body = body;
            f.mentions = m;
        }
        self.module
    }

    /// The text of a piece of syntax; invalid UTF-8 reads as nothing.
    fn text(&self, n: Syntax<'_>) -> &'a str {
        self.src.get(n.byte_range()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    fn name(&self, n: Syntax<'_>) -> Name {
        self.text(n).into()
    }

    fn span(n: Syntax<'_>) -> ByteSpan {
        n.start_byte() as u32..n.end_byte() as u32
    }

    /// One level deeper; false if that is too deep or the time is up. Each true is
    /// answered by [`Builder::leave`].
    fn enter(&mut self) -> bool {
        if self.stopped {
            return false;
        }
        if self.depth >= MAX_DEPTH {
            self.too_deep = true;
            return false;
        }
        self.depth += 1;
        true
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn add(&mut self, n: Syntax<'_>, op: Op) -> NodeId {
        self.add_span(Self::span(n), op)
    }

    fn add_span(&mut self, span: ByteSpan, op: Op) -> NodeId {
        let id = self.module.nodes.len();
        if id % 4096 == 4095 && (id > MAX_NODES || self.deadline.is_over()) {
            self.stopped = true;
        }
        self.module.nodes.push(Node { op, span });
        id as NodeId
    }

    fn unknown(&mut self, n: Syntax<'_>) -> NodeId {
        self.add(n, Op::Unknown(Vec::new()))
    }

    fn string(&mut self, n: Syntax<'_>, s: &str) -> NodeId {
        self.add(n, Op::Lit(Const::Str(s.into())))
    }

    /// A sum of many terms, in order.
    fn sum(&mut self, n: Syntax<'_>, terms: Vec<NodeId>) -> NodeId {
        if terms.len() > MAX_NESTED_SUM {
            return self.add(n, Op::Concat(terms));
        }
        let mut terms = terms.into_iter();
        let Some(mut acc) = terms.next() else {
            return self.unknown(n);
        };
        for t in terms {
            acc = self.add(n, Op::Bin(BinOp::Add, acc, t));
        }
        acc
    }

    fn push_scope(&mut self, function: bool) {
        self.scopes.push(Scope { names: HashMap::new(), function });
    }

    fn pop_scope(&mut self) {
        self.scopes.pop();
    }

    fn new_var(&mut self, name: &Name) -> VarId {
        let id = self.module.vars.len() as VarId;
        let module_level = self.scopes.iter().filter(|s| s.function).count() <= 1;
        self.module.vars.push(Var { name: name.clone(), assignments: 0, ty: None, module_level });
        id
    }

    /// Declares a name in the innermost block (again: the same variable).
    fn declare(&mut self, name: &str) -> VarId {
        if let Some(v) = self.scopes.last().and_then(|s| s.names.get(name)) {
            return *v;
        }
        let name: Name = name.into();
        let id = self.new_var(&name);
        if let Some(s) = self.scopes.last_mut() {
            s.names.insert(name, id);
        }
        id
    }

    /// Declares a name in the innermost function.
    fn declare_in_function(&mut self, name: &str) -> VarId {
        let at = self.scopes.iter().rposition(|s| s.function).unwrap_or(0);
        for s in self.scopes.iter().skip(at) {
            if let Some(v) = s.names.get(name) {
                return *v;
            }
        }
        let name: Name = name.into();
        let id = self.new_var(&name);
        if let Some(s) = self.scopes.get_mut(at) {
            s.names.insert(name, id);
        }
        id
    }

    fn resolve(&self, name: &str) -> Option<VarId> {
        self.scopes.iter().rev().find_map(|s| s.names.get(name).copied())
    }

    fn assigned(&mut self, v: VarId) {
        if let Some(v) = self.module.vars.get_mut(v as usize) {
            v.assignments += 1;
        }
    }

    fn set_type(&mut self, v: VarId, ty: Option<Name>) {
        if let (Some(v), Some(ty)) = (self.module.vars.get_mut(v as usize), ty) {
            v.ty = Some(ty);
        }
    }

    fn place_var(&mut self, v: VarId) -> Place {
        self.assigned(v);
        Place::Var(v)
    }

    fn assign(&mut self, n: Syntax<'_>, place: Place, value: NodeId) -> NodeId {
        self.add(n, Op::Assign(Box::new(place), value))
    }

    fn mention(&mut self, name: &str) {
        if let Some(m) = self.mentions.last_mut() {
            m.push(name.into());
        }
    }

    fn call(&mut self, n: Syntax<'_>, callee: NodeId, args: Vec<NodeId>) -> NodeId {
        let args = args.into_iter().map(|value| Arg { name: None, value, spread: false }).collect();
        self.add(n, Op::Call { callee, args, new: false })
    }

    fn field(&mut self, n: Syntax<'_>, object: NodeId, name: &str) -> NodeId {
        self.add(n, Op::Field(object, name.into()))
    }

    fn symbol_path(&self) -> Name {
        self.symbols.join(".").into()
    }

    /// Opens a function: reserves its place, a scope and a symbol. Closed by
    /// [`Builder::end_function`].
    fn begin_function(&mut self, n: Syntax<'_>, name: &str, class: Option<ClassId>) -> FuncId {
        let nested = self.scopes.iter().filter(|s| s.function).count() > 1;
        if !name.is_empty() {
            self.symbols.push(name.into());
        }
        let id = self.module.functions.len() as FuncId;
        self.module.functions.push(Function {
            name: name.into(),
            symbol: self.symbol_path(),
            params: Vec::new(),
            body: Vec::new(),
            class,
            nested,
            annotations: Vec::new(),
            mentions: Vec::new(),
            has_receiver: class.is_some(),
            span: Self::span(n),
        });
        self.push_scope(true);
        self.mentions.push(Vec::new());
        id
    }

    fn end_function(&mut self, id: FuncId, params: Vec<Param>, body: Vec<Stmt>) {
        self.pop_scope();
        let mentions = self.mentions.pop().unwrap_or_default();
        // What a lambda mentions, the function around it mentions too.
        let named = self.module.functions.get(id as usize).is_some_and(|f| !f.name.is_empty());
        if named {
            self.symbols.pop();
        }
        let nested = self.module.functions.get(id as usize).is_some_and(|f| f.nested || !named);
        if nested && let Some(outer) = self.mentions.last_mut() {
            outer.extend(mentions.iter().cloned());
        }
        if let Some(f) = self.module.functions.get_mut(id as usize) {
            f.params = params;
            f.body = body;
            f.mentions = mentions;
        }
    }

    fn function_mut(&mut self, id: FuncId) -> Option<&mut Function> {
        self.module.functions.get_mut(id as usize)
    }

    fn class_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.module.classes.get_mut(id as usize)
    }
}

/// Named children that are no comments.
fn children(n: Syntax<'_>) -> Vec<Syntax<'_>> {
    let mut cursor = n.walk();
    n.named_children(&mut cursor).filter(|c| !c.is_extra()).collect()
}

/// Named children in a field.
fn fields<'t>(n: Syntax<'t>, field: &str) -> Vec<Syntax<'t>> {
    let mut cursor = n.walk();
    n.children_by_field_name(field, &mut cursor).filter(|c| c.is_named() && !c.is_extra()).collect()
}

/// Child in a field.
fn field<'t>(n: Syntax<'t>, name: &str) -> Option<Syntax<'t>> {
    n.child_by_field_name(name)
}

/// The operator of an expression.
fn operator(n: Syntax<'_>) -> &str {
    n.child_by_field_name("operator").map_or("", |o| o.kind())
}

/// Whole number of a literal in any of the languages.
fn integer(text: &str) -> Option<i64> {
    let t: String = text.chars().filter(|c| *c != '_').collect();
    let t = t.trim_end_matches(['l', 'L', 'n']);
    if let Some(h) = t.strip_prefix("0x").or_else(|| t.strip_prefix("0X")) {
        return i64::from_str_radix(h, 16).ok();
    }
    if let Some(o) = t.strip_prefix("0o") {
        return i64::from_str_radix(o, 8).ok();
    }
    t.parse().ok()
}

/// Resolves the escapes that the four languages share; unknown ones keep the
/// character behind the backslash.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('0') => out.push('\0'),
            Some('\n') | None => {}
            Some(other) => out.push(other),
        }
    }
    out
}

/// `package.Class` of the text of a type: arguments, arrays and pointers dropped.
fn bare_type(text: &str) -> &str {
    let t = text.trim().trim_start_matches(['*', '&', ':', ' ', '\'', '"']);
    let end = t.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == '$'));
    t.get(..end.unwrap_or(t.len())).unwrap_or(t)
}
