//! An NTFS volume laid out anew from another one, file by file: where clusters cannot stay where they were, as there is no room for them or
//! as sectors have another size.
//!
//! Contents are read in the order in which they lie on the source, so both ends go forward; files that lie behind each other on the new volume
//! are written together. What the overlay filter compressed is copied as it is. The order of writes is that of `volume`.
//!
//! **Memory:** the tree of the source and its plan, 24 bytes a content, 1 MiB for each thread and four more, at most 64 MiB of contents that
//! stand in file records, 80 bytes for each MiB written.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use gravure_io::ReadAt;
use gravure_model::Ctl;
use gravure_model::event::{Observer, Silent};
use gravure_ntfs::{
    Collisions, ContentGuide, Decoders, Encoding, MAX_LABEL_UNITS, Piece, Place, SectorSize, VolumeOptions,
    VolumePlan,
};
use gravure_nttypes::NtName;
use gravure_tree::{ContentRef, Loss, NodeId, Origin, SourceId, Tree};

use super::device::VolumeDevice;
use super::laying::Laying;
use super::residents::Residents;
use super::verify::CopiedPart;
use super::{losses, now, refused, structure, target, verify};
use crate::directory::ScanOptions;
use crate::glob::NameCase;
use crate::meter::{Context, Meter, default_threads};
use crate::ntfs_source::NtfsSource;
use crate::reading::ReadPlan;
use crate::stage::{self, Item, Outbox, Work};
use crate::uses::{self, Part, Use};
use crate::{CaptureConfig, Error, ErrorKind, Exclusions};

/// Bytes of one item.
const BATCH_BYTES: u64 = 1 << 20;
/// Contents of file records in one item.
const BATCH_RESIDENTS: usize = 256;
/// Contents that stand in file records, bytes; what is beyond gets clusters.
const MAX_RESIDENT_BYTES: u64 = 64 << 20;
/// Bytes of `$Boot`.
const BOOT_BYTES: usize = 8192;
/// Room that a volume needs beside what it holds, at least and at most: a system that cannot write anything does not start.
const SPARE_BYTES: Range<u64> = 4 << 20..2 << 30;
const SOURCE: SourceId = SourceId(0);

/// What means nothing on a volume laid out anew, or is made anew by Windows: page files, a hibernated system, and shadow copies, which know
/// by its number each cluster that they stand for.
const LEFT_OUT: &str = "[ExclusionList]\n\\hiberfil.sys\n\\pagefile.sys\n\\swapfile.sys\n\
    \\System Volume Information\\*{3808876b-c176-4e48-b7ae-04046e6cc752}\n";

/// A volume that was read, ready to be laid out elsewhere.
#[derive(Debug)]
pub(crate) struct SourceVolume {
    tree: Tree,
    source: NtfsSource,
    boot: Vec<u8>,
    /// What could not be read of it.
    missing: Vec<String>,
}

/// How it is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemakeOptions<'a> {
    /// Name of the stage in events.
    pub(crate) stage: &'a str,
    /// Threads; one for each processor when `None`.
    pub(crate) threads: Option<usize>,
    /// Whether everything is read back, and the structure checked.
    pub(crate) is_verified: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RemakeReport {
    /// Files and directories.
    pub(crate) files: u64,
    /// Bytes of contents written.
    pub(crate) written_bytes: u64,
    /// Bytes read back and found right.
    pub(crate) verified_bytes: u64,
    /// What was odd.
    pub(crate) warnings: Vec<String>,
    /// How much of it is not there.
    pub(crate) skipped: u64,
    /// What the new volume does not keep.
    pub(crate) losses: Vec<Loss>,
}

impl SourceVolume {
    /// Reads the files of the volume that fills `device`. One that was not left in order is refused.
    pub(crate) fn open(device: Box<dyn ReadAt>, name: String, ctl: &Ctl) -> Result<Self, Error> {
        let context = Context { ctl, observer: &Silent, threads: 1 };
        let meter = Meter::start(&context, "scan");
        let config = CaptureConfig::parse(LEFT_OUT, "what is left out", NameCase::Ignore)?;
        let options =
            ScanOptions { exclude: Exclusions::default().with_config(config), ..ScanOptions::default() };
        let (tree, source) = NtfsSource::scan_source(device, name.clone(), SOURCE, &options, &meter, ctl)?;
        let boot = source.device().read_vec_at(0, BOOT_BYTES).map_err(Error::io("read", name))?;
        Ok(Self { tree, source, boot, missing: meter.finish().warnings })
    }

