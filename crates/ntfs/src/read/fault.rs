//! One broken rule, found while bytes were parsed: what the checker makes a finding of and the reader an error.

use std::fmt;

use crate::Error;
use crate::rule::Rule;

/// A broken rule at a position of the bytes that were parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: Rule,
    /// In the bytes that were parsed.
    pub(crate) pos: usize,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Fault {
    pub(crate) fn new(rule: Rule, pos: usize, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { rule, pos, expected: expected.to_string(), found: found.to_string() }
    }

    /// As the error of a reader; `start` is the absolute offset of the bytes.
    pub(crate) fn into_error(self, what: impl fmt::Display, start: u64) -> Error {
        Error::Corrupt {
            what: format!("{what}: {}", self.rule.text()),
            offset: start.saturating_add(super::bytes::wide(self.pos)),
            expected: self.expected,
            found: self.found,
        }
    }
}
