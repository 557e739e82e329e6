//! Block images as their users start them: files, stores, streams, and what every command says of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

fn json(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&ok(dir, &[arguments, &["--format", "json"]].concat())).unwrap()
}

/// Exit code and standard error of a command that must fail.
fn fails(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = gravure(dir, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A partition with ext4 and a few files.
fn partition(dir: &Path, name: &str) -> Option<()> {
    let mut mkfs = oracle("mkfs.ext4")?;
    std::fs::create_dir_all(dir.join("tree")).unwrap();
    for number in 0..20u8 {
        std::fs::write(dir.join(format!("tree/file{number}")), vec![number; 150_000]).unwrap();
    }
    File::create(dir.join(name)).unwrap().set_len(48 << 20).unwrap();
    let made = mkfs.args(["-q", "-F", "-L", "data", "-d", "tree", name]).current_dir(dir).output().unwrap();
    assert!(made.status.success());
    Some(())
}

#[test]
fn images_in_files_stores_and_streams() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if partition(dir, "disk.img").is_none() {
        return;
    }
    let source = std::fs::read(dir.join("disk.img")).unwrap();
    let captured = json(dir, &["capture", "disk.img", "x.gim", "Golden", "--progress", "none"]);
    assert_eq!(captured["size_bytes"], 48 << 20);
    assert!(captured["used_bytes"].as_u64().unwrap() < 12 << 20, "{captured}");
    let info = json(dir, &["info", "x.gim"]);
    assert_eq!((&info["id"], &info["tree"]), (&captured["id"], &captured["tree"]));
    assert_eq!((info["facts"]["name"].as_str(), info["format"].as_str()), (Some("Golden"), Some("gim")));
    let volume = &info["facts"]["volumes"][0];
    assert_eq!((volume["content"].as_str(), volume["label"].as_str()), (Some("ext4"), Some("data")));
    assert!(ok(dir, &["ls", "x.gim"]).contains("ext4"));
    let (_, error) = fails(dir, &["ls", "x.gim:3/etc"]);
    let expected = "partition 3 of x.gim (it is of one volume, which has no number) not found";
    assert!(error.contains(expected) && error.contains("lists the partitions of a block image"), "{error}");
    assert!(ok(dir, &["verify", "x.gim", "--progress", "none"]).starts_with("sound: "));

    // A new file is as large as the device was; what is not in use reads as zeros there.
    let applied = json(dir, &["apply", "x.gim", "new.img", "--progress", "none"]);
    assert_eq!((applied["verified"].as_bool(), &applied["tree"]), (Some(true), &captured["tree"]));
    assert!(std::fs::read(dir.join("new.img")).unwrap() == source);

    // A target with data is named and left alone.
    let (code, error) = fails(dir, &["apply", "x.gim", "new.img", "--progress", "none"]);
    assert_eq!(code, 4);
    assert!(error.contains("it holds ext4 \"data\"") && error.contains("--yes"), "{error}");
    let again = json(dir, &["apply", "x.gim", "new.img", "--yes", "--progress", "none"]);
    assert!(again["written_bytes"].as_u64().unwrap() < 4 << 20, "{again}");
    std::fs::write(dir.join("small.img"), vec![0; 1 << 20]).unwrap();
    let (code, error) = fails(dir, &["apply", "x.gim", "small.img", "--yes"]);
    assert!(
        code == 4 && error.contains("its blocks reach over 50331648 bytes and there is room for 1048576"),
        "{error}"
    );

    // A store keeps everything once.
    let first = json(dir, &["capture", "disk.img", "store.gim/", "one", "--progress", "none"]);
    assert_eq!(first["tree"], captured["tree"]);
    let second = json(dir, &["capture", "disk.img", "store.gim/", "two", "--progress", "none"]);
    assert_eq!(second["new_bytes"], 0);
    assert_eq!(fails(dir, &["capture", "disk.img", "store.gim/", "two", "--description", "another"]).0, 4);
    let listed = ok(dir, &["ls", "store.gim/", "--format", "csv"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let (code, error) = fails(dir, &["apply", "store.gim/", "stored.img"]);
    assert!(code == 2 && error.contains("one, two"), "{error}");
    ok(dir, &["apply", "store.gim/:one", "stored.img", "--progress", "none"]);
    assert!(std::fs::read(dir.join("stored.img")).unwrap() == source);
    ok(dir, &["delete", "store.gim/:two"]);
    ok(dir, &["optimize", "store.gim/"]);
    assert!(ok(dir, &["verify", "store.gim/", "--progress", "none"]).starts_with("sound: "));
    ok(dir, &["delete", "store.gim/:one"]);
    assert!(json(dir, &["optimize", "store.gim/"])["removed_packs"].as_u64().unwrap() > 0);
    assert_eq!(json(dir, &["info", "store.gim/"])["packs"], 0);

    // Through a pipe.
    let mut capture = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(["capture", "disk.img", "-", "--block", "--progress", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let apply = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(["apply", "-", "piped.img", "--block", "--progress", "none"])
        .stdin(capture.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(capture.wait().unwrap().success());
    assert!(apply.status.success(), "{}", String::from_utf8_lossy(&apply.stderr));
    assert!(std::fs::read(dir.join("piped.img")).unwrap() == source);

    let refused = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(["apply", "-", "other.img", "--block", "--delta", "always", "--progress", "none"])
        .stdin(std::fs::File::open(dir.join("x.gim")).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(9), "{said}");
    assert!(
        said.contains("comes once") && said.contains("--delta") && !dir.join("other.img").exists(),
        "{said}"
    );

    // Damage is found, named, and never restored.
    let mut bytes = std::fs::read(dir.join("x.gim")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join("bad.gim"), bytes).unwrap();
    let output = gravure(dir, &["verify", "bad.gim", "--progress", "none"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&output.stdout).contains("damaged: device at 0x"));
    assert_eq!(fails(dir, &["apply", "bad.gim", "bad.img", "--progress", "none"]).0, 5);
    let head = std::fs::read(dir.join("bad.img")).unwrap();
    assert!(head[..4096].iter().all(|byte| *byte == 0), "nothing that mounts is left");
}

#[test]
fn a_disk_fits_onto_others_and_what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let Some(mut sgdisk) = oracle("sgdisk") else { return };
    if partition(dir, "volume.img").is_none() {
        return;
    }
    File::create(dir.join("disk.img")).unwrap().set_len(80 << 20).unwrap();
    let made =
        sgdisk.args(["-n", "1:2048:+48M", "-n", "2:0:+4M"]).arg(dir.join("disk.img")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let disk = File::options().write(true).open(dir.join("disk.img")).unwrap();
    let volume = std::fs::read(dir.join("volume.img")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &volume, 1 << 20).unwrap();
    ok(dir, &["capture", "disk.img", "disk.gim", "--progress", "none"]);
    let smaller = json(dir, &["apply", "disk.gim", "small.img", "--size", "60M", "--progress", "none"]);
    assert_eq!(
        (smaller["verified"].as_bool(), smaller["partitions"].as_array().unwrap().len()),
        (Some(true), 2)
    );
    assert!(std::fs::read(dir.join("small.img")).unwrap()[1 << 20..49 << 20] == volume);
    let larger = ok(
        dir,
        &[
            "apply",
            "disk.gim",
            "large.img",
            "--size",
            "200M",
            "--new-ids",
            "--delta",
            "never",
            "--progress",
            "none",
        ],
    );
    assert!(larger.contains("verified: tree "), "{larger}");
    let checked = oracle("sgdisk").unwrap().arg("-v").arg(dir.join("large.img")).output().unwrap();
    assert!(String::from_utf8_lossy(&checked.stdout).contains("No problems found"), "{checked:?}");
    let tiny = ["apply", "disk.gim", "tiny.img", "--size", "40M", "--progress", "none"];
    let (code, error) = fails(dir, &[&tiny[..], &["--no-file-level"]].concat());
    assert!(code == 4 && error.contains("cannot be smaller than the file systems in them"), "{error}");
    assert!(error.contains("ext4 on partition 1 only block by block"), "{error}");
}

#[test]
fn equal_sources_give_equal_images() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("raw.img"), (0..3_000_064u32).map(|n| (n >> 9) as u8).collect::<Vec<_>>())
        .unwrap();
    for (name, threads) in [("a.gim", "1"), ("b.gim", "4")] {
        let made = Command::new(env!("CARGO_BIN_EXE_gravure"))
            .current_dir(dir)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .args(["capture", "raw.img", name, "same", "--threads", threads, "--progress", "none"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    assert!(std::fs::read(dir.join("a.gim")).unwrap() == std::fs::read(dir.join("b.gim")).unwrap());
}

#[test]
fn an_ntfs_volume_fits_where_its_files_fit_unless_that_is_not_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("tree/sub")).unwrap();
    for number in 0..20u8 {
        std::fs::write(dir.join(format!("tree/sub/file{number}")), vec![number; 50_000]).unwrap();
    }
    ok(dir, &["capture", "tree", "x.wim", "--progress", "none"]);
    ok(dir, &["apply", "x.wim", "v.ntfs", "--size", "60M", "--label", "Golden", "--progress", "none"]);
    ok(dir, &["capture", "v.ntfs", "v.gim", "--progress", "none"]);
    let small = ["apply", "v.gim", "small.ntfs", "--size", "20M", "--progress", "none"];
    let (code, error) = fails(dir, &[&small[..], &["--no-file-level"]].concat());
    assert!(code == 4 && error.contains("the image needs"), "{error}");
    assert!(!dir.join("small.ntfs").exists(), "a refused apply makes no file");
    let applied = json(dir, &small);
    assert_eq!(applied["partitions"][0]["laid_out_anew"], true, "{applied}");
    assert_eq!((applied["verified"].as_bool(), applied["tree"].as_str()), (Some(true), Some("")));
    assert!(applied["notes"][0].as_str().unwrap().contains("file by file"), "{applied}");
    ok(dir, &["ntfs", "check", "small.ntfs"]);
    let info = json(dir, &["ntfs", "info", "small.ntfs"]);
    assert_eq!(
        (info["label"].as_str(), &info["serial"]),
        (Some("Golden"), &json(dir, &["ntfs", "info", "v.ntfs"])["serial"])
    );
    // What was captured of it is what was captured of the other one.
    ok(dir, &["capture", "small.ntfs", "again.wim", "--progress", "none"]);
    ok(dir, &["apply", "again.wim", "out", "--progress", "none"]);
    for number in 0..20u8 {
        assert_eq!(std::fs::read(dir.join(format!("out/sub/file{number}"))).unwrap(), vec![number; 50_000]);
    }
    // In text, too.
    let said = ok(dir, &["apply", "v.gim", "small.ntfs", "--yes", "--progress", "none"]);
    assert!(
        said.contains("note: the volume: NTFS laid out anew, file by file, as its blocks reach over"),
        "{said}"
    );
    let (code, error) = fails(dir, &["apply", "v.gim", "tiny.ntfs", "--size", "3M", "--progress", "none"]);
    assert!(code == 4 && error.contains("its files need"), "{error}");
}

#[test]
fn a_store_is_read_from_its_copies_and_through_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if partition(dir, "disk.img").is_none() {
        return;
    }
    let source = std::fs::read(dir.join("disk.img")).unwrap();
    ok(dir, &["capture", "disk.img", "store.gim/", "one", "--progress", "none"]);
    assert!(
        Command::new("cp").args(["-r", "store.gim", "copy.gim"]).current_dir(dir).status().unwrap().success()
    );
    let packs = |store: &str| -> Vec<std::path::PathBuf> {
        let folders = std::fs::read_dir(dir.join(store).join("packs")).unwrap();
        folders
            .flat_map(|one| std::fs::read_dir(one.unwrap().path()).unwrap())
            .map(|one| one.unwrap().path())
            .collect()
    };
    let spoil = |store: &str| {
        for pack in packs(store) {
            let mut bytes = std::fs::read(&pack).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(pack, bytes).unwrap();
        }
    };
    spoil("store.gim");
    let apply = |target: &str, more: &[&str]| {
        gravure(dir, &[&["apply", "store.gim/:one", target, "--progress", "none"], more].concat())
    };
    assert_eq!(apply("bad.img", &[]).status.code(), Some(5));
    let copied = apply("good.img", &["--store-copy", "copy.gim/", "--store-cache", "near"]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert!(std::fs::read(dir.join("good.img")).unwrap() == source);
    // What is near now is right, and enough.
    assert!(!packs("near").is_empty());
    let cached = apply("again.img", &["--store-cache", "near"]);
    assert!(cached.status.success(), "{}", String::from_utf8_lossy(&cached.stderr));
    assert!(std::fs::read(dir.join("again.img")).unwrap() == source);
    // A store that is gone is read from its copies, and not written to.
    std::fs::remove_dir_all(dir.join("store.gim")).unwrap();
    let elsewhere = ["--store-copy", "gone.gim/", "--store-copy", "copy.gim/"];
    assert!(apply("third.img", &elsewhere).status.success());
    let more = [&["capture", "disk.img", "store.gim/", "two", "--progress", "none"][..], &elsewhere].concat();
    let (code, error) = fails(dir, &more);
    assert!(code == 4 && error.contains("read-only"), "{code} {error}");
    let (code, error) = fails(dir, &["ls", "store.gim/", "--store-copy", "disk.img"]);
    assert!(code == 2 && error.contains("no store"), "{error}");
}
