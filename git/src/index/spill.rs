//! Objects too large for memory: made piece by piece, and kept in a file while deltas stand on them.

use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use gix_hash::Hasher;

use super::{
    Error,
    delta::{self, Broken, Instruction},
};

/// Copies go through a buffer of this size.
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

    fn copy(&self, from: usize, length: usize, out: &mut Out) -> Result<(), Error> {
        let end = from.checked_add(length).ok_or(Broken)?;
        match self {
            Self::Memory(bytes) => out.write(bytes.get(from..end).ok_or(Broken)?),
            Self::Disk(file, size) => {
                if end as u64 > *size {
                    return Err(Broken.into());
                }
                let mut buffer = vec![0; length.min(PIECE)];
                let mut at = from;
                while at < end {
                    let wanted = (end - at).min(PIECE);
                    let piece = buffer.get_mut(..wanted).unwrap_or_default();
                    file.read_exact_at(piece, at as u64)?;
                    out.write(piece)?;
                    at += wanted;
                }
                Ok(())
            }
        }
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

/// Applies the instructions of a delta as they are read.
pub(super) fn apply(
    base: &Base,
    mut instructions: impl BufRead,
    mut out: Out,
) -> Result<(Option<Base>, Option<Hasher>), Error> {
    let mut bytes = [0; 8];
    loop {
        let Some(first) = instructions.fill_buf()?.first().copied() else {
            return out.finish();
        };
        let bytes = bytes.get_mut(..delta::length(first)).unwrap_or_default();
        instructions.read_exact(bytes).map_err(|_| Broken)?;
        match delta::instruction(bytes)?.0 {
            Instruction::Copy { from, length } => base.copy(from, length, &mut out)?,
            Instruction::Insert { length } => {
                let mut piece = [0; 127];
                let piece = piece.get_mut(..length).unwrap_or_default();
                instructions.read_exact(piece).map_err(|_| Broken)?;
                out.write(piece)?;
            }
        }
    }
}
