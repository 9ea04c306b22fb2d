//! Removes stored objects that no row refers to any more.

use serde::Deserialize;

use crate::bare;
use crate::db::jobs::{self, End};
use crate::queue::{JobContext, JobError};

#[derive(Debug, Deserialize)]
struct Payload {
    prefixes: Vec<String>,
}

pub(super) async fn run(context: &JobContext) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let payload: Payload = serde_json::from_value(job.payload.clone())
        .map_err(|error| JobError::Transient(error.into()))?;
    for prefix in &payload.prefixes {
        if context.cancel.is_cancelled() {
            return Err(JobError::Stopped);
        }
        app.storage.delete_prefix(prefix).await.map_err(anyhow::Error::from)?;
        // The packs of an upload are also at hand in a folder.
        if let Some(upload) = prefix.strip_prefix("packs/")
            && let Ok(id) = upload.trim_end_matches('/').parse()
        {
            bare::forget(app, id).await.map_err(anyhow::Error::from)?;
        }
    }
    let mut tx = app.db.begin().await?;
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    Ok(tx.commit().await?)
}
