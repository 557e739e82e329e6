//! Reading: a hive, its keys and values.

use std::borrow::Cow;
use std::collections::HashSet;

use gravure_nttypes::{FileTime, NtName};

use crate::base::{BaseBlock, State};
use crate::cells::{self, KeyDisk, Stored, ValueDisk};
use crate::error::{Error, corrupt, invalid};
use crate::image::{Cell, Image, wide};
use crate::limits::{MAX_DEPTH, MIN_KEY_CELL_BYTES, SEGMENT_BYTES};
use crate::name::RawName;
use crate::subkeys::Subkeys;
use crate::value::{self, Data, ValueType};

/// A hive in memory.
#[derive(Debug, Clone)]
pub struct Hive {
    pub(crate) base: BaseBlock,
    pub(crate) image: Image,
}

/// Names a key of one hive as long as the key is not deleted or renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) Cell);

impl Hive {
    /// Takes the bytes of a hive file. Base block and bins are checked at once, keys when they are read.
    ///
    /// A dirty hive is read as it stands: see [`Hive::state`]; [`crate::recover`] applies its logs.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        let base = BaseBlock::parse(&bytes)?;
        let image = Image::parse(bytes, &base)?;
        Ok(Self { base, image })
    }

    /// The bytes, as they were given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.image.bytes
    }

    /// What the base block says.
    pub fn base(&self) -> &BaseBlock {
        &self.base
    }

    /// Whether it was written completely.
    pub fn state(&self) -> &State {
        &self.base.state
    }

    /// The root key.
    pub fn root(&self) -> Result<Key<'_>, Error> {
        self.key(KeyId(Cell(self.base.root)))
    }

    /// The key `id` names.
    pub fn key(&self, id: KeyId) -> Result<Key<'_>, Error> {
        let (disk, name) = cells::key(&self.image, id.0)?;
        Ok(Key { hive: self, id, disk, name })
    }

    /// The key at `path`: names separated by backslashes, from the root; the empty path is the root.
    pub fn open(&self, path: &str) -> Result<Key<'_>, Error> {
        self.find(path)?.ok_or_else(|| Error::NotFound {
            what: "key",
            name: if path.is_empty() { "\\" } else { path }.to_owned(),
        })
    }

    /// The key at `path`, or `None`.
    pub fn find(&self, path: &str) -> Result<Option<Key<'_>>, Error> {
        let mut key = self.root()?;
        for part in split_path(path) {
            match key.subkey(&NtName::from(part))? {
                Some(next) => key = next,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    /// Path of a key from the root, without leading backslash.
    pub fn path(&self, id: KeyId) -> Result<String, Error> {
        let mut parts = Vec::new();
        let mut key = self.key(id)?;
        while key.id.0.0 != self.base.root {
            parts.push(key.name().to_string());
            if parts.len() > MAX_DEPTH {
                return Err(corrupt("key", id.0.offset(), "a root above it", "a cycle of parents"));
            }
            key = self.key(KeyId(Cell(key.disk.parent.get())))?;
        }
        parts.reverse();
        Ok(parts.join("\\"))
    }

    /// The root and everything below it, each key before its subkeys.
    pub fn walk(&self) -> Walk<'_> {
        self.walk_from(KeyId(Cell(self.base.root)))
    }

    /// A key and everything below it, each key before its subkeys; the level of the first is 0. No key is met twice,
    /// whatever a damaged hive lists.
    pub fn walk_from(&self, key: KeyId) -> Walk<'_> {
        Walk { hive: self, stack: vec![(key.0, 0)], seen: HashSet::new(), room: self.most_keys() }
    }

    /// Most keys a hive of this size can hold.
    pub(crate) fn most_keys(&self) -> usize {
        self.image.bytes.len().checked_div(MIN_KEY_CELL_BYTES).unwrap_or(0)
    }

    /// Reads the list of subkeys of a key; more than `most` are an error. Walks hand in how many keys the hive can hold
    /// beyond those they have met, so that a list which many damaged keys share costs no more than one.
    pub(crate) fn subkeys(&self, disk: &KeyDisk, cell: Cell, most: usize) -> Result<Option<Subkeys>, Error> {
        let count = wide(disk.subkey_count.get());
        if count == 0 {
            return Ok(None);
        }
        if count > most {
            let expected = format!("at most {most}, which is what the hive has room for");
            return Err(corrupt("subkey count", cell.offset(), expected, count));
        }
        let list = Cell(disk.subkey_list.get());
        let subkeys = Subkeys::read(&self.image, list, count)?;
        if subkeys.len() != count {
            let expected = format!("{count} entries, as the key at {:#x} states", cell.offset());
            return Err(corrupt("list of subkeys", list.offset(), expected, subkeys.len()));
        }
        Ok(Some(subkeys))
    }

    /// Cells of the values of a key.
    pub(crate) fn value_cells(&self, disk: &KeyDisk) -> Result<Vec<Cell>, Error> {
        // A predefined key has a handle in place of the count.
        if disk.value_count.get() == 0 || disk.flags.get() & KeyDisk::FLAG_PREDEFINED != 0 {
            return Ok(Vec::new());
        }
        cells::plain_list(&self.image, Cell(disk.value_list.get()), disk.value_count.get(), "list of values")
    }

    /// Data of a value; borrowed when it stands in one piece.
    fn data<'h>(&'h self, disk: &'h ValueDisk, cell: Cell) -> Result<Cow<'h, [u8]>, Error> {
        let len = wide(disk.len());
        Ok(match cells::stored(&self.image, disk, cell, self.base.minor)? {
            Stored::Inline => {
                let field: &[u8] = zerocopy::IntoBytes::as_bytes(&disk.data);
                Cow::Borrowed(field.get(..len).unwrap_or_default())
            }
            Stored::Plain(at) | Stored::TooLongForOne(at) => {
                let content = self.image.cell(at, "value data")?;
                Cow::Borrowed(content.get(..len).unwrap_or_default())
            }
            Stored::Big { segments, .. } => {
                let mut out = Vec::new();
                for segment in segments {
                    let left = len.saturating_sub(out.len()).min(SEGMENT_BYTES);
                    let content = self.image.cell(segment, "data segment")?;
                    let part = content.get(..left).ok_or_else(|| {
                        let found = format_args!("{} bytes", content.len());
                        corrupt("data segment", segment.offset(), format!("{left} bytes"), found)
                    })?;
                    out.extend_from_slice(part);
                }
                Cow::Owned(out)
            }
        })
    }
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key<'h> {
    hive: &'h Hive,
    id: KeyId,
    pub(crate) disk: &'h KeyDisk,
    pub(crate) name: RawName<'h>,
}

