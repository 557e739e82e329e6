//! What installations are known by: real hives, images, volumes.
#![expect(clippy::unwrap_used, reason = "tests")]

use gravure_hive::Data;
use gravure_model::inventory::InstalledWindows;
use gravure_ntfs::{NoGuide, Part, Place, VolumeOptions, VolumePlan};
use gravure_nttypes::Sid;
use gravure_tree::{Origin, Tree};
use gravure_windows::{SetupState, WindowsImage, installed_on};

use crate::support::{NOW, hive, nothing_outside, software_values, system_values, tree};

const SID: &str = "S-1-5-21-1760460187-1592185332-161725925";
const OTHER: &str = "S-1-5-21-1-2-3";

fn sid(text: &str) -> Vec<u8> {
    text.parse::<Sid>().unwrap().to_bytes()
}

/// A SAM hive whose account domain ends in `end`.
fn sam(end: &[u8]) -> Vec<u8> {
    let value = [&[7; 200], end].concat();
    hive(&[("SAM\\Domains\\Account", "V", Data::binary(value))])
}

fn security(bytes: &[u8]) -> Vec<u8> {
    let data = Data { kind: gravure_hive::ValueType::NONE, bytes: bytes.to_vec() };
    hive(&[("Policy\\PolAcDmS", "", data)])
}

/// A Windows volume with these hives beside the usual.
fn with(hives: &[(&str, Vec<u8>)]) -> Tree {
    let mut files = vec![
        ("Windows\\System32\\config\\SYSTEM", hive(&system_values())),
        ("Windows\\System32\\config\\SOFTWARE", hive(&software_values())),
    ];
    files.extend(hives.iter().cloned());
    tree(&files)
}

const SAM: &str = "Windows\\System32\\config\\SAM";
const SECURITY: &str = "Windows\\System32\\config\\SECURITY";

