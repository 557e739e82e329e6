//! ioctls of block and loop devices. Every number stands beside the type of its argument, so a call cannot mix them.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use super::checked;

/// An ioctl that writes one `T`.
pub(crate) struct Reads<T>(libc::Ioctl, PhantomData<T>);
/// An ioctl that reads one `T`.
pub(crate) struct Writes<T>(libc::Ioctl, PhantomData<T>);
/// An ioctl without an argument, or with an integer in its place.
pub(crate) struct Plain(libc::Ioctl);

// Numbers from <linux/fs.h> and <linux/loop.h>, the generic encoding of x86-64 and arm64.
pub(crate) const BLKROGET: Reads<libc::c_int> = Reads(0x125e, PhantomData);
pub(crate) const BLKRRPART: Plain = Plain(0x125f);
pub(crate) const BLKFLSBUF: Plain = Plain(0x1261);
pub(crate) const BLKSSZGET: Reads<libc::c_int> = Reads(0x1268, PhantomData);
pub(crate) const BLKPG: Writes<BlkpgArg> = Writes(0x1269, PhantomData);
pub(crate) const BLKGETSIZE64: Reads<u64> = Reads(0x8008_1272, PhantomData);
/// Start and length in bytes.
pub(crate) const BLKDISCARD: Writes<[u64; 2]> = Writes(0x1277, PhantomData);
pub(crate) const BLKPBSZGET: Reads<libc::c_uint> = Reads(0x127b, PhantomData);
/// Start and length in bytes.
pub(crate) const BLKZEROOUT: Writes<[u64; 2]> = Writes(0x127f, PhantomData);
// From the file systems' own headers (<linux/ext4.h>, <xfs/xfs_fs.h>, <linux/btrfs.h>), the same encoding.
/// New count of blocks.
pub(crate) const EXT4_IOC_RESIZE_FS: Writes<u64> = Writes(0x4008_6610, PhantomData);
pub(crate) const XFS_IOC_FSGEOMETRY: Reads<XfsGeometry> = Reads(0x8100_587e, PhantomData);
pub(crate) const XFS_IOC_FSGROWFSDATA: Writes<XfsGrowData> = Writes(0x4010_586e, PhantomData);
pub(crate) const BTRFS_IOC_RESIZE: Writes<BtrfsArguments> = Writes(0x5000_9403, PhantomData);
pub(crate) const LOOP_CLR_FD: Plain = Plain(0x4c01);
pub(crate) const LOOP_CONFIGURE: Writes<LoopConfig> = Writes(0x4c0a, PhantomData);
pub(crate) const LOOP_CTL_GET_FREE: Plain = Plain(0x4c82);

/// `struct blkpg_partition` of <linux/blkpg.h>.
#[repr(C)]
pub(crate) struct BlkpgPartition {
    pub(crate) start: i64,  // bytes
    pub(crate) length: i64, // bytes
    pub(crate) number: libc::c_int,
    pub(crate) device_name: [u8; 64], // ignored by the kernel
    pub(crate) volume_name: [u8; 64], // ignored by the kernel
}
const _: () = assert!(size_of::<BlkpgPartition>() == 152);

/// `struct blkpg_ioctl_arg`; made only by `blkpg`, which keeps the pointer valid during the call.
#[repr(C)]
pub(crate) struct BlkpgArg {
    op: libc::c_int,
    flags: libc::c_int,
    data_len: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
pub(crate) struct LoopInfo {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) number: u32,
    pub(crate) encrypt_type: u32,
    pub(crate) encrypt_key_size: u32,
    pub(crate) flags: u32,
    pub(crate) file_name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
    pub(crate) encrypt_key: [u8; 32],
    pub(crate) init: [u64; 2],
}
const _: () = assert!(size_of::<LoopInfo>() == 232);

/// `struct loop_config`.
#[repr(C)]
pub(crate) struct LoopConfig {
    pub(crate) fd: u32,
    pub(crate) block_size: u32,
    pub(crate) info: LoopInfo,
    pub(crate) reserved: [u64; 8],
}
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// `struct xfs_fsop_geom` of version 5, of which the first fields are used.
#[repr(C)]
#[derive(Default)]
pub(crate) struct XfsGeometry {
    pub(crate) block_bytes: u32,
    pub(crate) before: [u32; 6], // up to the size of inodes
    pub(crate) most_inodes_percent: u32,
    pub(crate) data_blocks: u64,
    pub(crate) rest: [u64; 27],
}
const _: () = assert!(size_of::<XfsGeometry>() == 256);

/// `struct xfs_growfs_data`.
#[repr(C)]
pub(crate) struct XfsGrowData {
    pub(crate) blocks: u64,
    pub(crate) most_inodes_percent: u32,
    pub(crate) padding: u32,
}
const _: () = assert!(size_of::<XfsGrowData>() == 16);

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub(crate) struct BtrfsArguments {
    pub(crate) fd: i64,
    pub(crate) name: [u8; 4088],
}
const _: () = assert!(size_of::<BtrfsArguments>() == 4096);

/// Integers: every bit pattern that the kernel may write is valid.
pub(crate) trait PlainInteger: Default {}
impl PlainInteger for XfsGeometry {}
impl PlainInteger for libc::c_int {}
impl PlainInteger for libc::c_uint {}
impl PlainInteger for u64 {}

/// Asks for one value.
pub(crate) fn read<T: PlainInteger>(fd: impl AsFd, op: &Reads<T>) -> io::Result<T> {
    let mut value = T::default();
    // SAFETY: the constants above pair the number with the type the kernel writes (this module upholds it); `value`
    // lives until the call returns, and any bit pattern is a valid integer.
    checked(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), op.0, &raw mut value) })?;
    Ok(value)
}

/// Hands over one value.
pub(crate) fn write<T>(fd: impl AsFd, op: &Writes<T>, value: &T) -> io::Result<()> {
    // SAFETY: the constants above pair the number with the type the kernel reads (this module upholds it), and
    // `value` outlives the call. A pointer inside (BlkpgArg) is valid because only `blkpg` makes that type.
    checked(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), op.0, std::ptr::from_ref(value)) }).map(drop)
}

/// Runs an ioctl that takes an integer (0 for none) and returns its result.
pub(crate) fn plain(fd: impl AsFd, op: &Plain, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: these numbers take no pointer, so the kernel touches no memory of ours.
    checked(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), op.0, argument) })
}

/// Runs the BLKPG operation `op` (1 add, 2 delete, 3 resize) on `partition`.
pub(crate) fn blkpg(fd: impl AsFd, op: libc::c_int, partition: &mut BlkpgPartition) -> io::Result<()> {
    let data_len = const { size_of::<BlkpgPartition>() as libc::c_int }; // 152, see the assertion above
    let argument = BlkpgArg { op, flags: 0, data_len, data: std::ptr::from_mut(partition) };
    write(fd, &BLKPG, &argument)
}
