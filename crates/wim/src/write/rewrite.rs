//! Changing what a file holds without decoding what stays: copying resources, replacing and dropping images, counting
//! references anew (wim-container section 15).

use std::collections::HashMap;

use gravure_codec::Level;
use gravure_io::ReadAt;
use gravure_tree::{Sha1Hash, Tree};

use super::{Known, StoredBlob, WimWriter};
use crate::blobs::BlobId;
use crate::error::{Error, Scope};
use crate::header::Layout;
use crate::info::ImageInfo;
use crate::limits::Limits;
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::wim::{ImageIndex, Wim};

/// Bytes copied per read.
const STEP_BYTES: usize = 1 << 20;

/// What became of a blob that was to be copied as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Copied; so many bytes.
    Copied(u64),
    /// Its content was there already.
    Duplicate,
    /// It is in a solid or pipable resource, or compressed in another way: the caller must decode and encode it.
    MustRecode,
}

/// Every non-empty content that `tree` refers to and how often, every name counted, in the order of first use.
pub fn references(tree: &Tree) -> Vec<(Sha1Hash, u32)> {
    let mut list: Vec<(Sha1Hash, u32)> = Vec::new();
    let mut places: HashMap<Sha1Hash, usize> = HashMap::new();
    let mut nodes = vec![tree.root()];
    while let Some(id) = nodes.pop() {
        let node = tree.node(id);
        for sha1 in node.contents().filter(|content| !content.is_empty()).filter_map(|content| content.sha1) {
            let at = *places.entry(sha1).or_insert_with(|| {
                list.push((sha1, 0));
                list.len().saturating_sub(1)
            });
            if let Some((_, count)) = list.get_mut(at) {
                *count = count.saturating_add(1);
            }
        }
        nodes.extend(tree.children(id).iter().rev().map(|entry| entry.node));
    }
    list
}

impl WimWriter<'_> {
    /// Copies the stored bytes of a blob of `wim`, which was read from `source`. They are not looked at: who wants to
    /// know that they are good decodes and hashes them.
    pub fn copy_blob(&mut self, source: &dyn ReadAt, wim: &Wim, id: BlobId) -> Result<CopyOutcome, Error> {
        let not_found = || Error::NotFound { what: "blob", which: id.key().to_string() };
        let blob = wim.blob(id).ok_or_else(not_found)?;
        if self.contains(&blob.sha1) {
            return Ok(CopyOutcome::Duplicate);
        }
        let resource = wim.resource(blob.resource).ok_or_else(not_found)?;
        if resource.solid.is_some() || !self.takes(wim, &resource.header) {
            return Ok(CopyOutcome::MustRecode);
        }
        let place = self.copy_stored(source, &resource.header, Scope::Blob)?;
        self.known.insert(blob.sha1, Known::Single(self.blobs.len()));
        self.blobs.push(StoredBlob { sha1: blob.sha1, references: 0, place, is_old: false });
        Ok(CopyOutcome::Copied(place.stored_size))
    }

    /// Adds an image of `wim` behind the last: its metadata byte for byte, checked, and stored as it was if the
    /// compression is the same. Its blobs must be there already; `references` are those of its tree.
    pub fn copy_image(
        &mut self,
        source: &dyn ReadAt,
        wim: &Wim,
        image: ImageIndex,
        references: &[(Sha1Hash, u32)],
        info: ImageInfo,
        limits: &Limits,
    ) -> Result<ImageIndex, Error> {
        let metadata = wim.read_metadata(source, image, limits)?;
        let not_found = || Error::NotFound { what: "image", which: image.number().to_string() };
        let resource = wim.metadata_resource(image).ok_or_else(not_found)?;
        if self.takes(wim, &resource.header) {
            let index = self.check_new_image(references)?;
            let place = self.copy_stored(source, &resource.header, Scope::Image)?;
            return Ok(self.push_image(index, resource.sha1, place, references, info));
        }
        self.write_whole(&metadata, Level::Fast)?;
        self.finish_image(resource.sha1, references, info)
    }

    /// True if a resource of `wim` means the same in this file.
    fn takes(&self, wim: &Wim, place: &ResourceHeader) -> bool {
        let is_raw = !place.flags.contains(ResourceFlags::COMPRESSED);
        wim.header().layout == Layout::Normal && (is_raw || wim.header().compression == self.compression())
    }

    fn copy_stored(
        &mut self,
        source: &dyn ReadAt,
        place: &ResourceHeader,
        scope: Scope,
    ) -> Result<ResourceHeader, Error> {
        if self.open.is_some() || self.open_solid.is_some() {
            return Err(Error::unwritable("a resource", "the one before is not finished"));
        }
        let end = place.checked_end("resource", source.size(), scope)?;
        let start = self.tail.end();
        let mut buf = vec![0; STEP_BYTES];
        let mut at = place.offset;
        while at < end {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let step = buf.get_mut(..left.min(STEP_BYTES)).unwrap_or_default();
            source.read_exact_at(at, step).map_err(Error::io("resource", at))?;
            self.tail.append(step)?;
            at = at.saturating_add(step.size());
        }
        let flags = ResourceFlags(place.flags.0 & ResourceFlags::COMPRESSED.0);
        Ok(ResourceHeader { flags, offset: start, ..*place })
    }

    /// Drops an image; those behind it move up. Its blobs stay listed until [`WimWriter::set_references`].
    pub fn remove_image(&mut self, image: ImageIndex) -> Result<(), Error> {
        self.check_image(image)?;
        self.images.remove(image.index());
        self.info.remove_image(image.index());
        self.header.boot_number = match self.header.boot_number {
            boot if boot == image.number() => 0,
            boot if boot > image.number() => boot.saturating_sub(1),
            boot => boot,
        };
        Ok(())
    }

    /// The last image takes the place of `image`, which is dropped; whether it is bootable stays with the place.
    pub fn replace_image_with_last(&mut self, image: ImageIndex) -> Result<(), Error> {
        self.check_image(image)?;
        if self.header.boot_number == self.image_count() {
            self.header.boot_number = image.number();
        }
        self.images.swap_remove(image.index());
        self.info.swap_remove_image(image.index());
        Ok(())
    }

    fn check_image(&self, image: ImageIndex) -> Result<(), Error> {
        if image.index() >= self.images.len() {
            return Err(Error::NotFound { what: "image", which: image.number().to_string() });
        }
        Ok(())
    }

    /// Replaces all reference counts by `references`, the sum over all images of the file as it will be, and takes
    /// blobs without any off the table. Stored counts are unreliable, so dropping an image needs this.
    pub fn set_references(&mut self, references: &[(Sha1Hash, u32)]) {
        for blob in &mut self.blobs {
            blob.references = 0;
            blob.is_old = false;
        }
        for solid in &mut self.solids {
            solid.blobs.iter_mut().for_each(|(.., count)| *count = 0);
            solid.is_counted = true;
        }
        self.count_references(references);
    }
}
