//! Writing `.reg` text, in the form regedit has.

use std::fmt::Write as _;

use gravure_nttypes::NtName;

use super::{RegVersion, encoding};
use crate::error::{Error, corrupt, invalid};
use crate::hive::{Hive, Key, KeyId, Value};
use crate::limits::MAX_DEPTH;
use crate::value::{Data, ValueType};

/// Lines of bytes break when they are longer than this, as regedit's do.
const MAX_LINE: usize = 76;
/// Bytes a value takes in a hive at least: bounds what damaged hives can list.
const MIN_VALUE_BYTES: usize = 24;

/// How text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// UTF-16LE with its mark: what regedit writes.
    Utf16,
    /// UTF-8 without mark.
    Utf8,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// Version of the text; version 4 is Windows-1252, whatever the encoding.
    pub version: RegVersion,
    /// How version 5 is stored.
    pub encoding: Encoding,
    /// What the text calls the root of the hive, e.g. `HKEY_LOCAL_MACHINE\SYSTEM`; may be empty.
    pub mount: NtName,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { version: RegVersion::V5, encoding: Encoding::Utf16, mount: NtName::default() }
    }
}

impl Hive {
    /// The key and all below it as `.reg` text. Values that text cannot hold exactly are written as bytes. Fails in version
    /// 4 when something is outside of Windows-1252.
    pub fn export(&self, key: KeyId, options: &ExportOptions) -> Result<Vec<u8>, Error> {
        let mut writer = Writer {
            out: Vec::new(),
            version: options.version,
            left: self.as_bytes().len().saturating_mul(2),
        };
        writer.text(options.version.header());
        writer.text("\r\n\r\n");
        let mut path = options.mount.units().to_vec();
        let above = self.path(key)?;
        if !above.is_empty() {
            join(&mut path, &above.encode_utf16().collect::<Vec<_>>());
        }
        writer.tree(self, key, path)?;
        writer.finish(options)
    }
}

fn join(path: &mut Vec<u16>, name: &[u16]) {
    if !path.is_empty() {
        path.push(u16::from(b'\\'));
    }
    path.extend_from_slice(name);
}

struct Writer {
    out: Vec<u16>,
    version: RegVersion,
    /// Bytes of values the hive can hold beyond those written.
    left: usize,
}

impl Writer {
    fn text(&mut self, text: &str) {
        self.out.extend(text.encode_utf16());
    }

    fn tree(&mut self, hive: &Hive, top: KeyId, path: Vec<u16>) -> Result<(), Error> {
        let mut keys_left = hive.most_keys();
        let mut todo = vec![(top, path, 0usize)];
        while let Some((id, path, level)) = todo.pop() {
            let key = hive.key(id)?;
            let offset = id.0.offset();
            if level > MAX_DEPTH {
                return Err(corrupt("key", offset, format!("at most {MAX_DEPTH} levels"), level));
            }
            if path.iter().any(|unit| matches!(*unit, 0 | 0x0a | 0x0d)) {
                let value = NtName::from_units(&path).to_string();
                return Err(Error::Unsupported { what: "end of line in the name of an exported key", value });
            }
            self.text("[");
            self.out.extend_from_slice(&path);
            self.text("]\r\n");
            for value in key.values()? {
                self.value(&value?, offset)?;
            }
            self.text("\r\n");
            let mut below = Vec::new();
            for subkey in subkeys(&key, &mut keys_left, offset)? {
                let mut path = path.clone();
                join(&mut path, subkey.name().units());
                below.push((subkey.id(), path, level.saturating_add(1)));
            }
            todo.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn value(&mut self, value: &Value<'_>, offset: u64) -> Result<(), Error> {
        let data = value.data()?;
        let cost = data.bytes.len().max(MIN_VALUE_BYTES);
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            corrupt("values of key", offset, "no more data than the hive has bytes", "more")
        })?;
        let start = self.out.len();
        let name = value.name();
        if name.is_empty() {
            self.text("@");
        } else {
            self.quoted(name.units());
        }
        self.text("=");
        match (data.kind, plain_text(&data)) {
            (ValueType::SZ, Some(text)) => self.quoted(&text),
            (ValueType::DWORD, _) if data.bytes.len() == 4 => {
                self.text(&format!("dword:{:08x}", data.as_number().unwrap_or_default()));
            }
            _ => {
                let kind = data.kind;
                let prefix =
                    if kind == ValueType::BINARY { "hex:".to_owned() } else { format!("hex({:x}):", kind.0) };
                self.text(&prefix);
                let bytes = self.exact_bytes(data)?;
                self.bytes(&bytes, self.out.len().saturating_sub(start));
            }
        }
        self.text("\r\n");
        Ok(())
    }

    fn quoted(&mut self, units: &[u16]) {
        self.text("\"");
        for unit in units {
            if matches!(u8::try_from(*unit), Ok(b'"' | b'\\')) {
                self.text("\\");
            }
            self.out.push(*unit);
        }
        self.text("\"");
    }

    /// Version 4 has 8-bit text in its bytes too.
    fn exact_bytes(&self, data: Data) -> Result<Vec<u8>, Error> {
        if self.version != RegVersion::V4 || !data.kind.is_text() {
            return Ok(data.bytes);
        }
        let (pairs, odd) = data.bytes.as_chunks::<2>();
        if !odd.is_empty() {
            let value = format!("text of {} bytes", data.bytes.len());
            return Err(Error::Unsupported { what: "half a UTF-16 unit in REGEDIT4", value });
        }
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        encoding::to_ansi(&units).map_err(not_ansi)
    }

    fn bytes(&mut self, bytes: &[u8], column: usize) {
        let mut column = column;
        let mut line = String::new();
        for (index, byte) in bytes.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
            if index.saturating_add(1) < bytes.len() {
                line.push(',');
                column = column.saturating_add(3);
                if column > MAX_LINE {
                    line.push_str("\\\r\n  ");
                    column = 2;
                }
            }
        }
        self.text(&line);
    }

    fn finish(self, options: &ExportOptions) -> Result<Vec<u8>, Error> {
        match (options.version, options.encoding) {
            (RegVersion::V4, _) => encoding::to_ansi(&self.out).map_err(not_ansi),
            (RegVersion::V5, Encoding::Utf16) => {
                let mark = [0xff, 0xfe].into_iter();
                Ok(mark.chain(self.out.iter().flat_map(|unit| unit.to_le_bytes())).collect())
            }
            (RegVersion::V5, Encoding::Utf8) => Ok(NtName::from_units(&self.out).to_unix()),
        }
    }
}

fn not_ansi(unit: u16) -> Error {
    invalid("text in REGEDIT4", "letters of Windows-1252", format_args!("U+{unit:04X}"))
}

fn subkeys<'h>(key: &Key<'h>, left: &mut usize, offset: u64) -> Result<Vec<Key<'h>>, Error> {
    *left = left
        .checked_sub(key.subkey_count())
        .ok_or_else(|| corrupt("subkey count", offset, "no more keys than the hive has room for", "more"))?;
    key.subkeys()?.collect()
}

/// The text of a value when quotes can hold it exactly: one terminator, no control characters that end lines.
fn plain_text(data: &Data) -> Option<Vec<u16>> {
    let (pairs, odd) = data.bytes.as_chunks::<2>();
    let mut units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let is_terminated = units.pop() == Some(0) && odd.is_empty();
    (is_terminated && !units.iter().any(|unit| matches!(*unit, 0 | 0x0a | 0x0d))).then_some(units)
}
