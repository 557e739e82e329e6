//! First pass over the tree: which files there are, under which names, and everything NTFS cannot hold.
//!
//! What is kept is a few numbers for each file and name; names and contents stay in the tree.

use std::collections::HashMap;

use gravure_nttypes::{FileAttributes, MAX_REPARSE_BYTES};
use gravure_tree::{Entry, Node, NodeId, Tree};

use super::attribute::{to_u32, to_u64};
use super::names::{Form, MAX_NAME_UNITS, is_own_short, is_short, is_win32};
use super::options::{Collisions, ContentGuide, Encoding, Geometry, MAX_STREAM_BYTES, WofAlgorithm};
use super::secure::check_descriptor;
use super::sparse::SparsePlan;
use super::system::{ROOT_NAMES, SystemName};
use crate::disk::{EA_HEAD_BYTES, FILE_NAME_BYTES, INDEX_ENTRY_BYTES, UPCASE};
use crate::{Reason, Refusals};

/// Names of one file, short ones not counted, that Windows allows.
pub(super) const MAX_LINKS: u32 = 1024;
/// No number.
pub(super) const NONE: u32 = u32::MAX;
/// Marks the short name of a link among the keys of a directory.
const DOS_KEY: u32 = 1 << 31;
/// Keys from here on are names of system files in the root.
const FIRST_SYSTEM_KEY: u32 = DOS_KEY - 256;

/// A file or directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodePlan {
    /// Number of its first record; extension records follow. [`NONE`] until it has one.
    pub(super) record: u32,
    /// First of its links; [`NONE`] for the root and for nodes without a name.
    pub(super) first_link: u32,
    /// First of its streams in the list of all.
    pub(super) streams: u32,
    /// Directory number, or index of its compressed or sparse stream, or [`NONE`].
    pub(super) detail: u32,
}

/// One name of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Number of the directory it is in.
    pub(super) dir: u32,
    /// Index among the directory's entries.
    pub(super) entry: u32,
    /// The file.
    pub(super) node: NodeId,
    /// The file's next link.
    pub(super) next: u32,
    pub(super) form: Form,
}

/// One directory.
#[derive(Debug, Clone)]
pub(super) struct DirPlan {
    pub(super) node: NodeId,
    /// The link that names it; [`NONE`] for the root.
    pub(super) link: u32,
    /// Its links.
    pub(super) links: std::ops::Range<u32>,
    /// Its keys in the list of all, in index order.
    pub(super) keys: std::ops::Range<u32>,
    /// Bytes of all its index entries without end entry.
    pub(super) entries_bytes: u64,
    /// Index blocks; 0 when all entries stand in the record.
    pub(super) blocks: u64,
    /// Bytes for entries in the root of an index with blocks.
    pub(super) root_bytes: u32,
    /// First cluster of the blocks.
    pub(super) lcn: u64,
    /// Marked so: has names that are equal but for case, or is to be ready for them.
    pub(super) is_case_sensitive: bool,
}

/// The compressed stream of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct WofPlan {
    pub(super) algorithm: WofAlgorithm,
    pub(super) stored_bytes: u64,
}

/// What a file's unnamed stream is beside plain.
#[derive(Debug, Clone)]
pub(super) enum StreamForm {
    Wof(WofPlan),
    /// With holes.
    Sparse(SparsePlan),
}

/// What was changed or dropped on the way, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Notes {
    /// Files and directories with a name that Win32 programs cannot open.
    pub posix_names: u64,
    /// Short names dropped: ill-formed, or the second of one file.
    pub short_names_dropped: u64,
    /// Files marked compressed or sparse whose mark was dropped, as their content is written whole.
    pub marks_dropped: u64,
    /// Files marked as reparse points that have no reparse data; the mark was dropped.
    pub reparse_marks_dropped: u64,
    /// Files with Unix owners, modes or devices, which NTFS does not keep.
    pub unix_data_dropped: u64,
    /// Files without a security descriptor; they get one for SYSTEM and Administrators.
    pub default_descriptors: u64,
    /// Files whose content is written compressed ("CompactOS").
    pub compact_files: u64,
    /// Bytes of sparse files that get no clusters.
    pub hole_bytes: u64,
    /// Directories marked case-sensitive: with names that are equal but for case, or as the guide says.
    pub case_sensitive_directories: u64,
}

