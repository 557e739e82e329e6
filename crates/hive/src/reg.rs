//! `.reg` text: versions 5.00 (UTF-16, UTF-8) and REGEDIT4 (Windows-1252), read, applied to a hive and written.

mod apply;
mod encoding;
mod export;
mod parse;

pub use apply::{Applied, Mount};
pub use export::{Encoding, ExportOptions};

use gravure_nttypes::NtName;

use crate::value::Data;

/// Version of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegVersion {
    /// `REGEDIT4`: 8-bit text, also inside `hex(2)` and `hex(7)`.
    V4,
    /// `Windows Registry Editor Version 5.00`.
    V5,
}

impl RegVersion {
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::V4 => "REGEDIT4",
            Self::V5 => "Windows Registry Editor Version 5.00",
        }
    }
}

/// A text, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegFile {
    /// Of the text.
    pub version: RegVersion,
    /// In the order of the text, which is the order they are applied in.
    pub keys: Vec<RegKey>,
}

/// A key of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegKey {
    /// One-based line it stands in.
    pub line: usize,
    /// As written, without brackets.
    pub path: NtName,
    /// True for `[-key]`.
    pub is_deletion: bool,
    /// Its values.
    pub values: Vec<RegValue>,
}

/// A value of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegValue {
    /// Empty for the default value (`@`).
    pub name: NtName,
    /// What it is to be; `None` deletes it (`=-`).
    pub data: Option<Data>,
}
