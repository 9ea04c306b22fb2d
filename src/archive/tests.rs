//! Archives made by the tools that people use, and hostile ones made by hand.

mod git;
mod hostile;
mod mutation;
mod tools;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use gix_object::FindExt as _;

use super::*;

/// What came out, by path: mode and contents.
pub(super) type Files = BTreeMap<String, (String, Vec<u8>)>;

pub(super) fn try_import(bytes: &[u8], limits: &Limits) -> Result<(Imported, Files), ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, bytes).unwrap();
    import_file(&file, limits)
}

pub(super) fn import_file(file: &Path, limits: &Limits) -> Result<(Imported, Files), ArchiveError> {
    let scratch = tempfile::tempdir().unwrap();
    let imported = import(file, scratch.path(), limits, &Cancel::new())?;
    let odb = crate::ingest::open_objects(&imported.objects, gix_hash::Kind::Sha1).unwrap();
    let head = crate::ingest::read_head(&odb, imported.head).unwrap();
    let mut files = Files::new();
    list(&odb, head.tree.parse().unwrap(), "", &mut files);
    Ok((imported, files))
}

fn list(odb: &gix_odb::HandleArc, tree: ObjectId, prefix: &str, files: &mut Files) {
    let mut buffer = Vec::new();
    let mut content = Vec::new();
    for entry in odb.find_tree_iter(&tree, &mut buffer).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.filename);
        if entry.mode.is_tree() {
            list(odb, entry.oid.to_owned(), &format!("{path}/"), files);
        } else {
            let blob = odb.find_blob(entry.oid, &mut content).unwrap();
            let mode = format!("{:o}", entry.mode.value());
            files.insert(path, (mode, blob.data.to_vec()));
        }
    }
}

pub(super) fn code(bytes: &[u8]) -> &'static str {
    match try_import(bytes, &Limits::default()) {
        Ok(_) => "ok",
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() > 20 && !text.contains('\n'), "{text}");
            error.code()
        }
    }
}

pub(super) fn notes(imported: &Imported) -> Vec<&'static str> {
    imported.notes.iter().map(|note| note.code).collect()
}

pub(super) fn run(dir: &Path, command: &str) {
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tar of these entries: kind, name, link, contents.
pub(super) fn tar(entries: &[(u8, &[u8], &[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, name, link, content) in entries {
        let mut header = ::tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(::tar::EntryType::new(*kind));
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A line of a zip, for [`zip`].
#[derive(Clone)]
pub(super) struct Line {
    pub name: Vec<u8>,
    pub content: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub attributes: u32,
    /// What is said instead of the truth.
    pub size: Option<u32>,
    pub crc: Option<u32>,
    pub local_name: Option<Vec<u8>>,
    pub local_size: Option<u32>,
    pub offset: Option<u32>,
}

pub(super) fn line(name: &str, content: &[u8]) -> Line {
    Line {
        name: name.into(),
        content: content.to_vec(),
        method: 0,
        flags: 0,
        attributes: 0o100_644 << 16,
        size: None,
        crc: None,
        local_name: None,
        local_size: None,
        offset: None,
    }
}

/// A zip of lines whose contents are compressed already.
pub(super) fn zip(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for line in lines {
        let at = out.len() as u32;
        let size = line.size.unwrap_or(line.content.len() as u32);
        let crc = line.crc.unwrap_or_else(|| crc32fast::hash(&line.content));
        let common = |size: u32| {
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&20u16.to_le_bytes());
            bytes.extend_from_slice(&line.flags.to_le_bytes());
            bytes.extend_from_slice(&line.method.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&crc.to_le_bytes());
            bytes.extend_from_slice(&(line.content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes
        };
        let local_name = line.local_name.as_ref().unwrap_or(&line.name);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common(line.local_size.unwrap_or(size)));
        out.extend_from_slice(&(local_name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(local_name);
        out.extend_from_slice(&line.content);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common(size));
        directory.extend_from_slice(&(line.name.len() as u16).to_le_bytes());
        directory.extend_from_slice(&[0; 8]);
        directory.extend_from_slice(&line.attributes.to_le_bytes());
        directory.extend_from_slice(&line.offset.unwrap_or(at).to_le_bytes());
        directory.extend_from_slice(&line.name);
    }
    let start = out.len() as u32;
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&(lines.len() as u16).to_le_bytes());
    out.extend_from_slice(&(lines.len() as u16).to_le_bytes());
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}
