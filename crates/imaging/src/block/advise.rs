//! Partition image or WIM for a group of machines? A partition image is the quicker way onto machines that are alike; a WIM takes in the
//! drivers each of them needs. What decides is what would keep a copied system from starting.

use std::collections::BTreeMap;

use gravure_blockimg::facts::{Facts, Hardware, Scope};
use gravure_model::inventory::Inventory;
use serde::Serialize;

use super::misfit::{hardware_of, misfits};

/// Kinds of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Block image of a partition or disk.
    Partition,
    /// WIM: files.
    Wim,
}

/// Machines that are alike in what matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// What they have in common, in words.
    pub like: String,
    /// Their names.
    pub machines: Vec<String>,
    /// Bytes of the smallest of the disks that a system would go to.
    pub smallest_disk_bytes: u64,
}

/// What is to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The kind of image.
    pub image: ImageKind,
    /// Why, the weightiest first.
    pub reasons: Vec<String>,
    /// What to look out for.
    pub cautions: Vec<String>,
    /// The group by likeness, the largest first.
    pub groups: Vec<Alike>,
}

/// What systems care about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Likeness {
    architecture: String,
    firmware: String,
    controllers: Vec<String>,
    sector_bytes: u32,
}

/// The disk a system goes to: the smallest that is built in.
fn system_disk(inventory: &Inventory) -> Option<(u64, u32)> {
    let built_in = inventory.disks.iter().filter(|disk| !disk.removable && disk.size_bytes > 0);
    built_in.map(|disk| (disk.size_bytes, disk.logical_sector_bytes)).min()
}

fn likeness(inventory: &Inventory) -> Likeness {
    let Hardware { architecture, firmware, storage_controllers, .. } = hardware_of(inventory);
    let mut controllers: Vec<String> =
        storage_controllers.iter().map(|controller| super::misfit::driven_by(controller)).collect();
    controllers.sort();
    controllers.dedup();
    let sector_bytes = system_disk(inventory).map_or(512, |(_, sector)| sector);
    Likeness { architecture, firmware, controllers, sector_bytes }
}

impl std::fmt::Display for Likeness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let controllers = if self.controllers.is_empty() {
            "no known controller".to_owned()
        } else {
            self.controllers.join(" + ")
        };
        let Self { architecture, firmware, sector_bytes, .. } = self;
        write!(f, "{architecture}, {firmware}, {controllers}, sectors of {sector_bytes} bytes")
    }
}

/// Advises on a group of machines, by name and inventory; with the facts of an image, whether that one serves them.
pub fn advise(machines: &[(String, Inventory)], image: Option<&Facts>) -> Advice {
    let mut groups: BTreeMap<Likeness, Vec<&(String, Inventory)>> = BTreeMap::new();
    for machine in machines {
        groups.entry(likeness(&machine.1)).or_default().push(machine);
    }
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for (_, inventory) in machines {
        let product = inventory.smbios.system.product.clone().unwrap_or_else(|| "unknown model".to_owned());
        *kinds.entry(product).or_default() += 1;
    }
    let (mut reasons, mut cautions) = (Vec::new(), Vec::new());
    let mut is_wim = false;
    if groups.len() > 1 {
        is_wim = true;
        reasons.push(format!(
            "{} machines are of {} kinds that do not start from the same blocks; a WIM gets the drivers and boot files of each",
            machines.len(),
            groups.len()
        ));
    }
    if kinds.len() > 1 && groups.len() == 1 {
        let models = kinds.len();
        // They start, but a copied Windows looks for drivers of devices it has never seen.
        let text = format!(
            "{models} models with the same firmware, controller and sectors: one image starts on all of them"
        );
        reasons.push(text);
        cautions.push(
            "drivers of other devices differ between models: have plans put them into the restored Windows, or take a WIM"
                .to_owned(),
        );
        is_wim = models > 3;
        if is_wim {
            reasons.insert(0, format!("{models} models: a WIM with drivers chosen by hardware is less work than one image with all of them"));
        }
    }
    if let Some(facts) = image {
        judge_image(facts, machines, &mut is_wim, &mut reasons, &mut cautions);
    } else {
        let sizes: Vec<u64> = machines.iter().filter_map(|(_, it)| Some(system_disk(it)?.0)).collect();
        if let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max())
            && least != most
        {
            cautions.push(format!(
                    "disks of {least} to {most} bytes: capture on the smallest; on larger ones the last partition is moved and grown"
                ));
        }
    }
    let without_disk: Vec<&str> =
        machines.iter().filter(|(_, it)| system_disk(it).is_none()).map(|(name, _)| name.as_str()).collect();
    if !without_disk.is_empty() {
        cautions.push(format!("no built-in disk was seen in: {}", without_disk.join(", ")));
    }
    if !is_wim && kinds.len() <= 1 {
        let text = format!(
            "{} machines are alike: a partition image is the quickest, and a re-deploy moves only what differs",
            machines.len()
        );
        reasons.insert(0, text);
    }
    let mut groups: Vec<Alike> = groups
        .into_iter()
        .map(|(like, machines)| Alike {
            like: like.to_string(),
            smallest_disk_bytes: machines
                .iter()
                .filter_map(|(_, it)| Some(system_disk(it)?.0))
                .min()
                .unwrap_or(0),
            machines: machines.iter().map(|(name, _)| name.clone()).collect(),
        })
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.machines.len()), group.like.clone()));
    let image = if is_wim { ImageKind::Wim } else { ImageKind::Partition };
    Advice { image, reasons, cautions, groups }
}

