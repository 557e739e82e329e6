//! A small Windows volume in memory, and packages to put into it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use gravure_hive::{Data, Hive};
use gravure_model::inventory::Device;
use gravure_nttypes::{FileTime, NtName};
pub(crate) use gravure_testkit::hive;
use gravure_tree::{ContentRef, Node, Tree};

pub(crate) const NOW: FileTime = FileTime(0x01da_0000_0000_0000);

/// Nothing of these images lies outside of their tree.
pub(crate) fn nothing_outside(_: &ContentRef) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    Err("nothing lies outside".into())
}

/// What every SYSTEM hive of ours has.
pub(crate) fn system_values() -> Vec<(&'static str, &'static str, Data)> {
    let storage = "ControlSet001\\Control\\Class\\{4d36e97b-e325-11ce-bfc1-08002be10318}\\Properties\\{6a3433f4-5626-40e8-a9b9-dbd9ecd2884b}\\0003";
    vec![
        ("Select", "Current", Data::dword(1)),
        ("Select", "Default", Data::dword(1)),
        ("Setup", "SetupType", Data::dword(2)),
        ("Setup", "SystemSetupInProgress", Data::dword(1)),
        ("ControlSet001\\Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE", Data::sz("AMD64")),
        ("ControlSet001\\Control\\ProductOptions", "ProductType", Data::sz("WinNT")),
        ("ControlSet001\\Control\\ComputerName\\ComputerName", "ComputerName", Data::sz("OLD")),
        (storage, "", Data { kind: gravure_hive::ValueType(0xffff_0011), bytes: vec![0xff] }),
        ("ControlSet001\\Services\\storahci", "Start", Data::dword(0)),
        ("ControlSet001\\Services\\storahci\\StartOverride", "0", Data::dword(3)),
        ("ControlSet001\\Services\\storahci", "Owners", Data::multi_sz(["mshdc.inf"])),
        ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
        ("DriverDatabase", "Architecture", Data::dword(9)),
        ("DriverDatabase", "OemInfMap", Data::binary(vec![0xc0])),
        ("DriverDatabase\\DeviceIds\\PCI\\CC_0106", "mshdc.inf", Data::binary(vec![1, 0xff, 0, 0])),
        ("DriverDatabase\\DriverInfFiles\\mshdc.inf", "Active", Data::sz("mshdc.inf_amd64_1")),
        (
            "DriverDatabase\\DriverPackages\\mshdc.inf_amd64_1\\Descriptors\\PCI\\CC_0106",
            "Configuration",
            Data::sz("ahci"),
        ),
        (
            "DriverDatabase\\DriverPackages\\mshdc.inf_amd64_1\\Configurations\\ahci",
            "Service",
            Data::sz("storahci"),
        ),
        (
            "DriverDatabase\\DriverPackages\\mshdc.inf_amd64_1\\Configurations\\ahci",
            "ConfigScope",
            Data::dword(5),
        ),
    ]
}

pub(crate) fn software_values() -> Vec<(&'static str, &'static str, Data)> {
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    vec![
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentBuildNumber", Data::sz("22631")),
        (current, "ProductName", Data::sz("Windows 11 Pro")),
        (current, "EditionID", Data::sz("Professional")),
        ("Microsoft\\Windows\\CurrentVersion", "DevicePath", Data::expand_sz("%SystemRoot%\\inf")),
        (
            "Microsoft\\Windows\\CurrentVersion\\Setup\\State",
            "ImageState",
            Data::sz("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"),
        ),
    ]
}

fn dir() -> Node {
    Node { children: Some(Vec::new()), ..Node::default() }
}

/// A tree of the files.
pub(crate) fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new(dir());
    for (path, content) in files {
        let mut at = tree.root();
        let names: Vec<&str> = path.split('\\').collect();
        let (last, above) = names.split_last().unwrap();
        for name in above {
            let name = NtName::from(*name);
            let found = tree.child(at, &name).map(|entry| entry.node);
            at = found.unwrap_or_else(|| tree.add(at, name, dir()).unwrap());
        }
        let node = Node { data: Some(ContentRef::inline(content.clone())), ..Node::default() };
        tree.add(at, NtName::from(*last), node).unwrap();
    }
    tree
}

