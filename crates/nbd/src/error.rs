//! Why a conversation ended.

use std::io;

/// What ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error("{what}")]
    Io {
        /// What was being read or written.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The client does not keep to the protocol.
    #[error("{what}: expected {expected}, found {found}")]
    Client {
        /// Which message or field.
        what: &'static str,
        /// What the protocol demands.
        expected: &'static str,
        /// What came.
        found: String,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    pub(crate) fn client(what: &'static str, expected: &'static str, found: impl Into<String>) -> Self {
        Self::Client { what, expected, found: found.into() }
    }

    /// Whether the client just went away.
    pub fn is_hang_up(&self) -> bool {
        let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        matches!(self, Self::Io { source, .. } if gone.contains(&source.kind()))
    }
}
