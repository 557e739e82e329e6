//! Everything around WIMs against wimlib, on the same input in the same run: the codecs chunk by chunk on one core, and whole
//! operations of both command lines. What a target is missed by is shown with a profile.

mod codecs;
mod input;
mod operations;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};

use self::input::Input;
use self::report::Outcome;
use super::Options;
use crate::console::Step;
use crate::{process, workspace};

/// Megabytes of Windows programs and number of small files with `--quick`.
const QUICK_MEGABYTES: u64 = 128;
const QUICK_SMALL_FILES: usize = 5000;

/// Number of small files otherwise.
const SMALL_FILES: usize = 50_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    megabytes: u64,
    small_files: usize,
    runs: usize,
    is_quick: bool,
}

impl Extent {
    fn of(options: &Options) -> Self {
        if options.quick {
            let (megabytes, small_files) = (QUICK_MEGABYTES, QUICK_SMALL_FILES);
            return Self { megabytes, small_files, runs: 1, is_quick: true };
        }
        let Options { megabytes, runs, .. } = *options;
        Self { megabytes, small_files: SMALL_FILES, runs, is_quick: false }
    }
}

/// The directories of files that are measured on: Windows programs, and small files.
pub(super) fn trees(options: &Options) -> Result<[PathBuf; 2]> {
    let dir = workspace::target().join("bench/wim");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let input = Input::prepare(Extent::of(options), &dir)?;
    Ok([input.programs.dir, input.small.dir])
}

/// Measures; says whether all targets were met.
pub(super) fn run(options: &Options) -> Result<bool> {
    let extent = Extent::of(options);
    let mut wimlib = process::tool("wimlib-imagex")?;
    let version = process::output(wimlib.arg("--version"))?;
    let rival = String::from_utf8_lossy(&version).lines().next().unwrap_or("").to_owned();
    let dir = workspace::target().join("bench/wim");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let input = Input::prepare(extent, &dir)?;
    let step = Step::start("release build");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    let example = ["build", "--release", "--package", "gravure-codec", "--example", "measure"];
    process::run(workspace::cargo().args(example))?;
    step.done("built");
    let only = options.only.as_deref().unwrap_or_default();
    let codecs = codecs::measure_all(only, &input, &dir)?;
    let operations = operations::measure_all(extent, only, &input, &dir)?;
    let outcome = Outcome {
        is_quick: extent.is_quick,
        program_bytes: input.programs.bytes,
        program_files: input.programs.files,
        small_bytes: input.small.bytes,
        small_files: input.small.files,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        rival,
        codecs,
        operations,
    };
    let file = if only.is_empty() { "bench/wim.json" } else { "bench/wim-only.json" };
    let path = workspace::target().join(file);
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the result")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(outcome.print(&path))
}
