//! Results on standard output: for people, or for programs.

use std::io::{self, Write as _};

use clap::ValueEnum;
use gravure_imaging::ErrorKind;
use serde::Serialize;

use crate::exit::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
}

/// A row of a listing.
pub(crate) trait Row: Serialize {
    /// Names of the columns.
    fn columns() -> &'static [&'static str];
    /// Values in the order of the columns.
    fn cells(&self) -> Vec<String>;
}

/// Prints one document; `text` is what people get.
pub(crate) fn document<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let printed = match format {
        Format::Text => text(value),
        Format::Json => json(serde_json::to_string_pretty(value))?,
        Format::Jsonl => json(serde_json::to_string(value))?,
        Format::Csv => {
            return Err(Failure::new(
                ErrorKind::Usage,
                "csv is for listings; this command prints one document",
            )
            .with_cure("use --format json"));
        }
    };
    write(&format!("{}\n", printed.trim_end()))
}

/// Prints a listing; `text` makes the line people get of a row.
pub(crate) fn listing<T: Row>(
    format: Format,
    rows: impl Iterator<Item = T>,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let all: Vec<T> = rows.collect();
            write(&format!("{}\n", json(serde_json::to_string_pretty(&all))?))
        }
        Format::Jsonl => lines(rows.map(|row| json(serde_json::to_string(&row)))),
        Format::Csv => {
            write(&format!("{}\n", T::columns().join(",")))?;
            lines(rows.map(|row| Ok(row.cells().iter().map(|cell| csv(cell)).collect::<Vec<_>>().join(","))))
        }
        Format::Text => lines(rows.map(|row| Ok(text(&row)))),
    }
}

/// Prints text for people.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    write(&format!("{}\n", text.trim_end()))
}

fn lines(rows: impl Iterator<Item = Result<String, Failure>>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for row in rows {
        writeln!(out, "{}", row?).map_err(|error| broken(&error))?;
    }
    out.flush().map_err(|error| broken(&error))
}

pub(crate) fn write(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(ErrorKind::Io, format!("write to standard output: {error}"))
}

fn json(result: Result<String, serde_json::Error>) -> Result<String, Failure> {
    result.map_err(|error| Failure::new(ErrorKind::Failed, format!("print as JSON: {error}")))
}

/// RFC 4180.
fn csv(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// Bytes in decimal units, as disks are sold.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count;
    let mut rest = 0;
    let mut unit = 0;
    while value >= 1000 && unit + 1 < UNITS.len() {
        rest = value % 1000;
        value /= 1000;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{value}.{} {}", rest / 100, UNITS[unit]) }
}

/// Throughput for the line people get.
pub(crate) fn rate(count: u64, milliseconds: u64) -> String {
    let per_second = count.saturating_mul(1000).checked_div(milliseconds.max(1)).unwrap_or(0);
    format!("{}/s", bytes(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_250_000), "1.2 MB");
        assert_eq!(rate(10_000_000, 2000), "5.0 MB/s");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(csv("plain"), "plain");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
