//! Findings: lists with filters, triage of one and of many.
//!
//! Triage of many takes ids (all of them in one transaction) or a filter, which may
//! name any number and is worked off in steps of 1,000, each a transaction of its own:
//! see [`crate::db::findings`]. A finding that has the status, the reason and the end
//! already is `unchanged`, and no comment is noted for it.

use std::collections::HashMap;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, FieldError, Result};
use super::extract::{Id, Ids, Json, QueryPairs, uuid};
use super::page::{self, Page};
use super::time::Time;
use crate::db;
use crate::db::findings::{
    Filter, FindingRow, HistoryRow, Key, Reason, Scope, Sort, SortBy, State as SeenState, Status,
    Triage,
};
use crate::scan::{EngineKind, FlowStep, Location, PackageRef};
use crate::server::App;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/repositories/{repo_id}/findings", get(list))
        .route("/v1/repositories/{repo_id}/findings/triage", post(triage_many))
        .route("/v1/repositories/{repo_id}/findings/{finding_id}", get(show).put(triage))
        .route("/v1/projects/{project_id}/findings", get(list_of_project))
}

/// Most values of one filter.
const MAX_VALUES: usize = 50;
/// Longest value of a filter, in characters.
const MAX_VALUE: usize = 500;
/// Most wild cards in a path: more make matching slow.
const MAX_WILD: usize = 8;
/// Most ids of one triage.
const MAX_IDS: usize = 1_000;
/// Longest comment, in characters.
const MAX_COMMENT: usize = 2_000;

#[derive(Serialize)]
struct Finding {
    id: Uuid,
    repository_id: Uuid,
    project_id: Uuid,
    fingerprint: String,
    engine: String,
    rule_id: String,
    title: String,
    description: String,
    severity: String,
    confidence: String,
    status: Status,
    state: SeenState,
    location: Option<Location>,
    other_locations: Vec<Location>,
    snippet: String,
    flow: Vec<FlowStep>,
    cwe: Vec<String>,
    owasp: Vec<String>,
    remediation: String,
    references: Vec<String>,
    package: Option<PackageRef>,
    priority: i64,
    first_seen_scan_id: Uuid,
    last_seen_scan_id: Uuid,
    first_seen_at: Time,
    last_seen_at: Time,
    /// When a dismissal ends.
    expires_at: Option<Time>,
    history: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    at: Time,
    by: String,
    from: String,
    to: String,
    reason: Option<String>,
    comment: Option<String>,
}

impl Finding {
    fn new(row: FindingRow, history: Vec<HistoryRow>) -> Self {
        let body = row.body.0;
        // First what is wrong here, then what is wrong with its like.
        let description = [body.message, body.description]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n\n");
        Self {
            id: row.id,
            repository_id: row.repository_id,
            project_id: row.project_id,
            fingerprint: row.fingerprint,
            engine: row.engine,
            rule_id: row.rule_id,
            title: row.title,
            description,
            severity: row.severity,
            confidence: row.confidence,
            status: row.status,
            state: row.state,
            location: body.location,
            other_locations: body.other_locations,
            snippet: body.snippet,
            flow: body.flow,
            cwe: body.cwe,
            owasp: body.owasp,
            remediation: body.remediation,
            references: body.references,
            package: body.package,
            priority: row.priority,
            first_seen_scan_id: row.first_seen_scan_id,
            last_seen_scan_id: row.last_seen_scan_id,
            first_seen_at: row.first_seen_at.into(),
            last_seen_at: row.last_seen_at.into(),
            expires_at: row.dismissal_expires_at.map(Time),
            history: history
                .into_iter()
                .map(|h| Change {
                    at: h.at.into(),
                    by: h.actor,
                    from: h.from_status,
                    to: h.to_status,
                    reason: h.reason,
                    comment: h.comment,
                })
                .collect(),
        }
    }
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(repo_id): Id,
    uri: Uri,
    QueryPairs(pairs): QueryPairs,
) -> Result<Response> {
    if db::scans::scannable(&app.db, caller.user_id, repo_id).await?.is_none() {
        return Err(ApiError::not_found("repository"));
    }
    answer(&app, &caller, Scope::Repository(repo_id), &uri, pairs).await
}

