//! A block image becomes a device again.
//!
//! Order, and what a crash between leaves: what stands there is hashed (the old device); first and last MiB are zeroed and that is made
//! durable (nothing that looks bootable or mountable); what is free is discarded, what must be zero is zeroed, chunks are decoded,
//! checked and written, all made durable; everything is read back and compared; last, with the first sector at the very end, come
//! the two MiB, and they are read back, too. A restore that was interrupted finds on its next run what is there already. What cannot be
//! read beforehand is written like what differs, and counted: only reading back says whether the drive could put it elsewhere.
//!
//! **Memory:** 2 MiB an item, one item a thread and 4, and 1 MiB a thread to join what lies side by side (104 MiB with the 32 threads
//! at most that work); two MiB that come last; a bit for each extent; 14 MiB of chunks that come early; tables of a region. Large writes go past the page cache.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use gravure_blockimg::{ChunkId, Extent, FrameDecoder};
use gravure_linux::direct::AlignedBuffer;
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::blockimg;
use super::early::{Early, Needed};
use super::image::{BlockImage, Fetch};
use super::read_back::{Comparison, Differing, differs, is_there};
use crate::meter::{Context, Meter, default_threads};
use crate::stage::{self, Item, Outbox, Work};
use crate::volume::{ExistingData, VolumeDevice, is_cut};
use crate::{Error, ErrorKind};

/// Bytes at both ends that are written last: boot sectors, partition tables, superblocks.
pub(super) const LATE_BYTES: u64 = 1 << 20;
/// Extents looked at to see whether much of the image stands on the device already.
const SAMPLES: usize = 256;

/// Threads at most: a write each, and each needs memory.
pub(super) const MAX_THREADS: usize = 32;

/// How a block image is restored.
#[derive(Debug, Clone)]
pub struct BlockApplyOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// What happens when the device holds data.
    pub existing: ExistingData,
    /// What of it may stay.
    pub delta: Delta,
    /// What is read back.
    pub verify: BlockVerify,
    /// The device is new and reads as zeros: a file that was just made.
    pub is_blank: bool,
}

/// What happens with content that stands on the device already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delta {
    /// It stays, when a sample says that there is some.
    #[default]
    Auto,
    /// The whole device is hashed and compared.
    Always,
    /// Everything is written.
    Never,
}

/// What is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockVerify {
    /// Everything, from the medium.
    #[default]
    Full,
    /// Nothing; chunks are checked when they are decoded.
    Decode,
}

