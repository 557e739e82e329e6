//! What the kernel says about one file: kind, owner, mode, sizes, times. Plain data, no handles.

use rustix::fs::{FileType, Statx, StatxFlags};

use crate::Error;

/// The kind of a file system node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

impl NodeKind {
    /// `None` for types this crate does not know; a directory entry on a file system without types has none either.
    pub(crate) fn from_file_type(value: FileType) -> Option<Self> {
        Some(match value {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// A point in time: seconds since 1970-01-01 UTC (negative before) and nanoseconds (0..1_000_000_000) on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl Timestamp {
    pub(crate) fn to_timespec(self) -> rustix::fs::Timespec {
        rustix::fs::Timespec { tv_sec: self.seconds, tv_nsec: i64::from(self.nanos) }
    }
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What can be made with `Dir::make_node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialNode {
    /// Named pipe.
    Fifo,
    /// Socket that nobody listens on.
    Socket,
    /// Character device.
    CharDevice(DeviceNumber),
    /// Block device.
    BlockDevice(DeviceNumber),
}

/// Facts of one node, never of what a symbolic link points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStat {
    /// Kind.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; the length of the target of a symbolic link.
    pub size: u64,
    /// Bytes allotted on the volume (`st_blocks` * 512); below `size` when there are holes.
    pub allocated_bytes: u64,
    /// Inode number; unique on `device`.
    pub inode: u64,
    /// Device the node lies on.
    pub device: DeviceNumber,
    /// Device that the node stands for; 0:0 unless it is a device node.
    pub special: DeviceNumber,
    /// Count of names the node has.
    pub links: u32,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of content or metadata.
    pub changed: Timestamp,
    /// Creation, where the file system records it.
    pub born: Option<Timestamp>,
}

impl NodeStat {
    pub(crate) fn from_statx(statx: &Statx, on: &str) -> Result<Self, Error> {
        let mode = u32::from(statx.stx_mode);
        let kind = NodeKind::from_file_type(FileType::from_raw_mode(mode))
            .ok_or_else(|| Error::Unsupported { what: "file type", value: format!("{mode:#o} of {on}") })?;
        let time = |t: rustix::fs::StatxTimestamp| Timestamp { seconds: t.tv_sec, nanos: t.tv_nsec };
        let has_birth = StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::BTIME);
        Ok(Self {
            kind,
            mode: mode & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: statx.stx_size,
            allocated_bytes: statx.stx_blocks.saturating_mul(512),
            inode: statx.stx_ino,
            device: DeviceNumber { major: statx.stx_dev_major, minor: statx.stx_dev_minor },
            special: DeviceNumber { major: statx.stx_rdev_major, minor: statx.stx_rdev_minor },
            links: statx.stx_nlink,
            accessed: time(statx.stx_atime),
            modified: time(statx.stx_mtime),
            changed: time(statx.stx_ctime),
            born: has_birth.then(|| time(statx.stx_btime)),
        })
    }
}
