//! The checks of `git fsck`, message by message, for repositories whose configuration asks for them.
//!
//! This is git's own measure, with its names, so that an operator who knows `receive.fsck.<name>`
//! finds here what they expect. It is apart from [`super::object`] and [`super::tree`], which decide
//! what sluice itself refuses and what it records.

use gix_hash::oid;
use gix_object::Kind;

mod files;
mod message;
mod text;
mod tree;

pub(crate) use files::{MAX_FILE, attributes, modules};
pub(crate) use message::Message;
pub use message::{Level, LevelError, Levels};
pub(crate) use tree::{Special, special};

/// How closely the objects of a push are looked at.
#[derive(Debug, Clone, Default)]
pub enum Fsck {
    /// What nobody could keep faithfully is refused, and what is odd is recorded: see
    /// [`crate::Flaw`] and [`crate::Oddity`].
    #[default]
    Record,
    /// Only what cannot be read at all is refused, as git does without `receive.fsckObjects`.
    Off,
    /// As git does with it.
    Levels(Levels),
}

/// Where messages about one object go.
pub(crate) struct Report<'a> {
    levels: &'a Levels,
    object: &'a oid,
    warn: &'a mut dyn FnMut(String),
}

/// The sentence for which the object is refused.
pub(crate) type Refused = String;

impl<'a> Report<'a> {
    pub fn new(levels: &'a Levels, object: &'a oid, warn: &'a mut dyn FnMut(String)) -> Self {
        Self { levels, object, warn }
    }

    /// Says something about the object; an error if it refuses it.
    pub fn say(&mut self, message: Message, text: &str) -> Result<(), Refused> {
        let line = || format!("object {}: {}: {text}", self.object, message.name());
        match self.levels.of(message, self.object) {
            Level::Error => return Err(line()),
            Level::Warn => (self.warn)(format!("warning: {}", line())),
            Level::Ignore => {}
        }
        Ok(())
    }
}

/// Checks a commit, a tree or a tag.
pub(crate) fn object(
    kind: Kind,
    data: &[u8],
    hash: gix_hash::Kind,
    report: &mut Report<'_>,
) -> Result<(), Refused> {
    match kind {
        Kind::Commit => text::commit(data, hash, report),
        Kind::Tag => text::tag(data, hash, report),
        Kind::Tree => tree::check(data, hash, report),
        Kind::Blob => Ok(()),
    }
}
