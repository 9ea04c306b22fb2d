//! Projects.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, Result};
use super::extract::{Id, Json, Query};
use super::fields::{Check, Name, Text};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::db::projects::{self, Project, Rollup};
use crate::db::repositories::OpenFindings;
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, update, remove))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Project)]
struct Row {
    id: Uuid,
    name: String,
    description: String,
    repository_count: i64,
    created_at: Time,
    updated_at: Time,
}

impl From<Project> for Row {
    fn from(project: Project) -> Self {
        Self {
            id: project.id,
            name: project.name,
            description: project.description,
            repository_count: project.repository_count,
            created_at: Time(project.created_at),
            updated_at: Time(project.updated_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProjectWithRollup)]
struct Whole {
    #[serde(flatten)]
    row: Row,
    scan_rollup: ScanRollup,
}

#[derive(Serialize, ToSchema)]
struct ScanRollup {
    total: i64,
    by_status: BTreeMap<String, i64>,
    last_scan_at: Option<Time>,
    open_findings: OpenFindings,
}

impl From<Rollup> for ScanRollup {
    fn from(rollup: Rollup) -> Self {
        // Every status is there, so that a reader need not guess what is missing.
        let mut by_status: BTreeMap<String, i64> =
            ["queued", "running", "completed", "failed", "cancelled"]
                .map(|status| (status.to_owned(), 0))
                .into();
        by_status.extend(rollup.by_status);
        Self {
            total: by_status.values().sum(),
            by_status,
            last_scan_at: rollup.last_scan_at.map(Time),
            open_findings: rollup.open_findings,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectInput, example = json!({"name": "Payments", "description": "All that touches cards."}))]
struct Write {
    /// White space around it is taken off.
    #[schema(value_type = Name)]
    name: String,
    /// A text for people, perhaps of several lines.
    #[schema(value_type = Option<Text>)]
    description: Option<String>,
}

impl Write {
    /// Name and description.
    fn check(&self) -> Result<(String, String)> {
        let mut check = Check::default();
        let name = check.name("name", &self.name);
        let description = check.text("description", self.description.as_deref());
        check.done()?;
        Ok((name, description))
    }
}

/// The caller's projects
///
/// Newest first.
#[utoipa::path(get, path = "/v1/projects", tag = "Projects", operation_id = "list_projects",
    params(PageQuery), responses((status = OK, description = "A page of projects.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let limit = query.limit()?;
    let rows = projects::list(&app.db, caller.user_id, query.after()?, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Row::from))
}

/// Make a project
#[utoipa::path(post, path = "/v1/projects", tag = "Projects", operation_id = "create_project",
    request_body = Write, responses((status = CREATED, description = "The new project.", body = Whole)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<Write>,
) -> Result<(StatusCode, axum::Json<Whole>)> {
    let (name, description) = body.check()?;
    let limit = app.config.limits.projects;
    let mut tx = app.db.begin().await?;
    if projects::count(&mut tx, caller.user_id).await?.cast_unsigned() >= limit {
        return Err(ApiError::quota_exceeded(format!(
            "An account has at most {limit} projects; delete one that is no longer used."
        )));
    }
    let project = projects::create(&mut tx, caller.user_id, &name, &description).await?;
    tx.commit().await?;
    let whole = Whole { row: project.into(), scan_rollup: Rollup::default().into() };
    Ok((StatusCode::CREATED, axum::Json(whole)))
}

/// One project
///
/// With the state of its scans and the open findings of all its repositories.
#[utoipa::path(get, path = "/v1/projects/{project_id}", tag = "Projects", operation_id = "get_project",
    responses((status = OK, description = "The project.", body = Whole)))]
async fn read(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<axum::Json<Whole>> {
    let project = projects::get(&app.db, caller.user_id, id)
        .await?
        .ok_or_else(|| ApiError::not_found("project"))?;
    whole(&app, project).await
}

/// Rename or describe a project
///
/// Replaces both fields; a description that is left out becomes empty.
#[utoipa::path(put, path = "/v1/projects/{project_id}", tag = "Projects", operation_id = "update_project",
    request_body = Write, responses((status = OK, description = "The project as it is now.", body = Whole)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<Write>,
) -> Result<axum::Json<Whole>> {
    let (name, description) = body.check()?;
    let mut tx = app.db.begin().await?;
    let project = projects::update(&mut tx, caller.user_id, id, &name, &description)
        .await?
        .ok_or_else(|| ApiError::not_found("project"))?;
    tx.commit().await?;
    whole(&app, project).await
}

/// Delete a project and everything below it
///
/// Stored objects included; what runs is cancelled.
#[utoipa::path(delete, path = "/v1/projects/{project_id}", tag = "Projects", operation_id = "delete_project",
    responses((status = NO_CONTENT, description = "Deleted.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    if projects::delete(&app.db, caller.user_id, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("project"))
    }
}

async fn whole(app: &App, project: Project) -> Result<axum::Json<Whole>> {
    let rollup = projects::rollup(&app.db, &project).await?;
    Ok(axum::Json(Whole { row: project.into(), scan_rollup: rollup.into() }))
}

#[cfg(test)]
mod tests;
