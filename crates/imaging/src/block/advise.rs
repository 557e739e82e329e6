//! Partition image or WIM for a group of machines? A partition image is the quicker way onto machines that are alike; a WIM takes in the
//! drivers each of them needs. What decides is what would keep a copied system from starting.

use std::collections::{BTreeSet, HashMap};

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

/// Machines that are alike in what matters: one image of blocks starts on all of them, as far as can be told without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// What they have in common, in words.
    pub like: String,
    /// Their names.
    pub machines: Vec<String>,
    /// Bytes of the smallest of the disks that a system would go to.
    pub smallest_disk_bytes: u64,
    /// The kind of image for these machines alone.
    pub image: ImageKind,
    /// Why, the weightiest first.
    pub reasons: Vec<String>,
    /// What to look out for.
    pub cautions: Vec<String>,
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
    sectors: BTreeSet<u32>,
    /// What all of them are driven by.
    drives: Drives,
    machines: Vec<&'a (String, Inventory)>,
}

/// Firmware that reads a table in the disk's own sectors; what a BIOS starts counts in those of the source.
const UEFI: &str = "uefi";
/// Models that one image with the drivers of all of them is worth the work for.
const MANY_MODELS: usize = 3;

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
        let sector_bytes = sector_bytes(&machine.1);
        let place = groups.iter_mut().find_map(|group| {
            let is_alike = group.architecture == architecture
                && group.firmware == firmware
                && (firmware == UEFI || group.sectors.contains(&sector_bytes));
            let common = group.drives.common(&own).filter(|_| is_alike)?;
            Some((group, common))
        });
        match place {
            Some((group, common)) => {
                group.drives = common;
                group.sectors.insert(sector_bytes);
                group.machines.push(machine);
            }
            None => {
                let (machines, sectors) = (vec![machine], BTreeSet::from([sector_bytes]));
                groups.push(Group { architecture, firmware, sectors, drives: own, machines });
            }
        }
    }
    groups
}

fn sector_bytes(machine: &Inventory) -> u32 {
    system_disk(machine).map_or(512, |disk| disk.logical_sector_bytes)
}

/// What is said of an image, or of a kind of images, for some machines.
#[derive(Debug, Clone, Default)]
struct Verdict {
    is_wim: bool,
    reasons: Vec<String>,
    cautions: Vec<String>,
}

impl Verdict {
    fn add(&mut self, other: &Self) {
        self.is_wim |= other.is_wim;
        self.reasons.extend_from_slice(&other.reasons);
        self.cautions.extend_from_slice(&other.cautions);
    }

    fn image(&self) -> ImageKind {
        if self.is_wim { ImageKind::Wim } else { ImageKind::Partition }
    }
}

/// Names for people, the first ones.
fn first_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 4;
    let names: Vec<&str> = names.collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

impl Group<'_> {
    fn models(&self) -> BTreeSet<&str> {
        let products = self.machines.iter().map(|(_, inventory)| inventory.smbios.system.product.as_deref());
        products.map(|product| product.unwrap_or("unknown model")).collect()
    }

    /// What it means that its machines are of several models; nothing where they are of one.
    fn of_models(&self) -> Verdict {
        let models = self.models().len();
        let mut out = Verdict::default();
        if models > MANY_MODELS {
            out.is_wim = true;
            out.reasons.push(format!(
                "{models} models: a WIM with drivers chosen by hardware is less work than one image with all of them"
            ));
        }
        if models > 1 {
            // They start, but a copied Windows looks for drivers of devices it has never seen.
            out.reasons.push(format!(
                "{models} models with the same firmware and controller: one image starts on all of them"
            ));
            out.cautions.push(
                "drivers of other devices differ between models: have plans put them into the restored Windows, or take a WIM"
                    .to_owned(),
            );
        }
        out
    }

    /// An image that is yet to be made.
    fn without_image(&self) -> Verdict {
        let mut out = self.of_models();
        if out.reasons.is_empty() {
            let alike = match self.machines.len() {
                1 => "there is one machine of this kind".to_owned(),
                count => format!("{count} machines are alike"),
            };
            out.reasons.push(quickest(&alike));
        }
        if out.is_wim {
            return out;
        }
        let disks = self.machines.iter().filter_map(|(name, it)| Some((system_disk(it)?.size_bytes, name)));
        let disks: Vec<(u64, &String)> = disks.collect();
        if let (Some((least, name)), Some((most, _))) = (disks.iter().min(), disks.iter().max())
            && least != most
        {
            out.cautions.push(format!(
                "disks of {least} to {most} bytes: capture on the smallest, {name}; on larger ones the last partition is moved and grown"
            ));
        }
        if self.sectors.len() > 1 {
            let each = self.sectors.iter().map(|sector| {
                let with = self.machines.iter().filter(|(_, it)| sector_bytes(it) == *sector);
                format!("{sector} bytes ({})", first_of(with.map(|(name, _)| name.as_str())))
            });
            out.cautions.push(format!(
                "sectors of {}: table and boot sectors are converted, volumes that cannot be are laid out anew, file by file; a disk with BitLocker, \
                 LUKS, LVM or exFAT is refused where sectors differ from the source's",
                each.collect::<Vec<_>>().join(" and of ")
            ));
        }
        out
    }
}

