//! Folders of FOG: `d1.mbr`, `d1.partitions` and an image of partclone for each partition, `d1p1.img`.

use std::path::Path;

use super::sfdisk::Dump;
use super::{Expanded, Job, incomplete, names, part, parts_of, small_text, swap_header};
use crate::Error;

const SECTOR: u64 = 512;
/// Bytes of `d1.mbr` at most: what lies in front of the first partition.
const MAX_HEAD_BYTES: u64 = 4 << 20;
/// Where things stand in a backup that sgdisk wrote: protective MBR, header, copy of the header, entries.
const BACKUP_HEADER: usize = 512;
const BACKUP_COPY: usize = 1024;
const BACKUP_ENTRIES: usize = 1536;

/// Whether the folder is one of FOG.
pub(super) fn is_folder(dir: &Path) -> bool {
    dir.join("d1.mbr").is_file() || dir.join("d1p1.img").is_file() || dir.join("d1.partitions").is_file()
}

pub(super) fn expand(dir: &Path, job: &mut Job<'_>) -> Result<Expanded, Error> {
    let all = names(dir)?;
    if all.iter().any(|name| name.starts_with("d2")) {
        let what = "image of FOG with several disks";
        return Err(Error::Unsupported { what, value: dir.display().to_string() });
    }
    let text = |name: &str| {
        if all.iter().any(|other| other == name) { small_text(&dir.join(name)).map(Some) } else { Ok(None) }
    };
    let dump = text("d1.partitions")?.ok_or_else(|| incomplete(dir, "d1.partitions"))?;
    let dump = Dump::parse(&dump);
    let sector = u64::from(dump.sector_bytes.unwrap_or(512));
    let head = dir.join("d1.mbr");
    let len = std::fs::metadata(&head).map_err(Error::io("read", head.display()))?.len();
    if len > MAX_HEAD_BYTES {
        let (what, expected) = (head.display().to_string(), format!("at most {MAX_HEAD_BYTES} bytes"));
        return Err(Error::Usage { what, expected, found: len.to_string() });
    }
    let head = std::fs::read(&head).map_err(Error::io("read", head.display()))?;
    let is_gpt = head.get(BACKUP_HEADER..BACKUP_HEADER + 8) == Some(b"EFI PART");
    let mut notes = Vec::new();
    let said = text("d1.size")?.and_then(|text| text.trim().rsplit(':').next()?.parse::<u64>().ok());
    let in_header = head.get(BACKUP_HEADER + 32..BACKUP_HEADER + 40).and_then(|field| field.try_into().ok());
    let in_header = in_header.map(u64::from_le_bytes).filter(|_| is_gpt);
    let least = in_header.map_or(dump.end(), |copy| copy.saturating_add(1).max(dump.end()));
    // The table says where its copy is; with another size of the disk it would be in the wrong place.
    let size_bytes = match said.filter(|said| *said >= least.saturating_mul(sector) && !is_gpt) {
        Some(said) => said / sector * sector,
        None => least.saturating_mul(sector),
    };
    if said.is_none() && !is_gpt {
        notes.push(
            "the folder does not say how large the disk was: as large as its partitions need".to_owned(),
        );
    }
    let swaps = text("d1.original.swapuuids")?.unwrap_or_default();
    let mut is_partial = false;
    for entry in &dump.entries {
        let (offset, len) = (entry.start.saturating_mul(sector), entry.sectors.saturating_mul(sector));
        let paths = parts_of(dir, &format!("d1p{}.img", entry.number), &all);
        if !paths.is_empty() {
            is_partial |= part::expand(&paths, offset, Some(len), job)?.is_partial;
            continue;
        }
        let uuid = swaps.lines().find_map(|line| {
            let (number, uuid) = line.trim().split_once(' ')?;
            (number.parse() == Ok(entry.number)).then_some(uuid.trim())
        });
        match uuid {
            Some(uuid) => job.write(offset, &swap_header(len, uuid, ""))?,
            None if is_empty_kind(&entry.kind) => {}
            None => return Err(incomplete(dir, &format!("d1p{}.img", entry.number))),
        }
    }
    for entry in &dump.entries {
        // Logical partitions have tables of their own.
        let name = format!("d1p{}.ebr", entry.number);
        if all.iter().any(|other| *other == name) {
            let bytes = std::fs::read(dir.join(&name)).map_err(Error::io("read", &name))?;
            let at = entry.start.saturating_mul(sector);
            if is_empty_kind(&entry.kind) {
                job.write(at, &bytes[..bytes.len().min(512)])?;
            }
        }
    }
    if is_gpt {
        gpt(dir, &head, size_bytes, sector, job)?;
    } else {
        let first =
            dump.entries.iter().map(|entry| entry.start.saturating_mul(sector)).min().unwrap_or(u64::MAX);
        let room = first.min(head.len() as u64) as usize;
        if head.get(510..512) != Some(&[0x55, 0xaa]) {
            return Err(incomplete(dir, "a partition table in d1.mbr"));
        }
        job.write(0, &head[..room])?;
    }
    Ok(Expanded { size_bytes, sector_bytes: sector as u32, is_partial, notes })
}

/// Extended partitions and those of the system that have nothing to keep.
fn is_empty_kind(kind: &str) -> bool {
    let microsoft_reserved = "e3c9e316-0b5c-4db8-817d-f92df00215ae";
    ["5", "f", "85", "05", "0f", microsoft_reserved].contains(&kind)
}

/// The table out of a backup of sgdisk.
fn gpt(dir: &Path, head: &[u8], size: u64, sector: u64, job: &mut Job<'_>) -> Result<(), Error> {
    let field = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|field| field.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| incomplete(dir, "a whole GPT in d1.mbr"))
    };
    let entries = head.get(BACKUP_ENTRIES..).unwrap_or_default();
    let (copy_at, first_entries, last_entries) =
        (field(BACKUP_HEADER + 32)?, field(BACKUP_HEADER + 72)?, field(BACKUP_COPY + 72)?);
    let room = size.saturating_sub(entries.len() as u64);
    if copy_at.saturating_mul(sector) >= size
        || last_entries.saturating_mul(sector) > room
        || entries.is_empty()
    {
        return Err(incomplete(dir, "a GPT in d1.mbr that fits the disk"));
    }
    job.write(first_entries.saturating_mul(sector), entries)?;
    job.write(last_entries.saturating_mul(sector), entries)?;
    job.write(copy_at.saturating_mul(sector), &head[BACKUP_COPY..BACKUP_ENTRIES])?;
    job.write(sector, &head[BACKUP_HEADER..BACKUP_COPY])?;
    job.write(0, &head[..SECTOR as usize])
}
