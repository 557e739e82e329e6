//! A file written anew without the gaps that deletions and appends leave, and if wanted compressed in another way.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::export::has_integrity;
use super::new_file::{Batch, Recipe, compression, form, write_new};
use super::{InPlace, RewriteOptions, RewriteReport};
use crate::Error;
use crate::capture::Missing;
use crate::meter::Meter;

/// Writes `path` anew; it stays as it is until the new file is complete and was read back. Identity, images and XML
/// document are kept; blobs that no image uses go.
pub fn optimize(
    path: &Path,
    options: &RewriteOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let context = options.context(ctl, observer);
    let meter = Meter::start(&context, &options.stage);
    let old = InPlace::open(path, options.unfinished, &options.limits)?;
    let wim = old.file().wim();
    let recipe = Recipe {
        heir_of: Some(wim),
        compression: compression(options, wim),
        batches: vec![Batch::of(old.file(), wim.images())],
        boot: wim.boot_image(),
        missing: Missing::Keep,
        had_integrity: has_integrity(wim),
        form: form(options, wim, true),
    };
    let mut report = write_new(&context, &meter, path, &recipe, options)?;
    report.take(meter);
    Ok(report)
}
