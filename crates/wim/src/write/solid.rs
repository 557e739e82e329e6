//! Writing a solid resource: many blobs laid end to end and compressed together (wim-container 4.2, 5.3).
//!
//! Its header and chunk table stand in front, but how many chunks there are is known only at the end, as equal contents
//! drop out on the way. So room is left for as many as there can be, and header and table are put right before the
//! first chunk; what is left of the room becomes a gap.

use gravure_io::ReadAt;
use gravure_tree::Sha1Hash;

use super::{ChunkData, Known, StoredSolid, WimWriter};
use crate::compression::{Compression, Method};
use crate::error::Error;
use crate::resource::{ResourceFlags, ResourceHeader};
use crate::solid::{SOLID_HEADER_BYTES, SolidHeader};

/// Bytes per entry of the chunk table.
const ENTRY_BYTES: u64 = 4;

/// A solid resource between its beginning and its last chunk.
#[derive(Debug)]
pub(super) struct OpenSolid {
    compression: Compression,
    /// Where the room for header and table begins, and where the chunks do.
    room: u64,
    data: u64,
    /// Stored size of each chunk.
    sizes: Vec<u32>,
    /// Plain and stored bytes so far.
    plain: u64,
    stored: u64,
    max_size: u64,
    /// Index in [`WimWriter::solids`].
    index: usize,
}

impl WimWriter<'_> {
    /// Makes the file one of version 0xE00, which may hold solid resources, also when there is nothing to put into one.
    pub fn allow_solid(&mut self) {
        self.header.allows_solid = true;
    }

    /// Starts a solid resource for at most `max_size` plain bytes with its own method and chunk size; chunks above 64 MiB are read
    /// on request only. Its chunks and blobs follow, blobs with resources of their own have to wait. The file becomes one of version
    /// 0xE00.
    pub fn begin_solid(&mut self, compression: Compression, max_size: u64) -> Result<(), Error> {
        if self.open.is_some() || self.open_solid.is_some() {
            return Err(Error::unwritable("a solid resource", "the resource before is not finished"));
        }
        let room = self.tail.end();
        let count = max_size.div_ceil(u64::from(compression.chunk_size()));
        let head = count.saturating_mul(ENTRY_BYTES).saturating_add(SOLID_HEADER_BYTES);
        self.tail.append_zeros(head)?;
        self.header.allows_solid = true;
        let index = self.solids.len();
        self.solids.push(StoredSolid {
            place: ResourceHeader::default(),
            header: SolidHeader {
                size: 0,
                chunk_size: compression.chunk_size(),
                method: number(compression),
            },
            blobs: Vec::new(),
            is_counted: true,
        });
        let (data, sizes) = (self.tail.end(), Vec::new());
        let open = OpenSolid { compression, room, data, sizes, plain: 0, stored: 0, max_size, index };
        self.open_solid = Some(open);
        Ok(())
    }

    /// Adds the next chunk of `plain_len` plain bytes: a whole chunk, or the last one.
    pub fn append_solid_chunk(&mut self, chunk: ChunkData<'_>, plain_len: u32) -> Result<(), Error> {
        let Some(open) = &mut self.open_solid else {
            return Err(Error::unwritable("a chunk", "no solid resource was begun"));
        };
        let wrong = |what: &str, found: u64| {
            Err(Error::unwritable("a chunk of a solid resource", format!("{what}, found {found}")))
        };
        let (plain, chunk_size) = (u64::from(plain_len), u64::from(open.compression.chunk_size()));
        let end = open.plain.saturating_add(plain);
        if plain == 0 || plain > chunk_size || end > open.max_size {
            return wrong("expected plain bytes up to the chunk size and the announced size", plain);
        }
        if open.plain.checked_rem(chunk_size) != Some(0) {
            return wrong("a short chunk must be the last", plain);
        }
        let bytes = match chunk {
            ChunkData::Raw(bytes) if bytes.size() == plain => bytes,
            ChunkData::Compressed(bytes) if !bytes.is_empty() && bytes.size() < plain => bytes,
            ChunkData::Raw(bytes) | ChunkData::Compressed(bytes) => {
                return wrong("raw chunks have their plain length, others less", bytes.size());
            }
        };
        // Not above the chunk size, which is far below 4 GiB.
        open.sizes.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        open.plain = end;
        open.stored = open.stored.saturating_add(bytes.size());
        self.tail.append(bytes)
    }

    /// Notes a blob of `size` bytes at `offset` of the plain content of the solid resource, behind those noted before.
    /// Its bytes may come in later chunks.
    pub fn note_solid_blob(&mut self, sha1: Sha1Hash, offset: u64, size: u64) -> Result<(), Error> {
        let open = self.open_solid.as_ref();
        let solid = open.and_then(|open| Some((open.index, self.solids.get_mut(open.index)?)));
        let Some((index, solid)) = solid else {
            return Err(Error::unwritable("a blob", "no solid resource was begun"));
        };
        let before = solid.blobs.last().map_or(0, |(at, len, ..)| at.saturating_add(*len));
        if offset < before || size == 0 || sha1 == Sha1Hash::ZERO {
            let reason = format!("{size} bytes at {offset}, where the one before ends at {before}");
            return Err(Error::unwritable(format!("blob {sha1}"), reason));
        }
        if self.known.contains_key(&sha1) {
            return Err(Error::unwritable(format!("blob {sha1}"), "its content is in the file already"));
        }
        self.known.insert(sha1, Known::Solid(index, solid.blobs.len()));
        solid.blobs.push((offset, size, sha1, 0));
        Ok(())
    }

    /// Ends the solid resource; returns the bytes it takes, header and chunk table included. Without any chunk there is
    /// none.
    pub fn finish_solid(&mut self) -> Result<u64, Error> {
        let Some(open) = self.open_solid.take() else {
            return Err(Error::unwritable("a solid resource", "none was begun"));
        };
        let Some(solid) = self.solids.get_mut(open.index) else {
            return Err(Error::unwritable("a solid resource", "it is not listed"));
        };
        let end = solid.blobs.last().map_or(0, |(at, len, ..)| at.saturating_add(*len));
        if end > open.plain {
            let reason = format!("{} plain bytes were given, its blobs end at {end}", open.plain);
            return Err(Error::unwritable("a solid resource", reason));
        }
        if open.sizes.is_empty() {
            self.solids.truncate(open.index);
            self.tail.truncate(open.room)?;
            return Ok(0);
        }
        let mut head = Vec::new();
        head.extend_from_slice(&open.plain.to_le_bytes());
        head.extend_from_slice(&open.compression.chunk_size().to_le_bytes());
        head.extend_from_slice(&number(open.compression).to_le_bytes());
        open.sizes.iter().for_each(|size| head.extend_from_slice(&size.to_le_bytes()));
        let offset = open.data.saturating_sub(head.size());
        let stored_size = open.stored.saturating_add(head.size());
        solid.header.size = open.plain;
        solid.place =
            ResourceHeader { stored_size, flags: ResourceFlags::SOLID, offset, size: solid.header.size };
        self.tail.patch(offset, &head)?;
        Ok(stored_size)
    }
}

