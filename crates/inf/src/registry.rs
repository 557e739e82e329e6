//! `AddReg` and `DelReg`: registry entries of an installation (WDD "inf-addreg-directive", "inf-delreg-directive").

use serde::Serialize;

use crate::inf::Inf;
use crate::lines::Line;

/// Bits of the flags field that are not the type.
pub mod flags {
    /// Data in hexadecimal bytes, or a number.
    pub const BINARY: u32 = 0x1;
    /// Leave a value that is there.
    pub const NO_CLOBBER: u32 = 0x2;
    /// Delete the value, or the key when none is named.
    pub const DELETE: u32 = 0x4;
    /// Append to a list of texts what it lacks.
    pub const APPEND: u32 = 0x8;
    /// Make the key, no value.
    pub const KEY_ONLY: u32 = 0x10;
    /// Set a value only when it is there.
    pub const OVERWRITE_ONLY: u32 = 0x20;
    /// 64-bit view of the registry.
    pub const VIEW_64: u32 = 0x1000;
    /// 32-bit view of the registry.
    pub const VIEW_32: u32 = 0x4000;
}

/// Type bits of the flags: the low one says binary, the upper half the registry's type.
const TYPE_MASK: u32 = 0xffff_0001;

/// Root of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Root {
    /// `HKR`: the key of the device, driver or service that the section is for.
    #[serde(rename = "HKR")]
    Relative,
    /// `HKLM`.
    #[serde(rename = "HKLM")]
    LocalMachine,
    /// `HKCR`.
    #[serde(rename = "HKCR")]
    ClassesRoot,
    /// `HKCU`.
    #[serde(rename = "HKCU")]
    CurrentUser,
    /// `HKU`.
    #[serde(rename = "HKU")]
    Users,
}

impl Root {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "HKR" => Self::Relative,
            "HKLM" | "HKEY_LOCAL_MACHINE" => Self::LocalMachine,
            "HKCR" | "HKEY_CLASSES_ROOT" => Self::ClassesRoot,
            "HKCU" | "HKEY_CURRENT_USER" => Self::CurrentUser,
            "HKU" | "HKEY_USERS" => Self::Users,
            _ => return None,
        })
    }
}

/// Data of a value, by the registry's types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "data")]
pub enum RegData {
    /// `REG_SZ`.
    Sz(String),
    /// `REG_EXPAND_SZ`.
    ExpandSz(String),
    /// `REG_MULTI_SZ`.
    MultiSz(Vec<String>),
    /// `REG_DWORD`.
    Dword(u32),
    /// `REG_QWORD`.
    Qword(u64),
    /// `REG_BINARY`.
    Binary(Vec<u8>),
    /// Any other type number.
    Other(u32, Vec<u8>),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegEntry {
    /// Where `key` starts.
    pub root: Root,
    /// Path of the key; may be empty.
    pub key: String,
    /// Name of the value; empty is the default value.
    pub value: String,
    /// Flags without the type: see [`flags`].
    pub flags: u32,
    /// Data; `None` when the entry deletes or is for the key only.
    pub data: Option<RegData>,
    /// One-based line.
    pub line: u32,
}

/// Why an entry cannot be understood.
pub(crate) type Problem = String;

impl Inf {
    /// A line of an `AddReg` section.
    pub(crate) fn add_reg(&self, line: &Line) -> Result<RegEntry, Problem> {
        let field = |index: usize| self.value(line, index).into_owned();
        let root = field(0);
        let root = Root::parse(root.trim()).ok_or_else(|| {
            format!(
                "registry entry: expected HKR, HKLM, HKCR, HKCU or HKU, found \"{}\"",
                crate::error::shown(&root)
            )
        })?;
        let text = field(3);
        let all = match text.trim() {
            "" => 0,
            text => number(text)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| expected("flags of a registry entry", "a number", text))?,
        };
        let kind = all & TYPE_MASK;
        let flags = all & !TYPE_MASK;
        let data =
            if flags & (flags::DELETE | flags::KEY_ONLY) != 0 { None } else { Some(self.data(line, kind)?) };
        Ok(RegEntry { root, key: field(1), value: field(2), flags, data, line: line.number })
    }

    fn data(&self, line: &Line, kind: u32) -> Result<RegData, Problem> {
        let fields: Vec<String> =
            (4..line.values.len()).map(|index| self.value(line, index).into_owned()).collect();
        let text = || fields.first().cloned().unwrap_or_default();
        Ok(match kind {
            0 => RegData::Sz(text()),
            0x1_0000 => RegData::MultiSz(fields.into_iter().filter(|text| !text.is_empty()).collect()),
            0x2_0000 => RegData::ExpandSz(text()),
            flags::BINARY => RegData::Binary(bytes(&fields)?),
            0x1_0001 => RegData::Dword(match bytes_or_number(&fields, 4)? {
                Ok(bytes) => bytes.try_into().map_or(0, u32::from_le_bytes),
                // A negative number is its bits.
                Err(number) => u32::try_from(number & 0xffff_ffff).unwrap_or(0),
            }),
            0xb_0001 => RegData::Qword(match bytes_or_number(&fields, 8)? {
                Ok(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
                Err(number) => number,
            }),
            0x2_0001 => RegData::Other(0, bytes(&fields)?),
            kind if kind & flags::BINARY != 0 => RegData::Other(kind >> 16, bytes(&fields)?),
            kind => return Err(expected("type of a registry entry", "a known type", &format!("{kind:#x}"))),
        })
    }
}

fn expected(what: &str, expected: &str, found: &str) -> Problem {
    format!("{what}: expected {expected}, found \"{}\"", crate::error::shown(found))
}

/// Bytes in hexadecimal, a byte a field; some files have them without commas, or with `0x`.
fn bytes(fields: &[String]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    for field in fields.iter().map(|field| field.trim()).filter(|field| !field.is_empty()) {
        let digits = field.strip_prefix("0x").or_else(|| field.strip_prefix("0X")).unwrap_or(field);
        let bad = || expected("data of a registry entry", "hexadecimal bytes", field);
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        match digits.len() {
            1 | 2 => out.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?),
            len if len % 2 == 0 => {
                for at in (0..len).step_by(2) {
                    let pair = digits.get(at..at.saturating_add(2)).ok_or_else(bad)?;
                    out.push(u8::from_str_radix(pair, 16).map_err(|_| bad())?);
                }
            }
            _ => return Err(bad()),
        }
    }
    Ok(out)
}

