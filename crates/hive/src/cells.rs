//! Layout of the cells: keys (`nk`), values (`vk`), security (`sk`), big data (`db`) and lists of subkeys.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, corrupt};
use crate::image::{Cell, Image, u32_at, wide};
use crate::limits::{BIG_DATA_MINOR, SEGMENT_BYTES};
use crate::name::RawName;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(crate) struct KeyDisk {
    pub(crate) signature: [u8; 2],          // 0x00  "nk"
    pub(crate) flags: U16,                  // 0x02
    pub(crate) written: U64,                // 0x04  FILETIME
    pub(crate) access: U32,                 // 0x0c  used by the kernel while loaded
    pub(crate) parent: U32,                 // 0x10  cell
    pub(crate) subkey_count: U32,           // 0x14
    pub(crate) volatile_subkey_count: U32,  // 0x18  stale on disk
    pub(crate) subkey_list: U32,            // 0x1c  cell
    pub(crate) volatile_subkey_list: U32,   // 0x20  stale on disk
    pub(crate) value_count: U32,            // 0x24
    pub(crate) value_list: U32,             // 0x28  cell
    pub(crate) security: U32,               // 0x2c  cell
    pub(crate) class: U32,                  // 0x30  cell
    pub(crate) max_subkey_name_bytes: U16,  // 0x34  in UTF-16
    pub(crate) user_flags: [u8; 2],         // 0x36  virtualisation and debug flags
    pub(crate) max_subkey_class_bytes: U32, // 0x38
    pub(crate) max_value_name_bytes: U32,   // 0x3c  in UTF-16
    pub(crate) max_value_bytes: U32,        // 0x40
    pub(crate) work: U32,                   // 0x44
    pub(crate) name_bytes: U16,             // 0x48
    pub(crate) class_bytes: U16,            // 0x4a
} // 0x4c  then the name
const _: () = assert!(size_of::<KeyDisk>() == 0x4c);
const _: () = assert!(std::mem::offset_of!(KeyDisk, max_subkey_name_bytes) == 0x34);

impl KeyDisk {
    pub(crate) const SIGNATURE: [u8; 2] = *b"nk";
    pub(crate) const FLAG_ROOT: u16 = 0x0004;
    pub(crate) const FLAG_NO_DELETE: u16 = 0x0008;
    pub(crate) const FLAG_LINK: u16 = 0x0010;
    pub(crate) const FLAG_LATIN1: u16 = 0x0020;
    pub(crate) const FLAG_PREDEFINED: u16 = 0x0040;
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(crate) struct ValueDisk {
    pub(crate) signature: [u8; 2], // 0x00  "vk"
    pub(crate) name_bytes: U16,    // 0x02
    pub(crate) data_bytes: U32,    // 0x04  top bit: the data stands in the next field
    pub(crate) data: U32,          // 0x08  cell, or up to four bytes of data
    pub(crate) kind: U32,          // 0x0c
    pub(crate) flags: U16,         // 0x10
    pub(crate) spare: U16,         // 0x12
} // 0x14  then the name
const _: () = assert!(size_of::<ValueDisk>() == 0x14);

impl ValueDisk {
    pub(crate) const SIGNATURE: [u8; 2] = *b"vk";
    pub(crate) const FLAG_LATIN1: u16 = 0x0001;
    pub(crate) const INLINE: u32 = 0x8000_0000;

