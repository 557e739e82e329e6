//! Types of values, and the bytes texts and numbers are stored as.

use std::fmt;

use gravure_nttypes::NtName;

/// Type of a value (REG_*). Unknown types are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueType(pub u32);

impl ValueType {
    /// No type.
    pub const NONE: Self = Self(0);
    /// Text.
    pub const SZ: Self = Self(1);
    /// Text with %variables%.
    pub const EXPAND_SZ: Self = Self(2);
    /// Bytes.
    pub const BINARY: Self = Self(3);
    /// 32-bit number.
    pub const DWORD: Self = Self(4);
    /// 32-bit number, big-endian.
    pub const DWORD_BIG_ENDIAN: Self = Self(5);
    /// Target of a symbolic link.
    pub const LINK: Self = Self(6);
    /// List of texts.
    pub const MULTI_SZ: Self = Self(7);
    /// Hardware resources.
    pub const RESOURCE_LIST: Self = Self(8);
    /// Hardware resources.
    pub const FULL_RESOURCE_DESCRIPTOR: Self = Self(9);
    /// Hardware resources.
    pub const RESOURCE_REQUIREMENTS_LIST: Self = Self(10);
    /// 64-bit number.
    pub const QWORD: Self = Self(11);

    const NAMES: [&'static str; 12] = [
        "REG_NONE",
        "REG_SZ",
        "REG_EXPAND_SZ",
        "REG_BINARY",
        "REG_DWORD",
        "REG_DWORD_BIG_ENDIAN",
        "REG_LINK",
        "REG_MULTI_SZ",
        "REG_RESOURCE_LIST",
        "REG_FULL_RESOURCE_DESCRIPTOR",
        "REG_RESOURCE_REQUIREMENTS_LIST",
        "REG_QWORD",
    ];

    /// From `REG_SZ`, `sz`, `0x12` or `18`.
    pub fn from_text(text: &str) -> Option<Self> {
        let wanted = text.to_ascii_uppercase();
        let bare = wanted.strip_prefix("REG_").unwrap_or(&wanted);
        let known = Self::NAMES.iter().position(|name| name.strip_prefix("REG_") == Some(bare));
        if let Some(index) = known {
            return u32::try_from(index).ok().map(Self);
        }
        match bare.strip_prefix("0X") {
            Some(hex) => u32::from_str_radix(hex, 16).ok().map(Self),
            None => bare.parse().ok().map(Self),
        }
    }

    /// True for text, with or without variables, and lists of texts.
    pub fn is_text(self) -> bool {
        matches!(self, Self::SZ | Self::EXPAND_SZ | Self::MULTI_SZ)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|index| Self::NAMES.get(index)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// Type and bytes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// What the bytes mean.
    pub kind: ValueType,
    /// As they stand in the hive.
    pub bytes: Vec<u8>,
}

impl Data {
    /// REG_SZ.
    pub fn sz(text: &str) -> Self {
        Self { kind: ValueType::SZ, bytes: text_bytes(&NtName::from(text)) }
    }

    /// REG_EXPAND_SZ.
    pub fn expand_sz(text: &str) -> Self {
        Self { kind: ValueType::EXPAND_SZ, bytes: text_bytes(&NtName::from(text)) }
    }

    /// REG_MULTI_SZ.
    pub fn multi_sz<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut bytes: Vec<u8> =
            texts.into_iter().flat_map(|text| text_bytes(&NtName::from(text.as_ref()))).collect();
        bytes.extend_from_slice(&[0, 0]);
        Self { kind: ValueType::MULTI_SZ, bytes }
    }

    /// REG_DWORD.
    pub fn dword(number: u32) -> Self {
        Self { kind: ValueType::DWORD, bytes: number.to_le_bytes().to_vec() }
    }

    /// REG_QWORD.
    pub fn qword(number: u64) -> Self {
        Self { kind: ValueType::QWORD, bytes: number.to_le_bytes().to_vec() }
    }

    /// REG_BINARY.
    pub fn binary(bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind: ValueType::BINARY, bytes: bytes.into() }
    }

    /// The text up to its terminator, for text types.
    pub fn as_text(&self) -> Option<NtName> {
        matches!(self.kind, ValueType::SZ | ValueType::EXPAND_SZ | ValueType::LINK).then(|| text(&self.bytes))
    }

    /// The texts of a list.
    pub fn as_multi(&self) -> Option<Vec<NtName>> {
        (self.kind == ValueType::MULTI_SZ).then(|| texts(&self.bytes))
    }

    /// The number, for number types of the right length.
    pub fn as_number(&self) -> Option<u64> {
        match (self.kind, self.bytes.as_slice()) {
            (ValueType::DWORD, [a, b, c, d]) => Some(u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
            (ValueType::DWORD_BIG_ENDIAN, [a, b, c, d]) => {
                Some(u64::from(u32::from_be_bytes([*a, *b, *c, *d])))
            }
            (ValueType::QWORD, bytes) => bytes.try_into().ok().map(u64::from_le_bytes),
            _ => None,
        }
    }
}

/// UTF-16LE with its terminator.
pub(crate) fn text_bytes(text: &NtName) -> Vec<u8> {
    let mut bytes = text.to_le_bytes();
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

/// UTF-16LE up to the first zero unit; a trailing odd byte is no unit.
pub(crate) fn text(bytes: &[u8]) -> NtName {
    let units: Vec<u16> = units(bytes).take_while(|unit| *unit != 0).collect();
    NtName::from_units(&units)
}

/// The texts of a list, which ends at an empty text or at the end of the bytes.
fn texts(bytes: &[u8]) -> Vec<NtName> {
    let units: Vec<u16> = units(bytes).collect();
    units.split(|unit| *unit == 0).take_while(|text| !text.is_empty()).map(NtName::from_units).collect()
}

fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_says_what_went_in() {
        assert_eq!(Data::sz("aé").as_text(), Some(NtName::from("aé")));
        assert_eq!(Data::sz("a").bytes, [0x61, 0, 0, 0]);
        let list = Data::multi_sz(["a", "bc"]);
        assert_eq!(list.as_multi(), Some(vec![NtName::from("a"), NtName::from("bc")]));
        assert_eq!(list.bytes.len(), 12);
        assert_eq!(Data::multi_sz([""; 0]).bytes, [0, 0]);
        assert_eq!(Data::dword(7).as_number(), Some(7));
        assert_eq!(Data::qword(1 << 40).as_number(), Some(1 << 40));
        let short = Data { kind: ValueType::DWORD, bytes: vec![1] };
        assert_eq!(short.as_number(), None);
    }

    #[test]
    fn types_have_names_and_numbers() {
        for (text, kind) in [("REG_SZ", 1), ("qword", 11), ("0xffff0012", 0xffff_0012), ("18", 18)] {
            assert_eq!(ValueType::from_text(text), Some(ValueType(kind)), "{text}");
        }
        assert_eq!(ValueType::from_text("REG_WHAT"), None);
        assert_eq!(ValueType(0xffff_0012).to_string(), "0xffff0012");
        assert_eq!(ValueType::MULTI_SZ.to_string(), "REG_MULTI_SZ");
    }
}
