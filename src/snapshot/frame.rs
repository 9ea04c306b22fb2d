//! Frames: the unit that is compressed, checked and read.

use super::SnapshotError;

/// Most bytes of content in one frame: what a reader holds at least of a large file.
pub const FRAME_MAX: usize = 1 << 20;

/// Bytes in front of a frame's content.
pub(super) const HEADER: usize = 16;

/// First bytes of a data object.
pub(super) const DATA_MAGIC: &[u8; 8] = b"SLUDATA1";

/// Level 1 is what decides the speed of an ingest; higher levels save a tenth of the
/// bytes for twice the time.
const LEVEL: i32 = 1;

/// Of a large blob this much is tried before all of it is.
const PROBE: usize = 64 << 10;

/// Compresses frames, one at a time.
pub(super) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

fn corrupt(key: &str, what: &'static str) -> SnapshotError {
    SnapshotError::Corrupt { key: key.to_owned(), what }
}

impl Encoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, scratch: Vec::new() })
    }

    /// True if compressing is worth the time of whoever reads: told by a sample.
    pub(super) fn is_compressible(&mut self, content: &[u8]) -> bool {
        let sample = content.get(..PROBE).unwrap_or(content);
        let mut out = Vec::new();
        self.append(&mut out, sample, true);
        out.get(12) == Some(&1)
    }

    /// Appends the frame of `content` (at most [`FRAME_MAX`] bytes) and returns its
    /// length with header.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, content: &[u8], compress: bool) -> u32 {
        debug_assert!(content.len() <= FRAME_MAX);
        // Output that would save less than a twentieth is not worth decompressing;
        // giving zstd only that much room makes it give up by itself.
        let room = content.len() - content.len() / 20;
        let mut compressed = None;
        if compress && content.len() > 64 {
            if self.scratch.len() < room {
                self.scratch.resize(room, 0);
            }
            let target = self.scratch.get_mut(..room).unwrap_or_default();
            compressed = self.zstd.compress_to_buffer(content, target).ok();
        }
        let stored = compressed.and_then(|n| self.scratch.get(..n)).unwrap_or(content);
        let method = u8::from(compressed.is_some());
        let start = out.len();
        out.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(stored).to_le_bytes());
        out.extend_from_slice(&[method, 0, 0, 0]);
        out.extend_from_slice(stored);
        (out.len() - start) as u32
    }
}

/// Decompresses frames, one at a time.
pub(super) struct Decoder(zstd::bulk::Decompressor<'static>);

impl Decoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Decompressor::new()?))
    }

    /// The content of a whole frame (header included), checked. Allocates at most
    /// [`FRAME_MAX`], or what the frame itself has if it is stored as it is.
    pub(super) fn decode(&mut self, key: &str, frame: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let damaged = || corrupt(key, "a frame is malformed");
        let (header, stored) = frame.split_at_checked(HEADER).ok_or_else(damaged)?;
        let number = |at: usize| -> Option<u32> {
            header.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
        };
        let raw = number(0).ok_or_else(damaged)? as usize;
        if number(4).ok_or_else(damaged)? as usize != stored.len() {
            return Err(corrupt(key, "a frame has another length than the manifest says"));
        }
        if number(8) != Some(crc32fast::hash(stored)) {
            return Err(corrupt(key, "the checksum of a frame is wrong"));
        }
        match header.get(12) {
            Some(0) if stored.len() == raw => Ok(stored.to_vec()),
            Some(1) if raw <= FRAME_MAX => {
                let mut content = vec![0; raw];
                match self.0.decompress_to_buffer(stored, content.as_mut_slice()) {
                    Ok(length) if length == raw => Ok(content),
                    _ => Err(corrupt(key, "a frame cannot be decompressed")),
                }
            }
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(content: &[u8], compress: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let length = Encoder::new().unwrap().append(&mut out, content, compress);
        assert_eq!(length as usize, out.len());
        out
    }

    #[test]
    fn content_comes_back_whatever_it_is() {
        let noise: Vec<u8> = (0..200_000u64)
            .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) >> 13) as u8)
            .collect();
        for content in [&b""[..], b"x", &vec![7; 100_000], &vec![b'a'; FRAME_MAX], &noise] {
            for compress in [true, false] {
                let frame = coded(content, compress);
                assert!(frame.len() <= content.len() + HEADER);
                assert!(Decoder::new().unwrap().decode("k", &frame).unwrap() == content);
            }
        }
        assert!(coded(&vec![7; 100_000], true).len() < 200);
    }

    #[test]
    fn a_frame_that_was_changed_or_cut_is_refused() {
        let content: Vec<u8> = (0..5000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let frame = coded(&content, true);
        let mut decoder = Decoder::new().unwrap();
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x11;
            // The three bytes of padding say nothing.
            if !(13..16).contains(&at) {
                assert!(decoder.decode("k", &damaged).is_err(), "byte {at}");
            }
        }
        for length in 0..frame.len() {
            assert!(decoder.decode("k", &frame[..length]).is_err());
        }
        // A lie about the size allocates nothing.
        let mut lie = frame.clone();
        lie[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decoder.decode("k", &lie).is_err());
    }
}
