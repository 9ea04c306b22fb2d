//! Objects too large for memory: made piece by piece, and kept in a file while deltas stand on them.

use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use gix_hash::Hasher;

use super::{
    Error, Target,
    delta::{self, Broken, Instruction},
};
use crate::firewall::Violation;

/// Files are read and written in pieces of this size.
const PIECE: usize = 64 << 10;

/// The contents of an object on which deltas stand.
pub(super) enum Base {
    Memory(Vec<u8>),
    /// A file without a name, which is gone when it is closed.
    Disk(File, u64),
}

impl Base {
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, length) => *length,
        }
    }

    /// What it takes of the memory.
    pub fn memory(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.capacity(),
            Self::Disk(..) => 0,
        }
    }

    /// Moves it out of memory.
    pub fn into_disk(self, folder: &Path) -> io::Result<Self> {
        match self {
            Self::Memory(bytes) => {
                let file = tempfile::tempfile_in(folder)?;
                file.write_all_at(&bytes, 0)?;
                Ok(Self::Disk(file, bytes.len() as u64))
            }
            disk @ Self::Disk(..) => Ok(disk),
        }
    }
}

/// Pages of a base that is on the disk: deltas copy small pieces from all over it.
#[derive(Default)]
pub(super) struct Pages {
    /// The entry of which they are.
    owner: Option<u32>,
    /// Each page can only be at one place, that of its number modulo [`PAGES`].
    pages: Vec<Page>,
    /// Bytes that were read for the delta in hand.
    loaded: u64,
}

struct Page {
    number: usize,
    bytes: Vec<u8>,
}

/// Bytes of a page; all together they have 8 MiB.
const PAGE: usize = 4 << 10;
const PAGES: usize = 2048;

/// For one delta so many times more may be read than its base and its result have. Git copies no
/// less than 16 bytes and mostly whole lines, and neighbours from neighbours.
const READ_AGAIN: u64 = 64;

/// How often a long delta looks whether somebody still waits.
const STEPS: u32 = 1 << 12;

impl Pages {
    /// Prepares for copies from this entry.
    pub fn of(&mut self, entry: u32) -> &mut Self {
        if self.owner != Some(entry) {
            self.owner = Some(entry);
            self.pages.clear();
        }
        self
    }

    /// The page of a file of `size` bytes.
    fn get(&mut self, file: &File, size: usize, number: usize) -> io::Result<&[u8]> {
        if self.pages.is_empty() {
            self.pages.resize_with(PAGES, || Page { number: usize::MAX, bytes: Vec::new() });
        }
        let Some(page) = self.pages.get_mut(number % PAGES) else { return Ok(&[]) };
        if page.number != number {
            let start = number * PAGE;
            page.number = usize::MAX;
            page.bytes.resize(PAGE.min(size.saturating_sub(start)), 0);
            file.read_exact_at(&mut page.bytes, start as u64)?;
            self.loaded += page.bytes.len() as u64;
            page.number = number;
        }
        Ok(&page.bytes)
    }

    fn copy(
        &mut self,
        base: &Base,
        from: usize,
        length: usize,
        out: &mut Out,
    ) -> Result<(), Error> {
        let end = from.checked_add(length).ok_or(Broken)?;
        let (file, size) = match base {
            Base::Memory(bytes) => return out.write(bytes.get(from..end).ok_or(Broken)?),
            Base::Disk(file, size) => (file, usize::try_from(*size).map_err(|_| Broken)?),
        };
        if end > size {
            return Err(Broken.into());
        }
        let mut at = from;
        while at < end {
            if self.loaded > READ_AGAIN.saturating_mul(size as u64 + out.size) {
                return Err(Error::Violation(Violation::Scattered));
            }
            let page = self.get(file, size, at / PAGE)?;
            let piece = page.get(at % PAGE..).ok_or(Broken)?;
            let piece = piece.get(..end - at).unwrap_or(piece);
            if piece.is_empty() {
                return Err(Broken.into());
            }
            out.write(piece)?;
            at += piece.len();
        }
        Ok(())
    }
}

