//! Reading a request's body: with an idle time-out, inflated if it is gzip, drained when refused.

use std::{io::Write, time::Duration};

use bytes::{Buf, Bytes};
use flate2::write::GzDecoder;
use http::StatusCode;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tokio::time::{Instant, timeout_at};

/// Any error that a body can have.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("nothing arrived for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("the request takes longer than this remote waits for it")]
    Late,
    #[error("the connection broke")]
    Broken,
    #[error("the gzip encoding of the request is damaged")]
    Gzip,
    #[error("the request is larger than this remote reads")]
    TooLarge,
}

impl Error {
    /// The status of a response that says nothing else.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Idle(_) | Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::Gzip => StatusCode::BAD_REQUEST,
        }
    }
}

/// How much is inflated in one go: deflate makes at most 1032 bytes of one, so a step makes at most
/// about 1 MiB, whatever the client sends.
const GZIP_STEP: usize = 1024;

/// The body of one request.
pub(crate) struct BodyReader {
    body: UnsyncBoxBody<Bytes, BoxError>,
    idle: Duration,
    deadline: Option<Instant>,
    received: u64,
    gzip: Option<Gzip>,
}

struct Gzip {
    decoder: GzDecoder<Vec<u8>>,
    input: Bytes,
    ended: bool,
}

impl BodyReader {
    pub fn new(body: UnsyncBoxBody<Bytes, BoxError>, idle: Duration, gzip: bool) -> Self {
        let gzip = gzip.then(|| Gzip {
            decoder: GzDecoder::new(Vec::new()),
            input: Bytes::new(),
            ended: false,
        });
        Self { body, idle, deadline: None, received: 0, gzip }
    }

    /// With a moment at which all of it has to be there. A byte now and then is never idle.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Bytes that came over the wire so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes of the content, never empty; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(gzip) = &mut self.gzip {
                if let Some(bytes) = gzip.step()? {
                    return Ok(Some(bytes));
                }
                if gzip.ended {
                    return Ok(None);
                }
            }
            match (self.raw().await?, &mut self.gzip) {
                (Some(bytes), None) => return Ok(Some(bytes)),
                (None, None) => return Ok(None),
                (Some(bytes), Some(gzip)) => gzip.input = bytes,
                (None, Some(gzip)) => {
                    if let Some(bytes) = gzip.end()? {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads the rest and throws it away, so that the client is ready to read the answer; but not
    /// more than `ceiling` bytes over the wire in all.
    pub async fn drain(&mut self, ceiling: u64) -> Result<(), Error> {
        while self.raw().await?.is_some() {
            if self.received > ceiling {
                return Err(Error::TooLarge);
            }
        }
        Ok(())
    }

    async fn raw(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let now = Instant::now();
            let idle = now + self.idle;
            let until = self.deadline.map_or(idle, |deadline| deadline.min(idle));
            let late = if until < idle { Error::Late } else { Error::Idle(self.idle) };
            // What is there at once is never late for a timer.
            let frame =
                if now >= until { None } else { timeout_at(until, self.body.frame()).await.ok() };
            let Some(frame) = frame else {
                return Err(late);
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|_| Error::Broken)?;
            // Trailers carry nothing for git.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.received += data.len() as u64;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl Gzip {
    /// Inflates a step of the input; `None` if there is no more.
    fn step(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.input.is_empty() {
            let step = self.input.len().min(GZIP_STEP);
            self.decoder.write_all(&self.input[..step]).map_err(|_| Error::Gzip)?;
            self.decoder.flush().map_err(|_| Error::Gzip)?;
            self.input.advance(step);
            if let Some(bytes) = self.take() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Bytes>, Error> {
        self.ended = true;
        self.decoder.try_finish().map_err(|_| Error::Gzip)?;
        Ok(self.take())
    }

    fn take(&mut self) -> Option<Bytes> {
        let out = self.decoder.get_mut();
        (!out.is_empty()).then(|| Bytes::from(std::mem::take(out)))
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use http_body_util::Full;

    use super::*;

    fn reader(bytes: Vec<u8>, gzip: bool) -> BodyReader {
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        BodyReader::new(body, Duration::from_secs(1), gzip)
    }

    async fn all(mut reader: BodyReader) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        while let Some(chunk) = reader.chunk().await? {
            assert!(chunk.len() <= 2 << 20, "a step stays small: {}", chunk.len());
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn gzip_is_inflated_in_small_steps() {
        let data: Vec<u8> = vec![7; 20 << 20];
        assert_eq!(all(reader(gzip(&data), true)).await.unwrap(), data);
        assert_eq!(all(reader(b"plain".to_vec(), false)).await.unwrap(), b"plain");
        assert_eq!(all(reader(gzip(b""), true)).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn damaged_gzip_is_an_error() {
        let good = gzip(b"some text that is long enough to be cut");
        assert!(matches!(
            all(reader(good[..good.len() - 4].to_vec(), true)).await,
            Err(Error::Gzip)
        ));
        assert!(matches!(all(reader(b"not gzip at all".to_vec(), true)).await, Err(Error::Gzip)));
        let junk = [good.as_slice(), b"junk"].concat();
        assert!(matches!(all(reader(junk, true)).await, Err(Error::Gzip)));
    }

    #[tokio::test]
    async fn a_byte_now_and_then_comes_to_an_end() {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let body = http_body_util::StreamBody::new(drops).boxed_unsync();
        let reader = BodyReader::new(body, Duration::from_secs(60), false);
        let mut reader = reader.until(Instant::now() + Duration::from_millis(200));
        let drained = tokio::time::timeout(Duration::from_secs(20), reader.drain(u64::MAX)).await;
        assert!(matches!(drained, Ok(Err(Error::Late))));
        assert!(matches!(reader.chunk().await, Err(Error::Late)));
    }

    #[tokio::test]
    async fn a_drain_stops_at_its_ceiling() {
        assert!(reader(vec![0; 100], false).drain(100).await.is_ok());
        assert!(matches!(reader(vec![0; 101], false).drain(100).await, Err(Error::TooLarge)));
    }
}
