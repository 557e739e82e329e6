//! exFAT (Microsoft, "exFAT file system specification"): a bitmap that the root directory names.

mod directory;

use std::ops::Range;

use gravure_disk::Found;
use gravure_io::ReadAt;

use crate::bits::zeros;
use crate::clusters::{self, Content, Entry, Layout, Place, claim};
use crate::field::{le16, le32, le64, read, size, slice, u8, wide};
use crate::list::Listed;
use crate::map::Draft;
use crate::owners::Claims;
use crate::probe::fact;
use crate::{Error, Kind, Options, Owned, Probe, Reason, State};

/// Sectors whose checksum the twelfth one repeats.
const CHECKED_SECTORS: usize = 11;
/// Clusters of the root directory that are searched; the entries wanted stand at its start.
const MAX_ROOT_BYTES: u64 = 16 << 20;
/// Bytes of a bitmap read at a time.
const STEP_BYTES: u64 = 1 << 20;

const ENTRY_BITMAP: u8 = 0x81;
const ENTRY_UPCASE: u8 = 0x82;
const ENTRY_LABEL: u8 = 0x83;
const ENTRY_END: u8 = 0x00;

const FLAG_SECOND_TABLE: u16 = 0x1;
const FLAG_DIRTY: u16 = 0x2;
const FLAG_MEDIA_FAILURE: u16 = 0x4;

/// A boot sector that passed every check.
#[derive(Debug)]
struct Volume {
    sector_bytes: u32,
    cluster_bytes: u64,
    sectors: u64,
    /// Absolute byte of the table in use.
    table: u64,
    /// The other one, where there are two.
    other_table: Option<u64>,
    tables: u8,
    /// Absolute byte of cluster 2.
    heap: u64,
    clusters: u32,
    root: u32,
    serial: u32,
    revision: u16,
    flags: u16,
}

