//! What a file is besides its content: what it takes over from an older one, and its place in a split set
//! (wim-container sections 2, 7, 9).

use super::WimWriter;
use crate::error::Error;
use crate::header::{Header, HeaderFlags};
use crate::info::WimInfo;
use crate::resource::ResourceHeader;
use crate::wim::Wim;

/// The place of a file in a split set.
#[derive(Debug, Clone)]
pub(super) struct SetPart {
    part: u16,
    parts: u16,
    image_count: u32,
    document: WimInfo,
}

impl SetPart {
    /// Number of the part.
    pub(super) fn part(&self) -> u16 {
        self.part
    }

    /// What the header of a part says: the same in all parts but for the number. No part names a bootable image.
    pub(super) fn mark(&self, header: &mut Header) {
        header.flags = header.flags.with(HeaderFlags::SPANNED);
        header.part = self.part;
        header.parts = self.parts;
        header.image_count = self.image_count;
        header.boot_number = 0;
        header.boot_metadata = ResourceHeader::default();
    }

    /// The document of the whole set.
    pub(super) fn document(&self) -> &WimInfo {
        &self.document
    }
}

impl WimWriter<'_> {
    /// Takes over what `wim` says of itself as a whole: elements of its XML document that belong to no image, and that
    /// its links were rewritten. For a file that replaces another or is made of its parts; to be called first.
    pub fn adopt(&mut self, wim: &Wim) -> Result<(), Error> {
        if !self.images.is_empty() {
            return Err(Error::unwritable("the document of another file", "there are images already"));
        }
        self.info = wim.info().without_images();
        if wim.header().flags.contains(HeaderFlags::LINKS_FIXED) {
            self.header.flags = self.header.flags.with(HeaderFlags::LINKS_FIXED);
        }
        Ok(())
    }

    /// Allows images that refer to content of other files, also in a file that is appended to.
    pub fn allow_missing_blobs(&mut self) {
        self.allow_missing_blobs = true;
    }

    /// Makes the file part `part` of a split set of `parts`, from 1. `document` is the XML document of the set, the
    /// same in all parts. Images belong into the first part; blobs are listed where they are stored, with the references
    /// of the whole set ([`WimWriter::set_references`]).
    pub fn set_part(&mut self, part: u16, parts: u16, document: &WimInfo) -> Result<(), Error> {
        if part == 0 || part > parts {
            let reason = format!("part {part} of {parts} makes no sense");
            return Err(Error::unwritable("part of a split set", reason));
        }
        let image_count = u32::try_from(document.image_count()).unwrap_or(u32::MAX);
        self.allow_missing_blobs = true;
        self.set = Some(SetPart { part, parts, image_count, document: document.clone() });
        Ok(())
    }
}
