//! Images become NTFS volumes: read back by foreign tools, never mountable and incomplete at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

use crate::common::{capture, open, sample};
use crate::disk::{Disk, has_boot_sector};
use gravure_imaging::{
    CaptureOptions, Collisions, Error, ErrorKind, ExistingData, VolumeApplyOptions, VolumeDevice, VolumeFile,
    VolumeReport, apply_to_volume,
};
use gravure_io::MemoryDisk;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::FileTime;
use gravure_testkit::{Fault, FaultyDisk, Operation, oracle};

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
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 5);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let target = dir.path().join("volume.ntfs");
    let device = VolumeFile::open(&target, Some(VOLUME_BYTES as u64)).unwrap();
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
    // Every content as wimlib reads it from the volume is one of the image.
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let captured = dir.path().join("captured.wim");
    run(wimlib.arg("capture").arg(&target).arg(&captured).args(["x", "--compress=none"]));
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
    let (ours, theirs) = (hashes(&image), hashes(&captured));
    assert!(ours.len() > 50);
    assert_eq!(ours, theirs);
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
    // The last four are the boot sectors and two syncs around them; before the first sync the old volume may stand.
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
