//! Where the time of a run goes: what is shown of a target that is missed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Lines of a profile.
const LINES: usize = 12;

/// The functions of `command` that take most of the time, if `perf` is there to tell; its data lie in `dir` meanwhile.
pub(super) fn of(command: &Command, dir: &Path) -> Result<Vec<String>> {
    if process::find("perf").is_none() {
        return Ok(vec!["perf is not installed, so there is no profile".to_owned()]);
    }
    let data = dir.join("perf.data");
    let mut record = process::tool("perf")?;
    record.args(["record", "--quiet", "--event", "cpu-clock", "--output"]).arg(&data).arg("--");
    process::output(record.arg(command.get_program()).args(command.get_args()))?;
    let mut report = process::tool("perf")?;
    report.args(["report", "--stdio", "--no-children", "--sort", "symbol", "--input"]).arg(&data);
    let text = process::output(&mut report)?;
    std::fs::remove_file(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    Ok(functions(&String::from_utf8_lossy(&text)))
}

/// The first lines of a report that are no comments.
fn functions(report: &str) -> Vec<String> {
    let lines = report.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    // Behind the symbol come columns of other sort keys, here empty.
    lines.take(LINES).map(|line| line.trim_end_matches([' ', '-']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_first_functions() {
        let report =
            "# Overhead\n#\n\n  45.0%  [.] decode_items\n   9.1%  [k] copy_to_iter      -      -  \n";
        assert_eq!(functions(report), ["45.0%  [.] decode_items", "9.1%  [k] copy_to_iter"]);
    }
}
