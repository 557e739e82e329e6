//! Devices with the IDs that Windows would give them. What the IDs are made of stands in sysfs; how, in
//! `gravure-probe::hwid`.

use std::path::Path;

use gravure_model::inventory::{Device, PciDevice};
use gravure_probe::hwid::{Ids, acpi, hdaudio, pci, storage, usb};
use gravure_probe::pci::is_address;
use gravure_probe::procfs;

use super::devices::{driver, names, pci_device};
use crate::disks::{self, Roots, Transport};
use crate::sysfs;

/// Bit of an ACPI device's status: it is there (ACPI 6.5, 6.3.7).
const ACPI_PRESENT: u64 = 1;
/// Where the kernel lists devices that firmware describes, and those of Hyper-V.
const ACPI: &str = "bus/acpi/devices";
const VMBUS: &str = "bus/vmbus/devices";
/// SCSI peripheral type of CD and DVD drives.
const SCSI_TYPE_CD: u64 = 5;

/// All devices, bus by bus.
pub(super) fn devices(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let mut out = pci_devices(roots, warnings);
    out.extend(usb_devices(roots, warnings));
    out.extend(acpi_devices(roots, warnings));
    out.extend(vmbus_devices(roots, warnings));
    out.extend(codecs(roots, warnings));
    out.extend(disks(roots));
    let cpuinfo =
        sysfs::read_bounded(&roots.proc.join("cpuinfo"), super::MAX_CPUINFO_BYTES).unwrap_or_default();
    if let Some((vendor, family, model)) = procfs::processor(&String::from_utf8_lossy(&cpuinfo)) {
        out.push(device("processor", "processor", acpi::processor(&vendor, family, model)));
    }
    out
}

fn device(bus: &str, place: &str, ids: Ids) -> Device {
    Device {
        bus: bus.to_owned(),
        place: place.to_owned(),
        hardware_ids: ids.hardware,
        compatible_ids: ids.compatible,
        ..Device::default()
    }
}

/// A hexadecimal number of sysfs, with or without `0x`.
fn hex(path: &Path) -> Option<u32> {
    let text = sysfs::text(path)?;
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
}

fn narrow<T: TryFrom<u32> + Default>(value: Option<u32>) -> T {
    value.and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

/// The PCI device nearest above `path`, itself not counted.
fn pci_above(path: &Path) -> Option<String> {
    let resolved = sysfs::resolved(path)?;
    let parts: Vec<&str> = resolved.parent()?.iter().filter_map(|part| part.to_str()).collect();
    parts.into_iter().rev().find(|part| is_address(part)).map(str::to_owned)
}

fn pci_devices(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let dir = roots.sys.join("bus/pci/devices");
    let mut out = Vec::new();
    for address in names(&dir, warnings).into_iter().filter(|name| is_address(name)) {
        let path = dir.join(&address);
        // What cannot be read was told when the devices themselves were listed.
        let Ok(found) = pci_device(&path, &address) else { continue };
        let express = sysfs::bytes(&path.join("config")).and_then(|config| pci::express_type(&config));
        out.push(Device {
            parent: pci_above(&path),
            driver: driver(&path),
            ..device("pci", &address, pci::ids(&found, express))
        });
    }
    out
}

fn usb_devices(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let dir = roots.sys.join("bus/usb/devices");
    let all = names(&dir, warnings);
    let mut out = Vec::new();
    for place in all.iter().filter(|name| !name.contains(':')) {
        let path = dir.join(place);
        let number = |leaf: &str| hex(&path.join(leaf));
        let (Some(vendor), Some(product)) = (number("idVendor"), number("idProduct")) else { continue };
        let product = usb::Product {
            vendor: narrow(Some(vendor)),
            product: narrow(Some(product)),
            release: narrow(number("bcdDevice")),
        };
        // Whole numbers but for the slowest, 1.5.
        let speed = sysfs::text(&path.join("speed"))
            .and_then(|text| text.split('.').next()?.parse().ok())
            .unwrap_or(0);
        let above = pci_above(&path);
        if place.starts_with("usb") {
            let controller = above.as_ref().and_then(|address| {
                let PciDevice { vendor, device, revision, .. } =
                    pci_device(&roots.sys.join("bus/pci/devices").join(address), address).ok()?;
                Some(usb::Product { vendor, product: device, release: u16::from(revision) })
            });
            // The hub of a controller that is not on PCI has no IDs that a driver would name.
            if let Some(controller) = controller {
                out.push(Device { parent: above, ..device("usb", place, usb::root_hub(controller, speed)) });
            }
            continue;
        }
        let class = class_of(&path, "bDevice");
        let prefix = format!("{place}:");
        let parts: Vec<(&String, usb::Interface)> = all
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .map(|name| {
                let path = dir.join(name);
                let number = narrow(hex(&path.join("bInterfaceNumber")));
                (name, usb::Interface { number, class: class_of(&path, "bInterface") })
            })
            .collect();
        let interfaces: Vec<usb::Interface> = parts.iter().map(|(_, interface)| *interface).collect();
        let configurations = sysfs::number(&path.join("bNumConfigurations"))
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1);
        let ids = usb::device(product, class, &interfaces, configurations, speed);
        out.push(Device {
            parent: above,
            name: sysfs::text(&path.join("product")),
            driver: driver(&path),
            ..device("usb", place, ids)
        });
        if usb::is_composite(class, &interfaces, configurations) {
            out.extend(parts.iter().map(|(name, interface)| Device {
                parent: Some(place.clone()),
                name: sysfs::text(&dir.join(name).join("interface")),
                driver: driver(&dir.join(name)),
                ..device("usb", name, usb::interface(product, *interface))
            }));
        }
    }
    out
}

