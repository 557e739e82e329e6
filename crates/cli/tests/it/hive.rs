//! `gravure hive` and `gravure bcd` as their users start them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

const STORE: [&str; 4] = [
    "--system",
    "gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:36be3955-63bf-4068-a6ab-00195cca3a22",
    "--windows",
    "gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b",
];

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

/// A directory with a new boot store `BCD`, which is a hive like any other.
fn with_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    ok(dir.path(), &[&["bcd", "create", "BCD"], &STORE[..]].concat());
    dir
}

#[test]
fn hives_are_set_read_and_deleted() {
    let dir = with_store();
    let dir = dir.path();
    ok(dir, &["hive", "set", "BCD", "A\\B", "number", "0x10", "--type", "dword"]);
    ok(dir, &["hive", "set", "BCD", "A\\B", "list", "x", "y", "--type", "multi_sz"]);
    ok(dir, &["hive", "set", "BCD", "A\\B", "", "standard"]);
    ok(dir, &["hive", "set", "BCD", "A\\C", "--sddl", "O:BAG:SYD:(A;CI;KA;;;SY)"]);
    assert_eq!(ok(dir, &["hive", "get", "BCD", "a\\b", "NUMBER"]), "16\n");
    assert_eq!(ok(dir, &["hive", "get", "BCD", "A\\B", ""]), "standard\n");
    let text = ok(dir, &["hive", "get", "BCD", "A", "--recursive"]);
    let expected = "[A]\n[A\\B]\n  number  REG_DWORD  16\n  list  REG_MULTI_SZ  [\"x\",\"y\"]\n  (default)  REG_SZ  standard\n[A\\C]\n";
    assert_eq!(text, expected);
    let json: serde_json::Value =
        serde_json::from_str(&ok(dir, &["--format", "json", "hive", "get", "BCD", "A\\C"])).unwrap();
    assert_eq!(json[0]["sddl"], "O:BAG:SYD:(A;CI;KA;;;SY)");
    ok(dir, &["hive", "delete", "BCD", "A\\B", "number"]);
    ok(dir, &["hive", "delete", "BCD", "A\\C"]);
    assert_eq!(fails(dir, &["hive", "get", "BCD", "A\\B", "number"]).0, 3);
    assert_eq!(fails(dir, &["hive", "delete", "BCD", "A\\C"]).0, 3);
    assert_eq!(fails(dir, &["hive", "get", "BCD", "nowhere"]).0, 3);
    assert_eq!(fails(dir, &["hive", "get", "absent"]).0, 3);
    assert_eq!(fails(dir, &["hive", "set", "BCD", "A", "v", "x", "--type", "dword"]).0, 2);
    assert!(ok(dir, &["hive", "check", "BCD"]).ends_with("sound\n"));
}

#[test]
fn texts_go_in_and_come_out() {
    let dir = with_store();
    let dir = dir.path();
    let text = "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\X\\New\\Key]\r\n\"v\"=dword:00000001\r\n\r\n[-HKEY_LOCAL_MACHINE\\X\\Gone]\r\n";
    std::fs::write(dir.join("in.reg"), text).unwrap();
    let before = std::fs::read(dir.join("BCD")).unwrap();
    let said = ok(dir, &["hive", "import", "BCD", "in.reg", "--dry-run"]);
    assert_eq!(
        said,
        "2 keys would be created, 0 deleted; 1 values would be set, 0 deleted; 1 to delete were not there\n"
    );
    assert_eq!(std::fs::read(dir.join("BCD")).unwrap(), before);
    ok(dir, &["hive", "import", "BCD", "in.reg"]);
    let arguments = ["hive", "export", "BCD", "New", "--encoding", "utf8", "--root", "HKEY_LOCAL_MACHINE\\X"];
    let out = ok(dir, &arguments);
    assert!(out.ends_with("[HKEY_LOCAL_MACHINE\\X\\New\\Key]\r\n\"v\"=dword:00000001\r\n\r\n"), "{out}");
    std::fs::write(dir.join("bad.reg"), "REGEDIT4\n\n[X]\n@=oops\n").unwrap();
    let (code, error) = fails(dir, &["hive", "import", "BCD", "bad.reg"]);
    assert!(code == 2 && error.contains("bad.reg: line 4"), "{code}: {error}");
}

