//! Layouts of dentries and stream entries, and their bounds: what is returned lies inside the resource.

use gravure_io::ReadAt;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Scope};

/// Everything in a metadata resource starts at a multiple of this.
pub(super) const ALIGN: usize = 8;
/// A list ends with a length field of at most this.
pub(super) const END_MARKER_BYTES: usize = 8;
/// Security index that means none.
pub(super) const NO_SECURITY: u32 = 0xffff_ffff;

/// The fixed part of a directory entry. Behind it: name, short name, padding, tagged items.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DentryDisk {
    pub(super) len: U64,            // 0x00  bytes with names and items, without stream entries
    pub(super) attributes: U32,     // 0x08
    pub(super) security: U32,       // 0x0c
    pub(super) children: U64,       // 0x10  offset of the list; 0 = none
    pub(super) reserved: [u8; 16],  // 0x18
    pub(super) created: U64,        // 0x28
    pub(super) accessed: U64,       // 0x30
    pub(super) written: U64,        // 0x38
    pub(super) sha1: [u8; 20],      // 0x40
    pub(super) unknown_0x54: U32,   // 0x54
    pub(super) group: U64,          // 0x58  hard-link group, or the reparse fields
    pub(super) stream_count: U16,   // 0x60
    pub(super) short_name_len: U16, // 0x62  bytes, without terminator
    pub(super) name_len: U16,       // 0x64
} // 0x66
pub(super) const DENTRY_LEN: usize = 0x66;
const _: () = assert!(size_of::<DentryDisk>() == DENTRY_LEN);
const _: () = assert!(std::mem::offset_of!(DentryDisk, group) == 0x58);

/// What stands at 0x58 of a reparse point.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ReparseDisk {
    pub(super) tag: U32,        // 0x58
    pub(super) reserved: U16,   // 0x5c
    pub(super) link_flags: U16, // 0x5e
}
const _: () = assert!(size_of::<ReparseDisk>() == 8);

/// The fixed part of a stream entry. Behind it: name, padding.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StreamDisk {
    pub(super) len: U64,       // 0x00  bytes with the name
    pub(super) reserved: U64,  // 0x08
    pub(super) sha1: [u8; 20], // 0x10
    pub(super) name_len: U16,  // 0x24
} // 0x26
pub(super) const STREAM_LEN: usize = 0x26;
const _: () = assert!(size_of::<StreamDisk>() == STREAM_LEN);

/// A directory entry whose parts are all inside the resource.
#[derive(Debug)]
pub(super) struct RawDentry<'a> {
    pub(super) disk: DentryDisk,
    pub(super) name: &'a [u8],
    pub(super) short_name: &'a [u8],
    pub(super) items: &'a [u8],
    pub(super) streams: Vec<RawStream<'a>>,
    /// Where the next entry starts.
    pub(super) end: usize,
}

/// A stream entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawStream<'a> {
    pub(super) sha1: [u8; 20],
    pub(super) name: &'a [u8],
}

/// Rounds up to a multiple of 8; lengths near the top of the range stay what they are and fail their range check.
pub(super) fn align(value: usize) -> usize {
    value.checked_next_multiple_of(ALIGN).unwrap_or(value)
}

pub(super) fn corrupt(
    what: &'static str,
    offset: usize,
    expected: impl Into<std::borrow::Cow<'static, str>>,
    found: impl std::fmt::Display,
) -> Error {
    let offset = u64::try_from(offset).unwrap_or(u64::MAX);
    Error::corrupt(Scope::Image, format!("metadata: {what}"), offset, expected, found)
}

/// The entry at `pos` of the resource; `None` for the end of a list.
pub(super) fn read_dentry(bytes: &[u8], pos: usize) -> Result<Option<RawDentry<'_>>, Error> {
    let rest = bytes.get(pos..).unwrap_or_default();
    let too_short =
        |what| corrupt(what, pos, "inside the resource", format_args!("{} bytes left", rest.len()));
    let (len, _) = U64::read_from_prefix(rest).map_err(|_| too_short("dentry length"))?;
    // Compared before rounding.
    if len.get() <= 8 {
        return Ok(None);
    }
    let len = usize::try_from(len.get()).ok().filter(|len| *len >= DENTRY_LEN && *len <= rest.len());
    let (Some(len), Ok((disk, _))) = (len, DentryDisk::read_from_prefix(rest)) else {
        let found = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let expected = format!("102 to {} bytes", rest.len());
        return Err(corrupt("dentry length", pos, expected, found));
    };
    let dentry = rest.get(..len).unwrap_or_default();
    let mut at = DENTRY_LEN;
    let name = read_name(dentry, &mut at, disk.name_len, pos)?;
    let short_name = read_name(dentry, &mut at, disk.short_name_len, pos)?;
    let items = dentry.get(align(at)..).unwrap_or_default();
    let mut end = pos.saturating_add(align(len));
    let mut streams = Vec::new();
    for _ in 0..disk.stream_count.get() {
        streams.push(read_stream(bytes, &mut end)?);
    }
    Ok(Some(RawDentry { disk, name, short_name, items, streams, end }))
}

/// A name of `len` bytes and its terminator, both absent if `len` is 0.
fn read_name<'a>(dentry: &'a [u8], at: &mut usize, len: U16, pos: usize) -> Result<&'a [u8], Error> {
    let len = usize::from(len.get());
    if len == 0 {
        return Ok(&[]);
    }
    let name = dentry.get(*at..at.saturating_add(len)).filter(|_| len.is_multiple_of(2));
    let name = name.ok_or_else(|| {
        let left = dentry.len().saturating_sub(*at);
        corrupt("name length", pos, format!("even and at most {left} bytes"), len)
    })?;
    *at = at.saturating_add(len).saturating_add(2);
    Ok(name)
}

fn read_stream<'a>(bytes: &'a [u8], pos: &mut usize) -> Result<RawStream<'a>, Error> {
    let rest = bytes.get(*pos..).unwrap_or_default();
    let bad = |found: &dyn std::fmt::Display| {
        let expected = format!("38 to {} bytes", rest.len());
        Err(corrupt("stream entry length", *pos, expected, found))
    };
    let Ok((disk, _)) = StreamDisk::read_from_prefix(rest) else {
        return bad(&format_args!("only {} bytes left", rest.len()));
    };
    let len = usize::try_from(disk.len.get()).ok().filter(|len| *len >= STREAM_LEN && *len <= rest.len());
    let Some(len) = len else {
        return bad(&disk.len.get());
    };
    let name_len = usize::from(disk.name_len.get());
    let name_end = STREAM_LEN.saturating_add(name_len);
    let name = rest.get(STREAM_LEN..name_end).filter(|_| name_end <= len && name_len.is_multiple_of(2));
    let Some(name) = name else {
        let expected = format!("even and at most {} bytes", len.saturating_sub(STREAM_LEN));
        return Err(corrupt("stream name length", *pos, expected, name_len));
    };
    *pos = pos.saturating_add(align(len));
    Ok(RawStream { sha1: disk.sha1, name })
}

/// Bytes that a dentry of these names takes without its items, a multiple of 8.
pub(super) fn dentry_head_len(name_bytes: usize, short_name_bytes: usize) -> usize {
    let with_end = |len: usize| if len == 0 { 0 } else { len.saturating_add(2) };
    align(DENTRY_LEN.saturating_add(with_end(name_bytes)).saturating_add(with_end(short_name_bytes)))
}

/// Length as a 64-bit field.
pub(super) fn len_u64(bytes: &[u8]) -> u64 {
    bytes.size()
}
