//! The one error type of the crate.

use crate::Method;
use crate::padded::Exhausted;

/// Why a chunk could not be decoded, or a codec not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The compressed bytes break the rules of the format.
    #[error("{what} near input byte {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// The part of the stream that is wrong.
        what: &'static str,
        /// Where the reader stood in the compressed chunk, in bytes; it may have loaded up to 8 bytes ahead.
        offset: usize,
        /// The rule.
        expected: &'static str,
        /// The value that breaks it.
        found: u64,
    },
    /// The input ended before the output was complete.
    #[error("{method} chunk ends at input byte {len:#x}, before its output is complete")]
    Truncated {
        /// Method of the chunk.
        method: Method,
        /// Length of the compressed chunk in bytes.
        len: usize,
    },
    /// A chunk size the method does not have.
    #[error("{method} chunk size: expected a power of two from {least} to {most}, found {found}")]
    ChunkSize {
        /// The method asked for.
        method: Method,
        /// Smallest legal size in bytes.
        least: u32,
        /// Largest legal size in bytes.
        most: u32,
        /// The size asked for in bytes.
        found: u32,
    },
    /// The caller asked for an output that cannot be one chunk.
    #[error("{method} output length: expected 1 to {chunk_size} bytes, found {found}")]
    OutputLength {
        /// Method of the decoder.
        method: Method,
        /// Chunk size the decoder was made for, in bytes.
        chunk_size: usize,
        /// Length of the output asked for, in bytes.
        found: usize,
    },
}

/// Why a chunk did not decode, before the public decoder adds what it knows of the input.
#[derive(Debug)]
pub(crate) enum Fault {
    /// [`Error::Truncated`].
    Exhausted,
    /// [`Error::Corrupt`].
    Corrupt { what: &'static str, offset: usize, expected: &'static str, found: u64 },
}

impl Fault {
    #[cold]
    #[inline(never)]
    pub(crate) fn corrupt(offset: usize, what: &'static str, expected: &'static str, found: u64) -> Self {
        Self::Corrupt { what, offset, expected, found }
    }

    /// The public error for a chunk of `len` compressed bytes.
    pub(crate) fn into_error(self, method: Method, len: usize) -> Error {
        match self {
            Self::Exhausted => Error::Truncated { method, len },
            Self::Corrupt { what, offset, expected, found } => {
                Error::Corrupt { what, offset, expected, found }
            }
        }
    }
}

impl From<Exhausted> for Fault {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}
