//! What was written is read again, from the medium, decoded and compared with its hashes: nothing counts as done before
//! (DESIGN section 1, promise 1).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gravure_io::FileAt;
use gravure_tree::{Origin, Sha1Hash};
use gravure_wim::Limits;

use crate::archive::Archives;
use crate::blob_reader::BlobReader;
use crate::capture::{Content, Reader, hash_all};
use crate::meter::{Context, Meter};
use crate::{Error, ErrorKind, ImageFile};

/// Decoded chunks kept of those that are not wanted as a whole, bytes. Contents are asked for in the order in which they
/// lie, and by no more than `threads` at a time, which are some chunks apart at most.
pub(crate) fn cache_bytes(archives: &Archives, threads: usize) -> usize {
    /// Enough for any number of threads and chunks as all Windows write them.
    const LEAST: usize = 4 << 20;
    /// With larger chunks than those of LZX threads are in one or two.
    const WINDOW: usize = 32 << 20;
    let largest = archives.iter().map(|(_, archive)| archive.wim()).flat_map(|wim| {
        let of_file = wim.header().compression.map(|compression| compression.chunk_size());
        wim.resources().iter().filter_map(|resource| Some(resource.solid?.chunk_size)).chain(of_file)
    });
    // Chunks are at most 1 GiB.
    let largest = largest.max().unwrap_or(0) as usize;
    let window = largest.saturating_mul(threads + 2).min(WINDOW.max(largest.saturating_mul(2)));
    window.max(LEAST)
}

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
    // What was written here was granted its size when it was asked for.
    let file = ImageFile::open_within(Arc::new(source), &name, &Limits::NONE)?;
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
    let cache_bytes = cache_bytes(&archives, context.threads);
    let blobs = BlobReader::new(archives, cache_bytes);
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
