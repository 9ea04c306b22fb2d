//! Writes git objects into one pack with its index.
//!
//! The bytes are ours, so nothing has to be checked again: ids, places and checksums
//! are known when an object is written
//! ([gitformat-pack](https://git-scm.com/docs/gitformat-pack)). Objects are deflated
//! fast and not as deltas. Memory: about 60 bytes an object, and one small object.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::{Compress, Compression, FlushCompress, Status};
use gix_hash::{Hasher, ObjectId};
use gix_object::Kind;

use super::ArchiveError;

/// Objects up to this size are hashed before they are written, so that one that is
/// there already costs nothing; of larger ones what was written is taken back.
const SMALL: u64 = 1 << 20;

const BUFFER: usize = 1 << 18;
const CHUNK: usize = 1 << 16;

/// A pack that is complete.
#[derive(Debug, Clone)]
pub struct Pack {
    /// The `.pack` file.
    pub pack: PathBuf,
    /// The `.idx` file.
    pub index: PathBuf,
    /// The checksum that names it.
    pub name: ObjectId,
    /// Bytes of the `.pack` file.
    pub bytes: u64,
    /// How many.
    pub objects: u32,
}

#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    crc: u32,
}

pub(super) struct Writer {
    path: PathBuf,
    file: File,
    /// Not written yet.
    buffer: Vec<u8>,
    /// Where the buffer begins.
    flushed: u64,
    objects: HashMap<ObjectId, Place>,
    deflate: Compress,
    crc: crc32fast::Hasher,
    scratch: Vec<u8>,
}

