//! A whole volume as a tree: the MFT is read front to back, names are put together afterwards.
//!
//! No index of names is read, so a volume of a million files costs one pass over its MFT, whatever its directories look like.
//! A tree takes its usual memory, beside it a place of 40 bytes for each stream in one run.

use std::collections::HashMap;

use gravure_io::ReadAt;
use gravure_nttypes::NtName;
use gravure_tree::{Entry, Node, NodeId, SourceId, Tree};

use super::bytes::{at, split_reference};
use super::contents::Contents;
use super::fault::Fault;
use super::index::{Entry as IndexEntry, IndexKind, Visitor};
use super::node::{NodeReader, ReadFile};
use super::record::{Record, unprotect};
use super::secure::Descriptors;
use super::volume::Volume;
use crate::Error;
use crate::disk::{RECORD_IN_USE, RECORD_MAGIC, attribute_type as types, numbers};

/// Bytes of the MFT read at a time.
const BATCH_BYTES: usize = 1 << 20;
/// Index of $ObjId.
const OBJECT_IDS: [u16; 2] = [0x24, 0x4f];

/// What the engine decides while a volume is scanned.
pub trait ScanGuide {
    /// Whether the file or directory with these names from the root down is taken. What is below a directory that is not, is
    /// not either.
    fn keeps(&mut self, path: &[NtName], is_directory: bool) -> bool {
        let _ = (path, is_directory);
        true
    }

    /// Asked after every batch of records; false ends the scan with [`Error::Stopped`].
    fn goes_on(&mut self, done: u32, all: u32) -> bool {
        let _ = (done, all);
        true
    }

    /// Something that the tree does not have as the volume has it.
    fn warn(&mut self, message: String);
}

/// A scanned volume.
#[derive(Debug)]
pub struct Scan {
    /// Its files; contents refer to [`Contents`].
    pub tree: Tree,
    /// Where the contents are.
    pub contents: Contents,
    /// Directories that are marked case-sensitive, ascending.
    pub case_sensitive: Vec<NodeId>,
}

impl Volume {
    /// Reads all files but those of the system. Contents of the tree refer to `id`. What is damaged is left out and told.
    pub fn scan(&self, source: &dyn ReadAt, id: SourceId, guide: &mut dyn ScanGuide) -> Result<Scan, Error> {
        let mut reader = NodeReader {
            volume: self,
            source,
            id,
            descriptors: Descriptors::open(self, source)?,
            births: self.births(source)?,
            contents: Contents::default(),
        };
        let mut files = Files::default();
        let count = self.record_count();
        let per_batch = BATCH_BYTES.checked_div(self.mft.record_bytes).unwrap_or(1).max(1);
        let (mut first, mut batch) = (0u32, Vec::new());
        while first < count {
            if !guide.goes_on(first, count) {
                return Err(Error::Stopped);
            }
            let now = at(count.saturating_sub(first)).min(per_batch);
            self.mft.read_many(source, first, now, &mut batch)?;
            for (number, bytes) in (first..).zip(batch.chunks_exact_mut(self.mft.record_bytes)) {
                if number >= numbers::FIRST_FREE || number == numbers::ROOT {
                    self.take(source, number, bytes, &mut reader, &mut files, guide)?;
                }
            }
            first = first.saturating_add(u32::try_from(now).unwrap_or(u32::MAX));
        }
        let (mut tree, case_sensitive) = files.into_tree(self, guide)?;
        let NodeReader { descriptors, contents, .. } = reader;
        tree.set_security_descriptors(descriptors.table);
        Ok(Scan { tree, contents, case_sensitive })
    }

    /// Takes the file in a record, if there is one.
    fn take(
        &self,
        source: &dyn ReadAt,
        number: u32,
        bytes: &mut [u8],
        reader: &mut NodeReader<'_>,
        files: &mut Files,
        guide: &mut dyn ScanGuide,
    ) -> Result<(), Error> {
        if !bytes.starts_with(&RECORD_MAGIC) {
            if bytes.starts_with(b"BAAD") {
                guide.warn(format!("record {number} is marked damaged; left out"));
            }
            return Ok(());
        }
        let start = self.mft.offset(u64::from(number));
        let record = unprotect(bytes).and_then(|()| Record::parse(bytes));
        let record = match record {
            Ok(record)
                if record.head.flags.get() & RECORD_IN_USE == 0 || record.head.base_record.get() != 0 =>
            {
                return Ok(());
            }
            Ok(record) => record,
            Err(fault) => {
                guide.warn(format!("{}; left out", fault.into_error(format!("record {number}"), start)));
                return Ok(());
            }
        };
        let read = self.gather(source, number, &record).and_then(|attributes| {
            reader.read(number, &record.head, &attributes, &mut |message| guide.warn(message))
        });
        match read {
            Ok(file) => {
                files.push(number, record.head.sequence.get(), file);
                Ok(())
            }
            Err(error @ (Error::Io { .. } | Error::Stopped)) => Err(error),
            Err(error) if number == numbers::ROOT => Err(error),
            Err(error) => {
                guide.warn(format!("{}{error}; left out", self.name_in(&record)));
                Ok(())
            }
        }
    }

