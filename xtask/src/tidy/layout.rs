//! Rules about which files there are: `forbid-unsafe`, `architecture`, `paperwork`, `top-level`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::Violation;
use crate::workspace::Metadata;

/// What may stand in the root (DESIGN section 3); the second row is forced by tools.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "crates",
    "pxe",
    "images",
    "drivers",
    "tests",
    "xtask",
    "README.md",
    "Cargo.lock",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "clippy.toml",
    "rustfmt.toml",
    ".cargo",
    ".ci",
    ".gitignore",
    ".gitattributes",
];

/// The one crate that may hold unsafe code.
const UNSAFE_CRATE: &str = "linux";

/// Checks the crates' files and the root.
pub(super) fn check(metadata: &Metadata, root: &Path) -> Result<Vec<Violation>> {
    let map = Path::new("crates/ARCHITECTURE.md");
    let architecture = std::fs::read_to_string(root.join(map)).unwrap_or_default();
    let mut found = Vec::new();
    for package in metadata.packages.iter().filter(|p| metadata.workspace_members.contains(&p.id)) {
        let dir = package.dir();
        let shown = dir.strip_prefix(root).unwrap_or(dir);
        let name = package.name.strip_prefix("gravure-").unwrap_or(&package.name);
        let in_crates = shown.starts_with("crates");
        if in_crates && !names_crate(&architecture, name) {
            found.push(Violation::new(map, 0, "architecture", format!("`{name}` is not named")));
        }
        for file in expected_files(package.layer().unwrap_or(""), in_crates) {
            if !dir.join(file).is_file() {
                found.push(Violation::new(shown, 0, "paperwork", format!("{file} is missing")));
            }
        }
        for entry in ["src/lib.rs", "src/main.rs"] {
            let text = std::fs::read_to_string(dir.join(entry)).unwrap_or_default();
            if !text.is_empty() && name != UNSAFE_CRATE && !text.contains("#![forbid(unsafe_code)]") {
                let message = "`#![forbid(unsafe_code)]` is missing";
                found.push(Violation::new(&shown.join(entry), 0, "forbid-unsafe", message));
            }
        }
    }
    let files = super::tracked_files(root).context("cannot list the repository")?;
    let tops: BTreeSet<_> = files.iter().filter_map(|path| path.components().next()).collect();
    for top in tops {
        let name = top.as_os_str().to_string_lossy();
        if !TOP_LEVEL.contains(&name.as_ref()) {
            found.push(Violation::new(
                Path::new(name.as_ref()),
                0,
                "top-level",
                "not one of the fixed entries",
            ));
        }
    }
    Ok(found)
}

/// Whether the map names the crate as code, by its short or its package name, or by its directory.
fn names_crate(architecture: &str, name: &str) -> bool {
    [format!("`{name}`"), format!("`gravure-{name}`"), format!("crates/{name}")]
        .iter()
        .any(|form| architecture.contains(form.as_str()))
}

/// Files each crate of `layer` must have.
fn expected_files(layer: &str, in_crates: bool) -> &'static [&'static str] {
    match (layer, in_crates) {
        ("format", true) => &["README.md", "FORMAT.md", "clippy.toml"],
        (_, true) => &["README.md"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_as_code_not_as_a_word() {
        assert!(names_crate("| `wim` | the container |", "wim"));
        assert!(names_crate("see crates/wim/src", "wim"));
        assert!(!names_crate("the io of a disk is slow", "io"));
    }

    #[test]
    fn format_crates_owe_more_paperwork() {
        assert!(expected_files("format", true).contains(&"FORMAT.md"));
        assert_eq!(expected_files("engine", true), ["README.md"]);
        assert_eq!(expected_files("dev", false), [""; 0]);
    }
}
