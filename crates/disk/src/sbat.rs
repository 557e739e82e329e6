//! Generations of boot programs (SBAT): which of them a shim refuses.
//!
//! shim compares the generations in the `.sbat` section of what it starts with its own levels (section `.sbatlevel`), which
//! firmware may have raised. A GRUB below the level of the shim beside it boots nowhere, and the machine only says "Security
//! Violation"; so it is refused before it is served. PE layout: Microsoft PE/COFF specification, sections 3 and 4.

use crate::Error;

/// Where the offset of the PE header stands.
const PE_OFFSET_AT: usize = 0x3c;
const SECTION_HEADER_BYTES: usize = 40;
/// More sections than any boot program has.
const MAX_SECTIONS: usize = 96;
/// SBAT texts have a few lines.
const MAX_LINES: usize = 256;

/// A component and its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its name, e.g. `grub.debian`.
    pub component: String,
    /// Its generation; higher is newer.
    pub generation: u32,
}

/// The content of a section of a PE program, by name; names beyond eight bytes are looked up in the string table.
#[must_use]
pub fn section<'a>(program: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let number = |at: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let short = |at: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    let header = number(PE_OFFSET_AT)?;
    if program.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let count = short(header.checked_add(6)?)?.min(MAX_SECTIONS);
    let optional = short(header.checked_add(20)?)?;
    let symbols = number(header.checked_add(12)?)?;
    let symbol_count = number(header.checked_add(16)?)?;
    // The string table follows the symbols, 18 bytes each.
    let strings = symbols.checked_add(symbol_count.checked_mul(18)?)?;
    let first = header.checked_add(24)?.checked_add(optional)?;
    for index in 0..count {
        let at = first.checked_add(index.checked_mul(SECTION_HEADER_BYTES)?)?;
        let raw = program.get(at..at.checked_add(8)?)?;
        let name = text(raw);
        let long = name.strip_prefix('/').and_then(|offset| offset.parse::<usize>().ok());
        let name = match long {
            Some(offset) => {
                let from = strings.checked_add(offset)?;
                text(program.get(from..from.checked_add(64)?.min(program.len()))?)
            }
            None => name,
        };
        if name == wanted {
            let (virtual_size, size) = (number(at.checked_add(8)?)?, number(at.checked_add(16)?)?);
            let from = number(at.checked_add(20)?)?;
            return program.get(from..from.checked_add(virtual_size.min(size))?);
        }
    }
    None
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
}

fn parse(text: &str) -> Vec<Generation> {
    let line = |line: &str| {
        let mut fields = line.split(',');
        let (component, generation) = (fields.next()?, fields.next()?);
        Some(Generation { component: component.to_owned(), generation: generation.trim().parse().ok()? })
    };
    text.lines().take(MAX_LINES).filter_map(line).collect()
}

/// What a boot program says of itself; empty when it says nothing.
#[must_use]
pub fn generations(program: &[u8]) -> Vec<Generation> {
    section(program, ".sbat").map(|bytes| parse(text(bytes))).unwrap_or_default()
}

/// What a shim asks for: the newest of the levels it carries. Empty when it carries none.
#[must_use]
pub fn levels(shim: &[u8]) -> Vec<Generation> {
    let Some(bytes) = section(shim, ".sbatlevel") else { return Vec::new() };
    // A header with offsets, then texts that end with a NUL, the latest last; each begins with its own line.
    let mut texts = bytes.split(|byte| *byte == 0).filter_map(|part| {
        let at = part.windows(5).position(|window| window == b"sbat,")?;
        core::str::from_utf8(part.get(at..)?).ok()
    });
    texts.next_back().map(parse).unwrap_or_default()
}

/// Refuses `program` when `shim` would.
pub fn check(shim: &[u8], program: &[u8]) -> Result<(), Error> {
    let own = generations(program);
    for level in levels(shim) {
        let found = own.iter().find(|generation| generation.component == level.component);
        if let Some(found) = found.filter(|found| found.generation < level.generation) {
            return Err(Error::corrupt(
                "SBAT generation of a boot program",
                0,
                format!("{} {} or newer, as the shim beside it asks", level.component, level.generation),
                format!("{} {}", found.component, found.generation),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE program with these sections.
    fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let header = 0x40;
        let mut strings = vec![0u8; 4];
        let mut table = Vec::new();
        let data_at = header + 24 + 40 * sections.len();
        let mut data: Vec<u8> = Vec::new();
        for (name, content) in sections {
            let mut entry = vec![0u8; 40];
            if name.len() > 8 {
                let short = format!("/{}", strings.len());
                entry[..short.len()].copy_from_slice(short.as_bytes());
                strings.extend(name.as_bytes());
                strings.push(0);
            } else {
                entry[..name.len()].copy_from_slice(name.as_bytes());
            }
            let len = u32::try_from(content.len()).unwrap().to_le_bytes();
            entry[8..12].copy_from_slice(&len);
            entry[16..20].copy_from_slice(&len);
            entry[20..24].copy_from_slice(&u32::try_from(data_at + data.len()).unwrap().to_le_bytes());
            data.extend(*content);
            table.extend(entry);
        }
        let mut bytes = vec![0u8; header + 24];
        bytes[0x3c] = 0x40;
        bytes[header..header + 4].copy_from_slice(b"PE\0\0");
        bytes[header + 6] = u8::try_from(sections.len()).unwrap();
        let strings_at = u32::try_from(data_at + data.len()).unwrap();
        bytes[header + 12..header + 16].copy_from_slice(&strings_at.to_le_bytes());
        bytes.extend(table);
        bytes.extend(data);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_program_below_the_latest_level_is_refused_by_name() {
        let levels_text = b"\0\0\0\0\x08\0\0\0\x20\0\0\0sbat,1,2022\nshim,2\ngrub,3\n\0sbat,1,2024\nshim,4\ngrub,5\ngrub.debian,4\n\0";
        let shim = program(&[(".text", b"x"), (".sbatlevel", levels_text)]);
        assert_eq!(levels(&shim).len(), 4);
        let grub = |text: &str| program(&[(".sbat", text.as_bytes())]);
        assert!(check(&shim, &grub("sbat,1,x\ngrub,5,FSF\ngrub.debian,4,Debian\n")).is_ok());
        assert!(check(&shim, &grub("sbat,1,x\nother,1\n")).is_ok());
        let error = check(&shim, &grub("sbat,1,x\ngrub,5\ngrub.debian,3\n")).unwrap_err().to_string();
        assert!(
            error.contains("expected grub.debian 4 or newer") && error.contains("found grub.debian 3"),
            "{error}"
        );
        // A shim without levels asks for nothing.
        assert!(check(&grub("shim,1"), &grub("grub,1")).is_ok());
    }

    #[test]
    fn cuts_and_noise_give_nothing() {
        let whole = program(&[(".sbatlevel", b"\0sbat,1,x\ngrub,5\n\0"), (".sbat", b"grub,4\n")]);
        assert!(check(&whole, &whole).is_err());
        for cut in 0..whole.len() {
            let _ = check(&whole[..cut], &whole);
            let _ = check(&whole, &whole[..cut]);
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = check(&changed, &changed);
        }
    }
}
