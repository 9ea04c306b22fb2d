//! From the entries of an archive to a commit.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::budget::Budget;
use super::history::{self, Spool};
use super::pack::Writer;
use super::path::{self, shown};
use super::{ArchiveError, Imported, Notes, Sink, stream};

/// Who signs the commit that stands for an archive. It is never shown; the time is
/// fixed, so that equal archives give equal commits.
const COMMITTER: &str = "sluice <sluice@localhost> 0 +0000";

/// An id of a commit, as git writes it into the archives that it makes.
pub(super) fn commit_id(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let hex = matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex.then_some(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File { executable: bool, id: ObjectId },
    Link { id: ObjectId },
}

impl Node {
    fn mode(self) -> &'static str {
        match self {
            Self::File { executable: false, .. } => "100644",
            Self::File { executable: true, .. } => "100755",
            Self::Link { .. } => "120000",
        }
    }

    fn id(self) -> ObjectId {
        match self {
            Self::File { id, .. } | Self::Link { id } => id,
        }
    }
}

pub(super) struct Collector<'a> {
    budget: &'a Budget<'a>,
    objects: PathBuf,
    writer: Writer,
    nodes: BTreeMap<Vec<u8>, Node>,
    /// First components of folders that were named, empty ones included.
    tops: HashSet<Vec<u8>>,
    history: Option<Spool<'a>>,
    commit: Option<String>,
    notes: Notes,
    /// Of the paths in `nodes`.
    path_bytes: usize,
}

/// Most bytes of all paths together: a tar may name a million files by 4 KiB each, in a
/// few packed bytes.
const MAX_PATHS: usize = 256 << 20;

/// A place in a `.git`.
enum InGit<'p> {
    /// The folder in which the `.git` lies, and the path below it.
    History(&'p [u8], &'p [u8]),
    /// A `.git` deeper down, or a file of that name.
    Other,
}

fn in_git(path: &[u8]) -> Option<InGit<'_>> {
    let mut start = 0;
    for (depth, part) in path.split(|byte| *byte == b'/').enumerate() {
        if part == b".git" {
            let below = path.get(start + 5..).unwrap_or_default();
            if depth > 1 {
                return Some(InGit::Other);
            }
            let around = path.get(..start.saturating_sub(1)).unwrap_or_default();
            return Some(InGit::History(around, below));
        }
        start += part.len() + 1;
    }
    None
}

impl<'a> Collector<'a> {
    pub(super) fn new(scratch: &Path, budget: &'a Budget<'a>) -> Result<Self, ArchiveError> {
        let objects = scratch.join("objects");
        let writer = Writer::new(&objects.join("pack"), "tree").map_err(ArchiveError::Io)?;
        Ok(Self {
            budget,
            objects,
            writer,
            nodes: BTreeMap::new(),
            tops: HashSet::new(),
            history: None,
            commit: None,
            notes: Notes::default(),
            path_bytes: 0,
        })
    }

