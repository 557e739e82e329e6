//! A machine whose Windows could not start is not wiped: from what the kernel says of its disk to the decision.

use gravure_tree::{Node, Tree};
use gravure_windows::drivers::Repository;

use crate::execute::fixtures::{made, planned, unsigned_repository, windows_hives};

use super::*;

/// A Windows 11 that knows no disk controller.
fn windows(service_of_another: bool) -> Tree {
    let dir = || Node { children: Some(Vec::new()), ..Node::default() };
    let mut tree = Tree::new(dir());
    let mut at = tree.root();
    for name in ["Windows", "System32", "config"] {
        at = tree.add(at, NtName::from(name), dir()).unwrap();
    }
    for (name, bytes) in windows_hives(2, service_of_another) {
        let node = Node { data: Some(ContentRef::inline(bytes)), ..Node::default() };
        tree.add(at, NtName::from(name), node).unwrap();
    }
    tree
}

/// What is decided for `disk`.
fn decided(
    tree: &mut Tree,
    repository: &Repository,
    disk: &str,
    planned: &PlannedWindows,
) -> Result<Option<String>, StepError> {
    let read = |_: &ContentRef| -> ContentResult { Err("nothing lies outside".into()) };
    let mut image = WindowsImage::open(tree, &read, FileTime(1)).unwrap();
    let report = inject(&mut image, repository, &made().devices(), inject_options(planned)).unwrap();
    check_start(&report, disk, planned)
}

#[test]
fn a_machine_that_could_not_start_is_not_wiped() {
    let temp = tempfile::tempdir().unwrap();
    let with_driver = unsigned_repository(temp.path());
    let without = Repository::create(&temp.path().join("empty")).unwrap();
    let unsigned = PlannedWindows { allow_unsigned: true, ..planned() };
    let virtio = "0000:00:06.0 PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01";
    let nothing = "no driver for it in the image nor among the site's";
    for (repository, disk, planned, is_foreign, expected) in [
        (&without, "vda", &planned(), false, format!("{virtio}: Windows cannot start from it: {nothing}")),
        (
            &with_driver,
            "vda",
            &planned(),
            false,
            format!("{virtio}: Windows cannot start from it: vblk.sys is not signed"),
        ),
        (
            &with_driver,
            "vda",
            &unsigned,
            true,
            format!(
                "{virtio}: Windows cannot start from it: service vblk belongs to other.inf, and is not taken from it"
            ),
        ),
        (
            &with_driver,
            "mmcblk0",
            &unsigned,
            false,
            format!("80860F14:00 ACPI\\VEN_8086&DEV_0F14: Windows cannot start from it: {nothing}"),
        ),
    ] {
        let refused = decided(&mut windows(is_foreign), repository, disk, planned).unwrap_err();
        assert_eq!((refused.code, refused.message), (code::REFUSED, expected));
        let cure = refused.cure.unwrap();
        assert!(cure.contains("--accept-missing-drivers"), "{cure}");
        let accepted = PlannedWindows { accept_missing_drivers: true, ..planned.clone() };
        assert_eq!(decided(&mut windows(is_foreign), repository, disk, &accepted).unwrap(), None);
    }
    assert_eq!(decided(&mut windows(false), &with_driver, "vda", &unsigned).unwrap(), None);
    let unknown = decided(&mut windows(false), &with_driver, "xvda", &planned()).unwrap().unwrap();
    assert!(unknown.starts_with("what xvda hangs on is not known"), "{unknown}");
}

#[test]
fn settings_of_a_system_in_use_are_told_and_refused_when_secret() {
    let read = |_: &ContentRef| -> ContentResult { Err("nothing lies outside".into()) };
    let mut tree = windows(false);
    let mut image = WindowsImage::open(&mut tree, &read, FileTime(1)).unwrap();
    let in_use = system(SetupState::InUse);
    let given = |text: &str| {
        let settings = AnswerSettings::from_toml(text).unwrap();
        (settings, PlannedWindows { settings: Some(gravure_model::Secret::new(text)), ..planned() })
    };
    let (settings, planned) = given("administrator-password = \"Geheim\"");
    let refused = put_settings(&mut image, &settings, &in_use, &planned).unwrap_err();
    assert_eq!(refused.code, code::REFUSED);
    assert!(refused.cure.unwrap().contains("without --settings"));
    let (settings, planned) = given("time-zone = \"W. Europe Standard Time\"");
    let told = put_settings(&mut image, &settings, &in_use, &planned).unwrap().unwrap();
    assert!(told.starts_with("the settings are not in it"), "{told}");
    assert_eq!(image.changes(), []);
}
