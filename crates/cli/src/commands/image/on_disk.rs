//! A system on a disk or volume that nobody has mounted, for `gravure image service`.
//!
//! What is looked at beforehand is read by our own code; what is written goes through a file system that keeps its own journal, on a mount that
//! ends with the command: the kernel's, for NTFS also ntfs-3g where the kernel has no ntfs3. Our NTFS code lays volumes out and grows them; it does
//! not change files in one that is in use, and a second writer beside Windows' own rules would be the least tested way to lose a system. So where nothing can mount the volume it is
//! refused, with what to do. NTFS is checked before and after.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gravure_disk::Table;
use gravure_fsmap::{Kind, probe};
use gravure_imaging::{ErrorKind, PartialTree, Strictness, Which, check_volume};
use gravure_io::{FileAt, Window};
use gravure_linux::BlockDevice;
use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, MountOptions};
use gravure_model::Ctl;

use crate::exit::{Failure, chain};

/// Start of WIM files, which are no disks.
const WIM: &[u8] = b"MSWIM\0\0\0";
/// Sector size where a file does not say.
const SECTOR_BYTES: u32 = 512;
const NTFS3: &str = "ntfs3";
const NTFS_3G: &str = "ntfs-3g";
/// How long a program that mounted a volume may hold it after it is unmounted.
const RELEASE: Duration = Duration::from_secs(10);

/// A volume with a system.
#[derive(Debug)]
pub(super) struct Volume {
    /// Device or file.
    path: PathBuf,
    /// Which part of the file; all of it when `None`.
    range: Option<Range<u64>>,
    kind: Kind,
    /// For messages.
    pub(super) name: String,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Change,
}

/// The volume that is meant; `None` when the file is neither a volume nor a disk.
pub(super) fn find(path: &Path, which: &Which) -> Result<Option<Volume>, Failure> {
    let shown = path.display();
    let Ok(facts) = std::fs::metadata(path) else { return Ok(None) };
    let is_device = facts.file_type().is_block_device();
    if !is_device && (!facts.is_file() || starts_with_wim(path)) {
        return Ok(None);
    }
    let device = FileAt::open(path).map_err(|error| Failure::io("open", path, &error))?;
    if let Ok(Some(kind)) = gravure_vdisk::Kind::of(&device) {
        let message = format!("{shown}: a system in a virtual disk ({kind:?}) is not serviced where it is");
        return Err(Failure::new(ErrorKind::Unsupported, message).with_cure(
            "show it as a disk (qemu-nbd --connect /dev/nbd0) and name the partition's device, or make it a raw file (qemu-img convert)",
        ));
    }
    let whole = probe(&device).map_or(Kind::Unknown, |found| found.kind);
    if is_serviced(whole) {
        if *which != Which::Only {
            let message = format!("{shown} is one volume, which has no parts to choose from");
            return Err(Failure::new(ErrorKind::Usage, message).with_cure("leave out the number"));
        }
        let name = shown.to_string();
        return Ok(Some(Volume { path: path.to_owned(), range: None, kind: whole, name }));
    }
    let parts = match Table::read(&device, SECTOR_BYTES) {
        Ok(table) => partitions(&table),
        Err(_) => Vec::new(),
    };
    if is_device {
        let what = if parts.is_empty() { "holds no file system that is serviced" } else { "is a whole disk" };
        return Err(Failure::new(ErrorKind::NotFound, format!("{shown} {what}")).with_cure(
            "name the device of the partition with the system, e.g. /dev/sda3: `lsblk -f` lists them",
        ));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let device = Arc::new(device);
    let mut found = Vec::new();
    for (number, range) in parts {
        let window = Window::new(Arc::clone(&device), range.start, range.end.saturating_sub(range.start));
        let kind = probe(&window).map_or(Kind::Unknown, |found| found.kind);
        let name = format!("{shown}, partition {number}");
        if is_serviced(kind) {
            let has_windows =
                kind == Kind::Ntfs && matches!(gravure_windows::installed_on(&window, &name), Ok(Some(_)));
            let volume = Volume { path: path.to_owned(), range: Some(range), kind, name };
            found.push((number, has_windows, volume));
        }
    }
    choose(&shown.to_string(), which, found).map(Some)
}

/// The partition that is named; else the only one with a Windows, or the only one at all.
fn choose(shown: &str, which: &Which, mut found: Vec<(u32, bool, Volume)>) -> Result<Volume, Failure> {
    let numbers: Vec<String> = found.iter().map(|(number, ..)| number.to_string()).collect();
    match which {
        Which::Number(wanted) => found.retain(|(number, ..)| number == wanted),
        Which::Name(_) => found.clear(),
        Which::Only if found.iter().any(|(_, has_windows, _)| *has_windows) => {
            found.retain(|(_, has_windows, _)| *has_windows);
        }
        Which::Only => {}
    }
    if let (Some((_, _, volume)), true) = (found.pop(), found.is_empty()) {
        return Ok(volume);
    }
    let message = match numbers.as_slice() {
        [] => format!("{shown}: no partition has a file system that is serviced"),
        numbers => {
            format!("{shown}: which partition is meant is not clear; serviced can be {}", numbers.join(", "))
        }
    };
    Err(Failure::new(ErrorKind::NotFound, message).with_cure(format!("name one by its number: {shown}:2")))
}

fn is_serviced(kind: Kind) -> bool {
    kind == Kind::Ntfs || linux_type(kind).is_some()
}

/// Type to mount a file system of Linux as, with the options that keep a read from writing.
fn linux_type(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => Some(("ext4", "noload")),
        Kind::Xfs => Some(("xfs", "norecovery,nouuid")),
        Kind::Btrfs => Some(("btrfs", "")),
        _ => None,
    }
}

