//! Round trips of trees as large and as odd as those of Windows: through our volumes, through wimlib's, both ways.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use gravure_imaging::{
    Aspect, CaptureOptions, Change, Collisions, DiffOptions, Finding, Side, Strictness, VolumeApplyOptions,
    VolumeFile, apply_to_volume, check_volume, diff,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::FileTime;
use gravure_testkit::{full_run, oracle};

use crate::common::{capture, open, run};
use crate::windows::{large_tree, options, volume};

/// What differs between two images, short names that wimlib makes left out.
fn differences(first: &Path, second: &Path, ignore: &[Aspect], least: u64) -> Vec<String> {
    // A volume does not say whether the target of a link was meant from the root of the image.
    let ignore = [ignore, &[Aspect::LinkFlags]].concat();
    let options = DiffOptions { ignore, ..DiffOptions::default() };
    let (first, second) = (open(first), open(second));
    let report = diff(Side::Image(&first), Side::Image(&second), &options, &Ctl::default(), &Silent).unwrap();
    assert!(report.compared >= least && report.skipped == 0, "{report:?}");
    let is_own_short_name = |path: &str, change: &Change| match change {
        Change::Differs(list) => matches!(list.as_slice(), [only] if only.aspect == Aspect::ShortName
            && only.first == "none" && path.ends_with(&format!("/{}", only.second))),
        _ => false,
    };
    let changes = report.changes.iter().filter(|(path, change)| !is_own_short_name(path, change));
    changes.map(|change| format!("{change:?}")).collect()
}

fn findings(path: &Path, strictness: Strictness) -> Vec<String> {
    let mut found = Vec::new();
    let mut keep = |finding: &Finding| found.push(finding.to_string());
    check_volume(path, strictness, &mut keep, &Ctl::default()).unwrap();
    found
}

#[test]
fn a_tree_like_that_of_windows_survives_every_way() {
    let (nodes, bytes) = if full_run() { (210_000, 1 << 30) } else { (4000, 48 << 20) };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tree = large_tree(nodes);
    let descriptors = tree.security_descriptors().len();
    assert!(tree.node_count() >= nodes && descriptors >= if full_run() { 5000 } else { 1500 });
    std::fs::write(at("first.ntfs"), volume(&tree, &options(bytes)).0).unwrap();
    let least = tree.node_count() as u64;
    drop(tree);
    assert_eq!(findings(&at("first.ntfs"), Strictness::Fresh), Vec::<String>::new());
    let image = at("image.wim");
    let fast = || CaptureOptions { compression: None, ..CaptureOptions::default() };
    let report = capture(&at("first.ntfs"), &image, &fast());
    assert!(report.skipped == 0 && report.warnings.is_empty(), "{report:?}");
    std::fs::remove_file(at("first.ntfs")).unwrap();

    // Image, volume, image.
    let device = VolumeFile::open(&at("ours.ntfs"), Some(bytes)).unwrap();
    let apply = VolumeApplyOptions {
        seed: Some([3; 32]),
        time: Some(FileTime(133_000_000_000_000_000)),
        collisions: Collisions::Keep,
        ..VolumeApplyOptions::default()
    };
    let report = apply_to_volume(&open(&image), &device, &apply, &Ctl::default(), &Silent).unwrap();
    assert!(report.apply.warnings.is_empty() && report.verified_bytes > 0, "{report:?}");
    drop(device);
    capture(&at("ours.ntfs"), &at("ours.wim"), &fast());
    assert_eq!(differences(&image, &at("ours.wim"), &[], least), Vec::<String>::new());

    // Its libntfs knows no extended attributes.
    let ignore = [Aspect::ExtendedAttributes];
    let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
    run(wimlib.arg("capture").arg(at("ours.ntfs")).arg(at("theirs.wim")).args(["x", "--compress=none"]));
    assert_eq!(differences(&image, &at("theirs.wim"), &ignore, least), Vec::<String>::new());
    std::fs::remove_file(at("ours.ntfs")).unwrap();

    let (Some(mut wimlib), Some(mut mkntfs)) = (oracle("wimlib-imagex"), oracle("mkntfs")) else { return };
    std::fs::File::create(at("theirs.ntfs")).unwrap().set_len(bytes).unwrap();
    run(mkntfs.args(["-F", "-q", "-Q"]).arg(at("theirs.ntfs")));
    run(wimlib.arg("apply").arg(&image).arg("1").arg(at("theirs.ntfs")));
    assert_eq!(findings(&at("theirs.ntfs"), Strictness::Usual), Vec::<String>::new());
    capture(&at("theirs.ntfs"), &at("again.wim"), &fast());
    let mut left = differences(&image, &at("again.wim"), &ignore, least);
    // A file without holes is not sparse there.
    left.retain(|change| !change.contains("\"/sparse\", Differs([Difference { aspect: Attributes,"));
    assert_eq!(left, Vec::<String>::new());
}
