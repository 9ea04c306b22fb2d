//! The temporary folder of the demo, and the signals that end it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A folder that is removed by [`Folder::remove`], when it is dropped, and by a second
/// signal, which ends the process at once.
pub(super) struct Folder {
    dir: TempDir,
}

/// How often the folder is removed again if that did not work.
const TRIES: u32 = 20;
/// Time between two tries.
const BETWEEN: Duration = Duration::from_millis(100);

impl Folder {
    /// Makes the folder. From now on a signal sets `stop`.
    pub(super) fn new(stop: CancellationToken) -> anyhow::Result<Self> {
        // First the signals, so that there is no moment in which one leaves the folder.
        let signals = Signals::new().context("cannot listen to signals")?;
        let dir = tempfile::Builder::new()
            .prefix("sluice-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        tokio::spawn(signals.obey(stop, dir.path().to_owned()));
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the folder with all that is in it. A thread that is just being stopped may
    /// still write, so that more than one try may be needed.
    pub(super) async fn remove(self) {
        let path = self.dir.path().to_owned();
        for _ in 0..TRIES {
            match tokio::fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tokio::time::sleep(BETWEEN).await;
                }
                _ => return,
            }
        }
        eprintln!("sluice: the temporary folder {} could not be removed", path.display());
    }
}

/// The signals by which a person, a system or a closing terminal ends a command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    async fn obey(mut self, stop: CancellationToken, folder: PathBuf) {
        self.next().await;
        stop.cancel();
        self.next().await;
        let _ = std::fs::remove_dir_all(folder);
        std::process::exit(i32::from(super::INTERRUPTED));
    }
}