impl<'h> Key<'h> {
    /// What names it in its hive.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> NtName {
        self.name.to_name()
    }

    /// Last change of the key or its values.
    pub fn written(&self) -> FileTime {
        FileTime(self.disk.written.get())
    }

    /// Flags as stored (KEY_*).
    pub fn flags(&self) -> u16 {
        self.disk.flags.get()
    }

    /// True for a symbolic link: its target is the value `SymbolicLinkValue`.
    pub fn is_link(&self) -> bool {
        self.flags() & KeyDisk::FLAG_LINK != 0
    }

    /// Subkeys, as the key states.
    pub fn subkey_count(&self) -> usize {
        wide(self.disk.subkey_count.get())
    }

    /// Subkeys in stored order, which is the order of their upper-cased names.
    pub fn subkeys(&self) -> Result<impl Iterator<Item = Result<Key<'h>, Error>> + 'h, Error> {
        let list = self.hive.subkeys(self.disk, self.id.0, self.hive.most_keys())?;
        let cells: Vec<Cell> = list.iter().flat_map(Subkeys::entries).map(|entry| entry.key).collect();
        let hive = self.hive;
        Ok(cells.into_iter().map(move |cell| hive.key(KeyId(cell))))
    }

    /// The subkey of that name, whatever its case.
    pub fn subkey(&self, name: &NtName) -> Result<Option<Key<'h>>, Error> {
        for key in self.subkeys()? {
            let key = key?;
            if key.name.matches(name) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Values in stored order.
    pub fn values(&self) -> Result<impl Iterator<Item = Result<Value<'h>, Error>> + 'h, Error> {
        let cells = self.hive.value_cells(self.disk)?;
        let hive = self.hive;
        Ok(cells.into_iter().map(move |cell| {
            let (disk, name) = cells::value(&hive.image, cell)?;
            Ok(Value { hive, cell, disk, name })
        }))
    }

    /// The value of that name, whatever its case; the empty name is the default value.
    pub fn value(&self, name: &str) -> Result<Option<Value<'h>>, Error> {
        let name = NtName::from(name);
        for value in self.values()? {
            let value = value?;
            if value.name.matches(&name) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Type and bytes of a value, or `None`.
    pub fn data(&self, name: &str) -> Result<Option<Data>, Error> {
        self.value(name)?.map(|value| value.data()).transpose()
    }

    /// Class name: texts that applications attach to a key; empty for most.
    pub fn class(&self) -> Result<NtName, Error> {
        let (cell, len) = (Cell(self.disk.class.get()), usize::from(self.disk.class_bytes.get()));
        if cell.is_nil() || len == 0 {
            return Ok(NtName::default());
        }
        let content = self.hive.image.cell(cell, "class name")?;
        let bytes = content.get(..len).filter(|_| len.is_multiple_of(2)).ok_or_else(|| {
            let expected = format!("whole UTF-16 units, at most {} bytes", content.len());
            corrupt("class name", cell.offset(), expected, format_args!("{len} bytes"))
        })?;
        NtName::from_le_bytes(bytes).map_err(|error| invalid("class name", "UTF-16", error))
    }

    /// Security descriptor, self-relative.
    pub fn security(&self) -> Result<&'h [u8], Error> {
        Ok(cells::security(&self.hive.image, Cell(self.disk.security.get()))?.1)
    }
}

