//! What is known at one point of a function.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::ir::VarId;
use super::value::{Kill, Value};

/// Variables and what was tested so far.
///
/// The variables of the functions around a nested one are shared, not copied:
/// branches in the innermost function copy only what that function stored.
#[derive(Debug, Clone)]
pub(super) struct State {
    vars: HashMap<VarId, Value>,
    outer: Option<Rc<Outer>>,
    /// The receiver.
    pub this: Value,
    /// What tests ruled out.
    pub kills: Vec<Kill>,
    /// The point can be reached.
    pub live: bool,
}

/// Variables of the functions around.
#[derive(Debug)]
struct Outer {
    vars: HashMap<VarId, Value>,
    outer: Option<Rc<Outer>>,
}

impl State {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self {
            vars: HashMap::new(),
            outer: None,
            this: Value::default(),
            kills: Vec::new(),
            live: true,
        }
    }

    /// What a variable holds, if a function around stored it.
    pub(super) fn get(&self, v: VarId) -> Option<&Value> {
        self.vars.get(&v).or_else(|| self.get_outer(v))
    }

    fn get_outer(&self, v: VarId) -> Option<&Value> {
        let mut at = self.outer.as_ref();
        while let Some(o) = at {
            if let Some(value) = o.vars.get(&v) {
                return Some(value);
            }
            at = o.outer.as_ref();
        }
        None
    }

    /// Stores a variable.
    pub(super) fn set(&mut self, v: VarId, value: Value) {
        self.vars.insert(v, value);
    }

    /// All that the innermost function stored.
    pub(super) fn into_vars(self) -> HashMap<VarId, Value> {
        self.vars
    }

    /// A nested function begins.
    pub(super) fn enter(&mut self) {
        let vars = std::mem::take(&mut self.vars);
        self.outer = Some(Rc::new(Outer { vars, outer: self.outer.take() }));
    }

    /// A nested function ends; what it stored stays.
    pub(super) fn leave(&mut self) {
        let Some(o) = self.outer.take() else { return };
        let (mut vars, outer) = match Rc::try_unwrap(o) {
            Ok(o) => (o.vars, o.outer),
            Err(shared) => (shared.vars.clone(), shared.outer.clone()),
        };
        vars.extend(self.vars.drain());
        self.vars = vars;
        self.outer = outer;
    }

    /// What holds where two ways meet. `globals` are the variables of the module.
    pub(super) fn join(mut self, mut other: Self, globals: &HashMap<VarId, Value>) -> Self {
        if !self.live {
            return other;
        }
        if !other.live {
            return self;
        }
        if self.kills != other.kills {
            let common: Vec<Kill> =
                self.kills.iter().filter(|k| other.kills.contains(k)).cloned().collect();
            self.settle(&common);
            other.settle(&common);
        }
        let stored_here: Vec<VarId> =
            self.vars.keys().filter(|v| !other.vars.contains_key(v)).copied().collect();
        for v in stored_here {
            // Only one way stored it; on the other it is what it was outside.
            if let Some(old) = other.get_outer(v).or_else(|| globals.get(&v))
                && let Some(value) = self.vars.get_mut(&v)
                && !value.same(old)
            {
                *value = value.join(old);
            }
        }
        for (v, value) in other.vars {
            let joined = match self.get(v).or_else(|| globals.get(&v)) {
                Some(old) if old.same(&value) => continue,
                Some(old) => old.join(&value),
                // Declared on one way only.
                None => value,
            };
            self.vars.insert(v, joined);
        }
        if !self.this.same(&other.this) {
            self.this = self.this.join(&other.this);
        }
        self
    }

    /// Writes what was tested into the values, for tests that do not hold on the
    /// other way.
    fn settle(&mut self, common: &[Kill]) {
        let own: Vec<Kill> = self.kills.iter().filter(|k| !common.contains(k)).cloned().collect();
        if own.is_empty() {
            return;
        }
        for v in self.vars.values_mut() {
            if v.facts.is_some() || v.elements.is_some() {
                *v = v.without(&own);
            }
        }
        self.kills.retain(|k| common.contains(k));
    }
}
