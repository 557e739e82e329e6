//! GUID partition tables (UEFI 2.10, 5.3): headers and entries as bytes and back. Where copies go and in which order they
//! are written is the business of `table`.
//!
//! Own code rather than a crate: gptman 3.1.1 asserts on entry sizes and reserves what a header asks for (up to 2^32
//! entries), and writes the primary copy first; here every field is bounded and the order of writes is ours. `gptman`,
//! `sgdisk` and libblkid are oracles in the tests, for both sector sizes.

use gravure_io::ReadAt;
use gravure_nttypes::Guid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layout::{ENTRY_BYTES, ENTRY_COUNT, MAX_NAME_UNITS};
use crate::{Error, Layout};

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: u32 = 92;
/// Largest array of entries read: 64 times what everybody writes.
const MAX_ENTRIES_BYTES: u64 = 1 << 20;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderDisk {
    signature: [u8; 8],  // 0x00
    revision: U32,       // 0x08
    header_bytes: U32,   // 0x0c  at least 92, at most one sector
    header_crc: U32,     // 0x10  over header_bytes with this field zero
    reserved: U32,       // 0x14
    my_lba: U64,         // 0x18
    alternate_lba: U64,  // 0x20
    first_usable: U64,   // 0x28
    last_usable: U64,    // 0x30
    disk_guid: [u8; 16], // 0x38
    entries_lba: U64,    // 0x48
    entry_count: U32,    // 0x50
    entry_bytes: U32,    // 0x54  128 * 2^n
    entries_crc: U32,    // 0x58
} // 0x5c
const _: () = assert!(size_of::<HeaderDisk>() == 92);
const _: () = assert!(core::mem::offset_of!(HeaderDisk, disk_guid) == 0x38);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryDisk {
    type_guid: [u8; 16],   // 0x00  zero: unused
    unique_guid: [u8; 16], // 0x10
    first_lba: U64,        // 0x20
    last_lba: U64,         // 0x28  inclusive
    attributes: U64,       // 0x30
    name: [U16; 36],       // 0x38  UTF-16LE, NUL-padded
} // 0x80
const _: () = assert!(size_of::<EntryDisk>() == 128);

/// A partition in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptEntry {
    /// Number, from 1: the place in the table.
    pub number: u32,
    /// What it is for; names are in `guid::type_name`.
    pub type_guid: Guid,
    /// Unique GUID.
    pub unique_guid: Guid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Name; units that are no valid UTF-16 are replaced.
    pub name: String,
}

/// One copy of a table that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// Sector of this copy's header.
    pub my_lba: u64,
    /// Sector of the other copy's header.
    pub alternate_lba: u64,
    /// First sector that partitions may use.
    pub first_usable_lba: u64,
    /// Last sector that partitions may use.
    pub last_usable_lba: u64,
    /// GUID of the disk.
    pub disk_guid: Guid,
    /// Partitions in use, by number.
    pub entries: Vec<GptEntry>,
}

impl Gpt {
    /// Reads the copy whose header stands in sector `lba` and checks it: signature, both checksums, sizes, places.
    pub fn read(disk: &dyn ReadAt, sector_bytes: u32, lba: u64) -> Result<Self, Error> {
        let sector = usize::try_from(sector_bytes).unwrap_or(usize::MAX);
        let offset = byte_offset(lba, sector_bytes)?;
        let bytes = disk.read_vec_at(offset, sector).map_err(Error::io("read GPT header", offset))?;
        let header = check_header(&bytes, lba, offset)?;
        let entries = read_entries(disk, sector_bytes, header)?;
        let gpt = Self {
            my_lba: lba,
            alternate_lba: header.alternate_lba.get(),
            first_usable_lba: header.first_usable.get(),
            last_usable_lba: header.last_usable.get(),
            disk_guid: Guid(header.disk_guid),
            entries,
        };
        gpt.check_places(offset)?;
        Ok(gpt)
    }

