//! A tree without what NTFS cannot hold, for whoever wants the rest of it all the same (wim-container 14.1 and 14.4): every
//! [`Reason`] for which [`super::VolumePlan::new`] refuses a single file has its remedy here. What concerns the volume as a whole, and
//! lists of attributes that are too long, is refused still.

use std::collections::HashSet;
use std::fmt;

use gravure_nttypes::{FileAttributes, MAX_REPARSE_BYTES};
use gravure_tree::{Entry, Node, NodeId, Tree, TreeError};

use super::attribute::to_u64;
use super::collect::{
    MAX_LINKS, at, best_form, check_name, extended_attributes_fit, is_encrypted, is_stream_name,
};
use super::names::Form;
use super::options::{Collisions, MAX_STREAM_BYTES};
use super::secure::check_descriptor;
use super::system::ROOT_NAMES;
use crate::disk::UPCASE;
use crate::{Reason, Refusal};

/// What became of something that NTFS cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The name was left out; a directory with everything below it.
    LeftOut,
    /// The file was kept without this part of it.
    Without(&'static str),
    /// This name and those that follow are a file of their own with the same contents.
    Separate,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut => write!(f, "left out"),
            Self::Without(part) => write!(f, "kept without this {part}"),
            Self::Separate => write!(f, "from this name on a file of its own"),
        }
    }
}

/// Something that NTFS cannot hold, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduction {
    /// What would have been refused.
    pub refusal: Refusal,
    /// What was done instead.
    pub remedy: Remedy,
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.refusal, self.remedy)
    }
}

/// A copy of `tree` without what NTFS cannot hold, and everything that was changed for it, in the order of the copy. Of names
/// that are equal but for case the first is kept, all with [`Collisions::Keep`]. An error only when the copy has too many nodes.
pub fn reduce(tree: &Tree, collisions: Collisions) -> Result<(Tree, Vec<Reduction>), TreeError> {
    let mut reducer = Reducer {
        tree,
        collisions,
        copies: vec![None; tree.node_count()],
        object_ids: HashSet::new(),
        sound: tree.security_descriptors().iter().map(|_| None).collect(),
        found: Vec::new(),
    };
    let root = reducer.cleaned(tree.root(), "/");
    let mut out = Tree::new(root);
    out.set_security_descriptors(tree.security_descriptors().to_vec());
    let mut todo = vec![(tree.root(), out.root(), String::new())];
    while let Some((from, to, path)) = todo.pop() {
        let below = todo.len();
        for (entry, keeps_short) in reducer.choose(from, &path) {
            let path = format!("{path}/{}", entry.name);
            let mut entry = entry.clone();
            entry.short_name = entry.short_name.filter(|_| keeps_short);
            if let (source, Some(copy)) = (entry.node, reducer.add(&mut out, to, entry, &path)?) {
                todo.push((source, copy, path));
            }
        }
        todo[below..].reverse();
    }
    Ok((out, reducer.found))
}

struct Reducer<'t> {
    tree: &'t Tree,
    collisions: Collisions,
    /// Of each node: the copy that gets further names, and how many it has.
    copies: Vec<Option<(NodeId, u32)>>,
    object_ids: HashSet<[u8; 16]>,
    /// Of each descriptor that was looked at: what is wrong with it.
    sound: Vec<Option<Result<(), Reason>>>,
    found: Vec<Reduction>,
}

impl<'t> Reducer<'t> {
    fn push(&mut self, path: impl Into<String>, reason: Reason, remedy: Remedy) {
        self.found.push(Reduction { refusal: Refusal { path: path.into(), reason }, remedy });
    }

