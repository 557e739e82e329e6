//! The one error of this crate: which call on which object, and what the kernel said.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// What a wrapper of this crate returns when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{what} {on}")]
    Io {
        /// The call in words, e.g. `open directory`.
        what: &'static str,
        /// What it was tried on: a name, a path, a device or an interface.
        on: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Bytes from the kernel or the firmware that do not follow their format.
    #[error("{what} {on}: expected {expected}, found {found}")]
    Corrupt {
        /// The structure, e.g. `mountinfo line`.
        what: &'static str,
        /// Where it was read.
        on: String,
        /// What the format demands.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// The kernel or this crate has no such thing.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// The thing, e.g. `entry name`.
        what: &'static str,
        /// The value that was met.
        value: String,
    },
    /// Nothing failed, but going on would not be safe.
    #[error("refused {what} {on}: {why}")]
    Refused {
        /// The step that was refused.
        what: &'static str,
        /// What it was asked for.
        on: String,
        /// The condition that does not hold.
        why: String,
    },
}

impl Error {
    /// A failed call on `on`.
    pub(crate) fn io(what: &'static str, on: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what, on: on.into(), source: source.into() }
    }

    /// For `map_err` after a call on a path.
    pub(crate) fn on_path<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::io(what, path.display().to_string(), source)
    }

    /// For `map_err` after a call on an entry of a directory.
    pub(crate) fn on_name<E: Into<io::Error>>(what: &'static str, name: &OsStr) -> impl FnOnce(E) -> Self {
        move |source| Self::io(what, name.display().to_string(), source)
    }

    /// The kernel's error number, when a call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The kind as the standard library sorts it; `InvalidData`, `Unsupported` and `PermissionDenied` for the
    /// errors that no call returned.
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Corrupt { .. } => io::ErrorKind::InvalidData,
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Refused { .. } => io::ErrorKind::PermissionDenied,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.io_kind(), error)
    }
}