fn starts_with_wim(path: &Path) -> bool {
    let mut start = [0; WIM.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == WIM
}

/// Numbers and bytes of the partitions.
fn partitions(table: &Table) -> Vec<(u32, Range<u64>)> {
    let bytes = |first: u64, count: u64, sector: u32| {
        let start = first.checked_mul(u64::from(sector))?;
        Some(start..start.checked_add(count.checked_mul(u64::from(sector))?)?)
    };
    match table {
        Table::Gpt { gpt, sector_bytes, .. } => {
            let entries = gpt.entries.iter().filter_map(|entry| {
                let count = entry.last_lba.checked_sub(entry.first_lba)?.checked_add(1)?;
                Some((entry.number, bytes(entry.first_lba, count, *sector_bytes)?))
            });
            entries.collect()
        }
        Table::Mbr(mbr) => {
            let entries = mbr.entries.iter().filter_map(|entry| {
                Some((entry.number, bytes(entry.first_lba, entry.sectors, SECTOR_BYTES)?))
            });
            entries.collect()
        }
        _ => Vec::new(),
    }
}

impl Volume {
    /// Of NTFS, what can be looked at without a mount.
    pub(super) fn tree(&self) -> Result<Option<PartialTree>, Failure> {
        if self.kind != Kind::Ntfs {
            return Ok(None);
        }
        let file = FileAt::open(&self.path).map_err(|error| Failure::io("open", &self.path, &error))?;
        let range = self.range.clone().unwrap_or(0..gravure_io::ReadAt::size(&file));
        let window = Window::new(Arc::new(file), range.start, range.end.saturating_sub(range.start));
        let tree = PartialTree::of_volume(Box::new(window), &self.name)?;
        if let Some(why) = tree.unclean() {
            return Err(Failure::new(ErrorKind::Refused, format!("{}: the volume is {why}", self.name))
                .with_cure(
                    "start its Windows and shut it down wholly: shutdown /s /t 0, without fast startup",
                ));
        }
        Ok(Some(tree))
    }

    /// Mounts it on a directory of its own.
    pub(super) fn mount(&self, access: Access, ctl: &Ctl) -> Result<Mounted, Failure> {
        drop(self.tree()?);
        let piece = match &self.range {
            None if is_block_device(&self.path) => None,
            range => Some(self.attach(range.as_ref(), access)?),
        };
        let device = piece.as_ref().map_or_else(|| self.path.clone(), |piece| piece.path().to_owned());
        let busy = |error: gravure_linux::Error| {
            Failure::new(ErrorKind::Refused, format!("{}: {}", self.name, chain(&error)))
                .with_cure("unmount it; a volume that is mounted is serviced by the directory where it is")
        };
        if access == Access::Change {
            drop(BlockDevice::open_exclusive(&device).map_err(busy)?);
        }
        if self.kind == Kind::Ntfs {
            check(&device, &self.name, "before anything was changed", ctl)?;
        }
        let directory = tempfile::Builder::new()
            .prefix("gravure-service-")
            .tempdir()
            .map_err(|error| Failure::io("make a directory in", &std::env::temp_dir(), &error))?;
        match linux_type(self.kind) {
            Some((fs_type, reading)) => {
                let read_only = access == Access::Read;
                let data = match (read_only, self.kind) {
                    (true, _) => reading,
                    (false, Kind::Xfs) => "nouuid",
                    (false, _) => "",
                };
                let options = MountOptions { read_only, data, ..MountOptions::default() };
                mount::mount(device.as_os_str(), directory.path(), fs_type, options)
                    .map_err(|error| self.cannot_mount(&chain(&error)))?;
            }
            None => self.mount_ntfs(&device, directory.path())?,
        }
        Ok(Mounted { directory: Some(directory), device, piece, kind: self.kind, name: self.name.clone() })
    }

    fn attach(&self, range: Option<&Range<u64>>, access: Access) -> Result<LoopDevice, Failure> {
        if let Some(device) = other_loop(&self.path) {
            let message = format!("{}: the file is in use as {device}", self.path.display());
            return Err(Failure::new(ErrorKind::Refused, message)
                .with_cure("unmount it; a volume that is mounted is serviced by the directory where it is"));
        }
        let range = range.cloned().unwrap_or(0..0);
        let options = LoopOptions {
            read_only: access == Access::Read,
            partitions: false,
            offset: range.start,
            size_bytes: range.end.saturating_sub(range.start),
            ..LoopOptions::default()
        };
        LoopDevice::attach(&self.path, options).map_err(|error| self.cannot_mount(&chain(&error)))
    }

    /// By the kernel, or by ntfs-3g where it cannot.
    fn mount_ntfs(&self, device: &Path, directory: &Path) -> Result<(), Failure> {
        let by_kernel = mount::mount(device.as_os_str(), directory, NTFS3, MountOptions::default());
        let Err(error) = by_kernel else { return Ok(()) };
        let other = Command::new(NTFS_3G).args(["-o", "permissions"]).arg(device).arg(directory).output();
        let why = match other {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => format!("{NTFS_3G}: {}", String::from_utf8_lossy(&output.stderr).trim()),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
                format!("{NTFS_3G} is not installed")
            }
            Err(other) => format!("{NTFS_3G}: {other}"),
        };
        Err(self.cannot_mount(&format!("{}; {why}", chain(&error))))
    }

    fn cannot_mount(&self, why: &str) -> Failure {
        let message = format!("{} cannot be mounted, so nothing was changed: {why}", self.name);
        let cure = match self.kind {
            Kind::Ntfs => {
                "run it as root on a Linux with ntfs3 (5.15 and later: modprobe ntfs3) or ntfs-3g; or service an image of it: gravure capture \
                 DEVICE x.wim, gravure image service x.wim:1 -o y.wim, gravure apply y.wim:1 DEVICE"
            }
            _ => "run it as root on a Linux that knows this file system, or service an image of it",
        };
        Failure::new(ErrorKind::Unsupported, message).with_cure(cure)
    }
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.file_type().is_block_device())
}

