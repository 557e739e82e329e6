//! NTFS volumes: `gravure` against `wimlib-imagex` on the same image of a Windows-shaped tree (specs/ntfs.md, section 2).
//!
//! Both write into a regular file. The rival's is formatted by mkntfs before the clock starts, ours by the apply itself. Equal work
//! is compared: where contents are decoded, both check SHA-1 on the way and read nothing back; what reading back costs is told in
//! rows of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Options;
use super::apply::{count, empty};
use super::measure::{Cost, measure, median};
use super::profile;
use crate::console::{self, Step, size};
use crate::{process, workspace};

/// Memory that does not depend on the image, and what each file and directory may add.
const PEAK: u64 = 64 << 20;
const PEAK_PER_NODE: u64 = 1792;
/// Room on the volumes beside the contents.
const SPARE: u64 = 512 << 20;

/// What a row must reach, ours over the rival's.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Targets {
    wall: Option<f64>,
    processor: Option<f64>,
    written: Option<f64>,
}

/// A row of the result.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    ours: Cost,
    /// Bytes allocated in the volume's file; bytes of the image of a capture.
    ours_written: u64,
    theirs: Cost,
    theirs_written: u64,
    targets: Targets,
    peak_target: u64,
    /// Where our time goes, if a target of time is missed.
    profile: Vec<String>,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Outcome {
    is_quick: bool,
    content_bytes: u64,
    image_bytes: u64,
    nodes: u64,
    processors: usize,
    rival: String,
    rows: Vec<Row>,
}

/// Measures; says whether all targets were met.
pub(super) fn run(options: &Options) -> Result<bool> {
    let mut wimlib = process::tool("wimlib-imagex")?;
    let version = process::output(wimlib.arg("--version"))?;
    let rival = String::from_utf8_lossy(&version).lines().next().unwrap_or("").to_owned();
    let dir = workspace::target().join("bench/ntfs");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let step = Step::start("release build");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    let example = ["build", "--release", "--package", "gravure-imaging", "--example", "dress"];
    process::run(workspace::cargo().args(example))?;
    step.done("built");
    let suffix = if options.quick { "-quick" } else { "" };
    let image = Image::prepare(options, &dir, suffix)?;
    let bench = Bench {
        gravure: workspace::target().join("release/gravure"),
        runs: if options.quick { 1 } else { options.runs.max(1) },
        image,
        dir,
    };
    let rows = bench.rows()?;
    let outcome = Outcome {
        is_quick: options.quick,
        content_bytes: bench.image.content_bytes,
        image_bytes: std::fs::metadata(&bench.image.path).map_or(0, |metadata| metadata.len()),
        nodes: bench.image.nodes,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        rival,
        rows,
    };
    let path = workspace::target().join("bench/ntfs.json");
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the result")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(outcome.print(&path))
}

/// What is applied.
#[derive(Debug)]
struct Image {
    /// LZX by wimlib's own compressor.
    path: PathBuf,
    content_bytes: u64,
    /// Files and directories.
    nodes: u64,
}

