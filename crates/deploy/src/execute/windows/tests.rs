//! What is decided before the disk is touched. The whole way is walked by `tests/tests/vm_windows.rs`.

mod start;

use gravure_inf::{Arch, OsVersion, ProductType};
use gravure_tree::ContentRef;
use gravure_windows::answer::AnswerSettings;
use gravure_windows::drivers::inject;

use super::changes::inject_options;
use super::*;
use crate::execute::fixtures::planned;

fn system(setup: SetupState) -> System {
    System {
        product_name: Some("Windows 11 Pro".into()),
        edition: None,
        version: OsVersion { major: 10, minor: 0, build: 22631 },
        arch: Arch::Amd64,
        product: ProductType::Workstation,
        control_set: "ControlSet001".into(),
        computer_name: None,
        domain: None,
        setup,
    }
}

#[test]
fn a_system_in_use_is_not_multiplied_by_accident() {
    assert_eq!(gate(&system(SetupState::Generalized), &planned()).unwrap(), None);
    let note = gate(&system(SetupState::InSetup), &planned()).unwrap().unwrap();
    assert!(note.contains("was not generalised"), "{note}");
    let refused = gate(&system(SetupState::InUse), &planned()).unwrap_err();
    assert_eq!(refused.code, code::REFUSED);
    assert!(refused.cure.unwrap().contains("--accept-in-use"));
    let accepted = PlannedWindows { accept_in_use: true, ..planned() };
    let note = gate(&system(SetupState::InUse), &accepted).unwrap().unwrap();
    assert!(note.contains("keeps its name"), "{note}");
}

#[test]
fn recovery_files_stand_in_a_tree_of_their_own() {
    let file =
        |path: &str| BootFile { path: path.into(), content: ContentRef::inline(path.as_bytes().to_vec()) };
    let files = [file("Recovery/WindowsRE/Winre.wim"), file("Recovery/WindowsRE/boot.sdi")];
    let tree = boot::tree_of(&files, FileTime(7)).unwrap();
    let paths: Vec<String> = tree.walk().map(|step| step.display_path().to_string()).collect();
    let wanted =
        ["/Recovery", "/Recovery/WindowsRE", "/Recovery/WindowsRE/Winre.wim", "/Recovery/WindowsRE/boot.sdi"];
    assert_eq!(paths, wanted);
    assert!(boot::tree_of(&[file("a"), file("a")], FileTime(7)).is_err());
}
