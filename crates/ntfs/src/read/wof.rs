//! Files compressed behind the Windows overlay filter ("CompactOS"): the stream `WofCompressedData` has the bytes of a WIM
//! resource, a table of chunk offsets and the chunks.

use std::sync::Arc;

use gravure_codec::{Decoder, Method};
use gravure_io::ReadAt;

use super::bytes::{at, part, u32_at, u64_at, wide};
use super::stream::Stream;
use crate::Error;

/// Algorithms of the filter, by number.
pub(crate) const ALGORITHMS: u32 = 4;

/// Where the compressed bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Clusters(Stream),
    /// In the file record: so small that they are kept beside the place of the file.
    Record(Arc<[u8]>),
}

/// A compressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WofFile {
    pub(crate) stored: Stored,
    /// Plain bytes.
    pub(crate) size: u64,
    /// 0 to 3.
    pub(crate) algorithm: u32,
}

/// Method and chunk size of an algorithm.
pub(crate) fn method(algorithm: u32) -> Option<(Method, u32)> {
    match algorithm {
        0 => Some((Method::Xpress, 4096)),
        1 => Some((Method::Lzx, 32_768)),
        2 => Some((Method::Xpress, 8192)),
        3 => Some((Method::Xpress, 16_384)),
        _ => None,
    }
}

/// Decoders of one thread, made when they are needed.
#[derive(Debug, Default)]
pub struct Decoders {
    made: Vec<(u32, Decoder)>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Decoders {
    fn get(&mut self, algorithm: u32) -> Result<(&mut Decoder, &mut Vec<u8>, &mut Vec<u8>), Error> {
        let bad = || Error::Unsupported { what: "compression of a file", value: algorithm.to_string() };
        if !self.made.iter().any(|(known, _)| *known == algorithm) {
            let (method, chunk) = method(algorithm).ok_or_else(bad)?;
            self.made.push((algorithm, Decoder::new(method, chunk).map_err(|_| bad())?));
        }
        let made = self.made.iter_mut().find(|(known, _)| *known == algorithm);
        let (_, decoder) = made.ok_or_else(bad)?;
        Ok((decoder, &mut self.stored, &mut self.plain))
    }
}

impl WofFile {
    /// Bytes of the compressed stream.
    pub(crate) fn stored_size(&self) -> u64 {
        match &self.stored {
            Stored::Clusters(stream) => stream.size,
            Stored::Record(bytes) => wide(bytes.len()),
        }
    }

    /// Absolute offset of a byte of the compressed stream, for messages; 0 in records.
    fn offset_of(&self, pos: u64) -> u64 {
        match &self.stored {
            Stored::Clusters(stream) => stream.offset_of(pos).unwrap_or(0),
            Stored::Record(_) => 0,
        }
    }

    pub(crate) fn read_stored(&self, source: &dyn ReadAt, pos: u64, buf: &mut [u8]) -> Result<(), Error> {
        let bytes = match &self.stored {
            Stored::Clusters(stream) => return stream.read(source, pos, buf),
            Stored::Record(bytes) => bytes,
        };
        let found = part(bytes, at(pos), buf.len()).ok_or_else(|| Error::Corrupt {
            what: "range of a compressed file".to_owned(),
            offset: pos,
            expected: format!("inside its {} bytes", bytes.len()),
            found: format!("{} bytes from {pos}", buf.len()),
        })?;
        buf.copy_from_slice(found);
        Ok(())
    }

    /// Bytes of an entry of the table.
    fn entry_bytes(&self) -> u64 {
        if self.size > u64::from(u32::MAX) { 8 } else { 4 }
    }

    /// Bytes of the table for chunks of `chunk` bytes.
    fn table_bytes(&self, chunk: u64) -> u64 {
        self.size.div_ceil(chunk.max(1)).saturating_sub(1).saturating_mul(self.entry_bytes())
    }

    /// Where chunk `index` stands in the stream, and where the next one.
    fn chunk(&self, source: &dyn ReadAt, index: u64, chunk: u64) -> Result<(u64, u64), Error> {
        let table = self.table_bytes(chunk);
        let count = self.size.div_ceil(chunk.max(1));
        let entry = |number: u64| -> Result<u64, Error> {
            // The first chunk has no entry; behind the last stands the end of the stream.
            match number {
                0 => Ok(table),
                number if number >= count => Ok(self.stored_size()),
                number => {
                    let mut bytes = [0; 8];
                    let len = self.entry_bytes();
                    let pos = number.saturating_sub(1).saturating_mul(len);
                    self.read_stored(source, pos, bytes.get_mut(..at(len)).unwrap_or_default())?;
                    let value = if len == 4 { u32_at(&bytes, 0).map(u64::from) } else { u64_at(&bytes, 0) };
                    Ok(table.saturating_add(value.unwrap_or(u64::MAX)))
                }
            }
        };
        let (start, end) = (entry(index)?, entry(index.saturating_add(1))?);
        // A chunk that would not get smaller is stored as it is.
        if start >= end || end > self.stored_size() || end.saturating_sub(start) > chunk {
            return Err(Error::Corrupt {
                what: format!("chunk {index} of a compressed file"),
                offset: self.offset_of(0),
                expected: format!("1 to {chunk} bytes inside {}", self.stored_size()),
                found: format!("{start} to {end}"),
            });
        }
        Ok((start, end))
    }

