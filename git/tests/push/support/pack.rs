//! Packs made by hand, good and bad.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use gix_object::Kind;
use sluice_git::ObjectId;

/// A pack under construction. What it says about itself may be a lie.
pub struct Pack {
    objects: u32,
    bytes: Vec<u8>,
}

pub fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn id(kind: Kind, data: &[u8]) -> ObjectId {
    gix_object::compute_hash(gix_hash::Kind::Sha1, kind, data).unwrap()
}

fn sha1(data: &[u8]) -> ObjectId {
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(data);
    hasher.try_finalize().unwrap()
}

impl Pack {
    pub fn new() -> Self {
        Self { objects: 0, bytes: Vec::new() }
    }

    pub fn header(&mut self, kind: u8, size: u64) {
        self.objects += 1;
        let mut byte = (kind << 4) | (size & 15) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn add(&mut self, kind: Kind, data: &[u8]) -> ObjectId {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        self.header(number, data.len() as u64);
        self.raw(&deflate(data));
        id(kind, data)
    }

    /// A delta against an object that is named by its id.
    pub fn ref_delta(&mut self, base: &ObjectId, delta: &[u8]) {
        self.header(7, delta.len() as u64);
        self.raw(base.as_slice());
        self.raw(&deflate(delta));
    }

    pub fn commit(&mut self, tree: &ObjectId, parents: &[ObjectId]) -> ObjectId {
        self.add(Kind::Commit, commit(tree, parents).as_bytes())
    }

    /// A commit of one tree with these entries.
    pub fn commit_of(&mut self, entries: &[(&str, &str, ObjectId)]) -> ObjectId {
        let tree = self.add(Kind::Tree, &tree(entries));
        self.commit(&tree, &[])
    }

    pub fn finish(self) -> Vec<u8> {
        let objects = self.objects;
        self.finish_as(objects)
    }

    /// Claims a number of objects.
    pub fn finish_as(self, objects: u32) -> Vec<u8> {
        let mut out = [b"PACK\0\0\0\x02".as_slice(), &objects.to_be_bytes(), &self.bytes].concat();
        out.extend_from_slice(sha1(&out).as_slice());
        out
    }
}

pub fn commit(tree: &ObjectId, parents: &[ObjectId]) -> String {
    let parents: Vec<String> = parents.iter().map(|id| format!("parent {id}\n")).collect();
    let parents = parents.concat();
    let who = "T <t@example.com> 1700000000 +0000";
    format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nmessage\n")
}

pub fn tree(entries: &[(&str, &str, ObjectId)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (mode, name, id) in entries {
        out.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        out.extend_from_slice(id.as_slice());
    }
    out
}

/// A good pack of one commit, and the commit.
pub fn good() -> (Vec<u8>, ObjectId) {
    let mut pack = Pack::new();
    let blob = pack.add(Kind::Blob, b"hello\n");
    let tip = pack.commit_of(&[("100644", "hello.txt", blob)]);
    (pack.finish(), tip)
}
