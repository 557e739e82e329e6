//! Capturing a directory or an unmounted volume into a WIM: scan, hash, find equal contents, compress on all cores, write in order.
//!
//! The bytes of the file depend on the directory and the options alone: not on the number of threads, and with
//! `source_date_epoch` not on the time of day either.

mod append;
mod contents;
mod copy;
mod earlier;
mod encode;
#[cfg(test)]
mod faults;
mod hash;
mod known;
mod pipable;
mod solid;
mod windows;
mod write;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_codec::Level;
use gravure_io::{ReadAt, Window, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::{FileTime, Guid, NtName};
use gravure_tree::{Origin, SourceId, Tree};
use gravure_wim::{Compression, ImageInfo, Metadata, WimWriter, WriteOptions, image_counts};

pub use append::{AppendOptions, append, append_directory};
pub(crate) use contents::{Content, Reader, contents};
pub use earlier::Earlier;
pub(crate) use hash::hash_all;
pub(crate) use known::Known;
pub(crate) use pipable::store as store_pipable;
pub(crate) use solid::names;
pub(crate) use windows::{describe_windows, windows_of_volume};
pub(crate) use write::{
    BlobOutput, Missing, Placing, Reuse, StoreOptions, chain, encode_contents, settle, store,
};

use crate::blob_reader::BlobReader;
use crate::block::find_partition;
use crate::directory::{DirectorySource, Overlay, ScanOptions, Scanner, Symlinks};
use crate::extract::split_path;
use crate::import::{ImportKind, open_disk};
use crate::meter::{Context, Meter, Totals, default_threads};
use crate::ntfs_source::{NtfsSource, is_ntfs, without_paging_files};
use crate::output_file::OutputFile;
use crate::rewrite::{Boot, set_property};
use crate::{Error, ImageFile, integrity};

/// Where the GUID stands in a WIM header (wim-container section 2).
const GUID_OFFSET: u64 = 0x18;
/// Bytes gathered before a pipe is written to.
pub(crate) const OUT_BUFFER_BYTES: usize = 1 << 20;

/// How a directory is captured.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Method and chunk size; `None` stores everything as it is. In a solid image that of the metadata.
    pub compression: Option<Compression>,
    /// How contents are laid out.
    pub form: CaptureForm,
    /// How hard to compress.
    pub level: Level,
    /// Name of the image.
    pub name: String,
    /// Description of the image.
    pub description: Option<String>,
    /// What else the XML document is to say of the image: paths of elements below `IMAGE`, and their texts.
    pub properties: Vec<(String, String)>,
    /// Whether the file gets an integrity table.
    pub integrity: Integrity,
    /// How the directory is read.
    pub scan: ScanOptions,
    /// Unix time that stands for now and that no file's time may exceed: two captures of equal directories are then
    /// equal, byte for byte.
    pub source_date_epoch: Option<i64>,
    /// Files whose contents are not stored again: what is written is a delta file, which needs them.
    pub delta_from: Vec<ImageFile>,
    /// An earlier image of the same directory: files of the same path, size and time of last write are not read.
    pub update_of: Option<Earlier>,
    /// Whether the image becomes the bootable one.
    pub boot: Boot,
}

/// How the contents of an image are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureForm {
    /// Each content by itself: every Windows reads it, single files come out at once.
    #[default]
    Normal,
    /// All contents together in large chunks of this method and size, sorted so that like stands by like: smaller files,
    /// which take a whole chunk to get at a single content. Files of this kind are called `.esd`.
    Solid(Compression),
    /// For a pipe: written and read front to back. wimlib reads it, Windows does not.
    Pipable,
}

/// Whether a file has an integrity table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integrity {
    /// No table.
    #[default]
    Without,
    /// SHA-1 of every 10 MiB of the file.
    Table,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            stage: "capture".to_owned(),
            threads: None,
            compression: Some(Compression::LZX_32K),
            form: CaptureForm::default(),
            level: Level::default(),
            name: String::new(),
            description: None,
            properties: Vec::new(),
            integrity: Integrity::default(),
            scan: ScanOptions::default(),
            source_date_epoch: None,
            delta_from: Vec::new(),
            update_of: None,
            boot: Boot::Leave,
        }
    }
}

/// What a capture did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureReport {
    /// Files, links and special files; names of hard links count once.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Plain bytes of all files.
    pub content_bytes: u64,
    /// Contents stored, each once; what the file had before does not count.
    pub blobs: u64,
    /// Files that were taken over unread from an earlier image.
    pub unread_files: u64,
    /// Bytes of the file before its tables.
    pub stored_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things asked for and not done.
    pub skipped: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// A directory, file or volume that is captured, and where in the image it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSource {
    /// On this machine.
    pub path: PathBuf,
    /// In the image, names with `/` or `\\` between them; none for the root.
    pub target: String,
    /// Number of the partition that is captured of a disk, or of a file with the bytes of one: raw, qcow2, VHD, VHDX.
    pub partition: Option<u32>,
}

