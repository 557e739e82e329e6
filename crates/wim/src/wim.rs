//! An opened part: header, blob table and XML document, checked against each other. Keeps no handle; what is read
//! later takes the source again.

use gravure_io::ReadAt;
use gravure_tree::{Sha1Hash, SourceId, Tree};

use crate::blobs::{Blob, BlobId, BlobTable, MetadataResource, Resource, ResourceId};
use crate::chunks::ResourceLayout;
use crate::content::{Wanted, read_content};
use crate::error::{Error, Opened, Scope, Warning, Warnings, XmlIssue};
use crate::header::{Header, HeaderFlags};
use crate::info::WimInfo;
use crate::integrity::IntegrityTable;
use crate::limits::{Limits, MAX_METADATA_RATIO};
use crate::metadata;
use crate::parts::BlobSet;

/// An image of a WIM, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageIndex(u32);

impl ImageIndex {
    /// The image people and files call `number`, counted from 1; `None` for 0.
    pub fn from_number(number: u32) -> Option<Self> {
        number.checked_sub(1).map(Self)
    }

    /// Counted from 1.
    pub fn number(self) -> u32 {
        self.0.saturating_add(1)
    }

    /// Counted from 0.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// An opened part of a WIM; most files have one part.
#[derive(Debug, Clone)]
pub struct Wim {
    header: Header,
    info: WimInfo,
    table: BlobTable,
}

impl Wim {
    /// Reads header, XML document and blob table. Images and blobs are looked at when they are wanted.
    pub fn read(source: &dyn ReadAt, limits: &Limits) -> Result<Opened<Self>, Error> {
        let mut warnings = Warnings::default();
        let header = Header::read(source)?;
        if header.flags.contains(HeaderFlags::WRITE_IN_PROGRESS) {
            warnings.push(Warning::WriteInProgress);
        }
        // The document comes first: only it tells that a file is encrypted, whose blob table would just look broken.
        let max_xml_bytes = limits.max_xml_bytes.min(source.size());
        let mut info = match header.xml.read_raw(source, "XML document", max_xml_bytes)? {
            Some(bytes) if !bytes.is_empty() => WimInfo::parse(&bytes, &mut warnings)?,
            _ => {
                warnings.push(Warning::Xml(XmlIssue::Missing));
                WimInfo::default()
            }
        };
        if info.is_encrypted() {
            return Err(Error::unsupported(Scope::File, "encryption", "encrypted download image (ESD)"));
        }
        let table = BlobTable::read(source, &header, &mut warnings)?;
        reconcile(&header, &table, &mut info, &mut warnings);
        let this = Self { header, info, table };
        this.check_boot_image(&mut warnings);
        Ok(warnings.finish(this))
    }

