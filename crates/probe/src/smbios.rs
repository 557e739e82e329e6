//! SMBIOS (DSP0134 3.7): entry point and structure table into the inventory. Types 0, 1, 2, 3, 4, 16 and 17 are read,
//! all others are stepped over.
//!
//! Vendors leave tables that stop in the middle. What stands before the damage is still the machine's name, so it is
//! kept and the damage is told beside it.

pub mod chid;
mod dump;
mod entry;
mod table;
mod vendor;

use gravure_model::inventory::{MemoryModule, Smbios, SmbiosBios, SmbiosBoard, SmbiosChassis, SmbiosSystem};

use crate::Error;
use crate::field::{array_at, u8_at, u16_at, u32_at};

pub use dump::split;
pub use entry::{EntryPoint, Version};
pub use table::{MAX_STRUCTURES, MAX_TABLE_BYTES, Structure, Structures};
pub use vendor::{Vendor, VendorKey, vendor_key};

/// From this version on, the first three fields of the UUID are little-endian (DSP0134 7.2.1).
const UUID_LITTLE_ENDIAN_FROM: Version = Version { major: 2, minor: 6 };

/// Use of a memory array: system memory (DSP0134 7.17.2).
const USE_SYSTEM_MEMORY: u8 = 3;

/// Everything the inventory takes from SMBIOS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// BIOS, system, board, chassis.
    pub smbios: Smbios,
    /// Processors by type 4, sockets that are filled only.
    pub processors: Vec<Processor>,
    /// Memory modules by type 17 that belong to system memory, empty slots left out.
    pub modules: Vec<MemoryModule>,
    /// Where the table stops making sense, if it does; what stands before is above.
    pub damage: Option<Error>,
}

/// A filled processor socket (type 4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processor {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Model name as the firmware has it.
    pub version: Option<String>,
    /// Cores; 0 when not told.
    pub cores: u32,
    /// Hardware threads; 0 when not told.
    pub threads: u32,
}

/// Reads a table whose entry point is `entry`, both as the kernel shows them.
pub fn parse(entry: &[u8], table: &[u8]) -> Result<Tables, Error> {
    parse_version(EntryPoint::parse(entry)?.version, table)
}

/// Reads a table of which the version is known otherwise.
pub fn parse_version(version: Version, table: &[u8]) -> Result<Tables, Error> {
    if table.len() > MAX_TABLE_BYTES {
        return Err(Error::Unsupported { what: "SMBIOS table size", value: table.len().to_string() });
    }
    let mut out = Tables::default();
    out.smbios.version = Some(version.to_string());
    let mut devices = Vec::new();
    let mut other_arrays = Vec::new();
    let (mut seen_board, mut seen_chassis) = (false, false);
    for structure in Structures::new(table) {
        let structure = match structure {
            Ok(structure) => structure,
            Err(damage) => {
                out.damage = Some(damage);
                break;
            }
        };
        match structure.kind {
            0 => out.smbios.bios = bios(&structure),
            1 => out.smbios.system = system(&structure, version),
            2 if !seen_board => {
                seen_board = true;
                out.smbios.board = board(&structure);
            }
            3 if !seen_chassis => {
                seen_chassis = true;
                out.smbios.chassis = chassis(&structure);
            }
            4 => out.processors.extend(processor(&structure)),
            16 if u8_at(structure.formatted, 0x05).is_some_and(|usage| usage != USE_SYSTEM_MEMORY) => {
                other_arrays.push(structure.handle);
            }
            17 => devices.push((u16_at(structure.formatted, 0x04), memory_device(&structure))),
            _ => {}
        }
    }
    // An array may come after its devices, so this waits until all were seen.
    let of_system = |array: Option<u16>| array.is_none_or(|array| !other_arrays.contains(&array));
    out.modules = devices.into_iter().filter(|(array, _)| of_system(*array)).filter_map(|(_, m)| m).collect();
    Ok(out)
}

