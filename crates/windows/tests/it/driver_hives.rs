//! Real registries. Ranks: `DeviceIds` of a hive says which INF file names which ID as what, `Enum` which driver Windows took for
//! each device, and with which rank; from the first alone the second must follow. Publication: a package that Windows had published
//! is taken out and injected by us, and every record is compared.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gravure_hive::{Data, Editor, Hive, Key};
use gravure_inf::{DeviceIds, Model, Rank, Signer, rank};
use gravure_nttypes::NtName;
use gravure_testkit::signing::{Authority, program};
use gravure_tree::Origin;
use gravure_windows::drivers::{AddOptions, InjectOptions, Level, Publish, Repository, Unsigned, inject};
use gravure_windows::{Roots, WindowsImage};

use crate::support::{NOW, device, nothing_outside, tree};

/// Hives of the corpus with a driver database, and the least number of devices that must be compared.
const HIVES: [(&str, usize); 2] = [("SYSTEM_2", 15), ("SYSTEM_WIN_10_1709", 60)];

/// A place in `DeviceIds`: the ID as it is used there.
#[derive(Debug, Clone, Copy)]
struct Use {
    hardware: bool,
    compatible: bool,
    feature_score: u8,
    /// Index among the compatible IDs of its line.
    index: u8,
}

fn hive(name: &str) -> Option<Hive> {
    let shared = gravure_testkit::shared_dir()?;
    let mut xz = gravure_testkit::oracle("xz")?;
    let output =
        xz.arg("-dkc").arg(shared.join("corpus/hives/regipy").join(format!("{name}.xz"))).output().unwrap();
    assert!(output.status.success(), "{name}");
    Some(Hive::parse(output.stdout).unwrap())
}

fn text(key: &Key<'_>, name: &str) -> Option<String> {
    key.data(name).unwrap().and_then(|data| data.as_text()).map(|text| text.to_string())
}

/// `DeviceIds`: by ID and INF file.
fn device_ids(hive: &Hive) -> HashMap<(String, String), Use> {
    let root = hive.open("DriverDatabase\\DeviceIds").unwrap();
    let start = hive.path(root.id()).unwrap().len() + 1;
    let mut out = HashMap::new();
    for step in hive.walk_from(root.id()) {
        let (key, _) = step.unwrap();
        let path = hive.path(key.id()).unwrap();
        let id = path.get(start..).unwrap_or_default().to_uppercase();
        for value in key.values().unwrap() {
            let value = value.unwrap();
            let bytes = value.bytes().unwrap().to_vec();
            if let [mask, feature_score, index, _] = bytes[..] {
                let found = Use { hardware: mask & 1 != 0, compatible: mask & 2 != 0, feature_score, index };
                out.insert((id.clone(), value.name().to_string().to_lowercase()), found);
            }
        }
    }
    out
}

/// What `DeviceIds` knows as models: one per use.
fn models(id: &str, found: Use) -> Vec<Model> {
    let model = |hardware_id: Option<String>, compatible_ids: Vec<String>| Model {
        description: String::new(),
        manufacturer: String::new(),
        install: String::new(),
        hardware_id,
        compatible_ids,
        section: String::new(),
        line: 0,
    };
    let mut out = Vec::new();
    if found.hardware {
        out.push(model(Some(id.to_owned()), Vec::new()));
    }
    if found.compatible {
        let mut ids = vec!["NONE".to_owned(); usize::from(found.index)];
        ids.push(id.to_owned());
        out.push(model(None, ids));
    }
    out
}

#[test]
fn what_windows_chose_follows_from_the_ids_alone() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let table = std::fs::read_to_string(shared.join("corpus/vectors/device_rank.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    for (name, least) in HIVES {
        let Some(hive) = hive(name) else { return };
        let uses = device_ids(&hive);
        let files: BTreeSet<&String> = uses.keys().map(|(_, inf)| inf).collect();
        assert!(files.len() > 50, "{}", files.len());
        let (mut equal, mut best) = (0, 0);
        for row in rows.iter().filter(|row| row[0] == name) {
            let list = |text: &str| {
                text.split('|').filter(|id| !id.is_empty()).map(str::to_owned).collect::<Vec<_>>()
            };
            let device = DeviceIds { hardware: list(row[3]), compatible: list(row[4]) };
            let stored = Rank(u32::from_str_radix(row[8], 16).unwrap());
            let ids: BTreeSet<String> =
                device.hardware.iter().chain(&device.compatible).map(|id| id.to_uppercase()).collect();
            // Every file with every ID of the device; the lowest rank of each file.
            let mut ranks: HashMap<&str, Rank> = HashMap::new();
            for ((id, inf), found) in uses.iter().filter(|((id, _), _)| ids.contains(id)) {
                for model in models(id, *found) {
                    let Some((rank, _)) = rank(&model, found.feature_score, &device, Signer::Trusted) else {
                        continue;
                    };
                    let lowest = ranks.entry(inf.as_str()).or_insert(rank);
                    *lowest = (*lowest).min(rank);
                }
            }
            // Files of classes whose packages are in the other hive are not known here.
            let Some(chosen) = ranks.get(row[5].to_lowercase().as_str()) else { continue };
            assert_eq!(*chosen, stored, "{name}: {row:?}");
            equal += 1;
            best += usize::from(ranks.values().all(|rank| rank >= chosen));
        }
        eprintln!(
            "{name}: {} files, {} uses, {equal} ranks equal, {best} of them the best",
            files.len(),
            uses.len()
        );
        assert!(equal >= least, "{name}: {equal}");
        // Windows chose when it met the device; files that came later may rank better.
        assert!(best * 100 >= equal * 95, "{name}: {best} of {equal}");
    }
}

