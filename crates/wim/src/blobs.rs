//! Blob table (also lookup or offset table): which content a part holds, and in which resource (wim-container
//! section 4). Solid runs are resolved here, so that afterwards every blob is a range of one resource.

use std::collections::HashMap;

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::compression::Compression;
use crate::error::{BlobEntryIssue, Error, Scope, Warning, Warnings};
use crate::header::Header;
use crate::resource::{ResourceFlags, ResourceHeader, ResourceHeaderDisk};
use crate::solid::{SOLID_RESOURCE_MARKER, SolidHeader, SolidRun};

/// Bytes of one entry.
pub(crate) const ENTRY_BYTES: u64 = 50;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BlobEntryDisk {
    pub(crate) resource: ResourceHeaderDisk, // 0x00
    pub(crate) part: U16,                    // 0x18
    pub(crate) references: U32,              // 0x1a
    pub(crate) sha1: [u8; 20],               // 0x1e
} // 0x32
const _: () = assert!(size_of::<BlobEntryDisk>() == 50);

/// A blob of one WIM: index into [`crate::Wim::blobs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BlobId(pub(crate) u32);

impl BlobId {
    /// Zero-based index.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The key under which a tree refers to this blob ([`gravure_tree::Origin::Source`]).
    pub fn key(self) -> u64 {
        u64::from(self.0)
    }

    /// The blob that `key` means; `None` for keys no WIM gives out.
    pub fn from_key(key: u64) -> Option<Self> {
        u32::try_from(key).ok().map(Self)
    }
}

/// A stored region of one WIM: index into [`crate::Wim::resources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ResourceId(pub(crate) u32);

impl ResourceId {
    /// Zero-based index.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Unique content of a part: `size` bytes at `offset` of the plain content of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// SHA-1 of the content, as listed.
    pub sha1: Sha1Hash,
    /// Plain bytes; never 0.
    pub size: u64,
    /// Stream references as listed; unreliable in practice (wim-container 4.1).
    pub references: u32,
    /// The resource that holds it.
    pub resource: ResourceId,
    /// Where in the resource's plain content it starts; 0 unless the resource is solid.
    pub offset: u64,
}

/// A stored region, which may hold one blob or, if solid, many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Range and flags as listed; checked when its layout is read.
    pub header: ResourceHeader,
    /// The header inside a solid resource.
    pub solid: Option<SolidHeader>,
}

impl Resource {
    /// Plain bytes, as listed or, for a solid resource, as its own header says.
    pub fn size(&self) -> u64 {
        self.solid.as_ref().map_or(self.header.size, |solid| solid.size)
    }

    /// Method and chunk size of a solid resource that is compressed and whose header makes sense.
    pub fn solid_compression(&self) -> Option<Compression> {
        let solid = self.solid?;
        Compression::new(solid.compression_method()?, solid.chunk_size).ok()
    }
}

/// The metadata resource of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResource {
    /// SHA-1 of the plain metadata.
    pub sha1: Sha1Hash,
    /// Where it is.
    pub header: ResourceHeader,
}

/// A part's blobs, resolved and free of duplicates.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlobTable {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) images: Vec<MetadataResource>,
    by_hash: HashMap<Sha1Hash, BlobId>,
}

impl BlobTable {
    /// Loads the table that `header` points to. `source` is also read at the heads of solid resources.
    pub(crate) fn read(source: &dyn ReadAt, header: &Header, warnings: &mut Warnings) -> Result<Self, Error> {
        let bytes = header.blob_table.read_raw(source, "blob table", source.size())?;
        Self::parse(&bytes.unwrap_or_default(), header, source, warnings)
    }

    /// Parses the table's `bytes`, entry by entry in file order.
    pub(crate) fn parse(
        bytes: &[u8],
        header: &Header,
        source: &dyn ReadAt,
        warnings: &mut Warnings,
    ) -> Result<Self, Error> {
        let mut table = Self::default();
        let mut run = SolidRun::default();
        let mut entry_number = 0u64;
        let mut rest = bytes;
        while let Ok((disk, after)) = BlobEntryDisk::read_from_prefix(rest) {
            rest = after;
            let entry = Entry::new(&disk, entry_number, header);
            if entry.resource.flags.contains(ResourceFlags::SOLID) {
                table.push_solid(&entry, header, source, &mut run, warnings)?;
            } else {
                table.end_run(&mut run, warnings)?;
                table.push(&entry, header, warnings)?;
            }
            entry_number = entry_number.saturating_add(1);
        }
        table.end_run(&mut run, warnings)?;
        if !rest.is_empty() {
            warnings.push(Warning::BlobEntry { entry: entry_number, reason: BlobEntryIssue::PartialEntry });
        }
        Ok(table)
    }

    /// The blob with this hash.
    pub(crate) fn find(&self, sha1: &Sha1Hash) -> Option<BlobId> {
        self.by_hash.get(sha1).copied()
    }

    fn push(&mut self, entry: &Entry, header: &Header, warnings: &mut Warnings) -> Result<(), Error> {
        if let Some(reason) = entry.skip_reason(entry.resource.size, header) {
            warnings.push(Warning::BlobEntry { entry: entry.number, reason });
            return Ok(());
        }
        if entry.resource.flags.contains(ResourceFlags::METADATA) {
            return self.push_metadata(entry, header, warnings);
        }
        let resource = self.push_resource(Resource { header: entry.resource, solid: None })?;
        self.push_blob(
            Blob {
                sha1: entry.sha1,
                size: entry.resource.size,
                references: entry.references,
                resource,
                offset: 0,
            },
            entry.number,
            warnings,
        )
    }