impl CaptureSource {
    /// The directory `path` as the whole image.
    pub fn root(path: &Path) -> Self {
        Self { path: path.to_owned(), target: String::new(), partition: None }
    }

    /// Partition `number` of the disk or disk file `path` as the whole image.
    pub fn partition(path: &Path, number: u32) -> Self {
        Self { partition: Some(number), ..Self::root(path) }
    }
}

/// Captures the directory `source` into the new WIM `output`. A file of that name is replaced, when the new one is
/// complete.
pub fn capture_directory(
    source: &Path,
    output: &Path,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    capture(&[CaptureSource::root(source)], output, options, ctl, observer)
}

/// As [`capture_directory`] for several directories and files that make up one image: directories of one path are put
/// together, of files of one path the last is taken.
pub fn capture(
    sources: &[CaptureSource],
    output: &Path,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    // First, so that a place that cannot be written is found before anything is read.
    let file = OutputFile::create(output)?;
    let report = scan_and_write(sources, options, ctl, observer, |context, meter, scanned, report| {
        if options.form != CaptureForm::Pipable {
            return write(context, meter, scanned, &file, options, report);
        }
        let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, file.file().file());
        let name = file.path().display().to_string();
        scanned.write_pipable(context, meter, &mut out, &name, options, report)
    })?;
    file.commit()?;
    Ok(report)
}

/// Captures the directory `source` into a pipable WIM that is written to `out` front to back, whatever the form in
/// `options`. Messages call it `name`.
pub fn capture_to_pipe(
    source: &Path,
    out: &mut dyn Write,
    name: &str,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    capture_sources_to_pipe(&[CaptureSource::root(source)], out, name, options, ctl, observer)
}

/// As [`capture_to_pipe`] for several directories and files that make up one image.
pub fn capture_sources_to_pipe(
    sources: &[CaptureSource],
    out: &mut dyn Write,
    name: &str,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, out);
    scan_and_write(sources, options, ctl, observer, |context, meter, scanned, report| {
        scanned.write_pipable(context, meter, &mut out, name, options, report)
    })
}

/// Scans the directories, lets `write` do the rest, and sums up.
fn scan_and_write(
    sources: &[CaptureSource],
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
    write: impl FnOnce(&Context<'_>, &Meter<'_>, &mut Scanned, &mut CaptureReport) -> Result<(), Error>,
) -> Result<CaptureReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    let mut scanned = Scanned::new(sources, options, &meter, ctl, Known::default())?;
    let mut report = CaptureReport::default();
    write(&context, &meter, &mut scanned, &mut report)?;
    report.take(meter.finish());
    Ok(report)
}

/// What gives the contents of the files that were read.
enum ScannedSource {
    Directory(DirectorySource),
    Volume(Box<NtfsSource>),
}

/// A directory or volume as it was read, and all that is known beside it.
struct Scanned {
    id: SourceId,
    tree: Tree,
    source: ScannedSource,
    /// Where contents lie that were taken over unread from an earlier image.
    earlier: Option<BlobReader>,
    known: Known,
    /// Files that were taken over unread.
    unread: u64,
}

impl Scanned {
    /// Reads the directories `sources`. `known` is what the file that is written holds already.
    fn new(
        sources: &[CaptureSource],
        options: &CaptureOptions,
        meter: &Meter<'_>,
        ctl: &Ctl,
        known: Known,
    ) -> Result<Self, Error> {
        let mut known = known;
        for base in &options.delta_from {
            base.wims().for_each(|(_, wim)| known.add_wim(wim));
        }
        let id = SourceId(u32::MAX);
        let scan = ScanOptions {
            latest_time: options.scan.latest_time.or(options.source_date_epoch),
            ..options.scan.clone()
        };
        let (mut tree, source) = scan_all(sources, id, &scan, meter, ctl)?;
        let mut unread = 0;
        let earlier = match &options.update_of {
            Some(earlier) => {
                let (found, blobs) = earlier.take_over(&mut tree, &known)?;
                unread = found;
                Some(blobs)
            }
            None => None,
        };
        Ok(Self { id, tree, source, earlier, known, unread })
    }

