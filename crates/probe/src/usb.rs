//! USB devices: from the device descriptor (USB 2.0, 9.6.1), which sysfs shows first in `descriptors`.

use gravure_model::inventory::UsbDevice;

use crate::Error;
use crate::field::{u8_at, u16_at};

/// Length of a device descriptor.
pub const DEVICE_DESCRIPTOR_BYTES: usize = 18;
/// Type of a device descriptor.
const DEVICE: u8 = 1;

/// Reads the descriptor of the device with the kernel's bus path `path`. Its texts are not in there: the caller has
/// them from the kernel, which asked the device.
pub fn from_descriptor(path: &str, bytes: &[u8]) -> Result<UsbDevice, Error> {
    let corrupt = |offset, expected, found: String| Error::Corrupt {
        what: "USB device descriptor",
        offset,
        expected,
        found,
    };
    let short = || corrupt(0, "18 bytes", format!("{} bytes", bytes.len()));
    let bytes = bytes.get(..DEVICE_DESCRIPTOR_BYTES).ok_or_else(short)?;
    let [len, kind] = [u8_at(bytes, 0).ok_or_else(short)?, u8_at(bytes, 1).ok_or_else(short)?];
    if usize::from(len) != DEVICE_DESCRIPTOR_BYTES || kind != DEVICE {
        return Err(corrupt(0, "length 18 and type 1", format!("length {len} and type {kind}")));
    }
    let word = |at| u16_at(bytes, at).ok_or_else(short);
    Ok(UsbDevice {
        path: path.to_owned(),
        vendor: word(8)?,
        product: word(10)?,
        release: word(12)?,
        class: u8_at(bytes, 4).ok_or_else(short)?,
        name: None,
        serial: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mass storage device, 1058:2621.
    const DISK: [u8; 18] = [18, 1, 0x20, 0x03, 0, 0, 0, 9, 0x58, 0x10, 0x21, 0x26, 0x34, 0x10, 2, 3, 1, 1];

    #[test]
    fn reads_ids() {
        let device = from_descriptor("2-1.4", &DISK).unwrap();
        assert_eq!((device.vendor, device.product, device.release), (0x1058, 0x2621, 0x1034));
        assert_eq!(device.path, "2-1.4");
    }

    #[test]
    fn refuses_cuts_and_other_descriptors() {
        for len in 0..DISK.len() {
            assert!(from_descriptor("x", &DISK[..len]).is_err(), "{len}");
        }
        let mut configuration = DISK;
        configuration[1] = 2;
        let error = from_descriptor("x", &configuration).unwrap_err();
        assert!(error.to_string().contains("length 18 and type 2"), "{error}");
    }
}
