//! An image changed where it is: what the XML document says of it, whether it is bootable, and its tree.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_wim::{ImageIndex, ImageInfo, Metadata, Wim, WimWriter, image_counts, references, split_step};

use super::export::Boot;
use super::in_place::known;
use super::new_file::all_references;
use super::read_back::cache_bytes;
use super::tree_edit::{ImageRules, TreeEdit};
use super::{InPlace, Recompress, RewriteOptions, RewriteReport, Target, TreeChange, optimize};
use crate::blob_reader::BlobReader;
use crate::capture::{
    Missing, Placing, Reader, Reuse, StoreOptions, contents, describe_windows, now, settle, store,
};
use crate::meter::{Context, Meter};
use crate::{Error, ImageFile, Which};

/// How an image is changed.
#[derive(Debug, Clone, Default)]
pub struct EditOptions {
    /// What all changes have in common.
    pub rewrite: RewriteOptions,
    /// What the XML document is to say of the image, in this order.
    pub info: Vec<InfoChange>,
    /// Whether the image becomes the bootable one.
    pub boot: Boot,
    /// What is to change in its tree, in this order.
    pub tree: Vec<TreeChange>,
    /// How paths of these changes are understood.
    pub rules: ImageRules,
    /// Whether the file is written anew afterwards, which closes the gaps that changes leave.
    pub target: Target,
}

/// A change to what the XML document says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfoChange {
    /// The element at the path below `IMAGE`, e.g. `NAME`, `WINDOWS/EDITIONID` or `A/B[2]`, gets this text.
    Set(String, String),
    /// The element goes.
    Remove(String),
}

/// Changes the image `which` of the file `path`. Everything else that the file holds stays, byte for byte.
pub fn edit(
    path: &Path,
    which: &Which,
    options: &EditOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<RewriteReport, Error> {
    let rewrite = &options.rewrite;
    let context = rewrite.context(ctl, observer);
    let meter = Meter::start(&context, &rewrite.stage);
    let old = InPlace::open(path, rewrite.unfinished, &rewrite.limits)?;
    let image = old.file().find(which)?;
    let mut info = old.file().wim().info().image(image.index()).unwrap_or_default();
    for change in &options.info {
        change_info(&mut info, change, old.file().wim(), image)?;
    }
    let mut report = RewriteReport::default();
    let name = old.name();
    let changed = old.change(&context, &meter, rewrite, |writer| {
        if options.tree.is_empty() {
            writer.set_image_info(image, info.clone()).map_err(Error::wim(&name))?;
        } else {
            let job = Job { context: &context, meter: &meter, file: old.file(), image, options, name: &name };
            job.tree(writer, info.clone(), &mut report)?;
        }
        let mark = match options.boot {
            Boot::Leave => return Ok(()),
            Boot::Set => Some(image),
            Boot::Clear if old.file().wim().boot_image() != Some(image) => return Ok(()),
            Boot::Clear => None,
        };
        writer.set_boot_image(mark).map_err(Error::wim(&name))
    })?;
    report.apply(changed);
    drop(old);
    if options.target == Target::Rebuild {
        let rebuilt = optimize(path, rewrite, ctl, observer)?;
        report.file_bytes = rebuilt.file_bytes;
    }
    report.take(meter);
    Ok(report)
}

fn change_info(info: &mut ImageInfo, change: &InfoChange, wim: &Wim, image: ImageIndex) -> Result<(), Error> {
    match change {
        InfoChange::Set(path, value) => {
            let mut others = wim.info().images().zip(wim.images()).filter(|(_, other)| *other != image);
            let is_name = matches!(path.as_str(), "NAME" | "NAME[1]") && !value.is_empty();
            if is_name && others.any(|(other, _)| other.name().as_ref() == Some(value)) {
                return Err(Error::Usage {
                    what: "name of the image".to_owned(),
                    expected: "one that no other image of the file has".to_owned(),
                    found: format!("{value:?}"),
                });
            }
            set_property(info, path, value)
        }
        InfoChange::Remove(path) => {
            check_property(info, path, false)?;
            info.remove(path);
            Ok(())
        }
    }
}

/// Sets the text of the element at a path that somebody wrote.
pub(crate) fn set_property(info: &mut ImageInfo, path: &str, value: &str) -> Result<(), Error> {
    check_property(info, path, true)?;
    info.set_text(path, value);
    Ok(())
}

/// Whether a path is one, and if it `is_set` leaves no gap: one element more than there are is made, not two.
fn check_property(info: &ImageInfo, path: &str, is_set: bool) -> Result<(), Error> {
    let wrong =
        |expected: String| Error::Usage { what: "property".to_owned(), expected, found: format!("{path:?}") };
    let is_name = |name: &str| {
        let rest = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(rest)
    };
    let mut at = Some(info.element());
    for step in path.split('/') {
        let (name, index) = split_step(step);
        if !is_name(name) {
            return Err(wrong(
                "names of XML elements, with [2] and so on for further ones, and / between".into(),
            ));
        }
        let count = at.map_or(0, |at| at.elements().filter(|element| element.name == name).count());
        if is_set && index > count {
            return Err(wrong(format!("{name}[{}] at most, as there are {count} so far", count + 1)));
        }
        at = at.and_then(|at| at.at(step));
    }
    Ok(())
}

/// A change of a tree.
struct Job<'a> {
    context: &'a Context<'a>,
    meter: &'a Meter<'a>,
    file: &'a ImageFile,
    image: ImageIndex,
    options: &'a EditOptions,
    name: &'a str,
}

