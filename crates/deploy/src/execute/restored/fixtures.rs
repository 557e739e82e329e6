//! A Windows on a disk and what a plan has for it, out of real bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_imaging::{
    Bundles, CaptureOptions, ExistingData, ImageFile, VolumeApplyOptions, VolumeFile, Which, apply_to_volume,
    capture_directory,
};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_model::plan::PlannedWindows;
use gravure_nttypes::FileTime;
use gravure_tree::Tree;
use gravure_windows::drivers::Repository;

use super::super::fixtures::{made, windows_hives};
use super::super::sources::BundleSources;
use super::servicing::{Machine, Servicing};

/// A layer that names the machine, and changes a file that is there.
pub(super) const LAYER: &str = "[layer]\nid = 'school'\nversion = 3\n\
    [[file]]\nto = 'C:\\Windows\\Gravure\\room.txt'\ntext = '${ROOM} ${COMPUTER_NAME}'\n\
    [[ini]]\nfile = 'C:\\Program Files\\App\\app.ini'\nsection = 'Main'\nkey = 'Room'\nvalue = '${ROOM}'\n";

/// What is on the volume: hives, spelled as Windows 7 has them, and what is not looked at.
pub(in crate::execute) fn windows_files(root: &Path, setup: u32) {
    for dir in
        ["Windows/system32/Config", "Windows/system32/drivers", "Windows/WinSxS/x", "Program Files/App"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (name, bytes) in windows_hives(setup, false) {
        fs::write(root.join("Windows/system32/Config").join(name), bytes).unwrap();
    }
    fs::write(root.join("Windows/system32/drivers/disk.sys"), "MZ disk").unwrap();
    fs::write(root.join("Program Files/App/app.ini"), "[Main]\r\nRoom=old\r\n").unwrap();
}

/// An NTFS volume, as it lies in an image.
pub(in crate::execute) fn ntfs_volume(dir: &Path, fill: impl FnOnce(&Path)) -> PathBuf {
    let (source, wim, volume) = (dir.join("source"), dir.join("x.wim"), dir.join("x.ntfs"));
    fs::create_dir(&source).unwrap();
    fill(&source);
    let ctl = Ctl::default();
    capture_directory(&source, &wim, &CaptureOptions::default(), &ctl, &Silent).unwrap();
    let wim = ImageFile::open_path(&wim).unwrap();
    let image = wim.image(wim.find(&Which::Only).unwrap()).unwrap();
    let device = VolumeFile::open(&volume, Some(16 << 20)).unwrap();
    let options = VolumeApplyOptions { existing: ExistingData::Destroy, ..VolumeApplyOptions::default() };
    apply_to_volume(&image, &device, &options, &ctl, &Silent).unwrap();
    volume
}

/// What a plan brings: the packages of a repository and a layer, as a server makes them into bundles.
pub(super) fn sources(dir: &Path, repository: Option<&Repository>, layer: Option<&str>) -> BundleSources {
    let mut bundles = Bundles::default();
    let mut add = |name: &str, content: &Path| -> (String, Tree) {
        let wim = content.with_extension("wim");
        capture_directory(content, &wim, &CaptureOptions::default(), &Ctl::default(), &Silent).unwrap();
        let tree = bundles.add(Arc::new(FileAt::open(&wim).unwrap()), name, None).unwrap();
        (name.to_owned(), tree)
    };
    let mut drivers = Vec::new();
    for manifest in repository.map(|repository| repository.packages().unwrap()).unwrap_or_default() {
        let content = dir.join(format!("driver-{}", manifest.id));
        fs::create_dir(&content).unwrap();
        repository.unwrap().write_bundle(&manifest, &content).unwrap();
        drivers.push(add(&manifest.inf, &content));
    }
    let layers = layer.map(|text| {
        let content = dir.join("layer-school");
        fs::create_dir(&content).unwrap();
        fs::write(content.join("layer.toml"), text).unwrap();
        add("school", &content)
    });
    BundleSources { drivers, layers: layers.into_iter().collect(), bundles }
}

/// For the machine of the fixtures, on its virtio disk.
pub(super) fn servicing(planned: Option<PlannedWindows>, sources: BundleSources) -> Servicing {
    let machine = Machine {
        devices: made().devices(),
        disk: "vda".to_owned(),
        name: "pc-7".to_owned(),
        what: "deployment p1".to_owned(),
        now: FileTime(1 << 56),
    };
    Servicing::of_plan(planned, sources, machine)
}
