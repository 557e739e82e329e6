//! What a refused apply leaves of its target: everything.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{blank, fails, files, ok};

/// Bytes without a pattern, none of them zero at the front.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    });
    next.take(len).collect()
}

/// The file `name` is as it was.
fn is_as_before(dir: &Path, name: &str, before: &[u8], of: &str) {
    let metadata = std::fs::metadata(dir.join(name)).unwrap();
    assert_eq!(metadata.len(), before.len() as u64, "{of}: size");
    assert!(std::fs::read(dir.join(name)).unwrap() == before, "{of}: content");
}

#[test]
fn a_file_that_is_refused_keeps_its_size_and_content() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    ok(dir, &["capture", "in", "x.wim", "--progress", "none"]);
    std::fs::create_dir(dir.join("twins")).unwrap();
    std::fs::write(dir.join("twins/name"), "1").unwrap();
    std::fs::write(dir.join("twins/NAME"), "2").unwrap();
    ok(dir, &["capture", "twins", "twins.wim", "--progress", "none"]);
    ok(dir, &["apply", "x.wim", "device.ntfs", "--size", "32M", "--progress", "none"]);
    ok(dir, &["capture", "device.ntfs", "x.gim", "--progress", "none"]);

    let data = noise(3 << 20);
    // Nothing where a signature would be, but data behind.
    let late = [vec![0; 1 << 20], noise(19 << 20)].concat();
    std::fs::write(dir.join("data.img"), &data).unwrap();
    std::fs::write(dir.join("late.img"), &late).unwrap();
    let cases: [(&[&str], &str, i32, &str); 11] = [
        (&["x.wim", "data.img", "--size", "1G"], "data.img", 4, "it holds data"),
        (&["x.wim", "data.img", "--size", "32M"], "data.img", 4, "it holds data"),
        (&["x.wim", "late.img", "--size", "16M"], "late.img", 4, "would be cut to 16777216"),
        (&["x.wim", "data.img"], "data.img", 4, "data.img"),
        (&["x.wim", "data.img", "--size", "512K", "--yes"], "data.img", 4, "data.img"),
        (&["twins.wim", "data.img", "--size", "32M", "--yes"], "data.img", 4, "NAME"),
        (&["x.wim", "data.img", "--size", "32M", "--yes", "--cluster-size", "3K"], "data.img", 2, "cluster"),
        (&["x.gim", "data.img", "--size", "1G"], "data.img", 4, "it holds data"),
        (&["x.gim", "late.img", "--size", "2M"], "late.img", 4, "late.img"),
        (&["x.gim", "data.img", "--size", "64K", "--yes"], "data.img", 4, "data.img"),
        (&["x.gim", "data.img", "--size", "64K", "--yes", "--no-file-level"], "data.img", 4, "data.img"),
    ];
    for (arguments, name, code, says) in cases {
        let (found, error) = fails(dir, &[&["apply"], arguments, &["--progress", "none"]].concat());
        assert!(found == code && error.contains(says), "{arguments:?}: {found} {error}");
        let before = if name == "data.img" { &data } else { &late };
        is_as_before(dir, name, before, &format!("{arguments:?}"));
    }

    // The same from a pipe.
    let piped = |target: &str, size: &str| {
        let mut capture = Command::new(env!("CARGO_BIN_EXE_gravure"))
            .current_dir(dir)
            .args(["capture", "device.ntfs", "-", "--block", "--progress", "none"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let apply = Command::new(env!("CARGO_BIN_EXE_gravure"))
            .current_dir(dir)
            .args(["apply", "-", target, "--block", "--size", size, "--progress", "none"])
            .stdin(capture.stdout.take().unwrap())
            .output()
            .unwrap();
        capture.wait().unwrap();
        (apply.status.code().unwrap(), String::from_utf8_lossy(&apply.stderr).into_owned())
    };
    let (code, error) = piped("data.img", "1G");
    assert!(code == 4 && error.contains("it holds data"), "{code} {error}");
    is_as_before(dir, "data.img", &data, "a stream");
    let (code, error) = piped("absent.img", "1M");
    assert!(code == 4 && error.contains("the image needs"), "{code} {error}");
    assert!(!dir.join("absent.img").exists());
}

#[test]
fn a_refused_apply_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    std::fs::write(dir.join("in/readme"), "1").unwrap();
    ok(dir, &["capture", "in", "twins.wim", "--progress", "none"]);
    std::fs::remove_file(dir.join("in/readme")).unwrap();
    ok(dir, &["capture", "in", "x.wim", "--progress", "none"]);
    ok(dir, &["apply", "x.wim", "device.ntfs", "--size", "32M", "--progress", "none"]);
    ok(dir, &["capture", "device.ntfs", "x.gim", "--progress", "none"]);
    let cases: [(&[&str], i32); 5] = [
        (&["x.wim", "new.img", "--size", "512K"], 4),
        (&["twins.wim", "new.img", "--size", "64M"], 4),
        (&["x.wim", "new.img", "--size", "64M", "--compact", "always", "--verify", "descriptor"], 2),
        (&["x.wim", "new.img"], 3),
        (&["x.gim", "new.img", "--size", "64K"], 4),
    ];
    for (arguments, code) in cases {
        let (found, error) = fails(dir, &[&["apply"], arguments, &["--progress", "none"]].concat());
        assert_eq!(found, code, "{arguments:?}: {error}");
        assert!(!dir.join("new.img").exists(), "{arguments:?}");
    }
    ok(dir, &["apply", "x.wim", "new.img", "--size", "64M", "--progress", "none"]);
    assert_eq!(File::open(dir.join("new.img")).unwrap().metadata().unwrap().len(), 64 << 20);

    // With leave, one that is there gets another size both ways.
    blank(dir, "other.img", 96 << 20);
    for size in ["64M", "80M"] {
        ok(dir, &["apply", "x.wim", "other.img", "--size", size, "--yes", "--progress", "none"]);
        let text = ok(dir, &["ntfs", "check", "other.img", "--strict"]);
        assert!(text.contains("sound, 0 errors, 0 notes"), "{text}");
    }
    assert_eq!(File::open(dir.join("other.img")).unwrap().metadata().unwrap().len(), 80 << 20);
}
