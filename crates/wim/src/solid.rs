//! Solid resources: the 16-byte header inside each, and the address space that a run of them shares
//! (wim-container 4.2, 5.3).

use gravure_io::ReadAt;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::blobs::{Blob, Entry, ResourceId};
use crate::compression::Method;
use crate::error::{Error, Scope};
use crate::resource::ResourceHeader;

/// Bytes of the header that a solid resource starts with.
pub(crate) const SOLID_HEADER_BYTES: u64 = 16;
/// The uncompressed size by which an entry says that it is a solid resource and not a blob in one.
pub(crate) const SOLID_RESOURCE_MARKER: u64 = 0x1_0000_0000;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SolidHeaderDisk {
    size: U64,       // 0x00  plain bytes
    chunk_size: U32, // 0x08
    method: U32,     // 0x0c
} // 0x10
const _: () = assert!(size_of::<SolidHeaderDisk>() == 16);

/// What a solid resource says of itself; method and chunk size are checked when its layout is read, since a wrong
/// one spoils only the blobs of this resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SolidHeader {
    /// Plain bytes of the whole resource.
    pub size: u64,
    /// Plain bytes per chunk.
    pub chunk_size: u32,
    /// 0 none, 1 XPRESS, 2 LZX, 3 LZMS.
    pub method: u32,
}

impl SolidHeader {
    /// The method that the number stands for; `None` for 0, and for numbers that mean nothing.
    pub fn compression_method(&self) -> Option<Method> {
        match self.method {
            1 => Some(Method::Xpress),
            2 => Some(Method::Lzx),
            3 => Some(Method::Lzms),
            _ => None,
        }
    }

    /// Reads the header of the solid resource at `resource`; a resource too short or outside the file spoils the
    /// whole file, because the place of everything behind it in the run is unknown then.
    pub(crate) fn read(source: &dyn ReadAt, resource: &ResourceHeader) -> Result<Self, Error> {
        resource.checked_end("solid resource", source.size(), Scope::File)?;
        if resource.stored_size < SOLID_HEADER_BYTES {
            return Err(Error::corrupt(
                Scope::File,
                "stored size of a solid resource",
                resource.offset,
                "at least 16",
                resource.stored_size,
            ));
        }
        let mut bytes = [0; 16];
        source
            .read_exact_at(resource.offset, &mut bytes)
            .map_err(Error::io("solid resource header", resource.offset))?;
        let disk: SolidHeaderDisk = zerocopy::transmute!(bytes);
        Ok(Self { size: disk.size.get(), chunk_size: disk.chunk_size.get(), method: disk.method.get() })
    }
}

/// A maximal sequence of solid entries: resources laid end to end, and blobs that lie somewhere in them.
#[derive(Debug, Default)]
pub(crate) struct SolidRun {
    /// Base in the run's address space, plain size, resource; ascending.
    resources: Vec<(u64, u64, ResourceId)>,
    blobs: Vec<Entry>,
    end: u64,
}

/// A blob of a run that found its place.
#[derive(Debug)]
pub(crate) struct PlacedBlob {
    pub(crate) blob: Blob,
    pub(crate) entry_number: u64,
}

impl SolidRun {
    pub(crate) fn push_resource(
        &mut self,
        id: ResourceId,
        header: &SolidHeader,
        entry: &Entry,
    ) -> Result<(), Error> {
        self.resources.push((self.end, header.size, id));
        self.end = self.end.checked_add(header.size).ok_or_else(|| {
            entry.corrupt(
                "sizes of a solid run",
                "less than 2^64 bytes in all",
                format_args!("{}", header.size),
            )
        })?;
        Ok(())
    }

    pub(crate) fn push_blob(&mut self, entry: Entry) {
        self.blobs.push(entry);
    }

    /// Gives every blob its resource, in entry order; refuses blobs that fit nowhere or overlap.
    pub(crate) fn resolve(self) -> Result<Vec<PlacedBlob>, Error> {
        let mut placed = Vec::with_capacity(self.blobs.len());
        for entry in &self.blobs {
            let (offset, size) = (entry.resource.offset, entry.resource.stored_size);
            let after = self.resources.partition_point(|(base, _, _)| *base <= offset);
            let home = after.checked_sub(1).and_then(|at| self.resources.get(at));
            let fits = home.and_then(|(base, plain, id)| {
                let start = offset.checked_sub(*base)?;
                (start.checked_add(size)? <= *plain).then_some((start, *id))
            });
            let Some((start, resource)) = fits else {
                let expected = format!(
                    "inside one of the run's {} resources ({} bytes)",
                    self.resources.len(),
                    self.end
                );
                return Err(entry.corrupt(
                    "place in the solid run",
                    expected,
                    format_args!("{size} bytes at {offset:#x}"),
                ));
            };
            let blob = Blob { sha1: entry.sha1, size, references: entry.references, resource, offset: start };
            placed.push(PlacedBlob { blob, entry_number: entry.number });
        }
        self.check_overlap(&placed)?;
        Ok(placed)
    }

    fn check_overlap(&self, placed: &[PlacedBlob]) -> Result<(), Error> {
        let mut order: Vec<(&PlacedBlob, &Entry)> = placed.iter().zip(&self.blobs).collect();
        order.sort_by_key(|(placed, _)| (placed.blob.resource, placed.blob.offset));
        for pair in order.windows(2) {
            let [(before, _), (blob, entry)] = pair else { continue };
            let end = before.blob.offset.saturating_add(before.blob.size);
            if before.blob.resource == blob.blob.resource && end > blob.blob.offset {
                return Err(entry.corrupt(
                    "offset in the solid resource",
                    format!("at or behind {end:#x}, where the blob of entry {} ends", before.entry_number),
                    format_args!("{:#x}", blob.blob.offset),
                ));
            }
        }
        Ok(())
    }
}
