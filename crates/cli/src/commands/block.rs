//! What capture, apply, info, verify and ls do with block images (`.gim`): files, streams, stores.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gravure_blockimg::ChunkId;
use gravure_blockimg::facts::{Facts, Hardware, Volume};
use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImageAt,
    BlockPlan, BlockPlanOptions, BlockSource, BlockStream, Delta, ErrorKind, Judged, Keep, ListKind,
    VolumeFile, Which, apply_block_stream, hardware_of, misfits, verify_block_image,
};
use gravure_linux::disks::{Roots, disk_of};
use gravure_linux::{BlockDevice, machine};
use gravure_store::{CollectOptions, OnExisting};
use gravure_unlock::Key;
use serde::Serialize;

use super::block_fit::{Fit, Fitted};
use super::image::advise::read_inventory;
use crate::exit::{Failure, done_or_partial};
use crate::output::{self, Row, bytes, rate};
use crate::progress::Reporter;
use crate::stored::{check_signature, is_store, open, open_store, split, store_failure};
use crate::target::{ImageName, STDIN};
use crate::{Common, interrupt};

/// What `capture` says.
pub(super) struct Capture<'a> {
    pub(super) source: &'a Path,
    pub(super) image: &'a Path,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) keep: Keep,
    pub(super) level: i32,
    /// Of encrypted volumes.
    pub(super) keys: Vec<Key>,
    pub(super) replace: bool,
    pub(super) threads: Option<usize>,
    pub(super) created_unix_seconds: Option<i64>,
    /// Image that it is made after.
    pub(super) parent: Option<&'a ImageName>,
    /// Inventory of the machine that the source belongs to.
    pub(super) machine: Option<&'a Path>,
}

