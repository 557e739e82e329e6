//! Runs `cargo test`, shows the lines that matter, keeps the rest in a log and adds up the counts.
//!
//! The harness runs with `--show-output`, so that a test which prints `SKIPPED: <why>` is seen and counted as
//! skipped although it returns normally.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::counts::{Counts, parse_result_line};
use crate::{image, payload, workspace};

/// What the tests are told through their environment.
#[derive(Debug)]
pub(super) struct Settings {
    /// Seed of sampled faults.
    pub(super) seed: u64,
    /// All faults, all machines.
    pub(super) full: bool,
    /// In CI a missing oracle is a failure.
    pub(super) in_ci: bool,
}

/// Runs `cargo test` with `selection`; `harness` goes to the test programs.
pub(super) fn run(settings: &Settings, selection: &[&str], harness: &[&str]) -> Result<Counts> {
    let log_dir = workspace::target().join("xtask");
    std::fs::create_dir_all(&log_dir).with_context(|| format!("cannot create {}", log_dir.display()))?;
    let log_path = log_dir.join("tests.log");
    let mut log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("cannot open {}", log_path.display()))?;

    // Building first keeps compiler messages apart from what the tests print.
    let mut build = workspace::cargo();
    build.args(["test", "--no-run"]).args(selection);
    crate::process::run(&mut build)?;

    let mut cargo = workspace::cargo();
    cargo.args(["test", "--no-fail-fast"]).args(selection).args(["--", "--show-output"]).args(harness);
    cargo.env("GRAVURE_SEED", settings.seed.to_string());
    cargo.env("GRAVURE_PAYLOAD_DIR", payload::output_dir());
    cargo.env("GRAVURE_PYTHON_ORACLES", crate::setup::python::dir());
    cargo.env("GRAVURE_BIN", super::program_path());
    cargo.env("GRAVURE_TEST_IMAGE", image::path(super::TEST_RECIPE));
    if settings.full {
        cargo.env("GRAVURE_FULL", "1");
    }
    // Set-up has installed them.
    cargo.env("GRAVURE_REQUIRE_PACKAGES", "1");
    // Shared test data and Wine, which set-up leaves out for its size, are not everywhere: only a full run in CI insists.
    if settings.in_ci && settings.full {
        cargo.env("GRAVURE_REQUIRE_ORACLES", "1");
    }
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut reader = Reader::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}").context("cannot write the log of the tests")?;
        if reader.take(&line) {
            println!("    {line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && reader.total.failed == 0 {
        bail!("cargo test ended with {status} but no test failed; the log is {}", log_path.display());
    }
    Ok(reader.total)
}

/// Follows the harness output of one test program after the other.
#[derive(Debug, Default)]
struct Reader {
    total: Counts,
    in_failures: bool,
    test: String,
    skipped: BTreeSet<String>,
}

impl Reader {
    /// Takes a line; says whether it is worth showing.
    fn take(&mut self, line: &str) -> bool {
        if let Some(mut counts) = parse_result_line(line) {
            counts.move_to_skipped(self.skipped.len());
            self.total.add(counts);
            self.skipped.clear();
            self.in_failures = false;
            return counts != Counts::default();
        }
        if let Some(name) = line.strip_prefix("---- ") {
            name.trim_end_matches(" ----").clone_into(&mut self.test);
        }
        if line == "failures:" {
            self.in_failures = true;
        }
        if line.starts_with("SKIPPED:") && !self.in_failures {
            self.skipped.insert(self.test.clone());
            return true;
        }
        self.in_failures || line.ends_with("... FAILED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_and_failures_are_shown_and_counted() {
        let text = "\nrunning 3 tests\ntest a ... ok\ntest b ... ok\ntest c ... FAILED\n\nsuccesses:\n\n\
            ---- a stdout ----\nSKIPPED: no wimlib-imagex\nSKIPPED: nor 7z\n\n---- b stdout ----\nfine\n\n\
            successes:\n    a\n    b\n\nfailures:\n\n---- c stdout ----\nassertion failed\n\nfailures:\n    c\n\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s\n\n\
            running 1 test\ntest d ... ok\n\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s";
        let mut reader = Reader::default();
        let shown: Vec<&str> = text.lines().filter(|line| reader.take(line)).collect();
        assert_eq!(reader.total, Counts { passed: 2, failed: 1, skipped: 1 });
        assert!(
            shown.contains(&"SKIPPED: no wimlib-imagex") && shown.contains(&"assertion failed"),
            "{shown:?}"
        );
        assert!(!shown.contains(&"fine") && !shown.contains(&"test a ... ok"), "{shown:?}");
    }
}
