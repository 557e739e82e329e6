//! Cutting solid resources into items: chunks that hold something wanted, each read and decoded once, with the blobs
//! and parts of blobs that lie in them. Chunks in which nothing is wanted are not even read.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use gravure_wim::{Chunk, ResourceLayout};

use super::plan::BlobRead;
use super::source::ITEM_BYTES;
use super::{Arriving, Large, Packed, Piece, SolidBlobs};
use crate::Error;

/// A solid resource on its way.
pub(super) struct SolidCut<O> {
    layout: ResourceLayout,
    pub(super) archive: usize,
    /// Blobs of the plan that lie in it and are not done yet.
    blobs: Range<usize>,
    /// The first of them, when its beginning was handed out.
    open: Option<(Arc<Large<O>>, u64)>,
    /// The chunk behind the last that was handed out.
    next_chunk: u64,
}

/// What the next item is to hold.
pub(super) struct SolidItem<O> {
    pub(super) chunks: Vec<Chunk>,
    pub(super) blobs: SolidBlobs<O>,
    pub(super) plain_len: usize,
}

impl<O> SolidCut<O> {
    pub(super) fn new(layout: ResourceLayout, archive: usize, blobs: Range<usize>) -> Self {
        Self { layout, archive, blobs, open: None, next_chunk: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.blobs.is_empty()
    }

    /// The stored ranges that will be read.
    pub(super) fn ranges(&self, all: &[BlobRead]) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for blob in all.get(self.blobs.clone()).unwrap_or_default() {
            for chunk in self.layout.chunks(place(blob)) {
                match ranges.last_mut() {
                    Some(last) if last.end >= chunk.stored.start => last.end = last.end.max(chunk.stored.end),
                    _ => ranges.push(chunk.stored),
                }
            }
        }
        ranges
    }

    /// The next item; `all` are the blobs of the plan, `open` prepares the target for a large one.
    pub(super) fn next(
        &mut self,
        all: &[BlobRead],
        mut open: impl FnMut(&BlobRead) -> Result<O, Error>,
    ) -> Result<SolidItem<O>, Error> {
        let range = self.next_chunks(all);
        let chunks: Vec<Chunk> = range.clone().map_while(|number| self.layout.chunk(number)).collect();
        let start = chunks.first().map_or(0, |chunk| chunk.plain_offset);
        let end = chunks.last().map_or(0, |chunk| chunk.plain().end);
        self.next_chunk = range.end;
        let at = |offset: u64| usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut blobs = SolidBlobs { continued: None, whole: Vec::new(), begun: None };
        while let Some(blob) = self.blobs.clone().next().and_then(|number| all.get(number)) {
            let place = place(blob);
            if place.start >= end {
                break;
            }
            let is_last = place.end <= end;
            let plain = at(place.start.max(start))..at(place.end.min(end));
            match self.open.take() {
                Some((large, number)) => {
                    if !is_last {
                        self.open = Some((Arc::clone(&large), number + 1));
                    }
                    let offset = start - place.start;
                    blobs.continued = Some(Piece { large, number, is_last, offset, plain, copied: None });
                }
                None if is_last => {
                    blobs.whole.push(Packed { blob: self.blobs.start, chunks: 0..0, plain, stored: 0..0 });
                }
                None => {
                    let arriving = match usize::try_from(blob.size) {
                        Ok(size) if size <= ITEM_BYTES => Arriving::Together(Mutex::new(vec![0; size])),
                        _ => Arriving::Target(open(blob)?),
                    };
                    let large = Arc::new(Large::new(self.blobs.start, blob.size, arriving));
                    self.open = Some((Arc::clone(&large), 1));
                    blobs.begun = Some(Piece { large, number: 0, is_last, offset: 0, plain, copied: None });
                }
            }
            if !is_last {
                break;
            }
            self.blobs.start += 1;
        }
        Ok(SolidItem { chunks, blobs, plain_len: at(end) })
    }

    /// The next chunks that are needed and stand side by side, as many as an item holds and at least one.
    fn next_chunks(&self, all: &[BlobRead]) -> Range<u64> {
        let size = u64::from(self.layout.chunk_size().max(1));
        let blobs = all.get(self.blobs.clone()).unwrap_or_default();
        let Some(first) = blobs.first() else { return 0..0 };
        // A blob whose beginning was handed out goes on with the chunk behind it.
        let start = if self.open.is_some() { self.next_chunk } else { place(first).start / size };
        let mut end = start + 1;
        let mut waiting = blobs.iter().peekable();
        while (end - start + 1) * size <= ITEM_BYTES as u64 {
            while waiting.next_if(|blob| place(blob).end <= end * size).is_some() {}
            if waiting.peek().is_none_or(|blob| place(blob).start >= (end + 1) * size) {
                break;
            }
            end += 1;
        }
        start..end
    }
}

/// Where a blob lies in the plain content of its resource; blobs that do not fit were refused with the blob table.
fn place(blob: &BlobRead) -> Range<u64> {
    let start = blob.in_solid.unwrap_or(0);
    start..start.saturating_add(blob.size)
}
