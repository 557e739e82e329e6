//! Foreign tools that tests compare with. A missing one is a loud skip under plain `cargo test`. Under `cargo xtask test`, whose set-up installs
//! Debian's packages, it is a failure when it is out of one of them; in a full run in CI any is.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Set in CI: a test that cannot run must fail.
const REQUIRE: &str = "GRAVURE_REQUIRE_ORACLES";

/// Set by `cargo xtask test`: what the packages of its set-up bring is there.
const REQUIRE_PACKAGES: &str = "GRAVURE_REQUIRE_PACKAGES";

/// Programs that no package of the set-up brings.
const ELSEWHERE: [&str; 5] = ["curl", "moto_server", "openssl", "systemd-analyze", "x86_64-w64-mingw32-gcc"];

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

/// The same of something that a package of the set-up brings.
fn package_missing(reason: &str) {
    assert!(
        std::env::var_os(REQUIRE_PACKAGES).is_none(),
        "cannot run, and {REQUIRE_PACKAGES} is set: {reason}"
    );
    skipped(reason);
}

/// A command for `program`, or `None` after a loud skip.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn oracle(program: &str) -> Option<Command> {
    if let Some(path) = find(program) {
        return Some(Command::new(path));
    }
    let reason = format!("{program} is not installed");
    match ELSEWHERE.contains(&program) {
        true => skipped(&reason),
        false => package_missing(&reason),
    }
    None
}

/// A command for the Python module `module` of those that `cargo xtask setup` installs, or `None` after a loud skip. Its arguments follow;
/// a script of one's own may import the module when it is run by [`python_oracle_script`].
///
/// # Panics
/// When it is missing and oracles are required.
pub fn python_oracle(module: &str) -> Option<Command> {
    let mut command = python(module)?;
    command.args(["-m", module]);
    Some(command)
}

/// A command for `script`, which imports `module`.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn python_oracle_script(module: &str, script: &str) -> Option<Command> {
    let mut command = python(module)?;
    command.args(["-c", script]);
    Some(command)
}

/// A command for `script` with Debian's own Python, which imports `module` out of a Debian package, or `None` after a loud skip.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn debian_python_script(module: &str, script: &str) -> Option<Command> {
    // Not the first `python3` of the path: another Python does not see Debian's modules.
    const PYTHON: &str = "/usr/bin/python3";
    let import = format!("import {module}");
    let found = Command::new(PYTHON).args(["-c", &import]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        package_missing(&format!("Debian's Python module {module} is not installed"));
        return None;
    }
    let mut command = Command::new(PYTHON);
    command.args(["-c", script]).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// What `command` gives. QEMU measures how fast keys are derived when it makes a LUKS volume, and gives up where the machine is
/// too busy to tell: it is asked again then.
///
/// # Panics
/// When the program cannot be started.
pub fn patient_output(command: &mut Command) -> Output {
    for _ in 0..50 {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        if !String::from_utf8_lossy(&output.stderr).contains("Unable to get accurate CPU usage") {
            return output;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn python(module: &str) -> Option<Command> {
    let given = std::env::var_os("GRAVURE_PYTHON_ORACLES").map(PathBuf::from);
    let dir = given.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oracles/python"))
    });
    let path = dir.join(module.replace('.', "/"));
    if path.is_dir() || path.with_extension("py").is_file() {
        let mut command = oracle("python3")?;
        command.env("PYTHONPATH", dir).env("PYTHONDONTWRITEBYTECODE", "1");
        return Some(command);
    }
    skipped(&format!("the Python module {module} is not there; `cargo xtask setup` installs it"));
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
