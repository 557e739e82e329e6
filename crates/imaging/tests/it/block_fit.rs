//! Images of whole disks onto disks of other sizes and sectors: partitions are whole, tables right by foreign tools, references follow.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gravure_blockimg::facts::Facts;
use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role, Table, TableImage};
use gravure_imaging::{
    BlockApplyOptions, BlockCapture, BlockCaptureOptions, BlockImage, BlockPlan, BlockPlanOptions,
    BlockSource, Error, ErrorKind, ExistingData, FitOptions, FitPlan, FitReport, FittedPartition, Growth,
    VolumeDevice, VolumeFile, apply_block_image, finish_file_systems, has_to_be_fitted,
};
use gravure_io::{FileAt, MemoryDisk, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, FaultyDisk, Operation, Random, full_run, oracle};

const MIB: u64 = 1 << 20;

pub(crate) fn run(command: &mut Command) -> String {
    let output = gravure_testkit::patient_output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub(crate) fn tool(program: &str) -> Command {
    oracle(program).unwrap()
}

pub(crate) fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| oracle(program).is_some())
}

/// Whether what makes ext2/3/4 smaller is here.
pub(crate) fn can_shrink_ext() -> bool {
    if !Path::new("/dev/fuse").exists() {
        gravure_testkit::skipped("no /dev/fuse");
        return false;
    }
    have(&["resize2fs", "e2fsck"])
}

/// A disk as installers make them: system partition, ext4, and a small one at the end.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    disk: PathBuf,
    layout: Layout,
    files: Vec<(String, Vec<u8>)>,
}

