//! WIM files as a whole, and single images of them, opened for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_io::{FileAt, ReadAt};
use gravure_model::descriptor::ImageDescriptor;
use gravure_tree::Tree;
use gravure_wim::{BlobSet, ImageIndex, Limits, Wim, WimInfo, check_split_set};

use crate::archive::{Archive, Archives};
use crate::described::{DescribedAt, check_descriptor};
use crate::{ContentReader, Error, bundles};

/// An opened WIM file, with the other parts of its set and the files its content may lie in.
#[derive(Debug, Clone)]
pub struct ImageFile {
    archives: Archives,
    /// Parts of the set; what follows are references.
    parts: usize,
    warnings: Vec<String>,
}

/// Which image of a file is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Counted from 1, as people and files do.
    Number(u32),
    /// By name.
    Name(String),
    /// The only one.
    Only,
}

impl ImageFile {
    /// A file that is in one part. `name` stands in messages.
    pub fn open(source: Arc<dyn ReadAt>, name: &str) -> Result<Self, Error> {
        Self::open_within(source, name, &Limits::default())
    }

    /// As [`ImageFile::open`] with other limits than the usual ones, which also hold for everything that is added to it.
    pub fn open_within(source: Arc<dyn ReadAt>, name: &str, limits: &Limits) -> Result<Self, Error> {
        let (archive, warnings) = Archive::open(source, name, limits)?;
        let mut archives = Archives::default();
        archives.push(archive);
        Ok(Self { archives, parts: 1, warnings })
    }

    /// The file `path`, with the other parts of its set from the same directory.
    pub fn open_path(path: &Path) -> Result<Self, Error> {
        Self::open_path_within(path, &Limits::default())
    }

    /// As [`ImageFile::open_path`] with other limits.
    pub fn open_path_within(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let this = Self::open_single(path, limits)?;
        if this.wim().header().parts == 1 {
            return Ok(this);
        }
        this.push_parts(|number| {
            let path = part_path(path, number);
            Ok((open_file(&path)?, path.display().to_string()))
        })
    }

    /// The same file with the other parts of its set, which `open` finds by name: that of this file with a number before
    /// the extension.
    pub fn with_parts(self, open: impl Fn(&str) -> Result<Arc<dyn ReadAt>, Error>) -> Result<Self, Error> {
        let first = self.name().to_owned();
        self.push_parts(|number| {
            let name = part_path(Path::new(&first), number).to_string_lossy().into_owned();
            Ok((open(&name)?, name))
        })
    }

    /// The file of `descriptor`, in one part. No byte of it is used that is not as described.
    pub fn open_described(
        source: Arc<dyn ReadAt>,
        name: &str,
        descriptor: &ImageDescriptor,
    ) -> Result<Self, Error> {
        let source = DescribedAt::new(source, name, descriptor)?;
        Ok(Self::open(Arc::new(source), name)?.trust(descriptor))
    }

    /// As [`ImageFile::open_described`] for a local file.
    pub fn open_path_described(path: &Path, descriptor: &ImageDescriptor) -> Result<Self, Error> {
        Self::open_described(open_file(path)?, &path.display().to_string(), descriptor)
    }

    /// As [`ImageFile::open_described`] for a source that holds its bytes against `descriptor` itself
    /// ([`crate::HttpAt::verified`]).
    pub fn open_verified(
        source: Arc<dyn ReadAt>,
        name: &str,
        descriptor: &ImageDescriptor,
    ) -> Result<Self, Error> {
        check_descriptor(name, descriptor)?;
        Ok(Self::open(source, name)?.trust(descriptor))
    }

    fn trust(mut self, descriptor: &ImageDescriptor) -> Self {
        if let Some(archive) = self.archives.first_mut().filter(|_| descriptor.contents_checked) {
            archive.set_described();
        }
        self
    }

    fn push_parts(
        mut self,
        open: impl Fn(u16) -> Result<(Arc<dyn ReadAt>, String), Error>,
    ) -> Result<Self, Error> {
        let header = self.wim().header();
        let (part, parts) = (header.part, header.parts);
        if part != 1 {
            let (what, value) = (
                "start with a part other than the first",
                format!("{}: part {part} of {parts}", self.name()),
            );
            return Err(Error::Unsupported { what, value });
        }
        for number in 2..=parts {
            let (source, name) = open(number)?;
            self.push(source, &name)?;
        }
        self.parts = usize::from(parts);
        let all: Vec<&Wim> = self.archives.iter().map(|(_, archive)| archive.wim()).collect();
        check_split_set(&all).map_err(Error::wim(self.name()))?;
        Ok(self)
    }

