//! `gravure apply`: an image becomes a directory, or the NTFS volume on a partition or in an image file. One command with many targets, so most of this
//! is options, their help and what is printed.

use std::collections::HashSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use gravure_imaging::{
    ApplyOptions, BlockApplyOptions, BlockVerify, Collisions, Compact, CompactReport, DamagedContent, Delta,
    Durability, ErrorKind, Existing, ExistingData, Image, LackOfRoom, Unrepresentable, VerifyOptions,
    VolumeApplyOptions, VolumeFile, VolumeReport, VolumeVerify, Which, WofAlgorithm, apply_to_directory,
    apply_to_volume, check_integrity, verify_applied,
};
use gravure_model::Ctl;
use gravure_tree::Loss;
use serde::Serialize;

use super::disk::read_boot_code;
use super::disk_file;
use crate::exit::{Failure, done_or_partial};
use crate::output::{self, bytes, rate};
use crate::progress::Reporter;
use crate::stored::{check_trust, is_of_device};
use crate::target::{ImageName, STDIN, Source};
use crate::{Common, descriptor, interrupt};

/// Put an image onto a directory or a volume and read it back
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The SHA-1 of every content is checked on the way. With --verify=full everything is read back from the disk
afterwards and compared with the image.

A partition, an existing regular file or a new one that ends in .img, .raw or .ntfs becomes an NTFS volume. It is not
mountable before everything on it was written and checked. A file that ends in .vhdx or .qcow2 becomes a virtual disk with a
partition table and the volume in its only partition; it is made beside its place, which takes the room of its files a second time.

An apply to a directory that was interrupted goes on with --existing keep: files that are there with the right content are
not fetched again. Volumes start over.

A block image (.gim) is restored onto a disk, partition or file: what stands there already is kept, the rest is written and read
back, boot sectors and partition table come last. Interrupted, it goes on where it was when it is run again. Of a whole disk it
fits onto smaller and larger ones, and onto 512 and 4096-byte sectors: the last partitions move as far as they must, the table
is computed anew, boot sectors say what they must. With --grow the largest file system fills what is left, and others
their partitions. From a pipe it is written
front to back and read back likewise; a GPT gets its copy at the end of a larger disk, and nothing else is changed.
Where an NTFS volume has no place with its blocks, it is laid out anew out of its files, as small as they need, with its label,
serial number and boot code; so are FAT volumes whose sectors cannot be counted otherwise. ext2/3/4 are made smaller by resize2fs
while they are restored (e2fsprogs and FUSE are needed for it). XFS is laid out anew, too, with its label, UUID and features, by
mkfs.xfs and the kernel (xfsprogs, FUSE and root are needed for it); what files shared, quotas and flags such as immutable are not
kept. Btrfs on one device is made smaller by the kernel, with all subvolumes (FUSE, loop devices and root are needed for it), to
256 MiB at least. The report names all of them, and --no-file-level refuses them.
A machine whose architecture, firmware or storage controller would keep the image's system from starting is refused, unless
--any-hardware says otherwise.

