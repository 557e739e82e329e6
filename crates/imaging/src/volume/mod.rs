//! A partition or image file as the target of an image: the volume is laid out whole, contents go to their places from all
//! threads, boot sectors come last.
//!
//! Order, and what a crash between leaves: the old boot sectors are zeroed and that is made durable (no volume); contents and
//! metadata are written and made durable (no volume); everything is read back and checked (no volume); the copy of the boot sector is
//! written and made durable, then the boot sector (the volume). A target is never both mountable and incomplete.

mod compact;
mod device;
mod guide;
mod holes;
mod laying;
mod recode;
mod remake;
mod residents;
mod structure;
mod target;
mod verify;

pub use compact::{Compact, CompactReport, NotCompact, WhyPlain};
pub(crate) use device::is_cut;
pub use device::{PartOf, VolumeDevice, VolumeFile};
pub(crate) use remake::{RemakeOptions, SourceVolume, with_spare_bytes};

use std::collections::HashSet;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_ntfs::{
    BOOT_FILE_LEN, Collisions, Notes, Part, Place, SectorSize, VolumeOptions, VolumePlan, WofAlgorithm,
};
use gravure_nttypes::{FileTime, NtName};
use gravure_tree::{Loss, NodeId};

use crate::apply::{LackOfRoom, judge};
use crate::damage;
use crate::meter::{Context, Meter, default_threads};
use crate::reading::{self, Copying, ReadPlan};
use crate::uses;
use crate::{ApplyReport, DamagedContent, Error, ErrorKind, Image};
use compact::Compaction;
use guide::Guide;
use holes::Holes;
use laying::Laying;
use recode::StreamPlace;
use target::VolumeTarget;

/// How an image becomes a volume.
#[derive(Debug, Clone)]
pub struct VolumeApplyOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Label of the volume; none when empty.
    pub label: NtName,
    /// Cluster size, bytes; the usual one when `None`.
    pub cluster_bytes: Option<u32>,
    /// Sectors before the partition on its disk, which loaders of BIOS machines add; as the device says when 0.
    pub hidden_sectors: u64,
    /// Boot code for BIOS machines, as [`VolumeOptions::boot_code`] takes it.
    pub boot_code: Option<Box<[u8; BOOT_FILE_LEN]>>,
    /// Decides the serial number; a random one when `None`.
    pub seed: Option<[u8; 32]>,
    /// Time stamp of the system files; now when `None`.
    pub time: Option<FileTime>,
    /// What happens to names that are equal but for case.
    pub collisions: Collisions,
    /// What happens to what NTFS cannot hold.
    pub unrepresentable: Unrepresentable,
    /// What happens when the target holds data.
    pub existing: ExistingData,
    /// Which files are written compressed.
    pub compact: Compact,
    /// How files are compressed that the image has in another form than the overlay filter's; they stay plain when `None`.
    pub recode: Option<WofAlgorithm>,
    /// What is checked before the boot sectors are written.
    pub verify: VolumeVerify,
    /// What happens to content that is damaged. To keep what can be decoded of it, everything is decoded: nothing is written
    /// compressed then. A damaged link target is an error all the same.
    pub damaged: DamagedContent,
    /// What happens when a file that becomes the volume lies where there is not enough room for it.
    pub room: LackOfRoom,
}

/// What happens to what NTFS cannot hold: names, parts of files, whole files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unrepresentable {
    /// The image is refused with the list of it.
    #[default]
    Refuse,
    /// It is left out, and the rest of the image applied; names beyond the 1024 of a file become a copy of it. Each is a warning
    /// that counts as something not done.
    Skip,
}

/// What happens when the target holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExistingData {
    /// The operation is refused and says what was found.
    #[default]
    Refuse,
    /// It is destroyed.
    Destroy,
}

/// What is checked before a volume gets its boot sectors. Contents that are decoded are always held against their SHA-1; the
/// question is what becomes of those that are copied compressed, and whether everything is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VolumeVerify {
    /// What is copied compressed comes from a file that is read by its descriptor, or is decoded and held against its SHA-1. Then
    /// everything is read back: all metadata, compared byte for byte, all contents by their hashes, and the structure by the checker.
    #[default]
    Full,
    /// What is copied compressed is decoded, too, and held against its SHA-1. Nothing is read back.
    Decode,
    /// What is copied compressed must come from files that are read by their descriptors
    /// ([`crate::ImageFile::open_described`]). Nothing is read back.
    Descriptor,
    /// What is copied compressed is believed. Nothing is read back.
    Nothing,
}

