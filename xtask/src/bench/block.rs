//! Partition images: `gravure` against `partclone | zstd -1 -T2` on the same volumes (specs/block-imaging.md, sections 6.1 and 6.4).
//!
//! Processor time is compared, since the rival's wall time is a multiple of the two seconds its progress thread sleeps. Its restore
//! checks CRC32 of every strip; ours checks BLAKE3 of every chunk, and, in a row of its own, reads everything back, which the
//! rival cannot. Needs root, for the volumes are mounted to be filled.

mod input;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::Options;
use super::apply::Source;
use super::measure::{Cost, measure};
use crate::console::{self, Remedy, Step, size};
use crate::{process, workspace};
use input::{Input, Kind, Volume, copy, remove};

/// Memory at any size of the image.
const PEAK: u64 = 256 << 20;
const CAPTURE_PROCESSOR: f64 = 0.45;
const RESTORE_PROCESSOR: f64 = 0.3;
const SIZE: f64 = 1.01;
const FETCHED: f64 = 0.30;
const WRITTEN: f64 = 0.20;
const GROWTH: f64 = 0.20;
const SHARED: f64 = 0.75;

/// A figure and what it must be.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Figure {
    name: &'static str,
    value: f64,
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Told, not judged.
    None,
}

impl Figure {
    fn at_most(name: &'static str, value: f64, target: f64) -> Self {
        Self { name, value, target: Target::AtMost(target) }
    }

    fn told(name: &'static str, value: f64) -> Self {
        Self { name, value, target: Target::None }
    }

    fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.value <= most,
            Target::AtLeast(least) => self.value >= least,
            Target::None => true,
        }
    }

    fn text(&self) -> String {
        let word = if self.is_met() { "met" } else { "MISSED" };
        match self.target {
            Target::AtMost(most) => format!("{} {:.3} <= {most:.2}: {word}", self.name, self.value),
            Target::AtLeast(least) => format!("{} {:.3} >= {least:.2}: {word}", self.name, self.value),
            Target::None => format!("{} {:.3}", self.name, self.value),
        }
    }
}

/// A row of the result.
#[derive(Debug, Serialize)]
struct Row {
    operation: String,
    ours: Cost,
    theirs: Option<Cost>,
    figures: Vec<Figure>,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Outcome {
    source_files: u64,
    source_bytes: u64,
    processors: usize,
    rival: String,
    rows: Vec<Row>,
}

/// Measures; says whether all targets were met.
pub(super) fn run(options: &Options) -> Result<bool> {
    if !gravure_is_root()? {
        bail!(Remedy::new("volumes cannot be mounted by this user", "run this benchmark as root"));
    }
    let mut partclone = process::tool("partclone.ext4")?;
    let version = process::output(partclone.arg("-v"))?;
    let rival = String::from_utf8_lossy(&version).lines().next().unwrap_or("").trim().to_owned();
    let dir = workspace::target().join("bench/block");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let step = Step::start("gravure (release build)");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    step.done("built");
    let source = Source::collect(options, &dir)?;
    let bench = Bench {
        gravure: workspace::target().join("release/gravure"),
        runs: if options.quick { 1 } else { options.runs.max(1) },
        input: Input::prepare(&source, &dir)?,
        dir,
    };
    let rows = bench.rows()?;
    let outcome = Outcome {
        source_files: bench.input.files,
        source_bytes: bench.input.bytes,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        rival,
        rows,
    };
    let path = bench.dir.join("result.json");
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the result")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(outcome.print(&path))
}

fn gravure_is_root() -> Result<bool> {
    let user = process::output(Command::new("id").arg("-u"))?;
    Ok(user.trim_ascii() == b"0")
}

struct Bench {
    gravure: PathBuf,
    runs: usize,
    input: Input,
    dir: PathBuf,
}

/// A shell script with its arguments as `$1`, `$2`, ...
fn script(text: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", text, "sh"]).args(arguments);
    command
}

/// What a number of our own JSON output is.
fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no number {name} in {value}"))
}

fn length(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len())
}

/// The run in the middle by processor time.
fn middle(mut runs: Vec<Cost>) -> Result<Cost> {
    runs.sort_by(|a, b| a.processor_seconds.total_cmp(&b.processor_seconds));
    runs.get(runs.len() / 2).copied().context("no run")
}

#[expect(clippy::cast_precision_loss, reason = "bytes of files fit a double exactly")]
fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs as f64
}

fn peak(cost: Cost) -> Figure {
    Figure::at_most("peak/256 MiB", ratio(cost.peak_bytes, PEAK), 1.0)
}

impl Bench {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Our own command; its JSON output goes to a file beside.
    fn ours(&self, arguments: &[&str], paths: &[&Path]) -> Command {
        let mut command = script(
            "report=$1; shift; exec \"$@\" --progress none --format json >\"$report\"",
            &[&self.at("report.json"), &self.gravure],
        );
        command.args(arguments).args(paths);
        command
    }

