//! Disks as a power cut left them: what was synced is right after a restore onto a disk full of other bytes, or the capture is
//! refused; never success with wrong content. Partclone gets 0 of 200 files right here (specs/block-imaging.md, 6.3).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImage,
    BlockPlan, BlockPlanOptions, BlockSource, Error, ErrorKind, ExistingData, Keep, VolumeFile,
    apply_block_image,
};
use gravure_io::{FileAt, MemoryDisk, ReadAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, FaultyDisk, MountedFile, Operation, Random, full_run, oracle};

const MIB: u64 = 1 << 20;
/// Where the partition begins.
const START: u64 = MIB;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Files that were synced before the power went.
type Synced = Vec<(String, Vec<u8>)>;

/// A disk with one partition as a power cut left it, and what it must hold. What is free is full of something else.
struct Crashed {
    dir: tempfile::TempDir,
    disk: PathBuf,
    synced: Synced,
    partition_bytes: u64,
}

impl Crashed {
    fn new(size: u64, mkfs: &mut Command, files: usize, largest: u64) -> Option<Self> {
        let mut sgdisk = oracle("sgdisk")?;
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::File::create(&volume).unwrap().set_len(size).unwrap();
        run(mkfs.arg(&volume));
        let mut random = Random::new(size);
        let disk = dir.path().join("disk");
        let synced = {
            let mounted = MountedFile::new(&volume, "")?;
            // Aged: files that were there are gone, and their blocks are taken again.
            for number in 0..files {
                std::fs::write(mounted.root.join(format!("old{number}")), vec![0x55; 40_000]).unwrap();
            }
            run(Command::new("sync").arg("-f").arg(&mounted.root));
            for number in (0..files).step_by(2) {
                std::fs::remove_file(mounted.root.join(format!("old{number}"))).unwrap();
            }
            let mut synced = Vec::new();
            for number in 0..files {
                let mut content = vec![0; usize::try_from(largest / 2 + random.below(largest / 2)).unwrap()];
                random.fill(&mut content);
                let name = format!("new{number}");
                let mut file = std::fs::File::create(mounted.root.join(&name)).unwrap();
                file.write_all(&content).unwrap();
                file.sync_all().unwrap();
                synced.push((name, content));
            }
            let mut target = std::fs::File::create(&disk).unwrap();
            target.set_len(START).unwrap();
            io::Seek::seek(&mut target, io::SeekFrom::Start(START)).unwrap();
            io::copy(&mut std::fs::File::open(&volume).unwrap(), &mut target).unwrap();
            target.set_len(START + size + MIB).unwrap();
            synced
        };
        std::fs::remove_file(&volume).unwrap();
        run(sgdisk
            .args(["-a", "1", "-n", &format!("1:{}:{}", START / 512, (START + size) / 512 - 1)])
            .arg(&disk));
        Some(Self { dir, disk, synced, partition_bytes: size })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The partition of a disk as a file.
    fn partition(&self, disk: &Path) -> PathBuf {
        let out = self.path("partition");
        let mut from = std::fs::File::open(disk).unwrap();
        io::Seek::seek(&mut from, io::SeekFrom::Start(START)).unwrap();
        let mut from = io::Read::take(from, self.partition_bytes);
        io::copy(&mut from, &mut std::fs::File::create(&out).unwrap()).unwrap();
        out
    }

    /// Synced files that are not right on a mounted volume.
    fn wrong(&self, mounted: &MountedFile) -> Vec<&str> {
        let differs = |name: &str, content: &[u8]| {
            std::fs::read(mounted.root.join(name)).map_or(true, |found| found != content)
        };
        let wrong = self.synced.iter().filter(|(name, content)| differs(name, content));
        wrong.map(|(name, _)| name.as_str()).collect()
    }

    /// Restores `image` onto a disk full of 0xaa.
    fn restore(&self, image: &Path) -> PathBuf {
        let target = self.path("target");
        let size = std::fs::metadata(&self.disk).unwrap().len();
        std::fs::write(&target, vec![0xaa; usize::try_from(size).unwrap()]).unwrap();
        let device = VolumeFile::open(&target, None).unwrap();
        let image = BlockImage::open(Arc::new(FileAt::open(image).unwrap()), "image").unwrap();
        let report = apply_block_image(&image, &device, &apply_options(), &Ctl::default(), &Silent).unwrap();
        assert!(report.is_verified);
        target
    }
}

fn apply_options() -> BlockApplyOptions {
    BlockApplyOptions { existing: ExistingData::Destroy, threads: Some(2), ..BlockApplyOptions::default() }
}

fn plan(source: BlockSource, keep: Keep) -> Result<BlockPlan, Error> {
    let options = BlockPlanOptions { name: "test".to_owned(), keep, ..BlockPlanOptions::default() };
    BlockPlan::new(source, &options, &Ctl::default())
}

fn with_capture<T>(plan: &BlockPlan, work: impl FnOnce(&BlockCapture<'_>) -> T) -> T {
    let hits = |range: &Range<u64>| plan.hits(range);
    work(&BlockCapture {
        source: plan,
        name: plan.name(),
        layout: plan.layout(),
        facts: plan.facts(),
        hits: &hits,
    })
}

fn capture(disk: &Path, image: &Path, keep: Keep) -> Result<BlockCaptureReport, Error> {
    let plan = plan(BlockSource::open(disk)?, keep)?;
    with_capture(&plan, |capture| {
        capture.to_file(image, &BlockCaptureOptions::default(), &Ctl::default(), &Silent)
    })
}

/// As many as the specification's test has, in full runs.
fn scale() -> (usize, u64) {
    if full_run() { (200, 400_000) } else { (50, 200_000) }
}

#[test]
fn every_synced_file_of_ext4_is_right_after_a_crash() {
    let (Some(mut mkfs), Some(mut fsck)) = (oracle("mkfs.ext4"), oracle("e2fsck")) else { return };
    let (files, largest) = scale();
    let mkfs = mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0"]);
    // Room for all of it twice: what was removed is given back at the next commit only.
    let size = if full_run() { 128 * MIB } else { 64 * MIB };
    let Some(crashed) = Crashed::new(size, mkfs, files, largest) else { return };
    let before = blake3::hash(&std::fs::read(&crashed.disk).unwrap());
    let image = crashed.path("x.gim");
    let report = capture(&crashed.disk, &image, Keep::Used).unwrap();
    assert_eq!(blake3::hash(&std::fs::read(&crashed.disk).unwrap()), before, "the source is only read");
    assert!(report.data_bytes < crashed.partition_bytes, "{report:?}");
    let opened = BlockImage::open(Arc::new(FileAt::open(&image).unwrap()), "image").unwrap();
    let volume = &opened.facts().volumes[0];
    assert_eq!(volume.state.as_deref(), Some("journal replayed"));
    assert!(volume.replayed_bytes > 0);
    let target = crashed.restore(&image);
    let partition = crashed.partition(&target);
    run(fsck.arg("-fn").arg(&partition));
    // Without the journal: everything must stand in its place already.
    let mounted = MountedFile::new(&partition, "ro,noload").unwrap();
    let wrong = crashed.wrong(&mounted);
    assert!(wrong.is_empty(), "{} of {} files are wrong: {wrong:?}", wrong.len(), crashed.synced.len());
}

#[test]
fn xfs_with_a_pending_log_is_refused_or_kept_whole() {
    let (Some(mut mkfs), Some(mut repair)) = (oracle("mkfs.xfs"), oracle("xfs_repair")) else { return };
    let (files, largest) = scale();
    let Some(crashed) = Crashed::new(320 * MIB, mkfs.args(["-q", "-f"]), files, largest) else { return };
    let image = crashed.path("x.gim");
    let error = capture(&crashed.disk, &image, Keep::Used).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let message = error.to_string();
    assert!(message.contains("partition 1 of") && message.contains("log"), "{message}");
    assert!(!image.exists(), "nothing is left that looks like an image");
    capture(&crashed.disk, &image, Keep::UsedOrEverything).unwrap();
    let partition = crashed.partition(&crashed.restore(&image));
    {
        let mounted = MountedFile::new(&partition, "nouuid").unwrap();
        let wrong = crashed.wrong(&mounted);
        assert!(wrong.is_empty(), "{} of {} files are wrong: {wrong:?}", wrong.len(), crashed.synced.len());
    }
    run(repair.args(["-n", "-f"]).arg(&partition));
}

/// Reads through a fault, as a source of images.
struct Source(Arc<FaultyDisk<MemoryDisk>>);

impl ReadAt for Source {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

fn capture_failing(
    disk: &Arc<FaultyDisk<MemoryDisk>>,
    out: &mut Vec<u8>,
) -> Result<BlockCaptureReport, Error> {
    let plan = plan(BlockSource::new(Box::new(Source(Arc::clone(disk))), "disk", 512), Keep::Used)?;
    let options = BlockCaptureOptions { threads: Some(1), ..BlockCaptureOptions::default() };
    with_capture(&plan, |capture| capture.to_stream(out, "memory", &options, &Ctl::default(), &Silent))
}

fn apply_to_memory(image: &BlockImage, size: u64) -> (Result<BlockApplyReport, Error>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0xaa; usize::try_from(size).unwrap()]).unwrap();
    let device = VolumeFile::open(&path, None).unwrap();
    let result = apply_block_image(image, &device, &apply_options(), &Ctl::default(), &Silent);
    (result, std::fs::read(path).unwrap())
}

/// Every read of the source, of maps and journal too, may fail once: the capture ends with an error, or, where trying again helped,
/// the image is the one it always is.
#[test]
fn a_source_that_fails_at_any_read_gives_an_error_or_the_same_image() {
    let Some(mut mkfs) = oracle("mkfs.ext4") else { return };
    let mkfs = mkfs.args(["-q", "-F", "-b", "1024", "-J", "size=1", "-E", "lazy_itable_init=0"]);
    let Some(crashed) = Crashed::new(12 * MIB, mkfs, 12, 30_000) else { return };
    let bytes = std::fs::read(&crashed.disk).unwrap();
    let disk = |at, fault| {
        Arc::new(FaultyDisk::new(MemoryDisk::from_bytes(bytes.clone()), Operation::Read, at, fault))
    };
    let counting = disk(u64::MAX, Fault::Fail);
    let mut expected = Vec::new();
    capture_failing(&counting, &mut expected).unwrap();
    let reads = counting.count(Operation::Read);
    assert!(reads > 30, "{reads}");
    let step = if full_run() { 1 } else { reads / 40 + 1 };
    let (mut failed, mut same) = (0, 0);
    for at in (0..reads).step_by(usize::try_from(step).unwrap()) {
        let disk = disk(at, Fault::Fail);
        let mut image = Vec::new();
        match capture_failing(&disk, &mut image) {
            Ok(report) => {
                assert!(image == expected && report.unreadable_bytes == 0, "read {at} of {reads}");
                same += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "read {at} of {reads}: {error}");
                failed += 1;
            }
        }
        assert!(disk.struck());
    }
    assert!(failed > 0 && same > 0, "{failed} failed, {same} the same");
}

