//! What keeps a volume closed.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The volume could not be read.
    #[error("cannot read {what} at {offset:#x}: {source}")]
    Io {
        /// What was read.
        what: &'static str,
        /// Where, bytes from the start of the volume.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is not as the format has it.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// What.
        what: &'static str,
        /// Where, bytes from the start of the volume.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Something that this version does not open.
    #[error("{what} {value} is not supported")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Which.
        value: String,
    },
    /// The key opens nothing.
    #[error("the key fits none of the {tried} {what}")]
    WrongKey {
        /// Key slots or protectors.
        what: &'static str,
        /// How many were tried.
        tried: usize,
    },
}

/// Families of errors, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The volume could not be read.
    Io,
    /// It is damaged, or hostile.
    Corrupt,
    /// It needs something that is not there.
    Unsupported,
    /// The key is another one's.
    WrongKey,
}

impl Error {
    /// Its family.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::WrongKey { .. } => ErrorKind::WrongKey,
        }
    }

    pub(crate) fn read(what: &'static str, offset: u64) -> impl Fn(std::io::Error) -> Self {
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

    pub(crate) fn unsupported(what: &'static str, value: impl Into<String>) -> Self {
        Self::Unsupported { what, value: value.into() }
    }
}
