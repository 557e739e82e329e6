//! An image on a local medium as a source of bytes, each range of 4 MiB checked against the image's descriptor before a byte of
//! it is used: what `HttpAt::verified` is to a web server.
//!
//! **Memory:** at most [`KEPT_RANGES`] ranges.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_io::ReadAt;
use gravure_model::descriptor::{Digest, ImageDescriptor, RANGE_BYTES};

use crate::Error;

/// Ranges kept: readers in order need the one they are in, and now and then one of the tables.
const KEPT_RANGES: usize = 4;

/// A source whose bytes are those of a descriptor, or an error.
#[derive(Debug)]
pub struct CheckedAt<S> {
    source: S,
    name: String,
    size: u64,
    range_bytes: u64,
    digests: Vec<Digest>,
    kept: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl<S: ReadAt> CheckedAt<S> {
    /// Checks `source`, called `name` in messages, against `descriptor`. Bytes behind the image's end do not matter.
    pub fn new(source: S, name: &str, descriptor: &ImageDescriptor) -> Result<Self, Error> {
        let range_bytes = u64::from(descriptor.range_bytes);
        let count = descriptor.size_bytes.div_ceil(range_bytes.max(1));
        let fits = (1..=RANGE_BYTES).contains(&descriptor.range_bytes);
        if !fits || count != descriptor.ranges.len() as u64 || source.size() < descriptor.size_bytes {
            return Err(Error::Usage {
                what: format!("descriptor of {name}"),
                expected: format!(
                    "{count} ranges of 1 to {RANGE_BYTES} bytes within {} bytes",
                    source.size()
                ),
                found: format!(
                    "{} of {range_bytes} bytes, {} in all",
                    descriptor.ranges.len(),
                    descriptor.size_bytes
                ),
            });
        }
        Ok(Self {
            source,
            name: name.to_owned(),
            size: descriptor.size_bytes,
            range_bytes,
            digests: descriptor.ranges.clone(),
            kept: Mutex::default(),
        })
    }

    fn range(&self, index: u64) -> io::Result<Arc<Vec<u8>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept.iter().find(|(number, _)| *number == index) {
            return Ok(Arc::clone(bytes));
        }
        // Not held while the medium is read: readers of other ranges go on.
        drop(kept);
        let Range { start, end } = self.extent(index);
        let len = usize::try_from(end - start).map_err(io::Error::other)?;
        let bytes = self.source.read_vec_at(start, len)?;
        let found = Digest(*blake3::hash(&bytes).as_bytes());
        let expected = usize::try_from(index).ok().and_then(|index| self.digests.get(index));
        if expected != Some(&found) {
            let expected = expected.map(ToString::to_string).unwrap_or_default();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}: bytes {start} to {end} are not those that were signed: expected BLAKE3 {expected}, found {found}",
                    self.name
                ),
            ));
        }
        let bytes = Arc::new(bytes);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT_RANGES - 1);
        kept.push_front((index, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn extent(&self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.range_bytes);
        start..start.saturating_add(self.range_bytes).min(self.size)
    }
}

impl<S: ReadAt> ReadAt for CheckedAt<S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let index = offset / self.range_bytes;
            let bytes = self.range(index)?;
            let from = usize::try_from(offset - index * self.range_bytes).map_err(io::Error::other)?;
            let piece = bytes.get(from..).unwrap_or_default();
            let len = piece.len().min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(piece.get(..len).ok_or(io::ErrorKind::UnexpectedEof)?);
            offset += len as u64;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gravure_model::descriptor::DESCRIPTOR_VERSION;

    use super::*;

    fn descriptor(content: &[u8], range: u32) -> ImageDescriptor {
        ImageDescriptor {
            version: DESCRIPTOR_VERSION,
            format: "wim".into(),
            size_bytes: content.len() as u64,
            range_bytes: range,
            ranges: content
                .chunks(range as usize)
                .map(|part| Digest(*blake3::hash(part).as_bytes()))
                .collect(),
            tables: Digest([0; 32]),
            contents_checked: false,
            images: Vec::new(),
        }
    }

    #[test]
    fn every_range_is_what_was_signed_or_an_error() {
        let content: Vec<u8> = (0..1000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let described = descriptor(&content, 64);
        let mut medium = content.clone();
        // The medium is longer than the image.
        medium.extend([9; 100]);
        let source = CheckedAt::new(medium.clone(), "stick", &described).unwrap();
        assert_eq!(source.size(), 1000);
        for (offset, len) in [(0usize, 1000usize), (63, 2), (990, 10), (1000, 0), (128, 64)] {
            let read = source.read_vec_at(offset as u64, len).unwrap();
            assert!(read == content[offset..offset + len], "{offset}+{len}");
        }
        assert!(source.read_vec_at(999, 2).is_err());
        medium[200] ^= 1;
        let source = CheckedAt::new(medium, "stick", &described).unwrap();
        assert_eq!(source.read_vec_at(0, 192).unwrap(), content[..192]);
        let error = source.read_vec_at(255, 2).unwrap_err().to_string();
        assert!(error.contains("stick: bytes 192 to 256 are not those that were signed"), "{error}");
    }

    #[test]
    fn a_descriptor_that_cannot_be_is_refused() {
        let content = vec![1; 100];
        let good = descriptor(&content, 64);
        for bad in [
            ImageDescriptor { range_bytes: 0, ..good.clone() },
            ImageDescriptor { range_bytes: RANGE_BYTES + 1, ..good.clone() },
            ImageDescriptor { ranges: Vec::new(), ..good.clone() },
            ImageDescriptor { size_bytes: 101, ..good.clone() },
        ] {
            assert!(CheckedAt::new(content.clone(), "x", &bad).is_err());
        }
    }
}
