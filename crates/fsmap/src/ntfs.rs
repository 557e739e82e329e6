//! NTFS through `gravure_ntfs`: `$Bitmap`, without what Windows makes anew by itself.

use std::ops::Range;

use gravure_disk::Found;
use gravure_io::ReadAt;
use gravure_ntfs::{FileClusters, FileVisitor, Unclean, Volume};

use crate::extents::Extents;
use crate::map::Draft;
use crate::owners::{Claims, Names};
use crate::probe::fact;
use crate::{Error, Excluded, FileExtent, Kind, Options, Owned, Probe, Reason, State};

/// Record of the root directory.
const ROOT: u32 = 5;
/// Directories above a file at most; Windows allows paths of 32,767 units.
const MAX_DEPTH: usize = 16_384;

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let volume = Volume::open(dev)?;
    let boot = volume.boot();
    // The copy of the boot sector stands behind the sectors that are counted.
    let sectors = boot.sectors.saturating_add(1);
    let size = sectors.saturating_mul(boot.sector_bytes.into()).min(dev.size());
    let mut probe = Probe::new(Kind::Ntfs, size);
    probe.label = Some(String::from_utf16_lossy(volume.label().units())).filter(|label| !label.is_empty());
    probe.uuid = Some(format!("{:016X}", boot.serial));
    let (major, minor) = volume.version();
    probe.version = Some(format!("{major}.{minor}"));
    probe.sector_size = Some(boot.sector_bytes);
    probe.block_size = u32::try_from(boot.cluster_bytes).ok();
    probe.facts = vec![fact("clusters", boot.clusters), fact("records", volume.record_count())];
    probe.state = match volume.state().unclean() {
        None => State::Clean,
        Some(Unclean::Hibernated) => State::Unclean(Reason::Hibernated),
        Some(Unclean::LogPending) => State::Unclean(Reason::LogPending),
        Some(Unclean::LogUnknown) => State::Unclean(Reason::LogUnknown),
        Some(_) => State::Unclean(Reason::NotUnmounted),
    };
    Ok(probe)
}

/// Bytes of clusters.
fn bytes(volume: &Volume, lcn: u64, clusters: u64) -> Range<u64> {
    volume.boot().offset(lcn)..volume.boot().offset(lcn.saturating_add(clusters))
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let volume = Volume::open(dev)?;
    let unit = probe.block_size.unwrap_or(4096);
    let mut draft = Draft::new(dev.size(), unit, options);
    let mut exclude = Vec::new();
    for (name, why, is_wanted) in [
        ("pagefile.sys", Excluded::PageFile, options.exclude.page_files),
        ("swapfile.sys", Excluded::PageFile, options.exclude.page_files),
        ("hiberfil.sys", Excluded::Hibernation, options.exclude.hibernation),
    ] {
        if is_wanted {
            exclude.extend(excluded(dev, &volume, name, why)?);
        }
    }
    exclude.sort_unstable_by_key(|file: &ExcludedRun| file.range.start);
    if options.max_extents > 0 || !exclude.is_empty() {
        let mut files = Files { volume: &volume, options, exclude, out: &mut draft.extents, damaged: 0 };
        volume.visit_files(dev, &mut files)?;
        let (damaged, found) = (files.damaged, files.exclude);
        if damaged > 0 {
            draft.notes.push(format!("{damaged} files are damaged; their pieces are not listed"));
        }
        let shared = found.iter().filter(|run| run.is_shared).count();
        if shared > 0 {
            draft.notes.push(format!(
                "{shared} pieces of page or hibernation files belong to other files, too: kept"
            ));
        }
        let apart = found.into_iter().filter(|run| !run.is_shared && damaged == 0);
        draft.runs.exclude(apart.map(|run| (run.range, run.why)).collect());
    }
    let mut next = 0u64;
    for run in volume.used_runs(dev)? {
        if !(options.goes_on)() {
            return Err(Error::Stopped);
        }
        let run = run?;
        draft.runs.free(bytes(&volume, next, run.lcn.saturating_sub(next)));
        next = run.lcn.saturating_add(run.clusters);
    }
    draft.runs.free(bytes(&volume, next, volume.boot().clusters.saturating_sub(next)));
    draft.free_tail(probe.size);
    Ok(draft)
}

/// A piece of a file that need not be kept.
#[derive(Debug)]
struct ExcludedRun {
    record: u32,
    range: Range<u64>,
    why: Excluded,
    /// Another file says that it is its own.
    is_shared: bool,
}

/// The pieces of a file of the root directory.
fn excluded(dev: &dyn ReadAt, volume: &Volume, name: &str, why: Excluded) -> Result<Vec<ExcludedRun>, Error> {
    let Some(file) = volume.root_file(dev, name)? else { return Ok(Vec::new()) };
    // Compressed, encrypted, a directory: not what Windows makes.
    let is_usual = !file.is_directory && file.streams.iter().all(|stream| stream.is_plain);
    let content =
        file.streams.iter().filter(|stream| stream.is_content && stream.name.is_empty() && is_usual);
    let runs = content.flat_map(|stream| &stream.runs).map(|run| ExcludedRun {
        record: file.record,
        range: bytes(volume, run.lcn, run.clusters),
        why,
        is_shared: false,
    });
    Ok(runs.collect())
}

