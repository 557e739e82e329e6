//! Blobs read at any place and from many threads at once, decoded: what recompression, edits and mounts read from. Whoever
//! reads everything once in archive order uses [`crate::reading`] instead, which needs no cache.
//!
//! Chunks that are wanted as a whole are decoded right into the caller's buffer. Others, those of solid resources
//! above all, go through a cache, so that many small files in one chunk of 64 MiB cost one decoding.

mod cache;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use gravure_tree::{Sha1Hash, SourceId};
use gravure_wim::{Chunk, Compression, ResourceId, ResourceLayout};

use self::cache::ChunkCache;
use crate::archive::{Archive, Archives};
use crate::reading::Decoders;
use crate::{Error, ErrorKind};

/// Layouts of solid resources kept; their chunk tables are read once and not for every blob.
const KEPT_LAYOUTS: usize = 16;

/// Reads blobs of a set of archives.
#[derive(Debug)]
pub(crate) struct BlobReader {
    archives: Archives,
    /// By archive, resource and place of the plain bytes in it.
    cache: ChunkCache<(usize, ResourceId, u64)>,
    layouts: std::sync::Mutex<Vec<(usize, ResourceId, Arc<ResourceLayout>)>>,
}

/// A blob that is being read.
#[derive(Debug, Clone)]
pub(crate) struct OpenBlob {
    archive: usize,
    resource: ResourceId,
    layout: Arc<ResourceLayout>,
    /// Where the blob starts in the resource's plain content.
    offset: u64,
    pub(crate) size: u64,
    pub(crate) sha1: Sha1Hash,
    /// Absolute offset of the resource, for messages.
    place: u64,
}

/// One thread's decoders and buffer.
#[derive(Debug, Default)]
pub(crate) struct BlobHandles {
    decoders: Decoders,
    stored: Vec<u8>,
}

impl BlobReader {
    /// Keeps at most `cache_bytes` of decoded chunks, and always the last one.
    pub(crate) fn new(archives: Archives, cache_bytes: usize) -> Self {
        Self { archives, cache: ChunkCache::new(cache_bytes), layouts: std::sync::Mutex::default() }
    }

    /// The archives.
    pub(crate) fn archives(&self) -> &Archives {
        &self.archives
    }

    /// The file a tree's reference is in, for messages.
    pub(crate) fn name(&self, source: SourceId, key: u64) -> Option<&str> {
        self.archives.find(source, key).map(|(archive, _)| self.archives.get(archive).name())
    }

    /// Finds the blob that a tree calls `key` of `source`; reads its chunk table.
    pub(crate) fn open(&self, source: SourceId, key: u64) -> Result<OpenBlob, Error> {
        let not_found = || Error::NotFound { what: "blob", which: key.to_string() };
        let (number, id) = self.archives.find(source, key).ok_or_else(not_found)?;
        let archive = self.archives.get(number);
        let blob = archive.wim().blob(id).ok_or_else(not_found)?;
        let resource = archive.wim().resource(blob.resource).ok_or_else(not_found)?;
        let layout = match resource.solid {
            None => Arc::new(archive.layout(archive.source(), id).map_err(Error::wim(archive.name()))?),
            Some(_) => self.solid_layout(number, blob.resource, archive)?,
        };
        Ok(OpenBlob {
            archive: number,
            resource: blob.resource,
            layout,
            offset: blob.offset,
            size: blob.size,
            sha1: blob.sha1,
            place: resource.header.offset,
        })
    }

