//! How far a machine is from the one an image was made on: what decides whether a system that is copied block by block starts there.
//! Windows starts only where it has a boot driver for what its disk hangs on, so the kind of that controller matters; Linux carries drivers
//! for all, and volumes of data start nowhere.
//!
//! Refusals of `apply` and of plans, the servicing of a restored Windows and the advisor all ask here.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use gravure_blockimg::facts::{Facts, Hardware, Volume};
use gravure_io::{ReadAt, Window};
use gravure_model::inventory::{Disk, Inventory, PciDevice};

use super::BlockImage;
use super::at::BlockImageAt;

/// Class of controllers for mass storage.
const CLASS_STORAGE: u32 = 1;
/// Class of bridges, which every system drives.
const CLASS_BRIDGE: u32 = 6;
/// What a driver cures.
const CONTROLLER: &str = "storage controller";
/// What every Windows has.
const SYSTEM_HIVE: &str = "Windows\\System32\\config\\SYSTEM";

/// Something that is not as on the machine the image was made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `architecture`, `firmware`, `storage controller`, `model`.
    pub what: &'static str,
    /// As on the source.
    pub source: String,
    /// As on the target.
    pub target: String,
    /// The system will not start; else it may want drivers.
    pub is_fatal: bool,
}

impl Misfit {
    /// Whether the system starts when it gets a driver.
    pub fn is_cured_by_driver(&self) -> bool {
        self.is_fatal && self.what == CONTROLLER
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the image is of {}, this is {}", self.what, self.source, self.target)
    }
}

/// An image that is held against machines.
#[derive(Debug)]
pub struct Judged<'a> {
    facts: &'a Facts,
    image: Option<&'a BlockImage>,
    /// Whether a Windows was found in it, once somebody had to know.
    has_windows: OnceCell<bool>,
}

impl<'a> Judged<'a> {
    /// An image that can be looked into, should its facts not say what is on it.
    pub fn of(image: &'a BlockImage) -> Self {
        Self { image: Some(image), ..Self::by_facts(image.facts()) }
    }

    /// By what it says of itself alone.
    pub fn by_facts(facts: &'a Facts) -> Self {
        Self { facts, image: None, has_windows: OnceCell::new() }
    }

    /// What it says of itself.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// Whether a system that needs a boot driver for its controller is in the image: Windows; Linux carries drivers for all. A volume that
    /// nobody can look into counts as having one.
    fn needs_boot_driver(&self) -> bool {
        *self.has_windows.get_or_init(|| {
            let read = self.image.map(|image| BlockImageAt::new(image.clone()));
            let mut volumes = self.facts.volumes.iter();
            volumes.any(|volume| match (volume.content.to_ascii_lowercase().as_str(), &read) {
                ("ntfs", Some(read)) => {
                    holds_windows(volume, &Window::new(read, volume.offset_bytes, volume.size_bytes))
                }
                ("ntfs", None) => volume.has_windows.unwrap_or(true),
                (content, _) => content == "bitlocker",
            })
        })
    }
}

/// Whether an NTFS volume has a Windows; `None` when it cannot be looked into.
pub(super) fn find_windows(volume: &dyn ReadAt) -> Option<bool> {
    let ntfs = gravure_ntfs::Volume::open(volume).ok()?;
    match ntfs.read_file(volume, SYSTEM_HIVE, 0) {
        Ok(None) => Some(false),
        // More than no bytes are refused: it is there.
        Ok(Some(_)) | Err(gravure_ntfs::Error::Unsupported { .. }) => Some(true),
        Err(_) => None,
    }
}

/// The same of a volume in an image, which `source` reads, by what the image says of it where it does. One that cannot be looked into counts
/// as having one, whose rules are the stricter ones.
pub(super) fn holds_windows(volume: &Volume, source: &dyn ReadAt) -> bool {
    volume.has_windows.or_else(|| find_windows(source)).unwrap_or(true)
}