    /// Whether both copies say the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.my_lba, self.alternate_lba) == (other.alternate_lba, other.my_lba)
            && (self.first_usable_lba, self.last_usable_lba)
                == (other.first_usable_lba, other.last_usable_lba)
            && (self.disk_guid, &self.entries) == (other.disk_guid, &other.entries)
    }

    fn check_places(&self, offset: u64) -> Result<(), Error> {
        let mut by_place: Vec<&GptEntry> = self.entries.iter().collect();
        by_place.sort_unstable_by_key(|entry| entry.first_lba);
        let mut free = self.first_usable_lba;
        for entry in by_place {
            let place =
                || format!("partition {} at {:#x}..={:#x}", entry.number, entry.first_lba, entry.last_lba);
            if entry.last_lba < entry.first_lba || entry.last_lba > self.last_usable_lba {
                let expected = format!("an end in {:#x}..={:#x}", entry.first_lba, self.last_usable_lba);
                return Err(Error::corrupt("GPT entry", offset, expected, place()));
            }
            if entry.first_lba < free {
                return Err(Error::corrupt(
                    "GPT entry",
                    offset,
                    format!("a start at {free:#x} or later"),
                    place(),
                ));
            }
            free = entry.last_lba.saturating_add(1);
        }
        Ok(())
    }
}

/// Checks what a header says about itself; `bytes` is one sector.
fn check_header(bytes: &[u8], lba: u64, offset: u64) -> Result<&HeaderDisk, Error> {
    let corrupt = |what, expected: String, found: String| Err(Error::corrupt(what, offset, expected, found));
    let Ok((header, _)) = HeaderDisk::ref_from_prefix(bytes) else {
        return corrupt("GPT header", "92 bytes".into(), format!("{} bytes", bytes.len()));
    };
    if header.signature != SIGNATURE {
        return corrupt("GPT signature", format!("{SIGNATURE:02x?}"), format!("{:02x?}", header.signature));
    }
    let revision = header.revision.get();
    if revision != REVISION {
        return corrupt("GPT revision", format!("{REVISION:#x}"), format!("{revision:#x}"));
    }
    let len = header.header_bytes.get();
    let whole = usize::try_from(len).ok().and_then(|len| bytes.get(..len)).filter(|_| len >= HEADER_BYTES);
    let Some(whole) = whole else {
        let expected = format!("{HEADER_BYTES} to {} bytes", bytes.len());
        return corrupt("GPT header size", expected, format!("{len} bytes"));
    };
    let crc = header_crc(whole);
    if crc != header.header_crc.get() {
        let expected = format!("{:#010x} as stated", header.header_crc);
        return corrupt("GPT header checksum", expected, format!("{crc:#010x}"));
    }
    if header.my_lba.get() != lba {
        return corrupt("GPT header's own sector", format!("{lba:#x}"), format!("{:#x}", header.my_lba));
    }
    Ok(header)
}

