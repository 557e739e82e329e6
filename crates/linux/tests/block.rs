//! Block devices, partitions without a table, mounts and busy detection on loop devices. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, TableImage};
use gravure_io::{ReadAt, WriteAt};
use gravure_linux::disks::{self, Roots, Use};
use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{self, HiddenMount, MountOptions};
use gravure_linux::{BlockDevice, Dir, Error, block, partition, process};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);
/// Held by tests that start programs, and by those that claim a device for themselves: a program that is just being started has everything open for a
/// moment that the others have.
static ALONE: Mutex<()> = Mutex::new(());

/// An image file of `mib` MiB as a loop device with sectors of `sector_bytes`.
fn loop_device(mib: u64, sector_bytes: u32) -> Option<(tempfile::TempDir, LoopDevice)> {
    if !process::is_root() {
        eprintln!("SKIPPED: loop devices need root");
        return None;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk.img");
    std::fs::File::create(&image).unwrap().set_len(mib * MIB).unwrap();
    let options = LoopOptions { sector_bytes, ..LoopOptions::default() };
    match LoopDevice::attach(&image, options) {
        Ok(device) => Some((temp, device)),
        Err(e) if e.io_kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: this kernel has no loop devices");
            None
        }
        Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e)),
    }
}

#[test]
fn states_the_facts_of_both_sector_sizes() {
    for sector_bytes in [512, 4096] {
        let Some((_temp, device)) = loop_device(8, sector_bytes) else { return };
        let disk = BlockDevice::open_read(device.path()).unwrap();
        let facts = disk.facts();
        assert_eq!(
            (facts.size_bytes, facts.logical_sector_bytes, facts.read_only),
            (8 * MIB, sector_bytes, false)
        );
        assert_eq!((disk.size(), disk.block_size()), (8 * MIB, sector_bytes));
        assert!(device.backing_file().unwrap().ends_with("disk.img"));
        let name = device.path().file_name().unwrap().to_str().unwrap().to_owned();
        let listed = disks::disk(&Roots::default(), &name).unwrap().unwrap();
        assert_eq!((listed.size_bytes, listed.logical_sector_bytes), (8 * MIB, sector_bytes));
        assert_eq!((listed.number, listed.transport), (facts.number, disks::Transport::Virtual));
        assert!(disks::disks(&Roots::default()).unwrap().iter().any(|disk| disk.name == name));
        drop(disk);
        device.detach().unwrap();
    }
}

#[test]
fn zeroing_is_exact_to_the_byte() {
    let Some((_temp, device)) = loop_device(8, 512) else { return };
    let disk = BlockDevice::open_rw(device.path()).unwrap();
    for (start, end) in
        [(0, 512), (1, 2), (511, 1025), (1000, 3_000_001), (512, 512), (4096, 8192), (8 * MIB - 3, 8 * MIB)]
    {
        disk.write_all_at(0, &vec![0xee; 8 << 20]).unwrap();
        disk.zero_range(start..end).unwrap();
        disk.sync().unwrap();
        disk.drop_cache().unwrap();
        let bytes = disk.read_vec_at(0, 8 << 20).unwrap();
        let wrong = (0u64..).zip(&bytes).find(|(at, byte)| (**byte == 0) != (start..end).contains(at));
        assert_eq!(wrong, None, "{start}..{end}");
    }
    assert!(disk.zero_range(8 * MIB - 1..8 * MIB + 1).is_err());
    disk.discard(0..8 * MIB).unwrap();
    disk.discard(100..200).unwrap();
    assert!(disk.write_all_at(8 * MIB - 1, &[1, 2]).is_err());
}

#[test]
fn direct_reading_gives_what_was_written_at_any_offset() {
    let Some((_temp, device)) = loop_device(8, 4096) else { return };
    let disk = BlockDevice::open_rw(device.path()).unwrap();
    let bytes: Vec<u8> = (0..8u32 << 20).map(|at| (at % 65521 % 251) as u8).collect();
    disk.write_all_at(0, &bytes).unwrap();
    disk.sync().unwrap();
    let direct = match BlockDevice::open_direct(device.path()) {
        Ok(direct) => direct,
        Err(e) => panic!("{e}"),
    };
    for (offset, len) in [(0, 1), (1, 4096), (4095, 2), (12345, 3 << 20), (8 * MIB - 1, 1), (100, 0)] {
        let at = usize::try_from(offset).unwrap();
        assert!(direct.read_vec_at(offset, len).unwrap() == bytes[at..at + len], "{offset} {len}");
    }
    let mut buf = [0; 2];
    let error = direct.read_exact_at(8 * MIB - 1, &mut buf).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn refuses_what_is_no_block_device() {
    let temp = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(BlockDevice::open_read(temp.path()), Err(Error::Refused { .. })));
    let absent = BlockDevice::open_read(Path::new("/dev/no-such-disk")).unwrap_err();
    assert_eq!(absent.errno(), Some(2));
}

