//! What the detectors hand over, and which of several claims to one value wins.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::scan::model::{Cancel, Confidence, Limits, Severity};

/// How sure a detector is that a value belongs to its rule rather than another's.
/// The most specific claim to a value is the one that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Only the name of the assignment tells.
    Assignment,
    /// A password inside an address.
    Address,
    /// The name holds the provider's, or a pair.
    Near,
    /// The value tells for itself.
    Token,
    /// The value tells and its structure was checked.
    Checked,
}

/// A candidate that passed all filters of its detector.
#[derive(Debug, Clone)]
pub struct Found {
    /// Index of the rule in the detector's list.
    pub rule: usize,
    /// Where the value stands.
    pub span: Range<usize>,
    /// The value, if it is not what stands there: decoded or unescaped.
    pub value: Option<Vec<u8>>,
    /// Which claim wins.
    pub rank: Rank,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// What it is about, for the message: the name it is assigned to.
    pub name: Option<String>,
}

/// One finding for each value: of claims that overlap the highest rank wins, then
/// the longest, then the first. The result is sorted by place.
pub fn settle(mut all: Vec<Found>) -> Vec<Found> {
    all.sort_by(|a, b| {
        b.rank
            .cmp(&a.rank)
            .then(b.span.len().cmp(&a.span.len()))
            .then(a.span.start.cmp(&b.span.start))
            .then(a.rule.cmp(&b.rule))
    });
    let mut kept: std::collections::BTreeMap<usize, Found> = std::collections::BTreeMap::new();
    for found in all {
        // The kept spans do not overlap, so only the last one that starts before
        // the end of this one can touch it.
        let touches = kept
            .range(..found.span.end)
            .next_back()
            .is_some_and(|(_, other)| other.span.end > found.span.start);
        if !touches {
            kept.insert(found.span.start, found);
        }
    }
    kept.into_values().collect()
}

/// Time and the wish to stop, asked often and looked up seldom.
#[derive(Debug)]
pub struct Budget<'a> {
    cancel: &'a Cancel,
    deadline: Option<Instant>,
    asked: u32,
    over: Option<&'static str>,
}

impl<'a> Budget<'a> {
    /// Starts the clock.
    pub fn new(limits: &Limits, cancel: &'a Cancel) -> Self {
        let deadline = (limits.max_file_millis > 0)
            .then(|| Instant::now() + Duration::from_millis(limits.max_file_millis));
        Self { cancel, deadline, asked: 0, over: None }
    }

    /// True once the work has to end.
    pub fn is_spent(&mut self) -> bool {
        self.asked = self.asked.wrapping_add(1);
        if self.over.is_none() && self.asked % 64 == 1 {
            if self.cancel.is_cancelled() {
                self.over = Some(
                    "The scan was cancelled, so the rest of the file was not looked at for secrets.",
                );
            } else if self.deadline.is_some_and(|d| Instant::now() >= d) {
                self.over = Some(
                    "The file took longer than the limit, so the rest of it was not looked at for secrets.",
                );
            }
        }
        self.over.is_some()
    }

    /// Why the work ended early, if it did.
    pub fn cut(&self) -> Option<&'static str> {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: usize, span: Range<usize>, rank: Rank) -> Found {
        Found {
            rule,
            span,
            value: None,
            rank,
            severity: Severity::High,
            confidence: Confidence::High,
            name: None,
        }
    }

    #[test]
    fn the_most_specific_claim_wins() {
        let kept = settle(vec![
            found(1, 0..20, Rank::Assignment),
            found(2, 5..15, Rank::Token),
            found(3, 14..30, Rank::Near),
            found(4, 30..40, Rank::Assignment),
        ]);
        assert_eq!(kept.iter().map(|f| f.rule).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_budget_ends() {
        let cancel = Cancel::new();
        let mut budget = Budget::new(&Limits::default(), &cancel);
        assert!(!budget.is_spent());
        cancel.cancel();
        assert!((0..64).any(|_| budget.is_spent()));
        assert!(budget.cut().is_some_and(|c| c.contains("cancelled")));
    }
}
