//! Resource headers: the 24 bytes that say where a byte range of a part is and how it is stored (wim-container 3).

use gravure_io::ReadAt;
use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Scope};
use crate::header::HEADER_BYTES;

/// Largest stored size the 56-bit field holds.
const MAX_STORED_SIZE: u64 = (1 << 56) - 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ResourceHeaderDisk {
    stored_size: [u8; 7], // 0x00
    flags: u8,            // 0x07
    offset: U64,          // 0x08
    size: U64,            // 0x10
} // 0x18
const _: () = assert!(size_of::<ResourceHeaderDisk>() == 24);

/// Flag byte of a resource header. Unknown bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceFlags(pub u8);

impl ResourceFlags {
    /// 0x02: metadata resource, and lookup table and XML in the WIM header.
    pub const METADATA: Self = Self(0x02);
    /// 0x04: chunk-compressed with the file's method and chunk size.
    pub const COMPRESSED: Self = Self(0x04);
    /// 0x10: solid; only in version 0xE00.
    pub const SOLID: Self = Self(0x10);

    /// True when every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without the bits of `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A resource header as it stands in the file: not yet checked against the file's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceHeader {
    /// Bytes stored, chunk table and solid header included.
    pub stored_size: u64,
    /// Flags.
    pub flags: ResourceFlags,
    /// Absolute byte offset in the part; in blob entries of a solid run an offset in the run's address space.
    pub offset: u64,
    /// Plain size in bytes.
    pub size: u64,
}

impl ResourceHeader {
    pub(crate) fn parse(disk: &ResourceHeaderDisk) -> Self {
        let [a, b, c, d, e, f, g] = disk.stored_size;
        Self {
            stored_size: u64::from_le_bytes([a, b, c, d, e, f, g, 0]),
            flags: ResourceFlags(disk.flags),
            offset: disk.offset.get(),
            size: disk.size.get(),
        }
    }

    pub(crate) fn to_disk(self) -> Result<ResourceHeaderDisk, Error> {
        if self.stored_size > MAX_STORED_SIZE {
            return Err(Error::unwritable("resource", "stored size is above 2^56 - 1 bytes"));
        }
        let [a, b, c, d, e, f, g, _] = self.stored_size.to_le_bytes();
        Ok(ResourceHeaderDisk {
            stored_size: [a, b, c, d, e, f, g],
            flags: self.flags.0,
            offset: U64::new(self.offset),
            size: U64::new(self.size),
        })
    }

    /// All zeros: nothing is there.
    pub fn is_absent(&self) -> bool {
        *self == Self::default()
    }

    /// The end of the stored bytes once they are known to lie behind the header and inside the file.
    pub(crate) fn checked_end(&self, what: &'static str, file_size: u64, scope: Scope) -> Result<u64, Error> {
        let range = |found: String| {
            Error::corrupt(scope, what, self.offset, format!("inside {file_size} bytes"), found)
        };
        if self.offset < HEADER_BYTES {
            return Err(range(format!("offset {:#x} inside the header", self.offset)));
        }
        match self.offset.checked_add(self.stored_size) {
            Some(end) if end <= file_size => Ok(end),
            _ => Err(range(format!("{} bytes", self.stored_size))),
        }
    }

    /// Reads a resource that the format stores raw: blob table, XML document, integrity table. `None` when absent.
    pub(crate) fn read_raw(
        &self,
        source: &dyn ReadAt,
        what: &'static str,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        if self.is_absent() {
            return Ok(None);
        }
        self.checked_end(what, source.size(), Scope::File)?;
        if self.flags.contains(ResourceFlags::COMPRESSED) || self.flags.contains(ResourceFlags::SOLID) {
            return Err(Error::unsupported(Scope::File, "compressed table", format_args!("{what}")));
        }
        if self.stored_size != self.size {
            let expected = format!("stored size {}", self.size);
            return Err(Error::corrupt(Scope::File, what, self.offset, expected, self.stored_size));
        }
        if self.size > max_bytes {
            return Err(Error::Limit {
                what,
                offset: self.offset,
                found: self.size,
                limit: max_bytes,
                scope: Scope::File,
            });
        }
        let len = usize::try_from(self.size)
            .map_err(|_| Error::unsupported(Scope::File, "table larger than memory", self.size))?;
        source.read_vec_at(self.offset, len).map(Some).map_err(Error::io(what, self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_size_has_56_bits() {
        let header = ResourceHeader {
            stored_size: MAX_STORED_SIZE,
            flags: ResourceFlags(0x16),
            offset: 0x1122_3344_5566_7788,
            size: 7,
        };
        let disk = header.to_disk().unwrap();
        assert_eq!(disk.as_bytes()[..8], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x16]);
        assert_eq!(ResourceHeader::parse(&disk), header);
        let above = ResourceHeader { stored_size: MAX_STORED_SIZE + 1, ..header };
        assert_eq!(
            above.to_disk().unwrap_err().to_string(),
            "cannot write resource: stored size is above 2^56 - 1 bytes"
        );
    }

    #[test]
    fn ranges_outside_the_file_are_refused() {
        let header = |offset, stored_size| ResourceHeader { offset, stored_size, ..Default::default() };
        let end = |h: ResourceHeader| h.checked_end("blob", 1000, Scope::Blob).map_err(|e| e.to_string());
        assert_eq!(end(header(208, 792)), Ok(1000));
        assert_eq!(
            end(header(208, 793)).unwrap_err(),
            "blob at 0xd0: expected inside 1000 bytes, found 793 bytes"
        );
        assert!(end(header(207, 1)).unwrap_err().contains("inside the header"));
        assert!(end(header(u64::MAX, 1)).is_err());
    }
}
