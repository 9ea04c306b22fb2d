//! Lists of findings: filters and orders. Every order is total, since the id is the last
//! part of each key. How a page is read is told in [`super::page`].

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{FindingRow, State, Status};
use crate::db::{Args, Conn, Db, Result, Tx};
use crate::scan::{EngineKind, Severity};

/// Whose findings.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Those of one repository.
    Repository(Uuid),
    /// Those of all repositories of a project.
    Project(Uuid),
}

impl Scope {
    /// The column that tells it, and its value.
    pub(super) const fn column(self) -> (&'static str, Uuid) {
        match self {
            Self::Repository(id) => ("repository_id", id),
            Self::Project(id) => ("project_id", id),
        }
    }
}

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortBy {
    /// When it was found first.
    #[default]
    Created,
    /// What to look at first.
    Priority,
    /// How bad it is.
    Severity,
}

/// An order. The default is newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// The key.
    pub by: SortBy,
    /// Greatest first: newest, most urgent, worst.
    pub descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { by: SortBy::Created, descending: true }
    }
}

/// The place of a row in an order: what a cursor holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The order it belongs to.
    pub sort: Sort,
    /// Its priority.
    pub priority: i64,
    /// Its severity.
    pub severity: Severity,
    /// Its id.
    pub id: Uuid,
}

impl Key {
    /// The place of a row.
    pub fn of(sort: Sort, row: &FindingRow) -> Self {
        let severity = row.severity.parse().unwrap_or(Severity::Info);
        Self { sort, priority: row.priority, severity, id: row.id }
    }
}

/// Which findings; an empty list filters nothing, a full one means any of its values.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// How bad.
    pub severity: Vec<Severity>,
    /// What is thought of it.
    pub status: Vec<Status>,
    /// What the scans see.
    pub state: Vec<State>,
    /// Seen, or no longer seen, by one of these scans. `state`, as a filter and in
    /// the rows, is then what the newest of these scans saw.
    pub scan_id: Vec<Uuid>,
    /// The engine.
    pub engine: Vec<EngineKind>,
    /// A file, a folder with all below it, or a pattern in which `*` stands for any
    /// run of characters and `?` for one.
    pub path: Vec<String>,
    /// Id of the rule.
    pub rule_id: Vec<String>,
    /// Words in title, path or rule id; case does not matter.
    pub q: Option<String>,
}

