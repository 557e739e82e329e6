//! Places on disks that are larger, smaller, or have other sectors.

use gravure_io::{MemoryDisk, ReadAt, WriteAt};

use super::*;
use crate::{Identity, PartitionRequest, PartitionSize, Table, TableImage};

const MIB: u64 = 1 << 20;

fn resident(number: u32, start: u64, len: u64, at_least: u64, can_grow: bool) -> Resident {
    Resident { number, range: start * MIB..(start + len) * MIB, at_least: at_least * MIB, can_grow }
}

fn places(placed: &[Placed]) -> Vec<(u32, u64, u64)> {
    placed.iter().map(|one| (one.number, one.to.start / MIB, one.to.end / MIB)).collect()
}

#[test]
fn partitions_stay_where_they_fit_and_move_no_further_than_they_must() {
    let disk =
        [resident(1, 1, 100, 100, false), resident(2, 101, 500, 500, true), resident(3, 900, 50, 50, false)];
    let cases = [
        (1000, Growth::None, Some([(1, 1, 101), (2, 101, 601), (3, 900, 950)])),
        (940, Growth::None, Some([(1, 1, 101), (2, 101, 601), (3, 890, 940)])),
        (651, Growth::None, Some([(1, 1, 101), (2, 101, 601), (3, 601, 651)])),
        (650, Growth::None, None),
        (2000, Growth::Largest, Some([(1, 1, 101), (2, 101, 1950), (3, 1950, 2000)])),
        (700, Growth::Largest, Some([(1, 1, 101), (2, 101, 650), (3, 650, 700)])),
    ];
    for (size, growth, expected) in cases {
        let placed = place(&disk, &(MIB..size * MIB), growth);
        match expected {
            Some(expected) => assert_eq!(places(&placed.unwrap()), expected, "{size}"),
            None => {
                let message = placed.unwrap_err().to_string();
                assert_eq!(message, "partitions: 682622976 bytes wanted, 681574400 available");
            }
        }
    }
}

#[test]
fn room_behind_file_systems_goes_before_a_disk_is_too_small() {
    let disk =
        [resident(1, 1, 100, 60, false), resident(2, 101, 500, 200, true), resident(3, 601, 50, 50, false)];
    let placed = place(&disk, &(MIB..400 * MIB), Growth::None).unwrap();
    assert_eq!(places(&placed), [(1, 1, 101), (2, 101, 301), (3, 350, 400)]);
    let placed = place(&disk, &(MIB..400 * MIB), Growth::Largest).unwrap();
    assert_eq!(places(&placed), [(1, 1, 101), (2, 101, 350), (3, 350, 400)]);
    assert!(place(&disk, &(MIB..310 * MIB), Growth::None).is_err());
}

/// A disk with a table as installers make them, entries 1 and 3.
fn source() -> (MemoryDisk, Gpt) {
    let shape = DiskShape { size_bytes: 64 * MIB, sector_bytes: 512 };
    let request =
        |role, bytes| PartitionRequest { role, size: PartitionSize::Bytes(bytes), name: "part".into() };
    let identity = Identity::new([3; 32]);
    let mut layout = Layout::compute(
        shape,
        &identity,
        &[
            request(Role::Esp, 4 * MIB),
            request(Role::LinuxRoot, 20 * MIB),
            request(Role::WindowsRecovery, 8 * MIB),
        ],
    )
    .unwrap();
    layout.partitions.remove(1);
    let disk = MemoryDisk::new(64 << 20, 512);
    TableImage::new(&layout, None).write(&disk).unwrap();
    let Table::Gpt { gpt, faults, .. } = Table::read(&disk, 512).unwrap() else { panic!("no GPT") };
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(gpt.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 3]);
    (disk, gpt)
}