    /// Bytes that a volume for these files has at least, room to live in included.
    pub(crate) fn least_bytes(&self, sector_bytes: u32) -> Result<u64, Error> {
        // As large as it was: a smaller one has a smaller bitmap and a smaller log.
        let options = self.options(self.source.device().size(), sector_bytes, 0)?;
        let plan = VolumePlan::new(&self.tree, &Guide(&self.source), &options);
        let plan = plan.map_err(|error| Error::Other {
            what: "its files on a volume of their own".to_owned(),
            source: Box::new(error),
            kind: ErrorKind::Refused,
        })?;
        Ok(with_spare_bytes(plan.used_bytes()))
    }

    fn options(&self, size: u64, sector_bytes: u32, hidden_sectors: u64) -> Result<VolumeOptions, Error> {
        let (volume, boot) = (self.source.volume(), self.source.volume().boot());
        let sector_size = SectorSize::from_bytes(sector_bytes).ok_or_else(|| Error::Unsupported {
            what: "sector size for NTFS",
            value: format!("{sector_bytes} bytes"),
        })?;
        let units = volume.label().units();
        // Code of BIOS machines counts in sectors of 512 bytes.
        let boot_code = [boot.sector_bytes, sector_bytes] == [512, 512];
        let boot_code = boot_code.then(|| self.boot.first_chunk().copied().map(Box::new)).flatten();
        Ok(VolumeOptions {
            sector_size,
            // Clusters of less than a sector cannot be.
            cluster_bytes: u32::try_from(boot.cluster_bytes).ok().filter(|bytes| *bytes >= sector_bytes),
            hidden_sectors,
            label: NtName::from_units(&units[..units.len().min(MAX_LABEL_UNITS)]),
            serial: Some(boot.serial),
            boot_code,
            time: now(),
            collisions: Collisions::Keep,
            max_resident_bytes: MAX_RESIDENT_BYTES,
            ..VolumeOptions::new(size)
        })
    }

    /// Makes `device` a volume with these files, with the label and the serial number that they had.
    pub(crate) fn lay(
        &self,
        device: &dyn VolumeDevice,
        options: RemakeOptions<'_>,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<RemakeReport, Error> {
        let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
        let meter = Meter::start(&context, options.stage);
        self.missing.iter().for_each(|what| meter.skip(|| what.clone()));
        let sector = device.sector_bytes();
        let hidden = device.first_byte() / u64::from(sector);
        let options_of_volume = self.options(device.size(), sector, hidden)?;
        let plan = VolumePlan::new(&self.tree, &Guide(&self.source), &options_of_volume)
            .map_err(|error| refused(device.name(), error))?;
        let residents = Residents::new(plan.resident_bytes());
        let job = Remaking { volume: self, plan: &plan, residents: &residents, device };
        let contents = Contents::new(&self.tree, &plan);
        meter.expect(contents.bytes);

        let laying = Laying::new(&plan, device);
        laying.unmake()?;
        let written = job.write(&contents, &context, &meter)?;
        laying.metadata(&residents, ctl)?;
        let verified_bytes = if options.is_verified {
            let (none, tree) = (ReadPlan::default(), &self.tree);
            let bytes = verify::read_back(
                &plan,
                &none,
                &HashSet::new(),
                &residents,
                written,
                tree,
                device,
                &context,
            )?;
            structure::check_structure(device, &plan.boot_sectors(), &context, &meter)?;
            bytes
        } else {
            0
        };
        laying.finish()?;

        let totals = meter.finish();
        Ok(RemakeReport {
            files: plan.file_count(),
            written_bytes: plan.content_bytes(),
            verified_bytes,
            warnings: totals.warnings,
            skipped: totals.skipped,
            losses: losses(&plan.notes()),
        })
    }
}

/// Bytes of a volume that is to hold so many and be of use, whole MiB.
pub(crate) fn with_spare_bytes(used: u64) -> u64 {
    let spare = (used / 16).clamp(SPARE_BYTES.start, SPARE_BYTES.end);
    used.saturating_add(spare).checked_next_multiple_of(1 << 20).unwrap_or(u64::MAX)
}

/// Order and form of contents: as the source has them.
struct Guide<'a>(&'a NtfsSource);

fn key(content: &ContentRef) -> Option<u64> {
    match content.origin {
        Origin::Source { key, .. } => Some(key),
        _ => None,
    }
}

impl ContentGuide for Guide<'_> {
    fn position(&self, content: &ContentRef) -> u64 {
        key(content).map_or(0, |key| self.0.position(key))
    }

    fn encoding(&self, _: NodeId, content: &ContentRef) -> Encoding {
        match key(content).and_then(|key| self.0.compressed_form(key)) {
            Some((algorithm, stored_bytes)) => Encoding::Wof { algorithm, stored_bytes },
            None => Encoding::Plain,
        }
    }

    fn zeros(&self, _: NodeId, content: &ContentRef) -> Vec<Range<u64>> {
        key(content).map(|key| self.0.holes(key)).unwrap_or_default()
    }

    fn is_case_sensitive(&self, node: NodeId) -> bool {
        self.0.is_case_sensitive(node)
    }
}

