//! What the commands that write image files anew or change them have in common.

use std::path::Path;

use gravure_imaging::{
    CaptureForm, CompressionChange, Error, ErrorKind, FormChange, IntegrityChange, ReadBack, Recompress,
    RewriteOptions, RewriteReport, Unfinished,
};
use serde::Serialize;

use super::capture::{Compress, chunk_size};
use super::layout::{Layout, Wanted};
use crate::Common;
use crate::exit::Failure;
use crate::limits;
use crate::output::{self, bytes};

/// Options of files that are made of others.
#[derive(Debug, clap::Args)]
pub(super) struct Remaking {
    #[command(flatten)]
    recompressing: Recompressing,
    #[command(flatten)]
    writing: Writing,
}

impl Remaking {
    /// For the stage `stage`. `is_esd` says that a new file is to be solid by its name.
    pub(super) fn options(&self, stage: &str, is_esd: bool) -> Result<RewriteOptions, Failure> {
        let mut options = self.writing.options(stage);
        self.recompressing.add_to(&mut options, is_esd)?;
        Ok(options)
    }
}

/// Options of how a file is written.
#[derive(Debug, clap::Args)]
pub(super) struct Writing {
    /// Give the file an integrity table [default: as it was]
    #[arg(long, conflicts_with = "no_check")]
    check: bool,
    /// Leave the integrity table out
    #[arg(long)]
    no_check: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Options of files that are compressed in another way than what they are made of.
#[derive(Debug, clap::Args)]
struct Recompressing {
    /// none, xpress, lzx or lzms, with :fast, :balanced or :best [default: as it was]
    #[arg(long)]
    compress: Option<Compress>,
    /// Size of a chunk, bytes or with K, M [default: 32K; lzms: 128K]
    #[arg(long, value_name = "SIZE", requires = "compress", value_parser = chunk_size)]
    chunk_size: Option<u32>,
    #[command(flatten)]
    layout: Layout,
    /// Neither solid nor pipable, whatever it was: each file by itself, as every program reads it
    #[arg(long, conflicts_with_all = ["solid", "solid_compress", "solid_chunk_size", "pipable"])]
    plain: bool,
    /// Compress everything anew, also what could be copied as it is stored
    #[arg(long)]
    recompress: bool,
}

impl Writing {
    /// For the stage `stage`.
    pub(super) fn options(&self, stage: &str) -> RewriteOptions {
        RewriteOptions {
            stage: stage.to_owned(),
            threads: self.threads,
            integrity: match (self.check, self.no_check) {
                (true, _) => IntegrityChange::Make,
                (false, true) => IntegrityChange::Drop,
                (false, false) => IntegrityChange::Keep,
            },
            read_back: if self.no_verify { ReadBack::Nothing } else { ReadBack::Full },
            limits: limits::current(),
            ..RewriteOptions::default()
        }
    }
}

impl Recompressing {
    /// Adds what was asked for to `options`. `is_esd` says that a new file is to be solid by its name.
    fn add_to(&self, options: &mut RewriteOptions, is_esd: bool) -> Result<(), Failure> {
        match self.layout.wanted(is_esd && !self.plain && self.compress.is_none())? {
            Wanted::Nothing if self.plain => options.form = FormChange::To(CaptureForm::Normal),
            Wanted::Nothing => {}
            Wanted::Pipable => options.form = FormChange::To(CaptureForm::Pipable),
            Wanted::Solid { compression, level, beside } => {
                options.form = FormChange::To(CaptureForm::Solid(compression));
                options.level = level;
                if let Some(beside) = beside {
                    options.compression = CompressionChange::To(beside.with_chunks(None)?);
                }
            }
        }
        if let Some(compress) = self.compress {
            options.compression = CompressionChange::To(compress.with_chunks(self.chunk_size)?);
            if !matches!(options.form, FormChange::To(CaptureForm::Solid(_))) {
                options.level = compress.level();
            }
        }
        if self.recompress {
            options.recompress = Recompress::Everything;
        }
        Ok(())
    }
}

/// Sets what is done with a file that a crash left.
pub(super) fn recovering(options: &mut RewriteOptions, recover: bool) {
    options.unfinished = if recover { Unfinished::Recover } else { Unfinished::Refuse };
}

/// A refusal to change a file, with its cure.
pub(super) fn unfinished(error: Error, option: &str) -> Failure {
    let refused = error.kind() == ErrorKind::Refused;
    let failure = Failure::from(error);
    if refused && failure.message.contains("one crashed") {
        return failure.with_cure(format!(
            "if no program is writing to it, {option} puts the file back as it was before the crash"
        ));
    }
    failure
}

#[derive(Debug, Serialize)]
struct Rewritten {
    file: String,
    images: u32,
    copied_blobs: u64,
    encoded_blobs: u64,
    old_file_bytes: Option<u64>,
    file_bytes: u64,
    milliseconds: u64,
    warnings: Vec<String>,
}

/// Prints what was done to `file`.
pub(super) fn print(file: &Path, report: &RewriteReport, common: &Common) -> Result<(), Failure> {
    let rewritten = Rewritten {
        file: file.display().to_string(),
        images: report.images,
        copied_blobs: report.copied_blobs,
        encoded_blobs: report.encoded_blobs,
        old_file_bytes: report.old_file_bytes,
        file_bytes: report.file_bytes,
        milliseconds: report.milliseconds,
        warnings: report.warnings.clone(),
    };
    output::document(common.format, &rewritten, |rewritten| {
        let size = bytes(rewritten.file_bytes);
        let size = match rewritten.old_file_bytes {
            Some(old) => format!("{size} (before: {})", bytes(old)),
            None => size,
        };
        let plural = if rewritten.images == 1 { "image" } else { "images" };
        format!(
            "{}: {} {plural}, {size}; {} contents copied as stored, {} compressed",
            rewritten.file, rewritten.images, rewritten.copied_blobs, rewritten.encoded_blobs
        )
    })
}
