//! The pack firewall: measures a pack while it streams in, before anything is allocated for it.
//!
//! A pack can claim four billion objects in its header, inflate 4 MB to 4 GB, say "10 bytes" and go
//! on for ever, or hold 200 deltas of 1 KB that each make an object of 50 MB. An indexer finds out
//! by doing the work. The [`Scanner`] finds out while it reads: it walks entry headers, inflates
//! each entry into a small scratch buffer, and compares every number with a budget the moment the
//! number is known. What passed is shown to a [`Sink`], piece by piece, so that the indexer does not
//! have to inflate it again.
//!
//! Memory: the scratch buffer, and ten bytes an object for the depth of delta chains. Not checked
//! here: the checksum at the end, ids, and whether deltas apply; that is the indexer's.

use std::{fmt, time::Duration};

use flate2::{Decompress, FlushDecompress, Status};

mod header;
mod reader;
mod sink;
pub(crate) use header::varint;
pub(crate) use header::{BLOB, COMMIT, TAG, TREE};
use header::{Base, EntryHeader};
pub(crate) use reader::{Chunk, Counters, Failure, PackReader};
pub(crate) use sink::{BeginsOn, Begun, Sink, Spool};

/// What one push may cost. Each limit is named in the sentence that a client sees when it exceeds it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the pack as sent.
    pub pack_bytes: u64,
    /// Objects in the pack. The indexer needs about 100 bytes of memory for each.
    pub objects: u32,
    /// Bytes of one object after inflating and after applying deltas. The indexer holds an object
    /// in memory, so this bounds its memory.
    pub object_bytes: u64,
    /// Bytes of all entries after inflating, deltas counted as deltas.
    pub inflated_bytes: u64,
    /// Bytes of all objects after applying deltas: what hashing and checking has to read.
    pub resolved_bytes: u64,
    /// How many times larger than the pack all its objects together may be, once they exceed 1 GiB.
    /// Real histories stay below 100; a pack made to burn time is in the thousands.
    pub resolved_ratio: u64,
    /// Deltas on deltas. Git itself never makes more than 4095.
    pub delta_depth: u16,
    /// Entries of one tree.
    pub tree_entries: u32,
    /// Bytes of the name of one entry of a tree: no path is shorter than the names in it.
    pub path_bytes: u32,
    /// What may still be kept, if that is bounded.
    pub room: Option<Room>,
    /// From the first byte of the request to the end of all checks.
    pub wall_time: Duration,
}

/// How much more a repository may keep. It is compared with what a pack has as it arrives; whoever
/// keeps it has the last word, since indices count too and others push meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are left.
    pub bytes: u64,
    /// The name of the quota.
    pub quota: &'static str,
    /// What the person who pushed reads if a pack is larger: how much is left of what, and what to
    /// do about it.
    pub sentence: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 4 << 30,
            objects: 8_000_000,
            object_bytes: 128 << 20,
            inflated_bytes: 32 << 30,
            resolved_bytes: 512 << 30,
            resolved_ratio: 500,
            delta_depth: 4095,
            tree_entries: 500_000,
            path_bytes: 4096,
            room: None,
            wall_time: Duration::from_hours(1),
        }
    }
}

impl Limits {
    /// Bytes of all deltas between an object and the one that is none. Whoever reads the object
    /// later may hold all of them at once.
    pub fn delta_bytes(&self) -> u64 {
        self.object_bytes.saturating_mul(2)
    }

    /// Whether objects may amount to `resolved` bytes in a pack of `pack` bytes.
    pub(crate) fn allow_resolved(&self, resolved: u64, pack: u64) -> Result<(), Violation> {
        if resolved > self.resolved_bytes {
            return Err(Violation::ResolvedBytes(self.resolved_bytes));
        }
        if resolved > pack.saturating_mul(self.resolved_ratio).saturating_add(RATIO_FLOOR) {
            return Err(Violation::ResolvedRatio(self.resolved_ratio));
        }
        Ok(())
    }
}

