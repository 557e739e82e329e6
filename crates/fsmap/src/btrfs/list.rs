//! Directories listed by path, for whoever looks into an image without restoring it.

use std::collections::{BTreeMap, BTreeSet};

use gravure_io::ReadAt;

use super::subvolumes::{self, Entry, Tree};
use super::tree::{Key, Reader};
use super::{Superblock, all_chunks};
use crate::Error;
use crate::field::{le32, le64};
use crate::list::{ListKind, Listed};

const ITEM_INODE: u8 = 1;
const ITEM_INDEX: u8 = 96;
/// Bytes of an inode's item.
const INODE_BYTES: usize = 160;
/// Entries of a directory at most: 300 bytes each in memory.
const MAX_ENTRIES: usize = 1 << 20;
/// Items passed over before the next inode is looked for from the root again.
const MAX_PASSED: u32 = 256;
/// How a path begins that does not start in the default subvolume.
const BY_NUMBER: &str = "subvolid=";

/// Types of files in the mode.
const MODE_TYPE: u32 = 0xf000;
const MODE_DIRECTORY: u32 = 0x4000;
const MODE_FILE: u32 = 0x8000;
const MODE_LINK: u32 = 0xa000;

/// What is needed of an inode.
#[derive(Debug, Clone, Copy)]
struct Inode {
    mode: u32,
    size: u64,
}

/// A directory: its subvolume and its number there.
#[derive(Debug, Clone, Copy)]
struct Place {
    tree: Tree,
    number: u64,
}

/// What a name leads to.
enum Found {
    Directory(Place),
    /// The name of a subvolume that is not there.
    Empty,
    Other(Inode),
}

struct Files<'a> {
    reader: Reader<'a>,
    sb: &'a Superblock,
}

