//! $FILE_NAME as it stands in records and in keys of indexes.

use zerocopy::FromBytes;

use super::bytes::{part, units};
use crate::disk::{FILE_NAME_BYTES, FileNameDisk};

/// A name with what it says of its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileName<'a> {
    pub(crate) head: FileNameDisk,
    /// UTF-16.
    pub(crate) name: &'a [u8],
}

impl<'a> FileName<'a> {
    /// `None` when the value is shorter than the name it states.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let (head, _) = FileNameDisk::read_from_prefix(value).ok()?;
        let name = part(value, FILE_NAME_BYTES, usize::from(head.name_len).saturating_mul(2))?;
        Some(Self { head, name })
    }

    /// The name's units.
    pub(crate) fn units(&self) -> Vec<u16> {
        units(self.name)
    }

    /// The name for messages.
    pub(crate) fn show(&self) -> String {
        String::from_utf16_lossy(&self.units())
    }
}
