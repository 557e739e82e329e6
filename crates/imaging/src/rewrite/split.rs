//! A file cut into parts of a given size (wim-container section 9): whole resources are dealt out, so that a part is only
//! as small as its largest resource lets it be. Nothing is decoded or encoded. The parts of a pipable file are pipable: one
//! behind the other they go through one pipe.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_tree::{Origin, Sha1Hash};
use gravure_wim::{
    BlobId, CopyOutcome, INTEGRITY_CHUNK_BYTES, Layout, PipableWriter, Wim, WimWriter, WriteOptions,
};

use super::export::has_integrity;
use super::new_file::{Gathered, gather};
use super::{ReadBack, RewriteOptions, read_back};
use crate::capture::OUT_BUFFER_BYTES;
use crate::image::part_path;
use crate::meter::{Context, Meter};
use crate::output_file::OutputFile;
use crate::read_ahead::ReadAhead;
use crate::{Error, ImageFile, integrity};

/// Bytes of header and of one entry of a blob table (wim-container sections 2, 4).
const HEADER_BYTES: u64 = gravure_wim::HEADER_BYTES;
const ENTRY_BYTES: u64 = 50;
/// What stands before each resource and each table of a pipable file (wim-container section 5.5).
const PIPE_HEADER_BYTES: u64 = 40;
/// Bytes of an integrity table besides its hashes, and of each hash.
const INTEGRITY_HEAD_BYTES: u64 = 12;
const INTEGRITY_HASH_BYTES: u64 = 20;

/// What a split made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SplitReport {
    /// The parts, in order, with their sizes in bytes.
    pub parts: Vec<(PathBuf, u64)>,
    /// Parts that are larger than was wanted, counted from 1: each holds a resource that cannot be cut.
    pub too_large: Vec<u16>,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things asked for and not done.
    pub skipped: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Splits the file `source`, which is in one part, into `first` and its further parts (`x.swm`, `x2.swm`, ...) of at most
/// `part_bytes`. The first part gets its name last.
pub fn split(
    source: &ImageFile,
    first: &Path,
    part_bytes: u64,
    options: &RewriteOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<SplitReport, Error> {
    let context = options.context(ctl, observer);
    let meter = Meter::start(&context, &options.stage);
    let wim = source.wim();
    check(source)?;
    let images: Vec<_> = wim.images().collect();
    let gathered = gather(source, &images, &meter)?;
    let has_table = options.integrity.is_wanted(has_integrity(wim));
    let plan = deal(wim, &gathered, part_bytes, has_table)?;
    let count = u16::try_from(plan.len()).map_err(|_| Error::Usage {
        what: "size of a part".to_owned(),
        expected: "one that gives at most 65535 parts".to_owned(),
        found: format!("{part_bytes} bytes, which gives {}", plan.len()),
    })?;
    let mut report = SplitReport::default();
    for (number, part) in (1..=count).zip(&plan) {
        if part.bytes > part_bytes {
            report.too_large.push(number);
            let largest = part.largest;
            meter.skip(|| {
                format!("part {number} is larger than wanted: a resource of {largest} bytes cannot be cut")
            });
        }
    }
    meter.expect(plan.iter().flat_map(|part| &part.blobs).map(|blob| blob.stored_bytes).sum());
    // The whole file is read, mostly front to back.
    let ahead = ReadAhead::new(source.source(), &[]);
    let mut outputs = Vec::new();
    for (number, part) in (1..=count).zip(&plan) {
        let path = part_path(first, number);
        let out = OutputFile::create(&path)?;
        let job = PartJob { source, ahead: &ahead, gathered: &gathered, number, count, has_table };
        let size = write_part(&context, &meter, &out, &job, part)?;
        if options.read_back == ReadBack::Full {
            read_back::check(&context, &meter, out.temporary(), |_| true)?;
        }
        report.parts.push((path, size));
        outputs.push(out);
    }
    // The first part last: as long as it is not there, nobody takes the others for a set.
    outputs.reverse();
    outputs.into_iter().try_for_each(OutputFile::commit)?;
    let totals = meter.finish();
    report.warnings = totals.warnings;
    report.skipped = totals.skipped;
    report.milliseconds = totals.milliseconds;
    Ok(report)
}

/// Whether the file can be split as it is stored.
fn check(source: &ImageFile) -> Result<(), Error> {
    let wim = source.wim();
    let cannot = |value: &str| {
        let cure = "export it to a file of its own first";
        Err(Error::Unsupported { what: "splitting", value: format!("{}: {value}; {cure}", source.name()) })
    };
    if wim.header().parts > 1 {
        return cannot("it is split already");
    }
    if wim.resources().iter().any(|resource| resource.solid.is_some()) {
        return cannot("it has solid resources, which cannot be dealt out");
    }
    Ok(())
}

/// What goes into one part.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    blobs: Vec<Share>,
    /// Its size with all tables.
    bytes: u64,
    /// Its largest resource.
    largest: u64,
}

