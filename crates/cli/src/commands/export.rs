//! `gravure export`: images from one file into another.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{
    Boot, CaptureForm, ErrorKind, ExportOptions, FormChange, Selection, Target, Which, export, export_to_pipe,
};

use super::layout::is_esd;
use super::rewrite::{Remaking, print, recovering, unfinished};
use crate::exit::{Failure, done_or_partial};
use crate::progress::Reporter;
use crate::target::{ImageName, STDIN};
use crate::{Common, interrupt};

/// Copy images from one image file into another, new or existing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What has the compression of the target already is copied as it is stored. Blobs that were written are read back and
checked before the command counts as done. An existing target keeps its compression unless it is rebuilt.

Examples:
  gravure export install.wim:1 pro.wim                         one image into a file of its own
  gravure export install.wim:all all.wim --compress=lzx:best   all images, compressed better
  gravure export install.esd:6 install.wim --compress=lzx      a solid file becomes one every tool reads
  gravure export install.wim:all install.esd --solid           and back: all files compressed together
  gravure export install.wim:1 - --pipable | ssh pc 'gravure apply - /mnt'
  gravure export pro.wim:1 fleet.wim \"Pro, March\" --boot       into a file that is there, under another name
  gravure export delta.wim:1 whole.wim --ref base.wim          a delta image becomes whole"
)]
pub(crate) struct Options {
    /// Image file, with :NUMBER, :NAME or :all
    source: ImageName,
    /// Image file to write, or to add the images to; with --pipable, - is standard output
    output: PathBuf,
    /// Name of the image in the target [default: as in the source]
    name: Option<String>,
    /// Description of the image in the target [default: as in the source]
    description: Option<String>,
    /// Make the exported image the bootable one; with :all, the one that is bootable in the source
    #[arg(long)]
    boot: bool,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Write an existing target anew, which closes its gaps and allows another compression
    #[arg(long)]
    rebuild: bool,
    /// Put an existing target back that another writer left unfinished
    #[arg(long)]
    recover: bool,
    #[command(flatten)]
    remaking: Remaking,
}

/// Standard output in messages.
const STDOUT_NAME: &str = "standard output";

fn rewrite_is_pipable(options: &ExportOptions) -> bool {
    options.rewrite.form == FormChange::To(CaptureForm::Pipable)
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let source = options.source.open_file(&options.references, &ctl)?;
    let selection = match &options.source.which {
        // An image of that name goes before the word.
        Which::Name(name) if name == "all" && source.find(&options.source.which).is_err() => Selection::All,
        which => Selection::One(source.find(which)?),
    };
    let mut rewrite =
        options.remaking.options("export", is_esd(&options.output) && !options.output.exists())?;
    recovering(&mut rewrite, options.recover);
    let export_options = ExportOptions {
        rewrite,
        name: options.name.clone(),
        description: options.description.clone(),
        boot: if options.boot { Boot::Set } else { Boot::Leave },
        target: if options.rebuild { Target::Rebuild } else { Target::Append },
    };
    if options.output.as_os_str() == STDIN {
        if rewrite_is_pipable(&export_options) {
            let mut out = io::stdout().lock();
            let report =
                export_to_pipe(&source, selection, &mut out, STDOUT_NAME, &export_options, &ctl, &reporter)?;
            return Ok(done_or_partial(report.skipped));
        }
        let message = "standard output takes pipable images only";
        return Err(Failure::new(ErrorKind::Usage, message).with_cure("add --pipable, or name a file"));
    }
    let report = export(&source, selection, &options.output, &export_options, &ctl, &reporter)
        .map_err(|error| unfinished(error, "--recover"))?;
    print(&options.output, &report, common)?;
    Ok(done_or_partial(report.skipped))
}
