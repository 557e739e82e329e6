//! Laying a FAT volume out and writing it. Directories and files are placed in the order they were added, each in one run of
//! clusters, so the tables are a few counting loops and the data one forward pass.

use gravure_io::{ReadAt, WriteAt};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32};

use super::{
    ATTRIBUTE_ARCHIVE, ATTRIBUTE_DIRECTORY, ATTRIBUTE_LABEL, Bpb32Disk, BpbDisk, BpbTailDisk, EntryDisk,
    FatKind, FatTime, FatVolume, Geometry, MAX_DIRECTORY_BYTES, name,
};
use crate::{Error, table};

/// Bytes moved at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Largest file of the format.
const MAX_FILE_BYTES: u64 = 0xffff_ffff;
/// End of a chain in FAT32; cut to 16 bits it is that of FAT16.
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// Sectors of FAT32 for the free-space record and the copy of the boot sector, as everybody has them.
const INFO_SECTOR: u16 = 1;
const BACKUP_SECTOR: u16 = 6;

/// What a volume is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatOptions {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Sector size in bytes: that of the disk.
    pub sector_bytes: u32,
    /// Sectors before the volume on its disk.
    pub hidden_sectors: u64,
    /// Serial number (`Identity::fat_serial`).
    pub serial: u32,
    /// Label, at most 11 characters; small letters become capitals.
    pub label: String,
    /// Time stamp of everything.
    pub time: FatTime,
}

/// A volume in the making.
pub struct FatBuilder<'a> {
    options: FatOptions,
    geometry: Geometry,
    label: [u8; 11],
    /// The first is the root.
    nodes: Vec<Node<'a>>,
}

struct Node<'a> {
    /// Long name; empty for the root.
    name: String,
    parent: usize,
    content: Content<'a>,
}

enum Content<'a> {
    Directory(Vec<usize>),
    File(&'a dyn ReadAt),
}

impl<'a> FatBuilder<'a> {
    /// Starts an empty volume.
    pub fn new(options: FatOptions) -> Result<Self, Error> {
        let geometry = Geometry::choose(options.size_bytes, options.sector_bytes)?;
        let label = name::label(&options.label)?;
        let root = Node { name: String::new(), parent: 0, content: Content::Directory(Vec::new()) };
        Ok(Self { options, geometry, label, nodes: vec![root] })
    }

    /// Adds the directory `path` (separated by slashes, from the root) and those above it; existing ones are kept.
    pub fn add_dir(&mut self, path: &str) -> Result<(), Error> {
        self.directory(path).map(drop)
    }

    /// Adds the file `path` with `content`, and the directories above it.
    pub fn add_file(&mut self, path: &str, content: &'a dyn ReadAt) -> Result<(), Error> {
        let path = path.trim_matches('/');
        let (above, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        if content.size() > MAX_FILE_BYTES {
            let what = format!("file {path} on a FAT volume");
            return Err(Error::DoesNotFit { what, wanted: content.size(), available: MAX_FILE_BYTES });
        }
        let parent = self.directory(above)?;
        if self.child(parent, leaf).is_some() {
            return Err(Error::invalid(format!("file {path}"), "there is something of that name already"));
        }
        self.add(parent, leaf, Content::File(content)).map(drop)
    }

    fn directory(&mut self, path: &str) -> Result<usize, Error> {
        let mut at = 0;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = match self.child(at, part) {
                None => self.add(at, part, Content::Directory(Vec::new()))?,
                Some(index) if self.entries(index).is_some() => index,
                Some(_) => {
                    return Err(Error::invalid(format!("directory {path}"), format!("{part} is a file")));
                }
            };
        }
        Ok(at)
    }

    fn add(&mut self, parent: usize, leaf: &str, content: Content<'a>) -> Result<usize, Error> {
        name::check(leaf)?;
        let index = self.nodes.len();
        self.nodes.push(Node { name: leaf.to_owned(), parent, content });
        if let Some(Node { content: Content::Directory(entries), .. }) = self.nodes.get_mut(parent) {
            entries.push(index);
        }
        Ok(index)
    }

    fn entries(&self, index: usize) -> Option<&[usize]> {
        match &self.nodes.get(index)?.content {
            Content::Directory(entries) => Some(entries),
            Content::File(_) => None,
        }
    }

