//! SMBIOS out of a file: the table alone, as sysfs shows it, or with its entry point in front, as `dmidecode --dump-bin`
//! writes it.

use super::entry::EntryPoint;
use super::table::Structures;
use crate::Error;
use crate::field::{array_at, u32_at};

/// Splits a file into entry point and table; the former is absent where the file has the table only.
pub fn split(bytes: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Error> {
    let corrupt =
        |expected, found: String| Error::Corrupt { what: "SMBIOS dump", offset: 0, expected, found };
    if !bytes.starts_with(b"_SM") && !bytes.starts_with(b"_DMI_") {
        // A table has no mark; that its first structure makes sense must do.
        return match Structures::new(bytes).next() {
            Some(Ok(_)) => Ok((None, bytes)),
            _ => {
                let start: Vec<u8> = bytes.iter().copied().take(8).collect();
                Err(corrupt("an entry point or a table", format!("{start:02x?}")))
            }
        };
    }
    EntryPoint::parse(bytes)?;
    let missing = || corrupt("a table address in the entry point", "its end".to_owned());
    // Dumps have the place in the file where memory had the address.
    let at = if bytes.starts_with(b"_SM3_") {
        u64::from_le_bytes(array_at(bytes, 0x10).ok_or_else(missing)?)
    } else if bytes.starts_with(b"_SM_") {
        u64::from(u32_at(bytes, 0x18).ok_or_else(missing)?)
    } else {
        u64::from(u32_at(bytes, 0x08).ok_or_else(missing)?)
    };
    let table = usize::try_from(at).ok().filter(|at| *at > 0).and_then(|at| bytes.get(at..));
    match table {
        Some(table) if !table.is_empty() => Ok((Some(bytes), table)),
        _ => Err(corrupt("a table behind the entry point", format!("{at:#x} of {:#x} bytes", bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::entry_point;

    #[test]
    fn files_of_each_kind() {
        let table = [127u8, 4, 0xff, 0xfe, 0, 0];
        assert_eq!(split(&table).unwrap(), (None, &table[..]));
        let mut dump = entry_point(3, 2).to_vec();
        dump[0x10] = 0x20;
        // The sum stays right.
        dump[5] = dump[5].wrapping_sub(0x20);
        dump.resize(0x20, 0);
        assert!(split(&dump).unwrap_err().to_string().contains("0x20 of 0x20 bytes"));
        dump.extend(table);
        let (entry, found) = split(&dump).unwrap();
        assert!(entry.is_some() && found == table);
        for len in 0..0x18 {
            assert!(split(&dump[..len]).is_err(), "{len}");
        }
        assert!(split(b"text, not a dump").unwrap_err().to_string().contains("[74, 65, 78,"));
        assert!(split(&[]).is_err() && split(&[0, 0, 0]).is_err());
    }
}
