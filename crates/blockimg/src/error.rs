//! What can be wrong with a block image, a frame or a pack.

use std::borrow::Cow;
use std::{fmt, io};

use crate::ChunkId;

/// Why something cannot be read or written.
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
        what: Cow<'static, str>,
        /// Absolute byte offset in the file, or in the structure `what` names.
        offset: u64,
        /// What the format demands.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// Content does not have the hash it is listed under.
    #[error("{what} at {offset:#x}: expected BLAKE3 {expected}, found {found}")]
    Mismatch {
        /// `chunk`, `region table`, ...
        what: &'static str,
        /// Absolute byte offset of the frame.
        offset: u64,
        /// The hash it is listed under.
        expected: ChunkId,
        /// The hash of what was decoded.
        found: ChunkId,
    },
    /// Well formed, but this version cannot handle it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Larger than this version grants.
    #[error("{what} at {offset:#x}: {found} is above the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Where it was found.
        offset: u64,
        /// The size asked for.
        found: u64,
        /// The size granted.
        limit: u64,
    },
    /// A caller's order of calls or values that cannot be written.
    #[error("cannot write {what}: {reason}")]
    Unwritable {
        /// What was to be written.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, offset, source }
    }

    pub(crate) fn corrupt(
        what: impl Into<Cow<'static, str>>,
        offset: u64,
        expected: impl Into<Cow<'static, str>>,
        found: impl fmt::Display,
    ) -> Self {
        Self::Corrupt { what: what.into(), offset, expected: expected.into(), found: found.to_string() }
    }

    pub(crate) fn limit(what: &'static str, offset: u64, found: u64, limit: u64) -> Self {
        Self::Limit { what, offset, found, limit }
    }

    /// Whether the bytes are at fault, not the medium or the caller: a file that ends early counts.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Mismatch { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}