/// What of a machine has to be alike elsewhere, of the disk `disk` (its kernel's name), or of the only one that is built in.
pub fn hardware_of(inventory: &Inventory, disk: Option<&str>) -> Hardware {
    let architecture = &inventory.cpu.architecture;
    let mut built_in = built_in(inventory);
    let only = built_in.next().filter(|_| built_in.next().is_none()).map(|disk| disk.name.as_str());
    Hardware {
        architecture: if architecture.is_empty() {
            std::env::consts::ARCH.to_owned()
        } else {
            architecture.clone()
        },
        firmware: inventory.firmware.mode.as_str().to_owned(),
        manufacturer: inventory.smbios.system.manufacturer.clone(),
        product: inventory.smbios.system.product.clone(),
        storage_controllers: controllers(&inventory.pci),
        disk_controllers: disk.or(only).map(|disk| above(inventory, disk)).unwrap_or_default(),
        ..Hardware::default()
    }
}

/// Disks that a system may go to.
fn built_in(inventory: &Inventory) -> impl Iterator<Item = &Disk> {
    let is_usb = |disk: &Disk| disk.transport.as_deref() == Some("usb");
    inventory.disks.iter().filter(move |disk| !disk.removable && disk.size_bytes > 0 && !is_usb(disk))
}

/// The disk a system goes to: the smallest that is built in.
pub fn system_disk(inventory: &Inventory) -> Option<&Disk> {
    built_in(inventory).min_by_key(|disk| (disk.size_bytes, disk.logical_sector_bytes))
}

/// A controller as it stands in images: `pci:8086:a102 class 010601`.
fn shown(device: &PciDevice) -> String {
    format!("pci:{:04x}:{:04x} class {:06x}", device.vendor, device.device, device.class)
}

/// The storage controllers among PCI devices.
fn controllers(devices: &[PciDevice]) -> Vec<String> {
    let storage = devices.iter().filter(|device| device.class >> 16 == CLASS_STORAGE);
    let mut out: Vec<String> = storage.map(shown).collect();
    out.sort();
    out.dedup();
    out
}

/// What a disk hangs on, from its controller up: what needs a driver before anything is read from it. Nothing when the inventory does not
/// say.
fn above(inventory: &Inventory, disk: &str) -> Vec<String> {
    let at = |place: &str| inventory.devices.iter().find(|device| device.place == place);
    let mut seen: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    let disk = inventory.devices.iter().find(|device| device.bus == "disk" && device.place == disk);
    let mut next = disk.and_then(|disk| disk.parent.as_deref());
    // A circle in what the kernel says ends.
    while let Some(place) = next.filter(|place| !seen.contains(place)) {
        seen.push(place);
        let device = at(place);
        match inventory.pci.iter().find(|pci| pci.address == place) {
            Some(pci) if pci.class >> 16 == CLASS_BRIDGE => {}
            Some(pci) => out.push(shown(pci)),
            None => out.extend(device.and_then(|device| device.hardware_ids.first().cloned())),
        }
        next = device.and_then(|device| device.parent.as_deref());
    }
    out
}

/// By which drivers a machine's disks are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drives {
    by: BTreeSet<String>,
    /// They are those of the system's disk, all of which it takes; else any may be meant.
    is_of_disk: bool,
}

impl Drives {
    pub(super) fn of(hardware: &Hardware) -> Self {
        let is_of_disk = !hardware.disk_controllers.is_empty();
        let controllers = if is_of_disk { &hardware.disk_controllers } else { &hardware.storage_controllers };
        Self { by: controllers.iter().map(|controller| driven_by(controller)).collect(), is_of_disk }
    }

    /// What both are driven by; `None` when a system that starts on one has no driver for what the other starts from. Of a machine whose
    /// controllers nobody knows, nothing is said against it. The one judgement on controllers: of refusals and of advice.
    pub(super) fn common(&self, other: &Self) -> Option<Self> {
        if self.by.is_empty() || other.by.is_empty() {
            return Some(if self.by.is_empty() { other.clone() } else { self.clone() });
        }
        match (self.is_of_disk, other.is_of_disk) {
            // More of them is unlike as well: what stands before a controller (Intel's VMD) drives what is behind it.
            (true, true) => (self.by == other.by).then(|| self.clone()),
            (true, false) => self.by.is_subset(&other.by).then(|| self.clone()),
            (false, true) => other.common(self),
            (false, false) => {
                let by: BTreeSet<String> = self.by.intersection(&other.by).cloned().collect();
                (!by.is_empty()).then_some(Self { by, is_of_disk: false })
            }
        }
    }
}