/// The number of the method in the header of a solid resource.
fn number(compression: Compression) -> u32 {
    match compression.method() {
        Method::Xpress => 1,
        Method::Lzx => 2,
        Method::Lzms => 3,
    }
}

#[cfg(test)]
mod tests {
    use gravure_codec::Level;
    use gravure_io::MemoryDisk;
    use gravure_nttypes::Guid;
    use sha1::{Digest, Sha1};

    use super::*;
    use crate::{ImageInfo, Limits, Metadata, Wim, WriteOptions};
    use gravure_tree::{ContentRef, Node, Origin, Tree};

    const CHUNK: usize = 1 << 15;

    fn sha1(bytes: &[u8]) -> Sha1Hash {
        Sha1Hash(Sha1::digest(bytes).into())
    }

    fn contents() -> Vec<Vec<u8>> {
        [1, 40_000, 7, 100_000, 32_768, 3]
            .into_iter()
            .enumerate()
            .map(|(number, len)| (0..len).map(|at| (at / 7 + number * 31) as u8).collect())
            .collect()
    }

    fn tree(contents: &[Vec<u8>]) -> Tree {
        let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
        for (number, bytes) in contents.iter().enumerate() {
            let data =
                ContentRef { size: bytes.len() as u64, sha1: Some(sha1(bytes)), origin: Origin::Missing };
            let node = Node { data: Some(data), ..Node::default() };
            tree.add(tree.root(), format!("f{number}").as_str().into(), node).unwrap();
        }
        tree
    }

    fn options() -> WriteOptions {
        WriteOptions::new(Guid([1; 16]))
    }