    /// The first name in a record, for messages.
    fn name_in(&self, record: &Record<'_>) -> String {
        let attributes = record.attributes().map_while(Result::ok);
        let name = attributes
            .filter(|one| one.kind == types::FILE_NAME)
            .find_map(|one| super::names::FileName::parse(one.value()?));
        name.map_or_else(String::new, |name| format!("{}: ", name.show()))
    }

    /// Birth ids in the index of object ids.
    fn births(&self, source: &dyn ReadAt) -> Result<HashMap<u64, [u8; 48]>, Error> {
        struct Births(HashMap<u64, [u8; 48]>);
        impl Visitor for Births {
            fn entry(&mut self, entry: &IndexEntry<'_>) {
                let Some((reference, births)) = entry.data.split_first_chunk::<8>() else { return };
                if let Some(births) = births.first_chunk::<48>() {
                    self.0.insert(u64::from_le_bytes(*reference), *births);
                }
            }
            fn fault(&mut self, _: u64, _: Fault) {}
        }
        let mut births = Births(HashMap::new());
        if let Some(number) = self.find_in_extend(source, "$ObjId")? {
            let (_, file) = self.file(source, number)?;
            self.walk(source, &file, &OBJECT_IDS, IndexKind::View, &mut births)?;
        }
        Ok(births.0)
    }

    /// The record of a file of $Extend.
    pub(crate) fn find_in_extend(&self, source: &dyn ReadAt, name: &str) -> Result<Option<u32>, Error> {
        struct Finder(Vec<u16>, Option<u64>);
        impl Visitor for Finder {
            fn entry(&mut self, entry: &IndexEntry<'_>) {
                if super::names::FileName::parse(entry.key).is_some_and(|name| name.units() == self.0) {
                    self.1 = Some(entry.reference);
                }
            }
            fn fault(&mut self, _: u64, _: Fault) {}
        }
        let (_, extend) = match self.file(source, numbers::EXTEND) {
            // Version 1.2 has quotas of its own there, or nothing.
            Err(Error::Corrupt { .. }) => return Ok(None),
            other => other?,
        };
        let mut finder = Finder(name.encode_utf16().collect(), None);
        self.walk(source, &extend, &super::volume::NAME_INDEX, IndexKind::Names, &mut finder)?;
        Ok(finder.1.and_then(|reference| u32::try_from(split_reference(reference).0).ok()))
    }
}

/// All files, before their names are put together.
#[derive(Debug, Default)]
struct Files {
    list: Vec<OneFile>,
    links: Vec<Link>,
    /// Place in the list by record.
    by_record: HashMap<u32, u32>,
}

#[derive(Debug)]
struct OneFile {
    number: u32,
    sequence: u16,
    node: Node,
    /// In the tree, once it is there.
    id: Option<NodeId>,
    /// Whether a directory leads to it.
    is_reached: bool,
    is_case_sensitive: bool,
}

#[derive(Debug)]
struct Link {
    parent: u32,
    parent_sequence: u16,
    name: NtName,
    short_name: Option<NtName>,
    file: u32,
}

/// A directory that is being filled.
struct Frame {
    node: NodeId,
    next: usize,
    end: usize,
}

impl Files {
    fn push(&mut self, number: u32, sequence: u16, file: ReadFile) {
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        for name in file.names {
            let (parent, parent_sequence) = split_reference(name.parent);
            let parent = u32::try_from(parent).unwrap_or(u32::MAX);
            // The root is its own parent.
            if parent != number {
                self.links.push(Link {
                    parent,
                    parent_sequence,
                    name: name.name,
                    short_name: name.short_name,
                    file: index,
                });
            }
        }
        self.by_record.insert(number, index);
        self.list.push(OneFile {
            number,
            sequence,
            node: file.node,
            id: None,
            is_reached: number == numbers::ROOT,
            is_case_sensitive: file.is_case_sensitive,
        });
    }

    fn links_of(&self, parent: u32) -> (usize, usize) {
        let start = self.links.partition_point(|link| link.parent < parent);
        let end = self.links.partition_point(|link| link.parent <= parent);
        (start, end)
    }

