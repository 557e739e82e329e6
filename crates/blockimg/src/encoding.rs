//! How the plain bytes of a frame are stored: as they are, by zstd, or in chunks of a WIM method, so that compressed content of
//! a WIM can be taken over.

use std::fmt;

use gravure_codec::Method;
use gravure_io::ReadAt;

use crate::frame::{self, Entry, Frame, FrameHeader, FrameKind};
use crate::{ChunkId, Error};

/// How plain bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
    /// Chunks of a WIM method: sizes (u32 each), then the chunks; one that is as long as its plain bytes is plain.
    Wim {
        /// The method.
        method: Method,
        /// Plain bytes of a chunk, a power of two.
        chunk_size: u32,
    },
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Zstd => f.write_str("zstd"),
            Self::Wim { method, chunk_size } => write!(f, "{method} in chunks of {chunk_size}"),
        }
    }
}

impl Encoding {
    pub(crate) fn numbers(self) -> (u8, u8) {
        match self {
            Self::Raw => (0, 0),
            Self::Zstd => (1, 0),
            Self::Wim { method, chunk_size } => {
                let number = match method {
                    Method::Xpress => 2,
                    Method::Lzx => 3,
                    Method::Lzms => 4,
                    // Refused by every reader; no method without a number exists.
                    _ => u8::MAX,
                };
                (number, u8::try_from(chunk_size.trailing_zeros()).unwrap_or(0))
            }
        }
    }

    pub(crate) fn from_numbers(number: u8, parameter: u8) -> Result<Self, Error> {
        let unsupported =
            || Error::Unsupported { what: "encoding", value: format!("{number} with parameter {parameter}") };
        let method = match (number, parameter) {
            (0, 0) => return Ok(Self::Raw),
            (1, 0) => return Ok(Self::Zstd),
            (2, _) => Method::Xpress,
            (3, _) => Method::Lzx,
            (4, _) => Method::Lzms,
            _ => return Err(unsupported()),
        };
        let chunk_size = 1u32.checked_shl(parameter.into()).filter(|size| *size <= 1 << 21);
        let chunk_size = chunk_size.ok_or_else(unsupported)?;
        method.check_chunk_size(chunk_size).map_err(|_| unsupported())?;
        Ok(Self::Wim { method, chunk_size })
    }

    /// Stored bytes at most of so many plain ones: what would be larger is stored raw.
    pub(crate) fn max_stored(self, plain: u32) -> u32 {
        match self {
            Self::Raw | Self::Zstd => plain,
            Self::Wim { chunk_size, .. } => {
                let sizes = plain.div_ceil(chunk_size.max(1)).saturating_mul(4);
                plain.saturating_add(sizes)
            }
        }
    }
}

/// Makes frames, with one compressor for all of them.
pub struct FrameEncoder {
    zstd: zstd::bulk::Compressor<'static>,
}

impl fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameEncoder").finish_non_exhaustive()
    }
}

impl FrameEncoder {
    /// With a level of zstd: 1 to 19, or below 0 for more speed.
    pub fn new(level: i32) -> Result<Self, Error> {
        let zstd = zstd::bulk::Compressor::new(level);
        Ok(Self { zstd: zstd.map_err(Error::io("start zstd", 0))? })
    }

    /// Makes a frame of `plain`, which is what `entries` say. Bytes that do not get smaller stay as they are.
    pub fn frame(&mut self, kind: FrameKind, entries: Vec<Entry>, plain: &[u8]) -> Result<Frame, Error> {
        let mut payload = Vec::with_capacity(plain.len());
        // An error says that there was no room: the bytes do not get smaller.
        let smaller = self.zstd.compress_to_buffer(plain, &mut payload).ok();
        let encoding = match smaller {
            Some(len) if len < plain.len() => Encoding::Zstd,
            _ => {
                payload.clear();
                payload.extend_from_slice(plain);
                Encoding::Raw
            }
        };
        payload.shrink_to_fit();
        let stored = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = FrameHeader::new(kind, encoding, stored, entries)?;
        if usize::try_from(header.plain).ok() != Some(plain.len()) {
            let reason = format!("entries of {} bytes for {} bytes", header.plain, plain.len());
            return Err(Error::Unwritable { what: "frame", reason });
        }
        Ok(Frame { header, payload, offset: 0 })
    }

    /// Makes a frame with one content.
    pub fn single(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Frame, Error> {
        let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        self.frame(kind, vec![Entry { id: ChunkId::of(plain), len }], plain)
    }
}

/// Opens frames, with one decompressor for all of them.
pub struct FrameDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    wim: Option<gravure_codec::Decoder>,
    /// Memory for the stored bytes of a frame.
    stored: Vec<u8>,
}

impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameDecoder").finish_non_exhaustive()
    }
}

impl FrameDecoder {
    /// A new one.
    pub fn new() -> Result<Self, Error> {
        let zstd = zstd::bulk::Decompressor::new().map_err(Error::io("start zstd", 0))?;
        Ok(Self { zstd, wim: None, stored: Vec::new() })
    }

