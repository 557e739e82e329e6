//! File records: header, flags, reserved numbers, and the update sequence that guards every 512 bytes of them.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Head of a file record.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct RecordDisk {
    pub(crate) magic: [u8; 4],       // 0x00  "FILE"
    pub(crate) update_offset: U16,   // 0x04  of the update sequence: 0x30
    pub(crate) update_count: U16,    // 0x06  1 and one for each 512 bytes
    pub(crate) log_sequence: U64,    // 0x08  0: never logged
    pub(crate) sequence: U16,        // 0x10  part of every reference to the record
    pub(crate) link_count: U16,      // 0x12  every $FILE_NAME, short names included
    pub(crate) first_attribute: U16, // 0x14
    pub(crate) flags: U16,           // 0x16
    pub(crate) used: U32,            // 0x18  bytes, with an end mark of 8
    pub(crate) allocated: U32,       // 0x1c  bytes of the record
    pub(crate) base_record: U64,     // 0x20  reference to the base; 0 in a base
    pub(crate) next_instance: U16,   // 0x28  above every instance number in use
    pub(crate) reserved: U16,        // 0x2a
    pub(crate) record_number: U32,   // 0x2c
} // 0x30  update sequence
const _: () = assert!(size_of::<RecordDisk>() == 0x30);

pub(crate) const RECORD_MAGIC: [u8; 4] = *b"FILE";
pub(crate) const RECORD_IN_USE: u16 = 0x1;
pub(crate) const RECORD_DIRECTORY: u16 = 0x2;
/// Lies in $Extend.
pub(crate) const RECORD_EXTEND: u16 = 0x4;
/// Has an index other than that of names.
pub(crate) const RECORD_VIEW_INDEX: u16 = 0x8;

/// Behind the last attribute.
pub(crate) const END_MARK: u32 = 0xffff_ffff;
/// The mark and the zeros that count as used.
pub(crate) const END_MARK_BYTES: usize = 8;

/// Bytes that one number of the update sequence guards, whatever the sector size.
pub(crate) const GUARDED_BYTES: usize = 512;

/// Numbers of the first records.
pub(crate) mod numbers {
    pub(crate) const MFT: u32 = 0;
    pub(crate) const MFT_MIRROR: u32 = 1;
    pub(crate) const LOG_FILE: u32 = 2;
    pub(crate) const VOLUME: u32 = 3;
    pub(crate) const ATTRIBUTE_DEFINITIONS: u32 = 4;
    pub(crate) const ROOT: u32 = 5;
    pub(crate) const BITMAP: u32 = 6;
    pub(crate) const BOOT: u32 = 7;
    pub(crate) const BAD_CLUSTERS: u32 = 8;
    pub(crate) const SECURE: u32 = 9;
    pub(crate) const UPCASE: u32 = 10;
    pub(crate) const EXTEND: u32 = 11;
    /// 12 to 15: in use without a name.
    pub(crate) const FIRST_RESERVED: u32 = 12;
    /// 16 to 23: free, Windows keeps them for its own extension records.
    pub(crate) const FIRST_FREE: u32 = 16;
    pub(crate) const QUOTA: u32 = 24;
    pub(crate) const OBJECT_ID: u32 = 25;
    pub(crate) const REPARSE: u32 = 26;
    /// One past the last record this crate gives a system file.
    pub(crate) const AFTER_SYSTEM: u32 = 27;
    /// Records below are left to the system: libntfs puts files behind 63, too.
    pub(crate) const FIRST_USER: u32 = 64;
}

/// Number and sequence number in one.
pub(crate) fn reference(number: u32, sequence: u16) -> u64 {
    u64::from(number) | (u64::from(sequence) << 48)
}

/// Sequence number of a record of a fresh volume: its number for system files, 1 for the MFT itself and all others.
pub(crate) fn fresh_sequence(number: u32) -> u16 {
    match number {
        1..numbers::QUOTA => u16::try_from(number).unwrap_or(1),
        _ => 1,
    }
}

/// Puts the update sequence into `block`, whose header says at `update_offset` where it goes: the last two bytes of each
/// 512 are kept there and give way to the number.
pub(crate) fn protect(block: &mut [u8], update_offset: usize) {
    const NUMBER: [u8; 2] = 1u16.to_le_bytes();
    let mut kept = NUMBER.to_vec();
    for part in block.chunks_exact_mut(GUARDED_BYTES) {
        if let Some(last) = part.last_chunk_mut::<2>() {
            kept.extend_from_slice(last);
            *last = NUMBER;
        }
    }
    let place = block.iter_mut().skip(update_offset);
    place.zip(&kept).for_each(|(to, from)| *to = *from);
}
