//! What a capture, apply or verification can fail with, and the family each failure belongs to.

use std::error::Error as StdError;
use std::io;

use gravure_model::Cancelled;
use gravure_tree::Sha1Hash;

/// Family of an error: stable, what programs decide on. The exit codes of DESIGN section 5 follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything that is none of the others.
    Failed,
    /// An option that makes no sense.
    Usage,
    /// A file, an image or a path inside one is not there.
    NotFound,
    /// Nothing failed, but going on could destroy something.
    Refused,
    /// Bytes are not what they should be.
    Integrity,
    /// The operating system could not read or write.
    Io,
    /// A server could not be reached or answered wrongly.
    Network,
    /// The operating system does not allow it.
    Permission,
    /// Well formed, but this version cannot do it.
    Unsupported,
    /// Stopped on request.
    Interrupted,
}

/// Why an operation of this crate ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("{what} {path}")]
    Io {
        /// The attempt in words, e.g. `read`.
        what: &'static str,
        /// What it was tried on.
        path: String,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// A system call on a directory tree failed.
    #[error("{path}")]
    Linux {
        /// Path within the tree.
        path: String,
        /// Call and cause.
        source: gravure_linux::Error,
    },
    /// An image file breaks its format, or cannot be used.
    #[error("{path}")]
    Wim {
        /// The image file.
        path: String,
        /// What is wrong.
        source: Box<gravure_wim::Error>,
    },
    /// Content does not have the SHA-1 it is listed under.
    #[error(
        "blob {expected} at {offset:#x} of {file}: expected {size} bytes with SHA-1 {expected}, found {found}; used by {}",
        named(paths)
    )]
    BlobMismatch {
        /// The image file.
        file: String,
        /// SHA-1 it is listed under.
        expected: Sha1Hash,
        /// SHA-1 of what was decoded, or how decoding failed.
        found: String,
        /// Absolute offset of its resource, bytes.
        offset: u64,
        /// Its size, bytes.
        size: u64,
        /// Paths in the image that use it; the first ones.
        paths: Vec<String>,
    },
    /// A range of an image file is not what its descriptor says.
    #[error(
        "range {index} at {offset:#x} of {file}: expected BLAKE3 {expected}, found {found}; hits {}",
        named(hits)
    )]
    RangeMismatch {
        /// The image file or address.
        file: String,
        /// Zero-based range.
        index: u64,
        /// Absolute offset, bytes.
        offset: u64,
        /// BLAKE3 by the descriptor.
        expected: String,
        /// BLAKE3 of what came, or how the size differs.
        found: String,
        /// Blobs with paths, or tables, that lie in the range; the first ones.
        hits: Vec<String>,
    },
    /// What was read back is not what the image says.
    #[error("{path}: {what}: expected {expected}, found {found}{}", and_more(*more))]
    Differs {
        /// Path within the tree.
        path: String,
        /// What was compared, e.g. `SHA-1`, `owner`.
        what: &'static str,
        /// As the image says.
        expected: String,
        /// As it is.
        found: String,
        /// How many further differences there are.
        more: u64,
    },
    /// A request to a server failed.
    #[error("{url}: {why}")]
    Network {
        /// The address.
        url: String,
        /// What happened, after how many attempts.
        why: String,
    },
    /// No such thing.
    #[error("{what} {which} not found")]
    NotFound {
        /// `image`, `path`, `file`.
        what: &'static str,
        /// Which one.
        which: String,
    },
    /// Nothing failed, but going on would not be safe.
    #[error("refused: {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Which condition does not hold.
        why: String,
    },
    /// This version cannot do it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// Options or a recipe that make no sense.
    #[error("{what}: expected {expected}, found {found}")]
    Usage {
        /// Option or field.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A program that was run did not succeed.
    #[error("{program} failed with {status}: {output}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Stopped on request.
    #[error(transparent)]
    Interrupted(#[from] Cancelled),
    /// Another layer of the engine failed.
    #[error("{what}")]
    Other {
        /// What was being done.
        what: String,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
        /// Its family.
        kind: ErrorKind,
    },
}

/// Paths for a message: the first three, then how many more.
fn named(paths: &[String]) -> String {
    match paths {
        [] => "nothing known".to_owned(),
        [a] => a.clone(),
        [a, b] => format!("{a}, {b}"),
        [a, b, c] => format!("{a}, {b}, {c}"),
        [a, b, c, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len()),
    }
}

fn and_more(more: u64) -> String {
    if more == 0 { String::new() } else { format!("; and {more} further differences") }
}

impl ErrorKind {
    /// The exit code of DESIGN section 5.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Integrity => 5,
            Self::Io => 6,
            Self::Network => 7,
            Self::Permission => 8,
            Self::Unsupported => 9,
            Self::Interrupted => 130,
        }
    }
}

