//! Foreign tools that tests compare with. A missing one is a loud skip on a laptop and a failure in CI.

use std::path::PathBuf;
use std::process::Command;

/// Set in CI: a test that cannot run must fail.
const REQUIRE: &str = "GRAVURE_REQUIRE_ORACLES";

/// Whether a missing oracle is a failure.
pub fn oracles_required() -> bool {
    std::env::var_os(REQUIRE).is_some()
}

/// Tells that a test does not run and why; `cargo xtask test` counts the line.
///
/// # Panics
/// When oracles are required.
pub fn skipped(reason: &str) {
    assert!(!oracles_required(), "cannot run, and {REQUIRE} is set: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// A command for `program`, or `None` after a loud skip.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn oracle(program: &str) -> Option<Command> {
    if let Some(path) = find(program) {
        return Some(Command::new(path));
    }
    skipped(&format!("{program} is not installed"));
    None
}

/// Where `program` stands in `PATH` or the system directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path_only_by_name() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