/// The pack breaks a limit or the format. The text is meant for the person who pushed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Violation {
    #[error("the pack does not start with PACK")]
    NotAPack,
    #[error("the pack has version {0}; versions 2 and 3 are known")]
    Version(u32),
    #[error(
        "the pack holds {found} objects and the limit is {limit}; push a part of the history first"
    )]
    Objects { found: u32, limit: u32 },
    #[error("the pack is larger than {}, the limit; push a part of the history first", Size(*.0))]
    PackBytes(u64),
    #[error("the pack holds an object of {} and the limit is {}; leave that file out or store it with another tool", Size(*.found), Size(*.limit))]
    ObjectBytes { found: u64, limit: u64 },
    #[error("the pack holds a directory, commit or tag of {} and the limit is {}; split it", Size(*.found), Size(*.limit))]
    StructureBytes { found: u64, limit: u64 },
    #[error("{}", .0.sentence)]
    Room(Room),
    #[error("the pack inflates to more than {}, the limit", Size(*.0))]
    InflatedBytes(u64),
    #[error("the objects of the pack amount to more than {}, the limit", Size(*.0))]
    ResolvedBytes(u64),
    #[error(
        "the pack is built to be expensive: its objects are more than {0} times larger than itself"
    )]
    ResolvedRatio(u64),
    #[error("the pack has a chain of more than {0} deltas; run `git repack -adf` and push again")]
    DeltaDepth(u16),
    #[error("the pack has a chain of deltas of more than {} together, the limit; run `git repack -adf --depth=5` and push again", Size(*.0))]
    DeltaBytes(u64),
    #[error(
        "the pack has a delta that gathers tiny pieces from all over a large file; set core.bigFileThreshold to 8m, run `git repack -adf` and push again"
    )]
    Scattered,
    #[error("the pack has an entry of the unknown type {0}")]
    EntryType(u8),
    #[error("the pack has an entry whose size does not fit into 64 bits")]
    SizeOverflow,
    #[error("an entry of the pack says it has {declared} bytes but inflates to {found}")]
    WrongSize { declared: u64, found: u64 },
    #[error("an entry of the pack says it has {0} bytes but inflates to more")]
    TooLong(u64),
    #[error("an entry of the pack is compressed to many times its size")]
    Padded,
    #[error("a delta in the pack refers to a place where no object begins")]
    BadBase,
    #[error("a delta in the pack is too short to be one")]
    ShortDelta,
    #[error("the compressed data of the pack is damaged")]
    Deflate,
    #[error("there is junk behind the end of the pack")]
    TrailingJunk,
    #[error("the pack ends early")]
    Truncated,
}

impl Violation {
    /// The field of [`Limits`] that the pack goes beyond, if it is not simply wrong;
    /// `structure_bytes` is [`STRUCTURE_BYTES`], `delta_bytes` is [`Limits::delta_bytes`], and of a
    /// [`Room`] it is the quota.
    pub fn limit(&self) -> Option<&'static str> {
        Some(match self {
            Self::Objects { .. } => "objects",
            Self::PackBytes(_) => "pack_bytes",
            Self::Room(room) => room.quota,
            Self::ObjectBytes { .. } => "object_bytes",
            Self::StructureBytes { .. } => "structure_bytes",
            Self::InflatedBytes(_) => "inflated_bytes",
            Self::ResolvedBytes(_) => "resolved_bytes",
            Self::ResolvedRatio(_) => "resolved_ratio",
            Self::DeltaDepth(_) => "delta_depth",
            Self::DeltaBytes(_) => "delta_bytes",
            _ => return None,
        })
    }
}

/// A number of bytes as people write it, such as `1.5 GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = usize::from(unit > 0 && value < 10.0 && value.fract() > 0.05);
        write!(f, "{value:.digits$} {}", UNITS[unit])
    }
}

/// Compressed data may be larger than what it holds by a few bytes a block, not by more than this.
const PADDING: u64 = 64 << 10;

/// Below this the ratio of [`Limits::resolved_ratio`] is not asked for.
const RATIO_FLOOR: u64 = 1 << 30;

/// The largest tree, commit or tag: some 400,000 files in one directory. Blobs are streamed, but
/// these are looked into and held in memory while that is done.
pub const STRUCTURE_BYTES: u64 = 16 << 20;

enum State {
    /// `PACK`, version, number of objects: 12 bytes.
    PackHeader,
    /// Type and size, and the base of a delta.
    EntryHeader,
    /// The deflated bytes of an entry.
    Body,
    /// The checksum.
    Trailer,
    Done,
}

/// The entry whose body is being inflated.
#[derive(Default)]
struct Entry {
    declared: u64,
    delta: bool,
    /// The first inflated bytes of a delta: the sizes of its base and of its result.
    head: Vec<u8>,
}

/// Two varints of at most ten bytes each stand at the start of a delta.
const DELTA_HEAD: usize = 20;

/// Walks a pack as its bytes arrive and stops at the first broken limit.
pub struct Scanner {
    limits: Limits,
    /// Bytes of an object id, and of the checksum behind the pack.
    id_length: usize,
    state: State,
    /// Bytes of a header that came in pieces. Never more than a few dozen.
    partial: Vec<u8>,
    inflate: Decompress,
    scratch: Box<[u8]>,
    entry: Entry,
    /// Where each entry begins, rising, and how many deltas it stands on.
    offsets: Vec<u64>,
    depths: Vec<u16>,
    position: u64,
    /// Where the checksum begins, once that is known.
    trailer: Option<u64>,
    declared_objects: u32,
    inflated: u64,
    resolved: u64,
}