    fn check_boot_image(&self, warnings: &mut Warnings) {
        let number = self.header.boot_number;
        if number == 0 || self.header.parts > 1 {
            return;
        }
        let image = ImageIndex::from_number(number).and_then(|index| self.table.images.get(index.index()));
        if image.is_none_or(|image| image.header != self.header.boot_metadata) {
            warnings.push(Warning::BootImage { number });
        }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The XML document, with an element for every image.
    pub fn info(&self) -> &WimInfo {
        &self.info
    }

    /// Number of images that can be read from this part.
    pub fn image_count(&self) -> u32 {
        u32::try_from(self.table.images.len()).unwrap_or(u32::MAX)
    }

    /// The images of this part.
    pub fn images(&self) -> impl Iterator<Item = ImageIndex> + use<> {
        (0..self.image_count()).map(ImageIndex)
    }

    /// The bootable image.
    pub fn boot_image(&self) -> Option<ImageIndex> {
        ImageIndex::from_number(self.header.boot_number).filter(|image| image.0 < self.image_count())
    }

    /// The metadata resource of an image.
    pub fn metadata_resource(&self, image: ImageIndex) -> Option<&MetadataResource> {
        self.table.images.get(image.index())
    }

    /// All blobs of this part but metadata, in table order.
    pub fn blobs(&self) -> impl ExactSizeIterator<Item = (BlobId, &Blob)> {
        let numbers = 0..u32::try_from(self.table.blobs.len()).unwrap_or(u32::MAX);
        numbers.zip(&self.table.blobs).map(|(number, blob)| (BlobId(number), blob))
    }

    /// One blob.
    pub fn blob(&self, id: BlobId) -> Option<&Blob> {
        self.table.blobs.get(id.index())
    }

    /// The blob with this hash.
    pub fn find_blob(&self, sha1: &Sha1Hash) -> Option<BlobId> {
        self.table.find(sha1)
    }

    /// All stored regions of file content, in table order.
    pub fn resources(&self) -> &[Resource] {
        &self.table.resources
    }

    /// One stored region.
    pub fn resource(&self, id: ResourceId) -> Option<&Resource> {
        self.table.resources.get(id.index())
    }

    /// How the bytes of a resource are laid out; reads and checks its chunk table.
    pub fn layout(
        &self,
        source: &dyn ReadAt,
        id: ResourceId,
        limits: &Limits,
    ) -> Result<ResourceLayout, Error> {
        let resource =
            self.resource(id).ok_or_else(|| Error::NotFound { what: "resource", which: id.0.to_string() })?;
        ResourceLayout::read(source, resource, &self.header, limits)
    }

    /// The whole content of a blob of at most `max_bytes`, decoded on this thread and checked: for hives, answer
    /// files and other small contents.
    pub fn read_blob(
        &self,
        source: &dyn ReadAt,
        id: BlobId,
        max_bytes: u64,
        limits: &Limits,
    ) -> Result<Vec<u8>, Error> {
        let not_found = || Error::NotFound { what: "blob", which: id.0.to_string() };
        let blob = self.blob(id).ok_or_else(not_found)?;
        let resource = self.resource(blob.resource).ok_or_else(not_found)?;
        let place = resource.header.offset;
        if blob.size > max_bytes {
            let scope = Scope::Blob;
            return Err(Error::Limit {
                what: "blob",
                offset: place,
                found: blob.size,
                limit: max_bytes,
                scope,
            });
        }
        let layout = ResourceLayout::read(source, resource, &self.header, limits)?;
        let wanted = Wanted { offset: blob.offset, size: blob.size, sha1: blob.sha1, what: "blob", place };
        read_content(source, &layout, &wanted)
    }

    /// The decoded metadata resource of an image, its hash checked.
    pub fn read_metadata(
        &self,
        source: &dyn ReadAt,
        image: ImageIndex,
        limits: &Limits,
    ) -> Result<Vec<u8>, Error> {
        let not_found = || Error::NotFound { what: "image", which: image.number().to_string() };
        let MetadataResource { sha1, header } = self.metadata_resource(image).ok_or_else(not_found)?;
        let limit = limits.max_metadata_bytes.min(source.size().saturating_mul(MAX_METADATA_RATIO));
        if header.size > limit {
            return Err(Error::Limit {
                what: "metadata resource",
                offset: header.offset,
                found: header.size,
                limit,
                scope: Scope::Image,
            });
        }
        let resource = Resource { header: *header, solid: None };
        let wanted = Wanted {
            offset: 0,
            size: header.size,
            sha1: *sha1,
            what: "metadata resource",
            place: header.offset,
        };
        ResourceLayout::read(source, &resource, &self.header, limits)
            .and_then(|layout| read_content(source, &layout, &wanted))
            .map_err(|error| error.with_scope(Scope::Image))
    }

    /// The tree of an image whose content is all in this file, which the tree calls `source_id`.
    pub fn read_image(
        &self,
        source: &dyn ReadAt,
        image: ImageIndex,
        source_id: SourceId,
        limits: &Limits,
    ) -> Result<Opened<Tree>, Error> {
        self.read_image_with(source, image, &BlobSet::of(source_id, self), limits)
    }

    /// The tree of an image whose content is in several files: parts of a split set, or the base of a delta file.
    pub fn read_image_with(
        &self,
        source: &dyn ReadAt,
        image: ImageIndex,
        blobs: &BlobSet<'_>,
        limits: &Limits,
    ) -> Result<Opened<Tree>, Error> {
        let bytes = self.read_metadata(source, image, limits)?;
        metadata::parse(&bytes, blobs, limits)
    }

    /// The integrity table; `None` if there is none. What it says is for the caller to compare.
    pub fn read_integrity(&self, source: &dyn ReadAt) -> Result<Option<IntegrityTable>, Error> {
        IntegrityTable::read(source, &self.header)
    }
}

/// Makes the document speak of exactly the images that were found.
fn reconcile(header: &Header, table: &BlobTable, info: &mut WimInfo, warnings: &mut Warnings) {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let (metadata, xml) = (count(table.images.len()), count(info.image_count()));
    if header.part != 1 {
        // Other parts have the document of the set but no images.
        return;
    }
    if header.image_count != metadata || xml != metadata {
        warnings.push(Warning::ImageCount { header: header.image_count, metadata, xml, used: metadata });
    }
    if xml != metadata {
        info.resize(table.images.len());
    }
}
