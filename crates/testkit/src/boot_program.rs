//! A program for UEFI firmware that has nothing but sections: what shim and its SBAT levels are read from.

/// Length of a section's header.
const SECTION_HEADER_BYTES: usize = 40;

/// A PE program with these sections. Names beyond eight bytes go to the string table, as in Debian's shim (`.sbatlevel`).
#[must_use]
pub fn boot_program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let header = 0x40;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut strings = vec![0u8; 4];
    let (mut table, mut data): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let data_at = header + 24 + SECTION_HEADER_BYTES * sections.len();
    for (name, content) in sections {
        let mut entry = vec![0u8; SECTION_HEADER_BYTES];
        let short = if name.len() > 8 { format!("/{}", strings.len()) } else { (*name).to_owned() };
        if name.len() > 8 {
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        entry[..short.len()].copy_from_slice(short.as_bytes());
        entry[8..12].copy_from_slice(&number(content.len()));
        entry[16..20].copy_from_slice(&number(content.len()));
        entry[20..24].copy_from_slice(&number(data_at + data.len()));
        data.extend(*content);
        table.extend(entry);
    }
    let mut bytes = vec![0u8; header + 24];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[header..header + 4].copy_from_slice(b"PE\0\0");
    bytes[header + 6] = u8::try_from(sections.len()).unwrap_or(u8::MAX);
    bytes[header + 12..header + 16].copy_from_slice(&number(data_at + data.len()));
    bytes.extend(table);
    bytes.extend(data);
    bytes.extend(strings);
    bytes
}
