//! What can go wrong with a store.

use std::io;

/// Family of an error; engines map it to their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such object, image or chunk.
    NotFound,
    /// Bytes are not what they should be.
    Integrity,
    /// The operating system could not read or write.
    Io,
    /// A server could not be reached or answered wrongly.
    Network,
    /// It exists already, or the store cannot be written.
    Refused,
    /// Not allowed.
    Permission,
    /// Stopped on request.
    Interrupted,
    /// Anything else.
    Failed,
}

/// Why an operation of a store ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An object could not be read or written.
    #[error("{what} {name}")]
    Io {
        /// The attempt in words.
        what: &'static str,
        /// The object.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// An object breaks the format.
    #[error("{name}")]
    Format {
        /// The object.
        name: String,
        /// What is wrong.
        source: Box<gravure_blockimg::Error>,
    },
    /// An object of the store itself makes no sense.
    #[error("{name}: expected {expected}, found {found}")]
    Corrupt {
        /// The object.
        name: String,
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// No such thing.
    #[error("{what} {which} not found in {store}")]
    NotFound {
        /// `image`, `chunk`, `object`.
        what: &'static str,
        /// Which one.
        which: String,
        /// Where it was looked for.
        store: String,
    },
    /// Nothing failed, but it is not done.
    #[error("refused: {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Which condition does not hold.
        why: String,
    },
    /// A request to a server failed.
    #[error("{url}: {why}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// Stopped on request.
    #[error(transparent)]
    Interrupted(#[from] gravure_model::Cancelled),
}

impl Error {
    pub(crate) fn io<'a>(
        what: &'static str,
        name: impl ToString + 'a,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, name: name.to_string(), source }
    }

    pub(crate) fn format<'a>(name: impl ToString + 'a) -> impl FnOnce(gravure_blockimg::Error) -> Self + 'a {
        move |source| Self::Format { name: name.to_string(), source: Box::new(source) }
    }

    pub(crate) fn no_object(name: &str, store: &str) -> Self {
        Self::NotFound { what: "object", which: name.to_owned(), store: store.to_owned() }
    }

    /// Family of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
                io::ErrorKind::UnexpectedEof => ErrorKind::Integrity,
                _ => ErrorKind::Io,
            },
            Self::Format { source, .. } if source.is_integrity() => ErrorKind::Integrity,
            Self::Format { source, .. } => match &**source {
                gravure_blockimg::Error::Io { .. } => ErrorKind::Io,
                _ => ErrorKind::Failed,
            },
            Self::Corrupt { .. } => ErrorKind::Integrity,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Network { .. } => ErrorKind::Network,
            Self::Interrupted(_) => ErrorKind::Interrupted,
        }
    }
}