/// A key of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    /// A link's long name, or its short one.
    Link { link: u32, is_short: bool },
    /// A system file.
    System(&'static SystemName),
}

impl Key {
    pub(super) fn from_number(key: u32) -> Self {
        let link = key & !DOS_KEY;
        if key & DOS_KEY == 0 && key >= FIRST_SYSTEM_KEY {
            let index = usize::try_from(key - FIRST_SYSTEM_KEY).unwrap_or(usize::MAX);
            return Self::System(&ROOT_NAMES[index]);
        }
        Self::Link { link, is_short: key & DOS_KEY != 0 }
    }
}

/// Everything the first pass found.
#[derive(Debug)]
pub(super) struct Collected<'t> {
    pub(super) tree: &'t Tree,
    pub(super) nodes: Vec<NodePlan>,
    pub(super) links: Vec<Link>,
    pub(super) dirs: Vec<DirPlan>,
    pub(super) keys: Vec<u32>,
    pub(super) forms: Vec<StreamForm>,
    /// Descriptors that are used, by index.
    pub(super) descriptors_used: Vec<bool>,
    pub(super) object_ids: Vec<NodeId>,
    pub(super) reparse_points: Vec<NodeId>,
    /// Streams in all.
    pub(super) stream_count: u32,
    pub(super) notes: Notes,
}

