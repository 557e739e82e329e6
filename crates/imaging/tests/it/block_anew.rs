//! Volumes laid out anew out of images of their blocks: every file is there, whatever the target's size and sectors, and nothing that can be
//! mounted is ever incomplete.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::ops::Range;
use std::path::{Path, PathBuf};

use gravure_disk::fat::{FatBuilder, FatOptions, FatTime, FatVolume};
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, Table, TableImage};
use gravure_imaging::{
    Aspect, BlockImage, BlockSource, CaptureOptions, Compact, Compression, DiffOptions, Error, ErrorKind,
    ExistingData, FitOptions, FitPlan, FitReport, Growth, Side, VolumeApplyOptions, VolumeDevice, VolumeFile,
    apply_to_volume, apply_volume_anew, diff, finish_file_systems, is_laid_out_anew,
};
use gravure_io::{MemoryDisk, ReadAt, Window, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_ntfs::{CheckObserver, Finding, SectorSize, Severity, Strictness, Volume, VolumeOptions, check};
use gravure_nttypes::{FileAttributes, FileTime};
use gravure_testkit::{
    Fault, FaultyDisk, Operation, Random, RecordingDisk, Survives, full_run, oracle, seed,
};
use gravure_tree::Tree;

use crate::block_fit::{Sectors, can_shrink_ext, capture, have, options, run, table, tool};
use crate::common;
use crate::disk::Disk;
use crate::windows::{self, Builder, ZeroGuide, compare, file, noise, windows_tree};

const MIB: u64 = 1 << 20;

/// Code for BIOS machines, as captured ones have it: a jump, then anything.
fn boot_code() -> Box<[u8; 8192]> {
    let mut code = Box::new([0; 8192]);
    code.copy_from_slice(&noise(8192, 3));
    code[..3].copy_from_slice(&[0xeb, 0x52, 0x90]);
    code
}

/// What a checker says.
#[derive(Default)]
struct Findings(Vec<String>);

impl CheckObserver for Findings {
    fn finding(&mut self, finding: &Finding) {
        if finding.severity == Severity::Error {
            self.0.push(finding.to_string());
        }
    }
}

/// Everything that is found of a volume made by us, what matters of others.
fn findings(volume: &dyn ReadAt, strictness: Strictness) -> Vec<String> {
    let mut found = Findings::default();
    check(volume, strictness, &mut found).unwrap();
    found.0
}

/// The volume in `range` is sound and has exactly the files of `tree`.
fn check_volume(disk: &dyn ReadAt, range: &Range<u64>, tree: &Tree, strictness: Strictness) -> Volume {
    let window = Window::new(disk, range.start, range.end - range.start);
    assert_eq!(findings(&window, strictness), Vec::<String>::new());
    let (volume, scan) = compare::scan(&window);
    assert!(compare::compare(tree, &window, &volume, &scan) >= 5);
    volume
}

/// A system partition with two files.
fn esp(size_bytes: u64, sector_bytes: u32) -> (MemoryDisk, [(&'static str, Vec<u8>); 2]) {
    let files = [("EFI/Boot/bootx64.efi", noise(300_000, 5)), ("EFI/a long name.cfg", noise(700, 6))];
    let disk = MemoryDisk::new(usize::try_from(size_bytes).unwrap(), sector_bytes);
    let label = "SYSTEM".to_owned();
    let time = FatTime::from_unix(1_600_000_000);
    let options =
        FatOptions { size_bytes, sector_bytes, hidden_sectors: 2048, serial: 0x1234_5678, label, time };
    let mut builder = FatBuilder::new(options).unwrap();
    for (path, content) in &files {
        builder.add_file(path, content).unwrap();
    }
    builder.finish().unwrap().write(&disk).unwrap();
    (disk, files)
}

/// A disk with a system partition, NTFS and a small volume at its end.
struct Machine {
    disk: MemoryDisk,
    layout: Layout,
    tree: Tree,
    files: [(&'static str, Vec<u8>); 2],
}

const ESP_BYTES: u64 = 34 * MIB;
const SMALL_BYTES: u64 = 8 * MIB;

impl Machine {
    fn new(sector_bytes: u32, cluster_bytes: u32, tree: Tree, volume_bytes: u64) -> Self {
        let size_bytes = 4 * MIB + ESP_BYTES + volume_bytes + SMALL_BYTES;
        let request =
            |role, bytes| PartitionRequest { role, size: PartitionSize::Bytes(bytes), name: "p".into() };
        let requests = [
            request(Role::Esp, ESP_BYTES),
            request(Role::MicrosoftData, volume_bytes),
            request(Role::WindowsRecovery, SMALL_BYTES),
        ];
        let shape = DiskShape { size_bytes, sector_bytes };
        let layout = Layout::compute(shape, &Identity::new([1; 32]), &requests).unwrap();
        let disk = MemoryDisk::new(usize::try_from(size_bytes).unwrap(), sector_bytes);
        let (system, files) = esp(ESP_BYTES, sector_bytes);
        let volume = |tree: &Tree, index: usize, cluster_bytes| {
            let partition = &layout.partitions[index];
            let options = VolumeOptions {
                sector_size: SectorSize::from_bytes(sector_bytes).unwrap(),
                cluster_bytes: Some(cluster_bytes),
                hidden_sectors: partition.first_lba,
                // For BIOS machines, which know only sectors of 512 bytes.
                boot_code: (sector_bytes == 512).then(boot_code),
                ..windows::options(partition.size_bytes())
            };
            windows::volume_with(tree, &options, &ZeroGuide).0
        };
        disk.write_all_at(layout.partitions[0].range.start, &system.to_vec()).unwrap();
        disk.write_all_at(layout.partitions[1].range.start, &volume(&tree, 1, cluster_bytes)).unwrap();
        let mut small = Builder::new(2);
        let root = small.tree.root();
        small.file(root, "Winre.wim", &noise(50_000, 8));
        disk.write_all_at(layout.partitions[2].range.start, &volume(&small.tree, 2, 4096)).unwrap();
        TableImage::new(&layout, None).write(&disk).unwrap();
        Self { disk, layout, tree, files }
    }

    fn image(&self) -> BlockImage {
        let sector = self.layout.shape.sector_bytes;
        capture(BlockSource::new(Box::new(MemoryDisk::from_bytes(self.disk.to_vec())), "disk", sector))
    }

    /// Everything but the table is as it was, at the places of `report`.
    fn check(&self, disk: &dyn ReadAt, report: &FitReport, strictness: Strictness) {
        let system = &report.partitions[0].to;
        let window = Window::new(disk, system.start, system.end - system.start);
        let fat = FatVolume::open(&window).unwrap();
        assert_eq!((fat.serial(), fat.label()), (0x1234_5678, "SYSTEM"));
        for (path, content) in &self.files {
            assert!(fat.read_file(path, MIB).unwrap() == *content, "{path}");
        }
        let old = Volume::open(&Window::new(
            &self.disk,
            self.layout.partitions[1].range.start,
            self.layout.partitions[1].size_bytes(),
        ))
        .unwrap();
        let volume = check_volume(disk, &report.partitions[1].to, &self.tree, strictness);
        assert_eq!(volume.boot().serial, old.boot().serial);
        assert_eq!(volume.label(), old.label());
        let small = &report.partitions[2].to;
        let small = Window::new(disk, small.start, small.end - small.start);
        let strictness =
            if report.laid_out_anew.contains(&3) { Strictness::Fresh } else { Strictness::Usual };
        assert_eq!(findings(&small, strictness), Vec::<String>::new());
        let (_, scan) = compare::scan(&small);
        assert!(scan.tree.lookup("/Winre.wim").is_some());
    }
}

fn fit(image: &BlockImage, device: &dyn VolumeDevice, growth: Growth) -> Result<FitReport, Error> {
    let fit = FitOptions { growth, identity: None };
    FitPlan::new(image, device, &fit)?.apply(image, device, &options(), &Ctl::default(), &Silent)
}

#[test]
fn what_has_no_room_for_its_blocks_is_laid_out_out_of_its_files() {
    let machine = Machine::new(512, 4096, windows_tree(300), 80 * MIB);
    let image = machine.image();
    // 30 MiB less.
    let target = Sectors::new(machine.disk.size() - 30 * MIB, 512, u64::MAX, Fault::Fail);
    let error = FitPlan::of_blocks(&image, &target, &FitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let report = fit(&image, &target, Growth::None).unwrap();
    assert!(report.apply.is_verified && report.apply.skipped == 0, "{report:?}");
    assert_eq!(report.laid_out_anew, [2]);
    machine.check(&target, &report, Strictness::Fresh);
    // It has what room there was, to the granularity of the table.
    let sizes: Vec<u64> =
        report.partitions.iter().map(|one| (one.to.end - one.to.start).div_ceil(MIB)).collect();
    assert!(sizes[0] == 34 && (47..=53).contains(&sizes[1]) && sizes[2] == 8, "{sizes:?}");
    let said = report.notes.iter().find(|note| note.contains("laid out anew")).unwrap();
    assert!(
        said.starts_with("partition 2: NTFS laid out anew, file by file, as its blocks reach over"),
        "{said}"
    );
    // Where it stands, and the code that starts it, are in its boot sector.
    let [old, new] = [&machine.layout.partitions[1].range, &report.partitions[1].to];
    let boot = target.read_vec_at(new.start, 8192).unwrap();
    let before = machine.disk.read_vec_at(old.start, 8192).unwrap();
    assert_eq!(boot[0x1c..0x20], u32::try_from(new.start / 512).unwrap().to_le_bytes());
    assert!(boot[..3] == before[..3] && boot[0x54..0x1e00] == before[0x54..0x1e00]);
    assert_eq!(table(&target, 512).entries.len(), 3);
    // The same again, over what stands there now.
    let again = fit(&image, &target, Growth::None).unwrap();
    assert_eq!(again.partitions, report.partitions);
    machine.check(&target, &again, Strictness::Fresh);
    // Files do not fit into nothing.
    let tiny = Sectors::new(46 * MIB, 512, u64::MAX, Fault::Fail);
    let error = fit(&image, &tiny, Growth::None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("the files on partition 2 need "), "{error}");
    assert!(tiny.0.inner().to_vec().iter().all(|byte| *byte == 0xaa), "nothing was written");
}

#[test]
fn sectors_of_another_size_both_ways() {
    // What NTFS and FAT need: clusters of whole sectors are converted, smaller ones laid out anew.
    for (from, to, cluster) in [(512, 4096, 4096), (512, 4096, 1024), (4096, 512, 4096)] {
        let machine = Machine::new(from, cluster, windows_tree(100), 60 * MIB);
        let image = machine.image();
        let target = Sectors::new(machine.disk.size() + 2 * MIB, to, u64::MAX, Fault::Fail);
        let report = fit(&image, &target, Growth::None).unwrap();
        let anew = report.laid_out_anew.contains(&2);
        assert_eq!(anew, cluster < to, "{from} {to} {cluster}: {:?}", report.notes);
        let strictness = if anew { Strictness::Fresh } else { Strictness::Usual };
        machine.check(&target, &report, strictness);
        for one in &report.partitions {
            let boot = target.read_vec_at(one.to.start, 512).unwrap();
            assert_eq!(u32::from(u16::from_le_bytes([boot[11], boot[12]])), to, "{one:?}");
            let hidden = u32::from_le_bytes(boot[0x1c..0x20].try_into().unwrap());
            assert_eq!(u64::from(hidden) * u64::from(to), one.to.start, "{one:?}");
        }
        if from == 4096 {
            // Nothing is too coarse for smaller sectors.
            assert_eq!(report.laid_out_anew, Vec::<u32>::new());
        }
        // Smaller and in other sectors at once.
        let target = Sectors::new(machine.disk.size() - 12 * MIB, to, u64::MAX, Fault::Fail);
        let report = fit(&image, &target, Growth::Largest).unwrap();
        assert!(report.laid_out_anew.contains(&2));
        machine.check(&target, &report, Strictness::Fresh);
    }
}

#[test]
fn fat_with_aligned_tables_is_converted_as_fsck_says() {
    if !have(&["mkfs.fat", "fsck.fat", "mcopy", "mtype"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fat");
    for (args, size) in [(&["-F", "16", "-s", "8"], 40 * MIB), (&["-F", "32", "-s", "8"], 280 * MIB)] {
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        run(tool("mkfs.fat").args(args).args(["-n", "BOOT"]).arg(&path));
        let content = dir.path().join("content");
        std::fs::write(&content, noise(100_000, 3)).unwrap();
        run(tool("mcopy").arg("-i").arg(&path).arg(&content).arg("::/a longer name.bin"));
        // A disk around it.
        let shape = DiskShape { size_bytes: size + 4 * MIB, sector_bytes: 512 };
        let request =
            PartitionRequest { role: Role::Esp, size: PartitionSize::Bytes(size), name: "e".into() };
        let layout = Layout::compute(shape, &Identity::new([1; 32]), &[request]).unwrap();
        let source = dir.path().join("disk");
        let device = VolumeFile::open(&source, Some(size + 4 * MIB)).unwrap();
        device.write_all_at(layout.partitions[0].range.start, &std::fs::read(&path).unwrap()).unwrap();
        TableImage::new(&layout, None).write(&device).unwrap();
        drop(device);
        let image = capture(BlockSource::open(&source).unwrap());
        let target = Sectors::new(size + 4 * MIB, 4096, u64::MAX, Fault::Fail);
        let report = fit(&image, &target, Growth::None).unwrap();
        assert_eq!(report.laid_out_anew, Vec::<u32>::new(), "{:?}", report.notes);
        let to = &report.partitions[0].to;
        std::fs::write(
            &path,
            target.read_vec_at(to.start, usize::try_from(to.end - to.start).unwrap()).unwrap(),
        )
        .unwrap();
        let said = run(tool("fsck.fat").args(["-n", "-v"]).arg(&path));
        assert!(said.contains("4096 bytes per logical sector"), "{said}");
        let window = Window::new(&target, to.start, to.end - to.start);
        let fat = FatVolume::open(&window).unwrap();
        assert!(fat.read_file("a longer name.bin", MIB).unwrap() == noise(100_000, 3));
    }
}

/// An image of one volume with these bytes.
fn volume_image(bytes: Vec<u8>) -> BlockImage {
    capture(BlockSource::new(Box::new(MemoryDisk::from_bytes(bytes)), "volume", 512))
}

fn apply(image: &BlockImage, device: &dyn VolumeDevice) -> Result<FitReport, Error> {
    assert!(is_laid_out_anew(image, device));
    apply_volume_anew(image, device, &options(), &Ctl::default(), &Silent)
}

#[test]
fn what_is_compressed_stays_so_and_holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (first, wim, packed) =
        (dir.path().join("first.ntfs"), dir.path().join("x.wim"), dir.path().join("packed.ntfs"));
    let text = |len: usize, seed| -> Vec<u8> {
        noise(len / 3 + 1, seed).iter().flat_map(|byte| [byte & 0x13, b'a', b'b']).take(len).collect()
    };
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for (n, len) in [5000, 40_000, 1_500_000, 3_000_001].into_iter().enumerate() {
        b.file(root, &format!("text {n}"), &text(len, n as u64));
    }
    let mut node = file(&[noise(65_536, 3), vec![0; 20_000_000], noise(70_000, 4)].concat());
    node.attributes |= FileAttributes::SPARSE;
    b.add(root, "sparse", None, node);
    std::fs::write(&first, windows::volume(&b.tree, &windows::options(40 * MIB)).0).unwrap();
    common::capture(
        &first,
        &wim,
        &CaptureOptions { compression: Some(Compression::LZX_32K), ..CaptureOptions::default() },
    );
    let device = VolumeFile::open(&packed, Some(40 * MIB)).unwrap();
    let how = VolumeApplyOptions {
        compact: Compact::Always,
        time: Some(FileTime(133_000_000_000_000_000)),
        existing: ExistingData::Destroy,
        ..VolumeApplyOptions::default()
    };
    let made = apply_to_volume(&common::open(&wim), &device, &how, &Ctl::default(), &Silent).unwrap();
    assert_eq!(made.compact.files, 4);
    drop(device);
    // Far less than the plain files have.
    let image = volume_image(std::fs::read(&packed).unwrap());
    let target = Disk::used(8 << 20);
    let report = apply(&image, &target).unwrap();
    assert!(report.apply.is_verified && report.apply.warnings.is_empty(), "{report:?}");
    check_volume(&target, &(0..8 * MIB), &b.tree, Strictness::Fresh);
    let bytes = target.bytes();
    let (_, before) = compare::scan(&std::fs::read(&packed).unwrap());
    let (_, after) = compare::scan(&bytes);
    let forms = |scan: &gravure_ntfs::Scan| -> Vec<_> {
        (0..5)
            .filter_map(|n| {
                let id = scan.tree.lookup(&format!("/text {n}"))?;
                match scan.tree.node(id).data.as_ref()?.origin {
                    gravure_tree::Origin::Source { key, .. } => scan.contents.compressed_form(key),
                    _ => None,
                }
            })
            .collect()
    };
    assert_eq!(forms(&after).len(), 4);
    assert_eq!(forms(&after), forms(&before));
}

/// A volume of mkntfs that wimlib filled, restored onto less, is the same to wimlib, and sound to others.
#[test]
fn foreign_volumes_are_laid_out_anew_with_all_their_files() {
    let (Some(mut wimlib), Some(mut mkntfs)) = (oracle("wimlib-imagex"), oracle("mkntfs")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(path("ours.ntfs"), windows::volume(&windows_tree(700), &windows::options(64 * MIB)).0)
        .unwrap();
    common::capture(&path("ours.ntfs"), &path("source.wim"), &CaptureOptions::default());
    std::fs::File::create(path("theirs.ntfs")).unwrap().set_len(120 * MIB).unwrap();
    run(mkntfs.args(["-F", "-q", "-L", "Theirs"]).arg(path("theirs.ntfs")));
    run(wimlib.arg("apply").arg(path("source.wim")).arg("1").arg(path("theirs.ntfs")));
    let image = capture(BlockSource::open(&path("theirs.ntfs")).unwrap());
    std::fs::write(path("target.ntfs"), vec![0xaa; 40 << 20]).unwrap();
    let device = VolumeFile::open(&path("target.ntfs"), None).unwrap();
    let report = apply(&image, &device).unwrap();
    assert!(report.apply.skipped == 0 && report.apply.verified_bytes > 4 * MIB, "{report:?}");
    assert_eq!(findings(&device, Strictness::Fresh), Vec::<String>::new());
    drop(device);
    let captured = |volume: &Path, image: &Path| {
        run(oracle("wimlib-imagex")
            .unwrap()
            .arg("capture")
            .arg(volume)
            .arg(image)
            .args(["x", "--compress=none"]));
        common::open(image)
    };
    let before = captured(&path("theirs.ntfs"), &path("before.wim"));
    let after = captured(&path("target.ntfs"), &path("after.wim"));
    let same = diff(
        Side::Image(&before),
        Side::Image(&after),
        &DiffOptions { ignore: vec![Aspect::ShortName], ..DiffOptions::default() },
        &Ctl::default(),
        &Silent,
    )
    .unwrap();
    assert!(same.changes.is_empty() && same.compared > 800, "{:?}", same.changes);
    for (program, args) in [("ntfsfix", &["-n"][..]), ("ntfsresize", &["-i", "-f"])] {
        if let Some(mut program) = oracle(program) {
            run(program.args(args).arg(path("target.ntfs")));
        }
    }
}

#[test]
fn a_larger_disk_is_filled_by_ntfs_too() {
    let machine = Machine::new(512, 4096, windows_tree(100), 60 * MIB);
    let image = machine.image();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let device = VolumeFile::open(&path, Some(machine.disk.size() + 100 * MIB)).unwrap();
    let report = fit(&image, &device, Growth::Largest).unwrap();
    drop(device);
    let finished = finish_file_systems(&path, &report.partitions, &report.renamed).unwrap();
    assert_eq!(finished.undone, Vec::<String>::new());
    let device = VolumeFile::open(&path, None).unwrap();
    let volume = check_volume(&device, &report.partitions[1].to, &machine.tree, Strictness::Usual);
    let room = report.partitions[1].to.end - report.partitions[1].to.start;
    assert!(room > 150 * MIB && volume.boot().clusters * 4096 + 8192 > room, "{room} {volume:?}");
    assert_eq!(finished.grown.len(), 1);
}

/// Files that stand in records, in clusters, with holes, in directories.
fn small_tree(seed: usize) -> Tree {
    let mut b = Builder::new(3);
    let root = b.tree.root();
    let dir = b.directory(root, "Windows");
    for n in 0..30 {
        b.file(dir, &format!("small {n}"), &noise(n * 31 + seed, n as u64));
    }
    let linked = b.file(dir, "noise", &noise(190_000, 2));
    b.link(root, "noise again", linked);
    let mut node = file(&[noise(65_536, 3), vec![0; 200_000], noise(70_000, 4)].concat());
    node.attributes |= FileAttributes::SPARSE;
    b.add(root, "sparse", None, node);
    b.tree
}

struct Case {
    image: BlockImage,
    old: Tree,
    new: Tree,
    before: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let (old, new) = (small_tree(7), small_tree(0));
        let volume = |tree: &Tree, size, seed: u8| {
            let options = VolumeOptions { seed: [seed; 32], ..windows::options(size) };
            windows::volume_with(tree, &options, &ZeroGuide).0
        };
        let image = volume_image(volume(&new, 40 * MIB, 7));
        Self { image, before: volume(&old, 8 * MIB, 8), old, new }
    }

    /// What a disk holds: nothing that anybody mounts, the old volume (0), or the new one (1).
    #[expect(clippy::ptr_arg, reason = "`ReadAt` is for vectors")]
    fn judge(&self, state: &Vec<u8>, what: &str) -> Option<usize> {
        let volume = Volume::open(state).ok()?;
        let is_old = volume.boot().serial == Volume::open(&self.before).unwrap().boot().serial;
        let found = findings(state, Strictness::Fresh);
        // While the old one is wiped, its copy of the boot sector may go first.
        let allowed = |text: &String| is_old && text.contains("copy of the boot sector");
        assert!(found.iter().all(allowed), "{what}: {found:?}");
        let (volume, scan) = compare::scan(state);
        compare::compare(if is_old { &self.old } else { &self.new }, state, &volume, &scan);
        Some(usize::from(!is_old))
    }
}

#[test]
fn power_may_be_cut_at_every_write_of_a_volume_laid_out_anew() {
    let case = Case::new();
    let disk = Disk(RecordingDisk::new(MemoryDisk::from_bytes(case.before.clone())));
    apply(&case.image, &disk).unwrap();
    let recording = disk.0.into_recording();
    assert!(recording.len() > 10, "{}", recording.len());
    let mut random = Random::new(seed());
    let (mut nothing, mut left) = (0, [0; 2]);
    for count in 0..=recording.len() {
        let mut judge = |state: Vec<u8>, how: &str| {
            let what = format!("cut at {count} of {}, {how}", recording.len());
            match case.judge(&state, &what) {
                None => nothing += 1,
                Some(which) => left[which] += 1,
            }
        };
        judge(recording.cut(&case.before, count, Survives::All), "all there");
        for bytes in [512, 4096, 70_144] {
            judge(recording.cut(&case.before, count, Survives::Torn(bytes)), "torn");
        }
        for _ in 0..if full_run() { 20 } else { 2 } {
            judge(recording.cut(&case.before, count, Survives::Some(&mut random)), "in any order");
        }
    }
    assert!(nothing > 30 && left[0] > 2 && left[1] > 2, "{nothing} {left:?}");
}

#[test]
fn failing_reads_and_writes_of_a_volume_laid_out_anew_are_errors() {
    let case = Case::new();
    let counting = Disk::with(case.before.clone(), Operation::Write, u64::MAX, Fault::Fail);
    apply(&case.image, &counting).unwrap();
    let count = counting.0.count(Operation::Write);
    for at in 0..count {
        let what = format!("write {at} of {count}");
        let disk = Disk::with(case.before.clone(), Operation::Write, at, Fault::Short { bytes: 512 });
        let error = apply(&case.image, &disk).expect_err(&what);
        assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
        match case.judge(&disk.bytes(), &what) {
            None => {}
            Some(0) => assert!(at < 1, "{what}"),
            Some(_) => assert!(at + 2 >= count, "{what}"),
        }
    }
    // What is written but not there is found when it is read back.
    let reading = Disk::with(case.before.clone(), Operation::Read, u64::MAX, Fault::Fail);
    apply(&case.image, &reading).unwrap();
    let count = reading.0.count(Operation::Read);
    let step = if full_run() { 1 } else { 1 + count / 30 };
    for at in (0..count).step_by(usize::try_from(step).unwrap()) {
        let what = format!("read {at} of {count}");
        let disk = Disk::with(case.before.clone(), Operation::Read, at, Fault::Flip { bit: 4099 });
        match apply(&case.image, &disk) {
            Err(error) => {
                assert!(error.is_integrity(), "{what}: {error}");
                assert_eq!(case.judge(&disk.bytes(), &what), None, "{what}");
            }
            // The bit stands where nothing is.
            Ok(_) => assert_eq!(case.judge(&disk.bytes(), &what), Some(1), "{what}"),
        }
    }
}

#[test]
fn a_disk_with_a_volume_laid_out_anew_has_no_table_until_all_is_right() {
    let machine = Machine::new(512, 4096, small_tree(1), 24 * MIB);
    let image = machine.image();
    let size = machine.disk.size() - 8 * MIB;
    let counting = Sectors::new(size, 512, u64::MAX, Fault::Fail);
    fit(&image, &counting, Growth::None).unwrap();
    let writes = counting.0.count(Operation::Write);
    let step = if full_run() { 1 } else { 1 + writes / 12 };
    for at in (0..writes).filter(|at| at % step == 0 || at + 4 > writes) {
        let target = Sectors::new(size, 512, at, Fault::PowerCut { bytes: 300 });
        let result = fit(&image, &target, Growth::None);
        let bytes = target.0.into_inner();
        let context = format!("cut at {at} of {writes}");
        match Table::read(&bytes, 512).unwrap() {
            Table::Gpt { gpt, .. } => {
                let range = gpt.entries[1].first_lba * 512..(gpt.entries[1].last_lba + 1) * 512;
                check_volume(&bytes, &range, &machine.tree, Strictness::Fresh);
            }
            _ => assert!(result.is_err(), "{context}"),
        }
        let again = Sectors(FaultyDisk::counting(bytes), 512);
        let report = fit(&image, &again, Growth::None).unwrap();
        machine.check(&again, &report, Strictness::Fresh);
    }
}

/// An ext4 file system whose files lie behind what was removed later, and the files.
fn aged_ext4(dir: &Path, size: u64) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let path = dir.join("ext4");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-L", "aged"]).arg(&path));
    std::fs::write(dir.join("big"), vec![7; usize::try_from(size / 2).unwrap()]).unwrap();
    let mut commands = format!("write {} big\n", dir.join("big").display());
    let mut files = Vec::new();
    for n in 0..20u64 {
        let (name, content) = (format!("file{n}"), noise(usize::try_from(100_000 + n * 9000).unwrap(), n));
        std::fs::write(dir.join(&name), &content).unwrap();
        commands.push_str(&format!("write {} {name}\n", dir.join(&name).display()));
        files.push((name, content));
    }
    commands.push_str("rm big\n");
    std::fs::write(dir.join("commands"), commands).unwrap();
    run(tool("debugfs").args(["-w", "-f"]).arg(dir.join("commands")).arg(&path));
    run(tool("e2fsck").args(["-f", "-n"]).arg(&path));
    (std::fs::read(path).unwrap(), files)
}

/// The files of a sound ext4 file system.
fn check_ext4(dir: &Path, bytes: &[u8], files: &[(String, Vec<u8>)], context: &str) {
    let (path, out) = (dir.join("checked"), dir.join("out"));
    std::fs::write(&path, bytes).unwrap();
    run(tool("e2fsck").args(["-f", "-n"]).arg(&path));
    drop(std::fs::remove_dir_all(&out));
    std::fs::create_dir(&out).unwrap();
    run(tool("debugfs").arg("-R").arg(format!("rdump / {}", out.display())).arg(&path));
    for (name, content) in files {
        assert!(std::fs::read(out.join(name)).unwrap() == *content, "{context}: {name}");
    }
}

#[test]
fn ext4_is_none_until_its_blocks_are_moved_and_read_back() {
    if !can_shrink_ext() || !have(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (bytes, files) = aged_ext4(dir.path(), 96 * MIB);
    let uuid = |bytes: &[u8]| bytes[1024 + 0x68..1024 + 0x78].to_vec();
    let before = uuid(&bytes);
    let image = volume_image(bytes);
    let size = 32 << 20;
    let target = Disk::used(size);
    let report = apply(&image, &target).unwrap();
    assert_eq!(report.made_smaller, [0]);
    assert!(report.apply.is_verified && report.apply.written_bytes > 2 * MIB, "{report:?}");
    let state = target.bytes();
    assert_eq!(uuid(&state), before);
    check_ext4(dir.path(), &state, &files, "whole");
    // Cut anywhere, there is no file system, or all of it.
    let count = target.0.count(Operation::Write);
    let step = 1 + count / if full_run() { 60 } else { 5 };
    for at in (0..count).step_by(usize::try_from(step).unwrap()).chain([count - 1]) {
        let what = format!("cut at {at} of {count}");
        let disk = Disk::with(vec![0xaa; size], Operation::Write, at, Fault::PowerCut { bytes: 300 });
        let error = apply(&image, &disk).expect_err(&what);
        let state = disk.bytes();
        let is_there = state[1024 + 0x38..1024 + 0x3a] == [0x53, 0xef];
        let blocks = u32::from_le_bytes(state[1028..1032].try_into().unwrap());
        // One for the whole source is larger than its device, which nobody mounts.
        let is_mountable = is_there && u64::from(blocks) * 4096 <= size as u64;
        if is_mountable {
            // What failed is the last flush, or reading what is there once more.
            assert!(at + 2 >= count, "{what}: {error}");
            check_ext4(dir.path(), &state, &files, &what);
        }
    }
    let tiny = Disk::used(3 << 20);
    let error = apply(&image, &tiny).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("its files need"), "{error}");
    assert!(tiny.bytes().iter().all(|byte| *byte == 0xaa), "nothing was written");
}
