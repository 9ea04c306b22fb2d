//! Where the candidates of a page come from.

use std::collections::HashSet;

use uuid::Uuid;

use super::{MERGED, RARE, TEXTS, chosen};
use crate::db::findings::list::{Filter, Scope, escape_like, lowered, places};
use crate::db::findings::texts::{OTHERS, RULE, is_path, parent};
use crate::db::findings::{State, Status};
use crate::db::{Args, Db, Result};
use crate::scan::{EngineKind, Severity};

/// Texts that have a gram of the search and are looked at, at most.
const LISTED: u32 = 1_000;
/// Grams of a search that are weighed.
const WEIGHED: usize = 8;
/// Findings are counted up to here when one filter is weighed against another.
const HEAVY: i64 = 500;

/// Where candidates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// What these scans saw, which is little.
    Scans,
    /// The entries of texts, one range for each.
    Merged(Vec<i64>),
    /// The entries of many texts that have few findings together.
    Gathered(Vec<i64>),
    /// Ranges of the table itself.
    Table,
}

/// What to take for a filter.
pub(super) async fn of(db: &Db, scope: Scope, filter: &Filter) -> Result<Source> {
    if few_seen(db, filter).await? {
        return Ok(Source::Scans);
    }
    let mut found: Vec<Source> = Vec::new();
    for texts in [paths(db, scope, filter).await?, rules(db, scope, filter).await?]
        .into_iter()
        .chain([searched(db, scope, filter).await?])
        .flatten()
    {
        if texts.len() <= MERGED {
            found.push(Source::Merged(texts));
        } else if texts.len() <= TEXTS
            && total(db, &texts, i64::from(RARE) + 1).await? <= i64::from(RARE)
        {
            found.push(Source::Gathered(texts));
        }
    }
    let narrowed = filter.scan_id.is_empty() && narrows(filter);
    if found.is_empty() || (found.len() == 1 && !narrowed) {
        return Ok(found.pop().unwrap_or(Source::Table));
    }
    let mut lightest = (i64::MAX, Source::Table);
    for source in found {
        let weight = match &source {
            Source::Merged(texts) | Source::Gathered(texts) => total(db, texts, HEAVY).await?,
            Source::Scans | Source::Table => i64::MAX,
        };
        if weight < lightest.0 {
            lightest = (weight, source);
        }
    }
    // Rare findings in a large folder are met among the rare ones.
    if lightest.0 >= HEAVY && narrowed && kinds(db, scope, filter).await? < HEAVY {
        return Ok(Source::Table);
    }
    Ok(lightest.1)
}

/// True if the filter names some values of the columns with few of them.
fn narrows(filter: &Filter) -> bool {
    !(filter.severity.is_empty()
        && filter.status.is_empty()
        && filter.state.is_empty()
        && filter.engine.is_empty())
}

/// How many findings have the values of these columns, counted up to [`HEAVY`].
async fn kinds(db: &Db, scope: Scope, filter: &Filter) -> Result<i64> {
    let (column, of) = scope.column();
    let mut args = Args::default();
    let of = args.add(of);
    // Each column is named, so that each combination is a range of the index.
    let named = [
        ("status", words(&chosen(&filter.status, &Status::ALL), Status::as_str)),
        ("state", words(&chosen(&filter.state, &State::ALL), State::as_str)),
        ("engine", words(&chosen(&filter.engine, &EngineKind::ALL), EngineKind::as_str)),
        ("severity", words(&chosen(&filter.severity, &Severity::WORST_FIRST), Severity::as_str)),
    ];
    let terms: Vec<String> =
        named.iter().map(|(column, words)| format!("{column} IN ({words})")).collect();
    let sql = format!(
        "SELECT count(*) FROM (SELECT id FROM findings WHERE {column} = {of} AND {} \
         LIMIT {HEAVY}) n",
        terms.join(" AND ")
    );
    let counted: Vec<(i64,)> = db.conn().fetch_filtered(&sql, args).await?;
    Ok(counted.first().map_or(0, |(n,)| *n))
}

fn words<T: Copy>(values: &[T], word: impl Fn(T) -> &'static str) -> String {
    values.iter().map(|value| format!("'{}'", word(*value))).collect::<Vec<_>>().join(", ")
}

/// Ids of all findings that the scans of a filter saw, in no order.
pub(super) fn seen(filter: &Filter, args: &mut Args) -> String {
    let scans = places(args, &filter.scan_id);
    format!("SELECT finding_id AS id FROM scan_findings WHERE scan_id IN ({scans})")
}

