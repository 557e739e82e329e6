//! Files and directories of an image: found without regard to case, changed with a record.

use std::path::Path;

use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{ContentRef, Entry, Node, NodeId, Origin, SecurityId, Times};

use super::{OutsideFile, WindowsImage};
use crate::Error;
use crate::drivers::Placed;
use crate::journal::{Change, hex};

impl WindowsImage<'_> {
    /// The node at a path, or `None`.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        parts(path).try_fold(self.tree.root(), |at, name| Some(self.entry(at, name)?.node))
    }

    /// Whether something is at a path, or will be.
    pub fn exists(&self, path: &str) -> bool {
        self.find(path).is_some() || self.outside.iter().any(|file| is_same_path(&file.to, path))
    }

    /// Whether a directory is at a path.
    pub fn is_directory(&self, path: &str) -> bool {
        self.find(path).is_some_and(|node| self.tree.node(node).is_directory())
    }

    /// Names in a directory; none when there is no such directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Some(dir) = self.find(path) else { return Vec::new() };
        let inside: Vec<String> = self.entries(dir).iter().map(|entry| entry.name.to_string()).collect();
        let outside = self.outside.iter().filter_map(|file| {
            let (above, name) = split(&file.to)?;
            is_same_path(above, path).then(|| name.to_owned())
        });
        inside.into_iter().chain(outside).collect()
    }

    /// The content of the file at a path, at most `max` bytes of it; `None` when it is not there.
    pub fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(node) = self.find(path) else { return Ok(None) };
        let Some(content) = &self.tree.node(node).data else {
            return Err(unlike(path, "a file", "something else"));
        };
        self.read_content(content, path, max).map(Some)
    }

    /// The content of the file at a path, as the tree refers to it.
    pub fn content_of(&self, path: &str) -> Option<&ContentRef> {
        self.tree.node(self.find(path)?).data.as_ref()
    }

    fn read_content(&self, content: &ContentRef, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        if content.size > max {
            return Err(unlike(path, &format!("at most {max} bytes"), &format!("{}", content.size)));
        }
        match &content.origin {
            Origin::Empty => Ok(Vec::new()),
            Origin::Inline(bytes) => Ok(bytes.to_vec()),
            _ => (self.read)(content).map_err(|source| Error::Content { path: path.to_owned(), source }),
        }
    }

    /// When the file at a path was last written.
    pub fn written(&self, path: &str) -> Option<gravure_nttypes::FileTime> {
        Some(self.tree.node(self.find(path)?).times.written)
    }

    /// Makes a directory and all above it; says whether it was not there.
    pub fn make_directory(&mut self, path: &str) -> Result<bool, Error> {
        let made = self.make_directories_unrecorded(path)?;
        let is_new = !made.is_empty();
        self.changes.extend(made.into_iter().map(|path| Change::DirectoryAdded { path }));
        Ok(is_new)
    }

    /// Puts a file at a path; one that is there is kept for the record. Nothing happens when it has that content.
    pub fn write_file(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        let bytes = bytes.into();
        let max = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let is_same_len = self.content_of(path).is_some_and(|content| content.size == max);
        if is_same_len && self.read_file(path, max)?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.put(path)?;
        self.add_unrecorded(path, ContentRef::inline(bytes))
    }

    /// Puts a content that the tree has already, or that its engine knows, at a path.
    pub fn copy_content(&mut self, path: &str, content: ContentRef) -> Result<(), Error> {
        if self.content_of(path) == Some(&content) {
            return Ok(());
        }
        self.put(path)?;
        self.add_unrecorded(path, content)
    }

    /// Lets a file of this machine be put at a path; one that is there is kept for the record.
    pub fn add_outside(&mut self, path: &str, source: &Path) -> Result<(), Error> {
        self.outside.retain(|file| !is_same_path(&file.to, path));
        self.put(path)?;
        let to = self.spelled(path);
        self.outside.push(OutsideFile { source: source.to_owned(), to });
        Ok(())
    }

    /// Puts a content at a path, wherever it is.
    pub(crate) fn add_placed(&mut self, path: &str, placed: Placed) -> Result<(), Error> {
        match placed {
            Placed::File(source) => self.add_outside(path, &source),
            Placed::Content(content) => self.copy_content(path, content),
        }
    }

    /// The bytes of a content of a layer or package, at most `max`.
    pub(crate) fn bytes_of(&self, content: &ContentRef, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        self.read_content(content, path, max)
    }

    /// Gives the file or directory at a path another security descriptor.
    pub fn set_security(&mut self, path: &str, descriptor: &[u8]) -> Result<(), Error> {
        let not_found = || Error::NotFound { what: "file of the image", name: path.to_owned() };
        let node = self.find(path).ok_or_else(not_found)?;
        let before = self.tree.node(node).security.and_then(|id| self.descriptor(id));
        if before.as_deref() == Some(descriptor) {
            return Ok(());
        }
        let id = self.tree.add_security_descriptor(descriptor).map_err(Error::tree(path))?;
        self.tree.node_mut(node).security = Some(id);
        let (path, before) = (self.spelled(path), before.as_deref().map(hex));
        self.changes.push(Change::SecuritySet { path, before });
        Ok(())
    }

    pub(super) fn set_security_unrecorded(
        &mut self,
        path: &str,
        descriptor: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(node) = self.find(path) else { return Ok(()) };
        let id = descriptor.map(|bytes| self.tree.add_security_descriptor(bytes).map_err(Error::tree(path)));
        self.tree.node_mut(node).security = id.transpose()?;
        Ok(())
    }

    fn descriptor(&self, id: SecurityId) -> Option<std::sync::Arc<[u8]>> {
        self.tree.security_descriptors().get(usize::try_from(id.0).ok()?).cloned()
    }

    /// Takes the file at a path away, for the record; says whether it was there.
    pub fn remove_file(&mut self, path: &str) -> Result<bool, Error> {
        let Some(node) = self.find(path) else { return Ok(false) };
        if self.tree.node(node).is_directory() {
            return Err(unlike(path, "a file", "a directory"));
        }
        let (path, kept) = (self.spelled(path), self.kept_path());
        self.move_unrecorded(&path, &kept)?;
        self.changes.push(Change::FileRemoved { path, kept });
        Ok(true)
    }

    /// Clears the place for a file and records that it comes.
    fn put(&mut self, path: &str) -> Result<(), Error> {
        if let Some((above, _)) = split(path) {
            self.make_directory(above)?;
        }
        let is_ours = self.is_ours(path);
        let Some(node) = self.find(path) else {
            if !is_ours {
                let path = self.spelled(path);
                self.changes.push(Change::FileAdded { path });
            }
            return Ok(());
        };
        if self.tree.node(node).is_directory() {
            return Err(unlike(path, "a file", "a directory"));
        }
        if is_ours {
            return self.remove_unrecorded(path);
        }
        let (spelled, kept) = (self.spelled(path), self.kept_path());
        self.move_unrecorded(path, &kept)?;
        self.changes.push(Change::FileReplaced { path: spelled, kept });
        Ok(())
    }

    /// Whether the file of that path came with this run.
    fn is_ours(&self, path: &str) -> bool {
        self.changes.iter().any(|change| match change {
            Change::FileAdded { path: known } | Change::FileReplaced { path: known, .. } => {
                is_same_path(known, path)
            }
            _ => false,
        })
    }

    /// The path as the image spells it.
    fn spelled(&self, path: &str) -> String {
        let mut at = Some(self.tree.root());
        let names = parts(path).map(|name| {
            let entry = at.and_then(|dir| self.entry(dir, name));
            at = entry.map(|entry| entry.node);
            entry.map_or_else(|| name.to_owned(), |entry| entry.name.to_string())
        });
        names.collect::<Vec<_>>().join("\\")
    }

    /// What is in a directory. All looking goes through here.
    pub(super) fn entries(&self, dir: NodeId) -> &[Entry] {
        if let Some(looks_into) = self.looks_into {
            looks_into(dir);
        }
        self.tree.children(dir)
    }

    pub(super) fn entry(&self, dir: NodeId, name: &str) -> Option<&Entry> {
        let name = NtName::from(name);
        let entries = self.entries(dir);
        let exact = entries.iter().find(|entry| entry.name == name);
        exact.or_else(|| entries.iter().find(|entry| entry.name.folded().eq(name.folded())))
    }

    /// Paths of the directories that were made.
    pub(super) fn make_directories_unrecorded(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let (mut at, mut shown, mut made) = (self.tree.root(), String::new(), Vec::new());
        for name in parts(path) {
            let found = self.entry(at, name).map(|entry| (entry.name.to_string(), entry.node));
            let spelled = found.as_ref().map_or(name, |(name, _)| name.as_str());
            shown = if shown.is_empty() { spelled.to_owned() } else { format!("{shown}\\{spelled}") };
            at = match found {
                Some((_, node)) if self.tree.node(node).is_directory() => node,
                Some(_) => return Err(unlike(&shown, "a directory", "a file")),
                None => {
                    let node = Node {
                        attributes: FileAttributes::DIRECTORY,
                        children: Some(Vec::new()),
                        ..self.new_node()
                    };
                    made.push(shown.clone());
                    self.tree.add(at, NtName::from(name), node).map_err(Error::tree(path))?
                }
            };
        }
        Ok(made)
    }

    pub(super) fn add_unrecorded(&mut self, path: &str, content: ContentRef) -> Result<(), Error> {
        let (above, name) = split(path).unwrap_or(("", path));
        let dir = self.find(above).ok_or_else(|| unlike(above, "a directory", "nothing"))?;
        let node = Node {
            attributes: FileAttributes::ARCHIVE,
            data: Some(content),
            security: self.security_of_neighbour(dir),
            ..self.new_node()
        };
        self.tree.add(dir, NtName::from(name), node).map_err(Error::tree(path))?;
        Ok(())
    }

    /// Gives the file at a path another content; all else of it stays.
    pub(super) fn set_content_unrecorded(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let not_found = || Error::NotFound { what: "file of the image", name: path.to_owned() };
        let node = self.find(path).ok_or_else(not_found)?;
        self.tree.node_mut(node).data = Some(ContentRef::inline(bytes));
        Ok(())
    }

    /// What a file beside the new one has: directories give their files inherited entries, which nobody will work out
    /// for it later.
    fn security_of_neighbour(&self, dir: NodeId) -> Option<SecurityId> {
        let files = self.entries(dir).iter().map(|entry| self.tree.node(entry.node));
        files.filter(|node| !node.is_directory()).find_map(|node| node.security)
    }

    pub(super) fn remove_unrecorded(&mut self, path: &str) -> Result<(), Error> {
        let (dir, name) = self.place(path)?;
        self.tree.remove(dir, &name).map_err(Error::tree(path))
    }

    pub(super) fn move_unrecorded(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let (above, new_name) = split(to).unwrap_or(("", to));
        self.make_directories_unrecorded(above)?;
        let into = self.find(above).ok_or_else(|| unlike(above, "a directory", "nothing"))?;
        let (dir, name) = self.place(from)?;
        self.tree.rename(dir, &name, into, NtName::from(new_name)).map_err(Error::tree(from))
    }

    fn place(&self, path: &str) -> Result<(NodeId, NtName), Error> {
        let not_found = || Error::NotFound { what: "file of the image", name: path.to_owned() };
        let (above, name) = split(path).unwrap_or(("", path));
        let dir = self.find(above).ok_or_else(not_found)?;
        let entry = self.entry(dir, name).ok_or_else(not_found)?;
        Ok((dir, entry.name.clone()))
    }

    fn new_node(&self) -> Node {
        let times = Times { created: self.now, accessed: self.now, written: self.now };
        Node { times, ..Node::default() }
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split(['\\', '/']).filter(|part| !part.is_empty())
}

/// Directory and name.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once(['\\', '/'])
}

fn is_same_path(a: &str, b: &str) -> bool {
    let fold =
        |path: &str| parts(path).flat_map(|part| [part.to_lowercase(), "\\".to_owned()]).collect::<String>();
    fold(a) == fold(b)
}

fn unlike(path: &str, expected: &str, found: &str) -> Error {
    Error::Corrupt { path: path.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}
