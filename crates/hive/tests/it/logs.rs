//! Logs of both formats, made here from two states of a hive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support::{editor, empty, saved};
use gravure_hive::{Data, Error, Hive, check, recover};
use gravure_nttypes::NtName;

const NEW: u32 = 6;
const OLD: u32 = 1;

/// A hive, and what it became: with a key and a value more, and one bin more.
fn before_and_after() -> (Vec<u8>, Vec<u8>) {
    let before = empty(5);
    let mut editor = editor(&before);
    let key = editor.create("Added").unwrap();
    editor.set_value(key, &NtName::from("v"), &Data::binary(vec![5; 6000])).unwrap();
    let after = saved(editor);
    assert!(after.as_bytes().len() > before.as_bytes().len());
    (before.as_bytes().to_vec(), after.as_bytes().to_vec())
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn seal(bytes: &mut [u8]) {
    let sum =
        bytes[..508].chunks_exact(4).fold(0, |sum, word| sum ^ u32::from_le_bytes(word.try_into().unwrap()));
    put(bytes, 508, sum);
}

/// The hive as a crash leaves it: a write was begun.
fn dirty(before: &[u8]) -> Vec<u8> {
    let mut out = before.to_vec();
    put(&mut out, 4, 2);
    seal(&mut out);
    out
}

/// Log header: the base block, with another type and sequence numbers.
fn header(base: &[u8], kind: u32, sequence: u32) -> Vec<u8> {
    let mut out = base[..512].to_vec();
    put(&mut out, 4, sequence);
    put(&mut out, 8, sequence);
    put(&mut out, 0x1c, kind);
    seal(&mut out);
    out
}

/// Pages of `size` bytes that differ, by offset in the bins.
fn pages(before: &[u8], after: &[u8], size: usize) -> Vec<(usize, Vec<u8>)> {
    let bins = after.len() - 4096;
    let page = |offset: usize| after[4096 + offset..4096 + offset + size].to_vec();
    let differs = |offset: &usize| {
        before.get(4096 + offset..4096 + offset + size) != Some(&after[4096 + offset..4096 + offset + size])
    };
    (0..bins).step_by(size).filter(differs).map(|offset| (offset, page(offset))).collect()
}

/// Marvin32 with the kernel's key, written again from its description, so that the test does not believe the crate.
fn marvin(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0x7a4e_55c5_u32, 0x82ef_4d88_u32);
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(4), 0);
    padded.extend_from_slice(&[0; 4]);
    for word in padded.chunks_exact(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        high = high.rotate_left(19);
    }
    (u64::from(high) << 32) | u64::from(low)
}

fn new_entry(sequence: u32, bins_bytes: usize, pages: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"HvLE".to_vec();
    let numbers = [0, 0, sequence, u32::try_from(bins_bytes).unwrap(), u32::try_from(pages.len()).unwrap()];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    out.extend_from_slice(&[0; 16]);
    for (offset, page) in pages {
        out.extend_from_slice(&u32::try_from(*offset).unwrap().to_le_bytes());
        out.extend_from_slice(&u32::try_from(page.len()).unwrap().to_le_bytes());
    }
    pages.iter().for_each(|(_, page)| out.extend_from_slice(page));
    out.resize(out.len().next_multiple_of(512), 0);
    let len = u32::try_from(out.len()).unwrap();
    put(&mut out, 4, len);
    let hash_1 = marvin(&out[40..]);
    out[24..32].copy_from_slice(&hash_1.to_le_bytes());
    let hash_2 = marvin(&out[..32]);
    out[32..40].copy_from_slice(&hash_2.to_le_bytes());
    out
}

fn old_log(before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut out = header(&dirty(after), OLD, 2);
    // The log bears the time of the hive it belongs to.
    out[0xc..0x14].copy_from_slice(&before[0xc..0x14]);
    let bins = after.len() - 4096;
    put(&mut out, 0x28, u32::try_from(bins).unwrap());
    seal(&mut out);
    let pages = pages(before, after, 512);
    let mut bitmap = vec![0u8; bins / 512 / 8];
    pages.iter().for_each(|(offset, _)| bitmap[offset / 512 / 8] |= 1 << (offset / 512 % 8));
    out.extend_from_slice(b"DIRT");
    out.extend(bitmap);
    out.resize(out.len().next_multiple_of(512), 0);
    pages.iter().for_each(|(_, page)| out.extend_from_slice(page));
    out
}

fn assert_complete(hive: &Hive, after: &[u8]) {
    assert_eq!(check(hive).faults, []);
    assert!(hive.as_bytes()[4096..] == after[4096..], "bins differ");
    assert_eq!(hive.open("Added").unwrap().data("v").unwrap(), Some(Data::binary(vec![5; 6000])));
}

