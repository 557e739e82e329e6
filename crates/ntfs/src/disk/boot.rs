//! The boot sector.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First 0x54 bytes of the boot sector; code and the mark follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct BootDisk {
    pub(crate) jump: [u8; 3],                 // 0x00
    pub(crate) oem_name: [u8; 8],             // 0x03  "NTFS    "
    pub(crate) sector_bytes: U16,             // 0x0b
    pub(crate) cluster_sectors: u8,           // 0x0d  above 0x80: 2^(256 - value)
    pub(crate) zeros: [u8; 7],                // 0x0e
    pub(crate) media: u8,                     // 0x15  0xf8
    pub(crate) zeros2: [u8; 2],               // 0x16
    pub(crate) track_sectors: U16,            // 0x18  for BIOS loaders
    pub(crate) heads: U16,                    // 0x1a
    pub(crate) hidden_sectors: U32,           // 0x1c  sectors before the volume
    pub(crate) zeros3: [u8; 4],               // 0x20
    pub(crate) drive: [u8; 4],                // 0x24  80 00 80 00
    pub(crate) sectors: U64,                  // 0x28  those of the partition but one
    pub(crate) mft_cluster: U64,              // 0x30
    pub(crate) mirror_cluster: U64,           // 0x38
    pub(crate) record_clusters: [u8; 4],      // 0x40  above 0x80: 2^(256 - value) bytes
    pub(crate) index_block_clusters: [u8; 4], // 0x44  the same
    pub(crate) serial: U64,                   // 0x48
    pub(crate) checksum: U32,                 // 0x50  0
} // 0x54
pub(crate) const BOOT_HEAD_BYTES: usize = 0x54;
const _: () = assert!(size_of::<BootDisk>() == BOOT_HEAD_BYTES);
const _: () = assert!(std::mem::offset_of!(BootDisk, sectors) == 0x28);

pub(crate) const BOOT_MARK: [u8; 2] = [0x55, 0xaa];
/// Where the mark stands, whatever the sector size.
pub(crate) const BOOT_MARK_POS: usize = 510;
/// Bytes of $Boot.
pub(crate) const BOOT_FILE_BYTES: u64 = 8192;

/// `bytes`, a power of two, as the fields with counts of clusters have it.
pub(crate) fn power_or_count(bytes: u32, unit: u32) -> u8 {
    match bytes.checked_div(unit) {
        Some(count @ 1..=0x7f) => u8::try_from(count).unwrap_or(1),
        _ => u8::try_from(256u32.saturating_sub(bytes.trailing_zeros())).unwrap_or(0),
    }
}
