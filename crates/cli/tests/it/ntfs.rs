//! `gravure ntfs`, and volumes where other commands take images, as their users start them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

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

/// Exit code, standard output and standard error of a command that must fail.
fn fails(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = gravure(dir, arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_ntfs_cannot_hold_is_refused_as_a_list_or_left_out_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("source")).unwrap();
    for name in ["$MFT", "Twin", "TWIN", "other"] {
        std::fs::write(dir.join("source").join(name), name).unwrap();
    }
    ok(dir, &["capture", "source", "a.wim", "--progress", "none"]);
    let apply = ["apply", "a.wim", "v.ntfs", "--size", "16M", "--progress", "none"];
    let (code, _, error) = fails(dir, &apply);
    assert_eq!(code, 4, "{error}");
    for expected in ["/$MFT: name is reserved", "equals \"T", "--skip-unrepresentable"] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let skipping = [&apply[..], &["--skip-unrepresentable", "--yes", "--format", "json"]].concat();
    let (code, out, error) = fails(dir, &skipping);
    assert_eq!(code, 10, "{error}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let warnings = json["warnings"].to_string();
    assert_eq!(
        (json["warnings"].as_array().unwrap().len(), warnings.matches("left out").count()),
        (2, 2),
        "{warnings}"
    );
    ok(dir, &["ntfs", "check", "v.ntfs", "--strict"]);
    let listed = ok(dir, &["ls", "v.ntfs"]);
    assert!(listed.contains("/other") && listed.to_lowercase().matches("/twin").count() == 1, "{listed}");
    let (code, _, error) = fails(dir, &["apply", "a.wim", "directory", "--skip-unrepresentable"]);
    assert!(code == 2 && error.contains("NTFS volumes"), "{code}: {error}");
}

#[test]
fn a_volume_is_made_checked_listed_captured_and_spoiled() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("source/Program Files/App")).unwrap();
    std::fs::write(dir.join("source/Program Files/App/app.exe"), vec![7; 100_000]).unwrap();
    std::fs::write(dir.join("source/readme.txt"), b"read me").unwrap();
    ok(dir, &["capture", "source", "a.wim", "--progress", "none"]);
    ok(dir, &["apply", "a.wim", "volume.ntfs", "--size", "16M", "--label", "System", "--progress", "none"]);

    let text = ok(dir, &["ntfs", "check", "volume.ntfs", "--strict"]);
    assert!(text.starts_with("volume.ntfs: sound, 0 errors, 0 notes, state: clean; "), "{text}");
    assert!(ok(dir, &["verify", "volume.ntfs"]).starts_with("volume.ntfs: sound, "));
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["ntfs", "info", "volume.ntfs", "--format", "json"])).unwrap();
    assert_eq!((json["label"].as_str(), json["version"].as_str()), (Some("System"), Some("3.1")));
    assert_eq!((json["state"].as_str(), json["cluster_bytes"].as_u64()), (Some("clean"), Some(4096)));
    let listed = ok(dir, &["ls", "volume.ntfs", "/Program Files"]);
    assert!(listed.contains("100000 /Program Files/App/app.exe"), "{listed}");

    ok(dir, &["capture", "volume.ntfs", "b.wim", "Again", "--progress", "none"]);
    ok(dir, &["diff", "volume.ntfs", "b.wim", "--progress", "none"]);
    let ignore = ["--ignore", "owner", "--ignore", "mode", "--ignore", "attributes", "--ignore", "security"];
    ok(dir, &[&["diff", "a.wim", "b.wim", "--progress", "none"], &ignore[..]].concat());

    // The mark of the first record's copy, then that of a volume that was not unmounted.
    let file = std::fs::File::options().read(true).write(true).open(dir.join("volume.ntfs")).unwrap();
    let mut lcn = [0; 8];
    file.read_exact_at(&mut lcn, 0x38).unwrap();
    let mirror = u64::from_le_bytes(lcn) * 4096;
    file.write_all_at(b"fILE", mirror).unwrap();
    let (code, text, error) = fails(dir, &["ntfs", "check", "volume.ntfs"]);
    assert_eq!(code, 5);
    assert!(
        text.contains("error: record 1: copy of the first records") && text.contains("[mirror]"),
        "{text}"
    );
    assert!(error.contains("volume.ntfs: volume is damaged"), "{error}");
    let (code, text, _) = fails(dir, &["--format", "json", "ntfs", "check", "volume.ntfs"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, json["clean"].as_bool(), json["errors"].as_u64()), (5, Some(false), Some(1)));
    assert_eq!(
        (json["findings"][0]["rule"].as_str(), json["findings"][0]["offset"].as_u64()),
        (Some("mirror"), Some(mirror))
    );
    file.write_all_at(b"FILE", mirror).unwrap();

    file.write_all_at(&[0; 4096], log_offset(&file)).unwrap();
    let (code, _, error) = fails(dir, &["capture", "volume.ntfs", "c.wim", "--progress", "none"]);
    assert_eq!(code, 4);
    assert!(error.contains("--force-dirty"), "{error}");
    ok(dir, &["capture", "volume.ntfs", "c.wim", "--force-dirty", "--progress", "none"]);
    ok(dir, &["diff", "b.wim", "c.wim", "--progress", "none"]);
    assert_eq!(fails(dir, &["ntfs", "check", "absent"]).0, 3);
    assert_eq!(fails(dir, &["capture", "a.wim", "d.wim", "--progress", "none"]).0, 9);
}

