//! Reading entries of the spooled pack again: by positioned reads, from many threads at once.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt as _,
};

use flate2::{Decompress, FlushDecompress, Status, bufread::ZlibDecoder};

use super::{Error, entry::Layout};

/// So much is read at once at least: deltas are small, and often neighbours of what was read last.
const WINDOW: usize = 4 << 10;

/// What is larger than the window is read in pieces of this size.
const STREAM: usize = 64 << 10;

/// One thread's view of the entries.
pub(super) struct Source<'a> {
    file: &'a File,
    layout: &'a Layout,
    window: Vec<u8>,
    /// Where the window begins, and how much of it is filled.
    start: u64,
    filled: usize,
    inflate: Decompress,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a File, layout: &'a Layout) -> Self {
        let inflate = Decompress::new(true);
        Self { file, layout, window: vec![0; WINDOW], start: 0, filled: 0, inflate }
    }

    /// Inflates an entry into `out`, whose first bytes it then is. It was inflated before, so its
    /// size is known to be true; if the file has changed meanwhile, that is an error.
    pub fn inflate<'b>(&mut self, entry: u32, out: &'b mut Vec<u8>) -> Result<&'b [u8], Error> {
        let size = usize::try_from(self.layout.size(entry)).map_err(|_| changed())?;
        let (start, length) = self.layout.deflated(entry);
        let length = usize::try_from(length).map_err(|_| changed())?;
        if out.len() < size {
            out.reserve_exact(size - out.len());
            out.resize(size, 0);
        }
        let out = out.get_mut(..size).ok_or_else(changed)?;
        self.inflate.reset(true);
        if length <= self.window.len() {
            let from = self.fill(start, length)?;
            let input = self.window.get(from..from + length).ok_or_else(changed)?;
            let status = self.inflate.decompress(input, out, FlushDecompress::Finish);
            if !matches!(status, Ok(Status::StreamEnd)) || self.inflate.total_out() != size as u64 {
                return Err(changed());
            }
            return Ok(out);
        }
        let mut section =
            BufReader::with_capacity(STREAM, Section::new(self.file, start, length as u64));
        loop {
            let before = self.inflate.total_in();
            let written = self.inflate.total_out() as usize;
            let input = section.fill_buf()?;
            if input.is_empty() {
                return Err(changed());
            }
            let rest = out.get_mut(written..).ok_or_else(changed)?;
            let status = self.inflate.decompress(input, rest, FlushDecompress::None);
            let used = (self.inflate.total_in() - before) as usize;
            section.consume(used);
            match status {
                Ok(Status::StreamEnd) if self.inflate.total_out() == size as u64 => return Ok(out),
                Ok(Status::Ok | Status::BufError) if used > 0 => {}
                _ => return Err(changed()),
            }
        }
    }

    /// Inflates an entry piece by piece.
    pub fn stream(&self, entry: u32) -> impl BufRead + use<'a> {
        let (start, length) = self.layout.deflated(entry);
        let section = BufReader::with_capacity(STREAM, Section::new(self.file, start, length));
        BufReader::with_capacity(STREAM, ZlibDecoder::new(section))
    }

    /// Brings bytes of the pack into the window and says where they begin in it.
    fn fill(&mut self, at: u64, length: usize) -> io::Result<usize> {
        if let Some(from) = at.checked_sub(self.start)
            && from.saturating_add(length as u64) <= self.filled as u64
        {
            return Ok(from as usize);
        }
        self.filled = 0;
        while self.filled < length {
            let read = self.file.read_at(
                self.window.get_mut(self.filled..).unwrap_or_default(),
                at + self.filled as u64,
            )?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += read;
        }
        self.start = at;
        Ok(0)
    }
}

/// An entry was sound when it was received.
fn changed() -> Error {
    Error::Io(io::Error::other("a spooled pack is not what was written"))
}

/// A part of a file as a reader of its own.
pub(super) struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl<'a> Section<'a> {
    pub fn new(file: &'a File, at: u64, length: u64) -> Self {
        Self { file, at, left: length }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
