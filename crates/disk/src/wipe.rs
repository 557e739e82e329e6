//! What must be zero on a disk before a new layout is written: whatever makes firmware, kernel or installer see the old one.
//!
//! Bodies of partitions are overwritten by their new content only where that has data, so every place where some format keeps its
//! signature is cleared, relative to the disk and to each new partition.

use std::ops::Range;

use crate::Layout;

/// Cleared at both ends of the disk and of every partition: holds all signatures but the ones below.
const EDGE_BYTES: u64 = 1 << 20;
/// Copies of the Btrfs super block beyond that (4 KiB each).
const BTRFS_MIRRORS: [u64; 2] = [64 << 20, 256 << 30];
const BTRFS_BYTES: u64 = 4096;

/// Byte ranges to zero before anything else is written, ascending, without overlaps, inside of `size_bytes` (of the disk).
///
/// The journal's place is left out: what it holds decides whether an interrupted apply may go on. Clear `Layout::journal`
/// separately for a fresh start.
pub fn wipe_ranges(size_bytes: u64, layout: &Layout) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    add_signatures(&mut ranges, 0..size_bytes);
    for partition in &layout.partitions {
        add_signatures(&mut ranges, partition.range.clone());
    }
    for range in &mut ranges {
        range.end = range.end.min(size_bytes);
    }
    without(merged(ranges), &layout.journal)
}

/// Places of signatures in `room`:
/// - first MiB: boot sectors, GPT, ext at 0x400, XFS, NTFS, FAT, LUKS (headers at 0 and 0x4000), LVM labels in the first 4
///   sectors, Btrfs at 0x10000, MD 1.1 and 1.2, ZFS labels 0 and 1, ISO 9660 at 0x8000, swap at the end of page 0;
/// - last MiB: backup GPT, MD 0.90 and 1.0, ZFS labels 2 and 3, NTFS backup boot sector, DDF and other firmware RAID.
fn add_signatures(ranges: &mut Vec<Range<u64>>, room: Range<u64>) {
    let clip = |start: u64, len: u64| start.min(room.end)..start.saturating_add(len).min(room.end);
    ranges.push(clip(room.start, EDGE_BYTES));
    ranges.push(room.end.saturating_sub(EDGE_BYTES).max(room.start)..room.end);
    for mirror in BTRFS_MIRRORS {
        ranges.push(clip(room.start.saturating_add(mirror), BTRFS_BYTES));
    }
}

/// Sorts and joins what overlaps or touches.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

fn without(ranges: Vec<Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    ranges
        .into_iter()
        .flat_map(|range| {
            let before = range.start..range.end.min(hole.start);
            let after = range.start.max(hole.end)..range.end;
            [before, after]
        })
        .filter(|range| range.start < range.end)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiskShape, Identity, PartitionRequest, PartitionSize, Role};

    const MIB: u64 = 1 << 20;

    fn layout(size_bytes: u64) -> Layout {
        let request = |role, size| PartitionRequest { role, size, name: "x".into() };
        let requests = [
            request(Role::Esp, PartitionSize::Bytes(100 * MIB)),
            request(Role::LinuxRoot, PartitionSize::Rest { at_least: MIB }),
        ];
        Layout::compute(DiskShape { size_bytes, sector_bytes: 512 }, &Identity::new([0; 32]), &requests)
            .unwrap()
    }

    #[test]
    fn covers_the_places_of_every_signature_and_spares_the_journal() {
        // Not a multiple of 1 MiB, so that the disk's last MiB reaches into the journal.
        let size = 1000 * MIB + 12345 * 512;
        let layout = layout(size);
        let ranges = wipe_ranges(size, &layout);
        let covers = |at: u64| ranges.iter().any(|range| range.contains(&at));
        for start in [0, layout.partitions[0].range.start, layout.partitions[1].range.start] {
            for at in [0, 0x438, 0x1000, 0x8001, 0x10040, 0x40000, MIB - 1, 64 * MIB, 64 * MIB + 4095] {
                assert!(covers(start + at), "{start:#x} + {at:#x}");
            }
        }
        for end in [size, layout.partitions[0].range.end, layout.partitions[1].range.end] {
            assert!(
                covers(end - 1) && covers(end - 65536 * 2) || layout.journal.contains(&(end - 65536 * 2))
            );
        }
        assert!(!covers(layout.journal.start) && !covers(layout.journal.end - 1));
        assert!(
            ranges.windows(2).all(|pair| pair[0].end < pair[1].start) && ranges.iter().all(|r| r.end <= size)
        );
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!(total < 8 * MIB, "{total}");
    }

    #[test]
    fn small_and_huge_disks() {
        let small = layout(200 * MIB);
        assert!(wipe_ranges(200 * MIB, &small).iter().all(|range| range.end <= 200 * MIB));
        let size = 1 << 40;
        let huge = layout(size);
        let mirror = huge.partitions[1].range.start + (256 << 30);
        assert!(wipe_ranges(size, &huge).iter().any(|range| range.contains(&mirror)));
    }
}
