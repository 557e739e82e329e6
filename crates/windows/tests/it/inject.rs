//! Drivers injected into a small Windows in memory: what serves which device, what is written, and that it can be undone.
#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support;

use gravure_hive::Data;
use gravure_windows::drivers::{
    AddOptions, InjectOptions, Level, Publish, Repository, Served, Unsigned, inject, inject_with,
};
use gravure_windows::{Change, Finished, HiveFile, SetupState, WindowsImage};
use support::{NOW, device, dump, listing, nothing_outside, package, storage_inf, windows};

const RAID: &str = "PCI\\VEN_1AF4&DEV_1042";
const ALLOW: AddOptions = AddOptions { allow_unsigned: true, allow_incomplete: false };
const UNSIGNED: InjectOptions = InjectOptions { publish: Publish::Never, unsigned: Unsigned::Allow };

fn repository(dir: &std::path::Path) -> Repository {
    let mut repository = Repository::create(&dir.join("repository")).unwrap();
    repository.add(&package(dir, "raid", &storage_inf(RAID, 0)), ALLOW).unwrap();
    let net = storage_inf("PCI\\VEN_8086&DEV_15F3", 3)
        .replace("4d36e97b", "4d36e972")
        .replace("raid.sys", "net.sys")
        .replace("raid,2", "net,2");
    let path = package(dir, "net", &net);
    std::fs::write(dir.join("net/bin/net.sys"), b"MZ net").unwrap();
    repository.add(&path, ALLOW).unwrap();
    repository.commit().unwrap();
    repository
}

fn devices() -> Vec<gravure_model::inventory::Device> {
    let raid = [
        &format!("{RAID}&SUBSYS_00011AF4&REV_01")[..],
        &format!("{RAID}&SUBSYS_00011AF4"),
        &format!("{RAID}&CC_0100"),
    ];
    vec![
        device("0000:00:01.0", &raid, &[RAID, "PCI\\CC_0100"]),
        device("0000:00:02.0", &["PCI\\VEN_8086&DEV_2922&CC_0106"], &["PCI\\CC_0106"]),
        device("0000:00:03.0", &["PCI\\VEN_8086&DEV_15F3"], &["PCI\\CC_0200"]),
        device("0000:00:04.0", &["PCI\\VEN_9999&DEV_0001"], &[]),
    ]
}

