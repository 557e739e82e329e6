//! The constant tables on every volume: $UpCase and $AttrDef.

use super::Checker;
use crate::Error;
use crate::disk::{UPCASE, UPCASE_BYTES, UpCase, attribute_type as types, crc64, numbers};
use crate::read::bytes::{u32_at, u64_at, wide};
use crate::read::gather::{FileAttributes, Found, Value};
use crate::read::record::{Record, unprotect};
use crate::rule::Rule;

const ATTRDEF_BYTES: usize = 160;
const INFO: [u16; 5] = [0x24, 0x49, 0x6e, 0x66, 0x6f];

impl Checker<'_> {
    /// $UpCase comes first: the order of everything else depends on it.
    pub(super) fn check_upcase(&mut self) -> Result<(), Error> {
        let spot = self.system_spot(numbers::UPCASE).attribute(types::DATA, &[]);
        let mut bytes = Vec::new();
        let read = self.mft.read(self.source, u64::from(numbers::UPCASE), &mut bytes);
        if self.readable(spot, read)?.is_none() {
            return Ok(());
        }
        let Ok(record) = unprotect(&mut bytes).and_then(|()| Record::parse(&bytes)) else { return Ok(()) };
        let file = self.gather(numbers::UPCASE, &record)?;
        let data = file.get(types::DATA, &[]);
        let table = match data.map(|data| data.read(self.source, UPCASE_BYTES)).transpose() {
            Err(error @ Error::Io { .. }) => return Err(error),
            other => other.ok().flatten().flatten(),
        };
        let Some(table) = table.filter(|table| wide(table.len()) == UPCASE_BYTES) else {
            self.teller.tell(
                Rule::UpCaseSize,
                spot,
                format!("{UPCASE_BYTES} bytes"),
                data.map_or(0, Found::size),
            );
            return Ok(());
        };
        let offset = data.and_then(|data| match &data.value {
            Value::Clusters { stream, .. } => stream.offset_of(0),
            Value::Resident { .. } => None,
        });
        let spot = spot.at(offset.unwrap_or(0));
        if let Some(info) = file.get(types::DATA, &INFO).and_then(Found::resident) {
            let (expected, found) = (crc64(&table), u64_at(info, 8));
            if found != Some(expected) || u32_at(info, 0) != Some(32) {
                self.teller.tell(
                    Rule::UpCaseInfo,
                    self.system_spot(numbers::UPCASE).attribute(types::DATA, &INFO),
                    format!("length 32 and checksum {expected:#x}"),
                    format!("{:?} and {:#x}", u32_at(info, 0), found.unwrap_or(0)),
                );
            }
        }
        let Some(table) = UpCase::from_bytes(&table) else { return Ok(()) };
        if table != *UPCASE {
            let unit = (0..=u16::MAX).find(|unit| table.of(*unit) != UPCASE.of(*unit)).unwrap_or(0);
            let spot = spot.at(offset.unwrap_or(0).saturating_add(u64::from(unit).saturating_mul(2)));
            // Other versions of Windows have other tables, but never for these.
            let is_plain = (0..0x80).all(|unit| table.of(unit) == UPCASE.of(unit));
            let rule = if is_plain { Rule::UpCaseTable } else { Rule::UpCaseBroken };
            self.teller.tell(
                rule,
                spot,
                format!("{:#06x} as the capital of {unit:#06x}", UPCASE.of(unit)),
                format!("{:#06x}", table.of(unit)),
            );
        }
        self.upcase = table;
        Ok(())
    }

    /// $AttrDef: types ascending, each with a name and sizes that can be.
    pub(super) fn check_definitions(&mut self, file: &FileAttributes) -> Result<(), Error> {
        let spot = self.system_spot(numbers::ATTRIBUTE_DEFINITIONS).attribute(types::DATA, &[]);
        let found = file.get(types::DATA, &[]);
        let read = found.map(|found| found.read(self.source, 1 << 20)).transpose();
        let bytes = self.readable(spot, read)?.flatten().flatten().unwrap_or_default();
        let offset = match found.map(|found| &found.value) {
            Some(Value::Clusters { stream, .. }) => stream.offset_of(0).unwrap_or(0),
            _ => 0,
        };
        let mut before = 0u32;
        let mut known = Vec::new();
        for (index, definition) in bytes.chunks_exact(ATTRDEF_BYTES).enumerate() {
            let spot = spot.at(offset.saturating_add(wide(index.saturating_mul(ATTRDEF_BYTES))));
            let kind = u32_at(definition, 0x80).unwrap_or(0);
            if kind == 0 {
                break;
            }
            let name: Vec<u16> = crate::read::bytes::units(definition.get(..0x80).unwrap_or_default());
            let name: Vec<u16> = name.into_iter().take_while(|unit| *unit != 0).collect();
            let name = String::from_utf16_lossy(&name);
            if kind <= before || !kind.is_multiple_of(0x10) {
                self.teller.tell(
                    Rule::Definition,
                    spot,
                    format!("a type above {before:#x}"),
                    format!("{kind:#x}"),
                );
            }
            let expected = super::finding::attribute_name(kind);
            // Types that are not used any more have names that differ between versions.
            if expected.starts_with('$') && name != expected {
                self.teller.tell(Rule::Definition, spot, &expected, format!("{name:?}"));
            }
            let (flags, least, most) = (
                u32_at(definition, 0x8c).unwrap_or(0),
                u64_at(definition, 0x90).unwrap_or(0),
                u64_at(definition, 0x98).unwrap_or(0),
            );
            if flags & !0xc2 != 0 {
                self.teller.tell(
                    Rule::Definition,
                    spot.at(offset
                        .saturating_add(wide(index.saturating_mul(ATTRDEF_BYTES)))
                        .saturating_add(0x8c)),
                    "flags of 0xc2",
                    format!("{flags:#x}"),
                );
            }
            if let Some((_, low, high)) = LIMITS.iter().find(|(known, _, _)| *known == kind)
                && (*low, *high) != (least, most)
            {
                self.teller.tell(
                    Rule::DefinitionLimits,
                    spot,
                    format!("{low:#x} to {high:#x} bytes"),
                    format!("{least:#x} to {most:#x}"),
                );
            }
            known.push(kind);
            before = kind;
        }
        for (kind, _, _) in LIMITS {
            if !known.contains(&kind) {
                self.teller.tell(
                    Rule::Definition,
                    spot,
                    super::finding::attribute_name(kind),
                    "no definition",
                );
            }
        }
        Ok(())
    }
}

/// Smallest and largest value of types by $AttrDef of version 3.1.
const LIMITS: [(u32, u64, u64); 15] = [
    (types::STANDARD_INFORMATION, 0x30, 0x48),
    (types::ATTRIBUTE_LIST, 0, u64::MAX),
    (types::FILE_NAME, 0x44, 0x242),
    (types::OBJECT_ID, 0, 0x100),
    (0x50, 0, u64::MAX),
    (types::VOLUME_NAME, 2, 0x100),
    (types::VOLUME_INFORMATION, 0xc, 0xc),
    (types::DATA, 0, u64::MAX),
    (types::INDEX_ROOT, 0, u64::MAX),
    (types::INDEX_ALLOCATION, 0, u64::MAX),
    (types::BITMAP, 0, u64::MAX),
    (types::REPARSE_POINT, 0, 0x4000),
    (types::EA_INFORMATION, 8, 8),
    (types::EA, 0, 0x1_0000),
    (0x100, 0, 0x1_0000),
];
