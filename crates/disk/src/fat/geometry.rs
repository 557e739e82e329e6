//! Where the parts of a FAT volume lie. The kind follows from the count of clusters alone, as the specification demands of
//! readers; writers keep away from the borders, since old readers count differently by a few.

use crate::Error;

/// Width of the table's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FatKind {
    /// 16 bits; read and written.
    Fat16,
    /// 32 bits, of which 28 count.
    Fat32,
}

/// Fewest clusters of a FAT16 and of a FAT32 volume.
const MIN_FAT16: u64 = 4085;
const MIN_FAT32: u64 = 65525;
/// Distance that the specification advises to keep from both borders.
const SAFETY: u64 = 16;
/// Most clusters of a FAT32 volume: numbers from 0x0ffffff7 mean something else.
const MAX_FAT32: u64 = 0x0fff_fff5;
/// Clusters above this size waste more on small files than they save on the table (Microsoft's table for volumes up to 8 GiB).
const PREFERRED_CLUSTER_BYTES: u64 = 4096;
/// Largest cluster every reader knows.
const MAX_CLUSTER_BYTES: u64 = 32768;
/// Entries of the root directory of FAT16.
const ROOT_ENTRIES: u64 = 512;
const FAT_COUNT: u64 = 2;

/// Sizes and places within a volume, in sectors unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Kind of table.
    pub kind: FatKind,
    /// Sector size in bytes.
    pub sector_bytes: u64,
    /// Sectors of the volume.
    pub sectors: u64,
    /// Sectors before the first table.
    pub reserved: u64,
    /// Sectors of one table.
    pub fat_sectors: u64,
    /// Copies of the table.
    pub fat_count: u64,
    /// Entries of the root directory; 0 on FAT32, where it is a chain of clusters.
    pub root_entries: u64,
    /// Sectors of a cluster.
    pub cluster_sectors: u64,
    /// Clusters of the volume; numbers run from 2.
    pub clusters: u64,
}

impl Geometry {
    /// Chooses a geometry for a volume of `size_bytes`: FAT32 whenever it can have enough clusters, with clusters of up to 4 KiB
    /// (more only when there would be too many), else FAT16.
    pub fn choose(size_bytes: u64, sector_bytes: u32) -> Result<Self, Error> {
        if sector_bytes != 512 && sector_bytes != 4096 {
            return Err(Error::Unsupported { what: "sector size", value: format!("{sector_bytes} bytes") });
        }
        let sector = u64::from(sector_bytes);
        let mut sizes: Vec<u64> = Vec::new();
        let mut size = PREFERRED_CLUSTER_BYTES;
        while size >= sector {
            sizes.push(size); // downwards: the largest that still gives FAT32
            size = size.checked_div(2).unwrap_or(0);
        }
        let larger = [8192, 16384, MAX_CLUSTER_BYTES];
        let upwards = sizes.iter().rev().chain(&larger).map(|bytes| (FatKind::Fat16, *bytes));
        sizes
            .iter()
            .chain(&larger)
            .map(|bytes| (FatKind::Fat32, *bytes))
            .chain(upwards)
            .find_map(|(kind, cluster_bytes)| Self::with(kind, size_bytes, sector, cluster_bytes))
            .ok_or_else(|| Error::Unsupported {
                what: "FAT volume size",
                value: format!("{size_bytes} bytes in sectors of {sector}"),
            })
    }