#[test]
fn each_device_is_served_by_what_windows_would_take() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    assert_eq!((system.setup, system.version.to_string().as_str()), (SetupState::Generalized, "10.0.22631"));
    let report = inject(&mut image, &repository, &devices(), UNSIGNED).unwrap();
    let served: Vec<String> = report
        .devices
        .iter()
        .map(|report| match &report.served {
            Served::Image { driver } => format!("{} {:?}", driver.inf, driver.service),
            Served::Repository { candidate, level } => {
                format!("{} {level:?} {}", candidate.inf, candidate.matching_id)
            }
            Served::Nothing => "nothing".to_owned(),
        })
        .collect();
    let expected = [
        format!("raid.inf BootCritical {RAID}&SUBSYS_00011AF4"),
        "mshdc.inf Some(\"storahci\")".to_owned(),
        "net.inf Staged PCI\\VEN_8086&DEV_15F3".to_owned(),
        "nothing".to_owned(),
    ];
    assert_eq!(served, expected);
    assert_eq!(report.not_done, [""; 0]);

    // What the boot loader and plug and play go by.
    let dword = |image: &mut WindowsImage<'_>, key: &str, value: &str| {
        image.number(HiveFile::System, key, value).unwrap()
    };
    let service = "ControlSet001\\Services\\raid";
    assert_eq!(dword(&mut image, service, "Start"), Some(0));
    assert_eq!(dword(&mut image, &format!("{service}\\Parameters"), "BusType"), Some(8));
    assert_eq!(dword(&mut image, &format!("{service}\\Parameters\\PnpInterface"), "5"), Some(1));
    let text = |image: &mut WindowsImage<'_>, key: &str, value: &str| {
        image.text(HiveFile::System, key, value).unwrap().unwrap_or_default()
    };
    assert_eq!(text(&mut image, service, "ImagePath"), "System32\\drivers\\raid.sys");
    assert_eq!(text(&mut image, service, "DisplayName"), "@raid.inf,%dev%;RAID Controller");
    let row = |image: &mut WindowsImage<'_>, id: &str| {
        image.value(HiveFile::System, &format!("DriverDatabase\\DeviceIds\\{id}"), "raid.inf").unwrap()
    };
    assert_eq!(row(&mut image, RAID), Some(Data::binary(vec![1, 0xff, 0, 0])));
    assert_eq!(row(&mut image, &format!("{RAID}&REV_01")), Some(Data::binary(vec![2, 0xff, 0, 0])));
    let store = text(&mut image, "DriverDatabase\\DriverInfFiles\\raid.inf", "Active");
    let configuration = format!("DriverDatabase\\DriverPackages\\{store}\\Configurations\\Inst");
    assert_eq!(text(&mut image, &configuration, "Service"), "raid");
    // Settings of the device and a service.
    assert_eq!(dword(&mut image, &configuration, "ConfigScope"), Some(7));
    // The controller that Windows knows is awake again.
    assert!(!image.has_key(HiveFile::System, "ControlSet001\\Services\\storahci\\StartOverride").unwrap());
    // Our driver now is what the image itself would take: the database reads as it was written.
    let ids = gravure_inf::DeviceIds {
        hardware: devices()[0].hardware_ids.clone(),
        compatible: devices()[0].compatible_ids.clone(),
    };
    let found = image.drivers_for(&ids).unwrap();
    assert_eq!((found[0].inf.as_str(), found[0].rank.to_string().as_str()), ("raid.inf", "00ff0001"));
    assert_eq!((found[0].service.as_deref(), found[0].driver_version), (Some("raid"), [1, 2, 3, 4]));
    assert_eq!(found[0].date.as_deref(), Some("2024-03-04"));

    let path = image.text(HiveFile::Software, "Microsoft\\Windows\\CurrentVersion", "DevicePath").unwrap();
    assert_eq!(path.as_deref(), Some("%SystemRoot%\\inf;%SystemRoot%\\Gravure\\Drivers"));
    let (place, answers) = image.answer_file().unwrap().unwrap();
    assert_eq!(place, "Windows\\Panther\\unattend.xml");
    let commands = answers.commands_in_specialize();
    assert!(commands[0].contains("pnputil.exe /add-driver"), "{commands:?}");
    assert_eq!(commands.len(), 1);

    let Finished { outside, changes } = image.finish("drivers").unwrap();
    let mut to: Vec<&str> = outside.iter().map(|file| file.to.as_str()).collect();
    to.sort_unstable();
    let staged = |name: &str| {
        let package = report.packages.iter().find(|package| package.inf == format!("{name}.inf")).unwrap();
        package.directory.clone()
    };
    let mut expected = vec!["Windows\\System32\\drivers\\raid.sys".to_owned()];
    for (name, driver) in [("raid", "raid"), ("net", "net")] {
        let dir = staged(name);
        expected.extend([
            format!("{dir}\\{name}.inf"),
            format!("{dir}\\raid.cat"),
            format!("{dir}\\bin\\{driver}.sys"),
        ]);
    }
    expected.sort_unstable();
    assert_eq!(to, expected);
    for file in &outside {
        assert!(changes.contains(&Change::FileAdded { path: file.to.clone() }), "{file:?}");
        assert!(file.source.is_file());
    }
}

