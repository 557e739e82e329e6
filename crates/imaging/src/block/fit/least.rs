//! How small a disk may be that takes an image of another: by its partitions and what is on them, before there is a disk.

use std::ops::Range;
use std::sync::Arc;

use gravure_blockimg::facts::Scope;
use gravure_disk::transfer::{self, Growth, Resident};
use gravure_disk::{DiskShape, Table};
use gravure_model::Ctl;

use super::anew::Files;
use super::fitted::{is_sized, probe};
use super::peek::Peek;
use super::{BEHIND_BYTES, can_shrink, disk_error};
use crate::block::at::BlockImageAt;
use crate::block::image::BlockImage;
use crate::{Error, ErrorKind};

/// A disk is judged to so many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// A partition as the table of an image lists it.
pub(super) struct Listed {
    pub(super) number: u32,
    /// Bytes; may reach over the end of the disk.
    pub(super) range: Range<u64>,
    /// Not one that holds others.
    pub(super) is_plain: bool,
}

/// Bytes of a sector in which `table` counts; `otherwise` where it does not say. A copy of a disk with other sectors than the source's has a
/// table that counts in its own.
pub(super) fn sector_bytes(table: &Table, otherwise: u32) -> u32 {
    match table {
        Table::Gpt { sector_bytes, .. } => *sector_bytes,
        _ => otherwise,
    }
}

/// What the table lists, with `sector_bytes` a sector. `None` for a table that cannot be moved.
pub(super) fn listed(table: &Table, sector_bytes: u32) -> Option<Vec<Listed>> {
    let bytes = |lba: u64| lba.saturating_mul(u64::from(sector_bytes));
    match table {
        Table::Gpt { gpt, .. } => {
            let one = |entry: &gravure_disk::gpt::GptEntry| Listed {
                number: entry.number,
                range: bytes(entry.first_lba)..bytes(entry.last_lba + 1),
                is_plain: true,
            };
            Some(gpt.entries.iter().map(one).collect())
        }
        Table::Mbr(mbr) => {
            let primary = mbr.entries.iter().filter(|entry| entry.number <= 4);
            Some(
                primary
                    .map(|entry| {
                        let start = bytes(entry.first_lba);
                        Listed {
                            number: entry.number,
                            range: start..start.saturating_add(bytes(entry.sectors)),
                            is_plain: !gravure_disk::mbr::is_extended(entry.kind),
                        }
                    })
                    .collect(),
            )
        }
        _ => None,
    }
}

/// Bytes that a disk with the image's sectors must have at least: partitions without what need not be restored, file systems that can be made
/// smaller as small as they get. `None` for images that are of no disk, and for tables that cannot be moved.
///
/// Where nothing here can say how small an ext file system gets (no `resize2fs`, no FUSE), its content counts: the answer is too small then,
/// never too large.
pub fn least_disk_bytes(image: &BlockImage, ctl: &Ctl) -> Result<Option<u64>, Error> {
    let root = image.root();
    if image.facts().scope != Scope::Disk {
        return Ok(None);
    }
    let peek = Peek::new(image)?;
    let counted_in = image.sector_bytes()?;
    let table = Table::read(&peek, counted_in).map_err(disk_error(image.name()))?;
    let sector_bytes = sector_bytes(&table, counted_in);
    let Some(listed) = listed(&table, sector_bytes) else { return Ok(None) };
    let read = Arc::new(BlockImageAt::new(image.clone()));
    let mut residents = Vec::new();
    for Listed { number, range, is_plain } in listed {
        ctl.check()?;
        let range = range.start..range.end.min(root.size);
        if range.is_empty() {
            return Ok(None);
        }
        let len = range.end - range.start;
        let found = is_plain.then(|| probe(&peek, &range)).transpose()?;
        let at_least = match found {
            Some(found) if is_sized(found.kind) => {
                let whole = found.size.saturating_add(BEHIND_BYTES).min(len);
                let content = || {
                    let regions = root.regions.iter();
                    let inside = regions.filter(|it| {
                        range.start <= it.offset && it.offset.saturating_add(it.len) <= range.end
                    });
                    inside.map(|region| region.data_bytes).sum::<u64>()
                };
                let smaller = can_shrink(found.kind).then(|| {
                    let files = Files::open(&read, number, &range, found.kind, ctl)?;
                    match files.least_bytes(sector_bytes) {
                        Err(_) if files.keeps_blocks() => Ok(files.judged_bytes().unwrap_or_else(content)),
                        least => least,
                    }
                });
                match smaller {
                    Some(Ok(smaller)) => smaller.min(whole),
                    Some(Err(error)) if error.kind() == ErrorKind::Interrupted => return Err(error),
                    // Such a volume is not laid out anew.
                    Some(Err(_)) | None => whole,
                }
            }
            _ => len,
        };
        residents.push(Resident { number, range, at_least, can_grow: false });
    }
    let fits = |size_bytes: u64| {
        let shape = DiskShape { size_bytes, sector_bytes };
        let area = match &table {
            Table::Gpt { .. } => transfer::gpt_area(shape),
            _ => Ok(transfer::mbr_area(shape)),
        };
        area.and_then(|area| transfer::place(&residents, &area, Growth::None)).is_ok()
    };
    let (mut low, mut high) = (0, root.size.div_ceil(STEP_BYTES));
    if !fits(high * STEP_BYTES) {
        // A table whose backup stands elsewhere: the disk itself is what is known to do.
        return Ok(Some(root.size));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match fits(middle * STEP_BYTES) {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(Some((high * STEP_BYTES).min(root.size)))
}