fn quickest(why: &str) -> String {
    format!("{why}: a partition image is the quickest, and a re-deploy moves only what differs")
}

impl std::fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { architecture, firmware, drives, .. } = self;
        let sectors: Vec<String> = self.sectors.iter().map(u32::to_string).collect();
        write!(f, "{architecture}, {firmware}, {drives}, sectors of {} bytes", sectors.join(" and "))
    }
}

/// Advises on a group of machines, by name and inventory; with an image, whether that one serves them. `ask` says what becomes of its Windows on
/// a machine that it has no driver for, where somebody knows what drivers a plan would put in.
pub fn advise(machines: &[(String, Inventory)], image: Option<&Judged<'_>>, ask: Option<Ask<'_>>) -> Advice {
    let groups = grouped(machines);
    let (overall, of_groups) = match image {
        Some(image) => with_image(image, machines, &groups, ask),
        None => without_image(machines, &groups),
    };
    let mut listed: Vec<Alike> =
        groups.iter().zip(of_groups).map(|(group, verdict)| listed(group, verdict)).collect();
    listed.sort_by_key(|group| (std::cmp::Reverse(group.machines.len()), group.like.clone()));
    let image = overall.image();
    let Verdict { reasons, mut cautions, .. } = overall;
    let without_disk = machines.iter().filter(|(_, it)| system_disk(it).is_none());
    let without_disk: Vec<&str> = without_disk.map(|(name, _)| name.as_str()).collect();
    if !without_disk.is_empty() {
        cautions.push(format!("no built-in disk was seen in: {}", without_disk.join(", ")));
    }
    Advice { image, reasons, cautions, groups: listed }
}

fn listed(group: &Group<'_>, verdict: Verdict) -> Alike {
    let disks = group.machines.iter().filter_map(|(_, it)| Some(system_disk(it)?.size_bytes));
    Alike {
        like: group.to_string(),
        smallest_disk_bytes: disks.min().unwrap_or(0),
        machines: group.machines.iter().map(|(name, _)| name.clone()).collect(),
        image: verdict.image(),
        reasons: verdict.reasons,
        cautions: verdict.cautions,
    }
}

