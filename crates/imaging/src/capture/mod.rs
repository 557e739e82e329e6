//! Capturing a directory into a WIM: scan, hash, find equal contents, compress on all cores, write in order.
//!
//! The bytes of the file depend on the directory and the options alone: not on the number of threads, and with
//! `source_date_epoch` not on the time of day either.

mod contents;
mod encode;
mod hash;
mod pipable;
mod solid;
mod write;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_codec::Level;
use gravure_io::WriteAt;
use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::{FileTime, Guid};
use gravure_tree::{SourceId, Tree};
use gravure_wim::{
    Compression, INTEGRITY_CHUNK_BYTES, ImageInfo, IntegrityTable, Metadata, WimWriter, WriteOptions,
    image_counts,
};

pub(crate) use contents::{Content, Reader};
pub(crate) use hash::hash_all;

use crate::directory::{DirectorySource, ScanOptions};
use crate::meter::{Context, Meter, default_threads};
use crate::output_file::OutputFile;
use crate::{Error, range_hash};

/// Where the GUID stands in a WIM header (wim-container section 2).
const GUID_OFFSET: u64 = 0x18;
/// Bytes gathered before a pipe is written to.
const OUT_BUFFER_BYTES: usize = 1 << 20;

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
    /// Whether the file gets an integrity table.
    pub integrity: Integrity,
    /// How the directory is read.
    pub scan: ScanOptions,
    /// Unix time that stands for now and that no file's time may exceed: two captures of equal directories are then
    /// equal, byte for byte.
    pub source_date_epoch: Option<i64>,
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
            level: Level::Fast,
            name: String::new(),
            description: None,
            integrity: Integrity::default(),
            scan: ScanOptions::default(),
            source_date_epoch: None,
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
    /// Contents stored, each once.
    pub blobs: u64,
    /// Bytes they take, before the tables.
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

/// Captures the directory `source` into the new WIM `output`. A file of that name is replaced, when the new one is
/// complete.
pub fn capture_directory(
    source: &Path,
    output: &Path,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    // First, so that a place that cannot be written is found before anything is read.
    let file = OutputFile::create(output)?;
    let report = capture(source, options, ctl, observer, |context, meter, reader, tree, report| {
        if options.form != CaptureForm::Pipable {
            return write(context, meter, reader, tree, &file, options, report);
        }
        let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, file.file().file());
        let name = file.path().display().to_string();
        pipable::write(context, meter, reader, tree, &mut out, &name, options, report)
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
    let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, out);
    capture(source, options, ctl, observer, |context, meter, reader, tree, report| {
        pipable::write(context, meter, reader, tree, &mut out, name, options, report)
    })
}

/// Scans the directory, lets `write` do the rest, and sums up.
fn capture(
    source: &Path,
    options: &CaptureOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
    write: impl FnOnce(&Context<'_>, &Meter<'_>, &Reader<'_>, &mut Tree, &mut CaptureReport) -> Result<(), Error>,
) -> Result<CaptureReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    let id = SourceId(0);
    let scan = ScanOptions {
        latest_time: options.scan.latest_time.or(options.source_date_epoch),
        ..options.scan.clone()
    };
    let (mut tree, directory) = DirectorySource::scan(source, id, &scan, &meter, ctl)?;
    let reader = Reader { id, directory: &directory, is_fresh: false };
    let mut report = CaptureReport::default();
    write(&context, &meter, &reader, &mut tree, &mut report)?;
    let totals = meter.finish();
    report.warnings = totals.warnings;
    report.skipped = totals.skipped;
    report.milliseconds = totals.milliseconds;
    Ok(report)
}

fn write(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    tree: &mut Tree,
    file: &OutputFile,
    options: &CaptureOptions,
    report: &mut CaptureReport,
) -> Result<(), Error> {
    let name = file.path().display().to_string();
    let failed = || Error::wim(&name);
    let write_options = WriteOptions {
        compression: options.compression,
        guid: Guid::default(),
        links_fixed: false,
        allow_missing_blobs: false,
    };
    let mut writer = WimWriter::create(file.file(), &write_options).map_err(failed())?;
    match options.form {
        CaptureForm::Solid(compression) => {
            let settings = (compression, options.level);
            solid::contents(context, meter, reader, tree, &mut writer, settings, &name, report)?;
        }
        _ => {
            let settings = options.compression.map(|compression| (compression, options.level));
            write::contents(context, meter, reader, tree, &mut writer, settings, &name, report)?;
        }
    }
    report.stored_bytes = writer.len();
    count(tree, report);
    let metadata = Metadata::from_tree(tree).map_err(failed())?;
    writer.add_image(&metadata, image_info(tree, options), options.level).map_err(failed())?;
    let tables = writer.write_tables().map_err(failed())?;
    let written = match options.integrity {
        Integrity::Without => tables.complete(None),
        Integrity::Table => {
            let mut hashes = Vec::new();
            let mut ranges = IntegrityTable::ranges(tables.covered(), INTEGRITY_CHUNK_BYTES);
            range_hash::hash_ranges(context, file.file(), &name, &mut ranges, |hash| hashes.push(hash))?;
            let table =
                IntegrityTable::new(tables.covered(), INTEGRITY_CHUNK_BYTES, hashes).map_err(failed())?;
            tables.complete(Some(&table))
        }
    }
    .map_err(failed())?;
    // The identity follows from the content, so it is known last; the header is not covered by any hash.
    let guid = guid(options, &metadata)?;
    file.file().write_all_at(GUID_OFFSET, &guid).map_err(Error::io("write", &name))?;
    file.truncate(written.size)?;
    report.file_bytes = written.size;
    Ok(())
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

fn image_info(tree: &Tree, options: &CaptureOptions) -> ImageInfo {
    let mut info = ImageInfo::new(&options.name);
    if let Some(description) = &options.description {
        info.set_text("DESCRIPTION", description.clone());
    }
    info.set_counts(&image_counts(tree));
    let now = match options.source_date_epoch {
        Some(seconds) => FileTime::from_unix(seconds, 0),
        None => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
        }
    };
    info.set_times(now, now);
    info
}

/// Identity of the file: random, or, for reproducible captures, from everything that is in it.
fn guid(options: &CaptureOptions, metadata: &Metadata) -> Result<[u8; 16], Error> {
    let mut guid = [0; 16];
    if let Some(epoch) = options.source_date_epoch {
        let mut hasher = blake3::Hasher::new_derive_key("gravure 2026 WIM GUID of a reproducible capture");
        hasher.update(&epoch.to_le_bytes());
        hasher.update(&metadata.bytes);
        for text in [&options.name, options.description.as_ref().unwrap_or(&String::new())] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        guid.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    } else {
        getrandom::fill(&mut guid).map_err(|error| Error::Other {
            what: "random GUID".to_owned(),
            source: error.to_string().into(),
            kind: crate::ErrorKind::Io,
        })?;
    }
    // Version 4 or 8 and variant, as RFC 9562 has them; the third field is little-endian.
    let version = if options.source_date_epoch.is_some() { 0x80 } else { 0x40 };
    guid[7] = (guid[7] & 0x0f) | version;
    guid[8] = (guid[8] & 0x3f) | 0x80;
    Ok(guid)
}
