//! `cargo xtask demo`: the main job, end to end, with real parts.

use anyhow::Result;

const EXAMPLES: &str = "Examples:
  cargo xtask demo                    a UEFI machine
  cargo xtask demo --firmware bios    a BIOS machine";

/// Options of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {}

/// Runs the demo.
pub(crate) fn run(_options: &Options) -> Result<()> {
    crate::setup::ensure()
}