/// Ids of the findings of a repository that a filter names and that lie behind an id,
/// in ascending order.
pub(super) async fn ids(
    db: &Db,
    owner_id: Uuid,
    repository_id: Uuid,
    filter: &Filter,
    after: Uuid,
    limit: u32,
) -> Result<Vec<Uuid>> {
    let (mut sql, mut args) = ids_of(db.is_sqlite(), owner_id, repository_id, filter);
    sql.push_str(&format!(
        " AND f.id > {} ORDER BY f.id LIMIT {}",
        args.add(after),
        args.add(limit)
    ));
    let rows: Vec<(Uuid,)> = db.conn().fetch_filtered(&sql, args).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Those of the ids that a filter still names, inside a transaction.
pub(super) async fn still(
    tx: &mut Tx,
    owner_id: Uuid,
    repository_id: Uuid,
    filter: &Filter,
    ids: &[Uuid],
) -> Result<Vec<Uuid>> {
    let (mut sql, mut args) = ids_of(tx.is_sqlite(), owner_id, repository_id, filter);
    sql.push_str(&format!(" AND f.id IN ({}) ORDER BY f.id", places(&mut args, ids)));
    let rows: Vec<(Uuid,)> = Conn::from(tx).fetch_filtered(&sql, args).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

fn ids_of(sqlite: bool, owner_id: Uuid, repository_id: Uuid, filter: &Filter) -> (String, Args) {
    let mut args = Args::default();
    let mut terms = Vec::new();
    let (mut from, mut state) = ("findings f", "f.state");
    if !filter.scan_id.is_empty() {
        // CROSS JOIN makes SQLite walk what the scan saw.
        (from, state) = ("scan_findings sf CROSS JOIN findings f", "sf.state");
        terms.push("f.id = sf.finding_id".to_owned());
        terms.extend(seen_by(&mut args, filter));
    }
    let scope = Scope::Repository(repository_id);
    terms.extend(filters(sqlite, &mut args, owner_id, scope, filter, state));
    (format!("SELECT f.id FROM {from} WHERE {}", terms.join(" AND ")), args)
}

/// The terms that make `sf` the row of the newest of the scans that a filter names.
pub(super) fn seen_by(args: &mut Args, filter: &Filter) -> Vec<String> {
    let scans = places(args, &filter.scan_id);
    let mut terms = vec![format!("sf.scan_id IN ({scans})")];
    if filter.scan_id.len() > 1 {
        terms.push(format!(
            "NOT EXISTS (SELECT 1 FROM scan_findings later \
             WHERE later.finding_id = sf.finding_id AND later.scan_id IN ({scans}) \
             AND later.scan_id > sf.scan_id)"
        ));
    }
    terms
}

/// The terms of a filter for the row `f`, put together from constant parts and
/// placeholders.
pub(super) fn filters(
    sqlite: bool,
    args: &mut Args,
    owner_id: Uuid,
    scope: Scope,
    filter: &Filter,
    state: &str,
) -> Vec<String> {
    let (column, of) = scope.column();
    let mut terms = vec![
        format!("f.{column} = {}", args.add(of)),
        format!("f.owner_id = {}", args.add(owner_id)),
    ];
    let severity: Vec<&str> = filter.severity.iter().map(|v| v.as_str()).collect();
    let status: Vec<&str> = filter.status.iter().map(|v| v.as_str()).collect();
    let states: Vec<&str> = filter.state.iter().map(|v| v.as_str()).collect();
    let engines: Vec<&str> = filter.engine.iter().map(|v| v.as_str()).collect();
    let rules: Vec<&str> = filter.rule_id.iter().map(String::as_str).collect();
    for (column, values) in [
        ("f.severity", severity),
        ("f.status", status),
        (state, states),
        ("f.engine", engines),
        ("f.rule_id", rules),
    ] {
        if !values.is_empty() {
            terms.push(format!("{column} IN ({})", places(args, &values)));
        }
    }
    if !filter.path.is_empty() {
        let any: Vec<String> = filter.path.iter().map(|path| on_path(sqlite, args, path)).collect();
        terms.push(format!("({})", any.join(" OR ")));
    }
    if let Some(q) = &filter.q {
        let like = args.add(format!("%{}%", escape_like(&lowered(sqlite, q))));
        let any: Vec<String> = ["f.title", "f.path", "f.rule_id"]
            .iter()
            .map(|column| format!("lower({column}) LIKE {like} ESCAPE '\\'"))
            .collect();
        terms.push(format!("({})", any.join(" OR ")));
    }
    terms
}

pub(super) fn places<T: Clone + Into<crate::db::Value>>(args: &mut Args, values: &[T]) -> String {
    values.iter().map(|value| args.add(value.clone())).collect::<Vec<_>>().join(", ")
}

/// The term for one value of the filter `path`.
fn on_path(sqlite: bool, args: &mut Args, path: &str) -> String {
    if !path.contains(['*', '?']) {
        let bare = path.trim_end_matches('/');
        let (file, folder) = (args.add(bare), args.add(format!("{bare}/")));
        return format!("(f.path = {file} OR substr(f.path, 1, length({folder})) = {folder})");
    }
    if sqlite {
        // LIKE of SQLite ignores case; its GLOB knows brackets, which are no wild
        // cards here.
        let glob: String =
            path.chars().map(|c| if c == '[' { "[[]".to_owned() } else { c.to_string() }).collect();
        format!("f.path GLOB {}", args.add(glob))
    } else {
        let like = escape_like(path).replace('*', "%").replace('?', "_");
        format!("f.path LIKE {} ESCAPE '\\'", args.add(like))
    }
}

/// A search as it is compared. SQLite knows the case of ASCII alone.
pub(super) fn lowered(sqlite: bool, q: &str) -> String {
    if sqlite { q.to_ascii_lowercase() } else { q.to_lowercase() }
}

pub(super) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
