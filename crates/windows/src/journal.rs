//! Records of changes: what was done to an image, in order, with what is needed to undo it.
//!
//! A record lies in the image it is of, `Windows\Gravure\changes\NNNN.json`; files that were replaced or removed lie beside it
//! in a directory of that number, answer files without their secrets. Undoing goes through the changes backwards and leaves the image with the keys, values
//! and files that it had; times, and the order of values in a key, are not part of that.

use gravure_hive::{Data, ValueType};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::image::HiveFile;

/// Version of records.
pub(crate) const RECORD_VERSION: u32 = 1;
/// Directory of records.
pub(crate) const RECORDS: &str = "Windows\\Gravure\\changes";
/// Largest record read. A large driver package changes some 2,000 values.
pub(crate) const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Type and bytes of a registry value, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredData {
    /// Type number.
    #[serde(rename = "type")]
    pub kind: u32,
    /// Hexadecimal.
    pub bytes: String,
}

impl StoredData {
    pub(crate) fn of(data: &Data) -> Self {
        Self { kind: data.kind.0, bytes: hex(&data.bytes) }
    }

    pub(crate) fn data(&self) -> Result<Data, Error> {
        let bytes = unhex(&self.bytes).ok_or_else(|| Error::Corrupt {
            path: "record of changes".to_owned(),
            expected: "bytes in hexadecimal".to_owned(),
            found: format!("{:?}", self.bytes.chars().take(20).collect::<String>()),
        })?;
        Ok(Data { kind: ValueType(self.kind), bytes })
    }
}

/// One change. Paths are from the root of the Windows volume, with backslashes; in Linux images from the root, with strokes; keys from
/// the root of their hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A directory that was not there.
    DirectoryAdded {
        /// Where.
        path: String,
    },
    /// A file that was not there.
    FileAdded {
        /// Where.
        path: String,
    },
    /// Another file took the place of one.
    FileReplaced {
        /// Where.
        path: String,
        /// Where the old one is now.
        kept: String,
    },
    /// A file was taken away.
    FileRemoved {
        /// Where it was.
        path: String,
        /// Where it is now.
        kept: String,
    },
    /// Another file took the place of an answer file with secrets, which are not kept.
    AnswersReplaced {
        /// Where.
        path: String,
        /// Where the old one is now, without secrets.
        kept: String,
        /// For each secret, in document order: which text of the new file it is, counted from zero; `None` when it is none of them.
        taken: Vec<Option<usize>>,
    },
    /// An answer file with secrets was taken away; they are not kept.
    AnswersRemoved {
        /// Where it was.
        path: String,
        /// Where it is now, without secrets.
        kept: String,
    },
    /// A file or directory got another security descriptor.
    SecuritySet {
        /// Which.
        path: String,
        /// What it had, hexadecimal; `None` when it had none.
        before: Option<String>,
    },
    /// A key got another security descriptor.
    KeySecuritySet {
        /// Of which hive.
        hive: HiveFile,
        /// Which.
        key: String,
        /// What it had, hexadecimal.
        before: String,
    },
    /// A key that was not there.
    KeyAdded {
        /// Of which hive.
        hive: HiveFile,
        /// Which.
        key: String,
    },
    /// A key was taken away, after its values and the keys below it.
    KeyRemoved {
        /// Of which hive.
        hive: HiveFile,
        /// Which.
        key: String,
        /// Its security descriptor, hexadecimal.
        security: String,
        /// Its class name.
        class: String,
    },
    /// A value was set.
    ValueSet {
        /// Of which hive.
        hive: HiveFile,
        /// Its key.
        key: String,
        /// Which; empty for the default value.
        value: String,
        /// What it was; `None` when it was not there.
        before: Option<StoredData>,
        /// What it is. Not kept in the image: it is there anyhow, and may be a secret.
        #[serde(skip)]
        after: Option<StoredData>,
    },
    /// A value was taken away.
    ValueRemoved {
        /// Of which hive.
        hive: HiveFile,
        /// Its key.
        key: String,
        /// Which; empty for the default value.
        value: String,
        /// What it was.
        before: StoredData,
    },
}

