//! Elements: their types (what is in the number) and values.

use std::fmt;

use gravure_nttypes::{Guid, NtName};

use super::device::Device;
use super::names;
use crate::error::{Error, invalid};
use crate::value::{Data, ValueType};

/// Type of an element: class (top nibble), format (second) and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElementType(pub u32);

/// Format of an element's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementFormat {
    /// A device.
    Device,
    /// Text.
    Text,
    /// An object.
    Object,
    /// Objects in order.
    ObjectList,
    /// A 64-bit number.
    Integer,
    /// Yes or no.
    Boolean,
    /// 64-bit numbers.
    IntegerList,
    /// Anything else.
    Other,
}

impl ElementType {
    /// What its value is.
    pub fn format(self) -> ElementFormat {
        match (self.0 >> 24) & 0xf {
            1 => ElementFormat::Device,
            2 => ElementFormat::Text,
            3 => ElementFormat::Object,
            4 => ElementFormat::ObjectList,
            5 => ElementFormat::Integer,
            6 => ElementFormat::Boolean,
            7 => ElementFormat::IntegerList,
            _ => ElementFormat::Other,
        }
    }

    /// The name bcdedit has for it in an object of type `object`, when it is known.
    pub fn name(self, object: u32) -> Option<&'static str> {
        names::element_name(self.0, object)
    }

    /// From bcdedit's name for objects of type `object`, or eight hexadecimal digits.
    pub fn from_text(text: &str, object: u32) -> Option<Self> {
        if let Some(number) = names::element_number(text, object) {
            return Some(Self(number));
        }
        let is_number = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| u32::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Value of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementValue {
    /// A device.
    Device(Device),
    /// Text.
    Text(NtName),
    /// An object.
    Object(Guid),
    /// Objects in order.
    ObjectList(Vec<Guid>),
    /// A number.
    Integer(u64),
    /// Yes or no.
    Boolean(bool),
    /// Numbers.
    IntegerList(Vec<u64>),
    /// Something that does not have the format its type states: kept as it is.
    Raw(Data),
}

impl ElementValue {
    /// Reads the value of an element of type `kind`.
    pub fn parse(kind: ElementType, data: &Data) -> Self {
        let raw = || Self::Raw(data.clone());
        let is_binary = data.kind == ValueType::BINARY;
        match kind.format() {
            ElementFormat::Device if is_binary => Self::Device(Device::parse(&data.bytes)),
            ElementFormat::Text => data.as_text().map_or_else(raw, Self::Text),
            ElementFormat::Object => {
                let guid = data.as_text().and_then(|text| text.to_string().parse().ok());
                guid.map_or_else(raw, Self::Object)
            }
            ElementFormat::ObjectList => {
                let texts = data.as_multi();
                let guids: Option<Vec<Guid>> = texts
                    .map(|texts| texts.iter().map(|text| text.to_string().parse().ok()).collect())
                    .unwrap_or_default();
                guids.map_or_else(raw, Self::ObjectList)
            }
            // Stores of Windows 7 have as few bytes as the number needs.
            ElementFormat::Integer if is_binary && (1..=8).contains(&data.bytes.len()) => {
                Self::Integer(number(&data.bytes))
            }
            ElementFormat::Boolean if is_binary => match data.bytes.as_slice() {
                [0] => Self::Boolean(false),
                [1] => Self::Boolean(true),
                _ => raw(),
            },
            ElementFormat::IntegerList if is_binary && data.bytes.len().is_multiple_of(8) => {
                Self::IntegerList(data.bytes.chunks_exact(8).map(number).collect())
            }
            _ => raw(),
        }
    }

    /// As it is stored.
    pub fn to_data(&self) -> Result<Data, Error> {
        let braced = |guid: &Guid| format!("{{{guid}}}");
        Ok(match self {
            Self::Device(device) => Data::binary(device.to_bytes()?),
            Self::Text(text) => Data { kind: ValueType::SZ, bytes: crate::value::text_bytes(text) },
            Self::Object(guid) => Data::sz(&braced(guid)),
            Self::ObjectList(guids) => Data::multi_sz(guids.iter().map(braced)),
            Self::Integer(number) => Data::binary(number.to_le_bytes()),
            Self::Boolean(yes) => Data::binary([u8::from(*yes)]),
            Self::IntegerList(numbers) => {
                Data::binary(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
            }
            Self::Raw(data) => data.clone(),
        })
    }

    /// From text, for an element of type `kind`: a device as [`Device`] prints it, texts as they are, objects by
    /// GUID or name, lists with commas or blanks, numbers in decimal or with `0x`, `yes` and `no`.
    pub fn from_text(kind: ElementType, text: &str) -> Result<Self, Error> {
        let what = || format!("element {kind}");
        let number = |word: &str| {
            let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => word.parse(),
            };
            parsed.map_err(|_| invalid(what(), "a number, decimal or with 0x", word))
        };
        let object = |word: &str| {
            names::object_id(word).ok_or_else(|| invalid(what(), "a GUID or a name such as {bootmgr}", word))
        };
        let words = || text.split([',', ' ']).filter(|word| !word.is_empty());
        Ok(match kind.format() {
            ElementFormat::Device => Self::Device(text.parse::<Device>()?),
            ElementFormat::Text => Self::Text(NtName::from(text)),
            ElementFormat::Object => Self::Object(object(text)?),
            ElementFormat::ObjectList => Self::ObjectList(words().map(object).collect::<Result<_, _>>()?),
            ElementFormat::Integer => Self::Integer(number(text)?),
            ElementFormat::Boolean => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "true" | "1" => Self::Boolean(true),
                "no" | "off" | "false" | "0" => Self::Boolean(false),
                _ => return Err(invalid(what(), "yes or no", text)),
            },
            ElementFormat::IntegerList => Self::IntegerList(words().map(number).collect::<Result<_, _>>()?),
            ElementFormat::Other => {
                return Err(Error::Unsupported { what: "element format", value: kind.to_string() });
            }
        })
    }
}