    fn report(&self) -> Result<Value> {
        let bytes = std::fs::read(self.at("report.json")).context("read our report")?;
        serde_json::from_slice(&bytes).context("our report is no JSON")
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for volume in [&self.input.ext4, &self.input.ntfs] {
            rows.extend(self.capture_and_restore(volume)?);
        }
        for volume in [&self.input.ext4, &self.input.ntfs] {
            rows.push(self.redeploy(volume.kind.name(), &volume.before, &volume.after, true)?);
        }
        rows.push(self.redeploy("raw, 64 KiB places", &self.input.raw[0], &self.input.raw[1], false)?);
        rows.extend(self.store()?);
        Ok(rows)
    }

    fn capture_and_restore(&self, volume: &Volume) -> Result<Vec<Row>> {
        let name = volume.kind.name();
        let step = Step::start(format!("capture and restore {name}"));
        let (image, rival) = (self.at("a.gim"), self.at("a.pc.zst"));
        let (target, log) = (self.at("target.img"), self.at("partclone.log"));
        let partclone = match volume.kind {
            Kind::Ext4 => "partclone.ext4",
            Kind::Ntfs => "partclone.ntfs",
        };
        process::tool(partclone)?;
        let path = "PATH=$PATH:/usr/sbin; set -o pipefail; ";
        let capture = format!(
            "{path}{partclone} -c -q -f 1 -z 10485760 -L \"$3\" -s \"$1\" -o - | zstd -1 -T2 -q -f -o \"$2\""
        );
        let restore =
            format!("{path}zstd -dcq \"$1\" | partclone.restore -q -f 1 -C -L \"$3\" -s - -O \"$2\"");
        let fresh = || -> Result<()> {
            remove(&target)?;
            let file = std::fs::File::create(&target).context("create the target")?;
            file.set_len(length(&volume.before)?).context("set its size")
        };
        // All of it is in the page cache for both.
        std::io::copy(
            &mut std::fs::File::open(&volume.before).context("open the volume")?,
            &mut std::io::sink(),
        )
        .context("read the volume")?;
        let mut costs = [const { Vec::new() }; 5];
        for _ in 0..self.runs {
            costs[0].push(measure(&script(&capture, &[&volume.before, &rival, &log]))?);
            remove(&image)?;
            costs[1].push(measure(&self.ours(&["capture"], &[&volume.before, &image]))?);
            fresh()?;
            costs[2].push(measure(&script(&restore, &[&rival, &target, &log]))?);
            for (at, verify) in [(3, "--verify=decode"), (4, "--verify=full")] {
                remove(&target)?;
                costs[at].push(measure(&self.ours(&["apply", verify], &[&image, &target]))?);
            }
        }
        let [pc_capture, capture, pc_restore, decode, full] = costs.map(middle);
        let (pc_capture, capture, pc_restore) = (pc_capture?, capture?, pc_restore?);
        let (decode, full) = (decode?, full?);
        let processor = |ours: Cost, theirs: Cost| ours.processor_seconds / theirs.processor_seconds;
        let rows = vec![
            Row {
                operation: format!("capture {name}"),
                ours: capture,
                theirs: Some(pc_capture),
                figures: vec![
                    Figure::at_most("CPU", processor(capture, pc_capture), CAPTURE_PROCESSOR),
                    Figure::at_most("size", ratio(length(&image)?, length(&rival)?), SIZE),
                    peak(capture),
                ],
            },
            Row {
                operation: format!("restore {name}, every chunk checked"),
                ours: decode,
                theirs: Some(pc_restore),
                figures: vec![
                    Figure::at_most("CPU", processor(decode, pc_restore), RESTORE_PROCESSOR),
                    peak(decode),
                ],
            },
            Row {
                operation: format!("restore {name}, and read back"),
                ours: full,
                theirs: Some(pc_restore),
                figures: vec![Figure::told("CPU", processor(full, pc_restore)), peak(full)],
            },
        ];
        remove(&rival)?;
        remove(&target)?;
        remove(&image)?;
        step.done(format!("{} runs", self.runs));
        Ok(rows)
    }

