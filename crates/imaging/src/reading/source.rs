//! The reading end of the stage: takes blobs in archive order and fills buffers with stored chunks, many small blobs
//! together or one piece of a large one.

use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_wim::{Chunk, ResourceLayout};

use super::plan::{BlobRead, Copying, ReadPlan};
use super::solid::{SolidCut, SolidItem};
use super::{Arriving, Buffers, ChunkIn, Copied, Damaged, Failure, Job, Large, Packed, Piece, Target};
use crate::Error;
use crate::archive::{Archive, Archives};
use crate::read_ahead::ReadAhead;

/// Plain bytes per item: large enough that handing it over costs nothing, small enough that two cores both find work
/// near the end and that the memory of all items in flight stays small.
pub(crate) const ITEM_BYTES: usize = 512 << 10;
/// Nodes without content per item.
pub(super) const NODES_PER_ITEM: usize = 64;

/// Hands out jobs until the plan is done.
pub(crate) struct Source<'a, T: Target> {
    plan: &'a ReadPlan,
    readers: Vec<ReadAhead<'a>>,
    archives: &'a Archives,
    target: &'a T,
    handles: T::Handles,
    next_nodes: usize,
    next_inline: usize,
    next_blob: usize,
    /// The large blob that is being cut into pieces.
    cutting: Option<Cutting<T::Open>>,
    /// The solid resource whose chunks are being handed out.
    solid: Option<SolidCut<T::Open>>,
    /// The layout of the next blob, when it was read and the blob did not fit any more.
    ready: Option<Result<ResourceLayout, String>>,
}

struct Cutting<O> {
    large: Arc<Large<O>>,
    layout: ResourceLayout,
    archive: usize,
    next_chunk: u64,
    next_number: u64,
}

impl<'a, T: Target> Source<'a, T> {
    pub(crate) fn new(plan: &'a ReadPlan, archives: &'a Archives, target: &'a T) -> Self {
        let reader = |(number, archive): (usize, &'a Archive)| {
            let ranges = plan.ranges(archives, number, 0);
            ReadAhead::new(archive.source(), &ranges)
        };
        let readers = archives.iter().map(reader).collect();
        let handles = target.handles();
        Self {
            plan,
            readers,
            archives,
            target,
            handles,
            next_nodes: 0,
            next_inline: 0,
            next_blob: 0,
            cutting: None,
            solid: None,
            ready: None,
        }
    }

    /// The next job, its stored bytes in `buffers`.
    pub(crate) fn next(&mut self, buffers: &mut Buffers) -> Result<Option<Job<T::Open>>, Error> {
        buffers.stored.clear();
        buffers.chunks.clear();
        if self.cutting.is_some() {
            return self.cut(buffers).map(Some);
        }
        if self.solid.is_some() {
            return self.cut_solid(buffers).map(Some);
        }
        if let nodes @ [_, ..] = self.plan.nodes.get(self.next_nodes..).unwrap_or_default() {
            let end = self.next_nodes + nodes.len().min(NODES_PER_ITEM);
            let job = Job::Nodes(self.next_nodes..end);
            self.next_nodes = end;
            return Ok(Some(job));
        }
        if self.next_inline < self.plan.inline.len() {
            self.next_inline += 1;
            return Ok(Some(Job::Inline(self.next_inline - 1)));
        }
        match self.plan.blobs.get(self.next_blob) {
            Some(blob) if blob.in_solid.is_some() => self.start_solid(blob, buffers).map(Some),
            _ => self.pack(buffers),
        }
    }

    /// The first chunks of a solid resource, for all blobs of the plan that lie in it.
    fn start_solid(&mut self, first: &BlobRead, buffers: &mut Buffers) -> Result<Job<T::Open>, Error> {
        let rest = self.plan.blobs.get(self.next_blob..).unwrap_or_default();
        let same = |blob: &&BlobRead| (blob.archive, blob.resource) == (first.archive, first.resource);
        let blobs = self.next_blob..self.next_blob + rest.iter().take_while(same).count();
        let layout = self.layout(self.next_blob)?;
        self.next_blob = blobs.end;
        match layout {
            Ok(layout) => {
                let solid = SolidCut::new(layout, first.archive, blobs);
                let mut ranges = solid.ranges(&self.plan.blobs);
                ranges.extend(self.plan.ranges(self.archives, first.archive, self.next_blob));
                self.readers[first.archive].will_read(&ranges);
                self.solid = Some(solid);
                self.cut_solid(buffers)
            }
            Err(found) => Ok(Job::Damaged(blobs.map(|blob| unreadable(blob, &found)).collect())),
        }
    }

    /// The next chunks of the solid resource.
    fn cut_solid(&mut self, buffers: &mut Buffers) -> Result<Job<T::Open>, Error> {
        let Some(mut solid) = self.solid.take() else { return Ok(Job::Nodes(0..0)) };
        let (target, handles) = (self.target, &mut self.handles);
        let item = match solid.next(&self.plan.blobs, |blob| target.open(handles, &blob.uses)) {
            Ok(item) => item,
            Err(error) => return Ok(Job::Damaged(vec![Failure::Other(error)])),
        };
        let SolidItem { chunks, blobs, plain_len } = item;
        self.read(solid.archive, &chunks, None, buffers)?;
        self.solid = Some(solid).filter(|solid| !solid.is_done());
        Ok(Job::Solid { blobs, plain_len })
    }

