//! `cargo xtask bench`: ours against rivals in the same run.

use std::process::ExitCode;

use anyhow::Result;

const EXAMPLES: &str = "Examples:
  cargo xtask bench apply           apply and verify against wimlib-imagex
  cargo xtask bench apply --check   exit code 1 when the target is missed";

/// Options of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {}

/// Runs the benchmark.
pub(crate) fn run(_options: &Options) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