#[test]
fn a_second_run_changes_nothing_and_undoing_gives_the_image_back() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let mut tree = windows();
    let before = (listing(&tree), dump(&tree, HIVE), dump(&tree, SOFTWARE));
    let run = |tree: &mut gravure_tree::Tree| {
        let mut image = WindowsImage::open(tree, &nothing_outside, NOW).unwrap();
        inject(&mut image, &repository, &devices(), UNSIGNED).unwrap();
        image.finish("drivers").unwrap()
    };
    let first = run(&mut tree);
    assert!(first.changes.len() > 40);
    // The engine would have added the files.
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    for file in &first.outside {
        image.write_file(&file.to, std::fs::read(&file.source).unwrap()).unwrap();
    }
    image.finish("files").unwrap();
    let after = (dump(&tree, HIVE), dump(&tree, SOFTWARE));
    let second = run(&mut tree);
    let kinds: Vec<String> = second.changes.iter().map(|change| change.describe(false)).collect();
    assert_eq!(kinds, [""; 0]);
    assert_eq!((dump(&tree, HIVE), dump(&tree, SOFTWARE)), after);

    for what in ["files", "drivers"] {
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        assert_eq!(image.undo_last().unwrap().what, what);
        assert_eq!(image.finish("undo").unwrap().changes, []);
    }
    // Key by key and value by value; the bytes of a hive are free space in another order.
    let without_hives =
        |list: Vec<String>| list.into_iter().filter(|line| !line.contains("/config/S")).collect::<Vec<_>>();
    assert_eq!(without_hives(listing(&tree)), without_hives(before.0));
    assert_eq!((dump(&tree, HIVE), dump(&tree, SOFTWARE)), (before.1, before.2));
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    assert_eq!(
        image.undo_last().unwrap_err().to_string(),
        "record of changes Windows\\Gravure\\changes not found"
    );
}

#[test]
fn packages_of_the_models_pack_go_in_without_a_device() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let ids: Vec<String> = repository.packages().unwrap().into_iter().map(|package| package.id).collect();
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let none = [device("0000:00:04.0", &["PCI\\VEN_9999&DEV_0001"], &[])];
    let report = inject_with(&mut image, &repository, &none, &ids, UNSIGNED).unwrap();
    assert!(matches!(report.devices[0].served, Served::Nothing));
    let mut staged: Vec<(&str, Level)> =
        report.packages.iter().map(|package| (package.inf.as_str(), package.level)).collect();
    staged.sort();
    assert_eq!(staged, [("net.inf", Level::Staged), ("raid.inf", Level::Staged)]);
    // Nothing of them starts by itself: that is for devices that are there.
    assert!(!image.has_key(HiveFile::System, "ControlSet001\\Services\\raid").unwrap());
    let Finished { outside, .. } = image.finish("drivers").unwrap();
    assert!(
        outside.iter().any(|file| file.to.contains("Gravure\\Drivers\\net_") && file.to.ends_with("net.sys"))
    );
    // Unsigned ones need the word for it, an id that is nowhere is an error.
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let report = inject_with(&mut image, &repository, &none, &ids, InjectOptions::default()).unwrap();
    assert_eq!(report.packages, []);
    let missing = ["0".repeat(64)];
    assert!(inject_with(&mut image, &repository, &none, &missing, UNSIGNED).is_err());
}

const HIVE: &str = "/Windows/System32/config/SYSTEM";
const SOFTWARE: &str = "/Windows/System32/config/SOFTWARE";