#[derive(Debug, Serialize)]
struct Captured {
    image: String,
    id: String,
    tree: String,
    size_bytes: u64,
    used_bytes: u64,
    data_bytes: u64,
    zero_bytes: u64,
    chunks: u64,
    new_bytes: u64,
    stored_bytes: u64,
    unreadable_bytes: u64,
    milliseconds: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn capture(wanted: &Capture<'_>, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let source = BlockSource::open(wanted.source)?;
    let is_device = source.physical_sector_bytes().is_some();
    let options = BlockPlanOptions {
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        created_unix_seconds: wanted.created_unix_seconds.or_else(now),
        keep: wanted.keep,
        // Of a file nobody knows which machine it belongs to.
        hardware: match wanted.machine {
            Some(path) => Some(hardware_of(&read_inventory(path)?, None)),
            None => is_device.then(|| hardware(wanted.source)),
        },
        parent: parent(wanted)?,
        keys: wanted.keys.clone(),
    };
    let plan = BlockPlan::new(source, &options, &ctl).map_err(|error| {
        let is_refused = error.kind() == ErrorKind::Refused;
        let failure = Failure::from(error);
        match is_refused {
            true => failure.with_cure(
                "unmount it cleanly, check it with its own tools, open it with --key-file if it is encrypted, or keep every byte of it \
                 with --raw",
            ),
            false => failure,
        }
    })?;
    let hits = |range: &std::ops::Range<u64>| plan.hits(range);
    let capture = BlockCapture {
        source: &plan,
        name: plan.name(),
        layout: plan.layout(),
        facts: plan.facts(),
        hits: &hits,
    };
    let how = BlockCaptureOptions {
        threads: wanted.threads,
        level: wanted.level,
        ..BlockCaptureOptions::default()
    };
    let target = wanted.image.display().to_string();
    let report = if target == STDIN {
        let mut out = io::stdout().lock();
        let report = capture.to_stream(&mut out, "standard output", &how, &ctl, &reporter)?;
        reporter.say(&capture_line("standard output", &report));
        return Ok(done_or_partial(report.skipped));
    } else if is_store(&target) {
        let existing = if wanted.replace { OnExisting::Replace } else { OnExisting::Refuse };
        let store = open_store(&target)?;
        capture.to_store(&store, &wanted.name, existing, &how, &ctl, &reporter).map_err(|error| {
            let is_refused = error.kind() == ErrorKind::Refused;
            let failure = Failure::from(error);
            if is_refused {
                failure.with_cure("choose another NAME, or replace it with --replace")
            } else {
                failure
            }
        })?
    } else {
        capture.to_file(wanted.image, &how, &ctl, &reporter)?
    };
    let notes = plan.facts().volumes.iter().flat_map(|volume| {
        let name = volume_name(volume);
        volume.notes.iter().map(move |note| format!("{name}: {note}"))
    });
    let captured = Captured {
        image: target.clone(),
        id: report.id.map(|id| id.to_string()).unwrap_or_default(),
        tree: report.tree.map(|tree| tree.to_string()).unwrap_or_default(),
        size_bytes: report.size_bytes,
        used_bytes: plan.facts().volumes.iter().map(|volume| volume.used_bytes).sum(),
        data_bytes: report.data_bytes,
        zero_bytes: report.zero_bytes,
        chunks: report.chunks,
        new_bytes: report.new_bytes,
        stored_bytes: report.stored_bytes,
        unreadable_bytes: report.unreadable_bytes,
        milliseconds: report.milliseconds,
        notes: notes.collect(),
        warnings: report.warnings.clone(),
    };
    output::document(common.format, &captured, |captured| {
        let mut text = capture_line(&captured.image, &report);
        captured.notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
        text
    })?;
    Ok(done_or_partial(report.skipped))
}

/// The image that was named as the parent, or the one whose place the new one takes.
fn parent(wanted: &Capture<'_>) -> Result<Option<ChunkId>, Failure> {
    let ctl = interrupt::ctl();
    if let Some(parent) = wanted.parent {
        return Ok(Some(open(parent, &ctl)?.id()));
    }
    let target = wanted.image.display().to_string();
    if !wanted.replace || !is_store(&target) {
        return Ok(None);
    }
    let replaced = ImageName { file: format!("{target}#{}", wanted.name), which: Which::Only };
    match open(&replaced, &ctl) {
        Ok(image) => Ok(Some(image.id())),
        Err(failure) if failure.code == ErrorKind::NotFound.exit_code() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> Option<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn capture_line(image: &str, report: &BlockCaptureReport) -> String {
    let (data, size) = (bytes(report.data_bytes), bytes(report.size_bytes));
    let (new, stored) = (bytes(report.new_bytes), bytes(report.stored_bytes));
    let speed = rate(report.data_bytes, report.milliseconds);
    let tree = report.tree.map(|tree| tree.to_string()).unwrap_or_default();
    format!(
        "{image}: {data} of {size} in {} chunks, {new} new in {stored}, {speed}\ntree {tree}",
        report.chunks
    )
}

/// What of this machine has to be alike elsewhere, of the disk that `device` is or is a partition of.
fn hardware(device: &Path) -> Hardware {
    let roots = Roots::default();
    let number = BlockDevice::open_read(device).map(|device| device.facts().number);
    let disk = number.ok().and_then(|number| disk_of(&roots, number));
    // Of a volume on several disks, or in memory, nobody knows.
    hardware_of(&machine::collect(&roots).inventory, Some(disk.as_deref().unwrap_or_default()))
}

#[derive(Debug, Serialize)]
struct Applied {
    target: String,
    tree: String,
    verified: bool,
    size_bytes: u64,
    data_bytes: u64,
    kept_bytes: u64,
    fetched_bytes: u64,
    written_bytes: u64,
    zeroed_bytes: u64,
    discarded_bytes: u64,
    verified_bytes: u64,
    unreadable_bytes: u64,
    faulty_bytes: u64,
    milliseconds: u64,
    warnings: Vec<String>,
    #[serde(flatten)]
    fitted: Fitted,
}

/// What must hold before an image is restored.
pub(super) struct Conditions<'a> {
    /// Public key that must have signed it.
    pub(super) trust: Option<&'a Path>,
    /// The machine may be any.
    pub(super) any_hardware: bool,
    /// Inventory of the machine that the target belongs to.
    pub(super) machine: Option<&'a Path>,
}

impl Conditions<'_> {
    /// Refuses a machine on which the image's system would not start. Of a file nobody knows where it will go.
    fn check_hardware(&self, image: &Judged<'_>, target: &Path) -> Result<(), Failure> {
        use std::os::unix::fs::FileTypeExt as _;
        if image.facts().hardware.is_none() {
            return Ok(());
        }
        let is_device = std::fs::metadata(target).is_ok_and(|it| it.file_type().is_block_device());
        let target = match self.machine {
            Some(path) => hardware_of(&read_inventory(path)?, None),
            None if is_device => hardware(target),
            None => return Ok(()),
        };
        let misfits = misfits(image, &target);
        for misfit in misfits.iter().filter(|misfit| !misfit.is_fatal || self.any_hardware) {
            eprintln!("warning: {misfit}");
        }
        let fatal: Vec<String> =
            misfits.iter().filter(|misfit| misfit.is_fatal).map(ToString::to_string).collect();
        if fatal.is_empty() || self.any_hardware {
            return Ok(());
        }
        let message = format!("refused: the system in this image would not start here: {}", fatal.join("; "));
        Err(Failure::new(ErrorKind::Refused, message).with_cure(
            "deploy it by a plan, which puts drivers into its Windows (`gravure plan create`), take a WIM (`gravure image advise`), or insist \
             with --any-hardware and put them in where its volume is mounted (`gravure image service DIR`)",
        ))
    }
}

/// What a file that is restored to is to be, where it is none yet, or another.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewFile {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// Sector size of the disk that it stands for.
    pub(super) sector_bytes: Option<u32>,
}

