//! The one intermediate representation that every language is lowered into.
//!
//! Statements stay structured (a branch is an [`Stmt::If`], not a jump), because
//! the interpreter joins states where branches meet and needs no worklist then.
//! Expressions are three-address nodes in one arena per file: each [`Node`] has
//! one operation and names its operands by [`NodeId`].
//!
//! Invariant: the tree below a node or statement is at most
//! [`crate::scan::code::lower::MAX_DEPTH`] deep. Lowering sees to it, so whoever
//! walks the representation may recurse.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Index of a [`Node`] in [`Module::nodes`].
pub type NodeId = u32;
/// Index of a variable in [`Module::vars`]. Unique in the file, so a nested
/// function names the variables that it captures directly.
pub type VarId = u32;
/// Index of a [`Function`] in [`Module::functions`].
pub type FuncId = u32;
/// Index of a [`Class`] in [`Module::classes`].
pub type ClassId = u32;
/// A name or text, shared.
pub type Name = Arc<str>;

/// Bytes of the source that something was lowered from.
pub type ByteSpan = Range<u32>;

/// A literal or folded value.
#[derive(Debug, Clone, PartialEq)]
pub enum Const {
    /// `None`, `null`, `nil`, `undefined`.
    Null,
    /// Truth value.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// String or bytes.
    Str(Arc<str>),
}

impl Const {
    /// Whether a condition with this value holds, by the rule that Python and
    /// JavaScript share; the typed languages only ask it of booleans.
    pub fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Str(s) => !s.is_empty(),
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }
}

/// Operators that the interpreter distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinOp {
    /// Sum or concatenation.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// Remainder, or formatting of a Python string.
    Mod,
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Both, or the first that does not hold.
    And,
    /// Either, or the first that holds.
    Or,
    /// Membership.
    In,
    /// Anything else: operands are evaluated, the result is a plain number.
    Other,
}

/// An argument of a call.
#[derive(Debug, Clone)]
pub struct Arg {
    /// Keyword, if the argument is passed by name.
    pub name: Option<Name>,
    /// The value.
    pub value: NodeId,
    /// `*args`, `...args`.
    pub spread: bool,
}

/// One operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// Nothing is known of the result; operands are evaluated for their effects.
    Unknown(Vec<NodeId>),
    /// A literal.
    Lit(Const),
    /// Reads a variable.
    Var(VarId),
    /// A name that no scope of the file declares, or a fully qualified name.
    Global(Name),
    /// A class of this file.
    Class(ClassId),
    /// The receiver.
    This,
    /// `object.name`.
    Field(NodeId, Name),
    /// `object[key]`.
    Index(NodeId, NodeId),
    /// `callee(arguments)`; the callee of a method call is an [`Op::Field`].
    Call {
        /// What is called.
        callee: NodeId,
        /// Arguments in order.
        args: Vec<Arg>,
        /// An object is made (`new`, struct literal).
        new: bool,
    },
    /// Binary operator.
    Bin(BinOp, NodeId, NodeId),
    /// Parts of an interpolated string, in order.
    Concat(Vec<NodeId>),
    /// Logical negation.
    Not(NodeId),
    /// Arithmetic negation.
    Neg(NodeId),
    /// List, tuple, array, set.
    List(Vec<NodeId>),
    /// Map, object, struct: keys and values; a spread has no key.
    Map(Vec<(Option<NodeId>, NodeId)>),
    /// `condition ? a : b`.
    Cond(NodeId, NodeId, NodeId),
    /// A function as a value.
    Closure(FuncId),
    /// Stores and gives the value.
    Assign(Box<Place>, NodeId),
    /// The operand, with another static type if there is a name.
    Cast(NodeId, Option<Name>),
    /// An element of the operand, which one is unknown (loops, comprehensions).
    Element(NodeId),
    /// The first succeeds, or the value is one of the others (`try` expression of
    /// comprehensions, `yield`): all are evaluated, the results joined.
    Join(Vec<NodeId>),
    /// All in order; the value of the last.
    Seq(Vec<NodeId>),
    /// A sequence of unknown length whose elements are the operand.
    ListOf(NodeId),
    /// A regular expression literal.
    Regex(Name),
}

/// Where a value is stored.
#[derive(Debug, Clone)]
pub enum Place {
    /// A variable.
    Var(VarId),
    /// `object.name`.
    Field(NodeId, Name),
    /// `object[key]`.
    Index(NodeId, NodeId),
    /// Positions of a sequence.
    Tuple(Vec<Place>),
    /// Fields of an object; a missing name takes the whole.
    Object(Vec<(Option<Name>, Place)>),
    /// A default where the value is missing (`{ a = 1 }`).
    Default(Box<Place>, NodeId),
    /// Nowhere.
    Ignore,
}

