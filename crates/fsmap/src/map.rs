//! The map itself: options, result, and which file system's code makes it.

use gravure_io::ReadAt;

use crate::extents::Extents;
use crate::runs::Runs;
use crate::{
    Class, Error, FileExtent, Kind, Overlaid, Overlay, Probe, Reason, Run, Segment, State, btrfs, exfat, ext,
    fat, lvm, ntfs, probe, swap, xfs,
};

/// Runs kept at most unless told otherwise: 24 MiB.
const MAX_RUNS: usize = 1 << 20;
/// File extents kept at most unless told otherwise: 64 MiB.
const MAX_EXTENTS: usize = 2 << 20;

/// What of the used bytes need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exclusions {
    /// `pagefile.sys` and `swapfile.sys` of Windows.
    pub page_files: bool,
    /// `hiberfil.sys`, when no system sleeps in it.
    pub hibernation: bool,
    /// All of a swap space but its header.
    pub swap: bool,
}

impl Exclusions {
    /// Everything that a system makes anew by itself.
    pub const ALL: Self = Self { page_files: true, hibernation: true, swap: true };
    /// Nothing.
    pub const NONE: Self = Self { page_files: false, hibernation: false, swap: false };
}

/// What to do where a map would be wrong or of no use. FAT that was not unmounted and has no mark of errors counts as used whole under
/// either: firmware and every system read it as it stands, and an EFI system partition is left so by any power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Fail with [`Error::Refused`].
    Refuse,
    /// Count every byte of the device as used, and say why: always right, never small. Nothing is excluded and no journal is
    /// replayed then: the copy is the device as it stands.
    Everything,
}

/// How a map is made.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// What need not be kept.
    pub exclude: Exclusions,
    /// What to do with unclean and encrypted file systems.
    pub fallback: Fallback,
    /// Runs at most, at least 16; beyond that short gaps count as used.
    pub max_runs: usize,
    /// File extents at most; beyond that the short ones are left out. 0: the files are not looked at.
    pub max_extents: usize,
    /// Asked often; false stops with [`Error::Stopped`].
    pub goes_on: &'a dyn Fn() -> bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            exclude: Exclusions::ALL,
            fallback: Fallback::Refuse,
            max_runs: MAX_RUNS,
            max_extents: MAX_EXTENTS,
            goes_on: &|| true,
        }
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("exclude", &self.exclude)
            .field("fallback", &self.fallback)
            .field("max_runs", &self.max_runs)
            .field("max_extents", &self.max_extents)
            .finish_non_exhaustive()
    }
}

/// What a map stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// The file system's own records of what is used.
    Allocation,
    /// No map of this kind of content: everything counts as used.
    NoMap,
    /// A map was refused, and everything was asked for instead.
    Refused(Reason),
    /// The structures could not be read, and everything was asked for instead.
    Unreadable,
}

/// A volume inside another, as LVM has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedVolume {
    /// Its name, `group/volume`.
    pub name: String,
    /// Where its bytes lie on the device, in its own order.
    pub segments: Vec<Segment>,
    /// What stands on it; `None` where it cannot be read from this device alone.
    pub probe: Option<Probe>,
    /// What its part of the map stands on.
    pub basis: Basis,
}

/// Which bytes of a device must be kept. All offsets are absolute bytes of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedMap {
    /// What stands on the device.
    pub probe: Probe,
    /// What the map stands on.
    pub basis: Basis,
    /// Bytes of the device.
    pub size: u64,
    /// Bytes; all offsets and lengths of runs are multiples of it, but for a last run that ends with the device.
    pub unit: u32,
    /// What must be kept and what is used but may be dropped, ascending, neither touching nor overlapping where the class is
    /// the same. What lies between is free.
    pub runs: Vec<Run>,
    /// Used bytes before any short gap was added to keep to [`Options::max_runs`]; excluded ones are counted too.
    pub allocated: u64,
    /// The replayed journal. When there is one, runs and extents are those of the device *below it*: reads must go through it
    /// ([`UsedMap::overlaid`]).
    pub overlay: Option<Overlay>,
    /// Where files lie, ascending by offset, not overlapping; for cutting chunks. Never needed for correctness.
    pub extents: Vec<FileExtent>,
    /// Volumes inside, which the runs cover already.
    pub volumes: Vec<NestedVolume>,
    /// What people should know about the map, one sentence each.
    pub notes: Vec<String>,
}

impl UsedMap {
    /// Bytes of runs that must be kept.
    pub fn kept(&self) -> u64 {
        self.sum(|class| class == Class::Used)
    }

    /// Bytes of runs that may be dropped.
    pub fn excluded(&self) -> u64 {
        self.sum(|class| class != Class::Used)
    }

    fn sum(&self, counts: impl Fn(Class) -> bool) -> u64 {
        let runs = self.runs.iter().filter(|run| counts(run.class));
        runs.fold(0u64, |sum, run| sum.saturating_add(run.len))
    }

    /// The device as the map describes it: below the overlay, where there is one.
    pub fn overlaid<'a, D: ReadAt>(&'a self, device: D) -> Overlaid<'a, D> {
        self.overlay.as_ref().unwrap_or(&NO_OVERLAY).over(device)
    }
}

static NO_OVERLAY: Overlay = Overlay::new();

/// What the code of a file system puts together.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) unit: u32,
    pub(crate) runs: Runs,
    pub(crate) extents: Extents,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) volumes: Vec<NestedVolume>,
    pub(crate) notes: Vec<String>,
    size: u64,
}

/// Bytes behind a file system that are kept without question: backup boot sectors, signatures of others.
const TAIL_BYTES: u64 = 1 << 20;

