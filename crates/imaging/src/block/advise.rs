//! Partition image or WIM for a group of machines? A partition image is the quicker way onto machines that are alike; a WIM takes in the
//! drivers each of them needs. What decides is what would keep a copied system from starting.

use std::collections::BTreeMap;

use gravure_blockimg::facts::{Hardware, Scope};
use gravure_model::inventory::{FirmwareMode, Inventory};
use serde::Serialize;

use super::misfit::{Drives, Judged, hardware_of, misfits, system_disk};

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

/// Machines that one image starts on, as far as can be told without it.
struct Group<'a> {
    architecture: String,
    firmware: String,
    sector_bytes: u32,
    /// What all of them are driven by.
    drives: Drives,
    machines: Vec<&'a (String, Inventory)>,
}

/// What a plan that services the Windows of an image would make of a machine whose controller its Windows has no driver for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It starts, and by what.
    Starts(String),
    /// It does not, and why.
    Fails(String),
}

/// Asked for a machine, where somebody knows the drivers that there are.
type Ask<'a> = &'a mut dyn FnMut(&Inventory) -> Outlook;

/// A machine's hardware with the disk that a system would go to.
fn hardware(machine: &Inventory) -> Hardware {
    hardware_of(machine, system_disk(machine).map(|disk| disk.name.as_str()))
}

/// Puts machines together that are alike in what systems care about. Controllers are judged as a refusal would judge them.
fn grouped(machines: &[(String, Inventory)]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for machine in machines {
        let hardware = hardware(&machine.1);
        let own = Drives::of(&hardware);
        let Hardware { architecture, firmware, .. } = hardware;
        let sector_bytes = system_disk(&machine.1).map_or(512, |disk| disk.logical_sector_bytes);
        let place = groups.iter_mut().find_map(|group| {
            let is_alike = group.architecture == architecture
                && group.firmware == firmware
                && group.sector_bytes == sector_bytes;
            let common = group.drives.common(&own).filter(|_| is_alike)?;
            Some((group, common))
        });
        match place {
            Some((group, common)) => {
                group.drives = common;
                group.machines.push(machine);
            }
            None => {
                let machines = vec![machine];
                groups.push(Group { architecture, firmware, sector_bytes, drives: own, machines });
            }
        }
    }
    groups
}

impl std::fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { architecture, firmware, sector_bytes, drives, .. } = self;
        write!(f, "{architecture}, {firmware}, {drives}, sectors of {sector_bytes} bytes")
    }
}

/// Advises on a group of machines, by name and inventory; with an image, whether that one serves them. `ask` says what becomes of its Windows on
/// a machine that it has no driver for, where somebody knows what drivers a plan would put in.
pub fn advise(machines: &[(String, Inventory)], image: Option<&Judged<'_>>, ask: Option<Ask<'_>>) -> Advice {
    let groups = grouped(machines);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for (_, inventory) in machines {
        let product = inventory.smbios.system.product.clone().unwrap_or_else(|| "unknown model".to_owned());
        *kinds.entry(product).or_default() += 1;
    }
    let (mut reasons, mut cautions) = (Vec::new(), Vec::new());
    let mut is_wim = false;
    // An image that is there is held against each machine; how these are to each other does not matter then.
    if groups.len() > 1 && image.is_none() {
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
    if let Some(image) = image {
        judge_image(image, machines, ask, &mut is_wim, &mut reasons, &mut cautions);
    } else {
        let sizes: Vec<u64> =
            machines.iter().filter_map(|(_, it)| Some(system_disk(it)?.size_bytes)).collect();
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
        let alike = match (image, machines.len()) {
            (Some(_), count) => format!("nothing keeps the image from {count} machines"),
            (None, count) => format!("{count} machines are alike"),
        };
        let text =
            format!("{alike}: a partition image is the quickest, and a re-deploy moves only what differs");
        reasons.insert(0, text);
    }
    let mut groups: Vec<Alike> = groups
        .into_iter()
        .map(|group| Alike {
            like: group.to_string(),
            smallest_disk_bytes: group
                .machines
                .iter()
                .filter_map(|(_, it)| Some(system_disk(it)?.size_bytes))
                .min()
                .unwrap_or(0),
            machines: group.machines.iter().map(|(name, _)| name.clone()).collect(),
        })
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.machines.len()), group.like.clone()));
    let image = if is_wim { ImageKind::Wim } else { ImageKind::Partition };
    Advice { image, reasons, cautions, groups }
}

