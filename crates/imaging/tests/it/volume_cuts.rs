//! Power cut, failing and short writes at every write of an apply to a volume, plain and compressed: what is left is the old volume, the
//! new one, or none.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::ptr_arg, reason = "sources are made of what has a size")]

use std::path::{Path, PathBuf};

use gravure_imaging::{
    CaptureOptions, Compact, Compression, Error, ErrorKind, ExistingData, ImageFile, VolumeApplyOptions,
    VolumeDevice, VolumeVerify, Which, WofAlgorithm, apply_to_volume, describe,
};
use gravure_io::MemoryDisk;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_ntfs::{CheckObserver, Finding, Strictness, Volume, check};
use gravure_nttypes::{FileAttributes, FileTime};
use gravure_testkit::{Fault, Operation, Random, Recording, RecordingDisk, Survives, full_run};
use gravure_tree::Tree;

use crate::common::{capture, open};
use crate::disk::{Disk, has_boot_sector};
use crate::windows::{self, Builder, compare, file, noise};

/// Room for a log of 2 MiB and the files.
const VOLUME_BYTES: u64 = 5 << 20;

/// Files that stand in records, in clusters, compressed, with holes.
fn new_tree() -> Tree {
    let mut b = Builder::new(5);
    let root = b.tree.root();
    let dir = b.directory(root, "Windows");
    for n in 0..30 {
        b.file(dir, &format!("small {n}"), &noise(n * 31, n as u64));
    }
    let text: Vec<u8> = noise(60_000, 1).iter().flat_map(|byte| [byte & 0x13, b'a', b'b']).collect();
    let linked = b.file(dir, "text", &text);
    b.link(root, "text again", linked);
    b.file(root, "noise", &noise(90_000, 2));
    let mut node = file(&[noise(65_536, 3), vec![0; 200_000], noise(70_000, 4)].concat());
    node.attributes |= FileAttributes::SPARSE;
    b.add(root, "sparse", None, node);
    b.tree
}

fn old_tree() -> Tree {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for n in 0..80 {
        b.file(root, &format!("old file {n}"), &noise(n * 211, 99 + n as u64));
    }
    b.tree
}

struct Case {
    image: PathBuf,
    old_tree: Tree,
    new_tree: Tree,
    /// What the disk holds before.
    before: Vec<u8>,
}

impl Case {
    fn new(dir: &Path) -> Self {
        let (source, image) = (dir.join("source.ntfs"), dir.join("x.wim"));
        let (old_tree, new_tree) = (old_tree(), new_tree());
        let options = windows::options(VOLUME_BYTES);
        std::fs::write(&source, windows::volume(&new_tree, &options).0).unwrap();
        let compression = Some(Compression::LZX_32K);
        capture(&source, &image, &CaptureOptions { compression, ..CaptureOptions::default() });
        let before = windows::volume(&old_tree, &options).0;
        Self { image, old_tree, new_tree, before }
    }

    fn apply(&self, device: &dyn VolumeDevice, compact: Compact) -> Result<(), Error> {
        let options = VolumeApplyOptions {
            seed: Some([3; 32]),
            time: Some(FileTime(133_000_000_000_000_000)),
            threads: Some(1),
            existing: ExistingData::Destroy,
            compact,
            verify: VolumeVerify::Full,
            ..VolumeApplyOptions::default()
        };
        let report = apply_to_volume(&open(&self.image), device, &options, &Ctl::default(), &Silent)?;
        assert_eq!(report.compact.files, u64::from(compact != Compact::Never), "{report:?}");
        Ok(())
    }

    fn record(&self, compact: Compact) -> Recording {
        let disk = Disk(RecordingDisk::new(MemoryDisk::from_bytes(self.before.clone())));
        self.apply(&disk, compact).unwrap();
        disk.0.into_recording()
    }

