//! The manifest: encoding and decoding, free of storage. See the room's page for
//! the bytes.

use gix_hash::{Kind as Hash, ObjectId};
use gix_object::bstr::{BStr, BString};
use sha2::{Digest, Sha256};

/// Most entries of a block: what a look-up decodes at most.
pub const BLOCK_ENTRIES: usize = 64;

/// Most bytes of a path; `TreeLimits` may allow less, never more.
pub(crate) const MAX_PATH: usize = 4096;

/// No block of well-formed entries is larger.
const MAX_BLOCK: usize = BLOCK_ENTRIES * (MAX_PATH + 128);

/// Index and object table of ten million entries stay below.
const MAX_TABLES: u64 = 256 << 20;

/// Bytes that tell what a file is.
pub(super) const MAGIC: usize = 8;

/// How a manifest begins whose ids are of this kind.
pub(super) fn magic(hash: Hash) -> &'static [u8; MAGIC] {
    if hash == Hash::Sha256 { b"SLUSNAP2" } else { b"SLUSNAP1" }
}

/// The kind of the ids in a manifest that begins so; `None` if it is none.
pub(super) fn hash_of(beginning: &[u8]) -> Option<Hash> {
    [Hash::Sha1, Hash::Sha256].into_iter().find(|hash| magic(*hash).as_slice() == beginning)
}

/// Bytes of the foot.
pub(super) fn foot_length(hash: Hash) -> usize {
    92 + hash.len_in_bytes()
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be run.
    Executable,
    /// A link; its bytes are the target.
    Symlink,
    /// A commit of another repository, without bytes.
    Submodule,
}

/// Where the bytes of an entry are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Number of the data object in the manifest's table.
    pub object: u32,
    /// Offset of the frame, or of the seek table of a large blob.
    pub offset: u64,
    /// Length of the frame with its header.
    pub length: u32,
    /// First byte within the frame's content.
    pub within: u32,
}

/// A path of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root, `/` between components; bytes as git keeps them.
    pub path: BString,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; 0 for a submodule.
    pub size: u64,
    /// Id of the blob, or of the submodule's commit.
    pub id: ObjectId,
    /// Where its bytes are; meaningless for a submodule.
    pub place: Place,
}

/// A block as the index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) first: BString,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) entries: u32,
    pub(super) crc: u32,
}

/// A data object as the manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectRef {
    /// Below the prefix of the repository.
    pub(super) name: String,
    pub(super) size: u64,
    /// Bytes of all blobs that were written to it, dead or alive.
    pub(super) content: u64,
}

/// The foot of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foot {
    pub(super) index_at: u64,
    pub(super) objects_at: u64,
    pub(super) blocks: u64,
    pub(super) objects: u64,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) tree: ObjectId,
    pub(super) tables_crc: u32,
    pub(super) digest: [u8; 32],
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads from the front of a slice; `None` where it ends too soon or lies.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        self.varint()?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

/// Writes a manifest from sorted entries, a piece at a time.
pub(super) struct Builder {
    out: Vec<u8>,
    written: u64,
    digest: Sha256,
    index: Vec<u8>,
    block: Vec<u8>,
    first: BString,
    last: BString,
    in_block: usize,
    blocks: u64,
    entries: u64,
    files: u64,
    bytes: u64,
}

impl Builder {
    /// A manifest with ids of this kind.
    pub(super) fn new(hash: Hash) -> Self {
        Self {
            out: magic(hash).to_vec(),
            written: 0,
            digest: Sha256::new(),
            index: Vec::new(),
            block: Vec::new(),
            first: BString::default(),
            last: BString::default(),
            in_block: 0,
            blocks: 0,
            entries: 0,
            files: 0,
            bytes: 0,
        }
    }

