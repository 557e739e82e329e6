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
