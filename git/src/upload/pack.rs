//! Writes a pack of chosen objects, mostly by copying.
//!
//! An entry of a stored pack is copied as it is: what is deflated stays deflated, and a delta stays a
//! delta if its base was written before it or is at the client. Only what cannot be copied is decoded
//! and deflated anew: deltas without their base, and loose objects. No new deltas are searched for.
//! A base always stands before its deltas in the output, so no two entries can build on each other,
//! whatever the stored packs look like.
//!
//! If the objects are exactly those of one stored pack, its file is the answer.
//! ([gitformat-pack](https://git-scm.com/docs/gitformat-pack))

use std::{
    io::{Read, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use flate2::{Compression, Decompress, FlushDecompress, Status, write::ZlibEncoder};
use gix_hash::ObjectId;
use gix_object::Kind;
use gix_pack::data::{self, entry::Header};

use super::{
    Error,
    objects::Collected,
    store::{LOOSE, Pack, Place, PlaceSet, Store},
};

/// What is deflated anew is for one client only, so speed counts.
const LEVEL: u32 = 3;

/// Large objects pass in pieces, and after each it is asked whether somebody still waits.
const PIECE: usize = 1 << 18;

/// Takes the bytes of the pack, in order.
pub(super) trait Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// What a pack was made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub objects: u32,
    pub deltas: u32,
    /// Entries that were copied.
    pub copied: u32,
    pub bytes: u64,
}

/// Writes the pack. With `ofs_delta` the client reads bases that are named by their distance.
pub(super) fn write(
    store: &mut Store,
    collected: Collected,
    ofs_delta: bool,
    sink: &mut dyn Sink,
    cancel: &AtomicBool,
) -> Result<Figures, Error> {
    let Collected { found, bases } = collected;
    if let Some(pack) = whole_pack(store, &found, ofs_delta) {
        return copy_whole(pack, sink, cancel);
    }
    let mut entries: Vec<Entry> = found
        .into_iter()
        .map(|place| {
            let pack = store.packs().get(place.pack as usize);
            let offset = pack.map_or(0, |pack| pack.index.pack_offset_at_index(place.position));
            Entry { place, offset, written: 0 }
        })
        .collect();
    // In the order of the stored packs, so that they are read from front to end.
    entries.sort_unstable_by_key(|entry| (entry.place.pack, entry.offset, entry.place.position));
    let mut writer = Writer {
        hasher: gix_hash::hasher(store.hash()),
        layouts: layouts(store, &entries),
        store,
        entries,
        bases,
        ofs_delta,
        sink,
        figures: Figures::default(),
        buffer: Vec::new(),
        ends: Ends::default(),
        cancel,
    };
    writer.run()
}

struct Entry {
    place: Place,
    /// Where it stands in its stored pack.
    offset: u64,
    /// Where it stands in the output; 0 until it was written.
    written: u64,
}

struct Writer<'a> {
    store: &'a mut Store,
    entries: Vec<Entry>,
    layouts: Vec<Option<Layout>>,
    bases: PlaceSet,
    ofs_delta: bool,
    hasher: gix_hash::Hasher,
    sink: &'a mut dyn Sink,
    figures: Figures,
    buffer: Vec<u8>,
    ends: Ends,
    cancel: &'a AtomicBool,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<Figures, Error> {
        let objects = self.entries.len() as u32;
        self.emit(&data::header::encode(data::Version::V2, objects))?;
        for at in 0..self.entries.len() {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            self.entries[at].written = self.figures.bytes;
            let place = self.entries[at].place;
            if place.pack == LOOSE || !self.copy(at)? {
                self.deflate(place)?;
            }
        }
        let hash = self.store.hash();
        let hasher = std::mem::replace(&mut self.hasher, gix_hash::hasher(hash));
        let checksum = hasher.try_finalize().map_err(|error| Error::Internal(error.to_string()))?;
        self.emit(checksum.as_slice())?;
        self.figures.objects = objects;
        Ok(self.figures)
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.figures.bytes += bytes.len() as u64;
        self.sink.write(bytes)
    }

    fn emit_header(&mut self, header: Header, size: u64) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(48);
        header.write_to(size, &mut bytes).map_err(|error| Error::Internal(error.to_string()))?;
        self.emit(&bytes)
    }

    /// Copies an entry if its base allows it.
    fn copy(&mut self, at: usize) -> Result<bool, Error> {
        let Entry { place, offset, written } = self.entries[at];
        let number = place.pack;
        let pack = &self.store.packs()[number as usize];
        let entry = pack.data.entry(offset).map_err(unreadable)?;
        let size = entry.decompressed_size;
        let header = match entry.header {
            Header::OfsDelta { base_distance } => {
                let Some(base) = offset.checked_sub(base_distance) else {
                    return Ok(false);
                };
                let known = self.position(number, base);
                let named = || self.layouts[number as usize].as_ref()?.id_at(pack, base);
                self.delta(known, named, written)
            }
            Header::RefDelta { base_id } => self.delta(None, || Some(base_id), written),
            kind => Some(kind),
        };
        let Some(header) = header else {
            return Ok(false);
        };
        let end = match &self.layouts[number as usize] {
            Some(layout) => layout.end(&self.store.packs()[number as usize], offset),
            None => {
                let pack = &self.store.packs()[number as usize];
                self.ends.find(pack, &entry, self.cancel)?
            }
        };
        self.emit_header(header, size)?;
        self.figures.deltas += u32::from(header.is_delta());
        self.figures.copied += 1;
        let pack = &self.store.packs()[number as usize];
        let bytes = pack.data.entry_slice(entry.data_offset..end);
        let bytes = bytes.ok_or_else(|| unreadable("an entry ends behind its pack"))?;
        for piece in bytes.chunks(PIECE) {
            self.hasher.update(piece);
            self.sink.write(piece)?;
        }
        self.figures.bytes += bytes.len() as u64;
        Ok(true)
    }

    /// The header of a copied delta, or `None` if the client could not resolve it. `known` is the
    /// entry of its base, if it is sent from the same pack; `named` gives the id otherwise.
    fn delta(
        &self,
        known: Option<usize>,
        named: impl FnOnce() -> Option<ObjectId>,
        written: u64,
    ) -> Option<Header> {
        let mut id = None;
        let mut place = known.map(|at| self.entries[at].place);
        if place.is_none() {
            let name = named()?;
            // Only packs are looked at: a base is never loose.
            place = self.store.packed_place(&name);
            id = Some(name);
        }
        let place = place?;
        let sent = known.or_else(|| {
            let pack = self.store.packs().get(place.pack as usize)?;
            self.position(place.pack, pack.index.pack_offset_at_index(place.position))
        });
        let before = sent.map(|at| self.entries[at].written).filter(|at| *at > 0 && *at < written);
        match before {
            Some(at) if self.ofs_delta => Some(Header::OfsDelta { base_distance: written - at }),
            Some(_) => {
                Some(Header::RefDelta { base_id: id.unwrap_or_else(|| self.store.id(place)) })
            }
            None if sent.is_none() && self.bases.contains(place) => {
                Some(Header::RefDelta { base_id: id.unwrap_or_else(|| self.store.id(place)) })
            }
            None => None,
        }
    }

    /// Which entry of the output comes from there.
    fn position(&self, pack: u32, offset: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&(pack, offset), |entry| (entry.place.pack, entry.offset))
            .ok()
    }

    fn deflate(&mut self, place: Place) -> Result<(), Error> {
        if place.pack == LOOSE {
            let (kind, size, content) = self.store.stream_loose(place)?;
            return self.deflate_from(kind, size, content);
        }
        // What deltas make has to be whole. How much that may be, the store knows.
        let mut buffer = std::mem::take(&mut self.buffer);
        let kind = self.store.read(place, &mut buffer)?;
        self.deflate_from(kind, buffer.len() as u64, &buffer[..])?;
        // One large object does not make the whole fetch large.
        if buffer.capacity() > 1 << 20 {
            buffer = Vec::new();
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Writes an entry of exactly `size` bytes that are read now.
    fn deflate_from(&mut self, kind: Kind, size: u64, content: impl Read) -> Result<(), Error> {
        self.emit_header(header_of(kind), size)?;
        // One byte more would show.
        let mut content = content.take(size.saturating_add(1));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
        let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE)).max(1)];
        let mut total = 0;
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let read = content.read(&mut piece).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            encoder.write_all(&piece[..read]).map_err(unreadable)?;
            let ready = std::mem::take(encoder.get_mut());
            self.emit(&ready)?;
        }
        if total != size {
            return Err(unreadable("a loose object has not the size that it says"));
        }
        let rest = encoder.finish().map_err(unreadable)?;
        self.emit(&rest)
    }
}

