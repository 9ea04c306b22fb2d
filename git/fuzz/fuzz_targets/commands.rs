//! Commands, options and certificates: however the bytes are cut, the same is understood.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sluice_git::{
    Nonces,
    command::{Error, Limits, Offered, Parser, Request},
};

fn parse(data: &[u8], step: usize, hash: gix_hash::Kind) -> Result<(Request, usize), Error> {
    let mut offered = Offered::default();
    offered.hash = hash;
    offered.certificates =
        Some(Nonces::new(*b"a seed of this target", "repository", Duration::from_secs(60)));
    let mut parser = Parser::new(Limits::default(), offered);
    let (mut start, mut end) = (0, 0);
    while end < data.len() {
        end = (end + step).min(data.len());
        let (used, done) = parser.feed(&data[start..end])?;
        start += used;
        assert!(start <= end);
        if done {
            break;
        }
    }
    Ok((parser.into_request()?, start))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let hash = if first & 1 == 0 { gix_hash::Kind::Sha1 } else { gix_hash::Kind::Sha256 };
    let step = usize::from(first >> 1) + 1;
    let whole = parse(data, data.len().max(1), hash);
    assert_eq!(whole, parse(data, step, hash));
    if let Ok((request, _)) = whole {
        for command in &request.commands {
            assert_eq!((command.old.kind(), command.new.kind()), (hash, hash));
        }
    }
});
