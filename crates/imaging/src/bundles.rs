//! Small files that go with an image: driver packages, layers. Each is a WIM of its own, whose first image is what counts.

use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_model::descriptor::ImageDescriptor;
use gravure_tree::Tree;
use gravure_wim::{BlobSet, ImageIndex, Limits};

use crate::archive::{Archive, Archives};
use crate::described::check_descriptor;
use crate::{ContentReader, Error};

/// Bundles that are opened side by side, for what is not in a WIM itself, such as a restored disk.
#[derive(Debug, Clone, Default)]
pub struct Bundles {
    archives: Archives,
    warnings: Vec<String>,
}

impl Bundles {
    /// Adds a file in one part, whose contents [`Bundles::contents`] gives from then on, and gives the tree of its first image. With a
    /// descriptor, `source` must hold its bytes against it, as for [`crate::ImageFile::open_verified`].
    pub fn add(
        &mut self,
        source: Arc<dyn ReadAt>,
        name: &str,
        descriptor: Option<&ImageDescriptor>,
    ) -> Result<Tree, Error> {
        let (tree, warnings) = add(&mut self.archives, &Limits::default(), source, name, descriptor)?;
        self.warnings.extend(warnings);
        Ok(tree)
    }

    /// What gives the contents of all that were added by now, as a whole and from any place.
    pub fn contents(&self) -> ContentReader {
        ContentReader::new(&self.archives)
    }

    /// What was odd when they were opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Puts a bundle behind `archives`; gives the tree of its first image and what was odd.
pub(crate) fn add(
    archives: &mut Archives,
    limits: &Limits,
    source: Arc<dyn ReadAt>,
    name: &str,
    descriptor: Option<&ImageDescriptor>,
) -> Result<(Tree, Vec<String>), Error> {
    descriptor.map(|descriptor| check_descriptor(name, descriptor)).transpose()?;
    let (mut archive, warnings) = Archive::open(source, name, limits)?;
    if descriptor.is_some_and(|descriptor| descriptor.contents_checked) {
        archive.set_described();
    }
    let mut blobs = BlobSet::default();
    blobs.push(Archives::source_id(archives.iter().count()), archive.wim());
    let not_found = || Error::NotFound { what: "image", which: format!("1 of {name}") };
    let first = ImageIndex::from_number(1).filter(|_| archive.wim().image_count() > 0);
    let first = first.ok_or_else(not_found)?;
    let opened = archive.wim().read_image_with(archive.source(), first, &blobs, archive.limits());
    let opened = opened.map_err(Error::wim(format_args!("{name}, image 1")))?;
    archives.push(archive);
    Ok((opened.value, warnings))
}
