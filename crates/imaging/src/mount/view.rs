//! A tree as the kernel sees it: inodes, names, attributes. Inode numbers are node numbers and one, as 1 is the root; hard
//! links are one node and so one inode. Everything stays as it is while it is mounted.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use gravure_linux::SpecialNode;
use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, Entry, Node, NodeId, Tree};

use super::{MountOptions, StreamNames};
use crate::Image;
use crate::directory::{
    UnixKind, UnixMetadata, is_rebased, kind_of, link_below, link_target, os_name, plain_mode_of,
};

/// Longest name FUSE passes on, bytes (`FUSE_NAME_MAX`).
const MAX_NAME_BYTES: usize = 1024;
/// Largest value of an extended attribute, bytes (`XATTR_SIZE_MAX`).
pub(super) const MAX_ATTRIBUTE_BYTES: u64 = 64 << 10;
/// Names that were left out and are told of.
const MAX_LINES: usize = 20;

/// A tree with what is asked of it.
#[derive(Debug)]
pub(super) struct View {
    image: Image,
    /// Parent of each directory, by node number.
    parents: HashMap<NodeId, NodeId>,
    /// Names of each directory, made when it is first asked.
    names: HashMap<NodeId, OnceLock<HashMap<OsString, usize>>>,
    /// Nodes by inode number - 1; removed ones have none.
    nodes: Vec<Option<NodeId>>,
    /// Named streams that are files of their own, by inode number - 1 - nodes.
    streams: Vec<(NodeId, usize)>,
    /// Where the streams of a node start among them.
    first_stream: HashMap<NodeId, usize>,
    options: MountOptions,
    /// What is put before targets of links that start at the root of the image.
    link_base: Option<PathBuf>,
    owner: (u32, u32),
    left_out: Vec<String>,
    total_bytes: u64,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inode {
    Node(NodeId),
    Stream(NodeId, usize),
}

impl View {
    pub(super) fn new(image: &Image, options: &MountOptions, link_base: Option<PathBuf>) -> Self {
        let tree = image.tree();
        let mut this = Self {
            image: image.clone(),
            parents: HashMap::from([(tree.root(), tree.root())]),
            names: HashMap::from([(tree.root(), OnceLock::new())]),
            nodes: vec![None; tree.node_count()],
            streams: Vec::new(),
            first_stream: HashMap::new(),
            options: options.clone(),
            link_base,
            owner: gravure_linux::process::owner(),
            left_out: Vec::new(),
            total_bytes: 0,
        };
        this.put(tree, tree.root());
        let mut todo = vec![tree.root()];
        while let Some(parent) = todo.pop() {
            for entry in tree.children(parent) {
                this.put(tree, entry.node);
                if tree.node(entry.node).is_directory() {
                    this.parents.insert(entry.node, parent);
                    this.names.insert(entry.node, OnceLock::new());
                    todo.push(entry.node);
                }
                if !is_shown(entry) && this.left_out.len() < MAX_LINES {
                    let line = format!("{}: name of more than {MAX_NAME_BYTES} bytes left out", entry.name);
                    this.left_out.push(line);
                }
            }
        }
        this
    }

    fn put(&mut self, tree: &Tree, id: NodeId) {
        let slot = &mut self.nodes[id.index()];
        if slot.replace(id).is_some() {
            return;
        }
        let node = tree.node(id);
        self.total_bytes = self.total_bytes.saturating_add(node.data.as_ref().map_or(0, |data| data.size));
        if self.options.streams == StreamNames::Windows && !node.named_streams.is_empty() {
            self.first_stream.insert(id, self.streams.len());
            self.streams.extend((0..node.named_streams.len()).map(|stream| (id, stream)));
        }
    }

    /// What could not be shown, in words.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Files and directories, and the bytes of all unnamed contents.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.nodes.len() as u64, self.total_bytes)
    }

    fn tree(&self) -> &Tree {
        self.image.tree()
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.tree().node(id)
    }

    /// What has the number `ino`.
    pub(super) fn inode(&self, ino: INodeNo) -> Option<Inode> {
        let index = usize::try_from(ino.0.checked_sub(1)?).ok()?;
        match index.checked_sub(self.nodes.len()) {
            None => self.nodes.get(index).copied().flatten().map(Inode::Node),
            Some(stream) => self.streams.get(stream).map(|(id, stream)| Inode::Stream(*id, *stream)),
        }
    }

