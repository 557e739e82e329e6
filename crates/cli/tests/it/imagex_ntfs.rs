//! Options of the wimlib-imagex syntax that are about NTFS volumes, held against wimlib-imagex.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use gravure_testkit::{oracle, shared_dir, skipped};

use crate::support::{fails, foreign, ok};

/// An image with descriptors, attributes, streams and short names, that another program made.
fn vector(dir: &Path) -> Option<()> {
    let path = shared_dir().map(|shared| shared.join("vectors/wim/ntfs.wim")).filter(|path| path.exists());
    let Some(path) = path else {
        skipped("no vector ntfs.wim");
        return None;
    };
    std::fs::copy(path, dir.join("x.wim")).unwrap();
    Some(())
}

/// A new volume as mkntfs makes it.
fn volume(dir: &Path, name: &str) -> Option<()> {
    crate::support::blank(dir, name, 40 << 20);
    foreign(dir, "mkntfs", &["-F", "-q", "-f", name]).map(drop)
}

/// Lines of a detailed listing that start with one of `fields`, below the path they belong to.
fn details(dir: &Path, image: &str, fields: &[&str]) -> Vec<String> {
    let text = ok(dir, &["wim", "dir", image, "--detailed"]);
    let is_wanted = |line: &&str| {
        line.starts_with("Full Path") || fields.iter().any(|field| line.trim_start().starts_with(field))
    };
    text.lines().filter(is_wanted).map(str::to_owned).collect()
}

/// The same without what nobody restored: the mark of files that were not backed up, which new files have from some programs and not
/// from others, and what the root of the volume had before.
fn restored(lines: Vec<String>) -> Vec<String> {
    let is_new = |line: &String| line.contains("ATTRIBUTE_ARCHIVE") || line.contains("ATTRIBUTE_NORMAL");
    let below = lines.iter().position(|line| line.starts_with("Full Path") && !line.ends_with("\"/\""));
    lines.into_iter().skip(below.unwrap_or(0)).filter(|line| !is_new(line)).collect()
}

#[test]
fn descriptors_and_attributes_are_left_out_as_wimlib_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if vector(dir).is_none() {
        return;
    }
    let attributes = ["FILE_ATTRIBUTE"];
    let descriptors = ["Security Descriptor"];
    for (options, fields) in [
        (&["--no-attributes"][..], &attributes[..]),
        (&["--no-acls"], &descriptors),
        (&["--strict-acls"], &descriptors),
        (&["--no-acls", "--no-attributes"], &attributes),
    ] {
        for name in ["ours.ntfs", "theirs.ntfs"] {
            if volume(dir, name).is_none() {
                return;
            }
        }
        let arguments = [&["apply", "x.wim", "1", "theirs.ntfs"], options].concat();
        if foreign(dir, "wimlib-imagex", &arguments).is_none() {
            return;
        }
        ok(dir, &[&["wim", "apply", "x.wim", "1", "ours.ntfs"], options].concat());
        for name in ["ours", "theirs"] {
            ok(dir, &["wim", "capture", &format!("{name}.ntfs"), &format!("{name}.wim"), "--compress=none"]);
        }
        let listed = |image: &str| restored(details(dir, image, fields));
        let (ours, theirs, image) = (listed("ours.wim"), listed("theirs.wim"), listed("x.wim"));
        match options {
            // Which descriptor a file gets that is to have none of its own is the writer's choice; not that of the image.
            ["--no-acls"] => {
                let of_image: Vec<&String> = image.iter().filter(|line| line.starts_with("Sec")).collect();
                assert!(!of_image.is_empty());
                assert!(!ours.iter().any(|line| of_image.contains(&line)), "{ours:#?}");
            }
            ["--strict-acls"] => assert_eq!(ours, image),
            _ => {
                assert_eq!(ours, theirs, "{options:?}");
                assert_ne!(ours, image, "{options:?}");
            }
        }
    }
}