    /// Decodes all of `frame` into `out` and checks every entry against its id.
    pub fn decode(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Error> {
        self.decode_checked(&frame.header, &frame.payload, frame.offset, out)
    }

    /// Reads the frame of `len` bytes at `offset` and does the same. Returns what it says of itself. The memory for the stored bytes
    /// serves one frame after the other.
    pub fn read(
        &mut self,
        source: &dyn ReadAt,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<FrameHeader, Error> {
        let mut stored = std::mem::take(&mut self.stored);
        if stored.len() < len {
            stored.resize(len, 0);
        }
        let bytes = stored.get_mut(..len).unwrap_or_default();
        let read = source.read_exact_at(offset, bytes).map_err(Error::io("read frame", offset));
        let header = read.and_then(|()| self.decode_stored(bytes, offset, out));
        self.stored = stored;
        header
    }

    /// The same for the frame at the start of `bytes`, which were read at `offset`.
    pub fn decode_stored(
        &mut self,
        bytes: &[u8],
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Result<FrameHeader, Error> {
        let (header, payload) = frame::split(bytes, offset)?;
        self.decode_checked(&header, payload, offset, out)?;
        Ok(header)
    }

    fn decode_checked(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let plain = usize::try_from(header.plain).unwrap_or(usize::MAX);
        let wrong = |found: String| {
            let expected = format!("{plain} bytes of {}", header.encoding);
            Error::corrupt(header.kind.name(), offset, expected, found)
        };
        out.clear();
        match header.encoding {
            Encoding::Raw => out.extend_from_slice(payload),
            Encoding::Zstd => {
                out.reserve_exact(plain);
                let decoded = self.zstd.decompress_to_buffer(payload, out);
                decoded.map_err(|error| wrong(error.to_string()))?;
            }
            Encoding::Wim { method, chunk_size } => {
                out.resize(plain, 0);
                self.decode_wim(method, chunk_size, payload, out).map_err(wrong)?;
            }
        }
        if out.len() != plain {
            return Err(wrong(format!("{} bytes", out.len())));
        }
        let mut rest = out.as_slice();
        for entry in &header.entries {
            let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
            let (content, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            check_id(header.kind.name(), offset, entry.id, content)?;
            rest = after;
        }
        Ok(())
    }

    fn decode_wim(
        &mut self,
        method: Method,
        chunk_size: u32,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), String> {
        let fits = |decoder: &gravure_codec::Decoder| {
            decoder.method() == method && decoder.chunk_size() == chunk_size
        };
        if !self.wim.as_ref().is_some_and(fits) {
            let made = gravure_codec::Decoder::new(method, chunk_size).map_err(|error| error.to_string())?;
            self.wim = Some(made);
        }
        let decoder = self.wim.as_mut().ok_or("no decoder")?;
        let size = usize::try_from(chunk_size).unwrap_or(usize::MAX);
        let sizes_len = out.len().div_ceil(size.max(1)).saturating_mul(4);
        let (sizes, mut rest) = stored.split_at_checked(sizes_len).ok_or("no room for the chunk sizes")?;
        for (plain, size) in out.chunks_mut(size).zip(sizes.chunks_exact(4)) {
            let size = u32::from_le_bytes(size.try_into().unwrap_or_default());
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let (chunk, after) = rest.split_at_checked(size).ok_or("a chunk that passes the end")?;
            rest = after;
            if chunk.len() == plain.len() {
                plain.copy_from_slice(chunk);
            } else {
                decoder.decode(chunk, plain).map_err(|error| error.to_string())?;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes behind the last chunk", rest.len())) }
    }
}

/// Checks `content` against the id it is listed under.
pub fn check_id(what: &'static str, offset: u64, expected: ChunkId, content: &[u8]) -> Result<(), Error> {
    let found = ChunkId::of(content);
    if found == expected { Ok(()) } else { Err(Error::Mismatch { what, offset, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were() {
        let mut encoder = FrameEncoder::new(1).unwrap();
        let mut decoder = FrameDecoder::new().unwrap();
        let noise: Vec<u8> = (0..5000u32).flat_map(|n| ChunkId::of(&n.to_le_bytes()).0).collect();
        for (plain, encoding) in [(vec![7; 100_000], Encoding::Zstd), (noise, Encoding::Raw)] {
            let (a, b) = plain.split_at(512);
            let entries = [a, b].map(|part| Entry { id: ChunkId::of(part), len: part.len() as u32 }).to_vec();
            let frame = encoder.frame(FrameKind::Data, entries, &plain).unwrap();
            assert_eq!(frame.header.encoding, encoding);
            let mut bytes = vec![9; 3];
            frame.write(&mut bytes);
            let read = Frame::read(&bytes, 3).unwrap();
            assert_eq!(read.header, frame.header);
            assert_eq!(read.header.frame_len() + 3, bytes.len() as u64);
            let mut out = Vec::new();
            decoder.decode(&read, &mut out).unwrap();
            assert_eq!(out, plain);
        }
    }

    #[test]
    fn wim_chunks_are_decoded() {
        let plain: Vec<u8> = (0..70_000u32).map(|n| (n / 100) as u8).collect();
        let mut encoder =
            gravure_codec::Encoder::new(Method::Lzx, 1 << 15, gravure_codec::Level::Fast).unwrap();
        let (mut sizes, mut chunks) = (Vec::new(), Vec::new());
        for chunk in plain.chunks(1 << 15) {
            let mut out = vec![0; chunk.len()];
            let stored = match encoder.encode(chunk, &mut out) {
                Some(len) => &out[..len],
                None => chunk,
            };
            sizes.extend_from_slice(&(stored.len() as u32).to_le_bytes());
            chunks.extend_from_slice(stored);
        }
        let payload = [sizes, chunks].concat();
        let entries = vec![Entry { id: ChunkId::of(&plain), len: plain.len() as u32 }];
        let encoding = Encoding::Wim { method: Method::Lzx, chunk_size: 1 << 15 };
        let header = FrameHeader::new(FrameKind::Data, encoding, payload.len() as u32, entries).unwrap();
        let frame = Frame { header, payload, offset: 0 };
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        let mut out = Vec::new();
        FrameDecoder::new().unwrap().decode(&Frame::parse(&bytes, 0).unwrap(), &mut out).unwrap();
        assert_eq!(out, plain);
    }
}