    /// What a disk holds: nothing that anybody mounts, the old volume, or the new one. Everything else is the end of the test.
    #[expect(clippy::ptr_arg, reason = "`ReadAt` is for vectors")]
    fn judge(&self, state: &Vec<u8>, what: &str) -> Left {
        let Ok(volume) = Volume::open(state) else { return Left::Nothing };
        let mut findings = Findings::default();
        check(state, Strictness::Fresh, &mut findings).unwrap();
        let is_old = volume.boot().serial == Volume::open(&self.before).unwrap().boot().serial;
        // While the old one is wiped, its copy of the boot sector may go first.
        let allowed = |text: &String| is_old && text.contains("copy of the boot sector");
        assert!(findings.0.iter().all(allowed), "{what}: {:?}", findings.0);
        let (volume, scan) = compare::scan(state);
        let tree = if is_old { &self.old_tree } else { &self.new_tree };
        compare::compare(tree, state, &volume, &scan);
        if is_old { Left::Old } else { Left::New }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Old,
    New,
}

#[derive(Default)]
struct Findings(Vec<String>);

impl CheckObserver for Findings {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(finding.to_string());
    }
}

const BOTH: [Compact; 2] = [Compact::Never, Compact::Always];

#[test]
fn power_may_be_cut_at_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(dir.path());
    let mut random = Random::new(gravure_testkit::seed());
    for compact in BOTH {
        let recording = case.record(compact);
        assert!(recording.len() > 20, "{}", recording.len());
        let mut left = [0; 3];
        for count in 0..=recording.len() {
            let mut judge = |state: Vec<u8>, how: &str| {
                let what = format!("{compact:?}, cut at {count} of {}, {how}", recording.len());
                left[case.judge(&state, &what) as usize] += 1;
            };
            judge(recording.cut(&case.before, count, Survives::All), "all there");
            for bytes in [512, 4096, 70_144] {
                judge(
                    recording.cut(&case.before, count, Survives::Torn(bytes)),
                    &format!("torn after {bytes}"),
                );
            }
            for _ in 0..if full_run() { 20 } else { 2 } {
                judge(recording.cut(&case.before, count, Survives::Some(&mut random)), "in any order");
            }
        }
        assert!(left[0] > 60 && left[1] > 2 && left[2] > 2, "{left:?}");
    }
}

#[test]
fn a_write_that_fails_at_any_place_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(dir.path());
    for compact in BOTH {
        let counting = Disk::with(case.before.clone(), Operation::Write, u64::MAX, Fault::Fail);
        case.apply(&counting, compact).unwrap();
        let count = counting.0.count(Operation::Write);
        for at in 0..count {
            for fault in [Fault::Fail, Fault::Short { bytes: 512 }] {
                let what = format!("{compact:?}, {fault:?} at {at} of {count}");
                let disk = Disk::with(case.before.clone(), Operation::Write, at, fault);
                let error = case.apply(&disk, compact).expect_err(&what);
                assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
                let whole = format!("{error}: {}", std::error::Error::source(&error).unwrap());
                assert!(whole.contains("disk") && whole.contains("injected fault"), "{what}: {whole}");
                // The failed one may have been the first, which leaves the old volume, or the last flush, which leaves the new one.
                let state = disk.bytes();
                match case.judge(&state, &what) {
                    Left::Nothing => {}
                    Left::Old => assert!(at < 1, "{what}"),
                    Left::New => assert!(at + 2 >= count, "{what}"),
                }
            }
        }
    }
}

/// How contents come to the volume, beside the ways of the other tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Compressed anew, as the image has them in another form.
    Recoded,
    /// Copied without being decoded, on the word of a descriptor.
    Trusted,
    /// On several threads, compressed and not.
    Threads(Compact),
}

