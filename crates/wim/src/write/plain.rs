//! A file whose contents are kept elsewhere: where everything would lie in an uncompressed WIM, and the bytes around the contents.
//! A store keeps file images so; whoever reads the whole sees an ordinary file of version 0x10D00 with gaps between its resources.

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;

use super::finish::push_entry;
use crate::error::Error;
use crate::header::{HEADER_BYTES, Header, HeaderFlags, Layout};
use crate::info::WimInfo;
use crate::resource::{ResourceFlags, ResourceHeader};

/// A content with its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainContent {
    /// SHA-1 of it.
    pub sha1: Sha1Hash,
    /// Absolute first byte.
    pub offset: u64,
    /// Bytes, never 0.
    pub size: u64,
    /// How often images refer to it.
    pub references: u32,
}

/// The bytes of an uncompressed file that are no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFrame {
    /// The header, from byte 0.
    pub header: [u8; 208],
    /// Blob table and XML document, from where they were said to go to the end.
    pub tables: Vec<u8>,
}

impl PlainFrame {
    /// The frame of a file that heads `images` (metadata resources, in image order) and `blobs`, whose tables begin at byte
    /// `tables_offset`. GUID, bootable image and what is said of links come from `header`, the images' words from `info`.
    pub fn new(
        header: &Header,
        info: &WimInfo,
        images: &[PlainContent],
        blobs: &[PlainContent],
        tables_offset: u64,
    ) -> Result<Self, Error> {
        let wrong = |reason: &'static str| Error::unwritable("the tables", reason);
        let contents = images.iter().chain(blobs);
        let ends = contents.map(|content| (content.offset, content.offset.checked_add(content.size)));
        for (start, end) in ends {
            if start < HEADER_BYTES || end.is_none_or(|end| end > tables_offset || end == start) {
                return Err(wrong("a content does not lie between header and tables"));
            }
        }
        let place = |content: &PlainContent, flags| ResourceHeader {
            stored_size: content.size,
            flags,
            offset: content.offset,
            size: content.size,
        };
        let mut tables = Vec::new();
        for image in images {
            push_entry(&mut tables, place(image, ResourceFlags::METADATA), 1, 1, image.sha1)?;
        }
        for blob in blobs {
            push_entry(&mut tables, place(blob, ResourceFlags::default()), 1, blob.references, blob.sha1)?;
        }
        let table =
            |offset, size| ResourceHeader { stored_size: size, flags: ResourceFlags::METADATA, offset, size };
        let blob_table = table(tables_offset, tables.size());
        let xml_offset = tables_offset.saturating_add(tables.size());
        let mut info = info.clone();
        info.set_total_bytes(xml_offset);
        let document = info.to_bytes();
        let image_count = u32::try_from(images.len()).map_err(|_| wrong("too many images"))?;
        let boot = usize::try_from(header.boot_number).ok().and_then(|number| number.checked_sub(1));
        let boot_metadata = boot.and_then(|index| images.get(index));
        let header = Header {
            layout: Layout::Normal,
            allows_solid: false,
            flags: HeaderFlags(header.flags.0 & HeaderFlags::LINKS_FIXED.0),
            compression: None,
            guid: header.guid,
            part: 1,
            parts: 1,
            image_count,
            blob_table,
            xml: table(xml_offset, document.size()),
            boot_metadata: boot_metadata
                .map(|image| place(image, ResourceFlags::METADATA))
                .unwrap_or_default(),
            boot_number: if boot_metadata.is_some() { header.boot_number } else { 0 },
            integrity: ResourceHeader::default(),
        };
        tables.extend_from_slice(&document);
        Ok(Self { header: header.to_bytes()?, tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageInfo, Limits, Wim};
    use sha1::{Digest, Sha1};

    #[test]
    fn the_whole_is_a_file_with_gaps() {
        let hash = |bytes: &[u8]| Sha1Hash(Sha1::digest(bytes).into());
        let content = |offset: u64, bytes: &[u8], references| PlainContent {
            sha1: hash(bytes),
            offset,
            size: bytes.size(),
            references,
        };
        let other = crate::WriteOptions::new(gravure_nttypes::Guid([7; 16]));
        let disk = gravure_io::MemoryDisk::new(0, 1);
        crate::WimWriter::create(&disk, &other).unwrap().finish().unwrap();
        let template = Wim::read(&disk.to_vec(), &Limits::default()).unwrap().value;
        let mut info = template.info().clone();
        info.push_image(ImageInfo::new("one"));
        let header = Header { boot_number: 1, ..template.header().clone() };
        let (blob, metadata) = (b"content of a file".as_slice(), b"not really metadata".as_slice());
        let images = [content(5000, metadata, 1)];
        let blobs = [content(1000, blob, 3)];
        let frame = PlainFrame::new(&header, &info, &images, &blobs, 6000).unwrap();
        let mut file = vec![0; 6000];
        file[..208].copy_from_slice(&frame.header);
        file[1000..][..blob.len()].copy_from_slice(blob);
        file[5000..][..metadata.len()].copy_from_slice(metadata);
        file.extend_from_slice(&frame.tables);
        let opened = Wim::read(&file, &Limits::default()).unwrap();
        assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
        let wim = opened.value;
        let id = wim.find_blob(&hash(blob)).unwrap();
        assert_eq!(wim.read_blob(&file, id, 100, &Limits::default()).unwrap(), blob);
        assert_eq!(wim.blob(id).unwrap().references, 3);
        let image = wim.boot_image().unwrap();
        assert_eq!(wim.read_metadata(&file, image, &Limits::default()).unwrap(), metadata);
        assert_eq!(wim.info().image(0).unwrap().name().as_deref(), Some("one"));
        assert_eq!(wim.header().guid, gravure_nttypes::Guid([7; 16]));

        for bad in [content(100, blob, 1), content(5990, blob, 1), PlainContent { size: 0, ..blobs[0] }] {
            assert!(PlainFrame::new(&header, &info, &images, &[bad], 6000).is_err());
        }
    }
}
