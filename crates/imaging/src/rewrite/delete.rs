//! Images taken out of a file.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_wim::ImageIndex;

use super::export::has_integrity;
use super::new_file::{Batch, Recipe, all_references, compression, form, write_new};
use super::{InPlace, RewriteOptions, RewriteReport};
use crate::capture::Missing;
use crate::meter::Meter;
use crate::{Error, Which};

/// What becomes of the place that the image took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletion {
    /// The file is written anew without it.
    #[default]
    Rebuild,
    /// Only the tables are: quick, but the file gets no smaller.
    Soft,
}

/// Takes the image `which` out of the file `path`. The images behind it move up, and so does the boot mark.
pub fn delete(
    path: &Path,
    which: &Which,
    deletion: Deletion,
    options: &RewriteOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let context = options.context(ctl, observer);
    let meter = Meter::start(&context, &options.stage);
    let old = InPlace::open(path, options.unfinished, &options.limits)?;
    let gone = old.file().find(which)?;
    let wim = old.file().wim();
    let left = || wim.images().filter(move |image| *image != gone);
    let mut report = match deletion {
        Deletion::Rebuild => {
            let boot = wim.boot_image().filter(|image| *image != gone).and_then(|image| {
                ImageIndex::from_number(image.number() - u32::from(image.number() > gone.number()))
            });
            let recipe = Recipe {
                heir_of: Some(wim),
                compression: compression(options, wim),
                batches: vec![Batch::of(old.file(), left())],
                boot,
                missing: Missing::Keep,
                had_integrity: has_integrity(wim),
                form: form(options, wim, true),
            };
            write_new(&context, &meter, path, &recipe, options)?
        }
        Deletion::Soft => {
            let references = all_references(old.file(), left())?;
            let name = old.name();
            let changed = old.change(&context, &meter, options, |writer| {
                writer.remove_image(gone).map_err(Error::wim(&name))?;
                writer.set_references(&references);
                Ok(())
            })?;
            let mut report = RewriteReport::default();
            report.apply(changed);
            report
        }
    };
    report.take(meter);
    Ok(report)
}
