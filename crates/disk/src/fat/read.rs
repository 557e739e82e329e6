//! Reading FAT volumes: directories and files through the table, every length and chain bounded. FAT12 (floppies) is not read.

use std::ops::Range;

use gravure_io::ReadAt;
use zerocopy::FromBytes;

use super::{
    ATTRIBUTE_DIRECTORY, ATTRIBUTE_LABEL, ATTRIBUTE_LONG_NAME, Bpb32Disk, BpbDisk, BpbTailDisk, ENTRY_BYTES,
    EntryDisk, FatKind, Geometry, LongNameDisk, MAX_DIRECTORY_BYTES, MAX_NAME_UNITS, name,
};
use crate::{Error, table};

/// Largest table kept in memory: 16 million clusters, a volume of 64 GiB with clusters of 4 KiB. No system partition is larger.
const MAX_FAT_BYTES: u64 = 64 << 20;
/// Deepest path followed.
const MAX_DEPTH: usize = 64;

/// A volume opened for reading.
pub struct FatVolume<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    /// First copy of the table.
    fat: Vec<u8>,
    root_cluster: u64,
    serial: u32,
    label: String,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatEntry {
    /// Long name, or the short one where there is no long.
    pub name: String,
    /// It is a directory.
    pub directory: bool,
    /// Size in bytes; 0 for directories.
    pub size: u32,
    /// First cluster; 0 for empty files.
    pub first_cluster: u32,
}

impl<'a> FatVolume<'a> {
    /// Reads the boot sector and the table of the volume that starts at byte 0 of `source`.
    pub fn open(source: &'a dyn ReadAt) -> Result<Self, Error> {
        let boot = source.read_vec_at(0, 512).map_err(Error::io("read FAT boot sector", 0))?;
        let (bpb, rest) =
            BpbDisk::read_from_prefix(&boot).map_err(|_| corrupt("boot sector", "512 bytes", "less"))?;
        if boot.get(510..) != Some(&[0x55, 0xaa]) {
            return Err(corrupt("boot sector signature", "55 aa", "other bytes"));
        }
        let (middle, rest32) =
            Bpb32Disk::read_from_prefix(rest).map_err(|_| corrupt("boot sector", "512 bytes", "less"))?;
        let geometry = parse_geometry(&bpb, &middle, source.size())?;
        let tail_bytes = if geometry.kind == FatKind::Fat32 { rest32 } else { rest };
        let tail = BpbTailDisk::read_from_prefix(tail_bytes).map(|(tail, _)| tail).ok();
        let tail = tail.filter(|tail| tail.signature == 0x29);
        let fat_bytes = geometry.fat_sectors.saturating_mul(geometry.sector_bytes);
        if fat_bytes > MAX_FAT_BYTES {
            return Err(Error::Unsupported {
                what: "FAT of more than 64 MiB",
                value: format!("{fat_bytes} bytes"),
            });
        }
        let offset = geometry.fat_offset(0);
        let fat = source
            .read_vec_at(offset, usize::try_from(fat_bytes).unwrap_or(usize::MAX))
            .map_err(Error::io("read FAT", offset))?;
        Ok(Self {
            source,
            geometry,
            fat,
            root_cluster: u64::from(middle.root_cluster.get()),
            serial: tail.map_or(0, |tail| tail.serial.get()),
            label: tail.map(|tail| name::short_label(&tail.label)).unwrap_or_default(),
        })
    }

    /// How the volume is divided.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Serial number; 0 when there is none.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Label in the boot sector; the root directory may hold a newer one.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The entries of the directory `path` (separated by slashes; empty for the root) in their order on the disk,
    /// without `.`, `..` and the label.
    pub fn list(&self, path: &str) -> Result<Vec<FatEntry>, Error> {
        match self.find(path)? {
            None => self.read_root(),
            Some(entry) if entry.directory => self.read_chain_directory(u64::from(entry.first_cluster)),
            Some(_) => Err(Error::invalid(format!("directory {path}"), "it is a file")),
        }
    }

