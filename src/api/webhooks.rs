//! Webhooks: who is told of what happens in a project.
//!
//! A webhook is made in its project and then has an address of its own, as with Stripe.
//! Messages are signed as Standard Webhooks says (see [`crate::webhooks`]); the secret
//! is shown when it is made, and when it is rotated, and never again. A message is
//! tried at once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h;
//! an answer of 2xx takes it, 410 disables the webhook, and so do five days without a
//! success. Redirects are not followed.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, Problem, Result};
use super::extract::{Id, Ids, Json, Query};
use super::fields::{Check, Text};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::db::webhooks::{self, Delivery, Event, MAX_WEBHOOKS, Wanted, Webhook};
use crate::db::{Tx, new_id, projects};
use crate::server::App;
use crate::webhooks::SigningSecret;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, update, remove))
        .routes(routes!(rotate))
        .routes(routes!(ping))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
        .routes(routes!(redeliver))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
struct Row {
    id: Uuid,
    project_id: Uuid,
    url: String,
    description: String,
    events: Vec<Event>,
    enabled: bool,
    /// Why the server disabled it.
    disabled_reason: Option<String>,
    /// Since when every try has failed.
    failing_since: Option<Time>,
    created_at: Time,
    updated_at: Time,
    /// Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Webhook> for Row {
    fn from(row: Webhook) -> Self {
        Self {
            id: row.id,
            project_id: row.project_id,
            url: row.url,
            description: row.description,
            events: row.events.0,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason,
            failing_since: row.failing_since.map(Time),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
            secret: None,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
struct Shown {
    id: Uuid,
    webhook_id: Uuid,
    /// The header `webhook-id`, the same for a redelivery.
    message_id: Uuid,
    event: String,
    /// `pending`, `delivered` or `failed`.
    status: String,
    attempts: i64,
    next_attempt_at: Option<Time>,
    last_attempt_at: Option<Time>,
    response_status: Option<i64>,
    /// The first 4 KiB of the last answer.
    response_body: Option<String>,
    duration_ms: Option<i64>,
    error: Option<String>,
    #[schema(value_type = Object)]
    payload: serde_json::Value,
    created_at: Time,
}

impl From<Delivery> for Shown {
    fn from(row: Delivery) -> Self {
        Self {
            id: row.id,
            webhook_id: row.webhook_id,
            message_id: row.message_id,
            event: row.event,
            status: row.status,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at.map(Time),
            last_attempt_at: row.last_attempt_at.map(Time),
            response_status: row.response_status,
            response_body: row.response_body,
            duration_ms: row.duration_ms,
            error: row.error,
            payload: serde_json::from_str(&row.payload).unwrap_or_default(),
            created_at: row.created_at.into(),
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookInput, example = json!({
    "url": "https://example.org/hooks/sluice", "events": ["scan.completed", "finding.new"],
}))]
struct Put {
    /// Where messages go: `https`, a public address.
    #[schema(min_length = 9, max_length = 2048, pattern = "^https?://")]
    url: String,
    /// None twice.
    #[schema(value_type = Vec<Event>, min_items = 1, max_items = 3)]
    events: Vec<String>,
    #[schema(value_type = Option<Text>)]
    description: Option<String>,
    /// Left out: true. To enable it forgets past failures.
    enabled: Option<bool>,
}

fn check(app: &App, body: Put) -> Result<Wanted> {
    let mut check = Check::default();
    let description = check.text("description", body.description.as_deref());
    if let Err(error) = app.guard.check_url(&body.url) {
        check.refuse("url", error.to_string());
    } else if body.url.contains('#') {
        check.refuse("url", "must not have a fragment: it is never sent");
    }
    if body.events.is_empty() || body.events.len() > Event::ALL.len() {
        check.refuse("events", format!("must be 1 to {} events", Event::ALL.len()));
    }
    let mut events: Vec<Event> = Vec::new();
    for (n, name) in body.events.iter().enumerate().take(Event::ALL.len()) {
        match name.parse::<Event>().ok() {
            Some(event) if events.contains(&event) => {
                check.refuse(&format!("events[{n}]"), "stands there twice");
            }
            Some(event) => events.push(event),
            None => check.refuse(
                &format!("events[{n}]"),
                "must be upload.ready, scan.completed or finding.new",
            ),
        }
    }
    check.done()?;
    Ok(Wanted { url: body.url, description, events, enabled: body.enabled.unwrap_or(true) })
}

fn no_webhook() -> ApiError {
    ApiError::not_found("webhook")
}

/// The webhooks of a project
///
/// Newest first. Their secrets are never shown again.
#[utoipa::path(get, path = "/v1/projects/{project_id}/webhooks", tag = "Webhooks", operation_id = "list_webhooks",
    params(PageQuery), responses((status = OK, description = "A page of webhooks.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let (limit, after) = (query.limit()?, query.after()?);
    if projects::get(&app.db, caller.user_id, project_id).await?.is_none() {
        return Err(ApiError::not_found("project"));
    }
    let rows = webhooks::list(&app.db, caller.user_id, project_id, after, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Row::from))
}

/// Make a webhook
///
/// The answer holds the secret that signs the messages (Standard Webhooks), shown this
/// once. A project has at most 20 webhooks.
#[utoipa::path(post, path = "/v1/projects/{project_id}/webhooks", tag = "Webhooks", operation_id = "create_webhook",
    request_body = Put, responses((status = CREATED, description = "The new webhook, with its secret.", body = Row)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    Json(body): Json<Put>,
) -> Result<Response> {
    let wanted = check(&app, body)?;
    let (id, secret) = (new_id(), SigningSecret::generate());
    let sealed = secret.seal(&app.keys.webhooks(), id).map_err(ApiError::internal)?;
    let mut tx = app.db.begin().await?;
    let webhook = webhooks::create(&mut tx, caller.user_id, project_id, id, &wanted, sealed)
        .await?
        .ok_or_else(|| ApiError::not_found("project"))?
        .ok_or_else(|| {
            ApiError::quota_exceeded(format!(
                "A project has at most {MAX_WEBHOOKS} webhooks; delete one first."
            ))
        })?;
    tx.commit().await?;
    let row = Row { secret: Some(secret.reveal()), ..webhook.into() };
    let mut response = (StatusCode::CREATED, axum::Json(row)).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("/v1/webhooks/{id}")) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<Webhook> {
    webhooks::get(&app.db, caller.user_id, id).await?.ok_or_else(no_webhook)
}

/// One webhook
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "get_webhook",
    responses((status = OK, description = "The webhook.", body = Row)))]
async fn read(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<axum::Json<Row>> {
    Ok(axum::Json(find(&app, &caller, id).await?.into()))
}

/// Change a webhook
///
/// Replaces everything but the secret. To enable it forgets past failures.
#[utoipa::path(put, path = "/v1/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "update_webhook",
    request_body = Put, responses((status = OK, description = "The webhook as it is now.", body = Row)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<Put>,
) -> Result<axum::Json<Row>> {
    let wanted = check(&app, body)?;
    let mut tx = app.db.begin().await?;
    let webhook =
        webhooks::update(&mut tx, caller.user_id, id, &wanted).await?.ok_or_else(no_webhook)?;
    tx.commit().await?;
    Ok(axum::Json(webhook.into()))
}

/// Delete a webhook
///
/// With its deliveries; nothing more is sent.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "delete_webhook",
    responses((status = NO_CONTENT, description = "Deleted.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    let mut tx = app.db.begin().await?;
    if !webhooks::delete(&mut tx, caller.user_id, id).await? {
        return Err(no_webhook());
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a webhook another secret
///
/// Shown this once. The one before signs too for 24 hours.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/rotate-secret", tag = "Webhooks", operation_id = "rotate_webhook_secret",
    responses((status = OK, description = "The webhook, with its new secret.", body = Row)))]
async fn rotate(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<axum::Json<Row>> {
    let secret = SigningSecret::generate();
    let sealed = secret.seal(&app.keys.webhooks(), id).map_err(ApiError::internal)?;
    let mut tx = app.db.begin().await?;
    let webhook =
        webhooks::rotate(&mut tx, caller.user_id, id, sealed).await?.ok_or_else(no_webhook)?;
    tx.commit().await?;
    Ok(axum::Json(Row { secret: Some(secret.reveal()), ..webhook.into() }))
}

/// 202 with a delivery that a job will try.
fn accepted(delivery: Option<Delivery>) -> Result<Response> {
    let delivery = delivery.ok_or_else(no_webhook)?;
    Ok((StatusCode::ACCEPTED, axum::Json(Shown::from(delivery))).into_response())
}

/// # Errors
///
/// 409 if the webhook takes no message by hand now.
async fn takes(tx: &mut Tx, webhook: &Webhook) -> Result<()> {
    if !webhook.enabled {
        return Err(ApiError::conflict("disabled", "The webhook is disabled: enable it first."));
    }
    if webhooks::is_full(tx, webhook.id).await? {
        return Err(ApiError::conflict(
            "too_many_pending",
            "Many messages wait for this webhook already: wait until its receiver takes them.",
        ));
    }
    Ok(())
}

/// Send a test message
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/ping", tag = "Webhooks", operation_id = "ping_webhook",
    responses((status = ACCEPTED, description = "The delivery, which is tried at once.", body = Shown),
        (status = CONFLICT, description = "The webhook is disabled, or 100 messages wait for it, or a request with this `Idempotency-Key` is still running.", body = Problem, content_type = "application/problem+json")))]
async fn ping(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<Response> {
    let webhook = find(&app, &caller, id).await?;
    let mut tx = app.db.begin().await?;
    takes(&mut tx, &webhook).await?;
    let delivery = webhooks::ping(&mut tx, &webhook).await?;
    tx.commit().await?;
    accepted(delivery)
}

/// What was sent to a webhook
///
/// Newest first; kept for 30 days.
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}/deliveries", tag = "Webhooks", operation_id = "list_webhook_deliveries",
    params(PageQuery), responses((status = OK, description = "A page of deliveries.", body = Page<Shown>)))]
async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Shown>> {
    let (limit, after) = (query.limit()?, query.after()?);
    find(&app, &caller, id).await?;
    let rows = webhooks::deliveries(&app.db, caller.user_id, id, after, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Shown::from))
}

