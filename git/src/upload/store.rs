//! Reading the objects of a repository for a fetch: packs by place, loose objects, alternates.
//!
//! A fetch touches many objects and must remember for each whether it was seen. So objects are
//! named by their [`Place`]: the number of a pack and the position in its index. A set of places is
//! a bit for each object, and a pack entry can be copied without being looked up again.
//!
//! An object that is in several packs always has the place in the first of them, and packs are in
//! the order of their age. What is copied into a later pack as the base of a thin delta is therefore
//! found where it came from. The packs are mapped when the store is opened and stay readable until
//! it is dropped, even if a garbage collection removes them meanwhile.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use flate2::bufread::ZlibDecoder;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use gix_odb::loose;
use gix_pack::{
    cache::lru::MemoryCappedHashmap,
    data::{
        self,
        decode::{entry, header},
    },
    index,
};
use gix_zlib::Inflate;

use crate::index::ALLOCATION;

/// Bytes of decoded objects that are kept as bases of further deltas.
const DELTA_CACHE: usize = 16 << 20;

/// So many packs are asked one by one.
const FEW_PACKS: usize = 8;

/// After so many questions a table of all small packs pays.
const MANY_LOOKUPS: u32 = 1 << 10;

/// Objects in that table, of 16 bytes each.
const TABLE_OBJECTS: usize = 1 << 20;

/// The number of a pack that stands for all loose objects.
pub(super) const LOOSE: u32 = u32::MAX;

/// Where an object is. Two places are equal exactly if the objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// The number of the pack, or [`LOOSE`].
    pub pack: u32,
    /// The position in the index of that pack, or in the list of loose objects met so far.
    pub position: u32,
}

/// An object cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

/// One pack with its index.
pub(super) struct Pack {
    pub index: index::File,
    pub data: data::File,
}

/// All objects of a repository.
pub(super) struct Store {
    hash: gix_hash::Kind,
    packs: Vec<Pack>,
    folders: Vec<loose::Store>,
    loose: Vec<ObjectId>,
    loose_places: HashMap<ObjectId, u32>,
    inflate: Inflate,
    bases: MemoryCappedHashmap,
    lookups: Cell<u32>,
    table: OnceCell<Table>,
}

impl Store {
    /// Opens the object directory and its alternates. Blocking, as everything here.
    pub fn open(objects: &Path, hash: gix_hash::Kind) -> Result<Self, Error> {
        Self::with_allocation(objects, hash, ALLOCATION)
    }

