//! A device becomes a block image. Two stages of the parallel pipeline: pieces are read and hashed on all cores, put in order and
//! compared with what is known; what is new is compressed on all cores and written in order. The bytes of an image file do
//! not depend on the number of threads.
//!
//! **Memory:** 12 pieces of 1 MiB and 16 frames, plain and compressed, with the eight threads at most that work; one region of
//! compressed frames (32 MiB at most), 80 MiB for what is known and where it is, a pack and its copy (48 MiB) where the target is a
//! store; with the map of used blocks (48 MiB at most) below 256 MiB at any size.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};
use gravure_blockimg::facts::{Facts, MAX_UNREADABLE, Outcome, Unreadable};
use gravure_blockimg::limits::{GROUP_BYTES, SMALL_CHUNK_BYTES};
use gravure_blockimg::{
    ChunkId, Cut, Cutter, Entry, ExtentKind, FileSpan, Frame, FrameEncoder, FrameKind, ImageWriter, Location,
    Region, RegionBuilder, Root, UsedSpan, write_location,
};
use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::source::read_around;
use super::{blockimg, store_error};
use crate::meter::{Context, Meter, default_threads};
use crate::stage::{self, Item, Outbox, Work};
use crate::{Error, ErrorKind};

/// Bytes read for one item.
const BATCH_BYTES: usize = 1 << 20;
/// Pieces in one item.
const BATCH_CUTS: usize = 2048;
/// Threads at most: eight compress 3 GB/s, and each needs memory.
const MAX_THREADS: usize = 8;
/// Ids remembered: the table for them takes 48 MiB. Readers of streams count on the same number (`FORMAT.md`).
pub(super) const MAX_KNOWN: usize = 917_504;

/// What of a device is kept, and how it is cut.
#[derive(Debug, Clone, Default)]
pub struct BlockLayout {
    /// What is in use, ascending.
    pub used: Vec<UsedSpan>,
    /// Where files lie, ascending.
    pub files: Vec<FileSpan>,
}

/// How a block image is made.
#[derive(Debug, Clone)]
pub struct BlockCaptureOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Level of zstd.
    pub level: i32,
    /// Sectors that cannot be read become zeros and are recorded; else the first one ends the capture.
    pub bad_sectors: BadSectors,
}

/// What happens when a sector cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadSectors {
    /// Zeros take its place, the image says so, and the capture counts as partial.
    #[default]
    Record,
    /// The capture ends.
    Refuse,
}

impl Default for BlockCaptureOptions {
    fn default() -> Self {
        Self { stage: "capture".to_owned(), threads: None, level: 1, bad_sectors: BadSectors::Record }
    }
}

/// What a capture came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockCaptureReport {
    /// Bytes of the device.
    pub size_bytes: u64,
    /// Bytes of data extents.
    pub data_bytes: u64,
    /// Bytes in use that are zero.
    pub zero_bytes: u64,
    /// Data extents.
    pub chunks: u64,
    /// Plain bytes that were new and had to be stored.
    pub new_bytes: u64,
    /// Bytes written: of the file, or of packs and manifest.
    pub stored_bytes: u64,
    /// Bytes that could not be read.
    pub unreadable_bytes: u64,
    /// Hash of what the device holds.
    pub tree: Option<ChunkId>,
    /// Id of the image.
    pub id: Option<ChunkId>,
    /// What was odd.
    pub warnings: Vec<String>,
    /// How much that was asked for is not done.
    pub skipped: u64,
    /// Wall time.
    pub milliseconds: u64,
}

/// Names what lies in a range that cannot be read.
pub type NameHits<'a> = &'a (dyn Fn(&Range<u64>) -> Vec<String> + Sync);

/// Everything a capture needs.
pub(super) struct Job<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) name: &'a str,
    pub(super) layout: &'a BlockLayout,
    pub(super) facts: &'a Facts,
    pub(super) hits: NameHits<'a>,
}

/// Where frames, tables and the end go.
pub(super) trait Sink {
    /// A table with the frames that are new, and where each of its chunks is: number of the frame and entry.
    fn region(&mut self, table: &[u8], frames: Vec<(u64, Frame)>, refs: &[(u64, u32)]) -> Result<(), Error>;
}