/// Index of a node or link, which are fewer than 2^32.
pub(super) fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl<'t> Collected<'t> {
    /// What there is, and what of it cannot be: everything that is looked for. Refusals alone when there is more than can be
    /// numbered, so that nothing further can be looked at.
    pub(super) fn new(
        tree: &'t Tree,
        guide: &dyn ContentGuide,
        collisions: Collisions,
        geometry: &Geometry,
    ) -> Result<(Self, Refusals), Refusals> {
        let none = NodePlan { record: NONE, first_link: NONE, streams: 0, detail: NONE };
        let mut this = Self {
            tree,
            nodes: vec![none; tree.node_count()],
            links: Vec::new(),
            dirs: Vec::new(),
            keys: Vec::new(),
            forms: Vec::new(),
            descriptors_used: vec![false; tree.security_descriptors().len()],
            object_ids: Vec::new(),
            reparse_points: Vec::new(),
            stream_count: 0,
            notes: Notes::default(),
        };
        let mut refusals = Refusals::default();
        if !this.walk(guide, geometry, &mut refusals) {
            return Err(refusals);
        }
        this.choose_forms(&mut refusals);
        this.check_object_ids(&mut refusals);
        (0..this.dirs.len()).for_each(|dir| this.sort(dir, collisions, &mut refusals));
        Ok((this, refusals))
    }

    /// Directory by directory, so that the files of one get neighbouring records. False when there are too many names.
    fn walk(&mut self, guide: &dyn ContentGuide, geometry: &Geometry, refusals: &mut Refusals) -> bool {
        let mut todo = vec![(self.tree.root(), NONE)];
        while let Some((node, link)) = todo.pop() {
            let number = to_u32(self.dirs.len());
            let first = to_u32(self.links.len());
            self.nodes[node.index()].detail = number;
            self.dirs.push(DirPlan {
                node,
                link,
                links: first..first,
                keys: 0..0,
                entries_bytes: 0,
                blocks: 0,
                root_bytes: 0,
                lcn: 0,
                is_case_sensitive: guide.is_case_sensitive(node),
            });
            self.notes.case_sensitive_directories += u64::from(self.dirs[at(number)].is_case_sensitive);
            if link == NONE {
                self.node(node, guide, geometry, refusals);
            }
            let below = todo.len();
            for (index, entry) in self.tree.children(node).iter().enumerate() {
                let link = to_u32(self.links.len());
                if link >= FIRST_SYSTEM_KEY {
                    refusals.push(|| self.dir_path(number), Reason::FileCount(FIRST_SYSTEM_KEY));
                    return false;
                }
                let is_new = self.nodes[entry.node.index()].first_link == NONE;
                let next = std::mem::replace(&mut self.nodes[entry.node.index()].first_link, link);
                let (entry_index, form) = (to_u32(index), Form::Posix);
                self.links.push(Link { dir: number, entry: entry_index, node: entry.node, next, form });
                if let Err(reason) = check_name(entry) {
                    refusals.push(|| self.link_path(link), reason);
                }
                if is_new {
                    self.node(entry.node, guide, geometry, refusals);
                }
                if self.tree.node(entry.node).is_directory() {
                    todo.push((entry.node, link));
                }
            }
            // The first directory is the next to be taken.
            todo[below..].reverse();
            self.dirs[at(number)].links.end = to_u32(self.links.len());
        }
        true
    }

    /// Checks a node when it is met first, and counts its streams.
    fn node(&mut self, id: NodeId, guide: &dyn ContentGuide, geometry: &Geometry, refusals: &mut Refusals) {
        let node = self.tree.node(id);
        let mut found = Vec::new();
        check_node(node, &mut found);
        match node.security {
            None => self.notes.default_descriptors += 1,
            Some(security) => match self.tree.security_descriptors().get(at(security.0)) {
                None => found.push(Reason::NoDescriptor(security.0)),
                Some(descriptor) => {
                    if !std::mem::replace(&mut self.descriptors_used[at(security.0)], true) {
                        found.extend(check_descriptor(security.0, descriptor).err());
                    }
                }
            },
        }
        for reason in found {
            refusals.push(|| self.node_path(id), reason);
        }
        self.nodes[id.index()].streams = self.stream_count;
        self.stream_count = self.stream_count.saturating_add(stream_count(node));
        self.count_notes(node);
        if node.object_id.is_some() {
            self.object_ids.push(id);
        }
        let form = self.form(id, node, guide, geometry);
        if node.reparse.is_some() || matches!(form, Some(StreamForm::Wof(_))) {
            self.reparse_points.push(id);
        }
        if let Some(form) = form {
            self.nodes[id.index()].detail = to_u32(self.forms.len());
            self.forms.push(form);
        }
    }

    /// What the unnamed stream is, if it is not plain.
    fn form(
        &mut self,
        id: NodeId,
        node: &Node,
        guide: &dyn ContentGuide,
        geometry: &Geometry,
    ) -> Option<StreamForm> {
        let data = node.data.as_ref().filter(|data| data.size > 0 && !node.is_directory())?;
        if node.reparse.is_none()
            && let Encoding::Wof { algorithm, stored_bytes } = guide.encoding(id, data)
        {
            self.notes.compact_files += 1;
            return Some(StreamForm::Wof(WofPlan { algorithm, stored_bytes }));
        }
        // Too large a stream is refused; its runs are not to be counted before.
        let is_sparse = node.attributes.contains(FileAttributes::SPARSE) && data.size <= MAX_STREAM_BYTES;
        let zeros = is_sparse.then(|| guide.zeros(id, data))?;
        let plan = SparsePlan::new(data.size, &zeros, geometry)?;
        self.notes.hole_bytes += plan.hole_bytes(geometry);
        Some(StreamForm::Sparse(plan))
    }

    fn count_notes(&mut self, node: &Node) {
        let marked = |mark| node.attributes.contains(mark);
        self.notes.unix_data_dropped += u64::from(node.unix.is_some());
        self.notes.reparse_marks_dropped +=
            u64::from(marked(FileAttributes::REPARSE_POINT) && node.reparse.is_none());
        let sparse_without_data =
            marked(FileAttributes::SPARSE) && node.data.as_ref().is_none_or(|data| data.size == 0);
        self.notes.marks_dropped += u64::from(marked(FileAttributes::COMPRESSED) || sparse_without_data);
    }

    /// Decides which links have short names: a file has at most one that does.
    fn choose_forms(&mut self, refusals: &mut Refusals) {
        for first in 0..self.nodes.len() {
            let first = self.nodes[first].first_link;
            let mut count = 0u32;
            let mut primary = None;
            let mut link = first;
            while link != NONE {
                let entry = self.entry(link);
                let units = entry.name.units();
                self.notes.posix_names += u64::from(!is_win32(units));
                let form = best_form(entry);
                self.notes.short_names_dropped +=
                    u64::from(entry.short_name.is_some() && form == Form::Posix);
                // A pair is worth more than a name that happens to be short; the chain runs from the last name to the
                // first, which wins among equals.
                let better = match (primary, form) {
                    (_, Form::Posix) => false,
                    (Some((_, Form::Pair)), Form::Pair) => {
                        self.notes.short_names_dropped += 1;
                        true
                    }
                    (Some((_, Form::Pair)), _) => false,
                    _ => true,
                };
                if better {
                    primary = Some((link, form));
                }
                count += 1;
                link = self.links[at(link)].next;
            }
            if let Some((link, form)) = primary {
                self.links[at(link)].form = form;
            }
            if count > MAX_LINKS {
                refusals.push(|| self.link_path(first), Reason::LinkCount(count));
            }
        }
    }

    fn check_object_ids(&self, refusals: &mut Refusals) {
        let mut known = HashMap::new();
        for id in &self.object_ids {
            let guid = self.tree.node(*id).object_id.as_deref().and_then(|id| id.first_chunk::<16>());
            let Some(guid) = guid else { continue };
            if known.insert(guid, *id).is_some() {
                refusals.push(|| self.node_path(*id), Reason::ObjectIdTaken);
            }
        }
    }

    /// Sorts the keys of a directory and looks for names that are equal but for case.
    fn sort(&mut self, dir: usize, collisions: Collisions, refusals: &mut Refusals) {
        let links = self.dirs[dir].links.clone();
        let mut keys: Vec<u32> = Vec::with_capacity(links.len());
        for link in links {
            keys.push(link);
            if self.links[at(link)].form == Form::Pair {
                keys.push(link | DOS_KEY);
            }
        }
        if self.dirs[dir].link == NONE {
            keys.extend((0..to_u32(ROOT_NAMES.len())).map(|index| FIRST_SYSTEM_KEY + index));
        }
        keys.sort_unstable_by(|a, b| UPCASE.collate(self.key_name(*a), self.key_name(*b)));
        for pair in keys.windows(2) {
            if let [a, b] = pair
                && UPCASE.compare(self.key_name(*a), self.key_name(*b)).is_eq()
            {
                self.collide(dir, *a, *b, collisions, refusals);
            }
        }
        let bytes = keys.iter().map(|key| to_u64(entry_bytes(self.key_name(*key).len()))).sum();
        let first = to_u32(self.keys.len());
        self.keys.extend_from_slice(&keys);
        let plan = &mut self.dirs[dir];
        plan.keys = first..to_u32(self.keys.len());
        plan.entries_bytes = bytes;
    }

    fn collide(&mut self, dir: usize, a: u32, b: u32, collisions: Collisions, refusals: &mut Refusals) {
        match (Key::from_number(a), Key::from_number(b)) {
            (Key::Link { link: x, is_short: false }, Key::Link { link: y, is_short: false })
                if collisions == Collisions::Keep
                    && self.key_name(a) != self.key_name(b)
                    && self.links[at(x)].form != Form::Pair
                    && self.links[at(y)].form != Form::Pair =>
            {
                // Neither is fit for Win32 any more.
                for link in [x, y] {
                    self.links[at(link)].form = Form::Posix;
                }
                let was_marked = std::mem::replace(&mut self.dirs[dir].is_case_sensitive, true);
                self.notes.case_sensitive_directories += u64::from(!was_marked);
            }
            (Key::Link { link, .. }, Key::System(_)) | (Key::System(_), Key::Link { link, .. }) => {
                // `.` was told when it was met.
                let is_news = check_name(self.entry(link)).is_ok();
                if is_news {
                    refusals.push(|| self.link_path(link), Reason::NameReserved);
                }
            }
            (_, Key::Link { link, .. }) => {
                let other = String::from_utf16_lossy(self.key_name(a));
                refusals.push(|| self.link_path(link), Reason::NameTaken(other));
            }
            _ => {}
        }
    }

    /// The entry that a link stands for.
    pub(super) fn entry(&self, link: u32) -> &'t Entry {
        let link = &self.links[at(link)];
        &self.tree.children(self.dirs[at(link.dir)].node)[at(link.entry)]
    }

    /// The name that a key sorts by.
    pub(super) fn key_name(&self, key: u32) -> &[u16] {
        match Key::from_number(key) {
            Key::Link { link, is_short } => self.link_name(link, is_short),
            Key::System(system) => system.units,
        }
    }

    pub(super) fn link_name(&self, link: u32, is_short: bool) -> &'t [u16] {
        let entry = self.entry(link);
        match &entry.short_name {
            Some(short) if is_short => short.units(),
            _ => entry.name.units(),
        }
    }

    /// The links of a node, the last one met first.
    pub(super) fn links_of(&self, node: NodeId) -> impl Iterator<Item = (u32, &Link)> {
        let follow = |link: u32| (link != NONE).then_some(link);
        let first = follow(self.nodes[node.index()].first_link);
        std::iter::successors(first, move |link| follow(self.links[at(*link)].next))
            .map(|link| (link, &self.links[at(link)]))
    }

    fn form_of(&self, id: NodeId) -> Option<&StreamForm> {
        let detail = self.nodes[id.index()].detail;
        let is_directory = self.tree.node(id).is_directory();
        (!is_directory && detail != NONE).then(|| &self.forms[at(detail)])
    }

    /// The compressed stream of a file.
    pub(super) fn wof_of(&self, id: NodeId) -> Option<WofPlan> {
        match self.form_of(id)? {
            StreamForm::Wof(wof) => Some(*wof),
            StreamForm::Sparse(_) => None,
        }
    }

    /// The unnamed stream of a file that has holes.
    pub(super) fn holes_of(&self, id: NodeId) -> Option<&SparsePlan> {
        match self.form_of(id)? {
            StreamForm::Sparse(sparse) => Some(sparse),
            StreamForm::Wof(_) => None,
        }
    }

    fn link_path(&self, link: u32) -> String {
        let mut names = Vec::new();
        let mut link = link;
        while link != NONE {
            names.push(self.entry(link).name.to_string());
            link = self.dirs[at(self.links[at(link)].dir)].link;
        }
        names.iter().rev().map(|name| format!("/{name}")).collect()
    }

    fn dir_path(&self, dir: u32) -> String {
        self.link_path(self.dirs[at(dir)].link)
    }

    /// A path of a node, `/` for the root.
    pub(super) fn node_path(&self, node: NodeId) -> String {
        match self.nodes[node.index()].first_link {
            NONE => "/".to_owned(),
            link => self.link_path(link),
        }
    }
}

