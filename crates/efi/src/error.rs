//! What can go wrong with a program, a certificate or a signature.

use crate::SignError;

/// Why a program cannot be read, put together or signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes break the format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Which structure or field.
        what: &'static str,
        /// Absolute byte offset in the file.
        offset: u64,
        /// What the format demands.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Well formed, but this version does not handle it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Whoever holds the key did not sign.
    #[error("cannot sign: {0}")]
    Signing(#[source] SignError),
}

impl Error {
    pub(crate) fn corrupt(
        what: &'static str,
        offset: usize,
        expected: &'static str,
        found: impl Into<String>,
    ) -> Self {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Self::Corrupt { what, offset, expected, found: found.into() }
    }
}