    /// A disk that holds the old image gets the new one.
    fn redeploy(&self, name: &str, before: &Path, after: &Path, is_target: bool) -> Result<Row> {
        let step = Step::start(format!("re-deploy {name}"));
        let (image, target) = (self.at("b.gim"), self.at("target.img"));
        remove(&image)?;
        remove(&target)?;
        measure(&self.ours(&["capture"], &[after, &image]))?;
        measure(&self.ours(&["apply"], &[&image, &target]))?;
        let whole = self.report()?;
        remove(&target)?;
        copy(before, &target)?;
        let cost = measure(&self.ours(&["apply", "--yes"], &[&image, &target]))?;
        let delta = self.report()?;
        let of = |name: &str| Ok::<_, anyhow::Error>(number(&delta, name)? / number(&whole, name)?);
        let (fetched, written) = (of("fetched_bytes")?, of("written_bytes")?);
        let figures = if is_target {
            vec![
                Figure::at_most("fetched", fetched, FETCHED),
                Figure::at_most("written", written, WRITTEN),
                peak(cost),
            ]
        } else {
            vec![Figure::told("fetched", fetched), Figure::told("written", written), peak(cost)]
        };
        remove(&image)?;
        remove(&target)?;
        step.done(format!("fetched {fetched:.3}, wrote {written:.3} of a whole restore"));
        Ok(Row { operation: format!("re-deploy {name}"), ours: cost, theirs: None, figures })
    }

    /// What a store grows by.
    fn store(&self) -> Result<Vec<Row>> {
        let step = Step::start("store");
        let store = self.at("store.gim");
        let alone = self.at("alone.gim");
        // A trailing slash makes it a store.
        let place = |path: &Path| PathBuf::from(format!("{}/", path.display()));
        let into = |store: &Path, source: &Path, name: &str| -> Result<(Cost, Value)> {
            let cost = measure(&self.ours(&["capture"], &[source, &place(store), Path::new(name)]))?;
            Ok((cost, self.report()?))
        };
        remove(&store)?;
        remove(&alone)?;
        let (_, whole) = into(&alone, &self.input.rebuilt, "rebuilt")?;
        remove(&alone)?;
        into(&store, &self.input.ext4.before, "ext4")?;
        let (rebuilt, grown) = into(&store, &self.input.rebuilt, "rebuilt")?;
        let growth = number(&grown, "stored_bytes")? / number(&whole, "stored_bytes")?;
        let (ntfs, other) = into(&store, &self.input.ntfs.before, "ntfs")?;
        let shared = 1.0 - number(&other, "new_bytes")? / number(&other, "data_bytes")?;
        remove(&store)?;
        step.done(format!("grew by {growth:.3}, NTFS shares {shared:.3}"));
        Ok(vec![
            Row {
                operation: "store: golden image updated and rebuilt".to_owned(),
                ours: rebuilt,
                theirs: None,
                figures: vec![Figure::at_most("growth", growth, GROWTH), peak(rebuilt)],
            },
            Row {
                operation: "store: NTFS beside ext4 of the same files".to_owned(),
                ours: ntfs,
                theirs: None,
                figures: vec![
                    Figure { name: "shared", value: shared, target: Target::AtLeast(SHARED) },
                    peak(ntfs),
                ],
            },
        ])
    }
}

impl Outcome {
    fn print(&self, path: &Path) -> bool {
        let head = ["operation", "ours s", "CPU s", "partclone s", "CPU s", "peak", "figures and targets"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut is_met = true;
        for row in &self.rows {
            is_met &= row.figures.iter().all(Figure::is_met);
            let theirs = |what: fn(&Cost) -> f64| {
                row.theirs.as_ref().map_or_else(|| "-".to_owned(), |cost| format!("{:.2}", what(cost)))
            };
            let figures: Vec<String> = row.figures.iter().map(Figure::text).collect();
            rows.push(vec![
                row.operation.clone(),
                format!("{:.2}", row.ours.wall_seconds),
                format!("{:.2}", row.ours.processor_seconds),
                theirs(|cost| cost.wall_seconds),
                theirs(|cost| cost.processor_seconds),
                size(row.ours.peak_bytes),
                figures.join(", "),
            ]);
        }
        println!(
            "\n    {} files with {}, {} processors, against {} and zstd -1 -T2",
            self.source_files,
            size(self.source_bytes),
            self.processors,
            self.rival
        );
        console::table(&rows);
        console::note(format!("result: {}", path.display()));
        console::note(if is_met { "all targets are met" } else { "targets were MISSED" });
        is_met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_their_targets() {
        let texts = [
            Figure::at_most("CPU", 0.4, 0.45),
            Figure::at_most("CPU", 0.46, 0.45),
            Figure { name: "shared", value: 0.7, target: Target::AtLeast(0.75) },
            Figure::told("fetched", 0.5),
        ]
        .map(|figure| figure.text());
        let expected = [
            "CPU 0.400 <= 0.45: met",
            "CPU 0.460 <= 0.45: MISSED",
            "shared 0.700 >= 0.75: MISSED",
            "fetched 0.500",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn the_run_in_the_middle_counts() {
        let cost = |processor_seconds| Cost { wall_seconds: 1.0, processor_seconds, peak_bytes: 0 };
        assert_eq!(
            middle(vec![cost(3.0), cost(1.0), cost(2.0)]).map(|cost| cost.processor_seconds).ok(),
            Some(2.0)
        );
        assert!(middle(Vec::new()).is_err());
    }
}
