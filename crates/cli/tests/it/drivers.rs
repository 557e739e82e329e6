//! `gravure inf`, `gravure driver` and `gravure inventory` as their users start them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

const INF: &str = r#"[Version]
Signature="$Windows NT$"
Class=Net
ClassGuid={4d36e972-e325-11ce-bfc1-08002be10318}
Provider=%m%
CatalogFile=net.cat
DriverVer=DATE
[SourceDisksNames]
1=%m%
[SourceDisksFiles]
net.sys=1
[DestinationDirs]
DefaultDestDir=12
[Manufacturer]
%m%=M,NTamd64.10.0
[M.NTamd64.10.0]
%d%=Inst,PCI\VEN_1AF4&DEV_1041
[Inst.NT]
CopyFiles=@net.sys
[Inst.NT.Services]
AddService=net,2,Svc
[Svc]
ServiceType=1
StartType=START
ErrorControl=1
ServiceBinary=%12%\net.sys
[Strings]
m="Maker"
d="Network Card"
"#;

fn gravure(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gravure")).current_dir(dir).args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = gravure(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&ok(dir, &[&["--format", "json"], arguments].concat())).unwrap()
}

/// Exit code and standard error of a command that must fail.
fn fails(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = gravure(dir, arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A directory with an older and a newer driver in `drivers`, and what is no driver beside it.
fn with_drivers() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let drivers = dir.path().join("drivers");
    std::fs::create_dir_all(drivers.join("new")).unwrap();
    let text = |date: &str, start: &str| INF.replace("DATE", date).replace("START", start);
    std::fs::write(drivers.join("old.inf"), text("01/31/2020,1.0.0.0", "0")).unwrap();
    std::fs::write(drivers.join("new/net.INF"), text("02/01/2024,2.0.0.0", "3")).unwrap();
    std::fs::write(drivers.join("new/net.sys"), b"MZ").unwrap();
    std::fs::write(dir.path().join("bad.inf"), "[autorun]\nopen=x\n").unwrap();
    dir
}

#[test]
fn files_are_checked_and_described() {
    let dir = with_drivers();
    let dir = dir.path();
    let text = ok(dir, &["inf", "check", "drivers"]);
    let expected = "drivers/new/net.INF: Net, Maker, 2024-02-01, 2.0.0.0, amd64, 1 models, 1 ids, net.cat\n\
        drivers/old.inf: Net, Maker, 2020-01-31, 1.0.0.0, amd64, 1 models, 1 ids, net.cat, boot critical\n";
    assert_eq!(text, expected);
    let found = json(dir, &["inf", "check", "drivers/old.inf", "--os", "10.0.22631"]);
    let install = &found[0]["installs"][0]["install"];
    assert_eq!(install["files"][0]["destination"]["path"], "Windows\\System32\\drivers\\net.sys");
    assert_eq!(
        (&install["services"][0]["name"], &install["services"][0]["start"]),
        (&"net".into(), &0.into())
    );
    assert_eq!(found[0]["report"]["version"]["class_guid"], "4d36e972-e325-11ce-bfc1-08002be10318");
    let (code, error) = fails(dir, &["inf", "check", "bad.inf", "drivers"]);
    assert!(code == 5 && error.contains("1 of 3 INF files"), "{code}: {error}");
    assert_eq!(fails(dir, &["inf", "check", "absent.inf"]).0, 3);
    assert_eq!(fails(dir, &["inf", "check", "drivers", "--os", "ten"]).0, 2);
}

#[test]
fn drivers_are_ranked_by_rank_then_date() {
    let dir = with_drivers();
    let dir = dir.path();
    let ids =
        ["--hwids", "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4,pci\\ven_1af4&dev_1041", "--os", "10.0.19045"];
    let found = json(dir, &[&["driver", "rank", "--inf", "drivers"], &ids[..]].concat());
    let shown: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["rank"].as_str().unwrap(), r["version"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("00ff0001", "2.0.0.0"), ("00ff0001", "1.0.0.0")]);
    assert_eq!((&found[1]["service"], &found[1]["boot_critical"]), (&"net".into(), &true.into()));
    let text = ok(
        dir,
        &[
            "driver",
            "rank",
            "--inf",
            "drivers/old.inf",
            "--cids",
            "PCI\\VEN_1AF4&DEV_1041",
            "--os",
            "10.0.19045",
            "--unsigned",
        ],
    );
    assert!(text.starts_with("80ff2000  2020-01-31 1.0.0.0  drivers/old.inf"), "{text}");
    let (code, _) = fails(dir, &["driver", "rank", "--inf", "drivers", "--hwids", "X", "--os", "10.0.19045"]);
    assert_eq!(code, 3);
    let (code, _) = fails(
        dir,
        &["driver", "rank", "--inf", "drivers", "--hwids", "PCI\\VEN_1AF4&DEV_1041", "--os", "6.1.7601"],
    );
    assert_eq!(code, 3, "the section is for Windows 10");
    // A file that cannot be read is told, and the rest done.
    let output = gravure(dir, &[&["driver", "rank", "--inf", "bad.inf", "drivers"], &ids[..]].concat());
    assert_eq!(output.status.code(), Some(10));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("warning: bad.inf: INF file: expected a section [Version]")
    );
}

