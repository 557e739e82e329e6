//! Signatures made by hand; those of real tools are in `tests/it/recognise_oracles.rs`.

use super::*;

fn volume(len: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, field) in fields {
        bytes[*at..*at + field.len()].copy_from_slice(field);
    }
    bytes
}

fn one(bytes: &[u8]) -> Found {
    let all = recognise(&bytes).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

#[test]
fn nothing_is_found_in_nothing() {
    for len in [0, 1, 511, 512, 4096, 1 << 20] {
        assert_eq!(recognise(&vec![0; len]).unwrap(), [], "{len}");
        assert_eq!(recognise(&vec![0xff; len]).unwrap(), [], "{len}");
    }
}

#[test]
fn raid_is_found_at_both_ends() {
    let id = [0x11; 16];
    let name = b"host:0";
    for at in [0, 4096, (1 << 20) - 8192] {
        let bytes = volume(1 << 20, &[(at, &RAID_MAGIC), (at + 4, &[1]), (at + 16, &id), (at + 32, name)]);
        let found = one(&bytes);
        assert_eq!((found.kind, found.label.as_deref()), (FoundKind::Raid, Some("host:0")), "{at:#x}");
        assert_eq!(found.uuid.unwrap(), "11111111-1111-1111-1111-111111111111");
    }
    // 0.90 lies in the last whole 64 KiB block, also when the size is no multiple.
    let bytes = volume((1 << 20) + 5000, &[((1 << 20) - 65536, &RAID_MAGIC)]);
    assert_eq!(one(&bytes).kind, FoundKind::Raid);
}

#[test]
fn windows_volumes_are_told_apart() {
    let ntfs = volume(8192, &[(3, b"NTFS    "), (0x48, &0x0123_4567_89ab_cdef_u64.to_le_bytes())]);
    assert_eq!(one(&ntfs).to_string(), "NTFS 0123456789ABCDEF");
    let exfat = volume(8192, &[(3, b"EXFAT   "), (0x64, &0xdead_beef_u32.to_le_bytes())]);
    assert_eq!(one(&exfat).to_string(), "exFAT DEAD-BEEF");
    let bitlocker = volume(8192, &[(3, b"-FVE-FS-"), (0x1fe, &[0x55, 0xaa])]);
    assert_eq!(one(&bitlocker).to_string(), "BitLocker");
    let refs = volume(8192, &[(0, b"\0\0\0ReFS\0")]);
    assert_eq!(one(&refs).kind, FoundKind::Refs);
}

#[test]
fn lvm_ids_are_grouped_as_its_tools_print_them() {
    let id = b"abcdefghijklmnopqrstuvwxyz012345";
    let fields: [(usize, &[u8]); 4] =
        [(512, b"LABELONE"), (512 + 20, &[32, 0, 0, 0]), (512 + 24, b"LVM2 001"), (512 + 32, id)];
    assert_eq!(one(&volume(8192, &fields)).to_string(), "LVM abcdef-ghij-klmn-opqr-stuv-wxyz-012345");
    // An offset that leaves the sector costs the id only.
    let fields: [(usize, &[u8]); 3] = [(0, b"LABELONE"), (20, &[0xff, 0xff, 0, 0]), (24, b"LVM2 001")];
    assert_eq!(one(&volume(8192, &fields)).to_string(), "LVM");
}

#[test]
fn luks_zfs_and_the_plain_ones() {
    let luks = volume(8192, &[(0, b"LUKS\xba\xbe\0\x02"), (24, b"secret"), (168, b"0a-1b")]);
    assert_eq!(one(&luks).to_string(), "LUKS \"secret\" 0a-1b");
    let zfs = volume(1 << 20, &[((128 << 10) + 5 * 1024, &0x00ba_b10c_u64.to_be_bytes())]);
    assert_eq!(one(&zfs).kind, FoundKind::Zfs);
    for (at, magic, kind) in [
        (0, &b"hsqs"[..], FoundKind::SquashFs),
        (0x20, b"NXSB", FoundKind::Apfs),
        (0x400, b"H+\0\x04", FoundKind::HfsPlus),
        (0x400, &[0x10, 0x20, 0xf5, 0xf2], FoundKind::F2fs),
        (0x8001, b"CD001", FoundKind::Iso9660),
        (4086, b"SWAPSPACE2", FoundKind::Swap),
        (65526, b"SWAPSPACE2", FoundKind::Swap),
    ] {
        assert_eq!(one(&volume(1 << 17, &[(at, magic)])).kind, kind);
    }
}

#[test]
fn several_finds_are_all_named() {
    let both = volume(1 << 20, &[(0, b"XFSB"), (4086, b"SWAPSPACE2")]);
    let kinds: Vec<_> = recognise(&both).unwrap().iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [FoundKind::Xfs, FoundKind::Swap]);
}

#[test]
fn labels_from_outside_cannot_drive_a_terminal() {
    let bytes = volume(8192, &[(0, b"XFSB"), (108, b"a\x1b[31m\xff")]);
    assert_eq!(one(&bytes).label.as_deref(), Some("a[31m\u{fffd}"));
}
