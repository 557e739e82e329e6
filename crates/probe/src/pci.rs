//! PCI devices: from the first bytes of configuration space (PCI 3.0, 6.1) or from sysfs's attribute texts.

use gravure_model::inventory::PciDevice;

use crate::Error;
use crate::field::{array_at, u8_at, u16_at};

/// Configuration space that anybody may read; the rest wants root.
pub const HEADER_BYTES: usize = 64;

/// Texts of one device's directory in sysfs, as they are in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PciTexts<'a> {
    /// `vendor`, e.g. `0x8086`.
    pub vendor: &'a str,
    /// `device`.
    pub device: &'a str,
    /// `subsystem_vendor`; empty when absent.
    pub subsystem_vendor: &'a str,
    /// `subsystem_device`; empty when absent.
    pub subsystem_device: &'a str,
    /// `class`, e.g. `0x020000`.
    pub class: &'a str,
    /// `revision`; empty when absent.
    pub revision: &'a str,
}

/// Reads configuration space of the device at `address`. The driver is not in there.
pub fn from_config(address: &str, config: &[u8]) -> Result<PciDevice, Error> {
    let corrupt = |offset, expected, found: String| Error::Corrupt {
        what: "PCI configuration space",
        offset,
        expected,
        found,
    };
    let short = || corrupt(0, "at least 64 bytes", format!("{} bytes", config.len()));
    let header = config.get(..HEADER_BYTES).ok_or_else(short)?;
    let vendor = u16_at(header, 0x00).ok_or_else(short)?;
    if vendor == 0xffff {
        return Err(corrupt(0, "a vendor", "0xffff: no device answers".into()));
    }
    let [revision, interface, subclass, class] = array_at(header, 0x08).ok_or_else(short)?;
    // Bridges have other fields where devices have their subsystem.
    let ordinary = u8_at(header, 0x0e).is_some_and(|kind| kind & 0x7f == 0);
    let subsystem = |at| ordinary.then(|| u16_at(header, at)).flatten().unwrap_or(0);
    Ok(PciDevice {
        address: address.to_owned(),
        vendor,
        device: u16_at(header, 0x02).ok_or_else(short)?,
        subsystem_vendor: subsystem(0x2c),
        subsystem_device: subsystem(0x2e),
        class: u32::from_be_bytes([0, class, subclass, interface]),
        revision,
        driver: None,
    })
}

/// Reads the attribute texts of the device at `address`.
pub fn from_texts(address: &str, texts: PciTexts<'_>) -> Result<PciDevice, Error> {
    let id = |what, text: &str| hexadecimal(what, text, 0xffff).and_then(|value| narrow(what, value));
    let or_none = |what, text: &str| if text.trim().is_empty() { Ok(0) } else { id(what, text) };
    let revision = match texts.revision.trim() {
        "" => 0,
        text => hexadecimal("PCI revision", text, 0xff)?,
    };
    Ok(PciDevice {
        address: address.to_owned(),
        vendor: id("PCI vendor", texts.vendor)?,
        device: id("PCI device", texts.device)?,
        subsystem_vendor: or_none("PCI subsystem vendor", texts.subsystem_vendor)?,
        subsystem_device: or_none("PCI subsystem device", texts.subsystem_device)?,
        class: hexadecimal("PCI class", texts.class, 0x00ff_ffff)?,
        revision: narrow("PCI revision", revision)?,
        driver: None,
    })
}

/// Whether `text` is a PCI address as sysfs writes it: `0000:00:1f.2`, the domain of four digits or more.
pub fn is_address(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts.as_slice() else { return false };
    let lengths = domain.len() >= 4 && bus.len() == 2 && device.len() == 2 && function.len() == 1;
    lengths && parts.iter().all(|part| digits(part)) && text.matches(':').count() == 2
}

/// A number of sysfs: hexadecimal, with or without `0x`, at most `max`.
pub(crate) fn hexadecimal(what: &'static str, text: &str, max: u32) -> Result<u32, Error> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let plain = digits.bytes().all(|c| c.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, 16).ok().filter(|value| plain && *value <= max);
    value.ok_or_else(|| Error::Corrupt {
        what,
        offset: 0,
        expected: "a hexadecimal number of its width",
        found: text.chars().take(32).collect(),
    })
}

fn narrow<T: TryFrom<u32>>(what: &'static str, value: u32) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Unsupported { what, value: format!("{value:#x}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An 82540EM as QEMU shows it.
    fn card() -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..16].copy_from_slice(&[
            0x86, 0x80, 0x0e, 0x10, 0x07, 0x01, 0, 0, 0x03, 0x00, 0x00, 0x02, 0, 0, 0x00, 0,
        ]);
        bytes[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        bytes
    }

    #[test]
    fn bytes_and_texts_tell_the_same() {
        let from_bytes = from_config("0000:00:02.0", &card()).unwrap();
        let texts = PciTexts {
            vendor: "0x8086\n",
            device: "0x100e\n",
            subsystem_vendor: "0x1af4\n",
            subsystem_device: "0x1100\n",
            class: "0x020000\n",
            revision: "0x03\n",
        };
        assert_eq!(from_texts("0000:00:02.0", texts).unwrap(), from_bytes);
        assert_eq!((from_bytes.vendor, from_bytes.device, from_bytes.class), (0x8086, 0x100e, 0x02_0000));
        assert_eq!((from_bytes.subsystem_vendor, from_bytes.subsystem_device), (0x1af4, 0x1100));
    }

    #[test]
    fn a_bridge_has_no_subsystem_there() {
        let mut bytes = card();
        bytes[0x0e] = 0x81;
        assert_eq!(from_config("0000:00:01.0", &bytes).unwrap().subsystem_vendor, 0);
    }

    #[test]
    fn refuses_cut_space_absent_devices_and_odd_texts() {
        for len in 0..64 {
            assert!(from_config("x", &card()[..len]).is_err(), "{len}");
        }
        assert!(from_config("x", &[0xff; 64]).unwrap_err().to_string().contains("no device answers"));
        let good = PciTexts { vendor: "0x1", device: "0x2", class: "0x3", ..PciTexts::default() };
        assert!(from_texts("x", good).is_ok());
        for vendor in ["", "0x", "+1", "0x10000", "8086h", "-1"] {
            assert!(from_texts("x", PciTexts { vendor, ..good }).is_err(), "{vendor:?}");
        }
    }

    #[test]
    fn addresses() {
        for text in ["0000:00:1f.2", "10000:e1:00.0"] {
            assert!(is_address(text), "{text}");
        }
        for text in ["", "virtio0", "00:1f.2", "0000:00:1f:2", "0000:00:1g.2", "0000.00.1f.2", "000:00:1f.2"]
        {
            assert!(!is_address(text), "{text}");
        }
    }
}
