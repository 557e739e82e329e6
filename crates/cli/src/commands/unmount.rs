//! `gravure unmount`: the end of a `gravure mount`.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::Unmount;

use crate::exit::Failure;
use crate::mounting::take_away;

/// Take a mounted image away
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 3 when no image is mounted there, 4 when a program uses it.

Examples:
  gravure unmount /mnt
  gravure unmount /mnt --lazy     gone now for whoever comes, and for good with its last user")]
pub(crate) struct Options {
    /// Directory the image is mounted on
    dir: PathBuf,
    /// Also while programs use it
    #[arg(long)]
    lazy: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    take_away(&options.dir, if options.lazy { Unmount::Lazy } else { Unmount::Unused })?;
    Ok(ExitCode::SUCCESS)
}
