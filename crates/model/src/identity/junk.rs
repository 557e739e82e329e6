//! What stands where an identifier should: values that vendors leave in SMBIOS, and network addresses that many machines have.
//!
//! DSP0134 7.2.1 names two UUIDs that mean "not set"; the rest is what boards in the field say, collected from `dmidecode`
//! outputs, fwupd's and OCS Inventory's lists of what to leave out, and from addresses that cheap adapters share.

use super::Mac;

/// Texts that identify nobody, in lower case. Compared as a whole, after trimming.
const TEXTS: [&str; 60] = [
    "none",
    "n/a",
    "na",
    "nil",
    "null",
    "unknown",
    "unknow",
    "undefined",
    "invalid",
    "empty",
    "blank",
    "test",
    "sample",
    "serial",
    "oem",
    "o.e.m.",
    "o.e.m",
    "default",
    "default string",
    "default_string",
    "not specified",
    "not applicable",
    "not available",
    "not present",
    "not set",
    "not defined",
    "not settable",
    "no asset information",
    "no asset tag",
    "no serial",
    "no serial number",
    "no enclosure",
    "to be filled",
    "to be filled by oem",
    "to be filled by o.e.m",
    "to be filled by o.e.m.",
    "filled by oem",
    "fill by oem",
    "serial number",
    "serialnumber",
    "serial_number",
    "asset tag",
    "asset-1234567890",
    "base board serial number",
    "baseboard serial number",
    "board serial number",
    "mb-1234567890",
    "mainboard serial number",
    "motherboard serial number",
    "chassis serial number",
    "chassis serial#",
    "system product name",
    "system name",
    "system manufacturer",
    "system version",
    "system serial number",
    "system serial#",
    "system_serial_number",
    "sys-1234567890",
    "evaluation board",
];

/// UUIDs that whole series of boards have, without the one-digit ones that [`is_filler`] finds.
const UUIDS: [&str; 8] = [
    // AMI's sample values: boards of many makers.
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "03020100-0504-0706-0809-0a0b0c0d0e0f",
    "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "78563412-3412-7856-90ab-cddeefaabbcc",
    "12345678-1234-1234-1234-123456789abc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
];

/// Addresses that many adapters have. A machine can be named by one, and is not recognised by it.
const ADDRESSES: [[u8; 6]; 7] = [
    [0x00, 0x01, 0x02, 0x03, 0x04, 0x05],
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55],
    [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc],
    [0x00, 0x12, 0x34, 0x56, 0x78, 0x90],
    // Given out by systems in place of the real one.
    [0x02, 0x00, 0x00, 0x00, 0x00, 0x00],
    // The adapter inside a Mac that leads to its own T1 or T2 chip: the same in every Mac.
    [0xac, 0xde, 0x48, 0x00, 0x11, 0x22],
    [0xac, 0xde, 0x48, 0x33, 0x44, 0x55],
];

/// Makers whose addresses are on USB adapters and docks, which move from machine to machine.
const ADAPTER_MAKERS: [[u8; 3]; 15] = [
    [0x00, 0x05, 0x1b], // Magic Control Technology
    [0x00, 0x0e, 0xc6], // ASIX
    [0x00, 0x13, 0x3b], // Speed Dragon Multimedia
    [0x00, 0x24, 0x9b], // Action Star
    [0x00, 0x50, 0xb6], // Good Way: docks of several brands
    [0x00, 0x60, 0x6e], // Davicom
    [0x00, 0xe0, 0x4c], // Realtek's own, on adapters without a maker's
    [0x3c, 0x18, 0xa0], // Luxshare: docks of Lenovo and others
    [0x64, 0x4b, 0xf0], // CalDigit
    [0x8c, 0xae, 0x4c], // Plugable
    [0x9c, 0xeb, 0xe8], // BizLink: Dell's docks and dongles
    [0xa0, 0xce, 0xc8], // CE LINK: USB-C hubs
    [0xf4, 0x4d, 0xad], // Cable Matters
    [0xf8, 0xe4, 0x3b], // ASIX
    [0x00, 0x0a, 0xcd], // Sunrich: StarTech's adapters
];

