//! What an installation is described as.

use super::*;
use crate::registry::RegData;

/// After the shape of Intel's VMD driver.
const TEXT: &str = r#"
[Version]
Signature="$Windows NT$"
[SourceDisksNames]
1 = %disk%,,,"x64"
2 = %disk%
[SourceDisksFiles.amd64]
vmd.sys = 1,,,
tool.exe = 1,sub
[SourceDisksFiles]
vmd.sys = 2
evt.dll = 2,.
[DestinationDirs]
DefaultDestDir = 13
Drivers = 12
Program = 16422,%vendor%\Tool
[Manufacturer]
%vendor% = M, NTamd64
[M.NTamd64]
%d% = Inst, PCI\VEN_8086&DEV_9A0B
[Inst.NT]
CopyFiles=@wrong.exe
[Inst.NTamd64]
CopyFiles = Drivers, @evt.dll, @evt.dll
CopyFiles = Program
AddReg = Reg
FeatureScore = 0x80
ExcludeID = A, B
Include = PCI.inf, machine.inf
Needs = Shared, PciD3
DelReg = Gone
[Shared]
AddReg = Reg
Needs = Inst.NTamd64
[Inst.NTamd64.HW]
AddReg = HwReg
[Inst.NTamd64.Services]
AddService = vmd, %SPSVCINST_ASSOCSERVICE%, Svc, Log, System
AddService = ToolService, 0, Tool
[Inst.NTamd64.CoInstallers]
AddReg = Co
CopyFiles = Program
[Inst.NTamd64.Interfaces]
AddInterface = {guid},,x
[Inst.NTamd64.Components]
AddComponent = Tool,,Made
[Made]
ComponentIDs = VEN_1&TOOL, VEN_1
Description = %d%
[Inst.NTamd64.Wdf]
KmdfService = vmd, VmdKmdf
[Drivers]
vmd.sys
[Program]
renamed.exe, tool.exe,,0x10
[Reg]
HKR,,Value,%REG_DWORD%,5
[HwReg]
HKR,Interrupt,Msi,%REG_DWORD%,1
[Co]
HKR,,CoInstallers32,0x10000,"co.dll,Entry"
[Svc]
DisplayName = %d%
ServiceType = 1
StartType = %SERVICE_BOOT_START%
ErrorControl = 0x1
ServiceBinary = %12%\vmd.sys
LoadOrderGroup = SCSI miniport
Dependencies = a, +b
AddReg = SvcReg
[SvcReg]
HKR,Parameters,BusType,%REG_DWORD%,8
[Log]
AddReg = LogReg
[LogReg]
HKR,,EventMessageFile,0x20000,"%%SystemRoot%%\System32\IoLogMsg.dll;%%SystemRoot%%\System32\drivers\vmd.sys"
HKR,,TypesSupported,%REG_DWORD%,7
[Tool]
ServiceType = 0x10
StartType = 2
ErrorControl = 1
ServiceBinary = %16422%\%vendor%\Tool\tool.exe
[Strings]
vendor = "Maker"
d = "Device"
disk = "Disk"
SPSVCINST_ASSOCSERVICE = 0x2
REG_DWORD = 0x10001
SERVICE_BOOT_START = 0
"#;

fn install() -> Install {
    let inf = Inf::parse(TEXT.as_bytes()).unwrap();
    let target = Target::client(Arch::Amd64, "10.0.22631".parse().unwrap());
    inf.install(&inf.models(&target)[0], &target).unwrap()
}

#[test]
fn files_come_from_the_processors_directory_and_go_where_they_belong() {
    let install = install();
    assert_eq!(install.section, "Inst.NTamd64");
    let file =
        |source: &str, destination: Place, flags| FileCopy { source: source.into(), destination, flags };
    let expected = [
        file("evt.dll", Place::Store("evt.dll".into()), 0),
        file("x64\\vmd.sys", Place::Volume("Windows\\System32\\drivers\\vmd.sys".into()), 0),
        file("x64\\sub\\tool.exe", Place::Volume("Program Files\\Maker\\Tool\\renamed.exe".into()), 0x10),
    ];
    assert_eq!(install.files, expected);
    let inf = Inf::parse(TEXT.as_bytes()).unwrap();
    assert_eq!(inf.files(Arch::Amd64), ["evt.dll", "x64\\sub\\tool.exe", "x64\\vmd.sys"]);
    assert_eq!(inf.files(Arch::X86), [""; 0]);
}

