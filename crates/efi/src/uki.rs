//! Unified kernel images (UAPI group, "Unified Kernel Image (UKI)"): a stub with kernel, initramfs and command line as
//! further sections, so that one signature covers all of them.

use crate::program::{after, slice};
use crate::{Error, MAX_PROGRAM_BYTES, Program};

/// Data that is read and nothing else: `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;
const SECTION_HEADER_BYTES: usize = 40;

/// A section to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its name, e.g. `.linux`; at most eight bytes.
    pub name: &'a str,
    /// Its content.
    pub content: &'a [u8],
}

/// The stub with `parts` as sections behind its own, in this order. The kernel belongs last: some start it in place, and it
/// needs room behind itself.
pub fn assemble(stub: &[u8], parts: &[Part<'_>]) -> Result<Vec<u8>, Error> {
    let program = Program::parse(stub)?;
    if program.is_signed() {
        return Err(Error::Unsupported {
            what: "stub",
            value: "it is signed, and adding to it breaks that".into(),
        });
    }
    // What is hashed must be what is made: gaps are refused here too.
    program.digest()?;
    let sections = program.sections();
    let first_free = after(program.table, sections.len().saturating_mul(SECTION_HEADER_BYTES));
    let first_content = sections.iter().filter(|section| section.len > 0).map(|section| section.offset).min();
    let room =
        first_content.unwrap_or(program.header_bytes).min(program.header_bytes).saturating_sub(first_free);
    if room / SECTION_HEADER_BYTES < parts.len() {
        return Err(Error::Unsupported {
            what: "stub",
            value: format!(
                "its header has room for {} more sections, {} are needed",
                room / SECTION_HEADER_BYTES,
                parts.len()
            ),
        });
    }
    // Symbols of a stub that was not stripped stand behind its sections; the new ones take their place.
    let end = sections.iter().map(|section| after(section.offset, section.len)).max().unwrap_or(stub.len());
    let mut out = slice(stub, 0, end.min(stub.len()))?.to_vec();
    put(&mut out, after(program.header, 12), &[0; 8]);
    fill(&mut out, program.file_alignment);
    let mut address = sections.iter().map(|section| after(section.address, section.size)).max().unwrap_or(0);
    let mut data_bytes = 0usize;
    for (number, part) in parts.iter().enumerate() {
        let taken = parts.iter().take(number).any(|other| other.name == part.name);
        if part.name.len() > 8 || taken || sections.iter().any(|section| section.name == part.name) {
            return Err(Error::Unsupported {
                what: "section name",
                value: format!("{:?} is too long or there already", part.name),
            });
        }
        address = align(address, program.section_alignment);
        let offset = out.len();
        if after(offset, part.content.len()) > MAX_PROGRAM_BYTES {
            return Err(Error::Unsupported {
                what: "section of so many bytes",
                value: part.content.len().to_string(),
            });
        }
        out.extend_from_slice(part.content);
        fill(&mut out, program.file_alignment);
        let raw = out.len().saturating_sub(offset);
        data_bytes = after(data_bytes, raw);
        let mut header = [0; SECTION_HEADER_BYTES];
        let (name, rest) = header.split_at_mut(8);
        for (to, from) in name.iter_mut().zip(part.name.bytes()) {
            *to = from;
        }
        let fields = [number32(part.content.len())?, number32(address)?, number32(raw)?, number32(offset)?];
        put(rest, 0, &fields.map(u32::to_le_bytes).concat());
        put(rest, 28, &DATA.to_le_bytes());
        put(&mut out, after(first_free, number.saturating_mul(SECTION_HEADER_BYTES)), &header);
        address = after(address, part.content.len());
    }
    let count = u16::try_from(after(sections.len(), parts.len())).unwrap_or(u16::MAX);
    put(&mut out, after(program.header, 6), &count.to_le_bytes());
    let optional = after(program.header, 24);
    let initialised =
        slice(stub, after(optional, 8), 4)?.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let initialised = initialised.saturating_add(number32(data_bytes)?);
    put(&mut out, after(optional, 8), &initialised.to_le_bytes());
    put(&mut out, after(optional, 56), &number32(align(address, program.section_alignment))?.to_le_bytes());
    // Firmware does not look at the checksum; a wrong one is worse than none.
    put(&mut out, program.checksum_at(), &[0; 4]);
    Program::parse(&out)?.digest()?;
    Ok(out)
}

fn number32(value: usize) -> Result<u32, Error> {
    u32::try_from(value)
        .map_err(|_| Error::Unsupported { what: "program of so many bytes", value: value.to_string() })
}

/// `alignment` is a power of two.
fn align(value: usize, alignment: usize) -> usize {
    value.checked_next_multiple_of(alignment).unwrap_or(usize::MAX)
}

fn fill(out: &mut Vec<u8>, alignment: usize) {
    out.resize(align(out.len(), alignment).min(after(out.len(), alignment)), 0);
}

/// Writes inside `out`; places come from a header that was checked.
pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..after(at, bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
