//! A Windows in a directory, as the kernel shows a mounted volume: what it gets, where, and that all of it is read back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use gravure_hive::Hive;
use gravure_model::plan::PlannedWindows;

use super::super::fixtures::{LAYER, servicing, sources, windows_files};
use super::*;
use crate::execute::fixtures::{planned, signed_repository};
use crate::execute::sources::BundleSources;
use crate::execute::verify::compare;

const SYSTEM: &str = "Windows/system32/Config/SYSTEM";

fn value(root: &Path, hive: &str, key: &str, value: &str) -> Option<String> {
    let hive = Hive::parse(fs::read(root.join("Windows/system32/Config").join(hive)).unwrap()).unwrap();
    let data = hive.find(key).unwrap()?.data(value).unwrap()?;
    data.as_number().map(|number| number.to_string()).or_else(|| Some(data.as_text()?.to_string()))
}

fn computer_name(root: &Path) -> String {
    value(root, "SYSTEM", "ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName").unwrap()
}

/// Services and writes.
fn serviced(servicing: &Servicing, root: &Path) -> (Serviced, Vec<Change>) {
    let (directory, serviced) = look(servicing, root, &Ctl::default()).unwrap().unwrap();
    assert_eq!(computer_name(root), "GOLDEN", "decided, not written");
    let (changes, not_done) = write(directory, servicing, serviced.outside.clone()).unwrap();
    assert_eq!(not_done, [""; 0]);
    (serviced, changes)
}

fn paths(changes: &[Change]) -> Vec<&str> {
    let mut paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn a_windows_in_use_is_named_in_its_registry_where_it_lies() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    windows_files(root, 0);
    let inode = fs::metadata(root.join(SYSTEM)).unwrap().ino();
    let (serviced, changes) = serviced(&servicing(None, BundleSources::default()), root);
    assert_eq!(computer_name(root), "PC-7");
    assert_eq!(fs::metadata(root.join(SYSTEM)).unwrap().ino(), inode, "the file keeps who may read it");
    assert!(!root.join("Windows/System32").exists(), "directories are found in any case");
    assert_eq!(serviced.told.not_done.len(), 2);
    assert!(serviced.told.not_done[1].contains("joined to school.example again"), "{:?}", serviced.told);
    assert_eq!(paths(&changes), ["Windows/Gravure/changes/0001.json", SYSTEM]);
}

#[test]
fn who_knows_that_it_was_in_use_is_not_warned_of_it() {
    let temp = tempfile::tempdir().unwrap();
    windows_files(temp.path(), 0);
    let planned = PlannedWindows { accept_in_use: true, accept_missing_drivers: true, ..planned() };
    let (serviced, _) = serviced(&servicing(Some(planned), BundleSources::default()), temp.path());
    let all = serviced.told.not_done.join("; ");
    assert!(!all.contains("in use when the image was made"), "{all}");
    assert!(
        serviced.told.notes.iter().any(|note| note.contains("joined to school.example")),
        "{:?}",
        serviced.told
    );
}

#[test]
fn a_windows_in_setup_is_named_by_its_answer_file() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    windows_files(root, 2);
    let (serviced, _) = serviced(&servicing(None, BundleSources::default()), root);
    assert_eq!(computer_name(root), "GOLDEN", "setup gives the name");
    let answers = fs::read_to_string(root.join("Windows/Panther/unattend.xml")).unwrap();
    assert!(answers.contains("<ComputerName>pc-7</ComputerName>"), "{answers}");
    assert_eq!(serviced.told.not_done, [""; 0]);
    let known_by = Known::Windows { machine_sid: None, computer_name: Some("pc-7".to_owned()) };
    assert_eq!(serviced.known_by, known_by);
}