    /// `None` when the count of clusters would not fit the kind.
    fn with(kind: FatKind, size_bytes: u64, sector: u64, cluster_bytes: u64) -> Option<Self> {
        let sectors = size_bytes.checked_div(sector)?.min(u64::from(u32::MAX));
        let cluster_sectors = cluster_bytes.checked_div(sector)?;
        let (reserved, root_entries, entry_bytes) = match kind {
            FatKind::Fat16 => (1, ROOT_ENTRIES, 2),
            FatKind::Fat32 => (32, 0, 4),
        };
        let root_sectors = root_entries.checked_mul(32)?.div_ceil(sector);
        // Counted as if the tables took no room: a few entries too many do no harm.
        let most = sectors.checked_sub(reserved)?.checked_sub(root_sectors)?.checked_div(cluster_sectors)?;
        let fat_sectors = most.checked_add(2)?.checked_mul(entry_bytes)?.div_ceil(sector);
        let before = fat_sectors.checked_mul(FAT_COUNT)?.checked_add(root_sectors)?;
        // Data starts at a multiple of the cluster size, as flash and 4K disks like it.
        let start = reserved.checked_add(before)?.checked_next_multiple_of(cluster_sectors)?;
        let clusters = sectors.checked_sub(start)?.checked_div(cluster_sectors)?;
        let (least, greatest) = match kind {
            FatKind::Fat16 => (MIN_FAT16.checked_add(SAFETY)?, MIN_FAT32.checked_sub(SAFETY)?),
            FatKind::Fat32 => (MIN_FAT32.checked_add(SAFETY)?, MAX_FAT32),
        };
        (least..=greatest).contains(&clusters).then_some(Self {
            kind,
            sector_bytes: sector,
            sectors,
            reserved: start.checked_sub(before)?,
            fat_sectors,
            fat_count: FAT_COUNT,
            root_entries,
            cluster_sectors,
            clusters,
        })
    }

    /// Bytes of a cluster.
    pub fn cluster_bytes(&self) -> u64 {
        self.cluster_sectors.saturating_mul(self.sector_bytes)
    }

    /// Byte offset of the copy `index` of the table.
    pub fn fat_offset(&self, index: u64) -> u64 {
        self.reserved.saturating_add(self.fat_sectors.saturating_mul(index)).saturating_mul(self.sector_bytes)
    }

    /// Byte offset of the root directory of FAT16.
    pub fn root_offset(&self) -> u64 {
        self.fat_offset(self.fat_count)
    }

    /// Bytes of the root directory of FAT16.
    pub fn root_bytes(&self) -> u64 {
        self.root_entries.saturating_mul(32)
    }

    /// Byte offset of cluster 2.
    pub fn data_offset(&self) -> u64 {
        let root_sectors = self.root_bytes().div_ceil(self.sector_bytes.max(1));
        self.root_offset().saturating_add(root_sectors.saturating_mul(self.sector_bytes))
    }

    /// Byte offset of a cluster.
    pub fn cluster_offset(&self, cluster: u64) -> u64 {
        self.data_offset().saturating_add(cluster.saturating_sub(2).saturating_mul(self.cluster_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn fat32_wherever_it_can_be() {
        for (size, sector, kind, cluster) in [
            (512 * MIB, 512, FatKind::Fat32, 4096),
            (260 * MIB, 512, FatKind::Fat32, 4096),
            (100 * MIB, 512, FatKind::Fat32, 1024),
            (64 * MIB, 512, FatKind::Fat32, 512),
            (34 * MIB, 512, FatKind::Fat32, 512),
            (32 * MIB, 512, FatKind::Fat16, 512 * 2),
            (8 * MIB, 512, FatKind::Fat16, 512),
            (512 * MIB, 4096, FatKind::Fat32, 4096),
            (100 * MIB, 4096, FatKind::Fat16, 4096),
        ] {
            let g = Geometry::choose(size, sector).unwrap();
            assert_eq!(g.kind, kind, "{size} {sector} {g:?}");
            assert!(g.cluster_bytes() <= cluster, "{size} {sector} {g:?}");
            assert_eq!(g.data_offset() % g.cluster_bytes(), 0, "{g:?}");
            assert!(g.cluster_offset(g.clusters + 2) <= size);
            let entry = if kind == FatKind::Fat32 { 4 } else { 2 };
            assert!(g.fat_sectors * g.sector_bytes >= (g.clusters + 2) * entry);
        }
    }

    #[test]
    fn says_what_is_too_small() {
        assert!(Geometry::choose(MIB, 512).is_err());
        assert!(Geometry::choose(0, 512).is_err());
        assert!(Geometry::choose(100 * MIB, 1024).is_err());
    }
}
