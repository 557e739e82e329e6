//! A device of ours shown as a file, by FUSE: for programs that want a path.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};

use super::kernel::{Place, unmount};
use crate::Error;

/// Name of the file.
const NAME: &str = "device";
const FILE: INodeNo = INodeNo(2);
/// Nothing but the content changes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest read and write the kernel may ask for, bytes.
const MAX_BYTES: u32 = 1 << 20;
/// Threads on either side.
const THREADS: usize = 4;
/// How often somebody without work looks whether there will be any.
const LOOK: Duration = Duration::from_millis(200);

/// What is behind the file.
pub(super) trait Shown: Sync {
    /// Bytes.
    fn size(&self) -> u64;
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error>;
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;
    fn sync(&self) -> Result<(), Error>;
}

/// A request on its way from the kernel to the device, which lives no longer than the call that shows it.
enum Ask {
    Read { offset: u64, len: usize, answer: Sender<Option<Vec<u8>>> },
    Write { offset: u64, bytes: Vec<u8>, answer: Sender<Option<()>> },
    Sync { answer: Sender<Option<()>> },
}

/// Calls `work` with the path of a file that is `device`. The first error of the device is the one that is told, whatever came of it.
pub(super) fn with_file<T>(
    device: &dyn Shown,
    work: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let dir = Place::new()?;
    let path = dir.path();
    let of_directory = std::fs::metadata(path).map_err(Error::io("look at", path.display()))?;
    let (ask, asked) = bounded(THREADS);
    let files = FileFs { size: device.size(), uid: of_directory.uid(), gid: of_directory.gid(), ask };
    let session = Session::new(files, path, &config()).and_then(Session::spawn);
    let session = session.map_err(Error::io("mount on", path.display()))?;
    let stop = AtomicBool::new(false);
    let (failed, failure) = bounded(1);
    std::thread::scope(|scope| {
        // Whatever happens to `work`, the threads end.
        let _stopper = Stopper(&stop);
        for _ in 0..THREADS {
            let (asked, failed, stop) = (asked.clone(), failed.clone(), &stop);
            scope.spawn(move || serve(device, &asked, &failed, stop));
        }
        let done = work(&path.join(NAME));
        // The session tries once only; who may not unmount himself leaves it to that.
        let unmounted = unmount(path);
        let joined = session.umount_and_join().map_err(Error::io("unmount", path.display()));
        let unmounted = unmounted.map_or(joined, |()| Ok(()));
        if let Ok(error) = failure.try_recv() {
            return Err(error);
        }
        let done = done?;
        unmounted?;
        Ok(done)
    })
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn serve(device: &dyn Shown, asked: &Receiver<Ask>, failed: &Sender<Error>, stop: &AtomicBool) {
    let told = |result: Result<(), Error>| match result {
        Ok(()) => Some(()),
        Err(error) => {
            // Only the first one is wanted.
            let _ = failed.try_send(error);
            None
        }
    };
    loop {
        let ask = match asked.recv_timeout(LOOK) {
            Ok(ask) => ask,
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => continue,
            Err(_) => return,
        };
        // Whoever asked may have gone.
        match ask {
            Ask::Read { offset, len, answer } => {
                let mut buf = vec![0; len];
                let read = told(device.read(offset, &mut buf)).map(|()| buf);
                let _ = answer.send(read);
            }
            Ask::Write { offset, bytes, answer } => {
                let _ = answer.send(told(device.write(offset, &bytes)));
            }
            Ask::Sync { answer } => {
                let _ = answer.send(told(device.sync()));
            }
        }
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("gravure-device".to_owned()),
        MountOption::Subtype("gravure".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
    ];
    config.acl = SessionACL::Owner;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

/// A directory with one file.
struct FileFs {
    size: u64,
    uid: u32,
    gid: u32,
    ask: Sender<Ask>,
}

impl FileFs {
    fn attributes(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            FILE => (FileType::RegularFile, 0o600, self.size),
            _ => return None,
        };
        let time = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn ask<T>(&self, make: impl FnOnce(Sender<Option<T>>) -> Ask) -> Option<T> {
        let (answer, answered) = bounded(1);
        self.ask.send(make(answer)).ok()?;
        answered.recv().ok()?
    }
}

impl Filesystem for FileFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // A smaller one is not refused.
        let _ = config.set_max_write(MAX_BYTES);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE).filter(|_| parent == INodeNo::ROOT && name == OsStr::new(NAME)) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Times are nobody's business, and a device keeps its size, whatever programs do that would cut a file.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.attributes(ino) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match ino {
            // What is read back is to come from the device.
            FILE => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = self.size.saturating_sub(offset).min(u64::from(size.min(MAX_BYTES)));
        let len = usize::try_from(len).unwrap_or(0);
        match self.ask(|answer| Ask::Read { offset, len, answer }) {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.size) {
            return reply.error(Errno::ENOSPC);
        }
        match self.ask(|answer| Ask::Write { offset, bytes: data.to_vec(), answer }) {
            Some(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            None => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.ask(|answer| Ask::Sync { answer }) {
            Some(()) => reply.ok(),
            None => reply.error(Errno::EIO),
        }
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE, FileType::RegularFile, NAME),
        ];
        for (at, (ino, kind, name)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap_or(3)) {
            if reply.add(ino, at, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
