//! What a worker does, free of HTTP.

pub mod results;
pub mod source;

use crate::queue::{JobContext, JobError};
use crate::server::App;

/// Runs a claimed job. The outcome and the end of the job are written in one
/// transaction by the job itself.
pub async fn run(context: JobContext) -> Result<(), JobError> {
    drop(context);
    Err(JobError::Stopped)
}

/// Somebody wished it to stop.
pub async fn cancelled(_context: &JobContext) -> crate::db::Result<()> {
    Ok(())
}

/// It failed for good.
pub async fn failed(_context: &JobContext, _code: &str, _message: &str) -> crate::db::Result<()> {
    Ok(())
}

/// What is due now and then.
pub async fn sweep(_app: &App) -> crate::db::Result<()> {
    Ok(())
}
