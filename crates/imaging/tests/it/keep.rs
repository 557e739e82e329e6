//! An apply that goes on with what stands in the directory already.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::{capture, open, sample, snapshot, verify};
use gravure_imaging::{ApplyOptions, ApplyReport, CaptureOptions, Existing, Image, apply_to_directory};
use gravure_model::Ctl;
use gravure_model::event::Silent;

fn keep(image: &Image, target: &Path, threads: usize) -> ApplyReport {
    let options =
        ApplyOptions { existing: Existing::Keep, threads: Some(threads), ..ApplyOptions::default() };
    apply_to_directory(image, target, &options, &Ctl::default(), &Silent).unwrap()
}

#[test]
fn what_is_right_stays_and_everything_else_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 11);
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    for name in ["tampered", "linked outside", "with attribute", "plain", "twin"] {
        fs::write(source.join(name), [name.as_bytes(), &large].concat()).unwrap();
    }
    fs::write(source.join("gone"), b"gone").unwrap();
    let path = dir.path().join("x.wim");
    capture(&source, &path, &CaptureOptions::default());
    let (image, target) = (open(&path), dir.path().join("t"));

    // Nothing stands there: as any other apply.
    let first = keep(&image, &target, 2);
    assert_eq!((first.kept_files, first.kept_bytes), (0, 0));
    assert_eq!(snapshot(&target), snapshot(&source));
    // Everything does.
    let all = keep(&image, &target, 2);
    // The targets of links are read, and nothing else.
    assert!(all.bytes < 10_000 && all.files == first.files, "{all:?}");
    assert!(all.kept_files > 60 && all.kept_bytes > 15_000_000, "{all:?}");
    assert_eq!(snapshot(&target), snapshot(&source));

    // The same size and time, another content.
    let at = |name: &str| target.join(name);
    let time = fs::metadata(at("tampered")).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(at("tampered")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", 2_000_000).unwrap();
    file.set_modified(time).unwrap();
    // A name more, of somebody else: what it is must not change with ours.
    let outside = dir.path().join("outside");
    fs::hard_link(at("linked outside"), &outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(&outside).unwrap().ino();
    let has_attribute =
        rustix::fs::setxattr(at("with attribute"), "user.left", b"over", rustix::fs::XattrFlags::empty())
            .is_ok();
    // What only metadata is wrong of.
    fs::set_permissions(at("plain"), fs::Permissions::from_mode(0o7)).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::remove_file(at("twin")).unwrap();
    std::os::unix::fs::symlink(&outside, at("twin")).unwrap();

    let again = keep(&image, &target, 3);
    assert_eq!(snapshot(&target), snapshot(&source));
    verify(&image, &target).unwrap();
    let made = all.kept_files - again.kept_files;
    assert_eq!(made, 4 + u64::from(has_attribute), "{again:?}");
    let there = fs::metadata(&outside).unwrap();
    assert_eq!((there.ino(), there.mode() & 0o777, there.nlink()), (inode, 0o640, 1));
    assert_ne!(fs::metadata(at("linked outside")).unwrap().ino(), inode);
    assert!(fs::read(&outside).unwrap().ends_with(&large));
}