#[test]
fn a_restored_windows_gets_drivers_settings_and_layers_and_all_of_it_is_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("mounted");
    windows_files(&root, 2);
    let repository = signed_repository(temp.path());
    let driver = fs::read(temp.path().join("vblk/vblk.sys")).unwrap();
    let sources = sources(temp.path(), Some(&repository), Some(LAYER));
    let facts = [("ROOM", "B7"), ("COMPUTER_NAME", "pc-7")];
    let planned = PlannedWindows {
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        settings: Some(gravure_model::Secret::new("time-zone = \"W. Europe Standard Time\"\n")),
        ..planned()
    };
    let (serviced, changes) = serviced(&servicing(Some(planned), sources), &root);
    assert!(matches!(serviced.start, Start::Checked), "{:?}", serviced.start);
    // Its id alone: nothing here says how the virtio controller is called.
    let served = serviced.told.notes.iter().any(|note| {
        note.starts_with("0000:00:06.0 ") && note.ends_with(": vblk.inf 1.2.3.4 (boot-critical)")
    });
    assert!(served, "{:?}", serviced.told.notes);
    assert!(serviced.told.notes.contains(&"layer school 3: applied".to_owned()), "{:?}", serviced.told.notes);

    // Windows starts from its disk, and installs the package itself later.
    assert_eq!(fs::read(root.join("Windows/system32/drivers/vblk.sys")).unwrap(), driver);
    assert_eq!(value(&root, "SYSTEM", "ControlSet001\\Services\\vblk", "Start").as_deref(), Some("0"));
    let path = value(&root, "SOFTWARE", "Microsoft\\Windows\\CurrentVersion", "DevicePath").unwrap();
    assert!(path.ends_with("%SystemRoot%\\Gravure\\Drivers"), "{path}");
    let answers = fs::read_to_string(root.join("Windows/Panther/unattend.xml")).unwrap();
    for wanted in
        ["<ComputerName>pc-7</ComputerName>", "pnputil", "<TimeZone>W. Europe Standard Time</TimeZone>"]
    {
        assert!(answers.contains(wanted), "{wanted}: {answers}");
    }
    assert_eq!(fs::read(root.join("Windows/Gravure/room.txt")).unwrap(), b"B7 pc-7");
    let ini = fs::read_to_string(root.join("Program Files/App/app.ini")).unwrap();
    assert_eq!(ini, "[Main]\r\nRoom=B7\r\n");
    let kept = fs::read_to_string(root.join("Windows/Gravure/changes/0001/0")).unwrap();
    assert_eq!(kept, "[Main]\r\nRoom=old\r\n", "the old one is kept for undoing");
    let record = fs::read_to_string(root.join("Windows/Gravure/changes/0001.json")).unwrap();
    assert!(record.contains("deployment p1") && record.contains("vblk.sys"), "{record}");

    // Every one of them, by its content.
    let editor = RootEditor::new(Dir::open_root(&root).unwrap());
    assert_eq!(compare(&changes, &editor).unwrap(), changes.len() as u64);
    let seen: Vec<&str> = paths(&changes);
    for wanted in [
        SYSTEM,
        "Windows/system32/Config/SOFTWARE",
        "Windows/system32/drivers/vblk.sys",
        "Windows/Panther/unattend.xml",
        "Windows/Gravure/room.txt",
        "Windows/Gravure/changes/0001/0",
        "Windows/Gravure/changes/0001.json",
        "Program Files/App/app.ini",
    ] {
        assert!(seen.contains(&wanted), "{wanted}: {seen:?}");
    }
    let mut damaged = driver.clone();
    damaged[7] ^= 1;
    fs::write(root.join("Windows/system32/drivers/vblk.sys"), damaged).unwrap();
    let failure = compare(&changes, &editor).unwrap_err();
    let len = driver.len();
    let expected = format!(
        "/Windows/system32/drivers/vblk.sys: expected {len} bytes as written, found {len} other bytes"
    );
    assert_eq!((failure.code, failure.message), (code::INTEGRITY, expected));
}

#[test]
fn a_directory_without_a_windows_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("Films")).unwrap();
    let servicing = servicing(Some(planned()), BundleSources::default());
    assert!(look(&servicing, temp.path(), &Ctl::default()).unwrap().is_none());
    let undone = servicing.undone("NTFS on partition 3", "it cannot be mounted");
    let expected = "NTFS on partition 3: the drivers that it starts with could not be put into a Windows: it cannot be mounted";
    assert_eq!((undone.code, undone.message.as_str()), (code::FAILED, expected));
    assert!(undone.cure.unwrap().contains("shut it down wholly"));
}
