//! The one error of this crate.

use std::io;

/// What a function of this crate returns when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing the disk failed.
    #[error("{what} at {offset:#x}")]
    Io {
        /// What was read or written.
        what: &'static str,
        /// Absolute byte offset.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// Bytes that do not follow their format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// The structure and field.
        what: &'static str,
        /// Absolute byte offset of the structure.
        offset: u64,
        /// What the format demands.
        expected: String,
        /// What was there.
        found: String,
    },
    /// A valid value that this crate does not handle.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// The thing.
        what: &'static str,
        /// The value that was met.
        value: String,
    },
    /// Something is larger than the room for it.
    #[error("{what}: {wanted} bytes wanted, {available} available")]
    DoesNotFit {
        /// What does not fit where.
        what: String,
        /// Bytes it needs.
        wanted: u64,
        /// Bytes there are.
        available: u64,
    },
    /// A request that contradicts itself.
    #[error("{what}: {why}")]
    Invalid {
        /// The request.
        what: String,
        /// The rule it breaks.
        why: String,
    },
    /// What was read back is not what was written.
    #[error("{what} differs after writing, first at {offset:#x}")]
    Differs {
        /// The structure or file.
        what: String,
        /// Absolute byte offset of the first difference.
        offset: u64,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, offset, source }
    }

    pub(crate) fn corrupt(
        what: &'static str,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Corrupt { what, offset, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }
}
