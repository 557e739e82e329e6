//! WIM header: fixed 208 bytes at offset 0, in pipable files also at the end (wim-container section 2). Layout and
//! checks only; no blob or XML parsing.

use gravure_io::ReadAt;
use gravure_nttypes::Guid;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::compression::{Compression, Method};
use crate::error::{Error, Scope};
use crate::limits::MAX_IMAGES;
use crate::resource::{ResourceHeader, ResourceHeaderDisk};

/// Size of the header.
pub const HEADER_BYTES: u64 = 208;
const HEADER_LEN: usize = 208;
const MAGIC: [u8; 8] = *b"MSWIM\0\0\0";
pub(crate) const MAGIC_PIPABLE: [u8; 8] = *b"WLPWM\0\0\0";
const VERSION_NORMAL: u32 = 0x0001_0d00;
const VERSION_SOLID: u32 = 0x0000_0e00;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderDisk {
    magic: [u8; 8],                    // 0x00
    header_size: U32,                  // 0x08  bytes, always 208
    version: U32,                      // 0x0c
    flags: U32,                        // 0x10
    chunk_size: U32,                   // 0x14  bytes, power of two; 0 when nothing is compressed
    guid: [u8; 16],                    // 0x18
    part: U16,                         // 0x28  from 1
    parts: U16,                        // 0x2a
    image_count: U32,                  // 0x2c
    blob_table: ResourceHeaderDisk,    // 0x30
    xml: ResourceHeaderDisk,           // 0x48
    boot_metadata: ResourceHeaderDisk, // 0x60
    boot_index: U32,                   // 0x78  from 1, 0 = none
    integrity: ResourceHeaderDisk,     // 0x7c  not 8-byte aligned
    unused: [u8; 60],                  // 0x94
} // 0xd0
const _: () = assert!(size_of::<HeaderDisk>() == HEADER_LEN);
const _: () = assert!(std::mem::offset_of!(HeaderDisk, blob_table) == 0x30);
const _: () = assert!(std::mem::offset_of!(HeaderDisk, boot_index) == 0x78);
const _: () = assert!(std::mem::offset_of!(HeaderDisk, integrity) == 0x7c);

/// Header flags. Unknown bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderFlags(pub u32);

impl HeaderFlags {
    /// The file may contain compressed resources.
    pub const COMPRESSED: Self = Self(0x2);
    /// Must not be modified.
    pub const READ_ONLY: Self = Self(0x4);
    /// Part of a split set.
    pub const SPANNED: Self = Self(0x8);
    /// A writer is at work, or crashed.
    pub const WRITE_IN_PROGRESS: Self = Self(0x40);
    /// Absolute links were rewritten relative to the image root (wim-container 6.9).
    pub const LINKS_FIXED: Self = Self(0x80);
    const RESOURCE_ONLY: Self = Self(0x10);
    const METADATA_ONLY: Self = Self(0x20);
    const XPRESS: Self = Self(0x2_0000);
    const LZX: Self = Self(0x4_0000);
    const LZMS: Self = Self(0x8_0000);
    /// A second XPRESS bit that other readers know; read, never written.
    const XPRESS_2: Self = Self(0x20_0000);
    /// What [`Header::compression`] and the kind of file determine.
    const DERIVED: Self = Self(
        Self::COMPRESSED.0
            | Self::RESOURCE_ONLY.0
            | Self::METADATA_ONLY.0
            | Self::XPRESS.0
            | Self::LZX.0
            | Self::LZMS.0
            | Self::XPRESS_2.0,
    );

    /// True when every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Whether the file has the normal layout or the pipable one (wim-container 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Chunk tables before the chunks; what every reader knows.
    Normal,
    /// Can be written to and applied from a pipe.
    Pipable,
}

/// A header that passed every check but those of ranges, which the readers of the ranges make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Normal or pipable.
    pub layout: Layout,
    /// True for version 0xE00, which allows solid resources and LZMS.
    pub allows_solid: bool,
    /// Flags as stored.
    pub flags: HeaderFlags,
    /// Method and chunk size of non-solid compressed resources; `None` when the file is not compressed.
    pub compression: Option<Compression>,
    /// Identity of the file or split set.
    pub guid: Guid,
    /// This part, from 1.
    pub part: u16,
    /// Parts of the set, at least 1.
    pub parts: u16,
    /// Images, as the header says.
    pub image_count: u32,
    /// Where the blob table is.
    pub blob_table: ResourceHeader,
    /// Where the XML document is.
    pub xml: ResourceHeader,
    /// Copy of the boot image's resource header.
    pub boot_metadata: ResourceHeader,
    /// Bootable image, from 1 as stored; 0 for none.
    pub boot_number: u32,
    /// Where the integrity table is.
    pub integrity: ResourceHeader,
}