/// A blob and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    id: BlobId,
    sha1: Sha1Hash,
    stored_bytes: u64,
}

/// Deals blobs out in the order in which they lie, so that an apply reads part after part.
fn deal(wim: &Wim, gathered: &Gathered, part_bytes: u64, has_table: bool) -> Result<Vec<Part>, Error> {
    let mut shares: Vec<(u64, Share)> = Vec::new();
    for content in &gathered.contents {
        let Origin::Source { key, .. } = content.origin else { continue };
        let blob = BlobId::from_key(key).and_then(|id| Some((id, wim.blob(id)?)));
        let found = blob.and_then(|(id, blob)| Some((id, blob, wim.resource(blob.resource)?)));
        let Some((id, blob, resource)) = found else {
            return Err(Error::NotFound { what: "blob", which: key.to_string() });
        };
        let stored_bytes = resource.header.stored_size;
        shares.push((resource.header.offset, Share { id, sha1: blob.sha1, stored_bytes }));
    }
    shares.sort_by_key(|(offset, _)| *offset);
    let metadata: Vec<u64> = wim
        .images()
        .filter_map(|image| wim.metadata_resource(image))
        .map(|metadata| metadata.header.stored_size)
        .collect();
    let shares: Vec<Share> = shares.into_iter().map(|(_, share)| share).collect();
    let document = wim.info().to_bytes().len() as u64;
    let costs = Costs::of(wim.header().layout, document);
    Ok(fill(&metadata, &shares, &costs, part_bytes, has_table))
}

/// What a part takes beside its resources.
struct Costs {
    /// For each resource.
    entry: u64,
    /// What an integrity table covers, and what it does not.
    covered: u64,
    others: u64,
}

impl Costs {
    /// With an XML document of `document` bytes.
    fn of(layout: Layout, document: u64) -> Self {
        match layout {
            Layout::Normal => Self { entry: ENTRY_BYTES, covered: 0, others: HEADER_BYTES + document },
            // Header and document stand at both ends.
            Layout::Pipable => Self {
                entry: PIPE_HEADER_BYTES + ENTRY_BYTES,
                covered: PIPE_HEADER_BYTES + document + PIPE_HEADER_BYTES,
                others: HEADER_BYTES + PIPE_HEADER_BYTES + document + HEADER_BYTES,
            },
        }
    }
}

/// Fills parts one after the other; the first holds the metadata.
fn fill(metadata: &[u64], shares: &[Share], costs: &Costs, part_bytes: u64, has_table: bool) -> Vec<Part> {
    let size = |resources: u64, entries: u64| {
        let covered = costs.covered + resources + entries * costs.entry;
        let table =
            INTEGRITY_HEAD_BYTES + covered.div_ceil(u64::from(INTEGRITY_CHUNK_BYTES)) * INTEGRITY_HASH_BYTES;
        costs.others + covered + if has_table { table } else { 0 }
    };
    let (mut resources, mut entries) = (metadata.iter().sum::<u64>(), metadata.len() as u64);
    let mut part = Part {
        bytes: size(resources, entries),
        largest: metadata.iter().copied().max().unwrap_or(0),
        ..Part::default()
    };
    let mut parts = Vec::new();
    for share in shares {
        let grown = size(resources + share.stored_bytes, entries + 1);
        if grown > part_bytes && entries > 0 {
            parts.push(std::mem::take(&mut part));
            (resources, entries) = (0, 0);
        }
        resources += share.stored_bytes;
        entries += 1;
        part.bytes = size(resources, entries);
        part.largest = part.largest.max(share.stored_bytes);
        part.blobs.push(*share);
    }
    parts.push(part);
    parts
}

/// One part to be written.
struct PartJob<'a> {
    source: &'a ImageFile,
    ahead: &'a ReadAhead<'a>,
    gathered: &'a Gathered,
    number: u16,
    count: u16,
    has_table: bool,
}

