//! Commits, trees and tags: as a push reads them, and as `git fsck` would.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_git::odd;

fuzz_target!(|data: &[u8]| {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let mut names = 0;
        let read = odd::tree(data, hash, |_, _| names += 1, |_, _| ());
        // An entry has a mode, a space, a name, a NUL and an id.
        assert!(read.is_err() || names <= data.len() / hash.len_in_bytes());
        let _ = odd::commit(data, hash);
        sluice_git::fuzzing::fsck(data, hash);
    }
});
