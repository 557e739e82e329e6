//! PE32+ programs (Microsoft PE/COFF specification, sections 2 to 4): header, sections, where a signature stands, and
//! which bytes it covers ("Windows Authenticode Portable Executable Signature Format").
//!
//! Only layouts without gaps are taken, as linkers make them: headers, then sections in the order of the file, one behind
//! the other. For those the covered bytes are all of the file but three places, whoever computes the hash.

use sha2::{Digest, Sha256};

use crate::Error;

/// Largest program that is read or made: kernel and initramfs in one.
pub const MAX_PROGRAM_BYTES: usize = 1 << 30;
/// More sections than any boot program has.
const MAX_SECTIONS: usize = 96;

const PE_OFFSET_AT: usize = 0x3c;
const COFF_BYTES: usize = 24;
const SECTION_HEADER_BYTES: usize = 40;
/// `PE32+`.
const MAGIC_64: u16 = 0x20b;
/// x86-64 and arm64.
const MACHINES: [u16; 2] = [0x8664, 0xaa64];
/// Size of the optional header before its directories.
const DIRECTORIES_POS: usize = 112;
const SECURITY_DIRECTORY: usize = 4;

/// A program whose header was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program<'a> {
    pub(crate) bytes: &'a [u8],
    /// Offset of the COFF header's `PE\0\0`.
    pub(crate) header: usize,
    /// Offset of the section table.
    pub(crate) table: usize,
    /// `SizeOfHeaders`.
    pub(crate) header_bytes: usize,
    pub(crate) section_alignment: usize,
    pub(crate) file_alignment: usize,
    sections: Vec<Section>,
    /// Place of the certificate table.
    certificates: Option<(usize, usize)>,
}

/// A section of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it is loaded, bytes from the image's base.
    pub address: usize,
    /// Its size there.
    pub size: usize,
    /// Where its bytes stand in the file.
    pub offset: usize,
    /// How many there are; zeros fill it up to `size`.
    pub len: usize,
}

impl Section {
    /// Bytes that mean something: without what only fills the file up.
    fn meant(&self) -> usize {
        self.len.min(self.size)
    }
}

