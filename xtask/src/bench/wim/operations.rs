//! Whole operations: `gravure` against `wimlib-imagex`, in turns, with equal threads. Applying and verifying read the image
//! that wimlib captured, so both do the same work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Extent;
use super::input::{Corpus, Input};
use crate::bench::apply::{Program, empty};
use crate::bench::measure::{Cost, measure, median};
use crate::bench::profile;
use crate::console::Step;
use crate::{process, workspace};

/// Peak memory beside what goes with the number of files, and that for one file, bytes.
const PEAK: u64 = 64 << 20;
const PEAK_PER_FILE: u64 = 1 << 10;

/// Chunk of solid images.
const SOLID_CHUNK: u64 = 64 << 20;

/// What must be reached.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Targets {
    /// Wall time of ours over wimlib's.
    pub(super) wall: Option<f64>,
    /// Bytes of our file over wimlib's.
    pub(super) size: Option<f64>,
    /// Peak memory of ours, bytes.
    pub(super) peak: Option<u64>,
    /// Peak memory of ours over wimlib's.
    pub(super) peak_ratio: Option<f64>,
}

/// One operation on one input.
#[derive(Debug, Serialize)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) ours: Cost,
    pub(super) theirs: Cost,
    /// Size of the file written, bytes.
    pub(super) bytes: Option<u64>,
    pub(super) rival_bytes: Option<u64>,
    pub(super) targets: Targets,
    /// Where our time goes, if a target of time is missed.
    pub(super) profile: Vec<String>,
}

impl Operation {
    pub(super) fn wall_ratio(&self) -> f64 {
        self.ours.wall_seconds / self.theirs.wall_seconds
    }

    pub(super) fn peak_ratio(&self) -> f64 {
        self.ours.peak_bytes as f64 / self.theirs.peak_bytes as f64
    }

    pub(super) fn size_ratio(&self) -> Option<f64> {
        Some(self.bytes? as f64 / self.rival_bytes? as f64)
    }
}

/// What is run for an operation.
struct Job<'a> {
    name: String,
    runs: usize,
    /// What must stand there before each run.
    before: &'a dyn Fn(Program) -> Result<()>,
    command: &'a dyn Fn(Program) -> Result<Command>,
    /// The file that is written.
    output: Option<&'a dyn Fn(Program) -> PathBuf>,
    targets: Targets,
}

/// Where everything is.
struct Bench<'a> {
    dir: &'a Path,
    gravure: PathBuf,
    threads: String,
    runs: usize,
    /// What the names of the rows to measure have in them.
    only: &'a str,
    /// What the last image is of, as in the name of its row.
    captured: String,
    done: Vec<Operation>,
}

/// How rows of the small files are called, behind the method.
const SMALL_FILES: &str = ", small files";

/// Measures the operations whose row has `only` in its name.
pub(super) fn measure_all(extent: Extent, only: &str, input: &Input, dir: &Path) -> Result<Vec<Operation>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let gravure = workspace::target().join("release/gravure");
    let runs = extent.runs;
    let mut bench = Bench {
        dir,
        gravure,
        threads: threads.to_string(),
        runs,
        only,
        captured: String::new(),
        done: Vec::new(),
    };
    let peak = PEAK + input.programs.files * PEAK_PER_FILE;
    let capture = Targets { wall: Some(1.0), size: Some(1.01), peak: Some(peak), peak_ratio: None };
    let fast = Targets { peak: Some(peak), ..Targets::default() };
    // Whatever the input: of many small files and of few large chunks the same is asked.
    let read = Targets { wall: Some(0.5), peak: Some(peak), ..Targets::default() };
    for (method, capture) in [("LZX", capture), ("XPRESS", fast)] {
        bench.capture(&input.programs, method, &[], &[], capture)?;
        bench.apply(read)?;
        bench.verify(read)?;
    }
    bench.export("LZX", fast)?;
    bench.optimize("LZX", fast)?;
    // Hashing and nothing else: shows whether SHA-1 uses the processor's instructions, as wimlib's does.
    bench.capture(&input.programs, "none", &[], &[], fast)?;
    bench.verify(Targets { wall: Some(1.0), ..fast })?;

    let small = PEAK + input.small.files * PEAK_PER_FILE;
    let read = Targets { peak: Some(small), ..read };
    bench.capture(&input.small, "LZX", &[], &[], Targets { peak: Some(small), ..capture })?;
    bench.apply(read)?;
    bench.verify(read)?;

    bench.runs = 1;
    let peak = (threads as u64 + 2) * 2 * SOLID_CHUNK;
    let solid = Targets { peak: Some(peak), ..read };
    let ours = ["--solid-compress=lzms", "--solid-chunk-size=64M"];
    // An encoder's need is its own; it is to be no more than that of wimlib's.
    let packed = Targets { peak_ratio: Some(1.0), ..Targets::default() };
    bench.capture(&input.solid, "solid", &ours, &["--solid"], packed)?;
    bench.apply(solid)?;
    bench.verify(solid)?;
    empty(&bench.targets_dir())?;
    Ok(bench.done)
}

