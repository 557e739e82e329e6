//! Windows' boot code for BIOS machines, as it was taken from a disk: the code of its first sector, and the first 8 KiB of the active
//! NTFS volume, whose parameters are replaced when the code goes onto another one. It is Microsoft's and comes with no image of
//! files, so it is kept beside images and replayed.
//!
//! As a file: the first sector (512 bytes) and then the 8192 bytes of the volume, nothing else. Partition table and disk signature in
//! the former are zeros.

use gravure_io::ReadAt;

use crate::Error;
use crate::mbr::{BOOT_CODE_BYTES, Mbr};

/// Bytes of `$Boot`, which the code of an NTFS volume fills.
pub const VOLUME_BYTES: usize = 8192;
/// Bytes of the file.
pub const FILE_BYTES: usize = SECTOR_BYTES + VOLUME_BYTES;
const SECTOR_BYTES: usize = 512;
const MARK_POS: usize = 510;
const MARK: [u8; 2] = [0x55, 0xaa];
const OEM_POS: usize = 3;
const OEM_NAME: &[u8] = b"NTFS    ";
/// What the code of the volume looks for, in UTF-16LE; of Windows before Vista it is NTLDR, which starts no boot store.
const LOADER: &str = "BOOTMGR";

/// Boot code of a disk and of the volume it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCode {
    bytes: Vec<u8>,
}

impl BootCode {
    /// Takes the code of a disk with sectors of 512 bytes: of its first sector and of its active partition.
    pub fn read(disk: &dyn ReadAt) -> Result<Self, Error> {
        let table = Mbr::read(disk, 512)?.filter(|mbr| !mbr.is_protective());
        let active = table.and_then(|mbr| mbr.entries.into_iter().find(|entry| entry.active));
        let active = active.ok_or_else(|| Error::Corrupt {
            what: "disk that starts BIOS machines",
            offset: 0,
            expected: "an MBR with an active partition".to_owned(),
            found: "none".to_owned(),
        })?;
        let offset = active.first_lba.saturating_mul(512);
        let mut bytes = disk.read_vec_at(0, SECTOR_BYTES).map_err(Error::io("first sector", 0))?;
        bytes.extend(disk.read_vec_at(offset, VOLUME_BYTES).map_err(Error::io("boot region", offset))?);
        Self::parse(&bytes)
    }

