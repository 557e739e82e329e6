//! Test counts, read from what the Rust test harness prints.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Counts {
    /// Adds another run's counts.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// A test that printed `SKIPPED:` was counted as passed by the harness.
    pub(super) fn move_to_skipped(&mut self, tests: usize) {
        let moved = tests.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s`.
pub(super) fn parse_result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for part in rest.split("; ") {
        let Some((number, what)) = part.split_once(' ') else { continue };
        match what {
            "passed" => counts.passed = number.parse().ok()?,
            "failed" => counts.failed = number.parse().ok()?,
            "ignored" => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_harness_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.10s";
        assert_eq!(parse_result_line(line), Some(Counts { passed: 12, failed: 3, skipped: 1 }));
        assert_eq!(parse_result_line("test a ... ok"), None);
    }

    #[test]
    fn skipped_tests_do_not_count_as_passed() {
        let mut counts = Counts { passed: 5, failed: 0, skipped: 1 };
        counts.move_to_skipped(2);
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 3 skipped");
    }
}