/// Bytes of an index entry for a name of so many units.
pub(super) fn entry_bytes(units: usize) -> usize {
    (INDEX_ENTRY_BYTES + FILE_NAME_BYTES + 2 * units).next_multiple_of(8)
}

/// Streams of a node, reparse data counted as one.
fn stream_count(node: &Node) -> u32 {
    let data = usize::from(!node.is_directory());
    to_u32(data + node.named_streams.len() + usize::from(node.reparse.is_some()))
}

/// The best an entry can be.
pub(super) fn best_form(entry: &Entry) -> Form {
    let long = entry.name.units();
    let own = if is_own_short(long) { Form::Both } else { Form::Posix };
    match &entry.short_name {
        Some(short) if is_short(short.units()) && is_win32(long) => {
            if UPCASE.compare(short.units(), long).is_eq() { own } else { Form::Pair }
        }
        _ => own,
    }
}

pub(super) fn check_name(entry: &Entry) -> Result<(), Reason> {
    let units = entry.name.units();
    if !(1..=MAX_NAME_UNITS).contains(&units.len()) {
        return Err(Reason::NameLength(units.len()));
    }
    if let Some(bad) = units.iter().find(|unit| matches!(unit, 0 | 0x2f)) {
        return Err(Reason::NameUnit(*bad));
    }
    if units.len() <= 2 && units.iter().all(|unit| *unit == 0x2e) {
        return Err(Reason::NameReserved);
    }
    Ok(())
}

