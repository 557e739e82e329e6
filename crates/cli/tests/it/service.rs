//! `gravure image service`: a Windows-shaped WIM in, drivers and settings, a WIM out, and back again.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use gravure_hive::{CreateOptions, Data, Editor, Hive};
use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};
use gravure_testkit::signing::{Authority, program};

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

fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).current_dir(dir).args(arguments).output().unwrap()
}

fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = gravure(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn hive(path: &Path, values: &[(&str, &str, Data)]) {
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
    fs::write(path, editor.finish().unwrap()).unwrap();
}

/// A Windows volume, captured, and a repository with a driver for its controller.
fn prepared() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let config = dir.join("c/Windows/System32/config");
    fs::create_dir_all(&config).unwrap();
    fs::create_dir_all(dir.join("c/Windows/System32/drivers")).unwrap();
    fs::write(dir.join("c/Windows/notepad.exe"), vec![7; 200_000]).unwrap();
    hive(
        &config.join("SYSTEM"),
        &[
            ("Select", "Default", Data::dword(1)),
            ("Setup", "SetupType", Data::dword(2)),
            (
                "ControlSet001\\Control\\Session Manager\\Environment",
                "PROCESSOR_ARCHITECTURE",
                Data::sz("AMD64"),
            ),
            ("DriverDatabase", "Version", Data::dword(0x0a00_0000)),
        ],
    );
    let current = "Microsoft\\Windows NT\\CurrentVersion";
    hive(
        &config.join("SOFTWARE"),
        &[
            (current, "CurrentMajorVersionNumber", Data::dword(10)),
            (current, "CurrentMinorVersionNumber", Data::dword(0)),
            (current, "CurrentBuildNumber", Data::sz("22631")),
            (current, "ProductName", Data::sz("Windows 11 Pro")),
        ],
    );
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
