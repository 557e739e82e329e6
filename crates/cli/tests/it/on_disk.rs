//! `gravure image service` on systems that are in no image: a Linux in a directory, a Windows and a Linux on volumes and disks in files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use gravure_testkit::{oracle, skipped, unmounted};

use crate::service::{contents, gravure, ok, prepared};

const LAYER: &str = "[layer]\nid = 'room'\nversion = 1\n\
    [[file]]\nto = '/etc/room'\ntext = '${ROOM}'\nmode = '0600'\n\
    [[file]]\nto = '/bin/tool'\ntext = 'new'\n\
    [[text]]\nfile = '/etc/motd'\nensure-line = 'Room ${ROOM}'\n\
    [[command]]\nrun = 'true'\n";

/// A small Linux with merged `/usr`.
fn linux(root: &Path) {
    for dir in ["etc", "usr/bin", "usr/lib/systemd", "var/lib"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (path, text) in [
        ("etc/os-release", "PRETTY_NAME=\"Test Linux\"\n"),
        ("etc/motd", "Welcome\n"),
        ("usr/bin/tool", "old"),
        ("usr/lib/systemd/systemd", "ELF"),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
}

fn is_root() -> bool {
    let is_root = gravure_linux::process::is_root();
    if !is_root {
        skipped("files are given to root, which needs root");
    }
    is_root
}

#[test]
fn a_linux_in_a_directory_is_changed_where_it_is_and_back() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let root = dir.join("root");
    linux(&root);
    fs::write(dir.join("room.toml"), LAYER).unwrap();
    let before = contents(&root);
    let service = ["image", "service", "root", "--layer", "room.toml", "--set", "ROOM=B7"];
    let told = ok(dir, &[&service[..], &["--dry-run"]].concat());
    assert!(told.contains("Test Linux") && told.contains("+ /etc/room"), "{told}");
    assert_eq!(contents(&root), before);

    let told = ok(dir, &service);
    assert!(told.contains("layer room 1: applied"), "{told}");
    let stat = |path: &str| fs::metadata(root.join(path)).unwrap();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!((read("etc/room"), stat("etc/room").mode() & 0o7777), ("B7".to_owned(), 0o600));
    assert_eq!((read("usr/bin/tool"), stat("usr/bin/tool").mode() & 0o7777), ("new".to_owned(), 0o4755));
    assert!(fs::symlink_metadata(root.join("bin")).unwrap().is_symlink(), "what is written goes through it");
    assert_eq!(read("etc/motd"), "Welcome\nRoom B7\n");
    let wanted = root.join("etc/systemd/system/multi-user.target.wants/gravure-layer-room.service");
    assert_eq!(
        fs::read_link(wanted).unwrap().to_str(),
        Some("/etc/systemd/system/gravure-layer-room.service")
    );
    assert!(contents(&root).keys().all(|name| !name.contains(".gravure-new")));
    ok(dir, &["image", "service", "root", "--undo"]);
    assert_eq!(contents(&root), before);
    assert_eq!(stat("usr/bin/tool").mode() & 0o7777, 0o4755);

    // A file that the running system would not see, and a directory in which nothing is mounted.
    fs::write(root.join("etc/fstab"), "UUID=1 / ext4\nUUID=2 /var ext4\n").unwrap();
    let before = contents(&root);
    let refused = gravure(dir, &service);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{text}");
    assert!(text.contains("/var/lib/gravure") && text.contains("not mounted here"), "{text}");
    assert_eq!(contents(&root), before);
    fs::create_dir(dir.join("empty")).unwrap();
    let empty = gravure(dir, &["image", "service", "empty", "--layer", "room.toml", "--set", "ROOM=B7"]);
    assert_eq!(empty.status.code(), Some(3));
    assert_eq!(fs::read_dir(dir.join("empty")).unwrap().count(), 0);
}

/// A disk with a GPT whose second partition is the file `volume`.
fn disk(dir: &Path, volume: &str, kind: &str) -> Option<()> {
    let mut sgdisk = oracle("sgdisk")?;
    let content = fs::read(dir.join(volume)).unwrap();
    let sectors = content.len() as u64 / 512;
    let disk = dir.join("disk.img");
    fs::File::create(&disk).unwrap().set_len(content.len() as u64 + (8 << 20)).unwrap();
    let second = format!("2:8192:{}", 8192 + sectors - 1);
    let made = sgdisk
        .args(["-n", "1:2048:4095", "-t", "1:ef00", "-n", &second, "-t", &format!("2:{kind}")])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::os::unix::fs::FileExt::write_all_at(
        &fs::File::options().write(true).open(&disk).unwrap(),
        &content,
        8192 * 512,
    )
    .unwrap();
    Some(())
}

/// Whether volumes of this kind can be mounted here.
fn can_mount(dir: &Path, volume: &str, arguments: &[&str]) -> bool {
    let at = dir.join("can-mount");
    fs::create_dir_all(&at).unwrap();
    let mounted = Command::new("mount").args(arguments).arg(dir.join(volume)).arg(&at).output().unwrap();
    if !mounted.status.success() {
        skipped(&format!("a volume cannot be mounted: {}", String::from_utf8_lossy(&mounted.stderr)));
        return false;
    }
    assert!(unmounted(&at));
    true
}

#[test]
fn a_windows_on_a_volume_or_disk_in_a_file_is_serviced_there_and_back() {
    if !is_root() || oracle("ntfs-3g").is_none() {
        return;
    }
    let temp = prepared();
    let dir = temp.path();
    ok(dir, &["apply", "x.wim:1", "c.ntfs", "--size", "64M"]);
    if !can_mount(dir, "c.ntfs", &["-o", "loop,ro", "-t", "ntfs-3g"]) {
        return;
    }
    if disk(dir, "c.ntfs", "0700").is_none() {
        return;
    }
    let more = ["--drivers", "drivers", "--inventory", "pc.json"];
    let service = |target: &'static str| [&["image", "service", target][..], &more].concat();
    for (target, file) in [("c.ntfs", "c.ntfs"), ("disk.img", "disk.img"), ("disk.img:2", "disk.img")] {
        let before = fs::read(dir.join(file)).unwrap();
        let told = ok(dir, &[service(target), vec!["--dry-run"]].concat());
        assert!(told.contains("raid.inf 1.2.3.4 (boot-critical)"), "{told}");
        assert!(fs::read(dir.join(file)).unwrap() == before, "{target}: only read");
        let told = ok(dir, &service(target));
        assert!(told.contains("raid.inf 1.2.3.4 (boot-critical)"), "{told}");
        // Read by our own code, not by what wrote it.
        let volume = match file {
            "disk.img" => {
                let disk = fs::read(dir.join(file)).unwrap();
                fs::write(dir.join("taken.ntfs"), &disk[8192 * 512..][..64 << 20]).unwrap();
                "taken.ntfs"
            }
            other => other,
        };
        ok(dir, &["ntfs", "check", volume]);
        let listed = ok(dir, &["ls", volume]);
        assert!(listed.contains("/Windows/System32/drivers/raid.sys"), "{listed}");
        assert!(listed.contains("/Windows/Gravure/changes/0001.json"), "{listed}");
        ok(dir, &["image", "service", target, "--undo"]);
    }
    for (target, code, expected) in [
        ("c.ntfs:2", 2, "is one volume"),
        ("disk.img:1", 3, "which partition is meant is not clear; serviced can be 2"),
    ] {
        let refused = gravure(dir, &service(target));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!((refused.status.code(), text.contains(expected)), (Some(code), true), "{text}");
    }
    // In use by somebody else.
    let at = dir.join("can-mount");
    let mount =
        Command::new("mount").args(["-o", "loop", "-t", "ntfs-3g"]).arg(dir.join("c.ntfs")).arg(&at).status();
    assert!(mount.unwrap().success());
    let refused = gravure(dir, &service("c.ntfs"));
    assert!(unmounted(&at));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{text}");
    assert!(text.contains("the file is in use as /dev/loop"), "{text}");
}

#[test]
fn what_cannot_be_mounted_or_is_a_virtual_disk_is_refused_with_what_to_do() {
    let temp = prepared();
    let dir = temp.path();
    ok(dir, &["apply", "x.wim:1", "c.ntfs", "--size", "64M"]);
    let before = fs::read(dir.join("c.ntfs")).unwrap();
    let arguments = ["image", "service", "c.ntfs", "--drivers", "drivers", "--inventory", "pc.json"];
    let without = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(arguments)
        .env("PATH", dir)
        .output()
        .unwrap();
    // A kernel with ntfs3 needs no program.
    if !without.status.success() {
        let text = String::from_utf8_lossy(&without.stderr).into_owned();
        assert_eq!(without.status.code(), Some(9), "{text}");
        assert!(text.contains("so nothing was changed") && text.contains("modprobe ntfs3"), "{text}");
        assert!(fs::read(dir.join("c.ntfs")).unwrap() == before);
    }
    let Some(mut qemu) = oracle("qemu-img") else { return };
    assert!(
        qemu.args(["create", "-q", "-f", "qcow2", "x.qcow2", "1M"])
            .current_dir(dir)
            .status()
            .unwrap()
            .success()
    );
    let refused = gravure(dir, &["image", "service", "x.qcow2", "--undo"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(9), "{text}");
    assert!(text.contains("qemu-nbd"), "{text}");
}

#[test]
fn a_linux_on_a_volume_in_a_file_is_serviced_there() {
    let (Some(mut mkfs), Some(debugfs)) = (oracle("mkfs.ext4"), oracle("debugfs")) else { return };
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    linux(&dir.join("root"));
    fs::write(dir.join("room.toml"), LAYER).unwrap();
    let volume = dir.join("root.ext4");
    fs::File::create(&volume).unwrap().set_len(32 << 20).unwrap();
    assert!(mkfs.args(["-q", "-F", "-d"]).arg(dir.join("root")).arg(&volume).status().unwrap().success());
    if !can_mount(dir, "root.ext4", &["-o", "loop,ro,noload"]) {
        return;
    }
    let before = fs::read(&volume).unwrap();
    let service = ["image", "service", "root.ext4", "--layer", "room.toml", "--set", "ROOM=B7"];
    let told = ok(dir, &[&service[..], &["--dry-run"]].concat());
    assert!(told.contains("+ /etc/room"), "{told}");
    assert!(fs::read(&volume).unwrap() == before, "only read");
    ok(dir, &service);
    drop(debugfs);
    let show = |command: &str| {
        let shown = oracle("debugfs").unwrap().args(["-R", command]).arg(&volume).output().unwrap();
        String::from_utf8(shown.stdout).unwrap()
    };
    assert_eq!(show("cat /etc/room"), "B7");
    assert_eq!(show("cat /etc/motd"), "Welcome\nRoom B7\n");
    let stat = show("stat /etc/room");
    assert!(stat.contains("Mode:  0600") && stat.contains("User:     0"), "{stat}");
    let left = fs::read_dir(std::env::temp_dir()).unwrap();
    let left = left.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("gravure-service-")
    });
    assert_eq!(left.count(), 0, "no mount is left");
}
