//! Partitions made known to the kernel without a table on the disk (`BLKPG`).
//!
//! The table is written last (DESIGN section 7), so that a disk whose apply was cut short never looks bootable; the
//! kernel learns the partitions from us instead. They live until the table is read anew or the machine restarts.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys::ioctl::{self, BlkpgPartition};
use crate::{BlockDevice, Error, sysfs};

/// How long a partition that is in use is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
const ADD: i32 = 1;
const DELETE: i32 = 2;
const RESIZE: i32 = 3;

/// Makes partition `number` (from 1) known at the byte `range` of `disk`. `EBUSY` when it overlaps another one.
pub fn add(disk: &BlockDevice, number: u32, range: Range<u64>) -> Result<(), Error> {
    run(disk, ADD, "add partition", number, range)
}

/// Changes the size of a known partition, also while it is mounted; the start must stay.
pub fn resize(disk: &BlockDevice, number: u32, range: Range<u64>) -> Result<(), Error> {
    run(disk, RESIZE, "resize partition", number, range)
}

/// Makes the kernel forget partition `number`; `EBUSY` while it is in use, `ENXIO` when it does not know it. Programs that look at new partitions
/// or are just being started have it open for a moment: two seconds are waited for them.
pub fn delete(disk: &BlockDevice, number: u32) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        match run(disk, DELETE, "delete partition", number, 0..0) {
            Err(error) if error.errno() == Some(libc::EBUSY) && start.elapsed() < PATIENCE => {
                std::thread::sleep(LOOK);
            }
            done => return done,
        }
    }
}

/// Makes the kernel forget all partitions of `disk`; fails at the first that is in use.
pub fn delete_all(disk: &BlockDevice) -> Result<(), Error> {
    for partition in known(disk)? {
        delete(disk, partition.number)?;
    }
    Ok(())
}

/// A partition as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPartition {
    /// Number, from 1.
    pub number: u32,
    /// Kernel name, e.g. `nvme0n1p2`.
    pub name: String,
    /// Place on the disk in bytes.
    pub range: Range<u64>,
}

impl KnownPartition {
    /// The device node that devtmpfs gives it.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// The partitions of `disk` that the kernel knows, by number.
pub fn known(disk: &BlockDevice) -> Result<Vec<KnownPartition>, Error> {
    let dir = PathBuf::from(format!("/sys/dev/block/{}", disk.facts().number));
    known_below(&dir)
}

/// The same from a disk's directory in sysfs.
pub(crate) fn known_below(dir: &Path) -> Result<Vec<KnownPartition>, Error> {
    let mut out = Vec::new();
    for name in sysfs::names(dir)? {
        let attribute = |leaf: &str| sysfs::number(&dir.join(&name).join(leaf));
        let Some(number) = attribute("partition").and_then(|number| u32::try_from(number).ok()) else {
            continue;
        };
        // sysfs counts in units of 512 bytes whatever the sector size.
        let (Some(start), Some(size)) = (attribute("start"), attribute("size")) else { continue };
        let start_bytes = start.saturating_mul(512);
        out.push(KnownPartition {
            number,
            name,
            range: start_bytes..start_bytes.saturating_add(size.saturating_mul(512)),
        });
    }
    out.sort_unstable_by_key(|partition| partition.number);
    Ok(out)
}

fn run(disk: &BlockDevice, op: i32, what: &'static str, number: u32, range: Range<u64>) -> Result<(), Error> {
    let bad = || Error::Unsupported {
        what: "partition",
        value: format!("{number} at {:#x}..{:#x}", range.start, range.end),
    };
    let signed = |value: u64| i64::try_from(value).map_err(|_| bad());
    let mut partition = BlkpgPartition {
        start: signed(range.start)?,
        length: signed(range.end.checked_sub(range.start).ok_or_else(bad)?)?,
        number: i32::try_from(number).map_err(|_| bad())?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    ioctl::blkpg(disk, op, &mut partition)
        .map_err(|e| Error::io(what, format!("{number} of {}", disk.path().display()), e))
}
