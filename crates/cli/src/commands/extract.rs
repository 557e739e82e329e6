//! `gravure extract`: single files and directories out of an image.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{ApplyOptions, DamagedContent, ErrorKind, Existing, Parents, extract, extract_to};

use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes};
use crate::progress::Reporter;
use crate::target::{ImageName, Source};
use crate::{Common, interrupt};

/// Take files and directories out of an image
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure extract debian.wim /etc/os-release --to-stdout
  gravure extract install.wim:1 /Windows/Boot --dest-dir boot
  gravure extract debian.wim /etc /boot --dest-dir part --keep-parents
  gravure extract http://server/debian.esd /etc --dest-dir etc     only what is needed is fetched
  gravure extract - /etc/fstab --to-stdout < debian.wim")]
pub(crate) struct Options {
    /// Image file, address or - for standard input, with :NUMBER or :NAME when it holds several
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
    /// Keep what can be decoded of damaged files, with zeros where nothing can, and go on; each is a warning, and the exit
    /// code is 10
    #[arg(long, conflicts_with = "to_stdout")]
    recover_data: bool,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let which = &options.image.which;
    let source = options.image.open_source(&options.references, &ctl)?;
    if options.to_stdout {
        let [path] = options.paths.as_slice() else {
            return Err(Failure::new(ErrorKind::Usage, "--to-stdout takes one path"));
        };
        let mut out = io::stdout().lock();
        match source {
            Source::File(file) => extract_to(&file.image(file.find(which)?)?, path, &mut out, &ctl)?,
            Source::Pipe(pipe) => pipe.extract_to(which, path, &mut out, &ctl)?,
        };
        return Ok(ExitCode::SUCCESS);
    }
    let parents = if options.keep_parents { Parents::Keep } else { Parents::Drop };
    let apply = ApplyOptions {
        stage: "extract".to_owned(),
        existing: Existing::Beside,
        damaged: if options.recover_data { DamagedContent::Keep } else { DamagedContent::Refuse },
        ..ApplyOptions::default()
    };
    let (paths, target) = (&options.paths, &options.dest_dir);
    let report = match source {
        Source::File(file) => {
            let image = file.image(file.find(which)?)?;
            extract(&image, paths, parents, target, &apply, &ctl, &reporter)?
        }
        Source::Pipe(pipe) => pipe.extract(which, paths, parents, target, &apply, &ctl, &reporter)?,
    };
    let result =
        serde_json::json!({ "files": report.files, "bytes": report.bytes, "warnings": report.warnings });
    output::document(common.format, &result, |_| {
        format!("extracted {} files, {}", report.files, bytes(report.bytes))
    })?;
    Ok(done_or_partial(report.skipped))
}
