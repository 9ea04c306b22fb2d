//! Packs that are well framed, with objects and deltas that are not: indexed and checked.
//!
//! The input is a list of entries: a kind, a word that picks a base, a length, the content.

#![no_main]

use std::{io::Write as _, sync::atomic::AtomicBool};

use flate2::{Compression, write::ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use sluice_git::{firewall::Limits, import};

const MAX_ENTRIES: u32 = 200;

fn header(out: &mut Vec<u8>, kind: u8, mut size: u64) {
    let mut byte = (kind << 4) | (size & 15) as u8;
    size >>= 4;
    while size > 0 {
        out.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    out.push(byte);
}

fn distance(out: &mut Vec<u8>, mut value: u64) {
    let mut bytes = vec![(value & 0x7f) as u8];
    while value > 0x7f {
        value = (value >> 7) - 1;
        bytes.push((value & 0x7f) as u8 | 0x80);
    }
    out.extend(bytes.iter().rev());
}

fn pack(mut data: &[u8]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut starts: Vec<u64> = Vec::new();
    let mut ids = Vec::new();
    while let [kind, pick, low, high, rest @ ..] = data {
        if starts.len() as u32 == MAX_ENTRIES {
            break;
        }
        let length = (usize::from(u16::from_le_bytes([*low, *high])) % 2048).min(rest.len());
        let (content, rest) = rest.split_at(length);
        data = rest;
        let start = 12 + entries.len() as u64;
        let picked = usize::from(*pick) % starts.len().max(1);
        let plain = [
            (1, gix_object::Kind::Commit),
            (2, gix_object::Kind::Tree),
            (3, gix_object::Kind::Blob),
            (4, gix_object::Kind::Tag),
        ];
        match kind % 6 {
            4 if !starts.is_empty() => {
                header(&mut entries, 6, content.len() as u64);
                distance(&mut entries, start - starts[picked]);
            }
            5 if !ids.is_empty() => {
                header(&mut entries, 7, content.len() as u64);
                let id: &gix_hash::ObjectId = &ids[usize::from(*pick) % ids.len()];
                entries.extend_from_slice(id.as_slice());
            }
            other => {
                let (number, kind) = plain[usize::from(other) % plain.len()];
                header(&mut entries, number, content.len() as u64);
                let id = gix_object::compute_hash(gix_hash::Kind::Sha1, kind, content);
                ids.extend(id.ok());
            }
        }
        let mut encoder = ZlibEncoder::new(&mut entries, Compression::fast());
        let _ = encoder.write_all(content);
        let _ = encoder.finish();
        starts.push(start);
    }
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&(starts.len() as u32).to_be_bytes());
    out.extend_from_slice(&entries);
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(&out);
    if let Ok(sum) = hasher.try_finalize() {
        out.extend_from_slice(sum.as_slice());
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let source = folder.path().join("came.pack");
    if std::fs::write(&source, pack(data)).is_err() {
        return;
    }
    let limits = Limits {
        object_bytes: 1 << 20,
        inflated_bytes: 16 << 20,
        resolved_bytes: 64 << 20,
        ..Limits::default()
    };
    let objects = folder.path().join("objects");
    let cancel = AtomicBool::new(false);
    if let Ok(imported) = import::import(&[source], &objects, &[], &limits, &cancel) {
        for pack in &imported.packs {
            assert!(pack.objects <= MAX_ENTRIES && pack.index.is_file());
        }
    }
});
