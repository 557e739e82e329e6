//! Label and serial number.

use gravure_io::{ReadAt, WriteAt};
use gravure_nttypes::NtName;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32};

use super::record::RecordEdit;
use super::{Disk, put};
use crate::disk::{BootDisk, RESIDENT_BYTES, ResidentDisk, attribute_type as types, numbers};
use crate::read::bytes::wide;
use crate::{Error, MAX_LABEL_UNITS};

/// Gives the volume on `disk` another label; an empty one takes it away. A power cut leaves the old or the new one.
pub fn set_label<D: ReadAt + WriteAt + ?Sized>(disk: &D, label: &NtName) -> Result<(), Error> {
    let disk = Disk { source: &disk, target: &disk };
    let units = label.units();
    if units.len() > MAX_LABEL_UNITS || units.contains(&0) {
        let why = format!("{} units; at most {MAX_LABEL_UNITS}, none of them zero", units.len());
        return Err(Error::invalid("label", why));
    }
    let volume = disk.open()?;
    if volume.label() == label {
        return Ok(());
    }
    let mut record = RecordEdit::read(&disk, &volume, numbers::VOLUME)?;
    let place = match record.find(types::VOLUME_NAME, &[])? {
        Some(place) => place,
        None => record.place_for(types::VOLUME_NAME)?,
    };
    record.replace(place, &volume_name(units, place.instance))?;
    record.write_with_copy(&disk, &volume)
}

/// $VOLUME_NAME; empty without a label, as Windows leaves it.
fn volume_name(units: &[u16], instance: u16) -> Vec<u8> {
    let value: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let len = RESIDENT_BYTES.saturating_add(value.len()).next_multiple_of(8);
    let head = ResidentDisk {
        attribute_type: U32::new(types::VOLUME_NAME),
        len: U32::new(u32::try_from(len).unwrap_or(0)),
        non_resident: 0,
        name_len: 0,
        name_offset: U16::new(u16::try_from(RESIDENT_BYTES).unwrap_or(0)),
        flags: U16::new(0),
        instance: U16::new(instance),
        value_len: U32::new(u32::try_from(value.len()).unwrap_or(0)),
        value_offset: U16::new(u16::try_from(RESIDENT_BYTES).unwrap_or(0)),
        indexed: 0,
        reserved: 0,
    };
    let mut out = [head.as_bytes(), &value].concat();
    out.resize(len, 0);
    out
}

/// Gives the volume on `disk` another serial number: in the copy of the boot sector first, then in the boot sector. A power cut leaves the
/// old or the new one.
pub fn set_serial<D: ReadAt + WriteAt + ?Sized>(disk: &D, serial: u64) -> Result<(), Error> {
    let disk = Disk { source: &disk, target: &disk };
    let volume = disk.open()?;
    let mut sector = disk.boot_sector(&volume)?;
    put(&mut sector, std::mem::offset_of!(BootDisk, serial), &serial.to_le_bytes());
    let copy = volume.boot().sectors.saturating_mul(wide(sector.len()));
    // A partition without room behind the last sector has no copy.
    if copy.saturating_add(wide(sector.len())) <= disk.source.size() {
        disk.write(copy, &sector)?;
        disk.sync()?;
    }
    disk.write(0, &sector)?;
    disk.sync()
}
