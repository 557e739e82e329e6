//! Images become NTFS volumes: read back by foreign tools, never mountable and incomplete at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use crate::common::{capture, open, sample};
use crate::disk::{Disk, has_boot_sector};
use crate::windows::{self, Builder, compare, file, noise};
use gravure_imaging::{
    CaptureOptions, Collisions, Error, ErrorKind, ExistingData, Finding, Strictness, Unrepresentable,
    VolumeApplyOptions, VolumeDevice, VolumeFile, VolumeReport, apply_to_volume, check_volume,
};
use gravure_io::{MemoryDisk, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_ntfs::VolumeOptions;
use gravure_nttypes::{FileAttributes, FileTime, NtName};
use gravure_testkit::{Fault, FaultyDisk, Operation, oracle, python_oracle_script};

const VOLUME_BYTES: usize = 96 << 20;

fn options() -> VolumeApplyOptions {
    VolumeApplyOptions {
        seed: Some([3; 32]),
        time: Some(FileTime(133_000_000_000_000_000)),
        collisions: Collisions::Keep,
        threads: Some(2),
        ..VolumeApplyOptions::default()
    }
}

fn apply(
    image: &Path,
    device: &dyn VolumeDevice,
    options: &VolumeApplyOptions,
) -> Result<VolumeReport, Error> {
    apply_to_volume(&open(image), device, options, &Ctl::default(), &Silent)
}

fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

#[test]
fn ntfs_tools_and_wimlib_read_what_was_applied() {
    read_by_others(512);
}

/// The same on a disk with sectors of 4096 bytes, and by dissect.
#[test]
fn ntfs_tools_and_wimlib_and_dissect_read_volumes_of_large_sectors() {
    const SCRIPT: &str = r#"
import hashlib, sys
from dissect.ntfs import NTFS

def walk(record, path):
    for name, entry in record.listdir(ignore_dos=True).items():
        if not path and (name == "." or name[0] == "$"):
            continue
        child = entry.dereference()
        if child.is_reparse_point():
            continue
        if child.is_dir():
            walk(child, path + "/" + name)
        elif child.size():
            print(path + "/" + name, hashlib.sha1(child.open().read()).hexdigest(), sep="\t")

sys.stdout.reconfigure(encoding="utf-8", errors="surrogatepass")
with open(sys.argv[1], "rb") as file:
    volume = NTFS(file)
    walk(volume.mft.get(5), "")
"#;
    let (dir, ours) = read_by_others(4096);
    let volume = std::fs::read(dir.path().join("volume.ntfs")).unwrap();
    // Bytes of a sector and sectors of a cluster, and the copy of the boot sector in the last sector.
    assert_eq!((&volume[0x0b..0x0d], volume[0x0d]), (&4096u16.to_le_bytes()[..], 1));
    assert!(volume[volume.len() - 4096..][..512] == volume[..512]);
    let Some(mut python) = python_oracle_script("dissect.ntfs", SCRIPT) else { return };
    let text = run(python.arg(dir.path().join("volume.ntfs")));
    let split = |line: &str| line.split_once('\t').map(|(path, hash)| (path.to_owned(), hash.to_owned()));
    let mut found: Vec<(String, String)> = text.lines().filter_map(split).collect();
    found.sort();
    assert_eq!(found, ours);
}

/// Applies a tree to a file with sectors of so many bytes and has it read by others; the contents by path.
fn read_by_others(sector_bytes: u32) -> (tempfile::TempDir, Vec<(String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 5);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let target = dir.path().join("volume.ntfs");
    let device = VolumeFile::open(&target, Some(VOLUME_BYTES as u64)).unwrap();
    let device = device.with_sector_bytes(sector_bytes).unwrap();
    let report = apply(&image, &device, &options()).unwrap();
    assert!(report.verified_bytes > report.apply.bytes / 2 && report.apply.files > 100, "{report:?}");

    let again = apply(&image, &device, &options()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused);
    assert!(again.to_string().contains("it holds NTFS"), "{again}");
    let destroying = VolumeApplyOptions { existing: ExistingData::Destroy, ..options() };
    assert_eq!(apply(&image, &device, &destroying).unwrap().used_bytes, report.used_bytes);

    for (program, argument) in [("ntfsfix", "-n"), ("ntfsinfo", "-m")] {
        let Some(mut command) = oracle(program) else { continue };
        run(command.arg(argument).arg(&target));
    }
    let mut found = Vec::new();
    let mut note = |finding: &Finding| found.push(finding.to_string());
    check_volume(&target, Strictness::Fresh, &mut note, &Ctl::default()).unwrap();
    assert_eq!(found, Vec::<String>::new());
    let hashes = |path: &Path| {
        let image = open(path);
        let tree = image.tree();
        let mut all: Vec<(String, String)> = tree
            .walk()
            .filter_map(|step| {
                let node = tree.node(step.entry.node);
                let data = node.data.as_ref().filter(|data| data.size > 0)?;
                Some((step.display_path(), data.sha1?.to_string()))
            })
            .collect();
        all.sort();
        all
    };
    let ours = hashes(&image);
    assert!(ours.len() > 50);
    let again = dir.path().join("again.wim");
    capture(&target, &again, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    assert_eq!(ours, hashes(&again));
    // Every content as wimlib reads it from the volume is one of the image.
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        let captured = dir.path().join("captured.wim");
        run(wimlib.arg("capture").arg(&target).arg(&captured).args(["x", "--compress=none"]));
        assert_eq!(ours, hashes(&captured));
    }
    (dir, ours)
}

#[test]
fn a_volume_torn_at_any_write_is_none_or_complete() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 6);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let destroying = VolumeApplyOptions { existing: ExistingData::Destroy, ..options() };
    let blank = || MemoryDisk::new(VOLUME_BYTES, 512);
    let counting = Disk(FaultyDisk::counting(blank()));
    apply(&image, &counting, &destroying).unwrap();
    let (count, complete) = (counting.0.count(Operation::Write), counting.0.into_inner().to_vec());
    assert!(count > 20 && has_boot_sector(&complete));
    // The last five are the boot sectors and the syncs around them; before the first sync the old volume may stand.
    let step = (count / 8).max(1);
    let cuts = (0..count).step_by(usize::try_from(step).unwrap()).chain(count - 6..count);
    for at in cuts {
        // Every other write reaches the disk in part.
        let bytes = if at % 2 == 0 { 0 } else { 700 };
        let old = MemoryDisk::from_bytes(complete.clone());
        let disk = Disk(FaultyDisk::new(old, Operation::Write, at, Fault::PowerCut { bytes }));
        assert!(apply(&image, &disk, &destroying).is_err(), "cut at {at}");
        let left = disk.0.into_inner().to_vec();
        // What was there is the same volume, so a whole one is one that equals it but for what wipes took.
        let same = left == complete || left[512..left.len() - 512] == complete[512..complete.len() - 512];
        assert!(same || !has_boot_sector(&left), "cut at {at} of {count} after {bytes} bytes");
    }
}

