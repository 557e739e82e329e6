//! Ranks that Windows itself stored (device, IDs, matching ID, rank), and made-up ones of the same shape. The files that
//! matched are not at hand, so one is written around each matching ID, and goes the whole way: parsing, choice of
//! models, rank. `windows/tests/it/driver_hives.rs` compares with what the hives know of the files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use gravure_inf::{Arch, DeviceIds, Inf, Rank, Signer, Target};

struct Row {
    device: DeviceIds,
    matching: String,
    rank: u32,
    date: String,
    version: String,
}

/// A file for which Windows would store `row`: the ID as hardware ID, or as compatible ID in the position that the rank
/// tells.
fn inf_for(row: &Row) -> Inf {
    let [_, feature, kind, _] = row.rank.to_be_bytes();
    let ids = match kind >> 4 {
        0 | 2 => row.matching.clone(),
        1 => format!("NONE\\HARDWARE,{}", row.matching),
        _ => {
            format!("NONE\\HARDWARE,{}{}", "NONE\\COMPATIBLE,".repeat(usize::from(kind & 0xf)), row.matching)
        }
    };
    let [year, month, day] = row.date.split('-').collect::<Vec<_>>().try_into().unwrap();
    let text = format!(
        "[Version]\r\nSignature=\"$Windows NT$\"\r\nDriverVer={month}/{day}/{year},{}\r\n[Manufacturer]\r\n%m%=M,NTamd64\r\n\
         [M.NTamd64]\r\n%d%=Other,NONE\\OTHER\r\n%d%=Inst,{ids}\r\n[Inst.NTamd64]\r\nFeatureScore={feature:02X}\r\n[Strings]\r\nm=m\r\nd=d\r\n",
        row.version
    );
    Inf::parse(text.as_bytes()).unwrap()
}

fn check(row: &Row) {
    let inf = inf_for(row);
    let target = Target::client(Arch::Amd64, "10.0.19045".parse().unwrap());
    let found = inf.matches(&row.device, &target, Signer::Trusted);
    let shown = format!("{:?} {:?} {}", row.device, row.matching, Rank(row.rank));
    assert_eq!(found.len(), 1, "{shown}");
    assert_eq!(found[0].rank, Rank(row.rank), "{shown}");
    assert!(found[0].id.eq_ignore_ascii_case(&row.matching), "{shown}");
    let version = inf.version();
    assert_eq!(version.date.unwrap().to_string(), row.date, "{shown}");
    assert_eq!(version.version.unwrap().to_string(), row.version, "{shown}");
}

fn list(text: &str) -> Vec<String> {
    text.split('|').filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_stored_rank_is_reproduced() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let table = std::fs::read_to_string(shared.join("corpus/vectors/device_rank.tsv")).unwrap();
    let mut kinds = [0; 4];
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let row = Row {
            device: DeviceIds { hardware: list(fields[3]), compatible: list(fields[4]) },
            matching: fields[7].to_owned(),
            rank: u32::from_str_radix(fields[8], 16).unwrap(),
            date: fields[9].to_owned(),
            version: fields[10].to_owned(),
        };
        check(&row);
        kinds[usize::from(Rank(row.rank).match_type())] += 1;
    }
    eprintln!("ranks by type of match: {kinds:?}");
    assert_eq!((kinds.iter().sum::<u32>(), kinds[2] > 50, kinds[3] > 5), (322, true, true), "{kinds:?}");
}

/// Files of the corpus that have the ID by which Windows matched: the type of match and the place follow from the file and the device, and
/// nothing of the expected rank goes into them.
#[test]
fn real_files_give_the_rank_that_windows_stored() {
    let Some(shared) = gravure_testkit::shared_dir() else { return };
    let table = std::fs::read_to_string(shared.join("corpus/vectors/device_rank.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let target = Target::client(Arch::Amd64, "10.0.19045".parse().unwrap());
    let (mut open, mut compared, mut files) = (vec![shared.join("corpus/inf")], 0, 0);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let Ok(inf) = Inf::parse(&std::fs::read(&path).unwrap()) else { continue };
            let before = compared;
            for row in &rows {
                let device = DeviceIds { hardware: list(row[3]), compatible: list(row[4]) };
                let stored = Rank(u32::from_str_radix(row[8], 16).unwrap());
                let Some(found) = inf.matches(&device, &target, Signer::Trusted).into_iter().next() else {
                    continue;
                };
                // Another file may name a better ID, or this one among its compatible IDs.
                if !found.id.eq_ignore_ascii_case(row[7]) || found.rank.match_type() != stored.match_type() {
                    continue;
                }
                let [.., kind, place] = found.rank.0.to_be_bytes();
                let [.., stored_kind, stored_place] = stored.0.to_be_bytes();
                let shown = format!("{} {}: {} and {stored}", path.display(), row[7], found.rank);
                assert_eq!((kind & 0xf, place), (stored_kind & 0xf, stored_place), "{shown}");
                compared += 1;
            }
            files += usize::from(compared > before);
        }
    }
    eprintln!("{compared} ranks of {files} real files equal");
    assert!(compared > 0 && files > 0);
}

#[test]
fn ranks_of_made_up_devices() {
    let pci = "PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01|PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4|PCI\\VEN_1AF4&DEV_1042&CC_010000";
    let pci_compatible =
        "PCI\\VEN_1AF4&DEV_1042&REV_01|PCI\\VEN_1AF4&DEV_1042|PCI\\VEN_1AF4&CC_010000|PCI\\CC_0100";
    let usb_compatible = "USB\\Class_03&SubClass_01&Prot_01|USB\\Class_03&SubClass_01|USB\\Class_03";
    for (hardware, compatible, matching, rank) in [
        (pci, pci_compatible, "PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01", 0x00ff_0000),
        (pci, pci_compatible, "pci\\ven_1af4&dev_1042&subsys_11001af4", 0x00f8_0001),
        (pci, pci_compatible, "PCI\\VEN_1AF4&DEV_1042", 0x00ff_2001),
        (pci, pci_compatible, "PCI\\CC_0100", 0x00ff_2003),
        ("USB\\VID_1234&PID_5678", usb_compatible, "USB\\Class_03", 0x00ff_3202),
        ("USB\\VID_1234&PID_5678", usb_compatible, "USB\\Class_03&SubClass_01", 0x0080_3001),
        ("*PNP0501", "", "*pnp0501", 0x0000_0000),
        ("*PNP0501", "", "*pnp0501", 0x00ff_1000),
    ] {
        let (date, version) = ("2020-01-31".to_owned(), "1.2.3.4".to_owned());
        let device = DeviceIds { hardware: list(hardware), compatible: list(compatible) };
        check(&Row { device, matching: matching.into(), rank, date, version });
    }
}