impl std::fmt::Display for Drives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.by.is_empty() {
            return f.write_str("no known controller");
        }
        f.write_str(&self.by.iter().map(String::as_str).collect::<Vec<_>>().join(" + "))
    }
}

/// How a controller is driven: one with a standard interface by its class, others by vendor and device.
fn driven_by(controller: &str) -> String {
    let (device, class) = controller.split_once(" class ").unwrap_or((controller, ""));
    match class.get(..4) {
        Some("0101") => "IDE".to_owned(),
        Some("0106") => "AHCI".to_owned(),
        Some("0108") => "NVMe".to_owned(),
        Some("0805") => "SD host".to_owned(),
        Some("0c03") => "USB".to_owned(),
        _ => device.to_owned(),
    }
}

/// Whether the machine an image was made on is known to have had its disk on a storage controller that is driven like that of this
/// machine's.
pub fn is_driven_alike(facts: &Facts, target: &Hardware) -> bool {
    let Some(source) = &facts.hardware else { return false };
    let (before, now) = (Drives::of(source), Drives::of(target));
    !before.by.is_empty() && !now.by.is_empty() && before.common(&now).is_some()
}

/// Holds the machine an image was made on against another one.
pub fn misfits(image: &Judged<'_>, target: &Hardware) -> Vec<Misfit> {
    let Some(source) = &image.facts.hardware else { return Vec::new() };
    let mut out = Vec::new();
    let mut differ = |what, source: &str, target: &str, is_fatal| {
        if !source.is_empty() && !target.is_empty() && source != target {
            let (source, target) = (source.to_owned(), target.to_owned());
            out.push(Misfit { what, source, target, is_fatal });
        }
    };
    differ("architecture", &source.architecture, &target.architecture, true);
    let is_whole = image.facts.scope == gravure_blockimg::facts::Scope::Disk;
    // One partition may belong to any machine.
    differ("firmware", &source.firmware, &target.firmware, is_whole);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    differ("model", &text(&source.product), &text(&target.product), false);
    let (before, now) = (Drives::of(source), Drives::of(target));
    if before.common(&now).is_none() {
        out.push(Misfit {
            what: CONTROLLER,
            source: before.to_string(),
            target: now.to_string(),
            is_fatal: image.needs_boot_driver(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use gravure_blockimg::facts::{Scope, Volume};
    use gravure_model::inventory::Device;

    const AHCI: &str = "pci:1022:7901 class 010601";
    const NVME: &str = "pci:144d:a808 class 010802";
    const VIRTIO: &str = "pci:1af4:1042 class 010000";
    const VMD: &str = "pci:8086:9a0b class 010400";

    fn hardware(firmware: &str, controllers: &[&str]) -> Hardware {
        Hardware {
            architecture: "x86_64".into(),
            firmware: firmware.into(),
            product: Some("A".into()),
            storage_controllers: controllers.iter().map(ToString::to_string).collect(),
            ..Hardware::default()
        }
    }

    fn facts(content: &str, scope: Scope) -> Facts {
        let ahci = hardware("uefi", &["pci:8086:a102 class 010601"]);
        let volumes = vec![Volume { content: content.into(), ..Volume::default() }];
        Facts { scope, volumes, hardware: Some(ahci), ..Facts::default() }
    }

    fn names(facts: &Facts, target: &Hardware) -> Vec<(&'static str, bool)> {
        let found = misfits(&Judged::by_facts(facts), target);
        found.iter().map(|misfit| (misfit.what, misfit.is_fatal)).collect()
    }

    #[test]
    fn what_keeps_a_system_from_starting() {
        let windows = facts("ntfs", Scope::Disk);
        // Another AHCI controller is driven alike.
        let other = hardware("uefi", &[AHCI]);
        assert_eq!((names(&windows, &other), is_driven_alike(&windows, &other)), (vec![], true));
        let nvme = hardware("uefi", &[NVME]);
        assert_eq!(names(&windows, &nvme), [("storage controller", true)]);
        assert!(!is_driven_alike(&windows, &nvme));
        // Nobody knows of what machine an image is that others made.
        assert!(!is_driven_alike(&Facts::default(), &nvme));
        assert_eq!(names(&facts("ext4", Scope::Disk), &nvme), [("storage controller", false)]);
        let both = hardware("uefi", &[NVME, "pci:8086:a282 class 010601"]);
        assert_eq!(names(&windows, &both), []);
        // RAID controllers have no standard.
        let raid = hardware("uefi", &["pci:8086:282a class 010400"]);
        assert_eq!(names(&windows, &raid), [("storage controller", true)]);
        let mut bios = hardware("bios", &[AHCI]);
        bios.product = Some("B".into());
        assert_eq!(names(&windows, &bios), [("firmware", true), ("model", false)]);
        assert_eq!(names(&facts("ntfs", Scope::Volume), &bios), [("firmware", false), ("model", false)]);
        bios.architecture = "aarch64".into();
        assert!(names(&windows, &bios).contains(&("architecture", true)));
        assert_eq!(names(&Facts::default(), &bios), []);
    }

    #[test]
    fn a_volume_of_data_needs_no_boot_driver() {
        let nvme = hardware("uefi", &[NVME]);
        let mut data = facts("NTFS", Scope::Disk);
        let cases = [(None, true), (Some(true), true), (Some(false), false)];
        for (has_windows, is_fatal) in cases {
            data.volumes[0].has_windows = has_windows;
            assert_eq!(names(&data, &nvme), [("storage controller", is_fatal)], "{has_windows:?}");
        }
        // Beside one that nobody can look into.
        data.volumes.push(Volume { content: "BitLocker".into(), ..Volume::default() });
        assert_eq!(names(&data, &nvme), [("storage controller", true)]);
        let cured: Vec<bool> = misfits(&Judged::by_facts(&data), &hardware("bios", &[NVME]))
            .iter()
            .map(Misfit::is_cured_by_driver)
            .collect();
        assert_eq!(cured, [false, true], "a driver is no cure for another firmware");
    }

    #[test]
    fn what_the_disk_hangs_on_counts_and_not_what_is_beside_it() {
        let on = |all: &[&str], disk: &[&str]| Hardware {
            disk_controllers: disk.iter().map(ToString::to_string).collect(),
            ..hardware("uefi", all)
        };
        type Expected = &'static [(&'static str, bool)];
        let unlike: Expected = &[("storage controller", true)];
        let cases: [(Hardware, Hardware, Expected); 11] = [
            // A chipset that has AHCI, and a disk on virtio.
            (on(&[AHCI], &[AHCI]), on(&[AHCI, VIRTIO], &[VIRTIO]), unlike),
            (on(&[AHCI], &[]), on(&[AHCI, VIRTIO], &[VIRTIO]), unlike),
            (on(&[AHCI, VIRTIO], &[VIRTIO]), on(&[AHCI], &[AHCI]), unlike),
            (on(&[AHCI, VIRTIO], &[VIRTIO]), on(&[AHCI], &[]), unlike),
            (on(&[AHCI, VIRTIO], &[VIRTIO]), on(&[AHCI, VIRTIO], &[VIRTIO]), &[]),
            (on(&[AHCI, NVME], &[NVME]), on(&[NVME], &[NVME]), &[]),
            // Which disk it was is not known: any of them may be meant.
            (on(&[AHCI, VIRTIO], &[]), on(&[AHCI, VIRTIO], &[VIRTIO]), &[]),
            (on(&[AHCI], &[AHCI]), on(&[AHCI, VIRTIO], &[]), &[]),
            // What stands before the controller takes part.
            (on(&[NVME], &[NVME]), on(&[NVME, VMD], &[NVME, VMD]), unlike),
            (on(&[NVME, VMD], &[NVME, VMD]), on(&[NVME], &[NVME]), unlike),
            (on(&[NVME, VMD], &[NVME, VMD]), on(&[NVME, VMD], &[VMD, NVME]), &[]),
        ];
        for (source, target, expected) in cases {
            let windows = Facts { hardware: Some(source), ..facts("ntfs", Scope::Disk) };
            assert_eq!(names(&windows, &target), expected, "{:?} on {target:?}", windows.hardware);
            assert_eq!(is_driven_alike(&windows, &target), expected.is_empty());
        }
    }

    #[test]
    fn an_inventory_tells_what_each_disk_hangs_on() {
        let pci = |address: &str, vendor, device, class| PciDevice {
            address: address.into(),
            vendor,
            device,
            class,
            ..PciDevice::default()
        };
        let device = |bus: &str, place: &str, parent: Option<&str>| Device {
            bus: bus.into(),
            place: place.into(),
            parent: parent.map(str::to_owned),
            ..Device::default()
        };
        let disk = |name: &str, size_bytes, transport: &str| Disk {
            name: name.into(),
            size_bytes,
            transport: Some(transport.into()),
            ..Disk::default()
        };
        let hyper_v = Device {
            hardware_ids: vec!["VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}".into()],
            ..device("vmbus", "vmbus_0", None)
        };
        let mut inventory = Inventory {
            disks: vec![
                disk("sda", 2 << 30, "sata"),
                disk("nvme0n1", 1 << 30, "nvme"),
                disk("sdb", 9, "usb"),
            ],
            pci: vec![
                pci("0000:00:0e.0", 0x8086, 0x9a0b, 0x010400),
                pci("0000:00:17.0", 0x8086, 0xa102, 0x010601),
                pci("10000:e0:06.0", 0x8086, 0x9a09, 0x060400),
                pci("10000:e1:00.0", 0x144d, 0xa808, 0x010802),
                pci("0000:00:14.0", 0x8086, 0xa0ed, 0x0c0330),
            ],
            devices: vec![
                device("pci", "0000:00:0e.0", None),
                device("pci", "0000:00:17.0", None),
                device("pci", "10000:e0:06.0", Some("0000:00:0e.0")),
                device("pci", "10000:e1:00.0", Some("10000:e0:06.0")),
                device("disk", "nvme0n1", Some("10000:e1:00.0")),
                device("disk", "sda", Some("0000:00:17.0")),
                device("disk", "sdb", Some("0000:00:14.0")),
                device("disk", "sdc", Some("vmbus_0")),
                hyper_v,
            ],
            ..Inventory::default()
        };
        let of = |inventory: &Inventory, disk| hardware_of(inventory, disk).disk_controllers;
        assert_eq!(of(&inventory, Some("sda")), ["pci:8086:a102 class 010601"]);
        assert_eq!(of(&inventory, Some("nvme0n1")), [NVME, VMD], "a bridge needs no driver");
        assert_eq!(of(&inventory, Some("sdb")), ["pci:8086:a0ed class 0c0330"]);
        assert_eq!(of(&inventory, Some("sdc")), ["VMBUS\\{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}"]);
        let nothing: [&str; 0] = [];
        assert_eq!(of(&inventory, Some("loop0")), nothing, "nobody says");
        assert_eq!(of(&inventory, None), nothing, "one of two");
        assert_eq!(system_disk(&inventory).unwrap().name, "nvme0n1", "the smallest that stays there");
        inventory.disks.remove(1);
        assert_eq!(of(&inventory, None), ["pci:8086:a102 class 010601"], "the only one");
        inventory.devices[0].parent = Some("10000:e1:00.0".into());
        assert_eq!(of(&inventory, Some("nvme0n1")), [NVME, VMD], "a circle ends");
    }
}
