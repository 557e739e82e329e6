//! What the user sees: headed steps with times, and errors that end with their remedy.

use std::fmt;
use std::time::{Duration, Instant};

/// An error with what the user can do about it, printed on a line of its own.
#[derive(Debug)]
pub(crate) struct Remedy {
    problem: String,
    remedy: String,
}

impl Remedy {
    /// `problem` says what is wrong, `remedy` what to type or change.
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  remedy: {}", self.problem, self.remedy)
    }
}

impl std::error::Error for Remedy {}

/// Prints the error and its causes once.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// A note between steps.
pub(crate) fn note(text: impl fmt::Display) {
    println!("    {text}");
}

/// Something the user should know although work goes on.
pub(crate) fn warning(text: impl fmt::Display) {
    eprintln!("    warning: {text}");
}

/// A step under way; `done` prints how long it took.
#[derive(Debug)]
pub(crate) struct Step {
    name: String,
    start: Instant,
}

impl Step {
    /// Announces the step.
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        println!("==> {name}");
        Self { name, start: Instant::now() }
    }

    /// Ends the step with its time and returns the time.
    pub(crate) fn done(self, outcome: impl fmt::Display) -> Duration {
        let took = self.start.elapsed();
        println!("    {}: {outcome} ({})", self.name, seconds(took));
        took
    }
}

/// A duration as people read it: `0.42 s`, `12.3 s`, `3 min 05 s`.
pub(crate) fn seconds(took: Duration) -> String {
    let secs = took.as_secs_f64();
    match secs {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 100.0 => format!("{s:.1} s"),
        _ => format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

/// A size as people read it: decimal units, three significant digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // 53 bits of a double hold every size up to 9 PB exactly; this is for display only.
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Rows printed in columns as wide as their widest cell; numbers stand to the right.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::from("   ");
        for (cell, width) in row.iter().zip(&widths) {
            let numeric = cell.starts_with(|c: char| c.is_ascii_digit());
            line += &if numeric { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") };
        }
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short_and_keep_three_digits() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000, "5.00 GB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        let times = [(420, "0.42 s"), (12_340, "12.3 s"), (185_000, "3 min 05 s")];
        for (ms, text) in times {
            assert_eq!(seconds(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_remedy_stands_on_its_own_line() {
        let text = Remedy::new("port 67 is in use", "stop the other DHCP server").to_string();
        assert_eq!(text, "port 67 is in use\n  remedy: stop the other DHCP server");
    }
}