/// Whether an image that is there serves the machines.
fn judge_image(
    facts: &Facts,
    machines: &[(String, Inventory)],
    is_wim: &mut bool,
    reasons: &mut Vec<String>,
    cautions: &mut Vec<String>,
) {
    if facts.scope == Scope::Files {
        *is_wim = true;
        reasons.insert(
            0,
            "the image holds files: it fits disks of any size, and drivers are added for each machine"
                .to_owned(),
        );
        return;
    }
    for (name, inventory) in machines {
        for misfit in misfits(facts, &hardware_of(inventory)) {
            let line = format!("{name}: {misfit}");
            if misfit.is_fatal {
                *is_wim = true;
                reasons.push(line);
            } else {
                cautions.push(line);
            }
        }
        let Some((size, sector)) = system_disk(inventory) else { continue };
        let said = facts.table.as_ref().and_then(|table| table.sector_bytes);
        let made_for = said.unwrap_or(facts.source.sector_bytes);
        if sector != made_for {
            *is_wim = true;
            reasons.push(format!("{name}: sectors of {sector} bytes, the image was made for {made_for}"));
        }
        let used: u64 = facts.volumes.iter().map(|volume| volume.used_bytes).sum();
        if size < used {
            *is_wim = true;
            reasons.push(format!("{name}: a disk of {size} bytes, {used} are in use in the image"));
        } else if size < facts.source.size_bytes {
            cautions.push(format!(
                "{name}: a disk of {size} bytes, smaller than the {} of the source",
                facts.source.size_bytes
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gravure_model::inventory::{Disk, FirmwareMode, PciDevice};

    fn machine(product: &str, class: u32, size: u64, sector: u32) -> Inventory {
        let mut out = Inventory::default();
        out.cpu.architecture = "x86_64".into();
        out.firmware.mode = FirmwareMode::Uefi;
        out.smbios.system.product = Some(product.into());
        out.pci = vec![
            serde_json::from_value::<PciDevice>(serde_json::json!({
                "address": "0000:00:17.0", "vendor": 0x8086, "device": 0x282a, "subsystem_vendor": 0,
                "subsystem_device": 0, "class": class, "revision": 0, "driver": null
            }))
            .unwrap(),
        ];
        out.disks = vec![
            serde_json::from_value::<Disk>(serde_json::json!({
                "name": "sda", "model": null, "serial": null, "wwn": null, "size_bytes": size,
                "logical_sector_bytes": sector, "physical_sector_bytes": 4096, "rotational": false,
                "removable": false, "read_only": false, "transport": null, "in_use": [], "content": []
            }))
            .unwrap(),
        ];
        out
    }

    fn named(machines: Vec<Inventory>) -> Vec<(String, Inventory)> {
        (1..).map(|number: u32| format!("pc{number}")).zip(machines).collect()
    }

    #[test]
    fn alike_machines_get_a_partition_image() {
        let group =
            named(vec![machine("A", 0x010802, 256 << 30, 512), machine("A", 0x010802, 512 << 30, 512)]);
        let advice = advise(&group, None);
        assert_eq!((advice.image, advice.groups.len()), (ImageKind::Partition, 1));
        assert_eq!(advice.groups[0].smallest_disk_bytes, 256 << 30);
        assert!(advice.reasons[0].starts_with("2 machines are alike"), "{advice:?}");
        assert!(advice.cautions[0].contains("capture on the smallest"), "{advice:?}");
    }

    #[test]
    fn unlike_machines_get_a_wim() {
        for other in [machine("B", 0x010601, 256 << 30, 512), machine("A", 0x010802, 256 << 30, 4096)] {
            let advice = advise(&named(vec![machine("A", 0x010802, 256 << 30, 512), other]), None);
            assert_eq!((advice.image, advice.groups.len()), (ImageKind::Wim, 2), "{advice:?}");
        }
        let models = ["A", "B", "C", "D"].map(|model| machine(model, 0x010802, 1 << 38, 512));
        let few = advise(&named(models[..2].to_vec()), None);
        assert_eq!(few.image, ImageKind::Partition);
        assert!(few.cautions[0].contains("drivers"), "{few:?}");
        assert_eq!(advise(&named(models.to_vec()), None).image, ImageKind::Wim);
    }

    #[test]
    fn an_image_is_held_against_each_machine() {
        let source = machine("A", 0x010802, 256 << 30, 512);
        let mut facts =
            Facts { scope: Scope::Disk, hardware: Some(hardware_of(&source)), ..Facts::default() };
        facts.source.size_bytes = 256 << 30;
        facts.source.sector_bytes = 512;
        facts.volumes = vec![gravure_blockimg::facts::Volume {
            content: "ntfs".into(),
            used_bytes: 100 << 30,
            ..Default::default()
        }];
        let ask = |target: Inventory| advise(&named(vec![target]), Some(&facts));
        assert_eq!(ask(source.clone()).image, ImageKind::Partition);
        let smaller = ask(machine("A", 0x010802, 128 << 30, 512));
        assert_eq!(smaller.image, ImageKind::Partition);
        assert!(smaller.cautions[0].contains("smaller than"), "{smaller:?}");
        for target in [
            machine("A", 0x010802, 64 << 30, 512),
            machine("A", 0x010802, 256 << 30, 4096),
            machine("A", 0x010601, 256 << 30, 512),
        ] {
            let advice = ask(target);
            assert_eq!(advice.image, ImageKind::Wim, "{advice:?}");
            assert!(advice.reasons.iter().any(|reason| reason.starts_with("pc1: ")), "{advice:?}");
        }
    }
}