    fn push_metadata(
        &mut self,
        entry: &Entry,
        header: &Header,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        let skip = |warnings: &mut Warnings, reason| {
            warnings.push(Warning::BlobEntry { entry: entry.number, reason });
            Ok(())
        };
        match entry.references {
            // A deleted image; tools leave these behind as a matter of course.
            0 => return Ok(()),
            1 => {}
            count => {
                return Err(entry.corrupt("reference count of a metadata resource", "0 or 1", count));
            }
        }
        if header.part != 1 {
            return skip(warnings, BlobEntryIssue::MetadataOutsidePart1);
        }
        if self.images.len() >= usize::try_from(header.image_count).unwrap_or(usize::MAX) {
            return skip(warnings, BlobEntryIssue::ExcessImage);
        }
        self.images.push(MetadataResource { sha1: entry.sha1, header: entry.resource });
        Ok(())
    }

    fn push_solid(
        &mut self,
        entry: &Entry,
        header: &Header,
        source: &dyn ReadAt,
        run: &mut SolidRun,
        warnings: &mut Warnings,
    ) -> Result<(), Error> {
        let flags = entry.resource.flags;
        if flags.contains(ResourceFlags::METADATA) || flags.contains(ResourceFlags::COMPRESSED) {
            return Err(entry.corrupt(
                "flags of a solid entry",
                "neither metadata nor chunk-compressed",
                format_args!("{:#x}", flags.0),
            ));
        }
        if entry.resource.size == SOLID_RESOURCE_MARKER {
            if entry.part != header.part {
                return Err(entry.corrupt(
                    "part of a solid resource",
                    format!("{}", header.part),
                    entry.part,
                ));
            }
            let solid = SolidHeader::read(source, &entry.resource)?;
            let resource = self.push_resource(Resource { header: entry.resource, solid: Some(solid) })?;
            return run.push_resource(resource, &solid, entry);
        }
        // In a blob entry of a run the stored size is the plain size and the size field is 0.
        match entry.skip_reason(entry.resource.stored_size, header) {
            Some(reason) => warnings.push(Warning::BlobEntry { entry: entry.number, reason }),
            None => run.push_blob(entry.clone()),
        }
        Ok(())
    }

    /// Places the blobs of a finished run in its resources.
    fn end_run(&mut self, run: &mut SolidRun, warnings: &mut Warnings) -> Result<(), Error> {
        for placed in std::mem::take(run).resolve()? {
            self.push_blob(placed.blob, placed.entry_number, warnings)?;
        }
        Ok(())
    }

    fn push_resource(&mut self, resource: Resource) -> Result<ResourceId, Error> {
        let id = u32::try_from(self.resources.len())
            .map_err(|_| Error::unsupported(Scope::File, "resource count", self.resources.len()))?;
        self.resources.push(resource);
        Ok(ResourceId(id))
    }

    fn push_blob(&mut self, blob: Blob, entry: u64, warnings: &mut Warnings) -> Result<(), Error> {
        let id = u32::try_from(self.blobs.len())
            .map_err(|_| Error::unsupported(Scope::File, "blob count", self.blobs.len()))?;
        match self.by_hash.entry(blob.sha1) {
            std::collections::hash_map::Entry::Occupied(_) => {
                warnings.push(Warning::BlobEntry { entry, reason: BlobEntryIssue::Duplicate(blob.sha1) });
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(BlobId(id));
                self.blobs.push(blob);
            }
        }
        Ok(())
    }
}

/// One entry of the table with its place, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) resource: ResourceHeader,
    pub(crate) part: u16,
    pub(crate) references: u32,
    pub(crate) sha1: Sha1Hash,
}

impl Entry {
    fn new(disk: &BlobEntryDisk, number: u64, header: &Header) -> Self {
        let mut resource = ResourceHeader::parse(&disk.resource);
        if !header.allows_solid {
            // The bit means nothing in version 0x10D00 (wim-container section 2).
            resource.flags = resource.flags.without(ResourceFlags::SOLID);
        }
        Self {
            number,
            offset: header.blob_table.offset.saturating_add(number.saturating_mul(ENTRY_BYTES)),
            resource,
            part: disk.part.get(),
            references: disk.references.get(),
            sha1: Sha1Hash(disk.sha1),
        }
    }

    fn skip_reason(&self, size: u64, header: &Header) -> Option<BlobEntryIssue> {
        if self.sha1 == Sha1Hash::ZERO {
            Some(BlobEntryIssue::ZeroHash)
        } else if size == 0 {
            Some(BlobEntryIssue::ZeroSize)
        } else if self.part != header.part {
            Some(BlobEntryIssue::OtherPart(self.part))
        } else {
            None
        }
    }

    pub(crate) fn corrupt(
        &self,
        field: &str,
        expected: impl Into<std::borrow::Cow<'static, str>>,
        found: impl std::fmt::Display,
    ) -> Error {
        let what = format!("blob table entry {}: {field}", self.number);
        Error::corrupt(Scope::File, what, self.offset, expected, found)
    }
}

#[cfg(test)]
mod tests;