#[test]
fn nothing_is_written_to_a_volume_that_is_too_small_or_cannot_hold_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("name"), vec![1; 3 << 20]).unwrap();
    std::fs::write(source.join("NAME"), b"twin").unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let refuse = |bytes: usize, collisions| {
        let disk = Disk(FaultyDisk::counting(MemoryDisk::new(bytes, 512)));
        let error = apply(&image, &disk, &VolumeApplyOptions { collisions, ..options() }).unwrap_err();
        assert_eq!((error.kind(), disk.0.count(Operation::Write)), (ErrorKind::Refused, 0));
        std::error::Error::source(&error).unwrap().to_string()
    };
    let why = refuse(16 << 20, Collisions::Refuse);
    assert_eq!(why, "1 things that NTFS cannot hold\n/name: name equals \"NAME\" but for case");
    let why = refuse(4 << 20, Collisions::Keep);
    assert!(why.starts_with("volume too small: ") && why.ends_with(" more needed"), "{why}");
}

/// What cannot be is left out and told, the rest is applied and read back.
#[test]
fn an_image_is_applied_without_what_ntfs_cannot_hold_when_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir_all(source.join("links")).unwrap();
    std::fs::create_dir(source.join("$Extend")).unwrap();
    std::fs::write(source.join("$Extend/below"), noise(9000, 3)).unwrap();
    std::fs::write(source.join("Name"), vec![1; 300_000]).unwrap();
    std::fs::write(source.join("NAME"), b"twin").unwrap();
    std::fs::write(source.join("popular"), noise(50_000, 4)).unwrap();
    for n in 0..1030 {
        std::fs::hard_link(source.join("popular"), source.join(format!("links/{n:04}"))).unwrap();
    }
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let disk = Disk::used(16 << 20);
    let refusing =
        VolumeApplyOptions { collisions: Collisions::Refuse, existing: ExistingData::Destroy, ..options() };
    let error = apply(&image, &disk, &refusing).unwrap_err();
    assert!(error.is_unrepresentable() && error.kind() == ErrorKind::Refused, "{error}");
    let skipping = VolumeApplyOptions { unrepresentable: Unrepresentable::Skip, ..refusing };
    let report = apply(&image, &disk, &skipping).unwrap().apply;
    assert_eq!((report.skipped, report.warnings.len()), (3, 3), "{:?}", report.warnings);
    let text = report.warnings.join("\n");
    for expected in [
        "/$Extend: name is reserved by the file system; left out",
        " but for case; left out",
        "1031 names; 1024",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let bytes = disk.bytes();
    let (volume, scan) = compare::scan(&bytes);
    let tree = &scan.tree;
    assert_eq!(tree.walk().count(), 1 + 1 + 1 + 1030);
    assert_eq!(tree.lookup("/$Extend/below"), None);
    let mut nodes: Vec<_> =
        tree.children(tree.lookup("/links").unwrap()).iter().map(|entry| entry.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        let data = tree.node(node).data.as_ref().unwrap();
        assert!(compare::read(&bytes, &volume, &scan.contents, data) == noise(50_000, 4));
    }
}