/// A value.
#[derive(Debug, Clone, Copy)]
pub struct Value<'h> {
    hive: &'h Hive,
    cell: Cell,
    disk: &'h ValueDisk,
    name: RawName<'h>,
}

impl<'h> Value<'h> {
    /// Its name; empty for the default value.
    pub fn name(&self) -> NtName {
        self.name.to_name()
    }

    /// What its bytes mean.
    pub fn kind(&self) -> ValueType {
        ValueType(self.disk.kind.get())
    }

    /// Bytes of data, as stated.
    pub fn len(&self) -> usize {
        wide(self.disk.len())
    }

    /// True without data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes.
    pub fn bytes(&self) -> Result<Cow<'h, [u8]>, Error> {
        self.hive.data(self.disk, self.cell)
    }

    /// Type and bytes.
    pub fn data(&self) -> Result<Data, Error> {
        Ok(Data { kind: self.kind(), bytes: self.bytes()?.into_owned() })
    }

    /// The text, when it is one.
    pub fn text(&self) -> Result<Option<NtName>, Error> {
        Ok(if self.kind().is_text() { Some(value::text(&self.bytes()?)) } else { None })
    }
}

/// See [`Hive::walk`].
#[derive(Debug)]
pub struct Walk<'h> {
    hive: &'h Hive,
    stack: Vec<(Cell, usize)>,
    seen: HashSet<Cell>,
    /// Keys the hive can hold beyond those that were listed.
    room: usize,
}

impl<'h> Iterator for Walk<'h> {
    /// A key and its level, 0 for the root. After an error the walk goes on beside the damaged key.
    type Item = Result<(Key<'h>, usize), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (cell, level) = self.stack.pop()?;
        Some(self.visit(cell, level).map(|key| (key, level)))
    }
}

impl<'h> Walk<'h> {
    fn visit(&mut self, cell: Cell, level: usize) -> Result<Key<'h>, Error> {
        if !self.seen.insert(cell) {
            return Err(corrupt("key", cell.offset(), "one place in the tree", "a second one"));
        }
        if level > MAX_DEPTH {
            return Err(corrupt("key", cell.offset(), format!("at most {MAX_DEPTH} levels"), level));
        }
        let key = self.hive.key(KeyId(cell))?;
        if let Some(list) = self.hive.subkeys(key.disk, cell, self.room)? {
            self.room = self.room.saturating_sub(list.len());
            let below = level.saturating_add(1);
            let first = self.stack.len();
            self.stack.extend(list.entries().map(|entry| (entry.key, below)));
            self.stack.get_mut(first..).unwrap_or_default().reverse();
        }
        Ok(key)
    }
}

/// The names of a path; empty parts are dropped, so that `\A\B` and `A\B` are the same.
pub(crate) fn split_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('\\').filter(|part| !part.is_empty())
}
