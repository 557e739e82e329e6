//! A whole partition table: what stands on a disk, and the pieces of a new one in the order in which they are written.
//!
//! The new table is the last thing an apply writes. Its pieces go backup entries, backup header, primary entries, primary
//! header, protective MBR, with a flush after each. Firmware and
//! Linux look for a GPT only behind a protective MBR, and that is one sector, which a disk writes whole or not at all: before it the
//! disk looks empty, after it everything is there.

use gravure_io::{ReadAt, WriteAt};

use crate::gpt::{self, Copy, Gpt};
use crate::mbr::{self, BOOT_CODE_BYTES, Mbr, MbrOptions};
use crate::{Error, Layout};

/// What stands on a disk.
#[derive(Debug)]
pub enum Table {
    /// No partition table.
    Empty,
    /// A classic table.
    Mbr(Mbr),
    /// A GPT of which at least one copy is sound.
    Gpt {
        /// The sound copy, the primary one when both are.
        gpt: Gpt,
        /// Sector size it is written for, bytes; may differ from the disk's when it was copied from another disk.
        sector_bytes: u32,
        /// What is wrong with it; empty when everything agrees.
        faults: Vec<String>,
    },
    /// A GPT is announced, but neither copy is sound.
    BrokenGpt {
        /// What is wrong with the copies.
        faults: Vec<String>,
    },
}

impl Table {
    /// Reads the table of a disk with logical sectors of `sector_bytes`. Only a failing disk is an error; damage is in the result.
    pub fn read(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Self, Error> {
        let mbr = Mbr::read(disk, sector_bytes)?;
        let other = if sector_bytes == 512 { 4096 } else { 512 };
        let mut announced = Vec::new();
        for size in [sector_bytes, other] {
            match read_copies(disk, size)? {
                Copies::Sound { gpt, mut faults } => {
                    if size != sector_bytes {
                        faults.push(format!(
                            "written for sectors of {size} bytes, the disk has {sector_bytes}"
                        ));
                    }
                    if !mbr.as_ref().is_some_and(Mbr::is_protective) {
                        faults.push("no protective MBR".into());
                    }
                    return Ok(Self::Gpt { gpt, sector_bytes: size, faults });
                }
                Copies::Broken(faults) => announced.extend(faults),
                Copies::None => {}
            }
        }
        Ok(match mbr {
            Some(mbr) if !mbr.is_protective() => Self::Mbr(mbr),
            None if announced.is_empty() => Self::Empty,
            _ => {
                if announced.is_empty() {
                    announced.push("a protective MBR without a GPT".into());
                }
                Self::BrokenGpt { faults: announced }
            }
        })
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("no partition table"),
            Self::Mbr(mbr) => {
                write!(f, "MBR, signature {:08x}, {} partitions", mbr.disk_signature, mbr.entries.len())
            }
            Self::Gpt { gpt, faults, .. } => {
                write!(f, "GPT {}, {} partitions", gpt.disk_guid, gpt.entries.len())?;
                faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
            }
            Self::BrokenGpt { faults } => write!(f, "broken GPT: {}", faults.join("; ")),
        }
    }
}

enum Copies {
    None,
    Sound { gpt: Gpt, faults: Vec<String> },
    Broken(Vec<String>),
}

/// Reads both copies for one sector size.
fn read_copies(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Copies, Error> {
    let sectors = disk.size().checked_div(u64::from(sector_bytes)).unwrap_or(0);
    if sectors < 3 {
        return Ok(Copies::None);
    }
    let primary = sound(Gpt::read(disk, sector_bytes, 1))?;
    // The primary copy knows where the other one is; on a disk that grew this is not the end.
    let backup_lba = primary.as_ref().map_or(sectors.saturating_sub(1), |gpt| gpt.alternate_lba);
    let backup = sound(Gpt::read(disk, sector_bytes, backup_lba))?;
    let has_signature = |lba: u64| {
        let mut bytes = [0; 8];
        let offset = lba.saturating_mul(u64::from(sector_bytes));
        disk.read_exact_at(offset, &mut bytes).is_ok() && bytes == *b"EFI PART"
    };
    Ok(match (primary, backup) {
        (Ok(gpt), Ok(backup)) if gpt.agrees_with(&backup) => {
            let at_end = backup_lba == sectors.saturating_sub(1);
            let fault = format!("backup at sector {backup_lba:#x}, the disk ends at {sectors:#x}");
            Copies::Sound { gpt, faults: if at_end { Vec::new() } else { vec![fault] } }
        }
        (Ok(gpt), Ok(_)) => Copies::Sound { gpt, faults: vec!["the two copies differ".into()] },
        (Ok(gpt), Err(e)) => Copies::Sound { gpt, faults: vec![format!("backup: {e}")] },
        (Err(e), Ok(gpt)) => Copies::Sound { gpt, faults: vec![format!("primary: {e}")] },
        (Err(first), Err(second)) if has_signature(1) || has_signature(backup_lba) => {
            Copies::Broken(vec![format!("primary: {first}"), format!("backup: {second}")])
        }
        (Err(_), Err(_)) => Copies::None,
    })
}

/// Tells a damaged table (inner error) from a failing disk (outer). A place beyond the end is damage.
fn sound(result: Result<Gpt, Error>) -> Result<Result<Gpt, Error>, Error> {
    match result {
        Err(Error::Io { what, offset, source }) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Error::Io { what, offset, source })
        }
        other => Ok(other),
    }
}