/// The loop device that has this file already.
fn other_loop(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let devices = std::fs::read_dir("/sys/block").ok()?.filter_map(Result::ok);
    let mut with_file = devices.filter(|device| {
        let behind = std::fs::read_to_string(device.path().join("loop/backing_file"));
        behind.is_ok_and(|behind| Path::new(behind.trim_end_matches('\n')) == path)
    });
    with_file.next().map(|device| format!("/dev/{}", device.file_name().to_string_lossy()))
}

/// Refuses a volume whose structure is not sound.
fn check(device: &Path, name: &str, when: &str, ctl: &Ctl) -> Result<(), Failure> {
    let mut first = None;
    let mut each = |finding: &gravure_imaging::Finding| {
        if finding.severity == gravure_imaging::Severity::Error {
            first.get_or_insert_with(|| finding.to_string());
        }
    };
    check_volume(device, Strictness::Usual, &mut each, ctl)?;
    match first {
        None => Ok(()),
        Some(finding) => {
            let message = format!("{name}: {when} its structure is not sound: {finding}");
            Err(Failure::new(ErrorKind::Integrity, message)
                .with_cure("`gravure ntfs check` lists everything; let Windows repair it: chkdsk /f"))
        }
    }
}

/// A volume that is mounted until this goes.
#[derive(Debug)]
pub(super) struct Mounted {
    directory: Option<tempfile::TempDir>,
    device: PathBuf,
    piece: Option<LoopDevice>,
    kind: Kind,
    name: String,
}

impl Mounted {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }

    /// Ends it, with everything on the medium, and looks at what a changed volume is like.
    pub(super) fn finish(mut self, access: Access, ctl: &Ctl) -> Result<(), Failure> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            Failure::new(ErrorKind::Io, format!("{}: {what}: {}", self.name, chain(error)))
        };
        if let Some(directory) = self.directory.take()
            && let Err(error) = mount::unmount(directory.path())
        {
            let failure = failed("it cannot be unmounted", &error);
            self.directory = Some(directory);
            return Err(failure);
        }
        if access == Access::Change && self.kind == Kind::Ntfs {
            wait_for_release(&self.device);
            check(&self.device, &self.name, "after it was changed", ctl)?;
        }
        if let Some(piece) = self.piece.take() {
            piece.detach().map_err(|error| failed("its loop device stays", &error))?;
        }
        Ok(())
    }
}

/// ntfs-3g lets go of the device a moment after the unmounting; what holds it for longer is told by who opens it next.
fn wait_for_release(device: &Path) {
    let start = Instant::now();
    while BlockDevice::open_exclusive(device).is_err() && start.elapsed() < RELEASE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        if mount::unmount(directory.path()).is_err() && mount::detach(directory.path()).is_err() {
            // Removing the directory would remove what is mounted there.
            let _ = directory.keep();
        }
    }
}
