//! What findings are found by: their files, the folders above these, and their rules.
//!
//! A list with a filter `path`, `rule_id` or `q` must cost the same however many findings
//! there are and however few of them it names. So each *text* is kept once
//! (`finding_texts`), with the findings that belong to it in the orders of the lists
//! (`finding_entries`): a page of a folder is a range of an index, whatever else the
//! repository holds. [`super::page`] reads them, [`mod@super::merge`] keeps them right.
//!
//! | text | is one of | belongs to |
//! |---|---|---|
//! | file, and each folder above it | a repository | what is found in it, or below it |
//! | rule id with a title | a repository, and again its project | what the rule finds |
//!
//! # Search
//!
//! `q` looks for a run of characters in title, path and rule id. The texts are far fewer
//! than the findings, and a scan of what was scanned before brings none, so only they
//! carry an index of what is in them: `finding_grams` knows for each three ASCII
//! characters in a row the texts that have them. Of a path only its last part counts: what
//! `q` meets further up is met by the folder there, and that holds the finding too. The
//! findings of the texts that have the run are the candidates. An index of the findings
//! themselves (FTS5, pg_trgm) would be written with each of them, answers in no order of a
//! list, and mixes the tenants: then the findings of others cost time.
//!
//! # What it costs
//!
//! A finding has an entry for its file, for each folder above, and two for its rule. They
//! took the place of six indexes of the findings, so that a scan writes less where it
//! brings nothing new. The first scan of 50,000 findings in 10,000 files, four folders
//! deep, costs SQLite 1.2 times the work and 1.1 times the bytes of those indexes,
//! PostgreSQL 1.3 to 1.6 times of both.
//!
//! # Limits
//!
//! A text is at most [`MAX_LENGTH`] characters and [`MAX_SLASHES`] folders deep. Findings
//! with a longer one belong to the text [`OTHERS`] instead, which is looked through with
//! every search, so hostile names cost their own repository a slower search and nobody
//! anything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::BATCH;
use crate::db::scans::ScanRow;
use crate::db::{Args, Conn, Result, Sql, Tx, args, statements};
use crate::scan::Finding;

/// Characters of a text.
pub(super) const MAX_LENGTH: usize = 500;
/// Slashes in a path.
pub(super) const MAX_SLASHES: usize = 16;
/// Stands for paths, and for rules, that are too long; no path is like it.
pub(super) const OTHERS: &str = "/";
/// Set in the grams of rules, which a search asks apart from paths.
pub(super) const RULE: i64 = 1 << 21;

/// Findings whose entries one statement makes: it holds and sorts them.
const STEP: usize = 5_000;
/// Texts of one INSERT; see [`super::ROWS`].
const ROWS: usize = 40;

/// The text of a path, `f.path` in the statements below.
macro_rules! path_text {
    () => {
        "CASE WHEN length(f.path) <= 500 AND length(f.path) - length(replace(f.path, '/', '')) \
         <= 16 THEN f.path ELSE '/' END"
    };
}

/// The terms for the text `t` of the rule of `f`, beside whose it is. That of a project is
/// known by having no repository: with its kind, SQLite would take an index that all
/// repositories are in.
macro_rules! rule_text {
    () => {
        "t.text = CASE WHEN length(f.rule_id) + length(f.title) <= 500 \
         THEN f.rule_id ELSE '/' END AND t.title = CASE WHEN \
         length(f.rule_id) + length(f.title) <= 500 THEN f.title ELSE '' END"
    };
}

