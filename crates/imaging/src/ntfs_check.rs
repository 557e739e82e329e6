//! Volumes looked at: checked, or asked what they are.

use std::path::Path;
use std::time::Instant;

use gravure_model::Ctl;
use gravure_ntfs::{CheckObserver, CheckReport, Finding, Strictness, Volume, check};
use gravure_tree::{SourceId, Tree};

use crate::Error;
use crate::directory::ScanOptions;
use crate::meter::{Context, Meter};
use crate::ntfs_source::{NtfsSource, ntfs_error, open_volume};

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeCheck {
    /// What the checker says.
    pub report: CheckReport,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Tells of findings until somebody wants no more.
struct Teller<'a> {
    each: &'a mut dyn FnMut(&Finding),
    ctl: &'a Ctl,
    told: Told,
}

/// How many findings are told; all are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// The first thousand of each rule: more is for nobody to read.
    #[default]
    Some,
    /// Every one, however many a damaged volume has.
    All,
}

impl CheckObserver for Teller<'_> {
    fn finding(&mut self, finding: &Finding) {
        (self.each)(finding);
    }

    fn goes_on(&mut self, _: u32, _: u32) -> bool {
        self.ctl.check().is_ok()
    }

    fn most_of_a_rule(&self) -> u64 {
        match self.told {
            Told::Some => 1000,
            Told::All => u64::MAX,
        }
    }
}

/// Checks the NTFS volume at `path`, a partition that is not in use or a file, without changing it. `each` is called with every
/// finding, up to a thousand of each rule; that there are some is no error.
pub fn check_volume(
    path: &Path,
    strictness: Strictness,
    each: &mut dyn FnMut(&Finding),
    ctl: &Ctl,
) -> Result<VolumeCheck, Error> {
    check_volume_telling(path, strictness, Told::default(), each, ctl)
}

/// As [`check_volume`]; `each` is called with as many findings as `told` says.
pub fn check_volume_telling(
    path: &Path,
    strictness: Strictness,
    told: Told,
    each: &mut dyn FnMut(&Finding),
    ctl: &Ctl,
) -> Result<VolumeCheck, Error> {
    let start = Instant::now();
    let name = path.display().to_string();
    let source = open_volume(path)?;
    let report = match check(&*source, strictness, &mut Teller { each, ctl, told }) {
        Err(gravure_ntfs::Error::Stopped) => {
            ctl.check()?;
            return Err(ntfs_error(&name, gravure_ntfs::Error::Stopped));
        }
        other => other.map_err(|error| ntfs_error(&name, error))?,
    };
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(VolumeCheck { report, milliseconds })
}

/// What a volume says of itself.
#[derive(Debug)]
pub struct VolumeInfo {
    /// Label, numbers, state.
    pub volume: Volume,
    /// Clusters in use by its bitmap.
    pub used_clusters: u64,
}

/// Opens the NTFS volume at `path` and reads its bitmap.
pub fn volume_info(path: &Path) -> Result<VolumeInfo, Error> {
    let name = path.display().to_string();
    let source = open_volume(path)?;
    let failed = |error| ntfs_error(&name, error);
    let volume = Volume::open(&*source).map_err(failed)?;
    let used_clusters = volume.used_clusters(&*source).map_err(failed)?;
    Ok(VolumeInfo { volume, used_clusters })
}

/// As [`volume_tree`] for a volume from anywhere, such as a block image; one that was not left in order is read as it stands.
pub(crate) fn source_tree(source: Box<dyn gravure_io::ReadAt>, name: &str, ctl: &Ctl) -> Result<Tree, Error> {
    let context = Context { ctl, observer: &gravure_model::event::Silent, threads: 1 };
    let meter = Meter::start(&context, "scan");
    let options = ScanOptions { unclean: crate::UncleanVolumes::Read, ..ScanOptions::default() };
    let scanned = NtfsSource::scan_source(source, name.to_owned(), SourceId(u32::MAX), &options, &meter, ctl);
    Ok(scanned?.0)
}

/// The files of the NTFS volume at `path`, to be listed: contents have sizes but no hashes. What is odd comes second.
pub fn volume_tree(
    path: &Path,
    options: &ScanOptions,
    ctl: &Ctl,
    observer: &dyn gravure_model::event::Observer,
) -> Result<(Tree, Vec<String>), Error> {
    let context = Context { ctl, observer, threads: 1 };
    let meter = Meter::start(&context, "scan");
    let (tree, _) = NtfsSource::scan(path, SourceId(u32::MAX), options, &meter, ctl)?;
    Ok((tree, meter.finish().warnings))
}
