//! Events, thinned out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::scan::model::{Level, Observer};

/// Events of one kind that are told singly; the rest is counted.
const MAX_OF_A_KIND: u64 = 100;

/// Hands events on. A repository of a million broken files must not make a million
/// events: from each kind the first hundred are told, the others as one number.
pub(super) struct Notes<'a> {
    observer: &'a dyn Observer,
    told: Mutex<BTreeMap<&'static str, u64>>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, told: Mutex::default() }
    }

    pub(super) fn observer(&self) -> &'a dyn Observer {
        self.observer
    }

    pub(super) fn phase(&self, phase: &str, message: &str, mut data: Value) {
        if let Value::Object(map) = &mut data {
            map.insert("phase".to_owned(), phase.into());
        }
        self.observer.event(Level::Info, "phase", &format!("{phase}: {message}"), data);
    }

    pub(super) fn event(&self, level: Level, kind: &'static str, message: &str, data: Value) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let count = told.entry(kind).or_default();
        *count += 1;
        if *count <= MAX_OF_A_KIND {
            drop(told);
            self.observer.event(level, kind, message, data);
        }
    }

    /// Tells how many events were only counted.
    pub(super) fn close(&self) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in told.iter().filter(|(_, count)| **count > MAX_OF_A_KIND) {
            let more = count - MAX_OF_A_KIND;
            self.observer.event(
                Level::Warning,
                "events_thinned",
                &format!("{more} more events of the kind {kind} are not shown."),
                json!({ "kind": kind, "not_shown": more }),
            );
        }
    }
}
