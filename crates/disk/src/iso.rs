//! What makes the image of a boot medium a CD as well: an ISO 9660 volume (ECMA-119) with one file, the system partition, and
//! El Torito boot entries (version 1.0, 1995) for UEFI and BIOS firmware.
//!
//! It all lies between the partition table and the first partition, where neither the one nor the other looks: the same
//! bytes start a machine from a stick and from a disc. FORMAT.md, section 8, has the places.

use std::ops::Range;

use crate::Error;
use crate::fat::FatTime;

/// Bytes of a sector of a CD.
pub const SECTOR_BYTES: u64 = 2048;
/// Where the bytes of [`structures`] belong: the volume descriptors start at sector 16.
pub const OFFSET: u64 = 16 * SECTOR_BYTES;
/// Name of the file that is the system partition, as loaders ask for it.
pub const SYSTEM_PARTITION: &str = "esp.img";
/// What GRUB finds on a disc as `grub/grub.cfg`: for UEFI too it takes the disc for the place it was started from, not the
/// system partition that firmware made of a part of it.
pub const GRUB_CONFIG: &str = "search --no-floppy --file --set=disc /esp.img
loopback esp ($disc)/esp.img
set root=esp
set prefix=(esp)/grub
configfile (esp)/grub/grub.cfg
";

/// Sectors, from the start of the medium.
const BOOT_RECORD: u64 = 17;
const TERMINATOR: u64 = 18;
const PATH_TABLE_LE: u64 = 19;
const PATH_TABLE_BE: u64 = 20;
const ROOT: u64 = 21;
const CATALOG: u64 = 22;
const GRUB_DIRECTORY: u64 = 23;
const GRUB_COMMANDS: u64 = 24;
const BIOS_CODE: u64 = 25;
/// Bytes of the path table: the root and one directory.
const PATH_TABLE_BYTES: u32 = 22;
const GRUB: &[u8] = b"GRUB";
/// Where GRUB's `cdboot.img` has its table of places, and where the checksum over the rest begins.
const INFO_TABLE: usize = 8;
const INFO_TABLE_END: usize = 64;
/// Largest BIOS boot code: what fits in front of 1 MiB with room to spare.
const MAX_BIOS_BYTES: usize = 900 << 10;

/// What the disc holds.
#[derive(Debug, Clone)]
pub struct Disc<'a> {
    /// Name of the volume: upper case letters, digits and `_`, at most 32; others become `_`.
    pub label: &'a str,
    /// Bytes of the whole image.
    pub size_bytes: u64,
    /// Where the FAT system partition is: byte range, whole sectors of 2048 bytes.
    pub system_partition: Range<u64>,
    /// GRUB for BIOS machines, as `grub-mkimage -O i386-pc-eltorito` makes it.
    pub bios_code: Option<&'a [u8]>,
    /// When the disc was made.
    pub time: FatTime,
}