    /// The number of `inode`.
    pub(super) fn number(&self, inode: Inode) -> INodeNo {
        let index = match inode {
            Inode::Node(id) => id.index(),
            Inode::Stream(id, stream) => {
                let first = self.first_stream.get(&id).copied().unwrap_or_default();
                self.nodes.len() + first + stream
            }
        };
        INodeNo(index as u64 + 1)
    }

    /// What is called `name` in the directory `parent`; with streams as files, `FILE:STREAM` too.
    pub(super) fn lookup(&self, parent: NodeId, name: &OsStr) -> Option<Inode> {
        if let Some(found) = self.child(parent, name) {
            return Some(Inode::Node(found));
        }
        if self.options.streams != StreamNames::Windows {
            return None;
        }
        let at = name.as_bytes().iter().position(|byte| *byte == b':')?;
        let (file, stream) = (&name.as_bytes()[..at], &name.as_bytes()[at + 1..]);
        let id = self.child(parent, OsStr::from_bytes(file))?;
        let mut streams = self.node(id).named_streams.iter();
        let position = streams.position(|known| known.name.to_unix() == stream)?;
        Some(Inode::Stream(id, position))
    }

    fn child(&self, parent: NodeId, name: &OsStr) -> Option<NodeId> {
        let children = self.tree().children(parent);
        let names = self.names.get(&parent)?.get_or_init(|| {
            let shown = children.iter().enumerate().filter(|(_, entry)| is_shown(entry));
            shown.map(|(position, entry)| (os_name(&entry.name), position)).collect()
        });
        names.get(name).and_then(|position| children.get(*position)).map(|entry| entry.node)
    }