/// The entries of findings `f` of the repository `$1`, from their rows.
fn entries(which: &str) -> String {
    // CROSS JOIN makes SQLite begin with the findings; that each text is said to be of the
    // repository keeps PostgreSQL from reading those of all others.
    format!(
        concat!(
            "WITH RECURSIVE up (text_id, parent_id, severity, priority, finding_id) AS ( \
             SELECT t.id, t.parent_id, f.severity, f.priority, f.id \
             FROM findings f CROSS JOIN finding_texts t WHERE {which} \
             AND t.repository_id = $1 AND t.kind = 'path' AND t.text = ",
            path_text!(),
            " UNION ALL SELECT t.id, t.parent_id, up.severity, up.priority, up.finding_id \
             FROM up CROSS JOIN finding_texts t \
             WHERE t.id = up.parent_id AND t.repository_id = $1) \
             SELECT text_id, severity, priority, finding_id FROM up \
             UNION ALL SELECT t.id, f.severity, f.priority, f.id \
             FROM findings f CROSS JOIN finding_texts t WHERE {which} \
             AND t.repository_id = $1 AND t.kind = 'rule' AND ",
            rule_text!(),
            " UNION ALL SELECT t.id, f.severity, f.priority, f.id \
             FROM findings f CROSS JOIN finding_texts t WHERE {which} \
             AND t.project_id = f.project_id AND t.repository_id IS NULL AND ",
            rule_text!(),
        ),
        which = which
    )
}

statements! {
    REMOVE_ENTRIES = "DELETE FROM finding_entries WHERE text_id IN \
                      (SELECT id FROM finding_texts WHERE repository_id = $1)";
    REMOVE_RULES = concat(
        "DELETE FROM finding_entries WHERE (text_id, severity, finding_id) IN \
         (SELECT t.id, f.severity, f.id FROM findings f CROSS JOIN finding_texts t \
          WHERE f.repository_id = $1 AND t.project_id = f.project_id \
          AND t.repository_id IS NULL AND ", rule_text!(), ")"
    );
    REMOVE_SHARED = "DELETE FROM finding_grams WHERE (scope_id, gram, text_id) IN \
                     (SELECT r.project_id, g.gram, g.text_id FROM repositories r \
                      CROSS JOIN finding_grams g WHERE r.id = $1 AND g.scope_id = r.id)";
    REMOVE_GRAMS = "DELETE FROM finding_grams WHERE scope_id = $1";
    REMOVE_ALL_ENTRIES = "DELETE FROM finding_entries WHERE text_id IN \
                          (SELECT id FROM finding_texts WHERE project_id = $1)";
    REMOVE_ALL_GRAMS = "DELETE FROM finding_grams WHERE scope_id = $1 \
                        OR scope_id IN (SELECT id FROM repositories WHERE project_id = $1)";
}

/// Three characters as a number, one after the other, for both databases.
const GRAMS: Sql = Sql::pair(
    "unicode(word) AS a, unicode(substr(word, 2, 1)) AS b, unicode(substr(word, 3, 1)) AS c",
    "ascii(word) AS a, ascii(substr(word, 2, 1)) AS b, ascii(substr(word, 3, 1)) AS c",
);

/// True if a path has texts of its own.
pub(super) fn is_path(path: &str) -> bool {
    path.matches('/').count() <= MAX_SLASHES && path.chars().nth(MAX_LENGTH).is_none()
}

/// The folder around a path; none at the top.
pub(super) fn parent(path: &str) -> Option<&str> {
    let (folder, _) = path.rsplit_once('/')?;
    Some(folder.trim_end_matches('/')).filter(|folder| !folder.is_empty())
}

/// A text, on its way to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'f> {
    text: &'f str,
    title: &'f str,
}

impl<'f> Text<'f> {
    fn of_path(path: &'f str) -> Self {
        if path == OTHERS {
            return Self { text: OTHERS, title: "" };
        }
        let title = path.rsplit_once('/').map_or(path, |(_, name)| name);
        Self { text: path, title }
    }

    fn of_rule(finding: &'f Finding) -> Self {
        let (text, title) = (finding.rule_id.as_str(), finding.title.as_str());
        let length =
            text.chars().take(MAX_LENGTH + 1).count() + title.chars().take(MAX_LENGTH + 1).count();
        if length > MAX_LENGTH { Self { text: OTHERS, title: "" } } else { Self { text, title } }
    }
}