const DISK_BYTES: u64 = 160 * MIB;
const TOOLS: [&str; 6] = ["mkfs.fat", "mcopy", "mkfs.ext4", "e2fsck", "debugfs", "fsck.fat"];

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        if !have(&TOOLS) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let request =
            |role, bytes| PartitionRequest { role, size: PartitionSize::Bytes(bytes), name: "p".into() };
        let requests = [
            request(Role::Esp, 40 * MIB),
            request(Role::LinuxRoot, 64 * MIB),
            request(Role::WindowsRecovery, 8 * MIB),
        ];
        let shape = DiskShape { size_bytes: DISK_BYTES, sector_bytes: 512 };
        let mut layout = Layout::compute(shape, &Identity::new([1; 32]), &requests).unwrap();
        // The last one stands at the end, as recovery partitions do.
        let last = &mut layout.partitions[2];
        let start = DISK_BYTES - 12 * MIB;
        last.range = start..start + 8 * MIB;
        (last.first_lba, last.last_lba) = (start / 512, (start + 8 * MIB) / 512 - 1);
        std::fs::File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
        let mut this = Self { dir, disk, layout, files: Vec::new() };
        this.fill();
        Some(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, volume: &Path, index: usize) {
        let target = std::fs::File::options().write(true).open(&self.disk).unwrap();
        target
            .write_all_at(&std::fs::read(volume).unwrap(), self.layout.partitions[index].range.start)
            .unwrap();
    }

    fn fill(&mut self) {
        let [esp, root, recovery] = [0, 1, 2].map(|index: usize| {
            let path = self.path(&format!("volume{index}"));
            let len = self.layout.partitions[index].size_bytes();
            std::fs::File::create(&path).unwrap().set_len(len).unwrap();
            path
        });
        // A boot store with identifiers as bytes, both counters of the hive equal; a menu with them as text.
        let guid = self.layout.partitions[1].unique_guid;
        let mut store = b"regf\x01\0\0\0\x01\0\0\0".to_vec();
        store.resize(9000, 7);
        store[5000..5016].copy_from_slice(&guid.0);
        std::fs::write(self.path("BCD"), &store).unwrap();
        std::fs::write(self.path("grub.cfg"), format!("linux /vmlinuz root=PARTUUID={guid}\n")).unwrap();
        run(tool("mkfs.fat").args(["-F", "32", "-s", "1", "-h", "2048"]).arg(&esp));
        run(Command::new("mmd").arg("-i").arg(&esp).args([
            "::/EFI",
            "::/EFI/Microsoft",
            "::/EFI/Microsoft/Boot",
            "::/EFI/debian",
        ]));
        run(tool("mcopy").arg("-i").arg(&esp).arg(self.path("BCD")).arg("::/EFI/Microsoft/Boot/BCD"));
        run(tool("mcopy").arg("-i").arg(&esp).arg(self.path("grub.cfg")).arg("::/EFI/debian/grub.cfg"));
        let tree = self.path("tree");
        std::fs::create_dir_all(tree.join("etc")).unwrap();
        let mut random = Random::new(4);
        for number in 0..20u64 {
            let mut content = vec![0; usize::try_from(1 + random.below(300_000)).unwrap()];
            random.fill(&mut content);
            std::fs::write(tree.join(format!("file{number}")), &content).unwrap();
            self.files.push((format!("file{number}"), content));
        }
        std::fs::write(tree.join("etc/fstab"), format!("PARTUUID={guid} / ext4 defaults 0 1\n")).unwrap();
        run(tool("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-d"]).arg(&tree).arg(&root));
        run(tool("mkfs.fat").args(["-F", "16", "-s", "1"]).arg(&recovery));
        for (index, volume) in [esp, root, recovery].iter().enumerate() {
            self.put(volume, index);
        }
        let device = FileAt::open_rw(&self.disk).unwrap();
        let mut code = [0; 440];
        code[..4].copy_from_slice(b"code");
        TableImage::new(&self.layout, Some(&code)).write(&device).unwrap();
    }

    pub(crate) fn image(&self) -> BlockImage {
        capture(BlockSource::open(&self.disk).unwrap())
    }

    /// A partition of `disk` as a file.
    fn partition(&self, disk: &Path, range: &Range<u64>) -> PathBuf {
        let out = self.path("partition");
        let mut from = std::fs::File::open(disk).unwrap();
        io::Seek::seek(&mut from, io::SeekFrom::Start(range.start)).unwrap();
        let mut from = io::Read::take(from, range.end - range.start);
        io::copy(&mut from, &mut std::fs::File::create(&out).unwrap()).unwrap();
        out
    }

    /// The ext4 in `range` is sound and holds every file.
    fn check_root(&self, disk: &Path, range: &Range<u64>) {
        let volume = self.partition(disk, range);
        run(tool("e2fsck").arg("-fn").arg(&volume));
        let out = self.path("out");
        drop(std::fs::remove_dir_all(&out));
        std::fs::create_dir(&out).unwrap();
        run(tool("debugfs").arg("-R").arg(format!("rdump / {}", out.display())).arg(&volume));
        for (name, content) in &self.files {
            assert!(std::fs::read(out.join(name)).unwrap() == *content, "{name}");
        }
    }

    fn used(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, vec![0xaa; usize::try_from(size).unwrap()]).unwrap();
        path
    }
}

pub(crate) fn capture(source: BlockSource) -> BlockImage {
    capture_as(source, |facts| facts)
}

/// The same, with facts that `change` made of those that are found.
fn capture_as(source: BlockSource, change: impl FnOnce(Facts) -> Facts) -> BlockImage {
    BlockImage::open(Arc::new(captured(source, change)), "image").unwrap()
}

/// An image as it goes through a pipe.
pub(crate) fn stream_of(source: BlockSource) -> Vec<u8> {
    captured(source, |facts| facts)
}

fn captured(source: BlockSource, change: impl FnOnce(Facts) -> Facts) -> Vec<u8> {
    let options = BlockPlanOptions { name: "test".to_owned(), ..BlockPlanOptions::default() };
    let plan = BlockPlan::new(source, &options, &Ctl::default()).unwrap();
    let hits = |range: &Range<u64>| plan.hits(range);
    let facts = change(plan.facts().clone());
    let capture =
        BlockCapture { source: &plan, name: plan.name(), layout: plan.layout(), facts: &facts, hits: &hits };
    let mut image = Vec::new();
    let how = BlockCaptureOptions::default();
    capture.to_stream(&mut image, "memory", &how, &Ctl::default(), &Silent).unwrap();
    image
}

pub(crate) fn options() -> BlockApplyOptions {
    BlockApplyOptions { existing: ExistingData::Destroy, threads: Some(1), ..BlockApplyOptions::default() }
}

