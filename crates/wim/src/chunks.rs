//! How a resource's bytes are laid out: raw, in chunks behind a chunk table, in chunks with the table at the end
//! (pipable), or solid (wim-container section 5). Reads tables only; chunks are read and decoded by the caller, on
//! as many threads as it likes.

use std::ops::Range;

use gravure_io::ReadAt;

use crate::blobs::Resource;
use crate::compression::Compression;
use crate::error::{Error, Scope};
use crate::header::{Header, Layout};
use crate::limits::Limits;
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::solid::{SOLID_HEADER_BYTES, SolidHeader};

/// Bytes per piece in which a raw resource, which has no chunks, is handed out.
pub const RAW_PIECE_BYTES: u32 = 256 << 10;
/// Smallest chunk of a solid resource that is not compressed; such resources are not made by anyone known.
const MIN_SOLID_RAW_CHUNK_BYTES: u32 = 1 << 12;
/// Bytes of the size that stands before each chunk of a pipable resource.
const PIPABLE_PREFIX_BYTES: u64 = 4;

/// How a chunk's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEncoding {
    /// Stored as they are.
    Raw,
    /// Compressed with this method and chunk size.
    Compressed(Compression),
}

/// One chunk of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Absolute byte range in the file.
    pub stored: Range<u64>,
    /// Where its plain bytes start in the resource's plain content.
    pub plain_offset: u64,
    /// Plain bytes.
    pub plain_len: u32,
    /// How it is stored.
    pub encoding: ChunkEncoding,
}

impl Chunk {
    /// The range of plain bytes in the resource's plain content.
    pub fn plain(&self) -> Range<u64> {
        self.plain_offset..self.plain_offset.saturating_add(u64::from(self.plain_len))
    }
}

/// A resource's chunks, all ranges checked: inside the resource, in order, none empty or larger than plain.
#[derive(Debug, Clone)]
pub struct ResourceLayout {
    compression: Option<Compression>,
    chunk_size: u32,
    size: u64,
    /// Start of the first chunk, absolute.
    start: u64,
    /// Start of each chunk relative to `start`, prefixes not counted, and the end of the last; empty when raw.
    offsets: Vec<u64>,
    /// Bytes before each chunk that belong to none.
    prefix: u64,
}

impl ResourceLayout {
    /// Reads the chunk table of `resource`, which belongs to the file that `header` describes.
    pub(crate) fn read(
        source: &dyn ReadAt,
        resource: &Resource,
        header: &Header,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let place = &resource.header;
        place.checked_end("resource", source.size(), Scope::Blob)?;
        if let Some(solid) = &resource.solid {
            return Self::read_solid(source, place, solid, limits);
        }
        if place.flags.contains(ResourceFlags::COMPRESSED) {
            let compression = header.compression.ok_or_else(|| {
                let expected = "no compressed resource in a file without compression";
                Error::corrupt(
                    Scope::Blob,
                    "resource flags",
                    place.offset,
                    expected,
                    format_args!("{:#x}", place.flags.0),
                )
            })?;
            return Self::read_chunked(source, place, compression, header.layout, limits);
        }
        if place.stored_size != place.size {
            let expected = format!("{} bytes as the content", place.size);
            return Err(Error::corrupt(
                Scope::Blob,
                "stored size of a raw resource",
                place.offset,
                expected,
                place.stored_size,
            ));
        }
        Ok(Self {
            compression: None,
            chunk_size: RAW_PIECE_BYTES,
            size: place.size,
            start: place.offset,
            offsets: Vec::new(),
            prefix: 0,
        })
    }

