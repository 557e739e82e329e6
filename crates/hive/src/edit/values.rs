//! Values: setting and deleting, data in the value's cell, in one cell or in segments.

use gravure_nttypes::NtName;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{Editor, short};
use crate::cells::{self, BigDataDisk, KeyDisk, Stored, ValueDisk};
use crate::error::{Error, corrupt, invalid};
use crate::hive::KeyId;
use crate::image::Cell;
use crate::limits::{BIG_DATA_MINOR, MAX_VALUE_BYTES, MAX_VALUE_NAME_UNITS, SEGMENT_BYTES};
use crate::name;
use crate::value::Data;

impl Editor {
    /// Sets a value; the empty name is the default value. A value that is there keeps the case of its name.
    pub fn set_value(&mut self, key: KeyId, name: &NtName, data: &Data) -> Result<(), Error> {
        if name.units().len() > MAX_VALUE_NAME_UNITS {
            let expected = format!("at most {MAX_VALUE_NAME_UNITS} units");
            return Err(invalid("value name", expected, name.units().len()));
        }
        if data.bytes.len() > MAX_VALUE_BYTES {
            let expected = format!("at most {MAX_VALUE_BYTES} bytes");
            return Err(invalid(format!("data of value {name}"), expected, data.bytes.len()));
        }
        self.refuse_link(key.0)?;
        match self.find_value(key.0, name)? {
            Some(cell) => self.change(cell, data)?,
            None => self.append(key.0, name, data)?,
        }
        let name_bytes = u32::from(short(name.units().len().saturating_mul(2)));
        let len = u32::try_from(data.bytes.len()).unwrap_or(u32::MAX);
        let now = self.now;
        self.edit_key(key.0, |disk| {
            disk.max_value_name_bytes = U32::new(disk.max_value_name_bytes.get().max(name_bytes));
            disk.max_value_bytes = U32::new(disk.max_value_bytes.get().max(len));
            disk.written = U64::new(now.0);
        })
    }

    /// Deletes a value; false when there is none of that name.
    pub fn delete_value(&mut self, key: KeyId, name: &NtName) -> Result<bool, Error> {
        let Some(cell) = self.find_value(key.0, name)? else { return Ok(false) };
        self.refuse_link(key.0)?;
        let disk = self.disk(key.0)?;
        let mut cells = self.hive.value_cells(&disk)?;
        cells.retain(|other| *other != cell);
        let list = Cell(disk.value_list.get());
        let list = if cells.is_empty() {
            self.free(list)?;
            Cell::NIL
        } else {
            self.put(list, &list_bytes(&cells), 0)?
        };
        self.free_value(cell)?;
        let now = self.now;
        self.edit_key(key.0, |disk| {
            disk.value_count = U32::new(disk.value_count.get().saturating_sub(1));
            disk.value_list = U32::new(list.0);
            disk.written = U64::new(now.0);
            if disk.value_count.get() == 0 {
                disk.max_value_name_bytes = U32::new(0);
                disk.max_value_bytes = U32::new(0);
            }
        })?;
        Ok(true)
    }

    fn find_value(&self, key: Cell, wanted: &NtName) -> Result<Option<Cell>, Error> {
        let (disk, _) = cells::key(&self.hive.image, key)?;
        for cell in self.hive.value_cells(disk)? {
            if cells::value(&self.hive.image, cell)?.1.matches(wanted) {
                return Ok(Some(cell));
            }
        }
        Ok(None)
    }

    /// New data for the value at `cell`. The new data is stored before the old is freed.
    fn change(&mut self, cell: Cell, data: &Data) -> Result<(), Error> {
        let old = self.stored(cell)?;
        let (data_bytes, place) = self.store(&data.bytes)?;
        let content = self.hive.image.cell_mut(cell, "value")?;
        let (disk, _) = ValueDisk::mut_from_prefix(content)
            .map_err(|_| corrupt("value", cell.offset(), "at least 20 bytes", "fewer"))?;
        disk.data_bytes = U32::new(data_bytes);
        disk.data = U32::new(place);
        disk.kind = U32::new(data.kind.0);
        self.free_stored(&old)
    }