/// `bDeviceClass` and the two beside it, or those of an interface.
fn class_of(path: &Path, start: &str) -> usb::Class {
    let byte = |end: &str| narrow(hex(&path.join(format!("{start}{end}"))));
    usb::Class { class: byte("Class"), subclass: byte("SubClass"), protocol: byte("Protocol") }
}

fn acpi_devices(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let dir = roots.sys.join(ACPI);
    let mut out = Vec::new();
    for place in names(&dir, warnings) {
        let path = dir.join(&place);
        // Firmware describes every device that boards of a family may have.
        if sysfs::number(&path.join("status")).is_some_and(|status| status & ACPI_PRESENT == 0) {
            continue;
        }
        let Some(ids) = acpi_ids(&path) else { continue };
        out.push(Device { driver: driver(&path.join("physical_node")), ..device("acpi", &place, ids) });
    }
    out
}

/// IDs of the ACPI device at `path`; `None` when it has none that a driver would name.
fn acpi_ids(path: &Path) -> Option<Ids> {
    let alias = sysfs::text(&path.join("modalias"));
    match alias.as_deref().and_then(acpi::from_modalias) {
        Some((hid, cids)) => Some(acpi::ids(hid, &cids)),
        // An alias that was cut or is not there; the first ID has a file of its own.
        None => {
            let hid = sysfs::text(&path.join("hid")).filter(|hid| !hid.starts_with("LNX"))?;
            Some(acpi::ids(&hid, &[]))
        }
    }
}

fn codecs(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let dir = roots.sys.join("bus/hdaudio/devices");
    let mut out = Vec::new();
    for place in names(&dir, warnings) {
        let path = dir.join(&place);
        let Some(vendor) = hex(&path.join("vendor_id")) else { continue };
        let parent = pci_above(&path);
        let controller = parent
            .as_ref()
            .and_then(|address| pci_device(&roots.sys.join("bus/pci/devices").join(address), address).ok());
        let controller = controller.unwrap_or_default();
        // The numbers are nodes: an audio group is there when its node is not 0.
        let modem = hex(&path.join("afg")).unwrap_or(0) == 0 && hex(&path.join("mfg")).unwrap_or(0) != 0;
        let codec = hdaudio::Codec {
            function: if modem { 2 } else { 1 },
            vendor,
            subsystem: hex(&path.join("subsystem_id")).unwrap_or(0),
            revision: hex(&path.join("revision_id")).unwrap_or(0),
            controller_vendor: controller.vendor,
            controller_device: controller.device,
        };
        out.push(Device {
            parent,
            name: sysfs::text(&path.join("chip_name")),
            driver: driver(&path),
            ..device("hdaudio", &place, hdaudio::ids(&codec))
        });
    }
    out
}

