//! Logical partitions of an MBR. They lie in an extended one and move with it, records and all, as their links count from its begin; the last
//! one grows with it.

use std::ops::Range;

use gravure_disk::mbr::{Mbr, logical_to_end};
use gravure_disk::transfer::{Growth, Placed};
use gravure_fsmap::Probe;

use super::disk_error;
use super::fitted::{FittedPartition, has_room, is_larger, is_recovery, is_sized, probe};
use super::peek::Peek;
use crate::Error;
use crate::block::image::BlockImage;
use crate::volume::VolumeDevice;

/// A logical partition, and what is on it.
pub(super) struct Logical {
    number: u32,
    range: Range<u64>,
    probe: Probe,
}

impl Logical {
    /// Its file system can use what the extended partition gets, where it is the last one.
    pub(super) fn can_grow(&self, image: &BlockImage) -> bool {
        is_sized(self.probe.kind) && !is_recovery(image, &self.range)
    }
}

/// Those in the extended partition `outer`, in the order of their chain.
pub(super) fn within(
    mbr: &Mbr,
    outer: &Range<u64>,
    sector_bytes: u32,
    peek: &Peek<'_>,
) -> Result<Vec<Logical>, Error> {
    let bytes = |sectors: u64| sectors.saturating_mul(u64::from(sector_bytes));
    let mut out = Vec::new();
    for entry in mbr.entries.iter().filter(|entry| entry.number > 4) {
        let start = bytes(entry.first_lba);
        let range = start..start.saturating_add(bytes(entry.sectors)).min(outer.end);
        if outer.contains(&start) && !range.is_empty() {
            out.push(Logical { number: entry.number, probe: probe(peek, &range)?, range });
        }
    }
    Ok(out)
}

/// Where those in an extended partition go that goes to `outer`.
pub(super) fn place(
    inside: &[Logical],
    outer: &Placed,
    image: &BlockImage,
    growth: Growth,
) -> Vec<FittedPartition> {
    let moved = |at: u64| outer.to.start + (at - outer.from.start);
    let last = inside.last().map(|last| last.number);
    let place = |one: &Logical| {
        let mut to = moved(one.range.start)..moved(one.range.end);
        if last == Some(one.number) && is_larger(&outer.from, &outer.to) {
            to.end = outer.to.end;
        }
        let wants_more = growth == Growth::Largest && one.can_grow(image);
        let grows = is_larger(&one.range, &to) || (wants_more && has_room(Some(&one.probe), &to));
        FittedPartition { number: one.number, content: one.probe.kind, from: one.range.clone(), to, grows }
    };
    inside.iter().map(place).collect()
}

/// The records of an extended partition that became larger, where they are now: its last logical one ends where it does.
pub(super) fn records_to_end(
    device: &dyn VolumeDevice,
    outer: &Placed,
    sector_bytes: u32,
) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let sector = u64::from(sector_bytes);
    let (base, end) = (outer.to.start / sector, outer.to.end / sector);
    let records = logical_to_end(&device, sector_bytes, base, end).map_err(disk_error(device.name()))?;
    Ok(records.into_iter().map(|(lba, bytes)| (lba * sector, bytes.to_vec())).collect())
}

/// In words, which partitions cannot become smaller.
pub(super) fn whole(extended: &[(u32, Vec<Logical>)]) -> String {
    let word = |(number, _): &(u32, Vec<Logical>)| {
        format!("; partition {number} holds logical ones and keeps its size")
    };
    extended.iter().map(word).collect()
}
