//! NTFS volumes as sources: what is captured from one is what wimlib captures from it, and what was put onto it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::common::{capture, open, run};
use crate::windows::patch::Patcher;
use crate::windows::{Builder, directory, file, noise, options, volume, windows_tree};
use gravure_imaging::{
    Aspect, CaptureOptions, Change, Collisions, DiffOptions, Error, ErrorKind, Finding, ScanOptions, Side,
    Strictness, UncleanVolumes, VolumeApplyOptions, VolumeFile, apply_to_volume, capture_directory,
    check_volume, diff, is_ntfs_volume, volume_info, volume_tree,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::FileTime;
use gravure_testkit::oracle;

/// A file with a volume of everything.
fn written(dir: &Path) -> PathBuf {
    let path = dir.join("volume.ntfs");
    std::fs::write(&path, volume(&windows_tree(700), &options(64 << 20)).0).unwrap();
    path
}

fn differences(first: Side<'_>, second: Side<'_>, ignore: &[Aspect]) -> Vec<String> {
    let options = DiffOptions { ignore: ignore.to_vec(), ..DiffOptions::default() };
    let report = diff(first, second, &options, &Ctl::default(), &Silent).unwrap();
    assert!(report.compared > 20 && report.skipped == 0, "{report:?}");
    report
        .changes
        .iter()
        .filter(|change| !is_own_short_name(change))
        .map(|change| format!("{change:?}"))
        .collect()
}

/// wimlib gives names that are short by themselves a short name, Windows does not.
fn is_own_short_name((path, change): &(String, Change)) -> bool {
    let Change::Differs(list) = change else { return false };
    let [only] = list.as_slice() else { return false };
    only.aspect == Aspect::ShortName && only.first == "none" && path.ends_with(&format!("/{}", only.second))
}

fn apply(image: &Path, target: &Path) {
    let device = VolumeFile::open(target, Some(64 << 20)).unwrap();
    let options = VolumeApplyOptions {
        seed: Some([3; 32]),
        time: Some(FileTime(133_000_000_000_000_000)),
        collisions: Collisions::Keep,
        ..VolumeApplyOptions::default()
    };
    let report = apply_to_volume(&open(image), &device, &options, &Ctl::default(), &Silent).unwrap();
    assert!(report.verified_bytes > 0 && report.apply.warnings.is_empty(), "{report:?}");
}

fn findings(path: &Path, strictness: Strictness) -> Vec<String> {
    let mut found = Vec::new();
    let mut keep = |finding: &Finding| found.push(finding.to_string());
    check_volume(path, strictness, &mut keep, &Ctl::default()).unwrap();
    found
}

#[test]
fn a_captured_volume_is_the_image_that_made_it_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    assert!(is_ntfs_volume(&path) && !is_ntfs_volume(dir.path()));
    let image = dir.path().join("first.wim");
    let report = capture(&path, &image, &CaptureOptions::default());
    assert!(report.files > 800 && report.skipped == 0 && report.warnings.is_empty(), "{report:?}");
    assert_eq!(differences(Side::Volume(&path), Side::Image(&open(&image)), &[]), Vec::<String>::new());

    let target = dir.path().join("second.ntfs");
    apply(&image, &target);
    assert_eq!(findings(&target, Strictness::Fresh), Vec::<String>::new());
    let again = dir.path().join("second.wim");
    capture(&target, &again, &CaptureOptions { threads: Some(1), ..CaptureOptions::default() });
    assert_eq!(
        differences(Side::Image(&open(&image)), Side::Image(&open(&again)), &[]),
        Vec::<String>::new()
    );
}

#[test]
fn wimlib_captures_the_same_from_the_same_volume() {
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    let (ours, theirs) = (dir.path().join("ours.wim"), dir.path().join("theirs.wim"));
    capture(&path, &ours, &CaptureOptions::default());
    run(wimlib.arg("capture").arg(&path).arg(&theirs).args(["x", "--compress=none"]));
    // Its libntfs reads no extended attributes.
    // It marks links of volumes as if their targets had been changed.
    let ignore = [Aspect::ExtendedAttributes, Aspect::LinkFlags];
    assert_eq!(
        differences(Side::Image(&open(&ours)), Side::Image(&open(&theirs)), &ignore),
        Vec::<String>::new()
    );
}

