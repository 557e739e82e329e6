//! A block image as a device to read from, without restoring it: what is served to others, exported to virtual disks, and browsed.
//! Chunks are checked against their ids before a byte of them is given out.
//!
//! **Memory:** decoded frames (32 MiB by default), tables of eight regions, and what one read needs.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gravure_blockimg::{ChunkId, Extent, FrameDecoder};
use gravure_io::ReadAt;

use super::blockimg;
use super::image::{BlockImage, FrameAt, Placed};
use crate::meter::default_threads;
use crate::{Error, ErrorKind};

/// Decoded frames kept.
const CACHE_BYTES: usize = 32 << 20;
/// Regions whose extents are kept.
const CACHED_REGIONS: usize = 8;
/// Threads that decode for one read.
const MAX_THREADS: usize = 8;

/// A block image, read as the device it was made of. What is free, excluded or could not be read is zeros.
pub struct BlockImageAt {
    image: Arc<BlockImage>,
    threads: usize,
    /// Last used last.
    views: Mutex<Vec<(usize, Arc<View>)>>,
    frames: Mutex<Frames>,
    decoders: Mutex<Vec<FrameDecoder>>,
}

impl std::fmt::Debug for BlockImageAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockImageAt").field("image", &self.image).finish_non_exhaustive()
    }
}

/// The extents of a region and where their chunks are.
struct View {
    extents: Vec<Extent>,
    /// By position in `extents`; filled when wanted where every place has to be looked up.
    places: Mutex<HashMap<usize, Placed>>,
}

/// A decoded frame.
struct Decoded {
    /// Chunks and where they are in `plain`.
    entries: Vec<(ChunkId, Range<usize>)>,
    plain: Vec<u8>,
}

/// The last used frames.
#[derive(Default)]
struct Frames {
    kept: HashMap<Key, (Arc<Decoded>, u64)>,
    bytes: usize,
    clock: u64,
}

/// Pack and offset of a frame; the pack of a file is zeros.
type Key = (ChunkId, u64);

impl Frames {
    fn get(&mut self, key: &Key) -> Option<Arc<Decoded>> {
        self.clock += 1;
        let (frame, used) = self.kept.get_mut(key)?;
        *used = self.clock;
        Some(Arc::clone(frame))
    }

    fn put(&mut self, key: Key, frame: &Arc<Decoded>) {
        self.clock += 1;
        while self.bytes + frame.plain.len() > CACHE_BYTES {
            let Some(oldest) = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            else {
                break;
            };
            if let Some((frame, _)) = self.kept.remove(&oldest) {
                self.bytes -= frame.plain.len();
            }
        }
        if let Some((old, _)) = self.kept.insert(key, (Arc::clone(frame), self.clock)) {
            self.bytes -= old.plain.len();
        }
        self.bytes += frame.plain.len();
    }
}

/// A part of a chunk that a read wants.
struct Part {
    at: FrameAt,
    entry: usize,
    id: ChunkId,
    len: u64,
    /// First byte in the chunk.
    from: usize,
    /// Where it goes.
    to: Range<usize>,
}

impl BlockImageAt {
    /// Reads from `image`.
    pub fn new(image: BlockImage) -> Self {
        Self {
            image: Arc::new(image),
            threads: default_threads().min(MAX_THREADS),
            views: Mutex::default(),
            frames: Mutex::default(),
            decoders: Mutex::default(),
        }
    }

    /// The image.
    pub fn image(&self) -> &BlockImage {
        &self.image
    }

    fn with_decoder<T>(&self, work: impl FnOnce(&mut FrameDecoder) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.decoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = match idle {
            Some(decoder) => decoder,
            None => FrameDecoder::new().map_err(blockimg(self.image.name()))?,
        };
        let done = work(&mut decoder);
        self.decoders.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
        done
    }

