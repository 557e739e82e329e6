//! Real INF files: all that Wine's parser takes are read, the others are refused with their reason, and what comes out
//! fits together.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support;

use std::collections::BTreeMap;

use gravure_inf::{Arch, DeviceIds, Encoding, Inf, Place, Signer, Target};

fn client(arch: Arch, version: &str) -> Target {
    Target::client(arch, version.parse().unwrap())
}

#[test]
fn every_file_is_read_or_refused_as_wine_does() {
    let Some(corpus) = support::corpus() else { return };
    let mut refused = Vec::new();
    let mut encodings: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut accepted, mut models, mut boot, mut sound) = (0, 0, 0, 0);
    for file in &corpus {
        let name = file.path.file_name().unwrap().to_string_lossy().into_owned();
        match Inf::parse(&file.bytes) {
            Err(error) => refused.push(format!("{name}: {error}")),
            Ok(inf) => {
                accepted += 1;
                *encodings.entry(inf.encoding().as_str()).or_default() += 1;
                let report = inf.check();
                models += report.models;
                boot += usize::from(report.boot_critical);
                sound += usize::from(report.is_sound());
            }
        }
    }
    eprintln!(
        "{accepted} of {} read, {models} models, {boot} boot critical, {sound} sound; {encodings:?}",
        corpus.len()
    );
    // Wine 8 refuses the same two (`wine.rs` compares both readers line by line).
    assert_eq!((corpus.len(), accepted), (595, 593));
    refused.sort();
    for error in &refused {
        assert!(error.contains("[Version]") && error.contains("expected"), "{error}");
    }
    assert!(models > 10_000 && boot > 100 && sound > 300, "{models} {boot} {sound}");
    assert!(
        encodings[Encoding::Utf16Le.as_str()] > 20 && encodings[Encoding::CodePage.as_str()] > 30,
        "{encodings:?}"
    );
}

#[test]
fn every_model_is_chosen_for_its_own_id_and_its_installation_is_described() {
    let Some(corpus) = support::corpus() else { return };
    let targets =
        [client(Arch::Amd64, "10.0.22631"), client(Arch::Amd64, "6.1.7601"), client(Arch::X86, "5.1.2600")];
    let (mut matched, mut described) = (0, 0);
    for file in &corpus {
        let Ok(inf) = Inf::parse(&file.bytes) else { continue };
        for target in &targets {
            for model in inf.models(target).iter().step_by(50) {
                let Some(id) = &model.hardware_id else { continue };
                let device = DeviceIds { hardware: vec![id.clone()], compatible: Vec::new() };
                let found = inf.matches(&device, target, Signer::Trusted);
                matched += 1;
                assert!(found.iter().any(|m| m.model == *model), "{}: {id}", file.path.display());
                assert_eq!(found[0].rank.0 & 0xffff, 0, "{}: {id}", file.path.display());
                let Some(install) = inf.install(model, target) else { continue };
                described += 1;
                for file in &install.files {
                    assert!(!file.source.is_empty() && !file.destination.path().is_empty(), "{file:?}");
                }
            }
        }
    }
    assert!(matched > 300 && described > 300, "{matched} {described}");
}

/// The one whose figures are in every detail known.
#[test]
fn the_vmd_driver() {
    let Some(corpus) = support::corpus() else { return };
    let file = corpus.iter().find(|file| {
        file.path.to_string_lossy().contains("kodplusplus")
            && file.path.to_string_lossy().to_lowercase().ends_with("iastorvd.inf")
    });
    let inf = Inf::parse(&file.expect("the VMD driver is in the corpus").bytes).unwrap();
    let version = inf.version();
    assert_eq!(
        (version.class.as_deref(), version.provider.as_deref()),
        (Some("SCSIAdapter"), Some("Intel Corporation"))
    );
    assert_eq!(
        (version.date.unwrap().to_string().as_str(), version.version.unwrap().to_string().as_str()),
        ("2020-09-16", "18.0.4.1146")
    );
    let target = client(Arch::Amd64, "10.0.19041");
    assert_eq!(version.catalog(&target), Some("iaStorVD.cat"));
    // The section asks for build 15063.
    assert!(inf.models(&client(Arch::Amd64, "10.0.14393")).is_empty());
    let models = inf.models(&target);
    assert_eq!(models.len(), 2);
    let hardware = [
        "PCI\\VEN_8086&DEV_9A0B&SUBSYS_00008086&REV_00",
        "PCI\\VEN_8086&DEV_9A0B&SUBSYS_00008086",
        "PCI\\VEN_8086&DEV_9A0B&CC_010400",
    ];
    let compatible = ["PCI\\VEN_8086&DEV_9A0B&REV_00", "PCI\\VEN_8086&DEV_9A0B", "PCI\\VEN_8086&CC_010400"];
    let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let device = DeviceIds { hardware: own(&hardware), compatible: own(&compatible) };
    let found = inf.matches(&device, &target, Signer::Trusted);
    assert_eq!(found[0].rank.to_string(), "00802001");
    let install = inf.install(&found[0].model, &target).unwrap();
    let driver = install.function_driver().unwrap();
    assert_eq!(
        (driver.name.as_str(), driver.is_boot_start(), driver.group.as_deref()),
        ("iaStorVD", true, Some("SCSI miniport"))
    );
    assert_eq!(driver.binary, Some(Place::Volume("Windows\\System32\\drivers\\iaStorVD.sys".into())));
    assert_eq!(install.services.len(), 4);
    assert_eq!(install.files.len(), 8, "{:?}", install.files);
}
