//! `gravure join`: the parts of a split image become one file again.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{ImageFile, join};

use super::rewrite::{Remaking, print};
use crate::exit::{Failure, done_or_partial};
use crate::progress::Reporter;
use crate::target::open_alone;
use crate::{Common, interrupt};

/// Join the parts of a split image into one file
#[derive(Debug, clap::Args)]
#[command(after_help = "Parts may be given in any order, each once.

Examples:
  gravure join install.wim install*.swm
  gravure join install.wim a.swm a2.swm a3.swm --check
  gravure join install.wim http://server/a.swm http://server/a2.swm")]
pub(crate) struct Options {
    /// Image file to write
    output: PathBuf,
    /// All parts, files or addresses
    #[arg(required = true)]
    parts: Vec<String>,
    #[command(flatten)]
    remaking: Remaking,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let rewrite = options.remaking.options("join", false)?;
    let parts = options.parts.iter().map(|part| open_alone(part, &ctl)).collect::<Result<_, _>>()?;
    let set = ImageFile::from_parts(parts)?;
    let report = join(&set, &options.output, &rewrite, &ctl, &reporter)?;
    print(&options.output, &report, common)?;
    Ok(done_or_partial(report.skipped))
}
