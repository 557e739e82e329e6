//! The checkout: its root, its target directory and what `cargo metadata` says about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// Root of the checkout this program was built from.
pub(crate) fn root() -> &'static Path {
    // xtask is a direct child of the root, so its manifest directory always has a parent.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace root")
}

/// Cargo's target directory: `CARGO_TARGET_DIR` or `target` in the root.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// `cargo` as the one that started us, in the root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo run` has set these for us. Build scripts that watch them (ring's does) would run again, and everything above
    // be built anew, whenever the user's own cargo and ours take turns.
    for (name, _) in std::env::vars_os() {
        let is_about_us = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_about_us) {
            command.env_remove(name);
        }
    }
    command
}

/// The part of `cargo metadata` the rules read.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) resolve: Resolve,
}

/// One package, ours or foreign.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) license_file: Option<PathBuf>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) metadata: serde_json::Value,
}

impl Package {
    /// Directory of the package.
    pub(crate) fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// `[package.metadata.arch] layer`.
    pub(crate) fn layer(&self) -> Option<&str> {
        self.metadata.get("arch")?.get("layer")?.as_str()
    }
}

/// A dependency as the manifest declares it.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// The resolved graph.
#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package of the graph with the ids it depends on.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDep>,
}

/// An edge of the graph.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeDep {
    pub(crate) pkg: String,
}

/// Asks cargo about the workspace, for the platform we build for.
pub(crate) fn metadata() -> Result<Metadata> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"]);
    serde_json::from_slice(&process::output(&mut command)?)
        .context("cargo metadata printed something unexpected")
}

/// What is built for one package by itself, a name and a version a line.
pub(crate) fn tree_of(package: &str) -> Result<String> {
    let mut command = cargo();
    command.args(["tree", "--edges=normal,build", "--prefix=none", "--format={p}", "--package", package]);
    String::from_utf8(process::output(&mut command)?).context("cargo tree printed something unexpected")
}
