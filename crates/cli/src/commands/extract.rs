//! `gravure extract`: single files and directories out of an image.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{ApplyOptions, ErrorKind, Existing, Parents, extract, extract_to};

use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes};
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Take files and directories out of an image
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure extract debian.wim /etc/os-release --to-stdout
  gravure extract install.wim:1 /Windows/Boot --dest-dir boot
  gravure extract debian.wim /etc /boot --dest-dir part --keep-parents")]
pub(crate) struct Options {
    /// Image file, with :NUMBER or :NAME when it holds several
    image: ImageName,
    /// Paths in the image
    #[arg(required = true)]
    paths: Vec<String>,
    /// Directory to put them into; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dest_dir: PathBuf,
    /// Keep the directories above each path
    #[arg(long)]
    keep_parents: bool,
    /// Write one file's content to standard output instead
    #[arg(long, conflicts_with_all = ["dest_dir", "keep_parents"])]
    to_stdout: bool,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let image = options.image.open(&options.references, &ctl)?;
    if options.to_stdout {
        let [path] = options.paths.as_slice() else {
            return Err(Failure::new(ErrorKind::Usage, "--to-stdout takes one path"));
        };
        extract_to(&image, path, &mut io::stdout().lock(), &ctl)?;
        return Ok(ExitCode::SUCCESS);
    }
    let parents = if options.keep_parents { Parents::Keep } else { Parents::Drop };
    let apply =
        ApplyOptions { stage: "extract".to_owned(), existing: Existing::Beside, ..ApplyOptions::default() };
    let report = extract(&image, &options.paths, parents, &options.dest_dir, &apply, &ctl, &reporter)?;
    let result =
        serde_json::json!({ "files": report.files, "bytes": report.bytes, "warnings": report.warnings });
    output::document(common.format, &result, |_| {
        format!("extracted {} files, {}", report.files, bytes(report.bytes))
    })?;
    Ok(done_or_partial(report.skipped))
}
