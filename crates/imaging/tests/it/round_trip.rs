//! Directory to WIM to directory: nothing is lost, whatever the method; the file does not depend on threads or time.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use crate::common::{apply, capture, compressions, damage, open, sample, snapshot, verify};
use gravure_imaging::{
    CaptureOptions, Compression, ErrorKind, Exclusions, Existing, Integrity, Level, ScanOptions,
};

#[test]
fn every_kind_of_file_comes_back_with_every_method() {
    let dir = tempfile::tempdir().unwrap();
    for (number, compression) in compressions().into_iter().enumerate() {
        let source = sample(dir.path(), &format!("source{number}"), number as u64);
        let (image, target) = (dir.path().join("x.wim"), dir.path().join(format!("target{number}")));
        let options =
            CaptureOptions { compression, integrity: Integrity::Table, ..CaptureOptions::default() };
        let report = capture(&source, &image, &options);
        assert_eq!((report.skipped, report.warnings), (0, vec![]), "{compression:?}");
        assert_eq!(report.file_bytes, fs::metadata(&image).unwrap().len());
        assert_eq!(damage(&image).unwrap(), [""; 0]);
        let opened = open(&image);
        let applied = apply(&opened, &target).unwrap();
        assert_eq!((applied.skipped, applied.losses), (0, vec![]), "{compression:?}");
        snapshot(&source).assert_same(&snapshot(&target));
        verify(&opened, &target).unwrap();
        // Captured again, the tree gives the same file but for its identity and times.
        let again = dir.path().join("again.wim");
        let options = CaptureOptions { source_date_epoch: Some(4_000_000_000), ..options };
        capture(&target, &again, &options);
        capture(&source, &image, &options);
        let same = fs::read(&image).unwrap() == fs::read(&again).unwrap();
        assert!(same, "recapture of {compression:?} differs");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 7);
    // Many equal small files and some equal large ones, so that threads meet the same content at once.
    for number in 0..300u32 {
        fs::write(source.join(format!("equal{number}")), vec![b'a' + (number % 3) as u8; 5000]).unwrap();
    }
    for number in 0..4 {
        fs::write(source.join(format!("large{number}")), vec![number / 2; 3_000_000]).unwrap();
    }
    let mut first = None;
    for (threads, level) in [(1, Level::Fast), (2, Level::Fast), (8, Level::Fast), (8, Level::Fast)] {
        let image = dir.path().join("x.wim");
        let options = CaptureOptions {
            threads: Some(threads),
            level,
            name: "n".into(),
            integrity: Integrity::Table,
            source_date_epoch: Some(1_700_000_000),
            ..CaptureOptions::default()
        };
        let report = capture(&source, &image, &options);
        let bytes = fs::read(&image).unwrap();
        let first = first.get_or_insert_with(|| (bytes.clone(), report.blobs));
        assert!(first.0 == bytes, "{threads} threads give other bytes");
        assert_eq!(first.1, report.blobs);
    }
}

#[test]
fn equal_contents_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    for number in 0..3 {
        fs::write(source.join(format!("small{number}")), [7; 1000]).unwrap();
        // Larger than an item of the pipeline, so found equal by hashing beforehand; and one of equal size only.
        fs::write(source.join(format!("large{number}")), vec![9; 2_000_000]).unwrap();
    }
    fs::write(source.join("other"), vec![8; 2_000_000]).unwrap();
    let image = dir.path().join("x.wim");
    let options = CaptureOptions { compression: None, ..CaptureOptions::default() };
    let report = capture(&source, &image, &options);
    assert_eq!((report.files, report.blobs, report.content_bytes), (7, 3, 8_003_000));
    assert!(report.file_bytes < 4_010_000, "{report:?}");
}

#[test]
fn contents_that_do_not_shrink_are_stored_raw() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    let mut bytes = vec![0; 3_000_000];
    gravure_testkit::Random::new(5).fill(&mut bytes);
    fs::write(source.join("random"), &bytes).unwrap();
    // One compressible chunk in the middle saves less than the chunk table costs.
    bytes[1_500_000..1_500_200].fill(0);
    fs::write(source.join("nearly"), &bytes).unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let file = gravure_imaging::ImageFile::open_path(&image).unwrap();
    for (_, blob) in file.wim().blobs() {
        let place = file.wim().resource(blob.resource).unwrap().header;
        assert!(place.stored_size <= place.size, "{place:?}");
    }
    assert_eq!(damage(&image).unwrap(), [""; 0]);
    let target = dir.path().join("t");
    apply(&open(&image), &target).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
}

#[test]
fn exclusions_and_clamped_times_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("cache/deep")).unwrap();
    for name in ["a.tmp", "b", "cache/c", "cache/deep/d"] {
        fs::write(source.join(name), name).unwrap();
    }
    let image = dir.path().join("x.wim");
    let exclude = Exclusions::new(["*.tmp", "/cache/**"]).unwrap();
    let scan = ScanOptions { exclude, ..ScanOptions::default() };
    let options = CaptureOptions { scan, source_date_epoch: Some(1_000_000), ..CaptureOptions::default() };
    capture(&source, &image, &options);
    let target = dir.path().join("t");
    apply(&open(&image), &target).unwrap();
    let found = snapshot(&target);
    let paths: Vec<_> = found.entries.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "b", "cache"]);
    assert!(found.entries.values().all(|entry| entry.mtime == (1_000_000, 0)));
}