impl Error {
    /// For `map_err` after an I/O operation.
    pub(crate) fn io<'a>(
        what: &'static str,
        path: impl ToString + 'a,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_string(), source }
    }

    /// For `map_err` after a call of `gravure-linux` on a path of a tree.
    pub(crate) fn linux<'a>(path: impl ToString + 'a) -> impl FnOnce(gravure_linux::Error) -> Self + 'a {
        move |source| Self::Linux { path: path.to_string(), source }
    }

    /// For `map_err` after a call of `gravure-wim` on an image file.
    pub(crate) fn wim<'a>(path: impl ToString + 'a) -> impl FnOnce(gravure_wim::Error) -> Self + 'a {
        move |source| {
            let path = path.to_string();
            match unwrap_io(source) {
                Ok(own) => own,
                Err(source) => Self::Wim { path, source: Box::new(source) },
            }
        }
    }

    /// Family of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => kind_of_io(source),
            Self::Linux { source, .. } => match source {
                gravure_linux::Error::Io { source, .. } => kind_of_io(source),
                gravure_linux::Error::Unsupported { .. } => ErrorKind::Unsupported,
                gravure_linux::Error::Refused { .. } => ErrorKind::Refused,
                _ => ErrorKind::Failed,
            },
            Self::Wim { source, .. } => kind_of_wim(source),
            Self::BlobMismatch { .. } | Self::RangeMismatch { .. } | Self::Differs { .. } => {
                ErrorKind::Integrity
            }
            Self::Network { .. } => ErrorKind::Network,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Usage { .. } => ErrorKind::Usage,
            Self::Program { .. } => ErrorKind::Failed,
            Self::Interrupted(_) => ErrorKind::Interrupted,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// True when an NTFS volume was refused for what it cannot hold of an image ([`crate::Unrepresentable`]).
    pub fn is_unrepresentable(&self) -> bool {
        let Self::Other { source, .. } = self else { return false };
        matches!(source.downcast_ref(), Some(gravure_ntfs::Error::Refused(_)))
    }

    /// True when an image file or what was made of it is damaged.
    pub fn is_integrity(&self) -> bool {
        self.kind() == ErrorKind::Integrity
    }
}

/// An error of ours that travelled through a reader's `io::Error` (a range of a remote file that does not match)
/// comes out as itself.
fn unwrap_io(error: gravure_wim::Error) -> Result<Error, gravure_wim::Error> {
    match error {
        gravure_wim::Error::Io { what, offset, source } => match source.downcast::<Error>() {
            Ok(own) => Ok(own),
            Err(source) => Err(gravure_wim::Error::Io { what, offset, source }),
        },
        other => Err(other),
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Permission => io::ErrorKind::PermissionDenied,
            ErrorKind::Integrity => io::ErrorKind::InvalidData,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

fn kind_of_io(error: &io::Error) -> ErrorKind {
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.kind();
    }
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    }
}

fn kind_of_wim(error: &gravure_wim::Error) -> ErrorKind {
    match error {
        // A file that ends before its structures do is damaged, not a failing disk.
        gravure_wim::Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            ErrorKind::Integrity
        }
        gravure_wim::Error::Io { source, .. } => kind_of_io(source),
        gravure_wim::Error::Corrupt { .. } | gravure_wim::Error::HashMismatch { .. } => ErrorKind::Integrity,
        gravure_wim::Error::Unsupported { .. } | gravure_wim::Error::Limit { .. } => ErrorKind::Unsupported,
        gravure_wim::Error::NotFound { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    }
}
