//! What is remembered of each entry of a pack: about fifty bytes.

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use crate::firewall::{BLOB, COMMIT, TAG, TREE};

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// The kind of a delta that was not resolved yet.
pub(super) const UNKNOWN: u8 = 0;

pub(super) fn kind_of(number: u8) -> Option<Kind> {
    Some(match number {
        COMMIT => Kind::Commit,
        TREE => Kind::Tree,
        BLOB => Kind::Blob,
        TAG => Kind::Tag,
        _ => return None,
    })
}

pub(super) fn number_of(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => COMMIT,
        Kind::Tree => TREE,
        Kind::Blob => BLOB,
        Kind::Tag => TAG,
    }
}

/// Where the entries are. Fixed once the pack was read.
#[derive(Default)]
pub(super) struct Layout {
    /// Where each begins, rising.
    pub offsets: Vec<u64>,
    /// Bytes of its header.
    pub heads: Vec<u8>,
    /// Bytes that it inflates to.
    pub sizes: Vec<u64>,
    /// Of its raw bytes.
    pub crcs: Vec<u32>,
    /// Where the last one ends.
    pub end: u64,
}

impl Layout {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn size(&self, entry: u32) -> u64 {
        self.sizes.get(entry as usize).copied().unwrap_or_default()
    }

    /// Whether an entry is a delta that names its base by id; no other header is as long as an id.
    pub fn names_base_by_id(&self, entry: u32) -> bool {
        /// Type and size take ten bytes at most, and so does the distance of a base.
        const LONGEST: u8 = 20;
        self.heads.get(entry as usize).is_some_and(|length| *length > LONGEST)
    }

    /// Where the deflated bytes of an entry begin, and how many there are.
    pub fn deflated(&self, entry: u32) -> (u64, u64) {
        let at = entry as usize;
        let start = self.offsets.get(at).copied().unwrap_or(self.end);
        let start = start + u64::from(self.heads.get(at).copied().unwrap_or_default());
        let end = self.offsets.get(at + 1).copied().unwrap_or(self.end);
        (start, end.saturating_sub(start))
    }
}

/// What the entries are, as far as that is known.
pub(super) struct Found {
    /// [`UNKNOWN`], or the type of the object.
    pub kinds: Vec<u8>,
    /// The entry that a delta stands on; [`NONE`] for what is no delta, and for a delta whose base is
    /// not known yet.
    pub bases: Vec<u32>,
    ids: Vec<u8>,
    width: usize,
    /// Entries of an unknown kind.
    pub unknown: u32,
}

impl Found {
    pub fn new(hash: gix_hash::Kind) -> Self {
        let width = hash.len_in_bytes();
        Self { kinds: Vec::new(), bases: Vec::new(), ids: Vec::new(), width, unknown: 0 }
    }

    pub fn push(&mut self, kind: u8, base: u32) {
        self.kinds.push(kind);
        self.bases.push(base);
        self.ids.resize(self.ids.len() + self.width, 0);
        self.unknown += u32::from(kind == UNKNOWN);
    }

    /// The id of an entry; zeros as long as it is not known.
    pub fn id(&self, entry: u32) -> &oid {
        let start = entry as usize * self.width;
        self.ids
            .get(start..start + self.width)
            .and_then(|id| oid::try_from_bytes(id).ok())
            .unwrap_or_else(|| gix_hash::Kind::Sha1.null_ref())
    }

    pub fn set_id(&mut self, entry: u32, id: &oid) {
        let start = entry as usize * self.width;
        if let Some(place) = self.ids.get_mut(start..start + self.width)
            && id.as_bytes().len() == self.width
        {
            place.copy_from_slice(id.as_bytes());
        }
    }

    /// Notes what became of a delta.
    pub fn resolved(&mut self, resolved: &Resolved) {
        let at = resolved.entry as usize;
        let (Some(kind), Some(base)) = (self.kinds.get_mut(at), self.bases.get_mut(at)) else {
            return;
        };
        if *kind == UNKNOWN {
            self.unknown -= 1;
        }
        *kind = resolved.kind;
        *base = resolved.base;
        self.set_id(resolved.entry, &resolved.id);
    }

    /// All entries whose id is known, in the order of ids and, where those are equal, of entries.
    pub fn sorted(&self) -> Vec<u32> {
        let prefix = |entry: u32| {
            let bytes = self.id(entry).as_bytes().first_chunk::<8>().copied().unwrap_or_default();
            u64::from_be_bytes(bytes)
        };
        let known = (0..self.kinds.len() as u32)
            .filter(|entry| self.kinds.get(*entry as usize) != Some(&UNKNOWN));
        let mut keyed: Vec<(u64, u32)> = known.map(|entry| (prefix(entry), entry)).collect();
        keyed.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| self.id(a.1).cmp(self.id(b.1))).then(a.1.cmp(&b.1))
        });
        keyed.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// A delta that was applied.
pub(super) struct Resolved {
    pub entry: u32,
    pub base: u32,
    pub kind: u8,
    pub id: ObjectId,
}

/// A delta that names its base by id.
pub(super) struct RefDelta {
    pub base: ObjectId,
    pub entry: u32,
}

/// Everything that the first pass learned.
pub(super) struct Entries {
    pub layout: Layout,
    pub found: Found,
    /// Sorted by the id of the base, then by entry.
    pub refs: Vec<RefDelta>,
}