#[test]
fn no_room_or_a_bad_sector_at_any_write_is_a_clear_error_whatever_way_contents_come() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(dir.path());
    let large_chunks = dir.path().join("large chunks.wim");
    let compression = Some(Compression::XPRESS_32K);
    let source = dir.path().join("source.ntfs");
    capture(&source, &large_chunks, &CaptureOptions { compression, ..CaptureOptions::default() });
    let descriptor = describe(&case.image, &Ctl::default(), &Silent).unwrap();
    for way in [Way::Recoded, Way::Trusted, Way::Threads(Compact::Never), Way::Threads(Compact::Always)] {
        let apply = |disk: &Disk| -> Result<(), Error> {
            let options = VolumeApplyOptions {
                seed: Some([3; 32]),
                time: Some(FileTime(133_000_000_000_000_000)),
                threads: Some(if matches!(way, Way::Threads(_)) { 3 } else { 1 }),
                existing: ExistingData::Destroy,
                compact: if let Way::Threads(compact) = way { compact } else { Compact::Always },
                recode: (way == Way::Recoded).then_some(WofAlgorithm::Xpress4K),
                ..VolumeApplyOptions::default()
            };
            let image = match way {
                Way::Recoded => open(&large_chunks),
                Way::Threads(_) => open(&case.image),
                Way::Trusted => {
                    let file = ImageFile::open_path_described(&case.image, &descriptor).unwrap();
                    file.image(file.find(&Which::Only).unwrap()).unwrap()
                }
            };
            let report = apply_to_volume(&image, disk, &options, &Ctl::default(), &Silent)?;
            assert_eq!(report.compact.files, u64::from(way != Way::Threads(Compact::Never)), "{report:?}");
            assert_eq!(report.compact.recoded_files, u64::from(way == Way::Recoded), "{report:?}");
            Ok(())
        };
        let counting = Disk::with(case.before.clone(), Operation::Write, u64::MAX, Fault::Fail);
        apply(&counting).unwrap();
        let count = counting.0.count(Operation::Write);
        assert!(count > 20, "{count}");
        for at in 0..count {
            let (fault, says) = match at % 2 {
                0 => (Fault::ENOSPC, "No space left on device"),
                _ => (Fault::EIO, "Input/output error"),
            };
            let what = format!("{way:?}, {fault:?} at {at} of {count}");
            let disk = Disk::with(case.before.clone(), Operation::Write, at, fault);
            let error = apply(&disk).expect_err(&what);
            assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
            let mut whole = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                whole.push_str(&format!(": {error}"));
                cause = error.source();
            }
            assert!(whole.contains("disk") && whole.contains(says), "{what}: {whole}");
            match case.judge(&disk.bytes(), &what) {
                Left::Nothing => {}
                Left::Old => assert!(at < 1, "{what}"),
                Left::New => assert!(at + 2 >= count, "{what}"),
            }
        }
    }
}

#[test]
fn a_read_that_fails_or_lies_while_the_volume_is_checked_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(dir.path());
    for compact in BOTH {
        let counting = Disk::with(case.before.clone(), Operation::Read, u64::MAX, Fault::Fail);
        case.apply(&counting, compact).unwrap();
        let count = counting.0.count(Operation::Read);
        let step = if full_run() { 1 } else { 1 + count / 40 };
        for at in (0..count).step_by(usize::try_from(step).unwrap()) {
            let what = format!("{compact:?}, read {at} of {count}");
            let disk = Disk::with(case.before.clone(), Operation::Read, at, Fault::Fail);
            let error = case.apply(&disk, compact).expect_err(&what);
            assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
            assert!(!has_boot_sector(&disk.bytes()), "{what}");
            let disk = Disk::with(case.before.clone(), Operation::Read, at, Fault::Flip { bit: 4099 });
            match case.apply(&disk, compact) {
                Err(error) => assert!(error.is_integrity(), "{what}: {error}"),
                // The bit stands where nothing is, or is read twice.
                Ok(()) => assert_eq!(case.judge(&disk.bytes(), &what), Left::New, "{what}"),
            }
        }
    }
}
