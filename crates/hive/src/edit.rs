//! Editing in place: keys, values and descriptors are changed in the cells they are in, everything else stays.
//!
//! An editor takes a sound hive only and gives one back: [`Editor::finish`] checks the whole hive again. After an error
//! an editor must be dropped; nothing was written anywhere yet.

mod descriptors;
mod lists;
mod space;
mod values;

use std::collections::HashMap;

use gravure_nttypes::{FileTime, NtName};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::base::{BaseDisk, State};
use crate::cells::{self, KeyDisk};
use crate::check::{Fault, check};
use crate::error::{Error, corrupt, invalid};
use crate::hive::{Hive, Key, KeyId, split_path};
use crate::image::Cell;
use crate::limits::{MAX_DEPTH, MAX_KEY_NAME_UNITS};
use crate::name;
use space::Space;

/// A hive being edited.
#[derive(Debug)]
pub struct Editor {
    hive: Hive,
    now: FileTime,
    space: Space,
    /// Every descriptor in the ring.
    descriptors: HashMap<Vec<u8>, Cell>,
    /// Names can be found by halving; false when lists are in another order than ours (beyond ASCII).
    is_ordered: bool,
    is_changed: bool,
}

impl Editor {
    /// Takes a hive that is clean and sound. `now` becomes the time of every key that changes.
    pub fn new(mut hive: Hive, now: FileTime) -> Result<Self, Error> {
        if *hive.state() != State::Clean {
            return Err(Error::Dirty { why: hive.state().reason() });
        }
        let report = check(&hive);
        if !report.is_sound() {
            let faults = report.damage().cloned().collect();
            return Err(Error::Inconsistent { when: "hive is damaged", faults });
        }
        let space = Space::scan(&mut hive)?;
        let descriptors = descriptors::all(&hive)?;
        let is_ordered = report.unordered_keys == 0;
        Ok(Self { hive, now, space, descriptors, is_ordered, is_changed: false })
    }

    /// The hive as it stands now, to read from.
    pub fn hive(&self) -> &Hive {
        &self.hive
    }

    /// The root key.
    pub fn root(&self) -> KeyId {
        KeyId(Cell(self.hive.base.root))
    }

