//! FAT12, FAT16 and FAT32 (Microsoft, "FAT: General Overview of On-Disk Format"): the file allocation tables are the map.

mod directory;

use std::ops::Range;

use gravure_disk::Found;
use gravure_io::ReadAt;

use crate::clusters::{Content, Entry, Layout, Place, claim};
use crate::field::{le16, le32, read, size, u8};
use crate::map::Draft;
use crate::owners::Claims;
use crate::probe::fact;
use crate::{Error, Kind, Options, Owned, Probe, Reason, State};

/// Bytes of a table read at a time; a multiple of 3, so that no entry of 12 bits is cut.
const STEP_BYTES: u64 = 3 << 18;

/// A boot sector that passed every check.
#[derive(Debug)]
struct Volume {
    kind: Kind,
    sector_bytes: u32,
    cluster_sectors: u8,
    reserved_sectors: u16,
    tables: u8,
    table_sectors: u32,
    /// The one table that counts, where they are not alike.
    only_table: Option<u8>,
    /// Sectors of the root directory, where it is not in clusters.
    root_sectors: u64,
    /// Its first cluster, where it is.
    root_cluster: u32,
    /// First sector of cluster 2.
    data_start: u64,
    clusters: u32,
    sectors: u32,
    /// Mark of the boot sector: not unmounted, or errors of the disk were seen.
    marks: u8,
}

impl Volume {
    fn parse(sector: &[u8], device_bytes: u64) -> Result<Self, Error> {
        let wrong = |at: u64, what: &str, expected: &str, found: u64| {
            Err(Error::corrupt(format!("boot sector, {what}"), at, expected, found))
        };
        let sector_bytes = u32::from(le16(sector, 11));
        if !matches!(sector_bytes, 512 | 1024 | 2048 | 4096) {
            return wrong(11, "sector size", "512, 1024, 2048 or 4096", sector_bytes.into());
        }
        let cluster_sectors = u8(sector, 13);
        if !cluster_sectors.is_power_of_two() {
            return wrong(13, "sectors per cluster", "a power of two", cluster_sectors.into());
        }
        let (reserved_sectors, tables) = (le16(sector, 14), u8(sector, 16));
        if reserved_sectors == 0 || tables == 0 {
            return wrong(14, "reserved sectors and tables", "one at least", tables.into());
        }
        let (small, large) = (u32::from(le16(sector, 22)), le32(sector, 36));
        let is_fat32 = small == 0;
        let table_sectors = if is_fat32 { large } else { small };
        let sectors = match u32::from(le16(sector, 19)) {
            0 => le32(sector, 32),
            sectors => sectors,
        };
        let fits = u64::from(sectors).saturating_mul(sector_bytes.into()) <= device_bytes;
        let root_sectors = u64::from(le16(sector, 17)).saturating_mul(32).div_ceil(sector_bytes.into());
        let data_start = u64::from(tables)
            .saturating_mul(table_sectors.into())
            .saturating_add(reserved_sectors.into())
            .saturating_add(root_sectors);
        let Some(data) = u64::from(sectors).checked_sub(data_start).filter(|_| fits && table_sectors > 0)
        else {
            let most = device_bytes.checked_div(sector_bytes.into()).unwrap_or(0);
            return wrong(32, "count of sectors", &format!("{data_start} to {most}"), sectors.into());
        };
        let clusters = data.checked_div(cluster_sectors.into()).unwrap_or(0);
        let kind = match clusters {
            _ if is_fat32 => Kind::Fat32,
            0..4085 => Kind::Fat12,
            _ => Kind::Fat16,
        };
        let bits = match kind {
            Kind::Fat12 => 12,
            Kind::Fat16 => 16,
            _ => 32u64,
        };
        let needed = clusters.saturating_add(2).saturating_mul(bits).div_ceil(8);
        let table_bytes = u64::from(table_sectors).saturating_mul(sector_bytes.into());
        // Numbers of clusters have 28 bits, the highest of them with a meaning of their own.
        if needed > table_bytes || clusters >= 0x0fff_fff5 || (kind == Kind::Fat16 && clusters >= 0xfff5) {
            return wrong(22, "size of the tables", &format!("{needed} bytes at least"), table_bytes);
        }
        if is_fat32 && le16(sector, 42) != 0 {
            return Err(Error::unsupported("version of FAT32", le16(sector, 42)));
        }
        // Low four bits: the table that counts, when the highest of eight says that they are not kept alike.
        let flags = if is_fat32 { le16(sector, 40) } else { 0 };
        let only_table = (flags & 0x80 != 0).then_some(u8::try_from(flags & 0xf).unwrap_or(0));
        if only_table.is_some_and(|table| table >= tables) {
            return wrong(40, "table in use", &format!("below {tables}"), flags.into());
        }
        Ok(Self {
            kind,
            sector_bytes,
            cluster_sectors,
            reserved_sectors,
            tables,
            table_sectors,
            only_table,
            root_sectors,
            root_cluster: if is_fat32 { le32(sector, 44) } else { 0 },
            data_start,
            clusters: u32::try_from(clusters).unwrap_or(u32::MAX),
            sectors,
            marks: u8(sector, if is_fat32 { 0x41 } else { 0x25 }),
        })
    }

    fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        Self::parse(&read(dev, "boot sector", 0, 512)?, dev.size())
    }

    fn bytes(&self, sectors: u64) -> u64 {
        sectors.saturating_mul(self.sector_bytes.into())
    }

    fn cluster_bytes(&self) -> u64 {
        self.bytes(self.cluster_sectors.into())
    }

    /// Absolute byte of a cluster.
    fn cluster(&self, number: u32) -> u64 {
        let index = u64::from(number.saturating_sub(2));
        self.bytes(self.data_start).saturating_add(index.saturating_mul(self.cluster_bytes()))
    }

    /// Absolute byte of a table.
    fn table(&self, number: u8) -> u64 {
        let before = u64::from(number).saturating_mul(self.table_sectors.into());
        self.bytes(before.saturating_add(self.reserved_sectors.into()))
    }

    /// Tables that say what is used.
    fn tables_in_use(&self) -> Vec<u8> {
        match self.only_table {
            Some(table) => vec![table],
            None => (0..self.tables).collect(),
        }
    }

    fn bits(&self) -> u64 {
        match self.kind {
            Kind::Fat12 => 12,
            Kind::Fat16 => 16,
            _ => 32,
        }
    }

    /// Entry `index` of what `bytes` holds.
    fn entry(&self, bytes: &[u8], index: u64) -> u32 {
        match self.kind {
            Kind::Fat12 => {
                let pair = le16(bytes, size(index.saturating_add(index >> 1)));
                u32::from(if index & 1 == 0 { pair & 0xfff } else { pair >> 4 })
            }
            Kind::Fat16 => le16(bytes, size(index.saturating_mul(2))).into(),
            // The highest four bits belong to nobody.
            _ => le32(bytes, size(index.saturating_mul(4))) & 0x0fff_ffff,
        }
    }

    /// Entries that say of a cluster that it cannot hold anything.
    fn bad(&self) -> u32 {
        match self.kind {
            Kind::Fat12 => 0xff7,
            Kind::Fat16 => 0xfff7,
            _ => 0x0fff_fff7,
        }
    }

    /// Entry 1 has two marks that Windows sets when it has unmounted the volume and seen no errors of the disk.
    fn table_state(&self, dev: &dyn ReadAt) -> Result<(bool, bool), Error> {
        let at = self.table(self.only_table.unwrap_or(0));
        let head = read(dev, "file allocation table", at, 8)?;
        let entry = self.entry(&head, 1);
        Ok(match self.kind {
            Kind::Fat12 => (true, true),
            Kind::Fat16 => (entry & 0x8000 != 0, entry & 0x4000 != 0),
            _ => (entry & 0x0800_0000 != 0, entry & 0x0400_0000 != 0),
        })
    }
}

