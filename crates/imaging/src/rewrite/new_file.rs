//! A WIM that is put together of images of other ones: stored bytes are copied where the format lets them be, the rest is
//! decoded and encoded on all cores. The file gets its name when it is complete and was read back.

use std::collections::HashSet;
use std::path::Path;

use gravure_nttypes::Guid;
use gravure_tree::{Sha1Hash, SourceId};
use gravure_wim::{
    Compression, HeaderFlags, ImageIndex, ImageInfo, Layout, Metadata, Resource, Wim, WimWriter,
    WriteOptions, references,
};

use super::read_back::cache_bytes;
use super::{
    CompressionChange, FormChange, ReadBack, Recompress, RewriteOptions, RewriteReport, pipable, read_back,
};
use crate::blob_reader::BlobReader;
use crate::capture::{
    self, CaptureForm, Content, Known, Missing, Placing, Reader, Reuse, StoreOptions, contents, names, store,
};
use crate::meter::{Context, Meter};
use crate::output_file::OutputFile;
use crate::{Error, ImageFile, integrity};

/// Images of one file, in the order in which they are added.
pub(super) struct Batch<'a> {
    pub(super) file: &'a ImageFile,
    /// Each with what the XML document is to say of it.
    pub(super) images: Vec<(ImageIndex, ImageInfo)>,
}

impl<'a> Batch<'a> {
    /// Images as they are.
    pub(super) fn of(file: &'a ImageFile, images: impl Iterator<Item = ImageIndex>) -> Self {
        let info = |image: ImageIndex| file.wim().info().image(image.index()).unwrap_or_default();
        Self { file, images: images.map(|image| (image, info(image))).collect() }
    }
}

/// What a new file is made of.
pub(super) struct Recipe<'a> {
    /// The file whose document, link flag and identity it takes over.
    pub(super) heir_of: Option<&'a Wim>,
    pub(super) compression: Option<Compression>,
    pub(super) batches: Vec<Batch<'a>>,
    /// The bootable one, counted over all batches.
    pub(super) boot: Option<ImageIndex>,
    pub(super) missing: Missing,
    /// Whether what it is made of has an integrity table.
    pub(super) had_integrity: bool,
    pub(super) form: CaptureForm,
}

impl Recipe<'_> {
    /// What the writer of the file is told.
    pub(super) fn write_options(&self, guid: Guid) -> WriteOptions {
        let was_fixed =
            |batch: &Batch<'_>| batch.file.wim().header().flags.contains(HeaderFlags::LINKS_FIXED);
        WriteOptions {
            compression: self.compression,
            guid,
            // A file that takes the place of another has what that says.
            links_fixed: self.heir_of.is_none() && self.batches.iter().any(was_fixed),
            allow_missing_blobs: self.missing == Missing::Keep,
        }
    }
}

/// Method and chunk size of a file made of `wim`.
pub(super) fn compression(options: &RewriteOptions, wim: &Wim) -> Option<Compression> {
    match options.compression {
        CompressionChange::Keep => wim.header().compression,
        CompressionChange::To(compression) => compression,
    }
}

/// How contents of a file made of `wim` are laid out; `takes_place` says that it is to be put in its place.
pub(super) fn form(options: &RewriteOptions, wim: &Wim, takes_place: bool) -> CaptureForm {
    match options.form {
        FormChange::To(form) => form,
        FormChange::Keep if takes_place && wim.header().layout == Layout::Pipable => CaptureForm::Pipable,
        FormChange::Keep if options.compression == CompressionChange::Keep => {
            solid_of(wim).map_or(CaptureForm::Normal, CaptureForm::Solid)
        }
        FormChange::Keep => CaptureForm::Normal,
    }
}

/// Method and chunk size of the first solid resource.
fn solid_of(wim: &Wim) -> Option<Compression> {
    wim.resources().iter().find_map(Resource::solid_compression)
}

/// Writes the file `output`; what is there stays until the new one is complete.
pub(super) fn write_new(
    context: &Context<'_>,
    meter: &Meter<'_>,
    output: &Path,
    recipe: &Recipe<'_>,
    options: &RewriteOptions,
) -> Result<RewriteReport, Error> {
    let old_file_bytes = std::fs::metadata(output).ok().map(|old| old.len());
    let out = OutputFile::create(output)?;
    let report = fill(context, meter, &out, recipe, options)?;
    out.take_after_old()?;
    out.commit()?;
    Ok(RewriteReport { old_file_bytes, ..report })
}

/// Writes the whole file to `out`, which does not get its name yet.
pub(super) fn fill(
    context: &Context<'_>,
    meter: &Meter<'_>,
    out: &OutputFile,
    recipe: &Recipe<'_>,
    options: &RewriteOptions,
) -> Result<RewriteReport, Error> {
    let name = out.path().display().to_string();
    let guid = match recipe.heir_of {
        Some(wim) => wim.header().guid,
        None => Guid(capture::random_guid()?),
    };
    let write_options = recipe.write_options(guid);
    if recipe.form == CaptureForm::Pipable {
        return pipable::write_file(context, meter, out, recipe, &write_options, options);
    }
    let mut writer = WimWriter::create(out.file(), &write_options).map_err(Error::wim(&name))?;
    if let Some(wim) = recipe.heir_of {
        writer.adopt(wim).map_err(Error::wim(&name))?;
    }
    let mut report = RewriteReport::default();
    let mut known = Known::default();
    for batch in &recipe.batches {
        add_batch(
            context,
            meter,
            batch,
            recipe.missing,
            recipe.form,
            &mut known,
            &mut writer,
            options,
            &name,
            &mut report,
        )?;
    }
    writer.set_boot_image(recipe.boot).map_err(Error::wim(&name))?;
    report.images = writer.image_count();
    let tables = writer.write_tables().map_err(Error::wim(&name))?;
    let is_wanted = options.integrity.is_wanted(recipe.had_integrity);
    let written = integrity::complete(context, tables, &name, is_wanted, None)?;
    out.truncate(written.size)?;
    report.file_bytes = written.size;
    if options.read_back == ReadBack::Full {
        read_back::check(context, meter, out.temporary(), |_| true)?;
    }
    Ok(report)
}

