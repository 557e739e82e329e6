//! Images from one file into another, which is made or appended to.

use std::io::{BufWriter, Write};
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::Guid;
use gravure_wim::{ImageIndex, ImageInfo, Wim};

use super::in_place::known;
use super::new_file::{Batch, Recipe, add_batch, compression, form, write_new};
use super::{CompressionChange, FormChange, InPlace, RewriteOptions, RewriteReport, pipable};
use crate::capture::{CaptureForm, Missing, OUT_BUFFER_BYTES, random_guid};
use crate::meter::{Context, Meter};
use crate::{Error, ImageFile};

/// Which images are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// One.
    One(ImageIndex),
    /// All.
    All,
}

/// What happens with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// Images are added to it where it is.
    #[default]
    Append,
    /// It is written anew with the added images, which closes its gaps.
    Rebuild,
}

/// How images are exported.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// What all changes have in common.
    pub rewrite: RewriteOptions,
    /// Another name for the image; only for a single one.
    pub name: Option<String>,
    /// Another description; only for a single one.
    pub description: Option<String>,
    /// Whether the exported image becomes the bootable one; of all images, the one that is bootable in the source.
    pub boot: Boot,
    /// What happens with a file that is there already.
    pub target: Target,
}

/// Whether an image becomes the bootable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boot {
    /// The mark stays where it is.
    #[default]
    Leave,
    /// It does.
    Set,
    /// No image is bootable any more.
    Clear,
}

/// Exports `selection` of `source` to the file `output`.
pub fn export(
    source: &ImageFile,
    selection: Selection,
    output: &Path,
    options: &ExportOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let rewrite = &options.rewrite;
    let context = rewrite.context(ctl, observer);
    let meter = Meter::start(&context, &rewrite.stage);
    let batch = batch(source, selection, options)?;
    let mut report = if output.exists() {
        let old = InPlace::open(output, rewrite.unfinished, &rewrite.limits)?;
        check_names(old.file().wim(), &batch, output)?;
        match options.target {
            Target::Append => append(&context, &meter, &old, &batch, options)?,
            Target::Rebuild => {
                let images = old.file().wim().images();
                let old_count = old.file().image_count();
                let recipe = Recipe {
                    heir_of: Some(old.file().wim()),
                    compression: compression(rewrite, old.file().wim()),
                    boot: boot(source, selection, options, old_count, old.file().wim().boot_image()),
                    batches: vec![Batch::of(old.file(), images), batch],
                    missing: Missing::Keep,
                    had_integrity: has_integrity(old.file().wim()),
                    form: form(rewrite, old.file().wim(), true),
                };
                write_new(&context, &meter, output, &recipe, rewrite)?
            }
        }
    } else {
        write_new(&context, &meter, output, &recipe(source, selection, batch, options), rewrite)?
    };
    report.take(meter);
    Ok(report)
}

/// Exports `selection` of `source` as a pipable file to `out`, front to back. Messages call it `name`. What was written is
/// not read back: whoever reads it checks it.
pub fn export_to_pipe(
    source: &ImageFile,
    selection: Selection,
    out: &mut dyn Write,
    name: &str,
    options: &ExportOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let rewrite = &options.rewrite;
    let context = rewrite.context(ctl, observer);
    let meter = Meter::start(&context, &rewrite.stage);
    let recipe = recipe(source, selection, batch(source, selection, options)?, options);
    let write_options = recipe.write_options(Guid(random_guid()?));
    let mut out = BufWriter::with_capacity(OUT_BUFFER_BYTES, out);
    let mut report = pipable::write(&context, &meter, &mut out, name, &recipe, &write_options, rewrite)?;
    report.take(meter);
    Ok(report)
}

/// What a file of its own is made of.
fn recipe<'a>(
    source: &'a ImageFile,
    selection: Selection,
    batch: Batch<'a>,
    options: &ExportOptions,
) -> Recipe<'a> {
    let wim = source.wim();
    Recipe {
        heir_of: None,
        compression: compression(&options.rewrite, wim),
        boot: boot(source, selection, options, 0, None),
        batches: vec![batch],
        missing: Missing::Refuse,
        had_integrity: has_integrity(wim),
        form: form(&options.rewrite, wim, false),
    }
}

