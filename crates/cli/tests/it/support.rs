//! The program as its users start it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).current_dir(dir).args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
pub(crate) fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = gravure(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&ok(dir, &[arguments, &["--format", "json", "--progress", "none"]].concat()))
        .unwrap()
}

/// Exit code and standard error of a command that must fail.
pub(crate) fn fails(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = gravure(dir, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Runs a foreign program that must succeed; `None` when it is not there.
pub(crate) fn foreign(dir: &Path, program: &str, arguments: &[&str]) -> Option<Output> {
    let output = gravure_testkit::oracle(program)?.args(arguments).current_dir(dir).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

/// Files below `dir/name`: text and noise of several sizes.
pub(crate) fn files(dir: &Path, name: &str) {
    std::fs::create_dir_all(dir.join(name).join("sub/deeper")).unwrap();
    for number in 0..24usize {
        let len = [1, 700, 5000, 70_000, 300_000, 1_300_000][number % 6];
        let content: Vec<u8> = (0..len).map(|at| (at * (number + 3) / 7 + at / 251) as u8).collect();
        let place = if number % 2 == 0 { "sub" } else { "sub/deeper" };
        std::fs::write(dir.join(name).join(place).join(format!("file{number}")), content).unwrap();
    }
    std::fs::write(dir.join(name).join("README"), "hello").unwrap();
}

/// A file of `size` bytes, all of them a hole.
pub(crate) fn blank(dir: &Path, name: &str, size: u64) {
    std::fs::File::create(dir.join(name)).unwrap().set_len(size).unwrap();
}

/// Path and content of every file below `root`.
pub(crate) fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().display().to_string();
            out.push((name, std::fs::read(path).unwrap()));
        }
    }
    out.sort();
    out
}
