//! `gravure ntfs`: volumes checked, looked at, and given another label, serial number or size.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gravure_imaging::{
    ErrorKind, Finding, Severity, Strictness, Told, VolumeState, check_volume_telling, grow_volume,
    set_volume_label, set_volume_serial, volume_info,
};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{self, Format, bytes};
use crate::{Common, interrupt};

/// Findings that people are shown.
const MAX_LINES: usize = 100;

/// Check NTFS volumes, show what they are, give them another label, serial number or size
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(CheckOptions),
    Info(InfoOptions),
    Label(LabelOptions),
    Serial(SerialOptions),
    Grow(GrowOptions),
}

/// Check every structure of a volume; nothing is written
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every record, attribute, run, index, descriptor and bitmap is held against the rules of the format and against every other
structure that says the same. Errors lose files or keep a driver from working; notes are what drivers live with: a mark, a
log to be replayed, a sleeping Windows, a lost cluster, a copy of a size that lags behind.
Exit code 0 when there are no errors, 5 when there are, 4 when the partition is mounted.

Examples:
  gravure ntfs check /dev/sda3
  gravure ntfs check volume.ntfs --format json
  gravure ntfs check volume.ntfs --strict            notes count as errors: for volumes that were just made"
)]
struct CheckOptions {
    /// Partition or file
    volume: PathBuf,
    /// Count notes as errors
    #[arg(long)]
    strict: bool,
}

/// Show label, sizes and state of a volume
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure ntfs info /dev/sda3
  gravure ntfs info volume.ntfs --format json")]
struct InfoOptions {
    /// Partition or file
    volume: PathBuf,
}

/// Show the label of a volume, or give it another
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A volume that is dirty, hibernated or mounted is refused; a power cut leaves the old or the new label.

Examples:
  gravure ntfs label /dev/sda3
  gravure ntfs label /dev/sda3 Windows
  gravure ntfs label volume.ntfs ''                  none"
)]
struct LabelOptions {
    /// Partition or file
    volume: PathBuf,
    /// The new label, at most 32 units of UTF-16; none when it is empty
    new: Option<String>,
}

/// Show the serial number of a volume, or give it another
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Windows shows the last eight digits. BCD entries and drive letters of Windows go by the disk's table, not by this number.

Examples:
  gravure ntfs serial /dev/sda3
  gravure ntfs serial volume.ntfs 01DA5C3F7B2E9A40"
)]
struct SerialOptions {
    /// Partition or file
    volume: PathBuf,
    /// The new number, up to 16 hexadecimal digits
    #[arg(value_parser = parse_serial)]
    new: Option<u64>,
}

/// Make a volume as large as its partition or file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is moved but the volume's own bitmap. The boot sector is the last write: until then the volume is the old one.
The volume is checked before and after. Damaged, dirty, hibernated and mounted ones are refused (exit code 4). The partition table is not
changed: make the partition larger first.

Examples:
  gravure ntfs grow /dev/sda3
  gravure ntfs grow volume.ntfs --size 60G           the file is made longer first"
)]
struct GrowOptions {
    /// Partition or file
    volume: PathBuf,
    /// New size of a file, with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = super::apply::parse_size)]
    size: Option<u64>,
}

/// A finding for programs.
#[derive(Debug, Serialize)]
struct FindingLine {
    rule: &'static str,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribute: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    expected: String,
    found: String,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Serialize)]
struct Checked {
    volume: PathBuf,
    clean: bool,
    errors: u64,
    notes: u64,
    state: &'static str,
    records: u64,
    files: u64,
    directories: u64,
    names: u64,
    used_clusters: u64,
    milliseconds: u64,
    findings: Vec<FindingLine>,
}

#[derive(Debug, Serialize)]
struct Info {
    volume: PathBuf,
    label: String,
    serial: String,
    version: String,
    state: &'static str,
    sector_bytes: u32,
    cluster_bytes: u64,
    clusters: u64,
    used_clusters: u64,
    record_bytes: usize,
    records: u32,
    hidden_sectors: u32,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Check(options) => check(&options.volume, options.strict, common),
        Command::Info(options) => info(options, common),
        Command::Label(options) => label(options, common),
        Command::Serial(options) => serial(options, common),
        Command::Grow(options) => grow(options, common),
    }
}

/// How a volume was left, in a word.
fn state_word(state: Option<VolumeState>) -> &'static str {
    use gravure_imaging::Unclean;
    match state.map(|state| state.unclean()) {
        None => "unknown",
        Some(None) => "clean",
        Some(Some(Unclean::Dirty)) => "dirty",
        Some(Some(Unclean::LogPending)) => "not unmounted",
        Some(Some(Unclean::Hibernated)) => "hibernated",
        Some(Some(_)) => "unknown",
    }
}

fn line(finding: &Finding) -> FindingLine {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Note => "note",
    };
    FindingLine {
        rule: finding.rule.name(),
        severity,
        record: finding.record,
        attribute: finding.attribute.clone(),
        offset: finding.offset,
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        text: format!("{severity}: {finding} [{}]", finding.rule.name()),
    }
}