async fn few_seen(db: &Db, filter: &Filter) -> Result<bool> {
    if filter.scan_id.is_empty() {
        return Ok(false);
    }
    let mut args = Args::default();
    let seen = seen(filter, &mut args);
    let sql = format!("SELECT count(*) FROM (SELECT id FROM ({seen}) n LIMIT {}) few", RARE + 1);
    let counted: Vec<(i64,)> = db.conn().fetch_filtered(&sql, args).await?;
    Ok(counted.first().is_some_and(|(n,)| *n <= i64::from(RARE)))
}

/// How many findings texts have together, counted up to a limit.
async fn total(db: &Db, texts: &[i64], limit: i64) -> Result<i64> {
    if texts.is_empty() {
        return Ok(0);
    }
    let mut args = Args::default();
    let texts = places(&mut args, texts);
    let sql = format!(
        "SELECT count(*) FROM (SELECT text_id FROM finding_entries WHERE text_id IN ({texts}) \
         LIMIT {limit}) n"
    );
    let counted: Vec<(i64,)> = db.conn().fetch_filtered(&sql, args).await?;
    Ok(counted.first().map_or(0, |(n,)| *n))
}

/// The terms for the texts `t` of a kind.
fn texts_of(scope: Scope, kind: &str, args: &mut Args) -> String {
    let (column, of) = scope.column();
    let kind = match scope {
        // Without its kind: see `texts`.
        Scope::Project(_) if kind == "rule" => "t.repository_id IS NULL".to_owned(),
        Scope::Repository(_) | Scope::Project(_) => format!("t.kind = '{kind}'"),
    };
    format!("t.{column} = {} AND {kind}", args.add(of))
}

/// Ids of the texts with these words; none if there are too many.
async fn named(db: &Db, scope: Scope, kind: &str, names: &[&str]) -> Result<Option<Vec<i64>>> {
    let mut args = Args::default();
    let of = texts_of(scope, kind, &mut args);
    let names = places(&mut args, names);
    let sql = format!(
        "SELECT t.id FROM finding_texts t WHERE {of} AND t.text IN ({names}) LIMIT {}",
        TEXTS + 1
    );
    let rows: Vec<(i64,)> = db.conn().fetch_filtered(&sql, args).await?;
    Ok((rows.len() <= TEXTS).then(|| rows.into_iter().map(|row| row.0).collect()))
}

/// The texts of the filter `path`, if it names files and folders.
async fn paths(db: &Db, scope: Scope, filter: &Filter) -> Result<Option<Vec<i64>>> {
    if filter.path.is_empty() {
        return Ok(None);
    }
    let mut names = HashSet::new();
    for path in &filter.path {
        let name = match path.find(['*', '?']) {
            None => path.trim_end_matches('/'),
            // The folder that all of it lies in.
            Some(wild) => match path.get(..wild).and_then(parent) {
                Some(folder) => folder,
                None => return Ok(None),
            },
        };
        if !name.is_empty() && is_path(name) {
            names.insert(name);
        }
    }
    // What lies below another is in it.
    let mut names: Vec<&str> =
        names.iter().copied().filter(|name| !above(name).any(|a| names.contains(a))).collect();
    names.push(OTHERS);
    named(db, scope, "path", &names).await
}

/// The texts of the filter `rule_id`.
async fn rules(db: &Db, scope: Scope, filter: &Filter) -> Result<Option<Vec<i64>>> {
    if filter.rule_id.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = filter.rule_id.iter().map(String::as_str).chain([OTHERS]).collect();
    named(db, scope, "rule", &names).await
}

/// The folders above a path.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |path| parent(path))
}

/// The texts in which a search finds what it looks for; none if these are too many, or it
/// looks for too little.
async fn searched(db: &Db, scope: Scope, filter: &Filter) -> Result<Option<Vec<i64>>> {
    let Some(q) = &filter.q else { return Ok(None) };
    let q = lowered(db.is_sqlite(), q);
    // A run over several parts of a path ends in one of them; any will do, the longest
    // is met least. What does not fit into a text is met in none.
    let part = q.split('/').max_by_key(|part| part.len()).unwrap_or_default();
    let Some(rules) = having(db, scope, "rule", &q).await? else { return Ok(None) };
    let Some(paths) = having(db, scope, "path", part).await? else { return Ok(None) };
    let of_path: HashSet<(Uuid, &str)> =
        paths.iter().map(|path| (path.repository_id, path.text.as_str())).collect();
    let mut found: Vec<i64> = paths
        .iter()
        .filter(|path| !above(&path.text).any(|a| of_path.contains(&(path.repository_id, a))))
        .map(|path| path.id)
        .chain(rules.iter().map(|rule| rule.id))
        .collect();
    for kind in ["path", "rule"] {
        let Some(others) = named(db, scope, kind, &[OTHERS]).await? else { return Ok(None) };
        found.extend(others);
    }
    found.sort_unstable();
    found.dedup();
    Ok(Some(found))
}