/// The bytes that belong at [`OFFSET`]; they end before `room_end`.
pub fn structures(disc: &Disc<'_>, room_end: u64) -> Result<Vec<u8>, Error> {
    let part = &disc.system_partition;
    let is_whole = |bytes: u64| bytes.is_multiple_of(SECTOR_BYTES);
    let invalid = |why: String| Error::Invalid { what: "image of a disc".into(), why };
    if !is_whole(part.start) || !is_whole(part.end) || part.start >= part.end || part.end > disc.size_bytes {
        return Err(invalid(format!("a system partition at {part:?} of {} bytes", disc.size_bytes)));
    }
    let sectors = |bytes: u64| bytes.checked_div(SECTOR_BYTES).and_then(|count| u32::try_from(count).ok());
    let (Some(total), Some(start)) = (sectors(disc.size_bytes), sectors(part.start)) else {
        return Err(invalid(format!("{} bytes are more than a disc has", disc.size_bytes)));
    };
    let len = part.end.saturating_sub(part.start);
    let len = u32::try_from(len).map_err(|_| invalid(format!("a system partition of {len} bytes")))?;

    let mut image = Image::default();
    let root = directory_record(&[0], ROOT, 2048, true, disc.time);
    image.put(16, &primary_descriptor(disc, total, &root));
    image.put(BOOT_RECORD, &boot_record());
    image.put(TERMINATOR, b"\xffCD001\x01");
    image.put(PATH_TABLE_LE, &path_table(u32::to_le_bytes, u16::to_le_bytes));
    image.put(PATH_TABLE_BE, &path_table(u32::to_be_bytes, u16::to_be_bytes));
    let name = format!("{};1", SYSTEM_PARTITION.to_ascii_uppercase());
    let parent = directory_record(&[1], ROOT, 2048, true, disc.time);
    let file = directory_record(name.as_bytes(), start.into(), len, false, disc.time);
    let grub = directory_record(GRUB, GRUB_DIRECTORY, 2048, true, disc.time);
    image.put(ROOT, &[root, parent.clone(), file, grub].concat());
    let own = directory_record(&[0], GRUB_DIRECTORY, 2048, true, disc.time);
    let config_bytes = u32::try_from(GRUB_CONFIG.len()).unwrap_or(0);
    let config = directory_record(b"GRUB.CFG;1", GRUB_COMMANDS, config_bytes, false, disc.time);
    image.put(GRUB_DIRECTORY, &[own, parent, config].concat());
    image.put(GRUB_COMMANDS, GRUB_CONFIG.as_bytes());
    let bios = disc.bios_code.map(bios_code).transpose()?;
    image.put(CATALOG, &catalog(start, bios.is_some()));
    if let Some(code) = &bios {
        image.put(BIOS_CODE, code);
    }
    let wanted = u64::try_from(image.bytes.len()).unwrap_or(u64::MAX).saturating_add(OFFSET);
    if wanted > room_end {
        let what = "volume of a disc before the first partition".into();
        return Err(Error::DoesNotFit { what, wanted, available: room_end });
    }
    Ok(image.bytes)
}

/// Bytes from [`OFFSET`] on.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Puts `content` at the start of `sector` of the medium, zeros to the end of its last sector.
    fn put(&mut self, sector: u64, content: &[u8]) {
        let at = sector.saturating_mul(SECTOR_BYTES).saturating_sub(OFFSET);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(content.len()).next_multiple_of(2048);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(to) = self.bytes.get_mut(at..at.saturating_add(content.len())) {
            to.copy_from_slice(content);
        }
    }
}

/// A number in both byte orders, as ECMA-119 has them (7.3.3, 7.2.3).
fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

/// Text padded with blanks.
fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.bytes().take(len).collect();
    bytes.resize(len, b' ');
    bytes
}

/// ECMA-119, 8.4.
fn primary_descriptor(disc: &Disc<'_>, total: u32, root: &[u8]) -> Vec<u8> {
    let allowed = |c: char| if c.is_ascii_uppercase() || c.is_ascii_digit() { c } else { '_' };
    let label: String = disc.label.chars().map(allowed).collect();
    let date = long_date(disc.time);
    let mut bytes = b"\x01CD001\x01\0".to_vec();
    bytes.extend(padded("", 32));
    bytes.extend(padded(&label, 32));
    bytes.extend([0; 8]);
    bytes.extend(both32(total));
    bytes.extend([0; 32]);
    bytes.extend(both16(1));
    bytes.extend(both16(1));
    bytes.extend(both16(2048));
    bytes.extend(both32(PATH_TABLE_BYTES));
    let table = |sector: u64| u32::try_from(sector).unwrap_or(0);
    bytes.extend(table(PATH_TABLE_LE).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(table(PATH_TABLE_BE).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(root);
    // Volume set, publisher, preparer; the program that made it; three names of files.
    bytes.extend(padded("", 3 * 128));
    bytes.extend(padded("GRAVURE", 128));
    bytes.extend(padded("", 3 * 37));
    bytes.extend(&date);
    bytes.extend(&date);
    // Neither an end nor a beginning of its validity.
    let never = [b"0".repeat(16), vec![0]].concat();
    bytes.extend(never.repeat(2));
    bytes.push(1);
    bytes
}

/// El Torito, figure 7.
fn boot_record() -> Vec<u8> {
    let mut bytes = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    bytes.resize(71, 0);
    bytes.extend(u32::try_from(CATALOG).unwrap_or(0).to_le_bytes());
    bytes
}

/// The root and the directory below it (ECMA-119, 9.4).
fn path_table(number: fn(u32) -> [u8; 4], parent: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let place = |sector: u64| number(u32::try_from(sector).unwrap_or(0));
    let root = [&[1, 0][..], &place(ROOT), &parent(1), &[0, 0]].concat();
    let grub = [&[4, 0][..], &place(GRUB_DIRECTORY), &parent(1), GRUB].concat();
    [root, grub].concat()
}

/// ECMA-119, 9.1.
fn directory_record(name: &[u8], sector: u64, len: u32, is_directory: bool, time: FatTime) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both32(u32::try_from(sector).unwrap_or(0)));
    bytes.extend(both32(len));
    let [year, month, day, hour, minute, second] = fields(time);
    let field = |value: u16| u8::try_from(value).unwrap_or(0);
    bytes.push(field(year.saturating_sub(1900)));
    bytes.extend([month, day, hour, minute, second].map(field));
    // Offset from Greenwich: none.
    bytes.push(0);
    bytes.push(if is_directory { 2 } else { 0 });
    bytes.extend([0, 0]);
    bytes.extend(both16(1));
    bytes.push(u8::try_from(name.len()).unwrap_or(0));
    bytes.extend(name);
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
    let whole = u8::try_from(bytes.len()).unwrap_or(0);
    if let Some(first) = bytes.first_mut() {
        *first = whole;
    }
    bytes
}

