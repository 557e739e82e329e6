//! An image taken out of its file, changed in memory by whoever knows what is in it, and written as a file of its own.
//! Contents that stay keep their stored bytes where the new file's compression allows it.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::Guid;
use gravure_tree::{ContentRef, Origin, Sha1Hash, Tree};
use gravure_wim::{ImageIndex, ImageInfo, Metadata, WimWriter, WriteOptions, image_counts, references};
use sha1::{Digest, Sha1};

use super::new_file::{compression, form};
use super::read_back::{self, cache_bytes};
use super::tree_edit::TreeEdit;
use super::{FormChange, ImageRules, ReadBack, Recompress, RewriteOptions, RewriteReport, TreeChange};
use crate::archive::Archives;
use crate::blob_reader::{BlobHandles, BlobReader};
use crate::capture::{
    CaptureForm, Known, Missing, Placing, Reader, Reuse, StoreOptions, contents, describe_windows, names,
    now, random_guid, settle, store,
};
use crate::meter::{Meter, default_threads};
use crate::output_file::OutputFile;
use crate::{Error, ImageFile, integrity};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// An image that is to be changed.
#[derive(Debug)]
pub struct ServicedImage<'f> {
    file: &'f ImageFile,
    index: ImageIndex,
    /// The image's structure, to change as one likes.
    pub tree: Tree,
}

/// Gives the contents of an image's files.
#[derive(Debug)]
pub struct ContentReader {
    blobs: BlobReader,
}

impl ContentReader {
    pub(crate) fn new(archives: &Archives) -> Self {
        Self { blobs: BlobReader::new(archives.clone(), cache_bytes(archives, default_threads())) }
    }

    /// All bytes of a content, compared with its hash where that is known.
    pub fn read(&self, content: &ContentRef) -> Result<Vec<u8>, Error> {
        let (source, key) = match &content.origin {
            Origin::Empty => return Ok(Vec::new()),
            Origin::Inline(bytes) => return Ok(bytes.to_vec()),
            Origin::Source { source, key } => (*source, *key),
            _ => return Err(Error::NotFound { what: "content", which: shown(content.sha1) }),
        };
        let open = self.blobs.open(source, key)?;
        let mut handles = BlobHandles::default();
        let len = usize::try_from(open.size).map_err(|_| Error::Unsupported {
            what: "content in memory",
            value: format!("{} bytes", open.size),
        })?;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let start = bytes.len();
            let part = READ_BYTES.min(len - start);
            bytes.resize(start + part, 0);
            self.blobs.read(&open, start as u64, &mut bytes[start..], &mut handles)?;
        }
        let found = Sha1Hash(Sha1::digest(&bytes).into());
        if found != open.sha1 {
            return Err(self.blobs.mismatch(&open, found));
        }
        Ok(bytes)
    }
}

fn shown(sha1: Option<Sha1Hash>) -> String {
    sha1.map_or_else(|| "without a hash".to_owned(), |sha1| sha1.to_string())
}

impl<'f> ServicedImage<'f> {
    /// Takes image `index` out of `file`.
    pub fn open(file: &'f ImageFile, index: ImageIndex) -> Result<Self, Error> {
        let tree = file.image(index)?.into_tree();
        Ok(Self { file, index, tree })
    }

    /// What gives the contents of the tree.
    pub fn reader(&self) -> ContentReader {
        self.file.contents()
    }

    /// What the XML document says of the image.
    pub fn info(&self) -> ImageInfo {
        self.file.wim().info().image(self.index.index()).unwrap_or_default()
    }

    /// Writes the image as the only one of the file `output`, after `changes` were made to its tree. What is there stays
    /// until the new file is complete and was read back.
    pub fn write(
        self,
        output: &Path,
        changes: &[TreeChange],
        options: &RewriteOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<RewriteReport, Error> {
        let context = options.context(ctl, observer);
        let meter = Meter::start(&context, &options.stage);
        let wim = self.file.wim();
        let form = form(options, wim, false);
        if form == CaptureForm::Pipable {
            let value = output.display().to_string();
            return Err(Error::Unsupported { what: "a pipable file of a changed image", value });
        }
        let mut info = self.info();
        let mut edit = TreeEdit::new(self.tree, ImageRules::OfImage, &meter, ctl);
        changes.iter().try_for_each(|change| edit.apply(change))?;
        let TreeEdit { mut tree, directories, .. } = edit;

        let old_file_bytes = std::fs::metadata(output).ok().map(|old| old.len());
        let out = OutputFile::create(output)?;
        let name = output.display().to_string();
        let write_options = WriteOptions {
            compression: compression(options, wim),
            guid: Guid(random_guid()?),
            links_fixed: wim.header().flags.contains(gravure_wim::HeaderFlags::LINKS_FIXED),
            allow_missing_blobs: false,
        };
        let mut writer = WimWriter::create(out.file(), &write_options).map_err(Error::wim(&name))?;
        let archives = self.file.archives();
        let blobs = BlobReader::new(archives.clone(), cache_bytes(archives, context.threads));
        let reader = Reader {
            directories: directories.iter().map(|(id, directory)| (*id, directory)).collect(),
            archives: Some(&blobs),
            ..Reader::default()
        };
        let list = contents(&tree);
        let list_names = names(&tree, &list);
        let store_options = StoreOptions {
            settings: writer.compression().map(|compression| (compression, options.level)),
            reuse: match (options.recompress, options.form) {
                (Recompress::Everything, _) => Reuse::Nothing,
                (Recompress::WhereNeeded, FormChange::Keep) => Reuse::Stored,
                (Recompress::WhereNeeded, FormChange::To(CaptureForm::Solid(wanted))) => Reuse::Solid(wanted),
                (Recompress::WhereNeeded, FormChange::To(_)) => Reuse::Single,
            },
            missing: Missing::Refuse,
            placing: match form {
                CaptureForm::Solid(compression) => Placing::Solid(compression, options.level, &list_names),
                _ => Placing::Single,
            },
            name: &name,
        };
        let mut known = Known::default();
        let stored = store(&context, &meter, &reader, &list, &mut known, &mut writer, store_options)?;
        settle(&mut tree, &list, &stored.hashes)?;
        let metadata = Metadata::from_tree(&tree).map_err(Error::wim(&name))?;
        info.set_counts(&image_counts(&tree));
        info.set_modified(now());
        describe_windows(&tree, &reader, &mut info, &meter);
        writer.add_image(&metadata, info, options.level).map_err(Error::wim(&name))?;
        writer.set_references(&references(&tree));
        if wim.boot_image() == Some(self.index) {
            writer.set_boot_image(ImageIndex::from_number(1)).map_err(Error::wim(&name))?;
        }
        let tables = writer.write_tables().map_err(Error::wim(&name))?;
        let is_wanted = options.integrity.is_wanted(super::export::has_integrity(wim));
        let written = integrity::complete(&context, tables, &name, is_wanted, None)?;
        out.truncate(written.size)?;
        if options.read_back == ReadBack::Full {
            read_back::check(&context, &meter, out.temporary(), |_| true)?;
        }
        out.take_after_old()?;
        out.commit()?;
        let mut report = RewriteReport {
            images: 1,
            copied_blobs: stored.copied,
            encoded_blobs: stored.encoded,
            old_file_bytes,
            file_bytes: written.size,
            ..RewriteReport::default()
        };
        report.take(meter);
        Ok(report)
    }
}