#[test]
fn captures_of_volumes_leave_descriptors_out_or_require_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if vector(dir).is_none() || volume(dir, "v.ntfs").is_none() {
        return;
    }
    ok(dir, &["wim", "apply", "x.wim", "1", "v.ntfs"]);
    let descriptors = ["Security Descriptor"];
    for option in ["--no-acls", "--strict-acls"] {
        if foreign(dir, "wimlib-imagex", &["capture", "v.ntfs", "theirs.wim", option]).is_none() {
            return;
        }
        ok(dir, &["wim", "capture", "v.ntfs", "ours.wim", option]);
        let (ours, theirs) =
            (details(dir, "ours.wim", &descriptors), details(dir, "theirs.wim", &descriptors));
        let count = |lines: &[String]| lines.iter().filter(|line| line.starts_with("Sec")).count();
        assert_eq!(count(&ours), count(&theirs), "{option}");
        assert_eq!(count(&ours) > 0, option == "--strict-acls");
    }
    ok(dir, &["wim", "append", "v.ntfs", "ours.wim", "again", "--no-acls"]);

    // A descriptor that is not there ends a strict capture, and only that.
    let mut bytes = std::fs::read(dir.join("v.ntfs")).unwrap();
    // $STANDARD_INFORMATION of a record in use that is no system file: the id of its descriptor.
    let id_of = |at: usize| {
        let record = &bytes[at..at + 1024];
        let number = u32::from_le_bytes(record[0x2c..0x30].try_into().unwrap());
        if &record[..4] != b"FILE" || number < 24 || record[0x16] & 1 == 0 {
            return None;
        }
        let attribute = usize::from(u16::from_le_bytes(record[0x14..0x16].try_into().unwrap()));
        let len = u32::from_le_bytes(record[attribute + 4..][..4].try_into().unwrap());
        (record[attribute] == 0x10 && len >= 0x60).then_some(at + attribute + 0x18 + 0x34)
    };
    let last = (0..bytes.len() - 1024).step_by(1024).filter_map(id_of).next_back().unwrap();
    bytes[last..last + 4].copy_from_slice(&0x00ff_ff00u32.to_le_bytes());
    std::fs::write(dir.join("spoiled.ntfs"), bytes).unwrap();
    let (code, error) = fails(dir, &["wim", "capture", "spoiled.ntfs", "no.wim", "--strict-acls"]);
    assert!(
        code == 5 && error.contains("security descriptor") && !dir.join("no.wim").exists(),
        "{code} {error}"
    );
    let (code, error) = fails(dir, &["wim", "capture", "spoiled.ntfs", "yes.wim"]);
    assert!(code == 10 && error.contains("security descriptor"), "{code} {error}");
    ok(dir, &["wim", "capture", "spoiled.ntfs", "none.wim", "--no-acls"]);
}

#[test]
fn what_neither_program_knows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if vector(dir).is_none() {
        return;
    }
    assert_eq!(fails(dir, &["wim", "info", "x.wim", "--metadata"]).0, 2);
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        let output = wimlib.args(["info", "x.wim", "--metadata"]).current_dir(dir).output().unwrap();
        assert!(!output.status.success());
    }
    if volume(dir, "v.ntfs").is_some() {
        let (code, error) = fails(dir, &["wim", "apply", "x.wim", "1", "v.ntfs", "--include-invalid-names"]);
        assert!(code == 9 && error.contains("--include-invalid-names"), "{error}");
    }
    // Directories have no such things, so leaving them out is no loss worth a word.
    let output = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .args([
            "wim",
            "apply",
            "x.wim",
            "1",
            "out",
            "--no-acls",
            "--no-attributes",
            "--include-invalid-names",
        ])
        .current_dir(dir)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("security descriptors") && !error.contains("Windows attributes"), "{error}");
}

#[test]
fn what_can_be_read_of_a_damaged_image_is_applied_to_a_volume() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("in")).unwrap();
    let text: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(dir.join("in/a"), &text).unwrap();
    std::fs::write(dir.join("in/b"), "sound").unwrap();
    ok(dir, &["capture", "in", "x.wim", "--compress=none", "--progress", "none"]);
    let mut bytes = std::fs::read(dir.join("x.wim")).unwrap();
    bytes[300_000] ^= 1;
    std::fs::write(dir.join("x.wim"), bytes).unwrap();
    if volume(dir, "v.ntfs").is_none() {
        return;
    }
    assert_eq!(fails(dir, &["wim", "apply", "x.wim", "1", "v.ntfs"]).0, 5);
    volume(dir, "v.ntfs").unwrap();
    let output = crate::support::gravure(dir, &["wim", "apply", "x.wim", "1", "v.ntfs", "--recover-data"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && error.contains("/a"), "{error}");
    let plain = ["apply", "x.wim", "w.ntfs", "--size", "32M", "--recover-data", "--progress", "none"];
    let (code, _) = fails(dir, &plain);
    assert_eq!(code, 10);
    for volume in ["v.ntfs", "w.ntfs"] {
        ok(dir, &["capture", volume, "back.wim", "--progress", "none"]);
        ok(dir, &["apply", "back.wim", "out", "--existing", "replace", "--progress", "none"]);
        let found = std::fs::read(dir.join("out/a")).unwrap();
        let wrong = found.iter().zip(&text).filter(|(found, expected)| found != expected).count();
        assert_eq!((found.len(), wrong), (text.len(), 1), "{volume}");
        assert_eq!(std::fs::read_to_string(dir.join("out/b")).unwrap(), "sound");
    }
    for option in [&["--compact", "always"][..], &["--recode", "lzx"]] {
        assert_eq!(fails(dir, &[&plain[..], &["--yes"], option].concat()).0, 2);
    }
}
