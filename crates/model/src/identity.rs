//! Who a machine says it is, and how a job names machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod junk;
mod likeness;

pub use likeness::{Likeness, Verdict};

/// A MAC address; text form `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Text that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no {expected}")]
pub struct BadIdentity {
    /// What was expected, in words.
    pub expected: &'static str,
    /// The text.
    pub found: String,
}

impl FromStr for Mac {
    type Err = BadIdentity;

    /// Takes `:`, `-` or no separators, any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadIdentity { expected: "MAC address (like 52:54:00:12:34:56)", found: text.to_owned() };
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
        let separators = text.len().saturating_sub(digits.len());
        if digits.len() != 12
            || !digits.bytes().all(|c| c.is_ascii_hexdigit())
            || !matches!(separators, 0 | 5)
        {
            return Err(bad());
        }
        let value = u64::from_str_radix(&digits, 16).map_err(|_| bad())?;
        let [_, _, mac @ ..] = value.to_be_bytes();
        Ok(Self(mac))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a machine is known by. Values that identify nobody are left out by [`MachineIdentity::new`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineIdentity {
    /// SMBIOS system UUID, lower case with dashes.
    pub uuid: Option<String>,
    /// SMBIOS system serial number.
    pub serial: Option<String>,
    /// MAC addresses of all its network adapters.
    pub macs: Vec<Mac>,
    /// Serial number of its mainboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board_serial: Option<String>,
    /// Serial number of its chassis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis_serial: Option<String>,
    /// Those of `macs` whose adapters hang on USB and may be on another machine tomorrow, as the machine itself says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub movable: Vec<Mac>,
}

impl MachineIdentity {
    /// Cleans the values: trims, lower-cases the UUID, drops what identifies nobody, sorts and de-duplicates addresses.
    pub fn new(uuid: Option<&str>, serial: Option<&str>, macs: impl IntoIterator<Item = Mac>) -> Self {
        let uuid = uuid.map(|uuid| uuid.trim().to_ascii_lowercase()).filter(|uuid| !junk::is_junk_uuid(uuid));
        let mut macs: Vec<Mac> = macs.into_iter().filter(|mac| !mac.is_junk()).collect();
        macs.sort_unstable();
        macs.dedup();
        Self { uuid, serial: clean(serial), macs, ..Self::default() }
    }

    /// With the serial numbers of mainboard and chassis.
    #[must_use]
    pub fn with_serials(self, board: Option<&str>, chassis: Option<&str>) -> Self {
        Self { board_serial: clean(board), chassis_serial: clean(chassis), ..self }
    }

    /// With those of its adapters that hang on USB; others are left out.
    #[must_use]
    pub fn with_movable(self, movable: impl IntoIterator<Item = Mac>) -> Self {
        let mut movable: Vec<Mac> = movable.into_iter().filter(|mac| self.macs.contains(mac)).collect();
        movable.sort_unstable();
        movable.dedup();
        Self { movable, ..self }
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn clean(text: Option<&str>) -> Option<String> {
    text.map(str::trim).filter(|text| !junk::is_junk_text(text)).map(str::to_owned)
}

/// Which machines a job is for, as given on the command line: a MAC address, a UUID, a machine id, or `any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineSelector {
    /// Every machine, within the limits that DESIGN section 8 sets.
    Any,
    /// The machine with this adapter.
    Mac(Mac),
    /// The machine with this SMBIOS UUID (lower case).
    Uuid(String),
}

impl MachineSelector {
    /// True when a machine of this identity is meant.
    pub fn selects(&self, identity: &MachineIdentity) -> bool {
        match self {
            Self::Any => true,
            Self::Mac(mac) => identity.macs.contains(mac),
            Self::Uuid(uuid) => identity.uuid.as_ref() == Some(uuid),
        }
    }
}

impl fmt::Display for MachineSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Mac(mac) => mac.fmt(f),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

impl FromStr for MachineSelector {
    type Err = BadIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        if groups == [8, 4, 4, 4, 12] && text.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit()) {
            return Ok(Self::Uuid(text.to_ascii_lowercase()));
        }
        Err(BadIdentity { expected: "MAC address, UUID or the word any", found: text.to_owned() })
    }
}

impl Serialize for MachineSelector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MachineSelector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_forms() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for text in ["52:54:00:12:34:56", "52-54-00-12-34-56", "525400123456"] {
            assert_eq!(text.parse(), Ok(mac));
        }
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:5g", "52:5400123456", "52:54:00:12:34:56:"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn junk_identifies_nobody() {
        let id =
            MachineIdentity::new(Some("FFFFFFFF-ffff-ffff-ffff-ffffffffffff"), Some(" Default string "), []);
        assert!(id.is_empty());
        let other = MachineIdentity::new(None, None, [Mac([0; 6])]);
        assert!(other.is_empty() && !id.matches(&other));
        let kept = MachineIdentity::new(None, Some(" PF2ABCDE "), []);
        assert_eq!((kept.serial.as_deref(), kept.is_empty()), (Some("PF2ABCDE"), false));
    }

    #[test]
    fn identities_of_earlier_versions_can_be_read() {
        let old = r#"{"uuid":null,"serial":"SN1","macs":["02:00:00:00:00:01"]}"#;
        let identity: MachineIdentity = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&identity).unwrap(), old);
    }

    #[test]
    fn selectors() {
        for text in ["any", "52:54:00:12:34:56", "12345678-0000-0000-0000-000000000001"] {
            assert_eq!(text.parse::<MachineSelector>().unwrap().to_string(), text);
        }
        assert!("everything".parse::<MachineSelector>().is_err());
    }
}