Windows 10 and later read files that are compressed as images compress them (\"CompactOS\"). With --compact=auto (the default)
contents are copied onto the volume as the image has them when it says that it holds such a Windows; what starts before Windows
can read such files, what the image lists in WimBootCompress.ini and what saves nothing stays plain. Images for this: LZX
(not solid), XPRESS with chunks of 4K, 8K or 16K; with --recode others are compressed anew. What is copied is decoded to be checked, unless a descriptor (gravure image
describe) vouches for it: that of --descriptor, or IMAGE.descriptor beside the image.

Examples:
  gravure apply disk.gim /dev/sda --yes             a disk from a block image
  gravure apply disk.gim /dev/nvme0n1 --grow --new-ids --yes   onto a larger disk, beside the old one
  gravure apply images.gim/:golden /dev/sda3 --yes  from a store; http://server/images.gim/:golden too
  gravure apply http://server/images.gim/:golden /dev/sda3 --yes --store-cache /var/cache/gravure    packs are kept there
  gravure apply reference.wim /mnt/target           the only image of a file
  gravure apply install.wim:2 /mnt/target           by number
  gravure apply \"install.wim:Windows Pro\" /mnt/x    by name
  gravure apply delta.wim:1 /mnt/x --ref base.wim   content that lies in another file
  gravure apply install.esd:1 /mnt/target           solid images too
  gravure apply http://server/images/debian.wim /mnt/x --progress jsonl
  ssh server cat pipable.wim | gravure apply -:1 /mnt/x     from a pipe: images made with --pipable
  gravure apply damaged.wim /mnt/x --recover-data   what can be read of a damaged image; exit code 10
  gravure apply install.wim:1 /dev/sdb3 --label Windows --yes      an NTFS volume
  gravure apply install.wim 1 /mnt/x                the same, as wimlib has it
  gravure apply http://server/install.wim:1 /mnt/x --existing keep   goes on where it was interrupted
  gravure apply install.wim:1 windows.ntfs --size 40G
  gravure apply install.wim:1 windows.vhdx --size 40G    a virtual disk; --sector-size 4096 for 4Kn
  gravure apply install.wim:1 /dev/sdb3 --compact never --yes
  gravure apply odd.wim:1 odd.ntfs --size 8G --skip-unrepresentable   without what NTFS cannot hold; exit code 10
  gravure apply install.wim:1 /dev/sdb3 --descriptor install.json --verify descriptor --yes"
)]
pub(crate) struct Options {
    /// Image file, address or - for standard input, with :NUMBER or :NAME when it holds several
    image: ImageName,
    /// Directory to fill, made when it is not there; partition or file to become a volume. Before it, number or name of the image,
    /// when FILE:N does not say it
    #[arg(value_names = ["[N] TARGET"], num_args = 1..=2, required = true)]
    targets: Vec<PathBuf>,
    /// Check the integrity table of the image file first, when it has one
    #[arg(long)]
    check: bool,
    /// Further files that content may lie in; FILE may be a pattern with *
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// What is done with files that are there already
    #[arg(long, value_enum, default_value_t = OnExisting::Refuse)]
    existing: OnExisting,
    /// What is checked
    #[arg(long, value_enum, default_value_t = Verify::Full)]
    verify: Verify,
    /// Descriptor of the image: no byte of it is used that is not as described
    #[arg(long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    /// Whether files of a volume are written compressed
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = OnVolume::Auto)]
    compact: OnVolume,
    /// Compress anew, in this form, what the image has in a form that Windows cannot read files in (solid, XPRESS of 32K,
    /// uncompressed): takes time, saves room
    #[arg(long, value_enum, value_name = "FORM")]
    recode: Option<Form>,
    /// Count what the target cannot hold by its nature (Windows attributes, descriptors) as a failure: exit code 10
    #[arg(long)]
    strict: bool,
    /// Keep what can be decoded of damaged files, with zeros where nothing can, and go on; each is a warning, and the exit
    /// code is 10
    #[arg(long)]
    recover_data: bool,
    /// File system of a partition or file
    #[arg(long, value_enum, default_value_t = FileSystem::Ntfs)]
    fs: FileSystem,
    /// Label of the volume
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
    /// Size of an image file, with K, M, G or T; the file's own by default
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Sector size of an image file or virtual disk, 512 or 4096: that of the disk it stands for
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(512..=4096))]
    sector_size: Option<u32>,
    /// Go on although the files have more bytes than the file system says it has room for: one that compresses may hold them
    #[arg(long)]
    ignore_space: bool,
    /// Directories: end when the kernel has everything, not when the disk has it, as tar, cp and wimlib do
    #[arg(long)]
    no_sync: bool,
    /// Cluster size of the volume, e.g. 4K, 64K
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cluster_size: Option<u64>,
    /// Boot code of `gravure disk boot-code` for the volume, with its own parameters, so that a BIOS starts Windows from it
    #[arg(long, value_name = "FILE")]
    boot_code: Option<PathBuf>,
    /// Keep names that differ in case only, in directories marked case-sensitive; Windows before 10.0.17093 finds one of them
    #[arg(long)]
    keep_case_twins: bool,
    /// Leave out what NTFS cannot hold (names, encrypted files, streams, reparse data), copy files of more than 1024 names, and go
    /// on; each is a warning, and the exit code is 10. A volume that would lack something is refused otherwise, with the whole list
    #[arg(long)]
    skip_unrepresentable: bool,
    /// Read a block image from standard input, where no name ending in .gim says so
    #[arg(long)]
    block: bool,
    /// Block images: what may stay of what the target holds already; an image from a pipe is written whole, whatever is there
    #[arg(long, value_enum, default_value_t = OnTarget::Auto)]
    delta: OnTarget,
    /// Images in stores and .gim files: public key that must have signed the image
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Block images: restore them also onto hardware on which their system may not start
    #[arg(long)]
    any_hardware: bool,
    /// Block images: inventory (JSON) of the machine that the target belongs to [default: this one, when the target is a device]
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Block images: the largest file system takes the room that a larger disk or partition has, and any that is smaller than its
    /// partition fills it
    #[arg(long)]
    grow: bool,
    /// Block images: refuse a target that has no room for a volume's blocks, or other sectors, instead of laying its files out anew
    #[arg(long)]
    no_file_level: bool,
    /// Block images of disks: new identifiers for disk and partitions, in boot stores, boot menus and file system tables, too, in subvolumes and LVM as well
    #[arg(long)]
    new_ids: bool,
    /// Destroy what the partition or file holds
    #[arg(long)]
    yes: bool,
    /// Threads; one for each processor by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExisting {
    /// End before anything is written
    Refuse,
    /// Replace files, merge directories
    Replace,
    /// The same, but keep files whose content is right already, without fetching it: goes on after an interruption
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verify {
    /// Read everything back and compare; of a volume check every structure, too
    Full,
    /// Only the hashes on the way; what is copied compressed is decoded for it
    Decode,
    /// The same, but what is copied compressed is held against the descriptor of the image
    Descriptor,
    /// The same, but what is copied compressed is believed
    None,
}

