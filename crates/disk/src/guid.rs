//! Partition type GUIDs, and GUIDs from their printed order. Sources: UEFI 2.10 table 5.7, the Discoverable Partitions
//! Specification, Microsoft's `PARTITION_INFORMATION_GPT`.

use gravure_nttypes::Guid;

/// EFI system partition.
pub const ESP: Guid = from_printed(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b_u128.to_be_bytes());
/// Where GRUB keeps its core image when a BIOS boots a GPT disk.
pub const BIOS_BOOT: Guid = from_printed(0x21686148_6449_6e6f_744e_656564454649_u128.to_be_bytes());
/// Linux root file system of an x86-64 machine.
pub const LINUX_ROOT_X86_64: Guid = from_printed(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709_u128.to_be_bytes());
/// Linux root file system of a 64-bit ARM machine.
pub const LINUX_ROOT_ARM64: Guid = from_printed(0xb921b045_1df0_41c3_af44_4c6f280d3fae_u128.to_be_bytes());
/// Any Linux file system.
pub const LINUX_DATA: Guid = from_printed(0x0fc63daf_8483_4772_8e79_3d69d8477de4_u128.to_be_bytes());
/// Linux swap space.
pub const LINUX_SWAP: Guid = from_printed(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f_u128.to_be_bytes());
/// Linux LVM.
pub const LINUX_LVM: Guid = from_printed(0xe6d6d379_f507_44c2_a23c_238f2a3df928_u128.to_be_bytes());
/// Microsoft reserved partition.
pub const MICROSOFT_RESERVED: Guid = from_printed(0xe3c9e316_0b5c_4db8_817d_f92df00215ae_u128.to_be_bytes());
/// Windows volume with a drive letter.
pub const MICROSOFT_DATA: Guid = from_printed(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7_u128.to_be_bytes());
/// Windows recovery environment.
pub const WINDOWS_RECOVERY: Guid = from_printed(0xde94bba4_06d1_4d40_a16a_bfd50179d6ac_u128.to_be_bytes());

/// Names for the plan's report.
const NAMES: [(Guid, &str); 10] = [
    (ESP, "EFI system"),
    (BIOS_BOOT, "BIOS boot"),
    (LINUX_ROOT_X86_64, "Linux root (x86-64)"),
    (LINUX_ROOT_ARM64, "Linux root (ARM64)"),
    (LINUX_DATA, "Linux data"),
    (LINUX_SWAP, "Linux swap"),
    (LINUX_LVM, "Linux LVM"),
    (MICROSOFT_RESERVED, "Microsoft reserved"),
    (MICROSOFT_DATA, "Microsoft data"),
    (WINDOWS_RECOVERY, "Windows recovery"),
];

/// What a partition type stands for; `None` when this crate has no name for it.
pub fn type_name(guid: Guid) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == guid).map(|(_, name)| *name)
}

/// A GUID from the bytes as they are printed: the first three fields change their byte order.
pub const fn from_printed(bytes: [u8; 16]) -> Guid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    Guid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// The bytes of a GUID as they are printed.
pub const fn to_printed(guid: Guid) -> [u8; 16] {
    from_printed(guid.0).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_print_as_the_specifications_write_them() {
        assert_eq!(ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(BIOS_BOOT.0, *b"Hah!IdontNeedEFI");
        assert_eq!(type_name(ESP), Some("EFI system"));
        assert_eq!(type_name(Guid([0; 16])), None);
        assert_eq!(from_printed(to_printed(LINUX_DATA)), LINUX_DATA);
    }
}
