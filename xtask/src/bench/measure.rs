//! Time, processor time and peak memory of a program, as `/usr/bin/time` tells them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::process;

/// What one run cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Seconds from start to end.
    pub(super) wall_seconds: f64,
    /// Seconds of all processors, in the program and in the kernel for it.
    pub(super) processor_seconds: f64,
    /// Largest resident memory, bytes.
    pub(super) peak_bytes: u64,
}

/// Runs `command` and measures it; its output is dropped unless it fails.
pub(super) fn measure(command: &Command) -> Result<Cost> {
    let report = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let mut timed = process::tool("time")?;
    timed.args(["--format", "%U %S %M", "--output"]).arg(report.path());
    timed.arg(command.get_program()).args(command.get_args());
    // What the run before left to be written would be written during this one.
    process::output(&mut process::tool("sync")?)?;
    let start = Instant::now();
    process::output(&mut timed)?;
    let wall = start.elapsed();
    let text = std::fs::read_to_string(report.path()).context("cannot read what `time` measured")?;
    parse(wall, &text)
}

fn parse(wall: Duration, text: &str) -> Result<Cost> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [user, system, kilobytes] = words[..] else {
        bail!("`time` printed {text:?}, expected three numbers")
    };
    let user: f64 = user.parse().context("user time")?;
    let system: f64 = system.parse().context("system time")?;
    let kilobytes: u64 = kilobytes.parse().context("peak memory")?;
    Ok(Cost {
        wall_seconds: wall.as_secs_f64(),
        processor_seconds: user + system,
        peak_bytes: kilobytes * 1024,
    })
}

/// The run whose wall time is in the middle.
pub(super) fn median(mut runs: Vec<Cost>) -> Option<Cost> {
    runs.sort_by(|a, b| a.wall_seconds.total_cmp(&b.wall_seconds));
    runs.get(runs.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_numbers_are_read() {
        let cost = parse(Duration::from_millis(1500), "1.25 0.50 2048\n").unwrap();
        assert_eq!(cost, Cost { wall_seconds: 1.5, processor_seconds: 1.75, peak_bytes: 2 << 20 });
        assert!(parse(Duration::ZERO, "Command exited with non-zero status 1\n").is_err());
    }

    #[test]
    fn the_median_is_by_wall_time() {
        let cost = |wall_seconds| Cost { wall_seconds, processor_seconds: 0.0, peak_bytes: 0 };
        assert_eq!(median(vec![cost(3.0), cost(1.0), cost(2.0)]).map(|c| c.wall_seconds), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