impl Draft {
    /// For a device of `size` bytes in units of `unit`; everything is used so far.
    pub(crate) fn new(size: u64, unit: u32, options: &Options<'_>) -> Self {
        Self {
            unit,
            runs: Runs::new(size, options.max_runs),
            extents: Extents::new(options.max_extents),
            overlay: None,
            volumes: Vec::new(),
            notes: Vec::new(),
            size,
        }
    }

    /// What lies behind the end of the file system is free, where it is much and whole units.
    pub(crate) fn free_tail(&mut self, end: u64) {
        let unit = u64::from(self.unit.max(1));
        let start = end.checked_next_multiple_of(unit).unwrap_or(self.size);
        let tail = self.size.saturating_sub(start);
        if tail > TAIL_BYTES {
            let stop = self.size.checked_div(unit).unwrap_or(0).saturating_mul(unit);
            self.runs.free(start..stop);
            self.notes.push(format!("{tail} bytes behind the file system are not kept"));
        }
    }

    fn finish(self, probe: Probe, basis: Basis) -> UsedMap {
        let collected = self.runs.finish();
        let (extents, dropped) = self.extents.finish();
        let mut notes = self.notes;
        if collected.filled > 0 {
            notes.push(format!("{} free bytes in short gaps count as used", collected.filled));
        }
        if dropped > 0 && !extents.is_empty() {
            notes.push(format!("{dropped} short pieces of files are not listed"));
        }
        UsedMap {
            probe,
            basis,
            size: self.size,
            unit: self.unit,
            runs: collected.runs,
            allocated: collected.allocated,
            overlay: self.overlay.filter(|overlay| !overlay.is_empty()),
            extents,
            volumes: self.volumes,
            notes,
        }
    }
}

/// Sector assumed where nothing says: no disk has smaller ones.
const SECTOR_BYTES: u32 = 512;

/// Makes the map of what stands on `dev`. Kinds without a map ([`Kind::has_map`]) that are not encrypted give one in which
/// everything is used.
pub fn map(dev: &dyn ReadAt, options: &Options<'_>) -> Result<UsedMap, Error> {
    map_nested(dev, options, 0)
}

/// The same for a volume that lies within `depth` others.
pub(crate) fn map_nested(dev: &dyn ReadAt, options: &Options<'_>, depth: u32) -> Result<UsedMap, Error> {
    let found = probe::signatures(dev)?;
    let probe = match probe::probe_found(dev, &found) {
        Err(error) if options.fallback == Fallback::Everything && is_of_format(&error) => {
            let probe = Probe::of_signature(found.first(), dev.size());
            return Ok(everything(dev, probe, Basis::Unreadable, Some(&error), options));
        }
        probe => probe?,
    };
    if let State::Unclean(reason) = probe.state {
        let is_fat = matches!(probe.kind, Kind::Fat12 | Kind::Fat16 | Kind::Fat32);
        let fallback =
            if is_fat && reason == Reason::NotUnmounted { Fallback::Everything } else { options.fallback };
        return refused(dev, probe, reason, &Options { fallback, ..*options });
    }
    if !probe.kind.has_map() {
        return Ok(everything(dev, probe, Basis::NoMap, None, options));
    }
    match draft(dev, &probe, options, depth) {
        Ok(draft) => Ok(draft.finish(probe, Basis::Allocation)),
        Err(Error::Refused { reason, .. }) => refused(dev, probe, reason, options),
        Err(error) if options.fallback == Fallback::Everything && is_of_format(&error) => {
            Ok(everything(dev, probe, Basis::Unreadable, Some(&error), options))
        }
        Err(error) => Err(error),
    }
}

fn draft(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>, depth: u32) -> Result<Draft, Error> {
    match probe.kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => ext::map(dev, probe, options),
        Kind::Fat12 | Kind::Fat16 | Kind::Fat32 => fat::map(dev, probe, options),
        Kind::ExFat => exfat::map(dev, probe, options),
        Kind::Xfs => xfs::map(dev, probe, options),
        Kind::Btrfs => btrfs::map(dev, probe, options),
        Kind::Lvm => lvm::map(dev, options, depth),
        Kind::Ntfs => ntfs::map(dev, probe, options),
        Kind::Swap => swap::map(dev, probe, options),
        kind => Err(Error::unsupported("map", kind.name())),
    }
}

fn refused(dev: &dyn ReadAt, probe: Probe, reason: Reason, options: &Options<'_>) -> Result<UsedMap, Error> {
    match options.fallback {
        Fallback::Refuse => Err(Error::Refused { kind: probe.kind, reason }),
        Fallback::Everything => {
            let why = Error::Refused { kind: probe.kind, reason };
            Ok(everything(dev, probe, Basis::Refused(reason), Some(&why), options))
        }
    }
}

/// The bytes say it, not the device or the caller.
fn is_of_format(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } | Error::Unsupported { .. } | Error::Refused { .. } => true,
        Error::Volume { source, .. } => is_of_format(source),
        Error::Ntfs(error) => !matches!(error, gravure_ntfs::Error::Io { .. }),
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::UnexpectedEof,
        Error::Stopped => false,
    }
}

fn everything(
    dev: &dyn ReadAt,
    probe: Probe,
    basis: Basis,
    why: Option<&Error>,
    options: &Options<'_>,
) -> UsedMap {
    let mut draft = Draft::new(dev.size(), SECTOR_BYTES, options);
    draft.notes.extend(why.map(|why| format!("everything counts as used: {why}")));
    draft.finish(probe, basis)
}
