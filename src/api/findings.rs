//! Findings: lists with filters, triage of one and of many.
//!
//! Triage of many takes ids (all of them in one transaction) or a filter, which may
//! name any number and is worked off in steps of 1,000, each a transaction of its own:
//! see [`crate::db::findings`]. A finding that has the status, the reason and the end
//! already is `unchanged`, and no comment is noted for it.

mod query;

use std::collections::HashMap;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, FieldError, Result};
use super::extract::{Id, Ids, Json, QueryPairs, uuid};
use super::fields::{Ahead, Comment};
use super::page::{self, Page};
use super::time::Time;
use crate::db;
use crate::db::findings::{
    Filter, FindingRow, HistoryRow, Key, Reason, Scope, State as SeenState, Status, Triage,
};
use crate::scan::{Confidence, EngineKind, FlowStep, Location, PackageRef, Severity};
use crate::server::App;
use query::{Asked, FindingQuery, MAX_VALUE, name_values};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(triage_many))
        .routes(routes!(show, triage))
        .routes(routes!(list_of_project))
}

/// Most ids of one triage.
const MAX_IDS: usize = 1_000;
/// Longest comment, in characters.
const MAX_COMMENT: usize = 2_000;

#[derive(Serialize, ToSchema)]
struct Finding {
    id: Uuid,
    repository_id: Uuid,
    project_id: Uuid,
    fingerprint: String,
    #[schema(value_type = EngineKind)]
    engine: String,
    rule_id: String,
    title: String,
    description: String,
    #[schema(value_type = Severity)]
    severity: String,
    #[schema(value_type = Confidence)]
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
    #[schema(minimum = 0, maximum = 100)]
    priority: i64,
    first_seen_scan_id: Uuid,
    last_seen_scan_id: Uuid,
    first_seen_at: Time,
    last_seen_at: Time,
    /// When a dismissal ends.
    expires_at: Option<Time>,
    history: Vec<Change>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FindingChange)]
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

/// The findings of a repository
///
/// A filter may be given several times or comma-separated. While `next_cursor` is not
/// null there may be more, however few rows a page has: with `q`, wild cards in `path`
/// or rare combinations of filters it looks at 10,000 findings and then says where to
/// go on.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/findings", tag = "Findings", operation_id = "list_findings",
    params(FindingQuery), responses((status = OK, description = "A page of findings.", body = Page<Finding>)))]
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

/// The findings of all repositories of a project
///
/// A filter may be given several times or comma-separated. While `next_cursor` is not
/// null there may be more, however few rows a page has: with `q`, wild cards in `path`
/// or rare combinations of filters it looks at 10,000 findings and then says where to
/// go on.
#[utoipa::path(get, path = "/v1/projects/{project_id}/findings", tag = "Projects", operation_id = "list_project_findings",
    params(FindingQuery), responses((status = OK, description = "A page of findings.", body = Page<Finding>)))]
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
    let db::findings::Found { rows, next } =
        db::findings::list(&app.db, owner, scope, filter, sort, after.as_ref(), limit).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut histories: HashMap<Uuid, Vec<HistoryRow>> = HashMap::new();
    for change in db::findings::history(&app.db, &ids).await? {
        histories.entry(change.finding_id).or_default().push(change);
    }
    let items = rows
        .into_iter()
        .map(|row| {
            let history = histories.remove(&row.id).unwrap_or_default();
            Finding::new(row, history)
        })
        .collect();
    let page = Page::with_cursor(uri, items, next.as_ref().map(page::encode_cursor));
    Ok(page.into_response())
}

/// One finding
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/findings/{finding_id}", tag = "Findings", operation_id = "get_finding",
    responses((status = OK, description = "The finding.", body = Finding)))]
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

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Triage, example = json!({"status": "dismissed", "reason": "accepted_risk", "comment": "Only reachable inside."}))]
struct Put {
    status: Status,
    /// A dismissal needs one; `inline` is kept for comments in the source.
    reason: Option<Reason>,
    #[schema(value_type = Option<Comment>)]
    comment: Option<String>,
    /// When a dismissal ends and the finding is open again; in the future.
    #[schema(value_type = Option<Ahead>)]
    expires_at: Option<String>,
}

/// Decide on a finding
///
/// The decision is kept from scan to scan, and with who took it in the history.
#[utoipa::path(put, path = "/v1/repositories/{repo_id}/findings/{finding_id}", tag = "Findings", operation_id = "triage_finding",
    request_body = Put, responses((status = OK, description = "The finding as it is now.", body = Finding)))]
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriageMany, example = json!({
    "filter": {"path": "tests/"}, "status": "dismissed", "reason": "used_in_tests",
}))]
struct Many {
    /// Ids of findings of the repository; either these or `filter`.
    #[schema(value_type = Option<Vec<Uuid>>, min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
    filter: Option<Named>,
    status: Status,
    /// A dismissal needs one; `inline` is kept for comments in the source.
    reason: Option<Reason>,
    #[schema(value_type = Option<Comment>)]
    comment: Option<String>,
    /// When a dismissal ends and the findings are open again; in the future.
    #[schema(value_type = Option<Ahead>)]
    expires_at: Option<String>,
}

/// The filter of a triage: the filters of a list, each with one value or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FindingFilter, min_properties = 1)]
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

#[derive(Debug, Deserialize, ToSchema)]
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

#[derive(Debug, Serialize, ToSchema)]
struct Triaged {
    /// Findings that changed.
    updated: u64,
    /// Findings that were already so.
    unchanged: u64,
    /// Ids that the repository does not have.
    not_found: Vec<Uuid>,
}

/// Decide on many findings
///
/// By ids, all or nothing; or by a filter with at least one field, each with one value
/// or several. A filter may name any number of findings and is worked off in steps of
/// 1,000: if the request breaks off, whole steps are done, and the same request does
/// the rest.
#[utoipa::path(post, path = "/v1/repositories/{repo_id}/findings/triage", tag = "Findings", operation_id = "triage_findings",
    request_body = Many, responses((status = OK, description = "How many changed.", body = Triaged)))]
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
