//! A file record read to be changed, and written so that it is never torn.

use super::{Disk, put};
use crate::Error;
use crate::disk::{END_MARK, GUARDED_BYTES, numbers};
use crate::read::Volume;
use crate::read::bytes::{at, u16_at, wide};
use crate::read::fault::Fault;
use crate::read::gather::Value;
use crate::read::record::{Attribute, Form, Record, unprotect};

use crate::disk::attribute_type as types;

/// A file record in memory.
#[derive(Debug)]
pub(super) struct RecordEdit {
    number: u32,
    offset: u64,
    /// As it is on disk.
    old: Vec<u8>,
    /// Without the update sequence.
    bytes: Vec<u8>,
}

/// Where an attribute stands in its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) pos: usize,
    pub(super) len: usize,
    pub(super) instance: u16,
    pub(super) flags: u16,
}

impl RecordEdit {
    pub(super) fn read(disk: &Disk<'_>, volume: &Volume, number: u32) -> Result<Self, Error> {
        let mut old = Vec::new();
        volume.mft.read(disk.source, u64::from(number), &mut old)?;
        let offset = volume.mft.offset(u64::from(number));
        let mut bytes = old.clone();
        let this = |fault: Fault| fault.into_error(format!("record {number}"), offset);
        unprotect(&mut bytes).map_err(this)?;
        Record::parse(&bytes).map_err(this)?;
        Ok(Self { number, offset, old, bytes })
    }