/// Little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(wide)
}

impl fmt::Display for ElementValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object =
            |guid: &Guid| names::object_name(guid).map_or_else(|| format!("{{{guid}}}"), str::to_owned);
        match self {
            Self::Device(device) => write!(f, "{device}"),
            Self::Text(text) => write!(f, "{text}"),
            Self::Object(guid) => f.write_str(&object(guid)),
            Self::ObjectList(guids) => f.write_str(&guids.iter().map(object).collect::<Vec<_>>().join(",")),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Self::IntegerList(numbers) => {
                let texts: Vec<String> = numbers.iter().map(|number| format!("{number:#x}")).collect();
                f.write_str(&texts.join(","))
            }
            Self::Raw(data) => {
                write!(f, "{}:", data.kind)?;
                data.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_texts_are_two_ways() {
        for (kind, text) in [
            (0x1100_0001, "boot"),
            (0x1200_0004, "Windows 11"),
            (0x2300_0003, "{bootmgr}"),
            (0x2400_0001, "{memdiag},{733b62e5-f608-11eb-825c-c112f60133ab}"),
            (0x2500_0004, "30"),
            (0x1600_0060, "yes"),
            (0x1700_0077, "0x15000075"),
        ] {
            let kind = ElementType(kind);
            let value = ElementValue::from_text(kind, text).unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(ElementValue::parse(kind, &value.to_data().unwrap()), value);
        }
    }

    #[test]
    fn odd_values_are_kept_and_short_numbers_read() {
        let kind = ElementType(0x1500_0014);
        assert_eq!(ElementValue::parse(kind, &Data::binary([0, 0xc2, 1])), ElementValue::Integer(115_200));
        for data in [Data::binary([]), Data::binary([0; 9]), Data::dword(3)] {
            assert_eq!(ElementValue::parse(kind, &data), ElementValue::Raw(data));
        }
        let boolean = Data::binary([2]);
        assert_eq!(ElementValue::parse(ElementType(0x1600_0060), &boolean), ElementValue::Raw(boolean));
    }

    #[test]
    fn names_depend_on_the_object() {
        assert_eq!(ElementType::from_text("timeout", 0x1010_0002), Some(ElementType(0x2500_0004)));
        assert_eq!(ElementType::from_text("osdevice", 0x1020_0003), Some(ElementType(0x2100_0001)));
        assert_eq!(ElementType::from_text("nx", 0x1020_0003), Some(ElementType(0x2500_0020)));
        assert_eq!(ElementType::from_text("250000c2", 0), Some(ElementType(0x2500_00c2)));
        assert_eq!(ElementType::from_text("whatever", 0x1020_0003), None);
        assert_eq!(ElementType(0x2300_0003).name(0x1010_0002), Some("default"));
        assert_eq!(ElementType(0x2300_0003).name(0x1020_0003), Some("resumeobject"));
    }
}
