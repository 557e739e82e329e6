//! Ranks against real registries: `DeviceIds` of a hive says which INF file names which ID as what, `Enum` which driver
//! Windows took for each device, and with which rank. From the first alone the second must follow.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeSet, HashMap};

use gravure_hive::{Hive, Key};
use gravure_inf::{DeviceIds, Model, Rank, Signer, rank};

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
