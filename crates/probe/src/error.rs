//! The one error of this crate.

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field has a value that the format forbids, or the bytes end too early.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// The structure.
        what: &'static str,
        /// Offset in the bytes that were handed in.
        offset: usize,
        /// What the format demands.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A kind of table or more of something than this crate takes.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// The thing.
        what: &'static str,
        /// The value that was met.
        value: String,
    },
}
