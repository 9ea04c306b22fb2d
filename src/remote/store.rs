//! The way into the store of a repository whose code is not pushed.
//!
//! What a job brings in goes the way of a push, from the first byte to the last check:
//! firewall, quarantine, index, objects, closure, storage, and one transaction. So there
//! is one such way, and nothing that a push could not do can be done here.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use sluice_git::refs::reason;
use sluice_git::{Access, Command, ObjectId, Refusal, Service, ServiceConfig, pkt};

use super::upload::UploadRepository;
use crate::db::uploads::{self, Upload};
use crate::server::App;

/// What is brought in besides the pack.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// At least one that does not delete.
    pub(crate) commands: Vec<Command>,
    /// Commits that come without their parents.
    pub(crate) shallow: Vec<ObjectId>,
    /// The ref that is to be ingested.
    pub(crate) wanted: String,
}

/// Why it was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// What came is at fault; a sentence without its full stop.
    #[error("{0}")]
    Refused(String),
    /// This server is, for now.
    #[error("{0}")]
    Failed(String),
}

/// Opens one store.
#[derive(Debug, Clone)]
struct Gate {
    app: App,
    upload: Upload,
    wanted: String,
}

impl sluice_git::Remote for Gate {
    type Repo = UploadRepository;

    async fn open(&self, _: Access) -> Result<UploadRepository, Refusal> {
        Ok(UploadRepository::internal(self.app.clone(), self.upload.clone(), self.wanted.clone()))
    }
}

/// Most bytes of a report that are read; it is this server's own.
const REPORT: usize = 1 << 20;

/// Takes commands and pack into the store. Dropping the future takes nothing, unless the
/// commit has begun, which then ends on its own.
pub(crate) async fn bring<E>(
    app: &App,
    store: &Upload,
    incoming: Incoming,
    pack: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Result<(), NotTaken>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let head = futures::stream::iter([Ok(commands(&incoming))]);
    // It is asked again after its end, which not every stream bears.
    let body = head.chain(pack).fuse().map(|chunk| chunk.map(http_body::Frame::data));
    let gate = Gate { app: app.clone(), upload: store.clone(), wanted: incoming.wanted };
    let limits = &app.config.limits;
    let config = ServiceConfig {
        concurrent_receives: 1,
        // The other side's silence is bounded where it is read.
        idle_timeout: std::time::Duration::from_secs(limits.fetch_seconds),
        ..ServiceConfig::default()
    };
    let failed = |error: String| NotTaken::Failed(error);
    let request = axum::http::Request::post("/store.git/git-receive-pack")
        .header("content-type", "application/x-git-receive-pack-request")
        .body(StreamBody::new(body))
        .map_err(|error| failed(error.to_string()))?;
    let response = Service::new(gate, config).handle(request).await;
    let status = response.status();
    let report = http_body_util::Limited::new(response.into_body(), REPORT)
        .collect()
        .await
        .map_err(|error| failed(error.to_string()))?
        .to_bytes();
    if status != axum::http::StatusCode::OK {
        let text = String::from_utf8_lossy(&report).trim().to_owned();
        return Err(failed(format!("{status}: {text}")));
    }
    verdict(&report)
}

/// The command section of a push.
fn commands(incoming: &Incoming) -> Bytes {
    let mut out = BytesMut::new();
    for oid in &incoming.shallow {
        pkt::line(&mut out, format!("shallow {oid}\n").as_bytes());
    }
    let mut capabilities = "\0 report-status atomic";
    for Command { old, new, name } in &incoming.commands {
        pkt::line(&mut out, format!("{old} {new} {name}{capabilities}").as_bytes());
        capabilities = "";
    }
    pkt::flush(&mut out);
    out.freeze()
}

/// Reads the report of a push.
fn verdict(mut report: &[u8]) -> Result<(), NotTaken> {
    let mut unpacked = false;
    while let Ok(Some((pkt::Packet::Line(line), length))) = pkt::decode(report) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        match line.split_once(' ') {
            Some(("unpack", "ok")) => unpacked = true,
            Some(("unpack", why)) => return Err(NotTaken::Refused(why.to_owned())),
            Some(("ng", rest)) => {
                let why = rest.split_once(' ').map_or(rest, |(_, why)| why).to_owned();
                let theirs = [
                    reason::MISSING_OBJECTS,
                    reason::INVALID_VALUE,
                    reason::FUNNY_NAME,
                    uploads::push::NO_ROOM,
                ];
                let at_fault = theirs.contains(&why.as_str());
                return Err(if at_fault { NotTaken::Refused(why) } else { NotTaken::Failed(why) });
            }
            _ => {}
        }
        report = &report[length..];
    }
    if unpacked { Ok(()) } else { Err(NotTaken::Failed("there is no report".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Result<(), NotTaken> {
        let mut out = BytesMut::new();
        for line in lines {
            pkt::line(&mut out, line.as_bytes());
        }
        pkt::flush(&mut out);
        verdict(&out)
    }

    #[test]
    fn a_report_says_whose_fault_it_is() {
        assert!(report(&["unpack ok\n", "ok refs/heads/main\n"]).is_ok());
        let refused = report(&["unpack the pack is damaged\n", "ng refs/heads/main unpacker\n"]);
        assert!(matches!(refused, Err(NotTaken::Refused(why)) if why == "the pack is damaged"));
        let missing = format!("ng refs/heads/main {}\n", reason::MISSING_OBJECTS);
        assert!(matches!(report(&["unpack ok\n", &missing]), Err(NotTaken::Refused(_))));
        let ours = report(&["unpack ok\n", "ng refs/heads/main try again\n"]);
        assert!(matches!(ours, Err(NotTaken::Failed(why)) if why == "try again"));
        assert!(matches!(report(&[]), Err(NotTaken::Failed(_))));
    }
}