impl NewFile {
    /// Opens `target`. One that is not there yet is going to be as large as the device of the image was.
    fn open(self, target: &Path, facts: &Facts) -> Result<VolumeFile, Failure> {
        if super::disk_file::form_of(target).is_some() {
            let message = format!("{}: block images are restored onto disks and raw files", target.display());
            return Err(Failure::new(ErrorKind::Unsupported, message)
                .with_cure("make a virtual disk of the image with `gravure image export`"));
        }
        let size = self.size.or_else(|| (!target.exists()).then_some(facts.source.size_bytes));
        let device = VolumeFile::open(target, size)?;
        match self.sector_bytes {
            Some(bytes) => Ok(device.with_sector_bytes(bytes)?),
            None => Ok(device),
        }
    }
}

/// Restores an image, or a stream from standard input, onto a device or file.
pub(super) fn apply(
    image: &ImageName,
    target: &Path,
    file: NewFile,
    mut how: BlockApplyOptions,
    conditions: &Conditions<'_>,
    fit: Fit,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    how.is_blank = !target.exists();
    let report = if image.file == STDIN {
        if conditions.trust.is_some() {
            let message = "the signature of a stream comes last, when all of it has been written";
            return Err(
                Failure::new(ErrorKind::Unsupported, message).with_cure("restore from a file or store")
            );
        }
        if fit.grow || fit.new_ids {
            let message = "the table of an image from a pipe is not known before its content";
            return Err(Failure::new(ErrorKind::Unsupported, message)
                .with_cure("name the image instead of piping it"));
        }
        if how.delta == Delta::Always {
            let message =
                "an image from a pipe comes once, as it is written: nothing can be compared with it before";
            return Err(Failure::new(ErrorKind::Unsupported, message)
                .with_cure("name the image instead of piping it, or leave --delta away"));
        }
        let stream = BlockStream::open(io::stdin(), "standard input")?;
        conditions.check_hardware(&Judged::by_facts(stream.facts()), target)?;
        let device = file.open(target, stream.facts())?;
        apply_block_stream(stream, &device, &how, &ctl, &reporter).map(|report| {
            let fitted = Fitted::with_notes(report.notes.clone());
            (report, fitted)
        })
    } else {
        let opened = open(image, &ctl)?;
        if let Some(key) = conditions.trust {
            check_signature(&opened, key)?;
        }
        conditions.check_hardware(&Judged::of(&opened), target)?;
        let device = file.open(target, opened.facts())?;
        fit.apply(&opened, device, target, &how, &ctl, &reporter)
    };
    finish_apply(report, target, common)
}

