//! Entry points of SMBIOS (DSP0134 5.2): `_SM_` of 2.1, `_SM3_` of 3.0, and the bare `_DMI_` of older firmware, which
//! is what the kernel shows when there is nothing else.

use std::fmt;

use crate::Error;
use crate::field::u8_at;

/// Longest entry point accepted; the versions so far have 31 and 24 bytes.
const MAX_ENTRY_BYTES: usize = 64;

/// Version of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A checked entry point. Where the table lies in memory is the kernel's business and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPoint {
    /// Version of the tables.
    pub version: Version,
}

impl EntryPoint {
    /// Reads one of the three forms.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |offset, expected, found: String| Error::Corrupt {
            what: "SMBIOS entry point",
            offset,
            expected,
            found,
        };
        let byte = |at: usize| {
            u8_at(bytes, at).ok_or_else(|| corrupt(at, "another byte", format!("end at {}", bytes.len())))
        };
        if bytes.starts_with(b"_SM3_") {
            let (len, version) = (byte(6)?, Version { major: byte(7)?, minor: byte(8)? });
            check_sum(bytes, len, 0x18)?;
            return Ok(Self { version });
        }
        if bytes.starts_with(b"_SM_") {
            let (len, version) = (byte(5)?, Version { major: byte(6)?, minor: byte(7)? });
            // Version 2.1 of the specification stated 0x1e for its own 0x1f bytes, and firmware followed.
            check_sum(bytes, len, 0x1e)?;
            return Ok(Self { version });
        }
        if bytes.starts_with(b"_DMI_") {
            check_sum(bytes, 15, 15)?;
            let bcd = byte(14)?;
            return Ok(Self { version: Version { major: bcd >> 4, minor: bcd & 0x0f } });
        }
        let start: Vec<u8> = bytes.iter().copied().take(5).collect();
        Err(corrupt(0, "_SM_, _SM3_ or _DMI_", format!("{start:02x?}")))
    }
}

/// The bytes of the entry point add up to zero.
fn check_sum(bytes: &[u8], len: u8, least: usize) -> Result<(), Error> {
    let corrupt =
        |expected, found: String| Error::Corrupt { what: "SMBIOS entry point", offset: 0, expected, found };
    let len = usize::from(len);
    if len < least || len > MAX_ENTRY_BYTES {
        return Err(corrupt("a stated length of its version", format!("{len} bytes")));
    }
    let covered = bytes
        .get(..len)
        .ok_or_else(|| corrupt("as many bytes as its length states", format!("{} bytes", bytes.len())))?;
    match covered.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) {
        0 => Ok(()),
        sum => Err(corrupt("bytes that add up to 0", format!("a sum of {sum:#04x}"))),
    }
}