    fn solid_layout(
        &self,
        number: usize,
        id: ResourceId,
        archive: &Archive,
    ) -> Result<Arc<ResourceLayout>, Error> {
        let mut kept = self.layouts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, _, layout)) =
            kept.iter().find(|(known, resource, _)| (*known, *resource) == (number, id))
        {
            return Ok(Arc::clone(layout));
        }
        let layout = archive.wim().layout(archive.source(), id, archive.limits());
        let layout = Arc::new(layout.map_err(Error::wim(archive.name()))?);
        kept.insert(0, (number, id, Arc::clone(&layout)));
        kept.truncate(KEPT_LAYOUTS);
        Ok(layout)
    }

    /// Fills `buf` from `offset` of the blob. The caller checks the hash of what it puts together.
    pub(crate) fn read(
        &self,
        open: &OpenBlob,
        offset: u64,
        buf: &mut [u8],
        handles: &mut BlobHandles,
    ) -> Result<(), Error> {
        let range = offset.checked_add(buf.len() as u64).filter(|end| *end <= open.size);
        let Some(end) = range else {
            return Err(Error::Other {
                what: format!("blob {}", open.sha1),
                source: format!("read of {} bytes at {offset} of {}", buf.len(), open.size).into(),
                kind: ErrorKind::Failed,
            });
        };
        let wanted = open.offset + offset..open.offset + end;
        let mut filled = 0;
        for chunk in open.layout.chunks(wanted.clone()) {
            let plain = chunk.plain();
            let (start, stop) = (plain.start.max(wanted.start), plain.end.min(wanted.end));
            // Both are within a chunk, whose length is 32 bits.
            let (from, len) = ((start - plain.start) as usize, (stop - start) as usize);
            let to = &mut buf[filled..filled + len];
            if len == chunk.plain_len as usize {
                self.decode(open, &chunk, to, handles)?;
            } else {
                let whole = self.cached(open, &chunk, handles)?;
                to.copy_from_slice(&whole[from..from + len]);
            }
            filled += len;
        }
        if filled == buf.len() {
            return Ok(());
        }
        Err(self.damaged(open, format!("{filled} of {} bytes at {offset}", buf.len())))
    }

    /// Appends the chunks that hold `range` of the blob as they are stored to `stored`, and stored and plain length of each to
    /// `chunks`. Says whether they can be had: not of solid resources, nor of such as were not made by `compression`.
    pub(crate) fn stored(
        &self,
        open: &OpenBlob,
        range: Range<u64>,
        compression: Compression,
        stored: &mut Vec<u8>,
        chunks: &mut Vec<(usize, usize)>,
    ) -> Result<bool, Error> {
        let is_whole = open.offset == 0 && open.layout.size() == open.size;
        if !is_whole || open.layout.compression() != Some(compression) {
            return Ok(false);
        }
        let (bytes, count) = (stored.len(), chunks.len());
        let mut at = range.start;
        for chunk in open.layout.chunks(range.clone()).filter(|chunk| range.contains(&chunk.plain_offset)) {
            let archive = self.archives.get(open.archive);
            let len = usize::try_from(chunk.stored.end - chunk.stored.start).unwrap_or(usize::MAX);
            let from = stored.len();
            stored.resize(from + len, 0);
            let read = archive.source().read_exact_at(chunk.stored.start, &mut stored[from..]);
            read.map_err(|error| archive.read_error(chunk.stored.start, error))?;
            chunks.push((len, chunk.plain_len as usize));
            at = chunk.plain().end;
        }
        // Ranges that cut chunks in two are compressed anew.
        let fits = at == range.end && range.start.is_multiple_of(u64::from(open.layout.chunk_size()));
        if !fits {
            stored.truncate(bytes);
            chunks.truncate(count);
        }
        Ok(fits)
    }

    fn cached(&self, open: &OpenBlob, chunk: &Chunk, handles: &mut BlobHandles) -> Result<Arc<[u8]>, Error> {
        let key = (open.archive, open.resource, chunk.plain_offset);
        // The closure may run on this thread only; the cell is for the borrow of `handles` in it.
        let handles = RefCell::new(handles);
        self.cache.get(key, chunk.plain_len as usize, || {
            let mut plain = vec![0; chunk.plain_len as usize];
            self.decode(open, chunk, &mut plain, &mut handles.borrow_mut())?;
            Ok(plain.into())
        })
    }

    fn decode(
        &self,
        open: &OpenBlob,
        chunk: &Chunk,
        plain: &mut [u8],
        handles: &mut BlobHandles,
    ) -> Result<(), Error> {
        let archive = self.archives.get(open.archive);
        // The layout was checked: a stored chunk is no longer than its plain bytes.
        let len = usize::try_from(chunk.stored.end - chunk.stored.start).unwrap_or(usize::MAX);
        let BlobHandles { decoders, stored } = handles;
        stored.resize(len, 0);
        let read = archive.source().read_exact_at(chunk.stored.start, stored);
        read.map_err(|error| archive.read_error(chunk.stored.start, error))?;
        let at = chunk.plain_offset;
        let decoded = decoders.decode(chunk.encoding, stored, plain);
        decoded.map_err(|found| self.damaged(open, format!("chunk at {at:#x} of the content: {found}")))
    }

    /// The error of a blob that decodes to something else.
    pub(crate) fn mismatch(&self, open: &OpenBlob, found: Sha1Hash) -> Error {
        self.damaged(open, format!("SHA-1 {found}"))
    }

    fn damaged(&self, open: &OpenBlob, found: String) -> Error {
        Error::BlobMismatch {
            file: self.archives.get(open.archive).name().to_owned(),
            expected: open.sha1,
            found,
            offset: open.place,
            size: open.size,
            paths: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