impl<'a> Program<'a> {
    /// Checks `bytes`, which start at offset 0 of the file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_PROGRAM_BYTES {
            return Err(Error::Unsupported {
                what: "program of so many bytes",
                value: bytes.len().to_string(),
            });
        }
        if !bytes.starts_with(b"MZ") {
            return Err(Error::corrupt("program", 0, "\"MZ\"", "something else"));
        }
        let header = u32_at(bytes, PE_OFFSET_AT)?;
        if slice(bytes, header, 4)? != b"PE\0\0" {
            return Err(Error::corrupt("PE header", header, "\"PE\"", "something else"));
        }
        let machine = u16_at(bytes, after(header, 4))?;
        if !MACHINES.contains(&machine) {
            return Err(Error::Unsupported { what: "program for machine", value: format!("{machine:#06x}") });
        }
        let optional = after(header, COFF_BYTES);
        let magic = u16_at(bytes, optional)?;
        if magic != MAGIC_64 {
            return Err(Error::Unsupported { what: "optional header", value: format!("{magic:#06x}") });
        }
        let optional_bytes = usize::from(u16_at(bytes, after(header, 20))?);
        let directories = u32_at(bytes, after(optional, DIRECTORIES_POS - 4))?;
        let fits = optional_bytes >= DIRECTORIES_POS + (SECURITY_DIRECTORY + 1) * 8;
        if directories <= SECURITY_DIRECTORY || !fits {
            return Err(Error::corrupt(
                "data directories",
                after(optional, 108),
                "at least 5",
                directories.to_string(),
            ));
        }
        let section_alignment = u32_at(bytes, after(optional, 32))?;
        let file_alignment = u32_at(bytes, after(optional, 36))?;
        for (what, at, value) in
            [("section alignment", 32, section_alignment), ("file alignment", 36, file_alignment)]
        {
            if !value.is_power_of_two() || !(16..=1 << 21).contains(&value) {
                return Err(Error::corrupt(
                    what,
                    after(optional, at),
                    "a power of two from 16 to 2 MiB",
                    value.to_string(),
                ));
            }
        }
        let header_bytes = u32_at(bytes, after(optional, 60))?;
        let table = after(optional, optional_bytes);
        let count = usize::from(u16_at(bytes, after(header, 6))?);
        let table_end = after(table, count.saturating_mul(SECTION_HEADER_BYTES));
        if count > MAX_SECTIONS || table_end > header_bytes || header_bytes > bytes.len() {
            return Err(Error::corrupt(
                "section table",
                table,
                "at most 96 sections inside the headers",
                count.to_string(),
            ));
        }
        let sections = (0..count)
            .map(|index| section(bytes, after(table, index.saturating_mul(SECTION_HEADER_BYTES))))
            .collect::<Result<Vec<_>, _>>()?;
        let place = after(optional, DIRECTORIES_POS + SECURITY_DIRECTORY * 8);
        let certificates = match (u32_at(bytes, place)?, u32_at(bytes, after(place, 4))?) {
            (_, 0) => None,
            (offset, len) => {
                let end = after(offset, len);
                if end != bytes.len() || offset < header_bytes {
                    return Err(Error::corrupt(
                        "certificate table",
                        place,
                        "the end of the file",
                        format!("{offset:#x}+{len:#x}"),
                    ));
                }
                Some((offset, len))
            }
        };
        Ok(Self {
            bytes,
            header,
            table,
            header_bytes,
            section_alignment,
            file_alignment,
            sections,
            certificates,
        })
    }

    /// Its sections, in the order of its table.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The content of a section.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        self.bytes.get(section.offset..after(section.offset, section.meant()))
    }

    /// Whether it carries a signature.
    pub fn is_signed(&self) -> bool {
        self.certificates.is_some()
    }

    /// Its signatures, as they stand in the file; empty when there are none.
    pub fn signatures(&self) -> &'a [u8] {
        self.certificates.and_then(|(offset, _)| self.bytes.get(offset..)).unwrap_or_default()
    }

    /// What a signature covers, as a SHA-256 hash. Refuses programs with bytes between their sections, which some
    /// implementations hash and some do not.
    pub fn digest(&self) -> Result<[u8; 32], Error> {
        let mut places: Vec<&Section> = self.sections.iter().filter(|section| section.len > 0).collect();
        places.sort_by_key(|section| section.offset);
        let mut end = self.header_bytes;
        for section in places {
            if section.offset != end {
                return Err(Error::corrupt(
                    "section",
                    section.offset,
                    "the end of what is before it",
                    format!("{end:#x}"),
                ));
            }
            end = after(section.offset, section.len);
        }
        let checksum = self.checksum_at();
        let directory = self.directory_at();
        let stop = self.certificates.map_or(self.bytes.len(), |(offset, _)| offset);
        let mut hash = Sha256::new();
        for (from, to) in [(0, checksum), (after(checksum, 4), directory), (after(directory, 8), stop)] {
            hash.update(self.bytes.get(from..to).unwrap_or_default());
        }
        Ok(hash.finalize().into())
    }

    /// Where the checksum stands.
    pub(crate) fn checksum_at(&self) -> usize {
        after(self.header, COFF_BYTES + 64)
    }

    /// Where the place of the certificate table stands.
    pub(crate) fn directory_at(&self) -> usize {
        after(self.header, COFF_BYTES + DIRECTORIES_POS + SECURITY_DIRECTORY * 8)
    }
}

/// Reads a section header.
fn section(bytes: &[u8], at: usize) -> Result<Section, Error> {
    let raw = slice(bytes, at, 8)?;
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(8);
    let name = String::from_utf8_lossy(raw.get(..end).unwrap_or_default()).into_owned();
    let [size, address, len, offset] = [8, 12, 16, 20].map(|pos| u32_at(bytes, after(at, pos)));
    let section = Section { name, address: address?, size: size?, offset: offset?, len: len? };
    if section.len > 0 && after(section.offset, section.len) > bytes.len() {
        let found = format!("{:#x}+{:#x}", section.offset, section.len);
        return Err(Error::corrupt("section", at, "bytes inside the file", found));
    }
    Ok(section)
}

/// Sums of offsets that were read: beyond the end of every file is far enough.
pub(crate) fn after(at: usize, len: usize) -> usize {
    at.saturating_add(len)
}

pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Error> {
    let found = bytes.get(at..after(at, len));
    found.ok_or_else(|| Error::corrupt("program", at, "more bytes", format!("the end at {:#x}", bytes.len())))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Error> {
    let raw = slice(bytes, at, 2)?;
    Ok(raw.try_into().map(u16::from_le_bytes).unwrap_or_default())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let raw = slice(bytes, at, 4)?;
    let value = raw.try_into().map(u32::from_le_bytes).unwrap_or_default();
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}
