//! The version that a program says it has (PE resource of type 16, `VS_FIXEDFILEINFO`), for rules that compare versions.

/// Offset of the offset of the PE header.
const NEW_HEADER_OFFSET: usize = 0x3c;
const COFF_BYTES: usize = 24;
const SECTION_BYTES: usize = 40;
/// Index of the directory of resources.
const RESOURCES: usize = 2;
/// Resource type of versions.
const VERSION_TYPE: u32 = 16;
/// What a version block starts with; it stands behind a header and a key.
const MAGIC: u32 = 0xfeef_04bd;
/// Header and key `VS_VERSION_INFO` before it, with room for odd padding.
const SEARCHED_BYTES: usize = 64;
/// Sections that are looked at. Programs have about ten.
const MAX_SECTIONS: usize = 96;

/// Major, minor, build, revision of the file; `None` for what is no program or has none.
pub(crate) fn file_version(bytes: &[u8]) -> Option<[u16; 4]> {
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let header = usize_at(bytes, NEW_HEADER_OFFSET)?;
    if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let sections = usize::from(u16_at(bytes, header.checked_add(6)?)?).min(MAX_SECTIONS);
    let optional_len = usize::from(u16_at(bytes, header.checked_add(20)?)?);
    let optional = header.checked_add(COFF_BYTES)?;
    let directories = match u16_at(bytes, optional)? {
        0x10b => 96usize,
        0x20b => 112,
        _ => return None,
    };
    let resources = usize_at(bytes, optional.checked_add(directories)?.checked_add(RESOURCES * 8)?)?;
    let table = optional.checked_add(optional_len)?;
    let section = |address: usize| {
        (0..sections).find_map(|number| {
            let at = table.checked_add(number.checked_mul(SECTION_BYTES)?)?;
            let (virtual_size, start) =
                (usize_at(bytes, at.checked_add(8)?)?, usize_at(bytes, at.checked_add(12)?)?);
            let (raw_size, raw) =
                (usize_at(bytes, at.checked_add(16)?)?, usize_at(bytes, at.checked_add(20)?)?);
            let inside = address.checked_sub(start).filter(|inside| *inside < virtual_size.max(raw_size))?;
            raw.checked_add(inside)
        })
    };
    let root = section(resources).filter(|_| resources != 0)?;
    // Type, then the first name, then the first language.
    let mut at = entry(bytes, root, Some(VERSION_TYPE))?;
    for _ in 0..2 {
        let below = at.checked_sub(0x8000_0000)?;
        at = entry(bytes, root.checked_add(below)?, None)?;
    }
    let leaf = root.checked_add(at).filter(|_| at < 0x8000_0000)?;
    let place = section(usize_at(bytes, leaf)?)?;
    let block = bytes.get(place..)?;
    let found = (0..SEARCHED_BYTES).step_by(4).find(|at| u32_at(block, *at) == Some(MAGIC))?;
    let (high, low) = (u32_at(block, found.checked_add(8)?)?, u32_at(block, found.checked_add(12)?)?);
    let halves = |word: u32| [word >> 16, word & 0xffff].map(|half| u16::try_from(half).unwrap_or(u16::MAX));
    let ([major, minor], [build, revision]) = (halves(high), halves(low));
    Some([major, minor, build, revision])
}

/// Where an entry of a resource directory leads: the one with this id, or the first.
fn entry(bytes: &[u8], directory: usize, wanted: Option<u32>) -> Option<usize> {
    let named = usize::from(u16_at(bytes, directory.checked_add(12)?)?);
    let numbered = usize::from(u16_at(bytes, directory.checked_add(14)?)?);
    (0..named.checked_add(numbered)?).find_map(|number| {
        let at = directory.checked_add(16)?.checked_add(number.checked_mul(8)?)?;
        let id = u32_at(bytes, at)?;
        (wanted.is_none() || wanted == Some(id)).then(|| usize_at(bytes, at.checked_add(4)?)).flatten()
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// A program with this version and nothing else, for tests.
#[cfg(test)]
pub(crate) fn program_of_version(version: [u16; 4]) -> Vec<u8> {
    let mut out = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x86, &1u16.to_le_bytes());
    put(0x94, &240u16.to_le_bytes());
    put(0x98, &0x20bu16.to_le_bytes());
    put(0x98 + 112 + 16, &0x1000u32.to_le_bytes());
    let table = 0x98 + 240;
    for (at, word) in [(8, 0x200u32), (12, 0x1000), (16, 0x200), (20, 0x200)] {
        put(table + at, &word.to_le_bytes());
    }
    // Three directories of an entry each, then the leaf.
    for (directory, id, to) in [(0x200, 16u32, 0x8000_0018u32), (0x218, 1, 0x8000_0030), (0x230, 1033, 0x48)]
    {
        put(directory + 14, &1u16.to_le_bytes());
        put(directory + 16, &id.to_le_bytes());
        put(directory + 20, &to.to_le_bytes());
    }
    put(0x248, &0x1060u32.to_le_bytes());
    put(0x260 + 40, &MAGIC.to_le_bytes());
    let [major, minor, build, revision] = version.map(u32::from);
    put(0x260 + 48, &(major << 16 | minor).to_le_bytes());
    put(0x260 + 52, &(build << 16 | revision).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_cuts_have_none() {
        let program = program_of_version([10, 0, 22621, 3447]);
        assert_eq!(file_version(&program), Some([10, 0, 22621, 3447]));
        for len in 0..0x260 + 56 {
            assert_eq!(file_version(&program[..len]), None, "{len}");
        }
        assert_eq!(file_version(b"MZ"), None);
        let mut endless = program;
        endless[0x20c..0x210].fill(0xff);
        assert_eq!(
            file_version(&endless),
            Some([10, 0, 22621, 3447]),
            "a count that is too large ends with the bytes"
        );
    }
}
