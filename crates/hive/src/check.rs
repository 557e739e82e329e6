//! Consistency of a whole hive: every cell, key, list, value, descriptor and count.

use std::collections::HashMap;
use std::fmt;

use crate::base::State;
use crate::cells::{self, KeyDisk, Stored};
use crate::error::Error;
use crate::hive::{Hive, KeyId};
use crate::image::{Cell, wide};
use crate::limits::{HASH_LEAF_MINOR, MAX_DEPTH, MAX_FAULTS, MAX_KEY_NAME_UNITS, SEGMENT_BYTES};
use crate::name::{self, RawName};
use crate::subkeys::{Entry, Leaf, LeafKind};

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Odd, but every reader gets the same keys and values.
    Warning,
    /// Keys or values are lost, or an edit could destroy some.
    Damage,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How bad.
    pub severity: Severity,
    /// What is wrong, with place, expected and found.
    pub message: String,
    /// Absolute byte offset in the file.
    pub offset: u64,
    /// Path of the key it belongs to; empty when it belongs to none or to the root.
    pub key: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// All faults, at most a thousand.
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub more_faults: usize,
    /// Keys that can be reached.
    pub keys: usize,
    /// Their values.
    pub values: usize,
    /// Different security descriptors.
    pub descriptors: usize,
    /// Keys out of our order because of letters beyond ASCII, which may be upper-cased by another table.
    pub unordered_keys: usize,
    /// Free bytes in all bins.
    pub free_bytes: u64,
    /// Cells in use that nothing refers to; Windows leaves some behind.
    pub lost_cells: usize,
    /// Their bytes.
    pub lost_bytes: u64,
}

impl Report {
    /// The faults that are damage.
    pub fn damage(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Damage)
    }

    /// True without damage.
    pub fn is_sound(&self) -> bool {
        self.damage().next().is_none()
    }
}

/// Checks everything. Time and memory grow with the size of the hive, whatever stands in it.
pub fn check(hive: &Hive) -> Report {
    let mut checker = Checker {
        hive,
        report: Report::default(),
        used: HashMap::new(),
        descriptors: HashMap::new(),
        room: hive.most_keys(),
        has_damage: false,
    };
    if *hive.state() != State::Clean {
        let message = format!("hive was not written completely: {}", hive.state().reason());
        checker.fault(Severity::Damage, message, 4, None);
    }
    checker.tile();
    checker.walk();
    checker.ring();
    checker.lost();
    checker.report
}

struct Checker<'h> {
    hive: &'h Hive,
    report: Report,
    /// Cells in use, and whether something refers to them.
    used: HashMap<Cell, (u32, bool)>,
    /// Descriptors and the keys that use them.
    descriptors: HashMap<Cell, u32>,
    /// Keys the hive can hold beyond those that were listed.
    room: usize,
    has_damage: bool,
}

/// A key to visit: where it is, the key above it, and how many are above.
struct Todo {
    cell: Cell,
    parent: Option<Cell>,
    level: usize,
}

impl<'h> Checker<'h> {
    fn fault(&mut self, severity: Severity, message: String, offset: u64, key: Option<Cell>) {
        // Damage must not hide behind warnings.
        let is_first_damage = severity == Severity::Damage && !self.has_damage;
        self.has_damage |= is_first_damage;
        if self.report.faults.len() >= MAX_FAULTS && !is_first_damage {
            self.report.more_faults = self.report.more_faults.saturating_add(1);
            return;
        }
        let key = key.map(|cell| self.hive.path(KeyId(cell)).unwrap_or_default()).unwrap_or_default();
        self.report.faults.push(Fault { severity, message, offset, key });
    }

    fn damage(&mut self, error: &Error, key: Option<Cell>) {
        let offset = match error {
            Error::Corrupt { offset, .. } => *offset,
            _ => 0,
        };
        self.fault(Severity::Damage, error.to_string(), offset, key);
    }

    fn unequal(
        &mut self,
        severity: Severity,
        key: Option<Cell>,
        what: &str,
        cell: Cell,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let offset = cell.offset();
        let message = format!("{what} at {offset:#x}: expected {expected}, found {found}");
        self.fault(severity, message, offset, key);
    }

    /// Notes every cell, and that cells fill their bins.
    fn tile(&mut self) {
        let image = &self.hive.image;
        for bin in &image.bins {
            for extent in image.extents(*bin) {
                match extent {
                    Ok(extent) if extent.is_used => {
                        self.used.insert(extent.cell, (extent.len, false));
                    }
                    Ok(extent) => {
                        let sum = self.report.free_bytes.saturating_add(u64::from(extent.len));
                        self.report.free_bytes = sum;
                    }
                    Err(error) => self.damage(&error, None),
                }
            }
        }
    }