    fn view(&self, region: usize) -> Result<Arc<View>, Error> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = views.iter().position(|(known, _)| *known == region) {
            let found = views.remove(at);
            views.push(found);
            return Ok(Arc::clone(&views[views.len() - 1].1));
        }
        drop(views);
        let view = self.with_decoder(|decoder| {
            let extents = self.image.extents(decoder, region)?;
            let places = self.image.places(decoder, region, &extents)?;
            Ok(Arc::new(View { extents, places: Mutex::new(places) }))
        })?;
        views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() >= CACHED_REGIONS {
            views.remove(0);
        }
        views.push((region, Arc::clone(&view)));
        Ok(view)
    }

    fn place(&self, view: &View, at: usize, id: &ChunkId) -> Result<Placed, Error> {
        if let Some(place) = view.places.lock().unwrap_or_else(PoisonError::into_inner).get(&at) {
            return Ok(*place);
        }
        let place = self.image.find(id)?;
        view.places.lock().unwrap_or_else(PoisonError::into_inner).insert(at, place);
        Ok(place)
    }

    /// The region that holds byte `offset`.
    fn region_at(&self, offset: u64) -> usize {
        self.image.root().regions.partition_point(|region| region.offset + region.len <= offset)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let end = offset + buf.len() as u64;
        let mut parts = Vec::new();
        let mut region = self.region_at(offset);
        let mut at = offset;
        while at < end {
            let Some(found) = self.image.root().regions.get(region) else { break };
            let stop = end.min(found.offset + found.len);
            if found.data_bytes == 0 {
                buf[(at - offset) as usize..(stop - offset) as usize].fill(0);
                at = stop;
            }
            let view = if at < stop { Some(self.view(region)?) } else { None };
            while let Some(view) = view.as_ref().filter(|_| at < stop) {
                let index = view.extents.partition_point(|extent| extent.end() <= at);
                let extent = view.extents[index];
                let extent_stop = stop.min(extent.end());
                let to = (at - offset) as usize..(extent_stop - offset) as usize;
                match extent.id() {
                    Some(id) => {
                        let Placed { at: frame, entry } = self.place(view, index, &id)?;
                        let from = (at - extent.offset) as usize;
                        parts.push(Part { at: frame, entry: entry as usize, id, len: extent.len, from, to });
                    }
                    None => buf[to].fill(0),
                }
                at = extent_stop;
            }
            region += 1;
        }
        let frames = self.frames_of(&parts)?;
        for part in parts {
            let frame = frames.get(&part.at.key());
            let chunk = frame
                .and_then(|frame| Some((frame, frame.entries.get(part.entry)?)))
                .filter(|(_, (id, place))| *id == part.id && place.len() as u64 == part.len)
                .and_then(|(frame, (_, place))| frame.plain.get(place.clone()));
            let content = chunk.and_then(|chunk| chunk.get(part.from..part.from + part.to.len()));
            let content = content.ok_or_else(|| Error::Other {
                what: format!("read {}", self.image.name()),
                source: format!("chunk {} is not where it should be", part.id).into(),
                kind: ErrorKind::Integrity,
            })?;
            buf[part.to].copy_from_slice(content);
        }
        Ok(())
    }

    /// The decoded frames that `parts` lie in; those that are not kept are decoded side by side.
    fn frames_of(&self, parts: &[Part]) -> Result<HashMap<Key, Arc<Decoded>>, Error> {
        let mut found = HashMap::new();
        let mut missing: Vec<FrameAt> = Vec::new();
        {
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            for part in parts {
                let key = part.at.key();
                if found.contains_key(&key) || missing.iter().any(|at| at.key() == key) {
                    continue;
                }
                match frames.get(&key) {
                    Some(frame) => drop(found.insert(key, frame)),
                    None => missing.push(part.at),
                }
            }
        }
        let decoded = match missing.as_slice() {
            [] => Vec::new(),
            [only] => vec![(only.key(), Arc::new(self.decode(only)?))],
            several => self.decode_all(several)?,
        };
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, frame) in decoded {
            frames.put(key, &frame);
            found.insert(key, frame);
        }
        Ok(found)
    }

    fn decode_all(&self, wanted: &[FrameAt]) -> Result<Vec<(Key, Arc<Decoded>)>, Error> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut out = Vec::new();
            while let Some(at) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                out.push((at.key(), Arc::new(self.decode(at)?)));
            }
            Ok(out)
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..self.threads.min(wanted.len())).map(|_| scope.spawn(work)).collect();
            let mut all: Result<Vec<_>, Error> = work();
            for helper in helpers {
                let done = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                match (&mut all, done) {
                    (Ok(all), Ok(done)) => all.extend(done),
                    (Ok(_), Err(error)) => all = Err(error),
                    (Err(_), _) => {}
                }
            }
            all
        })
    }

    fn decode(&self, at: &FrameAt) -> Result<Decoded, Error> {
        let mut plain = Vec::new();
        let header = self.with_decoder(|decoder| self.image.decoded(at, decoder, &mut plain))?;
        let mut start = 0;
        let entries = header.entries.iter().map(|entry| {
            let place = start..start + entry.len as usize;
            start = place.end;
            (entry.id, place)
        });
        Ok(Decoded { entries: entries.collect(), plain })
    }
}

impl ReadAt for BlockImageAt {
    fn size(&self) -> u64 {
        self.image.root().size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read(offset, buf).map_err(io::Error::other)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let first = self.region_at(offset);
        for (index, region) in self.image.root().regions.iter().enumerate().skip(first) {
            if region.data_bytes == 0 {
                continue;
            }
            let view = self.view(index).map_err(io::Error::other)?;
            let mut data: Option<Range<u64>> = None;
            for extent in view.extents.iter().filter(|extent| extent.end() > offset) {
                match (&mut data, extent.id()) {
                    (None, Some(_)) => data = Some(extent.offset.max(offset)..extent.end()),
                    (Some(data), Some(_)) => data.end = extent.end(),
                    (Some(_), None) => break,
                    (None, None) => {}
                }
            }
            if data.is_some() {
                return Ok(data);
            }
        }
        Ok(None)
    }
}