impl Volume {
    fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        let sector = read(dev, "boot sector", 0, 512)?;
        let wrong = |at: u64, what: &str, expected: &str, found: u64| {
            Err(Error::corrupt(format!("boot sector, {what}"), at, expected, found))
        };
        let shift = u8(&sector, 108);
        if !(9..=12).contains(&shift) {
            return wrong(108, "shift of the sector size", "9 to 12", shift.into());
        }
        let sector_bytes = 1u32.checked_shl(shift.into()).unwrap_or(512);
        let cluster_shift = u8(&sector, 109);
        // Clusters of 32 MiB are the largest.
        if cluster_shift > 25u8.saturating_sub(shift) {
            return wrong(109, "shift of the cluster size", "32 MiB at most", cluster_shift.into());
        }
        let cluster_bytes = u64::from(sector_bytes).checked_shl(cluster_shift.into()).unwrap_or(0);
        Self::check_sum(dev, sector_bytes)?;
        let bytes = |sectors: u64| sectors.saturating_mul(sector_bytes.into());
        let sectors = le64(&sector, 72);
        let end = bytes(sectors);
        if end > dev.size() {
            return wrong(72, "count of sectors", &(dev.size() >> shift).to_string(), sectors);
        }
        let (table_sector, table_sectors) = (u64::from(le32(&sector, 80)), u64::from(le32(&sector, 84)));
        let (heap_sector, clusters) = (u64::from(le32(&sector, 88)), le32(&sector, 92));
        let tables = u8(&sector, 110);
        let needed = u64::from(clusters).saturating_add(2).saturating_mul(4);
        let tables_end = table_sectors.saturating_mul(tables.into()).saturating_add(table_sector);
        if !matches!(tables, 1 | 2)
            || bytes(table_sectors) < needed
            || table_sector < 24
            || tables_end > heap_sector
        {
            return wrong(80, "place of the tables", "between boot regions and clusters", table_sector);
        }
        let heap_end = u64::from(clusters).saturating_mul(cluster_bytes).saturating_add(bytes(heap_sector));
        if clusters == 0 || clusters > 0xffff_fff5 || heap_end > end {
            return wrong(92, "count of clusters", "what fits into the volume", clusters.into());
        }
        let flags = le16(&sector, 106);
        let second = tables == 2 && flags & FLAG_SECOND_TABLE != 0;
        let second_table = bytes(table_sector).saturating_add(bytes(table_sectors));
        Ok(Self {
            sector_bytes,
            cluster_bytes,
            sectors,
            table: if second { second_table } else { bytes(table_sector) },
            other_table: (tables == 2).then_some(if second { bytes(table_sector) } else { second_table }),
            tables,
            heap: bytes(heap_sector),
            clusters,
            root: le32(&sector, 96),
            serial: le32(&sector, 100),
            revision: le16(&sector, 104),
            flags,
        })
    }

    /// Boot checksum (3.4): over eleven sectors but for the fields that change, repeated through the twelfth.
    fn check_sum(dev: &dyn ReadAt, sector_bytes: u32) -> Result<(), Error> {
        let sector_len = size(sector_bytes.into());
        let covered = sector_len.saturating_mul(CHECKED_SECTORS);
        let region = read(dev, "boot region", 0, covered.saturating_add(sector_len))?;
        let sum = slice(&region, 0, covered).iter().enumerate().fold(0u32, |sum, (at, byte)| match at {
            106 | 107 | 112 => sum,
            _ => sum.rotate_right(1).wrapping_add(u32::from(*byte)),
        });
        let found = le32(&region, covered);
        if sum != found {
            let (expected, found) = (format!("{sum:#x}"), format!("{found:#x}"));
            return Err(Error::corrupt("boot region, checksum", wide(covered), expected, found));
        }
        Ok(())
    }

    /// Absolute byte of a cluster of the volume.
    fn cluster(&self, number: u32) -> Result<u64, Error> {
        match number.checked_sub(2) {
            Some(index) if index < self.clusters => {
                Ok(u64::from(index).saturating_mul(self.cluster_bytes).saturating_add(self.heap))
            }
            _ => Err(Error::corrupt(
                "cluster number",
                0,
                format!("2 to {}", self.clusters.saturating_add(1)),
                number,
            )),
        }
    }

    /// The cluster after `number` in its chain.
    fn next(&self, dev: &dyn ReadAt, number: u32) -> Result<Option<u32>, Error> {
        let at = self.table.saturating_add(u64::from(number).saturating_mul(4));
        let entry = le32(&read(dev, "file allocation table", at, 4)?, 0);
        if entry == u32::MAX { Ok(None) } else { self.cluster(entry).map(|_| Some(entry)) }
    }

    fn root(&self, dev: &dyn ReadAt) -> Result<Root, Error> {
        let mut root = Root { bitmaps: Vec::new(), upcase: None, label: None };
        let (mut cluster, mut left) = (Some(self.root), MAX_ROOT_BYTES.div_ceil(self.cluster_bytes));
        while let Some(number) = cluster {
            let Some(less) = left.checked_sub(1) else { break };
            left = less;
            let start = self.cluster(number)?;
            // Nothing is wanted behind the first 16 MiB, however large a cluster is.
            let len = size(self.cluster_bytes.min(MAX_ROOT_BYTES));
            let bytes = read(dev, "root directory", start, len)?;
            for (entry, at) in bytes.as_chunks::<32>().0.iter().zip((start..).step_by(32)) {
                match u8(entry, 0) {
                    ENTRY_END => return Ok(root),
                    ENTRY_BITMAP => root.bitmaps.push(Bitmap {
                        is_second: u8(entry, 1) & 1 != 0,
                        first: le32(entry, 20),
                        bytes: le64(entry, 24),
                        entry: at,
                    }),
                    ENTRY_UPCASE => root.upcase = Some((le64(entry, 24), le32(entry, 20))),
                    ENTRY_LABEL => {
                        let units = slice(entry, 2, usize::from(u8(entry, 1).min(11)).saturating_mul(2));
                        let units: Vec<u16> =
                            units.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
                        root.label = Some(String::from_utf16_lossy(&units)).filter(|label| !label.is_empty());
                    }
                    _ => {}
                }
            }
            cluster = self.next(dev, number)?;
        }
        Ok(root)
    }
}

