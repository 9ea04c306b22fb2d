//! Pages of findings at a price that does not grow with the table.
//!
//! A page has two steps in one statement. *Candidates*, ids in the order of the list,
//! come from indexes; then their rows are read, and what the index could not tell is
//! checked. The candidates come from the first of these that fits:
//!
//! | filter | candidates |
//! |---|---|
//! | scans that saw at most [`RARE`] findings | those findings, sorted |
//! | `path` (up to a wild card), `rule_id`, `q`, that name at most [`MERGED`] texts | one range of entries for each text and severity |
//! | the same, up to [`TEXTS`] texts and [`RARE`] findings | those entries, sorted |
//! | `scan_id`, newest or oldest first | one range for each scan |
//! | `severity` alone, without the order by priority | one range for each severity |
//! | any of `severity`, `status`, `state`, `engine` | one range for each combination of them, of which there are 135 |
//! | none | one range |
//!
//! Ranges are merged, so that no more rows are read than the page needs, wherever in
//! the table they lie. The order by severity is walked one severity after the other.
//! Texts and their entries are told in [`super::texts`]; of several filters that name
//! some, the one with the fewest findings is taken, and the columns with few values go
//! first if these are rarer still.
//!
//! # What no index tells
//!
//! What remains of a filter beside those of the table above (`path` with a common `status`, a `q`
//! that is in the names of half the files or has less than three ASCII characters in a
//! row, a common scan with anything) is checked row by row. The page looks at few
//! candidates first, and at more and more while it is not full, but at [`LOOKED_AT`] at
//! most. If that is not enough to fill it, it is short, perhaps empty, and says where the
//! next one goes on: it is not the last page before it says so.

mod source;

use uuid::Uuid;

use self::source::Source;
use super::list::{Filter, Key, Scope, Sort, SortBy, filters, seen_by};
use super::{FindingRow, State, Status, columns};
use crate::db::{Args, Db, Result};
use crate::scan::{EngineKind, Severity};

/// Findings that are sorted for a page, at most.
const RARE: u32 = 2_000;
/// Candidates that one page checks, at most.
const LOOKED_AT: u32 = 10_000;
/// How many more of them are looked at each time that they were not enough.
const MORE: u32 = 4;
/// Texts whose entries are merged. Times five for the severities: PostgreSQL plans each
/// range, SQLite merges 500 at most.
const MERGED: usize = 16;
/// Texts whose entries are sorted.
const TEXTS: usize = 1_000;

/// A page.
#[derive(Debug, Default)]
pub struct Found {
    /// Its findings.
    pub rows: Vec<FindingRow>,
    /// Behind what the next page begins; none: this is the last one.
    pub next: Option<Key>,
}

/// Findings of this owner, in order, behind `after`.
pub async fn list(
    db: &Db,
    owner_id: Uuid,
    scope: Scope,
    filter: &Filter,
    sort: Sort,
    after: Option<&Key>,
    limit: u32,
) -> Result<Found> {
    let source = source::of(db, scope, filter).await?;
    if source == Source::Merged(Vec::new()) {
        return Ok(Found::default());
    }
    let walk = |severity| {
        let mut filter = filter.clone();
        filter.severity = severity;
        Walk { sqlite: db.is_sqlite(), owner_id, scope, filter, sort, source: &source }
    };
    // One more than fits tells whether there is a next page.
    let wanted = limit + 1;
    let mut rows = Vec::new();
    let mut looked = None;
    if sort.by == SortBy::Severity {
        let mut severities = Severity::WORST_FIRST.to_vec();
        if !sort.descending {
            severities.reverse();
        }
        let begin = after
            .and_then(|key| severities.iter().position(|severity| *severity == key.severity))
            .unwrap_or(0);
        for severity in severities.into_iter().skip(begin) {
            if !filter.severity.is_empty() && !filter.severity.contains(&severity) {
                continue;
            }
            let walk = walk(vec![severity]);
            let after = after.filter(|key| key.severity == severity);
            looked = walk.rows(db, after, wanted, &mut rows).await?;
            if looked.is_some() || rows.len() >= wanted as usize {
                break;
            }
        }
    } else {
        looked = walk(filter.severity.clone()).rows(db, after, wanted, &mut rows).await?;
    }
    if rows.len() < wanted as usize {
        return Ok(Found { rows, next: looked });
    }
    rows.truncate(limit as usize);
    let next = rows.last().map(|row| Key::of(sort, row));
    Ok(Found { rows, next })
}

/// One way through the findings, in one order.
#[derive(Debug)]
struct Walk<'s> {
    sqlite: bool,
    owner_id: Uuid,
    scope: Scope,
    filter: Filter,
    sort: Sort,
    source: &'s Source,
}

