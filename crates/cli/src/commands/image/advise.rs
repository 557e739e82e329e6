//! `gravure image advise`: partition image or WIM for these machines, and why.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_deploy::foresee_start;
use gravure_imaging::{
    Advice, BlockImage, ErrorKind, ImageKind, Judged, Outlook, advise, hardware_of, system_disk,
};
use gravure_model::Ctl;
use gravure_model::inventory::Inventory;
use gravure_windows::drivers::Repository;

use crate::exit::Failure;
use crate::output::{self, bytes};
use crate::stored;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Bytes of an inventory at most.
const MAX_INVENTORY_BYTES: u64 = 16 << 20;

/// Say whether a group of machines is served better by a partition image or by a WIM, and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "From inventories (gravure inventory show --format json): how alike the machines are in what a copied system needs: architecture, firmware,
the storage controller that the disk hangs on, model, size of the disk, and for those that start by a BIOS the sector size, which is converted for
others. Of several kinds of machines each has its own advice below that for all. With --image also whether that image starts on each of
them; with --drivers, a repository, whether a plan can put in the driver that its Windows lacks, which is tried on the image in memory.

Examples:
  gravure image advise --group lab/                    a directory of inventories
  gravure image advise --group pc1.json pc2.json --format json
  gravure image advise --group lab/ --image /srv/store.gim/#golden
  gravure image advise --group lab/ --image /srv/store.gim/#golden --drivers /srv/drivers"
)]
pub(super) struct Options {
    /// Inventories (JSON), or directories of them
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    group: Vec<PathBuf>,
    /// A block image that is there already
    #[arg(long, value_name = "IMAGE")]
    image: Option<ImageName>,
    /// Driver repository that plans take drivers from
    #[arg(long, value_name = "DIR", requires = "image")]
    drivers: Option<PathBuf>,
}

/// Reads an inventory.
pub(crate) fn read_inventory(path: &Path) -> Result<Inventory, Failure> {
    let text = stored::small_file(path, MAX_INVENTORY_BYTES)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(ErrorKind::Usage, format!("{}: no inventory: {error}", path.display()))
            .with_cure("`gravure inventory show --format json` writes one")
    })
}

fn files(group: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut out = Vec::new();
    for path in group {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| Failure::io("list", path, &error);
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                out.push(file);
            }
        }
    }
    out.sort();
    Ok(out)
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let mut machines = Vec::new();
    for path in files(&options.group)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        machines.push((name, read_inventory(&path)?));
    }
    if machines.is_empty() {
        let message = "no inventory (*.json) in what --group names";
        return Err(Failure::new(ErrorKind::NotFound, message));
    }
    let ctl = interrupt::ctl();
    let image = options.image.as_ref().map(|image| stored::open(image, &ctl)).transpose()?;
    let repository = options.drivers.as_deref().map(Repository::open).transpose()?;
    let judged = image.as_ref().map(Judged::of);
    let advice = match (&image, &repository) {
        (Some(image), Some(repository)) => {
            let mut foresight = Foresight { image, repository, ctl: &ctl, known: Vec::new() };
            advise(&machines, judged.as_ref(), Some(&mut |machine| foresight.ask(machine)))
        }
        _ => advise(&machines, judged.as_ref(), None),
    };
    ctl.check().map_err(gravure_imaging::Error::from)?;
    output::document(common.format, &advice, text)?;
    Ok(ExitCode::SUCCESS)
}

/// What becomes of the image's Windows on machines, each kind of them asked about once.
struct Foresight<'a> {
    image: &'a BlockImage,
    repository: &'a Repository,
    ctl: &'a Ctl,
    /// By what the disk hangs on and the hardware IDs of all devices.
    known: Vec<(Kind, Outlook)>,
}

/// What makes machines one kind here.
type Kind = (Vec<String>, Vec<Vec<String>>);

impl Foresight<'_> {
    fn ask(&mut self, machine: &Inventory) -> Outlook {
        let Some(disk) = system_disk(machine) else {
            return Outlook::Fails("no built-in disk was seen".to_owned());
        };
        let ids = machine.devices.iter().map(|device| device.hardware_ids.clone()).collect();
        let kind: Kind = (hardware_of(machine, Some(&disk.name)).disk_controllers, ids);
        if let Some((_, known)) = self.known.iter().find(|(known, _)| *known == kind) {
            return known.clone();
        }
        let found = foresee_start(self.image, self.repository, machine, &disk.name, self.ctl);
        let found = found.unwrap_or_else(|error| Outlook::Fails(crate::exit::chain(&error)));
        self.known.push((kind, found.clone()));
        found
    }
}

/// Names of a group that are shown.
const SHOWN: usize = 8;

fn name_of(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Partition => "partition image",
        ImageKind::Wim => "WIM",
    }
}

fn text(advice: &Advice) -> String {
    let mut out = format!("advice: {}\n", name_of(advice.image));
    advice.reasons.iter().for_each(|reason| out.push_str(&format!("because {reason}\n")));
    advice.cautions.iter().for_each(|caution| out.push_str(&format!("mind that {caution}\n")));
    for group in &advice.groups {
        let (count, disk) = (group.machines.len(), bytes(group.smallest_disk_bytes));
        let names: Vec<&str> = group.machines.iter().take(SHOWN).map(String::as_str).collect();
        let more = if count > names.len() { ", ..." } else { "" };
        out.push_str(&format!(
            "{count} x {}, smallest disk {disk}: {}{more}\n",
            group.like,
            names.join(", ")
        ));
        // Of one group all was said above.
        if advice.groups.len() > 1 {
            out.push_str(&format!("  for these alone: {}\n", name_of(group.image)));
            group.reasons.iter().for_each(|reason| out.push_str(&format!("  because {reason}\n")));
            group.cautions.iter().for_each(|caution| out.push_str(&format!("  mind that {caution}\n")));
        }
    }
    out
}