impl Default for VolumeApplyOptions {
    fn default() -> Self {
        Self {
            stage: "apply".to_owned(),
            threads: None,
            label: NtName::default(),
            cluster_bytes: None,
            hidden_sectors: 0,
            boot_code: None,
            seed: None,
            time: None,
            collisions: Collisions::default(),
            unrepresentable: Unrepresentable::default(),
            existing: ExistingData::default(),
            compact: Compact::default(),
            recode: None,
            verify: VolumeVerify::default(),
            damaged: DamagedContent::default(),
            room: LackOfRoom::default(),
        }
    }
}

/// What became of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeReport {
    /// As for directories.
    pub apply: ApplyReport,
    /// What was written compressed.
    pub compact: CompactReport,
    /// Bytes of clusters in use.
    pub used_bytes: u64,
    /// Bytes read back and found right.
    pub verified_bytes: u64,
}

/// Makes the device `device` an NTFS volume with the files of `image`. Nothing is written when the image has what NTFS cannot
/// hold, does not fit, or when the device holds data and [`ExistingData::Refuse`] stands. Every content is checked against its
/// SHA-1.
pub fn apply_to_volume(
    image: &Image,
    device: &dyn VolumeDevice,
    options: &VolumeApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<VolumeReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    image.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
    let reduced = match options.unrepresentable {
        Unrepresentable::Refuse => None,
        Unrepresentable::Skip => reduced(image, options.collisions, &meter)?,
    };
    let image = reduced.as_ref().unwrap_or(image);
    let volume_options = volume_options(device, options)?;
    let cluster_bytes = u64::from(volume_options.cluster_len());
    let compaction = match options.damaged {
        DamagedContent::Refuse => {
            Compaction::decide(image, options.compact, options.recode, cluster_bytes, &context, &meter)?
        }
        DamagedContent::Keep => Compaction::none(options.compact),
    };
    let holes = Holes::find(image, &compaction, options.damaged.policy(), &context)?;
    let guide = Guide { image, compaction: &compaction, holes: &holes };
    let plan = VolumePlan::new(image.tree(), &guide, &volume_options)
        .map_err(|error| refused(device.name(), error))?;
    let target = VolumeTarget::new(&plan, &compaction, device, options.verify == VolumeVerify::Full);
    let mut reads = ReadPlan::new(image.tree(), image.archives(), |wanted| target.wants(wanted), |_| false)?;
    choose_copying(image, &target, options.verify, &mut reads)?;
    if options.existing == ExistingData::Refuse {
        device::refuse_data(device)?;
    }
    if options.room == LackOfRoom::Refuse
        && let Some(room) = device.room_bytes().filter(|room| *room < plan.used_bytes())
    {
        let (what, needed) = (format!("making {} an NTFS volume", device.name()), plan.used_bytes());
        let why = format!("no room: it takes {needed} bytes, the file system has {room} free");
        return Err(Error::Refused { what, why });
    }
    meter.expect(reads.total_bytes);

    let laying = Laying::new(&plan, device);
    laying.unmake()?;
    let explained = |error| damage::explain(error, image.archives(), Some(image.tree()), &reads);
    let policy = options.damaged.policy();
    let mut found =
        reading::run(&context, &meter, image.archives(), &reads, &target, policy).map_err(explained)?;
    let of_blob = |blob: usize, found| {
        damage::blob_error(image.archives(), Some(image.tree()), &reads.blobs[blob], found)
    };
    let spoiled: HashSet<usize> = found.iter().map(|damaged| damaged.blob).collect();
    for damaged in &mut found {
        let uses = &reads.blobs[damaged.blob].uses;
        // A link that leads elsewhere is worse than none, and its place in the volume was decided long ago.
        if uses.iter().any(|wanted| wanted.part == uses::Part::Reparse) {
            return Err(of_blob(damaged.blob, std::mem::take(&mut damaged.found)));
        }
        if options.damaged == DamagedContent::Keep && !damaged.is_kept {
            target.blank(uses)?;
            damaged.is_kept = true;
        }
    }
    let damaged = judge(image.tree(), &reads, found, options.damaged, &meter, of_blob)?;
    let recoded = match &compaction.recoding {
        Some(recoding) => {
            let place = |node| stream_place(&plan, &compaction, node);
            let notes = options.verify == VolumeVerify::Full;
            recoding.write(image, device, place, notes, &context, &meter)?
        }
        None => Vec::new(),
    };
    let resident = target.residents();
    laying.metadata(resident, ctl)?;
    let verified_bytes = match options.verify {
        VolumeVerify::Full => {
            let mut copied = target.take_copied();
            copied.extend(recoded);
            let bytes =
                verify::read_back(&plan, &reads, &spoiled, resident, copied, image.tree(), device, &context)?;
            structure::check_structure(device, &plan.boot_sectors(), &context, &meter)?;
            bytes
        }
        VolumeVerify::Decode | VolumeVerify::Descriptor | VolumeVerify::Nothing => 0,
    };
    laying.finish()?;

    let notes = plan.notes();
    let totals = meter.finish();
    Ok(VolumeReport {
        apply: ApplyReport {
            bytes: totals.bytes,
            files: plan.file_count(),
            kept_files: 0,
            kept_bytes: 0,
            warnings: totals.warnings,
            skipped: totals.skipped,
            damaged,
            losses: losses(&notes),
            milliseconds: totals.milliseconds,
        },
        compact: compaction.report,
        used_bytes: plan.used_bytes(),
        verified_bytes,
    })
}