    /// The content of the file `path`, which may have at most `max` bytes.
    pub fn read_file(&self, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        let entry = self.find(path)?.filter(|entry| !entry.directory);
        let entry = entry.ok_or_else(|| Error::invalid(format!("file {path}"), "it is a directory"))?;
        if u64::from(entry.size) > max {
            let what = format!("file {path} into the caller's limit");
            return Err(Error::DoesNotFit { what, wanted: u64::from(entry.size), available: max });
        }
        let mut out = Vec::new();
        self.for_each_run(&entry, |bytes, _| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    /// Where the content of the file `path` lies on the volume, bytes, in its order: for changes in place.
    pub fn file_ranges(&self, path: &str) -> Result<Vec<Range<u64>>, Error> {
        let entry = self.find(path)?.filter(|entry| !entry.directory);
        let entry = entry.ok_or_else(|| Error::invalid(format!("file {path}"), "it is a directory"))?;
        let cluster_bytes = self.geometry.cluster_bytes().max(1);
        let mut left = u64::from(entry.size);
        let mut out: Vec<Range<u64>> = Vec::new();
        let mut cluster = (left > 0).then_some(u64::from(entry.first_cluster));
        while left > 0 {
            let Some(number) = cluster else {
                let found = format!("its end with {left} bytes left");
                return Err(corrupt("chain of a file", format!("clusters for {} bytes", entry.size), found));
            };
            let offset = self.offset_of(number)?;
            let len = cluster_bytes.min(left);
            let end = offset.saturating_add(len);
            match out.last_mut() {
                Some(last) if last.end == offset => last.end = end,
                _ => out.push(offset..end),
            }
            left = left.saturating_sub(len);
            cluster = self.next(number)?;
        }
        Ok(out)
    }

    /// Whether `path` is there.
    pub fn contains(&self, path: &str) -> Result<bool, Error> {
        match self.find(path) {
            Err(Error::Invalid { .. }) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Compares a file with what it should hold.
    pub(super) fn compare_file(
        &self,
        entry: &FatEntry,
        content: &dyn ReadAt,
        path: &str,
    ) -> Result<(), Error> {
        if u64::from(entry.size) != content.size() {
            return Err(Error::Differs { what: format!("size of FAT file {path}"), offset: 0 });
        }
        self.for_each_run(entry, |found, at| {
            let expected =
                content.read_vec_at(at, found.len()).map_err(Error::io("read file for comparison", at))?;
            table::compare(path, at, &expected, found)
        })
    }

    /// The entry at `path`; `None` for the root itself.
    fn find(&self, path: &str) -> Result<Option<FatEntry>, Error> {
        let mut at: Option<FatEntry> = None;
        for (depth, part) in path.split('/').filter(|part| !part.is_empty()).enumerate() {
            if depth >= MAX_DEPTH {
                return Err(Error::Unsupported {
                    what: "path of more than 64 parts",
                    value: path.to_owned(),
                });
            }
            let entries = match &at {
                None => self.read_root()?,
                Some(entry) if entry.directory => {
                    self.read_chain_directory(u64::from(entry.first_cluster))?
                }
                Some(entry) => {
                    return Err(Error::invalid(format!("path {path}"), format!("{} is a file", entry.name)));
                }
            };
            let wanted = name::folded(part);
            let found = entries.into_iter().find(|entry| name::folded(&entry.name) == wanted);
            at = Some(
                found.ok_or_else(|| Error::invalid(format!("path {path}"), format!("there is no {part}")))?,
            );
        }
        Ok(at)
    }

    fn read_root(&self) -> Result<Vec<FatEntry>, Error> {
        if self.geometry.kind == FatKind::Fat32 {
            return self.read_chain_directory(self.root_cluster);
        }
        let offset = self.geometry.root_offset();
        let len = usize::try_from(self.geometry.root_bytes()).unwrap_or(usize::MAX);
        let bytes =
            self.source.read_vec_at(offset, len).map_err(Error::io("read FAT root directory", offset))?;
        Ok(parse_directory(&bytes))
    }

    fn read_chain_directory(&self, first: u64) -> Result<Vec<FatEntry>, Error> {
        let mut bytes = Vec::new();
        let cluster_bytes = usize::try_from(self.geometry.cluster_bytes()).unwrap_or(usize::MAX);
        let mut cluster = Some(first);
        while let Some(number) = cluster {
            if bytes.len().saturating_add(cluster_bytes) > MAX_DIRECTORY_BYTES.max(cluster_bytes) {
                let found = format!("more, from cluster {first}");
                return Err(corrupt("directory", "at most 65536 entries", found));
            }
            let offset = self.offset_of(number)?;
            let part = self.source.read_vec_at(offset, cluster_bytes);
            bytes.extend_from_slice(&part.map_err(Error::io("read FAT directory", offset))?);
            cluster = self.next(number)?;
        }
        Ok(parse_directory(&bytes))
    }

    /// Hands a file's bytes to `each` with their position, clusters that follow each other in one piece of up to 1 MiB.
    fn for_each_run(
        &self,
        entry: &FatEntry,
        mut each: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cluster_bytes = self.geometry.cluster_bytes().max(1);
        let most = (1u64 << 20).div_ceil(cluster_bytes);
        let size = u64::from(entry.size);
        let mut done = 0;
        let mut cluster = (size > 0).then_some(u64::from(entry.first_cluster));
        while done < size {
            let Some(first) = cluster else {
                let found = format!("its end after {done}");
                return Err(corrupt("chain of a file", format!("clusters for {size} bytes"), found));
            };
            let mut count = 1;
            let mut last = first;
            cluster = self.next(first)?;
            while cluster == last.checked_add(1) && count < most {
                last = last.saturating_add(1);
                count = u64::saturating_add(count, 1);
                cluster = self.next(last)?;
            }
            let offset = self.offset_of(first)?;
            self.offset_of(last)?;
            let len = count.saturating_mul(cluster_bytes).min(size.saturating_sub(done));
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let bytes = self.source.read_vec_at(offset, len).map_err(Error::io("read FAT file", offset))?;
            each(&bytes, done)?;
            done = done.saturating_add(bytes.size());
        }
        Ok(())
    }

    fn offset_of(&self, cluster: u64) -> Result<u64, Error> {
        let end = self.geometry.clusters.saturating_add(2);
        if (2..end).contains(&cluster) {
            return Ok(self.geometry.cluster_offset(cluster));
        }
        Err(corrupt("cluster number", format!("2..{end}"), cluster.to_string()))
    }

    /// What follows `cluster` in its chain. A loop ends at the bound of what is read, never here.
    fn next(&self, cluster: u64) -> Result<Option<u64>, Error> {
        self.offset_of(cluster)?;
        let width: u64 = if self.geometry.kind == FatKind::Fat32 { 4 } else { 2 };
        let at = usize::try_from(cluster.saturating_mul(width)).unwrap_or(usize::MAX);
        let tail = self.fat.get(at..).unwrap_or_default();
        let (value, end) = match self.geometry.kind {
            FatKind::Fat32 => (tail.first_chunk().map(|b| u32::from_le_bytes(*b) & 0x0fff_ffff), 0x0fff_fff8),
            FatKind::Fat16 => (tail.first_chunk().map(|b| u32::from(u16::from_le_bytes(*b))), 0xfff8),
        };
        match value {
            Some(value) if value >= end => Ok(None),
            Some(value) => Ok(Some(u64::from(value))),
            None => Err(corrupt("FAT", format!("an entry for cluster {cluster}"), "its end")),
        }
    }
}

impl std::fmt::Debug for FatVolume<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FatVolume")
            .field("geometry", &self.geometry)
            .field("serial", &self.serial)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

fn corrupt(what: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::corrupt(what, 0, expected, found)
}

fn parse_geometry(bpb: &BpbDisk, middle: &Bpb32Disk, size: u64) -> Result<Geometry, Error> {
    let sector_bytes = u64::from(bpb.sector_bytes.get());
    if !matches!(sector_bytes, 512 | 1024 | 2048 | 4096) {
        return Err(corrupt("FAT sector size", "512, 1024, 2048 or 4096", sector_bytes.to_string()));
    }
    let cluster_sectors = u64::from(bpb.cluster_sectors);
    if !cluster_sectors.is_power_of_two() {
        return Err(corrupt("FAT cluster size", "a power of two", cluster_sectors.to_string()));
    }
    let (reserved, fat_count) = (u64::from(bpb.reserved_sectors.get()), u64::from(bpb.fat_count));
    if reserved == 0 || !matches!(fat_count, 1 | 2) {
        return Err(corrupt(
            "FAT parameters",
            "reserved sectors and 1 or 2 tables",
            format!("{reserved}, {fat_count}"),
        ));
    }
    let either = |narrow: u16, wide: u32| if narrow == 0 { u64::from(wide) } else { u64::from(narrow) };
    let sectors = either(bpb.sectors16.get(), bpb.sectors32.get());
    if sectors.saturating_mul(sector_bytes) > size {
        return Err(corrupt(
            "FAT volume size",
            format!("at most {size} bytes"),
            format!("{sectors} sectors"),
        ));
    }
    let fat_sectors = either(bpb.fat_sectors16.get(), middle.fat_sectors.get());
    let root_entries = u64::from(bpb.root_entries.get());
    let mut geometry = Geometry {
        kind: FatKind::Fat32,
        sector_bytes,
        sectors,
        reserved,
        fat_sectors,
        fat_count,
        root_entries,
        cluster_sectors,
        clusters: 0,
    };
    let data_sectors =
        geometry.data_offset().checked_div(sector_bytes).and_then(|before| sectors.checked_sub(before));
    let Some(data_sectors) = data_sectors else {
        return Err(corrupt(
            "FAT parameters",
            "tables inside the volume",
            format!("{fat_sectors} sectors each"),
        ));
    };
    geometry.clusters = data_sectors.checked_div(cluster_sectors).unwrap_or(0);
    geometry.kind = match geometry.clusters {
        0..4085 => {
            return Err(Error::Unsupported {
                what: "FAT12",
                value: format!("{} clusters", geometry.clusters),
            });
        }
        4085..65525 => FatKind::Fat16,
        _ => FatKind::Fat32,
    };
    Ok(geometry)
}

/// Entries up to the first that was never used. Long names without their short one, or with another's checksum, are dropped as
/// readers do; the short name stands then.
fn parse_directory(bytes: &[u8]) -> Vec<FatEntry> {
    let mut out = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    let mut expected: Option<(u8, u8)> = None; // order and checksum of the part before
    for bytes in bytes.chunks_exact(ENTRY_BYTES) {
        let Ok(entry) = EntryDisk::read_from_bytes(bytes) else { return out };
        let [first, ..] = entry.name;
        match first {
            0x00 => return out,
            0xe5 => expected = None,
            _ if entry.attributes & 0x3f == ATTRIBUTE_LONG_NAME => {
                let Ok(part) = LongNameDisk::read_from_bytes(bytes) else { return out };
                let order = part.order & 0x3f;
                if part.order & 0x40 != 0 {
                    long.clear();
                } else if expected != Some((order.saturating_add(1), part.checksum)) {
                    expected = None;
                    continue;
                }
                let mut units = name::units_of(&part);
                units.append(&mut long);
                long = units;
                expected = (long.len() <= MAX_NAME_UNITS).then_some((order, part.checksum));
            }
            _ if entry.attributes & ATTRIBUTE_LABEL != 0 => expected = None,
            _ => {
                let short = fixed_first(entry.name);
                let has_long = expected == Some((1, name::checksum(&entry.name)));
                expected = None;
                if &entry.name != b".          " && &entry.name != b"..         " {
                    let cluster =
                        u32::from(entry.cluster_high.get()) << 16 | u32::from(entry.cluster_low.get());
                    let directory = entry.attributes & ATTRIBUTE_DIRECTORY != 0;
                    out.push(FatEntry {
                        name: match has_long {
                            true => String::from_utf16_lossy(&long),
                            false => name::short_text(&short, entry.case),
                        },
                        directory,
                        size: if directory { 0 } else { entry.size.get() },
                        first_cluster: cluster,
                    });
                }
            }
        }
    }
    out
}

/// A first byte of 0x05 stands for 0xe5, which would mean "deleted".
fn fixed_first(mut name: [u8; 11]) -> [u8; 11] {
    if name[0] == 0x05 {
        name[0] = 0xe5;
    }
    name
}