impl Writer {
    /// A new pack in `folder`.
    pub(super) fn new(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{name}.writing"));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let mut buffer = Vec::with_capacity(BUFFER + CHUNK);
        // The number of objects comes last.
        buffer.extend_from_slice(b"PACK\0\0\0\x02\0\0\0\0");
        Ok(Self {
            path,
            file,
            buffer,
            flushed: 0,
            objects: HashMap::new(),
            deflate: Compress::new(Compression::fast(), true),
            crc: crc32fast::Hasher::new(),
            scratch: Vec::new(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Adds an object whose bytes are at hand.
    pub(super) fn add(&mut self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, ArchiveError> {
        let mut hash = header(kind, bytes.len() as u64);
        hash.update(bytes);
        let id = finish(hash)?;
        if !self.objects.contains_key(&id) {
            let start = self.begin(kind, bytes.len() as u64).map_err(ArchiveError::Io)?;
            self.deflate(bytes, FlushCompress::Finish).map_err(ArchiveError::Io)?;
            self.end(id, start)?;
        }
        Ok(id)
    }

    /// Adds an object of exactly `size` bytes.
    pub(super) fn add_from(
        &mut self,
        kind: Kind,
        size: u64,
        content: &mut dyn Read,
        name: &[u8],
    ) -> Result<ObjectId, ArchiveError> {
        let reading = |error| ArchiveError::reading(error, name);
        let short = || ArchiveError::reading(io::ErrorKind::UnexpectedEof.into(), name);
        if size <= SMALL {
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            content.take(size).read_to_end(&mut bytes).map_err(reading)?;
            if bytes.len() as u64 != size {
                return Err(short());
            }
            let id = self.add(kind, &bytes)?;
            self.scratch = bytes;
            return Ok(id);
        }
        let start = self.begin(kind, size).map_err(ArchiveError::Io)?;
        let mut hash = header(kind, size);
        let mut chunk = vec![0; CHUNK];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = chunk.get_mut(..most).unwrap_or_default();
            let read = match content.read(part) {
                Ok(0) => return Err(short()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(error)),
            };
            let part = chunk.get(..read).unwrap_or_default();
            hash.update(part);
            self.deflate(part, FlushCompress::None).map_err(ArchiveError::Io)?;
            left -= read as u64;
        }
        self.deflate(&[], FlushCompress::Finish).map_err(ArchiveError::Io)?;
        let id = finish(hash)?;
        if self.objects.contains_key(&id) {
            self.take_back(start).map_err(ArchiveError::Io)?;
        } else {
            self.end(id, start)?;
        }
        Ok(id)
    }

    fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn begin(&mut self, kind: Kind, size: u64) -> io::Result<u64> {
        let start = self.position();
        self.crc = crc32fast::Hasher::new();
        let number: u8 = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        let mut rest = size >> 4;
        let mut byte = number << 4 | (size & 15) as u8;
        let mut head = Vec::with_capacity(10);
        while rest > 0 {
            head.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        head.push(byte);
        self.put(&head)?;
        self.deflate.reset();
        Ok(start)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn deflate(&mut self, mut input: &[u8], flush: FlushCompress) -> io::Result<()> {
        let mut out = [0; CHUNK / 4];
        loop {
            let (before_in, before_out) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self.deflate.compress(input, &mut out, flush).map_err(io::Error::other)?;
            let taken = (self.deflate.total_in() - before_in) as usize;
            let given = (self.deflate.total_out() - before_out) as usize;
            input = input.get(taken..).unwrap_or_default();
            self.put(out.get(..given).unwrap_or_default())?;
            match (status, flush) {
                (Status::StreamEnd, _) => return Ok(()),
                (_, FlushCompress::Finish) => {}
                _ if input.is_empty() && given < out.len() => return Ok(()),
                _ => {}
            }
        }
    }

    fn end(&mut self, id: ObjectId, offset: u64) -> Result<(), ArchiveError> {
        if self.objects.len() >= u32::MAX as usize {
            return Err(ArchiveError::new("too_many_files", "the archive has too many objects"));
        }
        let crc = self.crc.clone().finalize();
        self.objects.insert(id, Place { offset, crc });
        Ok(())
    }

    fn take_back(&mut self, start: u64) -> io::Result<()> {
        if let Some(keep) = start.checked_sub(self.flushed) {
            self.buffer.truncate(keep as usize);
            return Ok(());
        }
        self.buffer.clear();
        self.file.set_len(start)?;
        self.file.seek(SeekFrom::Start(start))?;
        self.flushed = start;
        Ok(())
    }

    /// Completes the pack and writes its index; the files are named as git does.
    pub(super) fn finish(mut self) -> io::Result<Pack> {
        self.flush()?;
        let count = self.objects.len() as u32;
        self.file.seek(SeekFrom::Start(8))?;
        self.file.write_all(&count.to_be_bytes())?;
        self.file.seek(SeekFrom::Start(0))?;
        let mut hash = gix_hash::hasher(gix_hash::Kind::Sha1);
        let mut chunk = vec![0; BUFFER];
        loop {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(chunk.get(..read).unwrap_or_default());
        }
        let name = hash.try_finalize().map_err(io::Error::other)?;
        self.file.write_all(name.as_slice())?;
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let pack = folder.join(format!("pack-{name}.pack"));
        let index = folder.join(format!("pack-{name}.idx"));
        fs::write(&index, self.index(name)?)?;
        fs::rename(&self.path, &pack)?;
        Ok(Pack { pack, index, name, bytes: self.flushed + 20, objects: count })
    }

    /// An index of version 2.
    fn index(&self, pack: ObjectId) -> io::Result<Vec<u8>> {
        let mut all: Vec<(&ObjectId, &Place)> = self.objects.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        let mut out = Vec::with_capacity(1100 + all.len() * 28);
        out.extend_from_slice(b"\xfftOc\0\0\0\x02");
        let mut fan = [0u32; 256];
        for (id, _) in &all {
            if let Some(count) = fan.get_mut(usize::from(id.first_byte())) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in fan {
            sum += count;
            out.extend_from_slice(&sum.to_be_bytes());
        }
        for (id, _) in &all {
            out.extend_from_slice(id.as_slice());
        }
        for (_, place) in &all {
            out.extend_from_slice(&place.crc.to_be_bytes());
        }
        let mut large = Vec::new();
        for (_, place) in &all {
            let short = if place.offset < 1 << 31 {
                place.offset as u32
            } else {
                large.push(place.offset);
                1 << 31 | (large.len() - 1) as u32
            };
            out.extend_from_slice(&short.to_be_bytes());
        }
        for offset in large {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        out.extend_from_slice(pack.as_slice());
        let mut hash = gix_hash::hasher(gix_hash::Kind::Sha1);
        hash.update(&out);
        let id = hash.try_finalize().map_err(io::Error::other)?;
        out.extend_from_slice(id.as_slice());
        Ok(out)
    }
}

fn header(kind: Kind, size: u64) -> Hasher {
    let mut hash = gix_hash::hasher(gix_hash::Kind::Sha1);
    hash.update(format!("{kind} {size}\0").as_bytes());
    hash
}

/// The hash detects the known attacks on SHA-1.
fn finish(hash: Hasher) -> Result<ObjectId, ArchiveError> {
    hash.try_finalize().map_err(|_| {
        ArchiveError::new("sha1_collision", "a file in the archive is an attack on SHA-1")
    })
}
