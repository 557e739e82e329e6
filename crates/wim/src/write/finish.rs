//! The end of a file: blob table, XML document, integrity table, and last of all the header (wim-container 4.3, 8,
//! 15).

use std::ops::Range;

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32};

use super::tail::Tail;
use super::{WimTarget, WimWriter};
use crate::blobs::BlobEntryDisk;
use crate::error::Error;
use crate::header::{HEADER_BYTES, Header, HeaderFlags};
use crate::integrity::{INTEGRITY_CHUNK_BYTES, IntegrityTable};
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::solid::SOLID_RESOURCE_MARKER;

/// A complete file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its size. The target may be longer if the last resource was dropped; the caller cuts it off there.
    pub size: u64,
}

/// A file of which only integrity table and header are missing.
pub struct TablesWritten<'a> {
    target: &'a dyn WimTarget,
    tail: Tail<'a>,
    header: Header,
}

impl std::fmt::Debug for TablesWritten<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TablesWritten").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a> WimWriter<'a> {
    /// Completes the file without an integrity table.
    pub fn finish(self) -> Result<Written, Error> {
        self.write_tables()?.complete(None)
    }

    /// Completes the file with an integrity table, hashed on this thread.
    pub fn finish_with_integrity(self) -> Result<Written, Error> {
        let tables = self.write_tables()?;
        let table = IntegrityTable::build(tables.target(), tables.covered(), INTEGRITY_CHUNK_BYTES)?;
        tables.complete(Some(&table))
    }

    /// Writes blob table and XML document. The caller may then hash [`TablesWritten::covered`] for an integrity
    /// table.
    pub fn write_tables(mut self) -> Result<TablesWritten<'a>, Error> {
        if self.open.is_some() || self.open_solid.is_some() {
            return Err(Error::unwritable("the tables", "a resource is not finished"));
        }
        self.header.image_count = self.image_count();
        let boot = usize::try_from(self.header.boot_number).ok().and_then(|number| number.checked_sub(1));
        self.header.boot_metadata =
            boot.and_then(|index| self.images.get(index)).map(|image| image.header).unwrap_or_default();
        let table = self.blob_table()?;
        self.header.blob_table = append_table(&mut self.tail, &table)?;
        self.info.set_total_bytes(self.tail.end());
        self.header.xml = append_table(&mut self.tail, &self.info.to_bytes())?;
        self.tail.flush()?;
        Ok(TablesWritten { target: self.target, tail: self.tail, header: self.header })
    }

    /// Metadata entries in image order, blobs in ascending offset, then solid resources, each before its blobs.
    fn blob_table(&mut self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        for image in &self.images {
            push_entry(&mut out, image.header, 1, image.sha1)?;
        }
        self.blobs.sort_by_key(|blob| blob.place.offset);
        for blob in self.blobs.iter().filter(|blob| blob.is_old || blob.references > 0) {
            push_entry(&mut out, blob.place, blob.references, blob.sha1)?;
        }
        self.solids.sort_by_key(|solid| solid.place.offset);
        let mut base = 0u64;
        for solid in &mut self.solids {
            if solid.is_counted {
                solid.blobs.retain(|(.., references)| *references > 0);
            }
            if solid.blobs.is_empty() {
                continue;
            }
            let marked = ResourceHeader { size: SOLID_RESOURCE_MARKER, ..solid.place };
            push_entry(&mut out, marked, 1, Sha1Hash::ZERO)?;
            solid.blobs.sort_by_key(|(offset, ..)| *offset);
            for (offset, size, sha1, references) in &solid.blobs {
                let place = ResourceHeader {
                    stored_size: *size,
                    flags: ResourceFlags::SOLID,
                    offset: base.saturating_add(*offset),
                    size: 0,
                };
                push_entry(&mut out, place, *references, *sha1)?;
            }
            base = base.saturating_add(solid.header.size);
        }
        Ok(out)
    }
}

pub(super) fn push_entry(
    out: &mut Vec<u8>,
    place: ResourceHeader,
    references: u32,
    sha1: Sha1Hash,
) -> Result<(), Error> {
    let entry = BlobEntryDisk {
        resource: place.to_disk()?,
        part: U16::new(1),
        references: U32::new(references),
        sha1: sha1.0,
    };
    out.extend_from_slice(entry.as_bytes());
    Ok(())
}

/// Blob table and XML document carry the metadata flag in the header.
fn append_table(tail: &mut Tail<'_>, bytes: &[u8]) -> Result<ResourceHeader, Error> {
    let offset = tail.end();
    tail.append(bytes)?;
    let size = bytes.size();
    Ok(ResourceHeader { stored_size: size, flags: ResourceFlags::METADATA, offset, size })
}

impl<'a> TablesWritten<'a> {
    /// What an integrity table covers: everything between the header and the XML document.
    pub fn covered(&self) -> Range<u64> {
        HEADER_BYTES..self.header.xml.offset
    }

    /// The target, to be read for the integrity table.
    pub fn target(&self) -> &'a dyn WimTarget {
        self.target
    }

    /// Writes the integrity table, if any, waits until all is on stable storage, and only then writes the header.
    pub fn complete(self, integrity: Option<&IntegrityTable>) -> Result<Written, Error> {
        let Self { target, mut tail, mut header } = self;
        header.integrity = ResourceHeader::default();
        if let Some(table) = integrity {
            if table.covered() != (HEADER_BYTES..header.xml.offset) {
                return Err(Error::unwritable("integrity table", "it covers another range"));
            }
            let place = append_table(&mut tail, &table.to_bytes()?)?;
            header.integrity = ResourceHeader { flags: ResourceFlags::default(), ..place };
        }
        tail.flush()?;
        target.sync().map_err(Error::io("WIM", 0))?;
        header.flags = header.flags.without(HeaderFlags::WRITE_IN_PROGRESS);
        target.write_all_at(0, &header.to_bytes()?).map_err(Error::io("WIM header", 0))?;
        target.sync().map_err(Error::io("WIM header", 0))?;
        Ok(Written { size: tail.end() })
    }
}
