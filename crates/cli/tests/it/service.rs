//! `gravure image service`: a Windows-shaped WIM in, drivers and settings, a WIM out, and back again.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use gravure_hive::{Data, Editor, Hive};
use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};
use gravure_testkit::signing::{Authority, program};
use gravure_testkit::{hive, unmounted};

const INF: &str = r#"[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGuid={4d36e97b-e325-11ce-bfc1-08002be10318}
Provider=Maker
CatalogFile=raid.cat
DriverVer=03/04/2024,1.2.3.4
[Manufacturer]
Maker=M,NTamd64
[M.NTamd64]
%dev%=Inst,PCI\VEN_1AF4&DEV_1042
[Inst]
CopyFiles=@raid.sys
[Inst.Services]
AddService=raid,2,svc
[svc]
ServiceType=1
StartType=0
ErrorControl=1
ServiceBinary=%12%\raid.sys
[SourceDisksNames]
1=disk
[SourceDisksFiles]
raid.sys=1
[DestinationDirs]
DefaultDestDir=12
[Strings]
dev="RAID Controller"
"#;

const INVENTORY: &str = r#"{"version":1,"firmware":{"mode":"uefi"},"smbios":{"bios":{},"system":{},"board":{},"chassis":{}},
"cpu":{"packages":1,"cores":1,"threads":1,"architecture":"x86_64"},"memory":{"usable_bytes":1,"installed_bytes":1,"modules":[]},
"disks":[],"nics":[],"pci":[],"usb":[],"devices":[
{"bus":"pci","place":"0000:00:03.0","hardware_ids":["PCI\\VEN_1AF4&DEV_1042&CC_0100","PCI\\VEN_1AF4&DEV_1042"],"compatible_ids":[]}]}"#;

pub(crate) fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).current_dir(dir).args(arguments).output().unwrap()
}

pub(crate) fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = gravure(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A Windows volume, captured, and a repository with a driver for its controller.
pub(crate) fn prepared() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let config = dir.join("c/Windows/System32/config");
    fs::create_dir_all(&config).unwrap();
    fs::create_dir_all(dir.join("c/Windows/System32/drivers")).unwrap();
    fs::write(dir.join("c/Windows/notepad.exe"), vec![7; 200_000]).unwrap();
    let system = hive(&[
        ("Select", "Default", Data::dword(1)),
        ("Setup", "SetupType", Data::dword(2)),
        ("ControlSet001\\Control\\Session Manager\\Environment", "PROCESSOR_ARCHITECTURE", Data::sz("AMD64")),
        ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
    ]);
    fs::write(config.join("SYSTEM"), system).unwrap();
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    let software = hive(&[
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentBuildNumber", Data::sz("22631")),
        (current, "ProductName", Data::sz("Windows 11 Pro")),
    ]);
    fs::write(config.join("SOFTWARE"), software).unwrap();
    let driver = program(b"driver");
    fs::create_dir(dir.join("pack")).unwrap();
    fs::write(dir.join("pack/raid.inf"), INF).unwrap();
    fs::write(dir.join("pack/raid.sys"), &driver).unwrap();
    let signer = Authority::new("Test Root").signer("Test Signer");
    fs::write(dir.join("pack/raid.cat"), signer.catalog(&[&driver, INF.as_bytes()])).unwrap();
    fs::write(dir.join("root.cer"), Authority::new("Test Root").certificate()).unwrap();
    fs::write(dir.join("pc.json"), INVENTORY).unwrap();
    ok(dir, &["capture", "c", "x.wim", "Windows", "--compress=xpress"]);
    ok(dir, &["driver", "add", "pack", "--repository", "drivers", "--trust", "root.cer"]);
    temp
}

