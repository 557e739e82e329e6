//! `gravure delete`: an image taken out of a file.

use std::process::ExitCode;

use gravure_imaging::{Deletion, delete};

use super::rewrite::{Writing, print, recovering, unfinished};
use crate::exit::{Failure, done_or_partial};
use crate::progress::Reporter;
use crate::stored::is_block_name;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Take an image out of an image file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Images behind it move up. The file is written anew beside the old one, which stays until the new one is complete.

Examples:
  gravure delete install.wim:3
  gravure delete \"install.wim:Windows 11 Home\"
  gravure delete images.gim/:golden           an image of a store; `gravure optimize images.gim/` frees the place
  gravure delete install.wim:3 --soft         only the tables are written; the file gets no smaller"
)]
pub(crate) struct Options {
    /// Image file, with :NUMBER or :NAME
    image: ImageName,
    /// Only take it off the tables, which is quick; `gravure optimize` frees the place later
    #[arg(long)]
    soft: bool,
    /// Put the file back first if another writer left it unfinished
    #[arg(long)]
    recover: bool,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if is_block_name(&options.image.file) {
        return super::block::delete(&options.image, common);
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let path = options.image.local()?;
    let mut rewrite = options.writing.options("delete");
    recovering(&mut rewrite, options.recover);
    let deletion = if options.soft { Deletion::Soft } else { Deletion::Rebuild };
    let report = delete(path, &options.image.which, deletion, &rewrite, &ctl, &reporter)
        .map_err(|error| unfinished(error, "--recover"))?;
    print(path, &report, common)?;
    Ok(done_or_partial(report.skipped))
}