/// Where the log of a volume is: the first long stretch of 0xff in clusters.
fn log_offset(file: &std::fs::File) -> u64 {
    let mut page = [0; 4096];
    (1..)
        .map(|cluster| cluster * 4096)
        .find(|offset| {
            file.read_exact_at(&mut page, *offset).unwrap();
            page.iter().all(|byte| *byte == 0xff)
        })
        .unwrap()
}

#[test]
fn contents_are_copied_compressed_and_held_against_a_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("source/Windows/System32/drivers")).unwrap();
    let text = b"a line that is said again and again, ".repeat(3000);
    std::fs::write(dir.join("source/Windows/System32/app.dll"), &text).unwrap();
    std::fs::write(dir.join("source/Windows/System32/drivers/disk.sys"), [&b"x"[..], &text].concat())
        .unwrap();
    ok(dir, &["capture", "source", "a.wim", "--compress=LZX", "--progress", "none"]);
    let apply = |arguments: &[&'static str]| {
        let fixed = ["apply", "a.wim", "v.ntfs", "--size", "16M", "--yes", "--progress", "none"];
        [&fixed[..], arguments].concat()
    };
    let text = ok(dir, &apply(&[]));
    assert!(text.contains("not compressed: the image does not say that it holds Windows"), "{text}");
    let text = ok(dir, &apply(&["--compact", "always"]));
    assert!(text.contains("compressed: 1 files, 111.0 kB in "), "{text}");
    assert!(text.contains("plain, read before the overlay filter runs: 1 files, 111.0 kB"), "{text}");
    assert!(!ok(dir, &apply(&["--compact", "never"])).contains("compressed"));
    assert_eq!(fails(dir, &["apply", "a.wim", "d", "--compact", "always", "--progress", "none"]).0, 2);

    let by_descriptor = ["--compact", "always", "--verify", "descriptor", "--format", "json"];
    let (code, _, error) = fails(dir, &apply(&by_descriptor));
    assert!(code == 2 && error.contains("gravure image describe"), "{error}");
    let text = ok(dir, &["image", "describe", "a.wim", "--progress", "none"]);
    assert!(text.starts_with("a.wim.descriptor: "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&ok(dir, &apply(&by_descriptor))).unwrap();
    assert_eq!((json["compact"]["files"].as_u64(), json["verified_bytes"].as_u64()), (Some(1), Some(0)));
    assert_eq!(json["compact"]["plain"][0]["files"].as_u64(), Some(1));
    assert!(json["compact"]["stored_bytes"].as_u64() < Some(5000), "{json}");
    let text = ok(dir, &["ntfs", "check", "v.ntfs", "--strict"]);
    assert!(text.contains("sound, 0 errors"), "{text}");

    // Another state of the image: what lies beside is not used, what is named is refused.
    std::fs::copy(dir.join("a.wim"), dir.join("good.wim")).unwrap();
    std::fs::copy(dir.join("a.wim.descriptor"), dir.join("good.json")).unwrap();
    ok(dir, &["edit", "a.wim", "--name", "Other", "--progress", "none"]);
    ok(dir, &apply(&["--compact", "always"]));
    assert_eq!(fails(dir, &apply(&by_descriptor)).0, 2);
    let (code, _, error) = fails(dir, &apply(&["--descriptor", "good.json"]));
    assert!(code == 5 && error.contains("good.json is of another image"), "{error}");

    // The same state with one byte of the first content flipped.
    std::fs::rename(dir.join("good.wim"), dir.join("a.wim")).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(dir.join("a.wim")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 300).unwrap();
    for verify in ["descriptor", "full"] {
        let (code, _, error) =
            fails(dir, &apply(&["--compact", "always", "--descriptor", "good.json", "--verify", verify]));
        assert!(code == 5 && error.contains("expected BLAKE3"), "{error}");
    }
    std::fs::remove_file(dir.join("a.wim.descriptor")).unwrap();
    let (code, _, error) = fails(dir, &apply(&["--compact", "always", "--verify", "decode"]));
    assert!(code == 5 && error.contains("/Windows/System32/"), "{error}");
    assert_eq!(fails(dir, &["image", "describe", "a.wim", "--progress", "none"]).0, 5);
    assert!(!dir.join("a.wim.descriptor").exists());
}

