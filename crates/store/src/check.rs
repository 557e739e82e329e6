//! Whether a copy of an object is what its name says: for those who keep copies and give them on, byte ranges that they do not look into.

use gravure_blockimg::{ChunkId, Frame, FrameDecoder, max_pack_bytes, read_pack};
use gravure_io::ReadAt;

use crate::Error;
use crate::collect::frame_lens;
use crate::layers::{MAX_COPIED_BYTES, is_misnamed};

/// Reads all of a pack or of an object of an index. A pack is named by the hash of its index, which has the ids of all contents: each is decoded
/// and held against its own, some 60 ms for a whole pack. Objects of other kinds have names that say nothing.
pub fn check_object(name: &str, source: &dyn ReadAt) -> Result<(), Error> {
    let wrong = |expected: String, found: String| Error::Corrupt { name: name.to_owned(), expected, found };
    let limit = if name.starts_with("packs/") { max_pack_bytes() } else { MAX_COPIED_BYTES };
    if source.size() > limit {
        return Err(wrong(format!("at most {limit} bytes"), source.size().to_string()));
    }
    if !name.starts_with("packs/") {
        let len = usize::try_from(source.size()).unwrap_or(usize::MAX);
        let bytes = source.read_vec_at(0, len).map_err(Error::io("read", name))?;
        return match is_misnamed(name, &bytes) {
            true => Err(wrong("the hash that it is named by".to_owned(), ChunkId::of(&bytes).to_string())),
            false => Ok(()),
        };
    }
    let index = read_pack(source).map_err(Error::format(name))?;
    let found = match (index.name, index.damage) {
        (Some(found), None) => found.to_string(),
        (_, damage) => damage.unwrap_or_else(|| "none".to_owned()),
    };
    if name.rsplit('/').next() != Some(found.as_str()) {
        return Err(wrong("an index with the hash that it is named by".to_owned(), found));
    }
    let mut decoder = FrameDecoder::new().map_err(Error::format("zstd"))?;
    let mut plain = Vec::new();
    for (offset, len) in frame_lens(&index.entries) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = source.read_vec_at(offset, len).map_err(Error::io("read", name))?;
        let frame = Frame::parse(&bytes, offset).map_err(Error::format(name))?;
        decoder.decode(&frame, &mut plain).map_err(Error::format(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gravure_blockimg::{FrameEncoder, FrameKind, PackBuilder};

    use super::*;
    use crate::store::pack_name;

    #[test]
    fn every_changed_byte_of_a_pack_is_noticed() {
        let mut encoder = FrameEncoder::new(1).unwrap();
        let mut pack = PackBuilder::default();
        for content in [&b"one content"[..], &[7; 3000]] {
            pack.push(&encoder.single(FrameKind::Data, content).unwrap());
        }
        let (id, bytes, _) = pack.finish().unwrap();
        let name = pack_name(&id);
        check_object(&name, &bytes).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            // Not one bit: Zstandard's header has one that means nothing.
            changed[at] ^= 0x41;
            assert!(check_object(&name, &changed).is_err(), "byte {at} of {}", bytes.len());
        }
        for len in 0..bytes.len() {
            assert!(check_object(&name, &bytes[..len].to_vec()).is_err(), "cut at {len}");
        }
        let other = format!("packs/aa/{}", ChunkId::of(b"another"));
        let error = check_object(&other, &bytes).unwrap_err().to_string();
        assert!(error.contains("an index with the hash that it is named by"), "{error}");

        let index = format!("index/{}", ChunkId::of(b"rows"));
        check_object(&index, &b"rows".to_vec()).unwrap();
        assert!(check_object(&index, &b"rot!".to_vec()).is_err());
    }
}