#[test]
fn computer_ids_of_fields_and_of_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let given = [
        "inventory",
        "chids",
        "--fields",
        "manufacturer=VMware, Inc.",
        "family=",
        "product=VMware7,1",
        "enclosure=1",
    ];
    let found = json(dir, &given);
    let guid = |number: u64| {
        found.as_array().unwrap().iter().find(|r| r["number"] == number).unwrap()["guid"].clone()
    };
    assert_eq!(
        (guid(5), guid(12)),
        ("0f8a6b37-b4de-5f53-a258-ac6c8c9a690d".into(), "27ba637b-843e-58ac-8d78-3006feac89d3".into())
    );
    let mut table = vec![1, 0x1b, 1, 0, 1, 2, 0, 0];
    table.extend([7; 16]);
    table.extend([6, 3, 0]);
    table.extend(b"Dell Inc.\0Latitude\x200\x000C03\0\0");
    table.extend([2, 8, 2, 0, 1, 2, 0, 0]);
    table.extend(b"Dell Inc.\x000ABC\0\0");
    std::fs::write(dir.join("dump"), &table).unwrap();
    let output = gravure(dir, &["inventory", "chids", "--smbios", "dump", "--format", "csv"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.ends_with(",Dell Inc.&Latitude 0")), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("6,") && line.ends_with("Dell Inc.&0C03&Dell Inc.&0ABC")),
        "{text}"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("driver packs: dell 0C03"));
    assert_eq!(fails(dir, &["inventory", "chids", "--fields", "colour=x"]).0, 2);
    assert_eq!(fails(dir, &["inventory", "chids", "--fields", "product=x"]).0, 3);
    std::fs::write(dir.join("text"), "no dump").unwrap();
    assert_eq!(fails(dir, &["inventory", "chids", "--smbios", "text"]).0, 5);
    let shown = json(dir, &["inventory", "show", "--sysfs", ".", "--smbios", "dump"]);
    assert_eq!(
        (&shown["vendor_key"]["key"], &shown["smbios"]["system"]["sku"]),
        (&"0C03".into(), &"0C03".into())
    );
    assert!(shown["chids"].as_array().unwrap().len() > 5, "{shown}");
}

#[test]
fn this_machine_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let shown = json(dir.path(), &["inventory", "show"]);
    assert!(shown["cpu"]["threads"].as_u64().unwrap() > 0);
    for device in shown["devices"].as_array().into_iter().flatten() {
        // Disks that say nothing of themselves are there for what they hang on.
        let has_ids = !device["hardware_ids"].as_array().unwrap().is_empty();
        assert!(has_ids || device["bus"] == "disk", "{device}");
    }
    assert!(ok(dir.path(), &["inventory", "show"]).starts_with("machine "));
}

fn in_repository<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--repository", "repository"]].concat()
}

/// An inventory of a machine with these devices.
fn inventory_with(devices: &str) -> String {
    let machine = r#"{"version":1,"firmware":{"mode":"uefi"},"smbios":{"bios":{},"system":{},"board":{},"chassis":{}},
        "cpu":{"packages":1,"cores":1,"threads":1,"architecture":"x86_64"},"memory":{"usable_bytes":1,"installed_bytes":1,"modules":[]},
        "disks":[],"nics":[],"pci":[],"usb":[],"devices":[]}"#;
    machine.replace("\"devices\":[]", &format!("\"devices\":[{devices}]"))
}

/// Signs the newer driver.
fn sign(dir: &Path) {
    let signer = gravure_testkit::signing::Authority::new("Test Root").signer("Test Signer");
    let inf = std::fs::read(dir.join("drivers/new/net.INF")).unwrap();
    std::fs::write(dir.join("drivers/new/net.cat"), signer.catalog(&[b"MZ", &inf])).unwrap();
}