impl Image {
    /// Windows programs and small files, with security descriptors and short names. Kept for later runs.
    fn prepare(options: &Options, dir: &Path, suffix: &str) -> Result<Self> {
        let sources = super::wim::trees(options)?;
        let tree = dir.join(format!("tree{suffix}"));
        let (files, content_bytes) = {
            let all = sources.iter().map(|source| count(source)).collect::<Result<Vec<_>>>()?;
            (all.iter().map(|one| one.0).sum::<u64>(), all.iter().map(|one| one.1).sum::<u64>())
        };
        let path = dir.join(format!("lzx{suffix}-{files}-{content_bytes}.wim"));
        if !path.is_file() {
            let step = Step::start("LZX image with descriptors and short names");
            empty(&tree)?;
            for source in &sources {
                // Hard links: only the names are made anew.
                process::output(Command::new("cp").arg("-al").arg(source).arg(&tree))?;
            }
            let at = |name: &str| dir.join(format!("{name}{suffix}"));
            let (plain, volume, dressed) = (at("plain.wim"), at("dressed.ntfs"), at("dressed.wim"));
            for file in [&plain, &volume, &dressed] {
                remove(file)?;
            }
            let gravure = workspace::target().join("release/gravure");
            let capture = |source: &Path, image: &Path| {
                let mut command = Command::new(&gravure);
                command.arg("capture").arg(source).arg(image).args(["x", "--compress=none"]);
                process::output(&mut command)
            };
            capture(&tree, &plain)?;
            let bytes = (2 * content_bytes + SPARE).to_string();
            let dress = workspace::target().join("release/examples/dress");
            process::output(Command::new(dress).arg(&plain).arg(&volume).arg(bytes))?;
            capture(&volume, &dressed)?;
            let partial = path.with_extension("partial");
            remove(&partial)?;
            let mut wimlib = process::tool("wimlib-imagex")?;
            wimlib
                .arg("export")
                .arg(&dressed)
                .arg("1")
                .arg(&partial)
                .args(["--compress=LZX", "--recompress"]);
            process::output(&mut wimlib)?;
            std::fs::rename(&partial, &path)
                .with_context(|| format!("cannot rename {}", partial.display()))?;
            for file in [&plain, &volume, &dressed] {
                remove(file)?;
            }
            std::fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
            step.done(size(std::fs::metadata(&path).map_or(0, |metadata| metadata.len())));
        }
        let mut gravure = Command::new(workspace::target().join("release/gravure"));
        let listed = process::output(gravure.arg("ls").arg(&path))?;
        let nodes = listed.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(Self { path, content_bytes, nodes })
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

struct Bench {
    gravure: PathBuf,
    runs: usize,
    image: Image,
    dir: PathBuf,
}

/// One run: cost, and bytes allocated in the file that was written.
type Run = (Cost, u64);

impl Bench {
    fn rows(&self) -> Result<Vec<Row>> {
        let descriptor = self.dir.join("descriptor.json");
        let mut describe = Command::new(&self.gravure);
        describe.args(["image", "describe"]).arg(&self.image.path).arg("-o").arg(&descriptor);
        process::output(&mut describe)?;
        let described = descriptor.display().to_string();
        let by_descriptor = ["--descriptor", described.as_str()];
        let applies: [(&'static str, &[&str], bool, Targets); 6] = [
            (
                "apply, plain",
                &["--compact=never", "--verify=decode"],
                false,
                Targets { wall: Some(0.40), processor: Some(0.85), written: None },
            ),
            (
                "apply, compressed as in the image, by descriptor",
                &["--compact=always", "--verify=descriptor"],
                true,
                Targets { wall: Some(0.20), processor: None, written: Some(0.6) },
            ),
            (
                "apply, compressed as in the image, decoded",
                &["--compact=always", "--verify=decode"],
                false,
                Targets { wall: Some(0.40), processor: None, written: Some(0.6) },
            ),
            ("apply and read back, plain", &["--compact=never", "--verify=full"], false, Targets::default()),
            (
                "apply and read back, compressed, by descriptor",
                &["--compact=always", "--verify=full"],
                true,
                Targets::default(),
            ),
            (
                "apply and read back, compressed, decoded",
                &["--compact=always", "--verify=full"],
                false,
                Targets::default(),
            ),
        ];
        // In turns, so that a slow phase of the machine hits all of them.
        let mut ours: Vec<Vec<Run>> = vec![Vec::new(); applies.len()];
        let mut theirs = Vec::new();
        let step = Step::start("apply");
        for _ in 0..self.runs {
            theirs.push(self.apply_theirs()?);
            for ((_, arguments, is_described, _), runs) in applies.iter().zip(&mut ours) {
                let by: &[&str] = if *is_described { &by_descriptor } else { &[] };
                runs.push(self.apply_ours(&[*arguments, by].concat())?);
            }
        }
        step.done(format!("{} runs", self.runs));
        let theirs = middle(theirs)?;
        let mut rows = Vec::new();
        for ((operation, _, _, targets), runs) in applies.into_iter().zip(ours) {
            rows.push(self.row(operation, middle(runs)?, theirs, targets));
        }
        rows.extend(self.captures()?);
        Ok(rows)
    }

    fn row(&self, operation: &'static str, ours: Run, theirs: Run, targets: Targets) -> Row {
        let peak_target = PEAK + self.image.nodes * PEAK_PER_NODE;
        let ((ours, ours_written), (theirs, theirs_written)) = (ours, theirs);
        let profile = Vec::new();
        Row { operation, ours, ours_written, theirs, theirs_written, targets, peak_target, profile }
    }

    fn volume_bytes(&self) -> u64 {
        2 * self.image.content_bytes + SPARE
    }

    fn volume(&self) -> PathBuf {
        self.dir.join("volume.ntfs")
    }

    /// A new file for a volume.
    fn new_volume(&self) -> Result<PathBuf> {
        let path = self.volume();
        remove(&path)?;
        let file = std::fs::File::create(&path);
        file.and_then(|file| file.set_len(self.volume_bytes()))
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    fn apply_ours(&self, arguments: &[&str]) -> Result<Run> {
        let volume = self.new_volume()?;
        let mut command = Command::new(&self.gravure);
        command.arg("apply").arg(&self.image.path).arg(&volume).args(arguments);
        let cost = measure(&command)?;
        Ok((cost, allocated(&volume)?))
    }

    fn apply_theirs(&self) -> Result<Run> {
        let volume = self.new_volume()?;
        process::output(process::tool("mkntfs")?.args(["-F", "-q", "-Q"]).arg(&volume))?;
        let mut command = process::tool("wimlib-imagex")?;
        command.arg("apply").arg(&self.image.path).arg("1").arg(&volume);
        let cost = measure(&command)?;
        Ok((cost, allocated(&volume)?))
    }

    /// The volume that was applied plain, captured by both: by ours at two levels, of which the faster one makes larger images.
    fn captures(&self) -> Result<Vec<Row>> {
        let step = Step::start("capture LZX");
        self.apply_ours(&["--compact=never", "--verify=decode"])?;
        let image = self.dir.join("captured.wim");
        let command = |mut command: Command, compress: &str| {
            command.arg("capture").arg(self.volume()).arg(&image).args(["x", compress]);
            command
        };
        let run = |program: Command, compress: &str| -> Result<Run> {
            remove(&image)?;
            let cost = measure(&command(program, compress))?;
            let bytes = std::fs::metadata(&image).context("no image was written")?.len();
            remove(&image)?;
            Ok((cost, bytes))
        };
        let levels = ["--compress=lzx", "--compress=lzx:fast"];
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..self.runs {
            for (level, runs) in levels.iter().zip(&mut ours) {
                runs.push(run(Command::new(&self.gravure), level)?);
            }
            theirs.push(run(process::tool("wimlib-imagex")?, "--compress=LZX")?);
        }
        step.done(format!("{} runs", self.runs));
        let theirs = middle(theirs)?;
        let targets = Targets { wall: Some(0.6), ..Targets::default() };
        let [ours, fast] = ours;
        let mut row = self.row("capture LZX", middle(ours)?, theirs, targets);
        if row.wall() > 0.6 {
            row.profile = profile::of(&command(Command::new(&self.gravure), levels[0]), &self.dir)?;
            remove(&image)?;
        }
        remove(&self.volume())?;
        Ok(vec![row, self.row("capture LZX, fast", middle(fast)?, theirs, targets)])
    }
}

/// The run in the middle by time. What is written is the same in all.
fn middle(runs: Vec<Run>) -> Result<Run> {
    let written = runs.first().map_or(0, |run| run.1);
    let cost = median(runs.into_iter().map(|run| run.0).collect()).context("no run")?;
    Ok((cost, written))
}

/// Bytes of the file's blocks.
fn allocated(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(metadata.blocks() * 512)
}

impl Row {
    fn wall(&self) -> f64 {
        self.ours.wall_seconds / self.theirs.wall_seconds
    }

    fn processor(&self) -> f64 {
        self.ours.processor_seconds / self.theirs.processor_seconds
    }

    fn written(&self) -> Option<f64> {
        // Display only; bytes fit into a double exactly.
        (self.theirs_written > 0).then(|| self.ours_written as f64 / self.theirs_written as f64)
    }

    /// Targets in words, each with whether it is met.
    fn verdict(&self) -> Vec<(String, bool)> {
        let mut out = Vec::new();
        let mut ratio = |name: &str, target: Option<f64>, found: Option<f64>| {
            if let (Some(most), Some(found)) = (target, found) {
                out.push((format!("{name} <= {most:.2}"), found <= most));
            }
        };
        ratio("time", self.targets.wall, Some(self.wall()));
        ratio("CPU", self.targets.processor, Some(self.processor()));
        ratio("written", self.targets.written, self.written());
        out.push((format!("peak <= {}", size(self.peak_target)), self.ours.peak_bytes <= self.peak_target));
        out
    }
}

impl Outcome {
    fn print(&self, path: &Path) -> bool {
        let head = [
            "operation",
            "ours s",
            "wimlib s",
            "ratio",
            "ours CPU s",
            "wimlib CPU s",
            "ratio",
            "written",
            "ratio",
            "peak",
            "targets",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut met = true;
        for row in &self.rows {
            let verdict = row.verdict();
            met &= verdict.iter().all(|(_, is_met)| *is_met);
            let verdict: Vec<String> = verdict
                .into_iter()
                .map(|(target, is_met)| format!("{target}: {}", if is_met { "met" } else { "MISSED" }))
                .collect();
            rows.push(vec![
                row.operation.to_owned(),
                format!("{:.2}", row.ours.wall_seconds),
                format!("{:.2}", row.theirs.wall_seconds),
                format!("{:.2}", row.wall()),
                format!("{:.2}", row.ours.processor_seconds),
                format!("{:.2}", row.theirs.processor_seconds),
                format!("{:.2}", row.processor()),
                if row.ours_written > 0 { size(row.ours_written) } else { "-".to_owned() },
                row.written().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                size(row.ours.peak_bytes),
                verdict.join(", "),
            ]);
        }
        println!(
            "\n    {} files and directories, {} in an image of {}, {} processors, against {}",
            self.nodes,
            size(self.content_bytes),
            size(self.image_bytes),
            self.processors,
            self.rival
        );
        console::table(&rows);
        for row in self.rows.iter().filter(|row| !row.profile.is_empty()) {
            println!("\n    where the time of `{}` goes", row.operation);
            for line in &row.profile {
                println!("      {line}");
            }
        }
        console::note(format!("result: {}", path.display()));
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_against_its_targets() {
        let cost = |wall_seconds, processor_seconds, peak_bytes| Cost {
            wall_seconds,
            processor_seconds,
            peak_bytes,
        };
        let mut row = Row {
            operation: "apply",
            ours: cost(1.0, 2.0, 100),
            ours_written: 50,
            theirs: cost(4.0, 4.0, 0),
            theirs_written: 100,
            targets: Targets { wall: Some(0.25), processor: Some(0.4), written: Some(0.6) },
            peak_target: 99,
            profile: Vec::new(),
        };
        let met = |row: &Row| row.verdict().into_iter().map(|(_, is_met)| is_met).collect::<Vec<_>>();
        assert_eq!(met(&row), [true, false, true, false]);
        row.theirs_written = 0;
        row.peak_target = 100;
        assert_eq!(met(&row), [true, false, true]);
    }
}