/// Checks a volume and prints what was found.
pub(super) fn check(volume: &Path, strict: bool, common: &Common) -> Result<ExitCode, Failure> {
    let strictness = if strict { Strictness::Fresh } else { Strictness::Usual };
    let mut findings = Vec::new();
    let mut keep = |finding: &Finding| findings.push(line(finding));
    // People are shown a few, programs all.
    let told = if matches!(common.format, Format::Text) { Told::Some } else { Told::All };
    let checked = check_volume_telling(volume, strictness, told, &mut keep, &interrupt::ctl())?;
    let report = checked.report;
    let result = Checked {
        volume: volume.to_owned(),
        clean: report.is_clean(),
        errors: report.errors,
        notes: report.notes,
        state: state_word(report.state),
        records: report.records,
        files: report.files,
        directories: report.directories,
        names: report.names,
        used_clusters: report.used_clusters,
        milliseconds: checked.milliseconds,
        findings,
    };
    output::document(common.format, &result, |result| {
        let mut text = String::new();
        // Errors first; a volume in a bad state has more to say than anybody reads.
        let of = |wanted: &'static str| result.findings.iter().filter(move |one| one.severity == wanted);
        for finding in of("error").chain(of("note")).take(MAX_LINES) {
            text.push_str(&finding.text);
            text.push('\n');
        }
        let told = result.findings.len().min(MAX_LINES) as u64;
        let more = (result.errors + result.notes).saturating_sub(told);
        if more > 0 {
            text.push_str(&format!("and {more} more; --format json lists them\n"));
        }
        let word = if result.clean { "sound" } else { "NOT sound" };
        text.push_str(&format!(
            "{}: {word}, {} errors, {} notes, state: {}; {} files and directories with {} names in {} records, {} ms",
            result.volume.display(),
            result.errors,
            result.notes,
            result.state,
            result.files,
            result.names,
            result.records,
            result.milliseconds
        ));
        text
    })?;
    if !result.clean {
        let message = format!("{}: volume is damaged", volume.display());
        return Err(Failure::new(ErrorKind::Integrity, message)
            .with_cure("let Windows repair it with chkdsk /f, or apply its image again"));
    }
    Ok(ExitCode::SUCCESS)
}

fn info(options: &InfoOptions, common: &Common) -> Result<ExitCode, Failure> {
    let found = volume_info(&options.volume)?;
    let (volume, boot) = (&found.volume, found.volume.boot());
    let (major, minor) = volume.version();
    let info = Info {
        volume: options.volume.clone(),
        label: volume.label().to_string(),
        serial: format!("{:016X}", boot.serial),
        version: format!("{major}.{minor}"),
        state: state_word(Some(volume.state())),
        sector_bytes: boot.sector_bytes,
        cluster_bytes: boot.cluster_bytes,
        clusters: boot.clusters,
        used_clusters: found.used_clusters,
        record_bytes: boot.record_bytes,
        records: volume.record_count(),
        hidden_sectors: boot.hidden_sectors,
    };
    output::document(common.format, &info, |info| {
        let size = |clusters: u64| bytes(clusters.saturating_mul(info.cluster_bytes));
        format!(
            "Volume:   {}\nLabel:    {}\nSerial:   {}\nVersion:  NTFS {}\nState:    {}\nSize:     {}, {} in use\nClusters: {} of {} bytes, sectors of {}\nRecords:  {} of {} bytes",
            info.volume.display(),
            info.label,
            info.serial,
            info.version,
            info.state,
            size(info.clusters),
            size(info.used_clusters),
            info.clusters,
            info.cluster_bytes,
            info.sector_bytes,
            info.records,
            info.record_bytes
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn parse_serial(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text).replace('-', "");
    if digits.is_empty() || digits.len() > 16 {
        return Err("1 to 16 hexadecimal digits are needed".to_owned());
    }
    u64::from_str_radix(&digits, 16).map_err(|_| "1 to 16 hexadecimal digits are needed".to_owned())
}

#[derive(Debug, Serialize)]
struct Label {
    volume: PathBuf,
    label: String,
}

fn label(options: &LabelOptions, common: &Common) -> Result<ExitCode, Failure> {
    if let Some(new) = &options.new {
        set_volume_label(&options.volume, &new.as_str().into())?;
    }
    let label = volume_info(&options.volume)?.volume.label().to_string();
    let label = Label { volume: options.volume.clone(), label };
    output::document(common.format, &label, |label| label.label.clone())?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Serial {
    volume: PathBuf,
    serial: String,
}

fn serial(options: &SerialOptions, common: &Common) -> Result<ExitCode, Failure> {
    if let Some(new) = options.new {
        set_volume_serial(&options.volume, new)?;
    }
    let serial = volume_info(&options.volume)?.volume.boot().serial;
    let serial = Serial { volume: options.volume.clone(), serial: format!("{serial:016X}") };
    output::document(common.format, &serial, |serial| serial.serial.clone())?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Grown {
    volume: PathBuf,
    old_bytes: u64,
    bytes: u64,
}

fn grow(options: &GrowOptions, common: &Common) -> Result<ExitCode, Failure> {
    let grown = grow_volume(&options.volume, options.size, &interrupt::ctl())?;
    let grown = Grown { volume: options.volume.clone(), old_bytes: grown.old_bytes, bytes: grown.bytes };
    output::document(common.format, &grown, |grown| {
        let volume = grown.volume.display();
        if grown.old_bytes == grown.bytes {
            format!("{volume}: {}, as large as its place", bytes(grown.bytes))
        } else {
            format!("{volume}: {}, before {}; checked", bytes(grown.bytes), bytes(grown.old_bytes))
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