#[test]
fn a_volume_gets_another_label_serial_number_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("source")).unwrap();
    std::fs::write(dir.join("source/file"), vec![7; 100_000]).unwrap();
    ok(dir, &["capture", "source", "a.wim", "--progress", "none"]);
    ok(dir, &["apply", "a.wim", "v.ntfs", "--size", "16M", "--label", "System", "--progress", "none"]);
    assert_eq!(ok(dir, &["ntfs", "label", "v.ntfs"]).trim(), "System");
    assert_eq!(ok(dir, &["ntfs", "label", "v.ntfs", "Other name"]).trim(), "Other name");
    assert_eq!(ok(dir, &["ntfs", "label", "v.ntfs", ""]).trim(), "");
    assert_eq!(ok(dir, &["ntfs", "serial", "v.ntfs", "01DA5C3F7B2E9A40"]).trim(), "01DA5C3F7B2E9A40");
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["ntfs", "serial", "v.ntfs", "--format", "json"])).unwrap();
    assert_eq!(json["serial"].as_str(), Some("01DA5C3F7B2E9A40"));
    for bad in ["", "x", "11112222333344445"] {
        assert_eq!(fails(dir, &["ntfs", "serial", "v.ntfs", bad]).0, 2, "{bad}");
    }
    assert_eq!(fails(dir, &["ntfs", "label", "v.ntfs", &"x".repeat(33)]).0, 2);
    assert_eq!(fails(dir, &["ntfs", "label", "absent", "x"]).0, 3);

    let text = ok(dir, &["ntfs", "grow", "v.ntfs"]);
    assert!(text.contains("as large as its place"), "{text}");
    assert_eq!(fails(dir, &["ntfs", "grow", "v.ntfs", "--size", "15M"]).0, 2);
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["ntfs", "grow", "v.ntfs", "--size", "80M", "--format", "json"]))
            .unwrap();
    let sizes = (json["old_bytes"].as_u64().unwrap(), json["bytes"].as_u64().unwrap());
    assert_eq!(sizes, ((16 << 20) - 4096, (80 << 20) - 4096));
    let text = ok(dir, &["ntfs", "check", "v.ntfs", "--strict"]);
    assert!(text.starts_with("v.ntfs: sound, 0 errors, 0 notes, state: clean; "), "{text}");
    ok(dir, &["capture", "v.ntfs", "b.wim", "--progress", "none"]);
    let ignore = ["--ignore", "owner", "--ignore", "mode", "--ignore", "attributes", "--ignore", "security"];
    ok(dir, &[&["diff", "a.wim", "b.wim", "--progress", "none"], &ignore[..]].concat());

    let file = std::fs::File::options().read(true).write(true).open(dir.join("v.ntfs")).unwrap();
    file.write_all_at(&[0; 4096], log_offset(&file)).unwrap();
    for arguments in [&["ntfs", "grow", "v.ntfs"][..], &["ntfs", "label", "v.ntfs", "x"]] {
        let (code, _, error) = fails(dir, arguments);
        assert_eq!(code, 4, "{error}");
    }
}