#[test]
fn drivers_and_settings_go_in_and_come_out_again() {
    let temp = prepared();
    let dir = temp.path();
    fs::write(dir.join("s.toml"), "computer-name = \"PC-1\"\nadministrator-password = \"Geheim\"\n").unwrap();
    let all = ["--drivers", "drivers", "--inventory", "pc.json", "--settings", "s.toml"];
    let told = ok(dir, &[&["image", "service", "x.wim:1"], &all[..], &["--dry-run"]].concat());
    assert!(told.contains("raid.inf 1.2.3.4 (boot-critical)"), "{told}");
    assert!(told.contains("+ SYSTEM\\ControlSet001\\Services\\raid!Start = 0"), "{told}");
    assert!(told.ends_with("nothing written\n") && !told.contains("Geheim"), "{told}");

    let json =
        ok(dir, &[&["image", "service", "x.wim:1", "-o", "y.wim", "--format", "json"], &all[..]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["drivers"]["devices"][0]["served"]["level"], "boot-critical");
    assert_eq!(report["not_done"], serde_json::json!([]));
    assert!(!json.contains("Geheim"));
    ok(dir, &["verify", "y.wim"]);
    ok(dir, &["apply", "y.wim:1", "out"]);
    let read = |path: &str| fs::read(dir.join("out").join(path)).unwrap();
    let driver = fs::read(dir.join("pack/raid.sys")).unwrap();
    assert_eq!(read("Windows/System32/drivers/raid.sys"), driver);
    assert_eq!(read("Windows/notepad.exe"), vec![7; 200_000]);
    let answers = String::from_utf8(read("Windows/Panther/unattend.xml")).unwrap();
    let once = [
        "hive",
        "get",
        "out/Windows/System32/config/SOFTWARE",
        "Microsoft\\Windows\\CurrentVersion\\RunOnce",
    ];
    assert!(ok(dir, &once).contains("del /f /q \"%SystemRoot%\\Panther\\unattend.xml\""));
    assert!(
        answers.contains("<ComputerName>PC-1</ComputerName>") && answers.contains("pnputil"),
        "{answers}"
    );
    let staged: Vec<_> = fs::read_dir(dir.join("out/Windows/Gravure/Drivers"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(staged.len(), 2, "{staged:?}");
    let system = ["hive", "get", "out/Windows/System32/config/SYSTEM", "ControlSet001\\Services\\raid"];
    assert!(ok(dir, &system).contains("System32\\drivers\\raid.sys"));
    assert!(ok(dir, &["hive", "check", "out/Windows/System32/config/SYSTEM"]).contains("sound"));

    ok(dir, &["image", "service", "y.wim:1", "--undo", "-o", "z.wim"]);
    // Paths: a hive that grew keeps its free space.
    let list = |name: &str| {
        let text = ok(dir, &["ls", &format!("{name}:1")]);
        text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list("z.wim"), list("x.wim"));
    ok(dir, &["apply", "z.wim:1", "undone"]);
    let services = ["hive", "get", "undone/Windows/System32/config/SYSTEM", "ControlSet001\\Services"];
    assert_eq!(gravure(dir, &services).status.code(), Some(3), "the key came with the driver");
}

/// Another controller speaks against an image of a disk only where servicing cannot put its driver in.
#[test]
fn advice_knows_what_drivers_a_plan_puts_into_the_windows_of_an_image() {
    let temp = prepared();
    let dir = temp.path();
    let machine = |name: &str, device: u16, class: u32| {
        let text = serde_json::json!({
            "version": 1, "firmware": {"mode": "uefi"},
            "smbios": {"bios": {}, "system": {"product": "A"}, "board": {}, "chassis": {}},
            "cpu": {"packages": 1, "cores": 1, "threads": 1, "architecture": "x86_64"},
            "memory": {"usable_bytes": 1, "installed_bytes": 1, "modules": []}, "nics": [], "usb": [],
            "disks": [{"name": "vda", "size_bytes": 1_u64 << 36, "logical_sector_bytes": 512,
                "physical_sector_bytes": 512, "rotational": false, "removable": false, "read_only": false,
                "in_use": [], "content": []}],
            // What is beside it does not count.
            "pci": [{"address": "0000:00:03.0", "vendor": 0x1af4, "device": device, "subsystem_vendor": 0,
                "subsystem_device": 0, "class": class, "revision": 0},
                {"address": "0000:00:1f.2", "vendor": 0x8086, "device": 0x2922, "subsystem_vendor": 0,
                "subsystem_device": 0, "class": 0x01_0601, "revision": 0}],
            "devices": [
                {"bus": "pci", "place": "0000:00:03.0", "compatible_ids": [],
                 "hardware_ids": [format!("PCI\\VEN_1AF4&DEV_{device:04X}")]},
                {"bus": "disk", "place": "vda", "parent": "0000:00:03.0", "hardware_ids": [], "compatible_ids": []}],
        });
        fs::write(dir.join(name), text.to_string()).unwrap();
    };
    machine("source.json", 0x2922, 0x01_0601);
    machine("virtio.json", 0x1042, 0x01_0000);
    machine("other.json", 0x1234, 0x01_0400);
    ok(dir, &["apply", "x.wim:1", "c.ntfs", "--size", "32M", "--progress", "none"]);
    ok(dir, &["capture", "c.ntfs", "c.gim", "--machine", "source.json", "--progress", "none"]);
    let advise = |machine: &str, more: &[&str]| {
        let group = ["image", "advise", "--group", machine, "--image", "c.gim"];
        ok(dir, &[&group[..], more].concat())
    };
    let unasked = advise("virtio.json", &[]);
    assert!(unasked.starts_with("advice: WIM\n"), "{unasked}");
    assert!(unasked.contains("this is pci:1af4:1042; a plan puts a driver into its Windows"), "{unasked}");
    let drivers = ["--drivers", "drivers"];
    let served = advise("virtio.json", &drivers);
    assert!(served.starts_with("advice: partition image\n"), "{served}");
    assert!(
        served.contains("its Windows starts: 0000:00:03.0")
            && served.contains("raid.inf 1.2.3.4 (boot-critical)")
    );
    let other = advise("other.json", &drivers);
    assert!(other.starts_with("advice: WIM\n") && other.contains("nor among the site's"), "{other}");
    let same = advise("source.json", &drivers);
    assert!(same.starts_with("advice: partition image\n") && !same.contains("controller"), "{same}");
    let refused = gravure(dir, &["apply", "c.gim", "n.img", "--machine", "virtio.json"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    let alone = gravure(dir, &["image", "advise", "--group", "other.json", "--drivers", "drivers"]);
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn layers_are_applied_once_in_their_order() {
    let temp = prepared();
    let dir = temp.path();
    let layer = |id: &str, value: &str| {
        format!(
            "[layer]\nid = \"{id}\"\nversion = 1\n[[file]]\nto = 'C:\\School\\{id}.bin'\nfrom = \"pc.json\"\n\
             [[registry]]\nkey = 'HKLM\\SOFTWARE\\School'\nvalue = \"Room\"\ndata = \"{value}\"\n"
        )
    };
    fs::write(dir.join("a.toml"), layer("a", "first")).unwrap();
    fs::write(dir.join("b.toml"), layer("b", "${ROOM}")).unwrap();
    let service = ["image", "service", "x.wim:1", "--layer", "a.toml", "--layer", "b.toml", "-o", "y.wim"];
    let output = gravure(dir, &service);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && error.contains("b.toml: layer, macro: expected one of"),
        "{error}"
    );
    ok(dir, &[&service[..], &["--set", "ROOM=B7"]].concat());
    ok(dir, &["apply", "y.wim:1", "out"]);
    assert_eq!(fs::read_to_string(dir.join("out/School/b.bin")).unwrap(), INVENTORY);
    let software = ["hive", "get", "out/Windows/System32/config/SOFTWARE", "School"];
    assert!(ok(dir, &software).contains("B7"));
    let again = ["image", "service", "y.wim:1", "--layer", "a.toml", "--dry-run"];
    let told = ok(dir, &again);
    assert!(
        told.contains("layer a 1: there already") && told.ends_with("0 changes, nothing written\n"),
        "{told}"
    );
}

#[test]
fn what_cannot_be_is_told() {
    let temp = prepared();
    let dir = temp.path();
    let code = |arguments: &[&str]| {
        let output = gravure(dir, arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (found, error) = code(&["image", "service", "x.wim:1", "-o", "y.wim"]);
    assert!(found == 2 && error.contains("nothing to change"), "{error}");
    fs::write(dir.join("s.toml"), "computer-name = \"much-too-long-for-netbios\"\n").unwrap();
    let (found, error) = code(&["image", "service", "x.wim:1", "-o", "y.wim", "--settings", "s.toml"]);
    assert!(found == 2 && error.contains("s.toml: computer name: expected 1 to 15"), "{error}");
    let (found, error) = code(&["image", "service", "x.wim:1", "-o", "y.wim", "--undo"]);
    assert!(found == 3 && error.contains("record of changes"), "{error}");
    ok(dir, &["capture", "pack", "p.wim", "No Windows", "--compress=xpress"]);
    fs::write(dir.join("s.toml"), "computer-name = \"PC-1\"\n").unwrap();
    let (found, error) = code(&["image", "service", "p.wim:1", "-o", "y.wim", "--settings", "s.toml"]);
    assert!(found == 2 && error.contains("there is no Windows in it"), "{error}");
    assert!(!dir.join("y.wim").exists());
}

#[test]
fn boot_files_come_out_of_the_image() {
    let temp = prepared();
    let dir = temp.path();
    fs::create_dir_all(dir.join("c/Windows/Boot/EFI")).unwrap();
    fs::write(dir.join("c/Windows/Boot/EFI/bootmgfw.efi"), "manager").unwrap();
    ok(dir, &["capture", "c", "b.wim", "Windows", "--compress=xpress"]);
    let guids = |byte: u8| format!("{byte:02x}111111-2222-3333-4444-555555555555");
    let (disk, system, windows) = (guids(1), guids(2), guids(3));
    let base = ["--disk", &disk, "--system", &system, "--windows", &windows, "-o", "boot"];
    let said = ok(dir, &[&["image", "boot", "b.wim:1"], &base[..]].concat());
    assert!(said.contains("boot: 3 files, boot manager of 2011"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("boot/system/EFI/Boot/bootx64.efi")).unwrap(), "manager");
    let shown = ok(dir, &["bcd", "show", "boot/system/EFI/Microsoft/Boot/BCD"]);
    assert!(shown.contains(&windows) && shown.contains("Windows 11 Pro"), "{shown}");
    let output = gravure(dir, &[&["image", "boot", "x.wim:1"], &base[..]].concat());
    assert_eq!(output.status.code(), Some(3));

    // Of a BIOS machine: the disk by its signature, partitions by their first byte.
    let bios = ["--firmware", "bios", "--disk", "1a2b3c4d", "--system", "1048576", "--windows", "269484032"];
    let run = |more: &[&str]| gravure(dir, &[&["image", "boot", "b.wim:1"], &bios[..], more].concat());
    assert_eq!(run(&["-o", "old"]).status.code(), Some(3), "it has no bootmgr");
    fs::create_dir_all(dir.join("c/Windows/Boot/PCAT")).unwrap();
    fs::write(dir.join("c/Windows/Boot/PCAT/bootmgr"), "old manager").unwrap();
    fs::remove_file(dir.join("b.wim")).unwrap();
    ok(dir, &["capture", "c", "b.wim", "Windows", "--compress=xpress"]);
    let said = run(&["-o", "old"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(fs::read_to_string(dir.join("old/system/bootmgr")).unwrap(), "old manager");
    let shown = ok(dir, &["bcd", "show", "old/system/Boot/BCD"]);
    assert!(
        shown.contains("mbr:0x1a2b3c4d:1048576") && shown.contains("mbr:0x1a2b3c4d:269484032"),
        "{shown}"
    );
    let wrong = gravure(dir, &[&["image", "boot", "b.wim:1", "--firmware", "bios"], &base[..]].concat());
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(2) && error.contains("an MBR signature of 8"), "{error}");
}

#[test]
fn packages_are_matched_against_what_an_image_has() {
    let temp = prepared();
    let dir = temp.path();
    let config = dir.join("c/Windows/System32/config/SYSTEM");
    let package = "DriverDatabase\\DriverPackages\\own.inf_amd64_1";
    let mut editor = Editor::new(Hive::parse(fs::read(&config).unwrap()).unwrap(), FileTime(1)).unwrap();
    let id = "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1042&CC_0100";
    for (key, name, data) in [
        (id, "own.inf", Data::binary(vec![1, 0xff, 0, 0])),
        ("DriverDatabase\\DriverInfFiles\\own.inf", "Active", Data::sz("own.inf_amd64_1")),
        (package, "Version", Data::binary(vec![0; 48])),
    ] {
        let id = editor.create(key).unwrap();
        editor.set_value(id, &NtName::from(name), &data).unwrap();
    }
    fs::write(&config, editor.finish().unwrap()).unwrap();
    ok(dir, &["capture", "c", "own.wim", "Windows", "--compress=xpress"]);
    let place = ["driver", "match", "--repository", "drivers", "--inventory", "pc.json"];
    let lines = |image: &str| {
        let text = ok(dir, &[&place[..], &["--image", image]].concat());
        text.lines().skip(1).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let own = lines("own.wim:1");
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own[0].starts_with("00ff0000  Windows' own") && own[1].starts_with("00ff0001  "), "{own:?}");
    let plain = lines("x.wim:1");
    assert!(plain.len() == 1 && plain[0].contains("raid.inf"), "{plain:?}");
    let json = ok(dir, &[&place[..], &["--image", "own.wim:1", "--format", "json"]].concat());
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found[0]["inbox"][0]["inf"], "own.inf");
    let output = gravure(dir, &place);
    assert_eq!(output.status.code(), Some(2), "neither image nor version");
}

#[test]
fn layers_know_the_machine_of_an_inventory() {
    let temp = prepared();
    let dir = temp.path();
    let with_facts = INVENTORY
        .replace("\"system\":{}", "\"system\":{\"serial\":\"S-1\",\"product\":\"Model X\"}")
        .replace("\"chassis\":{}", "\"chassis\":{\"asset_tag\":\"A7\"}");
    fs::write(dir.join("one.json"), with_facts).unwrap();
    let layer = "[layer]\nid = \"x\"\nversion = 1\n[[file]]\nto = 'C:\\machine.txt'\ntext = \"${SERIAL} ${MODEL} ${ASSET} ${MAC}.\"\n";
    fs::write(dir.join("x.toml"), layer).unwrap();
    let base = ["image", "service", "x.wim:1", "--layer", "x.toml"];
    ok(dir, &[&base[..], &["--inventory", "one.json", "-o", "y.wim"]].concat());
    ok(dir, &["apply", "y.wim:1", "out"]);
    assert_eq!(fs::read_to_string(dir.join("out/machine.txt")).unwrap(), "S-1 Model X A7 .");
    // Several machines have no one serial number, and no inventory is for nothing.
    for more in [&["--inventory", "one.json", "--inventory", "pc.json"][..], &[]] {
        let output = gravure(dir, &[&base[..], more, &["--dry-run"]].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
    fs::write(dir.join("s.toml"), "computer-name = \"PC-1\"\n").unwrap();
    let useless =
        ["image", "service", "x.wim:1", "--settings", "s.toml", "--inventory", "one.json", "--dry-run"];
    assert_eq!(gravure(dir, &useless).status.code(), Some(2));
}

/// Every path below a directory, with its content or target.
pub(crate) fn contents(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut out = std::collections::BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            if path.is_symlink() {
                out.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
            } else if path.is_dir() {
                out.insert(name, Vec::new());
                open.push(path);
            } else {
                out.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    out
}

#[test]
fn a_mounted_volume_is_changed_where_it_is_and_back() {
    let temp = prepared();
    let dir = temp.path();
    fs::create_dir_all(dir.join("c/Windows/Panther")).unwrap();
    let answers = "<unattend xmlns=\"urn:schemas-microsoft-com:unattend\"/>\n";
    fs::write(dir.join("c/Windows/Panther/unattend.xml"), answers).unwrap();
    // What nobody asks for is not looked at: a name that is none would be refused.
    let odd = dir.join("c/Windows/WinSxS");
    fs::create_dir_all(&odd).unwrap();
    fs::write(odd.join(std::ffi::OsStr::from_bytes(b"\xff")), "odd").unwrap();
    let before = contents(&dir.join("c"));
    let all = ["image", "service", "c", "--drivers", "drivers", "--inventory", "pc.json"];
    assert_eq!(gravure(dir, &[&all[..], &["-o", "y.wim"]].concat()).status.code(), Some(2));
    let told = ok(dir, &[&all[..], &["--dry-run"]].concat());
    assert!(told.contains("nothing written"), "{told}");
    assert_eq!(contents(&dir.join("c")), before);

    let told = ok(dir, &all);
    assert!(told.contains("raid.inf 1.2.3.4 (boot-critical)"), "{told}");
    let after = contents(&dir.join("c"));
    assert!(after.keys().all(|name| !name.contains(".gravure-new")), "{:?}", after.keys());
    assert_eq!(after["Windows/System32/drivers/raid.sys"], fs::read(dir.join("pack/raid.sys")).unwrap());
    let new = String::from_utf8(after["Windows/Panther/unattend.xml"].clone()).unwrap();
    assert!(new.contains("pnputil"), "{new}");
    assert_eq!(after["Windows/Gravure/changes/0001/0"], answers.as_bytes(), "the old one is kept");
    let system = ["hive", "get", "c/Windows/System32/config/SYSTEM", "ControlSet001\\Services\\raid"];
    assert!(ok(dir, &system).contains("System32\\drivers\\raid.sys"));
    assert!(ok(dir, &["hive", "check", "c/Windows/System32/config/SYSTEM"]).contains("sound"));

    ok(dir, &["image", "service", "c", "--undo"]);
    let undone = contents(&dir.join("c"));
    assert_eq!(undone.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    // A hive that grew keeps its free space.
    for (name, content) in undone.iter().filter(|(name, _)| !name.contains("/config/")) {
        assert_eq!(Some(content), before.get(name), "{name}");
    }
    assert_eq!(gravure(dir, &system).status.code(), Some(3), "the key came with the driver");

    // What fails before files take their places leaves everything as it was.
    let place = dir.join("c/Windows/Gravure");
    fs::write(&place, "a file where a directory must be").unwrap();
    let before = contents(&dir.join("c"));
    assert!(!gravure(dir, &all).status.success());
    assert_eq!(contents(&dir.join("c")), before);
}

/// A mounted volume, until it is dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if !unmounted(&self.0) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Access rules and attributes of what is replaced stay, on a real NTFS volume.
#[test]
fn files_of_an_ntfs_volume_keep_their_access_rules() {
    let oracle = gravure_testkit::oracle;
    let (Some(mut format), Some(mut mount)) = (oracle("mkfs.ntfs"), oracle("ntfs-3g")) else { return };
    let temp = prepared();
    let dir = temp.path();
    let (volume, at) = (dir.join("volume"), dir.join("mounted"));
    fs::File::create(&volume).unwrap().set_len(64 << 20).unwrap();
    fs::create_dir(&at).unwrap();
    assert!(format.args(["-F", "-q"]).arg(&volume).output().unwrap().status.success());
    let output = mount.args(["-o", "permissions"]).arg(&volume).arg(&at).output().unwrap();
    if !output.status.success() {
        gravure_testkit::skipped(&format!(
            "ntfs-3g cannot mount: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
        return;
    }
    let _mounted = Mounted(at.clone());
    let copied = Command::new("cp").arg("-r").arg(dir.join("c/Windows")).arg(&at).status().unwrap();
    assert!(copied.success());
    let config = gravure_linux::Dir::open_root(&at.join("Windows/System32/config")).unwrap();
    let (name, key) = ("SYSTEM".as_ref(), "system.ntfs_acl".as_ref());
    let own =
        SecurityDescriptor::from_sddl("O:BAG:SYD:P(A;;FA;;;SY)(A;;FR;;;BA)").unwrap().to_bytes().unwrap();
    config.set_xattr(name, key, &own).unwrap();
    let before = config.xattr(name, key).unwrap().unwrap();
    ok(dir, &["image", "service", "mounted", "--drivers", "drivers", "--inventory", "pc.json"]);
    assert_eq!(config.xattr(name, key).unwrap().unwrap(), before);
    let beside = config.xattr("SOFTWARE".as_ref(), key).unwrap().unwrap();
    assert_ne!(beside, before);
    assert!(ok(dir, &["hive", "check", "mounted/Windows/System32/config/SYSTEM"]).contains("sound"));
}

#[test]
fn linux_images_take_layers_and_nothing_else() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    for sub in ["root/etc", "root/usr/bin"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    symlink("usr/bin", dir.join("root/bin")).unwrap();
    fs::write(dir.join("root/etc/os-release"), "PRETTY_NAME=\"Debian 13\"\n").unwrap();
    fs::write(dir.join("root/etc/app.conf"), "[Main]\nRoom=old\n").unwrap();
    fs::set_permissions(dir.join("root/etc/app.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    ok(dir, &["capture", "root", "linux.wim", "Linux", "--compress=xpress"]);
    let layer = "[layer]\nid='room'\nversion=1\n[[file]]\nto='/bin/room'\ntext=\"#!/bin/sh\\n\"\nmode='0755'\n\
                 [[ini]]\nfile='${ETC}/app.conf'\nsection='Main'\nkey='Room'\nvalue='${ROOM}'\n";
    fs::write(dir.join("room.toml"), layer).unwrap();
    let run = ["image", "service", "linux.wim:1", "--layer", "room.toml", "--set", "ROOM=B7"];
    let json = ok(dir, &[&run[..], &["--dry-run", "--format", "json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["linux"], report.get("system")), (&"Debian 13".into(), None));
    assert_eq!(report["layers"][0]["applied"], true);
    let said = ok(dir, &[&run[..], &["-o", "room.wim"]].concat());
    assert!(said.starts_with("Debian 13\n  layer room 1: applied\n"), "{said}");
    ok(dir, &["apply", "room.wim:1", "out"]);
    assert_eq!(fs::read_to_string(dir.join("out/etc/app.conf")).unwrap(), "[Main]\nRoom=B7\n");
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("out/etc/app.conf"), mode("out/usr/bin/room")), (0o640, 0o755));
    // Back again, and what is for Windows is refused by name.
    ok(dir, &["image", "service", "room.wim:1", "--undo", "-o", "back.wim"]);
    ok(dir, &["apply", "back.wim:1", "back"]);
    assert_eq!(fs::read_to_string(dir.join("back/etc/app.conf")).unwrap(), "[Main]\nRoom=old\n");
    assert!(!dir.join("back/var").exists() && !dir.join("back/usr/bin/room").exists());
    fs::write(dir.join("bad.toml"), "[layer]\nid='x'\nversion=1\n[[registry]]\nkey='HKLM\\SOFTWARE\\x'\n")
        .unwrap();
    let output = gravure(dir, &["image", "service", "linux.wim:1", "--layer", "bad.toml", "-o", "x.wim"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && error.contains("[[registry]]"),
        "{:?}: {error}",
        output.status
    );
    fs::write(dir.join("s.toml"), "computer-name = \"PC-1\"\n").unwrap();
    let output = gravure(dir, &["image", "service", "linux.wim:1", "--settings", "s.toml", "-o", "x.wim"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!dir.join("x.wim").exists());
}

#[test]
fn a_machine_gets_what_is_out_of_its_models_pack() {
    let temp = prepared();
    let dir = temp.path();
    // A package for a device that is not there now.
    fs::create_dir(dir.join("dock")).unwrap();
    let inf =
        INF.replace("DEV_1042", "DEV_1FFF").replace("raid", "dock").replace("StartType=0", "StartType=3");
    let driver = program(b"dock");
    fs::write(dir.join("dock/dock.inf"), &inf).unwrap();
    fs::write(dir.join("dock/dock.sys"), &driver).unwrap();
    let signer = Authority::new("Test Root").signer("Test Signer");
    fs::write(dir.join("dock/dock.cat"), signer.catalog(&[&driver, inf.as_bytes()])).unwrap();
    let sku =
        INVENTORY.replace("\"system\":{}", "\"system\":{\"manufacturer\":\"Dell Inc.\",\"sku\":\"0B98\"}");
    fs::write(dir.join("dell.json"), sku).unwrap();
    let service = [
        "image",
        "service",
        "x.wim:1",
        "--drivers",
        "drivers",
        "--inventory",
        "dell.json",
        "--model-drivers",
    ];
    let none = gravure(dir, &[&service[..], &["--dry-run"]].concat());
    let error = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(3), "{error}");
    assert!(
        error.contains("no packages of model dell:0B98") && error.contains("--model dell:0B98"),
        "{error}"
    );

    let add = ["driver", "add", "dock", "--repository", "drivers", "--trust", "root.cer"];
    let unknown = gravure(dir, &[&add[..], &["--pack", "win11.exe"]].concat());
    assert_eq!(unknown.status.code(), Some(3), "no catalogue has it");
    let said = ok(dir, &[&add[..], &["--model", "Dell:0b98"]].concat());
    assert!(said.contains("1 packages added") && said.ends_with("of the pack of dell:0B98\n"), "{said}");
    let listed = ok(dir, &["driver", "list", "--model", "dell:0B98", "--repository", "drivers"]);
    assert!(listed.contains("dock.inf") && !listed.contains("raid.inf"), "{listed}");

    ok(dir, &[&service[..], &["-o", "y.wim"]].concat());
    ok(dir, &["apply", "y.wim:1", "with"]);
    let without = [&service[..7], &["-o", "z.wim"]].concat();
    ok(dir, &without);
    ok(dir, &["apply", "z.wim:1", "without"]);
    let staged = |root: &str| -> Vec<String> {
        let names = fs::read_dir(dir.join(root).join("Windows/Gravure/Drivers")).unwrap();
        let mut names: Vec<String> =
            names.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.contains('_'));
        names.iter_mut().for_each(|name| name.truncate(name.find('_').unwrap()));
        names.sort();
        names
    };
    assert_eq!(staged("with"), ["dock", "raid"]);
    assert_eq!(staged("without"), ["raid"]);
}