impl Header {
    /// Checks `bytes`, which start at `offset` of the file.
    pub fn parse(bytes: &[u8; HEADER_LEN], offset: u64) -> Result<Self, Error> {
        let disk: HeaderDisk = zerocopy::transmute!(*bytes);
        let at = |field: u64| offset.saturating_add(field);
        let corrupt = |what: &'static str, field: u64, expected: &'static str, found: String| {
            Err(Error::corrupt(Scope::File, what, at(field), expected, found))
        };
        let layout = match disk.magic {
            MAGIC => Layout::Normal,
            MAGIC_PIPABLE => Layout::Pipable,
            other => return corrupt("WIM magic", 0, "MSWIM or WLPWM", format!("{}", other.escape_ascii())),
        };
        if disk.header_size.get() != 208 {
            return corrupt("WIM header size", 0x08, "208", disk.header_size.get().to_string());
        }
        let version = disk.version.get();
        let allows_solid = match version {
            VERSION_NORMAL => false,
            VERSION_SOLID => true,
            // Pre-release Windows files; their headers are shorter, so nothing behind this field means the same.
            _ => return Err(Error::unsupported(Scope::File, "WIM version", format_args!("{version:#x}"))),
        };
        let flags = HeaderFlags(disk.flags.get());
        let (part, parts) = (disk.part.get(), disk.parts.get());
        if part == 0 || part > parts {
            return corrupt("part number", 0x28, "1 to the number of parts", format!("{part} of {parts}"));
        }
        if disk.image_count.get() > MAX_IMAGES {
            return corrupt("image count", 0x2c, "at most 65535", disk.image_count.get().to_string());
        }
        Ok(Self {
            layout,
            allows_solid,
            flags,
            compression: parse_compression(flags, disk.chunk_size.get(), allows_solid, offset)?,
            guid: Guid(disk.guid),
            part,
            parts,
            image_count: disk.image_count.get(),
            blob_table: ResourceHeader::parse(&disk.blob_table),
            xml: ResourceHeader::parse(&disk.xml),
            boot_metadata: ResourceHeader::parse(&disk.boot_metadata),
            boot_number: disk.boot_index.get(),
            integrity: ResourceHeader::parse(&disk.integrity),
        })
    }

    /// Reads the header; of a pipable file the complete one at its end.
    pub fn read(source: &dyn ReadAt) -> Result<Self, Error> {
        let header = Self::read_at(source, 0)?;
        match header.layout {
            Layout::Normal => Ok(header),
            Layout::Pipable => {
                // Both headers must be there: the last 208 bytes of a file of the length of one are the first.
                let size = source.size();
                if size < 2 * HEADER_BYTES {
                    let expected = "416 bytes: a header at each end";
                    return Err(Error::corrupt(
                        Scope::File,
                        "pipable WIM",
                        0,
                        expected,
                        format!("{size} bytes"),
                    ));
                }
                Self::read_at(source, size.saturating_sub(HEADER_BYTES))
            }
        }
    }

    fn read_at(source: &dyn ReadAt, offset: u64) -> Result<Self, Error> {
        if source.size() < HEADER_BYTES {
            let found = format!("{} bytes", source.size());
            return Err(Error::corrupt(Scope::File, "WIM header", 0, "208 bytes", found));
        }
        let mut bytes = [0; HEADER_LEN];
        source.read_exact_at(offset, &mut bytes).map_err(Error::io("WIM header", offset))?;
        Self::parse(&bytes, offset)
    }

    /// The header as it is stored. Bits of kinds of file that are never written are cleared.
    pub fn to_bytes(&self) -> Result<[u8; HEADER_LEN], Error> {
        let method_flags = match self.compression.map(Compression::method) {
            None => HeaderFlags(0),
            Some(Method::Xpress) => HeaderFlags::COMPRESSED.with(HeaderFlags::XPRESS),
            Some(Method::Lzx) => HeaderFlags::COMPRESSED.with(HeaderFlags::LZX),
            Some(Method::Lzms) => HeaderFlags::COMPRESSED.with(HeaderFlags::LZMS),
        };
        let flags = self.flags.without(HeaderFlags::DERIVED).with(method_flags);
        let disk = HeaderDisk {
            magic: match self.layout {
                Layout::Normal => MAGIC,
                Layout::Pipable => MAGIC_PIPABLE,
            },
            header_size: U32::new(208),
            version: U32::new(if self.allows_solid { VERSION_SOLID } else { VERSION_NORMAL }),
            flags: U32::new(flags.0),
            chunk_size: U32::new(self.compression.map_or(0, Compression::chunk_size)),
            guid: self.guid.0,
            part: U16::new(self.part),
            parts: U16::new(self.parts),
            image_count: U32::new(self.image_count),
            blob_table: self.blob_table.to_disk()?,
            xml: self.xml.to_disk()?,
            boot_metadata: self.boot_metadata.to_disk()?,
            boot_index: U32::new(self.boot_number),
            integrity: self.integrity.to_disk()?,
            unused: [0; 60],
        };
        Ok(zerocopy::transmute!(disk))
    }

