//! What can be wrong with a virtual disk file.

use std::borrow::Cow;
use std::{fmt, io};

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("{what} at {offset:#x}")]
    Io {
        /// What was being read or written.
        what: &'static str,
        /// Absolute byte offset.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The bytes break the format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Which structure or field.
        what: &'static str,
        /// Absolute byte offset.
        offset: u64,
        /// What the format demands.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// Well formed, but this version cannot handle it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// What the file holds may not be what its owner left: it was not closed.
    #[error("not closed cleanly: {0}")]
    Unclean(&'static str),
}

impl Error {
    pub(crate) fn io(what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, offset, source }
    }

    pub(crate) fn corrupt(
        what: &'static str,
        offset: u64,
        expected: impl Into<Cow<'static, str>>,
        found: impl fmt::Display,
    ) -> Self {
        Self::Corrupt { what, offset, expected: expected.into(), found: found.to_string() }
    }

    /// Whether the bytes are at fault: a file that ends early counts.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => source,
            error => Self::other(error),
        }
    }
}
