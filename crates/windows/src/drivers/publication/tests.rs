//! Records of publications compared with those that Windows itself wrote into real registries.

use std::collections::{BTreeMap, BTreeSet};

use gravure_hive::{Hive, Key};

use super::*;

/// A hive of the corpus; `None` after a loud skip.
fn hive(name: &str) -> Option<Hive> {
    let shared = gravure_testkit::shared_dir()?;
    let mut xz = gravure_testkit::oracle("xz")?;
    let path = shared.join("corpus/hives/regipy").join(format!("{name}.xz"));
    let output = xz.arg("-dkc").arg(path).output().unwrap();
    assert!(output.status.success(), "{name}");
    Some(Hive::parse(output.stdout).unwrap())
}

/// Keys in lower case with their values; a key alone has an entry without value.
type Records = BTreeMap<(String, Option<String>), Option<(u32, Vec<u8>)>>;

fn below(hive: &Hive, path: &str) -> Records {
    let root: Key<'_> = hive.open(path).unwrap();
    let start = hive.path(hive.root().unwrap().id()).unwrap().len();
    let mut out = Records::new();
    for step in hive.walk_from(root.id()) {
        let (key, _) = step.unwrap();
        let path = hive.path(key.id()).unwrap();
        let path = path.get(start..).unwrap_or_default().trim_start_matches('\\').to_lowercase();
        let mut is_empty = true;
        for value in key.values().unwrap() {
            let value = value.unwrap();
            let data = value.data().unwrap();
            is_empty = false;
            let name = value.name().to_string().to_lowercase();
            out.insert((path.clone(), Some(name)), Some((data.kind.0, data.bytes)));
        }
        if is_empty && key.subkey_count() == 0 {
            out.insert((path, None), None);
        }
    }
    out
}

/// `DeviceIds` rows of one INF file.
fn device_ids(hive: &Hive, inf: &str) -> Records {
    let all = below(hive, &format!("{DATABASE}\\DeviceIds"));
    all.into_iter().filter(|((_, name), _)| name.as_deref() == Some(inf)).collect()
}

fn of_entries(entries: &[RecordEntry]) -> Records {
    let one = |entry: &RecordEntry| {
        let key = entry.key.to_lowercase();
        match &entry.value {
            Some((name, data)) => ((key, Some(name.to_lowercase())), Some((data.kind.0, data.bytes.clone()))),
            None => ((key, None), None),
        }
    };
    entries.iter().map(one).collect()
}

/// Written for this test after what the registry says of VMware's package; the package itself is nowhere here.
const VMCI: &str = include_str!("../../../tests/data/vmci.inf");

fn publication<'a>(inf: &'a Inf, target: Target, published: &str, package: &str) -> Publication<'a> {
    let models = inf.models(&target).into_iter();
    Publication {
        inf,
        target,
        published: published.into(),
        original: "vmci.inf".into(),
        package: package.into(),
        catalog: Some("vmci.cat".into()),
        signer: Some("Microsoft Windows Hardware Compatibility Publisher".into()),
        is_hardware_signed: true,
        submission: Some("30099670_13775747945341929_1152921504628131380".into()),
        origin: "C:\\Program Files\\Common Files\\VMware\\Drivers\\vmci\\device\\Win8".into(),
        now: FileTime(0x01d5_e245_87b5_d840),
        config_scope: None,
        models: models.map(|model| (model.clone(), inf.install(&model, &target).unwrap())).collect(),
    }
}