/// A real file system without room, not one that is made to fail: nothing that looks whole is left behind.
#[test]
fn a_full_file_system_ends_an_apply_and_a_capture_with_nothing_to_mistake_for_a_result() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("source")).unwrap();
    std::fs::create_dir_all(dir.join("small")).unwrap();
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    std::fs::write(dir.join("source/noise"), noise.take(9 << 20).collect::<Vec<u8>>()).unwrap();
    ok(dir, &["capture", "source", "a.wim", "--progress", "none"]);
    // In mounts of its own, so that nothing has to be cleared away.
    let script = "mount -t tmpfs -o size=6m none small || exit 99; \"$@\"; code=$?; ls small; head -c 512 small/* 2> /dev/null | od -An -v -tx1; exit $code";
    let in_small = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_gravure")]);
        let output = command.args(arguments).args(["--progress", "none"]).current_dir(dir).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let refused = ["apply", "a.wim", "small/v.ntfs", "--size", "64M"];
    let (code, left, error) = in_small(&refused);
    if code == 99 || error.contains("unshare failed") {
        return gravure_testkit::skipped(&format!("a tmpfs cannot be mounted: {error}"));
    }
    // By the figures, before anything is made.
    assert!(code == 4 && error.contains("no room") && error.contains("6291456 free"), "{code} {error}");
    assert_eq!(left.trim(), "");
    let (code, left, error) = in_small(&["apply", "a.wim", "small/directory"]);
    assert!(code == 4 && error.contains("its files have 9437184 bytes"), "{code} {error}");
    assert_eq!(left.trim(), "");
    // By the first write that finds no room.
    let (code, left, error) = in_small(&[&refused[..], &["--ignore-space"]].concat());
    assert_eq!(code, 6, "{error}");
    assert!(error.contains("small/v.ntfs") && error.contains("No space left on device"), "{error}");
    let boot_sector = left.strip_prefix("v.ntfs\n").unwrap();
    assert!(boot_sector.split_whitespace().all(|byte| byte == "00"), "no boot sector: {left}");

    let (code, left, error) = in_small(&["capture", "source", "small/x.wim"]);
    assert!(code == 6 && error.contains("No space left on device"), "{code} {error}");
    assert_eq!(left.trim(), "", "{error}");
    let (code, _, error) = in_small(&["apply", "a.wim", "small/directory", "--ignore-space"]);
    assert!(
        code == 6 && error.contains("/noise") && error.contains("No space left on device"),
        "{code} {error}"
    );
}

/// The write that finds no room comes later with each size: never a file that looks like an image.
#[test]
fn a_capture_of_a_volume_that_finds_no_room_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir_all(dir.join("source")).unwrap();
    std::fs::create_dir_all(dir.join("small")).unwrap();
    let mut state = 1u32;
    for number in 0..40usize {
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let content: Vec<u8> = noise.take([300, 20_000, 9000][number % 3]).collect();
        std::fs::write(dir.join("source").join(format!("file{number}")), content).unwrap();
    }
    ok(dir, &["capture", "source", "a.wim", "--progress", "none"]);
    ok(dir, &["apply", "a.wim", "v.ntfs", "--size", "16M", "--progress", "none"]);
    let script =
        "mount -t tmpfs -o size=$1k none small || exit 99; shift; \"$@\"; code=$?; ls -A small; exit $code";
    let (mut full, mut whole) = (0, 0);
    for pages in 1.. {
        let mut command = Command::new("unshare");
        let size = (pages * 16).to_string();
        command.args(["--mount", "sh", "-c", script, "sh", &size, env!("CARGO_BIN_EXE_gravure")]);
        command.args(["capture", "v.ntfs", "small/x.wim", "--check", "--progress", "none"]);
        let output = command.current_dir(dir).output().unwrap();
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        match output.status.code().unwrap() {
            0 => {
                assert!(out.ends_with("x.wim\n"), "{out}");
                whole += 1;
                break;
            }
            6 => {
                full += 1;
                assert!(error.contains("No space left on device"), "{size}: {error}");
                assert_eq!(out, "", "{size}");
            }
            code => {
                let cannot = code == 99 || error.contains("unshare failed");
                assert!(cannot, "{size}: {code} {error}");
                return gravure_testkit::skipped(&format!("a tmpfs cannot be mounted: {error}"));
            }
        }
    }
    assert!(full > 10 && whole == 1, "{full} {whole}");
}