/// One delivery
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}", tag = "Webhooks", operation_id = "get_webhook_delivery",
    responses((status = OK, description = "The delivery.", body = Shown)))]
async fn delivery(
    State(app): State<App>,
    caller: Caller,
    Ids(id, delivery_id): Ids,
) -> Result<axum::Json<Shown>> {
    let row = webhooks::delivery(&app.db, caller.user_id, id, delivery_id)
        .await?
        .ok_or_else(|| ApiError::not_found("delivery"))?;
    Ok(axum::Json(row.into()))
}

/// Send a message again
///
/// As a new delivery with the same `webhook-id`.
#[utoipa::path(post, path = "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", tag = "Webhooks", operation_id = "redeliver_webhook_delivery",
    responses((status = ACCEPTED, description = "The new delivery, which is tried at once.", body = Shown),
        (status = CONFLICT, description = "The webhook is disabled, or 100 messages wait for it, or a request with this `Idempotency-Key` is still running.", body = Problem, content_type = "application/problem+json")))]
async fn redeliver(
    State(app): State<App>,
    caller: Caller,
    Ids(id, delivery_id): Ids,
) -> Result<Response> {
    let webhook = find(&app, &caller, id).await?;
    let mut tx = app.db.begin().await?;
    let row = webhooks::delivery(&mut tx, caller.user_id, id, delivery_id)
        .await?
        .ok_or_else(|| ApiError::not_found("delivery"))?;
    takes(&mut tx, &webhook).await?;
    let again = webhooks::redeliver(&mut tx, &row).await?;
    tx.commit().await?;
    accepted(again)
}

#[cfg(test)]
mod tests;
