//! A Linux system, or any tree of files without Windows, in memory: what layers change in it, with a record as Windows images have one.
//!
//! Names are found as they are spelled. Links are followed inside the tree, so that `/bin/x` of a system whose `/bin` is a link to
//! `usr/bin` is a file of `usr/bin`, as it is when the system runs; none leads out. Records and replaced files lie in
//! `/var/lib/gravure/changes`, readable by root alone. After an error the image is to be dropped: nothing was written anywhere.

use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_tree::{ContentRef, Entry, Node, NodeId, Origin, Reparse, Times, Tree, UnixData};

use crate::Error;
use crate::image::{LooksInto, ReadContent};
use crate::journal::{Change, MAX_RECORD_BYTES, RECORD_VERSION, Record};

/// Where records are.
const RECORDS: &str = "/var/lib/gravure/changes";
/// Links followed on one path, as Linux does.
const MAX_LINKS: usize = 40;
/// Longest target of a link, bytes.
const MAX_LINK_BYTES: u64 = 16 << 10;
/// Modes of what is made.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
const PRIVATE_MODE: u32 = 0o700;
/// Type bits.
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// Largest table of file systems read.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// Largest `os-release` read.
const MAX_RELEASE_BYTES: u64 = 64 << 10;

/// A Linux image that is being changed.
pub struct LinuxImage<'a> {
    tree: &'a mut Tree,
    read: &'a ReadContent<'a>,
    /// Is told of directories whose entries count.
    looks_into: Option<&'a LooksInto<'a>>,
    now: FileTime,
    changes: Vec<Change>,
    /// Number of this run's record.
    number: u32,
    /// The image has owners and modes.
    has_modes: bool,
}