fn finish_apply(
    report: Result<(BlockApplyReport, Fitted), gravure_imaging::Error>,
    target: &Path,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let (report, fitted) = report.map_err(|error| {
        let cure = match &error {
            gravure_imaging::Error::Refused { what, .. } if what.starts_with("writing") => {
                Some("destroy it with --yes, or choose another target")
            }
            gravure_imaging::Error::Refused { why, .. } if why.contains("program mkfs.xfs") => {
                Some("install xfsprogs, or take a larger target")
            }
            gravure_imaging::Error::Refused { why, .. } if why.contains("only block by block") => Some(
                "take a larger target, make the file system smaller before the capture (resize2fs), or deploy its files as a WIM",
            ),
            _ => None,
        };
        let failure = Failure::from(error);
        match cure {
            Some(cure) => failure.with_cure(cure),
            None => failure,
        }
    })?;
    let applied = Applied {
        target: target.display().to_string(),
        tree: report.tree.map(|tree| tree.to_string()).unwrap_or_default(),
        verified: report.is_verified,
        size_bytes: report.size_bytes,
        data_bytes: report.data_bytes,
        kept_bytes: report.kept_bytes,
        fetched_bytes: report.fetched_bytes,
        written_bytes: report.written_bytes,
        zeroed_bytes: report.zeroed_bytes,
        discarded_bytes: report.discarded_bytes,
        verified_bytes: report.verified_bytes,
        unreadable_bytes: report.unreadable_bytes,
        faulty_bytes: report.faulty_bytes,
        milliseconds: report.milliseconds,
        warnings: report.warnings.clone(),
        fitted,
    };
    let undone = applied.fitted.undone();
    output::document(common.format, &applied, |applied| {
        let speed = rate(applied.data_bytes, applied.milliseconds);
        let mut text = format!("applied {} at {speed}", bytes(applied.data_bytes));
        if applied.kept_bytes > 0 {
            text.push_str(&format!("; {} stood there already", bytes(applied.kept_bytes)));
        }
        let (fetched, written) = (bytes(applied.fetched_bytes), bytes(applied.written_bytes));
        text.push_str(&format!("; fetched {fetched}, wrote {written}"));
        let word = if applied.verified { "verified" } else { "not read back" };
        // What was laid out anew has other blocks than the image.
        match applied.tree.as_str() {
            "" => text.push_str(&format!("\n{word}")),
            tree => text.push_str(&format!("\n{word}: tree {tree}")),
        }
        text.push_str(&applied.fitted.text());
        text
    })?;
    Ok(done_or_partial(report.skipped + undone))
}

#[derive(Debug, Serialize)]
struct Info<'a> {
    image: String,
    format: &'static str,
    id: String,
    tree: String,
    size_bytes: u64,
    sector_bytes: u32,
    regions: usize,
    file_bytes: Option<u64>,
    /// Key that the signature names; whether it is right, `verify --trust` says.
    signed_by: Option<String>,
    facts: &'a Facts,
    outcome: &'a gravure_blockimg::facts::Outcome,
}

#[derive(Debug, Serialize)]
struct StoreInfo {
    store: String,
    packs: usize,
    pack_bytes: u64,
    images: Vec<StoredLine>,
}