/// Tells which chunks the target has already; asked on all cores, for as many as an item has.
type AreStored<'a> = &'a (dyn Fn(&[ChunkId]) -> Result<Vec<bool>, Error> + Sync);

/// Captures into anything that takes bytes, front to back.
pub(super) fn to_writer<W: Write>(
    job: &Job<'_>,
    output: W,
    name: &str,
    options: &BlockCaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<(BlockCaptureReport, W), Error> {
    let writer = ImageWriter::new(output, job.facts).map_err(blockimg(name))?;
    let mut sink = FileSink { facts: writer.facts(), writer, name: name.to_owned(), placed: HashMap::new() };
    let (mut report, root) = run(job, &mut sink, None, options, ctl, observer)?;
    let root = Root { facts: sink.facts, ..root };
    let (output, len) = sink.writer.finish(&root, None).map_err(blockimg(name))?;
    finish(&mut report, &root, len)?;
    Ok((report, output))
}

/// Captures into a store.
pub(super) fn to_store(
    job: &Job<'_>,
    store: &gravure_store::Store,
    image: &str,
    existing: gravure_store::OnExisting,
    options: &BlockCaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockCaptureReport, Error> {
    let writer = store.writer().map_err(store_error)?;
    let checker = writer.checker();
    let encoder = FrameEncoder::new(3).map_err(blockimg(store.name()))?;
    let mut sink = StoreSink { writer, encoder, name: store.name().to_owned() };
    let are_stored = |ids: &[ChunkId]| {
        ids.iter().map(|id| checker.contains(id).map_err(store_error)).collect::<Result<Vec<bool>, Error>>()
    };
    let (mut report, root) = run(job, &mut sink, Some(&are_stored), options, ctl, observer)?;
    let (root, manifest, len) = manifest(job, root, image)?;
    let stored = sink.writer.commit(image, &manifest, existing).map_err(store_error)?;
    finish(&mut report, &root, stored + len)?;
    Ok(report)
}

/// The manifest of an image whose content is elsewhere, and the root with its facts.
pub(super) fn manifest(job: &Job<'_>, root: Root, image: &str) -> Result<(Root, Vec<u8>, u64), Error> {
    let manifest = ImageWriter::new(Vec::new(), job.facts).map_err(blockimg(image))?;
    let root = Root { facts: manifest.facts(), ..root };
    let (manifest, len) = manifest.finish(&root, None).map_err(blockimg(image))?;
    Ok((root, manifest, len))
}

pub(super) fn finish(report: &mut BlockCaptureReport, root: &Root, stored_bytes: u64) -> Result<(), Error> {
    report.tree = Some(root.tree_hash());
    report.id = Some(ChunkId::of(&root.to_bytes().map_err(blockimg("root"))?));
    report.stored_bytes = stored_bytes;
    Ok(())
}

struct FileSink<W> {
    writer: ImageWriter<W>,
    facts: ChunkId,
    name: String,
    /// Where frames are that later regions may name.
    placed: HashMap<u64, (u64, u32)>,
}

impl<W: Write> Sink for FileSink<W> {
    fn region(&mut self, table: &[u8], frames: Vec<(u64, Frame)>, refs: &[(u64, u32)]) -> Result<(), Error> {
        let wrong = || blockimg(&self.name);
        self.writer.table(table).map_err(wrong())?;
        for (number, frame) in frames {
            let placed = self.writer.frame(&frame).map_err(wrong())?;
            self.placed.insert(number, (placed.offset, placed.len));
        }
        if refs.is_empty() {
            return Ok(());
        }
        let mut locations = Vec::with_capacity(refs.len() * 16);
        for (number, entry) in refs {
            let Some((frame_offset, frame_len)) = self.placed.get(number).copied() else {
                return Err(Error::Other {
                    what: format!("write {}", self.name),
                    source: format!("frame {number} was never written").into(),
                    kind: ErrorKind::Failed,
                });
            };
            write_location(&mut locations, &Location { frame_offset, frame_len, entry: *entry });
        }
        self.writer.locations(&locations).map_err(wrong())?;
        // Beyond what is remembered nobody can ask for a frame again.
        if self.placed.len() > MAX_KNOWN {
            let least = refs.iter().map(|(number, _)| *number).min().unwrap_or(0);
            self.placed.retain(|number, _| *number < MAX_KNOWN as u64 || *number >= least);
        }
        Ok(())
    }
}

struct StoreSink<'s> {
    writer: gravure_store::Writer<'s>,
    encoder: FrameEncoder,
    name: String,
}

impl Sink for StoreSink<'_> {
    fn region(&mut self, table: &[u8], frames: Vec<(u64, Frame)>, _refs: &[(u64, u32)]) -> Result<(), Error> {
        for (_, frame) in frames {
            self.writer.put(&frame).map_err(store_error)?;
        }
        if !self.writer.contains(&ChunkId::of(table)).map_err(store_error)? {
            let frame = self.encoder.single(FrameKind::Table, table).map_err(blockimg(&self.name))?;
            self.writer.put(&frame).map_err(store_error)?;
        }
        Ok(())
    }
}

