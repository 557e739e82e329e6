//! A machine whose Windows could not start is not wiped: from what the kernel says of its disk to the decision.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gravure_hive::{CreateOptions, Data, Editor, Hive};
use gravure_linux::disks::Roots;
use gravure_nttypes::SecurityDescriptor;
use gravure_tree::{Node, Tree};
use gravure_windows::drivers::{AddOptions, Repository};

use super::*;

/// A sysfs of our own.
struct Machine {
    temp: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn files(&self, dir: &str, texts: &[(&str, &str)]) {
        let dir = self.temp.path().join("sys").join(dir);
        fs::create_dir_all(&dir).unwrap();
        texts.iter().for_each(|(leaf, text)| fs::write(dir.join(leaf), text).unwrap());
    }

    fn link(&self, from: &str, to: &str) {
        let sys = self.temp.path().join("sys");
        fs::create_dir_all(sys.join(from).parent().unwrap()).unwrap();
        symlink(sys.join(to), sys.join(from)).unwrap();
    }

    fn disk(&self, name: &str, device: &str) {
        let dir = format!("{device}/block/{name}");
        self.files(&dir, &[("dev", "253:0\n"), ("size", "2048\n")]);
        self.link(&format!("{dir}/device"), device);
        self.link(&format!("block/{name}"), &dir);
        self.link(&format!("class/block/{name}"), &dir);
    }

    fn pci(&self, address: &str, device: &str, class: &str) {
        let dir = format!("devices/pci0000:00/{address}");
        let [vendor, subsystem] = ["0x1af4\n"; 2];
        self.files(
            &dir,
            &[
                ("vendor", vendor),
                ("device", device),
                ("class", class),
                ("subsystem_vendor", subsystem),
                ("subsystem_device", "0x1100\n"),
                ("revision", "0x01\n"),
            ],
        );
        self.link(&format!("bus/pci/devices/{address}"), &dir);
    }

    fn devices(&self) -> Vec<gravure_model::inventory::Device> {
        let [sys, proc, dev] = ["sys", "proc", "dev"].map(|name| self.temp.path().join(name));
        machine::collect(&Roots { sys, proc, dev }).inventory.devices
    }
}

/// A disk on virtio, one that is soldered to the board and that firmware describes, and one on nothing that is known.
fn made() -> Machine {
    let made = Machine::new();
    made.pci("0000:00:06.0", "0x1042\n", "0x010000\n");
    made.disk("vda", "devices/pci0000:00/0000:00:06.0/virtio1");
    made.files("devices/LNXSYSTM:00/80860F14:00", &[("hid", "80860F14\n"), ("status", "15\n")]);
    made.link("bus/acpi/devices/80860F14:00", "devices/LNXSYSTM:00/80860F14:00");
    made.disk("mmcblk0", "devices/platform/80860F14:00/mmc_host/mmc0/mmc0:0001");
    made.link("devices/platform/80860F14:00/firmware_node", "devices/LNXSYSTM:00/80860F14:00");
    made.disk("xvda", "devices/vbd-51712");
    made
}

fn hive(values: &[(&str, &str, Data)]) -> Vec<u8> {
    let options = CreateOptions {
        minor: 5,
        root_name: "ROOT".into(),
        security: SecurityDescriptor::from_sddl("O:BAG:BAD:(A;CI;KA;;;BA)").unwrap(),
        now: FileTime(1),
    };
    let mut editor = Editor::new(Hive::create(&options).unwrap(), FileTime(1)).unwrap();
    for (key, name, data) in values {
        let id = editor.create(key).unwrap();
        editor.set_value(id, &NtName::from(*name), data).unwrap();
    }
    editor.finish().unwrap()
}

/// A Windows 11 that knows no disk controller.
fn windows(service_of_another: bool) -> Tree {
    let mut system = vec![
        ("Select", "Current", Data::dword(1)),
        ("Setup", "SetupType", Data::dword(2)),
        ("ControlSet001\\Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE", Data::sz("AMD64")),
        ("ControlSet001\\Control\\ProductOptions", "ProductType", Data::sz("WinNT")),
        ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
    ];
    if service_of_another {
        system.push(("ControlSet001\\Services\\vblk", "Owners", Data::multi_sz(["other.inf"])));
    }
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    let software = [
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentBuildNumber", Data::sz("22631")),
    ];
    let dir = || Node { children: Some(Vec::new()), ..Node::default() };
    let mut tree = Tree::new(dir());
    let mut at = tree.root();
    for name in ["Windows", "System32", "config"] {
        at = tree.add(at, NtName::from(name), dir()).unwrap();
    }
    for (name, bytes) in [("SYSTEM", hive(&system)), ("SOFTWARE", hive(&software))] {
        let node = Node { data: Some(ContentRef::inline(bytes)), ..Node::default() };
        tree.add(at, NtName::from(name), node).unwrap();
    }
    tree
}

/// A repository with a driver for the virtio disk that nobody signed.
fn unsigned_repository(dir: &Path) -> Repository {
    let package = dir.join("vblk");
    fs::create_dir(&package).unwrap();
    let inf = "[Version]\nSignature=\"$Windows NT$\"\nClass=SCSIAdapter\nClassGuid={4d36e97b-e325-11ce-bfc1-08002be10318}\n\
         Provider=%mfg%\nDriverVer=03/04/2024,1.2.3.4\n[Manufacturer]\n%mfg%=M,NTamd64\n\
         [M.NTamd64]\n%mfg%=Inst,PCI\\VEN_1AF4&DEV_1042\n[Inst]\nCopyFiles=files\n\
         [Inst.Services]\nAddService=vblk,2,svc\n[svc]\nServiceType=1\nStartType=0\nErrorControl=1\n\
         ServiceBinary=%12%\\vblk.sys\n[files]\nvblk.sys\n[SourceDisksNames]\n1=disk\n[SourceDisksFiles]\nvblk.sys=1\n\
         [DestinationDirs]\nfiles=12\n[Strings]\nmfg=\"Maker\"\n";
    fs::write(package.join("vblk.inf"), inf).unwrap();
    fs::write(package.join("vblk.sys"), b"MZ").unwrap();
    let mut repository = Repository::create(&dir.join("repository")).unwrap();
    let options = AddOptions { allow_unsigned: true, allow_incomplete: false };
    repository.add(&package.join("vblk.inf"), options).unwrap();
    repository.commit().unwrap();
    repository
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
