//! The manifest that ships with the payload: what it is made of, from where, under which licence.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::debian::{SUITE, Stage};
use super::hex;

/// Everything that is in the payload.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    version: u32,
    kernel: String,
    suite: &'static str,
    /// Seconds since 1970 that every file in the initramfs carries.
    timestamp: u64,
    init: Program,
    packages: Vec<Package>,
}

/// Our own program.
#[derive(Debug, Serialize)]
struct Program {
    name: &'static str,
    version: &'static str,
    licence: &'static str,
    sha256: String,
}

/// An unmodified Debian package some of whose files are in the payload.
#[derive(Debug, Serialize)]
struct Package {
    name: String,
    version: String,
    /// Debian source package and version, from which the complete source is had.
    source: String,
    sha256: String,
    /// Short names out of its copyright file.
    licences: BTreeSet<String>,
}

impl Manifest {
    /// Describes what `used` names of the stage, and the program at `init`.
    pub(super) fn of(stage: &Stage, used: &BTreeSet<String>, kernel: &str, init: &Path) -> Result<Self> {
        let program = std::fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
        let packages = stage.packages.iter().filter(|package| used.contains(&package.name)).map(|package| {
            let text = copyright(stage, &package.name);
            Package {
                name: package.name.clone(),
                version: package.version.clone(),
                source: package.source.clone(),
                sha256: package.sha256.clone(),
                licences: licence_names(&text),
            }
        });
        Ok(Self {
            version: 1,
            kernel: kernel.to_owned(),
            suite: SUITE,
            timestamp: stage.timestamp(),
            init: Program {
                name: "gravure-payload",
                version: env!("CARGO_PKG_VERSION"),
                licence: env!("CARGO_PKG_LICENSE"),
                sha256: hex(&Sha256::digest(program)),
            },
            packages: packages.collect(),
        })
    }

    /// Indented JSON with a newline at its end.
    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("cannot write the manifest")? + "\n")
    }
}

/// Copies the copyright files of the packages `used` into `dir`, and nothing else stays there.
pub(super) fn copy_licences(stage: &Stage, used: &BTreeSet<String>, dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for package in used {
        let to = dir.join(format!("{package}.txt"));
        std::fs::write(&to, copyright(stage, package))
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// The package's copyright file; packages of one source may share it through a link into another package.
fn copyright(stage: &Stage, package: &str) -> String {
    let doc = stage.package_dir(package).join("usr/share/doc").join(package);
    let own = std::fs::read_to_string(doc.join("copyright"));
    own.unwrap_or_else(|_| {
        let target =
            std::fs::read_link(&doc).ok().and_then(|t| Some(t.file_name()?.to_string_lossy().into_owned()));
        let Some(other) = target else { return String::new() };
        let path = stage.package_dir(&other).join("usr/share/doc").join(&other).join("copyright");
        std::fs::read_to_string(path).unwrap_or_default()
    })
}

/// The short names behind `License:` in a machine-readable copyright file.
fn licence_names(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.strip_prefix("License:")).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_names_are_read_once_each() {
        let text = "Files: *\nLicense: GPL-2\n\nFiles: lib/*\nLicense: LGPL-2\n\nLicense: GPL-2\n Text follows.\nLicense:\n";
        assert_eq!(licence_names(text).into_iter().collect::<Vec<_>>(), ["GPL-2", "LGPL-2"]);
        assert!(licence_names("free text").is_empty());
    }
}