/// Buffers of an item of the first stage.
#[derive(Debug, Default)]
struct Batch {
    /// Content, in its first `filled` bytes. It never gets shorter: what is read over need not be zeroed before.
    buf: Vec<u8>,
    filled: usize,
    cuts: Vec<Cut>,
}

/// A piece of the device that was looked at.
#[derive(Debug)]
enum Piece {
    /// At a place in the buffer.
    Data {
        id: ChunkId,
        pos: Range<usize>,
        /// The target has it.
        stored: bool,
    },
    Other {
        kind: ExtentKind,
        len: u64,
    },
    Bad(Range<u64>),
    RegionEnd,
}

impl Piece {
    fn id(&self) -> Option<ChunkId> {
        match self {
            Self::Data { id, .. } => Some(*id),
            _ => None,
        }
    }
}

struct Reader<'a> {
    source: &'a dyn ReadAt,
    are_stored: Option<AreStored<'a>>,
    sector_bytes: u32,
    bad_sectors: BadSectors,
    name: &'a str,
}

impl Work<(), Batch, Result<Vec<Piece>, Error>> for Reader<'_> {
    fn work(&mut self, mut item: Item<(), Batch>, out: &Outbox<Result<Vec<Piece>, Error>, Batch>) {
        let pieces = self.pieces(&mut item.permit);
        out.done(item.ticket, pieces, item.permit);
    }
}

impl Reader<'_> {
    fn pieces(&self, batch: &mut Batch) -> Result<Vec<Piece>, Error> {
        batch.filled = 0;
        let mut out = Vec::with_capacity(batch.cuts.len());
        let mut cuts = batch.cuts.as_slice();
        while let Some(first) = cuts.first() {
            match *first {
                Cut::RegionEnd => out.push(Piece::RegionEnd),
                Cut::Hole { len, excluded, .. } => {
                    let kind = excluded.map_or(ExtentKind::Discard, ExtentKind::Excluded);
                    out.push(Piece::Other { kind, len });
                }
                Cut::Data { offset, .. } => {
                    // Pieces side by side are read at once.
                    let mut end = offset;
                    let count = cuts.iter().take_while(|cut| match cut {
                        Cut::Data { offset, len } if *offset == end => {
                            end += u64::from(*len);
                            true
                        }
                        _ => false,
                    });
                    let count = count.count();
                    self.read(offset..end, &cuts[..count], &mut batch.buf, batch.filled, &mut out)?;
                    batch.filled += (end - offset) as usize;
                    cuts = &cuts[count..];
                    continue;
                }
            }
            cuts = &cuts[1..];
        }
        self.mark_stored(&mut out)?;
        Ok(out)
    }

    fn mark_stored(&self, pieces: &mut [Piece]) -> Result<(), Error> {
        let Some(are_stored) = self.are_stored else { return Ok(()) };
        let ids: Vec<ChunkId> = pieces.iter().filter_map(Piece::id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut known = are_stored(&ids)?.into_iter();
        for piece in pieces {
            if let Piece::Data { stored, .. } = piece {
                // Whatever is not said to be there is sent.
                *stored = known.next().unwrap_or(false);
            }
        }
        Ok(())
    }

    fn read(
        &self,
        range: Range<u64>,
        cuts: &[Cut],
        buf: &mut Vec<u8>,
        start: usize,
        out: &mut Vec<Piece>,
    ) -> Result<(), Error> {
        let end = start + (range.end - range.start) as usize;
        if buf.len() < end {
            buf.resize(end, 0);
        }
        let bad = read_around(self.source, self.sector_bytes, range.start, &mut buf[start..end]);
        if let Some(bad) = bad.first().filter(|_| self.bad_sectors == BadSectors::Refuse) {
            let why = std::io::Error::other(format!("the sector at {:#x} cannot be read", bad.start));
            return Err(Error::io("read", self.name)(why));
        }
        for cut in cuts {
            let Cut::Data { offset, len } = *cut else { continue };
            let end = offset + u64::from(len);
            let mut at = offset;
            for bad in bad.iter().filter(|bad| bad.start < end && bad.end > offset) {
                let (bad_start, bad_end) = (bad.start.max(offset), bad.end.min(end));
                self.piece(at..bad_start, range.start, start, buf, out);
                out.push(Piece::Bad(bad_start..bad_end));
                at = bad_end;
            }
            self.piece(at..end, range.start, start, buf, out);
        }
        Ok(())
    }

    fn piece(&self, range: Range<u64>, base: u64, start: usize, buf: &[u8], out: &mut Vec<Piece>) {
        if range.is_empty() {
            return;
        }
        let len = (range.end - range.start) as usize;
        let from = start + (range.start - base) as usize;
        let pos = from..from + len;
        let content = &buf[pos.clone()];
        out.push(if is_zero(content) {
            Piece::Other { kind: ExtentKind::Zero, len: len as u64 }
        } else {
            Piece::Data { id: ChunkId::of(content), pos, stored: false }
        });
    }
}