/// Of all machines, and of each group.
fn without_image(machines: &[(String, Inventory)], groups: &[Group<'_>]) -> (Verdict, Vec<Verdict>) {
    let of_groups: Vec<Verdict> = groups.iter().map(Group::without_image).collect();
    if let [only] = of_groups.as_slice() {
        return (only.clone(), of_groups);
    }
    let mut overall = Verdict { is_wim: true, ..Verdict::default() };
    overall.reasons.push(format!(
        "{} machines are of {} kinds that do not start from the same blocks; a WIM gets the drivers and boot files of each",
        machines.len(),
        groups.len()
    ));
    let architectures: BTreeSet<&str> = groups.iter().map(|group| group.architecture.as_str()).collect();
    if architectures.len() > 1 {
        let all = architectures.into_iter().collect::<Vec<_>>().join(" and ");
        overall.cautions.push(format!("a system is made for one of {all}: it takes an image for each"));
    }
    let with_blocks = of_groups.iter().filter(|verdict| !verdict.is_wim).count();
    if with_blocks > 0 {
        let each = if with_blocks == groups.len() { "each kind" } else { "some kinds, as said there," };
        overall.cautions.push(format!(
            "a partition image for {each} restores faster, but is one more image to keep up to date"
        ));
    }
    (overall, of_groups)
}

/// An image that is there is held against each machine; how these are to each other does not matter then.
fn with_image(
    image: &Judged<'_>,
    machines: &[(String, Inventory)],
    groups: &[Group<'_>],
    mut ask: Option<Ask<'_>>,
) -> (Verdict, Vec<Verdict>) {
    // Names may be alike, too.
    let by_machine: HashMap<*const (String, Inventory), Verdict> = machines
        .iter()
        .map(|machine| (std::ptr::from_ref(machine), judge_machine(image, machine, &mut ask)))
        .collect();
    let of = |machines: &mut dyn Iterator<Item = &(String, Inventory)>, models: Verdict| {
        let (mut out, mut count) = (models, 0u64);
        let is_of_several = !out.reasons.is_empty();
        if image.facts().scope == Scope::Files {
            out.is_wim = true;
            let why =
                "the image holds files: it fits disks of any size, and drivers are added for each machine";
            out.reasons.insert(0, why.to_owned());
        }
        for machine in machines {
            count += 1;
            by_machine.get(&std::ptr::from_ref(machine)).into_iter().for_each(|verdict| out.add(verdict));
        }
        if !out.is_wim && !is_of_several {
            let from = match count {
                1 => "this machine".to_owned(),
                count => format!("{count} machines"),
            };
            out.reasons.insert(0, quickest(&format!("nothing keeps the image from {from}")));
        }
        out
    };
    let of_groups =
        groups.iter().map(|group| of(&mut group.machines.iter().copied(), group.of_models())).collect();
    let models = match groups {
        [only] => only.of_models(),
        _ => Verdict::default(),
    };
    (of(&mut machines.iter(), models), of_groups)
}

/// Whether an image of blocks that is there serves a machine.
fn judge_machine(
    image: &Judged<'_>,
    (name, inventory): &(String, Inventory),
    ask: &mut Option<Ask<'_>>,
) -> Verdict {
    let facts = image.facts();
    let mut out = Verdict::default();
    if facts.scope == Scope::Files {
        return out;
    }
    for misfit in misfits(image, &hardware(inventory)) {
        let line = format!("{name}: {misfit}");
        let outlook = ask.as_mut().filter(|_| misfit.is_cured_by_driver()).map(|ask| ask(inventory));
        match outlook {
            Some(Outlook::Starts(how)) => {
                out.cautions.push(format!("{line}; deployed by a plan its Windows starts: {how}"));
            }
            Some(Outlook::Fails(why)) => {
                out.is_wim = true;
                out.reasons.push(format!("{line}; {why}"));
            }
            None if misfit.is_fatal => {
                out.is_wim = true;
                let cure = match misfit.is_cured_by_driver() {
                    true => "; a plan puts a driver into its Windows, where the site has one",
                    false => "",
                };
                out.reasons.push(format!("{line}{cure}"));
            }
            None => out.cautions.push(line),
        }
    }
    let Some(disk) = system_disk(inventory) else { return out };
    let (size, sector) = (disk.size_bytes, disk.logical_sector_bytes);
    let said = facts.table.as_ref().and_then(|table| table.sector_bytes);
    let made_for = said.unwrap_or(facts.source.sector_bytes);
    if sector != made_for {
        let line = format!("{name}: sectors of {sector} bytes, the image was made for {made_for}");
        // What a BIOS starts counts in sectors and is not taken over.
        if facts.scope == Scope::Disk && inventory.firmware.mode == FirmwareMode::Bios {
            out.is_wim = true;
            out.reasons.push(format!("{line}, and so was what a BIOS starts"));
        } else {
            out.cautions.push(format!(
                "{line}: table and boot sectors are converted, volumes that cannot be are laid out anew, file by file"
            ));
        }
    }
    let used: u64 = facts.volumes.iter().map(|volume| volume.used_bytes).sum();
    if size < used {
        out.is_wim = true;
        out.reasons.push(format!("{name}: a disk of {size} bytes, {used} are in use in the image"));
    } else if size < facts.source.size_bytes {
        out.cautions.push(format!(
            "{name}: a disk of {size} bytes, smaller than the {} of the source",
            facts.source.size_bytes
        ));
    }
    out
}

#[cfg(test)]
mod tests;