/// Whether an image that is there serves the machines.
fn judge_image(
    image: &Judged<'_>,
    machines: &[(String, Inventory)],
    mut ask: Option<Ask<'_>>,
    is_wim: &mut bool,
    reasons: &mut Vec<String>,
    cautions: &mut Vec<String>,
) {
    let facts = image.facts();
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
        for misfit in misfits(image, &hardware(inventory)) {
            let line = format!("{name}: {misfit}");
            let outlook = ask.as_mut().filter(|_| misfit.is_cured_by_driver()).map(|ask| ask(inventory));
            match outlook {
                Some(Outlook::Starts(how)) => {
                    cautions.push(format!("{line}; deployed by a plan its Windows starts: {how}"));
                }
                Some(Outlook::Fails(why)) => {
                    *is_wim = true;
                    reasons.push(format!("{line}; {why}"));
                }
                None if misfit.is_fatal => {
                    *is_wim = true;
                    let cure = match misfit.is_cured_by_driver() {
                        true => "; a plan puts a driver into its Windows, where the site has one",
                        false => "",
                    };
                    reasons.push(format!("{line}{cure}"));
                }
                None => cautions.push(line),
            }
        }
        let Some(disk) = system_disk(inventory) else { continue };
        let (size, sector) = (disk.size_bytes, disk.logical_sector_bytes);
        let said = facts.table.as_ref().and_then(|table| table.sector_bytes);
        let made_for = said.unwrap_or(facts.source.sector_bytes);
        if sector != made_for {
            let line = format!("{name}: sectors of {sector} bytes, the image was made for {made_for}");
            // What a BIOS starts counts in sectors and is not taken over.
            if facts.scope == Scope::Disk && inventory.firmware.mode == FirmwareMode::Bios {
                *is_wim = true;
                reasons.push(format!("{line}, and so was what a BIOS starts"));
            } else {
                cautions.push(format!(
                    "{line}: table and boot sectors are converted, volumes that cannot be are laid out anew, file by file"
                ));
            }
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
    use gravure_blockimg::facts::Facts;
    use gravure_model::inventory::{Device, Disk, PciDevice};

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
        let advice = advise(&group, None, None);
        assert_eq!((advice.image, advice.groups.len()), (ImageKind::Partition, 1));
        assert_eq!(advice.groups[0].smallest_disk_bytes, 256 << 30);
        assert!(advice.reasons[0].starts_with("2 machines are alike"), "{advice:?}");
        assert!(advice.cautions[0].contains("capture on the smallest"), "{advice:?}");
    }

    #[test]
    fn unlike_machines_get_a_wim() {
        for other in [machine("B", 0x010601, 256 << 30, 512), machine("A", 0x010802, 256 << 30, 4096)] {
            let advice = advise(&named(vec![machine("A", 0x010802, 256 << 30, 512), other]), None, None);
            assert_eq!((advice.image, advice.groups.len()), (ImageKind::Wim, 2), "{advice:?}");
        }
        let models = ["A", "B", "C", "D"].map(|model| machine(model, 0x010802, 1 << 38, 512));
        let few = advise(&named(models[..2].to_vec()), None, None);
        assert_eq!(few.image, ImageKind::Partition);
        assert!(few.cautions[0].contains("drivers"), "{few:?}");
        assert_eq!(advise(&named(models.to_vec()), None, None).image, ImageKind::Wim);
    }

    #[test]
    fn an_image_is_held_against_each_machine() {
        let source = machine("A", 0x010802, 256 << 30, 512);
        let mut facts = Facts { scope: Scope::Disk, hardware: Some(hardware(&source)), ..Facts::default() };
        facts.source.size_bytes = 256 << 30;
        facts.source.sector_bytes = 512;
        facts.volumes = vec![gravure_blockimg::facts::Volume {
            content: "ntfs".into(),
            used_bytes: 100 << 30,
            ..Default::default()
        }];
        let ask = |target: Inventory| advise(&named(vec![target]), Some(&Judged::by_facts(&facts)), None);
        assert_eq!(ask(source.clone()).image, ImageKind::Partition);
        let smaller = ask(machine("A", 0x010802, 128 << 30, 512));
        assert_eq!(smaller.image, ImageKind::Partition);
        assert!(smaller.cautions[0].contains("smaller than"), "{smaller:?}");
        let converted = ask(machine("A", 0x010802, 256 << 30, 4096));
        assert_eq!(converted.image, ImageKind::Partition);
        assert!(converted.cautions[0].contains("boot sectors are converted"), "{converted:?}");
        // A machine that starts by BIOS starts from its boot code.
        let mut bios = machine("A", 0x010802, 256 << 30, 4096);
        bios.firmware.mode = FirmwareMode::Bios;
        for target in [machine("A", 0x010802, 64 << 30, 512), bios, machine("A", 0x010601, 256 << 30, 512)] {
            let advice = ask(target);
            assert_eq!(advice.image, ImageKind::Wim, "{advice:?}");
            assert!(advice.reasons.iter().any(|reason| reason.starts_with("pc1: ")), "{advice:?}");
        }
    }

    /// What the advisor says of two machines, and of an image on a machine, is what a refusal would say when it is applied.
    #[test]
    fn advice_and_refusal_agree_on_controllers() {
        const IDE: u32 = 0x010180;
        const AHCI: u32 = 0x010601;
        const NVME: u32 = 0x010802;
        // Without a standard: only the same device is driven alike.
        const RAID: u32 = 0x010400;
        let with = |controllers: &[(u16, u32)]| {
            let mut out = machine("A", AHCI, 256 << 30, 512);
            let one = out.pci.remove(0);
            let pci = controllers.iter().map(|(device, class)| PciDevice {
                device: *device,
                class: *class,
                ..one.clone()
            });
            out.pci = pci.collect();
            out
        };
        type Controllers = &'static [(u16, u32)];
        let cases: [(Controllers, Controllers, bool); 11] = [
            (&[(1, AHCI)], &[(1, AHCI)], true),
            (&[(1, AHCI)], &[(2, AHCI)], true),
            (&[(1, AHCI)], &[(2, NVME)], false),
            (&[(1, AHCI)], &[(2, NVME), (3, AHCI)], true),
            (&[(1, AHCI), (2, NVME)], &[(3, AHCI)], true),
            (&[(1, AHCI), (2, NVME)], &[(3, IDE)], false),
            (&[(1, IDE)], &[(2, IDE), (3, NVME)], true),
            (&[(1, RAID)], &[(1, RAID)], true),
            (&[(1, RAID)], &[(2, RAID)], false),
            (&[(1, RAID)], &[(2, RAID), (3, AHCI)], false),
            (&[(1, AHCI)], &[], true),
        ];
        for (source, target, is_alike) in cases {
            let (source, target) = (with(source), with(target));
            let pair = named(vec![source.clone(), target.clone()]);
            let groups = advise(&pair, None, None);
            assert_eq!(groups.groups.len() == 1, is_alike, "{groups:?}");
            assert_eq!(groups.image == ImageKind::Partition, is_alike, "{groups:?}");
            for content in ["ntfs", "ext4"] {
                let volume =
                    gravure_blockimg::facts::Volume { content: content.into(), ..Default::default() };
                let hardware = Some(hardware(&source));
                let mut facts =
                    Facts { scope: Scope::Disk, hardware, volumes: vec![volume], ..Facts::default() };
                facts.source.sector_bytes = 512;
                let image = Judged::by_facts(&facts);
                let found = misfits(&image, &super::hardware(&target));
                assert_eq!(found.is_empty(), is_alike, "{found:?}");
                let is_refused = found.iter().any(|misfit| misfit.is_fatal);
                assert_eq!(is_refused, !is_alike && content == "ntfs", "{found:?}");
                // On this machine alone, and among others that the image was made on.
                for group in [named(vec![target.clone()]), pair.clone()] {
                    let advice = advise(&group, Some(&image), None);
                    assert_eq!(advice.image == ImageKind::Wim, is_refused, "{advice:?}");
                    let told = advice.reasons.iter().chain(&advice.cautions);
                    assert_eq!(told.filter(|line| line.contains("storage controller")).count(), found.len());
                }
            }
        }
    }

    #[test]
    fn a_group_has_something_in_common_that_drives_all_of_it() {
        let with = |classes: &[u32]| {
            let mut out = machine("A", 0, 256 << 30, 512);
            let one = out.pci.remove(0);
            out.pci = classes.iter().map(|class| PciDevice { class: *class, ..one.clone() }).collect();
            out
        };
        let (ahci, nvme) = (0x010601, 0x010802);
        let advice = advise(&named(vec![with(&[ahci, nvme]), with(&[ahci]), with(&[nvme])]), None, None);
        let groups: Vec<(&str, usize)> =
            advice.groups.iter().map(|group| (group.like.as_str(), group.machines.len())).collect();
        let expected = [
            ("x86_64, uefi, AHCI, sectors of 512 bytes", 2),
            ("x86_64, uefi, NVMe, sectors of 512 bytes", 1),
        ];
        assert_eq!(groups, expected);
    }

    /// A machine whose one disk hangs on its NVMe controller, beside one for AHCI.
    fn on_nvme(product: &str) -> Inventory {
        let mut out = machine(product, 0x010601, 256 << 30, 512);
        let nvme = PciDevice { address: "0000:01:00.0".into(), class: 0x010802, ..out.pci[0].clone() };
        out.pci.push(nvme);
        out.devices = vec![Device {
            bus: "disk".into(),
            place: "sda".into(),
            parent: Some("0000:01:00.0".into()),
            ..Device::default()
        }];
        out
    }

    #[test]
    fn machines_are_alike_by_what_their_disks_hang_on() {
        let ahci = machine("A", 0x010601, 256 << 30, 512);
        let advice = advise(&named(vec![on_nvme("A"), on_nvme("A"), ahci]), None, None);
        let groups: Vec<&str> = advice.groups.iter().map(|group| group.like.as_str()).collect();
        let expected =
            ["x86_64, uefi, NVMe, sectors of 512 bytes", "x86_64, uefi, AHCI, sectors of 512 bytes"];
        assert_eq!((advice.image, groups.as_slice()), (ImageKind::Wim, &expected[..]));
    }

    #[test]
    fn a_driver_that_a_plan_puts_in_is_no_reason_against_an_image() {
        let source = machine("A", 0x010601, 256 << 30, 512);
        let volume = gravure_blockimg::facts::Volume { content: "NTFS".into(), ..Default::default() };
        let hardware = Some(hardware(&source));
        let mut facts = Facts { scope: Scope::Disk, hardware, volumes: vec![volume], ..Facts::default() };
        facts.source.sector_bytes = 512;
        let machines = named(vec![source, on_nvme("A")]);
        let told = "pc2: storage controller: the image is of AHCI, this is NVMe; ";
        let mut asked = 0;
        let mut with = |facts: &Facts, outlook: Option<Outlook>| {
            let image = Judged::by_facts(facts);
            let Some(outlook) = outlook else { return advise(&machines, Some(&image), None) };
            advise(
                &machines,
                Some(&image),
                Some(&mut |machine| {
                    asked += 1;
                    assert_eq!(machine, &machines[1].1, "the other needs nothing");
                    outlook.clone()
                }),
            )
        };
        let starts = with(&facts, Some(Outlook::Starts("stornvme.inf".into())));
        assert_eq!(starts.image, ImageKind::Partition, "{starts:?}");
        assert_eq!(starts.cautions, [format!("{told}deployed by a plan its Windows starts: stornvme.inf")]);
        let fails = with(&facts, Some(Outlook::Fails("no driver for it".into())));
        assert_eq!((fails.image, fails.reasons), (ImageKind::Wim, vec![format!("{told}no driver for it")]));
        let unasked = with(&facts, None);
        let hint = format!("{told}a plan puts a driver into its Windows, where the site has one");
        assert_eq!((unasked.image, unasked.reasons), (ImageKind::Wim, vec![hint]));
        // Of data nobody starts.
        facts.volumes[0].has_windows = Some(false);
        let data = with(&facts, Some(Outlook::Fails("not asked".into())));
        assert_eq!(
            (data.image, data.cautions),
            (ImageKind::Partition, vec![told.trim_end_matches("; ").to_owned()])
        );
        assert_eq!(asked, 2);
    }
}
