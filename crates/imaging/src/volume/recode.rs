//! Contents compressed anew for the overlay filter, because the image has them in another form.
//!
//! A volume is laid out before its contents come, so their compressed sizes must be known first. They are compressed twice: once
//! to measure, once to write. What comes out depends on the bytes alone, so both times are alike, and no copy of an image has to
//! stand in memory or on another disk meanwhile.

use gravure_codec::Level;
use gravure_ntfs::WofAlgorithm;
use gravure_tree::{NodeId, Origin, Sha1Hash};
use gravure_wim::{ChunkData, Compression, Error as WimError, Method};

use super::device::VolumeDevice;
use super::verify::CopiedPart;
use crate::blob_reader::BlobReader;
use crate::capture::{BlobOutput, Content, Reader, encode_contents};
use crate::meter::{Context, Meter};
use crate::rewrite::cache_bytes;
use crate::uses::{Part, Use};
use crate::{Error, Image};

/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A place of a compressed stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamPlace {
    pub(super) node: NodeId,
    /// On the volume.
    pub(super) offset: u64,
    /// Bytes of its clusters.
    pub(super) allocated: u64,
}

/// The filter's compression as images name it.
pub(super) fn compression(algorithm: WofAlgorithm) -> Result<Compression, Error> {
    let (method, chunk) = match algorithm {
        WofAlgorithm::Xpress4K => (Method::Xpress, 0x1000),
        WofAlgorithm::Xpress8K => (Method::Xpress, 0x2000),
        WofAlgorithm::Xpress16K => (Method::Xpress, 0x4000),
        WofAlgorithm::Lzx => (Method::Lzx, 0x8000),
    };
    Compression::new(method, chunk).map_err(Error::wim("overlay filter"))
}

/// Contents to be compressed, each with the files that have it, and the compressed sizes.
pub(super) struct Recoding {
    compression: Compression,
    list: Vec<Content>,
    /// Bytes of the stream of each, table of chunks included.
    sizes: Vec<u64>,
}

impl std::fmt::Debug for Recoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recoding").field("contents", &self.list.len()).finish_non_exhaustive()
    }
}

impl Recoding {
    /// Compresses the unnamed streams of `nodes` and keeps the sizes.
    pub(super) fn measure(
        image: &Image,
        nodes: &[NodeId],
        algorithm: WofAlgorithm,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        let compression = compression(algorithm)?;
        let list = contents(image, nodes);
        let mut this = Self { compression, sizes: vec![0; list.len()], list };
        let all = (0..this.list.len()).collect();
        let mut output = Measuring { compression, sizes: vec![0; this.list.len()], now: (0, 0) };
        let meter = Meter::start(context, "measure");
        meter.expect(this.list.iter().map(|content| content.size).sum());
        this.run(image, all, context, &meter, &mut output, "measured contents")?;
        meter.finish();
        this.sizes = output.sizes;
        Ok(this)
    }

    /// The files and the bytes of their compressed streams.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let uses = |content: &Content| content.uses.iter().map(|wanted| wanted.node).collect::<Vec<_>>();
        self.list
            .iter()
            .zip(&self.sizes)
            .flat_map(move |(content, size)| uses(content).into_iter().map(|node| (node, *size)))
    }

    /// Compresses once more and writes to the places that `place` names, in the order of the archive. With `notes_parts` what
    /// was written is returned, to be compared with what is read back.
    pub(super) fn write(
        &self,
        image: &Image,
        device: &dyn VolumeDevice,
        place: impl Fn(NodeId) -> Option<StreamPlace>,
        notes_parts: bool,
        context: &Context<'_>,
        meter: &Meter<'_>,
    ) -> Result<Vec<CopiedPart>, Error> {
        let places: Vec<Vec<StreamPlace>> = self
            .list
            .iter()
            .map(|content| content.uses.iter().filter_map(|wanted| place(wanted.node)).collect())
            .collect();
        let wanted: Vec<usize> = (0..self.list.len()).filter(|number| !places[*number].is_empty()).collect();
        meter.expect_more(wanted.iter().map(|number| self.list[*number].size).sum());
        let mut output = Writing {
            device,
            recoding: self,
            places,
            parts: notes_parts.then(Vec::new),
            number: 0,
            table: Vec::new(),
            chunks_bytes: 0,
            pending: Vec::new(),
            pending_at: 0,
        };
        self.run(image, wanted, context, meter, &mut output, device.name())?;
        Ok(output.parts.unwrap_or_default())
    }

    fn run(
        &self,
        image: &Image,
        wanted: Vec<usize>,
        context: &Context<'_>,
        meter: &Meter<'_>,
        output: &mut dyn BlobOutput,
        name: &str,
    ) -> Result<(), Error> {
        let archives = image.archives();
        let blobs = BlobReader::new(archives.clone(), cache_bytes(archives, context.threads));
        let reader = Reader { archives: Some(&blobs), ..Reader::default() };
        let settings = (self.compression, Level::default());
        encode_contents(context, meter, &reader, &self.list, wanted, settings, output, name)
    }
}

