//! One partition: an image of partclone, or its bytes as they are.

use std::io::Read;
use std::path::{Path, PathBuf};

use gravure_blockimg::{PartcloneReader, is_partclone};

use super::{Expanded, Job, names, parts_of, stream};
use crate::block::blockimg;
use crate::{Error, ErrorKind};

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;
const SECTOR: u64 = 512;
/// Largest sectors of disks.
const MAX_SECTOR_BYTES: usize = 4096;

/// What was expanded.
pub(super) struct Part {
    /// Bytes of the partition it was made of, at least.
    pub(super) size: u64,
    /// Only used blocks are in it.
    pub(super) is_partial: bool,
}

/// An image of partclone in a file of its own, with its further pieces beside it.
pub(super) fn expand_alone(path: &Path, job: &mut Job<'_>) -> Result<Expanded, Error> {
    let paths = pieces(path)?;
    let part = expand(&paths, 0, None, job)?;
    let notes = (paths.len() > 1).then(|| format!("read from {} files", paths.len()));
    Ok(Expanded {
        size_bytes: part.size,
        sector_bytes: SECTOR as u32,
        is_partial: part.is_partial,
        notes: notes.into_iter().collect(),
    })
}

/// `path`, and the pieces that follow if it is the first one (`.aa`, `.000`).
fn pieces(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let whole = || Ok(vec![path.to_owned()]);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(stem) = name.strip_suffix(".aa").or_else(|| name.strip_suffix(".000")) else { return whole() };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok(parts_of(dir, stem, &names(dir)?))
}

/// Writes what `paths` hold to `offset` of the scratch file; it must not be more than `room` bytes.
pub(super) fn expand(
    paths: &[PathBuf],
    offset: u64,
    room: Option<u64>,
    job: &mut Job<'_>,
) -> Result<Part, Error> {
    let name = paths.first().map_or_else(String::new, |path| path.display().to_string());
    let mut input = stream::open(paths)?;
    let mut head = Vec::new();
    (&mut input).take(16).read_to_end(&mut head).map_err(Error::io("read", &name))?;
    let is_partclone = is_partclone(&head);
    let input = std::io::Cursor::new(head).chain(input);
    if is_partclone {
        blocks(input, &name, offset, room, job)
    } else {
        bytes(input, &name, offset, room, job)
    }
}

fn refuse_size(name: &str, size: u64, room: Option<u64>) -> Result<(), Error> {
    let Some(room) = room.filter(|room| size > *room) else { return Ok(()) };
    let (what, source) =
        (name.to_owned(), format!("expected at most {room} bytes of its partition, found {size}"));
    Err(Error::Other { what, source: source.into(), kind: ErrorKind::Integrity })
}

fn bytes(
    mut input: impl Read,
    name: &str,
    offset: u64,
    room: Option<u64>,
    job: &mut Job<'_>,
) -> Result<Part, Error> {
    let mut buf = Vec::with_capacity(COPY_BYTES);
    let mut size = 0;
    loop {
        buf.clear();
        (&mut input).take(COPY_BYTES as u64).read_to_end(&mut buf).map_err(Error::io("read", name))?;
        if buf.is_empty() {
            return Ok(Part { size, is_partial: false });
        }
        refuse_size(name, size + buf.len() as u64, room)?;
        job.write(offset + size, &buf)?;
        size += buf.len() as u64;
    }
}

fn blocks(
    input: impl Read,
    name: &str,
    offset: u64,
    room: Option<u64>,
    job: &mut Job<'_>,
) -> Result<Part, Error> {
    let mut reader = PartcloneReader::open(input).map_err(blockimg(name))?;
    let header = reader.header().clone();
    let covered = header.total_blocks * u64::from(header.block_bytes);
    // Some file systems end before their partition, others have a last block that is not whole.
    let size = header.device_bytes.max(covered).min(room.unwrap_or(u64::MAX).max(header.device_bytes));
    refuse_size(name, header.device_bytes, room)?;
    let mut first = Vec::new();
    while let Some(strip) = reader.next_strip().map_err(blockimg(name))? {
        for (at, bytes) in strip.runs() {
            if at == 0 {
                first = bytes[..bytes.len().min(MAX_SECTOR_BYTES)].to_vec();
            }
            let inside = size.saturating_sub(at).min(bytes.len() as u64) as usize;
            if bytes[inside..].iter().any(|byte| *byte != 0) {
                refuse_size(name, at + bytes.len() as u64, Some(size))?;
            }
            job.write(offset + at, &bytes[..inside])?;
        }
    }
    if header.file_system.starts_with("NTFS") {
        // The copy of the boot sector stands behind the last cluster, where no block of the image reaches.
        if let Some((copy, sector)) = boot_copy(&first)
            && copy >= covered
            && copy.saturating_add(sector.len() as u64) <= size
        {
            job.write(offset + copy, sector)?;
        }
    }
    Ok(Part { size, is_partial: true })
}

/// Where the copy of the boot sector of an NTFS volume belongs that begins with `first`: behind the sectors that it counts. The copy is one of
/// the whole sector.
fn boot_copy(first: &[u8]) -> Option<(u64, &[u8])> {
    let sector = usize::from(u16::from_le_bytes(first.get(11..13)?.try_into().ok()?));
    if !sector.is_power_of_two() || sector < SECTOR as usize {
        return None;
    }
    let sectors = u64::from_le_bytes(first.get(40..48)?.try_into().ok()?);
    Some((sectors.checked_mul(sector as u64)?, first.get(..sector)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_a_boot_sector_is_counted_in_the_sectors_of_its_volume() {
        let mut first = vec![7; MAX_SECTOR_BYTES];
        first[40..48].copy_from_slice(&1000_u64.to_le_bytes());
        for (sector, expected) in [
            (512_u16, Some((512_000, 512))),
            (4096, Some((4_096_000, 4096))),
            (0, None),
            (100, None),
            (8192, None),
        ] {
            first[11..13].copy_from_slice(&sector.to_le_bytes());
            assert_eq!(boot_copy(&first).map(|(at, bytes)| (at, bytes.len())), expected, "{sector}");
        }
        assert_eq!(boot_copy(&first[..40]), None);
    }
}