#[test]
fn unsigned_and_foreign_services_are_not_made_boot_critical() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let report = inject(&mut image, &repository, &devices()[..1], InjectOptions::default()).unwrap();
    assert!(matches!(&report.devices[0].served, Served::Repository { level: Level::Staged, .. }));
    assert_eq!(report.not_done.len(), 1);
    assert!(
        report.not_done[0].ends_with("Windows cannot start from it: bin/raid.sys is not signed"),
        "{report:?}"
    );
    assert!(!image.has_key(HiveFile::System, "ControlSet001\\Services\\raid").unwrap());

    let mut values = support::system_values();
    values.push(("ControlSet001\\Services\\raid", "Owners", Data::multi_sz(["other.inf"])));
    let mut other = support::tree(&[
        ("Windows\\System32\\config\\SYSTEM", support::hive(&values)),
        ("windows\\system32\\CONFIG\\software", support::hive(&support::software_values())),
    ]);
    let mut image = WindowsImage::open(&mut other, &nothing_outside, NOW).unwrap();
    let report = inject(&mut image, &repository, &devices()[..1], UNSIGNED).unwrap();
    assert!(report.not_done[0].contains("service raid belongs to other.inf"), "{report:?}");

    // A service of nobody is only taken when it is of the same file.
    let key = "ControlSet001\\Services\\raid";
    for (image_path, expected) in [
        (
            Some("system32\\DRIVERS\\backup.sys"),
            Some("service raid is there with system32\\DRIVERS\\backup.sys"),
        ),
        (Some("\\SystemRoot\\elsewhere\\raid.sys"), Some("belongs to no INF file: it is not taken")),
        (Some("\\SystemRoot\\System32\\drivers\\RAID.sys"), None),
        (None, None),
    ] {
        let mut values = support::system_values();
        values.push((key, "Start", Data::dword(3)));
        values.extend(image_path.map(|path| (key, "ImagePath", Data::expand_sz(path))));
        let mut other = support::tree(&[
            ("Windows\\System32\\config\\SYSTEM", support::hive(&values)),
            ("windows\\system32\\CONFIG\\software", support::hive(&support::software_values())),
        ]);
        let mut image = WindowsImage::open(&mut other, &nothing_outside, NOW).unwrap();
        let report = inject(&mut image, &repository, &devices()[..1], UNSIGNED).unwrap();
        match expected {
            Some(expected) => assert!(report.not_done[0].contains(expected), "{image_path:?}: {report:?}"),
            None => assert_eq!(report.not_done, [""; 0], "{image_path:?}"),
        }
    }
}

#[test]
fn a_simple_package_is_published_as_dism_would() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let options = InjectOptions { publish: Publish::WhereSimple, unsigned: Unsigned::Allow };
    let report = inject(&mut image, &repository, &devices(), options).unwrap();
    let levels: Vec<(&str, Level, Option<&str>)> =
        report.packages.iter().map(|p| (p.inf.as_str(), p.level, p.published.as_deref())).collect();
    for (inf, level, published) in &levels {
        // 0 and 1 are taken in the bitmap, 2 by a file.
        assert!(
            *level == Level::Published
                && published.is_some_and(|name| ["oem3.inf", "oem4.inf"].contains(&name)),
            "{inf}: {levels:?}"
        );
    }
    let published = |inf: &str| {
        report.packages.iter().find(|package| package.inf == inf).unwrap().published.clone().unwrap()
    };
    let (raid, net) = (published("raid.inf"), published("net.inf"));
    // Classes that are needed to start are in SYSTEM, others in DRIVERS.
    let active = |image: &mut WindowsImage<'_>, hive, name: &str| {
        image.text(hive, &format!("DriverDatabase\\DriverInfFiles\\{name}"), "Active").unwrap()
    };
    assert!(active(&mut image, HiveFile::System, &raid).unwrap().starts_with("raid.inf_amd64_"));
    assert_eq!(active(&mut image, HiveFile::Drivers, &raid), None);
    assert!(active(&mut image, HiveFile::Drivers, &net).unwrap().starts_with("net.inf_amd64_"));
    let map = image.value(HiveFile::System, "DriverDatabase", "OemInfMap").unwrap().unwrap();
    assert_eq!(map.bytes, [0xd8]);
    let store = active(&mut image, HiveFile::System, &raid).unwrap();
    let lock =
        "Microsoft\\Windows\\CurrentVersion\\Setup\\PnpLockdownFiles\\%SystemRoot%/System32/drivers/raid.sys";
    assert_eq!(image.number(HiveFile::Software, lock, "Class").unwrap(), Some(4));
    let source = image.text(HiveFile::Software, lock, "Source").unwrap().unwrap();
    assert_eq!(source, format!("%SystemRoot%\\System32\\DriverStore\\FileRepository\\{store}\\raid.sys"));
    let finished = image.finish("drivers").unwrap();
    for path in [
        format!("Windows\\System32\\DriverStore\\FileRepository\\{store}\\bin\\raid.sys"),
        format!("Windows\\INF\\{raid}"),
        format!(
            "Windows\\System32\\CatRoot\\{{F750E6C3-38EE-11D1-85E5-00C04FC295EE}}\\{}",
            raid.replace(".inf", ".cat")
        ),
        "Windows\\System32\\drivers\\raid.sys".to_owned(),
    ] {
        assert!(finished.outside.iter().any(|file| file.to == path), "{path}");
    }
}

