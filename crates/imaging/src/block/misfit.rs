//! How far a machine is from the one an image was made on: what decides whether a system that is copied block by block starts there.
//! Windows starts only where it has a boot driver for the storage controller, so its kind matters; Linux carries drivers for all.

use std::collections::BTreeSet;

use gravure_blockimg::facts::{Facts, Hardware};
use gravure_model::inventory::{Inventory, PciDevice};

/// Class of controllers for mass storage.
const CLASS_STORAGE: u32 = 1;

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

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the image is of {}, this is {}", self.what, self.source, self.target)
    }
}

/// What of a machine has to be alike elsewhere.
pub fn hardware_of(inventory: &Inventory) -> Hardware {
    let architecture = &inventory.cpu.architecture;
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
        ..Hardware::default()
    }
}

/// The storage controllers among PCI devices, as they stand in images: `pci:8086:a102 class 010601`.
fn controllers(devices: &[PciDevice]) -> Vec<String> {
    let storage = devices.iter().filter(|device| device.class >> 16 == CLASS_STORAGE);
    let mut out: Vec<String> = storage
        .map(|device| format!("pci:{:04x}:{:04x} class {:06x}", device.vendor, device.device, device.class))
        .collect();
    out.sort();
    out.dedup();
    out
}

/// How controllers are driven: those with a standard interface by class, others by vendor and device.
pub(super) fn drives(controllers: &[String]) -> BTreeSet<String> {
    let driven_by = |controller: &String| {
        let (device, class) = controller.split_once(" class ").unwrap_or((controller, ""));
        match class.get(..4) {
            Some("0101") => "IDE".to_owned(),
            Some("0106") => "AHCI".to_owned(),
            Some("0108") => "NVMe".to_owned(),
            _ => device.to_owned(),
        }
    };
    controllers.iter().map(driven_by).collect()
}

/// What machines with these controllers are driven by in common; `None` when a system that starts on one has no driver for what the other
/// starts from. Of a machine whose controllers nobody knows, nothing is said against it. The one judgement on controllers: of refusals and
/// of advice.
pub(super) fn driven_alike(one: &BTreeSet<String>, other: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    if one.is_empty() || other.is_empty() {
        return Some(one.union(other).cloned().collect());
    }
    let common: BTreeSet<String> = one.intersection(other).cloned().collect();
    (!common.is_empty()).then_some(common)
}

/// Whether a system that needs a boot driver for its controller is in the image: Windows; Linux carries drivers for all.
fn needs_boot_driver(facts: &Facts) -> bool {
    facts.volumes.iter().any(|volume| volume.content.eq_ignore_ascii_case("ntfs"))
}

fn list(words: &BTreeSet<String>) -> String {
    words.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Whether the machine an image was made on is known to have had a storage controller that is driven like one of this machine's.
pub fn is_driven_alike(facts: &Facts, target: &Hardware) -> bool {
    let before =
        facts.hardware.as_ref().map(|source| drives(&source.storage_controllers)).unwrap_or_default();
    let now = drives(&target.storage_controllers);
    !before.is_empty() && !now.is_empty() && driven_alike(&before, &now).is_some()
}

/// Holds the machine an image was made on against another one.
pub fn misfits(facts: &Facts, target: &Hardware) -> Vec<Misfit> {
    let Some(source) = &facts.hardware else { return Vec::new() };
    let mut out = Vec::new();
    let mut differ = |what, source: &str, target: &str, is_fatal| {
        if !source.is_empty() && !target.is_empty() && source != target {
            let (source, target) = (source.to_owned(), target.to_owned());
            out.push(Misfit { what, source, target, is_fatal });
        }
    };
    differ("architecture", &source.architecture, &target.architecture, true);
    let is_whole = facts.scope == gravure_blockimg::facts::Scope::Disk;
    // One partition may belong to any machine.
    differ("firmware", &source.firmware, &target.firmware, is_whole);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    differ("model", &text(&source.product), &text(&target.product), false);
    let (before, now) = (drives(&source.storage_controllers), drives(&target.storage_controllers));
    if driven_alike(&before, &now).is_none() {
        out.push(Misfit {
            what: "storage controller",
            source: list(&before),
            target: list(&now),
            is_fatal: needs_boot_driver(facts),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use gravure_blockimg::facts::{Scope, Volume};

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

    #[test]
    fn what_keeps_a_system_from_starting() {
        let windows = facts("ntfs", Scope::Disk);
        let names = |facts: &Facts, target: &Hardware| -> Vec<(&str, bool)> {
            misfits(facts, target).iter().map(|misfit| (misfit.what, misfit.is_fatal)).collect()
        };
        // Another AHCI controller is driven alike.
        let other = hardware("uefi", &["pci:1022:7901 class 010601"]);
        assert_eq!((names(&windows, &other), is_driven_alike(&windows, &other)), (vec![], true));
        let nvme = hardware("uefi", &["pci:144d:a808 class 010802"]);
        assert_eq!(names(&windows, &nvme), [("storage controller", true)]);
        assert!(!is_driven_alike(&windows, &nvme));
        // Nobody knows of what machine an image is that others made.
        assert!(!is_driven_alike(&Facts::default(), &nvme));
        assert_eq!(names(&facts("ext4", Scope::Disk), &nvme), [("storage controller", false)]);
        let both = hardware("uefi", &["pci:144d:a808 class 010802", "pci:8086:a282 class 010601"]);
        assert_eq!(names(&windows, &both), []);
        // RAID controllers have no standard.
        let raid = hardware("uefi", &["pci:8086:282a class 010400"]);
        assert_eq!(names(&windows, &raid), [("storage controller", true)]);
        let mut bios = hardware("bios", &["pci:1022:7901 class 010601"]);
        bios.product = Some("B".into());
        assert_eq!(names(&windows, &bios), [("firmware", true), ("model", false)]);
        assert_eq!(names(&facts("ntfs", Scope::Volume), &bios), [("firmware", false), ("model", false)]);
        bios.architecture = "aarch64".into();
        assert!(names(&windows, &bios).contains(&("architecture", true)));
        assert_eq!(names(&Facts::default(), &bios), []);
    }
}
