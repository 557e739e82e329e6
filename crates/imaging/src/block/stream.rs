//! A block image from a pipe becomes a device: read once, written as it comes. A chunk that occurred before is read back from where it was
//! written. Nothing looks bootable before the end of the stream said that all of it was there.
//!
//! What was written is read back from the medium as soon as the extents to look for take [`MAX_UNVERIFIED`], and at the end; what comes last
//! is held against memory. The table of a disk that is larger than the image's gets its copy at the new end.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::Ordering;

use gravure_blockimg::facts::Scope;
use gravure_blockimg::{
    ChunkId, Extent, ExtentKind, Facts, Frame, FrameDecoder, ImageStream, Root, StreamItem,
};
use gravure_linux::direct::AlignedBuffer;
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::apply::{
    BlockApplyOptions, BlockApplyReport, BlockVerify, Counts, Delta, Joined, Late, MAX_THREADS,
};
use super::apply::{check_target, discard_behind, refuse_data, write_late};
use super::blockimg;
use super::capture::MAX_KNOWN;
use super::read_back::{Comparison, differs, is_there};
use super::table_end::{self, AtEnd};
use crate::meter::{Context, Meter, default_threads};
use crate::stage::{self, Item, Outbox, Work};
use crate::volume::{ExistingData, VolumeDevice};
use crate::{Error, ErrorKind};

/// Extents that wait to be read back: 15 MiB, twice while they are looked for, and those of one region.
const MAX_UNVERIFIED: usize = 1 << 18;

/// An opened stream: its facts have been read.
pub struct BlockStream<R> {
    stream: ImageStream<R>,
    name: String,
}

impl<R> std::fmt::Debug for BlockStream<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<R: Read> BlockStream<R> {
    /// Reads the front of the stream.
    pub fn open(input: R, name: &str) -> Result<Self, Error> {
        let stream = ImageStream::open(input).map_err(blockimg(name))?;
        Ok(Self { stream, name: name.to_owned() })
    }

    /// What the image says of itself.
    pub fn facts(&self) -> &Facts {
        self.stream.facts()
    }
}

/// Where chunks of the region go that have not come yet, and what is known from before.
struct Regions<'a> {
    device: &'a dyn VolumeDevice,
    name: &'a str,
    counts: &'a Counts,
    late: Late,
    offset: u64,
    tables: Vec<(u64, ChunkId)>,
    /// Places of chunks of the open region that are still to come, and of those that came.
    expected: HashMap<ChunkId, Vec<u64>>,
    /// Where chunks were written, in the order in which the writer remembered them.
    known: HashMap<ChunkId, u64>,
    late_chunks: Vec<(u64, Vec<u8>)>,
    data_bytes: u64,
    is_blank: bool,
    /// Copies to be made when the frames before them are written.
    copies: Vec<Extent>,
    /// How what was written is read back; `None` when it is not.
    verify: Option<Context<'a>>,
    /// What is to be read back, and of what comes last, what is there by its zeros.
    unverified: Vec<Extent>,
    late_zeros: Vec<Extent>,
    verified: u64,
}

/// A frame with the places of its entries.
struct Job {
    frame: Frame,
    places: Vec<Vec<u64>>,
}

struct Decoder<'a> {
    decoder: FrameDecoder,
    device: &'a dyn VolumeDevice,
    late: Late,
    counts: &'a Counts,
    name: &'a str,
    joined: AlignedBuffer,
}

type Written = (u64, Vec<(u64, Vec<u8>)>);

impl Work<Job, Vec<u8>, Result<Written, Error>> for Decoder<'_> {
    fn work(&mut self, mut item: Item<Job, Vec<u8>>, out: &Outbox<Result<Written, Error>, Vec<u8>>) {
        let written = self.write(&item.job, &mut item.permit);
        out.done(item.ticket, written, item.permit);
    }
}

impl Decoder<'_> {
    fn write(&mut self, job: &Job, plain: &mut Vec<u8>) -> Result<Written, Error> {
        self.decoder.decode(&job.frame, plain).map_err(blockimg(self.name))?;
        let (mut bytes, mut late) = (0, Vec::new());
        let mut joined = Joined::new(self.device, self.counts, &mut self.joined);
        let mut start = 0;
        for (entry, places) in job.frame.header.entries.iter().zip(&job.places) {
            let content = &plain[start..start + entry.len as usize];
            start += entry.len as usize;
            for offset in places {
                bytes += content.len() as u64;
                if self.late.has(*offset..*offset + content.len() as u64) {
                    late.push((*offset, content.to_vec()));
                } else {
                    joined.push(*offset, content)?;
                }
            }
        }
        joined.flush()?;
        Ok((bytes, late))
    }
}

