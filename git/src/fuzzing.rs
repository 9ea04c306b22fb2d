//! For the fuzz targets: parsers that no user of the library meets on their own.

use gix_hash::Kind as Hash;
use gix_object::Kind;

use crate::check::fsck::{self, Levels, Report};

/// Reads the body of a fetch in both protocols and with ids of both kinds.
pub fn fetch_request(body: &[u8]) {
    for hash in [Hash::Sha1, Hash::Sha256] {
        crate::upload::parse_for_fuzzing(body, hash);
    }
}

/// Checks an object as if it was of each kind.
pub fn fsck(data: &[u8], hash: Hash) {
    let levels = Levels::default();
    let id = gix_hash::ObjectId::null(hash);
    for kind in [Kind::Commit, Kind::Tree, Kind::Tag] {
        let mut warn = |_: String| ();
        let _ = fsck::object(kind, data, hash, &mut Report::new(&levels, &id, &mut warn));
    }
}

/// Checks the files that git itself reads.
pub fn files(data: &[u8]) {
    let levels = Levels::default();
    let id = gix_hash::ObjectId::null(Hash::Sha1);
    for check in [fsck::modules, fsck::attributes] {
        let mut warn = |_: String| ();
        let _ = check(Some(data), &mut Report::new(&levels, &id, &mut warn));
    }
}