struct Files<'a> {
    volume: &'a Volume,
    options: &'a Options<'a>,
    /// Ascending.
    exclude: Vec<ExcludedRun>,
    out: &'a mut Extents,
    damaged: u64,
}

impl FileVisitor for Files<'_> {
    fn file(&mut self, file: &FileClusters) {
        let unit = self.volume.boot().cluster_bytes;
        for stream in &file.streams {
            for run in &stream.runs {
                let range = bytes(self.volume, run.lcn, run.clusters);
                let first = self.exclude.partition_point(|run| run.range.end <= range.start);
                for excluded in self.exclude.iter_mut().skip(first) {
                    if excluded.range.start >= range.end {
                        break;
                    }
                    excluded.is_shared |= excluded.record != file.record;
                }
                if file.is_system || !stream.is_content || !stream.is_plain || self.options.max_extents == 0 {
                    continue;
                }
                let file_offset = run.vcn.saturating_mul(unit);
                let len = range.end.saturating_sub(range.start);
                let content = stream.written.saturating_sub(file_offset).min(len);
                if content > 0 {
                    self.out.push(FileExtent { offset: range.start, len, file_offset, content });
                }
            }
        }
    }

    fn damaged(&mut self, _: u32) {
        self.damaged = self.damaged.saturating_add(1);
    }

    fn goes_on(&mut self) -> bool {
        (self.options.goes_on)()
    }
}

/// Who owns what of `ranges`.
pub(crate) fn owners(
    dev: &dyn ReadAt,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let volume = Volume::open(dev)?;
    let mut visitor = Claimer { volume: &volume, claims: Claims::new(ranges), goes_on };
    volume.visit_files(dev, &mut visitor)?;
    let mut claims = visitor.claims;
    let mut next = 0u64;
    for run in volume.used_runs(dev)? {
        let run = run?;
        claims.free(bytes(&volume, next, run.lcn.saturating_sub(next)));
        next = run.lcn.saturating_add(run.clusters);
    }
    claims.free(bytes(&volume, next, volume.boot().clusters.saturating_sub(next)));
    let sector = u64::from(volume.boot().sector_bytes);
    let copy = volume.boot().sectors.saturating_mul(sector);
    claims.metadata(copy..copy.saturating_add(sector), || "copy of the boot sector".to_owned());
    // What is left lies between the last cluster and the copy, or behind the volume.
    claims.free(volume.boot().offset(volume.boot().clusters)..copy);
    claims.free(copy.saturating_add(sector)..dev.size());
    let mut names = Names::new();
    for number in claims.files() {
        if let Some(found) = u32::try_from(number).ok().map(|record| paths(dev, &volume, record)) {
            let found = found?;
            if !found.is_empty() {
                names.insert(number, found);
            }
        }
    }
    Ok(claims.finish(&names, "record"))
}

struct Claimer<'a> {
    volume: &'a Volume,
    claims: Claims<'a>,
    goes_on: &'a dyn Fn() -> bool,
}

impl FileVisitor for Claimer<'_> {
    fn file(&mut self, file: &FileClusters) {
        for run in file.streams.iter().flat_map(|stream| &stream.runs) {
            let range = bytes(self.volume, run.lcn, run.clusters);
            match file.names.first().filter(|_| file.is_system) {
                Some((_, name)) => self.claims.metadata(range, || String::from_utf16_lossy(name.units())),
                None => self.claims.file(range, file.record.into()),
            }
        }
    }

    fn damaged(&mut self, _: u32) {}

    fn goes_on(&mut self) -> bool {
        (self.goes_on)()
    }
}

/// All paths of a file; those whose directories are damaged are left out.
fn paths(dev: &dyn ReadAt, volume: &Volume, record: u32) -> Result<Vec<String>, Error> {
    let look = |record| match volume.file_clusters(dev, record) {
        Ok(file) => Ok(Some(file)),
        Err(error @ gravure_ntfs::Error::Io { .. }) => Err(Error::from(error)),
        Err(_) => Ok(None),
    };
    if record == ROOT {
        return Ok(vec!["/".to_owned()]);
    }
    let Some(file) = look(record)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (parent, name) in &file.names {
        let mut parts = vec![String::from_utf16_lossy(name.units())];
        let mut above = *parent;
        while above != ROOT && parts.len() < MAX_DEPTH {
            let Some(directory) = look(above)?.filter(|file| file.is_directory) else { break };
            let Some((parent, name)) = directory.names.first() else { break };
            parts.push(String::from_utf16_lossy(name.units()));
            above = *parent;
        }
        if above == ROOT {
            parts.push(String::new());
            parts.reverse();
            out.push(parts.join("/"));
        }
    }
    Ok(out)
}
