//! Where a repository keeps its objects, and where its history starts.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use gix_hash::ObjectId;

/// Largest file that holds one ref or one path.
const MAX_SMALL: u64 = 64 << 10;

/// Deepest folder below `refs/`.
const MAX_DEPTH: usize = 32;

/// How often a symbolic ref may lead to another; git allows five.
const MAX_HOPS: usize = 5;

/// The folder of a repository that is called `.git` beside a work tree.
#[derive(Debug)]
pub(super) struct GitDir {
    /// Holds `HEAD`.
    own: PathBuf,
    /// Holds objects and refs; another one for a linked work tree.
    common: PathBuf,
    hash: gix_hash::Kind,
}

impl GitDir {
    /// The repository of a work tree whose root is `path`.
    pub(super) fn of_work_tree(path: &Path) -> anyhow::Result<Option<Self>> {
        let git = path.join(".git");
        let Ok(kind) = fs::metadata(&git) else {
            return Ok(None);
        };
        if kind.is_dir() {
            return Self::at(git).map(Some);
        }
        // Linked work trees and submodules have a file that names the folder.
        let text = small(&git)?;
        let Some(target) = text.trim().strip_prefix("gitdir:") else {
            bail!("{} does not say where its repository is", git.display());
        };
        Self::at(path.join(target.trim())).map(Some)
    }

    /// The repository that `path` itself is.
    pub(super) fn bare(path: &Path) -> anyhow::Result<Option<Self>> {
        let is_one = path.join("HEAD").is_file()
            && path.join("objects").is_dir()
            && path.join("refs").is_dir();
        if is_one { Self::at(path.to_owned()).map(Some) } else { Ok(None) }
    }

    fn at(own: PathBuf) -> anyhow::Result<Self> {
        let common = match small(&own.join("commondir")) {
            Ok(text) => own.join(text.trim()),
            Err(_) => own.clone(),
        };
        if !common.join("objects").is_dir() {
            bail!("{} is no git repository: it has no objects", common.display());
        }
        if common.join("reftable").is_dir() {
            bail!(
                "{} keeps its refs in reftables, which cannot be read here: run \
                 `git refs migrate --ref-format=files` first",
                common.display()
            );
        }
        let hash = object_format(&common);
        Ok(Self { own, common, hash })
    }

    /// The kind of all ids.
    pub(super) fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    /// A handle to the objects, for one thread.
    pub(super) fn objects(&self) -> anyhow::Result<gix_odb::HandleArc> {
        gix_odb::at(self.common.join("objects"), self.hash)
            .and_then(gix_odb::Handle::into_arc)
            .with_context(|| format!("cannot open the objects of {}", self.common.display()))
    }

    /// The commit that is checked out, if there is one.
    pub(super) fn head(&self) -> anyhow::Result<Option<ObjectId>> {
        let packed = self.packed()?;
        let mut text = small(&self.own.join("HEAD"))?;
        for _ in 0..MAX_HOPS {
            let Some(name) = text.trim().strip_prefix("ref:").map(str::trim) else {
                return self.id(text.trim()).map(Some);
            };
            // A name that leads out of the repository is no ref.
            if name.split('/').any(|c| c == "..") || name.starts_with('/') {
                bail!("HEAD does not name a ref");
            }
            text = match small(&self.common.join(name)) {
                Ok(next) => next,
                // A branch without a commit is not an error: the repository is new.
                Err(_) => {
                    return Ok(packed.into_iter().find(|(n, _)| n == name).map(|(_, id)| id));
                }
            };
        }
        bail!("HEAD leads from ref to ref without an end")
    }

    /// Everything that refs point to, `HEAD` included.
    pub(super) fn tips(&self) -> anyhow::Result<Vec<ObjectId>> {
        let mut tips: Vec<ObjectId> = self.packed()?.into_iter().map(|(_, id)| id).collect();
        let mut open = vec![(self.common.join("refs"), 0)];
        while let Some((folder, depth)) = open.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).context(format!("cannot list {}", folder.display())),
            };
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() && depth < MAX_DEPTH {
                    open.push((entry.path(), depth + 1));
                } else if kind.is_file() && !entry.file_name().to_string_lossy().ends_with(".lock")
                {
                    let text = small(&entry.path())?;
                    if !text.starts_with("ref:") {
                        tips.push(self.id(text.trim())?);
                    }
                }
            }
        }
        tips.extend(self.head()?);
        tips.sort_unstable();
        tips.dedup();
        Ok(tips)
    }

    fn id(&self, hex: &str) -> anyhow::Result<ObjectId> {
        sluice_git::object_id(hex.as_bytes(), self.hash)
            .ok_or_else(|| anyhow::anyhow!("a ref holds no object id"))
    }

    fn packed(&self) -> anyhow::Result<Vec<(String, ObjectId)>> {
        let path = self.common.join("packed-refs");
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).context(format!("cannot read {}", path.display())),
        };
        let mut refs = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            // Comments, and what a tag in the line above peels to.
            if line.starts_with(['#', '^']) {
                continue;
            }
            if let Some((hex, name)) = line.split_once(' ') {
                refs.push((name.to_owned(), self.id(hex)?));
            }
        }
        Ok(refs)
    }
}

/// What `extensions.objectFormat` of a repository says.
fn object_format(common: &Path) -> gix_hash::Kind {
    let text = small(&common.join("config")).unwrap_or_default().to_ascii_lowercase();
    let mut extensions = false;
    let mut format = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            extensions = line.starts_with("[extensions]");
        } else if extensions
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "objectformat"
        {
            format = value.trim();
        }
    }
    if format == "sha256" { gix_hash::Kind::Sha256 } else { gix_hash::Kind::Sha1 }
}

fn small(path: &Path) -> anyhow::Result<String> {
    use io::Read;
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|f| f.take(MAX_SMALL).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
