//! The result: which targets are met, as tables for people; the same as JSON beside.

use std::path::Path;

use serde::Serialize;

use super::codecs::Codec;
use super::operations::Operation;
use crate::console::{self, size};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) is_quick: bool,
    pub(super) program_bytes: u64,
    pub(super) program_files: u64,
    pub(super) small_bytes: u64,
    pub(super) small_files: u64,
    pub(super) processors: usize,
    pub(super) rival: String,
    pub(super) codecs: Vec<Codec>,
    pub(super) operations: Vec<Operation>,
}

/// Rate of our decoders over wimlib's that must be reached.
const DECODE_TARGET: f64 = 1.0;

/// Targets with whether they are met, joined to one cell; with whether all are.
fn verdict(targets: &[(String, bool)]) -> (String, bool) {
    if targets.is_empty() {
        return ("-".to_owned(), true);
    }
    let cells: Vec<String> = targets
        .iter()
        .map(|(target, is_met)| format!("{target}: {}", if *is_met { "met" } else { "MISSED" }))
        .collect();
    (cells.join(", "), targets.iter().all(|(_, is_met)| *is_met))
}

impl Codec {
    /// Whether the rate is what is asked of those codecs of which it is asked.
    pub(super) fn is_met(&self) -> bool {
        !self.is_target || self.decode_rate >= DECODE_TARGET * self.rival_decode_rate
    }

    fn verdict(&self) -> (String, bool) {
        let targets = [(format!("decode >= {DECODE_TARGET:.1}"), self.is_met())];
        verdict(if self.is_target { &targets } else { &[] })
    }
}

impl Operation {
    fn verdict(&self) -> (String, bool) {
        let mut targets = Vec::new();
        if let Some(most) = self.targets.wall {
            targets.push((format!("time <= {most:.1}"), self.wall_ratio() <= most));
        }
        if let (Some(most), Some(ratio)) = (self.targets.size, self.size_ratio()) {
            targets.push((format!("size <= {most:.2}"), ratio <= most));
        }
        if let Some(most) = self.targets.peak {
            targets.push((format!("peak <= {}", size(most)), self.ours.peak_bytes <= most));
        }
        if let Some(most) = self.targets.peak_ratio {
            targets.push((format!("peak <= {most:.1} of wimlib's"), self.peak_ratio() <= most));
        }
        verdict(&targets)
    }
}

impl Outcome {
    /// Prints the tables; says whether all targets are met.
    pub(super) fn print(&self, path: &Path) -> bool {
        println!(
            "\n    {} files with {} of Windows programs, {} small files with {}, {} processors, against {}",
            self.program_files,
            size(self.program_bytes),
            self.small_files,
            size(self.small_bytes),
            self.processors,
            self.rival
        );
        println!("\n    decoding, MB/s of one core, of what wimlib encoded at its default level");
        let mut rows = vec![strings(["codec", "chunk", "ours", "wimlib", "ratio", "target"])];
        let mut all_met = true;
        for codec in &self.codecs {
            let (verdict, is_met) = codec.verdict();
            all_met &= is_met;
            rows.push(strings([
                &codec.method,
                &format!("{} KiB", codec.chunk_size >> 10),
                &format!("{:.0}", codec.decode_rate),
                &format!("{:.0}", codec.rival_decode_rate),
                &format!("{:.2}", codec.decode_rate / codec.rival_decode_rate),
                &verdict,
            ]));
        }
        console::table(&rows);
        println!("\n    encoding, MB/s of one core, and size");
        let heads =
            ["codec", "chunk", "level", "ours", "wimlib's", "wimlib", "ratio", "packed to", "over wimlib's"];
        let mut rows = vec![strings(heads)];
        for codec in &self.codecs {
            for encoding in &codec.encodings {
                rows.push(strings([
                    &codec.method,
                    &format!("{} KiB", codec.chunk_size >> 10),
                    &encoding.level,
                    &format!("{:.1}", encoding.rate),
                    &encoding.rival_level,
                    &format!("{:.1}", encoding.rival_rate),
                    &format!("{:.2}", encoding.rate / encoding.rival_rate),
                    &format!("{:.2} %", 100.0 * encoding.bytes as f64 / codec.plain_bytes as f64),
                    &format!("{:.4}", encoding.bytes as f64 / encoding.rival_bytes as f64),
                ]));
            }
        }
        console::table(&rows);
        for codec in self.codecs.iter().filter(|codec| !codec.profile.is_empty()) {
            let chunk = codec.chunk_size >> 10;
            println!("\n    where the time of decoding {} in chunks of {chunk} KiB goes", codec.method);
            for line in &codec.profile {
                println!("      {line}");
            }
        }
        all_met &= self.print_operations();
        console::note(format!("result: {}", path.display()));
        console::note(if all_met { "all targets are met" } else { "targets were MISSED" });
        all_met
    }