    fn child(&self, parent: usize, leaf: &str) -> Option<usize> {
        let wanted = name::folded(leaf);
        let matches =
            |index: &usize| self.nodes.get(*index).is_some_and(|node| name::folded(&node.name) == wanted);
        self.entries(parent)?.iter().copied().find(matches)
    }

    /// Places everything; nothing is read or written yet.
    pub fn finish(self) -> Result<FatImage<'a>, Error> {
        let cluster = self.geometry.cluster_bytes();
        let names = self.short_names()?;
        let mut next: u64 = 2;
        let mut places = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let bytes = match &node.content {
                Content::File(content) => content.size(),
                Content::Directory(_) => self.directory_bytes(index, &names)?,
            };
            let fixed_root = index == 0 && self.geometry.kind == FatKind::Fat16;
            let clusters = if fixed_root { 0 } else { bytes.div_ceil(cluster.max(1)) };
            places.push(Place { first: if clusters == 0 { 0 } else { next }, clusters });
            next = next.saturating_add(clusters);
        }
        let used = next.saturating_sub(2);
        if used > self.geometry.clusters {
            return Err(Error::DoesNotFit {
                what: format!(
                    "{} files and directories on the FAT volume",
                    self.nodes.len().saturating_sub(1)
                ),
                wanted: used.saturating_mul(cluster),
                available: self.geometry.clusters.saturating_mul(cluster),
            });
        }
        Ok(FatImage { builder: self, names, places, used })
    }

    /// Short names by node, unique in each directory. Names that are short already go first, so that no alias takes one.
    fn short_names(&self) -> Result<Vec<[u8; 11]>, Error> {
        let mut names: Vec<Option<[u8; 11]>> =
            self.nodes.iter().map(|node| name::plain_short(&node.name)).collect();
        for directory in self.nodes.iter().filter_map(|node| match &node.content {
            Content::Directory(entries) => Some(entries),
            Content::File(_) => None,
        }) {
            let mut taken: std::collections::BTreeSet<[u8; 11]> =
                directory.iter().filter_map(|index| names.get(*index).copied().flatten()).collect();
            for index in directory {
                if let (Some(slot @ None), Some(node)) = (names.get_mut(*index), self.nodes.get(*index)) {
                    let short = name::alias(&node.name, |short| taken.contains(short))?;
                    taken.insert(short);
                    *slot = Some(short);
                }
            }
        }
        Ok(names.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Bytes of the entries of a directory. Never 0 for one that lies in clusters.
    fn directory_bytes(&self, index: usize, names: &[[u8; 11]]) -> Result<u64, Error> {
        // The label in the root, `.` and `..` elsewhere.
        let mut count: usize = if index == 0 { 1 } else { 2 };
        for child in self.entries(index).unwrap_or_default() {
            count = count.saturating_add(self.entry_bytes(*child, names).len()).saturating_add(1);
        }
        let bytes = count.saturating_mul(super::ENTRY_BYTES);
        let most = match (index, self.geometry.kind) {
            (0, FatKind::Fat16) => usize::try_from(self.geometry.root_bytes()).unwrap_or(usize::MAX),
            _ => MAX_DIRECTORY_BYTES,
        };
        if bytes > most {
            let name = self.nodes.get(index).map(|node| node.name.as_str()).unwrap_or_default();
            return Err(Error::DoesNotFit {
                what: format!("entries of the FAT directory {name:?}"),
                wanted: u64::try_from(bytes).unwrap_or(u64::MAX),
                available: u64::try_from(most).unwrap_or(u64::MAX),
            });
        }
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// The long-name entries of a node.
    fn entry_bytes(&self, index: usize, names: &[[u8; 11]]) -> Vec<[u8; 32]> {
        let (Some(node), Some(short)) = (self.nodes.get(index), names.get(index)) else { return Vec::new() };
        match name::plain_short(&node.name) {
            Some(_) => Vec::new(),
            None => name::long_entries(&node.name, short),
        }
    }
}

impl std::fmt::Debug for FatBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FatBuilder")
            .field("options", &self.options)
            .field("geometry", &self.geometry)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

/// Where a node lies; an empty file has no clusters and first cluster 0.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: u64,
    clusters: u64,
}

/// A volume whose every byte is decided.
#[derive(Debug)]
pub struct FatImage<'a> {
    builder: FatBuilder<'a>,
    names: Vec<[u8; 11]>,
    places: Vec<Place>,
    used: u64,
}

