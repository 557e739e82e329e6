//! The fuzz bodies over small samples, whole, cut at every byte and with every byte changed.

use gravure_efi::{fuzz, keys};
use gravure_nttypes::Guid;
use proptest::prelude::*;

/// A program with two sections and room for more.
fn sample() -> Vec<u8> {
    let mut out = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0\x64\x86\x02\0");
    put(0x54, &240u16.to_le_bytes());
    let optional = 0x58;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 32, &0x1000u32.to_le_bytes());
    put(optional + 36, &0x200u32.to_le_bytes());
    put(optional + 56, &0x3000u32.to_le_bytes());
    put(optional + 60, &0x400u32.to_le_bytes());
    put(optional + 108, &16u32.to_le_bytes());
    for (number, name) in [&b".text"[..], b".sbat"].into_iter().enumerate() {
        let at = optional + 240 + number * 40;
        put(at, name);
        let number = u32::try_from(number).unwrap();
        let fields = [0x100u32, 0x1000 * (number + 1), 0x200, 0x400 + 0x200 * number];
        put(at + 8, &fields.map(u32::to_le_bytes).concat());
    }
    out.resize(0x800, 7);
    out
}

#[test]
fn the_sample_is_taken() {
    let sample = sample();
    let program = gravure_efi::Program::parse(&sample).unwrap();
    assert_eq!(program.section(".sbat").unwrap(), [7; 0x100]);
    assert!(!program.is_signed());
    fuzz::program(&sample);
}

#[test]
fn any_cut_and_any_changed_byte() {
    let sample = sample();
    for cut in 0..sample.len() {
        assert!(gravure_efi::Program::parse(&sample[..cut]).is_err(), "cut at {cut:#x}");
    }
    // Behind the headers there is content, which means nothing here.
    for at in 0..0x400 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = sample.clone();
            changed[at] = value;
            fuzz::program(&changed);
        }
    }
}

proptest! {
    #[test]
    fn programs(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..0x200) {
        fuzz::program(&bytes);
        let mut sample = sample();
        let end = (at + bytes.len()).min(sample.len());
        sample[at..end].copy_from_slice(&bytes[..end - at]);
        fuzz::program(&sample);
    }

    #[test]
    fn lists(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..60) {
        fuzz::lists(&bytes);
        let mut sample = keys::list(Guid([1; 16]), b"certificate");
        sample.truncate(at.max(1));
        sample.extend(bytes);
        fuzz::lists(&sample);
    }
}
