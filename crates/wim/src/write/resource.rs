//! The resource that is being written: its chunk table, and the rule that a resource which did not shrink is stored
//! raw (wim-container 5.2, 5.4).

use gravure_io::ReadAt;

use super::tail::Tail;
use super::{ChunkData, WimTarget};
use crate::chunks::{Chunk, ChunkEncoding};
use crate::compression::Compression;
use crate::content::ChunkDecoder;
use crate::error::Error;
use crate::resource::{ResourceFlags, ResourceHeader};

/// A resource between its first and last chunk.
pub(super) struct OpenResource {
    start: u64,
    size: u64,
    compression: Option<Compression>,
    /// End of each chunk relative to the end of the chunk table; empty for raw resources.
    ends: Vec<u64>,
    table_len: u64,
    /// Plain and stored bytes so far.
    plain: u64,
    stored: u64,
}

impl OpenResource {
    pub(super) fn new(start: u64, size: u64, compression: Option<Compression>) -> Self {
        let count = compression.map_or(0, |known| size.div_ceil(u64::from(known.chunk_size())));
        let table_len = count.saturating_sub(1).saturating_mul(Self::width(size));
        Self { start, size, compression, ends: Vec::new(), table_len, plain: 0, stored: 0 }
    }

    /// Bytes per table entry.
    fn width(size: u64) -> u64 {
        if size > u64::from(u32::MAX) { 8 } else { 4 }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn table_len(&self) -> u64 {
        self.table_len
    }

    /// Takes note of a chunk; returns the bytes to store.
    pub(super) fn accept<'c>(&mut self, chunk: ChunkData<'c>) -> Result<&'c [u8], Error> {
        let left = self.size.saturating_sub(self.plain);
        let wrong = |expected: String, found: usize| {
            Err(Error::unwritable("a chunk", format!("expected {expected} bytes, found {found}")))
        };
        let (bytes, plain_len) = match (self.compression, chunk) {
            (None, ChunkData::Raw(bytes)) if bytes.size() <= left => (bytes, bytes.size()),
            (None, ChunkData::Raw(bytes)) => return wrong(format!("at most {left}"), bytes.len()),
            (None, ChunkData::Compressed(_)) => {
                return Err(Error::unwritable("a compressed chunk", "the file is not compressed"));
            }
            (Some(compression), chunk) => {
                let plain_len = left.min(u64::from(compression.chunk_size()));
                match chunk {
                    ChunkData::Raw(bytes) if bytes.size() == plain_len && plain_len > 0 => (bytes, plain_len),
                    ChunkData::Raw(bytes) => return wrong(format!("{plain_len} plain"), bytes.len()),
                    ChunkData::Compressed(bytes) if !bytes.is_empty() && bytes.size() < plain_len => {
                        (bytes, plain_len)
                    }
                    ChunkData::Compressed(bytes) => {
                        return wrong(
                            format!("1 to {} compressed", plain_len.saturating_sub(1)),
                            bytes.len(),
                        );
                    }
                }
            }
        };
        self.plain = self.plain.saturating_add(plain_len);
        self.stored = self.stored.saturating_add(bytes.size());
        if self.compression.is_some() {
            self.ends.push(self.stored);
        }
        Ok(bytes)
    }

    /// Writes the chunk table, or makes the resource raw.
    pub(super) fn finish(self, target: &dyn WimTarget, tail: &mut Tail<'_>) -> Result<ResourceHeader, Error> {
        self.check_whole()?;
        let stored_size = self.stored.saturating_add(self.table_len);
        let raw = ResourceHeader {
            stored_size: self.size,
            flags: ResourceFlags::default(),
            offset: self.start,
            size: self.size,
        };
        let Some(compression) = self.compression else {
            return Ok(raw);
        };
        if self.stored == self.size {
            // Every chunk is raw and they lie back to back: the place of the table becomes a gap, and nothing needs to
            // be moved. Incompressible files are too common to write them twice.
            return Ok(ResourceHeader { offset: self.start.saturating_add(self.table_len), ..raw });
        }
        if stored_size >= self.size {
            tail.flush()?;
            self.make_raw(compression, target)?;
            tail.truncate(self.start.saturating_add(self.size))?;
            return Ok(raw);
        }
        tail.patch(self.start, &self.table())?;
        Ok(ResourceHeader { stored_size, flags: ResourceFlags::COMPRESSED, ..raw })
    }

    /// Ends a resource of a pipable file, of which nothing can be changed any more: its chunk table, which goes behind the
    /// chunks. It does not count the sizes that stand before them, and it is there even if nothing shrank (5.5).
    pub(super) fn finish_in_pipe(self) -> Result<Vec<u8>, Error> {
        self.check_whole()?;
        Ok(self.table())
    }

    fn check_whole(&self) -> Result<(), Error> {
        if self.plain != self.size {
            let reason = format!("{} of {} bytes were given", self.plain, self.size);
            return Err(Error::unwritable("a resource", reason));
        }
        Ok(())
    }

    fn table(&self) -> Vec<u8> {
        let wide = Self::width(self.size) == 8;
        let starts = self.ends.iter().take(self.ends.len().saturating_sub(1));
        starts
            .flat_map(|start| {
                let bytes = start.to_le_bytes();
                bytes.into_iter().take(if wide { 8 } else { 4 })
            })
            .collect()
    }

    /// Decodes the chunks in place, from the first to the last.
    ///
    /// Chunk `i` is stored at `table + end(i - 1)` and its plain bytes go to `i * chunk_size`. As the resource did not
    /// shrink, the table is at least as long as all that the chunks saved, so the place of a chunk's plain bytes never
    /// reaches beyond the start of the next stored chunk: nothing is overwritten before it was read.
    fn make_raw(&self, compression: Compression, target: &dyn WimTarget) -> Result<(), Error> {
        let data = self.start.saturating_add(self.table_len);
        let mut decoder = ChunkDecoder::default();
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        let (mut from, mut plain_offset) = (0u64, 0u64);
        for end in &self.ends {
            let plain_len = self.size.saturating_sub(plain_offset).min(u64::from(compression.chunk_size()));
            let range = data.saturating_add(from)..data.saturating_add(*end);
            let stored_len = end.saturating_sub(from);
            let chunk = Chunk {
                stored: range.clone(),
                plain_offset,
                plain_len: u32::try_from(plain_len).unwrap_or(u32::MAX),
                encoding: match stored_len == plain_len {
                    true => ChunkEncoding::Raw,
                    false => ChunkEncoding::Compressed(compression),
                },
            };
            // Both are at most the chunk size, which fits into memory as the caller had such chunks in it.
            stored.resize(usize::try_from(stored_len).unwrap_or(0), 0);
            plain.resize(usize::try_from(plain_len).unwrap_or(0), 0);
            target.read_exact_at(range.start, &mut stored).map_err(Error::io("chunk", range.start))?;
            decoder.decode(&chunk, &stored, &mut plain)?;
            let place = self.start.saturating_add(plain_offset);
            target.write_all_at(place, &plain).map_err(Error::io("raw resource", place))?;
            plain_offset = plain_offset.saturating_add(plain_len);
            from = *end;
        }
        Ok(())
    }
}