fn layout(device: &BlockDevice) -> Layout {
    let facts = device.facts();
    let shape = DiskShape { size_bytes: facts.size_bytes, sector_bytes: facts.logical_sector_bytes };
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.into() };
    let requests = [
        request(Role::Esp, PartitionSize::Bytes(8 * MIB), "esp"),
        request(Role::LinuxRoot, PartitionSize::Rest { at_least: MIB }, "root"),
    ];
    Layout::compute(shape, &Identity::new([9; 32]), &requests).unwrap()
}

/// Whether this kernel sees what sgdisk writes. Puts sgdisk's table on the disk.
fn reads_gpt(disk: &BlockDevice, path: &Path) -> bool {
    partition::delete_all(disk).unwrap();
    let made = std::process::Command::new("sgdisk").args(["-Z", "-n", "1:0:0"]).arg(path).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: sgdisk is missing, or cannot write this disk");
        return false;
    }
    disk.reread_table().unwrap();
    let seen = !ranges(disk).is_empty();
    if !seen {
        eprintln!("SKIPPED: this kernel reads no GPT");
    }
    seen
}

fn ranges(disk: &BlockDevice) -> Vec<(u32, std::ops::Range<u64>)> {
    partition::known(disk).unwrap().into_iter().map(|known| (known.number, known.range)).collect()
}

#[test]
fn partitions_exist_before_the_table_does_and_the_table_says_the_same() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for sector_bytes in [512, 4096] {
        let Some((temp, device)) = loop_device(64, sector_bytes) else { return };
        let disk = BlockDevice::open_exclusive(device.path()).unwrap();
        let layout = layout(&disk);
        for wanted in &layout.partitions {
            partition::add(&disk, wanted.number, wanted.range.clone()).unwrap();
        }
        let wanted: Vec<_> = layout.partitions.iter().map(|p| (p.number, p.range.clone())).collect();
        assert_eq!(ranges(&disk), wanted);
        let overlap = partition::add(&disk, 3, wanted[0].1.clone()).unwrap_err();
        assert_eq!(overlap.errno(), Some(16), "{overlap}"); // EBUSY
        let known = partition::known(&disk).unwrap();
        drop(disk);

        // A file system on the second one, mounted: the disk is busy and says why.
        let node = known[1].device();
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&node).status();
        assert!(made.unwrap().success());
        let target = temp.path().join("mnt");
        std::fs::create_dir(&target).unwrap();
        let options = MountOptions { no_atime: true, no_dev: true, ..MountOptions::default() };
        mount::mount(node.as_os_str(), &target, "ext4", options).unwrap();
        assert!(mount::is_mounted_at(&target).unwrap());
        assert_eq!(BlockDevice::open_exclusive(device.path()).unwrap_err().errno(), Some(16));
        let name = device.path().file_name().unwrap().to_str().unwrap().to_owned();
        let listed = disks::disk(&Roots::default(), &name).unwrap().unwrap();
        let uses = disks::uses(&Roots::default(), &listed).unwrap();
        assert_eq!(uses, [Use::Mounted { device: known[1].name.clone(), target: target.clone() }]);

        std::fs::write(target.join("file"), b"kept").unwrap();
        Dir::open_root(&target).unwrap().sync_volume().unwrap();
        mount::remount_read_only(&target).unwrap();
        assert!(std::fs::write(target.join("other"), b"x").is_err());
        mount::unmount(&target).unwrap();
        assert!(!mount::is_mounted_at(&target).unwrap());

        // Now the table; the kernel reads from it what it was told before.
        let disk = BlockDevice::open_exclusive(device.path()).unwrap();
        let table = TableImage::new(&layout, None);
        table.write(&disk).unwrap();
        disk.drop_cache().unwrap();
        table.verify(&disk).unwrap();
        if reads_gpt(&disk, device.path()) {
            table.write(&disk).unwrap();
            disk.reread_table().unwrap();
            assert_eq!(ranges(&disk), wanted, "sectors of {sector_bytes}");
        }

        partition::delete_all(&disk).unwrap();
        for (number, range) in &wanted {
            partition::add(&disk, *number, range.clone()).unwrap();
        }
        partition::resize(&disk, 2, wanted[1].1.start..wanted[1].1.end - MIB).unwrap();
        assert_eq!(ranges(&disk)[1].1.end, wanted[1].1.end - MIB);
        partition::delete_all(&disk).unwrap();
        assert_eq!(ranges(&disk), []);
        assert_eq!(partition::delete(&disk, 1).unwrap_err().errno(), Some(6)); // ENXIO
    }
}

