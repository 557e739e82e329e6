//! Applying and verifying WIMs: `gravure` against `wimlib-imagex` on the same images of real files.
//!
//! Both check the SHA-1 of every blob while they apply and end when the kernel has everything; ours runs with `--verify decode
//! --no-sync`, which is that and no more, so that equal work is compared. The images are made once by wimlib and kept.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Options;
use super::measure::{Cost, measure, median};
use crate::console::{self, Remedy, Step, size};
use crate::{process, workspace};

/// Compressions that are measured, as wimlib names them.
const METHODS: [&str; 2] = ["LZX", "XPRESS"];

/// Wall time of ours over theirs, applying LZX, that must be reached.
const TARGET_RATIO: f64 = 0.6;

/// A row of the result.
#[derive(Debug, Serialize)]
struct Row {
    operation: String,
    ours: Cost,
    theirs: Cost,
    wall_ratio: f64,
    processor_ratio: f64,
    memory_ratio: f64,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Outcome {
    source_bytes: u64,
    source_files: u64,
    processors: usize,
    rival: String,
    target_wall_ratio_apply_lzx: f64,
    rows: Vec<Row>,
}

/// Measures; says whether the target was met.
pub(super) fn run(options: &Options) -> Result<bool> {
    let mut wimlib = process::tool("wimlib-imagex")?;
    let version = String::from_utf8_lossy(&process::output(wimlib.arg("--version"))?)
        .lines()
        .next()
        .unwrap_or("")
        .to_owned();
    let dir = workspace::target().join("bench/apply");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let step = Step::start("gravure (release build)");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    step.done("built");
    let ours = workspace::target().join("release/gravure");

    let source = Source::collect(options, &dir)?;
    let mut rows = Vec::new();
    // A directory of its own for each run, and none removed before the last: for six minutes after many files were removed, ext4
    // spends half of the time looking for inodes that are not too fresh to be used again.
    let targets = dir.join("targets");
    empty(&targets)?;
    let number = std::cell::Cell::new(0);
    for method in METHODS {
        let image = source.image(method, &dir)?;
        let apply = |program: Program| {
            number.set(number.get() + 1);
            let target = targets.join(number.get().to_string());
            let mut command = program.command(&ours)?;
            match program {
                Program::Ours => {
                    command.arg("apply").arg(&image).arg(&target).args(["--verify", "decode", "--no-sync"])
                }
                Program::Theirs => command.arg("apply").arg(&image).arg("1").arg(&target).arg("--unix-data"),
            };
            empty(&target)?;
            measure(&command)
        };
        rows.push(compare(&format!("apply {method}"), options.runs, apply)?);
        let verify = |program: Program| {
            let mut command = program.command(&ours)?;
            command.arg("verify").arg(&image);
            measure(&command)
        };
        rows.push(compare(&format!("verify {method}"), options.runs, verify)?);
    }
    empty(&targets)?;
    let outcome = Outcome {
        source_bytes: source.bytes,
        source_files: source.files,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        rival: version,
        target_wall_ratio_apply_lzx: TARGET_RATIO,
        rows,
    };
    let path = dir.join("result.json");
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the result")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(print(&outcome, &path))
}

/// Who is measured.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program {
    Ours,
    Theirs,
}

impl Program {
    fn command(self, ours: &Path) -> Result<Command> {
        match self {
            Self::Ours => Ok(Command::new(ours)),
            Self::Theirs => process::tool("wimlib-imagex"),
        }
    }
}

/// Both programs in turns, so that a slow phase of the machine hits both; the medians.
fn compare(operation: &str, runs: usize, run: impl Fn(Program) -> Result<Cost>) -> Result<Row> {
    let step = Step::start(operation);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        ours.push(run(Program::Ours)?);
        theirs.push(run(Program::Theirs)?);
    }
    let (ours, theirs) = (median(ours).context("no run")?, median(theirs).context("no run")?);
    let wall_ratio = ours.wall_seconds / theirs.wall_seconds;
    step.done(format!("{wall_ratio:.2} of wimlib's time"));
    Ok(Row {
        operation: operation.to_owned(),
        ours,
        theirs,
        wall_ratio,
        processor_ratio: ours.processor_seconds / theirs.processor_seconds,
        // Display only; memory fits into a double exactly.
        memory_ratio: ours.peak_bytes as f64 / theirs.peak_bytes as f64,
    })
}