async fn list_of_project(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    uri: Uri,
    QueryPairs(pairs): QueryPairs,
) -> Result<Response> {
    if db::projects::get(&app.db, caller.user_id, project_id).await?.is_none() {
        return Err(ApiError::not_found("project"));
    }
    answer(&app, &caller, Scope::Project(project_id), &uri, pairs).await
}

async fn answer(
    app: &App,
    caller: &Caller,
    scope: Scope,
    uri: &Uri,
    pairs: Vec<(String, String)>,
) -> Result<Response> {
    let asked = Asked::parse(pairs)?;
    let after: Option<Key> = asked.cursor.as_deref().map(page::decode_cursor).transpose()?;
    if after.as_ref().is_some_and(|key| key.sort != asked.sort) {
        return Err(ApiError::invalid_field("cursor", "belongs to another `sort`"));
    }
    let owner = caller.user_id;
    let (filter, sort, limit) = (&asked.filter, asked.sort, asked.limit);
    let rows =
        db::findings::list(&app.db, owner, scope, filter, sort, after.as_ref(), limit + 1).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut histories: HashMap<Uuid, Vec<HistoryRow>> = HashMap::new();
    for change in db::findings::history(&app.db, &ids).await? {
        histories.entry(change.finding_id).or_default().push(change);
    }
    let page = Page::new(
        uri,
        rows,
        limit,
        |row| Key::of(sort, row),
        |row| {
            let history = histories.remove(&row.id).unwrap_or_default();
            Finding::new(row, history)
        },
    );
    Ok(page.into_response())
}

/// The checked query of a list.
#[derive(Debug)]
struct Asked {
    filter: Filter,
    sort: Sort,
    limit: u32,
    cursor: Option<String>,
}

impl Asked {
    fn parse(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut asked = Self {
            filter: Filter::default(),
            sort: Sort::default(),
            limit: page::DEFAULT_LIMIT,
            cursor: None,
        };
        let filter = &mut asked.filter;
        for (name, value) in pairs {
            if name != "cursor" && value.chars().count() > MAX_VALUE {
                let message = format!("must be at most {MAX_VALUE} characters");
                return Err(ApiError::invalid_field(name, message));
            }
            if name_values(filter, &name, value.split(','))? {
                continue;
            }
            match name.as_str() {
                "sort" => asked.sort = sort(&value)?,
                "limit" => {
                    let limit = value.parse().map_err(|_| {
                        ApiError::invalid_field("limit", "must be a number from 1 to 200")
                    })?;
                    asked.limit = page::check_limit(Some(limit))?;
                }
                "cursor" => asked.cursor = Some(value),
                _ => {
                    return Err(ApiError::invalid_field(
                        name,
                        "is no parameter of this list: use severity, status, state, scan_id, \
                         engine, path, rule_id, q, sort, limit, cursor",
                    ));
                }
            }
        }
        Ok(asked)
    }
}