impl std::fmt::Debug for LinuxImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxImage").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl<'a> LinuxImage<'a> {
    /// Takes the tree of a system. `now` becomes the time of what changes.
    pub fn open(tree: &'a mut Tree, read: &'a ReadContent<'a>, now: FileTime) -> Result<Self, Error> {
        Self::open_with(tree, read, None, now)
    }

    /// The same for a tree of which not everything was read: `looks_into` is told of each directory whose entries count.
    pub fn open_partial(
        tree: &'a mut Tree,
        read: &'a ReadContent<'a>,
        looks_into: &'a LooksInto<'a>,
        now: FileTime,
    ) -> Result<Self, Error> {
        Self::open_with(tree, read, Some(looks_into), now)
    }

    fn open_with(
        tree: &'a mut Tree,
        read: &'a ReadContent<'a>,
        looks_into: Option<&'a LooksInto<'a>>,
        now: FileTime,
    ) -> Result<Self, Error> {
        let has_modes = tree.node(tree.root()).unix.is_some();
        let mut out = Self { tree, read, looks_into, now, changes: Vec::new(), number: 1, has_modes };
        out.number = out.record_numbers()?.last().map_or(1, |last| last.saturating_add(1));
        Ok(out)
    }

    /// What the system calls itself; `None` when it does not say.
    pub fn name(&self) -> Option<String> {
        let bytes = self.read_file("/etc/os-release", MAX_RELEASE_BYTES).ok()??;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(name.trim_matches(['"', '\'']).to_owned())
    }

    /// Whether the image has owners and modes, which new files then get.
    pub fn has_modes(&self) -> bool {
        self.has_modes
    }

    /// What was changed so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether something is at a path.
    pub fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(self.find(&self.resolve(path)?).is_some())
    }

    /// The content of the file at a path, at most `max` bytes of it; `None` when it is not there.
    pub fn read_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.resolve(path)?;
        let Some(node) = self.find(&path) else { return Ok(None) };
        let Some(content) = &self.tree.node(node).data else {
            return Err(unlike(&path, "a file", "something else"));
        };
        self.bytes_of(content, &path, max).map(Some)
    }

    /// Size of the file at a path.
    pub(crate) fn size(&self, path: &str) -> Result<Option<u64>, Error> {
        let node = self.find(&self.resolve(path)?);
        Ok(node.and_then(|node| self.tree.node(node).data.as_ref()).map(|content| content.size))
    }

    /// When the file at a path was last written.
    pub(crate) fn written(&self, path: &str) -> Result<Option<FileTime>, Error> {
        Ok(self.find(&self.resolve(path)?).map(|node| self.tree.node(node).times.written))
    }

    pub(crate) fn bytes_of(&self, content: &ContentRef, path: &str, max: u64) -> Result<Vec<u8>, Error> {
        if content.size > max {
            return Err(unlike(path, &format!("at most {max} bytes"), &content.size.to_string()));
        }
        match &content.origin {
            Origin::Empty => Ok(Vec::new()),
            Origin::Inline(bytes) => Ok(bytes.to_vec()),
            _ => (self.read)(content).map_err(|source| Error::Content { path: path.to_owned(), source }),
        }
    }

    /// Makes a directory and all above it; says whether it was not there.
    pub fn make_directory(&mut self, path: &str, mode: Option<u32>) -> Result<bool, Error> {
        let path = self.resolve(path)?;
        let made = self.make_directories(&path, mode.unwrap_or(DIRECTORY_MODE))?;
        let is_new = !made.is_empty();
        self.changes.extend(made.into_iter().map(|path| Change::DirectoryAdded { path }));
        Ok(is_new)
    }

    /// Puts a content at a path; a file that is there is kept for the record, and its owner, mode and attributes stay, unless another
    /// mode is given. Nothing happens when all is so already.
    pub fn put(&mut self, path: &str, content: ContentRef, mode: Option<u32>) -> Result<(), Error> {
        let path = self.resolve(path)?;
        let before = self.find(&path).map(|node| self.tree.node(node).clone());
        if let Some(node) = &before {
            let has_mode = |mode: u32| node.unix.is_none_or(|unix| unix.mode & 0o7777 == mode);
            if self.is_same(node.data.as_ref(), &content, &path)? && mode.is_none_or(has_mode) {
                return Ok(());
            }
            if node.is_directory() {
                return Err(unlike(&path, "a file", "a directory"));
            }
        }
        self.clear(&path)?;
        let unix = before.as_ref().and_then(|node| node.unix);
        let unix = unix.or(self.has_modes.then(|| owned_by_root(REGULAR | FILE_MODE)));
        let unix = unix.map(|unix| match mode {
            Some(mode) => UnixData { mode: REGULAR | mode, ..unix },
            None => unix,
        });
        let node = Node {
            attributes: FileAttributes::ARCHIVE,
            data: Some(content),
            unix,
            extended_attributes: before.map(|node| node.extended_attributes).unwrap_or_default(),
            ..self.new_node()
        };
        self.add(&path, node)
    }

    fn is_same(&self, there: Option<&ContentRef>, new: &ContentRef, path: &str) -> Result<bool, Error> {
        match (there, &new.origin) {
            (Some(there), Origin::Inline(bytes)) if there.size == new.size => {
                Ok(self.bytes_of(there, path, there.size)? == bytes.to_vec())
            }
            (Some(there), _) => Ok(there == new),
            (None, _) => Ok(false),
        }
    }

    /// Makes the symbolic link `path`, in the place of whatever file or link is there.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let (above, name) = split(path).ok_or_else(|| unlike(path, "a path", "the root"))?;
        let path = join(&self.resolve(above)?, name);
        let data = LinkTarget::from_unix(&NtName::from(target)).to_bytes(ReparseTag::SYMLINK);
        let data =
            data.map_err(|error| unlike(&path, "a target that a link can have", &error.to_string()))?;
        self.clear(&path)?;
        let reparse = Reparse {
            tag: ReparseTag::SYMLINK,
            reserved: 0,
            link_flags: 1,
            content: ContentRef::inline(data),
        };
        let node = Node {
            attributes: FileAttributes::REPARSE_POINT,
            reparse: Some(reparse),
            unix: self.has_modes.then(|| owned_by_root(SYMLINK | 0o777)),
            ..self.new_node()
        };
        self.add(&path, node)
    }

    /// Takes the file at a path away, for the record; says whether it was there. A link goes itself.
    pub fn remove_file(&mut self, path: &str) -> Result<bool, Error> {
        let Some((above, name)) = split(path) else { return Ok(false) };
        let path = join(&self.resolve(above)?, name);
        let Some(node) = self.find(&path) else { return Ok(false) };
        if self.tree.node(node).is_directory() {
            return Err(unlike(&path, "a file", "a directory"));
        }
        if self.is_ours(&path) {
            self.remove(&path)?;
            self.changes
                .retain(|change| !matches!(change, Change::FileAdded { path: known } if *known == path));
            return Ok(true);
        }
        let kept = self.keep(&path)?;
        self.changes.push(Change::FileRemoved { path, kept });
        Ok(true)
    }

    /// What is below its root when the system runs and is not here: directories that its table of file systems mounts something on, from the
    /// root.
    pub fn mount_points(&self) -> Result<Vec<String>, Error> {
        let text = self.read_file("/etc/fstab", MAX_TABLE_BYTES)?.unwrap_or_default();
        Ok(mount_points(&String::from_utf8_lossy(&text)))
    }

    /// A path that was changed and lies below one of `points`.
    pub fn changed_below<'p>(&'p self, points: &[String]) -> Option<&'p str> {
        let is_below = |path: &str| {
            let below = |point: &String| {
                path.strip_prefix(point.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            points.iter().any(below)
        };
        self.changes.iter().filter_map(Change::path).find(|path| is_below(path))
    }

    /// Puts the record into the tree. `what` says in words what was done.
    pub fn finish(mut self, what: &str) -> Result<Vec<Change>, Error> {
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        let dir = self.make_records()?;
        let changes = self.changes.clone();
        let record = Record { version: RECORD_VERSION, what: what.to_owned(), changes: changes.clone() };
        let mut text = serde_json::to_vec_pretty(&record).map_err(|error| Error::Io {
            what: "describe changes of",
            path: "the image".to_owned(),
            source: error.into(),
        })?;
        text.push(b'\n');
        let node = Node {
            attributes: FileAttributes::ARCHIVE,
            data: Some(ContentRef::inline(text)),
            unix: self.has_modes.then(|| owned_by_root(REGULAR | 0o600)),
            ..self.new_node()
        };
        self.add(&format!("{dir}/{:04}.json", self.number), node)?;
        Ok(changes)
    }

    /// Undoes the newest record and takes it away; gives the record back. The image must not have been changed otherwise by this value.
    pub fn undo_last(&mut self) -> Result<Record, Error> {
        if !self.changes.is_empty() {
            return Err(Error::Refused {
                path: "undoing changes".to_owned(),
                why: "the image was changed in the same run".to_owned(),
            });
        }
        let number = self.record_numbers()?.last().copied();
        let number =
            number.ok_or_else(|| Error::NotFound { what: "record of changes", name: RECORDS.to_owned() })?;
        let dir = self.resolve(RECORDS)?;
        let path = format!("{dir}/{number:04}.json");
        let bytes = self.read_file(&path, MAX_RECORD_BYTES)?.unwrap_or_default();
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| unlike(&path, "a record of changes", &error.to_string()))?;
        if record.version != RECORD_VERSION {
            return Err(unlike(&path, "version 1", &format!("version {}", record.version)));
        }
        for change in record.changes.iter().rev() {
            match change {
                Change::DirectoryAdded { path } => self.remove_empty(path)?,
                Change::FileAdded { path } => {
                    if self.find(path).is_some() {
                        self.remove(path)?;
                    }
                }
                Change::FileReplaced { path, kept } | Change::FileRemoved { path, kept } => {
                    if self.find(path).is_some() {
                        self.remove(path)?;
                    }
                    self.rename(kept, path)?;
                }
                other => {
                    let found = other.describe(false);
                    return Err(unlike(&path, "changes of files", &found));
                }
            }
        }
        self.remove(&path)?;
        for dir in [format!("{dir}/{number:04}"), dir] {
            self.remove_empty(&dir)?;
        }
        // Directories above the records were not empty before.
        for change in record.changes.iter().rev() {
            if let Change::DirectoryAdded { path } = change {
                self.remove_empty(path)?;
            }
        }
        Ok(record)
    }

    /// Numbers of the records there, ascending.
    fn record_numbers(&self) -> Result<Vec<u32>, Error> {
        let Some(dir) = self.find(&self.resolve(RECORDS)?) else { return Ok(Vec::new()) };
        let number = |name: String| name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
        let names = self.children(dir).iter().map(|entry| entry.name.to_string());
        let mut out: Vec<u32> = names.filter_map(number).collect();
        out.sort_unstable();
        Ok(out)
    }

    /// Whether the file of that path came with this run.
    fn is_ours(&self, path: &str) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::FileAdded { path: known } if known == path))
    }

    /// Clears the place for a file and records that it comes.
    fn clear(&mut self, path: &str) -> Result<(), Error> {
        let Some((above, _)) = split(path) else { return Err(unlike(path, "a file", "the root")) };
        let made = self.make_directories(above, DIRECTORY_MODE)?;
        self.changes.extend(made.into_iter().map(|path| Change::DirectoryAdded { path }));
        let is_replaced = self
            .changes
            .iter()
            .any(|change| matches!(change, Change::FileReplaced { path: known, .. } if known == path));
        let Some(node) = self.find(path) else {
            if !is_replaced && !self.is_ours(path) {
                self.changes.push(Change::FileAdded { path: path.to_owned() });
            }
            return Ok(());
        };
        if self.tree.node(node).is_directory() {
            return Err(unlike(path, "a file", "a directory"));
        }
        if is_replaced || self.is_ours(path) {
            return self.remove(path);
        }
        let kept = self.keep(path)?;
        self.changes.push(Change::FileReplaced { path: path.to_owned(), kept });
        Ok(())
    }

    /// Makes the directory of records, which is root's alone, and gives its path. What is above it counts as a change.
    fn make_records(&mut self) -> Result<String, Error> {
        let dir = self.resolve(RECORDS)?;
        let above = split(&dir).unwrap_or_default().0.to_owned();
        let made = self.make_directories(&above, DIRECTORY_MODE)?;
        self.changes.extend(made.into_iter().map(|path| Change::DirectoryAdded { path }));
        self.make_directories(&dir, PRIVATE_MODE)?;
        Ok(dir)
    }

    /// Moves a file to where this run's old ones are.
    fn keep(&mut self, path: &str) -> Result<String, Error> {
        let is_kept =
            |change: &&Change| matches!(change, Change::FileReplaced { .. } | Change::FileRemoved { .. });
        let count = self.changes.iter().filter(is_kept).count();
        let dir = format!("{}/{:04}", self.make_records()?, self.number);
        self.make_directories(&dir, PRIVATE_MODE)?;
        let kept = format!("{dir}/{count}");
        self.rename(path, &kept)?;
        Ok(kept)
    }

    /// Adds a file at a place that is free.
    fn add(&mut self, path: &str, node: Node) -> Result<(), Error> {
        let (above, name) = split(path).unwrap_or(("", path));
        let dir = self.find(above).ok_or_else(|| unlike(above, "a directory", "nothing"))?;
        self.look_into(dir);
        self.tree.add(dir, NtName::from(name), node).map_err(Error::tree(path))?;
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), Error> {
        let (above, name) = split(path).unwrap_or(("", path));
        let dir = self.find(above).ok_or_else(|| unlike(above, "a directory", "nothing"))?;
        self.look_into(dir);
        self.tree.remove(dir, &NtName::from(name)).map_err(Error::tree(path))
    }

    fn remove_empty(&mut self, path: &str) -> Result<(), Error> {
        match self.find(path) {
            Some(node) if self.tree.node(node).is_directory() && self.children(node).is_empty() => {
                self.remove(path)
            }
            _ => Ok(()),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let missing = |path: &str| Error::NotFound { what: "file of the image", name: path.to_owned() };
        let ((above, name), (new_above, new_name)) =
            split(from).zip(split(to)).ok_or_else(|| missing(from))?;
        let (dir, new_dir) = (self.find(above), self.find(new_above));
        let (dir, new_dir) = dir.zip(new_dir).ok_or_else(|| missing(from))?;
        self.look_into(dir);
        self.look_into(new_dir);
        let renamed = self.tree.rename(dir, &NtName::from(name), new_dir, NtName::from(new_name));
        renamed.map_err(Error::tree(from))
    }

    /// Paths of the directories that were made. The last one gets the mode.
    fn make_directories(&mut self, path: &str, mode: u32) -> Result<Vec<String>, Error> {
        let (mut at, mut shown, mut made) = (self.tree.root(), String::new(), Vec::new());
        let last = parts(path).count().saturating_sub(1);
        for (number, name) in parts(path).enumerate() {
            shown = format!("{shown}/{name}");
            let name = NtName::from(name);
            at = match self.child(at, &name) {
                Some(node) if self.tree.node(node).is_directory() => node,
                Some(_) => return Err(unlike(&shown, "a directory", "something else")),
                None => {
                    made.push(shown.clone());
                    let mode = DIRECTORY | if number == last { mode } else { DIRECTORY_MODE };
                    let node = Node {
                        attributes: FileAttributes::DIRECTORY,
                        children: Some(Vec::new()),
                        unix: self.has_modes.then(|| owned_by_root(mode)),
                        ..self.new_node()
                    };
                    self.tree.add(at, name, node).map_err(Error::tree(&shown))?
                }
            };
        }
        Ok(made)
    }

    fn new_node(&self) -> Node {
        let times = Times { created: self.now, accessed: self.now, written: self.now };
        Node { times, ..Node::default() }
    }

    /// The node of a path without links.
    fn find(&self, path: &str) -> Option<NodeId> {
        parts(path).try_fold(self.tree.root(), |at, name| self.child(at, &NtName::from(name)))
    }

    fn child(&self, directory: NodeId, name: &NtName) -> Option<NodeId> {
        self.look_into(directory);
        self.tree.child(directory, name).map(|entry| entry.node)
    }

    fn children(&self, directory: NodeId) -> &[Entry] {
        self.look_into(directory);
        self.tree.children(directory)
    }

    fn look_into(&self, directory: NodeId) {
        if let Some(looks_into) = self.looks_into {
            looks_into(directory);
        }
    }

    /// The path without links; what is not there yet stays as it is named.
    fn resolve(&self, path: &str) -> Result<String, Error> {
        let mut open: Vec<String> = parts(path).rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0usize;
        while let Some(name) = open.pop() {
            match name.as_str() {
                "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(name),
            }
            let Some(node) = self.find(&done.join("/")).map(|node| self.tree.node(node)) else { continue };
            let Some(target) = self.target(node, path)? else { continue };
            links = links.saturating_add(1);
            if links > MAX_LINKS {
                return Err(unlike(path, &format!("at most {MAX_LINKS} links on the way"), "more"));
            }
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            open.extend(parts(&target).rev().map(str::to_owned));
        }
        Ok(format!("/{}", done.join("/")))
    }

    /// Where a node leads, when it is a link.
    fn target(&self, node: &Node, path: &str) -> Result<Option<String>, Error> {
        let Some(reparse) = node.reparse.as_ref().filter(|reparse| reparse.tag == ReparseTag::SYMLINK) else {
            return Ok(None);
        };
        let data = self.bytes_of(&reparse.content, path, MAX_LINK_BYTES)?;
        let target = LinkTarget::parse(reparse.tag, &data);
        let target = target.map_err(|error| unlike(path, "links that can be read", &error.to_string()))?;
        Ok(Some(target.to_unix().to_string()))
    }
}

