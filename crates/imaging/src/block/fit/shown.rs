//! A device of ours shown as a file, by FUSE: for programs that want a path.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, TimeOrNow, WriteFlags,
};
use gravure_linux::mount::{HiddenMount, MountOptions};

use super::kernel::{Place, unmount};
use super::mounted::PATIENCE;
use crate::Error;

/// What is said to be mounted.
const SOURCE: &str = "gravure-device";
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
/// The same where it should be done.
const SHORT: Duration = Duration::from_millis(5);
/// What the kernel answers whoever may not mount (`EPERM`).
const NOT_ALLOWED: i32 = 1;

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
    let (ask, asked) = bounded(THREADS);
    let (uid, gid) = gravure_linux::process::owner();
    let showing = Showing::new(FileFs { size: device.size(), uid, gid, ask })?;
    let stop = AtomicBool::new(false);
    let (failed, failure) = bounded(1);
    std::thread::scope(|scope| {
        // Whatever happens to `work`, the threads end.
        let _stopper = Stopper(&stop);
        for _ in 0..THREADS {
            let (asked, failed, stop) = (asked.clone(), failed.clone(), &stop);
            scope.spawn(move || serve(device, &asked, &failed, stop));
        }
        let done = work(&showing.path().join(NAME));
        let ended = showing.end();
        if let Ok(error) = failure.try_recv() {
            return Err(error);
        }
        let done = done?;
        ended?;
        Ok(done)
    })
}

/// A directory with the file, served by threads of its own.
struct Showing {
    session: BackgroundSession,
    root: Root,
}

enum Root {
    Hidden(HiddenMount),
    /// By the program that mounts for whoever has not the rights of root.
    Placed(Place),
}

impl Showing {
    fn new(files: FileFs) -> Result<Self, Error> {
        let path = Path::new("/dev/fuse");
        let kernel = File::options().read(true).write(true).open(path);
        let kernel = kernel.map_err(Error::io("open", path.display()))?;
        let (uid, gid) = (files.uid, files.gid);
        let data =
            format!("subtype=gravure,fd={},rootmode=40000,user_id={uid},group_id={gid}", kernel.as_raw_fd());
        let options = MountOptions {
            data: &data,
            no_suid: true,
            no_dev: true,
            no_exec: true,
            ..MountOptions::default()
        };
        let (session, root) = match HiddenMount::new(OsStr::new(SOURCE), "fuse", options) {
            Ok(hidden) => {
                let session = Session::from_fd(files, kernel.into(), SessionACL::Owner, config());
                (session, Root::Hidden(hidden))
            }
            Err(error) if error.errno() == Some(NOT_ALLOWED) => {
                let place = Place::new()?;
                (Session::new(files, place.path(), &config()), Root::Placed(place))
            }
            Err(error) => return Err(Error::linux("a file of ours")(error)),
        };
        let session = session.and_then(Session::spawn).map_err(Error::io("show", "a file of ours"))?;
        Ok(Self { session, root })
    }

    fn path(&self) -> &Path {
        match &self.root {
            Root::Hidden(hidden) => hidden.path(),
            Root::Placed(place) => place.path(),
        }
    }

    /// Ends it, with everything that was written at the device. A loop device lets its file go a little later than it says.
    fn end(self) -> Result<(), Error> {
        let failed = Error::io("unmount", "a file of ours");
        match self.root {
            Root::Hidden(hidden) => {
                drop(hidden);
                let start = Instant::now();
                while !self.session.guard.is_finished() {
                    if start.elapsed() > PATIENCE {
                        return Err(failed(io::ErrorKind::ResourceBusy.into()));
                    }
                    std::thread::sleep(SHORT);
                }
                self.session.join().map_err(failed)
            }
            Root::Placed(place) => {
                // The session tries once only; who may not unmount himself leaves it to that.
                let unmounted = unmount(place.path());
                let joined = self.session.umount_and_join().map_err(failed);
                unmounted.map_or(joined, |()| Ok(()))
            }
        }
    }
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
        MountOption::FSName(SOURCE.to_owned()),
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