    fn attributes(&self) -> Result<Vec<Attribute<'_>>, Error> {
        let wrong = |fault: Fault| fault.into_error(format!("record {}", self.number), self.offset);
        let record = Record::parse(&self.bytes).map_err(wrong)?;
        record.attributes().collect::<Result<_, _>>().map_err(wrong)
    }

    /// The attribute of a type and name, when it stands in this record.
    pub(super) fn find(&self, kind: u32, name: &[u16]) -> Result<Option<Place>, Error> {
        let name: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let found = self.attributes()?.into_iter().find(|one| one.kind == kind && one.name == name);
        Ok(found.map(|one| Place { pos: one.pos, len: one.len, instance: one.instance, flags: one.flags }))
    }

    /// Where an attribute of a type that is not there belongs.
    pub(super) fn place_for(&self, kind: u32) -> Result<Place, Error> {
        let mut pos = usize::from(u16_at(&self.bytes, 0x14).unwrap_or(0));
        for attribute in self.attributes()?.into_iter().take_while(|one| one.kind < kind) {
            pos = attribute.pos.saturating_add(attribute.len);
        }
        Ok(Place { pos, len: 0, instance: u16_at(&self.bytes, 0x28).unwrap_or(0), flags: 0 })
    }

    /// The first bytes of an attribute and everything behind them.
    pub(super) fn bytes_at(&self, place: Place) -> &[u8] {
        self.bytes.get(place.pos..place.pos.saturating_add(place.len)).unwrap_or_default()
    }

    /// Puts `attribute` where another one is, or none; what follows moves.
    pub(super) fn replace(&mut self, place: Place, attribute: &[u8]) -> Result<(), Error> {
        let end = at(crate::read::bytes::u32_at(&self.bytes, 0x18).unwrap_or(0)).min(self.bytes.len());
        let behind = place.pos.saturating_add(place.len);
        let (Some(before), Some(after)) = (self.bytes.get(..place.pos), self.bytes.get(behind..end)) else {
            return Err(self.unsafe_change("an attribute reaches behind its end"));
        };
        let mut bytes = [before, attribute, after].concat();
        let used = bytes.len();
        if used > self.bytes.len() {
            return Err(self.unsafe_change("it has no room"));
        }
        bytes.resize(self.bytes.len(), 0);
        put(&mut bytes, 0x18, &u32::try_from(used).unwrap_or(0).to_le_bytes());
        // A new attribute has the next number, so that is taken now.
        if place.len == 0 && !attribute.is_empty() {
            put(&mut bytes, 0x28, &place.instance.saturating_add(1).to_le_bytes());
        }
        self.bytes = bytes;
        debug_assert!(self.bytes.windows(4).any(|four| four == END_MARK.to_le_bytes()));
        Ok(())
    }

    /// Puts `new` at `pos` of the record.
    pub(super) fn put(&mut self, pos: usize, new: &[u8]) {
        put(&mut self.bytes, pos, new);
    }

    /// Where values of a type start in the record.
    pub(super) fn values(&self, kind: u32) -> Result<Vec<usize>, Error> {
        let start = |one: &Attribute<'_>| match one.form {
            Form::Resident { pos, .. } => Some(pos),
            Form::Clusters(_) => None,
        };
        Ok(self.attributes()?.iter().filter(|one| one.kind == kind).filter_map(start).collect())
    }

    /// The position in the record of byte `offset` of the volume.
    pub(super) fn position(&self, offset: u64) -> Option<usize> {
        offset.checked_sub(self.offset).map(at).filter(|pos| *pos < self.bytes.len())
    }

    fn unsafe_change(&self, why: &str) -> Error {
        Error::Unsupported { what: "change of a record", value: format!("record {}: {why}", self.number) }
    }

    /// The record as it will be on disk, with this number in its update sequence.
    fn protected(&self, number: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut sequence = number.to_le_bytes().to_vec();
        for part in bytes.chunks_exact_mut(GUARDED_BYTES) {
            if let Some(last) = part.last_chunk_mut::<2>() {
                sequence.extend_from_slice(last);
                *last = number.to_le_bytes();
            }
        }
        let place = usize::from(u16_at(&bytes, 4).unwrap_or(0));
        put(&mut bytes, place, &sequence);
        bytes
    }

    fn update_number(&self) -> u16 {
        u16_at(&self.old, usize::from(u16_at(&self.old, 4).unwrap_or(0))).unwrap_or(1)
    }

    /// Writes what changed, which must be one sector, so that the record is either the old or the new one. The number of the update
    /// sequence stays, as the other sectors do.
    pub(super) fn write_sector(&self, disk: &Disk<'_>, volume: &Volume) -> Result<(), Error> {
        let new = self.protected(self.update_number());
        let sector = at(volume.boot().sector_bytes);
        let changed: Vec<usize> = new
            .chunks(sector)
            .zip(self.old.chunks(sector))
            .enumerate()
            .filter(|(_, (new, old))| new != old)
            .map(|(index, _)| index)
            .collect();
        match changed.as_slice() {
            [] => {}
            [index] => {
                let pos = index.saturating_mul(sector);
                let bytes = new.get(pos..pos.saturating_add(sector)).unwrap_or_default();
                disk.write(self.offset.saturating_add(wide(pos)), bytes)?;
            }
            more => {
                return Err(
                    self.unsafe_change(&format!("{} of its sectors would change at once", more.len()))
                );
            }
        }
        self.write_copy(disk, volume, &new)
    }

    /// Writes the whole record: the copy in $MFTMirr first, so that one of the two is always whole. Only for records that every mirror
    /// has.
    pub(super) fn write_with_copy(&self, disk: &Disk<'_>, volume: &Volume) -> Result<(), Error> {
        // 0 and ffff are never used: they look like what was not written.
        let number = match self.update_number() {
            number @ 1..0xfffe => number.saturating_add(1),
            _ => 1,
        };
        let new = self.protected(number);
        self.write_copy(disk, volume, &new)?;
        disk.sync()?;
        disk.write(self.offset, &new)?;
        disk.sync()
    }

    /// Writes the record into $MFTMirr when that has it.
    fn write_copy(&self, disk: &Disk<'_>, volume: &Volume, new: &[u8]) -> Result<(), Error> {
        let (_, mirror) = volume.file(disk.source, numbers::MFT_MIRROR)?;
        let Some(Value::Clusters { stream, .. }) = mirror.get(types::DATA, &[]).map(|found| &found.value)
        else {
            return Ok(());
        };
        let pos = u64::from(self.number).saturating_mul(wide(new.len()));
        let end = pos.saturating_add(wide(new.len()));
        match stream.offset_of(pos) {
            Some(offset) if end <= stream.size => disk.write(offset, new),
            _ => Ok(()),
        }
    }
}
