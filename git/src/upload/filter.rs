//! Object filters of a partial clone: what is left out of a pack although it is reachable.
//!
//! `blob:none`, `blob:limit=<n>[kmg]`, `tree:<depth>`, `object:type=<kind>` and `combine:` of these.
//! Every filter leaves out more, so a combination is one filter that leaves out what any of its
//! parts does. What a client asks for by id is sent whatever the filter says. `sparse:` filters are
//! refused: they would let a client make the server match patterns against every path.
//! ([git rev-list, --filter](https://git-scm.com/docs/git-rev-list#Documentation/git-rev-list.txt---filterltfilter-specgt))

use gix_object::Kind;
use percent_encoding::percent_decode_str;

use crate::remote::Filters;

/// Longest specification that is read, in bytes.
const MAX_BYTES: usize = 4096;

/// Combinations within combinations.
const MAX_NESTING: usize = 4;

/// What to leave out; the default leaves out nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Blobs of this many bytes or more are left out.
    pub blob_limit: Option<u64>,
    /// Trees and blobs this many levels below a commit or deeper are left out; a commit's own tree
    /// is at level 0.
    pub tree_depth: Option<u32>,
    /// Only objects of this kind are sent.
    pub only: Option<Kind>,
    /// Two kinds were asked for, so no object is both.
    nothing: bool,
}

/// The filter is not offered, or is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsupported {
    #[error("filter '{0}' not supported")]
    Filter(String),
    #[error("tree filter allows max depth {limit}, but got {asked}")]
    Depth { limit: u32, asked: u32 },
}

impl Filter {
    /// Reads a specification; `offered` says which kinds there are.
    pub fn parse(text: &str, offered: &Filters) -> Result<Self, Unsupported> {
        let mut filter = Self::default();
        let mut kinds = Vec::new();
        if text.len() > MAX_BYTES || filter.add(text, 0, &mut kinds).is_none() {
            let shown = text.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(Unsupported::Filter(shown));
        }
        if let Some(kind) = kinds.into_iter().find(|kind| !offered.includes(kind)) {
            return Err(Unsupported::Filter(kind.to_owned()));
        }
        match (filter.tree_depth, offered.tree_depth) {
            (Some(asked), Some(limit)) if asked > limit => Err(Unsupported::Depth { limit, asked }),
            _ => Ok(filter),
        }
    }

    /// Adds a filter and notes of what kinds it is, by git's names for them.
    fn add(&mut self, text: &str, nesting: usize, kinds: &mut Vec<&'static str>) -> Option<()> {
        let kind = ["blob:none", "blob:limit", "tree", "object:type", "combine"]
            .into_iter()
            .find(|kind| text.starts_with(kind));
        kinds.extend(kind);
        if text == "blob:none" {
            self.blob_limit = Some(0);
        } else if let Some(limit) = text.strip_prefix("blob:limit=") {
            let limit = bytes(limit)?;
            self.blob_limit = Some(self.blob_limit.map_or(limit, |known| known.min(limit)));
        } else if let Some(depth) = text.strip_prefix("tree:") {
            let depth = number(depth)?.try_into().unwrap_or(u32::MAX);
            self.tree_depth = Some(self.tree_depth.map_or(depth, |known| known.min(depth)));
        } else if let Some(kind) = text.strip_prefix("object:type=") {
            let kind = Kind::from_bytes(kind.as_bytes()).ok()?;
            self.nothing |= self.only.is_some_and(|known| known != kind);
            self.only = Some(kind);
        } else {
            let parts = text.strip_prefix("combine:").filter(|_| nesting < MAX_NESTING)?;
            for part in parts.split('+') {
                self.add(&percent_decode_str(part).decode_utf8().ok()?, nesting + 1, kinds)?;
            }
        }
        Some(())
    }

    /// Whether anything is left out.
    pub fn is_active(&self) -> bool {
        *self != Self::default()
    }

    /// Whether objects of this kind are sent at all.
    pub fn sends(&self, kind: Kind) -> bool {
        let only = self.only.is_none_or(|only| only == kind);
        only && !self.nothing && !(kind == Kind::Blob && self.blob_limit == Some(0))
    }

    /// Whether trees and blobs at this level are sent.
    pub fn reaches(&self, level: u32) -> bool {
        self.tree_depth.is_none_or(|depth| level < depth)
    }

    /// Whether there is anything below commits to be looked for.
    pub fn needs_trees(&self) -> bool {
        self.reaches(0) && (self.sends(Kind::Tree) || self.sends(Kind::Blob))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number(digits)?.checked_mul(unit)
}

/// Digits only: a sign or a space is no number here.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_every_kind() {
        let parse = |text| Filter::parse(text, &Filters::default()).unwrap();
        assert!(!parse("blob:none").sends(Kind::Blob));
        assert_eq!(parse("blob:limit=2k").blob_limit, Some(2048));
        assert_eq!(parse("blob:limit=3G").blob_limit, Some(3 << 30));
        assert!(!parse("tree:0").reaches(0) && !parse("tree:0").needs_trees());
        assert!(parse("tree:2").reaches(1) && !parse("tree:2").reaches(2));
        assert!(!parse("object:type=commit").needs_trees());
        let both = parse("combine:tree:3+blob:limit=10+combine:blob%3Alimit=5%2Btree%3A4");
        assert_eq!((both.tree_depth, both.blob_limit), (Some(3), Some(5)));
        assert!(!parse("combine:object:type=tree+object:type=blob").sends(Kind::Blob));
        assert!(!Filter::default().is_active());
    }

    #[test]
    fn others_are_refused_with_their_name() {
        let nested = "combine:".repeat(1000) + "blob:none";
        for bad in [
            "",
            "sparse:oid=main",
            "blob:limit=",
            "blob:limit=k",
            "blob:limit=-1",
            "tree:",
            "tree:x",
            "tree:+1",
            "object:type=x",
            "combine:",
            "combine:blob:none+",
            "blob:limit=99999999999g",
            "combine:%ff",
            &nested,
        ] {
            assert!(Filter::parse(bad, &Filters::default()).is_err(), "{bad}");
        }
        let error = Filter::parse("sparse:path=x", &Filters::default()).unwrap_err().to_string();
        assert_eq!(error, "filter 'sparse:path=x' not supported");
    }

    #[test]
    fn an_operator_chooses() {
        let offered = Filters {
            others: false,
            named: [("tree".to_owned(), true), ("combine".to_owned(), true)].into(),
            tree_depth: Some(1),
        };
        let parse = |text| Filter::parse(text, &offered).map_err(|error| error.to_string());
        assert!(parse("tree:1").is_ok());
        let not = |name: &str| Err(format!("filter '{name}' not supported"));
        assert_eq!(parse("blob:none"), not("blob:none"));
        assert_eq!(parse("blob:limit=3"), not("blob:limit"));
        assert_eq!(parse("combine:tree:0+blob:none"), not("blob:none"));
        assert_eq!(parse("tree:2"), Err("tree filter allows max depth 1, but got 2".into()));
    }
}
