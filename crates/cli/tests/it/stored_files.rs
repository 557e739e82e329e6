//! File images in a store: put in, served without their WIM, taken out again.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::path::Path;

use gravure_testkit::oracle;

use crate::support::{fails, json, ok};

/// A tree with contents of all sizes, some of them twice.
fn tree(dir: &Path) {
    std::fs::create_dir_all(dir.join("tree/sub")).unwrap();
    for number in 0..60usize {
        let len = [0, 1, 30, 700, 1023, 1024, 5000, 70_000, 200_000][number % 9];
        let content: Vec<u8> = (0..len).map(|at| (at * number / 7 + at / 251) as u8).collect();
        std::fs::write(dir.join(format!("tree/sub/{number}")), content).unwrap();
    }
    for (name, seed) in [("large", 1u64), ("larger", 2)] {
        let mut state = seed;
        let content: Vec<u8> = (0..(3 << 20) + 12_345)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 60) as u8
            })
            .collect();
        std::fs::write(dir.join("tree").join(name), content).unwrap();
    }
    std::fs::copy(dir.join("tree/large"), dir.join("tree/sub/again")).unwrap();
}

#[test]
fn file_images_live_in_the_store_and_come_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tree(dir);
    let quiet = ["--progress", "none"];
    let run = |arguments: &[&str]| ok(dir, &[arguments, &quiet].concat());
    run(&["capture", "tree", "x.wim", "first", "--description", "one"]);
    run(&["capture", "tree/sub", "x.wim", "second", "--append"]);
    for (file, options) in [("solid.wim", &["--solid"][..]), ("pipe.wim", &["--pipable"])] {
        run(&[&["export", "x.wim:all", file][..], options].concat());
    }
    let imported = json(dir, &["image", "import", "x.wim", "s.gim/#w"]);
    assert_eq!((&imported["kind"], &imported["image"]), (&"files".into(), &"s.gim/#w".into()));
    for file in ["solid.wim", "pipe.wim"] {
        let again = json(dir, &["image", "import", file, "s.gim/"]);
        // Tables say where things are and when; contents are there already.
        assert!(again["new_bytes"].as_u64().unwrap() < 40_000, "{file}: {again}");
    }
    std::fs::remove_file(dir.join("solid.wim")).unwrap();

    // The store alone serves it, under every name.
    for (image, target) in [("s.gim/#w:first", "a"), ("s.gim/#solid:1", "b"), ("s.gim/#pipe:first", "c")] {
        run(&["apply", image, target]);
        run(&["diff", image, target]);
        run(&["diff", "tree", target]);
    }
    run(&["verify", "s.gim/#w"]);
    run(&["verify", "s.gim/"]);
    assert!(run(&["ls", "s.gim/#w:2"]).contains("/59"));
    assert!(run(&["ls", "s.gim/"]).contains("w "));
    let info = json(dir, &["info", "s.gim/#w"]);
    assert_eq!(info["images"][0]["description"], "one");

    // And gives a standard file back, compressed as the old one was.
    run(&["image", "export", "s.gim/#w", "back.wim"]);
    let (old, new) = (json(dir, &["info", "x.wim"]), json(dir, &["info", "back.wim"]));
    for member in ["compression", "chunk_size", "images"] {
        assert_eq!(old[member], new[member], "{member}");
    }
    run(&["diff", "x.wim:1", "back.wim:1"]);
    run(&["image", "export", "s.gim/#solid", "back.esd"]);
    run(&["verify", "back.esd"]);
    if let Some(mut wimlib) = oracle("wimlib-imagex") {
        let verified = wimlib.args(["verify", "back.wim"]).current_dir(dir).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let mut wimlib = oracle("wimlib-imagex").unwrap();
        let applied = wimlib.args(["apply", "back.wim", "1", "foreign"]).current_dir(dir).output().unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        run(&["diff", "tree", "foreign"]);
    }
    let (code, error) = fails(dir, &["image", "export", "s.gim/#w", "back.wim"]);
    assert!(code == 4 && error.contains("--replace"), "{error}");

    // It shares contents with an image of a disk that holds the same files.
    if let Some(mut mkfs) = oracle("mkfs.ext4") {
        File::create(dir.join("disk.img")).unwrap().set_len(48 << 20).unwrap();
        let made = mkfs.args(["-q", "-F", "-d", "tree", "disk.img"]).current_dir(dir).output().unwrap();
        assert!(made.status.success());
        let captured = json(dir, &["capture", "disk.img", "s.gim/", "disk"]);
        let (new, data) = (captured["new_bytes"].as_u64().unwrap(), captured["data_bytes"].as_u64().unwrap());
        assert!(new * 2 < data, "{new} of {data}");
        let (code, error) = fails(dir, &["image", "import", "disk.img", "s.gim/#disk"]);
        assert!(code == 4 && error.contains("--replace"), "{error}");
    }
    // A device gets no file image.
    let (code, error) = fails(dir, &["apply", "s.gim/#w", "new.img", "--block"]);
    assert!(code == 4 && error.contains("it holds files"), "{error}");

    // Damage in a file is no image in the store.
    let mut bytes = std::fs::read(dir.join("x.wim")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join("bad.wim"), bytes).unwrap();
    let (code, error) = fails(dir, &["image", "import", "bad.wim", "s.gim/#bad"]);
    assert!(code == 5 && error.contains("expected"), "{error}");
    assert!(!run(&["ls", "s.gim/"]).contains("bad"));
    run(&["delete", "s.gim/#w"]);
    run(&["optimize", "s.gim/"]);
    run(&["verify", "s.gim/#solid"]);
}
