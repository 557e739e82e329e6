//! Foreign programs as oracles: run when they are there, skip loudly when not.

use std::process::Command;

/// Runs `program` and gives its output; `None` when it is not installed, which is a failure where oracles are required.
/// Another outcome than success fails the test.
pub(crate) fn oracle(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).env("MTOOLS_SKIP_CHECK", "1").output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            assert!(
                std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(),
                "required oracle {program} is missing"
            );
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
        other => other.expect("program starts"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}\n{errors}", output.status);
    Some(text)
}