    /// Bytes of data.
    pub(crate) fn len(&self) -> u32 {
        self.data_bytes.get() & !Self::INLINE
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.data_bytes.get() & Self::INLINE != 0
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(crate) struct SecurityDisk {
    pub(crate) signature: [u8; 2],    // 0x00  "sk"
    pub(crate) spare: U16,            // 0x02
    pub(crate) next: U32,             // 0x04  ring of all descriptors
    pub(crate) previous: U32,         // 0x08
    pub(crate) references: U32,       // 0x0c  keys that use it
    pub(crate) descriptor_bytes: U32, // 0x10
} // 0x14  then the descriptor
const _: () = assert!(size_of::<SecurityDisk>() == 0x14);

impl SecurityDisk {
    pub(crate) const SIGNATURE: [u8; 2] = *b"sk";
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(crate) struct BigDataDisk {
    pub(crate) signature: [u8; 2], // 0x00  "db"
    pub(crate) count: U16,         // 0x02  segments
    pub(crate) list: U32,          // 0x04  cell with their cells
} // 0x08  four more bytes follow in real hives
const _: () = assert!(size_of::<BigDataDisk>() == 8);

impl BigDataDisk {
    pub(crate) const SIGNATURE: [u8; 2] = *b"db";
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(crate) struct ListDisk {
    pub(crate) signature: [u8; 2], // 0x00  "li", "lf", "lh" or "ri"
    pub(crate) count: U16,         // 0x02
} // 0x04  then the entries
const _: () = assert!(size_of::<ListDisk>() == 4);

/// A key's cell, checked.
pub(crate) fn key(image: &Image, cell: Cell) -> Result<(&KeyDisk, RawName<'_>), Error> {
    let content = image.cell(cell, "key")?;
    let (disk, rest) = split::<KeyDisk>(content, cell, "key")?;
    signature(&disk.signature, KeyDisk::SIGNATURE, cell, "key signature")?;
    let latin1 = disk.flags.get() & KeyDisk::FLAG_LATIN1 != 0;
    let name = name(rest, disk.name_bytes.get(), latin1, cell, "key name")?;
    Ok((disk, name))
}

/// A value's cell, checked.
pub(crate) fn value(image: &Image, cell: Cell) -> Result<(&ValueDisk, RawName<'_>), Error> {
    let content = image.cell(cell, "value")?;
    let (disk, rest) = split::<ValueDisk>(content, cell, "value")?;
    signature(&disk.signature, ValueDisk::SIGNATURE, cell, "value signature")?;
    let latin1 = disk.flags.get() & ValueDisk::FLAG_LATIN1 != 0;
    let name = name(rest, disk.name_bytes.get(), latin1, cell, "value name")?;
    if disk.is_inline() && disk.len() > 4 {
        return Err(corrupt("data in a value's cell", cell.offset(), "at most 4 bytes", disk.len()));
    }
    Ok((disk, name))
}

/// A descriptor's cell, checked.
pub(crate) fn security(image: &Image, cell: Cell) -> Result<(&SecurityDisk, &[u8]), Error> {
    let content = image.cell(cell, "security descriptor")?;
    let (disk, rest) = split::<SecurityDisk>(content, cell, "security descriptor")?;
    signature(&disk.signature, SecurityDisk::SIGNATURE, cell, "security signature")?;
    let len = disk.descriptor_bytes.get();
    let descriptor = rest.get(..wide(len)).ok_or_else(|| {
        corrupt("security descriptor", cell.offset(), format!("at most {} bytes", rest.len()), len)
    })?;
    Ok((disk, descriptor))
}

/// The cells of a list of `count` cells without a header: values of a key, segments of big data.
pub(crate) fn plain_list(
    image: &Image,
    cell: Cell,
    count: u32,
    what: &'static str,
) -> Result<Vec<Cell>, Error> {
    let content = image.cell(cell, what)?;
    let bytes = wide(count).checked_mul(4).and_then(|len| content.get(..len)).ok_or_else(|| {
        let most = content.len().checked_div(4).unwrap_or(0);
        corrupt(what, cell.offset(), format!("at most {most} entries"), count)
    })?;
    Ok(bytes.chunks_exact(4).map(|entry| Cell(u32_at(entry, 0).unwrap_or(u32::MAX))).collect())
}

/// How the data of a value is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Inline,
    Plain(Cell),
    /// One cell although big data is the rule.
    TooLongForOne(Cell),
    Big {
        head: Cell,
        list: Cell,
        segments: Vec<Cell>,
    },
}

/// Finds out how `disk`, the value at `cell`, is stored in a hive of version `minor`.
pub(crate) fn stored(image: &Image, disk: &ValueDisk, cell: Cell, minor: u32) -> Result<Stored, Error> {
    if disk.is_inline() || disk.len() == 0 {
        return Ok(Stored::Inline);
    }
    let (at, len) = (Cell(disk.data.get()), wide(disk.len()));
    let content = image.cell(at, "value data")?;
    if content.len() >= len {
        let is_big = len > SEGMENT_BYTES && minor >= BIG_DATA_MINOR;
        return Ok(if is_big { Stored::TooLongForOne(at) } else { Stored::Plain(at) });
    }
    if len <= SEGMENT_BYTES || minor < BIG_DATA_MINOR {
        let expected = format!("a cell of {len} bytes");
        return Err(corrupt("value data", at.offset(), expected, format_args!("{}", content.len())));
    }
    let (head, _) = split::<BigDataDisk>(content, at, "big data")?;
    signature(&head.signature, BigDataDisk::SIGNATURE, at, "big data signature")?;
    let (list, count) = (Cell(head.list.get()), u32::from(head.count.get()));
    let need = len.div_ceil(SEGMENT_BYTES);
    if need != wide(count) {
        let expected = format!("{need} segments for {len} bytes of the value at {:#x}", cell.offset());
        return Err(corrupt("big data", at.offset(), expected, count));
    }
    let segments = plain_list(image, list, count, "list of data segments")?;
    Ok(Stored::Big { head: at, list, segments })
}

fn split<'a, T>(content: &'a [u8], cell: Cell, what: &'static str) -> Result<(&'a T, &'a [u8]), Error>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    T::ref_from_prefix(content).map_err(|_| {
        let expected = format!("at least {} bytes", size_of::<T>());
        corrupt(what, cell.offset(), expected, format_args!("{} bytes", content.len()))
    })
}

fn signature(found: &[u8; 2], expected: [u8; 2], cell: Cell, what: &'static str) -> Result<(), Error> {
    if *found == expected {
        return Ok(());
    }
    let text = |bytes: &[u8]| format!("\"{}\"", bytes.escape_ascii());
    Err(corrupt(what, cell.offset(), text(&expected), text(found)))
}

fn name<'a>(
    rest: &'a [u8],
    len: u16,
    latin1: bool,
    cell: Cell,
    what: &'static str,
) -> Result<RawName<'a>, Error> {
    let bytes = rest.get(..usize::from(len)).ok_or_else(|| {
        corrupt(what, cell.offset(), format!("at most {} bytes", rest.len()), format_args!("{len} bytes"))
    })?;
    if latin1 {
        return Ok(RawName::Latin1(bytes));
    }
    if !len.is_multiple_of(2) {
        return Err(corrupt(what, cell.offset(), "whole UTF-16 units", format_args!("{len} bytes")));
    }
    Ok(RawName::Utf16(bytes))
}
