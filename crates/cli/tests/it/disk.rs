//! `gravure disk`: what its users see.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use gravure_testkit::oracle;

fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).current_dir(dir).args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = gravure(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and standard error of a command that must fail.
fn fails(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = gravure(dir, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_partition_is_probed_mapped_and_its_blocks_have_names() {
    let Some(mut mke2fs) = oracle("mke2fs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("tree")).unwrap();
    std::fs::write(dir.join("tree/file"), vec![7; 50_000]).unwrap();
    std::fs::File::create(dir.join("root.img")).unwrap().set_len(20 << 20).unwrap();
    let made =
        mke2fs.args(["-q", "-F", "-t", "ext2", "-L", "root", "-d", "tree", "root.img"]).current_dir(dir);
    assert!(made.status().unwrap().success());

    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["disk", "probe", "root.img", "--format", "json"])).unwrap();
    assert_eq!((json["kind"].as_str(), json["label"].as_str()), (Some("ext2"), Some("root")));
    assert_eq!((json["state"].as_str(), json["size"].as_u64()), (Some("clean"), Some(20 << 20)));
    assert!(ok(dir, &["disk", "probe", "root.img"]).contains("Kind:    ext2\nLabel:   root\n"));

    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["disk", "map", "root.img", "--format", "json"])).unwrap();
    let number = |name: &str| json[name].as_u64().unwrap();
    assert_eq!(number("kept") + number("excluded") + number("free"), number("device_bytes"));
    assert_eq!((json["basis"].as_str(), number("overlay_bytes")), (Some("allocation"), 0));
    let rows = ok(dir, &["disk", "map", "root.img", "--runs", "--format", "csv"]);
    let mut rows = rows.lines();
    assert_eq!(rows.next(), Some("offset,len,class"));
    let sum: u64 = rows.map(|row| row.split(',').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, number("kept"));

    // The content is nowhere else.
    let image = std::fs::read(dir.join("root.img")).unwrap();
    let at = image.windows(512).position(|window| window.iter().all(|byte| *byte == 7)).unwrap();
    let asked = format!("{at:#x}+512");
    let found = ok(dir, &["disk", "owner", "root.img", &asked, "0+1024", "--format", "csv"]);
    assert_eq!(found, format!("offset,len,owner,names\n0,1024,metadata,boot sector\n{at},512,file,/file\n"));
    assert_eq!(fails(dir, &["disk", "owner", "root.img", "20971520+1"]).0, 2);
    assert_eq!(fails(dir, &["disk", "owner", "root.img", "512"]).0, 2);

    // Not unmounted.
    let file = std::fs::File::options().write(true).open(dir.join("root.img")).unwrap();
    file.write_all_at(&[0], 1024 + 0x3a).unwrap();
    let (code, error) = fails(dir, &["disk", "map", "root.img"]);
    assert_eq!(code, 4);
    assert!(error.contains("ext2 is not mapped: not unmounted") && error.contains("--everything"), "{error}");
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["disk", "map", "root.img", "--everything", "--format", "json"]))
            .unwrap();
    assert_eq!((json["basis"].as_str(), json["kept"].as_u64()), (Some("not-unmounted"), Some(20 << 20)));
    assert_eq!(fails(dir, &["disk", "probe", "nothing"]).0, 3);
    // A wrong super block.
    file.write_all_at(&[99], 1024 + 0x18).unwrap();
    let (code, error) = fails(dir, &["disk", "probe", "root.img"]);
    assert_eq!(code, 5);
    assert!(
        error.contains("super block, block size at 0x418: expected a shift of 0 to 6, found 99"),
        "{error}"
    );
}

#[test]
fn boot_code_is_taken_from_a_disk_and_put_onto_a_volume() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let code = gravure_testkit::windows_boot_code("hello\0");
    let mut disk = vec![0; 4 << 20];
    disk[..512].copy_from_slice(&code[..512]);
    disk[0x1b8..0x1bc].copy_from_slice(&[1, 2, 3, 4]);
    disk[0x1be..0x1ce].copy_from_slice(&[0x80, 0, 0, 0, 7, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    disk[1 << 20..][..8192].copy_from_slice(&code[512..]);
    std::fs::write(dir.join("disk.img"), &disk).unwrap();
    assert_eq!(ok(dir, &["disk", "boot-code", "disk.img", "-o", "bios.boot"]), "bios.boot: 8704 bytes\n");
    assert_eq!(
        std::fs::read(dir.join("bios.boot")).unwrap(),
        code,
        "without signature and table of the disk"
    );
    assert_eq!(fails(dir, &["disk", "boot-code", "disk.img", "-o", "bios.boot"]).0, 4);
    disk[0x1be] = 0;
    std::fs::write(dir.join("inactive.img"), &disk).unwrap();
    let (status, error) = fails(dir, &["disk", "boot-code", "inactive.img", "-o", "x.boot"]);
    assert!(status == 5 && error.contains("an MBR with an active partition"), "{status}: {error}");

    std::fs::create_dir(dir.join("source")).unwrap();
    std::fs::write(dir.join("source/bootmgr"), "boot manager").unwrap();
    ok(dir, &["capture", "source", "a.wim", "A", "--progress", "none"]);
    let apply = ["apply", "a.wim", "v.ntfs", "--size", "16M", "--progress", "none", "--boot-code"];
    ok(dir, &[&apply[..], &["bios.boot"]].concat());
    let volume = std::fs::read(dir.join("v.ntfs")).unwrap();
    assert_eq!((&volume[0x54..510], &volume[512..8192]), (&code[512 + 0x54..512 + 510], &code[1024..]));
    assert_eq!(volume[3..11], *b"NTFS    ");
    ok(dir, &["ntfs", "check", "v.ntfs"]);
    std::fs::write(dir.join("bad.boot"), &code[..8703]).unwrap();
    let (status, error) = fails(dir, &[&apply[..], &["bad.boot", "--yes"]].concat());
    assert!(status == 5 && error.contains("expected 8704 bytes"), "{status}: {error}");
}