    /// Stores all contents and notes their hashes in the tree. Files that cannot be read are taken out of the tree.
    #[expect(
        clippy::too_many_arguments,
        reason = "two call sites; the arguments are what a capture consists of"
    )]
    fn store(
        &mut self,
        context: &Context<'_>,
        meter: &Meter<'_>,
        writer: &mut WimWriter<'_>,
        form: CaptureForm,
        level: Level,
        name: &str,
        report: &mut CaptureReport,
    ) -> Result<(), Error> {
        let mut list = contents(&self.tree);
        let reader = reader(self.id, &self.source, self.earlier.as_ref());
        if let ScannedSource::Volume(volume) = &self.source {
            // Front to back, as they lie on the volume.
            list.sort_by_cached_key(|content| match content.origin {
                Origin::Source { source, key } if source == self.id => volume.position(key),
                _ => 0,
            });
        }
        let hashes = if let CaptureForm::Solid(compression) = form {
            writer.allow_solid();
            let (known, settings) = (&self.known, (compression, level));
            let order = solid::sorted((0..list.len()).collect(), &solid::names(&self.tree, &list));
            let stored = solid::store(context, meter, &reader, &list, order, known, writer, settings, name)?;
            report.blobs = stored.encoded;
            stored.hashes
        } else {
            let settings = writer.compression().map(|compression| (compression, level));
            let (reuse, missing, placing) = (Reuse::Stored, Missing::Refuse, Placing::Single);
            let options = StoreOptions { settings, reuse, missing, placing, name };
            let stored = store(context, meter, &reader, &list, &mut self.known, writer, options)?;
            report.blobs = stored.encoded + stored.copied;
            stored.hashes
        };
        settle(&mut self.tree, &list, &hashes)?;
        report.stored_bytes = writer.len();
        report.unread_files = self.unread;
        count(&self.tree, report);
        Ok(())
    }

    /// What the XML document says of the image.
    fn info(&self, options: &CaptureOptions, meter: &Meter<'_>) -> Result<ImageInfo, Error> {
        let reader = reader(self.id, &self.source, self.earlier.as_ref());
        image_info(&self.tree, &reader, options, meter)
    }

    /// Writes the whole image for a pipe.
    fn write_pipable(
        &mut self,
        context: &Context<'_>,
        meter: &Meter<'_>,
        out: &mut dyn Write,
        name: &str,
        options: &CaptureOptions,
        report: &mut CaptureReport,
    ) -> Result<(), Error> {
        if let Some(base) = options.delta_from.first() {
            return Err(Error::Usage {
                what: "delta file for a pipe".to_owned(),
                expected: "an image that needs no other file".to_owned(),
                found: format!("contents of {} left out", base.name()),
            });
        }
        let reader = reader(self.id, &self.source, self.earlier.as_ref());
        report.unread_files = self.unread;
        pipable::write(context, meter, &reader, &mut self.tree, out, name, options, report)
    }
}

fn reader<'a>(id: SourceId, source: &'a ScannedSource, earlier: Option<&'a BlobReader>) -> Reader<'a> {
    let reader = Reader { archives: earlier, ..Reader::default() };
    match source {
        ScannedSource::Directory(directory) => Reader { directories: vec![(id, directory)], ..reader },
        ScannedSource::Volume(volume) => Reader { volume: Some((id, volume.as_ref())), ..reader },
    }
}

/// Whether a source that is the whole image is a volume: a partition or a file.
fn is_volume(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device())
}

/// A volume and its name for messages.
type NamedVolume = (Box<dyn ReadAt>, String);

/// The volume in a partition of a disk or disk file, and its name. `None` where the file or device is a volume itself.
fn volume_in_disk(path: &Path, number: Option<u32>) -> Result<Option<NamedVolume>, Error> {
    let kind = ImportKind::of(path)?;
    if number.is_none() && !matches!(kind, ImportKind::VirtualDisk(_)) {
        return Ok(None);
    }
    let disk = open_disk(path, kind)?;
    let (number, range) = find_partition(&disk, number, is_ntfs)?;
    let name = match number {
        Some(number) => format!("partition {number} of {}", path.display()),
        None => path.display().to_string(),
    };
    Ok(Some((Box::new(Window::new(disk, range.start, range.end - range.start)), name)))
}

/// One tree of all `sources`.
fn scan_all(
    sources: &[CaptureSource],
    id: SourceId,
    options: &ScanOptions,
    meter: &Meter<'_>,
    ctl: &Ctl,
) -> Result<(Tree, ScannedSource), Error> {
    if let [only] = sources
        && split_path(&only.target).next().is_none()
    {
        if is_volume(&only.path) {
            let options = without_paging_files(options);
            let (tree, volume) = match volume_in_disk(&only.path, only.partition)? {
                Some((volume, name)) => NtfsSource::scan_source(volume, name, id, &options, meter, ctl)?,
                None => NtfsSource::scan(&only.path, id, &options, meter, ctl)?,
            };
            return Ok((tree, ScannedSource::Volume(Box::new(volume))));
        }
        let (tree, directory) = DirectorySource::scan(&only.path, id, options, meter, ctl)?;
        return Ok((tree, ScannedSource::Directory(directory)));
    }
    let mut scanner = Scanner::new(id, options, meter, ctl);
    let mut tree = scanner.empty();
    for source in sources {
        let target: Vec<NtName> = split_path(&source.target).map(NtName::from).collect();
        scanner.add(&mut tree, &source.path, &target, Overlay::Replace)?;
    }
    Ok((tree, ScannedSource::Directory(scanner.finish())))
}

