//! Reading refs as git keeps them: a file each below `refs/`, or a line in `packed-refs`, where the
//! file counts.

use std::{collections::BTreeMap, fs, io, path::Path};

use sluice_git::{Head, ObjectId};

/// Refs that name refs that name refs: git follows as many.
const MAX_SYMBOLIC: usize = 5;

/// Folders within folders below `refs/`.
const MAX_DEPTH: usize = 128;

/// What a ref file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Id(ObjectId),
    /// The name of another ref.
    Symbolic(String),
}

/// Reads the file of a ref; `None` if there is none, or if it is broken.
pub fn loose(folder: &Path, name: &str) -> io::Result<Option<Target>> {
    let text = match fs::read_to_string(folder.join(name)) {
        Ok(text) => text,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidData => Ok(None),
                _ => Err(error),
            };
        }
    };
    let text = text.trim_end();
    Ok(match text.strip_prefix("ref:") {
        Some(name) => Some(Target::Symbolic(name.trim_start().to_owned())),
        None => ObjectId::from_hex(text.as_bytes()).ok().map(Target::Id),
    })
}

/// The refs in `packed-refs`.
pub fn packed(folder: &Path) -> io::Result<BTreeMap<String, ObjectId>> {
    let text = match fs::read(folder.join("packed-refs")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let (id, name) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some((name.to_owned(), ObjectId::from_hex(id.as_bytes()).ok()?))
    });
    Ok(lines.collect())
}

/// All refs and what they point to in the end. Refs that lead nowhere are left out, as git does.
pub fn all(folder: &Path, hash: gix_hash::Kind) -> io::Result<BTreeMap<String, ObjectId>> {
    // Files first: one that is packed meanwhile is then found in `packed-refs`.
    let mut symbolic = Vec::new();
    let mut files = BTreeMap::new();
    walk(folder, "refs", 0, &mut |name, target| match target {
        Target::Id(id) => {
            files.insert(name, id);
        }
        Target::Symbolic(target) => symbolic.push((name, target)),
    })?;
    let mut refs = packed(folder)?;
    refs.append(&mut files);
    for (name, _) in &symbolic {
        refs.remove(name);
    }
    let mut resolved = Vec::new();
    for (name, target) in symbolic {
        let end = resolve(folder, &target)?;
        if let Some(id) = refs.get(&end) {
            resolved.push((name, *id));
        }
    }
    refs.extend(resolved);
    refs.retain(|name, id| id.kind() == hash && is_name(name));
    Ok(refs)
}

/// The name of the ref that is meant: the same, unless its file names another.
pub fn resolve(folder: &Path, name: &str) -> io::Result<String> {
    let mut name = name.to_owned();
    for _ in 0..MAX_SYMBOLIC {
        match loose(folder, &name)? {
            Some(Target::Symbolic(target)) if is_name(&target) => name = target,
            _ => break,
        }
    }
    Ok(name)
}

/// Where `HEAD` points.
pub fn head(folder: &Path) -> io::Result<Option<Head>> {
    Ok(loose(folder, "HEAD")?.map(|target| match target {
        Target::Id(id) => Head::Detached(id),
        Target::Symbolic(name) => Head::Branch(name),
    }))
}

fn is_name(name: &str) -> bool {
    name.starts_with("refs/") && gix_validate::reference::name(name.into()).is_ok()
}

fn walk(
    folder: &Path,
    below: &str,
    depth: usize,
    each: &mut impl FnMut(String, Target),
) -> io::Result<()> {
    let entries = match fs::read_dir(folder.join(below)) {
        Ok(entries) => entries,
        // Removed since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || name.ends_with(".lock") {
            continue;
        }
        let name = format!("{below}/{name}");
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            if depth < MAX_DEPTH {
                walk(folder, &name, depth + 1, each)?;
            }
        } else if let Some(target) = loose(folder, &name)? {
            each(name, target);
        }
    }
    Ok(())
}