/// What is published of a storage driver with more in its INF file for the event log, as `System\raid`; why it is not, else.
fn published_with(replace: &[(&str, &str)]) -> Result<Vec<(String, Data)>, String> {
    published_as("System\\raid", replace)
}

fn published_as(source: &str, replace: &[(&str, &str)]) -> Result<Vec<(String, Data)>, String> {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let inf = replace.iter().fold(storage_inf(RAID, 0), |inf, (from, to)| inf.replace(from, to));
    repository.add(&package(temp.path(), "raid", &inf), ALLOW).unwrap();
    repository.commit().unwrap();
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let options = InjectOptions { publish: Publish::WhereSimple, unsigned: Unsigned::Allow };
    let report = inject(&mut image, &repository, &devices()[..1], options).unwrap();
    let log = format!("ControlSet001\\Services\\EventLog\\{source}");
    match report.packages[0].level {
        Level::Published if image.has_key(HiveFile::System, &log).unwrap() => {
            let values = ["EventMessageFile", "TypesSupported"];
            let value =
                |name: &str| Some((name.to_owned(), image.value(HiveFile::System, &log, name).unwrap()?));
            Ok(values.into_iter().filter_map(value).collect())
        }
        Level::Published => Ok(Vec::new()),
        _ => Err(report.devices[0].notes.join("; ")),
    }
}

#[test]
fn event_sources_of_services_are_published_and_their_security_is_not_guessed() {
    let service = "AddService=raid,2,svc";
    let log = "[log]\nAddReg=log.reg\n[log.reg]\nHKR,,EventMessageFile,0x20000,\"%%SystemRoot%%\\System32\\IoLogMsg.dll\"\n\
               HKR,,TypesSupported,0x10001,7\n[files]\n";
    assert_eq!(published_with(&[]), Ok(Vec::new()));
    let published = published_with(&[(service, "AddService=raid,2,svc,log"), ("[files]\n", log)]);
    let expected = [
        ("EventMessageFile".to_owned(), Data::expand_sz("%SystemRoot%\\System32\\IoLogMsg.dll")),
        ("TypesSupported".to_owned(), Data::dword(7)),
    ];
    assert_eq!(published.unwrap(), expected);
    let named = [(service, "AddService=raid,2,svc,log,Application,Controllers"), ("[files]\n", log)];
    assert_eq!(published_as("Application\\Controllers", &named).unwrap(), expected);
    assert_eq!(published_with(&named), Ok(Vec::new()));
    for (replace, expected) in [
        (
            [("ErrorControl=1\n", "ErrorControl=1\nSecurity=\"D:(A;;GA;;;SY)\"\n"), (service, service)],
            "service raid has Security of its own",
        ),
        (
            [(service, "AddService=raid,2,svc,nowhere"), ("x", "x")],
            "section [nowhere] for the event log is missing",
        ),
        (
            [(service, "AddService=raid,2,svc,log,System,..\\..\\x"), ("[files]\n", log)],
            "event source \"..\\\\..\\\\x\" of log \"System\"",
        ),
        (
            [(service, "AddService=raid,2,svc,log"), ("[files]\n", "[log]\nDelReg=gone\n[files]\n")],
            "has DelReg",
        ),
        (
            [
                (service, "AddService=raid,2,svc,log"),
                ("[files]\n", "[log]\nAddReg=all\n[all]\nHKLM,SOFTWARE\\x,y,,z\n[files]\n"),
            ],
            "an entry of the whole machine below the event source",
        ),
        (
            [
                (service, "AddService=raid,2,svc,log"),
                ("[files]\n", "[log]\nAddReg=odd\n[odd]\nHKR,,y,0x20,z\n[files]\n"),
            ],
            "an unusual registry entry",
        ),
    ] {
        let why = published_with(&replace).unwrap_err();
        assert!(why.starts_with("not published: [Inst]") && why.contains(expected), "{expected}: {why}");
    }
}