#[test]
fn a_table_on_another_disk_keeps_numbers_types_attributes_and_names() {
    let (_, gpt) = source();
    for (sector_bytes, size) in [(512u32, 40 * MIB), (4096, 100 * MIB)] {
        let shape = DiskShape { size_bytes: size, sector_bytes };
        let residents: Vec<Resident> = gpt
            .entries
            .iter()
            .map(|entry| Resident {
                number: entry.number,
                range: entry.first_lba * 512..(entry.last_lba + 1) * 512,
                at_least: 4 * MIB,
                can_grow: entry.number == 3,
            })
            .collect();
        let area = gpt_area(shape).unwrap();
        let placed = place(&residents, &area, Growth::Largest).unwrap();
        let identity = Identity::new([9; 32]);
        for names in [Names::Kept, Names::New(&identity)] {
            let layout = gpt_layout(&gpt, &placed, shape, names).unwrap();
            let disk = MemoryDisk::new(usize::try_from(size).unwrap(), sector_bytes);
            TableImage::new(&layout, None).write(&disk).unwrap();
            let Table::Gpt { gpt: found, faults, .. } = Table::read(&disk, sector_bytes).unwrap() else {
                panic!("no GPT")
            };
            assert!(faults.is_empty(), "{faults:?}");
            for (old, new) in gpt.entries.iter().zip(&found.entries) {
                assert_eq!(
                    (old.number, old.type_guid, old.attributes),
                    (new.number, new.type_guid, new.attributes)
                );
                assert_eq!(old.name, new.name);
                assert_eq!(old.unique_guid == new.unique_guid, names == Names::Kept);
            }
            let last = &found.entries[1];
            let end = (last.last_lba + 1) * u64::from(sector_bytes);
            assert!(area.end - end < MIB, "it took all that was left");
            assert_eq!(found.disk_guid == gpt.disk_guid, names == Names::Kept);
        }
    }
}

#[test]
fn a_place_between_two_sectors_is_refused() {
    let (_, gpt) = source();
    let placed = [
        Placed { number: 1, from: 0..MIB, to: MIB + 512..2 * MIB },
        Placed { number: 3, from: 0..MIB, to: 2 * MIB..3 * MIB },
    ];
    let shape = DiskShape { size_bytes: 64 * MIB, sector_bytes: 4096 };
    let error = gpt_layout(&gpt, &placed, shape, Names::Kept).unwrap_err().to_string();
    assert_eq!(
        error,
        "partition not supported: 1 at 0x100200..0x200000 on a disk with sectors of 4096 bytes"
    );
    let overlapping = [placed[1].clone(), Placed { number: 1, ..placed[1].clone() }];
    assert!(gpt_layout(&gpt, &overlapping, shape, Names::Kept).is_err());
}

#[test]
fn an_mbr_keeps_its_boot_code() {
    let mut first = [0u8; 512];
    first[..4].copy_from_slice(b"boot");
    first[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
    first[0x1be] = 0x80;
    first[0x1c2] = 7;
    first[0x1c6..0x1ca].copy_from_slice(&2048u32.to_le_bytes());
    first[0x1ca..0x1ce].copy_from_slice(&4096u32.to_le_bytes());
    let disk = MemoryDisk::new(64 << 20, 512);
    disk.write_all_at(0, &first).unwrap();
    let mbr = Mbr::read(&disk, 512).unwrap().unwrap();
    let placed = [Placed { number: 1, from: MIB..3 * MIB, to: 2 * MIB..8 * MIB }];
    let moved = mbr_sector(&first, &mbr, &placed, 512, Some(0x1234_5678)).unwrap();
    disk.write_all_at(0, &moved).unwrap();
    let found = Mbr::read(&disk, 512).unwrap().unwrap();
    assert_eq!(
        (found.disk_signature, found.entries[0].active, found.entries[0].kind),
        (0x1234_5678, true, 7)
    );
    assert_eq!((found.entries[0].first_lba, found.entries[0].sectors), (4096, 12288));
    assert_eq!(disk.read_vec_at(0, 4).unwrap(), b"boot");
}

#[test]
fn places_never_overlap_or_pass_the_area() {
    let mut state = 88172645463325252u64;
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for _ in 0..2000 {
        let mut at = 1 + below(4);
        let mut residents = Vec::new();
        for number in 1..=1 + below(5) as u32 {
            let len = 1 + below(200);
            residents.push(resident(number, at, len, 1 + below(len), below(2) == 0));
            at += len + below(50);
        }
        let size = 1 + below(2 * at);
        let growth = if below(2) == 0 { Growth::None } else { Growth::Largest };
        let area = MIB..size * MIB + below(MIB);
        let Ok(placed) = place(&residents, &area, growth) else { continue };
        let mut end = 0;
        for (one, resident) in placed.iter().zip(&residents) {
            assert!(one.to.start >= end.max(area.start.min(one.from.start)) && one.to.end <= area.end);
            assert!(one.size_bytes() >= resident.at_least.min(len(&resident.range)));
            assert!(one.size_bytes() <= len(&resident.range) || resident.can_grow);
            end = one.to.end;
        }
    }
}
