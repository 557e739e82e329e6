//! The codecs chunk by chunk on one core, in processor time: ours by the example `measure` of `gravure-codec`, wimlib's by a
//! small C program on its shared library. Both decode what wimlib has encoded at its default level.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::input::Input;
use crate::bench::profile;
use crate::console::Step;
use crate::{process, workspace};

/// The C program.
const RIVAL_SOURCE: &str = include_str!("codec.c");

/// Method, chunk size, whether the decoding target counts for it.
const CODECS: [(&str, u32, bool); 5] = [
    ("XPRESS", 32 << 10, true),
    ("LZX", 32 << 10, true),
    ("LZX", 2 << 20, true),
    ("LZMS", 128 << 10, true),
    ("LZMS", 64 << 20, true),
];

/// Our levels and those of wimlib that serve the same purpose.
const LEVELS: [(&str, &str); 3] = [("fast", "20"), ("balanced", "50"), ("best", "100")];

/// Wimlib's default level.
const DEFAULT_LEVEL: &str = "50";

/// How often the two decoders take turns, and rounds of a turn.
const TURNS: u32 = 8;
const ROUNDS: &str = "2";

/// One way to encode.
#[derive(Debug, Serialize)]
pub(super) struct Encoding {
    pub(super) level: String,
    pub(super) rival_level: String,
    /// Megabytes of plain data a second of one core.
    pub(super) rate: f64,
    pub(super) rival_rate: f64,
    pub(super) bytes: u64,
    pub(super) rival_bytes: u64,
}

/// One codec at one chunk size.
#[derive(Debug, Serialize)]
pub(super) struct Codec {
    pub(super) method: String,
    pub(super) chunk_size: u32,
    pub(super) plain_bytes: u64,
    /// Megabytes of plain data a second of one core.
    pub(super) decode_rate: f64,
    pub(super) rival_decode_rate: f64,
    pub(super) is_target: bool,
    pub(super) encodings: Vec<Encoding>,
    /// Where our decoder's time goes, if the target is missed.
    pub(super) profile: Vec<String>,
}

/// The two programs.
struct Programs {
    ours: PathBuf,
    theirs: PathBuf,
}

/// Measures the codecs whose row has `only` in its name on the sample.
pub(super) fn measure_all(only: &str, input: &Input, dir: &Path) -> Result<Vec<Codec>> {
    let programs =
        Programs { ours: workspace::target().join("release/examples/measure"), theirs: build_rival(dir)? };
    CODECS
        .into_iter()
        .map(|(method, chunk_size, is_target)| {
            (format!("{method}, chunks of {} KiB", chunk_size >> 10), method, chunk_size, is_target)
        })
        .filter(|(name, ..)| name.contains(only))
        .map(|(name, method, chunk_size, is_target)| {
            let step = Step::start(name);
            let mut codec = programs.codec(method, chunk_size, &input.sample, dir)?;
            codec.is_target = is_target;
            if !codec.is_met() {
                codec.profile = programs.profile(&codec, &input.sample, dir)?;
            }
            step.done(format!(
                "decodes at {:.2} of wimlib's rate",
                codec.decode_rate / codec.rival_decode_rate
            ));
            Ok(codec)
        })
        .collect()
}

/// Compiles the C program.
fn build_rival(dir: &Path) -> Result<PathBuf> {
    let (source, program) = (dir.join("codec.c"), dir.join("codec"));
    std::fs::write(&source, RIVAL_SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
    let mut cc = process::tool("cc")?;
    process::output(cc.args(["-O2", "-Wall", "-Werror", "-o"]).arg(&program).arg(&source).arg("-ldl"))?;
    Ok(program)
}

impl Programs {
    fn codec(&self, method: &str, chunk_size: u32, sample: &Path, dir: &Path) -> Result<Codec> {
        let (packed, ours_packed) = (dir.join("packed"), dir.join("packed-ours"));
        let plain_bytes = std::fs::metadata(sample).context("cannot read the sample")?.len();
        let rate = |seconds: f64| plain_bytes as f64 / 1e6 / seconds;
        let size = chunk_size.to_string();
        let encode = |program: &Path, level: &str, to: &Path| {
            let mut command = Command::new(program);
            command.args(["encode", method, &size, level]).arg(sample).arg(to);
            run(command)
        };
        let decode = |program: &Path, from: &Path| {
            let mut command = Command::new(program);
            command.args(["decode", method, &size, ROUNDS]).arg(from).arg(sample);
            Ok::<_, anyhow::Error>(run(command)?.0)
        };
        let mut encodings = Vec::new();
        let (mut decode_rate, mut rival_decode_rate) = (0.0, 0.0);
        for (level, rival_level) in LEVELS {
            let (rival_seconds, rival_bytes) = encode(&self.theirs, rival_level, &packed)?;
            let (seconds, bytes) = encode(&self.ours, level, &ours_packed)?;
            // Proves that wimlib reads ours; the time is of no interest.
            decode(&self.theirs, &ours_packed)?;
            if rival_level == DEFAULT_LEVEL {
                // In turns, the fastest round of all: a slow phase of the machine hits both.
                for _ in 0..TURNS {
                    rival_decode_rate = f64::max(rival_decode_rate, rate(decode(&self.theirs, &packed)?));
                    decode_rate = f64::max(decode_rate, rate(decode(&self.ours, &packed)?));
                }
            }
            encodings.push(Encoding {
                level: level.to_owned(),
                rival_level: rival_level.to_owned(),
                rate: rate(seconds),
                rival_rate: rate(rival_seconds),
                bytes,
                rival_bytes,
            });
        }
        let method = method.to_owned();
        let is_target = false;
        let profile = Vec::new();
        Ok(Codec {
            method,
            chunk_size,
            plain_bytes,
            decode_rate,
            rival_decode_rate,
            is_target,
            encodings,
            profile,
        })
    }

    /// Where our decoder's time goes over what wimlib encoded at its default level.
    fn profile(&self, codec: &Codec, sample: &Path, dir: &Path) -> Result<Vec<String>> {
        let (packed, size) = (dir.join("packed"), codec.chunk_size.to_string());
        let mut encode = Command::new(&self.theirs);
        encode.args(["encode", &codec.method, &size, DEFAULT_LEVEL]).arg(sample).arg(&packed);
        run(encode)?;
        let mut decode = Command::new(&self.ours);
        decode.args(["decode", &codec.method, &size, ROUNDS]).arg(&packed).arg(sample);
        profile::of(&decode, dir)
    }
}

/// Seconds and bytes that one of the programs prints.
fn run(mut command: Command) -> Result<(f64, u64)> {
    parse(&String::from_utf8_lossy(&process::output(&mut command)?))
}

fn parse(text: &str) -> Result<(f64, u64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [seconds, bytes] = words[..] else { bail!("{text:?} printed, expected seconds and bytes") };
    Ok((seconds.parse().context("seconds")?, bytes.parse().context("bytes")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_bytes_are_read() {
        assert_eq!(parse("1.25 77\n").unwrap(), (1.25, 77));
        assert!(parse("1.25\n").is_err() && parse("x 1").is_err());
    }
}
