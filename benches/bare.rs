//! The floor that `benches/run api` holds the server against: one axum route that
//! makes the same read of a repository through the same pool and answers the same
//! fields as JSON. No callers, limits, tags, metrics, request ids or log lines.
//!
//!   bare DATABASE_URL OWNER_ID     prints the address it listens on

use std::error::Error;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use sluice::db::Db;
use sluice::db::repositories::{self, Language, OpenFindings};
use uuid::Uuid;

#[derive(Serialize)]
struct Row {
    id: Uuid,
    project_id: Uuid,
    name: String,
    description: String,
    source_type: String,
    source_url: Option<String>,
    ingest_status: String,
    ingest_error: Option<repositories::Failure>,
    default_branch: Option<String>,
    head_commit: Option<String>,
    snapshot: Option<Snapshot>,
    languages: Vec<Language>,
    open_findings: OpenFindings,
    last_scan: Option<Scan>,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
struct Snapshot {
    id: Uuid,
    commit: Option<String>,
    file_count: i64,
    total_bytes: i64,
    created_at: String,
}

#[derive(Serialize)]
struct Scan {
    id: Uuid,
    status: String,
    finished_at: Option<String>,
}

fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|t| format!("{t:.6}")).unwrap_or_default()
}

async fn read(
    State((db, owner)): State<(Db, Uuid)>,
    Path(id): Path<Uuid>,
) -> Result<Json<Row>, StatusCode> {
    let found = repositories::get(&db, owner, id).await;
    let row = found.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Row {
        ingest_error: row.ingest_error().cloned(),
        snapshot: row.snapshot().map(|snapshot| Snapshot {
            id: snapshot.id,
            commit: snapshot.commit,
            file_count: snapshot.file_count,
            total_bytes: snapshot.total_bytes,
            created_at: time(snapshot.created_at),
        }),
        languages: row.languages().to_vec(),
        last_scan: row.last_scan().map(|scan| Scan {
            id: scan.id,
            status: scan.status,
            finished_at: scan.finished_at.map(time),
        }),
        id: row.id,
        project_id: row.project_id,
        name: row.name,
        description: row.description,
        source_type: row.source_type,
        source_url: row.source_url,
        ingest_status: row.ingest_status,
        default_branch: row.default_branch,
        head_commit: row.head_commit,
        open_findings: row.open_findings,
        created_at: time(row.created_at),
        updated_at: time(row.updated_at),
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(owner)) = (arguments.next(), arguments.next()) else {
        return Err("bare DATABASE_URL OWNER_ID".into());
    };
    let state = (Db::open(&url).await?, owner.parse()?);
    let router = axum::Router::new().route("/{id}", get(read)).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}
