//! Object ids as others write them.

use gix_hash::{Kind, ObjectId};

/// The id that `hex` writes in full, if it is one of `kind`.
///
/// The length of the text tells the kinds apart, so text from outside decides what comes
/// out of [`ObjectId::from_hex`]; a store of the other kind must never be asked for it.
pub fn object_id(hex: &[u8], kind: Kind) -> Option<ObjectId> {
    ObjectId::from_hex(hex).ok().filter(|id| id.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_and_of_the_kind_that_was_asked_for() {
        let (short, long) = ([b'a'; 40], [b'a'; 64]);
        assert!(object_id(&short, Kind::Sha1).is_some());
        assert!(object_id(&long, Kind::Sha256).is_some());
        assert_eq!(object_id(&short, Kind::Sha256), None);
        assert_eq!(object_id(&long, Kind::Sha1), None);
        assert_eq!(object_id(&short[1..], Kind::Sha1), None);
        assert_eq!(object_id(&[b'g'; 40], Kind::Sha1), None);
    }
}
