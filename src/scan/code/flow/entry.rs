//! Entry points: functions that a framework calls with outside data.

use super::super::ir::*;
use super::super::rules::{Labels, label};
use super::report;
use super::value::*;
use super::{Interpreter, State};

impl Interpreter<'_> {
    /// Gives parameters the types and data that a framework passes, if this
    /// function is an entry. Returns the class that a returned text causes.
    pub(super) fn bind_entry(
        &mut self,
        f: &Function,
        st: &mut State,
        registered: &[Name],
    ) -> Labels {
        let mut response = 0;
        let table = self.table;
        for e in &table.entries {
            if !e.import.is_empty()
                && !e.import.iter().any(|i| {
                    self.module.imports.iter().any(|m| {
                        m.strip_prefix(&**i)
                            .is_some_and(|r| r.is_empty() || r.starts_with(['.', '/']))
                    })
                })
            {
                continue;
            }
            let named = |a: &str, p: &str| match p.strip_prefix("*.") {
                Some(m) => a.rsplit('.').next() == Some(m),
                None => a == p || a.rsplit('.').next() == Some(p),
            };
            if !e.annotation.is_empty() {
                let hit =
                    f.annotations.iter().any(|a| e.annotation.iter().any(|p| named(&a.name, p)))
                        || registered.iter().any(|a| e.annotation.iter().any(|p| named(a, p)));
                if !hit {
                    continue;
                }
            }
            if !e.params.is_empty() {
                let fits = f.params.len() >= e.params.iter().filter(|p| !p.ends_with('?')).count()
                    && e.params.iter().zip(&f.params).all(|(p, q)| {
                        let p = p.trim_end_matches('?');
                        p == "*" || p.split('|').any(|x| x == &*q.name)
                    });
                if !fits {
                    continue;
                }
                for (ty, p) in e.types.iter().zip(&f.params) {
                    if ty == "*" {
                        continue;
                    }
                    let v = if ty == "tainted" {
                        Self::param_source(f, p)
                    } else {
                        Value::named(ty.as_str().into())
                    };
                    st.set(p.var, v);
                }
            }
            for p in &f.params {
                let marked = p
                    .annotations
                    .iter()
                    .any(|a| e.param_annotation.iter().any(|n| named(&a.name, n)));
                let plain = e.all_params
                    && !p.annotations.iter().any(|a| &*a.name == "Depends")
                    && !p.ty.as_deref().is_some_and(|t| table.knows_type(t));
                let routed = e.route_params
                    && f.annotations.iter().any(|a| {
                        a.argument.as_deref().is_some_and(|route| route_names(route, &p.name))
                    });
                if (marked || plain || routed) && !report::is_scalar_type(p.ty.as_deref()) {
                    let mut v = Self::param_source(f, p);
                    v.name.clone_from(&p.ty);
                    st.set(p.var, v);
                }
            }
            if let Some(c) = &e.returns {
                response |= label(c);
            }
        }
        response
    }

    pub(super) fn param_source(f: &Function, p: &Param) -> Value {
        let at = f.span.start;
        let text = format!("request parameter `{}`", p.name);
        let trace = Trace::step(None, at..at, text.into());
        Value::tainted(vec![plain_fact(report::digest(&p.name), true, trace)])
    }
}

/// The route has this variable part, and not one of numbers only.
pub(super) fn route_names(route: &str, name: &str) -> bool {
    route.split('<').skip(1).filter_map(|p| p.split_once('>')).any(|(part, _)| {
        let (kind, own) = part.split_once(':').unwrap_or(("string", part));
        own == name && !matches!(kind, "int" | "float" | "uuid")
    })
}