/// What is to be written.
struct Contents {
    residents: Vec<Use>,
    /// By their first byte on the new volume.
    in_clusters: Vec<(u64, Use)>,
    /// Bytes of all of them as they are written.
    bytes: u64,
}

impl Contents {
    fn new(tree: &Tree, plan: &VolumePlan<'_>) -> Self {
        let mut this = Self { residents: Vec::new(), in_clusters: Vec::new(), bytes: 0 };
        for node in uses::nodes(tree) {
            for (part, content) in uses::parts(tree.node(node)) {
                let wanted = Use { node, part };
                match target::place(plan, wanted) {
                    None | Some(Place::Empty) => continue,
                    Some(Place::Resident { .. }) => this.residents.push(wanted),
                    Some(Place::Clusters { offset, .. } | Place::Compressed { offset, .. }) => {
                        this.in_clusters.push((offset, wanted));
                    }
                    Some(Place::Pieces) => {
                        let first = plan.pieces(node).first().map(|piece| piece.offset);
                        this.in_clusters.extend(first.map(|offset| (offset, wanted)));
                    }
                }
                this.bytes = this.bytes.saturating_add(content.size);
            }
        }
        this.in_clusters.sort_unstable_by_key(|(offset, _)| *offset);
        this
    }
}

/// A part of a content with its place.
#[derive(Debug, Clone, Copy)]
struct Span {
    wanted: Use,
    /// On the new volume.
    offset: u64,
    /// Bytes of its clusters; those behind `len` are zeros.
    allocated: u64,
    /// In the content, or in its compressed stream.
    pos: u64,
    len: u64,
    is_stored: bool,
}

/// One item.
#[derive(Debug)]
enum Job {
    /// Of the list of contents that stand in file records.
    Residents(Vec<Use>),
    /// Side by side on the new volume.
    Clusters(Vec<Span>),
}

#[derive(Clone, Copy)]
struct Remaking<'a, 't> {
    volume: &'a SourceVolume,
    plan: &'a VolumePlan<'t>,
    residents: &'a Residents,
    device: &'a dyn VolumeDevice,
}

impl Remaking<'_, '_> {
    /// Writes all contents; what was written where.
    fn write(
        self,
        contents: &Contents,
        context: &Context<'_>,
        meter: &Meter<'_>,
    ) -> Result<Vec<CopiedPart>, Error> {
        let mut residents = contents.residents.chunks(BATCH_RESIDENTS);
        let mut in_clusters = contents.in_clusters.iter();
        let mut waiting: VecDeque<Span> = VecDeque::new();
        let source = |_: &mut Vec<u8>| {
            if let Some(some) = residents.next() {
                return Ok(Some(Job::Residents(some.to_vec())));
            }
            let mut spans: Vec<Span> = Vec::new();
            let mut bytes = 0;
            loop {
                let Some(span) = waiting.front().copied() else {
                    let Some((_, wanted)) = in_clusters.next() else { break };
                    waiting.extend(self.spans(*wanted));
                    continue;
                };
                let end = spans.last().map_or(span.offset, |last| last.offset + last.allocated);
                if end != span.offset || (bytes > 0 && bytes + span.allocated > BATCH_BYTES) {
                    break;
                }
                bytes += span.allocated;
                spans.push(span);
                waiting.pop_front();
            }
            Ok((!spans.is_empty()).then_some(Job::Clusters(spans)))
        };
        let threads = context.threads.max(1);
        let permits = (0..threads + 4).map(|_| Vec::new()).collect();
        let workers =
            (0..threads).map(|_| Copier { job: self, meter, decoders: Decoders::default() }).collect();
        let mut written = Vec::new();
        stage::run(context.ctl, permits, workers, source, |done: Result<Option<CopiedPart>, Error>, _| {
            written.extend(done?);
            Ok(())
        })?;
        Ok(written)
    }