/// Year, month, day, hour, minute, second.
fn fields(time: FatTime) -> [u16; 6] {
    let FatTime { date, time } = time;
    [
        1980_u16.saturating_add(date >> 9),
        date >> 5 & 15,
        date & 31,
        time >> 11,
        time >> 5 & 63,
        (time & 31) << 1,
    ]
}

/// ECMA-119, 8.4.26.1.
fn long_date(time: FatTime) -> Vec<u8> {
    let [year, month, day, hour, minute, second] = fields(time);
    let mut bytes = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00").into_bytes();
    bytes.push(0);
    bytes
}

/// The boot catalogue: BIOS code first where there is any, then the system partition for UEFI (El Torito, section 2).
fn catalog(system_partition: u32, has_bios: bool) -> Vec<u8> {
    const X86: u8 = 0;
    const EFI: u8 = 0xef;
    let bootable = |sectors: u16, start: u32| {
        // No emulation, default segment.
        let mut entry = vec![0x88, 0, 0, 0, 0, 0];
        entry.extend(sectors.to_le_bytes());
        entry.extend(start.to_le_bytes());
        entry.resize(32, 0);
        entry
    };
    let validation = |checksum: u16| {
        let mut entry = vec![1, if has_bios { X86 } else { EFI }];
        entry.resize(28, 0);
        entry.extend(checksum.to_le_bytes());
        entry.extend([0x55, 0xaa]);
        entry
    };
    // All words together give zero.
    let words = validation(0);
    let words = words.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    let validation = validation(words.fold(0, u16::wrapping_add).wrapping_neg());
    // One sector means: as much as there is (EDK II takes the rest of the disc, the FAT knows its own size).
    let efi = bootable(1, system_partition);
    if !has_bios {
        return [validation, efi].concat();
    }
    // The BIOS loads four sectors of 512 bytes, which load the rest.
    let bios = bootable(4, u32::try_from(BIOS_CODE).unwrap_or(0));
    let mut section = vec![0x91, EFI, 1, 0];
    section.resize(32, 0);
    [validation, bios, section, efi].concat()
}

