//! What can go wrong with a hive, its logs, `.reg` text and boot stores.

use std::borrow::Cow;
use std::fmt;

use crate::check::Fault;

/// Why a hive cannot be read or edited, or a text not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes break the format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Which structure or field.
        what: Cow<'static, str>,
        /// Absolute byte offset in the file.
        offset: u64,
        /// What the format demands.
        expected: Cow<'static, str>,
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
    /// The hive was not written completely and must be recovered from its logs first.
    #[error("hive was not written completely: {why}")]
    Dirty {
        /// How that shows.
        why: String,
    },
    /// The logs cannot recover the hive.
    #[error("hive was not written completely ({why}), and its logs do not help: {logs}")]
    NotRecoverable {
        /// How it shows that the hive is dirty.
        why: String,
        /// What is wrong with each log.
        logs: String,
    },
    /// A key, value, object or element that does not exist.
    #[error("{what} {name} not found")]
    NotFound {
        /// `key`, `value`, `object`, `element`.
        what: &'static str,
        /// Its name or path.
        name: String,
    },
    /// A name that is taken.
    #[error("{what} {name} exists already")]
    Exists {
        /// `key`, `object`.
        what: &'static str,
        /// Its name or path.
        name: String,
    },
    /// A name, value or argument that a hive cannot hold.
    #[error("{what}: expected {expected}, found {found}")]
    Invalid {
        /// Which argument.
        what: Cow<'static, str>,
        /// What is allowed.
        expected: Cow<'static, str>,
        /// What was given.
        found: String,
    },
    /// The hive would outgrow what the format can address.
    #[error("hive would grow past {limit} bytes: {wanted} more wanted")]
    Full {
        /// Bytes a hive may have.
        limit: u64,
        /// Bytes that did not fit.
        wanted: u64,
    },
    /// `.reg` text that is not understood.
    #[error("line {line}: expected {expected}, found {found}")]
    Text {
        /// One-based line.
        line: usize,
        /// What may stand there.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// The hive is damaged beyond what an editor may touch, or an edit left it so.
    #[error("{when}: {} problem{}, first: {}", faults.len(), if faults.len() == 1 { "" } else { "s" }, First(faults))]
    Inconsistent {
        /// `hive is damaged` or `hive would be written damaged`.
        when: &'static str,
        /// All that was found.
        faults: Vec<Fault>,
    },
}

struct First<'a>(&'a [Fault]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(fault) => write!(f, "{fault}"),
            None => f.write_str("none"),
        }
    }
}

/// [`Error::Corrupt`] without ceremony.
pub(crate) fn corrupt(
    what: impl Into<Cow<'static, str>>,
    offset: u64,
    expected: impl Into<Cow<'static, str>>,
    found: impl fmt::Display,
) -> Error {
    Error::Corrupt { what: what.into(), offset, expected: expected.into(), found: found.to_string() }
}

/// [`Error::Invalid`] without ceremony.
pub(crate) fn invalid(
    what: impl Into<Cow<'static, str>>,
    expected: impl Into<Cow<'static, str>>,
    found: impl fmt::Display,
) -> Error {
    Error::Invalid { what: what.into(), expected: expected.into(), found: found.to_string() }
}