fn append(
    context: &Context<'_>,
    meter: &Meter<'_>,
    old: &InPlace,
    batch: &Batch<'_>,
    options: &ExportOptions,
) -> Result<RewriteReport, Error> {
    let wim = old.file().wim();
    if let CompressionChange::To(wanted) = options.rewrite.compression
        && wanted != wim.header().compression
    {
        return Err(Error::Usage {
            what: format!("compression of {}", old.name()),
            expected: "that of the file, as it is appended to; rebuild it to change it".to_owned(),
            found: wanted.map_or_else(|| "none".to_owned(), |wanted| wanted.method().to_string()),
        });
    }
    let form = match options.rewrite.form {
        FormChange::Keep => CaptureForm::Normal,
        FormChange::To(CaptureForm::Pipable) => {
            return Err(Error::Usage {
                what: format!("layout of {}", old.name()),
                expected: "that of the file, as it is appended to; rebuild it to change it".to_owned(),
                found: "pipable".to_owned(),
            });
        }
        FormChange::To(form) => form,
    };
    let selection = match batch.images.as_slice() {
        [(one, _)] => Selection::One(*one),
        _ => Selection::All,
    };
    let mut report = RewriteReport::default();
    let name = old.name();
    let changed = old.change(context, meter, &options.rewrite, |writer| {
        let mut known = known(old.file());
        let (missing, rewrite) = (Missing::Refuse, &options.rewrite);
        add_batch(context, meter, batch, missing, form, &mut known, writer, rewrite, &name, &mut report)?;
        let mark = boot(batch.file, selection, options, old.file().image_count(), wim.boot_image());
        writer.set_boot_image(mark).map_err(Error::wim(&name))
    })?;
    report.apply(changed);
    Ok(report)
}

/// The images with the names they are to have.
fn batch<'a>(
    source: &'a ImageFile,
    selection: Selection,
    options: &ExportOptions,
) -> Result<Batch<'a>, Error> {
    let only_one = |what: &str| Error::Usage {
        what: what.to_owned(),
        expected: "a single image to be exported".to_owned(),
        found: "all".to_owned(),
    };
    match selection {
        Selection::One(image) => {
            let mut batch = Batch::of(source, std::iter::once(image));
            let not_found = || Error::NotFound { what: "image", which: image.number().to_string() };
            source.wim().metadata_resource(image).ok_or_else(not_found)?;
            for (_, info) in &mut batch.images {
                rename(info, options);
            }
            Ok(batch)
        }
        Selection::All if options.name.is_some() => Err(only_one("name")),
        Selection::All if options.description.is_some() => Err(only_one("description")),
        Selection::All => Ok(Batch::of(source, source.wim().images())),
    }
}

fn rename(info: &mut ImageInfo, options: &ExportOptions) {
    for (path, value) in [("NAME", &options.name), ("DESCRIPTION", &options.description)] {
        match value.as_deref() {
            Some("") => info.remove(path),
            Some(text) => info.set_text(path, text),
            None => {}
        }
    }
}

/// Windows tools select images by name, so no two have the same.
fn check_names(old: &Wim, batch: &Batch<'_>, output: &Path) -> Result<(), Error> {
    for (_, info) in &batch.images {
        let name = info.name().filter(|name| !name.is_empty());
        let taken = name.filter(|name| old.info().images().any(|known| known.name().as_ref() == Some(name)));
        if let Some(name) = taken {
            return Err(Error::Usage {
                what: "name of the image".to_owned(),
                expected: format!("one that no image of {} has", output.display()),
                found: format!("{name:?}"),
            });
        }
    }
    Ok(())
}

/// The bootable image of a file that has `before` images, of which `old` is bootable, and now gets more.
fn boot(
    source: &ImageFile,
    selection: Selection,
    options: &ExportOptions,
    before: u32,
    old: Option<ImageIndex>,
) -> Option<ImageIndex> {
    match (options.boot, selection) {
        (Boot::Leave, _) => old,
        (Boot::Clear, _) => None,
        (Boot::Set, Selection::One(_)) => ImageIndex::from_number(before.saturating_add(1)),
        (Boot::Set, Selection::All) => {
            let there = source.wim().boot_image()?;
            ImageIndex::from_number(before.saturating_add(there.number()))
        }
    }
}

/// Whether the file has an integrity table.
pub(super) fn has_integrity(wim: &Wim) -> bool {
    wim.header().integrity.size != 0
}
