//! Damaged images onto volumes: refused, or what decodes of them kept, and nothing of what the disk held before.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{capture, open};
use crate::disk::{Disk, has_boot_sector};
use gravure_imaging::{
    ApplyOptions, Aspect, CaptureOptions, Change, Compact, DamagedContent, DiffOptions, Error, ErrorKind,
    ExistingData, Finding, Side, Strictness, VolumeApplyOptions, VolumeReport, VolumeVerify,
    apply_to_directory, apply_to_volume, check_volume, diff,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;

const LARGE_BYTES: usize = 1_500_000;

/// Contents that do not shrink to nothing, by name. The first two of them stand first in the image, in this order.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let content = |len: usize, seed: u32| -> Vec<u8> {
        let mut state = seed;
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"etaoin shrdlu123"[(state >> 28) as usize]
        });
        next.take(len).collect()
    };
    vec![
        ("a large", content(LARGE_BYTES, 1)),
        ("b small", content(90_000, 2)),
        ("c sound", content(200_000, 3)),
        ("d tiny", content(90, 4)),
    ]
}

fn image(dir: &Path) -> PathBuf {
    let source = dir.join("source");
    fs::create_dir(&source).unwrap();
    for (name, content) in contents() {
        fs::write(source.join(name), content).unwrap();
    }
    let image = dir.join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    image
}

fn apply(image: &Path, disk: &Disk, damaged: DamagedContent) -> Result<VolumeReport, Error> {
    let options = VolumeApplyOptions {
        existing: ExistingData::Destroy,
        compact: Compact::Always,
        verify: VolumeVerify::Full,
        threads: Some(2),
        damaged,
        ..VolumeApplyOptions::default()
    };
    apply_to_volume(&open(image), disk, &options, &Ctl::default(), &Silent)
}

/// Content of a file on the volume in `disk`.
fn on_volume(dir: &Path, disk: &Disk) -> Vec<(String, Vec<u8>)> {
    let (volume, image, out) = (dir.join("v.ntfs"), dir.join("v.wim"), dir.join("out"));
    fs::write(&volume, disk.bytes()).unwrap();
    let mut found = Vec::new();
    check_volume(
        &volume,
        Strictness::Fresh,
        &mut |finding: &Finding| found.push(finding.to_string()),
        &Ctl::default(),
    )
    .unwrap();
    assert_eq!(found, Vec::<String>::new());
    capture(&volume, &image, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    apply_to_directory(&open(&image), &out, &ApplyOptions::default(), &Ctl::default(), &Silent).unwrap();
    contents().iter().map(|(name, _)| ((*name).to_owned(), fs::read(out.join(name)).unwrap())).collect()
}

#[test]
fn damaged_content_is_refused_or_kept_as_far_as_it_decodes() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    // In the middle of the first content, whose chunks have 32 KiB.
    for byte in &mut bytes[200_000..200_040] {
        *byte ^= 0x5a;
    }
    fs::write(&path, &bytes).unwrap();

    let disk = Disk::used(32 << 20);
    let error = apply(&path, &disk, DamagedContent::Refuse).unwrap_err();
    assert!(error.kind() == ErrorKind::Integrity && error.to_string().contains("/a large"), "{error}");
    assert!(!has_boot_sector(&disk.bytes()));

    let disk = Disk::used(32 << 20);
    let report = apply(&path, &disk, DamagedContent::Keep).unwrap();
    assert_eq!((report.apply.skipped, report.apply.damaged.as_slice()), (1, &["/a large".to_owned()][..]));
    assert!(report.apply.warnings[0].contains("what could be read is kept"), "{report:?}");
    assert_eq!(report.compact.files, 0);
    assert!(report.compact.why_not.is_some() && report.verified_bytes > 290_000, "{report:?}");
    for ((name, found), (_, expected)) in on_volume(dir.path(), &disk).iter().zip(contents()) {
        assert_eq!(found.len(), expected.len(), "{name}");
        if name != "a large" {
            assert!(*found == expected, "{name}");
            continue;
        }
        let chunks = found.chunks(32 << 10).zip(expected.chunks(32 << 10));
        let wrong = chunks.filter(|(found, expected)| found != expected).count();
        assert!((1..=2).contains(&wrong), "{wrong} chunks are wrong");
    }
    // The image and the volume differ in this file and in nothing else that both can hold.
    let volume = dir.path().join("v.ntfs");
    let (image, options) = (open(&path), DiffOptions::default());
    let found = diff(Side::Image(&image), Side::Volume(&volume), &options, &Ctl::default(), &Silent).unwrap();
    let is_content = |change: &Change| match change {
        Change::Differs(list) => list.iter().any(|one| one.aspect == Aspect::Content),
        Change::Removed { .. } | Change::Added { .. } => true,
    };
    let differing: Vec<&str> = found
        .changes
        .iter()
        .filter(|(_, change)| is_content(change))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(differing, ["/a large"]);
}

#[test]
fn content_of_which_nothing_can_be_read_is_zeros_not_what_stood_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    // The table of chunks of the first resource.
    bytes[208..208 + 40].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let disk = Disk::used(32 << 20);
    let report = apply(&path, &disk, DamagedContent::Keep).unwrap();
    assert_eq!(report.apply.damaged, ["/a large"]);
    let found = on_volume(dir.path(), &disk);
    assert!(found[0].1 == vec![0; LARGE_BYTES], "the first difference is not zero");
    assert!(found[1..].iter().zip(&contents()[1..]).all(|(found, expected)| found.1 == expected.1));
}