    /// The key at `path`, or `None`.
    pub fn find(&self, path: &str) -> Result<Option<KeyId>, Error> {
        let mut key = self.root();
        for part in split_path(path) {
            match self.subkey(key, &NtName::from(part))? {
                Some(next) => key = next,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    /// The key at `path`, made with all keys above it when it is not there.
    pub fn create(&mut self, path: &str) -> Result<KeyId, Error> {
        let mut key = self.root();
        for part in split_path(path) {
            key = self.create_subkey(key, &NtName::from(part))?;
        }
        Ok(key)
    }

    /// The subkey of that name, or `None`.
    pub fn subkey(&self, key: KeyId, name: &NtName) -> Result<Option<KeyId>, Error> {
        self.find_subkey(key.0, name).map(|found| found.map(KeyId))
    }

    /// The subkey of that name, made when it is not there. A new key shares the descriptor of the key above it.
    pub fn create_subkey(&mut self, parent: KeyId, name: &NtName) -> Result<KeyId, Error> {
        if let Some(found) = self.subkey(parent, name)? {
            return Ok(found);
        }
        check_key_name(name)?;
        self.refuse_link(parent.0)?;
        let level = self.level(parent.0)?;
        if level >= MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH} levels");
            return Err(invalid(format!("key {name}"), expected, level.saturating_add(1)));
        }
        let security = Cell(self.disk(parent.0)?.security.get());
        let (stored_name, is_latin1) = name::to_stored(name);
        let disk = KeyDisk {
            signature: KeyDisk::SIGNATURE,
            flags: U16::new(if is_latin1 { KeyDisk::FLAG_LATIN1 } else { 0 }),
            written: U64::new(self.now.0),
            access: U32::new(0),
            parent: U32::new(parent.0.0),
            subkey_count: U32::new(0),
            volatile_subkey_count: U32::new(0),
            subkey_list: U32::new(Cell::NIL.0),
            volatile_subkey_list: U32::new(Cell::NIL.0),
            value_count: U32::new(0),
            value_list: U32::new(Cell::NIL.0),
            security: U32::new(security.0),
            class: U32::new(Cell::NIL.0),
            max_subkey_name_bytes: U16::new(0),
            user_flags: [0; 2],
            max_subkey_class_bytes: U32::new(0),
            max_value_name_bytes: U32::new(0),
            max_value_bytes: U32::new(0),
            work: U32::new(0),
            name_bytes: U16::new(short(stored_name.len())),
            class_bytes: U16::new(0),
        };
        let cell = self.put(Cell::NIL, &[disk.as_bytes(), &stored_name].concat(), 0)?;
        self.retain(security)?;
        self.insert_subkey(parent.0, cell, name)?;
        Ok(KeyId(cell))
    }

    /// Deletes a key with all its values and everything below it.
    pub fn delete_key(&mut self, key: KeyId) -> Result<(), Error> {
        if key == self.root() {
            return Err(invalid("key to delete", "a key below the root", "the root"));
        }
        let parent = Cell(self.disk(key.0)?.parent.get());
        self.remove_subkey(parent, key.0)?;
        let mut todo = vec![key.0];
        while let Some(cell) = todo.pop() {
            let disk = self.disk(cell)?;
            if let Some(list) = self.hive.subkeys(&disk, cell, self.hive.most_keys())? {
                todo.extend(list.entries().map(|entry| entry.key));
                let leaves = list.leaves.iter().map(|leaf| leaf.cell);
                for part in leaves.chain(list.root).collect::<Vec<_>>() {
                    self.free(part)?;
                }
            }
            self.free_values(&disk)?;
            self.free_class(&disk)?;
            self.release(Cell(disk.security.get()))?;
            self.free(cell)?;
        }
        Ok(())
    }

    /// Gives a key another name; its place in the tree, values and subkeys stay.
    pub fn rename_key(&mut self, key: KeyId, to: &NtName) -> Result<KeyId, Error> {
        check_key_name(to)?;
        if key == self.root() {
            return Err(invalid("key to rename", "a key below the root", "the root"));
        }
        let mut disk = self.disk(key.0)?;
        let parent = Cell(disk.parent.get());
        if self.find_subkey(parent, to)?.is_some_and(|found| found != key.0) {
            return Err(Error::Exists { what: "key", name: to.to_string() });
        }
        self.remove_subkey(parent, key.0)?;
        let (stored_name, is_latin1) = name::to_stored(to);
        let flags = disk.flags.get() & !KeyDisk::FLAG_LATIN1;
        disk.flags = U16::new(flags | if is_latin1 { KeyDisk::FLAG_LATIN1 } else { 0 });
        disk.name_bytes = U16::new(short(stored_name.len()));
        disk.written = U64::new(self.now.0);
        let cell = self.put(key.0, &[disk.as_bytes(), &stored_name].concat(), 0)?;
        if cell != key.0
            && let Some(list) = self.hive.subkeys(&disk, cell, self.hive.most_keys())?
        {
            for entry in list.entries() {
                self.edit_key(entry.key, |below| below.parent = U32::new(cell.0))?;
            }
        }
        self.insert_subkey(parent, cell, to)?;
        Ok(KeyId(cell))
    }

    /// Sets the class name of a key; an empty one takes it away.
    pub fn set_class(&mut self, key: KeyId, class: &NtName) -> Result<(), Error> {
        let bytes = class.to_le_bytes();
        let len = u16::try_from(bytes.len())
            .map_err(|_| invalid("class name", "at most 32767 units", class.units().len()))?;
        let disk = self.disk(key.0)?;
        let cell = if len == 0 { Cell::NIL } else { self.put(Cell::NIL, &bytes, 0)? };
        self.free_class(&disk)?;
        let now = self.now;
        self.edit_key(key.0, |disk| {
            disk.class = U32::new(cell.0);
            disk.class_bytes = U16::new(len);
            disk.written = U64::new(now.0);
        })?;
        if key == self.root() {
            return Ok(());
        }
        self.edit_key(Cell(disk.parent.get()), |above| {
            let most = above.max_subkey_class_bytes.get().max(u32::from(len));
            above.max_subkey_class_bytes = U32::new(most);
        })
    }

    /// Checks the whole hive and hands out its bytes, as a hive that was written completely. Without any change they are
    /// the bytes that came in.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        if !self.is_changed {
            return Ok(self.hive.image.bytes);
        }
        let base = &mut self.hive.base;
        let sequence = base.sequences.0.wrapping_add(1);
        base.sequences = (sequence, sequence);
        base.written = self.now;
        let len = self.hive.image.bytes.len();
        let (disk, _) = BaseDisk::mut_from_prefix(&mut self.hive.image.bytes)
            .map_err(|_| corrupt("base block", 0, "512 bytes", format_args!("{len} bytes")))?;
        disk.primary_sequence = U32::new(sequence);
        disk.secondary_sequence = U32::new(sequence);
        disk.written = U64::new(self.now.0);
        disk.bins_bytes = U32::new(base.bins_bytes);
        disk.seal();
        let hive = Hive::parse(self.hive.image.bytes)?;
        let faults: Vec<Fault> = check(&hive).damage().cloned().collect();
        if !faults.is_empty() {
            return Err(Error::Inconsistent { when: "hive would be written damaged", faults });
        }
        Ok(hive.image.bytes)
    }

    /// A key to read.
    pub fn key(&self, key: KeyId) -> Result<Key<'_>, Error> {
        self.hive.key(key)
    }

    fn disk(&self, cell: Cell) -> Result<KeyDisk, Error> {
        cells::key(&self.hive.image, cell).map(|(disk, _)| disk.clone())
    }

    fn edit_key(&mut self, cell: Cell, edit: impl FnOnce(&mut KeyDisk)) -> Result<(), Error> {
        cells::key(&self.hive.image, cell)?;
        let content = self.hive.image.cell_mut(cell, "key")?;
        let len = content.len();
        let (disk, _) = KeyDisk::mut_from_prefix(content)
            .map_err(|_| corrupt("key", cell.offset(), "at least 76 bytes", format_args!("{len} bytes")))?;
        edit(disk);
        self.is_changed = true;
        Ok(())
    }

    /// Puts `bytes` into `cell` when they fit, else into a new cell with `slack` bytes more, and frees the old one.
    fn put(&mut self, cell: Cell, bytes: &[u8], slack: usize) -> Result<Cell, Error> {
        self.is_changed = true;
        if !cell.is_nil() {
            let content = self.hive.image.cell_mut(cell, "cell to fill")?;
            if let Some((head, tail)) = content.split_at_mut_checked(bytes.len()) {
                head.copy_from_slice(bytes);
                tail.fill(0);
                return Ok(cell);
            }
        }
        let new = self.space.allocate(&mut self.hive, bytes.len().saturating_add(slack))?;
        let content = self.hive.image.cell_mut(new, "new cell")?;
        content.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        if !cell.is_nil() {
            self.free(cell)?;
        }
        Ok(new)
    }

    fn free(&mut self, cell: Cell) -> Result<(), Error> {
        self.is_changed = true;
        self.space.free(&mut self.hive, cell)
    }

    fn free_class(&mut self, disk: &KeyDisk) -> Result<(), Error> {
        let cell = Cell(disk.class.get());
        if cell.is_nil() || disk.class_bytes.get() == 0 {
            return Ok(());
        }
        self.free(cell)
    }

    /// Keys above `cell`.
    fn level(&self, mut cell: Cell) -> Result<usize, Error> {
        let mut level = 0usize;
        while cell.0 != self.hive.base.root {
            cell = Cell(self.disk(cell)?.parent.get());
            level = level.saturating_add(1);
            if level > MAX_DEPTH {
                return Err(corrupt("key", cell.offset(), "a root above it", "a cycle of parents"));
            }
        }
        Ok(level)
    }

    /// Links and predefined keys are read and deleted, not changed: what they hold is for the kernel.
    fn refuse_link(&self, cell: Cell) -> Result<(), Error> {
        let flags = self.disk(cell)?.flags.get();
        if flags & (KeyDisk::FLAG_LINK | KeyDisk::FLAG_PREDEFINED) == 0 {
            return Ok(());
        }
        let value = self.hive.path(KeyId(cell))?;
        Err(Error::Unsupported { what: "change inside a symbolic link or predefined key", value })
    }
}

fn check_key_name(name: &NtName) -> Result<(), Error> {
    let units = name.units();
    if units.is_empty() || units.len() > MAX_KEY_NAME_UNITS {
        let expected = format!("1 to {MAX_KEY_NAME_UNITS} units");
        return Err(invalid("key name", expected, units.len()));
    }
    if units.contains(&u16::from(b'\\')) {
        return Err(invalid("key name", "no backslash", name));
    }
    Ok(())
}

/// Lengths of names, which were checked before.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
