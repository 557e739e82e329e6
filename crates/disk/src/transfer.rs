//! A disk's partitions on another disk: larger, smaller, or with sectors of another size. Where they go is arithmetic ([`place`]); the
//! table there is computed anew ([`gpt_layout`], [`mbr_sector`]) and nothing is read or written.
//!
//! Partitions stay where they are as long as they fit; what would pass the end is moved to the front, and no further than it must.
//! Their contents do not change, so none becomes smaller than the file system in it.

use std::ops::Range;

use crate::gpt::Gpt;
use crate::layout::{ALIGN_BYTES, ENTRY_COUNT, Partition, Role};
use crate::mbr::{BOOT_CODE_BYTES, Mbr};
use crate::{DiskShape, Error, Layout};

/// A partition that is to stand on another disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Number in the table.
    pub number: u32,
    /// Where it is, bytes.
    pub range: Range<u64>,
    /// Bytes it cannot do without: those of its file system.
    pub at_least: u64,
    /// Its file system can use more room.
    pub can_grow: bool,
}

/// Where a partition goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Number in the table.
    pub number: u32,
    /// Where it was, bytes.
    pub from: Range<u64>,
    /// Where it is to be, bytes.
    pub to: Range<u64>,
}

impl Placed {
    /// Whether it has another place.
    pub fn is_moved(&self) -> bool {
        self.from.start != self.to.start
    }

    /// Whether it has another size.
    pub fn is_resized(&self) -> bool {
        self.size_bytes() != len(&self.from)
    }

    /// Bytes it is to have.
    pub fn size_bytes(&self) -> u64 {
        len(&self.to)
    }
}

/// What becomes of room that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Growth {
    /// It stays free.
    #[default]
    None,
    /// The largest partition that can grow takes it; what lies behind it moves to the end.
    Largest,
}

fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn down(value: u64, step: u64) -> u64 {
    value.saturating_sub(value.checked_rem(step.max(1)).unwrap_or(0))
}

fn up(value: u64, step: u64) -> u64 {
    value.checked_next_multiple_of(step.max(1)).unwrap_or(u64::MAX)
}

/// The bytes that partitions may use on a disk of `shape` with a GPT.
pub fn gpt_area(shape: DiskShape) -> Result<Range<u64>, Error> {
    let frame = crate::layout::usable(shape)?;
    let sector = u64::from(shape.sector_bytes);
    Ok(frame.start.saturating_mul(sector)..frame.end.saturating_add(1).saturating_mul(sector))
}

/// The bytes that partitions may use on a disk of `shape` with an MBR.
pub fn mbr_area(shape: DiskShape) -> Range<u64> {
    let sector = u64::from(shape.sector_bytes);
    // 32-bit sector numbers.
    sector..down(shape.size_bytes, sector).min(sector.saturating_mul(1 << 32))
}

/// Finds places for `partitions` within `area`. Ascending by place, as they were.
pub fn place(partitions: &[Resident], area: &Range<u64>, growth: Growth) -> Result<Vec<Placed>, Error> {
    let mut sorted: Vec<&Resident> = partitions.iter().collect();
    sorted.sort_by_key(|resident| resident.range.start);
    let mut placed: Vec<Placed> = sorted
        .iter()
        .map(|one| Placed { number: one.number, from: one.range.clone(), to: one.range.clone() })
        .collect();
    let does_not_fit = || {
        let wanted =
            sorted.iter().fold(area.start, |sum, one| up(sum, ALIGN_BYTES).saturating_add(one.at_least));
        Error::DoesNotFit { what: "partitions".into(), wanted, available: area.end }
    };
    if !push_left(&mut placed, area) {
        // Room behind file systems goes first, from the last partition on.
        let mut is_placed = false;
        for index in (0..placed.len()).rev() {
            let (Some(one), Some(resident)) = (placed.get_mut(index), sorted.get(index)) else { break };
            let least = up(resident.at_least.max(1), ALIGN_BYTES).min(len(&resident.range));
            one.to = one.from.start..one.from.start.saturating_add(least);
            let mut attempt = placed.clone();
            attempt.iter_mut().for_each(|one| {
                let len = one.size_bytes();
                one.to = one.from.start..one.from.start.saturating_add(len);
            });
            if push_left(&mut attempt, area) {
                placed = attempt;
                is_placed = true;
                break;
            }
        }
        if !is_placed {
            return Err(does_not_fit());
        }
    }
    if growth == Growth::Largest {
        grow(&mut placed, &sorted, area);
    }
    Ok(placed)
}

/// Moves to the front what passes the end, from the last one on; says whether there is room.
fn push_left(placed: &mut [Placed], area: &Range<u64>) -> bool {
    let mut limit = area.end;
    for one in placed.iter_mut().rev() {
        if one.to.end > limit {
            let len = one.size_bytes();
            let Some(start) = limit.checked_sub(len) else { return false };
            let start = down(start, ALIGN_BYTES);
            one.to = start..start.saturating_add(len);
        }
        limit = one.to.start;
    }
    placed.first().is_none_or(|first| first.to.start >= area.start.min(first.from.start))
}

