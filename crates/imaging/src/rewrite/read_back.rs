//! What was written is read again, from the medium, decoded and compared with its hashes: nothing counts as done before
//! (DESIGN section 1, promise 1).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gravure_io::FileAt;
use gravure_tree::{Origin, Sha1Hash};

use crate::archive::Archives;
use crate::blob_reader::BlobReader;
use crate::capture::{Content, Reader, hash_all};
use crate::meter::{Context, Meter};
use crate::{Error, ErrorKind, ImageFile};

/// Decoded chunks kept: two of the largest that are made (wim-container section 12).
pub(super) const CACHE_BYTES: usize = 128 << 20;

/// Checks those blobs of the complete file `path` that `wants` names by their hash, and the metadata of all images.
pub(super) fn check(
    context: &Context<'_>,
    meter: &Meter<'_>,
    path: &Path,
    wants: impl Fn(&Sha1Hash) -> bool,
) -> Result<(), Error> {
    let name = path.display().to_string();
    let opened = File::open(path).map_err(Error::io("open", &name))?;
    gravure_linux::block::drop_file_cache(&opened).map_err(Error::linux(&name))?;
    let source = FileAt::new(opened).map_err(Error::io("open", &name))?;
    let file = ImageFile::open(Arc::new(source), &name)?;
    for image in file.wim().images() {
        let limits = file.archives().get(0).limits();
        file.wim().read_metadata(file.source(), image, limits).map_err(Error::wim(&name))?;
    }
    let mut archives = Archives::default();
    archives.push(file.archives().get(0).clone());
    let wim = file.wim();
    let mut wanted: Vec<_> = wim.blobs().filter(|(_, blob)| wants(&blob.sha1)).collect();
    wanted.sort_by_key(|(_, blob)| {
        (wim.resource(blob.resource).map_or(0, |resource| resource.header.offset), blob.offset)
    });
    let list: Vec<Content> = wanted
        .iter()
        .map(|(id, blob)| Content {
            origin: Origin::Source { source: Archives::source_id(0), key: id.key() },
            size: blob.size,
            sha1: Some(blob.sha1),
            uses: Vec::new(),
        })
        .collect();
    let blobs = BlobReader::new(archives, CACHE_BYTES);
    let reader = Reader { archives: Some(&blobs), ..Reader::default() };
    hash_all(context, meter, &reader, &list, |number, result| {
        let expected = wanted[number].1.sha1;
        match result {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(Error::Differs {
                path: format!("blob {expected} of {name}, read back"),
                what: "SHA-1",
                expected: expected.to_string(),
                found: found.to_string(),
                more: 0,
            }),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                meter.warn(|| format!("blob {expected} could be copied but not be read back: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    })
}
