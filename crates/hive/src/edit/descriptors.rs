//! Security descriptors: shared by all keys with the same one, counted, in a ring.

use std::collections::HashMap;

use gravure_nttypes::SecurityDescriptor;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::Editor;
use crate::cells::{self, SecurityDisk};
use crate::error::{Error, corrupt, invalid};
use crate::hive::{Hive, KeyId};
use crate::image::Cell;

/// All descriptors of a hive whose ring was checked.
pub(super) fn all(hive: &Hive) -> Result<HashMap<Vec<u8>, Cell>, Error> {
    let (root, _) = cells::key(&hive.image, Cell(hive.base.root))?;
    let start = Cell(root.security.get());
    let mut out = HashMap::new();
    let mut cell = start;
    loop {
        let (disk, descriptor) = cells::security(&hive.image, cell)?;
        out.entry(descriptor.to_vec()).or_insert(cell);
        cell = Cell(disk.next.get());
        if cell == start {
            return Ok(out);
        }
    }
}

impl Editor {
    /// Gives a key another descriptor (self-relative bytes).
    pub fn set_security(&mut self, key: KeyId, descriptor: &[u8]) -> Result<(), Error> {
        SecurityDescriptor::parse(descriptor)
            .map_err(|error| invalid("security descriptor", "a self-relative descriptor", error))?;
        let old = Cell(self.disk(key.0)?.security.get());
        if cells::security(&self.hive.image, old)?.1 == descriptor {
            return Ok(());
        }
        let new = match self.descriptors.get(descriptor) {
            Some(cell) => *cell,
            None => self.add(descriptor, old)?,
        };
        self.retain(new)?;
        let now = self.now;
        self.edit_key(key.0, |disk| {
            disk.security = U32::new(new.0);
            disk.written = U64::new(now.0);
        })?;
        self.release(old)
    }

    /// A new descriptor behind `before` in the ring, which nothing uses yet.
    fn add(&mut self, descriptor: &[u8], before: Cell) -> Result<Cell, Error> {
        let after = Cell(cells::security(&self.hive.image, before)?.0.next.get());
        let len = u32::try_from(descriptor.len())
            .map_err(|_| invalid("security descriptor", "less than 4 GiB", descriptor.len()))?;
        let disk = SecurityDisk {
            signature: SecurityDisk::SIGNATURE,
            spare: U16::new(0),
            next: U32::new(after.0),
            previous: U32::new(before.0),
            references: U32::new(0),
            descriptor_bytes: U32::new(len),
        };
        let cell = self.put(Cell::NIL, &[disk.as_bytes(), descriptor].concat(), 0)?;
        self.edit_descriptor(before, |disk| disk.next = U32::new(cell.0))?;
        self.edit_descriptor(after, |disk| disk.previous = U32::new(cell.0))?;
        self.descriptors.insert(descriptor.to_vec(), cell);
        Ok(cell)
    }

    /// One more key uses the descriptor at `cell`.
    pub(super) fn retain(&mut self, cell: Cell) -> Result<(), Error> {
        self.edit_descriptor(cell, |disk| {
            disk.references = U32::new(disk.references.get().saturating_add(1));
        })
    }

    /// One key less uses the descriptor at `cell`; with the last one it goes.
    pub(super) fn release(&mut self, cell: Cell) -> Result<(), Error> {
        let (disk, descriptor) = cells::security(&self.hive.image, cell)?;
        let (disk, descriptor) = (disk.clone(), descriptor.to_vec());
        let left = disk.references.get().saturating_sub(1);
        if left > 0 {
            return self.edit_descriptor(cell, |disk| disk.references = U32::new(left));
        }
        self.edit_descriptor(Cell(disk.previous.get()), |before| before.next = disk.next)?;
        self.edit_descriptor(Cell(disk.next.get()), |after| after.previous = disk.previous)?;
        if self.descriptors.get(&descriptor) == Some(&cell) {
            self.descriptors.remove(&descriptor);
        }
        self.free(cell)
    }

    fn edit_descriptor(&mut self, cell: Cell, edit: impl FnOnce(&mut SecurityDisk)) -> Result<(), Error> {
        cells::security(&self.hive.image, cell)?;
        let content = self.hive.image.cell_mut(cell, "security descriptor")?;
        let (disk, _) = SecurityDisk::mut_from_prefix(content)
            .map_err(|_| corrupt("security descriptor", cell.offset(), "at least 20 bytes", "fewer"))?;
        edit(disk);
        self.is_changed = true;
        Ok(())
    }
}