#[test]
fn a_repository_takes_matches_and_gives_back() {
    let dir = with_drivers();
    let dir = dir.path();
    let run = in_repository;
    assert_eq!(fails(dir, &run(&["driver", "list"])).0, 3);
    let (code, error) = fails(dir, &run(&["driver", "add", "drivers/old.inf"]));
    assert!(code == 4 && error.contains("net.cat is not there"), "{code}: {error}");
    std::fs::write(dir.join("drivers/new/net.cat"), "catalogue").unwrap();
    let (code, error) = fails(dir, &run(&["driver", "add", "drivers/new"]));
    assert!(code == 4 && error.contains("net.cat: signed message: expected"), "{code}: {error}");
    sign(dir);
    let output = gravure(dir, &run(&["driver", "add", "drivers", "bad.inf"]));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(10));
    assert!(said.ends_with("1 packages added, 0 there already, 2 refused\n"), "{said}");
    let listed = json(dir, &run(&["driver", "list"]));
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!((&listed[0]["inf"], &listed[0]["files"][0]["path"]), (&"net.INF".into(), &"net.INF".into()));
    let inventory = inventory_with(
        r#"{"bus":"pci","place":"0000:00:03.0","hardware_ids":["PCI\\VEN_1AF4&DEV_1041"],"compatible_ids":[]},
        {"bus":"acpi","place":"X:00","hardware_ids":["ACPI\\X"],"compatible_ids":[]}"#,
    );
    std::fs::write(dir.join("pc.json"), inventory).unwrap();
    let found = json(dir, &run(&["driver", "match", "--inventory", "pc.json", "--os", "10.0.22631"]));
    assert_eq!(
        (&found[0]["candidates"][0]["package"], &found[0]["candidates"][0]["rank"]),
        (&id.into(), &"00ff0000".into())
    );
    assert_eq!(found[1]["candidates"].as_array().unwrap().len(), 0);
    let said =
        ok(dir, &run(&["driver", "export", "--inventory", "pc.json", "--os", "10.0.22631", "-o", "out"]));
    assert_eq!(said, format!("out/net_{}\n", &id[..12]));
    assert_eq!(std::fs::read(dir.join(said.trim()).join("net.sys")).unwrap(), b"MZ");
    assert_eq!(fails(dir, &run(&["driver", "export", "ffffffff0000", "-o", "out2"])).0, 3);
    let output = gravure(
        dir,
        &run(&["driver", "coverage", "--inventory", "pc.json", "--os", "10.0.22631", "--format", "csv"]),
    );
    assert_eq!(output.status.code(), Some(10));
    let covered = String::from_utf8(output.stdout).unwrap();
    assert!(covered.contains(",repository,net.INF") && covered.contains("ACPI\\X,,missing,"), "{covered}");
    // The same package out of an archive is the same.
    let said = ok(dir, &run(&["driver", "remove", &id[..8]]));
    assert_eq!(said, format!("removed {} net.INF\n", &id[..12]));
    assert_eq!(json(dir, &run(&["driver", "list"])).as_array().unwrap().len(), 0);
    std::fs::write(dir.join("pc.json"), "{}").unwrap();
    assert_eq!(fails(dir, &run(&["driver", "match", "--inventory", "pc.json", "--os", "10.0.22631"])).0, 5);
}