/// The entries of the directory at `path`, or the file itself; `None` when there is none.
pub(crate) fn list(
    dev: &dyn ReadAt,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Listed>>, Error> {
    let sb = Superblock::read(dev)?;
    let chunks = all_chunks(dev, &sb, goes_on)?;
    let files = Files { reader: Reader::new(dev, &sb, &chunks, goes_on), sb: &sb };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let default = subvolumes::default(&files.reader, &sb)?;
    let Some(root) = files.subvolume(default)? else {
        return Err(Error::corrupt(
            "tree of roots",
            sb.root,
            "the default subvolume",
            format!("no {default}"),
        ));
    };
    let found = match files.find(root, &parts)? {
        Some(found) => Some(found),
        // A name that looks like a number goes before the number.
        None => {
            match parts.split_first().and_then(|(first, rest)| Some((first.strip_prefix(BY_NUMBER)?, rest))) {
                Some((number, rest)) => {
                    match number.parse().ok().map(|number| files.subvolume(number)).transpose()? {
                        Some(Some(root)) => files.find(root, rest)?,
                        _ => None,
                    }
                }
                None => None,
            }
        }
    };
    let name = || parts.last().copied().unwrap_or("/").to_owned();
    Ok(match found {
        None => None,
        Some(Found::Empty) => Some(Vec::new()),
        Some(Found::Other(inode)) => Some(vec![listed(name(), inode)]),
        Some(Found::Directory(place)) => Some(files.all(place)?),
    })
}

impl Files<'_> {
    fn subvolume(&self, number: u64) -> Result<Option<Place>, Error> {
        let found = subvolumes::subvolume(&self.reader, self.sb, number)?;
        Ok(found.map(|tree| Place { tree, number: tree.directory }))
    }

    /// Goes down from a directory.
    fn find(&self, from: Place, parts: &[&str]) -> Result<Option<Found>, Error> {
        let mut place = from;
        for (nth, part) in (1..).zip(parts) {
            let entries = self.entries(place)?;
            let Some(entry) = entries.into_iter().find(|entry| shown(&entry.name) == *part) else {
                return Ok(None);
            };
            let found = self.follow(place, &entry)?;
            match found {
                Found::Directory(next) => place = next,
                last if nth == parts.len() => return Ok(Some(last)),
                _ => return Ok(None),
            }
        }
        Ok(Some(Found::Directory(place)))
    }

    fn follow(&self, place: Place, entry: &Entry) -> Result<Found, Error> {
        if entry.is_subvolume() {
            let number = place.tree.number;
            if !subvolumes::hangs_in(&self.reader, self.sb, number, place.number, entry)? {
                return Ok(Found::Empty);
            }
            let found = self.subvolume(entry.target.object)?;
            return Ok(found.map_or(Found::Empty, Found::Directory));
        }
        let wanted = BTreeSet::from([entry.target.object]);
        let inode = self.inodes(place.tree, &wanted)?.remove(&entry.target.object);
        let inode = inode.ok_or_else(|| no_inode(place, entry.target.object))?;
        Ok(if inode.mode & MODE_TYPE == MODE_DIRECTORY {
            Found::Directory(Place { tree: place.tree, number: entry.target.object })
        } else {
            Found::Other(inode)
        })
    }

    fn all(&self, place: Place) -> Result<Vec<Listed>, Error> {
        let entries = self.entries(place)?;
        let wanted = entries.iter().filter(|entry| !entry.is_subvolume()).map(|entry| entry.target.object);
        let inodes = self.inodes(place.tree, &wanted.collect())?;
        let mut out = Vec::new();
        for entry in entries {
            let inode = if entry.is_subvolume() {
                Inode { mode: MODE_DIRECTORY, size: 0 }
            } else {
                let found = inodes.get(&entry.target.object).copied();
                found.ok_or_else(|| no_inode(place, entry.target.object))?
            };
            out.push(listed(shown(&entry.name), inode));
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The entries of a directory, in the order in which they came.
    fn entries(&self, place: Place) -> Result<Vec<Entry>, Error> {
        let first = Key { object: place.number, kind: ITEM_INDEX, offset: 0 };
        let mut out = Vec::new();
        self.reader.walk(place.tree.root, first, &mut |key, item| {
            if (key.object, key.kind) != (first.object, first.kind) {
                return Ok(false);
            }
            out.extend(subvolumes::entries(place.tree.root.place, item)?);
            if out.len() > MAX_ENTRIES {
                let value = format!("more than {MAX_ENTRIES} entries in inode {}", place.number);
                return Err(Error::unsupported("size of a directory", value));
            }
            Ok(true)
        })?;
        Ok(out)
    }

    /// Those of the wanted inodes that are there. They are looked for in their order, so that neighbours are found together.
    fn inodes(&self, tree: Tree, wanted: &BTreeSet<u64>) -> Result<BTreeMap<u64, Inode>, Error> {
        let mut out = BTreeMap::new();
        let mut next = wanted.first().copied();
        while let Some(number) = next {
            let first = Key { object: number, kind: ITEM_INODE, offset: 0 };
            let (mut last, mut passed) = (number, 0u32);
            self.reader.walk(tree.root, first, &mut |key, item| {
                last = last.max(key.object);
                if key.kind == ITEM_INODE && item.len() >= INODE_BYTES && wanted.contains(&key.object) {
                    out.insert(key.object, Inode { mode: le32(item, 52), size: le64(item, 16) });
                    passed = 0;
                }
                passed = passed.saturating_add(1);
                Ok(passed < MAX_PASSED)
            })?;
            // What was passed will not come again.
            let behind = last.max(number).checked_add(1);
            next = if passed < MAX_PASSED {
                None
            } else {
                behind.and_then(|behind| wanted.range(behind..).next().copied())
            };
        }
        Ok(out)
    }
}

fn no_inode(place: Place, number: u64) -> Error {
    let what = format!("inode {number} of subvolume {}", place.tree.number);
    Error::corrupt(what, place.tree.root.place, "an item for it", "none")
}

/// A name for people.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn listed(name: String, inode: Inode) -> Listed {
    let kind = match inode.mode & MODE_TYPE {
        MODE_DIRECTORY => ListKind::Directory,
        MODE_FILE => ListKind::File,
        MODE_LINK => ListKind::Link,
        _ => ListKind::Other,
    };
    Listed { name, kind, size: if kind == ListKind::File { inode.size } else { 0 } }
}