/// Whether the content is in the form of another machine's EFS.
pub(super) fn is_encrypted(node: &Node) -> bool {
    node.efs.is_some() || node.attributes.contains(FileAttributes::ENCRYPTED) && !node.is_directory()
}

/// Whether extended attributes can be as they are; else the bytes of all of them.
pub(super) fn extended_attributes_fit(node: &Node) -> Result<(), usize> {
    let bytes: usize = node.extended_attributes.iter().map(ea_bytes).sum();
    let fits = |ea: &gravure_tree::ExtendedAttribute| {
        (1..=255).contains(&ea.name.len()) && ea.value.len() <= usize::from(u16::MAX)
    };
    let is_fine = bytes <= usize::from(u16::MAX) && node.extended_attributes.iter().all(fits);
    if is_fine { Ok(()) } else { Err(bytes) }
}

/// Whether a stream can be called so.
pub(super) fn is_stream_name(units: &[u16]) -> bool {
    let is_bad = |unit: &u16| matches!(unit, 0 | 0x2f | 0x3a | 0x5c);
    (1..=MAX_NAME_UNITS).contains(&units.len()) && !units.iter().any(is_bad)
}

fn check_node(node: &Node, found: &mut Vec<Reason>) {
    if is_encrypted(node) {
        found.push(Reason::Encrypted);
    }
    let contents = node.data.iter().chain(node.named_streams.iter().map(|stream| &stream.content));
    let too_large = contents.filter(|content| content.size > MAX_STREAM_BYTES);
    found.extend(too_large.map(|content| Reason::StreamSize(content.size)));
    if let Some(reparse) = &node.reparse
        && reparse.content.size > to_u64(MAX_REPARSE_BYTES)
    {
        found.push(Reason::ReparseSize(reparse.content.size));
    }
    if let Some(id) = &node.object_id
        && !(16..=64).contains(&id.len())
    {
        found.push(Reason::ObjectIdLength(id.len()));
    }
    found.extend(extended_attributes_fit(node).err().map(Reason::ExtendedAttributes));
    let mut names: Vec<&[u16]> = node.named_streams.iter().map(|stream| stream.name.units()).collect();
    for stream in node.named_streams.iter().filter(|stream| !is_stream_name(stream.name.units())) {
        found.push(Reason::StreamName(stream.name.to_string()));
    }
    names.sort_by(|a, b| UPCASE.collate(a, b));
    for pair in names.windows(2) {
        if let [a, b] = pair
            && UPCASE.compare(a, b).is_eq()
        {
            found.push(Reason::StreamTaken(String::from_utf16_lossy(b)));
        }
    }
}

/// Bytes of an attribute in $EA, padded.
pub(super) fn ea_bytes(ea: &gravure_tree::ExtendedAttribute) -> usize {
    (EA_HEAD_BYTES + ea.name.len() + 1 + ea.value.len()).next_multiple_of(4)
}
