//! `gravure disk`: what stands on partitions, which of their bytes are used, whose they are, and the boot code of disks. Nothing is
//! written to them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gravure_disk::boot_code::BootCode;
use gravure_fsmap::{
    Basis, Class, Error, Exclusions, Fallback, Kind, Owner, Probe, State, UsedMap, map, owners, probe,
};
use gravure_imaging::ErrorKind;
use gravure_io::FileAt;
use serde::Serialize;

use crate::exit::{Failure, chain};
use crate::output::{self, Row, bytes};
use crate::{Common, interrupt};

/// Show what stands on partitions, which blocks are used, and by which files
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Probe(ProbeOptions),
    Map(MapOptions),
    Owner(OwnerOptions),
    BootCode(BootCodeOptions),
}

/// Take the boot code of a disk from which a BIOS starts Windows, to be used for other disks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The code is Microsoft's, and no image of files holds it. FILE gets the first sector of the disk without its table and the
first 8 KiB of its active NTFS partition; `gravure plan create --boot-code FILE` puts both, with the parameters of the new
disk, onto machines that start by BIOS. What would not start Windows is refused.

Examples:
  gravure disk boot-code /dev/sda -o bios.boot
  gravure disk boot-code reference.img -o bios.boot"
)]
struct BootCodeOptions {
    /// Disk or image of one
    disk: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    yes: bool,
}

/// Say what stands on a partition and how it was left
#[derive(Debug, clap::Args)]
#[command(
    after_help = "FAT, exFAT, NTFS, ext2/3/4, XFS, Btrfs, swap, LVM, LUKS and BitLocker are told with label, sizes and state; others by
their signature. Nothing is written and nothing is replayed.

Examples:
  gravure disk probe /dev/sda1
  gravure disk probe root.img --format json"
)]
struct ProbeOptions {
    /// Partition, logical volume or file
    volume: PathBuf,
}

/// Show which bytes of a partition an image of it has to keep
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A journal of ext3 or ext4 that has to be replayed is replayed in memory; the partition itself is never written.
Exit code 4 when the state of the file system makes its map unsafe, or when it is encrypted: --everything counts all
bytes as used then.

Examples:
  gravure disk map /dev/sda2
  gravure disk map root.img --runs --format csv      every run: offset, length, class
  gravure disk map /dev/sda3 --keep-page-files"
)]
struct MapOptions {
    /// Partition, logical volume or file
    volume: PathBuf,
    /// List the runs instead of the summary
    #[arg(long)]
    runs: bool,
    /// Where a map would be unsafe, count every byte as used
    #[arg(long)]
    everything: bool,
    /// Keep pagefile.sys, swapfile.sys, hiberfil.sys and the content of swap spaces
    #[arg(long)]
    keep_page_files: bool,
}

/// Say which files and structures stand on bytes of a partition
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For sectors that cannot be read. ext2/3/4 and NTFS have names; for all else only the place is told.

Examples:
  gravure disk owner /dev/sda3 0x1f400000+4096
  gravure disk owner root.img 52428800+512 734003200+512 --format json"
)]
struct OwnerOptions {
    /// Partition or file
    volume: PathBuf,
    /// Byte and length, with a plus sign between them; decimal, or hexadecimal with 0x
    #[arg(required = true, value_parser = range, value_name = "OFFSET+LEN")]
    ranges: Vec<Range<u64>>,
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once('+').and_then(|(start, len)| {
        let (start, len) = (number(start)?, number(len)?);
        Some(start..start.checked_add(len).filter(|_| len > 0)?)
    });
    parsed.ok_or_else(|| "expected OFFSET+LEN in bytes, such as 0x1f400000+4096".to_owned())
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Probe(options) => run_probe(options, common),
        Command::Map(options) => run_map(options, common),
        Command::Owner(options) => run_owner(options, common),
        Command::BootCode(options) => run_boot_code(options, common),
    }
}

