//! Pages of findings at a price that does not grow with the table.
//!
//! A page has two steps in one statement. *Candidates*, ids in the order of the list,
//! come from indexes; then their rows are read, and what the index could not tell is
//! checked. The candidates come from the first of these that fits:
//!
//! | filter | candidates |
//! |---|---|
//! | a path without wild cards, or scans, that name at most [`RARE`] findings | those findings, sorted |
//! | `rule_id` | one range for each rule and severity |
//! | `scan_id`, newest or oldest first | one range for each scan |
//! | `severity` alone, without the order by priority | one range for each severity |
//! | any of `severity`, `status`, `state`, `engine` | one range for each combination of them, of which there are 135 |
//! | none | one range |
//!
//! Ranges are merged, so that no more rows are read than the page needs, wherever in
//! the table they lie. The order by severity is walked one severity after the other.
//!
//! # What no index tells
//!
//! `q`, a path with wild cards, and what remains of a filter beside those of the table
//! above (`rule_id` with `status`, `state` or `engine`; a common path or scan with
//! anything) is checked row by row. A page then looks at [`LOOKED_AT`] candidates at
//! most. If that is not enough to fill it, it is short, perhaps empty, and says where
//! the next one goes on: it is not the last page before it says so.

use uuid::Uuid;

use super::list::{Filter, Key, Scope, Sort, SortBy, filters, places, seen_by};
use super::{FindingRow, State, Status, columns};
use crate::db::{Args, Db, Result};
use crate::scan::{EngineKind, Severity};

/// Findings that are sorted for a page, at most.
const RARE: u32 = 2_000;
/// Candidates that one page checks, at most.
const LOOKED_AT: u32 = 10_000;
/// Ranges of one statement: SQLite merges 500 at most.
const RANGES: usize = 400;

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
    let few = few(db, scope, filter).await?;
    let walk = |severity| {
        let mut filter = filter.clone();
        filter.severity = severity;
        Walk { sqlite: db.is_sqlite(), owner_id, scope, filter, sort, few }
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

/// What names so few findings that all of them are candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Few {
    Paths,
    Scans,
}

async fn few(db: &Db, scope: Scope, filter: &Filter) -> Result<Option<Few>> {
    for few in [Few::Paths, Few::Scans] {
        let mut args = Args::default();
        let Some(named) = few.candidates(db.is_sqlite(), scope, filter, &mut args) else {
            continue;
        };
        let sql =
            format!("SELECT count(*) FROM (SELECT id FROM ({named}) n LIMIT {}) few", RARE + 1);
        let counted: Vec<(i64,)> = db.conn().fetch_filtered(&sql, args).await?;
        if counted.first().is_some_and(|(n,)| *n <= i64::from(RARE)) {
            return Ok(Some(few));
        }
    }
    Ok(None)
}

impl Few {
    /// Ids of all findings that it names, in no order.
    fn candidates(
        self,
        sqlite: bool,
        scope: Scope,
        filter: &Filter,
        args: &mut Args,
    ) -> Option<String> {
        match self {
            Self::Paths => {
                if filter.path.is_empty() || filter.path.iter().any(|p| p.contains(['*', '?'])) {
                    return None;
                }
                let (column, of) = scope.column();
                let of = args.add(of);
                let path = if sqlite { "path" } else { "path COLLATE \"C\"" };
                let select = format!("SELECT id FROM findings WHERE {column} = {of} AND {path}");
                let mut ranges = Vec::new();
                for name in &filter.path {
                    let bare = name.trim_end_matches('/');
                    ranges.push(format!("{select} = {}", args.add(bare)));
                    // All that begins with `bare/`: `0` follows the slash.
                    let (from, to) = (args.add(format!("{bare}/")), args.add(format!("{bare}0")));
                    ranges.push(format!("{select} >= {from} AND {path} < {to}"));
                }
                Some(ranges.join(" UNION ALL "))
            }
            Self::Scans => {
                if filter.scan_id.is_empty() {
                    return None;
                }
                let scans = places(args, &filter.scan_id);
                Some(format!(
                    "SELECT finding_id AS id FROM scan_findings WHERE scan_id IN ({scans})"
                ))
            }
        }
    }
}

/// One way through the findings, in one order.
#[derive(Debug)]
struct Walk {
    sqlite: bool,
    owner_id: Uuid,
    scope: Scope,
    filter: Filter,
    sort: Sort,
    few: Option<Few>,
}

