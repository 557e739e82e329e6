//! wimlib's own shell suites with our program in the place of theirs. They are no part of this project: the tests run when
//! `GRAVURE_WIMLIB_TESTS` names a directory that holds them (what wimlib calls `tests`, with its `tree-cmp` built), and
//! are skipped, loudly, when it does not. The C files that the suites use as data are replaced by text of our own.
//!
//! The suites compare trees with `tree-cmp`. For volumes ours goes before it: names that are short ones already are both at
//! once with us, as on Windows, which the driver of these volumes shows as a short name; where it lets us, that is taken away
//! first, and nothing but that attribute may differ.
//!
//! A suite stops at the first step that fails. What we do not do is known by that step: a suite that stops there is as
//! expected, one that stops elsewhere, or goes on, is not.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gravure_testkit::{oracle, skipped};

/// Names of files that the suites copy out of `src`, where they expect sources.
const DATA: [&str; 6] = ["add_image.c", "write.c", "sha1.c", "extract.c", "resource.c", "xml.c"];

/// How a suite ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Passed,
    /// In the middle, after it had printed this of its steps last.
    Stopped(String),
}

/// Goes before `tree-cmp`.
const COMPARE: &str = r#"#!/bin/bash
if [ "$3" = NTFS ]; then
    (cd "$2" && find . -mindepth 1 -print0) | while IFS= read -r -d '' path; do
        getfattr -h -n system.ntfs_dos_name "$1/$path" >/dev/null 2>&1 && continue
        own=$(getfattr -h --only-values -n system.ntfs_dos_name "$2/$path" 2>/dev/null) || continue
        [ "${own^^}" = "$(basename "${path^^}")" ] && setfattr -h -x system.ntfs_dos_name "$2/$path"
    done
fi
exec "$GRAVURE_TREE_CMP" "$@"
"#;

/// Where the suites are, when somebody has them.
fn suites() -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("GRAVURE_WIMLIB_TESTS") else {
        skipped("GRAVURE_WIMLIB_TESTS does not name a directory with wimlib's shell suites");
        return None;
    };
    let dir = PathBuf::from(dir).canonicalize().unwrap();
    assert!(dir.join("tree-cmp").exists(), "{}: no tree-cmp, which the suites compare with", dir.display());
    Some(dir)
}

/// Lines that look like a program and do not repeat: each file is another content of some tens of kilobytes.
fn data(name: &str) -> String {
    let mut text = String::new();
    let mut number = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    // One is also the value of an attribute, of which there may be 64 KiB.
    let lines = if name == "sha1.c" { 200 } else { 1500 };
    for line in 0..lines {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let _ = writeln!(text, "static int value_{line}(void) {{ return {number}; }}");
    }
    text
}

/// Runs the suite `name` in a directory of its own.
fn run(suites: &Path, name: &str) -> (End, String) {
    let temp = tempfile::tempdir().unwrap();
    let (tests, src) = (temp.path().join("tests"), temp.path().join("src"));
    fs::create_dir(&tests).unwrap();
    fs::create_dir(&src).unwrap();
    for entry in fs::read_dir(suites).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "tree-cmp" {
            symlink(entry.path(), tests.join(entry.file_name())).unwrap();
        }
    }
    let compare = tests.join("tree-cmp");
    fs::write(&compare, COMPARE).unwrap();
    fs::set_permissions(&compare, fs::Permissions::from_mode(0o755)).unwrap();
    DATA.iter().for_each(|name| fs::write(src.join(name), data(name)).unwrap());
    symlink(env!("CARGO_BIN_EXE_gravure"), temp.path().join("wimlib-imagex")).unwrap();
    let mut bash = Command::new("bash");
    bash.arg(tests.join(name)).current_dir(temp.path()).env_remove("srcdir").env("LC_ALL", "C.UTF-8");
    bash.env("GRAVURE_TREE_CMP", suites.join("tree-cmp"));
    // One stream, so that the last step stands before what went wrong with it.
    let log = temp.path().join("log");
    let out = fs::File::create(&log).unwrap();
    let status = bash.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
    for mount in ["in.mnt", "out.mnt", "tmp.mnt"] {
        let place = tests.join(format!("tmpdir_{name}")).join(mount);
        if place.exists() {
            let _ = Command::new("fusermount").args(["-q", "-z", "-u"]).arg(place).output();
        }
    }
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    if status.success() {
        return (End::Passed, text);
    }
    let step = text.lines().rfind(|line| line.starts_with("Testing ")).unwrap_or_default();
    (End::Stopped(step.to_owned()), text)
}

fn ends(name: &str, tools: &[&str], expected: &End) {
    let Some(suites) = suites() else { return };
    if tools.iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    let (end, text) = run(&suites, name);
    let last: Vec<&str> = text.lines().rev().take(25).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    assert_eq!(&end, expected, "{name}:\n{}", last.join("\n"));
    // Without `tree`, which shows both sides, the suites take no notice of what their comparison says.
    let differs = |line: &&str| line.starts_with("tree-cmp:") && !line.contains("`system.ntfs_dos_name'");
    let found: Vec<&str> = text.lines().filter(differs).collect();
    assert_eq!(found, [""; 0], "{name}");
    eprintln!("{name}: {end:?}, as expected");
}

#[test]
fn basic_suite_passes() {
    ends("test-imagex", &[], &End::Passed);
}

#[test]
fn capture_and_apply_suite_passes() {
    ends("test-imagex-capture_and_apply", &[], &End::Passed);
}

#[test]
fn update_and_extract_suite_passes() {
    ends("test-imagex-update_and_extract", &[], &End::Passed);
}

#[test]
fn ntfs_suite_passes() {
    ends("test-imagex-ntfs", &["mkntfs", "ntfs-3g", "setfattr"], &End::Passed);
}

/// All of reading; then the suite mounts for writing, which we do not do.
#[test]
fn mount_suite_goes_on_to_mounting_for_writing() {
    let stops = End::Stopped("Testing mounting WIM read-write".to_owned());
    ends("test-imagex-mount", &["fusermount3"], &stops);
}
