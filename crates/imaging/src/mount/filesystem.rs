//! What the kernel asks, answered from the view and the contents.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use gravure_nttypes::MAX_REPARSE_BYTES;
use gravure_tree::NodeId;

use super::MountLog;
use super::content::Contents;
use super::view::{Attribute, Inode, MAX_ATTRIBUTE_BYTES, View};
use crate::{Error, ErrorKind, uses};

/// Nothing ever changes, so that the kernel need not ask twice.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest read the kernel may ask for, bytes; each costs a buffer.
const MAX_READ_BYTES: u32 = 1 << 20;
/// Unit of the sizes of a volume, bytes.
const BLOCK_BYTES: u32 = 4096;

/// The file system.
pub(super) struct ImageFs {
    view: View,
    contents: Contents,
    log: MountLog,
}

impl ImageFs {
    pub(super) fn new(view: View, contents: Contents, log: MountLog) -> Self {
        Self { view, contents, log }
    }

    fn inode(&self, ino: INodeNo) -> Result<Inode, Errno> {
        self.view.inode(ino).ok_or(Errno::ENOENT)
    }

    fn node(&self, ino: INodeNo) -> Result<NodeId, Errno> {
        match self.inode(ino)? {
            Inode::Node(id) => Ok(id),
            Inode::Stream(..) => Err(Errno::ENOTDIR),
        }
    }

    /// Tells what could not be read, and the number programs get for it.
    fn failed(&self, inode: Inode, error: &Error) -> Errno {
        let (Inode::Node(id) | Inode::Stream(id, _)) = inode;
        let paths = uses::paths(self.view.image().tree(), &[id], 1);
        let path = paths.first().map_or("", String::as_str);
        let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        (self.log)(&format!("{path}: {text}"));
        match error.kind() {
            ErrorKind::Unsupported => Errno::EOPNOTSUPP,
            _ => Errno::EIO,
        }
    }

    fn attributes(&self, inode: Inode) -> FileAttr {
        self.view.attributes(inode, || {
            // What cannot be read is told when somebody wants to follow the link.
            let Inode::Node(id) = inode else { return 0 };
            self.link_data(id).and_then(|data| self.target(id, &data)).map_or(0, |it| it.len() as u64)
        })
    }

    fn link_data(&self, id: NodeId) -> Result<Vec<u8>, Error> {
        match &self.view.node(id).reparse {
            Some(reparse) => self.contents.whole(&reparse.content, MAX_REPARSE_BYTES as u64),
            None => Err(Error::NotFound { what: "reparse data", which: id.index().to_string() }),
        }
    }

    fn target(&self, id: NodeId, data: &[u8]) -> Result<OsString, Error> {
        self.view.link_target(id, data).map_err(|why| Error::Other {
            what: "link".to_owned(),
            source: why.into(),
            kind: ErrorKind::Integrity,
        })
    }

    fn open_file(&self, ino: INodeNo, flags: OpenFlags) -> Result<(FileHandle, FopenFlags), Errno> {
        let inode = self.inode(ino)?;
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        let content = self.view.content(inode).ok_or(Errno::EOPNOTSUPP)?;
        let number = self.contents.open(content).map_err(|error| self.failed(inode, &error))?;
        Ok((FileHandle(number), FopenFlags::FOPEN_KEEP_CACHE))
    }

    fn read_file(&self, ino: INodeNo, handle: FileHandle, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(ino)?;
        let opened = self.contents.opened(handle.0).ok_or(Errno::EBADF)?;
        let len = usize::try_from(len.min(MAX_READ_BYTES)).unwrap_or(0);
        self.contents.read(&opened, offset, len).map_err(|error| self.failed(inode, &error))
    }

    fn attribute(&self, ino: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(ino)?;
        let Inode::Node(id) = inode else { return Err(Errno::NO_XATTR) };
        match self.view.attribute(id, name).ok_or(Errno::NO_XATTR)? {
            Attribute::Value(value) => Ok(value),
            Attribute::Content(content) if content.size > MAX_ATTRIBUTE_BYTES => Err(Errno::E2BIG),
            Attribute::Content(content) => {
                let whole = self.contents.whole(content, MAX_ATTRIBUTE_BYTES);
                whole.map_err(|error| self.failed(inode, &error))
            }
        }
    }

    fn attribute_names(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        let Inode::Node(id) = self.inode(ino)? else { return Ok(Vec::new()) };
        let names = self.view.attribute_names(id);
        Ok(names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect())
    }
}

/// A value as `getxattr` and `listxattr` want it: its size first, then itself if there is room.
fn answer(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(error),
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
    }
}

impl Filesystem for ImageFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Each by itself: an older kernel lacks some, and none is needed.
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        // The size of reads follows from that of writes; a smaller one is not refused.
        let _ = config.set_max_write(MAX_READ_BYTES);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.node(parent).map(|parent| self.view.lookup(parent, name)) {
            Ok(Some(inode)) => reply.entry(&FOREVER, &self.attributes(inode), Generation(0)),
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.inode(ino) {
            Ok(inode) => reply.attr(&FOREVER, &self.attributes(inode)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let id = match self.node(ino) {
            Ok(id) if self.view.kind(id) == FileType::Symlink => id,
            _ => return reply.error(Errno::EINVAL),
        };
        match self.link_data(id).and_then(|data| self.target(id, &data)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(self.failed(Inode::Node(id), &error)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino, flags) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(ino, handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.contents.close(handle.0);
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let dir = match self.node(ino) {
            Ok(dir) => dir,
            Err(error) => return reply.error(error),
        };
        for (next, id, name) in self.view.entries(dir, offset) {
            if reply.add(self.view.number(Inode::Node(id)), next, self.view.kind(id), name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let dir = match self.node(ino) {
            Ok(dir) => dir,
            Err(error) => return reply.error(error),
        };
        for (next, id, name) in self.view.entries(dir, offset) {
            let attributes = self.attributes(Inode::Node(id));
            if reply.add(attributes.ino, next, name, &FOREVER, &attributes, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    // Nothing was written, so there is nothing to do; without these four the library calls them not implemented.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    /// Holes are not told of: the kernel takes the whole file for data.
    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer(self.attribute(ino, name), size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer(self.attribute_names(ino), size, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (files, bytes) = self.view.totals();
        let blocks = bytes.div_ceil(u64::from(BLOCK_BYTES));
        reply.statfs(blocks, 0, 0, files, 0, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
