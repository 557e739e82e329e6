//! Whoever names a disk or its partitions learns the new names: systems in volumes of LVM and subvolumes of Btrfs, boot stores and letters of
//! Windows on disks with an MBR; what cannot be searched is told. And how small a disk may be is known before there is one.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use gravure_disk::{Table, TableImage};
use gravure_hive::bcd::Device;
use gravure_imaging::{
    BlockImage, BlockSource, FileSystemKind, FitOptions, FitPlan, FitReport, FittedPartition, Growth,
    VolumeDevice, finish_file_systems, least_disk_bytes,
};
use gravure_io::{FileAt, MemoryDisk, ReadAt, Window, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_ntfs::Volume;
use gravure_testkit::{Fault, MountedFile, skipped};

use crate::block_fit::{Lab, Sectors, can_shrink_ext, capture, have, options, run, tool};
use crate::windows::{self, Builder};

const MIB: u64 = 1 << 20;
const OLD: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const NEW: &str = "11111111-2222-3333-4444-555555555555";

fn renamed() -> Vec<(String, String)> {
    vec![(OLD.to_owned(), NEW.to_owned())]
}

fn fstab(id: &str, kind: &str) -> String {
    format!("PARTUUID={id} / {kind} defaults 0 1\n")
}

/// Whether file systems can be mounted here.
fn can_mount() -> bool {
    let can = gravure_linux::process::is_root() && Path::new("/dev/loop-control").exists();
    if !can {
        skipped("mounting needs root and loop devices");
    }
    can
}

fn whole(path: &Path, content: FileSystemKind) -> FittedPartition {
    let size = std::fs::metadata(path).unwrap().len();
    FittedPartition { number: 0, content, from: 0..size, to: 0..size, grows: false }
}

#[test]
fn systems_in_lvm_learn_new_names_and_scattered_ones_are_told() {
    if !can_mount() || !have(&["mke2fs", "e2fsck", "debugfs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, volume, pv) = (dir.path().join("tree"), dir.path().join("volume"), dir.path().join("pv"));
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/fstab"), fstab(OLD, "ext4")).unwrap();
    std::fs::File::create(&volume).unwrap().set_len(40 * MIB).unwrap();
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&volume));
    let content = std::fs::read(&volume).unwrap();
    let (forward, backward): (Vec<u64>, Vec<u64>) = ((50..90).collect(), (0..40).rev().collect());
    let volumes = [("root", &content[..], &forward[..]), ("old", &content, &backward)];
    std::fs::File::create(&pv).unwrap().set_len(200 * MIB).unwrap();
    let device = FileAt::open_rw(&pv).unwrap();
    for (offset, bytes) in gravure_testkit::lvm::physical_volume(200, &volumes, "") {
        device.write_all_at(offset, &bytes).unwrap();
    }
    drop(device);
    let finished = finish_file_systems(&pv, &[whole(&pv, FileSystemKind::Lvm)], &renamed()).unwrap();
    assert_eq!(finished.changed, [(0, "etc/fstab".to_owned())], "{finished:?}");
    let told = "ext4 on vg0/old on the volume does not lie in one piece: it was not searched for the old identifiers";
    assert_eq!(finished.undone, [told]);
    let device = FileAt::open(&pv).unwrap();
    let found = device.read_vec_at(51 * MIB, content.len()).unwrap();
    std::fs::write(&volume, found).unwrap();
    run(tool("e2fsck").arg("-fn").arg(&volume));
    let text = run(tool("debugfs").args(["-R", "cat /etc/fstab"]).arg(&volume));
    assert_eq!(text, fstab(NEW, "ext4"));
}

#[test]
fn every_subvolume_learns_new_names_and_snapshots_that_cannot_are_told() {
    if !can_mount() || !have(&["mkfs.btrfs", "btrfs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    std::fs::File::create(&volume).unwrap().set_len(128 * MIB).unwrap();
    run(tool("mkfs.btrfs").arg("-q").arg(&volume));
    let mounted = MountedFile::new(&volume, "").unwrap();
    let root = mounted.root.join("@rootfs");
    run(tool("btrfs").args(["subvolume", "create"]).arg(&root));
    std::fs::create_dir(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/fstab"), fstab(OLD, "btrfs")).unwrap();
    run(tool("btrfs").args(["subvolume", "snapshot", "-r"]).arg(&root).arg(mounted.root.join("before")));
    drop(mounted);
    let finished =
        finish_file_systems(&volume, &[whole(&volume, FileSystemKind::Btrfs)], &renamed()).unwrap();
    assert_eq!(finished.changed, [(0, "@rootfs/etc/fstab".to_owned())], "{finished:?}");
    let [told] = finished.undone.as_slice() else { panic!("{finished:?}") };
    assert!(told.starts_with("Btrfs on the volume: before/etc/fstab names an old identifier: "), "{told}");
    let mounted = MountedFile::new(&volume, "ro").unwrap();
    let text = std::fs::read_to_string(mounted.root.join("@rootfs/etc/fstab")).unwrap();
    assert_eq!(text, fstab(NEW, "btrfs"));
}

#[test]
fn what_cannot_be_searched_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    std::fs::File::create(&path).unwrap().set_len(MIB).unwrap();
    if !can_mount() {
        return;
    }
    let finished = finish_file_systems(&path, &[whole(&path, FileSystemKind::Luks2)], &renamed()).unwrap();
    let told = "LUKS2 on the volume is encrypted: it was not searched for the old identifiers";
    assert_eq!(finished.undone, [told]);
    let none = finish_file_systems(&path, &[whole(&path, FileSystemKind::Luks2)], &[]).unwrap();
    assert_eq!(none, gravure_imaging::FinishReport::default());
}

const SIGNATURE: u32 = 0x1122_3344;
const VOLUME_BYTES: u64 = 40 * MIB;
const START: u64 = 8 * MIB;

fn letter(signature: u32, offset: u64) -> Vec<u8> {
    [&signature.to_le_bytes()[..], &offset.to_le_bytes()].concat()
}

/// A hive with a partition as boot stores name it, and as letters do.
pub(crate) fn hive(is_clean: bool, signature: u32, offset: u64) -> Vec<u8> {
    let mut out = b"regf\x01\0\0\0".to_vec();
    out.extend([u8::from(is_clean), 0, 0, 0]);
    out.resize(9000, 7);
    let device = Device::Mbr { signature, offset }.to_bytes().unwrap();
    out[4090..4090 + device.len()].copy_from_slice(&device);
    out[6000..6012].copy_from_slice(&letter(signature, offset));
    out
}

/// A disk with an MBR whose one partition is NTFS with a boot store.
fn windows_disk(is_clean: bool) -> BlockImage {
    let mut builder = Builder::new(2);
    let root = builder.tree.root();
    let mut place = |path: &[&str]| path.iter().fold(root, |at, name| builder.directory(at, name));
    let (boot, config) = (place(&["Boot"]), place(&["Windows", "System32", "config"]));
    builder.file(boot, "BCD", &hive(is_clean, SIGNATURE, START));
    builder.file(config, "SYSTEM", &hive(true, SIGNATURE, START));
    let options =
        gravure_ntfs::VolumeOptions { hidden_sectors: START / 512, ..windows::options(VOLUME_BYTES) };
    let volume = windows::volume(&builder.tree, &options).0;
    let size = START + VOLUME_BYTES + 4 * MIB;
    let mut disk = vec![0; usize::try_from(size).unwrap()];
    disk[440..444].copy_from_slice(&SIGNATURE.to_le_bytes());
    disk[446..450].copy_from_slice(&[0x80, 0, 2, 0]);
    disk[450] = 7;
    disk[454..458].copy_from_slice(&u32::try_from(START / 512).unwrap().to_le_bytes());
    disk[458..462].copy_from_slice(&u32::try_from(VOLUME_BYTES / 512).unwrap().to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let at = usize::try_from(START).unwrap();
    disk[at..at + volume.len()].copy_from_slice(&volume);
    capture(BlockSource::new(Box::new(MemoryDisk::from_bytes(disk)), "disk", 512))
}

fn fit(image: &BlockImage, device: &dyn VolumeDevice, identity: Option<[u8; 32]>) -> FitReport {
    let how = FitOptions { growth: Growth::None, identity };
    let plan = FitPlan::new(image, device, &how).unwrap();
    plan.apply(image, device, &options(), &Ctl::default(), &Silent).unwrap()
}

#[test]
fn windows_on_an_mbr_is_found_by_its_boot_store_under_a_new_signature_and_at_a_new_place() {
    let image = windows_disk(true);
    // As large, and so much smaller that the partition moves.
    for (size, start) in [(image.root().size, START), (image.root().size - 8 * MIB, START - 4 * MIB)] {
        let device = Sectors::new(size, 512, u64::MAX, Fault::Fail);
        let report = fit(&image, &device, Some([9; 32]));
        let Table::Mbr(mbr) = Table::read(&device, 512).unwrap() else { panic!("no MBR") };
        assert_ne!(mbr.disk_signature, SIGNATURE);
        assert_eq!(report.partitions[0].to.start, start);
        assert_eq!(report.undone, Vec::<String>::new());
        let files = ["Boot/BCD", "Windows/System32/config/SYSTEM"];
        assert_eq!(report.changed, files.map(|path| (1, path.to_owned())));
        let window = Window::new(&device, start, VOLUME_BYTES);
        let volume = Volume::open(&window).unwrap();
        for path in files {
            let found = volume.read_file(&window, path, MIB).unwrap().unwrap();
            assert!(found == hive(true, mbr.disk_signature, start), "{path} at {start:#x}");
        }
    }
    // Nothing is looked for where nothing has another name.
    let device = Sectors::new(image.root().size, 512, u64::MAX, Fault::Fail);
    let report = fit(&image, &device, None);
    assert_eq!((report.changed, report.undone), (Vec::new(), Vec::new()));
}

#[test]
fn a_boot_store_that_was_not_left_in_order_is_told() {
    let image = windows_disk(false);
    let device = Sectors::new(image.root().size, 512, u64::MAX, Fault::Fail);
    let report = fit(&image, &device, Some([9; 32]));
    assert_eq!(report.changed, [(1, "Windows/System32/config/SYSTEM".to_owned())]);
    let [told] = report.undone.as_slice() else { panic!("{:?}", report.undone) };
    assert!(told.starts_with("partition 1: Boot/BCD was not left in order and is not changed"), "{told}");
}

#[test]
fn how_small_a_disk_may_be_is_known_before() {
    let Some(lab) = Lab::new() else { return };
    let image = lab.image();
    let least = least_disk_bytes(&image, &Ctl::default()).unwrap().unwrap();
    // 40 MiB and 8 MiB that stay as they are; files of some 3 MiB in a file system of 64.
    assert!((50 * MIB..86 * MIB).contains(&least), "{least}");
    if !can_shrink_ext() {
        return;
    }
    let judge = |size: u64| {
        let device = Sectors::new(size, 512, u64::MAX, Fault::Fail);
        FitPlan::new(&image, &device, &FitOptions::default()).map(drop)
    };
    judge(least).unwrap();
    assert!(judge(least - 2 * MIB).is_err(), "{least}");
    // Of a volume nobody asks.
    let volume = vec![0x5a; 1 << 20];
    let image = capture(BlockSource::new(Box::new(MemoryDisk::from_bytes(volume)), "volume", 512));
    assert_eq!(least_disk_bytes(&image, &Ctl::default()).unwrap(), None);
}

#[test]
fn file_systems_that_cannot_get_smaller_need_all_their_blocks() {
    let image = windows_disk(true);
    let least = least_disk_bytes(&image, &Ctl::default()).unwrap().unwrap();
    // NTFS is laid out anew in less.
    assert!(least < START + VOLUME_BYTES / 2, "{least}");
    let size = START + VOLUME_BYTES;
    let mut disk = vec![0; usize::try_from(size).unwrap()];
    if !have(&["mkfs.btrfs"]) {
        return;
    }
    // The kernel makes no Btrfs smaller than 256 MiB.
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    std::fs::File::create(&volume).unwrap().set_len(128 * MIB).unwrap();
    run(tool("mkfs.btrfs").arg("-q").arg(&volume));
    let content = std::fs::read(&volume).unwrap();
    disk.resize(content.len() + 3 * usize::try_from(MIB).unwrap(), 0);
    disk[usize::try_from(MIB).unwrap()..][..content.len()].copy_from_slice(&content);
    let request = gravure_disk::PartitionRequest {
        role: gravure_disk::Role::LinuxRoot,
        size: gravure_disk::PartitionSize::Bytes(128 * MIB),
        name: "p".into(),
    };
    let shape = gravure_disk::DiskShape { size_bytes: disk.len() as u64, sector_bytes: 512 };
    let identity = gravure_disk::Identity::new([1; 32]);
    let layout = gravure_disk::Layout::compute(shape, &identity, &[request]).unwrap();
    let disk = MemoryDisk::from_bytes(disk);
    TableImage::new(&layout, None).write(&disk).unwrap();
    let image = capture(BlockSource::new(Box::new(disk), "disk", 512));
    let least = least_disk_bytes(&image, &Ctl::default()).unwrap().unwrap();
    assert!((129 * MIB..=131 * MIB).contains(&least), "{least}");
}