#[derive(Debug, sqlx::FromRow)]
struct Having {
    id: i64,
    /// For a rule of a project: the nil id.
    repository_id: Uuid,
    text: String,
}

/// The texts of a kind that have a word in them.
async fn having(db: &Db, scope: Scope, kind: &str, word: &str) -> Result<Option<Vec<Having>>> {
    let rule = kind == "rule";
    let mut args = Args::default();
    // Rules are looked for in the project, and then taken as they are in the repository.
    let whose = match scope {
        Scope::Repository(id) if rule => {
            let sql = format!("SELECT project_id FROM repositories WHERE id = {}", args.add(id));
            let rows: Vec<(Uuid,)> = db.conn().fetch_filtered(&sql, args).await?;
            let Some((project,)) = rows.first() else { return Ok(Some(Vec::new())) };
            *project
        }
        Scope::Repository(id) | Scope::Project(id) => id,
    };
    let grams = grams(word, if rule { RULE } else { 0 });
    let Some(gram) = rarest(db, whose, &grams).await? else { return Ok(None) };
    let mut args = Args::default();
    let (whose, gram) = (args.add(whose), args.add(gram));
    let like = args.add(format!("%{}%", escape_like(word)));
    let terms = if rule {
        format!("(lower(t.text) LIKE {like} ESCAPE '\\' OR lower(t.title) LIKE {like} ESCAPE '\\')")
    } else {
        format!("lower(t.title) LIKE {like} ESCAPE '\\'")
    };
    let nil = args.add(Uuid::nil());
    let (of, from) = match scope {
        Scope::Repository(id) if rule => (
            "r",
            format!(
                " CROSS JOIN finding_texts r WHERE r.repository_id = {} AND r.kind = 'rule' \
                 AND r.text = t.text AND r.title = t.title AND",
                args.add(id)
            ),
        ),
        Scope::Repository(_) | Scope::Project(_) => ("t", " WHERE".to_owned()),
    };
    // CROSS JOIN makes SQLite begin with what has the gram.
    let sql = format!(
        "SELECT {of}.id, coalesce({of}.repository_id, {nil}) AS repository_id, {of}.text FROM \
         (SELECT text_id FROM finding_grams WHERE scope_id = {whose} AND gram = {gram} \
          LIMIT {LISTED}) g CROSS JOIN finding_texts t{from} t.id = g.text_id AND {terms}"
    );
    Ok(Some(db.conn().fetch_filtered(&sql, args).await?))
}

/// Runs of three ASCII characters of a word, spread over it, as
/// [`crate::db::findings::texts`] keeps them.
fn grams(word: &str, kind: i64) -> Vec<i64> {
    let all: Vec<i64> = word
        .as_bytes()
        .windows(3)
        .filter(|three| three.is_ascii())
        .map(|three| {
            let three = three.iter().fold(0, |gram, byte| gram * 128 + i64::from(*byte));
            kind + three
        })
        .collect();
    let step = all.len().div_ceil(WEIGHED).max(1);
    all.into_iter().step_by(step).collect()
}

/// The gram that the fewest texts have; none if all have too many, or there is none.
async fn rarest(db: &Db, whose: Uuid, grams: &[i64]) -> Result<Option<i64>> {
    if grams.is_empty() {
        return Ok(None);
    }
    let mut args = Args::default();
    let whose = args.add(whose);
    let counts: Vec<String> = grams
        .iter()
        .map(|gram| {
            let gram = args.add(*gram);
            format!(
                "SELECT CAST({gram} AS BIGINT) AS gram, (SELECT count(*) FROM (SELECT 1 \
                 FROM finding_grams WHERE scope_id = {whose} AND gram = {gram} LIMIT {}) n) AS n",
                LISTED + 1
            )
        })
        .collect();
    let counted: Vec<(i64, i64)> =
        db.conn().fetch_filtered(&counts.join(" UNION ALL "), args).await?;
    let rarest = counted.into_iter().min_by_key(|(_, n)| *n);
    Ok(rarest.filter(|(_, n)| *n <= i64::from(LISTED)).map(|(gram, _)| gram))
}