/// What the files have, each content once, in the order of the archives.
fn contents(image: &Image, nodes: &[NodeId]) -> Vec<Content> {
    let mut list: Vec<Content> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for id in nodes {
        let Some(data) = &image.tree().node(*id).data else { continue };
        let Origin::Source { source, key } = data.origin else { continue };
        let wanted = Use { node: *id, part: Part::Data };
        let number = *known.entry((source, key)).or_insert_with(|| {
            let (origin, size, sha1) = (data.origin.clone(), data.size, data.sha1);
            list.push(Content { origin, size, sha1, uses: Vec::new() });
            list.len() - 1
        });
        list[number].uses.push(wanted);
    }
    list.sort_by_key(|content| {
        let Origin::Source { source, key } = content.origin else { return (usize::MAX, 0, 0) };
        let found = image.archives().find(source, key);
        let place = found.and_then(|(archive, id)| {
            let (blob, resource) = image.archives().get(archive).blob(id).ok()?;
            Some((archive, resource.header.offset, blob.offset))
        });
        place.unwrap_or((usize::MAX, 0, 0))
    });
    list
}

/// Bytes of an entry of the table of chunks, by the plain size of the content.
fn entry_bytes(size: u64) -> u64 {
    if size > u64::from(u32::MAX) { 8 } else { 4 }
}

/// Bytes of the table of chunks: the first chunk has no entry.
fn table_bytes(size: u64, compression: Compression) -> u64 {
    size.div_ceil(u64::from(compression.chunk_size())).saturating_sub(1).saturating_mul(entry_bytes(size))
}

fn bytes_of<'a>(chunk: &'a ChunkData<'_>) -> &'a [u8] {
    match chunk {
        ChunkData::Raw(bytes) | ChunkData::Compressed(bytes) => bytes,
    }
}

/// Takes sizes only.
struct Measuring {
    compression: Compression,
    sizes: Vec<u64>,
    /// Number of the content, bytes so far.
    now: (usize, u64),
}

impl BlobOutput for Measuring {
    fn compression(&self) -> Option<Compression> {
        Some(self.compression)
    }

    fn contains(&self, _: &Sha1Hash) -> bool {
        false
    }

    fn begin(&mut self, number: usize, size: u64) -> Result<(), WimError> {
        self.now = (number, table_bytes(size, self.compression));
        Ok(())
    }

    fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), WimError> {
        self.now.1 = self.now.1.saturating_add(bytes_of(&chunk).len() as u64);
        Ok(())
    }

    fn finish_blob(&mut self, _: Sha1Hash) -> Result<bool, WimError> {
        self.sizes[self.now.0] = self.now.1;
        Ok(true)
    }

    fn promised(&self, _: usize) -> Option<Sha1Hash> {
        None
    }
}

/// Writes streams to their places.
struct Writing<'a> {
    device: &'a dyn VolumeDevice,
    recoding: &'a Recoding,
    places: Vec<Vec<StreamPlace>>,
    parts: Option<Vec<CopiedPart>>,
    /// The content that is being written.
    number: usize,
    table: Vec<u8>,
    chunks_bytes: u64,
    /// Bytes that are not written yet, and where they go in the stream.
    pending: Vec<u8>,
    pending_at: u64,
}

