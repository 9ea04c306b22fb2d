//! What the interpreter knows of a value: constant, qualified name, elements, and
//! where outside data in it came from.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::super::ir::{ByteSpan, ClassId, Const, FuncId, Name};
use super::super::rules::{ALL_LABELS, Labels, SourceDef};

/// Most facts of one value.
const MAX_FACTS: usize = 8;
/// Most elements that a container is tracked by.
const MAX_ELEMENTS: usize = 64;
/// Longest flow that is kept, in steps.
const MAX_STEPS: usize = 24;
/// Stands for an unknown part within [`Value::prefix`].
pub const HOLE: char = '\u{1}';

/// A key of a container, or the name of a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Position.
    At(i64),
    /// Name or constant text.
    Named(Name),
}

/// Where outside data entered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A source of this function, told by the digest of its text: reading the same
    /// input twice gives the same origin, so that a test of one covers the other.
    Source(u64),
    /// Whatever the caller passes: receiver (0) or parameter (from 1), and the path
    /// within it.
    Param(u8, Rc<[Key]>),
}

/// Where in a text the data stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// At the beginning.
    Start,
    /// Behind a beginning that does not fix the host of an address.
    Host,
    /// Behind that.
    Later,
}

/// One step of a flow.
#[derive(Debug)]
pub struct Trace {
    /// Where.
    pub span: ByteSpan,
    /// What happens.
    pub message: Name,
    /// The step before.
    pub prev: Option<Rc<Trace>>,
    len: usize,
}

impl Trace {
    /// A step behind another.
    pub fn step(prev: Option<&Rc<Self>>, span: ByteSpan, message: Name) -> Rc<Self> {
        let len = prev.map_or(0, |p| p.len) + 1;
        if let Some(p) = prev
            && (p.span == span || len > MAX_STEPS)
        {
            return p.clone();
        }
        Rc::new(Self { span, message, prev: prev.cloned(), len })
    }

    /// All steps, first the source.
    pub fn steps(self: &Rc<Self>) -> Vec<&Self> {
        let mut out = Vec::with_capacity(self.len);
        let mut at = Some(self);
        while let Some(t) = at {
            out.push(&**t);
            at = t.prev.as_ref();
        }
        out.reverse();
        out
    }
}

/// Outside data in a value.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Where it entered.
    pub origin: Origin,
    /// What it may still cause.
    pub labels: Labels,
    /// Holds several independent inputs; a part of it is an origin of its own.
    pub container: bool,
    /// Where in the text.
    pub position: Position,
    /// How it came here.
    pub trace: Rc<Trace>,
}

/// What holds of origins if a value is true, and if it is not.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Labels that are gone if the value is true.
    pub yes: Vec<Kill>,
    /// Labels that are gone if it is false.
    pub no: Vec<Kill>,
}

/// Data of this origin can no longer cause these classes.
pub type Kill = (Origin, Labels);

/// What a value refers to in this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Nothing of this file.
    #[default]
    Other,
    /// A function.
    Func(FuncId),
    /// A class itself.
    Class(ClassId),
    /// An object of a class.
    Instance(ClassId),
}

/// Elements of a container or object.
#[derive(Debug, Clone, Default)]
pub struct Elements {
    /// Those whose key is known.
    pub known: BTreeMap<Key, Value>,
    /// All others together.
    pub any: Option<Value>,
    /// Length of a sequence, while it is known.
    pub len: Option<i64>,
}

/// An abstract value.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// Outside data in the value itself, by origin.
    pub facts: Option<Rc<Vec<Fact>>>,
    /// The value, if it is always the same.
    pub constant: Option<Const>,
    /// Qualified name of what it is, or of its type.
    pub name: Option<Name>,
    /// What it refers to.
    pub kind: Kind,
    /// What it contains.
    pub elements: Option<Rc<Elements>>,
    /// Known beginning of a text; [`HOLE`] stands for unknown parts.
    pub prefix: Option<Name>,
    /// A constant part of the text holds markup.
    pub html: bool,
    /// What its truth says about origins.
    pub guard: Option<Rc<Guard>>,
}

impl Value {
    /// A constant.
    pub fn constant(c: Const) -> Self {
        let html = c.as_str().is_some_and(|s| s.contains('<'));
        Self { constant: Some(c), html, ..Self::default() }
    }

    /// Something with a qualified name.
    pub fn named(name: Name) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// Carries facts.
    pub fn tainted(facts: Vec<Fact>) -> Self {
        let mut v = Self::default();
        v.set_facts(facts);
        v
    }

