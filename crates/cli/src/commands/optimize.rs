//! `gravure optimize`: a file written anew without gaps.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::optimize;

use super::rewrite::{Remaking, print, recovering, unfinished};
use crate::exit::{Failure, done_or_partial};
use crate::progress::Reporter;
use crate::stored::is_block_name;
use crate::{Common, interrupt};

/// Write an image file anew: without gaps and unused content, or compressed in another way
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The old file stays until the new one is complete and was read back. Needs as much space again meanwhile.

Examples:
  gravure optimize install.wim
  gravure optimize install.wim --recompress --compress=lzx:best
  gravure optimize images.gim/                what no image of a store wants is removed, beside writers
  gravure optimize boot.wim --compress=xpress --check"
)]
pub(crate) struct Options {
    /// Image file, or a store of block images
    file: PathBuf,
    /// Put the file back first if another writer left it unfinished
    #[arg(long)]
    recover: bool,
    #[command(flatten)]
    remaking: Remaking,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if is_block_name(&options.file.to_string_lossy()) {
        return super::block::collect(&options.file.to_string_lossy(), common);
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let mut rewrite = options.remaking.options("optimize", false)?;
    recovering(&mut rewrite, options.recover);
    let report =
        optimize(&options.file, &rewrite, &ctl, &reporter).map_err(|error| unfinished(error, "--recover"))?;
    print(&options.file, &report, common)?;
    Ok(done_or_partial(report.skipped))
}
