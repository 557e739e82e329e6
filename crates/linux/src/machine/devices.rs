//! PCI and USB devices, drivers, and the aliases by which modules are found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gravure_model::inventory::{PciDevice, UsbDevice};
use gravure_probe::{pci, usb};

use crate::disks::Roots;
use crate::sysfs;

/// Deepest directory below `/sys/devices` looked into; a disk behind a USB hub behind a dock has some twenty.
const MAX_DEPTH: u32 = 40;
/// Most devices listed of one bus; the largest servers have some thousand.
const MAX_DEVICES: usize = 16384;

/// All PCI devices by address.
pub(super) fn pci(roots: &Roots, warnings: &mut Vec<String>) -> Vec<PciDevice> {
    let dir = roots.sys.join("bus/pci/devices");
    let mut out = Vec::new();
    for address in names(&dir, warnings) {
        if !pci::is_address(&address) {
            continue;
        }
        let device = dir.join(&address);
        match pci_device(&device, &address) {
            Ok(found) => out.push(PciDevice { driver: driver(&device), ..found }),
            Err(error) => warnings.push(format!("PCI device {address}: {error}")),
        }
    }
    out
}

pub(super) fn pci_device(device: &Path, address: &str) -> Result<PciDevice, gravure_probe::Error> {
    // The attributes tell what quirks of the kernel corrected; the bytes are for kernels that lack some of them.
    let text = |leaf: &str| sysfs::text(&device.join(leaf)).unwrap_or_default();
    let from_texts = pci::from_texts(
        address,
        pci::PciTexts {
            vendor: &text("vendor"),
            device: &text("device"),
            subsystem_vendor: &text("subsystem_vendor"),
            subsystem_device: &text("subsystem_device"),
            class: &text("class"),
            revision: &text("revision"),
        },
    );
    match sysfs::bytes(&device.join("config")) {
        Some(config) => from_texts.or_else(|_| pci::from_config(address, &config)),
        None => from_texts,
    }
}

/// All USB devices by path, hubs and root hubs included.
pub(super) fn usb(roots: &Roots, warnings: &mut Vec<String>) -> Vec<UsbDevice> {
    let dir = roots.sys.join("bus/usb/devices");
    let mut out = Vec::new();
    for path in names(&dir, warnings) {
        // `1-4:1.0` is an interface of the device `1-4`.
        if path.contains(':') {
            continue;
        }
        let device = dir.join(&path);
        let descriptor = sysfs::bytes(&device.join("descriptors")).unwrap_or_default();
        match usb::from_descriptor(&path, &descriptor) {
            Ok(found) => out.push(UsbDevice {
                name: sysfs::text(&device.join("product")),
                serial: sysfs::text(&device.join("serial")),
                ..found
            }),
            Err(error) => warnings.push(format!("USB device {path}: {error}")),
        }
    }
    out
}

/// The driver bound to the device in `dir`.
pub(super) fn driver(dir: &Path) -> Option<String> {
    let target = std::fs::read_link(dir.join("driver")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

pub(super) fn names(dir: &Path, warnings: &mut Vec<String>) -> Vec<String> {
    let mut names = sysfs::names(dir).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Vec::new()
    });
    if names.len() > MAX_DEVICES {
        warnings.push(format!("{}: {} devices, {MAX_DEVICES} listed", dir.display(), names.len()));
        names.truncate(MAX_DEVICES);
    }
    names
}

/// The `modalias` of every device that is there, each once: what modules are looked up by.
pub fn modaliases(roots: &Roots) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut open: Vec<(PathBuf, u32)> = vec![(roots.sys.join("devices"), 0)];
    while let Some((dir, depth)) = open.pop() {
        out.extend(sysfs::text(&dir.join("modalias")));
        // A device that goes away while we look is no error.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        if depth >= MAX_DEPTH {
            continue;
        }
        // Links lead sideways to devices that are reached by their own directory.
        let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(dirs.map(|entry| (entry.path(), depth.saturating_add(1))));
    }
    out
}