    /// Adds the next entry; paths ascend.
    pub(super) fn push(&mut self, entry: &Entry) {
        if self.in_block == BLOCK_ENTRIES {
            self.end_block();
        }
        let shared = if self.in_block == 0 {
            self.first.clone_from(&entry.path);
            0
        } else {
            self.last.iter().zip(entry.path.iter()).take_while(|(a, b)| a == b).count()
        };
        let rest = entry.path.get(shared..).unwrap_or_default();
        put_varint(&mut self.block, shared as u64);
        put_varint(&mut self.block, rest.len() as u64);
        self.block.extend_from_slice(rest);
        self.block.push(entry.kind as u8);
        self.block.extend_from_slice(entry.id.as_slice());
        if entry.kind != EntryKind::Submodule {
            let Place { object, offset, length, within } = entry.place;
            for value in [entry.size, object.into(), offset, length.into(), within.into()] {
                put_varint(&mut self.block, value);
            }
            self.files += 1;
            self.bytes += entry.size;
        }
        self.last.clone_from(&entry.path);
        self.in_block += 1;
        self.entries += 1;
    }

    fn end_block(&mut self) {
        if self.in_block == 0 {
            return;
        }
        put_varint(&mut self.index, self.first.len() as u64);
        self.index.extend_from_slice(&self.first);
        put_varint(&mut self.index, self.written + self.out.len() as u64);
        put_varint(&mut self.index, self.block.len() as u64);
        put_varint(&mut self.index, self.in_block as u64);
        self.index.extend_from_slice(&crc32fast::hash(&self.block).to_le_bytes());
        self.out.append(&mut self.block);
        self.in_block = 0;
        self.blocks += 1;
    }

    /// What is ready to be written, if it is at least `at_least` bytes.
    pub(super) fn take(&mut self, at_least: usize) -> Option<Vec<u8>> {
        if self.out.is_empty() || self.out.len() < at_least {
            return None;
        }
        self.digest.update(&self.out);
        self.written += self.out.len() as u64;
        Some(std::mem::take(&mut self.out))
    }