#[test]
fn a_name_that_is_no_text_is_counted_and_the_rest_is_captured() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    fs::write(source.join(std::ffi::OsStr::from_bytes(b"bad\xff")), b"x").unwrap();
    // A lone surrogate has a form in both worlds.
    fs::write(source.join(std::ffi::OsStr::from_bytes(b"lone\xed\xa0\x80")), b"y").unwrap();
    let image = dir.path().join("x.wim");
    let report = capture(&source, &image, &CaptureOptions::default());
    assert_eq!(report.skipped, 1);
    assert!(report.warnings[0].contains("not UTF-8 at byte 3"), "{:?}", report.warnings);
    let target = dir.path().join("t");
    apply(&open(&image), &target).unwrap();
    assert_eq!(fs::read(target.join(std::ffi::OsStr::from_bytes(b"lone\xed\xa0\x80"))).unwrap(), b"y");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn a_target_with_something_in_it_is_refused_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/f"), b"new").unwrap();
    symlink("f", source.join("d/l")).unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let opened = open(&image);
    let target = dir.path().join("t");
    fs::create_dir_all(target.join("d")).unwrap();
    fs::write(target.join("d/f"), b"old and longer").unwrap();
    fs::write(target.join("d/l"), b"no link").unwrap();
    let error = apply(&opened, &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("d is there"), "{error}");
    assert_eq!(fs::read(target.join("d/f")).unwrap(), b"old and longer");
    let options = gravure_imaging::ApplyOptions { existing: Existing::Replace, ..Default::default() };
    let (ctl, silent) = (gravure_model::Ctl::default(), gravure_model::event::Silent);
    gravure_imaging::apply_to_directory(&opened, &target, &options, &ctl, &silent).unwrap();
    snapshot(&source).assert_same(&snapshot(&target));
}

#[test]
fn a_link_in_the_target_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/f"), b"new").unwrap();
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let (target, outside) = (dir.path().join("t"), dir.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&target).unwrap();
    symlink(&outside, target.join("d")).unwrap();
    let options = gravure_imaging::ApplyOptions { existing: Existing::Replace, ..Default::default() };
    let (ctl, silent) = (gravure_model::Ctl::default(), gravure_model::event::Silent);
    gravure_imaging::apply_to_directory(&open(&image), &target, &options, &ctl, &silent).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    snapshot(&source).assert_same(&snapshot(&target));
}

#[test]
fn a_failed_capture_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.wim");
    fs::write(&image, b"old").unwrap();
    let (ctl, silent) = (gravure_model::Ctl::default(), gravure_model::event::Silent);
    let missing = dir.path().join("nowhere");
    let options = CaptureOptions::default();
    let error = gravure_imaging::capture_directory(&missing, &image, &options, &ctl, &silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let source = sample(dir.path(), "s", 1);
    ctl.cancel();
    let error = gravure_imaging::capture_directory(&source, &image, &options, &ctl, &silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read(&image).unwrap(), b"old");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn every_difference_from_the_image_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d")).unwrap();
    for name in ["f", "g", "d/h", "large"] {
        let len = if name == "large" { 2_000_000 } else { 100 };
        fs::write(source.join(name), vec![b'x'; len]).unwrap();
    }
    fs::hard_link(source.join("f"), source.join("d/link")).unwrap();
    symlink("f", source.join("symlink")).unwrap();
    let image = dir.path().join("x.wim");
    capture(
        &source,
        &image,
        &CaptureOptions { compression: Some(Compression::XPRESS_32K), ..Default::default() },
    );
    let opened = open(&image);
    let keep_time = |path: &std::path::Path, change: &dyn Fn(&File)| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        change(&file);
        file.set_modified(time).unwrap();
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&std::path::Path));
    let changes: [Change<'_>; 8] = [
        ("/g: SHA-1", &|t| keep_time(&t.join("g"), &|file| file.write_all_at(b"y", 50).unwrap())),
        ("/large: SHA-1", &|t| {
            keep_time(&t.join("large"), &|file| file.write_all_at(b"y", 1_999_999).unwrap())
        }),
        ("/g: size", &|t| keep_time(&t.join("g"), &|file| file.set_len(99).unwrap())),
        ("/g: mode", &|t| fs::set_permissions(t.join("g"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("/g: time", &|t| {
            File::open(t.join("g")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("/d/link: hard link", &|t| {
            let time = fs::metadata(t.join("d")).unwrap().modified().unwrap();
            fs::remove_file(t.join("d/link")).unwrap();
            fs::copy(t.join("f"), t.join("d/link")).unwrap();
            File::open(t.join("d")).unwrap().set_modified(time).unwrap();
        }),
        ("/d/new: entry: expected none, found present", &|t| fs::write(t.join("d/new"), b"").unwrap()),
        ("/symlink: entry: expected present, found missing", &|t| {
            fs::remove_file(t.join("symlink")).unwrap()
        }),
    ];
    for (number, (expected, change)) in changes.iter().enumerate() {
        let target = dir.path().join(format!("t{number}"));
        apply(&opened, &target).unwrap();
        verify(&opened, &target).unwrap();
        change(&target);
        let error = verify(&opened, &target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
    }
}