#[test]
fn every_record_of_a_package_that_windows_published_is_equal() {
    let Some(hive) = hive("SYSTEM_WIN_10_1709") else { return };
    let inf = Inf::parse(VMCI.as_bytes()).unwrap();
    let target = Target::client(Arch::Amd64, "10.0.18362".parse().unwrap());
    let package = "vmci.inf_amd64_5e38a278d114b813";
    let ours = of_entries(&publication(&inf, target, "oem2.inf", package).entries());
    let mut windows = below(&hive, &format!("{DATABASE}\\DriverPackages\\{package}"));
    windows.extend(below(&hive, &format!("{DATABASE}\\DriverInfFiles\\oem2.inf")));
    windows.extend(device_ids(&hive, "oem2.inf"));
    let keys = |records: &Records| records.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&ours), keys(&windows));
    for (key, expected) in &windows {
        assert_eq!(&ours[key], expected, "{key:?}");
    }
    assert!(windows.len() > 30, "{}", windows.len());

    // The service, but for its place among others of its group and the copy that waits for a restart.
    let install = inf.install(&inf.models(&target)[0], &target).unwrap();
    let service = install.function_driver().unwrap();
    let key = hive.open("ControlSet001\\Services\\vmci").unwrap();
    for (name, data) in service_values(&inf, service, "oem2.inf", Some("System32\\drivers\\vmci.sys")) {
        let stored = key.data(&name).unwrap();
        assert_eq!(stored, Some(data), "{name}");
    }
    // As a source of the event log.
    let source = service.event_source.as_ref().unwrap();
    let key = format!("ControlSet001\\Services\\EventLog\\{}\\{}", source.log, source.name);
    let mut ours = Records::new();
    for entry in &source.registry {
        let data = data_of(entry.data.as_ref().unwrap());
        let place = (String::new(), Some(entry.value.to_lowercase()));
        ours.insert(place, Some((data.kind.0, data.bytes)));
    }
    let windows: Records =
        below(&hive, &key).into_iter().map(|((_, name), data)| ((String::new(), name), data)).collect();
    assert_eq!((ours.len(), &ours), (2, &windows));
}

/// Written for this test after what the registry says of VMware's package and of Windows' own for mice.
const USB_MOUSE: &str = include_str!("../../../tests/data/vmusbmouse.inf");
const MICE: &str = include_str!("../../../tests/data/msmouse.inf");

#[test]
fn a_package_that_needs_sections_of_windows_own_has_them_as_windows_wrote_them() {
    let Some(hive) = hive("SYSTEM_WIN_10_1709") else { return };
    let (inf, mice) = (Inf::parse(USB_MOUSE.as_bytes()).unwrap(), Inf::parse(MICE.as_bytes()).unwrap());
    let target = Target::client(Arch::Amd64, "10.0.18362".parse().unwrap());
    let package = "vmusbmouse.inf_amd64_64ac7a0aab2a032c";
    let model = inf.models(&target).remove(0);
    let install = inf.install_with(&model, &target, &[("msmouse.inf", &mice)]).unwrap();
    assert_eq!((install.needs_elsewhere.as_slice(), install.notes.as_slice()), (&[][..], &[][..]));
    let publication = Publication {
        original: "vmusbmouse.inf".into(),
        catalog: Some("vmusbmouse.cat".into()),
        submission: Some("30099670_14599792264229480_1152921504628131539".into()),
        origin: "C:\\Program Files\\Common Files\\VMware\\Drivers\\mouse\\Win8".into(),
        now: FileTime(0x01d5_e245_8ce3_6030),
        models: vec![(model, install)],
        ..publication(&inf, target, "oem0.inf", package)
    };
    let ours = of_entries(&publication.entries());
    let mut windows = below(&hive, &format!("{DATABASE}\\DriverPackages\\{package}"));
    windows.extend(below(&hive, &format!("{DATABASE}\\DriverInfFiles\\oem0.inf")));
    windows.extend(device_ids(&hive, "oem0.inf"));
    // A device that the package gives no driver.
    windows.retain(|(key, _), _| !key.ends_with("&mi_01"));
    assert_eq!(ours, windows);
    assert!(windows.len() > 30, "{}", windows.len());
}