/// Compared in words, which the compiler makes wide.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

/// What the second stage works on.
enum Event {
    Frame { number: u64, entries: Vec<Entry>, plain: Vec<u8> },
    Region { table: Vec<u8>, refs: Vec<(u64, u32)> },
}

/// What comes out of it.
enum Done {
    Frame(u64, Frame),
    Region { table: Vec<u8>, refs: Vec<(u64, u32)> },
}

struct Compressor<'a> {
    encoder: FrameEncoder,
    /// Takes memory back.
    spare: Sender<Vec<u8>>,
    name: &'a str,
}

impl Work<Event, (), Result<Done, Error>> for Compressor<'_> {
    fn work(&mut self, item: Item<Event, ()>, out: &Outbox<Result<Done, Error>, ()>) {
        let done = match item.job {
            Event::Region { table, refs } => Ok(Done::Region { table, refs }),
            Event::Frame { number, entries, mut plain } => {
                let frame = self.encoder.frame(FrameKind::Data, entries, &plain);
                plain.clear();
                // Without room for it, it goes.
                drop(self.spare.try_send(plain));
                frame.map(|frame| Done::Frame(number, frame)).map_err(blockimg(self.name))
            }
        };
        out.done(item.ticket, done, ());
    }
}

/// Puts pieces in order: tables, and frames of what is new.
struct Assembler {
    events: Sender<Event>,
    /// Memory of frames that are compressed.
    spare: Receiver<Vec<u8>>,
    known: HashMap<ChunkId, (u64, u32)>,
    /// Ids of this region that are not remembered beyond it.
    local: HashMap<ChunkId, (u64, u32)>,
    builder: RegionBuilder,
    refs: Vec<(u64, u32)>,
    group: Vec<u8>,
    group_entries: Vec<Entry>,
    group_number: u64,
    next_number: u64,
    regions: Vec<Region>,
    outcome: Outcome,
    new_bytes: u64,
}

impl Assembler {
    fn send(&self, event: Event) -> Result<(), Error> {
        // The other end stops for a reason of its own, which is the one that is told.
        self.events.send(event).map_err(|_| Error::Other {
            what: "write the image".to_owned(),
            source: "writing has stopped".into(),
            kind: ErrorKind::Failed,
        })
    }