fn header_of(kind: Kind) -> Header {
    match kind {
        Kind::Commit => Header::Commit,
        Kind::Tree => Header::Tree,
        Kind::Blob => Header::Blob,
        Kind::Tag => Header::Tag,
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a stored pack cannot be read: {error}"))
}

/// Finds where entries end, by inflating them into a buffer of a fixed size.
pub(super) struct Ends {
    inflate: Decompress,
    scratch: Box<[u8]>,
}

impl Default for Ends {
    fn default() -> Self {
        Self { inflate: Decompress::new(true), scratch: vec![0; 64 << 10].into_boxed_slice() }
    }
}

impl Ends {
    pub fn find(
        &mut self,
        pack: &Pack,
        entry: &data::Entry,
        cancel: &AtomicBool,
    ) -> Result<u64, Error> {
        let input = pack.data.entry_slice(entry.data_offset..pack.data.pack_end() as u64);
        let input = input.ok_or_else(|| unreadable("an entry begins behind its pack"))?;
        self.inflate.reset(true);
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let rest = input.get(before.0 as usize..).unwrap_or_default();
            let status = self.inflate.decompress(rest, &mut self.scratch, FlushDecompress::None);
            let status = status.map_err(unreadable)?;
            let after = (self.inflate.total_in(), self.inflate.total_out());
            if status == Status::StreamEnd && after.1 == entry.decompressed_size {
                return Ok(entry.data_offset + after.0);
            }
            let done = status == Status::StreamEnd || after == before;
            if done || after.1 > entry.decompressed_size {
                return Err(unreadable("an entry has not the size that it says"));
            }
        }
    }
}