impl Job<'_> {
    fn tree(
        &self,
        writer: &mut WimWriter<'_>,
        info: ImageInfo,
        report: &mut RewriteReport,
    ) -> Result<(), Error> {
        let image = self.file.image(self.image)?;
        image.warnings().iter().for_each(|warning| self.meter.warn(|| warning.clone()));
        let mut edit = TreeEdit::new(image.into_tree(), self.options.rules, self.meter, self.context.ctl);
        for change in &self.options.tree {
            edit.apply(change)?;
        }
        let TreeEdit { mut tree, directories, .. } = edit;
        let blobs = BlobReader::new(
            self.file.archives().clone(),
            cache_bytes(self.file.archives(), self.context.threads),
        );
        let reader = Reader {
            directories: directories.iter().map(|(id, directory)| (*id, directory)).collect(),
            archives: Some(&blobs),
            ..Reader::default()
        };
        let list = contents(&tree);
        let level = self.options.rewrite.level;
        let settings = writer.compression().map(|compression| (compression, level));
        let reuse = match self.options.rewrite.recompress {
            Recompress::WhereNeeded => Reuse::Stored,
            Recompress::Everything => Reuse::Nothing,
        };
        let options = StoreOptions {
            settings,
            reuse,
            missing: Missing::Keep,
            placing: Placing::Single,
            name: self.name,
        };
        let mut known = known(self.file);
        let stored = store(self.context, self.meter, &reader, &list, &mut known, writer, options)?;
        report.encoded_blobs += stored.encoded;
        report.copied_blobs += stored.copied;
        settle(&mut tree, &list, &stored.hashes)?;
        // An image of a delta file refers to content elsewhere, before as after.
        writer.allow_missing_blobs();
        let failed = || Error::wim(self.name);
        let metadata = Metadata::from_tree(&tree).map_err(failed())?;
        let mut info = info;
        info.set_counts(&image_counts(&tree));
        info.set_modified(now());
        describe_windows(&tree, &reader, &mut info, self.meter);
        writer.add_image(&metadata, info, level).map_err(failed())?;
        writer.replace_image_with_last(self.image).map_err(failed())?;
        let others = self.file.wim().images().filter(|other| *other != self.image);
        let mut all = all_references(self.file, others)?;
        all.extend(references(&tree));
        writer.set_references(&all);
        Ok(())
    }
}
