//! The fuzz bodies as plain tests: seeds that are valid, cut at every byte, flipped and random.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::sync::LazyLock;

use crate::support::{editor, empty, saved, security};
use gravure_hive::{Data, Hive, check, fuzz};
use gravure_nttypes::NtName;
use gravure_testkit::Random;
use proptest::prelude::*;

/// Small hives with everything in them, of every version.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (3..=6)
        .map(|minor| {
            let mut editor = editor(&empty(minor));
            for n in 0..12 {
                let key = editor
                    .create(&format!("Objects\\{{0ce4991b-e6b3-4b16-b23c-5e0d925{n:05x}}}\\Elements"))
                    .unwrap();
                let name = NtName::from(format!("wert {n}Ж").as_str());
                editor.set_value(key, &name, &Data::sz("text")).unwrap();
                editor.set_value(key, &NtName::default(), &Data::binary(vec![n; 3])).unwrap();
            }
            let key = editor.create("Description").unwrap();
            editor.set_class(key, &NtName::from("class")).unwrap();
            editor.set_value(key, &NtName::from("big"), &Data::binary(vec![9; 17_000])).unwrap();
            let mut other = security();
            other.control = 0x400;
            editor.set_security(key, &other.to_bytes().unwrap()).unwrap();
            saved(editor).as_bytes().to_vec()
        })
        .collect()
});

/// Flips a bit, or puts an interesting number of 1 to 4 bytes somewhere.
fn damage(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = usize::try_from(random.below(out.len() as u64)).unwrap();
        if random.once_in(2) {
            out[at] ^= 1 << random.below(8);
            continue;
        }
        let numbers = [0, 1, 7, 8, 32, 0x7f, 0xff, 0xfff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        let number = random.pick(&numbers).unwrap().to_le_bytes();
        let len = *random.pick(&[1usize, 2, 4]).unwrap();
        let aligned = at & !(len - 1);
        out.iter_mut().skip(aligned).zip(&number[..len]).for_each(|(to, from)| *to = *from);
    }
    out
}

#[test]
fn any_cut_of_a_hive_is_an_error() {
    for seed in SEEDS.iter() {
        fuzz::hive(seed);
        assert!(check(&Hive::parse(seed.clone()).unwrap()).is_sound());
        for len in (0..4096).chain((4096..seed.len()).step_by(97)) {
            assert!(Hive::parse(&seed[..len]).is_err(), "{len}");
        }
    }
}

#[test]
fn hives_with_flipped_bits_and_numbers() {
    let mut random = Random::new(21);
    for seed in SEEDS.iter() {
        // Cells before the big value, where the structures are.
        for _ in 0..350 {
            let mut bytes = seed.clone();
            let structures = damage(&bytes[4096..12_288], &mut random);
            bytes[4096..12_288].copy_from_slice(&structures);
            fuzz::hive(&bytes);
        }
        for _ in 0..100 {
            fuzz::hive(&damage(seed, &mut random));
        }
    }
}

/// Every key's list points to one long list: time and memory stay in proportion to the file.
#[test]
fn lists_that_many_keys_share_cost_no_more_than_one() {
    let mut editor = editor(&empty(5));
    let parent = editor.create("P").unwrap();
    for n in 0..4000 {
        editor.create_subkey(parent, &NtName::from(format!("{n:04}").as_str())).unwrap();
    }
    let hive = saved(editor);
    let mut bytes = hive.as_bytes().to_vec();
    // Fields of a key: count of subkeys at 0x14, list at 0x1c.
    let parent = bytes.windows(3).position(|window| window == b"P\0\0").unwrap() - 0x4c;
    let (count, list) =
        (bytes[parent + 0x14..parent + 0x18].to_vec(), bytes[parent + 0x1c..parent + 0x20].to_vec());
    for at in (4096..bytes.len() - 0x50).step_by(8) {
        if bytes[at + 4..at + 6] == *b"nk" {
            bytes[at + 4 + 0x14..at + 4 + 0x18].copy_from_slice(&count);
            bytes[at + 4 + 0x1c..at + 4 + 0x20].copy_from_slice(&list);
        }
    }
    let hive = Hive::parse(bytes.clone()).unwrap();
    assert!(hive.walk().count() < 30_000);
    let report = check(&hive);
    assert!(!report.is_sound());
    assert!(report.keys < 30_000);
    fuzz::hive(&bytes);
}

#[test]
fn reg_texts_cut_and_damaged() {
    let text = "Windows Registry Editor Version 5.00\r\n\r\n; c\r\n[HKEY_CURRENT_USER\\A\\B]\r\n@=\"x\\\\y\"\r\n\"n\"=dword:1\r\n\
                \"h\"=hex(7):61,00,\\\r\n  00,00\r\n\"d\"=-\r\n\r\n[-HKEY_CURRENT_USER\\A\\C]\r\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut random = Random::new(22);
    for seed in [
        text.as_bytes().to_vec(),
        utf16,
        text.replace("Windows Registry Editor Version 5.00", "REGEDIT4").into_bytes(),
    ] {
        (0..=seed.len()).for_each(|len| fuzz::reg(&seed[..len]));
        for _ in 0..1000 {
            fuzz::reg(&damage(&seed, &mut random));
        }
    }
}

#[test]
fn devices_and_descriptors_cut_and_damaged() {
    let gpt = "gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:6cdfcd69-de75-4490-8f99-5a84bf264917";
    let mut random = Random::new(23);
    for text in [
        "boot",
        gpt,
        "mbr:0x12345678:1048576",
        &format!("ramdisk:[{gpt}]\\a\\b.wim,{{0b2394a9-095e-487d-8d48-719ecd4d78ca}}"),
    ] {
        let seed = text.parse::<gravure_hive::bcd::Device>().unwrap().to_bytes().unwrap();
        (0..=seed.len()).for_each(|len| fuzz::device(&seed[..len]));
        (0..2000).for_each(|_| fuzz::device(&damage(&seed, &mut random)));
    }
    let seed = security().to_bytes().unwrap();
    (0..=seed.len()).for_each(|len| fuzz::descriptor(&seed[..len]));
    (0..5000).for_each(|_| fuzz::descriptor(&damage(&seed, &mut random)));
    let text = security().to_sddl().unwrap().into_bytes();
    (0..5000).for_each(|_| fuzz::sddl(&damage(&text, &mut random)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::hive(&data);
        fuzz::logs(&SEEDS[0], &data);
        fuzz::reg(&[b"REGEDIT4\n".as_slice(), &data].concat());
        fuzz::device(&data);
        fuzz::descriptor(&data);
        fuzz::sddl(&data);
    }
}
