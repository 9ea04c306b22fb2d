//! Artefacts of scans: rows only, the bytes lie in storage.

use uuid::Uuid;

use super::{Args, Conn, Result, Tx, args, statements};

/// An artefact.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Artifact {
    /// The scan that made it.
    pub scan_id: Uuid,
    /// File name, e.g. `results.sarif`.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// Bytes.
    pub size: i64,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
    /// Where the bytes lie.
    pub storage_key: String,
}

statements! {
    PUT = "INSERT INTO scan_artifacts (scan_id, name, content_type, size, sha256, storage_key) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scan_id, name) DO UPDATE SET \
           content_type = $3, size = $4, sha256 = $5, storage_key = $6";
    GET = "SELECT a.scan_id, a.name, a.content_type, a.size, a.sha256, a.storage_key \
           FROM scan_artifacts a JOIN scans s ON s.id = a.scan_id \
           WHERE a.scan_id = $1 AND a.name = $2 AND s.repository_id = $3 AND s.owner_id = $4";
}

/// Notes an artefact; one of the same name is replaced. Its bytes are in storage
/// already, so a row never promises what is not there.
pub async fn put(tx: &mut Tx, artifact: &Artifact) -> Result<()> {
    tx.execute(
        PUT,
        args![
            artifact.scan_id,
            &artifact.name,
            &artifact.content_type,
            artifact.size,
            &artifact.sha256,
            &artifact.storage_key,
        ],
    )
    .await?;
    tx.wake(artifact.scan_id);
    Ok(())
}

/// The artefacts of these scans, by name. Who asks has made sure that the scans
/// belong to the caller.
pub async fn of_scans(conn: impl Into<Conn<'_>>, scans: &[Uuid]) -> Result<Vec<Artifact>> {
    if scans.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = Args::default();
    let scans: Vec<String> = scans.iter().map(|id| args.add(id)).collect();
    let sql = format!(
        "SELECT scan_id, name, content_type, size, sha256, storage_key FROM scan_artifacts \
         WHERE scan_id IN ({}) ORDER BY scan_id, name",
        scans.join(", ")
    );
    conn.into().fetch_filtered(&sql, args).await
}

/// One artefact of this owner.
pub async fn get(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    repository_id: Uuid,
    scan_id: Uuid,
    name: &str,
) -> Result<Option<Artifact>> {
    conn.into().fetch_optional(GET, args![scan_id, name, repository_id, owner_id]).await
}