/// A Windows 11 as it comes out of `sysprep /generalize`.
pub(crate) fn windows() -> Tree {
    tree(&[
        ("Windows\\System32\\config\\SYSTEM", hive(&system_values())),
        ("Windows\\System32\\config\\SOFTWARE", hive(&software_values())),
        (
            "Windows\\System32\\config\\DRIVERS",
            hive(&[("DriverDatabase", "Version", Data::dword(0x0a00_0000))]),
        ),
        ("Windows\\System32\\drivers\\storahci.sys", b"MZ storahci".to_vec()),
        ("Windows\\INF\\oem2.inf", b"taken".to_vec()),
    ])
}

/// All paths with the lengths of their contents.
pub(crate) fn listing(tree: &Tree) -> Vec<String> {
    let mut out: Vec<String> = tree
        .walk()
        .map(|step| {
            let node = tree.node(step.entry.node);
            format!("{} {}", step.display_path(), node.data.as_ref().map_or(0, |data| data.size))
        })
        .collect();
    out.sort();
    out
}

/// Every key and value of a hive, as text.
pub(crate) fn dump(tree: &Tree, path: &str) -> Vec<String> {
    let node = tree.lookup(path).unwrap();
    let gravure_tree::Origin::Inline(bytes) = &tree.node(node).data.as_ref().unwrap().origin else {
        panic!("{path} is not in the tree");
    };
    let hive = Hive::parse(bytes.to_vec()).unwrap();
    let mut out = Vec::new();
    for step in hive.walk() {
        let (key, _) = step.unwrap();
        let path = hive.path(key.id()).unwrap();
        out.push(path.clone());
        for value in key.values().unwrap() {
            let value = value.unwrap();
            let data = value.data().unwrap();
            out.push(format!("{path}!{} {} {:02x?}", value.name(), data.kind, data.bytes));
        }
    }
    out.sort();
    out
}

pub(crate) fn device(place: &str, ids: &[&str], compatible: &[&str]) -> Device {
    let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    Device {
        bus: "pci".into(),
        place: place.into(),
        hardware_ids: list(ids),
        compatible_ids: list(compatible),
        ..Device::default()
    }
}

/// A storage driver for `id`; `start` is its start type.
pub(crate) fn storage_inf(id: &str, start: u32) -> String {
    format!(
        r#"[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGuid={{4d36e97b-e325-11ce-bfc1-08002be10318}}
Provider=%mfg%
CatalogFile=raid.cat
DriverVer=03/04/2024,1.2.3.4
PnpLockdown=1
[Manufacturer]
%mfg%=M,NTamd64
[M.NTamd64]
%dev%=Inst,{id}
%dev%=Inst,{id}&SUBSYS_00011AF4
%dev%=Inst,ROOT\Raid,{id}&REV_01
[Inst]
CopyFiles=files
[Inst.HW]
AddReg=hw
[hw]
HKR,"Interrupt Management",,0x10
HKR,"Interrupt Management\MessageSignaledInterruptProperties",MSISupported,0x10001,1
[Inst.Services]
AddService=raid,2,svc
[svc]
ServiceType=1
StartType={start}
ErrorControl=1
ServiceBinary=%12%\raid.sys
LoadOrderGroup=SCSI Miniport
DisplayName=%dev%
AddReg=params
[params]
HKR,Parameters,BusType,0x10001,8
HKR,Parameters\PnpInterface,5,0x10003,1
[files]
raid.sys
[SourceDisksNames]
1=disk,,,bin
[SourceDisksFiles]
raid.sys=1
[DestinationDirs]
files=12
[Strings]
mfg="Maker"
dev="RAID Controller"
"#
    )
}

/// A package directory with INF file, driver and what stands for a catalogue.
pub(crate) fn package(dir: &Path, name: &str, inf: &str) -> PathBuf {
    let dir = dir.join(name);
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::write(dir.join("bin/raid.sys"), format!("MZ driver of {name}")).unwrap();
    std::fs::write(dir.join("raid.cat"), b"catalogue").unwrap();
    let path = dir.join(format!("{name}.inf"));
    std::fs::write(&path, inf).unwrap();
    path
}