/// An image that is cut off, reset or changed under way, at every read of it.
#[test]
fn an_image_that_fails_at_any_read_never_looks_restored() {
    let mut random = Random::new(11);
    let size = 2 * MIB + 4096;
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    random.fill(&mut bytes);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let source = BlockSource::new(Box::new(MemoryDisk::from_bytes(bytes.clone())), "disk", 512);
    let plan = plan(source, Keep::Everything).unwrap();
    let mut image = Vec::new();
    with_capture(&plan, |capture| {
        capture.to_stream(&mut image, "memory", &BlockCaptureOptions::default(), &Ctl::default(), &Silent)
    })
    .unwrap();
    let open = |at, fault| {
        let disk =
            Arc::new(FaultyDisk::new(MemoryDisk::from_bytes(image.clone()), Operation::Read, at, fault));
        (BlockImage::open(Arc::new(Source(Arc::clone(&disk))), "image"), disk)
    };
    let (opened, counting) = open(u64::MAX, Fault::Fail);
    apply_to_memory(&opened.unwrap(), size).0.unwrap();
    let reads = counting.count(Operation::Read);
    let step = if full_run() { 1 } else { reads / 30 + 1 };
    for at in (0..reads).step_by(usize::try_from(step).unwrap()) {
        for fault in [Fault::Fail, Fault::Lie, Fault::Flip { bit: random.next_u64() }] {
            let context = format!("{fault:?} at {at} of {reads}");
            let (opened, _disk) = open(at, fault);
            let Ok(opened) = opened else { continue };
            let (result, target) = apply_to_memory(&opened, size);
            match result {
                Ok(report) => assert!(report.is_verified && target == bytes, "{context}"),
                Err(error) => {
                    let is_untouched = target.iter().all(|byte| *byte == 0xaa);
                    assert!(
                        is_untouched || target[..512].iter().all(|byte| *byte == 0),
                        "{context}: {error}"
                    );
                }
            }
        }
    }
}