impl Writing<'_> {
    fn size(&self) -> u64 {
        self.recoding.list[self.number].size
    }

    /// Writes what is pending, and zeros behind it up to the end of the clusters if it is the last.
    fn flush(&mut self, is_last: bool) -> Result<(), WimError> {
        let bytes = std::mem::take(&mut self.pending);
        let at = self.pending_at;
        self.put(at, &bytes, is_last)?;
        self.pending_at = at.saturating_add(bytes.len() as u64);
        self.pending = bytes;
        self.pending.clear();
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8], is_last: bool) -> Result<(), WimError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let blake3 = self.parts.as_ref().map(|_| *blake3::hash(bytes).as_bytes());
        let mut padded = Vec::new();
        for place in &self.places[self.number] {
            let offset = place.offset.saturating_add(at);
            let mut write = bytes;
            if is_last {
                padded.clear();
                padded.extend_from_slice(bytes);
                let len = place.allocated.saturating_sub(at);
                padded.resize(usize::try_from(len).unwrap_or(0).max(bytes.len()), 0);
                write = &padded;
            }
            self.device.write_all_at(offset, write).map_err(|source| WimError::Io {
                what: "write",
                offset,
                source,
            })?;
            if let (Some(parts), Some(blake3)) = (&mut self.parts, blake3) {
                parts.push(CopiedPart { offset, len: bytes.len() as u64, node: place.node, blake3 });
            }
        }
        Ok(())
    }
}

impl BlobOutput for Writing<'_> {
    fn compression(&self) -> Option<Compression> {
        Some(self.recoding.compression)
    }

    fn contains(&self, _: &Sha1Hash) -> bool {
        false
    }

    fn begin(&mut self, number: usize, size: u64) -> Result<(), WimError> {
        self.number = number;
        self.table.clear();
        self.chunks_bytes = 0;
        self.pending.clear();
        self.pending_at = table_bytes(size, self.recoding.compression);
        Ok(())
    }

    fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), WimError> {
        let bytes = bytes_of(&chunk);
        if self.chunks_bytes > 0 {
            let entry = self.chunks_bytes.to_le_bytes();
            let len = if entry_bytes(self.size()) == 8 { 8 } else { 4 };
            self.table.extend_from_slice(&entry[..len]);
        }
        self.chunks_bytes = self.chunks_bytes.saturating_add(bytes.len() as u64);
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES {
            self.flush(false)?;
        }
        Ok(())
    }

    fn finish_blob(&mut self, _: Sha1Hash) -> Result<bool, WimError> {
        let found = (self.table.len() as u64).saturating_add(self.chunks_bytes);
        let expected = self.recoding.sizes[self.number];
        if found != expected {
            // Encoders depend on nothing but the bytes, which were hashed.
            let what = format!("a content compressed to {found} bytes after {expected} when it was measured");
            return Err(WimError::Io {
                what: "write",
                offset: self.places[self.number].first().map_or(0, |place| place.offset),
                source: std::io::Error::other(what),
            });
        }
        if self.pending_at == self.table.len() as u64 {
            // All of it is here: one write.
            let chunks = std::mem::take(&mut self.pending);
            let all = [std::mem::take(&mut self.table), chunks].concat();
            self.put(0, &all, true)?;
            return Ok(true);
        }
        if self.pending.is_empty() {
            self.pad()?;
        }
        self.flush(true)?;
        let table = std::mem::take(&mut self.table);
        self.put(0, &table, false)?;
        Ok(true)
    }

    fn promised(&self, _: usize) -> Option<Sha1Hash> {
        None
    }
}

impl Writing<'_> {
    /// Zeros behind a stream whose last bytes were written already.
    fn pad(&mut self) -> Result<(), WimError> {
        for place in &self.places[self.number] {
            let len = place.allocated.saturating_sub(self.pending_at);
            let (offset, zeros) =
                (place.offset.saturating_add(self.pending_at), vec![0; usize::try_from(len).unwrap_or(0)]);
            self.device.write_all_at(offset, &zeros).map_err(|source| WimError::Io {
                what: "write",
                offset,
                source,
            })?;
        }
        Ok(())
    }
}