    /// The rest of the manifest, and what its foot says.
    pub(super) fn finish(mut self, tree: ObjectId, objects: &[ObjectRef]) -> (Vec<u8>, Foot) {
        self.end_block();
        let index_at = self.written + self.out.len() as u64;
        let mut tables = std::mem::take(&mut self.index);
        let objects_at = index_at + tables.len() as u64;
        for object in objects {
            put_varint(&mut tables, object.name.len() as u64);
            tables.extend_from_slice(object.name.as_bytes());
            put_varint(&mut tables, object.size);
            put_varint(&mut tables, object.content);
        }
        let tables_crc = crc32fast::hash(&tables);
        self.out.append(&mut tables);
        let numbers = [
            index_at,
            objects_at,
            self.blocks,
            objects.len() as u64,
            self.entries,
            self.files,
            self.bytes,
        ];
        for number in numbers {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        self.out.extend_from_slice(tree.as_slice());
        self.out.extend_from_slice(&tables_crc.to_le_bytes());
        self.digest.update(&self.out);
        let digest: [u8; 32] = self.digest.finalize().into();
        self.out.extend_from_slice(&digest);
        let foot = Foot {
            index_at,
            objects_at,
            blocks: self.blocks,
            objects: objects.len() as u64,
            entries: self.entries,
            files: self.files,
            bytes: self.bytes,
            tree,
            tables_crc,
            digest,
        };
        (self.out, foot)
    }
}

impl Foot {
    /// The digest in hex.
    pub(super) fn digest_hex(&self) -> String {
        use std::fmt::Write;
        self.digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Reads the foot of a manifest of `size` bytes; `None` if it is none.
    pub(super) fn decode(bytes: &[u8], size: u64, hash: Hash) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let foot = Self {
            index_at: cursor.u64()?,
            objects_at: cursor.u64()?,
            blocks: cursor.u64()?,
            objects: cursor.u64()?,
            entries: cursor.u64()?,
            files: cursor.u64()?,
            bytes: cursor.u64()?,
            tree: ObjectId::try_from(cursor.take(hash.len_in_bytes())?).ok()?,
            tables_crc: cursor.u32()?,
            digest: cursor.array()?,
        };
        let end = size.checked_sub(foot_length(hash) as u64)?;
        let ordered = MAGIC as u64 <= foot.index_at
            && foot.index_at <= foot.objects_at
            && foot.objects_at <= end
            && end - foot.index_at <= MAX_TABLES;
        ordered.then_some(foot)
    }
}

/// Reads index and object table; `None` if they are malformed.
pub(super) fn decode_tables(foot: &Foot, bytes: &[u8]) -> Option<(Vec<BlockRef>, Vec<ObjectRef>)> {
    if crc32fast::hash(bytes) != foot.tables_crc {
        return None;
    }
    let (index, table) = bytes.split_at_checked((foot.objects_at - foot.index_at) as usize)?;
    let (mut index, mut table) = (Cursor(index), Cursor(table));
    let mut blocks: Vec<BlockRef> = Vec::new();
    let mut at = MAGIC as u64;
    let mut entries = 0u64;
    while !index.0.is_empty() {
        let length = index.length().filter(|n| *n <= MAX_PATH)?;
        let block = BlockRef {
            first: index.take(length)?.into(),
            offset: index.varint()?,
            length: index.varint().filter(|n| *n <= MAX_BLOCK as u64)? as u32,
            entries: index.varint().filter(|n| (1..=BLOCK_ENTRIES as u64).contains(n))? as u32,
            crc: index.u32()?,
        };
        let ascending = blocks.last().is_none_or(|last| last.first < block.first);
        if block.offset != at || !ascending {
            return None;
        }
        at += u64::from(block.length);
        entries += u64::from(block.entries);
        blocks.push(block);
    }
    let mut objects = Vec::new();
    while !table.0.is_empty() {
        let length = table.length()?;
        let name = std::str::from_utf8(table.take(length)?).ok()?.to_owned();
        objects.push(ObjectRef { name, size: table.varint()?, content: table.varint()? });
    }
    let counts = blocks.len() as u64 == foot.blocks
        && objects.len() as u64 == foot.objects
        && entries == foot.entries
        && at == foot.index_at;
    counts.then_some((blocks, objects))
}

/// Calls `each` with the entries of a block until it says false; `None` if the block
/// is malformed. The path is lent, so that a search copies none.
pub(super) fn decode_block(
    block: &BlockRef,
    bytes: &[u8],
    hash: Hash,
    mut each: impl FnMut(&BStr, Rest) -> bool,
) -> Option<()> {
    if crc32fast::hash(bytes) != block.crc {
        return None;
    }
    let mut cursor = Cursor(bytes);
    let mut path: Vec<u8> = Vec::with_capacity(128);
    for number in 0..block.entries {
        let shared = cursor.length().filter(|n| *n <= path.len())?;
        let rest = cursor.length().filter(|n| shared + n <= MAX_PATH)?;
        let rest = cursor.take(rest)?;
        // The first differing byte ascends, or the path is a longer one.
        let ascends = match (path.get(shared), rest.first()) {
            _ if number == 0 => true,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => old < new,
            (_, None) => false,
        };
        if !ascends {
            return None;
        }
        path.truncate(shared);
        path.extend_from_slice(rest);
        let kind = match cursor.array()? {
            [0u8] => EntryKind::File,
            [1] => EntryKind::Executable,
            [2] => EntryKind::Symlink,
            [3] => EntryKind::Submodule,
            _ => return None,
        };
        let id = ObjectId::try_from(cursor.take(hash.len_in_bytes())?).ok()?;
        let mut entry = Rest { kind, id, size: 0, place: Place::default() };
        if kind != EntryKind::Submodule {
            entry.size = cursor.varint()?;
            entry.place = Place {
                object: cursor.varint()?.try_into().ok()?,
                offset: cursor.varint()?,
                length: cursor.varint()?.try_into().ok()?,
                within: cursor.varint()?.try_into().ok()?,
            };
        }
        if !each(BStr::new(&path), entry) {
            return Some(());
        }
    }
    cursor.0.is_empty().then_some(())
}

/// An [`Entry`] without its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) kind: EntryKind,
    pub(super) id: ObjectId,
    pub(super) size: u64,
    pub(super) place: Place,
}

impl Rest {
    pub(super) fn at(self, path: &BStr) -> Entry {
        let Self { kind, id, size, place } = self;
        Entry { path: path.to_owned(), kind, size, id, place }
    }
}
