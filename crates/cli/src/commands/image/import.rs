//! `gravure image import`: images of other programs, and WIM files, become images of ours.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_blockimg::facts::Source;
use gravure_imaging::{
    BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockPlan, BlockPlanOptions, BlockSource,
    ErrorKind, Expanded, FilesImport, FilesImportOptions, ImportKind, Keep, expand, hardware_of, open_disk,
};
use gravure_io::FileAt;
use gravure_store::OnExisting;
use serde::Serialize;

use super::advise::read_inventory;
use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::stored::{is_block_name, is_store, open_store, split};
use crate::target::ImageName;
use crate::{Common, interrupt, keys};

/// Take an image of another kind into a store, or into a .gim file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "WIM, ESD and SWM files: every content is decoded, held against its SHA-1 and kept once, whatever images of files or disks it
occurs in. The store then serves the image without the file.

Disks and partitions: images of partclone, folders of Clonezilla and FOG, qcow2, VHD, VHDX and plain files are read as the disk they hold and
captured as any disk is, with every checksum of the old image checked. What is compressed or in pieces is expanded into a scratch file beside
the target (or in --scratch) first, as large as what is in it. An image of a file system that was not unmounted cleanly is refused: what its
journal says is not in the image.

Examples:
  gravure image import install.wim /srv/store.gim/#win11     then: gravure apply /srv/store.gim/#win11:1 /mnt
  gravure image import delta.wim /srv/store.gim/ --ref base.wim
  gravure image import install.esd win11.gim                 into a file of its own
  gravure image import /images/lab-pc /srv/store.gim/        a folder of FOG or Clonezilla
  gravure image import sda2.ext4-ptcl-img.gz.aa data.gim     an image of partclone with all its pieces
  gravure image import pc.vhdx /srv/store.gim/#pc --machine pc.json      and which machine it belongs to
  gravure image import laptop.qcow2 laptop.gim --key-file recovery.txt   an encrypted one"
)]
pub(super) struct Options {
    /// Image file or folder
    source: PathBuf,
    /// STORE/, STORE#NAME, or a file that ends in .gim
    target: String,
    /// Name of the image [default: that of the file]
    #[arg(long)]
    name: Option<String>,
    /// Description of the image
    #[arg(long)]
    description: Option<String>,
    /// Take the place of the image of this name in the store
    #[arg(long)]
    replace: bool,
    /// WIM files: further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Disks: keep every byte, whatever file systems use; an encrypted or unclean one can only be kept so
    #[arg(long)]
    raw: bool,
    /// Disks: open encrypted volumes (LUKS, BitLocker) with what this file holds: passphrase, recovery password, key file; may be given
    /// several times. What is inside is taken in, not encrypted
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    key_file: Vec<PathBuf>,
    /// Disks: inventory (JSON) of the machine that the image is of; a machine too unlike it is refused when the image is applied
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Where the scratch file is made [default: beside the target]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Level of zstd, 1 to 19, or below 0 for more speed
    #[arg(long, value_name = "N", default_value_t = 3, allow_hyphen_values = true)]
    zstd: i32,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Where an image goes.
pub(super) enum Place {
    Store { store: String, name: String },
    File(PathBuf),
}

impl Place {
    pub(super) fn of(target: &str, name: Option<&str>, source: &Path) -> Result<Self, Failure> {
        let default = || {
            let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = name.split_once('.').map_or(name.as_str(), |(stem, _)| stem);
            if stem.is_empty() { name.clone() } else { stem.to_owned() }
        };
        if let Some((store, own)) = split(target) {
            return Ok(Self::Store { store: store.to_owned(), name: own.to_owned() });
        }
        if is_store(target) {
            let name = name.map_or_else(default, str::to_owned);
            return Ok(Self::Store { store: target.to_owned(), name });
        }
        if is_block_name(target) {
            return Ok(Self::File(PathBuf::from(target)));
        }
        let message = format!("{target}: neither a store nor a file that ends in .gim");
        Err(Failure::new(ErrorKind::Usage, message).with_cure("a store that is to be made ends in a slash"))
    }

