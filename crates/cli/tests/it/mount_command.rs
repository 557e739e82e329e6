//! `gravure mount` and `gravure unmount`: a process in the background, exit codes, the log.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gravure_testkit::skipped;

fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gravure"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).output().unwrap()
}

fn code(dir: &Path, arguments: &[&str]) -> Option<i32> {
    gravure(dir, arguments).status.code()
}

#[test]
fn an_image_is_mounted_in_the_background_until_it_is_unmounted() {
    if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return skipped("no /dev/fuse");
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir_all(dir.join("in/d")).unwrap();
    fs::create_dir(dir.join("mnt")).unwrap();
    fs::write(dir.join("in/d/sound"), "sound content").unwrap();
    fs::write(dir.join("in/damaged"), "damaged content").unwrap();
    assert_eq!(code(dir, &["capture", "in", "x.wim", "--compress", "none"]), Some(0));
    let mut bytes = fs::read(dir.join("x.wim")).unwrap();
    let at = bytes.windows(7).position(|window| window == b"damaged").unwrap();
    bytes[at] = b'D';
    fs::write(dir.join("x.wim"), bytes).unwrap();

    let mounted = gravure(dir, &["mount", "x.wim:1", "mnt", "--log", "log", "--format", "json"]);
    assert!(mounted.status.success(), "{mounted:?}");
    assert!(String::from_utf8_lossy(&mounted.stdout).contains("\"directory\": \"mnt\""), "{mounted:?}");
    assert_eq!(fs::read_to_string(dir.join("mnt/d/sound")).unwrap(), "sound content");
    assert!(fs::read(dir.join("mnt/damaged")).is_err());
    let log = fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("/damaged: ") && log.contains("expected"), "{log}");
    assert_eq!(code(dir, &["mount", "x.wim:1", "mnt"]), Some(4), "mounted already");
    let user = fs::File::open(dir.join("mnt/d/sound")).unwrap();
    assert_eq!(code(dir, &["unmount", "mnt"]), Some(4), "in use");
    drop(user);
    assert_eq!(code(dir, &["unmount", "mnt"]), Some(0));
    assert_eq!(code(dir, &["unmount", "mnt"]), Some(3), "gone already");
    assert!(!dir.join("mnt/d").exists());
    for (arguments, expected) in [
        (&["mount", "x.wim:2", "mnt"][..], 3),
        (&["mount", "no.wim", "mnt"], 3),
        (&["mount", "x.wim", "no"], 3),
    ] {
        let failed = gravure(dir, arguments);
        assert_eq!(failed.status.code(), Some(expected), "{failed:?}");
        assert!(String::from_utf8_lossy(&failed.stderr).starts_with("gravure: "), "{failed:?}");
    }
}

#[test]
fn in_the_foreground_a_signal_ends_it() {
    if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return skipped("no /dev/fuse");
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    for name in ["in", "mnt"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("in/f"), "content").unwrap();
    assert_eq!(code(dir, &["capture", "in", "x.wim"]), Some(0));
    let mut child = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .args(["mount", "x.wim", "mnt", "--foreground"])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert!(line.contains("mounted x.wim on mnt"), "{line}");
    assert_eq!(fs::read_to_string(dir.join("mnt/f")).unwrap(), "content");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(!dir.join("mnt/f").exists());
}