fn bios(s: &Structure<'_>) -> SmbiosBios {
    // 0xff in both: the field is not used (DSP0134 7.1).
    let release = match (u8_at(s.formatted, 0x14), u8_at(s.formatted, 0x15)) {
        (Some(major), Some(minor)) if (major, minor) != (0xff, 0xff) => Some(format!("{major}.{minor}")),
        _ => None,
    };
    SmbiosBios { vendor: s.text(0x04), version: s.text(0x05), date: s.text(0x08), release }
}

fn system(s: &Structure<'_>, version: Version) -> SmbiosSystem {
    SmbiosSystem {
        manufacturer: s.text(0x04),
        product: s.text(0x05),
        version: s.text(0x06),
        serial: s.text(0x07),
        uuid: array_at(s.formatted, 0x08).and_then(|bytes| uuid(bytes, version)),
        sku: s.text(0x19),
        family: s.text(0x1a),
    }
}

/// The UUID as text; `None` for all zeros (not set) and all ones (not present).
fn uuid(bytes: [u8; 16], version: Version) -> Option<String> {
    if bytes == [0; 16] || bytes == [0xff; 16] {
        return None;
    }
    let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = bytes;
    let order = if version >= UUID_LITTLE_ENDIAN_FROM {
        [a3, a2, a1, a0, b1, b0, c1, c0]
    } else {
        [a0, a1, a2, a3, b0, b1, c0, c1]
    };
    let mut out = String::with_capacity(36);
    for (index, byte) in order.into_iter().chain(rest).enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    Some(out)
}

fn board(s: &Structure<'_>) -> SmbiosBoard {
    SmbiosBoard {
        manufacturer: s.text(0x04),
        product: s.text(0x05),
        version: s.text(0x06),
        serial: s.text(0x07),
    }
}

fn chassis(s: &Structure<'_>) -> SmbiosChassis {
    SmbiosChassis {
        manufacturer: s.text(0x04),
        type_code: u8_at(s.formatted, 0x05).map(|code| code & 0x7f), // bit 7: a lock is present
        serial: s.text(0x07),
        asset_tag: s.text(0x08),
    }
}

/// `None` for an empty socket and for what is no central processor.
fn processor(s: &Structure<'_>) -> Option<Processor> {
    let central = u8_at(s.formatted, 0x05).is_none_or(|kind| kind == 3);
    let populated = u8_at(s.formatted, 0x18).is_none_or(|status| status & 0x40 != 0);
    // The byte holds up to 254; 255 sends the reader to the wider field (3.0).
    let count = |narrow: usize, wide: usize| match u8_at(s.formatted, narrow) {
        Some(0xff) => u16_at(s.formatted, wide).map_or(0xff, u32::from),
        other => other.map_or(0, u32::from),
    };
    (central && populated).then(|| Processor {
        manufacturer: s.text(0x07),
        version: s.text(0x10),
        cores: count(0x23, 0x2a),
        threads: count(0x25, 0x2e),
    })
}

/// `None` for an empty slot.
fn memory_device(s: &Structure<'_>) -> Option<MemoryModule> {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let size_bytes = match u16_at(s.formatted, 0x0c)? {
        0 => return None,
        0xffff => 0, // filled, size unknown
        // 32 GiB - 1 MiB and more stand in the wider field, bit 31 of which is reserved (2.7).
        0x7fff => u64::from(u32_at(s.formatted, 0x1c)? & 0x7fff_ffff).checked_mul(MIB)?,
        size if size & 0x8000 != 0 => u64::from(size & 0x7fff).checked_mul(KIB)?,
        size => u64::from(size).checked_mul(MIB)?,
    };
    let speed = |narrow: usize, wide: usize| match u16_at(s.formatted, narrow)? {
        0 => None,
        0xffff => u32_at(s.formatted, wide).map(|speed| speed & 0x7fff_ffff).filter(|speed| *speed > 0),
        speed => Some(u32::from(speed)),
    };
    Some(MemoryModule {
        locator: s.text(0x10),
        size_bytes,
        // What it runs at, else what it could run at.
        speed_mts: speed(0x20, 0x58).or_else(|| speed(0x15, 0x54)),
        manufacturer: s.text(0x17),
        part_number: s.text(0x1a),
        serial: s.text(0x18),
    })
}

#[cfg(test)]
mod tests;
