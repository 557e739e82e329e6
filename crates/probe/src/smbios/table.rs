//! The structure table (DSP0134 6.1): formatted area, then strings, each structure after the other.

use crate::Error;
use crate::field::array_at;

/// Largest table taken. Version 2.1 cannot state more than 64 KiB; the largest seen of 3.x (servers) has some 100 KiB.
pub const MAX_TABLE_BYTES: usize = 1 << 20;
/// Most structures read. A structure has at least six bytes, so a table of noughts could hold 170,000.
pub const MAX_STRUCTURES: usize = 8192;
/// Longest text kept; the specification had 64 before 2.7 and no limit since.
const MAX_TEXT_BYTES: usize = 256;
/// Header: type, length, handle.
const HEADER_BYTES: usize = 4;
/// Type of the last structure.
const END_OF_TABLE: u8 = 127;

/// One structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure<'a> {
    /// Type.
    pub kind: u8,
    /// Handle, by which others refer to it.
    pub handle: u16,
    /// Formatted area, header included, so that offsets are those of the specification.
    pub formatted: &'a [u8],
    /// String area without the NUL that ends it.
    strings: &'a [u8],
}

impl Structure<'_> {
    /// The text that the byte at `offset` refers to; `None` when there is none or it is blank.
    pub fn text(&self, offset: usize) -> Option<String> {
        self.field_text(offset).filter(|text| !text.is_empty())
    }

    /// The same, empty for a field that refers to no text or to a blank one; `None` when the structure is too short to
    /// have the field.
    pub fn field_text(&self, offset: usize) -> Option<String> {
        let number = usize::from(*self.formatted.get(offset)?);
        let Some(index) = number.checked_sub(1) else { return Some(String::new()) };
        let text = self.strings.split(|byte| *byte == 0).nth(index).unwrap_or_default();
        let text = text.get(..text.len().min(MAX_TEXT_BYTES))?;
        let text: String =
            String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some(text.trim().to_owned())
    }
}

/// Walks a table. Ends after the structure of type 127, at the end of the bytes, or after the first error.
#[derive(Debug, Clone)]
pub struct Structures<'a> {
    table: &'a [u8],
    offset: usize,
    count: usize,
    done: bool,
}

impl<'a> Structures<'a> {
    /// Starts at the beginning of `table`.
    pub fn new(table: &'a [u8]) -> Self {
        Self { table, offset: 0, count: 0, done: false }
    }

    fn read(&mut self) -> Result<Structure<'a>, Error> {
        let offset = self.offset;
        let corrupt =
            |expected, found: String| Error::Corrupt { what: "SMBIOS structure", offset, expected, found };
        if self.count >= MAX_STRUCTURES {
            let value = format!("more than {MAX_STRUCTURES}");
            return Err(Error::Unsupported { what: "number of SMBIOS structures", value });
        }
        let rest = self.table.get(offset..).unwrap_or_default();
        let header: [u8; HEADER_BYTES] =
            array_at(rest, 0).ok_or_else(|| corrupt("a header", format!("{} bytes", rest.len())))?;
        let [kind, len, handle_low, handle_high] = header;
        let len = usize::from(len);
        if len < HEADER_BYTES {
            return Err(corrupt("a length of at least 4", len.to_string()));
        }
        let (formatted, after) = rest
            .split_at_checked(len)
            .ok_or_else(|| corrupt("a formatted area within the table", format!("{len} bytes")))?;
        // Two NULs end the strings; a structure without strings has just these.
        let end = after.windows(2).position(|pair| pair == [0, 0]);
        // Some firmware counts the last structure without its NULs.
        let end = end.or_else(|| (kind == END_OF_TABLE).then_some(after.len()));
        let end = end.ok_or_else(|| corrupt("two NULs after the strings", "end of table".into()))?;
        let strings = after.get(..end).unwrap_or_default();
        self.offset = offset.saturating_add(len).saturating_add(end).saturating_add(2);
        self.count = self.count.saturating_add(1);
        let handle = u16::from_le_bytes([handle_low, handle_high]);
        Ok(Structure { kind, handle, formatted, strings })
    }
}

impl<'a> Iterator for Structures<'a> {
    type Item = Result<Structure<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // Before 2.2 no structure marks the end, and padding may follow the last one.
        let left = self.table.get(self.offset..).unwrap_or_default();
        if self.done || left.iter().all(|byte| *byte == 0) {
            return None;
        }
        let item = self.read();
        self.done = item.as_ref().map_or(true, |structure| structure.kind == END_OF_TABLE);
        Some(item)
    }
}