/// Takes the entries of findings away, before what they are made from changes.
pub(super) async fn forget(tx: &mut Tx, repository_id: Uuid, ids: &[Uuid]) -> Result<()> {
    for batch in ids.chunks(BATCH) {
        let mut args = args![repository_id];
        let which = named(&mut args, batch);
        let sql = format!(
            "DELETE FROM finding_entries WHERE (text_id, severity, finding_id) IN \
             (SELECT text_id, severity, finding_id FROM ({}) e)",
            entries(&which)
        );
        tx.execute_built(&sql, args).await?;
    }
    Ok(())
}

/// Makes the entries of findings that lie in the table, and the texts that these need.
/// With the repository locked. `new`: ids that came with this scan, in ascending order;
/// `changed`: others.
pub(super) async fn keep(
    tx: &mut Tx,
    scan: &ScanRow,
    findings: &[&Finding],
    new: &[Uuid],
    changed: &[Uuid],
) -> Result<()> {
    texts(tx, scan, findings).await?;
    for step in new.chunks(STEP) {
        let (Some(first), Some(last)) = (step.first(), step.last()) else { continue };
        // A range costs no placeholder a row.
        let which = "f.repository_id = $1 AND f.id >= $2 AND f.id <= $3";
        insert(tx, which, args![scan.repository_id, first, last]).await?;
    }
    for batch in changed.chunks(BATCH) {
        let mut args = args![scan.repository_id];
        let which = named(&mut args, batch);
        insert(tx, &which, args).await?;
    }
    Ok(())
}

fn named(args: &mut Args, ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| args.add(id)).collect();
    format!("f.repository_id = $1 AND f.id IN ({})", ids.join(", "))
}

async fn insert(tx: &mut Tx, which: &str, args: Args) -> Result<()> {
    // In the order of the table: the next row then lies beside the last.
    let sql = format!(
        "INSERT INTO finding_entries (text_id, severity, priority, finding_id) {} \
         ORDER BY 1, 2, 4 ON CONFLICT DO NOTHING",
        entries(which)
    );
    tx.execute_built(&sql, args).await?;
    Ok(())
}

/// Makes the texts of findings that are not there.
async fn texts(tx: &mut Tx, scan: &ScanRow, findings: &[&Finding]) -> Result<()> {
    let rules: BTreeSet<Text<'_>> = findings.iter().map(|f| Text::of_rule(f)).collect();
    let rules: Vec<Text<'_>> = rules.into_iter().collect();
    let mut made = Vec::new();
    // What repositories share comes in the order of the texts, so that two scans at once
    // never wait for each other in turn.
    for repository in [None, Some(scan.repository_id)] {
        for batch in rules.chunks(ROWS) {
            made.extend(make(tx, scan, repository, "rule", batch, &HashMap::new()).await?);
        }
    }
    // By depth, since a folder knows the one around it.
    let mut paths: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for finding in findings {
        let path = finding.location.path.as_str();
        let mut next = Some(if is_path(path) { path } else { OTHERS }).filter(|p| !p.is_empty());
        while let Some(path) = next.filter(|path| seen.insert(*path)) {
            paths.entry(path.matches('/').count()).or_default().insert(path);
            next = parent(path);
        }
    }
    let mut ids: HashMap<String, i64> = HashMap::new();
    for paths in paths.into_values() {
        let paths: Vec<&str> = paths.into_iter().collect();
        for batch in paths.chunks(BATCH) {
            let known = known(tx, scan.repository_id, batch).await?;
            let missing: Vec<Text<'_>> = batch
                .iter()
                .filter(|path| !known.contains_key(**path))
                .map(|path| Text::of_path(path))
                .collect();
            ids.extend(known);
            for rows in missing.chunks(ROWS) {
                let of = Some(scan.repository_id);
                let new = make(tx, scan, of, "path", rows, &ids).await?;
                made.extend(new.iter().map(|(id, text)| (*id, text.clone())));
                ids.extend(new.into_iter().map(|(id, text)| (text, id)));
            }
        }
    }
    let made: Vec<i64> = made.into_iter().map(|(id, _)| id).collect();
    for batch in made.chunks(BATCH) {
        grams(tx, batch).await?;
    }
    Ok(())
}