#[test]
fn a_write_protected_device_is_not_opened_for_writing() {
    let Some((temp, device)) = loop_device(4, 512) else { return };
    let disk = BlockDevice::open_rw(device.path()).unwrap();
    disk.write_all_at(1234, b"through the loop").unwrap();
    disk.sync().unwrap();
    block::sync_all();
    block::drop_caches().unwrap();
    assert_eq!(disk.read_vec_at(1234, 16).unwrap(), b"through the loop");
    let read_only = LoopOptions { read_only: true, ..LoopOptions::default() };
    let image = temp.path().join("disk.img");
    let second = LoopDevice::attach(&image, read_only).unwrap();
    assert!(BlockDevice::open_read(second.path()).unwrap().facts().read_only);
    assert_eq!(
        BlockDevice::open_rw(second.path()).unwrap_err().io_kind(),
        std::io::ErrorKind::PermissionDenied
    );
}

/// A program with a copy of everything that is mounted now; it ends when this is dropped.
struct OtherNamespace(std::process::Child);

impl OtherNamespace {
    fn new() -> Option<Self> {
        let mut child = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", "echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Some(Self(child))
    }
}

impl Drop for OtherNamespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_hidden_mount_is_copied_into_no_namespace_and_released_for_all() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((temp, device)) = loop_device(64, 512) else { return };
    let made = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(device.path()).status();
    assert!(made.unwrap().success());
    let is_free = || match BlockDevice::open_exclusive(device.path()) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.errno(), Some(16), "{error}");
            false
        }
    };
    // What every other mount is like: unmounted here, and still in use.
    let target = temp.path().join("mnt");
    std::fs::create_dir(&target).unwrap();
    mount::mount(device.path().as_os_str(), &target, "ext4", MountOptions::default()).unwrap();
    let Some(other) = OtherNamespace::new() else {
        eprintln!("SKIPPED: unshare(1) is missing");
        mount::unmount(&target).unwrap();
        return;
    };
    mount::unmount(&target).unwrap();
    assert!(!is_free());
    drop(other);
    // Without a parent the mounts of a namespace that has ended go a moment later.
    let none = HiddenMount::new(device.path().as_os_str(), "ext4", MountOptions::default()).unwrap();
    none.release(device.path(), PATIENCE).unwrap();

    let options = MountOptions {
        no_atime: true,
        no_dev: true,
        data: "data=ordered,nodelalloc",
        ..MountOptions::default()
    };
    let hidden = HiddenMount::new(device.path().as_os_str(), "ext4", options).unwrap();
    let path = hidden.path().join("file");
    std::fs::write(&path, b"content").unwrap();
    let seen = std::process::Command::new("cat").arg(&path).output().unwrap();
    assert_eq!(seen.stdout, b"content");
    let _other = OtherNamespace::new().unwrap();
    assert!(!is_free());
    hidden.release(device.path(), Duration::ZERO).unwrap();
    assert!(is_free() && !path.exists());

    // Read-only, and kept by an open file.
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    let hidden = HiddenMount::new(device.path().as_os_str(), "ext4", options).unwrap();
    let path = hidden.path().join("file");
    let refused = std::fs::write(&path, b"x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let mut file = std::fs::File::open(&path).unwrap();
    let busy = hidden.release(device.path(), Duration::from_millis(50)).unwrap_err();
    assert_eq!((busy.errno(), busy.to_string()), (Some(16), format!("unmount {}", device.path().display())));
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    drop(file);
    assert!(is_free());

    let unknown =
        HiddenMount::new(device.path().as_os_str(), "nosuchfs", MountOptions::default()).unwrap_err();
    assert_eq!(unknown.errno(), Some(19), "{unknown}"); // ENODEV
    assert_eq!(mount::needs_driver("nosuchfs").unwrap_err().errno(), Some(19));
    mount::needs_driver("ext4").unwrap();
    let options = MountOptions { data: "nosuchoption", ..MountOptions::default() };
    let unknown = HiddenMount::new(device.path().as_os_str(), "ext4", options).unwrap_err();
    assert_eq!(unknown.errno(), Some(22), "{unknown}"); // EINVAL
}