    /// The parts of one set, opened each by itself, in any order, each once.
    pub fn from_parts(parts: Vec<Self>) -> Result<Self, Error> {
        let mut parts = parts;
        parts.sort_by_key(|part| part.wim().header().part);
        let all: Vec<&Wim> = parts.iter().map(Self::wim).collect();
        let named = parts.first().map_or("split set", Self::name);
        check_split_set(&all).map_err(Error::wim(named))?;
        let mut this = Self { archives: Archives::default(), parts: parts.len(), warnings: Vec::new() };
        for part in parts {
            this.archives.push(part.archives.get(0).clone());
            this.warnings.extend(part.warnings);
        }
        Ok(this)
    }

    /// The file `path` alone, any part of a set: to look at what it says of itself, or to put parts together.
    pub fn open_single(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::open_within(open_file(path)?, &path.display().to_string(), limits)
    }

    /// This file, if it is whole or the first part of a set, whose other parts are added as references.
    pub fn first_part(self) -> Result<Self, Error> {
        let header = self.wim().header();
        if header.part == 1 {
            return Ok(self);
        }
        let value = format!("{}: part {} of {}", self.name(), header.part, header.parts);
        Err(Error::Unsupported { what: "start with a part other than the first", value })
    }

    /// Adds a file that content may lie in: the base of a delta file, or another part of the set.
    pub fn add_reference(&mut self, path: &Path) -> Result<(), Error> {
        self.add_reference_at(open_file(path)?, &path.display().to_string())
    }

    /// As [`ImageFile::add_reference`] for a file from elsewhere.
    pub fn add_reference_at(&mut self, source: Arc<dyn ReadAt>, name: &str) -> Result<(), Error> {
        let all_are_parts = self.archives.iter().count() == self.parts;
        self.push(source, name)?;
        let own = self.wim().header();
        let is_part = self.archives.iter().last().is_some_and(|(_, added)| {
            let added = added.wim().header();
            own.parts > 1 && added.guid == own.guid && added.parts == own.parts && added.part != own.part
        });
        if is_part && all_are_parts {
            self.parts += 1;
        }
        Ok(())
    }

    /// Adds a file of its own, in one part, whose contents may go into trees of this file's images, and gives the tree of its
    /// first image. With a descriptor, `source` must hold its bytes against it, as for [`ImageFile::open_verified`].
    pub fn add_bundle(
        &mut self,
        source: Arc<dyn ReadAt>,
        name: &str,
        descriptor: Option<&ImageDescriptor>,
    ) -> Result<Tree, Error> {
        let limits = self.limits();
        let (tree, warnings) = bundles::add(&mut self.archives, &limits, source, name, descriptor)?;
        self.warnings.extend(warnings);
        Ok(tree)
    }

    /// What gives the contents of images and bundles, as a whole and from any place.
    pub fn contents(&self) -> ContentReader {
        ContentReader::new(&self.archives)
    }

    /// Within what it is read.
    fn limits(&self) -> Limits {
        *self.archives.get(0).limits()
    }

    fn push(&mut self, source: Arc<dyn ReadAt>, name: &str) -> Result<(), Error> {
        let (archive, warnings) = Archive::open(source, name, &self.limits())?;
        self.archives.push(archive);
        self.warnings.extend(warnings);
        Ok(())
    }

    /// The file itself: header, XML document, blob table.
    pub fn wim(&self) -> &Wim {
        self.archives.get(0).wim()
    }

    /// The bytes of the file itself.
    pub fn source(&self) -> &dyn ReadAt {
        self.archives.get(0).source()
    }

    /// Path or address.
    pub fn name(&self) -> &str {
        self.archives.get(0).name()
    }

    /// All files: the parts of the set, then the references.
    pub fn wims(&self) -> impl Iterator<Item = (&str, &Wim)> {
        self.archives.iter().map(|(_, archive)| (archive.name(), archive.wim()))
    }

    /// What was odd when the files were opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many images there are.
    pub fn image_count(&self) -> u32 {
        self.wim().image_count()
    }

    /// Finds an image.
    pub fn find(&self, which: &Which) -> Result<ImageIndex, Error> {
        which.find(self.wim().info(), self.image_count(), self.name())
    }

    /// Reads the tree of an image.
    pub fn image(&self, index: ImageIndex) -> Result<Image, Error> {
        let mut blobs = BlobSet::default();
        for (number, archive) in self.archives.iter() {
            blobs.push(Archives::source_id(number), archive.wim());
        }
        let archive = self.archives.get(0);
        if let Some(metadata) = archive.wim().metadata_resource(index) {
            let place = metadata.header;
            let stored = place.offset..place.offset.saturating_add(place.stored_size);
            archive.source().will_read(std::slice::from_ref(&stored));
        }
        let opened = archive.wim().read_image_with(archive.source(), index, &blobs, archive.limits());
        let opened = opened.map_err(Error::wim(format_args!("{}, image {}", self.name(), index.number())))?;
        let warnings = opened.warnings.iter().map(ToString::to_string).collect();
        Ok(Image { archives: self.archives.clone(), index, tree: opened.value, warnings })
    }