/// What Windows keeps apart from the values of a device, in all configurations of two real hives.
#[test]
fn properties_of_devices_stand_where_windows_keeps_them() {
    let (mut filters, mut descriptors, mut numbers) = (0, 0, 0);
    for name in ["SYSTEM_WIN_10_1709", "SYSTEM_2"] {
        let Some(hive) = hive(name) else { return };
        for ((key, value), data) in below(&hive, &format!("{DATABASE}\\DriverPackages")) {
            let (Some(value), Some((kind, bytes))) = (value, data) else { continue };
            let parts: Vec<&str> = key.split('\\').collect();
            let Some(at) = parts.iter().position(|part| *part == "configurations") else { continue };
            let below = parts[at + 2..].join("\\");
            let entry = |name: &str, data: RegData| RegEntry {
                root: Root::Relative,
                key: String::new(),
                value: name.to_owned(),
                flags: 0,
                data: Some(data),
                line: 1,
            };
            let at = |below: String, value: &str| {
                Apart::At(below, value.to_owned(), Data { kind: ValueType(kind), bytes: bytes.clone() })
            };
            let own = |number: &str| format!("Properties\\{DEVICE_PROPERTIES}\\{number}");
            match (below.as_str(), value.as_str()) {
                ("", "upperfilters" | "lowerfilters") => {
                    let names = Data { kind: ValueType(kind), bytes: bytes.clone() }.as_multi().unwrap();
                    let names = names.iter().map(ToString::to_string).collect();
                    let ours = kept_apart(&entry(&value, RegData::MultiSz(names)), Part::Device);
                    assert_eq!(ours, Some(at(String::new(), &value)));
                    filters += 1;
                }
                ("properties\\{a45c254e-df1c-4efd-8020-67d146a850e0}\\0019", "") => {
                    let sddl = SecurityDescriptor::parse(&bytes).unwrap().to_sddl().unwrap();
                    let ours = kept_apart(&entry("Security", RegData::Sz(sddl.clone())), Part::Device);
                    assert_eq!(ours, Some(at(own("0019"), "")), "{sddl}");
                    descriptors += 1;
                }
                ("properties\\{a45c254e-df1c-4efd-8020-67d146a850e0}\\001d", "") => {
                    let number = u32::from_le_bytes(bytes.as_slice().try_into().unwrap());
                    let ours =
                        kept_apart(&entry("DeviceCharacteristics", RegData::Dword(number)), Part::Device);
                    assert_eq!(ours, Some(at(own("001D"), "")));
                    numbers += 1;
                }
                ("device", _) => {
                    let ours = kept_apart(&entry(&value, RegData::Dword(0)), Part::Device);
                    assert_eq!(ours, None, "{key} {value}");
                }
                ("driver", _) => {
                    let ours = kept_apart(&entry(&value, RegData::Dword(0)), Part::Driver);
                    assert_eq!(ours, None, "{key} {value}");
                }
                _ => {}
            }
        }
    }
    assert!(filters > 50 && descriptors > 80 && numbers > 60, "{filters} {descriptors} {numbers}");
}

#[test]
fn what_has_another_form_than_was_seen_is_not_guessed() {
    let entry = |value: &str, flags, data| RegEntry {
        root: Root::Relative,
        key: String::new(),
        value: value.to_owned(),
        flags,
        data: Some(data),
        line: 1,
    };
    let filters = || RegData::MultiSz(vec!["f".into()]);
    for unknown in [
        entry("LowerFilters", reg_flags::APPEND, filters()),
        entry("UpperFilters", 0, RegData::Dword(1)),
        entry("Security", 0, RegData::Sz("D:nonsense".into())),
        entry("DeviceType", 0, RegData::Dword(1)),
        entry("FriendlyName", 0, RegData::Sz("x".into())),
    ] {
        assert_eq!(kept_apart(&unknown, Part::Device), Some(Apart::Unknown), "{}", unknown.value);
        assert_eq!(kept_apart(&unknown, Part::Driver), None);
    }
    let below = RegEntry { key: "Parameters".into(), ..entry("UpperFilters", 0, filters()) };
    assert_eq!(kept_apart(&below, Part::Device), None, "a value of that name in a key of its own");
    let pages = kept_apart(&entry("EnumPropPages32", 0, RegData::Sz("a.dll,b".into())), Part::Driver);
    let place = format!("Properties\\{DRIVER_PROPERTIES}\\000A");
    let data = Data { kind: PROPERTY_STRING, ..Data::sz("a.dll,b") };
    assert_eq!(pages, Some(Apart::At(place, String::new(), data)));
}

