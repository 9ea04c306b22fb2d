//! The pack as the indexer reads it: from a channel, through the firewall.

use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::{Limits, Scanner, Violation};

/// What comes through the channel. A channel that closes without `End` means that the client is gone.
#[derive(Debug)]
pub(crate) enum Chunk {
    Data(Bytes),
    End,
}

/// How far the pack has come, for those who watch.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub bytes: AtomicU64,
    pub objects: AtomicU32,
    pub declared_objects: AtomicU32,
}

/// Why reading stopped before the pack was complete and good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Violation(Violation),
    ClientGone,
}

/// Blocking reader, for a thread of its own. Bounded by the channel: when the indexer is slow, the
/// channel fills, and the client is held back by TCP.
pub(crate) struct PackReader {
    source: mpsc::Receiver<Chunk>,
    current: Bytes,
    scanner: Scanner,
    counters: Arc<Counters>,
    failure: Option<Failure>,
    /// Called once, when the whole pack has passed and before its last bytes are given out: the
    /// indexer's expensive half begins there, and waits for its turn in this call.
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

impl PackReader {
    pub fn new(
        source: mpsc::Receiver<Chunk>,
        limits: Limits,
        counters: Arc<Counters>,
        at_end: Box<dyn FnOnce() + Send>,
    ) -> Self {
        Self {
            source,
            current: Bytes::new(),
            scanner: Scanner::new(limits),
            counters,
            failure: None,
            at_end: Some(at_end),
        }
    }

    /// Why reading failed, if it did. The error that `read` returned says less.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub fn inflated_bytes(&self) -> u64 {
        self.scanner.inflated_bytes()
    }

    /// Reads the header and says how many objects the pack claims to hold. The bytes stay readable.
    pub fn declared_objects(&mut self) -> Result<u32, Failure> {
        let mut ahead = bytes::BytesMut::new();
        loop {
            if let Some(objects) = self.scanner.declared_objects() {
                // The rest of the chunk that completed the header has passed as well.
                self.current = ahead.freeze();
                return Ok(objects);
            }
            ahead.extend_from_slice(&self.next()?);
        }
    }

    /// The next bytes that passed. Never called once the pack has ended.
    fn next(&mut self) -> Result<Bytes, Failure> {
        let data = match self.source.blocking_recv() {
            Some(Chunk::Data(data)) => data,
            Some(Chunk::End) => return Err(self.fail(Failure::Violation(Violation::Truncated))),
            None => return Err(self.fail(Failure::ClientGone)),
        };
        if let Err(violation) = self.scanner.feed(&data) {
            return Err(self.fail(Failure::Violation(violation)));
        }
        self.counters.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.counters.objects.store(self.scanner.objects(), Ordering::Relaxed);
        if let Some(declared) = self.scanner.declared_objects() {
            self.counters.declared_objects.store(declared, Ordering::Relaxed);
        }
        if self.scanner.is_done() {
            self.expect_end()?;
            if let Some(at_end) = self.at_end.take() {
                at_end();
            }
        }
        Ok(data)
    }

    /// Nothing may follow the pack: the request has to end here.
    fn expect_end(&mut self) -> Result<(), Failure> {
        loop {
            match self.source.blocking_recv() {
                Some(Chunk::End) => return Ok(()),
                Some(Chunk::Data(data)) if data.is_empty() => {}
                Some(Chunk::Data(_)) => {
                    return Err(self.fail(Failure::Violation(Violation::TrailingJunk)));
                }
                None => return Err(self.fail(Failure::ClientGone)),
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.failure.get_or_insert(failure).clone()
    }
}

impl Read for PackReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for PackReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.scanner.is_done() {
            self.current = self
                .next()
                .map_err(|failure| io::Error::other(format!("reading stopped: {failure:?}")))?;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
    }
}