    /// Entries of a directory from `position`, 0 being `.` and 1 `..`: the position behind each, the inode, the name.
    pub(super) fn entries(
        &self,
        dir: NodeId,
        position: u64,
    ) -> impl Iterator<Item = (u64, NodeId, OsString)> + '_ {
        let parent = self.parents.get(&dir).copied().unwrap_or(dir);
        let dots = [(1, dir, OsString::from(".")), (2, parent, OsString::from(".."))];
        let dots = dots.into_iter().filter(move |(next, ..)| *next > position);
        let passed = usize::try_from(position.saturating_sub(2)).unwrap_or(usize::MAX);
        let children = self.tree().children(dir).iter().zip(3u64..).skip(passed);
        let children = children.filter(|(entry, _)| is_shown(entry));
        dots.chain(children.map(|(entry, next)| (next, entry.node, os_name(&entry.name))))
    }

    /// The attributes of `inode`. `link_bytes` is the length of a link's target.
    pub(super) fn attributes(&self, inode: Inode, link_bytes: impl FnOnce() -> u64) -> FileAttr {
        let (Inode::Node(id) | Inode::Stream(id, _)) = inode;
        let node = self.node(id);
        let unix = node.unix.filter(|_| self.options.unix == UnixMetadata::Keep);
        let kind = match inode {
            Inode::Node(_) => self.kind(id),
            Inode::Stream(..) => FileType::RegularFile,
        };
        let size = match (inode, kind) {
            (Inode::Stream(_, stream), _) => node.named_streams.get(stream).map_or(0, |it| it.content.size),
            (_, FileType::Symlink) => link_bytes(),
            (_, FileType::RegularFile) => node.data.as_ref().map_or(0, |data| data.size),
            _ => 0,
        };
        let mode = match (unix, self.options.plain_mode) {
            (Some(unix), _) => unix.mode & 0o7777,
            (None, Some(mode)) => u32::from(mode),
            (None, None) => plain_mode_of(node),
        };
        let (links, mode) = match kind {
            // 1 says that the number of directories below is not told.
            FileType::Directory => (1, mode),
            FileType::Symlink => (self.tree().link_count(id), 0o777),
            _ => (self.tree().link_count(id), mode),
        };
        let times = &node.times;
        FileAttr {
            ino: self.number(inode),
            size,
            blocks: size.div_ceil(512),
            atime: system_time(times.accessed),
            mtime: system_time(times.written),
            ctime: system_time(times.written),
            crtime: system_time(times.created),
            kind,
            // Twelve bits.
            perm: u16::try_from(mode & 0o7777).unwrap_or(0),
            nlink: links.max(1),
            uid: unix.map_or(self.owner.0, |unix| unix.uid),
            gid: unix.map_or(self.owner.1, |unix| unix.gid),
            rdev: unix.filter(|_| kind != FileType::RegularFile).map_or(0, |unix| unix.rdev),
            blksize: 128 << 10,
            flags: 0,
        }
    }

    /// What kind of file a node is shown as.
    pub(super) fn kind(&self, id: NodeId) -> FileType {
        match kind_of(self.node(id)) {
            UnixKind::Directory => FileType::Directory,
            UnixKind::Link => FileType::Symlink,
            UnixKind::Special(_) if self.options.unix == UnixMetadata::Leave => FileType::RegularFile,
            UnixKind::Special(SpecialNode::CharDevice(_)) => FileType::CharDevice,
            UnixKind::Special(SpecialNode::BlockDevice(_)) => FileType::BlockDevice,
            UnixKind::Special(SpecialNode::Fifo) => FileType::NamedPipe,
            UnixKind::Special(SpecialNode::Socket) => FileType::Socket,
            UnixKind::File | UnixKind::Opaque => FileType::RegularFile,
        }
    }

    /// The content that is read of `inode`; `None` where the image has none that could be read.
    pub(super) fn content(&self, inode: Inode) -> Option<&ContentRef> {
        match inode {
            Inode::Node(id) => {
                let node = self.node(id);
                let is_closed = node.efs.is_some() || kind_of(node) == UnixKind::Opaque;
                node.data.as_ref().filter(|_| !is_closed)
            }
            Inode::Stream(id, stream) => self.node(id).named_streams.get(stream).map(|it| &it.content),
        }
    }

    /// The target of link `id`, whose reparse data is `data`.
    pub(super) fn link_target(&self, id: NodeId, data: &[u8]) -> Result<OsString, String> {
        let reparse = self.node(id).reparse.as_ref().ok_or("no reparse data")?;
        let target = link_target(reparse.tag, data)?;
        if target.is_empty() || target.as_bytes().contains(&0) {
            return Err(format!("link target {target:?}: empty or with a zero byte"));
        }
        match &self.link_base {
            Some(base) if is_rebased(reparse, &target) => Ok(link_below(base, &target)),
            _ => Ok(target),
        }
    }

    /// The names of a node's extended attributes.
    pub(super) fn attribute_names(&self, id: NodeId) -> Vec<Vec<u8>> {
        let node = self.node(id);
        let mut names = Vec::new();
        if self.options.unix == UnixMetadata::Keep {
            names.extend(node.extended_attributes.iter().map(|it| it.name.clone()));
        }
        if self.options.streams == StreamNames::Xattr {
            // Larger ones cannot be had so, and programs that copy attributes would fail at them.
            let small = node.named_streams.iter().filter(|it| it.content.size <= MAX_ATTRIBUTE_BYTES);
            for stream in small {
                let name = stream_attribute(&stream.name.to_unix());
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// What the extended attribute `name` of a node is; those the image stores come before streams of the same name.
    pub(super) fn attribute(&self, id: NodeId, name: &OsStr) -> Option<Attribute<'_>> {
        let node = self.node(id);
        let name = name.as_bytes();
        if self.options.unix == UnixMetadata::Keep
            && let Some(found) = node.extended_attributes.iter().find(|it| it.name == name)
        {
            return Some(Attribute::Value(found.value.clone()));
        }
        if self.options.streams == StreamNames::Xattr
            && let Some(stream) =
                node.named_streams.iter().find(|it| stream_attribute(&it.name.to_unix()) == name)
        {
            return Some(Attribute::Content(&stream.content));
        }
        // Not listed, as with ntfs-3g, so that copies do not carry them to where they mean nothing.
        match name {
            b"system.ntfs_attrib" => Some(Attribute::Value(node.attributes.0.to_le_bytes().to_vec())),
            b"system.ntfs_crtime" => Some(Attribute::Value(node.times.created.0.to_le_bytes().to_vec())),
            b"system.ntfs_object_id" => node.object_id.clone().map(Attribute::Value),
            b"system.ntfs_acl" => {
                let index = usize::try_from(node.security?.0).ok()?;
                let descriptor = self.tree().security_descriptors().get(index)?;
                Some(Attribute::Value(descriptor.to_vec()))
            }
            _ => None,
        }
    }
}

/// Where the value of an extended attribute is.
#[derive(Debug)]
pub(super) enum Attribute<'a> {
    Value(Vec<u8>),
    Content(&'a ContentRef),
}

fn stream_attribute(name: &[u8]) -> Vec<u8> {
    [b"user.", name].concat()
}

fn is_shown(entry: &Entry) -> bool {
    // A unit is at most three bytes; most names need no second look.
    entry.name.units().len() * 3 <= MAX_NAME_BYTES || entry.name.to_unix().len() <= MAX_NAME_BYTES
}

fn system_time(time: FileTime) -> SystemTime {
    let (seconds, nanos) = time.to_unix();
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