/// Tells GRUB's code where it is: the "boot information table" of its `cdboot.img`.
fn bios_code(code: &[u8]) -> Result<Vec<u8>, Error> {
    if code.len() <= INFO_TABLE_END || code.len() > MAX_BIOS_BYTES {
        let expected = format!("{} to {MAX_BIOS_BYTES} bytes", INFO_TABLE_END.saturating_add(1));
        return Err(Error::corrupt("GRUB's image for discs", 0, expected, format!("{} bytes", code.len())));
    }
    let mut bytes = code.to_vec();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let sum = bytes.get(INFO_TABLE_END..).unwrap_or_default().chunks(4).fold(0u32, |sum, word| {
        let mut whole = [0; 4];
        whole.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        sum.wrapping_add(u32::from_le_bytes(whole))
    });
    let place = u32::try_from(BIOS_CODE).unwrap_or(0);
    let table: Vec<u8> = [16, place, len, sum].into_iter().flat_map(u32::to_le_bytes).collect();
    for (to, from) in
        bytes.iter_mut().take(INFO_TABLE_END).skip(INFO_TABLE).zip(table.into_iter().chain([0; 40]))
    {
        *to = from;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 1 << 20;

    fn disc(bios_code: Option<&[u8]>) -> Disc<'_> {
        Disc {
            label: "GRAVURE 7",
            size_bytes: 64 << 20,
            system_partition: 2 << 20..60 << 20,
            bios_code,
            time: FatTime::from_unix(951_782_399),
        }
    }

    fn at(bytes: &[u8], sector: u64) -> &[u8] {
        let start = usize::try_from(sector * SECTOR_BYTES - OFFSET).unwrap();
        &bytes[start..start + 2048]
    }

    #[test]
    fn descriptors_stand_where_firmware_looks() {
        let bytes = structures(&disc(None), ROOM).unwrap();
        let primary = at(&bytes, 16);
        assert_eq!(&primary[..8], b"\x01CD001\x01\0");
        assert_eq!(&primary[40..50], b"GRAVURE_7 ");
        assert_eq!(primary[80..88], both32(32768));
        assert_eq!(&primary[813..829], b"2000022823595800");
        assert_eq!(primary[881], 1);
        assert_eq!(&at(&bytes, 17)[7..30], b"EL TORITO SPECIFICATION");
        assert_eq!(at(&bytes, 17)[71..75], 22u32.to_le_bytes());
        let root = at(&bytes, 21);
        assert_eq!((root[0], root[34]), (34, 34), "itself and its parent");
        assert_eq!(&root[68 + 33..68 + 42], b"ESP.IMG;1");
        assert_eq!(root[68 + 2..68 + 10], both32(1024));
        let file = usize::from(root[68]);
        assert_eq!(&root[68 + file + 33..68 + file + 37], GRUB);
        assert_eq!(&at(&bytes, 23)[68 + 33..68 + 43], b"GRUB.CFG;1");
        assert!(at(&bytes, 24).starts_with(GRUB_CONFIG.as_bytes()));
    }

    #[test]
    fn the_catalogue_has_a_checksum_and_an_entry_for_each_firmware() {
        let code = vec![7; 5001];
        for (bios, entries) in [(None, 2), (Some(code.as_slice()), 4)] {
            let bytes = structures(&disc(bios), ROOM).unwrap();
            let catalog = at(&bytes, 22);
            let words = catalog[..32].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            assert_eq!(words.fold(0, u16::wrapping_add), 0);
            assert!(catalog[entries * 32..].iter().all(|byte| *byte == 0));
            let efi = &catalog[(entries - 1) * 32..];
            assert_eq!((efi[0], &efi[8..12]), (0x88, 1024u32.to_le_bytes().as_slice()));
        }
        let bytes = structures(&disc(Some(&code)), ROOM).unwrap();
        let table: Vec<u32> = at(&bytes, 25)[8..24]
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        // 4937 bytes of 7 behind the table: 1234 words and one byte.
        let sum = 0x0707_0707u32.wrapping_mul(1234).wrapping_add(7);
        assert_eq!(table, [16, 25, 5001, sum]);
    }

    #[test]
    fn what_makes_no_disc_is_refused() {
        let odd = Disc { system_partition: 2 << 20..(60 << 20) + 512, ..disc(None) };
        assert!(structures(&odd, ROOM).unwrap_err().to_string().contains("system partition"));
        let behind = Disc { size_bytes: 3 << 20, ..disc(None) };
        assert!(structures(&behind, ROOM).is_err());
        let code = vec![1; MAX_BIOS_BYTES];
        assert!(matches!(structures(&disc(Some(&code)), 100_000), Err(Error::DoesNotFit { .. })));
        assert!(matches!(structures(&disc(Some(&[1; 64])), ROOM), Err(Error::Corrupt { .. })));
    }
}