/// One piece of a new table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is, for messages.
    pub what: &'static str,
    /// Where it goes, absolute byte offset.
    pub offset: u64,
    /// Its bytes, whole sectors.
    pub bytes: Vec<u8>,
}

/// A new table, complete in memory before the first byte is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableImage {
    pieces: Vec<Piece>,
}

impl TableImage {
    /// Computes the table of `layout`, with `boot_code` for BIOS machines in its first sector.
    pub fn new(layout: &Layout, boot_code: Option<&[u8; BOOT_CODE_BYTES]>) -> Self {
        let entries = gpt::entries_bytes(layout);
        let offset = |lba: u64| lba.saturating_mul(u64::from(layout.shape.sector_bytes));
        let copy = |copy: Copy, names: [&'static str; 2]| {
            let (header_lba, entries_lba) = copy.place(layout);
            let [entries_name, header_name] = names;
            let header = gpt::header_bytes(layout, copy, &entries);
            [
                Piece { what: entries_name, offset: offset(entries_lba), bytes: entries.clone() },
                Piece { what: header_name, offset: offset(header_lba), bytes: header },
            ]
        };
        let [backup_entries, backup_header] = copy(Copy::Backup, ["backup GPT entries", "backup GPT header"]);
        let [entries, header] = copy(Copy::Primary, ["GPT entries", "GPT header"]);
        let bytes = mbr::protective_bytes(layout, boot_code);
        let mbr = Piece { what: "protective MBR", offset: 0, bytes };
        Self { pieces: vec![backup_entries, backup_header, entries, header, mbr] }
    }

    /// Computes a classic table: one sector.
    pub fn classic(layout: &Layout, options: MbrOptions<'_>) -> Result<Self, Error> {
        let bytes = mbr::classic_bytes(layout, options)?;
        Ok(Self { pieces: vec![Piece { what: "MBR", offset: 0, bytes }] })
    }

    /// The pieces in writing order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Writes the table. After an error, or when the machine stops on the way, the disk has no table or the whole one.
    pub fn write(&self, disk: &dyn WriteAt) -> Result<(), Error> {
        for piece in &self.pieces {
            disk.write_all_at(piece.offset, &piece.bytes).map_err(Error::io(piece.what, piece.offset))?;
            disk.sync().map_err(Error::io(piece.what, piece.offset))?;
        }
        Ok(())
    }

    /// Compares what the disk has with what was to be written. Read past the cache, or drop it before.
    pub fn verify(&self, disk: &dyn ReadAt) -> Result<(), Error> {
        for piece in &self.pieces {
            let found = disk
                .read_vec_at(piece.offset, piece.bytes.len())
                .map_err(Error::io(piece.what, piece.offset))?;
            compare(piece.what, piece.offset, &piece.bytes, &found)?;
        }
        Ok(())
    }

    /// Destroys what makes the disk look partitioned, first the sector that announces the table: for a new apply, and
    /// for one that failed after the table was written.
    pub fn erase(&self, disk: &dyn WriteAt) -> Result<(), Error> {
        for piece in self.pieces.iter().rev() {
            let end = piece.offset.saturating_add(u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX));
            disk.zero_range(piece.offset..end).map_err(Error::io(piece.what, piece.offset))?;
            disk.sync().map_err(Error::io(piece.what, piece.offset))?;
        }
        Ok(())
    }
}

/// Compares bytes that were read back from `offset` with what was written there.
pub(crate) fn compare(what: &str, offset: u64, expected: &[u8], found: &[u8]) -> Result<(), Error> {
    let Some(at) =
        (expected != found).then(|| expected.iter().zip(found).take_while(|(a, b)| a == b).count())
    else {
        return Ok(());
    };
    let offset = offset.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
    Err(Error::Differs { what: what.to_owned(), offset })
}