/// The entries of a stored pack by their offset: positions in its index, four bytes an object.
struct Layout {
    by_offset: Vec<u32>,
}

impl Layout {
    fn new(pack: &Pack) -> Self {
        let mut by_offset: Vec<u32> = (0..pack.index.num_objects()).collect();
        by_offset.sort_by_cached_key(|at| pack.index.pack_offset_at_index(*at));
        Self { by_offset }
    }

    fn find(&self, pack: &Pack, offset: u64) -> Result<usize, usize> {
        self.by_offset.binary_search_by_key(&offset, |at| pack.index.pack_offset_at_index(*at))
    }

    /// Where the entry at `offset` ends.
    fn end(&self, pack: &Pack, offset: u64) -> u64 {
        let next = match self.find(pack, offset) {
            Ok(at) => at + 1,
            Err(at) => at,
        };
        self.by_offset
            .get(next)
            .map_or(pack.data.pack_end() as u64, |at| pack.index.pack_offset_at_index(*at))
    }

    fn id_at(&self, pack: &Pack, offset: u64) -> Option<ObjectId> {
        let at = self.find(pack, offset).ok()?;
        Some(pack.index.oid_at_index(*self.by_offset.get(at)?).to_owned())
    }
}

/// Layouts of the packs of which more than a little is sent. For a little of a large pack it is
/// cheaper to inflate each entry to find its end.
fn layouts(store: &Store, entries: &[Entry]) -> Vec<Option<Layout>> {
    const SMALL: u32 = 1 << 15;
    const FEW: u64 = 64;
    let mut counts = vec![0_u64; store.packs().len()];
    for entry in entries {
        if let Some(count) = counts.get_mut(entry.place.pack as usize) {
            *count += 1;
        }
    }
    let worthwhile = |pack: &Pack, count: u64| {
        let objects = pack.index.num_objects();
        count > 0 && (objects <= SMALL || count * FEW >= u64::from(objects))
    };
    store
        .packs()
        .iter()
        .zip(counts)
        .map(|(pack, count)| worthwhile(pack, count).then(|| Layout::new(pack)))
        .collect()
}

/// The pack whose objects are exactly these.
fn whole_pack<'a>(store: &'a Store, found: &[Place], ofs_delta: bool) -> Option<&'a Pack> {
    let first = found.first()?;
    let pack = store.packs().get(first.pack as usize)?;
    let whole = ofs_delta
        && pack.data.num_objects() as usize == found.len()
        && pack.index.num_objects() as usize == found.len()
        && found.iter().all(|place| place.pack == first.pack);
    whole.then_some(pack)
}

fn copy_whole(pack: &Pack, sink: &mut dyn Sink, cancel: &AtomicBool) -> Result<Figures, Error> {
    let length = pack.data.data_len();
    let mut at = 0;
    while at < length {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let end = (at + (1 << 20)).min(length);
        let bytes = pack.data.entry_slice(at as u64..end as u64);
        sink.write(bytes.ok_or_else(|| unreadable("it is shorter than it was"))?)?;
        at = end;
    }
    let objects = pack.data.num_objects();
    Ok(Figures { objects, deltas: 0, copied: objects, bytes: length as u64 })
}