impl Scanner {
    /// A scanner for one pack with SHA-1 ids.
    pub fn new(limits: Limits) -> Self {
        Self::with_hash(limits, gix_hash::Kind::Sha1)
    }

    /// A scanner for one pack with ids of this kind.
    pub fn with_hash(limits: Limits, hash: gix_hash::Kind) -> Self {
        Self {
            limits,
            id_length: hash.len_in_bytes(),
            state: State::PackHeader,
            partial: Vec::with_capacity(32),
            inflate: Decompress::new(true),
            scratch: vec![0; 64 << 10].into_boxed_slice(),
            entry: Entry::default(),
            offsets: Vec::new(),
            depths: Vec::new(),
            position: 0,
            trailer: None,
            declared_objects: 0,
            inflated: 0,
            resolved: 0,
        }
    }

    /// Whether the pack has ended; every further byte is junk.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many objects the pack claims to hold, once its header was read.
    pub fn declared_objects(&self) -> Option<u32> {
        (!matches!(self.state, State::PackHeader)).then_some(self.declared_objects)
    }

    /// Entries that have begun so far.
    pub fn objects(&self) -> u32 {
        self.offsets.len() as u32
    }

    /// Bytes of all entries after inflating so far.
    pub fn inflated_bytes(&self) -> u64 {
        self.inflated
    }

    /// Bytes of all objects so far, as their headers and deltas say.
    pub(crate) fn resolved_bytes(&self) -> u64 {
        self.resolved
    }

    /// Frees what is only needed while the pack is read.
    pub(crate) fn forget_entries(&mut self) {
        self.offsets = Vec::new();
        self.depths = Vec::new();
    }

    /// Where the checksum at the end begins, once the last entry has ended.
    pub(crate) fn trailer(&self) -> Option<u64> {
        self.trailer
    }

    /// Takes the next bytes of the pack. All of `input` has passed if there is no error.
    pub fn feed(&mut self, input: &[u8]) -> Result<(), Violation> {
        self.feed_to(input, &mut ())
    }