#[test]
fn dirty_and_damaged_hives_are_told_apart_and_not_written() {
    let dir = with_store();
    let dir = dir.path();
    let good = std::fs::read(dir.join("BCD")).unwrap();
    let mut dirty = good.clone();
    dirty[4] ^= 1;
    std::fs::write(dir.join("BCD"), &dirty).unwrap();
    let (code, error) = fails(dir, &["hive", "set", "BCD", "A", "v", "x"]);
    assert!(code == 4 && error.contains("not written completely"), "{code}: {error}");
    // Looking is allowed, with a warning.
    let output = gravure(dir, &["bcd", "show", "BCD", "{bootmgr}"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("read as it stands"));
    assert_eq!(fails(dir, &["hive", "check", "BCD"]).0, 5);
    assert_eq!(fails(dir, &["hive", "check", "BCD", "--recover"]).0, 4);
    assert_eq!(std::fs::read(dir.join("BCD")).unwrap(), dirty);
    let mut damaged = good;
    // The root key's count of subkeys.
    damaged[4096 + 32 + 4 + 0x14] = 9;
    std::fs::write(dir.join("BCD"), &damaged).unwrap();
    let (code, error) = fails(dir, &["hive", "set", "BCD", "A", "v", "x"]);
    assert!(code == 5 && error.contains("hive is damaged"), "{code}: {error}");
    assert_eq!(std::fs::read(dir.join("BCD")).unwrap(), damaged);
}

#[test]
fn a_real_dirty_hive_is_recovered_from_the_logs_beside_it() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["UsrClass.dat", "UsrClass.dat.LOG1", "UsrClass.dat.LOG2"] {
        let Some(mut xz) = gravure_testkit::oracle("xz") else { return };
        let packed = shared.join("corpus/hives/regipy").join(format!("{name}.xz"));
        let output = xz.arg("-dkc").arg(&packed).output().unwrap();
        assert!(output.status.success(), "{}", packed.display());
        std::fs::write(dir.path().join(name), output.stdout).unwrap();
    }
    let dir = dir.path();
    let said = ok(dir, &["hive", "check", "UsrClass.dat"]);
    assert!(said.contains("6238 keys, 12531 values") && said.contains("14 entries, 158 pages"), "{said}");
    let untouched = std::fs::metadata(dir.join("UsrClass.dat.LOG1")).unwrap().len();
    assert!(untouched > 0);
    ok(dir, &["hive", "set", "UsrClass.dat", "Added", "v", "x"]);
    assert_eq!(std::fs::metadata(dir.join("UsrClass.dat.LOG1")).unwrap().len(), 0);
    assert_eq!(std::fs::metadata(dir.join("UsrClass.dat.LOG2")).unwrap().len(), 0);
    let said = ok(dir, &["hive", "check", "UsrClass.dat"]);
    assert!(said.contains("6239 keys, 12532 values") && !said.contains("logs"), "{said}");
}

#[test]
fn stores_are_shown_and_edited() {
    let dir = with_store();
    let dir = dir.path();
    let shown = ok(dir, &["bcd", "show", "BCD", "{default}"]);
    let osdevice = format!("  osdevice                 {}\n", STORE[3]);
    assert!(shown.contains(&osdevice) && shown.contains("Windows boot loader"), "{shown}");
    ok(dir, &["bcd", "edit", "BCD", "{bootmgr}", "timeout", "5"]);
    ok(dir, &["bcd", "edit", "BCD", "{default}", "testsigning", "yes"]);
    ok(dir, &["bcd", "edit", "BCD", "{default}", "nx", "--delete"]);
    let json = ok(dir, &["--format", "json", "bcd", "show", "BCD"]);
    let objects: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let value = |object: &str, element: &str| {
        let object = objects.iter().find(|o| o["name"] == object || o["type_name"] == object).unwrap();
        let elements = object["elements"].as_array().unwrap();
        elements.iter().find(|e| e["name"] == element).map(|e| e["value"].as_str().unwrap().to_owned())
    };
    assert_eq!(value("{bootmgr}", "timeout").as_deref(), Some("5"));
    assert_eq!(value("Windows boot loader", "testsigning").as_deref(), Some("yes"));
    assert_eq!(value("Windows boot loader", "nx"), None);
    let new = "11111111-2222-3333-4444-555555555555";
    ok(dir, &["bcd", "edit", "BCD", new, "--create", "10200003"]);
    ok(dir, &["bcd", "edit", "BCD", new, "description", "Second"]);
    ok(dir, &["bcd", "edit", "BCD", new, "osdevice", "mbr:0x12345678:105906176"]);
    let edited = |arguments: &[&str]| -> serde_json::Value {
        let all = [&["--format", "json", "bcd", "edit", "BCD"], arguments].concat();
        serde_json::from_str(&ok(dir, &all)).unwrap()
    };
    let shown = edited(&["{bootmgr}", "displayorder", new, "--add-first"]);
    let listed = |shown: &serde_json::Value, element: &str| {
        let elements = shown[0]["elements"].as_array().unwrap();
        elements.iter().find(|e| e["name"] == element).map(|e| e["value"].as_str().unwrap().to_owned())
    };
    let loader = listed(&shown, "default").unwrap();
    assert_eq!(listed(&shown, "displayorder").unwrap(), format!("{{{new}}},{loader}"));
    let shown = edited(&["{bootmgr}", "displayorder", "{default}", "--remove"]);
    assert_eq!(listed(&shown, "displayorder").unwrap(), format!("{{{new}}}"));
    let shown = edited(&["{bootmgr}", "displayorder", "{default}", "--add-last"]);
    assert_eq!(listed(&shown, "displayorder").unwrap(), format!("{{{new}}},{loader}"));
    edited(&["{bootmgr}", "default", new]);
    let (code, error) = fails(dir, &["bcd", "edit", "BCD", "{bootmgr}", "timeout", "3", "--add-last"]);
    assert!(code == 2 && error.contains("are for lists"), "{code}: {error}");
    assert_eq!(edited(&[new, "--delete"]), serde_json::json!([]));
    let json = ok(dir, &["--format", "json", "bcd", "show", "BCD", "{bootmgr}"]);
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((listed(&shown, "displayorder"), listed(&shown, "default")), (Some(loader), None));
    assert_eq!(fails(dir, &["bcd", "show", "BCD", new]).0, 3);
    assert_eq!(fails(dir, &["bcd", "edit", "BCD", "{bootmgr}", "timeout", "soon"]).0, 2);
    assert_eq!(fails(dir, &["bcd", "edit", "BCD", "{bootmgr}", "wrong", "1"]).0, 2);
    // A store that is there is not replaced by accident.
    let again = [&["bcd", "create", "BCD"], &STORE[..]].concat();
    assert_eq!(fails(dir, &again).0, 4);
    ok(dir, &[again.as_slice(), &["--yes"]].concat());
}
