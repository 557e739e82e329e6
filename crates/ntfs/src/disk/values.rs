//! Values of attributes.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Four times in ticks of 100 ns since 1601.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct TimesDisk {
    pub(crate) created: U64,  // 0x00
    pub(crate) written: U64,  // 0x08
    pub(crate) changed: U64,  // 0x10  of the record
    pub(crate) accessed: U64, // 0x18
}

/// $STANDARD_INFORMATION of version 3.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct StandardInformationDisk {
    pub(crate) times: TimesDisk,     // 0x00
    pub(crate) attributes: U32,      // 0x20  without the directory bit
    pub(crate) max_versions: U32,    // 0x24
    pub(crate) version: U32,         // 0x28  of directories: [`CASE_SENSITIVE`] or 0
    pub(crate) class_id: U32,        // 0x2c
    pub(crate) owner_id: U32,        // 0x30  quota
    pub(crate) security_id: U32,     // 0x34  in $Secure
    pub(crate) quota_charged: U64,   // 0x38
    pub(crate) update_sequence: U64, // 0x40  in the change journal
}
pub(crate) const STANDARD_INFORMATION_BYTES: usize = 0x48;
/// In a directory without numbers of versions, as all are: its names are told apart by case, also by Windows since 10.0.17093.
pub(crate) const CASE_SENSITIVE: u32 = 1;
const _: () = assert!(size_of::<StandardInformationDisk>() == STANDARD_INFORMATION_BYTES);

/// $FILE_NAME, in records and as key of name indexes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct FileNameDisk {
    pub(crate) parent: U64,      // 0x00  reference
    pub(crate) times: TimesDisk, // 0x08
    pub(crate) allocated: U64,   // 0x28  of the unnamed stream
    pub(crate) size: U64,        // 0x30
    pub(crate) attributes: U32,  // 0x38  with the directory bit
    pub(crate) extra: U32,       // 0x3c  reparse tag, or packed size of extended attributes
    pub(crate) name_len: u8,     // 0x40  units
    pub(crate) namespace: u8,    // 0x41
} // 0x42  name
pub(crate) const FILE_NAME_BYTES: usize = 0x42;
const _: () = assert!(size_of::<FileNameDisk>() == FILE_NAME_BYTES);

/// Which rules a name follows.
pub(crate) mod namespace {
    /// Any units but `/` and zero. Windows finds such names as well.
    pub(crate) const POSIX: u8 = 0;
    /// A long name that has a short one beside it.
    pub(crate) const WIN32: u8 = 1;
    pub(crate) const DOS: u8 = 2;
    /// One name that is both.
    pub(crate) const WIN32_AND_DOS: u8 = 3;
}

/// Attribute bits that only $FILE_NAME and system files have.
pub(crate) const NAME_IS_DIRECTORY: u32 = 0x1000_0000;
pub(crate) const HAS_VIEW_INDEX: u32 = 0x2000_0000;

/// $VOLUME_INFORMATION.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct VolumeInformationDisk {
    pub(crate) reserved: U64, // 0x00
    pub(crate) major: u8,     // 0x08  3
    pub(crate) minor: u8,     // 0x09  1
    pub(crate) flags: U16,    // 0x0a
}
const _: () = assert!(size_of::<VolumeInformationDisk>() == 0x0c);

/// Bytes of $OBJECT_ID.
pub(crate) const OBJECT_ID_BYTES: usize = 16;

/// Head of $REPARSE_POINT.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct ReparseDisk {
    pub(crate) tag: U32,      // 0x00
    pub(crate) len: U16,      // 0x04  bytes that follow
    pub(crate) reserved: U16, // 0x06
}
pub(crate) const REPARSE_HEAD_BYTES: usize = 8;
const _: () = assert!(size_of::<ReparseDisk>() == REPARSE_HEAD_BYTES);

/// Reparse data of a file whose content is compressed behind it ("CompactOS").
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct WofDisk {
    pub(crate) version: U32,          // 0x00  1
    pub(crate) provider: U32,         // 0x04  2: file
    pub(crate) provider_version: U32, // 0x08  1
    pub(crate) algorithm: U32,        // 0x0c
}
pub(crate) const WOF_BYTES: usize = 0x10;
const _: () = assert!(size_of::<WofDisk>() == WOF_BYTES);

/// $EA_INFORMATION.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct EaInformationDisk {
    pub(crate) packed_len: U16,   // 0x00  5 bytes, name and value of each
    pub(crate) needed_count: U16, // 0x02  those with flag 0x80
    pub(crate) len: U32,          // 0x04  bytes of $EA
}
pub(crate) const EA_INFORMATION_BYTES: usize = 8;
const _: () = assert!(size_of::<EaInformationDisk>() == EA_INFORMATION_BYTES);

/// One extended attribute in $EA.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct EaDisk {
    pub(crate) next: U32,      // 0x00  offset of the next from here: a multiple of 4
    pub(crate) flags: u8,      // 0x04
    pub(crate) name_len: u8,   // 0x05  bytes without the zero
    pub(crate) value_len: U16, // 0x06
} // 0x08  name, zero, value
pub(crate) const EA_HEAD_BYTES: usize = 8;
const _: () = assert!(size_of::<EaDisk>() == EA_HEAD_BYTES);