impl Walk<'_> {
    /// Adds what it finds to `rows`, until these are as many as wanted. Answers behind
    /// what to go on if it gave up before: then they are fewer.
    async fn rows(
        &self,
        db: &Db,
        after: Option<&Key>,
        wanted: u32,
        rows: &mut Vec<FindingRow>,
    ) -> Result<Option<Key>> {
        let mut after = after.cloned();
        let (mut looked_at, mut most) = (0, self.first_look(wanted));
        loop {
            let missing = wanted.saturating_sub(rows.len() as u32);
            let (sql, args) = self.statement(after.as_ref(), missing, most);
            let found: Vec<FindingRow> = db.conn().fetch_filtered(&sql, args).await?;
            let full = found.len() >= missing as usize;
            let last = found.last().map(|row| Key::of(self.sort, row));
            rows.extend(found);
            if full || *self.source == Source::Scans || self.is_exact() {
                return Ok(None);
            }
            let (sql, args) = self.last_candidate(after.as_ref(), most);
            let looked: Vec<(Uuid, i64)> = db.conn().fetch_filtered(&sql, args).await?;
            let Some((id, priority)) = looked.first().copied() else { return Ok(None) };
            let severity = self.filter.severity.first().copied().unwrap_or(Severity::Info);
            let looked = Key { sort: self.sort, priority, severity, id };
            // What came meanwhile may have moved the last candidate before the last row.
            let behind = match last {
                Some(last) if self.is_behind(&last, &looked) => last,
                _ => looked,
            };
            looked_at += most;
            if looked_at >= LOOKED_AT {
                return Ok(Some(behind));
            }
            after = Some(behind);
            most = most.saturating_mul(MORE).min(LOOKED_AT - looked_at);
        }
    }

    /// How many candidates to look at first.
    fn first_look(&self, wanted: u32) -> u32 {
        match self.source {
            // Of a text nearly all are right; a search may meet one twice.
            Source::Merged(_) | Source::Gathered(_) if self.filter.q.is_some() => wanted * 2,
            Source::Merged(_) | Source::Gathered(_) => wanted,
            Source::Scans | Source::Table => wanted * MORE,
        }
        .min(LOOKED_AT)
    }

    fn is_behind(&self, one: &Key, other: &Key) -> bool {
        let place = |key: &Key| match self.sort.by {
            SortBy::Priority => (key.priority, key.id),
            SortBy::Created | SortBy::Severity => (0, key.id),
        };
        if self.sort.descending { place(one) < place(other) } else { place(one) > place(other) }
    }

    /// The statement of a page, over so many candidates.
    fn statement(&self, after: Option<&Key>, limit: u32, most: u32) -> (String, Args) {
        let mut args = Args::default();
        let all = *self.source == Source::Scans;
        let candidates = if all {
            format!("SELECT DISTINCT id FROM ({}) n", source::seen(&self.filter, &mut args))
        } else {
            let most = if self.is_exact() { limit } else { most };
            let candidates = format!("{} LIMIT {most}", self.candidates(after, most, &mut args));
            match self.source {
                Source::Merged(_) | Source::Gathered(_) => {
                    format!("SELECT DISTINCT id FROM ({candidates}) n")
                }
                Source::Scans | Source::Table => candidates,
            }
        };
        // CROSS JOIN makes SQLite begin with the candidates.
        let mut what = columns!().to_owned();
        let mut from = format!("({candidates}) c CROSS JOIN findings f");
        let mut terms = vec!["f.id = c.id".to_owned()];
        let mut state = "f.state";
        if !self.filter.scan_id.is_empty() {
            state = "sf.state";
            what = what.replace("f.state", "sf.state AS state");
            from.push_str(" CROSS JOIN scan_findings sf");
            terms.push("sf.finding_id = f.id".to_owned());
            terms.extend(seen_by(&mut args, &self.filter));
        }
        terms.extend(filters(
            self.sqlite,
            &mut args,
            self.owner_id,
            self.scope,
            &self.filter,
            state,
        ));
        if all {
            terms.extend(self.behind(after, "f.priority", "f.id", &mut args));
        }
        let sql = format!(
            "SELECT {what} FROM {from} WHERE {} ORDER BY {} LIMIT {}",
            terms.join(" AND "),
            self.order("f.priority", "f.id"),
            args.add(limit),
        );
        (sql, args)
    }

    /// The last of so many candidates, if there are so many.
    fn last_candidate(&self, after: Option<&Key>, most: u32) -> (String, Args) {
        let mut args = Args::default();
        let candidates = self.candidates(after, most, &mut args);
        (format!("{candidates} LIMIT 1 OFFSET {}", most.saturating_sub(1)), args)
    }

    /// Candidates in the order of the list, merged from ranges of indexes, of which the
    /// first `most` are read.
    fn candidates(&self, after: Option<&Key>, most: u32, args: &mut Args) -> String {
        let (select, ranges) = self.ranges(args);
        let id = match self.source {
            Source::Merged(_) | Source::Gathered(_) => "finding_id",
            Source::Scans | Source::Table if self.by_scan() => "finding_id",
            Source::Scans | Source::Table => "id",
        };
        let behind = self.behind(after, "priority", id, args);
        let behind = behind.map(|term| format!(" AND {term}")).unwrap_or_default();
        let order = self.order("priority", "id");
        let merged: Vec<String> = ranges
            .iter()
            .map(|range| {
                let range = format!("SELECT {select} WHERE {range}{behind}");
                // SQLite merges ranges by the order of the whole; PostgreSQL (15) sorts
                // all that is in them, unless each says that it is in order and short.
                if self.sqlite || ranges.len() == 1 {
                    range
                } else {
                    format!("SELECT * FROM ({range} ORDER BY {order} LIMIT {most}) r")
                }
            })
            .collect();
        format!("{} ORDER BY {order}", merged.join(" UNION ALL "))
    }

    /// What to select and from where, and the conditions of each range.
    fn ranges(&self, args: &mut Args) -> (&'static str, Vec<String>) {
        let filter = &self.filter;
        if let Source::Merged(texts) | Source::Gathered(texts) = self.source {
            let texts: Vec<String> = texts.iter().map(|text| args.add(*text)).collect();
            return ("finding_id AS id, priority FROM finding_entries", self.entries(&texts));
        }
        if self.by_scan() {
            let scans: Vec<String> = filter.scan_id.iter().map(|id| args.add(*id)).collect();
            let all = scans.join(", ");
            let ranges = scans
                .iter()
                .map(|scan| match scans.len() {
                    1 => format!("scan_id = {scan}"),
                    // Each finding once, with the newest scan that saw it.
                    _ => format!(
                        "scan_id = {scan} AND NOT EXISTS (SELECT 1 FROM scan_findings later \
                         WHERE later.finding_id = scan_findings.finding_id \
                         AND later.scan_id IN ({all}) AND later.scan_id > {scan})"
                    ),
                })
                .collect();
            return ("finding_id AS id, CAST(0 AS BIGINT) AS priority FROM scan_findings", ranges);
        }
        let (column, of) = self.scope.column();
        let scope = format!("{column} = {}", args.add(of));
        let ranges = self.kinds().into_iter().map(|kind| format!("{scope}{kind}")).collect();
        ("id, priority FROM findings", ranges)
    }

    /// The ranges of the entries of texts.
    fn entries(&self, texts: &[String]) -> Vec<String> {
        if matches!(self.source, Source::Gathered(_)) {
            // Sorted anyway.
            return vec![format!("text_id IN ({})", texts.join(", "))];
        }
        let severities = chosen(&self.filter.severity, &Severity::WORST_FIRST);
        texts
            .iter()
            .flat_map(|text| severities.iter().map(move |severity| (text, severity)))
            .map(|(text, severity)| {
                format!("text_id = {text} AND severity = '{}'", severity.as_str())
            })
            .collect()
    }

    /// The ranges of the columns with few values.
    fn kinds(&self) -> Vec<String> {
        let filter = &self.filter;
        // The state that is filtered by is then what a scan saw.
        let states: &[State] = if filter.scan_id.is_empty() { &filter.state } else { &[] };
        if filter.status.is_empty() && states.is_empty() && filter.engine.is_empty() {
            if filter.severity.is_empty() {
                return vec![String::new()];
            }
            if self.sort.by != SortBy::Priority {
                return filter
                    .severity
                    .iter()
                    .map(|severity| format!(" AND severity = '{}'", severity.as_str()))
                    .collect();
            }
        }
        let mut kinds = Vec::new();
        for status in chosen(&filter.status, &Status::ALL) {
            for state in chosen(states, &State::ALL) {
                for engine in chosen(&filter.engine, &EngineKind::ALL) {
                    for severity in chosen(&filter.severity, &Severity::WORST_FIRST) {
                        kinds.push(format!(
                            " AND status = '{}' AND state = '{}' AND engine = '{}' \
                             AND severity = '{}'",
                            status.as_str(),
                            state.as_str(),
                            engine.as_str(),
                            severity.as_str()
                        ));
                    }
                }
            }
        }
        kinds
    }

    /// Candidates come by scan.
    fn by_scan(&self) -> bool {
        self.sort.by == SortBy::Created && !self.filter.scan_id.is_empty()
    }

    /// Every candidate is a row of the list.
    fn is_exact(&self) -> bool {
        let filter = &self.filter;
        filter.path.is_empty()
            && filter.q.is_none()
            && filter.scan_id.is_empty()
            && filter.rule_id.is_empty()
    }

    fn behind(
        &self,
        after: Option<&Key>,
        priority: &str,
        id: &str,
        args: &mut Args,
    ) -> Option<String> {
        let key = after?;
        let than = if self.sort.descending { "<" } else { ">" };
        Some(if self.sort.by == SortBy::Priority {
            let (value, last) = (args.add(key.priority), args.add(key.id));
            format!("({priority}, {id}) {than} ({value}, {last})")
        } else {
            format!("{id} {than} {}", args.add(key.id))
        })
    }

    fn order(&self, priority: &str, id: &str) -> String {
        let direction = if self.sort.descending { "DESC" } else { "ASC" };
        match self.sort.by {
            SortBy::Priority => format!("{priority} {direction}, {id} {direction}"),
            SortBy::Created | SortBy::Severity => format!("{id} {direction}"),
        }
    }
}

/// The values that a filter names, each once; all if it names none.
fn chosen<T: Copy + PartialEq>(named: &[T], all: &[T]) -> Vec<T> {
    all.iter().filter(|value| named.is_empty() || named.contains(value)).copied().collect()
}

#[cfg(test)]
mod tests;