#[test]
fn registry_services_and_the_rest() {
    let install = install();
    let dword = |entries: &[RegEntry]| entries.iter().map(|e| e.data.clone()).collect::<Vec<_>>();
    // Circles of `Needs` end, and a section that two name applies twice, as it does on Windows.
    let co = RegData::MultiSz(vec!["co.dll,Entry".into()]);
    assert_eq!(dword(&install.registry), [Some(RegData::Dword(5)), Some(RegData::Dword(5)), Some(co)]);
    assert_eq!(dword(&install.hardware_registry), [Some(RegData::Dword(1))]);
    let driver = install.function_driver().unwrap();
    assert_eq!(
        (driver.name.as_str(), driver.start, driver.kind, driver.error_control),
        ("vmd", Some(0), Some(1), Some(1))
    );
    assert_eq!(driver.binary, Some(Place::Volume("Windows\\System32\\drivers\\vmd.sys".into())));
    assert_eq!(
        (driver.group.as_deref(), driver.dependencies.as_slice()),
        (Some("SCSI miniport"), &["a".into(), "+b".into()][..])
    );
    assert_eq!(driver.registry[0].key, "Parameters");
    assert_eq!(driver.display_name.as_deref(), Some("Device"));
    let source = driver.event_source.as_ref().unwrap();
    assert_eq!(
        (source.section.as_str(), source.log.as_str(), source.name.as_str()),
        ("Log", "System", "vmd")
    );
    let messages = "%SystemRoot%\\System32\\IoLogMsg.dll;%SystemRoot%\\System32\\drivers\\vmd.sys";
    assert_eq!(dword(&source.registry), [Some(RegData::ExpandSz(messages.into())), Some(RegData::Dword(7))]);
    assert_eq!(install.services[1].event_source, None);
    let tool = &install.services[1];
    assert_eq!(tool.binary.as_ref().unwrap().path(), "Program Files\\Maker\\Tool\\tool.exe");
    assert!(install.is_boot_critical() && !tool.is_boot_start() && !tool.is_function_driver);
    assert_eq!(
        (install.feature_score, install.exclude_ids.as_slice()),
        (0x80, &["A".into(), "B".into()][..])
    );
    assert_eq!(
        (install.includes.as_slice(), install.needs_elsewhere.as_slice()),
        (&["pci.inf".into(), "machine.inf".into()][..], &["PciD3".into()][..])
    );
    assert_eq!(
        install.other_directives,
        ["DelReg", "CoInstallers", "AddInterface", "AddComponent", "KmdfService"]
    );
    assert_eq!(install.components, ["SWC\\VEN_1&TOOL", "SWC\\VEN_1"]);
    assert_eq!(install.notes, []);
}

#[test]
fn install_sections_are_found_by_processor_then_nt_then_plain() {
    let text = "[Version]\nSignature=$Chicago$\n[A.NTamd64]\n[A.NT]\n[A]\n[B.NT]\n[B]\n[C]\n";
    let inf = Inf::parse(text.as_bytes()).unwrap();
    let name = |name: &str, arch| install_section(&inf, name, arch).map(|s| s.name.as_str());
    assert_eq!((name("a", Arch::Amd64), name("a", Arch::X86)), (Some("A.NTamd64"), Some("A.NT")));
    assert_eq!(
        (name("b", Arch::Arm64), name("c", Arch::Arm64), name("d", Arch::X86)),
        (Some("B.NT"), Some("C"), None)
    );
}

#[test]
fn what_repeats_without_end_is_cut() {
    let many = "CopyFiles=L\n".repeat(2000);
    let text = format!("[Version]\nSignature=$Chicago$\n[I]\n{many}[L]\n{}", "f\n".repeat(1000));
    let inf = Inf::parse(text.as_bytes()).unwrap();
    let target = Target::client(Arch::X86, "10.0".parse().unwrap());
    let install = inf.install_named("I", &target).unwrap();
    assert_eq!(install.files.len(), 1);
    assert!(
        install.notes.iter().any(|note| note.text.contains("more than 100000 entries")),
        "{:?}",
        install.notes.last()
    );
}

