//! `gravure driver`: which driver fits a device, and the repository drivers are taken from.

mod catalogue;
mod rank;
mod repository;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use repository::{read_any_inventory, read_inventory};

use crate::Common;
use crate::exit::Failure;

/// Keep drivers and choose them by hardware ID
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(repository::AddCommand),
    List(repository::ListCommand),
    Match(repository::MatchCommand),
    Rank(rank::Options),
    Coverage(repository::CoverageCommand),
    Export(repository::ExportCommand),
    Remove(repository::RemoveCommand),
    Catalogue(catalogue::Options),
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Add(options) => repository::add(options, common),
        Command::List(options) => repository::list(options, common),
        Command::Match(options) => repository::matches(options, common),
        Command::Rank(options) => rank::run(options, common),
        Command::Coverage(options) => repository::cover(options, common),
        Command::Export(options) => repository::export(options),
        Command::Remove(options) => repository::remove(options),
        Command::Catalogue(options) => catalogue::run(options, common),
    }
}