impl Change {
    /// Where a file or directory was changed.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::DirectoryAdded { path }
            | Self::FileAdded { path }
            | Self::FileReplaced { path, .. }
            | Self::FileRemoved { path, .. }
            | Self::AnswersReplaced { path, .. }
            | Self::AnswersRemoved { path, .. }
            | Self::SecuritySet { path, .. } => Some(path),
            _ => None,
        }
    }

    /// One line for people; what values are set to only where `data` is asked for.
    pub fn describe(&self, with_data: bool) -> String {
        let value_name =
            |value: &str| if value.is_empty() { "(default)".to_owned() } else { value.to_owned() };
        match self {
            // Paths of Linux images begin with a stroke.
            Self::DirectoryAdded { path } if path.starts_with('/') => format!("+ {path}/"),
            Self::DirectoryAdded { path } => format!("+ {path}\\"),
            Self::FileAdded { path } => format!("+ {path}"),
            Self::FileReplaced { path, .. } | Self::AnswersReplaced { path, .. } => format!("~ {path}"),
            Self::FileRemoved { path, .. } | Self::AnswersRemoved { path, .. } => format!("- {path}"),
            Self::SecuritySet { path, .. } => format!("~ {path} (access)"),
            Self::KeySecuritySet { hive, key, .. } => format!("~ {hive}\\{key}\\ (access)"),
            Self::KeyAdded { hive, key } => format!("+ {hive}\\{key}\\"),
            Self::KeyRemoved { hive, key, .. } => format!("- {hive}\\{key}\\"),
            Self::ValueSet { hive, key, value, before, after } => {
                let sign = if before.is_some() { '~' } else { '+' };
                let shown = |data: &Option<StoredData>| {
                    data.as_ref().and_then(|data| data.data().ok()).map(|data| show(&data))
                };
                let data = match (with_data, shown(before), shown(after)) {
                    (true, Some(before), Some(after)) => format!(" = {before} -> {after}"),
                    (true, None, Some(after)) => format!(" = {after}"),
                    _ => String::new(),
                };
                format!("{sign} {hive}\\{key}!{}{data}", value_name(value))
            }
            Self::ValueRemoved { hive, key, value, .. } => {
                format!("- {hive}\\{key}!{}", value_name(value))
            }
        }
    }
}

/// Data in one line.
fn show(data: &Data) -> String {
    if let Some(text) = data.as_text() {
        return format!("{:?}", text.to_string());
    }
    if let Some(texts) = data.as_multi() {
        return format!("{:?}", texts.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    match data.as_number() {
        Some(number) => number.to_string(),
        None => format!("{} {}", data.kind, hex(&data.bytes)),
    }
}

/// All changes of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this document.
    pub version: u32,
    /// What was done, in words.
    pub what: String,
    /// In order.
    pub changes: Vec<Change>,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_in_a_line_and_new_data_is_not_kept() {
        let change = Change::ValueSet {
            hive: HiveFile::System,
            key: "Setup".into(),
            value: String::new(),
            before: Some(StoredData::of(&Data::dword(0))),
            after: Some(StoredData::of(&Data::sz("secret"))),
        };
        assert_eq!(change.describe(true), "~ SYSTEM\\Setup!(default) = 0 -> \"secret\"");
        assert_eq!(change.describe(false), "~ SYSTEM\\Setup!(default)");
        let json = serde_json::to_string(&change).unwrap();
        assert!(!json.contains(&hex(b"s\0e\0c\0")), "{json}");
        let back: Change = serde_json::from_str(&json).unwrap();
        assert_eq!(back.describe(true), "~ SYSTEM\\Setup!(default)");
        assert_eq!(unhex("0aFF"), Some(vec![10, 255]));
        assert_eq!((unhex("0"), unhex("0g"), unhex("é")), (None, None, None));
    }
}