    /// Notes that something refers to `cell`; it must be a cell, and nothing else may.
    fn refer(&mut self, cell: Cell, what: &str, key: Cell) -> bool {
        match self.used.get_mut(&cell) {
            Some((_, seen @ false)) => {
                *seen = true;
                return true;
            }
            Some(_) => self.unequal(Severity::Damage, Some(key), what, cell, "one reference", "a second one"),
            None => {
                self.unequal(Severity::Damage, Some(key), what, cell, "the start of a used cell", "none");
            }
        }
        false
    }

    fn walk(&mut self) {
        let mut todo = vec![Todo { cell: Cell(self.hive.base.root), parent: None, level: 0 }];
        while let Some(next) = todo.pop() {
            if !self.refer(next.cell, "key", next.parent.unwrap_or(next.cell)) {
                continue;
            }
            if next.level > MAX_DEPTH {
                let expected = format!("at most {MAX_DEPTH} levels");
                self.unequal(Severity::Damage, Some(next.cell), "key", next.cell, expected, next.level);
                continue;
            }
            match cells::key(&self.hive.image, next.cell) {
                Ok((disk, name)) => {
                    self.report.keys = self.report.keys.saturating_add(1);
                    self.key(&next, disk, name, &mut todo);
                }
                Err(error) => self.damage(&error, next.parent),
            }
        }
    }

    fn key(&mut self, at: &Todo, disk: &'h KeyDisk, name: RawName<'h>, todo: &mut Vec<Todo>) {
        let key = Some(at.cell);
        let is_root = disk.flags.get() & KeyDisk::FLAG_ROOT != 0;
        if is_root != at.parent.is_none() {
            let (expected, found) = if is_root { ("no", "a") } else { ("a", "no") };
            let severity = Severity::Warning;
            self.unequal(
                severity,
                key,
                "key",
                at.cell,
                format!("{expected} root flag"),
                format!("{found} root flag"),
            );
        }
        if let Some(parent) = at.parent {
            if disk.parent.get() != parent.0 {
                let (expected, found) = (format!("{:#x}", parent.0), format!("{:#x}", disk.parent.get()));
                self.unequal(Severity::Damage, key, "parent of key", at.cell, expected, found);
            }
            if name.len() == 0 || name.len() > MAX_KEY_NAME_UNITS {
                let expected = format!("1 to {MAX_KEY_NAME_UNITS} units");
                self.unequal(Severity::Damage, key, "key name", at.cell, expected, name.len());
            }
        }
        self.class(at.cell, disk);
        self.security(at.cell, disk);
        self.values(at.cell, disk);
        self.subkeys(at, disk, todo);
    }

    fn class(&mut self, key: Cell, disk: &KeyDisk) {
        let (cell, len) = (Cell(disk.class.get()), disk.class_bytes.get());
        // Keys without a class have a stale cell or length now and then.
        if cell.is_nil() || len == 0 || !self.refer(cell, "class name", key) {
            return;
        }
        match self.hive.image.cell(cell, "class name") {
            Ok(content) if content.len() < usize::from(len) => {
                let expected = format!("{len} bytes");
                self.unequal(Severity::Damage, Some(key), "class name", cell, expected, content.len());
            }
            Ok(_) => {}
            Err(error) => self.damage(&error, Some(key)),
        }
    }

    fn security(&mut self, key: Cell, disk: &KeyDisk) {
        let cell = Cell(disk.security.get());
        if let Some(count) = self.descriptors.get_mut(&cell) {
            *count = count.saturating_add(1);
            return;
        }
        if !self.refer(cell, "security descriptor", key) {
            return;
        }
        match cells::security(&self.hive.image, cell) {
            Ok((_, descriptor)) => {
                self.descriptors.insert(cell, 1);
                if let Err(error) = gravure_nttypes::SecurityDescriptor::parse(descriptor) {
                    let (expected, found) = ("a self-relative descriptor", error);
                    self.unequal(Severity::Warning, Some(key), "security descriptor", cell, expected, found);
                }
            }
            Err(error) => self.damage(&error, Some(key)),
        }
    }