    /// The same. An object is damaged if reading it would take more than `allocation` bytes.
    pub fn with_allocation(
        objects: &Path,
        hash: gix_hash::Kind,
        allocation: usize,
    ) -> Result<Self, Error> {
        let mut folders = vec![objects.to_owned()];
        if objects.join("info/alternates").exists() {
            let here = std::env::current_dir()?;
            let others = gix_odb::alternate::resolve(objects.to_owned(), &here);
            folders.extend(others.map_err(damaged)?);
        }
        let mut found = Vec::new();
        for folder in &folders {
            list(&folder.join("pack"), &mut found)?;
        }
        found.sort();
        let mut packs = Vec::with_capacity(found.len());
        for (_, path) in found {
            match open_pack(&path, hash, allocation) {
                Ok(pack) => packs.push(pack),
                // A collection has replaced it since the folder was listed.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        // Each pack has its own number in the cache of bases.
        for (number, pack) in packs.iter_mut().enumerate() {
            pack.data.id = number as u32;
        }
        let options =
            loose::Options { alloc_limit_bytes: Some(allocation), ..loose::Options::default() };
        let folders =
            folders.into_iter().map(|at| loose::Store::at_opts(at, hash, options)).collect();
        Ok(Self {
            hash,
            packs,
            folders,
            loose: Vec::new(),
            loose_places: HashMap::new(),
            inflate: Inflate::default(),
            bases: MemoryCappedHashmap::new(DELTA_CACHE),
            lookups: Cell::new(0),
            table: OnceCell::new(),
        })
    }

    /// The hash function of all ids.
    pub fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// The first pack that has the object.
    pub fn packed_place(&self, id: &oid) -> Option<Place> {
        let lookups = self.lookups.get().saturating_add(1);
        self.lookups.set(lookups);
        if self.packs.len() <= FEW_PACKS || lookups < MANY_LOOKUPS {
            return search(&self.packs, 0..self.packs.len() as u32, id);
        }
        let table = self.table.get_or_init(|| Table::new(&self.packs));
        let large = search(&self.packs, table.others.iter().copied(), id);
        table.search(&self.packs, id).into_iter().chain(large).min()
    }

    /// Where the object is; `None` if it is not here.
    pub fn place(&mut self, id: &oid) -> Option<Place> {
        if let Some(place) = self.packed_place(id) {
            return Some(place);
        }
        if let Some(position) = self.loose_places.get(id) {
            return Some(Place { pack: LOOSE, position: *position });
        }
        self.folders.iter().any(|folder| folder.contains(id)).then(|| {
            let position = self.loose.len() as u32;
            self.loose.push(id.to_owned());
            self.loose_places.insert(id.to_owned(), position);
            Place { pack: LOOSE, position }
        })
    }

    /// The id of the object at a place that [`Self::place`] gave.
    pub fn id(&self, place: Place) -> ObjectId {
        match self.packs.get(place.pack as usize) {
            Some(pack) => pack.index.oid_at_index(place.position).to_owned(),
            None => self.loose[place.position as usize],
        }
    }

    /// Reads an object whole.
    pub fn read(&mut self, place: Place, out: &mut Vec<u8>) -> Result<Kind, Error> {
        let Some(pack) = self.packs.get(place.pack as usize) else {
            return self.read_loose(place, out);
        };
        let offset = pack.index.pack_offset_at_index(place.position);
        let outcome = pack.data.decode_entry(
            pack.data.entry(offset).map_err(damaged)?,
            out,
            &mut self.inflate,
            &|id, _| Ok(pack.base(id).map(entry::ResolvedBase::InPack)),
            &mut self.bases,
        );
        let outcome = outcome.map_err(damaged)?;
        // Not cut to the size that it names: found in the cache, that is the size of the delta.
        Ok(outcome.kind)
    }

    fn read_loose(&self, place: Place, out: &mut Vec<u8>) -> Result<Kind, Error> {
        let id = self.loose[place.position as usize];
        for folder in &self.folders {
            if let Some(found) = folder.try_find(&id, out).map_err(damaged)? {
                return Ok(found.kind);
            }
        }
        Err(Error::Damaged(format!("the loose object {id} is gone")))
    }

    /// A loose object piece by piece: its kind, its size in bytes, and a reader of its content, which
    /// has to be compared with that size.
    pub fn stream_loose(&self, place: Place) -> Result<(Kind, u64, impl Read + use<>), Error> {
        /// Longer than any kind with any size.
        const HEADER: usize = 32;
        let id = self.loose[place.position as usize];
        let file = self.folders.iter().find_map(|at| File::open(at.object_path(&id)).ok());
        let file = file.ok_or_else(|| Error::Damaged(format!("the loose object {id} is gone")))?;
        let mut content = BufReader::new(ZlibDecoder::new(BufReader::with_capacity(1 << 16, file)));
        let mut header = Vec::with_capacity(HEADER);
        (&mut content).take(HEADER as u64).read_until(0, &mut header)?;
        let text = header.strip_suffix(&[0]).and_then(|text| std::str::from_utf8(text).ok());
        let parts = text.and_then(|text| text.split_once(' '));
        let parsed = parts.and_then(|(kind, size)| {
            Some((Kind::from_bytes(kind.as_bytes()).ok()?, size.parse().ok()?))
        });
        let (kind, size) = parsed.ok_or_else(|| damaged("a loose object without a header"))?;
        Ok((kind, size, content))
    }

    /// Kind and size in bytes of an object, without reading it whole.
    pub fn header(&mut self, place: Place) -> Result<(Kind, u64), Error> {
        let Some(pack) = self.packs.get(place.pack as usize) else {
            let id = self.loose[place.position as usize];
            for folder in &self.folders {
                if let Some((size, kind)) = folder.try_header(&id).map_err(damaged)? {
                    return Ok((kind, size));
                }
            }
            return Err(Error::Damaged(format!("the loose object {id} is gone")));
        };
        let offset = pack.index.pack_offset_at_index(place.position);
        let entry = pack.data.entry(offset).map_err(damaged)?;
        let header = pack
            .data
            .decode_header(entry, &mut self.inflate, &|id| {
                Ok(pack.base(id).map(header::ResolvedBase::InPack))
            })
            .map_err(damaged)?;
        Ok((header.kind, header.object_size))
    }
}

impl Pack {
    /// The entry of a delta's base. Packs at rest hold all bases of their deltas.
    fn base(&self, id: &oid) -> Option<data::Entry> {
        let at = self.index.lookup(id)?;
        self.data.entry(self.index.pack_offset_at_index(at)).ok()
    }
}

fn search(packs: &[Pack], which: impl IntoIterator<Item = u32>, id: &oid) -> Option<Place> {
    which.into_iter().find_map(|pack| {
        let position = packs[pack as usize].index.lookup(id)?;
        Some(Place { pack, position })
    })
}

/// One sorted table of the objects of many small packs, for a repository that was pushed to often:
/// to ask a thousand indices for each object would be most of the work.
struct Table {
    /// The first eight bytes of the id and the place.
    entries: Vec<(u64, Place)>,
    /// The packs that are not in it.
    others: Vec<u32>,
}

impl Table {
    fn new(packs: &[Pack]) -> Self {
        let mut by_size: Vec<u32> = (0..packs.len() as u32).collect();
        let objects = |pack: &u32| packs[*pack as usize].index.num_objects();
        by_size.sort_by_key(objects);
        let mut sum = 0_usize;
        let (inside, mut others): (Vec<u32>, Vec<u32>) = by_size.into_iter().partition(|pack| {
            sum = sum.saturating_add(objects(pack) as usize);
            sum <= TABLE_OBJECTS
        });
        others.sort_unstable();
        let mut entries = Vec::new();
        for pack in inside {
            let index = &packs[pack as usize].index;
            entries.extend(
                (0..index.num_objects()).map(|position| {
                    (prefix(index.oid_at_index(position)), Place { pack, position })
                }),
            );
        }
        entries.sort_unstable();
        Self { entries, others }
    }

    fn search(&self, packs: &[Pack], id: &oid) -> Option<Place> {
        let wanted = prefix(id);
        let first = self.entries.partition_point(|(known, _)| *known < wanted);
        // Places are in the order of packs, so the first is the right one.
        self.entries[first..]
            .iter()
            .take_while(|(known, _)| *known == wanted)
            .map(|(_, place)| *place)
            .find(|place| packs[place.pack as usize].index.oid_at_index(place.position) == id)
            // The position that the index itself gives, should a pack hold the object twice.
            .and_then(|place| search(packs, [place.pack], id))
    }
}

fn prefix(id: &oid) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn list(folder: &Path, found: &mut Vec<(SystemTime, PathBuf)>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        // A pack is found by its index, which is written last.
        if path.extension().is_some_and(|extension| extension == "idx") {
            let pack = path.with_extension("pack");
            match std::fs::metadata(&pack).and_then(|metadata| metadata.modified()) {
                Ok(modified) => found.push((modified, path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn open_pack(index: &Path, hash: gix_hash::Kind, allocation: usize) -> Result<Pack, Error> {
    let data = data::File::at(index.with_extension("pack"), hash).map_err(damaged)?;
    Ok(Pack {
        index: index::File::at(index, hash).map_err(damaged)?,
        data: data.with_alloc_limit_bytes(Some(allocation)),
    })
}

/// A set of objects: a bit for each that could be in it.
#[derive(Default)]
pub(super) struct PlaceSet {
    packs: Vec<Vec<u64>>,
    loose: Vec<u64>,
}

impl PlaceSet {
    /// Adds an object; whether it was new.
    pub fn insert(&mut self, place: Place) -> bool {
        let words = if place.pack == LOOSE {
            &mut self.loose
        } else {
            let pack = place.pack as usize;
            if self.packs.len() <= pack {
                self.packs.resize_with(pack + 1, Vec::new);
            }
            &mut self.packs[pack]
        };
        let (word, bit) = (place.position as usize / 64, 1 << (place.position % 64));
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        let new = words[word] & bit == 0;
        words[word] |= bit;
        new
    }

    pub fn contains(&self, place: Place) -> bool {
        let words = if place.pack == LOOSE {
            Some(&self.loose)
        } else {
            self.packs.get(place.pack as usize)
        };
        words
            .and_then(|words| words.get(place.position as usize / 64))
            .is_some_and(|word| word & (1 << (place.position % 64)) != 0)
    }
}