fn write_part(
    context: &Context<'_>,
    meter: &Meter<'_>,
    out: &OutputFile,
    job: &PartJob<'_>,
    part: &Part,
) -> Result<u64, Error> {
    let wim = job.source.wim();
    if wim.header().layout == Layout::Pipable {
        return write_pipable_part(context, meter, out, job, part);
    }
    let name = out.path().display().to_string();
    let options = WriteOptions {
        compression: wim.header().compression,
        guid: wim.header().guid,
        links_fixed: false,
        allow_missing_blobs: true,
    };
    let mut writer = WimWriter::create(out.file(), &options).map_err(Error::wim(&name))?;
    writer.adopt(wim).map_err(Error::wim(&name))?;
    writer.set_part(job.number, job.count, wim.info()).map_err(Error::wim(&name))?;
    if job.number == 1 {
        let limits = job.source.archives().get(0).limits();
        for (image, references) in wim.images().zip(&job.gathered.references) {
            let info = wim.info().image(image.index()).unwrap_or_default();
            let copied = writer.copy_image(job.source.source(), wim, image, references, info, limits);
            copied.map_err(Error::wim(format!("{name}, image {}", image.number())))?;
        }
    }
    for share in &part.blobs {
        context.ctl.check()?;
        match writer.copy_blob(job.ahead, wim, share.id).map_err(Error::wim(&name))? {
            CopyOutcome::Copied(_) | CopyOutcome::Duplicate => {}
            CopyOutcome::MustRecode => {
                return Err(Error::Unsupported {
                    what: "splitting",
                    value: format!("blob {} cannot be copied as it is stored", share.sha1),
                });
            }
        }
        meter.add(share.stored_bytes);
    }
    let all: Vec<(Sha1Hash, u32)> = job.gathered.references.iter().flatten().copied().collect();
    writer.set_references(&all);
    let tables = writer.write_tables().map_err(Error::wim(&name))?;
    let written = integrity::complete(context, tables, &name, job.has_table, None)?;
    out.truncate(written.size)?;
    Ok(written.size)
}

fn write_pipable_part(
    context: &Context<'_>,
    meter: &Meter<'_>,
    out: &OutputFile,
    job: &PartJob<'_>,
    part: &Part,
) -> Result<u64, Error> {
    let (wim, name) = (job.source.wim(), out.path().display().to_string());
    let failed = || Error::wim(&name);
    let mut buffer = BufWriter::with_capacity(OUT_BUFFER_BYTES, out.file().file());
    let all: Vec<(Sha1Hash, u32)> = job.gathered.references.iter().flatten().copied().collect();
    let place = (job.number, job.count);
    let writer = PipableWriter::create_part(&mut buffer, job.ahead, wim, place, &all, job.has_table);
    let mut writer = writer.map_err(failed())?;
    for share in &part.blobs {
        context.ctl.check()?;
        writer.copy_blob(job.ahead, wim, share.id).map_err(failed())?;
        meter.add(share.stored_bytes);
    }
    Ok(writer.finish().map_err(failed())?.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(stored_bytes: u64) -> Share {
        Share { id: BlobId::from_key(0).unwrap(), sha1: Sha1Hash::ZERO, stored_bytes }
    }

    #[test]
    fn parts_are_as_full_as_their_size_with_all_tables_allows() {
        // 208 + 100 of document; every resource costs 50 more than its bytes.
        let parts = |metadata: &[u64], stored: &[u64], wanted| {
            let shares: Vec<Share> = stored.iter().map(|bytes| share(*bytes)).collect();
            let parts = fill(metadata, &shares, &Costs::of(Layout::Normal, 100), wanted, false);
            parts.iter().map(|part| (part.blobs.len(), part.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(parts(&[100], &[100, 100, 100], 10_000), [(3, 908)]);
        assert_eq!(parts(&[100], &[100, 100, 100], 608), [(1, 608), (2, 608)]);
        assert_eq!(parts(&[100], &[100, 100, 100], 607), [(0, 458), (1, 458), (1, 458), (1, 458)]);
        assert_eq!(parts(&[100], &[100, 5000, 100], 608), [(1, 608), (1, 5358), (1, 458)]);
        assert_eq!(parts(&[], &[], 10), [(0, 308)]);
        assert_eq!(parts(&[], &[5000], 10), [(1, 5358)]);
        let with_table = fill(&[100], &[share(100)], &Costs::of(Layout::Normal, 100), 10_000, true);
        assert_eq!(with_table[0].bytes, 608 + 12 + 20);
        // Header, document and its head twice, the table and its head, two resources with a head and an entry each.
        let pipable = fill(&[100], &[share(100)], &Costs::of(Layout::Pipable, 100), 10_000, false);
        assert_eq!(pipable[0].bytes, 2 * (208 + 40 + 100) + 40 + 2 * (100 + 40 + 50));
    }
}