    /// Replaces the facts; those without labels are dropped.
    pub fn set_facts(&mut self, mut facts: Vec<Fact>) {
        facts.retain(|f| f.labels != 0);
        self.facts = if facts.is_empty() { None } else { Some(Rc::new(facts)) };
    }

    /// Outside data in the value itself.
    pub fn facts(&self) -> &[Fact] {
        self.facts.as_deref().map_or(&[], |f| f.as_slice())
    }

    /// Outside data in the value and all that it contains.
    pub fn deep_facts(&self) -> Vec<Fact> {
        let mut out = self.facts().to_vec();
        self.collect(&mut out, 0);
        out
    }

    fn collect(&self, out: &mut Vec<Fact>, depth: usize) {
        let Some(e) = self.elements.as_deref() else {
            return;
        };
        if depth > 3 {
            return;
        }
        for v in e.known.values().chain(e.any.iter()) {
            merge_facts(out, v.facts());
            v.collect(out, depth + 1);
        }
    }

    /// The known beginning as a text, [`HOLE`] where nothing is known.
    pub fn text_prefix(&self) -> String {
        match (&self.constant, &self.prefix) {
            (Some(Const::Str(s)), _) => s.to_string(),
            (Some(Const::Int(i)), _) => i.to_string(),
            (_, Some(p)) => p.to_string(),
            _ => HOLE.to_string(),
        }
    }

    fn known_prefix(&self) -> &str {
        match (&self.constant, &self.prefix) {
            (Some(Const::Str(s)), _) => s,
            (_, Some(p)) => p,
            _ => "",
        }
    }

    /// Element under a key, if the container says something about it.
    pub fn element(&self, key: &Key) -> Option<Self> {
        let e = self.elements.as_deref()?;
        match (e.known.get(key), &e.any) {
            (Some(v), _) => Some(v.clone()),
            (None, Some(any)) => Some(any.clone()),
            (None, None) => None,
        }
    }

    /// All elements in one.
    pub fn any_element(&self) -> Option<Self> {
        let e = self.elements.as_deref()?;
        let mut out: Option<Self> = e.any.clone();
        for v in e.known.values() {
            out = Some(match out {
                Some(o) => o.join(v),
                None => v.clone(),
            });
        }
        out
    }

    /// Stores under a key, replacing what was there.
    pub fn set_element(&mut self, key: Key, value: Self) {
        let e = Rc::make_mut(self.elements.get_or_insert_with(Rc::default));
        if e.known.len() >= MAX_ELEMENTS && !e.known.contains_key(&key) {
            let joined = match e.any.take() {
                Some(a) => a.join(&value),
                None => value,
            };
            e.any = Some(joined);
        } else {
            e.known.insert(key, value);
        }
    }

    /// Stores somewhere.
    pub fn add_element(&mut self, value: Self) {
        let e = Rc::make_mut(self.elements.get_or_insert_with(Rc::default));
        e.len = None;
        e.any = Some(match e.any.take() {
            Some(a) => a.join(&value),
            None => value,
        });
    }

    /// Appends to a sequence.
    pub fn push_element(&mut self, value: Self) {
        match self.elements.as_deref().and_then(|e| e.len) {
            Some(len) if (len as usize) < MAX_ELEMENTS => {
                self.set_element(Key::At(len), value);
                if let Some(e) = self.elements.as_mut() {
                    Rc::make_mut(e).len = Some(len + 1);
                }
            }
            _ => self.add_element(value),
        }
    }

    /// Takes an element out of a sequence; those behind it move up.
    pub fn remove_at(&mut self, at: i64) -> Option<Self> {
        let e = Rc::make_mut(self.elements.as_mut()?);
        let len = e.len?;
        let at = if at < 0 { len + at } else { at };
        let taken = e.known.remove(&Key::At(at));
        let moved: Vec<_> =
            (at + 1..len).filter_map(|i| Some((i - 1, e.known.remove(&Key::At(i))?))).collect();
        for (i, v) in moved {
            e.known.insert(Key::At(i), v);
        }
        e.len = Some((len - 1).max(0));
        taken
    }