fn print(outcome: &Outcome, path: &Path) -> bool {
    let mut rows = vec![
        [
            "operation",
            "ours s",
            "wimlib s",
            "ratio",
            "ours CPU s",
            "wimlib CPU s",
            "ratio",
            "ours peak",
            "wimlib peak",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in &outcome.rows {
        rows.push(vec![
            row.operation.clone(),
            format!("{:.2}", row.ours.wall_seconds),
            format!("{:.2}", row.theirs.wall_seconds),
            format!("{:.2}", row.wall_ratio),
            format!("{:.2}", row.ours.processor_seconds),
            format!("{:.2}", row.theirs.processor_seconds),
            format!("{:.2}", row.processor_ratio),
            size(row.ours.peak_bytes),
            size(row.theirs.peak_bytes),
        ]);
    }
    let (files, bytes) = (outcome.source_files, size(outcome.source_bytes));
    println!("\n    {files} files, {bytes}, {} processors, against {}", outcome.processors, outcome.rival);
    console::table(&rows);
    let met = outcome.rows.iter().any(|row| row.operation == "apply LZX" && row.wall_ratio <= TARGET_RATIO);
    console::note(format!("result: {}", path.display()));
    console::note(format!("target, apply LZX <= {TARGET_RATIO}: {}", if met { "met" } else { "missed" }));
    met
}

/// A copy of real files, large enough, from which the images are made.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) dir: PathBuf,
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Source {
    /// Copies whole subdirectories of `options.source`, sorted by name, until there is enough. Kept for later runs.
    pub(super) fn collect(options: &Options, dir: &Path) -> Result<Self> {
        let wanted = options.megabytes * 1_000_000;
        let copy = dir.join("source");
        let (files, bytes) = count(&copy)?;
        if bytes >= wanted {
            return Ok(Self { dir: copy, bytes, files });
        }
        let step = Step::start(format!("copying {} of {}", size(wanted), options.source.display()));
        std::fs::create_dir_all(&copy).with_context(|| format!("cannot create {}", copy.display()))?;
        let mut parts = Vec::new();
        subdirectories(&options.source, 2, &mut parts)?;
        for part in parts {
            if count(&copy)?.1 >= wanted {
                break;
            }
            let mut cp = Command::new("cp");
            // A name without slashes, since cp's --parents (coreutils 9.1) fails to keep the attributes of parents.
            let flat = part.display().to_string().replace('/', "_");
            cp.args(["--archive", "--one-file-system"]).arg(&part).arg(copy.join(flat));
            process::output(&mut cp)?;
        }
        let (files, bytes) = count(&copy)?;
        if bytes < wanted {
            bail!(Remedy::new(
                format!("{} has only {}", options.source.display(), size(bytes)),
                "name a larger directory with --source, or ask for less with --megabytes",
            ));
        }
        step.done(format!("{files} files, {}", size(bytes)));
        Ok(Self { dir: copy, bytes, files })
    }

    /// The image of the files by wimlib's own compressor.
    fn image(&self, method: &str, dir: &Path) -> Result<PathBuf> {
        let image = dir.join(format!("{}-{}.wim", method.to_lowercase(), self.bytes));
        if image.is_file() {
            return Ok(image);
        }
        let step = Step::start(format!("{method} image by wimlib"));
        let partial = image.with_extension("partial");
        let mut wimlib = process::tool("wimlib-imagex")?;
        wimlib
            .arg("capture")
            .arg(&self.dir)
            .arg(&partial)
            .arg(format!("--compress={method}"))
            .arg("--unix-data");
        process::output(&mut wimlib)?;
        std::fs::rename(&partial, &image).with_context(|| format!("cannot rename {}", partial.display()))?;
        step.done(size(std::fs::metadata(&image).map_or(0, |meta| meta.len())));
        Ok(image)
    }
}

/// Directories at `depth` below `dir`, sorted.
fn subdirectories(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        if depth > 1 {
            subdirectories(&path, depth - 1, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Files and their bytes below `dir`; nothing when it is not there.
pub(super) fn count(dir: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes, mut queue) = (0, 0, vec![dir.to_owned()]);
    while let Some(dir) = queue.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let meta = entry.metadata().with_context(|| format!("cannot read {}", entry.path().display()))?;
            if meta.is_dir() {
                queue.push(entry.path());
            } else if meta.is_file() {
                files += 1;
                bytes += meta.size();
            }
        }
    }
    Ok((files, bytes))
}

pub(super) fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}