    fn take(&mut self, piece: &Piece, buf: &[u8], hits: NameHits<'_>) -> Result<(), Error> {
        match piece {
            Piece::Other { kind, len } => {
                self.builder.push(*kind, *len);
                if *kind == ExtentKind::Zero {
                    self.outcome.zero_bytes += len;
                }
            }
            Piece::Bad(range) => {
                let len = range.end - range.start;
                self.builder.push(ExtentKind::Unreadable, len);
                self.outcome.unreadable_bytes += len;
                if self.outcome.unreadable.len() < MAX_UNREADABLE {
                    let unreadable =
                        Unreadable { offset_bytes: range.start, size_bytes: len, hits: hits(range) };
                    self.outcome.unreadable.push(unreadable);
                }
            }
            Piece::Data { id, pos, stored } => self.data(*id, &buf[pos.clone()], *stored)?,
            Piece::RegionEnd => self.end_region()?,
        }
        Ok(())
    }

    fn data(&mut self, id: ChunkId, content: &[u8], is_stored: bool) -> Result<(), Error> {
        let len = content.len() as u64;
        self.builder.push(ExtentKind::Data(id), len);
        self.outcome.data_bytes += len;
        self.outcome.chunks += 1;
        if let Some(place) = self.known.get(&id).or_else(|| self.local.get(&id)) {
            self.refs.push(*place);
            return Ok(());
        }
        if is_stored {
            return Ok(());
        }
        self.new_bytes += len;
        let entry = Entry { id, len: content.len() as u32 };
        // A whole piece of what belongs to no file stands alone: in a frame with others, each of them would be fetched with it.
        let place = if entry.len >= SMALL_CHUNK_BYTES {
            let number = self.next_number;
            self.next_number += 1;
            let mut plain = self.spare.try_recv().unwrap_or_default();
            plain.extend_from_slice(content);
            self.send(Event::Frame { number, entries: vec![entry], plain })?;
            (number, 0)
        } else {
            if self.group.len() + content.len() > GROUP_BYTES as usize
                || self.group_entries.len() >= gravure_blockimg::limits::MAX_ENTRIES as usize
            {
                self.end_group()?;
            }
            if self.group_entries.is_empty() {
                self.group_number = self.next_number;
                self.next_number += 1;
            }
            let place = (self.group_number, self.group_entries.len() as u32);
            self.group.extend_from_slice(content);
            self.group_entries.push(entry);
            place
        };
        if self.known.len() < MAX_KNOWN {
            self.known.insert(id, place);
        } else {
            self.local.insert(id, place);
        }
        self.refs.push(place);
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), Error> {
        if self.group_entries.is_empty() {
            return Ok(());
        }
        let plain = std::mem::replace(&mut self.group, self.spare.try_recv().unwrap_or_default());
        let entries = std::mem::take(&mut self.group_entries);
        self.send(Event::Frame { number: self.group_number, entries, plain })
    }

    fn end_region(&mut self) -> Result<(), Error> {
        self.end_group()?;
        let finished = self.builder.finish();
        self.regions.push(finished.region);
        self.local.clear();
        let refs = std::mem::take(&mut self.refs);
        self.send(Event::Region { table: finished.table, refs })
    }
}