    /// Name of the image.
    pub(super) fn image_name(&self) -> String {
        match self {
            Self::Store { name, .. } => name.clone(),
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Imported {
    image: String,
    kind: &'static str,
    id: String,
    tree: String,
    size_bytes: u64,
    data_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    chunks: u64,
    milliseconds: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let place = Place::of(&options.target, options.name.as_deref(), &options.source)?;
    if !options.source.exists() {
        let message = format!("{} not found", options.source.display());
        return Err(Failure::new(ErrorKind::NotFound, message));
    }
    let kind = ImportKind::of(&options.source)?;
    match kind {
        ImportKind::Wim => import_wim(options, &place, common),
        _ => import_disk(options, kind, &place, common),
    }
}

fn capture_options(options: &Options) -> BlockCaptureOptions {
    BlockCaptureOptions {
        stage: "import".to_owned(),
        threads: options.threads,
        level: options.zstd,
        ..BlockCaptureOptions::default()
    }
}

fn existing(options: &Options) -> OnExisting {
    if options.replace { OnExisting::Replace } else { OnExisting::Refuse }
}

/// A refusal with its cure.
fn refused(error: gravure_imaging::Error) -> Failure {
    let is_refused = error.kind() == ErrorKind::Refused;
    let failure = Failure::from(error);
    if is_refused && failure.message.contains("image of this name") {
        return failure.with_cure("choose another name, or replace it with --replace");
    }
    failure
}

fn import_wim(options: &Options, place: &Place, common: &Common) -> Result<ExitCode, Failure> {
    if !options.key_file.is_empty() || options.machine.is_some() {
        let message = "--key-file and --machine are for images of disks";
        return Err(Failure::new(ErrorKind::Usage, message).with_cure("leave them out for files"));
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let Ok(name) = options.source.to_string_lossy().parse::<ImageName>();
    let file = name.open_file(&options.references, &ctl)?;
    file.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let how = FilesImportOptions {
        name: place.image_name(),
        description: options.description.clone(),
        created_unix_seconds: super::epoch()?.or_else(crate::commands::block::now),
    };
    let import = FilesImport::new(&file, &how, &ctl)?;
    let capture = capture_options(options);
    let report = match place {
        Place::Store { store, name } => {
            let store = open_store(store)?;
            import.to_store(&store, name, existing(options), &capture, &ctl, &reporter)
        }
        Place::File(path) => import.to_file(path, &capture, &ctl, &reporter),
    };
    print(ImportKind::Wim.name(), &options.target, place, report.map_err(refused)?, Vec::new(), common)
}

/// A file without a name, where the source is expanded to.
fn scratch_file(options: &Options, place: &Place) -> Result<std::fs::File, Failure> {
    let beside = match place {
        Place::Store { store, .. } if !store.contains("://") => PathBuf::from(store),
        Place::File(path) => path.parent().map(Path::to_owned).unwrap_or_default(),
        Place::Store { .. } => std::env::temp_dir(),
    };
    let beside = if beside.as_os_str().is_empty() { PathBuf::from(".") } else { beside };
    let dir = options.scratch.clone().unwrap_or(beside);
    // A store that is to be made is not there yet.
    let dir = if dir.is_dir() { dir } else { dir.parent().map(Path::to_owned).unwrap_or_default() };
    let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
    tempfile::tempfile_in(&dir).map_err(|error| Failure::io("create a scratch file in", &dir, &error))
}

fn import_disk(
    options: &Options,
    kind: ImportKind,
    place: &Place,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    // Read before anything is expanded, which may take long.
    let keys = keys::keys(&options.key_file)?;
    let hardware = options.machine.as_deref().map(read_inventory).transpose()?;
    let mut expanded = Expanded::default();
    let source = if kind.needs_scratch() {
        let file = scratch_file(options, place)?;
        let failed = |error: std::io::Error| Failure::new(ErrorKind::Io, format!("scratch file: {error}"));
        let target = file.try_clone().and_then(FileAt::new).map_err(failed)?;
        reporter.say(&format!("Expanding {}", options.source.display()));
        expanded = expand(&options.source, kind, &target, &ctl, &mut |_| {})?;
        file.set_len(expanded.size_bytes).map_err(failed)?;
        let disk = FileAt::new(file).map_err(failed)?;
        BlockSource::new(Box::new(disk), &options.source.display().to_string(), expanded.sector_bytes)
    } else {
        open_disk(&options.source, kind)?
    };
    let how = BlockPlanOptions {
        name: place.image_name(),
        description: options.description.clone(),
        created_unix_seconds: super::epoch()?.or_else(crate::commands::block::now),
        keep: if options.raw { Keep::Everything } else { Keep::Used },
        hardware: hardware.as_ref().map(|inventory| hardware_of(inventory, None)),
        parent: None,
        keys,
    };
    let plan = BlockPlan::new(source, &how, &ctl).map_err(|error| {
        let is_refused = error.kind() == ErrorKind::Refused;
        let failure = Failure::from(error);
        let cure =
            "capture the machine anew after a clean shutdown, open what is encrypted with --key-file, or keep every byte of the image with --raw";
        if is_refused { failure.with_cure(cure) } else { failure }
    })?;
    let stale = plan.facts().volumes.iter().find(|volume| volume.replayed_bytes > 0 && expanded.is_partial);
    if let Some(volume) = stale {
        let which = volume.number.map_or_else(String::new, |number| format!(" of partition {number}"));
        let message = format!(
            "refused: importing {}: the file system{which} ({}) was not unmounted cleanly when the image was made: {} bytes stand in its \
             journal alone, and blocks that they make used are not in the image",
            options.source.display(),
            volume.content,
            volume.replayed_bytes
        );
        let cure = "capture the machine anew after a clean shutdown, or keep what is there with --raw";
        return Err(Failure::new(ErrorKind::Refused, message).with_cure(cure));
    }
    let hits = |range: &std::ops::Range<u64>| plan.hits(range);
    let mut facts = plan.facts().clone();
    facts.source = Source { model: Some(format!("image of {}", kind.name())), ..facts.source };
    let capture =
        BlockCapture { source: &plan, name: plan.name(), layout: plan.layout(), facts: &facts, hits: &hits };
    let capture_options = capture_options(options);
    let report = match place {
        Place::Store { store, name } => {
            let store = open_store(store)?;
            capture.to_store(&store, name, existing(options), &capture_options, &ctl, &reporter)
        }
        Place::File(path) => capture.to_file(path, &capture_options, &ctl, &reporter),
    };
    let mut notes = expanded.notes;
    notes.extend(facts.volumes.iter().flat_map(|volume| volume.notes.iter().cloned()));
    print(kind.name(), &options.target, place, report.map_err(refused)?, notes, common)
}

pub(super) fn print(
    kind: &'static str,
    target: &str,
    place: &Place,
    report: BlockCaptureReport,
    notes: Vec<String>,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let image = match place {
        Place::Store { store, name } => format!("{store}#{name}"),
        Place::File(_) => target.to_owned(),
    };
    let imported = Imported {
        image,
        kind,
        id: report.id.map(|id| id.to_string()).unwrap_or_default(),
        tree: report.tree.map(|tree| tree.to_string()).unwrap_or_default(),
        size_bytes: report.size_bytes,
        data_bytes: report.data_bytes,
        new_bytes: report.new_bytes,
        stored_bytes: report.stored_bytes,
        chunks: report.chunks,
        milliseconds: report.milliseconds,
        notes,
        warnings: report.warnings,
    };
    output::document(common.format, &imported, |imported| {
        let (data, new) = (bytes(imported.data_bytes), bytes(imported.new_bytes));
        let speed = rate(imported.data_bytes, imported.milliseconds);
        let mut text = format!(
            "{}: {data} in {} chunks, {new} new in {}, {speed}\ntree {}",
            imported.image,
            imported.chunks,
            bytes(imported.stored_bytes),
            imported.tree
        );
        imported.notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
        text
    })?;
    Ok(done_or_partial(report.skipped))
}