/// Where the bytes of a new object go, apart from its hash.
enum Place {
    Memory(Vec<u8>),
    Disk(BufWriter<File>),
    /// Nobody needs them.
    Nowhere,
}

/// An object that is being made.
pub(super) struct Out {
    place: Place,
    hasher: Option<Hasher>,
    written: u64,
    size: u64,
}

impl Out {
    /// For an object of `size` bytes, which are hashed if there is a `hasher`.
    pub fn memory(size: usize, hasher: Option<Hasher>) -> Self {
        let place = Place::Memory(Vec::with_capacity(size));
        Self { place, hasher, written: 0, size: size as u64 }
    }

    pub fn disk(folder: &Path, size: u64, hasher: Option<Hasher>) -> io::Result<Self> {
        let file = BufWriter::with_capacity(PIECE, tempfile::tempfile_in(folder)?);
        Ok(Self { place: Place::Disk(file), hasher, written: 0, size })
    }

    pub fn nowhere(size: u64, hasher: Option<Hasher>) -> Self {
        Self { place: Place::Nowhere, hasher, written: 0, size }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(Broken.into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        match &mut self.place {
            Place::Memory(memory) => memory.extend_from_slice(bytes),
            Place::Disk(file) => file.write_all(bytes)?,
            Place::Nowhere => {}
        }
        Ok(())
    }

    /// The object, if it was kept, and its hash.
    fn finish(self) -> Result<(Option<Base>, Option<Hasher>), Error> {
        if self.written != self.size {
            return Err(Broken.into());
        }
        let base = match self.place {
            Place::Memory(bytes) => Some(Base::Memory(bytes)),
            Place::Disk(file) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                Some(Base::Disk(file, self.written))
            }
            Place::Nowhere => None,
        };
        Ok((base, self.hasher))
    }
}

/// Copies a whole object.
pub(super) fn copy(mut from: impl BufRead, mut out: Out) -> Result<Option<Base>, Error> {
    loop {
        let piece = from.fill_buf()?;
        let length = piece.len();
        if length == 0 {
            return Ok(out.finish()?.0);
        }
        out.write(piece)?;
        from.consume(length);
    }
}

/// Reads the sizes of base and result from the front of a delta.
pub(super) fn header(delta: &mut impl BufRead) -> Result<(u64, u64), Error> {
    let mut number = || -> Result<u64, Error> {
        let mut bytes = Vec::with_capacity(10);
        loop {
            let mut byte = [0];
            delta.read_exact(&mut byte).map_err(|_| Broken)?;
            bytes.extend_from_slice(&byte);
            if let Some((value, _)) = crate::firewall::varint(&bytes).map_err(|_| Broken)? {
                return Ok(value);
            }
        }
    };
    Ok((number()?, number()?))
}

/// Applies the instructions of a delta as they are read. `pages` are of the base.
pub(super) fn apply(
    base: &Base,
    pages: &mut Pages,
    mut instructions: impl BufRead,
    mut out: Out,
    target: &Target<'_>,
) -> Result<(Option<Base>, Option<Hasher>), Error> {
    let mut bytes = [0; 8];
    pages.loaded = 0;
    for step in 0_u32.. {
        if step % STEPS == 0 {
            target.go_on()?;
        }
        let Some(first) = instructions.fill_buf()?.first().copied() else {
            return out.finish();
        };
        let bytes = bytes.get_mut(..delta::length(first)).unwrap_or_default();
        instructions.read_exact(bytes).map_err(|_| Broken)?;
        match delta::instruction(bytes)?.0 {
            Instruction::Copy { from, length } => pages.copy(base, from, length, &mut out)?,
            Instruction::Insert { length } => {
                let mut piece = [0; 127];
                let piece = piece.get_mut(..length).unwrap_or_default();
                instructions.read_exact(piece).map_err(|_| Broken)?;
                out.write(piece)?;
            }
        }
    }
    Err(Broken.into())
}