    /// Nothing was changed since one was copied from the other. May say no for equal
    /// values, never yes for others.
    pub fn same(&self, other: &Self) -> bool {
        fn ptr<T: ?Sized>(a: Option<&Rc<T>>, b: Option<&Rc<T>>) -> bool {
            match (a, b) {
                (Some(a), Some(b)) => Rc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            }
        }
        let name = |a: &Option<Name>, b: &Option<Name>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            _ => false,
        };
        ptr(self.facts.as_ref(), other.facts.as_ref())
            && ptr(self.elements.as_ref(), other.elements.as_ref())
            && ptr(self.guard.as_ref(), other.guard.as_ref())
            && name(&self.name, &other.name)
            && name(&self.prefix, &other.prefix)
            && self.kind == other.kind
            && self.html == other.html
            && self.constant == other.constant
    }

    /// What holds of both.
    pub fn join(&self, other: &Self) -> Self {
        self.join_at(other, 0)
    }

    fn join_at(&self, other: &Self, depth: usize) -> Self {
        let mut facts = self.facts().to_vec();
        merge_facts(&mut facts, other.facts());
        let same = self.constant == other.constant;
        let prefix = if same {
            self.prefix.clone()
        } else {
            super::text::common_prefix(self.known_prefix(), other.known_prefix())
        };
        let elements = match (&self.elements, &other.elements) {
            (Some(a), Some(b)) if Rc::ptr_eq(a, b) => Some(a.clone()),
            (Some(a), Some(b)) if depth < 4 => Some(Rc::new(join_elements(a, b, depth))),
            (Some(a), _) | (None, Some(a)) => Some(a.clone()),
            (None, None) => None,
        };
        let name = match (&self.name, &other.name) {
            (Some(a), Some(b)) if a == b => Some(a.clone()),
            (Some(_), Some(_)) => None,
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let kind = match (self.kind, other.kind) {
            (a, b) if a == b => a,
            (Kind::Other, k) | (k, Kind::Other) => k,
            _ => Kind::Other,
        };
        let mut out = Self {
            facts: None,
            constant: if same { self.constant.clone() } else { None },
            name,
            kind,
            elements,
            prefix,
            html: self.html || other.html,
            guard: None,
        };
        out.set_facts(facts);
        out
    }

    /// The same value without labels that were killed.
    pub fn without(&self, kills: &[Kill]) -> Self {
        self.without_at(kills, 0)
    }

    fn without_at(&self, kills: &[Kill], depth: usize) -> Self {
        if kills.is_empty() {
            return self.clone();
        }
        let mut out = self.clone();
        if self.facts().iter().any(|f| kills.iter().any(|k| k.0 == f.origin)) {
            let facts = self
                .facts()
                .iter()
                .map(|f| {
                    let mut f = f.clone();
                    f.labels &= !killed(kills, &f.origin);
                    f
                })
                .collect();
            out.set_facts(facts);
        }
        if depth < 3
            && let Some(e) = self.elements.as_deref()
            && !self.deep_facts().is_empty()
        {
            let mut e = e.clone();
            for v in e.known.values_mut().chain(e.any.iter_mut()) {
                *v = v.without_at(kills, depth + 1);
            }
            out.elements = Some(Rc::new(e));
        }
        out
    }

    /// Only the data, as one text.
    pub fn only_facts(&self) -> Self {
        Self { facts: self.facts.clone(), ..Self::default() }
    }
}

/// Labels that are gone for an origin.
pub fn killed(kills: &[Kill], origin: &Origin) -> Labels {
    kills.iter().filter(|k| k.0 == *origin).fold(0, |a, k| a | k.1)
}

fn join_elements(a: &Elements, b: &Elements, depth: usize) -> Elements {
    let mut out =
        Elements { len: if a.len == b.len { a.len } else { None }, ..Elements::default() };
    for (k, v) in &a.known {
        let joined = match b.known.get(k) {
            Some(w) => v.join_at(w, depth + 1),
            None => v.clone(),
        };
        out.known.insert(k.clone(), joined);
    }
    for (k, w) in &b.known {
        if !a.known.contains_key(k) {
            out.known.insert(k.clone(), w.clone());
        }
    }
    out.any = match (&a.any, &b.any) {
        (Some(x), Some(y)) => Some(x.join_at(y, depth + 1)),
        (x, y) => x.clone().or_else(|| y.clone()),
    };
    out
}

/// Adds facts; of one origin the labels are united and the first way is kept.
pub fn merge_facts(into: &mut Vec<Fact>, more: &[Fact]) {
    for f in more {
        if let Some(g) = into.iter_mut().find(|g| g.origin == f.origin) {
            g.labels |= f.labels;
            g.position = g.position.min(f.position);
            g.container &= f.container;
        } else if into.len() < MAX_FACTS {
            into.push(f.clone());
        }
    }
}

/// Outside data of a source.
pub fn source_fact(origin: u64, source: &SourceDef, trace: Rc<Trace>) -> Fact {
    Fact { labels: source.labels, ..plain_fact(origin, source.container, trace) }
}

/// Outside data of all classes.
pub fn plain_fact(origin: u64, container: bool, trace: Rc<Trace>) -> Fact {
    Fact {
        origin: Origin::Source(origin),
        labels: ALL_LABELS,
        container,
        position: Position::Start,
        trace,
    }
}