    /// Takes the next bytes of the pack, and shows `sink` what is in them.
    pub(crate) fn feed_to(
        &mut self,
        mut input: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Violation> {
        while !input.is_empty() {
            let used = match self.state {
                State::PackHeader => self.pack_header(input)?,
                State::EntryHeader => self.entry_header(input, sink)?,
                State::Body => self.body(input, sink)?,
                State::Trailer => self.end(input),
                State::Done => return Err(Violation::TrailingJunk),
            };
            self.position += used as u64;
            if self.position > self.limits.pack_bytes {
                return Err(Violation::PackBytes(self.limits.pack_bytes));
            }
            if let Some(room) = &self.limits.room
                && self.declared_objects > 0
                && self.position > room.bytes
            {
                return Err(Violation::Room(room.clone()));
            }
            input = &input[used..];
        }
        Ok(())
    }

    fn pack_header(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let used = self.collect(input, 12);
        let [p, a, c, k, v0, v1, v2, v3, n0, n1, n2, n3] = self.partial[..] else {
            return Ok(used);
        };
        if [p, a, c, k] != *b"PACK" {
            return Err(Violation::NotAPack);
        }
        let version = u32::from_be_bytes([v0, v1, v2, v3]);
        if !matches!(version, 2 | 3) {
            return Err(Violation::Version(version));
        }
        let found = u32::from_be_bytes([n0, n1, n2, n3]);
        if found > self.limits.objects {
            return Err(Violation::Objects { found, limit: self.limits.objects });
        }
        self.declared_objects = found;
        self.partial.clear();
        self.state = State::EntryHeader;
        if found == 0 {
            self.state = State::Trailer;
            self.trailer = Some(self.position + used as u64);
        }
        Ok(used)
    }

    /// Moves bytes to `partial` until it holds `want`.
    fn collect(&mut self, input: &[u8], want: usize) -> usize {
        let used = input.len().min(want - self.partial.len().min(want));
        self.partial.extend_from_slice(&input[..used]);
        used
    }

    /// One byte at a time: headers are a few bytes, and only the last byte says that it is the last.
    fn entry_header(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize, Violation> {
        let Some(byte) = input.first() else {
            return Ok(0);
        };
        self.partial.push(*byte);
        if let Some(header) = EntryHeader::parse(&self.partial, self.id_length)? {
            let offset = self.position + 1 - self.partial.len() as u64;
            let base = self.begin(offset, &header)?;
            let id = self.partial.len().saturating_sub(self.id_length);
            let base = match (header.base, base) {
                (Base::None(kind), _) => BeginsOn::Nothing(kind),
                (_, Some(entry)) => BeginsOn::Entry(entry),
                (_, None) => BeginsOn::Id(&self.partial[id..]),
            };
            sink.begin(&Begun { offset, header: &self.partial, size: header.size, base });
            self.partial.clear();
        }
        Ok(1)
    }

    /// Checks the numbers of an entry, and says which entry it stands on if it names one by place.
    fn begin(&mut self, offset: u64, header: &EntryHeader) -> Result<Option<u32>, Violation> {
        let limit = self.limits.object_bytes;
        if header.size > limit {
            return Err(Violation::ObjectBytes { found: header.size, limit });
        }
        let mut base_entry = None;
        let depth = match header.base {
            Base::None(kind) => {
                if kind != BLOB && header.size > STRUCTURE_BYTES {
                    let (found, limit) = (header.size, STRUCTURE_BYTES);
                    return Err(Violation::StructureBytes { found, limit });
                }
                0
            }
            // Its base may be anywhere; the indexer counts on when it has found it.
            Base::Id => 1,
            Base::Distance(distance) => {
                let base = offset.checked_sub(distance).ok_or(Violation::BadBase)?;
                let at = self.offsets.binary_search(&base).map_err(|_| Violation::BadBase)?;
                base_entry = Some(at as u32);
                self.depths[at].saturating_add(1)
            }
        };
        if depth > self.limits.delta_depth {
            return Err(Violation::DeltaDepth(self.limits.delta_depth));
        }
        self.offsets.push(offset);
        self.depths.push(depth);
        self.entry.declared = header.size;
        self.entry.delta = !matches!(header.base, Base::None(_));
        self.entry.head.clear();
        if !self.entry.delta {
            self.resolves_to(header.size)?;
        }
        self.inflate.reset(true);
        self.state = State::Body;
        Ok(base_entry)
    }

    fn resolves_to(&mut self, size: u64) -> Result<(), Violation> {
        let limit = self.limits.object_bytes;
        if size > limit {
            return Err(Violation::ObjectBytes { found: size, limit });
        }
        self.resolved = self.resolved.saturating_add(size);
        self.limits.allow_resolved(self.resolved, self.position)
    }

    fn body(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize, Violation> {
        let declared = self.entry.declared;
        let mut used = 0;
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(&input[used..], &mut self.scratch, FlushDecompress::None)
                .map_err(|_| Violation::Deflate)?;
            let read = (self.inflate.total_in() - before.0) as usize;
            let written = (self.inflate.total_out() - before.1) as usize;
            used += read;
            self.inflated += written as u64;
            let total = self.inflate.total_out();
            if total > declared {
                return Err(Violation::TooLong(declared));
            }
            if self.inflated > self.limits.inflated_bytes {
                return Err(Violation::InflatedBytes(self.limits.inflated_bytes));
            }
            if self.inflate.total_in() > declared.saturating_mul(2).saturating_add(PADDING) {
                return Err(Violation::Padded);
            }
            if self.entry.delta && self.entry.head.len() < DELTA_HEAD {
                self.delta_head(written, status == Status::StreamEnd)?;
            }
            sink.data(&self.scratch[..written]);
            if status == Status::StreamEnd {
                if total != declared {
                    return Err(Violation::WrongSize { declared, found: total });
                }
                sink.raw(&input[..used]);
                sink.end();
                self.state = State::EntryHeader;
                if self.objects() == self.declared_objects {
                    self.state = State::Trailer;
                    self.trailer = Some(self.position + used as u64);
                }
                return Ok(used);
            }
            if read == 0 && written == 0 {
                // Nothing moves: either all input is used, or the stream is broken.
                if used < input.len() {
                    return Err(Violation::Deflate);
                }
                sink.raw(input);
                return Ok(used);
            }
        }
    }

    /// Learns the size of a delta's result as soon as enough of the delta is there.
    fn delta_head(&mut self, written: usize, ended: bool) -> Result<(), Violation> {
        let take = written.min(DELTA_HEAD - self.entry.head.len());
        self.entry.head.extend_from_slice(&self.scratch[..take]);
        if self.entry.head.len() < DELTA_HEAD && !ended {
            return Ok(());
        }
        let head = std::mem::take(&mut self.entry.head);
        let (_, rest) = varint(&head)?.ok_or(Violation::ShortDelta)?;
        let (result, _) = varint(rest)?.ok_or(Violation::ShortDelta)?;
        // Full length: the sizes of this entry are settled.
        self.entry.head = head;
        self.entry.head.resize(DELTA_HEAD, 0);
        self.resolves_to(result)
    }

    fn end(&mut self, input: &[u8]) -> usize {
        let used = self.collect(input, self.id_length);
        if self.partial.len() == self.id_length {
            self.state = State::Done;
        }
        used
    }
}

#[cfg(test)]
mod tests;