/// What is needed of Windows' own files is taken from those that the image has.
#[test]
fn sections_of_windows_own_files_are_published_where_the_image_has_them() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let inf = storage_inf(RAID, 0)
        .replace("[Inst]\n", "[Inst]\nInclude=Machine.inf\nNeeds=Shared\n")
        .replace("AddService=raid,2,svc", "AddService=raid,2,svc\nNeeds=Shared.Services");
    repository.add(&package(temp.path(), "raid", &inf), ALLOW).unwrap();
    repository.commit().unwrap();
    let machine = "[Version]\nSignature=$Windows NT$\n[Shared]\nInclude=pci.inf\nNeeds=Deep\nCopyFiles=@own.sys\n\
                   [Shared.Services]\nAddService=SERVICE,,s\n[s]\nServiceType=1\nServiceBinary=%12%\\own.sys\n";
    let pci = "[Version]\nSignature=$Windows NT$\n[Deep]\nAddReg=deep\n[deep]\nHKR,,FromWindows,0x10001,7\n";
    let options = InjectOptions { publish: Publish::WhereSimple, unsigned: Unsigned::Allow };
    for (service, files, why_not) in [
        ("storahci", 2, None),
        ("storahci", 1, Some("[Inst] needs section Deep of machine.inf or pci.inf, which")),
        ("storahci", 0, Some("[Inst] needs section Shared of machine.inf, which")),
        ("absent", 2, Some("service absent of machine.inf is not in this Windows")),
    ] {
        let machine = machine.replace("SERVICE", service);
        let mut tree = windows();
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        for (name, text) in [("machine.inf", machine.as_str()), ("PCI.INF", pci)].into_iter().take(files) {
            image.write_file(&format!("Windows\\INF\\{name}"), text.as_bytes().to_vec()).unwrap();
        }
        let report = inject(&mut image, &repository, &devices()[..1], options).unwrap();
        let why = report.devices[0].notes.join("; ");
        let Some(expected) = why_not else {
            assert_eq!(report.packages[0].level, Level::Published, "{why}");
            let published = report.packages[0].published.as_deref().unwrap();
            let active = format!("DriverDatabase\\DriverInfFiles\\{published}");
            let store = image.text(HiveFile::System, &active, "Active").unwrap().unwrap();
            let key = format!("DriverDatabase\\DriverPackages\\{store}\\Configurations\\Inst");
            let included = image.value(HiveFile::System, &key, "IncludedInfs").unwrap();
            assert_eq!(included, Some(Data::multi_sz(["machine.inf", "pci.inf"])));
            let driver = format!("{key}\\Driver");
            assert_eq!(image.number(HiveFile::System, &driver, "FromWindows").unwrap(), Some(7));
            // Windows' own service is left as it is, with its driver.
            let own = "ControlSet001\\Services\\storahci";
            let owners = image.value(HiveFile::System, own, "Owners").unwrap();
            assert_eq!(owners, Some(Data::multi_sz(["mshdc.inf"])));
            assert!(!image.exists("Windows\\System32\\drivers\\own.sys"));
            continue;
        };
        assert!(report.packages[0].level != Level::Published && why.contains(expected), "{expected}: {why}");
    }
}