/// What was taken.
#[derive(Debug, Serialize)]
struct TakenCode {
    file: String,
    bytes: usize,
}

/// Boot code that was taken.
pub(crate) fn read_boot_code(path: &Path) -> Result<BootCode, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    BootCode::parse(&bytes).map_err(|error| {
        Failure::new(ErrorKind::Integrity, format!("{}: {}", path.display(), chain(&error)))
            .with_cure("take it from a disk that starts Windows by BIOS: gravure disk boot-code DISK -o FILE")
    })
}

fn run_boot_code(options: &BootCodeOptions, common: &Common) -> Result<ExitCode, Failure> {
    if options.output.exists() && !options.yes {
        let message = format!("{} is there already", options.output.display());
        return Err(Failure::new(ErrorKind::Refused, message).with_cure("--yes replaces it"));
    }
    let code = BootCode::read(&open(&options.disk)?).map_err(|error| {
        let kind = match &error {
            gravure_disk::Error::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Integrity,
        };
        let message = format!("{}: {}", options.disk.display(), chain(&error));
        Failure::new(kind, message).with_cure("name a disk from which a BIOS starts Windows Vista or later")
    })?;
    crate::hive_file::write(&options.output, code.as_bytes())?;
    let taken = TakenCode { file: options.output.display().to_string(), bytes: code.as_bytes().len() };
    output::document(common.format, &taken, |taken| format!("{}: {} bytes", taken.file, taken.bytes))?;
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path) -> Result<FileAt, Failure> {
    FileAt::open(path).map_err(|error| Failure::io("open", path, &error))
}

/// The failure of a map or probe of `path`.
fn failure(path: &Path, error: &Error) -> Failure {
    let (kind, cure) = judge(error);
    let failure = Failure::new(kind, format!("{}: {}", path.display(), chain(error)));
    match cure {
        Some(cure) => failure.with_cure(cure),
        None => failure,
    }
}

fn judge(error: &Error) -> (ErrorKind, Option<String>) {
    match error {
        Error::Refused { kind, reason } => {
            let cure = format!("{}; or take all of its blocks: --everything", reason.remedy(*kind));
            (ErrorKind::Refused, Some(cure))
        }
        Error::Volume { source, .. } => judge(source),
        Error::Io { .. } => (ErrorKind::Io, None),
        Error::Unsupported { .. } => {
            (ErrorKind::Unsupported, Some("take all of its blocks: --everything".to_owned()))
        }
        Error::Stopped => (ErrorKind::Interrupted, None),
        _ => (
            ErrorKind::Integrity,
            Some("check it with its own tools, or take all of its blocks: --everything".to_owned()),
        ),
    }
}

/// A probe for programs.
#[derive(Debug, Serialize)]
struct Probed {
    volume: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sector_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_bytes: Option<u32>,
    state: &'static str,
    facts: serde_json::Map<String, serde_json::Value>,
}

fn state_id(state: State) -> &'static str {
    match state {
        State::Clean => "clean",
        State::NeedsReplay => "needs-replay",
        State::Unclean(reason) => reason.id(),
        _ => "unknown",
    }
}

fn state_text(state: State, kind: Kind) -> String {
    match state {
        State::NeedsReplay => "has a journal to be replayed".to_owned(),
        State::Unclean(reason) => format!("{reason}: {}", reason.remedy(kind)),
        state => state_id(state).to_owned(),
    }
}

impl Probed {
    fn new(volume: String, probe: &Probe) -> Self {
        let facts = probe.facts.iter().map(|fact| (fact.name.to_owned(), fact.value.clone().into()));
        Self {
            volume,
            kind: probe.kind.name(),
            label: probe.label.clone(),
            uuid: probe.uuid.clone(),
            version: probe.version.clone(),
            size: probe.size,
            sector_bytes: probe.sector_size,
            block_bytes: probe.block_size,
            state: state_id(probe.state),
            facts: facts.collect(),
        }
    }
}

