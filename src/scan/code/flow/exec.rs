//! Statements.

use super::super::ir::*;
use super::super::rules::ALL_LABELS;
use super::value::*;
use super::{Interpreter, ROUNDS, State};

impl Interpreter<'_> {
    pub(super) fn block(&mut self, stmts: &[Stmt], st: &mut State) {
        for s in stmts {
            if !st.live || !self.step() {
                return;
            }
            self.stmt(s, st);
        }
    }

    pub(super) fn stmt(&mut self, s: &Stmt, st: &mut State) {
        match s {
            Stmt::Eval(n) => {
                self.eval(*n, st);
            }
            Stmt::If(c, then, otherwise) => {
                let v = self.eval(*c, st);
                match v.constant.as_ref().map(Const::truthy) {
                    Some(true) => self.block(then, st),
                    Some(false) => self.block(otherwise, st),
                    None => {
                        let mut other = st.clone();
                        if let Some(g) = &v.guard {
                            st.kills.extend(g.yes.iter().cloned());
                            other.kills.extend(g.no.iter().cloned());
                        }
                        self.block(then, st);
                        self.block(otherwise, &mut other);
                        let a = std::mem::replace(st, State::new());
                        *st = self.join_states(a, other);
                    }
                }
            }
            Stmt::Loop { cond, body, step, post } => self.repeat(*cond, body, step, *post, st),
            Stmt::Switch(subject, cases) => self.switch(*subject, cases, st),
            Stmt::Return(v, span) => {
                let value = v.map(|v| self.eval(v, st).without(&st.kills)).unwrap_or_default();
                self.check_response(&value, span, st);
                if let Some(f) = self.frames.last_mut() {
                    f.result = Some(match f.result.take() {
                        Some(r) => {
                            let guard = r.guard.clone();
                            let mut j = r.join(&value);
                            if guard.is_none() {
                                j.guard = None
                            }
                            j
                        }
                        None => value,
                    });
                    f.ends.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Throw(v) => {
                if let Some(v) = v {
                    self.eval(*v, st);
                }
                st.live = false;
            }
            Stmt::Break => {
                if let Some(b) = self.frames.last_mut().and_then(|f| f.breaks.last_mut()) {
                    b.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Continue => {
                if let Some(b) = self.frames.last_mut().and_then(|f| f.continues.last_mut()) {
                    b.push(st.clone());
                }
                st.live = false;
            }
            Stmt::Try(body, handlers, last) => {
                let entry = st.clone();
                self.block(body, st);
                let mut start = st.clone();
                start.live = true;
                // A handler may run before any of the tests was made.
                let start = self.join_states(entry, start);
                let mut end = std::mem::replace(st, State::new());
                for h in handlers {
                    let mut s = start.clone();
                    self.block(h, &mut s);
                    end = self.join_states(end, s);
                }
                *st = end;
                if !last.is_empty() {
                    let was = st.live;
                    st.live = true;
                    self.block(last, st);
                    st.live &= was;
                }
            }
            Stmt::Block(b) => self.block(b, st),
        }
    }

    pub(super) fn repeat(
        &mut self,
        cond: Option<NodeId>,
        body: &[Stmt],
        step: &[Stmt],
        post: bool,
        st: &mut State,
    ) {
        let mut exits: Vec<State> = Vec::new();
        for round in 0..ROUNDS {
            let mut inner = st.clone();
            if let Some(c) = cond
                && (!post || round > 0)
            {
                let v = self.eval(c, &mut inner);
                if v.constant.as_ref().is_some_and(|c| !c.truthy()) {
                    break;
                }
                if let Some(g) = &v.guard {
                    inner.kills.extend(g.yes.iter().cloned());
                }
            }
            if let Some(f) = self.frames.last_mut() {
                f.breaks.push(Vec::new());
                f.continues.push(Vec::new());
            }
            self.block(body, &mut inner);
            let (breaks, continues) = match self.frames.last_mut() {
                Some(f) => {
                    (f.breaks.pop().unwrap_or_default(), f.continues.pop().unwrap_or_default())
                }
                None => Default::default(),
            };
            exits.extend(breaks);
            for c in continues {
                inner = self.join_states(inner, c);
            }
            self.block(step, &mut inner);
            let before = std::mem::replace(st, State::new());
            *st = self.join_states(before, inner);
        }
        // What is behind an endless loop is taken as reached: exceptions leave it too.
        for e in exits {
            let a = std::mem::replace(st, State::new());
            *st = self.join_states(a, e);
        }
    }

    pub(super) fn switch(&mut self, subject: NodeId, cases: &[Case], st: &mut State) {
        let v = self.eval(subject, st);
        let kills: Vec<Kill> = v.facts().iter().map(|f| (f.origin.clone(), ALL_LABELS)).collect();
        let tests: Vec<Vec<Value>> =
            cases.iter().map(|c| c.tests.iter().map(|t| self.eval(*t, st)).collect()).collect();
        if let Some(f) = self.frames.last_mut() {
            f.breaks.push(Vec::new());
        }
        // A constant subject takes one arm (and those it falls into).
        let chosen = v.constant.as_ref().and_then(|c| {
            let known = tests.iter().flatten().all(|t| t.constant.is_some());
            known.then(|| {
                tests
                    .iter()
                    .position(|t| t.iter().any(|t| t.constant.as_ref() == Some(c)))
                    .or_else(|| cases.iter().position(|k| k.tests.is_empty()))
            })
        });
        let entry = std::mem::replace(st, State::new());
        let mut end: Option<State> = None;
        let mut fallen: Option<State> = None;
        let mut has_default = false;
        for (i, c) in cases.iter().enumerate() {
            has_default |= c.tests.is_empty();
            let start = match chosen {
                Some(at) => (at == Some(i)).then(|| entry.clone()),
                None => {
                    let mut s = entry.clone();
                    if !c.tests.is_empty()
                        && tests.get(i).is_some_and(|t| t.iter().all(|t| t.constant.is_some()))
                    {
                        s.kills.extend(kills.iter().cloned());
                    }
                    Some(s)
                }
            };
            let mut s = match (start, fallen.take()) {
                (Some(a), Some(b)) => self.join_states(a, b),
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => continue,
            };
            self.block(&c.body, &mut s);
            if c.falls_through && i + 1 < cases.len() {
                fallen = s.live.then_some(s);
            } else {
                end = Some(match end {
                    Some(e) => self.join_states(e, s),
                    None => s,
                });
            }
        }
        let breaks = self.frames.last_mut().and_then(|f| f.breaks.pop()).unwrap_or_default();
        let skipped = match chosen {
            Some(at) => at.is_none(),
            None => !has_default,
        };
        let mut all: Vec<State> = end.into_iter().chain(fallen).chain(breaks).collect();
        if skipped {
            all.push(entry.clone());
        }
        let joined = all.into_iter().reduce(|a, b| self.join_states(a, b));
        *st = joined.unwrap_or_else(|| {
            let mut dead = entry;
            dead.live = false;
            dead
        });
    }
}
