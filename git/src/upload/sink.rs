//! The way of a pack from the thread that makes it to the client: in bands, at the client's pace.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::{Error, pack::Sink, request::Bands};
use crate::{
    pkt::{self, Band},
    stream::Sender,
};

/// The longest payload of a packet of `side-band`: 1000 bytes less its length and its band.
const SMALL_PAYLOAD: usize = 995;

/// Bytes that are collected without bands before they are sent.
const PLAIN: usize = 64 << 10;

/// Collects bytes into packets and hands them to the answer, which takes no more than a few ahead of
/// the client.
pub(super) struct BandSink<'a> {
    sender: &'a Sender,
    runtime: tokio::runtime::Handle,
    bands: Bands,
    /// A client that reads nothing for this long is given up.
    patience: Duration,
    /// When all has to be sent.
    deadline: Instant,
    /// Nobody waits any more.
    cancel: &'a AtomicBool,
    out: BytesMut,
    /// Where the payload of the open packet begins in `out`.
    start: usize,
}

impl<'a> BandSink<'a> {
    pub fn new(
        sender: &'a Sender,
        runtime: tokio::runtime::Handle,
        bands: Bands,
        patience: Duration,
        deadline: Instant,
        cancel: &'a AtomicBool,
    ) -> Self {
        let out = BytesMut::new();
        let mut sink = Self { sender, runtime, bands, patience, deadline, cancel, out, start: 0 };
        sink.open();
        sink
    }

    fn payload(&self) -> usize {
        match self.bands {
            Bands::None => PLAIN,
            Bands::Small => SMALL_PAYLOAD,
            Bands::Large => pkt::MAX_BAND_PAYLOAD,
        }
    }

    /// Begins a packet; its length is filled in when it is full.
    fn open(&mut self) {
        if self.out.capacity() < 5 + self.payload() {
            self.out.reserve(5 + PLAIN.max(self.payload()));
        }
        if self.bands != Bands::None {
            self.out.put_slice(b"0000");
            self.out.put_u8(Band::Data as u8);
        }
        self.start = self.out.len();
    }

    /// Ends the packet, if there is anything in it.
    fn close(&mut self) {
        let head = if self.bands == Bands::None { 0 } else { 5 };
        let payload = self.out.len() - self.start;
        if payload == 0 {
            self.out.truncate(self.start - head);
        } else if head > 0 {
            let length = format!("{:04x}", payload + head);
            let at = self.start - head;
            self.out[at..at + 4].copy_from_slice(length.as_bytes());
        }
    }

    fn send(&mut self) -> Result<(), Error> {
        let ready = self.out.split().freeze();
        if ready.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        if now >= self.deadline || self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        // However slowly the client reads, the time of a fetch is the time until its last byte.
        let until = self.deadline.min(now + self.patience);
        match self.runtime.block_on(timeout_at(until, self.sender.part(ready))) {
            Ok(true) => Ok(()),
            Err(_) if until < self.deadline => Err(Error::Stalled),
            Ok(false) | Err(_) => Err(Error::Cancelled),
        }
    }

    /// Shows a line to the person who fetches.
    pub fn say(&mut self, text: &str) -> Result<(), Error> {
        if self.bands == Bands::None {
            return Ok(());
        }
        self.close();
        // Short enough for both kinds of packets.
        pkt::band(&mut self.out, Band::Progress, text.as_bytes());
        self.send()?;
        self.open();
        Ok(())
    }

    /// What is left, and the flush that ends the pack.
    pub fn finish(mut self) -> Bytes {
        self.close();
        if self.bands != Bands::None {
            pkt::flush(&mut self.out);
        }
        self.out.freeze()
    }
}

impl Sink for BandSink<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.payload() - (self.out.len() - self.start);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.out.put_slice(now);
            bytes = rest;
            if now.len() == room {
                self.close();
                // Small packets travel together.
                if self.bands != Bands::Small || self.out.len() >= PLAIN {
                    self.send()?;
                }
                self.open();
            }
        }
        Ok(())
    }
}
