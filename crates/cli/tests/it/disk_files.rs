//! Virtual disks and disk files with partitions as targets and sources, and files with large sectors.

use std::path::Path;

use crate::support::{contents, fails, files, foreign, ok};

/// Whether the image has the files of `in`.
fn holds_the_files(dir: &Path, image: &str) {
    let out = dir.join("out");
    let _ = std::fs::remove_dir_all(&out);
    ok(dir, &["apply", image, "out", "--progress", "none"]);
    assert!(contents(&out) == contents(&dir.join("in")), "{image}");
}

#[test]
fn a_volume_is_applied_into_virtual_disks_and_captured_from_their_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    ok(dir, &["capture", "in", "x.wim", "--compress=xpress", "--progress", "none"]);
    for (name, format) in [("disk.vhdx", "vhdx"), ("disk.qcow2", "qcow2")] {
        let (code, error) = fails(dir, &["apply", "x.wim", name, "--progress", "none"]);
        assert!(code == 2 && error.contains("--size"), "{code} {error}");
        assert!(!dir.join(name).exists());
        let text =
            ok(dir, &["apply", "x.wim", name, "--size", "96M", "--label", "System", "--progress", "none"]);
        assert!(text.contains("read back"), "{text}");
        let is_small = std::fs::metadata(dir.join(name)).unwrap().len() < 40 << 20;
        assert!(is_small || format == "vhdx", "blocks of VHDX files have 32 MiB");

        // By its number, and as the only partition with such a volume.
        for source in [format!("{name}:1"), name.to_owned()] {
            ok(dir, &["capture", &source, "back.wim", "--progress", "none"]);
            holds_the_files(dir, "back.wim");
        }
        let (code, error) = fails(dir, &["capture", &format!("{name}:2"), "no.wim", "--progress", "none"]);
        assert!(code == 3 && error.contains("it has 1"), "{code} {error}");

        // What is there is destroyed only when that was said, and by a complete file.
        let before = std::fs::read(dir.join(name)).unwrap();
        let (code, error) = fails(dir, &["apply", "x.wim", name, "--size", "96M", "--progress", "none"]);
        assert!(code == 4 && error.contains("--yes"), "{code} {error}");
        let (code, _) = fails(dir, &["apply", "x.wim", name, "--size", "6M", "--yes", "--progress", "none"]);
        assert_eq!(code, 4);
        assert!(std::fs::read(dir.join(name)).unwrap() == before);
        ok(dir, &["apply", "x.wim", name, "--size", "80M", "--yes", "--progress", "none"]);

        // As other programs see it.
        let raw = ["convert", "-f", format, "-O", "raw", name, "disk.raw"];
        if foreign(dir, "qemu-img", &["check", "-f", format, name]).is_none() {
            continue;
        }
        foreign(dir, "qemu-img", &raw).unwrap();
        assert_eq!(std::fs::metadata(dir.join("disk.raw")).unwrap().len(), 80 << 20);
        if let Some(output) = foreign(dir, "sgdisk", &["--verify", "disk.raw"]) {
            assert!(String::from_utf8_lossy(&output.stdout).contains("No problems found"));
        }
        ok(dir, &["capture", "disk.raw:1", "back.wim", "--progress", "none"]);
        holds_the_files(dir, "back.wim");
        std::fs::remove_file(dir.join("disk.raw")).unwrap();
    }
    let left: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let (code, error) = fails(dir, &["apply", "x.wim", "disk.vhd", "--size", "96M"]);
    assert!(code == 9 && error.contains(".vhdx") && !dir.join("disk.vhd").exists(), "{code} {error}");
}

#[test]
fn sector_sizes_of_files_are_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    ok(dir, &["capture", "in", "x.wim", "--compress=xpress", "--progress", "none"]);
    for (name, size) in [("4k.ntfs", "48M"), ("4k.vhdx", "64M")] {
        ok(dir, &["apply", "x.wim", name, "--size", size, "--sector-size", "4096", "--progress", "none"]);
        ok(dir, &["capture", name, "back.wim", "--progress", "none"]);
        holds_the_files(dir, "back.wim");
    }
    let volume = std::fs::read(dir.join("4k.ntfs")).unwrap();
    assert_eq!(volume[0x0b..0x0d], 4096u16.to_le_bytes());
    assert!(ok(dir, &["ntfs", "check", "4k.ntfs", "--strict"]).contains("sound, 0 errors, 0 notes"));
    for (target, code) in [("odd.ntfs", 9), ("4k.qcow2", 9), ("directory", 2)] {
        let bytes = if target == "odd.ntfs" { "520" } else { "4096" };
        let arguments = ["apply", "x.wim", target, "--size", "48M", "--sector-size", bytes];
        let (found, error) = fails(dir, &arguments);
        assert!(found == code && !dir.join(target).exists(), "{target}: {found} {error}");
    }
}
