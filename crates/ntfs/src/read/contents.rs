//! Where the contents of a volume's files are.

use std::ops::Range;

use gravure_codec::Method;
use gravure_io::ReadAt;

use super::bytes::{at, part, wide};
use super::record::unprotect;
use super::stream::Stream;
use super::volume::Volume;
use super::wof::{Decoders, Stored, WofFile, method};
use crate::Error;
use crate::layout::WofAlgorithm;

/// Where one content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentPlace {
    /// In a file record.
    Resident { record: u32, pos: usize, len: usize },
    /// In clusters, plain or LZNT1.
    Stream(Stream),
    /// Compressed behind the overlay filter.
    Wof(Box<WofFile>),
}

/// The contents of a scanned volume, by the keys that its tree has.
#[derive(Debug, Default)]
pub struct Contents {
    places: Vec<ContentPlace>,
}

impl Contents {
    pub(crate) fn push(&mut self, place: ContentPlace) -> u64 {
        self.places.push(place);
        wide(self.places.len()).saturating_sub(1)
    }

    fn place(&self, key: u64) -> Result<&ContentPlace, Error> {
        self.places.get(at(key)).ok_or_else(|| Error::Unsupported { what: "content", value: key.to_string() })
    }

    /// Where content `key` starts on the volume: contents are best read in this order.
    pub fn position(&self, volume: &Volume, key: u64) -> u64 {
        match self.place(key) {
            Ok(ContentPlace::Resident { record, .. }) => volume.mft.offset(u64::from(*record)),
            Ok(ContentPlace::Stream(stream)) => volume.boot.offset(stream.first_lcn().unwrap_or(0)),
            Ok(ContentPlace::Wof(file)) => match &file.stored {
                Stored::Clusters(stream) => volume.boot.offset(stream.first_lcn().unwrap_or(0)),
                Stored::Record(_) => volume.mft.offset(0),
            },
            Err(_) => 0,
        }
    }

    /// Whether content `key` is stored compressed by this method in chunks of so many bytes, as a WIM would store it.
    pub fn is_stored_as(&self, key: u64, compression: (Method, u32)) -> bool {
        match self.place(key) {
            Ok(ContentPlace::Wof(file)) => method(file.algorithm) == Some(compression),
            _ => false,
        }
    }

    /// In which form of the overlay filter content `key` is stored, and how many bytes its stream has; `None` for all others.
    pub fn compressed_form(&self, key: u64) -> Option<(WofAlgorithm, u64)> {
        match self.place(key) {
            Ok(ContentPlace::Wof(file)) => {
                Some((WofAlgorithm::from_number(file.algorithm)?, file.stored_size()))
            }
            _ => None,
        }
    }

    /// Fills `buf` from byte `pos` of the compressed stream of content `key`, which has a [`Contents::compressed_form`], as it is stored.
    pub fn read_compressed(
        &self,
        source: &dyn ReadAt,
        key: u64,
        pos: u64,
        buf: &mut [u8],
    ) -> Result<(), Error> {
        match self.place(key)? {
            ContentPlace::Wof(file) => file.read_stored(source, pos, buf),
            _ => Err(Error::Unsupported { what: "compressed stream of a content", value: key.to_string() }),
        }
    }

    /// Parts of content `key` that stand nowhere and so are zeros, in bytes, ascending. Not those of LZNT1, where a gap may be what
    /// compression saved.
    pub fn holes(&self, key: u64) -> Vec<Range<u64>> {
        match self.place(key) {
            Ok(ContentPlace::Stream(stream)) => stream.holes(),
            _ => Vec::new(),
        }
    }

    /// Appends the stored bytes of the chunk at plain byte `pos` of content `key`, for which [`Contents::is_stored_as`] holds; how
    /// many they are. As in a WIM, a chunk as long as its plain bytes is stored as it is.
    pub fn stored_chunk(
        &self,
        source: &dyn ReadAt,
        key: u64,
        pos: u64,
        out: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        match self.place(key)? {
            ContentPlace::Wof(file) => file.stored_chunk(source, pos, out),
            _ => Err(Error::Unsupported { what: "stored chunk of a content", value: key.to_string() }),
        }
    }

    /// Fills `buf` from byte `pos` of content `key`, decoded.
    pub fn read(
        &self,
        volume: &Volume,
        source: &dyn ReadAt,
        key: u64,
        pos: u64,
        buf: &mut [u8],
        decoders: &mut Decoders,
    ) -> Result<(), Error> {
        match self.place(key)? {
            ContentPlace::Stream(stream) => stream.read(source, pos, buf),
            ContentPlace::Wof(file) => file.read(source, pos, buf, decoders),
            ContentPlace::Resident { record, pos: start, len } => {
                let number = u64::from(*record);
                let offset = volume.mft.offset(number);
                let mut bytes = Vec::new();
                volume.mft.read(source, number, &mut bytes)?;
                unprotect(&mut bytes)
                    .map_err(|fault| fault.into_error(format!("record {number}"), offset))?;
                let value = part(&bytes, *start, *len).unwrap_or_default();
                let found = part(value, at(pos), buf.len()).ok_or_else(|| Error::Corrupt {
                    what: format!("content in record {number}"),
                    offset,
                    expected: format!("{} bytes from {pos}", buf.len()),
                    found: format!("{} bytes", value.len()),
                })?;
                buf.copy_from_slice(found);
                Ok(())
            }
        }
    }
}
