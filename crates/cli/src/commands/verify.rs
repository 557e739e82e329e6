//! `gravure verify`: is every byte of an image file what it should be?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_imaging::{ErrorKind, VerifyFileOptions, Which, is_ntfs_volume, verify_file};
use serde::Serialize;

use crate::exit::{Failure, chain};
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::stored::{check_trust, is_of_device};
use crate::target::{ImageName, Source};
use crate::{Common, interrupt};

/// Check every blob, the metadata and the integrity table of an image file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 5 when something is damaged or missing; each damaged blob is named with the paths that use it.

Examples:
  gravure verify reference.wim
  gravure verify part.swm                    all parts of a split image
  gravure verify delta.wim --ref base.wim
  gravure verify http://server/images/debian.wim
  ssh server cat pipable.wim | gravure verify -
  gravure verify reference.wim --format json
  gravure verify /dev/sda3                   an NTFS volume, as gravure ntfs check does"
)]
pub(crate) struct Options {
    /// Image file, address or - for standard input; or an NTFS volume, a partition or file
    image: ImageName,
    /// Check the integrity table before anything else, instead of beside it: the fastest way to a damaged download
    #[arg(long)]
    check: bool,
    /// Further files that content may lie in; FILE may be a pattern with *
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Public key that must have signed the image (block images and images in stores)
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    sound: bool,
    blobs: u64,
    bytes: u64,
    images: u32,
    integrity_table: bool,
    damage: Vec<String>,
    missing: Vec<String>,
    warnings: Vec<String>,
    milliseconds: u64,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    check_trust(&options.image, options.trust.as_deref(), &interrupt::ctl())?;
    if is_of_device(&options.image, &interrupt::ctl())? {
        return super::block::verify(&options.image, options.threads, common);
    }
    let path = Path::new(&options.image.file);
    if options.image.which == Which::Only && is_ntfs_volume(path) {
        return super::ntfs::check(path, false, common);
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let source = options.image.open_source(&options.references, &ctl)?;
    if options.check {
        super::apply::check(&source, &ctl, &reporter)?;
    }
    let check = VerifyFileOptions { threads: options.threads, ..VerifyFileOptions::default() };
    let report = match source {
        Source::File(file) => verify_file(&file, &check, &ctl, &reporter)?,
        Source::Pipe(pipe) => pipe.verify(&check, &ctl, &reporter)?,
    };
    let verdict = Verdict {
        sound: report.damage.is_empty() && report.missing.is_empty(),
        blobs: report.blobs,
        bytes: report.bytes,
        images: report.images,
        integrity_table: report.has_integrity,
        damage: report.damage.iter().map(|damage| chain(&damage.error)).collect(),
        missing: report.missing,
        warnings: report.warnings,
        milliseconds: report.milliseconds,
    };
    output::document(common.format, &verdict, |verdict| {
        let mut text = String::new();
        for line in &verdict.damage {
            text.push_str(&format!("damaged: {line}\n"));
        }
        for line in &verdict.missing {
            text.push_str(&format!("missing: {line}\n"));
        }
        let word = if verdict.sound { "sound" } else { "NOT sound" };
        let speed = rate(verdict.bytes, verdict.milliseconds);
        let (images, blobs) = (verdict.images, verdict.blobs);
        text + &format!("{word}: {images} images, {blobs} blobs, {} checked at {speed}", bytes(verdict.bytes))
    })?;
    if verdict.sound { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(ErrorKind::Integrity.exit_code())) }
}