/// Zeros of sparse files are found before the volume is laid out; contents that come as a whole, and in pieces.
#[test]
fn zeros_of_sparse_files_get_no_clusters() {
    let mut b = Builder::new(3);
    let root = b.tree.root();
    let unit = |n: usize| noise(n << 16, n as u64);
    let contents = [
        [unit(1), vec![0; 300_000], unit(1)].concat(),
        vec![0; 5 << 20],
        [vec![0; 2 << 20], unit(3), vec![0; 1_500_001], unit(2), vec![0; 70_000]].concat(),
        unit(9),
    ];
    for (n, content) in contents.iter().enumerate() {
        let mut node = file(content);
        node.attributes |= FileAttributes::SPARSE;
        b.add(root, &format!("sparse {n}"), None, node);
    }
    // The same content, not sparse here.
    b.file(root, "plain", &contents[2]);
    let dir = tempfile::tempdir().unwrap();
    let (source, image) = (dir.path().join("source.ntfs"), dir.path().join("x.wim"));
    let made = VolumeOptions { label: NtName::default(), ..windows::options(32 << 20) };
    std::fs::write(&source, windows::volume(&b.tree, &made).0).unwrap();
    capture(&source, &image, &CaptureOptions::default());

    let disk = Disk::used(32 << 20);
    let destroying = VolumeApplyOptions { existing: ExistingData::Destroy, ..options() };
    let report = apply(&image, &disk, &destroying).unwrap();
    // Units with data: two, none, nine in as many as they touch, nine; and the plain copy.
    assert!(report.used_bytes < 8_500_000, "{report:?}");
    let plain: u64 = contents.iter().map(|content| content.len() as u64).sum();
    assert!(report.verified_bytes > plain + contents[2].len() as u64, "{report:?}");
    let bytes = disk.bytes();
    let (volume, scan) = compare::scan(&bytes);
    assert_eq!(compare::compare(&b.tree, &bytes, &volume, &scan), 5);
}

/// A partition that starts at 1 MiB.
struct Partition(Disk);

impl ReadAt for Partition {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Partition {
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
        self.0.discard(range)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl VolumeDevice for Partition {
    fn sector_bytes(&self) -> u32 {
        512
    }
    fn name(&self) -> &str {
        "partition"
    }
    fn first_byte(&self) -> u64 {
        1 << 20
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn a_volume_knows_where_its_partition_starts() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), b"content").unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let partition = Partition(Disk::used(16 << 20));
    let destroying = VolumeApplyOptions { existing: ExistingData::Destroy, ..options() };
    for (given, expected) in [(0, 2048u32), (63, 63)] {
        apply(&image, &partition, &VolumeApplyOptions { hidden_sectors: given, ..destroying.clone() })
            .unwrap();
        assert_eq!(partition.0.bytes()[0x1c..0x20], expected.to_le_bytes());
    }
}