/// The image without what NTFS cannot hold; `None` when it can hold all of it.
fn reduced(image: &Image, collisions: Collisions, meter: &Meter<'_>) -> Result<Option<Image>, Error> {
    let (tree, reductions) =
        gravure_ntfs::reduce(image.tree(), collisions).map_err(|error| Error::Other {
            what: "leaving out what NTFS cannot hold".to_owned(),
            source: Box::new(error),
            kind: ErrorKind::Failed,
        })?;
    reductions.iter().for_each(|one| meter.skip(|| one.to_string()));
    Ok((!reductions.is_empty()).then(|| image.with_tree(tree)))
}

/// Where the stream of a file goes that is compressed anew.
fn stream_place(plan: &VolumePlan<'_>, compaction: &Compaction, node: NodeId) -> Option<StreamPlace> {
    match plan.place_of(node, Part::Data).filter(|_| compaction.is_recoded(node)) {
        Some(Place::Compressed { offset, allocated, .. }) => Some(StreamPlace { node, offset, allocated }),
        _ => None,
    }
}

/// Decides which stored bytes are copied without decoding them.
fn choose_copying(
    image: &Image,
    target: &VolumeTarget<'_, '_>,
    verify: VolumeVerify,
    reads: &mut ReadPlan,
) -> Result<(), Error> {
    for blob in &mut reads.blobs {
        let copies = blob.uses.iter().filter(|wanted| target.copies(**wanted)).count();
        if copies == 0 {
            continue;
        }
        let archive = image.archives().get(blob.archive);
        let is_trusted = match verify {
            VolumeVerify::Nothing => true,
            VolumeVerify::Decode => false,
            VolumeVerify::Full => archive.is_described(),
            VolumeVerify::Descriptor if archive.is_described() => true,
            VolumeVerify::Descriptor => {
                return Err(Error::Usage {
                    what: format!("checking {} by its descriptor", archive.name()),
                    expected: "a descriptor, made when all contents were decoded".to_owned(),
                    found: "none".to_owned(),
                });
            }
        };
        // A content that is wanted plain as well is decoded anyway.
        let is_trusted = is_trusted && copies == blob.uses.len();
        blob.copying = if is_trusted { Copying::Trusted } else { Copying::Checked };
    }
    Ok(())
}

fn volume_options(device: &dyn VolumeDevice, options: &VolumeApplyOptions) -> Result<VolumeOptions, Error> {
    let sector_size = SectorSize::from_bytes(device.sector_bytes()).ok_or_else(|| Error::Unsupported {
        what: "sector size for NTFS",
        value: format!("{} bytes on {}", device.sector_bytes(), device.name()),
    })?;
    Ok(VolumeOptions {
        sector_size,
        cluster_bytes: options.cluster_bytes,
        hidden_sectors: match options.hidden_sectors {
            0 => device.first_byte() / u64::from(device.sector_bytes()),
            given => given,
        },
        boot_code: options.boot_code.clone(),
        label: options.label.clone(),
        seed: options.seed.map_or_else(random_seed, Ok)?,
        time: options.time.unwrap_or_else(now),
        collisions: options.collisions,
        ..VolumeOptions::new(device.size())
    })
}

fn random_seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::Other {
        what: "making a serial number".to_owned(),
        source: error.to_string().into(),
        kind: ErrorKind::Failed,
    })?;
    Ok(seed)
}

fn now() -> FileTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

fn refused(name: &str, error: gravure_ntfs::Error) -> Error {
    let kind = match &error {
        gravure_ntfs::Error::Invalid { .. } => ErrorKind::Usage,
        _ => ErrorKind::Refused,
    };
    Error::Other { what: format!("making {name} an NTFS volume"), source: Box::new(error), kind }
}

/// What the volume does not keep of the image.
fn losses(notes: &Notes) -> Vec<Loss> {
    let counts = [
        ("short names", notes.short_names_dropped),
        ("marks of compression", notes.marks_dropped),
        ("reparse marks without data", notes.reparse_marks_dropped),
        ("Unix owners and modes", notes.unix_data_dropped),
    ];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Loss { what, count }).collect()
}
