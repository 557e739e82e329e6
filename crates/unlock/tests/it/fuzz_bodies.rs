//! Any bytes, and real headers with bytes changed: no panic, bounded work.

use gravure_unlock::fuzz;
use proptest::prelude::*;

fn luks2_header(json: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x8000];
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    bytes[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
    bytes[72..78].copy_from_slice(b"sha256");
    bytes[4096..4096 + json.len()].copy_from_slice(json.as_bytes());
    let checksum = <sha2::Sha256 as sha2::Digest>::digest(&bytes[..0x4000]);
    bytes[448..480].copy_from_slice(&checksum);
    bytes
}

const METADATA: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":20,"hash":"sha256"},
"area":{"type":"raw","offset":"16384","size":"1280","encryption":"aes-xts-plain64","key_size":64},
"kdf":{"type":"pbkdf2","hash":"sha256","iterations":10,"salt":"AAAA"}}},"tokens":{},
"segments":{"0":{"type":"crypt","offset":"20480","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},
"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":10,"salt":"AAAA",
"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},"config":{"json_size":"12288","keyslots_size":"4096"}}"#;

fn luks1_header() -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    bytes[8..11].copy_from_slice(b"aes");
    bytes[40..51].copy_from_slice(b"xts-plain64");
    bytes[72..78].copy_from_slice(b"sha256");
    bytes[104..112].copy_from_slice(&[0, 0, 0, 16, 0, 0, 0, 64]);
    bytes[164..168].copy_from_slice(&10_u32.to_be_bytes());
    for slot in 0..8 {
        let at = 208 + slot * 48;
        bytes[at..at + 4].copy_from_slice(&0x00ac_71f3_u32.to_be_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&10_u32.to_be_bytes());
        bytes[at + 40..at + 48].copy_from_slice(&[0, 0, 0, 8, 0, 0, 0, 20]);
    }
    bytes
}

/// One protector with a clear key, whose encrypted key does not fit it.
fn bitlocker_volume() -> Vec<u8> {
    fn entry(kind: u16, value: u16, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(data.len() + 8).unwrap();
        [&len.to_le_bytes()[..], &kind.to_le_bytes(), &value.to_le_bytes(), &[1, 0], data].concat()
    }
    let properties = [entry(0, 1, &[7; 36]), entry(0, 5, &[9; 72])].concat();
    let master = entry(2, 8, &[&[1; 24][..], &[0; 4], &properties].concat());
    let entries = [master, entry(3, 5, &[5; 72]), entry(15, 15, &[0; 16])].concat();
    let mut bytes = vec![0; 0x4_0000];
    bytes[3..11].copy_from_slice(b"-FVE-FS-");
    bytes[11..13].copy_from_slice(&512_u16.to_le_bytes());
    bytes[160..176].copy_from_slice(&[
        0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01,
    ]);
    bytes[176..184].copy_from_slice(&0x1_0000_u64.to_le_bytes());
    let block = &mut bytes[0x1_0000..];
    block[..12].copy_from_slice(b"-FVE-FS-\0\0\x02\0");
    block[64..68].copy_from_slice(&u32::try_from(48 + entries.len()).unwrap().to_le_bytes());
    block[100..102].copy_from_slice(&0x8004_u16.to_le_bytes());
    block[112..112 + entries.len()].copy_from_slice(&entries);
    bytes
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::volume(&bytes);
    }

    #[test]
    fn headers_with_changes(
        which in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut bytes = match which {
            0 => luks1_header(),
            1 => {
                let mut json = METADATA.replace('\n', "").into_bytes();
                for (at, byte) in &changes {
                    let at = at.index(json.len());
                    json[at] = b' ' + byte % 95;
                }
                luks2_header(&String::from_utf8(json).unwrap())
            }
            _ => bitlocker_volume(),
        };
        if which != 1 {
            let end = if which == 0 { 592 } else { 0x1_0200 };
            for (at, byte) in &changes {
                let at = at.index(end);
                bytes[at] = *byte;
            }
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fuzz::volume(&bytes);
    }
}

#[test]
fn the_headers_are_understood_but_for_the_key() {
    for bytes in [luks1_header(), luks2_header(&METADATA.replace('\n', "")), bitlocker_volume()] {
        let limits = gravure_unlock::Limits::default();
        let key = gravure_unlock::Key::new(b"key");
        let opened = gravure_unlock::unlock(std::sync::Arc::new(bytes), &key, &limits);
        let error = opened.map(drop).unwrap_err();
        assert_eq!(error.kind(), gravure_unlock::ErrorKind::WrongKey, "{error}");
    }
}