impl FatImage<'_> {
    /// How the volume is divided.
    pub fn geometry(&self) -> &Geometry {
        &self.builder.geometry
    }

    /// Bytes of the clusters in use.
    pub fn used_bytes(&self) -> u64 {
        self.used.saturating_mul(self.builder.geometry.cluster_bytes())
    }

    /// Writes the volume to `target`, which starts where the volume does: data, tables, boot sector last, then a flush.
    /// Clusters that are not used are left as they are.
    pub fn write(&self, target: &dyn WriteAt) -> Result<(), Error> {
        let geometry = &self.builder.geometry;
        let put =
            |what, offset, bytes: &[u8]| target.write_all_at(offset, bytes).map_err(Error::io(what, offset));
        // Without its first sector the volume is nothing, whatever stood there before.
        target.zero_range(0..geometry.data_offset()).map_err(Error::io("zero FAT structures", 0))?;
        for (index, node) in self.builder.nodes.iter().enumerate() {
            let Some(place) = self.places.get(index).copied() else { continue };
            let offset = geometry.cluster_offset(place.first);
            match &node.content {
                Content::Directory(_) if place.first == 0 => {
                    let mut bytes = self.directory(index);
                    pad(&mut bytes, geometry.sector_bytes);
                    put("write FAT root directory", geometry.root_offset(), &bytes)?;
                }
                Content::Directory(_) => {
                    let mut bytes = self.directory(index);
                    pad(&mut bytes, geometry.cluster_bytes());
                    put("write FAT directory", offset, &bytes)?;
                }
                Content::File(content) => self.write_file(target, *content, offset)?,
            }
        }
        let fat = self.fat_bytes();
        for copy in 0..geometry.fat_count {
            put("write FAT", geometry.fat_offset(copy), &fat)?;
        }
        let boot = self.boot_sector();
        if geometry.kind == FatKind::Fat32 {
            let sector = |number: u16| u64::from(number).saturating_mul(geometry.sector_bytes);
            put("write FAT information sector", sector(INFO_SECTOR), &self.info_sector())?;
            put("write FAT backup boot sector", sector(BACKUP_SECTOR), &boot)?;
        }
        target.sync().map_err(Error::io("flush FAT volume", 0))?;
        put("write FAT boot sector", 0, &boot)?;
        target.sync().map_err(Error::io("flush FAT volume", 0))
    }

    /// Reads the volume back through its own tables and directories and compares every file; also that nothing else is there.
    pub fn verify(&self, source: &dyn ReadAt) -> Result<(), Error> {
        let boot = self.boot_sector();
        let found = source.read_vec_at(0, boot.len()).map_err(Error::io("read FAT boot sector", 0))?;
        table::compare("FAT boot sector", 0, &boot, &found)?;
        let fat = self.fat_bytes();
        for copy in 0..self.builder.geometry.fat_count {
            let offset = self.builder.geometry.fat_offset(copy);
            let found = source.read_vec_at(offset, fat.len()).map_err(Error::io("read FAT", offset))?;
            table::compare("FAT", offset, &fat, &found)?;
        }
        self.verify_directory(&FatVolume::open(source)?, 0, "")
    }

    fn verify_directory(&self, volume: &FatVolume<'_>, index: usize, path: &str) -> Result<(), Error> {
        let differs = |path: &str| Error::Differs { what: format!("FAT directory {path:?}"), offset: 0 };
        let wanted = self.builder.entries(index).unwrap_or_default();
        let found = volume.list(path)?;
        if found.len() != wanted.len() {
            return Err(differs(path));
        }
        for (index, entry) in wanted.iter().zip(&found) {
            let Some(node) = self.builder.nodes.get(*index) else { return Err(differs(path)) };
            let below = format!("{path}/{}", node.name);
            if entry.name != node.name {
                return Err(differs(&below));
            }
            match &node.content {
                Content::Directory(_) if entry.directory => self.verify_directory(volume, *index, &below)?,
                Content::File(content) if !entry.directory => volume.compare_file(entry, *content, &below)?,
                _ => return Err(differs(&below)),
            }
        }
        Ok(())
    }

    /// Copies a file's bytes and fills its last cluster with zeros.
    fn write_file(&self, target: &dyn WriteAt, content: &dyn ReadAt, offset: u64) -> Result<(), Error> {
        let mut done = 0;
        while done < content.size() {
            let len = content.size().saturating_sub(done).min(STEP_BYTES);
            let len = usize::try_from(len).unwrap_or(0);
            let mut bytes =
                content.read_vec_at(done, len).map_err(Error::io("read file for FAT volume", done))?;
            pad(&mut bytes, self.builder.geometry.cluster_bytes());
            let at = offset.saturating_add(done);
            target.write_all_at(at, &bytes).map_err(Error::io("write file to FAT volume", at))?;
            done = done.saturating_add(STEP_BYTES);
        }
        Ok(())
    }

    fn directory(&self, index: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let node = self.builder.nodes.get(index);
        if index == 0 {
            if self.builder.label != [b' '; 11] {
                bytes.extend_from_slice(self.entry(self.builder.label, ATTRIBUTE_LABEL, 0, 0).as_bytes());
            }
        } else {
            let first = |index: usize| self.places.get(index).map_or(0, |place| place.first);
            let parent = node.map_or(0, |node| node.parent);
            // `..` of a directory in the root says 0, also on FAT32 where the root has a cluster.
            let above = if parent == 0 { 0 } else { first(parent) };
            bytes.extend_from_slice(
                self.entry(*b".          ", ATTRIBUTE_DIRECTORY, first(index), 0).as_bytes(),
            );
            bytes.extend_from_slice(self.entry(*b"..         ", ATTRIBUTE_DIRECTORY, above, 0).as_bytes());
        }
        for child in self.builder.entries(index).unwrap_or_default() {
            for entry in self.builder.entry_bytes(*child, &self.names) {
                bytes.extend_from_slice(&entry);
            }
            let short = self.names.get(*child).copied().unwrap_or_default();
            let first = self.places.get(*child).map_or(0, |place| place.first);
            let (attributes, size) = match self.builder.nodes.get(*child).map(|node| &node.content) {
                Some(Content::File(content)) => {
                    (ATTRIBUTE_ARCHIVE, u32::try_from(content.size()).unwrap_or(u32::MAX))
                }
                _ => (ATTRIBUTE_DIRECTORY, 0),
            };
            bytes.extend_from_slice(self.entry(short, attributes, first, size).as_bytes());
        }
        bytes
    }

    fn entry(&self, name: [u8; 11], attributes: u8, cluster: u64, size: u32) -> EntryDisk {
        let time = self.builder.options.time;
        let half = |shift: u32| {
            U16::new(u16::try_from(cluster.checked_shr(shift).unwrap_or(0) & 0xffff).unwrap_or(0))
        };
        EntryDisk {
            name,
            attributes,
            case: 0,
            created_centis: 0,
            created_time: U16::new(time.time),
            created_date: U16::new(time.date),
            accessed_date: U16::new(time.date),
            cluster_high: half(16),
            modified_time: U16::new(time.time),
            modified_date: U16::new(time.date),
            cluster_low: half(0),
            size: U32::new(size),
        }
    }

    /// One copy of the table, whole sectors.
    fn fat_bytes(&self) -> Vec<u8> {
        // Entry 0 repeats the media byte, entry 1 says that the volume was left in order.
        let mut entries: Vec<u32> = vec![0x0fff_fff8, END_OF_CHAIN];
        for place in self.places.iter().filter(|place| place.clusters > 0) {
            let last = place.first.saturating_add(place.clusters).saturating_sub(1);
            let links = place.first.saturating_add(1)..=last;
            entries.extend(links.map(|next| u32::try_from(next).unwrap_or(END_OF_CHAIN)));
            entries.push(END_OF_CHAIN);
        }
        let geometry = &self.builder.geometry;
        let mut bytes: Vec<u8> = match geometry.kind {
            FatKind::Fat32 => entries.iter().flat_map(|entry| entry.to_le_bytes()).collect(),
            FatKind::Fat16 => entries
                .iter()
                .flat_map(|entry| {
                    let [low, high, ..] = entry.to_le_bytes();
                    [low, high]
                })
                .collect(),
        };
        let len = geometry.fat_sectors.saturating_mul(geometry.sector_bytes);
        bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        bytes
    }

    fn boot_sector(&self) -> Vec<u8> {
        let geometry = &self.builder.geometry;
        let narrow = |value: u64| U16::new(u16::try_from(value).unwrap_or(0));
        let fat32 = geometry.kind == FatKind::Fat32;
        let short_count = !fat32 && geometry.sectors < 0x10000;
        let bpb = BpbDisk {
            jump: [0xeb, if fat32 { 0x58 } else { 0x3c }, 0x90],
            oem_name: *b"MSWIN4.1", // what the specification recommends: some readers look for it
            sector_bytes: narrow(geometry.sector_bytes),
            cluster_sectors: u8::try_from(geometry.cluster_sectors).unwrap_or(0),
            reserved_sectors: narrow(geometry.reserved),
            fat_count: u8::try_from(geometry.fat_count).unwrap_or(0),
            root_entries: narrow(geometry.root_entries),
            sectors16: if short_count { narrow(geometry.sectors) } else { U16::ZERO },
            media: 0xf8,
            fat_sectors16: if fat32 { U16::ZERO } else { narrow(geometry.fat_sectors) },
            track_sectors: U16::new(63),
            heads: U16::new(255),
            hidden_sectors: U32::new(u32::try_from(self.builder.options.hidden_sectors).unwrap_or(0)),
            sectors32: U32::new(if short_count { 0 } else { u32::try_from(geometry.sectors).unwrap_or(0) }),
        };
        let tail = BpbTailDisk {
            drive: 0x80,
            reserved: 0,
            signature: 0x29,
            serial: U32::new(self.builder.options.serial),
            label: if self.builder.label == [b' '; 11] { *b"NO NAME    " } else { self.builder.label },
            kind: if fat32 { *b"FAT32   " } else { *b"FAT16   " },
        };
        let mut bytes = bpb.as_bytes().to_vec();
        if fat32 {
            let middle = Bpb32Disk {
                fat_sectors: U32::new(u32::try_from(geometry.fat_sectors).unwrap_or(0)),
                flags: U16::ZERO,
                version: U16::ZERO,
                root_cluster: U32::new(2),
                info_sector: U16::new(INFO_SECTOR),
                backup_sector: U16::new(BACKUP_SECTOR),
                reserved: [0; 12],
            };
            bytes.extend_from_slice(middle.as_bytes());
        }
        bytes.extend_from_slice(tail.as_bytes());
        // Started as boot code: hand over to the next device (int 18h), else stop.
        bytes.extend_from_slice(&[0xcd, 0x18, 0xf4, 0xeb, 0xfd]);
        self.sealed(bytes)
    }

    /// Free clusters and where to look for one; readers take it as a hint.
    fn info_sector(&self) -> Vec<u8> {
        let geometry = &self.builder.geometry;
        let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = b"RRaA".to_vec();
        bytes.resize(484, 0);
        bytes.extend_from_slice(b"rrAa");
        bytes.extend_from_slice(&count(geometry.clusters.saturating_sub(self.used)));
        bytes.extend_from_slice(&count(self.used.saturating_add(2)));
        self.sealed(bytes)
    }

    /// Pads to a sector; the signature stands at 510 whatever the sector size.
    fn sealed(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(510, 0);
        bytes.extend_from_slice(&[0x55, 0xaa]);
        bytes.resize(usize::try_from(self.builder.geometry.sector_bytes).unwrap_or(512), 0);
        bytes
    }
}

/// Pads to whole units: the step of copying is a multiple of every cluster size, and writes are whole sectors.
fn pad(bytes: &mut Vec<u8>, unit: u64) {
    let unit = usize::try_from(unit).unwrap_or(1).max(1);
    bytes.resize(bytes.len().checked_next_multiple_of(unit).unwrap_or(bytes.len()), 0);
}