    fn read_chunked(
        source: &dyn ReadAt,
        place: &ResourceHeader,
        compression: Compression,
        layout: Layout,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let chunk_size = compression.chunk_size();
        // Files may declare chunks far larger than what they hold.
        check_chunk_bytes("chunk size", u64::from(chunk_size).min(place.size), place, limits)?;
        let count = chunk_count(place.size, chunk_size);
        let prefix = match layout {
            Layout::Normal => 0,
            Layout::Pipable => PIPABLE_PREFIX_BYTES,
        };
        // The width depends on the plain size of the whole resource alone.
        let width = if place.size > u64::from(u32::MAX) { 8 } else { 4 };
        let table_len = table_len(place, count, count.saturating_sub(1), width, limits)?;
        let prefixes = count.saturating_mul(prefix);
        let data_len = place.stored_size.saturating_sub(table_len).saturating_sub(prefixes);
        if count > data_len {
            return Err(too_few_bytes(place, count));
        }
        let (table_at, start) = match layout {
            Layout::Normal => (place.offset, place.offset.saturating_add(table_len)),
            Layout::Pipable => (place.offset.saturating_add(data_len).saturating_add(prefixes), place.offset),
        };
        let table = read_table(source, table_at, table_len)?;
        let mut offsets = Vec::with_capacity(usize::try_from(count).unwrap_or(0).saturating_add(1));
        offsets.push(0);
        match width {
            8 => offsets.extend(table.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))),
            _ => {
                offsets.extend(table.as_chunks().0.iter().map(|bytes| u64::from(u32::from_le_bytes(*bytes))))
            }
        }
        offsets.push(data_len);
        let this =
            Self { compression: Some(compression), chunk_size, size: place.size, start, offsets, prefix };
        this.check_chunks(table_at)?;
        Ok(this)
    }

    fn read_solid(
        source: &dyn ReadAt,
        place: &ResourceHeader,
        solid: &SolidHeader,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let compression = solid_compression(place, solid)?;
        check_chunk_bytes("chunk size of a solid resource", solid.chunk_size.into(), place, limits)?;
        let count = chunk_count(solid.size, solid.chunk_size);
        let table_len = table_len(place, count, count, 4, limits)?;
        let table_at = place.offset.saturating_add(SOLID_HEADER_BYTES);
        let head_len = table_len.saturating_add(SOLID_HEADER_BYTES);
        let table = read_table(source, table_at, table_len)?;
        let mut offsets = Vec::with_capacity(usize::try_from(count).unwrap_or(0).saturating_add(1));
        let mut end = 0u64;
        offsets.push(end);
        for bytes in table.as_chunks().0 {
            // At most 2^32 entries of less than 2^32 each.
            end = end.saturating_add(u64::from(u32::from_le_bytes(*bytes)));
            offsets.push(end);
        }
        if end.saturating_add(head_len) != place.stored_size {
            return Err(Error::corrupt(
                Scope::Blob,
                "chunk sizes of a solid resource",
                table_at,
                format!("{} bytes in all", place.stored_size.saturating_sub(head_len)),
                end,
            ));
        }
        let start = place.offset.saturating_add(head_len);
        let this =
            Self { compression, chunk_size: solid.chunk_size, size: solid.size, start, offsets, prefix: 0 };
        this.check_chunks(table_at)?;
        Ok(this)
    }

    /// Every chunk has 1 to as many bytes as its plain content; nothing else is looked at again later.
    fn check_chunks(&self, table_at: u64) -> Result<(), Error> {
        for (index, pair) in self.offsets.windows(2).enumerate() {
            let [from, to] = pair else { continue };
            let plain_len = u64::from(self.plain_len(u64::try_from(index).unwrap_or(u64::MAX)));
            let stored = to.checked_sub(*from);
            let fits = match (stored, self.compression) {
                (Some(len), Some(_)) => len > 0 && len <= plain_len,
                (Some(len), None) => len == plain_len,
                (None, _) => false,
            };
            if !fits {
                let found = stored
                    .map_or_else(|| format!("end {to:#x} before start {from:#x}"), |len| len.to_string());
                return Err(Error::corrupt(
                    Scope::Blob,
                    format!("stored size of chunk {index}"),
                    table_at,
                    format!("1 to {plain_len}"),
                    found,
                ));
            }
        }
        Ok(())
    }

    fn plain_len(&self, index: u64) -> u32 {
        let start = index.saturating_mul(u64::from(self.chunk_size));
        let left = self.size.saturating_sub(start);
        u32::try_from(left).unwrap_or(u32::MAX).min(self.chunk_size)
    }

    /// Plain bytes of the whole resource.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Method and chunk size; `None` when the bytes are stored as they are.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Plain bytes per chunk, or per piece of a raw resource.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> u64 {
        chunk_count(self.size, self.chunk_size)
    }

    /// The chunk `index`, from 0; `None` behind the last.
    pub fn chunk(&self, index: u64) -> Option<Chunk> {
        let plain_len = self.plain_len(index);
        if plain_len == 0 {
            return None;
        }
        let plain_offset = index.checked_mul(u64::from(self.chunk_size))?;
        if self.offsets.is_empty() {
            let start = self.start.checked_add(plain_offset)?;
            let stored = start..start.checked_add(u64::from(plain_len))?;
            return Some(Chunk { stored, plain_offset, plain_len, encoding: ChunkEncoding::Raw });
        }
        let at = usize::try_from(index).ok()?;
        let (from, to) = (*self.offsets.get(at)?, *self.offsets.get(at.checked_add(1)?)?);
        let shift = self.start.checked_add(self.prefix.checked_mul(index.checked_add(1)?)?)?;
        let encoding = match self.compression {
            Some(compression) if to.checked_sub(from)? != u64::from(plain_len) => {
                ChunkEncoding::Compressed(compression)
            }
            _ => ChunkEncoding::Raw,
        };
        let stored = shift.checked_add(from)?..shift.checked_add(to)?;
        Some(Chunk { stored, plain_offset, plain_len, encoding })
    }

    /// The chunks that hold the plain bytes `range`, in order.
    pub fn chunks(&self, range: Range<u64>) -> impl Iterator<Item = Chunk> + '_ {
        let size = u64::from(self.chunk_size.max(1));
        let first = range.start.checked_div(size).unwrap_or(0);
        let end = range.end.min(self.size);
        let end = if range.start < end { end.div_ceil(size) } else { first };
        (first..end).map_while(|index| self.chunk(index))
    }
}