/// Several technicians, or a technician and a script.
#[test]
fn processes_that_add_and_remove_at_the_same_time_lose_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = |number: usize| format!("pack-{number}/net.inf");
    for number in 0..24 {
        std::fs::create_dir(dir.join(format!("pack-{number}"))).unwrap();
        let inf = INF.replace("DATE", &format!("01/31/2020,1.0.0.{number}")).replace("START", "3");
        std::fs::write(dir.join(format!("pack-{number}/net.sys")), b"MZ").unwrap();
        std::fs::write(dir.join(path(number)), inf.replace("DEV_1041", &format!("DEV_10{number:02}")))
            .unwrap();
    }
    let start = |arguments: &[&str]| {
        let mut gravure = Command::new(env!("CARGO_BIN_EXE_gravure"));
        gravure.current_dir(dir).args(in_repository(arguments)).stdout(std::process::Stdio::null());
        gravure.spawn().unwrap()
    };
    let any = "--allow-unsigned";
    ok(dir, &in_repository(&["driver", "add", &path(0), any]));
    let first = json(dir, &in_repository(&["driver", "list"]))[0]["id"].as_str().unwrap().to_owned();
    // The first goes while 23 others come, by themselves and in directories. All have one driver.
    let mut running: Vec<std::process::Child> =
        (1..20).map(|number| start(&["driver", "add", &path(number), any])).collect();
    running.push(start(&["driver", "remove", &first]));
    running.push(start(&["driver", "add", "pack-20", "pack-21", "pack-22", "pack-23", any]));
    for mut gravure in running {
        assert!(gravure.wait().unwrap().success());
    }
    let devices: Vec<String> = (0..24)
        .map(|number| {
            format!(
                "{{\"bus\":\"pci\",\"place\":\"{number}\",\"hardware_ids\":[\"PCI\\\\VEN_1AF4&DEV_10{number:02}\"],\"compatible_ids\":[]}}"
            )
        })
        .collect();
    std::fs::write(dir.join("pc.json"), inventory_with(&devices.join(","))).unwrap();
    let before = std::fs::read(dir.join("repository/index.sqlite")).unwrap();
    let found =
        json(dir, &in_repository(&["driver", "match", "--inventory", "pc.json", "--os", "10.0.22631"]));
    for (number, device) in found.as_array().unwrap().iter().enumerate() {
        let packages = device["candidates"].as_array().unwrap();
        assert_eq!(packages.len(), usize::from(number != 0), "{number}: {device}");
    }
    let export = ["driver", "export", "--inventory", "pc.json", "--os", "10.0.22631", "-o", "out"];
    assert_eq!(ok(dir, &in_repository(&export)).lines().count(), 23);
    // What was written last is the index of all of them: nobody has to make it anew.
    assert!(std::fs::read(dir.join("repository/index.sqlite")).unwrap() == before);
}

#[test]
fn a_vendors_catalogue_says_which_pack_is_for_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let catalogue = "<ModelList version=\"1.0\"><Model name=\"ThinkPad T14\"><Types><Type>20S0</Type><Type>20S1</Type></Types>\
        <SCCM os=\"win11\" version=\"24H2\" date=\"2025-01-01\" crc=\"ABCD\" md5=\"ef\">https://vendor/t14.exe</SCCM></Model></ModelList>";
    std::fs::write(dir.join("catalogv2.xml"), catalogue).unwrap();
    std::fs::create_dir(dir.join("repository")).unwrap();
    let said = ok(dir, &["driver", "catalogue", "import", "catalogv2.xml", "--repository", "repository"]);
    assert_eq!(said, "catalogv2.xml: lenovo, 1 packs\n");
    let find =
        ["driver", "catalogue", "find", "--repository", "repository", "--vendor", "lenovo", "--key", "20s0"];
    let found = json(dir, &find);
    assert_eq!(
        (found[0]["url"].as_str(), found[0]["sha256"].as_str()),
        (Some("https://vendor/t14.exe"), Some("abcd"))
    );
    let (code, error) = fails(dir, &[&find[..], &["--windows", "10"]].concat());
    assert_eq!(code, 3, "{error}");
    // What is out of the pack, by its file name, is noted for all models that the catalogue says it is for.
    std::fs::create_dir(dir.join("unpacked")).unwrap();
    std::fs::write(dir.join("unpacked/net.inf"), INF.replace("DATE", "01/31/2020,1.0").replace("START", "3"))
        .unwrap();
    std::fs::write(dir.join("unpacked/net.sys"), b"MZ").unwrap();
    let add = in_repository(&["driver", "add", "unpacked", "--allow-unsigned", "--pack"]);
    let with = |pack: &'static str| [&add[..5], &[pack], &add[5..]].concat();
    let (code, error) = fails(dir, &with("14.exe"));
    assert!(code == 3 && error.contains("no catalogue in the repository has a pack"), "{code}: {error}");
    assert_eq!(json(dir, &in_repository(&["driver", "list"])).as_array().map(Vec::len), Some(0));
    let said = ok(dir, &with("T14.exe"));
    assert!(said.ends_with("0 refused\nof the pack of lenovo:20S0, lenovo:20S1\n"), "{said}");
    for (model, count) in [("lenovo:20S0", 1), ("lenovo:20s1", 1), ("lenovo:20S2", 0)] {
        let listed = json(dir, &in_repository(&["driver", "list", "--model", model]));
        assert_eq!(listed.as_array().map(Vec::len), Some(count), "{model}: {listed}");
    }
    let (code, error) = fails(
        dir,
        &["driver", "catalogue", "find", "--repository", "repository", "--vendor", "dell", "--key", "0B98"],
    );
    assert!(code == 3 && error.contains("import"), "{error}");
    std::fs::write(dir.join("bad.xml"), "<a/>").unwrap();
    assert_eq!(fails(dir, &["driver", "catalogue", "import", "bad.xml", "--repository", "repository"]).0, 5);
}