    fn append(&mut self, key: Cell, name: &NtName, data: &Data) -> Result<(), Error> {
        let (data_bytes, place) = self.store(&data.bytes)?;
        let (stored_name, is_latin1) = name::to_stored(name);
        let disk = ValueDisk {
            signature: ValueDisk::SIGNATURE,
            name_bytes: U16::new(short(stored_name.len())),
            data_bytes: U32::new(data_bytes),
            data: U32::new(place),
            kind: U32::new(data.kind.0),
            // The default value has no name, and no flag for it.
            flags: U16::new(if is_latin1 && !name.is_empty() { ValueDisk::FLAG_LATIN1 } else { 0 }),
            spare: U16::new(0),
        };
        let cell = self.put(Cell::NIL, &[disk.as_bytes(), &stored_name].concat(), 0)?;
        let key_disk = self.disk(key)?;
        let mut cells = self.hive.value_cells(&key_disk)?;
        let list = if cells.is_empty() { Cell::NIL } else { Cell(key_disk.value_list.get()) };
        cells.push(cell);
        let bytes = list_bytes(&cells);
        let list = self.put(list, &bytes, bytes.len() >> 3)?;
        self.edit_key(key, |disk| {
            disk.value_count = U32::new(disk.value_count.get().saturating_add(1));
            disk.value_list = U32::new(list.0);
        })
    }

    /// Stores data; gives the two fields that say where it is.
    fn store(&mut self, data: &[u8]) -> Result<(u32, u32), Error> {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if data.len() <= 4 {
            let mut field = [0; 4];
            field.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
            return Ok((len | ValueDisk::INLINE, u32::from_le_bytes(field)));
        }
        if data.len() <= SEGMENT_BYTES || self.hive.base.minor < BIG_DATA_MINOR {
            return Ok((len, self.put(Cell::NIL, data, 0)?.0));
        }
        let mut segments = Vec::new();
        for segment in data.chunks(SEGMENT_BYTES) {
            // Windows gives the last segment a cell as large as the others, and readers count on it.
            segments.push(self.put(Cell::NIL, segment, SEGMENT_BYTES.saturating_sub(segment.len()))?);
        }
        let list = self.put(Cell::NIL, &list_bytes(&segments), 0)?;
        let head = BigDataDisk {
            signature: BigDataDisk::SIGNATURE,
            count: U16::new(short(segments.len())),
            list: U32::new(list.0),
        };
        // Real ones are 12 bytes: the structure in memory ends with a spare number.
        Ok((len, self.put(Cell::NIL, &[head.as_bytes(), &[0; 4]].concat(), 0)?.0))
    }

    fn stored(&self, cell: Cell) -> Result<Stored, Error> {
        let (disk, _) = cells::value(&self.hive.image, cell)?;
        cells::stored(&self.hive.image, disk, cell, self.hive.base.minor)
    }

    fn free_stored(&mut self, stored: &Stored) -> Result<(), Error> {
        match stored {
            Stored::Inline => Ok(()),
            Stored::Plain(cell) | Stored::TooLongForOne(cell) => self.free(*cell),
            Stored::Big { head, list, segments } => {
                segments.iter().chain([list, head]).try_for_each(|cell| self.free(*cell))
            }
        }
    }

    fn free_value(&mut self, cell: Cell) -> Result<(), Error> {
        let stored = self.stored(cell)?;
        self.free_stored(&stored)?;
        self.free(cell)
    }

    /// Frees all values of a key that is being deleted.
    pub(super) fn free_values(&mut self, disk: &KeyDisk) -> Result<(), Error> {
        let cells = self.hive.value_cells(disk)?;
        if cells.is_empty() {
            return Ok(());
        }
        cells.iter().try_for_each(|cell| self.free_value(*cell))?;
        self.free(Cell(disk.value_list.get()))
    }
}

fn list_bytes(cells: &[Cell]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.0.to_le_bytes()).collect()
}