fn read_entries(disk: &dyn ReadAt, sector_bytes: u32, header: &HeaderDisk) -> Result<Vec<GptEntry>, Error> {
    let offset = byte_offset(header.entries_lba.get(), sector_bytes)?;
    let entry_bytes = header.entry_bytes.get();
    let multiple = entry_bytes.checked_div(ENTRY_BYTES).unwrap_or(0);
    if !multiple.is_power_of_two() || multiple.checked_mul(ENTRY_BYTES) != Some(entry_bytes) {
        return Err(Error::corrupt(
            "GPT entry size",
            offset,
            "128 * 2^n bytes",
            format!("{entry_bytes} bytes"),
        ));
    }
    let len = u64::from(header.entry_count.get()).saturating_mul(u64::from(entry_bytes));
    if len > MAX_ENTRIES_BYTES {
        let found = format!("{} entries of {entry_bytes} bytes", header.entry_count);
        return Err(Error::corrupt(
            "GPT entries",
            offset,
            format!("at most {MAX_ENTRIES_BYTES} bytes"),
            found,
        ));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let bytes = disk.read_vec_at(offset, len).map_err(Error::io("read GPT entries", offset))?;
    let crc = crc32(&bytes);
    if crc != header.entries_crc.get() {
        let expected = format!("{:#010x} as stated", header.entries_crc);
        return Err(Error::corrupt("GPT entries checksum", offset, expected, format!("{crc:#010x}")));
    }
    let step = usize::try_from(entry_bytes).unwrap_or(usize::MAX);
    let parsed =
        bytes.chunks_exact(step).zip(1u32..).filter_map(|(bytes, number)| parse_entry(bytes, number));
    Ok(parsed.collect())
}

/// `None` for an unused entry.
fn parse_entry(bytes: &[u8], number: u32) -> Option<GptEntry> {
    let (entry, _) = EntryDisk::ref_from_prefix(bytes).ok()?;
    let units = entry.name.iter().map(|unit| unit.get()).take_while(|unit| *unit != 0);
    (entry.type_guid != [0; 16]).then(|| GptEntry {
        number,
        type_guid: Guid(entry.type_guid),
        unique_guid: Guid(entry.unique_guid),
        first_lba: entry.first_lba.get(),
        last_lba: entry.last_lba.get(),
        attributes: entry.attributes.get(),
        name: char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
    })
}

/// The array of entries, padded to whole sectors.
pub(crate) fn entries_bytes(layout: &Layout) -> Vec<u8> {
    // 16384 is a multiple of both sector sizes.
    let mut bytes = vec![0; usize::try_from(ENTRY_COUNT.saturating_mul(ENTRY_BYTES)).unwrap_or(usize::MAX)];
    for partition in &layout.partitions {
        let mut name = [U16::ZERO; MAX_NAME_UNITS];
        // The layout has checked that the name fits.
        for (to, unit) in name.iter_mut().zip(partition.name.encode_utf16()) {
            *to = U16::new(unit);
        }
        let entry = EntryDisk {
            type_guid: partition.role.type_guid().0,
            unique_guid: partition.unique_guid.0,
            first_lba: U64::new(partition.first_lba),
            last_lba: U64::new(partition.last_lba),
            attributes: U64::new(partition.attributes),
            name,
        };
        // Numbers are the places in the table, from 1 to the number of entries.
        let size = size_of::<EntryDisk>();
        let index = usize::try_from(partition.number.saturating_sub(1)).unwrap_or(usize::MAX);
        let place = index.saturating_mul(size)..index.saturating_add(1).saturating_mul(size);
        if let Some(place) = bytes.get_mut(place) {
            place.copy_from_slice(entry.as_bytes());
        }
    }
    bytes
}

/// Which copy of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

impl Copy {
    /// Sector of the header and first sector of the entries.
    pub(crate) fn place(self, layout: &Layout) -> (u64, u64) {
        let last = layout.sectors.saturating_sub(1);
        match self {
            Self::Primary => (1, 2),
            Self::Backup => (last, last.saturating_sub(layout.entry_sectors())),
        }
    }
}

/// The header of one copy, padded to a sector; `entries` is what `entries_bytes` made.
pub(crate) fn header_bytes(layout: &Layout, copy: Copy, entries: &[u8]) -> Vec<u8> {
    let (my_lba, entries_lba) = copy.place(layout);
    let (alternate_lba, _) = match copy {
        Copy::Primary => Copy::Backup.place(layout),
        Copy::Backup => Copy::Primary.place(layout),
    };
    let mut header = HeaderDisk {
        signature: SIGNATURE,
        revision: U32::new(REVISION),
        header_bytes: U32::new(HEADER_BYTES),
        header_crc: U32::ZERO,
        reserved: U32::ZERO,
        my_lba: U64::new(my_lba),
        alternate_lba: U64::new(alternate_lba),
        first_usable: U64::new(layout.first_usable_lba),
        last_usable: U64::new(layout.last_usable_lba),
        disk_guid: layout.disk_guid.0,
        entries_lba: U64::new(entries_lba),
        entry_count: U32::new(ENTRY_COUNT),
        entry_bytes: U32::new(ENTRY_BYTES),
        entries_crc: U32::new(crc32(entries)),
    };
    header.header_crc = U32::new(header_crc(header.as_bytes()));
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(usize::try_from(layout.shape.sector_bytes).unwrap_or(512), 0);
    bytes
}

fn byte_offset(lba: u64, sector_bytes: u32) -> Result<u64, Error> {
    lba.checked_mul(u64::from(sector_bytes)).ok_or_else(|| {
        Error::corrupt("sector number in GPT", 0, "a place below 2^64 bytes", format!("{lba:#x}"))
    })
}

/// Checksum of a header with its own field taken as zero.
fn header_crc(header: &[u8]) -> u32 {
    let (before, rest) = header.split_at_checked(0x10).unwrap_or((header, &[]));
    let after = rest.get(4..).unwrap_or_default();
    let state = [before, &[0; 4], after].iter().fold(u32::MAX, |state, part| crc32_update(state, part));
    !state
}

/// CRC-32 as in Ethernet and zip (UEFI 2.10, 5.3.2).
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !crc32_update(u32::MAX, bytes)
}

fn crc32_update(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        let [low, ..] = state.to_le_bytes();
        CRC_TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0) ^ state >> 8
    })
}

const CRC_TABLE: [u32; 256] = crc_table();

#[expect(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "const, 0..256"
)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_matches_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(header_crc(&[0xff; 0x14]), crc32(&[&[0xff; 0x10][..], &[0; 4]].concat()));
    }
}