impl Walk {
    /// Adds what it finds to `rows`, until these are as many as wanted. Answers behind
    /// what to go on if it gave up before: then they are fewer.
    async fn rows(
        &self,
        db: &Db,
        after: Option<&Key>,
        wanted: u32,
        rows: &mut Vec<FindingRow>,
    ) -> Result<Option<Key>> {
        let missing = wanted.saturating_sub(rows.len() as u32);
        let (sql, args) = self.statement(after, missing);
        let found: Vec<FindingRow> = db.conn().fetch_filtered(&sql, args).await?;
        let full = found.len() >= missing as usize;
        let last = found.last().map(|row| Key::of(self.sort, row));
        rows.extend(found);
        if full || self.few.is_some() || self.is_exact() {
            return Ok(None);
        }
        let (sql, args) = self.last_candidate(after);
        let looked: Vec<(Uuid, i64)> = db.conn().fetch_filtered(&sql, args).await?;
        let Some((id, priority)) = looked.first().copied() else { return Ok(None) };
        let severity = self.filter.severity.first().copied().unwrap_or(Severity::Info);
        let looked = Key { sort: self.sort, priority, severity, id };
        // What came meanwhile may have moved the last candidate before the last row.
        Ok(Some(match last {
            Some(last) if self.is_behind(&last, &looked) => last,
            _ => looked,
        }))
    }

    fn is_behind(&self, one: &Key, other: &Key) -> bool {
        let place = |key: &Key| match self.sort.by {
            SortBy::Priority => (key.priority, key.id),
            SortBy::Created | SortBy::Severity => (0, key.id),
        };
        if self.sort.descending { place(one) < place(other) } else { place(one) > place(other) }
    }

    /// The statement of a page.
    fn statement(&self, after: Option<&Key>, limit: u32) -> (String, Args) {
        let mut args = Args::default();
        let candidates = match self.few {
            Some(few) => few
                .candidates(self.sqlite, self.scope, &self.filter, &mut args)
                .map(|named| format!("SELECT DISTINCT id FROM ({named}) n")),
            None => None,
        };
        let all = candidates.is_some();
        let candidates = candidates.unwrap_or_else(|| {
            let most = if self.is_exact() { limit } else { LOOKED_AT };
            format!("{} LIMIT {most}", self.candidates(after, most, &mut args))
        });
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

    /// The candidate at which a page gives up, if there are so many.
    fn last_candidate(&self, after: Option<&Key>) -> (String, Args) {
        let mut args = Args::default();
        let candidates = self.candidates(after, LOOKED_AT, &mut args);
        (format!("{candidates} LIMIT 1 OFFSET {}", LOOKED_AT - 1), args)
    }

    /// Candidates in the order of the list, merged from ranges of indexes, of which the
    /// first `most` are read.
    fn candidates(&self, after: Option<&Key>, most: u32, args: &mut Args) -> String {
        let (select, ranges) = self.ranges(args);
        let id = if self.by_scan() { "finding_id" } else { "id" };
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
        let ranges = if self.by_rule() {
            let severities = chosen(&filter.severity, &Severity::WORST_FIRST);
            let rules: Vec<String> =
                filter.rule_id.iter().map(|rule| args.add(rule.as_str())).collect();
            rules
                .iter()
                .flat_map(|rule| severities.iter().map(move |severity| (rule, severity)))
                .map(|(rule, severity)| {
                    format!("{scope} AND rule_id = {rule} AND severity = '{}'", severity.as_str())
                })
                .collect()
        } else {
            self.kinds().into_iter().map(|kind| format!("{scope}{kind}")).collect()
        };
        ("id, priority FROM findings", ranges)
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

    /// Candidates come by rule.
    fn by_rule(&self) -> bool {
        let rules = self.filter.rule_id.len();
        rules > 0 && rules * chosen(&self.filter.severity, &Severity::WORST_FIRST).len() <= RANGES
    }

    /// Candidates come by scan.
    fn by_scan(&self) -> bool {
        self.sort.by == SortBy::Created
            && !self.filter.scan_id.is_empty()
            && self.filter.rule_id.is_empty()
    }

    /// Every candidate is a row of the list.
    fn is_exact(&self) -> bool {
        let filter = &self.filter;
        filter.path.is_empty()
            && filter.q.is_none()
            && filter.scan_id.is_empty()
            && (filter.rule_id.is_empty()
                || filter.status.is_empty()
                    && filter.state.is_empty()
                    && filter.engine.is_empty()
                    && self.by_rule())
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
