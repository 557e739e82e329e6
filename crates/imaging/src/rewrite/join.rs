//! The parts of a split image put together again (wim-container section 9).

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::export::has_integrity;
use super::new_file::{Batch, Recipe, compression, form, write_new};
use super::{RewriteOptions, RewriteReport};
use crate::capture::Missing;
use crate::meter::Meter;
use crate::{Error, ImageFile};

/// Joins `set`, all parts of one file ([`ImageFile::from_parts`]), into the file `output`.
pub fn join(
    set: &ImageFile,
    output: &Path,
    options: &RewriteOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let context = options.context(ctl, observer);
    let meter = Meter::start(&context, &options.stage);
    let place = |path: &Path| path.canonicalize().ok();
    let (target, own) = (place(output), set.own_parts());
    if own.iter().any(|(_, part)| target.is_some() && place(Path::new(part.name())) == target) {
        return Err(Error::Refused {
            what: format!("writing {}", output.display()),
            why: "it is one of the parts".to_owned(),
        });
    }
    let wim = set.wim();
    let recipe = Recipe {
        heir_of: Some(wim),
        compression: compression(options, wim),
        batches: vec![Batch::of(set, wim.images())],
        boot: None,
        missing: Missing::Keep,
        had_integrity: has_integrity(wim),
        form: form(options, wim, false),
    };
    let mut report = write_new(&context, &meter, output, &recipe, options)?;
    report.take(meter);
    Ok(report)
}
