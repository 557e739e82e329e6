//! Computer hardware IDs (CHIDs): GUIDs by which Windows, fwupd and driver packs tell computer models apart (WDD
//! "specifying-hardware-ids-for-a-computer"). Each is the name-based UUID (RFC 9562, version 5) of some fields joined with
//! `&`, in UTF-16LE.

use std::fmt;

use sha1::{Digest as _, Sha1};

use super::table::Structures;
use crate::Error;
use crate::field::u8_at;

/// Namespace of these UUIDs.
const NAMESPACE: [u8; 16] = [0x70, 0xff, 0xd8, 0x12, 0x4c, 0x7f, 0x4c, 0x7d, 0, 0, 0, 0, 0, 0, 0, 0];

/// The fields. `None` is one that the tables are too old for or do not have, and no ID has it; an empty one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// Type 1, 0x04.
    pub manufacturer: Option<String>,
    /// Type 1, 0x1a.
    pub family: Option<String>,
    /// Type 1, 0x05.
    pub product: Option<String>,
    /// Type 1, 0x19.
    pub sku: Option<String>,
    /// Type 0, 0x04.
    pub bios_vendor: Option<String>,
    /// Type 0, 0x05.
    pub bios_version: Option<String>,
    /// Type 0, 0x14.
    pub bios_major: Option<u8>,
    /// Type 0, 0x15.
    pub bios_minor: Option<u8>,
    /// Type 2, 0x04.
    pub board_manufacturer: Option<String>,
    /// Type 2, 0x05.
    pub board_product: Option<String>,
    /// Type 3, 0x05, without the bit for a lock.
    pub enclosure: Option<u8>,
}

/// A field by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Field {
    Manufacturer,
    Family,
    Product,
    Sku,
    BiosVendor,
    BiosVersion,
    BiosMajor,
    BiosMinor,
    BoardManufacturer,
    BoardProduct,
    Enclosure,
}

use Field::{
    BiosMajor, BiosMinor, BiosVendor, BiosVersion, BoardManufacturer, BoardProduct, Enclosure, Family,
    Manufacturer, Product, Sku,
};

/// Windows 10's combinations, most specific first; the index is the number in `HardwareID-N`.
const COMBINATIONS: [&[Field]; 15] = [
    &[Manufacturer, Family, Product, Sku, BiosVendor, BiosVersion, BiosMajor, BiosMinor],
    &[Manufacturer, Family, Product, BiosVendor, BiosVersion, BiosMajor, BiosMinor],
    &[Manufacturer, Product, BiosVendor, BiosVersion, BiosMajor, BiosMinor],
    &[Manufacturer, Family, Product, Sku, BoardManufacturer, BoardProduct],
    &[Manufacturer, Family, Product, Sku],
    &[Manufacturer, Family, Product],
    &[Manufacturer, Sku, BoardManufacturer, BoardProduct],
    &[Manufacturer, Sku],
    &[Manufacturer, Product, BoardManufacturer, BoardProduct],
    &[Manufacturer, Product],
    &[Manufacturer, Family, BoardManufacturer, BoardProduct],
    &[Manufacturer, Family],
    &[Manufacturer, Enclosure],
    &[Manufacturer, BoardManufacturer, BoardProduct],
    &[Manufacturer],
];

/// One ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chid {
    /// Number in `HardwareID-N`.
    pub number: usize,
    /// The fields as they were joined.
    pub source: String,
    /// The ID, lower case with dashes.
    pub guid: String,
}

impl fmt::Display for Chid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.guid)
    }
}

impl Fields {
    /// Reads the fields out of a structure table: the first of each type. Damage behind them is no matter; damage before
    /// all were seen is an error only when it leaves no manufacturer.
    pub fn read(table: &[u8]) -> Result<Self, Error> {
        let mut out = Self::default();
        let mut seen = [false; 4];
        for structure in Structures::new(table) {
            let structure = match structure {
                Ok(structure) => structure,
                Err(error) if out.manufacturer.is_none() => return Err(error),
                Err(_) => break,
            };
            let Some(seen) = seen.get_mut(usize::from(structure.kind)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            let text = |offset| structure.field_text(offset);
            match structure.kind {
                0 => {
                    (out.bios_vendor, out.bios_version) = (text(0x04), text(0x05));
                    out.bios_major = u8_at(structure.formatted, 0x14);
                    out.bios_minor = u8_at(structure.formatted, 0x15);
                }
                1 => {
                    (out.manufacturer, out.product) = (text(0x04), text(0x05));
                    (out.sku, out.family) = (text(0x19), text(0x1a));
                }
                2 => (out.board_manufacturer, out.board_product) = (text(0x04), text(0x05)),
                _ => out.enclosure = u8_at(structure.formatted, 0x05).map(|kind| kind & 0x7f),
            }
        }
        Ok(out)
    }

    /// Sets a field by its name on command lines; false when there is no such field or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let text = Some(value.trim().to_owned());
        let number = |slot: &mut Option<u8>, radix: u32| match u8::from_str_radix(value.trim(), radix) {
            Ok(number) => {
                *slot = Some(number);
                true
            }
            Err(_) => false,
        };
        match name {
            "manufacturer" => self.manufacturer = text,
            "family" => self.family = text,
            "product" => self.product = text,
            "sku" => self.sku = text,
            "bios_vendor" => self.bios_vendor = text,
            "bios_version" => self.bios_version = text,
            "board_manufacturer" => self.board_manufacturer = text,
            "board_product" => self.board_product = text,
            "bios_major" => return number(&mut self.bios_major, 10),
            "bios_minor" => return number(&mut self.bios_minor, 10),
            "enclosure" => return number(&mut self.enclosure, 10),
            _ => return false,
        }
        true
    }

