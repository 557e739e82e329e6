//! The tree itself: an arena of nodes, reached from the root by entries.
//!
//! **Invariant:** every entry points to a node of the same tree, a directory has exactly one entry (the root none),
//! and names within a directory are unique. All changes go through methods that uphold it.

use std::sync::Arc;

use gravure_nttypes::{FileAttributes, NtName};

use crate::Node;

/// Index of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// Zero-based index, below [`Tree::node_count`].
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Index of a security descriptor in its tree's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecurityId(pub u32);

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The long name.
    pub name: NtName,
    /// The 8.3 name, which belongs to this entry and not to the file.
    pub short_name: Option<NtName>,
    /// What it names.
    pub node: NodeId,
}

/// What a change of the tree can fail with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The parent is no directory.
    #[error("{0:?} is no directory")]
    NotADirectory(NtName),
    /// A directory cannot have a second name.
    #[error("directory {0:?} cannot be linked a second time")]
    LinkedDirectory(NtName),
    /// The name is taken.
    #[error("{0:?} exists already")]
    Exists(NtName),
    /// Nothing of that name.
    #[error("{0:?} not found")]
    NotFound(NtName),
    /// Names that would leave the directory: empty, `.`, `..`, with `/` or a zero unit.
    #[error("{0:?} cannot be a file name")]
    BadName(NtName),
    /// A directory cannot be moved below itself.
    #[error("{0:?} cannot be moved into itself")]
    IntoItself(NtName),
    /// More nodes than an index can hold.
    #[error("more than {} nodes", u32::MAX)]
    TooMany,
}

/// A file image's structure.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    links: Vec<u32>,
    security: Vec<Arc<[u8]>>,
}

impl Tree {
    /// A tree of a root directory only.
    pub fn new(root: Node) -> Self {
        let mut tree = Self { nodes: Vec::new(), links: vec![1], security: Vec::new() };
        let mut root = root;
        root.children.get_or_insert_default();
        root.attributes |= FileAttributes::DIRECTORY;
        root.data = None;
        tree.nodes.push(root);
        tree
    }

    /// The root directory.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Nodes ever added, removed ones included; node ids are below this.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The node `id`.
    #[expect(clippy::indexing_slicing, reason = "ids are given out by this tree and nodes are never dropped")]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The node `id`, to change anything but its children.
    #[expect(clippy::indexing_slicing, reason = "ids are given out by this tree and nodes are never dropped")]
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// Number of names that `id` has now: 0 when it was removed, more than 1 for hard links.
    pub fn link_count(&self, id: NodeId) -> u32 {
        self.links.get(id.index()).copied().unwrap_or(0)
    }

    /// Entries of directory `id` in stored order; empty for everything else.
    pub fn children(&self, id: NodeId) -> &[Entry] {
        self.node(id).children.as_deref().unwrap_or_default()
    }

