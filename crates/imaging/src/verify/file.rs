//! Every byte of a WIM file that means something: metadata of all images, every blob, the integrity table.

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_tree::Tree;

use crate::archive::Archive;
use crate::meter::{Context, Meter, default_threads};
use crate::reading::{self, OnDamage, ReadPlan};
use crate::{Error, ErrorKind, Image, ImageFile, damage, range_hash};

/// How a file is checked.
#[derive(Debug, Clone)]
pub struct VerifyFileOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Whether integrity tables are checked.
    pub tables: IntegrityTables,
}

/// Whether integrity tables are checked. Every blob has a hash of its own, so little is lost without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IntegrityTables {
    /// They are, where a file has one.
    #[default]
    Check,
    /// They are not.
    Skip,
}

impl Default for VerifyFileOptions {
    fn default() -> Self {
        Self { stage: "verify".to_owned(), threads: None, tables: IntegrityTables::default() }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug)]
pub struct Damage {
    /// What, where, expected, found; for a blob also the paths that use it.
    pub error: Error,
}

/// What was checked, and what was found.
#[derive(Debug, Default)]
pub struct FileReport {
    /// Blobs read and compared.
    pub blobs: u64,
    /// Plain bytes of them.
    pub bytes: u64,
    /// Images whose metadata is sound.
    pub images: u32,
    /// Whether the file has an integrity table.
    pub has_integrity: bool,
    /// What is wrong: blobs in archive order, images, chunks of the integrity table. At most 1000 of each.
    pub damage: Vec<Damage>,
    /// Content that images refer to and none of the opened files has.
    pub missing: Vec<String>,
    /// What was odd, in words.
    pub warnings: Vec<String>,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Checks `file` with all its parts. Damage is reported, not an error: an error means that the check could not be
/// carried out, or that something in the file cannot be read by this version.
pub fn verify_file(
    file: &ImageFile,
    options: &VerifyFileOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<FileReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    file.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
    let mut report = FileReport::default();
    images(file, &meter, &mut report)?;
    let parts = file.own_parts();
    let plan = ReadPlan::whole_archives(&parts)?;
    meter.expect(plan.total_bytes);
    let read = reading::run(&context, &meter, &parts, &plan, &reading::nowhere(), OnDamage::GoOn);
    let damaged = read.map_err(|error| damage::explain(error, &parts, None, &plan))?;
    report.blobs = plan.blobs.len() as u64;
    if !damaged.is_empty() {
        // Read once more rather than kept meanwhile: damage is rare, trees are large.
        let trees = file.wim().images().filter_map(|index| file.image(index).ok()).map(Image::into_tree);
        let users = damage::users(trees);
        for found in damaged {
            let mut error = damage::blob_error(&parts, None, &plan.blobs[found.blob], found.found);
            if let Error::BlobMismatch { paths, expected, .. } = &mut error {
                *paths = users.get(expected).cloned().unwrap_or_default();
            }
            report.damage.push(Damage { error });
        }
    }
    if options.tables == IntegrityTables::Check {
        for (_, archive) in parts.iter() {
            integrity(&context, archive, &mut report)?;
        }
    }
    let totals = meter.finish();
    report.bytes = totals.bytes;
    report.warnings = totals.warnings;
    report.milliseconds = totals.milliseconds;
    Ok(report)
}

/// Checks the integrity tables of all opened files, before anything else is done with them. Returns the names of files
/// that have none; damage is an error.
pub fn check_integrity(file: &ImageFile, ctl: &Ctl, observer: &dyn Observer) -> Result<Vec<String>, Error> {
    let context = Context { ctl, observer, threads: default_threads() };
    let mut without = Vec::new();
    for (_, archive) in file.archives().iter() {
        let mut report = FileReport::default();
        integrity(&context, archive, &mut report)?;
        if let Some(Damage { error }) = report.damage.into_iter().next() {
            return Err(error);
        }
        if !report.has_integrity {
            without.push(archive.name().to_owned());
        }
    }
    Ok(without)
}

/// Checks the trees of all images.
fn images(file: &ImageFile, meter: &Meter<'_>, report: &mut FileReport) -> Result<(), Error> {
    for index in file.wim().images() {
        match file.image(index) {
            Ok(image) => {
                image
                    .warnings()
                    .iter()
                    .for_each(|warning| meter.warn(|| format!("image {}: {warning}", index.number())));
                report.images += 1;
                report.missing.extend(missing(image.tree()));
            }
            Err(Error::Wim { path, source }) if damage::is_local(&source) => {
                let error = Error::Wim { path, source };
                if error.kind() == ErrorKind::Unsupported {
                    return Err(error);
                }
                report.damage.push(Damage { error });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Content of the tree that is in no opened file.
fn missing(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for step in tree.walk() {
        for (_, content) in crate::uses::parts(tree.node(step.entry.node)) {
            if let (gravure_tree::Origin::Missing, Some(sha1)) = (&content.origin, content.sha1) {
                found.push(format!("{}: blob {sha1}", step.display_path()));
            }
        }
    }
    found
}

fn integrity(context: &Context<'_>, archive: &Archive, report: &mut FileReport) -> Result<(), Error> {
    let table = match archive.wim().read_integrity(archive.source()) {
        Ok(None) => return Ok(()),
        Ok(Some(table)) => table,
        Err(source) => {
            let error = Error::wim(archive.name())(source);
            if !error.is_integrity() {
                return Err(error);
            }
            report.damage.push(Damage { error });
            return Ok(());
        }
    };
    report.has_integrity = true;
    let mut chunks = table.chunks();
    let mut ranges = table.chunks().map(|(range, _)| range);
    let mut mismatches = Vec::new();
    range_hash::hash_ranges(context, archive.source(), archive.name(), &mut ranges, |found| {
        if let Some((range, expected)) = chunks.next().filter(|(_, expected)| *expected != found) {
            mismatches.push(Error::Differs {
                path: format!("{} {:#x}..{:#x}", archive.name(), range.start, range.end),
                what: "SHA-1 in the integrity table",
                expected: expected.to_string(),
                found: found.to_string(),
                more: 0,
            });
        }
    })?;
    report.damage.extend(mismatches.into_iter().take(reading::MAX_FAILURES).map(|error| Damage { error }));
    Ok(())
}