fn chunk_count(size: u64, chunk_size: u32) -> u64 {
    size.div_ceil(u64::from(chunk_size.max(1)))
}

/// Refuses a resource whose largest chunk has more plain bytes than may be held.
fn check_chunk_bytes(
    what: &'static str,
    found: u64,
    place: &ResourceHeader,
    limits: &Limits,
) -> Result<(), Error> {
    let limit = u64::from(limits.max_chunk_bytes);
    if found > limit {
        return Err(Error::Limit { what, offset: place.offset, found, limit, scope: Scope::Blob });
    }
    Ok(())
}

/// Method and chunk size of a solid resource; `None` for method 0.
fn solid_compression(place: &ResourceHeader, solid: &SolidHeader) -> Result<Option<Compression>, Error> {
    let at_method = place.offset.saturating_add(0x0c);
    let at_chunk_size = place.offset.saturating_add(0x08);
    let method = match (solid.method, solid.compression_method()) {
        (0, _) => {
            let size = solid.chunk_size;
            if !size.is_power_of_two() || size < MIN_SOLID_RAW_CHUNK_BYTES {
                let expected = "power of two from 4096";
                return Err(Error::corrupt(Scope::Blob, "chunk size", at_chunk_size, expected, size));
            }
            return Ok(None);
        }
        (_, Some(method)) => method,
        (other, None) => {
            let what = "method of a solid resource";
            return Err(Error::corrupt(Scope::Blob, what, at_method, "0 to 3", other));
        }
    };
    Compression::check(method, solid.chunk_size, Scope::Blob, at_chunk_size).map(Some)
}

/// Bytes of the table of `chunks` chunks with `entries` entries, once it is known to fit into the resource and the limit.
fn table_len(
    place: &ResourceHeader,
    chunks: u64,
    entries: u64,
    width: u64,
    limits: &Limits,
) -> Result<u64, Error> {
    let len = entries.checked_mul(width).filter(|len| *len <= place.stored_size);
    let Some(len) = len else {
        return Err(too_few_bytes(place, chunks));
    };
    if len > limits.max_chunk_table_bytes {
        return Err(Error::Limit {
            what: "chunk table",
            offset: place.offset,
            found: len,
            limit: limits.max_chunk_table_bytes,
            scope: Scope::Blob,
        });
    }
    Ok(len)
}

fn too_few_bytes(place: &ResourceHeader, chunks: u64) -> Error {
    let expected = format!("room for {chunks} chunks and their table");
    let found = format!("{} bytes", place.stored_size);
    Error::corrupt(Scope::Blob, "stored size of a resource", place.offset, expected, found)
}

fn read_table(source: &dyn ReadAt, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let len = usize::try_from(len)
        .map_err(|_| Error::unsupported(Scope::Blob, "chunk table larger than memory", len))?;
    source.read_vec_at(offset, len).map_err(Error::io("chunk table", offset))
}

#[cfg(test)]
mod tests;