impl Regions<'_> {
    fn corrupt(&self, what: &'static str, expected: String, found: String) -> Error {
        blockimg(self.name)(gravure_blockimg::Error::Corrupt {
            what: what.into(),
            offset: self.offset,
            expected: expected.into(),
            found,
        })
    }

    /// Takes the next table: zeroes and discards, and notes where chunks go.
    fn table(&mut self, table: &[u8], id: ChunkId) -> Result<(), Error> {
        self.end_region()?;
        if self.unverified.len() >= MAX_UNVERIFIED {
            self.read_back()?;
        }
        let len = gravure_blockimg::table_len(table).map_err(blockimg(self.name))?;
        let extents = gravure_blockimg::parse_table(table, self.offset, len).map_err(blockimg(self.name))?;
        if extents.is_empty() || self.offset + len > self.device.size() {
            let expected = format!("1 to {} bytes", self.device.size() - self.offset);
            return Err(self.corrupt("region", expected, len.to_string()));
        }
        for extent in &extents {
            let range = extent.offset..extent.end();
            if self.verify.is_some() && (extent.id().is_some() || extent.reads_zero()) {
                match (self.late.has(range.clone()), extent.id()) {
                    (false, _) => self.unverified.push(*extent),
                    (true, None) => self.late_zeros.push(*extent),
                    // In memory until it is written.
                    (true, Some(_)) => {}
                }
            }
            match extent.kind {
                ExtentKind::Data(id) => {
                    self.data_bytes += extent.len;
                    if self.known.contains_key(&id) && !self.expected.contains_key(&id) {
                        self.copies.push(*extent);
                    } else {
                        self.expected.entry(id).or_default().push(extent.offset);
                        if self.known.len() < MAX_KNOWN {
                            self.known.entry(id).or_insert(extent.offset);
                        }
                    }
                }
                _ if self.is_blank => {}
                _ if extent.reads_zero() => {
                    self.device.zero_range(range).map_err(Error::io("zero", self.device.name()))?;
                    self.counts.zeroed.fetch_add(extent.len, Ordering::Relaxed);
                }
                _ => {
                    self.device.discard(range).map_err(Error::io("discard", self.device.name()))?;
                    self.counts.discarded.fetch_add(extent.len, Ordering::Relaxed);
                }
            }
        }
        self.tables.push((len, id));
        self.offset += len;
        Ok(())
    }

    /// Where the entries of a frame go. Chunks that nobody asked for are refused: every byte belongs to an id.
    fn places(&mut self, frame: &Frame) -> Result<Vec<Vec<u64>>, Error> {
        let mut out = Vec::new();
        for entry in &frame.header.entries {
            match self.expected.get_mut(&entry.id).map(std::mem::take) {
                Some(places) if !places.is_empty() => out.push(places),
                _ => {
                    let expected = "a chunk of the region that has not come yet".to_owned();
                    return Err(self.corrupt("frame", expected, entry.id.to_string()));
                }
            }
        }
        Ok(out)
    }

    /// Everything of the region must have come.
    fn end_region(&mut self) -> Result<(), Error> {
        if let Some((id, _)) = self.expected.iter().find(|(_, places)| !places.is_empty()) {
            let expected = format!("chunk {id}");
            return Err(self.corrupt("region", expected, "its end".to_owned()));
        }
        self.expected.clear();
        Ok(())
    }

    /// Chunks that occurred in earlier regions. Called when those are written.
    fn copy(&mut self) -> Result<u64, Error> {
        let mut bytes = 0;
        for extent in std::mem::take(&mut self.copies) {
            let Some((id, from)) = extent.id().and_then(|id| Some((id, *self.known.get(&id)?))) else {
                continue;
            };
            let from_late = self
                .late_chunks
                .iter()
                .find(|(offset, content)| *offset == from && content.len() as u64 == extent.len);
            let content = match from_late {
                Some((_, content)) => content.clone(),
                None => {
                    let read = self.device.read_vec_at(from, extent.len as usize);
                    read.map_err(Error::io("read", self.device.name()))?
                }
            };
            if ChunkId::of(&content) != id {
                let path = format!("{} at {from:#x}", self.device.name());
                let (expected, found) = (id.to_string(), ChunkId::of(&content).to_string());
                return Err(Error::Differs { path, what: "BLAKE3", expected, found, more: 0 });
            }
            bytes += extent.len;
            if self.late.has(extent.offset..extent.end()) {
                self.late_chunks.push((extent.offset, content));
            } else {
                let written = self.device.write_all_at(extent.offset, &content);
                written.map_err(Error::io("write", self.device.name()))?;
                self.counts.written.fetch_add(content.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(bytes)
    }

    /// Holds the device against what was written since the last time. Called when all of that is written.
    fn read_back(&mut self) -> Result<(), Error> {
        let Some(context) = self.verify else { return Ok(()) };
        let extents = std::mem::take(&mut self.unverified);
        let device = self.device;
        device.sync().map_err(Error::io("sync", device.name()))?;
        device.drop_cache()?;
        let mut next = Some(extents.clone());
        let comparison =
            Comparison { context, device, is_wanted: &|_| true, on_bytes: &|_| (), faulty: None };
        self.verified +=
            comparison.run(|| Ok(next.take()), &mut |(_, differing)| match differing.first() {
                None => Ok(()),
                Some(first) => Err(differs(device, &extents[*first], differing.len() as u64 - 1)),
            })?;
        Ok(())
    }

    /// The same for what came last: `pieces` as they were written, and zeros that nothing of it lies in.
    fn read_back_late(&mut self, pieces: &[(u64, Vec<u8>)]) -> Result<(), Error> {
        let device = self.device;
        device.drop_cache()?;
        for (offset, bytes) in pieces {
            let found = device.read_vec_at(*offset, bytes.len()).map_err(Error::io("read", device.name()))?;
            if found != *bytes {
                let kind = ExtentKind::Data(ChunkId::of(bytes));
                return Err(differs(device, &Extent { offset: *offset, len: bytes.len() as u64, kind }, 0));
            }
            self.verified += bytes.len() as u64;
        }
        let mut buf = Vec::new();
        for extent in &self.late_zeros {
            let is_changed = |(start, bytes): &(u64, Vec<u8>)| {
                *start < extent.end() && start + bytes.len() as u64 > extent.offset
            };
            if pieces.iter().any(is_changed) {
                continue;
            }
            if !is_there(device, extent, &mut buf)? {
                return Err(differs(device, extent, 0));
            }
            self.verified += extent.len;
        }
        Ok(())
    }

    fn check_root(&self, root: &Root) -> Result<(), Error> {
        let found: Vec<(u64, ChunkId)> =
            root.regions.iter().map(|region| (region.len, region.table)).collect();
        if found != self.tables || root.size != self.offset {
            let expected = format!("the {} regions that came", self.tables.len());
            return Err(self.corrupt("root", expected, format!("{} regions", found.len())));
        }
        Ok(())
    }
}

/// What ended a run of frames.
enum Ended {
    Table(Vec<u8>, ChunkId),
    End(Box<Root>),
}

/// Restores a stream onto `device`. Everything is written; what stands there is not looked at, and [`Delta::Always`] is refused.
pub fn apply_block_stream<R: Read + Send>(
    input: BlockStream<R>,
    device: &dyn VolumeDevice,
    options: &BlockApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockApplyReport, Error> {
    let BlockStream { mut stream, name } = input;
    let threads = options.threads.unwrap_or_else(default_threads).clamp(1, MAX_THREADS);
    let context = Context { ctl, observer, threads };
    let meter = Meter::start(&context, &options.stage);
    let (source, scope) = (stream.facts().source.clone(), stream.facts().scope);
    let counted_in = stream.facts().table.as_ref().and_then(|table| table.sector_bytes);
    let sector_bytes = counted_in.unwrap_or(source.sector_bytes);
    check_target(&name, source.size_bytes, sector_bytes, scope, device)?;
    if options.delta == Delta::Always {
        return Err(Error::Refused {
            what: format!("comparing {} with {name} first", device.name()),
            why: "an image from a pipe comes once, as it is written".to_owned(),
        });
    }
    if options.existing == ExistingData::Refuse && !options.is_blank {
        refuse_data(device)?;
    }
    let counts = Counts::default();
    let late = Late::of(source.size_bytes);
    late.erase(device)?;
    if !options.is_blank {
        discard_behind(device, source.size_bytes, &counts)?;
    }
    let mut regions = Regions {
        device,
        name: &name,
        counts: &counts,
        late,
        offset: 0,
        tables: Vec::new(),
        expected: HashMap::new(),
        known: HashMap::new(),
        late_chunks: Vec::new(),
        data_bytes: 0,
        is_blank: options.is_blank,
        copies: Vec::new(),
        verify: (options.verify == BlockVerify::Full).then_some(context),
        unverified: Vec::new(),
        late_zeros: Vec::new(),
        verified: 0,
    };
    let root = loop {
        match region(&mut stream, &mut regions, threads, ctl, &meter)? {
            Ended::Table(table, id) => regions.table(&table, id)?,
            Ended::End(root) => break root,
        }
    };
    regions.end_region()?;
    regions.check_root(&root)?;
    if source.size_bytes != root.size {
        return Err(regions.corrupt("root", format!("{} bytes", source.size_bytes), root.size.to_string()));
    }
    let fetched = counts.fetched.load(Ordering::Relaxed);
    device.sync().map_err(Error::io("sync", device.name()))?;
    regions.read_back()?;
    let (tree, data_bytes) = (root.tree_hash(), regions.data_bytes);
    let mut pieces = std::mem::take(&mut regions.late_chunks);
    let mut notes = Vec::new();
    if scope == Scope::Disk {
        match table_end::judge(&pieces, root.size, device)? {
            AtEnd::Fits => {}
            AtEnd::Moved(changed) => {
                changed.iter().for_each(|(offset, bytes)| table_end::overlay(&mut pieces, *offset, bytes));
                notes.push(format!(
                    "table written for {} bytes, not {}: its copy stands at the end of this disk",
                    device.size(),
                    root.size
                ));
            }
            AtEnd::Stays(why) => {
                meter.skip(|| format!("{}: {why}", device.name()));
            }
        }
    }
    let finished = write_late(device, pieces.clone(), &counts).and_then(|()| match options.verify {
        BlockVerify::Full => regions.read_back_late(&pieces),
        BlockVerify::Decode => Ok(()),
    });
    if let Err(error) = finished {
        // What is not known to be right must not start; the first error is the one that is told.
        drop(regions.late.erase(device));
        return Err(error);
    }
    let verified_bytes = regions.verified;
    let totals = meter.finish();
    Ok(BlockApplyReport {
        size_bytes: root.size,
        data_bytes,
        fetched_bytes: fetched,
        written_bytes: counts.written.load(Ordering::Relaxed),
        zeroed_bytes: counts.zeroed.load(Ordering::Relaxed),
        discarded_bytes: counts.discarded.load(Ordering::Relaxed),
        unreadable_bytes: root.outcome.unreadable_bytes,
        tree: Some(tree),
        verified_bytes,
        is_verified: options.verify == BlockVerify::Full,
        notes,
        warnings: totals.warnings,
        skipped: totals.skipped,
        milliseconds: totals.milliseconds,
        ..BlockApplyReport::default()
    })
}

/// Reads and writes frames up to the next table or the end.
fn region<R: Read + Send>(
    stream: &mut ImageStream<R>,
    regions: &mut Regions<'_>,
    threads: usize,
    ctl: &Ctl,
    meter: &Meter<'_>,
) -> Result<Ended, Error> {
    let mut workers = Vec::new();
    for _ in 0..threads {
        workers.push(Decoder {
            decoder: FrameDecoder::new().map_err(blockimg(regions.name))?,
            device: regions.device,
            late: regions.late.clone(),
            counts: regions.counts,
            name: regions.name,
            joined: AlignedBuffer::default(),
        });
    }
    let mut ended = None;
    let mut late = Vec::new();
    let permits = (0..threads + 4).map(|_| Vec::new()).collect();
    let source = |_: &mut Vec<u8>| match stream.next_item().map_err(blockimg(regions.name))? {
        StreamItem::Data(frame) => {
            regions.counts.fetched.fetch_add(frame.header.frame_len(), Ordering::Relaxed);
            let places = regions.places(&frame)?;
            Ok(Some(Job { frame, places }))
        }
        StreamItem::Table(table, id) => {
            ended = Some(Ended::Table(table, id));
            Ok(None)
        }
        StreamItem::End { root, .. } => {
            ended = Some(Ended::End(root));
            Ok(None)
        }
    };
    stage::run(ctl, permits, workers, source, |written: Result<Written, Error>, _| {
        let (bytes, chunks) = written?;
        meter.add(bytes);
        late.extend(chunks);
        Ok(())
    })?;
    regions.late_chunks.extend(late);
    meter.add(regions.copy()?);
    ended.ok_or_else(|| Error::Other {
        what: format!("read {}", regions.name),
        source: "the stream ended without a word".into(),
        kind: ErrorKind::Failed,
    })
}