    /// Puts every file that can be reached from the root into a tree, directories in the order of their indexes. Those that are
    /// marked case-sensitive come second.
    fn into_tree(mut self, volume: &Volume, guide: &mut dyn ScanGuide) -> Result<(Tree, Vec<NodeId>), Error> {
        let upcase = &volume.upcase;
        self.links.sort_by(|a, b| {
            a.parent.cmp(&b.parent).then_with(|| upcase.collate(a.name.units(), b.name.units()))
        });
        let root = self.by_record.get(&numbers::ROOT).and_then(|index| self.list.get_mut(at(*index)));
        let root = root.ok_or_else(|| Error::Corrupt {
            what: "root directory".to_owned(),
            offset: volume.mft.offset(u64::from(numbers::ROOT)),
            expected: "a directory in record 5".to_owned(),
            found: "none".to_owned(),
        })?;
        let mut tree = Tree::new(std::mem::take(&mut root.node));
        root.id = Some(tree.root());
        let (next, end) = self.links_of(numbers::ROOT);
        let mut stack = vec![Frame { node: tree.root(), next, end }];
        let mut path: Vec<NtName> = Vec::new();
        while let Some(frame) = stack.last_mut() {
            if frame.next >= frame.end {
                stack.pop();
                path.pop();
                continue;
            }
            let (parent, index) = (frame.node, frame.next);
            frame.next = frame.next.saturating_add(1);
            let Some(link) = self.links.get_mut(index) else { continue };
            let (name, short_name) = (std::mem::take(&mut link.name), link.short_name.take());
            let (file, parent_number, parent_sequence) = (at(link.file), link.parent, link.parent_sequence);
            let expected = self.by_record.get(&parent_number).and_then(|index| self.list.get(at(*index)));
            let expected = expected.map_or(0, |directory| directory.sequence);
            path.push(name.clone());
            let shown = || path.iter().map(|name| format!("/{name}")).collect::<String>();
            let Some(one) = self.list.get_mut(file) else { continue };
            let is_directory = one.node.is_directory();
            let why = if parent_sequence != expected {
                Some(format!("its directory was replaced: sequence {parent_sequence}, now {expected}"))
            } else {
                bad_name(&name).or_else(|| {
                    tree.children(parent)
                        .last()
                        .filter(|last| last.name == name)
                        .map(|_| "a second file of that name".to_owned())
                })
            };
            if let Some(why) = why {
                guide.warn(format!("{}: {why}; left out", shown()));
                path.pop();
                continue;
            }
            one.is_reached = true;
            if !guide.keeps(&path, is_directory) {
                let number = one.number;
                self.reach_below(number);
                path.pop();
                continue;
            }
            let below = match one.id {
                None => {
                    let number = one.number;
                    let node = std::mem::take(&mut one.node);
                    // A copy stays for further names of what cannot be linked.
                    let copy = node.reparse.is_some().then(|| Node { object_id: None, ..node.clone() });
                    let added = tree
                        .add_checked(parent, name, short_name, node)
                        .map_err(|error| tree_error(&shown(), &error))?;
                    match copy {
                        Some(copy) if !is_directory => one.node = copy,
                        _ => one.id = Some(added),
                    }
                    is_directory.then_some((number, added))
                }
                Some(known) => {
                    let entry = Entry { name, short_name, node: known };
                    if tree.link_checked(parent, entry).is_err() {
                        guide.warn(format!("{}: a second name of a directory; left out", shown()));
                    }
                    None
                }
            };
            match below {
                Some((number, node)) => {
                    let (next, end) = self.links_of(number);
                    stack.push(Frame { node, next, end });
                }
                None => {
                    path.pop();
                }
            }
        }
        self.tell_lost(guide);
        let marked = self.list.iter().filter(|one| one.is_case_sensitive);
        let mut marked: Vec<NodeId> = marked.filter_map(|one| one.id).collect();
        marked.sort_unstable();
        Ok((tree, marked))
    }

    /// Marks everything below the directory `number` as found.
    fn reach_below(&mut self, number: u32) {
        let mut todo = vec![number];
        while let Some(number) = todo.pop() {
            let (start, end) = self.links_of(number);
            for link in self.links.get(start..end).unwrap_or_default() {
                if let Some(one) = self.list.get_mut(at(link.file)).filter(|one| !one.is_reached) {
                    one.is_reached = true;
                    todo.push(one.number);
                }
            }
        }
    }

    /// Tells of files that no directory leads to.
    fn tell_lost(&mut self, guide: &mut dyn ScanGuide) {
        // The system's own files are found, but in no tree.
        self.reach_below(numbers::EXTEND);
        let mut lost = self.list.iter().filter(|one| !one.is_reached);
        if let Some(first) = lost.next() {
            let more = lost.count();
            guide.warn(format!("record {} and {more} more are in no directory; left out", first.number));
        }
    }
}

/// Why a name cannot be in a tree.
fn bad_name(name: &NtName) -> Option<String> {
    let units = name.units();
    let dots = units.len() <= 2 && units.iter().all(|unit| *unit == 0x2e);
    (dots || units.contains(&0) || units.contains(&0x2f)).then(|| "no name for a file".to_owned())
}

fn tree_error(path: &str, error: &gravure_tree::TreeError) -> Error {
    Error::Corrupt {
        what: path.to_owned(),
        offset: 0,
        expected: "a name in a directory".to_owned(),
        found: error.to_string(),
    }
}
