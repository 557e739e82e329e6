//! `gravure driver`: which driver fits a device.

mod rank;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Common;
use crate::exit::Failure;

/// Choose drivers by hardware ID
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Rank(rank::Options),
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Rank(options) => rank::run(options, common),
    }
}