#[derive(Debug, Serialize)]
struct StoredLine {
    name: String,
    id: String,
    tree: String,
    size_bytes: u64,
    data_bytes: u64,
    created_unix_seconds: Option<i64>,
}

pub(super) fn info(image: &ImageName, common: &Common) -> Result<ExitCode, Failure> {
    if is_store(&image.file) && image.which == Which::Only {
        return store_info(&image.file, common);
    }
    let opened = open(image, &interrupt::ctl())?;
    let root = opened.root();
    let info = Info {
        image: opened.name().to_owned(),
        format: "gim",
        id: opened.id().to_string(),
        tree: root.tree_hash().to_string(),
        size_bytes: root.size,
        sector_bytes: root.sector_bytes,
        regions: root.regions.len(),
        file_bytes: opened.file_bytes(),
        signed_by: opened.signature().and_then(|signature| {
            let envelope: serde_json::Value = serde_json::from_slice(signature).ok()?;
            Some(envelope.get("key")?.as_str()?.to_owned())
        }),
        facts: opened.facts(),
        outcome: &root.outcome,
    };
    output::document(common.format, &info, info_text)?;
    Ok(ExitCode::SUCCESS)
}

fn store_info(name: &str, common: &Common) -> Result<ExitCode, Failure> {
    let store = open_store(name)?;
    let mut images = Vec::new();
    for stored in store.images().map_err(store_failure)? {
        let image = store.image(&stored.name).map_err(store_failure)?;
        images.push(StoredLine {
            name: stored.name,
            id: image.id.to_string(),
            tree: image.root.tree_hash().to_string(),
            size_bytes: image.root.size,
            data_bytes: image.root.data_bytes(),
            created_unix_seconds: image.facts.created_unix_seconds,
        });
    }
    let packs = store.packs();
    let pack_bytes = packs.iter().map(|(_, len)| len).sum();
    let info = StoreInfo { store: name.to_owned(), packs: packs.len(), pack_bytes, images };
    output::document(common.format, &info, |info| {
        let mut text = format!("{}: {} packs, {}\n", info.store, info.packs, bytes(info.pack_bytes));
        for image in &info.images {
            let (data, size) = (bytes(image.data_bytes), bytes(image.size_bytes));
            text.push_str(&format!("{}: {data} of {size}, tree {}\n", image.name, image.tree));
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

fn volume_name(volume: &Volume) -> String {
    volume.number.map_or_else(|| "volume".to_owned(), |number| format!("partition {number}"))
}

fn info_text(info: &Info<'_>) -> String {
    let facts = info.facts;
    let mut text = format!("{}: block image {:?}", info.image, facts.name);
    if let Some(description) = &facts.description {
        text.push_str(&format!(", {description}"));
    }
    let table = facts.table.as_ref().map_or_else(String::new, |table| {
        format!(", {} {}", table.kind.to_ascii_uppercase(), table.identifier)
    });
    text.push_str(&format!(
        "\n{} in sectors of {} bytes{table}\n",
        bytes(info.size_bytes),
        info.sector_bytes
    ));
    for volume in &facts.volumes {
        let label = volume.label.as_ref().map_or_else(String::new, |label| format!(" {label:?}"));
        text.push_str(&format!(
            "{}: {}{label}, {} of {} kept ({})\n",
            volume_name(volume),
            volume.content,
            bytes(volume.used_bytes),
            bytes(volume.size_bytes),
            volume.basis
        ));
        volume.notes.iter().for_each(|note| text.push_str(&format!("   {note}\n")));
    }
    if let Some(parent) = &facts.parent {
        text.push_str(&format!("made after image {parent}\n"));
    }
    if info.signed_by.is_some() {
        text.push_str(&format!("signed by key {}\n", info.signed_by.as_deref().unwrap_or_default()));
    }
    if let Some(hardware) = &facts.hardware {
        let product = hardware.product.as_deref().unwrap_or("unknown machine");
        text.push_str(&format!("made on {product}, {}, {}\n", hardware.architecture, hardware.firmware));
    }
    text.push_str(&format!("{} in {} chunks\n", bytes(info.outcome.data_bytes), info.outcome.chunks));
    for place in info.outcome.unreadable.iter().take(20) {
        text.push_str(&format!(
            "UNREADABLE: {} bytes at {:#x} {}\n",
            place.size_bytes,
            place.offset_bytes,
            place.hits.join(", ")
        ));
    }
    text.push_str(&format!("id {}\ntree {}\n", info.id, info.tree));
    text
}

#[derive(Debug, Serialize)]
struct Verdict {
    sound: bool,
    chunks: u64,
    bytes: u64,
    tree: Option<String>,
    damage: Vec<String>,
    milliseconds: u64,
}

pub(super) fn verify(
    image: &ImageName,
    threads: Option<usize>,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let verdict = if is_store(&image.file) && image.which == Which::Only {
        let store = open_store(&image.file)?;
        let report = store.scrub(&ctl, &mut |_| {}).map_err(store_failure)?;
        let lost = report.lost.iter().map(|id| format!("chunk {id} is wanted and nowhere sound"));
        let damage: Vec<String> = report.damage.iter().cloned().chain(lost).collect();
        Verdict {
            sound: damage.is_empty(),
            chunks: report.contents,
            bytes: report.bytes,
            tree: None,
            damage,
            milliseconds: 0,
        }
    } else {
        let opened = open(image, &ctl)?;
        let report = verify_block_image(&opened, threads, &ctl, &reporter)?;
        Verdict {
            sound: report.damage.is_empty(),
            chunks: report.chunks,
            bytes: report.bytes,
            tree: report.tree.map(|tree| tree.to_string()),
            damage: report.damage,
            milliseconds: report.milliseconds,
        }
    };
    output::document(common.format, &verdict, |verdict| {
        let mut text: String = verdict.damage.iter().map(|line| format!("damaged: {line}\n")).collect();
        let word = if verdict.sound { "sound" } else { "NOT sound" };
        text.push_str(&format!("{word}: {} chunks, {} checked", verdict.chunks, bytes(verdict.bytes)));
        if let Some(tree) = &verdict.tree {
            text.push_str(&format!("\ntree {tree}"));
        }
        text
    })?;
    if verdict.sound { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(ErrorKind::Integrity.exit_code())) }
}

/// A partition of a block image, or an image of a store.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    content: String,
    label: Option<String>,
    offset_bytes: u64,
    size_bytes: u64,
    used_bytes: u64,
}

impl Row for Listed {
    fn columns() -> &'static [&'static str] {
        &["name", "content", "label", "offset_bytes", "size_bytes", "used_bytes"]
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.content.clone(),
            self.label.clone().unwrap_or_default(),
            self.offset_bytes.to_string(),
            self.size_bytes.to_string(),
            self.used_bytes.to_string(),
        ]
    }
}