    /// Puts `node` into `parent` under `name`. The caller gives `children: Some(..)` empty for a directory.
    pub fn add(&mut self, parent: NodeId, name: NtName, node: Node) -> Result<NodeId, TreeError> {
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| TreeError::TooMany)?);
        let mut node = node;
        if let Some(children) = &mut node.children {
            children.clear();
            node.attributes |= FileAttributes::DIRECTORY;
        } else {
            node.attributes = node.attributes.without(FileAttributes::DIRECTORY);
        }
        self.check_new_name(parent, &name)?;
        self.nodes.push(node);
        self.links.push(0);
        self.push_entry(parent, Entry { name, short_name: None, node: id })?;
        Ok(id)
    }

    /// Gives the file `id` one more name.
    pub fn link(&mut self, parent: NodeId, name: NtName, id: NodeId) -> Result<(), TreeError> {
        if self.node(id).is_directory() {
            return Err(TreeError::LinkedDirectory(name));
        }
        self.check_new_name(parent, &name)?;
        self.push_entry(parent, Entry { name, short_name: None, node: id })
    }

    /// As [`Tree::add`] for readers of formats that checked names already and add in bulk: the search for an equal
    /// name in the directory is left out, which the caller answers for.
    pub fn add_checked(
        &mut self,
        parent: NodeId,
        entry_name: NtName,
        short_name: Option<NtName>,
        node: Node,
    ) -> Result<NodeId, TreeError> {
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| TreeError::TooMany)?);
        self.nodes.push(node);
        self.links.push(0);
        self.push_entry(parent, Entry { name: entry_name, short_name, node: id })?;
        Ok(id)
    }

    /// As [`Tree::link`] without the search for an equal name.
    pub fn link_checked(&mut self, parent: NodeId, entry: Entry) -> Result<(), TreeError> {
        if self.node(entry.node).is_directory() {
            return Err(TreeError::LinkedDirectory(entry.name));
        }
        self.push_entry(parent, entry)
    }

    /// Takes the name `name` out of `parent`. A directory goes with everything below it.
    pub fn remove(&mut self, parent: NodeId, name: &NtName) -> Result<(), TreeError> {
        let not_found = || TreeError::NotFound(name.clone());
        let children = self.node_mut(parent).children.as_mut().ok_or_else(not_found)?;
        let at = children.iter().position(|entry| entry.name == *name).ok_or_else(not_found)?;
        let mut gone = vec![children.remove(at).node];
        while let Some(id) = gone.pop() {
            if let Some(links) = self.links.get_mut(id.index()) {
                *links = links.saturating_sub(1);
            }
            if let Some(children) = &mut self.node_mut(id).children {
                gone.extend(std::mem::take(children).into_iter().map(|entry| entry.node));
            }
        }
        Ok(())
    }

    /// Moves the entry `name` of `parent` to `new_parent` under `new_name`. Its short name goes: it belonged to the old one.
    pub fn rename(
        &mut self,
        parent: NodeId,
        name: &NtName,
        new_parent: NodeId,
        new_name: NtName,
    ) -> Result<(), TreeError> {
        let not_found = || TreeError::NotFound(name.clone());
        let node = self.child(parent, name).ok_or_else(not_found)?.node;
        if parent == new_parent && *name == new_name {
            return Ok(());
        }
        self.check_new_name(new_parent, &new_name)?;
        if !self.node(new_parent).is_directory() {
            return Err(TreeError::NotADirectory(new_name));
        }
        let mut below = vec![node];
        while let Some(id) = below.pop() {
            if id == new_parent {
                return Err(TreeError::IntoItself(name.clone()));
            }
            below.extend(self.children(id).iter().map(|entry| entry.node));
        }
        if let Some(children) = &mut self.node_mut(parent).children {
            children.retain(|entry| entry.name != *name);
        }
        if let Some(links) = self.links.get_mut(node.index()) {
            *links = links.saturating_sub(1);
        }
        self.push_entry(new_parent, Entry { name: new_name, short_name: None, node })
    }

    /// The entry `name` of directory `parent`, by exact name.
    pub fn child(&self, parent: NodeId, name: &NtName) -> Option<&Entry> {
        self.children(parent).iter().find(|entry| entry.name == *name)
    }

    /// The node at `path`, names separated by `/`; an empty path is the root. Links are not followed.
    pub fn lookup(&self, path: &str) -> Option<NodeId> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self.root(), |at, name| Some(self.child(at, &NtName::from(name))?.node))
    }

    /// Security descriptors, by [`SecurityId`].
    pub fn security_descriptors(&self) -> &[Arc<[u8]>] {
        &self.security
    }

    /// Adds a descriptor, or finds the equal one that is there.
    pub fn add_security_descriptor(&mut self, descriptor: &[u8]) -> Result<SecurityId, TreeError> {
        let found = self.security.iter().position(|known| **known == *descriptor);
        let index = found.unwrap_or_else(|| {
            self.security.push(descriptor.into());
            self.security.len().saturating_sub(1)
        });
        u32::try_from(index).map(SecurityId).map_err(|_| TreeError::TooMany)
    }

    /// Replaces the whole table, for readers whose format has such a table.
    pub fn set_security_descriptors(&mut self, table: Vec<Arc<[u8]>>) {
        self.security = table;
    }

    /// All entries below the root, parents before children, each directory's entries in stored order.
    pub fn walk(&self) -> Walk<'_> {
        Walk { tree: self, stack: vec![(self.root(), 0)], path: Vec::new() }
    }

    fn check_new_name(&self, parent: NodeId, name: &NtName) -> Result<(), TreeError> {
        let units = name.units();
        let dots = units.len() <= 2 && units.iter().all(|unit| *unit == 0x2e);
        if dots || units.contains(&0) || units.contains(&0x2f) {
            return Err(TreeError::BadName(name.clone()));
        }
        if self.child(parent, name).is_some() {
            return Err(TreeError::Exists(name.clone()));
        }
        Ok(())
    }

    fn push_entry(&mut self, parent: NodeId, entry: Entry) -> Result<(), TreeError> {
        let node = entry.node;
        let children = self.node_mut(parent).children.as_mut();
        children.ok_or_else(|| TreeError::NotADirectory(entry.name.clone()))?.push(entry);
        if let Some(links) = self.links.get_mut(node.index()) {
            *links = links.saturating_add(1);
        }
        Ok(())
    }
}