pub(crate) fn probe(dev: &dyn ReadAt, found: &Found) -> Result<Probe, Error> {
    let volume = Volume::read(dev)?;
    let mut probe = Probe::new(volume.kind, volume.bytes(volume.sectors.into()));
    probe.label.clone_from(&found.label);
    probe.uuid.clone_from(&found.uuid);
    probe.sector_size = Some(volume.sector_bytes);
    probe.block_size = u32::try_from(volume.cluster_bytes()).ok();
    probe.facts = vec![fact("clusters", volume.clusters), fact("tables", volume.tables)];
    let (is_unmounted, saw_no_errors) = volume.table_state(dev)?;
    // Windows marks the table, Linux the boot sector.
    if !saw_no_errors || volume.marks & 2 != 0 {
        probe.state = State::Unclean(Reason::HasErrors);
    } else if !is_unmounted || volume.marks & 1 != 0 {
        probe.state = State::Unclean(Reason::NotUnmounted);
    }
    Ok(probe)
}

/// What the tables say of each cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Free by all of them.
    Free,
    /// Marked bad by all of them: nothing is stored there.
    Bad,
    /// Used by one of them.
    Used,
}

/// Passes what the tables say of each cluster, with its place; whether they differ.
fn uses(
    dev: &dyn ReadAt,
    volume: &Volume,
    goes_on: &dyn Fn() -> bool,
    each: &mut dyn FnMut(Use, Range<u64>),
) -> Result<bool, Error> {
    let tables = volume.tables_in_use();
    let mut differs = false;
    let mut pos = 0u64;
    let end = u64::from(volume.clusters).saturating_add(2);
    while pos < end {
        if !goes_on() {
            return Err(Error::Stopped);
        }
        let count = (STEP_BYTES.saturating_mul(8).checked_div(volume.bits()).unwrap_or(0))
            .min(end.saturating_sub(pos));
        let start = pos.saturating_mul(volume.bits()) >> 3;
        let len = count.saturating_mul(volume.bits()).div_ceil(8);
        let pieces = tables.iter().map(|table| {
            let at = volume.table(*table).saturating_add(start);
            read(dev, "file allocation table", at, size(len))
        });
        let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
        differs |= pieces.windows(2).any(|pair| pair.first() != pair.last());
        for index in 0..count {
            let number = u32::try_from(pos.saturating_add(index)).unwrap_or(u32::MAX);
            let is = |wanted: u32| pieces.iter().all(|piece| volume.entry(piece, index) == wanted);
            if number < 2 {
                continue;
            }
            let start = volume.cluster(number);
            let what = match (is(0), is(volume.bad())) {
                (true, _) => Use::Free,
                (_, true) => Use::Bad,
                _ => Use::Used,
            };
            each(what, start..start.saturating_add(volume.cluster_bytes()));
        }
        pos = pos.saturating_add(count);
    }
    Ok(differs)
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let volume = Volume::read(dev)?;
    let mut draft = Draft::new(dev.size(), volume.sector_bytes, options);
    let mut bad = 0u64;
    let differs = uses(dev, &volume, options.goes_on, &mut |what, range| {
        bad = bad.saturating_add((what == Use::Bad).into());
        if what != Use::Used {
            draft.runs.free(range);
        }
    })?;
    if differs {
        draft.notes.push("the file allocation tables differ; what one of them uses is used".to_owned());
    }
    if bad > 0 {
        draft.notes.push(format!("{bad} clusters are marked bad and not kept"));
    }
    draft.free_tail(probe.size);
    Ok(draft)
}

impl Layout for Volume {
    fn clusters(&self) -> u32 {
        self.clusters
    }

    fn cluster_bytes(&self) -> u64 {
        Self::cluster_bytes(self)
    }

    fn start(&self, cluster: u32) -> u64 {
        self.cluster(cluster)
    }

    fn tables(&self) -> Vec<u64> {
        self.tables_in_use().into_iter().map(|table| self.table(table)).collect()
    }