    /// The entries of a directory that stay, each with whether its short name does.
    fn choose(&mut self, dir: NodeId, path: &str) -> Vec<(&'t Entry, bool)> {
        let entries = self.tree.children(dir);
        let is_root = dir == self.tree.root();
        let is_system = |units: &[u16]| {
            is_root && ROOT_NAMES.iter().any(|system| UPCASE.compare(system.units, units).is_eq())
        };
        let mut reasons: Vec<Option<Reason>> = entries
            .iter()
            .map(|entry| match check_name(entry) {
                Err(reason) => Some(reason),
                Ok(()) if is_system(entry.name.units()) => Some(Reason::NameReserved),
                Ok(()) => unholdable(self.tree.node(entry.node)),
            })
            .collect();
        let units = |index: &usize| entries[*index].name.units();
        let mut order: Vec<usize> = (0..entries.len()).filter(|index| reasons[*index].is_none()).collect();
        order.sort_by(|a, b| UPCASE.collate(units(a), units(b)).then(a.cmp(b)));
        let mut with_twins = vec![false; entries.len()];
        for twins in order.chunk_by(|a, b| UPCASE.compare(units(a), units(b)).is_eq()) {
            let Some(first) = twins.iter().min().filter(|_| twins.len() > 1) else { continue };
            for (position, index) in twins.iter().enumerate() {
                let other = match self.collisions {
                    Collisions::Refuse if index != first => Some(first),
                    Collisions::Refuse => None,
                    // The same name twice is one too many in any directory.
                    Collisions::Keep => {
                        twins[..position].last().filter(|before| units(before) == units(index))
                    }
                };
                reasons[*index] = other.map(|other| Reason::NameTaken(entries[*other].name.to_string()));
                with_twins[*index] = self.collisions == Collisions::Keep;
            }
        }
        let mut shorts = self.colliding_shorts(entries, &reasons, &is_system);
        for index in 0..entries.len() {
            let is_pair = best_form(&entries[index]) == Form::Pair;
            if with_twins[index] && is_pair && reasons[index].is_none() && shorts[index].is_none() {
                // Names that are told apart in any case are no names for Win32.
                shorts[index] = Some(Reason::NameTaken(entries[index].name.to_string()));
            }
        }
        let mut kept = Vec::with_capacity(entries.len());
        for ((entry, reason), short) in entries.iter().zip(reasons).zip(shorts) {
            let here = || format!("{path}/{}", entry.name);
            if let Some(reason) = reason {
                self.push(here(), reason, Remedy::LeftOut);
                continue;
            }
            kept.push((entry, short.is_none()));
            if let Some(reason) = short {
                self.push(here(), reason, Remedy::Without("short name"));
            }
        }
        kept
    }

    /// Why the short names of entries that stay cannot: they are the names of others.
    fn colliding_shorts(
        &self,
        entries: &[Entry],
        reasons: &[Option<Reason>],
        is_system: &dyn Fn(&[u16]) -> bool,
    ) -> Vec<Option<Reason>> {
        let mut names: Vec<(&[u16], usize, bool)> = Vec::new();
        for (index, entry) in entries.iter().enumerate().filter(|(index, _)| reasons[*index].is_none()) {
            names.push((entry.name.units(), index, false));
            if let Some(short) = entry.short_name.as_ref().filter(|_| best_form(entry) == Form::Pair) {
                names.push((short.units(), index, true));
            }
        }
        names.sort_by(|a, b| UPCASE.compare(a.0, b.0).then((a.2, a.1).cmp(&(b.2, b.1))));
        let mut out = vec![None; entries.len()];
        for equal in names.chunk_by(|a, b| UPCASE.compare(a.0, b.0).is_eq()) {
            // A long name comes first, and every short one behind the first name is one too many.
            for (position, (units, index, is_short)) in equal.iter().enumerate() {
                if *is_short && (position > 0 || is_system(units)) {
                    let other = equal.first().map_or(*units, |first| first.0);
                    out[*index] = Some(Reason::NameTaken(String::from_utf16_lossy(other)));
                }
            }
        }
        out
    }

