//! The end of a disk that came from a pipe and is larger than the image's: a GPT has its copy in the last sector, and says how large the disk
//! is. What comes last of a restore is in memory until then, so that is where the table is read and changed.

use std::io;

use gravure_disk::mbr::BOOT_CODE_BYTES;
use gravure_disk::transfer::{Names, Placed, gpt_layout};
use gravure_disk::{DiskShape, Table, TableImage};
use gravure_io::ReadAt;

use super::fit::disk_error;
use crate::Error;
use crate::volume::VolumeDevice;

/// Bytes at places of the disk.
pub(super) type Piece = (u64, Vec<u8>);

/// What the pieces that come last make of a table.
pub(super) enum AtEnd {
    /// It is right as it came, or none that says where the disk ends.
    Fits,
    /// These belong in the pieces' places.
    Moved(Vec<Piece>),
    /// It cannot be put right, in words.
    Stays(String),
}

/// A disk of which only some pieces are known; the rest reads as zeros.
struct Pieces<'a> {
    pieces: &'a [Piece],
    size: u64,
}

impl ReadAt for Pieces<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        for (start, bytes) in self.pieces {
            let (from, to) = (offset.max(*start), end.min(start + bytes.len() as u64));
            if from < to {
                let there = (from - offset) as usize..(to - offset) as usize;
                buf[there].copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

/// Judges the table of a disk of `size` bytes, whose ends are `pieces`, for `device`.
pub(super) fn judge(pieces: &[Piece], size: u64, device: &dyn VolumeDevice) -> Result<AtEnd, Error> {
    let name = device.name();
    let known = Pieces { pieces, size };
    let sector = device.sector_bytes();
    let table = Table::read(&known, sector).map_err(disk_error(name))?;
    let Table::Gpt { gpt, sector_bytes, .. } = table else { return Ok(AtEnd::Fits) };
    if sector_bytes != sector {
        return Ok(AtEnd::Stays(format!(
            "the partition table counts in sectors of {sector_bytes} bytes, this disk has {sector}"
        )));
    }
    if device.size() == size {
        return Ok(AtEnd::Fits);
    }
    let bytes = u64::from(sector);
    let span =
        |first: u64, last: u64| first.saturating_mul(bytes)..last.saturating_add(1).saturating_mul(bytes);
    let place = |entry: &gravure_disk::gpt::GptEntry| {
        let range = span(entry.first_lba, entry.last_lba);
        Placed { number: entry.number, from: range.clone(), to: range }
    };
    let placed: Vec<Placed> = gpt.entries.iter().map(place).collect();
    let shape = DiskShape { size_bytes: device.size(), sector_bytes: sector };
    let layout = match gpt_layout(&gpt, &placed, shape, Names::Kept) {
        Ok(layout) => layout,
        Err(error) => return Ok(AtEnd::Stays(format!("its partition table is not written anew: {error}"))),
    };
    let mut code = [0; BOOT_CODE_BYTES];
    known.read_exact_at(0, &mut code).map_err(Error::io("read", "memory"))?;
    let mut out = Vec::new();
    // The old copy: behind the last sector that partitions may use.
    let old = span(gpt.last_usable_lba.saturating_add(1), gpt.my_lba.max(gpt.alternate_lba));
    let is_free = placed.iter().all(|one| one.from.end <= old.start || one.from.start >= old.end);
    if is_free && old.start < old.end && old.end <= size && old.end - old.start <= super::apply::LATE_BYTES {
        out.push((old.start, vec![0; (old.end - old.start) as usize]));
    }
    let table = TableImage::new(&layout, Some(&code));
    out.extend(table.pieces().iter().map(|piece| (piece.offset, piece.bytes.clone())));
    Ok(AtEnd::Moved(out))
}

/// Puts `bytes` at `offset` into pieces that do not overlap: into those that are there, and in new ones where none is.
pub(super) fn overlay(pieces: &mut Vec<Piece>, offset: u64, bytes: &[u8]) {
    let end = offset + bytes.len() as u64;
    let part = |from: u64, to: u64| &bytes[(from - offset) as usize..(to - offset) as usize];
    pieces.sort_by_key(|(start, _)| *start);
    let mut at = offset;
    let mut new = Vec::new();
    for (start, content) in pieces.iter_mut() {
        let stop = end.min(*start + content.len() as u64);
        if stop <= at || *start >= end {
            continue;
        }
        if *start > at {
            new.push((at, part(at, *start).to_vec()));
            at = *start;
        }
        content[(at - *start) as usize..(stop - *start) as usize].copy_from_slice(part(at, stop));
        at = stop;
    }
    if at < end {
        new.push((at, part(at, end).to_vec()));
    }
    pieces.extend(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_take_what_falls_on_them_and_the_rest_is_new() {
        let mut pieces = vec![(20, vec![2; 5]), (10, vec![1; 5])];
        overlay(&mut pieces, 8, &(100..122).collect::<Vec<u8>>());
        pieces.sort();
        let found: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(pieces.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [8, 10, 15, 20, 25]);
        assert_eq!(found, (100..122).collect::<Vec<u8>>());
        overlay(&mut pieces, 11, &[7]);
        assert_eq!((pieces.len(), pieces[1].1[1]), (5, 7));
        let disk = Pieces { pieces: &pieces, size: 40 };
        assert_eq!(disk.read_vec_at(7, 6).unwrap(), [0, 100, 101, 102, 7, 104]);
    }
}
