//! The pack as the indexer reads it: from a channel, through the firewall.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{Limits, Scanner, Spool, Violation};

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
#[derive(Debug)]
pub(crate) enum Failure {
    Violation(Violation),
    ClientGone,
    /// What takes the bytes could not write them.
    Io(io::Error),
    /// What takes the bytes wants no more.
    Interrupted,
}

/// Blocking reader, for a thread of its own. Bounded by the channel: when the indexer is slow, the
/// channel fills, and the client is held back by TCP.
pub(crate) struct PackReader {
    source: mpsc::Receiver<Chunk>,
    /// Came with the header and was not shown to the scanner yet.
    ahead: Bytes,
    header: [u8; HEADER],
    scanner: Scanner,
    counters: Arc<Counters>,
}

/// `PACK`, version, number of objects.
const HEADER: usize = 12;

impl PackReader {
    pub fn new(
        source: mpsc::Receiver<Chunk>,
        limits: Limits,
        hash: gix_hash::Kind,
        counters: Arc<Counters>,
    ) -> Self {
        let scanner = Scanner::with_hash(limits, hash);
        Self { source, ahead: Bytes::new(), header: [0; HEADER], scanner, counters }
    }

    pub fn inflated_bytes(&self) -> u64 {
        self.scanner.inflated_bytes()
    }

    /// Bytes of all objects that were read, after applying deltas.
    pub fn resolved_bytes(&self) -> u64 {
        self.scanner.resolved_bytes()
    }

    /// Reads the header and says how many objects the pack claims to hold. To be called first.
    pub fn declared_objects(&mut self) -> Result<u32, Failure> {
        let mut ahead = BytesMut::new();
        while ahead.len() < HEADER {
            ahead.extend_from_slice(&self.next()?);
        }
        let mut ahead = ahead.freeze();
        self.header.copy_from_slice(&ahead.split_to(HEADER));
        self.ahead = ahead;
        self.scanner.feed(&self.header).map_err(Failure::Violation)?;
        let declared = self.scanner.declared_objects().unwrap_or_default();
        self.counters.declared_objects.store(declared, Ordering::Relaxed);
        Ok(declared)
    }

    /// Reads the rest of the pack, up to the end of the request.
    pub fn read(&mut self, sink: &mut impl Spool) -> Result<(), Failure> {
        sink.spool(&self.header)?;
        let mut position = HEADER as u64;
        let mut data = std::mem::take(&mut self.ahead);
        loop {
            self.scanner.feed_to(&data, sink).map_err(Failure::Violation)?;
            self.counters.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            self.counters.objects.store(self.scanner.objects(), Ordering::Relaxed);
            let entries = match self.scanner.trailer() {
                Some(trailer) => trailer.saturating_sub(position).min(data.len() as u64) as usize,
                None => data.len(),
            };
            let (entries, trailer) = data.split_at(entries);
            sink.spool(entries)?;
            sink.trailer(trailer);
            position += data.len() as u64;
            if self.scanner.is_done() {
                self.expect_end()?;
                self.scanner.forget_entries();
                return Ok(());
            }
            data = self.next()?;
        }
    }

    /// The next bytes of the request. Never called once the pack has ended.
    fn next(&mut self) -> Result<Bytes, Failure> {
        match self.source.blocking_recv() {
            Some(Chunk::Data(data)) => Ok(data),
            Some(Chunk::End) => Err(Failure::Violation(Violation::Truncated)),
            None => Err(Failure::ClientGone),
        }
    }

    /// Nothing may follow the pack: the request has to end here.
    fn expect_end(&mut self) -> Result<(), Failure> {
        loop {
            match self.source.blocking_recv() {
                Some(Chunk::End) => return Ok(()),
                Some(Chunk::Data(data)) if data.is_empty() => {}
                Some(Chunk::Data(_)) => return Err(Failure::Violation(Violation::TrailingJunk)),
                None => return Err(Failure::ClientGone),
            }
        }
    }
}