    /// Fills `buf` from plain byte `pos`.
    pub(crate) fn read(
        &self,
        source: &dyn ReadAt,
        pos: u64,
        buf: &mut [u8],
        decoders: &mut Decoders,
    ) -> Result<(), Error> {
        let (decoder, stored, plain) = decoders.get(self.algorithm)?;
        let chunk_bytes = u64::from(decoder.chunk_size());
        let (mut pos, mut buf) = (pos, buf);
        while !buf.is_empty() {
            let index = pos.checked_div(chunk_bytes).unwrap_or(0);
            let first = index.saturating_mul(chunk_bytes);
            let plain_len = at(self.size.saturating_sub(first).min(chunk_bytes));
            let skip = at(pos.saturating_sub(first));
            let len = plain_len.saturating_sub(skip).min(buf.len());
            if len == 0 {
                return Err(Error::Corrupt {
                    what: "range of a compressed file".to_owned(),
                    offset: pos,
                    expected: format!("inside its {} bytes", self.size),
                    found: format!("{} bytes more", buf.len()),
                });
            }
            let (now, rest) = buf.split_at_mut(len);
            let (start, end) = self.chunk(source, index, chunk_bytes)?;
            stored.resize(at(end.saturating_sub(start)), 0);
            self.read_stored(source, start, stored)?;
            let decoded = if stored.len() == plain_len {
                &*stored
            } else {
                plain.resize(plain_len, 0);
                decoder.decode(stored, plain).map_err(|error| Error::Corrupt {
                    what: format!("chunk {index} of a compressed file"),
                    offset: self.offset_of(start),
                    expected: format!("{plain_len} bytes"),
                    found: error.to_string(),
                })?;
                &*plain
            };
            now.copy_from_slice(decoded.get(skip..skip.saturating_add(len)).unwrap_or_default());
            pos = pos.saturating_add(wide(len));
            buf = rest;
        }
        Ok(())
    }

    /// Appends the stored bytes of the chunk that starts at plain byte `pos`; how many they are. A chunk that is as long as its
    /// plain bytes is stored as it is.
    pub(crate) fn stored_chunk(
        &self,
        source: &dyn ReadAt,
        pos: u64,
        out: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let bad = || Error::Unsupported { what: "compression of a file", value: self.algorithm.to_string() };
        let (_, chunk) = method(self.algorithm).ok_or_else(bad)?;
        let chunk = u64::from(chunk);
        let (start, end) = self.chunk(source, pos.checked_div(chunk).unwrap_or(0), chunk)?;
        let (len, base) = (at(end.saturating_sub(start)), out.len());
        out.resize(base.saturating_add(len), 0);
        self.read_stored(source, start, out.get_mut(base..).unwrap_or_default())?;
        Ok(len)
    }

    /// Whether table and stream can belong together; says why not. `decodes` asks for a look at the first chunk, which costs more
    /// than everything else that is checked of a file.
    pub(crate) fn check(&self, source: &dyn ReadAt, decodes: bool) -> Result<(), Error> {
        let Some((_, chunk)) = method(self.algorithm) else {
            return Err(Error::Unsupported {
                what: "compression of a file",
                value: self.algorithm.to_string(),
            });
        };
        let chunk = u64::from(chunk);
        let count = self.size.div_ceil(chunk);
        // The ends and the middle: a stream of another file, or one that was cut, shows there.
        for index in [0, count.checked_div(2).unwrap_or(0), count.saturating_sub(1)] {
            if self.size > 0 {
                self.chunk(source, index, chunk)?;
            }
        }
        if decodes {
            let mut plain = vec![0; at(self.size.min(chunk))];
            self.read(source, 0, &mut plain, &mut Decoders::default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_have_the_chunks_that_the_format_names() {
        assert_eq!(method(1), Some((Method::Lzx, 32_768)));
        assert_eq!((0..ALGORITHMS).filter_map(method).count(), 4);
        assert_eq!(method(4), None);
        let file = WofFile { stored: Stored::Clusters(Stream::default()), size: 5 << 30, algorithm: 0 };
        assert_eq!((file.entry_bytes(), file.table_bytes(4096)), (8, ((5 << 18) - 1) * 8));
    }

    #[test]
    fn a_stream_in_the_record_is_decoded() {
        let plain = b"small and dull ".repeat(600);
        let mut encoder =
            gravure_codec::Encoder::new(Method::Xpress, 4096, gravure_codec::Level::Fast).unwrap();
        let (mut table, mut chunks) = (Vec::new(), Vec::new());
        for (n, chunk) in plain.chunks(4096).enumerate() {
            if n > 0 {
                table.extend_from_slice(&u32::try_from(chunks.len()).unwrap().to_le_bytes());
            }
            let mut out = vec![0; chunk.len()];
            let len = encoder.encode(chunk, &mut out).unwrap();
            chunks.extend_from_slice(&out[..len]);
        }
        let stored = Stored::Record([table, chunks].concat().into());
        let file = WofFile { stored, size: plain.len() as u64, algorithm: 0 };
        let nothing: &[u8] = &[];
        file.check(&nothing, true).unwrap();
        let mut copied = Vec::new();
        let lens: Vec<usize> =
            (0..3).map(|n| file.stored_chunk(&nothing, n * 4096, &mut copied).unwrap()).collect();
        let Stored::Record(bytes) = &file.stored else { panic!() };
        assert_eq!((copied.len(), lens.iter().sum::<usize>()), (bytes.len() - 8, bytes.len() - 8));
        assert_eq!(copied, bytes[8..]);
        let mut found = vec![0; plain.len() - 100];
        file.read(&nothing, 100, &mut found, &mut Decoders::default()).unwrap();
        assert_eq!(found, plain[100..]);
        let cut = WofFile { size: file.size + 4096, ..file };
        assert!(cut.check(&nothing, false).is_err());
    }
}