/// Gives what is left to the largest one that can grow.
fn grow(placed: &mut [Placed], sorted: &[&Resident], area: &Range<u64>) {
    let growing = (0..placed.len())
        .filter(|index| sorted.get(*index).is_some_and(|one| one.can_grow))
        .max_by_key(|index| placed.get(*index).map_or(0, Placed::size_bytes));
    let Some(growing) = growing else { return };
    let mut limit = down(area.end, ALIGN_BYTES);
    for one in placed.iter_mut().skip(growing.saturating_add(1)).rev() {
        let len = one.size_bytes();
        let start = down(limit.saturating_sub(len), ALIGN_BYTES);
        if start > one.to.start {
            one.to = start..start.saturating_add(len);
        }
        limit = one.to.start;
    }
    if let Some(one) = placed.get_mut(growing) {
        let end = down(limit, ALIGN_BYTES);
        if end > one.to.end {
            one.to.end = end;
        }
    }
}

/// Identifiers of the table on the other disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names<'a> {
    /// Those of the table it comes from.
    Kept,
    /// New ones: another disk, and others may be beside it.
    New(&'a crate::Identity),
}

/// The layout of a disk of `shape` with the partitions of `gpt` at new places.
pub fn gpt_layout(gpt: &Gpt, placed: &[Placed], shape: DiskShape, names: Names<'_>) -> Result<Layout, Error> {
    let sector = u64::from(shape.sector_bytes);
    let mut partitions = Vec::with_capacity(gpt.entries.len());
    for entry in &gpt.entries {
        if entry.number > ENTRY_COUNT {
            let value = format!("number {} of more than {ENTRY_COUNT}", entry.number);
            return Err(Error::Unsupported { what: "partition", value });
        }
        let place = placed.iter().find(|one| one.number == entry.number).ok_or_else(|| {
            Error::invalid(format!("partition {}", entry.number), "it was given no place".to_owned())
        })?;
        let (start, end) = sectors(place, sector)?;
        let unique_guid = match names {
            Names::Kept => entry.unique_guid,
            Names::New(identity) => identity.partition_guid(entry.number.saturating_sub(1)),
        };
        partitions.push(Partition {
            number: entry.number,
            role: Role::Other(entry.type_guid),
            first_lba: start,
            last_lba: end.saturating_sub(1),
            range: place.to.clone(),
            unique_guid,
            attributes: entry.attributes,
            name: entry.name.clone(),
        });
    }
    let disk_guid = match names {
        Names::Kept => gpt.disk_guid,
        Names::New(identity) => identity.disk_guid(),
    };
    Layout::of_partitions(shape, disk_guid, partitions)
}

/// First sector and the one behind the last.
fn sectors(place: &Placed, sector: u64) -> Result<(u64, u64), Error> {
    let whole = |bytes: u64| bytes.checked_rem(sector) == Some(0);
    if !whole(place.to.start) || !whole(place.to.end) {
        let value = format!(
            "{} at {:#x}..{:#x} on a disk with sectors of {sector} bytes",
            place.number, place.to.start, place.to.end
        );
        return Err(Error::Unsupported { what: "partition", value });
    }
    let sectors = |bytes: u64| bytes.checked_div(sector).unwrap_or(0);
    Ok((sectors(place.to.start), sectors(place.to.end)))
}

/// The first sector of an MBR disk with its primary partitions at new places; logical ones lie in an extended one and move with it.
pub fn mbr_sector(
    first: &[u8; 512],
    mbr: &Mbr,
    placed: &[Placed],
    sector_bytes: u32,
    signature: Option<u32>,
) -> Result<[u8; 512], Error> {
    let mut out = *first;
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    };
    if let Some(signature) = signature {
        put(BOOT_CODE_BYTES, &signature.to_le_bytes());
    }
    for entry in mbr.entries.iter().filter(|entry| (1..=4).contains(&entry.number)) {
        let Some(place) = placed.iter().find(|one| one.number == entry.number) else { continue };
        let (start, end) = sectors(place, u64::from(sector_bytes))?;
        let narrow = |value: u64| {
            u32::try_from(value).map_err(|_| Error::DoesNotFit {
                what: format!("partition {} in an MBR", entry.number),
                wanted: value,
                available: u64::from(u32::MAX),
            })
        };
        let (first_lba, count) = (narrow(start)?, narrow(end.saturating_sub(start))?);
        let number = usize::try_from(entry.number).unwrap_or(1);
        let at = 0x1ae_usize.saturating_add(number.saturating_mul(16));
        // Cylinders, heads and sectors: "use the number".
        put(at.saturating_add(1), &[0xfe, 0xff, 0xff]);
        put(at.saturating_add(5), &[0xfe, 0xff, 0xff]);
        put(at.saturating_add(8), &first_lba.to_le_bytes());
        put(at.saturating_add(12), &count.to_le_bytes());
    }
    Ok(out)
}

/// Places in GRUB's boot code where it says where its next part lies, with the sector it names: in the MBR the first sector of the core
/// image, in that one the second.
pub mod grub {
    /// Offset of the core image's first sector in the boot sector.
    pub const BOOT_KERNEL_SECTOR: usize = 0x5c;
    /// Offset of the next sector in the first sector of the core image.
    pub const CORE_BLOCK_LIST: usize = 0x1f4;

    /// The sector named at `at`.
    pub fn sector(bytes: &[u8], at: usize) -> Option<u64> {
        let place = bytes.get(at..at.saturating_add(8))?;
        Some(u64::from_le_bytes(place.try_into().ok()?))
    }

    /// Names another one.
    pub fn set_sector(bytes: &mut [u8], at: usize, sector: u64) {
        if let Some(place) = bytes.get_mut(at..at.saturating_add(8)) {
            place.copy_from_slice(&sector.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