/// What Windows' own files would add.
fn with_windows(text: &str, windows: &[(&str, &str)]) -> Install {
    let inf = Inf::parse(text.as_bytes()).unwrap();
    let windows: Vec<(&str, Inf)> =
        windows.iter().map(|(name, text)| (*name, Inf::parse(text.as_bytes()).unwrap())).collect();
    let included: Vec<Included<'_>> = windows.iter().map(|(name, inf)| (*name, inf)).collect();
    let target = Target::client(Arch::Amd64, "10.0.22631".parse().unwrap());
    let model = inf.models(&target).into_iter().next().unwrap();
    inf.install_with(&model, &target, &included).unwrap()
}

const MOUSE: &str = "[Version]
Signature=$Windows NT$
Class=Mouse
[Manufacturer]
Maker=Models,NTamd64
[Models.NTamd64]
Mouse=Inst,HID\\VID_1
[Inst.NT]
Needs=HID_Inst.NT, Nowhere
Include=MsMouse.inf
[Inst.NT.HW]
Needs=HID_Inst.NT.HW
AddReg=Filter
[Inst.NT.Services]
Include=msmouse.inf
Needs=HID_Inst.NT.Services
AddService=Flt,,Flt_Service
[Filter]
HKR,,\"UpperFilters\",0x00010000,\"Flt\"
[Flt_Service]
ServiceType=1
StartType=3
ServiceBinary=%13%\\flt.sys
";
const MS_MOUSE: &str = "[Version]
Signature=$Windows NT$
LayoutFile=layout.inf
[HID_Inst.NT]
Include=input.inf
Needs=Deep,Inst.NT
FeatureScore=10
ExcludeID=HID\\NO
CopyFiles=@mouhid.sys
[HID_Inst.NT.HW]
AddReg=Values
[HID_Inst.NT.Services]
AddService=mouhid,2,Service
[Values]
HKR,,%NAME%,0x00010001,1
[Service]
ServiceType=1
StartType=3
ServiceBinary=%12%\\mouhid.sys
AddReg=Params
[Params]
HKR,Parameters,UseOnlyMice,0x00010001,0
[Strings]
NAME=Wheel
";
const INPUT: &str = "[Version]
Signature=$Windows NT$
[Deep]
Needs=HID_Inst.NT
AddReg=Deep_Values
[Deep_Values]
HKR,,Deep,,yes
HKR = no entry
[Other]
AddReg=Missing
";

#[test]
fn sections_of_windows_own_files_add_what_they_have() {
    let files = [("msmouse.inf", MS_MOUSE), ("input.inf", INPUT), ("never.inf", MS_MOUSE)];
    let install = with_windows(MOUSE, &files);
    assert_eq!(install.includes, ["msmouse.inf", "input.inf"]);
    // `Inst.NT` is here, but not in the file that asks for it.
    assert_eq!(install.needs_elsewhere, ["Nowhere", "Inst.NT"]);
    let names = |entries: &[RegEntry]| entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
    assert_eq!(names(&install.registry), ["Deep"]);
    // With the texts of the file it is in.
    assert_eq!(names(&install.hardware_registry), ["UpperFilters", "Wheel"]);
    assert_eq!(install.files, [], "Windows' own files are not the package's");
    assert_eq!((install.feature_score, install.exclude_ids.as_slice()), (0xff, &["HID\\NO".to_owned()][..]));
    let services: Vec<_> = install.services.iter().map(|s| (s.name.as_str(), s.from.as_deref())).collect();
    assert_eq!(services, [("Flt", None), ("mouhid", Some("msmouse.inf"))]);
    assert_eq!(install.function_driver().map(|service| service.name.as_str()), Some("mouhid"));
    assert_eq!(names(&install.services[1].registry), ["UseOnlyMice"]);
    assert_eq!((install.notes.as_slice(), install.other_directives.as_slice()), (&[][..], &[][..]));
}

#[test]
fn what_is_not_given_is_needed_elsewhere_and_faults_name_their_file() {
    let install = with_windows(MOUSE, &[("input.inf", INPUT)]);
    assert_eq!(
        install.needs_elsewhere,
        ["HID_Inst.NT", "Nowhere", "HID_Inst.NT.HW", "HID_Inst.NT.Services"],
        "input.inf is not included"
    );
    assert_eq!(install.includes, ["msmouse.inf"]);
    let faulty = MS_MOUSE.replace("AddReg=Values", "AddReg=Absent");
    let install = with_windows(MOUSE, &[("msmouse.inf", &faulty)]);
    let notes: Vec<_> = install.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["msmouse.inf: AddReg: section [Absent] is missing"]);
    assert_eq!(install.notes[0].line, 11);
}