/// The volume as it stands on a disk.
fn volume(tree: &Tree) -> Vec<u8> {
    let plan = VolumePlan::new(tree, &NoGuide, &VolumeOptions::new(32 << 20)).unwrap();
    let mut disk = vec![0u8; 32 << 20];
    let mut write = |offset: u64, bytes: &[u8]| {
        let start = usize::try_from(offset).unwrap();
        disk[start..start + bytes.len()].copy_from_slice(bytes);
    };
    let mut resident = vec![0; usize::try_from(plan.resident_bytes()).unwrap()];
    for step in tree.walk() {
        let Some(data) = &tree.node(step.entry.node).data else { continue };
        let Origin::Inline(bytes) = &data.origin else { panic!("not in the tree") };
        match plan.place_of(step.entry.node, Part::Data).unwrap() {
            Place::Resident { slot } => {
                let start = usize::try_from(slot).unwrap();
                resident[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Place::Clusters { offset, .. } => write(offset, bytes),
            other => panic!("{other:?}"),
        }
    }
    for written in plan.metadata(&resident) {
        write(written.offset, &written.bytes);
    }
    for written in plan.boot_sectors() {
        // The copy of the boot sector stands behind what the volume counts.
        write(written.offset, &written.bytes);
    }
    disk
}

#[test]
fn an_image_says_its_sid_by_sam_and_else_by_security() {
    let cut = &sid(SID)[..23];
    for (hives, expected) in [
        (vec![(SAM, sam(&sid(SID)))], Some(SID)),
        (vec![(SAM, sam(&sid(SID))), (SECURITY, security(&sid(OTHER)))], Some(SID)),
        (vec![(SECURITY, security(&sid(OTHER)))], Some(OTHER)),
        (vec![(SAM, sam(cut)), (SECURITY, security(&sid(OTHER)))], Some(OTHER)),
        (vec![(SAM, sam(&sid("S-1-5-32-544"))), (SECURITY, security(&[]))], None),
        (vec![(SECURITY, security(&sid("S-1-5-18")))], None),
        (vec![], None),
    ] {
        let mut tree = with(&hives);
        let disk = volume(&tree);
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let found = image.machine_sid().unwrap().map(|sid| sid.to_string());
        assert_eq!(found.as_deref(), expected);
        // The same from a disk, by the paths of the file system.
        let installed = installed_on(&disk, "sda3").unwrap().unwrap();
        let wanted = InstalledWindows {
            partition: "sda3".into(),
            computer_name: Some("OLD".into()),
            machine_sid: expected.map(str::to_owned),
        };
        assert_eq!(installed, wanted);
    }
}

#[test]
fn volumes_without_windows_have_none_and_damaged_ones_are_errors() {
    assert_eq!(installed_on(&vec![0u8; 1 << 20], "sda1").unwrap(), None);
    assert_eq!(installed_on(&Vec::<u8>::new(), "sda1").unwrap(), None);
    let data = tree(&[("Users\\x", b"y".to_vec())]);
    assert_eq!(installed_on(&volume(&data), "sda1").unwrap(), None);
    let broken = with(&[(SAM, b"regf and nothing else".to_vec())]);
    let error = installed_on(&volume(&broken), "sda1").unwrap_err().to_string();
    assert!(error.contains("SAM"), "{error}");
    let mut cut = volume(&with(&[]));
    cut.truncate(1 << 20);
    let error = installed_on(&cut, "sda1").unwrap_err().to_string();
    assert!(error.contains("sda1"), "{error}");
}

/// A system that is past its setup.
fn in_use() -> Tree {
    let past = |(key, name, data): (&'static str, &'static str, Data)| {
        let done = match name {
            "SetupType" | "SystemSetupInProgress" => Data::dword(0),
            "ImageState" => Data::sz("IMAGE_STATE_COMPLETE"),
            _ => data,
        };
        (key, name, done)
    };
    let system: Vec<_> = system_values().into_iter().map(past).collect();
    let software: Vec<_> = software_values().into_iter().map(past).collect();
    tree(&[
        ("Windows\\System32\\config\\SYSTEM", hive(&system)),
        ("Windows\\System32\\config\\SOFTWARE", hive(&software)),
    ])
}

#[test]
fn a_machine_is_named_where_its_system_looks() {
    for (mut tree, setup) in [(with(&[]), SetupState::Generalized), (in_use(), SetupState::InUse)] {
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let system = image.system().unwrap();
        assert_eq!(system.setup, setup);
        assert!(image.name_machine("too-long-for-windows", &system).is_err());
        image.name_machine("pc-7", &system).unwrap();
        image.finish("test").unwrap();
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let answers = image.read_file("Windows\\Panther\\unattend.xml", 1 << 20).unwrap();
        let answers = answers.map(|bytes| String::from_utf8(bytes).unwrap());
        let name = image.system().unwrap().computer_name;
        let parameters = "ControlSet001\\Services\\Tcpip\\Parameters";
        let host = image.text(gravure_windows::HiveFile::System, parameters, "NV Hostname").unwrap();
        match setup {
            SetupState::InUse => {
                assert_eq!((name.as_deref(), host.as_deref(), answers), (Some("PC-7"), Some("pc-7"), None));
            }
            _ => {
                assert_eq!((name.as_deref(), host), (Some("OLD"), None));
                assert!(answers.unwrap().contains("<ComputerName>pc-7</ComputerName>"));
            }
        }
    }
}

/// SIDs of these hives as hivex gives their bytes.
#[test]
fn real_hives_say_what_other_readers_find_in_them() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let unpacked = |name: &str| {
        let mut xz = gravure_testkit::oracle("xz")?;
        let path = shared.join("corpus/hives/regipy").join(format!("{name}.xz"));
        Some(xz.arg("-dkc").arg(path).output().unwrap().stdout)
    };
    let (Some(sam), Some(security), Some(system)) =
        (unpacked("SAM"), unpacked("SECURITY"), unpacked("SYSTEM_2"))
    else {
        return;
    };
    for (hives, expected) in
        [(vec![(SAM, sam)], SID), (vec![(SECURITY, security)], "S-1-5-21-1786693902-1815088602-2777321892")]
    {
        let mut files = vec![("Windows\\System32\\config\\SYSTEM", system.clone())];
        files.extend(hives);
        let found = installed_on(&volume(&tree(&files)), "sda3").unwrap().unwrap();
        assert_eq!(found.machine_sid.as_deref(), Some(expected));
        assert!(found.computer_name.is_some(), "{found:?}");
    }
}
