//! What tests of several steps are made of: a machine by its sysfs, a Windows by its hives, a driver for the disk of the one that the other lacks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gravure_hive::Data;
use gravure_linux::disks::Roots;
use gravure_linux::machine;
use gravure_model::descriptor::Digest;
use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::FirmwareMode;
use gravure_model::job::Afterwards;
use gravure_model::plan::{
    FileSystem, PLAN_VERSION, PartitionRole, Personality, Plan, PlannedDisk, PlannedImage, PlannedWindows,
    Step,
};
use gravure_model::{Assurance, Timestamp};
pub(in crate::execute) use gravure_testkit::hive;
use gravure_testkit::signing::{Authority, program};
use gravure_windows::drivers::{AddOptions, Repository};

/// A sysfs of our own.
pub(in crate::execute) struct Machine {
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

    pub(in crate::execute) fn devices(&self) -> Vec<gravure_model::inventory::Device> {
        let [sys, proc, dev] = ["sys", "proc", "dev"].map(|name| self.temp.path().join(name));
        machine::collect(&Roots { sys, proc, dev }).inventory.devices
    }
}

/// A disk on virtio, one that is soldered to the board and that firmware describes, and one on nothing that is known.
pub(in crate::execute) fn made() -> Machine {
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

/// The hives of a Windows 11 that knows no disk controller; `setup` is its `SetupType`, 2 when setup goes on at the next start.
pub(in crate::execute) fn windows_hives(
    setup: u32,
    service_of_another: bool,
) -> [(&'static str, Vec<u8>); 2] {
    let mut system = vec![
        ("Select", "Current", Data::dword(1)),
        ("Select", "Default", Data::dword(1)),
        ("Setup", "SetupType", Data::dword(setup)),
        ("ControlSet001\\Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE", Data::sz("AMD64")),
        ("ControlSet001\\Control\\ProductOptions", "ProductType", Data::sz("WinNT")),
        ("ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName", Data::sz("GOLDEN")),
        ("ControlSet001\\Services\\Tcpip\\Parameters", "Domain", Data::sz("school.example")),
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
    [("SYSTEM", hive(&system)), ("SOFTWARE", hive(&software))]
}

/// A plan that names no disk and no image, with the steps of a Linux.
pub(in crate::execute) fn bare_plan() -> Plan {
    let root = PartitionRole::Root;
    Plan {
        version: PLAN_VERSION,
        id: "p".into(),
        job: "j".into(),
        machine: MachineIdentity::default(),
        nonce: String::new(),
        created: Timestamp(1_000_000),
        expires: Timestamp(2_000_000),
        assurance: Assurance::Token,
        firmware: FirmwareMode::Uefi,
        seed: "ab".repeat(32),
        image: PlannedImage { path: String::new(), descriptor: Digest([0; 32]), index: 0 },
        disk: PlannedDisk {
            name: "vda".into(),
            model: None,
            serial: None,
            size_bytes: 0,
            logical_sector_bytes: 512,
            wipe: false,
        },
        personality: Personality { host_name: "pc-7".into(), machine_id: "0".repeat(32), confirm: None },
        windows: None,
        linux: None,
        capture: None,
        steps: vec![
            Step::CheckDisk {},
            Step::ServiceLinux {},
            Step::Prepare { partitions: Vec::new() },
            Step::Format { partition: root, file_system: FileSystem::Ext4, label: "root".into() },
            Step::Apply { partition: root },
            Step::Personalise {},
            Step::InstallUefiBoot {},
            Step::Verify {},
            Step::WriteTable {},
        ],
        then: Afterwards::Reboot,
    }
}

pub(in crate::execute) fn planned() -> PlannedWindows {
    PlannedWindows {
        drivers: Vec::new(),
        drivers_anyway: Vec::new(),
        publish_drivers: false,
        allow_unsigned: false,
        layers: Vec::new(),
        facts: std::collections::BTreeMap::new(),
        settings: None,
        accept_in_use: false,
        accept_missing_drivers: false,
        boot_code: None,
    }
}

/// INF file of a driver for the virtio disk.
fn inf(catalogue: &str) -> String {
    format!(
        "[Version]\nSignature=\"$Windows NT$\"\nClass=SCSIAdapter\nClassGuid={{4d36e97b-e325-11ce-bfc1-08002be10318}}\n\
         Provider=%mfg%\n{catalogue}DriverVer=03/04/2024,1.2.3.4\n[Manufacturer]\n%mfg%=M,NTamd64\n\
         [M.NTamd64]\n%mfg%=Inst,PCI\\VEN_1AF4&DEV_1042\n[Inst]\nCopyFiles=files\n\
         [Inst.Services]\nAddService=vblk,2,svc\n[svc]\nServiceType=1\nStartType=0\nErrorControl=1\n\
         ServiceBinary=%12%\\vblk.sys\n[files]\nvblk.sys\n[SourceDisksNames]\n1=disk\n[SourceDisksFiles]\nvblk.sys=1\n\
         [DestinationDirs]\nfiles=12\n[Strings]\nmfg=\"Maker\"\n"
    )
}

/// A repository with a driver for the virtio disk that nobody signed.
pub(in crate::execute) fn unsigned_repository(dir: &Path) -> Repository {
    let options = AddOptions { allow_unsigned: true, allow_incomplete: false };
    repository_of(dir, &[("vblk.inf", inf("").as_bytes()), ("vblk.sys", b"MZ")], options, None)
}

/// The same with one that is signed by somebody whom the site trusts.
pub(in crate::execute) fn signed_repository(dir: &Path) -> Repository {
    let (inf, driver) = (inf("CatalogFile=vblk.cat\n"), program(b"a driver that no Windows will run"));
    let authority = Authority::new("Gravure Test Root");
    let catalogue = authority.signer("Gravure Test Publisher").catalog(&[inf.as_bytes(), &driver]);
    let files = [("vblk.inf", inf.as_bytes()), ("vblk.sys", &driver[..]), ("vblk.cat", &catalogue[..])];
    repository_of(dir, &files, AddOptions::default(), Some(authority.certificate()))
}

fn repository_of(
    dir: &Path,
    files: &[(&str, &[u8])],
    options: AddOptions,
    certificate: Option<&[u8]>,
) -> Repository {
    let package = dir.join("vblk");
    fs::create_dir_all(&package).unwrap();
    files.iter().for_each(|(name, content)| fs::write(package.join(name), content).unwrap());
    let mut repository = Repository::create(&dir.join("repository")).unwrap();
    if let Some(certificate) = certificate {
        let mut roots = gravure_windows::Roots::default();
        roots.add(certificate).unwrap();
        repository.require_roots(roots);
    }
    repository.add(&package.join("vblk.inf"), options).unwrap();
    repository.commit().unwrap();
    repository
}