    /// As many small blobs as fit, or the first piece of a large one, or one that cannot be read.
    fn pack(&mut self, buffers: &mut Buffers) -> Result<Option<Job<T::Open>>, Error> {
        let mut packed = Vec::new();
        let mut plain_len = 0;
        while let Some(blob) = self.plan.blobs.get(self.next_blob).filter(|blob| blob.in_solid.is_none()) {
            let index = self.next_blob;
            let layout = match self.ready.take() {
                Some(layout) => layout,
                None => self.layout(index)?,
            };
            let small = usize::try_from(blob.size).ok().filter(|size| *size <= ITEM_BYTES);
            let fits = layout.is_ok() && small.is_some_and(|size| plain_len + size <= ITEM_BYTES);
            if !fits && !packed.is_empty() {
                self.ready = Some(layout);
                break;
            }
            self.next_blob += 1;
            match (layout, small) {
                (Err(found), _) => return Ok(Some(Job::Damaged(vec![unreadable(index, &found)]))),
                (Ok(layout), None) => {
                    let large = match self.target.open(&mut self.handles, &blob.uses) {
                        Ok(open) => Arc::new(Large::new(index, blob.size, Arriving::Target(open))),
                        Err(error) => return Ok(Some(Job::Damaged(vec![Failure::Other(error)]))),
                    };
                    let archive = blob.archive;
                    self.cutting = Some(Cutting { large, layout, archive, next_chunk: 0, next_number: 0 });
                    return self.cut(buffers).map(Some);
                }
                (Ok(layout), Some(size)) => {
                    let first = buffers.chunks.len();
                    let chunks: Vec<Chunk> = layout.chunks(0..blob.size).collect();
                    let (start, base) = (resource_start(blob), buffers.stored.len());
                    self.read(blob.archive, &chunks, start, buffers)?;
                    packed.push(Packed {
                        blob: index,
                        chunks: first..buffers.chunks.len(),
                        plain: plain_len..plain_len + size,
                        stored: if start.is_some() { base..buffers.stored.len() } else { 0..0 },
                    });
                    plain_len += size;
                }
            }
        }
        Ok((!packed.is_empty()).then_some(Job::Pack { blobs: packed, plain_len }))
    }

    /// The next piece of the large blob.
    fn cut(&mut self, buffers: &mut Buffers) -> Result<Job<T::Open>, Error> {
        let Some(mut cutting) = self.cutting.take() else { return Ok(Job::Nodes(0..0)) };
        let per_piece = (ITEM_BYTES as u64 / u64::from(cutting.layout.chunk_size().max(1))).max(1);
        let end = (cutting.next_chunk + per_piece).min(cutting.layout.chunk_count());
        let chunks: Vec<Chunk> = (cutting.next_chunk..end).map_while(|n| cutting.layout.chunk(n)).collect();
        let blob = &self.plan.blobs[cutting.large.blob];
        let start = resource_start(blob).filter(|_| cutting.next_chunk == 0);
        self.read(cutting.archive, &chunks, start, buffers)?;
        let copied = chunks.first().filter(|_| blob.copying != Copying::Not).map(|first| Copied {
            offset: start.unwrap_or(first.stored.start).saturating_sub(blob.offset),
            stored: 0..buffers.stored.len(),
        });
        let offset = chunks.first().map_or(0, |chunk| chunk.plain_offset);
        let plain_len = chunks.iter().map(|chunk| chunk.plain_len as usize).sum();
        let number = cutting.next_number;
        let is_last = end >= cutting.layout.chunk_count();
        let large = Arc::clone(&cutting.large);
        if !is_last {
            cutting.next_chunk = end;
            cutting.next_number += 1;
            self.cutting = Some(cutting);
        }
        let piece = Piece { large, number, is_last, offset, plain: 0..plain_len, copied };
        Ok(Job::Piece { piece, plain_len })
    }

    /// Reads stored chunks, which lie side by side, in one go, with the bytes from `from` on before them.
    fn read(
        &mut self,
        archive: usize,
        chunks: &[Chunk],
        from: Option<u64>,
        buffers: &mut Buffers,
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let (start, end) = (from.unwrap_or(first.stored.start), last.stored.end);
        let base = buffers.stored.len();
        // Bounded by the layout: at most one item or chunk of plain bytes, with prefixes of 4 bytes per chunk, or with the
        // table of chunks, which the layout holds in memory as well.
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        buffers.stored.resize(base + len, 0);
        let read = self.readers[archive].read_exact_at(start, &mut buffers.stored[base..]);
        read.map_err(|error| self.archives.get(archive).read_error(start, error))?;
        for chunk in chunks {
            let at = |offset: u64| base + usize::try_from(offset - start).unwrap_or(usize::MAX);
            buffers.chunks.push(ChunkIn {
                stored: at(chunk.stored.start)..at(chunk.stored.end),
                plain_len: chunk.plain_len as usize,
                encoding: chunk.encoding,
            });
        }
        Ok(())
    }

    /// The layout of the resource of blob `index`. What spoils this resource only is told in words; that it asks for more than
    /// it is granted is no damage.
    fn layout(&self, index: usize) -> Result<Result<ResourceLayout, String>, Error> {
        let blob = &self.plan.blobs[index];
        let archive = self.archives.get(blob.archive);
        match archive.layout(&self.readers[blob.archive], blob.id) {
            Ok(layout) => Ok(Ok(layout)),
            Err(error @ gravure_wim::Error::Limit { .. }) => Err(Error::wim(archive.name())(error)),
            Err(error) if error.scope() == gravure_wim::Scope::Blob => Ok(Err(error.to_string())),
            Err(error) => Err(Error::wim(archive.name())(error)),
        }
    }
}

/// Where the resource of a blob that is to be copied starts.
fn resource_start(blob: &BlobRead) -> Option<u64> {
    (blob.copying != Copying::Not).then_some(blob.offset)
}

/// A blob of which nothing can be decoded.
fn unreadable(blob: usize, found: &str) -> Failure {
    Failure::Content(Damaged { blob, found: found.to_owned(), is_kept: false })
}
