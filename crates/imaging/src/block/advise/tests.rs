//! What is advised for machines, and of images for them.

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
    let group = named(vec![machine("A", 0x010802, 256 << 30, 512), machine("A", 0x010802, 512 << 30, 512)]);
    let advice = advise(&group, None, None);
    assert_eq!((advice.image, advice.groups.len()), (ImageKind::Partition, 1));
    assert_eq!(advice.groups[0].smallest_disk_bytes, 256 << 30);
    assert!(advice.reasons[0].starts_with("2 machines are alike"), "{advice:?}");
    assert!(advice.cautions[0].contains("capture on the smallest"), "{advice:?}");
}

#[test]
fn unlike_machines_get_a_wim() {
    let bios = |sector| {
        let mut out = machine("A", 0x010802, 256 << 30, sector);
        out.firmware.mode = FirmwareMode::Bios;
        out
    };
    let nvme = machine("A", 0x010802, 256 << 30, 512);
    let pairs = [
        [nvme.clone(), machine("B", 0x010601, 256 << 30, 512)],
        [nvme, bios(512)],
        // What a BIOS starts counts in sectors.
        [bios(512), bios(4096)],
    ];
    for pair in pairs {
        let advice = advise(&named(pair.to_vec()), None, None);
        assert_eq!((advice.image, advice.groups.len()), (ImageKind::Wim, 2), "{advice:?}");
    }
    let models = ["A", "B", "C", "D"].map(|model| machine(model, 0x010802, 1 << 38, 512));
    let few = advise(&named(models[..2].to_vec()), None, None);
    assert_eq!(few.image, ImageKind::Partition);
    assert!(few.cautions[0].contains("drivers"), "{few:?}");
    assert_eq!(advise(&named(models.to_vec()), None, None).image, ImageKind::Wim);
}

/// As the image of one is judged on the other, below.
#[test]
fn sectors_are_converted_where_a_uefi_starts_and_that_is_said() {
    let group = named(vec![
        machine("A", 0x010802, 256 << 30, 4096),
        machine("A", 0x010802, 256 << 30, 512),
        machine("A", 0x010802, 256 << 30, 4096),
    ]);
    let advice = advise(&group, None, None);
    assert_eq!((advice.image, advice.groups.len()), (ImageKind::Partition, 1), "{advice:?}");
    assert_eq!(advice.groups[0].like, "x86_64, uefi, NVMe, sectors of 512 and 4096 bytes");
    let [caution] = advice.cautions.as_slice() else { panic!("{advice:?}") };
    assert!(
        caution.starts_with("sectors of 512 bytes (pc2) and of 4096 bytes (pc1, pc3): table"),
        "{caution}"
    );
    assert!(caution.contains("BitLocker, LUKS, LVM or exFAT is refused"), "{caution}");
}

#[test]
fn each_kind_of_a_mixed_fleet_has_its_own_advice() {
    let bios = |architecture: &str| {
        let mut out = machine("Old", 0x010601, 1 << 38, 512);
        out.firmware.mode = FirmwareMode::Bios;
        out.cpu.architecture = architecture.into();
        out
    };
    let mut all = vec![machine("A", 0x010802, 1 << 39, 512), machine("A", 0x010802, 1 << 38, 512)];
    all.extend(["A", "B", "C", "D"].map(|model| machine(model, 0x010601, 1 << 38, 512)));
    all.push(bios("x86_64"));
    let mut machines = named(all);
    let advice = advise(&machines, None, None);
    assert_eq!(advice.image, ImageKind::Wim);
    assert_eq!(
        (advice.reasons, advice.cautions),
        (
            vec![
                "7 machines are of 3 kinds that do not start from the same blocks; a WIM gets the drivers and boot files of each"
                    .to_owned()
            ],
            vec![
                "a partition image for some kinds, as said there, restores faster, but is one more image to keep up to date"
                    .to_owned()
            ]
        )
    );
    let kinds: Vec<_> = advice.groups.iter().map(|group| (group.machines.len(), group.image)).collect();
    assert_eq!(kinds, [(4, ImageKind::Wim), (2, ImageKind::Partition), (1, ImageKind::Partition)]);
    assert!(
        advice.groups[0].reasons[0].starts_with("4 models: a WIM with drivers"),
        "{:?}",
        advice.groups[0]
    );
    let smallest = "disks of 274877906944 to 549755813888 bytes: capture on the smallest, pc2; on larger ones the last partition is moved and grown";
    assert_eq!(advice.groups[1].cautions, [smallest]);
    assert!(advice.groups[2].reasons[0].starts_with("there is one machine of this kind: a partition image"));
    // No image is for two architectures.
    machines.push(("arm".to_owned(), bios("aarch64")));
    let advice = super::advise(&machines, None, None);
    assert_eq!(
        advice.cautions[0],
        "a system is made for one of aarch64 and x86_64: it takes an image for each"
    );
    // With an image each kind is told what becomes of it there; machines of the same name are two.
    let source = machine("A", 0x010802, 1 << 38, 512);
    let volume = gravure_blockimg::facts::Volume { content: "NTFS".into(), ..Default::default() };
    let hardware = Some(hardware(&source));
    let mut facts = Facts { scope: Scope::Disk, hardware, volumes: vec![volume], ..Facts::default() };
    facts.source.sector_bytes = 512;
    let twice = vec![
        ("pc".to_owned(), machine("A", 0x010802, 1 << 38, 512)),
        ("pc".to_owned(), machine("A", 0x010601, 1 << 38, 512)),
    ];
    let advice = super::advise(&twice, Some(&Judged::by_facts(&facts)), None);
    let kinds: Vec<_> = advice.groups.iter().map(|group| (group.like.as_str(), group.image)).collect();
    let expected = [
        ("x86_64, uefi, AHCI, sectors of 512 bytes", ImageKind::Wim),
        ("x86_64, uefi, NVMe, sectors of 512 bytes", ImageKind::Partition),
    ];
    assert_eq!((advice.image, kinds.as_slice()), (ImageKind::Wim, &expected[..]), "{advice:?}");
    assert!(advice.groups[0].reasons[0].starts_with("pc: storage controller: the image is of NVMe"));
    assert!(
        advice.groups[1].reasons[0].starts_with("nothing keeps the image from this machine: a partition")
    );
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
            let volume = gravure_blockimg::facts::Volume { content: content.into(), ..Default::default() };
            let hardware = Some(hardware(&source));
            let mut facts = Facts { scope: Scope::Disk, hardware, volumes: vec![volume], ..Facts::default() };
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
    let expected =
        [("x86_64, uefi, AHCI, sectors of 512 bytes", 2), ("x86_64, uefi, NVMe, sectors of 512 bytes", 1)];
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
    let expected = ["x86_64, uefi, NVMe, sectors of 512 bytes", "x86_64, uefi, AHCI, sectors of 512 bytes"];
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
