//! A directory captured into a file that has images already.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_wim::{Metadata, WimWriter};

use super::{CaptureForm, CaptureOptions, CaptureReport, CaptureSource, Known, Scanned};
use crate::Error;
use crate::meter::{Context, Meter, default_threads};
use crate::rewrite::{Boot, InPlace, RewriteOptions};

/// How a directory is appended.
#[derive(Debug, Clone, Default)]
pub struct AppendOptions {
    /// How it is captured. Method and chunk size are those of the file, its integrity table is kept.
    pub capture: CaptureOptions,
    /// How the file is changed. Stage, threads and effort are those of the capture.
    pub rewrite: RewriteOptions,
}

/// Captures the directory `source` as a new image of the WIM `output`, behind its others. Contents that the file has are
/// not stored again. The old file stays valid until the last write.
pub fn append_directory(
    source: &Path,
    output: &Path,
    options: &AppendOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    append(&[CaptureSource::root(source)], output, options, ctl, observer)
}

/// As [`append_directory`] for several directories and files that make up one image.
pub fn append(
    sources: &[CaptureSource],
    output: &Path,
    options: &AppendOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<CaptureReport, Error> {
    let capture = &options.capture;
    let context = Context { ctl, observer, threads: capture.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &capture.stage);
    let old = InPlace::open(output, options.rewrite.unfinished, &options.rewrite.limits)?;
    let taken = old.file().wim().info().images().any(|image| image.name().as_deref() == Some(&capture.name));
    if taken && !capture.name.is_empty() {
        return Err(Error::Usage {
            what: "name of the image".to_owned(),
            expected: format!("one that no image of {} has", output.display()),
            found: format!("{:?}", capture.name),
        });
    }
    let mut known = Known::default();
    known.add_wim(old.file().wim());
    let mut scanned = Scanned::new(sources, capture, &meter, ctl, known)?;
    let mut report = CaptureReport::default();
    let name = old.name();
    let changed = old.change(&context, &meter, &options.rewrite, |writer| {
        add(&context, &meter, &mut scanned, writer, options, &name, &mut report)
    })?;
    report.file_bytes = changed.file_bytes;
    report.take(meter.finish());
    Ok(report)
}

/// Adds the image to `writer`.
fn add(
    context: &Context<'_>,
    meter: &Meter<'_>,
    scanned: &mut Scanned,
    writer: &mut WimWriter<'_>,
    options: &AppendOptions,
    name: &str,
    report: &mut CaptureReport,
) -> Result<(), Error> {
    let capture = &options.capture;
    if !capture.delta_from.is_empty() {
        writer.allow_missing_blobs();
    }
    scanned.store(context, meter, writer, CaptureForm::Normal, capture.level, name, report)?;
    let failed = || Error::wim(name);
    let metadata = Metadata::from_tree(&scanned.tree).map_err(failed())?;
    let info = scanned.info(capture, meter)?;
    let image = writer.add_image(&metadata, info, capture.level).map_err(failed())?;
    match capture.boot {
        Boot::Leave => Ok(()),
        Boot::Set => writer.set_boot_image(Some(image)).map_err(failed()),
        Boot::Clear => writer.set_boot_image(None).map_err(failed()),
    }
}