/// Whether a serial number is none.
pub(super) fn is_junk_text(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    TEXTS.contains(&text.as_str()) || is_filler(&text)
}

/// Whether a UUID (lower case) is that of a series, or none.
pub(super) fn is_junk_uuid(uuid: &str) -> bool {
    let uuid = uuid.trim().to_ascii_lowercase();
    UUIDS.contains(&uuid.as_str()) || is_junk_text(&uuid)
}

/// Nothing but one character over and over (zeros, `F`, `X`, dots), or digits that count up from the first: `123456789`.
fn is_filler(text: &str) -> bool {
    let mut signs = text.bytes().filter(u8::is_ascii_alphanumeric).peekable();
    let Some(first) = signs.peek().copied() else { return true };
    let signs: Vec<u8> = signs.collect();
    if signs.iter().all(|sign| *sign == first) {
        return true;
    }
    let counts_up = |pair: &[u8]| match *pair {
        [one, next] => next == one.saturating_add(1) || (one == b'9' && next == b'0'),
        _ => false,
    };
    signs.len() >= 4
        && matches!(first, b'0' | b'1')
        && signs.iter().all(u8::is_ascii_digit)
        && signs.windows(2).all(counts_up)
}

impl Mac {
    /// Whether this address identifies no adapter at all.
    pub fn is_junk(self) -> bool {
        let [first, ..] = self.0;
        // Of a group, which is no adapter's, or one number over and over, such as zeros.
        first & 1 == 1 || self.0.iter().all(|byte| *byte == first)
    }

    /// Whether several machines may have this address: the adapter is of a maker of USB adapters and docks, and so may hang on
    /// another machine tomorrow, or the address is one that makers leave on many.
    pub fn is_of_shared_adapter(self) -> bool {
        let [a, b, c, ..] = self.0;
        ADAPTER_MAKERS.contains(&[a, b, c]) || ADDRESSES.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vendors_leave_identifies_nobody_and_real_serials_do() {
        let junk = [
            "",
            "  ",
            "0",
            "00000000",
            "XXXXXXXXXX",
            "xxxxxxx",
            "........",
            "-",
            "FFFFFFFF",
            "123456789",
            "0123456789",
            "1234567890",
            "12345678901234567890",
            "1234",
            "01234567",
            "System Product Name",
            "Chassis Serial Number",
            "To be filled by O.E.M.",
            "To Be Filled By O.E.M.",
            "Default string",
            "System Serial Number",
            "Not Specified",
            "None",
            "INVALID",
            "MB-1234567890",
        ];
        for text in junk {
            assert!(is_junk_text(text), "{text:?}");
        }
        for text in
            ["PF2ABCDE", "5CG1234ABC", "SN1", "1111112", "12345679", "4321", "J0W3RZ2", "10", "VMware-1"]
        {
            assert!(!is_junk_text(text), "{text:?}");
        }
    }

    #[test]
    fn uuids_of_series_identify_nobody() {
        let junk = [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "11111111-1111-1111-1111-111111111111",
            "Not Settable",
            "12345678-1234-5678-90AB-CDDEEFAABBCC",
        ];
        for uuid in junk {
            assert!(is_junk_uuid(uuid), "{uuid}");
        }
        for uuid in ["12345678-0000-0000-0000-000000000001", "4c4c4544-0042-3510-8052-b4c04f4d3232"] {
            assert!(!is_junk_uuid(uuid), "{uuid}");
        }
    }

    #[test]
    fn addresses_of_many_and_of_adapters_that_move() {
        let cases = [
            ("00:00:00:00:00:00", true, false),
            ("ff:ff:ff:ff:ff:ff", true, false),
            ("ac:de:48:00:11:22", false, true),
            ("00:11:22:33:44:55", false, true),
            ("01:00:5e:00:00:01", true, false),
            ("00:e0:4c:68:01:ff", false, true),
            ("9c:eb:e8:12:34:56", false, true),
            ("52:54:00:12:34:56", false, false),
            ("02:00:00:00:00:01", false, false),
        ];
        for (text, junk, shared) in cases {
            let mac: Mac = text.parse().unwrap();
            assert_eq!((mac.is_junk(), mac.is_of_shared_adapter()), (junk, shared), "{text}");
        }
    }
}