impl Bench<'_> {
    fn image(&self, program: Program, method: &str) -> PathBuf {
        let who = match program {
            Program::Ours => "ours",
            Program::Theirs => "wimlib",
        };
        self.dir.join(format!("{who}-{}.wim", method.to_lowercase()))
    }

    /// What the image of the last capture is called. Each has a name of its own, so that rows can be repeated alone.
    fn captured_image(&self) -> String {
        self.captured.replace(SMALL_FILES, "-small")
    }

    /// The command lines agree in verb, files and number of threads.
    fn command(&self, program: Program, verb: &str) -> Result<Command> {
        let mut command = match program {
            Program::Ours => Command::new(&self.gravure),
            Program::Theirs => process::tool("wimlib-imagex")?,
        };
        command.arg(verb);
        Ok(command)
    }

    fn capture(
        &mut self,
        corpus: &Corpus,
        method: &str,
        ours: &[&str],
        theirs: &[&str],
        targets: Targets,
    ) -> Result<()> {
        let is_small = corpus.dir.ends_with("small") || corpus.dir.ends_with("small-quick");
        let what = if is_small { SMALL_FILES } else { "" };
        self.captured = format!("{method}{what}");
        let name = self.captured_image();
        let operation = self.run(&Job {
            name: format!("capture {method}{what}"),
            runs: self.runs,
            before: &|program| remove(&self.image(program, &name)),
            command: &|program| {
                let mut command = self.command(program, "capture")?;
                command.arg(&corpus.dir).arg(self.image(program, &name));
                command.args(["--threads", &self.threads]);
                if method != "solid" {
                    command.arg(format!("--compress={method}"));
                }
                match program {
                    Program::Ours => command.args(ours),
                    Program::Theirs => command.arg("--unix-data").args(theirs),
                };
                Ok(command)
            },
            output: Some(&|program| self.image(program, &name)),
            targets,
        })?;
        self.done.extend(operation);
        Ok(())
    }

    /// Wimlib ends when the kernel has everything, so ours is told to; that is what targets are about. Synced, both end when the
    /// disk has it, which is our default.
    fn apply(&mut self, targets: Targets) -> Result<()> {
        self.apply_until(End::InCache, targets)?;
        self.apply_until(End::OnDisk, Targets { wall: None, ..targets })
    }

    fn apply_until(&mut self, end: End, targets: Targets) -> Result<()> {
        let image = self.image(Program::Theirs, &self.captured_image());
        let what = match end {
            End::InCache => "",
            End::OnDisk => ", synced",
        };
        // A directory for each run, removed when all rows are done: for minutes after a removal, ext4 spends most of the time
        // for a new file on passing over what was just removed, and that would be measured.
        let targets_dir = self.targets_dir().join(format!("{}{what}", self.captured));
        let number = std::cell::Cell::new(0);
        let target = || targets_dir.join(number.get().to_string());
        let operation = self.run(&Job {
            name: format!("apply {}{what}", self.captured),
            runs: self.runs,
            before: &|_| {
                number.set(number.get() + 1);
                empty(&target())
            },
            command: &|program| {
                let mut command = self.command(program, "apply")?;
                match program {
                    // Wimlib checks SHA-1 while it writes and no more, so ours does too.
                    Program::Ours => command.arg(&image).arg(target()).args(["--verify", "decode"]),
                    Program::Theirs => command.arg(&image).arg("1").arg(target()).arg("--unix-data"),
                };
                match (program, end) {
                    (Program::Ours, End::InCache) => drop(command.arg("--no-sync")),
                    (Program::Theirs, End::OnDisk) => command = then_sync(&command, &target()),
                    _ => {}
                }
                Ok(command)
            },
            output: None,
            targets,
        })?;
        for target in read_dir(&targets_dir)? {
            cut_files(&target)?;
        }
        self.done.extend(operation);
        Ok(())
    }

    fn verify(&mut self, targets: Targets) -> Result<()> {
        let image = self.image(Program::Theirs, &self.captured_image());
        let operation = self.run(&Job {
            name: format!("verify {}", self.captured),
            runs: self.runs,
            before: &|_| Ok(()),
            command: &|program| {
                let mut command = self.command(program, "verify")?;
                command.arg(&image);
                Ok(command)
            },
            output: None,
            targets,
        })?;
        self.done.extend(operation);
        Ok(())
    }

    fn export(&mut self, method: &str, targets: Targets) -> Result<()> {
        let image = self.image(Program::Theirs, method);
        let operation = self.run(&Job {
            name: format!("export {method}"),
            runs: self.runs,
            before: &|program| remove(&self.image(program, "exported")),
            command: &|program| {
                let mut command = self.command(program, "export")?;
                match program {
                    // Wimlib does not read back what it wrote.
                    Program::Ours => {
                        let mut source = image.clone().into_os_string();
                        source.push(":1");
                        command.arg(source).arg(self.image(program, "exported")).arg("--no-verify")
                    }
                    Program::Theirs => command.arg(&image).arg("1").arg(self.image(program, "exported")),
                };
                Ok(command)
            },
            output: Some(&|program| self.image(program, "exported")),
            targets,
        })?;
        for program in [Program::Ours, Program::Theirs] {
            remove(&self.image(program, "exported"))?;
        }
        self.done.extend(operation);
        Ok(())
    }

    fn optimize(&mut self, method: &str, targets: Targets) -> Result<()> {
        let image = self.image(Program::Theirs, method);
        let operation = self.run(&Job {
            name: format!("optimize {method}, recompressing"),
            runs: self.runs,
            before: &|program| {
                let copy = self.image(program, "optimized");
                std::fs::copy(&image, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
                Ok(())
            },
            command: &|program| {
                let mut command = self.command(program, "optimize")?;
                command.arg(self.image(program, "optimized")).arg("--recompress");
                command.args(["--threads", &self.threads]);
                if matches!(program, Program::Ours) {
                    command.arg("--no-verify");
                }
                Ok(command)
            },
            output: Some(&|program| self.image(program, "optimized")),
            targets,
        })?;
        for program in [Program::Ours, Program::Theirs] {
            remove(&self.image(program, "optimized"))?;
        }
        self.done.extend(operation);
        Ok(())
    }

    /// Both programs in turns, so that a slow phase of the machine hits both; the medians.
    fn run(&self, job: &Job<'_>) -> Result<Option<Operation>> {
        if !job.name.contains(self.only) {
            return Ok(None);
        }
        let step = Step::start(&job.name);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 0..job.runs.max(1) {
            let mut order = [Program::Theirs, Program::Ours];
            order.rotate_left(run % 2);
            for program in order {
                (job.before)(program)?;
                let costs = if matches!(program, Program::Ours) { &mut ours } else { &mut theirs };
                costs.push(measure(&(job.command)(program)?)?);
            }
        }
        let bytes = |program| job.output.and_then(|path| Some(std::fs::metadata(path(program)).ok()?.len()));
        let mut operation = Operation {
            name: job.name.clone(),
            ours: median(ours).context("no run")?,
            theirs: median(theirs).context("no run")?,
            bytes: bytes(Program::Ours),
            rival_bytes: bytes(Program::Theirs),
            targets: job.targets,
            profile: Vec::new(),
        };
        step.done(format!("{:.2} of wimlib's time", operation.wall_ratio()));
        if job.targets.wall.is_some_and(|most| operation.wall_ratio() > most) {
            (job.before)(Program::Ours)?;
            operation.profile = profile::of(&(job.command)(Program::Ours)?, self.dir)?;
        }
        Ok(Some(operation))
    }

    fn targets_dir(&self) -> PathBuf {
        self.dir.join("targets")
    }
}

/// When an apply ends.
#[derive(Debug, Clone, Copy)]
enum End {
    InCache,
    OnDisk,
}

/// The command, and a sync of the file system of `target` behind it.
fn then_sync(command: &Command, target: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "target=$1 && shift && \"$@\" && sync -f \"$target\"", "sh"]).arg(target);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// What a directory holds; nothing if it is not there.
fn read_dir(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    let entries = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    entries.with_context(|| format!("cannot list {}", dir.display()))
}

/// Gives the room of all files below `dir` back; the files stay.
fn cut_files(dir: &Path) -> Result<()> {
    for path in read_dir(dir)? {
        let kind =
            std::fs::symlink_metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        if kind.is_dir() {
            cut_files(&path)?;
        } else if kind.is_file() {
            let file = std::fs::File::options().write(true).open(&path);
            let cut = file.and_then(|file| file.set_len(0));
            cut.with_context(|| format!("cannot cut {}", path.display()))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