impl Default for BlockApplyOptions {
    fn default() -> Self {
        Self {
            stage: "apply".to_owned(),
            threads: None,
            existing: ExistingData::Refuse,
            delta: Delta::Auto,
            verify: BlockVerify::Full,
            is_blank: false,
        }
    }
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockApplyReport {
    /// Bytes of the image's device.
    pub size_bytes: u64,
    /// Bytes of data extents.
    pub data_bytes: u64,
    /// Data bytes that stood there already.
    pub kept_bytes: u64,
    /// Stored bytes that were read from the image.
    pub fetched_bytes: u64,
    /// Data bytes written.
    pub written_bytes: u64,
    /// Bytes zeroed.
    pub zeroed_bytes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
    /// Bytes read back and found right.
    pub verified_bytes: u64,
    /// Bytes that the image lacks because its source could not be read.
    pub unreadable_bytes: u64,
    /// Bytes of content whose places on the device could not be read beforehand; they were written like what differs.
    pub faulty_bytes: u64,
    /// Hash of what the device holds; of what was read back, when that was asked for.
    pub tree: Option<ChunkId>,
    /// Whether everything was read back and is right.
    pub is_verified: bool,
    /// What people should know.
    pub notes: Vec<String>,
    /// What was odd.
    pub warnings: Vec<String>,
    /// How much that was asked for is not done.
    pub skipped: u64,
    /// Wall time.
    pub milliseconds: u64,
}

impl BlockApplyReport {
    /// Counts a volume that was laid out beside the blocks.
    pub(super) fn add(&mut self, outcome: &super::fit::Outcome) {
        self.written_bytes += outcome.written_bytes;
        self.verified_bytes += outcome.verified_bytes;
        self.warnings.extend(outcome.warnings.iter().cloned());
        self.skipped += outcome.skipped;
    }
}

/// Restores `image` onto `device`, which must be at least as large. Every chunk is checked before it is written, and with
/// [`BlockVerify::Full`] everything is read back.
pub fn apply_block_image(
    image: &BlockImage,
    device: &dyn VolumeDevice,
    options: &BlockApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockApplyReport, Error> {
    apply_parts(image, device, options, &[], ctl, observer)
}

/// The same without what lies in `left_out`: ranges whose content somebody else writes. The device is to the rest of the image what it would
/// be without them.
pub(super) fn apply_parts(
    image: &BlockImage,
    device: &dyn VolumeDevice,
    options: &BlockApplyOptions,
    left_out: &[Range<u64>],
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockApplyReport, Error> {
    let threads = options.threads.unwrap_or_else(default_threads).clamp(1, MAX_THREADS);
    let context = Context { ctl, observer, threads };
    let meter = Meter::start(&context, &options.stage);
    let root = image.root();
    check_target(image.name(), root.size, image.sector_bytes()?, image.facts().scope, device)?;
    if options.existing == ExistingData::Refuse && !options.is_blank {
        refuse_data(device)?;
    }
    let run = Run { image, device, context, meter: &meter, late: Late::of(root.size), left_out };
    let passes = match options.verify {
        BlockVerify::Full => 2,
        BlockVerify::Decode => 1,
    };
    let is_delta = match options.delta {
        _ if options.is_blank => false,
        Delta::Never => false,
        Delta::Always => true,
        Delta::Auto => run.sample()?,
    };
    meter.expect(run.data_bytes() * (passes + u64::from(is_delta)));
    let counts = Counts::default();
    let mut needed = run.survey(is_delta, &counts)?;
    let early = run.early(&mut needed)?;
    let faulty_bytes = counts.faulty.load(Ordering::Relaxed);
    if faulty_bytes > 0 {
        let name = device.name();
        meter.warn(|| {
            format!(
                "{faulty_bytes} bytes of {name} could not be read before they were written: the drive may be failing"
            )
        });
    }
    run.late.erase(device)?;
    let late = run.body(&needed, early, options.is_blank, &counts)?;
    device.sync().map_err(Error::io("sync", device.name()))?;
    let mut verified = 0;
    if options.verify == BlockVerify::Full {
        device.drop_cache()?;
        verified = run.verify(Part::Body)?;
    }
    let finished = write_late(device, late, &counts).and_then(|()| match options.verify {
        BlockVerify::Full => device.drop_cache().and_then(|()| run.verify(Part::Late)),
        BlockVerify::Decode => Ok(0),
    });
    match finished {
        Ok(bytes) => verified += bytes,
        Err(error) => {
            // What is not known to be right must not start; the first error is the one that is told.
            drop(run.late.erase(device));
            return Err(error);
        }
    }
    let unreadable_bytes = root.outcome.unreadable_bytes;
    if unreadable_bytes > 0 {
        meter.warn(|| {
            format!("{unreadable_bytes} bytes could not be read when the image was made; they are zero now")
        });
    }
    let totals = meter.finish();
    let data_bytes = root.data_bytes().saturating_sub(counts.left_out.load(Ordering::Relaxed));
    Ok(BlockApplyReport {
        size_bytes: root.size,
        data_bytes,
        kept_bytes: data_bytes.saturating_sub(counts.written.load(Ordering::Relaxed)),
        fetched_bytes: counts.fetched.into_inner(),
        written_bytes: counts.written.into_inner(),
        zeroed_bytes: counts.zeroed.into_inner(),
        discarded_bytes: counts.discarded.into_inner(),
        verified_bytes: verified,
        unreadable_bytes,
        faulty_bytes,
        tree: left_out.is_empty().then(|| root.tree_hash()),
        is_verified: options.verify == BlockVerify::Full,
        notes: Vec::new(),
        warnings: totals.warnings,
        skipped: totals.skipped,
        milliseconds: totals.milliseconds,
    })
}

/// Refuses a device that is too small or addressed otherwise.
pub(super) fn check_target(
    image: &str,
    size: u64,
    sector_bytes: u32,
    scope: gravure_blockimg::facts::Scope,
    device: &dyn VolumeDevice,
) -> Result<(), Error> {
    let refuse = |why: String| Error::Refused { what: format!("applying {image} to {}", device.name()), why };
    if scope == gravure_blockimg::facts::Scope::Files {
        return Err(refuse("it holds files, not the content of a device".to_owned()));
    }
    if device.size() < size {
        return Err(refuse(format!("the image needs {size} bytes, the target has {}", device.size())));
    }
    if device.sector_bytes() != sector_bytes {
        let what = match scope {
            gravure_blockimg::facts::Scope::Disk => "partition table and file systems are",
            _ => "file system is",
        };
        return Err(refuse(format!(
            "its {what} made for sectors of {sector_bytes} bytes, the target has {}",
            device.sector_bytes()
        )));
    }
    Ok(())
}

/// Refuses a device that holds something.
pub(super) fn refuse_data(device: &dyn VolumeDevice) -> Result<(), Error> {
    let refuse = |why: String| Error::Refused { what: format!("writing to {}", device.name()), why };
    let failed = |source: gravure_disk::Error| Error::Other {
        what: format!("look at {}", device.name()),
        source: source.into(),
        kind: ErrorKind::Io,
    };
    // Boot sectors of file systems look like tables, so those are looked for first.
    let found = gravure_disk::recognise(&device).map_err(failed)?;
    if let Some(found) = found.first() {
        return Err(refuse(format!("it holds {found}")));
    }
    if let Some(why) = is_cut(device) {
        return Err(refuse(why));
    }
    match gravure_disk::Table::read(&device, device.sector_bytes()).map_err(failed)? {
        gravure_disk::Table::Empty => {}
        gravure_disk::Table::Mbr(_) => return Err(refuse("it has a partition table (MBR)".to_owned())),
        _ => return Err(refuse("it has a partition table (GPT)".to_owned())),
    }
    let len = usize::try_from(device.size().min(64 << 10)).unwrap_or(0);
    let head = device.read_vec_at(0, len).map_err(Error::io("read", device.name()))?;
    match head.iter().position(|byte| *byte != 0) {
        Some(at) => Err(refuse(format!("it holds data, first at {at:#x}"))),
        None => Ok(()),
    }
}

/// The parts that are written last.
#[derive(Debug, Clone)]
pub(super) struct Late([Range<u64>; 2]);

impl Late {
    /// Of an image of `size` bytes.
    pub(super) fn of(size: u64) -> Self {
        let head = LATE_BYTES.min(size);
        Self([0..head, size.saturating_sub(LATE_BYTES).max(head)..size])
    }

    /// Whether any byte of the range comes last.
    pub(super) fn has(&self, range: Range<u64>) -> bool {
        self.0.iter().any(|late| range.start < late.end && range.end > late.start)
    }

    /// From here on the device is nothing.
    pub(super) fn erase(&self, device: &dyn VolumeDevice) -> Result<(), Error> {
        for range in self.0.iter().filter(|range| !range.is_empty()) {
            device.zero_range(range.clone()).map_err(Error::io("zero", device.name()))?;
        }
        // A larger device may have the backup of its old table at its own end.
        let end = device.size();
        let tail = end.saturating_sub(LATE_BYTES).max(self.0[1].end.max(self.0[0].end))..end;
        if !tail.is_empty() {
            device.zero_range(tail).map_err(Error::io("zero", device.name()))?;
        }
        device.sync().map_err(Error::io("sync", device.name()))
    }
}

/// Writes what comes last, from the end to the front, the first sector at the very end.
pub(super) fn write_late(
    device: &dyn VolumeDevice,
    mut late: Vec<(u64, Vec<u8>)>,
    counts: &Counts,
) -> Result<(), Error> {
    let write = |offset: u64, bytes: &[u8]| {
        counts.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        device.write_all_at(offset, bytes).map_err(Error::io("write", device.name()))
    };
    late.sort_by_key(|(offset, _)| std::cmp::Reverse(*offset));
    let sector = device.sector_bytes() as usize;
    let mut first: Option<Vec<u8>> = None;
    for (offset, mut bytes) in late {
        // Chunks need not end where sectors do, but the device must never have half a first sector.
        if offset < sector as u64 {
            let head = first.get_or_insert_with(|| vec![0; sector]);
            let start = offset as usize;
            let len = bytes.len().min(sector - start);
            head[start..start + len].copy_from_slice(&bytes[..len]);
            counts.written.fetch_add(len as u64, Ordering::Relaxed);
            bytes.drain(..len);
            if !bytes.is_empty() {
                write(offset + len as u64, &bytes)?;
            }
            continue;
        }
        write(offset, &bytes)?;
    }
    let sync = || device.sync().map_err(Error::io("sync", device.name()));
    sync()?;
    if let Some(first) = first {
        let len = usize::try_from(device.size()).unwrap_or(usize::MAX).min(first.len());
        device.write_all_at(0, &first[..len]).map_err(Error::io("write", device.name()))?;
        sync()?;
    }
    Ok(())
}

/// Discards what a larger device has behind the image; what stands at its very end was zeroed.
pub(super) fn discard_behind(device: &dyn VolumeDevice, size: u64, counts: &Counts) -> Result<(), Error> {
    let rest = size..device.size().saturating_sub(LATE_BYTES);
    if !rest.is_empty() {
        device.discard(rest.clone()).map_err(Error::io("discard", device.name()))?;
        counts.discarded.fetch_add(rest.end - rest.start, Ordering::Relaxed);
    }
    Ok(())
}

/// What was moved.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) fetched: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) zeroed: AtomicU64,
    pub(super) discarded: AtomicU64,
    /// Data that somebody else writes.
    pub(super) left_out: AtomicU64,
    /// What the survey could not read on the device.
    faulty: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Body,
    Late,
}

struct Run<'a> {
    image: &'a BlockImage,
    device: &'a dyn VolumeDevice,
    context: Context<'a>,
    meter: &'a Meter<'a>,
    late: Late,
    left_out: &'a [Range<u64>],
}

impl Run<'_> {
    fn decoder(&self) -> Result<FrameDecoder, Error> {
        FrameDecoder::new().map_err(blockimg(self.image.name()))
    }

