//! `cargo xtask test` and `prepush`: the checks and tests of DESIGN section 9, with one count over all of them.

mod counts;
mod runner;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::console::{self, Step, seconds};
use crate::{image, payload, process, setup, tidy, workspace};
use counts::Counts;

const EXAMPLES: &str = "Examples:
  cargo xtask test            what CI runs: set-up, checks, all tests, one UEFI and one BIOS deployment
  cargo xtask test --full     everything: all virtual machines, all faults
  cargo xtask test --no-vm    without virtual machines
  cargo xtask test --seed 7   the faults that were sampled with seed 7

The last line counts the tests: `N passed, N failed, N skipped`.";

const PREPUSH_EXAMPLES: &str = "Examples:
  cargo xtask prepush         format, clippy, tidy, unit tests; changes nothing, needs no root
  cargo xtask prepush --fix   let cargo fmt mend the format first";

/// The tests in `tests/`, by name: `--package` would build all dependencies again with other features.
const VM_TESTS: [&str; 9] = [
    "--workspace",
    "--test",
    "vm_boot",
    "--test",
    "vm_deployment",
    "--test",
    "vm_faults",
    "--test",
    "vm_windows",
];
/// Unit and integration tests. No documentation tests: rustdoc would read every crate to find none (tidy keeps it so).
const TESTS: [&str; 6] = ["--workspace", "--exclude", "gravure-e2e", "--lib", "--bins", "--tests"];
/// Recipe of the image that tests deploy: the smallest system that starts and reports.
const TEST_RECIPE: &str = "images/tiny.toml";

/// Options of `test`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Every virtual machine and every fault instead of a sample
    #[arg(long)]
    full: bool,
    /// Leave the virtual machines out
    #[arg(long, conflicts_with = "full")]
    no_vm: bool,
    /// Seed of sampled faults; default: today's number of days since 1970, printed
    #[arg(long)]
    seed: Option<u64>,
}

/// Options of `prepush`.
#[derive(Debug, clap::Args)]
#[command(after_help = PREPUSH_EXAMPLES)]
pub(crate) struct PrepushOptions {
    /// Mend the format instead of only checking it
    #[arg(long)]
    fix: bool,
}

/// The stages of a run: what failed, how long each took, what the tests counted.
#[derive(Debug, Default)]
struct Report {
    rows: Vec<Vec<String>>,
    failed: Vec<&'static str>,
    counts: Counts,
}

impl Report {
    /// Runs a stage; an error is printed and remembered, and the next stage runs all the same.
    fn stage(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) {
        self.counted(name, || work().map(|()| Counts::default()));
    }

    fn counted(&mut self, name: &'static str, work: impl FnOnce() -> Result<Counts>) {
        let step = Step::start(name);
        let start = Instant::now();
        let outcome = match work() {
            Ok(counts) => {
                self.counts.add(counts);
                if counts.failed > 0 {
                    self.failed.push(name);
                }
                if counts == Counts::default() { "ok".to_owned() } else { counts.to_string() }
            }
            Err(error) => {
                console::failure(&error);
                self.failed.push(name);
                "failed".to_owned()
            }
        };
        self.rows.push(vec![name.to_owned(), seconds(start.elapsed()), outcome.clone()]);
        step.done(outcome);
    }

    /// Prints the table and, as the very last line, the counts.
    fn finish(self, total: Duration) -> ExitCode {
        let mut rows = self.rows;
        rows.push(vec!["total".into(), seconds(total), String::new()]);
        println!();
        console::table(&rows);
        if !self.failed.is_empty() {
            eprintln!("failed: {}", self.failed.join(", "));
        }
        println!("{}", self.counts);
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs the CI tier, or everything with `--full`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    setup::ensure()?;
    let seed = options.seed.unwrap_or_else(days_since_1970);
    console::note(format!("seed of sampled faults: {seed}"));
    let settings = runner::Settings { seed, full: options.full, in_ci: std::env::var_os("CI").is_some() };
    let mut report = Report::default();
    report.stage("format", || check_format(false));
    report.stage("clippy", clippy);
    report.stage("tidy", || tidy::run(&tidy::Options::default()));
    if !options.no_vm {
        // Before the tests: some of them start this payload, or this program, in a machine of their own.
        // The daily run builds one that is sooner done; the one that is shipped is what a full run and the demo start.
        let wanted = payload::Options { quick: !options.full, ..payload::Options::default() };
        report.stage("payload", || payload::run(&wanted).map(drop));
        report.stage("build", build);
        report.stage("test image", || image::build(&program_path(), TEST_RECIPE, false).map(drop));
    }
    report.counted("unit and integration tests", || runner::run(&settings, &TESTS, &[]));
    if !options.no_vm {
        report.counted("virtual machines", || {
            let threads = format!("--test-threads={}", machines_at_once());
            runner::run(&settings, &VM_TESTS, &[&threads])
        });
    }
    if report.counts.passed == 0 {
        bail!("no test ran");
    }
    Ok(report.finish(start.elapsed()))
}

/// The quick tier.
pub(crate) fn prepush(options: &PrepushOptions) -> Result<ExitCode> {
    let start = Instant::now();
    let settings = runner::Settings { seed: days_since_1970(), full: false, in_ci: false };
    let mut report = Report::default();
    report.stage("format", || check_format(options.fix));
    report.stage("clippy", clippy);
    report.stage("tidy", || tidy::run(&tidy::Options::default()));
    report.counted("unit tests", || runner::run(&settings, &["--workspace", "--lib", "--bins"], &[]));
    Ok(report.finish(start.elapsed()))
}

/// Virtual machines that run beside each other: an emulated one keeps one processor busy and has 1 GiB.
fn machines_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}

fn check_format(fix: bool) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["fmt", "--all"]);
    if !fix {
        cargo.arg("--check");
    }
    process::run(&mut cargo)
}

fn clippy() -> Result<()> {
    process::run(workspace::cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Where [`build`] leaves the program.
fn program_path() -> PathBuf {
    workspace::target().join("debug/gravure")
}

/// Builds the tests, and with them the program the virtual machines boot from: integration tests of the command line start it. By itself it would
/// be built with other features of its dependencies, and these a second time.
fn build() -> Result<()> {
    process::run(workspace::cargo().arg("test").args(TESTS).arg("--no-run"))
}

fn days_since_1970() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() / 86_400)
}