/// An operation and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Its text.
    pub span: ByteSpan,
}

/// One arm of a [`Stmt::Switch`].
#[derive(Debug, Clone)]
pub struct Case {
    /// Values that lead here; empty for the default arm.
    pub tests: Vec<NodeId>,
    /// What runs.
    pub body: Vec<Stmt>,
    /// Runs on into the next arm unless it breaks.
    pub falls_through: bool,
}

/// A statement.
#[derive(Debug, Clone)]
pub enum Stmt {
    /// Evaluates a node.
    Eval(NodeId),
    /// Branches.
    If(NodeId, Vec<Stmt>, Vec<Stmt>),
    /// Repeats while the condition (if any) holds; the second block is the step
    /// that `continue` does not skip. `post` means that the body runs first.
    Loop {
        /// Asked before each round.
        cond: Option<NodeId>,
        /// The round.
        body: Vec<Stmt>,
        /// Runs after each round.
        step: Vec<Stmt>,
        /// The body runs before the condition is asked.
        post: bool,
    },
    /// Chooses by value.
    Switch(NodeId, Vec<Case>),
    /// Leaves the function.
    Return(Option<NodeId>, ByteSpan),
    /// Leaves by an exception.
    Throw(Option<NodeId>),
    /// Leaves the loop or switch.
    Break,
    /// Starts the next round.
    Continue,
    /// A block whose statements may each fail, handlers, and what always runs.
    Try(Vec<Stmt>, Vec<Vec<Stmt>>, Vec<Stmt>),
    /// Statements in a row.
    Block(Vec<Stmt>),
}

/// A variable.
#[derive(Debug, Clone)]
pub struct Var {
    /// As written.
    pub name: Name,
    /// How often the file assigns it.
    pub assignments: u32,
    /// Declared type, fully qualified as far as the file tells.
    pub ty: Option<Name>,
    /// The outermost function that owns it is the module.
    pub module_level: bool,
}

/// A decorator or annotation: qualified name and constant first argument.
#[derive(Debug, Clone)]
pub struct Annotation {
    /// Name without `@`, qualified as far as the file tells.
    pub name: Name,
    /// First argument, if it is a string.
    pub argument: Option<Name>,
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// The variable that takes it; patterns are bound by the body's first statements.
    pub var: VarId,
    /// Its name.
    pub name: Name,
    /// Declared type, fully qualified as far as the file tells.
    pub ty: Option<Name>,
    /// Annotations (Java), or the callee of the default value (FastAPI).
    pub annotations: Vec<Annotation>,
    /// Takes all remaining arguments.
    pub rest: bool,
    /// Value when the caller gives none.
    pub default: Option<NodeId>,
}

/// A function, method or lambda.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its own name; empty for lambdas.
    pub name: Name,
    /// Names of the enclosing symbols and its own, joined by dots.
    pub symbol: Name,
    /// Parameters without the receiver.
    pub params: Vec<Param>,
    /// Statements.
    pub body: Vec<Stmt>,
    /// The class that it is a method of.
    pub class: Option<ClassId>,
    /// Lies within another function, so that it may capture variables.
    pub nested: bool,
    /// Decorators and annotations.
    pub annotations: Vec<Annotation>,
    /// Functions and methods that its text mentions, to order the analysis.
    pub mentions: Vec<Name>,
    /// Takes its receiver as a parameter (false for static methods).
    pub has_receiver: bool,
    /// Where it stands.
    pub span: ByteSpan,
}

/// A class.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// Its name.
    pub name: Name,
    /// Qualified names of its bases.
    pub bases: Vec<Name>,
    /// Methods by name; of overloads, all.
    pub methods: HashMap<Name, Vec<FuncId>>,
    /// Initialisers of fields, run on a fresh object.
    pub init: Vec<Stmt>,
    /// Declared types of fields.
    pub field_types: HashMap<Name, Name>,
    /// Fields that never change.
    pub constants: Vec<Name>,
    /// Annotations.
    pub annotations: Vec<Annotation>,
}

/// A file.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// All operations.
    pub nodes: Vec<Node>,
    /// All variables.
    pub vars: Vec<Var>,
    /// All functions; the first is the module's own body.
    pub functions: Vec<Function>,
    /// All classes.
    pub classes: Vec<Class>,
    /// Modules that the file imports.
    pub imports: Vec<Name>,
    /// What was left out, as sentences.
    pub cut: Vec<String>,
}