/// Nothing is guessed: what is not simple stays at the level below, and the report says what keeps it there.
#[test]
fn what_is_not_simple_enough_to_be_published_is_named() {
    for (replace, expected) in [
        (("[Inst]\n", "[Inst]\nDelFiles=files\n"), "[Inst] has DelFiles"),
        (
            ("[Inst]\n", "[Inst]\nInclude=pci.inf\nNeeds=PCI_DRV\n"),
            "[Inst] needs section PCI_DRV of pci.inf, which this Windows does not have",
        ),
        (("[Inst]\n", "[Inst]\nNeeds=Absent\n"), "[Inst] needs section Absent, which it does not have, and"),
        (("[hw]\n", "[hw]\nHKR,,FriendlyName,,x\n"), "where Windows keeps FriendlyName is not known"),
        (("files=12", "files=66000"), "[Inst] copies to "),
        (("[hw]\n", "[hw]\nHKCU,x,y,,z\n"), "an unusual registry entry"),
        (("[hw]\n", "[hw]\nHKR,x,y,0x4\n"), "an unusual registry entry"),
        (("[hw]\n", "[hw]\nHKR,x,y,0x4000,z\n"), "an unusual registry entry"),
        (("[params]\n", "[params]\nHKR,x,y,0x20,z\n"), "an unusual registry entry"),
        (("[hw]\n", "[hw]\nHKLM,SOFTWARE\\x,y,,z\n"), "an entry of the whole machine below the device"),
        (("%12%\\raid.sys", "%66000%\\raid.sys"), "service raid is elsewhere"),
        (("%12%\\raid.sys", "%12%\\other.sys"), "service raid is none of its own files"),
        (
            (
                "[svc]\nServiceType=1\nStartType=3",
                "AddService=raid2,,svc2\n[svc2]\nServiceType=1\nStartType=0\nErrorControl=1\nServiceBinary=%12%\\raid.sys\n\
                 [svc]\nServiceType=1\nStartType=0",
            ),
            "2 services start at boot",
        ),
        (("ClassGuid={4d36e97b-e325-11ce-bfc1-08002be10318}\n", ""), "no class"),
    ] {
        // Not needed to start, so that only publishing looks at it.
        let why = published_with(&[("StartType=0", "StartType=3"), replace]).unwrap_err();
        assert!(why.starts_with("not published: ") && why.contains(expected), "{expected}: {why}");
    }
}

/// Windows 11 means more by `ConfigScope` than is known: new packages get what its own have.
#[test]
fn a_scope_that_is_not_understood_is_the_one_of_the_images_own_packages() {
    let temp = tempfile::tempdir().unwrap();
    let repository = repository(temp.path());
    let mut values = support::system_values();
    values.retain(|(_, value, _)| *value != "ConfigScope");
    values.push((
        "DriverDatabase\\DriverPackages\\mshdc.inf_amd64_1\\Configurations\\ahci",
        "ConfigScope",
        Data::dword(0xf7f),
    ));
    let mut tree = support::tree(&[
        ("Windows\\System32\\config\\SYSTEM", support::hive(&values)),
        ("Windows\\System32\\config\\SOFTWARE", support::hive(&support::software_values())),
    ]);
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    inject(&mut image, &repository, &devices()[..1], UNSIGNED).unwrap();
    let store =
        image.text(HiveFile::System, "DriverDatabase\\DriverInfFiles\\raid.inf", "Active").unwrap().unwrap();
    let key = format!("DriverDatabase\\DriverPackages\\{store}\\Configurations\\Inst");
    assert_eq!(image.number(HiveFile::System, &key, "ConfigScope").unwrap(), Some(0xf7f));
}

