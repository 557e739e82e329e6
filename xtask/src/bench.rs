//! `cargo xtask bench`: ours against rivals on the same input in the same run.

mod apply;
mod block;
pub(crate) mod boot;
mod drivers;
mod measure;
mod ntfs;
mod profile;
mod wim;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

const EXAMPLES: &str = "Examples:
  cargo xtask bench apply           apply and verify against wimlib-imagex
  cargo xtask bench block --check   partition images against partclone and zstd; needs root
  cargo xtask bench boot            boot files: TFTP, HTTP, DHCP against dnsmasq, atftpd, tftpd-hpa, nginx
  cargo xtask bench apply --check   exit code 1 when the target is missed
  cargo xtask bench apply --source /usr --megabytes 2000   other input
  cargo xtask bench drivers --check index of 10,000 INF files, match of a machine
  cargo xtask bench wim --check     codecs and whole operations on Windows programs, against wimlib
  cargo xtask bench wim --quick     the same on a tenth of the input
  cargo xtask bench wim --only small   the rows with this in their name, on what the last run left; into a JSON file of its own
  cargo xtask bench ntfs            NTFS volumes applied and captured, against wimlib-imagex

The table is printed and kept as JSON below `bench/` in the target directory.";

/// Options of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_enum)]
    name: Name,
    /// Exit with 1 when the target is missed
    #[arg(long)]
    check: bool,
    /// `apply`, `block`: directory with real files to make images of
    #[arg(long, default_value = "/usr", value_name = "DIR")]
    source: std::path::PathBuf,
    /// Megabytes of files to take at least
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Runs of each program; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// `wim`, `ntfs`: a tenth of the input and one run; `block`: one run, to try things
    #[arg(long)]
    quick: bool,
    /// `wim`: only the rows whose name contains TEXT; images of earlier rows are those of the last run
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// The benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Applying and verifying WIMs: time, processor time and memory against wimlib-imagex
    Apply,
    /// Partition images captured, restored and re-deployed, against partclone and zstd
    Block,
    /// Serving boot files: TFTP, HTTP and DHCP against dnsmasq, atftpd, tftpd-hpa and nginx
    Boot,
    /// The driver repository: indexing 10,000 INF files, matching a machine
    Drivers,
    /// Applying images to NTFS volumes, plain and compressed as in the image, and capturing them, against wimlib
    Ntfs,
    /// Codecs, and capturing, applying, verifying, exporting and optimising WIMs, against wimlib
    Wim,
}

/// Runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let met = match options.name {
        Name::Apply => apply::run(options)?,
        Name::Block => block::run(options)?,
        Name::Boot => boot::run(options)?,
        Name::Drivers => drivers::run(options)?,
        Name::Ntfs => ntfs::run(options)?,
        Name::Wim => wim::run(options)?,
    };
    Ok(if options.check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