/// Adds values to the filter of this name; false if there is none.
fn name_values<'v>(
    filter: &mut Filter,
    name: &str,
    values: impl Iterator<Item = &'v str>,
) -> Result<bool> {
    match name {
        "severity" => several(name, values, &mut filter.severity, |v| v.parse().ok())?,
        "status" => several(name, values, &mut filter.status, |v| v.parse().ok())?,
        "state" => several(name, values, &mut filter.state, |v| v.parse().ok())?,
        "scan_id" => several(name, values, &mut filter.scan_id, |v| uuid(v).ok())?,
        "engine" => several(name, values, &mut filter.engine, |v| {
            EngineKind::ALL.into_iter().find(|engine| engine.as_str() == v)
        })?,
        "rule_id" => several(name, values, &mut filter.rule_id, |v| Some(v.to_owned()))?,
        "path" => several(name, values, &mut filter.path, |v| {
            let wild = v.chars().filter(|c| matches!(c, '*' | '?')).count();
            (wild <= MAX_WILD).then(|| v.trim_start_matches('/').to_owned())
        })?,
        "q" => {
            let words = values.collect::<Vec<_>>().join(",");
            let words = words.trim();
            filter.q = (!words.is_empty()).then(|| words.to_owned());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Adds values to a filter.
fn several<'v, T: PartialEq>(
    name: &str,
    values: impl Iterator<Item = &'v str>,
    into: &mut Vec<T>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<()> {
    for part in values.map(str::trim).filter(|part| !part.is_empty()) {
        let parsed = parse(part).ok_or_else(|| {
            ApiError::invalid_field(name, format!("{part:?} is no value of this filter"))
        })?;
        if !into.contains(&parsed) {
            into.push(parsed);
        }
    }
    if into.len() > MAX_VALUES {
        return Err(ApiError::invalid_field(name, format!("must be at most {MAX_VALUES} values")));
    }
    Ok(())
}

fn sort(value: &str) -> Result<Sort> {
    let (descending, name) = match value.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, value),
    };
    let by = match name {
        "created" => SortBy::Created,
        "priority" => SortBy::Priority,
        "severity" => SortBy::Severity,
        _ => {
            return Err(ApiError::invalid_field(
                "sort",
                "must be created, priority or severity, with a `-` before it for the greatest \
                 first",
            ));
        }
    };
    Ok(Sort { by, descending })
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Ids(repo_id, finding_id): Ids,
) -> Result<axum::Json<Finding>> {
    let row = db::findings::get(&app.db, caller.user_id, repo_id, finding_id)
        .await?
        .ok_or_else(|| ApiError::not_found("finding"))?;
    let history = db::findings::history(&app.db, &[finding_id]).await?;
    Ok(axum::Json(Finding::new(row, history)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    status: Status,
    reason: Option<Reason>,
    comment: Option<String>,
    expires_at: Option<String>,
}

async fn triage(
    state: State<App>,
    caller: Caller,
    ids: Ids,
    Json(body): Json<Put>,
) -> Result<axum::Json<Finding>> {
    let decision = check(body)?;
    let app = &state.0;
    let mut tx = app.db.begin().await?;
    let Ids(repo_id, finding_id) = ids;
    let (owner, email) = (caller.user_id, caller.email.as_str());
    if !db::findings::triage(&mut tx, owner, repo_id, finding_id, email, &decision).await? {
        return Err(ApiError::not_found("finding"));
    }
    tx.commit().await?;
    show(state, caller, ids).await
}

/// Which findings, and what is said about them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    ids: Option<Vec<String>>,
    filter: Option<Named>,
    status: Status,
    reason: Option<Reason>,
    comment: Option<String>,
    expires_at: Option<String>,
}

/// The filter of a triage: the filters of a list, each with one value or several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    severity: Option<OneOrMany>,
    status: Option<OneOrMany>,
    state: Option<OneOrMany>,
    engine: Option<OneOrMany>,
    path: Option<OneOrMany>,
    rule_id: Option<OneOrMany>,
    scan_id: Option<OneOrMany>,
    q: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Named {
    fn check(self) -> Result<Filter> {
        let mut filter = Filter::default();
        let mut any = false;
        for (name, values) in [
            ("severity", self.severity),
            ("status", self.status),
            ("state", self.state),
            ("engine", self.engine),
            ("path", self.path),
            ("rule_id", self.rule_id),
            ("scan_id", self.scan_id),
            ("q", self.q.map(OneOrMany::One)),
        ] {
            let values = match values {
                None => continue,
                Some(OneOrMany::One(value)) => vec![value],
                Some(OneOrMany::Many(values)) => values,
            };
            let field = format!("filter.{name}");
            if values.is_empty() || values.iter().any(|value| value.trim().is_empty()) {
                return Err(ApiError::invalid_field(field, "must not be empty"));
            }
            if values.iter().any(|value| value.chars().count() > MAX_VALUE) {
                let message = format!("must be at most {MAX_VALUE} characters");
                return Err(ApiError::invalid_field(field, message));
            }
            name_values(&mut filter, name, values.iter().map(String::as_str))
                .map_err(|error| ApiError::invalid_field(field, error.reason()))?;
            any = true;
        }
        if any {
            Ok(filter)
        } else {
            Err(ApiError::invalid_field(
                "filter",
                "must name at least one of severity, status, state, engine, path, rule_id, \
                 scan_id, q",
            ))
        }
    }
}

#[derive(Debug, Serialize)]
struct Triaged {
    updated: u64,
    unchanged: u64,
    not_found: Vec<Uuid>,
}

async fn triage_many(
    State(app): State<App>,
    caller: Caller,
    Id(repo_id): Id,
    Json(body): Json<Many>,
) -> Result<axum::Json<Triaged>> {
    let Many { ids, filter, status, reason, comment, expires_at } = body;
    let decision = check(Put { status, reason, comment, expires_at })?;
    let (owner, email) = (caller.user_id, caller.email.as_str());
    let bulk = match (ids, filter) {
        (Some(ids), None) => {
            if ids.is_empty() || ids.len() > MAX_IDS {
                let message = format!("must be 1 to {MAX_IDS} ids");
                return Err(ApiError::invalid_field("ids", message));
            }
            let mut parsed = Vec::with_capacity(ids.len());
            for (n, id) in ids.iter().enumerate() {
                parsed.push(uuid(id).map_err(|_| {
                    ApiError::invalid_field(format!("ids[{n}]"), "must be the id of a finding")
                })?);
            }
            db::findings::triage_by_ids(&app.db, owner, repo_id, &parsed, email, &decision).await?
        }
        (None, Some(filter)) => {
            let filter = filter.check()?;
            db::findings::triage_by_filter(&app.db, owner, repo_id, &filter, email, &decision)
                .await?
        }
        _ => {
            return Err(ApiError::invalid_field(
                "ids",
                "name the findings either by `ids` or by `filter`",
            ));
        }
    };
    let bulk = bulk.ok_or_else(|| ApiError::not_found("repository"))?;
    Ok(axum::Json(Triaged {
        updated: bulk.updated,
        unchanged: bulk.unchanged,
        not_found: bulk.not_found,
    }))
}

fn check(body: Put) -> Result<Triage> {
    let mut errors = Vec::new();
    let dismissed = body.status == Status::Dismissed;
    match body.reason {
        None if dismissed => errors.push(FieldError::new(
            "reason",
            "a dismissal needs one: false_positive, accepted_risk, used_in_tests or wont_fix",
        )),
        Some(Reason::Inline) => errors.push(FieldError::new(
            "reason",
            "`inline` is kept for comments in the source: use false_positive, accepted_risk, \
             used_in_tests or wont_fix",
        )),
        Some(_) if !dismissed => {
            errors.push(FieldError::new("reason", "only a dismissal has one; leave it out"));
        }
        _ => {}
    }
    let comment = body.comment.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some(text) = &comment {
        if text.chars().count() > MAX_COMMENT {
            let message = format!("must be at most {MAX_COMMENT} characters");
            errors.push(FieldError::new("comment", message));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            errors.push(FieldError::new("comment", "must not contain control characters"));
        }
    }
    let mut expires_at = None;
    if let Some(text) = &body.expires_at {
        match text.parse::<jiff::Timestamp>() {
            Err(_) => errors.push(FieldError::new(
                "expires_at",
                "must be a time such as 2030-01-31T12:00:00Z (RFC 3339)",
            )),
            Ok(_) if !dismissed => {
                errors.push(FieldError::new("expires_at", "only a dismissal ends; leave it out"));
            }
            Ok(at) if at.as_microsecond() <= db::now() => {
                errors.push(FieldError::new("expires_at", "must lie in the future"));
            }
            Ok(at) => expires_at = Some(at.as_microsecond()),
        }
    }
    if errors.is_empty() {
        Ok(Triage { status: body.status, reason: body.reason, comment, expires_at })
    } else {
        Err(ApiError::invalid(errors))
    }
}

#[cfg(test)]
mod tests;
