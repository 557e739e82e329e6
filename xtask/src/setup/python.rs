//! Oracles that come from the Python package index: no Debian package has them. Each in one version with one hash, into the target
//! directory, without what they say they depend on but do not need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::console::{self, Remedy};
use crate::{process, workspace};

/// Name, version and SHA-256 of the wheel, and what it is for.
const NEEDED: [(&str, &str, &str, &str); 6] = [
    (
        "checkdisk",
        "0.1.0",
        "df4ab630a8f80de59886b17fe6ed485fa3bc0d55bb253c1492b91d5b616459cc",
        "oracle: checks the NTFS volumes we write",
    ),
    (
        "phantom-trace-ntfs",
        "0.6.0",
        "ab5beb5c5c306cc5ad21c27b16ef830771d20071921a6fc996516b61d16da4dd",
        "oracle: checks the NTFS volumes we write",
    ),
    (
        "dissect.ntfs",
        "3.16",
        "35625b3adae0ce6b0db16bbbd04179b92537816fa7e7135bb7d4ddd2fc530243",
        "oracle: reads the NTFS volumes we write",
    ),
    (
        "dissect.regf",
        "3.14",
        "e9d9c0cd53a780ded1507bfe2e80c86820b6f12d6f8d4f3839d5e0a96e3fe7bc",
        "oracle: reads the registry hives and boot stores we write",
    ),
    (
        "dissect.util",
        "3.24",
        "edca81239873a3bd6b5f0a702fc0fde453e9b3c2cce37f2c166cdd5e235ccd20",
        "needed by dissect.ntfs and dissect.regf",
    ),
    (
        "dissect.cstruct",
        "4.7",
        "0427621ce67baa3106df2dc63a320d0a7f5c2da88ba3faf2ef5886a1a6b458fd",
        "needed by dissect.ntfs and dissect.regf",
    ),
];

/// Where they are; tests are told.
pub(crate) fn dir() -> PathBuf {
    workspace::target().join("oracles/python")
}

/// Rows for the list of what is needed.
pub(super) fn rows() -> Vec<Vec<String>> {
    NEEDED
        .iter()
        .map(|(name, version, _, why)| vec![format!("{name} {version} (PyPI)"), (*why).to_owned()])
        .collect()
}

/// What pip is given: names, versions and hashes.
fn requirements() -> String {
    NEEDED
        .iter()
        .map(|(name, version, hash, _)| format!("{name}=={version} --hash=sha256:{hash}\n"))
        .collect()
}

/// Whether all are there, in these versions.
pub(super) fn is_complete() -> bool {
    std::fs::read_to_string(dir().join("requirements.txt")).is_ok_and(|there| there == requirements())
}

/// Installs them; nothing when they are there.
pub(super) fn ensure() -> Result<()> {
    if is_complete() {
        return Ok(());
    }
    console::note("installing oracles from the Python package index");
    let dir = dir();
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let list = dir.join("new.txt");
    std::fs::write(&list, requirements()).with_context(|| format!("cannot write {}", list.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
    // One says it needs a newer Python than Debian 12 has, and runs on that.
    pip.args([
        "--ignore-requires-python",
        "--root-user-action=ignore",
        "--require-hashes",
        "--only-binary=:all:",
    ]);
    pip.arg("--target").arg(&dir).arg("--requirement").arg(&list);
    process::output(&mut pip).map_err(|error| {
        Remedy::new(
            format!("pip could not install the oracles: {error:#}"),
            "check that pypi.org or your index (PIP_INDEX_URL) can be reached, then run `cargo xtask setup` again",
        )
    })?;
    // The list gets its name when everything is there.
    std::fs::rename(&list, dir.join("requirements.txt")).context("cannot rename the list of oracles")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_version_and_a_hash() {
        for line in requirements().lines() {
            let (package, hash) = line.split_once(" --hash=sha256:").unwrap();
            assert!(
                package.contains("==") && hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit()),
                "{line}"
            );
        }
    }
}
