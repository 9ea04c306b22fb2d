//! From the bytes of a file to the bytes of a tar.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::budget::{Budget, Metered};
use super::form::{self, Form, SNIFF};
use super::{ArchiveError, MAX_WINDOW};

const BUFFER: usize = 1 << 16;

/// The largest window of zstd, as a power of two, that stays below [`MAX_WINDOW`].
const ZSTD_WINDOW_LOG: u32 = 27;

/// A tar that comes in, counted.
pub(super) type Stream<'a> = BufReader<Metered<'a, Box<dyn Read + 'a>>>;

/// The first bytes of the file, which is left at its beginning.
pub(super) fn head(mut file: &File) -> Result<Vec<u8>, ArchiveError> {
    let mut head = Vec::with_capacity(SNIFF);
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(SNIFF as u64).read_to_end(&mut head))
        .and_then(|_| file.seek(SeekFrom::Start(0)))
        .map_err(ArchiveError::Io)?;
    Ok(head)
}

/// A tar that is not compressed.
pub(super) fn plain<'a>(
    file: &'a File,
    budget: &'a Budget<'a>,
) -> Result<Stream<'a>, ArchiveError> {
    budget.alive()?;
    let inner: Box<dyn Read + 'a> = Box::new(file);
    Ok(BufReader::with_capacity(BUFFER, Metered { inner, budget }))
}

/// A tar in one layer of compression.
///
/// # Errors
///
/// `nested_compression` if there is another layer, `not_an_archive` if what comes out
/// is no tar.
pub(super) fn decoded<'a>(
    file: &'a File,
    form: Form,
    budget: &'a Budget<'a>,
) -> Result<Stream<'a>, ArchiveError> {
    let raw = BufReader::with_capacity(BUFFER, file);
    let inner: Box<dyn Read + 'a> = match form {
        Form::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Form::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(raw)),
        Form::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(raw).map_err(ArchiveError::Io)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(ArchiveError::Io)?;
            Box::new(decoder)
        }
        Form::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(MAX_WINDOW, flags)
                .map_err(|error| ArchiveError::Io(io::Error::other(error)))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(raw, stream))
        }
        Form::Zip | Form::Tar => Box::new(raw),
    };
    let mut inner = inner;
    let mut head = Vec::with_capacity(SNIFF);
    (&mut inner)
        .take(SNIFF as u64)
        .read_to_end(&mut head)
        .map_err(|error| ArchiveError::reading(error, b""))?;
    if head.is_empty() {
        return Err(empty());
    }
    if form::compression(&head).is_some() || head.starts_with(b"PK\x03\x04") {
        return Err(ArchiveError::new(
            "nested_compression",
            "what is compressed here is compressed again, or a zip: send a tar with one layer of \
             compression",
        ));
    }
    if !form::is_tar(&head) {
        return Err(ArchiveError::new(
            "not_an_archive",
            "the file is compressed, but what is in it is no tar archive",
        ));
    }
    let inner: Box<dyn Read + 'a> = Box::new(io::Cursor::new(head).chain(inner));
    Ok(BufReader::with_capacity(BUFFER, Metered { inner, budget }))
}

pub(super) fn empty() -> ArchiveError {
    ArchiveError::new("empty_archive", "the archive holds no file")
}