    fn is_late(&self, extent: &Extent) -> bool {
        self.late.has(extent.offset..extent.end())
    }

    /// Whether somebody else writes it. What reaches out of such a range is restored as everything is.
    fn is_left_out(&self, extent: &Extent) -> bool {
        self.left_out.iter().any(|range| range.start <= extent.offset && extent.end() <= range.end)
    }

    /// About how many bytes of data are restored, for progress: a region lies in a range, or does not.
    fn data_bytes(&self) -> u64 {
        let is_left_out =
            |start: u64, end: u64| self.left_out.iter().any(|range| range.start <= start && end <= range.end);
        let regions = self.image.root().regions.iter();
        let regions = regions.filter(|region| !is_left_out(region.offset, region.offset + region.len));
        regions.map(|region| region.data_bytes).sum()
    }

    /// Whether some of the image stands on the device: extents spread over it, and the first ones.
    fn sample(&self) -> Result<bool, Error> {
        let mut decoder = self.decoder()?;
        let regions: Vec<usize> = (0..self.image.root().regions.len())
            .filter(|index| self.image.root().regions[*index].data_bytes > 0)
            .collect();
        let step = regions.len().div_ceil(8).max(1);
        let mut buf = Vec::new();
        for index in regions.iter().step_by(step) {
            self.context.ctl.check()?;
            let extents = self.image.extents(&mut decoder, *index)?;
            let is_telling = |extent: &&Extent| {
                extent.id().is_some() && !self.is_late(extent) && !self.is_left_out(extent)
            };
            let data: Vec<&Extent> = extents.iter().filter(is_telling).collect();
            let few = data.len().div_ceil(SAMPLES / 8).max(1);
            for extent in data.iter().step_by(few).chain(data.iter().take(4)) {
                // A place that cannot be read now may be written all the same.
                if is_there(self.device, extent, &mut buf).unwrap_or(false) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Which extents have to be written, where that was looked at: what is not there, or cannot be read.
    fn survey(&self, is_delta: bool, counts: &Counts) -> Result<Needed, Error> {
        if !is_delta {
            return Ok(Needed::default());
        }
        let needed = Mutex::new(Needed::default());
        let lock = || needed.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = |extents: usize| lock().push_region(extents, false);
        let is_wanted = |extent: &Extent| !self.is_left_out(extent);
        self.compare(&is_wanted, &counted, Some(&counts.faulty), &mut |(region, differing)| {
            let mut needed = lock();
            differing.iter().for_each(|extent| needed.set(region, *extent));
            Ok(())
        })?;
        Ok(needed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Chunks of later regions that lie in frames of earlier ones are written with these, so that no frame is fetched and decoded
    /// twice: content that occurs in several places. Nothing else needs them then. Regions nobody has looked at are needed as a whole.
    fn early(&self, needed: &mut Needed) -> Result<Early, Error> {
        let mut decoder = self.decoder()?;
        let mut early = Early::default();
        for index in 0..self.image.root().regions.len() {
            self.context.ctl.check()?;
            let extents = self.image.extents(&mut decoder, index)?;
            if needed.regions() <= index {
                needed.push_region(extents.len(), true);
            }
            let is_wanted = |at: usize| {
                let extent = &extents[at];
                needed.get(index, at) && !self.is_late(extent) && !self.is_left_out(extent)
            };
            let wanted = self.image.wanted(&mut decoder, index, &extents, &is_wanted)?;
            early.take(index, wanted, needed);
        }
        early.end();
        Ok(early)
    }

    /// Compares extents with the device on all cores. What cannot be read there differs when it is counted, or else is an error.
    fn compare(
        &self,
        is_wanted: &(dyn Fn(&Extent) -> bool + Sync),
        on_region: &(dyn Fn(usize) + Sync),
        faulty: Option<&AtomicU64>,
        sink: &mut dyn FnMut(Differing) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let mut decoder = self.decoder()?;
        let mut region = 0;
        let next = || {
            if region >= self.image.root().regions.len() {
                return Ok(None);
            }
            let extents = self.image.extents(&mut decoder, region)?;
            on_region(extents.len());
            region += 1;
            Ok(Some(extents))
        };
        let on_bytes = |bytes: u64| self.meter.add(bytes);
        let (context, device) = (self.context, self.device);
        Comparison { context, device, is_wanted, on_bytes: &on_bytes, faulty }.run(next, sink)
    }

    /// Everything but what comes last; that is returned.
    fn body(
        &self,
        needed: &Needed,
        mut early: Early,
        is_blank: bool,
        counts: &Counts,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut decoder = self.decoder()?;
        let count = self.image.root().regions.len();
        // Discards go first, as one, so that a drive can use what is free while it is written.
        if !is_blank {
            discard_behind(self.device, self.image.root().size, counts)?;
            for index in 0..count {
                self.context.ctl.check()?;
                let extents = self.image.extents(&mut decoder, index)?;
                self.discard(&extents, counts)?;
            }
        }
        let threads = self.context.threads;
        let mut region = 0;
        let mut fetches: std::vec::IntoIter<Fetch> = Vec::new().into_iter();
        let mut late = Vec::new();
        let source = |_: &mut Buffers| {
            loop {
                if let Some(fetch) = fetches.next() {
                    return Ok(Some(fetch));
                }
                if region >= count {
                    return Ok(None);
                }
                let extents = self.image.extents(&mut decoder, region)?;
                let is_needed = |at: usize| {
                    let extent = &extents[at];
                    (needed.get(region, at) || self.is_late(extent)) && !self.is_left_out(extent)
                };
                let left_out = extents.iter().filter(|it| it.id().is_some() && self.is_left_out(it));
                counts.left_out.fetch_add(left_out.map(|it| it.len).sum(), Ordering::Relaxed);
                if !is_blank {
                    self.zero(&extents, &is_needed, counts)?;
                }
                let wanted = self.image.wanted(&mut decoder, region, &extents, &is_needed)?;
                let wanted = wanted.into_iter().map(|(_, at, target)| (at, target));
                let early = early.of_region(region);
                fetches = self.image.joined(wanted.chain(early)).into_iter();
                region += 1;
            }
        };
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (decoder, late) = (self.decoder()?, self.late.clone());
            let joined = AlignedBuffer::default();
            workers.push(Writer { image: self.image, device: self.device, decoder, late, counts, joined });
        }
        let permits = (0..threads + 4).map(|_| Buffers::default()).collect();
        stage::run(self.context.ctl, permits, workers, source, |done: Result<Written, Error>, _| {
            let written = done?;
            self.meter.add(written.bytes);
            late.extend(written.late);
            Ok(())
        })?;
        Ok(late)
    }

    fn discard(&self, extents: &[Extent], counts: &Counts) -> Result<(), Error> {
        let free = |it: &&Extent| it.id().is_none() && !it.reads_zero() && !self.is_left_out(it);
        for extent in extents.iter().filter(free) {
            let range = extent.offset..extent.end();
            self.device.discard(range).map_err(Error::io("discard", self.device.name()))?;
            counts.discarded.fetch_add(extent.len, Ordering::Relaxed);
        }
        Ok(())
    }

    fn zero(
        &self,
        extents: &[Extent],
        is_needed: &dyn Fn(usize) -> bool,
        counts: &Counts,
    ) -> Result<(), Error> {
        for (at, extent) in extents.iter().enumerate() {
            if extent.reads_zero() && is_needed(at) {
                let range = extent.offset..extent.end();
                self.device.zero_range(range).map_err(Error::io("zero", self.device.name()))?;
                counts.zeroed.fetch_add(extent.len, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Reads back and compares; bytes that were read.
    fn verify(&self, part: Part) -> Result<u64, Error> {
        let is_wanted =
            |extent: &Extent| self.is_late(extent) == (part == Part::Late) && !self.is_left_out(extent);
        let mut decoder = self.decoder()?;
        self.compare(&is_wanted, &|_| (), None, &mut |(region, differing)| {
            let Some(first) = differing.first() else { return Ok(()) };
            let extents = self.image.extents(&mut decoder, region)?;
            Err(differs(self.device, &extents[*first], differing.len() as u64 - 1))
        })
    }
}

/// Buffers of an item.
#[derive(Debug, Default)]
struct Buffers {
    plain: Vec<u8>,
}

/// What became of a frame.
#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    late: Vec<(u64, Vec<u8>)>,
}

struct Writer<'a> {
    image: &'a BlockImage,
    device: &'a dyn VolumeDevice,
    decoder: FrameDecoder,
    late: Late,
    counts: &'a Counts,
    joined: AlignedBuffer,
}

impl Work<Fetch, Buffers, Result<Written, Error>> for Writer<'_> {
    fn work(&mut self, mut item: Item<Fetch, Buffers>, out: &Outbox<Result<Written, Error>, Buffers>) {
        let written = self.write(&item.job, &mut item.permit);
        out.done(item.ticket, written, item.permit);
    }
}

impl Writer<'_> {
    fn write(&mut self, fetch: &Fetch, buffers: &mut Buffers) -> Result<Written, Error> {
        let frame = self.image.fetch(fetch, &mut self.decoder, &mut buffers.plain)?;
        self.counts.fetched.fetch_add(fetch.stored_len(), Ordering::Relaxed);
        let mut written = Written::default();
        let mut run = Joined::new(self.device, self.counts, &mut self.joined);
        for target in &fetch.targets {
            let content = self.image.part(&frame, &buffers.plain, target)?;
            written.bytes += target.len;
            if self.late.has(target.offset..target.offset + target.len) {
                written.late.push((target.offset, content.to_vec()));
            } else {
                run.push(target.offset, content)?;
            }
        }
        run.flush()?;
        Ok(written)
    }
}

/// Bytes of one write at most. One chunk may stand side by side many times: a log that is empty.
const MAX_JOINED: usize = 1 << 20;

/// Joins what lies side by side to one write.
pub(super) struct Joined<'a> {
    device: &'a dyn VolumeDevice,
    counts: &'a Counts,
    start: u64,
    bytes: &'a mut AlignedBuffer,
}

impl<'a> Joined<'a> {
    /// With the memory of `bytes`, which serves one frame after the other.
    pub(super) fn new(
        device: &'a dyn VolumeDevice,
        counts: &'a Counts,
        bytes: &'a mut AlignedBuffer,
    ) -> Self {
        // A frame before may have failed with bytes left.
        bytes.restart(0);
        Self { device, counts, start: 0, bytes }
    }

    pub(super) fn push(&mut self, offset: u64, content: &[u8]) -> Result<(), Error> {
        let is_next = !self.bytes.is_empty() && self.start + self.bytes.len() as u64 == offset;
        if !is_next || self.bytes.len() + content.len() > MAX_JOINED {
            self.flush()?;
            self.start = offset;
            self.bytes.restart(offset);
        }
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if !self.bytes.is_empty() {
            let written = self.device.write_past_cache(self.start, self.bytes.as_slice());
            written.map_err(Error::io("write", self.device.name()))?;
            self.counts.written.fetch_add(self.bytes.len() as u64, Ordering::Relaxed);
            self.bytes.restart(0);
        }
        Ok(())
    }
}
