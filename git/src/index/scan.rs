//! The first pass: what is learned of each entry while the pack arrives.
//!
//! The firewall inflates the entries and shows them here. Objects that are no deltas get their ids
//! and are done with, however large; commits, trees and tags are shown to the visitor as well. Of a
//! delta only its place and its base are noted. The raw bytes go to the spool as they came.

use std::{
    fs::File,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::{Hasher, ObjectId};

use super::{
    Error, Visit,
    entry::{Entries, Found, Layout, NONE, RefDelta, UNKNOWN, kind_of},
};
use crate::firewall::{BLOB, BeginsOn, Begun, Failure, Sink, Spool};

/// The entry in hand.
enum Current {
    Delta,
    /// Hashed piece by piece.
    Blob(Hasher),
    /// Kept until it is complete, since the visitor wants it whole.
    Structure(u8),
}

pub(super) struct Scan<'a, V> {
    file: File,
    interrupt: &'a AtomicBool,
    hash: gix_hash::Kind,
    layout: Layout,
    found: Found,
    refs: Vec<RefDelta>,
    current: Current,
    crc: crc32fast::Hasher,
    content: Vec<u8>,
    pack_hash: Hasher,
    trailer: Vec<u8>,
    visitor: V,
    /// The first thing that went wrong; nothing is done after it.
    error: Option<Error>,
}

/// What the first pass leaves.
pub(super) struct Scanned {
    pub entries: Entries,
    /// The checksum of the pack, which was right.
    pub checksum: ObjectId,
    /// The spool, without the checksum.
    pub file: File,
}

impl<'a, V: Visit> Scan<'a, V> {
    /// `file` is empty and can be read as well.
    pub fn new(file: File, hash: gix_hash::Kind, interrupt: &'a AtomicBool, visitor: V) -> Self {
        Self {
            file,
            interrupt,
            hash,
            layout: Layout::default(),
            found: Found::new(hash),
            refs: Vec::new(),
            current: Current::Delta,
            crc: crc32fast::Hasher::new(),
            content: Vec::new(),
            pack_hash: gix_hash::hasher(hash),
            trailer: Vec::new(),
            visitor,
            error: None,
        }
    }

    /// Ends the pass; `read` is how reading ended.
    pub fn finish(mut self, read: Result<(), Failure>) -> Result<Scanned, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        read?;
        let checksum =
            self.pack_hash.try_finalize().map_err(|error| Error::Pack(error.to_string()))?;
        if checksum.as_slice() != self.trailer {
            return Err(Error::Pack("the checksum of the pack is wrong".into()));
        }
        self.refs.sort_unstable_by(|a, b| a.base.cmp(&b.base).then(a.entry.cmp(&b.entry)));
        let entries = Entries { layout: self.layout, found: self.found, refs: self.refs };
        Ok(Scanned { entries, checksum, file: self.file })
    }

    fn entry(&self) -> u32 {
        (self.layout.len() as u32).wrapping_sub(1)
    }

    fn finish_entry(&mut self) -> Result<(), Error> {
        let id = match std::mem::replace(&mut self.current, Current::Delta) {
            Current::Delta => return Ok(()),
            Current::Blob(hasher) => finalize(hasher)?,
            Current::Structure(number) => {
                let id = object_id(self.hash, number, &self.content)?;
                if let Some(kind) = kind_of(number) {
                    self.visitor.visit(kind, &self.content, &id);
                }
                id
            }
        };
        let entry = self.entry();
        self.found.set_id(entry, &id);
        Ok(())
    }
}

impl<V: Visit> Sink for Scan<'_, V> {
    fn begin(&mut self, entry: &Begun<'_>) {
        let layout = &mut self.layout;
        layout.offsets.push(entry.offset);
        layout.heads.push(entry.header.len() as u8);
        layout.sizes.push(entry.size);
        self.crc = crc32fast::Hasher::new();
        self.crc.update(entry.header);
        self.content.clear();
        let number = self.layout.len() as u32 - 1;
        match entry.base {
            BeginsOn::Nothing(kind) => {
                self.found.push(kind, NONE);
                self.current = if kind == BLOB {
                    let mut hasher = gix_hash::hasher(self.hash);
                    update_header(&mut hasher, kind, entry.size);
                    Current::Blob(hasher)
                } else {
                    Current::Structure(kind)
                };
            }
            BeginsOn::Entry(base) => {
                self.found.push(UNKNOWN, base);
                self.current = Current::Delta;
            }
            BeginsOn::Id(id) => {
                self.found.push(UNKNOWN, NONE);
                self.current = Current::Delta;
                if let Ok(base) = ObjectId::try_from(id) {
                    self.refs.push(RefDelta { base, entry: number });
                }
            }
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    fn data(&mut self, bytes: &[u8]) {
        match &mut self.current {
            Current::Delta => {}
            Current::Blob(hasher) => hasher.update(bytes),
            Current::Structure(_) => self.content.extend_from_slice(bytes),
        }
    }

    fn end(&mut self) {
        self.layout.crcs.push(self.crc.clone().finalize());
        if self.error.is_none() {
            self.error = self.finish_entry().err();
        }
        // A large tree is rare; what it took is not kept for the next one.
        self.content.clear();
        self.content.shrink_to(1 << 20);
    }
}

impl<V: Visit> Spool for Scan<'_, V> {
    fn spool(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.error.is_some() || self.interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        self.layout.end += bytes.len() as u64;
        self.pack_hash.update(bytes);
        self.file.write_all(bytes).map_err(Failure::Io)
    }

    fn trailer(&mut self, bytes: &[u8]) {
        self.trailer.extend_from_slice(bytes);
    }
}

pub(super) fn update_header(hasher: &mut Hasher, number: u8, size: u64) {
    if let Some(kind) = kind_of(number) {
        hasher.update(&gix_object::encode::loose_header(kind, size));
    }
}

/// The id of an object; an error if it was made to collide with another.
pub(super) fn object_id(
    hash: gix_hash::Kind,
    number: u8,
    content: &[u8],
) -> Result<ObjectId, Error> {
    let mut hasher = gix_hash::hasher(hash);
    update_header(&mut hasher, number, content.len() as u64);
    hasher.update(content);
    finalize(hasher)
}

pub(super) fn finalize(hasher: Hasher) -> Result<ObjectId, Error> {
    hasher.try_finalize().map_err(|error| Error::Pack(error.to_string()))
}
