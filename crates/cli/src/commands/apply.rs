//! `gravure apply`: an image becomes a directory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use gravure_imaging::{
    ApplyOptions, DamagedContent, ErrorKind, Existing, VerifyOptions, apply_to_directory, verify_applied,
};
use serde::Serialize;

use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::target::{ImageName, Source};
use crate::{Common, interrupt};

/// Put an image onto a directory and read it back
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The SHA-1 of every content is checked on the way. With --verify=full everything is read back from the disk
afterwards and compared with the image.

Examples:
  gravure apply reference.wim /mnt/target           the only image of a file
  gravure apply install.wim:2 /mnt/target           by number
  gravure apply \"install.wim:Windows Pro\" /mnt/x    by name
  gravure apply delta.wim:1 /mnt/x --ref base.wim   content that lies in another file
  gravure apply install.esd:1 /mnt/target           solid images too
  gravure apply http://server/images/debian.wim /mnt/x --progress jsonl
  ssh server cat pipable.wim | gravure apply -:1 /mnt/x     from a pipe: images made with --pipable
  gravure apply damaged.wim /mnt/x --recover-data   what can be read of a damaged image; exit code 10"
)]
pub(crate) struct Options {
    /// Image file, address or - for standard input, with :NUMBER or :NAME when it holds several
    image: ImageName,
    /// Directory to fill; made when it is not there
    target: PathBuf,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// What is done with files that are there already
    #[arg(long, value_enum, default_value_t = OnExisting::Refuse)]
    existing: OnExisting,
    /// What is checked when everything is written
    #[arg(long, value_enum, default_value_t = Verify::Full)]
    verify: Verify,
    /// Count what the target cannot hold by its nature (Windows attributes, descriptors) as a failure: exit code 10
    #[arg(long)]
    strict: bool,
    /// Keep what can be decoded of damaged files, with zeros where nothing can, and go on; each is a warning, and the exit
    /// code is 10
    #[arg(long)]
    recover_data: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExisting {
    /// End before anything is written
    Refuse,
    /// Replace files, merge directories
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    /// Read everything back and compare
    Full,
    /// Only the hashes on the way
    Decode,
}

#[derive(Debug, Serialize)]
struct Result_ {
    files: u64,
    bytes: u64,
    milliseconds: u64,
    verified_files: Option<u64>,
    verify_milliseconds: Option<u64>,
    losses: Vec<LossLine>,
    damaged: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LossLine {
    what: String,
    files: u64,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let source = options.image.open_source(&options.references, &ctl)?;
    let apply = ApplyOptions {
        threads: options.threads,
        existing: match options.existing {
            OnExisting::Refuse => Existing::Refuse,
            OnExisting::Replace => Existing::Replace,
        },
        damaged: if options.recover_data { DamagedContent::Keep } else { DamagedContent::Refuse },
        ..ApplyOptions::default()
    };
    let applied = match source {
        Source::File(file) => {
            let image = file.image(file.find(&options.image.which)?)?;
            apply_to_directory(&image, &options.target, &apply, &ctl, &reporter).map(|report| (report, image))
        }
        Source::Pipe(pipe) => pipe.apply(&options.image.which, &options.target, &apply, &ctl, &reporter),
    };
    let (report, image) = applied.map_err(explained)?;
    let compared = match options.verify {
        Verify::Full => {
            // What is damaged has been told already.
            let damaged: HashSet<&str> = report.damaged.iter().map(String::as_str).collect();
            let except = |path: &str| damaged.contains(path);
            let verify = VerifyOptions { except: &except, ..VerifyOptions::default() };
            Some(verify_applied(&image, &options.target, &report, &verify, &ctl, &reporter)?)
        }
        Verify::Decode => None,
    };
    let lost: u64 = report.losses.iter().map(|loss| loss.count).sum();
    let result = Result_ {
        files: report.files,
        bytes: report.bytes,
        milliseconds: report.milliseconds,
        verified_files: compared.map(|compared| compared.files),
        verify_milliseconds: compared.map(|compared| compared.milliseconds),
        losses: report
            .losses
            .iter()
            .map(|loss| LossLine { what: loss.what.to_string(), files: loss.count })
            .collect(),
        damaged: report.damaged,
        warnings: report.warnings,
    };
    output::document(common.format, &result, |result| {
        let speed = rate(result.bytes, result.milliseconds);
        let mut text = format!("applied {} files, {} at {speed}", result.files, bytes(result.bytes));
        if let Some(files) = result.verified_files {
            text.push_str(&format!("; verified {files} files"));
        }
        if !result.damaged.is_empty() {
            text.push_str(&format!("\nNOT as in the image: {} damaged files", result.damaged.len()));
        }
        for loss in &result.losses {
            text.push_str(&format!("\nnot kept by this target: {} of {} files", loss.what, loss.files));
        }
        text
    })?;
    Ok(done_or_partial(report.skipped + if options.strict { lost } else { 0 }))
}

fn explained(error: gravure_imaging::Error) -> Failure {
    let kind = error.kind();
    let failure = Failure::from(error);
    match kind {
        ErrorKind::Refused => {
            failure.with_cure("choose an empty directory, or allow it with --existing=replace")
        }
        ErrorKind::Integrity => failure.with_cure(
            "the image is damaged: take another copy of it, or what can be read with --recover-data",
        ),
        _ => failure,
    }
}