/// Devices of a virtual machine of Hyper-V that its host offers by a channel, among them the disks.
fn vmbus_devices(roots: &Roots, warnings: &mut Vec<String>) -> Vec<Device> {
    let dir = roots.sys.join(VMBUS);
    let mut out = Vec::new();
    for place in names(&dir, warnings) {
        let path = dir.join(&place);
        let Some(class) = sysfs::text(&path.join("class_id")) else { continue };
        let ids = Ids { hardware: vec![format!("VMBUS\\{class}")], compatible: Vec::new() };
        out.push(Device {
            parent: above(roots, &path),
            driver: driver(&path),
            ..device("vmbus", &place, ids)
        });
    }
    out
}

/// What a device hangs on: the PCI device nearest above it; without one what Hyper-V's host or the firmware calls by a name, as it does
/// with controllers of eMMC.
fn above(roots: &Roots, path: &Path) -> Option<String> {
    if let Some(address) = pci_above(path) {
        return Some(address);
    }
    let resolved = sysfs::resolved(path)?;
    let acpi = roots.sys.join(ACPI);
    let is_acpi = |name: &str| is_entry(name) && acpi_ids(&acpi.join(name)).is_some();
    let name_of = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    for place in resolved.ancestors().skip(1) {
        let Some(name) = name_of(place) else { continue };
        if is_entry(&name) && roots.sys.join(VMBUS).join(&name).exists() {
            return Some(name);
        }
        let described = sysfs::resolved(&place.join("firmware_node")).as_deref().and_then(name_of);
        if let Some(name) = described.into_iter().chain([name]).find(|name| is_acpi(name)) {
            return Some(name);
        }
    }
    None
}

/// Whether a name is one in a directory of devices.
fn is_entry(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/')
}

/// What an NVMe disk with several ways to it hangs on: it lies below none of its controllers, but beside links to them.
fn above_paths(roots: &Roots, subsystem: &Path) -> Option<String> {
    let paths = sysfs::names(subsystem).unwrap_or_default();
    paths.iter().filter(|name| name.starts_with("nvme")).find_map(|name| above(roots, &subsystem.join(name)))
}

/// Disks, whatever they hang on: Windows starts from one of them, and what it hangs on needs a driver. Those that say nothing of
/// themselves have no IDs.
fn disks(roots: &Roots) -> Vec<Device> {
    let mut out = Vec::new();
    // That they cannot be listed was told when the disks themselves were.
    for disk in disks::disks(roots).unwrap_or_default() {
        let path = roots.sys.join("class/block").join(&disk.name).join("device");
        let text = |leaf: &str| sysfs::text(&path.join(leaf)).unwrap_or_default();
        let optical = sysfs::number(&path.join("type")) == Some(SCSI_TYPE_CD);
        let model = text("model");
        if super::storage::is_none(&disk) || (optical && model.is_empty()) {
            continue;
        }
        let inquiry = match disk.transport {
            Transport::Nvme => storage::Inquiry::of_nvme(&model, &text("firmware_rev")),
            Transport::Ata => storage::Inquiry::of_ata(&model, &text("rev")),
            // Block devices have no model, those behind a SCSI controller do.
            Transport::Virtio if model.is_empty() => storage::Inquiry::of_virtio(),
            _ => storage::Inquiry { vendor: text("vendor"), product: model, revision: text("rev") },
        };
        let bus =
            if disk.transport == Transport::Usb { storage::Bus::UsbStorage } else { storage::Bus::Scsi };
        let ids = match disk.transport {
            Transport::Mmc => storage::card(&card(&path)),
            _ if inquiry.product.is_empty() => Ids::default(),
            _ if optical => storage::cd_rom(bus, &inquiry),
            _ => storage::disk(bus, &inquiry),
        };
        let parent = above(roots, &path).or_else(|| above_paths(roots, &path));
        out.push(Device { parent, name: disk.model, ..device("disk", &disk.name, ids) });
    }
    out
}

fn card(path: &Path) -> storage::Card {
    let number = |leaf: &str| hex(&path.join(leaf));
    let is_mmc = sysfs::text(&path.join("type")).as_deref() == Some("MMC");
    // One byte of the register, which the kernel shows in halves for SD cards.
    let halves = (number("hwrev").unwrap_or(0) << 4) | (number("fwrev").unwrap_or(0) & 0xf);
    storage::Card {
        is_mmc,
        manufacturer: narrow(number("manfid")),
        oem: narrow(number("oemid")),
        name: sysfs::text(&path.join("name")).unwrap_or_default(),
        revision: narrow(if is_mmc { number("prv") } else { Some(halves) }),
    }
}