#[test]
fn the_database_version_is_the_targets() {
    let Some(hive) = hive("SYSTEM_2") else { return };
    let root = hive.open("DriverDatabase").unwrap();
    assert_eq!(root.data("Version").unwrap().and_then(|data| data.as_number()), Some(0x0603_0000));
    assert_eq!(text(&root, "Absent"), None);
}

/// The hive as if its logs, which the corpus lacks, had completed it.
fn completed(mut bytes: Vec<u8>) -> Vec<u8> {
    let primary: [u8; 4] = bytes[4..8].try_into().unwrap();
    bytes[8..12].copy_from_slice(&primary);
    let words = bytes[..508].as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    let sum = match words.fold(0, |sum, word| sum ^ word) {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    };
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Key and value in lower case, with type and bytes; a key without values and keys has an entry of its own.
type Records = BTreeMap<(String, Option<String>), Option<(u32, Vec<u8>)>>;

/// Everything below a key, by paths from there.
fn below(hive: &Hive, path: &str) -> Records {
    let root = hive.open(path).unwrap();
    let start = hive.path(root.id()).unwrap().len();
    let mut out = Records::new();
    for step in hive.walk_from(root.id()) {
        let (key, _) = step.unwrap();
        let place = hive.path(key.id()).unwrap().get(start..).unwrap_or_default().to_lowercase();
        let mut is_bare = key.subkey_count() == 0;
        for value in key.values().unwrap() {
            let (name, data) = (value.as_ref().unwrap().name().to_string(), value.unwrap().data().unwrap());
            out.insert((place.clone(), Some(name.to_lowercase())), Some((data.kind.0, data.bytes)));
            is_bare = false;
        }
        if is_bare {
            out.insert((place, None), None);
        }
    }
    out
}

/// Rows of `DeviceIds` that name an INF file, without that name.
fn rows_of(hive: &Hive, inf: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
    let all = below(hive, "DriverDatabase\\DeviceIds").into_iter();
    let named = all.filter(|((_, value), _)| value.as_deref() == Some(inf));
    named.filter_map(|((path, _), data)| Some((path, data?))).collect()
}

const PACKAGE: &str = "vmci.inf_amd64_5e38a278d114b813";

/// Windows' own records of the package, taken out of the hive.
struct Published {
    package: Records,
    inf_file: Records,
    rows: BTreeMap<String, (u32, Vec<u8>)>,
    service: Records,
}

fn published(hive: &Hive, package: &str, inf: &str) -> Published {
    Published {
        package: below(hive, &format!("DriverDatabase\\DriverPackages\\{package}")),
        inf_file: below(hive, &format!("DriverDatabase\\DriverInfFiles\\{inf}")),
        rows: rows_of(hive, inf),
        service: below(hive, "ControlSet001\\Services\\vmci"),
    }
}

#[test]
fn what_is_injected_into_a_real_registry_is_what_windows_had_published_there() {
    let Some(real) = hive("SYSTEM_WIN_10_1709") else { return };
    let windows = published(&real, PACKAGE, "oem2.inf");
    assert!(
        windows.package.len() > 25 && windows.rows.len() == 4,
        "{} {}",
        windows.package.len(),
        windows.rows.len()
    );

    // Nothing of it stays, and its number is free again.
    let clean = Hive::parse(completed(real.as_bytes().to_vec())).unwrap();
    let mut editor = Editor::new(clean, NOW).unwrap();
    for key in [
        format!("DriverDatabase\\DriverPackages\\{PACKAGE}"),
        "DriverDatabase\\DriverInfFiles\\oem2.inf".to_owned(),
        "ControlSet001\\Services\\vmci".to_owned(),
    ] {
        let id = editor.find(&key).unwrap().unwrap();
        editor.delete_key(id).unwrap();
    }
    for path in windows.rows.keys() {
        let id = editor.find(&format!("DriverDatabase\\DeviceIds{path}")).unwrap().unwrap();
        assert!(editor.delete_value(id, &NtName::from("oem2.inf")).unwrap(), "{path}");
    }
    let database = editor.find("DriverDatabase").unwrap().unwrap();
    let map = editor.key(database).unwrap().data("OemInfMap").unwrap().unwrap();
    let mut freed = map.clone();
    assert_ne!(freed.bytes[0] & 0x20, 0, "{map:?}");
    freed.bytes[0] &= !0x20;
    editor.set_value(database, &NtName::from("OemInfMap"), &freed).unwrap();

    let current = "Microsoft\\Windows NT\\CurrentVersion";
    let software = [
        (current, "CurrentMajorVersionNumber", Data::dword(10)),
        (current, "CurrentMinorVersionNumber", Data::dword(0)),
        (current, "CurrentBuildNumber", Data::sz("18362")),
        ("Microsoft\\Windows\\CurrentVersion", "DevicePath", Data::expand_sz("%SystemRoot%\\inf")),
    ];
    let drivers = crate::support::hive(&[("DriverDatabase", "Version", Data::dword(0x0a00_0000))]);
    let mut image_tree = tree(&[
        ("Windows\\System32\\config\\SYSTEM", editor.finish().unwrap()),
        ("Windows\\System32\\config\\SOFTWARE", crate::support::hive(&software)),
        ("Windows\\System32\\config\\DRIVERS", drivers),
    ]);

    // The package as VMware ships it, signed by somebody else.
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("vmci");
    std::fs::create_dir(&dir).unwrap();
    let inf = include_str!("../data/vmci.inf");
    let driver = program(b"vmci");
    let authority = Authority::new("Test Root");
    let signer = authority.signer("Test Signer");
    std::fs::write(dir.join("vmci.cat"), signer.catalog(&[inf.as_bytes(), &driver])).unwrap();
    std::fs::write(dir.join("vmci.sys"), driver).unwrap();
    std::fs::write(dir.join("vmci.inf"), inf).unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let mut roots = Roots::default();
    roots.add(authority.certificate()).unwrap();
    repository.require_roots(roots);
    repository.add(&dir.join("vmci.inf"), AddOptions::default()).unwrap();
    repository.commit().unwrap();
    let id = "PCI\\VEN_15AD&DEV_0740";
    let hardware = [&format!("{id}&SUBSYS_074015AD&REV_10")[..], &format!("{id}&SUBSYS_074015AD")];
    let devices = [device("0000:00:07.7", &hardware, &[&format!("{id}&REV_10"), id])];
    let options = InjectOptions { publish: Publish::WhereSimple, unsigned: Unsigned::Refuse };
    let mut image = WindowsImage::open(&mut image_tree, &nothing_outside, NOW).unwrap();
    let report = inject(&mut image, &repository, &devices, options).unwrap();
    let [package] = report.packages.as_slice() else { panic!("{report:?}") };
    assert_eq!(package.level, Level::Published, "{report:?}");
    let name = package.published.clone().unwrap();
    image.finish("drivers").unwrap();

    let node = image_tree.lookup("/Windows/System32/config/SYSTEM").unwrap();
    let Some(Origin::Inline(bytes)) = image_tree.node(node).data.as_ref().map(|data| &data.origin) else {
        panic!("SYSTEM is not in the tree");
    };
    let after = Hive::parse(bytes.to_vec()).unwrap();
    let active =
        text(&after.open(&format!("DriverDatabase\\DriverInfFiles\\{name}")).unwrap(), "Active").unwrap();
    let ours = published(&after, &active, &name);
    // Same fields, same types, same bytes. What names the package or its number says the same of our names; signature, origin and time
    // of import are the package's own.
    let spelled = |data: &Option<(u32, Vec<u8>)>| {
        data.as_ref().map(|(kind, bytes)| {
            let units: Vec<u16> =
                bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            let text = String::from_utf16_lossy(&units);
            let is_name =
                [active.as_str(), &name, PACKAGE, "oem2.inf"].iter().any(|known| text.contains(known));
            match is_name {
                true => (*kind, text.replace(PACKAGE, &active).replace("oem2.inf", &name).into_bytes()),
                false => (*kind, bytes.clone()),
            }
        })
    };
    let own = ["signername", "signerscore", "oempath", "importdate"];
    let mut compared = 0;
    for (ours, windows) in [(&ours.package, &windows.package), (&ours.inf_file, &windows.inf_file)] {
        let is_own = |key: &&(String, Option<String>)| {
            key.0.contains("{4da162c1-5eb1-4140-a444-5064c9814e76}")
                || (key.0.is_empty() && key.1.as_deref().is_some_and(|value| own.contains(&value)))
        };
        let keys =
            |records: &Records| records.keys().filter(|key| !is_own(key)).cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(ours), keys(windows));
        for key in keys(windows) {
            assert_eq!(spelled(&ours[&key]), spelled(&windows[&key]), "{key:?}");
            compared += 1;
        }
    }
    assert_eq!(ours.rows, windows.rows);
    // Of the service what the INF says; its place in the group and what its installer noted came later.
    for value in ["type", "start", "errorcontrol", "imagepath", "displayname", "group"] {
        let key = (String::new(), Some(value.to_owned()));
        assert_eq!(spelled(&ours.service[&key]), spelled(&windows.service[&key]), "{value}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
    let map_after = after.open("DriverDatabase").unwrap().data("OemInfMap").unwrap().unwrap();
    assert_eq!(
        (name.as_str(), &map_after),
        ("oem2.inf", &map),
        "the number that was free, marked as Windows does"
    );
    eprintln!("{compared} fields and {} rows of DeviceIds equal", ours.rows.len());
}
