//! A Windows of which not everything was read: whatever is done with it, nothing counts that nobody was told to be looked at.
#![expect(clippy::unwrap_used, reason = "tests")]

use crate::support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use gravure_hive::Data;
use gravure_tree::{NodeId, Tree};
use gravure_windows::answer::AnswerSettings;
use gravure_windows::drivers::{AddOptions, InjectOptions, Publish, Repository, Unsigned, inject};
use gravure_windows::layers::Layer;
use gravure_windows::{Error, Finished, SERVICED_DIRECTORIES, WindowsImage};
use support::{
    NOW, device, dump, hive, listing, nothing_outside, package, software_values, storage_inf, system_values,
    tree,
};

const RAID: &str = "PCI\\VEN_1AF4&DEV_1042";

/// A Windows with what drivers, settings and the layer below meet, and much that they do not.
fn windows() -> Tree {
    tree(&[
        ("Windows\\System32\\config\\SYSTEM", hive(&system_values())),
        ("Windows\\System32\\config\\SOFTWARE", hive(&software_values())),
        (
            "Windows\\System32\\config\\DRIVERS",
            hive(&[("DriverDatabase", "Version", Data::dword(0x0a00_0000))]),
        ),
        ("Windows\\System32\\drivers\\storahci.sys", b"MZ storahci".to_vec()),
        ("Windows\\INF\\oem2.inf", b"taken".to_vec()),
        ("Windows\\Gravure\\changes\\0007.json", b"{}".to_vec()),
        ("Windows\\WinSxS\\many\\file", b"many".to_vec()),
        ("Program Files\\App\\app.ini", b"[Main]\r\nRoom=old\r\n".to_vec()),
        ("Program Files\\App\\data\\a\\b", b"deep".to_vec()),
        ("Program Files\\Other\\x", b"x".to_vec()),
    ])
}

const LAYER: &str = "[layer]\nid='x'\nversion=1\n\
    [[ini]]\nfile='C:\\Program Files\\App\\app.ini'\nsection='Main'\nkey='Room'\nvalue='B7'\n\
    [[acl]]\npath='C:\\Program Files\\App\\data'\nsddl='O:BAG:SYD:P(A;;FA;;;SY)'\nrecursive=true\n\
    [[file]]\nto='C:\\School\\room.txt'\ntext='B7'\n";

/// Everything that is done to a machine, and the directories that were looked into, whatever came of it.
fn serviced(tree: &mut Tree, repository: &Repository) -> (Result<Finished, Error>, BTreeSet<NodeId>) {
    let looked = RefCell::new(BTreeSet::new());
    let looks_into = |id: NodeId| {
        looked.borrow_mut().insert(id);
    };
    let done = WindowsImage::open_partial(tree, &nothing_outside, &looks_into, NOW).and_then(|mut image| {
        let system = image.system()?;
        image.machine_sid()?;
        let raid = [&format!("{RAID}&SUBSYS_00011AF4&REV_01")[..], &format!("{RAID}&CC_0100")];
        let devices = [device("0000:00:01.0", &raid, &[RAID, "PCI\\CC_0100"])];
        let options = InjectOptions { publish: Publish::WhereSimple, unsigned: Unsigned::Allow };
        inject(&mut image, repository, &devices, options)?;
        let settings = "computer-name = \"pc-7\"\nadministrator-password = \"Geheim\"\n";
        image.apply_settings(&AnswerSettings::from_toml(settings)?, &system)?;
        let layer = Layer::parse(LAYER, std::path::Path::new("."), &BTreeMap::new())?;
        layer.apply(&mut image, &system)?;
        image.finish("all")
    });
    (done, looked.into_inner())
}

/// The Windows with nothing in the directories that were not read.
fn read_so_far(read: &BTreeSet<NodeId>, directories: &[(NodeId, String)]) -> Tree {
    let mut tree = windows();
    for (id, _) in directories.iter().filter(|(id, _)| !read.contains(id)) {
        let names: Vec<_> = tree.children(*id).iter().map(|entry| entry.name.clone()).collect();
        names.iter().for_each(|name| tree.remove(*id, name).unwrap());
    }
    tree
}

#[test]
fn what_was_not_looked_into_does_not_count() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::create(&temp.path().join("repository")).unwrap();
    let options = AddOptions { allow_unsigned: true, allow_incomplete: false };
    repository.add(&package(temp.path(), "raid", &storage_inf(RAID, 0)), options).unwrap();
    repository.commit().unwrap();

    let mut whole = windows();
    let (expected, _) = serviced(&mut whole, &repository);
    let full = windows();
    let inner = full.walk().filter(|step| full.node(step.entry.node).is_directory());
    let mut directories = vec![(full.root(), String::new())];
    directories.extend(inner.map(|step| (step.entry.node, step.display_path().to_string())));
    // As who reads directories when they are asked for.
    let mut looked = BTreeSet::new();
    let (pruned, found) = loop {
        let mut tree = read_so_far(&looked, &directories);
        let (done, asked) = serviced(&mut tree, &repository);
        let known = looked.len();
        looked.extend(asked.into_iter().filter(|id| directories.iter().any(|(known, _)| known == id)));
        if looked.len() == known {
            break (tree, done);
        }
    };
    let untouched = ["/Program Files/Other", "/Windows/WinSxS", "/Windows/WinSxS/many"].map(str::to_owned);
    let mut left_out: Vec<&String> =
        directories.iter().filter(|(id, _)| !looked.contains(id)).map(|(_, path)| path).collect();
    left_out.sort_unstable();
    assert_eq!(left_out, untouched.iter().collect::<Vec<_>>());
    assert_eq!(found.unwrap(), expected.unwrap());
    for hive in ["SYSTEM", "SOFTWARE", "DRIVERS"] {
        let path = format!("/Windows/System32/config/{hive}");
        assert_eq!(dump(&pruned, &path), dump(&whole, &path), "{hive}");
    }
    let kept = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !untouched.iter().any(|path| line.starts_with(path))).collect()
    };
    assert_eq!(kept(listing(&pruned)), kept(listing(&whole)));
    // But for the layer's own, they are what is read before anybody asks.
    let known = |path: &str| {
        let path = path.trim_start_matches('/').replace('/', "\\");
        SERVICED_DIRECTORIES.iter().any(|known| known.starts_with(&path)) || path.starts_with("Program Files")
    };
    for (id, path) in &directories {
        assert!(!looked.contains(id) || known(path), "{path}");
    }
}
