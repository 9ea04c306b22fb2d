//! The messages of `git fsck` by their names, and how severe each is.
//! ([git fsck, messages](https://git-scm.com/docs/git-fsck#_fsck_messages))

use std::collections::HashSet;

use gix_hash::ObjectId;

/// What becomes of an object about which there is a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The push is refused.
    Error,
    /// The pusher is told.
    Warn,
    /// Nothing.
    Ignore,
}

impl Level {
    /// Reads `error`, `warn` or `ignore`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "ignore" => Self::Ignore,
            _ => return None,
        })
    }
}

macro_rules! messages {
    ($($variant:ident $name:literal $severity:ident,)*) => {
        /// One message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Message { $($variant),* }

        /// The name of each and its severity before anything is configured.
        const ALL: &[(Message, &str, Severity)] =
            &[$((Message::$variant, $name, Severity::$severity)),*];

        impl Message {
            /// The name that stands in configurations and reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// An error that cannot be made less: nothing behind it could be read.
    Fatal,
    Error,
    /// Told, never refused unless that is configured.
    Info,
    /// Not even told.
    Ignored,
}

// What `git fsck` only warns of is an error for `receive.fsckObjects`, which checks strictly.
messages! {
    NulInHeader "nulInHeader" Fatal,
    UnterminatedHeader "unterminatedHeader" Fatal,
    BadDate "badDate" Error,
    BadDateOverflow "badDateOverflow" Error,
    BadEmail "badEmail" Error,
    BadName "badName" Error,
    BadObjectSha1 "badObjectSha1" Error,
    BadParentSha1 "badParentSha1" Error,
    BadTimezone "badTimezone" Error,
    BadTree "badTree" Error,
    BadTreeSha1 "badTreeSha1" Error,
    BadType "badType" Error,
    DuplicateEntries "duplicateEntries" Error,
    GitattributesBlob "gitattributesBlob" Error,
    GitattributesLarge "gitattributesLarge" Error,
    GitattributesLineLength "gitattributesLineLength" Error,
    GitmodulesBlob "gitmodulesBlob" Error,
    GitmodulesLarge "gitmodulesLarge" Error,
    GitmodulesName "gitmodulesName" Error,
    GitmodulesPath "gitmodulesPath" Error,
    GitmodulesSymlink "gitmodulesSymlink" Error,
    GitmodulesUpdate "gitmodulesUpdate" Error,
    GitmodulesUrl "gitmodulesUrl" Error,
    MissingAuthor "missingAuthor" Error,
    MissingCommitter "missingCommitter" Error,
    MissingEmail "missingEmail" Error,
    MissingNameBeforeEmail "missingNameBeforeEmail" Error,
    MissingObject "missingObject" Error,
    MissingSpaceBeforeDate "missingSpaceBeforeDate" Error,
    MissingSpaceBeforeEmail "missingSpaceBeforeEmail" Error,
    MissingTag "missingTag" Error,
    MissingTagEntry "missingTagEntry" Error,
    MissingTree "missingTree" Error,
    MissingType "missingType" Error,
    MissingTypeEntry "missingTypeEntry" Error,
    MultipleAuthors "multipleAuthors" Error,
    TreeNotSorted "treeNotSorted" Error,
    ZeroPaddedDate "zeroPaddedDate" Error,
    EmptyName "emptyName" Error,
    FullPathname "fullPathname" Error,
    HasDot "hasDot" Error,
    HasDotdot "hasDotdot" Error,
    HasDotgit "hasDotgit" Error,
    LargePathname "largePathname" Error,
    NullSha1 "nullSha1" Error,
    NulInCommit "nulInCommit" Error,
    ZeroPaddedFilemode "zeroPaddedFilemode" Error,
    BadFilemode "badFilemode" Info,
    BadTagName "badTagName" Info,
    ExtraHeaderEntry "extraHeaderEntry" Ignored,
    GitattributesSymlink "gitattributesSymlink" Info,
    GitignoreSymlink "gitignoreSymlink" Info,
    MailmapSymlink "mailmapSymlink" Info,
    MissingTaggerEntry "missingTaggerEntry" Info,
}

/// Messages of git that are never given here: what is missing is told as missing, refs are checked
/// before they are written, and the rest is of newer versions. A level for one changes nothing.
const NEVER_GIVEN: &[&str] = &[
    "badGpgsig",
    "badHeadTarget",
    "badHeaderContinuation",
    "badPackedRefEntry",
    "badPackedRefHeader",
    "badReferentName",
    "badRefContent",
    "badRefFiletype",
    "badRefName",
    "badRefOid",
    "badReftableTableName",
    "emptyPackedRefsFile",
    "gitattributesMissing",
    "gitmodulesMissing",
    "gitmodulesParse",
    "packedRefEntryNotTerminated",
    "packedRefUnsorted",
    "refMissingNewline",
    "symlinkRef",
    "symrefTargetIsNotARef",
    "trailingRefContent",
    "unknownType",
];

/// How severe each message is, and the objects about which there are none.
#[derive(Debug, Clone)]
pub struct Levels {
    levels: Vec<Level>,
    skipped: HashSet<ObjectId>,
}

/// A level that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// There is no such message here; newer versions of git may have it.
    #[error("there is no fsck message '{0}'")]
    Unknown(String),
    /// What is behind such an error cannot be read.
    #[error("the fsck message '{0}' is always an error")]
    Fatal(&'static str),
}

impl Default for Levels {
    /// What `receive.fsckObjects` alone means.
    fn default() -> Self {
        let levels = ALL.iter().map(|(_, _, severity)| match severity {
            Severity::Info => Level::Warn,
            Severity::Ignored => Level::Ignore,
            Severity::Fatal | Severity::Error => Level::Error,
        });
        Self { levels: levels.collect(), skipped: HashSet::new() }
    }
}

impl Levels {
    /// Sets the level of one message. Case and underscores in its name do not matter.
    pub fn set(&mut self, message: &str, level: Level) -> Result<(), LevelError> {
        let wanted = message.replace('_', "");
        let at = ALL.iter().position(|(_, name, _)| name.eq_ignore_ascii_case(&wanted));
        if NEVER_GIVEN.iter().any(|name| name.eq_ignore_ascii_case(&wanted)) {
            return Ok(());
        }
        let Some((at, (_, name, severity))) = at.and_then(|at| Some((at, ALL.get(at)?))) else {
            return Err(LevelError::Unknown(message.to_owned()));
        };
        if *severity == Severity::Fatal && level != Level::Error {
            return Err(LevelError::Fatal(name));
        }
        if let Some(place) = self.levels.get_mut(at) {
            *place = level;
        }
        Ok(())
    }

    /// Ignores everything about one object.
    pub fn skip(&mut self, object: ObjectId) {
        self.skipped.insert(object);
    }

    pub(crate) fn of(&self, message: Message, object: &gix_hash::oid) -> Level {
        if self.skipped.contains(object) {
            return Level::Ignore;
        }
        self.levels.get(message as usize).copied().unwrap_or(Level::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_in_any_spelling() {
        let id = ObjectId::null(gix_hash::Kind::Sha1);
        let mut levels = Levels::default();
        for (at, (message, name, _)) in ALL.iter().enumerate() {
            assert_eq!((*message as usize, message.name()), (at, *name));
        }
        assert_eq!(levels.of(Message::MissingEmail, &id), Level::Error);
        assert_eq!(levels.of(Message::BadTagName, &id), Level::Warn);
        levels.set("missingemail", Level::Warn).unwrap();
        levels.set("BAD_TAG_NAME", Level::Ignore).unwrap();
        assert_eq!(levels.of(Message::MissingEmail, &id), Level::Warn);
        assert_eq!(levels.of(Message::BadTagName, &id), Level::Ignore);
        levels.set("gitmodulesparse", Level::Error).unwrap();
        levels.skip(id);
        assert_eq!(levels.of(Message::HasDot, &id), Level::Ignore);
    }

    #[test]
    fn what_cannot_be_read_stays_an_error() {
        let mut levels = Levels::default();
        assert_eq!(
            levels.set("unterminatedheader", Level::Warn),
            Err(LevelError::Fatal("unterminatedHeader"))
        );
        assert_eq!(
            levels.set("nonsense", Level::Warn),
            Err(LevelError::Unknown("nonsense".into()))
        );
        assert_eq!(Level::parse("fatal"), None);
    }
}