fn fit(image: &BlockImage, device: &dyn VolumeDevice, fit: &FitOptions) -> Result<FitReport, Error> {
    FitPlan::new(image, device, fit)?.apply(image, device, &options(), &Ctl::default(), &Silent)
}

pub(crate) fn table(disk: &dyn ReadAt, sector_bytes: u32) -> gravure_disk::gpt::Gpt {
    match Table::read(disk, sector_bytes).unwrap() {
        Table::Gpt { gpt, faults, .. } if faults.is_empty() => gpt,
        other => panic!("{other}"),
    }
}

#[test]
fn a_smaller_disk_gets_the_last_partition_nearer() {
    let Some(lab) = Lab::new() else { return };
    let image = lab.image();
    let target = lab.used("target", 128 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    assert!(has_to_be_fitted(&image, &device).unwrap());
    let report = fit(&image, &device, &FitOptions::default()).unwrap();
    assert!(report.apply.is_verified && report.renamed.is_empty());
    let places: Vec<_> = report.partitions.iter().map(|one| (one.number, one.to.start / MIB)).collect();
    assert_eq!(places, [(1, 1), (2, 41), (3, 119)]);
    assert_eq!(report.notes, ["partition 3 moved from 0x9400000 to 0x7700000"]);
    let gpt = table(&device, 512);
    assert_eq!(gpt.disk_guid, lab.layout.disk_guid);
    for (entry, old) in gpt.entries.iter().zip(&lab.layout.partitions) {
        assert_eq!((entry.number, entry.unique_guid), (old.number, old.unique_guid));
        assert_eq!(
            (entry.type_guid, entry.attributes, &entry.name),
            (old.role.type_guid(), old.attributes, &old.name)
        );
    }
    assert_eq!(device.read_vec_at(0, 4).unwrap(), b"code");
    if let Some(mut sgdisk) = oracle("sgdisk") {
        assert!(run(sgdisk.arg("-v").arg(&target)).contains("No problems found"));
    }
    lab.check_root(&target, &report.partitions[1].to);
    let recovery = lab.partition(&target, &report.partitions[2].to);
    run(tool("fsck.fat").arg("-n").arg(&recovery));
    // Where the volume stands is in its boot sector.
    let hidden = std::fs::read(&recovery).unwrap()[0x1c..0x20].to_vec();
    assert_eq!(hidden, u32::try_from(119 * MIB / 512).unwrap().to_le_bytes());
    // A disk that has it all gets nothing but the ends again.
    drop(device);
    let device = VolumeFile::open(&target, None).unwrap();
    let again = fit(&image, &device, &FitOptions::default()).unwrap();
    assert!(again.apply.written_bytes < 4 * MIB, "{:?}", again.apply);
    assert_eq!(table(&device, 512), gpt);
}

#[test]
fn ext4_without_room_for_its_blocks_is_made_smaller() {
    let Some(lab) = Lab::new().filter(|_| can_shrink_ext()) else { return };
    let image = lab.image();
    let target = lab.used("target", 84 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let report = fit(&image, &device, &FitOptions::default()).unwrap();
    drop(device);
    assert_eq!((report.made_smaller.as_slice(), report.laid_out_anew.as_slice()), (&[2][..], &[][..]));
    assert!(report.apply.is_verified && report.apply.skipped == 0, "{report:?}");
    let note = "partition 2: ext made smaller by resize2fs, as its blocks reach over";
    assert!(report.notes.iter().any(|said| said.starts_with(note)), "{:?}", report.notes);
    lab.check_root(&target, &report.partitions[1].to);
    let sizes: Vec<_> = report.partitions.iter().map(|one| (one.to.end - one.to.start) / MIB).collect();
    assert!(sizes[0] == 40 && (30..=35).contains(&sizes[1]) && sizes[2] == 8, "{sizes:?}");
    let device = FileAt::open(&target).unwrap();
    assert_eq!(table(&device, 512).entries.len(), 3);
}

#[test]
fn a_larger_disk_is_filled_and_its_new_names_are_known_to_all() {
    let Some(lab) = Lab::new() else { return };
    let image = lab.image();
    let target = lab.used("target", 300 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let how = FitOptions { growth: Growth::Largest, identity: Some([9; 32]) };
    let report = fit(&image, &device, &how).unwrap();
    let sizes: Vec<_> =
        report.partitions.iter().map(|one| (one.to.start / MIB, (one.to.end - one.to.start) / MIB)).collect();
    assert_eq!(sizes, [(1, 40), (41, 250), (291, 8)]);
    let gpt = table(&device, 512);
    let old = &lab.layout.partitions[1];
    let new = gpt.entries[1].unique_guid;
    assert!(new != old.unique_guid && gpt.disk_guid != lab.layout.disk_guid);
    assert_eq!(report.renamed.len(), 4);
    let mut changed = report.changed.clone();
    changed.sort();
    assert_eq!(changed, [(1, "EFI/Microsoft/Boot/BCD".to_owned()), (1, "EFI/debian/grub.cfg".to_owned())]);
    let esp = lab.partition(&target, &report.partitions[0].to);
    run(tool("fsck.fat").arg("-n").arg(&esp));
    let read = |path: &str| {
        let out = lab.path("read");
        drop(std::fs::remove_file(&out));
        run(tool("mcopy").arg("-n").arg("-i").arg(&esp).arg(path).arg(&out));
        std::fs::read(out).unwrap()
    };
    let store = read("::/EFI/Microsoft/Boot/BCD");
    assert_eq!((store.len(), &store[5000..5016]), (9000, &new.0[..]));
    assert_eq!(read("::/EFI/debian/grub.cfg"), format!("linux /vmlinuz root=PARTUUID={new}\n").into_bytes());
    lab.check_root(&target, &report.partitions[1].to);
    drop(device);
    let finished = finish_file_systems(&target, &report.partitions, &report.renamed).unwrap();
    if !finished.undone.is_empty() {
        gravure_testkit::skipped(&finished.undone.join("; "));
        return;
    }
    assert_eq!(finished.grown, [(2, 250 * MIB)]);
    assert_eq!(finished.changed, [(2, "etc/fstab".to_owned())]);
    lab.check_root(&target, &report.partitions[1].to);
    let text = std::fs::read_to_string(lab.path("out/etc/fstab")).unwrap();
    assert_eq!(text, format!("PARTUUID={new} / ext4 defaults 0 1\n"));
    let volume = lab.partition(&target, &report.partitions[1].to);
    let counts = run(tool("dumpe2fs").arg("-h").arg(&volume));
    let blocks = counts.lines().find_map(|line| line.strip_prefix("Block count:")).unwrap();
    assert_eq!(blocks.trim().parse::<u64>().unwrap() * 4096, 250 * MIB);
}

#[test]
fn a_file_system_that_is_smaller_than_its_partition_grows_into_it() {
    let Some(lab) = Lab::new().filter(|_| have(&["resize2fs"])) else { return };
    // As FOG makes it for its images: the file system smaller, the partition as it was.
    let root = lab.path("volume1");
    run(tool("resize2fs").arg("-f").arg(&root).arg("32M"));
    std::fs::File::options().write(true).open(&root).unwrap().set_len(32 * MIB).unwrap();
    lab.put(&root, 1);
    let image = lab.image();
    // On this disk no partition can become larger.
    let target = lab.used("target", 114 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let growing = |growth| {
        let how = FitOptions { growth, identity: Some([5; 32]) };
        let plan = FitPlan::new(&image, &device, &how).unwrap();
        plan.partitions().iter().map(|one| one.grows).collect::<Vec<_>>()
    };
    assert_eq!(growing(Growth::None), [false; 3], "new identifiers alone change no sizes");
    assert_eq!(growing(Growth::Largest), [false, true, false]);
    let how = FitOptions { growth: Growth::Largest, identity: None };
    let report = fit(&image, &device, &how).unwrap();
    drop(device);
    let place = report.partitions[1].to.clone();
    assert_eq!(place.end - place.start, 64 * MIB);
    lab.check_root(&target, &place);
    let finished = finish_file_systems(&target, &report.partitions, &[]).unwrap();
    if !finished.undone.is_empty() {
        gravure_testkit::skipped(&finished.undone.join("; "));
        return;
    }
    assert_eq!(finished.grown, [(2, place.end - place.start)]);
    lab.check_root(&target, &place);
    let volume = lab.partition(&target, &place);
    assert_eq!(gravure_fsmap::probe(&FileAt::open(&volume).unwrap()).unwrap().size, place.end - place.start);
    // A volume alone likewise.
    let image = capture(BlockSource::open(&root).unwrap());
    let device = VolumeFile::open(&root, None).unwrap();
    let grows = |growth| FittedPartition::of_volume(&image, &device, growth).unwrap().grows;
    assert_eq!((grows(Growth::None), grows(Growth::Largest)), (false, true));
}

#[test]
fn xfs_and_btrfs_grow_into_their_partitions() {
    for (mkfs, check, args, size) in [
        ("mkfs.xfs", &["xfs_repair", "-n", "-f"][..], &["-q", "-f"][..], 320 * MIB),
        ("mkfs.btrfs", &["btrfs", "check", "--readonly"], &["-q"], 300 * MIB),
    ] {
        if !have(&[mkfs, check[0]]) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (volume, target) = (dir.path().join("volume"), dir.path().join("target"));
        std::fs::File::create(&volume).unwrap().set_len(size).unwrap();
        run(tool(mkfs).args(args).arg(&volume));
        let image = capture(BlockSource::open(&volume).unwrap());
        let device = VolumeFile::open(&target, Some(size + 100 * MIB)).unwrap();
        apply_block_image(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
        drop(device);
        let content = gravure_fsmap::probe(&FileAt::open(&target).unwrap()).unwrap().kind;
        let (from, to) = (0..size, 0..size + 100 * MIB);
        let whole = FittedPartition { number: 0, content, from, to, grows: true };
        let finished = finish_file_systems(&target, &[whole], &[]).unwrap();
        if !finished.undone.is_empty() {
            gravure_testkit::skipped(&finished.undone.join("; "));
            continue;
        }
        run(tool(check[0]).args(&check[1..]).arg(&target));
        let grown = gravure_fsmap::probe(&FileAt::open(&target).unwrap()).unwrap().size;
        assert!(grown > size + 95 * MIB, "{mkfs}: {grown}");
    }
}

/// A disk in memory with sectors of any size.
pub(crate) struct Sectors(pub(crate) FaultyDisk<MemoryDisk>, pub(crate) u32);

/// One that forgets what is discarded, as solid-state disks do.
struct Forgets(Sectors);

impl ReadAt for Forgets {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Forgets {
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.0.zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        // Not zeros: what must be zero is to be written.
        self.0.write_all_at(range.start, &vec![0xd1; usize::try_from(range.end - range.start).unwrap()])
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl VolumeDevice for Forgets {
    fn sector_bytes(&self) -> u32 {
        self.0.sector_bytes()
    }
    fn name(&self) -> &'static str {
        "disk"
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Sectors {
    pub(crate) fn new(size: u64, sector_bytes: u32, at: u64, fault: Fault) -> Self {
        let bytes = vec![0xaa; usize::try_from(size).unwrap()];
        Self(FaultyDisk::new(MemoryDisk::from_bytes(bytes), Operation::Write, at, fault), sector_bytes)
    }
}

impl ReadAt for Sectors {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Sectors {
    fn block_size(&self) -> u32 {
        self.1
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, buf)
    }
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.0.zero_range(range)
    }
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.0.discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl VolumeDevice for Sectors {
    fn sector_bytes(&self) -> u32 {
        self.1
    }
    fn name(&self) -> &'static str {
        "disk"
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A disk with one partition of `content` that nobody knows, and what stands there.
fn plain_disk(size: u64) -> (MemoryDisk, Range<u64>, Vec<u8>) {
    disk_of_sectors(size, 512)
}

fn disk_of_sectors(size: u64, sector_bytes: u32) -> (MemoryDisk, Range<u64>, Vec<u8>) {
    let disk = MemoryDisk::new(usize::try_from(size).unwrap(), 512);
    let shape = DiskShape { size_bytes: size, sector_bytes };
    let request =
        PartitionRequest { role: Role::LinuxData, size: PartitionSize::Bytes(2 * MIB), name: "d".into() };
    let layout = Layout::compute(shape, &Identity::new([2; 32]), &[request]).unwrap();
    let range = layout.partitions[0].range.clone();
    let mut content = vec![0; usize::try_from(2 * MIB).unwrap()];
    Random::new(size).fill(&mut content);
    disk.write_all_at(range.start, &content).unwrap();
    TableImage::new(&layout, None).write(&disk).unwrap();
    (disk, range, content)
}

#[test]
fn sectors_of_another_size_get_a_table_of_their_own() {
    let (disk, range, content) = plain_disk(8 * MIB);
    let image = capture(BlockSource::new(Box::new(disk), "disk", 512));
    let target = Sectors::new(9 * MIB, 4096, u64::MAX, Fault::Fail);
    let report = fit(&image, &target, &FitOptions::default()).unwrap();
    assert_eq!(report.notes, ["table written for sectors of 4096 bytes, not 512"]);
    let gpt = table(&target, 4096);
    assert_eq!(gpt.entries[0].first_lba * 4096, range.start);
    assert!(target.read_vec_at(range.start, content.len()).unwrap() == content);
    // What counts in units of less than a sector cannot come along.
    let Some(lab) = Lab::new() else { return };
    run(tool("mkfs.ext4").args(["-q", "-F", "-b", "1024"]).arg(lab.path("volume1")));
    lab.put(&lab.path("volume1"), 1);
    let image = lab.image();
    let target = Sectors::new(DISK_BYTES, 4096, u64::MAX, Fault::Fail);
    let error = fit(&image, &target, &FitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(
        error.to_string(),
        "refused: applying image to disk: the ext4 volume on partition 2 has units of 1024 bytes, less than the target's sectors of 4096"
    );
    let small = Sectors::new(100 * MIB, 512, u64::MAX, Fault::Fail);
    let error = FitPlan::of_blocks(&image, &small, &FitOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("partitions: ") && error.contains("cannot be smaller than the file systems in them"),
        "{error}"
    );
    assert!(small.0.inner().to_vec().iter().all(|byte| *byte == 0xaa), "nothing was written");
}

#[test]
fn a_copy_of_a_disk_with_other_sectors_is_counted_in_its_own() {
    // A 4Kn disk copied into a raw file: everybody takes that for one of 512.
    let (size, older) = (8 * MIB, |mut facts: Facts| {
        facts.table.as_mut().unwrap().sector_bytes = None;
        facts
    });
    let (_, range, content) = disk_of_sectors(size, 4096);
    let images = [false, true].map(|is_old| {
        let (disk, ..) = disk_of_sectors(size, 4096);
        let source = BlockSource::new(Box::new(disk), "disk", 512);
        if is_old { capture_as(source, older) } else { capture(source) }
    });
    let said = |image: &BlockImage| image.facts().table.as_ref().unwrap().sector_bytes;
    assert_eq!(images.each_ref().map(said), [Some(4096), None]);
    for (image, age) in images.iter().zip(["new", "old"]) {
        assert_eq!((image.root().sector_bytes, image.sector_bytes().unwrap()), (512, 4096), "{age}");
        for (sector, bytes) in [(512, size), (512, 9 * MIB), (4096, 9 * MIB), (4096, 7 * MIB)] {
            let context = format!("{age} image onto {bytes} bytes in sectors of {sector}");
            let target = Sectors::new(bytes, sector, u64::MAX, Fault::Fail);
            assert!(has_to_be_fitted(image, &target).unwrap(), "{context}");
            let report = fit(image, &target, &FitOptions::default()).unwrap();
            let gpt = table(&target, sector);
            assert_eq!(gpt.entries[0].first_lba * u64::from(sector), range.start, "{context}");
            assert!(target.read_vec_at(range.start, content.len()).unwrap() == content, "{context}");
            let note = "table written for sectors of 512 bytes, not 4096";
            assert_eq!(report.notes.iter().any(|said| said == note), sector == 512, "{context}");
        }
        // On a disk of its own kind and size it is as it was, and nowhere else.
        let same = Sectors::new(size, 4096, u64::MAX, Fault::Fail);
        assert!(!has_to_be_fitted(image, &same).unwrap(), "{age}");
        apply_block_image(image, &same, &options(), &Ctl::default(), &Silent).unwrap();
        assert_eq!(table(&same, 4096).entries[0].first_lba * 4096, range.start);
        let other = Sectors::new(size, 512, u64::MAX, Fault::Fail);
        let refused = apply_block_image(image, &other, &options(), &Ctl::default(), &Silent).unwrap_err();
        assert!(refused.to_string().contains("made for sectors of 4096 bytes"), "{refused}");
    }
}

#[test]
fn what_no_partition_has_is_free_of_old_data() {
    let size = 12 * MIB;
    let (disk, range, content) = plain_disk(size);
    let image = capture(BlockSource::new(Box::new(disk), "disk", 512));
    for (bytes, sector) in [(20 * MIB, 512), (7 * MIB, 512), (20 * MIB, 4096)] {
        let context = format!("{bytes} bytes in sectors of {sector}");
        let target = Forgets(Sectors::new(bytes, sector, u64::MAX, Fault::Fail));
        let report = fit(&image, &target, &FitOptions::default()).unwrap();
        assert!(report.apply.is_verified, "{context}");
        let to = &report.partitions[0].to;
        assert!(target.read_vec_at(to.start, content.len()).unwrap() == content, "{context}");
        let found = target.0.0.inner().to_vec();
        let old = |range: Range<u64>| {
            found[range.start as usize..range.end as usize].iter().filter(|byte| **byte == 0xaa).count()
        };
        // The tables have any byte.
        let table_bytes = 32 << 10;
        assert_eq!((old(table_bytes..to.start), old(to.end..bytes - table_bytes)), (0, 0), "{context}");
        assert_eq!(found[0..440], [0; 440], "{context}: zeros stay zeros");
        assert_eq!(table(&target, sector).entries.len(), 1, "{context}");
        assert!(report.apply.discarded_bytes >= bytes - 5 * MIB, "{context}: {:?}", report.apply);
        assert_eq!(to.start, range.start);
    }
    // The same behind an image that is not fitted: one volume on a larger partition.
    let volume = vec![7; (3 * MIB) as usize];
    let image = capture(BlockSource::new(Box::new(MemoryDisk::from_bytes(volume)), "volume", 512));
    let target = Forgets(Sectors::new(9 * MIB, 512, u64::MAX, Fault::Fail));
    apply_block_image(&image, &target, &options(), &Ctl::default(), &Silent).unwrap();
    let found = target.0.0.inner().to_vec();
    assert!(!found.contains(&0xaa));
}

#[test]
fn a_fitted_disk_has_no_table_until_everything_else_is_right() {
    let (disk, range, content) = plain_disk(8 * MIB);
    let image = capture(BlockSource::new(Box::new(disk), "disk", 512));
    let counting = Sectors::new(6 * MIB, 512, u64::MAX, Fault::Fail);
    fit(&image, &counting, &FitOptions::default()).unwrap();
    let writes = counting.0.count(Operation::Write);
    let step = if full_run() { 1 } else { 3 };
    for at in (0..writes).filter(|at| at % step == 0 || at + 12 > writes) {
        for fault in [Fault::Fail, Fault::PowerCut { bytes: 300 }] {
            let target = Sectors::new(6 * MIB, 512, at, fault);
            let result = fit(&image, &target, &FitOptions::default());
            let bytes = target.0.into_inner();
            let context = format!("{fault:?} at {at} of {writes}");
            match Table::read(&bytes, 512).unwrap() {
                Table::Gpt { .. } => {
                    let found = bytes.read_vec_at(range.start, content.len()).unwrap();
                    assert!(found == content, "{context}: a table before its partitions");
                }
                _ => assert!(result.is_err(), "{context}"),
            }
            let again = Sectors(FaultyDisk::counting(bytes), 512);
            fit(&image, &again, &FitOptions::default()).unwrap();
            assert_eq!(table(&again, 512).entries.len(), 1, "{context}: next run");
        }
    }
}
