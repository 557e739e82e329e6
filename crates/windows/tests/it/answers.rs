//! Answer files in an image: their secrets stand in one place only, whatever is recorded for undoing.
#![expect(clippy::unwrap_used, reason = "tests")]

use gravure_hive::Data;
use gravure_tree::{Origin, Tree};
use gravure_windows::answer::{ANSWER_PATH, AnswerSettings};
use gravure_windows::{Error, WindowsImage};

use crate::support::{NOW, hive, nothing_outside, software_values, system_values, tree, windows};

/// "GeheimAdministratorPassword" in UTF-16, base64.
const PASSWORD: &str = "RwBlAGgAZQBpAG0AQQBkAG0AaQBuAGkAcwB0AHIAYQB0AG8AcgBQAGEAcwBzAHcAbwByAGQA";
const BLOB: &str = "QUJDREVG";

fn apply(tree: &mut Tree, settings: &str) -> Result<(), Error> {
    let settings = AnswerSettings::from_toml(settings).unwrap();
    let mut image = WindowsImage::open(tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    image.apply_settings(&settings, &system)?;
    image.finish("settings").map(drop)
}

/// Files in which a text stands.
fn files_with(tree: &Tree, wanted: &str) -> Vec<String> {
    let mut out = Vec::new();
    for step in tree.walk() {
        let Some(data) = &tree.node(step.entry.node).data else { continue };
        let Origin::Inline(bytes) = &data.origin else { continue };
        if bytes.windows(wanted.len()).any(|found| found == wanted.as_bytes()) {
            out.push(step.display_path().to_string());
        }
    }
    out.sort();
    out
}

fn answers(tree: &mut Tree) -> Vec<u8> {
    let image = WindowsImage::open(tree, &nothing_outside, NOW).unwrap();
    image.read_file(ANSWER_PATH, 1 << 20).unwrap().unwrap()
}

fn undo(tree: &mut Tree) -> Result<(), Error> {
    let mut image = WindowsImage::open(tree, &nothing_outside, NOW).unwrap();
    image.undo_last()?;
    image.finish("undo").map(drop)
}

#[test]
fn a_second_run_leaves_no_copy_of_secrets_and_can_be_undone() {
    let mut tree = windows();
    let secrets = "administrator-password = \"Geheim\"\njoin = { offline-blob = \"QUJDREVG\" }\n\
                   [[command]]\nrun = \"net user x y-in-a-command /add\"";
    apply(&mut tree, secrets).unwrap();
    let first = answers(&mut tree);
    apply(&mut tree, "computer-name = \"PC-7\"\n[[command]]\nrun = \"cmd /c echo 1\"").unwrap();
    let second = answers(&mut tree);
    assert_ne!(first, second);
    for secret in [PASSWORD, BLOB, "y-in-a-command"] {
        assert_eq!(files_with(&tree, secret), ["/Windows/Panther/unattend.xml"], "{secret}");
    }
    assert_eq!(files_with(&tree, "<Order>").len(), 2, "the old file is kept, but for its secrets");

    // What a later run replaces is gone with it, and undoing does not pretend otherwise.
    apply(&mut tree, "administrator-password = \"Neu\"").unwrap();
    assert_eq!(files_with(&tree, PASSWORD), [""; 0]);
    let error = undo(&mut tree).unwrap_err().to_string();
    assert_eq!(
        error,
        "Windows\\Panther\\unattend.xml: secrets that stood in it before are not kept, so it cannot be put back as it was"
    );

    let mut tree = windows();
    apply(&mut tree, secrets).unwrap();
    apply(&mut tree, "computer-name = \"PC-7\"\n[[command]]\nrun = \"cmd /c echo 1\"").unwrap();
    undo(&mut tree).unwrap();
    assert_eq!(String::from_utf8(answers(&mut tree)).unwrap(), String::from_utf8(first).unwrap());
    undo(&mut tree).unwrap();
    assert_eq!(files_with(&tree, "unattend"), [""; 0]);
}

#[test]
fn an_answer_file_that_is_taken_away_is_not_kept_with_its_secrets() {
    let mut tree = windows();
    apply(&mut tree, "administrator-password = \"Geheim\"").unwrap();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    image.remove_file(ANSWER_PATH).unwrap();
    image.finish("removed").unwrap();
    assert_eq!(files_with(&tree, PASSWORD), [""; 0]);
    assert!(matches!(undo(&mut tree).unwrap_err(), Error::Refused { .. }));
}

#[test]
fn a_system_in_use_takes_no_secrets() {
    let mut values = system_values();
    values.retain(|(key, value, _)| (*key, *value) != ("Setup", "SetupType"));
    values.retain(|(key, value, _)| (*key, *value) != ("Setup", "SystemSetupInProgress"));
    values
        .extend([("Setup", "SetupType", Data::dword(0)), ("Setup", "SystemSetupInProgress", Data::dword(0))]);
    let mut software = software_values();
    software.retain(|(_, value, _)| *value != "ImageState");
    let mut tree = tree(&[
        ("Windows\\System32\\config\\SYSTEM", hive(&values)),
        ("Windows\\System32\\config\\SOFTWARE", hive(&software)),
    ]);
    let error = apply(&mut tree, "product-key = \"AAAAA\"").unwrap_err();
    assert!(matches!(&error, Error::Refused { path, .. } if path == "settings"), "{error}");
    apply(&mut tree, "time-zone = \"W. Europe Standard Time\"").unwrap();
}

#[test]
fn the_file_that_the_registry_names_is_taken_however_it_is_spelled() {
    let own = b"<unattend xmlns=\"urn:schemas-microsoft-com:unattend\"></unattend>";
    for (named, expected) in [
        ("C:\\Windows\\Setup\\own.xml", "Windows\\Setup\\own.xml"),
        ("%SystemRoot%\\Setup\\own.xml", "Windows\\Setup\\own.xml"),
        ("%WINDIR%/Setup/own.xml", "Windows\\Setup\\own.xml"),
        ("\"%systemdrive%\\Windows\\Setup\\own.xml\"", "Windows\\Setup\\own.xml"),
        // On another volume, where nothing of ours is.
        ("D:\\Windows\\Setup\\own.xml", ANSWER_PATH),
    ] {
        let mut values = system_values();
        values.push(("Setup", "UnattendFile", Data::expand_sz(named)));
        let mut tree = tree(&[
            ("Windows\\System32\\config\\SYSTEM", hive(&values)),
            ("Windows\\System32\\config\\SOFTWARE", hive(&software_values())),
            ("Windows\\Setup\\own.xml", own.to_vec()),
        ]);
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let system = image.system().unwrap();
        let settings = AnswerSettings::from_toml("computer-name = \"PC-7\"").unwrap();
        assert_eq!(image.apply_settings(&settings, &system).unwrap(), expected, "{named}");
    }
}