    /// Writes `contents` with room for more chunks than there will be.
    fn write(target: &MemoryDisk, contents: &[Vec<u8>], compression: Compression) {
        let mut writer = WimWriter::create(target, &options()).unwrap();
        let all: Vec<u8> = contents.concat();
        writer.begin_solid(compression, all.len() as u64 + 500_000).unwrap();
        let mut at = 0;
        for bytes in contents {
            writer.note_solid_blob(sha1(bytes), at, bytes.len() as u64).unwrap();
            at += bytes.len() as u64;
        }
        let mut encoder = compression.encoder(Level::Fast).unwrap();
        for plain in all.chunks(CHUNK) {
            let mut out = vec![0; plain.len()];
            let chunk = match encoder.encode(plain, &mut out) {
                Some(len) => ChunkData::Compressed(&out[..len]),
                None => ChunkData::Raw(plain),
            };
            writer.append_solid_chunk(chunk, plain.len() as u32).unwrap();
        }
        writer.finish_solid().unwrap();
        let metadata = Metadata::from_tree(&tree(contents)).unwrap();
        writer.add_image(&metadata, ImageInfo::new("n"), Level::Fast).unwrap();
        writer.finish_with_integrity().unwrap();
    }

    #[test]
    fn blobs_come_back_whatever_the_method_and_where_chunks_end() {
        for method in [Method::Xpress, Method::Lzx] {
            let (target, contents) = (MemoryDisk::new(0, 1), contents());
            write(&target, &contents, Compression::new(method, CHUNK as u32).unwrap());
            let opened = Wim::read(&target, &Limits::default()).unwrap();
            assert_eq!(opened.warnings, []);
            let wim = opened.value;
            assert_eq!((wim.header().version(), wim.resources().len(), wim.blobs().len()), (0xe00, 1, 6));
            assert_eq!(wim.read_integrity(&target).unwrap().unwrap().verify(&target).unwrap(), []);
            for bytes in &contents {
                let id = wim.find_blob(&sha1(bytes)).unwrap();
                assert_eq!(wim.blob(id).unwrap().references, 1);
                assert_eq!(wim.read_blob(&target, id, 1 << 20, &Limits::default()).unwrap(), *bytes);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let target = MemoryDisk::new(0, 1);
        let mut writer = WimWriter::create(&target, &options()).unwrap();
        assert!(writer.note_solid_blob(Sha1Hash([1; 20]), 0, 1).is_err());
        writer.begin_solid(Compression::LZX_32K, 70_000).unwrap();
        assert!(writer.begin(5).is_err());
        writer.note_solid_blob(Sha1Hash([1; 20]), 0, 10).unwrap();
        for (sha1, offset, size) in [([1; 20], 20, 5), ([2; 20], 9, 5), ([2; 20], 20, 0), ([0; 20], 20, 5)] {
            assert!(
                writer.note_solid_blob(Sha1Hash(sha1), offset, size).is_err(),
                "{sha1:?} {offset} {size}"
            );
        }
        let chunk = vec![7; CHUNK];
        assert!(writer.append_solid_chunk(ChunkData::Raw(&chunk[..5]), 6).is_err());
        assert!(writer.append_solid_chunk(ChunkData::Compressed(&chunk), CHUNK as u32).is_err());
        assert!(writer.append_solid_chunk(ChunkData::Raw(&[]), 0).is_err());
        writer.append_solid_chunk(ChunkData::Raw(&chunk), CHUNK as u32).unwrap();
        writer.append_solid_chunk(ChunkData::Raw(&chunk[..9]), 9).unwrap();
        assert!(writer.append_solid_chunk(ChunkData::Raw(&chunk[..9]), 9).is_err());
        writer.note_solid_blob(Sha1Hash([3; 20]), 10, 40_000).unwrap();
        let error = writer.finish_solid().unwrap_err().to_string();
        assert!(error.contains("its blobs end at 40010"), "{error}");
        // Without any chunk there is nothing.
        let target = MemoryDisk::new(0, 1);
        let mut writer = WimWriter::create(&target, &options()).unwrap();
        writer.begin_solid(Compression::LZX_32K, 0).unwrap();
        assert_eq!(writer.finish_solid().unwrap(), 0);
        writer.finish().unwrap();
        assert_eq!(Wim::read(&target, &Limits::default()).unwrap().value.resources(), []);
    }
}