/// One step of [`Tree::walk`].
#[derive(Debug)]
pub struct WalkEntry<'a> {
    /// Directory the entry is in.
    pub parent: NodeId,
    /// The entry.
    pub entry: &'a Entry,
    /// Names from the root down to and with this entry.
    pub path: Vec<&'a NtName>,
}

impl WalkEntry<'_> {
    /// The path with `/` before each name, for messages.
    pub fn display_path(&self) -> String {
        self.path.iter().map(|name| format!("/{name}")).collect()
    }
}

/// Iterator over a tree; holds one stack frame per level of depth, never recurses.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    stack: Vec<(NodeId, usize)>,
    path: Vec<&'a NtName>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = WalkEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (parent, position) = self.stack.last_mut()?;
            let parent = *parent;
            let Some(entry) = self.tree.children(parent).get(*position) else {
                self.stack.pop();
                self.path.pop();
                continue;
            };
            *position = position.saturating_add(1);
            self.path.push(&entry.name);
            let item = WalkEntry { parent, entry, path: self.path.clone() };
            if self.tree.node(entry.node).is_directory() {
                self.stack.push((entry.node, 0));
            } else {
                self.path.pop();
            }
            return Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContentRef;

    fn dir() -> Node {
        Node { children: Some(Vec::new()), ..Node::default() }
    }

    fn file() -> Node {
        Node { data: Some(ContentRef::empty()), ..Node::default() }
    }

    #[test]
    fn walks_parents_first_and_counts_links() {
        let mut tree = Tree::new(dir());
        let a = tree.add(tree.root(), "a".into(), dir()).unwrap();
        let f = tree.add(a, "f".into(), file()).unwrap();
        tree.link(tree.root(), "g".into(), f).unwrap();
        let paths: Vec<String> = tree.walk().map(|step| step.display_path()).collect();
        assert_eq!(paths, ["/a", "/a/f", "/g"]);
        assert_eq!(tree.link_count(f), 2);
        tree.remove(tree.root(), &"a".into()).unwrap();
        assert_eq!(tree.link_count(f), 1);
        assert_eq!(tree.link_count(a), 0);
        assert_eq!(tree.lookup("/g"), Some(f));
        assert_eq!(tree.lookup("a/f"), None);
    }

    #[test]
    fn entries_move_with_all_below_them_but_never_into_themselves() {
        let mut tree = Tree::new(dir());
        let root = tree.root();
        let a = tree.add(root, "a".into(), dir()).unwrap();
        let b = tree.add(a, "b".into(), dir()).unwrap();
        let f = tree.add(b, "f".into(), file()).unwrap();
        tree.link(root, "g".into(), f).unwrap();
        assert_eq!(tree.rename(root, &"a".into(), b, "c".into()), Err(TreeError::IntoItself("a".into())));
        assert_eq!(tree.rename(root, &"a".into(), a, "c".into()), Err(TreeError::IntoItself("a".into())));
        assert_eq!(tree.rename(root, &"x".into(), a, "c".into()), Err(TreeError::NotFound("x".into())));
        assert_eq!(tree.rename(root, &"g".into(), root, "a".into()), Err(TreeError::Exists("a".into())));
        assert_eq!(tree.rename(a, &"b".into(), f, "x".into()), Err(TreeError::NotADirectory("x".into())));
        tree.rename(a, &"b".into(), root, "moved".into()).unwrap();
        tree.rename(root, &"g".into(), a, "h".into()).unwrap();
        tree.rename(a, &"h".into(), a, "h".into()).unwrap();
        let mut paths: Vec<String> = tree.walk().map(|step| step.display_path()).collect();
        paths.sort();
        assert_eq!(paths, ["/a", "/a/h", "/moved", "/moved/f"]);
        assert_eq!((tree.link_count(f), tree.link_count(b)), (2, 1));
    }

    #[test]
    fn refuses_what_would_break_the_tree() {
        let mut tree = Tree::new(dir());
        let root = tree.root();
        let a = tree.add(root, "a".into(), dir()).unwrap();
        let f = tree.add(root, "f".into(), file()).unwrap();
        assert_eq!(tree.add(root, "a".into(), file()), Err(TreeError::Exists("a".into())));
        assert_eq!(tree.add(f, "x".into(), file()), Err(TreeError::NotADirectory("x".into())));
        assert_eq!(tree.link(root, "b".into(), a), Err(TreeError::LinkedDirectory("b".into())));
        for name in ["", ".", "..", "a/b", "a\0"] {
            assert_eq!(tree.add(root, name.into(), file()), Err(TreeError::BadName(name.into())));
        }
        assert!(tree.add(root, "...".into(), file()).is_ok());
    }
}
