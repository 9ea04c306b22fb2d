//! An answer while it is being made: messages, keepalives, a pack, and the report at the end.
//!
//! The response begins when the pack is complete, long before it is known what becomes of it.
//! [`Answer`] is its body. It is fed through a small channel; while nothing is sent it yields an
//! empty side-band packet every few seconds, so that no proxy between takes the silence for death.
//! If the body is dropped before the end, the client is gone, and the flag that all work watches is
//! set. If the sender is dropped before the end, the body fails instead of ending as if all was said.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};

use crate::pkt::{self, Band};

/// An empty packet on band 1: nothing is said, but something is sent.
const KEEPALIVE: &[u8] = b"0005\x01";

/// A client that does not read its messages for this long gets no more of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last bytes wait for a client that does not read.
const LAST_PATIENCE: Duration = Duration::from_mins(2);

enum Part {
    More(Bytes),
    Last(Bytes),
}

/// The writing end.
pub(crate) struct Sender {
    parts: mpsc::Sender<Part>,
}

impl Sender {
    /// Ends the answer.
    pub async fn finish(self, last: Bytes) {
        let _ = timeout(LAST_PATIENCE, self.parts.send(Part::Last(last))).await;
    }

    /// Sends a part, once there is room for it; false if the client is gone.
    pub async fn part(&self, bytes: Bytes) -> bool {
        self.parts.send(Part::More(bytes)).await.is_ok()
    }

    /// A handle for messages that go to the person who pushed.
    pub fn messages(&self, side_band: bool, quiet: bool) -> Messages {
        Messages { parts: side_band.then(|| self.parts.clone()), quiet }
    }

    /// Completes when the client is gone.
    pub async fn closed(&self) {
        self.parts.closed().await;
    }

    pub fn is_closed(&self) -> bool {
        self.parts.is_closed()
    }
}

/// Shows lines to the person who pushed: git prints each after `remote: `.
///
/// Without `side-band-64k` nothing can be shown, and lines are dropped. Messages never hold up the
/// work: a client that does not read for ten seconds gets no more of them.
#[derive(Debug, Clone)]
pub struct Messages {
    parts: Option<mpsc::Sender<Part>>,
    quiet: bool,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Part")
    }
}

impl Messages {
    /// Shows progress, which `git push --quiet` suppresses, and so does git by itself when its
    /// output is not a terminal: what must be read belongs to [`Self::say`]. One or more lines.
    pub async fn progress(&mut self, text: &str) {
        if !self.quiet {
            self.say(text).await;
        }
    }

    /// Completes when the client is gone; never for one that cannot be shown anything.
    pub async fn closed(&self) {
        match &self.parts {
            Some(parts) => parts.closed().await,
            None => std::future::pending().await,
        }
    }

    /// Shows a result or an error, quiet or not. One or more lines; control characters are removed,
    /// since what is quoted from a repository must not reach a terminal.
    pub async fn say(&mut self, text: &str) {
        let Some(parts) = &self.parts else {
            return;
        };
        let packet = Part::More(encode(text));
        if !matches!(timeout(PATIENCE, parts.send(packet)).await, Ok(Ok(()))) {
            self.parts = None;
        }
    }
}

/// `text` on band 2, each line ended.
pub(crate) fn encode(text: &str) -> Bytes {
    let mut clean: String =
        text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    if !clean.ends_with('\n') {
        clean.push('\n');
    }
    let mut out = BytesMut::with_capacity(clean.len() + 16);
    pkt::band(&mut out, Band::Progress, clean.as_bytes());
    out.freeze()
}

/// Sets its flag when it is dropped, unless it was told that all went well.
pub(crate) struct CancelOnDrop {
    flag: Arc<AtomicBool>,
    armed: bool,
}

impl CancelOnDrop {
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        Self { flag, armed: true }
    }

    pub fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.flag.store(true, Ordering::Relaxed);
        }
    }
}

/// The body of the response.
pub(crate) struct Answer {
    parts: mpsc::Receiver<Part>,
    keepalive: Option<(Duration, Pin<Box<Sleep>>)>,
    cancel: CancelOnDrop,
    ended: bool,
}

/// Both ends of an answer. `keepalive` is how long it may be silent; `None` if the client has not
/// asked for bands, since there is no empty packet it would understand then.
pub(crate) fn channel(keepalive: Option<Duration>, cancel: CancelOnDrop) -> (Sender, Answer) {
    let (sender, parts) = mpsc::channel(16);
    let answer = Answer {
        parts,
        keepalive: keepalive.map(|period| (period, Box::pin(sleep(period)))),
        cancel,
        ended: false,
    };
    (Sender { parts: sender }, answer)
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let bytes = match self.parts.poll_recv(context) {
            Poll::Ready(Some(Part::More(bytes))) => bytes,
            Poll::Ready(Some(Part::Last(bytes))) => {
                self.ended = true;
                self.cancel.disarm();
                bytes
            }
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(Some(Err(io::Error::other("the answer was not finished"))));
            }
            Poll::Pending => {
                let Some((_, timer)) = &mut self.keepalive else {
                    return Poll::Pending;
                };
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                Bytes::from_static(KEEPALIVE)
            }
        };
        if let Some((period, timer)) = &mut self.keepalive {
            // Set anew and asked once, so that the next silence wakes this task.
            *timer = Box::pin(sleep(*period));
            if timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn flag() -> (Arc<AtomicBool>, CancelOnDrop) {
        let flag = Arc::new(AtomicBool::new(false));
        (flag.clone(), CancelOnDrop::new(flag))
    }

    #[tokio::test]
    async fn silence_is_filled_and_the_end_is_last() {
        let (flag, cancel) = flag();
        let (sender, answer) = channel(Some(Duration::from_millis(20)), cancel);
        tokio::spawn(async move {
            sleep(Duration::from_millis(90)).await;
            sender.messages(true, false).say("hello").await;
            sender.finish(Bytes::from_static(b"0000")).await;
        });
        let body = answer.collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"0005\x010005\x01"), "{body:?}");
        assert!(body.ends_with(b"000b\x02hello\n0000"), "{body:?}");
        assert!(!flag.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_dropped_body_cancels_the_work() {
        let (flag, cancel) = flag();
        let (sender, answer) = channel(None, cancel);
        drop(answer);
        sender.closed().await;
        assert!(flag.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_lost_sender_breaks_the_body() {
        let (_, cancel) = flag();
        let (sender, answer) = channel(None, cancel);
        drop(sender);
        assert!(answer.collect().await.is_err());
    }

    #[test]
    fn messages_cannot_move_the_cursor() {
        assert_eq!(&encode("a\x1b[2Jb\r")[..], b"000b\x02a[2Jb\n");
    }
}