    /// The parts of a content, none larger than an item.
    fn spans(self, wanted: Use) -> Vec<Span> {
        let tree = &self.volume.tree;
        let size = content(tree, wanted).map_or(0, |content| content.size);
        let (pieces, size, is_stored) = match target::place(self.plan, wanted) {
            Some(Place::Clusters { offset, allocated }) => {
                (vec![Piece { pos: 0, offset, allocated }], size, false)
            }
            Some(Place::Compressed { offset, allocated, stored_bytes }) => {
                (vec![Piece { pos: 0, offset, allocated }], stored_bytes, true)
            }
            Some(Place::Pieces) => (self.plan.pieces(wanted.node), size, false),
            None | Some(Place::Empty | Place::Resident { .. }) => return Vec::new(),
        };
        let mut spans = Vec::new();
        for piece in pieces {
            let mut at = 0;
            while at < piece.allocated {
                let allocated = (piece.allocated - at).min(BATCH_BYTES);
                let pos = piece.pos + at;
                let len = size.saturating_sub(pos).min(allocated);
                spans.push(Span { wanted, offset: piece.offset + at, allocated, pos, len, is_stored });
                at += allocated;
            }
        }
        spans
    }
}

fn content(tree: &Tree, wanted: Use) -> Option<&ContentRef> {
    uses::parts(tree.node(wanted.node)).find(|(part, _)| *part == wanted.part).map(|(_, content)| content)
}

/// One thread.
struct Copier<'a, 't> {
    job: Remaking<'a, 't>,
    meter: &'a Meter<'a>,
    decoders: Decoders,
}

impl Work<Job, Vec<u8>, Result<Option<CopiedPart>, Error>> for Copier<'_, '_> {
    fn work(
        &mut self,
        mut item: Item<Job, Vec<u8>>,
        out: &Outbox<Result<Option<CopiedPart>, Error>, Vec<u8>>,
    ) {
        let done = match &item.job {
            Job::Residents(list) => self.keep(list, &mut item.permit).map(|()| None),
            Job::Clusters(spans) => self.copy(spans, &mut item.permit),
        };
        out.done(item.ticket, done, item.permit);
    }
}

impl Copier<'_, '_> {
    /// Keeps contents for their records.
    fn keep(&mut self, list: &[Use], buf: &mut Vec<u8>) -> Result<(), Error> {
        for wanted in list {
            let Some(Place::Resident { slot }) = target::place(self.job.plan, *wanted) else { continue };
            let size = content(&self.job.volume.tree, *wanted).map_or(0, |content| content.size);
            buf.clear();
            buf.resize(usize::try_from(size).unwrap_or(0), 0);
            self.read(*wanted, 0, false, buf)?;
            self.job.residents.put(slot, buf);
            self.meter.add(size);
        }
        Ok(())
    }

    /// Writes parts of contents that lie side by side in one go.
    fn copy(&mut self, spans: &[Span], buf: &mut Vec<u8>) -> Result<Option<CopiedPart>, Error> {
        let Some(first) = spans.first() else { return Ok(None) };
        buf.clear();
        let mut bytes = 0;
        for span in spans {
            let start = buf.len();
            let end = |len: u64| start + usize::try_from(len).unwrap_or(0);
            buf.resize(end(span.allocated), 0);
            self.read(span.wanted, span.pos, span.is_stored, &mut buf[start..end(span.len)])?;
            bytes += span.len;
        }
        let device = self.job.device;
        device.write_all_at(first.offset, buf).map_err(Error::io("write", device.name()))?;
        self.meter.add(bytes);
        let blake3 = *blake3::hash(buf).as_bytes();
        let len = buf.len() as u64;
        Ok(Some(CopiedPart { offset: first.offset, len, node: first.wanted.node, blake3 }))
    }

    fn read(&mut self, wanted: Use, pos: u64, is_stored: bool, buf: &mut [u8]) -> Result<(), Error> {
        let volume = self.job.volume;
        let content = content(&volume.tree, wanted);
        let read = match content.map(|content| &content.origin) {
            Some(Origin::Source { key, .. }) if is_stored => volume.source.read_compressed(*key, pos, buf),
            Some(Origin::Source { key, .. }) => volume.source.read(*key, pos, buf, &mut self.decoders),
            Some(Origin::Inline(bytes)) => {
                let start = usize::try_from(pos).unwrap_or(usize::MAX);
                let found = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
                match found {
                    Some(found) => {
                        buf.copy_from_slice(found);
                        Ok(())
                    }
                    None => Err(homeless()),
                }
            }
            _ => Err(homeless()),
        };
        read.map_err(|error| {
            let paths = uses::paths(&volume.tree, &[wanted.node], 1);
            let what = match (wanted.part, paths.into_iter().next()) {
                (Part::Named(_), Some(path)) => format!("a stream of {path}"),
                (_, path) => path.unwrap_or_else(|| "a file".to_owned()),
            };
            let kind = error.kind();
            Error::Other { what, source: Box::new(error), kind }
        })
    }
}

fn homeless() -> Error {
    Error::Other {
        what: "read a content".to_owned(),
        source: "it is not on the volume".into(),
        kind: ErrorKind::Failed,
    }
}