    /// Version as stored.
    pub fn version(&self) -> u32 {
        if self.allows_solid { VERSION_SOLID } else { VERSION_NORMAL }
    }
}

/// Method and chunk size. Of several method bits LZX goes before XPRESS before LZMS; without the compression bit
/// both fields mean nothing.
fn parse_compression(
    flags: HeaderFlags,
    chunk_size: u32,
    allows_solid: bool,
    offset: u64,
) -> Result<Option<Compression>, Error> {
    if !flags.contains(HeaderFlags::COMPRESSED) {
        return Ok(None);
    }
    let at_flags = offset.saturating_add(0x10);
    let method = if flags.contains(HeaderFlags::LZX) {
        Method::Lzx
    } else if flags.contains(HeaderFlags::XPRESS) || flags.contains(HeaderFlags::XPRESS_2) {
        Method::Xpress
    } else if flags.contains(HeaderFlags::LZMS) {
        if !allows_solid {
            return Err(Error::corrupt(
                Scope::File,
                "LZMS flag",
                at_flags,
                "version 0xe00",
                format_args!("{VERSION_NORMAL:#x}"),
            ));
        }
        Method::Lzms
    } else {
        let found = format!("flags {:#x}", flags.0);
        return Err(Error::corrupt(
            Scope::File,
            "compression flags",
            at_flags,
            "a method bit for XPRESS, LZX or LZMS",
            found,
        ));
    };
    Compression::check(method, chunk_size, Scope::File, offset.saturating_add(0x14)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            layout: Layout::Normal,
            allows_solid: false,
            flags: HeaderFlags(0x4_0082),
            compression: Some(Compression::LZX_32K),
            guid: Guid([7; 16]),
            part: 1,
            parts: 1,
            image_count: 2,
            blob_table: ResourceHeader { stored_size: 100, size: 100, offset: 208, ..Default::default() },
            xml: ResourceHeader { stored_size: 2, size: 2, offset: 308, ..Default::default() },
            boot_metadata: ResourceHeader::default(),
            boot_number: 0,
            integrity: ResourceHeader { stored_size: 32, size: 32, offset: 310, ..Default::default() },
        }
    }

    #[test]
    fn survives_the_way_to_bytes_and_back() {
        let header = sample();
        let bytes = header.to_bytes().unwrap();
        assert_eq!(bytes[0x7c], 32);
        assert_eq!(Header::parse(&bytes, 0).unwrap(), header);
    }

    #[test]
    fn refuses_each_bad_field_by_name() {
        let cases: [(usize, u8, &str); 9] = [
            (0, b'X', "WIM magic at 0x0: expected MSWIM or WLPWM, found XSWIM\\x00\\x00\\x00"),
            (8, 209, "WIM header size at 0x8: expected 208, found 209"),
            (0x0d, 9, "WIM version not supported: 0x10900"),
            (
                0x12,
                0,
                "compression flags at 0x10: expected a method bit for XPRESS, LZX or LZMS, found flags 0x82",
            ),
            (0x12, 8, "LZMS flag at 0x10: expected version 0xe00, found 0x10d00"),
            (0x14, 1, "chunk size at 0x14: expected power of two from 32768 to 2097152 for LZX, found 32769"),
            (0x28, 0, "part number at 0x28: expected 1 to the number of parts, found 0 of 1"),
            (0x28, 2, "part number at 0x28: expected 1 to the number of parts, found 2 of 1"),
            (0x2e, 1, "image count at 0x2c: expected at most 65535, found 65538"),
        ];
        for (at, value, message) in cases {
            let mut bytes = sample().to_bytes().unwrap();
            bytes[at] = value;
            assert_eq!(Header::parse(&bytes, 0).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn prefers_lzx_then_xpress_and_knows_the_second_xpress_bit() {
        let method = |flags: u32, chunk: u32| {
            parse_compression(HeaderFlags(flags), chunk, true, 0).unwrap().map(Compression::method)
        };
        assert_eq!(method(0xe_0002, 1 << 15), Some(Method::Lzx));
        assert_eq!(method(0xa_0002, 1 << 15), Some(Method::Xpress));
        assert_eq!(method(0x20_0002, 1 << 12), Some(Method::Xpress));
        assert_eq!(method(0x8_0002, 1 << 17), Some(Method::Lzms));
        assert_eq!(method(0x4_0000, 5), None);
    }

    #[test]
    fn short_files_are_named_as_such() {
        let error = Header::read(&vec![0u8; 207]).unwrap_err();
        assert_eq!(error.to_string(), "WIM header at 0x0: expected 208 bytes, found 207 bytes");
    }
}