/// What the root directory says about the volume.
#[derive(Debug)]
struct Root {
    bitmaps: Vec<Bitmap>,
    /// Bytes and first cluster of the table of upper-case letters.
    upcase: Option<(u64, u32)>,
    label: Option<String>,
}

impl Root {
    /// What the file system keeps in clusters for itself: bytes, what it is, first cluster.
    fn tables(&self) -> impl Iterator<Item = (u64, &'static str, u32)> {
        let bitmaps = self.bitmaps.iter().map(|bitmap| (bitmap.bytes, "allocation bitmap", bitmap.first));
        bitmaps.chain(self.upcase.map(|(bytes, first)| (bytes, "table of upper-case letters", first)))
    }
}

#[derive(Debug)]
struct Bitmap {
    is_second: bool,
    first: u32,
    bytes: u64,
    /// Absolute byte of its entry.
    entry: u64,
}

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let volume = Volume::read(dev)?;
    let mut probe = Probe::new(Kind::ExFat, volume.sectors.saturating_mul(volume.sector_bytes.into()));
    probe.label = volume.root(dev)?.label;
    probe.uuid = Some(format!("{:04X}-{:04X}", volume.serial >> 16, volume.serial & 0xffff));
    probe.version = Some(format!("{}.{:02}", volume.revision >> 8, volume.revision & 0xff));
    probe.sector_size = Some(volume.sector_bytes);
    probe.block_size = u32::try_from(volume.cluster_bytes).ok();
    probe.facts = vec![fact("clusters", volume.clusters), fact("tables", volume.tables)];
    if volume.flags & FLAG_MEDIA_FAILURE != 0 {
        probe.state = State::Unclean(Reason::HasErrors);
    } else if volume.flags & FLAG_DIRTY != 0 {
        probe.state = State::Unclean(Reason::NotUnmounted);
    }
    Ok(probe)
}

/// A bitmap's content, read piece by piece along its chain of clusters.
struct Pieces<'a> {
    dev: &'a dyn ReadAt,
    volume: &'a Volume,
    cluster: Option<u32>,
    /// Position within the cluster.
    within: u64,
}

impl Pieces<'_> {
    fn take(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut left = len;
        while left > 0 {
            let Some(cluster) = self.cluster else {
                return Err(Error::corrupt(
                    "allocation bitmap",
                    0,
                    format!("{left} bytes more"),
                    "the end of its chain",
                ));
            };
            let count = left.min(self.volume.cluster_bytes.saturating_sub(self.within));
            let at = self.volume.cluster(cluster)?.saturating_add(self.within);
            out.extend(read(self.dev, "allocation bitmap", at, size(count))?);
            left = left.saturating_sub(count);
            self.within = self.within.saturating_add(count);
            if self.within == self.volume.cluster_bytes {
                self.within = 0;
                self.cluster = self.volume.next(self.dev, cluster)?;
            }
        }
        Ok(out)
    }
}

/// Bitmaps of a volume, ready to be read.
fn bitmaps<'a>(dev: &'a dyn ReadAt, volume: &'a Volume, root: &Root) -> Result<Vec<Pieces<'a>>, Error> {
    let needed = u64::from(volume.clusters).div_ceil(8);
    let has_all =
        (0..volume.tables).all(|table| root.bitmaps.iter().any(|bitmap| bitmap.is_second == (table == 1)));
    if !has_all || root.bitmaps.len() != usize::from(volume.tables) {
        let found = root.bitmaps.len();
        return Err(Error::corrupt("root directory, bitmaps", volume.heap, volume.tables, found));
    }
    let mut sources = Vec::new();
    for bitmap in &root.bitmaps {
        if bitmap.bytes < needed {
            return Err(Error::corrupt("allocation bitmap, bytes", bitmap.entry, needed, bitmap.bytes));
        }
        volume.cluster(bitmap.first)?;
        sources.push(Pieces { dev, volume, cluster: Some(bitmap.first), within: 0 });
    }
    Ok(sources)
}

