//! Other programs' checkers: what each says of a sound volume.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "imaging's tests use a part of it")]
#![allow(clippy::disallowed_types, reason = "tests start programs and write files")]

use std::path::Path;
use std::process::Command;

use gravure_testkit::{oracle, python_oracle};

pub fn run(command: &mut Command) -> (bool, String) {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Checkers that know one or two things each.
pub fn check(path: &Path, what: &str) {
    let checks: [(&str, &[&str], &str); 4] = [
        ("ntfsfix", &["-n"], "processed successfully"),
        ("ntfsresize", &["--info", "--force", "--no-progress-bar"], "You might resize at"),
        ("ntfsinfo", &["--mft"], "Volume Version: 3.1"),
        ("ntfssecaudit", &["-a"], "No errors were found"),
    ];
    for (program, arguments, expected) in checks {
        let Some(mut command) = oracle(program) else { continue };
        let (succeeded, text) = run(command.args(arguments).arg(path));
        assert!(succeeded, "{what}: {program}: {text}");
        let is_fine = text.contains(expected) || program == "ntfssecaudit" && text.contains("0 error");
        assert!(is_fine, "{what}: {program}: {text}");
        for bad in ["orrupt", "nconsisten", "ifferent", "mismatch", "FAILED"] {
            assert!(!text.contains(bad), "{what}: {program}: {text}");
        }
    }
}

/// Checkers written in Python: what one says of a sound volume.
pub fn check_with_python(path: &Path, what: &str) {
    check_with_checkdisk(path, what);
    check_with_module(path, what, "phantom_trace", &[], &["high 0  medium 0  low 0"]);
}

/// The one of them that knows the most.
pub fn check_with_checkdisk(path: &Path, what: &str) {
    let expected = [
        "0 torn, 0 runlist problem(s)",
        "0 lost file(s)",
        "0 mirror mismatch(es), 0 index problem(s), 0 unrepairable, 0 dangling reference(s)",
        "0 leaked bit(s), 0 missing bit(s)",
        // One entry, or several entries.
        " checked, 0 problem(s)",
        "0 dangling entries, 0 torn indexes",
    ];
    check_with_module(path, what, "checkdisk", &["fix"], &expected);
}

fn check_with_module(path: &Path, what: &str, module: &str, arguments: &[&str], expected: &[&str]) {
    let Some(mut command) = python_oracle(module) else { return };
    let (succeeded, text) = run(command.args(arguments).arg(path));
    assert!(succeeded, "{what}: {module}: {text}");
    for expected in expected {
        assert!(text.contains(expected), "{what}: {module}: no {expected:?} in {text}");
    }
}
