//! Memory follows the number of objects, not their size. Alone in its process, so that the peak that
//! the kernel counts is that of this test.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek as _, Write},
    path::Path,
    sync::atomic::AtomicBool,
};

use flate2::{Compression, write::ZlibEncoder};
use sluice_git::{firewall::Limits, import};

const MIB: usize = 1 << 20;
const BLOB: u8 = 3;
const OFS_DELTA: u8 = 6;

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Writes through and hashes.
struct Hashed<W> {
    out: W,
    hasher: gix_hash::Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

fn header(kind: u8, size: usize) -> Vec<u8> {
    let low = (kind << 4) | (size & 15) as u8;
    if size < 16 { vec![low] } else { [vec![low | 0x80], varint(size >> 4)].concat() }
}

/// A blob that nothing compresses, and a chain of deltas that each change its last byte.
fn write_pack(path: &Path, megabytes: usize, deltas: u8) {
    let size = megabytes * MIB;
    let file = BufWriter::new(File::create(path).unwrap());
    let mut out = Hashed { out: file, hasher: gix_hash::hasher(gix_hash::Kind::Sha1) };
    out.write_all(b"PACK\0\0\0\x02").unwrap();
    out.write_all(&(1 + u32::from(deltas)).to_be_bytes()).unwrap();
    out.write_all(&header(BLOB, size)).unwrap();
    let mut encoder = ZlibEncoder::new(&mut out, Compression::none());
    let mut seed = 42_u64;
    let mut noise = vec![0; MIB];
    for _ in 0..megabytes {
        for word in noise.chunks_mut(8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.copy_from_slice(&seed.to_le_bytes());
        }
        encoder.write_all(&noise).unwrap();
    }
    encoder.finish().unwrap();
    out.flush().unwrap();
    let mut distance = out.out.get_mut().stream_position().unwrap() as usize - 12;
    for number in 0..deltas {
        let mut delta = [varint(size), varint(size)].concat();
        for part in 0..megabytes {
            let length = MIB - usize::from(part + 1 == megabytes);
            delta.push(0xff);
            delta.extend_from_slice(&((part * MIB) as u32).to_le_bytes());
            delta.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        }
        delta.extend_from_slice(&[1, number]);
        let mut entry = header(OFS_DELTA, delta.len());
        let mut bytes = vec![(distance & 0x7f) as u8];
        while distance > 0x7f {
            distance = (distance >> 7) - 1;
            bytes.insert(0, (distance & 0x7f) as u8 | 0x80);
        }
        entry.extend_from_slice(&bytes);
        let mut encoder = ZlibEncoder::new(&mut entry, Compression::fast());
        encoder.write_all(&delta).unwrap();
        encoder.finish().unwrap();
        distance = entry.len();
        out.write_all(&entry).unwrap();
    }
    out.flush().unwrap();
    let Hashed { mut out, hasher } = out;
    out.write_all(hasher.try_finalize().unwrap().as_slice()).unwrap();
    out.flush().unwrap();
}

#[test]
fn objects_of_any_size_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (pack, objects) = (folder.path().join("a.pack"), folder.path().join("objects"));
    write_pack(&pack, 100, 4);
    fs::create_dir(&objects).unwrap();
    let before = peak();
    let never = AtomicBool::new(false);
    let imported = import::import(&[pack], &objects, &[], &Limits::default(), &never).unwrap();
    assert_eq!(imported.packs[0].objects, 5);
    let more = peak() - before;
    assert!(more < 32 * MIB, "{} KiB more", more / 1024);
}