    /// Adds an entry to the copy; the node when it is a directory, whose entries are next.
    fn add(
        &mut self,
        out: &mut Tree,
        parent: NodeId,
        entry: Entry,
        path: &str,
    ) -> Result<Option<NodeId>, TreeError> {
        let source = entry.node;
        let is_directory = self.tree.node(source).is_directory();
        let node = match self.copies[source.index()] {
            Some((copy, names)) if names < MAX_LINKS => {
                self.copies[source.index()] = Some((copy, names + 1));
                out.link_checked(parent, Entry { node: copy, ..entry })?;
                return Ok(None);
            }
            Some((copy, _)) => {
                let reason = Reason::LinkCount(self.tree.link_count(source));
                self.push(path, reason, Remedy::Separate);
                // An id is that of one file.
                Node { object_id: None, ..out.node(copy).clone() }
            }
            None => self.cleaned(source, path),
        };
        let copy = out.add_checked(parent, entry.name, entry.short_name, node)?;
        self.copies[source.index()] = Some((copy, 1));
        Ok(is_directory.then_some(copy))
    }

    /// A node without entries and without what cannot be of it.
    fn cleaned(&mut self, id: NodeId, path: &str) -> Node {
        let source = self.tree.node(id);
        let mut node = Node { children: source.children.as_ref().map(|_| Vec::new()), ..source.clone() };
        let mut names: HashSet<Vec<u16>> = HashSet::new();
        let mut gone = Vec::new();
        node.named_streams.retain(|stream| {
            let units = stream.name.units();
            let capitals = units.iter().map(|unit| UPCASE.of(*unit)).collect();
            let reason = if !is_stream_name(units) {
                Reason::StreamName(stream.name.to_string())
            } else if stream.content.size > MAX_STREAM_BYTES {
                Reason::StreamSize(stream.content.size)
            } else if !names.insert(capitals) {
                Reason::StreamTaken(stream.name.to_string())
            } else {
                return true;
            };
            gone.push((reason, "stream"));
            false
        });
        if let Some(size) = node.reparse.as_ref().map(|reparse| reparse.content.size)
            && size > to_u64(MAX_REPARSE_BYTES)
        {
            node.reparse = None;
            node.attributes = node.attributes.without(FileAttributes::REPARSE_POINT);
            gone.push((Reason::ReparseSize(size), "reparse data"));
        }
        if let Err(bytes) = extended_attributes_fit(&node) {
            node.extended_attributes.clear();
            gone.push((Reason::ExtendedAttributes(bytes), "list of extended attributes"));
        }
        if let Some(object_id) = &node.object_id {
            let reason = match object_id.first_chunk::<16>() {
                Some(guid) if object_id.len() <= 64 => {
                    (!self.object_ids.insert(*guid)).then_some(Reason::ObjectIdTaken)
                }
                _ => Some(Reason::ObjectIdLength(object_id.len())),
            };
            if let Some(reason) = reason {
                node.object_id = None;
                gone.push((reason, "object id"));
            }
        }
        if let Some(security) = node.security {
            let index = at(security.0);
            let judged = match (self.sound.get_mut(index), self.tree.security_descriptors().get(index)) {
                (Some(known), Some(bytes)) => {
                    known.get_or_insert_with(|| check_descriptor(security.0, bytes)).clone()
                }
                _ => Err(Reason::NoDescriptor(security.0)),
            };
            if let Err(reason) = judged {
                node.security = None;
                gone.push((reason, "security descriptor"));
            }
        }
        for (reason, part) in gone {
            self.push(path, reason, Remedy::Without(part));
        }
        node
    }
}

/// Why a file cannot be at all, whatever is taken from it.
fn unholdable(node: &Node) -> Option<Reason> {
    let size = node.data.as_ref().map_or(0, |data| data.size);
    if is_encrypted(node) {
        Some(Reason::Encrypted)
    } else {
        (size > MAX_STREAM_BYTES).then_some(Reason::StreamSize(size))
    }
}
