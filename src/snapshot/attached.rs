//! Content that lies beside git: objects of Git LFS in place of their pointers.
//!
//! A pointer is a small file that names SHA-256 and size of the content
//! ([specification](https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)). Where
//! the remote has that content, the snapshot holds it under the id that git would give
//! it: readers see the file as a checkout shows it, and what is kept by content (the
//! results of scans) is never that of the pointer. Where it does not, the pointer stays.

use std::collections::HashMap;
use std::sync::Arc;

use gix_hash::ObjectId;
use gix_object::{FindExt as _, FindHeader as _, Kind};

use super::SnapshotError;
use super::manifest::{Entry, EntryKind};
use super::tree::object_error;
use crate::scan::Cancel;

/// Pointers are smaller than this, says the specification.
const MAX_POINTER: u64 = 1024;

/// The first line of a pointer.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// An object that was uploaded beside the packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedObject {
    /// Bytes.
    pub size: u64,
    /// Id that git would give the content as a blob.
    pub blob: ObjectId,
    /// Where the bytes lie in the storage.
    pub key: String,
}

/// Objects by their SHA-256, lower-case hex. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached(Arc<HashMap<String, AttachedObject>>);

impl FromIterator<(String, AttachedObject)> for Attached {
    fn from_iter<T: IntoIterator<Item = (String, AttachedObject)>>(objects: T) -> Self {
        Self(Arc::new(objects.into_iter().collect()))
    }
}

/// What takes the place of pointers, by the id of the content.
pub(super) type InPlace<'a> = HashMap<ObjectId, &'a AttachedObject>;

impl Attached {
    /// Gives the entries that are pointers to what is here the ids of their contents.
    /// Without any objects this reads nothing.
    pub(super) fn put_in_place(
        &self,
        odb: &gix_odb::HandleArc,
        entries: &mut [Entry],
        cancel: &Cancel,
    ) -> Result<InPlace<'_>, SnapshotError> {
        let mut in_place = InPlace::new();
        if self.0.is_empty() {
            return Ok(in_place);
        }
        let mut buffer = Vec::new();
        for entry in entries {
            if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(SnapshotError::Cancelled);
            }
            let header = odb.try_header(&entry.id).map_err(|e| object_error(entry.id, &e))?;
            if !header.is_some_and(|h| h.kind == Kind::Blob && h.size < MAX_POINTER) {
                continue;
            }
            let blob =
                odb.find_blob(&entry.id, &mut buffer).map_err(|e| object_error(entry.id, &e))?;
            let found = pointer(blob.data)
                .and_then(|(oid, size)| self.0.get(oid).filter(|object| object.size == size))
                // It came before the first push told of which kind the ids are.
                .filter(|object| object.blob.kind() == entry.id.kind());
            if let Some(object) = found {
                entry.id = object.blob;
                in_place.insert(object.blob, object);
            }
        }
        Ok(in_place)
    }
}

/// SHA-256 and size, if this is a pointer.
fn pointer(content: &[u8]) -> Option<(&str, u64)> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return None;
    }
    let (mut oid, mut size) = (None, None);
    for line in lines {
        match line.split_once(' ')? {
            ("oid", value) => oid = Some(value.strip_prefix("sha256:")?),
            ("size", value) => size = Some(value.parse().ok()?),
            _ => {}
        }
    }
    Some((oid?, size?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_small_files() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text = format!("{VERSION}\noid sha256:{oid}\nsize 12345\n");
        assert_eq!(pointer(text.as_bytes()), Some((oid, 12345)));
        let with_more = format!("{VERSION}\next-0-foo sha256:{oid}\noid sha256:{oid}\nsize 1\n");
        assert_eq!(pointer(with_more.as_bytes()), Some((oid, 1)));
        for other in [
            "",
            "version 2\n",
            VERSION,
            &format!("{VERSION}\noid md5:{oid}\nsize 1\n"),
            &format!("{VERSION}\noid sha256:{oid}\nsize -1\n"),
            &format!("{VERSION}\noid sha256:{oid}\n"),
        ] {
            assert_eq!(pointer(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(pointer(&[0xff, 0xfe]), None);
    }
}
