//! Who gets what passed the firewall.

use super::Failure;

/// An entry of the pack that begins, its numbers checked.
pub(crate) struct Begun<'a> {
    /// Where it begins in the pack.
    pub offset: u64,
    /// The bytes of its header.
    pub header: &'a [u8],
    /// Bytes after inflating; of a delta, those of the delta.
    pub size: u64,
    pub base: BeginsOn<'a>,
}

/// What an entry is made from.
pub(crate) enum BeginsOn<'a> {
    /// Nothing: it is a whole object of this type.
    Nothing(u8),
    /// The entry of this number.
    Entry(u32),
    /// The object of this id.
    Id(&'a [u8]),
}

/// Gets the contents of a pack as they pass the firewall.
pub(crate) trait Sink {
    fn begin(&mut self, entry: &Begun<'_>);
    /// Raw bytes of the entry behind its header.
    fn raw(&mut self, bytes: &[u8]);
    /// Inflated bytes of the entry.
    fn data(&mut self, bytes: &[u8]);
    fn end(&mut self);
}

/// Nobody listens.
impl Sink for () {
    fn begin(&mut self, _: &Begun<'_>) {}
    fn raw(&mut self, _: &[u8]) {}
    fn data(&mut self, _: &[u8]) {}
    fn end(&mut self) {}
}

/// Takes the bytes of a pack beside what is in them.
pub(crate) trait Spool: Sink {
    /// The next bytes of the pack up to its checksum, after the sink has seen what is in them.
    /// After an error no more come.
    fn spool(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    /// Bytes of the checksum.
    fn trailer(&mut self, bytes: &[u8]);
}