    /// Names that [`Fields::set`] takes.
    pub const NAMES: [&'static str; 11] = [
        "manufacturer",
        "family",
        "product",
        "sku",
        "bios_vendor",
        "bios_version",
        "bios_major",
        "bios_minor",
        "board_manufacturer",
        "board_product",
        "enclosure",
    ];

    fn text(&self, field: Field) -> Option<String> {
        match field {
            Manufacturer => self.manufacturer.clone(),
            Family => self.family.clone(),
            Product => self.product.clone(),
            Sku => self.sku.clone(),
            BiosVendor => self.bios_vendor.clone(),
            BiosVersion => self.bios_version.clone(),
            BoardManufacturer => self.board_manufacturer.clone(),
            BoardProduct => self.board_product.clone(),
            // Two digits here, and none in front there: as Windows writes them.
            BiosMajor => self.bios_major.map(|number| format!("{number:02x}")),
            BiosMinor => self.bios_minor.map(|number| format!("{number:02x}")),
            Enclosure => self.enclosure.map(|number| format!("{number:x}")),
        }
    }

    /// All IDs whose fields are there, most specific first.
    pub fn chids(&self) -> Vec<Chid> {
        let of = |(number, fields): (usize, &&[Field])| {
            let texts: Option<Vec<String>> = fields.iter().map(|field| self.text(*field)).collect();
            let source = texts?.join("&");
            Some(Chid { number, guid: guid_of(&source), source })
        };
        COMBINATIONS.iter().enumerate().filter_map(of).collect()
    }
}

/// The ID of fields that were joined already.
pub fn guid_of(source: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE);
    for unit in source.encode_utf16() {
        hash.update(unit.to_le_bytes());
    }
    let mut bytes = [0u8; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    // Version 5, variant of the RFC.
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x50;
    *variant = (*variant & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A virtual machine whose IDs Windows 8.1 stored.
    fn virtual_box() -> Fields {
        let mut fields = Fields::default();
        for (name, value) in [
            ("manufacturer", "innotek GmbH"),
            ("family", "Virtual Machine"),
            ("product", " VirtualBox "),
            ("bios_vendor", "innotek GmbH"),
            ("bios_version", "VirtualBox"),
            ("bios_major", "0"),
            ("bios_minor", "0"),
            ("enclosure", "1"),
        ] {
            assert!(fields.set(name, value), "{name}");
        }
        fields
    }

    #[test]
    fn ids_are_those_that_windows_stored() {
        let ids: Vec<(usize, String)> =
            virtual_box().chids().into_iter().map(|id| (id.number, id.guid)).collect();
        for (number, guid) in [
            (1, "57b77579-4c74-5a49-ada3-a286779a7b0e"),
            (5, "f4af0e4f-b6b1-51e6-b1b0-e89122ff97c2"),
            (11, "d85b4471-f11d-5da8-9969-7418961197e5"),
            (14, "d14a935a-d678-579f-8875-3aab3d456c85"),
        ] {
            assert!(ids.contains(&(number, guid.to_owned())), "{number} {guid}: {ids:?}");
        }
        // Nothing with a SKU or a board, which this machine does not tell.
        assert_eq!(ids.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 5, 9, 11, 12, 14]);
    }

    #[test]
    fn empty_fields_count_and_numbers_are_written_as_windows_does() {
        let mut fields = virtual_box();
        fields.family = Some(String::new());
        (fields.bios_major, fields.bios_minor, fields.enclosure) = (Some(0xff), Some(4), Some(10));
        let sources: Vec<String> = fields.chids().into_iter().map(|id| id.source).collect();
        assert_eq!(sources[0], "innotek GmbH&&VirtualBox&innotek GmbH&VirtualBox&ff&04");
        assert!(sources.contains(&"innotek GmbH&a".to_owned()), "{sources:?}");
        assert_eq!(fields.chids()[0].to_string().len(), 38);
    }

    #[test]
    fn names_that_do_not_exist_and_values_that_do_not_fit() {
        let mut fields = Fields::default();
        assert!(Fields::NAMES.iter().all(|name| fields.set(name, "12")));
        assert!(
            !fields.set("colour", "x") && !fields.set("enclosure", "256") && !fields.set("bios_major", "x")
        );
        assert_eq!(fields.chids().len(), 15);
    }
}