/// Adds the images of `batch` with all their content to a file, new or old.
#[expect(clippy::too_many_arguments, reason = "what a batch consists of, where it goes, and how")]
pub(super) fn add_batch(
    context: &Context<'_>,
    meter: &Meter<'_>,
    batch: &Batch<'_>,
    missing: Missing,
    form: CaptureForm,
    known: &mut Known,
    writer: &mut WimWriter<'_>,
    options: &RewriteOptions,
    name: &str,
    report: &mut RewriteReport,
) -> Result<(), Error> {
    let file = batch.file;
    let images: Vec<ImageIndex> = batch.images.iter().map(|(image, _)| *image).collect();
    let gathered = gather(file, &images, meter)?;
    let blobs = BlobReader::new(file.archives().clone(), cache_bytes(file.archives(), context.threads));
    let takes_stored = options.recompress == Recompress::WhereNeeded;
    let reader = Reader { archives: Some(&blobs), takes_stored, ..Reader::default() };
    let settings = writer.compression().map(|compression| (compression, options.level));
    let reuse = match (options.recompress, options.form) {
        (Recompress::Everything, _) => Reuse::Nothing,
        (Recompress::WhereNeeded, FormChange::Keep) => Reuse::Stored,
        (Recompress::WhereNeeded, FormChange::To(CaptureForm::Solid(wanted))) => Reuse::Solid(wanted),
        (Recompress::WhereNeeded, FormChange::To(_)) => Reuse::Single,
    };
    let placing = match form {
        CaptureForm::Solid(compression) => Placing::Solid(compression, options.level, &gathered.names),
        _ => Placing::Single,
    };
    let store_options = StoreOptions { settings, reuse, missing, placing, name };
    let stored = store(context, meter, &reader, &gathered.contents, known, writer, store_options)?;
    report.copied_blobs += stored.copied;
    report.encoded_blobs += stored.encoded;
    let limits = file.archives().get(0).limits();
    for ((image, info), references) in batch.images.iter().zip(&gathered.references) {
        context.ctl.check()?;
        let added = if options.recompress == Recompress::Everything {
            let bytes = file.wim().read_metadata(file.source(), *image, limits);
            let bytes = bytes.map_err(Error::wim(file.name()))?;
            let metadata = Metadata { bytes, references: references.clone() };
            writer.add_image(&metadata, info.clone(), options.level)
        } else {
            writer.copy_image(file.source(), file.wim(), *image, references, info.clone(), limits)
        };
        added.map_err(Error::wim(format!("{name}, image {} of {}", image.number(), file.name())))?;
    }
    Ok(())
}

/// What images refer to.
pub(super) struct Gathered {
    /// Every content once.
    pub(super) contents: Vec<Content>,
    /// What each is called by the first that uses it.
    pub(super) names: Vec<String>,
    /// For each image, its references.
    pub(super) references: Vec<Vec<(Sha1Hash, u32)>>,
}

/// Reads the trees of `images` one after the other; only what is needed of them is kept.
pub(super) fn gather(file: &ImageFile, images: &[ImageIndex], meter: &Meter<'_>) -> Result<Gathered, Error> {
    let mut gathered = Gathered { contents: Vec::new(), names: Vec::new(), references: Vec::new() };
    let mut seen: HashSet<Sha1Hash> = HashSet::new();
    for index in images {
        let image = file.image(*index)?;
        for warning in image.warnings() {
            meter.warn(|| format!("{}, image {}: {warning}", file.name(), index.number()));
        }
        let list = contents(image.tree());
        let names = names(image.tree(), &list);
        for (content, name) in list.into_iter().zip(names) {
            let is_new = content.sha1.is_none_or(|sha1| seen.insert(sha1));
            if is_new {
                gathered.contents.push(Content { uses: Vec::new(), ..content });
                gathered.names.push(name);
            }
        }
        gathered.references.push(references(image.tree()));
    }
    Ok(gathered)
}

/// References of `images` of `file` in all, for a file whose counts are made anew.
pub(super) fn all_references(
    file: &ImageFile,
    images: impl Iterator<Item = ImageIndex>,
) -> Result<Vec<(Sha1Hash, u32)>, Error> {
    let mut all = Vec::new();
    for index in images {
        all.extend(references(file.image(index)?.tree()));
    }
    Ok(all)
}

/// The number under which a directory's contents go in a tree whose other contents are in archives.
pub(super) fn directory_id(number: usize) -> SourceId {
    SourceId(u32::MAX - u32::try_from(number).unwrap_or(0))
}
