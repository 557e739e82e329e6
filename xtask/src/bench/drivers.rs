//! The driver repository: how long 10,000 INF files take to be indexed, and one match of a machine's devices.
//!
//! The INF files are made here, each with a version and IDs of its own, of the size of real ones (some 40 models); there is no
//! rival that does the same, so the targets are times.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Options;
use super::measure::{Cost, measure, median};
use crate::console::{self, Step};
use crate::{process, workspace};

const FILES: usize = 10_000;
const MODELS: usize = 40;
/// Wall times that must be reached.
const TARGET_INDEX_SECONDS: f64 = 60.0;
const TARGET_MATCH_SECONDS: f64 = 0.05;

#[derive(Debug, Serialize)]
struct Outcome {
    files: usize,
    models_a_file: usize,
    processors: usize,
    index: Cost,
    target_index_seconds: f64,
    matching: Cost,
    target_match_seconds: f64,
}

/// Measures; says whether the targets were met.
pub(super) fn run(options: &Options) -> Result<bool> {
    let dir = workspace::target().join("bench/drivers");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let step = Step::start("gravure (release build)");
    process::run(workspace::cargo().args(["build", "--release", "--package", "gravure-cli"]))?;
    step.done("built");
    let ours = workspace::target().join("release/gravure");
    let files = if options.quick { FILES / 10 } else { FILES };
    let step = Step::start("INF files");
    let packs = dir.join("packs");
    make(&packs, files)?;
    step.done(format!("{files} made"));

    let repository = dir.join("repository");
    let step = Step::start("index");
    let mut add = Command::new(&ours);
    add.args(["driver", "add"]).arg(&packs).arg("--repository").arg(&repository).arg("--allow-unsigned");
    let index = measure(&add)?;
    step.done(format!("{:.1} s", index.wall_seconds));

    let inventory = dir.join("pc.json");
    std::fs::write(&inventory, inventory_of(files))
        .with_context(|| format!("cannot write {}", inventory.display()))?;
    let step = Step::start("match");
    let mut matching = Command::new(&ours);
    matching.args(["driver", "match", "--os", "10.0.22631", "--inventory"]).arg(&inventory);
    matching.arg("--repository").arg(&repository);
    let runs: Vec<Cost> = (0..options.runs.max(5)).map(|_| measure(&matching)).collect::<Result<_>>()?;
    let matching = median(runs).context("no run")?;
    step.done(format!("{:.0} ms", matching.wall_seconds * 1000.0));

    let outcome = Outcome {
        files,
        models_a_file: MODELS,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        index,
        target_index_seconds: TARGET_INDEX_SECONDS,
        matching,
        target_match_seconds: TARGET_MATCH_SECONDS,
    };
    let path = dir.join("result.json");
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the result")?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::remove_dir_all(&packs).with_context(|| format!("cannot empty {}", packs.display()))?;
    console::note(format!("kept as {}", path.display()));
    Ok(index.wall_seconds <= TARGET_INDEX_SECONDS && matching.wall_seconds <= TARGET_MATCH_SECONDS)
}

/// A package directory for each INF file.
fn make(packs: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let dir = packs.join(format!("{:02}/{number}", number % 100));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut models = String::new();
        let mut strings = String::new();
        for model in 0..MODELS {
            let (vendor, device) = (number % 500, (number / 500) * MODELS + model);
            let _ = writeln!(models, "%d{model}%=Inst,PCI\\VEN_{vendor:04X}&DEV_{device:04X}");
            let _ = writeln!(strings, "d{model}=\"Controller {number} of kind {model}\"");
        }
        let text = format!(
            "[Version]\nSignature=\"$Windows NT$\"\nClass=SCSIAdapter\nClassGuid={{4d36e97b-e325-11ce-bfc1-08002be10318}}\n\
             Provider=%m%\nCatalogFile=d.cat\nDriverVer=01/02/2024,1.{number}.0.0\n[SourceDisksNames]\n1=d\n[SourceDisksFiles]\n\
             d.sys=1\n[DestinationDirs]\nDefaultDestDir=12\n[Manufacturer]\n%m%=M,NTamd64\n[M.NTamd64]\n{models}[Inst]\n\
             CopyFiles=@d.sys\n[Inst.Services]\nAddService=d,2,S\n[S]\nServiceType=1\nStartType=0\nErrorControl=1\n\
             ServiceBinary=%12%\\d.sys\n[Strings]\nm=\"Maker\"\n{strings}"
        );
        for (name, content) in [("d.inf", text.as_bytes()), ("d.sys", b"MZ"), ("d.cat", b"unsigned")] {
            let path = dir.join(name);
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// A machine with as many devices as real ones, some of which packages are for.
fn inventory_of(files: usize) -> String {
    let device = |number: usize| {
        let (vendor, device) = (number * 7 % 500, (number * 131 % files / 500) * MODELS + number % MODELS);
        let id = format!("PCI\\\\VEN_{vendor:04X}&DEV_{device:04X}");
        format!(
            "{{\"bus\":\"pci\",\"place\":\"0000:00:{number:02x}.0\",\"hardware_ids\":[\"{id}&SUBSYS_00000001&REV_01\",\
             \"{id}&SUBSYS_00000001\",\"{id}&CC_010601\",\"{id}&CC_0106\"],\"compatible_ids\":[\"{id}&REV_01\",\"{id}\",\
             \"PCI\\\\CC_010601\",\"PCI\\\\CC_0106\"]}}"
        )
    };
    let devices: Vec<String> = (0..60).map(device).collect();
    format!(
        "{{\"version\":1,\"firmware\":{{\"mode\":\"uefi\"}},\"smbios\":{{\"bios\":{{}},\"system\":{{}},\"board\":{{}},\
         \"chassis\":{{}}}},\"cpu\":{{\"packages\":1,\"cores\":1,\"threads\":1,\"architecture\":\"x86_64\"}},\
         \"memory\":{{\"usable_bytes\":1,\"installed_bytes\":1,\"modules\":[]}},\"disks\":[],\"nics\":[],\"pci\":[],\"usb\":[],\
         \"devices\":[{}]}}",
        devices.join(",")
    )
}
