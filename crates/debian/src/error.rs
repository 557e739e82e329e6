//! The error of this crate.

use std::io;
use std::path::PathBuf;

/// What can go wrong between the host's sources and an extracted package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of the private root, or one of the host's source files.
    #[error("{what} {path}")]
    Io {
        /// What was attempted, for instance `cannot read`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A program of apt or dpkg is not installed.
    #[error("{program} is not installed")]
    ProgramMissing {
        /// Its name.
        program: &'static str,
    },
    /// A program of apt or dpkg failed.
    #[error("{program} {action} failed: {said}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it was asked to do.
        action: String,
        /// Its last error lines.
        said: String,
    },
    /// The host has no source that points at the Debian archive.
    #[error("no source of the Debian archive in {searched}")]
    NoDebianSource {
        /// Where it was looked for.
        searched: String,
    },
    /// The suite has no such package.
    #[error("package {package} is not in suite {suite}")]
    NotFound {
        /// Name asked for.
        package: String,
        /// Suite it was looked for in.
        suite: String,
    },
    /// A downloaded package is not what the signed index says.
    #[error("package {package}: sha256 expected {expected}, found {found}")]
    Hash {
        /// File name.
        package: String,
        /// From the signed index.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// apt printed something that cannot be understood.
    #[error("{program} printed no {field} for {package}")]
    Field {
        /// Its name.
        program: &'static str,
        /// The field that is missing or malformed.
        field: &'static str,
        /// The package it was asked about.
        package: String,
    },
    /// The recipe of a system is not valid.
    #[error("recipe {path}: {reason}")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Place and reason.
        reason: String,
    },
    /// A recipe keeps a kernel module that does not exist.
    #[error("kernel {release} has no module {module}")]
    NoModule {
        /// Its name.
        module: String,
        /// Kernel release.
        release: String,
    },
    /// The lock file is not valid.
    #[error("lock file {path}: {reason}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Place and reason as the TOML reader says it.
        reason: String,
    },
}

impl Error {
    /// Wraps an I/O error with its place.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
