//! Made-up tables: every type, damage, limits.

use super::*;
use crate::fuzz::entry_point;

/// A structure: type, formatted bytes after the header, strings.
fn structure(kind: u8, handle: u16, body: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut out = vec![kind, u8::try_from(body.len() + 4).unwrap()];
    out.extend(handle.to_le_bytes());
    out.extend(body);
    for text in strings {
        out.extend(text.as_bytes());
        out.push(0);
    }
    out.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
    out
}

const UUID: [u8; 16] =
    [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn system_body(uuid: [u8; 16]) -> Vec<u8> {
    [&[1, 2, 0, 3][..], &uuid, &[6, 0, 4]].concat()
}

/// A memory device of `size` (raw field) in array `array`.
fn device(array: u16, size: u16, extended: u32) -> Vec<u8> {
    let mut body = vec![0; 0x5c - 4];
    body[0..2].copy_from_slice(&array.to_le_bytes());
    body[8..10].copy_from_slice(&size.to_le_bytes());
    body[0x0c] = 1;
    body[0x11..0x13].copy_from_slice(&3200u16.to_le_bytes());
    body[0x13] = 2;
    body[0x18..0x1c].copy_from_slice(&extended.to_le_bytes());
    body[0x1c..0x1e].copy_from_slice(&2933u16.to_le_bytes());
    structure(17, 0x1100, &body, &["DIMM A1", "Maker"])
}

fn table() -> Vec<u8> {
    let mut bios = vec![1, 2, 0, 0, 3, 0];
    bios.resize(0x18 - 4, 0);
    bios[0x10] = 1;
    bios[0x11] = 27;
    let mut processor = vec![0; 0x30 - 4];
    processor[0x01] = 3;
    processor[0x03] = 1;
    processor[0x0c] = 2;
    processor[0x14] = 0x41;
    processor[0x1f] = 0xff;
    processor[0x21] = 8;
    processor[0x26..0x28].copy_from_slice(&300u16.to_le_bytes());
    let mut empty_socket = processor.clone();
    empty_socket[0x14] = 0;
    [
        structure(0, 0, &bios, &["LENOVO", "N2HET60W (1.43 )", "04/01/2021"]),
        structure(1, 1, &system_body(UUID), &["LENOVO", "20QNCTO1WW", " PF1ABCDE ", "ThinkPad"]),
        structure(2, 2, &[1, 2, 0, 3], &["LENOVO", "Board", "SN"]),
        structure(2, 3, &[1, 2, 0, 3], &["second", "board", "SN2"]),
        structure(3, 4, &[1, 0x8a, 0, 2, 3], &["LENOVO", "CS", "Tag\u{7}7"]),
        structure(4, 5, &processor, &["Intel", "Big CPU"]),
        structure(4, 6, &empty_socket, &["Intel", "nothing"]),
        device(0x1000, 0x4000, 0),
        device(0x1000, 0x7fff, 0x8001_0000),
        device(0x1000, 0x8400, 0),
        device(0x1000, 0, 0),
        device(0x2000, 16, 0),
        structure(16, 0x1000, &[3, 3, 3], &[]),
        structure(16, 0x2000, &[3, 5, 3], &[]),
        structure(127, 0xfeff, &[], &[]),
        b"behind the end".to_vec(),
    ]
    .concat()
}

#[test]
fn reads_every_type() {
    let tables = parse(&entry_point(3, 2), &table()).unwrap();
    assert_eq!(tables.damage, None);
    let smbios = &tables.smbios;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(smbios.version, some("3.2"));
    assert_eq!((&smbios.bios.version, &smbios.bios.release), (&some("N2HET60W (1.43 )"), &some("1.27")));
    assert_eq!((&smbios.system.product, &smbios.system.serial), (&some("20QNCTO1WW"), &some("PF1ABCDE")));
    assert_eq!((&smbios.system.family, &smbios.system.version), (&some("ThinkPad"), &None));
    assert_eq!(smbios.system.uuid, some("00112233-4455-6677-8899-aabbccddeeff"));
    assert_eq!(smbios.board.product, some("Board"), "the first board");
    assert_eq!((smbios.chassis.type_code, &smbios.chassis.asset_tag), (Some(10), &some("Tag 7")));
    let [cpu] = tables.processors.as_slice() else { panic!("{:?}", tables.processors) };
    assert_eq!((cpu.cores, cpu.threads, cpu.version.as_deref()), (300, 8, Some("Big CPU")));
    let sizes: Vec<u64> = tables.modules.iter().map(|module| module.size_bytes).collect();
    assert_eq!(sizes, [16 << 30, 64 << 30, 1 << 20], "empty slots and the flash array are left out");
    assert_eq!(
        (tables.modules[0].speed_mts, tables.modules[0].locator.as_deref()),
        (Some(2933), Some("DIMM A1"))
    );
}

#[test]
fn uuid_fields_are_big_endian_before_2_6_and_junk_is_none() {
    let read = |major, minor, uuid| {
        let bytes = structure(1, 1, &system_body(uuid), &["a", "b", "c", "d"]);
        parse(&entry_point(major, minor), &bytes).unwrap().smbios.system.uuid
    };
    assert_eq!(read(2, 5, UUID).as_deref(), Some("33221100-5544-7766-8899-aabbccddeeff"));
    assert_eq!(read(2, 6, UUID).as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
    assert_eq!((read(2, 8, [0; 16]), read(2, 8, [0xff; 16])), (None, None));
}

#[test]
fn entry_points_of_all_kinds() {
    let mut old = [0u8; 31];
    old[..8].copy_from_slice(&[b'_', b'S', b'M', b'_', 0, 31, 2, 8]);
    let sum = old.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    old[4] = 0u8.wrapping_sub(sum);
    assert_eq!(EntryPoint::parse(&old).unwrap().version, Version { major: 2, minor: 8 });
    let mut bare = *b"_DMI_\0\0\0\0\0\0\0\0\0\x23";
    bare[5] = 0u8.wrapping_sub(bare.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    assert_eq!(EntryPoint::parse(&bare).unwrap().version, Version { major: 2, minor: 3 });
    assert_eq!(EntryPoint::parse(&entry_point(3, 6)).unwrap().version.to_string(), "3.6");
    for good in [&old[..], &bare, &entry_point(3, 0)] {
        for len in 0..good.len() {
            assert!(EntryPoint::parse(&good[..len]).is_err(), "cut at {len}");
        }
        let mut bad = good.to_vec();
        bad[good.len() - 1] ^= 1;
        assert!(EntryPoint::parse(&bad).unwrap_err().to_string().contains("add up to 0"));
    }
    assert!(EntryPoint::parse(b"_XX_").unwrap_err().to_string().contains("_SM3_"));
}

#[test]
fn what_stands_before_the_damage_is_kept() {
    let full = table();
    let whole = parse(&entry_point(3, 2), &full).unwrap();
    let end = full.len() - "behind the end".len() - 6;
    for len in 0..end {
        let cut = parse(&entry_point(3, 2), &full[..len]).unwrap();
        assert!(whole.modules.starts_with(&cut.modules) || cut.modules.len() > whole.modules.len(), "{len}");
        if let Some(serial) = cut.smbios.system.serial {
            assert_eq!(serial, "PF1ABCDE");
        }
    }
    let short = structure(1, 1, &system_body(UUID), &["a"]);
    let bad = [&short[..], &[9, 2, 0, 0]].concat();
    let tables = parse(&entry_point(3, 2), &bad).unwrap();
    assert!(tables.smbios.system.uuid.is_some());
    let damage = tables.damage.unwrap().to_string();
    assert_eq!(
        damage,
        format!("SMBIOS structure at {:#x}: expected a length of at least 4, found 2", short.len())
    );
}

#[test]
fn refuses_a_table_over_the_limit_and_counts_structures() {
    assert!(parse(&entry_point(3, 2), &vec![0; MAX_TABLE_BYTES + 1]).is_err());
    let many = structure(200, 0, &[], &[]).repeat(MAX_STRUCTURES + 1);
    let tables = parse(&entry_point(3, 2), &many).unwrap();
    assert!(tables.damage.unwrap().to_string().contains("more than 8192"));
}