/// Ids of the paths that are there.
async fn known(tx: &mut Tx, repository_id: Uuid, paths: &[&str]) -> Result<HashMap<String, i64>> {
    let mut args = args![repository_id];
    let paths: Vec<String> = paths.iter().map(|path| args.add(*path)).collect();
    let sql = format!(
        "SELECT text, id FROM finding_texts WHERE repository_id = $1 AND kind = 'path' \
         AND text IN ({})",
        paths.join(", ")
    );
    let rows: Vec<(String, i64)> = Conn::from(tx).fetch_filtered(&sql, args).await?;
    Ok(rows.into_iter().collect())
}

/// Makes texts; answers those that were not there.
async fn make(
    tx: &mut Tx,
    scan: &ScanRow,
    repository_id: Option<Uuid>,
    kind: &str,
    texts: &[Text<'_>],
    ids: &HashMap<String, i64>,
) -> Result<Vec<(i64, String)>> {
    let mut args = args![scan.project_id, repository_id, kind];
    let rows: Vec<String> = texts
        .iter()
        .map(|Text { text, title }| {
            let folder = parent(text).filter(|_| kind == "path").and_then(|p| ids.get(p)).copied();
            format!("($1, $2, $3, {}, {}, {})", args.add(folder), args.add(*text), args.add(*title))
        })
        .collect();
    let sql = format!(
        "INSERT INTO finding_texts (project_id, repository_id, kind, parent_id, text, title) \
         VALUES {} ON CONFLICT DO NOTHING RETURNING id, text",
        rows.join(", ")
    );
    Conn::from(tx).fetch_filtered(&sql, args).await
}

/// Makes the grams of texts: those of a path for its repository and for the project, those
/// of a rule for the project.
async fn grams(tx: &mut Tx, ids: &[i64]) -> Result<()> {
    let mut args = Args::default();
    let ids: Vec<String> = ids.iter().map(|id| args.add(*id)).collect();
    let ids = ids.join(", ");
    let three = if tx.is_sqlite() { GRAMS.sqlite } else { GRAMS.postgres };
    let select = "project_id, repository_id, id";
    let gram = "rule + a * 16384 + b * 128 + c";
    let ascii = "a < 128 AND b < 128 AND c < 128";
    let sql = format!(
        "INSERT INTO finding_grams (scope_id, gram, text_id) \
         WITH RECURSIVE w (project_id, repository_id, text_id, rule, word) AS ( \
         SELECT {select}, CAST(0 AS BIGINT), lower(title) FROM finding_texts \
         WHERE id IN ({ids}) AND kind = 'path' \
         UNION ALL SELECT {select}, {RULE}, lower(text) FROM finding_texts \
         WHERE id IN ({ids}) AND repository_id IS NULL \
         UNION ALL SELECT {select}, {RULE}, lower(title) FROM finding_texts \
         WHERE id IN ({ids}) AND repository_id IS NULL \
         UNION ALL SELECT project_id, repository_id, text_id, rule, substr(word, 2) FROM w \
         WHERE length(word) > 3), \
         g AS (SELECT project_id, repository_id, text_id, rule, {three} FROM w \
         WHERE length(word) >= 3) \
         SELECT project_id, {gram}, text_id FROM g WHERE {ascii} \
         UNION SELECT repository_id, {gram}, text_id FROM g \
         WHERE {ascii} AND repository_id IS NOT NULL ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING"
    );
    tx.execute_built(&sql, args).await?;
    Ok(())
}

/// Takes away what a repository leaves behind that no foreign key reaches, before it is
/// deleted.
pub(in crate::db) async fn remove_repository(tx: &mut Tx, id: Uuid) -> Result<()> {
    for statement in [REMOVE_RULES, REMOVE_ENTRIES, REMOVE_SHARED, REMOVE_GRAMS] {
        tx.execute(statement, args![id]).await?;
    }
    Ok(())
}

/// The same for a project.
pub(in crate::db) async fn remove_project(tx: &mut Tx, id: Uuid) -> Result<()> {
    for statement in [REMOVE_ALL_ENTRIES, REMOVE_ALL_GRAMS] {
        tx.execute(statement, args![id]).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
