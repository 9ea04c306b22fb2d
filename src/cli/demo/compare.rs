//! What was found beside what was planted.

use std::cmp::Reverse;

use serde::Deserialize;

use super::client::{Finding, Place};
use super::sample;
use crate::scan::Severity;

/// A finding may stand this many lines beside the planted one: a statement has more
/// than one line.
const NEAR: u32 = 3;

/// What must be found, and what must not be reported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    plants: Vec<Plant>,
    lookalikes: Vec<LookAlike>,
}

/// A weakness that was put in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plant {
    pub(super) id: String,
    engine: String,
    pub(super) path: String,
    /// In the last commit; none for what only the history holds.
    pub(super) line: Option<u32>,
    #[serde(default)]
    in_history: bool,
    /// For people: the names of weaknesses overlap.
    #[serde(rename = "cwe")]
    _cwe: String,
    /// For a dependency its package URL.
    rule_hint: String,
    pub(super) severity_at_least: Severity,
    pub(super) note: String,
}

/// A line that resembles a weakness and is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LookAlike {
    pub(super) path: String,
    pub(super) line: u32,
    pub(super) why: String,
}

impl Expected {
    /// What belongs to the sample repository.
    ///
    /// # Errors
    ///
    /// If it was compiled in incomplete.
    pub(super) fn embedded() -> serde_json::Result<Self> {
        serde_json::from_str(sample::EXPECTED)
    }
}

impl Plant {
    /// How many lines `place` is away from where the weakness was planted; `None` if
    /// the finding there is another one.
    fn distance(&self, finding: &Finding, place: &Place) -> Option<u32> {
        let same = finding.engine == self.engine
            && place.path == self.path
            && place.in_history == self.in_history;
        // Packages stand close together, so that the line alone would not tell them apart.
        let package = finding.package.as_ref();
        let other_package =
            self.engine == "dependencies" && package.is_none_or(|p| p.purl != self.rule_hint);
        if !same || other_package {
            return None;
        }
        let distance = self.line.map_or(0, |line| line.abs_diff(place.start_line));
        (distance <= NEAR).then_some(distance)
    }
}

/// How a scan did.
pub(super) struct Verdict<'a> {
    /// Number of planted weaknesses.
    pub(super) planted: usize,
    /// Those that were not found.
    pub(super) missed: Vec<&'a Plant>,
    /// Those that were found, and thought to be less severe than they are.
    pub(super) underrated: Vec<(&'a Plant, &'a Finding)>,
    /// Number of look-alikes.
    pub(super) lookalikes: usize,
    /// Those that were reported, with what was said about them.
    pub(super) mistaken: Vec<(&'a LookAlike, &'a Finding)>,
}

impl<'a> Verdict<'a> {
    /// Compares. What is in neither list does not count.
    pub(super) fn new(expected: &'a Expected, findings: &'a [Finding]) -> Self {
        let (mut missed, mut underrated) = (Vec::new(), Vec::new());
        for (plant, finding) in assign(&expected.plants, findings) {
            match finding {
                None => missed.push(plant),
                Some(f) if f.severity < plant.severity_at_least => underrated.push((plant, f)),
                Some(_) => {}
            }
        }
        Self {
            planted: expected.plants.len(),
            missed,
            underrated,
            lookalikes: expected.lookalikes.len(),
            mistaken: mistaken(&expected.lookalikes, findings),
        }
    }

    /// True if everything was found and nothing was mistaken. How severe a weakness is
    /// can be argued about, so that an underrated one is shown and not held against it.
    pub(super) fn is_right(&self) -> bool {
        self.missed.is_empty() && self.mistaken.is_empty()
    }
}

/// Each plant with the finding that speaks of it, if there is one. One place of one
/// finding counts for one plant, the nearest, so that neighbours do not speak for each
/// other; of several findings on one line the most severe is taken first.
fn assign<'a>(
    plants: &'a [Plant],
    findings: &'a [Finding],
) -> impl Iterator<Item = (&'a Plant, Option<&'a Finding>)> {
    let places: Vec<(&Finding, &Place)> =
        findings.iter().flat_map(|f| f.places().map(move |place| (f, place))).collect();
    let mut pairs = Vec::new();
    for (p, plant) in plants.iter().enumerate() {
        for (f, (finding, place)) in places.iter().enumerate() {
            let distance = plant.distance(finding, place);
            pairs.extend(distance.map(|distance| (distance, Reverse(finding.severity), p, f)));
        }
    }
    pairs.sort_unstable();
    let mut found: Vec<Option<&Finding>> = vec![None; plants.len()];
    let mut free: Vec<Option<&Finding>> = places.iter().map(|(f, _)| Some(*f)).collect();
    for (_, _, p, f) in pairs {
        if let (Some(found @ None), Some(free)) = (found.get_mut(p), free.get_mut(f)) {
            *found = free.take();
        }
    }
    plants.iter().zip(found)
}

/// The look-alikes on whose very line something was reported. What only the history
/// holds has lines of another time.
fn mistaken<'a>(
    lookalikes: &'a [LookAlike],
    findings: &'a [Finding],
) -> Vec<(&'a LookAlike, &'a Finding)> {
    let mut mistaken = Vec::new();
    for like in lookalikes {
        let here = |place: &Place| {
            !place.in_history && place.path == like.path && place.start_line == like.line
        };
        mistaken.extend(
            findings.iter().filter(|f| f.places().any(here)).map(|finding| (like, finding)),
        );
    }
    mistaken
}