/// The images of a store, or the volumes of an image.
pub(super) fn list(image: &ImageName, common: &Common) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    if is_store(&image.file) && image.which == Which::Only {
        let store = open_store(&image.file)?;
        for stored in store.images().map_err(store_failure)? {
            let opened = store.image(&stored.name).map_err(store_failure)?;
            rows.push(Listed {
                name: stored.name,
                content: "image".to_owned(),
                label: opened.facts.description.clone(),
                offset_bytes: 0,
                size_bytes: opened.root.size,
                used_bytes: opened.root.data_bytes(),
            });
        }
    } else {
        let opened = open(image, &interrupt::ctl())?;
        rows.extend(opened.facts().volumes.iter().map(|volume| Listed {
            name: volume_name(volume),
            content: volume.content.clone(),
            label: volume.label.clone(),
            offset_bytes: volume.offset_bytes,
            size_bytes: volume.size_bytes,
            used_bytes: volume.used_bytes,
        }));
    }
    output::listing(common.format, rows.into_iter(), |row| {
        let label = row.label.as_deref().unwrap_or_default();
        format!("{:14} {:>14} {:>14} {:10} {label}", row.name, row.size_bytes, row.used_bytes, row.content)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An entry of a directory on a partition.
#[derive(Debug, Serialize)]
struct EntryLine {
    name: String,
    kind: &'static str,
    size_bytes: u64,
}

impl Row for EntryLine {
    fn columns() -> &'static [&'static str] {
        &["name", "kind", "size_bytes"]
    }

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.kind.to_owned(), self.size_bytes.to_string()]
    }
}