/// LSI's own package of another version than Windows has: what both say must be the same.
#[test]
fn a_real_package_is_described_as_windows_describes_its_relative() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let Some(hive) = hive("SYSTEM_WIN_10_1709") else { return };
    let path = "corpus/inf/DriverPackSolution+DP_MassStorage/LSI/FORCED/7x64/SAS_1.34.03/lsi_sas.inf";
    let inf = Inf::parse(&std::fs::read(shared.join(path)).unwrap()).unwrap();
    let target = Target::client(Arch::Amd64, "10.0.18362".parse().unwrap());
    let package = "lsi_sas.inf_amd64_74bb5e3e01cfd526";
    let ours = of_entries(&publication(&inf, target, "lsi_sas.inf", package).entries());
    let mut windows = below(&hive, &format!("{DATABASE}\\DriverPackages\\{package}"));
    windows.extend(device_ids(&hive, "lsi_sas.inf"));
    let own = ["version", "signerscore", "statusflags"];
    let (mut equal, mut other, mut absent) = (0, Vec::new(), Vec::new());
    for (key, data) in &ours {
        let name = key.1.as_deref().unwrap_or_default();
        let is_about_the_package = own.contains(&name) && !key.0.contains("\\configurations");
        match windows.get(key) {
            Some(_) if is_about_the_package => {}
            Some(found) if found == data => equal += 1,
            Some(_) => other.push(key.clone()),
            None => absent.push(key.clone()),
        }
    }
    // Texts and their tokens were numbered anew between the two; pci.inf came in.
    other.retain(|(key, name)| {
        let name = name.as_deref().unwrap_or_default();
        !key.ends_with("\\strings")
            && !["description", "manufacturer", "provider", "includedinfs"].contains(&name)
    });
    assert_eq!(other, []);
    assert!(equal >= 20, "{equal}");
    // This version names Dell's devices too, with texts for them, and is a package of its own; nothing else of it is unknown to Windows'
    // but one value.
    let of_the_package = ["catalog", "importdate", "infname", "oempath", "signername"];
    absent.retain(|(key, name)| {
        !key.contains("1028")
            && !key.contains("lsi_sas_dell_inst")
            && !key.contains("\\driverinffiles\\")
            && !key.contains("\\properties\\")
            && !key.ends_with("\\strings")
            && !of_the_package.contains(&name.as_deref().unwrap_or_default())
    });
    let absent: Vec<_> = absent.iter().filter_map(|(_, name)| name.as_deref()).collect();
    assert_eq!(absent, ["needssystemshutdownnotification"]);
}

/// Where the rule for `ConfigScope` comes from: all configurations of a real hive.
#[test]
fn the_scope_of_a_configuration_says_which_sections_it_has() {
    let Some(hive) = hive("SYSTEM_WIN_10_1709") else { return };
    let (mut configurations, mut with_device, mut odd) = (0, 0, Vec::new());
    for package in hive.open(&format!("{DATABASE}\\DriverPackages")).unwrap().subkeys().unwrap() {
        let package = package.unwrap();
        let Some(all) = package.subkey(&"Configurations".into()).unwrap() else { continue };
        for configuration in all.subkeys().unwrap() {
            let configuration = configuration.unwrap();
            let number = configuration.data("ConfigScope").unwrap().and_then(|data| data.as_number());
            let Some(scope) = number.and_then(|number| u32::try_from(number).ok()) else { continue };
            configurations += 1;
            assert!(scope & SCOPE_DRIVER != 0 && scope <= MAX_KNOWN_SCOPE, "{scope:#x}");
            if configuration.data("Service").unwrap().is_some() {
                assert!(scope & SCOPE_SERVICES != 0, "{} {scope:#x}", configuration.name());
            }
            if configuration.subkey(&"Device".into()).unwrap().is_some() {
                with_device += 1;
                if scope & SCOPE_DEVICE == 0 {
                    odd.push(configuration.name().to_string());
                }
            }
        }
    }
    assert!(configurations > 600 && with_device > 400, "{configurations} {with_device}");
    assert!(odd.len() <= 3, "{odd:?}");
}