#[test]
fn new_logs_complete_a_hive_and_let_it_grow() {
    let (before, after) = before_and_after();
    let pages = pages(&before, &after, 4096);
    let bins = after.len() - 4096;
    let (first, rest) = pages.split_at(1);
    let log = |sequence: u32, entries: &[Vec<u8>]| {
        [header(&dirty(&before), NEW, sequence), entries.concat()].concat()
    };
    // One log, then the same over two logs.
    let both = [new_entry(2, before.len() - 4096, first), new_entry(3, bins, rest)];
    let recovered = recover(&dirty(&before), &[&log(2, &both)]).unwrap();
    assert_complete(&recovered.hive, &after);
    assert_eq!((recovered.replay.entries, recovered.replay.sequences), (2, Some((2, 3))));
    assert_eq!(recovered.hive.base().sequences, (4, 4));
    let (one, two) = (log(2, &both[..1]), log(3, &both[1..]));
    let recovered = recover(&dirty(&before), &[&two, &one]).unwrap();
    assert_complete(&recovered.hive, &after);
    // Later entries that do not follow are left aside: nothing may be skipped over.
    let gap = log(4, &[new_entry(4, bins, rest)]);
    let recovered = recover(&dirty(&before), &[&one, &gap]).unwrap();
    assert_eq!(recovered.replay.sequences, Some((2, 2)));
    assert!(recovered.replay.notes[0].contains("do not follow 2"), "{:?}", recovered.replay.notes);
    // What follows the last entry is from before the log was started anew.
    let stale = [both.concat(), new_entry(1, bins, first)].concat();
    let recovered = recover(&dirty(&before), &[&log(2, &[stale])]).unwrap();
    assert_complete(&recovered.hive, &after);
    assert!(
        recovered.replay.notes[0].contains("sequence number 1, 4 expected"),
        "{:?}",
        recovered.replay.notes
    );
}

#[test]
fn a_damaged_base_block_comes_from_the_latest_log() {
    let (before, after) = before_and_after();
    let bins = after.len() - 4096;
    let entry = new_entry(7, bins, &pages(&before, &after, 4096));
    let log = [header(&dirty(&before), NEW, 7), entry].concat();
    let older = [header(&dirty(&before), NEW, 6), new_entry(6, bins, &[(0, vec![0; 4096])])].concat();
    let mut torn = before.clone();
    torn[0x30] = 0xaa;
    let recovered = recover(&torn, &[&older, &log]).unwrap();
    assert_complete(&recovered.hive, &after);
    assert!(recovered.replay.notes[0].contains("log 1 left aside"), "{:?}", recovered.replay.notes);
}

#[test]
fn old_logs_complete_a_hive() {
    let (before, after) = before_and_after();
    let log = old_log(&before, &after);
    let recovered = recover(&dirty(&before), &[&log]).unwrap();
    assert_complete(&recovered.hive, &after);
    assert_eq!(recovered.hive.base().sequences, (2, 2));
    for len in (0..log.len()).step_by(100) {
        let error = recover(&dirty(&before), &[&log[..len]]).unwrap_err();
        assert!(matches!(error, Error::NotRecoverable { .. }), "{len}: {error}");
    }
}

#[test]
fn logs_of_another_hive_or_time_are_left_aside() {
    let (before, after) = before_and_after();
    let mut other_time = old_log(&before, &after);
    other_time[0xc] ^= 1;
    seal(&mut other_time);
    let mut unfinished = old_log(&before, &after);
    put(&mut unfinished, 8, 1);
    seal(&mut unfinished);
    let mut no_sum = old_log(&before, &after);
    no_sum[0x40] ^= 1;
    let entry = new_entry(1, after.len() - 4096, &pages(&before, &after, 4096));
    let mut late = dirty(&before);
    put(&mut late, 4, 9);
    put(&mut late, 8, 8);
    seal(&mut late);
    let old_entries = [header(&late, NEW, 1), entry].concat();
    let cases: [(&[u8], Vec<u8>, &str); 4] = [
        (&dirty(&before), other_time, "was written at"),
        (&dirty(&before), unfinished, "was not written completely"),
        (&dirty(&before), no_sum, "header checksum"),
        (&late, old_entries, "the hive has 8 already"),
    ];
    for (hive, log, expected) in cases {
        let error = recover(hive, &[&log]).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // A clean hive never looks at its logs.
    let recovered = recover(&before, &[&old_log(&before, &after)]).unwrap();
    assert_eq!(recovered.hive.as_bytes(), before);
    assert_eq!(recovered.replay, Default::default());
}

/// Every bit of a new log matters: a damaged one gives an earlier state or an error, never a mixture.
#[test]
fn flipped_bits_in_logs_never_give_a_mixture() {
    let (before, after) = before_and_after();
    let bins = after.len() - 4096;
    let log = [header(&dirty(&before), NEW, 2), new_entry(2, bins, &pages(&before, &after, 4096))].concat();
    for at in (0..log.len()).step_by(37) {
        let mut damaged = log.clone();
        damaged[at] ^= 0x10;
        match recover(&dirty(&before), &[&damaged]) {
            Ok(recovered) => assert_complete(&recovered.hive, &after),
            Err(Error::NotRecoverable { .. }) => {}
            Err(error) => panic!("{at:#x}: {error}"),
        }
    }
}