    /// The place for what lies in this `.git`; only the first one met is read.
    fn spool(&mut self, around: &[u8]) -> Result<Option<&mut Spool<'a>>, ArchiveError> {
        if self.history.is_none() {
            let scratch = self.objects.parent().map(Path::to_owned).unwrap_or_default();
            self.history = Some(Spool::new(&scratch, around.to_vec(), self.budget)?);
        }
        Ok(self.history.as_mut().filter(|spool| spool.around == around))
    }

    fn nested(&mut self, path: &[u8]) {
        self.notes.add("nested_git", "a .git that is not that of the archive was left out", path);
    }

    fn top(&mut self, path: &[u8]) {
        let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        if !self.tops.contains(top) {
            self.tops.insert(top.to_vec());
        }
    }

    fn insert(&mut self, path: &[u8], node: Node) -> Result<(), ArchiveError> {
        match self.nodes.get(path) {
            None => {}
            Some(same) if *same == node => {
                self.notes.add("repeated_entry", "the same file is there several times", path);
                return Ok(());
            }
            Some(_) => {
                return Err(ArchiveError::new(
                    "duplicate_entry",
                    format!(
                        "{} is there twice with different contents, and tools do not agree on \
                         which one counts",
                        shown(path)
                    ),
                ));
            }
        }
        let notes = &mut self.notes;
        path::oddities(path, |code, message| notes.add(code, message, path));
        self.top(path);
        self.path_bytes += path.len();
        if self.path_bytes > MAX_PATHS {
            return Err(ArchiveError::new(
                "too_many_files",
                format!("the paths in it have more than {MAX_PATHS} bytes together"),
            ));
        }
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }

    /// The folder around everything, if there is one.
    fn around(&self) -> Option<Vec<u8>> {
        let [top] = self.tops.iter().collect::<Vec<_>>().try_into().ok()?;
        // A file alone at the top is no folder.
        (!self.nodes.contains_key(top)).then(|| top.clone())
    }

    pub(super) fn finish(mut self) -> Result<Imported, ArchiveError> {
        if self.nodes.is_empty() && self.history.is_none() {
            return Err(stream::empty());
        }
        let around = self.around();
        let spool = self.history.take();
        if let Some(spool) = spool {
            let whole = spool.around.is_empty() || around.as_ref() == Some(&spool.around);
            if whole {
                let files = self.nodes.len() as u64;
                match spool.finish(&self.objects, self.budget, &mut self.notes)? {
                    history::Outcome::History(history) => {
                        return Ok(Imported {
                            objects: self.objects,
                            head: history.head,
                            commit: Some(history.head.to_string()),
                            history: Some(history),
                            notes: self.notes.0.into_values().collect(),
                            files,
                        });
                    }
                    history::Outcome::Unusable => {}
                }
            } else {
                let path = [spool.around.as_slice(), b"/.git"].concat();
                self.nested(&path);
            }
        }
        self.plain(around)
    }

    fn plain(mut self, around: Option<Vec<u8>>) -> Result<Imported, ArchiveError> {
        let nodes = std::mem::take(&mut self.nodes);
        if nodes.is_empty() {
            return Err(stream::empty());
        }
        let strip = around.map_or(0, |around| around.len() + 1);
        let entries: Vec<(&[u8], Node)> = nodes
            .iter()
            .map(|(path, node)| (path.get(strip..).unwrap_or_default(), *node))
            .collect();
        let tree = self.tree(&entries, 0)?;
        let text = format!(
            "tree {tree}\nauthor {COMMITTER}\ncommitter {COMMITTER}\n\nContents of an archive\n"
        );
        let head = self.writer.add(Kind::Commit, text.as_bytes())?;
        self.writer.finish().map_err(ArchiveError::Io)?;
        Ok(Imported {
            objects: self.objects,
            head,
            commit: self.commit,
            history: None,
            notes: self.notes.0.into_values().collect(),
            files: nodes.len() as u64,
        })
    }

    /// Writes the tree of the entries, whose paths agree up to `skip` bytes; they are
    /// sorted by path, so that those of one folder follow each other. The depth is
    /// bounded by the limit of paths.
    fn tree(&mut self, entries: &[(&[u8], Node)], skip: usize) -> Result<ObjectId, ArchiveError> {
        self.budget.alive()?;
        let mut lines: Vec<(Vec<u8>, &'static str, ObjectId)> = Vec::new();
        let mut leaves: HashSet<&[u8]> = HashSet::new();
        let mut rest = entries;
        while let Some(((path, node), behind)) = rest.split_first() {
            let below = path.get(skip..).unwrap_or_default();
            let Some(slash) = below.iter().position(|byte| *byte == b'/') else {
                leaves.insert(below);
                lines.push((below.to_vec(), node.mode(), node.id()));
                rest = behind;
                continue;
            };
            let prefix = path.get(..=skip + slash).unwrap_or_default();
            let name = below.get(..slash).unwrap_or_default();
            if leaves.contains(name) {
                return Err(ArchiveError::new(
                    "file_below_file",
                    format!(
                        "{} lies below {}, which is a file or a link",
                        shown(path),
                        shown(path.get(..skip + slash).unwrap_or_default())
                    ),
                ));
            }
            let count = rest.iter().take_while(|(path, _)| path.starts_with(prefix)).count();
            let (folder, behind) = rest.split_at(count);
            let id = self.tree(folder, prefix.len())?;
            // Git sorts a folder as if its name ended in a slash.
            lines.push(([name, b"/"].concat(), "40000", id));
            rest = behind;
        }
        lines.sort_unstable();
        let mut data = Vec::new();
        for (name, mode, id) in lines {
            data.extend_from_slice(mode.as_bytes());
            data.push(b' ');
            data.extend_from_slice(name.strip_suffix(b"/").unwrap_or(&name));
            data.push(0);
            data.extend_from_slice(id.as_slice());
        }
        self.writer.add(Kind::Tree, &data)
    }
}

impl Sink for Collector<'_> {
    fn file(
        &mut self,
        path: &[u8],
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        match in_git(path) {
            Some(InGit::History(around, below)) if !below.is_empty() => {
                match self.spool(around)? {
                    Some(spool) => spool.file(below, size, content),
                    None => {
                        self.nested(path);
                        Ok(())
                    }
                }
            }
            Some(_) => {
                self.nested(path);
                Ok(())
            }
            None => {
                let id = self.writer.add_from(Kind::Blob, size, content, path)?;
                self.insert(path, Node::File { executable, id })
            }
        }
    }

    fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        if in_git(path).is_some() {
            self.notes.add("link_in_git", "a link in a .git was left out", path);
            return Ok(());
        }
        if path::leads_out(path, target) {
            self.notes.add(
                "link_leads_out",
                "the link leads out of the archive; it is kept and never followed",
                path,
            );
        }
        let id = self.writer.add(Kind::Blob, target)?;
        self.insert(path, Node::Link { id })
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        if in_git(path).is_some() {
            self.notes.add("link_in_git", "a link in a .git was left out", path);
            return Ok(());
        }
        match self.nodes.get(target) {
            Some(node) => self.insert(path, *node),
            None => Err(ArchiveError::new(
                "bad_link",
                format!(
                    "the hard link {} leads to {}, which is no file before it in the archive",
                    shown(path),
                    shown(target)
                ),
            )),
        }
    }

    fn folder(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        if in_git(path).is_none() {
            self.top(path);
            if self.nodes.contains_key(path) {
                return Err(ArchiveError::new(
                    "duplicate_entry",
                    format!("{} is there as a file and as a folder", shown(path)),
                ));
            }
        }
        Ok(())
    }

    fn commit(&mut self, id: &str) {
        self.commit = Some(id.to_owned());
    }

    fn note(&mut self, code: &'static str, message: &str, path: &[u8]) {
        self.notes.add(code, message, path);
    }
}
