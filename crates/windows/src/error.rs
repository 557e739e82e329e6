//! What servicing can fail with.

use std::io;
use std::path::Path;

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
    /// A system call failed.
    #[error("{path}")]
    Linux {
        /// What it was tried on.
        path: String,
        /// Call and cause.
        source: gravure_linux::Error,
    },
    /// An INF file that cannot be read.
    #[error("{path}")]
    Inf {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: gravure_inf::Error,
    },
    /// A registry hive of an image that cannot be read or edited.
    #[error("{path}")]
    Hive {
        /// Where it lies, and what was to be done where that helps.
        path: String,
        /// What is wrong.
        source: gravure_hive::Error,
    },
    /// A name that cannot be put into the image.
    #[error("{path}")]
    Tree {
        /// Path in the image.
        path: String,
        /// Why.
        source: gravure_tree::TreeError,
    },
    /// A content of the image that its source does not give.
    #[error("{path}")]
    Content {
        /// Path in the image.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something the caller asked for that cannot be.
    #[error("{what}: expected {expected}, found {found}")]
    Invalid {
        /// Which wish.
        what: String,
        /// What is possible.
        expected: String,
        /// What was asked.
        found: String,
    },
    /// What this version does not do.
    #[error("{what} is not supported: {value}")]
    Unsupported {
        /// What.
        what: &'static str,
        /// The case.
        value: String,
    },
    /// A package that must not be taken as it is.
    #[error("{path}: {why}")]
    Refused {
        /// Its INF file.
        path: String,
        /// What is missing or wrong.
        why: String,
    },
    /// A file of the repository is not what it should be.
    #[error("{path}: expected {expected}, found {found}")]
    Corrupt {
        /// The file.
        path: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// No such package, or no repository.
    #[error("{what} {name} not found")]
    NotFound {
        /// `package`, `driver repository`.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl Error {
    /// For `map_err` after work on a hive.
    pub(crate) fn hive(path: &str) -> impl FnOnce(gravure_hive::Error) -> Self + '_ {
        move |source| Self::Hive { path: path.to_owned(), source }
    }

    /// For `map_err` after a change of the tree.
    pub(crate) fn tree(path: &str) -> impl FnOnce(gravure_tree::TreeError) -> Self + '_ {
        move |source| Self::Tree { path: path.to_owned(), source }
    }

    /// For `map_err` after an I/O operation on `path`.
    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.display().to_string(), source }
    }
}