    fn values(&mut self, key: Cell, disk: &KeyDisk) {
        if disk.value_count.get() == 0 || disk.flags.get() & KeyDisk::FLAG_PREDEFINED != 0 {
            return;
        }
        if !self.refer(Cell(disk.value_list.get()), "list of values", key) {
            return;
        }
        let values = match self.hive.value_cells(disk) {
            Ok(values) => values,
            Err(error) => return self.damage(&error, Some(key)),
        };
        let mut names: HashMap<Vec<u16>, Cell> = HashMap::new();
        for cell in values {
            if !self.refer(cell, "value", key) {
                continue;
            }
            let (value, name) = match cells::value(&self.hive.image, cell) {
                Ok(found) => found,
                Err(error) => {
                    self.damage(&error, Some(key));
                    continue;
                }
            };
            self.report.values = self.report.values.saturating_add(1);
            if let Some(first) = names.insert(name.units().map(name::upcase).collect(), cell) {
                let found = format!("{} at {:#x} too", name.to_name(), first.offset());
                self.unequal(Severity::Damage, Some(key), "value", cell, "a name of its own", found);
            }
            let name_bytes = name.len().saturating_mul(2);
            if wide(disk.max_value_name_bytes.get()) < name_bytes {
                let found = disk.max_value_name_bytes.get();
                let what = "longest value name";
                self.unequal(
                    Severity::Warning,
                    Some(key),
                    what,
                    key,
                    format!("at least {name_bytes}"),
                    found,
                );
            }
            if disk.max_value_bytes.get() < value.len() {
                let (expected, found) = (format!("at least {}", value.len()), disk.max_value_bytes.get());
                self.unequal(Severity::Warning, Some(key), "longest value", key, expected, found);
            }
            match cells::stored(&self.hive.image, value, cell, self.hive.base.minor) {
                Ok(stored) => self.stored(key, &stored, wide(value.len())),
                Err(error) => self.damage(&error, Some(key)),
            }
        }
    }

    fn stored(&mut self, key: Cell, stored: &Stored, len: usize) {
        match stored {
            Stored::Inline => {}
            Stored::Plain(cell) => {
                self.refer(*cell, "value data", key);
            }
            Stored::TooLongForOne(cell) => {
                self.refer(*cell, "value data", key);
                let expected = format!("segments of {SEGMENT_BYTES} bytes (big data)");
                let found = format!("{len} bytes in one cell; Windows cannot read them");
                self.unequal(Severity::Warning, Some(key), "value data", *cell, expected, found);
            }
            Stored::Big { head, list, segments } => {
                self.refer(*head, "big data", key);
                self.refer(*list, "list of data segments", key);
                let mut left = len;
                for segment in segments {
                    let need = left.min(SEGMENT_BYTES);
                    left = left.saturating_sub(need);
                    if !self.refer(*segment, "data segment", key) {
                        continue;
                    }
                    let have = self.hive.image.cell(*segment, "data segment").map(<[u8]>::len);
                    if have.as_ref().is_ok_and(|have| *have < need) {
                        let (expected, found) = (format!("{need} bytes"), have.unwrap_or_default());
                        self.unequal(Severity::Damage, Some(key), "data segment", *segment, expected, found);
                    }
                }
            }
        }
    }

    fn subkeys(&mut self, at: &Todo, disk: &KeyDisk, todo: &mut Vec<Todo>) {
        let list = match self.hive.subkeys(disk, at.cell, self.room) {
            Ok(Some(list)) => list,
            Ok(None) => return,
            Err(error) => return self.damage(&error, Some(at.cell)),
        };
        self.room = self.room.saturating_sub(list.len());
        if let Some(root) = list.root {
            self.refer(root, "index root", at.cell);
        }
        let mut previous: Option<Vec<u16>> = None;
        for leaf in &list.leaves {
            self.refer(leaf.cell, "list of subkeys", at.cell);
            self.leaf_kind(at.cell, leaf);
            for entry in &leaf.entries {
                let level = at.level.saturating_add(1);
                todo.push(Todo { cell: entry.key, parent: Some(at.cell), level });
                // What is wrong with the key itself is said when it is visited.
                if let Ok((below, name)) = cells::key(&self.hive.image, entry.key) {
                    self.entry(at.cell, leaf, *entry, name);
                    self.order(at.cell, entry.key, name, &mut previous);
                    let (most, len) = (disk.max_subkey_name_bytes.get(), name.len().saturating_mul(2));
                    if usize::from(most) < len {
                        let what = "longest subkey name";
                        let expected = format!("at least {len}");
                        self.unequal(Severity::Warning, Some(at.cell), what, at.cell, expected, most);
                    }
                    let class = below.class_bytes.get();
                    if disk.max_subkey_class_bytes.get() < u32::from(class) {
                        let (expected, found) =
                            (format!("at least {class}"), disk.max_subkey_class_bytes.get());
                        self.unequal(
                            Severity::Warning,
                            Some(at.cell),
                            "longest class",
                            at.cell,
                            expected,
                            found,
                        );
                    }
                }
            }
        }
    }

