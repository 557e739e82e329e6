//! No input makes a parser panic, loop or grow without bound: fuzz bodies over a corpus, its cuts, flips, and random
//! bytes.

use gravure_probe::fuzz::{body, entry_point};
use proptest::prelude::*;

/// Inputs that reach deep: one for each kind of the fuzz body.
fn corpus() -> Vec<Vec<u8>> {
    let smbios = [
        &[0][..],
        &[1, 0x1b, 1, 0, 1, 2, 0, 3],
        &[7; 16],
        &[6, 0, 4],
        b"Maker\0Product\0Serial\0Family\0\0",
        &[17, 0x15, 0, 0x11, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 1, 0, 0, 0, 0],
        b"DIMM\0\0",
        &[127, 4, 0xff, 0xfe, 0, 0],
    ]
    .concat();
    let entry = [&[0][..], &entry_point(3, 3)].concat();
    let lists = b"\x03pci:v00008086d*\nkernel/a.ko: kernel/b.ko\nkernel/b.ko:\nalias pci:v[0-9A-F]* a\n\
        softdep b pre: a post: pci:v00008086d1\n"
        .to_vec();
    let proc = b"\x02processor : 0\nphysical id : 0\ncore id : 0\n\nMemTotal: 5 kB\n".to_vec();
    let pci = [&[1][..], &[0x86, 0x80, 0x0e, 0x10], &[0; 64]].concat();
    vec![smbios, entry, lists, proc, pci]
}

#[test]
fn every_cut_and_every_flipped_bit_of_the_corpus() {
    for input in corpus() {
        for len in 0..=input.len() {
            body(&input[..len]);
        }
        for bit in 0..input.len() * 8 {
            let mut flipped = input.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            body(&flipped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..2048)) {
        body(&data);
    }

    #[test]
    fn random_module_lists(lines in proptest::collection::vec("(alias |softdep |kernel/)?[ab:*?\\[\\]\\-]{0,12}( pre:)? [a-c]{0,3}(\\.ko)?:?", 0..40)) {
        let text = format!("\x03{}", lines.join("\n"));
        body(text.as_bytes());
    }

    #[test]
    fn a_literal_alias_always_finds_its_module(alias in "[a-zA-Z0-9:_-]{1,40}") {
        use gravure_probe::modules::{ModuleTexts, Modules};
        let line = format!("alias {alias} m\n");
        let modules = Modules::parse(ModuleTexts { dep: "kernel/m.ko:\n", alias: &line, ..ModuleTexts::default() });
        prop_assert_eq!(modules.resolve(&alias), ["m"]);
        prop_assert_eq!(modules.resolve(&alias.replace('-', "_")), ["m"]);
    }
}