/// Whether files are written compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnVolume {
    /// Where the image says that it holds Windows 10 (10.0.10240) or later
    Auto,
    /// Whatever the image says of itself
    Always,
    /// Everything plain
    Never,
}

/// What of a target may stay that equals the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnTarget {
    /// All of it, when a sample says that there is some
    Auto,
    /// All of it: the whole target is read first
    Always,
    /// Nothing: everything is written
    Never,
}

/// File systems that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileSystem {
    /// NTFS 3.1
    Ntfs,
}

/// Forms of compressed files that Windows reads, as other tools name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Fastest to read
    Xpress4k,
    /// A little smaller
    Xpress8k,
    /// Smaller still
    Xpress16k,
    /// Smallest, slowest to read
    Lzx,
}

impl From<Form> for WofAlgorithm {
    fn from(form: Form) -> Self {
        match form {
            Form::Xpress4k => Self::Xpress4K,
            Form::Xpress8k => Self::Xpress8K,
            Form::Xpress16k => Self::Xpress16K,
            Form::Lzx => Self::Lzx,
        }
    }
}

/// A number of bytes, with K, M, G or T for powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.trim_end_matches(['B', 'b']).trim_end_matches(['I', 'i']) {
        text if text.ends_with(['K', 'k']) => (text.trim_end_matches(['K', 'k']), 10),
        text if text.ends_with(['M', 'm']) => (text.trim_end_matches(['M', 'm']), 20),
        text if text.ends_with(['G', 'g']) => (text.trim_end_matches(['G', 'g']), 30),
        text if text.ends_with(['T', 't']) => (text.trim_end_matches(['T', 't']), 40),
        text => (text, 0),
    };
    let number: u64 =
        digits.parse().map_err(|_| format!("{text:?} is no size; expected e.g. 512M or 40G"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

impl Options {
    /// Image and target, whichever way the image was named.
    fn addressed(&self) -> Result<(ImageName, &Path), Failure> {
        match self.targets.as_slice() {
            [which, target] => {
                let which = which.to_string_lossy();
                if self.image.which != Which::Only {
                    let message = format!("{which:?}: the image was named already; expected one target");
                    return Err(Failure::new(ErrorKind::Usage, message));
                }
                let which = which.parse().map_or_else(|_| Which::Name(which.into_owned()), Which::Number);
                Ok((ImageName { which, ..self.image.clone() }, target))
            }
            [target] => Ok((self.image.clone(), target)),
            other => {
                Err(Failure::new(ErrorKind::Usage, format!("expected one target, found {}", other.len())))
            }
        }
    }

    fn room(&self) -> LackOfRoom {
        if self.ignore_space { LackOfRoom::Try } else { LackOfRoom::Refuse }
    }

    fn damaged(&self) -> DamagedContent {
        if self.recover_data { DamagedContent::Keep } else { DamagedContent::Refuse }
    }
}

/// Whether the target is to become a volume, not a directory to be filled.
fn is_volume(target: &Path) -> bool {
    match std::fs::metadata(target) {
        Ok(metadata) => metadata.is_file() || metadata.file_type().is_block_device(),
        Err(_) => {
            let extension = target.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| {
                ["img", "raw", "ntfs"].iter().any(|known| extension.eq_ignore_ascii_case(known))
            }) || disk_file::form_of(target).is_some()
        }
    }
}

#[derive(Debug, Serialize)]
struct Result_ {
    files: u64,
    bytes: u64,
    kept_files: u64,
    kept_bytes: u64,
    milliseconds: u64,
    verified_files: Option<u64>,
    verify_milliseconds: Option<u64>,
    losses: Vec<LossLine>,
    damaged: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LossLine {
    what: String,
    files: u64,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let (image, target) = options.addressed()?;
    if options.block || is_of_device(&image, &interrupt::ctl())? {
        return super::block::apply(
            &image,
            target,
            super::block::NewFile { size: options.size, sector_bytes: options.sector_size },
            block_options(options),
            &super::block::Conditions {
                trust: options.trust.as_deref(),
                any_hardware: options.any_hardware,
                machine: options.machine.as_deref(),
            },
            super::block_fit::Fit {
                grow: options.grow,
                new_ids: options.new_ids,
                by_files: !options.no_file_level,
            },
            common,
        );
    }
    check_trust(&image, options.trust.as_deref(), &interrupt::ctl())?;
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let is_volume = is_volume(target);
    if !is_volume && options.compact == OnVolume::Always {
        let message = format!("--compact=always is for NTFS volumes, and {} is none", target.display());
        return Err(Failure::new(ErrorKind::Usage, message));
    }
    if options.skip_unrepresentable && !is_volume {
        let message =
            "--skip-unrepresentable is for NTFS volumes; directories take what they can, see --strict";
        return Err(Failure::new(ErrorKind::Usage, message));
    }
    if !is_volume && options.sector_size.is_some() {
        let message = format!("--sector-size is for image files, and {} is none", target.display());
        return Err(Failure::new(ErrorKind::Usage, message));
    }
    if options.recover_data && (options.compact == OnVolume::Always || options.recode.is_some()) {
        let message = "--recover-data decodes everything, so that nothing is written compressed";
        return Err(Failure::new(ErrorKind::Usage, message).with_cure("leave out --compact and --recode"));
    }
    if options.recode.is_some() && (!is_volume || options.compact == OnVolume::Never) {
        let message = "--recode is for NTFS volumes with --compact=auto or always";
        return Err(Failure::new(ErrorKind::Usage, message));
    }
    let source = open(&image, options, &ctl, &reporter)?;
    if options.check {
        check(&source, &ctl, &reporter)?;
    }
    if is_volume {
        let Source::File(file) = &source else {
            let message =
                "a volume is laid out before its content comes, which an image from a pipe cannot tell";
            return Err(
                Failure::new(ErrorKind::Unsupported, message).with_cure("name the file instead of piping it")
            );
        };
        let image = file.image(file.find(&image.which)?)?;
        return run_volume(&image, target, options, common, &ctl, &reporter);
    }
    let apply = ApplyOptions {
        threads: options.threads,
        existing: match options.existing {
            OnExisting::Refuse => Existing::Refuse,
            OnExisting::Replace => Existing::Replace,
            OnExisting::Keep => Existing::Keep,
        },
        damaged: options.damaged(),
        room: options.room(),
        durability: if options.no_sync { Durability::Cached } else { Durability::Stable },
        ..ApplyOptions::default()
    };
    let applied = match source {
        Source::File(file) => {
            let image = file.image(file.find(&image.which)?)?;
            apply_to_directory(&image, target, &apply, &ctl, &reporter).map(|report| (report, image))
        }
        Source::Pipe(pipe) => pipe.apply(&image.which, target, &apply, &ctl, &reporter),
    };
    let (report, image) = applied.map_err(explained)?;
    let compared = match options.verify {
        Verify::Full => {
            // What is damaged has been told already.
            let damaged: HashSet<&str> = report.damaged.iter().map(String::as_str).collect();
            let except = |path: &str| damaged.contains(path);
            let verify = VerifyOptions { except: &except, ..VerifyOptions::default() };
            Some(verify_applied(&image, target, &report, &verify, &ctl, &reporter)?)
        }
        Verify::Decode | Verify::Descriptor | Verify::None => None,
    };
    let lost: u64 = report.losses.iter().map(|loss| loss.count).sum();
    let result = Result_ {
        files: report.files,
        bytes: report.bytes,
        kept_files: report.kept_files,
        kept_bytes: report.kept_bytes,
        milliseconds: report.milliseconds,
        verified_files: compared.map(|compared| compared.files),
        verify_milliseconds: compared.map(|compared| compared.milliseconds),
        losses: loss_lines(&report.losses),
        damaged: report.damaged,
        warnings: report.warnings,
    };
    output::document(common.format, &result, |result| {
        let speed = rate(result.bytes, result.milliseconds);
        let mut text = format!("applied {} files, {} at {speed}", result.files, bytes(result.bytes));
        if result.kept_files > 0 {
            let kept = bytes(result.kept_bytes);
            text.push_str(&format!("; {} of the files with {kept} stood there already", result.kept_files));
        }
        if let Some(files) = result.verified_files {
            text.push_str(&format!("; verified {files} files"));
        }
        if !result.damaged.is_empty() {
            text.push_str(&format!("\nNOT as in the image: {} damaged files", result.damaged.len()));
        }
        for loss in &result.losses {
            text.push_str(&format!("\nnot kept by this target: {} of {} files", loss.what, loss.files));
        }
        text
    })?;
    Ok(done_or_partial(report.skipped + if options.strict { lost } else { 0 }))
}

fn block_options(options: &Options) -> BlockApplyOptions {
    BlockApplyOptions {
        threads: options.threads,
        existing: if options.yes { ExistingData::Destroy } else { ExistingData::Refuse },
        delta: match options.delta {
            OnTarget::Auto => Delta::Auto,
            OnTarget::Always => Delta::Always,
            OnTarget::Never => Delta::Never,
        },
        verify: match options.verify {
            Verify::Full => BlockVerify::Full,
            // What is written is always decoded and hashed first.
            Verify::Decode | Verify::Descriptor | Verify::None => BlockVerify::Decode,
        },
        ..BlockApplyOptions::default()
    }
}

/// Opens the image, by its descriptor when there is one.
fn open(image: &ImageName, options: &Options, ctl: &Ctl, reporter: &Reporter) -> Result<Source, Failure> {
    let wants = options.verify == Verify::Descriptor;
    if image.file == STDIN {
        if wants || options.descriptor.is_some() {
            let message = "what comes from standard input cannot be held against a descriptor";
            return Err(Failure::new(ErrorKind::Unsupported, message).with_cure("name the image file"));
        }
        return image.open_source(&options.references, ctl);
    }
    let explicit = options.descriptor.as_deref();
    let opened = descriptor::open(image, explicit, &options.references, ctl)?;
    if let Some(note) = &opened.note {
        reporter.say(note);
    }
    if wants && !opened.is_described {
        let message = format!("--verify=descriptor: {} has no descriptor", image.file);
        let cure = "make one with `gravure image describe`, name it with --descriptor, or check with --verify=decode";
        return Err(Failure::new(ErrorKind::Usage, message).with_cure(cure));
    }
    Ok(Source::File(opened.file))
}

/// Checks the integrity tables of an image file before anything else is done with it.
pub(super) fn check(source: &Source, ctl: &Ctl, reporter: &Reporter) -> Result<(), Failure> {
    let Source::File(file) = source else {
        let message = "the integrity table of an image from a pipe comes last";
        return Err(
            Failure::new(ErrorKind::Unsupported, message).with_cure("name the file instead of piping it")
        );
    };
    for name in check_integrity(file, ctl, reporter)? {
        eprintln!("warning: {name} has no integrity table to check");
    }
    Ok(())
}

/// Whether an error says that there is not enough room.
fn lacks_room(error: &gravure_imaging::Error) -> bool {
    matches!(error, gravure_imaging::Error::Refused { why, .. } if why.starts_with("no room"))
}

const MAKE_ROOM: &str =
    "make room, or try it with --ignore-space where files are compressed by their file system";

fn explained(error: gravure_imaging::Error) -> Failure {
    let kind = error.kind();
    let has_no_room = lacks_room(&error);
    let failure = Failure::from(error);
    match kind {
        ErrorKind::Refused if has_no_room => failure.with_cure(MAKE_ROOM),
        ErrorKind::Refused => {
            failure.with_cure("choose an empty directory, or allow it with --existing=replace or keep")
        }
        ErrorKind::Integrity => failure.with_cure(
            "the image is damaged: take another copy of it, or what can be read with --recover-data",
        ),
        _ => failure,
    }
}

fn loss_lines(losses: &[Loss]) -> Vec<LossLine> {
    losses.iter().map(|loss| LossLine { what: loss.what.to_string(), files: loss.count }).collect()
}

#[derive(Debug, Serialize)]
struct VolumeResult {
    files: u64,
    bytes: u64,
    used_bytes: u64,
    verified_bytes: u64,
    compact: CompactLine,
    milliseconds: u64,
    losses: Vec<LossLine>,
    damaged: Vec<String>,
    warnings: Vec<String>,
}

/// What was written compressed.
#[derive(Debug, Serialize)]
struct CompactLine {
    files: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    /// How many of the files were compressed anew.
    recoded_files: u64,
    /// Files that were not, by reason.
    plain: Vec<PlainLine>,
    /// Why none was.
    why_not: Option<String>,
}

#[derive(Debug, Serialize)]
struct PlainLine {
    why: &'static str,
    files: u64,
    bytes: u64,
}

impl From<CompactReport> for CompactLine {
    fn from(report: CompactReport) -> Self {
        let CompactReport { files, plain_bytes, stored_bytes, recoded_files, others, why_not } = report;
        let line = |other: gravure_imaging::NotCompact| PlainLine {
            why: other.why.text(),
            files: other.files,
            bytes: other.bytes,
        };
        let plain = others.into_iter().map(line).collect();
        Self { files, plain_bytes, stored_bytes, recoded_files, plain, why_not }
    }
}

impl CompactLine {
    /// For people; nothing when nothing was asked for.
    fn text(&self) -> String {
        if let Some(why) = &self.why_not {
            return format!("\nnot compressed: {why}");
        }
        let mut text = String::new();
        if self.files > 0 {
            let (plain, stored) = (bytes(self.plain_bytes), bytes(self.stored_bytes));
            text.push_str(&format!("\ncompressed: {} files, {plain} in {stored}", self.files));
            if self.recoded_files > 0 {
                text.push_str(&format!("; {} of them anew", self.recoded_files));
            }
        }
        for line in &self.plain {
            text.push_str(&format!("\nplain, {}: {} files, {}", line.why, line.files, bytes(line.bytes)));
        }
        text
    }
}

/// Makes the target an NTFS volume.
fn run_volume(
    image: &Image,
    target: &Path,
    options: &Options,
    common: &Common,
    ctl: &Ctl,
    reporter: &Reporter,
) -> Result<ExitCode, Failure> {
    let FileSystem::Ntfs = options.fs;
    let cluster_bytes = options.cluster_size.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    let boot_code = options.boot_code.as_deref().map(read_boot_code).transpose()?;
    let boot_code = boot_code.and_then(|code| code.of_volume().first_chunk().copied()).map(Box::new);
    let apply = VolumeApplyOptions {
        boot_code,
        threads: options.threads,
        label: options.label.as_str().into(),
        cluster_bytes,
        collisions: if options.keep_case_twins { Collisions::Keep } else { Collisions::Refuse },
        unrepresentable: match options.skip_unrepresentable {
            true => Unrepresentable::Skip,
            false => Unrepresentable::Refuse,
        },
        existing: if options.yes { ExistingData::Destroy } else { ExistingData::Refuse },
        verify: match options.verify {
            Verify::Full => VolumeVerify::Full,
            Verify::Decode => VolumeVerify::Decode,
            Verify::Descriptor => VolumeVerify::Descriptor,
            Verify::None => VolumeVerify::Nothing,
        },
        compact: match options.compact {
            OnVolume::Auto => Compact::Auto,
            OnVolume::Always => Compact::Always,
            OnVolume::Never => Compact::Never,
        },
        recode: options.recode.map(WofAlgorithm::from),
        damaged: options.damaged(),
        room: options.room(),
        ..VolumeApplyOptions::default()
    };
    let applied = match disk_file::form_of(target) {
        Some(form) => {
            let file = disk_file::DiskFile {
                path: target,
                form,
                size: options.size,
                sector_bytes: options.sector_size,
            };
            file.apply(image, &apply, ctl, reporter)?
        }
        None => open_target(target, options)
            .map(|device| apply_to_volume(image, &device, &apply, ctl, reporter))?,
    };
    let report: VolumeReport = applied.map_err(|error| {
        let has_no_room = lacks_room(&error);
        let holds_data = matches!(error, gravure_imaging::Error::Refused { .. });
        let cannot_hold = error.is_unrepresentable();
        let lacks_descriptor = error.kind() == ErrorKind::Usage && options.verify == Verify::Descriptor;
        let failure = Failure::from(error);
        if has_no_room {
            failure.with_cure(MAKE_ROOM)
        } else if holds_data {
            failure.with_cure("destroy it with --yes, or choose another target")
        } else if cannot_hold {
            failure.with_cure("apply the rest with --skip-unrepresentable")
        } else if lacks_descriptor {
            failure.with_cure("make one with `gravure image describe`, or check with --verify=decode")
        } else {
            failure
        }
    })?;
    let lost: u64 = report.apply.losses.iter().map(|loss| loss.count).sum();
    let result = VolumeResult {
        files: report.apply.files,
        bytes: report.apply.bytes,
        used_bytes: report.used_bytes,
        verified_bytes: report.verified_bytes,
        compact: report.compact.into(),
        milliseconds: report.apply.milliseconds,
        losses: loss_lines(&report.apply.losses),
        damaged: report.apply.damaged,
        warnings: report.apply.warnings,
    };
    output::document(common.format, &result, |result| {
        let speed = rate(result.bytes, result.milliseconds);
        let mut text = format!("applied {} files, {} at {speed}", result.files, bytes(result.bytes));
        text.push_str(&format!("; {} in use", bytes(result.used_bytes)));
        if result.verified_bytes > 0 {
            text.push_str(&format!("; read back {}", bytes(result.verified_bytes)));
        }
        text.push_str(&result.compact.text());
        if !result.damaged.is_empty() {
            text.push_str(&format!("\nNOT as in the image: {} damaged files", result.damaged.len()));
        }
        for loss in &result.losses {
            text.push_str(&format!("\nnot kept by this target: {} of {} files", loss.what, loss.files));
        }
        text
    })?;
    Ok(done_or_partial(report.apply.skipped + if options.strict { lost } else { 0 }))
}

/// The partition or file that becomes the volume.
fn open_target(target: &Path, options: &Options) -> Result<VolumeFile, Failure> {
    let device = VolumeFile::open(target, options.size).map_err(|error| {
        let missing = error.kind() == ErrorKind::NotFound;
        let failure = Failure::from(error);
        if missing { failure.with_cure(SAY_SIZE) } else { failure }
    })?;
    match options.sector_size {
        Some(bytes) => Ok(device.with_sector_bytes(bytes)?),
        None => Ok(device),
    }
}

pub(super) const SAY_SIZE: &str = "say how large the new file is to be: --size=40G";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [("512", 512), ("4K", 4096), ("40G", 40 << 30), ("1TiB", 1 << 40), ("3mb", 3 << 20)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn new_files_are_told_by_their_extension() {
        let dir = std::env::temp_dir();
        assert!(is_volume(&dir.join("no such file.IMG")) && is_volume(&dir.join("no such file.ntfs")));
        assert!(!is_volume(&dir.join("no such directory")) && !is_volume(&dir));
    }
}
