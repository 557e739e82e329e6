//! What can go wrong with an INF file, and what is odd in one that can be read.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// Why a text is no INF file, or an INF file does not say what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text breaks the grammar.
    #[error("line {line}: expected {expected}, found {found}")]
    Syntax {
        /// One-based line.
        line: u32,
        /// What may stand there.
        expected: Cow<'static, str>,
        /// What stands there.
        found: String,
    },
    /// Readable as text, but not the INF file of a driver.
    #[error("{what}: expected {expected}, found {found}")]
    Invalid {
        /// Which section, entry or argument.
        what: Cow<'static, str>,
        /// What is allowed.
        expected: Cow<'static, str>,
        /// What is there.
        found: String,
    },
    /// Larger than this crate reads.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// The thing that is too large.
        what: &'static str,
        /// What was met and what is allowed.
        value: String,
    },
}

/// [`Error::Syntax`] without ceremony.
pub(crate) fn syntax(line: u32, expected: impl Into<Cow<'static, str>>, found: impl fmt::Display) -> Error {
    Error::Syntax { line, expected: expected.into(), found: found.to_string() }
}

/// [`Error::Invalid`] without ceremony.
pub(crate) fn invalid(
    what: impl Into<Cow<'static, str>>,
    expected: impl Into<Cow<'static, str>>,
    found: impl fmt::Display,
) -> Error {
    Error::Invalid { what: what.into(), expected: expected.into(), found: found.to_string() }
}

/// At most 80 characters of `text` for a message, control characters made visible.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut out: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push_str("...");
    }
    out
}

/// How much a [`Note`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Odd, but without effect on an installation.
    Warning,
    /// Something that the file names is not there or cannot mean anything: an installation would fail or do less.
    Error,
}

/// Something that is wrong in a file that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// One-based line.
    pub line: u32,
    /// What was expected and what is there.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}