    pub(crate) fn archives(&self) -> &Archives {
        &self.archives
    }

    /// The parts of the set, without references.
    pub(crate) fn own_parts(&self) -> Archives {
        let mut parts = Archives::default();
        self.archives.iter().take(self.parts).for_each(|(_, archive)| parts.push(archive.clone()));
        parts
    }
}

impl Which {
    /// Finds the image among the `count` of the file `name`.
    pub(crate) fn find(&self, info: &WimInfo, count: u32, name: &str) -> Result<ImageIndex, Error> {
        let not_found = |which: &str| Error::NotFound { what: "image", which: format!("{which} of {name}") };
        match self {
            Self::Only if count == 1 => ImageIndex::from_number(1).ok_or_else(|| not_found("1")),
            Self::Only => Err(Error::Usage {
                what: "image".to_owned(),
                expected: format!("number or name, as {name} has {count} images"),
                found: "neither".to_owned(),
            }),
            Self::Number(number) => {
                let index = ImageIndex::from_number(*number).filter(|_| *number <= count);
                index.ok_or_else(|| not_found(&number.to_string()))
            }
            Self::Name(wanted) => {
                let found =
                    info.images().zip(1..=count).find(|(info, _)| info.name().as_ref() == Some(wanted));
                let index = found.and_then(|(_, number)| ImageIndex::from_number(number));
                index.ok_or_else(|| not_found(&format!("{wanted:?}")))
            }
        }
    }
}

/// One image: its tree, and the files its content is in.
#[derive(Debug, Clone)]
pub struct Image {
    archives: Archives,
    index: ImageIndex,
    tree: Tree,
    warnings: Vec<String>,
}

impl Image {
    /// Image `index`, counted from 0, of a WIM file in one part.
    pub fn open(source: Arc<dyn ReadAt>, index: u32) -> Result<Self, Error> {
        let file = ImageFile::open(source, "image file")?;
        let found = file.find(&Which::Number(index.saturating_add(1)))?;
        file.image(found)
    }

    /// An image whose content is in no file, or in the tree itself.
    pub(crate) fn without_files(index: ImageIndex, tree: Tree, warnings: Vec<String>) -> Self {
        Self { archives: Archives::default(), index, tree, warnings }
    }

    /// The same image with another tree: after layers changed it, or a part of it. Contents must lie in the same files or
    /// in the tree itself.
    pub fn with_tree(&self, tree: Tree) -> Self {
        Self { archives: self.archives.clone(), index: self.index, tree, warnings: Vec::new() }
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes the tree out.
    pub fn into_tree(self) -> Tree {
        self.tree
    }

    /// Which image of its file this is.
    pub fn index(&self) -> ImageIndex {
        self.index
    }

    /// What was odd when the tree was read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn archives(&self) -> &Archives {
        &self.archives
    }
}

/// Whether a file begins as a WIM does, pipable or not.
pub fn is_wim(path: &Path) -> bool {
    let mut head = [0; 8];
    let read = std::fs::File::open(path)
        .and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0));
    read.is_ok() && (head == *b"MSWIM\0\0\0" || head == *b"WLPWM\0\0\0")
}

fn open_file(path: &Path) -> Result<Arc<dyn ReadAt>, Error> {
    let file = FileAt::open(path).map_err(Error::io("open", path.display()))?;
    if path.is_dir() {
        let (what, value) = ("directory as an image file", path.display().to_string());
        return Err(Error::Unsupported { what, value });
    }
    Ok(Arc::new(file))
}

/// Name of part `number` of a set: `base.swm`, `base2.swm`, `base3.swm` (wim-container section 9).
pub(crate) fn part_path(first: &Path, number: u16) -> PathBuf {
    if number == 1 {
        return first.to_owned();
    }
    let mut name = first.file_stem().unwrap_or_default().to_owned();
    name.push(number.to_string());
    if let Some(extension) = first.extension() {
        name.push(".");
        name.push(extension);
    }
    first.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_the_format_says() {
        for (number, expected) in [(1, "/a/base.swm"), (2, "/a/base2.swm"), (12, "/a/base12.swm")] {
            assert_eq!(part_path(Path::new("/a/base.swm"), number), Path::new(expected));
        }
        assert_eq!(part_path(Path::new("base"), 2), Path::new("base2"));
    }
}