    fn print_operations(&self) -> bool {
        println!("\n    whole operations, {} threads each", self.processors);
        let heads = [
            "operation",
            "ours s",
            "wimlib s",
            "ratio",
            "CPU s",
            "wimlib",
            "ratio",
            "peak",
            "wimlib",
            "size",
            "over wimlib's",
            "targets",
        ];
        let mut rows = vec![strings(heads)];
        let mut all_met = true;
        for operation in &self.operations {
            let (verdict, is_met) = operation.verdict();
            all_met &= is_met;
            let (ours, theirs) = (&operation.ours, &operation.theirs);
            rows.push(strings([
                &operation.name,
                &format!("{:.2}", ours.wall_seconds),
                &format!("{:.2}", theirs.wall_seconds),
                &format!("{:.2}", operation.wall_ratio()),
                &format!("{:.2}", ours.processor_seconds),
                &format!("{:.2}", theirs.processor_seconds),
                &format!("{:.2}", ours.processor_seconds / theirs.processor_seconds),
                &size(ours.peak_bytes),
                &size(theirs.peak_bytes),
                &operation.bytes.map_or_else(|| "-".to_owned(), size),
                &operation.size_ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.4}")),
                &verdict,
            ]));
        }
        console::table(&rows);
        for operation in self.operations.iter().filter(|operation| !operation.profile.is_empty()) {
            println!("\n    where the time of `{}` goes", operation.name);
            for line in &operation.profile {
                println!("      {line}");
            }
        }
        all_met
    }
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Cost;
    use crate::bench::wim::operations::Targets;

    fn operation(wall_seconds: f64, bytes: u64) -> Operation {
        let cost = |wall_seconds| Cost { wall_seconds, processor_seconds: 1.0, peak_bytes: 1000 };
        Operation {
            name: "capture".to_owned(),
            ours: cost(wall_seconds),
            theirs: cost(2.0),
            bytes: Some(bytes),
            rival_bytes: Some(1000),
            targets: Targets { wall: Some(1.0), size: Some(1.01), peak: Some(1000), peak_ratio: None },
            profile: Vec::new(),
        }
    }

    #[test]
    fn memory_is_held_against_the_other_program() {
        let mut packed = operation(1.0, 1000);
        packed.targets = Targets { peak_ratio: Some(1.0), ..Targets::default() };
        assert_eq!(packed.verdict(), ("peak <= 1.0 of wimlib's: met".to_owned(), true));
        packed.ours.peak_bytes = 1001;
        assert_eq!(packed.verdict(), ("peak <= 1.0 of wimlib's: MISSED".to_owned(), false));
    }

    #[test]
    fn a_codec_that_misses_its_target_says_so() {
        let codec = |decode_rate| Codec {
            method: "LZX".to_owned(),
            chunk_size: 32768,
            plain_bytes: 1000,
            decode_rate,
            rival_decode_rate: 100.0,
            is_target: true,
            encodings: Vec::new(),
            profile: Vec::new(),
        };
        assert_eq!(codec(100.0).verdict(), ("decode >= 1.0: met".to_owned(), true));
        assert_eq!(codec(99.0).verdict(), ("decode >= 1.0: MISSED".to_owned(), false));
    }

    #[test]
    fn each_target_is_judged_by_itself() {
        assert_eq!(
            operation(1.9, 1010).verdict(),
            ("time <= 1.0: met, size <= 1.01: met, peak <= 1.00 kB: met".to_owned(), true)
        );
        assert_eq!(
            operation(2.1, 1011).verdict(),
            ("time <= 1.0: MISSED, size <= 1.01: MISSED, peak <= 1.00 kB: met".to_owned(), false)
        );
    }
}