pub(super) fn run(
    job: &Job<'_>,
    sink: &mut dyn Sink,
    are_stored: Option<AreStored<'_>>,
    options: &BlockCaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<(BlockCaptureReport, Root), Error> {
    let threads = options.threads.unwrap_or_else(default_threads).clamp(1, MAX_THREADS);
    let context = Context { ctl, observer, threads };
    let meter = Meter::start(&context, &options.stage);
    let size = job.source.size();
    let wanted = job.layout.used.iter().filter(|span| span.excluded.is_none());
    meter.expect(wanted.map(|span| span.len).sum());
    let (events, received) = bounded(4);
    // As much memory as is on its way at most.
    let (give_back, spare) = bounded(threads + 8);
    let assembler = std::thread::scope(|scope| {
        let meter = &meter;
        let first = scope
            .spawn(move || assemble(job, are_stored, (events, spare), options, threads, ctl, meter, size));
        let written = write(received, give_back, sink, job.name, options.level, threads, ctl);
        let assembled = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Where writing failed, reading stopped because of it.
        written?;
        assembled
    })?;
    let outcome = assembler.outcome;
    if outcome.unreadable_bytes > 0 {
        meter.skip(|| {
            let first = outcome.unreadable.first().map_or(0, |first| first.offset_bytes);
            format!(
                "{}: {} bytes cannot be read, first at {first:#x}; zeros take their place",
                job.name, outcome.unreadable_bytes
            )
        });
    }
    let totals = meter.finish();
    let report = BlockCaptureReport {
        size_bytes: size,
        data_bytes: outcome.data_bytes,
        zero_bytes: outcome.zero_bytes,
        chunks: outcome.chunks,
        new_bytes: assembler.new_bytes,
        unreadable_bytes: outcome.unreadable_bytes,
        warnings: totals.warnings,
        skipped: totals.skipped,
        milliseconds: totals.milliseconds,
        ..BlockCaptureReport::default()
    };
    let root = Root {
        size,
        sector_bytes: job.facts.source.sector_bytes,
        // Known to whoever writes the facts.
        facts: ChunkId([0; 32]),
        outcome,
        regions: assembler.regions,
    };
    Ok((report, root))
}

/// The first stage: reads, hashes, puts in order.
#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only repeat the names")]
fn assemble(
    job: &Job<'_>,
    are_stored: Option<AreStored<'_>>,
    (events, spare): (Sender<Event>, Receiver<Vec<u8>>),
    options: &BlockCaptureOptions,
    threads: usize,
    ctl: &Ctl,
    meter: &Meter<'_>,
    size: u64,
) -> Result<Assembler, Error> {
    let mut assembler = Assembler {
        events,
        spare,
        known: HashMap::new(),
        local: HashMap::new(),
        builder: RegionBuilder::new(0),
        refs: Vec::new(),
        group: Vec::new(),
        group_entries: Vec::new(),
        group_number: 0,
        next_number: 0,
        regions: Vec::new(),
        outcome: Outcome::default(),
        new_bytes: 0,
    };
    let (used, files) = (job.layout.used.iter().copied(), job.layout.files.iter().copied());
    let mut cuts = Cutter::new(size, used, files).peekable();
    let permits = (0..threads + 4).map(|_| Batch::default()).collect();
    let workers = (0..threads).map(|_| Reader {
        source: job.source,
        are_stored,
        sector_bytes: job.facts.source.sector_bytes,
        bad_sectors: options.bad_sectors,
        name: job.name,
    });
    let next_batch = |batch: &mut Batch| {
        batch.cuts.clear();
        let mut bytes = 0;
        while let Some(cut) = cuts.peek() {
            let len = if let Cut::Data { len, .. } = cut { *len as usize } else { 0 };
            if batch.cuts.len() >= BATCH_CUTS || (bytes > 0 && bytes + len > BATCH_BYTES) {
                break;
            }
            bytes += len;
            batch.cuts.extend(cuts.next());
        }
        Ok((!batch.cuts.is_empty()).then_some(()))
    };
    stage::run(ctl, permits, workers.collect(), next_batch, |pieces: Result<Vec<Piece>, Error>, batch| {
        for piece in &pieces? {
            assembler.take(piece, &batch.buf, job.hits)?;
        }
        meter.add(batch.filled as u64);
        Ok(())
    })?;
    // Dropped here, so that the second stage ends.
    assembler.events = bounded(0).0;
    Ok(assembler)
}

/// The second stage: compresses and hands regions to the sink.
#[expect(clippy::needless_pass_by_value, reason = "the last sender ends with it")]
fn write(
    received: Receiver<Event>,
    spare: Sender<Vec<u8>>,
    sink: &mut dyn Sink,
    name: &str,
    level: i32,
    threads: usize,
    ctl: &Ctl,
) -> Result<(), Error> {
    let mut compressors = Vec::new();
    for _ in 0..threads {
        let encoder = FrameEncoder::new(level).map_err(blockimg(name))?;
        compressors.push(Compressor { encoder, spare: spare.clone(), name });
    }
    let mut frames = Vec::new();
    stage::run(
        ctl,
        vec![(); threads + 4],
        compressors,
        move |()| Ok(received.recv().ok()),
        |done, ()| {
            match done? {
                Done::Frame(number, frame) => frames.push((number, frame)),
                Done::Region { table, refs } => sink.region(&table, std::mem::take(&mut frames), &refs)?,
            }
            Ok(())
        },
    )
}
