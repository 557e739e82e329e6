//! What set-up says when it cannot go on: what is wrong, the remedy, a non-zero exit code. Each condition is made real
//! in a mount namespace of its own; nothing is installed or changed.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed step of a test is a failed test")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

/// The program under test.
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Whether the conditions can be made; a loud skip when not.
fn ready() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let complete = Command::new(XTASK).args(["setup", "--check"]).output().unwrap().status.success();
    if !root || !complete {
        let reason = "needs root and everything `cargo xtask setup` installs";
        assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "{reason}");
        eprintln!("SKIPPED: {reason}");
    }
    root && complete
}

/// Runs `xtask setup` after `condition`, a shell command, in a mount namespace of its own.
fn setup_under(condition: &str, target: &str) -> Output {
    let script = format!("{condition} && exec \"$0\" setup");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, XTASK]).env("CARGO_TARGET_DIR", target);
    command.output().unwrap()
}

fn assert_told(output: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in expected {
        assert!(said.contains(text), "{text:?} missing in:\n{said}");
    }
}

#[test]
fn without_root_the_command_to_type_is_told() {
    if !ready() {
        return;
    }
    // The target directory may be closed to other users.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("xtask");
    std::fs::copy(XTASK, &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("setup");
    assert_told(
        &command.output().unwrap(),
        &["root is needed", "(this is user 65534)", "remedy: run the same command as root"],
    );
}

#[test]
fn without_apt_the_releases_that_work_are_told() {
    if !ready() {
        return;
    }
    let output = setup_under("mount --bind /dev/null \"$(command -v apt-get)\"", "target");
    assert_told(&output, &["apt-get is missing", "remedy: use Debian 12 or 13"]);
}

#[test]
fn without_space_both_figures_and_the_way_out_are_told() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().to_str().unwrap();
    let output = setup_under(&format!("mount -t tmpfs -o size=1m none {target}"), target);
    assert_told(&output, &["1.05 MB free at", "12.0 GB needed", "remedy: set CARGO_TARGET_DIR"]);
}

#[test]
fn without_qemu_the_package_that_brings_it_is_told() {
    if !ready() {
        return;
    }
    let output = setup_under("mount --bind /dev/null \"$(command -v qemu-system-x86_64)\"", "target");
    assert_told(
        &output,
        &["qemu-system-x86_64 is missing", "remedy: apt-get install --reinstall qemu-system-x86"],
    );
}

#[test]
fn without_a_command_the_commands_are_listed() {
    let output = Command::new(XTASK).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for command in ["demo", "test", "prepush", "tidy", "payload", "bench", "setup"] {
        assert!(said.contains(&format!("\n  {command} ")), "{command} missing in:\n{said}");
    }
}