/// A directory on a partition of an image.
pub(super) fn browse(
    image: &ImageName,
    number: Option<u32>,
    path: &str,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let opened = Arc::new(BlockImageAt::new(open(image, &ctl)?));
    let listed = opened.list(number, path, &ctl).map_err(|error| {
        let is_usage = error.kind() == ErrorKind::Usage;
        let failure = Failure::from(error);
        if is_usage { failure.with_cure(format!("`gravure ls {}` lists them", image.file)) } else { failure }
    })?;
    let rows = listed.into_iter().map(|entry| EntryLine {
        name: entry.name,
        kind: match entry.kind {
            ListKind::Directory => "directory",
            ListKind::File => "file",
            ListKind::Link => "link",
            ListKind::Other => "other",
        },
        size_bytes: entry.size,
    });
    output::listing(common.format, rows, |row| {
        format!("{:9} {:>14} {}", row.kind, row.size_bytes, row.name)
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Deleted {
    store: String,
    image: String,
}

/// Takes an image out of a store; a block image in a file is the file.
pub(super) fn delete(image: &ImageName, common: &Common) -> Result<ExitCode, Failure> {
    let Some((store, name)) = split(&image.file) else {
        let (message, cure) = match is_store(&image.file) {
            true => (format!("{}: which image?", image.file), "say it as STORE#NAME"),
            false => (format!("{}: a block image is alone in its file", image.file), "remove the file"),
        };
        return Err(Failure::new(ErrorKind::Usage, message).with_cure(cure));
    };
    open_store(store)?.remove_image(name).map_err(store_failure)?;
    let deleted = Deleted { store: store.to_owned(), image: name.to_owned() };
    output::document(common.format, &deleted, |deleted| {
        format!(
            "{}: {} deleted; `gravure optimize {}` frees the place",
            deleted.store, deleted.image, deleted.store
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Collected {
    store: String,
    removed_packs: u64,
    removed_bytes: u64,
    waiting_packs: u64,
    repacked: u64,
    contents: u64,
    missing: Vec<String>,
}

/// Removes what no image of a store wants.
pub(super) fn collect(name: &str, common: &Common) -> Result<ExitCode, Failure> {
    if !is_store(name) {
        let message = format!("{name}: nothing can be made smaller in a block image");
        return Err(Failure::new(ErrorKind::Unsupported, message).with_cure("capture it anew with --zstd 19"));
    }
    let store = open_store(name)?;
    let report = store.collect(&CollectOptions::default(), &interrupt::ctl()).map_err(store_failure)?;
    let collected = Collected {
        store: name.to_owned(),
        removed_packs: report.removed_packs,
        removed_bytes: report.removed_bytes,
        waiting_packs: report.waiting_packs,
        repacked: report.repacked,
        contents: report.wanted,
        missing: report.missing,
    };
    output::document(common.format, &collected, |collected| {
        let (packs, freed) = (collected.removed_packs, bytes(collected.removed_bytes));
        let mut text = format!("{}: {packs} packs removed, {freed}", collected.store);
        if collected.waiting_packs > 0 {
            text.push_str(&format!("; {} wait for writers to end", collected.waiting_packs));
        }
        collected.missing.iter().for_each(|line| text.push_str(&format!("\nmissing: {line}")));
        text
    })?;
    let is_whole = collected.missing.is_empty();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Integrity.exit_code()) })
}