/// A volume that mkntfs formatted and libntfs filled is read as the image it was filled from, and is no less sound than ours.
#[test]
fn what_wimlib_put_onto_a_volume_is_captured_from_it() {
    let (Some(mut wimlib), Some(mut mkntfs)) = (oracle("wimlib-imagex"), oracle("mkntfs")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("source.wim");
    capture(&written(dir.path()), &image, &CaptureOptions::default());
    let target = dir.path().join("target.ntfs");
    std::fs::File::create(&target).unwrap().set_len(64 << 20).unwrap();
    run(mkntfs.args(["-F", "-q", "-L", "Theirs"]).arg(&target));
    run(wimlib.arg("apply").arg(&image).arg("1").arg(&target));
    let found = findings(&target, Strictness::Usual);
    assert_eq!(found, Vec::<String>::new());
    let again = dir.path().join("again.wim");
    let report = capture(&target, &again, &CaptureOptions::default());
    assert!(report.warnings.is_empty(), "{report:?}");
    // It restores no extended attributes, and a file without holes is not sparse.
    let (first, second) = (open(&image), open(&again));
    let mut left = differences(Side::Image(&first), Side::Image(&second), &[Aspect::ExtendedAttributes]);
    left.retain(|change| !change.contains("\"/sparse\", Differs([Difference { aspect: Attributes,"));
    assert_eq!(left, Vec::<String>::new());
}

fn capture_error(path: &Path, image: &Path, options: &CaptureOptions) -> Error {
    capture_directory(path, image, options, &Ctl::default(), &Silent).unwrap_err()
}

#[test]
fn volumes_that_were_not_left_in_order_are_refused_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut b = Builder::new(2);
    let root = b.tree.root();
    b.file(root, "a file.txt", &noise(5000, 1));
    b.file(root, "hiberfil.sys", b"wake up, nobody sleeps here");
    let (clean, _) = volume(&b.tree, &options(16 << 20));
    let (path, image) = (dir.path().join("v.img"), dir.path().join("x.wim"));
    std::fs::write(&path, &clean).unwrap();
    assert_eq!(capture(&path, &image, &CaptureOptions::default()).files, 1);

    let patcher = Patcher::new(clean.clone());
    let flags = patcher.record(3) + patcher.attribute(3, 0x70, "").value + 0xa;
    let sleeper = patcher.find("hiberfil.sys");
    let sleeper = patcher.record(sleeper) + patcher.attribute(sleeper, 0x80, "").value;
    let log = patcher.clusters(2, 0x80, "");
    for (what, offset, bytes) in [
        ("marked dirty", flags, &[0x81u8][..]),
        ("hibernated", sleeper, b"hibr"),
        ("in an unknown state", log, &[0, 1, 2, 3]),
    ] {
        std::fs::write(&path, &clean).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(bytes, offset as u64).unwrap();
        let error = capture_error(&path, &image, &CaptureOptions::default());
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(what), "{error}");
        let scan = ScanOptions { unclean: UncleanVolumes::Read, ..ScanOptions::default() };
        let report = capture(&path, &image, &CaptureOptions { scan, ..CaptureOptions::default() });
        assert!(report.files == 1 && report.skipped == 0 && report.warnings[0].contains(what), "{report:?}");
    }
}

#[test]
fn paging_files_are_left_out_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for name in ["pagefile.sys", "swapfile.sys", "kept.txt"] {
        b.file(root, name, &noise(100, 1));
    }
    let information = b.add(root, "System Volume Information", None, directory());
    b.add(information, "tracking.log", None, file(b"x"));
    let path = dir.path().join("v.ntfs");
    std::fs::write(&path, volume(&b.tree, &options(16 << 20)).0).unwrap();
    let image = dir.path().join("x.wim");
    let report = capture(&path, &image, &CaptureOptions::default());
    assert_eq!((report.files, report.directories, report.skipped), (1, 1, 0));
    assert!(open(&image).tree().lookup("/kept.txt").is_some());
    let (tree, warnings) = volume_tree(&path, &ScanOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(warnings.is_empty() && tree.lookup("/System Volume Information/tracking.log").is_some());
    let info = volume_info(&path).unwrap();
    assert_eq!(info.volume.label().to_string(), "Gravure");
    assert!(info.used_clusters > 500 && info.used_clusters < info.volume.boot().clusters);
}

#[test]
fn what_is_no_ntfs_volume_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zeros.img");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let error = capture_error(&path, &dir.path().join("x.wim"), &CaptureOptions::default());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("no NTFS volume"), "{error}");
}
