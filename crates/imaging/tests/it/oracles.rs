//! Other programs read what we write, and we read what they write, with the same tree.

use std::fs;
use std::process::Command;

use crate::common::{
    apply, capture, compressions, damage, open, run, sample, snapshot, verify, without_special_xattrs,
};
use gravure_imaging::{CaptureOptions, Integrity};
use gravure_testkit::oracle;

#[test]
fn wimlib_reads_ours() {
    let dir = tempfile::tempdir().unwrap();
    for (number, compression) in compressions().into_iter().enumerate() {
        let source = sample(dir.path(), &format!("s{number}"), 20 + number as u64);
        let image = dir.path().join("x.wim");
        let options = CaptureOptions {
            compression,
            integrity: Integrity::Table,
            name: "n".into(),
            description: Some("d".into()),
            ..CaptureOptions::default()
        };
        capture(&source, &image, &options);
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        run(wimlib.arg("verify").arg(&image));
        let target = dir.path().join(format!("t{number}"));
        fs::create_dir(&target).unwrap();
        let mut wimlib = Command::new("wimlib-imagex");
        run(wimlib.args(["apply", "--check", "--unix-data"]).arg(&image).arg("1").arg(&target));
        without_special_xattrs(&source).assert_same(&without_special_xattrs(&target));
        let info = run(Command::new("wimlib-imagex").arg("info").arg(&image));
        for expected in ["Name:                   n", "Description:            d", "Image Count:    1"] {
            assert!(info.contains(expected), "{expected} missing in {info}");
        }
    }
}

#[test]
fn we_read_wimlibs() {
    let dir = tempfile::tempdir().unwrap();
    for (number, method) in ["none", "XPRESS", "LZX", "LZX:100"].into_iter().enumerate() {
        let source = sample(dir.path(), &format!("s{number}"), 40 + number as u64);
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        let image = dir.path().join("x.wim");
        let _ = fs::remove_file(&image);
        run(wimlib
            .args(["capture", "--check", "--unix-data"])
            .arg(format!("--compress={method}"))
            .arg(&source)
            .arg(&image));
        assert_eq!(damage(&image).unwrap(), [""; 0]);
        let opened = open(&image);
        let target = dir.path().join(format!("t{number}"));
        let report = apply(&opened, &target).unwrap();
        assert_eq!((report.skipped, &report.losses), (0, &vec![]), "{method}: {:?}", report.warnings);
        without_special_xattrs(&source).assert_same(&without_special_xattrs(&target));
        verify(&opened, &target).unwrap();
    }
}

#[test]
fn seven_zip_reads_ours() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "s", 60);
    for compression in compressions().into_iter().take(3) {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { compression, ..CaptureOptions::default() });
        let Some(mut seven_zip) = oracle("7z") else { return };
        let text = run(seven_zip.arg("t").arg(&image));
        assert!(text.contains("Everything is Ok"), "{text}");
        let target = dir.path().join("t");
        let _ = fs::remove_dir_all(&target);
        // It knows neither owners nor links and complains about links to above; contents of files are compared.
        Command::new("7z").arg("x").arg(format!("-o{}", target.display())).arg(&image).output().unwrap();
        let mut compared = 0;
        for (path, entry) in snapshot(&source).entries {
            if let gravure_testkit::Kind::File { len, .. } = entry.kind {
                let (ours, theirs) =
                    (fs::read(source.join(&path)).unwrap(), fs::read(target.join(&path)).unwrap());
                assert!(ours == theirs, "{} of {len} bytes differs", path.display());
                compared += 1;
            }
        }
        assert!(compared > 40, "{compared} files");
    }
}

#[test]
fn we_read_seven_zips() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir_all(source.join("d/e")).unwrap();
    for (name, len) in [("a", 0), ("d/b", 1), ("d/e/c", 700_000)] {
        fs::write(source.join(name), vec![b'z'; len]).unwrap();
    }
    let image = dir.path().join("x.wim");
    let Some(mut seven_zip) = oracle("7z") else { return };
    run(seven_zip.current_dir(&source).args(["a", "-twim"]).arg(&image).arg("."));
    assert_eq!(damage(&image).unwrap(), [""; 0]);
    let target = dir.path().join("t");
    apply(&open(&image), &target).unwrap();
    for name in ["a", "d/b", "d/e/c"] {
        assert!(fs::read(source.join(name)).unwrap() == fs::read(target.join(name)).unwrap(), "{name}");
    }
}
