//! `gravure diff`: how two images, directories or volumes differ.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use gravure_imaging::{
    Aspect, Change, DiffOptions, DiffReport, Exclusions, Image, ScanOptions, Side, UncleanVolumes, diff,
    is_ntfs_volume,
};
use serde::Serialize;

use super::capture::unclean;
use crate::exit::{Failure, done_or_partial};
use crate::output;
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Exit code when there are differences.
const DIFFERENT: u8 = 1;

/// Show how two images, or an image and a directory or volume, differ
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Images are compared by the hashes of their contents, so nothing large is read; directories are. Exit code 0 when
they are the same, 1 when they differ, 10 when something could not be compared.
Lines begin with - (in the first only), + (in the second only) or ~ (in both, with what differs).

Examples:
  gravure diff monday.wim:1 tuesday.wim:1
  gravure diff install.wim:1 install.wim:2 --format json
  gravure diff windows.wim:1 /dev/sda3                  an NTFS volume, which is read without mounting it
  gravure diff reference.wim:1 /mnt/target --ignore times --ignore owner"
)]
pub(crate) struct Options {
    /// Image file with :NUMBER or :NAME, a directory, or an NTFS volume (partition or file)
    first: String,
    /// The same
    second: String,
    /// What does not count
    #[arg(long, value_name = "ASPECT", value_parser = PossibleValuesParser::new(Aspect::ALL.map(Aspect::name)))]
    ignore: Vec<String>,
    /// Leave these paths out of directories (from the root of the directory, with *)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Read an NTFS volume that is marked dirty, has a log to be replayed, or on which Windows sleeps
    #[arg(long)]
    force_dirty: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Found {
    same: bool,
    compared: u64,
    changes: Vec<Line>,
    milliseconds: u64,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    path: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    below: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<FieldLine>,
}

#[derive(Debug, Serialize)]
struct FieldLine {
    aspect: &'static str,
    first: String,
    second: String,
}

/// What a side names.
enum Opened {
    Image(Image),
    Directory(PathBuf),
    Volume(PathBuf),
}

impl Opened {
    fn side(&self) -> Side<'_> {
        match self {
            Self::Image(image) => Side::Image(image),
            Self::Directory(path) => Side::Directory(path),
            Self::Volume(path) => Side::Volume(path),
        }
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let open = |text: &str| -> Result<Opened, Failure> {
        if Path::new(text).is_dir() {
            return Ok(Opened::Directory(PathBuf::from(text)));
        }
        if is_ntfs_volume(Path::new(text)) {
            return Ok(Opened::Volume(PathBuf::from(text)));
        }
        let Ok(name) = text.parse::<ImageName>();
        Ok(Opened::Image(name.open(&options.references, &ctl)?))
    };
    let (first, second) = (open(&options.first)?, open(&options.second)?);
    let diff_options = DiffOptions {
        threads: options.threads,
        ignore: Aspect::ALL
            .into_iter()
            .filter(|aspect| options.ignore.iter().any(|name| name == aspect.name()))
            .collect(),
        scan: ScanOptions {
            exclude: Exclusions::new(options.exclude.clone())?,
            unclean: if options.force_dirty { UncleanVolumes::Read } else { UncleanVolumes::Refuse },
            ..ScanOptions::default()
        },
        ..DiffOptions::default()
    };
    let report = diff(first.side(), second.side(), &diff_options, &ctl, &reporter).map_err(unclean)?;
    let skipped = report.skipped;
    let found = found(report);
    output::document(common.format, &found, text)?;
    if !found.same {
        return Ok(ExitCode::from(DIFFERENT));
    }
    Ok(done_or_partial(skipped))
}

fn found(report: DiffReport) -> Found {
    let line = |(path, change): (String, Change)| match change {
        Change::Removed { kind, below } => one_sided(path, "removed", kind, below),
        Change::Added { kind, below } => one_sided(path, "added", kind, below),
        Change::Differs(list) => Line {
            path,
            change: "differs",
            kind: None,
            below: None,
            differences: list
                .into_iter()
                .map(|one| FieldLine { aspect: one.aspect.name(), first: one.first, second: one.second })
                .collect(),
        },
    };
    Found {
        same: report.changes.is_empty(),
        compared: report.compared,
        changes: report.changes.into_iter().map(line).collect(),
        milliseconds: report.milliseconds,
        warnings: report.warnings,
    }
}

fn one_sided(path: String, change: &'static str, kind: &'static str, below: u64) -> Line {
    Line { path, change, kind: Some(kind), below: Some(below), differences: Vec::new() }
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    for line in &found.changes {
        let sign = match line.change {
            "removed" => '-',
            "added" => '+',
            _ => '~',
        };
        text.push_str(&format!("{sign} {}", line.path));
        if let (Some(kind), Some(below)) = (line.kind, line.below) {
            text.push_str(&format!(" ({kind}"));
            if below > 0 {
                text.push_str(&format!(", {below} entries below"));
            }
            text.push(')');
        }
        text.push('\n');
        for field in &line.differences {
            text.push_str(&format!("    {}: {} | {}\n", field.aspect, field.first, field.second));
        }
    }
    let compared = found.compared;
    text + &match found.changes.len() {
        0 => format!("the same: {compared} entries compared"),
        count => format!("{count} differences; {compared} entries are in both"),
    }
}