fn describe(volume: &str, probe: &Probe) -> String {
    let mut lines = vec![("Volume", volume.to_owned()), ("Kind", probe.kind.name().to_owned())];
    let optional = [("Label", &probe.label), ("UUID", &probe.uuid), ("Version", &probe.version)];
    lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    lines.push(("Size", format!("{} ({} bytes)", bytes(probe.size), probe.size)));
    lines.extend(probe.block_size.map(|size| ("Block", format!("{size} bytes"))));
    lines.extend(probe.sector_size.map(|size| ("Sector", format!("{size} bytes"))));
    lines.push(("State", state_text(probe.state, probe.kind)));
    let facts = probe.facts.iter().map(|fact| format!("  {}: {}", fact.name, fact.value));
    let lines = lines.iter().map(|(name, value)| format!("{:<9}{value}", format!("{name}:")));
    lines.chain(facts).collect::<Vec<_>>().join("\n")
}

fn run_probe(options: &ProbeOptions, common: &Common) -> Result<ExitCode, Failure> {
    let dev = open(&options.volume)?;
    let found = probe(&dev).map_err(|error| failure(&options.volume, &error))?;
    let volume = options.volume.display().to_string();
    output::document(common.format, &Probed::new(volume.clone(), &found), |_| describe(&volume, &found))?;
    Ok(ExitCode::SUCCESS)
}

/// A map for programs.
#[derive(Debug, Serialize)]
struct Mapped {
    #[serde(flatten)]
    probe: Probed,
    basis: &'static str,
    device_bytes: u64,
    unit_bytes: u32,
    allocated: u64,
    kept: u64,
    excluded: u64,
    free: u64,
    runs: usize,
    file_extents: usize,
    overlay_bytes: u64,
    volumes: Vec<Inner>,
    notes: Vec<String>,
}

/// A volume inside.
#[derive(Debug, Serialize)]
struct Inner {
    name: String,
    kind: Option<&'static str>,
    basis: &'static str,
    size: u64,
}

/// A run for programs.
#[derive(Debug, Serialize)]
struct RunRow {
    offset: u64,
    len: u64,
    class: &'static str,
}

impl Row for RunRow {
    fn columns() -> &'static [&'static str] {
        &["offset", "len", "class"]
    }

    fn cells(&self) -> Vec<String> {
        vec![self.offset.to_string(), self.len.to_string(), self.class.to_owned()]
    }
}

fn basis_id(basis: Basis) -> &'static str {
    match basis {
        Basis::Allocation => "allocation",
        Basis::NoMap => "no-map",
        Basis::Refused(reason) => reason.id(),
        _ => "unreadable",
    }
}

fn class_id(class: Class) -> &'static str {
    match class {
        Class::Used => "used",
        Class::Excluded(why) => why.id(),
    }
}

