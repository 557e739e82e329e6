//! Rules of the arithmetic, checked for many sizes.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn request(role: Role, size: PartitionSize, name: &str) -> PartitionRequest {
    PartitionRequest { role, size, name: name.into() }
}

fn compute(size_bytes: u64, sector_bytes: u32, requests: &[PartitionRequest]) -> Result<Layout, Error> {
    Layout::compute(DiskShape { size_bytes, sector_bytes }, &Identity::new([3; 32]), requests)
}

fn windows_like() -> Vec<PartitionRequest> {
    vec![
        request(Role::Esp, PartitionSize::Bytes(100 * MIB), "esp"),
        request(Role::MicrosoftReserved, PartitionSize::Bytes(16 * MIB), "msr"),
        request(Role::MicrosoftData, PartitionSize::Rest { at_least: 200 * MIB }, "windows"),
        request(Role::WindowsRecovery, PartitionSize::Bytes(750 * MIB - 1), "recovery"),
    ]
}

#[test]
fn the_rest_may_stand_in_the_middle() {
    let layout = compute(10 << 30, 512, &windows_like()).unwrap();
    let ranges: Vec<_> = layout.partitions.iter().map(|p| (p.range.start / MIB, p.range.end / MIB)).collect();
    // 10240 MiB: one for the primary table, one for the backup table, one for the journal.
    assert_eq!(ranges, [(1, 101), (101, 117), (117, 9488), (9488, 10238)]);
    assert_eq!(layout.journal, 10238 * MIB..10239 * MIB);
    assert_eq!((layout.first_usable_lba, layout.last_usable_lba), (34, (10 << 30) / 512 - 34));
    assert_eq!(layout.partitions[3].attributes, 0x8000_0000_0000_0001);
    assert_eq!(layout.first(Role::Esp).unwrap().number, 1);
    assert_eq!(layout.partitions[0].first_lba, 2048);
    assert_eq!(layout.partitions[0].last_lba, 2048 * 101 - 1);
}

#[test]
fn sectors_of_4096_bytes_change_the_numbers_and_not_the_places() {
    let small = compute(10 << 30, 512, &windows_like()).unwrap();
    let large = compute(10 << 30, 4096, &windows_like()).unwrap();
    let places = |layout: &Layout| layout.partitions.iter().map(|p| p.range.clone()).collect::<Vec<_>>();
    assert_eq!(places(&small), places(&large));
    assert_eq!((large.first_usable_lba, large.last_usable_lba), (6, (10 << 30) / 4096 - 6));
    assert_eq!(large.partitions[0].first_lba, 256);
}

#[test]
fn says_how_much_is_missing() {
    let error = compute(1 << 30, 512, &windows_like()).unwrap_err();
    match &error {
        Error::DoesNotFit { wanted, available, what } => {
            assert_eq!((*wanted, *available), (1066 * MIB, 1021 * MIB));
            assert!(what.contains("windows 209715200"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(compute(2 * MIB, 512, &[]), Err(Error::DoesNotFit { .. })));
    assert!(matches!(compute(1 << 30, 1024, &[]), Err(Error::Unsupported { what: "sector size", .. })));
}

#[test]
fn refuses_requests_that_make_no_sense() {
    let rest = |name| request(Role::LinuxRoot, PartitionSize::Rest { at_least: 1 }, name);
    for (requests, why) in [
        (vec![rest("a"), rest("b")], "asks for the rest, as partition 1 does already"),
        (vec![request(Role::Esp, PartitionSize::Bytes(0), "a")], "size 0"),
        (vec![rest(&"x".repeat(37))], "name of 37 UTF-16 units, 36 fit"),
        (vec![rest(&"\u{1f600}".repeat(19))], "name of 38 UTF-16 units, 36 fit"),
        (vec![rest("a\0")], "name contains NUL"),
        (vec![request(Role::Other(Guid([0; 16])), PartitionSize::Bytes(1), "a")], "type GUID zero"),
        (
            vec![request(Role::Esp, PartitionSize::Bytes(1), "a"); 129],
            "129 partitions, the table has room for 128",
        ),
    ] {
        let text = compute(1 << 40, 512, &requests).unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }
    compute(1 << 40, 512, &vec![request(Role::Esp, PartitionSize::Bytes(1), "a"); 128]).unwrap();
}

proptest! {
    #[test]
    fn partitions_are_aligned_ordered_and_inside(
        size_mib in 3u64..5000,
        odd in 0u64..MIB,
        big_sectors: bool,
        sizes in prop::collection::vec(1u64..300 * MIB, 0..6),
        rest_at in prop::option::of(0usize..6),
    ) {
        let sector_bytes = if big_sectors { 4096 } else { 512 };
        let mut requests: Vec<_> =
            sizes.iter().map(|size| request(Role::LinuxData, PartitionSize::Bytes(*size), "p")).collect();
        if let Some(at) = rest_at {
            requests.insert(at.min(requests.len()), request(Role::LinuxRoot, PartitionSize::Rest { at_least: 1 }, "r"));
        }
        let size = size_mib * MIB + odd;
        let Ok(layout) = compute(size, sector_bytes, &requests) else { return Ok(()) };
        let mut free = MIB;
        for (partition, wanted) in layout.partitions.iter().zip(&requests) {
            let range = &partition.range;
            prop_assert_eq!(range.start, free);
            prop_assert!(range.start % MIB == 0 && range.end % MIB == 0 && range.start < range.end);
            if let PartitionSize::Bytes(bytes) = wanted.size {
                prop_assert!(partition.size_bytes() >= bytes && partition.size_bytes() < bytes + MIB);
            }
            prop_assert_eq!(partition.first_lba * u64::from(sector_bytes), range.start);
            prop_assert_eq!((partition.last_lba + 1) * u64::from(sector_bytes), range.end);
            prop_assert!(partition.last_lba <= layout.last_usable_lba);
            free = range.end;
        }
        prop_assert!(free <= layout.journal.start);
        if rest_at.is_some() {
            prop_assert_eq!(free, layout.journal.start);
        }
        prop_assert!(layout.journal.end <= (layout.last_usable_lba + 1) * u64::from(sector_bytes));
        prop_assert_eq!(layout.journal.end - layout.journal.start, JOURNAL_BYTES);
        // The backup copy fits behind.
        prop_assert!(layout.last_usable_lba + layout.entry_sectors() + 1 < layout.sectors);
    }
}
