//! Descriptors of block images: every chunk decoded and checked once, then the id of the root stands for all of it, for everything in the image
//! hangs on that hash.

use std::path::Path;
use std::sync::Arc;

use gravure_blockimg::facts::{Facts, Scope};
use gravure_io::{FileAt, ReadAt};
use gravure_model::Ctl;
use gravure_model::descriptor::{
    DESCRIPTOR_VERSION, DescribedImage, Digest, ImageDescriptor, RANGE_BYTES, SystemKind,
};
use gravure_model::event::Observer;

use gravure_store::{LocalObjects, Store};

use super::{BlockImage, blockimg, least_disk_bytes, store_error, verify_block_image};
use crate::{Error, ErrorKind};

/// Format of such descriptors.
pub const BLOCK_FORMAT: &str = "gim";

/// Describes the block image in the file `path`, or the image of a store whose manifest that is. What is damaged is not described:
/// the first damage is the error.
pub fn describe_block_image(
    path: &Path,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    let name = path.display().to_string();
    let source: Arc<dyn ReadAt> = Arc::new(FileAt::open(path).map_err(Error::io("open", &name))?);
    let size_bytes = source.size();
    let image = open(path, source, &name)?;
    described(&image, &name, size_bytes, ctl, observer)
}

/// Describes the image `name` of a store, whose manifest has `size_bytes`.
pub fn describe_stored_image(
    store: Arc<Store>,
    name: &str,
    size_bytes: u64,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    described(&BlockImage::open_stored(store, name)?, name, size_bytes, ctl, observer)
}

fn described(
    image: &BlockImage,
    name: &str,
    size_bytes: u64,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ImageDescriptor, Error> {
    let report = verify_block_image(image, None, ctl, observer)?;
    if let Some(damage) = report.damage.into_iter().next() {
        return Err(Error::Other {
            what: format!("describing {name}"),
            source: damage.into(),
            kind: ErrorKind::Integrity,
        });
    }
    let facts = image.facts();
    // A disk that cannot be looked into is judged where it is restored.
    let least_disk_bytes = match least_disk_bytes(image, ctl) {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        found => found.unwrap_or(None),
    };
    Ok(ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: BLOCK_FORMAT.to_owned(),
        size_bytes,
        range_bytes: RANGE_BYTES,
        // Bytes are held against the chunks' own ids.
        ranges: Vec::new(),
        tables: Digest(image.id().0),
        contents_checked: true,
        images: vec![DescribedImage {
            name: facts.name.clone(),
            system: system_of_disk(facts),
            file_count: 0,
            directory_count: 0,
            content_bytes: image.root().data_bytes(),
            windows: None,
            least_disk_bytes,
        }],
    })
}

/// A manifest lies in its store, as `images/NAME.gim`.
fn open(path: &Path, source: Arc<dyn ReadAt>, name: &str) -> Result<BlockImage, Error> {
    if !gravure_blockimg::ImageFile::open(&source).map_err(blockimg(name))?.is_manifest() {
        return BlockImage::open(source, name);
    }
    let dir = path.parent().filter(|dir| dir.file_name().is_some_and(|name| name == "images"));
    let image = path.file_stem().and_then(|stem| stem.to_str());
    let (Some(dir), Some(image)) = (dir.and_then(Path::parent), image) else {
        let what = "manifest without its store";
        return Err(Error::Unsupported { what, value: name.to_owned() });
    };
    let store = Store::open(Arc::new(LocalObjects::new(dir))).map_err(store_error)?;
    BlockImage::open_stored(Arc::new(store), image)
}

/// Whether `image` is the one that `descriptor` names; nothing else of it has to be believed then.
pub fn is_described_block_image(image: &BlockImage, descriptor: &ImageDescriptor) -> bool {
    descriptor.format == BLOCK_FORMAT && descriptor.tables == Digest(image.id().0)
}

/// What kind of system a disk holds, by its file systems; `Unknown` for a single partition, which nothing starts from.
fn system_of_disk(facts: &Facts) -> SystemKind {
    let has = |names: &[&str]| facts.volumes.iter().any(|volume| names.contains(&volume.content.as_str()));
    match facts.scope {
        Scope::Disk if has(&["NTFS", "BitLocker"]) => SystemKind::Windows,
        Scope::Disk if has(&["ext4", "ext3", "ext2", "XFS", "Btrfs", "LVM"]) => SystemKind::Linux,
        _ => SystemKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use gravure_blockimg::facts::Volume;

    use super::*;

    #[test]
    fn disks_are_told_by_their_file_systems() {
        let facts = |scope, contents: &[&str]| Facts {
            scope,
            volumes: contents
                .iter()
                .map(|content| Volume { content: (*content).to_owned(), ..Volume::default() })
                .collect(),
            ..Facts::default()
        };
        let cases = [
            (Scope::Disk, &["FAT32", "ext4"][..], SystemKind::Linux),
            (Scope::Disk, &["FAT32", "unknown", "NTFS", "NTFS"], SystemKind::Windows),
            (Scope::Disk, &["FAT32"], SystemKind::Unknown),
            (Scope::Volume, &["ext4"], SystemKind::Unknown),
        ];
        for (scope, contents, expected) in cases {
            assert_eq!(system_of_disk(&facts(scope, contents)), expected, "{contents:?}");
        }
    }
}