    fn entry_bits(&self) -> u64 {
        self.bits()
    }

    fn table_entry(&self, bytes: &[u8], index: u64) -> u32 {
        self.entry(bytes, index)
    }

    fn root(&self) -> Place {
        if self.kind == Kind::Fat32 {
            return Place::Clusters(Content {
                first: self.root_cluster,
                clusters: None,
                is_contiguous: false,
            });
        }
        Place::Region(
            self.bytes(self.data_start.saturating_sub(self.root_sectors))..self.bytes(self.data_start),
        )
    }

    fn entries(&self, directory: &[u8], found: &mut dyn FnMut(Entry)) {
        directory::entries(directory, self.kind == Kind::Fat32, Self::cluster_bytes(self), found);
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
    claims.metadata(0..volume.table(0), || "boot sectors".to_owned());
    claims.metadata(volume.table(0)..volume.table(volume.tables), || "file allocation tables".to_owned());
    if probe.state == State::Clean {
        let told = uses(dev, &volume, goes_on, &mut |what, range| {
            if what == Use::Free {
                claims.free(range);
            } else if what == Use::Bad {
                claims.metadata(range, || "cluster marked bad".to_owned());
            }
        });
        // Where no table can be read, nobody knows what is free.
        if let Err(Error::Stopped) = told {
            return Err(Error::Stopped);
        }
        let clusters = u64::from(volume.clusters).saturating_mul(Layout::cluster_bytes(&volume));
        claims.free(volume.bytes(volume.data_start).saturating_add(clusters)..dev.size());
    }
    Ok(claims.finish(&names, "file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(sectors: u32, cluster: u8, table_sectors: u32) -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[11..13].copy_from_slice(&512u16.to_le_bytes());
        sector[13] = cluster;
        sector[14..16].copy_from_slice(&32u16.to_le_bytes());
        sector[16] = 2;
        sector[32..36].copy_from_slice(&sectors.to_le_bytes());
        match u16::try_from(table_sectors) {
            Ok(small) if sectors < 4_000_000 => sector[22..24].copy_from_slice(&small.to_le_bytes()),
            _ => sector[36..40].copy_from_slice(&table_sectors.to_le_bytes()),
        }
        sector
    }

    /// The count of clusters alone makes the kind (Microsoft's paper, "FAT Type Determination").
    #[test]
    fn kinds_follow_from_the_count_of_clusters() {
        let kind = |sectors, cluster, table| {
            Volume::parse(&sector(sectors, cluster, table), 1 << 40)
                .map(|volume| (volume.kind, volume.clusters))
        };
        assert_eq!(kind(32 + 26 + 4084, 1, 13).unwrap(), (Kind::Fat12, 4084));
        assert_eq!(kind(32 + 34 + 4085, 1, 17).unwrap(), (Kind::Fat16, 4085));
        assert_eq!(kind(32 + 34 + 4085 * 4 + 3, 4, 17).unwrap(), (Kind::Fat16, 4085));
        let fat32 = kind(5_000_000, 8, 4900).unwrap();
        assert_eq!(fat32, (Kind::Fat32, (5_000_000 - 32 - 9800) / 8));
        // Tables that are too short for the clusters.
        assert!(kind(5_000_000, 8, 4000).is_err());
        assert!(kind(32 + 34 + 4085, 1, 15).is_err());
        assert!(kind(50, 1, 13).is_err());
    }

    #[test]
    fn entries_of_twelve_bits_share_bytes() {
        let mut volume = Volume::parse(&sector(32 + 26 + 4084, 1, 13), 1 << 40).unwrap();
        let bytes = [0x21, 0x43, 0x65, 0x87, 0xa9, 0xcb];
        let entries: Vec<u32> = (0..4).map(|index| volume.entry(&bytes, index)).collect();
        assert_eq!(entries, [0x321, 0x654, 0x987, 0xcba]);
        volume.kind = Kind::Fat32;
        assert_eq!(volume.entry(&[1, 2, 3, 0xf4], 0), 0x0403_0201);
    }
}
