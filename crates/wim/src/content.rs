//! Decoding on one thread: metadata resources, and small contents that are wanted in memory. The `imaging` engine
//! decodes blobs in bulk on all cores and uses only [`ChunkDecoder`] of this.

use gravure_codec::Decoder;
use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;
use sha1::{Digest, Sha1};

use crate::chunks::{Chunk, ChunkEncoding, ResourceLayout};
use crate::compression::Compression;
use crate::error::{Error, Scope};

/// Decodes chunks; keeps its decoder for as long as method and chunk size stay the same.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    decoder: Option<(Compression, Decoder)>,
}

impl ChunkDecoder {
    /// Decodes `stored`, the bytes of `chunk`, into `plain`, which has the chunk's plain length.
    pub fn decode(&mut self, chunk: &Chunk, stored: &[u8], plain: &mut [u8]) -> Result<(), Error> {
        let compression = match chunk.encoding {
            ChunkEncoding::Raw if stored.len() == plain.len() => {
                plain.copy_from_slice(stored);
                return Ok(());
            }
            ChunkEncoding::Raw => {
                let expected = format!("{} bytes", plain.len());
                return Err(Error::corrupt(
                    Scope::Blob,
                    "raw chunk",
                    chunk.stored.start,
                    expected,
                    stored.len(),
                ));
            }
            ChunkEncoding::Compressed(compression) => compression,
        };
        let decoder = match &mut self.decoder {
            Some((known, decoder)) if *known == compression => decoder,
            other => &mut other.insert((compression, compression.decoder()?)).1,
        };
        decoder.decode(stored, plain).map_err(|error| {
            Error::corrupt(
                Scope::Blob,
                format!("{} chunk", compression.method()),
                chunk.stored.start,
                "valid data",
                error,
            )
        })
    }
}

/// Where content is and what it must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Offset in the resource's plain content.
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) sha1: Sha1Hash,
    /// What to call it in errors.
    pub(crate) what: &'static str,
    /// Absolute offset of its resource, for errors.
    pub(crate) place: u64,
}

/// Decodes `wanted` of the resource that `layout` describes and checks its hash. Memory grows with what decodes, not
/// with what the file claims.
pub(crate) fn read_content(
    source: &dyn ReadAt,
    layout: &ResourceLayout,
    wanted: &Wanted,
) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let mut hasher = Sha1::new();
    copy_content(source, layout, wanted, &mut |bytes| {
        hasher.update(bytes);
        content.extend_from_slice(bytes);
        Ok(())
    })?;
    let found = Sha1Hash(hasher.finalize().into());
    if found != wanted.sha1 {
        let Wanted { what, place, sha1, .. } = *wanted;
        return Err(Error::HashMismatch { what, offset: place, expected: sha1, found, scope: Scope::Blob });
    }
    Ok(content)
}

fn copy_content(
    source: &dyn ReadAt,
    layout: &ResourceLayout,
    wanted: &Wanted,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let end = wanted.offset.saturating_add(wanted.size);
    let too_short = || {
        let expected = format!("{} bytes", end);
        Error::corrupt(Scope::Blob, wanted.what, wanted.place, expected, layout.size())
    };
    if end > layout.size() {
        return Err(too_short());
    }
    let mut decoder = ChunkDecoder::default();
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for chunk in layout.chunks(wanted.offset..end) {
        let stored_len = chunk.stored.end.saturating_sub(chunk.stored.start);
        // The layout has bounded both by the chunk size.
        stored.resize(usize::try_from(stored_len).map_err(|_| too_short())?, 0);
        plain.resize(usize::try_from(chunk.plain_len).map_err(|_| too_short())?, 0);
        source
            .read_exact_at(chunk.stored.start, &mut stored)
            .map_err(Error::io(wanted.what, chunk.stored.start))?;
        decoder.decode(&chunk, &stored, &mut plain)?;
        let inside = |at: u64| usize::try_from(at.saturating_sub(chunk.plain_offset)).unwrap_or(usize::MAX);
        let (from, to) = (inside(wanted.offset), inside(end).min(plain.len()));
        sink(plain.get(from..to).ok_or_else(too_short)?)?;
    }
    Ok(())
}