/// Of a table of file systems (fstab(5)). Blanks in names are written in octal digits.
fn mount_points(table: &str) -> Vec<String> {
    let lines = table.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let points =
        lines.filter_map(|line| line.split_whitespace().nth(1)).filter(|point| point.starts_with('/'));
    let points = points.map(|point| point.replace("\\040", " ").trim_end_matches('/').to_owned());
    points.filter(|point| !point.is_empty()).collect()
}

fn owned_by_root(mode: u32) -> UnixData {
    UnixData { uid: 0, gid: 0, mode, rdev: 0 }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Directory and name; none of the root.
fn split(path: &str) -> Option<(&str, &str)> {
    path.trim_end_matches('/').rsplit_once('/').filter(|(_, name)| !name.is_empty())
}

fn join(above: &str, name: &str) -> String {
    format!("{}/{name}", above.trim_end_matches('/'))
}

fn unlike(path: &str, expected: &str, found: &str) -> Error {
    Error::Corrupt { path: path.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_mounts_below_the_root_is_known() {
        let table =
            "# /a b\nU=1 / ext4\nU=2 /var/ ext4 x 0 2\nU=3 none swap\nU=4 swap swap\nL /b\\040c\text4\n x\n";
        assert_eq!(mount_points(table), ["/var", "/b c"]);
        assert_eq!(mount_points(""), [""; 0]);
    }
}