/// `len` bytes, one a field, lowest first; or one number in one field. None at all is 0.
fn bytes_or_number(fields: &[String], len: usize) -> Result<Result<Vec<u8>, u64>, Problem> {
    let end =
        fields.iter().rposition(|field| !field.trim().is_empty()).map_or(0, |last| last.saturating_add(1));
    match fields.get(..end).unwrap_or_default() {
        [] => Ok(Err(0)),
        [text] => {
            number(text.trim()).map(Err).ok_or_else(|| expected("data of a registry entry", "a number", text))
        }
        fields => {
            let mut bytes = bytes(fields)?;
            if bytes.len() > len {
                let found = format!("{} bytes", bytes.len());
                return Err(expected("data of a registry entry", &format!("at most {len} bytes"), &found));
            }
            bytes.resize(len, 0);
            Ok(Ok(bytes))
        }
    }
}

/// A number: decimal, or hexadecimal with `0x`; negative ones as their 64 bits.
pub(crate) fn number(text: &str) -> Option<u64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match hexadecimal {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()?
        }
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<RegEntry, Problem> {
        let text = format!("[Version]\nSignature=$Chicago$\n[A]\n{text}\n[Strings]\nD=0x00010001\nt=Text\n");
        let inf = Inf::parse(text.as_bytes()).unwrap();
        inf.add_reg(&inf.section("A").unwrap().lines[0])
    }

    #[test]
    fn data_of_every_type() {
        let texts = |list: &[&str]| RegData::MultiSz(list.iter().map(|text| (*text).to_owned()).collect());
        let cases = [
            ("HKR,,V,,%t%", RegData::Sz("Text".into())),
            ("HKR,,V", RegData::Sz(String::new())),
            ("HKR,,V,0,\" a b \"", RegData::Sz(" a b ".into())),
            ("HKR,,V,0x10000,a,,b", texts(&["a", "b"])),
            ("HKR,,V,0x20000,%%SystemRoot%%\\x", RegData::ExpandSz("%SystemRoot%\\x".into())),
            ("HKR,,V,1,01,2,fF", RegData::Binary(vec![1, 2, 0xff])),
            ("HKR,,V,1,0102ff", RegData::Binary(vec![1, 2, 0xff])),
            ("HKR,,V,1", RegData::Binary(vec![])),
            ("HKR,,V,%D%,7", RegData::Dword(7)),
            ("HKR,,V,%D%,0x1F4", RegData::Dword(500)),
            ("HKR,,V,%D%,-1", RegData::Dword(u32::MAX)),
            ("HKR,,V,65537,1,0,2,0", RegData::Dword(0x0002_0001)),
            ("HKR,,V,%D%,1,,,", RegData::Dword(1)),
            ("HKR,,V,%D%", RegData::Dword(0)),
            ("HKR,,V,0xB0001,0x100000000", RegData::Qword(1 << 32)),
            ("HKR,,V,0x20001,1", RegData::Other(0, vec![1])),
            ("HKR,,V,0x80001,1", RegData::Other(8, vec![1])),
        ];
        for (text, expected) in cases {
            assert_eq!(entry(text).unwrap().data, Some(expected), "{text}");
        }
    }

    #[test]
    fn places_flags_and_what_is_wrong() {
        let found = entry("hklm,\"SYSTEM\\X\",Name,0x00010003,1").unwrap();
        assert_eq!(
            (found.root, found.key.as_str(), found.value.as_str()),
            (Root::LocalMachine, "SYSTEM\\X", "Name")
        );
        assert_eq!((found.flags, found.line), (flags::NO_CLOBBER, 4));
        assert_eq!(entry("HKR,Key,,0x10").unwrap().data, None);
        for (text, message) in [
            ("HKX,a", "expected HKR, HKLM, HKCR, HKCU or HKU, found \"HKX\""),
            ("HKR,,V,%nope%,1", "expected a number, found \"%nope%\""),
            ("HKR,,V,1,xy", "expected hexadecimal bytes, found \"xy\""),
            ("HKR,,V,1,123", "expected hexadecimal bytes, found \"123\""),
            ("HKR,,V,%D%,1,2,3,4,5", "expected at most 4 bytes, found \"5 bytes\""),
            ("HKR,,V,0x30000,1", "expected a known type, found \"0x30000\""),
        ] {
            let error = entry(text).unwrap_err();
            assert!(error.ends_with(message), "{text}: {error}");
        }
    }
}
