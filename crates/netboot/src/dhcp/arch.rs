//! Client architectures: the numbers of option 93 (IANA "Processor Architecture Types") and what they mean for a boot file.
//!
//! Match numbers, never the names of RFC 4578: its errata swaps 7 and 9, and dnsmasq's names follow the old text.

use core::fmt;

/// A processor architecture type as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchCode(pub u16);

/// What kind of program the client can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// PC BIOS, a PXE network bootstrap program.
    Bios,
    /// 32-bit x86 UEFI.
    EfiIa32,
    /// 64-bit x86 UEFI.
    EfiX64,
    /// 32-bit Arm UEFI.
    EfiArm32,
    /// 64-bit Arm UEFI.
    EfiArm64,
    /// 64-bit RISC-V UEFI.
    EfiRiscv64,
    /// 64-bit LoongArch UEFI.
    EfiLoong64,
    /// Anything else with a number.
    Other,
}

/// How firmware of this type fetches its boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// PXE: TFTP.
    Tftp,
    /// UEFI (or BIOS) HTTP boot: a URL.
    Http,
}

struct Row(u16, Platform, Transport, &'static str);

/// The types a boot file can be had for, then those only named in the journal.
const TABLE: [Row; 28] = [
    Row(0, Platform::Bios, Transport::Tftp, "BIOS"),
    Row(6, Platform::EfiIa32, Transport::Tftp, "UEFI ia32"),
    Row(7, Platform::EfiX64, Transport::Tftp, "UEFI x64"),
    // Registered as EBC; firmware that followed the text of RFC 4578 means x64 by it.
    Row(9, Platform::EfiX64, Transport::Tftp, "UEFI x64"),
    Row(10, Platform::EfiArm32, Transport::Tftp, "UEFI arm32"),
    Row(11, Platform::EfiArm64, Transport::Tftp, "UEFI arm64"),
    Row(15, Platform::EfiIa32, Transport::Http, "UEFI ia32 HTTP"),
    Row(16, Platform::EfiX64, Transport::Http, "UEFI x64 HTTP"),
    Row(17, Platform::EfiX64, Transport::Http, "UEFI x64 HTTP"),
    Row(18, Platform::EfiArm32, Transport::Http, "UEFI arm32 HTTP"),
    Row(19, Platform::EfiArm64, Transport::Http, "UEFI arm64 HTTP"),
    Row(20, Platform::Bios, Transport::Http, "BIOS HTTP"),
    Row(27, Platform::EfiRiscv64, Transport::Tftp, "UEFI riscv64"),
    Row(28, Platform::EfiRiscv64, Transport::Http, "UEFI riscv64 HTTP"),
    Row(39, Platform::EfiLoong64, Transport::Tftp, "UEFI loongarch64"),
    Row(40, Platform::EfiLoong64, Transport::Http, "UEFI loongarch64 HTTP"),
    Row(1, Platform::Other, Transport::Tftp, "NEC PC98"),
    Row(2, Platform::Other, Transport::Tftp, "UEFI Itanium"),
    Row(12, Platform::Other, Transport::Tftp, "PowerPC Open Firmware"),
    Row(13, Platform::Other, Transport::Tftp, "PowerPC ePAPR"),
    Row(14, Platform::Other, Transport::Tftp, "PowerPC OPAL"),
    Row(21, Platform::Other, Transport::Tftp, "U-Boot arm32"),
    Row(22, Platform::Other, Transport::Tftp, "U-Boot arm64"),
    Row(23, Platform::Other, Transport::Http, "U-Boot arm32 HTTP"),
    Row(24, Platform::Other, Transport::Http, "U-Boot arm64 HTTP"),
    Row(25, Platform::Other, Transport::Tftp, "UEFI riscv32"),
    Row(26, Platform::Other, Transport::Http, "UEFI riscv32 HTTP"),
    Row(41, Platform::Other, Transport::Tftp, "Raspberry Pi boot ROM"),
];

impl ArchCode {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.0 == self.0)
    }

    /// What it runs; [`Platform::Other`] for numbers without a boot file.
    #[must_use]
    pub fn platform(self) -> Platform {
        self.row().map_or(Platform::Other, |row| row.1)
    }

    /// How it fetches, as far as the number tells.
    #[must_use]
    pub fn transport(self) -> Transport {
        self.row().map_or(Transport::Tftp, |row| row.2)
    }

    /// The numbers of option 93; a torn last byte is ignored.
    pub(crate) fn list(value: &[u8]) -> Vec<Self> {
        value.as_chunks::<2>().0.iter().map(|pair| Self(u16::from_be_bytes(*pair))).collect()
    }

    /// The number inside a vendor class such as `PXEClient:Arch:00007:UNDI:003016`, for clients without option 93.
    pub(crate) fn from_vendor_class(class: &[u8]) -> Option<Self> {
        let class = core::str::from_utf8(class).ok()?;
        let (_, rest) = class.split_once(":Arch:")?;
        rest.split(':').next()?.parse().ok().map(Self)
    }
}

impl fmt::Display for ArchCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if let Some(row) = self.row() {
            write!(f, " ({})", row.3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_firmware_means_by_them() {
        let cases = [
            (0, Platform::Bios, Transport::Tftp, "0 (BIOS)"),
            (6, Platform::EfiIa32, Transport::Tftp, "6 (UEFI ia32)"),
            (7, Platform::EfiX64, Transport::Tftp, "7 (UEFI x64)"),
            (9, Platform::EfiX64, Transport::Tftp, "9 (UEFI x64)"),
            (11, Platform::EfiArm64, Transport::Tftp, "11 (UEFI arm64)"),
            (15, Platform::EfiIa32, Transport::Http, "15 (UEFI ia32 HTTP)"),
            (16, Platform::EfiX64, Transport::Http, "16 (UEFI x64 HTTP)"),
            (19, Platform::EfiArm64, Transport::Http, "19 (UEFI arm64 HTTP)"),
            (41, Platform::Other, Transport::Tftp, "41 (Raspberry Pi boot ROM)"),
            (999, Platform::Other, Transport::Tftp, "999"),
        ];
        for (number, platform, transport, text) in cases {
            let arch = ArchCode(number);
            assert_eq!(
                (arch.platform(), arch.transport(), arch.to_string().as_str()),
                (platform, transport, text)
            );
        }
    }

    #[test]
    fn option_93_may_hold_several_and_the_vendor_class_one() {
        assert_eq!(ArchCode::list(&[0, 7, 0, 16, 3]), [ArchCode(7), ArchCode(16)]);
        assert_eq!(ArchCode::list(&[7]), []);
        assert_eq!(ArchCode::from_vendor_class(b"PXEClient:Arch:00011:UNDI:003000"), Some(ArchCode(11)));
        assert_eq!(ArchCode::from_vendor_class(b"PXEClient"), None);
        assert_eq!(ArchCode::from_vendor_class(b"PXEClient:Arch:99999:UNDI:003000"), None);
    }
}