fn run_map(options: &MapOptions, common: &Common) -> Result<ExitCode, Failure> {
    let dev = open(&options.volume)?;
    let ctl = interrupt::ctl();
    let goes_on = || ctl.check().is_ok();
    let made = map(
        &dev,
        &gravure_fsmap::Options {
            exclude: if options.keep_page_files { Exclusions::NONE } else { Exclusions::ALL },
            fallback: if options.everything { Fallback::Everything } else { Fallback::Refuse },
            goes_on: &goes_on,
            ..gravure_fsmap::Options::default()
        },
    );
    let made = made.map_err(|error| failure(&options.volume, &error))?;
    if options.runs {
        let rows = made.runs.iter().map(|run| RunRow {
            offset: run.offset,
            len: run.len,
            class: class_id(run.class),
        });
        output::listing(common.format, rows, |row| {
            format!("{:>16} {:>16} {}", row.offset, row.len, row.class)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let volume = options.volume.display().to_string();
    output::document(common.format, &Mapped::new(volume.clone(), &made), |mapped| {
        summary(&volume, &made, mapped)
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Mapped {
    fn new(volume: String, map: &UsedMap) -> Self {
        let (kept, excluded) = (map.kept(), map.excluded());
        let ranges = map.overlay.iter().flat_map(|overlay| overlay.ranges());
        let inner = map.volumes.iter().map(|volume| Inner {
            name: volume.name.clone(),
            kind: volume.probe.as_ref().map(|probe| probe.kind.name()),
            basis: basis_id(volume.basis),
            size: volume.segments.iter().map(|segment| segment.len).sum(),
        });
        Self {
            probe: Probed::new(volume, &map.probe),
            basis: basis_id(map.basis),
            device_bytes: map.size,
            unit_bytes: map.unit,
            allocated: map.allocated,
            kept,
            excluded,
            free: map.size.saturating_sub(kept).saturating_sub(excluded),
            runs: map.runs.len(),
            file_extents: map.extents.len(),
            overlay_bytes: ranges.map(|range| range.end.saturating_sub(range.start)).sum(),
            volumes: inner.collect(),
            notes: map.notes.clone(),
        }
    }
}

fn summary(volume: &str, map: &UsedMap, mapped: &Mapped) -> String {
    let mut text = describe(volume, &map.probe);
    let line = |name: &str, count: u64| format!("\n{name:<9}{} ({count} bytes)", bytes(count));
    text += &line("Kept:", mapped.kept);
    text += &line("Dropped:", mapped.excluded);
    text += &line("Free:", mapped.free);
    text += &format!("\nRuns:    {}, {} pieces of files", mapped.runs, mapped.file_extents);
    for inner in &mapped.volumes {
        let kind = inner.kind.unwrap_or("not looked into");
        text += &format!("\nInside:  {} {kind}, {}", inner.name, bytes(inner.size));
    }
    for note in &mapped.notes {
        text += &format!("\nNote:    {note}");
    }
    text
}

/// An owner for programs.
#[derive(Debug, Serialize)]
struct OwnerRow {
    offset: u64,
    len: u64,
    owner: &'static str,
    names: Vec<String>,
}

impl Row for OwnerRow {
    fn columns() -> &'static [&'static str] {
        &["offset", "len", "owner", "names"]
    }

    fn cells(&self) -> Vec<String> {
        vec![self.offset.to_string(), self.len.to_string(), self.owner.to_owned(), self.names.join(" ")]
    }
}

fn run_owner(options: &OwnerOptions, common: &Common) -> Result<ExitCode, Failure> {
    let dev = open(&options.volume)?;
    let ctl = interrupt::ctl();
    let mut ranges = options.ranges.clone();
    ranges.sort_unstable_by_key(|range| range.start);
    let wrong = |why: &str| Failure::new(ErrorKind::Usage, why);
    if !ranges.is_sorted_by(|a, b| a.end <= b.start) {
        return Err(wrong("two of the ranges overlap"));
    }
    let size = gravure_io::ReadAt::size(&dev);
    if ranges.last().is_some_and(|last| last.end > size) {
        return Err(wrong(&format!("{} ends at byte {size}", options.volume.display())));
    }
    let found =
        owners(&dev, &ranges, &|| ctl.check().is_ok()).map_err(|error| failure(&options.volume, &error))?;
    let rows = found.into_iter().map(|owned| {
        let (owner, names) = match owned.owner {
            Owner::File(names) => ("file", names),
            Owner::Metadata(what) => ("metadata", vec![what]),
            Owner::Free => ("free", Vec::new()),
            _ => ("unknown", Vec::new()),
        };
        OwnerRow { offset: owned.range.start, len: owned.range.end - owned.range.start, owner, names }
    });
    output::listing(common.format, rows, |row| {
        format!("{:>16} {:>12} {:<8} {}", row.offset, row.len, row.owner, row.names.join(", "))
    })?;
    Ok(ExitCode::SUCCESS)
}
