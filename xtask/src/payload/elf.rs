//! Which shared libraries an ELF program asks for: just enough of the format to close the set of files.

use anyhow::{Context, Result, ensure};

/// Program header types.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Tags of the dynamic section.
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// What a program or library needs at run time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Path of the dynamic loader, for programs.
    pub(super) interpreter: Option<String>,
    /// Names of libraries.
    pub(super) libraries: Vec<String>,
}

/// Whether the bytes are an ELF file at all.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads a 64-bit little-endian ELF file. A static program needs nothing.
pub(super) fn needs(bytes: &[u8]) -> Result<Needs> {
    ensure!(is_elf(bytes), "not an ELF file");
    ensure!(bytes.get(4..6) == Some(&[2, 1]), "not a 64-bit little-endian ELF file");
    let table = number(bytes, 0x20, 8)?;
    let entry_len = number(bytes, 0x36, 2)?;
    let count = number(bytes, 0x38, 2)?;
    let mut segments = Vec::new();
    for index in 0..count {
        let at = index
            .checked_mul(entry_len)
            .and_then(|o| o.checked_add(table))
            .context("program header lies nowhere")?;
        segments.push(Segment {
            kind: u32::try_from(number(bytes, at, 4)?)?,
            offset: number(bytes, field(at, 0x08)?, 8)?,
            address: number(bytes, field(at, 0x10)?, 8)?,
            len: number(bytes, field(at, 0x20)?, 8)?,
        });
    }
    let mut found = Needs::default();
    if let Some(segment) = segments.iter().find(|s| s.kind == PT_INTERP) {
        found.interpreter = Some(string(bytes, segment.offset)?);
    }
    let Some(dynamic) = segments.iter().find(|s| s.kind == PT_DYNAMIC) else { return Ok(found) };
    let (mut names, mut strings) = (Vec::new(), None);
    for index in 0..dynamic.len / 16 {
        let at = dynamic.offset.checked_add(index * 16).context("dynamic section lies nowhere")?;
        match (number(bytes, at, 8)?, number(bytes, field(at, 8)?, 8)?) {
            (DT_NULL, _) => break,
            (DT_NEEDED, name) => names.push(name),
            (DT_STRTAB, address) => strings = Some(address),
            _ => {}
        }
    }
    if names.is_empty() {
        return Ok(found);
    }
    let address = strings.context("no string table")?;
    let load =
        segments.iter().find(|s| s.kind == PT_LOAD && s.address <= address && address - s.address < s.len);
    let load = load.context("the string table is not in the file")?;
    let table = (address - load.address).checked_add(load.offset).context("string table lies nowhere")?;
    for name in names {
        found.libraries.push(string(bytes, table.checked_add(name).context("library name lies nowhere")?)?);
    }
    Ok(found)
}

/// The fields of a program header that matter here.
#[derive(Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    len: u64,
}

fn field(base: u64, offset: u64) -> Result<u64> {
    base.checked_add(offset).context("header lies nowhere")
}

/// A little-endian number of `len` bytes (at most 8) at `offset`.
fn number(bytes: &[u8], offset: u64, len: usize) -> Result<u64> {
    let start = usize::try_from(offset)?;
    let end = start.checked_add(len).context("offset too large")?;
    let raw = bytes
        .get(start..end)
        .with_context(|| format!("{len} bytes wanted at {offset:#x}, file too short"))?;
    let mut buf = [0; 8];
    buf[..len].copy_from_slice(raw);
    Ok(u64::from_le_bytes(buf))
}

/// A NUL-terminated string.
fn string(bytes: &[u8], offset: u64) -> Result<String> {
    let rest = bytes.get(usize::try_from(offset)?..).context("string lies behind the end of the file")?;
    let len = rest.iter().position(|byte| *byte == 0).context("string without end")?;
    Ok(String::from_utf8(rest[..len].to_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_the_c_library() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = needs(&bytes).unwrap();
        assert!(found.libraries.iter().any(|name| name.starts_with("libc.so")), "{found:?}");
        assert!(found.interpreter.is_some_and(|path| path.contains("ld-linux")));
    }

    #[test]
    fn any_cut_is_an_error_and_not_a_panic() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for cut in (0..0x400).chain((0x400..bytes.len()).step_by(bytes.len() / 97)) {
            // A cut behind everything that is read gives the same answer; before that it is an error.
            if let Ok(found) = needs(&bytes[..cut]) {
                assert_eq!(found, needs(&bytes).unwrap(), "cut at {cut:#x}");
            }
        }
        assert_eq!(needs(b"#!/bin/sh").unwrap_err().to_string(), "not an ELF file");
    }
}