    /// Takes the bytes of such a file. What cannot start Windows is refused here and not by a machine that stays dark.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |what, offset: usize, expected: &str, found: String| Error::Corrupt {
            what,
            offset: u64::try_from(offset).unwrap_or(u64::MAX),
            expected: expected.to_owned(),
            found,
        };
        if bytes.len() != FILE_BYTES {
            return Err(corrupt(
                "boot code",
                0,
                "8704 bytes: a first sector and 8 KiB of a volume",
                bytes.len().to_string(),
            ));
        }
        let (sector, volume) = bytes.split_at(SECTOR_BYTES);
        let code = sector.get(..BOOT_CODE_BYTES).unwrap_or_default();
        if code.iter().all(|byte| *byte == 0) {
            return Err(corrupt("code of the first sector", 0, "a program", "zeros".to_owned()));
        }
        for (what, start, part) in
            [("first sector", 0, sector), ("boot sector of the volume", SECTOR_BYTES, volume)]
        {
            let mark = part.get(MARK_POS..MARK_POS.saturating_add(2)).unwrap_or_default();
            if mark != MARK {
                let at = start.saturating_add(MARK_POS);
                return Err(corrupt(what, at, "55 aa", format!("{mark:02x?}")));
            }
        }
        let oem = volume.get(OEM_POS..OEM_POS.saturating_add(OEM_NAME.len())).unwrap_or_default();
        if oem != OEM_NAME {
            let found = String::from_utf8_lossy(oem).into_owned();
            return Err(corrupt("boot sector of the volume", SECTOR_BYTES, "NTFS", format!("{found:?}")));
        }
        let loader: Vec<u8> = LOADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
        if !volume.windows(loader.len()).any(|part| part == loader) {
            let expected = "code that looks for BOOTMGR";
            return Err(corrupt("boot code of the volume", SECTOR_BYTES, expected, "other code".to_owned()));
        }
        let mut kept = bytes.to_vec();
        // What belongs to the disk it came from.
        if let Some(table) = kept.get_mut(BOOT_CODE_BYTES..MARK_POS) {
            table.fill(0);
        }
        Ok(Self { bytes: kept })
    }

    /// Takes what [`BootCode::to_text`] gives.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let bad = || Error::Invalid {
            what: "boot code".to_owned(),
            why: format!(
                "expected {FILE_BYTES} bytes in hexadecimal digits, found {} characters",
                text.len()
            ),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(bad()) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect();
        Self::parse(&bytes.ok_or_else(bad)?)
    }

    /// Hexadecimal digits, for documents.
    pub fn to_text(&self) -> String {
        self.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of the file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Code of a disk's first sector.
    pub fn of_disk(&self) -> [u8; BOOT_CODE_BYTES] {
        self.bytes.first_chunk().copied().unwrap_or([0; BOOT_CODE_BYTES])
    }

    /// The first 8 KiB of the volume.
    pub fn of_volume(&self) -> &[u8] {
        self.bytes.get(SECTOR_BYTES..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk whose second partition is active and has code.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 * 512];
        disk[0] = 0xfa;
        disk[0x1b8..0x1bc].copy_from_slice(&[1, 2, 3, 4]);
        for (entry, status, first) in [(0, 0, 4u32), (1, 0x80, 8)] {
            let at = 0x1be + entry * 16;
            disk[at] = status;
            disk[at + 4] = 7;
            disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
            disk[at + 12..at + 16].copy_from_slice(&16u32.to_le_bytes());
        }
        disk[510..512].copy_from_slice(&MARK);
        let volume = &mut disk[8 * 512..];
        volume[..3].copy_from_slice(&[0xeb, 0x52, 0x90]);
        volume[3..11].copy_from_slice(OEM_NAME);
        volume[510..512].copy_from_slice(&MARK);
        let name: Vec<u8> = LOADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
        volume[514..514 + name.len()].copy_from_slice(&name);
        disk
    }

    #[test]
    fn code_of_the_active_partition_is_taken_without_what_belongs_to_the_disk() {
        let code = BootCode::read(&disk()).unwrap();
        assert_eq!((code.of_disk()[0], code.of_volume().len(), code.as_bytes().len()), (0xfa, 8192, 8704));
        assert!(code.as_bytes()[0x1b8..0x1fe].iter().all(|byte| *byte == 0));
        assert_eq!(code.of_volume(), &disk()[8 * 512..24 * 512]);
        assert_eq!(BootCode::parse(code.as_bytes()).unwrap(), code);
        assert_eq!(BootCode::from_text(&code.to_text()).unwrap(), code);
        for text in ["", "0", "0g", &code.to_text()[2..]] {
            assert!(BootCode::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_not_start_windows_is_refused_with_its_place() {
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut disk = disk();
            change(&mut disk);
            BootCode::read(&disk).unwrap_err().to_string()
        };
        for (message, expected) in [
            (damaged(&|disk| disk[0x1ce] = 0), "expected an MBR with an active partition"),
            (damaged(&|disk| disk[0x1c2] = 0xee), "expected an MBR with an active partition"),
            (damaged(&|disk| disk[0] = 0), "code of the first sector at 0x0"),
            (damaged(&|disk| disk[8 * 512 + 3] = b'M'), "expected NTFS, found \"MTFS    \""),
            (damaged(&|disk| disk[8 * 512 + 510] = 0), "boot sector of the volume at 0x3fe"),
            (damaged(&|disk| disk[8 * 512 + 514] = 0), "code that looks for BOOTMGR"),
            (damaged(&|disk| disk.truncate(16 * 512)), "boot region"),
        ] {
            assert!(message.contains(expected), "{expected}: {message}");
        }
        let bytes = BootCode::read(&disk()).unwrap().as_bytes().to_vec();
        for len in (0..bytes.len()).step_by(97) {
            assert!(BootCode::parse(&bytes[..len]).is_err(), "{len}");
        }
    }
}
