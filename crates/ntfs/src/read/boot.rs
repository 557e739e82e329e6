//! The boot sector: what the volume's numbers are.

use zerocopy::FromBytes;

use super::bytes::at;
use super::fault::Fault;
use crate::disk::{BOOT_HEAD_BYTES, BOOT_MARK, BOOT_MARK_POS, BootDisk};
use crate::rule::Rule;

/// Bytes of the boot sector that mean something, whatever the sector size.
pub(crate) const BOOT_SECTOR_BYTES: usize = 512;
const OEM_NAME: [u8; 8] = *b"NTFS    ";
/// Largest cluster of any Windows.
const MAX_CLUSTER_BYTES: u64 = 2 << 20;
/// Records are 1 or 4 KiB on every volume seen; the field can say more.
const RECORD_BYTES: std::ops::RangeInclusive<u64> = 512..=16_384;
/// Index blocks are 4 KiB, as large as clusters on some old volumes.
const INDEX_BLOCK_BYTES: std::ops::RangeInclusive<u64> = 512..=65_536;

/// A boot sector that passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootSector {
    /// Bytes of a sector.
    pub sector_bytes: u32,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// Sectors, the one of the boot sector's copy not counted.
    pub sectors: u64,
    /// Clusters.
    pub clusters: u64,
    /// Bytes of a file record.
    pub record_bytes: usize,
    /// Bytes of an index block.
    pub index_block_bytes: usize,
    /// First cluster of $MFT.
    pub mft_lcn: u64,
    /// First cluster of $MFTMirr.
    pub mirror_lcn: u64,
    /// Serial number.
    pub serial: u64,
    /// Sectors before the volume, for loaders of BIOS machines.
    pub hidden_sectors: u32,
}

impl BootSector {
    /// Checks `sector`, the first bytes of a volume in a partition of `volume_bytes`.
    pub(crate) fn parse(sector: &[u8], volume_bytes: u64) -> Result<Self, Fault> {
        let Ok((disk, _)) = BootDisk::read_from_prefix(sector) else {
            return Err(Fault::new(Rule::BootMark, 0, format!("{BOOT_HEAD_BYTES} bytes"), sector.len()));
        };
        if disk.oem_name != OEM_NAME {
            return Err(Fault::new(Rule::BootName, 3, "\"NTFS    \"", format!("{:02x?}", disk.oem_name)));
        }
        let mark = sector.get(BOOT_MARK_POS..).and_then(|rest| rest.first_chunk::<2>());
        if mark != Some(&BOOT_MARK) {
            return Err(Fault::new(Rule::BootMark, BOOT_MARK_POS, "55 aa", format!("{mark:02x?}")));
        }
        let sector_bytes = u64::from(disk.sector_bytes.get());
        if !sector_bytes.is_power_of_two() || !(256..=4096).contains(&sector_bytes) {
            return Err(Fault::new(
                Rule::BootSectorSize,
                0x0b,
                "a power of two from 256 to 4096",
                sector_bytes,
            ));
        }
        let count = match disk.cluster_sectors {
            count @ 0..=0x80 => u64::from(count),
            power => 1u64.checked_shl(256u32.saturating_sub(u32::from(power))).unwrap_or(0),
        };
        let cluster_bytes = count.saturating_mul(sector_bytes);
        if !count.is_power_of_two() || cluster_bytes > MAX_CLUSTER_BYTES {
            let expected = format!("a power of two of sectors up to {MAX_CLUSTER_BYTES} bytes");
            return Err(Fault::new(Rule::BootClusterSize, 0x0d, expected, format!("{count} sectors")));
        }
        let sectors = disk.sectors.get();
        let most = volume_bytes.checked_div(sector_bytes).unwrap_or(0);
        if sectors == 0 || sectors > most {
            return Err(Fault::new(Rule::BootSectors, 0x28, format!("1 to {most} sectors"), sectors));
        }
        let clusters = sectors.checked_div(count).unwrap_or(0);
        for (rule, pos, lcn) in [
            (Rule::BootMftPlace, 0x30, disk.mft_cluster.get()),
            (Rule::BootMirrorPlace, 0x38, disk.mirror_cluster.get()),
        ] {
            if lcn == 0 || lcn >= clusters {
                return Err(Fault::new(rule, pos, format!("a cluster below {clusters}"), lcn));
            }
        }
        let record_bytes = block_bytes(disk.record_clusters, cluster_bytes);
        if !record_bytes.is_power_of_two() || !RECORD_BYTES.contains(&record_bytes) {
            return Err(Fault::new(
                Rule::BootRecordSize,
                0x40,
                "a power of two from 512 to 16384",
                record_bytes,
            ));
        }
        let index_block = block_bytes(disk.index_block_clusters, cluster_bytes);
        if !index_block.is_power_of_two() || !INDEX_BLOCK_BYTES.contains(&index_block) {
            return Err(Fault::new(
                Rule::BootIndexSize,
                0x44,
                "a power of two from 512 to 65536",
                index_block,
            ));
        }
        Ok(Self {
            sector_bytes: u32::try_from(sector_bytes).unwrap_or(u32::MAX),
            cluster_bytes,
            sectors,
            clusters,
            record_bytes: at(record_bytes),
            index_block_bytes: at(index_block),
            mft_lcn: disk.mft_cluster.get(),
            mirror_lcn: disk.mirror_cluster.get(),
            serial: disk.serial.get(),
            hidden_sectors: disk.hidden_sectors.get(),
        })
    }

    /// Offset of cluster `lcn`, bytes.
    pub fn offset(&self, lcn: u64) -> u64 {
        lcn.saturating_mul(self.cluster_bytes)
    }

    /// Bytes that one step of an index block's number stands for: clusters, or 512 bytes when clusters are larger than
    /// blocks.
    pub(crate) fn index_vcn_bytes(&self) -> u64 {
        if self.cluster_bytes <= super::bytes::wide(self.index_block_bytes) {
            self.cluster_bytes
        } else {
            512
        }
    }
}

/// A size given as a count of clusters, or above 0x80 as a power of two of bytes.
fn block_bytes(field: [u8; 4], cluster_bytes: u64) -> u64 {
    let [value, rest @ ..] = field;
    if rest != [0; 3] {
        return 0;
    }
    match value {
        0..=0x7f => cluster_bytes.saturating_mul(u64::from(value)),
        power => 1u64.checked_shl(256u32.saturating_sub(u32::from(power))).unwrap_or(0),
    }
}