/// Passes what no bitmap marks, in absolute bytes.
fn free(
    dev: &dyn ReadAt,
    volume: &Volume,
    root: &Root,
    goes_on: &dyn Fn() -> bool,
    each: &mut dyn FnMut(Range<u64>),
) -> Result<(), Error> {
    let mut sources = bitmaps(dev, volume, root)?;
    let needed = u64::from(volume.clusters).div_ceil(8);
    let mut pos = 0u64;
    while pos < needed {
        if !goes_on() {
            return Err(Error::Stopped);
        }
        let len = STEP_BYTES.min(needed.saturating_sub(pos));
        let mut used = vec![0u8; size(len)];
        // What any of two bitmaps marks is used.
        for source in &mut sources {
            let bytes = source.take(len)?;
            used.iter_mut().zip(&bytes).for_each(|(used, byte)| *used |= byte);
        }
        let first = pos.saturating_mul(8);
        let left = u64::from(volume.clusters).saturating_sub(first);
        for run in zeros(&used, left) {
            let at = |bit: u64| {
                first.saturating_add(bit).saturating_mul(volume.cluster_bytes).saturating_add(volume.heap)
            };
            each(at(run.start)..at(run.end));
        }
        pos = pos.saturating_add(len);
    }
    Ok(())
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let volume = Volume::read(dev)?;
    let root = volume.root(dev)?;
    let mut draft = Draft::new(dev.size(), volume.sector_bytes, options);
    free(dev, &volume, &root, options.goes_on, &mut |range| draft.runs.free(range))?;
    draft.free_tail(probe.size);
    Ok(draft)
}

impl Layout for Volume {
    fn clusters(&self) -> u32 {
        self.clusters
    }

    fn cluster_bytes(&self) -> u64 {
        self.cluster_bytes
    }

    fn start(&self, cluster: u32) -> u64 {
        let index = u64::from(cluster.saturating_sub(2));
        index.saturating_mul(self.cluster_bytes).saturating_add(self.heap)
    }

    fn tables(&self) -> Vec<u64> {
        [Some(self.table), self.other_table].into_iter().flatten().collect()
    }

    fn entry_bits(&self) -> u64 {
        32
    }

    fn table_entry(&self, bytes: &[u8], index: u64) -> u32 {
        le32(bytes, size(index.saturating_mul(4)))
    }

    fn root(&self) -> Place {
        Place::Clusters(Content { first: self.root, clusters: None, is_contiguous: false })
    }

    fn entries(&self, directory: &[u8], found: &mut dyn FnMut(Entry)) {
        directory::entries(directory, self.cluster_bytes, found);
    }
}

/// Who owns what of `ranges`. A volume that was not unmounted has names, but nothing of it is said to be free.
pub(crate) fn owners(
    dev: &dyn ReadAt,
    probe: &Probe,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let volume = Volume::read(dev)?;
    let mut claims = Claims::new(ranges);
    let names = claim(dev, &volume, &mut claims, goes_on)?;
    let first_table = volume.other_table.map_or(volume.table, |other| other.min(volume.table));
    claims.metadata(0..first_table, || "boot regions".to_owned());
    claims.metadata(first_table..volume.heap, || "file allocation tables".to_owned());
    // What names cannot be found for is unknown; where the root directory or a bitmap cannot be read, so is what is free.
    let is_clean = probe.state == State::Clean;
    let known = volume.root(dev).and_then(|root| {
        for (bytes, what, first) in root.tables() {
            let clusters = Some(bytes.div_ceil(volume.cluster_bytes));
            let content = Content { first, clusters, is_contiguous: false };
            clusters::each_piece(dev, &volume, content, goes_on, &mut |range| {
                claims.metadata(range, || what.to_owned());
            })?;
        }
        let each = &mut |range| claims.free(range);
        if is_clean { free(dev, &volume, &root, goes_on, each) } else { Ok(()) }
    });
    if let Err(Error::Stopped) = known {
        return Err(Error::Stopped);
    }
    if is_clean {
        let clusters = u64::from(volume.clusters).saturating_mul(volume.cluster_bytes);
        claims.free(volume.heap.saturating_add(clusters)..dev.size());
    }
    Ok(claims.finish(&names, "file"))
}

/// A directory by its path.
pub(crate) fn list(
    dev: &dyn ReadAt,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Listed>>, Error> {
    clusters::list(dev, &Volume::read(dev)?, path, goes_on)
}