fn write(
    context: &Context<'_>,
    meter: &Meter<'_>,
    scanned: &mut Scanned,
    file: &OutputFile,
    options: &CaptureOptions,
    report: &mut CaptureReport,
) -> Result<(), Error> {
    let name = file.path().display().to_string();
    let failed = || Error::wim(&name);
    let write_options = WriteOptions {
        compression: options.compression,
        guid: Guid::default(),
        links_fixed: options.scan.symlinks == Symlinks::Rebase,
        allow_missing_blobs: !options.delta_from.is_empty(),
    };
    let mut writer = WimWriter::create(file.file(), &write_options).map_err(failed())?;
    scanned.store(context, meter, &mut writer, options.form, options.level, &name, report)?;
    let metadata = Metadata::from_tree(&scanned.tree).map_err(failed())?;
    let info = scanned.info(options, meter)?;
    let image = writer.add_image(&metadata, info, options.level).map_err(failed())?;
    if options.boot == Boot::Set {
        writer.set_boot_image(Some(image)).map_err(failed())?;
    }
    let tables = writer.write_tables().map_err(failed())?;
    let is_wanted = options.integrity == Integrity::Table;
    let written = integrity::complete(context, tables, &name, is_wanted, None)?;
    // The identity follows from the content, so it is known last; the header is not covered by any hash.
    let guid = guid(options, &metadata)?;
    file.file().write_all_at(GUID_OFFSET, &guid).map_err(Error::io("write", &name))?;
    file.truncate(written.size)?;
    report.file_bytes = written.size;
    Ok(())
}

impl CaptureReport {
    fn take(&mut self, totals: Totals) {
        self.warnings = totals.warnings;
        self.skipped = totals.skipped;
        self.milliseconds = totals.milliseconds;
    }
}

fn count(tree: &Tree, report: &mut CaptureReport) {
    for id in crate::uses::nodes(tree) {
        let node = tree.node(id);
        if node.is_directory() {
            report.directories += 1;
        } else {
            report.files += 1;
        }
        report.content_bytes =
            report.content_bytes.saturating_add(node.data.as_ref().map_or(0, |data| data.size));
    }
}

fn image_info(
    tree: &Tree,
    reader: &Reader<'_>,
    options: &CaptureOptions,
    meter: &Meter<'_>,
) -> Result<ImageInfo, Error> {
    let mut info = ImageInfo::new(&options.name);
    if let Some(description) = &options.description {
        info.set_text("DESCRIPTION", description.clone());
    }
    for (path, text) in &options.properties {
        set_property(&mut info, path, text)?;
    }
    info.set_counts(&image_counts(tree));
    let now = options.source_date_epoch.map_or_else(now, |seconds| FileTime::from_unix(seconds, 0));
    info.set_times(now, now);
    // Last: what somebody said of the image is not said otherwise.
    describe_windows(tree, reader, &mut info, meter);
    Ok(info)
}

/// The time of day.
pub(crate) fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// An identity for a new file.
pub(crate) fn random_guid() -> Result<[u8; 16], Error> {
    let mut guid = [0; 16];
    getrandom::fill(&mut guid).map_err(|error| Error::Other {
        what: "random GUID".to_owned(),
        source: error.to_string().into(),
        kind: crate::ErrorKind::Io,
    })?;
    mark_guid(&mut guid, 0x40);
    Ok(guid)
}

/// Version 4 or 8 and variant, as RFC 9562 has them; the third field is little-endian.
fn mark_guid(guid: &mut [u8; 16], version: u8) {
    guid[7] = (guid[7] & 0x0f) | version;
    guid[8] = (guid[8] & 0x3f) | 0x80;
}

/// Identity of the file: random, or, for reproducible captures, from everything that is in it.
fn guid(options: &CaptureOptions, metadata: &Metadata) -> Result<[u8; 16], Error> {
    let Some(epoch) = options.source_date_epoch else { return random_guid() };
    let mut guid = [0; 16];
    let mut hasher = blake3::Hasher::new_derive_key("gravure 2026 WIM GUID of a reproducible capture");
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&metadata.bytes);
    for text in [&options.name, options.description.as_ref().unwrap_or(&String::new())] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    guid.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    mark_guid(&mut guid, 0x80);
    Ok(guid)
}