/// A device's driver, two versions of an extension, one of another that has a component made, and that component's package.
fn with_extensions(dir: &std::path::Path) -> Repository {
    let mut repository = Repository::create(&dir.join("repository")).unwrap();
    let text = |class: &str, version: &str, id: &str, more: &str| {
        format!(
            "[Version]\nSignature=\"$Windows NT$\"\nClass=X\nClassGuid={class}\nProvider=%m%\nDriverVer=03/04/2024,{version}\n\
             {more}[Manufacturer]\n%m%=M,NTamd64\n[M.NTamd64]\n%m%=Inst,{id}\n[Inst]\nAddReg=r\n[r]\nHKR,,A,,x\n\
             [Strings]\nm=\"Maker\"\n"
        )
    };
    let (net, extension) =
        ("{4d36e972-e325-11ce-bfc1-08002be10318}", "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}");
    let component = "{5c4c3332-344d-483c-8739-259e934c9cc8}";
    let of = |number: u8| format!("ExtensionId={{00000000-0000-0000-0000-00000000000{number}}}\n");
    let makes = "[Inst.Components]\nAddComponent=tool,,made\n[made]\nComponentIDs=VEN_8086&TOOL\n";
    for (name, text) in [
        ("net", text(net, "1.0.0.0", NIC, "")),
        ("old", text(extension, "1.0.0.0", NIC, &of(1))),
        ("new", text(extension, "2.0.0.0", NIC, &of(1))),
        ("other", text(extension, "1.0.0.0", NIC, &of(2)) + makes),
        ("tool", text(component, "1.0.0.0", "SWC\\VEN_8086&TOOL", "")),
        ("unrelated", text(component, "1.0.0.0", "SWC\\VEN_8086&OTHER", "")),
    ] {
        let path = dir.join(format!("{name}.inf"));
        std::fs::write(&path, text).unwrap();
        repository.add(&path, ALLOW).unwrap();
    }
    repository.commit().unwrap();
    repository
}

const NIC: &str = "PCI\\VEN_8086&DEV_15F3";

#[test]
fn the_best_of_each_extension_goes_in_and_what_it_has_windows_make() {
    let temp = tempfile::tempdir().unwrap();
    let repository = with_extensions(temp.path());
    let devices = [device("0000:00:03.0", &[NIC], &["PCI\\CC_0200"])];
    let taken = |tree: &mut gravure_tree::Tree| {
        let mut image = WindowsImage::open(tree, &nothing_outside, NOW).unwrap();
        let report = inject(&mut image, &repository, &devices, UNSIGNED).unwrap();
        let mut names: Vec<String> = report.packages.iter().map(|package| package.inf.clone()).collect();
        names.sort();
        (names, report.devices[0].extensions.len(), report.devices[0].components.len())
    };
    let all = ["net.inf", "new.inf", "other.inf", "tool.inf"].map(str::to_owned).to_vec();
    assert_eq!(taken(&mut windows()), (all, 2, 1));

    // What Windows has published already is not laid beside it again; an older one is.
    for (version, expected) in [
        (3u16, &["net.inf", "other.inf", "tool.inf"][..]),
        (1, &["net.inf", "new.inf", "other.inf", "tool.inf"][..]),
    ] {
        let mut record = vec![0u8; 48];
        let class: gravure_nttypes::Guid = "e2f84ce7-8efa-411c-aa69-97454ca4cb57".parse().unwrap();
        record[8..24].copy_from_slice(&class.0);
        // The date of those in the repository.
        let date = gravure_nttypes::FileTime::from_unix(1_709_510_400, 0);
        record[24..32].copy_from_slice(&date.0.to_le_bytes());
        record[38..40].copy_from_slice(&version.to_le_bytes());
        let mut id = [0u8; 16];
        id[15] = 1;
        let package = "DriverDatabase\\DriverPackages\\oem0.inf_amd64_1";
        let mut values = support::system_values();
        values.push((
            "DriverDatabase\\DeviceIds\\PCI\\VEN_8086&DEV_15F3",
            "oem0.inf",
            Data::binary(vec![1, 0xff, 0, 0]),
        ));
        values.push(("DriverDatabase\\DriverInfFiles\\oem0.inf", "Active", Data::sz("oem0.inf_amd64_1")));
        values.push((package, "Version", Data::binary(record)));
        values.push((package, "ExtensionId", Data::binary(id.to_vec())));
        let mut tree = support::tree(&[
            ("Windows\\System32\\config\\SYSTEM", support::hive(&values)),
            ("Windows\\System32\\config\\SOFTWARE", support::hive(&support::software_values())),
        ]);
        let (names, ..) = taken(&mut tree);
        assert_eq!(names, expected, "version {version}");
    }
}