    /// The kernel reads all kinds in all versions, but writes one.
    fn leaf_kind(&mut self, key: Cell, leaf: &Leaf) {
        if leaf.kind == LeafKind::Hashed && self.hive.base.minor < HASH_LEAF_MINOR {
            let found = format!("\"lh\" in version 1.{}", self.hive.base.minor);
            self.unequal(
                Severity::Warning,
                Some(key),
                "list of subkeys",
                leaf.cell,
                "\"lf\" or \"li\"",
                found,
            );
        }
        if leaf.entries.is_empty() {
            self.unequal(Severity::Warning, Some(key), "list of subkeys", leaf.cell, "entries", "none");
        }
    }

    fn entry(&mut self, key: Cell, leaf: &Leaf, entry: Entry, name: RawName<'_>) {
        let (what, expected) = match leaf.kind {
            LeafKind::Plain => return,
            LeafKind::Hashed => ("hash", name::leaf_hash(name.units())),
            LeafKind::Hinted => ("hint", name::leaf_hint(name.units())),
        };
        if entry.tag == expected {
            return;
        }
        // Letters beyond ASCII may be upper-cased by another table; a wrong hint only makes a search slower.
        let is_sure = leaf.kind == LeafKind::Hashed && name.units().all(|unit| unit < 0x80);
        let severity = if is_sure { Severity::Damage } else { Severity::Warning };
        let what = format!("{what} of subkey {}", name.to_name());
        let (expected, found) = (format!("{expected:#010x}"), format!("{:#010x}", entry.tag));
        self.unequal(severity, Some(key), &what, leaf.cell, expected, found);
    }

    fn order(&mut self, key: Cell, cell: Cell, name: RawName<'_>, previous: &mut Option<Vec<u16>>) {
        let upper: Vec<u16> = name.units().map(name::upcase).collect();
        if let Some(before) = previous.as_ref().filter(|before| **before >= upper) {
            let is_ascii = before.iter().chain(&upper).all(|unit| *unit < 0x80);
            let severity = if is_ascii || *before == upper { Severity::Damage } else { Severity::Warning };
            self.report.unordered_keys = self.report.unordered_keys.saturating_add(1);
            let expected = format!("a name after {}", String::from_utf16_lossy(before));
            self.unequal(severity, Some(key), "order of subkeys", cell, expected, name.to_name());
        }
        *previous = Some(upper);
    }

    /// The ring of descriptors: complete both ways, with the right counts.
    fn ring(&mut self) {
        self.report.descriptors = self.descriptors.len();
        let Ok((root, _)) = cells::key(&self.hive.image, Cell(self.hive.base.root)) else { return };
        let start = Cell(root.security.get());
        if !self.descriptors.contains_key(&start) {
            return;
        }
        let mut ring: HashMap<Cell, u32> = HashMap::new();
        let mut cell = start;
        loop {
            let disk = match cells::security(&self.hive.image, cell) {
                Ok((disk, _)) => disk.clone(),
                Err(error) => return self.damage(&error, None),
            };
            ring.insert(cell, disk.references.get());
            if let Some((_, seen)) = self.used.get_mut(&cell) {
                *seen = true;
            }
            let next = Cell(disk.next.get());
            match cells::security(&self.hive.image, next) {
                Ok((after, _)) if after.previous.get() != cell.0 => {
                    let (expected, found) =
                        (format!("{:#x}", cell.0), format!("{:#x}", after.previous.get()));
                    self.unequal(Severity::Damage, None, "descriptor before", next, expected, found);
                }
                Ok(_) => {}
                Err(error) => return self.damage(&error, None),
            }
            if next == start {
                break;
            }
            if ring.contains_key(&next) {
                self.unequal(
                    Severity::Damage,
                    None,
                    "ring of descriptors",
                    cell,
                    "its start",
                    "a shorter ring",
                );
                break;
            }
            cell = next;
        }
        let mut users: Vec<(Cell, u32)> =
            self.descriptors.iter().map(|(cell, count)| (*cell, *count)).collect();
        users.sort_unstable();
        for (cell, count) in users {
            match ring.remove(&cell) {
                Some(stated) if stated != count => {
                    let what = "references of descriptor";
                    self.unequal(Severity::Damage, None, what, cell, count, stated);
                }
                Some(_) => {}
                None => {
                    self.unequal(Severity::Damage, None, "descriptor", cell, "a place in the ring", "none")
                }
            }
        }
        let mut unused: Vec<Cell> = ring.into_keys().collect();
        unused.sort_unstable();
        for cell in unused {
            self.unequal(Severity::Warning, None, "descriptor", cell, "keys that use it", "none");
        }
    }

    fn lost(&mut self) {
        let lost = self.used.values().filter(|(_, seen)| !seen);
        let (count, bytes) = lost.fold((0usize, 0u64), |(n, sum), (len, _)| {
            (n.saturating_add(1), sum.saturating_add(u64::from(*len)))
        });
        (self.report.lost_cells, self.report.lost_bytes) = (count, bytes);
    }
}
